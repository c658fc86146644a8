//! The RFC 4271 session state machine, without I/O.

mod config;
mod negotiated;
mod output;

pub use config::{EvpnErrors, PeerConfig, RestartConfig};
pub use negotiated::Negotiated;
pub use output::{ConnectionId, Direction, DownCause, DownReason, Output, State, StopReason};
