//! Path attributes: framing (RFC 4271 section 4.3), errors (RFC 7606 sections 3, 4 and 7 and the RFCs of each).

use std::collections::BTreeSet;

use super::{Attributes, Class, Context, Multiprotocol, Reset, two};

/// What the attribute field says.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub reach: Option<Multiprotocol>,
    pub unreach: Option<Multiprotocol>,
    /// How many attributes there are.
    pub count: usize,
    /// The field ends inside one more.
    pub truncated: bool,
    /// ORIGIN is there and right.
    pub origin: bool,
    /// AS_PATH is there and right.
    pub as_path: bool,
    pub attributes: Attributes,
    pub partial: BTreeSet<u8>,
    pub classes: BTreeSet<Class>,
}

/// Well-known, optional transitive, optional non-transitive: the Optional and Transitive bits.
fn wanted_flags(code: u8) -> Option<u8> {
    match code {
        1 | 2 | 3 | 5 | 6 => Some(0x40),
        7 | 8 | 16 | 17 | 18 | 22 | 23 | 25 | 32 | 35 | 39 | 40 => Some(0xc0),
        4 | 9 | 10 => Some(0x80),
        _ => None,
    }
}

pub(super) fn read(mut field: &[u8], context: &Context) -> Result<Read, Reset> {
    let mut read = Read::default();
    let mut seen = BTreeSet::new();
    while !field.is_empty() {
        let header = if field[0] & 0x10 != 0 { 4 } else { 3 };
        let length = match field.len() {
            given if given < header => None,
            _ if header == 4 => Some(two(field, 2)),
            _ => Some(usize::from(field[2])),
        };
        let Some(length) = length.filter(|length| field.len() >= header + length) else {
            // Section 4: what follows cannot be told apart, but what came before can.
            read.truncated = true;
            read.classes.insert(Class::Withdraw);
            break;
        };
        let (flags, code, value) = (field[0], field[1], &field[header..header + length]);
        field = &field[header + length..];
        read.count += 1;
        if !seen.insert(code) {
            // Section 3 g.
            if code == 14 || code == 15 {
                return Err((3, 1));
            }
            read.classes.insert(Class::Discard);
            continue;
        }
        match code {
            14 => read.reach = Some(Multiprotocol { flags, value: value.to_vec() }),
            15 => read.unreach = Some(Multiprotocol { flags, value: value.to_vec() }),
            _ => match judge(flags, code, value, context)? {
                Ok(Some(kept)) => {
                    read.origin |= code == 1;
                    read.as_path |= code == 2;
                    if flags & 0x20 != 0 && [7, 8, 16, 22, 25, 32].contains(&code) {
                        read.partial.insert(code);
                    }
                    read.attributes.insert(code, kept);
                }
                Ok(None) => {}
                Err(class) => drop(read.classes.insert(class)),
            },
        }
    }
    merge_as4(&mut read.attributes);
    // Means nothing beside MP_REACH_NLRI (RFC 4760 section 3).
    read.attributes.remove(&3);
    Ok(read)
}

/// One attribute that is not a multiprotocol one: its value in the form of [`Attributes`], or nothing, or its class.
fn judge(flags: u8, code: u8, value: &[u8], context: &Context) -> Result<Result<Option<Vec<u8>>, Class>, Reset> {
    // RFC 7606 section 7.5, 7.9, 7.10; RFC 6793 section 4.1: not for us, whatever their form.
    if (context.external && [5, 9, 10].contains(&code)) || (context.four_octet_as && [17, 18].contains(&code)) {
        return Ok(Err(Class::Discard));
    }
    let Some(wanted) = wanted_flags(code) else {
        return unrecognised(flags, code, value);
    };
    // RFC 7606 section 3 c; RFC 4271 section 4.3: only optional transitive ones may be partial.
    if flags & 0xc0 != wanted || (flags & 0x20 != 0 && wanted != 0xc0) {
        return Ok(Err(Class::Withdraw));
    }
    Ok(known(code, value, context).map(Some))
}

/// RFC 4271 sections 5 and 6.3.
fn unrecognised(flags: u8, code: u8, value: &[u8]) -> Result<Result<Option<Vec<u8>>, Class>, Reset> {
    Ok(match flags & 0xc0 {
        0x00 | 0x40 => return Err((3, 2)),
        0x80 => Ok(None),
        // AIGP is never transitive (RFC 7311 section 3.1); an entropy label capability has no value (RFC 6790).
        _ if code == 26 || (code == 28 && !value.is_empty()) => Err(Class::Discard),
        _ => Ok(Some(value.to_vec())),
    })
}

fn known(code: u8, value: &[u8], context: &Context) -> Result<Vec<u8>, Class> {
    let wide = context.four_octet_as;
    let require = |holds: bool, class: Class| if holds { Ok(value.to_vec()) } else { Err(class) };
    match code {
        1 => require(value.len() == 1 && value[0] <= 2, Class::Withdraw),
        2 => as_path(value, if wide { 4 } else { 2 }),
        3 | 4 | 5 | 9 => require(value.len() == 4, Class::Withdraw),
        6 => require(value.is_empty(), Class::Discard),
        7 => aggregator(value, if wide { 4 } else { 2 }),
        8 => list(value, 4),
        10 => require(!value.is_empty() && value.len().is_multiple_of(4), Class::Withdraw),
        16 => list(value, 8),
        17 => as4_path(value),
        18 => aggregator(value, 4),
        22 => require(pmsi_is_right(value), Class::Withdraw),
        23 => tunnels(value).map(|()| value.to_vec()),
        25 => list(value, 20),
        32 => list(value, 12),
        // RFC 9234 section 5; AS 0 is nobody.
        35 => require(value.len() == 4 && value != [0; 4], Class::Withdraw),
        39 => require(next_hop_characteristics_are_framed(value), Class::Discard),
        _ => require(are_tlvs(value, 1, |_| 2), Class::Discard),
    }
}

/// At least one element, none of half a one; each counts once.
fn list(value: &[u8], size: usize) -> Result<Vec<u8>, Class> {
    if value.is_empty() || !value.len().is_multiple_of(size) {
        return Err(Class::Withdraw);
    }
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut known = BTreeSet::new();
    for element in value.chunks(size) {
        if known.insert(element) {
            kept.push(element);
        }
    }
    Ok(kept.concat())
}

/// The segments of a path: type and numbers in four octets. What was read before the first mistake is told with it.
fn segments(value: &[u8], width: usize) -> (Vec<(u8, Vec<u8>)>, bool) {
    let mut segments = Vec::new();
    let mut rest = value;
    while !rest.is_empty() {
        let count = rest.get(1).copied().map(usize::from).unwrap_or(0);
        if count == 0 || rest.len() < 2 + count * width {
            return (segments, false);
        }
        let mut numbers = Vec::new();
        for number in rest[2..2 + count * width].chunks(width) {
            // RFC 7607.
            if number.iter().all(|octet| *octet == 0) {
                return (segments, false);
            }
            numbers.extend(vec![0; 4 - width]);
            numbers.extend(number);
        }
        if !(1..=4).contains(&rest[0]) {
            return (segments, false);
        }
        segments.push((rest[0], numbers));
        rest = &rest[2 + count * width..];
    }
    (segments, true)
}

fn joined(segments: Vec<(u8, Vec<u8>)>) -> Vec<u8> {
    let each = |(_, numbers): (u8, Vec<u8>)| [&((numbers.len() / 4) as u16).to_be_bytes()[..], &numbers].concat();
    segments.into_iter().flat_map(each).collect()
}

/// RFC 7606 section 7.2, RFC 9774 (no AS_SET), RFC 5065 (no confederation here): sequences only.
fn as_path(value: &[u8], width: usize) -> Result<Vec<u8>, Class> {
    match segments(value, width) {
        (segments, true) if segments.iter().all(|(kind, _)| *kind == 2) => Ok(joined(segments)),
        _ => Err(Class::Withdraw),
    }
}

/// RFC 6793 section 6: discarded when malformed, confederation segments left out. RFC 9774 section 3: an AS_SET
/// withdraws, and does so too where something behind it is malformed.
fn as4_path(value: &[u8]) -> Result<Vec<u8>, Class> {
    let (segments, whole) = segments(value, 4);
    if segments.iter().any(|(kind, _)| *kind == 1) {
        return Err(Class::Withdraw);
    }
    if !whole || value.is_empty() {
        return Err(Class::Discard);
    }
    Ok(joined(segments.into_iter().filter(|(kind, _)| *kind == 2).collect()))
}

/// RFC 7606 section 7.7, RFC 7607.
fn aggregator(value: &[u8], width: usize) -> Result<Vec<u8>, Class> {
    if value.len() != width + 4 || value[..width].iter().all(|octet| *octet == 0) {
        return Err(Class::Discard);
    }
    Ok([&vec![0; 4 - width], value].concat())
}

/// RFC 6514 section 5: flags, type, label, identifier. Type 6 has an address; types that are not registered are errors.
fn pmsi_is_right(value: &[u8]) -> bool {
    value.len() >= 5
        && match value[1] {
            6 => value.len() == 9 || value.len() == 21,
            other => other <= 13 || (0x7b..=0x7e).contains(&other) || (0x80..=0xfe).contains(&other),
        }
}

/// RFC 9012 section 2: tunnels, each with sub-TLVs. A carried attribute must be whole inside too.
fn tunnels(value: &[u8]) -> Result<(), Class> {
    if value.is_empty() {
        return Err(Class::Discard);
    }
    let (mut rest, mut count, mut inside) = (value, 0, true);
    while !rest.is_empty() {
        if rest.len() < 4 || rest.len() < 4 + two(rest, 2) {
            return Err(Class::Withdraw);
        }
        let length = two(rest, 2);
        inside &= are_tlvs(&rest[4..4 + length], 1, |kind| if kind < 128 { 1 } else { 2 });
        rest = &rest[4 + length..];
        count += 1;
    }
    // The project's bound on tunnels of one route.
    if inside && count <= 1_024 { Ok(()) } else { Err(Class::Discard) }
}

/// AFI, SAFI, next hop behind its length, TLVs of two octets each.
fn next_hop_characteristics_are_framed(value: &[u8]) -> bool {
    let Some(length) = value.get(3).map(|length| usize::from(*length)) else { return false };
    value.get(4 + length..).is_some_and(|tlvs| are_tlvs(tlvs, 2, |_| 2))
}

/// Whether the octets are TLVs with a type of `kind` octets and a length of as many as its first one says.
fn are_tlvs(mut octets: &[u8], kind: usize, width: impl Fn(u8) -> usize) -> bool {
    while !octets.is_empty() {
        let header = kind + width(octets[0]);
        if octets.len() < header {
            return false;
        }
        let length = if header - kind == 1 { usize::from(octets[kind]) } else { two(octets, kind) };
        if octets.len() < header + length {
            return false;
        }
        octets = &octets[header + length..];
    }
    true
}

/// RFC 6793 section 4.2.3.
fn merge_as4(attributes: &mut Attributes) {
    let (as4_path, as4_aggregator) = (attributes.remove(&17), attributes.remove(&18));
    if let (Some(aggregator), Some(as4)) = (attributes.get_mut(&7), as4_aggregator) {
        // AS_TRANS.
        if aggregator[..4] != [0, 0, 0x5b, 0xa0] {
            return;
        }
        *aggregator = as4;
    }
    let (Some(as_path), Some(as4_path)) = (attributes.get(&2), as4_path) else { return };
    let Some(mut missing) = numbers_in(as_path).checked_sub(numbers_in(&as4_path)) else { return };
    // The leading numbers that AS4_PATH lacks, then AS4_PATH.
    let mut merged = Vec::new();
    let mut rest = &as_path[..];
    while missing > 0 {
        let count = two(rest, 0);
        let taken = count.min(missing);
        merged.extend((taken as u16).to_be_bytes());
        merged.extend(&rest[2..2 + taken * 4]);
        rest = &rest[2 + count * 4..];
        missing -= taken;
    }
    merged.extend(as4_path);
    attributes.insert(2, merged);
}

fn numbers_in(path: &[u8]) -> usize {
    let (mut rest, mut all) = (path, 0);
    while !rest.is_empty() {
        let count = two(rest, 0);
        all += count;
        rest = &rest[2 + count * 4..];
    }
    all
}
