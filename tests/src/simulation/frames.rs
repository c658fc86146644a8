//! Model frames through the kernels: where they come out, and where they never may.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bgp_core::types::{MacAddr, Vni};
use dataplane::PortId;
use dataplane::memory::Egress;

use super::fabric::Fabric;
use super::generate::{HOSTS, STATIONS};
use super::scenario::mac_of;

/// A group address: nothing is learned from a frame that comes from it, and everybody gets one that goes to it.
const EVERYBODY: MacAddr = MacAddr([0xff; 6]);

/// Workers that frames are sent from at a time: all of a small fabric, others of a large one in turn.
const SENDERS: usize = 8;

/// The VNI that a MAC of the scenario belongs to.
fn lan_of(mac: MacAddr) -> Option<Vni> {
    let [_, _, _, lan, _, _] = mac.0;
    Vni::new(lan.into())
}

fn macs(vni: Vni) -> impl Iterator<Item = MacAddr> {
    let lan = u8::try_from(vni.get() - 1).unwrap_or_default();
    let all =
        |kind, count: usize| (0..count).filter_map(move |number| Some(mac_of(lan, kind, u8::try_from(number).ok()?)));
    all(1, HOSTS).chain(all(2, STATIONS))
}

/// The ports where a frame comes out.
pub fn delivered(fabric: &Fabric, worker: usize, vni: Vni, port: &PortId, to: MacAddr) -> BTreeSet<PortId> {
    let Some(machine) = fabric.machines.get(worker) else { return BTreeSet::new() };
    let mut ports = BTreeSet::new();
    for egress in machine.kernel.frame(vni, port, EVERYBODY, to) {
        match egress {
            Egress::Port(port) => _ = ports.insert(port),
            Egress::Vtep(vtep) => {
                let there = fabric.worker_at(vtep).and_then(|worker| fabric.machines.get(worker));
                ports.extend(there.into_iter().flat_map(|machine| machine.kernel.receive(vni, to)));
            }
        }
    }
    ports
}

/// No frame may ever reach another LAN: whatever is sent comes out of ports of its LAN, rows of a LAN lead to workers that
/// have or had it, and are for its MACs.
///
/// # Errors
/// What does not hold.
pub fn isolated(fabric: &Fabric) -> Result<(), String> {
    let count = fabric.machines.len();
    let first = usize::try_from(fabric.happenings).unwrap_or_default() % count;
    for machine in &fabric.machines {
        let index = machine.index;
        let sends = (index + count - first) % count < SENDERS;
        for (vni, lan) in machine.kernel.look().lans {
            let rows = lan.remote.values().filter_map(|row| row.vtep);
            let had = |vtep: &IpAddr| {
                fabric.worker_at(*vtep).is_some_and(|worker| fabric.truth.members_ever.contains(&(vni, worker)))
            };
            if let Some(stranger) = lan.flood.iter().copied().chain(rows).find(|vtep| !had(vtep)) {
                return Err(format!("w{index}: VNI {vni} sends to {stranger}, which never had it"));
            }
            if let Some(mac) = lan.remote.keys().chain(lan.local.keys()).find(|mac| lan_of(**mac) != Some(vni)) {
                return Err(format!("w{index}: {mac} of another LAN is in VNI {vni}"));
            }
            let Some(port) = lan.ports.keys().next().filter(|_| sends) else { continue };
            for to in macs(vni).chain([EVERYBODY]) {
                let out = delivered(fabric, index, vni, port, to);
                if let Some(port) = out.iter().find(|port| fabric.truth.ports_ever.get(port) != Some(&vni)) {
                    return Err(format!("w{index}: a frame of VNI {vni} for {to} comes out of {port}"));
                }
            }
        }
    }
    Ok(())
}

/// A port from which frames for a MAC reach another.
#[derive(Clone, Debug)]
pub struct Flow {
    from: PortId,
    vni: Vni,
    mac: MacAddr,
    to: PortId,
}

/// Who reaches whom now across nodes.
pub fn flows(fabric: &Fabric) -> Vec<Flow> {
    let ports = &fabric.truth.ports;
    let mut flows = Vec::new();
    for (to, there) in ports {
        let Some(mac) = there.claim.as_ref().map(|claim| claim.mac) else { continue };
        for (from, _) in ports.iter().filter(|(_, here)| here.vni == there.vni && here.worker != there.worker) {
            let flow = Flow { from: from.clone(), vni: there.vni, mac, to: to.clone() };
            flows.extend(flow.arrives(fabric).is_ok().then_some(flow));
        }
    }
    flows
}

impl Flow {
    /// Frames come out where they came out before.
    ///
    /// # Errors
    /// Where they come out instead.
    pub fn arrives(&self, fabric: &Fabric) -> Result<(), String> {
        let Self { from, vni, mac, to } = self;
        let Some(worker) = fabric.truth.ports.get(from).map(|placed| placed.worker) else { return Ok(()) };
        let out = delivered(fabric, worker, *vni, from, *mac);
        if out.contains(to) {
            Ok(())
        } else {
            Err(format!("frames from {from} for {mac} come out of {out:?}, not of {to}"))
        }
    }
}

/// Frames from every other worker of the LAN that runs reach a MAC at its port, and nobody else.
///
/// # Errors
/// Who does not reach it.
pub fn reached(fabric: &Fabric, vni: Vni, mac: MacAddr, port: &PortId) -> Result<(), String> {
    let Some(owner) = fabric.truth.ports.get(port).map(|placed| placed.worker) else { return Ok(()) };
    let others = fabric.truth.ports.iter().filter(|(_, placed)| placed.vni == vni && placed.worker != owner);
    for (from, placed) in others {
        let runs = fabric.workers.get(placed.worker).is_some_and(Option::is_some);
        let Some(machine) = fabric.machines.get(placed.worker).filter(|_| runs) else { continue };
        let egress = machine.kernel.frame(vni, from, EVERYBODY, mac);
        if egress != [Egress::Vtep(fabric.vtep(owner))] {
            return Err(format!("{from} at w{} sends frames for {mac} to {egress:?}", placed.worker));
        }
    }
    let delivered = fabric.machines.get(owner).map(|machine| machine.kernel.receive(vni, mac));
    let alone = fabric.truth.ports.values().all(|placed| placed.vni != vni || placed.worker == owner);
    if !alone && !delivered.as_ref().is_some_and(|ports| ports.contains(port)) {
        return Err(format!("w{owner} delivers frames for {mac} to {delivered:?}"));
    }
    Ok(())
}
