//! What changed about the Nodes, as log lines for people.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cluster::nodes::{NodePeer, Problem};

/// One change.
#[derive(Debug, Eq, PartialEq)]
enum Change<'a> {
    Added(&'a NodePeer),
    Deleted(&'a NodePeer),
    /// Its addresses are others.
    Moved(&'a NodePeer, &'a NodePeer),
    /// The next hops that it may announce are others.
    Allowed(&'a NodePeer),
    Broken(&'a NodePeer, &'a Problem),
    Mended(&'a NodePeer, &'a Problem),
}

fn changes<'a>(before: &'a BTreeMap<String, NodePeer>, after: &'a BTreeMap<String, NodePeer>) -> Vec<Change<'a>> {
    let mut changes = Vec::new();
    for (name, old) in before {
        if after.get(name).is_none_or(|new| new.uid != old.uid) {
            changes.push(Change::Deleted(old));
        }
    }
    for (name, new) in after {
        let old = before.get(name).filter(|old| old.uid == new.uid);
        match old {
            None => changes.push(Change::Added(new)),
            Some(old) if old.addresses != new.addresses => changes.push(Change::Moved(old, new)),
            Some(old) if old.next_hops() != new.next_hops() => changes.push(Change::Allowed(new)),
            Some(_) => {}
        }
        let known = old.map(|old| old.problems.as_slice()).unwrap_or_default();
        let fresh = new.problems.iter().filter(|problem| !known.contains(problem));
        changes.extend(fresh.map(|problem| Change::Broken(new, problem)));
        let gone = known.iter().filter(|problem| !new.problems.contains(problem));
        changes.extend(gone.map(|problem| Change::Mended(new, problem)));
    }
    changes
}

fn list(addresses: &BTreeSet<IpAddr>) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Says what changed.
pub fn log(before: &BTreeMap<String, NodePeer>, after: &BTreeMap<String, NodePeer>) {
    for change in changes(before, after) {
        match change {
            Change::Added(NodePeer { name, addresses, .. }) => {
                tracing::info!(node = name, addresses = list(addresses), "Node added");
            }
            Change::Deleted(NodePeer { name, addresses, .. }) => {
                tracing::info!(node = name, addresses = list(addresses), "Node deleted; its routes go");
            }
            Change::Moved(old, new) => {
                let (from, to) = (list(&old.addresses), list(&new.addresses));
                tracing::info!(node = new.name, from, to, "Node has other addresses");
            }
            Change::Allowed(node) => {
                let next_hops = list(&node.next_hops());
                tracing::info!(node = node.name, next_hops, "Node may announce other next hops");
            }
            Change::Broken(node, problem) => {
                tracing::warn!(node = node.name, reason = problem.reason(), %problem, "Node");
            }
            Change::Mended(node, problem) => {
                tracing::info!(node = node.name, reason = problem.reason(), "Node put right");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, uid: &str, addresses: &[&str]) -> NodePeer {
        NodePeer {
            name: name.into(),
            uid: uid.into(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            vtep: None,
            annotated: false,
            runs_worker: true,
            problems: Vec::new(),
        }
    }

    #[test]
    fn every_change_of_a_node_is_said_once() {
        let by_name = |nodes: Vec<NodePeer>| nodes.into_iter().map(|node| (node.name.clone(), node)).collect();
        let a = node("a", "A", &["10.0.0.1"]);
        let moved = node("a", "A", &["10.0.0.2"]);
        let again = node("a", "N", &["10.0.0.1"]);
        let vtep = NodePeer { vtep: Some([192, 0, 2, 1].into()), annotated: true, ..a.clone() };
        let broken = NodePeer { problems: vec![Problem::NoInternalIp], ..a.clone() };
        let cases: [(Vec<&NodePeer>, Vec<&NodePeer>, Vec<Change<'_>>); 8] = [
            (vec![], vec![&a], vec![Change::Added(&a)]),
            (vec![&a], vec![], vec![Change::Deleted(&a)]),
            (vec![&a], vec![&a], vec![]),
            (vec![&a], vec![&moved], vec![Change::Moved(&a, &moved)]),
            (vec![&a], vec![&again], vec![Change::Deleted(&a), Change::Added(&again)]),
            (vec![&a], vec![&vtep], vec![Change::Allowed(&vtep)]),
            (vec![&a], vec![&broken], vec![Change::Broken(&broken, &Problem::NoInternalIp)]),
            (vec![&broken], vec![&a], vec![Change::Mended(&a, &Problem::NoInternalIp)]),
        ];
        for (before, after, expected) in cases {
            let owned = |nodes: &[&NodePeer]| by_name(nodes.iter().map(|&node| node.clone()).collect());
            let (before, after) = (owned(&before), owned(&after));
            assert_eq!(changes(&before, &after), expected);
        }
    }
}
