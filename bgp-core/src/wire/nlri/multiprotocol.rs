//! MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 4760): the fields around the NLRI, and which decoder reads them.

use std::net::IpAddr;

use super::{Evpn, Nlri, Route, RtConstrain, evpn, rt_constrain};
use crate::rule::Rule;
use crate::types::{AddressFamily, ExtendedCommunity};
use crate::wire::attributes::code;
use crate::wire::context::DecodeContext;
use crate::wire::findings::Findings;
use crate::wire::message::{Routes, Unreach};
use crate::wire::reader::Reader;
use crate::wire::rules;

/// NLRI that cannot be located or must not be contained, with the rule that it breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Unreadable(pub Rule);

/// What one MP_REACH_NLRI said.
#[derive(Debug)]
pub(crate) struct Announced<N: Nlri> {
    pub routes: Vec<Route<N>>,
    /// Identities of the routes that have to be withdrawn instead.
    pub withdrawn: Vec<N::Key>,
}

/// The family that an attribute speaks of, if so much of it is there.
pub(crate) fn family(value: &[u8]) -> Option<AddressFamily> {
    match value {
        [a, b, safi, ..] => Some(AddressFamily { afi: u16::from_be_bytes([*a, *b]), safi: *safi }),
        _ => None,
    }
}

/// Whether an MP_REACH_NLRI, readable or not, has anything where the NLRI should be.
pub(crate) fn has_reachable(value: &[u8]) -> bool {
    split_reach(value).is_some_and(|(_, nlri)| !nlri.is_empty())
}

/// Next hop and NLRI of an MP_REACH_NLRI (RFC 4760 section 3). The reserved octet is not looked at.
fn split_reach(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut reader = Reader::new(value);
    let [_, _, _] = reader.array()?;
    let next_hop = reader.prefixed_u8()?.rest();
    let _reserved = reader.u8()?;
    Some((next_hop, reader.rest()))
}

/// Reads the MP_REACH_NLRI of a family that was negotiated; `None` if it is one that this implementation cannot read.
pub(crate) fn decode_reach(
    family: AddressFamily,
    value: &[u8],
    ctx: &DecodeContext,
    communities: &[ExtendedCommunity],
    findings: &mut Findings,
) -> Result<Option<(IpAddr, Routes, Unreach)>, Unreadable> {
    let (next_hop, nlri) = split_reach(value).ok_or(Unreadable(rules::MP_REACH_LENGTH))?;
    let next_hop = decode_next_hop(next_hop).ok_or(Unreadable(rules::MP_REACH_NEXT_HOP_LENGTH))?;
    Ok(match family {
        AddressFamily::EVPN => {
            let Announced { mut routes, withdrawn } = evpn::decode_routes(nlri, ctx, communities, findings)?;
            without::<Evpn>(&mut routes, &withdrawn);
            Some((next_hop, Routes::Evpn(routes), Unreach::Evpn(withdrawn)))
        }
        AddressFamily::RT_CONSTRAIN => {
            let keys = rt_constrain::decode(nlri, ctx, code::MP_REACH_NLRI, findings)?;
            let routes = keys.into_iter().map(|key| Route::<RtConstrain> { key, payload: () }).collect();
            Some((next_hop, Routes::RtConstrain(routes), Unreach::RtConstrain(Vec::new())))
        }
        _ => None,
    })
}

/// Reads the MP_UNREACH_NLRI of a family that was negotiated; `None` if it is one that this implementation cannot read.
pub(crate) fn decode_unreach(
    family: AddressFamily,
    value: &[u8],
    ctx: &DecodeContext,
    findings: &mut Findings,
) -> Result<Option<Unreach>, Unreadable> {
    let nlri = value.get(3..).ok_or(Unreadable(rules::MP_UNREACH_LENGTH))?;
    Ok(match family {
        AddressFamily::EVPN => Some(Unreach::Evpn(evpn::decode_keys(nlri, ctx, findings)?)),
        AddressFamily::RT_CONSTRAIN => {
            Some(Unreach::RtConstrain(rt_constrain::decode(nlri, ctx, code::MP_UNREACH_NLRI, findings)?))
        }
        _ => None,
    })
}

/// An IPv4 or IPv6 address. Of a global and a link-local one together (RFC 2545 section 3) the global one.
fn decode_next_hop(octets: &[u8]) -> Option<IpAddr> {
    let mut reader = Reader::new(octets);
    match octets.len() {
        4 => reader.array::<4>().map(|octets| IpAddr::V4(octets.into())),
        16 | 32 => reader.array::<16>().map(|octets| IpAddr::V6(octets.into())),
        _ => None,
    }
}

/// Removes the routes whose identity also came in a malformed form: of the two, the careful reading counts.
fn without<N: Nlri>(routes: &mut Vec<Route<N>>, withdrawn: &[N::Key]) {
    if withdrawn.is_empty() {
        return;
    }
    let keys: std::collections::BTreeSet<&N::Key> = withdrawn.iter().collect();
    routes.retain(|route| !keys.contains(&route.key));
}
