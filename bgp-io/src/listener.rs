//! Listening sockets, and who may come in.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bgp_core::rule::{Action, Rule};
use bgp_core::types::PeerId;
use ipnet::IpNet;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::Sender;

use crate::api::{Event, Incoming, IoError};
use crate::ledger::{Evidence, Ledger, Who};
use crate::mailbox::{Accepted, Mailbox};
use crate::{rules, sockopt};

/// Connections that wait for the listener's task.
const BACKLOG: i32 = 4096;
/// Pause after the system could not give us a connection, usually for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who may come in.
#[derive(Debug)]
pub(crate) struct Admission {
    table: Mutex<AdmissionTable>,
    refused: AtomicU64,
    ledger: Ledger,
}

#[derive(Debug, Default)]
struct AdmissionTable {
    peers: HashMap<IpAddr, (PeerId, Arc<Mailbox>)>,
    prefixes: Vec<(IpNet, bool)>,
}

/// Where a connection goes.
enum Destination {
    Peer(Arc<Mailbox>),
    Owner { gtsm: bool },
    Nowhere,
}

impl Admission {
    pub(crate) fn new(ledger: Ledger) -> Self {
        Self { table: Mutex::default(), refused: AtomicU64::new(0), ledger }
    }

    fn table(&self) -> MutexGuard<'_, AdmissionTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections from `address` are those of `peer` from now on.
    pub(crate) fn add_peer(&self, address: IpAddr, peer: PeerId, mailbox: &Arc<Mailbox>) {
        self.table().peers.insert(address, (peer, Arc::clone(mailbox)));
    }

    /// Connections from `address` are no longer those of `peer`.
    pub(crate) fn remove_peer(&self, address: IpAddr, peer: PeerId) {
        let mut table = self.table();
        if table.peers.get(&address).is_some_and(|(owner, _)| *owner == peer) {
            table.peers.remove(&address);
        }
    }

    /// Replaces the accepted prefixes, each with whether it uses GTSM.
    pub(crate) fn set_prefixes(&self, prefixes: Vec<(IpNet, bool)>) {
        self.table().prefixes = prefixes;
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn refuse(&self, from: SocketAddr, rule: Rule) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.ledger.note(Who::Stranger(from), rule, Action::Close, 1, Evidence::default);
    }

    fn destination(&self, address: IpAddr) -> Destination {
        let table = self.table();
        if let Some((_, mailbox)) = table.peers.get(&address) {
            return Destination::Peer(Arc::clone(mailbox));
        }
        let best = table.prefixes.iter().filter(|(prefix, _)| prefix.contains(&address));
        match best.max_by_key(|(prefix, _)| prefix.prefix_len()) {
            Some((_, gtsm)) => Destination::Owner { gtsm: *gtsm },
            None => Destination::Nowhere,
        }
    }

    /// Brings a connection to whom it is for, or closes it.
    fn admit(&self, stream: TcpStream, from: SocketAddr, events: &Sender<Event>) {
        // The kernel tells this only once.
        let full_ttl = sockopt::came_with_full_ttl(&stream).unwrap_or(false);
        let accepted = Accepted { stream, full_ttl };
        match self.destination(from.ip()) {
            Destination::Peer(mailbox) => {
                if mailbox.leave_connection(accepted) {
                    let who = Who::Peer(from.ip());
                    self.ledger.note(who, rules::CONNECTION_SUPERSEDED, Action::Close, 1, Evidence::default);
                }
            }
            Destination::Owner { gtsm } => {
                if gtsm && !full_ttl {
                    self.refuse(from, rules::TTL);
                } else if events.try_send(Event::Incoming(Incoming { from, accepted })).is_err() {
                    // An owner that has no time for events has none for strangers.
                    self.refuse(from, rules::ACCEPT_BUSY);
                }
            }
            Destination::Nowhere => self.refuse(from, rules::SOURCE_UNKNOWN),
        }
    }
}

/// A socket at the address it is to listen on. One for an IPv6 address takes IPv6 only: IPv4 has its own.
///
/// # Errors
///
/// With the cure in words.
pub(crate) fn bind(address: SocketAddr) -> Result<Socket, IoError> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // Peers with GTSM drop a handshake that does not come with the full TTL.
        sockopt::send_with_full_ttl(&socket, &address)?;
        sockopt::save_first_packets(&socket)?;
        socket.bind(&address.into())?;
        Ok(socket)
    };
    bind().map_err(|source| refused(address, source))
}

/// Makes a bound socket listen. It stays the owner's too, for the keys of peers.
///
/// # Errors
///
/// With the cure in words.
pub(crate) fn listen(address: SocketAddr, socket: &Socket) -> Result<TcpListener, IoError> {
    let listen = || {
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.try_clone()?.into())
    };
    listen().map_err(|source| refused(address, source))
}

fn refused(address: SocketAddr, source: io::Error) -> IoError {
    IoError::Listen { address, cure: listen_cure(source.kind()), source }
}

const fn listen_cure(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::AddrInUse => "another program listens there: stop it, or listen on another port",
        io::ErrorKind::AddrNotAvailable => "give an address that this machine has, or 0.0.0.0 for all of them",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need the capability NET_BIND_SERVICE: grant it, or listen on another port such as 1179"
        }
        _ => "check the address",
    }
}

/// Accepts until the task is aborted.
pub(crate) async fn accept(listener: TcpListener, admission: Arc<Admission>, events: Sender<Event>) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => admission.admit(stream, from, &events),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                let detail = format!("{error}; raise the limit of open files, or free memory");
                let evidence = || Evidence { detail, ..Evidence::default() };
                admission.ledger.note(Who::Host, rules::ACCEPT_FAILED, Action::Note, 1, evidence);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether the connection failed, not the listener (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
