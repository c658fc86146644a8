//! Framing: the 19-octet header that precedes every message, and cutting a byte stream into messages.
//!
//! In: what TCP delivered, however it was cut. Out: whole message bodies, or the NOTIFICATION of RFC 4271 section 6.1.
//! Each call looks at the header only, so feeding a message octet by octet costs O(1) per octet.

use bytes::{BufMut, Bytes, BytesMut};
use zerocopy::byteorder::big_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::error::NotificationCode;
use super::message::Notification;

/// Octets of the message header.
pub const HEADER_LENGTH: usize = 19;
/// Octets of the marker.
const MARKER_LENGTH: usize = 16;

/// The header as it stands on the wire (RFC 4271 section 4.1).
#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    marker: [u8; MARKER_LENGTH],
    length: U16,
    kind: u8,
}

/// How long a message may be, header included.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum MaxMessage {
    /// 4,096 octets (RFC 4271).
    #[default]
    Standard,
    /// 65,535 octets, where both sides announced the extended message capability (RFC 8654).
    Extended,
}

impl MaxMessage {
    /// The limit in octets.
    pub const fn octets(self) -> usize {
        match self {
            Self::Standard => 4_096,
            Self::Extended => 65_535,
        }
    }
}

/// The type octet of a message.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(missing_docs, reason = "the names are those of RFC 4271 and RFC 2918")]
pub enum MessageKind {
    Open = 1,
    Update = 2,
    Notification = 3,
    Keepalive = 4,
    RouteRefresh = 5,
}

impl MessageKind {
    const fn from_octet(octet: u8) -> Option<Self> {
        match octet {
            1 => Some(Self::Open),
            2 => Some(Self::Update),
            3 => Some(Self::Notification),
            4 => Some(Self::Keepalive),
            5 => Some(Self::RouteRefresh),
            _ => None,
        }
    }

    /// Whether a message of this kind may have `length` octets, header included.
    const fn allows(self, length: usize, max_message: MaxMessage) -> bool {
        match self {
            // RFC 8654 section 4 excludes both from the extension.
            Self::Open => length >= 29 && length <= MaxMessage::Standard.octets(),
            Self::Keepalive => length == HEADER_LENGTH,
            Self::Update => length >= 23 && length <= max_message.octets(),
            // One that is too short has an error code of its own (RFC 7313 section 5): its decoder tells.
            Self::RouteRefresh => length <= max_message.octets(),
            Self::Notification => length >= 21 && length <= max_message.octets(),
        }
    }
}

/// One message, header removed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    /// Its type.
    pub kind: MessageKind,
    /// What follows the header. Shares the receive buffer: do not keep it beyond decoding.
    pub body: Bytes,
}

/// Takes the first message off `buffer`; `None` if it is not complete yet.
///
/// A NOTIFICATION of a wrong length is delivered with an empty body, since it must not be answered by another one
/// (RFC 4271 section 6.4).
///
/// # Errors
///
/// The NOTIFICATION to send before closing: 1/1, 1/2 or 1/3. The buffer is then of no further use.
pub fn frame(buffer: &mut BytesMut, max_message: MaxMessage) -> Result<Option<Frame>, Notification> {
    if buffer.iter().take(MARKER_LENGTH).any(|octet| *octet != 0xff) {
        return Err(NotificationCode::CONNECTION_NOT_SYNCHRONIZED.notification());
    }
    let Some(&[high, low]) = buffer.get(MARKER_LENGTH..MARKER_LENGTH + 2) else {
        return Ok(None);
    };
    let bad_length = || NotificationCode::BAD_MESSAGE_LENGTH.with_data(&[high, low]);
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length < HEADER_LENGTH {
        return Err(bad_length());
    }
    let Ok((header, _)) = Header::read_from_prefix(buffer) else {
        return Ok(None);
    };
    let kind = MessageKind::from_octet(header.kind);
    let allowed = match kind {
        Some(kind) => kind.allows(length, max_message),
        None => length <= max_message.octets(),
    };
    match kind {
        Some(MessageKind::Notification) if !allowed => {
            buffer.clear();
            Ok(Some(Frame { kind: MessageKind::Notification, body: Bytes::new() }))
        }
        _ if !allowed => Err(bad_length()),
        None => Err(NotificationCode::BAD_MESSAGE_TYPE.with_data(&[header.kind])),
        Some(_) if buffer.len() < length => Ok(None),
        Some(kind) => {
            let body = buffer.split_to(length).freeze().split_off(HEADER_LENGTH);
            Ok(Some(Frame { kind, body }))
        }
    }
}

/// Appends a header of yet unknown length; returns where the message starts, for [`end_message`].
pub(crate) fn begin_message(kind: MessageKind, out: &mut BytesMut) -> usize {
    let start = out.len();
    let header = Header { marker: [0xff; MARKER_LENGTH], length: U16::ZERO, kind: kind as u8 };
    out.put_slice(header.as_bytes());
    start
}

/// Writes the length of the message that began at `start` and ends at the end of `out`.
pub(crate) fn end_message(start: usize, out: &mut BytesMut) {
    let length = out.len().saturating_sub(start);
    patch_u16(out, start.saturating_add(MARKER_LENGTH), length);
}

/// Overwrites two octets at `position` with `value`, which the caller has kept within 65,535.
pub(crate) fn patch_u16(out: &mut BytesMut, position: usize, value: usize) {
    debug_assert!(value <= usize::from(u16::MAX), "a length field of two octets cannot hold {value}");
    let value = u16::try_from(value).unwrap_or(u16::MAX);
    if let Some(field) = out.get_mut(position..position.saturating_add(2)) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message with a header of our making and `body` behind it.
    fn message(length: u16, kind: u8, body: &[u8]) -> BytesMut {
        let mut bytes = BytesMut::from(&[0xff; MARKER_LENGTH][..]);
        bytes.put_u16(length);
        bytes.put_u8(kind);
        bytes.put_slice(body);
        bytes
    }

    fn error(length: u16, kind: u8, max_message: MaxMessage) -> (NotificationCode, Vec<u8>) {
        let notification = frame(&mut message(length, kind, &[]), max_message).unwrap_err();
        (notification.error(), notification.data.to_vec())
    }

    #[test]
    fn a_marker_that_is_not_all_ones_is_refused_at_its_first_octet() {
        let mut bytes = BytesMut::from(&b"GET"[..]);
        let notification = frame(&mut bytes, MaxMessage::Standard).unwrap_err();
        assert_eq!(notification.error(), NotificationCode::CONNECTION_NOT_SYNCHRONIZED);
    }

    #[test]
    fn lengths_outside_the_limits_are_refused_with_the_length_as_data() {
        use MaxMessage::{Extended, Standard};
        for (name, length, kind, max_message) in [
            ("zero", 0_u16, 4, Standard),
            ("below the header", 18, 4, Standard),
            ("4,097 without extended messages", 4_097, 2, Standard),
            ("long OPEN despite extended messages", 4_097, 1, Extended),
            ("long KEEPALIVE despite extended messages", 4_097, 4, Extended),
            ("short OPEN", 28, 1, Standard),
            ("short UPDATE", 22, 2, Standard),
            ("long ROUTE-REFRESH", 4_097, 5, Standard),
            ("KEEPALIVE with a body", 20, 4, Standard),
        ] {
            let expected = (NotificationCode::BAD_MESSAGE_LENGTH, length.to_be_bytes().to_vec());
            assert_eq!(error(length, kind, max_message), expected, "{name}");
        }
    }

    #[test]
    fn a_length_below_the_header_is_refused_before_the_type_arrives() {
        let mut bytes = message(18, 4, &[]);
        bytes.truncate(18);
        assert!(frame(&mut bytes, MaxMessage::Standard).is_err());
    }

    #[test]
    fn an_unknown_type_is_refused_with_the_type_as_data() {
        for kind in [0, 6, 255] {
            assert_eq!(error(19, kind, MaxMessage::Standard), (NotificationCode::BAD_MESSAGE_TYPE, vec![kind]));
        }
    }

    #[test]
    fn a_notification_of_a_wrong_length_is_delivered_and_not_answered() {
        for length in [19, 20, 4_097] {
            let framed = frame(&mut message(length, 3, &[]), MaxMessage::Standard).unwrap().unwrap();
            assert_eq!((framed.kind, framed.body.len()), (MessageKind::Notification, 0));
        }
    }

    #[test]
    fn messages_of_exactly_the_limit_are_taken() {
        for (length, max_message) in [(4_096_u16, MaxMessage::Standard), (65_535, MaxMessage::Extended)] {
            let body = vec![0; usize::from(length) - HEADER_LENGTH];
            let framed = frame(&mut message(length, 2, &body), max_message).unwrap().unwrap();
            assert_eq!(framed.body, body);
        }
    }

    #[test]
    fn half_a_message_is_not_delivered() {
        let mut bytes = message(30, 2, &[0; 10]);
        assert_eq!(frame(&mut bytes, MaxMessage::Standard), Ok(None));
        bytes.put_u8(0);
        assert!(frame(&mut bytes, MaxMessage::Standard).unwrap().is_some());
        assert!(bytes.is_empty());
    }

    #[test]
    fn a_good_message_before_a_bad_one_is_delivered_first() {
        let mut bytes = message(19, 4, &[]);
        bytes.extend_from_slice(&message(19, 9, &[]));
        assert_eq!(frame(&mut bytes, MaxMessage::Standard).unwrap().unwrap().kind, MessageKind::Keepalive);
        assert!(frame(&mut bytes, MaxMessage::Standard).is_err());
    }
}
