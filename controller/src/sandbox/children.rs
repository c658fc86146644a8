//! Process 1's children: starting, signalling and reaping them.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::channel;
use super::protocol::{ExitKind, Reply, SpawnOrder, StdioKind};
use super::rootfs::create_new;
use super::sys::{self, ControllingTerminal};

/// Where programs are looked for unless the lab says otherwise.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The children that somebody asked for, by process id.
pub(super) struct Children {
    env: Vec<(String, String)>,
    waited_for: HashMap<i32, OwnedFd>,
}

/// Streams of a new process, and what its starter gets to keep.
struct Streams {
    stdin: Stdio,
    stdout: Stdio,
    stderr: Stdio,
    terminal: ControllingTerminal,
    kept: Option<OwnedFd>,
}

impl Children {
    pub(super) fn new(env: Vec<(String, String)>) -> Self {
        Self { env, waited_for: HashMap::new() }
    }

    /// Starts a process and answers on `reply`, which then waits for its end.
    pub(super) fn spawn(&mut self, order: SpawnOrder, passed: Vec<OwnedFd>, reply: OwnedFd) {
        match self.start(order, passed) {
            Ok((pid, kept)) => {
                let descriptors: Vec<_> = kept.iter().map(AsFd::as_fd).collect();
                // An asker that has gone needs no answer; the process runs on.
                let _ = channel::send(reply.as_fd(), &Reply::Started { pid }, &descriptors);
                self.waited_for.insert(pid, reply);
            }
            Err((error, exit_code)) => {
                let reason = error.to_string();
                let _ = channel::send(reply.as_fd(), &Reply::Failed { reason, exit_code }, &[]);
            }
        }
    }

    fn start(&self, order: SpawnOrder, passed: Vec<OwnedFd>) -> Result<(i32, Option<OwnedFd>), (io::Error, i32)> {
        let Some((program, arguments)) = order.argv.split_first() else {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "no command is given");
            return Err((error, 126));
        };
        let streams = open_streams(&order.stdio, passed).map_err(|error| (error, 126))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs([("PATH", DEFAULT_PATH), ("HOME", "/root"), ("USER", "root"), ("LOGNAME", "root"), ("TERM", "xterm")])
            .envs(self.env.iter().chain(&order.env).map(|(k, v)| (k, v)))
            .current_dir("/")
            .stdin(streams.stdin)
            .stdout(streams.stdout)
            .stderr(streams.stderr);
        sys::start_in_own_session(&mut command, streams.terminal);
        let child = command.spawn().map_err(|error| {
            let exit_code = match error.kind() {
                io::ErrorKind::NotFound => 127,
                _ => 126,
            };
            (error, exit_code)
        })?;
        let pid = i32::try_from(child.id()).map_err(|error| (io::Error::other(error), 126))?;
        Ok((pid, streams.kept))
    }

    /// Signals the process group that a started process leads.
    pub(super) fn signal(&self, pid: i32, signal: i32) {
        if let (true, Ok(signal)) = (self.waited_for.contains_key(&pid), Signal::try_from(signal)) {
            // It may end at this moment: nothing is lost then.
            let _ = killpg(Pid::from_raw(pid), signal);
        }
    }

    /// Reaps all that has ended, orphans of the device too, and tells askers.
    pub(super) fn reap(&mut self) {
        loop {
            let (pid, kind) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, ExitKind::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, ExitKind::Signal(signal as i32)),
                Ok(WaitStatus::StillAlive) => return,
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(_) => return,
            };
            if let Some(reply) = self.waited_for.remove(&pid.as_raw()) {
                // An asker that has gone needs no answer.
                let _ = channel::send(reply.as_fd(), &Reply::Exited(kind), &[]);
            }
        }
    }
}

fn open_streams(kind: &StdioKind, passed: Vec<OwnedFd>) -> io::Result<Streams> {
    match kind {
        StdioKind::Passed => {
            let mut passed = passed.into_iter().map(Stdio::from);
            match (passed.next(), passed.next(), passed.next()) {
                (Some(stdin), Some(stdout), Some(stderr)) => {
                    Ok(Streams { stdin, stdout, stderr, terminal: ControllingTerminal::None, kept: None })
                }
                _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "three streams are needed")),
            }
        }
        StdioKind::Terminal { rows, columns } => open_terminal(*rows, *columns),
        StdioKind::Log { path } => {
            // Made anew: a script of the lab may have put a pipe there, on which
            // opening would block for ever.
            let log = create_new(path.as_ref(), 0o644)?;
            Ok(Streams {
                stdin: Stdio::null(),
                stdout: Stdio::from(log.try_clone()?),
                stderr: Stdio::from(log.try_clone()?),
                terminal: ControllingTerminal::None,
                kept: Some(log.into()),
            })
        }
    }
}

fn open_terminal(rows: u16, columns: u16) -> io::Result<Streams> {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let slave =
        OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits()).open(ptsname_r(&master)?)?;
    let master = master.as_fd().try_clone_to_owned()?;
    sys::set_window_size(master.as_fd(), rows, columns)?;
    Ok(Streams {
        stdin: Stdio::from(slave.try_clone()?),
        stdout: Stdio::from(slave.try_clone()?),
        stderr: Stdio::from(slave),
        terminal: ControllingTerminal::StandardInput,
        kept: Some(master),
    })
}
