//! A scenario carried out: its steps, then peace, then the end of everything, and what must hold meanwhile.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use bgp_core::time::{Duration, Instant};
use bgp_core::types::Vni;
use dataplane::PortId;
use dataplane::memory::Memory;
use evpn::forwarding::{Desired, Key};
use worker_speaker::core::Attachment;

use super::clock::{Happening, Node};
use super::fabric::Fabric;
use super::frames::isolated;
use super::honesty::{Lie, honest};
use super::oracle::{address_of, settled};
use super::returns::{at_rest, empty, timers};
use super::sabotage::Sabotage;
use super::scenario::{
    Flags, KernelFault, LinkChange, ProcessChange, Scenario, Step, Target, host_mac, station_mac, vni_of,
};
use super::trace::Trace;
use super::truth::port_id;

/// Longest time from the last fault until all forwarding state is exact: the longest pause of a session, the end of a freeze,
/// and an audit are in it.
pub const CONVERGENCE_BOUND: Duration = Duration::from_secs(400);
/// How long a fabric in which nothing is left is left alone until no timer may run: a reflector's wait for those it does not
/// know, stale routes, lingering tunnels and freezes end within it, and an audit sees that what was removed is gone.
const REST: Duration = Duration::from_secs(310);

/// What must hold.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Invariant {
    /// No frame reaches another LAN, ever.
    Isolation,
    /// No route leads to another than its sender, ever.
    Honesty,
    /// When faults stop, every table equals the oracle's within a bound.
    Exactness,
    /// A MAC that moved is where it moved to within a bound.
    Moves,
    /// A claim by ADD wins over older, stale and unknown owners.
    Claims,
    /// Restarts lose no frame.
    Continuity,
    /// Memory returns.
    Memory,
    /// No timer runs without reason.
    Timers,
    /// Nothing goes in circles.
    Progress,
    /// Nothing panics.
    Safety,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What did not hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// Which rule.
    pub invariant: Invariant,
    /// In which way.
    pub why: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.why)
    }
}

impl Invariant {
    pub(super) fn broken(self, why: String) -> Violation {
        Violation { invariant: self, why }
    }
}

/// Figures of a run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Figures {
    /// Longest time from the last fault until everything was exact.
    pub converged: Duration,
    /// Longest time from a move until frames arrived at the new place.
    pub moved: Duration,
    /// Things that happened.
    pub happenings: u64,
    /// Virtual time that passed.
    pub virtual_time: Duration,
}

/// What became of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What did not hold.
    pub violation: Option<Violation>,
    /// Figures.
    pub figures: Figures,
    /// What happened, if it was kept.
    pub trace: Vec<String>,
}

/// A scenario on its way.
pub(super) struct Run {
    pub(super) fabric: Fabric,
    pub(super) figures: Figures,
    /// When it was last checked what must hold always.
    watched: Instant,
}

/// How often that is checked while something is watched closely.
const WATCH: Duration = Duration::from_millis(200);

/// Carries a scenario out.
pub fn run(scenario: &Scenario, sabotage: Sabotage, trace: Trace) -> Outcome {
    let sizes = (scenario.nodes, scenario.reflectors);
    let fabric = Fabric::new(scenario.seed, sizes, scenario.flags, sabotage, trace);
    let mut run = Run { fabric, figures: Figures::default(), watched: Instant::ZERO };
    let violation = run.whole(scenario).err();
    if let Some(violation) = &violation {
        run.fabric.note(format_args!("VIOLATED: {violation}"));
    }
    let virtual_time = run.fabric.clock.now().saturating_since(Instant::ZERO);
    Outcome {
        violation,
        figures: Figures { happenings: run.fabric.happenings, virtual_time, ..run.figures },
        trace: run.fabric.trace.lines().to_vec(),
    }
}

thread_local! {
    /// Fabrics of each kind in which nothing ever happened.
    static FRESH: RefCell<BTreeMap<(usize, usize, Flags), Rc<Fabric>>> = const { RefCell::new(BTreeMap::new()) };
}

/// A fabric of the same kind in which nothing ever happened.
fn fresh(scenario: &Scenario) -> Result<Rc<Fabric>, Violation> {
    let kind = (scenario.nodes, scenario.reflectors, scenario.flags);
    if let Some(known) = FRESH.with_borrow(|fresh| fresh.get(&kind).cloned()) {
        return Ok(known);
    }
    let sizes = (scenario.nodes, scenario.reflectors);
    let mut fabric = Fabric::new(scenario.seed, sizes, scenario.flags, Sabotage::None, Trace::default());
    fabric.run_until(Instant::ZERO + Duration::from_secs(60)).map_err(|why| Invariant::Progress.broken(why))?;
    let fabric = Rc::new(fabric);
    FRESH.with_borrow_mut(|fresh| fresh.insert(kind, Rc::clone(&fabric)));
    Ok(fabric)
}

impl Run {
    fn whole(&mut self, scenario: &Scenario) -> Result<(), Violation> {
        for step in &scenario.steps {
            if !matches!(step, Step::Wait(_)) {
                self.fabric.note(format_args!("> {step}"));
            }
            self.step(step)?;
            self.watch()?;
        }
        self.calm("the last step")?;
        self.clear()?;
        let fresh = fresh(scenario)?;
        empty(&self.fabric, &fresh).map_err(|why| Invariant::Memory.broken(why))?;
        at_rest(&self.fabric).map_err(|why| Invariant::Timers.broken(why))
    }

    pub(super) fn pass(&mut self, time: Duration) -> Result<(), Violation> {
        self.elapse(time)?;
        self.watched = self.fabric.clock.now();
        self.watch()
    }

    /// What must hold always.
    fn watch(&self) -> Result<(), Violation> {
        isolated(&self.fabric).map_err(|why| Invariant::Isolation.broken(why))?;
        honest(&self.fabric).map_err(|why| Invariant::Honesty.broken(why))
    }

    /// As [`Run::pass`], for a moment that is one of many.
    pub(super) fn pass_a_moment(&mut self, time: Duration) -> Result<(), Violation> {
        if self.fabric.clock.now().saturating_since(self.watched) >= WATCH {
            return self.pass(time);
        }
        self.elapse(time)
    }

    fn elapse(&mut self, time: Duration) -> Result<(), Violation> {
        let until = self.fabric.clock.now() + time;
        self.fabric.run_until(until).map_err(|why| Invariant::Progress.broken(why))
    }

    // ---- steps ----

    fn step(&mut self, step: &Step) -> Result<(), Violation> {
        let fabric = &mut self.fabric;
        match step {
            Step::Wait(time) => self.pass(*time)?,
            Step::Add { port, lan, host, worker } => self.add(*port, *lan, *host, *worker),
            Step::Delete { port } => {
                if let Some(worker) = fabric.truth.ports.get(&port_id(*port)).map(|placed| placed.worker) {
                    fabric.delete(worker, &port_id(*port));
                }
            }
            Step::Die { port, after } => fabric.clock.after(*after, Happening::PodDies { port: port_id(*port) }),
            Step::Speak { port } => self.speak(&port_id(*port)),
            Step::Station { number, port } => self.station(*number, &port_id(*port)),
            Step::Flap { number, ports, times, every } => self.flap(*number, *ports, *times, *every),
            Step::Pin { number, port } => self.pin(*number, &port_id(*port)),
            Step::Appear { lan, ports } => {
                if let (Some(index), Some(vni)) = (self.adopting(), vni_of(*lan)) {
                    self.fabric.appear(index, vni, &ports.map(port_id));
                }
            }
            Step::Vanish { lan } => {
                if let (Some(index), Some(vni)) = (self.adopting(), vni_of(*lan)) {
                    self.fabric.vanish(index, vni);
                }
            }
            Step::Link { worker, reflector, change } => self.link(*worker, *reflector, *change),
            Step::Session { worker, reflector, by, exhausted } => {
                fabric.end_session(*worker, *reflector, *by, *exhausted)
            }
            Step::Process { node, change: ProcessChange::Kill } => fabric.end(*node, false),
            Step::Process { node, change: ProcessChange::Term } => fabric.end(*node, true),
            Step::Process { node, change: ProcessChange::Start } => fabric.start(*node),
            Step::ColdStart { after } => {
                let reflectors = 0..fabric.reflectors.len();
                reflectors.clone().for_each(|index| fabric.end(Node::Reflector(index), false));
                self.pass(*after)?;
                reflectors.for_each(|index| self.fabric.start(Node::Reflector(index)));
            }
            Step::Pause { node, time } => fabric.pause(*node, *time),
            Step::Leap { node, time } => fabric.leap(*node, *time),
            Step::Kernel { worker, fault } => self.kernel(*worker, *fault),
            Step::Lie { worker, victim, lan, host } => {
                fabric.lie(Lie { worker: *worker, victim: *victim, lan: *lan, host: *host });
            }
            Step::Calm => self.calm("a step")?,
            Step::Probe(probe) => self.probe(probe)?,
        }
        Ok(())
    }

    fn adopting(&self) -> Option<usize> {
        self.fabric.machines.iter().find(|machine| machine.adopts).map(|machine| machine.index)
    }

    /// An ADD of a port that never was before.
    pub(super) fn add(&mut self, port: u16, lan: u8, host: u8, worker: usize) {
        let Some(vni) = vni_of(lan) else { return };
        let mac = host_mac(lan, host);
        let ips = address_of(mac).into_iter().collect();
        self.fabric.add(worker, Attachment { mac, ips, ..Attachment::new(port_id(port), vni) });
    }

    fn lan_of(&self, port: &PortId) -> Option<u8> {
        let placed = self.fabric.truth.ports.get(port)?;
        u8::try_from(placed.vni.get() - 1).ok()
    }

    /// A pod says something.
    fn speak(&mut self, port: &PortId) {
        let claim = self.fabric.truth.ports.get(port).and_then(|placed| placed.claim.clone());
        if let Some(claim) = claim.filter(|_| self.fabric.is_made(port)) {
            self.fabric.frame(port, claim.mac);
        }
    }

    fn station(&mut self, number: u8, port: &PortId) {
        let Some(lan) = self.lan_of(port).filter(|_| self.fabric.is_made(port)) else { return };
        let mac = station_mac(lan, number);
        self.fabric.station(mac, port, false);
        self.fabric.frame(port, mac);
    }

    /// A station is heard behind two ports in turn, and stays behind the last.
    fn flap(&mut self, number: u8, ports: [u16; 2], times: u8, every: Duration) {
        let ports = ports.map(port_id);
        let lans = ports.each_ref().map(|port| self.lan_of(port).filter(|_| self.fabric.is_made(port)));
        let [Some(lan), Some(other)] = lans else { return };
        if lan != other {
            return;
        }
        let mac = station_mac(lan, number);
        for time in 0..u32::from(times) {
            let port = &ports[(time % 2) as usize];
            self.fabric.clock.after(every * time, Happening::Frame { port: port.clone(), source: mac });
        }
        let last = &ports[usize::from(times.saturating_sub(1) % 2)];
        self.fabric.station(mac, last, false);
    }

    fn pin(&mut self, number: u8, port: &PortId) {
        let Some(lan) = self.lan_of(port).filter(|_| self.fabric.is_made(port)) else { return };
        let Some(placed) = self.fabric.truth.ports.get(port).cloned() else { return };
        let mac = station_mac(lan, number);
        if self.fabric.truth.stations.get(&(placed.vni, mac)).is_some_and(|station| station.pinned) {
            return;
        }
        self.fabric.station(mac, port, true);
        if let Some(machine) = self.fabric.machines.get(placed.worker) {
            machine.kernel.pin(placed.vni, mac, port);
        }
        self.fabric.listen(placed.worker);
    }

    fn link(&mut self, worker: usize, reflector: usize, change: LinkChange) {
        let (a, b) = (Node::Worker(worker), Node::Reflector(reflector));
        let Fabric { network, clock, random, .. } = &mut self.fabric;
        match change {
            LinkChange::Cut => {
                network.cut(a, b);
                network.cut(b, a);
            }
            LinkChange::CutUp => network.cut(a, b),
            LinkChange::CutDown => network.cut(b, a),
            LinkChange::Restore => network.restore(a, b, clock, random),
            LinkChange::Reset => network.reset(a, b, clock, random),
            LinkChange::Latency(latency) => network.set_latency(a, b, latency),
        }
    }

    fn kernel(&mut self, worker: usize, fault: KernelFault) {
        let Some(kernel) = self.fabric.machines.get(worker).map(|machine| machine.kernel.clone()) else { return };
        match fault {
            KernelFault::Overrun => kernel.overrun(),
            KernelFault::Deaf => kernel.set_deaf(true),
            KernelFault::Hears => hear(&kernel),
            KernelFault::Unreadable(times) => kernel.fail_snapshots(times),
            KernelFault::Fail(target, times, errno) => {
                if let Some(key) = self.key(target) {
                    kernel.fail_with(key, times, errno);
                }
            }
            KernelFault::Rows(rows) => kernel.set_row_limit(if rows == u8::MAX { usize::MAX } else { rows.into() }),
            KernelFault::Remove(target) => {
                if let Some(key) = self.key(target) {
                    kernel.foreign_remove(key);
                }
            }
            KernelFault::Write(target, to) => self.foreign_write(&kernel, worker, target, to),
        }
        self.fabric.listen(worker);
    }

    fn key(&self, target: Target) -> Option<Key> {
        Some(match target {
            Target::Tunnel(lan) => Key::Tunnel(vni_of(lan)?),
            Target::Flood(lan, worker) => Key::Flood(vni_of(lan)?, self.fabric.vtep(worker)),
            Target::Host(lan, host) => Key::Mac(vni_of(lan)?, host_mac(lan, host)),
            Target::Station(lan, number) => Key::Mac(vni_of(lan)?, station_mac(lan, number)),
        })
    }

    /// Somebody else writes a row that leads to a member: what leads to strangers is no fault of ours.
    fn foreign_write(&mut self, kernel: &Memory, worker: usize, target: Target, to: usize) {
        let Some(key) = self.key(target) else { return };
        let vtep = self.fabric.vtep(to);
        let (leads_to, desired) = match key {
            Key::Tunnel(_) => (worker, Desired::Tunnel),
            Key::Flood(_, vtep) => (self.fabric.worker_at(vtep).unwrap_or(worker), Desired::Flood),
            _ => (to, Desired::RemoteMac { vtep, sticky: false }),
        };
        if leads_to != worker && self.fabric.truth.members_ever.contains(&(key.vni(), leads_to)) {
            kernel.foreign_write(key, desired);
        }
    }

    // ---- peace ----

    /// Faults stop, and all becomes exact.
    pub(super) fn calm(&mut self, after: &str) -> Result<(), Violation> {
        self.make_peace();
        let converged = self.converge(after)?;
        self.figures.converged = self.figures.converged.max(converged);
        timers(&self.fabric).map_err(|why| Invariant::Timers.broken(why))
    }

    fn make_peace(&mut self) {
        self.fabric.note(format_args!("faults stop"));
        self.fabric.resume_all();
        for worker in 0..self.fabric.machines.len() {
            for reflector in 0..self.fabric.reflectors.len() {
                let (a, b) = (Node::Worker(worker), Node::Reflector(reflector));
                let Fabric { network, clock, random, .. } = &mut self.fabric;
                if network.is_cut(a, b) || network.is_cut(b, a) {
                    network.restore(a, b, clock, random);
                }
                let latency = random.micros(50, 5_000);
                network.set_latency(a, b, latency);
            }
            if let Some(kernel) = self.fabric.machines.get(worker).map(|machine| machine.kernel.clone()) {
                kernel.set_row_limit(usize::MAX);
                kernel.fail_snapshots(0);
                hear(&kernel);
            }
            self.fabric.start(Node::Worker(worker));
            self.fabric.listen(worker);
        }
        (0..self.fabric.reflectors.len()).for_each(|index| self.fabric.start(Node::Reflector(index)));
    }

    /// Waits until all is exact, and sees that it stays so. How long that took.
    fn converge(&mut self, after: &str) -> Result<Duration, Violation> {
        let begin = self.fabric.clock.now();
        let mut exact_since = None;
        loop {
            self.everybody_speaks();
            self.pass(Duration::from_secs(2))?;
            let now = self.fabric.clock.now();
            match settled(&self.fabric) {
                Ok(()) => {
                    let since = *exact_since.get_or_insert(now);
                    if now.saturating_since(since) >= Duration::from_secs(4) {
                        return Ok(since.saturating_since(begin));
                    }
                }
                Err(why) => {
                    exact_since = None;
                    if now.saturating_since(begin) > CONVERGENCE_BOUND {
                        let bound = CONVERGENCE_BOUND.as_secs();
                        return Err(Invariant::Exactness.broken(format!("{bound} s after {after}: {why}")));
                    }
                }
            }
        }
    }

    /// Everybody says something where it is; stations that are gone age out where they were last seen.
    fn everybody_speaks(&mut self) {
        let truth = &self.fabric.truth;
        for machine in &self.fabric.machines {
            for (vni, lan) in machine.kernel.look().lans {
                let claims = |mac, port: &PortId| {
                    truth.ports.get(port).and_then(|placed| placed.claim.as_ref()).is_some_and(|claim| claim.mac == mac)
                };
                let is_gone = |mac, port: &PortId| !truth.stations.contains_key(&(vni, mac)) && !claims(mac, port);
                let gone = lan.local.iter().filter(|(mac, local)| is_gone(**mac, &local.port)).map(|(mac, _)| mac);
                gone.for_each(|mac| machine.kernel.age(vni, *mac));
            }
        }
        let stations = truth.stations.iter().map(|((_, mac), station)| (*mac, station.port.clone()));
        let claims = truth.ports.iter().filter_map(|(port, placed)| Some((placed.claim.as_ref()?.mac, port.clone())));
        for (mac, port) in stations.chain(claims).collect::<Vec<_>>() {
            self.fabric.frame(&port, mac);
        }
        (0..self.fabric.machines.len()).for_each(|index| self.fabric.listen(index));
    }

    // ---- the end ----

    /// Everything is undone, and the fabric left alone.
    fn clear(&mut self) -> Result<(), Violation> {
        self.fabric.note(format_args!("everything is undone"));
        self.fabric.repent();
        let served: Vec<(Vni, usize)> = self.fabric.truth.served.iter().copied().collect();
        served.into_iter().for_each(|(vni, worker)| self.fabric.vanish(worker, vni));
        let ports: Vec<_> =
            self.fabric.truth.ports.iter().map(|(port, placed)| (placed.worker, port.clone())).collect();
        ports.into_iter().for_each(|(worker, port)| self.fabric.delete(worker, &port));
        self.pass(REST)
    }
}

/// The kernel tells again what happens, and that something was lost.
fn hear(kernel: &Memory) {
    kernel.set_deaf(false);
    kernel.overrun();
}
