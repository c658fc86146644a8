//! Simulates a whole fabric: one seed with its trace, many with a summary, or a scenario from a file.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use tests::simulation::run::{Figures, Invariant, Outcome, run};
use tests::simulation::sabotage::Sabotage;
use tests::simulation::scenario::Scenario;
use tests::simulation::seeds::{Settings, checked};
use tests::simulation::shrink::Shrinker;
use tests::simulation::trace::Trace;

/// Runs made to shrink one scenario.
const SHRINK_RUNS: usize = 3_000;

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
    /// Runs with this and the following seeds; only violations and a summary are printed.
    #[arg(long)]
    seeds: Option<u64>,
    /// Runs the scenario in a file, as `--shrink` and `--print` write them, instead of that of a seed.
    #[arg(long, conflicts_with_all = ["seed", "nodes", "steps", "seeds"])]
    replay: Option<PathBuf>,
    /// Makes the scenario small if something does not hold in it, and prints it.
    #[arg(long)]
    shrink: bool,
    /// Prints the scenario and does not run it.
    #[arg(long, conflicts_with = "seeds")]
    print: bool,
    /// Prints no trace.
    #[arg(long)]
    quiet: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let settings = Settings { seed: options.seed, nodes: options.nodes.into(), steps: options.steps };
    if let Some(count) = options.seeds {
        return many(settings, count, options.shrink);
    }
    let scenario = match options.replay.as_ref().map_or_else(|| Ok(settings.scenario()), read) {
        Ok(scenario) => scenario,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    if options.print {
        print!("{scenario}");
        return ExitCode::SUCCESS;
    }
    one(&scenario, &options)
}

fn read(path: &PathBuf) -> Result<Scenario, String> {
    let named = |error: String| format!("--replay {}: {error}", path.display());
    std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?.parse().map_err(named)
}

fn one(scenario: &Scenario, options: &Options) -> ExitCode {
    let trace = if options.quiet { Trace::default() } else { Trace::kept() };
    let Outcome { violation, figures, trace } = run(scenario, Sabotage::None, trace);
    trace.iter().for_each(|line| println!("{line}"));
    println!(
        "{} happenings in {:.3} s of virtual time; exact {:.1} s after the last fault at most, moved in {:.3} s at most",
        figures.happenings,
        figures.virtual_time.as_secs_f64(),
        figures.converged.as_secs_f64(),
        figures.moved.as_secs_f64(),
    );
    let Some(violation) = violation else { return ExitCode::SUCCESS };
    println!("VIOLATED: {violation}");
    if options.shrink {
        shrink(violation.invariant, scenario.clone());
    }
    ExitCode::FAILURE
}

fn shrink(invariant: Invariant, scenario: Scenario) {
    let small = Shrinker::new(invariant, Sabotage::None, SHRINK_RUNS).shrink(scenario);
    let why = checked(&small, Sabotage::None).violation;
    println!("# {}", why.map(|violation| violation.to_string()).unwrap_or_default());
    print!("{small}");
}

/// What many runs gave.
#[derive(Default)]
struct Sum {
    happenings: u64,
    virtual_time: Duration,
    failed: u64,
    converged: (Duration, u64),
    moved: (Duration, u64),
}

impl Sum {
    fn add(&mut self, figures: &Figures, seed: u64) {
        self.happenings += figures.happenings;
        self.virtual_time += figures.virtual_time;
        self.converged = self.converged.max((figures.converged, seed));
        self.moved = self.moved.max((figures.moved, seed));
    }
}

fn many(first: Settings, count: u64, shrinks: bool) -> ExitCode {
    let begin = Instant::now();
    let mut sum = Sum::default();
    for seed in first.seed..first.seed.saturating_add(count) {
        let settings = Settings { seed, ..first };
        let outcome = checked(&settings.scenario(), Sabotage::None);
        sum.add(&outcome.figures, seed);
        if let Some(violation) = outcome.violation {
            sum.failed += 1;
            println!("seed {seed}: {violation}\n    {}", settings.command());
            if shrinks {
                shrink(violation.invariant, settings.scenario());
            }
        }
    }
    let took = begin.elapsed().as_secs_f64();
    println!(
        "{count} seeds of {} nodes and {} steps, {} failed: {:.1} seeds a second, {} happenings in {:.1} h of virtual time; slowest \
         exact again {:.0} s after the last fault (seed {}), slowest move {:.3} s (seed {})",
        first.nodes,
        first.steps,
        sum.failed,
        count as f64 / took,
        sum.happenings,
        sum.virtual_time.as_secs_f64() / 3600.0,
        sum.converged.0.as_secs_f64(),
        sum.converged.1,
        sum.moved.0.as_secs_f64(),
        sum.moved.1,
    );
    if sum.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
