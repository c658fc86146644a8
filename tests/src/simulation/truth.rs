//! What is true, whatever processes believe: ports, stations, and what the container runtime has asked for.

use std::collections::{BTreeMap, BTreeSet};

use bgp_core::time::Duration;
use bgp_core::types::{MacAddr, Vni};
use dataplane::PortId;
use worker_speaker::core::Attachment;

use super::clock::{Happening, Node};
use super::fabric::Fabric;

/// Names a port by its number in the scenario.
pub fn port_id(number: u16) -> PortId {
    PortId::new(&format!("p{number}"))
}

/// A port that exists, or is being made, and where.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The worker's number.
    pub worker: usize,
    /// The LAN.
    pub vni: Vni,
    /// What its ADD asked for; nothing where somebody else made the port.
    pub claim: Option<Attachment>,
}

/// A station behind a port, known only by its frames.
#[derive(Clone, Debug)]
pub struct Station {
    /// The port.
    pub port: PortId,
    /// An administrator has pinned it there.
    pub pinned: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Truth {
    /// Ports.
    pub ports: BTreeMap<PortId, Placed>,
    /// Stations.
    pub stations: BTreeMap<(Vni, MacAddr), Station>,
    /// LANs that somebody else made, with their worker.
    pub served: BTreeSet<(Vni, usize)>,
    /// Workers that ever had a port in a LAN.
    pub members_ever: BTreeSet<(Vni, usize)>,
    /// Ports that ever were.
    pub ports_ever: BTreeMap<PortId, Vni>,
    /// DELs that wait for a worker to be there.
    pub deletions: BTreeSet<(usize, PortId)>,
}

impl Truth {
    /// A port is no more, with the stations behind it.
    pub fn forget_port(&mut self, port: &PortId) {
        self.ports.remove(port);
        self.stations.retain(|_, station| station.port != *port);
    }

    /// Takes the DELs that wait for a worker.
    pub fn due_deletions(&mut self, index: usize) -> Vec<PortId> {
        let (due, later): (BTreeSet<_>, BTreeSet<_>) =
            std::mem::take(&mut self.deletions).into_iter().partition(|(worker, _)| *worker == index);
        self.deletions = later;
        due.into_iter().map(|(_, port)| port).collect()
    }

    fn enter(&mut self, port: PortId, placed: Placed) {
        self.members_ever.insert((placed.vni, placed.worker));
        self.ports_ever.insert(port.clone(), placed.vni);
        self.ports.insert(port, placed);
    }
}

impl Fabric {
    /// Whether a port's ADD is done.
    pub fn is_made(&self, port: &PortId) -> bool {
        let Some(placed) = self.truth.ports.get(port) else { return false };
        self.machines.get(placed.worker).is_some_and(|machine| machine.adopts || machine.store.contains_key(port))
    }

    /// ADDs that a dead worker did not answer have failed, and the runtime asks for a DEL when it is back; so it does
    /// for DELs without an answer.
    pub(super) fn give_up_unfinished(&mut self, index: usize) {
        let Some(machine) = self.machines.get(index).filter(|machine| !machine.adopts) else { return };
        let ports = machine.kernel.look().lans.into_values().flat_map(|lan| lan.ports.into_keys());
        let undeleted = ports.filter(|port| !self.truth.ports.contains_key(port)).map(|port| (index, port));
        let unfinished = |(port, placed): (&PortId, &Placed)| {
            (placed.worker == index && !machine.store.contains_key(port)).then(|| port.clone())
        };
        let unfinished: Vec<PortId> = self.truth.ports.iter().filter_map(unfinished).collect();
        self.truth.deletions.extend(undeleted.collect::<Vec<_>>());
        for port in unfinished {
            self.truth.forget_port(&port);
            self.truth.deletions.insert((index, port));
        }
    }

    /// An ADD; nothing where the worker does not answer, or has the port.
    pub fn add(&mut self, index: usize, pod: Attachment) {
        let node = Node::Worker(index);
        let answers = self.runs(node) && !self.is_paused(node);
        let manages = self.machines.get(index).is_some_and(|machine| !machine.adopts);
        if !answers || !manages || self.truth.ports_ever.contains_key(&pod.port) {
            return;
        }
        self.note(format_args!("ADD {} {} {} at {node}", pod.port, pod.vni, pod.mac));
        let placed = Placed { worker: index, vni: pod.vni, claim: Some(pod.clone()) };
        self.truth.enter(pod.port.clone(), placed);
        self.with_worker(index, |worker, around| _ = worker.add(pod, around));
    }

    /// A DEL, now or when the worker is back.
    pub fn delete(&mut self, index: usize, port: &PortId) {
        if !self.runs(Node::Worker(index)) {
            self.truth.deletions.insert((index, port.clone()));
            return;
        }
        if self.is_paused(Node::Worker(index)) {
            return self.clock.after(Duration::ZERO, Happening::Delete { worker: index, port: port.clone() });
        }
        self.note(format_args!("DEL {port} at w{index}"));
        self.truth.forget_port(port);
        self.with_worker(index, |worker, around| worker.delete(port, around));
    }

    /// A frame to everybody comes out of a port.
    pub fn frame(&mut self, port: &PortId, source: MacAddr) {
        let Some(placed) = self.truth.ports.get(port) else { return };
        let (index, vni) = (placed.worker, placed.vni);
        if let Some(machine) = self.machines.get(index) {
            machine.kernel.frame(vni, port, source, MacAddr([0xff; 6]));
        }
        self.listen(index);
    }

    /// A station is where it speaks, unless it is pinned elsewhere.
    pub fn station(&mut self, mac: MacAddr, port: &PortId, pinned: bool) {
        let Some(vni) = self.truth.ports.get(port).map(|placed| placed.vni) else { return };
        let key = (vni, mac);
        if self.truth.stations.get(&key).is_some_and(|station| station.pinned) {
            return;
        }
        self.truth.stations.insert(key, Station { port: port.clone(), pinned });
    }

    /// Ports and a LAN that somebody else makes, at the worker that adopts.
    pub fn appear(&mut self, index: usize, vni: Vni, ports: &[PortId]) {
        let Some(machine) = self.machines.get(index) else { return };
        if self.truth.served.contains(&(vni, index))
            || ports.iter().any(|port| self.truth.ports_ever.contains_key(port))
        {
            return;
        }
        machine.kernel.foreign_lan(vni, ports);
        self.note(format_args!("somebody makes LAN {vni} at w{index}"));
        self.truth.served.insert((vni, index));
        for port in ports {
            self.truth.enter(port.clone(), Placed { worker: index, vni, claim: None });
        }
        self.listen(index);
    }

    /// They go.
    pub fn vanish(&mut self, index: usize, vni: Vni) {
        let Some(machine) = self.machines.get(index) else { return };
        if !self.truth.served.remove(&(vni, index)) {
            return;
        }
        machine.kernel.foreign_lan_gone(vni);
        self.note(format_args!("somebody removes LAN {vni} at w{index}"));
        let of =
            |(port, placed): (&PortId, &Placed)| (placed.worker == index && placed.vni == vni).then(|| port.clone());
        let ports: Vec<PortId> = self.truth.ports.iter().filter_map(of).collect();
        ports.iter().for_each(|port| self.truth.forget_port(port));
        self.listen(index);
    }

    pub(super) fn pod_dies(&mut self, port: &PortId) {
        let Some(placed) = self.truth.ports.get(port).filter(|placed| placed.claim.is_some()).cloned() else { return };
        let Some(machine) = self.machines.get(placed.worker) else { return };
        let exists = machine.kernel.look().lans.values().any(|lan| lan.ports.contains_key(port));
        if !exists {
            // Its ADD is still under way.
            return self.clock.after(Duration::from_millis(1), Happening::PodDies { port: port.clone() });
        }
        machine.kernel.kill(port);
        self.note(format_args!("pod {port} dies at w{}", placed.worker));
        self.truth.forget_port(port);
        let later = self.random.micros(1_000, 2_000_000);
        self.clock.after(later, Happening::Delete { worker: placed.worker, port: port.clone() });
        self.listen(placed.worker);
    }
}
