//! How long the pure parts take that stand between a request for seats and the journal.

use std::hint::black_box;

use boxoffice::domain::Lsn;
use boxoffice::domain::seat_map::{BestAvailable, SeatMap, Status, best_available};
use boxoffice::domain::seating_plan::{Limits, PlanHash, SeatingPlan};
use boxoffice::testing::plans;
use criterion::{Criterion, criterion_group, criterion_main};

/// A map in which `free_per_mille` of the seats are free, here and there.
fn scattered(plan: &SeatingPlan, free_per_mille: u64) -> SeatMap {
    let mut map = SeatMap::new(plan.len());
    let mut state = 1_u64;
    for seat in 0..plan.len() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if (state >> 33) % 1_000 >= free_per_mille {
            map.set(seat, Status::Sold, 1, Lsn(1));
        }
    }
    map
}

/// A map in which stretches of `free` seats alternate with a taken one.
fn comb(plan: &SeatingPlan, free: u32) -> SeatMap {
    let mut map = SeatMap::new(plan.len());
    (0..plan.len()).filter(|seat| seat % (free + 1) == free).for_each(|seat| map.set(seat, Status::Sold, 1, Lsn(1)));
    map
}

fn parsing(c: &mut Criterion) {
    let json = plans::stadium();
    let mut group = c.benchmark_group("stadium plan");
    group.sample_size(20);
    group.bench_function("parse", |b| b.iter(|| SeatingPlan::parse(black_box(&json), &Limits::default())));
    group.bench_function("hash", |b| b.iter(|| PlanHash::of(black_box(&json))));
    group.finish();
}

fn choosing(c: &mut Criterion) {
    let plan = SeatingPlan::parse(&plans::stadium(), &Limits::default()).expect("the plan is sound");
    let any = |count, adjacent| BestAvailable { count, category: None, zone: None, adjacent };
    let bronze = BestAvailable { category: plan.category_index("Bronze"), ..any(6, true) };
    let cases = [
        ("6 of all free", SeatMap::new(plan.len()), any(6, true)),
        ("6 in the last category, all free", SeatMap::new(plan.len()), bronze),
        ("6 with half sold", scattered(&plan, 500), any(6, true)),
        ("6 with 98% sold, none adjacent", scattered(&plan, 20), any(6, true)),
        ("1 of pairs and ends of rows", comb(&plan, 2), any(1, true)),
        ("6 that leave one alone everywhere", comb(&plan, 7), any(6, true)),
        ("6 scattered, 98% sold", scattered(&plan, 20), any(6, false)),
        ("6 scattered, 70% sold", scattered(&plan, 300), any(6, false)),
        ("6 scattered, every other seat sold", comb(&plan, 1), any(6, false)),
        ("100 scattered, 98% sold", scattered(&plan, 20), any(100, false)),
        ("100 scattered, all free", SeatMap::new(plan.len()), any(100, false)),
    ];
    let mut group = c.benchmark_group("stadium best available");
    group.sample_size(20);
    for (name, map, request) in &cases {
        group.bench_function(*name, |b| b.iter(|| best_available(&plan, black_box(map), request)));
    }
    group.finish();
}

criterion_group!(benches, parsing, choosing);
criterion_main!(benches);
