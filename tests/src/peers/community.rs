//! Extended communities as text, from the forms in which daemons print them.

/// The text that `megalos show` has for these eight octets.
pub(super) fn text(octets: [u8; 8]) -> String {
    match octets {
        [0, 2, a, b, c, d, e, g] => {
            format!("rt:{}:{}", u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, g]))
        }
        [1, 2, a, b, c, d, e, g] => format!("rt:{a}.{b}.{c}.{d}:{}", u16::from_be_bytes([e, g])),
        [2, 2, a, b, c, d, e, g] => {
            format!("rt:{}:{}", u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, g]))
        }
        [3, 0x0c, 0, 0, 0, 0, a, b] => format!("encapsulation:{}", u16::from_be_bytes([a, b])),
        [6, 0, flags, _, a, b, c, d] => mobility(u32::from_be_bytes([a, b, c, d]), flags & 1 != 0),
        other => format!("0x{:016x}", u64::from_be_bytes(other)),
    }
}

/// MAC mobility (RFC 7432 section 7.7).
pub(super) fn mobility(sequence: u32, sticky: bool) -> String {
    format!("mac-mobility:{sequence}{}", if sticky { ",sticky" } else { "" })
}

/// A community of type and sub-type that ends with a MAC address.
pub(super) fn with_mac(kind: u8, sub_type: u8, mac: &str) -> Option<String> {
    let octets: Vec<u8> = mac.split(':').filter_map(|octet| u8::from_str_radix(octet, 16).ok()).collect();
    let [a, b, c, d, e, g] = octets.try_into().ok()?;
    Some(text([kind, sub_type, a, b, c, d, e, g]))
}

/// A two-octet AS specific community, such as a site of origin `65000:9`.
pub(super) fn of_as(sub_type: u8, value: &str) -> Option<String> {
    let (asn, number) = value.split_once(':')?;
    let [a, b] = asn.parse::<u16>().ok()?.to_be_bytes();
    let [c, d, e, g] = number.parse::<u32>().ok()?.to_be_bytes();
    Some(text([0, sub_type, a, b, c, d, e, g]))
}

/// A route target, whose AS may be written `1.0`.
pub(super) fn target(value: &str) -> String {
    let plain = value.split_once(':').and_then(|(asn, number)| {
        let (high, low) = asn.split_once('.')?;
        let (high, low) = (high.parse::<u32>().ok()?, low.parse::<u32>().ok()?);
        Some(format!("rt:{}:{number}", high * 65_536 + low))
    });
    plain.unwrap_or_else(|| format!("rt:{value}"))
}
