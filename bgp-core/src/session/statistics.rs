//! Counters of one peer, over all its sessions.

use crate::wire::MessageKind;

/// Messages by type.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct MessageCounts {
    /// OPEN.
    pub open: u64,
    /// UPDATE.
    pub update: u64,
    /// NOTIFICATION.
    pub notification: u64,
    /// KEEPALIVE.
    pub keepalive: u64,
    /// ROUTE-REFRESH.
    pub route_refresh: u64,
}

impl MessageCounts {
    pub(super) const fn count(&mut self, kind: MessageKind) {
        let counter = match kind {
            MessageKind::Open => &mut self.open,
            MessageKind::Update => &mut self.update,
            MessageKind::Notification => &mut self.notification,
            MessageKind::Keepalive => &mut self.keepalive,
            MessageKind::RouteRefresh => &mut self.route_refresh,
        };
        *counter = counter.saturating_add(1);
    }

    /// All of them.
    pub const fn total(&self) -> u64 {
        self.open
            .saturating_add(self.update)
            .saturating_add(self.notification)
            .saturating_add(self.keepalive)
            .saturating_add(self.route_refresh)
    }
}

/// What happened with a peer since it was added.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Statistics {
    /// Messages received, counted before they are decoded.
    pub received: MessageCounts,
    /// Messages sent; UPDATEs as the driver reported them.
    pub sent: MessageCounts,
    /// Octets received.
    pub octets_received: u64,
    /// Octets sent.
    pub octets_sent: u64,
    /// Sessions that came up.
    pub established: u64,
    /// Sessions that ended.
    pub down: u64,
    /// Connections that failed before their session was up.
    pub failed: u64,
    /// Connections refused while idle.
    pub refused: u64,
    /// What was malformed in UPDATEs and did not end a session (RFC 7606).
    pub findings: u64,
}
