//! A peer as the RIB sees it: its class, its identity, and what was negotiated.

use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::config::PeerLimits;
use super::permission::Permission;
use super::route_types::RouteTypes;
use crate::session::Negotiated;
use crate::types::{AddressFamily, Asn, RouterId};

/// How routes of and to a peer are treated (RFC 4456 section 6).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum PeerClass {
    /// This speaker itself.
    Local,
    /// iBGP, a client of this reflector.
    Client,
    /// iBGP, not a client: another reflector, or any iBGP peer of a worker.
    NonClient,
    /// eBGP.
    External,
}

/// What the session layer tells when a session is established.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerInfo {
    /// Client, non-client or external; never [`PeerClass::Local`].
    pub class: PeerClass,
    /// AS of the peer.
    pub asn: Asn,
    /// BGP identifier from its OPEN.
    pub router_id: RouterId,
    /// Address of the session's far end, the last tie-break.
    pub address: IpAddr,
    /// 4-octet AS numbers were negotiated (RFC 6793).
    pub four_octet_as: bool,
    /// Extended messages were negotiated (RFC 8654).
    pub extended_message: bool,
    /// Enhanced route refresh was negotiated (RFC 7313).
    pub enhanced_refresh: bool,
    /// It sent the capability of long-lived graceful restart (RFC 9494): it knows what long-lived stale routes are.
    pub long_lived_known: bool,
    /// The families negotiated, each at most once.
    pub families: SmallVec<[PeerFamily; 2]>,
    /// What the peer may cost.
    pub limits: PeerLimits,
    /// Of whom and of which LANs it may announce routes.
    pub permission: Arc<Permission>,
    /// The EVPN route types that it is sent.
    pub sent_types: RouteTypes,
}

impl PeerInfo {
    /// What the session layer agreed on with a peer of this class at this address. It may announce and is sent everything.
    pub fn new(class: PeerClass, address: IpAddr, limits: PeerLimits, negotiated: &Negotiated) -> Self {
        let families = negotiated.families.iter().map(|family| PeerFamily {
            family: *family,
            graceful_restart: negotiated.retentions().any(|kept| kept.family == *family),
            forwarding_preserved: negotiated.preserves(*family),
            long_lived_preserved: negotiated.preserves_long_lived(*family),
        });
        Self {
            class,
            asn: negotiated.remote_asn,
            router_id: negotiated.remote_router_id,
            address,
            four_octet_as: negotiated.four_octet_as,
            extended_message: negotiated.extended_message,
            enhanced_refresh: negotiated.enhanced_route_refresh,
            long_lived_known: negotiated.long_lived_known,
            families: families.collect(),
            limits,
            permission: Arc::default(),
            sent_types: RouteTypes::ALL,
        }
    }

    /// What was negotiated for a family.
    pub fn family(&self, family: AddressFamily) -> Option<&PeerFamily> {
        self.families.iter().find(|entry| entry.family == family)
    }
}

/// A negotiated family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PeerFamily {
    /// AFI and SAFI.
    pub family: AddressFamily,
    /// The peer listed the family in a graceful restart capability: it will send an end-of-RIB (RFC 4724).
    pub graceful_restart: bool,
    /// It listed it in that of RFC 4724 with the F bit: stale routes may be kept until that end-of-RIB.
    pub forwarding_preserved: bool,
    /// It listed it in that of RFC 9494 with the F bit: so may those whose restart time was over.
    pub long_lived_preserved: bool,
}
