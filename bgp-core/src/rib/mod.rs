//! The routing information bases: table, decision, update groups, RT-constrain.
//!
//! [`Rib`] is used by both daemons. In go decoded UPDATEs, own routes, sessions that come and go, and the time; out
//! come encoded UPDATEs per peer (pulled when the peer's writer is ready), best-path changes (for a worker), and the
//! next deadline. Nothing is sent and no best path is computed before [`Rib::flush`]; call it once per batch of inputs.
//!
//! ```text
//!   UPDATE ─► Rib ─► Plane<Evpn> ───────── Table: paths, decision ──flush──► UpdateGroup: log of segments ─► Member
//!              │                             │                                 (one encoding for all)     cursor or
//!              │                             └─► changes (worker)                                        pending set
//!              └──► Plane<RtConstrain> ─── memberships of peers ─► Interest ─► which segments a member takes
//! ```
//!
//! | module | subject |
//! | --- | --- |
//! | `attribute_store`, `target_sets` | interned attribute sets and route target sets |
//! | `table`, `selection`, `decision` | paths, best paths, the index by route targets |
//! | `export`, `encode` | RFC 4456 rules, attributes as sent, messages |
//! | `update_group`, `log`, `member`, `bits` | the fan-out |
//! | `rt_constrain` | what a peer's memberships let through |
//! | `plane` | one family: table and groups |
//! | `permission` | of whom and of which LANs a peer may announce routes |
//! | `retention` | how long routes outlive their session |
//! | `inputs`, `restart`, `show` | the facade: what peers do, end-of-RIB and timers, views |

mod attribute_store;
mod bits;
mod config;
mod decision;
mod encode;
mod export;
mod family;
mod inputs;
mod log;
mod member;
mod peer;
mod permission;
mod plane;
mod restart;
mod retention;
mod route_types;
mod rt_constrain;
pub mod rules;
mod selection;
mod show;
mod table;
mod target_sets;
#[cfg(any(test, feature = "testing"))]
#[allow(
    missing_docs,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what tests share reads like a test, and a panic is how it reports"
)]
pub mod tests;
mod update_group;
mod view;

pub use config::{LOCAL_PEER, LimitExceeded, NearLimit, PeerLimits, RibConfig, Role};
pub use decision::Reason;
pub use peer::{PeerClass, PeerFamily, PeerInfo};
pub use permission::{Forbidden, Offence, Permission, Rejudged, VniRanges};
pub use route_types::RouteTypes;
pub use view::{BestRoute, FamilyCounters, PeerView, RibStats, RouteChange, RouteView, UpdateOutcome};

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use self::attribute_store::Source;
use self::inputs::Peer;
use self::plane::{Input, Plane};
use self::restart::Gates;
use crate::time::Instant;
use crate::types::PeerId;
use crate::wire::{Evpn, EvpnKey, PathAttributes, Route, RtConstrain, RtMembership};

/// Adj-RIB-Ins, Loc-RIB and Adj-RIB-Outs of one speaker, for EVPN and route target membership.
#[derive(Debug)]
pub struct Rib {
    config: RibConfig,
    local: Source,
    evpn: Plane<Evpn>,
    memberships: Plane<RtConstrain>,
    peers: BTreeMap<PeerId, Peer>,
    gates: Gates,
}

impl Rib {
    /// An empty RIB, whose life begins at `now`. A reflector announces the default membership by itself.
    pub fn new(config: RibConfig, now: Instant) -> Self {
        let local = Source {
            peer: LOCAL_PEER,
            class: PeerClass::Local,
            router_id: config.router_id,
            address: config.local_address,
        };
        let mut rib = Self {
            local,
            evpn: Plane::new(&config, config.role == Role::Worker),
            memberships: Plane::new(&config, false),
            peers: BTreeMap::new(),
            gates: Gates::new(&config, now),
            config,
        };
        if let Role::Reflector { .. } = rib.config.role {
            rib.originate_membership(RtMembership::Default);
        }
        rib
    }

    /// The configuration.
    pub fn config(&self) -> &RibConfig {
        &self.config
    }

    /// Announces an own route, or replaces it.
    pub fn originate(&mut self, route: Route<Evpn>, attributes: PathAttributes) {
        let limits = PeerLimits::UNLIMITED;
        let permission = Permission::default();
        let input = Input { source: &self.local, limits: &limits, permission: &permission, config: &self.config };
        self.evpn.announce(&input, attributes, vec![route], &mut UpdateOutcome::default(), |_, _| {});
    }

    /// Withdraws an own route; whether there was one.
    pub fn withdraw_local(&mut self, key: &EvpnKey) -> bool {
        self.evpn.table.withdraw(LOCAL_PEER, key, &mut self.evpn.store)
    }

    /// Announces interest in route targets.
    pub fn originate_membership(&mut self, membership: RtMembership) {
        let limits = PeerLimits::UNLIMITED;
        let permission = Permission::default();
        let input = Input { source: &self.local, limits: &limits, permission: &permission, config: &self.config };
        let attributes = PathAttributes::new(self.config.local_address);
        let routes = vec![Route { key: membership, payload: () }];
        self.memberships.announce(&input, attributes, routes, &mut UpdateOutcome::default(), |_, _| {});
    }

    /// Ends an own interest; whether there was one.
    pub fn withdraw_membership(&mut self, membership: &RtMembership) -> bool {
        self.memberships.table.withdraw(LOCAL_PEER, membership, &mut self.memberships.store)
    }

    /// Selects best paths for everything that changed since the last flush and encodes what peers must hear.
    pub fn flush(&mut self) {
        self.memberships.flush();
        self.evpn.flush();
        self.release_end_of_ribs();
    }

    /// Peers that have something to read since they last read everything, each once.
    pub fn drain_ready(&mut self) -> Vec<PeerId> {
        let mut ready = Vec::new();
        self.memberships.drain_ready(&mut ready);
        self.evpn.drain_ready(&mut ready);
        ready.sort_unstable();
        ready.dedup();
        ready.retain(|peer| self.has_pending(*peer));
        ready
    }

    /// Whether [`Rib::poll_transmit`] has something for the peer.
    pub fn has_pending(&self, peer: PeerId) -> bool {
        self.memberships.has_pending(peer) || self.evpn.has_pending(peer)
    }

    /// Whole messages for a peer, in order, about `max_octets` in total (at most 64 KiB more); none when the peer has
    /// everything. Slices are shared between peers. Call it when the peer's writer is ready for more.
    pub fn poll_transmit(&mut self, peer: PeerId, max_octets: usize) -> Option<Vec<Bytes>> {
        let mut out = Vec::new();
        let taken = self.memberships.read(peer, max_octets, &mut out);
        if taken < max_octets {
            self.evpn.read(peer, max_octets - taken, &mut out);
        }
        if out.is_empty() { None } else { Some(out) }
    }

    /// Best EVPN routes that changed, the latest state of each key once, in the order of their first change. Only a
    /// worker records them.
    pub fn drain_changes(&mut self) -> Vec<RouteChange> {
        let ids = self.evpn.drain_changes();
        let change = |id| {
            let destination = self.evpn.table.get(id)?;
            let best = destination.best().and_then(|path| {
                let attributes = Arc::clone(&self.evpn.store.get(path.attributes)?.attributes);
                Some(BestRoute { payload: path.payload.clone(), attributes, peer: path.peer })
            });
            Some(RouteChange { key: destination.key.clone(), best })
        };
        ids.into_iter().filter_map(change).collect()
    }

    /// Peers so far behind that they hold resources of others: end their session with Cease 6/8.
    pub fn drain_laggards(&mut self) -> Vec<PeerId> {
        if self.evpn.table.dead_count() <= self.config.dead_destinations_limit {
            return Vec::new();
        }
        self.evpn.laggards()
    }
}
