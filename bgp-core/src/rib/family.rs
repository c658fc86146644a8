//! What the generic table asks about a family of routes.

use std::net::IpAddr;

use crate::wire::{Evpn, EvpnKey, RtConstrain, WireNlri};

/// A family that a [`Table`](super::table::Table) can hold.
pub trait Family: WireNlri {
    /// It matters which keys a peer holds, whatever is selected.
    const NOTED: bool;

    /// Routes of other speakers are passed on. Memberships are not.
    const REFLECTED: bool;

    /// MAC mobility orders the routes of this key before anything else (RFC 7432 section 15).
    fn is_mobile(key: &Self::Key) -> bool;

    /// Whether a route with this next hop can be used by anybody.
    fn accepts_next_hop(next_hop: IpAddr) -> bool;
}

impl Family for Evpn {
    const NOTED: bool = false;
    const REFLECTED: bool = true;

    fn is_mobile(key: &EvpnKey) -> bool {
        matches!(key, EvpnKey::MacIp { .. })
    }

    fn accepts_next_hop(next_hop: IpAddr) -> bool {
        let broadcast = matches!(next_hop, IpAddr::V4(address) if address.is_broadcast());
        !(next_hop.is_unspecified() || next_hop.is_loopback() || next_hop.is_multicast() || broadcast)
    }
}

impl Family for RtConstrain {
    const NOTED: bool = true;
    const REFLECTED: bool = false;

    fn is_mobile(_key: &Self::Key) -> bool {
        false
    }

    fn accepts_next_hop(_next_hop: IpAddr) -> bool {
        true
    }
}
