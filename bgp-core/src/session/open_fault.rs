//! What makes a well-formed OPEN unacceptable (RFC 4271 section 6.2, RFC 6286): what the peer is told, and what people are.

use core::fmt;

use crate::types::{AddressFamily, Asn, RouterId};
use crate::wire::NotificationCode;
use crate::wire::message::{Capability, Notification};

/// Why a peer's OPEN was refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OpenFault {
    /// The peer is in another AS than it should be.
    PeerAs {
        /// Where the configuration expects it.
        expected: Option<Asn>,
        /// Where it says it is.
        found: Asn,
    },
    /// The peer's identifier is zero, ours, or not the one that the configuration names.
    RouterId {
        /// What it says.
        found: RouterId,
    },
    /// A hold time of one or two seconds.
    HoldTime {
        /// What it proposes.
        secs: u16,
    },
    /// The peer offers no address family that we have.
    NoFamily {
        /// What we have.
        ours: Vec<AddressFamily>,
    },
}

impl OpenFault {
    /// What the peer is told.
    pub fn notification(&self) -> Notification {
        match self {
            Self::PeerAs { .. } => NotificationCode::BAD_PEER_AS.notification(),
            Self::RouterId { .. } => NotificationCode::BAD_BGP_IDENTIFIER.notification(),
            Self::HoldTime { .. } => NotificationCode::UNACCEPTABLE_HOLD_TIME.notification(),
            Self::NoFamily { ours } => {
                let required: Vec<_> = ours.iter().copied().map(Capability::Multiprotocol).collect();
                Notification::unsupported_capability(&required)
            }
        }
    }
}

impl fmt::Display for OpenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerAs { expected: Some(expected), found } => {
                write!(f, "the peer is in AS {found}, not in AS {expected}; correct the AS of the peer here or there")?;
            }
            Self::PeerAs { expected: None, found } => write!(f, "the peer is in AS {found}, which nobody is")?,
            Self::RouterId { found } => {
                write!(f, "the peer's router id {found} is zero, ours or not the expected one; give it another")?
            }
            Self::HoldTime { secs } => write!(f, "the peer's hold time is {secs} s; 0 or 3 and more are possible")?,
            Self::NoFamily { .. } => {
                f.write_str("the peer offers no address family that we have; turn EVPN on there")?
            }
        }
        write!(f, " (sent {})", self.notification())
    }
}
