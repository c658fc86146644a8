//! The MAC-VRF of one VNI: ports, MACs, flood list, neighbours, and what follows from them.
//!
//! A LAN is *active* while it has a local member or is served for a device that exists. Routes of a LAN that is not
//! active are kept, so that attaching its first member needs nothing from elsewhere, but cause no output.

mod local;
mod remote;
mod settle;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bgp_core::time::Instant;
use bgp_core::types::{EthernetTag, MacAddr, RouteDistinguisher, Vni};

use crate::budget::Budget;
use crate::candidates::Candidates;
use crate::config::Limits;
use crate::engine::Member;
use crate::forwarding::{Desired, Key};
use crate::import::{MulticastRoute, RemoteMulticast};
use crate::mac::{MacState, Owner};
use crate::outputs::{Context, Timer};
use crate::routes::LocalRoute;

/// Identity of a type 2 with IP address within that address.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct NeighborRoute {
    pub(crate) rd: RouteDistinguisher,
    pub(crate) tag: EthernetTag,
    pub(crate) mac: MacAddr,
}

/// The VXLAN device of a LAN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Tunnel {
    /// Not wanted.
    Down,
    /// Wanted: there are remote routes.
    Up,
    /// Wanted until then: the last remote route has gone.
    Lingering(Instant),
}

/// What a claim stands on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    /// A CNI ADD now.
    Fresh,
    /// An ADD to an earlier life of this worker.
    Restored {
        /// The sequence that it had.
        sequence: u32,
    },
}

/// How a MAC showed on a local port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sighting {
    /// The bridge has a row for it there.
    Row,
    /// A frame took over the row that led to another VTEP.
    TakenOver,
}

/// How many MACs are where.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Census {
    pub(crate) local: usize,
    pub(crate) remote: usize,
    pub(crate) learned: usize,
}

#[derive(Debug)]
pub(crate) struct MacVrf {
    pub(crate) vni: Vni,
    pub(crate) served: bool,
    /// Since when the LAN is active, while it is.
    active_since: Option<Instant>,
    /// Attached members, each with the MACs claimed for it or learned on it.
    pub(crate) ports: BTreeMap<Member, BTreeSet<MacAddr>>,
    pub(crate) macs: BTreeMap<MacAddr, MacState>,
    pub(crate) multicast: BTreeMap<MulticastRoute, RemoteMulticast>,
    /// Flood list: how many routes name the VTEP.
    pub(crate) flood: BTreeMap<IpAddr, usize>,
    neighbors: BTreeMap<IpAddr, Candidates<NeighborRoute>>,
    /// Addresses of claims.
    local_ips: BTreeSet<(IpAddr, MacAddr)>,
    /// MACs of this node's own devices in the LAN: no route leads their frames away.
    pub(crate) devices: BTreeSet<MacAddr>,
    /// Rows found in the kernel at start that no route has confirmed yet.
    pub(crate) stale: BTreeMap<Key, Desired>,
    pub(crate) tunnel: Tunnel,
    /// Routes that frames can be sent to.
    usable_routes: usize,
    pub(crate) mac_budget: Budget<MacAddr>,
    pub(crate) flood_budget: Budget<IpAddr>,
    pub(crate) census: Census,
}

impl MacVrf {
    pub(crate) fn new(vni: Vni, limits: &Limits) -> Self {
        Self {
            vni,
            served: false,
            active_since: None,
            ports: BTreeMap::new(),
            macs: BTreeMap::new(),
            multicast: BTreeMap::new(),
            flood: BTreeMap::new(),
            neighbors: BTreeMap::new(),
            local_ips: BTreeSet::new(),
            devices: BTreeSet::new(),
            stale: BTreeMap::new(),
            tunnel: Tunnel::Down,
            usable_routes: 0,
            mac_budget: Budget::new(limits.remote_macs),
            flood_budget: Budget::new(limits.flood),
            census: Census::default(),
        }
    }

    /// How many deadlines there should be.
    pub(crate) fn timed(&self) -> usize {
        let frozen = |state: &&MacState| state.frozen().is_some_and(|frozen| frozen.until.is_some());
        usize::from(matches!(self.tunnel, Tunnel::Lingering(_))) + self.macs.values().filter(frozen).count()
    }

    pub(crate) fn is_active(&self) -> bool {
        self.served || !self.ports.is_empty()
    }

    /// Whether nothing is known of the VNI.
    pub(crate) fn is_empty(&self) -> bool {
        let has_no_routes = self.macs.is_empty() && self.multicast.is_empty();
        !self.is_active() && has_no_routes && self.stale.is_empty() && self.devices.is_empty()
    }

    /// Whether, ever since `made`, routes of the LAN that others hold may still have been on their way here.
    fn is_blind(&self, made: Instant, cx: &Context<'_>) -> bool {
        let active = self.active_since.unwrap_or(cx.now);
        cx.out.knowledge.is_blind(made, active, cx.config.learning_time, cx.now)
    }

    pub(crate) fn attach(&mut self, member: Member, cx: &mut Context<'_>) {
        let was_active = self.is_active();
        self.ports.entry(member).or_default();
        self.activity_changed(was_active, cx);
    }

    pub(crate) fn detach(&mut self, member: Member, cx: &mut Context<'_>) {
        let was_active = self.is_active();
        let macs = self.ports.remove(&member).unwrap_or_default();
        for mac in macs {
            self.drop_local(mac, member, cx);
        }
        self.activity_changed(was_active, cx);
    }

    pub(crate) fn set_served(&mut self, served: bool, cx: &mut Context<'_>) {
        let was_active = self.is_active();
        self.served = served;
        self.activity_changed(was_active, cx);
        self.refresh_tunnel(cx);
    }

    /// First member in, or last member out: the one walk over a LAN.
    fn activity_changed(&mut self, was_active: bool, cx: &mut Context<'_>) {
        if was_active == self.is_active() {
            return;
        }
        self.active_since = self.is_active().then_some(cx.now);
        cx.out.routes.insert(LocalRoute::Multicast(self.vni));
        cx.out.interests.insert(self.vni);
        self.refresh_tunnel(cx);
        cx.out.dirty.extend(self.keys());
        if was_active {
            self.stale.clear();
        }
    }

    /// All keys that have a state while the LAN is active.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        let vni = self.vni;
        let macs = self.macs.iter().filter(|(_, state)| state.row.is_some());
        (self.flood.keys().map(move |vtep| Key::Flood(vni, *vtep)))
            .chain(macs.map(move |(mac, _)| Key::Mac(vni, *mac)))
            .chain(self.neighbors.keys().map(move |ip| Key::Neighbor(vni, *ip)))
            .chain(self.stale.keys().copied())
            .chain((self.tunnel != Tunnel::Down).then_some(Key::Tunnel(vni)))
    }

    /// Marks a key whose state may have changed. Nothing is to be done for a LAN that is not active.
    fn mark(&self, key: Key, cx: &mut Context<'_>) {
        if self.is_active() {
            cx.out.dirty.insert(key);
        }
    }

    /// A local address came or went: of interest where a remote MAC has it too.
    fn mark_neighbor(&self, ip: IpAddr, cx: &mut Context<'_>) {
        if self.neighbors.contains_key(&ip) {
            self.mark(Key::Neighbor(self.vni, ip), cx);
        }
    }

    /// Takes a row found in the kernel as state until a route confirms it or [`Self::sweep`].
    pub(crate) fn adopt(&mut self, key: Key, desired: Desired, cx: &mut Context<'_>) {
        let known = match key {
            Key::Tunnel(_) => false,
            Key::Flood(_, vtep) => self.flood.contains_key(&vtep),
            Key::Mac(_, mac) => self.macs.get(&mac).is_some_and(|state| state.owner != Owner::Nobody),
            Key::Neighbor(_, ip) => self.neighbors.contains_key(&ip) || self.has_local_address(ip),
        };
        if !known || self.had_yielded(key, desired, cx) {
            self.stale.insert(key, desired);
        }
        // What was found may differ from what is wanted, and goes where the LAN has no member.
        cx.out.dirty.insert(key);
        self.refresh_tunnel(cx);
    }

    /// A pinned row for a MAC that is claimed here, with no route known: the claim had yielded in a former life, and stands
    /// back until routes say more.
    fn had_yielded(&mut self, key: Key, desired: Desired, cx: &mut Context<'_>) -> bool {
        let (Key::Mac(_, mac), Desired::RemoteMac { vtep, sticky: true }) = (key, desired) else { return false };
        let Some(state) = self.macs.get_mut(&mac).filter(|state| state.routes.is_empty()) else { return false };
        let Some(local) = state.local.as_mut().filter(|local| local.is_restored()) else { return false };
        (local.yielded_to, local.awaits_routes) = (Some(vtep), true);
        self.settle(mac, settle::Cause::Shrunk, cx);
        true
    }

    /// Rows that no route has confirmed go, and claims that stood back for them come back.
    pub(crate) fn sweep(&mut self, cx: &mut Context<'_>) {
        for key in core::mem::take(&mut self.stale).into_keys() {
            self.mark(key, cx);
            if let Key::Mac(_, mac) = key
                && let Some(local) = self.macs.get_mut(&mac).and_then(|state| state.local.as_mut())
                && core::mem::take(&mut local.awaits_routes)
            {
                self.settle(mac, settle::Cause::Withdrawal, cx);
            }
        }
        self.refresh_tunnel(cx);
    }

    /// A route or a local entry says better.
    fn confirm(&mut self, key: Key, cx: &mut Context<'_>) {
        if self.stale.remove(&key).is_some() {
            self.mark(key, cx);
        }
    }

    /// Brings the tunnel's state in line with routes and members. To be called after every change of those.
    fn refresh_tunnel(&mut self, cx: &mut Context<'_>) {
        let active = self.is_active();
        let needed = active && (self.served || self.usable_routes > 0 || !self.stale.is_empty());
        let next = match self.tunnel {
            _ if needed => Tunnel::Up,
            Tunnel::Up if active => Tunnel::Lingering(cx.now + cx.config.tunnel_linger),
            lingering @ Tunnel::Lingering(_) if active => lingering,
            _ => Tunnel::Down,
        };
        let previous = core::mem::replace(&mut self.tunnel, next);
        if previous == next {
            return;
        }
        if let Tunnel::Lingering(until) = previous {
            cx.out.timers.remove(&(until, Timer::Tunnel(self.vni)));
        }
        if let Tunnel::Lingering(until) = next {
            cx.out.timers.insert((until, Timer::Tunnel(self.vni)));
        }
        if (previous == Tunnel::Down) != (next == Tunnel::Down) {
            cx.out.dirty.insert(Key::Tunnel(self.vni));
        }
    }

    /// The lingering time is over.
    pub(crate) fn linger_ended(&mut self, cx: &mut Context<'_>) {
        if matches!(self.tunnel, Tunnel::Lingering(until) if until <= cx.now) {
            self.tunnel = Tunnel::Down;
            self.mark(Key::Tunnel(self.vni), cx);
        }
    }

    /// The state of a key, now.
    pub(crate) fn desired(&self, key: Key) -> Option<Desired> {
        if !self.is_active() {
            return None;
        }
        let current = match key {
            Key::Tunnel(_) => return (self.tunnel != Tunnel::Down).then_some(Desired::Tunnel),
            Key::Flood(_, vtep) => self.floods(vtep).then_some(Desired::Flood),
            Key::Mac(_, mac) => {
                let row = self.macs.get(&mac).and_then(|state| state.row);
                row.map(|row| Desired::RemoteMac { vtep: row.vtep, sticky: row.pinned })
            }
            Key::Neighbor(_, ip) => self.neighbor(ip).map(|mac| Desired::Neighbor { mac }),
        };
        current.or_else(|| self.stale.get(&key).copied())
    }

    /// Whether a remote row for the MAC may be written at all.
    fn may_install(&self, mac: MacAddr) -> bool {
        self.mac_budget.admits(&mac) && !self.devices.contains(&mac)
    }

    /// Whether flooded frames go to a VTEP.
    pub(crate) fn floods(&self, vtep: IpAddr) -> bool {
        self.flood.contains_key(&vtep) && self.flood_budget.admits(&vtep)
    }

    /// The MAC of a remote address. None where a local claim holds the address: what answers then is the pod itself.
    fn neighbor(&self, ip: IpAddr) -> Option<MacAddr> {
        if self.has_local_address(ip) {
            return None;
        }
        let mac = self.neighbors.get(&ip)?.best()?.key.mac;
        self.may_install(mac).then_some(mac)
    }

    /// Whether a claim that has not yielded holds the address.
    fn has_local_address(&self, ip: IpAddr) -> bool {
        let all_macs = (ip, MacAddr::ZERO)..=(ip, MacAddr([0xff; 6]));
        let is_here = |mac| self.macs.get(mac).is_some_and(|state: &MacState| state.owner == Owner::Local);
        self.local_ips.range(all_macs).any(|(_, mac)| is_here(mac))
    }
}
