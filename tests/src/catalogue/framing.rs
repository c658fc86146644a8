//! Section C: the framing of UPDATE and the headers of attributes.

use super::actor::Actor;
use super::batch::{Case, Fate, play};
use super::stage::Stage;
use super::{Row, Verdict};
use crate::bgp::{UPDATE, attribute, message, update, update_of};

/// Capability 6: messages of up to 65,535 octets (RFC 8654).
pub const EXTENDED_MESSAGE: [u8; 2] = [6, 0];
const ORIGIN: u8 = 1;
const MED: u8 = 4;
/// A type code that nobody has assigned.
const UNKNOWN: u8 = 254;
/// Attributes that are understood, with the flags they must have and a right value for a peer with 2-octet AS numbers.
const KNOWN: [(u8, u8, &[u8]); 17] = [
    (0x40, 1, &[0]),
    (0x40, 2, &[]),
    (0x40, 3, &[10, 0, 0, 1]),
    (0x80, 4, &[0; 4]),
    (0x40, 5, &[0; 4]),
    (0x40, 6, &[]),
    (0xc0, 7, &[0, 1, 0, 0, 0, 0]),
    (0xc0, 8, &[0; 4]),
    (0x80, 9, &[1; 4]),
    (0x80, 10, &[9; 4]),
    (0xc0, 16, &[0, 2, 0xfd, 0xe8, 0, 0, 0, 100]),
    (0xc0, 22, &[0, 6, 0, 0, 1, 10, 0, 0, 1]),
    (0xc0, 23, &[0, 8, 0, 0]),
    (0xc0, 25, &[0; 20]),
    (0xc0, 32, &[0; 12]),
    (0xc0, 35, &[0, 0, 0, 1]),
    (0xc0, 40, &[]),
];

/// All rows.
pub fn rows() -> Vec<Row> {
    [lengths(), unrecognised(), repeated(), flags(), combined()].into_iter().flatten().collect()
}

/// Attributes of the key's announcement, then octets that are no whole attribute.
fn cut(actor: &Actor, tail: &[u8]) -> Vec<u8> {
    update(&[actor.base(), vec![actor.reach(&[actor.key_route()]), tail.to_vec()]].concat())
}

fn lengths() -> Vec<Row> {
    let mut rows = Vec::new();
    for (what, body) in [
        ("withdrawn routes beyond the end", vec![0xff, 0xff, 0, 0]),
        ("withdrawn routes leave no room for the length of attributes", vec![0, 1, 0, 0]),
        ("attributes beyond the end", vec![0, 0, 0xff, 0xff, 0x40, 1, 1, 0]),
    ] {
        let row = Row::session("C01", what, "RFC 4271 6.3, RFC 7606 3(b)", Verdict::Reset(3, 1), move |_| {
            message(UPDATE, &body)
        });
        rows.push(row.breaks("update-lengths"));
    }
    rows.push(Row::session("C02", "an UPDATE of nothing", "RFC 4724 2", Verdict::Ignored, |_| {
        message(UPDATE, &[0, 0, 0, 0])
    }));
    for (id, what, tail) in [
        ("C03", "flags and type alone", vec![0xc0, 8]),
        ("C03", "a length of 200 with 2 octets left", vec![0xc0, 8, 200, 0, 0]),
        ("C05", "an extended length of which one octet is there", vec![0xd0, 8, 0]),
        ("C05", "an extended length of 65535", vec![0xd0, 8, 0xff, 0xff, 0]),
        ("C07", "a length of 255 with 254 octets left", [&[0xc0, 8, 255], &[0; 254][..]].concat()),
    ] {
        let alone = tail.clone();
        let withdrawn = Row::session(id, what, "RFC 7606 4", Verdict::Withdrawn, move |actor| cut(actor, &tail));
        rows.push(withdrawn.breaks("attribute-truncated"));
        let what = format!("{what}, and no route that could be withdrawn");
        let reset =
            Row::session(id, what, "RFC 7606 5.2", Verdict::Reset(3, 1), move |_| update(std::slice::from_ref(&alone)));
        rows.push(reset.breaks("update-no-routes"));
    }
    rows.push(Row::session("C06", "extended length for one octet", "RFC 4271 4.3", Verdict::Accepted, |actor| {
        actor.key_but(ORIGIN, vec![0x50, ORIGIN, 0, 1, 0])
    }));
    rows
}

/// C08 to C12: what is not known is judged by its flags alone.
fn unrecognised() -> Vec<Row> {
    let mut rows = Vec::new();
    for (id, kind) in [("C08", 0), ("C09", 222), ("C09", 128)] {
        for flags in [0x00, 0x40, 0x60] {
            let what = format!("type {kind} with flags {flags:#04x}: not optional, not known");
            let row = Row::session(id, what, "RFC 4271 6.3", Verdict::Reset(3, 2), move |actor| {
                actor.key_and(&[attribute(flags, kind, &[1])])
            });
            let data = move |stage: &mut Stage<'_>| assert_eq!(stage.data(), [flags, kind, 1, 1], "the attribute");
            rows.push(row.breaks("attribute-unrecognised").also(data));
        }
    }
    for (id, kind) in [("C08", 0), ("C10", UNKNOWN)] {
        for flags in [0xc0, 0xe0] {
            let what = format!("type {kind} with flags {flags:#04x}: carried on with the Partial bit");
            let row = Row::session(id, what, "RFC 4271 5", Verdict::Accepted, move |actor| {
                actor.key_and(&[attribute(flags, kind, &[0xde, 0xad, 0xbe, 0xef])])
            });
            let carried = [0xe0, kind, 4, 0xde, 0xad, 0xbe, 0xef];
            rows.push(row.also(move |stage| assert!(stage.observed(&carried), "{carried:02x?} went to nobody")));
        }
    }
    let stripped = Row::session("C10", "a type that the operator strips", "RFC 4271 5", Verdict::Accepted, |actor| {
        actor.key_and(&[attribute(0xc0, UNKNOWN, &[0xde, 0xad, 0xbe, 0xef])])
    });
    let gone = |stage: &mut Stage<'_>| assert!(!stage.observed(&[0xde, 0xad, 0xbe, 0xef]), "it was carried on");
    rows.push(stripped.on(super::Profile::Frugal).also(gone));
    for (id, kind) in [("C08", 0), ("C11", UNKNOWN)] {
        for flags in [0x80, 0xa0] {
            let what = format!("type {kind} with flags {flags:#04x}: dropped quietly");
            let row = Row::session(id, what, "RFC 4271 5", Verdict::Accepted, move |actor| {
                actor.key_and(&[attribute(flags, kind, &[0xde, 0xad, 0xbe, 0xef])])
            });
            rows.push(row.also(|stage| assert!(!stage.observed(&[0xde, 0xad, 0xbe, 0xef]), "it was carried on")));
        }
    }
    // Chosen: nothing is stripped, the route is withheld from those who cannot take the message, and withdrawn there.
    rows.push(Row::script("C12", "an unknown attribute of 60000 octets", "RFC 8654 4, RFC 4271 9.2", |stage| {
        let big = stage.actor.key_and(&[attribute(0xc0, UNKNOWN, &[7; 60_000])]);
        stage.assert_withheld_from_small_messages(&EXTENDED_MESSAGE, &big);
    }));
    rows
}

fn repeated() -> Vec<Row> {
    let flood = |actor: &Actor, times: usize| {
        let unknown = (0..=255).filter(|kind| ![0, 14, 15, 26].contains(kind) && !KNOWN.iter().any(|k| k.1 == *kind));
        let unknown = unknown.filter(|kind| ![17, 18, 28, 39].contains(kind)).map(|kind| attribute(0xc0, kind, &[]));
        let repeats = std::iter::repeat_n(attribute(0xc0, UNKNOWN, &[]), times);
        actor.key_and(&unknown.chain(repeats).collect::<Vec<_>>())
    };
    vec![
        Row::session("C14", "MP_REACH_NLRI twice", "RFC 7606 3(g)", Verdict::Reset(3, 1), |actor| {
            actor.key_and(&[actor.reach(&[actor.key_route()])])
        })
        .breaks("mp-duplicate"),
        Row::session("C14", "MP_UNREACH_NLRI twice", "RFC 7606 3(g)", Verdict::Reset(3, 1), |actor| {
            let unreach = attribute(0x80, 15, &[&[0, 25, 70], &actor.key_route()[..]].concat());
            update(&[unreach.clone(), unreach])
        })
        .breaks("mp-duplicate"),
        Row::session(
            "C15",
            "all unknown types, then 1000 repetitions of one",
            "RFC 7606 3(g)",
            Verdict::Trimmed,
            move |actor| flood(actor, 1_000),
        )
        .breaks("attribute-duplicate"),
        Row::session(
            "C15",
            "all unknown types, then 20000 repetitions of one",
            "RFC 7606 3(g)",
            Verdict::Trimmed,
            move |actor| flood(actor, 20_000),
        )
        .with_capabilities(&EXTENDED_MESSAGE)
        .breaks("attribute-duplicate"),
        Row::session(
            "C15",
            "a second ORIGIN that differs: the first counts",
            "RFC 7606 3(g)",
            Verdict::Trimmed,
            |actor| actor.key_and(&[attribute(0x40, ORIGIN, &[2])]),
        )
        .breaks("attribute-duplicate"),
    ]
}

fn flags() -> Vec<Row> {
    let mut rows = vec![
        Row::script("C16", "all flags of every type that is known", "RFC 7606 3(c)", |stage| {
            let mut cases = Vec::new();
            for (right, kind, value) in KNOWN {
                for flags in [0x00, 0x40, 0x80, 0xc0] {
                    let fate = if flags == right { Fate::Kept } else { Fate::Gone };
                    cases.push(Case::replacing(
                        format!("type {kind}, flags {flags:#04x}"),
                        fate,
                        attribute(flags, kind, value),
                    ));
                }
            }
            play(stage, &[], &cases);
            assert!(stage.counted("attribute-flags") >= 3 * 17, "one for each");
        }),
        Row::script(
            "C17",
            "the Partial bit on every type that is not optional and transitive",
            "RFC 4271 5",
            |stage| {
                let cases: Vec<_> = KNOWN
                    .into_iter()
                    .map(|(right, kind, value)| {
                        let fate = if right == 0xc0 { Fate::Kept } else { Fate::Gone };
                        Case::replacing(format!("type {kind}, partial"), fate, attribute(right | 0x20, kind, value))
                    })
                    .collect();
                play(stage, &[], &cases);
            },
        ),
    ];
    rows.push(Row::session("C18", "the low bits of the flags set", "RFC 4271 4.3", Verdict::Accepted, |actor| {
        actor.key_but(ORIGIN, attribute(0x4f, ORIGIN, &[0]))
    }));
    rows.push(Row::session(
        "C19",
        "MP_REACH_NLRI first, the others backwards",
        "RFC 7606 5.1",
        Verdict::Accepted,
        |actor| {
            let mut attributes = actor.base();
            attributes.push(actor.reach(&[actor.key_route()]));
            attributes.reverse();
            update(&attributes)
        },
    ));
    rows.push(Row::script("C24", "every type that is known without a value", "RFC 7606 4", |stage| {
        // Empty is right for AS_PATH, ATOMIC_AGGREGATE and a prefix SID without TLVs; RFC 7606 has AGGREGATOR discarded, RFC
        // 9012 an encapsulation without tunnels.
        let fate = |kind: u8| if [2, 6, 7, 23, 40].contains(&kind) { Fate::Kept } else { Fate::Gone };
        let case = |(flags, kind, _): (u8, u8, &[u8])| {
            Case::replacing(format!("type {kind}, empty"), fate(kind), attribute(flags, kind, &[]))
        };
        play(stage, &[], &KNOWN.map(case));
    }));
    rows
}

fn combined() -> Vec<Row> {
    let unreach = |actor: &Actor| attribute(0x80, 15, &[&[0, 25, 70], &actor.key_route()[..]].concat());
    let mut rows = Vec::new();
    for (what, is_first) in [("withdrawal first", true), ("withdrawal last", false)] {
        // Chosen, as FRR, GoBGP and BIRD do: the announcement wins, in whichever order they stand.
        let what = format!("MP_REACH_NLRI, MP_UNREACH_NLRI, IPv4 NLRI and withdrawn routes at once, {what}");
        rows.push(
            Row::session("C20", what, "RFC 7606 5.1", Verdict::Trimmed, move |actor| {
                let reach = [actor.base(), vec![actor.reach(&[actor.key_route()])]].concat();
                let unreach = vec![unreach(actor)];
                let all = if is_first { [unreach, reach] } else { [reach, unreach] };
                update_of(&[8, 10], &all.concat(), &[8, 11])
            })
            .breaks("ipv4-unicast-routes"),
        );
    }
    rows.push(
        Row::session(
            "C21",
            "one route twice with different labels: the last counts",
            "RFC 4271 3.1",
            Verdict::Accepted,
            |actor| {
                let mut other = actor.key_route();
                let last = other.len() - 1;
                other[last] = other[last].wrapping_add(1);
                actor.update_with(actor.base(), &[other, actor.key_route()])
            },
        )
        .also(|stage| {
            assert_eq!(stage.announcements_observed(&stage.actor.key_route()), 1, "one event to each client")
        }),
    );
    rows.push(
        Row::session(
            "C23",
            "MP_UNREACH_NLRI and IPv4 NLRI without mandatory attributes",
            "RFC 7606 3(d)",
            Verdict::Withdrawn,
            move |actor| update_of(&[], &[unreach(actor), attribute(0x80, MED, &[0; 4])], &[8, 10]),
        )
        .breaks("origin-missing"),
    );
    rows.push(
        Row::session("C25", "an empty AS_PATH from another AS", "RFC 4271 6.3 (MAY)", Verdict::Accepted, |actor| {
            actor.key_but(2, attribute(0x40, 2, &[]))
        })
        .on(super::Profile::External),
    );
    rows.push(
        Row::session(
            "C26",
            "a bad ORIGIN and MP_REACH_NLRI without a route",
            "RFC 7606 5.2",
            Verdict::Reset(3, 1),
            |actor| {
                let mut attributes = actor.base();
                attributes[0] = attribute(0x40, ORIGIN, &[9]);
                actor.update_with(attributes, &[])
            },
        )
        .breaks("update-no-routes"),
    );
    rows.push(
        Row::session(
            "C26",
            "MP_REACH_NLRI cut off by the length of all",
            "RFC 7606 5.2",
            Verdict::Reset(3, 1),
            |actor| {
                let mut octets = actor.announce(actor.key);
                let length = u16::from_be_bytes([octets[21], octets[22]]) - 9;
                octets[21..23].copy_from_slice(&length.to_be_bytes());
                // What is left over is read as IPv4 prefixes: these are, so that only the attributes are wrong.
                let end = octets.len();
                octets[end - 9..].fill(0);
                octets
            },
        )
        .breaks("update-no-routes"),
    );
    rows.push(Row::session(
        "C26",
        "an attribute that swallows all that follow",
        "RFC 7606 5.2",
        Verdict::Reset(3, 1),
        |actor| {
            let mut octets = actor.announce(actor.key);
            let origin = 23;
            assert_eq!(octets[origin + 1], ORIGIN);
            octets[origin + 2] = 200;
            octets
        },
    ));
    rows
}
