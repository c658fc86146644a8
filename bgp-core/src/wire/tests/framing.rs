//! UPDATEs whose fields or attribute headers are wrong.

use super::*;

const ANNOUNCED: &str = "announce 1";

#[test]
fn fields_longer_than_the_message_reset_the_session() {
    for (name, body) in [
        ("no attribute length", vec![0, 0]),
        ("withdrawn routes pass the end", vec![0, 3, 0, 0]),
        ("withdrawn routes leave no room for the attribute length", vec![0, 1, 0, 0]),
        ("attributes pass the end", vec![0, 0, 0, 5, 1, 2, 3, 4]),
        ("largest lengths", vec![0xff, 0xff, 0xff, 0xff]),
    ] {
        assert_eq!(verdict(body, &internal()), "reset 3/1", "{name}");
    }
}

#[test]
fn ipv4_routes_are_framed_and_ignored() {
    let ignored = "nothing: ipv4-unicast-routes";
    assert_eq!(verdict(body(&[24, 10, 0, 1], &[], &[]), &internal()), ignored);
    assert_eq!(verdict(body(&[], &basics(), &[0, 32, 10, 0, 0, 1]), &internal()), ignored);
    assert_eq!(verdict(body(&[33, 1, 2, 3, 4, 5], &[], &[]), &internal()), "reset 3/10");
    assert_eq!(verdict(body(&[], &basics(), &[24, 10, 0]), &internal()), "reset 3/10");
    let all = [vec![unreach(&mac_route(2))], announcement_with(attribute(NON_TRANSITIVE, 4, &[0; 4]))].concat();
    let everything = body(&[8, 10], &all, &[8, 11]);
    assert_eq!(verdict(everything, &internal()), "announce 1, withdraw 1: ipv4-unicast-routes");
}

#[test]
fn an_empty_update_is_the_end_of_rib_of_ipv4_unicast() {
    assert_eq!(verdict(body(&[], &[], &[]), &internal()), "end-of-rib ipv4-unicast");
}

#[test]
fn an_attribute_that_passes_the_end_withdraws_the_routes_or_resets_if_there_are_none() {
    let cut = |attribute: &[u8]| [vec![reach(&mac_route(1))], basics(), vec![attribute.to_vec()]].concat();
    let withdrawn = "withdraw 1: attribute-truncated";
    for (name, tail) in [
        ("flags alone", &[0xc0][..]),
        ("no length", &[0xc0, 8]),
        ("length of 255 with 2 left", &[0xc0, 8, 255, 0, 0]),
        ("extended length with 1 octet of it", &[0xd0, 8, 0]),
        ("extended length of 65,535", &[0xd0, 8, 0xff, 0xff, 0]),
    ] {
        assert_eq!(verdict(body(&[], &cut(tail), &[]), &internal()), withdrawn, "{name}");
        let alone = body(&[], &[tail.to_vec()], &[]);
        assert_eq!(verdict(alone, &internal()), "reset 3/1", "{name}, nothing to withdraw");
    }
}

#[test]
fn lenient_forms_of_headers_are_taken() {
    assert_verdicts(
        &internal(),
        &[
            ("extended length for one octet", announcement_with(vec![0x50, 1, 0, 1, 0]), ANNOUNCED),
            ("reserved flag bits", announcement_with(attribute(0x4f & !0x10, 1, &[0])), ANNOUNCED),
            ("MP_REACH_NLRI last", [basics(), vec![reach(&mac_route(1))]].concat(), ANNOUNCED),
        ],
    );
}

#[test]
fn unrecognised_attributes_are_treated_by_their_flags() {
    for code in [0, 11, 19, 20, 21, 29, 128, 254, 255] {
        let well_known = body(&[], &announcement_with(attribute(WELL_KNOWN, code, &[1])), &[]);
        let notification = decode(well_known, &internal()).unwrap_err();
        assert_eq!((notification.code, notification.subcode), (3, 2), "{code}");
        assert_eq!(notification.data[..], [WELL_KNOWN, code, 1, 1], "data is the attribute");

        let transitive = decode(body(&[], &announcement_with(attribute(TRANSITIVE, code, &[1])), &[]), &internal());
        let unknown = transitive.unwrap().reach.unwrap().attributes.unknown;
        assert_eq!((unknown.len(), unknown[0].code), (1, code));

        let dropped = decode(body(&[], &announcement_with(attribute(NON_TRANSITIVE, code, &[1])), &[]), &internal());
        let dropped = dropped.unwrap();
        assert_eq!((dropped.reach.unwrap().attributes.unknown, dropped.findings), (vec![], vec![]));
    }
}

#[test]
fn a_carried_attribute_of_60000_octets_is_kept_and_sent_only_where_it_fits() {
    use crate::wire::{EncodeContext, EncodedAttributes, Evpn, MaxMessage, TooLong, announce};

    let attributes = announcement_with(attribute(TRANSITIVE, 254, &[7; 60_000]));
    let reach = decode(body(&[], &attributes, &[]), &internal()).unwrap().reach.unwrap();
    let crate::wire::message::Routes::Evpn(routes) = &reach.routes else { panic!() };
    for (max_message, fits) in [(MaxMessage::Standard, false), (MaxMessage::Extended, true)] {
        let ctx = EncodeContext { four_octet_as: true, max_message };
        let encoded = EncodedAttributes::new(&reach.attributes, &ctx);
        let mut out = bytes::BytesMut::from(&b"before"[..]);
        let pairs = routes.iter().map(|route| (&route.key, &route.payload));
        match announce::<Evpn>(&ctx, &encoded, pairs, &mut out) {
            Ok(messages) => assert!(fits && messages == 1),
            Err(TooLong { needed, limit }) => {
                assert!(!fits && needed > 60_000 && limit == 4_096);
                assert_eq!(out, b"before"[..], "nothing half-written is left");
            }
        }
    }
}

#[test]
fn repeated_attributes_are_discarded_except_the_multiprotocol_ones() {
    let twice = |attribute: Vec<u8>| [announcement_with(attribute.clone()), vec![attribute]].concat();
    let internal = internal();
    assert_verdicts(
        &internal,
        &[
            ("second MP_REACH_NLRI", twice(reach(&mac_route(1))), "reset 3/1"),
            ("second MP_UNREACH_NLRI", twice(unreach(&mac_route(1))), "reset 3/1"),
            ("second ORIGIN", twice(attribute(WELL_KNOWN, 1, &[0])), "announce 1: attribute-duplicate"),
            (
                "second, malformed MED",
                [
                    announcement_with(attribute(NON_TRANSITIVE, 4, &[0, 0, 0, 1])),
                    vec![attribute(NON_TRANSITIVE, 4, &[])],
                ]
                .concat(),
                "announce 1: attribute-duplicate",
            ),
        ],
    );
}

#[test]
fn all_unknown_types_and_thousands_of_repetitions_cost_little() {
    let known = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 22, 23, 25, 26, 28, 32, 35, 39, 40];
    let unknown = (0..=255).filter(|code| !known.contains(code));
    let mut attributes = announcement_with(attribute(NON_TRANSITIVE, 4, &[0; 4]));
    attributes.extend(unknown.map(|code| attribute(TRANSITIVE, code, &[])));
    attributes.extend(std::iter::repeat_n(attribute(TRANSITIVE, 254, &[]), 20_000));
    let update = decode(body(&[], &attributes, &[]), &internal()).unwrap();
    assert_eq!(update.reach.unwrap().attributes.unknown.len(), 256 - known.len());
    assert_eq!((update.findings.len(), update.findings[0].count), (1, 20_000));
}

#[test]
fn mandatory_attributes_that_are_missing_withdraw_the_routes() {
    let [origin, as_path, local_pref] = basics().try_into().unwrap();
    let route = reach(&mac_route(1));
    assert_verdicts(
        &internal(),
        &[
            ("no ORIGIN", vec![route.clone(), as_path.clone(), local_pref.clone()], "withdraw 1: origin-missing"),
            ("no AS_PATH", vec![route.clone(), origin.clone(), local_pref], "withdraw 1: as-path-missing"),
            ("none at all", vec![route.clone()], "withdraw 1: origin-missing"),
            ("no LOCAL_PREF, which has a default", vec![route, origin, as_path], ANNOUNCED),
            ("withdrawal alone needs none", vec![unreach(&mac_route(1))], "withdraw 1"),
        ],
    );
    let withdrawal_and_ipv4 = body(&[], &[unreach(&mac_route(1)), attribute(NON_TRANSITIVE, 4, &[0; 4])], &[8, 10]);
    let expected = "withdraw 1: ipv4-unicast-routes, origin-missing";
    assert_eq!(verdict(withdrawal_and_ipv4, &internal()), expected);
}

#[test]
fn wrong_flags_of_a_known_attribute_withdraw_the_routes() {
    let valid: &[(u8, u8, &[u8])] = &[
        (WELL_KNOWN, 1, &[0]),
        (WELL_KNOWN, 2, &[]),
        (WELL_KNOWN, 3, &[10, 0, 0, 1]),
        (NON_TRANSITIVE, 4, &[0; 4]),
        (WELL_KNOWN, 5, &[0; 4]),
        (WELL_KNOWN, 6, &[]),
        (TRANSITIVE, 7, &[0, 0, 0, 1, 0, 0, 0, 0]),
        (TRANSITIVE, 8, &[0; 4]),
        (NON_TRANSITIVE, 9, &[1; 4]),
        (NON_TRANSITIVE, 10, &[0; 4]),
        (TRANSITIVE, 16, &[0; 8]),
        (TRANSITIVE, 22, &[0, 6, 0, 0, 1, 10, 0, 0, 1]),
        (TRANSITIVE, 23, &[0, 8, 0, 0]),
        (TRANSITIVE, 25, &[0; 20]),
        (TRANSITIVE, 32, &[0; 12]),
        (TRANSITIVE, 35, &[0, 0, 0, 1]),
        (TRANSITIVE, 40, &[]),
    ];
    for (right, code, value) in valid {
        for flags in [0x00, 0x40, 0x80, 0xc0, 0x20, 0x60, 0xa0, 0xe0] {
            let partial = flags & 0x20 != 0;
            let expected = if flags & 0xc0 == *right && (!partial || *right == TRANSITIVE) {
                "announce 1"
            } else if *code == 1 {
                "withdraw 1: attribute-flags, origin-missing"
            } else if *code == 2 {
                "withdraw 1: attribute-flags, as-path-missing"
            } else {
                "withdraw 1: attribute-flags"
            };
            let message = body(&[], &announcement_with(attribute(flags, *code, value)), &[]);
            assert_eq!(verdict(message, &internal()), expected, "code {code} flags {flags:#x}");
        }
    }
}

#[test]
fn an_error_that_withdraws_resets_where_no_route_can_be_found() {
    let malformed = attribute(WELL_KNOWN, 1, &[9]);
    assert_verdicts(
        &internal(),
        &[
            ("attributes alone", vec![malformed.clone()], "reset 3/1"),
            ("with a withdrawal", vec![unreach(&mac_route(1)), malformed.clone()], "reset 3/1"),
            ("with an empty MP_REACH_NLRI", vec![reach(&[]), malformed], "reset 3/1"),
            ("a mere discard does not", vec![attribute(WELL_KNOWN, 6, &[1])], "nothing: atomic-aggregate-length"),
        ],
    );
}

#[test]
fn ipv4_routes_locate_nothing_that_could_be_withdrawn() {
    let mut attributes = announcement_with(attribute(WELL_KNOWN, 1, &[9]));
    attributes.retain(|attribute| attribute[1] != 14);
    assert_eq!(verdict(body(&[], &attributes, &[8, 10]), &internal()), "reset 3/1");
}

#[test]
fn attributes_that_an_operator_strips_go_no_further_and_others_do() {
    let ctx = DecodeContext { stripped: [23, 254].into_iter().collect(), ..internal() };
    let mut attributes = announcement_with(attribute(TRANSITIVE, 254, &[1]));
    attributes.extend([attribute(TRANSITIVE, 253, &[2]), attribute(TRANSITIVE, 23, &[0, 8, 0, 0])]);
    let update = decode(body(&[], &attributes, &[]), &ctx).unwrap();
    let kept: Vec<u8> = update.reach.unwrap().attributes.unknown.iter().map(|unknown| unknown.code).collect();
    assert_eq!((kept, update.findings), (vec![253], vec![]));
}
