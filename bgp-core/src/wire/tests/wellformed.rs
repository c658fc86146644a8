//! What the fixtures mean, and that they come back as they went.

use std::net::IpAddr;

use bytes::BytesMut;

use super::fixtures::{self, Fixture};
use super::internal;
use crate::types::{AddressFamily, Asn, EthernetSegmentId, EthernetTag, ExtendedCommunity, Label, RouterId, Vni};
use crate::wire::arbitrary::{context, decode_stream, rejoin};
use crate::wire::attributes::{Tunnel, UnknownAttribute};
use crate::wire::message::{Capability, Reach, Routes, Unreach};
use crate::wire::{
    DecodeContext, EncodeContext, EvpnErrors, EvpnKey, EvpnPayload, MaxMessage, Message, Open, PathAttributes,
    RtMembership, Update,
};

fn message(fixture: &Fixture) -> Message {
    let ctx = DecodeContext { evpn_errors: EvpnErrors::Strict, ..internal() };
    decode_stream(&fixture.octets(), &ctx).unwrap().remove(0)
}

fn update(fixture: &Fixture) -> Update {
    match message(fixture) {
        Message::Update(update) => *update,
        message => panic!("not an UPDATE: {message:?}"),
    }
}

fn open(fixture: &Fixture) -> Open {
    match message(fixture) {
        Message::Open(open) => open,
        message => panic!("not an OPEN: {message:?}"),
    }
}

/// Attributes, key and payload of an announcement of one EVPN route.
fn announced(fixture: &Fixture) -> (PathAttributes, EvpnKey, EvpnPayload) {
    let update = update(fixture);
    assert_eq!(update.findings, [], "{}", fixture.name);
    match update.reach.unwrap() {
        Reach { attributes, routes: Routes::Evpn(mut routes) } => {
            let route = routes.remove(0);
            (attributes, route.key, route.payload)
        }
        reach => panic!("not EVPN: {reach:?}"),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn vni(number: u32) -> Label {
    Vni::new(number).unwrap().into()
}

#[test]
fn every_fixture_means_the_same_after_being_sent_on() {
    for fixture in fixtures::ALL {
        let four_octet_as = fixture.name != fixtures::TWO_OCTET_PEER.name;
        let ctx = context(four_octet_as);
        let mut out = BytesMut::new();
        let messages = decode_stream(&fixture.octets(), &ctx).unwrap();
        let max_message = MaxMessage::Standard;
        messages[0].encode(&EncodeContext { four_octet_as, max_message }, &mut out);
        assert_eq!(decode_stream(&out, &ctx).unwrap(), messages, "{}", fixture.name);
    }
}

#[test]
fn an_open_of_one_capability_per_parameter_is_read_whole() {
    let open = open(&fixtures::OPEN);
    assert_eq!((open.asn, open.hold_time_secs, open.router_id), (Asn(65_000), 9, RouterId(0x0a00_0001)));
    assert_eq!(open.families().collect::<Vec<_>>(), [AddressFamily::IPV4_UNICAST, AddressFamily::EVPN]);
    assert!(open.four_octet_as());
    for capability in [Capability::RouteRefresh, Capability::EnhancedRouteRefresh, Capability::ExtendedMessage] {
        assert!(open.has(&capability), "{capability:?}");
    }
    let restart = open.graceful_restart().unwrap();
    assert_eq!((restart.restarting, restart.notification, restart.restart_time_secs), (false, true, 120));
    assert_eq!(restart.families, [(AddressFamily::EVPN, false)]);
    assert_eq!(open.long_lived_graceful_restart(), Some(&[(AddressFamily::EVPN, true, 3_600)][..]));
}

#[test]
fn an_open_in_the_extended_form_is_read_like_any_other() {
    let open = open(&fixtures::OPEN_EXTENDED);
    assert_eq!(open.asn, Asn(100_000));
    assert_eq!(open.families().collect::<Vec<_>>(), [AddressFamily::EVPN]);
}

#[test]
fn a_shutdown_communication_is_shown() {
    let Message::Notification(notification) = message(&fixtures::NOTIFICATION) else { panic!() };
    assert_eq!(notification.to_string(), "Cease / Administrative Shutdown (6/2): \"maintenance\"");
}

#[test]
fn type_2_routes_give_mac_address_and_vni() {
    let (attributes, key, payload) = announced(&fixtures::MAC_IPV4);
    assert_eq!(attributes.next_hop, ip("10.0.0.1"));
    assert_eq!(attributes.local_pref, Some(100));
    assert_eq!(attributes.route_targets().next().unwrap().vni(), Vni::new(100));
    assert!(attributes.extended_communities.contains(&ExtendedCommunity::ENCAPSULATION_VXLAN));
    let mobility = attributes.mac_mobility();
    assert_eq!((mobility.sticky, mobility.sequence), (true, 7));
    let EvpnKey::MacIp { rd, tag, mac, ip: address } = key else { panic!("{key:?}") };
    assert_eq!((rd.to_string().as_str(), tag), ("10.0.0.1:100", EthernetTag(0)));
    assert_eq!((mac.to_string().as_str(), address), ("02:00:00:00:00:01", Some(ip("192.168.1.1"))));
    let expected = EvpnPayload::MacIp { esi: EthernetSegmentId::default(), label: vni(100), label2: None };
    assert_eq!(payload, expected);

    let (_, key, _) = announced(&fixtures::MAC_ONLY);
    assert!(matches!(key, EvpnKey::MacIp { ip: None, .. }));

    let (attributes, key, payload) = announced(&fixtures::MAC_IPV6);
    assert_eq!(attributes.next_hop, ip("2001:db8::a"));
    assert!(matches!(key, EvpnKey::MacIp { ip: Some(address), .. } if address == ip("2001:db8::1")));
    assert!(matches!(payload, EvpnPayload::MacIp { label2: Some(label), .. } if label == vni(5_000)));
}

#[test]
fn type_3_routes_give_originator_and_tunnel_endpoint() {
    for (fixture, address) in [(fixtures::MULTICAST_IPV4, "10.0.0.1"), (fixtures::MULTICAST_IPV6, "2001:db8::a")] {
        let (attributes, key, _) = announced(&fixture);
        assert!(matches!(key, EvpnKey::InclusiveMulticast { originator, .. } if originator == ip(address)));
        let pmsi = attributes.pmsi_tunnel.unwrap();
        assert_eq!((pmsi.label, pmsi.tunnel), (vni(100), Tunnel::IngressReplication(ip(address))));
    }
}

#[test]
fn types_1_4_and_5_give_their_fields() {
    let (_, key, payload) = announced(&fixtures::AUTO_DISCOVERY);
    assert!(matches!(key, EvpnKey::EthernetAutoDiscovery { tag: EthernetTag(u32::MAX), .. }));
    assert_eq!(payload, EvpnPayload::EthernetAutoDiscovery { label: Label::default() });

    let (_, key, _) = announced(&fixtures::ETHERNET_SEGMENT);
    assert!(matches!(key, EvpnKey::EthernetSegment { originator, .. } if originator == ip("10.0.0.1")));

    let (_, key, payload) = announced(&fixtures::IP_PREFIX);
    assert!(matches!(key, EvpnKey::IpPrefix { prefix, .. } if prefix.to_string() == "192.168.1.0/24"));
    assert!(matches!(payload, EvpnPayload::IpPrefix { gateway, label, .. }
        if gateway.is_unspecified() && label == vni(5_000)));
}

#[test]
fn withdrawals_and_memberships_are_read() {
    let update_read = update(&fixtures::WITHDRAWAL);
    assert!(update_read.reach.is_none());
    assert!(matches!(&update_read.unreach[..], [Unreach::Evpn(keys)] if keys.len() == 2));

    let Reach { routes, .. } = update(&fixtures::MEMBERSHIP).reach.unwrap();
    let Routes::RtConstrain(routes) = routes else { panic!("{routes:?}") };
    assert!(matches!(routes[0].key, RtMembership::Target { origin: Asn(65_000), target }
        if target.to_string() == "65000:100"));
    assert_eq!(routes[1].key, RtMembership::Default);

    assert_eq!(update(&fixtures::END_OF_RIB).end_of_rib, Some(AddressFamily::EVPN));
}

#[test]
fn every_attribute_is_read() {
    let (attributes, ..) = announced(&fixtures::ALL_ATTRIBUTES);
    assert_eq!(attributes.as_path.iter().collect::<Vec<_>>(), [Asn(65_001), Asn(100_000)]);
    assert_eq!(attributes.med, Some(5));
    assert!(attributes.atomic_aggregate);
    assert_eq!(attributes.aggregator, Some((Asn(65_001), [10, 0, 0, 9].into())));
    assert_eq!(attributes.communities[..], [0xfde8_0001, 0xffff_ff01]);
    assert_eq!(attributes.originator_id, Some(RouterId(0x0a00_0009)));
    assert_eq!(attributes.cluster_list[..], [0x0a00_00fe, 0x0a00_00fd]);
    assert_eq!(attributes.ipv6_extended_communities.len(), 1);
    assert_eq!(attributes.large_communities, [[65_000, 1, 2]]);
}

#[test]
fn numbers_hidden_from_a_two_octet_peer_are_restored() {
    let messages = decode_stream(&fixtures::TWO_OCTET_PEER.octets(), &context(false)).unwrap();
    let attributes = rejoin(messages).reach.unwrap().attributes;
    assert_eq!(attributes.as_path.iter().collect::<Vec<_>>(), [Asn(65_001), Asn(100_000)]);
    assert_eq!(attributes.aggregator, Some((Asn(100_000), [10, 0, 0, 9].into())));
    assert_eq!(attributes.unknown, []);
}

#[test]
fn what_is_not_understood_is_carried_octet_for_octet_with_the_partial_bit() {
    let messages = decode_stream(&fixtures::CARRIED.octets(), &context(true)).unwrap();
    let reach = rejoin(messages.clone()).reach.unwrap();
    let carried = [(23, &[0, 8, 0, 0]), (254, &[0xde, 0xad, 0xbe, 0xef])]
        .map(|(code, value)| UnknownAttribute { code, value: value.to_vec().into() });
    assert_eq!(reach.attributes.unknown, carried);
    let Routes::Evpn(routes) = reach.routes else { panic!() };
    assert!(matches!(&routes[0].key, EvpnKey::Opaque { route_type: 9, body } if body.len() == 13));

    let mut out = BytesMut::new();
    messages[0].encode(&EncodeContext { four_octet_as: true, ..EncodeContext::default() }, &mut out);
    let tail = [0xe0, 254, 4, 0xde, 0xad, 0xbe, 0xef];
    assert!(out.ends_with(&tail), "{out:02x?}");
}
