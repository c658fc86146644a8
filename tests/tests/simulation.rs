//! A simulated fabric becomes exact again after any faults, and what must hold meanwhile holds.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tests::simulation::run::{Invariant, run};
use tests::simulation::sabotage::Sabotage;
use tests::simulation::scenario::Scenario;
use tests::simulation::seeds::{Settings, checked, kept};
use tests::simulation::shrink::Shrinker;
use tests::simulation::trace::Trace;

/// Seeds that are run however long they take, and those that are run within the time.
const LEAST: u64 = 300;
const MOST: u64 = 3_000;
/// Real time for seeds beyond those that must run.
const BUDGET: Duration = Duration::from_secs(75);

fn settings(seed: u64) -> Settings {
    Settings { seed, nodes: 4, steps: 60 }
}

/// What fails of the seeds up to `most`, on all processors.
fn failures(most: u64) -> Vec<String> {
    let begin = Instant::now();
    let next = AtomicU64::new(1);
    let worker = || {
        let mut failures = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > most || (seed > LEAST && begin.elapsed() > BUDGET) {
                return failures;
            }
            let settings = settings(seed);
            if let Some(violation) = checked(&settings.scenario(), Sabotage::None).violation {
                failures.push(format!("seed {seed}: {violation}\n    {}", settings.command()));
            }
        }
    };
    std::thread::scope(|scope| {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads: Vec<_> = (0..processors).map(|_| scope.spawn(worker)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a violation is no panic")).collect()
    })
}

#[test]
fn what_must_hold_holds_in_any_scenario() {
    let failures = failures(MOST);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn what_once_failed_holds() {
    let failures: Vec<String> = kept()
        .expect("scenarios that can be read")
        .into_iter()
        .filter_map(|(name, scenario)| Some(format!("{name}: {}", checked(&scenario, Sabotage::None).violation?)))
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_seed_repeats_its_run_to_the_last_happening() {
    let scenario = settings(5).scenario();
    let [first, second] = [(), ()].map(|()| run(&scenario, Sabotage::None, Trace::kept()).trace);
    assert!(first.len() > 100 && first == second);
}

#[test]
fn a_scenario_is_read_as_it_is_written() {
    for seed in 1..200 {
        let scenario = settings(seed).scenario();
        assert_eq!(scenario.to_string().parse::<Scenario>().as_ref(), Ok(&scenario));
    }
}

#[test]
fn every_mistake_is_found() {
    use Invariant::{Claims, Continuity, Exactness, Honesty, Isolation, Memory, Moves, Timers};
    // Rules that each of them breaks, any of which may be met first.
    let expected: [(Sabotage, &[Invariant]); 11] = [
        (Sabotage::LoseWithdrawals, &[Exactness]),
        (Sabotage::WrongLan, &[Isolation]),
        (Sabotage::ForgetRows, &[Moves]),
        (Sabotage::SpeakTooSoon, &[Continuity]),
        (Sabotage::SlowRows, &[Moves]),
        (Sabotage::KeepPorts, &[Exactness]),
        (Sabotage::KeepFiles, &[Memory]),
        (Sabotage::StopTimers, &[Memory, Timers, Exactness, Moves]),
        (Sabotage::AdoptNothing, &[Continuity, Exactness]),
        (Sabotage::IgnoreSequences, &[Claims, Moves, Exactness]),
        (Sabotage::BelieveAll, &[Honesty]),
    ];
    assert!(expected.iter().map(|(sabotage, _)| *sabotage).eq(Sabotage::ALL));
    for (sabotage, rules) in expected {
        let mut broken = BTreeSet::new();
        let found = (1..=60).any(|seed| {
            let violation = checked(&settings(seed).scenario(), sabotage).violation;
            broken.extend(violation.map(|violation| violation.invariant));
            rules.iter().any(|rule| broken.contains(rule))
        });
        assert!(found, "{sabotage:?} breaks {broken:?}, not {rules:?}");
    }
}

#[test]
fn what_fails_is_made_small() {
    let scenario = Settings { seed: 1, nodes: 3, steps: 20 }.scenario();
    let violation = checked(&scenario, Sabotage::SlowRows).violation.expect("a violation");
    let small = Shrinker::new(violation.invariant, Sabotage::SlowRows, 400).shrink(scenario.clone());
    assert!(small.steps.len() < 6, "{small}");
    let again = checked(&small, Sabotage::SlowRows).violation.map(|violation| violation.invariant);
    assert_eq!(again, Some(violation.invariant));
}
