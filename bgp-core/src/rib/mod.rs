//! The routing information bases: table, decision, update groups, RT-constrain.
//!
//! [`Rib`] is used by both daemons. In go decoded UPDATEs, own routes, sessions that come and go, and the time; out
//! come encoded UPDATEs per peer (pulled when the peer's writer is ready), best-path changes (for a worker), and the
//! next deadline. Nothing is sent and no best path is computed before [`Rib::flush`]; call it once per batch of inputs.

mod config;
mod decision;
mod peer;
mod view;

pub use config::{LOCAL_PEER, LimitExceeded, PeerLimits, RibConfig, Role};
pub use decision::Reason;
pub use peer::{PeerClass, PeerFamily, PeerInfo};
pub use view::{BestRoute, FamilyCounters, PeerView, RibStats, RouteChange, RouteView, UpdateOutcome};

use bytes::Bytes;

use crate::time::{Duration, Instant};
use crate::types::{AddressFamily, PeerId};
use crate::wire::{Evpn, EvpnKey, PathAttributes, Route, RouteRefresh, RtConstrain, RtMembership, Update};

/// Adj-RIB-Ins, Loc-RIB and Adj-RIB-Outs of one speaker, for EVPN and route target membership.
#[derive(Debug)]
pub struct Rib {
    config: RibConfig,
}

impl Rib {
    /// An empty RIB, whose life begins at `now`. A reflector announces the default membership by itself.
    pub fn new(config: RibConfig, _now: Instant) -> Self {
        Self { config }
    }

    /// The configuration.
    pub fn config(&self) -> &RibConfig {
        &self.config
    }

    /// Names the peers whose EVPN end-of-RIB a reflector waits for before it sends its own (within
    /// [`RibConfig::end_of_rib_hold`] of its start). May be called again as the set becomes known.
    pub fn set_expected_peers(&mut self, _peers: impl IntoIterator<Item = PeerId>) {}

    /// A worker's owner has originated everything that it had before its restart: end-of-RIB may be sent.
    pub fn local_ready(&mut self) {}

    /// A session is established. Stale routes of families whose forwarding state was not preserved go at once.
    pub fn peer_up(&mut self, _peer: PeerId, _info: PeerInfo, _now: Instant) {}

    /// A session is gone. Routes of the families in `keep` become stale until the peer is back and has sent its
    /// end-of-RIB, `restart_time` at most (RFC 4724 section 4.2); all others go.
    pub fn peer_down(&mut self, _peer: PeerId, _keep: &[AddressFamily], _restart_time: Duration, _now: Instant) {}

    /// A peer is no longer configured: its routes go at once, and nobody waits for it.
    pub fn peer_removed(&mut self, _peer: PeerId) {}

    /// Applies an UPDATE of an established peer, end-of-RIB markers included.
    pub fn update(&mut self, _peer: PeerId, _update: Update, _now: Instant) -> UpdateOutcome {
        UpdateOutcome::default()
    }

    /// Applies a ROUTE-REFRESH: sends everything again on request, and drops what was not repeated at the end of a
    /// refresh that the peer demarcates (RFC 7313).
    pub fn route_refresh(&mut self, _peer: PeerId, _refresh: RouteRefresh, _now: Instant) {}

    /// Announces an own route, or replaces it.
    pub fn originate(&mut self, _route: Route<Evpn>, _attributes: PathAttributes) {}

    /// Withdraws an own route; whether there was one.
    pub fn withdraw_local(&mut self, _key: &EvpnKey) -> bool {
        false
    }

    /// Announces interest in route targets.
    pub fn originate_membership(&mut self, _membership: RtMembership) {}

    /// Ends an own interest; whether there was one.
    pub fn withdraw_membership(&mut self, _membership: &RtMembership) -> bool {
        false
    }

    /// Selects best paths for everything that changed since the last flush and encodes what peers must hear.
    pub fn flush(&mut self) {}

    /// Peers that have something to read since they last read everything, each once.
    pub fn drain_ready(&mut self) -> Vec<PeerId> {
        Vec::new()
    }

    /// Whether [`Rib::poll_transmit`] has something for the peer.
    pub fn has_pending(&self, _peer: PeerId) -> bool {
        false
    }

    /// Whole messages for a peer, in order, about `max_octets` in total (at most 64 KiB more); none when the peer has
    /// everything. Slices are shared between peers. Call it when the peer's writer is ready for more.
    pub fn poll_transmit(&mut self, _peer: PeerId, _max_octets: usize) -> Option<Vec<Bytes>> {
        None
    }

    /// Best EVPN routes that changed, the latest state of each key once, in the order of their first change. Only a
    /// worker records them.
    pub fn drain_changes(&mut self) -> Vec<RouteChange> {
        Vec::new()
    }

    /// Peers so far behind that they hold resources of others: end their session with Cease 6/8.
    pub fn drain_laggards(&mut self) -> Vec<PeerId> {
        Vec::new()
    }

    /// When [`Rib::handle_timeout`] must be called next.
    pub fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// Applies what has become due. Call [`Rib::flush`] afterwards.
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// Whether a worker may sweep forwarding state that no route explains: at least one peer is established, and each
    /// has sent its EVPN end-of-RIB.
    pub fn remote_sweep_allowed(&self) -> bool {
        false
    }

    /// Whether this speaker has all it waited for after its start, so that its EVPN end-of-RIB is free to go: what
    /// readiness means for a reflector.
    pub fn is_synchronised(&self) -> bool {
        false
    }

    /// All EVPN paths, by destination.
    pub fn routes(&self) -> impl Iterator<Item = RouteView<'_, Evpn>> {
        core::iter::empty()
    }

    /// All memberships, by destination.
    pub fn memberships(&self) -> impl Iterator<Item = RouteView<'_, RtConstrain>> {
        core::iter::empty()
    }

    /// All peers, by number.
    pub fn peers(&self) -> impl Iterator<Item = PeerView<'_>> {
        core::iter::empty()
    }

    /// How many EVPN routes the peer has been announced and not withdrawn: O(routes), for `show`.
    pub fn advertised(&self, _peer: PeerId) -> usize {
        0
    }

    /// Totals.
    pub fn stats(&self) -> RibStats {
        RibStats::default()
    }
}
