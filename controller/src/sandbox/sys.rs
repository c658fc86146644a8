//! The system calls that no safe wrapper offers. All `unsafe` of the sandbox.

use std::ffi::CString;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::libc;
use nix::sys::signal::SigSet;
use nix::sys::socket::{ControlMessageOwned, RecvMsg};

/// Takes ownership of the descriptors of a packet just received.
pub(super) fn take_descriptors(message: &RecvMsg<'_, '_, ()>) -> io::Result<Vec<OwnedFd>> {
    let mut taken = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            for descriptor in raw {
                // SAFETY: the kernel made this descriptor for us in recvmsg;
                // nothing else owns it.
                taken.push(unsafe { OwnedFd::from_raw_fd(descriptor) });
            }
        }
    }
    Ok(taken)
}

/// Which side of [`clone_process_one`] this is.
pub(super) enum Cloned {
    /// The original: the new process's id here and a descriptor of it.
    Original { pid: i32, pidfd: OwnedFd },
    /// The new process, number 1 of its PID namespace.
    ProcessOne,
}

/// Clones this process into new network, mount, UTS, IPC and PID namespaces.
/// The new process becomes a child of *this process's parent*, so that this
/// one can end and the caller of all may wait for process 1.
///
/// # Errors
/// What the kernel says; the cure is the caller's to name.
pub(super) fn clone_process_one() -> io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    let flags = libc::CLONE_NEWNS
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWPID
        | libc::CLONE_PIDFD
        | libc::CLONE_PARENT;
    let flags = i64::from(flags) | i64::from(libc::SIGCHLD);
    // SAFETY: no shared memory and a null stack make this a plain fork. This
    // process has one thread, so the child may go on using the allocator. The
    // argument order (flags, stack, parent_tid) is common to the
    // architectures Linux runs Rust on; the kernel writes the pidfd to
    // parent_tid, which is alive.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone,
            flags,
            std::ptr::null_mut::<libc::c_void>(),
            &raw mut pidfd,
            std::ptr::null_mut::<libc::c_int>(),
            0_i64,
        )
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Cloned::ProcessOne),
        pid => Ok(Cloned::Original {
            pid: i32::try_from(pid).map_err(io::Error::other)?,
            // SAFETY: the kernel has just made this descriptor for us.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        }),
    }
}

/// Makes a mount and all below it read-only, keeping its other flags.
pub(super) fn set_mount_read_only(path: &Path) -> io::Result<()> {
    /// `struct mount_attr` of the kernel.
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns: u64,
    }
    const MOUNT_ATTR_RDONLY: u64 = 1;
    const AT_RECURSIVE: libc::c_int = 0x8000;
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attributes = MountAttr { set: MOUNT_ATTR_RDONLY, clear: 0, propagation: 0, userns: 0 };
    // SAFETY: path and attributes live across the call and the size is the
    // structure's own.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            AT_RECURSIVE,
            &raw const attributes,
            mem::size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives up a capability for this process and all it will ever start.
/// Capabilities that are not held or not known here are no error.
pub(super) fn drop_capability(number: libc::c_int) {
    // SAFETY: PR_CAPBSET_DROP takes plain numbers and touches no memory.
    unsafe {
        libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0);
    }
}

/// Sets the loopback interface of this network namespace up.
pub(super) fn set_loopback_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: ifreq is plain data for which all-zero is a valid value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which is alive.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets the size of a terminal, in character cells.
pub(super) fn set_window_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize, which is alive.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What a new process of a device does about its controlling terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ControllingTerminal {
    /// Takes its standard input as such.
    StandardInput,
    /// Has none.
    None,
}

/// Lets the command start in a session of its own, with no signal blocked.
pub(super) fn start_in_own_session(command: &mut Command, terminal: ControllingTerminal) {
    // Process 1 blocks SIGCHLD, and a blocked signal stays so across exec: a
    // shell's `wait` would then never return.
    let none_blocked = SigSet::empty();
    // SAFETY: the closure makes three system calls and allocates nothing, so it
    // may run between fork and exec.
    unsafe {
        command.pre_exec(move || {
            none_blocked.thread_set_mask()?;
            if libc::setsid() < 0 {
                return Err(io::Error::last_os_error());
            }
            if terminal == ControllingTerminal::StandardInput && libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

/// Kills the process that a pidfd names.
pub(super) fn kill_by_pidfd(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: a null siginfo is allowed; the other arguments are numbers.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            libc::SIGKILL,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
