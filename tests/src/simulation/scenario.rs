//! A scenario: the sizes of a fabric and the steps that happen to it, as text that can be read, kept, cut and replayed.
//!
//! Steps name ports, workers and reflectors by number. A step that does not apply when its turn comes (a port that is gone, a
//! worker that does not run) is left out, so any steps can be removed and the rest still makes sense. Delays and other
//! choices within the fabric follow from the seed.

use std::fmt;
use std::str::FromStr;

use bgp_core::time::Duration;
use bgp_core::types::{MacAddr, Vni};

use super::clock::Node;
use super::link::Side;

/// A whole scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Choices within the fabric.
    pub seed: u64,
    /// Workers.
    pub nodes: usize,
    /// Reflectors.
    pub reflectors: usize,
    /// What kind of fabric it is.
    pub flags: Flags,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// What kind of fabric it is.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Flags {
    /// VTEPs have IPv6 addresses.
    pub ipv6: bool,
    /// Reflectors dial too.
    pub reflectors_dial: bool,
    /// Reflectors know which workers to expect.
    pub expects_peers: bool,
    /// The last worker serves devices that somebody else makes.
    pub adopts: bool,
    /// Hold time of sessions in seconds; 0 for the default.
    pub hold_secs: u16,
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are called as in the text")]
pub enum Step {
    /// Time passes.
    Wait(Duration),
    /// An ADD.
    Add { port: u16, lan: u8, host: u8, worker: usize },
    /// A DEL.
    Delete { port: u16 },
    /// A pod goes with its interface; its DEL comes later.
    Die { port: u16, after: Duration },
    /// A pod says something.
    Speak { port: u16 },
    /// A station behind a port says something.
    Station { number: u8, port: u16 },
    /// A station is heard behind two ports in turn.
    Flap { number: u8, ports: [u16; 2], times: u8, every: Duration },
    /// An administrator pins a station to a port.
    Pin { number: u8, port: u16 },
    /// A LAN that somebody else makes, at the worker that adopts.
    Appear { lan: u8, ports: [u16; 2] },
    /// It goes.
    Vanish { lan: u8 },
    /// Something happens to a link.
    Link { worker: usize, reflector: usize, change: LinkChange },
    /// One side ends a session.
    Session { worker: usize, reflector: usize, by: Side, exhausted: bool },
    /// A process ends, or begins.
    Process { node: Node, change: ProcessChange },
    /// All reflectors are killed, and all begin again after a while.
    ColdStart { after: Duration },
    /// A process does nothing for a while.
    Pause { node: Node, time: Duration },
    /// A machine's clock leaps ahead, as after a suspension.
    Leap { node: Node, time: Duration },
    /// Something happens to a kernel.
    Kernel { worker: usize, fault: KernelFault },
    /// A worker announces routes to another's VTEP.
    Lie { worker: usize, victim: usize, lan: u8, host: u8 },
    /// Faults stop; all must become exact.
    Calm,
    /// See [`Probe`].
    Probe(Probe),
}

/// What happens to a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LinkChange {
    /// Nothing passes.
    Cut,
    /// Nothing passes from the worker.
    CutUp,
    /// Nothing passes to the worker.
    CutDown,
    /// Everything passes again.
    Restore,
    /// Streams end.
    Reset,
    /// It takes so long.
    Latency(Duration),
}

/// What happens to a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProcessChange {
    /// SIGKILL.
    Kill,
    /// SIGTERM.
    Term,
    /// It begins.
    Start,
}

/// A thing in a kernel that a fault is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Target {
    /// The VXLAN device of a LAN.
    Tunnel(u8),
    /// The flood row to a worker.
    Flood(u8, usize),
    /// The row of a pod's MAC.
    Host(u8, u8),
    /// The row of a station's MAC.
    Station(u8, u8),
}

/// What happens to a kernel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KernelFault {
    /// What waits is lost, and that is told.
    Overrun,
    /// Notifications get lost without a word.
    Deaf,
    /// No more, and an overrun is told.
    Hears,
    /// So many reads fail.
    Unreadable(u32),
    /// So many writes fail with this error number.
    Fail(Target, u32, i32),
    /// The tables take so many rows of remote MACs; 255 for any number.
    Rows(u8),
    /// Somebody else removes something.
    Remove(Target),
    /// Somebody else points a row to another worker.
    Write(Target, usize),
}

/// A question with a right answer. It is asked in a calm fabric, which it waits for.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are called as in the text")]
pub enum Probe {
    /// The MAC of a port is claimed by another: frames for it arrive there within a bound. The old port dies, or stays; a
    /// reflector may be down.
    Move { port: u16, worker: usize, new: u16, dies: Option<Duration>, down: Option<usize> },
    /// It is claimed twice: the newer claim wins.
    Twice { port: u16, first: (usize, u16), second: (usize, u16), apart: Duration },
    /// Its owner's worker is dead: the claim wins.
    DeadOwner { port: u16, worker: usize, new: u16 },
    /// No reflector is there when it is claimed: the claim wins when they are.
    UnknownOwner { port: u16, worker: usize, new: u16, down: Duration },
    /// All reflectors die, and all begin empty at once: no frame is lost.
    ColdStart { down: Duration },
    /// A worker restarts: no frame is lost.
    Restart { worker: usize, down: Duration, gracefully: bool },
}

// ---- names ----

/// The VNI of a LAN.
pub fn vni_of(lan: u8) -> Option<Vni> {
    Vni::new(u32::from(lan) + 1)
}

/// A MAC that belongs to a LAN: which LAN can be read off it.
pub fn mac_of(lan: u8, kind: u8, number: u8) -> MacAddr {
    MacAddr([2, 0, 0, lan + 1, kind, number])
}

/// The MAC of a pod's interface.
pub fn host_mac(lan: u8, host: u8) -> MacAddr {
    mac_of(lan, 1, host)
}

/// The MAC of a station behind a port.
pub fn station_mac(lan: u8, number: u8) -> MacAddr {
    mac_of(lan, 2, number)
}

// ---- text ----

struct Secs(Duration);

impl fmt::Display for Secs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0.as_secs(), self.0.subsec_micros())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tunnel(lan) => write!(f, "tunnel {lan}"),
            Self::Flood(lan, worker) => write!(f, "flood {lan} w{worker}"),
            Self::Host(lan, host) => write!(f, "host {lan} {host}"),
            Self::Station(lan, number) => write!(f, "station {lan} {number}"),
        }
    }
}

impl fmt::Display for KernelFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overrun => f.write_str("overrun"),
            Self::Deaf => f.write_str("deaf"),
            Self::Hears => f.write_str("hears"),
            Self::Unreadable(times) => write!(f, "unreadable {times}"),
            Self::Fail(target, times, errno) => write!(f, "fail {times} errno {errno} {target}"),
            Self::Rows(rows) => write!(f, "rows {rows}"),
            Self::Remove(target) => write!(f, "remove {target}"),
            Self::Write(target, worker) => write!(f, "write w{worker} {target}"),
        }
    }
}

impl fmt::Display for LinkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut => f.write_str("cut"),
            Self::CutUp => f.write_str("cut-up"),
            Self::CutDown => f.write_str("cut-down"),
            Self::Restore => f.write_str("restore"),
            Self::Reset => f.write_str("reset"),
            Self::Latency(time) => write!(f, "latency {}", Secs(*time)),
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Move { port, worker, new, dies, down } => {
                write!(f, "move p{port} w{worker} p{new}")?;
                dies.iter().try_for_each(|after| write!(f, " dies {}", Secs(*after)))?;
                down.iter().try_for_each(|reflector| write!(f, " down r{reflector}"))
            }
            Self::Twice { port, first: (a, p), second: (b, q), apart } => {
                write!(f, "twice p{port} w{a} p{p} w{b} p{q} apart {}", Secs(*apart))
            }
            Self::DeadOwner { port, worker, new } => write!(f, "dead-owner p{port} w{worker} p{new}"),
            Self::UnknownOwner { port, worker, new, down } => {
                write!(f, "unknown-owner p{port} w{worker} p{new} down {}", Secs(*down))
            }
            Self::ColdStart { down } => write!(f, "cold-start {}", Secs(*down)),
            Self::Restart { worker, down, gracefully } => {
                write!(f, "restart w{worker} {} {}", Secs(*down), if *gracefully { "term" } else { "kill" })
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait(time) => write!(f, "wait {}", Secs(*time)),
            Self::Add { port, lan, host, worker } => write!(f, "add p{port} lan {lan} host {host} w{worker}"),
            Self::Delete { port } => write!(f, "del p{port}"),
            Self::Die { port, after } => write!(f, "die p{port} after {}", Secs(*after)),
            Self::Speak { port } => write!(f, "speak p{port}"),
            Self::Station { number, port } => write!(f, "station {number} p{port}"),
            Self::Flap { number, ports: [a, b], times, every } => {
                write!(f, "flap {number} p{a} p{b} times {times} every {}", Secs(*every))
            }
            Self::Pin { number, port } => write!(f, "pin {number} p{port}"),
            Self::Appear { lan, ports: [a, b] } => write!(f, "appear lan {lan} p{a} p{b}"),
            Self::Vanish { lan } => write!(f, "vanish lan {lan}"),
            Self::Link { worker, reflector, change } => write!(f, "link w{worker} r{reflector} {change}"),
            Self::Session { worker, reflector, by, exhausted } => {
                let by = if *by == Side::Client { "worker" } else { "reflector" };
                write!(f, "session w{worker} r{reflector} by {by} {}", if *exhausted { "exhausted" } else { "reset" })
            }
            Self::Process { node, change: ProcessChange::Kill } => write!(f, "kill {node}"),
            Self::Process { node, change: ProcessChange::Term } => write!(f, "term {node}"),
            Self::Process { node, change: ProcessChange::Start } => write!(f, "start {node}"),
            Self::ColdStart { after } => write!(f, "cold-start {}", Secs(*after)),
            Self::Pause { node, time } => write!(f, "pause {node} {}", Secs(*time)),
            Self::Leap { node, time } => write!(f, "leap {node} {}", Secs(*time)),
            Self::Kernel { worker, fault } => write!(f, "kernel w{worker} {fault}"),
            Self::Lie { worker, victim, lan, host } => write!(f, "lie w{worker} as w{victim} lan {lan} host {host}"),
            Self::Calm => f.write_str("calm"),
            Self::Probe(probe) => write!(f, "probe {probe}"),
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Flags { ipv6, reflectors_dial, expects_peers, adopts, hold_secs } = self.flags;
        write!(f, "fabric seed {} workers {} reflectors {}", self.seed, self.nodes, self.reflectors)?;
        let flags = [(ipv6, "ipv6"), (reflectors_dial, "dial"), (expects_peers, "expect"), (adopts, "adopt")];
        flags.iter().filter(|(set, _)| *set).try_for_each(|(_, name)| write!(f, " {name}"))?;
        if hold_secs > 0 {
            write!(f, " hold {hold_secs}")?;
        }
        self.steps.iter().try_for_each(|step| write!(f, "\n{step}"))?;
        f.write_str("\n")
    }
}

/// The words of one line.
struct Words<'a>(std::str::SplitWhitespace<'a>);

impl Words<'_> {
    fn next(&mut self) -> Option<&str> {
        self.0.next()
    }

    fn number<T: FromStr>(&mut self) -> Option<T> {
        self.0.next()?.parse().ok()
    }

    /// A number after a letter.
    fn named<T: FromStr>(&mut self, letter: char) -> Option<T> {
        self.0.next()?.strip_prefix(letter)?.parse().ok()
    }

    /// A number after a word.
    fn after<T: FromStr>(&mut self, word: &str) -> Option<T> {
        self.0.next().filter(|next| *next == word)?;
        self.number()
    }

    fn time(&mut self) -> Option<Duration> {
        Duration::try_from_secs_f64(self.number()?).ok()
    }

    fn time_after(&mut self, word: &str) -> Option<Duration> {
        self.0.next().filter(|next| *next == word)?;
        self.time()
    }

    fn node(&mut self) -> Option<Node> {
        let word = self.0.next()?;
        let number = |letter| word.strip_prefix(letter)?.parse().ok();
        number('w').map(Node::Worker).or(number('r').map(Node::Reflector))
    }

    fn target(&mut self) -> Option<Target> {
        Some(match self.next()? {
            "tunnel" => Target::Tunnel(self.number()?),
            "flood" => Target::Flood(self.number()?, self.named('w')?),
            "host" => Target::Host(self.number()?, self.number()?),
            "station" => Target::Station(self.number()?, self.number()?),
            _ => return None,
        })
    }

    fn fault(&mut self) -> Option<KernelFault> {
        Some(match self.next()? {
            "overrun" => KernelFault::Overrun,
            "deaf" => KernelFault::Deaf,
            "hears" => KernelFault::Hears,
            "unreadable" => KernelFault::Unreadable(self.number()?),
            "rows" => KernelFault::Rows(self.number()?),
            "remove" => KernelFault::Remove(self.target()?),
            "fail" => {
                let (times, errno) = (self.number()?, self.after("errno")?);
                KernelFault::Fail(self.target()?, times, errno)
            }
            "write" => {
                let worker = self.named('w')?;
                KernelFault::Write(self.target()?, worker)
            }
            _ => return None,
        })
    }

    fn link_change(&mut self) -> Option<LinkChange> {
        Some(match self.next()? {
            "cut" => LinkChange::Cut,
            "cut-up" => LinkChange::CutUp,
            "cut-down" => LinkChange::CutDown,
            "restore" => LinkChange::Restore,
            "reset" => LinkChange::Reset,
            "latency" => LinkChange::Latency(self.time()?),
            _ => return None,
        })
    }

    fn probe(&mut self) -> Option<Probe> {
        Some(match self.next()? {
            "move" => {
                let (port, worker, new) = (self.named('p')?, self.named('w')?, self.named('p')?);
                let (mut dies, mut down) = (None, None);
                while let Some(word) = self.next() {
                    match word {
                        "dies" => dies = Some(self.time()?),
                        "down" => down = Some(self.named('r')?),
                        _ => return None,
                    }
                }
                Probe::Move { port, worker, new, dies, down }
            }
            "twice" => Probe::Twice {
                port: self.named('p')?,
                first: (self.named('w')?, self.named('p')?),
                second: (self.named('w')?, self.named('p')?),
                apart: self.time_after("apart")?,
            },
            "dead-owner" => {
                Probe::DeadOwner { port: self.named('p')?, worker: self.named('w')?, new: self.named('p')? }
            }
            "unknown-owner" => Probe::UnknownOwner {
                port: self.named('p')?,
                worker: self.named('w')?,
                new: self.named('p')?,
                down: self.time_after("down")?,
            },
            "cold-start" => Probe::ColdStart { down: self.time()? },
            "restart" => Probe::Restart {
                worker: self.named('w')?,
                down: self.time()?,
                gracefully: match self.next()? {
                    "term" => true,
                    "kill" => false,
                    _ => return None,
                },
            },
            _ => return None,
        })
    }

    fn step(&mut self) -> Option<Step> {
        let process = |words: &mut Self, change| Some(Step::Process { node: words.node()?, change });
        Some(match self.next()? {
            "wait" => Step::Wait(self.time()?),
            "add" => Step::Add {
                port: self.named('p')?,
                lan: self.after("lan")?,
                host: self.after("host")?,
                worker: self.named('w')?,
            },
            "del" => Step::Delete { port: self.named('p')? },
            "die" => Step::Die { port: self.named('p')?, after: self.time_after("after")? },
            "speak" => Step::Speak { port: self.named('p')? },
            "station" => Step::Station { number: self.number()?, port: self.named('p')? },
            "flap" => Step::Flap {
                number: self.number()?,
                ports: [self.named('p')?, self.named('p')?],
                times: self.after("times")?,
                every: self.time_after("every")?,
            },
            "pin" => Step::Pin { number: self.number()?, port: self.named('p')? },
            "appear" => Step::Appear { lan: self.after("lan")?, ports: [self.named('p')?, self.named('p')?] },
            "vanish" => Step::Vanish { lan: self.after("lan")? },
            "link" => {
                let (worker, reflector) = (self.named('w')?, self.named('r')?);
                Step::Link { worker, reflector, change: self.link_change()? }
            }
            "session" => {
                let (worker, reflector) = (self.named('w')?, self.named('r')?);
                let by = match (self.next()?.to_owned().as_str(), self.next()?) {
                    ("by", "worker") => Side::Client,
                    ("by", "reflector") => Side::Server,
                    _ => return None,
                };
                Step::Session { worker, reflector, by, exhausted: self.next()? == "exhausted" }
            }
            "kill" => process(self, ProcessChange::Kill)?,
            "term" => process(self, ProcessChange::Term)?,
            "start" => process(self, ProcessChange::Start)?,
            "cold-start" => Step::ColdStart { after: self.time()? },
            "pause" => Step::Pause { node: self.node()?, time: self.time()? },
            "leap" => Step::Leap { node: self.node()?, time: self.time()? },
            "kernel" => Step::Kernel { worker: self.named('w')?, fault: self.fault()? },
            "lie" => {
                let worker = self.named('w')?;
                self.next().filter(|word| *word == "as")?;
                let victim = self.named('w')?;
                Step::Lie { worker, victim, lan: self.after("lan")?, host: self.after("host")? }
            }
            "calm" => Step::Calm,
            "probe" => Step::Probe(self.probe()?),
            _ => return None,
        })
    }
}

impl FromStr for Scenario {
    type Err = String;

    /// Reads what [`Scenario`] displays; blank lines and what follows a `#` are left out.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut scenario: Option<Self> = None;
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            let mut words = Words(line.split_whitespace());
            let wrong = || format!("line {}: `{line}` is no step; see docs/simulation.md", number + 1);
            match &mut scenario {
                _ if line.is_empty() => {}
                None => scenario = Some(head(&mut words).ok_or_else(wrong)?),
                Some(scenario) => {
                    scenario.steps.push(words.step().filter(|_| words.next().is_none()).ok_or_else(wrong)?);
                }
            }
        }
        scenario.ok_or_else(|| "the scenario is empty: its first line is `fabric seed S workers N reflectors R`".into())
    }
}

fn head(words: &mut Words<'_>) -> Option<Scenario> {
    words.next().filter(|word| *word == "fabric")?;
    let seed = words.after("seed")?;
    let (nodes, reflectors) = (words.after("workers")?, words.after("reflectors")?);
    let mut flags = Flags::default();
    while let Some(word) = words.next() {
        match word {
            "ipv6" => flags.ipv6 = true,
            "dial" => flags.reflectors_dial = true,
            "expect" => flags.expects_peers = true,
            "adopt" => flags.adopts = true,
            "hold" => flags.hold_secs = words.number()?,
            _ => return None,
        }
    }
    (nodes > 0 && reflectors > 0).then_some(Scenario { seed, nodes, reflectors, flags, steps: Vec::new() })
}
