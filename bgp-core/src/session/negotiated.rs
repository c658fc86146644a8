//! What two OPENs agree on.

use core::fmt;

use super::{OpenFault, PeerConfig};
use crate::time::Duration;
use crate::types::{AddressFamily, Asn, RouterId};
use crate::wire::message::{Capability, GracefulRestart, Open};
use crate::wire::{DecodeContext, EncodeContext, MaxMessage};

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
    /// The peer knows what long-lived stale routes are: it sent the capability, beside that of graceful restart (RFC 9494
    /// section 4.5).
    pub long_lived_known: bool,
    /// Long-lived stale times of the peer in seconds, clamped to ours, and its F bits; empty unless both sides offer it.
    /// Only families of the session.
    pub long_lived: Vec<(AddressFamily, bool, u32)>,
    /// Both sides set the N bit: routes outlive a NOTIFICATION other than a hard reset (RFC 8538 section 4).
    pub notification_restart: bool,
    /// Our OPEN had the R bit.
    pub local_restarting: bool,
}

impl Negotiated {
    /// Checks the peer's OPEN (RFC 4271 section 6.2) and combines it with ours.
    pub fn new(config: &PeerConfig, local_restarting: bool, remote: &Open) -> Result<Self, OpenFault> {
        check_identity(config, remote)?;
        let hold_secs = negotiate_hold_secs(config, remote)?;
        let hold_time = Duration::from_secs(u64::from(hold_secs));
        let families = negotiate_families(config, remote)?;
        let graceful_restart = restart_of(config, &families, remote);
        let notification_restart = graceful_restart.as_ref().is_some_and(|peer| peer.notification)
            && config.graceful_restart.as_ref().is_some_and(|ours| ours.notification);
        let long_lived = long_lived_of(config, &families, remote);
        Ok(Self {
            remote_asn: remote.asn,
            remote_router_id: remote.router_id,
            internal: remote.asn == config.local_asn,
            hold_time,
            keepalive_interval: hold_time / 3,
            families,
            four_octet_as: remote.four_octet_as(),
            extended_message: config.extended_message && remote.has(&Capability::ExtendedMessage),
            route_refresh: remote.has(&Capability::RouteRefresh) || remote.has(&Capability::EnhancedRouteRefresh),
            enhanced_route_refresh: remote.has(&Capability::EnhancedRouteRefresh),
            graceful_restart,
            long_lived_known: remote.long_lived_graceful_restart().is_some(),
            long_lived,
            notification_restart,
            local_restarting,
        })
    }

    /// How the peer's messages are read.
    pub fn decode_context(&self, config: &PeerConfig) -> DecodeContext {
        DecodeContext {
            four_octet_as: self.four_octet_as,
            families: self.families.iter().copied().collect(),
            external: !self.internal,
            evpn_errors: config.evpn_errors,
            multiprotocol_errors: config.multiprotocol_errors,
            opaque_routes: config.opaque_routes,
            stripped: config.stripped_attributes,
        }
    }

    /// How messages to the peer are written.
    pub const fn encode_context(&self) -> EncodeContext {
        EncodeContext { four_octet_as: self.four_octet_as, max_message: self.max_message() }
    }

    /// The longest message, either way.
    pub const fn max_message(&self) -> MaxMessage {
        if self.extended_message { MaxMessage::Extended } else { MaxMessage::Standard }
    }

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

    /// As [`Self::preserves`], for stale routes whose restart time is over: the F bit of the peer's long-lived capability
    /// (RFC 9494 section 4.2).
    pub fn preserves_long_lived(&self, family: AddressFamily) -> bool {
        self.long_lived.iter().any(|(listed, forwarding, _)| *listed == family && *forwarding)
    }

    /// Families whose routes are kept when the peer restarts, and how long. A family that only one of the capabilities
    /// lists has no time by the other (RFC 9494 section 4.2).
    pub fn retentions(&self) -> impl Iterator<Item = Retention> + '_ {
        self.families.iter().filter_map(|family| {
            let restart = self.graceful_restart.as_ref()?;
            let listed = restart.families.iter().any(|(listed, _)| listed == family);
            let long_lived = self.long_lived.iter().find(|(listed, ..)| listed == family).map_or(0, |(.., secs)| *secs);
            let restart_secs = if listed { restart.restart_time_secs } else { 0 };
            (listed || long_lived > 0).then_some(Retention {
                family: *family,
                restart_time: Duration::from_secs(u64::from(restart_secs)),
                long_lived_time: Duration::from_secs(u64::from(long_lived)),
            })
        })
    }
}

/// How long routes of a family outlive a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Retention {
    /// Whose.
    pub family: AddressFamily,
    /// First as stale (RFC 4724 section 4.2).
    pub restart_time: Duration,
    /// After that as long-lived stale (RFC 9494 section 4.2).
    pub long_lived_time: Duration,
}

fn check_identity(config: &PeerConfig, remote: &Open) -> Result<(), OpenFault> {
    let wrong_as = remote.asn == Asn(0) || config.remote_asn.is_some_and(|expected| expected != remote.asn);
    if wrong_as {
        return Err(OpenFault::PeerAs { expected: config.remote_asn, found: remote.asn });
    }
    // RFC 6286 section 2.1: not zero, and not ours within one AS.
    let ours = remote.asn == config.local_asn && remote.router_id == config.local_router_id;
    let unexpected = config.remote_router_id.is_some_and(|expected| expected != remote.router_id);
    if remote.router_id == RouterId(0) || ours || unexpected {
        return Err(OpenFault::RouterId { found: remote.router_id });
    }
    Ok(())
}

fn negotiate_hold_secs(config: &PeerConfig, remote: &Open) -> Result<u16, OpenFault> {
    if (1..PeerConfig::MIN_HOLD_SECS).contains(&remote.hold_time_secs) {
        return Err(OpenFault::HoldTime { secs: remote.hold_time_secs });
    }
    Ok(remote.hold_time_secs.min(config.proposed_hold_secs()))
}

fn negotiate_families(config: &PeerConfig, remote: &Open) -> Result<Vec<AddressFamily>, OpenFault> {
    let offered: Vec<_> = remote.families().collect();
    let families: Vec<_> = config.families.iter().copied().filter(|family| offered.contains(family)).collect();
    if families.is_empty() {
        return Err(OpenFault::NoFamily { ours: config.families.clone() });
    }
    Ok(families)
}

/// The peer's capability if both sides have it, cut to families of the session and to the longest time that is granted.
fn restart_of(config: &PeerConfig, families: &[AddressFamily], remote: &Open) -> Option<GracefulRestart> {
    let ours = config.graceful_restart.as_ref()?;
    let mut restart = remote.graceful_restart()?.clone();
    restart.restart_time_secs = restart.restart_time_secs.min(ours.max_restart_time_secs);
    restart.families.retain(|(family, _)| families.contains(family));
    Some(restart)
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {} s", self.family, self.restart_time.as_secs())?;
        match self.long_lived_time.as_secs() {
            0 => Ok(()),
            secs => write!(f, ", then {secs} s long-lived"),
        }
    }
}

/// The peer's long-lived stale times if both sides have the capability, cut to families of the session and to our bound.
fn long_lived_of(config: &PeerConfig, families: &[AddressFamily], remote: &Open) -> Vec<(AddressFamily, bool, u32)> {
    let Some(ours) = config.graceful_restart.as_ref().and_then(|restart| restart.long_lived) else { return Vec::new() };
    let listed = remote.long_lived_graceful_restart().unwrap_or_default().iter();
    let clamp = |(family, forwarding, secs): &(AddressFamily, bool, u32)| {
        (*family, *forwarding, (*secs).min(ours.max_stale_time_secs))
    };
    listed.filter(|(family, ..)| families.contains(family)).map(clamp).collect()
}
