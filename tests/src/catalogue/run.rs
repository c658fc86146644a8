//! Plays rows in a scene, asserts the invariants after each, lists together what failed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::dialogue::{self, Played};
use super::report::{Outcome, Report};
use super::scene::Scene;
use super::stage::Stage;
use super::{Play, Profile, Row, Verdict};

/// After so many failures the scene tells nothing any more.
pub const MAX_FAILURES: usize = 4;

/// Plays all rows of a group in one scene.
///
/// # Panics
///
/// With all rows that failed, by id, and why.
pub fn run(group: &str, scene: &Scene, rows: &[Row]) {
    let mut report = Report::new(group);
    let mut failures = Vec::new();
    for row in rows {
        if let Play::NotApplicable(reason) = row.play {
            report.not_applicable(row, reason);
        }
        for (profile, verdict) in row.trials() {
            if failures.len() == MAX_FAILURES {
                report.add(row, profile, Outcome::NotReached);
                continue;
            }
            let begin = Instant::now();
            match caught(|| play(scene, row, profile, verdict)) {
                Ok(()) => report.add(row, profile, Outcome::Passed(begin.elapsed())),
                Err(why) => {
                    report.add(row, profile, Outcome::Failed);
                    failures.push(format!("{row:?} ({profile:?}, {verdict:?}): {why}"));
                }
            }
        }
    }
    report.publish();
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}

/// Plays a row once and asserts everything that must hold.
fn play(scene: &Scene, row: &Row, profile: Profile, verdict: Verdict) {
    let mut stage = Stage::new(scene, profile);
    scene.observer.forget();
    if let Play::Script(script) = &row.play {
        script(&mut stage);
    } else if let Some(Played { connection, farewell }) = dialogue::play(scene, &stage.actor, row, verdict) {
        (stage.connection, stage.farewell) = (connection, farewell);
    }
    scene.assert_counted(&stage.actor, verdict, row.rule);
    if let Some(check) = &row.also {
        check(&mut stage);
    }
    drop(stage);
    scene.assert_unharmed();
}

/// Plays something that panics if what must hold does not; the words of the panic.
///
/// # Errors
///
/// If it panicked.
pub fn caught(play: impl FnOnce()) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(play)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })
}
