//! End-of-RIB in both directions, stale routes, and all timers of the RIB (RFC 4724, RFC 4684 section 6).
//!
//! Ours to a peer:
//!
//! * a worker's wait for its owner ([`Rib::local_ready`]): what it announced before its restart must be announced again
//!   first;
//! * a reflector's for EVPN wait, after its start, for those of the peers it expects: a fresh reflector that says "that is
//!   all" at once would empty every FDB;
//! * those for EVPN wait for the peer's end of memberships, since these tell what it is to be sent;
//! * nothing waits longer than [`RibConfig::end_of_rib_hold`] for others.
//!
//! A peer's: stale routes go with its end-of-RIB, when they have been kept as long as [`retention`](super::retention)
//! says, or, once it is back, with [`RibConfig::end_of_rib_wait`], whichever comes first.

use std::collections::BTreeSet;

use super::config::{RibConfig, Role};
use super::inputs::FAMILIES;
use super::retention::Due;
use super::{PeerId, Rib};
use crate::time::Instant;
use crate::types::AddressFamily;

/// What holds our end-of-RIBs back.
#[derive(Debug)]
pub struct Gates {
    /// The owner has originated everything.
    local_ready: bool,
    /// The speakers a reflector waits for, each by the peers that it may be; none as long as they are not known.
    expected: Option<Vec<BTreeSet<PeerId>>>,
    /// When a reflector stops waiting for them.
    start_over: Instant,
    /// They have spoken, or it has.
    synchronised: bool,
    /// Something has changed that a gate depends on.
    touched: bool,
    /// No timer is due before.
    next: Option<Instant>,
}

impl Gates {
    /// The gates of a RIB whose life begins at `now`.
    pub fn new(config: &RibConfig, now: Instant) -> Self {
        let reflector = config.role != Role::Worker;
        let start_over = now + config.end_of_rib_hold;
        Self {
            local_ready: reflector,
            expected: None,
            start_over,
            synchronised: !reflector,
            touched: true,
            next: reflector.then_some(start_over),
        }
    }

    /// Something has changed that a gate depends on.
    pub fn touch(&mut self) {
        self.touched = true;
    }

    /// Something is due at `deadline`.
    pub fn at(&mut self, deadline: Option<Instant>) {
        self.next = [self.next, deadline].into_iter().flatten().min();
    }

    /// Nobody waits for a peer any more.
    pub fn forget(&mut self, peer: PeerId) {
        if let Some(expected) = &mut self.expected {
            expected.iter_mut().for_each(|speaker| _ = speaker.remove(&peer));
            expected.retain(|speaker| !speaker.is_empty());
        }
        self.touched = true;
    }
}

impl Rib {
    /// Names the peers whose EVPN end-of-RIB a reflector waits for before it sends its own (within
    /// [`RibConfig::end_of_rib_hold`] of its start). May be called again as the set becomes known; until it is called,
    /// the whole hold passes.
    pub fn set_expected_peers(&mut self, peers: impl IntoIterator<Item = PeerId>) {
        self.set_expected_speakers(peers.into_iter().map(|peer| [peer]));
    }

    /// As [`Rib::set_expected_peers`], for speakers that may come as any of several peers: by one of a Node's addresses. It is
    /// enough that one of them has spoken.
    pub fn set_expected_speakers<S: IntoIterator<Item = PeerId>>(&mut self, speakers: impl IntoIterator<Item = S>) {
        self.gates.expected = Some(speakers.into_iter().map(|peers| peers.into_iter().collect()).collect());
        self.gates.touch();
    }

    /// Whether an EVPN end-of-RIB of ours to the peer has still to be handed to its writer.
    pub fn owes_end_of_rib(&self, peer: PeerId) -> bool {
        self.evpn.member(peer).is_some_and(|member| !member.end_of_rib_sent())
    }

    /// Begins a reflector's hold anew: for an owner that does not know yet whom to let in, so that nobody can have told it
    /// anything. Without this, the first peer to come would hear at once that there is nothing.
    pub fn begin_hold(&mut self, now: Instant) {
        self.gates.synchronised = false;
        self.gates.start_over = now + self.config.end_of_rib_hold;
        self.gates.at(Some(self.gates.start_over));
        self.gates.touch();
    }

    /// A worker's owner has originated everything that it had before its restart: end-of-RIB may be sent.
    pub fn local_ready(&mut self) {
        self.gates.local_ready = true;
        self.gates.touch();
    }

    /// Whether a worker may sweep forwarding state that no route explains: at least one peer is established, and each
    /// has sent its EVPN end-of-RIB.
    pub fn remote_sweep_allowed(&self) -> bool {
        let mut up = self.peers.values().filter(|peer| peer.up && peer.info.family(AddressFamily::EVPN).is_some());
        let spoken =
            |peer: &super::inputs::Peer| peer.family(AddressFamily::EVPN).is_some_and(|state| state.end_of_rib);
        up.next().is_some_and(spoken) && up.all(spoken)
    }

    /// Whether this peer is established and has said all it knows: its EVPN end-of-RIB has come.
    pub fn has_said_all(&self, peer: PeerId) -> bool {
        let peer = self.peers.get(&peer).filter(|peer| peer.up);
        peer.and_then(|peer| peer.family(AddressFamily::EVPN)).is_some_and(|state| state.end_of_rib)
    }

    /// Whether some peer that is established has said all it knows: its EVPN end-of-RIB has come.
    pub fn is_informed(&self) -> bool {
        self.peers.values().any(|peer| {
            peer.up && peer.family(AddressFamily::EVPN).is_some_and(|state| state.active && state.end_of_rib)
        })
    }

    /// Whether this speaker has all it waited for after its start, so that its EVPN end-of-RIB is free to go: what
    /// readiness means for a reflector.
    pub fn is_synchronised(&self) -> bool {
        self.gates.synchronised && self.gates.local_ready
    }

    /// When [`Rib::handle_timeout`] must be called next. It may turn out that nothing is due then.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.gates.next
    }

    /// Applies what has become due. Call [`Rib::flush`] afterwards.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.gates.next.is_none_or(|next| next > now) {
            return;
        }
        self.gates.next = None;
        if self.gates.synchronised || self.gates.start_over <= now {
            self.gates.synchronised = true;
        } else {
            self.gates.at(Some(self.gates.start_over));
        }
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for peer in ids {
            self.peer_timeout(peer, now);
        }
        self.gates.touch();
    }

    pub(super) fn peer_timeout(&mut self, peer: PeerId, now: Instant) {
        for family in FAMILIES {
            let Some(state) = self.peers.get_mut(&peer).and_then(|state| state.family_mut(family)) else { continue };
            let due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
            match state.deadline {
                _ if due(state.deadline) && !state.active => match state.retained.due(now) {
                    Due::LongLived(until) => {
                        state.deadline = Some(until);
                        self.begin_long_lived(peer, family);
                    }
                    Due::Purge => self.end_of_rib_received(peer, family),
                },
                _ if due(state.deadline) => self.end_of_rib_received(peer, family),
                _ if due(state.retained.expires()) && state.active => {
                    state.retained.expire();
                    self.sweep(peer, family);
                }
                _ => {}
            }
            let Some(state) = self.peers.get_mut(&peer).and_then(|state| state.family_mut(family)) else { continue };
            if state.refresh_deadline.is_some_and(|deadline| deadline <= now) {
                self.end_refresh(peer, family);
            }
            let Some(state) = self.peers.get(&peer).and_then(|state| state.family(family)) else { continue };
            self.gates.at(state.deadline);
            self.gates.at(state.refresh_deadline);
            self.gates.at(state.retained.expires().filter(|_| state.active));
        }
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.hold_over |= state.hold_until <= now;
        if !state.hold_over && state.up {
            self.gates.at(Some(state.hold_until));
        }
    }

    /// The peer has announced all it has, or its time for that has run out.
    pub(super) fn end_of_rib_received(&mut self, peer: PeerId, family: AddressFamily) {
        let Some(state) = self.peers.get_mut(&peer).and_then(|state| state.family_mut(family)) else { return };
        state.end_of_rib |= state.active;
        state.deadline = None;
        state.retained.clear();
        self.sweep(peer, family);
        self.gates.touch();
    }

    /// Lets end-of-RIBs go whose gates have opened. What was flushed goes before them.
    pub(super) fn release_end_of_ribs(&mut self) {
        if !core::mem::take(&mut self.gates.touched) || !self.gates.local_ready {
            return;
        }
        self.gates.synchronised |= self.expected_have_spoken();
        for (id, peer) in self.peers.iter().filter(|(_, peer)| peer.up) {
            self.memberships.release_end_of_rib(*id);
            let constrained = peer.info.family(AddressFamily::RT_CONSTRAIN).is_some();
            let asked = peer.family(AddressFamily::RT_CONSTRAIN).is_some_and(|state| state.end_of_rib);
            if self.gates.synchronised && (!constrained || asked || peer.hold_over) {
                self.evpn.release_end_of_rib(*id);
            }
        }
        self.memberships.wake();
        self.evpn.wake();
    }

    fn expected_have_spoken(&self) -> bool {
        let spoken = |peer: &PeerId| {
            let state = self.peers.get(peer).and_then(|peer| peer.family(AddressFamily::EVPN));
            state.is_some_and(|state| state.end_of_rib)
        };
        let has_spoken = |speaker: &BTreeSet<PeerId>| speaker.iter().any(spoken);
        self.gates.expected.as_ref().is_some_and(|expected| expected.iter().all(has_spoken))
    }
}
