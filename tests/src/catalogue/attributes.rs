//! Section D: path attributes.

use super::framing::EXTENDED_MESSAGE;
use super::stage::Stage;
use super::{Profile, Row, Verdict, evidence};
use crate::bgp::{self, attribute, update};
use crate::fabric::LAN;
use crate::wait;

/// Capability 65: AS numbers of four octets (RFC 6793); ours.
const FOUR_OCTET_AS: [u8; 6] = [65, 4, 0, 0, 0xfd, 0xe8];
const WELL_KNOWN: u8 = 0x40;
const TRANSITIVE: u8 = 0xc0;
const NON_TRANSITIVE: u8 = 0x80;
/// Octets of a message without the extension (RFC 4271 section 4.1).
const SMALL_MESSAGE: usize = 4_096;
/// Tunnel types (RFC 9012 section 4.1): VXLAN, MPLS, and one that nobody has assigned.
const VXLAN: u16 = 8;
/// See [`VXLAN`].
const MPLS: u16 = 10;
/// See [`VXLAN`].
const UNASSIGNED: u16 = 0x7777;

/// All rows.
pub fn rows() -> Vec<Row> {
    [values(), external(), large(), loops(), next_hops(), carried(), communities(), floods(), budget()]
        .into_iter()
        .flatten()
        .collect()
}

/// A value of one attribute, and what it costs: row, flags, type, value, what, RFC, rule.
type Value = (&'static str, u8, u8, Vec<u8>, &'static str, &'static str, &'static str);

fn played(values: Vec<Value>, verdict: Verdict) -> Vec<Row> {
    let row = |(id, flags, kind, value, what, rfc, rule): Value| {
        let attribute = attribute(flags, kind, &value);
        Row::session(id, what, rfc, verdict, move |actor| actor.key_but(kind, attribute.clone())).breaks(rule)
    };
    values.into_iter().map(row).collect()
}

/// Values that are wrong by themselves: treated as withdrawal.
fn values() -> Vec<Row> {
    let path = |value: &[u8], id, what, rfc, rule| (id, WELL_KNOWN, 2, value.to_vec(), what, rfc, rule);
    let origin = |value: &[u8], id, what, rule| (id, WELL_KNOWN, 1, value.to_vec(), what, "RFC 7606 7.1", rule);
    let mut values = vec![
        origin(&[], "D01", "ORIGIN without a value", "origin-length"),
        origin(&[0, 0], "D01", "ORIGIN of two octets", "origin-length"),
        origin(&[3], "D02", "ORIGIN 3", "origin-value"),
        origin(&[255], "D02", "ORIGIN 255", "origin-value"),
        ("D03", 0x00, 1, vec![0], "ORIGIN that is not transitive", "RFC 7606 3(c)", "attribute-flags"),
        path(&[0, 1, 0, 1], "D05", "AS_PATH segment type 0", "RFC 7606 7.2", "as-path-segment-type"),
        path(&[5, 1, 0, 1], "D05", "AS_PATH segment type 5", "RFC 7606 7.2", "as-path-segment-type"),
        path(&[255, 1, 0, 1], "D05", "AS_PATH segment type 255", "RFC 7606 7.2", "as-path-segment-type"),
        path(&[2, 0], "D06", "AS_PATH segment of no number", "RFC 7606 7.2", "as-path-empty-segment"),
        path(&[2, 2, 0, 1], "D07", "AS_PATH segment beyond its end", "RFC 7606 7.2", "as-path-length"),
        path(&[2, 1, 0], "D07", "AS_PATH that lacks an octet", "RFC 7606 7.2", "as-path-length"),
        path(&[2, 1, 0, 1, 2], "D07", "AS_PATH with an octet left", "RFC 7606 7.2", "as-path-length"),
        path(&[2, 2, 0, 1, 0, 0], "D08", "AS 0 in AS_PATH", "RFC 7607 2", "as-path-zero"),
        path(&[1, 1, 0, 1], "D09", "AS_SET", "RFC 9774 3", "as-path-set"),
        path(&[3, 1, 0, 1], "D10", "AS_CONFED_SEQUENCE", "RFC 5065 5", "as-path-confederation"),
        path(&[4, 1, 0, 1], "D10", "AS_CONFED_SET", "RFC 5065 5", "as-path-confederation"),
    ];
    type Lengths = (&'static str, u8, u8, &'static [usize], &'static str, &'static str, &'static str);
    let lengths: [Lengths; 11] = [
        ("D15", WELL_KNOWN, 3, &[0, 3, 16], "NEXT_HOP", "RFC 7606 7.3", "next-hop-length"),
        ("D17", NON_TRANSITIVE, 4, &[0, 3, 5], "MULTI_EXIT_DISC", "RFC 7606 7.4", "med-length"),
        ("D18", WELL_KNOWN, 5, &[0, 3, 5], "LOCAL_PREF", "RFC 7606 7.5", "local-pref-length"),
        ("D24", NON_TRANSITIVE, 9, &[0, 3, 5], "ORIGINATOR_ID", "RFC 7606 7.9", "originator-id-length"),
        ("D28", NON_TRANSITIVE, 10, &[0, 5], "CLUSTER_LIST", "RFC 7606 7.10", "cluster-list-length"),
        ("D30", TRANSITIVE, 16, &[0, 7, 9], "EXTENDED_COMMUNITIES", "RFC 7606 7.14", "extended-communities-length"),
        (
            "D32",
            TRANSITIVE,
            25,
            &[0, 3, 21],
            "IPv6 extended communities",
            "RFC 7606 7.15",
            "ipv6-extended-communities-length",
        ),
        ("D33", TRANSITIVE, 32, &[0, 13], "LARGE_COMMUNITY", "RFC 8092 6", "large-communities-length"),
        ("D34", TRANSITIVE, 22, &[0, 4], "PMSI_TUNNEL", "RFC 6514 5", "pmsi-length"),
        ("D42", TRANSITIVE, 35, &[0, 3, 5, 1_024], "ONLY_TO_CUSTOMER", "RFC 9234 5", "otc-length"),
        ("D23", TRANSITIVE, 8, &[0, 3, 5], "COMMUNITIES", "RFC 7606 7.8", "communities-length"),
    ];
    let mut rows = Vec::new();
    for (id, flags, kind, wrong, name, rfc, rule) in lengths {
        for length in wrong {
            let octets = attribute(flags, kind, &vec![1; *length]);
            let what = format!("{name} of {length} octets");
            let row = Row::session(id, what, rfc, Verdict::Withdrawn, move |actor| actor.key_but(kind, octets.clone()));
            rows.push(row.breaks(rule));
        }
    }
    let pmsi = |value: &[u8], what, rule| ("D34", TRANSITIVE, 22, value.to_vec(), what, "RFC 6514 5", rule);
    values.extend([
        pmsi(&[0, 255, 0, 0, 1, 10, 0, 0, 1], "PMSI tunnel type 255", "pmsi-tunnel-type"),
        pmsi(&[0, 6, 0, 0, 1, 1, 2, 3, 4, 5], "an endpoint of 5 octets", "pmsi-endpoint-length"),
        pmsi(&[&[0, 6, 0, 0, 1], &[1; 17][..]].concat(), "an endpoint of 17 octets", "pmsi-endpoint-length"),
        ("D42", TRANSITIVE, 35, vec![0; 4], "ONLY_TO_CUSTOMER of AS 0", "RFC 9234 5", "otc-zero"),
    ]);
    rows.extend(played(values, Verdict::Withdrawn));
    let discarded: Vec<Value> = vec![
        (
            "D14",
            TRANSITIVE,
            17,
            vec![2, 1, 0, 0, 0, 9],
            "AS4_PATH",
            "RFC 6793 4.1",
            "as4-attribute-from-four-octet-peer",
        ),
        ("D14", TRANSITIVE, 18, vec![9, 9], "AS4_AGGREGATOR", "RFC 6793 4.1", "as4-attribute-from-four-octet-peer"),
    ];
    let four = played(discarded, Verdict::Trimmed).into_iter().map(|row| row.with_capabilities(&FOUR_OCTET_AS));
    rows.extend(four);
    let aggregator = |value: &[u8], what, rule| ("D21", TRANSITIVE, 7, value.to_vec(), what, "RFC 7606 7.7", rule);
    let discarded = vec![
        ("D20", WELL_KNOWN, 6, vec![1], "ATOMIC_AGGREGATE of an octet", "RFC 7606 7.6", "atomic-aggregate-length"),
        aggregator(&[1; 5], "AGGREGATOR of 5 octets", "aggregator-length"),
        aggregator(&[1; 7], "AGGREGATOR of 7 octets", "aggregator-length"),
        aggregator(&[1; 8], "AGGREGATOR of 8 octets, where AS numbers have 2", "aggregator-length"),
        aggregator(&[1; 9], "AGGREGATOR of 9 octets", "aggregator-length"),
        aggregator(&[0, 0, 10, 0, 0, 1], "AGGREGATOR of AS 0", "aggregator-zero"),
    ];
    rows.extend(played(discarded, Verdict::Trimmed));
    rows
}

/// D19, D25: what does not cross the border of an AS, in any form.
fn external() -> Vec<Row> {
    let rule = "internal-attribute-from-external";
    let values = vec![
        ("D19", WELL_KNOWN, 5, vec![0, 0, 0, 200], "LOCAL_PREF from another AS", "RFC 7606 7.5", rule),
        ("D19", WELL_KNOWN, 5, vec![1], "a bad LOCAL_PREF from another AS", "RFC 7606 7.5", rule),
        ("D25", NON_TRANSITIVE, 9, vec![1; 4], "ORIGINATOR_ID from another AS", "RFC 7606 7.9", rule),
        ("D25", NON_TRANSITIVE, 9, vec![1; 3], "a bad ORIGINATOR_ID from another AS", "RFC 7606 7.9", rule),
        ("D25", NON_TRANSITIVE, 10, vec![10, 0, 0, 1], "our own CLUSTER_LIST from another AS", "RFC 7606 7.10", rule),
    ];
    played(values, Verdict::Trimmed).into_iter().map(|row| row.on(Profile::External)).collect()
}

/// D11, D23, D29: right, and larger than some who are to hear of it can take.
fn large() -> Vec<Row> {
    fn path(segments: usize, numbers: usize, number: &[u8]) -> Vec<u8> {
        let segment = [&[2, u8::try_from(numbers).unwrap_or(u8::MAX)], &number.repeat(numbers)[..]].concat();
        attribute(WELL_KNOWN, 2, &segment.repeat(segments))
    }
    vec![
        Row::script("D11", "AS_PATH of 16000 numbers of four octets", "RFC 4271 4.3, RFC 8654", |stage| {
            let big = stage.actor.key_but(2, path(64, 250, &[0, 0, 0x12, 0x34]));
            stage.assert_withheld_from_small_messages(&[&EXTENDED_MESSAGE[..], &FOUR_OCTET_AS].concat(), &big);
        }),
        Row::script(
            "D11",
            "AS_PATH of 16000 numbers of two octets, twice as long on the way out",
            "RFC 6793 4.2.2",
            |stage| {
                let big = stage.actor.key_but(2, path(64, 250, &[0x12, 0x34]));
                stage.assert_withheld_from_small_messages(&EXTENDED_MESSAGE, &big);
            },
        ),
        Row::session(
            "D11",
            "AS_PATH of 30000 numbers, which fits no message on the way out",
            "policy: max_route_attribute_octets",
            Verdict::Withdrawn,
            |actor| actor.key_but(2, path(120, 250, &[0x12, 0x34])),
        )
        .with_capabilities(&EXTENDED_MESSAGE)
        .breaks("route-attributes"),
        Row::script("D23", "1000 communities", "RFC 1997", |stage| {
            let list: Vec<u8> = (0..1_000_u32).flat_map(u32::to_be_bytes).collect();
            let big = stage.actor.key_and(&[attribute(TRANSITIVE, 8, &list)]);
            stage.assert_withheld_from_small_messages(&EXTENDED_MESSAGE, &big);
        }),
        Row::script("D23", "8000 extended communities", "RFC 4360", |stage| {
            let mut list = vec![0, 2, 0xfd, 0xe8, 0, 0, 0, u8::try_from(LAN).unwrap_or_default()];
            list.extend((1..8_000_u64).flat_map(|number| (0x4300_u64 << 48 | number).to_be_bytes()));
            let big = stage.actor.key_but(16, attribute(TRANSITIVE, 16, &list));
            stage.assert_withheld_from_small_messages(&EXTENDED_MESSAGE, &big);
        }),
        Row::session("D29", "CLUSTER_LIST of 900 ids", "RFC 4456 8", Verdict::Accepted, |actor| {
            actor.key_and(&[attribute(NON_TRANSITIVE, 10, &clusters(900))])
        }),
        Row::script(
            "D29",
            "the longest CLUSTER_LIST that fits, and does not with one id more",
            "RFC 4271 9.2",
            |stage| {
                let actor = stage.actor;
                let with = |ids: usize| actor.key_and(&[attribute(NON_TRANSITIVE, 10, &clusters(ids))]);
                let longest = (900..).take_while(|ids| with(*ids).len() <= SMALL_MESSAGE).last().unwrap_or(900);
                assert!(with(longest).len() + 4 > SMALL_MESSAGE);
                stage.assert_withheld_from_small_messages(&[], &with(longest));
            },
        ),
    ]
}

/// A list of ids that are nobody's.
fn clusters(count: usize) -> Vec<u8> {
    (0..count).flat_map(|id| (0x0b00_0000_u32 + u32::try_from(id).unwrap_or_default()).to_be_bytes()).collect()
}

/// D12, D26, D27: well-formed, but not for us; the earlier route goes.
fn loops() -> Vec<Row> {
    vec![
        Row::session("D12", "our AS in AS_PATH", "RFC 4271 9.1.2", Verdict::Withdrawn, |actor| {
            actor.key_but(2, attribute(WELL_KNOWN, 2, &[2, 2, 0, 9, 0xfd, 0xe8]))
        })
        .breaks("as-path-loop"),
        Row::session("D26", "our own ORIGINATOR_ID", "RFC 4456 8", Verdict::Withdrawn, |actor| {
            actor.key_and(&[attribute(NON_TRANSITIVE, 9, &actor.daemon)])
        })
        .breaks("originator-loop"),
        // Only a reflector has a cluster; its id is the reflector's unless set.
        Row::script("D27", "our cluster id in CLUSTER_LIST", "RFC 4456 8", |stage| {
            let mut connection = stage.establish(&[]);
            stage.install_key(&mut connection);
            let list = [&[9, 9, 9, 9][..], &stage.actor.daemon].concat();
            connection.send(&stage.actor.key_and(&[attribute(NON_TRANSITIVE, 10, &list)]));
            stage.scene.wait_gone(stage.actor.key);
            stage.barrier(&mut connection);
            stage.assert_up();
            assert!(stage.counted("cluster-loop") > 0);
            stage.connection = Some(connection);
        }),
    ]
}

/// D16: next hops that nobody can have.
fn next_hops() -> Vec<Row> {
    let mut rows = Vec::new();
    let mapped = |last: [u8; 4]| [&[0; 10][..], &[0xff, 0xff], &last].concat();
    for (what, next_hop) in [
        ("0.0.0.0", vec![0, 0, 0, 0]),
        ("0.1.2.3", vec![0, 1, 2, 3]),
        ("127.0.0.1", vec![127, 0, 0, 1]),
        ("224.0.0.1", vec![224, 0, 0, 1]),
        ("240.0.0.1", vec![240, 0, 0, 1]),
        ("255.255.255.255", vec![255; 4]),
        ("::", vec![0; 16]),
        ("::1", [&[0; 15][..], &[1]].concat()),
        ("ff02::1", [&[0xff, 2], &[0; 13][..], &[1]].concat()),
        ("::ffff:127.0.0.1", mapped([127, 0, 0, 1])),
        ("::ffff:10.0.0.11", mapped([10, 0, 0, 11])),
    ] {
        let row = Row::session("D16", format!("next hop {what}"), "RFC 4271 6.3", Verdict::Withdrawn, move |actor| {
            update(&[actor.base(), vec![bgp::reach_via(&next_hop, &[actor.key_route()])]].concat())
        });
        rows.push(row.breaks("next-hop-invalid"));
    }
    // Chosen: a reflector forwards nothing, and a worker on its own host has its address; so it reflects such routes. A
    // worker does not use a next hop that is its own: F29.
    rows.push(Row::session(
        "D16",
        "the reflector's own address as next hop",
        "RFC 4271 6.3",
        Verdict::Accepted,
        |actor| update(&[actor.base(), vec![bgp::reach([10, 0, 0, 1], &[actor.key_route()])]].concat()),
    ));
    rows
}

/// D37 to D46: attributes that are not understood here, or only checked.
fn carried() -> Vec<Row> {
    let encapsulation = |value: &[u8], id, what, rule| (id, TRANSITIVE, 23, value.to_vec(), what, "RFC 9012 13", rule);
    let withdrawn = vec![
        encapsulation(&[0, 8, 0, 1], "D37", "a tunnel TLV past the end", "tunnel-encapsulation-length"),
        encapsulation(&[0, 8, 0], "D37", "a tunnel encapsulation of 3 octets", "tunnel-encapsulation-length"),
    ];
    let characteristics = |value: &[u8], what| {
        ("D43", TRANSITIVE, 39, value.to_vec(), what, "RFC 7606 4", "next-hop-characteristics-length")
    };
    let discarded = vec![
        encapsulation(&[0, 8, 0, 3, 1, 2, 0], "D37", "a sub-TLV past its TLV", "tunnel-encapsulation-sub-tlv"),
        encapsulation(
            &[0, 8, 0, 4, 128, 0, 2, 0],
            "D37",
            "a long sub-TLV past its TLV",
            "tunnel-encapsulation-sub-tlv",
        ),
        (
            "D41",
            TRANSITIVE,
            28,
            vec![0x5e, 0xed, 0x5e, 0xed],
            "an entropy label with a value",
            "RFC 6790 5.2",
            "entropy-label-length",
        ),
        characteristics(&[0, 1, 1, 4, 10, 0, 0, 1, 0, 3, 0], "a TLV header across the end"),
        characteristics(&[0, 1, 1, 4, 10, 0, 0, 1, 0, 3, 0, 9, 1], "a TLV past the end"),
        ("D44", TRANSITIVE, 26, vec![1, 0, 3], "a transitive AIGP", "RFC 7311 3.1", "aigp-transitive"),
    ];
    let mut rows = played(withdrawn, Verdict::Withdrawn);
    rows.extend(played(discarded, Verdict::Trimmed).into_iter().map(|row| {
        row.also(|stage| assert!(!stage.observed(&[0x5e, 0xed, 0x5e, 0xed]), "a damaged attribute was carried on"))
    }));
    rows.push(
        Row::session("D38", "a tunnel encapsulation of 15000 empty TLVs", "RFC 9012 2", Verdict::Trimmed, |actor| {
            actor.key_and(&[attribute(TRANSITIVE, 23, &[0, 8, 0, 0].repeat(15_000))])
        })
        .with_capabilities(&EXTENDED_MESSAGE)
        .breaks("tunnel-encapsulation-count"),
    );
    rows.push(Row::session(
        "D44",
        "an AIGP that is not transitive, malformed",
        "RFC 7311 3.1",
        Verdict::Accepted,
        |actor| actor.key_and(&[attribute(NON_TRANSITIVE, 26, &[1, 0, 99])]),
    ));
    // Never parsed: carried on as they are where transitive.
    for (id, kinds) in [("D45", &[20, 21, 29, 128][..]), ("D46", &[11, 12, 13, 19, 20, 21])] {
        for kind in kinds.iter().copied() {
            let value = [0x0d, kind, 0xff, 0xff];
            for (flags, carried) in [(TRANSITIVE, true), (NON_TRANSITIVE, false)] {
                let what = format!("type {kind} on an EVPN session, flags {flags:#04x}");
                let row = Row::session(id, what, "RFC 4271 5", Verdict::Accepted, move |actor| {
                    actor.key_and(&[attribute(flags, kind, &value)])
                });
                rows.push(row.also(move |stage| assert_eq!(stage.observed(&value), carried, "carried on")));
            }
        }
    }
    rows.push(Row::session("D46", "type 28 without a value", "RFC 7447", Verdict::Accepted, |actor| {
        actor.key_and(&[attribute(TRANSITIVE, 28, &[])])
    }));
    rows
}

/// The extended communities of a route of the LAN, and these.
fn with_communities(more: &[[u8; 8]]) -> Vec<u8> {
    let target = [0, 2, 0xfd, 0xe8, 0, 0, 0, u8::try_from(LAN).unwrap_or_default()];
    attribute(TRANSITIVE, 16, &[&[target], more].concat().concat())
}

fn encapsulation(tunnel: u16) -> [u8; 8] {
    let [high, low] = tunnel.to_be_bytes();
    [3, 0x0c, 0, 0, 0, 0, high, low]
}

/// D39, D47, D48.
fn communities() -> Vec<Row> {
    let mut rows = Vec::new();
    for (what, offered) in [
        ("VXLAN beside MPLS", &[MPLS, VXLAN][..]),
        ("VXLAN beside an unassigned type", &[UNASSIGNED, VXLAN]),
        ("none: VXLAN is meant", &[]),
    ] {
        let communities = with_communities(&offered.iter().copied().map(encapsulation).collect::<Vec<_>>());
        let what = format!("encapsulations offered: {what}");
        rows.push(Row::session("D39", what, "RFC 8365 5.1.3", Verdict::Accepted, move |actor| {
            actor.key_but(16, communities.clone())
        }));
    }
    rows.push(Row::script("D39", "no VXLAN among the encapsulations offered: not usable", "RFC 8365 5.1.3", |stage| {
        for offered in [&[MPLS][..], &[UNASSIGNED], &[MPLS, UNASSIGNED]] {
            let communities = with_communities(&offered.iter().copied().map(encapsulation).collect::<Vec<_>>());
            evidence::assert_not_used(stage, "does not offer VXLAN", |actor| actor.key_but(16, communities.clone()));
        }
    }));
    for (what, order) in [("the lower one first", [3, 7]), ("the higher one first", [7, 3])] {
        let what = format!("MAC mobility twice, {what}: the higher sequence counts");
        let communities = with_communities(&order.map(|sequence| [6, 0, 0, 0, 0, 0, 0, sequence]));
        rows.push(
            Row::session("D47", what, "RFC 7432 7.7", Verdict::Trimmed, move |actor| {
                actor.key_but(16, communities.clone())
            })
            .breaks("mac-mobility-twice")
            .also(|stage| {
                for worker in &stage.scene.fabric.workers {
                    let row = worker.macs().into_iter().find(|row| row.mac == super::actor::text(stage.actor.key));
                    assert_eq!(row.map(|row| row.sequence), Some(7), "the sequence that counts");
                }
            }),
        );
    }
    for (what, mac) in [("multicast", [1, 0, 0, 0, 0, 1]), ("broadcast", [0xff; 6]), ("zero", [0; 6])] {
        let [a, b, c, d, e, f] = mac;
        let communities = with_communities(&[[6, 3, a, b, c, d, e, f]]);
        let what = format!("a Router's MAC that is {what}, on a route of type 5");
        rows.push(
            Row::session("D48", what, "RFC 9135 8.1", Verdict::Trimmed, move |actor| {
                let mut attributes = actor.base();
                attributes.retain(|attribute| attribute.get(1) != Some(&16));
                attributes.push(communities.clone());
                let prefix = bgp::PrefixRoute::of(actor.octets(), LAN, [10, 77, 0, 0], 16);
                actor.update_with(attributes, &[prefix.nlri(), actor.key_route()])
            })
            .breaks("evpn-router-mac")
            .also(|stage| {
                let routes = stage.scene.best_routes();
                assert!(
                    !routes.keys().any(|route| route.contains("10.77.0.0")),
                    "the prefix was announced: {routes:?}"
                );
            }),
        );
    }
    rows
}

/// D35, D36: who asks for flooded frames, and where they go.
fn floods() -> Vec<Row> {
    /// A route of type 3 with this PMSI_TUNNEL: reflected, and no worker floods to its next hop, nor to `victim`.
    fn assert_no_flood(
        stage: &mut Stage<'_>,
        originator: [u8; 4],
        pmsi: Option<Vec<u8>>,
        victim: [u8; 4],
        reason: &str,
    ) {
        let mut connection = stage.establish(&[]);
        let actor = stage.actor;
        let route = bgp::multicast_route(actor.octets(), LAN, &originator);
        let good =
            [actor.base(), vec![bgp::pmsi(LAN, &actor.octets()), actor.reach(std::slice::from_ref(&route))]].concat();
        connection.send(&update(&good));
        wait::until_true("the actor to be flooded to", || stage.scene.floods_to(actor.ip()));
        let bad = [actor.base(), pmsi.into_iter().collect(), vec![actor.reach(&[route])]].concat();
        connection.send(&update(&bad));
        wait::until_true("the actor to be flooded to no more", || !stage.scene.floods_to(actor.ip()));
        stage.barrier(&mut connection);
        assert!(!stage.scene.floods_to(victim.into()), "frames go to a third party");
        stage.wait_said_of_route(&format!("[3][{}", super::evpn::text_of_distinguisher(&actor)), reason);
        stage.assert_up();
        stage.connection = Some(connection);
    }
    vec![
        Row::script("D35", "a route of type 3 without PMSI_TUNNEL", "RFC 7432 11.2, RFC 8365 9", |stage| {
            assert_no_flood(stage, stage.actor.octets(), None, [0; 4], "no PMSI tunnel attribute");
        }),
        Row::script("D35", "a route of type 3 with a PIM tunnel", "RFC 7432 11.2", |stage| {
            let pim = attribute(TRANSITIVE, 22, &[0, 3, 0, 0, 100, 10, 0, 0, 1, 232, 0, 0, 1]);
            assert_no_flood(stage, stage.actor.octets(), Some(pim), [232, 0, 0, 1], "not ingress replication");
        }),
        Row::script("D36", "a tunnel endpoint that is a third party's", "RFC 7432 11.2", |stage| {
            let victim = [10, 0, 0, 77];
            assert_no_flood(stage, stage.actor.octets(), Some(bgp::pmsi(LAN, &victim)), victim, "its flood endpoint");
        }),
        Row::script("D36", "tunnel endpoint and originator that are a third party's", "RFC 7432 11.2", |stage| {
            let victim = [10, 0, 0, 77];
            assert_no_flood(stage, victim, Some(bgp::pmsi(LAN, &victim)), victim, "its flood endpoint");
        }),
    ]
}

/// D50: each route with attributes of its own.
fn budget() -> Vec<Row> {
    vec![
        Row::script("D50", "routes without end, each with attributes of its own", "RFC 4486 4", |stage| {
            let mut connection = stage.establish(&EXTENDED_MESSAGE);
            let actor = stage.actor;
            // Nobody is a member of these LANs, so the workers need not hear of them.
            for number in 0_u32..4_000 {
                let [_, a, b, c] = number.to_be_bytes();
                let route = bgp::mac_route(actor.octets(), 4_711, [2, 0xcc, 0, a, b, c]);
                let list: Vec<u8> = (0..64_u32).flat_map(|low| (number << 8 | low).to_be_bytes()).collect();
                let attributes = [bgp::base(4_711), vec![attribute(TRANSITIVE, 8, &list)]].concat();
                connection.send(&actor.update_with(attributes, &[route]));
            }
            stage.assert_end(&mut connection, Some((6, 8)));
            assert!(stage.counted("max-attribute-octets") > 0);
        })
        .on(Profile::Frugal),
    ]
}
