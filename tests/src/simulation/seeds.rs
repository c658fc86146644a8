//! Runs by the number, and the scenarios that once failed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::generate::generate;
use super::run::{Invariant, Outcome, Violation, run};
use super::sabotage::Sabotage;
use super::scenario::Scenario;
use super::trace::Trace;

/// What a run is.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Everything follows from it.
    pub seed: u64,
    /// Workers.
    pub nodes: usize,
    /// Disturbances.
    pub steps: usize,
}

impl Settings {
    /// The scenario.
    pub fn scenario(&self) -> Scenario {
        generate(self.seed, self.nodes, self.steps)
    }

    /// The command line that repeats the run with its trace.
    pub fn command(&self) -> String {
        let Self { seed, nodes, steps } = self;
        format!("cargo run -p tests --bin simulate -- --seed {seed} --nodes {nodes} --steps {steps}")
    }
}

/// Carries a scenario out; a panic is a violation.
pub fn checked(scenario: &Scenario, sabotage: Sabotage) -> Outcome {
    let outcome = catch_unwind(AssertUnwindSafe(|| run(scenario, sabotage, Trace::default())));
    outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let why = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("panicked").to_owned();
        let violation = Some(Violation { invariant: Invariant::Safety, why });
        Outcome { violation, figures: super::run::Figures::default(), trace: Vec::new() }
    })
}

/// The scenarios that once failed, with their names.
///
/// # Errors
/// The file that cannot be read, or the line that is no step.
pub fn kept() -> Result<Vec<(String, Scenario)>, String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let entries = std::fs::read_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let mut kept = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let named = |error: String| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(&path).map_err(|error| named(error.to_string()))?;
        kept.push((path.display().to_string(), text.parse().map_err(named)?));
    }
    kept.sort_by(|(a, _): &(String, Scenario), (b, _)| a.cmp(b));
    Ok(kept)
}
