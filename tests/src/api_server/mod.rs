//! An API server that does what a real one can't be made to do: 410 at will, stalled watches, events out of order, garbage,
//! refusals, silence.
//!
//! ```text
//!   test ──apply, delete──► state { objects, history } ◄──list, watch, get, put, patch, post── daemon
//!        ──fault──────────► faults { what, for whom, how often } ──┘
//! ```
//!
//! It speaks plain HTTP; a kubeconfig leads to it. It knows resources by their plural and does not care what is in them. What
//! is right about it, a real API server must confirm; it is for what is wrong.

mod faults;
mod http;
mod patch;
mod state;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::watch;

pub use faults::{Fault, Verb, What};
use state::State;

use crate::host::Host;
use crate::inside;

/// What the threads of a server share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Rung whenever there is something new for watches.
    news: watch::Sender<()>,
    /// Whether the server is away: it takes no connection then, and has none.
    away: watch::Sender<bool>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server. It ends with its value.
#[derive(Debug)]
pub struct ApiServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl ApiServer {
    /// Starts one on this machine.
    ///
    /// # Panics
    ///
    /// If no port can be had.
    pub fn here() -> Self {
        Self::serve(TcpListener::bind("127.0.0.1:0").unwrap_or_else(|error| panic!("{error}")))
    }

    /// Starts one on a host, at one of its addresses.
    ///
    /// # Panics
    ///
    /// If the address can't be had.
    pub fn on(host: &Host, address: SocketAddr) -> Self {
        let listener = inside::run(&host.open(), || TcpListener::bind(address));
        Self::serve(listener.unwrap_or_else(|error| panic!("{address}: {error}")))
    }

    fn serve(listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap_or_else(|error| panic!("{error}"));
        let shared = Arc::new(Shared {
            state: Mutex::new(State::default()),
            news: watch::Sender::new(()),
            away: watch::Sender::new(false),
        });
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let theirs = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.unwrap_or_else(|error| panic!("{error}"));
            runtime.block_on(async {
                tokio::select! {
                    () = http::serve(listener, theirs) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Writes a kubeconfig that leads to it.
    ///
    /// # Panics
    ///
    /// If it can't be written.
    pub fn kubeconfig(&self, directory: &Path) -> PathBuf {
        let path = directory.join("kubeconfig.json");
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        });
        std::fs::write(&path, config.to_string()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// Adds an object, or replaces it; what the server adds to metadata it adds. Its uid stays unless the object has one.
    pub fn apply(&self, resource: &str, object: Value) {
        self.shared.state().apply(resource, object);
        self.shared.news.send_replace(());
    }

    /// Deletes an object.
    ///
    /// # Panics
    ///
    /// If it is not there.
    pub fn delete(&self, resource: &str, name: &str) {
        assert!(self.shared.state().delete(resource, name), "there is no {resource} {name}");
        self.shared.news.send_replace(());
    }

    /// An object as it is now.
    pub fn get(&self, resource: &str, name: &str) -> Option<Value> {
        self.shared.state().get(resource, name)
    }

    /// The names of all objects of a resource.
    pub fn names(&self, resource: &str) -> Vec<String> {
        self.shared.state().names(resource)
    }

    /// Sends a bookmark to all watches.
    pub fn bookmark(&self, resource: &str) {
        self.shared.state().bookmark(resource);
        self.shared.news.send_replace(());
    }

    /// Forgets history, as compaction does, and has every watch notice: it gets 410.
    pub fn compact(&self) {
        self.shared.state().compact();
        self.shared.news.send_replace(());
    }

    /// Ends all watches that run, in the ordinary way.
    pub fn end_watches(&self) {
        self.shared.state().end_watches();
        self.shared.news.send_replace(());
    }

    /// Something goes wrong from now on.
    pub fn fault(&self, fault: Fault) {
        self.shared.state().faults.add(fault);
        self.shared.news.send_replace(());
    }

    /// Everything goes right from now on; watches that run end.
    pub fn mend(&self) {
        self.shared.state().mend();
        self.shared.news.send_replace(());
    }

    /// How often faults have struck since the last [`ApiServer::mend`].
    pub fn struck(&self) -> usize {
        self.shared.state().faults.struck()
    }

    /// How often this was asked so far, faults included.
    pub fn asked(&self, verb: Verb, resource: &str) -> usize {
        self.shared.state().asked(verb, resource)
    }

    /// How many PUTs of this resource have succeeded.
    pub fn replaced(&self, resource: &str) -> usize {
        self.shared.state().replaced(resource)
    }

    /// Goes away: connections break, and new ones are closed.
    pub fn leave(&self) {
        self.shared.away.send_replace(true);
    }

    /// Comes back with all objects.
    pub fn come_back(&self) {
        self.shared.away.send_replace(false);
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A Node object with these InternalIPs.
pub fn node(name: &str, internal_ips: &[&str]) -> Value {
    let addresses: Vec<_> = internal_ips.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/os": "linux"}},
        "status": {"addresses": addresses},
    })
}
