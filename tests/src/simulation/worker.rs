//! A worker process: the daemon's own core, real RIB and sessions, on a kernel in memory.
//!
//! What the daemon does with its core is done here in virtual time, with the daemon's asynchrony: batches, attachments and
//! observations cross between main loop and dataplane thread with delays. What outlives the process is in [`Machine`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use bgp_core::rib::Rib;
use bgp_core::time::{Duration, Instant};
use bgp_core::types::Vni;
use dataplane::memory::Memory;
use dataplane::{AttachRequest, Change, ChangeError, Dataplane, Existing, PortId};
use evpn::Engine;
use evpn::forwarding::Key;
use worker_speaker::core::{Attachment, Core, Record, Routing, Work};

use super::clock::{Happening, KernelWork, Node};
use super::sabotage::Sabotage;
use super::speaker::{Speaker, Surroundings};

/// Longest way between main loop and dataplane thread, in microseconds.
const THREAD_DELAY: u64 = 3_000;

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
    pub store: BTreeMap<PortId, Attachment>,
    /// A poll of the kernel's notifications is due.
    pub polling: bool,
    /// Its devices belong to somebody else.
    pub adopts: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Worker {
    /// Sessions and RIB.
    pub speaker: Speaker,
    /// What the daemon knows and decides.
    pub core: Core,
    /// The dataplane thread takes requests in order, and so does the main loop its answers.
    last_request: Instant,
    last_delivery: Instant,
    /// Snapshots so far: notifications from before the last are dropped.
    generation: u64,
    /// A mistake: the core's timers are not served.
    timers_stopped: bool,
}

/// A worker's surroundings, its machine among them.
pub struct Around<'a, 'w> {
    /// Time, streams, choices.
    pub world: &'a mut Surroundings<'w>,
    /// Its machine.
    pub machine: &'a mut Machine,
}

struct Sessions<'a, 'w>(&'a mut Speaker, &'a mut Surroundings<'w>);

impl Routing for Sessions<'_, '_> {
    fn rib(&mut self) -> &mut Rib {
        &mut self.0.rib
    }

    fn flush(&mut self) {
        self.0.flush(self.1);
    }
}

impl Worker {
    /// A process that begins: takes over what its machine's kernel holds.
    pub fn start(speaker: Speaker, engine: Engine, around: &mut Around<'_, '_>) -> Self {
        let now = around.world.now;
        // What opens the daemon's dataplane removes LANs without members.
        let _ = around.machine.kernel.detach(&[]);
        // A kernel that cannot be read ends the daemon, and its supervisor starts it again.
        let snapshot = loop {
            if let Ok(snapshot) = around.machine.kernel.snapshot() {
                break snapshot;
            }
        };
        let begin = around.world.clock.now();
        let timers_stopped = around.world.sabotage == Sabotage::StopTimers;
        let core = Core::new(engine, snapshot.adopted, now);
        let mut worker =
            Self { speaker, core, last_request: begin, last_delivery: begin, generation: 0, timers_stopped };
        if around.world.sabotage != Sabotage::AdoptNothing {
            let records = around.machine.store.values().cloned();
            let records = records.map(|attachment| Record { attachment, this_boot: true });
            worker.core.adopt(&snapshot, records.collect(), now);
        }
        worker.settle(around);
        worker.speaker.rib.local_ready();
        worker.settle(around);
        worker
    }

    /// When [`Worker::handle_timeout`] is due.
    pub fn next_deadline(&self) -> Instant {
        let core = if self.timers_stopped { Instant::from_micros(u64::MAX / 2) } else { self.core.next_deadline() };
        self.speaker.next_deadline().map_or(core, |at| at.min(core))
    }

    /// Acts on timers.
    pub fn handle_timeout(&mut self, around: &mut Around<'_, '_>) {
        if !self.timers_stopped {
            self.core.handle_timeout(around.world.now);
        }
        self.speaker.handle_timeout(around.world);
    }

    /// Ends a round of the main loop: mends what may be wrong, then lets results flow outwards.
    pub fn end_round(&mut self, around: &mut Around<'_, '_>) {
        if self.core.wants_audit() {
            self.audit(around);
        }
        self.settle(around);
    }

    fn audit(&mut self, around: &mut Around<'_, '_>) {
        let now = around.world.now;
        let Ok(snapshot) = around.machine.kernel.snapshot() else { return self.core.audit_failed(now) };
        self.generation += 1;
        around.world.note(format_args!("w{} compares everything with its kernel", around.machine.index));
        self.core.compare(&snapshot, now);
    }

    fn settle(&mut self, around: &mut Around<'_, '_>) {
        let now = around.world.now;
        let awaited = self.core.awaits_sweep();
        self.core.settle(&mut Sessions(&mut self.speaker, around.world), now);
        if awaited && !self.core.awaits_sweep() {
            around.world.note(format_args!("w{} sweeps", around.machine.index));
        }
        while let Some(work) = self.core.poll_work() {
            self.carry_out(work, around);
        }
        while let Some(notice) = self.core.poll_notice() {
            around.world.note(format_args!("w{} reports: {notice}", around.machine.index));
        }
    }

    fn carry_out(&mut self, work: Work, around: &mut Around<'_, '_>) {
        match work {
            Work::Apply(changes) => self.ask(KernelWork::Apply(changes), around),
            Work::Forget(_) if around.world.sabotage == Sabotage::KeepFiles => {}
            Work::Remove(port) => self.ask(KernelWork::Detach(vec![port]), around),
            Work::Tidy => self.ask(KernelWork::Detach(Vec::new()), around),
            Work::Remember(attachment) => {
                around.machine.store.insert(attachment.port.clone(), attachment);
            }
            Work::Forget(port) => {
                around.machine.store.remove(&port);
            }
        }
    }

    // ---- between main loop and dataplane thread ----

    /// Hands work to the dataplane thread.
    fn ask(&mut self, what: KernelWork, around: &mut Around<'_, '_>) {
        let slow = matches!(what, KernelWork::Apply(_)) && around.world.sabotage == Sabotage::SlowRows;
        let delay = if slow { Duration::from_secs(2) } else { around.world.random.micros(1, THREAD_DELAY) };
        self.last_request = self.last_request.max(around.world.clock.now() + delay);
        let (worker, life) = (around.machine.index, self.speaker.process().1);
        around.world.clock.at(self.last_request, Happening::Kernel { worker, life, what });
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
        let now = around.world.now;
        let index = around.machine.index;
        match what {
            KernelWork::Poll => {
                around.machine.polling = false;
                let observations = around.machine.kernel.poll_events(Duration::ZERO).unwrap_or_default();
                if !observations.is_empty() {
                    self.deliver(KernelWork::Observed(self.generation, observations), around);
                }
            }
            KernelWork::Observed(generation, _) if generation < self.generation => {}
            KernelWork::Observed(_, observations) => {
                around.world.note(format_args!("w{index} observes {observations:?}"));
                self.core.observe(observations, now);
            }
            KernelWork::Apply(changes) => {
                let results = apply(&changes, around);
                self.deliver(KernelWork::Applied(changes, results), around);
            }
            KernelWork::Applied(changes, results) => self.applied(changes, results, around),
            KernelWork::Attach(pod, existing) => {
                let result = around.machine.kernel.attach(request(&pod, existing));
                self.deliver(KernelWork::Made(pod, result), around);
            }
            KernelWork::Made(pod, Ok(made)) => {
                if let Err(error) = self.core.attached(pod.clone(), lan_name(&pod), &made, now) {
                    around.world.note(format_args!("w{index} ADD {} is not announced: {error}", pod.port));
                }
            }
            KernelWork::Made(pod, Err(error)) => {
                around.world.note(format_args!("w{index} ADD {} failed: {error}", pod.port));
                self.core.abandon_attach(&pod.port, now);
            }
            KernelWork::Detach(_) if around.world.sabotage == Sabotage::KeepPorts => {}
            KernelWork::Detach(ports) => match around.machine.kernel.detach(&ports) {
                Ok(()) => self.deliver(KernelWork::Removed(ports), around),
                Err(error) => around.world.note(format_args!("w{index} DEL {ports:?} failed: {error}")),
            },
            KernelWork::Removed(ports) => ports.iter().for_each(|port| self.core.removed(port)),
        }
    }

    fn applied(&mut self, changes: Vec<Change>, results: Vec<Result<(), ChangeError>>, around: &mut Around<'_, '_>) {
        let now = around.world.now;
        let index = around.machine.index;
        for (Change { key, desired }, result) in changes.iter().zip(&results) {
            match (desired, result) {
                (Some(desired), Ok(())) => around.world.note(format_args!("w{index} {key} {desired}")),
                (None, Ok(())) => around.world.note(format_args!("w{index} {key} gone")),
                (_, Err(error)) => around.world.note(format_args!("w{index} {key} failed: {error}")),
            }
        }
        self.core.applied(changes, results, now);
    }

    // ---- CNI ----

    /// An ADD; false if the port is there already.
    pub fn add(&mut self, pod: Attachment, around: &mut Around<'_, '_>) -> bool {
        let Some(existing) = self.core.begin_attach(&pod.port, around.world.now) else { return false };
        self.ask(KernelWork::Attach(pod, existing), around);
        true
    }

    /// A DEL.
    pub fn delete(&mut self, port: &PortId, around: &mut Around<'_, '_>) {
        self.core.give_up(port, around.world.now);
        self.settle(around);
        self.ask(KernelWork::Detach(vec![port.clone()]), around);
    }

    /// The machine this runs on.
    pub const fn node(&self) -> Node {
        self.speaker.process().0
    }
}

/// The dataplane thread carries a batch out, as well as it can.
fn apply(changes: &[Change], around: &mut Around<'_, '_>) -> Vec<Result<(), ChangeError>> {
    let sabotage = around.world.sabotage;
    let mut carried_out = Vec::with_capacity(changes.len());
    for &Change { key, desired } in changes {
        let key = match key {
            Key::Mac(vni, mac) if sabotage.strikes(Sabotage::WrongLan, around.world.random) => {
                Key::Mac(Vni::new(vni.get() % 3 + 1).unwrap_or(vni), mac)
            }
            key => key,
        };
        carried_out.push(Change { key, desired });
    }
    let mut results = around.machine.kernel.apply(&carried_out);
    if sabotage.strikes(Sabotage::ForgetRows, around.world.random) {
        let undone: Vec<Change> = carried_out.iter().map(|change| Change { key: change.key, desired: None }).collect();
        around.machine.kernel.apply(&undone);
        results = changes.iter().map(|_| Ok(())).collect();
    }
    results
}

fn lan_name(pod: &Attachment) -> String {
    format!("lan{}", pod.vni.get())
}

fn request(pod: &Attachment, existing: Existing) -> AttachRequest {
    AttachRequest {
        port: pod.port.clone(),
        vni: pod.vni,
        lan: lan_name(pod),
        pod: dataplane::Pod::Simulated,
        interface: "eth1".into(),
        mac: Some(pod.mac),
        mtu: None,
        addresses: Vec::new(),
        routes: Vec::new(),
        existing,
    }
}
