//! Runs bgp-core sessions over TCP: listener, connector, writer, timers, MD5, GTSM.
//!
//! One task per peer owns the peer's state machine and its connections; it answers keepalives by itself, so that a busy
//! owner never costs a session. The owner (a reflector's or worker's main loop, which owns the RIB) talks to all of them
//! through [`Io`] and hears from them through one bounded channel of [`Event`]s.
//!
//! ```text
//!   owner ──add_peer, send, stop──► Io ──► peer task ──► TCP
//!   owner ◄──────── Event ─────────────── peer task ◄── TCP
//! ```
//!
//! Writing is pulled: the owner hands a peer one batch of encoded messages and the next one after
//! [`Event::WriterReady`], so that what waits for a slow peer stays in the RIB, where newer state replaces older. Reading
//! stops while the event channel is full.
//!
//! [`Speaker`] joins such sessions with a RIB: what a reflector and a worker have in common.
#![deny(unsafe_code)]
#![warn(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, clippy::expect_used)]

mod api;
mod clock;
mod connection;
mod dial;
mod io;
mod keys;
mod ledger;
mod listener;
mod mailbox;
mod md5_drops;
mod outbox;
pub mod rules;
mod sockopt;
mod speaker;
mod task;
mod writer;

pub use api::{Event, Incoming, IoError, PeerSpec, SessionId};
pub use io::Io;
pub use ledger::{Count, Evidence, Ledger, Who};
pub use speaker::{Neighbor, PeerStatus, Speaker};
