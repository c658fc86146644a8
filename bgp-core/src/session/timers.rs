//! Jitter and back-off: deterministic, from a seed.

use super::PeerConfig;
use crate::time::{Duration, Instant};

/// A session that lived this long clears the count of failures.
const STABLE: Duration = Duration::from_secs(30);
/// Failures in a row that cost no pause: a peer that restarts must be able to come back at once.
const FREE_FAILURES: u32 = 2;

/// Shortens intervals to between three quarters and the whole (RFC 4271 section 10).
#[derive(Debug)]
pub(super) struct Jitter {
    state: u64,
}

impl Jitter {
    pub(super) const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(super) fn apply(&mut self, interval: Duration) -> Duration {
        let fraction = u32::try_from(self.next() % 256).unwrap_or(0);
        interval.saturating_mul(fraction.saturating_add(768)) / 1024
    }

    /// SplitMix64.
    const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = self.state;
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// The idle hold of RFC 4271 section 8.1.1: no pause after the first failures, then doubling up to the limit.
#[derive(Debug, Default)]
pub(super) struct BackOff {
    failures: u32,
}

impl BackOff {
    /// Records a failure of a session that came up at `established`, if it did; returns the pause.
    pub(super) fn failed(&mut self, now: Instant, established: Option<Instant>, config: &PeerConfig) -> Duration {
        if established.is_some_and(|since| now.saturating_since(since) >= STABLE) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        match self.failures.checked_sub(FREE_FAILURES.saturating_add(1)) {
            None => Duration::ZERO,
            Some(doublings) => {
                let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
                config.connect_retry().saturating_mul(factor).min(config.idle_hold_max())
            }
        }
    }

    pub(super) const fn clear(&mut self) {
        self.failures = 0;
    }
}
