//! Simulates a whole fabric: one seed with its trace, or many with a summary.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use tests::simulation::scenario::{Settings, run};
use tests::simulation::seeds::checked;
use tests::simulation::trace::Trace;

#[derive(Parser)]
#[command(about)]
struct Options {
    /// The run, or the first of many.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Workers.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    nodes: u16,
    /// Disturbances in a run.
    #[arg(long, default_value_t = 60)]
    steps: usize,
    /// Runs with this and the following seeds; only a summary is printed.
    #[arg(long)]
    seeds: Option<u64>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let settings = Settings { seed: options.seed, nodes: options.nodes.into(), steps: options.steps };
    match options.seeds {
        Some(count) => many(settings, count),
        None => one(settings),
    }
}

fn one(settings: Settings) -> ExitCode {
    let outcome = match run(settings, Trace::kept()) {
        Ok(outcome) => outcome,
        Err(error) => {
            eprintln!("not simulated: {error}; raise the limit of open files or give fewer nodes");
            return ExitCode::FAILURE;
        }
    };
    outcome.trace.iter().for_each(|line| println!("{line}"));
    println!(
        "{} happenings in {:.3} s of virtual time; exact {:.1} s after the last fault",
        outcome.happenings,
        outcome.virtual_time.as_secs_f64(),
        outcome.converged.as_secs_f64()
    );
    if outcome.violation.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn many(first: Settings, count: u64) -> ExitCode {
    let begin = Instant::now();
    let (mut happenings, mut virtual_time, mut failed) = (0, Duration::ZERO, 0_u64);
    let mut slowest = (Duration::ZERO, first.seed);
    for seed in first.seed..first.seed.saturating_add(count) {
        match checked(Settings { seed, ..first }) {
            Ok(outcome) => {
                happenings += outcome.happenings;
                virtual_time += outcome.virtual_time;
                slowest = slowest.max((outcome.converged, seed));
            }
            Err(why) => {
                failed += 1;
                println!("{why}");
            }
        }
    }
    let took = begin.elapsed().as_secs_f64();
    println!(
        "{count} seeds of {} nodes and {} steps, {failed} failed: {:.1} seeds a second, {happenings} happenings in {:.1} h of \
         virtual time; slowest exact again {:.0} s after the last fault (seed {})",
        first.nodes,
        first.steps,
        count as f64 / took,
        virtual_time.as_secs_f64() / 3600.0,
        slowest.0.as_secs_f64(),
        slowest.1,
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
