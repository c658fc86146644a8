//! What one peer may cost: each limit at its edge and past it.

use super::*;
use crate::rib::rules;
use crate::rib::{LimitExceeded, NearLimit};
use crate::rule::Rule;
use crate::session::StopReason;
use crate::wire::attributes::UnknownAttribute;

const PEER: PeerId = PeerId(2);

/// A reflector with one peer that has these limits.
fn limited(limits: PeerLimits) -> Rib {
    let mut rib = reflector();
    let peer = PeerInfo { limits, ..info(2, PeerClass::Client, true) };
    rib.peer_up(PEER, peer, NOW);
    rib
}

fn route(number: usize) -> UpdateSteps {
    let mac = u8::try_from(number).unwrap();
    vec![announce(vec![mac_route(2, 10, mac)], attributes(2, 10))]
}

fn route_of_its_own_set(number: usize) -> UpdateSteps {
    let mut different = attributes(2, 10);
    different.med = Some(u32::try_from(number).unwrap());
    vec![announce(vec![mac_route(2, 10, u8::try_from(number).unwrap())], different)]
}

fn one_membership(number: usize) -> UpdateSteps {
    vec![ask(membership(u32::try_from(number).unwrap() + 1))]
}

type UpdateSteps = Vec<Update>;

struct Case {
    name: &'static str,
    limits: PeerLimits,
    /// The UPDATEs that bring one more of what is limited.
    step: fn(usize) -> UpdateSteps,
    /// How many are allowed.
    allowed: usize,
    exceeded: LimitExceeded,
    rule: Rule,
    reason: StopReason,
}

fn cases() -> Vec<Case> {
    let limits = PeerLimits { warning_percent: 100, ..PeerLimits::default() };
    let (evpn, constrain) = (AddressFamily::EVPN, AddressFamily::RT_CONSTRAIN);
    vec![
        Case {
            name: "routes",
            limits: PeerLimits { max_prefixes: 10, ..limits },
            step: route,
            allowed: 10,
            exceeded: LimitExceeded::Prefixes { family: evpn, limit: 10 },
            rule: rules::MAX_ROUTES,
            reason: StopReason::MaxPrefixes,
        },
        Case {
            name: "memberships",
            limits: PeerLimits { max_memberships: 10, ..limits },
            step: one_membership,
            allowed: 10,
            exceeded: LimitExceeded::Prefixes { family: constrain, limit: 10 },
            rule: rules::MAX_MEMBERSHIPS,
            reason: StopReason::MaxPrefixes,
        },
        Case {
            name: "attribute sets",
            limits: PeerLimits { max_attribute_sets: 10, ..limits },
            step: route_of_its_own_set,
            allowed: 10,
            exceeded: LimitExceeded::AttributeSets { limit: 10 },
            rule: rules::MAX_ATTRIBUTE_SETS,
            reason: StopReason::OutOfResources,
        },
    ]
}

#[test]
fn each_limit_holds_exactly_at_its_edge_and_what_goes_makes_room() {
    for case in cases() {
        let mut rib = limited(case.limits);
        for number in 0..case.allowed {
            for update in (case.step)(number) {
                assert_eq!(rib.update(PEER, update, NOW).exceeded, None, "{}: {number}", case.name);
            }
        }
        // One goes, another comes, and goes again.
        let gone = match (case.step)(0).remove(0).reach.unwrap().routes {
            Routes::Evpn(routes) => withdraw(&routes),
            Routes::RtConstrain(routes) => decline(routes[0].key),
        };
        assert_eq!(rib.update(PEER, gone, NOW).withdrawn, 1, "{}", case.name);
        rib.flush();
        for number in [case.allowed, case.allowed + 1] {
            let outcome = rib.update(PEER, (case.step)(number).remove(0), NOW);
            let expected = (number > case.allowed).then_some(case.exceeded);
            assert_eq!(outcome.exceeded, expected, "{}: {number}", case.name);
        }
        assert_eq!((case.exceeded.rule(), case.exceeded.stop_reason()), (case.rule, case.reason), "{}", case.name);
    }
}

#[test]
fn a_warning_comes_once_when_the_peer_gets_near() {
    let mut rib = limited(PeerLimits { max_prefixes: 8, warning_percent: 75, ..PeerLimits::default() });
    let near: Vec<_> = (0..8).filter_map(|number| apply(&mut rib, PEER, route(number).remove(0)).near).collect();
    assert_eq!(near, [NearLimit { family: AddressFamily::EVPN, held: 6, limit: 8 }]);
    assert_eq!(apply(&mut rib, PEER, route(3).remove(0)).near, None, "an old route comes again");
}

#[test]
fn attribute_octets_are_limited_over_all_sets() {
    let mut rib = limited(PeerLimits { max_attribute_octets: 10_000, ..PeerLimits::default() });
    let exceeded = (0..100).find_map(|number| {
        let update = route_of_its_own_set(number).remove(0);
        rib.update(PEER, update, NOW).exceeded
    });
    assert_eq!(exceeded, Some(LimitExceeded::AttributeOctets { limit: 10_000 }));
    assert!(rib.stats().attribute_sets < 30);
}

#[test]
fn a_route_with_too_large_attributes_is_withdrawn_and_the_session_stays() {
    // A route target and an encapsulation take 16 octets.
    let mut rib = limited(PeerLimits { max_route_attribute_octets: 116, ..PeerLimits::default() });
    let with = |octets: usize| {
        let mut large = attributes(2, 10);
        let room = octets - 8 * large.extended_communities.len();
        large.unknown.push(UnknownAttribute { code: 222, value: vec![0; room].into() });
        announce(vec![mac_route(2, 10, 1)], large)
    };
    assert_eq!(rib.objection(PEER, &with(116)), None);
    assert_eq!(apply(&mut rib, PEER, with(116)).accepted, 1);
    assert_eq!(rib.objection(PEER, &with(117)), Some(rules::ROUTE_ATTRIBUTES));
    let outcome = apply(&mut rib, PEER, with(117));
    assert_eq!((outcome.accepted, outcome.refused, outcome.withdrawn), (0, 1, 1));
    assert_eq!(rib.stats().paths, 0);
}
