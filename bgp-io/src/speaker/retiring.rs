//! Peers that came by themselves: forgotten once nothing is left of them, sooner where others need their place.

use bgp_core::session::State;
use bgp_core::time::Instant;
use bgp_core::types::PeerId;

use super::{Peer, Speaker};

impl Speaker {
    /// A dynamic peer has no session: unless it comes back it is forgotten, but not before its longest pause after failures
    /// is over, or it would have none.
    pub(super) fn begin_to_retire(&mut self, id: PeerId) {
        let now = self.now();
        let Some(peer) = self.slot(id) else { return };
        if !peer.neighbor.dynamic || peer.session.is_some() {
            return;
        }
        let at = now + peer.neighbor.spec.session.idle_hold_max;
        let before = peer.retires.replace(at);
        self.retiring.extend([(at, id)]);
        if let Some(before) = before.filter(|before| *before != at) {
            self.retiring.remove(&(before, id));
        }
    }

    /// Forgets dynamic peers that had time to come back, and of which no routes are kept.
    pub(super) fn retire(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.retiring.first()
            && at <= now
        {
            self.retiring.pop_first();
            if let Some(peer) = self.slot(id) {
                peer.retires = None;
            }
            if self.is_left(id) {
                self.remove_peer(id);
            } else {
                self.begin_to_retire(id);
            }
        }
    }

    /// Whether a peer has neither a connection nor routes.
    pub(super) fn is_left(&self, id: PeerId) -> bool {
        let is_idle = |peer: &Peer| peer.session.is_none() && matches!(peer.state, State::Idle | State::Active);
        let holds_routes = || {
            let mut views = self.rib.peers();
            let view = views.find(|view| view.peer == id);
            view.is_some_and(|view| view.families.iter().any(|family| family.accepted > 0))
        };
        self.peers.get(id.0 as usize).and_then(Option::as_ref).is_some_and(is_idle) && !holds_routes()
    }

    /// Forgets the dynamic peer that has been without connection and routes for longest, so that another one finds room. One
    /// that has come no longer ago than an OPEN may take is left its time. False if there is none.
    pub fn make_room(&mut self) -> bool {
        let now = self.now();
        let had_time = |(at, id): &(Instant, PeerId)| {
            let peer = self.peers.get(id.0 as usize)?.as_ref()?;
            let session = &peer.neighbor.spec.session;
            (*at + session.open_timeout <= now + session.idle_hold_max).then_some(*id)
        };
        let idle = self.retiring.iter().filter_map(had_time).find(|id| self.is_left(*id));
        if let Some(id) = idle {
            self.remove_peer(id);
        }
        idle.is_some()
    }

    /// Peers that came by themselves.
    pub fn dynamic_peers(&self) -> usize {
        self.peers.iter().flatten().filter(|peer| peer.neighbor.dynamic).count()
    }
}
