//! Desired forwarding state: what the kernel of this worker should hold. A pure function of routes and local members.
//!
//! Rows are named by [`Key`]; the state of a key is asked from the engine when the dataplane gets to it, so that ten
//! changes of one row cost one write.

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

/// What a key should be. `None` where the key should not exist.
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
        /// The address must not move (RFC 7432 section 15.2).
        sticky: bool,
    },
    /// The IP address belongs to this MAC.
    Neighbor {
        /// The MAC to answer with.
        mac: MacAddr,
    },
}
