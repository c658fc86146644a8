//! What the RIB tells its owner: outcomes of inputs, best-path changes, routes and counters for `show`.

use std::sync::Arc;

use super::config::{LimitExceeded, NearLimit};
use super::decision::Reason;
use super::peer::PeerInfo;
use crate::types::{AddressFamily, PeerId};
use crate::wire::message::Unreach;
use crate::wire::{EvpnKey, EvpnPayload, Nlri, PathAttributes};

/// What became of one UPDATE.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct UpdateOutcome {
    /// Routes announced that are now held.
    pub accepted: usize,
    /// Routes withdrawn that were held, implicit removals of refused routes included.
    pub withdrawn: usize,
    /// Routes refused for what their attributes say: a loop (RFC 4271 section 9.1.2, RFC 4456 section 8), or a next hop that
    /// can be nobody's (RFC 4271 section 6.3). [`Rib::objection`](super::Rib::objection) names the rule.
    pub refused: usize,
    /// Routes refused because the peer may not announce them. [`Rib::forbidden`](super::Rib::forbidden) names the rules.
    pub forbidden: usize,
    /// Withdrawals of routes that were not held.
    pub unknown_withdrawals: usize,
    /// The withdrawals that such were among.
    pub in_vain: Vec<Unreach>,
    /// Routes of a family that was not negotiated, or from a peer that is not up: ignored.
    pub ignored: usize,
    /// The peer has just come near its limit.
    pub near: Option<NearLimit>,
    /// The session must end with a Cease; the rest of the UPDATE was not applied.
    pub exceeded: Option<LimitExceeded>,
}

/// The best route of a key has changed.
#[derive(Clone, Debug)]
pub struct RouteChange {
    /// The key.
    pub key: EvpnKey,
    /// Its best route now, none when it is gone.
    pub best: Option<BestRoute>,
}

/// A selected route.
#[derive(Clone, Debug)]
pub struct BestRoute {
    /// What the route carries.
    pub payload: EvpnPayload,
    /// Its path attributes.
    pub attributes: Arc<PathAttributes>,
    /// Who announced it; [`LOCAL_PEER`](super::LOCAL_PEER) for own routes.
    pub peer: PeerId,
}

/// One path of a destination, for `show`.
#[derive(Clone, Debug)]
pub struct RouteView<'a, N: Nlri> {
    /// The key.
    pub key: &'a N::Key,
    /// What the route carries.
    pub payload: &'a N::Payload,
    /// Its path attributes as received.
    pub attributes: &'a Arc<PathAttributes>,
    /// Who announced it; [`LOCAL_PEER`](super::LOCAL_PEER) for own routes.
    pub peer: PeerId,
    /// It is the best of its destination.
    pub best: bool,
    /// Why it is the best, or what it lost by.
    pub reason: Reason,
    /// It is kept for a peer that restarts (RFC 4724).
    pub stale: bool,
    /// Its sender is gone for longer than a restart takes, as this speaker or another one has seen (RFC 9494).
    pub long_lived_stale: bool,
}

/// A peer, for `show` and metrics.
#[derive(Clone, Debug)]
pub struct PeerView<'a> {
    /// The peer.
    pub peer: PeerId,
    /// Its session's facts, the last ones if it is down.
    pub info: &'a PeerInfo,
    /// Its session is established.
    pub up: bool,
    /// Routes refused by its permission in this session, or since the permission changed.
    pub forbidden: u64,
    /// Per family of the RIB.
    pub families: [FamilyCounters; 2],
}

/// Counters of one family of a peer. Counts of events are since the RIB began.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FamilyCounters {
    /// The family.
    pub family: AddressFamily,
    /// Routes announced by the peer, refused ones included.
    pub received: u64,
    /// Withdrawals by the peer.
    pub withdrawn: u64,
    /// Routes held from the peer now.
    pub accepted: usize,
    /// Of these, stale.
    pub stale: usize,
    /// Of these, long-lived stale: the restart time is over.
    pub long_lived_stale: usize,
    /// Announcements handed to the peer's writer.
    pub announcements_sent: u64,
    /// Withdrawals handed to the peer's writer.
    pub withdrawals_sent: u64,
    /// The peer's end-of-RIB has been received in this session, or its time has run out.
    pub end_of_rib_received: bool,
    /// Our end-of-RIB has been handed to the peer's writer.
    pub end_of_rib_sent: bool,
    /// The peer is behind the shared log and is served from the table.
    pub replaying: bool,
}

/// Totals, for metrics.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RibStats {
    /// Destinations with a route.
    pub destinations: usize,
    /// Paths over all destinations.
    pub paths: usize,
    /// Destinations without a route, kept for slow members.
    pub dead_destinations: usize,
    /// Interned attribute sets.
    pub attribute_sets: usize,
    /// Interned route target sets.
    pub target_sets: usize,
    /// Update groups with members.
    pub update_groups: usize,
    /// Encoded octets kept for members that have not read them.
    pub log_octets: usize,
    /// Flushes that changed something.
    pub flushes: u64,
    /// Routes that were withheld from an update group because they do not fit its messages (RFC 4271 section 9.2).
    pub unsendable: u64,
}
