//! One emulated device on a Linux host, without a container runtime.
//!
//! Owns: the namespaces of a device (network, mount, UTS, PID, IPC), its file
//! system (an overlay on the host's root with the lab's files copied in), its
//! process 1, and the running of scripts and commands inside.
//!
//! In: a [`DeviceSpec`]. Out: a [`Device`] handle with the descriptors a worker
//! needs to attach interfaces, a [`StartReport`] naming what failed, and
//! [`Process`] handles for commands.
//!
//! ```text
//!  caller (multi-threaded)         re-executed /proc/self/exe        the device
//!  Device::create ── exec ──────▶  __device-init ── clone ────────▶  process 1
//!        │                          sends pid, exits                     │
//!        │◀── Ready: netns, netlink socket, warnings ────────────────────┤ builds /, hostname,
//!        │                                                               │ sysctls, lo up
//!  Device::spawn ── Spawn{argv} + descriptors ──────────────────────────▶│ fork + exec
//!        │◀── Started / Exited on the process's own socket ──────────────┤ reaps
//!        └── drop: SIGKILL to process 1; the kernel removes the rest
//! ```
//!
//! The caller never forks without `exec`: a child of a multi-threaded process
//! may do little else. Process 1 is single-threaded, so it may.
//!
//! A device is no security boundary for a caller that is really root: some
//! capabilities that reach past the namespaces are dropped, yet root inside
//! is root outside. In a user namespace it is confined to the user's rights.

mod accounts;
mod channel;
mod children;
mod copy;
mod device;
mod error;
mod host_traces;
mod identity;
mod init;
mod layers;
mod process;
mod process_one;
mod protocol;
mod pseudo;
mod rootfs;
mod services;
mod spec;
mod startup;
mod sys;
mod sysctl;

pub use device::{Device, DeviceNetns};
pub use error::SandboxError;
pub use init::{INIT_SUBCOMMAND, init_main};
pub use process::{ExitStatus, Process, SpawnRequest, Stdio, WindowSize};
pub use spec::{DeviceSpec, Scripts, Ulimit, Volume, VolumeMode};
pub use startup::{Failure, Progress, StartReport, Step, StepReport};
