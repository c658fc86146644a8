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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Asn, EthernetSegmentId, EthernetTag, MacAddr, RouteDistinguisher, RouteTarget, Vni};

    #[test]
    fn keys_read_as_operators_know_them() {
        let rd = RouteDistinguisher::ipv4([192, 0, 2, 1].into(), 7);
        let tag = EthernetTag(0);
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let esi = EthernetSegmentId::default();
        let originator = "192.0.2.1".parse().unwrap();
        let keys = [
            EvpnKey::EthernetAutoDiscovery { rd, esi, tag },
            EvpnKey::MacIp { rd, tag, mac, ip: None },
            EvpnKey::MacIp { rd, tag, mac, ip: Some("2001:db8::1".parse().unwrap()) },
            EvpnKey::InclusiveMulticast { rd, tag, originator },
            EvpnKey::EthernetSegment { rd: RouteDistinguisher::as4(65_536, 1), esi, originator },
            EvpnKey::IpPrefix {
                rd: RouteDistinguisher([0, 0, 0, 1, 0, 0, 0, 2]),
                tag,
                prefix: "10.0.0.0/8".parse().unwrap(),
            },
            EvpnKey::Opaque { route_type: 99, body: [1, 2].as_slice().into() },
        ];
        let text: Vec<String> = keys.iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            [
                "[1][192.0.2.1:7][00:00:00:00:00:00:00:00:00:00][0]",
                "[2][192.0.2.1:7][0][02:00:00:00:00:01]",
                "[2][192.0.2.1:7][0][02:00:00:00:00:01][2001:db8::1]",
                "[3][192.0.2.1:7][0][192.0.2.1]",
                "[4][65536:1][00:00:00:00:00:00:00:00:00:00][192.0.2.1]",
                "[5][1:2][0][10.0.0.0/8]",
                "[99][2 octets]",
            ]
        );
    }

    #[test]
    fn memberships_read_as_origin_and_target() {
        let target = RouteTarget::auto(Asn(65_000), Vni::new(7).unwrap());
        let members = [
            RtMembership::Default,
            RtMembership::Target { origin: Asn(65_000), target },
            RtMembership::Prefix { origin: Asn(65_000), target: target.community().0, bits: 16 },
        ];
        let text: Vec<String> = members.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["[default]", "[65000][65000:7]", "[65000][0x0002fde800000007/16]"]);
    }
}
