//! The whole table of states and events, and the graph that it makes.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::*;
use crate::time::Duration;

type Action = fn(&mut Peer, Instant);

const ONE: ConnectionId = ConnectionId(1);
const TWO: ConnectionId = ConnectionId(2);

fn remote() -> PeerConfig {
    config(2)
}

fn receive(peer: &mut Peer, now: Instant, bytes: &[u8]) {
    peer.received(now, ONE, bytes);
}

/// Events with their numbers in RFC 4271 section 8.1 where they have one.
fn events() -> Vec<(&'static str, Action)> {
    let mut events = local_events();
    events.extend(remote_events());
    events
}

fn local_events() -> Vec<(&'static str, Action)> {
    vec![
        ("start (1)", |peer, now| peer.start(now)),
        ("stop: shutdown (2)", |peer, now| {
            peer.stop(now, StopReason::Shutdown { communication: "bye".to_owned() });
        }),
        ("stop: restart (2)", |peer, now| peer.stop(now, StopReason::Restart)),
        ("stop: reset (8)", |peer, now| peer.stop(now, StopReason::Reset { administrative: true })),
        ("stop: max prefixes (8)", |peer, now| peer.stop(now, StopReason::MaxPrefixes)),
        ("connect retry timer (9)", |peer, now| peer.handle_timeout(now + Duration::from_secs(1))),
        ("hold timer (10)", |peer, now| {
            if let Some(connection) = peer.connections.iter_mut().find(|connection| connection.id == ONE) {
                connection.keepalive = None;
            }
            peer.handle_timeout(now + Duration::from_secs(15));
        }),
        ("keepalive timer (11)", |peer, now| peer.handle_timeout(now + Duration::from_secs(3))),
        ("send hold timer (29)", |peer, now| {
            peer.written(now, ONE, 0, SendQueue::Pending);
            if let Some(connection) = peer.connections.iter_mut().find(|connection| connection.id == ONE) {
                (connection.hold, connection.keepalive) = (None, None);
            }
            peer.handle_timeout(now + Duration::from_secs(480));
        }),
        ("our connection up (16)", |peer, now| peer.connected(now, TWO, Direction::Outgoing)),
        ("peer's connection up (17)", |peer, now| peer.connected(now, TWO, Direction::Incoming)),
        ("our attempt failed (18)", |peer, now| peer.connect_failed(now)),
        ("connection closed (18)", |peer, now| peer.closed(now, ONE)),
    ]
}

fn remote_events() -> Vec<(&'static str, Action)> {
    vec![
        ("OPEN (19)", |peer, now| receive(peer, now, &open_of(&remote()))),
        ("bad header (21)", |peer, now| receive(peer, now, &[0; 19])),
        ("OPEN of a wrong AS (22)", |peer, now| {
            let mut wrong = remote();
            wrong.local_asn = Asn(64_999);
            peer.config.remote_asn = Some(Asn(65_000));
            receive(peer, now, &open_of(&wrong));
        }),
        ("peer connects, OPEN there (23)", |peer, now| {
            peer.connected(now, TWO, Direction::Incoming);
            peer.received(now, TWO, &open_of(&remote()));
        }),
        ("NOTIFICATION (25)", |peer, now| {
            receive(peer, now, &notification(NotificationCode::CEASE_ADMINISTRATIVE_RESET));
        }),
        ("NOTIFICATION: hard reset (25)", |peer, now| {
            receive(peer, now, &notification(NotificationCode::CEASE_HARD_RESET));
        }),
        ("KEEPALIVE (26)", |peer, now| receive(peer, now, KEEPALIVE)),
        ("UPDATE (27)", |peer, now| receive(peer, now, END_OF_RIB)),
        ("ROUTE-REFRESH", |peer, now| {
            let refresh = crate::wire::RouteRefresh { family: EVPN, kind: crate::wire::message::RefreshKind::Request };
            receive(peer, now, &encoded(&Message::RouteRefresh(refresh)));
        }),
    ]
}

#[test]
fn every_event_in_every_state_does_what_the_table_says() {
    let mut table = String::new();
    let mut edges: BTreeMap<(State, State), Vec<&str>> = BTreeMap::new();
    for state in STATES {
        writeln!(table, "== {state}").unwrap();
        for (name, action) in events() {
            let mut peer = peer_in(state, config(1), &remote());
            action(&mut peer, Instant::from_secs(1));
            let outputs = drain(&mut peer);
            let outputs = if outputs.is_empty() { "-".to_owned() } else { outputs.join("; ") };
            writeln!(table, "{name:32} {:12} {outputs}", peer.state().to_string()).unwrap();
            if peer.state() != state {
                edges.entry((state, peer.state())).or_default().push(name);
            }
        }
    }
    insta::assert_snapshot!("state_table", table);
    let mut graph = String::from("digraph session {\n");
    for ((from, to), names) in edges {
        writeln!(graph, "  {from} -> {to} [label=\"{}\"]", names.join("\\n")).unwrap();
    }
    graph.push_str("}\n");
    insta::assert_snapshot!("state_graph", graph);
}

#[test]
fn a_keepalive_as_the_codec_writes_it_is_what_is_sent() {
    assert_eq!(encoded(&Message::Keepalive), KEEPALIVE);
}
