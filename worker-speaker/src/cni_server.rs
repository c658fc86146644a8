//! The CNI socket: blocking threads that receive requests with their descriptors and hand them to the main loop.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cni::server::{Connection, Listener, Received};
use cni::{ErrorCode, ErrorReply, Reply};
use tokio::sync::{mpsc, oneshot};

/// Plugins served at once.
const MAX_CONNECTIONS: usize = 256;

/// A request on its way to the main loop.
#[derive(Debug)]
pub struct CniRequest {
    /// What is asked.
    pub received: Received,
    /// Where the reply goes.
    pub reply: oneshot::Sender<Reply>,
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

fn accept(listener: &Listener, requests: &mpsc::Sender<CniRequest>) {
    let open = Arc::new(AtomicUsize::new(0));
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
        if open.load(Ordering::Relaxed) >= MAX_CONNECTIONS {
            let busy = ErrorReply::new(ErrorCode::TRY_AGAIN_LATER, "the worker is busy", "too many requests at once");
            let _ = connection.send(&busy.into());
            continue;
        }
        open.fetch_add(1, Ordering::Relaxed);
        let (requests, counter) = (requests.clone(), Arc::clone(&open));
        let thread = std::thread::Builder::new().name("cni".into());
        let spawned = thread.spawn(move || {
            if let Err(error) = serve(&connection, &requests) {
                tracing::debug!(%error, "CNI client");
            }
            counter.fetch_sub(1, Ordering::Relaxed);
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread for a CNI client");
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn serve(connection: &Connection, requests: &mpsc::Sender<CniRequest>) -> std::io::Result<()> {
    connection.serve(|received| {
        let (reply, answer) = oneshot::channel();
        let leaving = || ErrorReply::new(ErrorCode::TRY_AGAIN_LATER, "the worker is leaving", "").into();
        match requests.blocking_send(CniRequest { received, reply }) {
            Ok(()) => answer.blocking_recv().unwrap_or_else(|_| leaving()),
            Err(_) => leaving(),
        }
    })
}
