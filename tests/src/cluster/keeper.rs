//! The namespaces that a cluster lives in, and the process that keeps them.
//!
//! ```text
//!   this process ── pipe ── sh ── unshare ── process 1 ─┬─ etcd, kube-apiserver, …
//!                            │                          └─ unshare ── process 1 of a node ── containerd, kubelet, …
//!                            └─ removes files and control groups, last
//! ```
//!
//! When this process ends, however it ends, the pipe does; with process 1 the kernel ends all that is below it, and the
//! shell outside removes the rest. A cluster that is to outlive this process has a process 1 that waits for nothing.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use nix::sched::{CloneFlags, setns};

use super::Result;
use super::process::{Process, until};

const SCRIPT: &str = include_str!("keeper.sh");

/// How a cluster ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Life {
    /// With the process that started it.
    Owned,
    /// When somebody says so.
    Background,
}

/// The namespaces of a cluster.
#[derive(Debug)]
pub struct Keeper {
    directory: PathBuf,
    process: Process,
    /// The shell outside, if this process started it.
    shell: Option<Child>,
}

impl Keeper {
    /// Makes the namespaces; `directory` must exist and is removed in the end.
    ///
    /// # Errors
    ///
    /// If they cannot be made.
    pub fn start(directory: &Path, life: Life) -> Result<Self> {
        let path = directory.join("keeper");
        let log = log(directory, "keeper")?;
        let mode = if life == Life::Owned { "pipe" } else { "forever" };
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "keeper"]).arg(directory).arg(mode).arg(groups(directory));
        command.stdin(if life == Life::Owned { Stdio::piped() } else { Stdio::null() });
        // A signal to this process' group, as from a terminal, is not for the cluster.
        command.stdout(Stdio::null()).stderr(log).process_group(0).current_dir("/");
        let mut shell = command.spawn().map_err(|error| format!("cannot run sh: {error}"))?;
        let process = until("the cluster's namespaces", || {
            if let Ok(Some(status)) = shell.try_wait() {
                return Ok(Err(format!("unshare failed ({status}): may this user make namespaces?")));
            }
            Process::read(&path).map(Ok).ok_or("no process yet")
        })??;
        Ok(Self { directory: directory.to_owned(), process, shell: Some(shell) })
    }

    /// The namespaces of a cluster that another process started.
    pub fn attach(directory: &Path) -> Option<Self> {
        let process = Process::read(&directory.join("keeper")).filter(|process| process.is_alive())?;
        Some(Self { directory: directory.to_owned(), process, shell: None })
    }

    /// Where the cluster's files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Process 1 of the cluster.
    pub fn process(&self) -> Process {
        self.process
    }

    /// A command of the machine in the cluster's network: the underlay's side.
    ///
    /// # Errors
    ///
    /// If the cluster is gone.
    pub fn network_command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let path = self.process.namespace("net");
        let namespace = File::open(&path).map_err(|error| format!("the cluster is gone: {path}: {error}"))?;
        let mut command = Command::new(program);
        // SAFETY: setns is async-signal-safe and touches only the child between fork and exec.
        unsafe {
            command.pre_exec(move || setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(std::io::Error::from));
        }
        Ok(command)
    }

    /// Runs a shell line in the cluster's network.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn network(&self, line: &str) -> Result<String> {
        let output = self.network_command("sh")?.args(["-c", line]).output();
        text(line, output)
    }

    /// A command in all namespaces of the cluster, so that it ends with it.
    pub fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.process.pid().to_string()]);
        command.args(["--mount", "--net", "--uts", "--ipc", "--pid", "--wd=/", "--"]);
        command
    }

    /// A command in the network of the cluster that ends with it, among the machine's files.
    pub fn joined_command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.process.pid().to_string(), "--net", "--pid", "--", program]);
        command
    }

    /// Starts a program that runs until it is ended or the cluster is; gives its process.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn spawn(&self, label: &str, program: &Path, arguments: &[String]) -> Result<Process> {
        let file = self.directory.join(format!("{label}.process"));
        let _ = std::fs::remove_file(&file);
        let errors = log(&self.directory, label)?;
        let output = errors.try_clone().map_err(|error| error.to_string())?;
        let script = "read -r line </proc/self/stat; printf '%s\\n' \"$line\" >\"$0.partial\"
            mv \"$0.partial\" \"$0\"; exec \"$@\"";
        let mut command = self.command();
        command.args(["sh", "-c", script]).arg(&file).arg(program).args(arguments);
        command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        let mut child = command.spawn().map_err(|error| format!("cannot run nsenter: {error}"))?;
        let process = until(&format!("{label} to start"), || Process::read(&file).ok_or("no process yet"))?;
        // Somebody has to take note of its end.
        std::thread::spawn(move || child.wait());
        Ok(process)
    }

    /// The process that [`Keeper::spawn`] started under this label, whoever did it, if it runs.
    pub fn spawned(&self, label: &str) -> Option<Process> {
        Process::read(&self.directory.join(format!("{label}.process"))).filter(|process| process.is_alive())
    }

    /// Ends the cluster and waits until nothing is left of it.
    ///
    /// # Errors
    ///
    /// If something stays.
    pub fn end(&mut self) -> Result<()> {
        match self.shell.take() {
            Some(mut shell) => {
                drop(shell.stdin.take());
                self.process.signal(nix::sys::signal::Signal::SIGKILL);
                shell.wait().map_err(|error| error.to_string())?;
            }
            None => self.process.end()?,
        }
        until(&format!("{} to be removed", self.directory.display()), || {
            if self.directory.exists() { Err("it is there") } else { Ok(()) }
        })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if self.shell.as_ref().is_some_and(|shell| shell.stdin.is_some())
            && let Err(error) = self.end()
        {
            let _ = writeln!(std::io::stderr(), "the cluster does not end: {error}");
        }
    }
}

/// How the names of a cluster's control groups begin: kubelet ends what is in groups below its own that it does not
/// know, so no two clusters may share one.
pub(super) fn groups(directory: &Path) -> String {
    directory.to_string_lossy().trim_matches('/').replace('/', "-")
}

/// The file that keeps what `label` prints.
///
/// # Errors
///
/// If it cannot be opened.
pub(super) fn log(directory: &Path, label: &str) -> Result<File> {
    let logs = directory.join("logs");
    std::fs::create_dir_all(&logs).map_err(|error| format!("{}: {error}", logs.display()))?;
    let path = logs.join(format!("{label}.log"));
    File::options().create(true).append(true).open(&path).map_err(|error| format!("{}: {error}", path.display()))
}

/// What a line printed, or why it failed.
pub(super) fn text(line: &str, output: std::io::Result<Output>) -> Result<String> {
    let output = output.map_err(|error| format!("`{line}`: {error}"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{line}` failed ({}): {}", output.status, errors.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
