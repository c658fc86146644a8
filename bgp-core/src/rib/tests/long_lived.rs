//! Long-lived graceful restart (RFC 9494): what is kept beyond the restart time, in which form, and who is told.

use super::*;
use crate::wire::attributes::community;

const EVPN: AddressFamily = AddressFamily::EVPN;
const RTC: AddressFamily = AddressFamily::RT_CONSTRAIN;
const A: PeerId = PeerId(2);
const B: PeerId = PeerId(4);

fn at(secs: u64) -> Instant {
    Instant::from_secs(secs)
}

fn client(rib: &mut Rib, number: u8, class: PeerClass) -> PeerId {
    let peer = PeerId(u32::from(number));
    rib.peer_up(peer, info(number, class, false), NOW);
    peer
}

/// A reflector with two routes of A in VNI 10, and B.
fn two_routes() -> (Rib, View) {
    let mut rib = reflector();
    rib.set_expected_peers([]);
    client(&mut rib, 2, PeerClass::Client);
    client(&mut rib, 4, PeerClass::Client);
    apply(&mut rib, A, announce(vec![mac_route(2, 10, 1), mac_route(2, 10, 2)], attributes(2, 10)));
    apply(&mut rib, A, end_of_rib(EVPN));
    let mut view = View::default();
    rib.flush();
    view.drain(&mut rib, B);
    assert_eq!(view.routes.len(), 2);
    (rib, view)
}

/// What B was told about each route: the communities it carries.
fn told(rib: &mut Rib, view: &mut View) -> Vec<Vec<u32>> {
    rib.flush();
    view.drain(rib, B);
    view.routes.values().map(|(_, attributes)| attributes.communities.to_vec()).collect()
}

fn stale(rib: &Rib) -> (usize, usize) {
    let view = rib.peers().find(|view| view.peer == A).unwrap();
    (view.families[0].stale, view.families[0].long_lived_stale)
}

#[test]
fn after_the_restart_time_routes_are_announced_as_long_lived_stale_until_their_time_is_over() {
    let (mut rib, mut view) = two_routes();
    rib.peer_down(A, &keeping(&[EVPN], 120, 600), NOW);
    assert_eq!((told(&mut rib, &mut view), stale(&rib)), (vec![vec![], vec![]], (2, 0)));
    assert_eq!(rib.next_deadline(), Some(at(30)), "the hold of a reflector that has just begun");
    rib.handle_timeout(at(119));
    assert_eq!((told(&mut rib, &mut view), stale(&rib)), (vec![vec![], vec![]], (2, 0)));
    rib.handle_timeout(at(120));
    assert_eq!(told(&mut rib, &mut view), [[community::LLGR_STALE], [community::LLGR_STALE]]);
    assert_eq!((stale(&rib), rib.next_deadline()), ((2, 2), Some(at(720))));
    assert!(rib.routes().all(|route| route.stale && route.long_lived_stale));
    rib.handle_timeout(at(720));
    assert_eq!((told(&mut rib, &mut view), rib.next_deadline()), (vec![], None));
}

#[test]
fn without_a_restart_time_routes_are_long_lived_stale_at_once() {
    let (mut rib, mut view) = two_routes();
    rib.peer_down(A, &keeping(&[EVPN], 0, 600), NOW);
    assert_eq!(told(&mut rib, &mut view), [[community::LLGR_STALE], [community::LLGR_STALE]]);
    rib.handle_timeout(at(600));
    assert!(told(&mut rib, &mut view).is_empty());
}

#[test]
fn routes_that_refuse_it_go_with_the_restart_time() {
    let (mut rib, mut view) = two_routes();
    let mut refusing = attributes(2, 10);
    refusing.communities.push(community::NO_LLGR);
    apply(&mut rib, A, announce(vec![mac_route(2, 10, 1)], refusing));
    rib.peer_down(A, &keeping(&[EVPN], 120, 600), NOW);
    assert_eq!(told(&mut rib, &mut view).len(), 2);
    rib.handle_timeout(at(120));
    assert_eq!(told(&mut rib, &mut view), [[community::LLGR_STALE]]);
    assert_eq!(stale(&rib), (1, 1));
}

#[test]
fn a_route_that_is_announced_again_is_as_good_as_new() {
    let (mut rib, mut view) = two_routes();
    rib.peer_down(A, &keeping(&[EVPN], 120, 600), NOW);
    rib.handle_timeout(at(120));
    told(&mut rib, &mut view);
    rib.peer_up(A, info(2, PeerClass::Client, false), at(200));
    apply(&mut rib, A, announce(vec![mac_route(2, 10, 1)], attributes(2, 10)));
    assert_eq!(told(&mut rib, &mut view), [vec![], vec![community::LLGR_STALE]]);
    apply(&mut rib, A, end_of_rib(EVPN));
    assert_eq!((told(&mut rib, &mut view), stale(&rib)), (vec![vec![]], (0, 0)));
    assert_eq!(rib.stats().attribute_sets, 1);
}

#[test]
fn after_the_restart_time_the_f_bit_of_the_second_capability_counts() {
    for (forwarding, long_lived) in [(true, false), (false, true)] {
        for waited in [false, true] {
            let (mut rib, _) = two_routes();
            rib.peer_down(A, &keeping(&[EVPN], 120, 600), NOW);
            if waited {
                rib.handle_timeout(at(120));
            }
            let mut back = info(2, PeerClass::Client, false);
            (back.families[0].forwarding_preserved, back.families[0].long_lived_preserved) = (forwarding, long_lived);
            rib.peer_up(A, back, at(130));
            let kept = if waited { long_lived } else { forwarding };
            assert_eq!(rib.stats().paths, if kept { 2 } else { 0 }, "{forwarding} {long_lived} {waited}");
        }
    }
}

/// RFC 9494 section 4.2: "previously marked stale routes MUST NOT be deleted before the timer [...] expires".
#[test]
fn consecutive_restarts_keep_what_was_stale_before_until_the_time_of_the_first_is_over() {
    let (mut rib, mut view) = two_routes();
    rib.peer_down(A, &keeping(&[EVPN], 120, 600), NOW);
    rib.handle_timeout(at(120));
    for secs in [200, 400, 600] {
        rib.peer_up(A, info(2, PeerClass::Client, false), at(secs));
        apply(&mut rib, A, announce(vec![mac_route(2, 10, 3)], attributes(2, 10)));
        rib.peer_down(A, &keeping(&[EVPN], 120, 600), at(secs + 10));
        assert_eq!((told(&mut rib, &mut view).len(), stale(&rib)), (3, (3, 2)));
    }
    rib.handle_timeout(at(719));
    assert_eq!(told(&mut rib, &mut view).len(), 3);
    rib.handle_timeout(at(720));
    assert!(told(&mut rib, &mut view).is_empty());
}

#[test]
fn the_time_runs_on_while_the_peer_is_back_but_has_not_said_all() {
    let (mut rib, mut view) = two_routes();
    rib.peer_down(A, &keeping(&[EVPN], 120, 600), NOW);
    rib.handle_timeout(at(120));
    rib.peer_up(A, info(2, PeerClass::Client, false), at(700));
    apply(&mut rib, A, announce(vec![mac_route(2, 10, 1)], attributes(2, 10)));
    rib.handle_timeout(at(720));
    assert_eq!((told(&mut rib, &mut view), stale(&rib)), (vec![vec![]], (0, 0)), "what was not repeated went");
    rib.peer_down(A, &keeping(&[EVPN], 120, 600), at(725));
    assert!(told(&mut rib, &mut view).is_empty(), "a session that never said all leaves nothing behind");
}

#[test]
fn who_does_not_know_long_lived_stale_routes_gets_them_as_the_last_choice_or_not_at_all() {
    let (mut rib, _) = two_routes();
    let (knowing, internal) = (client(&mut rib, 8, PeerClass::Client), client(&mut rib, 6, PeerClass::Client));
    let external = client(&mut rib, 12, PeerClass::External);
    let late = PeerId(18);
    let mut views = [(knowing, 2), (internal, 2), (external, 0)].map(|(peer, left)| (peer, left, View::default()));
    rib.flush();
    for (peer, _, view) in &mut views {
        view.drain(&mut rib, *peer);
        assert_eq!(view.routes.len(), 2);
    }
    rib.peer_down(A, &keeping(&[EVPN], 0, 600), NOW);
    rib.flush();
    for (peer, left, view) in &mut views {
        view.drain(&mut rib, *peer);
        assert_eq!((view.routes.len(), rib.advertised(*peer)), (*left, *left), "{peer}");
    }
    let sent = |view: &View| {
        let (_, attributes) = view.routes.values().next().unwrap();
        (attributes.local_pref, attributes.communities.to_vec())
    };
    assert_eq!(sent(&views[0].2), (Some(100), vec![community::LLGR_STALE]));
    assert_eq!(sent(&views[1].2), (Some(0), vec![community::LLGR_STALE, community::NO_EXPORT]));
    // Who comes later is told the same.
    rib.peer_up(late, info(18, PeerClass::Client, false), NOW);
    rib.flush();
    let mut view = View::default();
    view.drain(&mut rib, late);
    assert_eq!(sent(&view), (Some(0), vec![community::LLGR_STALE, community::NO_EXPORT]));
}

#[test]
fn a_route_received_as_long_lived_stale_is_passed_on_as_that() {
    let (mut rib, mut view) = two_routes();
    let mut marked = attributes(2, 10);
    marked.communities.push(community::LLGR_STALE);
    apply(&mut rib, A, announce(vec![mac_route(2, 10, 1)], marked));
    assert_eq!(told(&mut rib, &mut view), [vec![community::LLGR_STALE], vec![]]);
    assert_eq!(stale(&rib), (0, 0));
    rib.peer_down(A, &keeping(&[EVPN], 0, 600), NOW);
    assert_eq!(told(&mut rib, &mut view), [[community::LLGR_STALE], [community::LLGR_STALE]], "and not marked twice");
}

#[test]
fn a_long_lived_stale_route_loses_to_a_claim_that_comes_meanwhile_and_wins_again_when_it_is_confirmed() {
    let (mut rib, _) = two_routes();
    let newer = client(&mut rib, 8, PeerClass::Client);
    rib.peer_down(A, &keeping(&[EVPN], 0, 600), NOW);
    apply(&mut rib, newer, announce(vec![mac_route(2, 10, 1)], attributes(8, 10)));
    rib.flush();
    let best = |rib: &Rib| -> Vec<u32> {
        let best = rib.routes().filter(|route| route.best);
        best.map(|route| route.peer.0).collect()
    };
    assert_eq!(best(&rib), [8, 2]);
    rib.peer_up(A, info(2, PeerClass::Client, false), at(10));
    apply(&mut rib, A, announce(vec![mac_route(2, 10, 1)], attributes(2, 10)));
    rib.flush();
    assert_eq!(best(&rib), [2, 2], "among two that are there the lower next hop decides, as ever");
}

#[test]
fn memberships_are_kept_as_long_and_refuse_as_routes_do() {
    let mut rib = reflector();
    rib.set_expected_peers([]);
    rib.peer_up(A, info(2, PeerClass::Client, true), NOW);
    apply(&mut rib, A, ask(membership(10)));
    let mut refusing = ask(membership(11));
    refusing.reach.as_mut().unwrap().attributes.communities.push(community::NO_LLGR);
    apply(&mut rib, A, refusing);
    rib.peer_down(A, &keeping(&[EVPN, RTC], 120, 600), NOW);
    let asked = |rib: &Rib| rib.memberships().filter(|route| route.peer == A).count();
    rib.handle_timeout(at(119));
    assert_eq!(asked(&rib), 2);
    rib.handle_timeout(at(120));
    assert_eq!(asked(&rib), 1);
    rib.handle_timeout(at(720));
    assert_eq!(asked(&rib), 0);
}

#[test]
fn what_is_kept_for_the_long_term_is_not_charged_twice() {
    let mut rib = reflector();
    rib.set_expected_peers([]);
    rib.peer_up(A, info(2, PeerClass::Client, false), NOW);
    let many = || -> Vec<_> {
        let distinct = |med| {
            let mut attributes = attributes(2, 10);
            attributes.med = Some(med);
            announce(vec![mac_route(2, 10, u8::try_from(med).unwrap())], attributes)
        };
        (0..100).map(distinct).collect()
    };
    for update in many() {
        apply(&mut rib, A, update);
    }
    let paid = rib.evpn.store.usage_of(A);
    rib.peer_down(A, &keeping(&[EVPN], 0, 600), NOW);
    rib.peer_up(A, info(2, PeerClass::Client, false), NOW);
    for update in many() {
        apply(&mut rib, A, update);
        let now = rib.evpn.store.usage_of(A);
        assert!(now.sets <= paid.sets && now.octets <= paid.octets, "{now:?}, {paid:?}");
    }
    rib.flush();
    assert_eq!((rib.stats().paths, rib.stats().attribute_sets), (100, 100));
}

#[test]
fn a_peer_that_was_removed_leaves_no_timer() {
    let (mut rib, _) = two_routes();
    rib.peer_down(A, &keeping(&[EVPN], 120, 600), NOW);
    rib.handle_timeout(at(120));
    rib.peer_removed(A);
    rib.flush();
    rib.handle_timeout(at(720));
    assert_eq!((rib.stats().paths, rib.stats().attribute_sets, rib.next_deadline()), (0, 0, None));
}
