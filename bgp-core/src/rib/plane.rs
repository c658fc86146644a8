//! One family of a RIB: its table, its update groups, and the flush that carries changes from one to the others.
//!
//! Flushes are numbered by epochs. What a flush ends (a destination, a target set) keeps its id until every member has been
//! told of that flush, since encoded messages and pending sets name it.

use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::attribute_store::{AttributeStore, Source};
use super::bits::BitSet;
use super::config::{LimitExceeded, NearLimit, PeerLimits, RibConfig};
use super::export::{ExportPolicy, admit};
use super::family::Family;
use super::member::Member;
use super::permission::Permission;
use super::rt_constrain::{Filter, Interest, MembershipChange};
use super::table::{DestinationId, Inserted, Table};
use super::update_group::{Batch, GroupKey, UpdateGroup};
use super::view::UpdateOutcome;
use crate::types::PeerId;
use crate::wire::{PathAttributes, Route};

/// Table and update groups of a family.
#[derive(Debug)]
pub struct Plane<F: Family> {
    /// All routes.
    pub table: Table<F>,
    /// Their attributes.
    pub store: AttributeStore,
    groups: Vec<UpdateGroup>,
    /// Group and place of each member.
    places: HashMap<PeerId, (usize, usize), FixedState>,
    batch: Batch,
    ready: Vec<PeerId>,
    changes: Changes,
    /// Flushes that changed something.
    pub flushes: u64,
}

/// Selections that changed and have not been told to the owner.
#[derive(Debug, Default)]
struct Changes {
    recorded: bool,
    ids: Vec<DestinationId>,
    known: BitSet,
    /// Epoch of the first.
    since: u64,
}

impl<F: Family> Plane<F> {
    /// An empty plane; `record` tells whether changes are kept for the owner.
    pub fn new(config: &RibConfig, record: bool) -> Self {
        Self {
            table: Table::new(config.hash_seed),
            store: AttributeStore::new(config.hash_seed),
            groups: Vec::new(),
            places: HashMap::with_hasher(FixedState::with_seed(config.hash_seed)),
            batch: Batch::default(),
            ready: Vec::new(),
            changes: Changes { recorded: record, ..Changes::default() },
            flushes: 0,
        }
    }

    /// Adds a peer to the update group with this key.
    pub fn join(&mut self, peer: PeerId, key: GroupKey, filter: Filter, enhanced_refresh: bool, config: &RibConfig) {
        self.leave(peer);
        let found = self.groups.iter().position(|group| group.key() == key);
        let index = found.unwrap_or_else(|| {
            let export = ExportPolicy::new(&key, config, F::REFLECTED);
            self.groups.push(UpdateGroup::new(key, export, config.log_limit_octets));
            self.groups.len() - 1
        });
        if let Some(group) = self.groups.get_mut(index) {
            let place = group.join(peer, filter, enhanced_refresh, &self.table, &self.store);
            self.places.insert(peer, (index, place));
        }
    }

    /// Removes a peer from its update group.
    pub fn leave(&mut self, peer: PeerId) {
        if let Some((group, place)) = self.places.remove(&peer)
            && let Some(group) = self.groups.get_mut(group)
        {
            group.leave(place, &self.store);
        }
    }

    fn group(&self, peer: PeerId) -> Option<(&UpdateGroup, usize)> {
        let (group, place) = self.places.get(&peer)?;
        Some((self.groups.get(*group)?, *place))
    }

    /// The peer as a member of its update group.
    pub fn member(&self, peer: PeerId) -> Option<&Member> {
        let (group, place) = self.group(peer)?;
        group.member(place)
    }

    /// Announces routes with common attributes. `changed` is told of keys that the peer holds now and did not before,
    /// or the other way round, where the family asks for it.
    pub fn announce(
        &mut self,
        input: &Input<'_>,
        attributes: PathAttributes,
        routes: Vec<Route<F>>,
        outcome: &mut UpdateOutcome,
        mut changed: impl FnMut(&F::Key, bool),
    ) {
        let peer = input.source.peer;
        let usable = admit(input.config, input.limits, &attributes, F::accepts_next_hop).is_ok();
        if !usable || F::check_attributes(input.permission, &attributes).is_err() {
            *if usable { &mut outcome.forbidden } else { &mut outcome.refused } += routes.len();
            for route in routes {
                if self.table.withdraw(peer, &route.key, &mut self.store) {
                    outcome.withdrawn += 1;
                    changed(&route.key, false);
                }
            }
            return;
        }
        let attributes = self.store.acquire(input.source, attributes);
        outcome.exceeded = self.store.exceeded(peer, input.limits);
        let (limit, warning) = (input.limits.max_routes(F::FAMILY), input.limits.warning_at(F::FAMILY));
        for route in routes {
            if outcome.exceeded.is_some() {
                break;
            }
            if F::check_route(input.permission, &route).is_err() {
                outcome.forbidden += 1;
                if self.table.withdraw(peer, &route.key, &mut self.store) {
                    outcome.withdrawn += 1;
                    changed(&route.key, false);
                }
                continue;
            }
            let key = F::NOTED.then(|| route.key.clone());
            let added = self.table.insert(peer, route, attributes, &mut self.store) == Inserted::Added;
            outcome.accepted += 1;
            if added && let Some(key) = key {
                changed(&key, true);
            }
            let held = self.table.count(peer);
            if added && Some(held) == warning {
                outcome.near = Some(NearLimit { family: F::FAMILY, held, limit });
            }
            if added && held > limit {
                outcome.exceeded = Some(LimitExceeded::Prefixes { family: F::FAMILY, limit });
            }
        }
        self.store.release(attributes);
    }

    /// Withdraws routes of a peer.
    pub fn withdraw(
        &mut self,
        peer: PeerId,
        keys: &[F::Key],
        outcome: &mut UpdateOutcome,
        mut changed: impl FnMut(&F::Key, bool),
    ) {
        for key in keys {
            if self.table.withdraw(peer, key, &mut self.store) {
                outcome.withdrawn += 1;
                changed(key, false);
            } else {
                outcome.unknown_withdrawals += 1;
            }
        }
    }

    /// Selects best paths and hands what changed to the update groups.
    pub fn flush(&mut self) {
        self.batch.deltas.clear();
        self.table.select(&mut self.store, &mut self.batch.deltas);
        if self.batch.deltas.is_empty() {
            self.wake();
        } else {
            self.flushes += 1;
            self.batch.arrange(&self.store);
            for group in &mut self.groups {
                group.flush(&self.batch, &self.table, &self.store, &mut self.ready);
            }
            let epoch = self.store.epoch;
            for delta in &self.batch.deltas {
                self.changes.record(delta.destination, epoch);
                if let Some(old) = delta.old {
                    self.store.release(old);
                }
            }
        }
        self.store.epoch += 1;
        self.reclaim();
    }

    /// The last flush that everybody has been told of.
    fn safe_epoch(&self) -> u64 {
        let epoch = self.store.epoch - 1;
        let told = self.groups.iter().map(|group| group.safe_epoch(epoch)).min().unwrap_or(epoch);
        if self.changes.ids.is_empty() { told } else { told.min(self.changes.since.saturating_sub(1)) }
    }

    fn reclaim(&mut self) {
        if self.table.dead_count() == 0 && !self.store.targets.is_dying() {
            return;
        }
        let safe = self.safe_epoch();
        self.table.reclaim(safe);
        let groups = &mut self.groups;
        self.store.targets.reclaim(safe, |id| groups.iter_mut().for_each(|group| group.forget(id)));
    }

    /// The members that keep dead destinations from being reclaimed.
    pub fn laggards(&self) -> Vec<PeerId> {
        let (safe, epoch) = (self.safe_epoch(), self.store.epoch - 1);
        if safe >= epoch {
            Vec::new()
        } else {
            self.groups.iter().flat_map(|group| group.behind(safe, epoch)).collect()
        }
    }

    /// Appends peers that have something to read that had nothing before.
    pub fn drain_ready(&mut self, ready: &mut Vec<PeerId>) {
        ready.append(&mut self.ready);
    }

    /// Destinations whose selection changed since the last call.
    pub fn drain_changes(&mut self) -> Vec<DestinationId> {
        self.changes.known.clear();
        core::mem::take(&mut self.changes.ids)
    }

    /// Lets the peer's end-of-RIB follow what has been flushed.
    pub fn release_end_of_rib(&mut self, peer: PeerId) {
        if let Some((group, place)) = self.places.get(&peer).copied()
            && let Some(group) = self.groups.get_mut(group)
        {
            group.release_end_of_rib(place, &self.store);
        }
    }

    /// The peer wants everything again.
    pub fn want_refresh(&mut self, peer: PeerId) {
        if let Some((group, place)) = self.places.get(&peer).copied()
            && let Some(member) = self.groups.get_mut(group).and_then(|group| group.member_mut(place))
        {
            member.want_refresh();
        }
    }

    /// Applies changes of a peer's memberships to what it is sent.
    pub fn change_interest(&mut self, peer: PeerId, changes: &[MembershipChange]) {
        if let Some((group, place)) = self.places.get(&peer).copied()
            && let Some(group) = self.groups.get_mut(group)
            && !changes.is_empty()
        {
            group.change_interest(place, changes, &self.table, &self.store);
        }
    }

    /// Takes all of a peer's memberships anew.
    pub fn replace_interest(&mut self, peer: PeerId, interest: Interest) {
        if let Some((group, place)) = self.places.get(&peer).copied()
            && let Some(group) = self.groups.get_mut(group)
        {
            group.replace_interest(place, interest, &self.table, &self.store);
        }
    }

    /// Hands a peer about `max_octets` of messages; returns how many.
    pub fn read(&mut self, peer: PeerId, max_octets: usize, out: &mut Vec<Bytes>) -> usize {
        let Some((group, place)) = self.places.get(&peer).copied() else { return 0 };
        let Some(group) = self.groups.get_mut(group) else { return 0 };
        group.read(place, max_octets, &self.table, &self.store, out)
    }

    /// Reports members that have got something to read otherwise than by a flush.
    pub fn wake(&mut self) {
        self.groups.iter_mut().for_each(|group| group.wake(&self.store, &mut self.ready));
    }

    /// Whether a peer has something to read.
    pub fn has_pending(&self, peer: PeerId) -> bool {
        self.group(peer).is_some_and(|(group, place)| group.has_pending(place))
    }

    /// How many routes a peer holds, or is to hold.
    pub fn audience_size(&self, peer: PeerId) -> usize {
        self.group(peer).map_or(0, |(group, place)| group.audience_size(place, &self.table, &self.store))
    }

    /// Update groups with members, octets in their logs, and routes they withheld.
    pub fn group_totals(&self) -> (usize, usize, u64) {
        let used = self.groups.iter().filter(|group| group.members().next().is_some()).count();
        let octets = self.groups.iter().map(UpdateGroup::log_octets).sum();
        let unsendable = self.groups.iter().map(|group| group.unsendable).sum();
        (used, octets, unsendable)
    }
}

/// From whom routes come, and what that implies.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Who announces.
    pub source: &'a Source,
    /// What it may cost.
    pub limits: &'a PeerLimits,
    /// Of whom it may announce routes.
    pub permission: &'a Permission,
    /// This speaker.
    pub config: &'a RibConfig,
}

impl Changes {
    fn record(&mut self, id: DestinationId, epoch: u64) {
        if !self.recorded || self.known.contains(id.index()) {
            return;
        }
        if self.ids.is_empty() {
            self.since = epoch;
        }
        self.known.set(id.index(), true);
        self.ids.push(id);
    }
}
