//! Random histories against the naive model.

use proptest::collection::vec;
use proptest::prelude::*;

use super::model::{FAMILIES, Flavour, Keep, PEERS, Step, reflector_history, worker_history};
use super::*;
use crate::wire::attributes::community;

const KEEPS: [Keep; 4] = [Keep::Nothing, Keep::Restart, Keep::Both, Keep::LongLived];

fn flavour() -> impl Strategy<Value = Flavour> {
    let sequence = prop_oneof![3 => Just(0), 1 => Just(1), 1 => Just(0x6000_0000), 1 => Just(0xc000_0000_u32)];
    let med = prop_oneof![3 => Just(None), 1 => (0..3_u32).prop_map(Some)];
    let neighbour = prop_oneof![3 => Just(None), 1 => (1..3_u32).prop_map(Some)];
    let mark = prop_oneof![
        6 => Just(None),
        1 => Just(Some(community::LLGR_STALE)),
        1 => Just(Some(community::NO_LLGR)),
    ];
    let preference = prop_oneof![4 => Just(100), 1 => Just(200)];
    (0..4_u32, sequence, any::<bool>(), preference, med, neighbour, 0..20_u8, mark).prop_map(
        |(vni, sequence, sticky, local_pref, med, neighbour, long, community)| Flavour {
            vni,
            sequence,
            sticky: sticky && sequence == 1,
            local_pref,
            med,
            neighbour,
            long: long == 0,
            community,
        },
    )
}

fn membership_of() -> impl Strategy<Value = RtMembership> {
    prop_oneof![
        4 => (1..4_u32).prop_map(membership),
        1 => (1..4_u32).prop_map(|number| RtMembership::Target {
            origin: Asn(7),
            target: RouteTarget::auto_rfc8365(Asn(7), vni(number)),
        }),
        1 => Just(RtMembership::Default),
        1 => Just(RtMembership::Prefix { origin: ASN, target: [0, 2, 0, 0, 0, 0, 0, 0], bits: 16 }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let peer = || 0..PEERS.len();
    // Few origins: peers compete for the same keys.
    let routes = || (1..3_u8, vec(0..12_u8, 1..6));
    prop_oneof![
        8 => (peer(), routes(), 1..3_u32, flavour()).prop_map(|(peer, (origin, macs), label, flavour)| {
            Step::Announce { peer, origin, macs, label, flavour }
        }),
        4 => (peer(), routes()).prop_map(|(peer, (origin, macs))| Step::Withdraw { peer, origin, macs }),
        3 => (peer(), membership_of()).prop_map(|(peer, membership)| Step::Ask { peer, membership }),
        2 => (peer(), membership_of()).prop_map(|(peer, membership)| Step::Decline { peer, membership }),
        2 => (peer(), prop::bool::weighted(0.8), prop::bool::weighted(0.8)).prop_map(|(peer, forwarding, long_lived)| {
            Step::Up { peer, forwarding, long_lived }
        }),
        2 => (peer(), prop::sample::select(&KEEPS[..])).prop_map(|(peer, keep)| Step::Down { peer, keep }),
        2 => prop::sample::select(&[1, 60, 99, 100, 150][..]).prop_map(Step::Wait),
        1 => (peer(), prop::sample::select(&FAMILIES[..])).prop_map(|(peer, family)| Step::EndOfRib { peer, family }),
        1 => peer().prop_map(Step::Refresh),
        6 => Just(Step::Flush),
        6 => (peer(), 1..3000_usize).prop_map(|(peer, octets)| Step::Read { peer, octets }),
    ]
}

proptest! {
    #[test]
    fn every_peer_holds_exactly_what_the_rules_say(steps in vec(step(), 1..120)) {
        reflector_history(steps);
    }

    #[test]
    fn a_workers_changes_add_up_to_its_best_routes(steps in vec(step(), 1..80)) {
        worker_history(steps);
    }
}
