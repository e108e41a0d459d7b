//! Sales beside receivers that misbehave: how long a purchase takes with five of them and without.
//!
//! `cargo bench --bench sinks [-- RATE SECONDS]`; with the feature `kafka`, and the word `kafka` at the end, the receiver is
//! Kafka instead, of which one broker refuses connections and the other never says anything. Purchases (hold and pay, durable) start at a fixed rate, and their time is
//! counted from the moment at which they should have started. Rounds with and without are interleaved, five of each; the
//! table has each and the medians.

mod common;

use std::net::TcpListener;
use std::time::Duration;

use boxoffice::domain::sink::{Destination, Format};
use boxoffice::server::config::Settings;
use boxoffice::{Caller, Engine, EventFilter, OptionId, PaymentId, Points, SinkId, Start, UserId, Wish};
use common::{Result, house, on_sale, scratch};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 5;
/// Pairs of seats that are sold over and over.
const PAIRS: usize = 20_000;

/// What a receiver does.
#[derive(Debug, Clone, Copy)]
enum Conduct {
    Fails,
    Hangs,
    Refuses,
    DropsHalfWay,
    TooLate,
}

const ALL: [Conduct; 5] = [Conduct::Fails, Conduct::Hangs, Conduct::Refuses, Conduct::DropsHalfWay, Conduct::TooLate];

/// Listens, and gives where.
async fn receiver(conduct: Conduct, timeout: Duration) -> Result<String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    if !matches!(conduct, Conduct::Refuses) {
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(misbehave(stream, conduct, timeout));
            }
        });
    }
    Ok(url)
}

async fn misbehave(mut stream: TcpStream, conduct: Conduct, timeout: Duration) -> std::io::Result<()> {
    let mut bytes = [0; 16_384];
    while stream.read(&mut bytes).await? > 0 {
        match conduct {
            Conduct::Fails => stream.write_all(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n").await?,
            Conduct::Hangs | Conduct::Refuses => std::future::pending().await,
            Conduct::DropsHalfWay => return stream.write_all(b"HTTP/1.1 200 OK\r\ncont").await,
            Conduct::TooLate => {
                tokio::time::sleep(timeout * 2).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
            }
        }
    }
    Ok(())
}

async fn purchase(engine: &Engine, option: OptionId, pair: usize) -> Result<PaymentId> {
    let user: UserId = format!("user-{pair}").parse()?;
    let wish = Wish::Seats(vec![format!("{pair}-0"), format!("{pair}-1")]);
    let held = engine.hold(option, &user, wish, None, None).await?.value;
    Ok(engine.pay(&user, held.id, None).await?.value.id)
}

/// Purchases at `rate` a second for so long; the times of all, sorted.
async fn sell(engine: &Engine, option: OptionId, rate: u64, seconds: u64) -> Result<Vec<Duration>> {
    let (begun, mut under_way) = (Instant::now(), JoinSet::new());
    for n in 0..rate * seconds {
        let due = begun + Duration::from_nanos(n * 1_000_000_000 / rate);
        tokio::time::sleep_until(due).await;
        let engine = engine.clone();
        under_way.spawn(async move {
            let payment = purchase(&engine, option, n as usize % PAIRS).await?;
            let took = due.elapsed();
            engine.refund(&Caller::Admin, payment, None).await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(took)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = under_way.join_next().await {
        times.push(done??);
    }
    times.sort_unstable();
    Ok(times)
}

fn percentile(times: &[Duration], of_thousand: usize) -> f64 {
    times[(times.len() * of_thousand / 1_000).min(times.len() - 1)].as_secs_f64() * 1e3
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Sinks whose receivers misbehave, until they are removed.
enum Misbehaving {
    Webhooks(Vec<SinkId>),
    #[cfg(feature = "kafka")]
    Kafka(boxoffice::server::kafka::Kafka, Vec<SinkId>),
}

impl Misbehaving {
    async fn webhooks(engine: &Engine, timeout: Duration) -> Result<Self> {
        let mut sinks = Vec::new();
        for conduct in ALL {
            let receiver = Destination::Webhook { url: receiver(conduct, timeout).await?, format: Format::Cloudevent };
            sinks.push(engine.register_sink(receiver, EventFilter::ALL, Start::Now).await?.0);
        }
        Ok(Self::Webhooks(sinks))
    }

    /// As the server has it, but for a shorter pause, so that a round sees more than one attempt.
    #[cfg(feature = "kafka")]
    async fn kafka(engine: &Engine, settings: &Settings) -> Result<Self> {
        let mut settings = settings.clone();
        settings.kafka.start = "now".into();
        settings.kafka.breaker_pause = "1s".parse()?;
        settings.kafka.properties.0.insert("request.timeout.ms".into(), "1000".into());
        for conduct in [Conduct::Hangs, Conduct::Refuses] {
            let url = receiver(conduct, Duration::ZERO).await?;
            let address = url.trim_start_matches("http://").trim_end_matches('/');
            settings.kafka.bootstrap_servers.push(address.to_owned());
        }
        let kafka = boxoffice::server::kafka::Kafka::new(&settings)?;
        kafka.serve(engine, &settings.kafka).await?;
        let sinks = engine.sinks().await?.into_iter().map(|sink| sink.id).collect();
        Ok(Self::Kafka(kafka, sinks))
    }

    /// How many deliveries have failed.
    async fn remove(self, engine: &Engine) -> Result<u64> {
        let sinks = match &self {
            Self::Webhooks(sinks) => sinks,
            #[cfg(feature = "kafka")]
            Self::Kafka(_, sinks) => sinks,
        };
        let mut failed = 0;
        for sink in sinks {
            failed += engine.sink(*sink).await?.deliveries.map_or(0, |deliveries| deliveries.failed);
            engine.remove_sink(*sink).await?;
        }
        #[cfg(feature = "kafka")]
        if let Self::Kafka(kafka, _) = &self {
            kafka.close().await;
        }
        Ok(failed)
    }
}

async fn run(rate: u64, seconds: u64, is_kafka: bool) -> Result<()> {
    let dir = scratch("sinks");
    let mut settings = Settings { data_dir: dir.clone(), ..Settings::default() };
    settings.limits.user_open_holds = 0;
    settings.webhooks.allow_private_addresses = true;
    let timeout = Duration::from_secs(1);
    settings.webhooks.timeout = "1s".parse()?;
    settings.webhooks.breaker_pause = "2s".parse()?;
    #[cfg(feature = "kafka")]
    let kafka_settings = settings.clone();
    let engine = Engine::open(settings.engine()).await?;
    let option = on_sale(&engine, house(2 * PAIRS, 2)).await?;
    for pair in 0..PAIRS {
        let user: UserId = format!("user-{pair}").parse()?;
        engine.charge(&user, Points::new(1 << 40).ok_or("points")?, &user, None).await?;
    }
    let (stop, stopped) = oneshot::channel::<()>();
    let (listener, handle) = (TcpListener::bind("127.0.0.1:0")?, engine.clone());
    let server = std::thread::spawn(move || {
        let shutdown = async {
            let _ = stopped.await;
        };
        actix_web::rt::System::new().block_on(boxoffice::server::run(listener, None, handle, settings, shutdown))
    });
    sell(&engine, option, rate, 2).await?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let name_of_with = if is_kafka { "kafka gone" } else { "with five" };
    println!("{rate} purchases/s for {seconds} s a round; milliseconds");
    for round in 1..=ROUNDS {
        let alone = sell(&engine, option, rate, seconds).await?;
        let misbehaving = match is_kafka {
            false => Misbehaving::webhooks(&engine, timeout).await?,
            #[cfg(feature = "kafka")]
            true => Misbehaving::kafka(&engine, &kafka_settings).await?,
            #[cfg(not(feature = "kafka"))]
            true => return Err("it was built without the feature kafka".into()),
        };
        let beside = sell(&engine, option, rate, seconds).await?;
        let failed = misbehaving.remove(&engine).await?;
        for (name, times, p99) in [("without", &alone, &mut without), (name_of_with, &beside, &mut with)] {
            let [p50, p99_now, p999] = [500, 990, 999].map(|part| percentile(times, part));
            println!("round {round}  {name:<10} p50 {p50:>7.2}   p99 {p99_now:>7.2}   p99.9 {p999:>7.2}");
            p99.push(p99_now);
        }
        println!("         {failed} deliveries failed");
    }
    let (without, with) = (median(without), median(with));
    println!("median p99: without {without:.2} ms, {name_of_with} {with:.2} ms: {:.2} times", with / without);
    let _ = stop.send(());
    server.join().map_err(|_| "the server panicked")??;
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

fn main() -> Result<()> {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let (rate, seconds) = (numbers.first().copied().unwrap_or(2_000), numbers.get(1).copied().unwrap_or(10));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(rate, seconds, std::env::args().any(|argument| argument == "kafka")))
}
