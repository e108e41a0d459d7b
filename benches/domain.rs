//! How long the pure parts take that stand between a request for seats and the journal.

use std::hint::black_box;
use std::sync::Arc;

use boxoffice::domain::concert_option::{
    Caller, Command, ConcertOption, Definition, PricedPlan, Reply, SeatSet, Window, Wish,
};
use boxoffice::domain::idempotency::Request;
use boxoffice::domain::seat_map::{BestAvailable, Preference, SeatMap, Status, best_available};
use boxoffice::domain::seating_plan::{Limits, PlanHash, SeatingPlan};
use boxoffice::domain::{Aggregate, Answer, ConcertId, Decided, Ignore, Lsn, Meta, OptionId, Timestamp, UserId};
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
    let preference = Preference::default();
    let any = |count, adjacent| BestAvailable { count, category: None, zone: None, adjacent, companions: 0 };
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
        group.bench_function(*name, |b| b.iter(|| best_available(&plan, &preference, black_box(map), request)));
    }
    group.finish();
}

/// Deciding on a hold of two seats and taking it in, and giving it up again.
fn deciding(c: &mut Criterion) {
    let mut group = c.benchmark_group("stadium option");
    for live in [0, 10_000] {
        let plan = SeatingPlan::parse(&plans::stadium(), &Limits::default()).expect("the plan is sound");
        let mut sale = Sale::new(plan);
        (0..live).for_each(|n| {
            sale.hold([2 * n, 2 * n + 1]);
        });
        group.bench_function(format!("hold 2 and release, {live} others held"), |b| {
            b.iter(|| {
                let reservation = sale.hold([40_000, 40_001]);
                sale.release(reservation);
            });
        });
    }
    group.finish();
}

/// An option on sale, without anything around it.
struct Sale {
    option: ConcertOption,
    plan: Arc<PricedPlan>,
    user: UserId,
    lsn: Lsn,
    now: Timestamp,
}

impl Sale {
    fn new(plan: SeatingPlan) -> Self {
        let definition = Definition {
            concert: ConcertId(1),
            starts_at: Timestamp::MAX,
            window: Window { sale_closes_at: Timestamp::MAX, ..Window::default() },
            plan: PlanHash([0; 32]),
            seat_count: plan.len(),
            prices: Vec::new(),
            areas: Vec::new(),
            hold_seconds: 300,
            payment_seconds: 60,
            max_seats_per_reservation: 8,
            max_seats_per_user: u32::MAX,
            focus: None,
            accessible: Vec::new(),
            not_for_sale: SeatSet::default(),
            payment_methods: Vec::new(),
            currency: None,
            amended: None,
        };
        let plan = Arc::new(PricedPlan::new(OptionId(1), definition.clone(), Arc::new(plan)));
        let user = "user".parse().expect("a user id");
        let mut sale =
            Self { option: ConcertOption::default(), plan, user, lsn: Lsn(0), now: Timestamp::from_millis(1_000) };
        sale.handle(&Command::Define { option: OptionId(1), definition: Box::new(definition) });
        sale
    }

    fn handle(&mut self, command: &Command) -> Answer<Reply> {
        let mut out = Decided::default();
        let answer = self.option.decide(self.now, command, &mut out).expect("nothing stands against it");
        for event in &out.events {
            self.lsn = self.lsn.next();
            self.option.evolve(Meta { lsn: self.lsn, at: self.now }, black_box(event), &mut Ignore);
        }
        answer
    }

    fn hold(&mut self, seats: [u32; 2]) -> u64 {
        let command = Command::Hold {
            user: self.user.clone(),
            wish: Wish::Seats(seats.as_slice().into()),
            token: None,
            note: None,
            plan: self.plan.clone(),
            request: Request::default(),
        };
        let Answer::Reply(Reply::Reservation(reservation, _)) = self.handle(&command) else { panic!("not held") };
        reservation
    }

    fn release(&mut self, reservation: u64) {
        self.handle(&Command::Release { reservation, caller: Caller::Admin });
    }
}

criterion_group!(benches, parsing, choosing, deciding);
criterion_main!(benches);
