//! What the caller asks of process 1, and what it answers.

use serde::{Deserialize, Serialize};

/// A request. Its first descriptor is the document holding it, the second the
/// socket that answers go to.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Start a process. Answered by `Started` or `Failed`, later by `Exited`.
    Spawn(SpawnOrder),
    /// Set sysctls. Answered by `Done`, one warning for each that failed.
    Sysctls(Vec<(String, String)>),
    /// Send a signal to a process that `Spawn` started. No answer.
    Signal { pid: i32, signal: i32 },
    /// Write a small file, making its directory. Answered by `Done`.
    Write { path: String, bytes: Vec<u8> },
    /// Open a regular file for reading; `Opened` carries the descriptor.
    Open { path: String },
}

/// A process to be started.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SpawnOrder {
    /// Program and arguments.
    pub(super) argv: Vec<String>,
    /// Environment beside the device's own; wins over it.
    pub(super) env: Vec<(String, String)>,
    /// Where input and output go.
    pub(super) stdio: StdioKind,
}

/// How a process is connected.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum StdioKind {
    /// The packet's third to fifth descriptors.
    Passed,
    /// A new terminal; `Started` carries its master.
    Terminal { rows: u16, columns: u16 },
    /// Nothing in, both outputs into a new file; `Started` carries it.
    Log { path: String },
}

/// An answer, or news about the device itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// Process 1 exists: its id for the caller, its pidfd beside.
    ProcessOne { pid: i32 },
    /// The device stands: its network namespace and a netlink socket beside.
    Ready { warnings: Vec<String> },
    /// It could not be done.
    Failed { reason: String, exit_code: i32 },
    /// A process runs; its id inside.
    Started { pid: i32 },
    /// It has ended.
    Exited(ExitKind),
    /// Done, with what went wrong on the way.
    Done { warnings: Vec<String> },
    /// A file is open.
    Opened,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ExitKind {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
}
