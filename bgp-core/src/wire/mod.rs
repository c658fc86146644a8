//! The wire format: BGP messages as typed values, and the codec between those and bytes.
//!
//! Structures are parsed, not validated afterwards: what decodes is well-formed, and what is sent is encoded from these
//! structures, never copied from what a peer sent (except attributes that RFC 4271 section 5 tells to pass along).

pub mod attributes;
pub mod message;
pub mod nlri;

pub use attributes::PathAttributes;
pub use message::{Capability, Message, Notification, Open, RouteRefresh, Update};
pub use nlri::{Evpn, EvpnKey, EvpnPayload, Nlri, Route, RtConstrain, RtMembership};
