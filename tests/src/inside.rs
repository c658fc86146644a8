//! Work done inside a host's network namespace by this process itself: sockets opened there stay there.

use std::fs::File;

use nix::sched::{CloneFlags, setns};

/// Runs `work` on a thread that enters `namespace` and ends with it; the caller's thread never leaves its own.
///
/// # Panics
///
/// If the namespace cannot be entered, or `work` panics.
pub fn run<T: Send>(namespace: &File, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter(namespace);
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Moves the calling thread into `namespace` for good: for threads that live as long as their task.
///
/// # Panics
///
/// If the namespace cannot be entered.
pub fn enter(namespace: &File) {
    setns(namespace, CloneFlags::CLONE_NEWNET).unwrap_or_else(|error| panic!("cannot enter a namespace: {error}"));
}
