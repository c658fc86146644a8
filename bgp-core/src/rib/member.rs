//! A member of an update group: how far one peer has been told what its group knows.
//!
//! ```text
//!               everything pending sent
//!         ┌────────────────────────────────┐
//!         ▼                                │
//!       log ──────────────────────────► replay ◄── joins
//!     (a cursor)   falls behind, flips     (a set of destinations)
//!                  interest, wants a refresh
//! ```
//!
//! In *log* mode the member shares its group's encoded messages. In *replay* mode it has a set of pending destinations and
//! is told their current state, whatever happened in between: a slow member costs two bits per destination, never a
//! queue of history.

use bytes::{Bytes, BytesMut};

use super::attribute_store::AttributeId;
use super::bits::PendingSet;
use super::encode::Encoder;
use super::family::Family;
use super::log::{Audience, Cursor, Log, Recipients};
use super::rt_constrain::Filter;
use super::table::DestinationId;
use super::target_sets::{RtSetId, TargetSets};
use crate::types::PeerId;
use crate::wire::message::RefreshKind;

/// Destinations looked at together in replay; routes with the same attributes among them share messages.
const REPLAY_BATCH: usize = 1024;

/// One peer in an update group.
#[derive(Debug)]
pub struct Member {
    /// The peer.
    pub peer: PeerId,
    /// What passes to it.
    pub filter: Filter,
    /// It has been reported as having something to read, and has not read everything since.
    pub ready: bool,
    /// Announcements handed out.
    pub announcements: u64,
    /// Withdrawals handed out.
    pub withdrawals: u64,
    mode: Mode,
    end_of_rib: EndOfRib,
    enhanced_refresh: bool,
    refresh_wanted: bool,
    /// A refresh has begun whose end must be marked.
    refreshing: bool,
    barrier: Option<Barrier>,
}

#[derive(Debug)]
enum Mode {
    Log(Cursor),
    Replay(Replay),
}

#[derive(Debug)]
struct Replay {
    pending: PendingSet,
    /// The sweep over the pending destinations has come here.
    hand: u32,
    /// Flushes completed when the sweep began: what they left pending is done when the sweep ends.
    sweep_began: u64,
    /// Nothing is pending because of this flush or an earlier one.
    safe: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum EndOfRib {
    Held,
    Due,
    Sent,
}

/// A point that must be reached before end-of-RIB, or the end of a refresh, may be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Barrier {
    /// This chunk of the log.
    Log(u64),
    /// The end of the sweep.
    Sweep,
    /// It has been reached.
    Passed,
}

impl Member {
    /// A member that has been told nothing. `epoch` flushes have been completed.
    pub fn new(peer: PeerId, filter: Filter, enhanced_refresh: bool, epoch: u64) -> Self {
        let replay = Replay { pending: PendingSet::default(), hand: 0, sweep_began: epoch, safe: epoch };
        Self {
            peer,
            filter,
            ready: false,
            announcements: 0,
            withdrawals: 0,
            mode: Mode::Replay(replay),
            end_of_rib: EndOfRib::Held,
            enhanced_refresh,
            refresh_wanted: false,
            refreshing: false,
            barrier: None,
        }
    }

    /// Whether the member reads the log.
    pub fn is_in_log(&self) -> bool {
        matches!(self.mode, Mode::Log(_))
    }

    /// The log's chunk that the member reads next.
    pub fn chunk(&self) -> Option<u64> {
        if let Mode::Log(cursor) = self.mode { Some(cursor.chunk()) } else { None }
    }

    /// Whether end-of-RIB has been handed out.
    pub fn end_of_rib_sent(&self) -> bool {
        self.end_of_rib == EndOfRib::Sent
    }

    /// The last flush of which the member has been told everything; `epoch` flushes have been completed.
    pub fn safe_epoch(&self, log: &Log, epoch: u64) -> u64 {
        match &self.mode {
            Mode::Log(cursor) => log.epoch_before(*cursor, epoch),
            Mode::Replay(replay) if replay.pending.is_empty() => epoch,
            Mode::Replay(replay) => replay.safe,
        }
    }

    /// Whether the member holds, or is to hold, routes of this audience.
    pub fn is_in(&mut self, audience: Audience, sets: &TargetSets) -> bool {
        audience.source != self.peer && self.filter.passes(audience.targets, sets)
    }

    fn accepts(&mut self, recipients: &Recipients, sets: &TargetSets) -> bool {
        match *recipients {
            Recipients::Announce(audience) => self.is_in(audience, sets),
            Recipients::Withdraw { old, new } => self.is_in(old, sets) && !new.is_some_and(|new| self.is_in(new, sets)),
        }
    }

    /// Leaves the log: what was not read becomes pending.
    pub fn enter_replay(&mut self, log: &mut Log, sets: &TargetSets, epoch: u64) {
        let Mode::Log(cursor) = self.mode else { return };
        let mut pending = PendingSet::default();
        let safe = log.epoch_before(cursor, epoch);
        log.leave(cursor, |recipients| self.accepts(recipients, sets), |id| pending.mark(id.0, false));
        self.mode = Mode::Replay(Replay { pending, hand: 0, sweep_began: epoch, safe });
        if let Some(Barrier::Log(_)) = self.barrier {
            self.barrier = Some(Barrier::Sweep);
        }
    }

    /// Makes a destination pending for a member in replay.
    pub fn mark(&mut self, id: DestinationId, fresh: bool) {
        if let Mode::Replay(replay) = &mut self.mode {
            replay.pending.mark(id.0, fresh);
        }
    }

    /// The route of a destination has changed: a member in replay that held it, or is to hold it, must be told.
    pub fn note(&mut self, id: DestinationId, old: Option<Audience>, new: Option<Audience>, sets: &TargetSets) {
        let held = old.is_some_and(|old| self.is_in(old, sets));
        if held || new.is_some_and(|new| self.is_in(new, sets)) {
            self.mark(id, !held);
        }
    }

    /// End-of-RIB may follow what is known now; whether that is news.
    pub fn release_end_of_rib(&mut self, log: &Log, epoch: u64) -> bool {
        let held = self.end_of_rib == EndOfRib::Held;
        if held {
            self.end_of_rib = EndOfRib::Due;
            self.set_barrier(log, epoch);
        }
        held
    }

    /// The peer wants everything again.
    pub fn want_refresh(&mut self) {
        self.refresh_wanted = true;
    }

    /// Whether a wanted refresh can begin: one at a time, and not before end-of-RIB (RFC 7313 section 4).
    pub fn can_refresh(&self) -> bool {
        let idle = match &self.mode {
            Mode::Log(_) => true,
            Mode::Replay(replay) => replay.pending.is_empty(),
        };
        self.refresh_wanted && idle && !self.refreshing && (self.end_of_rib_sent() || !self.enhanced_refresh)
    }

    /// Begins a refresh; everything the member holds is pending.
    pub fn begin_refresh<F: Family>(&mut self, encoder: &Encoder<'_, F>, log: &Log, epoch: u64, out: &mut BytesMut) {
        self.refresh_wanted = false;
        if self.enhanced_refresh {
            encoder.refresh_border(RefreshKind::Begin, out);
            self.refreshing = true;
            self.set_barrier(log, epoch);
        }
    }

    /// The barrier stands behind everything that is pending now.
    fn set_barrier(&mut self, log: &Log, epoch: u64) {
        self.barrier = Some(match &mut self.mode {
            Mode::Log(_) => Barrier::Log(log.end().chunk()),
            Mode::Replay(replay) => {
                (replay.hand, replay.sweep_began) = (0, epoch);
                Barrier::Sweep
            }
        });
    }

    /// Whether there is something to hand out.
    pub fn has_pending(&self, log: &Log) -> bool {
        let routes = match &self.mode {
            Mode::Log(cursor) => *cursor != log.end(),
            Mode::Replay(replay) => !replay.pending.is_empty(),
        };
        routes || self.barrier.is_some() || self.can_refresh()
    }

    /// As [`Self::has_pending`], after moving the cursor past what is not for the member.
    pub fn seek(&mut self, log: &mut Log, sets: &TargetSets) -> bool {
        self.rejoin(log);
        if let Mode::Log(mut cursor) = self.mode {
            log.seek(&mut cursor, |recipients| self.accepts(recipients, sets));
            self.mode = Mode::Log(cursor);
        }
        self.has_pending(log)
    }

    /// Hands out about `max_octets`; returns how many.
    pub fn read<F: Family>(
        &mut self,
        log: &mut Log,
        encoder: &Encoder<'_, F>,
        max_octets: usize,
        out: &mut Vec<Bytes>,
    ) -> usize {
        let mut taken = 0;
        if let Mode::Replay(replay) = &mut self.mode {
            let mut buffer = BytesMut::new();
            let mut replay = core::mem::replace(replay, Replay::empty());
            self.replay(&mut replay, encoder, max_octets, &mut buffer);
            taken = buffer.len();
            if taken > 0 {
                out.push(buffer.freeze());
            }
            self.mode = Mode::Replay(replay);
            self.rejoin(log);
        }
        if taken < max_octets
            && let Mode::Log(mut cursor) = self.mode
        {
            let sets = &encoder.store.targets;
            taken += log.read(&mut cursor, max_octets - taken, out, |recipients, routes| {
                let accepted = self.accepts(recipients, sets);
                if accepted {
                    self.count(recipients, routes);
                }
                accepted
            });
            self.mode = Mode::Log(cursor);
        }
        self.pass_barrier();
        taken
    }

    /// A member in replay to whom nothing is pending reads the log from its end.
    fn rejoin(&mut self, log: &Log) {
        if let Mode::Replay(replay) = &self.mode
            && replay.pending.is_empty()
        {
            self.mode = Mode::Log(log.end());
        }
    }

    fn count(&mut self, recipients: &Recipients, routes: usize) {
        match recipients {
            Recipients::Announce(_) => self.announcements += routes as u64,
            Recipients::Withdraw { .. } => self.withdrawals += routes as u64,
        }
    }

    fn pass_barrier(&mut self) {
        let passed = match (self.barrier, &self.mode) {
            (Some(Barrier::Log(chunk)), Mode::Log(cursor)) => cursor.chunk() >= chunk,
            (Some(Barrier::Sweep), Mode::Log(_)) => true,
            _ => false,
        };
        if passed {
            self.barrier = Some(Barrier::Passed);
        }
    }

    /// The markers that have become due.
    pub fn markers<F: Family>(&mut self, encoder: &Encoder<'_, F>, out: &mut BytesMut) {
        if self.barrier != Some(Barrier::Passed) {
            return;
        }
        self.barrier = None;
        if self.end_of_rib == EndOfRib::Due {
            self.end_of_rib = EndOfRib::Sent;
            encoder.end_of_rib(out);
        }
        if core::mem::take(&mut self.refreshing) {
            encoder.refresh_border(RefreshKind::End, out);
        }
    }

    /// Tells the current state of pending destinations.
    fn replay<F: Family>(
        &mut self,
        replay: &mut Replay,
        encoder: &Encoder<'_, F>,
        max_octets: usize,
        out: &mut BytesMut,
    ) {
        let epoch = encoder.store.epoch - 1;
        while out.len() < max_octets && !replay.pending.is_empty() {
            let batch: Vec<u32> = replay.pending.iter_from(replay.hand).take(REPLAY_BATCH).collect();
            let Some(last) = batch.last().copied() else {
                replay.wrap(epoch);
                if self.barrier == Some(Barrier::Sweep) {
                    self.barrier = Some(Barrier::Passed);
                    return;
                }
                continue;
            };
            let before = replay.pending.len();
            self.replay_batch(replay, &batch, encoder, max_octets, out);
            let left = batch.iter().copied().find(|id| replay.pending.contains(*id));
            replay.hand = left.unwrap_or(last + 1);
            if replay.pending.len() == before {
                // The rest waits for a flush.
                return;
            }
        }
    }

    fn replay_batch<F: Family>(
        &mut self,
        replay: &mut Replay,
        batch: &[u32],
        encoder: &Encoder<'_, F>,
        max_octets: usize,
        out: &mut BytesMut,
    ) {
        let mut announced: Vec<(AttributeId, DestinationId)> = Vec::with_capacity(batch.len());
        let mut withdrawn = Vec::new();
        for id in batch {
            match self.current(DestinationId(*id), encoder) {
                Current::Held(attributes) => announced.push((attributes, DestinationId(*id))),
                Current::NotHeld if replay.pending.is_fresh(*id) => replay.pending.clear(*id),
                Current::NotHeld => withdrawn.push(DestinationId(*id)),
                Current::Unsettled => {}
            }
        }
        announced.sort_by_key(|(attributes, _)| *attributes);
        for run in announced.chunk_by(|a, b| a.0 == b.0) {
            if out.len() >= max_octets {
                return;
            }
            let ids: Vec<DestinationId> = run.iter().map(|(_, id)| *id).collect();
            if let Some((attributes, _)) = run.first() {
                encoder.announce(*attributes, &ids, out);
            }
            self.announcements += ids.len() as u64;
            ids.iter().for_each(|id| replay.pending.clear(id.0));
        }
        encoder.withdraw(&withdrawn, out);
        self.withdrawals += withdrawn.len() as u64;
        withdrawn.iter().for_each(|id| replay.pending.clear(id.0));
    }

    /// What the member is to hold for a destination.
    fn current<F: Family>(&mut self, id: DestinationId, encoder: &Encoder<'_, F>) -> Current {
        let Some(destination) = encoder.table.get(id) else { return Current::NotHeld };
        let Some(attributes) = destination.selected_attributes() else { return Current::NotHeld };
        let Some(set) = encoder.store.get(attributes) else { return Current::NotHeld };
        let audience = Audience { source: set.source.peer, targets: set.targets };
        if !encoder.export.allows(set) || !self.is_in(audience, &encoder.store.targets) {
            return Current::NotHeld;
        }
        if destination.best().is_some() { Current::Held(attributes) } else { Current::Unsettled }
    }

    /// Forgets what is cached about a target set whose id will mean another one.
    pub fn forget(&mut self, id: RtSetId) {
        self.filter.forget(id);
    }
}

impl Replay {
    fn empty() -> Self {
        Self { pending: PendingSet::default(), hand: 0, sweep_began: 0, safe: 0 }
    }

    /// The sweep has come round: what was pending when it began is done.
    fn wrap(&mut self, epoch: u64) {
        self.hand = 0;
        self.safe = self.sweep_began;
        self.sweep_began = epoch;
    }
}

/// State of a destination towards a member.
enum Current {
    /// The member is to hold the selected route.
    Held(AttributeId),
    /// It is to hold none.
    NotHeld,
    /// The selected route has been replaced and the next flush will tell by what.
    Unsettled,
}
