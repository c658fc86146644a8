//! The overlays: one per top-level directory of the host, all on one tmpfs.
//!
//! One overlay over the whole of `/` is refused in a user namespace where
//! anything is mounted below it, and so is one over any directory with mounts
//! below. So each top-level directory has its own, and one that holds mounts
//! is taken apart into its entries. What a device shall find changed is made
//! in the upper layer *before* the overlays are mounted: in a user namespace
//! the host's files belong to nobody and could not be changed afterwards.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use super::error::{Explain, SetupError};
use super::identity::IdMap;
use super::rootfs::{HOST, mount_tmpfs};
use super::sys;

/// Where the layers live while the device is being built.
pub(super) const LAYERS: &str = "/.megalos-layers";

/// Top-level directories that are not the host's but the device's own.
const OWN: [&str; 8] = ["proc", "sys", "dev", "run", "tmp", "root", "boot", "lost+found"];

/// Without these a device cannot work.
const ESSENTIAL: [&str; 8] = ["usr", "etc", "var", "bin", "sbin", "lib", "lib64", "opt"];

/// How deep a directory with mounts below is taken apart.
const MAX_DEPTH: usize = 3;

/// The layers under construction.
pub(super) struct Layers<'a> {
    pub(super) ids: &'a IdMap,
    /// Top-level symbolic links of the host, such as `bin` to `usr/bin`.
    links: Vec<(PathBuf, PathBuf)>,
    tops: Vec<PathBuf>,
    mount_points: BTreeSet<PathBuf>,
    fresh: Vec<(PathBuf, PathBuf)>,
    works: usize,
}

impl<'a> Layers<'a> {
    /// Makes the tmpfs and looks at the host's top level.
    pub(super) fn new(ids: &'a IdMap, limit_bytes: u64) -> Result<Self, SetupError> {
        fs::create_dir(LAYERS).explain(|| format!("making {LAYERS}"))?;
        mount_tmpfs(Path::new(LAYERS), limit_bytes)?;
        for part in ["upper", "work", "fresh"] {
            let path = Path::new(LAYERS).join(part);
            fs::create_dir(&path).explain(|| format!("making {}", path.display()))?;
        }
        let mut layers = Self {
            ids,
            links: Vec::new(),
            tops: Vec::new(),
            mount_points: host_mount_points().explain(|| "reading the host's mounts".to_owned())?,
            fresh: Vec::new(),
            works: 0,
        };
        for entry in fs::read_dir(HOST).explain(|| "reading the host's /".to_owned())? {
            let entry = entry.explain(|| "reading the host's /".to_owned())?;
            let name = PathBuf::from(entry.file_name());
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if name.to_str().is_some_and(|name| OWN.contains(&name)) {
                continue;
            }
            if kind.is_symlink() {
                if let Ok(target) = fs::read_link(entry.path()) {
                    layers.links.push((name, target));
                }
            } else if kind.is_dir() && fs::read_dir(entry.path()).is_ok() {
                layers.tops.push(name);
            }
        }
        layers.tops.sort();
        for top in layers.tops.clone() {
            layers.make_dir(&top)?;
        }
        Ok(layers)
    }

    /// Makes a directory of the upper layer with all above it, each with the
    /// host's mode and owner. `None` where the path is not below an overlay or
    /// is no directory on the host. `path` is relative to `/`.
    pub(super) fn make_dir(&self, path: &Path) -> Result<Option<PathBuf>, SetupError> {
        let path = self.without_top_link(path);
        let Some(Component::Normal(top)) = path.components().next() else {
            return Ok(None);
        };
        if !self.tops.iter().any(|known| known.as_os_str() == top) {
            return Ok(None);
        }
        let mut so_far = PathBuf::new();
        for component in path.components() {
            let Component::Normal(name) = component else {
                return Ok(None);
            };
            so_far.push(name);
            let upper = self.upper(&so_far);
            if upper.is_dir() {
                continue;
            }
            let host = fs::symlink_metadata(Path::new(HOST).join(&so_far)).ok();
            if host.as_ref().is_some_and(|host| !host.is_dir()) {
                return Ok(None);
            }
            fs::create_dir(&upper).explain(|| format!("making /{}", so_far.display()))?;
            if let Some(host) = host {
                self.copy_rights(&host, &upper).explain(|| format!("setting the rights of /{}", so_far.display()))?;
            }
        }
        Ok(Some(self.upper(&path)))
    }

    /// Puts a file into the upper layer. Nothing happens below a directory
    /// that is not layered. `path` is relative to `/`.
    pub(super) fn put(&self, path: &str, contents: &[u8], mode: u32) -> Result<(), SetupError> {
        let path = Path::new(path);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(());
        };
        let Some(directory) = self.make_dir(parent)? else {
            return Ok(());
        };
        let file = directory.join(name);
        fs::write(&file, contents)
            .and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(mode)))
            .explain(|| format!("writing /{}", path.display()))
    }

    /// Hides a directory of the host behind an empty one of the same rights;
    /// gives the empty one, `None` where the host has no such directory.
    pub(super) fn make_fresh(&mut self, path: &str) -> Result<Option<PathBuf>, SetupError> {
        let Ok(host) = fs::symlink_metadata(Path::new(HOST).join(path)) else {
            return Ok(None);
        };
        if !host.is_dir() || self.make_dir(Path::new(path))?.is_none() {
            return Ok(None);
        }
        let fresh = Path::new(LAYERS).join(format!("fresh/{}", self.fresh.len()));
        fs::create_dir(&fresh)
            .and_then(|()| self.copy_rights(&host, &fresh))
            .explain(|| format!("making an empty /{path}"))?;
        self.fresh.push((PathBuf::from(path), fresh.clone()));
        Ok(Some(fresh))
    }

    /// Gives a path the mode and, as far as it exists here, the owner of a
    /// file of the host.
    pub(super) fn copy_rights(&self, host: &Metadata, to: &Path) -> io::Result<()> {
        let (uid, gid) = if self.ids.is_host() {
            (host.uid(), host.gid())
        } else {
            // The host's ids are not this namespace's: what shows up here as
            // some id is mostly nobody. The device's files are root's.
            (0, 0)
        };
        chown(to, Some(uid), Some(gid))?;
        fs::set_permissions(to, fs::Permissions::from_mode(host.mode() & 0o7777))
    }

    /// Mounts everything at its place.
    pub(super) fn mount_all(&mut self) -> Result<(), SetupError> {
        for (name, target) in &self.links {
            symlink(target, Path::new("/").join(name)).explain(|| format!("making the link /{}", name.display()))?;
        }
        for top in self.tops.clone() {
            let essential = top.to_str().is_some_and(|top| ESSENTIAL.contains(&top));
            match self.mount_layer(&top, 1) {
                Err(error) if essential => return Err(error),
                // A directory of no importance to labs stays empty.
                _ => {}
            }
        }
        for (path, fresh) in &self.fresh {
            bind(fresh, &Path::new("/").join(path)).explain(|| format!("mounting an empty /{}", path.display()))?;
        }
        Ok(())
    }

    fn mount_layer(&mut self, path: &Path, depth: usize) -> Result<(), SetupError> {
        let target = Path::new("/").join(path);
        if !target.is_dir() {
            fs::create_dir(&target).explain(|| format!("making {}", target.display()))?;
        }
        let upper = self.upper(path);
        if !upper.is_dir() {
            self.make_dir(path)?;
        }
        let has_mounts = self.mount_points.iter().any(|mounted| mounted != path && mounted.starts_with(path));
        if has_mounts && depth < MAX_DEPTH {
            return self.take_apart(path, depth);
        }
        let Err(errno) = self.mount_overlay(path, &target) else {
            return Ok(());
        };
        if has_mounts {
            // Too deep to take apart: readable at least.
            let host = Path::new(HOST).join(path);
            return mount(Some(&host), &target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
                .map_err(io::Error::from)
                .and_then(|()| sys::set_mount_read_only(&target))
                .explain(|| format!("showing /{} read-only", path.display()));
        }
        Err(SetupError(explain_overlay(path, errno)))
    }

    /// Recreates a directory that has mounts below from its entries.
    fn take_apart(&mut self, path: &Path, depth: usize) -> Result<(), SetupError> {
        let upper = self.upper(path);
        let target = Path::new("/").join(path);
        let host = Path::new(HOST).join(path);
        if let Ok(metadata) = fs::symlink_metadata(&upper) {
            self.copy_rights(&metadata, &target).explain(|| format!("setting the rights of {}", target.display()))?;
        }
        let mut names = BTreeSet::new();
        for directory in [&host, &upper] {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                names.insert(entry.file_name());
            }
        }
        for name in names {
            let (entry, at) = (path.join(&name), target.join(&name));
            // What the upper layer has wins, as in an overlay.
            let source = [upper.join(&name), host.join(&name)]
                .into_iter()
                .find_map(|source| Some((fs::symlink_metadata(&source).ok()?, source)));
            let Some((metadata, source)) = source else {
                continue;
            };
            if metadata.is_dir() {
                // Below here a failure costs one directory, not the device.
                let _ = self.mount_layer(&entry, depth + 1);
            } else if metadata.is_symlink() {
                let _ = fs::read_link(&source).and_then(|link| symlink(link, &at));
            } else if metadata.is_file() {
                let copied = fs::copy(&source, &at);
                let _ = copied.and_then(|_| self.copy_rights(&metadata, &at));
            }
        }
        Ok(())
    }

    fn mount_overlay(&mut self, path: &Path, target: &Path) -> Result<(), Errno> {
        self.works += 1;
        let work = Path::new(LAYERS).join(format!("work/{}", self.works));
        fs::create_dir(&work).map_err(|_| Errno::EIO)?;
        let mut options = format!(
            "lowerdir={},upperdir={},workdir={}",
            escape(&Path::new(HOST).join(path))?,
            escape(&self.upper(path))?,
            escape(&work)?
        );
        if !self.ids.is_host() {
            options.push_str(",userxattr");
        }
        mount(Some("overlay"), target, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
    }

    fn upper(&self, path: &Path) -> PathBuf {
        Path::new(LAYERS).join("upper").join(path)
    }

    /// Replaces a first component that is a link on the host by its target.
    fn without_top_link(&self, path: &Path) -> PathBuf {
        let mut components = path.components();
        let top = components.next().map(|top| PathBuf::from(top.as_os_str()));
        let link = self.links.iter().find(|(name, _)| Some(name) == top.as_ref());
        match link {
            Some((_, target)) => target.strip_prefix("/").unwrap_or(target).join(components.as_path()),
            None => path.to_owned(),
        }
    }
}

/// Shows one directory or file at another place.
pub(super) fn bind(source: &Path, target: &Path) -> Result<(), Errno> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
}

/// Overlay options separate by comma and colon.
fn escape(path: &Path) -> Result<String, Errno> {
    let text = path.to_str().ok_or(Errno::EINVAL)?;
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '\\' | ',' | ':') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    Ok(escaped)
}

fn explain_overlay(path: &Path, errno: Errno) -> String {
    let cure = match errno {
        Errno::ENODEV => "the kernel has no overlay file system; as root: modprobe overlay",
        Errno::EPERM => {
            "this kernel does not allow overlays in user namespaces (Linux 5.11 or newer does); \
             run as root"
        }
        Errno::EINVAL => {
            "the host's own file system may already be two overlays deep, or the kernel older \
             than 5.11; run it outside of nested containers; dmesg tells more"
        }
        _ => "dmesg may tell more",
    };
    format!("mounting an overlay over /{}: {errno}; {cure}", path.display())
}

/// The host's mount points relative to its `/`.
fn host_mount_points() -> io::Result<BTreeSet<PathBuf>> {
    let text = fs::read_to_string(Path::new(HOST).join("proc/self/mountinfo"))?;
    let points = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape_octal)
        .filter_map(|point| Path::new(&point).strip_prefix(HOST).ok().map(Path::to_owned))
        .filter(|point| !point.as_os_str().is_empty())
        .collect();
    Ok(points)
}

/// `mountinfo` writes blanks and backslashes as `\040` and `\134`.
fn unescape_octal(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(position) = rest.find('\\') {
        let (before, escape) = rest.split_at(position);
        plain.push_str(before);
        let code = escape.get(1..4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                plain.push(char::from(code));
                rest = escape.get(4..).unwrap_or_default();
            }
            None => {
                plain.push('\\');
                rest = escape.get(1..).unwrap_or_default();
            }
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_escapes_of_mountinfo_are_read() {
        assert_eq!(unescape_octal(r"/a\040b\134c\"), r"/a b\c\");
    }

    #[test]
    fn separators_of_overlay_options_are_escaped() {
        assert_eq!(escape(Path::new("/a:b,c")), Ok(r"/a\:b\,c".to_owned()));
    }
}
