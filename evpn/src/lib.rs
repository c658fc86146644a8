//! EVPN without I/O: MAC-VRFs, mobility, flood lists; turns routes into desired forwarding state.
//!
//! An [`Engine`] owns every MAC-VRF of one worker (RFC 7432 section 6.1, VLAN-based service: one VNI, one MAC-VRF, one
//! LAN). It is told what the node sees and what the reflectors say; it is asked what the node should announce and what
//! its kernel should hold. No clock, no sockets, no threads; no input makes it panic.
//!
//! ```text
//!   members, CNI claims ──┐                        ┌──► poll_origination   type 3 and type 2 routes of this node
//!   bridge FDB events ────┤                        ├──► poll_membership    RT-constrain interest
//!   best EVPN routes ─────┼──►  Engine  ───────────┼──► poll_dirty, desired  forwarding state, key by key
//!   rows found at start ──┤   (per VNI: MacVrf)    ├──► poll_report        what an operator should know
//!   time ─────────────────┘                        └──► next_deadline
//! ```
//!
//! Forwarding state is a pure function of routes and local members. A change marks keys dirty; the owner asks for the
//! state of a key when it gets to it, so ten changes of one row cost one write. Cost is O(changes): a route finds its
//! MAC-VRF by VNI, and nothing walks all VNIs or all MACs except attaching the first and detaching the last member.
//!
//! | module | owns |
//! | --- | --- |
//! | [`config`] | identity, policies and limits of a worker |
//! | [`forwarding`] | what the kernel should hold |
//! | [`import`] | which LAN a received route belongs to, and whether it may be installed |
//! | [`report`] | what an operator should know |
//! | [`routes`] | the routes and memberships that a worker announces |
//! | [`rules`] | names of what is refused or reported |
//! | [`show`] | views for people |
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, clippy::expect_used)]

mod budget;
mod candidates;
pub mod config;
mod engine;
pub mod forwarding;
pub mod import;
mod knowledge;
mod mac;
mod outputs;
pub mod report;
pub mod routes;
pub mod rules;
pub mod show;
mod vrf;

pub use config::Config;
pub use engine::{Claim, ClaimError, Engine, Footprint, Member};
pub use report::Report;
pub use routes::Origination;
