//! The supervisor's end of the control socket: a thread per connection.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use cni::server::Listener;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::control::{self, Exec, Reply, Request};
use super::progress::Event;
use super::running::Running;
use super::status::Phase;
use super::{check, scripts};
use crate::sandbox::{Process, SandboxError, SpawnRequest, Stdio, WindowSize};

/// The most commands that are served at once.
const CONNECTIONS_MAX: usize = 256;
/// How long a command that has lost its terminal may take to end.
const HANGUP_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves commands until the process ends.
pub fn serve(listener: Listener, running: Arc<Running>) {
    let active = Arc::new(AtomicUsize::new(0));
    loop {
        let socket = match listener.accept_socket() {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!("a command cannot be accepted: {error}");
                // Descriptors come back when other commands end.
                thread::sleep(Duration::from_millis(50));
                continue;
            }
        };
        if active.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS_MAX {
            let text = format!("{CONNECTIONS_MAX} commands are running already; end some first");
            let _ = control::send(socket.as_fd(), &Reply::Error { text, exit_code: 1 }, &[]);
            active.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let (running, count) = (Arc::clone(&running), Arc::clone(&active));
        let spawned = thread::Builder::new().spawn(move || {
            if let Err(error) = converse(&socket, &running) {
                tracing::debug!("a command's connection failed: {error}");
            }
            count.fetch_sub(1, Ordering::SeqCst);
        });
        if let Err(error) = spawned {
            tracing::warn!("a command cannot be served: {error}");
            active.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Answers one connection until its end.
fn converse(socket: &OwnedFd, running: &Running) -> io::Result<()> {
    while let Some((request, descriptors)) = control::receive::<Request>(socket.as_fd())? {
        let reply = match request {
            Request::Status => Reply::Status(running.status()),
            Request::Exec(exec) => serve_exec(socket, running, exec, descriptors)?,
            Request::Check { timeout_millis } => {
                match check::check(&running.subjects(), Duration::from_millis(timeout_millis)) {
                    Ok(report) => Reply::Checked(report),
                    Err(error) => failure(format!("the check failed: {error}")),
                }
            }
            Request::Shutdown => serve_shutdown(socket, running)?,
            // What it was meant for has just ended.
            Request::Signal { .. } => continue,
        };
        control::send(socket.as_fd(), &reply, &[])?;
    }
    Ok(())
}

fn failure(text: String) -> Reply {
    Reply::Error { text, exit_code: 1 }
}

fn serve_shutdown(socket: &OwnedFd, running: &Running) -> io::Result<Reply> {
    if running.set_phase(Phase::Stopping) == Phase::Stopping {
        return Ok(Reply::Done);
    }
    for text in scripts::stop_all(running) {
        control::send(socket.as_fd(), &Reply::Event { event: Event::Warning { text } }, &[])?;
    }
    Ok(Reply::Done)
}

/// Starts the command and stays with it to its end. The reply is the last one.
fn serve_exec(socket: &OwnedFd, running: &Running, exec: Exec, descriptors: Vec<OwnedFd>) -> io::Result<Reply> {
    let mut process = match spawn(running, exec, descriptors) {
        Ok(process) => process,
        Err(reply) => return Ok(*reply),
    };
    let terminal = process.take_terminal();
    let passed: Vec<_> = terminal.iter().map(AsFd::as_fd).collect();
    let told = control::send(socket.as_fd(), &Reply::Started, &passed);
    drop(passed);
    drop(terminal);
    if let Err(error) = told {
        hang_up(&mut process);
        return Err(error);
    }
    loop {
        let mut polled =
            [PollFd::new(process.as_fd(), PollFlags::POLLIN), PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let [ended, spoken] = polled.map(|polled| polled.any().unwrap_or(false));
        if ended {
            match process.wait_timeout(Duration::ZERO) {
                Ok(Some(status)) => return Ok(Reply::Exited { code: status.code() }),
                Ok(None) => {}
                Err(error) => return Ok(failure(error.to_string())),
            }
        }
        if spoken {
            match control::receive::<Request>(socket.as_fd()) {
                Ok(Some((Request::Signal { number }, _))) => forward(&process, number),
                // Gone, or talking nonsense while its command runs.
                Ok(_) | Err(_) => {
                    hang_up(&mut process);
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
            }
        }
    }
}

fn forward(process: &Process, number: i32) {
    if let Ok(signal) = Signal::try_from(number) {
        // An error means that the device is gone, which the wait will tell.
        let _ = process.signal(signal);
    }
}

/// Ends a command whose user has gone.
fn hang_up(process: &mut Process) {
    for signal in [Signal::SIGHUP, Signal::SIGKILL] {
        let told = process.signal(signal);
        if told.is_err() || !matches!(process.wait_timeout(HANGUP_TIMEOUT), Ok(None)) {
            return;
        }
    }
}

fn spawn(running: &Running, exec: Exec, descriptors: Vec<OwnedFd>) -> Result<Process, Box<Reply>> {
    let found = running.device(&exec.device);
    let device = found.map_err(|text| Box::new(Reply::Error { text, exit_code: 2 }))?;
    let stdio = match exec.terminal {
        Some((rows, columns)) => Stdio::Terminal(WindowSize { rows, columns }),
        None => {
            let streams = <[OwnedFd; 3]>::try_from(descriptors);
            Stdio::Passed(streams.map_err(|_| {
                Box::new(failure("the three standard streams did not come with the request".to_owned()))
            })?)
        }
    };
    let argv = match exec.argv.is_empty() {
        true => vec![device.device.spec().shell.to_string_lossy().into_owned()],
        false => exec.argv,
    };
    let request = SpawnRequest { argv, env: exec.env, stdio };
    device.device.spawn(request).map_err(|error| {
        let exit_code = match &error {
            SandboxError::Exec { exit_code, .. } => u8::try_from(*exit_code).unwrap_or(1),
            _ => 1,
        };
        Box::new(Reply::Error { text: error.to_string(), exit_code })
    })
}
