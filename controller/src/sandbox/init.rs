//! The hidden subcommand: from an executed program to a device's process 1.
//!
//! In: standard input, a memory file with the [`DeviceSpec`]; standard output,
//! the control socket. Out: process 1 as a child of the caller, this process
//! ended.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::libc;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::channel;
use super::identity::IdMap;
use super::process_one;
use super::protocol::Reply;
use super::spec::DeviceSpec;
use super::sys::{self, Cloned};

/// The first argument by which the program is asked to be a device.
pub const INIT_SUBCOMMAND: &str = "__device-init";

/// Makes a device and becomes its process 1. `main` calls this, before it has
/// started any thread, when the first argument is [`INIT_SUBCOMMAND`].
pub fn init_main() -> ! {
    match take_streams() {
        Ok((spec, control)) => become_device(&spec, control),
        Err(error) => {
            eprintln!("{INIT_SUBCOMMAND} is for the program's own use: {error}");
            std::process::exit(2)
        }
    }
}

/// Takes what came on the standard streams and puts `/dev/null` there.
fn take_streams() -> io::Result<(DeviceSpec, OwnedFd)> {
    let spec = channel::read_document(io::stdin().as_fd())?;
    let control = io::stdout().as_fd().try_clone_to_owned()?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok((spec, control))
}

fn become_device(spec: &DeviceSpec, control: OwnedFd) -> ! {
    let outcome =
        IdMap::of_this_process().map_err(|error| format!("reading /proc/self/uid_map: {error}")).and_then(|ids| {
            let cloned = sys::clone_process_one().map_err(|error| explain_clone(&error))?;
            Ok((ids, cloned))
        });
    match outcome {
        Ok((ids, Cloned::ProcessOne)) => process_one::run(spec, &ids, control),
        Ok((_, Cloned::Original { pid, pidfd })) => {
            // If the caller is gone, process 1 sees its socket closed.
            let _ = channel::send(control.as_fd(), &Reply::ProcessOne { pid }, &[pidfd.as_fd()]);
            std::process::exit(0)
        }
        Err(reason) => {
            let refusal = Reply::Failed { reason, exit_code: 1 };
            let _ = channel::send(control.as_fd(), &refusal, &[]);
            std::process::exit(1)
        }
    }
}

/// What to do about refused namespaces.
fn explain_clone(error: &io::Error) -> String {
    let cure = match error.raw_os_error() {
        Some(libc::EPERM) => {
            "run as root, or allow user namespaces: \
             sysctl -w kernel.unprivileged_userns_clone=1 (Debian), \
             kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu); \
             in a container, give it CAP_SYS_ADMIN"
        }
        Some(libc::ENOSPC) => {
            "a limit on namespaces is reached; raise user.max_net_namespaces, \
             user.max_pid_namespaces and the other user.max_*_namespaces sysctls"
        }
        Some(libc::EINVAL | libc::ENOSYS) => {
            "the kernel needs CONFIG_NET_NS, CONFIG_PID_NS, CONFIG_UTS_NS, \
             CONFIG_IPC_NS, and Linux 5.12 or newer"
        }
        Some(libc::EAGAIN | libc::ENOMEM) => {
            "the limit of processes or the memory is exhausted; see ulimit -u and free"
        }
        _ => "see the kernel's log (dmesg)",
    };
    format!("making its namespaces was refused: {error}; {cure}")
}
