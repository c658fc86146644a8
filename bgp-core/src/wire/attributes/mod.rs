//! Path attributes as one typed set, and their codec.

mod as_path;
mod carried;
mod decode;
mod encode;

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use smallvec::SmallVec;

pub(crate) use decode::{AttributeSet, Class, RawAttribute};
pub use encode::EncodedAttributes;

use crate::types::{Asn, ExtendedCommunity, Label, MacMobility, RouteTarget, RouterId};

/// Attribute type codes (IANA "BGP Path Attributes").
#[expect(missing_docs, reason = "the names are the registered ones")]
pub mod code {
    pub const ORIGIN: u8 = 1;
    pub const AS_PATH: u8 = 2;
    pub const NEXT_HOP: u8 = 3;
    pub const MULTI_EXIT_DISC: u8 = 4;
    pub const LOCAL_PREF: u8 = 5;
    pub const ATOMIC_AGGREGATE: u8 = 6;
    pub const AGGREGATOR: u8 = 7;
    pub const COMMUNITIES: u8 = 8;
    pub const ORIGINATOR_ID: u8 = 9;
    pub const CLUSTER_LIST: u8 = 10;
    pub const MP_REACH_NLRI: u8 = 14;
    pub const MP_UNREACH_NLRI: u8 = 15;
    pub const EXTENDED_COMMUNITIES: u8 = 16;
    pub const AS4_PATH: u8 = 17;
    pub const AS4_AGGREGATOR: u8 = 18;
    pub const PMSI_TUNNEL: u8 = 22;
    pub const TUNNEL_ENCAPSULATION: u8 = 23;
    pub const IPV6_EXTENDED_COMMUNITIES: u8 = 25;
    pub const AIGP: u8 = 26;
    pub const ENTROPY_LABEL: u8 = 28;
    pub const LARGE_COMMUNITY: u8 = 32;
    pub const ONLY_TO_CUSTOMER: u8 = 35;
    pub const NEXT_HOP_CHARACTERISTICS: u8 = 39;
    pub const PREFIX_SID: u8 = 40;
}

/// Well-known communities (RFC 1997, RFC 9494).
#[expect(missing_docs, reason = "the names are the registered ones")]
pub mod community {
    pub const LLGR_STALE: u32 = 0xffff_0006;
    pub const NO_LLGR: u32 = 0xffff_0007;
    pub const NO_EXPORT: u32 = 0xffff_ff01;
    pub const NO_ADVERTISE: u32 = 0xffff_ff02;
    pub const NO_EXPORT_SUBCONFED: u32 = 0xffff_ff03;
}

/// Attribute flags (RFC 4271 section 4.3).
pub(crate) mod flag {
    pub const OPTIONAL: u8 = 0x80;
    pub const TRANSITIVE: u8 = 0x40;
    pub const PARTIAL: u8 = 0x20;
    pub const EXTENDED_LENGTH: u8 = 0x10;
}

/// Everything an UPDATE says about its routes, the next hop of MP_REACH_NLRI included.
///
/// Lists are kept in the order received, without duplicates. Equality is what makes two routes share one interned set.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct PathAttributes {
    /// ORIGIN (RFC 4271 section 5.1.1).
    pub origin: Origin,
    /// AS_PATH (section 5.1.2), 4-octet numbers.
    pub as_path: AsPath,
    /// Next hop of MP_REACH_NLRI: for EVPN the VTEP.
    pub next_hop: IpAddr,
    /// MULTI_EXIT_DISC (section 5.1.4).
    pub med: Option<u32>,
    /// LOCAL_PREF (section 5.1.5).
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE (section 5.1.6).
    pub atomic_aggregate: bool,
    /// AGGREGATOR (section 5.1.7).
    pub aggregator: Option<(Asn, Ipv4Addr)>,
    /// COMMUNITIES (RFC 1997).
    pub communities: SmallVec<[u32; 2]>,
    /// EXTENDED COMMUNITIES (RFC 4360).
    pub extended_communities: SmallVec<[ExtendedCommunity; 4]>,
    /// IPv6 address specific extended communities (RFC 5701).
    pub ipv6_extended_communities: Vec<[u8; 20]>,
    /// LARGE_COMMUNITY (RFC 8092).
    pub large_communities: Vec<[u32; 3]>,
    /// ORIGINATOR_ID (RFC 4456).
    pub originator_id: Option<RouterId>,
    /// CLUSTER_LIST (RFC 4456), nearest cluster first.
    pub cluster_list: SmallVec<[u32; 2]>,
    /// PMSI_TUNNEL (RFC 6514 section 5).
    pub pmsi_tunnel: Option<PmsiTunnel>,
    /// Optional transitive attributes that are not understood, in type order, to be passed along with the Partial bit.
    pub unknown: Vec<UnknownAttribute>,
    /// Which of the attributes that are understood came with the Partial bit.
    pub partial: PartialAttributes,
}

impl PathAttributes {
    /// A set with the mandatory attributes only.
    pub fn new(next_hop: IpAddr) -> Self {
        Self {
            origin: Origin::Igp,
            as_path: AsPath::default(),
            next_hop,
            med: None,
            local_pref: None,
            atomic_aggregate: false,
            aggregator: None,
            communities: SmallVec::new(),
            extended_communities: SmallVec::new(),
            ipv6_extended_communities: Vec::new(),
            large_communities: Vec::new(),
            originator_id: None,
            cluster_list: SmallVec::new(),
            pmsi_tunnel: None,
            unknown: Vec::new(),
            partial: PartialAttributes::default(),
        }
    }

    /// The route targets among the extended communities.
    pub fn route_targets(&self) -> impl Iterator<Item = RouteTarget> + '_ {
        self.extended_communities.iter().filter_map(|community| RouteTarget::from_community(*community))
    }

    /// Whether the route's sender is gone and a helper keeps it for the long term (RFC 9494 section 3.3): it is the least
    /// preferred.
    pub fn is_long_lived_stale(&self) -> bool {
        self.communities.contains(&community::LLGR_STALE)
    }

    /// The MAC mobility of the route (RFC 7432 section 7.7): the highest sequence where a peer sent several.
    pub fn mac_mobility(&self) -> MacMobility {
        self.extended_communities
            .iter()
            .filter_map(|community| community.as_mac_mobility())
            .max_by_key(|mobility| (mobility.sticky, mobility.sequence))
            .unwrap_or_default()
    }
}

/// Type codes below 64 that carry the Partial bit: a speaker on the way has not understood them, which nobody after it
/// may deny (RFC 4271 section 5).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct PartialAttributes(u64);

impl PartialAttributes {
    /// Adds an attribute by its type code.
    pub(crate) fn insert(&mut self, code: u8) {
        self.0 |= 1_u64.checked_shl(u32::from(code)).unwrap_or(0);
    }

    /// Whether the attribute with this type code is partial.
    pub fn contains(self, code: u8) -> bool {
        self.0 & 1_u64.checked_shl(u32::from(code)).unwrap_or(0) != 0
    }
}

/// ORIGIN values, best first.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Origin {
    /// Interior to the originating AS.
    Igp,
    /// Learned by EGP.
    Egp,
    /// Any other means.
    Incomplete,
}

/// AS_PATH: segments, nearest AS first.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct AsPath {
    /// The segments in wire order.
    pub segments: SmallVec<[AsSegment; 1]>,
}

/// One segment of an AS_PATH. AS_SET and confederation segments are refused when decoded (RFC 9774, RFC 5065), so a
/// segment is always a sequence.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct AsSegment(pub Vec<Asn>);

impl AsPath {
    /// Number of AS numbers, as best path counts them (RFC 4271 section 9.1.2.2 a).
    pub fn len(&self) -> usize {
        self.segments.iter().map(|segment| segment.0.len()).sum()
    }

    /// Whether the path is empty: the route began in this AS.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The neighbour AS, if any.
    pub fn first(&self) -> Option<Asn> {
        self.iter().next()
    }

    /// All numbers, nearest first.
    pub fn iter(&self) -> impl Iterator<Item = Asn> + '_ {
        self.segments.iter().flat_map(|segment| segment.0.iter().copied())
    }
}

/// PMSI_TUNNEL (RFC 6514 section 5).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct PmsiTunnel {
    /// Flags octet.
    pub flags: u8,
    /// The VNI, unshifted.
    pub label: Label,
    /// The tunnel.
    pub tunnel: Tunnel,
}

/// The tunnels a PMSI attribute can name.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Tunnel {
    /// Type 6: the endpoint that wants a copy of every flooded frame.
    IngressReplication(IpAddr),
    /// Another type, carried as it is.
    Other {
        /// Tunnel type code.
        tunnel_type: u8,
        /// Tunnel identifier.
        identifier: Bytes,
    },
}

/// An optional transitive attribute that is passed along.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct UnknownAttribute {
    /// Attribute type code.
    pub code: u8,
    /// Its octets.
    pub value: Bytes,
}
