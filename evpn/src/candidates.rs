//! Routes that compete for one thing, and who is preferred (RFC 7432 section 15).

use core::cmp::Ordering;
use std::net::IpAddr;

use smallvec::SmallVec;

use crate::import::Exclusion;

/// Compares two mobility sequence numbers by serial arithmetic (RFC 1982), so that 0 follows 4,294,967,295 (RFC 7432
/// section 15).
///
/// Numbers exactly 2^31 apart compare as equal; what then decides is the VTEP address, which is the same everywhere.
/// Serial arithmetic has cycles (a < b < c < a) once numbers are more than 2^31 apart; who wins is then still the same
/// on every worker that holds the same routes, since candidates are compared in the order of their keys.
pub fn serial_cmp(a: u32, b: u32) -> Ordering {
    match a.wrapping_sub(b) {
        0 | 0x8000_0000 => Ordering::Equal,
        1..0x8000_0000 => Ordering::Greater,
        _ => Ordering::Less,
    }
}

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
            .then_with(|| serial_cmp(self.sequence, other.sequence))
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

    /// The preferred candidate among those that are not excluded.
    pub(crate) fn best(&self) -> Option<&Candidate<K>> {
        self.0.iter().filter(|candidate| candidate.exclusion.is_none()).reduce(|best, candidate| {
            if candidate.contender.compare(&best.contender) == Ordering::Greater { candidate } else { best }
        })
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
    fn sequences_wrap_around() {
        assert_eq!(serial_cmp(0, u32::MAX), Ordering::Greater);
        assert_eq!(serial_cmp(u32::MAX, 0), Ordering::Less);
        assert_eq!(serial_cmp(7, 7), Ordering::Equal);
        assert_eq!(serial_cmp(1, 0x8000_0000), Ordering::Less);
    }

    #[test]
    fn sequences_half_the_space_apart_are_equal_both_ways() {
        assert_eq!(serial_cmp(0, 0x8000_0000), Ordering::Equal);
        assert_eq!(serial_cmp(0x8000_0000, 0), Ordering::Equal);
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
