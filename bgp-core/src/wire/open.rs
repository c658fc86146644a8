//! OPEN: reading and writing it (RFC 4271 section 4.2, RFC 5492, RFC 6793, RFC 9072), and what its capabilities mean.
//!
//! Checks that need the configuration (is this the AS we expect, is this our own identifier) belong to the session.

use bytes::{BufMut, BytesMut};
use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::error::NotificationCode;
use super::frame::{HEADER_LENGTH, MaxMessage, patch_u16};
use super::message::{Capability, GracefulRestart, Notification, Open};
use super::reader::Reader;
use crate::types::{AddressFamily, Asn, RouterId};

/// The protocol version.
const VERSION: u8 = 4;
/// The only optional parameter type in use (RFC 5492 section 4).
const PARAMETER_CAPABILITIES: u8 = 2;
/// Parameter type and length that announce the extended form (RFC 9072 section 2).
const EXTENDED_FORM: u8 = 255;
/// Octets of optional parameters in the extended form that still leave a message of 4,096.
const MAX_PARAMETERS: usize = MaxMessage::Standard.octets() - HEADER_LENGTH - size_of::<Prefix>() - 3;

/// The fields in front of the optional parameters.
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct Prefix {
    version: u8,
    asn: U16,
    hold_time_secs: U16,
    router_id: U32,
    parameters_length: u8,
}

impl Open {
    /// The families of the multiprotocol capabilities, in the order sent. Without any, IPv4 unicast is meant
    /// (RFC 4760 section 8).
    pub fn families(&self) -> impl Iterator<Item = AddressFamily> + '_ {
        let any = self.capabilities.iter().any(|capability| matches!(capability, Capability::Multiprotocol(_)));
        let implied = if any { None } else { Some(AddressFamily::IPV4_UNICAST) };
        self.capabilities
            .iter()
            .filter_map(|capability| match capability {
                Capability::Multiprotocol(family) => Some(*family),
                _ => None,
            })
            .chain(implied)
    }

    /// Whether a capability without a value, such as [`Capability::RouteRefresh`], is there.
    pub fn has(&self, capability: &Capability) -> bool {
        self.capabilities.contains(capability)
    }

    /// Whether AS numbers of 4 octets are announced (RFC 6793).
    pub fn four_octet_as(&self) -> bool {
        self.capabilities.iter().any(|capability| matches!(capability, Capability::FourOctetAs(_)))
    }

    /// The graceful restart capability, the last if there are several (RFC 4724 section 3).
    pub fn graceful_restart(&self) -> Option<&GracefulRestart> {
        self.capabilities.iter().rev().find_map(|capability| match capability {
            Capability::GracefulRestart(restart) => Some(restart),
            _ => None,
        })
    }

    /// Families, forwarding state and stale time in seconds of long-lived graceful restart. It counts only beside
    /// the graceful restart capability (RFC 9494 section 4.1).
    pub fn long_lived_graceful_restart(&self) -> Option<&[(AddressFamily, bool, u32)]> {
        self.graceful_restart()?;
        self.capabilities.iter().rev().find_map(|capability| match capability {
            Capability::LongLivedGracefulRestart(families) => Some(families.as_slice()),
            _ => None,
        })
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, Notification> {
        let Ok((prefix, rest)) = Prefix::read_from_prefix(body) else {
            return Err(NotificationCode::OPEN_UNSPECIFIC.notification());
        };
        if prefix.version != VERSION {
            return Err(NotificationCode::UNSUPPORTED_VERSION.with_data(&[0, VERSION]));
        }
        let capabilities = decode_parameters(prefix.parameters_length, rest)?;
        let announced = capabilities.iter().find_map(|capability| match capability {
            Capability::FourOctetAs(asn) => Some(*asn),
            _ => None,
        });
        let two_octet = Asn(u32::from(prefix.asn.get()));
        let asn = announced.unwrap_or(two_octet);
        // RFC 7607: zero is nobody's number, in neither of the two places.
        if asn == Asn(0) || two_octet == Asn(0) {
            return Err(NotificationCode::BAD_PEER_AS.notification());
        }
        let router_id = RouterId(prefix.router_id.get());
        if router_id == RouterId(0) {
            return Err(NotificationCode::BAD_BGP_IDENTIFIER.notification());
        }
        let hold_time_secs = prefix.hold_time_secs.get();
        if matches!(hold_time_secs, 1 | 2) {
            return Err(NotificationCode::UNACCEPTABLE_HOLD_TIME.notification());
        }
        Ok(Self { asn, hold_time_secs, router_id, capabilities })
    }

    /// Appends the message's body. Capabilities beyond what 4,096 octets hold are left out.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let capabilities = self.encode_capabilities();
        let two_octet = u16::try_from(self.asn.0).unwrap_or(TRANS);
        // The parameter's own type and length octet come on top.
        let plain_length = match capabilities.len() {
            0 => Some(0),
            length => u8::try_from(length.saturating_add(2)).ok().filter(|length| *length < EXTENDED_FORM),
        };
        let prefix = Prefix {
            version: VERSION,
            asn: U16::new(two_octet),
            hold_time_secs: U16::new(self.hold_time_secs),
            router_id: U32::new(self.router_id.0),
            parameters_length: plain_length.unwrap_or(EXTENDED_FORM),
        };
        out.put_slice(prefix.as_bytes());
        match plain_length {
            Some(0) => {}
            Some(length) => {
                out.put_u8(PARAMETER_CAPABILITIES);
                out.put_u8(length.saturating_sub(2));
                out.put_slice(&capabilities);
            }
            None => {
                out.put_u8(EXTENDED_FORM);
                let start = out.len();
                out.put_u16(0);
                out.put_u8(PARAMETER_CAPABILITIES);
                out.put_u16(0);
                out.put_slice(&capabilities);
                patch_u16(out, start, capabilities.len().saturating_add(3));
                patch_u16(out, start.saturating_add(3), capabilities.len());
            }
        }
    }

    fn encode_capabilities(&self) -> BytesMut {
        let mut encoded = BytesMut::with_capacity(128);
        for capability in &self.capabilities {
            let before = encoded.len();
            capability.encode(&mut encoded);
            if encoded.len().saturating_add(3) > MAX_PARAMETERS {
                encoded.truncate(before);
                break;
            }
        }
        encoded
    }
}

/// [`Asn::TRANS`] as it stands in two octets.
const TRANS: u16 = 23_456;

/// Encodes capabilities as the data of 2/7 (RFC 5492 section 5).
pub(crate) fn capabilities_data(capabilities: &[Capability]) -> BytesMut {
    let mut data = BytesMut::new();
    for capability in capabilities {
        capability.encode(&mut data);
    }
    data
}

/// Reads the optional parameters in either form (RFC 9072 section 2).
fn decode_parameters(declared_length: u8, rest: &[u8]) -> Result<Vec<Capability>, Notification> {
    let malformed = || NotificationCode::OPEN_UNSPECIFIC.notification();
    let mut reader = Reader::new(rest);
    let extended = declared_length != 0 && rest.first() == Some(&EXTENDED_FORM);
    let mut parameters = if extended {
        reader.u8();
        reader.prefixed_u16().ok_or_else(malformed)?
    } else {
        reader.sub(usize::from(declared_length)).ok_or_else(malformed)?
    };
    if !reader.is_empty() {
        return Err(malformed());
    }
    let mut capabilities = Vec::new();
    while let Some(kind) = parameters.u8() {
        let value = if extended { parameters.prefixed_u16() } else { parameters.prefixed_u8() };
        let mut value = value.ok_or_else(malformed)?;
        if kind != PARAMETER_CAPABILITIES {
            return Err(NotificationCode::UNSUPPORTED_OPTIONAL_PARAMETER.notification());
        }
        while !value.is_empty() {
            capabilities.push(Capability::decode(&mut value)?);
        }
    }
    Ok(capabilities)
}
