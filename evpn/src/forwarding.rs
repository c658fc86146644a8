//! Desired forwarding state: what the kernel of this worker should hold. A pure function of routes and local members.
//!
//! Rows are named by [`Key`]; the state of a key is asked from the engine when the dataplane gets to it, so that ten
//! changes of one row cost one write.

use core::fmt;
use std::net::IpAddr;

use bgp_core::types::{MacAddr, Vni};

/// One thing in the kernel that may have to change.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Key {
    /// The VXLAN device of a LAN. Sorts before its rows.
    Tunnel(Vni),
    /// A flood row: frames of unknown or group destination are copied to this VTEP.
    Flood(Vni, IpAddr),
    /// A unicast row of the VXLAN and bridge FDB.
    Mac(Vni, MacAddr),
    /// A neighbour of the LAN, for ARP and ND suppression.
    Neighbor(Vni, IpAddr),
}

impl Key {
    /// The LAN.
    pub const fn vni(&self) -> Vni {
        match *self {
            Self::Tunnel(vni) | Self::Flood(vni, _) | Self::Mac(vni, _) | Self::Neighbor(vni, _) => vni,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tunnel(vni) => write!(f, "tunnel {vni}"),
            Self::Flood(vni, vtep) => write!(f, "flood {vni} {vtep}"),
            Self::Mac(vni, mac) => write!(f, "mac {vni} {mac}"),
            Self::Neighbor(vni, ip) => write!(f, "neighbor {vni} {ip}"),
        }
    }
}

/// What a key should be. `None` where the key should not exist: a MAC without remote row is either local, and then
/// its row on a local port is the bridge's own business, or unknown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Desired {
    /// The VXLAN device should exist.
    Tunnel,
    /// The flood row should exist.
    Flood,
    /// The MAC is behind a remote VTEP.
    RemoteMac {
        /// Where frames go.
        vtep: IpAddr,
        /// The bridge must not move the row for a frame on another port (its row carries STICKY): the route is sticky
        /// (RFC 7432 section 15.2), the MAC is frozen as a duplicate (section 15.1), or a local claim has yielded.
        sticky: bool,
    },
    /// The IP address belongs to this MAC.
    Neighbor {
        /// The MAC to answer with.
        mac: MacAddr,
    },
}

impl fmt::Display for Desired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tunnel | Self::Flood => f.write_str("present"),
            Self::RemoteMac { vtep, sticky: false } => write!(f, "via {vtep}"),
            Self::RemoteMac { vtep, sticky: true } => write!(f, "via {vtep}, sticky"),
            Self::Neighbor { mac } => write!(f, "at {mac}"),
        }
    }
}
