//! Sessions between two instances over loopback: up, updates, down, change, back-pressure.

mod support;

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use bgp_core::session::{DownCause, State, StopReason};
use bgp_core::wire::NotificationCode;
use bgp_io::Event;
use support::{PATIENCE, PEER, Speaker, macs, pair, update};

#[tokio::test]
async fn updates_cross_in_both_directions_and_the_writer_asks_for_more() {
    let (mut a, mut b) = pair(10, 11).await;
    let (of_a, negotiated) = a.established().await;
    let (of_b, _) = b.established().await;
    assert_eq!(negotiated.remote_router_id, b.router_id);
    assert!(a.io.send(PEER, of_a, vec![update(1), update(2)]));
    assert!(!a.io.send(PEER, of_a, vec![update(3)]), "one batch at a time");
    a.writer_ready().await;
    assert_eq!(b.macs(2).await, [1, 2]);
    assert!(b.io.send(PEER, of_b, vec![update(9)]));
    assert_eq!(a.macs(1).await, [9]);
    assert!(a.io.send(PEER, of_a, vec![update(3)]));
    assert_eq!(b.macs(1).await, [3]);
    let (state, statistics) = a.io.statistics(PEER).expect("the peer is there");
    assert_eq!((state, statistics.sent.update), (State::Established, 3));
}

#[tokio::test]
async fn sessions_run_over_ipv6_too() {
    let localhost = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let mut a = Speaker::with_capacity(localhost, 64).await;
    let mut b = Speaker::with_capacity(localhost, 64).await;
    b.router_id = bgp_core::types::RouterId(77);
    let (to_b, to_a) = (a.passive_spec(b.address), b.spec(a.address));
    a.io.set_peer(PEER, to_b).unwrap();
    b.io.set_peer(PEER, to_a).unwrap();
    let (session, _) = a.established().await;
    a.io.send(PEER, session, vec![update(5)]);
    b.established().await;
    assert_eq!(b.macs(1).await, [5]);
}

/// Both dial: the collision leaves one session, which does not flap.
#[tokio::test]
async fn simultaneous_connections_leave_one_session() {
    for round in 0..5 {
        let mut a = Speaker::start(20).await;
        let mut b = Speaker::start(21).await;
        let (to_b, to_a) = (a.spec(b.address), b.spec(a.address));
        a.io.set_peer(PEER, to_b).unwrap();
        b.io.set_peer(PEER, to_a).unwrap();
        let (of_a, _) = a.established().await;
        let (of_b, _) = b.established().await;
        assert!(a.io.send(PEER, of_a, vec![update(round)]) && b.io.send(PEER, of_b, vec![update(round)]));
        assert_eq!(a.macs(1).await, [round]);
        assert_eq!(b.macs(1).await, [round]);
    }
}

#[tokio::test]
async fn a_shutdown_is_told_with_its_words_and_the_peer_stays_down_until_resumed() {
    let (mut a, mut b) = pair(30, 31).await;
    a.established().await;
    b.established().await;
    a.io.stop(PEER, StopReason::Shutdown { communication: "maintenance".to_owned() });
    let reason = b.until(down).await;
    assert!(reason.cause.to_string().contains("\"maintenance\""), "{}", reason.cause);
    assert!(reason.keeps.is_empty(), "a hard reset");
    a.until(down).await;
    a.io.resume(PEER);
    a.established().await;
    b.established().await;
}

#[tokio::test]
async fn leaving_to_restart_sends_what_is_queued_and_says_nothing() {
    let (mut a, mut b) = pair(32, 33).await;
    let (session, _) = a.established().await;
    b.established().await;
    let batch: Vec<_> = (0..20_000).map(update).collect();
    assert!(a.io.send(PEER, session, batch));
    a.io.shutdown(StopReason::Restart).await;
    let mut received = Vec::new();
    let reason = loop {
        match b.next().await {
            Event::Updates { updates, .. } => received.extend(macs(&updates)),
            Event::Down { reason, .. } => break reason,
            _ => {}
        }
    };
    assert_eq!(received, (0..20_000).collect::<Vec<_>>());
    assert_eq!(reason.cause, DownCause::Closed);
    assert_eq!(reason.keeps.len(), 2, "any helper keeps the routes");
}

#[tokio::test]
async fn a_dropped_handle_looks_like_a_crash() {
    let (mut a, mut b) = pair(34, 35).await;
    a.established().await;
    b.established().await;
    drop(a);
    let reason = b.until(down).await;
    assert_eq!(reason.cause, DownCause::Closed);
    assert_eq!(reason.keeps.len(), 2);
}

#[tokio::test]
async fn a_removed_peer_is_told_and_its_end_is_reported() {
    let (mut a, mut b) = pair(36, 37).await;
    a.established().await;
    b.established().await;
    a.io.remove_peer(PEER);
    a.until(down).await;
    let reason = b.until(down).await;
    let DownCause::NotificationReceived(notification) = reason.cause else { panic!("{}", reason.cause) };
    assert_eq!(notification.hard_reset_reason().unwrap().error(), NotificationCode::CEASE_PEER_DE_CONFIGURED);
    // Whoever is no peer is not let in.
    b.error("").await;
    wait_until(|| a.io.refused_connections() > 0).await;
}

#[tokio::test]
async fn only_a_change_that_must_be_negotiated_resets_the_session() {
    let (mut a, mut b) = pair(38, 39).await;
    let (session, _) = a.established().await;
    b.established().await;
    let mut spec = a.passive_spec(b.address);
    a.io.set_peer(PEER, spec.clone()).unwrap();
    spec.session.idle_hold_max = Duration::from_secs(30);
    a.io.set_peer(PEER, spec.clone()).unwrap();
    // The session is still the same: it takes a batch.
    assert!(a.io.send(PEER, session, vec![update(1)]));
    assert_eq!(b.macs(1).await, [1]);
    spec.session.hold_time_secs = 30;
    a.io.set_peer(PEER, spec).unwrap();
    let reason = b.until(down).await;
    assert!(reason.cause.to_string().contains("Other Configuration Change"), "{}", reason.cause);
    b.established().await;
}

/// The owner of B does not listen: B stops reading, A's writer stops, and still nobody's hold timer expires.
#[tokio::test]
async fn a_slow_owner_stops_the_flow_but_not_the_session() {
    let mut a = Speaker::start(40).await;
    let mut b = Speaker::with_capacity(IpAddr::from([127, 0, 0, 41]), 4).await;
    let (mut to_b, to_a) = (a.passive_spec(b.address), b.spec(a.address));
    to_b.session.hold_time_secs = 3;
    a.io.set_peer(PEER, to_b).unwrap();
    b.io.set_peer(PEER, to_a).unwrap();
    let (session, _) = a.established().await;
    b.established().await;
    // More than all buffers between the two hold.
    let shared: Vec<_> = (0..2_000).map(update).collect();
    let mut batches = 0;
    let stalled = loop {
        if !a.io.send(PEER, session, shared.clone()) {
            break false;
        }
        batches += 1;
        if tokio::time::timeout(Duration::from_millis(300), a.writer_ready()).await.is_err() {
            break true;
        }
        assert!(batches < 10_000, "the flow never stops");
    };
    assert!(stalled, "the writer waits for the reader");
    // Three hold times later both sessions still stand.
    tokio::time::sleep(Duration::from_secs(9)).await;
    let all = batches * shared.len();
    assert_eq!(b.macs(all).await.len(), all, "nothing is lost");
    a.writer_ready().await;
    assert_eq!(a.io.statistics(PEER).unwrap().1.down, 0);
    assert_eq!(b.io.statistics(PEER).unwrap().1.down, 0);
}

#[tokio::test]
async fn keepalives_do_not_need_the_owner() {
    let (mut a, mut b) = pair(42, 43).await;
    let mut spec = a.passive_spec(b.address);
    spec.session.hold_time_secs = 3;
    a.io.set_peer(PEER, spec).unwrap();
    let up = |speaker: &Speaker| speaker.io.statistics(PEER).is_some_and(|(state, _)| state == State::Established);
    wait_until(|| up(&a) && up(&b)).await;
    a.until(|event| matches!(event, Event::State { state: State::Established, .. }).then_some(())).await;
    let sent = |speaker: &Speaker| speaker.io.statistics(PEER).unwrap().1.sent.keepalive;
    let before = sent(&a);
    wait_until(|| sent(&a) >= before + 5).await;
    assert!(up(&a) && up(&b));
    b.established().await;
}

#[tokio::test]
async fn an_unknown_address_inside_an_accepted_prefix_is_offered_to_the_owner() {
    let mut a = Speaker::start(50).await;
    let mut b = Speaker::start(51).await;
    a.io.accept(&[("127.0.0.48/29".parse().unwrap(), None, false)]).unwrap();
    let to_a = b.spec(a.address);
    b.io.set_peer(PEER, to_a).unwrap();
    let incoming = a.incoming().await;
    assert_eq!(incoming.from.ip(), b.address.ip());
    let spec = a.passive_spec(incoming.from);
    a.io.set_peer(PEER, spec).unwrap();
    a.io.deliver(PEER, incoming);
    a.established().await;
    b.established().await;
    assert_eq!(a.io.refused_connections(), 0);
}

fn down(event: Event) -> Option<bgp_core::session::DownReason> {
    match event {
        Event::Down { reason, .. } => Some(reason),
        _ => None,
    }
}

/// Polls a condition that no event announces.
async fn wait_until(mut condition: impl FnMut() -> bool) {
    let all = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("the condition comes true");
}
