//! Start-up and end of a process: logging, signals, exit codes.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::log_writer::{LogOutput, LogQueue};

/// Exit code of a command line that is not understood.
pub const USAGE: u8 = 2;
/// Exit code of everything else that fails.
pub const FAILURE: u8 = 1;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Parses `args` (without the program's name) as the program `name`; prints help or the usage error and returns the exit
/// code where there is nothing to run.
pub fn parse_args<T: Parser>(name: &str, args: Vec<OsString>) -> Result<T, ExitCode> {
    T::try_parse_from(std::iter::once(OsString::from(name)).chain(args)).map_err(|error| {
        let code = if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        let _ = error.print();
        code
    })
}

/// Where log lines go once [`detach_logging`] has been called.
static LOG: OnceLock<LogQueue> = OnceLock::new();

/// How long the end of a process may wait for its last log lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Starts logging to standard error. `MEGALOS_LOG` selects levels, such as `info,bgp_io=debug`.
pub fn start_logging(format: LogFormat) {
    // Of requests that failed we say ourselves what they were for, and what cures it.
    let filter = EnvFilter::try_from_env("MEGALOS_LOG").unwrap_or_else(|_| EnvFilter::new("info,kube_client=off"));
    // A log file has no use for colours.
    let colours = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    // A second start in one process keeps the first.
    let _ = match format {
        LogFormat::Text => builder.with_writer(LogOutput(&LOG)).try_init(),
        LogFormat::Json => builder.json().with_writer(LogOutput(&LOG)).try_init(),
    };
}

/// From now on logging never waits for who reads it: a thread writes the lines. To be called where threads are allowed, before
/// anything runs that must not be held up. [`finish_logging`] gives the last lines their time.
pub fn detach_logging() {
    match LogQueue::start(std::io::stderr()) {
        // A second one in one process has nothing to write.
        Ok(queue) => _ = LOG.set(queue),
        Err(error) => tracing::warn!(%error, "no thread for the log: who does not read it holds us up"),
    }
}

/// Waits a little until what was logged is written: for the end of the process.
pub fn finish_logging() {
    if let Some(queue) = LOG.get() {
        queue.drain(LAST_LINES);
    }
}

/// A seed for hash tables whose keys peers choose: unpredictable to them, by the standard hasher's own randomness.
pub fn hash_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

/// Says why the program `name` ends, and returns the exit code 1.
pub fn fail(name: &str, error: &dyn Display) -> ExitCode {
    complain(name, error);
    ExitCode::from(FAILURE)
}

/// Says what the command line of the program `name` lacks, and returns the exit code 2.
pub fn fail_usage(name: &str, error: &dyn Display) -> ExitCode {
    complain(name, error);
    eprintln!("{name}: `{name} --help` lists all flags");
    ExitCode::from(USAGE)
}

fn complain(name: &str, error: &dyn Display) {
    finish_logging();
    for line in error.to_string().lines() {
        eprintln!("{name}: {line}");
    }
}

/// What a signal asks of a daemon.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Request {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGTERM or SIGINT: leave.
    Stop,
}

/// The signals that a daemon listens to.
#[derive(Debug)]
pub struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Installs the handlers; needs a tokio runtime.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// The next request.
    pub async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.hangup.recv() => Request::Reload,
            _ = self.interrupt.recv() => Request::Stop,
            _ = self.terminate.recv() => Request::Stop,
        }
    }
}
