//! The fan-out: one encoding for all, members that are slow, join late, change their interest or want a refresh.

use super::*;
use crate::types::MacMobility;

const A: PeerId = PeerId(2);
const B: PeerId = PeerId(4);
const C: PeerId = PeerId(6);

fn three_clients(constrained: bool) -> Rib {
    let mut rib = reflector();
    rib.set_expected_peers([]);
    for (peer, number) in [(A, 2), (B, 4), (C, 8)] {
        rib.peer_up(peer, info(number, PeerClass::Client, constrained), NOW);
    }
    rib.flush();
    for peer in rib.drain_ready() {
        View::default().drain(&mut rib, peer);
    }
    rib
}

#[test]
fn a_route_goes_to_everybody_but_its_source() {
    let mut rib = three_clients(false);
    let route = mac_route(2, 10, 1);
    apply(&mut rib, A, announce(vec![route.clone()], attributes(2, 10)));
    assert!(!rib.has_pending(B), "nothing is sent before the flush");
    rib.flush();
    assert_eq!(rib.drain_ready(), [B, C]);
    for peer in [B, C] {
        let mut view = View::default();
        view.drain(&mut rib, peer);
        assert_eq!(view.routes.keys().collect::<Vec<_>>(), [&route.key]);
    }
    assert_eq!(rib.poll_transmit(A, 1000), None);
    assert_eq!((rib.advertised(A), rib.advertised(B)), (0, 1));
}

#[test]
fn members_of_a_group_share_the_same_octets() {
    let mut rib = three_clients(false);
    apply(&mut rib, A, announce(vec![mac_route(2, 10, 1)], attributes(2, 10)));
    rib.flush();
    let (b, c) = (rib.poll_transmit(B, 4096).unwrap(), rib.poll_transmit(C, 4096).unwrap());
    assert_eq!(b, c);
    assert_eq!(b[0].as_ptr(), c[0].as_ptr());
}

#[test]
fn ten_flaps_between_flushes_are_one_message() {
    let mut rib = three_clients(false);
    let route = mac_route(2, 10, 1);
    for _ in 0..10 {
        apply(&mut rib, A, announce(vec![route.clone()], attributes(2, 10)));
        apply(&mut rib, A, withdraw(core::slice::from_ref(&route)));
    }
    apply(&mut rib, A, announce(vec![route.clone()], attributes(2, 10)));
    rib.flush();
    let mut view = View::default();
    view.drain(&mut rib, B);
    assert_eq!((view.messages, view.routes.len()), (1, 1));
    apply(&mut rib, A, withdraw(core::slice::from_ref(&route)));
    apply(&mut rib, A, announce(vec![route], attributes(2, 10)));
    rib.flush();
    let before = view.messages;
    view.drain(&mut rib, B);
    assert_eq!((view.messages - before, view.routes.len(), view.needless), (1, 1, 0));
}

#[test]
fn an_announcement_that_repeats_what_is_known_is_not_sent() {
    let mut rib = three_clients(false);
    apply(&mut rib, A, announce(vec![mac_route(2, 10, 1)], attributes(2, 10)));
    rib.flush();
    View::default().drain(&mut rib, B);
    rib.drain_ready();
    apply(&mut rib, A, announce(vec![mac_route(2, 10, 1)], attributes(2, 10)));
    rib.flush();
    assert!(!rib.has_pending(B));
}

#[test]
fn a_payload_that_changes_is_announced_again() {
    let mut rib = three_clients(false);
    let mut route = mac_route(2, 10, 1);
    apply(&mut rib, A, announce(vec![route.clone()], attributes(2, 10)));
    rib.flush();
    let mut view = View::default();
    view.drain(&mut rib, B);
    route.payload = EvpnPayload::MacIp { esi: EthernetSegmentId::default(), label: vni(77).into(), label2: None };
    apply(&mut rib, A, announce(vec![route.clone()], attributes(2, 10)));
    rib.flush();
    view.drain(&mut rib, B);
    assert_eq!(view.routes[&route.key].0, route.payload);
}

#[test]
fn when_the_best_path_moves_its_new_source_is_told_to_forget_the_old_one() {
    let mut rib = three_clients(false);
    let route = mac_route(9, 10, 1);
    let (mut a, mut b) = (View::default(), View::default());
    let mut better = attributes(4, 10);
    let moved = MacMobility { sticky: false, sequence: 1 };
    better.extended_communities.push(ExtendedCommunity::mac_mobility(moved));
    apply(&mut rib, A, announce(vec![route.clone()], attributes(2, 10)));
    rib.flush();
    b.drain(&mut rib, B);
    assert_eq!(b.routes.len(), 1);
    apply(&mut rib, B, announce(vec![route], better));
    rib.flush();
    a.drain(&mut rib, A);
    b.drain(&mut rib, B);
    assert_eq!((a.routes.len(), b.routes.len(), b.needless), (1, 0, 0));
}

#[test]
fn a_member_that_falls_off_the_log_is_told_the_current_state() {
    let mut config = RibConfig::new(Role::Reflector { cluster_id: None }, ASN, RouterId(1), address(1));
    config.log_limit_octets = 2_000;
    let mut rib = Rib::new(config, NOW);
    for (peer, number) in [(A, 2), (B, 4)] {
        rib.peer_up(peer, info(number, PeerClass::Client, false), NOW);
    }
    rib.flush();
    let mut view = View::default();
    view.drain(&mut rib, B);
    for round in 0..100_u8 {
        let mut changing = attributes(2, 10);
        changing.med = Some(u32::from(round) + 1);
        apply(&mut rib, A, announce(vec![mac_route(2, 10, 1), mac_route(2, 10, round)], changing));
        if round > 1 {
            apply(&mut rib, A, withdraw(&[mac_route(2, 10, round - 1)]));
        }
        rib.flush();
        assert!(rib.stats().log_octets <= 2_000);
    }
    assert!(rib.peers().any(|peer| peer.peer == B && peer.families[0].replaying));
    assert!(rib.stats().dead_destinations > 90, "{:?}", rib.stats());
    view.drain(&mut rib, B);
    assert_eq!(view.routes.len(), 3);
    assert!(view.messages < 10, "history was replayed: {} messages", view.messages);
    assert_eq!(view.routes[&mac_route(2, 10, 1).key].1.med, Some(100));
    rib.flush();
    assert_eq!(rib.stats().dead_destinations, 0);
}

#[test]
fn a_late_member_gets_the_table_and_no_needless_withdrawal() {
    let mut rib = three_clients(false);
    let routes: Vec<_> = (0..200).map(|mac| mac_route(2, 10, mac)).collect();
    apply(&mut rib, A, announce(routes.clone(), attributes(2, 10)));
    rib.flush();
    let late = PeerId(8);
    rib.peer_up(late, info(8, PeerClass::Client, false), NOW);
    let mut view = View::default();
    assert!(view.read(&mut rib, late, 100));
    apply(&mut rib, A, withdraw(&routes[..150]));
    rib.flush();
    view.drain(&mut rib, late);
    assert_eq!((view.routes.len(), view.needless), (50, 0));
}

#[test]
fn interest_lets_through_and_shuts_off() {
    let mut rib = three_clients(true);
    for number in [10, 20] {
        apply(&mut rib, A, announce(vec![mac_route(2, number, 1)], attributes(2, number)));
    }
    rib.flush();
    let mut view = View::default();
    view.drain(&mut rib, B);
    assert_eq!(view.routes.len(), 0, "nothing before the first membership");
    apply(&mut rib, B, ask(membership(20)));
    rib.flush();
    assert_eq!(rib.drain_ready(), [B]);
    view.drain(&mut rib, B);
    assert_eq!(view.routes.keys().collect::<Vec<_>>(), [&mac_route(2, 20, 1).key]);
    apply(&mut rib, B, ask(RtMembership::Default));
    rib.flush();
    view.drain(&mut rib, B);
    assert_eq!(view.routes.len(), 2);
    apply(&mut rib, B, decline(RtMembership::Default));
    rib.flush();
    view.drain(&mut rib, B);
    assert_eq!((view.routes.len(), view.needless), (1, 0));
}

#[test]
fn a_withdrawal_that_waits_in_the_log_survives_the_loss_of_interest() {
    let mut rib = three_clients(true);
    apply(&mut rib, B, ask(membership(10)));
    apply(&mut rib, A, announce(vec![mac_route(2, 10, 1)], attributes(2, 10)));
    rib.flush();
    let mut view = View::default();
    view.drain(&mut rib, B);
    apply(&mut rib, A, withdraw(&[mac_route(2, 10, 1)]));
    rib.flush();
    apply(&mut rib, B, decline(membership(10)));
    rib.flush();
    view.drain(&mut rib, B);
    assert_eq!(view.routes.len(), 0);
}

#[test]
fn a_refresh_repeats_everything_between_its_borders() {
    let mut rib = three_clients(false);
    let routes: Vec<_> = (0..200).map(|mac| mac_route(2, 10, mac)).collect();
    apply(&mut rib, A, announce(routes, attributes(2, 10)));
    rib.flush();
    View::default().drain(&mut rib, B);
    let request = RouteRefresh { family: AddressFamily::EVPN, kind: RefreshKind::Request };
    for _ in 0..1000 {
        rib.route_refresh(B, request, NOW);
    }
    rib.flush();
    let mut view = View::default();
    view.drain(&mut rib, B);
    assert_eq!(view.borders, [RefreshKind::Begin, RefreshKind::End]);
    assert_eq!(view.routes.len(), 200);
}

#[test]
fn a_refresh_begins_when_what_it_waited_for_has_come_to_nothing() {
    let mut rib = three_clients(true);
    apply(&mut rib, B, end_of_rib(AddressFamily::RT_CONSTRAIN));
    apply(&mut rib, A, announce(vec![mac_route(2, 10, 1)], attributes(2, 10)));
    rib.flush();
    let mut view = View::default();
    view.drain(&mut rib, B);
    apply(&mut rib, B, ask(membership(10)));
    apply(&mut rib, A, announce(vec![mac_route(2, 10, 1)], attributes(2, 11)));
    rib.route_refresh(B, RouteRefresh { family: AddressFamily::EVPN, kind: RefreshKind::Request }, NOW);
    rib.flush();
    view.drain(&mut rib, B);
    assert_eq!((view.borders, view.routes.len()), (vec![RefreshKind::Begin, RefreshKind::End], 0));
}

#[test]
fn a_route_that_fits_no_message_is_withdrawn_from_those_who_cannot_take_it() {
    let mut rib = three_clients(false);
    let small = PeerId(3);
    rib.peer_up(small, info(3, PeerClass::Client, false), NOW);
    apply(&mut rib, A, announce(vec![mac_route(2, 10, 1)], attributes(2, 10)));
    rib.flush();
    let (mut extended, mut standard) = (View::default(), View::default());
    extended.drain(&mut rib, B);
    standard.drain(&mut rib, small);
    let mut long = attributes(2, 10);
    long.large_communities = (0..500).map(|number| [1, 2, number]).collect();
    apply(&mut rib, A, announce(vec![mac_route(2, 10, 1)], long));
    rib.flush();
    extended.drain(&mut rib, B);
    standard.drain(&mut rib, small);
    assert_eq!((extended.routes.len(), standard.routes.len()), (1, 0));
    assert_eq!(rib.stats().unsendable, 1);
}

#[test]
fn a_peer_that_never_reads_is_reported_once_it_costs_too_much() {
    let mut config = RibConfig::new(Role::Reflector { cluster_id: None }, ASN, RouterId(1), address(1));
    config.dead_destinations_limit = 10;
    let mut rib = Rib::new(config, NOW);
    for (peer, number) in [(A, 2), (B, 4), (C, 8)] {
        rib.peer_up(peer, info(number, PeerClass::Client, false), NOW);
    }
    let mut view = View::default();
    for mac in 0..30 {
        apply(&mut rib, A, announce(vec![mac_route(2, 10, mac)], attributes(2, 10)));
        rib.flush();
        apply(&mut rib, A, withdraw(&[mac_route(2, 10, mac)]));
        rib.flush();
        view.drain(&mut rib, C);
        View::default().drain(&mut rib, A);
    }
    assert_eq!(rib.drain_laggards(), [B]);
    rib.peer_down(B, &[], NOW);
    rib.flush();
    assert_eq!((rib.drain_laggards(), rib.stats().dead_destinations), (vec![], 0));
}

#[test]
fn a_route_costs_little_memory() {
    use crate::rib::table::Destination;
    use crate::wire::Evpn;
    assert!(size_of::<Destination<Evpn>>() <= 160, "{}", size_of::<Destination<Evpn>>());
}

#[test]
fn a_peer_is_sent_no_route_type_but_those_that_it_takes() {
    let mut rib = reflector();
    rib.set_expected_peers([]);
    let only_type_3 =
        |number| PeerInfo { sent_types: [3].into_iter().collect(), ..info(number, PeerClass::Client, false) };
    rib.peer_up(A, info(2, PeerClass::Client, false), NOW);
    rib.peer_up(B, only_type_3(4), NOW);
    let key = EvpnKey::InclusiveMulticast {
        rd: RouteDistinguisher::ipv4(Ipv4Addr::new(10, 0, 0, 2), 10),
        tag: EthernetTag(0),
        originator: address(2),
    };
    let flood = Route { key: key.clone(), payload: EvpnPayload::InclusiveMulticast };
    let mac = mac_route(2, 10, 1);
    let both = || announce(vec![flood.clone(), mac.clone()], attributes(2, 10));
    let [mut early, mut late] = [View::default(), View::default()];
    // Those who read along, and those who join or ask again later.
    apply(&mut rib, A, both());
    rib.flush();
    early.drain(&mut rib, B);
    rib.peer_up(C, only_type_3(8), NOW);
    rib.flush();
    late.drain(&mut rib, C);
    for (peer, view) in [(B, &early), (C, &late)] {
        assert_eq!(view.routes.keys().collect::<Vec<_>>(), [&key]);
        assert_eq!((rib.advertised(peer), view.end_of_ribs.as_slice()), (1, &[AddressFamily::EVPN][..]));
    }
    // Changes of what is not sent wake nobody, and its withdrawal is not sent either.
    rib.drain_ready();
    apply(&mut rib, A, announce(vec![mac.clone()], attributes(2, 11)));
    rib.flush();
    assert!(!rib.has_pending(B) && !rib.drain_ready().contains(&B));
    apply(&mut rib, A, withdraw(&[mac, flood]));
    rib.flush();
    for (peer, view) in [(B, &mut early), (C, &mut late)] {
        view.drain(&mut rib, peer);
        assert_eq!((view.routes.len(), view.needless), (0, 0));
    }
}
