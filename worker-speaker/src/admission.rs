//! Who is served when many ask at once: in the order in which they came, some at a time, and nobody too late.
//!
//! In: requests, the time, what has finished. Out: whose turn it is, and who has waited so long that an answer would find
//! nobody. Two requests for one attachment are never turned round, since all go through the same queue.

use std::collections::VecDeque;
use std::time::Instant;

/// Requests that may wait. More than connections, each of which has one at most.
const MAX_WAITING: usize = 512;
/// Requests that the dataplane has at once: enough that it never waits for the next.
const MAX_RUNNING: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct Admission<T> {
    /// Each with the time after which it is of no more use, where there is one.
    waiting: VecDeque<(Option<Instant>, T)>,
    running: usize,
}

impl<T> Default for Admission<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), running: 0 }
    }
}

impl<T> Admission<T> {
    /// Takes a request that is of use until `deadline`, or always. Gives it back if too many wait.
    pub fn take(&mut self, deadline: Option<Instant>, request: T) -> Option<T> {
        if self.waiting.len() >= MAX_WAITING {
            return Some(request);
        }
        self.waiting.push_back((deadline, request));
        None
    }

    /// Whose turn it is, if one can be served now: it runs until [`Self::finished`].
    pub fn next(&mut self) -> Option<T> {
        if self.running >= MAX_RUNNING {
            return None;
        }
        let (_, request) = self.waiting.pop_front()?;
        self.running += 1;
        Some(request)
    }

    /// One that ran is done.
    pub fn finished(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    /// Those who have waited too long.
    pub fn late(&mut self, now: Instant) -> Vec<T> {
        let is_late = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if !self.waiting.iter().any(|(deadline, _)| is_late(*deadline)) {
            return Vec::new();
        }
        let (late, kept): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(deadline, _)| is_late(*deadline));
        self.waiting = kept;
        late.into_iter().map(|(_, request)| request).collect()
    }

    /// When the next one will have waited too long.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.iter().filter_map(|(deadline, _)| *deadline).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn requests_are_served_in_their_order_and_only_some_at_once() {
        let mut admission = Admission::default();
        assert!((0..MAX_RUNNING + 2).all(|number| admission.take(None, number).is_none()));
        let served: Vec<usize> = std::iter::from_fn(|| admission.next()).collect();
        assert_eq!(served, (0..MAX_RUNNING).collect::<Vec<_>>());
        admission.finished();
        assert_eq!((admission.next(), admission.next()), (Some(MAX_RUNNING), None));
    }

    #[test]
    fn who_waits_too_long_is_told_even_behind_one_that_may_wait_for_ever() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut admission = Admission::default();
        for (deadline, name) in [(None, "a removal"), (Some(at(2)), "early"), (Some(at(5)), "later")] {
            assert!(admission.take(deadline, name).is_none());
        }
        assert_eq!(admission.next_deadline(), Some(at(2)));
        assert!(admission.late(at(1)).is_empty());
        assert_eq!(admission.late(at(2)), ["early"]);
        assert_eq!((admission.next_deadline(), admission.next()), (Some(at(5)), Some("a removal")));
    }

    #[test]
    fn a_full_queue_gives_requests_back() {
        let mut admission = Admission::default();
        assert!((0..MAX_WAITING).all(|number| admission.take(None, number).is_none()));
        assert_eq!(admission.take(None, 7), Some(7));
    }
}
