//! Reflection rules (RFC 4456), attributes as sent, loops and limits.

use super::*;
use crate::wire::attributes::AsSegment;

const CLASSES: [(PeerId, u8, PeerClass); 3] =
    [(PeerId(2), 2, PeerClass::Client), (PeerId(4), 4, PeerClass::NonClient), (PeerId(6), 6, PeerClass::External)];

fn fabric() -> Rib {
    let mut rib = reflector();
    rib.set_expected_peers([]);
    for (peer, number, class) in CLASSES {
        rib.peer_up(peer, info(number, class, false), NOW);
        rib.peer_up(PeerId(peer.0 + 10), info(number + 10, class, false), NOW);
    }
    rib
}

/// Who is told of a route, and with which attributes.
fn told(rib: &mut Rib) -> Vec<(u32, PathAttributes)> {
    rib.flush();
    let mut told = Vec::new();
    for (peer, ..) in CLASSES {
        for peer in [peer, PeerId(peer.0 + 10)] {
            let mut view = View::default();
            view.drain(rib, peer);
            told.extend(view.routes.into_values().map(|(_, attributes)| (peer.0, attributes)));
        }
    }
    told
}

fn receivers(told: &[(u32, PathAttributes)]) -> Vec<u32> {
    told.iter().map(|(peer, _)| *peer).collect()
}

#[test]
fn a_clients_route_goes_to_all_others() {
    let mut rib = fabric();
    apply(&mut rib, PeerId(2), announce(vec![mac_route(2, 10, 1)], attributes(2, 10)));
    let told = told(&mut rib);
    assert_eq!(receivers(&told), [12, 4, 14, 6, 16]);
    for (_, sent) in &told[..3] {
        assert_eq!(sent.originator_id, Some(RouterId(0x0a00_0002)));
        assert_eq!(sent.cluster_list.as_slice(), [99]);
        assert_eq!((sent.next_hop, sent.local_pref), (address(2), Some(100)));
    }
    for (_, sent) in &told[3..] {
        assert_eq!((sent.originator_id, sent.local_pref, sent.next_hop), (None, None, address(2)));
        assert!(sent.cluster_list.is_empty());
        assert_eq!(sent.as_path.iter().collect::<Vec<_>>(), [ASN]);
    }
}

#[test]
fn a_non_clients_route_goes_to_clients_and_external_peers() {
    let mut rib = fabric();
    let mut reflected = attributes(9, 10);
    reflected.originator_id = Some(RouterId(77));
    reflected.cluster_list.push(50);
    apply(&mut rib, PeerId(4), announce(vec![mac_route(9, 10, 1)], reflected));
    let told = told(&mut rib);
    assert_eq!(receivers(&told), [2, 12, 6, 16]);
    assert_eq!(told[0].1.originator_id, Some(RouterId(77)));
    assert_eq!(told[0].1.cluster_list.as_slice(), [99, 50]);
}

#[test]
fn an_external_route_goes_to_all_others_unreflected() {
    let mut rib = fabric();
    let mut external = attributes(6, 10);
    (external.local_pref, external.med) = (None, Some(7));
    external.as_path.segments.push(AsSegment(vec![Asn(64_518)]));
    apply(&mut rib, PeerId(6), announce(vec![mac_route(6, 10, 1)], external));
    let told = told(&mut rib);
    assert_eq!(receivers(&told), [2, 12, 4, 14, 16]);
    let inside = &told[0].1;
    assert_eq!((inside.local_pref, inside.med, inside.originator_id), (Some(100), Some(7), None));
    assert!(inside.cluster_list.is_empty());
    let outside = &told[4].1;
    assert_eq!(outside.as_path.iter().collect::<Vec<_>>(), [ASN, Asn(64_518)]);
    assert_eq!(outside.med, None, "a MED does not cross a second AS");
}

#[test]
fn a_worker_tells_its_reflectors_of_its_own_routes_only() {
    let mut rib = worker();
    for number in [2, 4] {
        rib.peer_up(PeerId(u32::from(number)), info(number, PeerClass::NonClient, false), NOW);
    }
    rib.originate(mac_route(1, 10, 1), attributes(1, 10));
    apply(&mut rib, PeerId(2), announce(vec![mac_route(9, 10, 2)], attributes(9, 10)));
    rib.flush();
    let mut view = View::default();
    view.drain(&mut rib, PeerId(4));
    assert_eq!(view.routes.keys().collect::<Vec<_>>(), [&mac_route(1, 10, 1).key]);
    let sent = &view.routes.values().next().unwrap().1;
    assert_eq!((sent.originator_id, sent.cluster_list.len(), sent.local_pref), (None, 0, Some(100)));
    assert!(rib.withdraw_local(&mac_route(1, 10, 1).key) && !rib.withdraw_local(&mac_route(1, 10, 1).key));
    rib.flush();
    view.drain(&mut rib, PeerId(4));
    assert!(view.routes.is_empty());
}

#[test]
fn a_worker_is_told_each_changed_key_once_with_its_latest_state() {
    let mut rib = worker();
    for number in [2, 4] {
        rib.peer_up(PeerId(u32::from(number)), info(number, PeerClass::NonClient, false), NOW);
        apply(&mut rib, PeerId(u32::from(number)), announce(vec![mac_route(9, 10, 1)], attributes(9, 10)));
        rib.flush();
    }
    let changes = rib.drain_changes();
    assert_eq!(changes.len(), 1);
    let best = changes[0].best.as_ref().unwrap();
    assert_eq!((best.peer, best.attributes.next_hop), (PeerId(2), address(9)));
    apply(&mut rib, PeerId(2), withdraw(&[mac_route(9, 10, 1)]));
    rib.flush();
    assert_eq!(rib.drain_changes()[0].best.as_ref().unwrap().peer, PeerId(4), "the other reflector's copy");
    apply(&mut rib, PeerId(4), withdraw(&[mac_route(9, 10, 1)]));
    rib.flush();
    apply(&mut rib, PeerId(4), announce(vec![mac_route(9, 10, 2)], attributes(9, 10)));
    rib.flush();
    let changes = rib.drain_changes();
    assert_eq!(changes.iter().map(|change| change.best.is_some()).collect::<Vec<_>>(), [false, true]);
    assert_eq!(changes[0].key, mac_route(9, 10, 1).key);
    assert!(rib.drain_changes().is_empty());
}

#[test]
fn a_looped_route_is_not_used_and_takes_its_predecessor_along() {
    let mut own_as = attributes(2, 10);
    own_as.as_path.segments.push(AsSegment(vec![Asn(1), ASN]));
    let mut own_id = attributes(2, 10);
    own_id.originator_id = Some(RouterId(1));
    let mut own_cluster = attributes(2, 10);
    own_cluster.cluster_list.extend([5, 99]);
    for looped in [own_as, own_id, own_cluster] {
        let mut rib = fabric();
        apply(&mut rib, PeerId(2), announce(vec![mac_route(2, 10, 1)], attributes(2, 10)));
        let outcome = apply(&mut rib, PeerId(2), announce(vec![mac_route(2, 10, 1)], looped));
        assert_eq!((outcome.refused, outcome.withdrawn, outcome.accepted), (1, 1, 0));
        assert_eq!(rib.stats().paths, 0);
    }
}

#[test]
fn a_next_hop_that_nobody_can_have_is_refused() {
    for next_hop in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "ff02::1"] {
        let mut rib = fabric();
        let mut attributes = attributes(2, 10);
        attributes.next_hop = next_hop.parse().unwrap();
        let outcome = apply(&mut rib, PeerId(2), announce(vec![mac_route(2, 10, 1)], attributes));
        assert_eq!((outcome.refused, outcome.accepted), (1, 0), "{next_hop}");
    }
}

#[test]
fn well_known_communities_stop_a_route() {
    for (community, expected) in [(0xffff_ff02, &[][..]), (0xffff_ff01, &[12, 4, 14])] {
        let mut rib = fabric();
        let mut attributes = attributes(2, 10);
        attributes.communities.push(community);
        apply(&mut rib, PeerId(2), announce(vec![mac_route(2, 10, 1)], attributes));
        assert_eq!(receivers(&told(&mut rib)), expected);
    }
}

#[test]
fn withdrawals_of_unknown_routes_are_counted_and_not_passed_on() {
    let mut rib = fabric();
    told(&mut rib);
    let outcome = apply(&mut rib, PeerId(2), withdraw(&[mac_route(2, 10, 1)]));
    assert_eq!((outcome.withdrawn, outcome.unknown_withdrawals), (0, 1));
    rib.flush();
    assert_eq!(rib.drain_ready(), []);
}
