//! Section F, first half: EVPN routes as a decoder and the reflector's table see them.

use super::actor::Actor;
use super::framing::EXTENDED_MESSAGE;
use super::{Profile, Row, STRICT_OR_CONTAIN, STRICT_OR_DROP, Verdict};
use crate::bgp::{self, MacRoute, PrefixRoute, attribute, evpn_route, update};
use crate::fabric::LAN;

const RFC_TYPE_2: &str = "RFC 7432 7.2";

/// All rows.
pub fn rows() -> Vec<Row> {
    [framing(), unknown_types(), lengths(), type_2(), values(), prefixes(), order()].into_iter().flatten().collect()
}

/// The route distinguisher of an actor's routes, as it is printed.
pub fn text_of_distinguisher(actor: &Actor) -> String {
    format!("{}:{LAN}", actor.address)
}

fn key(actor: &Actor) -> MacRoute {
    MacRoute::of(actor.octets(), LAN, actor.key)
}

/// The right attributes and these routes.
fn announce(actor: &Actor, routes: &[Vec<u8>]) -> Vec<u8> {
    actor.update_with(actor.base(), routes)
}

/// A route of the actor with another distinguisher than its key, so that whatever becomes of it the key is another one.
fn distinguisher(actor: &Actor) -> [u8; 8] {
    bgp::distinguisher(actor.octets(), 0x7777)
}

/// F01, F02: never contained, in neither mode.
fn framing() -> Vec<Row> {
    let mut rows = Vec::new();
    for profile in [Profile::Contain, Profile::Strict] {
        for (id, what, tail) in [
            ("F01", "one octet left of a route", vec![2]),
            ("F02", "a route of 33 octets of which 1 is there", vec![2, 33, 0]),
            ("F02", "a route of 255 octets of which none is there", vec![2, 255]),
        ] {
            let row = Row::session(id, what, "RFC 7606 5.3", Verdict::Reset(3, 9), move |actor| {
                announce(actor, &[actor.key_route(), tail.clone()])
            });
            rows.push(row.on(profile).breaks("evpn-framing"));
        }
        let what = "a withdrawn route past the end";
        let row = Row::session("F02", what, "RFC 7606 5.3", Verdict::Reset(3, 9), |actor| {
            bgp::withdraw(&[actor.key_route(), vec![2, 33, 0]])
        });
        rows.push(row.on(profile).breaks("evpn-framing"));
    }
    rows
}

/// F03. Chosen as the default: skipped and counted; `unknown_route_types` reflects them octet for octet instead.
fn unknown_types() -> Vec<Row> {
    let mut rows = Vec::new();
    for profile in [Profile::Contain, Profile::Strict] {
        for (kind, length) in
            [(0, 30), (6, 0), (7, 30), (8, 1), (9, 30), (10, 30), (11, 30), (12, 0), (99, 255), (255, 30)]
        {
            let what = format!("a route of type {kind} with {length} octets beside");
            let row = Row::session("F03", what, "RFC 7606 5.4", Verdict::Trimmed, move |actor| {
                announce(actor, &[evpn_route(kind, &vec![7; length]), actor.key_route()])
            });
            rows.push(row.on(profile).breaks("evpn-route-type"));
        }
        rows.push(
            Row::session(
                "F03",
                "a hundred routes of unknown types withdrawn",
                "RFC 7606 5.4",
                Verdict::Ignored,
                |_| bgp::withdraw(&vec![evpn_route(99, &[7; 20]); 100]),
            )
            .on(profile)
            .breaks("evpn-route-type"),
        );
    }
    rows
}

/// A body that is wrong beside the key: where its own identity can be told, that is withdrawn; the key is none of it.
fn beside(id: &'static str, what: String, rfc: &'static str, rule: &'static str, kind: u8, body: Vec<u8>) -> Row {
    Row::session(id, what, rfc, STRICT_OR_DROP, move |actor| {
        let mut body = body.clone();
        if let Some(rd) = body.get_mut(..8) {
            rd.copy_from_slice(&distinguisher(actor));
        }
        announce(actor, &[evpn_route(kind, &body), actor.key_route()])
    })
    .breaks(rule)
}

/// F05, F30, F33, F34, F35: lengths of the bodies of types 1, 3, 4 and 5.
fn lengths() -> Vec<Row> {
    let mut rows = Vec::new();
    for length in [0, 8, 24, 26, 255] {
        rows.push(beside(
            "F05",
            format!("type 1 of {length} octets"),
            "RFC 7432 7.1",
            "evpn-route-length",
            1,
            vec![1; length],
        ));
    }
    let originator = |head: usize, bits: u8, octets: usize| [vec![1; head], vec![bits], vec![10; octets]].concat();
    for (bits, octets) in [(0, 0), (24, 3), (64, 8), (32, 3), (128, 4), (255, 31)] {
        let rule = "evpn-originator-length";
        let what = |kind: u8| format!("type {kind}, originator of {bits} bits in {octets} octets");
        rows.push(beside("F30", what(3), "RFC 7432 7.3", rule, 3, originator(12, bits, octets)));
        rows.push(beside("F33", what(4), "RFC 7432 7.4", rule, 4, originator(18, bits, octets)));
    }
    for (bits, octets) in [(32, 5), (32, 16), (128, 17)] {
        let rule = "evpn-route-length";
        let what = |kind: u8| format!("type {kind}, originator of {bits} bits in {octets} octets");
        rows.push(beside("F30", what(3), "RFC 7432 7.3", rule, 3, originator(12, bits, octets)));
        rows.push(beside("F33", what(4), "RFC 7432 7.4", rule, 4, originator(18, bits, octets)));
    }
    for length in [0, 12, 16, 22, 24] {
        let rule = "evpn-originator-length";
        let (three, four) = (vec![1; length], vec![1; length]);
        rows.push(beside("F30", format!("type 3 of {length} octets"), "RFC 7432 7.3", rule, 3, three));
        rows.push(beside("F33", format!("type 4 of {length} octets"), "RFC 7432 7.4", rule, 4, four));
    }
    for length in [0, 33, 35, 57, 59, 255] {
        rows.push(beside(
            "F34",
            format!("type 5 of {length} octets"),
            "RFC 9136 3.1",
            "evpn-route-length",
            5,
            vec![1; length],
        ));
    }
    for (length, bits) in [(34, 33), (34, 128), (34, 255), (58, 129), (58, 255)] {
        let mut body = vec![0; length];
        body[8 + 10 + 4] = bits;
        let what = format!("type 5 of {length} octets with a prefix of {bits} bits");
        rows.push(beside("F35", what, "RFC 9136 3.1", "evpn-prefix-length", 5, body));
    }
    rows
}

/// F08 to F14: bodies of type 2.
fn type_2() -> Vec<Row> {
    let mut rows = Vec::new();
    // The identity stands in front of the labels, so the key can be withdrawn.
    for (id, length) in
        [30, 32, 34, 35, 38, 41, 48, 51, 53, 255].map(|length| (if length == 30 { "F14" } else { "F08" }, length))
    {
        let what = format!("type 2 of {length} octets");
        let row = Row::session(id, what, RFC_TYPE_2, STRICT_OR_CONTAIN, move |actor| {
            let mut body = key(actor).body();
            body.resize(length, 0);
            announce(actor, &[evpn_route(2, &body)])
        });
        rows.push(row.breaks("evpn-route-length"));
    }
    for length in [0, 1, 8, 22] {
        let what = format!("type 2 of {length} octets, without a key");
        rows.push(beside("F08", what, RFC_TYPE_2, "evpn-route-length", 2, vec![0; length]));
    }
    for bits in [0, 40, 47, 49, 56, 255] {
        let what = format!("a MAC of {bits} bits");
        let row = Row::session("F09", what, RFC_TYPE_2, STRICT_OR_DROP, move |actor| {
            let bad = MacRoute { mac_bits: bits, rd: distinguisher(actor), ..key(actor) };
            announce(actor, &[bad.nlri(), actor.key_route()])
        });
        rows.push(row.breaks("evpn-mac-length"));
    }
    for bits in [1, 8, 24, 31, 33, 64, 127, 129, 255] {
        let what = format!("an IP address of {bits} bits");
        let row = Row::session("F10", what, RFC_TYPE_2, STRICT_OR_DROP, move |actor| {
            let ip = vec![10; usize::from(bits).div_ceil(8)];
            let bad = MacRoute { ip_bits: bits, ip, rd: distinguisher(actor), ..key(actor) };
            announce(actor, &[bad.nlri(), actor.key_route()])
        });
        rows.push(row.breaks("evpn-ip-length"));
    }
    for (bits, octets, what) in [
        (128, 4, "an IP address of 128 bits in a body of 37 octets"),
        (32, 16, "an IP address of 32 bits in a body of 49 octets"),
        (128, 0, "an IP address of 128 bits in a body of 33 octets"),
    ] {
        let row = Row::session("F11", what, RFC_TYPE_2, STRICT_OR_DROP, move |actor| {
            let bad = MacRoute { ip_bits: bits, ip: vec![10; octets], rd: distinguisher(actor), ..key(actor) };
            announce(actor, &[bad.nlri(), actor.key_route()])
        });
        rows.push(row.breaks("evpn-route-length").also(|stage| {
            let rd = format!("{}:{}", stage.actor.address, 0x7777);
            let routes = stage.scene.best_routes();
            assert!(!routes.keys().any(|route| route.contains(&rd)), "a label was read from an address: {routes:?}");
        }));
    }
    rows.push(
        Row::session("F12", "no IP address, and four octets more", RFC_TYPE_2, STRICT_OR_CONTAIN, |actor| {
            announce(actor, &[MacRoute { ip: vec![10; 4], ..key(actor) }.nlri()])
        })
        .breaks("evpn-route-length"),
    );
    rows.push(Row::session("F14", "a second label", RFC_TYPE_2, Verdict::Accepted, |actor| {
        announce(actor, &[MacRoute { labels: [bgp::label(LAN), bgp::label(4_711)].concat(), ..key(actor) }.nlri()])
    }));
    rows
}

/// F06, F07, F15, F19, F20, F27, F28: good bodies whose content is impossible, or merely odd.
fn values() -> Vec<Row> {
    let mut rows = Vec::new();
    let ethernet_ad = |actor: &Actor, esi: [u8; 10], tag: u32, label: [u8; 3]| {
        evpn_route(1, &[&distinguisher(actor)[..], &esi, &tag.to_be_bytes(), &label].concat())
    };
    let segment = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    for (id, what, esi, tag, label, rule) in [
        ("F06", "per segment with a label", segment, u32::MAX, [0, 0, 1], "evpn-ad-label"),
        ("F07", "of segment 0", [0; 10], u32::MAX, [0; 3], "evpn-ad-segment"),
        ("F28", "of the reserved segment of all ones", [0xff; 10], 0, [0, 0, 1], "evpn-ad-segment"),
    ] {
        // Data to be carried; nothing here withdraws by it. Noted, so that somebody looks at the sender.
        let what = format!("type 1 {what}");
        let row = Row::session(id, what, "RFC 7432 8.2.1, 5", Verdict::Trimmed, move |actor| {
            announce(actor, &[ethernet_ad(actor, esi, tag, label), actor.key_route()])
        });
        rows.push(row.breaks(rule).also(|stage| {
            let routes = stage.scene.best_routes();
            assert!(
                routes.keys().any(|route| route.starts_with(&format!("[1][{}", stage.actor.address))),
                "{routes:?}"
            );
        }));
    }
    rows.push(Row::session("F06", "type 1 per EVI, with a label", "RFC 7432 8.4.1", Verdict::Accepted, move |actor| {
        announce(actor, &[ethernet_ad(actor, segment, 0, [0, 0, 100]), actor.key_route()])
    }));
    for profile in [Profile::Contain, Profile::Strict] {
        rows.push(
            Row::session("F15", "VNI 0", "RFC 8365 5.1.3", Verdict::Withdrawn, |actor| {
                announce(actor, &[MacRoute { labels: vec![0; 3], ..key(actor) }.nlri()])
            })
            .on(profile)
            .breaks("evpn-vni-zero"),
        );
        for (id, what, mac, rule) in [
            ("F19", "a MAC of zeroes, the kernel's flood list, beside", [0; 6], "evpn-mac-zero"),
            ("F20", "a multicast MAC beside", [1, 0, 0x5e, 0, 0, 1], "evpn-mac-multicast"),
            ("F20", "the broadcast MAC beside", [0xff; 6], "evpn-mac-multicast"),
            ("F20", "a locally administered group MAC beside", [3, 0, 0, 0, 0, 1], "evpn-mac-multicast"),
        ] {
            let row = Row::session(id, what, "RFC 7432 7.2; the kernel", Verdict::Trimmed, move |actor| {
                let bad = MacRoute { mac, ..key(actor) };
                announce(actor, &[bad.nlri(), actor.key_route()])
            });
            rows.push(row.on(profile).breaks(rule).also(move |stage| {
                assert!(!stage.scene.floods_to(stage.actor.ip()), "flooded frames go to the actor");
                let places = stage.scene.places(mac);
                assert!(!places.reflector && !places.observer, "{places:?}");
                if mac != [0; 6] {
                    assert!(places.all(false), "{places:?}");
                }
            }));
        }
    }
    rows.push(Row::session("F20", "a MAC of VRRP beside", "RFC 5798 7.3", Verdict::Accepted, |actor| {
        let vrrp = MacRoute { mac: [0, 0, 0x5e, 0, 1, actor.key[4]], ..key(actor) };
        announce(actor, &[vrrp.nlri(), actor.key_route()])
    }));
    for kind in [0, 1, 2, 3, 4, 5, 6, 99, 255] {
        let what = format!("a segment identifier of type {kind}");
        rows.push(Row::session("F28", what, "RFC 7432 5", Verdict::Accepted, move |actor| {
            let mut esi = [kind; 10];
            esi[9] = 1;
            announce(actor, &[MacRoute { esi, ..key(actor) }.nlri()])
        }));
    }
    rows.push(Row::session("F28", "the reserved segment of all ones", "RFC 7432 5", Verdict::Accepted, |actor| {
        announce(actor, &[MacRoute { esi: [0xff; 10], ..key(actor) }.nlri()])
    }));
    rows.push(
        Row::session("F27", "reserved bits of MAC mobility set", "RFC 7432 7.7", Verdict::Accepted, |actor| {
            let communities = [0, 2, 0xfd, 0xe8, 0, 0, 0, 100, 6, 0, 0xfe, 0xff, 0, 0, 0, 5];
            actor.key_but(16, attribute(0xc0, 16, &communities))
        })
        .also(|stage| {
            for worker in &stage.scene.fabric.workers {
                let row = worker.macs().into_iter().find(|row| row.mac == super::actor::text(stage.actor.key));
                assert_eq!(row.map(|row| (row.sequence, row.sticky)), Some((5, false)));
            }
        }),
    );
    rows
}

/// F36 to F39: routes of type 5. No worker uses them; the reflector carries those that are right.
fn prefixes() -> Vec<Row> {
    fn prefix(actor: &Actor) -> PrefixRoute {
        PrefixRoute::of(actor.octets(), LAN, [10, 78, 0, 0], 16)
    }
    let mut rows = vec![
        // Chosen: host bits carry no meaning and are masked, so that one prefix has one key.
        Row::session("F36", "type 5 with host bits", "RFC 9136 3.1", Verdict::Accepted, |actor| {
            let host_bits = PrefixRoute { prefix: vec![10, 78, 1, 2], ..prefix(actor) };
            announce(actor, &[host_bits.nlri(), actor.key_route()])
        })
        .also(|stage| {
            let routes = stage.scene.best_routes();
            assert!(routes.keys().any(|route| route.ends_with("[10.78.0.0/16]")), "{routes:?}");
        }),
        Row::session(
            "F36",
            "type 5 with host bits, withdrawn by its prefix",
            "RFC 9136 3.1",
            Verdict::Accepted,
            |actor| {
                let host_bits = PrefixRoute { prefix: vec![10, 78, 1, 2], ..prefix(actor) };
                let announced = announce(actor, &[host_bits.nlri(), actor.key_route()]);
                [announced, bgp::withdraw(&[prefix(actor).nlri()])].concat()
            },
        )
        .also(|stage| {
            let routes = stage.scene.best_routes();
            assert!(!routes.keys().any(|route| route.starts_with("[5]")), "{routes:?}");
        }),
    ];
    let withdrawn = |id, what, rule, change: fn(PrefixRoute) -> PrefixRoute| {
        Row::session(id, what, "RFC 9136 3.1, 3.2", Verdict::Trimmed, move |actor| {
            let good = announce(actor, &[prefix(actor).nlri()]);
            [good, announce(actor, &[change(prefix(actor)).nlri(), actor.key_route()])].concat()
        })
        .breaks(rule)
        .also(|stage| {
            let routes = stage.scene.best_routes();
            assert!(!routes.keys().any(|route| route.starts_with("[5]")), "{routes:?}");
        })
    };
    rows.push(withdrawn("F37", "type 5 with segment and gateway", "evpn-two-overlay-indexes", |route| PrefixRoute {
        esi: [1; 10],
        gateway: vec![10, 78, 0, 1],
        ..route
    }));
    rows.push(withdrawn("F38", "type 5 with label 0 and no overlay index", "evpn-no-overlay-index", |route| {
        PrefixRoute { label: [0; 3], ..route }
    }));
    for (what, octets) in [("0.0.0.0/0", 4), ("::/0", 16)] {
        let what = format!("{what} from a worker: reflected, imported by none");
        rows.push(
            Row::session("F39", what, "policy: no worker imports type 5", Verdict::Accepted, move |actor| {
                let all = PrefixRoute { prefix: vec![0; octets], gateway: vec![0; octets], bits: 0, ..prefix(actor) };
                announce(actor, &[all.nlri(), actor.key_route()])
            })
            .also(|stage| stage.wait_said_of_route("/0]", "no LAN of this worker")),
        );
    }
    rows
}

/// F41, F42.
fn order() -> Vec<Row> {
    let unreach = |actor: &Actor| attribute(0x80, 15, &[&[0, 25, 70], &actor.key_route()[..]].concat());
    let mut rows = Vec::new();
    for (what, is_first) in [("withdrawn, then announced", true), ("announced, then withdrawn", false)] {
        let what = format!("one route {what} in one UPDATE: the announcement counts");
        rows.push(
            Row::session("F41", what, "RFC 7606 5.1", Verdict::Trimmed, move |actor| {
                let reach = [actor.base(), vec![actor.reach(&[actor.key_route()])]].concat();
                update(&if is_first { [vec![unreach(actor)], reach] } else { [reach, vec![unreach(actor)]] }.concat())
            })
            .breaks("withdrawal-unknown"),
        );
    }
    let many = |actor: &Actor, count: u16| -> Vec<u8> {
        let route = |number: u16| {
            let [high, low] = number.to_be_bytes();
            actor.route([2, 0xcd, actor.key[3], actor.key[4], high, low])
        };
        let routes: Vec<_> = (1..count).map(route).chain([actor.key_route()]).collect();
        announce(actor, &routes)
    };
    rows.push(Row::session(
        "F42",
        "113 routes in a message of 4096 octets",
        "RFC 4271 4.3",
        Verdict::Accepted,
        move |actor| {
            let octets = many(actor, 113);
            assert!((4_000..=4_096).contains(&octets.len()), "{} octets", octets.len());
            octets
        },
    ));
    rows.push(
        Row::session("F42", "1860 routes in one message", "RFC 8654 4", Verdict::Accepted, move |actor| {
            let octets = many(actor, 1_860);
            assert!(octets.len() > 65_000, "{} octets", octets.len());
            octets
        })
        .with_capabilities(&EXTENDED_MESSAGE)
        // As few messages as they fit in, and not one for each.
        .also(|stage| assert!(stage.scene.observer.received() < 40, "{} messages", stage.scene.observer.received())),
    );
    rows
}
