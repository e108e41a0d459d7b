//! Three nodes on one replicated log, in a world of accidents: a slice of it. `BOXOFFICE_CLUSTER_SEEDS` says how many seeds
//! to run instead, from `BOXOFFICE_TEST_SEED` on (from 1 if that is not set).

mod seeds;

use std::time::Duration;

use boxoffice::testing::cluster::{Flaw, Plan, Report, run};
use seeds::Seeds;

/// How long new seeds are begun.
const BUDGET: Duration = Duration::from_secs(10);
/// Seeds that are run whatever the time.
const SEEDS_MIN: u64 = 150;
const STEPS: u64 = 4_000;

/// Runs a plan that must hold.
fn holds(plan: &Plan) -> Report {
    run(plan).unwrap_or_else(|failure| {
        let again = run(&Plan { with_history: true, ..*plan });
        let told = again.err().map_or_else(|| "and it holds the second time".into(), |failure| failure.to_string());
        panic!("seed {}: {failure}\n{told}", plan.seed)
    })
}

#[test]
fn one_owns_and_all_take_in_the_same() {
    let seeds = Seeds::of_a_cluster(SEEDS_MIN, BUDGET);
    let (count, total) = seeds.run(|seed| holds(&Plan::new(seed, STEPS)), Report::add);
    println!("{count} seeds from {}, {STEPS} steps each: {total}", seeds.first);
    if seeds.are_few() {
        return;
    }
    // That it was a world of accidents.
    assert!(total.epochs > count * 3 && total.deposed > count && total.durable > count * 10, "{total}");
    assert!(total.void > count && total.refused > count && total.again > count, "{total}");
    assert!(total.answered > count && total.elections > count && total.crashes > count * 3, "{total}");
    assert!(total.power_cuts > count && total.kept > count / 2 && total.faults > count / 4, "{total}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 1..=20 {
        assert_eq!(holds(&Plan::new(seed, 500)), holds(&Plan::new(seed, 500)), "seed {seed}");
    }
}

/// The first of so many seeds in which a flaw is noticed, and as what.
fn noticed(flaw: Flaw) -> Option<(u64, &'static str)> {
    (1..=1_000).find_map(|seed| {
        let plan = Plan { flaw: Some(flaw), ..Plan::new(seed, STEPS) };
        run(&plan).err().map(|failure| (seed, failure.kind))
    })
}

#[test]
fn every_flaw_is_noticed() {
    // How it may come to light.
    let table: &[(Flaw, &[&str])] = &[
        (Flaw::TwoInFlight, &["I14"]),
        (Flaw::FencesNameNoEpoch, &["I15: another frame is taken in"]),
        (Flaw::NotReadUpTo, &["I15: another frame is taken in"]),
        (Flaw::AnswersAtOnce, &["I14: an answer is stale"]),
        (Flaw::AnswersByWhatIsUnderWay, &["I14: an answer is stale"]),
        (Flaw::OldEpochsCount, &["I15: another frame is taken in"]),
        (Flaw::WritesBeforeTheLog, &["I15: the journal is another"]),
        (Flaw::SkipsGaps, &["I15"]),
        (Flaw::DecidesByStaleReads, &["I15: another frame is taken in"]),
        (Flaw::StateBeforeSync, &["lost"]),
    ];
    let mut wrong = Vec::new();
    for (flaw, kinds) in table {
        let noticed = noticed(*flaw);
        println!("{flaw:?}: {noticed:?}");
        if !noticed.is_some_and(|(_, kind)| kinds.iter().any(|it| kind.starts_with(it))) {
            wrong.push((flaw, noticed));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
