//! Routes of other VTEPs.

use std::net::IpAddr;

use bgp_core::types::MacAddr;

use super::settle::Cause;
use super::{MacVrf, NeighborRoute};
use crate::candidates::{Candidate, Contender, Full};
use crate::forwarding::Key;
use crate::import::{MacRoute, MulticastRoute, RemoteMac, RemoteMulticast};
use crate::mac::Owner;
use crate::outputs::Context;
use crate::report::Report;

impl MacVrf {
    pub(crate) fn put_mac(&mut self, route: RemoteMac, cx: &mut Context<'_>) -> Result<(), Full> {
        let RemoteMac { mac, key, contender, exclusion } = route;
        let state = self.macs.entry(mac).or_default();
        let is_first = state.routes.is_empty();
        let previous = state.routes.insert(Candidate { key, contender, exclusion })?;
        let was_usable = previous.is_some_and(|previous| previous.exclusion.is_none());
        self.count_usable(was_usable, exclusion.is_none());
        if is_first && !self.mac_budget.enter(mac) && self.is_active() {
            cx.out.report(Report::RemoteMacLimit { vni: self.vni, mac });
        }
        if let Some(ip) = key.ip {
            let key = NeighborRoute { rd: key.rd, tag: key.tag, mac };
            // Beyond the limit of routes for one address, the address is not answered for from this route.
            let _ = self.neighbors.entry(ip).or_default().insert(Candidate { key, contender, exclusion });
            self.confirm(Key::Neighbor(self.vni, ip), cx);
            self.mark(Key::Neighbor(self.vni, ip), cx);
        }
        if exclusion.is_none() {
            self.confirm(Key::Mac(self.vni, mac), cx);
        }
        self.settle(mac, Cause::Arrival, cx);
        if exclusion.is_none() {
            self.report_contested(mac, contender, cx);
        }
        self.refresh_tunnel(cx);
        Ok(())
    }

    /// A MAC that is sticky at a remote VTEP is announced by another one too (RFC 7432 section 15.2).
    fn report_contested(&self, mac: MacAddr, arrived: Contender, cx: &mut Context<'_>) {
        let Some(Owner::Remote(holder)) = self.macs.get(&mac).map(|state| state.owner) else { return };
        if self.is_active() && holder.sticky && holder.vtep != arrived.vtep && !holder.stale && !arrived.stale {
            let (vni, vtep, holder) = (self.vni, arrived.vtep, holder.vtep);
            cx.out.report(Report::StickyContested { vni, mac, vtep, holder });
        }
    }

    pub(crate) fn remove_mac(&mut self, mac: MacAddr, key: &MacRoute, cx: &mut Context<'_>) {
        let Some(state) = self.macs.get_mut(&mac) else { return };
        let Some(previous) = state.routes.remove(key) else { return };
        let is_last = state.routes.is_empty();
        self.count_usable(previous.exclusion.is_none(), false);
        if let Some(ip) = key.ip {
            self.remove_neighbor(ip, &NeighborRoute { rd: key.rd, tag: key.tag, mac }, cx);
        }
        let promoted = if is_last { self.mac_budget.leave(&mac) } else { None };
        self.settle(mac, Cause::Withdrawal, cx);
        if let Some(promoted) = promoted {
            self.look_again(promoted, Cause::Admission, cx);
        }
        self.refresh_tunnel(cx);
    }

    fn remove_neighbor(&mut self, ip: IpAddr, key: &NeighborRoute, cx: &mut Context<'_>) {
        if let Some(candidates) = self.neighbors.get_mut(&ip) {
            candidates.remove(key);
            if candidates.is_empty() {
                self.neighbors.remove(&ip);
            }
            self.mark(Key::Neighbor(self.vni, ip), cx);
        }
    }

    /// A device of this node has the MAC, or no more.
    pub(crate) fn device(&mut self, mac: MacAddr, present: bool, cx: &mut Context<'_>) {
        let changed = if present { self.devices.insert(mac) } else { self.devices.remove(&mac) };
        if changed {
            self.confirm(Key::Mac(self.vni, mac), cx);
            self.look_again(mac, if present { Cause::Withdrawal } else { Cause::Admission }, cx);
        }
    }

    /// Whether a MAC's routes may be installed has changed: decides again about it and its addresses.
    fn look_again(&mut self, mac: MacAddr, cause: Cause, cx: &mut Context<'_>) {
        let routes = self.macs.get(&mac).map(|state| &state.routes);
        let ips: Vec<IpAddr> = routes.into_iter().flat_map(|r| r.iter()).filter_map(|c| c.key.ip).collect();
        for ip in ips {
            self.mark(Key::Neighbor(self.vni, ip), cx);
        }
        self.settle(mac, cause, cx);
    }

    pub(crate) fn put_multicast(&mut self, route: RemoteMulticast, cx: &mut Context<'_>) {
        let (vtep, exclusion) = (route.vtep, route.exclusion);
        let previous = self.multicast.insert(route.key, route);
        // The new one first, so that a re-announcement does not pass through an empty flood list.
        if exclusion.is_none() {
            self.add_flood(vtep, cx);
        }
        self.count_usable(previous.as_ref().is_some_and(reachable), exclusion.is_none_or(|e| e.is_about_flooding()));
        if let Some(previous) = previous.filter(|previous| previous.exclusion.is_none()) {
            self.remove_flood(previous.vtep, cx);
        }
        self.refresh_tunnel(cx);
    }

    pub(crate) fn remove_multicast(&mut self, key: &MulticastRoute, cx: &mut Context<'_>) {
        let Some(previous) = self.multicast.remove(key) else { return };
        self.count_usable(reachable(&previous), false);
        if previous.exclusion.is_none() {
            self.remove_flood(previous.vtep, cx);
        }
        self.refresh_tunnel(cx);
    }

    fn add_flood(&mut self, vtep: IpAddr, cx: &mut Context<'_>) {
        self.stale.remove(&Key::Flood(self.vni, vtep));
        let routes = self.flood.entry(vtep).or_default();
        *routes += 1;
        if *routes > 1 {
            return;
        }
        if !self.flood_budget.enter(vtep) && self.is_active() {
            cx.out.report(Report::FloodLimit { vni: self.vni, vtep });
        }
        self.mark(Key::Flood(self.vni, vtep), cx);
    }

    fn remove_flood(&mut self, vtep: IpAddr, cx: &mut Context<'_>) {
        let Some(routes) = self.flood.get_mut(&vtep) else { return };
        *routes = routes.saturating_sub(1);
        if *routes > 0 {
            return;
        }
        self.flood.remove(&vtep);
        self.mark(Key::Flood(self.vni, vtep), cx);
        if let Some(promoted) = self.flood_budget.leave(&vtep) {
            self.mark(Key::Flood(self.vni, promoted), cx);
        }
    }

    fn count_usable(&mut self, before: bool, after: bool) {
        match (before, after) {
            (false, true) => self.usable_routes += 1,
            (true, false) => self.usable_routes = self.usable_routes.saturating_sub(1),
            _ => {}
        }
    }
}

/// Whether frames can come from the VTEP, flooded to or not.
fn reachable(route: &RemoteMulticast) -> bool {
    route.exclusion.is_none_or(|exclusion| exclusion.is_about_flooding())
}
