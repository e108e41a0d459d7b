//! The engine in a simulated world, a slice of it; `examples/simulate.rs` runs as much of it as one likes.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use boxoffice::store::disk::Disk;
use boxoffice::testing::lying_disk::LyingDisk;
use boxoffice::testing::sim_disk::SimDisk;
use boxoffice::testing::simulation::{Flaw, Plan, Report, run, shrink};

/// How long new seeds are begun.
const BUDGET: Duration = Duration::from_secs(40);
/// Seeds that are run whatever the time.
const SEEDS_MIN: u64 = 200;
const SEEDS_MAX: u64 = 3_000;
const STEPS: u64 = 1_000;

/// The runs in which the power goes at every call.
const MIXED_SEEDS: [u64; 3] = [1, 2, 3];
const MIXED_STEPS: u64 = 1_000;

/// Runs a plan that must hold.
fn holds(plan: &Plan) -> Report {
    match run(plan) {
        Ok((report, _)) => report,
        Err(failure) => match shrink(plan) {
            Some((_, shrunk)) => panic!("seed {}: {failure}\nshrunk:\n{shrunk}", plan.seed),
            None => panic!("seed {}: {failure}\nand it holds the second time", plan.seed),
        },
    }
}

#[test]
fn nothing_is_lost_sold_twice_or_left_undone() {
    let (begun, next, total) = (Instant::now(), AtomicU64::new(1), Mutex::new(Report::default()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > SEEDS_MAX || (seed > SEEDS_MIN && begun.elapsed() > BUDGET) {
                        return;
                    }
                    let report = holds(&Plan::new(seed, STEPS));
                    total.lock().unwrap().add(&report);
                }
            });
        }
    });
    let total = total.into_inner().unwrap();
    println!("{total}");
    // That there was everything.
    let seeds = total.steps / STEPS;
    assert_eq!(total.asks.seldom(1 + seeds / 20), Vec::<&str>::new(), "{total}");
    // That it was a world of accidents.
    assert!(seeds >= SEEDS_MIN && total.crashes > seeds * 5 && total.power_cuts > seeds, "{total}");
    assert!(total.second_crashes > seeds / 2 && total.told > seeds * 20 && total.delivered > seeds, "{total}");
    assert!(total.damaged > seeds / 10, "{total}");
    assert!(total.terms > seeds && total.let_go > seeds, "{total}");
    // And of money from outside.
    let money = total.money;
    assert!(money.captured > seeds && money.given_back > seeds / 2 && money.told > seeds * 4, "{total}");
    assert!(money.by_hand > 0 && money.disputes > seeds / 10 && money.cold > 0, "{total}");
    assert!(money.lost > seeds / 10 && money.late > 0, "{total}");
}

/// So many seeds are enough to notice any of them.
const FLAW_SEEDS: u64 = 60;

#[test]
fn every_way_to_lose_money_is_noticed() {
    let all = [
        Flaw::ReadsOnce,
        Flaw::NeverLooks,
        Flaw::OneKeyForAll,
        Flaw::OneKeyForAllAttempts,
        Flaw::TakesSilenceForYes,
        Flaw::GivesUp,
        Flaw::PassesOverChecks,
        Flaw::ForgetsInCrashes,
        Flaw::ThanksAtOnce,
    ];
    for flaw in all {
        let failed = (1..=FLAW_SEEDS).find_map(|seed| {
            let failure = run(&Plan { flaw: Some(flaw), ..Plan::new(seed, STEPS) }).err()?;
            Some((seed, failure.step, failure.kind, failure.what.chars().take(120).collect::<String>()))
        });
        println!("{flaw:?}: {failed:?}");
        assert!(failed.is_some_and(|(_, _, kind, _)| kind == "I13"), "{flaw:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 1..=20 {
        let plan = Plan { with_history: true, ..Plan::new(seed, 400) };
        let (first, second) = (run(&plan).unwrap(), run(&plan).unwrap());
        assert_eq!(first.1, second.1, "seed {seed}");
        assert_eq!(first.0, second.0, "seed {seed}");
    }
}

/// Cuts the power at every call of the disk in mixed runs, from the first start on; how many there are, and what failed.
fn power_cuts(disk: fn(SimDisk) -> Arc<dyn Disk>) -> (u64, Vec<String>) {
    let (mut cuts, mut failed) = (0, Vec::new());
    for seed in MIXED_SEEDS {
        for cut in 0.. {
            let plan = Plan { cut_at: Some(cut), disk, ..Plan::new(seed, MIXED_STEPS) };
            match run(&plan) {
                Ok((report, _)) if report.crashes == 0 => break,
                Ok(_) => {}
                Err(failure) => failed.push(format!("seed {seed} cut at call {cut}: {failure}")),
            }
            cuts += 1;
        }
    }
    (cuts, failed)
}

#[test]
fn whenever_the_power_goes_what_was_promised_comes_back() {
    let (calls, failed) = power_cuts(|disk| Arc::new(disk));
    println!("{calls} power cuts");
    assert!(calls > 500, "{calls} calls only");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn without_syncs_power_cuts_lose_what_was_promised() {
    let (calls, failed) = power_cuts(unsynced);
    let lost = failed.iter().filter(|failure| failure.contains("lost") || failure.contains("refused")).count() as u64;
    assert!(lost > calls / 4, "{lost} of {calls}");
}

/// A disk whose syncs of files do nothing.
fn unsynced(disk: SimDisk) -> Arc<dyn Disk> {
    Arc::new(LyingDisk { disk, about_dirs: false })
}

#[test]
fn without_syncs_losses_are_seen() {
    let failures = (1..=20).filter_map(|seed| {
        let plan = Plan { disk: unsynced, ..Plan::new(seed, 400) };
        run(&plan).err()
    });
    let kinds: Vec<_> = failures.map(|failure| failure.kind).collect();
    // Either the end of the journal is gone, or what is left of it is refused.
    assert!(kinds.len() >= 10 && kinds.iter().all(|kind| ["lost", "start", "relay"].contains(kind)), "{kinds:?}");
}
