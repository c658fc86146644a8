//! Where a daemon lives: a directory for its state, and the file system that its programs come from.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::root;
use crate::host::Host;

/// Enters the sid root in a mount namespace of the process's own, where the root is read-only and `/run` is the daemon's
/// directory: daemons of one kind on several hosts never meet, and the root stays as it was made. The last step is
/// `exec`, so that the process that was started is the daemon.
const ENTER: &str = r#"set -e
root=$1 state=$2
shift 2
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount --bind "$state" "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/var/tmp"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount --rbind /dev "$root/dev"
exec chroot "$root" "$@""#;
/// Seconds that a command may take which only asks.
const PATIENCE_SECS: &str = "30";

/// The place of one daemon.
#[derive(Debug)]
pub struct Place {
    state: PathBuf,
    is_sid: bool,
}

impl Place {
    /// A place for programs of the system itself.
    pub(super) fn system(state: PathBuf) -> Self {
        Self::new(state, false)
    }

    /// A place for programs of the sid root, which see `state` as `/run`.
    pub(super) fn sid(state: PathBuf) -> Self {
        Self::new(state, true)
    }

    fn new(state: PathBuf, is_sid: bool) -> Self {
        std::fs::create_dir_all(&state).unwrap_or_else(|error| panic!("{}: {error}", state.display()));
        Self { state, is_sid }
    }

    /// The daemon's directory as its programs see it.
    pub fn directory(&self) -> &Path {
        if self.is_sid { Path::new("/run") } else { &self.state }
    }

    /// A file of the daemon's directory, as its programs see it.
    pub fn file(&self, name: &str) -> String {
        self.directory().join(name).display().to_string()
    }

    /// Writes a file into the daemon's directory.
    pub(super) fn write(&self, name: &str, text: &str) {
        let path = self.state.join(name);
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Removes a file of the daemon's directory, if it is there.
    pub(super) fn remove(&self, name: &str) {
        let _ = std::fs::remove_file(self.state.join(name));
    }

    /// A command that will run here, on the host.
    pub(super) fn command(&self, host: &Host, program: &str) -> Command {
        if !self.is_sid {
            return host.command(program);
        }
        let mut command = host.command("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", ENTER, "place"]);
        command.arg(root::path()).arg(&self.state).arg(program);
        command
    }

    /// Runs a program that ends by itself.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn run(&self, host: &Host, program: &str, arguments: &[&str]) -> Output {
        let mut command = self.command(host, "timeout");
        command.args(["--signal=KILL", PATIENCE_SECS, program]).args(arguments);
        command.output().unwrap_or_else(|error| panic!("{}: {program}: {error}", host.name()))
    }
}
