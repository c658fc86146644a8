//! The directories that belong to a device's namespaces: `/proc`, `/sys`,
//! `/dev`, and the fresh `/run`, `/tmp` and `/root`.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use super::accounts;
use super::error::{Explain, SetupError};
use super::identity::IdMap;
use super::layers::bind;
use super::rootfs::HOST;
use super::sys;

/// Device files of the host that a device may use.
const DEVICE_FILES: [&str; 7] = ["null", "zero", "full", "random", "urandom", "tty", "net/tun"];

/// Directories of `/run` that services expect, and their owners.
const RUN_DIRECTORIES: [(&str, &str, u32); 5] = [
    ("lock", "root", 0o1777),
    ("frr", "frr", 0o775),
    ("named", "bind", 0o775),
    ("mysqld", "mysql", 0o755),
    ("sshd", "root", 0o755),
];

/// Group of terminals on Debian.
const TTY_GROUP: u32 = 5;

/// Makes them all. The overlays must be mounted.
pub(super) fn make(ids: &IdMap) -> Result<(), SetupError> {
    for (path, mode) in
        [("/proc", 0o555), ("/sys", 0o555), ("/dev", 0o755), ("/run", 0o755), ("/tmp", 0o1777), ("/root", 0o700)]
    {
        directory(path, mode)?;
    }
    mount_proc()?;
    mount_sys();
    make_dev(ids)?;
    make_run()?;
    copy_skeleton();
    Ok(())
}

fn directory(path: &str, mode: u32) -> Result<(), SetupError> {
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .explain(|| format!("making {path}"))
}

fn mount_proc() -> Result<(), SetupError> {
    mount(
        Some("proc"),
        "/proc",
        Some("proc"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        None::<&str>,
    )
    .map_err(|errno| {
        let cure = if errno == Errno::EPERM {
            "parts of the host's own /proc are hidden, as in a container: run it outside, as \
             root, or give the container an unmasked /proc (docker: --privileged, or \
             --security-opt systempaths=unconfined)"
        } else {
            "dmesg may tell more"
        };
        SetupError(format!("mounting its /proc: {errno}; {cure}"))
    })
}

/// Mounts a read-only sysfs of the device's network namespace. Where that is
/// not allowed `/sys` stays empty: labs hardly look there.
fn mount_sys() {
    let _ = mount(
        Some("sysfs"),
        "/sys",
        Some("sysfs"),
        MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        None::<&str>,
    );
}

fn make_dev(ids: &IdMap) -> Result<(), SetupError> {
    for (path, mode) in [("/dev/pts", 0o755), ("/dev/shm", 0o1777), ("/dev/net", 0o755)] {
        directory(path, mode)?;
    }
    for name in DEVICE_FILES {
        let source = Path::new(HOST).join("dev").join(name);
        if !source.exists() {
            continue;
        }
        let target = Path::new("/dev").join(name);
        File::create(&target).explain(|| format!("making {}", target.display()))?;
        bind(&source, &target).explain(|| format!("showing {}", target.display()))?;
    }
    let group = if ids.gid(TTY_GROUP) == TTY_GROUP { format!(",gid={TTY_GROUP}") } else { String::new() };
    mount(
        Some("devpts"),
        "/dev/pts",
        Some("devpts"),
        MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
        Some(format!("newinstance,ptmxmode=0666,mode=0620{group}").as_str()),
    )
    .explain(|| "mounting its /dev/pts".to_owned())?;
    for (link, target) in [
        ("/dev/ptmx", "pts/ptmx"),
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, link).explain(|| format!("making {link}"))?;
    }
    Ok(())
}

fn make_run() -> Result<(), SetupError> {
    let users = accounts::read();
    for (name, owner, mode) in RUN_DIRECTORIES {
        let Some(user) = users.iter().find(|user| user.name == owner) else {
            continue;
        };
        let path = format!("/run/{name}");
        directory(&path, mode)?;
        chown(&path, Some(user.uid), Some(user.gid)).explain(|| format!("owning {path}"))?;
    }
    Ok(())
}

/// Root's home starts as a new user's would. Nothing depends on it.
fn copy_skeleton() {
    for entry in fs::read_dir("/etc/skel").into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let _ = fs::copy(entry.path(), Path::new("/root").join(entry.file_name()));
        }
    }
}

/// For a caller that is really root: makes read-only what in `/proc` governs
/// the whole machine. Settings of the network stay writable.
pub(super) fn protect(ids: &IdMap) -> Result<(), SetupError> {
    if !ids.is_host() {
        return Ok(());
    }
    // Opened first: once the directory is covered they cannot be reached.
    let kept: Vec<_> = ["net", "kernel/hostname", "kernel/domainname"]
        .into_iter()
        .filter_map(|name| {
            let path = Path::new("/proc/sys").join(name);
            Some((File::open(&path).ok()?, path))
        })
        .collect();
    for path in ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"] {
        let path = Path::new(path);
        if !path.exists() {
            continue;
        }
        bind(path, path)
            .map_err(std::io::Error::from)
            .and_then(|()| sys::set_mount_read_only(path))
            .explain(|| format!("making {} read-only", path.display()))?;
    }
    for (file, path) in kept {
        let source = format!("/proc/self/fd/{}", file.as_raw_fd());
        bind(Path::new(&source), &path).explain(|| format!("keeping {} writable", path.display()))?;
    }
    Ok(())
}
