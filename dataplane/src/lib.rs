//! Linux forwarding for EVPN: bridges, VXLAN, veth, FDB and neighbours over netlink; an in-memory kernel with the same
//! trait.
//!
//! In: changes of *desired forwarding state* ([`Change`]), attachments of pods. Out: what the kernel holds
//! ([`Snapshot`]) and what happened in it ([`Observation`]).
//!
//! ```text
//!   engine ──dirty keys──▶ actor::Handle ──commands──▶ ┌──────────────┐ ──netlink──▶ kernel
//!   engine ◀─observations─ actor::Events ◀─events───── │ own OS thread│ ◀─notifications
//!                                                      └──────────────┘
//! ```
//!
//! The kernel is the database: nothing is remembered that cannot be read back. [`plan`] is the pure difference between
//! what is desired and what a snapshot shows; a batch of changes carries it out; a key that fails stays dirty at the
//! caller.
//!
//! The duties of a caller:
//! * at start and after [`Observation::Overrun`]: [`Dataplane::snapshot`], [`plan`], [`Dataplane::apply`];
//! * after [`Observation::TunnelGone`]: apply the tunnel and all of its rows again;
//! * after [`Observation::RowDisturbed`]: apply that key as it should be;
//! * after [`Observation::PortGone`]: [`Dataplane::detach`] without ports, which removes LANs without members.

pub mod actor;
mod error;
mod host;
pub mod linux;
pub mod memory;
mod model;
mod plan;
pub mod rules;

pub use error::{AttachError, ChangeError, Error, KernelError};
pub use host::{HostReport, MtuLimit};
pub use model::{
    AttachRequest, Attached, BridgeRow, Change, Existing, LanSnapshot, LocalMac, Observation, Pod, PortId,
    PortSnapshot, RemoteRow, Route, Snapshot,
};
pub use plan::plan;

use std::os::fd::BorrowedFd;
use std::time::Duration;

/// The most changes that one [`Dataplane::apply`] takes; [`actor::Handle::apply`] cuts longer lists itself.
pub const MAX_BATCH: usize = 1024;

/// A kernel that forwards frames of LANs: Linux, or one in memory.
pub trait Dataplane {
    /// Reads everything back: for adoption at start, after an overrun, and for audits. Observations that have not been
    /// polled yet are dropped, since the snapshot includes what they told.
    ///
    /// # Errors
    /// The kernel cannot be read; nothing was dropped.
    fn snapshot(&mut self) -> Result<Snapshot, Error>;

    /// Carries changes out, in their order, one result each. Applying what is already so is no error and changes
    /// nothing. Rows of a tunnel that is not there are refused, so a batch names the tunnel first ([`evpn::forwarding::Key`] sorts
    /// that way).
    ///
    /// Changes beyond [`MAX_BATCH`] are answered with [`ChangeError::BatchTooLong`].
    fn apply(&mut self, batch: &[Change]) -> Vec<Result<(), ChangeError>>;

    /// Connects an interface of a pod to a LAN. The first member makes the LAN's bridge. All or nothing: after an
    /// error no new device exists.
    ///
    /// # Errors
    /// See [`AttachError`].
    fn attach(&mut self, request: AttachRequest) -> Result<Attached, AttachError>;

    /// Removes ports, all devices of one call in one go, and then every LAN without members: bridge and tunnel. Done is
    /// done, also for ports that are already gone or never were. The MACs that were known behind the ports are then
    /// observed to be gone.
    ///
    /// # Errors
    /// The kernel refused; what is left is removed by the next try.
    fn detach(&mut self, ports: &[PortId]) -> Result<(), Error>;

    /// What happened since the last call, oldest first. Waits up to `timeout` for something to happen, not at all where
    /// it is zero; may return early and empty.
    ///
    /// # Errors
    /// The notification channel is broken for good; an overrun is no error but an observation.
    fn poll_events(&mut self, timeout: Duration) -> Result<Vec<Observation>, Error>;

    /// Becomes readable when [`Dataplane::poll_events`] has something to read; `None` where the owner has to ask
    /// [`Dataplane::has_pending_events`] instead.
    fn event_fd(&self) -> Option<BorrowedFd<'_>>;

    /// Whether observations wait that the descriptor does not show, because they were found in passing.
    fn has_pending_events(&self) -> bool;
}
