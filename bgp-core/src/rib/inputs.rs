//! What peers do to the RIB: sessions up and down, UPDATEs, refreshes.

use std::sync::Arc;

use super::attribute_store::Source;
use super::export::admit;
use super::family::Family;
use super::peer::PeerInfo;
use super::plane::{Input, Plane};
use super::retention::{Loss, Retained};
use super::rt_constrain::{Filter, Interest, MembershipChange};
use super::update_group::GroupKey;
use super::view::UpdateOutcome;
use super::{PeerLimits, Rib};
use crate::rule::Rule;
use crate::session::Retention;
use crate::time::Instant;
use crate::types::{AddressFamily, PeerId};
use crate::wire::message::{Reach, RefreshKind, Routes, Unreach};
use crate::wire::{EncodeContext, Evpn, MaxMessage, RouteRefresh, RtConstrain, RtMembership, Update};

/// The families of a RIB, in the order of [`Peer::families`].
pub const FAMILIES: [AddressFamily; 2] = [AddressFamily::EVPN, AddressFamily::RT_CONSTRAIN];

/// What the RIB knows about a peer beside its routes.
#[derive(Debug)]
pub struct Peer {
    /// Facts of its session, the last one if it is down.
    pub info: PeerInfo,
    /// The session is established.
    pub up: bool,
    /// Routes refused by its permission in this session, or since the permission changed.
    pub forbidden: u64,
    /// The hold on our end-of-RIB to it is over.
    pub hold_over: bool,
    /// When that is.
    pub hold_until: Instant,
    /// By family.
    pub families: [PeerFamilyState; 2],
}

/// One family of a peer.
#[derive(Debug, Default)]
pub struct PeerFamilyState {
    /// Negotiated in this session, and not disabled since.
    pub active: bool,
    /// Routes announced so far.
    pub received: u64,
    /// Routes withdrawn so far.
    pub withdrawn: u64,
    /// End-of-RIB has come, or its time has run out.
    pub end_of_rib: bool,
    /// When stale routes go or become long-lived stale, and end-of-RIB is taken as received if the peer is up.
    pub deadline: Option<Instant>,
    /// How long its routes outlive its sessions.
    pub retained: Retained,
    /// When the refresh that the peer has begun is taken as ended.
    pub refresh_deadline: Option<Instant>,
}

impl Peer {
    /// The state of a family, if it is one of the RIB's.
    pub fn family_mut(&mut self, family: AddressFamily) -> Option<&mut PeerFamilyState> {
        FAMILIES.iter().zip(&mut self.families).find(|(other, _)| **other == family).map(|(_, state)| state)
    }

    /// The state of a family, if it is one of the RIB's.
    pub fn family(&self, family: AddressFamily) -> Option<&PeerFamilyState> {
        FAMILIES.iter().zip(&self.families).find(|(other, _)| **other == family).map(|(_, state)| state)
    }

    /// Whether routes of a family are accepted now.
    pub fn accepts(&self, family: AddressFamily) -> bool {
        self.up && self.family(family).is_some_and(|state| state.active)
    }
}

impl Rib {
    /// A session is established. Stale routes of families whose forwarding state was not preserved (F
    /// bit) go at once.
    pub fn peer_up(&mut self, peer: PeerId, info: PeerInfo, now: Instant) {
        if self.peers.get(&peer).is_some_and(|known| known.up) {
            self.peer_down(peer, &[], now);
        }
        for family in FAMILIES {
            let known = self.peers.get_mut(&peer).and_then(|known| known.family_mut(family));
            if !known.is_some_and(|known| known.retained.returned(info.family(family))) {
                self.purge(peer, family);
            }
        }
        // What is kept from its last session must be allowed in this one.
        self.set_permission(peer, Arc::clone(&info.permission));
        self.enter(peer, &info, now);
        let max_message = if info.extended_message { MaxMessage::Extended } else { MaxMessage::Standard };
        let context = EncodeContext { four_octet_as: info.four_octet_as, max_message };
        let key = GroupKey { class: info.class, context, long_lived: info.long_lived_known, types: info.sent_types };
        let (config, enhanced) = (&self.config, info.enhanced_refresh);
        let constrained = info.family(AddressFamily::RT_CONSTRAIN).is_some();
        if constrained {
            self.memberships.join(peer, key, Filter::Everything, enhanced, config);
        }
        if info.family(AddressFamily::EVPN).is_some() {
            let filter =
                if constrained { Filter::interest(self.memberships.interest(peer)) } else { Filter::Everything };
            self.evpn.join(peer, key, filter, enhanced, config);
        }
        self.gates.touch();
    }

    /// Notes the session's facts and starts its timers.
    fn enter(&mut self, peer: PeerId, info: &PeerInfo, now: Instant) {
        let hold_until = now + self.config.end_of_rib_hold;
        let mut families: [PeerFamilyState; 2] = match self.peers.remove(&peer) {
            Some(known) => known.families,
            None => Default::default(),
        };
        for (family, state) in FAMILIES.into_iter().zip(&mut families) {
            let negotiated = info.family(family);
            let wait = match negotiated {
                Some(negotiated) if negotiated.graceful_restart => self.config.end_of_rib_wait,
                _ => self.config.end_of_rib_hold,
            };
            (state.active, state.end_of_rib) = (negotiated.is_some(), false);
            state.deadline = negotiated.map(|_| now + wait);
            state.refresh_deadline = None;
            self.gates.at(state.deadline);
            self.gates.at(state.retained.expires());
        }
        self.gates.at(Some(hold_until));
        let state = Peer { info: info.clone(), up: true, forbidden: 0, hold_over: false, hold_until, families };
        self.peers.insert(peer, state);
    }

    /// A session is gone. Routes of the families in `keep` become stale until the peer is back and has sent its
    /// end-of-RIB, for their restart time at most (RFC 4724 section 4.2), and after that long-lived stale for their
    /// long-lived time (RFC 9494 section 4.2); all others go.
    pub fn peer_down(&mut self, peer: PeerId, keep: &[Retention], now: Instant) {
        let Some(state) = self.peers.get_mut(&peer).filter(|state| state.up) else { return };
        state.up = false;
        let mut losses = [Loss::Purge; FAMILIES.len()];
        for ((family, state), loss) in FAMILIES.into_iter().zip(&mut state.families).zip(&mut losses) {
            let kept = keep.iter().find(|kept| state.active && kept.family == family);
            *loss = state.retained.lost(kept, now);
            state.active = false;
            state.refresh_deadline = None;
            state.deadline = match *loss {
                Loss::Purge => None,
                Loss::Keep { deadline, .. } => Some(deadline),
            };
            self.gates.at(state.deadline);
        }
        self.evpn.leave(peer);
        self.memberships.leave(peer);
        for (family, loss) in FAMILIES.into_iter().zip(losses) {
            match (family, loss) {
                (_, Loss::Purge) => self.purge(peer, family),
                (AddressFamily::EVPN, Loss::Keep { stale_too, .. }) => self.evpn.keep_stale(peer, stale_too),
                (_, Loss::Keep { stale_too, .. }) => self.memberships.keep_stale(peer, stale_too),
            }
        }
        // There may be no restart time at all.
        self.peer_timeout(peer, now);
        self.gates.touch();
    }

    /// A peer is no longer configured: its routes go at once, and nobody waits for it.
    pub fn peer_removed(&mut self, peer: PeerId) {
        self.evpn.leave(peer);
        self.memberships.leave(peer);
        FAMILIES.into_iter().for_each(|family| self.purge(peer, family));
        self.peers.remove(&peer);
        self.gates.forget(peer);
    }

    /// Removes all routes of a peer in a family.
    fn purge(&mut self, peer: PeerId, family: AddressFamily) {
        if family == AddressFamily::EVPN {
            self.evpn.table.withdraw_all(peer, &mut self.evpn.store);
        } else {
            self.memberships.table.withdraw_all(peer, &mut self.memberships.store);
            self.evpn.replace_interest(peer, Interest::default());
        }
    }

    /// Why the routes that an UPDATE announces will be refused for what their attributes say, if they will.
    pub fn objection(&self, peer: PeerId, update: &Update) -> Option<Rule> {
        let info = &self.peers.get(&peer)?.info;
        let Reach { attributes, routes } = update.reach.as_ref()?;
        let usable = match routes {
            Routes::Evpn(_) => Evpn::accepts_next_hop,
            Routes::RtConstrain(_) => RtConstrain::accepts_next_hop,
        };
        admit(&self.config, &info.limits, attributes, usable).err()
    }

    /// Whether an UPDATE may bring a peer beyond one of its limits: for who wants to keep it as evidence.
    pub fn may_exceed(&self, peer: PeerId, update: &Update) -> bool {
        let Some((info, reach)) = self.peers.get(&peer).map(|state| &state.info).zip(update.reach.as_ref()) else {
            return false;
        };
        let family = reach.routes.family();
        let (held, store) = match family {
            AddressFamily::EVPN => (self.evpn.table.count(peer), &self.evpn.store),
            _ => (self.memberships.table.count(peer), &self.memberships.store),
        };
        held.saturating_add(reach.routes.len()) > info.limits.max_routes(family)
            || store.may_exceed(peer, &info.limits, &reach.attributes)
    }

    /// Applies an UPDATE of an established peer, end-of-RIB markers included. Every input carries the time; nothing in this
    /// one depends on it.
    pub fn update(&mut self, peer: PeerId, update: Update, _now: Instant) -> UpdateOutcome {
        let mut outcome = UpdateOutcome::default();
        let mut interest = Vec::new();
        for unreach in update.unreach {
            let before = outcome.unknown_withdrawals;
            self.apply_unreach(peer, &unreach, &mut outcome, &mut interest);
            if outcome.unknown_withdrawals > before {
                outcome.in_vain.push(unreach);
            }
        }
        if let Some(reach) = update.reach {
            self.apply_reach(peer, reach, &mut outcome, &mut interest);
        }
        self.evpn.change_interest(peer, &interest);
        if let Some(family) = update.disable {
            self.disable(peer, family);
        }
        if let Some(family) = update.end_of_rib.filter(|family| self.accepts(peer, *family)) {
            self.end_of_rib_received(peer, family);
        }
        outcome
    }

    fn accepts(&self, peer: PeerId, family: AddressFamily) -> bool {
        self.peers.get(&peer).is_some_and(|state| state.accepts(family))
    }

    fn apply_unreach(
        &mut self,
        peer: PeerId,
        unreach: &Unreach,
        outcome: &mut UpdateOutcome,
        interest: &mut Vec<MembershipChange>,
    ) {
        let (family, routes) = (unreach.family(), unreach.len());
        let Some(state) = self.peers.get_mut(&peer).filter(|state| state.accepts(family)) else {
            outcome.ignored += routes;
            return;
        };
        if let Some(state) = state.family_mut(family) {
            state.withdrawn += routes as u64;
        }
        match unreach {
            Unreach::Evpn(keys) => self.evpn.withdraw(peer, keys, outcome, |_, _| {}),
            Unreach::RtConstrain(keys) => {
                self.memberships.withdraw(peer, keys, outcome, |key, held| interest.push(change(key, held)));
            }
        }
    }

    fn apply_reach(
        &mut self,
        peer: PeerId,
        reach: Reach,
        outcome: &mut UpdateOutcome,
        interest: &mut Vec<MembershipChange>,
    ) {
        let Reach { attributes, routes } = reach;
        let family = routes.family();
        let Some(state) = self.peers.get_mut(&peer).filter(|state| state.accepts(family)) else {
            outcome.ignored += routes.len();
            return;
        };
        if let Some(state) = state.family_mut(family) {
            state.received += routes.len() as u64;
        }
        let info = &state.info;
        let source = Source { peer, class: info.class, router_id: info.router_id, address: info.address };
        let (limits, permission): (PeerLimits, _) = (info.limits, Arc::clone(&info.permission));
        let input = Input { source: &source, limits: &limits, permission: &permission, config: &self.config };
        match routes {
            Routes::Evpn(routes) => self.evpn.announce(&input, attributes, routes, outcome, |_, _| {}),
            Routes::RtConstrain(routes) => {
                let note = |key: &RtMembership, held: bool| interest.push(change(key, held));
                self.memberships.announce(&input, attributes, routes, outcome, note);
            }
        }
        if let Some(state) = self.peers.get_mut(&peer) {
            state.forbidden += outcome.forbidden as u64;
        }
    }

    /// Ignores a family for the rest of the session (RFC 7606 section 2).
    fn disable(&mut self, peer: PeerId, family: AddressFamily) {
        let Some(state) = self.peers.get_mut(&peer).and_then(|state| state.family_mut(family)) else { return };
        state.active = false;
        // Nobody waits for what will not be read.
        (state.end_of_rib, state.deadline, state.refresh_deadline) = (true, None, None);
        state.retained.clear();
        self.purge(peer, family);
        self.gates.touch();
    }

    /// Applies a ROUTE-REFRESH: sends everything again on request, and drops what was not repeated at the end of a
    /// refresh that the peer demarcates (RFC 7313).
    pub fn route_refresh(&mut self, peer: PeerId, refresh: RouteRefresh, now: Instant) {
        let deadline = now + self.config.end_of_rib_wait;
        let Some(state) = self.peers.get_mut(&peer).filter(|state| state.accepts(refresh.family)) else { return };
        let Some(state) = state.family_mut(refresh.family) else { return };
        let evpn = refresh.family == AddressFamily::EVPN;
        match refresh.kind {
            RefreshKind::Request if evpn => self.evpn.want_refresh(peer),
            RefreshKind::Request => self.memberships.want_refresh(peer),
            RefreshKind::Begin => {
                state.refresh_deadline = Some(deadline);
                self.gates.at(Some(deadline));
                if evpn {
                    self.evpn.table.begin_refresh(peer);
                } else {
                    self.memberships.table.begin_refresh(peer);
                }
            }
            RefreshKind::End => self.end_refresh(peer, refresh.family),
            RefreshKind::Unknown(_) => {}
        }
    }

    /// Drops what the peer has not repeated in its refresh.
    pub(super) fn end_refresh(&mut self, peer: PeerId, family: AddressFamily) {
        let state = self.peers.get_mut(&peer).and_then(|state| state.family_mut(family));
        if state.and_then(|state| state.refresh_deadline.take()).is_none() {
            return;
        }
        if family == AddressFamily::EVPN {
            self.evpn.table.end_refresh(peer, &mut self.evpn.store);
        } else if self.memberships.table.end_refresh(peer, &mut self.memberships.store) > 0 {
            self.evpn.replace_interest(peer, self.memberships.interest(peer));
        }
    }

    /// What is stale of a peer becomes long-lived stale.
    pub(super) fn begin_long_lived(&mut self, peer: PeerId, family: AddressFamily) {
        if family == AddressFamily::EVPN {
            self.evpn.table.mark_long_lived(peer, &mut self.evpn.store);
        } else if self.memberships.table.mark_long_lived(peer, &mut self.memberships.store) > 0 {
            self.evpn.replace_interest(peer, self.memberships.interest(peer));
        }
    }

    /// Drops what is still stale of a peer.
    pub(super) fn sweep(&mut self, peer: PeerId, family: AddressFamily) {
        if family == AddressFamily::EVPN {
            self.evpn.table.withdraw_stale(peer, &mut self.evpn.store);
        } else if self.memberships.table.withdraw_stale(peer, &mut self.memberships.store) > 0 {
            self.evpn.replace_interest(peer, self.memberships.interest(peer));
        }
    }
}

fn change(key: &RtMembership, held: bool) -> MembershipChange {
    if held { MembershipChange::Added(*key) } else { MembershipChange::Removed(*key) }
}

impl<F: Family> Plane<F> {
    /// Keeps a peer's routes as stale; those that were stale before only if `stale_too`.
    fn keep_stale(&mut self, peer: PeerId, stale_too: bool) {
        if !stale_too {
            self.table.withdraw_stale(peer, &mut self.store);
        }
        self.table.mark_stale(peer);
    }
}

impl Plane<RtConstrain> {
    /// What the memberships of a peer add up to.
    fn interest(&self, peer: PeerId) -> Interest {
        let mut interest = Interest::default();
        for destination in self.table.routes_of(peer).iter().filter_map(|id| self.table.get(*id)) {
            interest.add(&destination.key);
        }
        interest
    }
}
