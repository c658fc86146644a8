//! Pauses between attempts.

use std::time::Duration;

/// The first pause.
const FIRST: Duration = Duration::from_millis(500);

/// Pauses that double up to a limit, each shortened by chance to between half and all of it, so that those who lost the API
/// server together do not come back together.
#[derive(Debug)]
pub struct Backoff {
    max: Duration,
    attempts: u32,
    seed: u64,
}

impl Backoff {
    /// Pauses of `max` at most. The seed is where chance comes from: another one for every process.
    pub const fn new(max: Duration, seed: u64) -> Self {
        Self { max, attempts: 0, seed }
    }

    /// It worked: the next failure is the first.
    pub const fn reset(&mut self) {
        self.attempts = 0;
    }

    /// The pause before the next attempt; no shorter than what was asked for.
    pub fn pause(&mut self, asked: Option<Duration>) -> Duration {
        let full = FIRST.saturating_mul(1 << self.attempts.min(16)).min(self.max);
        self.attempts = self.attempts.saturating_add(1);
        // One step of a linear congruential generator (Knuth's MMIX): chance enough to spread arrivals.
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let fraction = (self.seed >> 40) as f64 / (1_u64 << 24) as f64;
        full.mul_f64(0.5 + fraction / 2.0).max(asked.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_limit_and_begin_anew_after_success() {
        let max = Duration::from_secs(10);
        for seed in 0..100 {
            let mut backoff = Backoff::new(max, seed);
            for full in [500_u64, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
                let full = Duration::from_millis(full);
                let pause = backoff.pause(None);
                assert!(pause >= full / 2 && pause <= full, "{pause:?} of {full:?}");
            }
            (0..100).for_each(|_| assert!(backoff.pause(None) <= max));
            backoff.reset();
            assert!(backoff.pause(None) <= FIRST);
        }
    }

    #[test]
    fn those_who_fail_together_come_back_apart() {
        let pauses: std::collections::HashSet<_> =
            (0..100).map(|seed| Backoff::new(FIRST, seed << 20).pause(None)).collect();
        assert!(pauses.len() > 50, "{}", pauses.len());
    }

    #[test]
    fn a_server_that_asks_for_time_gets_it() {
        let asked = Duration::from_secs(20);
        assert_eq!(Backoff::new(FIRST, 1).pause(Some(asked)), asked);
    }
}
