//! Best path: which of several routes to one destination is used, and why.
//!
//! The steps eliminate candidates one after the other (RFC 4271 section 9.1.2.2). Elimination does not depend on the
//! order of the candidates, which matters for the two steps that are no total order: MED counts only between routes of
//! one neighbour AS, and mobility sequences wrap around.
//!
//! ```text
//!   long-lived stale last ─► stale last ─► EVPN type 2: sticky ─► newest sequence ─► lowest next hop ─► own ─► LOCAL_PREF ─► AS_PATH length
//!     ─► ORIGIN ─► MED in one AS ─► eBGP ─► ORIGINATOR_ID or router id ─► CLUSTER_LIST length ─► peer address
//! ```

use core::fmt;

use smallvec::SmallVec;

use super::attribute_store::{AttributeSet, Source};
use super::peer::PeerClass;
use crate::mobility::newest_sequence;
use crate::wire::PathAttributes;

/// The step of the decision that settled it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Reason {
    /// There is no other route.
    Only,
    /// Long-lived stale routes are the least preferred (RFC 9494 section 4.4).
    LongLivedStale,
    /// Stale routes lose to those of a session that is up (RFC 4724).
    Stale,
    /// A sticky MAC does not move (RFC 7432 section 15.2).
    Sticky,
    /// Newer MAC mobility sequence (section 15).
    MobilitySequence,
    /// Lower next hop, between equal mobility sequences from different ones.
    NextHop,
    /// Own routes come first.
    Local,
    /// Higher LOCAL_PREF.
    LocalPref,
    /// Shorter AS_PATH.
    AsPathLength,
    /// Lower ORIGIN.
    Origin,
    /// Lower MULTI_EXIT_DISC within one neighbour AS.
    Med,
    /// eBGP over iBGP.
    External,
    /// Lower ORIGINATOR_ID or router id.
    RouterId,
    /// Shorter CLUSTER_LIST (RFC 4456 section 9 puts it between router id and peer address).
    ClusterListLength,
    /// Lower peer address.
    PeerAddress,
    /// Lower peer number: nothing else differs.
    PeerId,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Only => "the only route",
            Self::LongLivedStale => "not long-lived stale",
            Self::Stale => "not stale",
            Self::Sticky => "sticky MAC",
            Self::MobilitySequence => "mobility sequence",
            Self::NextHop => "lower next hop",
            Self::Local => "own route",
            Self::LocalPref => "LOCAL_PREF",
            Self::AsPathLength => "AS_PATH length",
            Self::Origin => "ORIGIN",
            Self::Med => "MULTI_EXIT_DISC",
            Self::External => "eBGP over iBGP",
            Self::RouterId => "router id",
            Self::ClusterListLength => "CLUSTER_LIST length",
            Self::PeerAddress => "peer address",
            Self::PeerId => "peer number",
        })
    }
}

/// LOCAL_PREF of a route that came without one.
pub const DEFAULT_LOCAL_PREF: u32 = 100;

/// The parts of the decision that are total orders, as integers: lower is better.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rank {
    /// Own routes, LOCAL_PREF, AS_PATH length, ORIGIN.
    before_med: u64,
    /// eBGP over iBGP, router id, CLUSTER_LIST length.
    after_med: u64,
}

const LOCAL_BIT: u32 = 50;
const LOCAL_PREF_BIT: u32 = 18;
const AS_PATH_BIT: u32 = 2;
const INTERNAL_BIT: u32 = 48;
const ROUTER_ID_BIT: u32 = 16;

impl Rank {
    /// The rank of a source's attributes.
    pub fn new(source: &Source, attributes: &PathAttributes) -> Self {
        let local_pref = match source.class {
            PeerClass::External => DEFAULT_LOCAL_PREF,
            _ => attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF),
        };
        let as_path = u64::from(u16::try_from(attributes.as_path.len()).unwrap_or(u16::MAX));
        let clusters = u64::from(u16::try_from(attributes.cluster_list.len()).unwrap_or(u16::MAX));
        let router_id = attributes.originator_id.unwrap_or(source.router_id);
        let learned = u64::from(source.class != PeerClass::Local);
        let internal = u64::from(source.class != PeerClass::External);
        Self {
            before_med: learned << LOCAL_BIT
                | u64::from(!local_pref) << LOCAL_PREF_BIT
                | as_path << AS_PATH_BIT
                | attributes.origin as u64,
            after_med: internal << INTERNAL_BIT | u64::from(router_id.0) << ROUTER_ID_BIT | clusters,
        }
    }
}

/// A route as the decision sees it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// What it says.
    pub set: &'a AttributeSet,
    /// It is kept for a peer that restarts.
    pub stale: bool,
}

impl Candidate<'_> {
    /// What counts before anything else; lower is better.
    fn staleness(&self) -> (bool, bool) {
        (self.set.long_lived_stale, self.stale)
    }
}

/// Candidates still in the race, by position.
type Survivors = SmallVec<[usize; 4]>;

/// The position of the best candidate; none if there are none. With `mobility`, MAC mobility comes first.
pub fn select(candidates: &[Candidate<'_>], mobility: bool) -> Option<usize> {
    match candidates.len() {
        0 => None,
        1 => Some(0),
        _ => Race::run(candidates, mobility, |_, _| {}),
    }
}

/// For each candidate what it lost by; for the best what its last rival lost by.
pub fn explain(candidates: &[Candidate<'_>], mobility: bool) -> Vec<Reason> {
    let mut reasons = vec![Reason::Only; candidates.len()];
    let mut last = Reason::Only;
    let best = Race::run(candidates, mobility, |position, reason| {
        last = reason;
        if let Some(slot) = reasons.get_mut(position) {
            *slot = reason;
        }
    });
    if let Some(slot) = best.and_then(|best| reasons.get_mut(best)) {
        *slot = last;
    }
    reasons
}

/// Whether adding `rival` to the candidates that `best` won against certainly leaves `best` the winner.
pub fn is_plainly_worse(rival: Candidate<'_>, best: Candidate<'_>, mobility: bool) -> bool {
    let candidates = [best, rival];
    if mobility && rival.set.mobility != best.set.mobility {
        // A third sequence may change which of the others is newest.
        return rival.staleness() > best.staleness();
    }
    select(&candidates, mobility) == Some(0)
}

/// One run of the decision: steps remove survivors and tell why.
struct Race<'a, 'b, L> {
    candidates: &'b [Candidate<'a>],
    survivors: Survivors,
    lost: L,
}

impl<'a, L: FnMut(usize, Reason)> Race<'a, '_, L> {
    fn run(candidates: &[Candidate<'a>], mobility: bool, lost: L) -> Option<usize> {
        let mut race = Race { candidates, survivors: (0..candidates.len()).collect(), lost };
        race.keep_lowest(Reason::LongLivedStale, |candidate| candidate.set.long_lived_stale);
        race.keep_lowest(Reason::Stale, |candidate| candidate.stale);
        if mobility {
            race.mobility();
        }
        race.keep_lowest(Reason::Local, |candidate| candidate.set.rank.before_med >> LOCAL_BIT);
        race.keep_lowest(Reason::LocalPref, |candidate| candidate.set.rank.before_med >> LOCAL_PREF_BIT);
        race.keep_lowest(Reason::AsPathLength, |candidate| candidate.set.rank.before_med >> AS_PATH_BIT);
        race.keep_lowest(Reason::Origin, |candidate| candidate.set.rank.before_med);
        race.med();
        race.keep_lowest(Reason::External, |candidate| candidate.set.rank.after_med >> INTERNAL_BIT);
        race.keep_lowest(Reason::RouterId, |candidate| candidate.set.rank.after_med >> ROUTER_ID_BIT);
        race.keep_lowest(Reason::ClusterListLength, |candidate| candidate.set.rank.after_med);
        race.keep_lowest(Reason::PeerAddress, |candidate| candidate.set.source.address);
        race.keep_lowest(Reason::PeerId, |candidate| candidate.set.source.peer);
        race.survivors.first().copied()
    }

    fn mobility(&mut self) {
        self.keep_lowest(Reason::Sticky, |candidate| !candidate.set.mobility.sticky);
        let newest = newest_sequence(self.sets().map(|set| set.mobility.sequence));
        self.keep_lowest(Reason::MobilitySequence, |candidate| Some(candidate.set.mobility.sequence) != newest);
        self.keep_lowest(Reason::NextHop, |candidate| candidate.set.attributes.next_hop);
    }

    /// Removes each survivor for which another one of the same neighbour AS has a lower MED; a missing MED is 0.
    fn med(&mut self) {
        if self.survivors.len() < 2 || self.sets().all(|set| set.attributes.med.unwrap_or(0) == 0) {
            return;
        }
        let meds = self.sets().map(|set| (set.attributes.as_path.first(), set.attributes.med.unwrap_or(0)));
        let mut lowest: SmallVec<[_; 4]> = meds.collect();
        lowest.sort_unstable();
        lowest.dedup_by_key(|(neighbour, _)| *neighbour);
        self.retain(Reason::Med, |candidate| {
            let med = candidate.set.attributes.med.unwrap_or(0);
            lowest.binary_search(&(candidate.set.attributes.as_path.first(), med)).is_ok()
        });
    }

    fn sets(&self) -> impl Iterator<Item = &'a AttributeSet> {
        self.survivors.iter().filter_map(|position| self.candidates.get(*position)).map(|candidate| candidate.set)
    }

    fn keep_lowest<K: Ord>(&mut self, reason: Reason, key: impl Fn(&Candidate<'a>) -> K) {
        if self.survivors.len() < 2 {
            return;
        }
        let keys = self.survivors.iter().filter_map(|position| self.candidates.get(*position)).map(&key);
        if let Some(lowest) = keys.min() {
            self.retain(reason, |candidate| key(candidate) == lowest);
        }
    }

    fn retain(&mut self, reason: Reason, keep: impl Fn(&Candidate<'a>) -> bool) {
        let (candidates, lost) = (self.candidates, &mut self.lost);
        self.survivors.retain(|position| {
            let kept = candidates.get(*position).is_some_and(&keep);
            if !kept {
                lost(*position, reason);
            }
            kept
        });
    }
}
