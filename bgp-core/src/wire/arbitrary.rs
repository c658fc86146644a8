//! Strategies for valid messages, for the property tests of this crate.
//!
//! What they yield survives encoding and decoding under [`context`] unchanged: lists have no repetitions, carried
//! attributes stand in type order, and every route means something.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::{Bytes, BytesMut};
use ipnet::IpNet;
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use smallvec::smallvec;

use super::attributes::{AsPath, AsSegment, Origin, PathAttributes, PmsiTunnel, Tunnel, UnknownAttribute};
use super::message::{
    Capability, GracefulRestart, Message, Notification, Open, Reach, RefreshKind, RouteRefresh, Routes, Treatment,
    Unreach, Update,
};
use super::nlri::{Evpn, EvpnKey, EvpnPayload, Route, RtConstrain, RtMembership};
use super::{DecodeContext, MaxMessage, frame};
use crate::types::{
    AddressFamily, Asn, EthernetSegmentId, EthernetTag, ExtendedCommunity, Label, MacAddr, MacMobility,
    RouteDistinguisher, RouteTarget, RouterId, Vni,
};

/// The context under which valid messages survive: both families, opaque routes kept, an internal peer.
pub(crate) fn context(four_octet_as: bool) -> DecodeContext {
    DecodeContext {
        four_octet_as,
        families: smallvec![AddressFamily::EVPN, AddressFamily::RT_CONSTRAIN],
        opaque_routes: true,
        ..DecodeContext::default()
    }
}

/// Decodes a stream of whole messages.
pub(crate) fn decode_stream(octets: &[u8], ctx: &DecodeContext) -> Result<Vec<Message>, Notification> {
    let mut buffer = BytesMut::from(octets);
    let mut messages = Vec::new();
    while let Some(frame) = frame(&mut buffer, MaxMessage::Extended)? {
        messages.push(Message::decode(&frame, ctx)?);
    }
    assert!(buffer.is_empty(), "half a message is left");
    Ok(messages)
}

/// Joins the UPDATEs that one [`Update`] was cut into.
pub(crate) fn rejoin(messages: Vec<Message>) -> Update {
    let mut joined = Update::default();
    for message in messages {
        let Message::Update(update) = message else { panic!("not an UPDATE: {message:?}") };
        let malformed = update.findings.iter().find(|finding| finding.treatment != Treatment::Note);
        assert_eq!(malformed, None);
        for keys in update.unreach {
            match (joined.unreach.last_mut(), keys) {
                (Some(Unreach::Evpn(known)), Unreach::Evpn(keys)) => known.extend(keys),
                (Some(Unreach::RtConstrain(known)), Unreach::RtConstrain(keys)) => known.extend(keys),
                (_, keys) => joined.unreach.push(keys),
            }
        }
        joined.end_of_rib = joined.end_of_rib.or(update.end_of_rib);
        match (&mut joined.reach, update.reach) {
            (_, None) => {}
            (slot @ None, reach) => *slot = reach,
            (Some(known), Some(reach)) => {
                assert_eq!(known.attributes, reach.attributes);
                match (&mut known.routes, reach.routes) {
                    (Routes::Evpn(known), Routes::Evpn(routes)) => known.extend(routes),
                    (Routes::RtConstrain(known), Routes::RtConstrain(routes)) => known.extend(routes),
                    _ => panic!("two families announced"),
                }
            }
        }
    }
    joined
}

pub(crate) fn rd() -> impl Strategy<Value = RouteDistinguisher> {
    any::<[u8; 8]>().prop_map(RouteDistinguisher)
}

pub(crate) fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| IpAddr::V4(Ipv4Addr::from(octets))),
        any::<[u8; 16]>().prop_map(|octets| IpAddr::V6(Ipv6Addr::from(octets))),
    ]
}

pub(crate) fn vni() -> impl Strategy<Value = Vni> {
    (1..=Vni::MAX).prop_map(|number| Vni::new(number).unwrap())
}

pub(crate) fn label() -> impl Strategy<Value = Label> {
    vni().prop_map(Label::from)
}

pub(crate) fn esi() -> impl Strategy<Value = EthernetSegmentId> {
    prop_oneof![Just(EthernetSegmentId::default()), any::<[u8; 10]>().prop_map(EthernetSegmentId)]
}

/// An address that a host can have.
pub(crate) fn mac() -> impl Strategy<Value = MacAddr> {
    any::<[u8; 6]>().prop_map(|[first, rest @ ..]| {
        let [a, b, c, d, e] = rest;
        MacAddr([first & 0xfe | 2, a, b, c, d, e])
    })
}

pub(crate) fn route_target() -> impl Strategy<Value = RouteTarget> {
    (0_u8..=2, any::<[u8; 6]>()).prop_map(|(kind, [a, b, c, d, e, f])| {
        RouteTarget::from_community(ExtendedCommunity([kind, 2, a, b, c, d, e, f])).unwrap()
    })
}

/// A valid EVPN route of any type.
pub(crate) fn evpn_route() -> impl Strategy<Value = Route<Evpn>> {
    let tag = || any::<u32>().prop_map(EthernetTag);
    prop_oneof![
        1 => (rd(), esi(), tag(), any::<[u8; 3]>()).prop_map(|(rd, esi, tag, label)| Route {
            key: EvpnKey::EthernetAutoDiscovery { rd, esi, tag },
            payload: EvpnPayload::EthernetAutoDiscovery { label: Label(label) },
        }),
        4 => (rd(), tag(), mac(), option::of(ip()), esi(), label(), option::of(label())).prop_map(
            |(rd, tag, mac, ip, esi, label, label2)| Route {
                key: EvpnKey::MacIp { rd, tag, mac, ip },
                payload: EvpnPayload::MacIp { esi, label, label2 },
            }
        ),
        2 => (rd(), tag(), ip()).prop_map(|(rd, tag, originator)| Route {
            key: EvpnKey::InclusiveMulticast { rd, tag, originator },
            payload: EvpnPayload::InclusiveMulticast,
        }),
        1 => (rd(), esi(), ip()).prop_map(|(rd, esi, originator)| Route {
            key: EvpnKey::EthernetSegment { rd, esi, originator },
            payload: EvpnPayload::EthernetSegment,
        }),
        1 => ip_prefix_route(),
        1 => (6_u8..=255, vec(any::<u8>(), 0..=255)).prop_map(|(route_type, body)| Route {
            key: EvpnKey::Opaque { route_type, body: body.into() },
            payload: EvpnPayload::Opaque,
        }),
    ]
}

fn ip_prefix_route() -> impl Strategy<Value = Route<Evpn>> {
    (rd(), any::<u32>(), ip(), 0_u8..=128, any::<[u8; 16]>(), esi(), label()).prop_map(
        |(rd, tag, address, bits, gateway, esi, label)| {
            let bits = if address.is_ipv4() { bits.min(32) } else { bits };
            let indexed = esi != EthernetSegmentId::default();
            let gateway = if indexed { [0; 16] } else { gateway };
            let [a, b, c, d, ..] = gateway;
            let gateway = if address.is_ipv4() { IpAddr::V4([a, b, c, d].into()) } else { IpAddr::V6(gateway.into()) };
            Route {
                key: EvpnKey::IpPrefix {
                    rd,
                    tag: EthernetTag(tag),
                    prefix: IpNet::new(address, bits).unwrap().trunc(),
                },
                payload: EvpnPayload::IpPrefix { esi, gateway, label },
            }
        },
    )
}

pub(crate) fn membership() -> impl Strategy<Value = RtMembership> {
    let asn = || any::<u32>().prop_map(Asn);
    prop_oneof![
        1 => Just(RtMembership::Default),
        4 => (asn(), route_target()).prop_map(|(origin, target)| RtMembership::Target { origin, target }),
        1 => (asn(), any::<u64>(), 0_u8..64).prop_map(|(origin, target, bits)| {
            let mask = u64::MAX.checked_shl(64 - u32::from(bits)).unwrap_or(0);
            RtMembership::Prefix { origin, target: (target & mask).to_be_bytes(), bits }
        }),
    ]
}

/// Path attributes of every kind that survives; `wide` AS numbers included.
pub(crate) fn path_attributes() -> impl Strategy<Value = PathAttributes> {
    let numbers = (
        option::of(any::<u32>()),
        option::of(any::<u32>()),
        any::<bool>(),
        option::of((asn(), any::<[u8; 4]>())),
        option::of(any::<u32>()),
        vec(any::<u32>(), 0..4),
    );
    let communities = (
        btree_set(any::<u32>(), 0..20),
        btree_set(extended_community(), 0..20),
        btree_set(any::<[u8; 20]>(), 0..3),
        btree_set(any::<[u32; 3]>(), 0..3),
    );
    let carried = (option::of(pmsi_tunnel()), unknown_attributes());
    (ip(), origin(), as_path(), numbers, communities, carried).prop_map(
        |(next_hop, origin, as_path, numbers, communities, (pmsi_tunnel, unknown))| {
            let (med, local_pref, atomic_aggregate, aggregator, originator, cluster_list) = numbers;
            let (standard, extended, ipv6, large) = communities;
            PathAttributes {
                origin,
                as_path,
                med,
                local_pref,
                atomic_aggregate,
                aggregator: aggregator.map(|(asn, address)| (asn, address.into())),
                communities: standard.into_iter().collect(),
                extended_communities: extended.into_iter().collect(),
                ipv6_extended_communities: ipv6.into_iter().collect(),
                large_communities: large.into_iter().collect(),
                originator_id: originator.map(RouterId),
                cluster_list: cluster_list.into(),
                pmsi_tunnel,
                unknown,
                ..PathAttributes::new(next_hop)
            }
        },
    )
}

pub(crate) fn origin() -> impl Strategy<Value = Origin> {
    prop_oneof![Just(Origin::Igp), Just(Origin::Egp), Just(Origin::Incomplete)]
}

/// Any number but zero.
pub(crate) fn asn() -> impl Strategy<Value = Asn> {
    prop_oneof![1_u32..=65_535, 1..=u32::MAX].prop_map(Asn)
}

pub(crate) fn as_path() -> impl Strategy<Value = AsPath> {
    vec(vec(asn(), 1..6).prop_map(AsSegment), 0..3).prop_map(|segments| AsPath { segments: segments.into() })
}

pub(crate) fn extended_community() -> impl Strategy<Value = ExtendedCommunity> {
    prop_oneof![
        route_target().prop_map(RouteTarget::community),
        Just(ExtendedCommunity::ENCAPSULATION_VXLAN),
        (any::<bool>(), any::<u32>())
            .prop_map(|(sticky, sequence)| ExtendedCommunity::mac_mobility(MacMobility { sticky, sequence })),
        any::<[u8; 7]>().prop_map(|[a, b, c, d, e, f, g]| ExtendedCommunity([0x43, a, b, c, d, e, f, g])),
    ]
}

fn pmsi_tunnel() -> impl Strategy<Value = PmsiTunnel> {
    let tunnel = prop_oneof![
        ip().prop_map(Tunnel::IngressReplication),
        vec(any::<u8>(), 0..20)
            .prop_map(|identifier| Tunnel::Other { tunnel_type: 3, identifier: Bytes::from(identifier) }),
    ];
    (any::<u8>(), label(), tunnel).prop_map(|(flags, label, tunnel)| PmsiTunnel { flags, label, tunnel })
}

fn unknown_attributes() -> impl Strategy<Value = Vec<UnknownAttribute>> {
    let value = prop_oneof![8 => vec(any::<u8>(), 0..40), 1 => vec(any::<u8>(), 250..300)];
    btree_set(prop_oneof![Just(0_u8), Just(11), 41..=255_u8], 0..3).prop_flat_map(move |codes: BTreeSet<u8>| {
        let count = codes.len();
        vec(value.clone(), count).prop_map(move |values| {
            codes
                .iter()
                .zip(values)
                .map(|(code, value)| UnknownAttribute { code: *code, value: value.into() })
                .collect()
        })
    })
}

pub(crate) fn update() -> impl Strategy<Value = Update> {
    let routes = prop_oneof![
        vec(evpn_route(), 1..200).prop_map(Routes::Evpn),
        vec(membership(), 1..200).prop_map(|keys| {
            Routes::RtConstrain(keys.into_iter().map(|key| Route::<RtConstrain> { key, payload: () }).collect())
        }),
    ];
    let reach = (path_attributes(), routes).prop_map(|(attributes, routes)| Reach { attributes, routes });
    let unreach = prop_oneof![
        vec(evpn_route().prop_map(|route| route.key), 1..200).prop_map(Unreach::Evpn),
        vec(membership(), 1..200).prop_map(Unreach::RtConstrain),
    ];
    let families =
        prop_oneof![Just(AddressFamily::EVPN), Just(AddressFamily::RT_CONSTRAIN), Just(AddressFamily::IPV4_UNICAST)];
    (option::of(reach), option::of(unreach), option::of(families)).prop_map(|(reach, unreach, end_of_rib)| Update {
        reach,
        unreach: unreach.into_iter().collect(),
        end_of_rib,
        ..Update::default()
    })
}

fn family() -> impl Strategy<Value = AddressFamily> {
    (any::<u16>(), any::<u8>()).prop_map(|(afi, safi)| AddressFamily { afi, safi })
}

pub(crate) fn capability() -> impl Strategy<Value = Capability> {
    let tuples = btree_set(family(), 0..8);
    let restart = (any::<bool>(), any::<bool>(), 0_u16..4_096, tuples, any::<bool>()).prop_map(
        |(restarting, notification, restart_time_secs, families, forwarding)| {
            Capability::GracefulRestart(GracefulRestart {
                restarting,
                notification,
                restart_time_secs,
                families: families.into_iter().map(|family| (family, forwarding)).collect(),
            })
        },
    );
    let long_lived = (btree_set(family(), 0..8), any::<bool>(), 0_u32..(1 << 24)).prop_map(|(families, kept, secs)| {
        Capability::LongLivedGracefulRestart(families.into_iter().map(|family| (family, kept, secs)).collect())
    });
    prop_oneof![
        family().prop_map(Capability::Multiprotocol),
        Just(Capability::RouteRefresh),
        Just(Capability::ExtendedMessage),
        Just(Capability::EnhancedRouteRefresh),
        restart,
        long_lived,
        (prop_oneof![Just(5_u8), Just(9), Just(69), Just(73), Just(75), 128..=255_u8], vec(any::<u8>(), 0..60))
            .prop_map(|(code, value)| Capability::Unknown { code, value: value.into() }),
    ]
}

pub(crate) fn open() -> impl Strategy<Value = Open> {
    let hold = prop_oneof![Just(0_u16), 3..=u16::MAX];
    (asn(), hold, 1_u32..=u32::MAX, vec(capability(), 0..24)).prop_map(|(asn, hold_time_secs, id, mut capabilities)| {
        capabilities.push(Capability::FourOctetAs(asn));
        Open { asn, hold_time_secs, router_id: RouterId(id), capabilities }
    })
}

/// Any valid message.
pub(crate) fn message() -> impl Strategy<Value = Message> {
    let notification = (any::<u8>(), any::<u8>(), vec(any::<u8>(), 0..300))
        .prop_map(|(code, subcode, data)| Message::Notification(Notification { code, subcode, data: data.into() }));
    let refresh = (family(), any::<u8>()).prop_map(|(family, subtype)| {
        let kind = match subtype {
            0 => RefreshKind::Request,
            1 => RefreshKind::Begin,
            2 => RefreshKind::End,
            other => RefreshKind::Unknown(other),
        };
        Message::RouteRefresh(RouteRefresh { family, kind })
    });
    prop_oneof![
        2 => open().prop_map(Message::Open),
        4 => update().prop_map(|update| Message::Update(Box::new(update))),
        1 => notification,
        1 => Just(Message::Keepalive),
        1 => refresh,
    ]
}
