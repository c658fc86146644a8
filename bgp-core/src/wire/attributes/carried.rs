//! Attributes that are passed along without being understood, and the checks that keep a damaged one from travelling.
//!
//! An attribute that one speaker carries and the next one resets on takes down sessions far from its source. What has
//! a known structure is therefore checked before it is carried, though nothing here uses it.

use super::code;
use crate::wire::error::Malformed;
use crate::wire::reader::Reader;
use crate::wire::rules;

/// Most TLVs of a tunnel encapsulation attribute: a route offers a few tunnels, not thousands.
const MAX_TUNNELS: usize = 1_024;
/// First sub-TLV type whose length has two octets (RFC 9012 section 2).
const WIDE_SUB_TLV: u8 = 128;

/// Checks the value of a carried attribute; codes without a known structure pass.
pub(super) fn check(code: u8, value: &[u8]) -> Result<(), Malformed> {
    match code {
        code::TUNNEL_ENCAPSULATION => tunnel_encapsulation(value),
        // RFC 6790 gave it no value, and RFC 7447 withdrew it.
        code::ENTROPY_LABEL if !value.is_empty() => Err(Malformed::discard(rules::ENTROPY_LABEL_LENGTH)),
        code::ONLY_TO_CUSTOMER => match value {
            [_, _, _, _] if value != [0; 4] => Ok(()),
            [_, _, _, _] => Err(Malformed::withdraw(rules::OTC_ZERO)),
            _ => Err(Malformed::withdraw(rules::OTC_LENGTH)),
        },
        code::NEXT_HOP_CHARACTERISTICS => next_hop_characteristics(value),
        code::PREFIX_SID => prefix_sid(value).ok_or(Malformed::discard(rules::PREFIX_SID_LENGTH)),
        _ => Ok(()),
    }
}

/// RFC 9012 section 2. TLVs that cannot be told apart make the routes unreliable; sub-TLVs that cannot be told apart
/// concern their tunnel alone, but would be carried on, so the attribute is dropped.
fn tunnel_encapsulation(value: &[u8]) -> Result<(), Malformed> {
    let mut reader = Reader::new(value);
    if reader.is_empty() {
        return Err(Malformed::discard(rules::TUNNEL_ENCAPSULATION_EMPTY));
    }
    let mut inner_damaged = false;
    let mut tunnels = 0_usize;
    while !reader.is_empty() {
        let tlv = reader.u16().and_then(|_tunnel_type| reader.prefixed_u16());
        let Some(sub_tlvs) = tlv else {
            return Err(Malformed::withdraw(rules::TUNNEL_ENCAPSULATION_LENGTH));
        };
        inner_damaged |= tunnel_sub_tlvs(sub_tlvs).is_none();
        tunnels = tunnels.saturating_add(1);
    }
    if inner_damaged {
        return Err(Malformed::discard(rules::TUNNEL_ENCAPSULATION_SUB_TLV));
    }
    if tunnels > MAX_TUNNELS {
        return Err(Malformed::discard(rules::TUNNEL_ENCAPSULATION_COUNT));
    }
    Ok(())
}

fn tunnel_sub_tlvs(mut reader: Reader<'_>) -> Option<()> {
    while !reader.is_empty() {
        if reader.u8()? < WIDE_SUB_TLV {
            reader.prefixed_u8()?;
        } else {
            reader.prefixed_u16()?;
        }
    }
    Some(())
}

/// AFI, SAFI, next hop, then TLVs with a code and a length of two octets each.
fn next_hop_characteristics(value: &[u8]) -> Result<(), Malformed> {
    let parse = || {
        let mut reader = Reader::new(value);
        let [_afi_high, _afi_low, _safi] = reader.array()?;
        let _next_hop = reader.prefixed_u8()?;
        while !reader.is_empty() {
            let _code = reader.u16()?;
            let _value = reader.prefixed_u16()?;
        }
        Some(())
    };
    parse().ok_or(Malformed::discard(rules::NEXT_HOP_CHARACTERISTICS_LENGTH))
}

/// RFC 8669 section 3: TLVs with a type of one and a length of two octets.
fn prefix_sid(value: &[u8]) -> Option<()> {
    let mut reader = Reader::new(value);
    while !reader.is_empty() {
        let _kind = reader.u8()?;
        let _value = reader.prefixed_u16()?;
    }
    Some(())
}
