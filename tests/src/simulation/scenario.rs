//! A run from one seed: disturbances, then peace, then moves that must be seen at once, then the end of everything.

use std::io;

use bgp_core::time::{Duration, Instant};
use bgp_core::types::{MacAddr, Vni};
use dataplane::PortId;
use evpn::forwarding::Key;
use worker_speaker::core::Attachment;

use super::clock::{Happening, Node};
use super::fabric::Fabric;
use super::link::Side;
use super::oracle::{address_of, empty, isolated, mac_of, reached, settled};
use super::trace::Trace;

/// Longest time from the last fault until all forwarding state is exact: the longest pause of a session, the end of a freeze,
/// and an audit are in it.
pub const CONVERGENCE_BOUND: Duration = Duration::from_secs(400);
/// Longest time from an ADD in a connected fabric until every worker sends the MAC's frames there.
pub const MOVE_BOUND: Duration = Duration::from_secs(1);

/// A claim answers rivals for this long: of two moves closer together, the first may win if the second is to a worker that
/// had no port in the LAN and so did not know of the first.
const CLAIM_WINDOW: Duration = Duration::from_secs(10);

const LANS: usize = 3;
const MACS: usize = 6;
const STATIONS: usize = 3;

/// What a run is.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Everything follows from it.
    pub seed: u64,
    /// Workers.
    pub nodes: usize,
    /// Disturbances.
    pub steps: usize,
}

/// What became of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What did not hold.
    pub violation: Option<String>,
    /// From the last fault until everything was exact.
    pub converged: Duration,
    /// Things that happened.
    pub happenings: u64,
    /// Virtual time that passed.
    pub virtual_time: Duration,
    /// What happened, if it was kept.
    pub trace: Vec<String>,
}

struct Run {
    fabric: Fabric,
    settings: Settings,
    ports: usize,
    converged: Duration,
}

/// Carries a run out.
///
/// # Errors
/// No descriptors are left for that many machines.
pub fn run(settings: Settings, trace: Trace) -> io::Result<Outcome> {
    let fabric = Fabric::new(settings.seed, settings.nodes, 2, trace)?;
    let mut run = Run { fabric, settings, ports: 0, converged: Duration::ZERO };
    let violation = run.whole().err();
    let now = run.fabric.clock.now();
    if let Some(violation) = &violation {
        run.fabric.note(format_args!("VIOLATED: {violation}"));
    }
    Ok(Outcome {
        violation,
        converged: run.converged,
        happenings: run.fabric.happenings,
        virtual_time: now.saturating_since(Instant::ZERO),
        trace: run.fabric.trace.lines().to_vec(),
    })
}

impl Run {
    fn whole(&mut self) -> Result<(), String> {
        for _ in 0..self.settings.steps {
            self.disturb();
            let pause = match self.fabric.random.below(10) {
                0 => self.fabric.random.micros(0, 20_000_000),
                1..4 => self.fabric.random.micros(0, 2_000_000),
                _ => self.fabric.random.micros(0, 50_000),
            };
            self.pass(pause)?;
        }
        self.make_peace();
        self.converged = self.converge("after the last fault")?;
        for _ in 0..3 {
            self.probe()?;
        }
        self.converge("after moves")?;
        self.clear()
    }

    fn pass(&mut self, time: Duration) -> Result<(), String> {
        self.fabric.run_until(self.fabric.clock.now() + time)?;
        isolated(&self.fabric)
    }

    // ---- choices ----

    fn vni(&mut self) -> Option<Vni> {
        Vni::new(1 + u32::try_from(self.fabric.random.below(LANS)).ok()?)
    }

    fn worker(&mut self) -> usize {
        self.fabric.random.below(self.settings.nodes)
    }

    fn reflector(&mut self) -> usize {
        self.fabric.random.below(self.fabric.reflectors.len())
    }

    fn running_worker(&mut self) -> Option<usize> {
        let running: Vec<usize> =
            self.fabric.workers.iter().enumerate().filter(|(_, w)| w.is_some()).map(|(index, _)| index).collect();
        self.fabric.random.pick(&running)
    }

    /// A port whose ADD is done.
    fn port(&mut self) -> Option<PortId> {
        let done = |(port, placed): (&PortId, &super::fabric::Placed)| {
            self.fabric.machines.get(placed.worker)?.store.contains_key(port).then(|| port.clone())
        };
        let ports: Vec<PortId> = self.fabric.truth.pods.iter().filter_map(done).collect();
        self.fabric.random.pick(&ports)
    }

    // ---- disturbances ----

    fn disturb(&mut self) {
        match self.fabric.random.below(100) {
            0..22 => _ = self.attach(),
            22..30 => self.detach(),
            30..36 => {
                if let Some(port) = self.port() {
                    self.fabric.clock.after(Duration::ZERO, Happening::PodDies { port });
                }
            }
            36..46 => self.move_by_add(),
            46..64 => self.station(),
            64..80 => self.disturb_transport(),
            80..90 => self.disturb_process(),
            _ => self.disturb_kernel(),
        }
    }

    fn attach(&mut self) -> Option<()> {
        let vni = self.vni()?;
        let mac = mac_of(vni, 1, self.fabric.random.below(MACS));
        let worker = self.running_worker()?;
        self.add(worker, vni, mac);
        Some(())
    }

    /// An ADD of a port that never was before.
    fn add(&mut self, worker: usize, vni: Vni, mac: MacAddr) -> PortId {
        self.ports += 1;
        let port = PortId::new(&format!("p{}", self.ports));
        let ips = if mac.0[5].is_multiple_of(2) { vec![address_of(mac)] } else { Vec::new() };
        self.fabric.add(worker, Attachment { port: port.clone(), vni, mac, ips });
        port
    }

    fn detach(&mut self) {
        if let Some(port) = self.port()
            && let Some(worker) = self.fabric.truth.pods.get(&port).map(|placed| placed.worker)
        {
            self.fabric.delete(worker, &port);
        }
    }

    /// The same MAC elsewhere; its old port goes later, earlier, or stays.
    fn move_by_add(&mut self) {
        let Some(port) = self.port() else { return };
        let Some(pod) = self.fabric.truth.pods.get(&port).map(|placed| placed.pod.clone()) else { return };
        let Some(worker) = self.running_worker() else { return };
        self.add(worker, pod.vni, pod.mac);
        if self.fabric.random.chance(75) {
            let later = self.fabric.random.micros(0, 3_000_000);
            self.fabric.clock.after(later, Happening::PodDies { port });
        }
    }

    /// A pod speaks, or a station behind it, where it was before or somewhere else.
    fn station(&mut self) {
        let Some(port) = self.port() else { return };
        let Some(pod) = self.fabric.truth.pods.get(&port).map(|placed| placed.pod.clone()) else { return };
        let vni = pod.vni;
        if self.fabric.random.chance(30) {
            self.fabric.note(format_args!("{} speaks at {port}", pod.mac));
            return self.fabric.frame(&port, pod.mac);
        }
        let mac = mac_of(vni, 2, self.fabric.random.below(STATIONS));
        self.fabric.note(format_args!("station {mac} speaks behind {port}"));
        self.fabric.truth.stations.insert((vni, mac), port.clone());
        self.fabric.frame(&port, mac);
    }

    fn disturb_transport(&mut self) {
        let (worker, reflector) = (self.worker(), self.reflector());
        let (a, b) = (Node::Worker(worker), Node::Reflector(reflector));
        let Fabric { network, clock, random, .. } = &mut self.fabric;
        match random.below(6) {
            0 | 1 => network.cut(a, b),
            2 | 3 => network.restore(a, b, clock, random),
            4 => network.reset(a, b, clock, random),
            _ => {
                let latency = random.micros(50, 500_000);
                network.set_latency(a, b, latency);
            }
        }
        if self.fabric.random.chance(20) {
            self.fabric.reset_session(worker, reflector, Side::Client);
        }
        let cut = self.fabric.network.is_cut(a, b);
        self.fabric.note(format_args!("link w{worker} r{reflector} disturbed, {}", if cut { "cut" } else { "whole" }));
    }

    fn disturb_process(&mut self) {
        let node =
            if self.fabric.random.chance(60) { Node::Worker(self.worker()) } else { Node::Reflector(self.reflector()) };
        let runs = match node {
            Node::Worker(index) => self.fabric.workers.get(index).is_some_and(Option::is_some),
            Node::Reflector(index) => self.fabric.reflectors.get(index).is_some_and(Option::is_some),
        };
        if runs {
            let gracefully = self.fabric.random.chance(30);
            self.fabric.note(format_args!("{node:?} ends, gracefully: {gracefully}"));
            self.fabric.end(node, gracefully);
        }
        if !runs || self.fabric.random.chance(50) {
            self.start(node);
        }
    }

    fn start(&mut self, node: Node) {
        self.fabric.note(format_args!("{node:?} starts"));
        match node {
            Node::Worker(index) => self.fabric.start_worker(index),
            Node::Reflector(index) => self.fabric.start_reflector(index),
        }
    }

    fn disturb_kernel(&mut self) {
        let index = self.worker();
        let (Some(vni), number) = (self.vni(), self.fabric.random.below(MACS)) else { return };
        let other = super::fabric::vtep(self.worker());
        let key = match self.fabric.random.below(3) {
            0 => Key::Tunnel(vni),
            1 => Key::Flood(vni, other),
            _ => Key::Mac(vni, mac_of(vni, 1, number)),
        };
        let Some(kernel) = self.fabric.machines.get(index).map(|machine| machine.kernel.clone()) else { return };
        let what = match self.fabric.random.below(5) {
            0 => {
                kernel.overrun();
                "is overrun"
            }
            1 => {
                kernel.set_deaf(true);
                "loses notifications"
            }
            2 => {
                kernel.fail(key, 1 + u32::try_from(self.fabric.random.below(4)).unwrap_or_default());
                "refuses writes"
            }
            3 => {
                kernel.fail_snapshots(1 + u32::try_from(self.fabric.random.below(3)).unwrap_or_default());
                "cannot be read"
            }
            _ => {
                kernel.foreign_remove(key);
                "has a foreign writer"
            }
        };
        self.fabric.note(format_args!("kernel of w{index} {what} ({key})"));
        if self.fabric.random.chance(60) {
            kernel.set_deaf(false);
            kernel.overrun();
        }
        self.fabric.listen(index);
    }

    // ---- peace ----

    fn make_peace(&mut self) {
        self.fabric.note(format_args!("faults stop"));
        for worker in 0..self.settings.nodes {
            for reflector in 0..self.fabric.reflectors.len() {
                let (a, b) = (Node::Worker(worker), Node::Reflector(reflector));
                let Fabric { network, clock, random, .. } = &mut self.fabric;
                network.restore(a, b, clock, random);
                let latency = random.micros(50, 5_000);
                network.set_latency(a, b, latency);
            }
            if let Some(kernel) = self.fabric.machines.get(worker).map(|machine| machine.kernel.clone()) {
                kernel.set_deaf(false);
                kernel.overrun();
            }
            if self.fabric.workers.get(worker).is_some_and(Option::is_none) {
                self.start(Node::Worker(worker));
            }
            self.fabric.listen(worker);
        }
        for reflector in 0..self.fabric.reflectors.len() {
            if self.fabric.reflectors.get(reflector).is_some_and(Option::is_none) {
                self.start(Node::Reflector(reflector));
            }
        }
    }

    /// Waits until all is exact, and sees that it stays so.
    fn converge(&mut self, when: &str) -> Result<Duration, String> {
        let begin = self.fabric.clock.now();
        let mut exact_since = None;
        loop {
            self.speak();
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
                        return Err(format!("{} s {when}: {why}", CONVERGENCE_BOUND.as_secs()));
                    }
                }
            }
        }
    }

    /// Everybody says something where it is; stations that are gone age out where they were last seen.
    fn speak(&mut self) {
        for machine in &self.fabric.machines {
            for (vni, lan) in machine.kernel.look().lans {
                let claimed = |mac, port| self.fabric.truth.pods.get(port).is_some_and(|placed| placed.pod.mac == mac);
                let is_gone = |mac, port| !self.fabric.truth.stations.contains_key(&(vni, mac)) && !claimed(mac, port);
                let gone = lan.local.iter().filter(|(mac, local)| is_gone(**mac, &local.port)).map(|(mac, _)| mac);
                gone.for_each(|mac| machine.kernel.age(vni, *mac));
            }
        }
        (0..self.settings.nodes).for_each(|index| self.fabric.listen(index));
        let truth = &self.fabric.truth;
        let stations = truth.stations.iter().map(|((_, mac), port)| (*mac, port.clone()));
        let pods = truth.pods.iter().map(|(port, placed)| (placed.pod.mac, port.clone()));
        for (mac, port) in stations.chain(pods).collect::<Vec<_>>() {
            self.fabric.frame(&port, mac);
        }
    }

    /// A MAC moves by ADD in a quiet fabric: everybody must send there within the bound.
    fn probe(&mut self) -> Result<(), String> {
        self.pass(CLAIM_WINDOW)?;
        let Some(old) = self.port() else { return Ok(()) };
        let Some(placed) = self.fabric.truth.pods.get(&old).cloned() else { return Ok(()) };
        let to = self.worker();
        let (vni, mac) = (placed.pod.vni, placed.pod.mac);
        self.fabric.note(format_args!("probe: {mac} moves to w{to}"));
        let port = self.add(to, vni, mac);
        if self.fabric.random.chance(70) {
            let later = self.fabric.random.micros(0, 1_500_000);
            self.fabric.clock.after(later, Happening::PodDies { port: old });
        }
        // What the plugin does when the pod's end is up: a gratuitous ARP.
        let up = self.fabric.random.micros(7_000, 50_000);
        self.pass(up)?;
        self.fabric.frame(&port, mac);
        self.pass(MOVE_BOUND.saturating_sub(up))?;
        reached(&self.fabric, vni, mac, &port)
            .map_err(|why| format!("{} s after {mac} moved to w{to}: {why}", MOVE_BOUND.as_secs()))
    }

    /// Everything is undone; nothing may be left.
    fn clear(&mut self) -> Result<(), String> {
        let ports: Vec<_> = self.fabric.truth.pods.iter().map(|(port, placed)| (placed.worker, port.clone())).collect();
        for (worker, port) in ports {
            self.fabric.delete(worker, &port);
        }
        // A reflector that does not know whom to expect holds its end-of-RIB back for 30 s, and stale routes with it.
        self.pass(Duration::from_secs(35))?;
        empty(&self.fabric)
    }
}
