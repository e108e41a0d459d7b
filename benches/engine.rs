//! The whole engine, embedded: durable commands per second, and how long one takes.
//!
//! `cargo bench --bench engine [-- SECONDS] [NAME]` prints a table. Beside it, in the same run, stands a bare append + fdatasync
//! of the same bytes on the same disk, so that figures can be compared as ratios on a noisy machine.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use boxoffice::{
    BestAvailable, Caller, Config, Engine, Error, NewConcert, NewOption, OptionId, Points, Settings, UserId, Wish,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A house of `seats` seats, in rows of 50.
fn house(seats: usize) -> Vec<u8> {
    use std::fmt::Write;
    let mut json = String::from(r#"{"categories":[{"name":"A"}],"zones":[{"name":"Hall","rows":["#);
    for row in 0..seats.div_ceil(50) {
        let _ = write!(json, r#"{}{{"row_number":"{row}","seats":["#, if row > 0 { "," } else { "" });
        for seat in 0..50.min(seats - row * 50) {
            let comma = if seat > 0 { "," } else { "" };
            let _ = write!(
                json,
                r#"{comma}{{"seat_guid":"{row}-{seat}","seat_number":"{seat}","category":"A","position":{{"x":{},"y":{}}}}}"#,
                seat * 30,
                row * 40
            );
        }
        json.push_str("]}");
    }
    json.push_str("]}]}");
    json.into_bytes()
}

fn scratch(name: &str) -> PathBuf {
    let base = std::env::var_os("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = base.join(format!("boxoffice-bench-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    dir
}

/// Whether sled is written while something is measured, as it always is in the long run, or only after a burst.
#[derive(Clone, Copy, PartialEq)]
enum Checkpoints {
    Taken,
    AfterTheBurst,
}

async fn open(dir: &Path, seats: usize, checkpoints: Checkpoints) -> Result<(Engine, OptionId)> {
    let mut config = Config { data_dir: dir.to_path_buf(), ..Config::default() };
    config.limits.user_open_holds = 0;
    config.checkpoint.max_pending_events = 1_000_000_000;
    if checkpoints == Checkpoints::AfterTheBurst {
        config.checkpoint.interval_ms = 600_000;
        config.checkpoint.max_events = 10_000_000;
    }
    let engine = Engine::open(config).await?;
    let concert = NewConcert { title: "Bench".into(), waiting_room: Settings::default() };
    let concert = engine.create_concert(concert, None).await?.value;
    let option = NewOption {
        prices: vec![("A".into(), Points::new(1).ok_or("points")?)],
        max_seats_per_user: 10_000,
        ..NewOption::new(engine.now().plus_millis(1 << 32), house(seats))
    };
    let option = engine.add_option(concert.id, option, None).await?.value;
    Ok((engine, option.id))
}

/// Latencies in microseconds, sorted.
fn percentile(sorted: &[u32], of: f64) -> u32 {
    sorted.get(((sorted.len() as f64 * of) as usize).min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
}

fn report(name: &str, operations: u64, elapsed: Duration, mut latencies: Vec<u32>) -> f64 {
    latencies.sort_unstable();
    let rate = operations as f64 / elapsed.as_secs_f64();
    println!(
        "{name:<44} {rate:>12.0}/s   p50 {:>6} us   p99 {:>6} us   p99.9 {:>6} us",
        percentile(&latencies, 0.5),
        percentile(&latencies, 0.99),
        percentile(&latencies, 0.999),
    );
    rate
}

/// `callers` at once hold two seats each and release them, over and over; both are counted.
async fn rush(callers: usize, duration: Duration, checkpoints: Checkpoints) -> Result<f64> {
    let dir = scratch(&format!("rush-{callers}"));
    let (engine, option) = open(&dir, callers * 2, checkpoints).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for n in 0..callers {
        let (engine, stop) = (engine.clone(), stop.clone());
        let user: UserId = format!("user-{n}").parse()?;
        tasks.push(tokio::spawn(async move {
            let caller = Caller::User(user.clone());
            let mut latencies = Vec::new();
            let seats: Vec<_> = [2 * n, 2 * n + 1].iter().map(|s| format!("{}-{}", s / 50, s % 50)).collect();
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let held = engine.hold(option, &user, Wish::Seats(seats.clone()), None, None).await?;
                let between = Instant::now();
                engine.release(&caller, held.value.id).await?;
                latencies.push((between - begun).as_micros() as u32);
                latencies.push(between.elapsed().as_micros() as u32);
            }
            Ok::<_, Error>(latencies)
        }));
    }
    tokio::time::sleep(duration).await;
    stop.store(true, Ordering::Relaxed);
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let elapsed = begun.elapsed();
    let stats = engine.stats();
    let burst = if checkpoints == Checkpoints::Taken { "" } else { ", a burst" };
    let rate = report(&format!("hold + release, {callers} callers{burst}"), latencies.len() as u64, elapsed, latencies);
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

/// `callers` at once hold the best seat, pay it, and have it refunded.
async fn purchases(callers: usize, duration: Duration) -> Result<f64> {
    let dir = scratch("purchases");
    let (engine, option) = open(&dir, callers * 4, Checkpoints::Taken).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let bought = Arc::new(AtomicU64::new(0));
    for n in 0..callers {
        let user: UserId = format!("user-{n}").parse()?;
        engine.charge(&user, Points::new(1 << 40).ok_or("points")?, &user, None).await?;
    }
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for n in 0..callers {
        let (engine, stop, bought) = (engine.clone(), stop.clone(), bought.clone());
        let user: UserId = format!("user-{n}").parse()?;
        tasks.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let wish = BestAvailable { count: 1, category: None, zone: None, adjacent: true };
                let held = engine.hold(option, &user, Wish::BestAvailable(wish), None, None).await?;
                let payment = engine.pay(&user, held.value.id, None).await?;
                latencies.push(begun.elapsed().as_micros() as u32);
                bought.fetch_add(1, Ordering::Relaxed);
                engine.refund(&Caller::Admin, payment.value.id, None).await?;
            }
            Ok::<_, Error>(latencies)
        }));
    }
    tokio::time::sleep(duration).await;
    stop.store(true, Ordering::Relaxed);
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let rate = report(
        &format!("hold + pay (+ refund), {callers} callers"),
        bought.load(Ordering::Relaxed),
        begun.elapsed(),
        latencies,
    );
    engine.shutdown().await?;
    std::fs::remove_dir_all(dir)?;
    Ok(rate)
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
    let concert = engine.concerts(&boxoffice::PageRequest::default()).await?.items.remove(0);
    let plan = house(60_000);
    let before = resident_bytes();
    let begun = Instant::now();
    for n in 0..100 {
        let option = NewOption {
            prices: vec![("A".into(), Points::new(1).ok_or("points")?)],
            ..NewOption::new(engine.now().plus_millis(1 << 32), plan.clone())
        };
        let id = engine.add_option(concert.id, option, None).await?.value.id;
        if n == 0 {
            println!("{:<44} {:>12.0} ms", "define an option of 60,000 seats", begun.elapsed().as_secs_f64() * 1e3);
        }
        let user: UserId = "user".parse()?;
        let wish = BestAvailable { count: 6, category: None, zone: None, adjacent: true };
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
        runtime.block_on(purchases(256, duration))?;
    }
    Ok(())
}
