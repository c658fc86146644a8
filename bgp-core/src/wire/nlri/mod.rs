//! Network layer reachability information: what a route is about.
//!
//! The *key* is the identity of a route; the *payload* rides along and may change without making another route
//! (RFC 7432 section 7: labels, and the ESI of a type 2, are not part of the identity).

pub mod evpn;
pub(crate) mod multiprotocol;
pub mod rt_constrain;

use core::fmt::Debug;
use core::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::BytesMut;
use ipnet::IpNet;

use crate::types::{
    AddressFamily, Asn, EthernetSegmentId, EthernetTag, Label, MacAddr, RouteDistinguisher, RouteTarget,
};

/// A family of routes: marker type with its key and payload.
pub trait Nlri: Copy + Debug + Eq + 'static {
    /// AFI and SAFI.
    const FAMILY: AddressFamily;
    /// What makes two routes the same.
    type Key: Clone + Debug + Eq + Hash + Ord;
    /// What a route carries beside its key and its path attributes.
    type Payload: Clone + Debug + Eq;
}

/// A family that can be written to the wire.
pub trait WireNlri: Nlri {
    /// Appends the NLRI of an announcement. A payload that is not of the key's kind counts as all zeroes.
    fn encode(key: &Self::Key, payload: &Self::Payload, out: &mut BytesMut);

    /// Appends the NLRI of a withdrawal.
    fn encode_withdrawal(key: &Self::Key, out: &mut BytesMut);
}

/// One route of a family.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route<N: Nlri> {
    /// Identity.
    pub key: N::Key,
    /// The rest.
    pub payload: N::Payload,
}

/// The EVPN family (RFC 7432).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Evpn;

impl Nlri for Evpn {
    const FAMILY: AddressFamily = AddressFamily::EVPN;
    type Key = EvpnKey;
    type Payload = EvpnPayload;
}

/// Identity of an EVPN route.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[expect(missing_docs, reason = "the fields are those of the RFC section named at each variant")]
pub enum EvpnKey {
    /// Type 1 (RFC 7432 section 7.1).
    EthernetAutoDiscovery { rd: RouteDistinguisher, esi: EthernetSegmentId, tag: EthernetTag },
    /// Type 2 (section 7.2).
    MacIp { rd: RouteDistinguisher, tag: EthernetTag, mac: MacAddr, ip: Option<IpAddr> },
    /// Type 3 (section 7.3).
    InclusiveMulticast { rd: RouteDistinguisher, tag: EthernetTag, originator: IpAddr },
    /// Type 4 (section 7.4).
    EthernetSegment { rd: RouteDistinguisher, esi: EthernetSegmentId, originator: IpAddr },
    /// Type 5 (RFC 9136 section 3.1). The prefix has no host bits.
    IpPrefix { rd: RouteDistinguisher, tag: EthernetTag, prefix: IpNet },
    /// A type this implementation does not know, kept whole so that it can be reflected where configured.
    Opaque { route_type: u8, body: Arc<[u8]> },
}

impl EvpnKey {
    /// The number of its type in the EVPN route types registry (RFC 7432 section 7).
    pub const fn route_type(&self) -> u8 {
        match self {
            Self::EthernetAutoDiscovery { .. } => 1,
            Self::MacIp { .. } => 2,
            Self::InclusiveMulticast { .. } => 3,
            Self::EthernetSegment { .. } => 4,
            Self::IpPrefix { .. } => 5,
            Self::Opaque { route_type, .. } => *route_type,
        }
    }
}

/// What an EVPN route carries beside its key.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of the RFC section named at each variant")]
pub enum EvpnPayload {
    /// Type 1.
    EthernetAutoDiscovery { label: Label },
    /// Type 2; the second label is the L3VNI, if any.
    MacIp { esi: EthernetSegmentId, label: Label, label2: Option<Label> },
    /// Type 3; its label is in the PMSI tunnel attribute.
    InclusiveMulticast,
    /// Type 4.
    EthernetSegment,
    /// Type 5; the gateway is unspecified when there is none.
    IpPrefix { esi: EthernetSegmentId, gateway: IpAddr, label: Label },
    /// Unknown types carry everything in the key.
    Opaque,
}

/// The route target membership family (RFC 4684).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RtConstrain;

impl Nlri for RtConstrain {
    const FAMILY: AddressFamily = AddressFamily::RT_CONSTRAIN;
    type Key = RtMembership;
    type Payload = ();
}

/// Interest in route targets (RFC 4684 section 4): a prefix over origin AS and route target.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[expect(missing_docs, reason = "the fields are those of the RFC")]
pub enum RtMembership {
    /// The zero-length prefix: every route target.
    Default,
    /// Prefix length 96: exactly one target.
    Target { origin: Asn, target: RouteTarget },
    /// A prefix of 32 bits and more: `bits` of `target` count (0 to 64); the others are zero. 64 only where the octets
    /// are no route target of the three forms.
    Prefix { origin: Asn, target: [u8; 8], bits: u8 },
}
