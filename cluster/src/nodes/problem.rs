//! What can be wrong with a Node, and what cures it.

use std::fmt;
use std::net::IpAddr;

use super::VTEP_ANNOTATION;

/// Something that an administrator has to put right. Its text names the cause and the cure.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Problem {
    /// It has no InternalIP at all.
    NoInternalIp,
    /// One of its InternalIPs is none.
    InvalidInternalIp {
        /// As given.
        text: String,
    },
    /// An older Node has this InternalIP.
    DuplicateInternalIp {
        /// The address.
        address: IpAddr,
        /// Whose it is.
        owner: String,
    },
    /// The annotation is no address that can be an endpoint.
    InvalidVtep {
        /// As given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The annotation names an address of another Node.
    DuplicateVtep {
        /// The address.
        address: IpAddr,
        /// Whose it is.
        owner: String,
    },
}

impl Problem {
    /// Its name, for conditions, events and metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoInternalIp => "NoInternalIP",
            Self::InvalidInternalIp { .. } => "InvalidInternalIP",
            Self::DuplicateInternalIp { .. } => "DuplicateInternalIP",
            Self::InvalidVtep { .. } => "InvalidVtep",
            Self::DuplicateVtep { .. } => "DuplicateVtep",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoInternalIp => {
                write!(f, "the Node has no InternalIP; give its kubelet --node-ip, or have the cloud provider set it")
            }
            Self::InvalidInternalIp { text } => {
                write!(f, "InternalIP {text:?} is no address of a host; correct its kubelet's --node-ip")
            }
            Self::DuplicateInternalIp { address, owner } => write!(
                f,
                "InternalIP {address} is Node {owner}'s, which is older; give one of them another (kubelet --node-ip), or \
                 delete the Node that is gone (kubectl delete node)"
            ),
            Self::InvalidVtep { text, why } => write!(
                f,
                "annotation {VTEP_ANNOTATION} is {text:?}: {why}; the InternalIP is used: give an address of the node, or \
                 remove the annotation"
            ),
            Self::DuplicateVtep { address, owner } => write!(
                f,
                "annotation {VTEP_ANNOTATION} is {address}, which is Node {owner}'s; the InternalIP is used: give an address \
                 that no other Node has, or remove the annotation"
            ),
        }
    }
}
