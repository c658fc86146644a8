//! Which ends of a session keep routes (RFC 4724, RFC 8538).

use super::net::Net;
use super::*;
use crate::time::Duration;
use crate::wire::message::{Capability, GracefulRestart};

fn with_restart(router_id: u32, restart: Option<RestartConfig>) -> PeerConfig {
    PeerConfig { graceful_restart: restart, ..config(router_id) }
}

fn restart(notification: bool, families: Vec<(AddressFamily, bool)>) -> Option<RestartConfig> {
    Some(RestartConfig {
        restart_time_secs: 90,
        notification,
        families,
        max_restart_time_secs: PeerConfig::MAX_RESTART_SECS,
        long_lived: None,
    })
}

/// What is kept when `action` is done to an established peer.
fn kept(ours: PeerConfig, theirs: &PeerConfig, action: impl FnOnce(&mut Peer)) -> Vec<Retention> {
    let mut peer = peer_in(State::Established, ours, theirs);
    action(&mut peer);
    core::iter::from_fn(|| peer.poll_output())
        .find_map(|output| match output {
            Output::Down(reason) => Some(reason.keeps),
            _ => None,
        })
        .expect("the session went down")
}

fn close(peer: &mut Peer) {
    peer.closed(Instant::from_secs(2), ConnectionId(1));
}

fn cease(peer: &mut Peer) {
    peer.received(Instant::from_secs(2), ConnectionId(1), &notification(NotificationCode::CEASE_ADMINISTRATIVE_RESET));
}

fn hard_reset(peer: &mut Peer) {
    peer.received(Instant::from_secs(2), ConnectionId(1), &notification(NotificationCode::CEASE_HARD_RESET));
}

fn expire(peer: &mut Peer) {
    peer.handle_timeout(Instant::from_secs(20));
}

fn garbage(peer: &mut Peer) {
    peer.received(Instant::from_secs(2), ConnectionId(1), &[0; 19]);
}

#[test]
fn only_what_both_sides_agreed_on_is_kept() {
    let evpn = || vec![(EVPN, true)];
    let cases = [
        // Families kept after: close, Cease, hard reset, hold timer, our NOTIFICATION.
        ("both with N", restart(true, vec![]), restart(true, evpn()), [1, 1, 0, 1, 1]),
        ("they without N", restart(true, vec![]), restart(false, evpn()), [1, 0, 0, 0, 0]),
        ("we without N", restart(false, vec![]), restart(true, evpn()), [1, 0, 0, 0, 0]),
        ("they as helper only", restart(true, evpn()), restart(true, vec![]), [0; 5]),
        ("they without", restart(true, evpn()), None, [0; 5]),
        ("we without", None, restart(true, evpn()), [0; 5]),
    ];
    for (name, ours, theirs, expected) in cases {
        let ends: [fn(&mut Peer); 5] = [close, cease, hard_reset, expire, garbage];
        let found = ends.map(|end| kept(with_restart(1, ours.clone()), &with_restart(2, theirs.clone()), end).len());
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn the_peers_restart_time_is_reported() {
    let kept = kept(config(1), &with_restart(2, restart(true, vec![(EVPN, false)])), close);
    assert_eq!(kept, [retention(EVPN, 90, 0)]);
}

#[test]
fn families_that_the_session_does_not_carry_are_not_kept() {
    let theirs = with_restart(2, restart(true, vec![(EVPN, true), (AddressFamily::IPV4_UNICAST, true)]));
    assert_eq!(kept(config(1), &theirs, close), [retention(EVPN, 90, 0)]);
}

fn retention(family: AddressFamily, restart_secs: u64, long_lived_secs: u64) -> Retention {
    let (restart_time, long_lived_time) = (Duration::from_secs(restart_secs), Duration::from_secs(long_lived_secs));
    Retention { family, restart_time, long_lived_time }
}

#[test]
fn each_family_is_kept_as_long_as_both_capabilities_say() {
    const RTC: AddressFamily = AddressFamily::RT_CONSTRAIN;
    let graceful = |secs, families| {
        Some(Capability::GracefulRestart(GracefulRestart {
            restarting: false,
            notification: true,
            restart_time_secs: secs,
            families,
        }))
    };
    let long_lived = |families| Some(Capability::LongLivedGracefulRestart(families));
    let both = || vec![(EVPN, true), (RTC, true)];
    let cases = [
        (
            "one after the other",
            graceful(90, both()),
            long_lived(vec![(EVPN, true, 600), (RTC, true, 50)]),
            vec![retention(EVPN, 90, 600), retention(RTC, 90, 50)],
        ),
        (
            "no restart time",
            graceful(0, both()),
            long_lived(vec![(EVPN, true, 600)]),
            vec![retention(EVPN, 0, 600), retention(RTC, 0, 0)],
        ),
        (
            "listed by the second only",
            graceful(90, vec![]),
            long_lived(vec![(EVPN, true, 600)]),
            vec![retention(EVPN, 0, 600)],
        ),
        (
            "above our bound",
            graceful(90, vec![]),
            long_lived(vec![(EVPN, true, 0x00ff_ffff)]),
            vec![retention(EVPN, 0, 86_400)],
        ),
        (
            "a restart time above our bound",
            graceful(4_095, both()),
            long_lived(vec![]),
            vec![retention(EVPN, 1_000, 0), retention(RTC, 1_000, 0)],
        ),
        ("without the first", None, long_lived(vec![(EVPN, true, 600)]), vec![]),
        ("no time at all", graceful(0, vec![]), long_lived(vec![(EVPN, true, 0)]), vec![]),
    ];
    let offer = LongLivedConfig { stale_time_secs: 10, max_stale_time_secs: 86_400 };
    let ours =
        RestartConfig { long_lived: Some(offer), max_restart_time_secs: 1_000, ..restart(true, both()).unwrap() };
    let without = RestartConfig { long_lived: None, ..ours.clone() };
    for (name, restart, long_lived, expected) in cases {
        let mut open = config(2).open(false);
        open.capabilities.retain(|capability| !matches!(capability, Capability::GracefulRestart(_)));
        open.capabilities.extend(restart.into_iter().chain(long_lived));
        let negotiated = |ours| Negotiated::new(&with_restart(1, Some(ours)), false, &open).unwrap();
        assert_eq!(negotiated(ours.clone()).retentions().collect::<Vec<_>>(), expected, "{name}");
        let granted = negotiated(without.clone());
        assert!(granted.retentions().all(|kept| kept.long_lived_time == Duration::ZERO), "{name}: we do not offer it");
        assert_eq!(granted.long_lived_known, open.long_lived_graceful_restart().is_some(), "{name}");
    }
}

#[test]
fn leaving_to_restart_says_nothing_where_graceful_restart_was_agreed() {
    let mut peer = peer_in(State::Established, config(1), &config(2));
    peer.stop(Instant::from_secs(2), StopReason::Restart);
    assert!(drain(&mut peer).iter().all(|output| !output.starts_with("send")));
    let mut peer = peer_in(State::Established, config(1), &with_restart(2, None));
    peer.stop(Instant::from_secs(2), StopReason::Restart);
    assert_eq!(drain(&mut peer).first().map(String::as_str), Some("send#1 NOTIFICATION(6/2)"));
}

#[test]
fn leaving_for_good_is_a_hard_reset_where_the_peer_would_keep_routes_otherwise() {
    for (theirs, expected) in [
        (config(2), "send#1 NOTIFICATION(6/9)"),
        (with_restart(2, restart(false, vec![])), "send#1 NOTIFICATION(6/2)"),
        (with_restart(2, None), "send#1 NOTIFICATION(6/2)"),
    ] {
        let mut peer = peer_in(State::Established, config(1), &theirs);
        peer.stop(Instant::from_secs(2), StopReason::HardReset);
        assert_eq!(drain(&mut peer).first().map(String::as_str), Some(expected));
    }
}

/// The peer restarts and TCP does not tell: its new connection replaces the old one, and routes are kept.
#[test]
fn a_restarted_peer_replaces_its_own_session_without_a_notification() {
    for restarting in [true, false] {
        let mut net = Net::new(PeerConfig { passive: true, ..config(1) }, config(2));
        net.start();
        net.run_until_up();
        net.run(Duration::from_secs(3));
        net.crash(1, config(2), true);
        net.log[0].clear();
        net.with(1, |peer, now| {
            peer.set_restarting(restarting);
            peer.start(now);
        });
        net.run(Duration::from_millis(100));
        assert_eq!(net.up, [1, 0], "the old session may be alive: {}", net.log[0].join("\n"));
        // Two KEEPALIVEs are missing.
        net.run(Duration::from_secs(6));
        let log = net.log[0].join("\n");
        assert_eq!(net.up, [1, 1], "{log}");
        let down = log.find("down: the peer came back on a new connection, keeps [evpn, rt-constrain]");
        assert!(down.is_some() && down < log.find("established#"), "{log}");
        assert!(!log.contains("NOTIFICATION"), "{log}");
        assert_eq!(net.hosts[0].negotiated().map(Negotiated::peer_restarting), Some(restarting));
    }
}

/// An established session, and a second connection from the peer's address whose OPEN has come 5 s later.
fn contested(rival: &PeerConfig) -> (Peer, Vec<String>) {
    let mut peer = peer_in(State::Established, config(1), &config(2));
    let now = Instant::from_secs(5);
    peer.received(now, ConnectionId(1), KEEPALIVE);
    drain(&mut peer);
    peer.connected(now, ConnectionId(2), Direction::Incoming);
    assert!(drain(&mut peer).is_empty(), "our OPEN waits for the peer's");
    peer.received(now, ConnectionId(2), &open_of(rival));
    let outputs = drain(&mut peer);
    (peer, outputs)
}

#[test]
fn a_session_that_is_alive_is_not_disturbed_by_who_else_comes_from_the_peers_address() {
    let (mut peer, outputs) = contested(&config(2));
    assert_eq!(outputs, ["send#1 KEEPALIVE"], "nothing but a question to the old one");
    peer.received(Instant::from_secs(7), ConnectionId(1), KEEPALIVE);
    let outputs = drain(&mut peer);
    assert_eq!(outputs.first().map(String::as_str), Some("send#2 NOTIFICATION(6/7)"), "{outputs:?}");
    assert_eq!((peer.state(), peer.connections.len()), (State::Established, 1));
}

#[test]
fn another_identifier_is_no_peer_that_is_back() {
    let (peer, outputs) = contested(&config(3));
    assert_eq!(outputs.first().map(String::as_str), Some("send#2 NOTIFICATION(6/7)"), "{outputs:?}");
    assert_eq!((peer.state(), peer.connections.len()), (State::Established, 1));
}

#[test]
fn a_peer_that_is_back_takes_over_as_soon_as_tcp_tells_that_the_old_session_is_dead() {
    let (mut peer, _) = contested(&config(2));
    peer.closed(Instant::from_secs(5), ConnectionId(1));
    let outputs = drain(&mut peer).join("; ");
    let order = ["down: ", "send#2 OPEN", "send#2 KEEPALIVE"].map(|part| outputs.find(part));
    assert!(order.is_sorted() && order[0].is_some(), "{outputs}");
    peer.received(Instant::from_secs(5), ConnectionId(2), KEEPALIVE);
    drain(&mut peer);
    assert_eq!((peer.state(), peer.connections.len()), (State::Established, 1));
}

#[test]
fn a_connection_that_says_nothing_costs_an_established_session_nothing() {
    let mut peer = peer_in(State::Established, config(1), &config(2));
    for second in 2..60 {
        let now = Instant::from_secs(second);
        peer.received(now, ConnectionId(1), KEEPALIVE);
        peer.connected(now, ConnectionId(u32::try_from(second).unwrap() * 2), Direction::Incoming);
        peer.handle_timeout(now);
        drain(&mut peer);
        assert_eq!(peer.state(), State::Established);
        assert!(peer.connections.len() <= 2);
    }
}

#[test]
fn a_second_connection_without_graceful_restart_is_refused() {
    let mut peer = peer_in(State::Established, config(1), &with_restart(2, None));
    peer.connected(Instant::from_secs(5), ConnectionId(2), Direction::Incoming);
    let outputs = drain(&mut peer);
    assert_eq!(outputs.first().map(String::as_str), Some("send#2 NOTIFICATION(6/7)"));
    assert_eq!(peer.state(), State::Established);
}

/// The waiting connection takes over when the old session ends before its OPEN has come.
#[test]
fn a_waiting_connection_goes_on_when_the_old_session_ends() {
    let mut peer = peer_in(State::Established, config(1), &config(2));
    let now = Instant::from_secs(5);
    peer.connected(now, ConnectionId(2), Direction::Incoming);
    assert!(drain(&mut peer).is_empty(), "our OPEN waits for the peer's");
    peer.closed(now, ConnectionId(1));
    let outputs = drain(&mut peer);
    assert!(outputs.contains(&"send#2 OPEN".to_owned()), "{outputs:?}");
    peer.received(now, ConnectionId(2), &open_of(&config(2)));
    peer.received(now, ConnectionId(2), KEEPALIVE);
    drain(&mut peer);
    assert_eq!(peer.state(), State::Established);
}

#[test]
fn the_restart_bit_is_set_until_the_peer_has_been_told_everything() {
    let mut net = Net::new(PeerConfig { passive: true, ..config(1) }, config(2));
    net.hosts[1].set_restarting(true);
    net.start();
    net.run_until_up();
    assert_eq!(net.hosts[0].negotiated().map(Negotiated::peer_restarting), Some(true));
    assert_eq!(net.hosts[1].negotiated().map(|agreed| agreed.local_restarting), Some(true));
    for told in [false, true] {
        net.hosts[1].set_restarting(!told);
        net.with(0, |peer, now| peer.stop(now, StopReason::Reset { administrative: true }));
        net.run(Duration::from_secs(5));
        assert_eq!(net.hosts[0].negotiated().map(Negotiated::peer_restarting), Some(!told));
    }
}
