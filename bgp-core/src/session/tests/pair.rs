//! Two speakers that agree, collide, fall silent, stall.

use super::net::Net;
use super::*;
use crate::time::Duration;

fn passive(router_id: u32) -> PeerConfig {
    PeerConfig { passive: true, ..config(router_id) }
}

#[test]
fn a_session_comes_up_in_two_round_trips_and_stays_up() {
    let mut net = Net::new(config(1), passive(2));
    net.start();
    assert!(net.run_until_up() <= Duration::from_millis(4));
    net.run(Duration::from_secs(600));
    assert_eq!(net.up, [1, 1]);
    assert_eq!(net.hosts[0].statistics().established, 1);
    let negotiated = net.hosts[0].negotiated().expect("the session is up");
    assert_eq!(negotiated.families, [AddressFamily::EVPN, AddressFamily::RT_CONSTRAIN]);
    assert!(negotiated.internal && negotiated.four_octet_as && negotiated.extended_message);
    assert_eq!(negotiated.remote_router_id, RouterId(2));
}

#[test]
fn octets_that_arrive_one_by_one_make_the_same_session() {
    let mut net = Net::new(config(1), passive(2));
    net.piece = 1;
    net.start();
    net.run_until_up();
    net.with(0, |peer, now| peer.stop(now, StopReason::Shutdown { communication: "bye".to_owned() }));
    net.run(Duration::from_secs(1));
    let expected = "the peer sent Cease / Hard Reset (6/9): Cease / Administrative Shutdown (6/2): \"bye\"";
    assert!(net.log[1].iter().any(|line| line.contains(expected)), "{:#?}", net.log[1]);
}

/// Both dial at once; whatever the latencies and identifiers, one session results, without a flap.
#[test]
fn simultaneous_connections_leave_exactly_one_session_and_never_flap() {
    for (a, b) in [(1, 2), (2, 1)] {
        for latencies in [[1, 1], [1, 7], [7, 1], [30, 2], [2, 30]] {
            for piece in [usize::MAX, 1] {
                for lead in [0, 1, 3, 9, 40] {
                    let mut net = Net::new(config(a), config(b));
                    net.latency = latencies.map(Duration::from_millis);
                    net.piece = piece;
                    net.with(0, Peer::start);
                    net.run(Duration::from_millis(lead));
                    net.with(1, Peer::start);
                    net.run_until_up();
                    net.run(Duration::from_secs(30));
                    assert_eq!(net.up, [1, 1], "{:#?}", net.log);
                    let flaps = net.hosts.iter().map(|host| host.statistics().down).sum::<u64>();
                    assert_eq!(flaps, 0, "ids {a} {b} latency {latencies:?} lead {lead}: {:#?}", net.log);
                    let connections = net.hosts.iter().map(|host| host.connections.len()).max();
                    assert_eq!(connections, Some(1));
                }
            }
        }
    }
}

#[test]
fn the_higher_identifiers_connection_wins_a_collision_and_the_loser_is_told() {
    for (ours, theirs, survivor) in [(1, 2, 2), (2, 1, 1)] {
        let mut peer = Peer::new(config(ours));
        let now = Instant::from_secs(1);
        peer.start(now);
        peer.connected(now, ConnectionId(2), Direction::Incoming);
        peer.connected(now, ConnectionId(1), Direction::Outgoing);
        drain(&mut peer);
        peer.received(now, ConnectionId(1), &open_of(&config(theirs)));
        let outputs = drain(&mut peer);
        let loser = 3 - survivor;
        assert!(outputs.contains(&format!("send#{loser} NOTIFICATION(6/7)")), "{outputs:?}");
        assert!(outputs.contains(&format!("close#{loser}")), "{outputs:?}");
        let left: Vec<_> = peer.connections.iter().map(|connection| connection.id.0).collect();
        assert_eq!(left, [survivor]);
    }
}

#[test]
fn with_equal_identifiers_the_higher_as_wins() {
    for (ours, theirs, survivor) in [(65_000, 65_001, 2), (65_001, 65_000, 1)] {
        let mut peer = Peer::new(PeerConfig { local_asn: Asn(ours), ..config(9) });
        let now = Instant::from_secs(1);
        peer.start(now);
        peer.connected(now, ConnectionId(2), Direction::Incoming);
        peer.connected(now, ConnectionId(1), Direction::Outgoing);
        peer.received(now, ConnectionId(1), &open_of(&PeerConfig { local_asn: Asn(theirs), ..config(9) }));
        drain(&mut peer);
        let left: Vec<_> = peer.connections.iter().map(|connection| connection.id.0).collect();
        assert_eq!(left, [survivor]);
    }
}

#[test]
fn a_silent_peer_is_dropped_at_the_hold_time() {
    let mut net = Net::new(config(1), passive(2));
    net.start();
    net.run_until_up();
    net.cut = true;
    net.run(Duration::from_secs(8));
    // Keepalives that were under way may have restarted the timer once.
    net.run(Duration::from_secs(4));
    assert_eq!(net.up, [0, 0]);
    assert!(net.log[0].iter().any(|line| line.contains("NOTIFICATION(4/0)")));
}

#[test]
fn parts_of_a_message_do_not_restart_the_hold_timer() {
    let mut peer = peer_in(State::Established, config(1), &config(2));
    for second in 2..=9 {
        let octet = END_OF_RIB[second - 2];
        peer.received(Instant::from_secs(u64::try_from(second).unwrap()), ConnectionId(1), &[octet]);
        assert!(drain(&mut peer).is_empty());
    }
    peer.handle_timeout(Instant::from_secs(10));
    assert_eq!(peer.state(), State::Active);
}

#[test]
fn unread_input_counts_as_life() {
    let mut peer = peer_in(State::Established, config(1), &config(2));
    for second in 2..60 {
        let now = Instant::from_secs(second);
        peer.input_pending(now, ConnectionId(1));
        peer.handle_timeout(now);
        drain(&mut peer);
    }
    assert_eq!(peer.state(), State::Established);
    peer.handle_timeout(Instant::from_secs(68));
    assert_eq!(peer.state(), State::Active);
}

#[test]
fn a_peer_that_does_not_read_is_dropped_at_the_send_hold_time() {
    let hold = PeerConfig { hold_time_secs: 0, ..config(1) };
    let mut peer = peer_in(State::Established, hold, &config(2));
    let id = ConnectionId(1);
    peer.written(Instant::from_secs(10), id, 0, SendQueue::Pending);
    // A few octets now and then are no progress.
    for second in 11..490 {
        peer.written(Instant::from_secs(second), id, 1, SendQueue::Pending);
        peer.handle_timeout(Instant::from_secs(second));
    }
    assert!(drain(&mut peer).is_empty());
    peer.handle_timeout(Instant::from_secs(490));
    let outputs = drain(&mut peer);
    assert!(outputs.contains(&"send#1 NOTIFICATION(8/0)".to_owned()), "{outputs:?}");
}

#[test]
fn a_peer_that_reads_keeps_its_session() {
    let hold = PeerConfig { hold_time_secs: 0, ..config(1) };
    let mut peer = peer_in(State::Established, hold, &config(2));
    for minute in 1..100 {
        peer.written(Instant::from_secs(60 * minute), ConnectionId(1), 65_536, SendQueue::Pending);
        peer.handle_timeout(Instant::from_secs(60 * minute));
    }
    peer.written(Instant::from_secs(6000), ConnectionId(1), 1, SendQueue::Empty);
    peer.handle_timeout(Instant::from_secs(100_000));
    assert_eq!(peer.state(), State::Established);
}

#[test]
fn no_keepalive_is_queued_behind_what_waits_already() {
    let mut peer = peer_in(State::Established, config(1), &config(2));
    peer.written(Instant::from_secs(1), ConnectionId(1), 0, SendQueue::Pending);
    peer.handle_timeout(Instant::from_secs(5));
    assert!(drain(&mut peer).is_empty());
    peer.written(Instant::from_secs(6), ConnectionId(1), 100, SendQueue::Empty);
    peer.handle_timeout(Instant::from_secs(9));
    assert_eq!(drain(&mut peer), ["send#1 KEEPALIVE"]);
}

#[test]
fn a_peer_that_sends_no_open_is_dropped() {
    let mut peer = peer_in(State::OpenSent, config(1), &config(2));
    peer.handle_timeout(Instant::from_secs(16));
    let outputs = drain(&mut peer);
    assert!(outputs.contains(&"send#1 NOTIFICATION(4/0)".to_owned()), "{outputs:?}");
    assert_eq!(peer.state(), State::Active);
}

#[test]
fn a_notification_is_never_answered() {
    for state in [State::OpenSent, State::OpenConfirm, State::Established] {
        for bytes in [notification(NotificationCode::CEASE_ADMINISTRATIVE_RESET), {
            // A length of 19 leaves no room for the code.
            let mut short = KEEPALIVE.to_vec();
            short[18] = 3;
            short
        }] {
            let mut peer = peer_in(state, config(1), &config(2));
            peer.received(Instant::from_secs(2), ConnectionId(1), &bytes);
            let outputs = drain(&mut peer);
            assert!(outputs.iter().all(|output| !output.starts_with("send")), "{state}: {outputs:?}");
            assert!(outputs.contains(&"close#1".to_owned()));
        }
    }
}

#[test]
fn messages_before_a_bad_one_and_before_the_end_still_count() {
    let mut peer = peer_in(State::Established, config(1), &config(2));
    let now = Instant::from_secs(2);
    peer.received(now, ConnectionId(1), &[END_OF_RIB, &notification(NotificationCode::CEASE_HARD_RESET)].concat());
    peer.closed(now, ConnectionId(1));
    let outputs = drain(&mut peer);
    assert_eq!(outputs.first().map(String::as_str), Some("update"));
    assert!(outputs.iter().any(|output| output.contains("Hard Reset")), "{outputs:?}");
}

#[test]
fn opens_that_cannot_be_accepted_are_answered_with_their_subcode() {
    let base = config(2);
    let cases = [
        (PeerConfig { local_asn: Asn(0), ..base.clone() }, NotificationCode::BAD_PEER_AS),
        (PeerConfig { local_asn: Asn(1), ..base.clone() }, NotificationCode::BAD_PEER_AS),
        (config(0), NotificationCode::BAD_BGP_IDENTIFIER),
        (config(1), NotificationCode::BAD_BGP_IDENTIFIER),
        (
            PeerConfig { families: vec![AddressFamily::IPV4_UNICAST], ..base.clone() },
            NotificationCode::UNSUPPORTED_CAPABILITY,
        ),
        (PeerConfig { families: vec![], ..base }, NotificationCode::UNSUPPORTED_CAPABILITY),
    ];
    for (remote, expected) in cases {
        let ours = PeerConfig { remote_asn: Some(Asn(65_000)), ..config(1) };
        let mut peer = peer_in(State::OpenSent, ours, &remote);
        peer.received(Instant::from_secs(2), ConnectionId(1), &open_of(&remote));
        let outputs: Vec<_> = core::iter::from_fn(|| peer.poll_output()).collect();
        let sent = outputs.iter().find_map(sent_notification).map(|sent| sent.error());
        assert_eq!(sent, Some(expected), "{remote:?}");
        let told = outputs.iter().find_map(|output| match output {
            Output::Failed(cause) => Some(cause.to_string()),
            _ => None,
        });
        assert!(told.is_some_and(|told| told.contains(&expected.to_string())), "people are told as well: {remote:?}");
    }
}

#[test]
fn refreshes_of_unknown_kinds_and_families_are_ignored() {
    use crate::wire::RouteRefresh;
    use crate::wire::message::RefreshKind;
    let mut peer = peer_in(State::Established, config(1), &config(2));
    for (family, kind, outputs) in [
        (EVPN, RefreshKind::Request, 1),
        (EVPN, RefreshKind::Begin, 1),
        (EVPN, RefreshKind::Unknown(3), 0),
        (AddressFamily::IPV4_UNICAST, RefreshKind::Request, 0),
    ] {
        let refresh = encoded(&Message::RouteRefresh(RouteRefresh { family, kind }));
        peer.received(Instant::from_secs(2), ConnectionId(1), &refresh);
        assert_eq!(drain(&mut peer).len(), outputs, "{family} {kind:?}");
    }
    assert_eq!(peer.state(), State::Established);
}

#[test]
fn a_hold_time_of_zero_means_no_keepalives_and_no_expiry() {
    let mut net = Net::new(PeerConfig { hold_time_secs: 0, ..config(1) }, passive(2));
    net.start();
    net.run_until_up();
    let before = net.hosts[0].statistics().sent.keepalive;
    net.cut = true;
    net.run(Duration::from_secs(3600));
    assert_eq!(net.up, [1, 1]);
    assert_eq!(net.hosts[0].statistics().sent.keepalive, before);
}

#[test]
fn an_unreachable_peer_is_dialled_once_per_retry_interval() {
    let mut net = Net::new(config(1), config(2));
    net.cut = true;
    net.with(0, Peer::start);
    net.run(Duration::from_secs(60));
    let attempts = net.log[0].iter().filter(|line| line.ends_with(" connect")).count();
    assert!((55..=62).contains(&attempts), "{attempts}");
}
