//! Repeated failures slow a peer down, single ones do not.

use super::net::Net;
use super::*;
use crate::time::Duration;

/// How often a peer can make us talk to it within `seconds`, by connecting and sending `then`.
fn connections_admitted(then: &[u8], seconds: u64) -> usize {
    let mut peer = Peer::new(PeerConfig { passive: true, ..config(1) });
    peer.start(Instant::ZERO);
    let mut admitted = 0;
    for attempt in 0..u32::try_from(seconds * 100).unwrap() {
        let now = Instant::from_millis(u64::from(attempt) * 10);
        peer.handle_timeout(now);
        peer.connected(now, ConnectionId(attempt), Direction::Incoming);
        peer.received(now, ConnectionId(attempt), then);
        let outputs = drain(&mut peer);
        admitted += usize::from(outputs.iter().any(|output| output.contains("OPEN")));
    }
    admitted
}

#[test]
fn a_reset_storm_is_slowed_down_exponentially() {
    let storm = [open_of(&config(2)), notification(NotificationCode::CEASE_ADMINISTRATIVE_RESET)].concat();
    let admitted = connections_admitted(&storm, 300);
    assert!((5..=14).contains(&admitted), "{admitted} of 30,000 connections were served");
    let flapping = [open_of(&config(2)), KEEPALIVE.to_vec(), notification(NotificationCode::CEASE_HARD_RESET)].concat();
    let admitted = connections_admitted(&flapping, 300);
    assert!((5..=14).contains(&admitted), "{admitted} of 30,000 sessions were served");
}

#[test]
fn a_peer_that_crashes_can_come_back_at_once() {
    let mut net = Net::new(PeerConfig { passive: true, ..config(1) }, config(2));
    net.start();
    net.run_until_up();
    for _ in 0..5 {
        net.run(Duration::from_secs(60));
        net.crash(1, config(2), false);
        net.run(Duration::from_millis(50));
        net.with(1, Peer::start);
        assert!(net.run_until_up() < Duration::from_millis(20), "{:#?}", net.log);
    }
}

#[test]
fn a_started_peer_forgets_its_pause() {
    let mut peer = peer_in(State::Established, config(1), &config(2));
    peer.stop(Instant::from_secs(5), StopReason::MaxPrefixes);
    drain(&mut peer);
    assert_eq!(peer.state(), State::Idle);
    assert_eq!(peer.next_deadline(), Some(Instant::from_secs(65)));
    peer.start(Instant::from_secs(6));
    assert_eq!(drain(&mut peer), ["connect", "Idle->Connect"]);
}

#[test]
fn a_stopped_peer_refuses_connections_and_has_no_deadline() {
    let mut peer = peer_in(State::Established, config(1), &config(2));
    peer.stop(Instant::from_secs(5), StopReason::Deconfigured);
    drain(&mut peer);
    assert_eq!(peer.next_deadline(), None);
    peer.connected(Instant::from_secs(6), ConnectionId(7), Direction::Incoming);
    assert_eq!(drain(&mut peer), ["close#7"]);
    assert_eq!(peer.statistics().refused, 1);
}

#[test]
fn speakers_with_other_seeds_do_not_march_in_step() {
    let deadline = |seed| {
        let mut peer = Peer::new(PeerConfig { jitter_seed: seed, ..config(1) });
        peer.start(Instant::ZERO);
        peer.connect_failed(Instant::ZERO);
        peer.next_deadline().expect("a retry is planned")
    };
    let deadlines: std::collections::BTreeSet<_> = (0..64).map(deadline).collect();
    assert!(deadlines.len() > 32);
    assert!(deadlines.iter().all(|at| (Instant::from_millis(750)..=Instant::from_secs(1)).contains(at)));
}
