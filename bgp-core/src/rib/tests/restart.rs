//! End-of-RIB rules, stale routes and the timers around them.

use super::*;

const EVPN: AddressFamily = AddressFamily::EVPN;
const RTC: AddressFamily = AddressFamily::RT_CONSTRAIN;
const A: PeerId = PeerId(2);
const B: PeerId = PeerId(4);

fn at(secs: u64) -> Instant {
    Instant::from_secs(secs)
}

fn sent(rib: &mut Rib, peer: PeerId) -> Vec<AddressFamily> {
    rib.flush();
    let mut view = View::default();
    view.drain(rib, peer);
    view.end_of_ribs
}

#[test]
fn a_reflector_waits_for_the_expected_peers_before_it_says_that_is_all() {
    let mut rib = reflector();
    rib.set_expected_peers([A, B]);
    for (peer, number) in [(A, 2), (B, 4)] {
        rib.peer_up(peer, info(number, PeerClass::Client, false), NOW);
    }
    assert_eq!(sent(&mut rib, A), []);
    apply(&mut rib, A, end_of_rib(EVPN));
    assert_eq!((sent(&mut rib, A), rib.is_synchronised()), (vec![], false));
    apply(&mut rib, B, end_of_rib(EVPN));
    rib.flush();
    assert_eq!((rib.drain_ready(), rib.is_synchronised()), (vec![A, B], true));
    assert_eq!(sent(&mut rib, A), [EVPN]);
    assert_eq!(sent(&mut rib, B), [EVPN]);
    assert_eq!(sent(&mut rib, B), [], "once");
}

#[test]
fn a_reflector_waits_no_longer_than_the_hold() {
    let mut rib = reflector();
    rib.peer_up(A, info(2, PeerClass::Client, false), NOW);
    apply(&mut rib, A, end_of_rib(EVPN));
    assert_eq!(sent(&mut rib, A), [], "the peers to expect are not known");
    assert_eq!(rib.next_deadline(), Some(at(30)));
    rib.handle_timeout(at(30));
    assert_eq!((sent(&mut rib, A), rib.is_synchronised()), (vec![EVPN], true));
}

#[test]
fn the_hold_begins_when_it_is_known_whom_to_let_in() {
    let mut rib = reflector();
    rib.handle_timeout(at(25));
    rib.begin_hold(at(25));
    rib.set_expected_peers([A, B]);
    rib.peer_up(A, info(2, PeerClass::Client, false), at(26));
    apply(&mut rib, A, end_of_rib(EVPN));
    rib.handle_timeout(at(54));
    assert_eq!((sent(&mut rib, A), rib.is_synchronised()), (vec![], false));
    rib.handle_timeout(at(55));
    assert_eq!((sent(&mut rib, A), rib.is_synchronised()), (vec![EVPN], true));
}

#[test]
fn nobody_waits_for_a_peer_that_was_removed() {
    let mut rib = reflector();
    rib.set_expected_peers([A, B]);
    rib.peer_up(A, info(2, PeerClass::Client, false), NOW);
    apply(&mut rib, A, end_of_rib(EVPN));
    rib.peer_removed(B);
    assert_eq!(sent(&mut rib, A), [EVPN]);
}

#[test]
fn a_speaker_with_several_addresses_has_spoken_once_one_of_them_has() {
    let mut rib = reflector();
    rib.set_expected_speakers([vec![A, PeerId(3)], vec![B]]);
    for (peer, number) in [(A, 2), (B, 4)] {
        rib.peer_up(peer, info(number, PeerClass::Client, false), NOW);
    }
    apply(&mut rib, A, end_of_rib(EVPN));
    assert_eq!(sent(&mut rib, A), [], "the other speaker has not spoken");
    apply(&mut rib, B, end_of_rib(EVPN));
    assert_eq!(sent(&mut rib, A), [EVPN]);
}

#[test]
fn who_loses_one_of_its_addresses_is_still_waited_for() {
    let mut rib = reflector();
    rib.set_expected_speakers([vec![A, B]]);
    rib.peer_removed(A);
    rib.peer_up(B, info(4, PeerClass::Client, false), NOW);
    assert_eq!(sent(&mut rib, B), []);
    apply(&mut rib, B, end_of_rib(EVPN));
    assert_eq!(sent(&mut rib, B), [EVPN]);
}

#[test]
fn routes_that_are_known_go_before_end_of_rib() {
    let mut rib = reflector();
    rib.set_expected_peers([A]);
    rib.peer_up(A, info(2, PeerClass::Client, false), NOW);
    rib.peer_up(B, info(4, PeerClass::Client, false), NOW);
    apply(&mut rib, A, announce(vec![mac_route(2, 10, 1)], attributes(2, 10)));
    apply(&mut rib, A, end_of_rib(EVPN));
    rib.flush();
    let mut view = View::default();
    while view.end_of_ribs.is_empty() {
        assert!(view.read(&mut rib, B, 1));
    }
    assert_eq!(view.routes.len(), 1);
}

#[test]
fn evpn_end_of_rib_waits_for_the_peers_memberships_but_not_for_ever() {
    let mut rib = reflector();
    rib.set_expected_peers([]);
    for (peer, number) in [(A, 2), (B, 4)] {
        rib.peer_up(peer, info(number, PeerClass::Client, true), NOW);
    }
    assert_eq!(sent(&mut rib, A), [RTC]);
    apply(&mut rib, A, ask(membership(10)));
    apply(&mut rib, A, end_of_rib(RTC));
    assert_eq!(sent(&mut rib, A), [EVPN]);
    assert_eq!(sent(&mut rib, B), [RTC]);
    rib.handle_timeout(at(30));
    assert_eq!(sent(&mut rib, B), [EVPN]);
}

#[test]
fn a_reflector_asks_each_peer_for_everything() {
    let mut rib = reflector();
    rib.peer_up(A, info(2, PeerClass::Client, true), NOW);
    rib.peer_up(B, info(4, PeerClass::NonClient, true), NOW);
    apply(&mut rib, A, ask(membership(10)));
    rib.flush();
    for peer in [A, B] {
        let mut view = View::default();
        view.drain(&mut rib, peer);
        assert_eq!(view.memberships, [RtMembership::Default]);
    }
}

#[test]
fn a_workers_end_of_rib_waits_for_its_owner() {
    let mut rib = worker();
    rib.peer_up(A, info(2, PeerClass::NonClient, true), NOW);
    apply(&mut rib, A, ask(RtMembership::Default));
    apply(&mut rib, A, end_of_rib(RTC));
    assert_eq!((sent(&mut rib, A), rib.is_synchronised()), (vec![], false));
    rib.originate(mac_route(1, 10, 1), attributes(1, 10));
    rib.originate_membership(membership(10));
    rib.local_ready();
    rib.flush();
    let mut view = View::default();
    view.drain(&mut rib, A);
    assert_eq!(view.end_of_ribs, [RTC, EVPN]);
    assert_eq!((view.routes.len(), view.memberships.len()), (1, 1));
}

#[test]
fn a_worker_sweeps_only_after_every_established_reflector_has_spoken() {
    let mut rib = worker();
    assert!(!rib.remote_sweep_allowed(), "with no reflector it keeps everything");
    rib.peer_up(A, info(2, PeerClass::NonClient, false), NOW);
    rib.peer_up(B, info(4, PeerClass::NonClient, false), NOW);
    apply(&mut rib, A, end_of_rib(EVPN));
    assert!(!rib.remote_sweep_allowed());
    apply(&mut rib, B, end_of_rib(EVPN));
    assert!(rib.remote_sweep_allowed());
    rib.peer_down(A, &keeping(&[EVPN], 120, 0), NOW);
    assert!(rib.remote_sweep_allowed());
    rib.peer_up(A, info(2, PeerClass::NonClient, false), NOW);
    assert!(!rib.remote_sweep_allowed());
    rib.handle_timeout(at(120));
    assert!(rib.remote_sweep_allowed(), "a peer that never says end-of-RIB is waited for two minutes");
}

#[test]
fn stale_routes_stay_until_the_peers_end_of_rib() {
    let mut rib = reflector();
    rib.peer_up(A, info(2, PeerClass::Client, false), NOW);
    apply(&mut rib, A, announce(vec![mac_route(2, 10, 1), mac_route(2, 10, 2)], attributes(2, 10)));
    rib.flush();
    rib.peer_down(A, &keeping(&[EVPN], 120, 0), NOW);
    rib.flush();
    assert_eq!(rib.routes().filter(|route| route.stale).count(), 2);
    rib.peer_up(A, info(2, PeerClass::Client, false), at(5));
    apply(&mut rib, A, announce(vec![mac_route(2, 10, 1)], attributes(2, 10)));
    assert_eq!(rib.stats().paths, 2);
    apply(&mut rib, A, end_of_rib(EVPN));
    rib.flush();
    assert_eq!((rib.stats().paths, rib.routes().filter(|route| route.stale).count()), (1, 0));
}

#[test]
fn a_restart_changes_nothing_for_the_others() {
    let mut rib = reflector();
    rib.set_expected_peers([]);
    rib.peer_up(A, info(2, PeerClass::Client, false), NOW);
    rib.peer_up(B, info(4, PeerClass::Client, false), NOW);
    apply(&mut rib, A, announce(vec![mac_route(2, 10, 1)], attributes(2, 10)));
    rib.flush();
    View::default().drain(&mut rib, B);
    rib.peer_down(A, &keeping(&[EVPN], 120, 0), NOW);
    rib.flush();
    rib.peer_up(A, info(2, PeerClass::Client, false), at(1));
    apply(&mut rib, A, announce(vec![mac_route(2, 10, 1)], attributes(2, 10)));
    apply(&mut rib, A, end_of_rib(EVPN));
    rib.flush();
    assert!(!rib.has_pending(B));
}

#[test]
fn stale_routes_go_with_the_restart_time() {
    let mut rib = reflector();
    rib.peer_up(A, info(2, PeerClass::Client, true), NOW);
    apply(&mut rib, A, announce(vec![mac_route(2, 10, 1)], attributes(2, 10)));
    apply(&mut rib, A, ask(membership(10)));
    rib.peer_down(A, &keeping(&[EVPN, RTC], 100, 0), NOW);
    for secs in [30, 99] {
        rib.handle_timeout(at(secs));
        assert_eq!((rib.stats().paths, rib.memberships().count()), (1, 2));
    }
    rib.handle_timeout(at(100));
    rib.flush();
    assert_eq!((rib.stats().paths, rib.memberships().count()), (0, 1));
    assert_eq!(rib.next_deadline(), None);
}

#[test]
fn routes_of_a_peer_that_did_not_preserve_forwarding_go_when_it_is_back() {
    let mut rib = reflector();
    rib.peer_up(A, info(2, PeerClass::Client, false), NOW);
    apply(&mut rib, A, announce(vec![mac_route(2, 10, 1)], attributes(2, 10)));
    rib.peer_down(A, &keeping(&[EVPN], 120, 0), NOW);
    let mut cold = info(2, PeerClass::Client, false);
    cold.families[0].forwarding_preserved = false;
    rib.peer_up(A, cold, at(1));
    assert_eq!(rib.stats().paths, 0);
}

#[test]
fn a_second_restart_keeps_only_what_was_announced_in_between() {
    let mut rib = reflector();
    rib.peer_up(A, info(2, PeerClass::Client, false), NOW);
    apply(&mut rib, A, announce(vec![mac_route(2, 10, 1), mac_route(2, 10, 2)], attributes(2, 10)));
    rib.peer_down(A, &keeping(&[EVPN], 120, 0), NOW);
    rib.peer_up(A, info(2, PeerClass::Client, false), at(1));
    apply(&mut rib, A, announce(vec![mac_route(2, 10, 1)], attributes(2, 10)));
    rib.peer_down(A, &keeping(&[EVPN], 120, 0), at(2));
    assert_eq!(rib.stats().paths, 1);
}

#[test]
fn a_session_that_ends_without_graceful_restart_takes_its_routes_along() {
    let mut rib = reflector();
    rib.peer_up(A, info(2, PeerClass::Client, false), NOW);
    apply(&mut rib, A, announce(vec![mac_route(2, 10, 1)], attributes(2, 10)));
    rib.flush();
    rib.peer_down(A, &[], NOW);
    rib.flush();
    assert_eq!((rib.stats().paths, rib.stats().attribute_sets, rib.stats().dead_destinations), (0, 0, 0));
    assert_eq!(rib.update(A, announce(vec![mac_route(2, 10, 1)], attributes(2, 10)), NOW).ignored, 1);
}

#[test]
fn stale_memberships_still_let_routes_through_until_they_are_swept() {
    let mut rib = reflector();
    rib.set_expected_peers([]);
    rib.peer_up(A, info(2, PeerClass::Client, true), NOW);
    rib.peer_up(B, info(4, PeerClass::Client, true), NOW);
    apply(&mut rib, A, announce(vec![mac_route(2, 10, 1), mac_route(2, 10, 2)], attributes(2, 10)));
    apply(&mut rib, B, ask(membership(10)));
    rib.peer_down(B, &keeping(&[EVPN, RTC], 120, 0), NOW);
    rib.peer_up(B, info(4, PeerClass::Client, true), at(1));
    rib.flush();
    let mut view = View::default();
    view.drain(&mut rib, B);
    assert_eq!(view.routes.len(), 2);
    apply(&mut rib, B, end_of_rib(RTC));
    rib.flush();
    view.drain(&mut rib, B);
    assert_eq!(view.routes.len(), 0);
}

#[test]
fn what_a_demarcated_refresh_does_not_repeat_is_dropped() {
    let mut rib = reflector();
    rib.peer_up(A, info(2, PeerClass::Client, false), NOW);
    apply(&mut rib, A, announce(vec![mac_route(2, 10, 1), mac_route(2, 10, 2)], attributes(2, 10)));
    let border = |kind| RouteRefresh { family: EVPN, kind };
    rib.route_refresh(A, border(RefreshKind::End), NOW);
    assert_eq!(rib.stats().paths, 2, "an end without a beginning means nothing");
    rib.route_refresh(A, border(RefreshKind::Begin), NOW);
    apply(&mut rib, A, announce(vec![mac_route(2, 10, 2)], attributes(2, 10)));
    rib.route_refresh(A, border(RefreshKind::End), NOW);
    assert_eq!(rib.stats().paths, 1);
    rib.route_refresh(A, border(RefreshKind::Begin), NOW);
    rib.handle_timeout(at(120));
    assert_eq!(rib.stats().paths, 0, "a refresh without an end ends by itself");
}

#[test]
fn a_disabled_family_is_emptied_and_ignored() {
    let mut rib = reflector();
    rib.peer_up(A, info(2, PeerClass::Client, false), NOW);
    apply(&mut rib, A, announce(vec![mac_route(2, 10, 1)], attributes(2, 10)));
    rib.update(A, Update { disable: Some(EVPN), ..Update::default() }, NOW);
    assert_eq!(rib.stats().paths, 0);
    assert_eq!(rib.update(A, announce(vec![mac_route(2, 10, 1)], attributes(2, 10)), NOW).ignored, 1);
}

#[test]
fn what_becomes_pending_behind_the_sweep_still_goes_before_end_of_rib() {
    let mut rib = reflector();
    rib.set_expected_peers([]);
    rib.peer_up(A, info(2, PeerClass::Client, false), NOW);
    rib.peer_up(B, info(4, PeerClass::Client, true), NOW);
    apply(&mut rib, A, announce((0..50).map(|mac| mac_route(2, 20, mac)).collect(), attributes(2, 20)));
    for part in 0..8_u32 {
        let mut distinct = attributes(2, 10);
        distinct.med = Some(part);
        let routes = (0..250).map(|mac| mac_route(2, 100 + part, mac)).collect();
        apply(&mut rib, A, announce(routes, distinct));
    }
    rib.flush();
    let mut view = View::default();
    apply(&mut rib, B, ask(membership(10)));
    while view.routes.len() < 1_500 {
        assert!(view.read(&mut rib, B, 1));
    }
    apply(&mut rib, B, ask(membership(20)));
    apply(&mut rib, B, end_of_rib(RTC));
    rib.flush();
    while !view.end_of_ribs.contains(&EVPN) {
        assert!(view.read(&mut rib, B, 1));
    }
    assert_eq!(view.routes.len(), 2_050);
}
