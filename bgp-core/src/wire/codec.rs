//! From a frame to a [`Message`] and back.

use bytes::BytesMut;

use super::context::{DecodeContext, EncodeContext};
use super::frame::{Frame, MessageKind, begin_message, end_message};
use super::message::{Message, Notification, Open, RouteRefresh, Update};
use super::rules::Fault;

impl Message {
    /// Reads one message.
    ///
    /// # Errors
    ///
    /// The NOTIFICATION to send before closing.
    pub fn decode(frame: &Frame, ctx: &DecodeContext) -> Result<Self, Notification> {
        Ok(Self::judge(frame, ctx)?)
    }

    /// Reads one message as [`Message::decode`] does.
    ///
    /// # Errors
    ///
    /// The NOTIFICATION to send before closing, with the rule that the message broke.
    pub fn judge(frame: &Frame, ctx: &DecodeContext) -> Result<Self, Fault> {
        let body = &frame.body;
        Ok(match frame.kind {
            MessageKind::Open => Self::Open(Open::decode(body)?),
            MessageKind::Update => Self::Update(Box::new(Update::decode(body, ctx)?)),
            MessageKind::Notification => Self::Notification(Notification::decode(body)),
            MessageKind::Keepalive => Self::Keepalive,
            MessageKind::RouteRefresh => Self::RouteRefresh(RouteRefresh::decode(body)?),
        })
    }

    /// Appends the message to `out`. An [`Update`] may take several messages, see [`Update::encode`].
    pub fn encode(&self, ctx: &EncodeContext, out: &mut BytesMut) {
        let kind = match self {
            Self::Open(_) => MessageKind::Open,
            Self::Update(update) => return update.encode(ctx, out),
            Self::Notification(_) => MessageKind::Notification,
            Self::Keepalive => MessageKind::Keepalive,
            Self::RouteRefresh(_) => MessageKind::RouteRefresh,
        };
        let start = begin_message(kind, out);
        match self {
            Self::Open(open) => open.encode(out),
            Self::Notification(notification) => notification.encode(ctx.max_message, out),
            Self::RouteRefresh(refresh) => refresh.encode(out),
            Self::Update(_) | Self::Keepalive => {}
        }
        end_message(start, out);
    }
}
