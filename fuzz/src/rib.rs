//! RIBs: any history of peers that announce, withdraw, ask, leave, come back and read slowly, against the naive model.

use bgp_core::rib::tests::membership;
use bgp_core::rib::tests::model::{FAMILIES, Flavour, Keep, PEERS, Step, reflector_history, worker_history};
use bgp_core::types::{Asn, RouteTarget, Vni};
use bgp_core::wire::RtMembership;
use bgp_core::wire::attributes::community;

use crate::octets::Choices;

/// Steps per input: beyond them nothing new is learned.
const MAX_STEPS: usize = 128;

/// Runs one input: an octet for the role, then a program of steps.
pub fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    let worker = choices.flag();
    let mut steps = Vec::new();
    while !choices.is_empty() && steps.len() < MAX_STEPS {
        steps.push(step(&mut choices));
    }
    if worker { worker_history(steps) } else { reflector_history(steps) }
}

fn step(choices: &mut Choices<'_>) -> Step {
    let kind = choices.below(18);
    let peer = usize::from(choices.octet()) % PEERS.len();
    match kind {
        0..=3 => Step::Announce {
            peer,
            origin: 1 + choices.below(2),
            macs: macs(choices),
            label: 1 + u32::from(choices.below(2)),
            flavour: flavour(choices),
        },
        4 | 5 => Step::Withdraw { peer, origin: 1 + choices.below(2), macs: macs(choices) },
        6 => Step::Ask { peer, membership: membership_of(choices) },
        7 => Step::Decline { peer, membership: membership_of(choices) },
        8 => {
            let lost = choices.below(4);
            Step::Up { peer, forwarding: lost & 1 == 0, long_lived: lost & 2 == 0 }
        }
        9 => Step::Down { peer, keep: choices.one_of(&[Keep::Nothing, Keep::Restart, Keep::Both, Keep::LongLived]) },
        10 => Step::EndOfRib { peer, family: choices.one_of(&FAMILIES) },
        11 => Step::Refresh(peer),
        12 => Step::Wait(choices.one_of(&[1, 60, 99, 100, 150])),
        13..=15 => Step::Flush,
        _ => Step::Read { peer, octets: 1 + usize::from(choices.number() % 3_000) },
    }
}

/// One to four of a dozen: a mask would make most announcements large.
fn macs(choices: &mut Choices<'_>) -> Vec<u8> {
    let count = 1 + choices.below(4);
    (0..count).map(|_| choices.below(12)).collect()
}

fn flavour(choices: &mut Choices<'_>) -> Flavour {
    let bits = choices.octet();
    let sequence = [0, 0, 1, 0x6000_0000, 0xc000_0000, u32::MAX, 1 << 31, 2][usize::from(bits & 7)];
    let more = choices.octet();
    Flavour {
        vni: u32::from(bits >> 3 & 3),
        sequence,
        sticky: sequence == 1 && bits & 0x20 != 0,
        local_pref: if bits & 0x40 != 0 { 200 } else { 100 },
        med: (more & 1 != 0).then_some(u32::from(more >> 1 & 3)),
        neighbour: (more & 8 != 0).then_some(1 + u32::from(more >> 4 & 1)),
        long: more >> 5 == 7,
        community: match more >> 5 {
            0 => Some(community::LLGR_STALE),
            1 => Some(community::NO_LLGR),
            _ => None,
        },
    }
}

fn membership_of(choices: &mut Choices<'_>) -> RtMembership {
    let number = 1 + u32::from(choices.below(3));
    match choices.below(6) {
        0 => RtMembership::Default,
        1 => RtMembership::Prefix { origin: Asn(65_000), target: [0, 2, 0, 0, 0, 0, 0, 0], bits: 16 },
        2 => {
            let vni = Vni::new(number).expect("1 to 3");
            RtMembership::Target { origin: Asn(7), target: RouteTarget::auto_rfc8365(Asn(7), vni) }
        }
        _ => membership(number),
    }
}
