//! Decisions as text: the cases of `tests/decision` and `tests/membership`, each in every order of arrival.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::*;
use crate::rib::LOCAL_PEER;
use crate::types::MacMobility;
use crate::wire::attributes::{AsSegment, Origin, community};

/// A case: its name, its commands and what they are to yield.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) commands: Vec<String>,
    pub(super) expected: String,
}

/// Blocks of lines between empty ones: a name, commands, `----`, the expected output.
pub(super) fn cases(file: &str) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(file);
    let text = fs::read_to_string(&path).unwrap();
    let blocks = text.split("\n\n").map(|block| block.lines().filter(|line| !line.starts_with('#')));
    let mut cases = Vec::new();
    for mut lines in blocks {
        let Some(name) = lines.next() else { continue };
        let commands = lines.by_ref().take_while(|line| *line != "----").map(str::to_owned).collect();
        let expected = lines.fold(String::new(), |all, line| all + line + "\n");
        cases.push(Case { name: name.to_owned(), commands, expected });
    }
    assert!(cases.len() > 5, "{} has lost its cases", path.display());
    cases
}

/// A command's words: the verb, the name, and options as (key, value).
pub(super) fn words(command: &str) -> (&str, &str, BTreeMap<&str, &str>) {
    let mut words = command.split_whitespace();
    let (verb, name) = (words.next().unwrap(), words.next().unwrap_or_default());
    (verb, name, words.map(|word| word.split_once('=').unwrap_or((word, ""))).collect())
}

/// All orders of `count` things.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let mut orders = vec![vec![]];
    for next in 0..count {
        let extend = |order: Vec<usize>| {
            (0..=order.len()).map(move |position| {
                let mut longer = order.clone();
                longer.insert(position, next);
                longer
            })
        };
        orders = orders.into_iter().flat_map(extend).collect();
    }
    orders
}

fn router_id(text: &str) -> RouterId {
    text.parse::<Ipv4Addr>().unwrap().into()
}

fn numbers(text: &str) -> Vec<u32> {
    text.split(',').filter(|word| !word.is_empty()).map(|word| word.parse().unwrap()).collect()
}

fn attributes_of(options: &BTreeMap<&str, &str>) -> PathAttributes {
    let mut attributes = PathAttributes::new(address(100));
    let mut mobility = MacMobility::default();
    for (key, value) in options {
        match *key {
            "local-pref" => attributes.local_pref = Some(value.parse().unwrap()),
            "med" => attributes.med = Some(value.parse().unwrap()),
            "as-path" => attributes.as_path.segments.push(AsSegment(numbers(value).into_iter().map(Asn).collect())),
            "next-hop" => attributes.next_hop = value.parse().unwrap(),
            "originator" => attributes.originator_id = Some(router_id(value)),
            "clusters" => attributes.cluster_list.extend(numbers(value)),
            "seq" => mobility.sequence = value.parse().unwrap(),
            "sticky" => mobility.sticky = true,
            "origin" => {
                attributes.origin = match *value {
                    "igp" => Origin::Igp,
                    "egp" => Origin::Egp,
                    "incomplete" => Origin::Incomplete,
                    other => panic!("origin {other}"),
                }
            }
            "llgr-stale" => attributes.communities.push(community::LLGR_STALE),
            "class" | "router-id" | "address" | "stale" | "long-lived" => {}
            other => panic!("unknown option {other}"),
        }
    }
    if mobility != MacMobility::default() {
        attributes.extended_communities.push(ExtendedCommunity::mac_mobility(mobility));
    }
    attributes
}

/// Route `index` comes in; it is the only one of its peer.
fn arrive(rib: &mut Rib, index: usize, key: &EvpnKey, options: &BTreeMap<&str, &str>) {
    let payload = match key {
        EvpnKey::MacIp { .. } => mac_route(1, 1, 1).payload,
        _ => EvpnPayload::InclusiveMulticast,
    };
    let route = Route { key: key.clone(), payload };
    let attributes = attributes_of(options);
    let class = match options.get("class") {
        Some(&"local") => return rib.originate(route, attributes),
        Some(&"external") => PeerClass::External,
        _ => PeerClass::Client,
    };
    let number = u8::try_from(index).unwrap() + 10;
    let peer = PeerId(u32::from(number));
    let mut info = info(number, class, false);
    if let Some(id) = options.get("router-id") {
        info.router_id = router_id(id);
    }
    if let Some(address) = options.get("address") {
        info.address = address.parse().unwrap();
    }
    rib.peer_up(peer, info, NOW);
    apply(rib, peer, announce(vec![route], attributes));
    let restart_secs = if options.contains_key("long-lived") { 0 } else { 100 };
    if options.contains_key("stale") || options.contains_key("long-lived") {
        rib.peer_down(peer, &keeping(&[AddressFamily::EVPN], restart_secs, 500), NOW);
    }
}

/// `flush_each`: select after every arrival, as slow routes would have it.
fn decide(case: &Case, order: &[usize], flush_each: bool) -> String {
    let mobile = case.commands.iter().any(|command| command == "mobile");
    let routes: Vec<_> =
        case.commands.iter().map(|command| words(command)).filter(|words| words.0 == "route").collect();
    let key = if mobile {
        mac_route(1, 1, 1).key
    } else {
        let rd = RouteDistinguisher::ipv4(Ipv4Addr::LOCALHOST, 1);
        EvpnKey::InclusiveMulticast { rd, tag: EthernetTag(0), originator: address(1) }
    };
    let mut rib = reflector();
    for index in order {
        arrive(&mut rib, *index, &key, &routes[*index].2);
        if flush_each {
            rib.flush();
        }
    }
    rib.flush();
    let mut output = String::new();
    for (index, (_, name, options)) in routes.iter().enumerate() {
        let local = options.get("class") == Some(&"local");
        let peer = if local { LOCAL_PEER } else { PeerId(u32::try_from(index).unwrap() + 10) };
        let route = rib.routes().find(|route| route.peer == peer).unwrap();
        writeln!(output, "{name} {} {:?}", if route.best { "best" } else { "lost" }, route.reason).unwrap();
    }
    output
}

fn check_decisions(file: &str) {
    for case in cases(file) {
        let count = case.commands.iter().filter(|command| command.starts_with("route")).count();
        for order in orders(count) {
            for flush_each in [false, true] {
                let output = decide(&case, &order, flush_each);
                assert_eq!(output, case.expected, "{file}: {}, arriving as {order:?}", case.name);
            }
        }
    }
}

#[test]
fn best_path_decides_as_written() {
    check_decisions("decision/best_path.txt");
}

#[test]
fn mobility_decides_as_written() {
    check_decisions("decision/mobility.txt");
}

/// `ASN:NUMBER` or `ADDRESS:NUMBER`.
fn target(text: &str) -> RouteTarget {
    let (administrator, number) = text.split_once(':').unwrap();
    let octets = match administrator.parse::<Ipv4Addr>() {
        Ok(address) => {
            let [a, b, c, d] = address.octets();
            let [e, f] = number.parse::<u16>().unwrap().to_be_bytes();
            [1, 2, a, b, c, d, e, f]
        }
        Err(_) => {
            let [a, b] = administrator.parse::<u16>().unwrap().to_be_bytes();
            let [c, d, e, f] = number.parse::<u32>().unwrap().to_be_bytes();
            [0, 2, a, b, c, d, e, f]
        }
    };
    RouteTarget::from_community(ExtendedCommunity(octets)).unwrap()
}

/// `default`, a target, or `HEX/BITS`.
fn asked(text: &str) -> RtMembership {
    if text == "default" {
        return RtMembership::Default;
    }
    let Some((hex, bits)) = text.split_once('/') else {
        return RtMembership::Target { origin: ASN, target: target(text) };
    };
    let mut octets = [0; 8];
    for (octet, digits) in octets.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *octet = u8::from_str_radix(core::str::from_utf8(digits).unwrap(), 16).unwrap();
    }
    RtMembership::Prefix { origin: ASN, target: octets, bits: bits.parse().unwrap() }
}

/// `peers_first`: memberships before the routes, else after them.
fn import(case: &Case, peers_first: bool) -> String {
    const SOURCE: PeerId = PeerId(1);
    let mut rib = reflector();
    rib.peer_up(SOURCE, info(1, PeerClass::Client, false), NOW);
    let commands: Vec<_> = case.commands.iter().map(|command| words(command)).collect();
    let mut ordered = commands.clone();
    ordered.sort_by_key(|(verb, ..)| (*verb == "route") == peers_first);
    let mac = |name: &str| mac_route(1, 1, name.as_bytes()[0]);
    let mut peers = BTreeMap::new();
    for (verb, name, options) in ordered {
        if verb == "route" {
            let mut attributes = PathAttributes::new(address(1));
            let targets = options["targets"].split(',').filter(|word| !word.is_empty());
            attributes.extended_communities.extend(targets.map(|word| target(word).community()));
            apply(&mut rib, SOURCE, announce(vec![mac(name)], attributes));
        } else {
            let number = u8::try_from(peers.len()).unwrap() + 10;
            let peer = PeerId(u32::from(number));
            rib.peer_up(peer, info(number, PeerClass::Client, options.contains_key("asks")), NOW);
            let asks = options.get("asks").copied().unwrap_or_default();
            for word in asks.split(',').filter(|word| !word.is_empty()) {
                apply(&mut rib, peer, ask(asked(word)));
            }
            peers.insert(name, peer);
        }
        rib.flush();
    }
    let mut output = String::new();
    for (name, peer) in peers {
        let mut view = View::default();
        view.drain(&mut rib, peer);
        let got =
            commands.iter().filter(|(verb, name, _)| *verb == "route" && view.routes.contains_key(&mac(name).key));
        let got = got.fold(String::new(), |all, (_, name, _)| all + " " + name);
        writeln!(output, "{name} gets{got}").unwrap();
    }
    output
}

#[test]
fn memberships_let_through_what_is_written() {
    for case in cases("membership/import.txt") {
        for peers_first in [false, true] {
            assert_eq!(import(&case, peers_first), case.expected, "{}", case.name);
        }
    }
}
