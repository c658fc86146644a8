//! What the daemons learn from Kubernetes and tell it.
//!
//! ```text
//!   API server ──list, watch──► watch (keeps what was known, on disk too) ──► nodes, reflectors, secret: what it means
//!   API server ◄──condition, Events── report
//! ```
//!
//! The API server is a source of news, never of silence: while it is away, refuses or answers with nothing, all that was
//! known stays known. [`watch`] sees to that; everything else here turns objects into what the daemons need.

pub mod client;
pub mod explain;
pub mod metrics;
pub mod multus;
pub mod nodes;
pub mod pod;
pub mod reflectors;
pub mod report;
pub mod secret;
pub mod watch;
