//! Waiting for a condition.

use std::fmt::Display;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a condition may take. Generous, because a busy machine is slow; a healthy run never waits so long.
pub const PATIENCE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(20);

/// Asks `condition` until it gives a value.
///
/// # Panics
///
/// After [`PATIENCE`], with the last reason.
pub fn until<T, E: Display>(what: &str, mut condition: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match condition() {
            Ok(value) => return value,
            Err(reason) if Instant::now() > deadline => panic!("waited {PATIENCE:?} for {what}: {reason}"),
            Err(_) => sleep(STEP),
        }
    }
}

/// Asks `condition` until it holds.
///
/// # Panics
///
/// After [`PATIENCE`].
pub fn until_true(what: &str, mut condition: impl FnMut() -> bool) {
    until(what, || if condition() { Ok(()) } else { Err("it does not hold") });
}
