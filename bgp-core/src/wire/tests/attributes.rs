//! Malformed path attributes, one by one.

use super::*;
use crate::types::Asn;

/// A table of values of one attribute that follow the basics.
fn assert_values(ctx: &DecodeContext, flags: u8, code: u8, table: &[(&str, &[u8], &str)]) {
    for (name, value, expected) in table {
        let message = body(&[], &announcement_with(attribute(flags, code, value)), &[]);
        assert_eq!(verdict(message, ctx), *expected, "{name}");
    }
}

#[test]
fn origin() {
    assert_values(
        &internal(),
        WELL_KNOWN,
        code::ORIGIN,
        &[
            ("empty", &[], "withdraw 1: origin-length, origin-missing"),
            ("two octets", &[0, 0], "withdraw 1: origin-length, origin-missing"),
            ("value 3", &[3], "withdraw 1: origin-value, origin-missing"),
            ("value 255", &[255], "withdraw 1: origin-value, origin-missing"),
        ],
    );
}

#[test]
fn as_path() {
    let withdrawn = |reason: &str| format!("withdraw 1: {reason}, as-path-missing");
    for (name, value, reason) in [
        ("segment type 0", &[0, 1, 0, 0, 0, 1][..], "as-path-segment-type"),
        ("segment type 5", &[5, 1, 0, 0, 0, 1], "as-path-segment-type"),
        ("segment type 255", &[255, 1, 0, 0, 0, 1], "as-path-segment-type"),
        ("segment of no number", &[2, 0], "as-path-empty-segment"),
        ("overrun", &[2, 2, 0, 0, 0, 1], "as-path-length"),
        ("one octet too many", &[2, 1, 0, 0, 0, 1, 2], "as-path-length"),
        ("one octet too few", &[2, 1, 0, 0, 0], "as-path-length"),
        ("AS 0", &[2, 2, 0, 0, 0, 1, 0, 0, 0, 0], "as-path-zero"),
        ("AS_SET", &[1, 1, 0, 0, 0, 1], "as-path-set"),
        ("confederation sequence", &[3, 1, 0, 0, 0, 1], "as-path-confederation"),
        ("confederation set", &[4, 1, 0, 0, 0, 1], "as-path-confederation"),
    ] {
        let message = body(&[], &announcement_with(attribute(WELL_KNOWN, code::AS_PATH, value)), &[]);
        assert_eq!(verdict(message, &internal()), withdrawn(reason), "{name}");
    }
    assert_values(
        &external(),
        WELL_KNOWN,
        code::AS_PATH,
        &[("empty, from another AS", &[], "announce 1: internal-attribute-from-external")],
    );
}

#[test]
fn an_as_path_of_16000_numbers_is_read_and_sent_on() {
    let mut value = Vec::new();
    for _ in 0..64 {
        value.extend([2, 250]);
        value.extend([0, 0, 0xfd, 0xe8].repeat(250));
    }
    let message = body(&[], &announcement_with(attribute(WELL_KNOWN, code::AS_PATH, &value)), &[]);
    let update = decode(message, &internal()).unwrap();
    assert_eq!(update.reach.as_ref().unwrap().attributes.as_path.len(), 16_000);
    let mut out = bytes::BytesMut::new();
    let max_message = crate::wire::MaxMessage::Extended;
    update.encode(&crate::wire::EncodeContext { four_octet_as: true, max_message }, &mut out);
    let again = crate::wire::arbitrary::decode_stream(&out, &internal()).unwrap();
    assert_eq!(crate::wire::arbitrary::rejoin(again), update);
}

#[test]
fn numbers_and_addresses_of_a_wrong_length() {
    for (flags, code, good, verdict) in [
        (WELL_KNOWN, code::NEXT_HOP, 4, "withdraw 1: next-hop-length"),
        (NON_TRANSITIVE, code::MULTI_EXIT_DISC, 4, "withdraw 1: med-length"),
        (WELL_KNOWN, code::LOCAL_PREF, 4, "withdraw 1: local-pref-length"),
        (WELL_KNOWN, code::ATOMIC_AGGREGATE, 0, "announce 1: atomic-aggregate-length"),
        (TRANSITIVE, code::AGGREGATOR, 8, "announce 1: aggregator-length"),
        (NON_TRANSITIVE, code::ORIGINATOR_ID, 4, "withdraw 1: originator-id-length"),
    ] {
        for length in [0, 1, 3, 4, 5, 6, 7, 8, 9, 16] {
            let expected = if length == good { "announce 1" } else { verdict };
            let value = vec![1; length];
            assert_values(&internal(), flags, code, &[(verdict, &value, expected)]);
        }
    }
}

#[test]
fn lists_that_are_empty_or_not_whole() {
    for (flags, code, element, reason) in [
        (TRANSITIVE, code::COMMUNITIES, 4, "withdraw 1: communities-length"),
        (NON_TRANSITIVE, code::CLUSTER_LIST, 4, "withdraw 1: cluster-list-length"),
        (TRANSITIVE, code::EXTENDED_COMMUNITIES, 8, "withdraw 1: extended-communities-length"),
        (TRANSITIVE, code::IPV6_EXTENDED_COMMUNITIES, 20, "withdraw 1: ipv6-extended-communities-length"),
        (TRANSITIVE, code::LARGE_COMMUNITY, 12, "withdraw 1: large-communities-length"),
    ] {
        for length in [0, 1, 3, element - 1, element + 1, 2 * element + 1] {
            assert_values(&internal(), flags, code, &[(reason, &vec![0; length], reason)]);
        }
        assert_values(&internal(), flags, code, &[(reason, &vec![0; element * 3], "announce 1")]);
    }
}

#[test]
fn attributes_of_our_own_as_are_dropped_from_another_in_any_form() {
    let expected = "announce 1: internal-attribute-from-external, internal-attribute-from-external";
    assert_values(
        &external(),
        NON_TRANSITIVE,
        code::ORIGINATOR_ID,
        &[("good", &[1; 4], expected), ("bad", &[1; 3], expected)],
    );
    let message = body(&[], &announcement_with(attribute(NON_TRANSITIVE, code::CLUSTER_LIST, &[])), &[]);
    let update = decode(message, &external()).unwrap();
    let attributes = update.reach.unwrap().attributes;
    assert_eq!((attributes.local_pref, attributes.cluster_list.len()), (None, 0));
    assert_eq!(update.findings.iter().map(|finding| finding.attribute).collect::<Vec<_>>(), [Some(5), Some(10)]);
}

#[test]
fn as4_attributes() {
    let ctx = DecodeContext { four_octet_as: false, ..internal() };
    let two_octet = |extra: &[Vec<u8>]| {
        let path = attribute(WELL_KNOWN, code::AS_PATH, &[2, 3, 0xfd, 0xe9, 0x5b, 0xa0, 0x5b, 0xa0]);
        body(&[], &[announcement_with(path), extra.to_vec()].concat(), &[])
    };
    let as4_path = |value: &[u8]| attribute(TRANSITIVE, code::AS4_PATH, value);
    let as4_aggregator = attribute(TRANSITIVE, code::AS4_AGGREGATOR, &[0, 1, 0, 0, 10, 0, 0, 1]);
    let aggregator = |asn: [u8; 2]| attribute(TRANSITIVE, code::AGGREGATOR, &[asn[0], asn[1], 10, 0, 0, 2]);
    let good = as4_path(&[2, 1, 0, 1, 0, 0]);
    for (name, extra, path, expected) in [
        ("shorter path is completed", vec![good.clone()], vec![65_001, 23_456, 65_536], "announce 1"),
        (
            "longer path is ignored",
            vec![as4_path(&[2, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4])],
            vec![65_001, 23_456, 23_456],
            "announce 1",
        ),
        (
            "confederation segments are left out",
            vec![as4_path(&[3, 1, 0, 0, 0, 9, 2, 1, 0, 1, 0, 0])],
            vec![65_001, 23_456, 65_536],
            "announce 1",
        ),
        ("empty", vec![as4_path(&[])], vec![65_001, 23_456, 23_456], "announce 1: as4-path-length"),
        (
            "overrun",
            vec![as4_path(&[2, 2, 0, 1, 0, 0])],
            vec![65_001, 23_456, 23_456],
            "announce 1: as4-path-malformed",
        ),
        ("AS 0", vec![as4_path(&[2, 1, 0, 0, 0, 0])], vec![65_001, 23_456, 23_456], "announce 1: as4-path-malformed"),
        (
            "aggregated by a speaker that knows nothing of this",
            vec![aggregator([0xfd, 0xe8]), good, as4_aggregator],
            vec![65_001, 23_456, 23_456],
            "announce 1",
        ),
    ] {
        let message = two_octet(&extra);
        let update = decode(message.clone(), &ctx).unwrap();
        let read: Vec<Asn> = update.reach.unwrap().attributes.as_path.iter().collect();
        assert_eq!(read, path.into_iter().map(Asn).collect::<Vec<_>>(), "{name}");
        assert_eq!(verdict(message, &ctx), expected, "{name}");
    }
    let set = two_octet(&[as4_path(&[1, 1, 0, 1, 0, 0])]);
    assert_eq!(verdict(set, &ctx), "withdraw 1: as4-path-set");
    assert_values(
        &internal(),
        TRANSITIVE,
        code::AS4_PATH,
        &[("from a peer that has no use for it", &[9, 9], "announce 1: as4-attribute-from-four-octet-peer")],
    );
}

#[test]
fn aggregator() {
    assert_values(
        &internal(),
        TRANSITIVE,
        code::AGGREGATOR,
        &[("AS 0", &[0, 0, 0, 0, 10, 0, 0, 1], "announce 1: aggregator-zero")],
    );
    let two_octet = DecodeContext { four_octet_as: false, ..internal() };
    let path = attribute(WELL_KNOWN, code::AS_PATH, &[]);
    for (value, expected) in
        [(&[0xfd, 0xe8, 10, 0, 0, 1][..], "announce 1"), (&[0, 0, 0, 1, 10, 0, 0, 1], "announce 1: aggregator-length")]
    {
        let attributes = [announcement_with(path.clone()), vec![attribute(TRANSITIVE, code::AGGREGATOR, value)]];
        assert_eq!(verdict(body(&[], &attributes.concat(), &[]), &two_octet), expected);
    }
}

#[test]
fn thousands_of_communities_are_kept_once_each_in_their_order() {
    let value: Vec<u8> = (0..8_000_u64).chain(0..100).flat_map(|number| number.to_be_bytes()).collect();
    let message = body(&[], &announcement_with(attribute(TRANSITIVE, code::EXTENDED_COMMUNITIES, &value)), &[]);
    let communities = decode(message, &internal()).unwrap().reach.unwrap().attributes.extended_communities;
    assert_eq!(communities.len(), 8_000);
    assert!(communities.is_sorted());
}

#[test]
fn pmsi_tunnel() {
    let undefined = "withdraw 1: pmsi-tunnel-type";
    let endpoint = "withdraw 1: pmsi-endpoint-length";
    assert_values(
        &internal(),
        TRANSITIVE,
        code::PMSI_TUNNEL,
        &[
            ("empty", &[], "withdraw 1: pmsi-length"),
            ("four octets", &[0, 6, 0, 0], "withdraw 1: pmsi-length"),
            ("undefined type", &[0, 255, 0, 0, 1, 10, 0, 0, 1], undefined),
            ("unassigned type", &[0, 0x20, 0, 0, 1], undefined),
            ("endpoint missing", &[0, 6, 0, 0, 1], endpoint),
            ("endpoint of 5 octets", &[0, 6, 0, 0, 1, 1, 2, 3, 4, 5], endpoint),
            (
                "endpoint of 17 octets",
                &[0, 6, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17],
                endpoint,
            ),
            ("no tunnel", &[0, 0, 0, 0, 1], "announce 1"),
            ("PIM-SSM", &[0, 3, 0, 0, 1, 10, 0, 0, 1, 232, 0, 0, 1], "announce 1"),
        ],
    );
}

#[test]
fn carried_attributes_that_are_damaged_do_not_travel() {
    assert_values(
        &internal(),
        TRANSITIVE,
        code::TUNNEL_ENCAPSULATION,
        &[
            ("empty", &[], "announce 1: tunnel-encapsulation-empty"),
            ("three octets", &[0, 8, 0], "withdraw 1: tunnel-encapsulation-length"),
            ("TLV past the end", &[0, 8, 0, 1], "withdraw 1: tunnel-encapsulation-length"),
            ("short sub-TLV past the end", &[0, 8, 0, 3, 1, 2, 0], "announce 1: tunnel-encapsulation-sub-tlv"),
            ("long sub-TLV past the end", &[0, 8, 0, 4, 128, 0, 2, 0], "announce 1: tunnel-encapsulation-sub-tlv"),
            ("sub-TLV without length", &[0, 8, 0, 1, 1], "announce 1: tunnel-encapsulation-sub-tlv"),
            ("good", &[0, 8, 0, 6, 1, 1, 0, 128, 0, 0], "announce 1"),
            ("thousands of tunnels", &[0, 8, 0, 0].repeat(10_000), "announce 1: tunnel-encapsulation-count"),
        ],
    );
    assert_values(
        &internal(),
        TRANSITIVE,
        code::ONLY_TO_CUSTOMER,
        &[
            ("empty", &[], "withdraw 1: otc-length"),
            ("three octets", &[0; 3], "withdraw 1: otc-length"),
            ("five octets", &[0; 5], "withdraw 1: otc-length"),
            ("1,024 octets", &[0; 1_024], "withdraw 1: otc-length"),
            ("AS 0", &[0; 4], "withdraw 1: otc-zero"),
            ("good", &[0, 0, 0, 1], "announce 1"),
        ],
    );
    let discarded = "announce 1: next-hop-characteristics-length";
    assert_values(
        &internal(),
        TRANSITIVE,
        code::NEXT_HOP_CHARACTERISTICS,
        &[
            ("empty", &[], discarded),
            ("header across the end", &[0, 1, 1, 4, 10, 0, 0, 1, 0, 3, 0], discarded),
            ("value past the end", &[0, 1, 1, 4, 10, 0, 0, 1, 0, 3, 0, 9, 1], discarded),
            ("good", &[0, 1, 1, 4, 10, 0, 0, 1, 0, 3, 0, 1, 1], "announce 1"),
        ],
    );
    assert_values(
        &internal(),
        TRANSITIVE,
        code::ENTROPY_LABEL,
        &[("with a value", &[1], "announce 1: entropy-label-length"), ("good", &[], "announce 1")],
    );
    assert_values(
        &internal(),
        TRANSITIVE,
        code::PREFIX_SID,
        &[
            ("cut", &[1, 0, 7, 0], "announce 1: prefix-sid-length"),
            ("good", &[1, 0, 7, 0, 0, 0, 0, 0, 0, 1], "announce 1"),
        ],
    );
    assert_values(&internal(), TRANSITIVE, code::AIGP, &[("transitive", &[1, 0, 3], "announce 1: aigp-transitive")]);
    assert_values(&internal(), NON_TRANSITIVE, code::AIGP, &[("bad length", &[1, 0, 99], "announce 1")]);
}

#[test]
fn mac_mobility_given_twice_counts_with_the_higher_sequence() {
    let community = |sequence: u8| [6, 0, 0, 0, 0, 0, 0, sequence];
    for order in [[3, 7], [7, 3]] {
        let value = order.map(community).concat();
        let message = body(&[], &announcement_with(attribute(TRANSITIVE, code::EXTENDED_COMMUNITIES, &value)), &[]);
        let attributes = decode(message, &internal()).unwrap().reach.unwrap().attributes;
        assert_eq!(attributes.mac_mobility().sequence, 7);
    }
}

#[test]
fn the_partial_bit_of_an_understood_attribute_is_kept() {
    let message = body(&[], &announcement_with(attribute(TRANSITIVE | 0x20, code::COMMUNITIES, &[0; 4])), &[]);
    let update = decode(message, &internal()).unwrap();
    let attributes = &update.reach.as_ref().unwrap().attributes;
    assert!(attributes.partial.contains(code::COMMUNITIES));
    assert!(!attributes.partial.contains(code::EXTENDED_COMMUNITIES));
    let ctx = crate::wire::EncodeContext { four_octet_as: true, ..crate::wire::EncodeContext::default() };
    let encoded = crate::wire::EncodedAttributes::new(attributes, &ctx);
    assert!(encoded.as_bytes().ends_with(&[0xe0, code::COMMUNITIES, 4, 0, 0, 0, 0]));
}
