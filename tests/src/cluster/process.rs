//! Processes that others started: told apart from later ones that got the same number.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Result;

/// How long anything in a cluster may take. Generous, because a busy machine is slow.
pub const PATIENCE: Duration = Duration::from_secs(180);
const STEP: Duration = Duration::from_millis(20);

/// A process by its number on this machine and the time of its start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Process {
    pid: i32,
    start: u64,
}

impl Process {
    /// The process whose line of `/proc/self/stat` is in `file`.
    pub fn read(file: &Path) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(file).ok()?)
    }

    /// The process that has this number now.
    pub fn of(pid: i32) -> Option<Self> {
        Self::read(Path::new(&format!("/proc/{pid}/stat")))
    }

    fn parse(stat: &str) -> Option<Self> {
        let pid = stat.split(' ').next()?.parse().ok()?;
        // The name in parentheses may hold anything; the state, the third field, comes after the last of them.
        let rest = stat.rsplit_once(") ")?.1;
        let start = rest.split(' ').nth(19)?.trim().parse().ok()?;
        Some(Self { pid, start })
    }

    /// Its number on this machine.
    pub fn pid(self) -> i32 {
        self.pid
    }

    /// Whether it still runs.
    pub fn is_alive(self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        Self::parse(&stat) == Some(self) && state != Some('Z')
    }

    /// Sends a signal, if it still runs.
    pub fn signal(self, signal: Signal) {
        if self.is_alive() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Ends it at once and waits until it is gone.
    ///
    /// # Errors
    ///
    /// If it does not go.
    pub fn end(self) -> Result<()> {
        self.signal(Signal::SIGKILL);
        until(&format!("process {} to end", self.pid), || if self.is_alive() { Err("it runs") } else { Ok(()) })
    }

    /// The path of one of its namespaces: `net`, `mnt`, `pid`.
    pub fn namespace(self, kind: &str) -> String {
        format!("/proc/{}/ns/{kind}", self.pid)
    }
}

/// Asks `condition` until it gives a value.
///
/// # Errors
///
/// After [`PATIENCE`], with the last reason.
pub fn until<T, E: std::fmt::Display>(
    what: &str,
    mut condition: impl FnMut() -> std::result::Result<T, E>,
) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match condition() {
            Ok(value) => return Ok(value),
            Err(reason) if Instant::now() > deadline => {
                return Err(format!("waited {} s for {what}: {reason}", PATIENCE.as_secs()));
            }
            Err(_) => std::thread::sleep(STEP),
        }
    }
}
