//! All sessions together: the owner's handle.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bgp_core::session::{State, Statistics, StopReason};
use bgp_core::types::{AddressFamily, PeerId};
use bytes::Bytes;
use ipnet::IpNet;
use socket2::Socket;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::api::{Event, Incoming, IoError, PeerSpec, SessionId};
use crate::clock::Clock;
use crate::connection::LINGER;
use crate::dial::check_key;
use crate::keys::Keys;
use crate::ledger::Ledger;
use crate::listener::{self, Admission};
use crate::mailbox::{Leave, Mailbox};
use crate::sockopt;
use crate::task::{PeerTask, TaskSetup};

/// The handle to all sessions. Dropping it ends them without a word, as a crash would.
#[derive(Debug)]
pub struct Io {
    events: mpsc::Sender<Event>,
    admission: Arc<Admission>,
    /// Where it listens, or will.
    sockets: Vec<(SocketAddr, Socket)>,
    accepting: Vec<JoinHandle<()>>,
    keys: Keys,
    /// Keys change in one step at the end of a batch.
    in_batch: bool,
    peers: HashMap<PeerId, PeerEntry>,
    sessions: Arc<AtomicU64>,
    clock: Clock,
    ledger: Ledger,
    runtime: Handle,
}

#[derive(Debug)]
struct PeerEntry {
    spec: PeerSpec,
    mailbox: Arc<Mailbox>,
    task: JoinHandle<()>,
}

impl Io {
    /// Takes every address of `listen` (none: only dials), and lets nobody in before [`Io::open`]. Events come out of the
    /// receiver, at most `capacity` waiting. A listener on an IPv6 address takes IPv6 alone.
    ///
    /// # Errors
    ///
    /// If a socket cannot be had.
    pub async fn start(listen: &[SocketAddr], capacity: usize) -> Result<(Self, mpsc::Receiver<Event>), IoError> {
        let (events, receiver) = mpsc::channel(capacity.max(1));
        let ledger = Ledger::default();
        let admission = Arc::new(Admission::new(ledger.clone()));
        let bind = |address: &SocketAddr| {
            let socket = listener::bind(*address)?;
            // The port that the system chose where 0 was asked for.
            let bound = socket.local_addr().ok().and_then(|bound| bound.as_socket()).unwrap_or(*address);
            Ok((bound, socket))
        };
        let sockets = listen.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
        let io = Self {
            events,
            admission,
            sockets,
            accepting: Vec::new(),
            keys: Keys::default(),
            in_batch: false,
            peers: HashMap::new(),
            sessions: Arc::new(AtomicU64::new(1)),
            clock: Clock::new(),
            ledger,
            runtime: Handle::current(),
        };
        Ok((io, receiver))
    }

    /// Listens from now on, once it has been said who may come and with which keys: who came earlier would be taken for a
    /// stranger, or be let in without the key.
    ///
    /// # Errors
    ///
    /// If another program was faster; nobody is let in then.
    pub fn open(&mut self) -> Result<(), IoError> {
        if !self.accepting.is_empty() {
            return Ok(());
        }
        // All or none.
        let listen = |(address, socket): &(SocketAddr, Socket)| listener::listen(*address, socket);
        let listeners = self.sockets.iter().map(listen).collect::<Result<Vec<_>, _>>()?;
        let spawn = |socket| {
            let accept = listener::accept(socket, Arc::clone(&self.admission), self.events.clone());
            self.runtime.spawn(accept)
        };
        self.accepting = listeners.into_iter().map(spawn).collect();
        Ok(())
    }

    /// The addresses that were taken, with the ports that the system chose where 0 was asked for.
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|(address, _)| *address).collect()
    }

    /// Whom the listener lets in beside the peers, each prefix with its TCP-MD5 key and GTSM; everybody else is closed at
    /// once and counted. Replaces what was said before.
    ///
    /// # Errors
    ///
    /// If the kernel refuses a key; then nobody else is let in than before.
    pub fn accept(&mut self, prefixes: &[(IpNet, Option<String>, bool)]) -> Result<(), IoError> {
        for (prefix, key, _) in prefixes {
            if let Some(key) = key {
                check_key(*prefix, key).map_err(|source| IoError::key(prefix, source))?;
            }
        }
        self.keys.set_accepted(prefixes.iter().map(|(prefix, key, _)| (prefix.trunc(), key.clone())).collect());
        self.update_keys()?;
        self.admission.set_prefixes(prefixes.iter().map(|(prefix, _, gtsm)| (*prefix, *gtsm)).collect());
        Ok(())
    }

    /// Adds a peer, or changes one: nothing happens if the spec is the same; settings that take no negotiation change in
    /// place; others end the session with Cease 6/6 and start it anew.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the key; then nothing has changed.
    pub fn set_peer(&mut self, peer: PeerId, spec: PeerSpec) -> Result<(), IoError> {
        let address = spec.address.ip();
        let old = self.peers.get(&peer).map(|entry| entry.spec.clone());
        if old.as_ref() == Some(&spec) {
            return Ok(());
        }
        if let Some(key) = &spec.key {
            check_key(IpNet::from(address), key).map_err(|source| IoError::key(address, source))?;
        }
        if let Some(old) = &old
            && old.address.ip() != address
        {
            self.forget_address(peer, old);
        }
        self.keys.set_peer(address, spec.key.clone());
        if !self.in_batch
            && let Err(error) = self.update_keys()
        {
            match old.filter(|old| old.address.ip() == address) {
                Some(old) => self.keys.set_peer(address, old.key),
                None => self.keys.remove_peer(address),
            }
            return Err(error);
        }
        match self.peers.get_mut(&peer) {
            Some(entry) => {
                entry.spec = spec.clone();
                entry.mailbox.leave_mail(|mail| mail.spec = Some(Box::new(spec)));
            }
            None => {
                let entry = self.spawn(peer, spec);
                self.peers.insert(peer, entry);
            }
        }
        if let Some(entry) = self.peers.get(&peer) {
            self.admission.add_peer(address, peer, &entry.mailbox);
        }
        Ok(())
    }

    /// Many peers change from here to [`Io::end_batch`], where the listeners learn all their keys in one step: half of a
    /// key's peers with another one in between would take more keys than the kernel has room for.
    pub fn begin_batch(&mut self) {
        self.in_batch = true;
    }

    /// The listeners learn the keys of those who changed.
    ///
    /// # Errors
    ///
    /// If the kernel refuses one; whose key that is can't connect then.
    pub fn end_batch(&mut self) -> Result<(), IoError> {
        self.in_batch = false;
        self.update_keys()
    }

    /// Gives a connection to a peer that was just added.
    pub fn deliver(&mut self, peer: PeerId, incoming: Incoming) {
        if let Some(entry) = self.peers.get(&peer) {
            entry.mailbox.leave_connection(incoming.accepted);
        }
    }

    /// Ends the session, forgets the peer; its `Down` still comes if a session was up.
    pub fn remove_peer(&mut self, peer: PeerId) {
        let Some(entry) = self.peers.remove(&peer) else { return };
        self.forget_address(peer, &entry.spec);
        entry.mailbox.leave_mail(|mail| {
            mail.stop = Some(StopReason::Deconfigured);
            mail.leave = Some(Leave::Removed);
        });
    }

    /// Ends the session with `reason`; the peer stays and comes back by itself where the reason allows it.
    pub fn stop(&mut self, peer: PeerId, reason: StopReason) {
        if let Some(entry) = self.peers.get(&peer) {
            entry.mailbox.leave_mail(|mail| {
                mail.stop = Some(reason);
                mail.start = false;
            });
        }
    }

    /// Asks the peer to announce all its routes of a family again (RFC 2918), unless the session is another one by now.
    pub fn request_refresh(&mut self, peer: PeerId, session: SessionId, family: AddressFamily) {
        if let Some(entry) = self.peers.get(&peer) {
            entry.mailbox.leave_mail(|mail| mail.refresh = Some((session, family)));
        }
    }

    /// This speaker has told the peer all it has since its restart: the R bit is not set any more (RFC 4724 section 3).
    pub fn restarted(&mut self, peer: PeerId) {
        if let Some(entry) = self.peers.get(&peer) {
            entry.mailbox.leave_mail(|mail| mail.restarted = true);
        }
    }

    /// Starts a peer that was stopped for good, or that pauses after failures.
    pub fn resume(&mut self, peer: PeerId) {
        if let Some(entry) = self.peers.get(&peer) {
            entry.mailbox.leave_mail(|mail| mail.start = true);
        }
    }

    /// Hands over the next batch: whole messages, in order, shared with other peers. At most one batch may be under way;
    /// another is refused by the return value `false`, as is a batch for a session that is over.
    pub fn send(&mut self, peer: PeerId, session: SessionId, batch: Vec<Bytes>) -> bool {
        self.peers.get(&peer).is_some_and(|entry| entry.mailbox.leave_batch(session, batch))
    }

    /// A peer's state and counters, as its task last published them.
    pub fn statistics(&self, peer: PeerId) -> Option<(State, Statistics)> {
        self.peers.get(&peer).map(|entry| entry.mailbox.published())
    }

    /// Whether a TCP-MD5 key is set for anybody.
    pub(crate) fn has_keys(&self) -> bool {
        self.keys.are_in_use()
    }

    /// Where refusals are noted.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Connections refused because their address is neither a peer's nor accepted.
    pub fn refused_connections(&self) -> u64 {
        self.admission.refused()
    }

    /// Ends all sessions with `reason` and waits, two seconds at most, until what was queued has left.
    pub async fn shutdown(mut self, reason: StopReason) {
        for task in &self.accepting {
            task.abort();
        }
        let peers = std::mem::take(&mut self.peers);
        for entry in peers.values() {
            entry.mailbox.leave_mail(|mail| {
                mail.stop = Some(reason.clone());
                mail.leave = Some(Leave::ShutDown);
            });
        }
        let all = async {
            for entry in peers.into_values() {
                let _ = entry.task.await;
            }
        };
        let _ = tokio::time::timeout(LINGER, all).await;
    }

    fn spawn(&self, id: PeerId, spec: PeerSpec) -> PeerEntry {
        let (mailbox, bell) = Mailbox::new();
        let mailbox = Arc::new(mailbox);
        let setup = TaskSetup {
            id,
            spec: spec.clone(),
            mailbox: Arc::clone(&mailbox),
            bell,
            events: self.events.clone(),
            sessions: Arc::clone(&self.sessions),
            clock: self.clock,
            ledger: self.ledger.clone(),
        };
        let task = self.runtime.spawn(async move { PeerTask::new(setup).run().await });
        PeerEntry { spec, mailbox, task }
    }

    /// Undoes what the listeners know of a peer's address.
    fn forget_address(&mut self, peer: PeerId, spec: &PeerSpec) {
        let address: IpAddr = spec.address.ip();
        self.admission.remove_peer(address, peer);
        self.keys.remove_peer(address);
        if !self.in_batch
            && let Err(error) = self.update_keys()
        {
            tracing::warn!(%error, "the listener keeps the TCP-MD5 key of a peer that was removed");
        }
    }

    /// Has the listeners hold the keys that are wanted: new ones first, so that nobody is without one in between.
    fn update_keys(&mut self) -> Result<(), IoError> {
        let difference = self.keys.difference();
        let set = difference.set.into_iter().map(|(prefix, key)| (prefix, Some(key)));
        let removed = difference.removed.into_iter().map(|prefix| (prefix, None));
        for (prefix, key) in set.chain(removed) {
            self.set_listener_key(prefix, key.as_deref())?;
            self.keys.note(prefix, key);
        }
        self.keys.settle();
        Ok(())
    }

    /// Sets or removes a key on the listeners of the prefix' family.
    fn set_listener_key(&self, peers: IpNet, key: Option<&str>) -> Result<(), IoError> {
        let same_family = |address: &SocketAddr| address.is_ipv4() == peers.addr().is_ipv4();
        for (_, socket) in self.sockets.iter().filter(|(address, _)| same_family(address)) {
            sockopt::set_md5_key(socket, peers, key).map_err(|source| IoError::key(peers, source))?;
        }
        Ok(())
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        for task in &self.accepting {
            task.abort();
        }
        for entry in self.peers.values() {
            entry.task.abort();
        }
    }
}
