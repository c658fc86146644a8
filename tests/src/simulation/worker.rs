//! A worker process: real engine, RIB and sessions on a kernel in memory.
//!
//! Follows the worker daemon's main loop step by step, with its asynchrony: batches, attachments and observations cross
//! between main loop and dataplane thread with delays. What outlives the process is in [`Machine`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bgp_core::rib::LOCAL_PEER;
use bgp_core::time::{Duration, Instant};
use bgp_core::types::{MacAddr, Vni};
use dataplane::memory::Memory;
use dataplane::{
    AttachRequest, BridgeRow, Change, ChangeError, Dataplane, Observation, PortId, RemoteRow, Snapshot, plan,
};
use evpn::forwarding::{Desired, Key};
use evpn::show::{MacStatus, Place};
use evpn::{Claim, Engine, Member};

use super::clock::{Happening, KernelWork, Node};
use super::forwarder::Forwarder;
use super::speaker::{Speaker, Surroundings};

/// How often everything is compared with the kernel.
const AUDIT_INTERVAL: Duration = Duration::from_secs(300);
/// Longest way between main loop and dataplane thread, in microseconds.
const THREAD_DELAY: u64 = 3_000;

/// An attachment as its ADD asked for it, and as the worker's store keeps it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pod {
    /// Its identity.
    pub port: PortId,
    /// The LAN.
    pub vni: Vni,
    /// Its MAC.
    pub mac: MacAddr,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
}

/// What outlives a worker process: the kernel, and the files of attachments.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its number.
    pub index: usize,
    /// Its VTEP address.
    pub vtep: IpAddr,
    /// The kernel.
    pub kernel: Memory,
    /// The files.
    pub store: BTreeMap<PortId, Pod>,
    /// A poll of the kernel's notifications is due.
    pub polling: bool,
}

#[derive(Debug)]
enum Port {
    Attaching(Vec<Observation>),
    Attached(Member, Vni),
}

/// See the module.
#[derive(Debug)]
pub struct Worker {
    /// Sessions and RIB.
    pub speaker: Speaker,
    /// MAC-VRFs.
    pub engine: Engine,
    /// Dirty keys.
    pub forwarder: Forwarder,
    ports: BTreeMap<PortId, Port>,
    /// Ports given up whose removal from the kernel has not been seen yet.
    leaving: BTreeSet<PortId>,
    next_member: u64,
    sweep_pending: bool,
    resync_needed: bool,
    next_audit: Instant,
    last_delivery: Instant,
}

/// A worker's surroundings, its machine among them.
pub struct Around<'a, 'w> {
    /// Time, streams, choices.
    pub world: &'a mut Surroundings<'w>,
    /// Its machine.
    pub machine: &'a mut Machine,
}

impl Worker {
    /// A process that begins: takes over what its machine's kernel holds.
    pub fn start(speaker: Speaker, engine: Engine, around: &mut Around<'_, '_>) -> Self {
        let now = around.world.clock.now();
        let mut worker = Self {
            speaker,
            engine,
            forwarder: Forwarder::default(),
            ports: BTreeMap::new(),
            leaving: BTreeSet::new(),
            next_member: 0,
            sweep_pending: true,
            resync_needed: false,
            next_audit: now + AUDIT_INTERVAL,
            last_delivery: now,
        };
        worker.adopt(around);
        worker.settle(around);
        worker.speaker.rib.local_ready();
        worker.settle(around);
        worker
    }

    /// When [`Worker::handle_timeout`] is due.
    pub fn next_deadline(&self) -> Instant {
        let deadlines = [self.engine.next_deadline(), self.speaker.next_deadline(), self.forwarder.next_deadline()];
        deadlines.into_iter().flatten().fold(self.next_audit, Instant::min)
    }

    /// Acts on timers.
    pub fn handle_timeout(&mut self, around: &mut Around<'_, '_>) {
        let now = around.world.clock.now();
        self.engine.handle_timeout(now);
        self.speaker.handle_timeout(around.world);
        if self.next_audit <= now {
            self.next_audit = now + AUDIT_INTERVAL;
            self.resync_needed = true;
        }
    }

    /// Ends a round of the main loop: mends what may be wrong, then lets results flow outwards.
    pub fn end_round(&mut self, around: &mut Around<'_, '_>) {
        if self.resync_needed {
            self.resync(around);
        }
        self.settle(around);
    }

    fn settle(&mut self, around: &mut Around<'_, '_>) {
        let now = around.world.clock.now();
        loop {
            self.originate();
            self.speaker.flush(around.world);
            let changes = self.speaker.rib.drain_changes();
            if changes.is_empty() {
                break;
            }
            for change in changes {
                let best = change.best.as_ref().filter(|best| best.peer != LOCAL_PEER);
                self.engine.route_changed(&change.key, best.map(|best| (&best.payload, &*best.attributes)), now);
            }
        }
        if self.sweep_pending && self.speaker.rib.remote_sweep_allowed() {
            self.sweep_pending = false;
            around.world.trace.note(now, format_args!("w{} sweeps", around.machine.index));
            self.engine.sweep(now);
        }
        while let Some(key) = self.engine.poll_dirty() {
            self.forwarder.mark(key);
        }
        let engine = &self.engine;
        if let Some(changes) = self.forwarder.start(now, |key| engine.desired(key)) {
            self.ask(KernelWork::Apply(changes), around);
        }
        while let Some(report) = self.engine.poll_report() {
            around.world.trace.note(now, format_args!("w{} reports: {report}", around.machine.index));
        }
    }

    fn originate(&mut self) {
        while let Some((membership, wanted)) = self.engine.poll_membership() {
            if wanted {
                self.speaker.rib.originate_membership(membership);
            } else {
                self.speaker.rib.withdraw_membership(&membership);
            }
        }
        while let Some(origination) = self.engine.poll_origination() {
            match origination.route {
                Some((payload, attributes)) => {
                    let route = bgp_core::wire::Route { key: origination.key, payload };
                    self.speaker.rib.originate(route, attributes);
                }
                None => _ = self.speaker.rib.withdraw_local(&origination.key),
            }
        }
    }

    // ---- between main loop and dataplane thread ----

    /// Hands work to the dataplane thread.
    fn ask(&mut self, what: KernelWork, around: &mut Around<'_, '_>) {
        let delay = around.world.random.micros(1, THREAD_DELAY);
        let (worker, life) = (around.machine.index, self.speaker.process().1);
        around.world.clock.after(delay, Happening::Kernel { worker, life, what });
    }

    /// Brings an answer of the dataplane thread to the main loop, in order.
    fn deliver(&mut self, what: KernelWork, around: &mut Around<'_, '_>) {
        let at = around.world.clock.now() + around.world.random.micros(1, THREAD_DELAY);
        self.last_delivery = self.last_delivery.max(at);
        let (worker, life) = (around.machine.index, self.speaker.process().1);
        around.world.clock.at(self.last_delivery, Happening::Kernel { worker, life, what });
    }

    /// One piece of work between process and kernel.
    pub fn kernel_work(&mut self, what: KernelWork, around: &mut Around<'_, '_>) {
        let now = around.world.clock.now();
        match what {
            KernelWork::Poll => {
                around.machine.polling = false;
                let observations = around.machine.kernel.poll_events(Duration::ZERO).unwrap_or_default();
                if !observations.is_empty() {
                    self.deliver(KernelWork::Observed(observations), around);
                }
            }
            KernelWork::Observed(observations) => {
                around.world.trace.note(now, format_args!("w{} observes {observations:?}", around.machine.index));
                observations.into_iter().for_each(|observation| self.observe(observation, around));
            }
            KernelWork::Apply(changes) => {
                let results = around.machine.kernel.apply(&changes);
                self.deliver(KernelWork::Applied(changes, results), around);
            }
            KernelWork::Applied(changes, results) => self.applied(changes, results, around),
            KernelWork::Attach(pod) => {
                let request = AttachRequest {
                    port: pod.port.clone(),
                    vni: pod.vni,
                    lan: format!("lan{}", pod.vni.get()),
                    pod: dataplane::Pod::Simulated,
                    interface: "eth1".into(),
                    mac: Some(pod.mac),
                    mtu: None,
                    addresses: Vec::new(),
                };
                let result = around.machine.kernel.attach(request);
                self.deliver(KernelWork::Made(pod, result), around);
            }
            KernelWork::Made(pod, Ok(_)) => self.made(pod, around),
            KernelWork::Made(pod, Err(error)) => {
                around
                    .world
                    .trace
                    .note(now, format_args!("w{} ADD {} failed: {error}", around.machine.index, pod.port));
                if matches!(self.ports.get(&pod.port), Some(Port::Attaching(_))) {
                    self.ports.remove(&pod.port);
                }
            }
            KernelWork::Detach(port) => {
                if let Err(error) = around.machine.kernel.detach(std::slice::from_ref(&port)) {
                    around.world.trace.note(now, format_args!("w{} DEL {port} failed: {error}", around.machine.index));
                }
            }
        }
    }

    fn applied(&mut self, changes: Vec<Change>, results: Vec<Result<(), ChangeError>>, around: &mut Around<'_, '_>) {
        let now = around.world.clock.now();
        for (change, result) in changes.iter().zip(&results) {
            let index = around.machine.index;
            match (&change.desired, result) {
                (Some(desired), Ok(())) => {
                    around.world.trace.note(now, format_args!("w{index} {} {desired}", change.key))
                }
                (None, Ok(())) => around.world.trace.note(now, format_args!("w{index} {} gone", change.key)),
                (_, Err(error)) => {
                    around.world.trace.note(now, format_args!("w{index} {} failed: {error}", change.key))
                }
            }
        }
        let finished = self.forwarder.finished(changes, results, now);
        for Change { key, desired } in finished.applied {
            if let (Key::Mac(vni, mac), Some(_)) = (key, desired) {
                self.engine.written_remote(vni, mac, now);
            }
        }
        finished.tunnels_after_failure.into_iter().for_each(|vni| self.mark_lan(vni));
    }

    // ---- CNI ----

    /// An ADD; false if the port is there already.
    pub fn add(&mut self, pod: Pod, around: &mut Around<'_, '_>) -> bool {
        if self.ports.contains_key(&pod.port) {
            return false;
        }
        self.leaving.remove(&pod.port);
        self.ports.insert(pod.port.clone(), Port::Attaching(Vec::new()));
        self.ask(KernelWork::Attach(pod), around);
        true
    }

    fn made(&mut self, pod: Pod, around: &mut Around<'_, '_>) {
        let now = around.world.clock.now();
        let (member, held) = self.port_attached(&pod.port, pod.vni);
        self.engine.attach(pod.vni, member, now);
        let claim = Claim { mac: pod.mac, ips: pod.ips.clone(), sticky: false };
        if let Err(error) = self.engine.claim(pod.vni, member, &claim, now) {
            around.world.trace.note(now, format_args!("w{} cannot claim: {error}", around.machine.index));
        }
        held.into_iter().for_each(|observation| self.observe_one(observation, around));
        around.machine.store.insert(pod.port.clone(), pod);
    }

    /// A DEL.
    pub fn delete(&mut self, port: &PortId, around: &mut Around<'_, '_>) {
        self.forget_port(port, around);
        self.leaving.insert(port.clone());
        self.settle(around);
        self.ask(KernelWork::Detach(port.clone()), around);
    }

    // ---- ports ----

    fn port_attached(&mut self, id: &PortId, vni: Vni) -> (Member, Vec<Observation>) {
        let member = Member(self.next_member);
        self.next_member += 1;
        match self.ports.insert(id.clone(), Port::Attached(member, vni)) {
            Some(Port::Attaching(held)) => (member, held),
            _ => (member, Vec::new()),
        }
    }

    fn member(&self, id: &PortId) -> Option<Member> {
        match self.ports.get(id) {
            Some(Port::Attached(member, _)) => Some(*member),
            _ => None,
        }
    }

    fn forget_port(&mut self, id: &PortId, around: &mut Around<'_, '_>) {
        if let Some(Port::Attached(member, vni)) = self.ports.get(id) {
            self.engine.detach(*vni, *member, around.world.clock.now());
            self.ports.remove(id);
        }
        around.machine.store.remove(id);
    }

    // ---- adoption and audits ----

    fn adopt(&mut self, around: &mut Around<'_, '_>) {
        let now = around.world.clock.now();
        // A kernel that cannot be read ends the daemon, and its supervisor starts it again.
        let snapshot = loop {
            if let Ok(snapshot) = around.machine.kernel.snapshot() {
                break snapshot;
            }
        };
        self.take_ports(&snapshot, around);
        for (port, pod) in around.machine.store.clone() {
            match self.member(&port) {
                Some(member) => {
                    let claim = Claim { mac: pod.mac, ips: pod.ips.clone(), sticky: false };
                    let _ = self.engine.restore(pod.vni, member, &claim, now);
                }
                None => _ = around.machine.store.remove(&port),
            }
        }
        self.take_local_macs(&snapshot, now);
        for (key, found) in rows_of(&snapshot) {
            self.engine.adopted(key, found, now);
        }
    }

    fn take_ports(&mut self, snapshot: &Snapshot, around: &mut Around<'_, '_>) {
        let now = around.world.clock.now();
        for (&vni, lan) in &snapshot.lans {
            for id in lan.ports.keys() {
                if !self.ports.contains_key(id) && !self.leaving.contains(id) {
                    let (member, _) = self.port_attached(id, vni);
                    self.engine.attach(vni, member, now);
                }
            }
        }
        let exists = |vni: &Vni, id: &PortId| snapshot.lans.get(vni).is_some_and(|lan| lan.ports.contains_key(id));
        let gone = |(id, port): (&PortId, &Port)| match port {
            Port::Attached(_, vni) if !exists(vni, id) => Some(id.clone()),
            _ => None,
        };
        let gone: Vec<PortId> = self.ports.iter().filter_map(gone).collect();
        gone.iter().for_each(|id| self.forget_port(id, around));
        self.leaving.retain(|id| snapshot.lans.values().any(|lan| lan.ports.contains_key(id)));
        for id in self.leaving.clone() {
            self.ask(KernelWork::Detach(id), around);
        }
    }

    fn take_local_macs(&mut self, snapshot: &Snapshot, now: Instant) {
        let there = |vni: Vni, mac: MacAddr| snapshot.lans.get(&vni).is_some_and(|lan| lan.local.contains_key(&mac));
        let lost: Vec<_> = self
            .engine
            .macs()
            .filter(|view| view.state == MacStatus::Learned && !there(view.vni, view.mac))
            .filter_map(|view| match view.place {
                Place::Local(member) => Some((view.vni, view.mac, member)),
                _ => None,
            })
            .collect();
        for (vni, mac, member) in lost {
            self.engine.forgotten(vni, member, mac, now);
        }
        for (&vni, lan) in &snapshot.lans {
            for (&mac, local) in &lan.local {
                let (port, sticky) = (local.port.clone(), local.sticky);
                match self.ports.get_mut(&local.port) {
                    Some(Port::Attached(member, _)) => self.engine.learned(vni, *member, mac, sticky, now),
                    Some(Port::Attaching(held)) => held.push(Observation::LocalMac { vni, mac, port, sticky }),
                    None => {}
                }
            }
        }
    }

    fn resync(&mut self, around: &mut Around<'_, '_>) {
        let now = around.world.clock.now();
        self.resync_needed = false;
        let Ok(snapshot) = around.machine.kernel.snapshot() else {
            self.next_audit = now + Duration::from_secs(1);
            return;
        };
        around.world.trace.note(now, format_args!("w{} compares everything with its kernel", around.machine.index));
        self.take_ports(&snapshot, around);
        self.take_local_macs(&snapshot, now);
        for change in plan(&self.engine.all_desired(), &snapshot) {
            self.forwarder.mark(change.key);
        }
    }

    // ---- observations ----

    fn observe(&mut self, observation: Observation, around: &mut Around<'_, '_>) {
        if let Observation::LocalMac { port, .. }
        | Observation::LocalMacGone { port, .. }
        | Observation::RowTakenOver { port, .. }
        | Observation::PortGone { port, .. } = &observation
            && let Some(Port::Attaching(held)) = self.ports.get_mut(port)
        {
            held.push(observation);
            return;
        }
        self.observe_one(observation, around);
    }

    fn observe_one(&mut self, observation: Observation, around: &mut Around<'_, '_>) {
        let now = around.world.clock.now();
        match observation {
            Observation::LocalMac { vni, mac, port, sticky } => {
                if let Some(member) = self.member(&port) {
                    self.engine.learned(vni, member, mac, sticky, now);
                }
            }
            Observation::RowTakenOver { vni, mac, port, sticky } => {
                if let Some(member) = self.member(&port) {
                    self.engine.taken_over(vni, member, mac, sticky, now);
                }
            }
            Observation::LocalMacGone { vni, mac, port } => {
                if let Some(member) = self.member(&port) {
                    self.engine.forgotten(vni, member, mac, now);
                }
            }
            Observation::RowDisturbed { key } => self.forwarder.mark(key),
            Observation::TunnelGone { vni } => self.mark_lan(vni),
            Observation::PortGone { port, .. } => {
                self.forget_port(&port, around);
                self.leaving.insert(port.clone());
                self.ask(KernelWork::Detach(port), around);
            }
            Observation::LanAppeared { .. } | Observation::LanGone { .. } | Observation::Overrun => {
                self.resync_needed = true;
            }
        }
    }

    fn mark_lan(&mut self, vni: Vni) {
        self.forwarder.mark(Key::Tunnel(vni));
        for key in self.engine.all_desired().into_keys().filter(|key| key.vni() == vni) {
            self.forwarder.mark(key);
        }
    }

    /// The machine this runs on.
    pub const fn node(&self) -> Node {
        self.speaker.process().0
    }
}

/// The rows that a kernel holds, as an engine adopts them.
fn rows_of(snapshot: &Snapshot) -> Vec<(Key, Desired)> {
    let mut rows = Vec::new();
    for (&vni, lan) in snapshot.lans.iter().filter(|(_, lan)| lan.tunnel) {
        rows.push((Key::Tunnel(vni), Desired::Tunnel));
        rows.extend(lan.flood.iter().map(|vtep| (Key::Flood(vni, *vtep), Desired::Flood)));
        let mac = |(mac, row): (&MacAddr, &RemoteRow)| {
            let sticky = row.bridge == Some(BridgeRow::Sticky);
            row.vtep.map(|vtep| (Key::Mac(vni, *mac), Desired::RemoteMac { vtep, sticky }))
        };
        rows.extend(lan.remote.iter().filter_map(mac));
        rows.extend(lan.neighbors.iter().map(|(ip, mac)| (Key::Neighbor(vni, *ip), Desired::Neighbor { mac: *mac })));
    }
    rows
}
