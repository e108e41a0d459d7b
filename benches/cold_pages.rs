//! What others notice of pages that need what is not in memory: a user's wallet, read again and again, alone and beside
//! somebody who goes through payments on many options that are asleep.
//!
//! `cargo bench --bench cold_pages [-- OPTIONS [SEATS [SECONDS]]]` prints a table (150 options of 20,000 seats, 10 s).

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use boxoffice::{BestAvailable, Config, Engine, OptionId, PageRequest, Points, UserId, Wish};
use common::{Result, concert, house, new_option, percentile, scratch};
use futures_util::{StreamExt, TryStreamExt, stream};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Reservations on each option, of eight seats each, all of them paid.
const SOLD: u64 = 200;
/// Who goes through payments at once.
const READERS: usize = 4;

fn config(dir: &std::path::Path) -> Config {
    let mut config = Config { data_dir: dir.to_path_buf(), ..Config::default() };
    // What is not used is forgotten at once.
    config.actors.max_resident = 16;
    config.limits.user_open_holds = 0;
    config
}

async fn buy(engine: &Engine, option: OptionId, user: &UserId) -> Result<()> {
    let wish = BestAvailable { count: 8, category: None, zone: None, adjacent: true, companions: 0 };
    let held = engine.hold(option, user, Wish::BestAvailable(wish), None, None).await?;
    engine.pay(user, held.value.id, None).await?;
    Ok(())
}

async fn sell(config: &Config, options: usize, seats: usize) -> Result<()> {
    let engine = Engine::open(config.clone()).await?;
    let buyer: UserId = "buyer".parse()?;
    for user in ["buyer", "reader"] {
        let user = user.parse()?;
        engine.charge(&user, Points::new(1 << 40).ok_or("points")?, &user, None).await?;
    }
    let concert = concert(&engine).await?;
    let plan = house(seats, 50);
    let options: Vec<OptionId> = stream::iter(0..options)
        .map(|_| async {
            Result::Ok(engine.add_option(concert, new_option(&engine, plan.clone())?, None).await?.value.id)
        })
        .buffer_unordered(16)
        .try_collect()
        .await?;
    // One after the other, so that each page is about many of them.
    stream::iter((0..SOLD).flat_map(|_| options.iter().copied()))
        .map(|option| buy(&engine, option, &buyer))
        .buffer_unordered(64)
        .try_collect::<()>()
        .await?;
    engine.shutdown().await?;
    Ok(())
}

/// Goes through all payments, in pages of 100.
async fn page_through(engine: &Engine, stop: &AtomicBool, pages: &AtomicU64) -> Result<()> {
    let user: UserId = "buyer".parse()?;
    let mut request = PageRequest { limit: 100, cursor: None };
    while !stop.load(Ordering::Relaxed) {
        let page = engine.payments(&user, &request).await?;
        assert!(!page.items.is_empty());
        request.cursor = page.next_cursor;
        pages.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

async fn measure(engine: &Engine, what: &str, took: Duration, pages: &AtomicU64) -> Result<()> {
    let reader: UserId = "reader".parse()?;
    let (begun, before, mut latencies) = (Instant::now(), pages.load(Ordering::Relaxed), Vec::new());
    while begun.elapsed() < took {
        let asked = Instant::now();
        engine.wallet(&reader).await?;
        latencies.push(asked.elapsed().as_micros() as u32);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    latencies.sort_unstable();
    let [p50, p99, max] = [0.5, 0.99, 1.0].map(|of| f64::from(percentile(&latencies, of)) / 1e3);
    let pages = (pages.load(Ordering::Relaxed) - before) as f64 / begun.elapsed().as_secs_f64();
    println!("{what:<24} {p50:>8.2} {p99:>8.2} {max:>8.2} ms {pages:>10.0} pages/s");
    Ok(())
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut numbers = std::env::args().filter_map(|arg| arg.parse::<usize>().ok());
    let (options, seats) = (numbers.next().unwrap_or(150), numbers.next().unwrap_or(20_000));
    let took = Duration::from_secs(numbers.next().unwrap_or(10) as u64);
    let dir = scratch("cold-pages");
    runtime.block_on(sell(&config(&dir), options, seats))?;
    println!("{options} options of {seats} seats");
    println!("{:<24} {:>8} {:>8} {:>8}", "another user's wallet", "p50", "p99", "max");
    runtime.block_on(async {
        let engine = Engine::open(config(&dir)).await?;
        let (stop, pages) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        measure(&engine, "alone", took, &pages).await?;
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                let (engine, stop, pages) = (engine.clone(), stop.clone(), pages.clone());
                tokio::spawn(async move { page_through(&engine, &stop, &pages).await })
            })
            .collect();
        measure(&engine, "beside pages of payments", took, &pages).await?;
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.await??;
        }
        engine.shutdown().await?;
        Result::Ok(())
    })?;
    std::fs::remove_dir_all(dir)?;
    Ok(())
}
