//! Settling: after any change, who has a MAC, and what follows for rows, routes and reports.

use std::net::IpAddr;

use bgp_core::types::MacAddr;

use super::MacVrf;
use crate::candidates::Contender;
use crate::config::DuplicateAction;
use crate::forwarding::Key;
use crate::mac::{MacState, Owner};
use crate::outputs::{Context, Timer};
use crate::report::Report;
use crate::routes::LocalRoute;

/// What happened to a MAC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Cause {
    /// A CNI ADD.
    Claim,
    /// A frame on a local port.
    Frame,
    /// Something local went away.
    Shrunk,
    /// A route arrived or changed.
    Arrival,
    /// A route went away.
    Withdrawal,
    /// A place among the remote MACs became free, or no device of this node has the MAC any more.
    Admission,
    /// A freeze ended.
    Thaw,
}

impl MacVrf {
    /// Decides who has the MAC now, and marks what changed by it.
    pub(super) fn settle(&mut self, mac: MacAddr, cause: Cause, cx: &mut Context<'_>) {
        let Some(rival) = self.rival(mac, cx) else { return };
        if cause == Cause::Arrival {
            self.defend(mac, rival, cx);
        }
        let Some(state) = self.macs.get_mut(&mac) else { return };
        state.refresh_yield();
        let (before, owner) = (state.owner, state.decide(rival, cx.config));
        if cause == Cause::Arrival {
            match (before, owner) {
                (Owner::Local, Owner::Remote(to)) => self.count_move(mac, to.vtep, cx),
                (Owner::Remote(from), Owner::Remote(to)) if from.vtep != to.vtep => {
                    self.count_foreign_move(mac, to.vtep, cx);
                }
                _ => {}
            }
        }
        self.report_change(mac, before, owner, cause, cx);
        self.census.count(before, owner);
        self.publish(mac, owner, cx);
        if self.macs.get(&mac).is_some_and(MacState::is_empty) {
            self.macs.remove(&mac);
        }
    }

    /// The best usable route of a MAC (inner option); `None` where nothing is known of the MAC. Where no rival is
    /// left, a freeze has lost its reason.
    fn rival(&mut self, mac: MacAddr, cx: &mut Context<'_>) -> Option<Option<Contender>> {
        let may_install = self.may_install(mac);
        let best = self.macs.get(&mac)?.routes.best().map(|candidate| candidate.contender);
        let rival = best.filter(|_| may_install);
        if rival.is_none() {
            self.thaw(mac, cx);
        }
        Some(rival)
    }

    fn defend(&mut self, mac: MacAddr, rival: Option<Contender>, cx: &mut Context<'_>) {
        let Some(rival) = rival else { return };
        let is_blind = |made| self.is_blind(made, cx);
        let made = self.macs.get(&mac).and_then(MacState::claimed_at);
        let is_blind = made.is_some_and(is_blind);
        let sequence = self.macs.get_mut(&mac).and_then(|state| state.defend_claim(rival, is_blind, cx.now));
        if let Some(sequence) = sequence {
            cx.out.renumbered.insert((self.vni, mac));
            cx.out.report(Report::ClaimContested { vni: self.vni, mac, vtep: rival.vtep, sequence });
        }
    }

    fn report_change(&self, mac: MacAddr, before: Owner, owner: Owner, cause: Cause, cx: &mut Context<'_>) {
        let vni = self.vni;
        let Some(state) = self.macs.get(&mac) else { return };
        match owner {
            Owner::Remote(rival) if state.has_claim() && (before == Owner::Local || cause == Cause::Claim) => {
                cx.out.report(Report::ClaimYielded { vni, mac, vtep: rival.vtep });
            }
            Owner::Local if cause == Cause::Arrival => {
                let is_sticky = state.local.as_ref().is_some_and(|local| local.sticky());
                let rival = state.routes.best().map(|candidate| candidate.contender);
                if let (Some(rival), true) = (rival, is_sticky) {
                    cx.out.report(Report::StickyAnnounced { vni, mac, vtep: rival.vtep });
                }
            }
            _ => {}
        }
    }

    /// Writes the decision down, and marks row, routes and neighbours where they follow.
    fn publish(&mut self, mac: MacAddr, owner: Owner, cx: &mut Context<'_>) {
        let vni = self.vni;
        let Some(state) = self.macs.get_mut(&mac) else { return };
        if let (Owner::Remote(rival), Some(local)) = (owner, &mut state.local) {
            // The row will be written as remote, after any takeover so far.
            local.took_over = false;
            if !local.claims.is_empty() {
                local.yielded_to.get_or_insert(rival.vtep);
            }
        }
        let row = state.decide_row(owner);
        let published = state.decide_announcement(owner);
        let row_changed = core::mem::replace(&mut state.row, row) != row;
        let route_changed = core::mem::replace(&mut state.published, published) != published;
        state.owner = owner;
        let ips: Vec<IpAddr> = match &state.local {
            Some(local) if route_changed => local.ips().collect(),
            _ => Vec::new(),
        };
        if row_changed {
            self.mark(Key::Mac(vni, mac), cx);
        }
        if route_changed {
            cx.out.routes.insert(LocalRoute::Mac(vni, mac, None));
        }
        for ip in ips {
            cx.out.routes.insert(LocalRoute::Mac(vni, mac, Some(ip)));
            self.mark_neighbor(ip, cx);
        }
    }

    /// Counts a move between this node and a VTEP; the N-th within the window makes a duplicate.
    pub(super) fn count_move(&mut self, mac: MacAddr, vtep: IpAddr, cx: &mut Context<'_>) {
        let policy = &cx.config.duplicates;
        let Some(state) = self.macs.get_mut(&mac) else { return };
        if !state.count_move(policy, cx.now) {
            return;
        }
        let frozen = match policy.action {
            DuplicateAction::Warn => false,
            DuplicateAction::Freeze { recovery } => {
                let until = recovery.map(|recovery| cx.now + recovery);
                state.freeze(until);
                cx.out.timers.extend(until.map(|until| (until, Timer::Thaw(self.vni, mac))));
                true
            }
        };
        cx.out.report(Report::DuplicateMac { vni: self.vni, mac, moves: policy.moves, vtep, frozen });
    }

    /// Counts a move between two other VTEPs. This node does not contend, so there is nothing to freeze; but it can
    /// tell its operator.
    fn count_foreign_move(&mut self, mac: MacAddr, vtep: IpAddr, cx: &mut Context<'_>) {
        let policy = &cx.config.duplicates;
        let is_active = self.is_active();
        let Some(state) = self.macs.get_mut(&mac) else { return };
        if state.count_move(policy, cx.now) && is_active {
            let (vni, moves) = (self.vni, policy.moves);
            cx.out.report(Report::DuplicateMac { vni, mac, moves, vtep, frozen: false });
        }
    }

    /// Ends a freeze, if there is one, without looking at the owner.
    pub(super) fn thaw(&mut self, mac: MacAddr, cx: &mut Context<'_>) {
        let Some(frozen) = self.macs.get_mut(&mac).and_then(MacState::thaw) else { return };
        if let Some(until) = frozen.until {
            cx.out.timers.remove(&(until, Timer::Thaw(self.vni, mac)));
        }
        cx.out.report(Report::DuplicateCleared { vni: self.vni, mac });
    }

    /// The recovery time of a frozen MAC is over, or an operator says so.
    pub(crate) fn unfreeze(&mut self, mac: MacAddr, cx: &mut Context<'_>) {
        self.thaw(mac, cx);
        self.settle(mac, Cause::Thaw, cx);
    }
}

impl super::Census {
    fn count(&mut self, before: Owner, after: Owner) {
        match before {
            Owner::Local => self.local = self.local.saturating_sub(1),
            Owner::Remote(_) => self.remote = self.remote.saturating_sub(1),
            Owner::Nobody => {}
        }
        match after {
            Owner::Local => self.local += 1,
            Owner::Remote(_) => self.remote += 1,
            Owner::Nobody => {}
        }
    }
}
