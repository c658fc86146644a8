//! NOTIFICATION: reading and writing it, and the texts and wrappings inside a Cease (RFC 9003, RFC 8538).

use core::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::error::NotificationCode;
use super::frame::{HEADER_LENGTH, MaxMessage};
use super::message::{Capability, Notification};
use super::open::capabilities_data;
use super::reader::Reader;

/// Longest shutdown communication in octets (RFC 9003 section 2).
pub const MAX_SHUTDOWN_COMMUNICATION: usize = 255;

impl Notification {
    /// Code and subcode, which have names.
    pub const fn error(&self) -> NotificationCode {
        NotificationCode { code: self.code, subcode: self.subcode }
    }

    /// 6/2, or any Cease that carries a text: `text` is cut to 255 octets at a character's end (RFC 9003).
    pub fn with_communication(error: NotificationCode, text: &str) -> Self {
        let mut end = text.len().min(MAX_SHUTDOWN_COMMUNICATION);
        while !text.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        let text = text.get(..end).unwrap_or_default();
        let mut data = BytesMut::with_capacity(text.len().saturating_add(1));
        data.put_u8(u8::try_from(text.len()).unwrap_or(u8::MAX));
        data.put_slice(text.as_bytes());
        Self { code: error.code, subcode: error.subcode, data: data.freeze() }
    }

    /// 2/7 that names the capabilities we insist on (RFC 5492 section 5).
    pub fn unsupported_capability(required: &[Capability]) -> Self {
        NotificationCode::UNSUPPORTED_CAPABILITY.with_data(&capabilities_data(required))
    }

    /// This NOTIFICATION wrapped into a hard reset, which ends graceful restart (RFC 8538 section 3.1).
    #[must_use]
    pub fn into_hard_reset(self) -> Self {
        let mut data = BytesMut::with_capacity(self.data.len().saturating_add(2));
        data.put_u8(self.code);
        data.put_u8(self.subcode);
        data.put_slice(&self.data);
        let NotificationCode { code, subcode } = NotificationCode::CEASE_HARD_RESET;
        Self { code, subcode, data: data.freeze() }
    }

    /// Whether the routes must go even if graceful restart was negotiated (RFC 8538 section 4).
    pub fn is_hard_reset(&self) -> bool {
        self.error() == NotificationCode::CEASE_HARD_RESET
    }

    /// The NOTIFICATION inside a hard reset.
    pub fn hard_reset_reason(&self) -> Option<Self> {
        match &*self.data {
            [code, subcode, data @ ..] if self.is_hard_reset() => {
                Some(Self { code: *code, subcode: *subcode, data: Bytes::copy_from_slice(data) })
            }
            _ => None,
        }
    }

    /// The shutdown communication of 6/2 or 6/4, made fit for a log: invalid UTF-8, control characters and marks that
    /// change the direction of text are replaced. `None` where there is no text or its length is wrong.
    pub fn communication(&self) -> Option<String> {
        if !matches!(
            self.error(),
            NotificationCode::CEASE_ADMINISTRATIVE_SHUTDOWN | NotificationCode::CEASE_ADMINISTRATIVE_RESET
        ) {
            return None;
        }
        let text = Reader::new(&self.data).prefixed_u8()?.rest();
        if text.is_empty() { None } else { Some(sanitised(&String::from_utf8_lossy(text))) }
    }

    pub(crate) fn decode(body: &[u8]) -> Self {
        match body {
            [code, subcode, data @ ..] => Self { code: *code, subcode: *subcode, data: Bytes::copy_from_slice(data) },
            // Too short to say why. It still means that the peer closes, and must not be answered.
            _ => Self { code: 0, subcode: 0, data: Bytes::new() },
        }
    }

    /// Appends the message's body; data beyond what `max_message` holds is left out.
    pub(crate) fn encode(&self, max_message: MaxMessage, out: &mut BytesMut) {
        out.put_u8(self.code);
        out.put_u8(self.subcode);
        out.extend(self.data.iter().take(max_message.octets() - HEADER_LENGTH - 2));
    }
}

impl NotificationCode {
    /// What a person does about one that was received, where the cause lies in the configuration of either side.
    pub(crate) const fn cure(self) -> Option<&'static str> {
        Some(match self {
            Self::BAD_PEER_AS => "it expects us in another AS: correct ours there, or `asn` here",
            Self::BAD_BGP_IDENTIFIER => "it does not take our BGP identifier: give another `router_id`",
            Self::UNSUPPORTED_CAPABILITY => {
                "it wants what we do not offer, or has no EVPN for us: turn on l2vpn evpn there"
            }
            Self::CEASE_MAXIMUM_PREFIXES => "it takes fewer routes than we have: raise its limit",
            Self::CEASE_PEER_DE_CONFIGURED | Self::CEASE_CONNECTION_REJECTED => {
                "it is not configured for our address: configure it there"
            }
            _ => return None,
        })
    }
}

impl fmt::Display for Notification {
    /// `Cease / Administrative Shutdown (6/2): "maintenance"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error().fmt(f)?;
        // One level only: a hard reset inside a hard reset has no meaning.
        let inner = self.hard_reset_reason();
        if let Some(inner) = &inner {
            write!(f, ": {}", inner.error())?;
        }
        match inner.as_ref().unwrap_or(self).communication() {
            Some(text) => write!(f, ": {text:?}"),
            None => Ok(()),
        }
    }
}

/// Replaces what could fool a terminal or a reader of logs.
fn sanitised(text: &str) -> String {
    let deceives = |character: char| {
        character.is_control()
            || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars().map(|character| if deceives(character) { char::REPLACEMENT_CHARACTER } else { character }).collect()
}
