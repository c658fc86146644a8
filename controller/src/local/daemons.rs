//! The reflectors and workers of a lab: real processes, started again when they
//! die.
//!
//! In: what to run, and in which network namespace. Out: their state for
//! `status`, and a log file each. Every daemon has a thread that lives inside
//! the daemon's namespace, so that what it spawns is born there.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use serde::{Deserialize, Serialize};

/// The pause before the first restart; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause before a restart.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Who has lived that long is started again without much of a pause.
const LONG_ENOUGH: Duration = Duration::from_secs(10);
/// How much of a log is shown with a failure, in bytes.
const LOG_TAIL_BYTES: u64 = 2048;

/// What to run.
#[derive(Debug)]
pub struct DaemonSpec {
    /// `node1`, `rr1` and so on.
    pub name: String,
    /// Arguments of this program's own executable.
    pub arguments: Vec<OsString>,
    /// Where its output goes.
    pub log: PathBuf,
}

/// How a daemon is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonState {
    /// Its process, in the lab's PID namespace; `None` between two lives.
    pub pid: Option<u32>,
    /// Its process, as seen from outside the lab.
    pub outer_pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u32,
    /// How its last life ended; empty while it is in its first.
    pub last_end: String,
}

/// A daemon that is kept running until the lab's end.
#[derive(Debug)]
pub struct Daemon {
    spec: DaemonSpec,
    state: Mutex<DaemonState>,
}

impl Daemon {
    /// Starts it and keeps it running.
    ///
    /// # Errors
    /// No thread could be had.
    pub fn start(spec: DaemonSpec, netns: OwnedFd) -> io::Result<Arc<Self>> {
        let daemon = Arc::new(Self {
            spec,
            state: Mutex::new(DaemonState { pid: None, outer_pid: None, restarts: 0, last_end: String::new() }),
        });
        let own = Arc::clone(&daemon);
        thread::Builder::new().name(format!("keep-{}", daemon.spec.name)).spawn(move || {
            match setns(&netns, CloneFlags::CLONE_NEWNET) {
                Ok(()) => own.keep_running(),
                Err(errno) => own.locked().last_end = format!("its namespace is lost: {errno}"),
            }
        })?;
        Ok(daemon)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// How it is.
    pub fn state(&self) -> DaemonState {
        self.locked().clone()
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.spec.log
    }

    /// Waits until `ready` says so; gives up when the daemon has died, or when
    /// the time is over.
    ///
    /// # Errors
    /// A text with the end of the daemon's log.
    pub fn wait_ready(&self, timeout: Duration, mut ready: impl FnMut() -> bool) -> Result<(), String> {
        let deadline = Instant::now() + timeout;
        loop {
            if ready() {
                return Ok(());
            }
            let state = self.state();
            // One end may be a collision at start; two are a habit.
            if state.restarts >= 2 {
                return Err(self.complaint(&format!("ends again and again ({})", state.last_end)));
            }
            if Instant::now() >= deadline {
                let text = format!("is not ready after {} s", timeout.as_secs());
                return Err(self.complaint(&text));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn complaint(&self, what: &str) -> String {
        let name = &self.spec.name;
        match log_tail(&self.spec.log) {
            tail if tail.is_empty() => format!("{name} {what}; it has said nothing"),
            tail => format!("{name} {what}; its last words:\n{tail}"),
        }
    }

    fn locked(&self) -> MutexGuard<'_, DaemonState> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn keep_running(&self) {
        let mut pause = PAUSE_MIN;
        loop {
            let began = Instant::now();
            let end = match self.live_once() {
                Ok(status) => describe(status),
                Err(error) => format!("cannot be started: {error}"),
            };
            tracing::warn!("{} {end}", self.spec.name);
            if began.elapsed() >= LONG_ENOUGH {
                pause = PAUSE_MIN;
            }
            {
                let mut state = self.locked();
                state.pid = None;
                state.outer_pid = None;
                state.last_end = end;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
            self.locked().restarts += 1;
        }
    }

    fn live_once(&self) -> io::Result<ExitStatus> {
        let log = OpenOptions::new().create(true).append(true).open(&self.spec.log)?;
        let mut child = Command::new("/proc/self/exe")
            .args(&self.spec.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.locked().pid = Some(child.id());
        child.wait()
    }
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => match nix::sys::signal::Signal::try_from(signal) {
            Ok(signal) => format!("was ended by {}", signal.as_str()),
            Err(_) => format!("was ended by signal {signal}"),
        },
        (None, None) => "ended".to_owned(),
    }
}

/// The last lines of a log, whole ones.
fn log_tail(path: &Path) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_end();
    match text.split_once('\n') {
        Some((_, whole)) if bytes.len() as u64 == LOG_TAIL_BYTES => whole.to_owned(),
        _ => text.to_owned(),
    }
}

/// Removes what an earlier life of a socket left; used before anything listens.
pub fn remove_stale(path: &Path) {
    let _ = fs::remove_file(path);
}
