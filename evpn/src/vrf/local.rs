//! What the node sees of its own stations: claims by CNI, frames on local ports.

use std::net::IpAddr;

use bgp_core::mobility::newest_sequence;
use bgp_core::types::MacAddr;
use smallvec::SmallVec;

use super::settle::Cause;
use super::{MacVrf, Sighting, Standing};
use crate::engine::{Claim, Member};
use crate::forwarding::Key;
use crate::mac::{Contest, HeldClaim, Learned, MacState, Owner};
use crate::outputs::Context;
use crate::report::Report;
use crate::routes::LocalRoute;

impl MacVrf {
    /// A fresh claim is a move: the sequence goes above every known one, that of its addresses at other MACs included
    /// (RFC 9721 section 6). A restored one says what was true before, and yields to what is true now.
    pub(crate) fn claim(&mut self, member: Member, claim: &Claim, standing: Standing, cx: &mut Context<'_>) {
        let mac = claim.mac;
        let ips: SmallVec<[IpAddr; 2]> =
            claim.ips.iter().copied().filter(|ip| !ip.is_unspecified() && !ip.is_multicast()).collect();
        let neighbors = ips.iter().filter_map(|ip| self.neighbors.get(ip)?.best());
        let at_other_macs = newest_sequence(neighbors.map(|candidate| candidate.contender.sequence));

        let contest = match standing {
            Standing::Restored { .. } => None,
            Standing::Fresh => Some((self.is_blind(cx.now, cx), cx.now + cx.config.claim_window)),
        };
        let state = self.macs.entry(mac).or_default();
        let rival = state.routes.best().map(|candidate| candidate.contender);
        let local = state.local.get_or_insert_default();
        let replaced = match local.claims.iter().position(|held| held.member == member) {
            Some(at) => local.claims.remove(at).ips,
            None => SmallVec::new(),
        };
        local.claims.push(HeldClaim { member, ips, sticky: claim.sticky });
        if let Standing::Restored { sequence } = standing {
            local.sequence = sequence;
        }
        let may_move =
            standing == Standing::Fresh && rival.is_none_or(|rival| !rival.sticky || rival.stale || local.sticky());
        if may_move {
            rival.map(|rival| rival.sequence).into_iter().chain(at_other_macs).for_each(|known| local.outbid(known));
        }
        let sequence = local.sequence;
        if let Some((blind, until)) = contest {
            local.contest = Some(Contest::new(cx.now, blind, rival.map(|rival| rival.vtep), until));
            local.yielded_to = None;
            local.awaits_routes = false;
        }

        if let Some(macs) = self.ports.get_mut(&member) {
            macs.insert(mac);
        }
        if standing == Standing::Fresh {
            self.thaw(mac, cx);
        }
        self.refresh_addresses(mac, &replaced, cx);
        self.confirm(Key::Mac(self.vni, mac), cx);
        self.settle(mac, Cause::Claim, cx);
        self.refresh_tunnel(cx);
        if let (Some(rival), true) = (rival, may_move) {
            cx.out.report(Report::ClaimMoved { vni: self.vni, mac, vtep: rival.vtep, sequence });
        }
    }

    /// A CNI DEL.
    pub(crate) fn release(&mut self, mac: MacAddr, member: Member, cx: &mut Context<'_>) {
        if let Some(macs) = self.ports.get_mut(&member) {
            macs.remove(&mac);
        }
        self.drop_local(mac, member, cx);
    }

    /// The bridge has a row for the MAC on a local port.
    pub(crate) fn learned(&mut self, mac: MacAddr, learned: Learned, sighting: Sighting, cx: &mut Context<'_>) {
        let member = learned.member;
        let state = self.macs.get(&mac);
        let before = state.and_then(|state| state.local.as_ref()).and_then(|local| local.learned);
        if !self.ports.contains_key(&member) {
            // A port that is no member, perhaps no more: at least the MAC is not where it was.
            if let Some(before) = before {
                self.forgotten(mac, before.member, cx);
            }
            self.restore_row(mac, sighting, cx);
            return;
        }
        if let Some(report) = self.too_many(mac, member, before.is_none(), cx) {
            cx.out.report(report);
            if let Some(before) = before.filter(|before| before.member != member) {
                self.forgotten(mac, before.member, cx);
            }
            return self.restore_row(mac, sighting, cx);
        }
        self.census.learned += usize::from(before.is_none());
        // A row that is reported again without having left the port is no news: it does not move the MAC.
        let is_news = sighting == Sighting::TakenOver || before.is_none_or(|before| before.member != member);
        let takes_back = is_news && self.frame_moves(mac, learned, cx);

        let state = self.macs.entry(mac).or_default();
        let owner = state.owner;
        let local = state.local.get_or_insert_default();
        local.learned = Some(learned);
        local.took_over = sighting == Sighting::TakenOver || (local.took_over && before.is_some());
        if let (Owner::Remote(rival), true) = (owner, takes_back) {
            local.outbid(rival.sequence);
        }
        if let Some(before) = before.filter(|before| before.member != member) {
            self.unlink(mac, before.member);
        }
        if let Some(macs) = self.ports.get_mut(&member) {
            macs.insert(mac);
        }
        self.confirm(Key::Mac(self.vni, mac), cx);
        self.settle(mac, Cause::Frame, cx);
        self.refresh_tunnel(cx);
        self.restore_row(mac, sighting, cx);
    }

    /// Why a MAC is not learned on a port, if it is not.
    fn too_many(&self, mac: MacAddr, member: Member, is_new: bool, cx: &Context<'_>) -> Option<Report> {
        let (vni, limits) = (self.vni, &cx.config.limits);
        let port = self.ports.get(&member)?;
        if !port.contains(&mac) && port.len() >= limits.port_macs {
            return Some(Report::PortMacLimit { vni, mac, member });
        }
        let is_full = is_new && self.census.learned >= limits.learned_macs;
        is_full.then_some(Report::LearnedMacLimit { vni, mac, member })
    }

    /// The bridge has a local row for a MAC. Where that is not so by the routes, or where the row on the VXLAN device was
    /// left behind, the rows have to be written again, or removed.
    fn restore_row(&self, mac: MacAddr, sighting: Sighting, cx: &mut Context<'_>) {
        if sighting == Sighting::TakenOver || self.macs.get(&mac).is_some_and(|state| state.row.is_some()) {
            self.mark(Key::Mac(self.vni, mac), cx);
        }
    }

    /// Whether a frame on a local port moves a remote MAC here. Counts the move if so.
    fn frame_moves(&mut self, mac: MacAddr, learned: Learned, cx: &mut Context<'_>) -> bool {
        let vni = self.vni;
        let Some(state) = self.macs.get_mut(&mac) else { return false };
        let Owner::Remote(rival) = state.owner else { return false };
        if rival.sticky && !rival.stale {
            cx.out.report(Report::StickySeenLocally { vni, mac, vtep: rival.vtep, member: learned.member });
            return false;
        }
        if state.has_claim() || state.frozen().is_some() {
            return false;
        }
        self.count_move(mac, rival.vtep, cx);
        self.macs.get(&mac).is_some_and(|state| state.frozen().is_none())
    }

    /// The bridge has no row for the MAC on this port any more. Says nothing about another port.
    pub(crate) fn forgotten(&mut self, mac: MacAddr, member: Member, cx: &mut Context<'_>) {
        let Some(local) = self.macs.get_mut(&mac).and_then(|state| state.local.as_mut()) else { return };
        if local.learned.is_some_and(|learned| learned.member == member) {
            local.learned = None;
            self.census.learned = self.census.learned.saturating_sub(1);
            self.unlink(mac, member);
            self.local_shrunk(mac, cx);
        }
    }

    /// A write as remote was carried out.
    pub(crate) fn written_remote(&mut self, mac: MacAddr, cx: &mut Context<'_>) {
        let local = self.macs.get(&mac).and_then(|state| state.local.as_ref());
        if let Some(learned) = local.filter(|local| !local.took_over).and_then(|local| local.learned) {
            self.forgotten(mac, learned.member, cx);
        }
    }

    /// Removes what a member says of a MAC: its claim, and a row learned on it.
    pub(super) fn drop_local(&mut self, mac: MacAddr, member: Member, cx: &mut Context<'_>) {
        let Some(local) = self.macs.get_mut(&mac).and_then(|state| state.local.as_mut()) else { return };
        let replaced = match local.claims.iter().position(|held| held.member == member) {
            Some(at) => local.claims.remove(at).ips,
            None => SmallVec::new(),
        };
        if local.learned.take_if(|learned| learned.member == member).is_some() {
            self.census.learned = self.census.learned.saturating_sub(1);
        }
        self.refresh_addresses(mac, &replaced, cx);
        self.local_shrunk(mac, cx);
    }

    fn local_shrunk(&mut self, mac: MacAddr, cx: &mut Context<'_>) {
        if let Some(state) = self.macs.get_mut(&mac) {
            state.local.take_if(|local| local.is_empty());
        }
        self.settle(mac, Cause::Shrunk, cx);
    }

    /// A port no longer has the MAC learned; it may still have it claimed.
    fn unlink(&mut self, mac: MacAddr, member: Member) {
        let claims = |state: &MacState| {
            state.local.as_ref().is_some_and(|local| local.claims.iter().any(|held| held.member == member))
        };
        if !self.macs.get(&mac).is_some_and(claims)
            && let Some(macs) = self.ports.get_mut(&member)
        {
            macs.remove(&mac);
        }
    }

    /// The addresses claimed with a MAC changed: looks again at those it has and those it had.
    fn refresh_addresses(&mut self, mac: MacAddr, replaced: &[IpAddr], cx: &mut Context<'_>) {
        let held: SmallVec<[IpAddr; 4]> =
            self.macs.get(&mac).and_then(|state| state.local.as_ref()).into_iter().flat_map(|l| l.ips()).collect();
        for ip in replaced {
            self.local_ips.remove(&(*ip, mac));
        }
        self.local_ips.extend(held.iter().map(|ip| (*ip, mac)));
        for ip in held.iter().chain(replaced).copied() {
            cx.out.routes.insert(LocalRoute::Mac(self.vni, mac, Some(ip)));
            self.confirm(Key::Neighbor(self.vni, ip), cx);
            self.mark_neighbor(ip, cx);
        }
    }

    /// Whether a claim gives the MAC this address.
    pub(crate) fn claims_address(&self, mac: MacAddr, ip: IpAddr) -> bool {
        self.local_ips.contains(&(ip, mac))
    }
}
