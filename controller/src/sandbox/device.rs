//! The caller's handle of a device.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio as CommandStdio};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, waitid};

use super::channel;
use super::error::SandboxError;
use super::init::INIT_SUBCOMMAND;
use super::process::{Process, SpawnRequest, Stdio, wait_readable};
use super::protocol::{Reply, Request, SpawnOrder, StdioKind};
use super::spec::DeviceSpec;
use super::sys;

/// How long a killed device may take to vanish before the handle lets go.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// What a worker needs to put interfaces into a device.
#[derive(Debug)]
pub struct DeviceNetns {
    /// The device's network namespace.
    pub netns: OwnedFd,
    /// A `NETLINK_ROUTE` socket opened inside it.
    pub netlink: OwnedFd,
}

/// A device that exists. Dropping it kills everything inside.
#[derive(Debug)]
pub struct Device {
    spec: DeviceSpec,
    control: Arc<OwnedFd>,
    pid: i32,
    pidfd: OwnedFd,
    network: DeviceNetns,
    warnings: Vec<String>,
}

impl Device {
    /// Makes the namespaces and the file system, sets the host name, the
    /// default sysctls and the loopback up. Nothing of the lab runs yet.
    ///
    /// Takes some tens of milliseconds and may be called from several threads
    /// at once. It blocks: asynchronous callers use a blocking thread.
    ///
    /// # Errors
    /// [`SandboxError::Spec`] for what no host could do, [`SandboxError::Create`]
    /// with the cure for what this host refused. Nothing is left behind.
    pub fn create(spec: &DeviceSpec) -> Result<Self, SandboxError> {
        spec.validate().map_err(|reason| SandboxError::Spec { device: spec.name.clone(), reason })?;
        let io_error = |action| move |source| SandboxError::Io { device: spec.name.clone(), action, source };
        let document = channel::document(spec).map_err(io_error("writing down the device"))?;
        let (ours, theirs) = channel::pair().map_err(io_error("making a socket"))?;
        // Its standard streams carry both descriptors, so nothing has to be
        // arranged between fork and exec.
        let starter = Command::new(&spec.init_executable)
            .args([INIT_SUBCOMMAND, &spec.name])
            .env_clear()
            .current_dir("/")
            .stdin(CommandStdio::from(document))
            .stdout(CommandStdio::from(theirs))
            .stderr(CommandStdio::null())
            .spawn()
            .map_err(io_error("starting the device's first process"))?;
        let born = await_ready(spec, ours.as_fd());
        reap_starter(starter);
        let born = born?;
        Ok(Self {
            spec: spec.clone(),
            control: Arc::new(ours),
            pid: born.pid,
            pidfd: born.pidfd,
            network: born.network,
            warnings: born.warnings,
        })
    }

    /// The lab's name for it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// What it was made from.
    #[must_use]
    pub fn spec(&self) -> &DeviceSpec {
        &self.spec
    }

    /// The id of its process 1, in the caller's PID namespace.
    #[must_use]
    pub fn process_one(&self) -> i32 {
        self.pid
    }

    /// Readable once the device has ended.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Its network namespace and a netlink socket inside it.
    #[must_use]
    pub fn network(&self) -> &DeviceNetns {
        &self.network
    }

    /// What did not go as asked but let the device stand: a sysctl that this
    /// kernel lacks, a limit that could not be raised.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Starts a command inside. Its environment is the device's own and the
    /// request's, its directory `/`.
    ///
    /// # Errors
    /// [`SandboxError::Exec`] when the program is not there or not executable.
    pub fn spawn(&self, request: SpawnRequest) -> Result<Process, SandboxError> {
        let (kind, passed) = match request.stdio {
            Stdio::Passed(streams) => (StdioKind::Passed, Vec::from(streams)),
            Stdio::Terminal(size) => (StdioKind::Terminal { rows: size.rows, columns: size.columns }, Vec::new()),
            Stdio::Log(path) => (StdioKind::Log { path }, Vec::new()),
        };
        let wants_terminal = matches!(kind, StdioKind::Terminal { .. });
        let command = request.argv.first().cloned().unwrap_or_default();
        let order = Request::Spawn(SpawnOrder { argv: request.argv, env: request.env, stdio: kind });
        let (reply, answer, descriptors) = self.ask(&order, &passed)?;
        match answer {
            Reply::Started { pid } => {
                let first = descriptors.into_iter().next();
                let (terminal, log) = if wants_terminal { (first, None) } else { (None, first.map(File::from)) };
                Ok(Process {
                    device: self.spec.name.clone(),
                    control: Arc::clone(&self.control),
                    reply,
                    pid,
                    terminal,
                    log,
                    status: None,
                })
            }
            Reply::Failed { reason, exit_code } => {
                Err(SandboxError::Exec { device: self.spec.name.clone(), command, reason, exit_code })
            }
            other => Err(self.unexpected(&other)),
        }
    }

    /// Sets sysctls; gives a warning for each that could not be set.
    pub(super) fn set_sysctls(&self, sysctls: &[(String, String)]) -> Result<Vec<String>, SandboxError> {
        if sysctls.is_empty() {
            return Ok(Vec::new());
        }
        match self.ask(&Request::Sysctls(sysctls.to_vec()), &[])?.1 {
            Reply::Done { warnings } => Ok(warnings),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Writes a file of the device, following no link at its end.
    pub(super) fn write_file(&self, path: &str, bytes: &[u8]) -> Result<(), SandboxError> {
        let request = Request::Write { path: path.to_owned(), bytes: bytes.to_vec() };
        match self.ask(&request, &[])?.1 {
            Reply::Done { .. } => Ok(()),
            Reply::Failed { reason, .. } => Err(SandboxError::Create { device: self.spec.name.clone(), reason }),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Opens a regular file of the device; `None` when there is none.
    pub(super) fn open_file(&self, path: &str) -> Result<Option<File>, SandboxError> {
        let request = Request::Open { path: path.to_owned() };
        let (_, answer, descriptors) = self.ask(&request, &[])?;
        match answer {
            Reply::Opened => Ok(descriptors.into_iter().next().map(File::from)),
            Reply::Failed { .. } => Ok(None),
            other => Err(self.unexpected(&other)),
        }
    }

    /// One request and its first answer, with the socket for more.
    fn ask(&self, request: &Request, passed: &[OwnedFd]) -> Result<(OwnedFd, Reply, Vec<OwnedFd>), SandboxError> {
        let failed =
            |source| SandboxError::Io { device: self.spec.name.clone(), action: "asking its first process", source };
        let gone = || SandboxError::Gone { device: self.spec.name.clone() };
        let document = channel::document(request).map_err(failed)?;
        let (ours, theirs) = channel::pair().map_err(failed)?;
        let mut descriptors = vec![document.as_fd(), theirs.as_fd()];
        descriptors.extend(passed.iter().map(AsFd::as_fd));
        channel::send(self.control.as_fd(), &(), &descriptors).map_err(|source| match source.raw_os_error() {
            Some(libc::EPIPE | libc::ECONNRESET) => gone(),
            _ => failed(source),
        })?;
        // With our copy closed, the end of process 1 ends the wait.
        drop(theirs);
        match channel::receive(ours.as_fd()) {
            Ok(Some((answer, descriptors))) => Ok((ours, answer, descriptors)),
            Ok(None) => Err(gone()),
            Err(source) => Err(failed(source)),
        }
    }

    fn unexpected(&self, answer: &Reply) -> SandboxError {
        SandboxError::Io {
            device: self.spec.name.clone(),
            action: "asking its first process",
            source: io::Error::other(format!("unexpected answer {answer:?}")),
        }
    }
}

impl Drop for Device {
    /// Kills process 1; the kernel kills the rest and removes namespaces and
    /// mounts. Returns when that has happened.
    fn drop(&mut self) {
        kill(self.pidfd.as_fd());
    }
}

/// Kills the process behind a pidfd and reaps it if it is our child.
fn kill(pidfd: BorrowedFd<'_>) {
    if sys::kill_by_pidfd(pidfd).is_err() {
        return;
    }
    wait_readable(pidfd, KILL_TIMEOUT);
    // Whoever reaps for the whole namespace may have been faster.
    while waitid(Id::PIDFd(pidfd), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) == Err(Errno::EINTR) {}
}

/// What the births' messages told.
struct Born {
    pid: i32,
    pidfd: OwnedFd,
    network: DeviceNetns,
    warnings: Vec<String>,
}

/// Reads messages until the device stands or cannot.
fn await_ready(spec: &DeviceSpec, control: BorrowedFd<'_>) -> Result<Born, SandboxError> {
    let failed = |reason: String| SandboxError::Create { device: spec.name.clone(), reason };
    let mut process_one: Option<(i32, OwnedFd)> = None;
    let mut ready: Option<(DeviceNetns, Vec<String>)> = None;
    let mut refusal: Option<String> = None;
    let outcome = loop {
        let (reply, descriptors) = match channel::receive::<Reply>(control) {
            Ok(Some(packet)) => packet,
            Ok(None) => {
                let silent = || {
                    format!(
                        "its first process ended without a word; is {} this program?",
                        spec.init_executable.display()
                    )
                };
                break Err(failed(refusal.take().unwrap_or_else(silent)));
            }
            Err(error) => break Err(failed(format!("its first process cannot be heard: {error}"))),
        };
        let mut descriptors = descriptors.into_iter();
        match reply {
            Reply::ProcessOne { pid } => process_one = descriptors.next().map(|fd| (pid, fd)),
            Reply::Ready { warnings } => {
                if let (Some(netns), Some(netlink)) = (descriptors.next(), descriptors.next()) {
                    ready = Some((DeviceNetns { netns, netlink }, warnings));
                }
            }
            // Read on to the end: the process's id may be still to come, and
            // without it nobody could reap it.
            Reply::Failed { reason, .. } => refusal = Some(reason),
            other => break Err(failed(format!("unexpected message {other:?}"))),
        }
        if process_one.is_some()
            && let Some(ready) = ready.take()
        {
            break Ok(ready);
        }
    };
    match (outcome, process_one) {
        (Ok((network, warnings)), Some((pid, pidfd))) => Ok(Born { pid, pidfd, network, warnings }),
        (Err(error), process_one) => {
            if let Some((_, pidfd)) = process_one {
                kill(pidfd.as_fd());
            }
            Err(error)
        }
        (Ok(_), None) => Err(failed("its first process has no id".to_owned())),
    }
}

/// The process that cloned process 1 ends by itself at once.
fn reap_starter(mut starter: Child) {
    // An error means that whoever reaps for all has reaped it.
    let _ = starter.wait();
}
