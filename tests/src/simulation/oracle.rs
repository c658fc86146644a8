//! Everything is as it must be when faults have stopped and all is quiet.
//!
//! The oracle computes forwarding state from the ports and stations that exist, and asks neither sessions nor engines.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bgp_core::rib::{LOCAL_PEER, RouteView};
use bgp_core::types::{MacAddr, Vni};
use bgp_core::wire::{Evpn, EvpnKey};
use dataplane::{BridgeRow, LanSnapshot, PortId, Snapshot};

use super::fabric::Fabric;

/// The holders of a MAC: workers with a port that claimed it, or the station behind it.
#[derive(Debug, Default)]
struct Holders {
    all: BTreeSet<usize>,
    /// Those that hold it by a claim.
    claimed: BTreeSet<usize>,
    /// The one that an administrator has pinned it to.
    pinned: Option<usize>,
}

/// A LAN as it should be.
#[derive(Debug, Default)]
struct Lan {
    members: BTreeSet<usize>,
    macs: BTreeMap<MacAddr, Holders>,
}

fn lans(fabric: &Fabric) -> BTreeMap<Vni, Lan> {
    let mut lans: BTreeMap<Vni, Lan> = BTreeMap::new();
    for (vni, worker) in &fabric.truth.served {
        lans.entry(*vni).or_default().members.insert(*worker);
    }
    for placed in fabric.truth.ports.values() {
        let lan = lans.entry(placed.vni).or_default();
        lan.members.insert(placed.worker);
        if let Some(claim) = &placed.claim {
            let holders = lan.macs.entry(claim.mac).or_default();
            holders.all.insert(placed.worker);
            holders.claimed.insert(placed.worker);
        }
    }
    for ((vni, mac), station) in &fabric.truth.stations {
        if let (Some(lan), Some(placed)) = (lans.get_mut(vni), fabric.truth.ports.get(&station.port)) {
            let holders = lan.macs.entry(*mac).or_default();
            holders.all.insert(placed.worker);
            holders.pinned = station.pinned.then_some(placed.worker);
        }
    }
    lans
}

/// Everything is as it must be when faults have stopped and all is quiet.
///
/// # Errors
/// The first thing that does not hold.
pub fn settled(fabric: &Fabric) -> Result<(), String> {
    sessions(fabric)?;
    let lans = lans(fabric);
    let snapshots: Vec<Snapshot> = fabric.machines.iter().map(|machine| machine.kernel.look()).collect();
    for (worker, snapshot) in snapshots.iter().enumerate() {
        for (vni, lan) in &snapshot.lans {
            if !lans.get(vni).is_some_and(|lan| lan.members.contains(&worker)) {
                return Err(format!("w{worker}: VNI {vni} is left over: {lan:?}"));
            }
        }
    }
    for (vni, lan) in &lans {
        let mut owners: BTreeMap<MacAddr, usize> = BTreeMap::new();
        for worker in &lan.members {
            let Some(found) = snapshots.get(*worker).and_then(|snapshot| snapshot.lans.get(vni)) else {
                return Err(format!("w{worker}: VNI {vni} is missing"));
            };
            flooded(fabric, *worker, *vni, &lan.members, found)?;
            rows(fabric, *worker, *vni, &lan.macs, found, &mut owners)?;
        }
        for (mac, holders) in &lan.macs {
            let owner = owners.get(mac);
            let is_right = |owner| match holders.pinned {
                Some(pinned) => pinned == owner,
                None => holders.all.contains(&owner),
            };
            if !owner.is_some_and(|owner| is_right(*owner)) {
                return Err(format!("VNI {vni}: {mac} is at {owner:?}, while {holders:?} have it"));
            }
        }
        for worker in &lan.members {
            let found = snapshots.get(*worker).and_then(|snapshot| snapshot.lans.get(vni));
            found.map_or(Ok(()), |found| neighbors(*worker, *vni, &lan.macs, found, &owners))?;
        }
    }
    union(fabric)
}

fn sessions(fabric: &Fabric) -> Result<(), String> {
    for (index, worker) in fabric.workers.iter().enumerate() {
        let worker = worker.as_ref().ok_or(format!("w{index} does not run"))?;
        if let Some((remote, state)) = worker.speaker.unestablished().next() {
            return Err(format!("w{index}: session with {remote} is {state}"));
        }
        if !worker.speaker.rib.is_informed() {
            return Err(format!("w{index}: no reflector has said that it has said all"));
        }
        if !worker.core.forwarder().is_idle() {
            return Err(format!("w{index}: rows wait to be written"));
        }
    }
    for (index, reflector) in fabric.reflectors.iter().enumerate() {
        let reflector = reflector.as_ref().ok_or(format!("r{index} does not run"))?;
        if let Some((remote, state)) = reflector.unestablished().next() {
            return Err(format!("r{index}: session with {remote} is {state}"));
        }
    }
    Ok(())
}

fn flooded(
    fabric: &Fabric,
    worker: usize,
    vni: Vni,
    members: &BTreeSet<usize>,
    lan: &LanSnapshot,
) -> Result<(), String> {
    let others = members.iter().filter(|member| **member != worker);
    let expected: BTreeSet<IpAddr> = others.map(|member| fabric.vtep(*member)).collect();
    if lan.flood != expected {
        return Err(format!("w{worker}: VNI {vni} floods to {:?} instead of {expected:?}", lan.flood));
    }
    if !expected.is_empty() && !lan.tunnel {
        return Err(format!("w{worker}: VNI {vni} has no tunnel"));
    }
    let exists = |port: &PortId| fabric.truth.ports.get(port).is_some_and(|placed| placed.worker == worker);
    if let Some(port) = lan.ports.keys().find(|port| !exists(port)) {
        return Err(format!("w{worker}: VNI {vni} has the port {port}, which is gone"));
    }
    Ok(())
}

/// Rows of one worker: one for each MAC that is elsewhere, the same owner as at every other worker.
fn rows(
    fabric: &Fabric,
    worker: usize,
    vni: Vni,
    macs: &BTreeMap<MacAddr, Holders>,
    lan: &LanSnapshot,
    owners: &mut BTreeMap<MacAddr, usize>,
) -> Result<(), String> {
    if let Some((mac, row)) = lan.remote.iter().find(|(mac, _)| !macs.contains_key(mac)) {
        return Err(format!("w{worker}: VNI {vni} has a row {row:?} for {mac}, which is gone"));
    }
    for (mac, holders) in macs {
        let place = match lan.remote.get(mac) {
            None if holders.all.contains(&worker) => worker,
            None => return Err(format!("w{worker}: VNI {vni} has no row for {mac} at {holders:?}")),
            Some(row) => match (row.vtep, row.bridge) {
                (Some(vtep), Some(BridgeRow::External | BridgeRow::Sticky)) => {
                    let owner = holders.all.iter().find(|holder| fabric.vtep(**holder) == vtep);
                    *owner.ok_or(format!("w{worker}: VNI {vni} sends to {vtep} for {mac} at {holders:?}"))?
                }
                _ => return Err(format!("w{worker}: VNI {vni} has half a row for {mac}: {row:?}")),
            },
        };
        let known = *owners.entry(*mac).or_insert(place);
        if known != place {
            return Err(format!("VNI {vni}: {mac} is at w{known} for one and at w{place} for w{worker}"));
        }
    }
    Ok(())
}

/// The address that goes with a MAC of a pod, if any does.
pub fn address_of(mac: MacAddr) -> Option<IpAddr> {
    let [_, _, _, lan, _, host] = mac.0;
    host.is_multiple_of(2).then(|| IpAddr::from([192, 168, lan, host]))
}

/// Neighbours of one worker: the addresses of pods that are elsewhere, and no others.
fn neighbors(
    worker: usize,
    vni: Vni,
    macs: &BTreeMap<MacAddr, Holders>,
    lan: &LanSnapshot,
    owners: &BTreeMap<MacAddr, usize>,
) -> Result<(), String> {
    let elsewhere = |(mac, holders): (&MacAddr, &Holders)| {
        let owner = owners.get(mac).filter(|owner| **owner != worker && holders.claimed.contains(owner))?;
        address_of(*mac).filter(|_| holders.claimed.contains(owner)).map(|ip| (ip, *mac))
    };
    let expected: BTreeMap<IpAddr, MacAddr> = macs.iter().filter_map(elsewhere).collect();
    if lan.neighbors != expected {
        return Err(format!("w{worker}: VNI {vni} has the neighbours {:?} instead of {expected:?}", lan.neighbors));
    }
    Ok(())
}

/// Every reflector holds what the workers announce of themselves, and nothing else.
fn union(fabric: &Fabric) -> Result<(), String> {
    let own = |worker: &super::worker::Worker| {
        let vtep = worker.speaker.rib.config().local_address;
        let is_own = |route: &RouteView<'_, Evpn>| route.peer == LOCAL_PEER && route.attributes.next_hop == vtep;
        let routes = worker.speaker.rib.routes().filter(is_own);
        routes.map(|route| route.key.clone()).collect::<Vec<EvpnKey>>()
    };
    let announced: BTreeSet<EvpnKey> = fabric.workers.iter().flatten().flat_map(|worker| own(worker)).collect();
    for (index, reflector) in fabric.reflectors.iter().enumerate() {
        let Some(reflector) = reflector else { continue };
        if let Some(stale) = reflector.rib.routes().find(|route| route.stale) {
            return Err(format!("r{index}: {} is still stale", stale.key));
        }
        let held: BTreeSet<EvpnKey> = reflector.rib.routes().map(|route| route.key.clone()).collect();
        if let Some(key) = held.symmetric_difference(&announced).next() {
            let what = if held.contains(key) { "nobody announces" } else { "is missing" };
            return Err(format!("r{index}: {key} {what}"));
        }
    }
    Ok(())
}
