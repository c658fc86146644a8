//! BGP without I/O: wire codec, session state machine, RIB, update groups, RT-constrain.
//!
//! Everything here is a pure function of its inputs: bytes, decoded messages, and the time, which callers pass in as
//! an [`time::Instant`]. Outputs are polled. No clock, no randomness, no sockets, no threads, so that a whole fabric
//! can be simulated in one thread.
//!
//! ```text
//!   bytes ──► session::Peer ──► wire::Update ──► rib::Rib ──► shared encoded UPDATEs ──► bytes
//! ```
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, clippy::expect_used)]

pub mod mobility;
pub mod rib;
pub mod rule;
pub mod session;
pub mod time;
pub mod types;
pub mod wire;
