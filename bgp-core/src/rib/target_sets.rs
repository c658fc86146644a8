//! Interned sets of route targets.
//!
//! Whether a peer wants a route depends on the route's targets alone, so interest is decided once per distinct set
//! and routes carry its dense [`RtSetId`]. From a VNI or a target the sets that contain it are found directly: a change
//! of membership costs O(routes of that target).
//!
//! An id whose last route is gone is reused only after [`TargetSets::reclaim`] has passed the flush in which it died:
//! encoded messages that members have not read yet name it.

use std::collections::{BTreeSet, VecDeque};
use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::types::{RouteTarget, Vni};

/// A distinct set of route targets.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RtSetId(u32);

impl RtSetId {
    /// Position in dense arrays.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The targets of one set, sorted.
pub type Targets = SmallVec<[RouteTarget; 2]>;

/// What a route target means to interest: its VNI if it carries one (whatever the ASN, in either form), else itself.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum TargetKey {
    /// Any target that means this VNI.
    Vni(Vni),
    /// Exactly this target.
    Exact(RouteTarget),
}

impl From<RouteTarget> for TargetKey {
    fn from(target: RouteTarget) -> Self {
        target.vni().map_or(Self::Exact(target), Self::Vni)
    }
}

/// All sets in use.
#[derive(Debug)]
pub struct TargetSets {
    sets: Vec<Entry>,
    ids: HashTable<RtSetId>,
    by_key: BTreeSet<(TargetKey, RtSetId)>,
    free: Vec<RtSetId>,
    dying: VecDeque<(u64, RtSetId)>,
    hasher: FixedState,
}

#[derive(Debug, Default)]
struct Entry {
    targets: Targets,
    references: u32,
    /// In `ids` and `by_key`.
    interned: bool,
    /// Epoch in which the last reference went, if there is none.
    died: u64,
}

impl TargetSets {
    /// No sets; `seed` keys the hashing.
    pub fn new(seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self {
            sets: Vec::new(),
            ids: HashTable::new(),
            by_key: BTreeSet::new(),
            free: Vec::new(),
            dying: VecDeque::new(),
            hasher,
        }
    }

    /// The id of a set, with one more reference to it.
    pub fn acquire(&mut self, targets: impl Iterator<Item = RouteTarget>) -> RtSetId {
        let mut targets: Targets = targets.collect();
        targets.sort_unstable();
        targets.dedup();
        let hash = self.hasher.hash_one(&targets);
        let found = self.ids.find(hash, |id| self.sets.get(id.index()).is_some_and(|entry| entry.targets == targets));
        let id = match found {
            Some(id) => *id,
            None => self.insert(hash, targets),
        };
        if let Some(entry) = self.sets.get_mut(id.index()) {
            entry.references += 1;
        }
        id
    }

    fn insert(&mut self, hash: u64, targets: Targets) -> RtSetId {
        let id = self.free.pop().unwrap_or(RtSetId(u32::try_from(self.sets.len()).unwrap_or(u32::MAX)));
        self.by_key.extend(targets.iter().map(|target| (TargetKey::from(*target), id)));
        let entry = Entry { targets, references: 0, interned: true, died: 0 };
        match self.sets.get_mut(id.index()) {
            Some(slot) => *slot = entry,
            None => self.sets.push(entry),
        }
        let (sets, hasher) = (&self.sets, &self.hasher);
        self.ids.insert_unique(hash, id, |id| hash_of(sets, hasher, *id));
        id
    }

    /// One reference fewer. A set without references lives on until [`Self::reclaim`].
    pub fn release(&mut self, id: RtSetId, epoch: u64) {
        if let Some(entry) = self.sets.get_mut(id.index()) {
            entry.references = entry.references.saturating_sub(1);
            if entry.references == 0 {
                entry.died = epoch;
                self.dying.push_back((epoch, id));
            }
        }
    }

    /// Frees the ids of sets that died in epochs up to `safe`, and that nobody revived; they are given to `freed`.
    pub fn reclaim(&mut self, safe: u64, mut freed: impl FnMut(RtSetId)) {
        while self.dying.front().is_some_and(|(epoch, _)| *epoch <= safe)
            && let Some((epoch, id)) = self.dying.pop_front()
        {
            let Some(entry) = self.sets.get_mut(id.index()) else { continue };
            if entry.references > 0 || !entry.interned || entry.died != epoch {
                continue;
            }
            let targets = core::mem::take(&mut entry.targets);
            entry.interned = false;
            let hash = self.hasher.hash_one(&targets);
            if let Ok(found) = self.ids.find_entry(hash, |other| *other == id) {
                found.remove();
            }
            for target in &targets {
                self.by_key.remove(&(TargetKey::from(*target), id));
            }
            self.free.push(id);
            freed(id);
        }
    }

    /// Whether sets wait to be reclaimed.
    pub fn is_dying(&self) -> bool {
        !self.dying.is_empty()
    }

    /// The targets of a set.
    pub fn get(&self, id: RtSetId) -> &[RouteTarget] {
        self.sets.get(id.index()).map_or(&[], |entry| &entry.targets)
    }

    /// The sets that contain a target with this meaning.
    pub fn with_key(&self, key: TargetKey) -> impl Iterator<Item = RtSetId> + '_ {
        self.by_key.range((key, RtSetId(0))..=(key, RtSetId(u32::MAX))).map(|(_, id)| *id)
    }

    /// All sets in use.
    pub fn iter(&self) -> impl Iterator<Item = RtSetId> + '_ {
        let used = |(index, entry): (usize, &Entry)| {
            (entry.interned).then(|| RtSetId(u32::try_from(index).unwrap_or(u32::MAX)))
        };
        self.sets.iter().enumerate().filter_map(used)
    }

    /// Number of sets with references or waiting to be reclaimed.
    pub fn len(&self) -> usize {
        self.ids.len()
    }
}

fn hash_of(sets: &[Entry], hasher: &FixedState, id: RtSetId) -> u64 {
    sets.get(id.index()).map_or(0, |entry| hasher.hash_one(&entry.targets))
}
