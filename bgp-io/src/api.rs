//! What the owner of sessions says and hears.

use std::net::{IpAddr, SocketAddr};

use bgp_core::session::{DownReason, Negotiated, PeerConfig, State};
use bgp_core::types::PeerId;
use bgp_core::wire::{RouteRefresh, Update};
use bytes::Bytes;
use ipnet::IpNet;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// One established session of a peer; a peer's next session has another number.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionId(pub u64);

/// How to reach a peer and how to run its sessions.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerSpec {
    /// Where the peer listens. Connections from this address, whatever their port, are the peer's.
    pub address: SocketAddr,
    /// Local address of connections that we open.
    pub local_address: Option<IpAddr>,
    /// TCP-MD5 key (RFC 2385), 1 to 80 bytes.
    pub key: Option<String>,
    /// Send with TTL 255 and accept nothing less (RFC 5082).
    pub gtsm: bool,
    /// Set the R bit in the first OPEN (RFC 4724 section 3): this speaker has restarted. Only heeded when a peer is added.
    pub restarting: bool,
    /// The session's own settings.
    pub session: PeerConfig,
}

/// A connection from an address that is no peer's yet.
#[derive(Debug)]
pub struct Incoming {
    /// Where it comes from.
    pub from: SocketAddr,
    pub(crate) stream: TcpStream,
}

/// What happens on sessions. Events of one session come in order, between its `Established` and its `Down`.
#[derive(Debug)]
pub enum Event {
    /// A session is up; the owner may hand over a first batch.
    Established {
        /// Whose.
        peer: PeerId,
        /// Which.
        session: SessionId,
        /// What was agreed.
        negotiated: Box<Negotiated>,
    },
    /// What one read of the socket gave.
    Updates {
        /// Whose.
        peer: PeerId,
        /// Which.
        session: SessionId,
        /// In order.
        updates: Vec<Update>,
    },
    /// The peer asks for routes again, or marks the borders of an answer (RFC 2918, RFC 7313).
    Refresh {
        /// Whose.
        peer: PeerId,
        /// Which.
        session: SessionId,
        /// What it says.
        refresh: RouteRefresh,
    },
    /// The last batch has been handed to the kernel: the next may come.
    WriterReady {
        /// Whose.
        peer: PeerId,
        /// Which.
        session: SessionId,
    },
    /// A session is over.
    Down {
        /// Whose.
        peer: PeerId,
        /// Which.
        session: SessionId,
        /// Why, and what becomes of the routes.
        reason: DownReason,
    },
    /// The state shown to people has changed, or an attempt failed; `error` says why where there is something to say.
    State {
        /// Whose.
        peer: PeerId,
        /// The state now.
        state: State,
        /// The last failure, in words.
        error: Option<String>,
    },
    /// Somebody connected from an address that is accepted but no peer's. The owner adds a peer and delivers the
    /// connection to it, or drops it, which closes it.
    Incoming(Incoming),
}

/// Why listening or connecting is not possible at all.
#[derive(Debug, Error)]
pub enum IoError {
    /// The listening socket cannot be had.
    #[error("--listen {address}: {source}; {cure}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
        /// What to do.
        cure: &'static str,
    },
    /// The kernel has no TCP-MD5, or refuses the key.
    #[error("TCP-MD5 key for {peer}: {source}; use a kernel with CONFIG_TCP_MD5SIG and a key of 1 to 80 bytes")]
    Key {
        /// For whom.
        peer: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The handle to all sessions. Dropping it ends them without a word, as a crash would.
#[derive(Debug)]
pub struct Io {}

impl Io {
    /// Listens on every address of `listen` (none: only dials). Events come out of the receiver, at most `capacity`
    /// waiting.
    ///
    /// # Errors
    ///
    /// If a socket cannot be had.
    pub async fn start(_listen: &[SocketAddr], _capacity: usize) -> Result<(Self, mpsc::Receiver<Event>), IoError> {
        let (_send, receive) = mpsc::channel(1);
        Ok((Self {}, receive))
    }

    /// Whom the listener lets in beside the peers, each prefix with its TCP-MD5 key and GTSM; everybody else is closed at
    /// once and counted. Replaces what was said before.
    ///
    /// # Errors
    ///
    /// If the kernel refuses a key.
    pub fn accept(&mut self, _prefixes: &[(IpNet, Option<String>, bool)]) -> Result<(), IoError> {
        Ok(())
    }

    /// Adds a peer, or changes one: nothing happens if the spec is the same; settings that take no negotiation change in
    /// place; others end the session with Cease 6/6 and start it anew.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the key.
    pub fn set_peer(&mut self, _peer: PeerId, _spec: PeerSpec) -> Result<(), IoError> {
        Ok(())
    }

    /// Gives a connection to a peer that was just added.
    pub fn deliver(&mut self, _peer: PeerId, _incoming: Incoming) {}

    /// Ends the session, forgets the peer; its `Down` still comes if a session was up.
    pub fn remove_peer(&mut self, _peer: PeerId) {}

    /// Ends the session with `reason`; the peer stays and comes back by itself where the reason allows it.
    pub fn stop(&mut self, _peer: PeerId, _reason: bgp_core::session::StopReason) {}

    /// Hands over the next batch: whole messages, in order, shared with other peers. At most one batch may be under way;
    /// another is refused by the return value `false`, as is a batch for a session that is over.
    pub fn send(&mut self, _peer: PeerId, _session: SessionId, _batch: Vec<Bytes>) -> bool {
        false
    }

    /// Connections refused because their address is neither a peer's nor accepted.
    pub fn refused_connections(&self) -> u64 {
        0
    }

    /// Ends all sessions with `reason` and waits, two seconds at most, until what was queued has left.
    pub async fn shutdown(self, _reason: bgp_core::session::StopReason) {}
}
