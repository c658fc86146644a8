//! ROUTE-REFRESH (RFC 2918), with the demarcations of RFC 7313.

use bytes::{BufMut, BytesMut};

use super::error::NotificationCode;
use super::frame::{MessageKind, begin_message, end_message};
use super::message::{Notification, RefreshKind, RouteRefresh};
use super::reader::Reader;
use crate::types::AddressFamily;

impl RefreshKind {
    const fn from_octet(octet: u8) -> Self {
        match octet {
            0 => Self::Request,
            1 => Self::Begin,
            2 => Self::End,
            other => Self::Unknown(other),
        }
    }

    const fn octet(self) -> u8 {
        match self {
            Self::Request => 0,
            Self::Begin => 1,
            Self::End => 2,
            Self::Unknown(other) => other,
        }
    }
}

impl RouteRefresh {
    /// What follows the four octets of a request (outbound route filters, RFC 5291, which are not negotiated) is
    /// ignored; a demarcation with anything behind it is 7/1 (RFC 7313 section 5).
    pub(crate) fn decode(body: &[u8]) -> Result<Self, Notification> {
        let mut reader = Reader::new(body);
        let Some([a, b, subtype, safi]) = reader.array() else {
            return Err(invalid_length(body));
        };
        let kind = RefreshKind::from_octet(subtype);
        if matches!(kind, RefreshKind::Begin | RefreshKind::End) && !reader.is_empty() {
            return Err(invalid_length(body));
        }
        Ok(Self { family: AddressFamily { afi: u16::from_be_bytes([a, b]), safi }, kind })
    }

    /// Appends the message's body.
    pub(crate) fn encode(self, out: &mut BytesMut) {
        out.put_u16(self.family.afi);
        out.put_u8(self.kind.octet());
        out.put_u8(self.family.safi);
    }
}

/// 7/1 with the whole message as data.
fn invalid_length(body: &[u8]) -> Notification {
    let mut message = BytesMut::new();
    let start = begin_message(MessageKind::RouteRefresh, &mut message);
    message.put_slice(body);
    end_message(start, &mut message);
    NotificationCode::ROUTE_REFRESH_INVALID_LENGTH.with_data(&message)
}
