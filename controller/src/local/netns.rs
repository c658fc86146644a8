//! Network namespaces held by descriptors, and work done inside them.
//!
//! A namespace belongs to a thread, so work inside another one runs on a thread
//! of its own that ends afterwards; whatever it spawns is born there.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

/// Makes a network namespace that lives as long as its descriptor.
///
/// # Errors
/// Privileges are missing, or the limit of namespaces is reached.
pub fn create() -> io::Result<OwnedFd> {
    on_own_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        current()
    })
}

/// The network namespace of the calling thread.
///
/// # Errors
/// `/proc` is not there.
pub fn current() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

/// Runs `work` inside the namespace and waits for it.
///
/// # Errors
/// The namespace cannot be entered, or what `work` says.
pub fn inside<T: Send>(namespace: impl AsFd + Sync, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    on_own_thread(|| {
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
        work()
    })
}

/// Opens a route netlink socket inside the namespace.
///
/// # Errors
/// As [`inside`].
pub fn netlink_socket(namespace: impl AsFd + Sync) -> io::Result<OwnedFd> {
    inside(namespace, || {
        let made = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
        Ok(made)
    })
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let spawned = thread::Builder::new().spawn_scoped(scope, work)?;
        spawned.join().unwrap_or_else(|_| Err(io::Error::other("the thread inside the namespace failed")))
    })
}
