//! What the generic table asks about a family of routes.

use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;

use foldhash::fast::FixedState;

use super::permission::{Offence, Permission};
use crate::types::{MacAddr, is_host_address};
use crate::wire::{Evpn, EvpnKey, PathAttributes, Route, RtConstrain, WireNlri};

/// A family that a [`Table`](super::table::Table) can hold.
pub trait Family: WireNlri {
    /// It matters which keys a peer holds, whatever is selected.
    const NOTED: bool;

    /// Routes of other speakers are passed on. Memberships are not.
    const REFLECTED: bool;

    /// MAC mobility orders the routes of this key before anything else (RFC 7432 section 15).
    fn is_mobile(key: &Self::Key) -> bool;

    /// The type of the route, in families that have types.
    fn route_type(key: &Self::Key) -> Option<u8>;

    /// The hash of a key.
    fn hash(key: &Self::Key, hasher: &FixedState) -> u64 {
        hasher.hash_one(key)
    }

    /// Whether a route with this next hop can be used by anybody.
    fn accepts_next_hop(next_hop: IpAddr) -> bool;

    /// Whether a peer with this permission may announce routes with these attributes, whatever they are.
    ///
    /// # Errors
    ///
    /// What stands in the way.
    fn check_attributes(permission: &Permission, attributes: &PathAttributes) -> Result<(), Offence>;

    /// Whether a peer with this permission may announce the route, as far as it does not depend on attributes.
    ///
    /// # Errors
    ///
    /// What stands in the way.
    fn check_route(permission: &Permission, route: &Route<Self>) -> Result<(), Offence>;
}

impl Family for Evpn {
    const NOTED: bool = false;
    const REFLECTED: bool = true;

    fn is_mobile(key: &EvpnKey) -> bool {
        matches!(key, EvpnKey::MacIp { .. })
    }

    fn route_type(key: &EvpnKey) -> Option<u8> {
        Some(key.route_type())
    }

    /// As derived, but with whole words for the one type that there are millions of.
    fn hash(key: &EvpnKey, hasher: &FixedState) -> u64 {
        let EvpnKey::MacIp { rd, tag, mac: MacAddr([a, b, c, d, e, f]), ip } = key else {
            return hasher.hash_one(key);
        };
        let mut state = hasher.build_hasher();
        state.write_u64(u64::from_ne_bytes(rd.0));
        state.write_u64(u64::from_ne_bytes([*a, *b, *c, *d, *e, *f, 0, 0]));
        state.write_u32(tag.0);
        match ip {
            None => {}
            Some(IpAddr::V4(address)) => state.write_u32((*address).into()),
            Some(IpAddr::V6(address)) => state.write_u128((*address).into()),
        }
        state.finish()
    }

    fn accepts_next_hop(next_hop: IpAddr) -> bool {
        is_host_address(next_hop)
    }

    fn check_attributes(permission: &Permission, attributes: &PathAttributes) -> Result<(), Offence> {
        permission.check_attributes(attributes)
    }

    fn check_route(permission: &Permission, route: &Route<Self>) -> Result<(), Offence> {
        permission.check_route(&route.key, &route.payload)
    }
}

impl Family for RtConstrain {
    const NOTED: bool = true;
    const REFLECTED: bool = false;

    fn is_mobile(_key: &Self::Key) -> bool {
        false
    }

    fn route_type(_key: &Self::Key) -> Option<u8> {
        None
    }

    fn accepts_next_hop(_next_hop: IpAddr) -> bool {
        true
    }

    /// A membership only asks, and is not passed on.
    fn check_attributes(_permission: &Permission, _attributes: &PathAttributes) -> Result<(), Offence> {
        Ok(())
    }

    fn check_route(_permission: &Permission, _route: &Route<Self>) -> Result<(), Offence> {
        Ok(())
    }
}
