//! Between settings, sessions and people: peers from [`PeerSettings`], rows and metrics from a [`Speaker`].

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bgp_core::rib::{PeerClass, PeerLimits, Permission, RouteTypes};
use bgp_core::session::{LongLivedConfig, PeerConfig, RestartConfig};
use bgp_core::time::Duration;
use bgp_core::types::{Asn, RouterId};
use bgp_core::wire;
use bgp_io::{Count, Neighbor, PeerSpec, Speaker};
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::config::{EvpnErrors, PeerSettings, Role, UnreadableRoutes};
use crate::show::PeerRow;

/// What all sessions of a daemon have in common.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Our AS.
    pub asn: Asn,
    /// Our BGP identifier.
    pub router_id: RouterId,
    /// What an internal peer is unless its settings say otherwise.
    pub internal_class: PeerClass,
    /// Forwarding state outlives a restart of this process (F bit of RFC 4724).
    pub forwarding_preserved: bool,
    /// The first OPEN to each peer carries the R bit.
    pub restarting: bool,
    /// How long peers of our AS are asked to keep routes after the restart time, in seconds (RFC 9494).
    pub long_lived_stale_secs: u32,
}

/// The BGP identifier of a speaker with this address (RFC 6286): an IPv4 address itself; of an IPv6 one a 32-bit FNV-1a
/// hash, which is the same after every restart.
pub fn router_id_of(address: IpAddr) -> RouterId {
    match address {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => RouterId(fnv(&address.octets()).max(1)),
    }
}

/// The BGP identifier of the reflector on a node with this address. A worker of the same node has that of [`router_id_of`],
/// and internal speakers of one identifier refuse each other (RFC 6286 section 2.2); so this is a hash for both families.
/// Its first bit is 0: some implementations take no identifier that looks like a multicast or reserved address.
pub fn reflector_id_of(address: IpAddr) -> RouterId {
    let hash = match address {
        IpAddr::V4(address) => fnv(&[address.octets().as_slice(), b"rr"].concat()),
        IpAddr::V6(address) => fnv(&[address.octets().as_slice(), b"rr"].concat()),
    };
    RouterId((hash & 0x7fff_ffff).max(1))
}

/// FNV-1a with 32 bits.
fn fnv(octets: &[u8]) -> u32 {
    octets.iter().fold(0x811c_9dc5, |hash, octet| (hash ^ u32::from(*octet)).wrapping_mul(0x0100_0193))
}

/// The longest that a peer's routes are kept after its restart time, in seconds, unless its settings say otherwise.
const LONG_LIVED_MAX_SECS: u32 = 86_400;

/// The neighbour that settings describe.
pub fn neighbor(
    identity: Identity,
    address: SocketAddr,
    settings: &PeerSettings,
    key: Option<String>,
    dynamic: bool,
) -> Neighbor {
    let mut session = PeerConfig::new(identity.asn, identity.router_id);
    // Whose settings name no AS is in ours, unless they say that it is external: then it may be in any.
    session.remote_asn = match (settings.asn, settings.role) {
        (Some(asn), _) => Some(Asn(asn)),
        (None, Some(Role::External)) => None,
        (None, _) => Some(identity.asn),
    };
    session.hold_time_secs = settings.hold_time_secs.unwrap_or(session.hold_time_secs);
    session.passive = dynamic || settings.passive.unwrap_or(false);
    session.connect_retry = settings.connect_retry_secs.map_or(session.connect_retry, secs);
    session.open_timeout = settings.open_timeout_secs.map_or(session.open_timeout, secs);
    session.idle_hold_max =
        settings.idle_hold_max_secs.map_or(session.idle_hold_max, |secs| Duration::from_secs(secs.into()));
    session.send_hold = settings.send_hold_secs.map(|secs| Duration::from_secs(secs.into()));
    session.evpn_errors = match settings.evpn_errors.unwrap_or_default() {
        EvpnErrors::Contain => wire::EvpnErrors::Contain,
        EvpnErrors::Strict => wire::EvpnErrors::Strict,
    };
    session.multiprotocol_errors = match settings.unreadable_routes.unwrap_or_default() {
        UnreadableRoutes::Reset => wire::MultiprotocolErrors::Reset,
        UnreadableRoutes::DisableFamily => wire::MultiprotocolErrors::DisableFamily,
    };
    session.opaque_routes = settings.unknown_route_types.unwrap_or(false);
    session.stripped_attributes = settings.strip_attributes.iter().flatten().copied().collect();
    let class = match settings.role {
        _ if session.remote_asn.is_some_and(|asn| asn != identity.asn) => PeerClass::External,
        Some(Role::Client) => PeerClass::Client,
        Some(Role::NonClient) => PeerClass::NonClient,
        Some(Role::External) => PeerClass::External,
        None => identity.internal_class,
    };
    let families = session.families.iter().map(|family| (*family, identity.forwarding_preserved)).collect();
    session.graceful_restart = match settings.restart_time_secs.unwrap_or(120) {
        0 => None,
        restart_time_secs => Some(RestartConfig {
            restart_time_secs,
            notification: true,
            families,
            max_restart_time_secs: settings.restart_time_max_secs.unwrap_or(PeerConfig::MAX_RESTART_SECS),
            long_lived: long_lived(identity, class, settings),
        }),
    };
    Neighbor {
        class,
        limits: limits(settings),
        owner: None,
        name: settings.name.as_deref().map(Into::into),
        permission: Arc::new(permission(settings)),
        permission_source: "next_hops or vnis of this peer",
        sent_types: settings.route_types.as_ref().map_or(RouteTypes::ALL, |types| types.iter().copied().collect()),
        dynamic,
        spec: PeerSpec {
            address,
            local_address: settings.local_address,
            key,
            gtsm: settings.gtsm.unwrap_or(false),
            restarting: identity.restarting,
            session,
        },
    }
}

/// Another AS decides for itself whether it wants routes of speakers that are gone: there it is off unless asked for (RFC
/// 9494 section 5).
fn long_lived(identity: Identity, class: PeerClass, settings: &PeerSettings) -> Option<LongLivedConfig> {
    let default = if class == PeerClass::External { 0 } else { identity.long_lived_stale_secs };
    let stale_time_secs = settings.long_lived_stale_secs.unwrap_or(default);
    let max_stale_time_secs = settings.long_lived_stale_max_secs.unwrap_or(LONG_LIVED_MAX_SECS);
    (stale_time_secs > 0).then_some(LongLivedConfig { stale_time_secs, max_stale_time_secs })
}

/// What the peer may announce.
fn permission(settings: &PeerSettings) -> Permission {
    Permission {
        next_hops: settings.next_hops.as_ref().map(|allowed| allowed.iter().copied().collect()),
        vnis: settings.vnis.as_ref().map(|allowed| allowed.iter().map(|range| (range.first, range.last)).collect()),
    }
}

fn limits(settings: &PeerSettings) -> PeerLimits {
    let defaults = PeerLimits::default();
    let or = |setting: Option<u32>, default| setting.map_or(default, |value| value as usize);
    PeerLimits {
        max_prefixes: or(settings.max_routes, defaults.max_prefixes),
        max_memberships: or(settings.max_memberships, defaults.max_memberships),
        warning_percent: settings.max_routes_warning_percent.unwrap_or(defaults.warning_percent),
        max_attribute_sets: or(settings.max_attribute_sets, defaults.max_attribute_sets),
        max_attribute_octets: settings
            .max_attribute_octets
            .map_or(defaults.max_attribute_octets, |octets| usize::try_from(octets).unwrap_or(usize::MAX)),
        max_route_attribute_octets: or(settings.max_route_attribute_octets, defaults.max_route_attribute_octets),
    }
}

fn secs(secs: u16) -> Duration {
    Duration::from_secs(secs.into())
}

/// Rows for `megalos show peers`.
pub fn peer_rows(speaker: &Speaker) -> Vec<PeerRow> {
    let views: BTreeMap<_, _> = speaker.rib.peers().map(|view| (view.peer, view)).collect();
    let now = speaker.now();
    let row = |peer: bgp_io::PeerStatus<'_>| {
        let families = views.get(&peer.id).map(|view| view.families).into_iter().flatten();
        let counts: Vec<_> = families.collect();
        let session = peer.session;
        let configured = peer.neighbor.spec.session.remote_asn.unwrap_or_default();
        PeerRow {
            address: peer.neighbor.spec.address.ip().to_string(),
            name: peer.neighbor.name.as_deref().map(str::to_owned),
            asn: session.map_or(configured, |(negotiated, _)| negotiated.remote_asn).0,
            router_id: session.map(|(negotiated, _)| negotiated.remote_router_id.to_string()),
            role: class_name(session.map_or(peer.neighbor.class, |(negotiated, _)| peer.neighbor.class_of(negotiated)))
                .into(),
            state: peer.state.to_string(),
            up_secs: session.map(|(_, since)| now.saturating_since(since).as_secs()),
            hold_time_secs: session.and_then(|(negotiated, _)| u16::try_from(negotiated.hold_time.as_secs()).ok()),
            routes: counts.iter().map(|count| (count.family.to_string(), count.accepted as u64)).collect(),
            stale_routes: counts.iter().map(|count| count.stale as u64).sum(),
            long_lived_stale_routes: counts.iter().map(|count| count.long_lived_stale as u64).sum(),
            updates_received: peer.updates,
            established_count: peer.established,
            refused_routes: views.get(&peer.id).map_or(0, |view| view.forbidden),
            last_refusal: peer.last_refusal.map(str::to_owned),
            last_error: peer.last_error.map(str::to_owned),
        }
    };
    let mut peers: Vec<_> = speaker.peers().collect();
    peers.sort_by_key(|peer| peer.neighbor.spec.address);
    peers.into_iter().map(row).collect()
}

const fn class_name(class: PeerClass) -> &'static str {
    match class {
        PeerClass::Local => "local",
        PeerClass::Client => "client",
        PeerClass::NonClient => "non-client",
        PeerClass::External => "external",
    }
}

/// A gauge that the registry knows.
///
/// # Errors
///
/// If the name is registered already.
pub fn gauge(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    let gauge = IntGauge::new(name, help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

/// Metrics of sessions and RIB.
#[derive(Debug)]
pub struct SpeakerMetrics {
    peer_up: IntGaugeVec,
    peer_routes: IntGaugeVec,
    peer_stale_routes: IntGaugeVec,
    peer_long_lived_stale_routes: IntGaugeVec,
    peer_updates: IntGaugeVec,
    peer_established: IntGaugeVec,
    findings: IntCounterVec,
    suppressed: IntGauge,
    refused_connections: IntGauge,
    destinations: IntGauge,
    paths: IntGauge,
    attribute_sets: IntGauge,
    update_groups: IntGauge,
    log_octets: IntGauge,
    unsendable: IntGauge,
}

impl SpeakerMetrics {
    /// Registers the metrics.
    ///
    /// # Errors
    ///
    /// If a name is registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| gauge(registry, name, help);
        let vector = |name: &str, help: &str, labels: &[&str]| {
            let vector = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(vector.clone()))?;
            Ok::<_, prometheus::Error>(vector)
        };
        let findings = IntCounterVec::new(
            Opts::new("megalos_bgp_findings_total", "Inputs that broke a rule; docs/findings.md explains the rules"),
            &["peer", "rule", "action"],
        )?;
        registry.register(Box::new(findings.clone()))?;
        Ok(Self {
            findings,
            peer_up: vector("megalos_bgp_peer_up", "1 while the session is established", &["peer"])?,
            peer_routes: vector("megalos_bgp_peer_routes", "Routes held from the peer", &["peer", "family"])?,
            peer_stale_routes: vector(
                "megalos_bgp_peer_stale_routes",
                "Routes held from before a restart of the peer",
                &["peer", "family"],
            )?,
            peer_long_lived_stale_routes: vector(
                "megalos_bgp_peer_long_lived_stale_routes",
                "Of these, routes kept beyond the restart time (RFC 9494)",
                &["peer", "family"],
            )?,
            peer_updates: vector("megalos_bgp_peer_updates_received", "UPDATEs received", &["peer"])?,
            peer_established: vector("megalos_bgp_peer_established_count", "Sessions that came up", &["peer"])?,
            suppressed: gauge(
                "megalos_bgp_findings_suppressed",
                "Findings that were counted and not logged one by one",
            )?,
            refused_connections: gauge("megalos_bgp_refused_connections", "Connections of strangers closed")?,
            destinations: gauge("megalos_rib_destinations", "EVPN destinations with a route")?,
            paths: gauge("megalos_rib_paths", "EVPN paths")?,
            attribute_sets: gauge("megalos_rib_attribute_sets", "Interned attribute sets")?,
            update_groups: gauge("megalos_rib_update_groups", "Update groups with members")?,
            log_octets: gauge("megalos_rib_log_octets", "Encoded octets kept for members that have not read them")?,
            unsendable: gauge(
                "megalos_rib_unsendable_routes",
                "Routes withheld from an update group, and withdrawn there, because they fit none of its messages",
            )?,
        })
    }

    /// Brings them up to date.
    pub fn sample(&self, speaker: &mut Speaker) {
        for vector in [
            &self.peer_up,
            &self.peer_routes,
            &self.peer_stale_routes,
            &self.peer_long_lived_stale_routes,
            &self.peer_updates,
        ] {
            vector.reset();
        }
        self.peer_established.reset();
        for row in peer_rows(speaker) {
            let peer = row.address.as_str();
            self.peer_up.with_label_values(&[peer]).set(i64::from(row.up_secs.is_some()));
            self.peer_updates.with_label_values(&[peer]).set(signed(row.updates_received));
            self.peer_established.with_label_values(&[peer]).set(signed(row.established_count));
            for (family, routes) in &row.routes {
                self.peer_routes.with_label_values(&[peer, family]).set(signed(*routes));
            }
        }
        for view in speaker.rib.peers() {
            let address = view.info.address.to_string();
            for family in view.families {
                let labels = [address.as_str(), &family.family.to_string()];
                self.peer_stale_routes.with_label_values(&labels).set(signed(family.stale as u64));
                let long_lived = signed(family.long_lived_stale as u64);
                self.peer_long_lived_stale_routes.with_label_values(&labels).set(long_lived);
            }
        }
        self.findings.reset();
        for Count { peer, rule, action, count } in speaker.ledger().counts() {
            self.findings.with_label_values(&[peer.as_str(), rule.code(), action.name()]).inc_by(count);
        }
        self.suppressed.set(signed(speaker.ledger().suppressed()));
        let stats = speaker.rib.stats();
        self.destinations.set(signed(stats.destinations as u64));
        self.paths.set(signed(stats.paths as u64));
        self.attribute_sets.set(signed(stats.attribute_sets as u64));
        self.update_groups.set(signed(stats.update_groups as u64));
        self.log_octets.set(signed(stats.log_octets as u64));
        self.unsendable.set(signed(stats.unsendable));
        let refused = speaker.io().refused_connections();
        self.refused_connections.set(signed(refused));
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity = Identity {
        asn: Asn(65_000),
        router_id: RouterId(1),
        internal_class: PeerClass::Client,
        forwarding_preserved: true,
        restarting: true,
        long_lived_stale_secs: 600,
    };

    fn neighbor_of(settings: &PeerSettings) -> Neighbor {
        neighbor(IDENTITY, SocketAddr::from(([192, 0, 2, 1], 179)), settings, None, false)
    }

    #[test]
    fn long_lived_graceful_restart_is_for_our_own_as_unless_asked_for() {
        let offered = |asn, stale, max| {
            let settings = PeerSettings {
                asn,
                long_lived_stale_secs: stale,
                long_lived_stale_max_secs: max,
                ..PeerSettings::default()
            };
            let offered = neighbor_of(&settings).spec.session.graceful_restart.unwrap().long_lived;
            offered.map(|offered| (offered.stale_time_secs, offered.max_stale_time_secs))
        };
        assert_eq!(offered(None, None, None), Some((600, 86_400)));
        assert_eq!(offered(None, Some(5), Some(7)), Some((5, 7)));
        assert_eq!(offered(None, Some(0), None), None);
        assert_eq!(offered(Some(64_512), None, None), None);
        assert_eq!(offered(Some(64_512), Some(60), None), Some((60, 86_400)));
    }

    #[test]
    fn a_peer_in_another_as_is_external_whatever_its_role_and_before_it_comes() {
        let class = |asn, role| {
            let neighbor = neighbor_of(&PeerSettings { asn, role, ..PeerSettings::default() });
            (neighbor.class, neighbor.spec.session.remote_asn)
        };
        assert_eq!(class(None, None), (PeerClass::Client, Some(Asn(65_000))));
        assert_eq!(class(Some(65_000), Some(Role::NonClient)), (PeerClass::NonClient, Some(Asn(65_000))));
        assert_eq!(class(Some(64_512), None), (PeerClass::External, Some(Asn(64_512))));
        assert_eq!(class(Some(64_512), Some(Role::Client)), (PeerClass::External, Some(Asn(64_512))));
        assert_eq!(class(None, Some(Role::External)), (PeerClass::External, None));
    }
}
