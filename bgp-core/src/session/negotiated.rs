//! What two OPENs agree on.

use crate::time::Duration;
use crate::types::{AddressFamily, Asn, RouterId};
use crate::wire::message::GracefulRestart;

/// The outcome of the exchange of OPENs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Negotiated {
    /// The peer's AS.
    pub remote_asn: Asn,
    /// The peer's BGP identifier.
    pub remote_router_id: RouterId,
    /// Same AS on both sides.
    pub internal: bool,
    /// The smaller of both proposals; zero: the session never expires and sends no KEEPALIVE.
    pub hold_time: Duration,
    /// A third of the hold time.
    pub keepalive_interval: Duration,
    /// Families of both sides, in our order; never empty.
    pub families: Vec<AddressFamily>,
    /// AS numbers have four octets (RFC 6793).
    pub four_octet_as: bool,
    /// Messages may have up to 65,535 octets (RFC 8654).
    pub extended_message: bool,
    /// The peer understands ROUTE-REFRESH (RFC 2918).
    pub route_refresh: bool,
    /// The peer understands the borders of a refresh (RFC 7313).
    pub enhanced_route_refresh: bool,
    /// The peer's graceful restart capability; none unless both sides have it. Only families of the session.
    pub graceful_restart: Option<GracefulRestart>,
    /// Long-lived stale times of the peer (RFC 9494); empty unless graceful restart is there.
    pub long_lived: Vec<(AddressFamily, bool, u32)>,
    /// Both sides set the N bit (RFC 8538).
    pub notification_restart: bool,
    /// Our OPEN had the R bit.
    pub local_restarting: bool,
}

impl Negotiated {
    /// Whether the session carries `family`.
    pub fn has(&self, family: AddressFamily) -> bool {
        self.families.contains(&family)
    }

    /// Whether the peer has restarted (R bit) and waits for our end-of-RIB.
    pub fn peer_restarting(&self) -> bool {
        self.graceful_restart.as_ref().is_some_and(|peer| peer.restarting)
    }

    /// Whether the peer kept forwarding for `family` (F bit): if not, its stale routes go at once (RFC 4724 4.2).
    pub fn preserves(&self, family: AddressFamily) -> bool {
        self.graceful_restart.as_ref().is_some_and(|peer| peer.families.contains(&(family, true)))
    }

    /// Families whose routes are kept when the peer restarts.
    pub fn restart_families(&self) -> impl Iterator<Item = AddressFamily> + '_ {
        self.graceful_restart.iter().flat_map(|peer| peer.families.iter().map(|(family, _)| *family))
    }

    /// How long they are kept.
    pub fn restart_time(&self) -> Duration {
        let secs = self.graceful_restart.as_ref().map_or(0, |peer| peer.restart_time_secs);
        Duration::from_secs(u64::from(secs))
    }

    /// Whether a NOTIFICATION other than a hard reset keeps routes (RFC 8538 section 4).
    pub fn notification_keeps_routes(&self) -> bool {
        self.notification_restart
    }
}
