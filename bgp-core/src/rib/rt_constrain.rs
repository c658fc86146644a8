//! Constrained distribution (RFC 4684): what a peer's memberships let through to it.
//!
//! * A peer without the family gets everything. A peer with it gets what it has asked for, nothing before that.
//! * A membership for a target that carries a VNI, in the plain form or in RFC 8365's, is interest in that VNI whatever
//!   the ASN: the prefix of RFC 4684 cannot say `*:VNI`, and a superset does no harm, since receivers filter on import.
//! * The origin AS of a membership is not looked at.
//! * A route without any target goes to peers that asked for everything (and to those without the family): no other
//!   membership can match it.
//!
//! Memberships are not passed on. This speaker's own are sent to every peer with the family: a worker's are what it
//! imports, a reflector's is the default one, because a reflector wants all routes. (Propagating each client's, as
//! section 3.2 allows, would only narrow what others send to a reflector that keeps everything.)

use std::collections::BTreeMap;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::bits::BitSet;
use super::target_sets::{RtSetId, TargetKey, TargetSets};
use crate::types::RouteTarget;
use crate::wire::RtMembership;

/// What a peer's memberships add up to.
#[derive(Clone, Debug, Default)]
pub struct Interest {
    defaults: u32,
    keys: HashMap<TargetKey, u32, FixedState>,
    /// By number of bits and their value.
    prefixes: BTreeMap<(u8, u64), u32>,
}

/// Which routes a change of interest may concern.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Scope {
    /// Any.
    All,
    /// Those with such a target.
    Key(TargetKey),
}

impl Interest {
    /// Adds a membership.
    pub fn add(&mut self, membership: &RtMembership) {
        *self.count(membership) += 1;
    }

    /// Removes a membership that was added. What it asked for stays asked for as long as another one does.
    pub fn remove(&mut self, membership: &RtMembership) {
        let count = self.count(membership);
        *count = count.saturating_sub(1);
        if *count > 0 {
            return;
        }
        match asked(membership) {
            Asked::Everything => {}
            Asked::Key(key) => drop(self.keys.remove(&key)),
            Asked::Prefix(prefix) => drop(self.prefixes.remove(&prefix)),
        }
    }

    fn count(&mut self, membership: &RtMembership) -> &mut u32 {
        match asked(membership) {
            Asked::Everything => &mut self.defaults,
            Asked::Key(key) => self.keys.entry(key).or_default(),
            Asked::Prefix(prefix) => self.prefixes.entry(prefix).or_default(),
        }
    }

    /// Whether a route with these targets goes to the peer.
    pub fn matches(&self, targets: &[RouteTarget]) -> bool {
        self.defaults > 0 || targets.iter().any(|target| self.matches_one(*target))
    }

    fn matches_one(&self, target: RouteTarget) -> bool {
        let octets = u64::from_be_bytes(target.community().0);
        let prefixed = || (0..64).any(|bits| self.prefixes.contains_key(&(bits, mask(octets, bits))));
        self.keys.contains_key(&TargetKey::from(target)) || (!self.prefixes.is_empty() && prefixed())
    }
}

/// A membership reduced to what is compared.
enum Asked {
    Everything,
    Key(TargetKey),
    Prefix((u8, u64)),
}

fn asked(membership: &RtMembership) -> Asked {
    match *membership {
        RtMembership::Default => Asked::Everything,
        RtMembership::Target { target, .. } => Asked::Key(target.into()),
        RtMembership::Prefix { target, bits, .. } => Asked::Prefix((bits, mask(u64::from_be_bytes(target), bits))),
    }
}

fn scope(membership: &RtMembership) -> Scope {
    match asked(membership) {
        Asked::Key(key) => Scope::Key(key),
        Asked::Everything | Asked::Prefix(_) => Scope::All,
    }
}

/// The first `bits` bits.
fn mask(octets: u64, bits: u8) -> u64 {
    match bits {
        0 => 0,
        1..=63 => octets & (u64::MAX << (64 - bits)),
        _ => octets,
    }
}

/// What a member of an update group takes: everything, or what its interest matches, decided once per target set.
#[derive(Debug)]
pub enum Filter {
    /// No RT-constrain with this peer.
    Everything,
    /// By its memberships.
    Interest(Box<CachedInterest>),
}

/// An interest with its verdict on each target set.
#[derive(Debug, Default)]
pub struct CachedInterest {
    interest: Interest,
    known: BitSet,
    wanted: BitSet,
}

impl Filter {
    /// The filter of a peer with these memberships.
    pub fn interest(interest: Interest) -> Self {
        Self::Interest(Box::new(CachedInterest { interest, ..CachedInterest::default() }))
    }

    /// Whether routes with these targets pass.
    pub fn passes(&mut self, id: RtSetId, sets: &TargetSets) -> bool {
        match self {
            Self::Everything => true,
            Self::Interest(cached) => cached.passes(id, sets),
        }
    }

    /// Whether routes with these targets pass, without remembering it.
    pub fn matches(&self, targets: &[RouteTarget]) -> bool {
        match self {
            Self::Everything => true,
            Self::Interest(cached) => cached.interest.matches(targets),
        }
    }

    /// Forgets the verdict on a set whose id will mean another one.
    pub fn forget(&mut self, id: RtSetId) {
        if let Self::Interest(cached) = self {
            cached.known.set(id.index(), false);
        }
    }
}

impl CachedInterest {
    fn passes(&mut self, id: RtSetId, sets: &TargetSets) -> bool {
        if !self.known.contains(id.index()) {
            self.learn(id, self.interest.matches(sets.get(id)));
        }
        self.wanted.contains(id.index())
    }

    fn learn(&mut self, id: RtSetId, wanted: bool) {
        self.known.set(id.index(), true);
        self.wanted.set(id.index(), wanted);
    }

    /// Applies changes of memberships and returns the sets whose verdict has changed, with the new one.
    pub fn change(&mut self, changes: &[MembershipChange], sets: &TargetSets) -> Vec<(RtSetId, bool)> {
        let scopes = changes.iter().map(|change| scope(change.membership()));
        let mut ids: Vec<RtSetId> = if scopes.clone().any(|scope| scope == Scope::All) {
            sets.iter().collect()
        } else {
            let keys = scopes.filter_map(|scope| if let Scope::Key(key) = scope { Some(key) } else { None });
            keys.flat_map(|key| sets.with_key(key)).collect()
        };
        ids.sort_unstable();
        ids.dedup();
        let verdicts = ids.into_iter().map(|id| (id, self.passes(id, sets))).collect();
        for change in changes {
            match change {
                MembershipChange::Added(membership) => self.interest.add(membership),
                MembershipChange::Removed(membership) => self.interest.remove(membership),
            };
        }
        self.flips(verdicts, sets)
    }

    /// Takes another interest and returns the sets whose verdict has changed, with the new one.
    pub fn replace(&mut self, interest: Interest, sets: &TargetSets) -> Vec<(RtSetId, bool)> {
        let verdicts = sets.iter().map(|id| (id, self.passes(id, sets))).collect();
        self.interest = interest;
        self.flips(verdicts, sets)
    }

    fn flips(&mut self, verdicts: Vec<(RtSetId, bool)>, sets: &TargetSets) -> Vec<(RtSetId, bool)> {
        let mut flips = Vec::new();
        for (id, before) in verdicts {
            let after = self.interest.matches(sets.get(id));
            self.learn(id, after);
            if after != before {
                flips.push((id, after));
            }
        }
        flips
    }
}

/// A membership that a peer has announced or withdrawn.
#[derive(Clone, Debug)]
pub enum MembershipChange {
    /// Announced, and not before.
    Added(RtMembership),
    /// Withdrawn.
    Removed(RtMembership),
}

impl MembershipChange {
    const fn membership(&self) -> &RtMembership {
        match self {
            Self::Added(membership) | Self::Removed(membership) => membership,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Asn, ExtendedCommunity, Vni};

    fn vni(number: u32) -> Vni {
        Vni::new(number).unwrap()
    }

    fn target(membership: RouteTarget) -> RtMembership {
        RtMembership::Target { origin: Asn(1), target: membership }
    }

    #[test]
    fn a_membership_in_either_form_asks_for_its_vni_whatever_the_asn() {
        for form in [RouteTarget::auto(Asn(7), vni(100)), RouteTarget::auto_rfc8365(Asn(7), vni(100))] {
            let mut interest = Interest::default();
            interest.add(&target(form));
            assert!(interest.matches(&[RouteTarget::auto(Asn(65_000), vni(100))]));
            assert!(interest.matches(&[RouteTarget::auto_rfc8365(Asn(9), vni(100))]));
            assert!(!interest.matches(&[RouteTarget::auto(Asn(7), vni(101))]));
        }
    }

    #[test]
    fn interest_lasts_until_the_last_membership_that_asks_for_it_is_gone() {
        let mut interest = Interest::default();
        let (plain, rfc8365) =
            (target(RouteTarget::auto(Asn(7), vni(5))), target(RouteTarget::auto_rfc8365(Asn(7), vni(5))));
        interest.add(&plain);
        interest.add(&rfc8365);
        interest.remove(&plain);
        assert!(interest.matches(&[RouteTarget::auto(Asn(7), vni(5))]));
        interest.remove(&rfc8365);
        assert!(!interest.matches(&[RouteTarget::auto(Asn(7), vni(5))]));
    }

    #[test]
    fn only_the_default_membership_asks_for_routes_without_targets() {
        let mut interest = Interest::default();
        interest.add(&RtMembership::Prefix { origin: Asn(1), target: [0; 8], bits: 0 });
        assert!(!interest.matches(&[]));
        assert!(interest.matches(&[RouteTarget::auto(Asn(7), vni(5))]));
        interest.add(&RtMembership::Default);
        assert!(interest.matches(&[]));
    }

    #[test]
    fn a_prefix_asks_for_the_targets_that_begin_with_it() {
        let mut interest = Interest::default();
        interest.add(&RtMembership::Prefix { origin: Asn(1), target: [0, 2, 0xfd, 0xe8, 0, 0, 0, 0], bits: 32 });
        assert!(interest.matches(&[RouteTarget::auto(Asn(65_000), vni(77))]));
        assert!(!interest.matches(&[RouteTarget::auto(Asn(65_001), vni(77))]));
        let ipv4 = RouteTarget::from_community(ExtendedCommunity([1, 2, 10, 0, 0, 1, 0, 5])).unwrap();
        assert!(!interest.matches(&[ipv4]));
        interest.add(&target(ipv4));
        assert!(interest.matches(&[ipv4]));
    }
}
