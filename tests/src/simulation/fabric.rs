//! The fabric: machines, processes, and the loop that lets things happen in the order of virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use bgp_core::rib::{PeerClass, RibConfig, Role};
use bgp_core::session::{LongLivedConfig, PeerConfig, StopReason};
use bgp_core::time::{Duration, Instant};
use bgp_core::types::{Asn, MacAddr, PeerId, RouterId, Vni};
use dataplane::memory::Memory;
use dataplane::{Dataplane as _, PortId};
use evpn::Engine;
use worker_speaker::core::Attachment;

use super::clock::{Clock, Happening, KernelWork, Node};
use super::link::{Network, Side};
use super::random::Random;
use super::speaker::{Neighbor, Speaker, Surroundings};
use super::trace::Trace;
use super::worker::{Around, Machine, Worker};

const ASN: Asn = Asn(65_000);
/// IP packet size that the underlay leaves to LANs.
const MTU: u32 = 1450;
/// Happenings of one run beyond which something must be going in circles.
const MOST_HAPPENINGS: u64 = 5_000_000;

/// A pod's port that exists, and where.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The worker's number.
    pub worker: usize,
    /// What its ADD asked for.
    pub pod: Attachment,
}

/// What is true, whatever processes believe.
#[derive(Debug, Default)]
pub struct Truth {
    /// Ports that exist, or are being made.
    pub pods: BTreeMap<PortId, Placed>,
    /// Stations behind ports, known only by their frames.
    pub stations: BTreeMap<(Vni, MacAddr), PortId>,
    /// Workers that ever had a port in a LAN.
    pub members_ever: BTreeSet<(Vni, usize)>,
    /// DELs that wait for a worker to be there.
    pub deletions: BTreeSet<(usize, PortId)>,
}

/// See the module.
#[derive(Debug)]
pub struct Fabric {
    /// Time.
    pub clock: Clock,
    /// Links and streams.
    pub network: Network,
    /// Choices.
    pub random: Random,
    /// The record.
    pub trace: Trace,
    /// Machines of workers.
    pub machines: Vec<Machine>,
    /// Worker processes that run.
    pub workers: Vec<Option<Worker>>,
    /// Reflector processes that run.
    pub reflectors: Vec<Option<Speaker>>,
    /// What is true.
    pub truth: Truth,
    /// Happenings so far.
    pub happenings: u64,
    lives: BTreeMap<Node, u32>,
    wakes: BTreeMap<Node, Instant>,
    reflectors_dial: bool,
    expects_peers: bool,
}

/// The VTEP address of a worker.
pub fn vtep(worker: usize) -> IpAddr {
    let [.., a, b] = worker.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, 0, a, b))
}

fn router_id(node: Node) -> RouterId {
    let (base, index) = match node {
        Node::Worker(index) => (0x0a00_0000, index),
        Node::Reflector(index) => (0x0aff_0000, index),
    };
    RouterId(base + u32::try_from(index).unwrap_or_default())
}

impl Fabric {
    /// A fabric of these sizes whose processes start at once.
    ///
    /// # Errors
    /// No descriptors are left for the kernels' bells.
    pub fn new(seed: u64, workers: usize, reflectors: usize, trace: Trace) -> io::Result<Self> {
        let mut random = Random::new(seed);
        let machine = |index| {
            let vtep = vtep(index);
            let kernel = Memory::new(vtep, MTU)?;
            Ok(Machine { index, vtep, kernel, store: BTreeMap::new(), polling: false })
        };
        let machines: Vec<Machine> = (0..workers).map(machine).collect::<io::Result<_>>()?;
        let mut network = Network::default();
        for worker in 0..workers {
            for reflector in 0..reflectors {
                network.join(Node::Worker(worker), Node::Reflector(reflector), random.micros(50, 5_000));
            }
        }
        let mut fabric = Self {
            clock: Clock::default(),
            network,
            trace,
            machines,
            workers: (0..workers).map(|_| None).collect(),
            reflectors: (0..reflectors).map(|_| None).collect(),
            truth: Truth::default(),
            happenings: 0,
            lives: BTreeMap::new(),
            wakes: BTreeMap::new(),
            reflectors_dial: random.chance(30),
            expects_peers: random.chance(70),
            random,
        };
        (0..reflectors).for_each(|index| fabric.start_reflector(index));
        (0..workers).for_each(|index| fabric.start_worker(index));
        Ok(fabric)
    }

    /// Adds a line to the trace.
    pub fn note(&mut self, line: std::fmt::Arguments<'_>) {
        self.trace.note(self.clock.now(), line);
    }

    // ---- processes ----

    fn session(&mut self, node: Node) -> PeerConfig {
        let mut config = PeerConfig::new(ASN, router_id(node));
        config.remote_asn = Some(ASN);
        config.jitter_seed = self.random.next();
        config.passive = matches!(node, Node::Reflector(_)) && !self.reflectors_dial;
        if let Some(restart) = &mut config.graceful_restart {
            restart.families.iter_mut().for_each(|(_, forwarding)| *forwarding = true);
            // As the daemons ask by themselves.
            let stale_time_secs = if matches!(node, Node::Reflector(_)) { 86_400 } else { 600 };
            restart.long_lived = Some(LongLivedConfig { stale_time_secs, max_stale_time_secs: 86_400 });
        }
        config
    }

    fn new_life(&mut self, node: Node) -> u32 {
        let life = self.lives.entry(node).or_default();
        *life += 1;
        *life
    }

    /// Starts a reflector that does not run.
    pub fn start_reflector(&mut self, index: usize) {
        let node = Node::Reflector(index);
        let life = self.new_life(node);
        let address = IpAddr::V4(router_id(node).0.into());
        let mut config = RibConfig::new(Role::Reflector { cluster_id: Some(1) }, ASN, router_id(node), address);
        config.hash_seed = self.random.next();
        let neighbor = |fabric: &mut Self, worker| Neighbor {
            remote: Node::Worker(worker),
            address: vtep(worker),
            class: PeerClass::Client,
            session: fabric.session(node),
        };
        let count = self.machines.len();
        let neighbors = (0..count).map(|worker| neighbor(self, worker)).collect();
        let expected = self.expects_peers;
        let mut speaker = Speaker::new(node, life, config, neighbors, &mut self.surroundings());
        if expected {
            let peers = (0..count).filter_map(|worker| u32::try_from(worker).ok().map(PeerId));
            speaker.rib.set_expected_peers(peers);
        }
        if let Some(slot) = self.reflectors.get_mut(index) {
            *slot = Some(speaker);
        }
        self.with_reflector(index, |_, _| {});
    }

    /// Starts a worker that does not run; it adopts what its kernel holds.
    pub fn start_worker(&mut self, index: usize) {
        let node = Node::Worker(index);
        let life = self.new_life(node);
        let address = vtep(index);
        let mut config = RibConfig::new(Role::Worker, ASN, router_id(node), address);
        config.hash_seed = self.random.next();
        let neighbors = (0..self.reflectors.len()).map(|reflector| Neighbor {
            remote: Node::Reflector(reflector),
            address: IpAddr::V4(router_id(Node::Reflector(reflector)).0.into()),
            class: PeerClass::NonClient,
            session: self.session(node),
        });
        let neighbors = neighbors.collect();
        let engine = Engine::new(evpn::Config::new(ASN, router_id(node), address));
        let Self { clock, network, random, trace, machines, workers, .. } = self;
        let Some(machine) = machines.get_mut(index) else { return };
        machine.polling = false;
        let mut world = Surroundings { clock, network, random, trace };
        let speaker = Speaker::new(node, life, config, neighbors, &mut world);
        let worker = Worker::start(speaker, engine, &mut Around { world: &mut world, machine });
        if let Some(slot) = workers.get_mut(index) {
            *slot = Some(worker);
        }
        self.with_worker(index, |_, _| {});
        let (due, later) =
            std::mem::take(&mut self.truth.deletions).into_iter().partition(|(worker, _)| *worker == index);
        self.truth.deletions = later;
        for (worker, port) in Vec::from_iter::<BTreeSet<_>>(due) {
            self.delete(worker, &port);
        }
    }

    /// Ends a process: without a word, or as SIGTERM does.
    pub fn end(&mut self, node: Node, gracefully: bool) {
        let stop = |speaker: &mut Speaker, world: &mut Surroundings<'_>| {
            if gracefully {
                speaker.stop(None, &StopReason::Restart, world);
            }
        };
        match node {
            Node::Worker(index) => {
                self.with_worker(index, |worker, around| stop(&mut worker.speaker, around.world));
                self.workers.get_mut(index).map(Option::take);
                self.give_up_unfinished(index);
            }
            Node::Reflector(index) => {
                self.with_reflector(index, stop);
                self.reflectors.get_mut(index).map(Option::take);
            }
        }
        let life = self.lives.get(&node).copied().unwrap_or_default();
        self.network.abandon((node, life), &mut self.clock, &mut self.random);
    }

    /// ADDs that a dead worker did not answer have failed, and the runtime asks for a DEL when it is back; so it does
    /// for DELs without an answer.
    fn give_up_unfinished(&mut self, index: usize) {
        let Some(machine) = self.machines.get(index) else { return };
        let ports = machine.kernel.look().lans.into_values().flat_map(|lan| lan.ports.into_keys());
        let undeleted = ports.filter(|port| !self.truth.pods.contains_key(port)).map(|port| (index, port));
        self.truth.deletions.extend(undeleted.collect::<Vec<_>>());
        let unfinished = |(port, placed): (&PortId, &Placed)| {
            (placed.worker == index && !machine.store.contains_key(port)).then(|| port.clone())
        };
        let unfinished: Vec<PortId> = self.truth.pods.iter().filter_map(unfinished).collect();
        for port in unfinished {
            self.forget_pod(&port);
            self.truth.deletions.insert((index, port));
        }
    }

    /// A port is no more, with the stations behind it.
    pub fn forget_pod(&mut self, port: &PortId) {
        self.truth.pods.remove(port);
        self.truth.stations.retain(|_, behind| behind != port);
    }

    fn surroundings(&mut self) -> Surroundings<'_> {
        let Self { clock, network, random, trace, .. } = self;
        Surroundings { clock, network, random, trace }
    }

    /// Lets something happen to a worker that runs, and what follows from it.
    pub fn with_worker(&mut self, index: usize, what: impl FnOnce(&mut Worker, &mut Around<'_, '_>)) {
        let Some(mut worker) = self.workers.get_mut(index).and_then(Option::take) else { return };
        let Self { clock, network, random, trace, machines, .. } = self;
        let Some(machine) = machines.get_mut(index) else { return };
        let mut world = Surroundings { clock, network, random, trace };
        let mut around = Around { world: &mut world, machine };
        what(&mut worker, &mut around);
        worker.end_round(&mut around);
        let deadline = worker.next_deadline();
        if let Some(slot) = self.workers.get_mut(index) {
            *slot = Some(worker);
        }
        self.arm(Node::Worker(index), Some(deadline));
        self.listen(index);
    }

    fn with_reflector(&mut self, index: usize, what: impl FnOnce(&mut Speaker, &mut Surroundings<'_>)) {
        let Some(mut speaker) = self.reflectors.get_mut(index).and_then(Option::take) else { return };
        let mut world = self.surroundings();
        what(&mut speaker, &mut world);
        speaker.flush(&mut world);
        let deadline = speaker.next_deadline();
        if let Some(slot) = self.reflectors.get_mut(index) {
            *slot = Some(speaker);
        }
        self.arm(Node::Reflector(index), deadline);
    }

    fn with_speaker(&mut self, node: Node, what: impl FnOnce(&mut Speaker, &mut Surroundings<'_>)) {
        match node {
            Node::Worker(index) => self.with_worker(index, |worker, around| what(&mut worker.speaker, around.world)),
            Node::Reflector(index) => self.with_reflector(index, what),
        }
    }

    fn arm(&mut self, node: Node, deadline: Option<Instant>) {
        if let Some(at) = deadline
            && self.wakes.get(&node).is_none_or(|armed| *armed > at)
        {
            self.wakes.insert(node, at);
            self.clock.at(at, Happening::Wake(node));
        }
    }

    /// Has the worker's dataplane thread read notifications, if there are any.
    pub fn listen(&mut self, index: usize) {
        let life = self.lives.get(&Node::Worker(index)).copied().unwrap_or_default();
        let runs = self.workers.get(index).is_some_and(Option::is_some);
        let Some(machine) = self.machines.get_mut(index) else { return };
        if runs && !machine.polling && machine.kernel.has_pending_events() {
            machine.polling = true;
            let delay = self.random.micros(1, 2_000);
            self.clock.after(delay, Happening::Kernel { worker: index, life, what: KernelWork::Poll });
        }
    }

    fn is_alive(&self, (node, life): (Node, u32)) -> bool {
        self.lives.get(&node) == Some(&life)
            && match node {
                Node::Worker(index) => self.workers.get(index).is_some_and(Option::is_some),
                Node::Reflector(index) => self.reflectors.get(index).is_some_and(Option::is_some),
            }
    }

    // ---- CNI ----

    /// An ADD at a worker that runs; the port's name is given.
    pub fn add(&mut self, index: usize, pod: Attachment) {
        self.note(format_args!("ADD {} {} {} at w{index}", pod.port, pod.vni, pod.mac));
        self.truth.members_ever.insert((pod.vni, index));
        self.truth.pods.insert(pod.port.clone(), Placed { worker: index, pod: pod.clone() });
        self.with_worker(index, |worker, around| _ = worker.add(pod, around));
    }

    /// A DEL, now or when the worker is back.
    pub fn delete(&mut self, index: usize, port: &PortId) {
        if self.workers.get(index).is_none_or(Option::is_none) {
            self.truth.deletions.insert((index, port.clone()));
            return;
        }
        self.note(format_args!("DEL {port} at w{index}"));
        self.forget_pod(port);
        self.with_worker(index, |worker, around| worker.delete(port, around));
    }

    /// A frame to everybody comes out of a port.
    pub fn frame(&mut self, port: &PortId, source: MacAddr) {
        let Some(placed) = self.truth.pods.get(port) else { return };
        let (index, vni) = (placed.worker, placed.pod.vni);
        if let Some(machine) = self.machines.get(index) {
            machine.kernel.frame(vni, port, source, MacAddr([0xff; 6]));
        }
        self.listen(index);
    }

    fn pod_dies(&mut self, port: &PortId) {
        let Some(placed) = self.truth.pods.get(port).cloned() else { return };
        let Some(machine) = self.machines.get(placed.worker) else { return };
        let exists = machine.kernel.look().lans.values().any(|lan| lan.ports.contains_key(port));
        if !exists {
            // Its ADD is still under way.
            return self.clock.after(Duration::from_millis(1), Happening::PodDies { port: port.clone() });
        }
        machine.kernel.kill(port);
        self.note(format_args!("pod {port} dies at w{}", placed.worker));
        self.forget_pod(port);
        let later = self.random.micros(1_000, 2_000_000);
        self.clock.after(later, Happening::Delete { worker: placed.worker, port: port.clone() });
        self.listen(placed.worker);
    }

    // ---- the loop ----

    /// Lets time pass.
    ///
    /// # Errors
    /// More happens than can be explained.
    pub fn run_until(&mut self, limit: Instant) -> Result<(), String> {
        while let Some(what) = self.clock.next(limit) {
            self.happenings += 1;
            if self.happenings > MOST_HAPPENINGS {
                return Err(format!("{MOST_HAPPENINGS} happenings: something goes in circles, now {what:?}"));
            }
            self.happen(what);
        }
        Ok(())
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Wake(node) => self.wake(node),
            Happening::Knock { from, to, life, attempt } => self.knock((from, life), to, attempt),
            Happening::Refused { node, life, by, attempt } => {
                if self.is_alive((node, life)) {
                    self.with_speaker(node, |speaker, world| speaker.refused(by, attempt, world));
                }
            }
            Happening::Opened { stream, side, attempt } => {
                let Some((process, remote)) = self.network.stream(stream).map(|s| (s.end(side), s.end(side.other()).0))
                else {
                    return;
                };
                if self.is_alive(process) {
                    self.with_speaker(process.0, |speaker, world| speaker.opened(stream, side, remote, attempt, world));
                } else {
                    self.network.close(stream, side, &mut self.clock, &mut self.random);
                }
            }
            Happening::Arrival { stream, from } => {
                let Some(process) = self.network.stream(stream).map(|s| s.end(from.other())) else { return };
                let piece = self.network.arrive(stream, from, &mut self.clock, &mut self.random);
                if let Some(piece) = piece.filter(|_| self.is_alive(process)) {
                    self.with_speaker(process.0, |speaker, world| speaker.arrived(stream, from.other(), &piece, world));
                }
            }
            Happening::Room { stream, side } => {
                let Some(process) = self.network.stream(stream).map(|s| s.end(side)) else { return };
                if self.is_alive(process) {
                    self.with_speaker(process.0, |speaker, world| speaker.has_room(stream, side, world));
                }
            }
            Happening::Kernel { worker, life, what } => {
                if self.is_alive((Node::Worker(worker), life)) {
                    self.with_worker(worker, |worker, around| worker.kernel_work(what, around));
                }
            }
            Happening::PodDies { port } => self.pod_dies(&port),
            Happening::Delete { worker, port } => self.delete(worker, &port),
        }
    }

    fn wake(&mut self, node: Node) {
        let now = self.clock.now();
        if self.wakes.get(&node).is_some_and(|at| *at <= now) {
            self.wakes.remove(&node);
        }
        match node {
            Node::Worker(index) => self.with_worker(index, |worker, around| {
                if worker.next_deadline() <= now {
                    worker.handle_timeout(around);
                }
            }),
            Node::Reflector(index) => self.with_reflector(index, |speaker, world| {
                if speaker.next_deadline().is_some_and(|at| at <= now) {
                    speaker.handle_timeout(world);
                }
            }),
        }
    }

    fn knock(&mut self, from: (Node, u32), to: Node, attempt: u64) {
        let listens = match to {
            // Workers listen only where reflectors dial.
            Node::Worker(_) => self.reflectors_dial,
            Node::Reflector(_) => true,
        };
        let server = (to, self.lives.get(&to).copied().unwrap_or_default());
        if self.network.is_cut(from.0, to) {
            return;
        }
        if listens && self.is_alive(server) {
            self.network.open(from, server, attempt, &mut self.clock, &mut self.random);
        } else {
            self.network.refuse(from, to, attempt, &mut self.clock, &mut self.random);
        }
    }

    /// Ends the session between a worker and a reflector, from the one side or the other.
    pub fn reset_session(&mut self, worker: usize, reflector: usize, from: Side) {
        let (worker, reflector) = (Node::Worker(worker), Node::Reflector(reflector));
        let (here, there) = if from == Side::Client { (worker, reflector) } else { (reflector, worker) };
        let reason = StopReason::Reset { administrative: true };
        self.with_speaker(here, |speaker, world| speaker.stop(Some(there), &reason, world));
    }
}
