//! The fabric: machines, processes, and the loop that lets things happen in the order of virtual time.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bgp_core::rib::{PeerClass, Permission, RibConfig, Role};
use bgp_core::session::{LongLivedConfig, PeerConfig, StopReason};
use bgp_core::time::{Duration, Instant};
use bgp_core::types::{Asn, PeerId, RouterId};
use dataplane::Dataplane as _;
use dataplane::memory::Memory;
use evpn::Engine;

use super::clock::{Clock, Happening, KernelWork, Node};
use super::link::{Network, Side};
use super::random::Random;
use super::sabotage::Sabotage;
use super::scenario::Flags;
use super::speaker::{Neighbor, Speaker, Surroundings};
use super::trace::Trace;
use super::truth::Truth;
use super::worker::{Around, Machine, Worker};

pub(super) const ASN: Asn = Asn(65_000);
/// IP packet size that the underlay leaves to LANs.
const MTU: u32 = 1450;
/// Happenings of one run for each worker beyond which something must be going in circles.
const MOST_HAPPENINGS: u64 = 2_000_000;

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
    pub workers: Vec<Option<Box<Worker>>>,
    /// Reflector processes that run.
    pub reflectors: Vec<Option<Box<Speaker>>>,
    /// What is true.
    pub truth: Truth,
    /// Happenings so far.
    pub happenings: u64,
    lives: BTreeMap<Node, u32>,
    wakes: BTreeMap<Node, Instant>,
    /// What waits for processes that do nothing for a while.
    paused: BTreeMap<Node, VecDeque<Happening>>,
    /// How far machines' clocks are ahead.
    ahead: BTreeMap<Node, Duration>,
    flags: Flags,
    sabotage: Sabotage,
}

pub(super) fn router_id(node: Node) -> RouterId {
    let (base, index) = match node {
        Node::Worker(index) => (0x0a00_0000, index),
        Node::Reflector(index) => (0x0aff_0000, index),
    };
    RouterId(base + u32::try_from(index).unwrap_or_default())
}

fn address(node: Node, flags: Flags) -> IpAddr {
    let id = router_id(node).0;
    if flags.ipv6 {
        let [a, b] = [id >> 16, id & 0xffff].map(|half| u16::try_from(half).unwrap_or_default());
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, a, b))
    } else {
        IpAddr::V4(Ipv4Addr::from(id))
    }
}

impl Fabric {
    /// A fabric of these sizes whose processes start at once.
    pub fn new(
        seed: u64,
        (workers, reflectors): (usize, usize),
        flags: Flags,
        sabotage: Sabotage,
        trace: Trace,
    ) -> Self {
        let mut random = Random::new(seed);
        let machine = |index| {
            let vtep = address(Node::Worker(index), flags);
            let kernel = Memory::silent(vtep, MTU);
            let adopts = flags.adopts && index + 1 == workers;
            if adopts {
                kernel.set_adopted();
            }
            Machine { index, vtep, adopts, kernel, store: BTreeMap::new(), polling: false }
        };
        let machines: Vec<Machine> = (0..workers).map(machine).collect();
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
            paused: BTreeMap::new(),
            ahead: BTreeMap::new(),
            flags,
            sabotage,
            random,
        };
        (0..reflectors).for_each(|index| fabric.start(Node::Reflector(index)));
        (0..workers).for_each(|index| fabric.start(Node::Worker(index)));
        fabric
    }

    /// The VTEP address of a worker, whether it exists or not.
    pub fn vtep(&self, worker: usize) -> IpAddr {
        address(Node::Worker(worker), self.flags)
    }

    /// The worker with a VTEP address.
    pub fn worker_at(&self, vtep: IpAddr) -> Option<usize> {
        let id = match vtep {
            IpAddr::V4(address) => u32::from(address),
            IpAddr::V6(address) => u32::from_be_bytes(*address.octets().last_chunk()?),
        };
        let index = usize::try_from(id.checked_sub(router_id(Node::Worker(0)).0)?).ok()?;
        (index < self.machines.len() && self.vtep(index) == vtep).then_some(index)
    }

    /// Adds a line to the trace.
    pub fn note(&mut self, line: std::fmt::Arguments<'_>) {
        self.trace.note(self.clock.now(), line);
    }

    /// Whether a machine's process runs.
    pub fn runs(&self, node: Node) -> bool {
        match node {
            Node::Worker(index) => self.workers.get(index).is_some_and(Option::is_some),
            Node::Reflector(index) => self.reflectors.get(index).is_some_and(Option::is_some),
        }
    }

    /// Whether a process does nothing for a while.
    pub fn is_paused(&self, node: Node) -> bool {
        self.paused.contains_key(&node)
    }

    // ---- processes ----

    fn session(&mut self, node: Node) -> PeerConfig {
        let mut config = PeerConfig::new(ASN, router_id(node));
        config.remote_asn = Some(ASN);
        config.jitter_seed = self.random.next();
        if self.flags.hold_secs > 0 {
            config.hold_time_secs = self.flags.hold_secs;
        }
        config.passive = matches!(node, Node::Reflector(_)) && !self.flags.reflectors_dial;
        if let Some(restart) = &mut config.graceful_restart {
            restart.families.iter_mut().for_each(|(_, forwarding)| *forwarding = true);
            // As the daemons ask by themselves.
            let stale_time_secs = if matches!(node, Node::Reflector(_)) { 86_400 } else { 600 };
            restart.long_lived = Some(LongLivedConfig { stale_time_secs, max_stale_time_secs: 86_400 });
        }
        config
    }

    /// The process's neighbours: every reflector of a worker, every worker of a reflector.
    fn neighbors(&mut self, node: Node) -> Vec<Neighbor> {
        let (remotes, class): (Vec<Node>, _) = match node {
            Node::Worker(_) => ((0..self.reflectors.len()).map(Node::Reflector).collect(), PeerClass::NonClient),
            Node::Reflector(_) => ((0..self.machines.len()).map(Node::Worker).collect(), PeerClass::Client),
        };
        let neighbor = |remote| {
            let address = address(remote, self.flags);
            let own = matches!(remote, Node::Worker(_)) && self.sabotage != Sabotage::BelieveAll;
            let permission = Permission { next_hops: own.then(|| [address].into()), vnis: None };
            Neighbor { remote, address, class, permission: permission.into(), session: self.session(node) }
        };
        remotes.into_iter().map(neighbor).collect()
    }

    fn speaker(&mut self, node: Node, role: Role) -> Speaker {
        let life = self.lives.entry(node).or_default();
        *life += 1;
        let life = *life;
        let mut config = RibConfig::new(role, ASN, router_id(node), address(node, self.flags));
        config.hash_seed = self.random.next();
        let neighbors = self.neighbors(node);
        Speaker::new(node, life, config, neighbors, &mut self.surroundings(node))
    }

    /// Starts a process that does not run.
    pub fn start(&mut self, node: Node) {
        if !self.runs(node) {
            self.note(format_args!("{node} starts"));
            match node {
                Node::Worker(index) => self.start_worker(index),
                Node::Reflector(index) => self.start_reflector(index),
            }
        }
    }

    fn start_reflector(&mut self, index: usize) {
        let mut speaker = self.speaker(Node::Reflector(index), Role::Reflector { cluster_id: Some(1) });
        if self.sabotage == Sabotage::SpeakTooSoon {
            speaker.rib.set_expected_peers([]);
        } else if self.flags.expects_peers {
            let peers = (0..self.machines.len()).filter_map(|worker| u32::try_from(worker).ok().map(PeerId));
            speaker.rib.set_expected_peers(peers);
        }
        if let Some(slot) = self.reflectors.get_mut(index) {
            *slot = Some(Box::new(speaker));
        }
        self.with_reflector(index, |_, _| {});
    }

    /// A worker adopts what its kernel holds.
    fn start_worker(&mut self, index: usize) {
        let node = Node::Worker(index);
        let engine = Engine::new(evpn::Config::new(ASN, router_id(node), self.vtep(index)));
        let speaker = self.speaker(node, Role::Worker);
        self.with_machine(index, |around| around.machine.polling = false);
        let worker = self.with_machine(index, |around| Worker::start(speaker, engine, around));
        if let Some(slot) = self.workers.get_mut(index) {
            *slot = worker.map(Box::new);
        }
        self.with_worker(index, |_, _| {});
        for port in self.truth.due_deletions(index) {
            self.delete(index, &port);
        }
    }

    /// Ends a process: without a word, or as SIGTERM does.
    pub fn end(&mut self, node: Node, gracefully: bool) {
        let stop = |speaker: &mut Speaker, world: &mut Surroundings<'_>| {
            if gracefully {
                speaker.stop(None, &StopReason::Restart, world);
            }
        };
        if !self.runs(node) {
            return;
        }
        self.note(format_args!("{node} {}", if gracefully { "is told to stop" } else { "is killed" }));
        self.resume(node, true);
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

    fn surroundings(&mut self, node: Node) -> Surroundings<'_> {
        let Self { clock, network, random, trace, ahead, sabotage, .. } = self;
        let now = clock.now() + ahead.get(&node).copied().unwrap_or_default();
        Surroundings { clock, network, random, trace, now, sabotage: *sabotage }
    }

    fn with_machine<T>(&mut self, index: usize, what: impl FnOnce(&mut Around<'_, '_>) -> T) -> Option<T> {
        let mut machine = self.machines.get(index)?.clone();
        let mut world = self.surroundings(Node::Worker(index));
        let result = what(&mut Around { world: &mut world, machine: &mut machine });
        *self.machines.get_mut(index)? = machine;
        Some(result)
    }

    /// Lets something happen to a worker that runs, and what follows from it.
    pub fn with_worker(&mut self, index: usize, what: impl FnOnce(&mut Worker, &mut Around<'_, '_>)) {
        let Some(mut worker) = self.workers.get_mut(index).and_then(Option::take) else { return };
        let Self { clock, network, random, trace, machines, ahead, sabotage, .. } = self;
        let Some(machine) = machines.get_mut(index) else { return };
        let now = clock.now() + ahead.get(&Node::Worker(index)).copied().unwrap_or_default();
        let mut world = Surroundings { clock, network, random, trace, now, sabotage: *sabotage };
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
        let mut world = self.surroundings(Node::Reflector(index));
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
        let ahead = self.ahead.get(&node).copied().unwrap_or_default();
        let Some(at) = deadline.map(|local| local - ahead) else { return };
        if self.wakes.get(&node).is_none_or(|armed| *armed > at) {
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
        self.lives.get(&node) == Some(&life) && self.runs(node)
    }

    // ---- time ----

    /// A process does nothing for a while; what happens to it meanwhile waits.
    pub fn pause(&mut self, node: Node, time: Duration) {
        if self.runs(node) && !self.is_paused(node) {
            self.note(format_args!("{node} does nothing for {time:?}"));
            self.paused.insert(node, VecDeque::new());
            self.clock.after(time, Happening::Resume(node));
        }
    }

    /// It goes on, with what waited; or what waited happens to whoever is there then.
    fn resume(&mut self, node: Node, is_over: bool) {
        for what in self.paused.remove(&node).unwrap_or_default() {
            if is_over {
                self.clock.after(Duration::ZERO, what);
            } else {
                self.happen(what);
            }
        }
    }

    /// Everybody goes on.
    pub fn resume_all(&mut self) {
        for node in self.paused.keys().copied().collect::<Vec<_>>() {
            self.resume(node, false);
        }
    }

    /// A machine's clock leaps ahead.
    pub fn leap(&mut self, node: Node, time: Duration) {
        self.note(format_args!("the clock of {node} leaps ahead by {time:?}"));
        *self.ahead.entry(node).or_default() += time;
        self.wakes.remove(&node);
        self.with_speaker(node, |_, _| {});
    }

    // ---- the loop ----

    /// Lets time pass.
    ///
    /// # Errors
    /// More happens than can be explained.
    pub fn run_until(&mut self, limit: Instant) -> Result<(), String> {
        while let Some(what) = self.clock.next(limit) {
            self.happenings += 1;
            if self.happenings > MOST_HAPPENINGS * self.machines.len() as u64 {
                return Err(format!("{} happenings: something goes in circles, now {what:?}", self.happenings));
            }
            self.happen(what);
        }
        Ok(())
    }

    /// The process that something happens to.
    fn concerned(&self, what: &Happening) -> Option<Node> {
        match what {
            Happening::Wake(node) | Happening::Refused { node, .. } => Some(*node),
            Happening::Knock { to, .. } => Some(*to),
            Happening::Opened { stream, side, .. } | Happening::Room { stream, side } => {
                self.network.stream(*stream).map(|stream| stream.end(*side).0)
            }
            Happening::Arrival { stream, from } => {
                self.network.stream(*stream).map(|stream| stream.end(from.other()).0)
            }
            Happening::Kernel { worker, .. } | Happening::Delete { worker, .. } => Some(Node::Worker(*worker)),
            Happening::Resume(_) | Happening::Frame { .. } | Happening::PodDies { .. } => None,
        }
    }

    fn happen(&mut self, what: Happening) {
        if !self.paused.is_empty()
            && let Some(node) = self.concerned(&what)
            && let Some(waiting) = self.paused.get_mut(&node)
        {
            return waiting.push_back(what);
        }
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
            Happening::Resume(node) => self.resume(node, false),
            Happening::Frame { port, source } => self.frame(&port, source),
            Happening::PodDies { port } => self.pod_dies(&port),
            Happening::Delete { worker, port } => self.delete(worker, &port),
        }
    }

    fn wake(&mut self, node: Node) {
        if self.wakes.get(&node).is_some_and(|at| *at <= self.clock.now()) {
            self.wakes.remove(&node);
        }
        match node {
            Node::Worker(index) => self.with_worker(index, |worker, around| {
                if worker.next_deadline() <= around.world.now {
                    worker.handle_timeout(around);
                }
            }),
            Node::Reflector(index) => self.with_reflector(index, |speaker, world| {
                if speaker.next_deadline().is_some_and(|at| at <= world.now) {
                    speaker.handle_timeout(world);
                }
            }),
        }
    }

    fn knock(&mut self, from: (Node, u32), to: Node, attempt: u64) {
        let listens = match to {
            // Workers listen only where reflectors dial.
            Node::Worker(_) => self.flags.reflectors_dial,
            Node::Reflector(_) => true,
        };
        let server = (to, self.lives.get(&to).copied().unwrap_or_default());
        if self.network.is_cut(from.0, to) || self.network.is_cut(to, from.0) {
            return;
        }
        if listens && self.is_alive(server) {
            self.network.open(from, server, attempt, &mut self.clock, &mut self.random);
        } else {
            self.network.refuse(from, to, attempt, &mut self.clock, &mut self.random);
        }
    }

    /// Ends the session between a worker and a reflector, from the one side or the other.
    pub fn end_session(&mut self, worker: usize, reflector: usize, from: Side, exhausted: bool) {
        let (worker, reflector) = (Node::Worker(worker), Node::Reflector(reflector));
        let (here, there) = if from == Side::Client { (worker, reflector) } else { (reflector, worker) };
        let reason = if exhausted { StopReason::OutOfResources } else { StopReason::Reset { administrative: true } };
        if !self.is_paused(here) {
            self.note(format_args!("{here} ends its session with {there}"));
            self.with_speaker(here, |speaker, world| speaker.stop(Some(there), &reason, world));
        }
    }
}
