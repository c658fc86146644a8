//! Virtual time: what happens next, and when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;

use bgp_core::time::{Duration, Instant};
use bgp_core::types::MacAddr;
use dataplane::{AttachError, Attached, Change, ChangeError, Existing, Observation, PortId};
use worker_speaker::core::Attachment;

use super::link::{Side, StreamId};

/// A machine of the fabric.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Node {
    /// A reflector's.
    Reflector(usize),
    /// A worker's.
    Worker(usize),
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reflector(index) => write!(f, "r{index}"),
            Self::Worker(index) => write!(f, "w{index}"),
        }
    }
}

/// Something that happens at a time.
#[derive(Debug)]
pub enum Happening {
    /// A process looks at its timers.
    Wake(Node),
    /// A connection attempt reaches the other side.
    Knock {
        /// Who dials.
        from: Node,
        /// Which of its lives.
        life: u32,
        /// Who is called.
        to: Node,
        /// The dialler's number for the attempt.
        attempt: u64,
    },
    /// A connection attempt is refused.
    Refused {
        /// Who dialled.
        node: Node,
        /// Which of its lives.
        life: u32,
        /// Who refuses.
        by: Node,
        /// The dialler's number for the attempt.
        attempt: u64,
    },
    /// One side of a stream learns that it exists.
    Opened {
        /// The stream.
        stream: StreamId,
        /// Who learns it.
        side: Side,
        /// The dialler's number for the attempt.
        attempt: u64,
    },
    /// The next piece from one side is due at the other.
    Arrival {
        /// The stream.
        stream: StreamId,
        /// Who sent it.
        from: Side,
    },
    /// There is room for more octets.
    Room {
        /// The stream.
        stream: StreamId,
        /// Who may send.
        side: Side,
    },
    /// What a worker process asked of its kernel, or hears of it.
    Kernel {
        /// The worker.
        worker: usize,
        /// Which of its lives.
        life: u32,
        /// The work.
        what: KernelWork,
    },
    /// A process that did nothing for a while goes on.
    Resume(Node),
    /// A station, or a pod, says something behind a port.
    Frame {
        /// The port.
        port: PortId,
        /// Who says it.
        source: MacAddr,
    },
    /// A pod's interface goes, by the pod's own end.
    PodDies {
        /// The port at the worker.
        port: PortId,
    },
    /// The container runtime asks for a DEL.
    Delete {
        /// The worker.
        worker: usize,
        /// The port there.
        port: PortId,
    },
}

/// Work between a worker process and its kernel.
#[derive(Debug)]
pub enum KernelWork {
    /// The dataplane thread reads notifications.
    Poll,
    /// They reach the main loop, unless a snapshot has said it all meanwhile.
    Observed(u64, Vec<Observation>),
    /// The dataplane thread carries a batch out.
    Apply(Vec<Change>),
    /// The results reach the main loop.
    Applied(Vec<Change>, Vec<Result<(), ChangeError>>),
    /// The dataplane thread makes an interface.
    Attach(Attachment, Existing),
    /// The main loop hears of it.
    Made(Attachment, Result<Attached, AttachError>),
    /// The dataplane thread removes ports, and LANs without members.
    Detach(Vec<PortId>),
    /// The main loop hears that they are gone.
    Removed(Vec<PortId>),
}

#[derive(Debug)]
struct Entry(Instant, u64, Happening);

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// The virtual clock with everything that is to come.
#[derive(Debug, Default)]
pub struct Clock {
    now: Instant,
    order: u64,
    queue: BinaryHeap<Reverse<Entry>>,
}

impl Clock {
    /// The time.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Lets something happen after a while.
    pub fn after(&mut self, delay: Duration, what: Happening) {
        self.at(self.now + delay, what);
    }

    /// Lets something happen at a time, or now if that is past. What is due at one time happens in the order asked.
    pub fn at(&mut self, at: Instant, what: Happening) {
        self.order += 1;
        self.queue.push(Reverse(Entry(at.max(self.now), self.order, what)));
    }

    /// Moves to what happens next, up to `limit`; at the limit itself where nothing does.
    pub fn next(&mut self, limit: Instant) -> Option<Happening> {
        if self.queue.peek().is_none_or(|Reverse(entry)| entry.0 > limit) {
            self.now = self.now.max(limit);
            return None;
        }
        let Reverse(Entry(at, _, what)) = self.queue.pop()?;
        self.now = at;
        Some(what)
    }
}
