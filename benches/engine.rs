//! The whole engine, embedded: durable commands per second, and how long one takes.
//!
//! `cargo bench --bench engine [-- SECONDS] [NAME]` prints a table. Beside it, in the same run, stands a bare append + fdatasync
//! of the same bytes on the same disk, so that figures can be compared as ratios on a noisy machine.

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use boxoffice::{BestAvailable, Caller, Config, Engine, Error, OptionId, Points, UserId, Wish};
use common::{ROW_SEATS, Result, concert, house, new_option, on_sale, processor_time, report, scratch, stop_after};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Whether sled is written while something is measured, as it always is in the long run, or only after a burst.
#[derive(Clone, Copy, PartialEq)]
enum Checkpoints {
    Taken,
    AfterTheBurst,
}

impl Checkpoints {
    fn name(self) -> &'static str {
        if self == Self::Taken { "" } else { ", a burst" }
    }
}

fn config(dir: &Path, checkpoints: Checkpoints) -> Config {
    let mut config = Config { data_dir: dir.to_path_buf(), ..Config::default() };
    config.limits.user_open_holds = 0;
    config.checkpoint.max_pending_events = 1_000_000_000;
    config.checkpoint.max_pending_bytes = 1 << 40;
    if checkpoints == Checkpoints::AfterTheBurst {
        config.checkpoint.replay_target_ms = 3_600_000;
    }
    config
}

async fn open(dir: &Path, seats: usize, checkpoints: Checkpoints) -> Result<(Engine, OptionId)> {
    open_with(config(dir, checkpoints), seats).await
}

async fn open_with(config: Config, seats: usize) -> Result<(Engine, OptionId)> {
    let engine = Engine::open(config).await?;
    let option = on_sale(&engine, house(seats, ROW_SEATS)).await?;
    Ok((engine, option))
}

fn report_cost(before: Duration, operations: u64) -> Result<()> {
    let spent = processor_time()?.saturating_sub(before);
    println!("    {:.2} us of processor time each", spent.as_secs_f64() * 1e6 / operations as f64);
    Ok(())
}

/// `callers` at once hold two seats each and release them, over and over; both are counted.
async fn rush(callers: usize, duration: Duration, checkpoints: Checkpoints) -> Result<f64> {
    let dir = scratch(&format!("rush-{callers}"));
    let (engine, option) = open(&dir, callers * 2, checkpoints).await?;
    let cpu = processor_time()?;
    let (elapsed, latencies) = common::rush(&engine, option, callers, duration).await?;
    let stats = engine.stats();
    let operations = latencies.len() as u64;
    let rate =
        report(&format!("hold + release, {callers} callers{}", checkpoints.name()), operations, elapsed, latencies);
    report_cost(cpu, operations)?;
    let behind = stats.durable_lsn - stats.checkpointed_lsn;
    println!(
        "    {} batches, {} events behind in sled, {} behind in reads",
        stats.batches,
        behind,
        stats.durable_lsn - stats.applied_lsn
    );
    engine.shutdown().await?;
    std::fs::remove_dir_all(dir)?;
    Ok(rate)
}

/// What becomes of what was bought.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    /// One house of 60,000 seats after the other sells out.
    Kept,
    /// It is given back, before the next is bought; which is not in the latency.
    Refunded,
}

/// Seats of a house that sells out, two by two.
const STADIUM: usize = 60_000;

/// `callers` at once hold the best two seats and pay them, which ends when it is confirmed. Counted are purchases.
async fn purchases(callers: usize, duration: Duration, then: Then, checkpoints: Checkpoints) -> Result<f64> {
    let dir = scratch("purchases");
    let houses = if then == Then::Kept { 2 + 7 * duration.as_secs() as usize } else { 1 };
    let seats = if then == Then::Kept { STADIUM } else { callers * 8 };
    let (engine, first) = open(&dir, seats, checkpoints).await?;
    let concert = engine.option(first).await?.concert_id;
    let mut options = vec![first];
    while options.len() < houses {
        let option = new_option(&engine, house(seats, ROW_SEATS))?;
        options.push(engine.add_option(concert, option, None).await?.value.id);
    }
    for n in 0..callers {
        let user: UserId = format!("user-{n}").parse()?;
        engine.charge(&user, Points::new(1 << 40).ok_or("points")?, &user, None).await?;
    }
    let options = Arc::new(options);
    let (stop, bought) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let cpu = processor_time()?;
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for n in 0..callers {
        let (engine, stop, bought, options) = (engine.clone(), stop.clone(), bought.clone(), options.clone());
        let user: UserId = format!("user-{n}").parse()?;
        tasks.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let no = bought.fetch_add(1, Ordering::Relaxed) as usize;
                let house = if then == Then::Kept { 2 * no / STADIUM } else { 0 };
                // Then all is sold.
                let Some(&option) = options.get(house) else { break };
                let begun = Instant::now();
                let wish = BestAvailable { count: 2, category: None, zone: None, adjacent: true, companions: 0 };
                let held = engine.hold(option, &user, Wish::BestAvailable(wish), None, None).await?;
                let payment = engine.pay(&user, held.value.id, None).await?;
                latencies.push(begun.elapsed().as_micros() as u32);
                if then == Then::Refunded {
                    engine.refund(&Caller::Admin, payment.value.id, None).await?;
                }
            }
            Ok::<_, Error>(latencies)
        }));
    }
    let mut latencies = Vec::new();
    stop_after(duration, &stop).await;
    for task in tasks {
        latencies.extend(task.await??);
    }
    let what = if then == Then::Kept { "hold + pay" } else { "hold + pay (+ refund)" };
    let name = format!("{what}, {callers} callers{}", checkpoints.name());
    let (bought, elapsed) = (latencies.len() as u64, begun.elapsed());
    let rate = report(&name, bought, elapsed, latencies);
    report_cost(cpu, bought)?;
    engine.shutdown().await?;
    std::fs::remove_dir_all(dir)?;
    Ok(rate)
}

/// A visitor who holds a seat and gives it back at once.
struct Visit {
    user: UserId,
    began: Instant,
    /// Whether they got the seat. Who did not was refused.
    held: bool,
}

async fn visit(
    engine: &'static Engine,
    option: OptionId,
    user: UserId,
    began: Instant,
) -> std::result::Result<Visit, Error> {
    let wish = BestAvailable { count: 1, category: None, zone: None, adjacent: true, companions: 0 };
    let held = match engine.hold(option, &user, Wish::BestAvailable(wish), None, None).await {
        Ok(held) => held.value.id,
        Err(Error::Overloaded(_)) => return Ok(Visit { user, began, held: false }),
        Err(error) => return Err(error),
    };
    let caller = Caller::User(user.clone());
    while let Err(error) = engine.release(&caller, held).await {
        if !matches!(error, Error::Overloaded(_)) {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(Visit { user, began, held: true })
}

/// How often something took so many microseconds, up to a second.
struct Histogram(Vec<u64>);

impl Histogram {
    fn new() -> Self {
        Self(vec![0; 1_000_000])
    }

    fn add(&mut self, took: Duration) {
        let last = self.0.len() - 1;
        self.0[(took.as_micros() as usize).min(last)] += 1;
    }

    fn percentile(&self, of: f64) -> f64 {
        let mut left = (self.0.iter().sum::<u64>() as f64 * of) as u64;
        let place = self.0.iter().position(|count| {
            let here = *count > left;
            left = left.saturating_sub(*count);
            here
        });
        place.unwrap_or(0) as f64 / 1e3
    }
}

/// Puts a future where one that has ended was.
fn place<F>(ended: Option<Pin<Box<F>>>, future: F) -> Pin<Box<F>> {
    match ended {
        None => Box::pin(future),
        Some(mut place) => {
            place.set(future);
            place
        }
    }
}

/// What came of visitors who arrive whether others are done or not.
struct Arrivals {
    offered: u64,
    done: u64,
    refused: u64,
    answered: Histogram,
    refusals: Histogram,
}

/// Lets `rate` visitors a second arrive. Times count from when each should have come.
fn arrivals(
    engine: &'static Engine,
    option: OptionId,
    rate: f64,
    duration: Duration,
    runtime: &tokio::runtime::Handle,
) -> Result<Arrivals> {
    let (leave, left) = std::sync::mpsc::channel();
    let mut spare = Vec::new();
    let mut users =
        (0..100_000).map(|n| format!("user-{n}").parse()).collect::<std::result::Result<Vec<UserId>, _>>()?;
    let mut seen = Arrivals { offered: 0, done: 0, refused: 0, answered: Histogram::new(), refusals: Histogram::new() };
    let mut refused = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < duration {
        let due = (begun.elapsed().as_secs_f64() * rate) as u64;
        // Not all at once, or those who leave would wait for those who come.
        for _ in seen.offered..due.min(seen.offered + 64) {
            let began = begun + Duration::from_secs_f64(seen.offered as f64 / rate);
            seen.offered += 1;
            let user = users.pop().ok_or("more are under way than may be")?;
            let coming = visit(engine, option, user, began);
            // Most are turned away at once: a task for each, or memory, would cost more than that.
            let mut visit = place(spare.pop(), coming);
            match visit.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(came) => {
                    let came = came?;
                    seen.refused += 1;
                    refused.push(came.began);
                    users.push(came.user);
                    spare.push(visit);
                }
                Poll::Pending => {
                    let leave = leave.clone();
                    runtime.spawn(async move { leave.send((visit.await, Instant::now())) });
                }
            }
        }
        let now = Instant::now();
        refused.drain(..).for_each(|began| seen.refusals.add(now - began));
        for (visit, at) in left.try_iter() {
            let visit: Visit = visit?;
            seen.done += u64::from(visit.held);
            seen.answered.add(at - visit.began);
            users.push(visit.user);
        }
        if seen.offered >= due {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    drop(leave);
    // Who is still there leaves; they do not count.
    left.iter().for_each(drop);
    Ok(seen)
}

/// More and more visitors, up to where not all of them are served, and then five times as many as were at best, while `calls`
/// may be under way.
fn overload(calls: u64, duration: Duration, runtime: &tokio::runtime::Runtime) -> Result<()> {
    let dir = scratch("overload");
    let mut config = config(&dir, Checkpoints::AfterTheBurst);
    config.limits.calls = calls;
    let (engine, option) = runtime.block_on(open_with(config, STADIUM))?;
    // Visitors refer to it, since to count those who do costs as much as to refuse one.
    let engine: &'static Engine = Box::leak(Box::new(engine));
    let (mut rate, mut best) = (50_000.0, 0.0_f64);
    let step = |rate: f64, duration: Duration| -> Result<f64> {
        let resident = resident_bytes();
        let seen = arrivals(engine, option, rate, duration, runtime.handle())?;
        let a_second = |count: u64| count as f64 / duration.as_secs_f64();
        println!(
            "{:>9.0} visitors/s: {:>7.0} served (p99 {:.1} ms), {:>8.0} refused (p99 {:.3} ms, at most {:.3} ms), {:+} MiB",
            a_second(seen.offered),
            a_second(seen.done),
            seen.answered.percentile(0.99),
            a_second(seen.refused),
            seen.refusals.percentile(0.99),
            seen.refusals.percentile(0.999_999_999),
            (resident_bytes() as i64 - resident as i64) >> 20,
        );
        Ok(a_second(seen.done))
    };
    loop {
        let served = step(rate, duration / 2)?;
        best = best.max(served);
        if served < 0.8 * rate {
            break;
        }
        rate *= 1.25;
    }
    let served = step(5.0 * best, duration)?;
    let name = format!("served of five times as many, {calls} calls");
    println!("{name:<44} {:>12.2} of the best", served / best);
    runtime.block_on(engine.shutdown())?;
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

/// Some visitors of `option` hold two seats and release them, now and then, as long as `goes_on` says so: what each call took.
async fn some_visitors(engine: &Engine, option: OptionId, goes_on: impl AsyncFn() -> Result<bool>) -> Result<Vec<u32>> {
    let stop = Arc::new(AtomicBool::new(false));
    let visitors = (0..8).map(|n| {
        let (engine, stop) = (engine.clone(), stop.clone());
        tokio::spawn(async move {
            let user: UserId = format!("visitor-{n}").parse()?;
            let mut latencies = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let wish = BestAvailable { count: 2, category: None, zone: None, adjacent: true, companions: 0 };
                let begun = Instant::now();
                let held = engine.hold(option, &user, Wish::BestAvailable(wish), None, None).await?;
                latencies.push(begun.elapsed().as_micros() as u32);
                let begun = Instant::now();
                engine.release(&Caller::Admin, held.value.id).await?;
                latencies.push(begun.elapsed().as_micros() as u32);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(latencies)
        })
    });
    let visitors: Vec<_> = visitors.collect();
    while goes_on().await? {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut latencies = Vec::new();
    for visitor in visitors {
        latencies.extend(visitor.await??);
    }
    Ok(latencies)
}

/// A stadium is called off in which each seat was paid by somebody else, while another performance is sold; and that one alone.
async fn calling_off(duration: Duration) -> Result<()> {
    let dir = scratch("calling-off");
    let (engine, option) = open(&dir, STADIUM, Checkpoints::Taken).await?;
    let other = engine.option(option).await?.concert_id;
    let other = engine.add_option(other, new_option(&engine, house(STADIUM, ROW_SEATS))?, None).await?.value.id;
    let next = Arc::new(AtomicU64::new(0));
    let buyers = (0..256).map(|_| {
        let (engine, next) = (engine.clone(), next.clone());
        tokio::spawn(async move {
            loop {
                let no = next.fetch_add(1, Ordering::Relaxed);
                if no >= STADIUM as u64 {
                    return Ok::<_, Box<dyn std::error::Error + Send + Sync>>(());
                }
                let user: UserId = format!("user-{no}").parse()?;
                engine.charge(&user, Points::new(1).ok_or("points")?, &user, None).await?;
                let wish = BestAvailable { count: 1, category: None, zone: None, adjacent: true, companions: 0 };
                let held = engine.hold(option, &user, Wish::BestAvailable(wish), None, None).await?;
                engine.pay(&user, held.value.id, None).await?;
            }
        })
    });
    for buyer in buyers.collect::<Vec<_>>() {
        buyer.await??;
    }
    let for_a_while = |begun: Instant| async move || Ok(begun.elapsed() < duration);
    let before = some_visitors(&engine, other, for_a_while(Instant::now())).await?;
    let begun = Instant::now();
    engine.call_off(option, None, &"boss".parse()?, None).await?;
    let goes_on = async || {
        let off = engine.cancellation(option).await?;
        Ok(off.done < off.total || off.owed > 0)
    };
    let beside = some_visitors(&engine, other, goes_on).await?;
    let took = begun.elapsed();
    let after = some_visitors(&engine, other, for_a_while(Instant::now())).await?;
    println!("{:<44} {:>12.1} s", format!("calling off {STADIUM} payments"), took.as_secs_f64());
    for (when, latencies, elapsed) in
        [("before", before, duration), ("meanwhile", beside, took), ("after", after, duration)]
    {
        report(&format!("holds and releases elsewhere {when}"), latencies.len() as u64, elapsed, latencies);
    }
    engine.shutdown().await?;
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

/// Appends `bytes` to a file that is filled with zeros, and syncs, over and over.
fn bare_append(bytes: usize, duration: Duration) -> Result<()> {
    let dir = scratch("append");
    std::fs::create_dir_all(&dir)?;
    let file = File::create(dir.join("file"))?;
    let size = 64 << 20;
    file.write_all_at(&vec![0; size], 0)?;
    file.sync_all()?;
    let (payload, mut latencies, mut at) = (vec![7; bytes], Vec::new(), 0);
    let begun = Instant::now();
    while begun.elapsed() < duration {
        let one = Instant::now();
        file.write_all_at(&payload, at)?;
        file.sync_data()?;
        latencies.push(one.elapsed().as_micros() as u32);
        at = (at + bytes as u64) % (size - bytes) as u64;
    }
    report(&format!("bare append + fdatasync, {bytes} bytes"), latencies.len() as u64, begun.elapsed(), latencies);
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

/// How long it takes to put the stadium on sale, and what a hundred of it cost in memory.
async fn stadium() -> Result<()> {
    let dir = scratch("stadium");
    let (engine, _) = open(&dir, 100, Checkpoints::Taken).await?;
    let concert = concert(&engine).await?;
    let plan = house(STADIUM, ROW_SEATS);
    let before = resident_bytes();
    let begun = Instant::now();
    for n in 0..100 {
        let id = engine.add_option(concert, new_option(&engine, plan.clone())?, None).await?.value.id;
        if n == 0 {
            println!("{:<44} {:>12.0} ms", "define an option of 60,000 seats", begun.elapsed().as_secs_f64() * 1e3);
        }
        let user: UserId = "user".parse()?;
        let wish = BestAvailable { count: 6, category: None, zone: None, adjacent: true, companions: 0 };
        engine.hold(id, &user, Wish::BestAvailable(wish), None, None).await?;
    }
    let grown = resident_bytes().saturating_sub(before) as f64 / f64::from(1 << 20);
    println!("{:<44} {grown:>12.0} MiB", "memory of 100 options of 60,000 seats");
    engine.shutdown().await?;
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn main() -> Result<()> {
    let seconds = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(5);
    let duration = Duration::from_secs(seconds);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let only = std::env::args().skip(1).find(|arg| arg.parse::<u64>().is_err() && !arg.starts_with('-'));
    let wanted = |name: &str| only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    // First, since what was freed before would hide what it takes.
    if wanted("stadium") {
        runtime.block_on(stadium())?;
    }
    for callers in [1, 64, 1024] {
        if wanted(&format!("rush-{callers}")) {
            bare_append(512, duration)?;
            runtime.block_on(rush(callers, duration, Checkpoints::Taken))?;
        }
    }
    if wanted("burst") {
        runtime.block_on(rush(1024, duration, Checkpoints::AfterTheBurst))?;
    }
    if wanted("purchases") {
        runtime.block_on(purchases(256, duration, Then::Refunded, Checkpoints::Taken))?;
    }
    if wanted("selling") {
        runtime.block_on(purchases(256, duration, Then::Kept, Checkpoints::Taken))?;
    }
    if wanted("sold-out") {
        runtime.block_on(purchases(256, duration, Then::Kept, Checkpoints::AfterTheBurst))?;
    }
    if wanted("calling-off") {
        runtime.block_on(calling_off(duration))?;
    }
    if wanted("overload") {
        overload(Config::default().limits.calls, duration, &runtime)?;
    }
    for calls in [2_048, 4_096, 8_192, 16_384, 32_768] {
        if wanted(&format!("calls-{calls}")) && only.is_some() {
            overload(calls, duration, &runtime)?;
        }
    }
    Ok(())
}
