//! Process 1 of a device: builds it, serves the caller, reaps.
//!
//! In: requests on the control socket, ended children. Out: answers on each
//! request's own socket. It has one thread and one loop, and ends, taking the
//! device with it, when the caller's end of the control socket closes.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{sethostname, setsid};

use super::channel;
use super::children::Children;
use super::error::{Explain, SetupError};
use super::identity::IdMap;
use super::protocol::{Reply, Request};
use super::spec::{DeviceSpec, Ulimit};
use super::{rootfs, sys, sysctl};

/// Capabilities that reach past the device's namespaces: raw hardware, kernel
/// modules, the machine's clock, log and power. Numbers of `capability.h`.
const DROPPED_CAPABILITIES: [libc::c_int; 9] = [
    16, // CAP_SYS_MODULE
    17, // CAP_SYS_RAWIO
    22, // CAP_SYS_BOOT
    25, // CAP_SYS_TIME
    27, // CAP_MKNOD
    32, // CAP_MAC_OVERRIDE
    33, // CAP_MAC_ADMIN
    34, // CAP_SYSLOG
    35, // CAP_WAKE_ALARM
];

/// Builds the device and serves it to its end.
pub(super) fn run(spec: &DeviceSpec, ids: &IdMap, control: OwnedFd) -> ! {
    let served = build(spec, ids, &control).map(|()| serve(spec, &control));
    match served {
        Ok(Ok(())) => std::process::exit(0),
        Ok(Err(_)) => std::process::exit(1),
        Err(SetupError(reason)) => {
            let refusal = Reply::Failed { reason, exit_code: 1 };
            // A caller that has gone needs no reason.
            let _ = channel::send(control.as_fd(), &refusal, &[]);
            std::process::exit(1)
        }
    }
}

fn build(spec: &DeviceSpec, ids: &IdMap, control: &OwnedFd) -> Result<(), SetupError> {
    // As a session leader of its own it hears no signal of a terminal.
    setsid().explain(|| "starting a session".to_owned())?;
    // The caller's own may be narrow; the device's files are for all its users.
    umask(Mode::from_bits_truncate(0o022));
    rootfs::build(spec, ids)?;
    sethostname(&spec.hostname).explain(|| format!("setting the host name {}", spec.hostname))?;
    // Before any interface exists: new ones inherit the defaults.
    let mut warnings = sysctl::apply(&sysctl::defaults(spec.ipv6));
    let route = route_socket().explain(|| "opening a netlink socket".to_owned())?;
    let inet = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .explain(|| "opening a socket".to_owned())?;
    sys::set_loopback_up(inet.as_fd()).explain(|| "setting the loopback up".to_owned())?;
    warnings.extend(spec.ulimits.iter().filter_map(apply_ulimit));
    for capability in DROPPED_CAPABILITIES {
        sys::drop_capability(capability);
    }
    let netns = fs::File::open("/proc/self/ns/net").explain(|| "opening its network namespace".to_owned())?;
    channel::send(control.as_fd(), &Reply::Ready { warnings }, &[netns.as_fd(), route.as_fd()])
        .explain(|| "telling that the device stands".to_owned())
}

fn route_socket() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?)
}

/// Sets one limit for all processes to come; a warning where it is refused.
fn apply_ulimit(limit: &Ulimit) -> Option<String> {
    let resource = match limit.name.as_str() {
        "as" => Resource::RLIMIT_AS,
        "core" => Resource::RLIMIT_CORE,
        "cpu" => Resource::RLIMIT_CPU,
        "data" => Resource::RLIMIT_DATA,
        "fsize" => Resource::RLIMIT_FSIZE,
        "locks" => Resource::RLIMIT_LOCKS,
        "memlock" => Resource::RLIMIT_MEMLOCK,
        "msgqueue" => Resource::RLIMIT_MSGQUEUE,
        "nice" => Resource::RLIMIT_NICE,
        "nofile" => Resource::RLIMIT_NOFILE,
        "nproc" => Resource::RLIMIT_NPROC,
        "rss" => Resource::RLIMIT_RSS,
        "rtprio" => Resource::RLIMIT_RTPRIO,
        "rttime" => Resource::RLIMIT_RTTIME,
        "sigpending" => Resource::RLIMIT_SIGPENDING,
        "stack" => Resource::RLIMIT_STACK,
        other => {
            return Some(format!(
                "ulimit {other} is not known; known are as, core, cpu, data, fsize, locks, \
                 memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, sigpending, stack"
            ));
        }
    };
    let hard = limit.hard.unwrap_or(libc::RLIM_INFINITY);
    let soft = limit.soft.unwrap_or(libc::RLIM_INFINITY).min(hard);
    let error = setrlimit(resource, soft, hard).err()?;
    Some(format!(
        "ulimit {} cannot be set to {soft}:{hard}: {error}; only real root may raise a hard limit",
        limit.name
    ))
}

/// Serves requests and reaps until the caller goes.
fn serve(spec: &DeviceSpec, control: &OwnedFd) -> io::Result<()> {
    let mut ended = SigSet::empty();
    ended.add(Signal::SIGCHLD);
    ended.thread_block()?;
    let signals = SignalFd::with_flags(&ended, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let mut children = Children::new(spec.env.clone());
    loop {
        let mut polled =
            [PollFd::new(control.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready = |polled: &PollFd<'_>| polled.any().unwrap_or(false);
        let (asked, child_ended) = (ready(&polled[0]), ready(&polled[1]));
        if child_ended {
            while let Ok(Some(_)) = signals.read_signal() {}
            children.reap();
        }
        if asked {
            match channel::receive::<()>(control.as_fd()) {
                Ok(Some(((), descriptors))) => handle(&mut children, descriptors),
                Ok(None) => return Ok(()),
                // One packet was not to be understood; the next may be.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Carries out one request. One that is not to be understood is dropped, which
/// closes its socket and so tells the asker.
fn handle(children: &mut Children, descriptors: Vec<OwnedFd>) {
    let mut descriptors = descriptors.into_iter();
    let Some(document) = descriptors.next() else {
        return;
    };
    let Ok(request) = channel::read_document::<Request>(&document) else {
        return;
    };
    if let Request::Signal { pid, signal } = request {
        children.signal(pid, signal);
        return;
    }
    let Some(reply) = descriptors.next() else {
        return;
    };
    match request {
        Request::Spawn(order) => children.spawn(order, descriptors.collect(), reply),
        Request::Sysctls(sysctls) => {
            let warnings = sysctl::apply(&sysctls);
            answer(&reply, &Reply::Done { warnings });
        }
        Request::Write { path, bytes } => {
            let outcome = rootfs::write_new(path.as_ref(), &bytes, 0o644);
            answer(
                &reply,
                &match outcome {
                    Ok(()) => Reply::Done { warnings: Vec::new() },
                    Err(error) => failed(format!("writing {path}: {error}")),
                },
            );
        }
        Request::Open { path } => match rootfs::open_regular(path.as_ref()) {
            Ok(file) => {
                // An asker that has gone needs no answer.
                let _ = channel::send(reply.as_fd(), &Reply::Opened, &[file.as_fd()]);
            }
            Err(error) => answer(&reply, &failed(format!("opening {path}: {error}"))),
        },
        Request::Signal { .. } => {}
    }
}

fn failed(reason: String) -> Reply {
    Reply::Failed { reason, exit_code: 1 }
}

fn answer(socket: &OwnedFd, reply: &Reply) {
    // An asker that has gone needs no answer.
    let _ = channel::send(socket.as_fd(), reply, &[]);
}
