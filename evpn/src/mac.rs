//! One MAC of one LAN: where it is, and who says so (RFC 7432 section 15, RFC 9721).
//!
//! The place of a MAC follows from what is known now, never from what was seen once: the local entry (claims by CNI
//! ADD, and the port where the bridge learned it) with the sequence it is announced with, against the best of the
//! routes present. One sequence serves the MAC-only and all MAC+IP routes (RFC 9721).
//!
//! ```text
//!              learned, claim                    better route
//!   Nobody ───────────────────► Local ───────────────────────────► Remote ◄──── route ──── Nobody
//!      ▲                        ▲   │ forgotten,                    │  │
//!      │                        │   │ release (no routes)           │  │
//!      ├────────────────────────┼───┘                               │  │
//!      │                        └── frame on a local port (sequence + 1), claim (sequence + 1), ─┘
//!      │                            last better route withdrawn, but: no frame moves a MAC that
//!      └── last route withdrawn     is sticky there, claimed here (it yielded), or frozen
//! ```

use std::net::IpAddr;

use bgp_core::mobility::compare_sequences;
use bgp_core::time::Instant;
use bgp_core::types::MacMobility;
use core::cmp::Ordering;
use smallvec::SmallVec;

use crate::candidates::{Candidates, Contender};
use crate::config::{Config, DuplicateDetection};
use crate::engine::Member;
use crate::import::MacRoute;

/// Where a MAC is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Owner {
    #[default]
    Nobody,
    Local,
    Remote(Contender),
}

/// The forwarding row of a remote MAC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Row {
    pub(crate) vtep: IpAddr,
    pub(crate) pinned: bool,
}

/// A CNI ADD that has not been undone.
#[derive(Clone, Debug)]
pub(crate) struct HeldClaim {
    pub(crate) member: Member,
    pub(crate) ips: SmallVec<[IpAddr; 2]>,
    pub(crate) sticky: bool,
}

/// Where the bridge learned a MAC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Learned {
    pub(crate) member: Member,
    pub(crate) sticky: bool,
}

/// How a fresh claim meets rivals of equal or newer sequence: by claiming once more above them, or not.
///
/// A rival that has seen the claim and is above it is a newer claim, and must win; one that has not seen it is an older
/// owner, and must lose. A sequence does not tell which it is. What tells is whether this worker knew the LAN's routes when
/// it claimed: if so, whoever turns up later is newer, but for the former owner, whose station may speak once more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Contest {
    /// When the claim was made.
    made: Instant,
    /// Answers to anybody, left while the LAN's routes are not known; none for a claim made in knowledge of them.
    blind: u8,
    /// Whom the claim took the MAC from, if that one has not been answered yet.
    former: Option<IpAddr>,
    /// Until when the former owner is answered.
    until: Instant,
}

impl Contest {
    /// More than one, so that a blind claim outlasts an older one that answers its former owner; few, so that two blind
    /// claims end.
    const BLIND_ANSWERS: u8 = 3;

    pub(crate) fn new(made: Instant, is_blind: bool, former: Option<IpAddr>, until: Instant) -> Self {
        Self { made, blind: if is_blind { Self::BLIND_ANSWERS } else { 0 }, former, until }
    }

    /// Whether a rival is answered now, which counts as one answer.
    fn answer(&mut self, rival: IpAddr, is_blind: bool, now: Instant) -> bool {
        if is_blind && let Some(left) = self.blind.checked_sub(1) {
            (self.blind, self.former) = (left, Some(rival));
            return true;
        }
        now < self.until && self.former.take_if(|former| *former == rival).is_some()
    }

    /// A VTEP has withdrawn the MAC: if it comes back, it comes with a newer claim.
    fn retain(&mut self, announces: impl Fn(IpAddr) -> bool) {
        self.former = self.former.filter(|vtep| announces(*vtep));
    }
}

/// What this node knows of a MAC by itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Local {
    pub(crate) claims: SmallVec<[HeldClaim; 1]>,
    pub(crate) learned: Option<Learned>,
    /// The port took over the last row that was written as remote, so no such write says that the port lost the MAC.
    pub(crate) took_over: bool,
    pub(crate) sequence: u32,
    /// Which rivals of the last claim are answered.
    pub(crate) contest: Option<Contest>,
    /// The VTEP that a claim yielded to. While that VTEP announces the MAC, even with a lower sequence after a restart,
    /// the claim stands back; then for whoever announces it next.
    pub(crate) yielded_to: Option<IpAddr>,
    /// The claim had yielded when this worker restarted: so says the row that was found. Until routes or the end of them say
    /// more, the MAC is where the row leads.
    pub(crate) awaits_routes: bool,
}

impl Local {
    pub(crate) fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.learned.is_none()
    }

    pub(crate) fn sticky(&self) -> bool {
        self.claims.iter().any(|claim| claim.sticky) || self.learned.is_some_and(|learned| learned.sticky)
    }

    /// It is held by claims that a former life of this worker took, and by nothing newer.
    pub(crate) fn is_restored(&self) -> bool {
        !self.claims.is_empty() && self.contest.is_none()
    }

    /// Where the MAC is: the last claim, else where it was learned.
    pub(crate) fn member(&self) -> Option<Member> {
        self.claims.last().map(|claim| claim.member).or(self.learned.map(|learned| learned.member))
    }

    pub(crate) fn ips(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.claims.iter().flat_map(|claim| claim.ips.iter().copied())
    }

    /// Makes the sequence newer than a rival's, if it is not yet.
    pub(crate) fn outbid(&mut self, rival: u32) {
        if compare_sequences(self.sequence, rival) != Ordering::Greater {
            self.sequence = rival.wrapping_add(1);
        }
    }
}

/// Moves within the current window, and the freeze that may have followed (RFC 7432 section 15.1).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moves {
    since: Instant,
    pub(crate) count: u32,
    pub(crate) frozen: Option<Frozen>,
}

/// A MAC that does not move.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frozen {
    /// When it may move again; none for never.
    pub(crate) until: Option<Instant>,
}

#[derive(Debug, Default)]
pub(crate) struct MacState {
    pub(crate) routes: Candidates<MacRoute>,
    pub(crate) local: Option<Box<Local>>,
    pub(crate) moves: Option<Box<Moves>>,
    /// The three below follow from the above; they are kept to see what changed.
    pub(crate) owner: Owner,
    pub(crate) row: Option<Row>,
    pub(crate) published: Option<MacMobility>,
}

impl MacState {
    pub(crate) fn is_empty(&self) -> bool {
        self.routes.is_empty() && self.local.is_none()
    }

    pub(crate) fn frozen(&self) -> Option<Frozen> {
        self.moves.as_ref().and_then(|moves| moves.frozen)
    }

    pub(crate) fn has_claim(&self) -> bool {
        self.local.as_ref().is_some_and(|local| !local.claims.is_empty())
    }

    /// Who has the MAC, given the best usable route.
    pub(crate) fn decide(&self, rival: Option<Contender>, config: &Config) -> Owner {
        match (&self.local, rival) {
            (None, None) => Owner::Nobody,
            (Some(local), None) if local.awaits_routes => Owner::Nobody,
            (Some(_), None) => Owner::Local,
            (None, Some(rival)) => Owner::Remote(rival),
            (Some(local), Some(rival)) if local.yielded_to.is_some() || self.frozen().is_some() => Owner::Remote(rival),
            (Some(local), Some(rival)) => {
                let (sticky, sequence) = (local.sticky(), local.sequence);
                let own = Contender { stale: false, sticky, sequence, vtep: config.vtep };
                if own.compare(&rival) == Ordering::Greater { Owner::Local } else { Owner::Remote(rival) }
            }
        }
    }

    /// The row that follows from the owner. Where frames must not take the MAC back, the row is pinned, so that the
    /// kernel does not move it for every frame only to have it moved back.
    pub(crate) fn decide_row(&self, owner: Owner) -> Option<Row> {
        match owner {
            Owner::Remote(Contender { vtep, sticky, .. }) => {
                Some(Row { vtep, pinned: sticky || self.has_claim() || self.frozen().is_some() })
            }
            Owner::Nobody | Owner::Local => None,
        }
    }

    /// What the MAC is announced with, if it is.
    pub(crate) fn decide_announcement(&self, owner: Owner) -> Option<MacMobility> {
        match (owner, &self.local) {
            (Owner::Local, Some(local)) => Some(MacMobility { sticky: local.sticky(), sequence: local.sequence }),
            _ => None,
        }
    }

    /// When the last claim was made.
    pub(crate) fn claimed_at(&self) -> Option<Instant> {
        self.local.as_ref()?.contest.map(|contest| contest.made)
    }

    /// A route arrived: a fresh claim may be made once more above a rival of equal or newer sequence. The new sequence, if
    /// so.
    pub(crate) fn defend_claim(&mut self, rival: Contender, is_blind: bool, now: Instant) -> Option<u32> {
        let local = self.local.as_mut()?;
        let contested = !rival.stale
            && local.sticky() == rival.sticky
            && compare_sequences(rival.sequence, local.sequence) != Ordering::Less;
        if !contested || local.claims.is_empty() || !local.contest.as_mut()?.answer(rival.vtep, is_blind, now) {
            return None;
        }
        local.outbid(rival.sequence);
        Some(local.sequence)
    }

    /// Whom the claim stands back for, after routes or claims changed. Where that VTEP withdraws because the MAC has
    /// moved on, it stands back for the next one: that claim is newer, whatever its sequence.
    pub(crate) fn refresh_yield(&mut self) {
        let Some(local) = &mut self.local else { return };
        let announces =
            |vtep| self.routes.iter().any(|route| route.exclusion.is_none() && route.contender.vtep == vtep);
        let next = self.routes.best().map(|candidate| candidate.contender.vtep);
        if local.awaits_routes && next.is_none() && !local.claims.is_empty() {
            return;
        }
        local.awaits_routes = false;
        local.contest.iter_mut().for_each(|contest| contest.retain(announces));
        local.yielded_to = local
            .yielded_to
            .filter(|_| !local.claims.is_empty())
            .and_then(|vtep| if announces(vtep) { Some(vtep) } else { next });
    }

    /// Counts a move. `true` on the one that makes the MAC a duplicate, once per window.
    pub(crate) fn count_move(&mut self, policy: &DuplicateDetection, now: Instant) -> bool {
        let fresh = Moves { since: now, count: 0, frozen: None };
        let moves = self.moves.get_or_insert_with(|| Box::new(fresh));
        if moves.frozen.is_none() && now.saturating_since(moves.since) > policy.window {
            **moves = fresh;
        }
        moves.count = moves.count.saturating_add(1);
        moves.frozen.is_none() && moves.count == policy.moves
    }

    pub(crate) fn freeze(&mut self, until: Option<Instant>) {
        if let Some(moves) = &mut self.moves {
            moves.frozen = Some(Frozen { until });
        }
    }

    /// Forgets moves and freeze; the freeze, if there was one.
    pub(crate) fn thaw(&mut self) -> Option<Frozen> {
        self.moves.take_if(|moves| moves.frozen.is_some()).and_then(|moves| moves.frozen)
    }
}
