//! The EVPN engine: any routes and observations in any order leave it consistent, and nothing behind.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bgp_core::types::{
    EthernetSegmentId, EthernetTag, ExtendedCommunity, Label, MacAddr, MacMobility, RouteDistinguisher, Vni,
};
use bgp_core::wire::attributes::community::LLGR_STALE;
use bgp_core::wire::attributes::{PmsiTunnel, Tunnel};
use bgp_core::wire::{EvpnKey, EvpnPayload, PathAttributes};
use evpn::Claim;
use evpn::forwarding::{Desired, Key};

use crate::octets::Choices;

#[path = "../../evpn/tests/world/mod.rs"]
#[allow(missing_docs, reason = "shared with the property tests of that crate")]
mod world;

use world::{Input, MEMBERS, VNIS, leaves_nothing_behind, stays_consistent};

/// Events per input: beyond them nothing new is learned.
const MAX_EVENTS: usize = 256;
/// Runs one input: an octet that chooses what must hold, then a program of events.
pub fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mode = choices.octet();
    let mut inputs = Vec::new();
    while !choices.is_empty() && inputs.len() < MAX_EVENTS {
        inputs.push(event(&mut choices));
    }
    if mode & 1 == 0 { stays_consistent(mode & 2 != 0, inputs) } else { leaves_nothing_behind(inputs) }
}

fn event(choices: &mut Choices<'_>) -> Input {
    let kind = choices.below(24);
    let (vni, member) = (vni(choices), choices.one_of(&MEMBERS));
    match kind {
        0..=5 => Input::Announce(route(choices), Box::new(attributes(choices))),
        6 | 7 => Input::Withdraw(route(choices).0),
        8 | 9 => Input::Attach(vni, member),
        10 => Input::Detach(vni, member),
        11 => Input::Serve(vni, choices.flag()),
        12 => {
            let ips = (0..choices.below(3)).map(|_| address(choices)).collect();
            let claim = Claim { mac: mac(choices), ips, sticky: choices.flag() };
            Input::Claim(vni, member, claim, choices.flag())
        }
        13 => Input::Release(vni, member, mac(choices)),
        14 | 15 => Input::Learned(vni, member, mac(choices), choices.flag()),
        16 => Input::TakenOver(vni, member, mac(choices), choices.flag()),
        17 => Input::Forgotten(vni, member, mac(choices)),
        18 => Input::WrittenRemote(vni, mac(choices)),
        19 => Input::Clear(vni, mac(choices)),
        20 => {
            let (key, desired) = adopted(vni, choices);
            Input::Adopted(key, desired)
        }
        21 => Input::Sweep,
        22 => Input::Advance(u64::from(choices.below(100))),
        _ => Input::Replay,
    }
}

fn vni(choices: &mut Choices<'_>) -> Vni {
    Vni::new(choices.one_of(&VNIS)).expect("a usable number")
}

fn mac(choices: &mut Choices<'_>) -> MacAddr {
    match choices.below(8) {
        0 => MacAddr(choices.array()),
        1 => MacAddr::ZERO,
        2 => MacAddr([0xff; 6]),
        last => MacAddr([2, 0, 0, 0, 0, last & 3]),
    }
}

fn address(choices: &mut Choices<'_>) -> IpAddr {
    match choices.octet() {
        0 => IpAddr::from(Ipv4Addr::from(choices.array::<4>())),
        1 => IpAddr::from(Ipv6Addr::from(choices.array::<16>())),
        2 => IpAddr::from(Ipv4Addr::LOCALHOST),
        3 => IpAddr::from(Ipv4Addr::BROADCAST),
        4 => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        last => IpAddr::from(Ipv4Addr::new(10, 0, 0, last % 8)),
    }
}

fn label(choices: &mut Choices<'_>) -> Label {
    if choices.below(8) == 0 { Label(choices.array()) } else { vni(choices).into() }
}

fn route(choices: &mut Choices<'_>) -> (EvpnKey, EvpnPayload) {
    let rd = RouteDistinguisher([0, 1, 10, 0, 0, choices.below(3), 0, 1]);
    let tag = EthernetTag(if choices.below(8) == 0 { u32::from(choices.octet()) } else { 0 });
    let mac_ip = |choices: &mut Choices<'_>| {
        let (mac, ip, label) = (mac(choices), choices.option(address), label(choices));
        let payload = EvpnPayload::MacIp { esi: EthernetSegmentId([7; 10]), label, label2: Some(label) };
        (EvpnKey::MacIp { rd, tag, mac, ip }, payload)
    };
    match choices.below(12) {
        0..=6 => mac_ip(choices),
        7 => {
            let (rd, esi) = (rd, EthernetSegmentId([1; 10]));
            (EvpnKey::EthernetSegment { rd, esi, originator: address(choices) }, EvpnPayload::EthernetSegment)
        }
        8 => (EvpnKey::Opaque { route_type: choices.octet(), body: [1, 2, 3].into() }, EvpnPayload::Opaque),
        // A payload that is not the key's.
        9 => (mac_ip(choices).0, EvpnPayload::InclusiveMulticast),
        _ => {
            let originator = address(choices);
            (EvpnKey::InclusiveMulticast { rd, tag, originator }, EvpnPayload::InclusiveMulticast)
        }
    }
}

fn attributes(choices: &mut Choices<'_>) -> PathAttributes {
    let mut attributes = PathAttributes::new(address(choices));
    for _ in 0..choices.below(5) {
        attributes.extended_communities.push(community(choices));
    }
    if choices.below(5) != 0 {
        let tunnel = match choices.below(5) {
            0 => Tunnel::Other { tunnel_type: choices.octet(), identifier: Default::default() },
            _ => Tunnel::IngressReplication(address(choices)),
        };
        attributes.pmsi_tunnel = Some(PmsiTunnel { flags: 0, label: label(choices), tunnel });
    }
    if choices.below(5) == 0 {
        attributes.communities.push(LLGR_STALE);
    }
    attributes
}

fn community(choices: &mut Choices<'_>) -> ExtendedCommunity {
    match choices.below(12) {
        0..=5 => {
            let form = if choices.flag() { 0x1000_0000 } else { 0 };
            let [a, b, c, d] = (form | vni(choices).get()).to_be_bytes();
            ExtendedCommunity([0, 2, 0xfd, 0xe8, a, b, c, d])
        }
        6..=8 => {
            let few = u32::from(choices.below(4));
            let sequence = choices.one_of(&[few, few, u32::MAX, 1 << 31, (1 << 31) - 1, 3 << 30]);
            ExtendedCommunity::mac_mobility(MacMobility { sticky: choices.flag(), sequence })
        }
        9 | 10 => ExtendedCommunity::ENCAPSULATION_VXLAN,
        _ => ExtendedCommunity(choices.array()),
    }
}

fn adopted(vni: Vni, choices: &mut Choices<'_>) -> (Key, Desired) {
    match choices.below(4) {
        0 => (Key::Tunnel(vni), Desired::Tunnel),
        1 => (Key::Flood(vni, address(choices)), Desired::Flood),
        2 => (Key::Mac(vni, mac(choices)), Desired::RemoteMac { vtep: address(choices), sticky: choices.flag() }),
        _ => (Key::Neighbor(vni, address(choices)), Desired::Neighbor { mac: mac(choices) }),
    }
}
