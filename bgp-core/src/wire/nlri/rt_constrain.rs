//! Route target membership NLRI (RFC 4684 section 4): a length in bits, then that much of origin AS and route target.

use bytes::{BufMut, BytesMut};

use super::multiprotocol::Unreadable;
use super::{RtConstrain, RtMembership, WireNlri};
use crate::types::{Asn, ExtendedCommunity, RouteTarget};
use crate::wire::context::{DecodeContext, EvpnErrors};
use crate::wire::error::Malformed;
use crate::wire::findings::Findings;
use crate::wire::message::Treatment;
use crate::wire::reader::Reader;
use crate::wire::rules;

/// Bits of the origin AS, which is there whole or not at all.
const ORIGIN_BITS: u8 = 32;
/// Bits of the route target.
const TARGET_BITS: u8 = 64;

/// Reads the NLRI of either multiprotocol attribute.
pub(crate) fn decode(
    field: &[u8],
    ctx: &DecodeContext,
    attribute: u8,
    findings: &mut Findings,
) -> Result<Vec<RtMembership>, Unreadable> {
    let mut memberships = Vec::new();
    let mut reader = Reader::new(field);
    while let Some(bits) = reader.u8() {
        if bits > ORIGIN_BITS + TARGET_BITS {
            return Err(Unreadable(rules::RT_MEMBERSHIP_LENGTH));
        }
        let octets = reader.take(usize::from(bits.div_ceil(8))).ok_or(Unreadable(rules::RT_MEMBERSHIP_FRAMING))?;
        match membership(bits, octets) {
            Some(membership) => memberships.push(membership),
            None if ctx.evpn_errors == EvpnErrors::Strict => return Err(Unreadable(rules::RT_MEMBERSHIP_LENGTH)),
            None => {
                let malformed = Malformed { treatment: Treatment::WithdrawRoute, rule: rules::RT_MEMBERSHIP_LENGTH };
                findings.add(malformed, Some(attribute));
            }
        }
    }
    Ok(memberships)
}

/// `None` where the origin AS is cut.
fn membership(bits: u8, octets: &[u8]) -> Option<RtMembership> {
    if bits == 0 {
        return Some(RtMembership::Default);
    }
    let target_bits = bits.checked_sub(ORIGIN_BITS)?;
    let mut reader = Reader::new(octets);
    let origin = Asn(reader.u32()?);
    let mut target = [0; 8];
    for (slot, octet) in target.iter_mut().zip(reader.rest()) {
        *slot = *octet;
    }
    let mask = u64::MAX.checked_shl(u32::from(TARGET_BITS - target_bits)).unwrap_or(0);
    let target = (u64::from_be_bytes(target) & mask).to_be_bytes();
    Some(match RouteTarget::from_community(ExtendedCommunity(target)) {
        Some(target) if target_bits == TARGET_BITS => RtMembership::Target { origin, target },
        _ => RtMembership::Prefix { origin, target, bits: target_bits },
    })
}

impl WireNlri for RtConstrain {
    fn encode(key: &RtMembership, _payload: &(), out: &mut BytesMut) {
        Self::encode_withdrawal(key, out);
    }

    fn encode_withdrawal(key: &RtMembership, out: &mut BytesMut) {
        let (origin, target, bits) = match *key {
            RtMembership::Default => return out.put_u8(0),
            RtMembership::Target { origin, target } => (origin, target.community().0, TARGET_BITS),
            RtMembership::Prefix { origin, target, bits } => (origin, target, bits.min(TARGET_BITS)),
        };
        out.put_u8(ORIGIN_BITS + bits);
        out.put_u32(origin.0);
        out.extend(target.iter().take(usize::from(bits.div_ceil(8))));
    }
}
