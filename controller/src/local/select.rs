//! Which lab a command means, and the connection to its supervisor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cni::transport;

use super::control::{self, Reply, Request};
use super::plan::enumerate;
use super::process::ProcessHandle;
use super::state::{FoundLab, LabDescription, StateDirectory, StateRoot};

/// How long a supervisor that does not answer may take to be gone.
const DYING_TIMEOUT: Duration = Duration::from_secs(1);

/// How a command ends that cannot do its work.
#[derive(Debug)]
pub struct CommandError {
    /// Cause and cure.
    pub text: String,
    /// The exit code: 2 for usage, else mostly 1.
    pub exit_code: u8,
}

impl CommandError {
    /// An error that is not the command line's.
    pub fn failure(error: impl ToString) -> Self {
        Self { text: error.to_string(), exit_code: 1 }
    }

    /// An error of the command line.
    pub fn usage(error: impl ToString) -> Self {
        Self { text: error.to_string(), exit_code: 2 }
    }
}

/// How the user names a lab.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// By its directory.
    pub directory: Option<PathBuf>,
    /// By its name.
    pub name: Option<String>,
}

/// A lab whose supervisor is alive.
#[derive(Debug)]
pub struct LiveLab {
    /// Its state directory.
    pub state: StateDirectory,
    /// What it says of itself.
    pub description: LabDescription,
    /// Its supervisor.
    pub supervisor: ProcessHandle,
}

/// A lab that is up, or what is left of one.
#[derive(Debug)]
pub enum Chosen {
    /// It is up.
    Live(LiveLab),
    /// Its supervisor is gone.
    Dead(FoundLab),
}

/// Finds the lab that is meant: the one named; else that of the current
/// directory; else the only one there is.
///
/// # Errors
/// None or several fit; the text names those there are.
pub fn choose(root: &StateRoot, selection: &Selection) -> Result<Chosen, CommandError> {
    let mut labs = root.labs().map_err(CommandError::failure)?;
    let position = match (&selection.directory, &selection.name) {
        (Some(directory), _) => Some(by_directory(&labs, directory)?),
        (None, Some(name)) => Some(by_name(&labs, name)?),
        (None, None) => None,
    };
    let position = match position {
        Some(position) => position,
        None => by_circumstance(&labs)?,
    };
    let found = labs.swap_remove(position);
    Ok(match found {
        FoundLab { directory, description: Some(description), supervisor: Some(supervisor) } => {
            Chosen::Live(LiveLab { state: directory, description, supervisor })
        }
        dead => Chosen::Dead(dead),
    })
}

/// As [`choose`], for commands that need the lab to be up. What is left of a
/// dead one is cleaned.
///
/// # Errors
/// As [`choose`], or the lab is dead.
pub fn choose_live(root: &StateRoot, selection: &Selection) -> Result<LiveLab, CommandError> {
    match choose(root, selection)? {
        Chosen::Live(lab) => Ok(lab),
        Chosen::Dead(dead) => {
            let text = format!(
                "{} is not up any more: its supervisor has ended (was it killed?); `megalos up` starts it again",
                label(&dead)
            );
            clean(root, &dead)?;
            Err(CommandError::failure(text))
        }
    }
}

/// Removes the directory of a lab whose supervisor is gone.
///
/// # Errors
/// It cannot be removed.
pub fn clean(root: &StateRoot, dead: &FoundLab) -> Result<(), CommandError> {
    let _lock = root.lock().map_err(CommandError::failure)?;
    // Another command may have started it again meanwhile.
    if dead.directory.look().supervisor.is_some() {
        return Ok(());
    }
    dead.directory.remove().map_err(CommandError::failure)
}

/// How a lab is called in messages.
pub fn label(found: &FoundLab) -> String {
    match &found.description {
        Some(description) => description.name.clone(),
        None => found.directory.key().to_string_lossy().into_owned(),
    }
}

fn by_directory(labs: &[FoundLab], directory: &Path) -> Result<usize, CommandError> {
    let wanted =
        directory.canonicalize().map_err(|error| CommandError::usage(format!("{}: {error}", directory.display())))?;
    position_of(labs, &wanted)
        .ok_or_else(|| CommandError::failure(format!("the lab in {} is not up; {}", wanted.display(), known(labs))))
}

fn position_of(labs: &[FoundLab], directory: &Path) -> Option<usize> {
    labs.iter().position(|lab| lab.description.as_ref().is_some_and(|d| d.directory == directory))
}

fn by_name(labs: &[FoundLab], name: &str) -> Result<usize, CommandError> {
    let matching: Vec<usize> = labs
        .iter()
        .enumerate()
        .filter(|(_, lab)| label(lab) == name || lab.directory.key() == name)
        .map(|(position, _)| position)
        .collect();
    match matching[..] {
        [position] => Ok(position),
        [] => Err(CommandError::failure(format!("no lab {name} is up; {}", known(labs)))),
        _ => Err(CommandError::usage(format!("several labs are called {name}; choose one with --dir"))),
    }
}

fn by_circumstance(labs: &[FoundLab]) -> Result<usize, CommandError> {
    let here = std::env::current_dir().and_then(|path| path.canonicalize()).ok();
    let own = here.and_then(|here| position_of(labs, &here));
    match (own, labs) {
        (Some(position), _) => Ok(position),
        (None, [_]) => Ok(0),
        (None, []) => Err(CommandError::failure("no lab is up; `megalos up DIR` starts one")),
        (None, _) => {
            Err(CommandError::usage(format!("several labs are up: choose one with --lab or --dir; {}", known(labs))))
        }
    }
}

fn known(labs: &[FoundLab]) -> String {
    let names: Vec<String> = labs.iter().map(label).collect();
    match names.is_empty() {
        true => "no lab is up".to_owned(),
        false => format!("up: {}", enumerate(names.iter().map(String::as_str))),
    }
}

/// A connection to a lab's supervisor.
#[derive(Debug)]
pub struct Connection(OwnedFd);

impl Connection {
    /// Connects to the lab's supervisor.
    ///
    /// # Errors
    /// It does not listen (yet, or any more).
    pub fn open(lab: &LiveLab) -> Result<Self, CommandError> {
        let path = lab.state.control_socket();
        let socket = transport::connect(&path).map_err(|error| {
            let name = &lab.description.name;
            // The kernel takes some milliseconds to remove a lab.
            CommandError::failure(match lab.supervisor.wait(DYING_TIMEOUT) {
                true => format!("{name} has just ended"),
                false => format!(
                    "the supervisor of {name} does not answer ({error}); it may be still starting. Its log: {}",
                    lab.state.supervisor_log().display()
                ),
            })
        })?;
        Ok(Self(socket))
    }

    /// Sends a request.
    ///
    /// # Errors
    /// The supervisor is gone.
    pub fn send(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<(), CommandError> {
        control::send(self.0.as_fd(), request, descriptors).map_err(gone)
    }

    /// Waits for the next reply; an error reply is an error.
    ///
    /// # Errors
    /// The supervisor is gone or refuses.
    pub fn receive(&self) -> Result<(Reply, Vec<OwnedFd>), CommandError> {
        match control::receive(self.0.as_fd()).map_err(gone)? {
            Some((Reply::Error { text, exit_code }, _)) => Err(CommandError { text, exit_code }),
            Some(received) => Ok(received),
            None => Err(gone(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn gone(error: io::Error) -> CommandError {
    CommandError::failure(format!("the lab's supervisor has gone ({error}); `megalos status` shows what is left"))
}
