//! The commit path alone: records through group commit to the disk, without actors and without rules.
//!
//! `cargo bench --bench commit [-- SECONDS]` prints how many events become durable a second, and how long each waits, for
//! callers that each wait for the answer to one before they give the next.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use boxoffice::domain::concert_option::Event;
use boxoffice::domain::{Lsn, OptionId, Points, Timestamp};
use boxoffice::store::codec::{Facts, Record};
use boxoffice::store::committer::{Committer, Effect, Way, Writer};
use boxoffice::store::disk::RealDisk;
use boxoffice::store::journal::{Frames, Options};
use boxoffice::store::node::Journal;
use common::{Result, percentile, scratch};
use tokio::sync::oneshot;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A hold of two seats.
fn record(n: u64) -> Result<Arc<Record>> {
    let event = Event::SeatsHeld {
        reservation: n,
        user: format!("user-{}", n % 1_000).parse()?,
        seats: [n as u32 % 60_000, (n as u32 + 1) % 60_000].as_slice().into(),
        areas: [].as_slice().into(),
        amount: Points::new(24_000).ok_or("points")?,
        expires_at: Timestamp::from_millis(1_800_000_000_000 + n),
        token: None,
        key: None,
        note: None,
        prices: [Points::new(12_000).ok_or("points")?].into_iter().collect(),
        from_blocked: Vec::new(),
        by: None,
    };
    let at = Timestamp::from_millis(1_799_999_700_000 + n);
    Ok(Arc::new(Record { at, facts: Facts::Option(OptionId(1), vec![event]) }))
}

async fn commit(callers: u64, duration: Duration) -> Result<()> {
    let dir = scratch("commit");
    let frames = Frames::in_dir(Arc::new(RealDisk), &dir);
    let (log, found) = frames.open(Options::default(), Lsn(0))?;
    let (writer, batches) = Writer::begin(&Journal::new(frames, found.last_lsn, found.last_at), Way::Alone);
    let committer = Committer::new(batches, log);
    let thread = std::thread::spawn(move || committer.run());
    let until = Instant::now() + duration;
    let mut tasks = Vec::new();
    for caller in 0..callers {
        let writer = writer.clone();
        tasks.push(tokio::spawn(async move {
            let (mut latencies, mut n) = (Vec::new(), caller);
            while Instant::now() < until {
                let begun = Instant::now();
                let (done, durable) = oneshot::channel();
                writer.append(record(n)?, Some(Effect::call(move || done.send(()).unwrap_or_default())))?;
                durable.await?;
                latencies.push(begun.elapsed().as_micros() as u32);
                n += callers;
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(latencies)
        }));
    }
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    writer.close();
    thread.join().map_err(|_| "the committer panicked")?;
    std::fs::remove_dir_all(dir)?;
    latencies.sort_unstable();
    println!(
        "commit, {callers:>5} callers {:>12.0} events/s   p50 {:>6} us   p99 {:>6} us",
        latencies.len() as f64 / duration.as_secs_f64(),
        percentile(&latencies, 0.5),
        percentile(&latencies, 0.99),
    );
    Ok(())
}

fn main() -> Result<()> {
    let seconds = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(5);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for callers in [1, 64, 1_024] {
        runtime.block_on(commit(callers, Duration::from_secs(seconds)))?;
    }
    Ok(())
}
