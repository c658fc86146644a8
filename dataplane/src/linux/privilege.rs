//! What a worker may do once it has all it needs: `CAP_NET_ADMIN`, and nothing else, for good.
//!
//! Entering a network namespace takes `CAP_SYS_ADMIN`; programming it through a socket that was opened there does not. So
//! whoever opens its sockets first can give everything else up. Capabilities belong to threads: a thread inherits the sets
//! of the one that made it, so a process does this before it has any other.

use std::fmt;
use std::io;

use thiserror::Error;

/// Number of `CAP_NET_ADMIN` (linux/capability.h).
const NET_ADMIN: u32 = 12;
/// The layout of the sets that the kernel is spoken to in: two words each.
const VERSION_3: u32 = 0x2008_0522;

/// Rights could not be given up: the process must not go on with them.
#[derive(Debug, Error)]
#[error("cannot give up capabilities: {step}: {cause}; {cure}")]
pub struct PrivilegeError {
    step: &'static str,
    cause: String,
    cure: &'static str,
}

const GRANT: &str = "start it with the capabilities NET_ADMIN, SYS_ADMIN and SETPCAP, or without --drop-capabilities";

#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Word {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The calling thread's sets: effective, permitted and inheritable, as two words of 32 capabilities each.
type Sets = [Word; 2];

const ONLY_NET_ADMIN: Sets = [
    Word { effective: 1 << NET_ADMIN, permitted: 1 << NET_ADMIN, inheritable: 0 },
    Word { effective: 0, permitted: 0, inheritable: 0 },
];

/// Takes everything but `CAP_NET_ADMIN` from the calling thread, for good: effective, permitted and bounding set hold it
/// alone, the inheritable and the ambient set nothing, and no program that is executed gains anything
/// (`no_new_privs`). Threads that are made afterwards have the same.
///
/// # Errors
/// `CAP_NET_ADMIN` or `CAP_SETPCAP` is missing, or a right is still there afterwards.
pub fn keep_net_admin() -> Result<(), PrivilegeError> {
    clear_ambient().map_err(|error| failed("clearing the ambient set", &error))?;
    for capability in 0.. {
        match bounds(capability) {
            None => break,
            Some(true) if capability != NET_ADMIN => {
                drop_bound(capability).map_err(|error| failed("narrowing the bounding set", &error))?;
            }
            Some(_) => {}
        }
    }
    set(&ONLY_NET_ADMIN).map_err(|error| failed("setting the capability sets", &error))?;
    nix::sys::prctl::set_no_new_privs().map_err(|error| failed("setting no_new_privs", &error))?;
    let left = get().map_err(|error| failed("reading the capability sets", &error))?;
    let bound = (0..).map_while(|capability| bounds(capability).map(|in_set| (capability, in_set)));
    let unbound = bound.filter(|&(capability, in_set)| in_set != (capability == NET_ADMIN)).count();
    if left != ONLY_NET_ADMIN || unbound != 0 {
        return Err(failed("checking what is left", &"more than NET_ADMIN"));
    }
    Ok(())
}

fn failed(step: &'static str, cause: &dyn fmt::Display) -> PrivilegeError {
    PrivilegeError { step, cause: cause.to_string(), cure: GRANT }
}

/// One of the options above, which take a number.
fn prctl(option: libc::c_int, argument: libc::c_ulong) -> io::Result<libc::c_int> {
    let unused: libc::c_ulong = 0;
    // SAFETY: these options read or change attributes of the calling thread and touch no memory of ours.
    let code = unsafe { libc::prctl(option, argument, unused, unused, unused) };
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(code) }
}

/// Whether a capability is in the bounding set; `None` for one that this kernel does not have.
fn bounds(capability: u32) -> Option<bool> {
    prctl(libc::PR_CAPBSET_READ, capability.into()).ok().map(|code| code == 1)
}

fn drop_bound(capability: u32) -> io::Result<()> {
    prctl(libc::PR_CAPBSET_DROP, capability.into()).map(drop)
}

fn clear_ambient() -> io::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL.unsigned_abs().into()).map(drop)
}

fn set(sets: &Sets) -> io::Result<()> {
    let header = Header { version: VERSION_3, pid: 0 };
    // SAFETY: both pointers are to values of the kernel's layout for this version that live through the call; the kernel
    // only reads them.
    let code = unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn get() -> io::Result<Sets> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut sets = Sets::default();
    // SAFETY: both pointers are to values of the kernel's layout for this version that live through the call and that
    // nobody else looks at.
    let code = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) };
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(sets) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sets of the calling thread as the kernel shows them, by name.
    fn shown(name: &str) -> u64 {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(value.trim_start_matches(':').trim(), 16).unwrap()
    }

    #[test]
    fn what_is_given_up_is_gone_for_the_thread_and_its_children() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let before = shown("CapBnd");
        let sets = std::thread::spawn(|| {
            keep_net_admin().unwrap();
            keep_net_admin().unwrap();
            let child =
                std::thread::spawn(|| ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"].map(shown));
            child.join().unwrap()
        });
        let only = 1 << NET_ADMIN;
        assert_eq!(sets.join().unwrap(), [0, only, only, only, 0, 1]);
        assert_eq!(shown("CapBnd"), before, "only the thread that asks loses anything");
    }
}
