//! EVPN NLRI (RFC 7432 section 7, RFC 9136 section 3.1): route type, length, body.
//!
//! The length octet locates the next NLRI whatever the body holds. A body is judged in two steps: its structure, which
//! a withdrawal has too, and its meaning, which only an announcement has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::{BufMut, BytesMut};
use ipnet::IpNet;

use super::multiprotocol::{Announced, Unreadable};
use super::{Evpn, EvpnKey, EvpnPayload, Route, WireNlri};
use crate::rule::Rule;
use crate::types::{EthernetSegmentId, EthernetTag, ExtendedCommunity, Label, MacAddr, RouteDistinguisher};
use crate::wire::attributes::code;
use crate::wire::context::{DecodeContext, EvpnErrors};
use crate::wire::error::Malformed;
use crate::wire::findings::Findings;
use crate::wire::message::Treatment;
use crate::wire::reader::Reader;
use crate::wire::rules;

const RESERVED: u8 = 0;
const ETHERNET_AUTO_DISCOVERY: u8 = 1;
const MAC_IP: u8 = 2;
const INCLUSIVE_MULTICAST: u8 = 3;
const ETHERNET_SEGMENT: u8 = 4;
const IP_PREFIX: u8 = 5;
/// Bits of a MAC address, as the length octet of a type 2 says.
const MAC_BITS: u8 = 48;
/// Octets of a common type 2 with its header, to size lists.
const TYPICAL_LENGTH: usize = 35;

/// A body whose structure is wrong.
#[derive(Debug, Eq, PartialEq)]
struct BadBody {
    /// The identity, if it could be read.
    key: Option<EvpnKey>,
    rule: Rule,
}

impl BadBody {
    const fn anonymous(rule: Rule) -> Self {
        Self { key: None, rule }
    }
}

/// Reads the NLRI of an MP_REACH_NLRI that came with `communities`.
pub(crate) fn decode_routes(
    field: &[u8],
    ctx: &DecodeContext,
    communities: &[ExtendedCommunity],
    findings: &mut Findings,
) -> Result<Announced<Evpn>, Unreadable> {
    let mut routes = Vec::with_capacity(field.len() / TYPICAL_LENGTH + 1);
    let mut withdrawn = Vec::new();
    let mut reader = Reader::new(field);
    while !reader.is_empty() {
        match next(&mut reader, ctx, code::MP_REACH_NLRI, findings)? {
            None => {}
            Some(Err(bad)) => withdrawn.extend(bad.key),
            Some(Ok(route)) => match semantic_error(&route, communities) {
                None => {
                    if let Some(rule) = oddity(&route) {
                        findings.add(Malformed::note(rule), Some(code::MP_REACH_NLRI));
                    }
                    routes.push(route);
                }
                Some(rule) => {
                    let malformed = Malformed { treatment: Treatment::WithdrawRoute, rule };
                    findings.add(malformed, Some(code::MP_REACH_NLRI));
                    withdrawn.push(route.key);
                }
            },
        }
    }
    Ok(Announced { routes, withdrawn })
}

/// Reads the NLRI of an MP_UNREACH_NLRI.
pub(crate) fn decode_keys(
    field: &[u8],
    ctx: &DecodeContext,
    findings: &mut Findings,
) -> Result<Vec<EvpnKey>, Unreadable> {
    let mut keys = Vec::with_capacity(field.len() / TYPICAL_LENGTH + 1);
    let mut reader = Reader::new(field);
    while !reader.is_empty() {
        match next(&mut reader, ctx, code::MP_UNREACH_NLRI, findings)? {
            None => {}
            Some(Err(bad)) => keys.extend(bad.key),
            Some(Ok(route)) => keys.push(route.key),
        }
    }
    Ok(keys)
}

/// Reads the structure of one NLRI; `None` for a type that is skipped.
fn next(
    reader: &mut Reader<'_>,
    ctx: &DecodeContext,
    attribute: u8,
    findings: &mut Findings,
) -> Result<Option<Result<Route<Evpn>, BadBody>>, Unreadable> {
    let framed = reader.u8().zip(reader.prefixed_u8());
    let (route_type, mut body) = framed.ok_or(Unreadable(rules::EVPN_FRAMING))?;
    let parsed = match route_type {
        ETHERNET_AUTO_DISCOVERY => ethernet_auto_discovery(body),
        MAC_IP => mac_ip(body),
        INCLUSIVE_MULTICAST => inclusive_multicast(body),
        ETHERNET_SEGMENT => ethernet_segment(body),
        IP_PREFIX => ip_prefix(body),
        // The first half of a small path identifier (RFC 7911), which was not negotiated: no frame can be trusted.
        RESERVED if body.is_empty() => return Err(Unreadable(rules::EVPN_PATH_IDENTIFIER)),
        _ if ctx.opaque_routes => {
            let key = EvpnKey::Opaque { route_type, body: body.rest().into() };
            Ok(Route { key, payload: EvpnPayload::Opaque })
        }
        _ => {
            let unknown = Malformed { treatment: Treatment::SkipRoute, rule: rules::EVPN_ROUTE_TYPE };
            findings.add(unknown, Some(attribute));
            return Ok(None);
        }
    };
    if let Err(BadBody { rule, .. }) = &parsed {
        match ctx.evpn_errors {
            EvpnErrors::Strict => return Err(Unreadable(*rule)),
            EvpnErrors::Contain => {
                findings.add(Malformed { treatment: Treatment::WithdrawRoute, rule: *rule }, Some(attribute));
            }
        }
    }
    Ok(Some(parsed))
}

/// Why a well-formed route must not be announced.
fn semantic_error(route: &Route<Evpn>, communities: &[ExtendedCommunity]) -> Option<Rule> {
    match (&route.key, &route.payload) {
        // Linux reads an all-zero MAC in the VXLAN FDB as the flood list, and appends to multicast MACs.
        (EvpnKey::MacIp { mac, .. }, _) if *mac == MacAddr::ZERO => Some(rules::EVPN_MAC_ZERO),
        (EvpnKey::MacIp { mac, .. }, _) if mac.is_multicast() => Some(rules::EVPN_MAC_MULTICAST),
        (EvpnKey::MacIp { .. }, EvpnPayload::MacIp { label, .. }) if label.vni().is_none() => {
            Some(rules::EVPN_VNI_ZERO)
        }
        (EvpnKey::IpPrefix { .. }, EvpnPayload::IpPrefix { esi, gateway, label }) => {
            let has_esi = *esi != EthernetSegmentId::default();
            let has_gateway = !gateway.is_unspecified();
            let mut router_macs = communities.iter().filter_map(|community| community.router_mac());
            if router_macs.clone().any(|mac| !mac.is_unicast()) {
                Some(rules::EVPN_ROUTER_MAC)
            } else if has_esi && has_gateway {
                Some(rules::EVPN_TWO_OVERLAY_INDEXES)
            } else if label.vni().is_none() && !has_esi && !has_gateway && router_macs.next().is_none() {
                Some(rules::EVPN_NO_OVERLAY_INDEX)
            } else {
                None
            }
        }
        _ => None,
    }
}

/// What is odd about a route that may be announced all the same.
fn oddity(route: &Route<Evpn>) -> Option<Rule> {
    match (&route.key, &route.payload) {
        (EvpnKey::EthernetAutoDiscovery { esi, .. }, _)
            if *esi == EthernetSegmentId::default() || *esi == EthernetSegmentId::RESERVED =>
        {
            Some(rules::EVPN_AD_SEGMENT)
        }
        (EvpnKey::EthernetAutoDiscovery { tag, .. }, EvpnPayload::EthernetAutoDiscovery { label })
            if *tag == EthernetTag::WHOLE_SEGMENT && *label != Label::default() =>
        {
            Some(rules::EVPN_AD_LABEL)
        }
        _ => None,
    }
}

/// RFC 7432 section 7.1: RD, ESI, tag, label.
fn ethernet_auto_discovery(mut body: Reader<'_>) -> Result<Route<Evpn>, BadBody> {
    let parse = |body: &mut Reader<'_>| {
        let rd = RouteDistinguisher(body.array()?);
        let esi = EthernetSegmentId(body.array()?);
        Some(EvpnKey::EthernetAutoDiscovery { rd, esi, tag: EthernetTag(body.u32()?) })
    };
    let key = parse(&mut body).ok_or(BadBody::anonymous(rules::EVPN_ROUTE_LENGTH))?;
    match body.array() {
        Some(label) if body.is_empty() => {
            Ok(Route { key, payload: EvpnPayload::EthernetAutoDiscovery { label: Label(label) } })
        }
        _ => Err(BadBody { key: Some(key), rule: rules::EVPN_ROUTE_LENGTH }),
    }
}

/// RFC 7432 section 7.2: RD, ESI, tag, MAC, IP, one or two labels.
fn mac_ip(mut body: Reader<'_>) -> Result<Route<Evpn>, BadBody> {
    const LENGTH: BadBody = BadBody::anonymous(rules::EVPN_ROUTE_LENGTH);
    let rd = RouteDistinguisher(body.array().ok_or(LENGTH)?);
    let esi = EthernetSegmentId(body.array().ok_or(LENGTH)?);
    let tag = EthernetTag(body.u32().ok_or(LENGTH)?);
    if body.u8().ok_or(LENGTH)? != MAC_BITS {
        return Err(BadBody::anonymous(rules::EVPN_MAC_LENGTH));
    }
    let mac = MacAddr(body.array().ok_or(LENGTH)?);
    let ip = match body.u8().ok_or(LENGTH)? {
        0 => None,
        32 => Some(IpAddr::V4(Ipv4Addr::from(body.array::<4>().ok_or(LENGTH)?))),
        128 => Some(IpAddr::V6(Ipv6Addr::from(body.array::<16>().ok_or(LENGTH)?))),
        _ => return Err(BadBody::anonymous(rules::EVPN_IP_LENGTH)),
    };
    let key = EvpnKey::MacIp { rd, tag, mac, ip };
    let labels = match *body.rest() {
        [a, b, c] => (Label([a, b, c]), None),
        [a, b, c, d, e, f] => (Label([a, b, c]), Some(Label([d, e, f]))),
        _ => return Err(BadBody { key: Some(key), rule: rules::EVPN_ROUTE_LENGTH }),
    };
    let (label, label2) = labels;
    Ok(Route { key, payload: EvpnPayload::MacIp { esi, label, label2 } })
}

/// RFC 7432 section 7.3: RD, tag, originator.
fn inclusive_multicast(mut body: Reader<'_>) -> Result<Route<Evpn>, BadBody> {
    let parse =
        |body: &mut Reader<'_>| Some((RouteDistinguisher(body.array()?), EthernetTag(body.u32()?), originator(body)?));
    let (rd, tag, originator) = parse(&mut body).ok_or(BadBody::anonymous(rules::EVPN_ORIGINATOR_LENGTH))?;
    let key = EvpnKey::InclusiveMulticast { rd, tag, originator };
    complete(body, key, EvpnPayload::InclusiveMulticast)
}

/// RFC 7432 section 7.4: RD, ESI, originator.
fn ethernet_segment(mut body: Reader<'_>) -> Result<Route<Evpn>, BadBody> {
    let parse = |body: &mut Reader<'_>| {
        Some((RouteDistinguisher(body.array()?), EthernetSegmentId(body.array()?), originator(body)?))
    };
    let (rd, esi, originator) = parse(&mut body).ok_or(BadBody::anonymous(rules::EVPN_ORIGINATOR_LENGTH))?;
    complete(body, EvpnKey::EthernetSegment { rd, esi, originator }, EvpnPayload::EthernetSegment)
}

/// An address behind its length in bits.
fn originator(body: &mut Reader<'_>) -> Option<IpAddr> {
    match body.u8()? {
        32 => body.array::<4>().map(|octets| IpAddr::V4(octets.into())),
        128 => body.array::<16>().map(|octets| IpAddr::V6(octets.into())),
        _ => None,
    }
}

/// The route, unless octets are left over.
fn complete(body: Reader<'_>, key: EvpnKey, payload: EvpnPayload) -> Result<Route<Evpn>, BadBody> {
    if body.is_empty() {
        Ok(Route { key, payload })
    } else {
        Err(BadBody { key: Some(key), rule: rules::EVPN_ROUTE_LENGTH })
    }
}

/// RFC 9136 section 3.1: RD, ESI, tag, prefix, gateway, label; the total length tells the address family.
fn ip_prefix(mut body: Reader<'_>) -> Result<Route<Evpn>, BadBody> {
    let is_ipv6 = match body.peek().len() {
        34 => false,
        58 => true,
        _ => return Err(BadBody::anonymous(rules::EVPN_ROUTE_LENGTH)),
    };
    let address = |body: &mut Reader<'_>| {
        Some(if is_ipv6 { IpAddr::V6(body.array::<16>()?.into()) } else { IpAddr::V4(body.array::<4>()?.into()) })
    };
    let parse = |body: &mut Reader<'_>| {
        let rd = RouteDistinguisher(body.array()?);
        let esi = EthernetSegmentId(body.array()?);
        let tag = EthernetTag(body.u32()?);
        let bits = body.u8()?;
        let prefix = IpNet::new(address(body)?, bits).ok();
        let gateway = address(body)?;
        let label = Label(body.array()?);
        Some((rd, tag, prefix, EvpnPayload::IpPrefix { esi, gateway, label }))
    };
    match parse(&mut body) {
        // Host bits carry no meaning, and would make two keys of one prefix.
        Some((rd, tag, Some(prefix), payload)) => {
            Ok(Route { key: EvpnKey::IpPrefix { rd, tag, prefix: prefix.trunc() }, payload })
        }
        Some((.., None, _)) => Err(BadBody::anonymous(rules::EVPN_PREFIX_LENGTH)),
        None => Err(BadBody::anonymous(rules::EVPN_ROUTE_LENGTH)),
    }
}

impl WireNlri for Evpn {
    fn encode(key: &EvpnKey, payload: &EvpnPayload, out: &mut BytesMut) {
        let none = EthernetSegmentId::default();
        match (key, payload) {
            (EvpnKey::EthernetAutoDiscovery { .. }, EvpnPayload::EthernetAutoDiscovery { label }) => {
                put_route(key, none, None, &[*label], out);
            }
            (EvpnKey::MacIp { .. }, EvpnPayload::MacIp { esi, label, label2: None }) => {
                put_route(key, *esi, None, &[*label], out);
            }
            (EvpnKey::MacIp { .. }, EvpnPayload::MacIp { esi, label, label2: Some(label2) }) => {
                put_route(key, *esi, None, &[*label, *label2], out);
            }
            (EvpnKey::IpPrefix { .. }, EvpnPayload::IpPrefix { esi, gateway, label }) => {
                put_route(key, *esi, Some(*gateway), &[*label], out);
            }
            _ => Self::encode_withdrawal(key, out),
        }
    }

    fn encode_withdrawal(key: &EvpnKey, out: &mut BytesMut) {
        put_route(key, EthernetSegmentId::default(), None, &[Label::default()], out);
    }
}

/// Appends one NLRI. What is not part of a type is left out, whatever the arguments say.
fn put_route(key: &EvpnKey, esi: EthernetSegmentId, gateway: Option<IpAddr>, labels: &[Label], out: &mut BytesMut) {
    let header = out.len();
    out.put_slice(&[0, 0]);
    let route_type = match key {
        EvpnKey::EthernetAutoDiscovery { rd, esi, tag } => {
            out.put_slice(&rd.0);
            out.put_slice(&esi.0);
            out.put_u32(tag.0);
            put_labels(labels, out);
            ETHERNET_AUTO_DISCOVERY
        }
        EvpnKey::MacIp { rd, tag, mac, ip } => {
            out.put_slice(&rd.0);
            out.put_slice(&esi.0);
            out.put_u32(tag.0);
            out.put_u8(MAC_BITS);
            out.put_slice(&mac.0);
            match ip {
                None => out.put_u8(0),
                Some(ip) => put_originator(*ip, out),
            }
            put_labels(labels, out);
            MAC_IP
        }
        EvpnKey::InclusiveMulticast { rd, tag, originator } => {
            out.put_slice(&rd.0);
            out.put_u32(tag.0);
            put_originator(*originator, out);
            INCLUSIVE_MULTICAST
        }
        EvpnKey::EthernetSegment { rd, esi, originator } => {
            out.put_slice(&rd.0);
            out.put_slice(&esi.0);
            put_originator(*originator, out);
            ETHERNET_SEGMENT
        }
        EvpnKey::IpPrefix { rd, tag, prefix } => {
            out.put_slice(&rd.0);
            out.put_slice(&esi.0);
            out.put_u32(tag.0);
            out.put_u8(prefix.prefix_len());
            put_prefix_and_gateway(*prefix, gateway, out);
            put_labels(labels, out);
            IP_PREFIX
        }
        EvpnKey::Opaque { route_type, body } => {
            out.extend(body.iter().take(usize::from(u8::MAX)));
            *route_type
        }
    };
    let length = u8::try_from(out.len().saturating_sub(header).saturating_sub(2)).unwrap_or(u8::MAX);
    if let Some([type_field, length_field, ..]) = out.get_mut(header..) {
        *type_field = route_type;
        *length_field = length;
    }
}

fn put_labels(labels: &[Label], out: &mut BytesMut) {
    for label in labels {
        out.put_slice(&label.0);
    }
}

/// An address behind its length in bits.
fn put_originator(address: IpAddr, out: &mut BytesMut) {
    match address {
        IpAddr::V4(address) => {
            out.put_u8(32);
            out.put_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            out.put_u8(128);
            out.put_slice(&address.octets());
        }
    }
}

/// The prefix, then a gateway of the same family; all zeroes where there is none.
fn put_prefix_and_gateway(prefix: IpNet, gateway: Option<IpAddr>, out: &mut BytesMut) {
    match prefix {
        IpNet::V4(prefix) => {
            out.put_slice(&prefix.network().octets());
            let gateway = match gateway {
                Some(IpAddr::V4(gateway)) => gateway,
                _ => Ipv4Addr::UNSPECIFIED,
            };
            out.put_slice(&gateway.octets());
        }
        IpNet::V6(prefix) => {
            out.put_slice(&prefix.network().octets());
            let gateway = match gateway {
                Some(IpAddr::V6(gateway)) => gateway,
                _ => Ipv6Addr::UNSPECIFIED,
            };
            out.put_slice(&gateway.octets());
        }
    }
}
