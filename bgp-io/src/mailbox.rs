//! What the owner leaves for a peer's task. Every slot holds one thing, so nothing piles up, and leaving something never
//! waits.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bgp_core::session::{State, Statistics, StopReason};
use bgp_core::types::AddressFamily;
use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::api::{PeerSpec, SessionId};

/// Connections that wait to be taken over; the peer never needs more than the newest.
const MAX_INCOMING: usize = 2;

/// A connection that somebody opened.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    /// Its first packet had TTL 255: whoever sent it is on the same link.
    pub(crate) full_ttl: bool,
}

/// Both ends' view of a peer.
#[derive(Debug)]
pub(crate) struct Mailbox {
    slots: Mutex<Slots>,
    /// Wakes the task.
    bell: mpsc::Sender<()>,
}

/// The slots.
#[derive(Debug, Default)]
struct Slots {
    mail: Mail,
    /// The session that batches are for, and whether one is under way.
    session: Option<(SessionId, Batch)>,
    state: State,
    statistics: Statistics,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Batch {
    Wanted,
    UnderWay,
}

/// What the task finds.
#[derive(Debug, Default)]
pub(crate) struct Mail {
    pub(crate) spec: Option<Box<PeerSpec>>,
    pub(crate) start: bool,
    pub(crate) stop: Option<StopReason>,
    /// One family is all that is ever asked for.
    pub(crate) refresh: Option<(SessionId, AddressFamily)>,
    /// The R bit is not set any more.
    pub(crate) restarted: bool,
    pub(crate) leave: Option<Leave>,
    pub(crate) incoming: VecDeque<Accepted>,
    pub(crate) batch: Option<(SessionId, Vec<Bytes>)>,
}

/// How the task ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Leave {
    /// After the owner has heard everything.
    Removed,
    /// As soon as the connections are closed: the owner hears no more.
    ShutDown,
}

impl Mailbox {
    /// A mailbox and the task's end of its bell.
    pub(crate) fn new() -> (Self, mpsc::Receiver<()>) {
        let (bell, ring) = mpsc::channel(1);
        (Self { slots: Mutex::default(), bell }, ring)
    }

    /// Nothing in here panics while it holds the lock, and every slot is valid by itself.
    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        // Full: it rings already. Closed: the task has ended.
        let _ = self.bell.try_send(());
    }

    pub(crate) fn leave_mail(&self, put: impl FnOnce(&mut Mail)) {
        put(&mut self.slots().mail);
        self.ring();
    }

    /// Hands over a connection; the oldest of too many is closed, and true returned then.
    pub(crate) fn leave_connection(&self, accepted: Accepted) -> bool {
        let dropped = {
            let mut slots = self.slots();
            slots.mail.incoming.push_back(accepted);
            if slots.mail.incoming.len() > MAX_INCOMING { slots.mail.incoming.pop_front() } else { None }
        };
        self.ring();
        dropped.is_some()
    }

    /// Hands over a batch; false if it cannot be taken.
    pub(crate) fn leave_batch(&self, session: SessionId, batch: Vec<Bytes>) -> bool {
        {
            let mut slots = self.slots();
            if slots.session != Some((session, Batch::Wanted)) {
                return false;
            }
            slots.session = Some((session, Batch::UnderWay));
            slots.mail.batch = Some((session, batch));
        }
        self.ring();
        true
    }

    pub(crate) fn take(&self) -> Mail {
        std::mem::take(&mut self.slots().mail)
    }

    /// The session that is up now; a first batch may come.
    pub(crate) fn set_session(&self, session: Option<SessionId>) {
        self.slots().session = session.map(|session| (session, Batch::Wanted));
    }

    /// The batch has been written.
    pub(crate) fn batch_written(&self) {
        if let Some((_, batch)) = &mut self.slots().session {
            *batch = Batch::Wanted;
        }
    }

    pub(crate) fn publish(&self, state: State, statistics: &Statistics) {
        let mut slots = self.slots();
        slots.state = state;
        slots.statistics = *statistics;
    }

    pub(crate) fn published(&self) -> (State, Statistics) {
        let slots = self.slots();
        (slots.state, slots.statistics)
    }
}
