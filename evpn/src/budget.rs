//! A limit on how many things of a kind are installed, with a waiting list that moves up.

use std::collections::BTreeSet;

/// Admits up to `limit` keys; those beyond wait until one leaves.
#[derive(Debug)]
pub(crate) struct Budget<K> {
    limit: usize,
    admitted: usize,
    waiting: BTreeSet<K>,
}

impl<K: Copy + Ord> Budget<K> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, admitted: 0, waiting: BTreeSet::new() }
    }

    /// A new key asks for a place. Whether it got one.
    pub(crate) fn enter(&mut self, key: K) -> bool {
        if self.admitted < self.limit {
            self.admitted += 1;
            true
        } else {
            self.waiting.insert(key);
            false
        }
    }

    /// A key that entered goes away. The key that takes its place, if one waited.
    pub(crate) fn leave(&mut self, key: &K) -> Option<K> {
        if self.waiting.remove(key) {
            return None;
        }
        let next = self.waiting.pop_first();
        if next.is_none() {
            self.admitted = self.admitted.saturating_sub(1);
        }
        next
    }

    /// Whether a key that entered has a place.
    pub(crate) fn admits(&self, key: &K) -> bool {
        !self.waiting.contains(key)
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[test]
    fn a_key_beyond_the_limit_waits_and_moves_up() {
        let mut budget = Budget::new(2);
        assert!(budget.enter(1) && budget.enter(2));
        assert!(!budget.enter(3) && !budget.enter(4));
        assert!(budget.admits(&2) && !budget.admits(&3));
        assert_eq!(budget.leave(&4), None);
        assert_eq!(budget.leave(&1), Some(3));
        assert!(budget.admits(&3));
        assert_eq!(budget.leave(&2), None);
        assert!(budget.enter(5) && !budget.enter(6));
    }
}
