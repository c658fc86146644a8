//! Interned attribute sets.
//!
//! A set is what one source said in one or more UPDATEs: path attributes and who they came from. Routes carry its dense
//! [`AttributeId`], so equal sets are equal numbers, and what a reflector sends (ORIGINATOR_ID is the source's) is a
//! function of the number alone. References are counted; the octets that a peer's sets take are known at any time.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};

use super::config::{LimitExceeded, PeerLimits};
use super::decision::Rank;
use super::peer::PeerClass;
use super::target_sets::{RtSetId, TargetSets};
use crate::types::{MacMobility, PeerId, RouterId};
use crate::wire::PathAttributes;
use crate::wire::attributes::community;

/// Who announced a set, with what best path and reflection ask about it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Source {
    /// The peer.
    pub peer: PeerId,
    /// Its class when it announced the set.
    pub class: PeerClass,
    /// Its BGP identifier.
    pub router_id: RouterId,
    /// Its address.
    pub address: IpAddr,
}

/// An interned set.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AttributeId(NonZeroU32);

impl AttributeId {
    fn from_index(index: usize) -> Self {
        let number = u32::try_from(index).unwrap_or(u32::MAX - 1) + 1;
        Self(NonZeroU32::new(number).unwrap_or(NonZeroU32::MAX))
    }

    const fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// One source's path attributes, with what is derived from them once.
#[derive(Debug)]
pub struct AttributeSet {
    /// As received.
    pub attributes: Arc<PathAttributes>,
    /// From whom.
    pub source: Source,
    /// The route targets among them.
    pub targets: RtSetId,
    /// MAC mobility (RFC 7432 section 7.7).
    pub mobility: MacMobility,
    /// The part of best path that is a total order.
    pub rank: Rank,
    /// It carries LLGR_STALE, received or added here (RFC 9494 section 4.3).
    pub long_lived_stale: bool,
    hash: u64,
    /// What its source is charged for it.
    charge: Usage,
    references: u32,
}

/// What the sets of one peer take.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// How many there are.
    pub sets: usize,
    /// Octets of memory, about.
    pub octets: usize,
}

/// All sets in use, and their target sets.
#[derive(Debug)]
pub struct AttributeStore {
    sets: Vec<Option<AttributeSet>>,
    free: Vec<AttributeId>,
    ids: HashTable<AttributeId>,
    usage: HashMap<PeerId, Usage, FixedState>,
    hasher: FixedState,
    /// The route target sets.
    pub targets: TargetSets,
    /// The flush in progress, or the next one: when a target set that loses its last route dies.
    pub epoch: u64,
}

impl AttributeStore {
    /// An empty store; `seed` keys the hashing.
    pub fn new(seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self {
            sets: Vec::new(),
            free: Vec::new(),
            ids: HashTable::new(),
            usage: HashMap::with_hasher(hasher.clone()),
            hasher,
            targets: TargetSets::new(seed),
            epoch: 1,
        }
    }

    /// The id of a set, with one more reference to it.
    pub fn acquire(&mut self, source: &Source, attributes: PathAttributes) -> AttributeId {
        self.intern(source, attributes, |attributes| Usage { sets: 1, octets: footprint(attributes) })
    }

    /// The same set with LLGR_STALE (RFC 9494 section 4.2), with one more reference to it; none if it refuses that by NO_LLGR.
    /// It is not charged to its source, which has paid for the set that it stands for and will for the one that replaces it.
    pub fn acquire_long_lived_stale(&mut self, id: AttributeId) -> Option<AttributeId> {
        let set = self.get(id)?;
        if set.attributes.communities.contains(&community::NO_LLGR) {
            return None;
        }
        if set.long_lived_stale {
            self.retain(id);
            return Some(id);
        }
        let (source, mut attributes) = (set.source, PathAttributes::clone(&set.attributes));
        attributes.communities.push(community::LLGR_STALE);
        Some(self.intern(&source, attributes, |_| Usage::default()))
    }

    fn intern(
        &mut self,
        source: &Source,
        attributes: PathAttributes,
        charge: impl FnOnce(&PathAttributes) -> Usage,
    ) -> AttributeId {
        let hash = self.hasher.hash_one((source.peer, &attributes));
        let equal =
            |id: &AttributeId| self.get(*id).is_some_and(|set| set.source == *source && *set.attributes == attributes);
        if let Some(id) = self.ids.find(hash, equal).copied() {
            self.retain(id);
            return id;
        }
        let charge = charge(&attributes);
        self.insert(hash, source, attributes, charge)
    }

    fn insert(&mut self, hash: u64, source: &Source, attributes: PathAttributes, charge: Usage) -> AttributeId {
        let usage = self.usage.entry(source.peer).or_default();
        usage.sets += charge.sets;
        usage.octets += charge.octets;
        let set = AttributeSet {
            source: *source,
            targets: self.targets.acquire(attributes.route_targets()),
            mobility: attributes.mac_mobility(),
            rank: Rank::new(source, &attributes),
            long_lived_stale: attributes.is_long_lived_stale(),
            attributes: Arc::new(attributes),
            hash,
            charge,
            references: 1,
        };
        let id = self.free.pop().unwrap_or(AttributeId::from_index(self.sets.len()));
        match self.sets.get_mut(id.index()) {
            Some(slot) => *slot = Some(set),
            None => self.sets.push(Some(set)),
        }
        let sets = &self.sets;
        self.ids.insert_unique(hash, id, |id| hash_of(sets, *id));
        id
    }

    /// One more reference.
    pub fn retain(&mut self, id: AttributeId) {
        if let Some(Some(set)) = self.sets.get_mut(id.index()) {
            set.references += 1;
        }
    }

    /// One reference fewer; the last one frees the set.
    pub fn release(&mut self, id: AttributeId) {
        let Some(slot) = self.sets.get_mut(id.index()) else { return };
        let Some(set) = slot.as_mut() else { return };
        set.references = set.references.saturating_sub(1);
        if set.references > 0 {
            return;
        }
        let Some(set) = slot.take() else { return };
        if let Ok(entry) = self.ids.find_entry(set.hash, |other| *other == id) {
            entry.remove();
        }
        if let Some(usage) = self.usage.get_mut(&set.source.peer) {
            usage.octets = usage.octets.saturating_sub(set.charge.octets);
            usage.sets = usage.sets.saturating_sub(set.charge.sets);
            if *usage == Usage::default() {
                self.usage.remove(&set.source.peer);
            }
        }
        self.targets.release(set.targets, self.epoch);
        self.free.push(id);
    }

    /// A set in use.
    pub fn get(&self, id: AttributeId) -> Option<&AttributeSet> {
        self.sets.get(id.index()).and_then(Option::as_ref)
    }

    /// What the sets of a peer take.
    pub fn usage_of(&self, peer: PeerId) -> Usage {
        self.usage.get(&peer).copied().unwrap_or_default()
    }

    /// Whether one more set may be more than a peer may have.
    pub fn may_exceed(&self, peer: PeerId, limits: &PeerLimits, more: &PathAttributes) -> bool {
        let Usage { sets, octets } = self.usage_of(peer);
        sets >= limits.max_attribute_sets || octets.saturating_add(footprint(more)) > limits.max_attribute_octets
    }

    /// Whether a peer's sets are more than they may be.
    pub fn exceeded(&self, peer: PeerId, limits: &PeerLimits) -> Option<LimitExceeded> {
        let Usage { sets, octets } = self.usage_of(peer);
        if sets > limits.max_attribute_sets {
            Some(LimitExceeded::AttributeSets { limit: limits.max_attribute_sets })
        } else if octets > limits.max_attribute_octets {
            Some(LimitExceeded::AttributeOctets { limit: limits.max_attribute_octets })
        } else {
            None
        }
    }

    /// Number of sets in use.
    pub fn len(&self) -> usize {
        self.ids.len()
    }
}

fn hash_of(sets: &[Option<AttributeSet>], id: AttributeId) -> u64 {
    sets.get(id.index()).and_then(Option::as_ref).map_or(0, |set| set.hash)
}

/// Octets a set occupies, with what its lists hold on the heap.
fn footprint(attributes: &PathAttributes) -> usize {
    size_of::<AttributeSet>() + size_of::<PathAttributes>() + value_octets(attributes) + 48 * attributes.unknown.len()
}

/// Octets of the lists and unknown values among the attributes: what makes one set larger than another.
pub fn value_octets(attributes: &PathAttributes) -> usize {
    4 * attributes.as_path.len()
        + 4 * attributes.communities.len()
        + 8 * attributes.extended_communities.len()
        + 20 * attributes.ipv6_extended_communities.len()
        + 12 * attributes.large_communities.len()
        + 4 * attributes.cluster_list.len()
        + attributes.unknown.iter().map(|attribute| attribute.value.len()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(peer: u32) -> Source {
        let address = IpAddr::from([192, 0, 2, 1]);
        Source { peer: PeerId(peer), class: PeerClass::Client, router_id: RouterId(peer), address }
    }

    #[test]
    fn equal_sets_of_one_source_are_one_and_the_last_reference_frees_it() {
        let mut store = AttributeStore::new(1);
        let attributes = PathAttributes::new(IpAddr::from([192, 0, 2, 1]));
        let first = store.acquire(&source(1), attributes.clone());
        assert_eq!(store.acquire(&source(1), attributes.clone()), first);
        let other = store.acquire(&source(2), attributes);
        assert_ne!(other, first);
        assert!(store.usage_of(PeerId(1)).octets > 0 && store.usage_of(PeerId(1)).sets == 1);
        store.release(first);
        assert_eq!(store.len(), 2);
        store.release(first);
        store.release(other);
        assert_eq!((store.len(), store.usage_of(PeerId(1))), (0, Usage::default()));
    }

    #[test]
    fn a_target_set_keeps_its_id_until_its_epoch_is_safe() {
        let mut sets = TargetSets::new(1);
        let target = crate::types::RouteTarget::auto(crate::types::Asn(1), crate::types::Vni::new(7).unwrap());
        let id = sets.acquire([target].into_iter());
        sets.release(id, 5);
        sets.reclaim(4, |_| panic!("epoch 5 is not safe yet"));
        assert_eq!(sets.acquire([target].into_iter()), id);
        sets.reclaim(5, |_| panic!("the set was revived"));
        sets.release(id, 6);
        let mut freed = Vec::new();
        sets.reclaim(6, |id| freed.push(id));
        assert_eq!((freed, sets.len()), (vec![id], 0));
    }
}
