//! Plays rows in a scene, asserts the invariants after each, lists together what failed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::dialogue::{self, Played};
use super::report::{Outcome, Report};
use super::scene::Scene;
use super::stage::Stage;
use super::{Play, Profile, Row, Verdict};

/// After so many failures the scene tells nothing any more.
const MAX_FAILURES: usize = 4;

/// The trials of a group: what became of each, and why those that failed did.
#[derive(Debug)]
pub struct Trials {
    report: Report,
    failures: Vec<String>,
}

impl Trials {
    /// None yet.
    pub fn new(group: &str) -> Self {
        Self { report: Report::new(group), failures: Vec::new() }
    }

    /// Plays one, which panics if what must hold does not.
    pub fn play(&mut self, row: &Row, profile: Profile, verdict: Verdict, play: impl FnOnce()) {
        if self.failures.len() == MAX_FAILURES {
            self.report.add(row, profile, Outcome::NotReached);
            return;
        }
        let begin = Instant::now();
        match caught(play) {
            Ok(()) => self.report.add(row, profile, Outcome::Passed(begin.elapsed())),
            Err(why) => {
                self.report.add(row, profile, Outcome::Failed);
                self.failures.push(format!("{row:?} ({profile:?}, {verdict:?}): {why}"));
            }
        }
    }

    /// Publishes the report.
    ///
    /// # Panics
    ///
    /// With all rows that failed, by id, and why.
    pub fn finish(self) {
        let Self { report, failures } = self;
        report.publish();
        assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
    }
}

/// Plays all rows of a group in one scene.
///
/// # Panics
///
/// With all rows that failed, by id, and why.
pub fn run(group: &str, scene: &Scene, rows: &[Row]) {
    let mut trials = Trials::new(group);
    for row in rows {
        if let Play::NotApplicable(reason) = row.play {
            trials.report.not_applicable(row, reason);
        }
        for (profile, verdict) in row.trials() {
            trials.play(row, profile, verdict, || play(scene, row, profile, verdict));
        }
    }
    trials.finish();
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
fn caught(play: impl FnOnce()) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(play)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })
}
