//! A scenario from a seed: disturbances first, then questions that have a right answer.
//!
//! The generator keeps a rough picture of what exists, so that most steps apply; what really applies is seen when the
//! scenario runs.

use std::collections::{BTreeMap, BTreeSet};

use bgp_core::time::Duration;

use super::clock::Node;
use super::link::Side;
use super::random::Random;
use super::scenario::{Flags, KernelFault, LinkChange, Probe, ProcessChange, Scenario, Step, Target};

/// LANs of a fabric; each worker may be a member of each.
pub const LANS: usize = 3;
/// MACs of pods in a LAN.
pub const HOSTS: usize = 6;
/// MACs behind pods in a LAN.
pub const STATIONS: usize = 3;
/// Questions at the end of a scenario.
const PROBES: usize = 4;
/// Sets the choices of steps apart from those within the fabric.
const SALT: u64 = 0x5eed_5eed_5eed_5eed;

struct Port {
    lan: u8,
    host: u8,
}

struct Generator {
    random: Random,
    scenario: Scenario,
    /// Ports of pods that should exist.
    live: BTreeMap<u16, Port>,
    /// Ports that somebody else made.
    foreign: BTreeMap<u8, [u16; 2]>,
    down: BTreeSet<Node>,
    ports: u16,
}

/// The scenario of a seed.
pub fn generate(seed: u64, nodes: usize, steps: usize) -> Scenario {
    let mut random = Random::new(seed ^ SALT);
    let reflectors = [1, 2, 2, 2, 2, 3][random.below(6)];
    let flags = Flags {
        ipv6: random.chance(25),
        reflectors_dial: random.chance(30),
        expects_peers: random.chance(70),
        adopts: nodes > 1 && random.chance(25),
        hold_secs: [0, 30, 30, 90][random.below(4)],
    };
    let scenario = Scenario { seed, nodes, reflectors, flags, steps: Vec::new() };
    let (live, foreign) = (BTreeMap::new(), BTreeMap::new());
    let mut generator = Generator { random, scenario, live, foreign, down: BTreeSet::new(), ports: 0 };
    for _ in 0..steps {
        generator.disturb();
        let time = generator.pause();
        generator.push(Step::Wait(time));
    }
    if !generator.live.is_empty() {
        for _ in 0..PROBES {
            generator.probe();
        }
    }
    generator.scenario
}

impl Generator {
    fn push(&mut self, step: Step) {
        self.scenario.steps.push(step);
    }

    fn pause(&mut self) -> Duration {
        match self.random.below(10) {
            0 => self.random.micros(0, 20_000_000),
            1..4 => self.random.micros(0, 2_000_000),
            _ => self.random.micros(0, 50_000),
        }
    }

    // ---- choices ----

    fn small(&mut self, bound: usize) -> u8 {
        u8::try_from(self.random.below(bound)).unwrap_or_default()
    }

    /// A worker whose ports are made by ADDs.
    fn worker(&mut self) -> usize {
        self.random.below(self.scenario.nodes - usize::from(self.scenario.flags.adopts))
    }

    fn any_worker(&mut self) -> usize {
        self.random.below(self.scenario.nodes)
    }

    fn reflector(&mut self) -> usize {
        self.random.below(self.scenario.reflectors)
    }

    fn node(&mut self) -> Node {
        if self.random.chance(60) { Node::Worker(self.any_worker()) } else { Node::Reflector(self.reflector()) }
    }

    fn new_port(&mut self) -> u16 {
        self.ports += 1;
        self.ports
    }

    fn live_port(&mut self) -> Option<u16> {
        let ports: Vec<u16> = self.live.keys().copied().collect();
        self.random.pick(&ports)
    }

    /// A port of any kind.
    fn port(&mut self) -> Option<u16> {
        let ports: Vec<u16> = self.live.keys().chain(self.foreign.values().flatten()).copied().collect();
        self.random.pick(&ports)
    }

    // ---- disturbances ----

    fn disturb(&mut self) {
        match self.random.below(100) {
            0..20 => self.attach(),
            20..28 => self.detach(),
            28..34 => self.die(),
            34..44 => self.move_by_add(),
            44..60 => self.speak(),
            60..75 => self.transport(),
            75..85 => self.process(),
            85..89 => self.time(),
            89..92 if self.scenario.flags.adopts => self.foreign_lan(),
            92..94 => self.lie(),
            _ => self.kernel(),
        }
    }

    fn add(&mut self, lan: u8, host: u8, worker: usize) {
        let port = self.new_port();
        self.live.insert(port, Port { lan, host });
        self.push(Step::Add { port, lan, host, worker });
    }

    fn attach(&mut self) {
        let (lan, host, worker) = (self.small(LANS), self.small(HOSTS), self.worker());
        self.add(lan, host, worker);
    }

    fn detach(&mut self) {
        if let Some(port) = self.live_port() {
            self.live.remove(&port);
            self.push(Step::Delete { port });
        }
    }

    fn die(&mut self) {
        if let Some(port) = self.live_port() {
            self.live.remove(&port);
            self.push(Step::Die { port, after: Duration::ZERO });
        }
    }

    /// The same MAC elsewhere; its old port goes later, or stays.
    fn move_by_add(&mut self) {
        let Some(port) = self.live_port() else { return self.attach() };
        let Some(&Port { lan, host }) = self.live.get(&port) else { return };
        let worker = self.worker();
        self.add(lan, host, worker);
        if self.random.chance(75) {
            let after = self.random.micros(0, 3_000_000);
            self.live.remove(&port);
            self.push(Step::Die { port, after });
        }
    }

    fn speak(&mut self) {
        let Some(port) = self.port() else { return self.attach() };
        let number = self.small(STATIONS);
        let step = match self.random.below(20) {
            0..6 => Step::Speak { port },
            6..8 => {
                let (other, times) = (self.port().unwrap_or(port), 2 + self.small(12));
                Step::Flap { number, ports: [port, other], times, every: self.random.micros(1_000, 800_000) }
            }
            8 => Step::Pin { number, port },
            _ => Step::Station { number, port },
        };
        self.push(step);
    }

    fn transport(&mut self) {
        let (worker, reflector) = (self.any_worker(), self.reflector());
        if self.random.chance(15) {
            let by = if self.random.chance(50) { Side::Client } else { Side::Server };
            let exhausted = self.random.chance(30);
            return self.push(Step::Session { worker, reflector, by, exhausted });
        }
        let change = match self.random.below(9) {
            0 | 1 => LinkChange::Cut,
            2 => LinkChange::CutUp,
            3 => LinkChange::CutDown,
            4 | 5 => LinkChange::Restore,
            6 => LinkChange::Reset,
            _ => LinkChange::Latency(self.random.micros(50, 500_000)),
        };
        self.push(Step::Link { worker, reflector, change });
    }

    fn process(&mut self) {
        if self.random.chance(8) {
            let after = self.random.micros(0, 20_000_000);
            return self.push(Step::ColdStart { after });
        }
        let node = self.node();
        if !self.down.remove(&node) {
            let change = if self.random.chance(30) { ProcessChange::Term } else { ProcessChange::Kill };
            self.push(Step::Process { node, change });
            if self.random.chance(50) {
                self.down.insert(node);
                return;
            }
        }
        self.push(Step::Process { node, change: ProcessChange::Start });
    }

    fn time(&mut self) {
        let node = self.node();
        let step = if self.random.chance(60) {
            Step::Pause { node, time: self.random.micros(1_000, 15_000_000) }
        } else {
            Step::Leap { node, time: self.random.micros(1_000_000, 400_000_000) }
        };
        self.push(step);
    }

    fn lie(&mut self) {
        let (worker, victim) = (self.any_worker(), self.any_worker());
        let (lan, host) = (self.small(LANS), self.small(HOSTS));
        if worker != victim {
            self.push(Step::Lie { worker, victim, lan, host });
        }
    }

    fn foreign_lan(&mut self) {
        let lan = self.small(LANS);
        if self.foreign.remove(&lan).is_some() {
            return self.push(Step::Vanish { lan });
        }
        let ports = [self.new_port(), self.new_port()];
        self.foreign.insert(lan, ports);
        self.push(Step::Appear { lan, ports });
    }

    fn target(&mut self) -> Target {
        let lan = self.small(LANS);
        match self.random.below(4) {
            0 => Target::Tunnel(lan),
            1 => Target::Flood(lan, self.any_worker()),
            2 => Target::Station(lan, self.small(STATIONS)),
            _ => Target::Host(lan, self.small(HOSTS)),
        }
    }

    fn kernel(&mut self) {
        let worker = self.any_worker();
        let few = 1 + u32::from(self.small(4));
        let fault = match self.random.below(9) {
            0 => KernelFault::Overrun,
            1 | 2 => KernelFault::Deaf,
            3 => KernelFault::Unreadable(few),
            4 | 5 => {
                let errno = [libc::ENOMEM, libc::ENOBUFS, libc::EEXIST, libc::EBUSY][self.random.below(4)];
                KernelFault::Fail(self.target(), few, errno)
            }
            6 => KernelFault::Rows(if self.random.chance(50) { self.small(4) } else { u8::MAX }),
            7 => KernelFault::Write(self.target(), self.any_worker()),
            _ => KernelFault::Remove(self.target()),
        };
        self.push(Step::Kernel { worker, fault });
        if self.random.chance(40) {
            self.push(Step::Kernel { worker, fault: KernelFault::Hears });
        }
    }

    // ---- questions ----

    fn probe(&mut self) {
        let Some(port) = self.live_port() else { return };
        let Some(&Port { lan, host }) = self.live.get(&port) else { return };
        let worker = self.worker();
        let claimed = |generator: &mut Self| {
            let new = generator.new_port();
            generator.live.insert(new, Port { lan, host });
            new
        };
        let probe = match self.random.below(10) {
            0..4 => {
                let new = claimed(self);
                let dies = self.random.chance(70).then(|| self.random.micros(0, 1_500_000));
                if dies.is_some() {
                    self.live.remove(&port);
                }
                let down = (self.scenario.reflectors > 1 && self.random.chance(30)).then(|| self.reflector());
                Probe::Move { port, worker, new, dies, down }
            }
            4 | 5 => {
                let (first, second) = ((worker, claimed(self)), (self.worker(), claimed(self)));
                Probe::Twice { port, first, second, apart: self.random.micros(2_500_000, 9_000_000) }
            }
            6 => Probe::DeadOwner { port, worker, new: claimed(self) },
            7 => {
                let new = claimed(self);
                Probe::UnknownOwner { port, worker, new, down: self.random.micros(0, 40_000_000) }
            }
            8 => Probe::ColdStart { down: self.random.micros(0, 60_000_000) },
            _ => {
                let (worker, gracefully) = (self.any_worker(), self.random.chance(50));
                Probe::Restart { worker, down: self.random.micros(0, 60_000_000), gracefully }
            }
        };
        self.push(Step::Probe(probe));
    }
}
