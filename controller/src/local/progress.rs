//! What a starting supervisor tells the command that started it.
//!
//! In: events, one packet each on a `SOCK_SEQPACKET` pair. Out: a live line on a
//! terminal, plain lines elsewhere. The last event is [`Event::Ready`] or
//! [`Event::Failed`]; when the channel closes without either, the supervisor is
//! gone, and when the command goes first, the supervisor takes the lab down.

use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use cni::transport;
use serde::{Deserialize, Serialize};

/// Texts of events are cut at this many bytes, so that every event fits a packet.
const TEXT_MAX_BYTES: usize = 8 * 1024;

/// The pause between two plain lines that say what is being waited for.
const WAITING_INTERVAL: Duration = Duration::from_secs(10);

/// One step of starting a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Process 1 of the lab, by its id outside.
    Process {
        /// The id.
        pid: i32,
    },
    /// How far a phase is.
    Phase {
        /// What is being done.
        name: String,
        /// How many are done.
        done: usize,
        /// Of how many.
        total: usize,
    },
    /// What is being waited for for a long time; empty when no longer.
    Waiting {
        /// For what.
        text: String,
    },
    /// Something the user should know; the lab comes up all the same.
    Warning {
        /// One or more lines.
        text: String,
    },
    /// Everything is up.
    Ready,
    /// The lab cannot come up.
    Failed {
        /// Cause and cure.
        text: String,
    },
}

/// The supervisor's end.
#[derive(Debug)]
pub struct Reporter {
    socket: Mutex<Option<OwnedFd>>,
}

impl Reporter {
    /// Tells it all to `socket`.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket: Mutex::new(Some(socket)) }
    }

    /// Sends one event. A command that is gone is noticed by who watches the
    /// socket, not here.
    pub fn tell(&self, event: &Event) {
        let socket = self.socket.lock().unwrap_or_else(|e| e.into_inner());
        if let (Some(socket), Ok(text)) = (socket.as_ref(), serde_json::to_vec(event)) {
            let _ = transport::send(socket.as_fd(), &text, &[]);
        }
    }

    /// As [`Self::tell`], for a phase.
    pub fn phase(&self, name: &str, done: usize, total: usize) {
        self.tell(&Event::Phase { name: name.to_owned(), done, total });
    }

    /// As [`Self::tell`], for a warning.
    pub fn warn(&self, text: &str) {
        tracing::warn!("{text}");
        self.tell(&Event::Warning { text: shortened(text) });
    }

    /// As [`Self::tell`], for the failure.
    pub fn fail(&self, text: &str) {
        tracing::error!("{text}");
        self.tell(&Event::Failed { text: shortened(text) });
    }

    /// Says that all is up and lets the command go.
    pub fn ready(&self) {
        self.tell(&Event::Ready);
        *self.socket.lock().unwrap_or_else(|e| e.into_inner()) = None;
    }

    /// A second descriptor of the channel, to watch for the command's end;
    /// `None` once all is up.
    pub fn watch(&self) -> Option<OwnedFd> {
        let socket = self.socket.lock().unwrap_or_else(|e| e.into_inner());
        socket.as_ref()?.try_clone().ok()
    }
}

fn shortened(text: &str) -> String {
    let mut end = text.len().min(TEXT_MAX_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// Receives the next event; `None` when the supervisor is gone.
///
/// # Errors
/// The socket failed or the event is not understood.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<Event>> {
    match transport::receive(socket, 0) {
        Ok(None) => Ok(None),
        Ok(Some(packet)) => Ok(Some(serde_json::from_slice(&packet.bytes)?)),
        Err(transport::ReceiveError::Io(error)) => Err(error),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// Shows events on standard error, so that standard output stays for results.
#[derive(Debug)]
pub struct Display {
    live: bool,
    quiet: bool,
    shown: bool,
    phase: String,
    waiting: String,
    waiting_shown: Option<Instant>,
}

/// Whether progress is shown at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// Progress and warnings.
    Normal,
    /// Warnings only: the output is for a program.
    WarningsOnly,
}

impl Display {
    /// A live line where standard error is a terminal, else plain lines.
    pub fn new(verbosity: Verbosity) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            live: io::stderr().is_terminal() && !dumb,
            quiet: verbosity == Verbosity::WarningsOnly,
            shown: false,
            phase: String::new(),
            waiting: String::new(),
            waiting_shown: None,
        }
    }

    /// Shows one event.
    pub fn show(&mut self, event: &Event) {
        match event {
            Event::Phase { name, done, total } => {
                let text = match total {
                    0 => name.clone(),
                    _ => format!("{name} {done}/{total}"),
                };
                // Elsewhere than on a terminal only whole phases are lines.
                if self.live || done == total {
                    self.progress(text);
                }
            }
            Event::Waiting { text } => {
                self.waiting.clone_from(text);
                if self.live {
                    self.redraw();
                } else if !text.is_empty() && !self.quiet && self.may_repeat() {
                    eprintln!("{text}");
                }
            }
            Event::Warning { text } => self.line(&format!("warning: {text}")),
            Event::Process { .. } | Event::Ready | Event::Failed { .. } => {}
        }
    }

    /// Prints a line that stays.
    pub fn line(&mut self, text: &str) {
        self.clear();
        eprintln!("{text}");
        if self.live && !self.phase.is_empty() {
            self.redraw();
        }
    }

    /// Removes the live line.
    pub fn clear(&mut self) {
        if self.shown {
            eprint!("\r\x1b[K");
            let _ = io::stderr().flush();
            self.shown = false;
        }
    }

    /// Whether it is time for the next line about waiting.
    fn may_repeat(&mut self) -> bool {
        let due = self.waiting_shown.is_none_or(|shown| shown.elapsed() >= WAITING_INTERVAL);
        if due {
            self.waiting_shown = Some(Instant::now());
        }
        due
    }

    fn progress(&mut self, text: String) {
        if self.quiet {
            return;
        }
        self.phase = text;
        if self.live {
            self.redraw();
        } else {
            eprintln!("{}", self.phase);
        }
    }

    fn redraw(&mut self) {
        if self.quiet {
            return;
        }
        let text = match self.waiting.as_str() {
            "" => self.phase.clone(),
            waiting => format!("{}: {waiting}", self.phase),
        };
        // One line, whatever the width: a wrapped line could not be removed.
        let width = super::terminal::width(io::stderr()).unwrap_or(80).max(20);
        let text: String = text.chars().take(width - 1).collect();
        eprint!("\r\x1b[K{text}");
        let _ = io::stderr().flush();
        self.shown = true;
    }
}
