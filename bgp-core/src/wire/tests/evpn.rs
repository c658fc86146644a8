//! EVPN NLRI with a good frame and a bad body, and bodies that mean something impossible.

use super::*;
use crate::wire::message::{Routes, Unreach};
use crate::wire::{EvpnErrors, EvpnKey};

const RD: [u8; 8] = [0, 1, 10, 0, 0, 1, 0, 100];

fn announcement(nlri: &[u8]) -> Vec<u8> {
    body(&[], &announcement_with(reach(nlri)), &[])
}

/// A type 2 body with these fields behind the Ethernet tag.
fn mac_fields(tail: &[u8]) -> Vec<u8> {
    nlri(2, &[&RD[..], &[0; 14], tail].concat())
}

/// A type 5 body of this prefix length, prefix, gateway and label.
fn prefix_fields(esi: u8, bits: u8, prefix: &[u8], gateway: &[u8], label: [u8; 3]) -> Vec<u8> {
    nlri(5, &[&RD[..], &[esi; 10], &[0; 4], &[bits], prefix, gateway, &label].concat())
}

/// Bad bodies: name, NLRI, whether the key can be read all the same, reason.
fn bad_bodies() -> Vec<(&'static str, Vec<u8>, bool, &'static str)> {
    let mac = [48, 2, 0, 0, 0, 0, 9];
    let v = |ip_bits: u8, rest: &[u8]| mac_fields(&[&mac[..], &[ip_bits], rest].concat());
    let multicast = |tail: &[u8]| nlri(3, &[&RD[..], &[0; 4], tail].concat());
    let segment = |tail: &[u8]| nlri(4, &[&RD[..], &[1; 10], tail].concat());
    let mut bodies = vec![
        ("type 1 of 24 octets", nlri(1, &[0; 24]), true, "evpn-route-length"),
        ("type 1 of 26 octets", nlri(1, &[0; 26]), true, "evpn-route-length"),
        ("type 1 of 21 octets", nlri(1, &[0; 21]), false, "evpn-route-length"),
        ("empty type 1", nlri(1, &[]), false, "evpn-route-length"),
        ("empty type 2", nlri(2, &[]), false, "evpn-route-length"),
        ("type 2 without labels", v(0, &[]), true, "evpn-route-length"),
        ("type 2 with a label and an octet", v(0, &[0, 0, 1, 0]), true, "evpn-route-length"),
        ("type 2 with two and a third labels", v(0, &[0, 0, 1, 0, 0, 2, 0]), true, "evpn-route-length"),
        ("type 2 of 255 octets", v(0, &[1; 225]), true, "evpn-route-length"),
        ("type 2 with IPv6 length and IPv4 octets", v(128, &[10, 0, 0, 1, 0, 0, 1]), false, "evpn-route-length"),
        ("type 2 with IPv4 length and IPv6 octets", v(32, &[9; 19]), true, "evpn-route-length"),
        ("type 2 with no IP length and IPv4 octets", v(0, &[10, 0, 0, 1, 0, 0, 1]), true, "evpn-route-length"),
        ("empty type 3", nlri(3, &[]), false, "evpn-originator-length"),
        ("type 3 with no originator", multicast(&[0]), false, "evpn-originator-length"),
        ("type 3 with 24 bits", multicast(&[24, 1, 2, 3]), false, "evpn-originator-length"),
        ("type 3 with 64 bits", multicast(&[64, 1, 2, 3, 4, 5, 6, 7, 8]), false, "evpn-originator-length"),
        ("type 3 with an octet too few", multicast(&[32, 1, 2, 3]), false, "evpn-originator-length"),
        ("type 3 with an octet too many", multicast(&[32, 1, 2, 3, 4, 5]), true, "evpn-route-length"),
        ("type 4 with an octet too few", segment(&[32, 1, 2, 3]), false, "evpn-originator-length"),
        ("type 4 with an octet too many", segment(&[32, 1, 2, 3, 4, 5]), true, "evpn-route-length"),
        ("type 5 of 33 octets", nlri(5, &[0; 33]), false, "evpn-route-length"),
        ("type 5 of 57 octets", nlri(5, &[0; 57]), false, "evpn-route-length"),
        ("type 5 with 33 bits of IPv4", prefix_fields(0, 33, &[1; 4], &[0; 4], [0, 0, 1]), false, "evpn-prefix-length"),
        (
            "type 5 with 128 bits of IPv4",
            prefix_fields(0, 128, &[1; 4], &[0; 4], [0, 0, 1]),
            false,
            "evpn-prefix-length",
        ),
        (
            "type 5 with 129 bits of IPv6",
            prefix_fields(0, 129, &[1; 16], &[0; 16], [0, 0, 1]),
            false,
            "evpn-prefix-length",
        ),
    ];
    for bits in [0, 40, 47, 49, 56, 255] {
        let octets = [&[bits, 2, 0, 0, 0, 0, 9, 0][..], &[0, 0, 1]].concat();
        bodies.push(("type 2 with a wrong MAC length", mac_fields(&octets), false, "evpn-mac-length"));
    }
    for bits in [1, 8, 24, 31, 33, 64, 127, 129, 255] {
        bodies.push(("type 2 with a wrong IP length", v(bits, &[1; 19]), false, "evpn-ip-length"));
    }
    bodies
}

#[test]
fn a_bad_body_costs_its_own_route_alone() {
    for (name, bad, keyed, reason) in bad_bodies() {
        let message = announcement(&[mac_route(1), bad.clone(), mac_route(2)].concat());
        let expected =
            if keyed { format!("announce 2, withdraw 1: {reason}") } else { format!("announce 2: {reason}") };
        assert_eq!(verdict(message, &internal()), expected, "{name}");
        let withdrawal = body(&[], &[unreach(&[mac_route(1), bad].concat())], &[]);
        let expected = format!("withdraw {}: {reason}", if keyed { 2 } else { 1 });
        assert_eq!(verdict(withdrawal, &internal()), expected, "{name}");
    }
}

#[test]
fn a_bad_body_resets_the_session_where_strictness_is_asked_for() {
    let strict = DecodeContext { evpn_errors: EvpnErrors::Strict, ..internal() };
    for (name, bad, ..) in bad_bodies() {
        let message = announcement(&[mac_route(1), bad.clone()].concat());
        assert_eq!(verdict(message, &strict), "reset 3/9", "{name}");
        assert_eq!(verdict(body(&[], &[unreach(&bad)], &[]), &strict), "reset 3/9", "{name}");
    }
}

#[test]
fn every_valid_length_is_taken() {
    let mac = [48, 2, 0, 0, 0, 0, 9];
    for ip in [&[0][..], &[32, 10, 0, 0, 1], &[&[128][..], &[1; 16]].concat()] {
        for labels in [&[0, 0, 1][..], &[0, 0, 1, 0, 0, 2]] {
            let route = mac_fields(&[&mac[..], ip, labels].concat());
            assert_eq!(verdict(announcement(&route), &internal()), "announce 1", "{} octets", route[1]);
        }
    }
}

#[test]
fn unknown_types_are_skipped_alone_or_kept_as_they_are() {
    let ctx = DecodeContext { opaque_routes: true, ..internal() };
    for route_type in [0, 6, 7, 8, 9, 10, 11, 12, 200, 255] {
        for length in [0, 1, 255] {
            if (route_type, length) == (0, 0) {
                // Taken for a path identifier.
                continue;
            }
            let routes = [mac_route(1), nlri(route_type, &vec![7; length]), mac_route(2)].concat();
            let skipped = "announce 2: evpn-route-type";
            assert_eq!(verdict(announcement(&routes), &internal()), skipped, "type {route_type}");
            assert_eq!(verdict(announcement(&routes), &ctx), "announce 3", "type {route_type}");
            let withdrawal = body(&[], &[unreach(&routes)], &[]);
            assert_eq!(verdict(withdrawal, &internal()), "withdraw 2: evpn-route-type", "type {route_type}");
        }
    }
    let many = announcement(&nlri(99, &[]).repeat(1_000));
    assert_eq!(verdict(many, &internal()), "nothing: evpn-route-type x1000");
}

#[test]
fn routes_that_must_not_be_announced_are_withdrawn_alone() {
    let mac_with = |mac: [u8; 6], label: [u8; 3]| mac_fields(&[&[48][..], &mac, &[0], &label].concat());
    let good = [0, 0, 100];
    let v6 = [0; 16];
    for (name, route, reason) in [
        ("MAC of zeroes, the flood list of the kernel", mac_with([0; 6], good), Some("evpn-mac-zero")),
        ("multicast MAC", mac_with([1, 0, 0x5e, 0, 0, 1], good), Some("evpn-mac-multicast")),
        ("broadcast MAC", mac_with([0xff; 6], good), Some("evpn-mac-multicast")),
        ("VRRP MAC", mac_with([0, 0, 0x5e, 0, 1, 1], good), None),
        ("VNI 0", mac_with([2, 0, 0, 0, 0, 9], [0; 3]), Some("evpn-vni-zero")),
        ("largest VNI", mac_with([2, 0, 0, 0, 0, 9], [255; 3]), None),
        (
            "ESI and gateway",
            prefix_fields(1, 24, &[10, 0, 0, 0], &[10, 0, 0, 1], good),
            Some("evpn-two-overlay-indexes"),
        ),
        (
            "no label and no overlay index",
            prefix_fields(0, 24, &[10, 0, 0, 0], &[0; 4], [0; 3]),
            Some("evpn-no-overlay-index"),
        ),
        ("no label but a gateway", prefix_fields(0, 24, &[10, 0, 0, 0], &[10, 0, 0, 1], [0; 3]), None),
        ("no label but an ESI", prefix_fields(1, 0, &v6, &v6, [0; 3]), None),
    ] {
        let message = announcement(&[mac_route(1), route.clone()].concat());
        let expected = match reason {
            Some(reason) => format!("announce 1, withdraw 1: {reason}"),
            None => "announce 2".to_owned(),
        };
        assert_eq!(verdict(message, &internal()), expected, "{name}");
        let withdrawal = body(&[], &[unreach(&route)], &[]);
        assert_eq!(verdict(withdrawal, &internal()), "withdraw 1", "{name}: nothing keeps it from going");
    }
}

#[test]
fn the_routers_mac_decides_over_type_5_routes_only() {
    let community = |mac: [u8; 6]| attribute(TRANSITIVE, 16, &[&[6, 3][..], &mac].concat());
    let prefix = |label| prefix_fields(0, 24, &[10, 0, 0, 0], &[0; 4], label);
    for (name, mac, label, expected) in [
        ("multicast", [1, 0, 0, 0, 0, 1], [0, 0, 9], "announce 1, withdraw 1: evpn-router-mac"),
        ("broadcast", [255; 6], [0, 0, 9], "announce 1, withdraw 1: evpn-router-mac"),
        ("zero", [0; 6], [0, 0, 9], "announce 1, withdraw 1: evpn-router-mac"),
        ("good", [2, 0, 0, 0, 0, 1], [0, 0, 9], "announce 2"),
        ("as overlay index", [2, 0, 0, 0, 0, 1], [0; 3], "announce 2"),
    ] {
        let routes = [mac_route(1), prefix(label)].concat();
        let attributes = [vec![reach(&routes)], basics(), vec![community(mac)]].concat();
        assert_eq!(verdict(body(&[], &attributes, &[]), &internal()), expected, "{name}");
    }
}

#[test]
fn host_bits_of_a_prefix_are_not_part_of_the_key() {
    let update = decode(announcement(&prefix_fields(0, 9, &[10, 255, 1, 1], &[0; 4], [0, 0, 1])), &internal());
    let Routes::Evpn(routes) = update.unwrap().reach.unwrap().routes else { panic!() };
    assert!(matches!(routes[0].key, EvpnKey::IpPrefix { prefix, .. } if prefix.to_string() == "10.128.0.0/9"));
}

#[test]
fn withdrawals_compare_keys_only() {
    let with = |esi: u8, label: &[u8]| {
        let body = [&RD[..], &[esi; 10], &[0; 4], &[48, 2, 0, 0, 0, 0, 1, 0], label].concat();
        nlri(2, &body)
    };
    let routes = [with(0, &[0, 0, 100]), with(7, &[0; 3]), with(9, &[0x80, 0, 0, 1, 2, 3])].concat();
    let update = decode(body(&[], &[unreach(&routes)], &[]), &internal()).unwrap();
    let Unreach::Evpn(keys) = &update.unreach[0] else { panic!() };
    assert!(keys.iter().all(|key| *key == keys[0]));
    assert_eq!((keys.len(), update.findings.len()), (3, 0));
}

#[test]
fn a_key_announced_and_withdrawn_in_one_message_is_announced_in_either_order() {
    let (reach, unreach) = (reach(&mac_route(1)), unreach(&mac_route(1)));
    for attributes in [[vec![unreach.clone(), reach.clone()], basics()], [vec![reach, unreach], basics()]] {
        assert_eq!(verdict(body(&[], &attributes.concat(), &[]), &internal()), "announce 1, withdraw 1");
    }
}

#[test]
fn a_key_in_a_good_and_a_bad_form_is_withdrawn() {
    let bad = nlri(2, &mac_body(1));
    for routes in [[mac_route(1), bad.clone()], [bad, mac_route(1)]] {
        assert_eq!(verdict(announcement(&routes.concat()), &internal()), "withdraw 1: evpn-route-length");
    }
}

#[test]
fn treat_as_withdraw_names_every_key_beside_those_that_were_withdrawn_anyway() {
    let attributes =
        [vec![unreach(&mac_route(3)), reach(&[mac_route(1), mac_route(2)].concat())], basics()[1..].to_vec()];
    let message = body(&[], &attributes.concat(), &[]);
    assert_eq!(verdict(message, &internal()), "withdraw 3: origin-missing");
}

#[test]
fn a_message_full_of_routes_is_read_whole() {
    let routes: Vec<u8> = (0..1_860_u32)
        .flat_map(|number| {
            let [_, _, a, b] = number.to_be_bytes();
            mac_fields(&[48, 2, 0, 0, 0, a, b, 0, 0, 0, 100])
        })
        .collect();
    assert_eq!(verdict(announcement(&routes), &internal()), "announce 1860");
}

#[test]
fn what_is_odd_is_noted_and_announced() {
    let ad = |esi: [u8; 10], tag: u32, label: [u8; 3]| nlri(1, &[&RD[..], &esi, &tag.to_be_bytes(), &label].concat());
    let segment = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    for (route, expected) in [
        (ad(segment, u32::MAX, [0; 3]), "announce 1"),
        (ad(segment, 0, [0, 0, 1]), "announce 1"),
        (ad(segment, u32::MAX, [0, 0, 1]), "announce 1: evpn-ad-label"),
        (ad([0; 10], u32::MAX, [0; 3]), "announce 1: evpn-ad-segment"),
        (ad([0xff; 10], 0, [0, 0, 1]), "announce 1: evpn-ad-segment"),
    ] {
        assert_eq!(verdict(announcement(&route), &internal()), expected);
    }
    let communities = [[6, 0, 0, 0, 0, 0, 0, 3], [6, 0, 0, 0, 0, 0, 0, 7]].concat();
    let twice = announcement_with(attribute(TRANSITIVE, 16, &communities));
    assert_eq!(verdict(body(&[], &twice, &[]), &internal()), "announce 1: mac-mobility-twice");
}
