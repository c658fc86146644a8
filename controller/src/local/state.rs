//! What is known on disk of the labs that are up: one directory per lab.
//!
//! ```text
//! /run/megalos/                 root; else $XDG_RUNTIME_DIR/megalos or /tmp/megalos-UID
//!   two-nodes-5f1e09ab33/       name and hash of the lab's identity
//!     lab.json                  which lab, and its supervisor's process
//!     control.sock              the supervisor listens here
//!     supervisor.log  node1.log …
//!     node1.sock  rr1.sock …    control sockets of the daemons
//! ```
//!
//! In: the identity of a lab. Out: its paths, and whether it is up. A lab whose
//! supervisor is gone is dead whatever its directory says, since everything else
//! of a lab lives and dies with that process; only the directory is left to clean.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::process::{ProcessHandle, ProcessIdentity};

/// Overrides where the state of labs is kept.
pub const STATE_DIRECTORY_VARIABLE: &str = "MEGALOS_STATE_DIR";

const DESCRIPTION: &str = "lab.json";

/// The longest state directory, in bytes: a socket's path has 107 at most, and a lab's own part of it up to 45.
const ROOT_MAX_BYTES: usize = 62;

/// What `lab.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabDescription {
    /// The name to show: `LAB_NAME`, else the last part of the directory.
    pub name: String,
    /// What tells this lab from others: `LAB_NAME`, else the directory.
    pub identity: String,
    /// The lab's directory.
    pub directory: PathBuf,
    /// The process whose end is the lab's end.
    pub supervisor: ProcessIdentity,
}

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be made or read.
    #[error(
        "the state directory {}: {source}; set {STATE_DIRECTORY_VARIABLE} to a directory of yours", path.display()
    )]
    Io {
        /// Which directory or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else could write to it.
    #[error(
        "the state directory {} is not yours alone; remove it, or set {STATE_DIRECTORY_VARIABLE} to a directory of yours",
        .0.display()
    )]
    Foreign(PathBuf),
    /// Sockets in it would have paths that the system does not take.
    #[error(
        "the state directory {} has {} bytes, {ROOT_MAX_BYTES} are possible; set {STATE_DIRECTORY_VARIABLE} to a shorter path",
        .0.display(), .0.as_os_str().len()
    )]
    TooLong(PathBuf),
}

impl StateError {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// The directory under which every lab of this user has its own.
#[derive(Clone, Debug)]
pub struct StateRoot(PathBuf);

impl StateRoot {
    /// Finds the directory and makes it, with mode 0700.
    ///
    /// # Errors
    /// It cannot be made, or somebody else may write to it.
    pub fn open() -> Result<Self, StateError> {
        let path = root_path();
        Self::at(path)
    }

    /// As [`Self::open`], at a given place.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn at(path: PathBuf) -> Result<Self, StateError> {
        // The supervisor and the daemons run in another directory.
        let path = std::path::absolute(&path).map_err(StateError::at(&path))?;
        if path.as_os_str().len() > ROOT_MAX_BYTES {
            return Err(StateError::TooLong(path));
        }
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(StateError::at(&path))?;
        // Not followed: a link in /tmp may be anyone's.
        let found = fs::symlink_metadata(&path).map_err(StateError::at(&path))?;
        let own = nix::unistd::geteuid().as_raw();
        if !found.is_dir() || found.uid() != own || found.mode() & 0o022 != 0 {
            return Err(StateError::Foreign(path));
        }
        Ok(Self(path))
    }

    /// Keeps other commands from starting or cleaning a lab while it is held.
    ///
    /// # Errors
    /// What the system says.
    pub fn lock(&self) -> Result<StateLock, StateError> {
        let directory = File::open(&self.0).map_err(StateError::at(&self.0))?;
        let held = Flock::lock(directory, FlockArg::LockExclusive);
        let held = held.map_err(|(_, errno)| StateError::at(&self.0)(errno.into()))?;
        Ok(StateLock { _held: held })
    }

    /// The directory of the lab with this identity and name.
    pub fn lab(&self, identity: &str, name: &str) -> StateDirectory {
        StateDirectory(self.0.join(key(identity, name)))
    }

    /// Every lab that has a directory here, in order of name.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn labs(&self) -> Result<Vec<FoundLab>, StateError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.0).map_err(StateError::at(&self.0))? {
            let entry = entry.map_err(StateError::at(&self.0))?;
            let directory = StateDirectory(entry.path());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.push(directory.look());
            }
        }
        found.sort_by(|a, b| a.directory.0.cmp(&b.directory.0));
        Ok(found)
    }
}

/// See [`StateRoot::lock`].
#[derive(Debug)]
pub struct StateLock {
    _held: Flock<File>,
}

fn root_path() -> PathBuf {
    if let Some(path) = std::env::var_os(STATE_DIRECTORY_VARIABLE).filter(|path| !path.is_empty()) {
        return PathBuf::from(path);
    }
    let own = nix::unistd::geteuid();
    if own.is_root() {
        return PathBuf::from("/run/megalos");
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    match runtime.filter(|path| path.is_absolute() && path.is_dir()) {
        Some(runtime) => runtime.join("megalos"),
        None => PathBuf::from(format!("/tmp/megalos-{own}")),
    }
}

/// A name for the file system: what is readable of `name`, and a hash of the
/// identity. Short, since socket paths are limited to 107 bytes.
fn key(identity: &str, name: &str) -> String {
    let readable: String = name
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(20)
        .collect();
    // FNV-1a: stable across versions, which the standard hashes are not.
    let hash = identity
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{readable}-{:010x}", hash & 0xff_ffff_ffff)
}

/// A lab's directory as it was found.
#[derive(Debug)]
pub struct FoundLab {
    /// Where.
    pub directory: StateDirectory,
    /// What it says; `None` when it says nothing that can be read.
    pub description: Option<LabDescription>,
    /// The supervisor, when it is alive.
    pub supervisor: Option<ProcessHandle>,
}

/// The directory of one lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDirectory(PathBuf);

impl StateDirectory {
    /// The directory at `path`, which the supervisor is told.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where the supervisor listens.
    pub fn control_socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }

    /// What the supervisor itself writes.
    pub fn supervisor_log(&self) -> PathBuf {
        self.log("supervisor")
    }

    /// What a daemon writes.
    pub fn log(&self, daemon: &str) -> PathBuf {
        self.0.join(format!("{daemon}.log"))
    }

    /// A daemon's configuration file.
    pub fn config(&self, daemon: &str) -> PathBuf {
        self.0.join(format!("{daemon}.toml"))
    }

    /// Where a daemon answers `show`.
    pub fn daemon_socket(&self, daemon: &str) -> PathBuf {
        self.0.join(format!("{daemon}.sock"))
    }

    /// Where a node's worker takes attachments.
    pub fn cni_socket(&self, node: &str) -> PathBuf {
        self.0.join(format!("{node}.cni"))
    }

    /// Makes the directory, empty.
    ///
    /// # Errors
    /// It exists, or cannot be made.
    pub fn create(&self) -> Result<(), StateError> {
        let made = DirBuilder::new().mode(0o700).create(&self.0);
        made.map_err(StateError::at(&self.0))
    }

    /// Writes `lab.json`, whole or not at all.
    ///
    /// # Errors
    /// What the system says.
    pub fn describe(&self, description: &LabDescription) -> Result<(), StateError> {
        let path = self.0.join(DESCRIPTION);
        let aside = self.0.join(format!("{DESCRIPTION}.new"));
        let text =
            serde_json::to_vec_pretty(description).map_err(|error| StateError::at(&path)(io::Error::other(error)))?;
        fs::write(&aside, text).map_err(StateError::at(&aside))?;
        fs::rename(&aside, &path).map_err(StateError::at(&path))
    }

    /// Reads the directory and looks for the supervisor.
    pub fn look(&self) -> FoundLab {
        let text = fs::read(self.0.join(DESCRIPTION)).ok();
        let description: Option<LabDescription> = text.and_then(|text| serde_json::from_slice(&text).ok());
        let supervisor = description.as_ref().and_then(|description| description.supervisor.open());
        FoundLab { directory: self.clone(), description, supervisor }
    }

    /// Removes the directory with all that is in it; none is no error.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove(&self) -> Result<(), StateError> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StateError::at(&self.0)(error)),
            _ => Ok(()),
        }
    }

    /// The directory's own name.
    pub fn key(&self) -> &OsStr {
        self.0.file_name().unwrap_or(self.0.as_os_str())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("megalos-state-{name}-{}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn description(pid: i32) -> LabDescription {
        LabDescription {
            name: "x".into(),
            identity: "/labs/x".into(),
            directory: "/labs/x".into(),
            supervisor: ProcessIdentity::of(pid).unwrap(),
        }
    }

    #[test]
    fn a_lab_is_up_while_its_supervisor_lives() {
        let scratch = Scratch::new("up");
        let root = StateRoot::at(scratch.0.clone()).unwrap();
        let lab = root.lab("/labs/x", "x");
        lab.create().unwrap();
        let mut described = description(std::process::id().cast_signed());
        lab.describe(&described).unwrap();
        assert!(lab.look().supervisor.is_some());

        described.supervisor.start_ticks += 1;
        lab.describe(&described).unwrap();
        let found = root.labs().unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].supervisor.is_none());
        assert_eq!(found[0].description.as_ref(), Some(&described));
        lab.remove().unwrap();
        lab.remove().unwrap();
        assert!(root.labs().unwrap().is_empty());
    }

    #[test]
    fn a_state_directory_with_room_for_no_socket_is_refused_before_anything_is_made() {
        let root = std::env::temp_dir();
        let long = root.join("x".repeat(ROOT_MAX_BYTES - root.as_os_str().len()));
        let error = StateRoot::at(long.clone()).unwrap_err().to_string();
        assert!(error.contains("shorter path") && !long.exists(), "{error}");
        let longest_name = StateRoot(PathBuf::from("y".repeat(ROOT_MAX_BYTES))).lab("/x", &"z".repeat(99));
        let sockets = [longest_name.control_socket(), longest_name.cni_socket("node64")];
        assert!(sockets.iter().all(|socket| socket.as_os_str().len() <= 107), "{sockets:?}");
    }

    #[test]
    fn an_unreadable_description_is_a_dead_lab() {
        let scratch = Scratch::new("unreadable");
        let root = StateRoot::at(scratch.0.clone()).unwrap();
        let lab = root.lab("/labs/x", "x");
        lab.create().unwrap();
        fs::write(lab.path().join(DESCRIPTION), "{").unwrap();
        let found = lab.look();
        assert!(found.description.is_none() && found.supervisor.is_none());
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let scratch = Scratch::new("foreign");
        fs::create_dir_all(&scratch.0).unwrap();
        fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o777)).unwrap();
        let error = StateRoot::at(scratch.0.clone()).unwrap_err();
        assert!(matches!(error, StateError::Foreign(_)), "{error}");
    }

    #[test]
    fn keys_are_short_readable_and_differ_by_identity() {
        let one = key("/home/a/Lab One!", "Lab One!");
        assert!(one.starts_with("lab-one--"), "{one}");
        assert_ne!(one, key("/home/b/Lab One!", "Lab One!"));
        assert!(key("x", &"é".repeat(300)).len() <= 31);
    }
}
