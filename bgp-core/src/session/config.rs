//! What the owner says about one neighbour.

use crate::time::Duration;
use crate::types::{AddressFamily, Asn, RouterId};
use crate::wire::message::{Capability, GracefulRestart, Open};
use crate::wire::{AttributeTypes, EvpnErrors, MultiprotocolErrors};

/// The graceful restart capability that is offered (RFC 4724, N bit of RFC 8538).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RestartConfig {
    /// How long the peer is asked to keep routes, in seconds, 0 to 4095.
    pub restart_time_secs: u16,
    /// Whether a NOTIFICATION other than a hard reset keeps the routes too (RFC 8538).
    pub notification: bool,
    /// Families for which restart is offered, each with whether forwarding state survives it (F bit). Empty: routes of
    /// the peer are kept when it restarts, and ours are not to be kept.
    pub families: Vec<(AddressFamily, bool)>,
    /// The longest that routes of the peer are kept until it returns, in seconds, whatever it asks for.
    pub max_restart_time_secs: u16,
    /// Long-lived graceful restart beside it; none: neither offered nor granted.
    pub long_lived: Option<LongLivedConfig>,
}

/// Long-lived graceful restart (RFC 9494), for the families of the [`RestartConfig`] that it is part of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LongLivedConfig {
    /// How long the peer is asked to keep routes after the restart time, in seconds, 0 to 16,777,215.
    pub stale_time_secs: u32,
    /// The longest that the peer's routes are kept after its restart time, in seconds, whatever it asks (section 4.2).
    pub max_stale_time_secs: u32,
}

/// Everything that one neighbour's sessions depend on, transport apart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerConfig {
    /// Our AS.
    pub local_asn: Asn,
    /// Our BGP identifier.
    pub local_router_id: RouterId,
    /// The AS that the peer must have; any if none.
    pub remote_asn: Option<Asn>,
    /// The identifier that the peer must have; any if none.
    pub remote_router_id: Option<RouterId>,
    /// Proposed hold time in seconds: 0 (never expires), or 3 and more.
    pub hold_time_secs: u16,
    /// Pause between connection attempts, and the longest that one attempt may take.
    pub connect_retry: Duration,
    /// Longest pause after repeated failures; the pauses double up to here.
    pub idle_hold_max: Duration,
    /// How long an open connection may stay without an OPEN from the peer.
    pub open_timeout: Duration,
    /// How long the peer may accept nothing while there is something to send (RFC 9687); none: the larger of 8 minutes
    /// and twice the hold time.
    pub send_hold: Option<Duration>,
    /// Families offered. A session comes up with those that the peer offers too, at least one.
    pub families: Vec<AddressFamily>,
    /// Wait for the peer to connect, never dial.
    pub passive: bool,
    /// Offer messages of up to 65,535 octets (RFC 8654).
    pub extended_message: bool,
    /// Offer graceful restart.
    pub graceful_restart: Option<RestartConfig>,
    /// How EVPN routes with a good frame and a bad body are treated.
    pub evpn_errors: EvpnErrors,
    /// How attributes in which routes cannot be located are treated.
    pub multiprotocol_errors: MultiprotocolErrors,
    /// Carry EVPN routes of unknown types as they are instead of discarding them (RFC 7606 section 5.4 says discard).
    pub opaque_routes: bool,
    /// Attributes that are dropped instead of being passed along without being understood.
    pub stripped_attributes: AttributeTypes,
    /// Seed of the timers' jitter (RFC 4271 section 10): different on every speaker, so that they do not march in step.
    pub jitter_seed: u64,
}

impl PeerConfig {
    /// Smallest hold time that is not zero, in seconds (RFC 4271 section 4.2).
    pub const MIN_HOLD_SECS: u16 = 3;
    /// Longest restart time that can be asked for, in seconds (RFC 4724 section 3).
    pub const MAX_RESTART_SECS: u16 = 4_095;
    /// Smallest pause between connection attempts; shorter ones are raised to it.
    pub const MIN_CONNECT_RETRY: Duration = Duration::from_millis(100);

    /// A configuration with this project's defaults: EVPN and RT-constrain, hold time 9 s, connect retry 1 s, graceful
    /// restart of 120 s with the N bit and no forwarding state.
    pub fn new(local_asn: Asn, local_router_id: RouterId) -> Self {
        let families = vec![AddressFamily::EVPN, AddressFamily::RT_CONSTRAIN];
        Self {
            local_asn,
            local_router_id,
            remote_asn: None,
            remote_router_id: None,
            hold_time_secs: 9,
            connect_retry: Duration::from_secs(1),
            idle_hold_max: Duration::from_secs(60),
            open_timeout: Duration::from_secs(15),
            send_hold: None,
            graceful_restart: Some(RestartConfig {
                restart_time_secs: 120,
                max_restart_time_secs: Self::MAX_RESTART_SECS,
                notification: true,
                families: families.iter().map(|family| (*family, false)).collect(),
                long_lived: None,
            }),
            families,
            passive: false,
            extended_message: true,
            evpn_errors: EvpnErrors::default(),
            multiprotocol_errors: MultiprotocolErrors::default(),
            opaque_routes: false,
            stripped_attributes: AttributeTypes::default(),
            jitter_seed: u64::from(local_router_id.0),
        }
    }

    /// Whether a running session under `self` must be reset for `new` to take effect: what the OPEN says, or what was
    /// checked in the peer's, has changed. The rest changes without a reset: timers with their next start, the treatment
    /// of errors with the next session.
    pub fn needs_reset(&self, new: &Self) -> bool {
        self.open(false) != new.open(false)
            || (new.remote_asn.is_some() && self.remote_asn != new.remote_asn)
            || (new.remote_router_id.is_some() && self.remote_router_id != new.remote_router_id)
    }

    /// The OPEN that offers this configuration. `restarting` sets the R bit (RFC 4724 section 3).
    pub(crate) fn open(&self, restarting: bool) -> Open {
        Open {
            asn: self.local_asn,
            hold_time_secs: self.proposed_hold_secs(),
            router_id: self.local_router_id,
            capabilities: self.capabilities(restarting),
        }
    }

    fn capabilities(&self, restarting: bool) -> Vec<Capability> {
        let mut capabilities: Vec<_> = self.families.iter().copied().map(Capability::Multiprotocol).collect();
        capabilities.push(Capability::RouteRefresh);
        capabilities.push(Capability::EnhancedRouteRefresh);
        capabilities.push(Capability::FourOctetAs(self.local_asn));
        if self.extended_message {
            capabilities.push(Capability::ExtendedMessage);
        }
        if let Some(restart) = &self.graceful_restart {
            capabilities.push(Capability::GracefulRestart(GracefulRestart {
                restarting,
                notification: restart.notification,
                restart_time_secs: restart.restart_time_secs.min(0x0fff),
                families: restart.families.clone(),
            }));
            if let Some(LongLivedConfig { stale_time_secs, .. }) = restart.long_lived {
                let stale = |(family, forwarding): &(AddressFamily, bool)| (*family, *forwarding, stale_time_secs);
                let families = restart.families.iter().map(stale).collect();
                capabilities.push(Capability::LongLivedGracefulRestart(families));
            }
        }
        capabilities
    }

    /// The pause between attempts, kept long enough that a wrong configuration cannot make a busy loop.
    pub(super) fn connect_retry(&self) -> Duration {
        self.connect_retry.max(Self::MIN_CONNECT_RETRY)
    }

    /// The longest pause after failures, never shorter than that between attempts.
    pub(super) fn idle_hold_max(&self) -> Duration {
        self.idle_hold_max.max(self.connect_retry())
    }

    pub(super) fn proposed_hold_secs(&self) -> u16 {
        match self.hold_time_secs {
            0 => 0,
            secs => secs.max(Self::MIN_HOLD_SECS),
        }
    }

    /// The send-hold time for a negotiated hold time (RFC 9687 section 4.1).
    pub(crate) fn send_hold_for(&self, hold_time: Duration) -> Duration {
        self.send_hold.unwrap_or_else(|| Duration::from_secs(480).max(hold_time.saturating_mul(2)))
    }
}
