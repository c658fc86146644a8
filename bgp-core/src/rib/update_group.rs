//! Update groups: peers whose UPDATEs are the same octets.
//!
//! What a group sends for a route depends on the route and on the group's [`GroupKey`], never on the receiver, so it is
//! encoded once, into the group's log, with the audience it is for. What a peer wants (RT-constrain) is not part of the
//! key: members leave out what is not for them. The Adj-RIB-Out of a group is the table's selection seen through the
//! export policy; nothing is kept per member and route.

use bytes::{Bytes, BytesMut};

use super::attribute_store::{AttributeId, AttributeStore};
use super::encode::Encoder;
use super::export::ExportPolicy;
use super::family::Family;
use super::log::{Audience, ChunkBuilder, Log, Recipients};
use super::member::Member;
use super::peer::PeerClass;
use super::route_types::RouteTypes;
use super::rt_constrain::{CachedInterest, Filter, Interest, MembershipChange};
use super::table::{Delta, DestinationId, Table};
use super::target_sets::RtSetId;
use crate::types::PeerId;
use crate::wire::EncodeContext;

/// Routes encoded at once, so that a chunk of the log stays near its size.
const ENCODE_BATCH: usize = 1024;

/// What all members of a group have in common.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GroupKey {
    /// How routes are exported to them.
    pub class: PeerClass,
    /// What their sessions negotiated.
    pub context: EncodeContext,
    /// They know what long-lived stale routes are (RFC 9494).
    pub long_lived: bool,
    /// The EVPN route types that they are sent.
    pub types: RouteTypes,
}

/// The changes of one flush, in the orders that groups need. Shared by all groups.
#[derive(Debug, Default)]
pub struct Batch {
    /// As they happened.
    pub deltas: Vec<Delta>,
    announced: Vec<Change>,
    withdrawn: Vec<Change>,
}

/// A delta with the audiences before and after, if each group exported everything.
#[derive(Clone, Copy, Debug)]
struct Change {
    id: DestinationId,
    old: Option<(Audience, AttributeId)>,
    new: Option<(Audience, AttributeId)>,
}

impl Batch {
    /// Sorts the deltas by audience, so that each group meets equal ones together.
    pub fn arrange(&mut self, store: &AttributeStore) {
        let describe = |attributes: Option<AttributeId>| {
            let set = store.get(attributes?)?;
            Some((Audience { source: set.source.peer, targets: set.targets }, attributes?))
        };
        let changes = self.deltas.iter().map(|delta| Change {
            id: delta.destination,
            old: describe(delta.old),
            new: describe(delta.new),
        });
        self.announced.clear();
        self.withdrawn.clear();
        for change in changes {
            if change.new.is_some() {
                self.announced.push(change);
            }
            if change.old.is_some() && change.old.map(|old| old.1) != change.new.map(|new| new.1) {
                self.withdrawn.push(change);
            }
        }
        self.announced.sort_by_key(|change| change.new);
        self.withdrawn.sort_by_key(|change| (change.old, change.new));
    }
}

/// Peers that share encoded messages.
#[derive(Debug)]
pub struct UpdateGroup {
    key: GroupKey,
    export: ExportPolicy,
    log: Log,
    log_limit_octets: usize,
    builder: ChunkBuilder,
    members: Vec<Option<Member>>,
    /// Routes withheld because no message of the group can hold them.
    pub unsendable: u64,
}

impl UpdateGroup {
    /// A group without members.
    pub fn new(key: GroupKey, export: ExportPolicy, log_limit_octets: usize) -> Self {
        let (log, builder) = (Log::default(), ChunkBuilder::default());
        Self { key, export, log, log_limit_octets, builder, members: Vec::new(), unsendable: 0 }
    }

    /// What its members have in common.
    pub fn key(&self) -> GroupKey {
        self.key
    }

    fn encoder<'a, F: Family>(&self, table: &'a Table<F>, store: &'a AttributeStore) -> Encoder<'a, F> {
        Encoder { table, store, export: self.export, context: self.key.context }
    }

    /// Adds a peer; everything it is to hold is pending. Returns its place.
    pub fn join<F: Family>(
        &mut self,
        peer: PeerId,
        filter: Filter,
        enhanced_refresh: bool,
        table: &Table<F>,
        store: &AttributeStore,
    ) -> usize {
        let mut member = Member::new(peer, filter, enhanced_refresh, store.epoch - 1);
        mark_all(&mut member, true, &self.encoder(table, store));
        let free = self.members.iter().position(Option::is_none);
        let place = free.unwrap_or(self.members.len());
        match self.members.get_mut(place) {
            Some(slot) => *slot = Some(member),
            None => self.members.push(Some(member)),
        }
        place
    }

    /// Removes a peer.
    pub fn leave(&mut self, place: usize, store: &AttributeStore) {
        if let Some(mut member) = self.members.get_mut(place).and_then(Option::take) {
            member.enter_replay(&mut self.log, &store.targets, store.epoch - 1);
        }
    }

    /// A member.
    pub fn member(&self, place: usize) -> Option<&Member> {
        self.members.get(place).and_then(Option::as_ref)
    }

    /// A member, to change it.
    pub fn member_mut(&mut self, place: usize) -> Option<&mut Member> {
        self.members.get_mut(place).and_then(Option::as_mut)
    }

    /// All members.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().flatten()
    }

    /// Octets that the log keeps.
    pub fn log_octets(&self) -> usize {
        self.log.octets()
    }

    /// Encodes a flush for the members in the log, makes it pending for those in replay, and appends to `ready` who has
    /// something to read that had nothing before.
    pub fn flush<F: Family>(
        &mut self,
        batch: &Batch,
        table: &Table<F>,
        store: &AttributeStore,
        ready: &mut Vec<PeerId>,
    ) {
        if self.members().any(|member| !member.is_in_log()) {
            self.note(batch, table, store);
        }
        if self.members().any(Member::is_in_log) {
            self.encode(batch, table, store);
            self.bound(store);
        }
        self.wake(store, ready);
    }

    /// Appends members to `ready` that have something to read and were not reported yet.
    pub fn wake(&mut self, store: &AttributeStore, ready: &mut Vec<PeerId>) {
        for member in self.members.iter_mut().flatten().filter(|member| !member.ready) {
            member.ready = member.seek(&mut self.log, &store.targets);
            if member.ready {
                ready.push(member.peer);
            }
        }
    }

    /// The audience after a change as this group exports it.
    fn exported(&self, state: Option<(Audience, AttributeId)>, store: &AttributeStore) -> Option<Audience> {
        let (audience, attributes) = state?;
        store.get(attributes).is_some_and(|set| self.export.allows(set)).then_some(audience)
    }

    fn note<F: Family>(&mut self, batch: &Batch, table: &Table<F>, store: &AttributeStore) {
        let states = |delta: &Delta| {
            let audience = |attributes: Option<AttributeId>| {
                let set = store.get(attributes?)?;
                let audience = Audience { source: set.source.peer, targets: set.targets };
                self.export.allows(set).then_some(audience)
            };
            (delta.destination, audience(delta.old), audience(delta.new))
        };
        let sent = batch.deltas.iter().filter(|delta| self.export.sends(delta.destination, table));
        let changes: Vec<_> = sent.map(states).collect();
        for member in self.members.iter_mut().flatten().filter(|member| !member.is_in_log()) {
            for (id, old, new) in &changes {
                member.note(*id, *old, *new, &store.targets);
            }
        }
    }

    fn encode<F: Family>(&mut self, batch: &Batch, table: &Table<F>, store: &AttributeStore) {
        let encoder = self.encoder(table, store);
        let mut ids = Vec::new();
        for run in batch.announced.chunk_by(|a, b| a.new == b.new) {
            let Some((_, attributes)) = run.first().and_then(|change| change.new) else { continue };
            let Some(audience) = run.first().and_then(|change| self.exported(change.new, store)) else { continue };
            for part in run.chunks(ENCODE_BATCH) {
                ids.clear();
                ids.extend(part.iter().map(|change| change.id).filter(|id| self.export.sends(*id, table)));
                self.unsendable += encoder.announce(attributes, &ids, &mut self.builder.octets) as u64;
                self.seal(Recipients::Announce(audience), &ids, store);
            }
        }
        self.encode_withdrawals(batch, &encoder, &mut ids);
        self.append(store);
    }

    fn encode_withdrawals<F: Family>(&mut self, batch: &Batch, encoder: &Encoder<'_, F>, ids: &mut Vec<DestinationId>) {
        let store = encoder.store;
        for run in batch.withdrawn.chunk_by(|a, b| a.old == b.old && a.new == b.new) {
            let Some(change) = run.first() else { continue };
            let Some(old) = self.exported(change.old, store) else { continue };
            let new = self.exported(change.new, store);
            if new == Some(old) {
                continue;
            }
            for part in run.chunks(ENCODE_BATCH) {
                ids.clear();
                ids.extend(part.iter().map(|change| change.id).filter(|id| self.export.sends(*id, encoder.table)));
                encoder.withdraw(ids, &mut self.builder.octets);
                self.seal(Recipients::Withdraw { old, new }, ids, store);
            }
        }
    }

    fn seal(&mut self, recipients: Recipients, ids: &[DestinationId], store: &AttributeStore) {
        if ids.is_empty() {
            return;
        }
        self.builder.seal(recipients, ids.iter().copied());
        if self.builder.is_full() {
            self.append(store);
        }
    }

    fn append(&mut self, store: &AttributeStore) {
        let readers = self.members().filter(|member| member.is_in_log()).count();
        self.log.append(&mut self.builder, store.epoch, readers);
    }

    /// Takes the members that are furthest behind out of the log until it is short enough.
    fn bound(&mut self, store: &AttributeStore) {
        while self.log.octets() > self.log_limit_octets {
            let oldest = self.log.oldest();
            let mut left = false;
            for member in self.members.iter_mut().flatten().filter(|member| member.chunk() == Some(oldest)) {
                // The flush in progress is in the log: what dies in it is not safe.
                member.enter_replay(&mut self.log, &store.targets, store.epoch - 1);
                left = true;
            }
            if !left {
                return;
            }
        }
    }

    /// Lets a member's end-of-RIB follow what is known now.
    pub fn release_end_of_rib(&mut self, place: usize, store: &AttributeStore) {
        if let Some(member) = self.members.get_mut(place).and_then(Option::as_mut) {
            member.release_end_of_rib(&self.log, store.epoch - 1);
        }
    }

    /// Applies changes of a member's memberships.
    pub fn change_interest<F: Family>(
        &mut self,
        place: usize,
        changes: &[MembershipChange],
        table: &Table<F>,
        store: &AttributeStore,
    ) {
        self.flip(place, table, store, |interest| interest.change(changes, &store.targets));
    }

    /// Takes all of a member's memberships anew.
    pub fn replace_interest<F: Family>(
        &mut self,
        place: usize,
        interest: Interest,
        table: &Table<F>,
        store: &AttributeStore,
    ) {
        self.flip(place, table, store, |cached| cached.replace(interest, &store.targets));
    }

    /// Changes what a member takes; the routes concerned become pending.
    fn flip<F: Family>(
        &mut self,
        place: usize,
        table: &Table<F>,
        store: &AttributeStore,
        change: impl FnOnce(&mut CachedInterest) -> Vec<(RtSetId, bool)>,
    ) {
        let Some(member) = self.members.get_mut(place).and_then(Option::as_mut) else { return };
        if matches!(member.filter, Filter::Everything) {
            return;
        }
        // What is in the log was encoded for audiences before the change.
        member.enter_replay(&mut self.log, &store.targets, store.epoch - 1);
        let Filter::Interest(interest) = &mut member.filter else { return };
        for (targets, wanted) in change(interest) {
            mark_targets(member, targets, wanted, table, store, &self.export);
        }
    }

    /// Hands a member about `max_octets` of messages; none when it has everything.
    pub fn read<F: Family>(
        &mut self,
        place: usize,
        max_octets: usize,
        table: &Table<F>,
        store: &AttributeStore,
        out: &mut Vec<Bytes>,
    ) -> usize {
        let encoder = self.encoder(table, store);
        let Some(member) = self.members.get_mut(place).and_then(Option::as_mut) else { return 0 };
        let mut taken = 0;
        while taken < max_octets {
            let mut markers = BytesMut::new();
            if member.can_refresh() {
                member.enter_replay(&mut self.log, &store.targets, store.epoch - 1);
                mark_all(member, false, &encoder);
                member.begin_refresh(&encoder, &self.log, store.epoch - 1, &mut markers);
                push(&mut markers, out, &mut taken);
            }
            let octets = member.read(&mut self.log, &encoder, max_octets - taken.min(max_octets), out);
            member.markers(&encoder, &mut markers);
            let marked = push(&mut markers, out, &mut taken);
            taken += octets;
            // What was pending may have come to nothing, and then a refresh that waited for it begins.
            if octets == 0 && !marked && !member.can_refresh() {
                break;
            }
        }
        // With nothing left, or nothing before the next flush, that flush reports the member again.
        member.ready = taken > 0 && member.has_pending(&self.log);
        taken
    }

    /// Whether a member has something to read.
    pub fn has_pending(&self, place: usize) -> bool {
        self.member(place).is_some_and(|member| member.has_pending(&self.log))
    }

    /// The last flush that every member has been told of; `epoch` flushes have been completed.
    pub fn safe_epoch(&self, epoch: u64) -> u64 {
        self.members().map(|member| member.safe_epoch(&self.log, epoch)).min().unwrap_or(epoch)
    }

    /// The members that have not been told of a flush after `epoch`.
    pub fn behind(&self, safe: u64, epoch: u64) -> impl Iterator<Item = PeerId> + '_ {
        let behind = move |member: &&Member| member.safe_epoch(&self.log, epoch) <= safe;
        self.members().filter(behind).map(|member| member.peer)
    }

    /// Forgets what members cached about a target set whose id will mean another one.
    pub fn forget(&mut self, targets: RtSetId) {
        self.members.iter_mut().flatten().for_each(|member| member.forget(targets));
    }

    /// How many routes a member holds, or is to hold.
    pub fn audience_size<F: Family>(&self, place: usize, table: &Table<F>, store: &AttributeStore) -> usize {
        let Some(member) = self.member(place) else { return 0 };
        let held = |attributes: AttributeId| {
            store.get(attributes).is_some_and(|set| {
                let wanted = member.filter.matches(store.targets.get(set.targets));
                set.source.peer != member.peer && wanted && self.export.allows(set)
            })
        };
        table.selected().filter(|(id, attributes)| self.export.sends(*id, table) && held(*attributes)).count()
    }
}

/// Moves encoded markers to the output; whether there were any.
fn push(markers: &mut BytesMut, out: &mut Vec<Bytes>, taken: &mut usize) -> bool {
    let any = !markers.is_empty();
    if any {
        *taken += markers.len();
        out.push(markers.split().freeze());
    }
    any
}

/// Makes everything pending that a member is to hold.
fn mark_all<F: Family>(member: &mut Member, fresh: bool, encoder: &Encoder<'_, F>) {
    let store = encoder.store;
    if matches!(member.filter, Filter::Everything) {
        for (id, attributes) in encoder.table.selected() {
            let Some(set) = store.get(attributes) else { continue };
            if set.source.peer != member.peer && encoder.export.allows(set) && encoder.export.sends(id, encoder.table) {
                member.mark(id, fresh);
            }
        }
        return;
    }
    for targets in store.targets.iter() {
        if member.filter.passes(targets, &store.targets) {
            mark_targets(member, targets, fresh, encoder.table, store, &encoder.export);
        }
    }
}

/// Makes the routes with these targets pending.
fn mark_targets<F: Family>(
    member: &mut Member,
    targets: RtSetId,
    fresh: bool,
    table: &Table<F>,
    store: &AttributeStore,
    export: &ExportPolicy,
) {
    for id in table.selected_with(targets) {
        let attributes = table.get(*id).and_then(|destination| destination.selected_attributes());
        let Some(set) = attributes.and_then(|attributes| store.get(attributes)) else { continue };
        if set.source.peer != member.peer && export.allows(set) && export.sends(*id, table) {
            member.mark(*id, fresh);
        }
    }
}
