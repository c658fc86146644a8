//! How long the routes of one family of a peer outlive its session (RFC 4724 section 4.2, RFC 9494 section 4.2).
//!
//! ```text
//!           session lost              restart time over             stale time over
//!   fresh ───────────────► restarting ─────────────────► long-lived ───────────────► gone
//!     ▲                      │                              │
//!     └──────────────────────┴──────────────────────────────┘
//!        the peer is back and has sent its end-of-RIB, or its time for that is over: it is synchronised
//! ```
//!
//! Both times run from the first loss until the peer is synchronised again, however often it comes and goes meanwhile: a
//! peer that flaps gets no more time than one that is away. Without a long-lived time the rules of RFC 4724 alone hold:
//! the restart time begins anew with each loss, and what was stale before goes.

use super::peer::PeerFamily;
use crate::session::Retention;
use crate::time::{Duration, Instant};

/// Since the peer was synchronised last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Retained {
    /// When what was not repeated goes, if there is a long-lived time.
    until: Option<Instant>,
    /// The restart time has been over once.
    long_lived: bool,
    /// That time has come while the peer was back, but not synchronised.
    overdue: bool,
}

/// What becomes of routes when their session is lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Loss {
    /// They go.
    Purge,
    /// They are kept.
    Keep {
        /// Those that were stale before are kept too (RFC 9494 section 4.2), or not (RFC 4724 section 4.2).
        stale_too: bool,
        /// When to ask [`Retained::due`].
        deadline: Instant,
    },
}

/// What becomes of stale routes at a deadline while the peer is away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Due {
    /// They become long-lived stale until then.
    LongLived(Instant),
    /// They go.
    Purge,
}

impl Retained {
    /// The session is lost; what was negotiated for the family in it, if its routes may be kept.
    pub fn lost(&mut self, retention: Option<&Retention>, now: Instant) -> Loss {
        let Some(retention) = retention.filter(|_| !self.overdue) else {
            *self = Self::default();
            return Loss::Purge;
        };
        let restart_over = now + retention.restart_time;
        if retention.long_lived_time == Duration::ZERO {
            *self = Self::default();
            return Loss::Keep { stale_too: false, deadline: restart_over };
        }
        let until = *self.until.get_or_insert(restart_over + retention.long_lived_time);
        Loss::Keep { stale_too: true, deadline: restart_over.min(until) }
    }

    /// A deadline given by [`Self::lost`], or by this, has come and the peer is still away.
    pub fn due(&mut self, now: Instant) -> Due {
        match self.until {
            Some(until) if now < until => {
                self.long_lived = true;
                Due::LongLived(until)
            }
            _ => {
                *self = Self::default();
                Due::Purge
            }
        }
    }

    /// The peer is back: whether its stale routes may wait for its end-of-RIB.
    pub fn returned(&mut self, negotiated: Option<&PeerFamily>) -> bool {
        let preserved = negotiated.is_some_and(|family| {
            if self.long_lived { family.long_lived_preserved } else { family.forwarding_preserved }
        });
        if !preserved {
            *self = Self::default();
        }
        preserved
    }

    /// When [`Self::expire`] is due, while the peer is back.
    pub fn expires(&self) -> Option<Instant> {
        self.until.filter(|_| !self.overdue)
    }

    /// The peer is back, but not synchronised, and its time is over: its stale routes go, and should the session be lost
    /// before it is synchronised, all others too.
    pub fn expire(&mut self) {
        self.overdue = true;
    }

    /// The peer is synchronised, or has nothing left.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::AddressFamily;

    fn at(secs: u64) -> Instant {
        Instant::from_secs(secs)
    }

    fn times(restart_secs: u64, long_lived_secs: u64) -> Retention {
        Retention {
            family: AddressFamily::EVPN,
            restart_time: Duration::from_secs(restart_secs),
            long_lived_time: Duration::from_secs(long_lived_secs),
        }
    }

    fn negotiated(forwarding_preserved: bool, long_lived_preserved: bool) -> PeerFamily {
        let family = AddressFamily::EVPN;
        PeerFamily { family, graceful_restart: true, forwarding_preserved, long_lived_preserved }
    }

    #[test]
    fn the_restart_time_comes_first_and_then_the_long_lived_time() {
        let mut retained = Retained::default();
        assert_eq!(retained.lost(Some(&times(100, 500)), at(0)), Loss::Keep { stale_too: true, deadline: at(100) });
        assert_eq!(retained.due(at(100)), Due::LongLived(at(600)));
        assert_eq!(retained.due(at(600)), Due::Purge);
        assert_eq!(retained.lost(Some(&times(100, 0)), at(700)), Loss::Keep { stale_too: false, deadline: at(800) });
        assert_eq!(retained.due(at(800)), Due::Purge);
        assert_eq!(retained.lost(None, at(900)), Loss::Purge);
    }

    #[test]
    fn the_f_bit_that_counts_is_that_of_the_period() {
        for (forwarding, long_lived) in [(true, false), (false, true)] {
            let mut retained = Retained::default();
            retained.lost(Some(&times(100, 500)), at(0));
            assert_eq!(retained.clone().returned(Some(&negotiated(forwarding, long_lived))), forwarding);
            retained.due(at(100));
            assert_eq!(retained.clone().returned(Some(&negotiated(forwarding, long_lived))), long_lived);
            assert!(!retained.returned(None));
        }
    }

    #[test]
    fn a_peer_that_flaps_gets_no_more_time_than_one_that_is_away() {
        let mut retained = Retained::default();
        let kept = |deadline| Loss::Keep { stale_too: true, deadline: at(deadline) };
        assert_eq!(retained.lost(Some(&times(100, 500)), at(0)), kept(100));
        retained.due(at(100));
        for secs in [200, 300, 450] {
            assert!(retained.returned(Some(&negotiated(true, true))));
            assert_eq!(retained.lost(Some(&times(100, 500)), at(secs)), kept(secs + 100));
        }
        assert_eq!(retained.lost(Some(&times(100, 500)), at(550)), kept(600));
        assert_eq!(retained.due(at(600)), Due::Purge);
    }

    #[test]
    fn a_peer_that_was_synchronised_gets_all_of_its_time_again() {
        let mut retained = Retained::default();
        retained.lost(Some(&times(100, 500)), at(0));
        retained.due(at(100));
        assert!(retained.returned(Some(&negotiated(true, true))));
        retained.clear();
        assert_eq!(retained.lost(Some(&times(100, 500)), at(599)), Loss::Keep { stale_too: true, deadline: at(699) });
        assert_eq!(retained.due(at(699)), Due::LongLived(at(1_199)));
    }

    #[test]
    fn what_comes_after_the_time_is_over_does_not_outlive_a_session_that_was_never_synchronised() {
        let mut retained = Retained::default();
        retained.lost(Some(&times(100, 500)), at(0));
        assert!(retained.returned(Some(&negotiated(true, true))));
        assert_eq!(retained.expires(), Some(at(600)));
        retained.expire();
        assert_eq!(retained.expires(), None);
        assert_eq!(retained.lost(Some(&times(100, 500)), at(610)), Loss::Purge);
        assert_eq!(retained.lost(Some(&times(100, 500)), at(700)), Loss::Keep { stale_too: true, deadline: at(800) });
    }
}
