//! Views for people: the LANs of a worker, their MACs and VTEPs, with the reason where something is not installed.

use core::fmt;
use std::net::IpAddr;

use bgp_core::time::Instant;
use bgp_core::types::{MacAddr, Vni};
use bgp_core::wire::{EvpnKey, EvpnPayload, PathAttributes};

use crate::engine::{Engine, Member};
use crate::forwarding::{Desired, Key};
use crate::import::{Exclusion, Imported, Refusal, Remote, RemoteMac, RemoteMulticast};
use crate::mac::{Frozen, MacState, Owner};
use crate::vrf::{MacVrf, Tunnel};

/// A LAN of this worker.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VniView {
    /// Its VNI.
    pub vni: Vni,
    /// Attached ports.
    pub members: usize,
    /// Served because its device exists.
    pub served: bool,
    /// Whether its VXLAN device should exist.
    pub tunnel: TunnelView,
    /// VTEPs on the flood list.
    pub remote_vteps: usize,
    /// MACs that are here.
    pub local_macs: usize,
    /// MACs that are elsewhere.
    pub remote_macs: usize,
    /// Rows found at start that no route has confirmed yet.
    pub stale_rows: usize,
}

/// The VXLAN device of a LAN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TunnelView {
    /// Not wanted: the LAN has no remote routes.
    Down,
    /// Wanted.
    Up,
    /// Wanted until then: the last remote route has gone.
    Lingering {
        /// When it goes.
        until: Instant,
    },
}

/// A remote VTEP of a LAN, as its type 3 route says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VtepView {
    /// The LAN.
    pub vni: Vni,
    /// Next hop of the route.
    pub vtep: IpAddr,
    /// Whether flooded frames go there; else why not.
    pub flood: Result<(), NotFlooded>,
}

/// Why a VTEP gets no flooded frames.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotFlooded {
    /// Its route is not installed.
    Excluded(Exclusion),
    /// The flood list is full.
    Limit,
}

impl fmt::Display for NotFlooded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Excluded(exclusion) => exclusion.fmt(f),
            Self::Limit => f.write_str("the flood list is full; raise max_flood_vteps"),
        }
    }
}

/// A MAC of a LAN.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MacView {
    /// The LAN.
    pub vni: Vni,
    /// The MAC.
    pub mac: MacAddr,
    /// Addresses known with it, sorted.
    pub ips: Vec<IpAddr>,
    /// Where it is.
    pub place: Place,
    /// Mobility sequence of that place.
    pub sequence: u32,
    /// Whether it must not move.
    pub sticky: bool,
    /// How things stand.
    pub state: MacStatus,
}

/// Where a MAC is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// On a port of this node.
    Local(Member),
    /// Behind another VTEP.
    Remote(IpAddr),
    /// Known, but not reachable.
    Nowhere,
}

/// How things stand with a MAC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MacStatus {
    /// Claimed by a CNI ADD and announced.
    Claimed,
    /// Learned from frames and announced.
    Learned,
    /// Announced by another VTEP.
    Remote,
    /// So it was, by one that is gone for longer than a restart takes (RFC 9494): frames still go there.
    LongLivedStale,
    /// Claimed here, and yielded to another VTEP.
    Yielded,
    /// On a port here as well, where it lost to another VTEP.
    Lost,
    /// A duplicate that does not move for now.
    Frozen {
        /// When it may move again; none for never.
        until: Option<Instant>,
    },
    /// Found in the kernel at start, not yet confirmed by a route.
    Stale,
    /// Announced, but not installed.
    Excluded(Exclusion),
    /// Announced, but the LAN has too many remote MACs.
    Limit,
}

impl fmt::Display for MacStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claimed => f.write_str("claimed"),
            Self::Learned => f.write_str("learned"),
            Self::Remote => f.write_str("remote"),
            Self::LongLivedStale => f.write_str("remote, long-lived stale"),
            Self::Yielded => f.write_str("claim yielded"),
            Self::Lost => f.write_str("lost to remote"),
            Self::Frozen { .. } => f.write_str("frozen as duplicate"),
            Self::Stale => f.write_str("stale"),
            Self::Excluded(exclusion) => write!(f, "not installed: {exclusion}"),
            Self::Limit => f.write_str("not installed: too many remote MACs"),
        }
    }
}

/// What becomes of one received route.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RouteUse {
    /// Frames go where it says.
    Installed,
    /// It concerns no LAN of this worker.
    NoLan,
    /// It is imported, and another route, or this node itself, has its MAC.
    Beaten,
    /// It was refused.
    Refused(Refusal),
    /// It is kept and not installed.
    Excluded(Exclusion),
    /// It waits for a place: the LAN has too many remote MACs or VTEPs.
    Limit,
}

impl fmt::Display for RouteUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Installed => f.write_str("installed"),
            Self::NoLan => f.write_str("no LAN of this worker"),
            Self::Beaten => f.write_str("not installed: the MAC is elsewhere"),
            Self::Refused(refusal) => write!(f, "not imported: {refusal}"),
            Self::Excluded(exclusion) => write!(f, "not installed: {exclusion}"),
            Self::Limit => f.write_str("not installed: too many in this LAN; raise the limit"),
        }
    }
}

impl Engine {
    /// What becomes of the best route of a key.
    pub fn route_use(&self, key: &EvpnKey, payload: &EvpnPayload, attributes: &PathAttributes) -> RouteUse {
        let Imported { vni, route } = match self.import(key, payload, attributes) {
            Ok(Some(imported)) => imported,
            Ok(None) => return RouteUse::NoLan,
            Err(refusal) => return RouteUse::Refused(refusal),
        };
        let Some(vrf) = self.vrfs().get(&vni).filter(|vrf| vrf.is_active()) else { return RouteUse::NoLan };
        match route {
            Remote::Mac(RemoteMac { exclusion: Some(reason), .. })
            | Remote::Multicast(RemoteMulticast { exclusion: Some(reason), .. }) => RouteUse::Excluded(reason),
            Remote::Mac(route) if vrf.devices.contains(&route.mac) => RouteUse::Excluded(Exclusion::OwnDevice),
            Remote::Mac(route) => match vrf.macs.get(&route.mac) {
                Some(state) if state.routes.iter().all(|held| held.key != route.key) => {
                    RouteUse::Refused(Refusal::TooMany)
                }
                Some(state) if state.row.is_some_and(|row| row.vtep == route.contender.vtep) => RouteUse::Installed,
                Some(_) if !vrf.mac_budget.admits(&route.mac) => RouteUse::Limit,
                _ => RouteUse::Beaten,
            },
            Remote::Multicast(route) if vrf.floods(route.vtep) => RouteUse::Installed,
            Remote::Multicast(_) => RouteUse::Limit,
        }
    }

    /// The LANs of this worker, in VNI order. Cheap enough for metrics: counts are kept, not taken.
    pub fn vnis(&self) -> impl Iterator<Item = VniView> + '_ {
        self.vrfs().values().filter(|vrf| vrf.is_active()).map(|vrf| VniView {
            vni: vrf.vni,
            members: vrf.ports.len(),
            served: vrf.served,
            tunnel: match vrf.tunnel {
                Tunnel::Down => TunnelView::Down,
                Tunnel::Up => TunnelView::Up,
                Tunnel::Lingering(until) => TunnelView::Lingering { until },
            },
            remote_vteps: vrf.flood.len(),
            local_macs: vrf.census.local,
            remote_macs: vrf.census.remote,
            stale_rows: vrf.stale.len(),
        })
    }

    /// The MACs of this worker's LANs, in order of VNI and MAC, rows not yet confirmed last in each LAN.
    pub fn macs(&self) -> impl Iterator<Item = MacView> + '_ {
        self.vrfs().values().filter(|vrf| vrf.is_active()).flat_map(|vrf| {
            let known = vrf.macs.iter().map(|(mac, state)| view(vrf, *mac, state));
            known.chain(vrf.stale.iter().filter_map(|(key, found)| stale_view(*key, *found)))
        })
    }

    /// The remote VTEPs of this worker's LANs that announced a type 3.
    pub fn vteps(&self) -> impl Iterator<Item = VtepView> + '_ {
        self.vrfs().values().filter(|vrf| vrf.is_active()).flat_map(|vrf| {
            vrf.multicast.values().map(|route| VtepView {
                vni: vrf.vni,
                vtep: route.vtep,
                flood: match route.exclusion {
                    Some(exclusion) => Err(NotFlooded::Excluded(exclusion)),
                    None if vrf.floods(route.vtep) => Ok(()),
                    None => Err(NotFlooded::Limit),
                },
            })
        })
    }
}

fn view(vrf: &MacVrf, mac: MacAddr, state: &MacState) -> MacView {
    let local = state.local.as_ref();
    let (place, sequence, sticky) = match (state.owner, local) {
        (Owner::Local, Some(local)) => {
            let place = local.member().map_or(Place::Nowhere, Place::Local);
            (place, local.sequence, local.sticky())
        }
        (Owner::Remote(remote), _) => (Place::Remote(remote.vtep), remote.sequence, remote.sticky),
        _ => (Place::Nowhere, 0, false),
    };
    let remote_ips = state.routes.iter().filter_map(|candidate| candidate.key.ip);
    let mut ips: Vec<IpAddr> = local.into_iter().flat_map(|local| local.ips()).chain(remote_ips).collect();
    ips.sort_unstable();
    ips.dedup();
    MacView { vni: vrf.vni, mac, ips, place, sequence, sticky, state: status(vrf, mac, state) }
}

fn status(vrf: &MacVrf, mac: MacAddr, state: &MacState) -> MacStatus {
    match state.owner {
        Owner::Local if state.has_claim() => MacStatus::Claimed,
        Owner::Local => MacStatus::Learned,
        Owner::Remote(rival) => match state.frozen() {
            Some(Frozen { until }) => MacStatus::Frozen { until },
            None if state.has_claim() => MacStatus::Yielded,
            None if state.local.is_some() => MacStatus::Lost,
            None if rival.stale => MacStatus::LongLivedStale,
            None => MacStatus::Remote,
        },
        Owner::Nobody if state.has_claim() => MacStatus::Yielded,
        Owner::Nobody if vrf.devices.contains(&mac) => MacStatus::Excluded(Exclusion::OwnDevice),
        Owner::Nobody if !vrf.mac_budget.admits(&mac) => MacStatus::Limit,
        Owner::Nobody => state.routes.iter().find_map(|c| c.exclusion).map_or(MacStatus::Limit, MacStatus::Excluded),
    }
}

fn stale_view(key: Key, found: Desired) -> Option<MacView> {
    match (key, found) {
        (Key::Mac(vni, mac), Desired::RemoteMac { vtep, sticky }) => Some(MacView {
            vni,
            mac,
            ips: Vec::new(),
            place: Place::Remote(vtep),
            sequence: 0,
            sticky,
            state: MacStatus::Stale,
        }),
        _ => None,
    }
}
