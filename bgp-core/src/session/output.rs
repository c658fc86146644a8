//! What the session wants done, and what it tells its owner.

use core::fmt;

use bytes::Bytes;

use super::{Negotiated, OpenFault, Retention};
use crate::wire::NotificationCode;
use crate::wire::message::{Notification, RouteRefresh, Update};

/// A TCP connection, numbered by the driver; never reused within a [`super::Peer`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConnectionId(pub u32);

/// Who opened a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// The peer did.
    Incoming,
    /// We did.
    Outgoing,
}

/// Whether everything that was handed over for a connection is in the socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SendQueue {
    /// It is.
    Empty,
    /// Something waits for the peer to read.
    Pending,
}

/// The states of RFC 4271 section 8.2.2.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum State {
    /// Stopped, or pausing after failures; connections are refused.
    #[default]
    Idle,
    /// Dialling.
    Connect,
    /// Waiting for the peer, or for the next attempt.
    Active,
    /// Connected, OPEN sent.
    OpenSent,
    /// The peer's OPEN was accepted.
    OpenConfirm,
    /// Routes flow.
    Established,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What the driver must do or pass on, in the order given.
#[derive(Debug)]
pub enum Output {
    /// Dial the peer; answer with `connected` or `connect_failed`.
    Connect,
    /// Give up the attempt that is under way.
    CancelConnect,
    /// Send a whole message of the session's own (never an UPDATE), after what is queued.
    Send(ConnectionId, Bytes),
    /// Send what is queued, within a short time, and close.
    Close(ConnectionId),
    /// A session is up.
    Established(ConnectionId, Box<Negotiated>),
    /// Routes from the peer.
    Update(Box<Update>),
    /// The peer asks for routes, or marks the borders of such an answer.
    RouteRefresh(RouteRefresh),
    /// The session is over; exactly one for each `Established`.
    Down(DownReason),
    /// A connection failed before its session was up.
    Failed(DownCause),
    /// The state shown to people has changed.
    StateChanged {
        /// Until now.
        from: State,
        /// From now on.
        to: State,
    },
}

/// Why the owner ends a session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StopReason {
    /// The peer is shut down by an operator: Cease 6/2 with a text of up to 255 octets (RFC 9003).
    Shutdown {
        /// Shown to the peer's operator.
        communication: String,
    },
    /// The peer was removed from the configuration: Cease 6/3.
    Deconfigured,
    /// Leave for good and have the peer drop our routes at once (RFC 8538 section 3.1).
    HardReset,
    /// Leave and come back: where graceful restart was negotiated close without NOTIFICATION, so that any helper keeps
    /// our routes; else Cease 6/2.
    Restart,
    /// Start again at once, for a configuration that must be negotiated: Cease 6/6, or 6/4 by an operator's wish.
    Reset {
        /// An operator asked, the configuration did not change.
        administrative: bool,
    },
    /// The peer announced more routes than it may: Cease 6/1. Comes back after the longest idle hold.
    MaxPrefixes,
    /// The peer costs more memory than it may: Cease 6/8. Comes back after the longest idle hold.
    OutOfResources,
}

impl StopReason {
    /// Whether the peer stays idle until it is started again.
    pub(crate) const fn is_final(&self) -> bool {
        matches!(self, Self::Shutdown { .. } | Self::Deconfigured | Self::HardReset | Self::Restart)
    }

    /// Whether our routes and the peer's are to be forgotten in spite of graceful restart.
    pub(crate) const fn is_hard(&self) -> bool {
        matches!(self, Self::Shutdown { .. } | Self::Deconfigured | Self::HardReset | Self::MaxPrefixes)
    }

    /// The Cease that says so.
    pub(crate) fn notification(&self) -> Notification {
        let code = match self {
            Self::Shutdown { communication } => {
                return Notification::with_communication(
                    NotificationCode::CEASE_ADMINISTRATIVE_SHUTDOWN,
                    communication,
                );
            }
            Self::Deconfigured => NotificationCode::CEASE_PEER_DE_CONFIGURED,
            Self::HardReset | Self::Restart => NotificationCode::CEASE_ADMINISTRATIVE_SHUTDOWN,
            Self::Reset { administrative: true } => NotificationCode::CEASE_ADMINISTRATIVE_RESET,
            Self::Reset { administrative: false } => NotificationCode::CEASE_CONFIGURATION_CHANGE,
            Self::MaxPrefixes => NotificationCode::CEASE_MAXIMUM_PREFIXES,
            Self::OutOfResources => NotificationCode::CEASE_OUT_OF_RESOURCES,
        };
        code.notification()
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shutdown { communication } if communication.is_empty() => "shut down here",
            Self::Shutdown { communication } => return write!(f, "shut down here: {communication:?}"),
            Self::Deconfigured => "removed from the configuration",
            Self::HardReset => "leaving for good",
            Self::Restart => "leaving to restart",
            Self::Reset { administrative: true } => "reset by an operator",
            Self::Reset { administrative: false } => "reset for a changed configuration",
            Self::MaxPrefixes => "the peer announced more routes than it may",
            Self::OutOfResources => "the peer cost more resources than it may",
        })
    }
}

/// Why a session or a connection ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DownCause {
    /// The owner ended it.
    Stopped(StopReason),
    /// Nothing was heard for the hold time.
    HoldTimerExpired,
    /// The peer accepted nothing for the send-hold time (RFC 9687).
    SendHoldTimerExpired,
    /// No OPEN came in time.
    OpenTimedOut,
    /// The peer's OPEN does not fit our configuration.
    OpenRefused(OpenFault),
    /// The peer sent a NOTIFICATION.
    NotificationReceived(Notification),
    /// We sent one, for what the peer sent.
    NotificationSent(Notification),
    /// TCP closed.
    Closed,
    /// The peer came back on a new connection while the old one still looked alive (RFC 4724 section 4.2).
    Replaced,
}

impl fmt::Display for DownCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped(reason) => fmt::Display::fmt(reason, f),
            Self::HoldTimerExpired => f.write_str("nothing heard from the peer for the hold time"),
            Self::SendHoldTimerExpired => f.write_str("the peer read nothing for the send-hold time"),
            Self::OpenTimedOut => f.write_str("the peer sent no OPEN in time"),
            Self::OpenRefused(fault) => fmt::Display::fmt(fault, f),
            Self::NotificationReceived(received) => {
                write!(f, "the peer sent {received}")?;
                received.error().cure().map_or(Ok(()), |cure| write!(f, "; {cure}"))
            }
            Self::NotificationSent(sent) => write!(f, "sent the peer {sent}"),
            Self::Closed => f.write_str("the peer closed the TCP connection"),
            Self::Replaced => f.write_str("the peer came back on a new connection"),
        }
    }
}

/// Why a session ended, and what that means for the peer's routes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DownReason {
    /// The cause.
    pub cause: DownCause,
    /// Families whose routes are kept until the peer is back, and how long at most (RFC 4724 section 4.2, RFC 8538,
    /// RFC 9494); those of other families go at once.
    pub keeps: Vec<Retention>,
}

impl DownReason {
    /// Applies the rules of graceful restart to a session that ended.
    pub(crate) fn new(cause: DownCause, negotiated: &Negotiated) -> Self {
        let survives = match &cause {
            DownCause::Stopped(reason) => !reason.is_hard() && negotiated.notification_restart,
            DownCause::HoldTimerExpired | DownCause::SendHoldTimerExpired | DownCause::NotificationSent(_) => {
                negotiated.notification_restart
            }
            DownCause::NotificationReceived(received) => negotiated.notification_restart && !received.is_hard_reset(),
            DownCause::Closed | DownCause::Replaced => true,
            DownCause::OpenTimedOut | DownCause::OpenRefused(_) => false,
        };
        let keeps = if survives { negotiated.retentions().collect() } else { Vec::new() };
        Self { cause, keeps }
    }
}
