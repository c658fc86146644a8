//! What an engine can know of its LANs: whether reflectors have said all they know, and since when.

use bgp_core::time::{Duration, Instant};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Knowledge {
    /// Since when reflectors have said all they know.
    informed: Option<Instant>,
    /// The last time before that when they had: from, until.
    before: Option<(Instant, Instant)>,
}

impl Knowledge {
    pub(crate) fn set(&mut self, informed: bool, now: Instant) {
        match self.informed {
            None if informed => self.informed = Some(now),
            Some(since) if !informed => {
                self.before = Some((since, now));
                self.informed = None;
            }
            _ => {}
        }
    }

    /// Whether, ever since `made`, routes of a LAN that has been active since `active` may still have been on their way.
    pub(crate) fn is_blind(&self, made: Instant, active: Instant, learning: Duration, now: Instant) -> bool {
        let known = |since: Instant, until: Instant| until >= made.max(since.max(active) + learning);
        !(self.informed.is_some_and(|since| known(since, now))
            || self.before.is_some_and(|(since, until)| known(since, until)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEARNING: Duration = Duration::from_secs(2);

    fn at(secs: u64) -> Instant {
        Instant::from_secs(secs)
    }

    #[test]
    fn a_lan_is_known_a_while_after_its_first_member_and_the_reflectors_word() {
        let mut knowledge = Knowledge::default();
        assert!(knowledge.is_blind(at(0), at(0), LEARNING, at(100)));
        knowledge.set(true, at(10));
        assert!(knowledge.is_blind(at(5), at(0), LEARNING, at(11)));
        assert!(!knowledge.is_blind(at(5), at(0), LEARNING, at(12)));
        assert!(knowledge.is_blind(at(20), at(20), LEARNING, at(21)));
        assert!(!knowledge.is_blind(at(20), at(20), LEARNING, at(22)));
    }

    #[test]
    fn what_was_known_once_is_not_unknown_again_for_what_was_before() {
        let mut knowledge = Knowledge::default();
        knowledge.set(true, at(0));
        knowledge.set(false, at(10));
        assert!(!knowledge.is_blind(at(0), at(0), LEARNING, at(20)), "it saw the LAN between 2 and 10");
        assert!(knowledge.is_blind(at(11), at(0), LEARNING, at(20)), "made after that");
        assert!(knowledge.is_blind(at(9), at(9), LEARNING, at(20)), "its LAN was too new then");
        knowledge.set(true, at(30));
        assert!(knowledge.is_blind(at(11), at(0), LEARNING, at(31)));
        assert!(!knowledge.is_blind(at(11), at(0), LEARNING, at(32)));
    }
}
