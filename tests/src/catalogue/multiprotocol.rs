//! Section E: MP_REACH_NLRI and MP_UNREACH_NLRI.

use std::time::Instant;

use super::actor::Actor;
use super::{Row, Verdict};
use crate::bgp::{self, attribute, update};
use crate::fabric::LAN;
use crate::wait;

const REACH: u8 = 14;
const UNREACH: u8 = 15;
const OPTIONAL: u8 = 0x80;
/// ADD-PATH for EVPN, both ways (RFC 7911 section 4).
const ADD_PATH: [u8; 6] = [69, 4, 0, 25, 70, 3];
const RESET: Verdict = Verdict::Reset(3, 9);
/// Families that no session of ours has.
const FOREIGN: [(&str, [u8; 3]); 8] = [
    ("IPv4 unicast", [0, 1, 1]),
    ("IPv6 unicast", [0, 2, 1]),
    ("IPv4 multicast", [0, 1, 2]),
    ("IPv4 flowspec", [0, 1, 133]),
    ("VPNv4 flowspec", [0, 1, 134]),
    ("BGP-LS", [0x40, 0x04, 71]),
    ("family 0/0", [0, 0, 0]),
    ("family 65535/255", [255, 255, 255]),
];

/// All rows.
pub fn rows() -> Vec<Row> {
    [unreadable(), foreign(), unusual(), path_identifiers(), identities()].into_iter().flatten().collect()
}

/// The right attributes with this value of MP_REACH_NLRI.
fn with_reach(actor: &Actor, flags: u8, value: &[u8]) -> Vec<u8> {
    update(&[actor.base(), vec![attribute(flags, REACH, value)]].concat())
}

/// E01 to E05: what cannot be located is never contained, in either mode. Chosen of the two that RFC 7606 section 5.3
/// leaves: the session ends.
fn unreadable() -> Vec<Row> {
    let mut rows = Vec::new();
    for value in [&[][..], &[0], &[0, 25], &[0, 25, 70], &[0, 25, 70, 0]] {
        let what = format!("MP_REACH_NLRI of {} octets", value.len());
        rows.push(
            Row::session("E01", what, "RFC 7606 5.3", RESET, move |actor| with_reach(actor, OPTIONAL, value))
                .breaks("mp-reach-length"),
        );
    }
    for value in [&[][..], &[0], &[0, 25]] {
        let what = format!("MP_UNREACH_NLRI of {} octets", value.len());
        rows.push(
            Row::session("E02", what, "RFC 7606 5.3", RESET, move |_| update(&[attribute(OPTIONAL, UNREACH, value)]))
                .breaks("mp-unreach-length"),
        );
    }
    for flags in [0x00, 0x40, 0xc0] {
        let what = format!("MP_REACH_NLRI with flags {flags:#04x}");
        rows.push(
            Row::session("E03", what, "RFC 7606 5.3", RESET, move |actor| {
                let mut reach = actor.reach(&[actor.key_route()]);
                reach[0] = flags;
                update(&[actor.base(), vec![reach]].concat())
            })
            .breaks("mp-reach-flags"),
        );
        let what = format!("MP_UNREACH_NLRI with flags {flags:#04x}");
        rows.push(
            Row::session("E03", what, "RFC 7606 5.3", RESET, move |actor| {
                update(&[attribute(flags, UNREACH, &[&[0, 25, 70], &actor.key_route()[..]].concat())])
            })
            .breaks("mp-unreach-flags"),
        );
    }
    for (length, rule) in [
        (255, "mp-reach-length"),
        (200, "mp-reach-length"),
        (5, "mp-reach-next-hop-length"),
        (0, "mp-reach-next-hop-length"),
        (12, "mp-reach-next-hop-length"),
    ] {
        let what = format!("a next hop that says {length} octets");
        rows.push(
            Row::session("E05", what, "RFC 7606 5.3, 7.11", RESET, move |actor| {
                let value = [&[0, 25, 70, length][..], &actor.octets(), &[0], &actor.key_route()].concat();
                with_reach(actor, OPTIONAL, &value)
            })
            .breaks(rule),
        );
    }
    rows
}

/// E06, E07: ignored, counted, and never given to a parser.
fn foreign() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, family) in FOREIGN {
        let id = if [133, 134].contains(&family[2]) { "E07" } else { "E06" };
        for (what, nlri) in [("nothing", &[][..]), ("length 0", &[0]), ("40 octets of 255", &[255; 40])] {
            let reached = Row::session(
                id,
                format!("MP_REACH_NLRI of {name}: {what}"),
                "RFC 4760 7",
                Verdict::Ignored,
                move |a| with_reach(a, OPTIONAL, &[&family[..], &[4, 10, 0, 0, 1, 0], nlri].concat()),
            );
            let withdrawn = Row::session(
                id,
                format!("MP_UNREACH_NLRI of {name}: {what}"),
                "RFC 4760 7",
                Verdict::Ignored,
                move |_| update(&[attribute(OPTIONAL, UNREACH, &[&family[..], nlri].concat())]),
            );
            rows.extend([reached, withdrawn].map(|row| row.breaks("family-not-negotiated")));
        }
    }
    rows
}

/// E08 to E12: unusual, and right or harmless.
fn unusual() -> Vec<Row> {
    vec![
        Row::session("E08", "the reserved octet set", "RFC 4760 3", Verdict::Accepted, |actor| {
            let value = [&[0, 25, 70, 4][..], &actor.octets(), &[77], &actor.key_route()].concat();
            with_reach(actor, OPTIONAL, &value)
        }),
        Row::session("E09", "MP_REACH_NLRI without a route", "RFC 4760 3", Verdict::Ignored, |actor| {
            actor.reach_nothing()
        }),
        Row::session("E10", "end-of-RIB", "RFC 4724 2", Verdict::Ignored, |_| bgp::withdraw(&[])),
        Row::session("E11", "end-of-RIB three times", "RFC 4724 2", Verdict::Ignored, |_| bgp::withdraw(&[]).repeat(3)),
        Row::session("E11", "end-of-RIB before any route", "RFC 4724 2", Verdict::Accepted, |actor| {
            [bgp::withdraw(&[]), bgp::end_of_memberships(), actor.announce(actor.key)].concat()
        }),
        Row::script("E11", "end-of-RIB never: nobody waits for it for ever", "RFC 4724 4.1", |stage| {
            // Graceful restart was negotiated, so the daemon might hold its own end-of-RIB back for it.
            let restarting = [64, 6, 0x80, 1, 0, 25, 70, 0x80];
            let mut silent = stage.establish(&restarting);
            let other = stage.another();
            let mut connection = stage.establish_as(&other, &[]);
            connection.send(&bgp::default_membership(other.octets()));
            connection.send(&bgp::end_of_memberships());
            let end = bgp::withdraw(&[]);
            let keepalive = bgp::message(bgp::KEEPALIVE, &[]);
            let deadline = Instant::now() + wait::PATIENCE;
            loop {
                let (kind, body) = connection.receive().unwrap_or_else(|| panic!("closed before its end-of-RIB"));
                if kind == bgp::UPDATE && body == end[19..] {
                    break;
                }
                assert!(Instant::now() < deadline, "no end-of-RIB comes");
                connection.send(&keepalive);
                silent.send(&keepalive);
            }
            stage.install_key(&mut silent);
            stage.connection = Some(silent);
        }),
        Row::session("E12", "a withdrawal of what was never announced", "RFC 4271 3.1", Verdict::Ignored, |actor| {
            bgp::withdraw(&[actor.route([2, 0xcc, 9, 9, 9, 9])])
        })
        .breaks("withdrawal-unknown")
        .also(|stage| assert!(!stage.observed(&[2, 0xcc, 9, 9, 9, 9]), "a client was told of it")),
    ]
}

/// E14 to E17: path identifiers (RFC 7911), which are offered to nobody.
fn path_identifiers() -> Vec<Row> {
    let mut rows = Vec::new();
    for id in [0_u32, 1, 2, 255, 256, 65_535] {
        let row = Row::session(
            "E14",
            format!("path identifier {id} without negotiation"),
            "RFC 7911 5",
            RESET,
            move |actor| {
                let route = [&id.to_be_bytes()[..], &actor.key_route()].concat();
                actor.update_with(actor.base(), &[route])
            },
        );
        rows.push(row.breaks("evpn-path-identifier"));
    }
    rows.push(Row::script(
        "E14",
        "path identifiers of every size: nothing but the routes sent is ever known",
        "RFC 7911 5",
        |stage| {
            let before: Vec<_> = stage.scene.best_routes().into_keys().collect();
            for id in (0..32).map(|shift| 0x0203_0500_u32.rotate_left(shift)) {
                let actor = stage.another();
                let mut connection = stage.establish_as(&actor, &[]);
                let route = [&id.to_be_bytes()[..], &actor.key_route()].concat();
                connection.send(&actor.update_with(actor.base(), &[route]));
                // Whether it ends or not: what was sent before is processed once this is.
                connection.send(&actor.announce(actor.marker));
                let scene = stage.scene;
                wait::until("the end of the session, or its marker", || {
                    let peer = scene.reflector().peer(&actor.address.to_string());
                    let ended = peer.is_none_or(|peer| peer.state != "Established");
                    if ended || scene.places(actor.marker).reflector { Ok(()) } else { Err("neither") }
                });
                let own = [actor.key, actor.marker].map(super::actor::text);
                let strange = |route: &String| !before.contains(route) && !own.iter().any(|mac| route.contains(mac));
                let found: Vec<_> = scene.best_routes().into_keys().filter(strange).collect();
                let found: Vec<_> =
                    found.into_iter().filter(|route| route.contains(&actor.address.to_string())).collect();
                assert!(found.is_empty(), "path identifier {id:#x} was read as {found:?}");
            }
        },
    ));
    rows.push(
        Row::session(
            "E15",
            "the peer offers path identifiers and sends none",
            "RFC 7911 4",
            Verdict::Accepted,
            |actor| actor.announce(actor.key),
        )
        .with_capabilities(&ADD_PATH),
    );
    // Path identifiers are offered to nobody, so one key has one path of a peer: the first identifier ends the session.
    rows.push(
        Row::session("E16", "one route with thousands of path identifiers", "RFC 7911 5", RESET, |actor| {
            let routes = (1..80_u32).map(|id| [&id.to_be_bytes()[..], &actor.key_route()].concat()).collect::<Vec<_>>();
            let part = actor.update_with(actor.base(), &routes);
            part.repeat(800)
        })
        .with_capabilities(&ADD_PATH)
        .breaks("evpn-path-identifier"),
    );
    for (left, rule) in [(1, "evpn-framing"), (2, "evpn-path-identifier"), (3, "evpn-path-identifier")] {
        let row = Row::session(
            "E17",
            format!("{left} octets of a path identifier at the end"),
            "RFC 7911 5",
            RESET,
            move |actor| actor.update_with(actor.base(), &[actor.key_route(), vec![0; left]]),
        );
        rows.push(row.breaks(rule));
    }
    rows
}

/// E18, E19.
fn identities() -> Vec<Row> {
    let mut rows = Vec::new();
    for kind in [0_u8, 1, 2, 3, 255] {
        let what = format!("a route distinguisher of type {kind}, its content at random");
        rows.push(Row::session("E18", what, "RFC 4364 4.2", Verdict::Accepted, move |actor| {
            let mut route = bgp::MacRoute::of(actor.octets(), LAN, actor.key);
            route.rd = [if kind == 255 { 255 } else { 0 }, kind, 0x9e, 0x37, 0x79, 0xb9, actor.key[3], actor.key[4]];
            actor.update_with(actor.base(), &[route.nlri()])
        }));
    }
    rows.push(Row::script("E19", "an IPv6 next hop where the VTEPs are of IPv4", "RFC 8365 5.1.3", |stage| {
        super::evidence::assert_not_used(stage, "other address family", |actor| {
            let next_hop = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
            update(&[actor.base(), vec![bgp::reach_via(&next_hop, &[actor.key_route()])]].concat())
        });
    }));
    rows.push(Row::script("E19", "two IPv6 next hops, global and link-local", "RFC 2545 3", |stage| {
        super::evidence::assert_not_used(stage, "other address family", |actor| {
            let global = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
            let local = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
            update(&[actor.base(), vec![bgp::reach_via(&[global, local].concat(), &[actor.key_route()])]].concat())
        });
    }));
    rows
}

impl Actor {
    /// An UPDATE whose MP_REACH_NLRI has a next hop and no route.
    fn reach_nothing(&self) -> Vec<u8> {
        self.update_with(self.base(), &[])
    }
}
