//! Three engines on three NATS servers with `sync_interval: always`, all on this machine: appends to the replicated log, one
//! frame under way, by the connection that a node has; and durable commands per second of the engine that owns it.
//!
//! `cargo bench --no-default-features --features cluster,testing --bench cluster`; seconds of each row with
//! `BOXOFFICE_BENCH_SECONDS`. After each row of commands stands one of appends of as many bytes as its frames had, so that
//! figures can be compared as ratios on a noisy machine.

mod common;
#[path = "../tests/cluster_nats/servers.rs"]
mod servers;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use boxoffice::cluster::nats::NatsLink;
use boxoffice::cluster::{Body, ClusterConfig, ClusterId, Epoch, Heard, Link as _, Message, Publish, Reply, Sequence};
use boxoffice::store::journal::{FrameRef, Tip};
use boxoffice::{Config, Engine, OptionId};
use common::{ROW_SEATS, Result, house, on_sale, processor_time, report, scratch};
use servers::Servers;
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A node without an engine, which appends frames.
struct Appending {
    link: NatsLink,
    heard: mpsc::Receiver<(Instant, Heard)>,
    cluster: ClusterId,
    tip: Tip,
    last: Sequence,
}

impl Appending {
    fn connect(runtime: &Runtime, servers: &Servers) -> Result<Self> {
        let (ears, heard) = mpsc::channel();
        let hear = move |it| drop(ears.send((Instant::now(), it)));
        // A stream of its own.
        let config = ClusterConfig { name: "appends".to_owned(), ..servers.config("bench") };
        let (link, found) = runtime.block_on(NatsLink::connect(runtime.handle(), config, 1, hear))?;
        // As a node does: its own messages come back to it.
        link.follow(found.last);
        Ok(Self { link, heard, cluster: ClusterId(1.try_into()?), tip: Tip::default(), last: found.last })
    }

    fn append(&mut self, payload: &[u8]) -> Result<Duration> {
        let at = self.tip.at.plus_millis(1);
        let frame =
            self.tip.batch(&FrameRef { first_lsn: self.tip.next_lsn, count: 1, at, payload }).ok_or("no frame")?;
        self.tip = frame.after();
        let message = Message { cluster: self.cluster, epoch: Epoch(0), body: Body::Frame(frame) };
        let published = Instant::now();
        self.link.publish(self.last.0, &Publish { message, expected: Some(self.last) });
        loop {
            match self.heard.recv()? {
                (at, Heard::Replied(number, Reply::Acknowledged(sequence))) if number == self.last.0 => {
                    self.last = sequence;
                    return Ok(at - published);
                }
                (_, Heard::Replied(_, reply)) => return Err(format!("{reply:?}").into()),
                (_, _) => {}
            }
        }
    }

    fn run(&mut self, bytes: usize, duration: Duration) -> Result<()> {
        let payload: Vec<u8> = (0..bytes).map(|at: usize| ((at * 31) >> 3) as u8).collect();
        let (mut latencies, begun) = (Vec::new(), Instant::now());
        while begun.elapsed() < duration {
            latencies.push(self.append(&payload)?.as_micros() as u32);
        }
        report(&format!("append, {bytes} bytes"), latencies.len() as u64, begun.elapsed(), latencies);
        Ok(())
    }
}

/// The one of `engines` that owns the log.
async fn owner(engines: &[Engine]) -> &Engine {
    loop {
        if let Some(owner) = engines.iter().find(|engine| engine.membership().is_some_and(|seen| seen.owns)) {
            return owner;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// `callers` of the owner; the bytes of a frame.
async fn rush(owner: &Engine, option: OptionId, callers: usize, duration: Duration) -> Result<usize> {
    let (cpu, before) = (processor_time()?, owner.stats());
    let (elapsed, latencies) = common::rush(owner, option, callers, duration).await?;
    let (cpu, after) = (processor_time()?.saturating_sub(cpu), owner.stats());
    let calls = latencies.len() as u64;
    report(&format!("hold + release, owner of three, {callers} callers"), calls, elapsed, latencies);
    let (frames, bytes) = (after.batches - before.batches, after.journal_bytes - before.journal_bytes);
    println!(
        "    {:.0} frames a second of {} bytes, {:.2} us of the nodes' processor time each",
        frames as f64 / elapsed.as_secs_f64(),
        bytes / frames.max(1),
        cpu.as_secs_f64() * 1e6 / calls as f64
    );
    Ok((bytes / frames.max(1)) as usize)
}

fn main() -> Result<()> {
    let seconds = std::env::var("BOXOFFICE_BENCH_SECONDS").ok().and_then(|it| it.parse().ok()).unwrap_or(10);
    let duration = Duration::from_secs(seconds);
    let servers = Servers::start(3);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut appending = Appending::connect(&runtime, &servers)?;
    for bytes in [200, 16 << 10, 128 << 10] {
        appending.run(bytes, duration)?;
    }
    let dir = scratch("cluster");
    let mut engines = Vec::new();
    for node in ["ada", "ben", "eva"] {
        let mut config = Config { data_dir: dir.join(node), ..Config::default() };
        config.limits.user_open_holds = 0;
        let joining = servers.config(node).joining(false)?;
        engines.push(runtime.block_on(Engine::open_in_cluster(config, joining))?);
    }
    let owner = runtime.block_on(owner(&engines));
    for callers in [1, 64, 1_024] {
        let option = runtime.block_on(on_sale(owner, house(callers * 2, ROW_SEATS)))?;
        let bytes = runtime.block_on(rush(owner, option, callers, duration))?;
        appending.run(bytes, duration)?;
    }
    for engine in &engines {
        runtime.block_on(engine.shutdown())?;
    }
    Ok(std::fs::remove_dir_all(dir)?)
}
