//! Events to Kafka: how many a second the server's sink sends, beside what a bare producer of the same records does in the same
//! run.
//!
//! `KAFKA_BOOTSTRAP=host:port cargo bench --features kafka --bench kafka [-- EVENTS ROUNDS CONCURRENCY BATCH WINDOW
//! LINGER_MS]`, with a broker that is there. The events are those of purchases that are refunded and holds that are released, by 256 callers at once, so that a subject has
//! up to five of them. The sink reads them in the journal and sends them from the beginning; the bare producer has its records
//! ready, and the same settings. Rounds of both are interleaved.

mod common;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use boxoffice::server::config::Settings;
use boxoffice::server::kafka::Kafka;
use boxoffice::{Engine, Event, EventFilter, EventId};
use common::{Result, processor_time, scratch};
use krafka::Record;
use krafka::admin::{CreateTopicsOptions, NewTopic};
use krafka::producer::Acks;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARTITIONS: i32 = 3;
/// Records of the bare producer that may wait for their acknowledgements: a window of its own.
const WINDOW: usize = 4_096;

/// A record like those of the sink, by the same binding.
fn record(settings: &Settings, event: &Event) -> Result<Record> {
    let record = Record::new(settings.kafka.topic_of(event.kind), serde_json::to_vec(&event.data)?)
        .header("ce_specversion", "1.0")
        .header("ce_id", event.id.to_string())
        .header("ce_source", event.source.clone())
        .header("ce_type", event.kind.as_str())
        .header("ce_subject", event.subject.clone())
        .header("ce_time", event.time.to_string())
        .header("content-type", "application/json");
    Ok(record.key(event.subject.clone()).timestamp(i64::try_from(event.time.as_millis())?))
}

async fn records(engine: &Engine, settings: &Settings) -> Result<Vec<Record>> {
    let (mut stream, mut records) = (engine.events(EventId::default(), EventFilter::ALL), Vec::new());
    loop {
        let events = stream.available(500).await?.events;
        if events.is_empty() {
            return Ok(records);
        }
        for event in &events {
            records.push(record(settings, event)?);
        }
    }
}

/// Sends all of them as fast as the broker takes them.
async fn send(kafka: &krafka::Kafka, records: Vec<Record>) -> Result<Duration> {
    let producer = kafka.producer().acks(Acks::All).idempotent(true).linger(Duration::from_millis(5));
    let producer = producer.batch_size(64 << 10).metrics_push(false).build().await?;
    let (begun, mut under_way) = (Instant::now(), VecDeque::with_capacity(WINDOW));
    for record in records {
        if under_way.len() == WINDOW
            && let Some(oldest) = under_way.pop_front()
        {
            let _: krafka::producer::RecordMetadata = oldest.await?;
        }
        under_way.push_back(producer.enqueue(record).await?);
    }
    for one in under_way {
        let _: krafka::producer::RecordMetadata = one.await?;
    }
    let elapsed = begun.elapsed();
    producer.close().await?;
    Ok(elapsed)
}

/// Has the sink send all of them from the beginning.
async fn deliver(engine: &Engine, settings: &Settings) -> Result<Duration> {
    let kafka = Kafka::new(settings)?;
    let begun = Instant::now();
    kafka.serve(engine, &settings.kafka).await?;
    let sink = engine.sinks().await?.into_iter().next().ok_or("there is no sink")?.id;
    while engine.sink(sink).await?.lag > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let elapsed = begun.elapsed();
    engine.remove_sink(sink).await?;
    kafka.close().await;
    Ok(elapsed)
}

async fn run(numbers: &[u64]) -> Result<()> {
    let number = |place: usize, default| numbers.get(place).map_or(Ok(default), |given| usize::try_from(*given));
    let (events, rounds) = (number(0, 200_000)?, number(1, 5)?);
    let broker = std::env::var("KAFKA_BOOTSTRAP").map_err(|_| "KAFKA_BOOTSTRAP must say where a broker is")?;
    let dir: PathBuf = scratch("kafka");
    let mut settings = Settings { data_dir: dir.clone(), ..Settings::default() };
    settings.limits.user_open_holds = 0;
    settings.kafka.topic = format!("bench-{}.{{kind}}", std::process::id());
    settings.kafka.bootstrap_servers = vec![broker.clone()];
    let kafka = &mut settings.kafka;
    let changed = [&mut kafka.concurrency, &mut kafka.batch_events, &mut kafka.window_events];
    for (setting, given) in changed.into_iter().zip(numbers.iter().skip(2)) {
        *setting = *given;
    }
    if let Some(linger) = numbers.get(5) {
        kafka.properties.0.insert("linger.ms".into(), linger.to_string());
    }
    let engine = Engine::open(settings.engine()).await?;
    common::fill(&engine, events).await?;
    let records = records(&engine, &settings).await?;
    let bytes: usize = records.iter().map(Record::estimated_size).sum();
    println!("{} events, {} bytes each", records.len(), bytes / records.len());
    let kafka = krafka::Kafka::builder(broker).connect().await?;
    let topics = ["reservation", "payment", "token", "wallet"].map(|kind| settings.kafka.topic.replace("{kind}", kind));
    let topics = topics
        .into_iter()
        .map(|name| NewTopic::new(name, PARTITIONS, 1))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    for (_, made) in kafka.admin().create_topics(topics, CreateTopicsOptions::default()).await? {
        made?;
    }
    let mut ratios = Vec::new();
    for round in 1..=rounds {
        let bare = send(&kafka, records.clone()).await?;
        let before = processor_time()?;
        let sink = deliver(&engine, &settings).await?;
        let spent = (processor_time()? - before).as_secs_f64() * 1e6 / records.len() as f64;
        let [bare, sink] = [bare, sink].map(|elapsed| records.len() as f64 / elapsed.as_secs_f64());
        println!(
            "round {round}   bare producer {bare:>8.0}/s   sink {sink:>8.0}/s, {spent:.1} us of processor each   {:.2}",
            sink / bare
        );
        ratios.push(sink / bare);
    }
    ratios.sort_unstable_by(f64::total_cmp);
    println!("median ratio: {:.2}", ratios[ratios.len() / 2]);
    engine.shutdown().await?;
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

fn main() -> Result<()> {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(&numbers))
}
