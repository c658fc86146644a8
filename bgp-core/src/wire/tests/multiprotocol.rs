//! Malformed MP_REACH_NLRI and MP_UNREACH_NLRI, and families that were not negotiated.

use super::*;
use crate::wire::MultiprotocolErrors;
use crate::wire::attributes::code::{MP_REACH_NLRI, MP_UNREACH_NLRI};

/// An announcement with this value of MP_REACH_NLRI.
fn with_reach(value: &[u8]) -> Vec<Vec<u8>> {
    announcement_with(attribute(NON_TRANSITIVE, MP_REACH_NLRI, value))
}

fn with_unreach(value: &[u8]) -> Vec<Vec<u8>> {
    vec![attribute(NON_TRANSITIVE, MP_UNREACH_NLRI, value)]
}

#[test]
fn attributes_that_cannot_be_read_reset_or_disable_the_family() {
    let disabling = DecodeContext { multiprotocol_errors: MultiprotocolErrors::DisableFamily, ..internal() };
    let long_next_hop = [&[0, 25, 70, 200, 10, 0, 0, 1, 0][..], &mac_route(1)].concat();
    let odd_next_hop = [&[0, 25, 70, 5, 10, 0, 0, 1, 9, 0][..], &mac_route(1)].concat();
    for (name, attributes, reason) in [
        ("no next hop length", with_reach(&[0, 25, 70]), Some("mp-reach-length")),
        ("no reserved octet", with_reach(&[0, 25, 70, 0]), Some("mp-reach-length")),
        ("no family", with_reach(&[0, 25]), None),
        ("empty", with_reach(&[]), None),
        ("next hop past the end", with_reach(&long_next_hop), Some("mp-reach-length")),
        ("next hop of 5 octets", with_reach(&odd_next_hop), Some("mp-reach-next-hop-length")),
        ("MP_UNREACH_NLRI of two octets", with_unreach(&[0, 25]), None),
        ("one octet of an NLRI", with_reach(&[0, 25, 70, 4, 10, 0, 0, 1, 0, 2]), Some("evpn-framing")),
        ("NLRI past the end", with_reach(&[0, 25, 70, 4, 10, 0, 0, 1, 0, 2, 33, 0]), Some("evpn-framing")),
        ("withdrawn NLRI past the end", with_unreach(&[0, 25, 70, 2, 33, 0]), Some("evpn-framing")),
    ] {
        let message = body(&[], &attributes, &[]);
        assert_eq!(verdict(message.clone(), &internal()), "reset 3/9", "{name}");
        let expected = match reason {
            Some(reason) => format!("disable evpn: {reason}"),
            None => "reset 3/9".to_owned(),
        };
        assert_eq!(verdict(message, &disabling), expected, "{name}");
    }
}

#[test]
fn wrong_flags_are_as_bad_as_a_wrong_length() {
    let disabling = DecodeContext { multiprotocol_errors: MultiprotocolErrors::DisableFamily, ..internal() };
    for flags in [0x00, 0x40, 0xc0] {
        let mut reach = reach(&mac_route(1));
        reach[0] = flags;
        let message = body(&[], &announcement_with(reach), &[]);
        assert_eq!(verdict(message.clone(), &internal()), "reset 3/9");
        assert_eq!(verdict(message, &disabling), "disable evpn: mp-reach-flags");
        let mut unreach = unreach(&mac_route(1));
        unreach[0] = flags;
        let message = body(&[], &[unreach], &[]);
        assert_eq!(verdict(message.clone(), &internal()), "reset 3/9");
        assert_eq!(verdict(message, &disabling), "disable evpn: mp-unreach-flags");
    }
}

#[test]
fn disabling_one_family_leaves_the_other_alone() {
    let ctx = DecodeContext { multiprotocol_errors: MultiprotocolErrors::DisableFamily, ..internal() };
    let membership = attribute(NON_TRANSITIVE, MP_UNREACH_NLRI, &[0, 1, 132, 0]);
    let broken = with_reach(&[0, 25, 70, 9, 9]);
    let message = body(&[], &[vec![membership], broken].concat(), &[]);
    assert_eq!(verdict(message, &ctx), "disable evpn, withdraw 1: mp-reach-length");
    let unreadable_membership = attribute(NON_TRANSITIVE, MP_UNREACH_NLRI, &[0, 1, 132, 97]);
    let message =
        body(&[], &[vec![unreadable_membership.clone()], announcement_with(reach(&mac_route(1)))].concat(), &[]);
    assert_eq!(verdict(message, &ctx), "disable rt-constrain, announce 1: rt-membership-length");
    let both = [vec![unreadable_membership], with_reach(&[0, 25, 70, 9, 9])];
    assert_eq!(verdict(body(&[], &both.concat(), &[]), &ctx), "reset 3/9", "only one can be told");
}

#[test]
fn the_notification_holds_the_attribute() {
    let notification = decode(body(&[], &with_reach(&[0, 25, 70, 9, 9]), &[]), &internal()).unwrap_err();
    assert_eq!(notification.data[..], [NON_TRANSITIVE, MP_REACH_NLRI, 5, 0, 25, 70, 9, 9]);
}

#[test]
fn families_that_were_not_negotiated_are_never_parsed() {
    for family in [[0, 1, 1], [0, 2, 1], [0, 1, 133], [0, 1, 134], [0x40, 0x04, 71], [255, 255, 255]] {
        for nlri in [&[][..], &[0], &[255; 40]] {
            let reach = [&family[..], &[4, 10, 0, 0, 1, 0], nlri].concat();
            let unreach = [&family[..], nlri].concat();
            let expected = "nothing: family-not-negotiated";
            assert_eq!(verdict(body(&[], &with_reach(&reach), &[]), &internal()), expected, "{family:?}");
            assert_eq!(verdict(body(&[], &with_unreach(&unreach), &[]), &internal()), expected, "{family:?}");
        }
    }
    let negotiated =
        DecodeContext { families: smallvec::smallvec![crate::types::AddressFamily::IPV4_UNICAST], ..internal() };
    let message = body(&[], &with_unreach(&[0, 1, 1, 8, 10]), &[]);
    assert_eq!(verdict(message, &negotiated), "nothing: family-not-supported");
}

#[test]
fn unusual_but_valid_forms_are_taken() {
    let route = mac_route(1);
    let global_and_link_local = [&[0, 25, 70, 32][..], &[0x20; 16], &[0xfe; 16], &[0], &route].concat();
    let reserved = [&[0, 25, 70, 4, 10, 0, 0, 1, 77][..], &route].concat();
    assert_verdicts(
        &internal(),
        &[
            ("reserved octet set", with_reach(&reserved), "announce 1"),
            ("no NLRI", with_reach(&[0, 25, 70, 4, 10, 0, 0, 1, 0]), "nothing"),
            ("two IPv6 next hops", with_reach(&global_and_link_local), "announce 1"),
            ("end-of-RIB", vec![unreach(&[])], "end-of-rib evpn"),
            ("end-of-RIB of RT-constrain", with_unreach(&[0, 1, 132]), "end-of-rib rt-constrain"),
            ("empty MP_UNREACH_NLRI beside others", [vec![unreach(&[])], basics()].concat(), "nothing"),
        ],
    );
}

#[test]
fn path_identifiers_that_were_not_negotiated_are_noticed() {
    for id in (0..=65_535_u32).step_by(7).map(u32::to_be_bytes) {
        let with_id = [&id[..], &mac_route(1)].concat();
        assert_eq!(verdict(body(&[], &announcement_with(reach(&with_id)), &[]), &internal()), "reset 3/9", "{id:?}");
        assert_eq!(verdict(body(&[], &[unreach(&with_id)], &[]), &internal()), "reset 3/9", "{id:?}");
    }
}

#[test]
fn route_target_memberships_of_odd_lengths() {
    let target = [0, 0, 0xfd, 0xe8, 0, 2, 0xfd, 0xe8, 0, 0, 0, 100];
    let membership = |bits: u8, octets: usize| {
        let value = [&[0, 1, 132, 4, 10, 0, 0, 1, 0, bits][..], &target[..octets]].concat();
        body(&[], &with_reach(&value), &[])
    };
    let strict = DecodeContext { evpn_errors: crate::wire::EvpnErrors::Strict, ..internal() };
    for (bits, octets, contained, strictly) in [
        (0, 0, "announce 1", "announce 1"),
        (32, 4, "announce 1", "announce 1"),
        (33, 5, "announce 1", "announce 1"),
        (95, 12, "announce 1", "announce 1"),
        (96, 12, "announce 1", "announce 1"),
        (8, 1, "nothing: rt-membership-length", "reset 3/9"),
        (31, 4, "nothing: rt-membership-length", "reset 3/9"),
        (96, 11, "reset 3/9", "reset 3/9"),
        (97, 12, "reset 3/9", "reset 3/9"),
        (255, 12, "reset 3/9", "reset 3/9"),
    ] {
        assert_eq!(verdict(membership(bits, octets), &internal()), contained, "{bits} bits");
        assert_eq!(verdict(membership(bits, octets), &strict), strictly, "{bits} bits");
    }
}
