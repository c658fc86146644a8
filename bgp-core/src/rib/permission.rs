//! Nobody speaks for another: of whom and of which LANs a peer may announce routes.
//!
//! A worker says "behind me"; it has no business to say "behind that one". Its owner knows which addresses are the
//! peer's and gives them to the RIB as a [`Permission`]. A route that breaks it is treated as withdrawn, alone: the
//! session and the peer's other routes stay, and nobody else is concerned.
//!
//! What is refused is not kept: a liar cannot fill memory. When a permission gets narrower, what it no longer covers goes
//! at once, without the peer's help; when it gets wider, the peer is asked to say everything again (RFC 2918), since only
//! it still knows what was refused.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::plane::Plane;
use super::{Rib, rules};
use crate::rule::Rule;
use crate::types::{Label, PeerId, Vni};
use crate::wire::attributes::Tunnel;
use crate::wire::message::{Reach, Routes};
use crate::wire::{Evpn, EvpnKey, EvpnPayload, PathAttributes, Update};

/// Keys that a [`Forbidden`] names at most.
const NAMED_KEYS: usize = 8;

/// Of whom and of which LANs a peer may announce EVPN routes. The default allows everything.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Permission {
    /// The addresses that its routes may lead to: as next hop, as originator of types 3 and 4, and as the endpoint of a
    /// PMSI tunnel. None: any address. IPv4-mapped IPv6 addresses are not the IPv4 addresses that they hold.
    pub next_hops: Option<BTreeSet<IpAddr>>,
    /// The VNIs that its routes may name by a label or by a route target. None: any.
    pub vnis: Option<VniRanges>,
}

impl Permission {
    /// Whether it allows everything.
    pub const fn is_unlimited(&self) -> bool {
        self.next_hops.is_none() && self.vnis.is_none()
    }

    /// Whether routes with these attributes may be announced, whatever they are.
    ///
    /// # Errors
    ///
    /// What stands in the way.
    pub(super) fn check_attributes(&self, attributes: &PathAttributes) -> Result<(), Offence> {
        if self.is_unlimited() {
            return Ok(());
        }
        self.check_address(attributes.next_hop, Offence::NextHop)?;
        if let Some(pmsi) = &attributes.pmsi_tunnel {
            if let Tunnel::IngressReplication(endpoint) = &pmsi.tunnel {
                self.check_address(*endpoint, Offence::TunnelEndpoint)?;
            }
            self.check_label(pmsi.label)?;
        }
        attributes.route_targets().into_iter().try_for_each(|target| self.check_vni(target.vni()))
    }

    /// Whether this route may be announced, as far as it does not depend on attributes.
    ///
    /// # Errors
    ///
    /// What stands in the way.
    pub(super) fn check_route(&self, key: &EvpnKey, payload: &EvpnPayload) -> Result<(), Offence> {
        if let EvpnKey::InclusiveMulticast { originator, .. } | EvpnKey::EthernetSegment { originator, .. } = key {
            self.check_address(*originator, Offence::Originator)?;
        }
        match payload {
            EvpnPayload::MacIp { label, label2, .. } => {
                self.check_label(*label)?;
                label2.map_or(Ok(()), |label| self.check_label(label))
            }
            EvpnPayload::EthernetAutoDiscovery { label } | EvpnPayload::IpPrefix { label, .. } => {
                self.check_label(*label)
            }
            EvpnPayload::InclusiveMulticast | EvpnPayload::EthernetSegment | EvpnPayload::Opaque => Ok(()),
        }
    }

    fn check(&self, attributes: &PathAttributes, key: &EvpnKey, payload: &EvpnPayload) -> Result<(), Offence> {
        self.check_attributes(attributes)?;
        self.check_route(key, payload)
    }

    fn check_address(&self, address: IpAddr, offence: fn(IpAddr) -> Offence) -> Result<(), Offence> {
        let allowed = self.next_hops.as_ref().is_none_or(|allowed| allowed.contains(&address));
        if allowed { Ok(()) } else { Err(offence(address)) }
    }

    /// A label of zero names no LAN.
    fn check_label(&self, label: Label) -> Result<(), Offence> {
        self.check_vni(label.vni())
    }

    fn check_vni(&self, vni: Option<Vni>) -> Result<(), Offence> {
        match (&self.vnis, vni) {
            (Some(allowed), Some(vni)) if !allowed.contains(vni) => Err(Offence::Vni(vni)),
            _ => Ok(()),
        }
    }
}

/// `next hops 192.0.2.1, 2001:db8::1; VNIs 100-199`.
impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("next hops ")?;
        match &self.next_hops {
            None => f.write_str("any")?,
            Some(allowed) if allowed.is_empty() => f.write_str("none")?,
            Some(allowed) => {
                let list: Vec<_> = allowed.iter().map(ToString::to_string).collect();
                f.write_str(&list.join(", "))?;
            }
        }
        match &self.vnis {
            None => f.write_str("; VNIs any"),
            Some(allowed) => write!(f, "; VNIs {allowed}"),
        }
    }
}

/// A set of VNIs, as ranges.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct VniRanges(Vec<(Vni, Vni)>);

impl VniRanges {
    /// Whether the VNI is in the set.
    pub fn contains(&self, vni: Vni) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= vni);
        after.checked_sub(1).and_then(|index| self.0.get(index)).is_some_and(|(_, last)| vni <= *last)
    }

    /// Whether the set is empty.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// From first and last VNI of each range, both included; a range that ends before it begins is empty.
impl FromIterator<(Vni, Vni)> for VniRanges {
    fn from_iter<I: IntoIterator<Item = (Vni, Vni)>>(ranges: I) -> Self {
        let mut sorted: Vec<_> = ranges.into_iter().filter(|(first, last)| first <= last).collect();
        sorted.sort_unstable();
        let mut merged: Vec<(Vni, Vni)> = Vec::with_capacity(sorted.len());
        for (first, last) in sorted {
            match merged.last_mut() {
                Some((_, end)) if first.get() <= end.get() + 1 => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }
}

/// `100, 200-299`, or `none`.
impl fmt::Display for VniRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (index, (first, last)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

/// What a route says that its sender may not say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Offence {
    /// The next hop is not the sender's.
    NextHop(IpAddr),
    /// The originator in the key of a type 3 or 4 is not the sender.
    Originator(IpAddr),
    /// The endpoint of the PMSI tunnel is not the sender's.
    TunnelEndpoint(IpAddr),
    /// A label or a route target names a LAN that the sender has no part in.
    Vni(Vni),
}

impl Offence {
    /// The rule for counters and logs.
    pub const fn rule(self) -> Rule {
        match self {
            Self::NextHop(_) => rules::NEXT_HOP_NOT_ALLOWED,
            Self::Originator(_) => rules::ORIGINATOR_NOT_ALLOWED,
            Self::TunnelEndpoint(_) => rules::TUNNEL_ENDPOINT_NOT_ALLOWED,
            Self::Vni(_) => rules::VNI_NOT_ALLOWED,
        }
    }
}

/// `next hop 192.0.2.9`.
impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NextHop(address) => write!(f, "next hop {address}"),
            Self::Originator(address) => write!(f, "originator {address}"),
            Self::TunnelEndpoint(address) => write!(f, "tunnel endpoint {address}"),
            Self::Vni(vni) => write!(f, "VNI {vni}"),
        }
    }
}

/// Routes of a peer that are refused by one rule of its permission.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Forbidden {
    /// What the first of them says.
    pub offence: Offence,
    /// How many there are.
    pub routes: usize,
    /// The first of them.
    pub keys: Vec<EvpnKey>,
}

/// Collects refusals by rule.
#[derive(Debug, Default)]
struct Refusals(BTreeMap<Rule, Forbidden>);

impl Refusals {
    fn add(&mut self, offence: Offence, key: &EvpnKey) {
        let entry = self.0.entry(offence.rule());
        let forbidden = entry.or_insert_with(|| Forbidden { offence, routes: 0, keys: Vec::new() });
        forbidden.routes += 1;
        if forbidden.keys.len() < NAMED_KEYS {
            forbidden.keys.push(key.clone());
        }
    }

    fn finish(self) -> Vec<Forbidden> {
        self.0.into_values().collect()
    }
}

/// What another permission changed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rejudged {
    /// Routes that were held and are gone.
    pub forbidden: Vec<Forbidden>,
    /// Routes were refused that the peer may be allowed now: ask it to announce everything again.
    pub refresh: bool,
}

impl Rib {
    /// The routes that an UPDATE announces and that the peer's permission will refuse, by rule.
    pub fn forbidden(&self, peer: PeerId, update: &Update) -> Vec<Forbidden> {
        let Some((state, reach)) = self.peers.get(&peer).zip(update.reach.as_ref()) else { return Vec::new() };
        let Reach { attributes, routes: Routes::Evpn(routes) } = reach else { return Vec::new() };
        let permission = &state.info.permission;
        if permission.is_unlimited() {
            return Vec::new();
        }
        let mut refusals = Refusals::default();
        let of_all = permission.check_attributes(attributes);
        for route in routes {
            if let Err(offence) = of_all.and_then(|()| permission.check_route(&route.key, &route.payload)) {
                refusals.add(offence, &route.key);
            }
        }
        refusals.finish()
    }

    /// Gives a peer another permission and judges by it what the peer has announced, stale routes included. Takes effect
    /// at others with [`Rib::flush`].
    pub fn set_permission(&mut self, peer: PeerId, permission: Arc<Permission>) -> Rejudged {
        let Some(state) = self.peers.get_mut(&peer) else { return Rejudged::default() };
        if state.info.permission == permission {
            return Rejudged::default();
        }
        state.info.permission = Arc::clone(&permission);
        let refresh = core::mem::take(&mut state.forbidden) > 0 && state.up;
        let forbidden = self.evpn.rejudge(peer, &permission);
        // What is refused now may be allowed again some day.
        state.forbidden = forbidden.iter().map(|forbidden| forbidden.routes as u64).sum();
        Rejudged { forbidden, refresh }
    }
}

impl Plane<Evpn> {
    /// Withdraws what a peer has announced and may not announce.
    fn rejudge(&mut self, peer: PeerId, permission: &Permission) -> Vec<Forbidden> {
        let mut refusals = Refusals::default();
        if permission.is_unlimited() {
            return Vec::new();
        }
        let mut doomed = Vec::new();
        for id in self.table.routes_of(peer) {
            let Some(destination) = self.table.get(*id) else { continue };
            let Some(path) = destination.paths.iter().find(|path| path.peer == peer) else { continue };
            let Some(set) = self.store.get(path.attributes) else { continue };
            if let Err(offence) = permission.check(&set.attributes, &destination.key, &path.payload) {
                refusals.add(offence, &destination.key);
                doomed.push(destination.key.clone());
            }
        }
        for key in doomed {
            self.table.withdraw(peer, &key, &mut self.store);
        }
        refusals.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(list: &[(u32, u32)]) -> VniRanges {
        list.iter().map(|(first, last)| (Vni::new(*first).unwrap(), Vni::new(*last).unwrap())).collect()
    }

    #[test]
    fn ranges_hold_their_ends_and_nothing_between_them() {
        let set = ranges(&[(300, 299), (200, 210), (100, 100), (101, 101), (205, 220)]);
        assert_eq!(set.to_string(), "100-101, 200-220");
        for number in 1..400 {
            let held = (100..=101).contains(&number) || (200..=220).contains(&number);
            assert_eq!(set.contains(Vni::new(number).unwrap()), held, "{number}");
        }
        let all = ranges(&[(1, Vni::MAX)]);
        assert!(all.contains(Vni::new(1).unwrap()) && all.contains(Vni::new(Vni::MAX).unwrap()));
        assert_eq!(ranges(&[]).to_string(), "none");
    }
}
