//! Processes inside a device, as the caller sees them.

use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::channel;
use super::error::SandboxError;
use super::protocol::{ExitKind, Reply, Request};
use super::sys;

/// A command to be run inside.
#[derive(Debug)]
pub struct SpawnRequest {
    /// Program, found on the device's `PATH`, and its arguments.
    pub argv: Vec<String>,
    /// Environment beside the device's own; wins over it.
    pub env: Vec<(String, String)>,
    /// Where input and output go.
    pub stdio: Stdio,
}

/// Where a process's input comes from and its output goes.
#[derive(Debug)]
pub enum Stdio {
    /// Standard input, output and error as given.
    Passed([OwnedFd; 3]),
    /// A new terminal in the device; see [`Process::take_terminal`].
    Terminal(WindowSize),
    /// No input, both outputs into a new file of the device (absolute path).
    Log(String),
}

/// The size of a terminal in character cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
}

impl Default for WindowSize {
    fn default() -> Self {
        Self { rows: 24, columns: 80 }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitStatus(pub(super) ExitKind);

impl ExitStatus {
    /// Whether it ended by itself with code 0.
    #[must_use]
    pub fn success(self) -> bool {
        self.0 == ExitKind::Code(0)
    }

    /// The code a shell would give: 0 to 255, 128 and the number for a signal.
    #[must_use]
    pub fn code(self) -> i32 {
        match self.0 {
            ExitKind::Code(code) => code,
            ExitKind::Signal(signal) => 128 + signal,
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ExitKind::Code(code) => write!(f, "exit code {code}"),
            ExitKind::Signal(number) => match Signal::try_from(number) {
                Ok(signal) => write!(f, "killed by {signal}"),
                Err(_) => write!(f, "killed by signal {number}"),
            },
        }
    }
}

/// A process running in a device. Dropping the handle leaves it running.
#[derive(Debug)]
pub struct Process {
    pub(super) device: String,
    pub(super) control: Arc<OwnedFd>,
    pub(super) reply: OwnedFd,
    pub(super) pid: i32,
    pub(super) terminal: Option<OwnedFd>,
    pub(super) log: Option<File>,
    pub(super) status: Option<ExitStatus>,
}

impl Process {
    /// The process's id inside the device.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.pid
    }

    /// The master side of the terminal, once, when one was asked for.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// The file that [`Stdio::Log`] made, once; shares its offset with nobody
    /// who reads at positions.
    pub fn take_log(&mut self) -> Option<File> {
        self.log.take()
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// [`SandboxError::Gone`] when the device ended first.
    pub fn wait(&mut self) -> Result<ExitStatus, SandboxError> {
        loop {
            if let Some(status) = self.wait_timeout(Duration::from_secs(3600))? {
                return Ok(status);
            }
        }
    }

    /// Waits for the end for so long; `None` while it is still running.
    ///
    /// # Errors
    /// [`SandboxError::Gone`] when the device ended first.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<ExitStatus>, SandboxError> {
        if let Some(status) = self.status {
            return Ok(Some(status));
        }
        if !wait_readable(self.reply.as_fd(), timeout) {
            return Ok(None);
        }
        match channel::receive::<Reply>(self.reply.as_fd()) {
            Ok(Some((Reply::Exited(kind), _))) => {
                self.status = Some(ExitStatus(kind));
                Ok(self.status)
            }
            Ok(Some(_)) => Ok(None),
            Ok(None) => Err(SandboxError::Gone { device: self.device.clone() }),
            Err(source) => {
                Err(SandboxError::Io { device: self.device.clone(), action: "waiting for a process", source })
            }
        }
    }

    /// Sends a signal to the process's whole session's foreground: its process
    /// group, which the process leads. Nothing happens once it has ended.
    ///
    /// # Errors
    /// [`SandboxError::Io`] when the device cannot be reached.
    pub fn signal(&self, signal: Signal) -> Result<(), SandboxError> {
        let request = Request::Signal { pid: self.pid, signal: signal as i32 };
        channel::document(&request)
            .and_then(|document| channel::send(self.control.as_fd(), &(), &[document.as_fd()]))
            .map_err(|source| SandboxError::Io { device: self.device.clone(), action: "sending a signal", source })
    }
}

impl AsFd for Process {
    /// Readable once the process has ended: for callers that poll. Read it
    /// through [`Process::wait`] only.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reply.as_fd()
    }
}

impl WindowSize {
    /// Applies the size to a terminal's master side.
    ///
    /// # Errors
    /// What the kernel says, mostly that it is no terminal.
    pub fn apply(self, terminal: BorrowedFd<'_>) -> std::io::Result<()> {
        sys::set_window_size(terminal, self.rows, self.columns)
    }
}

/// Waits until a descriptor is readable or closed; false after the timeout.
pub(super) fn wait_readable(descriptor: BorrowedFd<'_>, timeout: Duration) -> bool {
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up, so that a rest below a millisecond does not spin.
        let millis = u16::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
        let mut polled = [PollFd::new(descriptor, PollFlags::POLLIN)];
        match poll(&mut polled, PollTimeout::from(millis)) {
            Ok(0) if millis == 0 => return false,
            Ok(count) if count > 0 => return true,
            _ => {}
        }
    }
}
