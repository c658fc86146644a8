//! The table of one family: all paths of all peers, and the path selected for each destination.
//!
//! In go routes and withdrawals of peers; out comes, once per [`Table::select`], what changed in the selection. A
//! destination is a key with a dense id; it is *dirty* while its selection is not up to date, and *dead* when it has
//! neither paths nor a selection but its id must not name another key yet.
//!
//! ```text
//!   insert, withdraw ─► paths ─► dirty ─► select ─► Delta ─► update groups, owner
//!                                             └► dead ─► reclaim(epoch) ─► free
//! ```

use std::collections::VecDeque;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};
use smallvec::SmallVec;

use super::attribute_store::{AttributeId, AttributeStore};
use super::decision::{Candidate, is_plainly_worse};
use super::family::Family;
use crate::types::PeerId;
use crate::wire::Route;

/// Dense number of a destination.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DestinationId(pub u32);

impl DestinationId {
    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One peer's route to a destination.
#[derive(Clone, Debug)]
pub struct Path<F: Family> {
    /// Who announced it.
    pub peer: PeerId,
    /// With which attributes.
    pub attributes: AttributeId,
    /// What it carries.
    pub payload: F::Payload,
    /// Whether it is kept for a peer that restarts.
    staleness: Staleness,
    /// Not repeated yet in the peer's refresh (RFC 7313).
    unrefreshed: bool,
    /// Distinguishes two announcements with the same attributes.
    pub(super) version: u32,
    /// Position among the peer's routes.
    position: u32,
}

impl<F: Family> Path<F> {
    /// Kept for a peer that restarts, and not announced again yet.
    pub fn is_stale(&self) -> bool {
        self.staleness != Staleness::Fresh
    }
}

/// Whether a path has outlived the session it came by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Staleness {
    /// It has not.
    Fresh,
    /// The peer's restart time is not over (RFC 4724).
    Restarting,
    /// It is; the path carries LLGR_STALE (RFC 9494).
    LongLived,
}

/// A key and its paths.
#[derive(Clone, Debug)]
pub struct Destination<F: Family> {
    /// The key.
    pub key: F::Key,
    /// In order of peers.
    pub paths: SmallVec<[Path<F>; 1]>,
    pub(super) selected: Option<Selected>,
    pub(super) state: State,
    pub(super) dirty: bool,
}

/// What was selected for a destination. It holds a reference to the attributes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Selected {
    pub(super) attributes: AttributeId,
    pub(super) version: u32,
    /// Position among the destinations with the same targets.
    pub(super) position: u32,
}

/// The life of a destination's id.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// It has paths, or is dirty.
    Live,
    /// It has had neither paths nor a selection since this epoch.
    Dead(u64),
    /// It names nothing.
    Free,
}

/// A change of selection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Delta {
    /// Where.
    pub destination: DestinationId,
    /// What was selected. The reference that the selection held is handed over with the delta.
    pub old: Option<AttributeId>,
    /// What is selected; the same as `old` when only the payload changed.
    pub new: Option<AttributeId>,
}

/// What an announcement did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Inserted {
    /// The peer had no route to the destination.
    Added,
    /// It had another one.
    Replaced,
    /// It had the same one.
    Unchanged,
}

/// Destinations of one peer, in no particular order, and how many of its paths are stale.
#[derive(Debug, Default)]
pub(super) struct PeerRoutes {
    pub(super) destinations: Vec<DestinationId>,
    pub(super) stale: usize,
    /// Of these, long-lived stale.
    pub(super) long_lived: usize,
}

impl PeerRoutes {
    /// A path is not stale any more, or gone.
    fn uncount(&mut self, staleness: Staleness) {
        self.stale = self.stale.saturating_sub(usize::from(staleness != Staleness::Fresh));
        self.long_lived = self.long_lived.saturating_sub(usize::from(staleness == Staleness::LongLived));
    }
}

/// All routes of a family.
#[derive(Debug)]
pub struct Table<F: Family> {
    pub(super) destinations: Vec<Destination<F>>,
    pub(super) ids: HashTable<DestinationId>,
    pub(super) hasher: FixedState,
    pub(super) free: Vec<DestinationId>,
    pub(super) dead: VecDeque<(u64, DestinationId)>,
    pub(super) dead_count: usize,
    pub(super) dirty: Vec<DestinationId>,
    pub(super) by_peer: HashMap<PeerId, PeerRoutes, FixedState>,
    /// Selected routes by target set.
    pub(super) by_targets: Vec<Vec<DestinationId>>,
    pub(super) paths: usize,
    pub(super) last_version: u32,
}

impl<F: Family> Table<F> {
    /// An empty table; `seed` keys the hashing.
    pub fn new(seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self {
            destinations: Vec::new(),
            ids: HashTable::new(),
            hasher: hasher.clone(),
            free: Vec::new(),
            dead: VecDeque::new(),
            dead_count: 0,
            dirty: Vec::new(),
            by_peer: HashMap::with_hasher(hasher),
            by_targets: Vec::new(),
            paths: 0,
            last_version: 0,
        }
    }

    /// Holds a peer's route. The path takes a reference to `attributes` of its own.
    pub fn insert(
        &mut self,
        peer: PeerId,
        route: Route<F>,
        attributes: AttributeId,
        store: &mut AttributeStore,
    ) -> Inserted {
        let id = self.intern(route.key);
        self.last_version = self.last_version.wrapping_add(1);
        let version = self.last_version;
        let Some(destination) = self.destinations.get_mut(id.index()) else { return Inserted::Unchanged };
        let index = match destination.paths.binary_search_by_key(&peer, |path| path.peer) {
            Ok(index) => return self.replace(id, index, route.payload, attributes, store),
            Err(index) => index,
        };
        store.retain(attributes);
        let routes = self.by_peer.entry(peer).or_default();
        let position = u32::try_from(routes.destinations.len()).unwrap_or(u32::MAX);
        routes.destinations.push(id);
        let payload = route.payload;
        let path =
            Path { peer, attributes, payload, staleness: Staleness::Fresh, unrefreshed: false, version, position };
        let hidden = !destination.dirty && is_hidden(destination, &path, store);
        destination.paths.insert(index, path);
        self.paths += 1;
        if !hidden {
            self.mark_dirty(id);
        }
        Inserted::Added
    }

    fn replace(
        &mut self,
        id: DestinationId,
        index: usize,
        payload: F::Payload,
        attributes: AttributeId,
        store: &mut AttributeStore,
    ) -> Inserted {
        let version = self.last_version;
        let Some(destination) = self.destinations.get_mut(id.index()) else { return Inserted::Unchanged };
        let rivals = destination.paths.len() > 1;
        let Some(path) = destination.paths.get_mut(index) else { return Inserted::Unchanged };
        let staleness = core::mem::replace(&mut path.staleness, Staleness::Fresh);
        path.unrefreshed = false;
        let same = path.attributes == attributes && path.payload == payload;
        if !same {
            store.retain(attributes);
            store.release(core::mem::replace(&mut path.attributes, attributes));
            (path.payload, path.version) = (payload, version);
        }
        if let Some(routes) = self.by_peer.get_mut(&path.peer) {
            routes.uncount(staleness);
        }
        if !same || (staleness != Staleness::Fresh && rivals) {
            self.mark_dirty(id);
        }
        if same { Inserted::Unchanged } else { Inserted::Replaced }
    }

    /// Removes a peer's route; whether there was one.
    pub fn withdraw(&mut self, peer: PeerId, key: &F::Key, store: &mut AttributeStore) -> bool {
        self.find(key).is_some_and(|id| self.remove(peer, id, store))
    }

    /// Removes the routes of a peer that `doomed` picks; how many.
    pub fn withdraw_where(
        &mut self,
        peer: PeerId,
        store: &mut AttributeStore,
        doomed: impl Fn(&Path<F>) -> bool,
    ) -> usize {
        let mut removed = 0;
        let mut index = self.count(peer);
        while index > 0 {
            index -= 1;
            // Removal puts the last of the peer's routes here: one that has been looked at.
            let Some(id) = self.by_peer.get(&peer).and_then(|routes| routes.destinations.get(index)).copied() else {
                continue;
            };
            if self.path(id, peer).is_some_and(&doomed) && self.remove(peer, id, store) {
                removed += 1;
            }
        }
        removed
    }

    /// Removes all routes of a peer; how many.
    pub fn withdraw_all(&mut self, peer: PeerId, store: &mut AttributeStore) -> usize {
        self.withdraw_where(peer, store, |_| true)
    }

    /// Removes the stale routes of a peer; how many.
    pub fn withdraw_stale(&mut self, peer: PeerId, store: &mut AttributeStore) -> usize {
        if self.stale_count(peer) == 0 { 0 } else { self.withdraw_where(peer, store, |path| path.is_stale()) }
    }

    /// Removes the routes that the peer has not repeated since [`Self::begin_refresh`]; how many.
    pub fn end_refresh(&mut self, peer: PeerId, store: &mut AttributeStore) -> usize {
        self.withdraw_where(peer, store, |path| path.unrefreshed)
    }

    /// The peer is about to repeat all of its routes.
    pub fn begin_refresh(&mut self, peer: PeerId) {
        self.for_each_path(peer, |path, _| {
            path.unrefreshed = true;
            false
        });
    }

    /// Keeps all routes of a peer as stale; long-lived ones stay that.
    pub fn mark_stale(&mut self, peer: PeerId) {
        self.for_each_path(peer, |path, rivals| {
            path.unrefreshed = false;
            if path.is_stale() {
                return false;
            }
            path.staleness = Staleness::Restarting;
            rivals
        });
        if let Some(routes) = self.by_peer.get_mut(&peer) {
            routes.stale = routes.destinations.len();
        }
    }

    /// The restart time of a peer is over: its stale routes get LLGR_STALE, and those with NO_LLGR go (RFC 9494 section
    /// 4.2). Returns how many went.
    pub fn mark_long_lived(&mut self, peer: PeerId, store: &mut AttributeStore) -> usize {
        // Both sides hold references of their own until the end, so that no id is given away meanwhile.
        let mut marked: HashMap<AttributeId, Option<AttributeId>, FixedState> =
            HashMap::with_hasher(self.hasher.clone());
        self.for_each_path(peer, |path, _| {
            if path.staleness != Staleness::Restarting {
                return false;
            }
            let old = path.attributes;
            let new = *marked.entry(old).or_insert_with(|| {
                store.retain(old);
                store.acquire_long_lived_stale(old)
            });
            let Some(new) = new else { return false };
            store.retain(new);
            store.release(old);
            (path.attributes, path.staleness) = (new, Staleness::LongLived);
            true
        });
        for (old, new) in marked {
            [Some(old), new].into_iter().flatten().for_each(|id| store.release(id));
        }
        let removed = self.withdraw_where(peer, store, |path| path.staleness == Staleness::Restarting);
        if let Some(routes) = self.by_peer.get_mut(&peer) {
            routes.long_lived = routes.stale;
        }
        removed
    }

    /// Visits a peer's paths; `visit` is told whether there are rivals and returns whether the selection may change.
    fn for_each_path(&mut self, peer: PeerId, mut visit: impl FnMut(&mut Path<F>, bool) -> bool) {
        let Some(routes) = self.by_peer.get_mut(&peer) else { return };
        let ids = core::mem::take(&mut routes.destinations);
        for id in &ids {
            let Some(destination) = self.destinations.get_mut(id.index()) else { continue };
            let rivals = destination.paths.len() > 1;
            let path = destination.paths.iter_mut().find(|path| path.peer == peer);
            if path.is_some_and(|path| visit(path, rivals)) {
                self.mark_dirty(*id);
            }
        }
        if let Some(routes) = self.by_peer.get_mut(&peer) {
            routes.destinations = ids;
        }
    }

    fn remove(&mut self, peer: PeerId, id: DestinationId, store: &mut AttributeStore) -> bool {
        let Some(destination) = self.destinations.get_mut(id.index()) else { return false };
        let Ok(index) = destination.paths.binary_search_by_key(&peer, |path| path.peer) else { return false };
        let path = destination.paths.remove(index);
        store.release(path.attributes);
        self.paths -= 1;
        self.forget_position(&path);
        self.mark_dirty(id);
        true
    }

    /// Takes a removed path off its peer's list.
    fn forget_position(&mut self, path: &Path<F>) {
        let Some(routes) = self.by_peer.get_mut(&path.peer) else { return };
        let position = path.position as usize;
        if position < routes.destinations.len() {
            routes.destinations.swap_remove(position);
        }
        routes.uncount(path.staleness);
        let moved = routes.destinations.get(position).copied();
        if routes.destinations.is_empty() {
            self.by_peer.remove(&path.peer);
        }
        let Some(destination) = moved.and_then(|id| self.destinations.get_mut(id.index())) else { return };
        if let Some(moved) = destination.paths.iter_mut().find(|other| other.peer == path.peer) {
            moved.position = path.position;
        }
    }

    fn mark_dirty(&mut self, id: DestinationId) {
        if let Some(destination) = self.destinations.get_mut(id.index())
            && !core::mem::replace(&mut destination.dirty, true)
        {
            self.dirty.push(id);
        }
    }

    /// The id of a key, which it gets now if it has none.
    fn intern(&mut self, key: F::Key) -> DestinationId {
        let hash = F::hash(&key, &self.hasher);
        let destinations = &self.destinations;
        let equal = |id: &DestinationId| destinations.get(id.index()).is_some_and(|other| other.key == key);
        if let Some(id) = self.ids.find(hash, equal).copied() {
            if let Some(destination) = self.destinations.get_mut(id.index())
                && let State::Dead(_) = destination.state
            {
                destination.state = State::Live;
                self.dead_count -= 1;
            }
            return id;
        }
        let destination = Destination { key, paths: SmallVec::new(), selected: None, state: State::Live, dirty: false };
        let next = DestinationId(u32::try_from(self.destinations.len()).unwrap_or(u32::MAX));
        let id = self.free.pop().unwrap_or(next);
        match self.destinations.get_mut(id.index()) {
            Some(slot) => *slot = destination,
            None => self.destinations.push(destination),
        }
        let (destinations, hasher) = (&self.destinations, &self.hasher);
        self.ids.insert_unique(hash, id, |id| hash_of(destinations, hasher, *id));
        id
    }

    /// The hash of a destination's key.
    pub(super) fn hash(&self, id: DestinationId) -> u64 {
        hash_of(&self.destinations, &self.hasher, id)
    }

    /// The id of a key that has one.
    pub fn find(&self, key: &F::Key) -> Option<DestinationId> {
        let hash = F::hash(key, &self.hasher);
        self.ids.find(hash, |id| self.get(*id).is_some_and(|other| other.key == *key)).copied()
    }
}

/// Whether a new path leaves the selection as it is, so that nothing need be computed however many paths there are.
fn is_hidden<F: Family>(destination: &Destination<F>, path: &Path<F>, store: &AttributeStore) -> bool {
    let Some(best) = destination.best() else { return false };
    let candidate = |path: &Path<F>| store.get(path.attributes).map(|set| Candidate { set, stale: path.is_stale() });
    let (Some(best), Some(rival)) = (candidate(best), candidate(path)) else { return false };
    is_plainly_worse(rival, best, F::is_mobile(&destination.key))
}

fn hash_of<F: Family>(destinations: &[Destination<F>], hasher: &FixedState, id: DestinationId) -> u64 {
    destinations.get(id.index()).map_or(0, |destination| F::hash(&destination.key, hasher))
}
