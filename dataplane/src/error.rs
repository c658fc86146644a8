//! What can go wrong, with its cure.

use std::fmt;
use std::io;
use std::net::IpAddr;

use bgp_core::rule::Rule;
use bgp_core::types::Vni;
use evpn::forwarding::Key;
use thiserror::Error;

use crate::rules;

/// The kernel's refusal of one request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KernelError {
    /// The error number.
    pub errno: i32,
    /// The kernel's own explanation; empty where it gave none.
    pub explanation: String,
}

impl KernelError {
    pub(crate) fn new(errno: i32) -> Self {
        Self { errno, explanation: String::new() }
    }

    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        let may_pass = matches!(self.errno, libc::EAGAIN | libc::EINTR | libc::EBUSY | libc::EEXIST);
        may_pass || self.rule() == rules::NO_MEMORY || self.rule() == rules::TABLE_FULL
    }

    /// The rule for counters and logs.
    pub fn rule(&self) -> Rule {
        match self.errno {
            libc::ENOMEM | libc::ENOBUFS => rules::NO_MEMORY,
            libc::ENOSPC | libc::EXFULL | libc::E2BIG => rules::TABLE_FULL,
            libc::EEXIST => rules::EXISTS,
            libc::ENODEV | libc::ENXIO => rules::DEVICE_GONE,
            _ => rules::REFUSED,
        }
    }

    /// What an operator can do about it.
    pub fn cure(&self) -> &'static str {
        match self.errno {
            libc::ENOMEM | libc::ENOBUFS => "free memory on this node",
            libc::ENOSPC | libc::EXFULL | libc::E2BIG => {
                "raise the limit of the VXLAN device (`ip link … type vxlan maxaddress`), or take addresses off the LAN"
            }
            libc::EEXIST => "remove what another program has made under this name or number",
            libc::ENODEV | libc::ENXIO => "find out who removes devices; they are made again",
            libc::EPERM | libc::EACCES => "run as root, or with the capability NET_ADMIN",
            libc::EOPNOTSUPP => "use a kernel that can do this, 5.10 or later",
            libc::EAGAIN | libc::EBUSY | libc::EINTR => "wait: it is tried again",
            _ => "look for another program that changes devices of this node",
        }
    }
}

impl From<io::Error> for KernelError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self::new(errno),
            None => Self { errno: libc::EIO, explanation: error.to_string() },
        }
    }
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = io::Error::from_raw_os_error(self.errno);
        if !self.explanation.is_empty() {
            write!(f, "{}: ", self.explanation)?;
        }
        write!(f, "{name}; {}", self.cure())
    }
}

impl std::error::Error for KernelError {}

/// A failure that concerns the dataplane as a whole.
#[derive(Clone, Debug, Error)]
pub enum Error {
    /// A right is missing.
    #[error("{action} is not permitted: run as root, or with the capabilities NET_ADMIN and SYS_ADMIN")]
    Privilege {
        /// What was tried.
        action: String,
    },
    /// The kernel cannot make a kind of device.
    #[error("this kernel has no `{kind}` devices: load the module (`modprobe {kind}`) or use a kernel that has it")]
    MissingFeature {
        /// The kind, which is also the module's name.
        kind: &'static str,
    },
    /// The VTEP address is on no interface.
    #[error("the VTEP address {address} is on no interface here: add it to one, or give another address")]
    AddressNotLocal {
        /// The address.
        address: IpAddr,
    },
    /// The underlay leaves no room for VXLAN.
    #[error("the underlay's MTU is {mtu}, too small for VXLAN: raise the MTU of the interface towards the other nodes")]
    UnderlayMtu {
        /// The underlay's MTU in bytes.
        mtu: u32,
    },
    /// The overlay namespace cannot be opened or made.
    #[error("network namespace {name}: {step}: {cause}")]
    Namespace {
        /// The namespace.
        name: String,
        /// What was tried.
        step: String,
        /// Why it failed.
        cause: String,
    },
    /// The kernel refused.
    #[error("{action}: {cause}")]
    Kernel {
        /// What was tried.
        action: String,
        /// Why it failed.
        cause: KernelError,
    },
    /// The kernel's tables changed during every try to read them.
    #[error(
        "the kernel's tables changed while they were read, several times: try again when fewer devices come and go"
    )]
    Unsteady,
    /// More is asked of the dataplane at once than waits for it.
    #[error("too much waits for the kernel already: try again")]
    Busy,
    /// The thread that serves the dataplane has ended.
    #[error("the dataplane has stopped: see its last error in the log and restart the worker")]
    Stopped,
}

impl Error {
    pub(crate) fn kernel(action: impl Into<String>, cause: impl Into<KernelError>) -> Self {
        let (action, cause) = (action.into(), cause.into());
        match cause.errno {
            libc::EPERM | libc::EACCES => Self::Privilege { action },
            _ => Self::Kernel { action, cause },
        }
    }
}

/// Why one key could not be changed. The key stays as it was or is half done; applying it again is always right.
#[derive(Clone, Debug, Error)]
pub enum ChangeError {
    /// A tunnel was asked for where no member is.
    #[error("VNI {vni} has no bridge on this node: a tunnel is made only where the LAN has a member")]
    NoLan {
        /// The LAN.
        vni: Vni,
    },
    /// A row was asked for where no tunnel is.
    #[error("VNI {vni} has no VXLAN device on this node: apply the tunnel before its rows")]
    NoTunnel {
        /// The LAN.
        vni: Vni,
    },
    /// Somebody else uses the VNI.
    #[error(
        "VNI {vni} on UDP port {port} is in use by {user}: give the LAN another VNI, or the workers another UDP port"
    )]
    VniInUse {
        /// The LAN.
        vni: Vni,
        /// The UDP port.
        port: u16,
        /// Who uses it.
        user: String,
    },
    /// The remote VTEP's address family differs from ours.
    #[error("the remote VTEP {vtep} is not of the address family of the local VTEP {local}: use one family everywhere")]
    AddressFamily {
        /// The remote VTEP.
        vtep: IpAddr,
        /// The local VTEP.
        local: IpAddr,
    },
    /// The key and what it should be do not belong together, or the address is none that a host can have.
    #[error("{key:?} cannot be made: the address or the kind of row is not valid")]
    Invalid {
        /// The key.
        key: Key,
    },
    /// More than [`crate::MAX_BATCH`] changes in one batch.
    #[error("more than {} changes in one batch: apply them in several", crate::MAX_BATCH)]
    BatchTooLong,
    /// The kernel refused.
    #[error("{action}: {cause}")]
    Kernel {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        cause: KernelError,
    },
}

impl ChangeError {
    /// The rule for counters and logs; none where the change only came too early, or too late.
    pub fn rule(&self) -> Option<Rule> {
        match self {
            Self::NoLan { .. } | Self::NoTunnel { .. } | Self::BatchTooLong => None,
            Self::VniInUse { .. } => Some(rules::VNI_IN_USE),
            Self::AddressFamily { .. } => Some(rules::VTEP_FAMILY),
            Self::Invalid { .. } => Some(rules::INVALID_ROW),
            Self::Kernel { cause, .. } => Some(cause.rule()),
        }
    }

    /// Whether trying again may help although nothing else changes. [`ChangeError::NoTunnel`] is cured by applying the
    /// tunnel, which does not count.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Kernel { cause, .. } => cause.is_transient(),
            Self::BatchTooLong => true,
            Self::NoLan { .. }
            | Self::NoTunnel { .. }
            | Self::VniInUse { .. }
            | Self::AddressFamily { .. }
            | Self::Invalid { .. } => false,
        }
    }
}

/// Why an interface was not attached. Nothing of it is left behind.
#[derive(Clone, Debug, Error)]
pub enum AttachError {
    /// The identity is in use.
    #[error("{port} is attached already: detach it first")]
    Exists {
        /// The identity.
        port: crate::PortId,
    },
    /// The pod has an interface of that name.
    #[error("the pod has an interface `{interface}` already: choose another name")]
    InterfaceExists {
        /// The name.
        interface: String,
    },
    /// A value is out of range.
    #[error("{what} is not valid: expected {expected}")]
    Invalid {
        /// The value.
        what: String,
        /// What would be accepted.
        expected: String,
    },
    /// The wanted MTU does not fit the underlay.
    #[error(
        "an MTU of {wanted} does not fit VXLAN on this underlay, which carries {most}: ask for {most} or less, or raise the underlay's MTU"
    )]
    Mtu {
        /// What was asked, in bytes.
        wanted: u32,
        /// The most that fits, in bytes.
        most: u32,
    },
    /// Somebody else uses the VNI.
    #[error(
        "VNI {vni} on UDP port {port} is in use by {user}: give the LAN another VNI, or the workers another UDP port"
    )]
    VniInUse {
        /// The LAN.
        vni: Vni,
        /// The UDP port.
        port: u16,
        /// Who uses it.
        user: String,
    },
    /// Devices are adopted, not made.
    #[error("the devices here belong to somebody else (adopt mode): connect pods with the tool that made them")]
    Adopted,
    /// The kernel refused.
    #[error("{action}: {cause}")]
    Kernel {
        /// What was tried.
        action: String,
        /// Why it failed.
        cause: KernelError,
    },
    /// The dataplane as a whole failed.
    #[error(transparent)]
    Dataplane(#[from] Error),
}

impl AttachError {
    pub(crate) fn kernel(action: impl Into<String>, cause: impl Into<KernelError>) -> Self {
        Self::Kernel { action: action.into(), cause: cause.into() }
    }
}
