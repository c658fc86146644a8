//! The CNI socket: blocking threads that receive requests with their descriptors and hand them to the main loop.
//!
//! The kernel tells whether a client has read its reply: one that dies with a reply in its queue resets the connection. Of
//! an ADD whose reply nobody read nobody knows, so the main loop is told to undo it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cni::server::{Connection, Listener, Received};
use cni::{ErrorCode, ErrorReply, Reply};
use dataplane::PortId;
use nix::sys::socket::{Shutdown, shutdown};
use tokio::sync::{mpsc, oneshot};

/// Plugins served at once.
const MAX_CONNECTIONS: usize = 256;
/// How long a connection may be without a request before it has to make room for another.
const IDLE: Duration = Duration::from_millis(500);

/// Something on its way to the main loop.
#[derive(Debug)]
pub enum CniRequest {
    /// A request.
    Asked {
        /// What is asked.
        received: Box<Received>,
        /// When it came.
        at: Instant,
        /// Where the reply goes.
        reply: oneshot::Sender<Answer>,
    },
    /// The reply to an ADD was never read: it is to be undone.
    Unread(Told),
}

/// What a client is told.
#[derive(Debug)]
pub struct Answer {
    /// The reply.
    pub reply: Reply,
    /// The interface that it tells of, if it tells of a new one.
    pub told: Option<Told>,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self { reply, told: None }
    }
}

/// An interface that a reply tells of.
#[derive(Clone, Debug)]
pub struct Told {
    /// Its name.
    pub port: PortId,
    /// Its index, which tells it from one of the same name that is made later.
    pub index: u32,
}

/// Listens at `path` and serves it on threads of its own for as long as the process lives.
///
/// # Errors
///
/// If the socket cannot be had.
pub fn start(path: &Path, requests: mpsc::Sender<CniRequest>) -> Result<(), String> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        std::fs::create_dir_all(directory).map_err(|error| format!("--cni {}: {error}", path.display()))?;
    }
    let listener = Listener::bind(path).map_err(|error| {
        format!("--cni {}: {error}; stop the worker that listens there, or choose another path", path.display())
    })?;
    let thread = std::thread::Builder::new().name("cni-listener".into());
    thread.spawn(move || accept(&listener, &requests)).map_err(|error| format!("cannot start a thread: {error}"))?;
    Ok(())
}

/// The connections that are open, each with the time since which it asks nothing.
#[derive(Debug, Default)]
struct Open {
    connections: BTreeMap<u64, (Arc<Connection>, Option<Instant>)>,
    last: u64,
}

type Connections = Arc<Mutex<Open>>;

fn lock(connections: &Connections) -> std::sync::MutexGuard<'_, Open> {
    connections.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Open {
    /// Takes a connection, and its number; gives it back if there is no room.
    fn insert(&mut self, connection: Connection) -> Result<(u64, Arc<Connection>), Connection> {
        if self.connections.len() >= MAX_CONNECTIONS && !self.make_room() {
            return Err(connection);
        }
        let connection = Arc::new(connection);
        self.last += 1;
        self.connections.insert(self.last, (Arc::clone(&connection), Some(Instant::now())));
        Ok((self.last, connection))
    }

    /// Ends the connection that has asked nothing for the longest time.
    fn make_room(&mut self) -> bool {
        let idle = self.connections.iter().filter_map(|(number, (_, since))| Some((since.as_ref()?, *number)));
        let Some((_, number)) = idle.min().filter(|(since, _)| since.elapsed() >= IDLE) else { return false };
        if let Some((connection, _)) = self.connections.remove(&number) {
            tracing::debug!("a CNI client that asks nothing makes room for another");
            // Its thread wakes and ends; the socket is closed with it.
            let _ = shutdown(connection.as_fd().as_raw_fd(), Shutdown::Both);
        }
        true
    }

    fn set_idle(&mut self, number: u64, idle: bool) {
        if let Some((_, since)) = self.connections.get_mut(&number) {
            *since = idle.then(Instant::now);
        }
    }
}

fn accept(listener: &Listener, requests: &mpsc::Sender<CniRequest>) {
    let connections = Connections::default();
    while !requests.is_closed() {
        let connection = match listener.accept() {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(%error, "CNI socket cannot accept");
                // Only a want of descriptors or memory lasts; give it time to pass.
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        let (number, connection) = insert(&connections, connection);
        let (requests, open) = (requests.clone(), Arc::clone(&connections));
        let thread = std::thread::Builder::new().name("cni".into());
        let spawned = thread.spawn(move || {
            if let Err(error) = serve(number, &connection, &open, &requests) {
                tracing::debug!(%error, "CNI client");
            }
            lock(&open).connections.remove(&number);
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread for a CNI client");
            lock(&connections).connections.remove(&number);
        }
    }
}

/// Takes a connection as soon as there is room: others wait in the kernel's queue, and then before it.
fn insert(connections: &Connections, mut connection: Connection) -> (u64, Arc<Connection>) {
    loop {
        match lock(connections).insert(connection) {
            Ok(inserted) => return inserted,
            Err(refused) => connection = refused,
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn serve(
    number: u64,
    connection: &Connection,
    open: &Connections,
    requests: &mpsc::Sender<CniRequest>,
) -> io::Result<()> {
    let unread = |told: Option<Told>| {
        if let Some(told) = told {
            // A worker that leaves takes no more; its next life finds what stands in the files.
            let _ = requests.blocking_send(CniRequest::Unread(told));
        }
    };
    let mut told = None;
    loop {
        let received = match connection.receive() {
            Ok(Some(received)) => received,
            Ok(None) => return Ok(()),
            Err(error) => {
                // It died with the reply in its queue.
                if error.kind() == io::ErrorKind::ConnectionReset {
                    unread(told);
                }
                return Err(error);
            }
        };
        lock(open).set_idle(number, false);
        let answer = ask(received, requests);
        if let Err(error) = connection.send(&answer.reply) {
            unread(answer.told);
            return Err(error);
        }
        told = answer.told;
        lock(open).set_idle(number, true);
    }
}

fn ask(received: Received, requests: &mpsc::Sender<CniRequest>) -> Answer {
    let (reply, answer) = oneshot::channel();
    let leaving = || Reply::from(ErrorReply::new(ErrorCode::TRY_AGAIN_LATER, "the worker is leaving", "")).into();
    match requests.blocking_send(CniRequest::Asked { received: Box::new(received), at: Instant::now(), reply }) {
        Ok(()) => answer.blocking_recv().unwrap_or_else(|_| leaving()),
        Err(_) => leaving(),
    }
}
