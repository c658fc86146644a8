//! Writing path attributes: once per set, shared by all messages and peers that carry it.

use std::net::{IpAddr, Ipv4Addr};

use bytes::{BufMut, Bytes, BytesMut};

use super::as_path::{AsWidth, is_wide};
use super::{Origin, PartialAttributes, PathAttributes, PmsiTunnel, Tunnel, UnknownAttribute, code, flag};
use crate::types::Asn;
use crate::wire::context::EncodeContext;

/// PMSI tunnel type of ingress replication (RFC 6514 section 5).
const INGRESS_REPLICATION: u8 = 6;
const WELL_KNOWN: u8 = flag::TRANSITIVE;
const OPTIONAL_TRANSITIVE: u8 = flag::OPTIONAL | flag::TRANSITIVE;
const OPTIONAL_NON_TRANSITIVE: u8 = flag::OPTIONAL;

/// Path attributes as they stand behind MP_REACH_NLRI, in ascending type order, and the next hop that goes into it.
///
/// The octets depend on the attributes and on [`EncodeContext::four_octet_as`] only. Cloning shares them.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct EncodedAttributes {
    octets: Bytes,
    next_hop: IpAddr,
}

impl EncodedAttributes {
    /// Encodes `attributes` for peers of `ctx`.
    pub fn new(attributes: &PathAttributes, ctx: &EncodeContext) -> Self {
        let mut writer =
            Writer { out: BytesMut::with_capacity(128), unknown: &attributes.unknown, partial: attributes.partial };
        writer.all(attributes, ctx);
        Self { octets: writer.out.freeze(), next_hop: attributes.next_hop }
    }

    /// The encoded attributes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.octets
    }

    /// Octets of the encoded attributes.
    pub fn len(&self) -> usize {
        self.octets.len()
    }

    /// Whether there are none, which a valid announcement never has.
    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// The next hop of MP_REACH_NLRI.
    pub fn next_hop(&self) -> IpAddr {
        self.next_hop
    }
}

struct Writer<'a> {
    out: BytesMut,
    /// Carried attributes not yet written, by ascending code.
    unknown: &'a [UnknownAttribute],
    partial: PartialAttributes,
}

impl Writer<'_> {
    fn all(&mut self, attributes: &PathAttributes, ctx: &EncodeContext) {
        let width = if ctx.four_octet_as { AsWidth::Four } else { AsWidth::Two };
        let origin = match attributes.origin {
            Origin::Igp => 0,
            Origin::Egp => 1,
            Origin::Incomplete => 2,
        };
        self.header(WELL_KNOWN, code::ORIGIN, 1).put_u8(origin);
        let path_length = attributes.as_path.encoded_length(width);
        attributes.as_path.encode(width, self.header(WELL_KNOWN, code::AS_PATH, path_length));
        if let Some(med) = attributes.med {
            self.header(OPTIONAL_NON_TRANSITIVE, code::MULTI_EXIT_DISC, 4).put_u32(med);
        }
        if let Some(local_pref) = attributes.local_pref {
            self.header(WELL_KNOWN, code::LOCAL_PREF, 4).put_u32(local_pref);
        }
        if attributes.atomic_aggregate {
            self.header(WELL_KNOWN, code::ATOMIC_AGGREGATE, 0);
        }
        if let Some(aggregator) = attributes.aggregator {
            self.aggregator(code::AGGREGATOR, aggregator, width);
        }
        self.list(OPTIONAL_TRANSITIVE, code::COMMUNITIES, &attributes.communities, |value| value.to_be_bytes());
        if let Some(originator) = attributes.originator_id {
            self.header(OPTIONAL_NON_TRANSITIVE, code::ORIGINATOR_ID, 4).put_u32(originator.0);
        }
        self.list(OPTIONAL_NON_TRANSITIVE, code::CLUSTER_LIST, &attributes.cluster_list, |id| id.to_be_bytes());
        self.list(OPTIONAL_TRANSITIVE, code::EXTENDED_COMMUNITIES, &attributes.extended_communities, |community| {
            community.0
        });
        if width == AsWidth::Two {
            self.as4(attributes);
        }
        if let Some(pmsi) = &attributes.pmsi_tunnel {
            self.pmsi_tunnel(pmsi);
        }
        self.list(
            OPTIONAL_TRANSITIVE,
            code::IPV6_EXTENDED_COMMUNITIES,
            &attributes.ipv6_extended_communities,
            |community| *community,
        );
        self.list(OPTIONAL_TRANSITIVE, code::LARGE_COMMUNITY, &attributes.large_communities, large_community);
        self.unknown_below(None);
    }

    /// AS4_PATH and AS4_AGGREGATOR, where a 2-octet peer could not see a number otherwise (RFC 6793 section 4.2.2).
    fn as4(&mut self, attributes: &PathAttributes) {
        if attributes.as_path.iter().any(is_wide) {
            let length = attributes.as_path.encoded_length(AsWidth::Four);
            attributes.as_path.encode(AsWidth::Four, self.header(OPTIONAL_TRANSITIVE, code::AS4_PATH, length));
        }
        if let Some(aggregator) = attributes.aggregator.filter(|(asn, _)| is_wide(*asn)) {
            self.aggregator(code::AS4_AGGREGATOR, aggregator, AsWidth::Four);
        }
    }

    fn aggregator(&mut self, code: u8, (asn, address): (Asn, Ipv4Addr), width: AsWidth) {
        let out = self.header(OPTIONAL_TRANSITIVE, code, width.octets() + 4);
        width.write(asn, out);
        out.put_u32(address.into());
    }

    fn pmsi_tunnel(&mut self, pmsi: &PmsiTunnel) {
        let mut identifier = [0; 16];
        let (tunnel_type, identifier) = match &pmsi.tunnel {
            Tunnel::IngressReplication(endpoint) => (INGRESS_REPLICATION, address_octets(*endpoint, &mut identifier)),
            Tunnel::Other { tunnel_type, identifier } => (*tunnel_type, &**identifier),
        };
        let out = self.header(OPTIONAL_TRANSITIVE, code::PMSI_TUNNEL, identifier.len() + 5);
        out.put_u8(pmsi.flags);
        out.put_u8(tunnel_type);
        out.put_slice(&pmsi.label.0);
        out.put_slice(identifier);
    }

    /// A list attribute, or nothing if the list is empty.
    fn list<T, const N: usize>(&mut self, flags: u8, code: u8, list: &[T], octets: impl Fn(&T) -> [u8; N]) {
        if list.is_empty() {
            return;
        }
        let out = self.header(flags, code, list.len().saturating_mul(N));
        for element in list {
            out.put_slice(&octets(element));
        }
    }

    /// Writes the carried attributes that come before `code`, or all that are left.
    fn unknown_below(&mut self, code: Option<u8>) {
        while let Some((first, rest)) = self.unknown.split_first() {
            if code.is_some_and(|code| first.code >= code) {
                break;
            }
            self.unknown = rest;
            put_header(OPTIONAL_TRANSITIVE | flag::PARTIAL, first.code, first.value.len(), &mut self.out);
            self.out.put_slice(&first.value);
        }
    }

    /// Writes a header in its place in the order, and hands out the buffer for `length` octets of value.
    fn header(&mut self, flags: u8, code: u8, length: usize) -> &mut BytesMut {
        self.unknown_below(Some(code));
        let partial = if self.partial.contains(code) { flag::PARTIAL } else { 0 };
        put_header(flags | partial, code, length, &mut self.out);
        &mut self.out
    }
}

/// Flags, code and a length of one octet if it fits, else of two. A value beyond 65,535 octets fits no message, which
/// is found when one is filled.
fn put_header(flags: u8, code: u8, length: usize, out: &mut BytesMut) {
    if let Ok(length) = u8::try_from(length) {
        out.put_slice(&[flags, code, length]);
    } else {
        out.put_slice(&[flags | flag::EXTENDED_LENGTH, code]);
        out.put_u16(u16::try_from(length).unwrap_or(u16::MAX));
    }
}

fn large_community(community: &[u32; 3]) -> [u8; 12] {
    let mut octets = [0; 12];
    for (slot, number) in octets.as_chunks_mut::<4>().0.iter_mut().zip(community) {
        *slot = number.to_be_bytes();
    }
    octets
}

/// The octets of an address, in `space`.
fn address_octets(address: IpAddr, space: &mut [u8; 16]) -> &[u8] {
    match address {
        IpAddr::V4(address) => {
            let [first, ..] = space.as_chunks_mut::<4>().0 else {
                return &[];
            };
            *first = address.octets();
            first
        }
        IpAddr::V6(address) => {
            *space = address.octets();
            space
        }
    }
}
