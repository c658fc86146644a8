//! `megalos up`: reads a lab, starts its supervisor, shows progress until all is
//! up. What fails half-way is taken down again.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::kernel::FloodingLabs;
use super::plan::{Plan, Wishes};
use super::process::{ProcessHandle, ProcessIdentity};
use super::progress::{self, Display, Event, Verbosity};
use super::select::{CommandError, LiveLab};
use super::spec::LabSpec;
use super::state::{LabDescription, StateDirectory, StateRoot};
use super::{control, neighbours, supervisor};
use crate::lab::{self, Lab};

/// How long a killed lab may take to vanish.
const KILL_TIMEOUT: Duration = Duration::from_secs(20);

/// Everything `up` was asked.
#[derive(Debug)]
pub struct UpRequest {
    /// The lab's directory.
    pub directory: PathBuf,
    /// Nodes, reflectors, pinned devices.
    pub wishes: Wishes,
    /// What to do when the lab could flood the machine.
    pub flooding: FloodingLabs,
    /// Whether progress is shown.
    pub verbosity: Verbosity,
}

/// A lab that has come up.
#[derive(Debug)]
pub struct Up {
    /// The lab.
    pub lab: LiveLab,
    /// Devices, LANs.
    pub counts: (usize, usize),
    /// A device to try first.
    pub first_device: Option<String>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Starts a lab.
///
/// # Errors
/// The lab is wrong or already up, the machine lacks something, or it failed;
/// nothing is left behind.
pub fn up(request: &UpRequest) -> Result<Up, CommandError> {
    let began = Instant::now();
    let mut display = Display::new(request.verbosity);
    let (lab, warnings) = lab::load(&request.directory).map_err(CommandError::failure)?;
    let plan = Plan::new(&lab, &request.wishes).map_err(CommandError::usage)?;
    for warning in &warnings {
        display.line(&format!("warning: {warning}"));
    }
    for passed_over in lab.not_acting() {
        display.line(&format!("note: {}", passed_over.text));
    }
    if let Some(note) = neighbours::make_room(&lab) {
        display.line(&note);
    }
    let root = StateRoot::open().map_err(CommandError::failure)?;
    let counts = (lab.devices.len(), lab.lans.len());
    let first_device = lab.devices.first().map(|device| device.name.clone());
    let lab = Launch::begin(&root, lab, plan, request.flooding)?.finish(&mut display)?;
    Ok(Up { lab, counts, first_device, elapsed: began.elapsed() })
}

/// A lab that is being started.
struct Launch {
    state: StateDirectory,
    description: LabDescription,
    supervisor: ProcessHandle,
    channel: OwnedFd,
    signals: SignalFd,
}

impl Launch {
    /// Makes the state directory and starts the supervisor.
    fn begin(root: &StateRoot, lab: Lab, plan: Plan, flooding: FloodingLabs) -> Result<Self, CommandError> {
        let (name, identity, directory) = (lab.display_name(), lab.identity(), lab.path.clone());
        let state = root.lab(&identity, &name);
        let signals = take_signals().map_err(CommandError::failure)?;
        // Held until `lab.json` tells other commands whose directory this is.
        let _lock = root.lock().map_err(CommandError::failure)?;
        let found = state.look();
        if found.supervisor.is_some() {
            let place = found.description.map_or_else(PathBuf::new, |d| d.directory);
            return Err(CommandError::failure(format!(
                "{name} is already up (from {}); see it with `megalos status`, end it with `megalos down --lab {name}`",
                place.display()
            )));
        }
        state.remove().and_then(|()| state.create()).map_err(CommandError::failure)?;
        let spec = LabSpec { lab, plan, state: state.path().to_owned(), flooding };
        let started = start_supervisor(&spec).and_then(|(child, channel)| {
            let (identity_of_process, supervisor) = await_process(child, &channel)?;
            let description = LabDescription { name, identity, directory, supervisor: identity_of_process };
            let launch = Self { state: state.clone(), description, supervisor, channel, signals };
            match launch.state.describe(&launch.description) {
                Ok(()) => Ok(launch),
                Err(error) => {
                    launch.take_down();
                    Err(CommandError::failure(error))
                }
            }
        });
        if started.is_err() {
            let _ = state.remove();
        }
        started
    }

    /// Shows events until the lab is up; takes it down when it cannot be.
    fn finish(self, display: &mut Display) -> Result<LiveLab, CommandError> {
        let outcome = self.follow(display);
        display.clear();
        match outcome {
            Ok(()) => {
                let Self { state, description, supervisor, .. } = self;
                Ok(LiveLab { state, description, supervisor })
            }
            Err(error) => {
                self.take_down();
                Err(error)
            }
        }
    }

    fn follow(&self, display: &mut Display) -> Result<(), CommandError> {
        loop {
            let mut polled = [
                PollFd::new(self.channel.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut polled, PollTimeout::NONE) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(CommandError::failure(errno)),
            }
            let [spoken, signalled] = polled.map(|polled| polled.any().unwrap_or(false));
            if signalled && let Ok(Some(signal)) = self.signals.read_signal() {
                let exit_code = u8::try_from(128 + signal.ssi_signo).unwrap_or(1);
                return Err(CommandError { text: "interrupted: the lab was taken down".to_owned(), exit_code });
            }
            if !spoken {
                continue;
            }
            match progress::receive(self.channel.as_fd()).map_err(CommandError::failure)? {
                Some(Event::Ready) => return Ok(()),
                Some(Event::Failed { text }) => return Err(CommandError::failure(text)),
                Some(event) => display.show(&event),
                None => return Err(CommandError::failure(self.silent_end())),
            }
        }
    }

    /// What to say of a supervisor that ended without a word.
    fn silent_end(&self) -> String {
        let log = std::fs::read_to_string(self.state.supervisor_log()).unwrap_or_default();
        let words: Vec<&str> = log.lines().rev().take(10).collect();
        let words: Vec<&str> = words.into_iter().rev().collect();
        match words.is_empty() {
            true => "the lab's supervisor ended without a word (was it killed, or is memory short?)".to_owned(),
            false => format!("the lab's supervisor ended; its last words:\n{}", words.join("\n")),
        }
    }

    fn take_down(&self) {
        if let Err(error) = end(&self.supervisor, &self.state) {
            eprintln!("megalos: {}", error.text);
        }
    }
}

/// Kills a lab and removes its directory.
///
/// # Errors
/// It does not go, or the directory cannot be removed.
pub fn end(supervisor: &ProcessHandle, state: &StateDirectory) -> Result<(), CommandError> {
    supervisor.kill().map_err(|error| CommandError::failure(format!("cannot end the lab: {error}")))?;
    if !supervisor.wait(KILL_TIMEOUT) {
        let secs = KILL_TIMEOUT.as_secs();
        return Err(CommandError::failure(format!(
            "the lab was killed and is not gone after {secs} s: a process hangs in the kernel; try `megalos down` again later"
        )));
    }
    state.remove().map_err(CommandError::failure)
}

/// Signals that would end this command are read instead, so that the lab can be
/// taken down first.
fn take_signals() -> io::Result<SignalFd> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        mask.add(signal);
    }
    mask.thread_block()?;
    Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC)?)
}

fn start_supervisor(spec: &LabSpec) -> Result<(Child, OwnedFd), CommandError> {
    let state = StateDirectory::at(spec.state.clone());
    let start = || -> io::Result<(Child, OwnedFd)> {
        let text = serde_json::to_vec(spec)?;
        let (near, far) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        let log = open_log(&state.supervisor_log())?;
        let child = Command::new("/proc/self/exe")
            .arg(supervisor::SUBCOMMAND)
            .current_dir("/")
            .stdin(Stdio::from(control::document(&text)?))
            .stdout(Stdio::from(far))
            .stderr(Stdio::from(log))
            .spawn()?;
        Ok((child, near))
    };
    start().map_err(|error| CommandError::failure(format!("the lab's supervisor cannot be started: {error}")))
}

fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Waits until the supervisor's process 1 is known.
fn await_process(mut child: Child, channel: &OwnedFd) -> Result<(ProcessIdentity, ProcessHandle), CommandError> {
    let event = progress::receive(channel.as_fd());
    let outcome = match event.map_err(CommandError::failure)? {
        Some(Event::Process { pid }) => ProcessIdentity::of(pid)
            .map_err(|error| CommandError::failure(format!("the lab's first process ended at once ({error})"))),
        Some(Event::Failed { text }) => Err(CommandError::failure(text)),
        Some(other) => Err(CommandError::failure(format!("unexpected event {other:?}"))),
        None => Err(CommandError::failure("the lab's supervisor ended at once")),
    };
    // It has passed the lab on to process 1 and ends by itself.
    let _ = child.wait();
    let identity = match outcome {
        Ok(identity) => identity,
        // What it died of may be the next thing it says.
        Err(error) => match progress::receive(channel.as_fd()) {
            Ok(Some(Event::Failed { text })) => return Err(CommandError::failure(text)),
            _ => return Err(error),
        },
    };
    match identity.open() {
        Some(handle) => Ok((identity, handle)),
        None => match progress::receive(channel.as_fd()) {
            Ok(Some(Event::Failed { text })) => Err(CommandError::failure(text)),
            _ => Err(CommandError::failure("the lab's first process ended at once")),
        },
    }
}
