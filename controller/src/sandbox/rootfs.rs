//! A device's root directory: built by process 1, in its own mount namespace.
//!
//! ```text
//! /                tmpfs
//! /usr /etc /var…  overlays: the host's directory below, a tmpfs above
//! /proc /sys /dev  the device's own
//! /run /tmp /root  fresh
//! /hostlab         the device's scripts
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::pivot_root;

use super::copy;
use super::error::{Explain, SetupError};
use super::identity::IdMap;
use super::layers::{LAYERS, Layers};
use super::spec::{DeviceSpec, Volume, VolumeMode};
use super::{accounts, host_traces, pseudo, services, sys};

/// Where the host's root is while the device is being built.
pub(super) const HOST: &str = "/.megalos-host";

/// Directories that exist everywhere to build the new root on for a moment.
const STAGING: [&str; 3] = ["/tmp", "/run", "/mnt"];

/// Builds the root and enters it.
pub(super) fn build(spec: &DeviceSpec, ids: &IdMap) -> Result<(), SetupError> {
    enter_new_root(spec.storage_limit_bytes)?;
    let mut layers = Layers::new(ids, spec.storage_limit_bytes)?;
    let host = HostRoot::open()?;
    host_traces::hide(&mut layers)?;
    accounts::write(&layers)?;
    host_traces::identify(&layers, &spec.hostname)?;
    services::install(&layers)?;
    let lab = match &spec.lab_dir {
        Some(directory) => Some(copy::LabTree::read(&host, directory)?),
        None => None,
    };
    if let Some(lab) = &lab {
        lab.prepare(&layers)?;
    }
    let volumes = volumes(spec);
    for volume in &volumes {
        prepare_volume(&layers, &host, volume)?;
    }
    layers.mount_all()?;
    pseudo::make(ids)?;
    host_traces::remove_files();
    if let Some(lab) = &lab {
        lab.copy(&host)?;
        host_traces::fill_empty_hosts(&spec.hostname)?;
    }
    for volume in &volumes {
        mount_volume(&host, volume)?;
    }
    write_scripts(spec)?;
    host_traces::fix_modes(ids);
    drop(host);
    detach(HOST)?;
    detach(LAYERS)?;
    pseudo::protect(ids)
}

/// Makes an empty tmpfs the root, the host's at [`HOST`].
fn enter_new_root(limit_bytes: u64) -> Result<(), SetupError> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .explain(|| "making its mounts private".to_owned())?;
    let Some(staging) = STAGING.iter().map(Path::new).find(|path| path.is_dir()) else {
        return Err(SetupError(format!("the host has none of {}; make one", STAGING.join(", "))));
    };
    mount_tmpfs(staging, limit_bytes)?;
    let host = staging.join(HOST.trim_start_matches('/'));
    fs::create_dir(&host).explain(|| format!("making {}", host.display()))?;
    pivot_root(staging, &host).map_err(|errno| {
        SetupError(format!(
            "changing the root directory: {errno}; a host that runs from its initramfs cannot \
             do that: run from a real root file system"
        ))
    })?;
    std::env::set_current_dir("/").explain(|| "entering the new root".to_owned())
}

/// Mounts a tmpfs of limited size.
pub(super) fn mount_tmpfs(at: &Path, limit_bytes: u64) -> Result<(), SetupError> {
    mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some(format!("mode=0755,size={limit_bytes}").as_str()))
        .explain(|| format!("mounting a tmpfs on {}", at.display()))
}

fn detach(path: &str) -> Result<(), SetupError> {
    umount2(path, MntFlags::MNT_DETACH)
        .map_err(io::Error::from)
        .and_then(|()| fs::remove_dir(path))
        .explain(|| format!("letting go of {path}"))
}

/// The host's root directory for look-ups whose links, absolute ones too,
/// mean the host's files.
pub(super) struct HostRoot(OwnedFd);

impl HostRoot {
    fn open() -> Result<Self, SetupError> {
        let root = File::open(HOST).explain(|| "opening the host's /".to_owned())?;
        Ok(Self(root.into()))
    }

    /// Opens an absolute path of the host.
    pub(super) fn open_path(&self, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
        loop {
            match openat2(&self.0, path, how) {
                Ok(descriptor) => return Ok(descriptor),
                // EAGAIN: something was renamed during the look-up.
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// The device's volumes, the shared directory among them.
fn volumes(spec: &DeviceSpec) -> Vec<Volume> {
    let shared = spec.shared_dir.iter().map(|directory| Volume {
        host: directory.clone(),
        guest: PathBuf::from("/shared"),
        mode: VolumeMode::ReadWrite,
    });
    shared.chain(spec.volumes.iter().cloned()).collect()
}

/// Checks a volume and makes room for its mount point in the upper layer.
fn prepare_volume(layers: &Layers<'_>, host: &HostRoot, volume: &Volume) -> Result<(), SetupError> {
    let guest = guest_path(&volume.guest)?;
    let source = host
        .open_path(&volume.host, OFlag::O_PATH)
        .explain(|| format!("volume {}: the host's path", volume.host.display()))?;
    let is_dir = is_directory(&source).explain(|| format!("volume {}", volume.host.display()))?;
    let directory = if is_dir { Some(guest.as_path()) } else { guest.parent() };
    if let Some(directory) = directory {
        layers.make_dir(directory)?;
    }
    Ok(())
}

fn mount_volume(host: &HostRoot, volume: &Volume) -> Result<(), SetupError> {
    let what = || format!("volume {} at {}", volume.host.display(), volume.guest.display());
    let guest = Path::new("/").join(guest_path(&volume.guest)?);
    let source = host.open_path(&volume.host, OFlag::O_PATH).explain(what)?;
    if is_directory(&source).explain(what)? {
        fs::create_dir_all(&guest).explain(what)?;
    } else if !guest.exists() {
        write_new(&guest, b"", 0o644).explain(what)?;
    }
    mount(
        Some(format!("/proc/self/fd/{}", source.as_raw_fd()).as_str()),
        &guest,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )
    .explain(what)?;
    match volume.mode {
        VolumeMode::ReadOnly => sys::set_mount_read_only(&guest).explain(what),
        VolumeMode::ReadWrite => Ok(()),
    }
}

fn is_directory(descriptor: &OwnedFd) -> io::Result<bool> {
    let kind = nix::sys::stat::fstat(descriptor)?.st_mode & nix::libc::S_IFMT;
    Ok(kind == nix::libc::S_IFDIR)
}

/// A guest path relative to `/`, without a way out of itself.
fn guest_path(path: &Path) -> Result<PathBuf, SetupError> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let plain = relative.components().all(|component| matches!(component, Component::Normal(_)));
    if !path.is_absolute() || !plain || relative.as_os_str().is_empty() {
        return Err(SetupError(format!(
            "the volume's path {} in the device is not an absolute path below /",
            path.display()
        )));
    }
    Ok(relative.to_owned())
}

/// Puts the scripts where Kathará puts them, with its first line.
fn write_scripts(spec: &DeviceSpec) -> Result<(), SetupError> {
    let name = &spec.name;
    let scripts = [
        ("shared.startup".to_owned(), &spec.scripts.shared_startup),
        (format!("{name}.startup"), &spec.scripts.startup),
        (format!("{name}.shutdown"), &spec.scripts.shutdown),
        ("shared.shutdown".to_owned(), &spec.scripts.shared_shutdown),
    ];
    for (file, text) in scripts {
        let Some(text) = text else { continue };
        let path = Path::new("/hostlab").join(&file);
        let mut traced = b"set -x\n".to_vec();
        traced.extend_from_slice(text);
        write_new(&path, &traced, 0o755).explain(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Writes a file anew, whatever stood there, making its directories.
pub(super) fn write_new(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let mut file = create_new(path, mode)?;
    file.write_all(contents)?;
    // The mode at creation is under the umask.
    file.set_permissions(fs::Permissions::from_mode(mode))
}

/// Makes a file anew, whatever stood there, making its directories.
pub(super) fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().read(true).append(true).create_new(true).mode(mode).open(path)
}

/// Opens a regular file for reading; anything else is refused, since a pipe
/// would block.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW).bits()).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}
