//! Nobody speaks for another: the cases of `tests/permission`, and any routes under any permission against a naive rule.

use std::fmt::Write;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::decision::{cases, words};
use super::*;
use crate::rib::{Permission, VniRanges};
use crate::wire::attributes::{PmsiTunnel, Tunnel};

type Options<'a> = BTreeMap<&'a str, &'a str>;
type Announced = Route<crate::wire::Evpn>;

const LIAR: PeerId = PeerId(2);
const OTHER: PeerId = PeerId(4);
const OWN: &str = "10.0.0.2";

/// A reflector that the peer under test and another client are connected to.
struct Bench {
    rib: Rib,
    other: View,
}

impl Bench {
    fn new(permission: Permission) -> Self {
        let mut rib = reflector();
        rib.set_expected_peers([]);
        rib.peer_up(OTHER, info(4, PeerClass::Client, false), NOW);
        let mut bench = Self { rib, other: View::default() };
        bench.arrive(permission);
        bench
    }

    fn arrive(&mut self, permission: Permission) {
        let permission = Arc::new(permission);
        self.rib.peer_up(LIAR, PeerInfo { permission, ..info(2, PeerClass::Client, false) }, NOW);
    }

    /// Announces a route; the rule that refuses it, if one does.
    fn announce(&mut self, route: Announced, attributes: PathAttributes) -> Option<String> {
        let update = announce(vec![route], attributes);
        let forbidden = self.rib.forbidden(LIAR, &update);
        let outcome = apply(&mut self.rib, LIAR, update);
        assert_eq!((outcome.accepted, outcome.forbidden), if forbidden.is_empty() { (1, 0) } else { (0, 1) });
        assert!(forbidden.len() <= 1 && outcome.refused == 0, "{forbidden:?}");
        forbidden.first().map(|forbidden| forbidden.offence.rule().code().to_owned())
    }

    /// What the other client holds.
    fn held(&mut self) -> Vec<EvpnKey> {
        self.rib.flush();
        self.other.drain(&mut self.rib, OTHER);
        self.other.routes.keys().cloned().collect()
    }
}

fn list<T>(options: &Options<'_>, key: &str, parse: impl Fn(&str) -> T) -> Option<Vec<T>> {
    let value = options.get(key)?;
    Some(value.split(',').filter(|word| !word.is_empty()).map(parse).collect())
}

fn permission(options: &Options<'_>) -> Permission {
    let range = |word: &str| {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        (vni(first.parse().unwrap()), vni(last.parse().unwrap()))
    };
    Permission {
        next_hops: list(options, "next-hops", |word| word.parse().unwrap()).map(|list| list.into_iter().collect()),
        vnis: list(options, "vnis", range).map(|list| list.into_iter().collect()),
    }
}

fn target(text: &str) -> ExtendedCommunity {
    let (administrator, local) = text.split_once(':').unwrap();
    let community = match administrator.parse::<Ipv4Addr>() {
        Ok(address) => {
            let ([a, b, c, d], [e, g]) = (address.octets(), local.parse::<u16>().unwrap().to_be_bytes());
            [1, 2, a, b, c, d, e, g]
        }
        Err(_) => {
            let [a, b] = administrator.parse::<u16>().unwrap().to_be_bytes();
            let [c, d, e, g] = local.parse::<u32>().unwrap().to_be_bytes();
            [0, 2, a, b, c, d, e, g]
        }
    };
    ExtendedCommunity(community)
}

/// The route `name` and its attributes. Its name is in its RD, so that no two share a key.
fn route(name: &str, options: &Options<'_>) -> (Announced, PathAttributes) {
    let number = |key: &str| options.get(key).map(|value| value.parse::<u32>().unwrap());
    let address = |key: &str| options.get(key).map(|value| value.parse::<IpAddr>().unwrap());
    let label = |key: &str| number(key).map(|number| vni(number).into());
    let rd = RouteDistinguisher::ipv4(Ipv4Addr::new(10, 0, 0, 2), u16::from(name.as_bytes()[0]));
    let (tag, esi) = (EthernetTag(0), EthernetSegmentId::default());
    let originator = address("originator").unwrap_or(OWN.parse().unwrap());
    let (key, payload) = match options["type"] {
        "1" => (
            EvpnKey::EthernetAutoDiscovery { rd, esi: EthernetSegmentId([0, 2, 0, 0, 0, 0, 0, 0, 0, 1]), tag },
            EvpnPayload::EthernetAutoDiscovery { label: label("label").unwrap_or_default() },
        ),
        "2" => (
            EvpnKey::MacIp { rd, tag, mac: MacAddr([2, 0, 0, 0, 0, 1]), ip: None },
            EvpnPayload::MacIp { esi, label: label("label").unwrap_or_default(), label2: label("label2") },
        ),
        "3" => (EvpnKey::InclusiveMulticast { rd, tag, originator }, EvpnPayload::InclusiveMulticast),
        "4" => (EvpnKey::EthernetSegment { rd, esi, originator }, EvpnPayload::EthernetSegment),
        "5" => (
            EvpnKey::IpPrefix { rd, tag, prefix: "192.0.2.0/24".parse().unwrap() },
            EvpnPayload::IpPrefix {
                esi,
                gateway: Ipv4Addr::UNSPECIFIED.into(),
                label: label("label").unwrap_or_default(),
            },
        ),
        other => {
            let body: Arc<[u8]> = name.as_bytes().into();
            (EvpnKey::Opaque { route_type: other.parse().unwrap(), body }, EvpnPayload::Opaque)
        }
    };
    let mut attributes = PathAttributes::new(address("next-hop").unwrap_or(OWN.parse().unwrap()));
    attributes.extended_communities.extend(list(options, "target", target).into_iter().flatten());
    if let Some(endpoint) = address("endpoint").or(number("pmsi-label").map(|_| OWN.parse().unwrap())) {
        let label = label("pmsi-label").unwrap_or_default();
        attributes.pmsi_tunnel = Some(PmsiTunnel { flags: 0, label, tunnel: Tunnel::IngressReplication(endpoint) });
    }
    (Route { key, payload }, attributes)
}

/// Carries out the commands of a case and writes down what they yield.
fn play(commands: &[String]) -> String {
    let mut names: BTreeMap<EvpnKey, String> = BTreeMap::new();
    let mut output = String::new();
    let (_, first, mut options) = words(&commands[0]);
    options.extend(first.split_once('='));
    let mut bench = Bench::new(permission(&options));
    for command in &commands[1..] {
        let (verb, name, mut options) = words(command);
        match verb {
            "route" => {
                let (route, attributes) = route(name, &options);
                names.insert(route.key.clone(), name.to_owned());
                let verdict = bench.announce(route, attributes).unwrap_or("passes".to_owned());
                writeln!(output, "{name} {verdict}").unwrap();
            }
            "may" => {
                options.extend(name.split_once('='));
                let rejudged = bench.rib.set_permission(LIAR, Arc::new(permission(&options)));
                let mut words: Vec<String> = Vec::new();
                for forbidden in &rejudged.forbidden {
                    assert_eq!(forbidden.routes, forbidden.keys.len());
                    let lost: Vec<&str> = forbidden.keys.iter().map(|key| names[key].as_str()).collect();
                    words.push(format!("{} {}", lost.join(" "), forbidden.offence.rule()));
                }
                words.extend(rejudged.refresh.then(|| "refresh".to_owned()));
                writeln!(output, "{}", format!("lost: {}", words.join(", ")).trim_end()).unwrap();
            }
            "leave" => bench.rib.peer_down(LIAR, &keeping(&[AddressFamily::EVPN], 100, 0), NOW),
            "return" => {
                options.extend(name.split_once('='));
                bench.arrive(permission(&options));
            }
            other => panic!("unknown command {other}"),
        }
    }
    let mut held: Vec<_> = bench.held().iter().map(|key| names[key].clone()).collect();
    held.sort();
    writeln!(output, "{}", format!("others: {}", held.join(" ")).trim_end()).unwrap();
    output
}

#[test]
fn a_route_passes_where_its_sender_may_say_what_it_says() {
    for case in cases("permission/routes.txt") {
        assert_eq!(play(&case.commands), case.expected, "{}", case.name);
    }
}

#[test]
fn what_one_may_not_say_costs_nobody_else_a_route() {
    let next_hops = Some([address(2)].into());
    let mut bench = Bench::new(Permission { next_hops, vnis: None });
    let innocent = PeerId(6);
    bench.rib.peer_up(innocent, info(6, PeerClass::Client, false), NOW);
    // The same key: the liar would take the other's MAC address over.
    let route = mac_route(6, 10, 1);
    apply(&mut bench.rib, innocent, announce(vec![route.clone()], attributes(6, 10)));
    assert_eq!(bench.held(), std::slice::from_ref(&route.key));
    let mut stolen = attributes(6, 10);
    stolen.local_pref = Some(1_000);
    assert_eq!(bench.announce(route.clone(), stolen).as_deref(), Some("next-hop-not-allowed"));
    bench.rib.flush();
    assert!(!bench.rib.has_pending(OTHER), "others are told of nothing");
    let view = bench.rib.peers().find(|view| view.peer == LIAR).unwrap();
    assert_eq!((view.forbidden, view.up, view.families[0].accepted), (1, true, 0));
}

#[test]
fn of_one_update_only_the_routes_that_break_the_permission_are_refused() {
    let vnis = Some([(vni(10), vni(10))].into_iter().collect::<VniRanges>());
    let mut bench = Bench::new(Permission { next_hops: None, vnis });
    let update = announce(vec![mac_route(2, 10, 1), mac_route(2, 11, 2), mac_route(2, 10, 3)], attributes(2, 10));
    let forbidden = bench.rib.forbidden(LIAR, &update);
    assert_eq!((forbidden.len(), forbidden[0].routes), (1, 1));
    assert_eq!(forbidden[0].keys, [mac_route(2, 11, 2).key]);
    let outcome = apply(&mut bench.rib, LIAR, update);
    assert_eq!((outcome.accepted, outcome.forbidden), (2, 1));
    assert_eq!(bench.held().len(), 2);
}

/// A route with each of its claims, and a permission.
#[derive(Clone, Debug)]
struct Claim {
    name: u8,
    multicast: bool,
    next_hop: u8,
    other: u8,
    vni: u32,
    target: u32,
}

fn claim() -> impl Strategy<Value = Claim> {
    (0..6_u8, any::<bool>(), 1..4_u8, 1..4_u8, 1..4_u32, 1..4_u32).prop_map(
        |(name, multicast, next_hop, other, vni, target)| Claim { name, multicast, next_hop, other, vni, target },
    )
}

fn any_permission() -> impl Strategy<Value = Permission> {
    let hops = proptest::option::of(proptest::collection::btree_set((1..4_u8).prop_map(address), 0..3));
    let vnis = proptest::option::of(vec((1..4_u32, 1..4_u32).prop_map(|(a, b)| (vni(a), vni(b))), 0..3));
    let build = |(next_hops, vnis): (_, Option<Vec<_>>)| Permission {
        next_hops,
        vnis: vnis.map(|list| list.into_iter().collect()),
    };
    (hops, vnis).prop_map(build)
}

impl Claim {
    fn build(&self) -> (Announced, PathAttributes) {
        let rd = RouteDistinguisher::ipv4(Ipv4Addr::new(10, 0, 0, 2), u16::from(self.name));
        let mut attributes = PathAttributes::new(address(self.next_hop));
        attributes.extended_communities.push(RouteTarget::auto(ASN, vni(self.target)).community());
        let tag = EthernetTag(0);
        if !self.multicast {
            let key = EvpnKey::MacIp { rd, tag, mac: MacAddr([2, 0, 0, 0, 0, 1]), ip: None };
            let (esi, label) = (EthernetSegmentId::default(), vni(self.vni).into());
            return (Route { key, payload: EvpnPayload::MacIp { esi, label, label2: None } }, attributes);
        }
        let tunnel = Tunnel::IngressReplication(address(self.other));
        attributes.pmsi_tunnel = Some(PmsiTunnel { flags: 0, label: vni(self.vni).into(), tunnel });
        let key = EvpnKey::InclusiveMulticast { rd, tag, originator: address(self.other) };
        (Route { key, payload: EvpnPayload::InclusiveMulticast }, attributes)
    }

    /// The rule, in its plainest words.
    fn is_allowed(&self, permission: &Permission) -> bool {
        let hop = |number| permission.next_hops.as_ref().is_none_or(|list| list.contains(&address(number)));
        let lan = |number| permission.vnis.as_ref().is_none_or(|list| list.contains(vni(number)));
        hop(self.next_hop) && (!self.multicast || hop(self.other)) && lan(self.vni) && lan(self.target)
    }
}

proptest! {
    /// The liar repeats all that it ever announced when it is asked to, as a real peer does.
    #[test]
    fn others_hold_exactly_what_the_peer_may_announce(
        permissions in vec(any_permission(), 1..5),
        claims in vec(claim(), 1..20),
    ) {
        let mut bench = Bench::new(permissions[0].clone());
        let mut said: BTreeMap<EvpnKey, Claim> = BTreeMap::new();
        let per_step = claims.len().div_ceil(permissions.len());
        for (permission, claims) in permissions.iter().zip(claims.chunks(per_step)) {
            let rejudged = bench.rib.set_permission(LIAR, Arc::new(permission.clone()));
            let repeated: Vec<_> = said.values().filter(|_| rejudged.refresh).cloned().collect();
            for claim in repeated.iter().chain(claims) {
                let (route, attributes) = claim.build();
                said.insert(route.key.clone(), claim.clone());
                prop_assert_eq!(bench.announce(route, attributes).is_none(), claim.is_allowed(permission));
            }
            let allowed = |(key, claim): (&EvpnKey, &Claim)| claim.is_allowed(permission).then(|| key.clone());
            prop_assert_eq!(bench.held(), said.iter().filter_map(allowed).collect::<Vec<_>>());
        }
    }
}
