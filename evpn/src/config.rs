//! Identity, policies and limits of a worker.

use std::net::IpAddr;

use bgp_core::time::Duration;
use bgp_core::types::{Asn, RouterId};

/// What an engine is made with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// AS of this worker: in its route targets and memberships.
    pub asn: Asn,
    /// BGP identifier: in its route distinguishers.
    pub router_id: RouterId,
    /// Address of this VTEP: next hop, originator and flood endpoint of every route; never a remote row.
    pub vtep: IpAddr,
    /// Other ASes whose auto-derived route targets are of interest. Import ignores the ASN of a target; membership
    /// (RFC 4684) cannot, so one per form and AS is announced.
    pub foreign_asns: Vec<Asn>,
    /// How long after a claim its former owner's contest is answered by claiming once more above it.
    pub claim_window: Duration,
    /// How long after a LAN's first member, or after the reflectors' end of what they know, routes of the LAN may still be
    /// on their way: a claim made meanwhile answers whoever turns up.
    pub learning_time: Duration,
    /// When a MAC that moves too often is taken for a duplicate.
    pub duplicates: DuplicateDetection,
    /// How long a VXLAN device outlives the last remote route of its LAN.
    pub tunnel_linger: Duration,
    /// The form of the route target on announced routes. Every form is imported.
    pub route_target_form: RouteTargetForm,
    /// What a route without an encapsulation community offers.
    pub missing_encapsulation: MissingEncapsulation,
    /// Limits per LAN.
    pub limits: Limits,
}

impl Config {
    /// The defaults for a worker.
    pub fn new(asn: Asn, router_id: RouterId, vtep: IpAddr) -> Self {
        Self {
            asn,
            router_id,
            vtep,
            foreign_asns: Vec::new(),
            claim_window: Duration::from_secs(10),
            learning_time: Duration::from_secs(2),
            duplicates: DuplicateDetection::default(),
            tunnel_linger: Duration::from_secs(60),
            route_target_form: RouteTargetForm::Plain,
            missing_encapsulation: MissingEncapsulation::Vxlan,
            limits: Limits::default(),
        }
    }
}

/// Duplicate MAC detection (RFC 7432 section 15.1): N moves within M seconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DuplicateDetection {
    /// N: moves that make a duplicate. A move is the MAC being taken over by, or from, this worker's ports.
    pub moves: u32,
    /// M: the window that the first move opens.
    pub window: Duration,
    /// What follows beside the report.
    pub action: DuplicateAction,
}

impl Default for DuplicateDetection {
    /// N = 5 and M = 180 s, as in the RFC. The action is a freeze of 180 s: the RFC says that a worker MUST stop
    /// contending, and a freeze that ends by itself needs no operator once the loop is gone.
    fn default() -> Self {
        let window = Duration::from_secs(180);
        Self { moves: 5, window, action: DuplicateAction::Freeze { recovery: Some(window) } }
    }
}

/// What a worker does about a duplicate MAC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DuplicateAction {
    /// Report it, and go on (FRR's default).
    Warn,
    /// This worker stops contending: while another VTEP announces the MAC, frames on local ports do not take it back,
    /// and its row is pinned. A claim, [`crate::Engine::clear_duplicate`], the last rival's withdrawal or the recovery
    /// time ends it.
    Freeze {
        /// Time until the MAC may move again; none for never.
        recovery: Option<Duration>,
    },
}

/// How the local part of an announced route target is formed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RouteTargetForm {
    /// `ASN:VNI`, as FRR and most do.
    Plain,
    /// `ASN:(0x1000_0000 | VNI)` (RFC 8365 section 5.1.2.1).
    Rfc8365,
    /// A target of each form: routers import the one that they would announce themselves.
    Both,
}

/// What a route without any encapsulation community offers. RFC 8365 section 5.1.3 says MPLS; who speaks EVPN to a
/// worker that has only VXLAN means VXLAN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MissingEncapsulation {
    /// The route is used.
    Vxlan,
    /// The route is not imported.
    Mpls,
}

/// Limits per LAN: what a peer, or a station that invents addresses, can cost at most.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Flood list entries. Each is a copy of every flooded frame.
    pub flood: usize,
    /// Remote MACs.
    pub remote_macs: usize,
    /// MACs learned from frames on local ports. Claims are not counted.
    pub learned_macs: usize,
    /// MACs on one local port, claims among them, beyond which no more are learned there.
    pub port_macs: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { flood: 2_048, remote_macs: 65_536, learned_macs: 16_384, port_macs: 4_096 }
    }
}
