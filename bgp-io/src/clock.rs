//! The core's time from the runtime's monotonic clock.

use bgp_core::time::Instant;

/// Converts between the two, from one origin per process part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: tokio::time::Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { origin: tokio::time::Instant::now() }
    }

    pub(crate) fn now(self) -> Instant {
        Instant::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The runtime's instant, rounded up to what its timers can tell apart.
    pub(crate) fn at(self, instant: Instant) -> tokio::time::Instant {
        let far = std::time::Duration::from_secs(60 * 60 * 24 * 365);
        self.origin + std::time::Duration::from_micros(instant.as_micros()).min(far)
    }
}
