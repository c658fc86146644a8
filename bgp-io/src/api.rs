//! What the owner of sessions says and hears.

use std::net::{IpAddr, SocketAddr};

use bgp_core::session::{DownReason, Negotiated, PeerConfig, State};
use bgp_core::types::PeerId;
use bgp_core::wire::{RouteRefresh, Update};
use thiserror::Error;

use crate::mailbox::Accepted;

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
    /// TCP-MD5 key (RFC 2385), 1 to 80 bytes. Another one is for the next connection.
    pub key: Option<String>,
    /// Send with TTL 255 and accept nothing less (RFC 5082).
    pub gtsm: bool,
    /// Set the R bit (RFC 4724 section 3), until [`Io::restarted`](crate::Io::restarted) says otherwise: this speaker has
    /// restarted. Only heeded when a peer is added.
    pub restarting: bool,
    /// The session's own settings.
    pub session: PeerConfig,
}

/// A connection from an address that is no peer's yet.
#[derive(Debug)]
pub struct Incoming {
    /// Where it comes from.
    pub from: SocketAddr,
    pub(crate) accepted: Accepted,
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
    #[error("TCP-MD5 key for {peer}: {source}; {cure}")]
    Key {
        /// For whom.
        peer: String,
        /// What the system said.
        source: std::io::Error,
        /// What to do.
        cure: &'static str,
    },
}

impl IoError {
    /// The system refuses the key of a peer or prefix.
    pub(crate) fn key(peer: impl std::fmt::Display, source: std::io::Error) -> Self {
        let cure = match source.kind() {
            std::io::ErrorKind::OutOfMemory => {
                "the kernel has no room for so many keys on one socket: raise the sysctl net.core.optmem_max, or let peers share a key"
            }
            _ => "use a kernel with CONFIG_TCP_MD5SIG and a key of 1 to 80 bytes",
        };
        Self::Key { peer: peer.to_string(), source, cure }
    }
}
