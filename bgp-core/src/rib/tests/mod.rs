//! Tests of the RIB through its facade, and what they share: peers that decode what they are sent.
//!
//! With the feature `testing` the shared part and the model are there for others too: the fuzz targets use them.

#[cfg(test)]
mod decision;
#[cfg(test)]
mod fan_out;
#[cfg(test)]
mod histories;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod long_lived;
pub mod model;
#[cfg(test)]
mod permission;
#[cfg(test)]
mod reflection;
#[cfg(test)]
mod restart;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use bytes::BytesMut;
use smallvec::{SmallVec, smallvec};

use super::{PeerClass, PeerFamily, PeerInfo, PeerLimits, Rib, RibConfig, Role, RouteTypes, UpdateOutcome};
use crate::session::Retention;
use crate::time::{Duration, Instant};
use crate::types::{
    AddressFamily, Asn, EthernetSegmentId, EthernetTag, ExtendedCommunity, MacAddr, PeerId, RouteDistinguisher,
    RouteTarget, RouterId, Vni,
};
use crate::wire::message::{Reach, RefreshKind, Routes, Unreach};
use crate::wire::{
    DecodeContext, EvpnKey, EvpnPayload, MaxMessage, Message, PathAttributes, Route, RouteRefresh, RtMembership,
    Update, frame,
};

pub const NOW: Instant = Instant::ZERO;
pub const ASN: Asn = Asn(65_000);

pub fn vni(number: u32) -> Vni {
    Vni::new(number).unwrap()
}

pub fn reflector() -> Rib {
    let role = Role::Reflector { cluster_id: Some(99) };
    Rib::new(RibConfig::new(role, ASN, RouterId(1), address(1)), NOW)
}

pub fn worker() -> Rib {
    Rib::new(RibConfig::new(Role::Worker, ASN, RouterId(1), address(1)), NOW)
}

pub fn address(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, number))
}

/// Facts of peer `number`; with RT-constrain if `constrained`. Those of 6 and 12 do not know long-lived stale routes.
pub fn info(number: u8, class: PeerClass, constrained: bool) -> PeerInfo {
    let family =
        |family| PeerFamily { family, graceful_restart: true, forwarding_preserved: true, long_lived_preserved: true };
    let mut families: SmallVec<[PeerFamily; 2]> = smallvec![family(AddressFamily::EVPN)];
    if constrained {
        families.push(family(AddressFamily::RT_CONSTRAIN));
    }
    PeerInfo {
        class,
        asn: if class == PeerClass::External { Asn(64_512 + u32::from(number)) } else { ASN },
        router_id: RouterId(0x0a00_0000 + u32::from(number)),
        address: address(number),
        four_octet_as: true,
        extended_message: number.is_multiple_of(2),
        enhanced_refresh: true,
        long_lived_known: !number.is_multiple_of(6),
        families,
        limits: PeerLimits::default(),
        permission: Default::default(),
        sent_types: RouteTypes::ALL,
    }
}

/// What is kept of a session that is lost.
pub fn keeping(families: &[AddressFamily], restart_secs: u64, long_lived_secs: u64) -> Vec<Retention> {
    let (restart_time, long_lived_time) = (Duration::from_secs(restart_secs), Duration::from_secs(long_lived_secs));
    families.iter().map(|family| Retention { family: *family, restart_time, long_lived_time }).collect()
}

/// A type 2 route with its own RD per origin.
pub fn mac_route(origin: u8, number: u32, mac: u8) -> Route<crate::wire::Evpn> {
    let rd = RouteDistinguisher::ipv4(Ipv4Addr::new(10, 0, 0, origin), u16::try_from(number).unwrap());
    let key = EvpnKey::MacIp { rd, tag: EthernetTag(0), mac: MacAddr([2, 0, 0, 0, 0, mac]), ip: None };
    let payload = EvpnPayload::MacIp { esi: EthernetSegmentId::default(), label: vni(number).into(), label2: None };
    Route { key, payload }
}

/// Attributes of a route of `origin` in a VNI.
pub fn attributes(origin: u8, number: u32) -> PathAttributes {
    let mut attributes = PathAttributes::new(address(origin));
    attributes.local_pref = Some(100);
    attributes.extended_communities.push(RouteTarget::auto(ASN, vni(number)).community());
    attributes.extended_communities.push(ExtendedCommunity::ENCAPSULATION_VXLAN);
    attributes
}

pub fn announce(routes: Vec<Route<crate::wire::Evpn>>, attributes: PathAttributes) -> Update {
    Update { reach: Some(Reach { attributes, routes: Routes::Evpn(routes) }), ..Update::default() }
}

pub fn withdraw(routes: &[Route<crate::wire::Evpn>]) -> Update {
    let keys = routes.iter().map(|route| route.key.clone()).collect();
    Update { unreach: vec![Unreach::Evpn(keys)], ..Update::default() }
}

pub fn membership(number: u32) -> RtMembership {
    RtMembership::Target { origin: ASN, target: RouteTarget::auto(ASN, vni(number)) }
}

pub fn ask(membership: RtMembership) -> Update {
    let routes = Routes::RtConstrain(vec![Route { key: membership, payload: () }]);
    Update { reach: Some(Reach { attributes: PathAttributes::new(address(9)), routes }), ..Update::default() }
}

pub fn decline(membership: RtMembership) -> Update {
    Update { unreach: vec![Unreach::RtConstrain(vec![membership])], ..Update::default() }
}

pub fn end_of_rib(family: AddressFamily) -> Update {
    Update { end_of_rib: Some(family), ..Update::default() }
}

/// What a peer knows from what it was sent.
#[derive(Debug, Default)]
pub struct View {
    pub routes: BTreeMap<EvpnKey, (EvpnPayload, PathAttributes)>,
    pub memberships: Vec<RtMembership>,
    pub end_of_ribs: Vec<AddressFamily>,
    pub borders: Vec<RefreshKind>,
    /// Withdrawals of routes that the peer did not hold.
    pub needless: usize,
    pub messages: usize,
}

impl View {
    /// Reads about `max_octets`; whether there was anything.
    pub fn read(&mut self, rib: &mut Rib, peer: PeerId, max_octets: usize) -> bool {
        let Some(slices) = rib.poll_transmit(peer, max_octets) else { return false };
        let octets: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        let context = DecodeContext {
            four_octet_as: true,
            families: smallvec![AddressFamily::EVPN, AddressFamily::RT_CONSTRAIN],
            ..DecodeContext::default()
        };
        let mut buffer = BytesMut::from(octets.as_slice());
        while let Some(frame) = frame(&mut buffer, MaxMessage::Extended).unwrap() {
            self.apply(Message::decode(&frame, &context).unwrap());
        }
        assert!(buffer.is_empty(), "half a message was handed out");
        true
    }

    /// Reads everything.
    pub fn drain(&mut self, rib: &mut Rib, peer: PeerId) {
        while self.read(rib, peer, 1 << 16) {}
        assert!(!rib.has_pending(peer), "something is pending for {peer}, yet nothing comes");
    }

    fn apply(&mut self, message: Message) {
        self.messages += 1;
        let update = match message {
            Message::Update(update) => update,
            Message::RouteRefresh(RouteRefresh { kind, .. }) => return self.borders.push(kind),
            other => panic!("unexpected {other:?}"),
        };
        assert_eq!(update.findings, []);
        for unreach in update.unreach {
            match unreach {
                Unreach::Evpn(keys) => {
                    self.needless += keys.iter().filter(|key| self.routes.remove(*key).is_none()).count();
                }
                Unreach::RtConstrain(keys) => self.memberships.retain(|known| !keys.contains(known)),
            }
        }
        if let Some(Reach { attributes, routes }) = update.reach {
            match routes {
                Routes::Evpn(routes) => {
                    let entries = routes.into_iter().map(|route| (route.key, (route.payload, attributes.clone())));
                    self.routes.extend(entries);
                }
                Routes::RtConstrain(routes) => self.memberships.extend(routes.into_iter().map(|route| route.key)),
            }
        }
        self.end_of_ribs.extend(update.end_of_rib);
    }
}

/// Applies an UPDATE that must be accepted whole.
pub fn apply(rib: &mut Rib, peer: PeerId, update: Update) -> UpdateOutcome {
    let outcome = rib.update(peer, update, NOW);
    assert_eq!((outcome.ignored, outcome.exceeded), (0, None));
    outcome
}
