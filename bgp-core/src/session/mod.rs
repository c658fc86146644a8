//! The RFC 4271 session state machine, without I/O.
//!
//! A [`Peer`] is one neighbour. It owns at most two TCP connections, decides between them, and turns octets into
//! routes. Inputs: connections that came up or ended, octets, progress of writing, the time, what the owner wants.
//! Outputs, polled in order: connect, send, close, established, routes, down. One deadline.
//!
//! ```text
//!             start                       connected, OPEN out
//!   ┌──────┐ ──────► ┌─────────┐ ──────────────► ┌──────────┐  OPEN in   ┌─────────────┐
//!   │ Idle │         │ Connect │                 │ OpenSent │ ─────────► │ OpenConfirm │
//!   └──────┘ ◄─┐     └─────────┘ ◄─┐ retry     ┌►└──────────┘            └─────────────┘
//!      │       │          │ failed │           │      │                         │ KEEPALIVE in
//!      │ pause │          ▼        │           │      │ ended            ended  ▼
//!      │ over  │     ┌────────┐ ───┘           │      │         ┌─────────────┐
//!      └───────┼───► │ Active │ ───────────────┘      ├◄─────── │ Established │
//!              │     └────────┘   peer connected      │         └─────────────┘
//!              │          ▲                           │
//!              └──────────┴───────────────────────────┘
//!           repeated failures     first failures
//! ```
//!
//! Rules beyond RFC 4271: graceful restart (RFC 4724, RFC 8538) decides in [`DownReason`] whether routes outlive the
//! session; the send-hold timer (RFC 9687) ends one whose peer does not read; FSM errors carry the subcodes of RFC 6608;
//! collisions follow RFC 6286; input that is present but unread counts as life.

mod config;
mod connection;
mod message;
mod negotiated;
mod open_fault;
mod output;
mod peer;
pub mod refusal;
mod statistics;
mod timers;

#[cfg(any(test, feature = "testing"))]
#[allow(
    missing_docs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "what tests share reads like a test, and a panic is how it reports"
)]
#[cfg_attr(not(test), allow(dead_code, reason = "others use the network alone"))]
pub mod tests;

pub use config::{LongLivedConfig, PeerConfig, RestartConfig};
pub use negotiated::{Negotiated, Retention};
pub use open_fault::OpenFault;
pub use output::{ConnectionId, Direction, DownCause, DownReason, Output, SendQueue, State, StopReason};
pub use peer::Peer;
pub use refusal::Refusal;
pub use statistics::{MessageCounts, Statistics};
