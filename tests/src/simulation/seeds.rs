//! Runs by the number, each with what repeats it; and the runs that once failed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::scenario::{Outcome, Settings, run};
use super::trace::Trace;

/// Runs that once failed, one a line: seed, nodes, steps.
const KEPT: &str = include_str!("../../seeds.txt");

/// The runs that once failed.
///
/// # Errors
/// The line that is not three numbers.
pub fn kept() -> Result<Vec<Settings>, String> {
    let lines = KEPT.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let parse = |line: &str| {
        let wrong = || format!("`{line}` in seeds.txt is not `SEED NODES STEPS`");
        let mut words = line.split_whitespace();
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).ok_or_else(wrong);
        let (seed, nodes, steps) = (number()?, number()?, number()?);
        let size = |number: u64| usize::try_from(number).map_err(|_| wrong());
        Ok(Settings { seed, nodes: size(nodes)?, steps: size(steps)? })
    };
    lines.map(parse).collect()
}

/// The command line that repeats a run with its trace.
pub fn command(settings: &Settings) -> String {
    let Settings { seed, nodes, steps } = settings;
    format!("cargo run -p tests --bin simulate -- --seed {seed} --nodes {nodes} --steps {steps}")
}

/// Carries a run out; a panic is a violation.
///
/// # Errors
/// What did not hold, with the command line that shows it.
pub fn checked(settings: Settings) -> Result<Outcome, String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| run(settings, Trace::default())));
    let failed = |why: &str| format!("seed {}: {why}\n    {}", settings.seed, command(&settings));
    match outcome {
        Ok(Ok(Outcome { violation: Some(violation), .. })) => Err(failed(&violation)),
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(error)) => Err(failed(&format!("not simulated: {error}"))),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            Err(failed(text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("panicked")))
        }
    }
}
