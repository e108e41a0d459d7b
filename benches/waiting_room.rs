//! What a line of a million costs: issuing, ranks, letting in, shuffling, signs of life, and memory.
//!
//! Run with `cargo bench --no-default-features --bench waiting_room`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use boxoffice::domain::waiting_room::{ADMIT_BATCH_MAX, Command, Event, Liveness, Mode, Order, Settings, WaitingRoom};
use boxoffice::domain::{Aggregate, ConcertId, Decided, Ignore, Lsn, Meta, Timestamp};
use criterion::{Criterion, criterion_group, criterion_main};

const TOKENS: u64 = 1_000_000;
const OPENS_AT: Timestamp = Timestamp::from_millis(5_000);

fn evolve(room: &mut WaitingRoom, at: Timestamp, events: &[Event]) {
    for event in events {
        room.evolve(Meta { lsn: Lsn(1), at }, event, &mut Ignore);
    }
}

/// Decides and takes in, as an actor does.
fn run(room: &mut WaitingRoom, at: Timestamp, command: &Command) {
    let mut decided = Decided::default();
    let _answer = room.decide(at, command, &mut decided);
    evolve(room, at, &decided.events);
}

fn tick(room: &mut WaitingRoom, at: Timestamp) {
    let mut decided = Decided::default();
    room.tick(at, 42, &mut decided);
    evolve(room, at, &decided.events);
}

/// A room with an open line, or one that is shuffled at [`OPENS_AT`].
fn empty(order: Order) -> WaitingRoom {
    let opens_at = (order == Order::ShuffleAtOpen).then_some(OPENS_AT);
    let settings = Settings { mode: Mode::Queue, max_active: 10_000_000, order, opens_at, ..Settings::default() };
    let mut room = WaitingRoom::default();
    run(&mut room, Timestamp::default(), &Command::Open { concert: ConcertId(1), settings });
    room
}

fn issue_all(room: &mut WaitingRoom) {
    for n in 0..TOKENS {
        let user = format!("user-{n:06}").parse().expect("a user id");
        run(room, Timestamp::default(), &Command::IssueToken { user });
    }
}

fn full(order: Order) -> WaitingRoom {
    let mut room = empty(order);
    issue_all(&mut room);
    room
}

/// Bytes of this process that are in memory; Linux only.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: Option<u64> = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kib.unwrap_or(0) * 1024
}

fn memory(_: &mut Criterion) {
    let before = resident_bytes();
    let room = full(Order::Fifo);
    let bytes = resident_bytes().saturating_sub(before);
    println!("memory: {} bytes a waiting token, user ids of 11 characters included", bytes / TOKENS);
    drop(room);
}

fn issue(c: &mut Criterion) {
    let mut group = c.benchmark_group("issue");
    group.sample_size(10);
    group.bench_function("a million tokens", |b| {
        b.iter_custom(|times| {
            let one = |_| {
                let mut room = empty(Order::Fifo);
                let start = Instant::now();
                issue_all(&mut room);
                start.elapsed()
            };
            (0..times).map(one).sum()
        });
    });
    group.finish();
}

fn rank(c: &mut Criterion) {
    let mut no = 1;
    let mut next = move || {
        no = (no * 48_271) % 2_147_483_647;
        no % TOKENS + 1
    };
    let room = full(Order::Fifo);
    c.bench_function("view of a random waiter of a million", |b| {
        b.iter(|| black_box(room.token(Timestamp::default(), next())));
    });
    let user: Vec<_> = (0..1000).map(|n| format!("user-{:06}", n * 997).parse().expect("a user id")).collect();
    let mut users = user.iter().cycle();
    c.bench_function("live token of a user", |b| b.iter(|| black_box(room.live_token(users.next()?))));
}

fn admit(c: &mut Criterion) {
    let mut group = c.benchmark_group("admit");
    group.sample_size(20);
    group.bench_function("10,000 of a million", |b| {
        let mut room = full(Order::Fifo);
        b.iter_custom(|times| {
            let mut spent = Duration::ZERO;
            for _ in 0..times {
                if room.counts().waiting < ADMIT_BATCH_MAX as u64 {
                    room = full(Order::Fifo);
                }
                let start = Instant::now();
                tick(&mut room, Timestamp::default());
                spent += start.elapsed();
            }
            spent
        });
    });
    group.finish();
}

fn open_shuffled(c: &mut Criterion) {
    let mut group = c.benchmark_group("open");
    group.sample_size(10);
    let room = full(Order::ShuffleAtOpen);
    group.bench_function("and shuffle a million", |b| {
        b.iter_batched_ref(|| room.clone(), |room| tick(room, OPENS_AT), criterion::BatchSize::PerIteration);
    });
    group.finish();
}

fn liveness(c: &mut Criterion) {
    let room = full(Order::Fifo);
    let liveness = Liveness::new();
    liveness.tick(Timestamp::default());
    liveness.silent(120_000, room.waiting());
    c.bench_function("find the silent of a million", |b| b.iter(|| liveness.silent(120_000, room.waiting())));
    c.bench_function("a sign of life", |b| b.iter(|| liveness.seen(black_box(500_000))));
}

criterion_group!(benches, memory, issue, rank, admit, open_shuffled, liveness);
criterion_main!(benches);
