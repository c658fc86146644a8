//! A simulated fabric becomes exact again after any faults.

use std::time::{Duration, Instant};

use tests::simulation::scenario::Settings;
use tests::simulation::seeds::{checked, kept};

/// Real time for seeds beyond those that must run.
const BUDGET: Duration = Duration::from_secs(15);
const LEAST: u64 = 30;
const MOST: u64 = 400;

#[test]
fn forwarding_becomes_exact_again_after_any_faults() {
    let begin = Instant::now();
    let seeds = (1..=MOST).take_while(|seed| *seed <= LEAST || begin.elapsed() < BUDGET);
    let failures: Vec<String> =
        seeds.filter_map(|seed| checked(Settings { seed, nodes: 4, steps: 60 }).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn what_once_failed_holds() {
    let failures: Vec<String> =
        kept().expect("three numbers a line").into_iter().filter_map(|settings| checked(settings).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
