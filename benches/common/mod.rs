//! What benchmarks have in common: where they work, a house to sell, and figures of a run.
#![allow(dead_code, reason = "each benchmark uses a part of it")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use boxoffice::{
    Caller, ConcertId, Engine, Error, NewConcert, NewOption, OptionId, Points, RoomSettings, UserId, Wish,
};

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Seats in a row of the house of a [`rush`].
pub const ROW_SEATS: usize = 50;

/// A directory for this process, which is not there yet.
pub fn scratch(name: &str) -> PathBuf {
    let base = std::env::var_os("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = base.join(format!("boxoffice-bench-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    dir
}

/// A house of `seats` seats in rows of `row_seats`, of which the third one in row 7 is called `7-2`.
pub fn house(seats: usize, row_seats: usize) -> Vec<u8> {
    let seat = |row: usize, n: usize| {
        let (x, y) = (n * 30, row * 40);
        format!(r#"{{"seat_guid":"{row}-{n}","seat_number":"{n}","category":"A","position":{{"x":{x},"y":{y}}}}}"#)
    };
    let row = |row: usize| {
        let seats: Vec<_> = (0..row_seats.min(seats - row * row_seats)).map(|n| seat(row, n)).collect();
        format!(r#"{{"row_number":"{row}","seats":[{}]}}"#, seats.join(","))
    };
    let rows: Vec<_> = (0..seats.div_ceil(row_seats)).map(row).collect();
    format!(r#"{{"categories":[{{"name":"A"}}],"zones":[{{"name":"Hall","rows":[{}]}}]}}"#, rows.join(",")).into_bytes()
}

pub async fn concert(engine: &Engine) -> Result<ConcertId> {
    let concert = NewConcert { title: "Bench".into(), waiting_room: RoomSettings::default() };
    Ok(engine.create_concert(concert, None).await?.value.id)
}

/// A performance in a [`house`], a point a seat, of which one user may have many.
pub fn new_option(engine: &Engine, house: Vec<u8>) -> Result<NewOption> {
    Ok(NewOption {
        prices: vec![("A".into(), Points::new(1).ok_or("points")?)],
        max_seats_per_user: 10_000,
        ..NewOption::new(engine.now().plus_millis(1 << 32), house)
    })
}

/// A concert with one option in a [`house`].
pub async fn on_sale(engine: &Engine, house: Vec<u8>) -> Result<OptionId> {
    let concert = concert(engine).await?;
    Ok(engine.add_option(concert, new_option(engine, house)?, None).await?.value.id)
}

/// Of latencies in microseconds, sorted.
pub fn percentile(sorted: &[u32], of: f64) -> u32 {
    sorted.get(((sorted.len() as f64 * of) as usize).min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
}

/// What this process has had of the processors.
pub fn processor_time() -> Result<Duration> {
    // Fields 14 and 15, in ticks of 10 ms; the name in field 2 may hold spaces.
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let ticks = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    let ticks: Vec<u64> = ticks.map(str::parse).collect::<std::result::Result<_, _>>()?;
    Ok(Duration::from_millis(10 * ticks.iter().sum::<u64>()))
}

/// `callers` at once hold two seats each of a [`house`] in rows of [`ROW_SEATS`], and release them, over and over: for how long,
/// and how many microseconds each hold and each release took.
pub async fn rush(
    engine: &Engine,
    option: OptionId,
    callers: usize,
    duration: Duration,
) -> Result<(Duration, Vec<u32>)> {
    let stop = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for n in 0..callers {
        let (engine, stop) = (engine.clone(), stop.clone());
        let user: UserId = format!("user-{n}").parse()?;
        tasks.push(tokio::spawn(async move {
            let caller = Caller::User(user.clone());
            let mut latencies = Vec::new();
            let seats: Vec<_> =
                [2 * n, 2 * n + 1].iter().map(|s| format!("{}-{}", s / ROW_SEATS, s % ROW_SEATS)).collect();
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
    let mut latencies = Vec::new();
    stop_after(duration, &stop).await;
    for task in tasks {
        latencies.extend(task.await??);
    }
    Ok((begun.elapsed(), latencies))
}

pub async fn stop_after(duration: Duration, stop: &AtomicBool) {
    tokio::time::sleep(duration).await;
    stop.store(true, Ordering::Relaxed);
}

/// Prints a row, and returns how many there were a second.
pub fn report(name: &str, operations: u64, elapsed: Duration, mut latencies: Vec<u32>) -> f64 {
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

/// Callers of [`fill`] at once.
const CALLERS: usize = 256;
/// Of a purchase that is refunded, and of a hold that is released.
const EVENTS_A_ROUND: usize = 5 + 2;

/// Makes about so many events: of purchases that are refunded, and of holds that are released.
pub async fn fill(engine: &Engine, events: usize) -> Result<()> {
    let option = on_sale(engine, house(2 * CALLERS, 2)).await?;
    let rounds = events.div_ceil(CALLERS * EVENTS_A_ROUND);
    let callers: Vec<_> =
        (0..CALLERS).map(|n| tokio::spawn(buy_and_return(engine.clone(), option, n, rounds))).collect();
    for caller in callers {
        caller.await??;
    }
    Ok(())
}

async fn buy_and_return(engine: Engine, option: OptionId, n: usize, rounds: usize) -> Result<()> {
    let user: UserId = format!("user-{n}").parse()?;
    let caller = Caller::User(user.clone());
    engine.charge(&user, Points::new(1 << 40).ok_or("points")?, &user, None).await?;
    let wish = || Wish::Seats(vec![format!("{n}-0"), format!("{n}-1")]);
    for _ in 0..rounds {
        let held = engine.hold(option, &user, wish(), None, None).await?.value;
        let payment = engine.pay(&user, held.id, None).await?.value;
        engine.refund(&Caller::Admin, payment.id, None).await?;
        let held = engine.hold(option, &user, wish(), None, None).await?.value;
        engine.release(&caller, held.id).await?;
    }
    Ok(())
}
