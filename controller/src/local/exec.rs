//! `megalos exec` and `megalos connect`: a command in a device, with the user's
//! own streams or a terminal of its own.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::control::{Exec, Reply, Request};
use super::select::{CommandError, Connection, LiveLab};
use super::terminal::{self, RawMode, Size};

/// How much is relayed at once, in bytes.
const BLOCK_BYTES: usize = 16 * 1024;
/// How long output is still read after the command has ended.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(200);
/// What a terminal takes for the end of input.
const END_OF_INPUT: u8 = 4;

/// What to run.
#[derive(Debug)]
pub struct Order {
    /// The device.
    pub device: String,
    /// The program and its arguments; empty for the device's shell.
    pub argv: Vec<String>,
    /// Whether it gets a terminal of its own.
    pub streams: Streams,
}

/// What a command's standard streams are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    /// Those of this process.
    Own,
    /// A terminal in the device, relayed.
    Terminal,
}

/// Runs a command in a device; gives its exit code.
///
/// # Errors
/// It cannot be run, or the lab goes meanwhile.
pub fn run(lab: &LiveLab, order: Order) -> Result<u8, CommandError> {
    match order.streams {
        Streams::Own => run_with_own_streams(lab, order),
        Streams::Terminal => run_with_terminal(lab, order),
    }
}

fn environment() -> Vec<(String, String)> {
    let term = std::env::var("TERM").ok().map(|term| ("TERM".to_owned(), term));
    term.into_iter().collect()
}

fn exit_code(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(1)
}

fn unexpected(reply: &Reply) -> CommandError {
    CommandError::failure(format!("unexpected reply {reply:?}; are both programs of one version?"))
}

fn run_with_own_streams(lab: &LiveLab, order: Order) -> Result<u8, CommandError> {
    let signals = take_signals(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT])?;
    let connection = Connection::open(lab)?;
    let request = Request::Exec(Exec { device: order.device, argv: order.argv, env: environment(), terminal: None });
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    connection.send(&request, &[stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])?;
    match connection.receive()? {
        (Reply::Started, _) => {}
        (other, _) => return Err(unexpected(&other)),
    }
    loop {
        let [spoken, signalled] = wait([connection.as_fd(), signals.as_fd()])?;
        if signalled {
            forward_signal(&signals, &connection)?;
        }
        if spoken {
            return match connection.receive()? {
                (Reply::Exited { code }, _) => Ok(exit_code(code)),
                (other, _) => Err(unexpected(&other)),
            };
        }
    }
}

/// The terminal of this process belongs to another session than the command, so
/// its Ctrl-C arrives here.
fn forward_signal(signals: &SignalFd, connection: &Connection) -> Result<(), CommandError> {
    match signals.read_signal().map_err(CommandError::failure)? {
        Some(signal) => {
            let number = i32::try_from(signal.ssi_signo).unwrap_or(libc::SIGTERM);
            connection.send(&Request::Signal { number }, &[])
        }
        None => Ok(()),
    }
}

fn run_with_terminal(lab: &LiveLab, order: Order) -> Result<u8, CommandError> {
    let signals = take_signals(&[Signal::SIGWINCH, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT])?;
    let connection = Connection::open(lab)?;
    let size = terminal::size(io::stdin()).unwrap_or(Size { rows: 24, columns: 80 });
    let request = Request::Exec(Exec {
        device: order.device,
        argv: order.argv,
        env: environment(),
        terminal: Some((size.rows, size.columns)),
    });
    connection.send(&request, &[])?;
    let master = match connection.receive()? {
        (Reply::Started, mut descriptors) if descriptors.len() == 1 => descriptors.remove(0),
        (other, _) => return Err(unexpected(&other)),
    };
    let flags = fcntl(&master, FcntlArg::F_GETFL).map_err(CommandError::failure)?;
    let flags = OFlag::from_bits_truncate(flags) | OFlag::O_NONBLOCK;
    fcntl(&master, FcntlArg::F_SETFL(flags)).map_err(CommandError::failure)?;
    // Dropped on every way out, errors included.
    let _raw = match io::stdin().is_terminal() {
        true => Some(RawMode::enter(io::stdin()).map_err(CommandError::failure)?),
        false => None,
    };
    Relay { connection, signals, master: File::from(master), to_device: Vec::new(), input: Input::Open }.run()
}

/// Whether this process's input has more to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Open,
    Ended,
}

/// Moves bytes between this process's streams and a device's terminal.
struct Relay {
    connection: Connection,
    signals: SignalFd,
    master: File,
    /// Read and not yet taken by the terminal.
    to_device: Vec<u8>,
    input: Input,
}

impl Relay {
    fn run(mut self) -> Result<u8, CommandError> {
        loop {
            let (spoken, signalled, typed) = self.wait()?;
            if signalled {
                self.take_signal()?;
            }
            self.relay_output();
            if typed {
                self.read_input();
            }
            self.write_input();
            if spoken {
                let reply = self.connection.receive()?;
                self.drain();
                return match reply {
                    (Reply::Exited { code }, _) => Ok(exit_code(code)),
                    (other, _) => Err(unexpected(&other)),
                };
            }
        }
    }

    /// Whether the supervisor has spoken, a signal has come, the user has typed.
    fn wait(&self) -> Result<(bool, bool, bool), CommandError> {
        let stdin = io::stdin();
        let mut interest = PollFlags::POLLIN;
        if !self.to_device.is_empty() {
            interest |= PollFlags::POLLOUT;
        }
        let mut polled = vec![
            PollFd::new(self.connection.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.master.as_fd(), interest),
        ];
        // What is typed ahead of a stuck terminal stays where it is.
        if self.input == Input::Open && self.to_device.len() < BLOCK_BYTES {
            polled.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(CommandError::failure(errno)),
        }
        let ready = |position: usize| polled.get(position).and_then(PollFd::any).unwrap_or(false);
        // A terminal whose other side is closed is always ready: the end of the
        // command, which follows at once, is what is waited for.
        if ready(2) && !ready(0) && polled.get(2).and_then(PollFd::revents) == Some(PollFlags::POLLHUP) {
            let mut only = [PollFd::new(self.connection.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut only, PollTimeout::from(50_u8));
        }
        Ok((ready(0), ready(1), ready(3)))
    }

    fn take_signal(&self) -> Result<(), CommandError> {
        match self.signals.read_signal() {
            Ok(Some(signal)) if signal.ssi_signo == libc::SIGWINCH.cast_unsigned() => {
                if let Some(size) = terminal::size(io::stdin()) {
                    terminal::resize(&self.master, size);
                }
                Ok(())
            }
            Ok(Some(signal)) => {
                let exit_code = u8::try_from(128 + signal.ssi_signo).unwrap_or(1);
                Err(CommandError { text: "interrupted".to_owned(), exit_code })
            }
            _ => Ok(()),
        }
    }

    /// Gives what the terminal says to the user; `false` when there was nothing.
    fn relay_output(&mut self) -> bool {
        let mut block = [0_u8; BLOCK_BYTES];
        match self.master.read(&mut block) {
            Ok(length) if length > 0 => {
                let mut stdout = io::stdout().lock();
                // A user who does not listen any more is no reason to stop.
                let _ = stdout.write_all(block.get(..length).unwrap_or_default());
                let _ = stdout.flush();
                true
            }
            _ => false,
        }
    }

    fn read_input(&mut self) {
        let mut block = [0_u8; BLOCK_BYTES];
        // Past the standard library's buffer, which poll knows nothing of.
        match nix::unistd::read(io::stdin(), &mut block) {
            Ok(0) => {
                self.input = Input::Ended;
                self.to_device.push(END_OF_INPUT);
            }
            Ok(length) => self.to_device.extend_from_slice(block.get(..length).unwrap_or_default()),
            Err(nix::errno::Errno::EINTR | nix::errno::Errno::EAGAIN) => {}
            Err(_) => self.input = Input::Ended,
        }
    }

    fn write_input(&mut self) {
        if self.to_device.is_empty() {
            return;
        }
        match self.master.write(&self.to_device) {
            Ok(length) => drop(self.to_device.drain(..length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // The command has closed its terminal: nobody reads on.
            Err(_) => self.to_device.clear(),
        }
    }

    /// Reads what the command has left behind.
    fn drain(&mut self) {
        let deadline = std::time::Instant::now() + DRAIN_TIMEOUT;
        while self.relay_output() && std::time::Instant::now() < deadline {}
    }
}

fn take_signals(signals: &[Signal]) -> Result<SignalFd, CommandError> {
    let mut mask = SigSet::empty();
    for signal in signals {
        mask.add(*signal);
    }
    mask.thread_block().map_err(CommandError::failure)?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC).map_err(CommandError::failure)
}

/// Waits until one of both is readable.
fn wait(descriptors: [std::os::fd::BorrowedFd<'_>; 2]) -> Result<[bool; 2], CommandError> {
    let mut polled = descriptors.map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN));
    match poll(&mut polled, PollTimeout::NONE) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(errno) => return Err(CommandError::failure(errno)),
    }
    Ok(polled.map(|polled| polled.any().unwrap_or(false)))
}
