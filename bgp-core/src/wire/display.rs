//! Keys as text: the bracketed form that operators know from other EVPN speakers.

use core::fmt;

use super::nlri::{EvpnKey, RtMembership};

impl fmt::Display for EvpnKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EthernetAutoDiscovery { rd, esi, tag } => write!(f, "[1][{rd}][{esi}][{}]", tag.0),
            Self::MacIp { rd, tag, mac, ip: None } => write!(f, "[2][{rd}][{}][{mac}]", tag.0),
            Self::MacIp { rd, tag, mac, ip: Some(ip) } => write!(f, "[2][{rd}][{}][{mac}][{ip}]", tag.0),
            Self::InclusiveMulticast { rd, tag, originator } => write!(f, "[3][{rd}][{}][{originator}]", tag.0),
            Self::EthernetSegment { rd, esi, originator } => write!(f, "[4][{rd}][{esi}][{originator}]"),
            Self::IpPrefix { rd, tag, prefix } => write!(f, "[5][{rd}][{}][{prefix}]", tag.0),
            Self::Opaque { route_type, body } => write!(f, "[{route_type}][{} octets]", body.len()),
        }
    }
}

impl fmt::Display for RtMembership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("[default]"),
            Self::Target { origin, target } => write!(f, "[{origin}][{target}]"),
            Self::Prefix { origin, target, bits } => {
                write!(f, "[{origin}][0x{:016x}/{bits}]", u64::from_be_bytes(*target))
            }
        }
    }
}
