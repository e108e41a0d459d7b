//! Runs the simulator for as long as one likes.
//!
//! ```text
//! cargo run --release --no-default-features --features testing --example simulate -- --seeds 100000 --from 1 --steps 1000 --jobs 2
//! cargo run --release --no-default-features --features testing --example simulate -- --seed 42
//! ```
//!
//! The first runs many seeds and says what there was in them; the second runs one, with its history. What fails is shrunk,
//! told with its history, and the end of it.

use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use boxoffice::testing::simulation::{Plan, Report, run, shrink};

/// Between two words about how far it has come.
const TELL_EVERY: Duration = Duration::from_secs(60);

struct Options {
    from: u64,
    seeds: u64,
    steps: u64,
    jobs: u64,
    only: Option<u64>,
}

fn options() -> Result<Options, String> {
    let mut options = Options { from: 1, seeds: 100, steps: 1_000, jobs: 2, only: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value =
            words.next().and_then(|value| value.parse().ok()).ok_or_else(|| format!("{word} needs a number"))?;
        match word.as_str() {
            "--from" => options.from = value,
            "--seeds" => options.seeds = value,
            "--steps" => options.steps = value,
            "--jobs" => options.jobs = value,
            "--seed" => options.only = Some(value),
            _ => return Err(format!("{word} is not known: --seeds, --from, --steps, --jobs and --seed are")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::from(2);
        }
    };
    match options.only {
        Some(seed) => replay(seed, options.steps),
        None => many(&options),
    }
}

/// Runs one seed, with its history.
fn replay(seed: u64, steps: u64) -> ExitCode {
    let plan = Plan { with_history: true, ..Plan::new(seed, steps) };
    match run(&plan) {
        Ok((report, history)) => {
            history.iter().for_each(|line| println!("  {line}"));
            println!("seed {seed}: {report}, trace {:016x}", report.trace);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("seed {seed}: {failure}");
            tell_shrunk(&Plan::new(seed, steps));
            ExitCode::FAILURE
        }
    }
}

fn tell_shrunk(plan: &Plan) {
    if let Some((shrunk, failure)) = shrink(plan) {
        let left = shrunk.steps - shrunk.skipped.len() as u64;
        println!("seed {} shrunk from {} steps to {left}:\n{failure}", plan.seed, plan.steps);
    }
}

/// Runs many seeds, on several threads, until one fails.
fn many(options: &Options) -> ExitCode {
    let begun = Instant::now();
    let (next, done, failed) = (AtomicU64::new(options.from), AtomicU64::new(0), AtomicBool::new(false));
    let (total, told) = (Mutex::new(Report::default()), Mutex::new(Instant::now()));
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= options.from + options.seeds {
                        return;
                    }
                    let plan = Plan::new(seed, options.steps);
                    match run(&plan) {
                        Ok((report, _)) => total.lock().unwrap_or_else(|e| e.into_inner()).add(&report),
                        Err(failure) => {
                            failed.store(true, Ordering::Relaxed);
                            println!("seed {seed}: {failure}");
                            tell_shrunk(&plan);
                        }
                    }
                    let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                    let mut told = told.lock().unwrap_or_else(|e| e.into_inner());
                    if told.elapsed() >= TELL_EVERY {
                        *told = Instant::now();
                        eprintln!("{done} seeds, {} s", begun.elapsed().as_secs());
                    }
                }
            });
        }
    });
    let total = total.into_inner().unwrap_or_else(|e| e.into_inner());
    let (done, seconds) = (done.into_inner(), begun.elapsed().as_secs_f64());
    println!("{done} seeds from {}, {total}; {seconds:.1} s, commit {}", options.from, commit());
    if failed.into_inner() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The commit that is checked out.
fn commit() -> String {
    let described = Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=10"]).output();
    described.map_or_else(|_| "unknown".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
