//! Who the peers are: added, changed, moved, removed, expected; what their permissions do to what they have announced.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use bgp_core::rib::{Forbidden, Permission, Rejudged};
use bgp_core::rule::Action;
use bgp_core::session::{State, StopReason};
use bgp_core::types::{AddressFamily, PeerId};

use super::{Neighbor, Peer, Speaker};
use crate::api::IoError;
use crate::ledger::{Evidence, Who, list_keys};

impl Speaker {
    /// Adds the peer with the neighbour's address, or changes it; unchanged peers are not touched.
    ///
    /// # Errors
    ///
    /// If the kernel refuses its TCP-MD5 key.
    pub fn set_peer(&mut self, neighbor: Neighbor) -> Result<PeerId, IoError> {
        let address = neighbor.spec.address.ip();
        let id = self.peer_at(address).unwrap_or_else(|| self.free_id());
        self.io.set_peer(id, neighbor.spec.clone())?;
        self.by_address.insert(address, id);
        let permission = Arc::clone(&neighbor.permission);
        match self.slot(id) {
            Some(peer) => peer.neighbor = neighbor,
            None => self.insert(id, neighbor),
        }
        self.permit(id, permission);
        Ok(id)
    }

    /// Judges by a permission what the peer has announced, and asks for what it may have refused before.
    fn permit(&mut self, id: PeerId, permission: Arc<Permission>) {
        let rejudged = self.rib.set_permission(id, permission);
        if rejudged != Rejudged::default()
            && let Some(peer) = self.slot(id)
        {
            peer.last_refusal = None;
        }
        for forbidden in &rejudged.forbidden {
            self.note_forbidden(id, forbidden, || Evidence {
                routes: list_keys(&forbidden.keys),
                ..Evidence::default()
            });
        }
        let session = self.slot(id).and_then(|peer| peer.session.as_ref()).filter(|_| rejudged.refresh);
        match session.map(|session| (session.id, session.negotiated.route_refresh)) {
            Some((session, true)) => self.io.request_refresh(id, session, AddressFamily::EVPN),
            // Only a new session makes it say everything again.
            Some((_, false)) => self.io.stop(id, StopReason::Reset { administrative: false }),
            None => {}
        }
    }

    /// Enters routes that the peer may not announce into the ledger.
    pub(super) fn note_forbidden(&mut self, id: PeerId, forbidden: &Forbidden, evidence: impl FnOnce() -> Evidence) {
        let ledger = self.ledger.clone();
        let Some(peer) = self.slot(id) else { return };
        let detail = peer.neighbor.explain(forbidden);
        peer.last_refusal = Some(detail.clone());
        let who = Who::Peer(peer.neighbor.spec.address.ip());
        let (rule, routes) = (forbidden.offence.rule(), forbidden.routes as u64);
        ledger.note(who, rule, Action::WithdrawRoute, routes, || Evidence { detail, ..evidence() });
    }

    fn free_id(&self) -> PeerId {
        let index = self.peers.iter().position(Option::is_none).unwrap_or(self.peers.len());
        PeerId(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// Makes the peers what `wanted` says: each address once. Who is not wanted any more goes at once, routes and all, unless
    /// its owner has come to another address: then its session ends, and its routes wait for it there like those of a peer
    /// that restarts. Who did not change is not touched.
    ///
    /// # Errors
    ///
    /// If the kernel refuses a TCP-MD5 key; everybody else is what was wanted.
    pub fn set_peers(&mut self, wanted: Vec<Neighbor>) -> Result<(), IoError> {
        let mut wanted: BTreeMap<IpAddr, Neighbor> =
            wanted.into_iter().map(|neighbor| (neighbor.spec.address.ip(), neighbor)).collect();
        let has = self.peers().map(|peer| (peer.id, peer.neighbor.spec.address.ip(), peer.neighbor.owner.clone()));
        let is_gone = |(_, address, owner): &(PeerId, IpAddr, Option<Arc<str>>)| {
            wanted.get(address).is_none_or(|neighbor| neighbor.owner != *owner)
        };
        let gone: Vec<_> = has.filter(is_gone).collect();
        let mut result = Ok(());
        self.io.begin_batch();
        for (id, address, owner) in gone {
            match self.next_address(&wanted, address, owner.as_deref()).and_then(|next| wanted.remove(&next)) {
                Some(neighbor) => {
                    // It was known there too, and never came.
                    let idle = self.peer_at(neighbor.spec.address.ip());
                    idle.into_iter().for_each(|idle| self.remove_peer(idle));
                    result = self.move_peer(id, neighbor).and(result);
                }
                None => self.remove_peer(id),
            }
        }
        for neighbor in wanted.into_values() {
            result = self.set_peer(neighbor).map(drop).and(result);
        }
        self.io.end_batch().and(result)
    }

    /// Where the owner of an address that it has no more is wanted now, and is not yet or at least has not come from: first by
    /// an address of the same family.
    fn next_address(&self, wanted: &BTreeMap<IpAddr, Neighbor>, old: IpAddr, owner: Option<&str>) -> Option<IpAddr> {
        let owner = owner?;
        let is_new = |(address, neighbor): &(&IpAddr, &Neighbor)| {
            let known = self.by_address.get(*address);
            neighbor.owner.as_deref() == Some(owner) && known.is_none_or(|id| self.is_idle_of(*id, owner))
        };
        let new = wanted.iter().filter(is_new).map(|(address, _)| *address);
        new.min_by_key(|address| address.is_ipv4() != old.is_ipv4())
    }

    /// Whether nothing of an owner has come to a peer of its.
    fn is_idle_of(&self, id: PeerId, owner: &str) -> bool {
        let peer = self.peers.get(id.0 as usize).and_then(Option::as_ref);
        peer.is_some_and(|peer| peer.neighbor.owner.as_deref() == Some(owner)) && self.is_left(id)
    }

    /// Takes a peer to another address.
    fn move_peer(&mut self, id: PeerId, neighbor: Neighbor) -> Result<(), IoError> {
        let new = neighbor.spec.address.ip();
        let Some(old) = self.address(id) else { return Ok(()) };
        if let Err(error) = self.io.set_peer(id, neighbor.spec.clone()) {
            self.remove_peer(id);
            return Err(error);
        }
        tracing::info!(peer = %neighbor.label(), %old, "the peer has another address");
        self.by_address.remove(&old);
        self.by_address.insert(new, id);
        self.ledger.forget(old);
        self.ledger.remember(new);
        let permission = Arc::clone(&neighbor.permission);
        if let Some(peer) = self.slot(id) {
            peer.neighbor = neighbor;
        }
        self.permit(id, permission);
        Ok(())
    }

    /// Has the RIB wait for the end-of-RIB of everybody who does not come by itself before it sends its own, at most for its
    /// hold; of several peers of one owner one is enough.
    pub fn expect_peers(&mut self) {
        let mut owned: BTreeMap<Arc<str>, Vec<PeerId>> = BTreeMap::new();
        let mut alone = Vec::new();
        for peer in self.peers().filter(|peer| !peer.neighbor.dynamic) {
            match &peer.neighbor.owner {
                Some(owner) => owned.entry(Arc::clone(owner)).or_default().push(peer.id),
                None => alone.push(vec![peer.id]),
            }
        }
        self.rib.set_expected_speakers(owned.into_values().chain(alone));
    }

    fn insert(&mut self, id: PeerId, neighbor: Neighbor) {
        self.ledger.remember(neighbor.spec.address.ip());
        let peer = Peer {
            neighbor,
            state: State::Idle,
            session: None,
            established: 0,
            updates: 0,
            last_error: None,
            last_refusal: None,
            told: false,
            retires: None,
        };
        let index = id.0 as usize;
        match self.peers.get_mut(index) {
            Some(slot) => *slot = Some(peer),
            None => self.peers.push(Some(peer)),
        }
        self.begin_to_retire(id);
    }
    /// Ends the peer's session and forgets it and its routes.
    pub fn remove_peer(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(id.0 as usize).and_then(Option::take) {
            self.by_address.remove(&peer.neighbor.spec.address.ip());
            peer.retires.into_iter().for_each(|at| _ = self.retiring.remove(&(at, id)));
            self.io.remove_peer(id);
            self.rib.peer_removed(id);
            self.ledger.forget(peer.neighbor.spec.address.ip());
        }
    }
}
