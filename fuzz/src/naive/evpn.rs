//! EVPN NLRI from RFC 7432 section 7 and RFC 9136 section 3.1, by the offsets of their pictures.

use super::{Attributes, Class, Context, Found, Key};

/// All NLRI of a field; `None` if they cannot be told apart.
pub(super) fn read(mut field: &[u8], context: &Context) -> Option<Vec<Found>> {
    let mut found = Vec::new();
    while !field.is_empty() {
        let length = usize::from(*field.get(1)?);
        let body = field.get(2..2 + length)?;
        found.push(match field[0] {
            1 => ethernet_auto_discovery(body),
            2 => mac_ip(body),
            3 => inclusive_multicast(body),
            4 => ethernet_segment(body),
            5 => ip_prefix(body),
            // Type 0 does not exist; without a body it is how half a path identifier looks (RFC 7911 section 3), and
            // then no length can be believed.
            0 if body.is_empty() => return None,
            other if context.opaque_routes => {
                Found { key: Some([&[other], body].concat()), payload: Vec::new(), class: None }
            }
            // RFC 7606 section 5.4.
            _ => Found { key: None, payload: Vec::new(), class: Some(Class::Skip) },
        });
        field = &field[2 + length..];
    }
    Some(found)
}

fn bad(key: Option<Key>) -> Found {
    Found { key, payload: Vec::new(), class: Some(Class::WithdrawRoute) }
}

fn good(key: Key, payload: Vec<u8>) -> Found {
    Found { key: Some(key), payload, class: None }
}

/// Joins fields, each behind its length.
fn key(route_type: u8, fields: &[&[u8]]) -> Key {
    let mut key = vec![route_type];
    for field in fields {
        key.push(field.len() as u8);
        key.extend_from_slice(field);
    }
    key
}

/// RD (8), ESI (10), tag (4), label (3). The label identifies nothing.
fn ethernet_auto_discovery(body: &[u8]) -> Found {
    if body.len() < 22 {
        return bad(None);
    }
    let key = key(1, &[&body[..8], &body[8..18], &body[18..22]]);
    if body.len() == 25 { good(key, body[22..].to_vec()) } else { bad(Some(key)) }
}

/// RD (8), ESI (10), tag (4), MAC length (1), MAC (6), IP length (1), IP (0, 4, 16), label (3), label (0, 3). RD, tag,
/// MAC and IP identify the route.
fn mac_ip(body: &[u8]) -> Found {
    if body.len() < 30 || body[22] != 48 {
        return bad(None);
    }
    let address = match body[29] {
        0 => 0,
        32 => 4,
        128 => 16,
        _ => return bad(None),
    };
    if body.len() < 30 + address {
        return bad(None);
    }
    let (ip, labels) = body[30..].split_at(address);
    let key = key(2, &[&body[..8], &body[18..22], &body[23..29], ip]);
    match labels.len() {
        3 | 6 => good(key, [&body[8..18], labels].concat()),
        _ => bad(Some(key)),
    }
}

/// RD (8), tag (4), IP length (1), originator (4, 16).
fn inclusive_multicast(body: &[u8]) -> Found {
    match originator(body, 12) {
        Some((address, rest)) => {
            let key = key(3, &[&body[..8], &body[8..12], address]);
            if rest { bad(Some(key)) } else { good(key, Vec::new()) }
        }
        None => bad(None),
    }
}

/// RD (8), ESI (10), IP length (1), originator (4, 16).
fn ethernet_segment(body: &[u8]) -> Found {
    match originator(body, 18) {
        Some((address, rest)) => {
            let key = key(4, &[&body[..8], &body[8..18], address]);
            if rest { bad(Some(key)) } else { good(key, Vec::new()) }
        }
        None => bad(None),
    }
}

/// The address at `at`, behind its length in bits, and whether anything follows it.
fn originator(body: &[u8], at: usize) -> Option<(&[u8], bool)> {
    let octets = match body.get(at)? {
        32 => 4,
        128 => 16,
        _ => return None,
    };
    let address = body.get(at + 1..at + 1 + octets)?;
    Some((address, body.len() > at + 1 + octets))
}

/// RD (8), ESI (10), tag (4), prefix length (1), prefix (4, 16), gateway (4, 16), label (3). RD, tag and prefix
/// identify the route; bits behind the prefix length are none of it.
fn ip_prefix(body: &[u8]) -> Found {
    let octets = match body.len() {
        34 => 4,
        58 => 16,
        _ => return bad(None),
    };
    let bits = usize::from(body[22]);
    if bits > octets * 8 {
        return bad(None);
    }
    let mut prefix = body[23..23 + octets].to_vec();
    for bit in bits..octets * 8 {
        prefix[bit / 8] &= !(0x80 >> (bit % 8));
    }
    let key = key(5, &[&body[..8], &body[18..22], &body[22..23], &prefix]);
    good(key, [&body[8..18], &body[23 + octets..]].concat())
}

/// Whether a well-formed route must not be used: a MAC that no station has or VNI 0 in a type 2 (the kernel's VXLAN
/// reads both as something else), the MUSTs of RFC 9136 section 3.1 and 3.2 in a type 5.
pub(super) fn is_unusable(route: &Found, attributes: &Attributes) -> bool {
    let Some(key) = &route.key else { return false };
    let payload = &route.payload;
    match key[0] {
        2 => {
            // Type, RD, tag, then the MAC, each behind its length.
            let mac = &key[1 + 9 + 5 + 1..][..6];
            mac == [0; 6] || mac[0] & 1 == 1 || payload[10..13] == [0; 3]
        }
        5 => {
            let empty = Vec::new();
            let communities = attributes.get(&16).unwrap_or(&empty).chunks(8);
            let macs: Vec<_> = communities.filter(|community| community[..2] == [6, 3]).collect();
            let esi = payload[..10] != [0; 10];
            let gateway = payload[10..payload.len() - 3].iter().any(|octet| *octet != 0);
            let label = payload[payload.len() - 3..] != [0; 3];
            macs.iter().any(|mac| mac[2] & 1 == 1 || mac[2..] == [0; 6])
                || (esi && gateway)
                || !(label || esi || gateway || !macs.is_empty())
        }
        _ => false,
    }
}
