//! What a hold costs as things grow: seats of an option, options, users.
//!
//! `cargo bench --bench growth [-- SECONDS] [NAME]` prints a table: for each of the three a small engine and a large one, both
//! open, that are measured in turns, so that what else the machine does hits both. A hold of two seats and its release are two
//! operations; what they cost is processor time of the whole process, with checkpoints, without `fdatasync`'s waits.

mod common;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use boxoffice::{BestAvailable, Caller, ConcertId, Config, Engine, Error, OptionId, UserId, Wish};
use common::{Result, concert, house, new_option, scratch};
use futures_util::{StreamExt, TryStreamExt, stream};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CALLERS: usize = 256;
const ROUNDS: usize = 3;
/// Seats in a row of the house.
const ROW_SEATS: usize = 50;

#[derive(Debug, Clone, Copy)]
struct Size {
    seats: usize,
    options: usize,
    users: u64,
}

/// An engine of one size, and what was measured of it.
struct Subject {
    dir: PathBuf,
    engine: Engine,
    options: Arc<Vec<OptionId>>,
    users: u64,
    /// Who comes next: everybody does before anybody comes again.
    next: Arc<AtomicU64>,
    cost_ns: Vec<u64>,
    rate: Vec<u64>,
}

impl Subject {
    async fn new(name: &str, size: Size) -> Result<Self> {
        let dir = scratch(&format!("growth-{name}"));
        let mut config = Config { data_dir: dir.clone(), ..Config::default() };
        config.checkpoint.max_pending_events = 1_000_000_000;
        config.checkpoint.max_pending_bytes = 1 << 40;
        let engine = Engine::open(config).await?;
        let concert = concert(&engine).await?;
        let plan = house(size.seats, ROW_SEATS);
        let options = stream::iter(0..size.options).map(|_| Self::add(&engine, concert, plan.clone()));
        let options = options.buffer_unordered(64).try_collect().await?;
        Ok(Self {
            dir,
            engine,
            options: Arc::new(options),
            users: size.users,
            next: Arc::default(),
            cost_ns: Vec::new(),
            rate: Vec::new(),
        })
    }

    async fn add(engine: &Engine, concert: ConcertId, plan: Vec<u8>) -> Result<OptionId> {
        Ok(engine.add_option(concert, new_option(engine, plan)?, None).await?.value.id)
    }

    async fn round(&mut self, duration: Duration) -> Result<()> {
        let stop = Arc::new(AtomicBool::new(false));
        let (begun, busy) = (Instant::now(), busy_ns());
        let tasks: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (engine, options, next) = (self.engine.clone(), self.options.clone(), self.next.clone());
                let (users, stop) = (self.users, stop.clone());
                tokio::spawn(async move {
                    let mut operations = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        let user: UserId =
                            format!("user-{}", n % users).parse().map_err(|_| Error::Internal(String::new()))?;
                        let option = options[(n * 7_919 % options.len() as u64) as usize];
                        let wish =
                            BestAvailable { count: 2, category: None, zone: None, adjacent: true, companions: 0 };
                        let held = engine.hold(option, &user, Wish::BestAvailable(wish), None, None).await?;
                        engine.release(&Caller::User(user), held.value.id).await?;
                        operations += 2;
                    }
                    Ok::<u64, Error>(operations)
                })
            })
            .collect();
        tokio::time::sleep(duration).await;
        stop.store(true, Ordering::Relaxed);
        let mut operations = 0;
        for task in tasks {
            operations += task.await??;
        }
        self.cost_ns.push((busy_ns() - busy) / operations.max(1));
        self.rate.push((operations as f64 / begun.elapsed().as_secs_f64()) as u64);
        Ok(())
    }
}

/// Processor time of this process so far, from its threads that still run; none ends while something is measured.
fn busy_ns() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let busy = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
    busy.filter_map(|stat| stat.split(' ').next()?.parse::<u64>().ok()).sum()
}

/// The first word of a name.
fn tag(name: &str) -> &str {
    name.split(':').next().unwrap_or(name)
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

async fn compare(name: &str, small: Size, large: Size, duration: Duration) -> Result<()> {
    let mut subjects = [
        Subject::new(&format!("{}-small", tag(name)), small).await?,
        Subject::new(&format!("{}-large", tag(name)), large).await?,
    ];
    // Once for nothing: caches, and what is made when it is first needed.
    for round in 0..=ROUNDS {
        for subject in &mut subjects {
            subject.round(duration).await?;
            if round == 0 {
                subject.cost_ns.clear();
                subject.rate.clear();
            }
        }
    }
    let [small, large] = subjects
        .each_mut()
        .map(|subject| (median(std::mem::take(&mut subject.cost_ns)), median(std::mem::take(&mut subject.rate))));
    println!(
        "{name:<34} {:>7} ns {:>9}/s {:>9} ns {:>9}/s   cost x {:.2}",
        small.0,
        small.1,
        large.0,
        large.1,
        large.0 as f64 / small.0 as f64
    );
    for subject in subjects {
        subject.engine.shutdown().await?;
        std::fs::remove_dir_all(subject.dir)?;
    }
    Ok(())
}

fn main() -> Result<()> {
    let seconds = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(3);
    let only = std::env::args().skip(1).find(|arg| arg.parse::<u64>().is_err() && !arg.starts_with('-'));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let small = Size { seats: 1_000, options: 10, users: 1_000 };
    let table = [
        ("seats: 1,000 and 60,000", Size { options: 1, ..small }, Size { options: 1, seats: 60_000, ..small }),
        ("options: 10 and 10,000", small, Size { options: 10_000, ..small }),
        ("users: 1,000 and 1,000,000", small, Size { users: 1_000_000, ..small }),
    ];
    println!("{:<34} {:>22} {:>24}", "of hold and release, an operation", "small", "large");
    for (name, small, large) in table {
        if only.as_ref().is_none_or(|only| name.contains(only.as_str())) {
            runtime.block_on(compare(name, small, large, Duration::from_secs(seconds)))?;
        }
    }
    Ok(())
}
