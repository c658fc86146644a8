//! The single-threaded beginning of a supervisor: into namespaces of its own.
//!
//! ```text
//!   megalos up ── exec ──► __supervisor            (session of its own)
//!                            │ unshare user (when not root), mount, network, PID, …
//!                            ├ fork ─► process 1: reaps; its end is the end of everything
//!                            │           └ fork ─► the supervisor proper
//!                            └ exits, when the caller knows process 1's id
//! ```
//!
//! In: nothing but the process's own rights. Out: which of the three the caller
//! is now. Process 1 does nothing but reap, so that the supervisor may use
//! threads and wait for its own children without stepping on strangers.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Pid, Uid, fork};

/// Why a lab cannot have namespaces of its own, with the cure.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    /// User namespaces are needed and not to be had.
    #[error("cannot make a user namespace ({0}), which a lab needs without CAP_SYS_ADMIN: {cure}", cure = user_namespace_cure(*.0))]
    User(Errno),
    /// A user namespace is there, but ids cannot be mapped into it.
    #[error(
        "cannot map your user id into a user namespace ({0}): run as root, or allow it (AppArmor: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0)"
    )]
    Mapping(io::Error),
    /// The other namespaces cannot be made.
    #[error(
        "cannot make mount, network and PID namespaces ({0}): run as root or with CAP_SYS_ADMIN; in a container, add --privileged"
    )]
    Namespaces(Errno),
    /// A file system cannot be mounted inside.
    #[error("cannot mount {what} in the lab's own mount namespace ({source}): {cure}")]
    Mount {
        /// What was mounted.
        what: String,
        /// What the system said.
        source: io::Error,
        /// What to do.
        cure: &'static str,
    },
    /// The process could not be doubled.
    #[error("cannot start a process ({0}): the limit of processes (ulimit -u) may be reached")]
    Fork(Errno),
}

fn user_namespace_cure(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOSPC | Errno::EUSERS => "raise the limit (sysctl -w user.max_user_namespaces=15000), or run as root",
        Errno::EINVAL => "the kernel is built without CONFIG_USER_NS; run as root",
        _ => {
            "allow them (sysctl -w kernel.unprivileged_userns_clone=1, or kernel.apparmor_restrict_unprivileged_userns=0), or run as root"
        }
    }
}

/// Who returns from [`split`] and [`split_init`].
#[derive(Debug)]
pub enum Side {
    /// The one that called; the id of the other as seen from here.
    Parent(Pid),
    /// The new process.
    Child,
}

/// Leaves the namespaces of the caller and starts process 1 of new ones. The
/// process must have one thread.
///
/// # Errors
/// See [`IsolationError`]; nothing is left behind.
pub fn split() -> Result<Side, IsolationError> {
    let others = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    let root = nix::unistd::geteuid().is_root();
    // A root without CAP_SYS_ADMIN (in a container) is helped like any user.
    let direct = if root { unshare(others) } else { Err(Errno::EPERM) };
    match direct {
        Ok(()) => {}
        Err(Errno::EPERM) => {
            enter_user_namespace()?;
            unshare(others).map_err(IsolationError::Namespaces)?;
        }
        Err(errno) => return Err(IsolationError::Namespaces(errno)),
    }
    double()
}

/// Doubles process 1 into itself and the supervisor proper. The process must
/// have one thread.
///
/// # Errors
/// The limit of processes is reached.
pub fn split_init() -> Result<Side, IsolationError> {
    double()
}

fn double() -> Result<Side, IsolationError> {
    // SAFETY: the process has one thread (the contract of both callers), so the
    // child may do all that the parent may.
    match unsafe { fork() }.map_err(IsolationError::Fork)? {
        ForkResult::Parent { child } => Ok(Side::Parent(child)),
        ForkResult::Child => Ok(Side::Child),
    }
}

/// What process 1 does: reaps whoever is left to it until `supervisor` ends.
/// Returns the exit code.
pub fn reap_until(supervisor: Pid) -> u8 {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == supervisor => {
                return u8::try_from(code).unwrap_or(1);
            }
            Ok(WaitStatus::Signaled(pid, ..)) if pid == supervisor => return 1,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return 1,
        }
    }
}

/// Maps the caller to root of a new user namespace, with the ranges of
/// `/etc/subuid` and `/etc/subgid` beside it where `newuidmap` is installed.
fn enter_user_namespace() -> Result<(), IsolationError> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let mut helper = IdMapHelper::start(uid, gid);
    unshare(CloneFlags::CLONE_NEWUSER).map_err(IsolationError::User)?;
    if helper.as_mut().is_some_and(IdMapHelper::map) {
        return Ok(());
    }
    map_own_id(uid, gid).map_err(IsolationError::Mapping)
}

fn map_own_id(uid: Uid, gid: Gid) -> io::Result<()> {
    // The kernel wants this before a group map by an unprivileged writer.
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// A process in the old user namespace, since only from there can the setuid
/// programs write the maps of the new one.
struct IdMapHelper {
    child: std::process::Child,
}

impl IdMapHelper {
    /// Starts it, where there are ranges for this user and the programs.
    fn start(uid: Uid, gid: Gid) -> Option<Self> {
        let user = nix::unistd::User::from_uid(uid).ok().flatten()?.name;
        let (uid_base, uid_count) = subordinate_range("/etc/subuid", &user, uid.as_raw())?;
        let (gid_base, gid_count) = subordinate_range("/etc/subgid", &user, uid.as_raw())?;
        let pid = std::process::id();
        // The shell waits for a line, written once the namespace is there.
        let script = format!(
            "read -r _ && newuidmap {pid} 0 {uid} 1 1 {uid_base} {uid_count} && newgidmap {pid} 0 {gid} 1 1 {gid_base} {gid_count}"
        );
        let child = Command::new("/bin/sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        Some(Self { child })
    }

    /// Has the maps written; `false` when they are not.
    fn map(&mut self) -> bool {
        let told = self.child.stdin.take().map(|mut stdin| stdin.write_all(b"\n"));
        matches!(told, Some(Ok(()))) && self.child.wait().is_ok_and(|status| status.success())
    }
}

impl Drop for IdMapHelper {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The first range of a `subuid(5)` file for a user: base and count.
fn subordinate_range(file: &str, user: &str, uid: u32) -> Option<(u32, u32)> {
    let mut text = String::new();
    File::open(file).ok()?.take(1 << 20).read_to_string(&mut text).ok()?;
    parse_subordinate(&text, user, uid)
}

fn parse_subordinate(text: &str, user: &str, uid: u32) -> Option<(u32, u32)> {
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let base = fields.next()?.parse().ok()?;
        let count: u32 = fields.next()?.parse().ok()?;
        let ours = owner == user || owner.parse() == Ok(uid);
        (ours && count > 0).then_some((base, count))
    })
}

/// Makes the mount namespace the lab's own: nothing propagates, `/proc` shows
/// the lab's processes, `/run` is empty but for the paths in `keep`.
///
/// # Errors
/// [`IsolationError::Mount`].
pub fn arrange_mounts(keep: &[PathBuf]) -> Result<(), IsolationError> {
    let none = None::<&CStr>;
    let failed = |what: &str, cure| {
        let what = what.to_owned();
        move |errno: Errno| IsolationError::Mount { what, source: errno.into(), cure }
    };
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none).map_err(failed("/ privately", "run as root or with CAP_SYS_ADMIN"))?;
    let strict = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), strict, none).map_err(failed(
        "/proc",
        "a container hides parts of its own /proc: start it with --privileged, or with --security-opt systempaths=unconfined",
    ))?;
    replace_run(keep).map_err(|source| IsolationError::Mount {
        what: "an empty /run".to_owned(),
        source,
        cure: "the kernel must allow tmpfs in user namespaces; else run as root",
    })
}

fn replace_run(keep: &[PathBuf]) -> io::Result<()> {
    let below_run = |path: &&PathBuf| path.starts_with("/run") && path.as_path() != Path::new("/run");
    let mut kept: Vec<(&Path, OwnedFd)> = Vec::new();
    for path in keep.iter().filter(below_run) {
        match open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(descriptor) => kept.push((path, descriptor)),
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), flags, Some("mode=0755"))?;
    for (path, descriptor) in kept {
        let seen = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
        if fs::metadata(&seen)?.is_dir() {
            fs::create_dir_all(path)?;
        } else {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            File::create(path)?;
        }
        let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(seen.as_str()), path, None::<&str>, bind, None::<&str>)?;
    }
    fs::create_dir_all("/run/netns")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_a_user_is_found_by_name_or_number() {
        let text = "root:1:2\nann:100000:65536\n1001:200000:10\nbob:x:y\n";
        assert_eq!(parse_subordinate(text, "ann", 1000), Some((100_000, 65_536)));
        assert_eq!(parse_subordinate(text, "eve", 1001), Some((200_000, 10)));
        assert_eq!(parse_subordinate(text, "bob", 1002), None);
    }
}
