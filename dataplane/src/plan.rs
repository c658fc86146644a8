//! The pure difference between desired and observed forwarding state.

use std::collections::BTreeMap;

use bgp_core::types::Vni;
use evpn::forwarding::{Desired, Key};

use crate::model::{BridgeRow, Change, LanSnapshot, RemoteRow, Snapshot};

/// The changes that make the kernel hold what is desired and nothing else: first removals, then additions, tunnels
/// before their rows. Empty when all is as it should be.
///
/// Local ports and the MACs behind them are never part of it.
pub fn plan(desired: &BTreeMap<Key, Desired>, observed: &Snapshot) -> Vec<Change> {
    let mut changes = Vec::new();
    for (&vni, lan) in &observed.lans {
        if lan.tunnel && !observed.adopted && !desired.contains_key(&Key::Tunnel(vni)) {
            // The rows go with the device.
            changes.push(Change { key: Key::Tunnel(vni), desired: None });
        } else {
            let surplus = rows(vni, lan).filter(|key| !desired.contains_key(key));
            changes.extend(surplus.map(|key| Change { key, desired: None }));
        }
    }
    let missing = desired.iter().filter(|&(key, state)| !holds(observed, key, state));
    changes.extend(missing.map(|(&key, &state)| Change { key, desired: Some(state) }));
    changes
}

/// The keys of all rows that a LAN holds.
fn rows(vni: Vni, lan: &LanSnapshot) -> impl Iterator<Item = Key> {
    let flood = lan.flood.iter().map(move |&vtep| Key::Flood(vni, vtep));
    let macs = lan.remote.keys().map(move |&mac| Key::Mac(vni, mac));
    let neighbors = lan.neighbors.keys().map(move |&ip| Key::Neighbor(vni, ip));
    flood.chain(macs).chain(neighbors)
}

/// Whether a key is as it should be.
fn holds(observed: &Snapshot, key: &Key, desired: &Desired) -> bool {
    let (Key::Tunnel(vni) | Key::Flood(vni, _) | Key::Mac(vni, _) | Key::Neighbor(vni, _)) = *key;
    if matches!(key, Key::Neighbor(..)) && !observed.suppresses_neighbors {
        return true;
    }
    let Some(lan) = observed.lans.get(&vni) else { return false };
    match (key, *desired) {
        (Key::Tunnel(_), Desired::Tunnel) => lan.tunnel,
        (Key::Flood(_, vtep), Desired::Flood) => lan.flood.contains(vtep),
        (Key::Mac(_, mac), Desired::RemoteMac { vtep, sticky }) => {
            let bridge = if sticky { BridgeRow::Sticky } else { BridgeRow::External };
            lan.remote.get(mac) == Some(&RemoteRow { vtep: Some(vtep), bridge: Some(bridge) })
        }
        (Key::Neighbor(_, ip), Desired::Neighbor { mac }) => lan.neighbors.get(ip) == Some(&mac),
        _ => false,
    }
}
