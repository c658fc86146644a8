//! The wire format: BGP messages as typed values, and the codec between those and bytes.
//!
//! Structures are parsed, not validated afterwards: what decodes is well-formed, and what is sent is encoded from these
//! structures, never copied from what a peer sent (except attributes that RFC 4271 section 5 tells to pass along).
//!
//! ```text
//!   bytes ──► frame() ──► Message::decode ──► Message          Err(Notification) at either step ends the session
//!   bytes ◄───────────── Message::encode ◄─── Message
//! ```

#[cfg(test)]
pub(crate) mod arbitrary;
pub mod attributes;
mod capability;
mod codec;
pub mod context;
mod display;
pub mod error;
mod findings;
pub mod frame;
pub mod message;
pub mod nlri;
pub mod notification;
mod open;
pub mod pack;
mod reader;
mod refresh;
pub mod rules;
#[cfg(test)]
mod tests;
mod update;

pub use attributes::{EncodedAttributes, PathAttributes};
pub use context::{AttributeTypes, DecodeContext, EncodeContext, EvpnErrors, MultiprotocolErrors};
pub use error::NotificationCode;
pub use frame::{Frame, MaxMessage, MessageKind, frame};
pub use message::{Capability, Message, Notification, Open, RouteRefresh, Update};
pub use nlri::{Evpn, EvpnKey, EvpnPayload, Nlri, Route, RtConstrain, RtMembership, WireNlri};
pub use pack::{TooLong, announce, end_of_rib, withdraw};
pub use rules::Fault;
