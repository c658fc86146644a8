//! A process that may be long gone when it is looked for again.
//!
//! A process id alone is reused by the kernel; together with the time the
//! process started and the boot it belongs to it names one process for good.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

/// The identity of one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Its id, in the namespace of whoever wrote this down.
    pub pid: i32,
    /// When it started, in clock ticks since the boot (`/proc/PID/stat`, field 22).
    pub start_ticks: u64,
    /// The boot it belongs to.
    pub boot_id: String,
}

impl ProcessIdentity {
    /// The identity of the process that has this id now.
    ///
    /// # Errors
    /// There is no such process, or `/proc` is not readable.
    pub fn of(pid: i32) -> io::Result<Self> {
        Ok(Self { pid, start_ticks: start_ticks(pid)?, boot_id: boot_id()? })
    }

    /// A handle on the process; `None` when it is gone.
    pub fn open(&self) -> Option<ProcessHandle> {
        let pidfd = pidfd_open(self.pid).ok()?;
        // The handle is opened first: what it names cannot change under the
        // comparison that follows.
        let same = boot_id().ok()? == self.boot_id && start_ticks(self.pid).ok()? == self.start_ticks;
        let handle = ProcessHandle { pidfd };
        // A zombie has an entry in /proc, and is gone all the same.
        (same && !handle.wait(Duration::ZERO)).then_some(handle)
    }
}

/// A handle on one process, which stays its own however ids are reused.
#[derive(Debug)]
pub struct ProcessHandle {
    pidfd: OwnedFd,
}

impl ProcessHandle {
    /// Ends the process at once; a process that is gone is no error.
    ///
    /// # Errors
    /// The process belongs to somebody else.
    pub fn kill(&self) -> io::Result<()> {
        // SAFETY: plain system call on a descriptor that is open; no pointers
        // but the null that means "no siginfo".
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.pidfd.as_raw_fd(),
                libc::SIGKILL,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        match result {
            0 => Ok(()),
            _ => match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
                error => Err(error),
            },
        }
    }

    /// Waits until the process is gone; `false` when `timeout` came first.
    pub fn wait(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let millis = u16::try_from(left.as_millis()).unwrap_or(u16::MAX);
            let mut polled = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
            match poll(&mut polled, PollTimeout::from(millis)) {
                Ok(0) if left.is_zero() => return false,
                Ok(0) | Err(nix::errno::Errno::EINTR) => {}
                Ok(_) => return true,
                Err(_) => return false,
            }
        }
    }
}

fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain system call without pointers.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let raw = i32::try_from(raw).map_err(io::Error::other)?;
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the system call has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn boot_id() -> io::Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim().to_owned())
}

fn start_ticks(pid: i32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "/proc/PID/stat is malformed");
    // The second field is the command in parentheses, which may hold anything.
    let (_, rest) = stat.rsplit_once(") ").ok_or_else(malformed)?;
    let mut fields = rest.split_ascii_whitespace();
    // `rest` begins with field 3.
    let text = fields.nth(22 - 3).ok_or_else(malformed)?;
    text.parse().map_err(|_| malformed())
}

/// The ids outside of all processes in the PID namespace whose process 1 is
/// `process_one`, by their ids inside.
pub fn outer_ids(process_one: i32) -> BTreeMap<u32, u32> {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(own) = namespace(&process_one.to_string()) else { return BTreeMap::new() };
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let ids = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let outer: u32 = name.parse().ok()?;
        let status = fs::read_to_string(format!("/proc/{name}/status")).ok()?;
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        let inner: u32 = ids.split_ascii_whitespace().next_back()?.parse().ok()?;
        (inner != outer && namespace(&name)? == own).then_some((inner, outer))
    });
    ids.collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_found_again_until_it_is_gone() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let identity = ProcessIdentity::of(child.id().cast_signed()).unwrap();
        let handle = identity.open().expect("alive");
        assert!(!handle.wait(Duration::ZERO));
        handle.kill().unwrap();
        assert!(handle.wait(Duration::from_secs(10)));
        child.wait().unwrap();
        assert!(identity.open().is_none());
        handle.kill().unwrap();
    }

    #[test]
    fn another_process_with_the_same_id_is_not_taken_for_it() {
        let mut identity = ProcessIdentity::of(std::process::id().cast_signed()).unwrap();
        assert!(identity.open().is_some());
        identity.start_ticks += 1;
        assert!(identity.open().is_none());
    }
}
