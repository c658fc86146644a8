//! Routes that compete for one thing, and who is preferred (RFC 7432 section 15).

use core::cmp::Ordering;
use std::net::IpAddr;

use bgp_core::mobility::{compare_sequences, newest_sequence};
use smallvec::SmallVec;

use crate::import::Exclusion;

/// What decides between two places of one MAC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Contender {
    /// The sender is gone; a helper keeps its route for the long term (RFC 9494).
    pub(crate) stale: bool,
    pub(crate) sticky: bool,
    pub(crate) sequence: u32,
    pub(crate) vtep: IpAddr,
}

impl Contender {
    /// `Greater` where `self` is preferred: not stale, then sticky, then the newer sequence, then the lower VTEP address.
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        (other.stale.cmp(&self.stale))
            .then_with(|| self.sticky.cmp(&other.sticky))
            .then_with(|| compare_sequences(self.sequence, other.sequence))
            .then_with(|| other.vtep.cmp(&self.vtep))
    }
}

/// One route as a candidate.
#[derive(Clone, Debug)]
pub(crate) struct Candidate<K> {
    pub(crate) key: K,
    pub(crate) contender: Contender,
    /// Why the route takes no part in the choice.
    pub(crate) exclusion: Option<Exclusion>,
}

/// The set is at its limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Full;

/// Candidates for one thing, in key order.
#[derive(Debug)]
pub(crate) struct Candidates<K>(SmallVec<[Candidate<K>; 1]>);

impl<K> Default for Candidates<K> {
    fn default() -> Self {
        Self(SmallVec::new())
    }
}

impl<K: Ord> Candidates<K> {
    /// What one peer can make every later change of the thing cost: a scan of so many candidates.
    pub(crate) const MAX: usize = 4_096;

    /// Inserts or replaces; yields the candidate that was replaced.
    pub(crate) fn insert(&mut self, candidate: Candidate<K>) -> Result<Option<Candidate<K>>, Full> {
        match self.0.binary_search_by(|held| held.key.cmp(&candidate.key)) {
            Ok(at) => Ok(self.0.get_mut(at).map(|held| core::mem::replace(held, candidate))),
            Err(_) if self.0.len() >= Self::MAX => Err(Full),
            Err(at) => {
                self.0.insert(at, candidate);
                Ok(None)
            }
        }
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<Candidate<K>> {
        let at = self.0.binary_search_by(|held| held.key.cmp(key)).ok()?;
        Some(self.0.remove(at))
    }

    /// The preferred candidate among those that are not excluded: as [`Contender::compare`] says of two. Of several
    /// sequences that precede each other in a cycle it is the one that the RIB's decision takes, whatever the keys.
    pub(crate) fn best(&self) -> Option<&Candidate<K>> {
        let usable = || self.0.iter().filter(|candidate| candidate.exclusion.is_none());
        let class = |candidate: &Candidate<K>| (!candidate.contender.stale, candidate.contender.sticky);
        let best = usable().map(class).max()?;
        let rivals = || usable().filter(|candidate| class(candidate) == best);
        let newest = newest_sequence(rivals().map(|candidate| candidate.contender.sequence));
        rivals()
            .filter(|candidate| Some(candidate.contender.sequence) == newest)
            .min_by_key(|candidate| candidate.contender.vtep)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Candidate<K>> {
        self.0.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn candidate(key: u32, sequence: u32) -> Candidate<u32> {
        let vtep = IpAddr::from(Ipv4Addr::from(key));
        Candidate { key, contender: Contender { stale: false, sticky: false, sequence, vtep }, exclusion: None }
    }

    #[test]
    fn two_candidates_are_chosen_between_as_they_compare() {
        let contenders = [false, true].into_iter().flat_map(|stale| {
            [false, true].into_iter().flat_map(move |sticky| {
                let sequences = [0, 1, u32::MAX, 1 << 31, (1 << 31) + 1];
                let vteps = [1_u32, 2].map(|vtep| IpAddr::from(Ipv4Addr::from(vtep)));
                sequences
                    .into_iter()
                    .flat_map(move |sequence| vteps.map(move |vtep| Contender { stale, sticky, sequence, vtep }))
            })
        });
        let contenders: Vec<_> = contenders.collect();
        for (a, b) in contenders.iter().flat_map(|a| contenders.iter().map(move |b| (*a, *b))) {
            let mut set = Candidates::default();
            set.insert(Candidate { key: 0, contender: a, exclusion: None }).unwrap();
            set.insert(Candidate { key: 1, contender: b, exclusion: None }).unwrap();
            let expected = if b.compare(&a) == Ordering::Greater { b } else { a };
            assert_eq!(set.best().unwrap().contender, expected, "{a:?} {b:?}");
        }
    }

    #[test]
    fn sequences_in_a_cycle_have_one_winner_whatever_the_keys() {
        let third = u32::MAX / 3;
        for keys in [[1, 2, 3], [3, 1, 2], [2, 3, 1], [3, 2, 1]] {
            let mut set = Candidates::default();
            for (key, sequence) in keys.into_iter().zip([0, third, 2 * third]) {
                set.insert(candidate(key, sequence)).unwrap();
            }
            assert_eq!(set.best().unwrap().contender.sequence, 2 * third, "{keys:?}");
        }
    }

    #[test]
    fn a_full_set_still_replaces() {
        let mut set = Candidates::default();
        for key in 0..u32::try_from(Candidates::<u32>::MAX).unwrap() {
            set.insert(candidate(key, 0)).unwrap();
        }
        assert_eq!(set.insert(candidate(u32::MAX, 0)).unwrap_err(), Full);
        assert!(set.insert(candidate(7, 3)).unwrap().is_some());
        assert_eq!(set.best().unwrap().key, 7);
        assert!(set.remove(&7).is_some() && set.remove(&7).is_none());
        assert_eq!(set.best().unwrap().key, 0);
    }
}
