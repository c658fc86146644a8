//! The lab's files for a device, copied over its `/`.
//!
//! Links are followed, as the lab's author sees them on the host, absolute
//! ones too; owners are not kept. What cannot be copied (a device file, a
//! pipe, a link that leads nowhere or in a circle) is refused by name before
//! anything is written.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::OFlag;
use nix::libc;

use super::error::{Explain, SetupError};
use super::layers::{LAYERS, Layers};
use super::rootfs::{HOST, HostRoot, create_new};
use crate::lab::normalise_text;

/// How deep directories may nest.
const MAX_DEPTH: usize = 64;
/// How many files and directories a device's tree may hold.
const MAX_ENTRIES: usize = 100_000;
/// Not copied, as in Kathará.
const IGNORED: &str = ".DS_Store";
/// The longest file looked at as text, in bytes; longer ones are binary.
const MAX_TEXT_BYTES: u64 = 16 << 20;

/// What is to be copied, checked.
pub(super) struct LabTree {
    source: PathBuf,
    /// Paths relative to the tree, parents before their entries.
    directories: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl LabTree {
    /// Lists the tree and refuses what cannot be copied.
    pub(super) fn read(host: &HostRoot, source: &Path) -> Result<Self, SetupError> {
        let mut tree = Self { source: source.to_owned(), directories: Vec::new(), files: Vec::new() };
        tree.list(host, Path::new(""), &mut Vec::new())?;
        Ok(tree)
    }

    /// Lists one directory; `above` are the identities of those it is in.
    fn list(&mut self, host: &HostRoot, relative: &Path, above: &mut Vec<(u64, u64)>) -> Result<(), SetupError> {
        let path = self.source.join(relative);
        let directory = host
            .open_path(&path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
            .explain(|| format!("reading the lab's directory {}", path.display()))?;
        let directory = File::from(directory);
        let metadata = directory.metadata().explain(|| format!("reading {}", path.display()))?;
        let identity = (metadata.dev(), metadata.ino());
        if above.contains(&identity) {
            return Err(SetupError(format!(
                "the lab's {} is a link to a directory that it is in; remove the link",
                path.display()
            )));
        }
        if above.len() >= MAX_DEPTH {
            return Err(SetupError(format!(
                "the lab's {} is nested deeper than {MAX_DEPTH} directories",
                path.display()
            )));
        }
        above.push(identity);
        // The descriptor's own path, since the tree's names mean the host's.
        let listing = fs::read_dir(format!("{HOST}/proc/self/fd/{}", directory.as_raw_fd()))
            .explain(|| format!("reading {}", path.display()))?;
        let mut names = Vec::new();
        for entry in listing {
            names.push(entry.explain(|| format!("reading {}", path.display()))?.file_name());
        }
        names.sort();
        for name in names {
            if name != IGNORED {
                self.add(host, relative.join(name), above)?;
            }
        }
        above.pop();
        Ok(())
    }

    fn add(&mut self, host: &HostRoot, relative: PathBuf, above: &mut Vec<(u64, u64)>) -> Result<(), SetupError> {
        let path = self.source.join(&relative);
        if self.directories.len() + self.files.len() >= MAX_ENTRIES {
            return Err(SetupError(format!(
                "the lab's {} holds more than {MAX_ENTRIES} files; use a volume",
                self.source.display()
            )));
        }
        let reserved = [HOST, LAYERS].map(|path| path.trim_start_matches('/'));
        if relative.to_str().is_some_and(|name| reserved.contains(&name)) {
            return Err(SetupError(format!("the lab's {} has a name that is reserved; rename it", path.display())));
        }
        let opened = host.open_path(&path, OFlag::O_PATH).map_err(|error| SetupError(explain_open(&path, &error)))?;
        let kind = File::from(opened).metadata().explain(|| format!("reading {}", path.display()))?.file_type();
        if kind.is_dir() {
            self.directories.push(relative.clone());
            return self.list(host, &relative, above);
        }
        if kind.is_file() {
            self.files.push(relative);
            return Ok(());
        }
        let what = if kind.is_fifo() {
            "a named pipe"
        } else if kind.is_socket() {
            "a socket"
        } else {
            "a device file"
        };
        Err(SetupError(format!(
            "the lab's {} is {what}, which cannot be copied; remove it, and make it in the \
             startup script if the lab needs it",
            path.display()
        )))
    }

    /// Makes the tree's directories in the upper layer, where a user without
    /// root could not write otherwise.
    pub(super) fn prepare(&self, layers: &Layers<'_>) -> Result<(), SetupError> {
        for directory in &self.directories {
            layers.make_dir(directory)?;
        }
        Ok(())
    }

    /// Copies everything to the device's mounted tree.
    pub(super) fn copy(&self, host: &HostRoot) -> Result<(), SetupError> {
        for directory in &self.directories {
            let target = target(directory);
            if !target.is_dir() {
                fs::create_dir(&target)
                    .explain(|| format!("making the lab's directory {} in the device", target.display()))?;
            }
        }
        for file in &self.files {
            let source = self.source.join(file);
            copy_file(host, &source, &target(file)).map_err(|error| {
                let cure = match error.raw_os_error() {
                    Some(libc::ENOSPC) => "; the device's storage limit is reached, use a volume",
                    Some(libc::EISDIR) => "; it is a directory on the host, rename it in the lab",
                    _ => "",
                };
                SetupError(format!("copying {}: {error}{cure}", source.display()))
            })?;
        }
        Ok(())
    }
}

fn copy_file(host: &HostRoot, source: &Path, target: &Path) -> io::Result<()> {
    let mut from = File::from(host.open_path(source, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?);
    let metadata = from.metadata()?;
    let mut to = create_new(target, 0o600)?;
    if metadata.len() <= MAX_TEXT_BYTES {
        let mut bytes = Vec::new();
        from.take(MAX_TEXT_BYTES).read_to_end(&mut bytes)?;
        to.write_all(&normalise_text(&bytes))?;
    } else {
        io::copy(&mut from, &mut to)?;
    }
    // As cp gives them under the usual umask.
    to.set_permissions(fs::Permissions::from_mode(metadata.mode() & 0o7755))
}

/// Where a file of the tree goes.
fn target(relative: &Path) -> PathBuf {
    // Directory listings give plain names; anything else is left out.
    let plain: PathBuf = relative.components().filter(|component| matches!(component, Component::Normal(_))).collect();
    Path::new("/").join(plain)
}

fn explain_open(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.raw_os_error() {
        Some(libc::ELOOP) => {
            format!("the lab's {path} is a link that leads in a circle; remove it or point it at a file")
        }
        Some(libc::ENOENT) => format!("the lab's {path} is a link that leads nowhere; remove it or point it at a file"),
        Some(libc::EACCES) => format!("the lab's {path} cannot be read: allow it with chmod"),
        _ => format!("reading the lab's {path}: {error}"),
    }
}
