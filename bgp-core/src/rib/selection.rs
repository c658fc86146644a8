//! The second half of the table: selecting best paths, the index by route targets, and the end of destinations.

use smallvec::SmallVec;

use super::attribute_store::{AttributeId, AttributeStore};
use super::decision::{Candidate, Reason, explain, select};
use super::family::Family;
use super::table::{Delta, Destination, DestinationId, Path, Selected, State, Table};
use super::target_sets::RtSetId;
use crate::types::PeerId;

impl<F: Family> Table<F> {
    /// Selects best paths for all dirty destinations and appends what changed. The selections' references to what they
    /// held before go with the deltas: release them.
    pub fn select(&mut self, store: &mut AttributeStore, deltas: &mut Vec<Delta>) {
        let mut dirty = core::mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            if let Some(delta) = self.select_one(id, store) {
                deltas.push(delta);
            }
        }
        self.dirty = dirty;
    }

    fn select_one(&mut self, id: DestinationId, store: &mut AttributeStore) -> Option<Delta> {
        let destination = self.destinations.get_mut(id.index())?;
        destination.dirty = false;
        let best = destination.decide(store).map(|path| (path.attributes, path.version));
        let old = destination.selected;
        if best.is_none() && destination.state == State::Live {
            destination.state = State::Dead(store.epoch);
            self.dead.push_back((store.epoch, id));
            self.dead_count += 1;
        }
        if best == old.map(|selected| (selected.attributes, selected.version)) {
            return None;
        }
        if let Some((attributes, _)) = best {
            store.retain(attributes);
        }
        let targets = |attributes: AttributeId| store.get(attributes).map(|set| set.targets);
        let old_targets = old.and_then(|selected| targets(selected.attributes));
        let new_targets = best.and_then(|(attributes, _)| targets(attributes));
        let mut position = old.map_or(0, |selected| selected.position);
        if old_targets != new_targets {
            if let Some(targets) = old_targets {
                self.unindex(targets, position);
            }
            position = new_targets.map_or(0, |targets| self.index(targets, id));
        }
        let destination = self.destinations.get_mut(id.index())?;
        destination.selected = best.map(|(attributes, version)| Selected { attributes, version, position });
        Some(Delta { destination: id, old: old.map(|selected| selected.attributes), new: best.map(|(new, _)| new) })
    }

    /// Adds a destination to those selected with these targets; its position there.
    fn index(&mut self, targets: RtSetId, id: DestinationId) -> u32 {
        if self.by_targets.len() <= targets.index() {
            self.by_targets.resize_with(targets.index() + 1, Vec::new);
        }
        let Some(list) = self.by_targets.get_mut(targets.index()) else { return 0 };
        list.push(id);
        u32::try_from(list.len() - 1).unwrap_or(u32::MAX)
    }

    fn unindex(&mut self, targets: RtSetId, position: u32) {
        let Some(list) = self.by_targets.get_mut(targets.index()) else { return };
        if (position as usize) < list.len() {
            list.swap_remove(position as usize);
        }
        let moved = list.get(position as usize).copied();
        if list.is_empty() {
            *list = Vec::new();
        }
        let selected =
            moved.and_then(|id| self.destinations.get_mut(id.index())).and_then(|moved| moved.selected.as_mut());
        if let Some(selected) = selected {
            selected.position = position;
        }
    }

    /// Destinations whose selected route has exactly these targets.
    pub fn selected_with(&self, targets: RtSetId) -> &[DestinationId] {
        self.by_targets.get(targets.index()).map_or(&[], |list| list)
    }

    /// Lets ids of destinations that died in epochs up to `safe` name other keys.
    pub fn reclaim(&mut self, safe: u64) {
        while self.dead.front().is_some_and(|(epoch, _)| *epoch <= safe)
            && let Some((epoch, id)) = self.dead.pop_front()
        {
            let Some(destination) = self.destinations.get_mut(id.index()) else { continue };
            if destination.state != State::Dead(epoch) {
                continue;
            }
            destination.state = State::Free;
            let hash = self.hash(id);
            if let Ok(entry) = self.ids.find_entry(hash, |other| *other == id) {
                entry.remove();
            }
            self.dead_count -= 1;
            self.free.push(id);
        }
    }

    /// A destination.
    pub fn get(&self, id: DestinationId) -> Option<&Destination<F>> {
        self.destinations.get(id.index())
    }

    /// A peer's path to a destination.
    pub fn path(&self, id: DestinationId, peer: PeerId) -> Option<&Path<F>> {
        self.get(id).and_then(|destination| destination.paths.iter().find(|path| path.peer == peer))
    }

    /// All destinations with a path, in order of ids.
    pub fn live(&self) -> impl Iterator<Item = &Destination<F>> {
        self.destinations.iter().filter(|destination| !destination.paths.is_empty())
    }

    /// All destinations with a selected route, in order of ids.
    pub fn selected(&self) -> impl Iterator<Item = (DestinationId, AttributeId)> + '_ {
        (0..)
            .map(DestinationId)
            .zip(&self.destinations)
            .filter_map(|(id, destination)| Some((id, destination.selected_attributes()?)))
    }

    /// Destinations to which a peer has a path, in no particular order.
    pub fn routes_of(&self, peer: PeerId) -> &[DestinationId] {
        self.by_peer.get(&peer).map_or(&[], |routes| &routes.destinations)
    }

    /// Number of paths of a peer.
    pub fn count(&self, peer: PeerId) -> usize {
        self.routes_of(peer).len()
    }

    /// Number of stale paths of a peer.
    pub fn stale_count(&self, peer: PeerId) -> usize {
        self.by_peer.get(&peer).map_or(0, |routes| routes.stale)
    }

    /// Of these, those whose restart time is over.
    pub fn long_lived_count(&self, peer: PeerId) -> usize {
        self.by_peer.get(&peer).map_or(0, |routes| routes.long_lived)
    }

    /// Number of paths.
    pub fn path_count(&self) -> usize {
        self.paths
    }

    /// Number of destinations with a route.
    pub fn live_count(&self) -> usize {
        self.ids.len().saturating_sub(self.dead_count)
    }

    /// Number of destinations that wait to be reclaimed.
    pub fn dead_count(&self) -> usize {
        self.dead_count
    }
}

impl<F: Family> Destination<F> {
    /// The best path as things stand.
    fn decide(&self, store: &AttributeStore) -> Option<&Path<F>> {
        if self.paths.len() < 2 {
            return self.paths.first();
        }
        let position = select(&self.candidates(store), F::is_mobile(&self.key))?;
        self.paths.get(position)
    }

    /// Why each path won or lost, in order of paths.
    pub fn explain(&self, store: &AttributeStore) -> Vec<Reason> {
        explain(&self.candidates(store), F::is_mobile(&self.key))
    }

    fn candidates<'a>(&self, store: &'a AttributeStore) -> SmallVec<[Candidate<'a>; 4]> {
        let candidate = |path: &Path<F>| Some(Candidate { set: store.get(path.attributes)?, stale: path.is_stale() });
        self.paths.iter().filter_map(candidate).collect()
    }

    /// The path that was selected last, if it still is as it was.
    pub fn best(&self) -> Option<&Path<F>> {
        let selected = self.selected?;
        self.paths.iter().find(|path| path.version == selected.version && path.attributes == selected.attributes)
    }

    /// The attributes of the selected route.
    pub fn selected_attributes(&self) -> Option<AttributeId> {
        self.selected.map(|selected| selected.attributes)
    }
}
