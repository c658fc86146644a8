//! Capabilities (RFC 5492): what an OPEN says its sender can do.
//!
//! Codes that this implementation does not use stay [`Capability::Unknown`] and are never looked into, whatever their
//! value holds. So do known codes with a value that is malformed but harmless to ignore.

use bytes::{BufMut, Bytes, BytesMut};

use super::error::NotificationCode;
use super::message::{Capability, GracefulRestart, Notification};
use super::reader::Reader;
use crate::types::{AddressFamily, Asn};

const MULTIPROTOCOL: u8 = 1;
const ROUTE_REFRESH: u8 = 2;
const EXTENDED_MESSAGE: u8 = 6;
const GRACEFUL_RESTART: u8 = 64;
const FOUR_OCTET_AS: u8 = 65;
const ENHANCED_ROUTE_REFRESH: u8 = 70;
const LONG_LIVED_GRACEFUL_RESTART: u8 = 71;

/// R bit of the graceful restart flags (RFC 4724 section 3).
const RESTARTING: u16 = 0x8000;
/// N bit of the graceful restart flags (RFC 8538 section 2).
const NOTIFICATION: u16 = 0x4000;
/// Bits of the restart time.
const RESTART_TIME: u16 = 0x0fff;
/// F bit of a family tuple, in both kinds of graceful restart.
const FORWARDING: u8 = 0x80;
/// Most octets of a capability value: its length field has one octet.
const MAX_VALUE: usize = 255;

impl Capability {
    /// The registered code.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Multiprotocol(_) => MULTIPROTOCOL,
            Self::RouteRefresh => ROUTE_REFRESH,
            Self::ExtendedMessage => EXTENDED_MESSAGE,
            Self::GracefulRestart(_) => GRACEFUL_RESTART,
            Self::FourOctetAs(_) => FOUR_OCTET_AS,
            Self::EnhancedRouteRefresh => ENHANCED_ROUTE_REFRESH,
            Self::LongLivedGracefulRestart(_) => LONG_LIVED_GRACEFUL_RESTART,
            Self::Unknown { code, .. } => *code,
        }
    }

    /// A name for `show` and logs; none for codes that are not in common use.
    pub const fn name(&self) -> Option<&'static str> {
        match self.code() {
            MULTIPROTOCOL => Some("multiprotocol"),
            ROUTE_REFRESH => Some("route-refresh"),
            5 => Some("extended-next-hop"),
            EXTENDED_MESSAGE => Some("extended-message"),
            7 => Some("bgpsec"),
            8 => Some("multiple-labels"),
            9 => Some("role"),
            GRACEFUL_RESTART => Some("graceful-restart"),
            FOUR_OCTET_AS => Some("four-octet-as"),
            67 => Some("dynamic"),
            69 => Some("add-path"),
            ENHANCED_ROUTE_REFRESH => Some("enhanced-route-refresh"),
            LONG_LIVED_GRACEFUL_RESTART => Some("long-lived-graceful-restart"),
            73 => Some("fqdn"),
            75 => Some("software-version"),
            76 => Some("paths-limit"),
            77 => Some("link-local-next-hop"),
            128 => Some("route-refresh-cisco"),
            _ => None,
        }
    }

    /// Reads the next capability.
    ///
    /// # Errors
    ///
    /// 2/0 where its length passes the end of the parameter, or where a length that the RFCs fix is another one in a
    /// capability that decides how messages are read.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Notification> {
        let malformed = || NotificationCode::OPEN_UNSPECIFIC.notification();
        let code = reader.u8().ok_or_else(malformed)?;
        let mut value = reader.prefixed_u8().ok_or_else(malformed)?;
        let unknown = Self::Unknown { code, value: Bytes::copy_from_slice(value.peek()) };
        Ok(match code {
            MULTIPROTOCOL => match *value.rest() {
                [a, b, _, safi] => Self::Multiprotocol(AddressFamily { afi: u16::from_be_bytes([a, b]), safi }),
                _ => return Err(malformed()),
            },
            FOUR_OCTET_AS => match *value.rest() {
                [a, b, c, d] => Self::FourOctetAs(Asn(u32::from_be_bytes([a, b, c, d]))),
                _ => return Err(malformed()),
            },
            ROUTE_REFRESH if value.is_empty() => Self::RouteRefresh,
            EXTENDED_MESSAGE if value.is_empty() => Self::ExtendedMessage,
            ENHANCED_ROUTE_REFRESH if value.is_empty() => Self::EnhancedRouteRefresh,
            GRACEFUL_RESTART => GracefulRestart::decode(value).map_or(unknown, Self::GracefulRestart),
            LONG_LIVED_GRACEFUL_RESTART => decode_long_lived(value).map_or(unknown, Self::LongLivedGracefulRestart),
            _ => unknown,
        })
    }

    /// Appends code, length and value. What does not fit the length octet is left out: families of the graceful
    /// restart capabilities beyond the 63rd and 36th, octets of an unknown one beyond the 255th.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_u8(self.code());
        let length_position = out.len();
        out.put_u8(0);
        let value_start = out.len();
        match self {
            Self::Multiprotocol(family) => {
                out.put_u16(family.afi);
                out.put_u8(0);
                out.put_u8(family.safi);
            }
            Self::RouteRefresh | Self::ExtendedMessage | Self::EnhancedRouteRefresh => {}
            Self::GracefulRestart(restart) => restart.encode(out),
            Self::FourOctetAs(asn) => out.put_u32(asn.0),
            Self::LongLivedGracefulRestart(families) => {
                for (family, forwarding, stale_secs) in families.iter().take(MAX_VALUE / 7) {
                    put_family(*family, *forwarding, out);
                    out.put_uint(u64::from((*stale_secs).min(0x00ff_ffff)), 3);
                }
            }
            Self::Unknown { value, .. } => out.extend(value.iter().take(MAX_VALUE)),
        }
        let length = u8::try_from(out.len().saturating_sub(value_start)).unwrap_or(u8::MAX);
        if let Some(field) = out.get_mut(length_position) {
            *field = length;
        }
    }
}

impl GracefulRestart {
    /// `None` where the value is not two octets and whole tuples. Of several tuples for a family the last one counts.
    fn decode(mut value: Reader<'_>) -> Option<Self> {
        let flags = value.u16()?;
        let mut families: Vec<(AddressFamily, bool)> = Vec::new();
        while !value.is_empty() {
            let (family, forwarding) = take_family(&mut value)?;
            families.retain(|(known, _)| *known != family);
            families.push((family, forwarding));
        }
        Some(Self {
            restarting: flags & RESTARTING != 0,
            notification: flags & NOTIFICATION != 0,
            restart_time_secs: flags & RESTART_TIME,
            families,
        })
    }

    fn encode(&self, out: &mut BytesMut) {
        let mut flags = self.restart_time_secs.min(RESTART_TIME);
        if self.restarting {
            flags |= RESTARTING;
        }
        if self.notification {
            flags |= NOTIFICATION;
        }
        out.put_u16(flags);
        for (family, forwarding) in self.families.iter().take((MAX_VALUE - 2) / 4) {
            put_family(*family, *forwarding, out);
        }
    }
}

/// `None` where the value is not whole tuples. Of several tuples for a family the last one counts.
fn decode_long_lived(mut value: Reader<'_>) -> Option<Vec<(AddressFamily, bool, u32)>> {
    let mut families: Vec<(AddressFamily, bool, u32)> = Vec::new();
    while !value.is_empty() {
        let (family, forwarding) = take_family(&mut value)?;
        let [a, b, c] = value.array()?;
        families.retain(|(known, ..)| *known != family);
        families.push((family, forwarding, u32::from_be_bytes([0, a, b, c])));
    }
    Some(families)
}

fn take_family(value: &mut Reader<'_>) -> Option<(AddressFamily, bool)> {
    let [a, b, safi, flags] = value.array()?;
    Some((AddressFamily { afi: u16::from_be_bytes([a, b]), safi }, flags & FORWARDING != 0))
}

fn put_family(family: AddressFamily, forwarding: bool, out: &mut BytesMut) {
    out.put_u16(family.afi);
    out.put_u8(family.safi);
    out.put_u8(if forwarding { FORWARDING } else { 0 });
}
