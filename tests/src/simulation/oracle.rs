//! What must hold: always, and when all is quiet.
//!
//! The oracle computes forwarding state from the ports and stations that exist, and asks neither sessions nor engines.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bgp_core::rib::LOCAL_PEER;
use bgp_core::types::{MacAddr, Vni};
use bgp_core::wire::EvpnKey;
use dataplane::memory::Egress;
use dataplane::{BridgeRow, LanSnapshot, PortId};

use super::clock::Node;
use super::fabric::{Fabric, vtep};

/// The VNI that a MAC of the scenario belongs to.
fn lan_of(mac: MacAddr) -> Option<Vni> {
    let [_, _, high, low, _, _] = mac.0;
    Vni::new(u32::from_be_bytes([0, 0, high, low]))
}

/// A MAC that belongs to a LAN: which LAN can be read off it.
pub fn mac_of(vni: Vni, kind: u8, number: usize) -> MacAddr {
    let [_, _, high, low] = vni.get().to_be_bytes();
    let [.., number] = number.to_be_bytes();
    MacAddr([2, 0, high, low, kind, number])
}

/// No frame may ever reach another LAN: rows of a LAN lead to workers that have or had it, and are for its MACs.
///
/// # Errors
/// What does not hold.
pub fn isolated(fabric: &Fabric) -> Result<(), String> {
    for machine in &fabric.machines {
        for (vni, lan) in machine.kernel.look().lans {
            let members: BTreeSet<IpAddr> = fabric
                .truth
                .members_ever
                .range((vni, 0)..=(vni, usize::MAX))
                .map(|(_, worker)| vtep(*worker))
                .collect();
            let rows = lan.remote.values().filter_map(|row| row.vtep);
            if let Some(stranger) = lan.flood.iter().copied().chain(rows).find(|vtep| !members.contains(vtep)) {
                return Err(format!("w{}: VNI {vni} sends to {stranger}, which never had it", machine.index));
            }
            if let Some(mac) = lan.remote.keys().chain(lan.local.keys()).find(|mac| lan_of(**mac) != Some(vni)) {
                return Err(format!("w{}: {mac} of another LAN is in VNI {vni}", machine.index));
            }
        }
    }
    Ok(())
}

/// The holders of each MAC of a LAN: workers with a port that claimed it, or the station behind it.
type Holders = BTreeMap<MacAddr, BTreeSet<usize>>;

fn holders(fabric: &Fabric) -> BTreeMap<Vni, (BTreeSet<usize>, Holders)> {
    let mut lans: BTreeMap<Vni, (BTreeSet<usize>, Holders)> = BTreeMap::new();
    for placed in fabric.truth.pods.values() {
        let (members, holders) = lans.entry(placed.pod.vni).or_default();
        members.insert(placed.worker);
        holders.entry(placed.pod.mac).or_default().insert(placed.worker);
    }
    for ((vni, mac), port) in &fabric.truth.stations {
        if let (Some((_, holders)), Some(placed)) = (lans.get_mut(vni), fabric.truth.pods.get(port)) {
            holders.entry(*mac).or_default().insert(placed.worker);
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
    let lans = holders(fabric);
    let snapshots: Vec<_> = fabric.machines.iter().map(|machine| machine.kernel.look()).collect();
    for (worker, snapshot) in snapshots.iter().enumerate() {
        for (vni, lan) in &snapshot.lans {
            if !lans.get(vni).is_some_and(|(members, _)| members.contains(&worker)) {
                return Err(format!("w{worker}: VNI {vni} is left over: {lan:?}"));
            }
        }
    }
    for (vni, (members, macs)) in &lans {
        let mut owners: BTreeMap<MacAddr, IpAddr> = BTreeMap::new();
        for worker in members {
            let Some(lan) = snapshots.get(*worker).and_then(|snapshot| snapshot.lans.get(vni)) else {
                return Err(format!("w{worker}: VNI {vni} is missing"));
            };
            flooded(fabric, *worker, *vni, members, lan)?;
            rows(*worker, *vni, macs, lan, &mut owners)?;
        }
        for (mac, holders) in macs {
            let owner = owners.get(mac);
            let alone = members.len() == 1 || (holders.len() == 1 && members == holders);
            if !alone && !owner.is_some_and(|owner| holders.iter().any(|holder| vtep(*holder) == *owner)) {
                return Err(format!("VNI {vni}: {mac} is at {owner:?}, while {holders:?} have it"));
            }
        }
    }
    union(fabric)
}

fn sessions(fabric: &Fabric) -> Result<(), String> {
    for (index, worker) in fabric.workers.iter().enumerate() {
        let worker = worker.as_ref().ok_or(format!("w{index} does not run"))?;
        if let Some((remote, state)) = worker.speaker.unestablished().next() {
            return Err(format!("w{index}: session with {remote:?} is {state}"));
        }
        if !worker.core.forwarder().is_idle() {
            return Err(format!("w{index}: rows wait to be written"));
        }
    }
    for (index, reflector) in fabric.reflectors.iter().enumerate() {
        let reflector = reflector.as_ref().ok_or(format!("r{index} does not run"))?;
        if let Some((remote, state)) = reflector.unestablished().next() {
            return Err(format!("r{index}: session with {remote:?} is {state}"));
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
    let expected: BTreeSet<IpAddr> = members.iter().filter(|member| **member != worker).map(|m| vtep(*m)).collect();
    if lan.flood != expected {
        return Err(format!("w{worker}: VNI {vni} floods to {:?} instead of {expected:?}", lan.flood));
    }
    if !expected.is_empty() && !lan.tunnel {
        return Err(format!("w{worker}: VNI {vni} has no tunnel"));
    }
    let exists = |port: &PortId| fabric.truth.pods.get(port).is_some_and(|placed| placed.worker == worker);
    if let Some(port) = lan.ports.keys().find(|port| !exists(port)) {
        return Err(format!("w{worker}: VNI {vni} has the port {port}, which is gone"));
    }
    Ok(())
}

/// Rows of one worker: one for each MAC that is elsewhere, the same owner as at every other worker.
fn rows(
    worker: usize,
    vni: Vni,
    macs: &Holders,
    lan: &LanSnapshot,
    owners: &mut BTreeMap<MacAddr, IpAddr>,
) -> Result<(), String> {
    if let Some((mac, row)) = lan.remote.iter().find(|(mac, _)| !macs.contains_key(mac)) {
        return Err(format!("w{worker}: VNI {vni} has a row {row:?} for {mac}, which is gone"));
    }
    for (mac, holders) in macs {
        let place = match lan.remote.get(mac) {
            None if holders.contains(&worker) => vtep(worker),
            None => return Err(format!("w{worker}: VNI {vni} has no row for {mac} at {holders:?}")),
            Some(row) => match (row.vtep, row.bridge) {
                (Some(vtep), Some(BridgeRow::External | BridgeRow::Sticky)) => vtep,
                _ => return Err(format!("w{worker}: VNI {vni} has half a row for {mac}: {row:?}")),
            },
        };
        let known = *owners.entry(*mac).or_insert(place);
        if known != place {
            return Err(format!("VNI {vni}: {mac} is at {known} for one and at {place} for w{worker}"));
        }
    }
    let known = |ip: &IpAddr, mac: &MacAddr| macs.contains_key(mac) && address_of(*mac) == *ip;
    if let Some((ip, mac)) = lan.neighbors.iter().find(|(ip, mac)| !known(ip, mac)) {
        return Err(format!("w{worker}: VNI {vni} has the neighbour {ip} at {mac}, which is gone"));
    }
    Ok(())
}

/// The address that goes with a MAC of the scenario.
pub fn address_of(mac: MacAddr) -> IpAddr {
    let [_, _, _, lan, _, host] = mac.0;
    IpAddr::from([192, 168, lan, host])
}

/// Every reflector holds what the workers announce, and nothing else.
fn union(fabric: &Fabric) -> Result<(), String> {
    let own = |worker: &super::worker::Worker| {
        let routes = worker.speaker.rib.routes().filter(|route| route.peer == LOCAL_PEER);
        routes.map(|route| route.key.clone()).collect::<Vec<EvpnKey>>()
    };
    let announced: BTreeSet<String> =
        fabric.workers.iter().flatten().flat_map(own).map(|key| key.to_string()).collect();
    for (index, reflector) in fabric.reflectors.iter().enumerate() {
        let Some(reflector) = reflector else { continue };
        if let Some(stale) = reflector.rib.routes().find(|route| route.stale) {
            return Err(format!("r{index}: {} is still stale", stale.key));
        }
        let held: BTreeSet<String> = reflector.rib.routes().map(|route| route.key.to_string()).collect();
        if let Some(key) = held.symmetric_difference(&announced).next() {
            let what = if held.contains(key) { "nobody announces" } else { "is missing" };
            return Err(format!("r{index}: {key} {what}"));
        }
    }
    Ok(())
}

/// Nothing is left: no LAN, no route, no membership.
///
/// # Errors
/// What is left.
pub fn empty(fabric: &Fabric) -> Result<(), String> {
    for machine in &fabric.machines {
        if let Some(vni) = machine.kernel.look().lans.keys().next() {
            return Err(format!("w{}: VNI {vni} is left over", machine.index));
        }
    }
    for (index, worker) in fabric.workers.iter().enumerate() {
        let Some(worker) = worker else { continue };
        if let Some(route) = worker.speaker.rib.routes().next() {
            return Err(format!("w{index}: the route {} is left over", route.key));
        }
        if let Some(view) = worker.core.engine().vnis().next() {
            return Err(format!("w{index}: the engine still has VNI {}", view.vni));
        }
    }
    for (index, reflector) in fabric.reflectors.iter().enumerate() {
        let Some(reflector) = reflector else { continue };
        if let Some(route) = reflector.rib.routes().next() {
            return Err(format!("r{index}: the route {} is left over", route.key));
        }
        if let Some(membership) = reflector.rib.memberships().find(|membership| membership.peer != LOCAL_PEER) {
            return Err(format!("r{index}: the membership {} is left over", membership.key));
        }
    }
    Ok(())
}

/// Frames from every other worker of the LAN reach a MAC at its port.
///
/// # Errors
/// Who does not reach it.
pub fn reached(fabric: &Fabric, vni: Vni, mac: MacAddr, port: &PortId) -> Result<(), String> {
    let Some(owner) = fabric.truth.pods.get(port).map(|placed| placed.worker) else { return Ok(()) };
    for (from, placed) in fabric.truth.pods.iter().filter(|(_, p)| p.pod.vni == vni && p.worker != owner) {
        let Some(machine) = fabric.machines.get(placed.worker) else { continue };
        // A group address as the source: nothing is learned from the probe.
        let egress = machine.kernel.frame(vni, from, MacAddr([0xff; 6]), mac);
        if egress != [Egress::Vtep(vtep(owner))] {
            return Err(format!("{from} at {:?} sends frames for {mac} to {egress:?}", Node::Worker(placed.worker)));
        }
        let delivered = fabric.machines.get(owner).map(|machine| machine.kernel.receive(vni, mac));
        if !delivered.as_ref().is_some_and(|ports| ports.contains(port)) {
            return Err(format!("w{owner} delivers frames for {mac} to {delivered:?}"));
        }
    }
    Ok(())
}
