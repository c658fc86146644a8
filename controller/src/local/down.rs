//! `megalos down`: shutdown scripts, then the end of everything.

use super::control::{Reply, Request};
use super::progress::Event;
use super::select::{Chosen, CommandError, Connection, LiveLab, Selection, choose, clean, label};
use super::state::StateRoot;
use super::up;

/// What `down` has done.
#[derive(Debug, PartialEq, Eq)]
pub enum Down {
    /// The lab of that name was up and is gone.
    Ended(String),
    /// The lab of that name was dead; what was left is cleaned.
    Cleaned(String),
}

/// Ends a lab.
///
/// # Errors
/// Which lab is meant is not clear, or it does not go.
pub fn down(root: &StateRoot, selection: &Selection) -> Result<Down, CommandError> {
    match choose(root, selection)? {
        Chosen::Live(lab) => {
            // A supervisor that cannot be asked is ended all the same.
            if let Err(error) = shut_down(&lab) {
                eprintln!("warning: the shutdown scripts were not all run: {}", error.text);
            }
            let _lock = root.lock().map_err(CommandError::failure)?;
            up::end(&lab.supervisor, &lab.state)?;
            Ok(Down::Ended(lab.description.name))
        }
        Chosen::Dead(dead) => {
            let name = label(&dead);
            clean(root, &dead)?;
            Ok(Down::Cleaned(name))
        }
    }
}

fn shut_down(lab: &LiveLab) -> Result<(), CommandError> {
    let connection = Connection::open(lab)?;
    connection.send(&Request::Shutdown, &[])?;
    loop {
        match connection.receive()?.0 {
            Reply::Event { event: Event::Warning { text } } => eprintln!("warning: {text}"),
            Reply::Event { .. } => {}
            _ => return Ok(()),
        }
    }
}
