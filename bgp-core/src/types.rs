//! The vocabulary: newtypes for what must not be mixed up.

use core::fmt;
use core::str::FromStr;
use std::net::{IpAddr, Ipv4Addr};

use thiserror::Error;

/// An autonomous system number (RFC 6793), 4 octets.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Asn(pub u32);

impl Asn {
    /// AS_TRANS, which stands for a 4-octet number in a 2-octet field (RFC 6793 section 9).
    pub const TRANS: Self = Self(23_456);
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A configured neighbour, as the owner of the sessions and of the RIB numbers it: dense, reused after removal.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PeerId(pub u32);

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A BGP identifier (RFC 6286): non-zero, unique within the AS.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RouterId(pub u32);

impl fmt::Display for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ipv4Addr::from(self.0).fmt(f)
    }
}

impl fmt::Debug for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Ipv4Addr> for RouterId {
    fn from(address: Ipv4Addr) -> Self {
        Self(address.into())
    }
}

/// An address family: AFI and SAFI (RFC 4760).
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AddressFamily {
    /// Address family identifier.
    pub afi: u16,
    /// Subsequent address family identifier.
    pub safi: u8,
}

impl AddressFamily {
    /// L2VPN EVPN (RFC 7432).
    pub const EVPN: Self = Self { afi: 25, safi: 70 };
    /// IPv4 unicast, the family of an UPDATE without multiprotocol attributes.
    pub const IPV4_UNICAST: Self = Self { afi: 1, safi: 1 };
    /// Route target membership (RFC 4684).
    pub const RT_CONSTRAIN: Self = Self { afi: 1, safi: 132 };
}

impl fmt::Display for AddressFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::EVPN => f.write_str("evpn"),
            Self::IPV4_UNICAST => f.write_str("ipv4-unicast"),
            Self::RT_CONSTRAIN => f.write_str("rt-constrain"),
            Self { afi, safi } => write!(f, "{afi}/{safi}"),
        }
    }
}

impl fmt::Debug for AddressFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A VXLAN network identifier: 24 bits.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Vni(u32);

impl Vni {
    /// The largest identifier.
    pub const MAX: u32 = 0x00ff_ffff;

    /// A usable VNI: 1 to 16,777,215. Zero is never a LAN.
    pub const fn new(value: u32) -> Option<Self> {
        if value == 0 || value > Self::MAX { None } else { Some(Self(value)) }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text that is not what it should be.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("expected {expected}, found `{found}`")]
pub struct ParseError {
    /// The form that would have been accepted.
    pub expected: &'static str,
    /// What was given, cut to a readable length.
    pub found: String,
}

impl ParseError {
    fn new(expected: &'static str, found: &str) -> Self {
        Self { expected, found: found.chars().take(64).collect() }
    }
}

/// Whether a host can have this address, so that a packet can be sent to it from anywhere: the next hop of a route,
/// a VTEP. It is not unspecified or of "this network", loopback, multicast, reserved or broadcast; of IPv6 neither link-local,
/// which means nothing without an interface, nor an IPv4 address in disguise.
pub const fn is_host_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, ..] = address.octets();
            // 0.0.0.0/8 (RFC 1122 section 3.2.1.3), multicast and what lies above it.
            first != 0 && first < 224 && !address.is_loopback()
        }
        IpAddr::V6(address) => {
            let is_special = address.is_unspecified() || address.is_loopback() || address.is_multicast();
            !is_special && !address.is_unicast_link_local() && address.to_ipv4_mapped().is_none()
        }
    }
}

/// An IEEE 802 MAC address.
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// All zeroes, which the Linux VXLAN FDB uses for the flood list.
    pub const ZERO: Self = Self([0; 6]);

    /// Whether the group bit is set (multicast and broadcast).
    pub const fn is_multicast(self) -> bool {
        let [first, ..] = self.0;
        first & 1 == 1
    }

    /// Whether a host can own the address: neither zero nor multicast.
    pub fn is_unicast(self) -> bool {
        !self.is_multicast() && self != Self::ZERO
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = || ParseError::new("a MAC address such as 02:00:00:00:00:01", text);
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or_else(error)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(error());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() { Err(error()) } else { Ok(Self(octets)) }
    }
}

/// A route distinguisher (RFC 4364 section 4.2), kept as its eight octets.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RouteDistinguisher(pub [u8; 8]);

impl RouteDistinguisher {
    /// Type 1: an IPv4 address and a 16-bit number.
    pub fn ipv4(address: Ipv4Addr, number: u16) -> Self {
        let [a, b, c, d] = address.octets();
        let [x, y] = number.to_be_bytes();
        Self([0, 1, a, b, c, d, x, y])
    }

    /// Type 2: a 4-octet AS number and a 16-bit number.
    pub fn as4(asn: u32, number: u16) -> Self {
        let [a, b, c, d] = asn.to_be_bytes();
        let [x, y] = number.to_be_bytes();
        Self([0, 2, a, b, c, d, x, y])
    }
}

impl fmt::Display for RouteDistinguisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [0, 0, a, b, c, d, e, g] => {
                write!(f, "{}:{}", u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, g]))
            }
            [0, 1, a, b, c, d, e, g] => {
                write!(f, "{}:{}", Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([e, g]))
            }
            [0, 2, a, b, c, d, e, g] => {
                write!(f, "{}:{}", u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, g]))
            }
            octets => write!(f, "0x{:016x}", u64::from_be_bytes(octets)),
        }
    }
}

impl fmt::Debug for RouteDistinguisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An extended community (RFC 4360), kept as its eight octets so that unknown ones travel unchanged.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ExtendedCommunity(pub [u8; 8]);

impl ExtendedCommunity {
    /// The VXLAN encapsulation community (RFC 9012 section 4.1, tunnel type 8).
    pub const ENCAPSULATION_VXLAN: Self = Self([0x03, 0x0c, 0, 0, 0, 0, 0, 8]);

    /// Whether the community is a route target of any of the three forms.
    pub const fn is_route_target(self) -> bool {
        matches!(self.0, [0x00..=0x02, 0x02, ..])
    }

    /// The tunnel type of an encapsulation community (RFC 9012 section 4.1).
    pub const fn encapsulation(self) -> Option<u16> {
        match self.0 {
            [0x03, 0x0c, _, _, _, _, a, b] => Some(u16::from_be_bytes([a, b])),
            _ => None,
        }
    }

    /// The MAC mobility community (RFC 7432 section 7.7).
    pub fn mac_mobility(mobility: MacMobility) -> Self {
        let [a, b, c, d] = mobility.sequence.to_be_bytes();
        Self([0x06, 0x00, u8::from(mobility.sticky), 0, a, b, c, d])
    }

    /// The address of a Router's MAC community (RFC 9135 section 8.1).
    pub const fn router_mac(self) -> Option<MacAddr> {
        match self.0 {
            [0x06, 0x03, a, b, c, d, e, g] => Some(MacAddr([a, b, c, d, e, g])),
            _ => None,
        }
    }

    /// Reads a MAC mobility community.
    pub const fn as_mac_mobility(self) -> Option<MacMobility> {
        match self.0 {
            [0x06, 0x00, flags, _, a, b, c, d] => {
                Some(MacMobility { sticky: flags & 1 == 1, sequence: u32::from_be_bytes([a, b, c, d]) })
            }
            _ => None,
        }
    }
}

impl fmt::Display for ExtendedCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(target) = RouteTarget::from_community(*self) {
            return write!(f, "rt:{target}");
        }
        if let Some(tunnel) = self.encapsulation() {
            return write!(f, "encapsulation:{tunnel}");
        }
        if let Some(mobility) = self.as_mac_mobility() {
            let sticky = if mobility.sticky { ",sticky" } else { "" };
            return write!(f, "mac-mobility:{}{sticky}", mobility.sequence);
        }
        write!(f, "0x{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for ExtendedCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// MAC mobility (RFC 7432 section 7.7). A route without the community has sequence 0 and is not sticky.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct MacMobility {
    /// The address must not move (section 15.2).
    pub sticky: bool,
    /// Moves so far; wraps around and is compared by serial arithmetic.
    pub sequence: u32,
}

/// A route target: an extended community that is known to be one (RFC 4360 section 4).
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RouteTarget(ExtendedCommunity);

impl RouteTarget {
    /// The target derived from an AS and a VNI: `ASN:VNI`, the ASN cut to its low 16 bits (RFC 8365 section 5.1.2.1
    /// as FRR fills it).
    pub fn auto(asn: Asn, vni: Vni) -> Self {
        let [_, _, a, b] = asn.0.to_be_bytes();
        let [c, d, e, g] = vni.get().to_be_bytes();
        Self(ExtendedCommunity([0, 2, a, b, c, d, e, g]))
    }

    /// The auto-derived form of RFC 8365 section 5.1.2.1: local part `0x1000_0000 | VNI`.
    pub fn auto_rfc8365(asn: Asn, vni: Vni) -> Self {
        let [_, _, a, b] = asn.0.to_be_bytes();
        let [c, d, e, g] = (0x1000_0000 | vni.get()).to_be_bytes();
        Self(ExtendedCommunity([0, 2, a, b, c, d, e, g]))
    }

    /// The community as a route target, if it is one.
    pub const fn from_community(community: ExtendedCommunity) -> Option<Self> {
        if community.is_route_target() { Some(Self(community)) } else { None }
    }

    /// The community.
    pub const fn community(self) -> ExtendedCommunity {
        self.0
    }

    /// The target with all of a 4-octet ASN, as routers write it when told to by hand (RFC 5668); none where the VNI does
    /// not fit the 16 bits that are left for it.
    pub fn four_octet_as(asn: Asn, vni: Vni) -> Option<Self> {
        let [a, b, c, d] = asn.0.to_be_bytes();
        let [e, g] = u16::try_from(vni.get()).ok()?.to_be_bytes();
        Some(Self(ExtendedCommunity([2, 2, a, b, c, d, e, g])))
    }

    /// The VNI that the target means when its administrator is ignored: the local part, of 4 octets in the plain form or
    /// in that of RFC 8365 (VXLAN, domain 0), of 2 octets beside an IPv4 address or a 4-octet ASN.
    pub const fn vni(self) -> Option<Vni> {
        match self.0.0 {
            [0x01 | 0x02, 0x02, _, _, _, _, e, g] => Vni::new(u32::from_be_bytes([0, 0, e, g])),
            [0x00, 0x02, _, _, c, d, e, g] => {
                let local = u32::from_be_bytes([c, d, e, g]);
                match local >> 24 {
                    0x00 | 0x10 => Vni::new(local & Vni::MAX),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

impl fmt::Display for RouteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.0 {
            [0, _, a, b, c, d, e, g] => {
                write!(f, "{}:{}", u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, g]))
            }
            [1, _, a, b, c, d, e, g] => {
                write!(f, "{}:{}", Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([e, g]))
            }
            [_, _, a, b, c, d, e, g] => {
                write!(f, "{}:{}", u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, g]))
            }
        }
    }
}

impl fmt::Debug for RouteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An Ethernet tag (RFC 7432 section 7): 0 in the VLAN-based service.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EthernetTag(pub u32);

impl EthernetTag {
    /// MAX-ET: a type 1 route speaks of the whole Ethernet segment (RFC 7432 section 8.2.1).
    pub const WHOLE_SEGMENT: Self = Self(u32::MAX);
}

/// An Ethernet segment identifier (RFC 7432 section 5); zero is a single-homed site.
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EthernetSegmentId(pub [u8; 10]);

impl EthernetSegmentId {
    /// MAX-ESI: reserved, the identifier of no segment (RFC 7432 section 5).
    pub const RESERVED: Self = Self([0xff; 10]);
}

impl fmt::Display for EthernetSegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, octet) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(":")?;
            }
            write!(f, "{octet:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for EthernetSegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The three octets of an MPLS label field. In VXLAN they hold the VNI, unshifted (RFC 8365 section 5.1.3).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Label(pub [u8; 3]);

impl Label {
    /// The 24-bit value as a VNI; none when zero.
    pub const fn vni(self) -> Option<Vni> {
        let [a, b, c] = self.0;
        Vni::new(u32::from_be_bytes([0, a, b, c]))
    }
}

impl From<Vni> for Label {
    fn from(vni: Vni) -> Self {
        let [_, a, b, c] = vni.get().to_be_bytes();
        Self([a, b, c])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_hops_are_addresses_that_a_host_can_have() {
        for (address, expected) in [
            ("10.0.0.1", true),
            ("169.254.1.1", true),
            ("223.255.255.255", true),
            ("2001:db8::1", true),
            ("fd00::1", true),
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("127.0.0.1", false),
            ("224.0.0.1", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("fe80::1", false),
            ("ff02::1", false),
            ("::ffff:10.0.0.1", false),
        ] {
            let parsed: IpAddr = address.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(is_host_address(parsed), expected, "{address}");
        }
    }
}
