//! Receivers that are a million events behind: who reads through the engine, as JSON, and over HTTP in pages of 500; and
//! webhooks to a process beside it, in batches and one by one.
//!
//! `cargo bench --bench events [-- EVENTS]`. The events are those of purchases that are refunded and holds that are
//! released, by 256 callers at once. Before each figure the engine is opened anew, with nothing in memory.

mod common;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use boxoffice::domain::sink::{Destination, Format};
use boxoffice::server::auth::{self, Role};
use boxoffice::server::config::Settings;
use boxoffice::{Engine, EventFilter, EventId, EventType, Start};
use common::{Result, scratch};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Makes about so many events.
async fn fill(settings: &Settings, events: usize) -> Result<()> {
    let engine = Engine::open(settings.engine()).await?;
    common::fill(&engine, events).await?;
    engine.shutdown().await?;
    Ok(())
}

/// Of this process, in MiB: what it takes now, and the most it ever took.
fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    };
    (kib("VmRSS:").unwrap_or(0) >> 10, kib("VmHWM:").unwrap_or(0) >> 10)
}

/// Counts the most from here on.
fn forget_peak() {
    // Without it the peak is that of the whole run, which is no less.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn report(name: &str, events: usize, elapsed: Duration, bytes: usize, before: u64) {
    let rate = events as f64 / elapsed.as_secs_f64();
    let (_, peak) = memory();
    let (each, grown) = (bytes / events.max(1), peak.saturating_sub(before));
    println!("{name:<52} {rate:>10.0}/s   {events} events   {each:>4} bytes each   peak {peak} MiB (+{grown})");
}

/// What a reader does with the events.
#[derive(Clone, Copy, PartialEq)]
enum Make {
    Events,
    Json,
}

async fn read(name: &str, settings: &Settings, filter: EventFilter, make: Make) -> Result<()> {
    let engine = Engine::open(settings.engine()).await?;
    forget_peak();
    let (before, _) = memory();
    let begun = Instant::now();
    let mut stream = engine.events(EventId::default(), filter);
    let (mut events, mut bytes, mut json) = (0, 0, Vec::new());
    let mut position = EventId::default();
    while position.lsn < engine.durable_lsn() {
        let batch = stream.available(500).await?;
        events += batch.events.len();
        position = batch.position;
        if make == Make::Json {
            json.clear();
            serde_json::to_writer(&mut json, &batch.events)?;
            bytes += json.len();
        }
    }
    report(name, events, begun.elapsed(), bytes, before);
    engine.shutdown().await?;
    Ok(())
}

/// How long it takes to find a place in the journal.
async fn seek(settings: &Settings) -> Result<()> {
    let engine = Engine::open(settings.engine()).await?;
    let last = engine.durable_lsn().0;
    let mut times = Vec::new();
    for n in 1..=50 {
        let after = EventId { lsn: boxoffice::Lsn(last * n / 51), index: 0 };
        let begun = Instant::now();
        engine.events(after, EventFilter::ALL).next(1).await?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    println!(
        "{:<52} {:>10.1} ms median   {:.1} ms at the most",
        "the first event after any",
        millis(times[25]),
        millis(times[49])
    );
    engine.shutdown().await?;
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

async fn over_http(settings: &Settings) -> Result<()> {
    let engine = Engine::open(settings.engine()).await?;
    // Makes the key, which the server does else.
    auth::Verifier::new(settings)?;
    let admin = auth::issue(settings, &"admin".parse()?, Some(Role::Admin), Duration::from_secs(3_600))?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let server_settings = settings.clone();
    let server = std::thread::spawn(move || {
        let shutdown = async {
            let _ = stopped.await;
        };
        actix_web::rt::System::new().block_on(boxoffice::server::run(listener, None, engine, server_settings, shutdown))
    });
    // The server brings reqwest with TLS, which wants to be told how to do it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::new();
    forget_peak();
    let (before, _) = memory();
    let begun = Instant::now();
    let (mut events, mut bytes, mut after) = (0, 0, String::new());
    loop {
        let url = format!("http://{address}/v1/events?limit=500{after}");
        let page = client.get(url).bearer_auth(&admin).send().await?.error_for_status()?.bytes().await?;
        let found = page.windows(SPECVERSION.len()).filter(|bytes| *bytes == SPECVERSION).count();
        if found == 0 {
            break;
        }
        events += found;
        bytes += page.len();
        let end = std::str::from_utf8(&page[page.len().saturating_sub(100)..])?;
        let id = end.rsplit_once(r#""next_after":""#).and_then(|(_, id)| id.split('"').next()).ok_or("next_after")?;
        after = format!("&after={id}");
    }
    report("GET /v1/events, pages of 500", events, begun.elapsed(), bytes, before);
    let _ = stop.send(());
    server.join().map_err(|_| "the server panicked")??;
    Ok(())
}

/// Deliveries to a receiver that answers at once, from `start` on.
async fn deliver(name: &str, settings: &Settings, format: Format, start: Start) -> Result<()> {
    let engine = Engine::open(settings.engine()).await?;
    let mut child = Command::new(std::env::current_exe()?).arg("receive").stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("stdout")?).read_line(&mut line)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let (listener, handle, server_settings) = (TcpListener::bind("127.0.0.1:0")?, engine.clone(), settings.clone());
    let server = std::thread::spawn(move || {
        let shutdown = async {
            let _ = stopped.await;
        };
        actix_web::rt::System::new().block_on(boxoffice::server::run(listener, None, handle, server_settings, shutdown))
    });
    forget_peak();
    let (before, _) = memory();
    let events = {
        let after = if let Start::After(after) = start { after } else { EventId::default() };
        count(&engine, after).await?
    };
    let begun = Instant::now();
    let receiver = Destination::Webhook { url: format!("http://{}/", line.trim()), format };
    let (sink, _) = engine.register_sink(receiver, EventFilter::ALL, start).await?;
    while engine.sink(sink).await?.lag > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    report(name, events, begun.elapsed(), 0, before);
    engine.remove_sink(sink).await?;
    let _ = stop.send(());
    server.join().map_err(|_| "the server panicked")??;
    child.kill()?;
    child.wait()?;
    Ok(())
}

async fn count(engine: &Engine, after: EventId) -> Result<usize> {
    let mut stream = engine.events(after, EventFilter::ALL);
    let mut events = 0;
    loop {
        match stream.available(500).await?.events.len() {
            0 => return Ok(events),
            some => events += some,
        }
    }
}

/// Takes whatever comes, and says so.
async fn receive() -> Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut bytes = Vec::with_capacity(1 << 21);
            loop {
                let head = loop {
                    if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                        break end + 4;
                    }
                    if stream.read_buf(&mut bytes).await? == 0 {
                        return Ok(());
                    }
                };
                let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
                let length =
                    text.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next()?.parse().ok());
                let whole = head + length.unwrap_or(0);
                while bytes.len() < whole {
                    stream.read_buf(&mut bytes).await?;
                }
                bytes.drain(..whole);
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
            }
            #[expect(unreachable_code, reason = "names the type")]
            Ok::<_, std::io::Error>(())
        });
    }
}

/// What each event begins with.
const SPECVERSION: &[u8] = br#"{"specversion":"#;

fn settings(dir: &Path) -> Settings {
    let mut settings = Settings { data_dir: dir.to_path_buf(), ..Settings::default() };
    settings.limits.user_open_holds = 0;
    settings.limits.user_requests_per_second = 0;
    settings.webhooks.allow_private_addresses = true;
    settings
}

async fn run(events: usize) -> Result<()> {
    let dir = scratch("events");
    let settings = settings(&dir);
    // In a process of its own, so that the memory that is counted here is that of reading.
    let fill = Command::new(std::env::current_exe()?).arg(&dir).arg(events.to_string()).status()?;
    if !fill.success() {
        return Err("there are no events to read".into());
    }
    seek(&settings).await?;
    read("Engine::events", &settings, EventFilter::ALL, Make::Events).await?;
    read("Engine::events, as JSON", &settings, EventFilter::ALL, Make::Json).await?;
    let filter = [EventType::PaymentCompleted].into_iter().collect();
    read("Engine::events, payments only, as JSON", &settings, filter, Make::Json).await?;
    let mut forgetful = settings.clone();
    forgetful.events.remembered = 64;
    read("Engine::events, as JSON, remembering 64", &forgetful, EventFilter::ALL, Make::Json).await?;
    over_http(&settings).await?;
    deliver("webhooks, batches of 500", &settings, Format::Batch, Start::Beginning).await?;
    // The last fifth: they are slower.
    let engine = Engine::open(settings.engine()).await?;
    let after = EventId::end_of(boxoffice::Lsn(engine.durable_lsn().0 / 5 * 4));
    engine.shutdown().await?;
    deliver("webhooks, one signed request an event", &settings, Format::Cloudevent, Start::After(after)).await?;
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match &arguments[..] {
        [receiver] if receiver == "receive" => runtime.block_on(receive()),
        [dir, events] => runtime.block_on(fill(&settings(Path::new(dir)), events.parse()?)),
        [events] => runtime.block_on(run(events.parse()?)),
        _ => runtime.block_on(run(1_000_000)),
    }
}
