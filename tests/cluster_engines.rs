//! Three whole engines on one replicated log, in a world of accidents: a slice of it. `BOXOFFICE_CLUSTER_SEEDS` says how many
//! seeds to run instead, from `BOXOFFICE_TEST_SEED` on (from 1 if that is not set).

mod seeds;

use std::time::Duration;

use boxoffice::testing::cluster::engines::{Flaw, Plan, Report, run};
use seeds::Seeds;

/// How long new seeds are begun.
const BUDGET: Duration = Duration::from_secs(15);
/// Seeds that are run whatever the time.
const SEEDS_MIN: u64 = 100;
const STEPS: u64 = 5_000;

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
    let seeds = Seeds::of_a_cluster(SEEDS_MIN, BUDGET);
    let (count, total) = seeds.run(|seed| holds(&Plan::new(seed, STEPS)), Report::add);
    println!("{count} seeds from {}, {STEPS} steps each: {total}", seeds.first);
    if seeds.are_few() {
        return;
    }
    // That it was a world of accidents, in which something was sold.
    assert!(total.epochs > count * 3 && total.deposed > count && total.handed_over > count / 3, "{total}");
    assert!(total.events > count * 20 && total.told > count * 30 && total.let_go > count * 10, "{total}");
    assert!(total.deliveries > count * 2, "{total}");
    assert!(total.crashes > count * 4 && total.power_cuts > count * 2 && total.kept > count, "{total}");
    assert!(total.elections > count && total.checkpoints > count * 4 && total.faults > count / 20, "{total}");
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
        (Flaw::DeliversOn, &["I14: a delivery is late"]),
    ];
    let noticed = table.iter().map(|(flaw, kinds)| (flaw, noticed(*flaw, kinds)));
    let missed: Vec<_> = noticed.inspect(|it| println!("{it:?}")).filter(|(_, noticed)| noticed.is_none()).collect();
    assert!(missed.is_empty(), "{missed:?}");
}
