//! The overlay namespace: made once, pinned so that it survives this process, entered by nobody for long.
//!
//! A netlink socket belongs to the namespace of the thread that opened it, for good. So a thread enters the namespace,
//! opens what is needed, and ends; no other thread ever leaves its own namespace.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use tracing::debug;

use crate::Error;

/// Where iproute2 keeps namespaces, so that `ip netns exec NAME` works on ours.
const DIRECTORY: &str = "/run/netns";
const THREAD_NAMESPACE: &str = "/proc/thread-self/ns/net";

/// What a namespace must say before the first device is made in it, and whether the file exists on every kernel.
///
/// A new namespace starts with bridge-nf-call at 1 where br_netfilter is loaded, and a bridge's own setting does not
/// override it. No IPv6 address is ever made here: with addresses the cost of a LAN grows with their number. IPv6 itself
/// stays on, since the kernel would otherwise refuse IPv6 neighbours.
const SYSCTLS: [(&str, &str); 6] = [
    ("net/bridge/bridge-nf-call-iptables", "0"),
    ("net/bridge/bridge-nf-call-ip6tables", "0"),
    ("net/bridge/bridge-nf-call-arptables", "0"),
    ("net/ipv6/conf/default/addr_gen_mode", "1"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv6/conf/all/accept_ra", "0"),
];

/// The path under which a namespace is pinned.
pub(super) fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Makes and pins the namespace unless it is there, and sets it up for bridging; returns whether it was made. For a step
/// that is over before the worker starts, such as an init container: a pin that only its own mount namespace would see is
/// refused.
///
/// # Errors
/// A right is missing, /run/netns is not shared with the host, or a setting cannot be made; each with its cure.
pub fn pin(name: &str) -> Result<bool, Error> {
    check_name(name)?;
    fs::create_dir_all(DIRECTORY).map_err(|error| failed(name, "cannot make /run/netns", &error))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")
        .map_err(|error| failed(name, "cannot read which mounts there are", &error))?;
    if !reaches_host(&mounts, DIRECTORY) {
        let cause = io::Error::other(
            "mounts there stay in this mount namespace: mount the host's /run/netns there with mountPropagation \
             Bidirectional; on a host, `mount --make-shared` what it is on",
        );
        return Err(failed(name, "cannot pin it in /run/netns", &cause));
    }
    let (namespace, made) = open_or_create(name)?;
    let applied = inside(&namespace, || Ok(apply_sysctls()))
        .map_err(|error| Error::kernel(format!("entering the namespace {name}"), error))?;
    match applied.into_iter().next() {
        None => Ok(made),
        Some((sysctl, cause)) => {
            let cause = io::Error::other(format!("{cause}; run this step privileged, so that /proc/sys is writable"));
            Err(failed(name, &format!("cannot set {sysctl}"), &cause))
        }
    }
}

/// Whether what is mounted below `path` appears in the host's mount namespace too: the mount that it is on is shared, and
/// not merely told of what others mount (proc(5), /proc/pid/mountinfo).
fn reaches_host(mountinfo: &str, path: &str) -> bool {
    let on = |line: &&str| {
        let point = line.split(' ').nth(4).unwrap_or_default();
        let below = path.strip_prefix(point.trim_end_matches('/'));
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    // Of several on one point the last one covers the others.
    let covering = mountinfo.lines().filter(on).max_by_key(|line| line.split(' ').nth(4).map(str::len));
    let optional = covering.into_iter().flat_map(|line| line.split(' ').skip(6).take_while(|field| *field != "-"));
    let mut shared = false;
    for field in optional {
        match field.split(':').next() {
            Some("shared") => shared = true,
            Some("master") => return false,
            _ => {}
        }
    }
    shared
}

/// Opens a namespace that [`pin`] has pinned.
///
/// # Errors
/// It is not there, or is only a file.
pub(super) fn open_existing(name: &str) -> Result<File, Error> {
    check_name(name)?;
    open_pinned(&path(name)).ok_or_else(|| {
        let cause = io::Error::other(
            "no namespace is pinned in /run/netns under this name; run `megalos-speaker init` first: in Kubernetes delete \
             this pod, and the next one's init container does it",
        );
        failed(name, "cannot open it", &cause)
    })
}

fn check_name(name: &str) -> Result<(), Error> {
    let valid = !name.is_empty() && name.len() <= 255 && !name.contains(['/', '\0']) && name != "." && name != "..";
    let cause = || io::Error::other("expected 1 to 255 bytes without `/`");
    if valid { Ok(()) } else { Err(failed(name, "its name is not valid", &cause())) }
}

/// Opens the pinned namespace, or makes and pins it; also tells whether it was made. Safe against other processes that do
/// the same.
pub(super) fn open_or_create(name: &str) -> Result<(File, bool), Error> {
    check_name(name)?;
    fs::create_dir_all(DIRECTORY).map_err(|error| failed(name, "cannot make /run/netns", &error))?;
    let directory = File::open(DIRECTORY).map_err(|error| failed(name, "cannot open /run/netns", &error))?;
    // iproute2 takes the same lock.
    let _lock = Flock::lock(directory, FlockArg::LockExclusive)
        .map_err(|(_, errno)| failed(name, "cannot lock /run/netns", &errno.into()))?;
    if let Some(namespace) = open_pinned(&path(name)) {
        return Ok((namespace, false));
    }
    share_directory();
    create_pinned(&path(name)).map_err(|error| failed(name, "cannot make it", &error))?;
    let removed = || failed(name, "cannot open it", &io::Error::other("it was removed at once"));
    Ok((open_pinned(&path(name)).ok_or_else(removed)?, true))
}

fn failed(name: &str, step: &str, cause: &io::Error) -> Error {
    match cause.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            Error::Privilege { action: format!("making or removing the network namespace {name}") }
        }
        _ => Error::Namespace { name: name.to_owned(), step: step.to_owned(), cause: cause.to_string() },
    }
}

/// Opens the file if a namespace is mounted on it; a bare file is what a crash or a reboot left.
fn open_pinned(path: &Path) -> Option<File> {
    let file = File::open(path).ok()?;
    let kind = nix::sys::statfs::fstatfs(&file).ok()?.filesystem_type();
    (kind == nix::sys::statfs::NSFS_MAGIC).then_some(file)
}

/// Lets mounts below the directory reach other mount namespaces, as iproute2 does. Best effort: without it only the
/// command `ip netns` of other mount namespaces is affected.
fn share_directory() {
    let none = None::<&str>;
    let share = || mount(none, DIRECTORY, none, MsFlags::MS_SHARED | MsFlags::MS_REC, none);
    if share() == Err(Errno::EINVAL) {
        let bound = mount(Some(DIRECTORY), DIRECTORY, none, MsFlags::MS_BIND | MsFlags::MS_REC, none);
        if let Err(error) = bound.and_then(|()| share()) {
            debug!(%error, "cannot share {DIRECTORY} with other mount namespaces");
        }
    }
}

fn create_pinned(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    drop(file);
    let pinned = on_a_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        mount(Some(THREAD_NAMESPACE), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(())
    });
    if pinned.is_err() {
        // An empty file would look like a namespace to whoever lists the directory.
        let _ = fs::remove_file(path);
    }
    pinned
}

/// Unpins a namespace; it ends with its last user, and all devices in it. Done is done.
///
/// # Errors
/// It cannot be unmounted.
pub fn remove(name: &str) -> Result<(), Error> {
    let path = path(name);
    match umount2(&path, MntFlags::MNT_DETACH) {
        Ok(()) | Err(Errno::ENOENT | Errno::EINVAL) => {}
        Err(errno) => return Err(failed(name, "cannot unmount it", &errno.into())),
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(name, "cannot remove its file", &error)),
        _ => Ok(()),
    }
}

/// Runs `work` on a thread inside the namespace.
pub(super) fn inside<T: Send>(
    namespace: impl AsFd + Sync,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    on_a_thread(|| {
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        work()
    })
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".into()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the helper thread failed")))
    })
}

/// Sets the namespace of the calling thread up for bridging; what could not be set, and why.
pub(super) fn apply_sysctls() -> Vec<(String, io::Error)> {
    let mut failures = Vec::new();
    for (name, wanted) in SYSCTLS {
        let path = Path::new("/proc/sys").join(name);
        let name = name.replace('/', ".");
        match fs::read_to_string(&path) {
            // Already so, which matters where writing is not permitted.
            Ok(found) if found.trim() == wanted => {}
            Ok(_) => {
                failures.extend(fs::write(&path, wanted).err().map(|error| (format!("{name} to {wanted}"), error)))
            }
            Err(error) => debug!(%error, "this kernel has no {name}"),
        }
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_reaches_the_host_only_from_a_mount_that_is_shared_with_it() {
        let root = "21 1 0:20 / / rw,relatime shared:1 - ext4 /dev/vda rw";
        let private = "21 1 0:20 / / rw,relatime - overlay overlay rw";
        let run = "30 21 0:25 / /run rw,nosuid shared:13 - tmpfs tmpfs rw";
        let bidirectional = "90 21 0:25 /netns /run/netns rw shared:13 - tmpfs tmpfs rw";
        let host_to_container = "90 21 0:25 /netns /run/netns rw master:13 - tmpfs tmpfs rw";
        let both = "90 21 0:25 /netns /run/netns rw shared:40 master:13 - tmpfs tmpfs rw";
        let none = "90 21 0:25 /netns /run/netns rw - tmpfs tmpfs rw";
        let other = "91 21 0:25 / /run/netnsx rw - tmpfs tmpfs rw";
        for (mounts, reaches) in [
            (vec![root], true),
            (vec![private], false),
            (vec![private, run], true),
            (vec![root, run, other], true),
            (vec![private, bidirectional], true),
            (vec![root, run, host_to_container], false),
            (vec![root, run, both], false),
            (vec![root, run, none], false),
            (vec![root, run, none, bidirectional], true),
            (vec![], false),
        ] {
            assert_eq!(reaches_host(&mounts.join("\n"), DIRECTORY), reaches, "{mounts:?}");
        }
    }
}
