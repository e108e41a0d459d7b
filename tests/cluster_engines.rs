//! Three whole engines on one replicated log, in a world of accidents: a slice of it. `BOXOFFICE_CLUSTER_SEEDS` says how many
//! seeds to run instead, from `BOXOFFICE_TEST_SEED` on (from 1 if that is not set).

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use boxoffice::testing::cluster::engines::{Flaw, Plan, Report, run};

/// How long new seeds are begun.
const BUDGET: Duration = Duration::from_secs(15);
/// Seeds that are run whatever the time.
const SEEDS_MIN: u64 = 100;
const STEPS: u64 = 5_000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|number| number.parse().ok())
}

/// Runs a plan that must hold.
fn holds(plan: &Plan) -> Report {
    run(plan).unwrap_or_else(|failure| {
        let again = run(&Plan { with_history: true, ..*plan });
        let told = again.err().map_or_else(|| "and it holds the second time".into(), |failure| failure.to_string());
        panic!("seed {}: {failure}\n{told}", plan.seed)
    })
}

#[test]
fn three_engines_tell_the_truth_and_end_with_the_same() {
    let asked = number("BOXOFFICE_CLUSTER_SEEDS");
    let first = number("BOXOFFICE_TEST_SEED").unwrap_or(1);
    let (begun, next, total) = (Instant::now(), AtomicU64::new(first), Mutex::new((0, Report::default())));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let is_over = match asked {
                        Some(seeds) => seed >= first + seeds,
                        None => seed >= first + SEEDS_MIN && begun.elapsed() > BUDGET,
                    };
                    if is_over {
                        return;
                    }
                    let report = holds(&Plan::new(seed, STEPS));
                    let mut total = total.lock().unwrap();
                    total.0 += 1;
                    total.1.add(&report);
                }
            });
        }
    });
    let (seeds, total) = total.into_inner().unwrap();
    println!("{seeds} seeds from {first}, {STEPS} steps each: {total}");
    if asked.is_some_and(|seeds| seeds < 100) {
        return;
    }
    // That it was a world of accidents, in which something was sold.
    assert!(total.epochs > seeds * 3 && total.deposed > seeds && total.handed_over > seeds / 3, "{total}");
    assert!(total.events > seeds * 20 && total.told > seeds * 30 && total.let_go > seeds * 10, "{total}");
    assert!(total.crashes > seeds * 4 && total.power_cuts > seeds * 2 && total.kept > seeds, "{total}");
    assert!(total.elections > seeds && total.checkpoints > seeds * 4 && total.faults > seeds / 20, "{total}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 1..=5 {
        assert_eq!(holds(&Plan::new(seed, 1_000)), holds(&Plan::new(seed, 1_000)), "seed {seed}");
    }
}

/// The first of so many seeds in which a flaw comes to light as one of these, and as what.
fn noticed(flaw: Flaw, kinds: &[&str]) -> Option<(u64, &'static str)> {
    (1..=300).find_map(|seed| {
        let plan = Plan { flaw: Some(flaw), ..Plan::new(seed, STEPS) };
        let kind = run(&plan).err()?.kind;
        kinds.iter().any(|it| kind.starts_with(it)).then_some((seed, kind))
    })
}

#[test]
fn every_flaw_is_noticed() {
    // How it has to come to light.
    let table: &[(Flaw, &[&str])] = &[
        (Flaw::AnswersAtOnce, &["I14: an answer is stale"]),
        (Flaw::TermGoesOn, &["rest"]),
        (Flaw::AnswersAfterEnd, &["I14: an answer of a term that has ended"]),
        (Flaw::AdvancesAtOnce, &["I3"]),
        (Flaw::CheckpointsWithoutKeeping, &["lost"]),
        (Flaw::BeginsBehind, &["saga", "I"]),
        (Flaw::SkipsGaps, &["I15"]),
        (Flaw::StateBeforeSync, &["lost"]),
    ];
    let noticed = table.iter().map(|(flaw, kinds)| (flaw, noticed(*flaw, kinds)));
    let missed: Vec<_> = noticed.inspect(|it| println!("{it:?}")).filter(|(_, noticed)| noticed.is_none()).collect();
    assert!(missed.is_empty(), "{missed:?}");
}
