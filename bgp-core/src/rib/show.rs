//! Views for `show` and metrics.

use super::attribute_store::AttributeStore;
use super::family::Family;
use super::inputs::{FAMILIES, Peer, PeerFamilyState};
use super::member::Member;
use super::table::Destination;
use super::view::{FamilyCounters, PeerView, RibStats, RouteView};
use super::{PeerId, Plane, Rib};
use crate::types::AddressFamily;
use crate::wire::{Evpn, RtConstrain};

impl Rib {
    /// All EVPN paths, by destination.
    pub fn routes(&self) -> impl Iterator<Item = RouteView<'_, Evpn>> {
        self.evpn.routes()
    }

    /// All memberships, by destination.
    pub fn memberships(&self) -> impl Iterator<Item = RouteView<'_, RtConstrain>> {
        self.memberships.routes()
    }

    /// All peers, by number.
    pub fn peers(&self) -> impl Iterator<Item = PeerView<'_>> {
        self.peers.iter().map(|(id, peer)| {
            let [evpn, memberships] = &peer.families;
            let [evpn_family, memberships_family] = FAMILIES;
            let families = [
                self.evpn.counters(*id, evpn_family, evpn),
                self.memberships.counters(*id, memberships_family, memberships),
            ];
            let Peer { info, up, forbidden, .. } = peer;
            PeerView { peer: *id, info, up: *up, forbidden: *forbidden, families }
        })
    }

    /// How many EVPN routes the peer has been announced and not withdrawn, or will be as soon as it reads: O(routes),
    /// for `show`.
    pub fn advertised(&self, peer: PeerId) -> usize {
        self.evpn.audience_size(peer)
    }

    /// Totals of EVPN.
    pub fn stats(&self) -> RibStats {
        let (update_groups, log_octets, unsendable) = self.evpn.group_totals();
        RibStats {
            destinations: self.evpn.table.live_count(),
            paths: self.evpn.table.path_count(),
            dead_destinations: self.evpn.table.dead_count(),
            attribute_sets: self.evpn.store.len(),
            target_sets: self.evpn.store.targets.len(),
            update_groups,
            log_octets,
            flushes: self.evpn.flushes,
            unsendable,
        }
    }
}

impl<F: Family> Plane<F> {
    fn routes(&self) -> impl Iterator<Item = RouteView<'_, F>> {
        self.table.live().flat_map(|destination| views(destination, &self.store))
    }

    fn counters(&self, peer: PeerId, family: AddressFamily, state: &PeerFamilyState) -> FamilyCounters {
        let member = self.member(peer);
        FamilyCounters {
            family,
            received: state.received,
            withdrawn: state.withdrawn,
            accepted: self.table.count(peer),
            stale: self.table.stale_count(peer),
            long_lived_stale: self.table.long_lived_count(peer),
            announcements_sent: member.map_or(0, |member| member.announcements),
            withdrawals_sent: member.map_or(0, |member| member.withdrawals),
            end_of_rib_received: state.end_of_rib,
            end_of_rib_sent: member.is_some_and(Member::end_of_rib_sent),
            replaying: member.is_some_and(|member| !member.is_in_log()),
        }
    }
}

fn views<'a, F: Family>(
    destination: &'a Destination<F>,
    store: &'a AttributeStore,
) -> impl Iterator<Item = RouteView<'a, F>> {
    let best = destination.best().map(|best| best.peer);
    let reasons = destination.explain(store);
    destination.paths.iter().zip(reasons).filter_map(move |(path, reason)| {
        let set = store.get(path.attributes)?;
        Some(RouteView {
            key: &destination.key,
            payload: &path.payload,
            attributes: &set.attributes,
            peer: path.peer,
            best: best == Some(path.peer),
            reason,
            stale: path.is_stale(),
            long_lived_stale: set.long_lived_stale,
        })
    })
}
