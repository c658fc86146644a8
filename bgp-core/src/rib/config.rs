//! What the owner of a [`Rib`](super::Rib) decides: identity, role, limits.

use std::net::IpAddr;

use super::rules;
use crate::rule::Rule;
use crate::session::StopReason;
use crate::time::Duration;
use crate::types::{AddressFamily, Asn, PeerId, RouterId};

/// The source of routes that this speaker originates itself.
pub const LOCAL_PEER: PeerId = PeerId(u32::MAX);

/// Identity and limits of a RIB.
#[derive(Clone, Debug)]
pub struct RibConfig {
    /// The local AS.
    pub local_asn: Asn,
    /// The local BGP identifier.
    pub router_id: RouterId,
    /// Reflector or worker.
    pub role: Role,
    /// Next hop of the memberships that this speaker announces.
    pub local_address: IpAddr,
    /// The longest that an end-of-RIB of ours is held back for others' (design: 30 s).
    pub end_of_rib_hold: Duration,
    /// The longest that a peer may take to its end-of-RIB once its session is established, or to the end of a refresh.
    pub end_of_rib_wait: Duration,
    /// Encoded octets that an update group keeps for members that have not read them yet; a member further behind is
    /// served from the table instead.
    pub log_limit_octets: usize,
    /// Destinations without a route whose identity is kept because a slow member may still have to hear of their
    /// withdrawal; beyond it the slowest members are reported by [`Rib::drain_laggards`](super::Rib::drain_laggards).
    pub dead_destinations_limit: usize,
    /// Key of the hash tables; unpredictable to peers, fixed in a simulation.
    pub hash_seed: u64,
}

impl RibConfig {
    /// A configuration with the default limits.
    pub fn new(role: Role, local_asn: Asn, router_id: RouterId, local_address: IpAddr) -> Self {
        Self {
            local_asn,
            router_id,
            role,
            local_address,
            end_of_rib_hold: Duration::from_secs(30),
            end_of_rib_wait: Duration::from_secs(120),
            log_limit_octets: 16 << 20,
            dead_destinations_limit: 1 << 20,
            hash_seed: 0,
        }
    }

    /// The cluster id of a reflector.
    pub fn cluster_id(&self) -> Option<u32> {
        match self.role {
            Role::Reflector { cluster_id } => Some(cluster_id.unwrap_or(self.router_id.0)),
            Role::Worker => None,
        }
    }
}

/// What a speaker does with the routes it hears.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Reflects between its clients (RFC 4456), asks each peer for all routes by the default membership, and holds its
    /// EVPN end-of-RIB back until the peers it expects have spoken.
    Reflector {
        /// CLUSTER_ID; the router id unless set.
        cluster_id: Option<u32>,
    },
    /// Originates routes and uses others'; best-path changes are recorded for
    /// [`Rib::drain_changes`](super::Rib::drain_changes). Its end-of-RIBs wait for
    /// [`Rib::local_ready`](super::Rib::local_ready).
    Worker,
}

/// What one peer may cost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PeerLimits {
    /// EVPN routes.
    pub max_prefixes: usize,
    /// Route target memberships (RFC 4684).
    pub max_memberships: usize,
    /// The part of either that is worth a warning, in percent; 100 and more: none.
    pub warning_percent: u8,
    /// Distinct attribute sets, over all families.
    pub max_attribute_sets: usize,
    /// Octets of distinct attribute sets, over all families.
    pub max_attribute_octets: usize,
    /// Octets of the values of all path attributes of one route; routes with more are treated as withdrawn.
    pub max_route_attribute_octets: usize,
}

impl PeerLimits {
    /// No limits: for own routes.
    pub const UNLIMITED: Self = Self {
        max_prefixes: usize::MAX,
        max_memberships: usize::MAX,
        warning_percent: 100,
        max_attribute_sets: usize::MAX,
        max_attribute_octets: usize::MAX,
        max_route_attribute_octets: usize::MAX,
    };

    /// The most routes of a family.
    pub fn max_routes(&self, family: AddressFamily) -> usize {
        if family == AddressFamily::RT_CONSTRAIN { self.max_memberships } else { self.max_prefixes }
    }

    /// How many routes of a family are worth a warning, if any number is.
    pub fn warning_at(&self, family: AddressFamily) -> Option<usize> {
        let percent = usize::from(self.warning_percent);
        let limit = self.max_routes(family);
        (percent < 100).then(|| limit.saturating_mul(percent).div_euclid(100).max(1))
    }
}

impl Default for PeerLimits {
    /// Room for a reflector of a large fabric. What a message can hold is no limit on a route.
    fn default() -> Self {
        Self {
            max_prefixes: 1_000_000,
            max_memberships: 100_000,
            warning_percent: 75,
            max_attribute_sets: 1_000_000,
            max_attribute_octets: 256 << 20,
            max_route_attribute_octets: 65_535,
        }
    }
}

/// Why a peer's session must end.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LimitExceeded {
    /// Cease 6/1 (RFC 4486).
    #[error("the peer announced more than {limit} {family} routes; raise {} of this peer if it may", key_of(*family))]
    Prefixes {
        /// The family.
        family: AddressFamily,
        /// The limit that was met.
        limit: usize,
    },
    /// Cease 6/8 (RFC 4486).
    #[error(
        "the peer's routes have more than {limit} distinct attribute sets; raise max_attribute_sets of this peer if they may"
    )]
    AttributeSets {
        /// The limit that was met.
        limit: usize,
    },
    /// Cease 6/8 (RFC 4486).
    #[error(
        "the peer's path attributes take more than {limit} octets; raise max_attribute_octets of this peer if they may"
    )]
    AttributeOctets {
        /// The limit that was met.
        limit: usize,
    },
}

/// The setting that limits the routes of a family.
fn key_of(family: AddressFamily) -> &'static str {
    if family == AddressFamily::RT_CONSTRAIN { "max_memberships" } else { "max_routes" }
}

impl LimitExceeded {
    /// The rule for counters and logs.
    pub fn rule(self) -> Rule {
        match self {
            Self::Prefixes { family: AddressFamily::RT_CONSTRAIN, .. } => rules::MAX_MEMBERSHIPS,
            Self::Prefixes { .. } => rules::MAX_ROUTES,
            Self::AttributeSets { .. } => rules::MAX_ATTRIBUTE_SETS,
            Self::AttributeOctets { .. } => rules::MAX_ATTRIBUTE_OCTETS,
        }
    }

    /// What the session is ended with.
    pub const fn stop_reason(self) -> StopReason {
        match self {
            Self::Prefixes { .. } => StopReason::MaxPrefixes,
            Self::AttributeSets { .. } | Self::AttributeOctets { .. } => StopReason::OutOfResources,
        }
    }
}

/// A peer comes near its limit of routes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NearLimit {
    /// The family.
    pub family: AddressFamily,
    /// Routes held now.
    pub held: usize,
    /// The most that it may have.
    pub limit: usize,
}
