//! `GET /seats` of 60,000 taken seats: what a poll costs the server, and what pollers cost those who hold seats elsewhere,
//! beside readers who get as many bytes from a bare socket.
//!
//! `cargo bench --bench seats [-- SECONDS]`. The clients run on the same cores, in threads that are not counted.

mod common;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use boxoffice::server::auth;
use boxoffice::server::config::Settings;
use boxoffice::{Engine, OptionId};
use common::{Result, house, on_sale, percentile, scratch};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SEATS: usize = 60_000;
const ROW_SEATS: usize = 50;
const POLLERS: usize = 8;
const HOLDERS: usize = 16;
/// Of the clients' threads, which are not the server's.
const CLIENT: &str = "client";

/// What the threads of the server have had of the processors.
fn server_time() -> Result<Duration> {
    let mut nanos = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let path = task?.path();
        // A thread may end meanwhile.
        let Ok(name) = std::fs::read_to_string(path.join("comm")) else { continue };
        let Ok(times) = std::fs::read_to_string(path.join("schedstat")) else { continue };
        if !name.starts_with(CLIENT) {
            nanos += times.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
    }
    Ok(Duration::from_nanos(nanos))
}

/// A keep-alive connection that takes answers and keeps nothing of them but the first bytes.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 256 << 10] })
    }

    /// Sends a request and reads its answer; gives what came first, and how many bytes came in all.
    async fn ask(&mut self, request: &str) -> Result<(String, usize)> {
        self.stream.write_all(request.as_bytes()).await?;
        let mut first = Vec::new();
        let head = loop {
            let read = self.stream.read(&mut self.buffer).await?;
            if read == 0 {
                return Err("the server closed the connection".into());
            }
            first.extend_from_slice(&self.buffer[..read]);
            if let Some(head) = first.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break head + 4;
            }
        };
        let text = String::from_utf8_lossy(&first).into_owned();
        let length = text.split_once("content-length: ").and_then(|(_, rest)| rest.lines().next()?.parse().ok());
        let all = head + length.unwrap_or(0_usize);
        let mut come = first.len();
        while come < all {
            let read = self.stream.read(&mut self.buffer).await?;
            if read == 0 {
                return Err("the server closed the connection".into());
            }
            come += read;
        }
        if text.starts_with("HTTP/1.1 2") { Ok((text, all)) } else { Err(text.into()) }
    }
}

fn seats_request(option: OptionId) -> String {
    format!("GET /v1/options/{option}/seats HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// Polls until then; how often, and how many bytes came.
async fn poll(address: SocketAddr, request: String, until: Instant) -> Result<(u64, u64)> {
    let mut connection = Connection::open(address).await?;
    let (mut polls, mut bytes) = (0, 0);
    while Instant::now() < until {
        bytes += connection.ask(&request).await?.1 as u64;
        polls += 1;
    }
    Ok((polls, bytes))
}

/// Holds seats and releases them until then; gives how long each request took, in microseconds.
async fn hold(address: SocketAddr, option: OptionId, token: String, row: usize, until: Instant) -> Result<Vec<u32>> {
    let mut connection = Connection::open(address).await?;
    let mut latencies = Vec::new();
    let wish = format!(r#"{{"seats":["{row}-0","{row}-1"]}}"#);
    let common = format!("Host: localhost\r\nAuthorization: Bearer {token}\r\n");
    let hold = format!(
        "POST /v1/options/{option}/reservations HTTP/1.1\r\n{common}Content-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{wish}",
        wish.len()
    );
    while Instant::now() < until {
        let begun = Instant::now();
        let (held, _) = connection.ask(&hold).await?;
        latencies.push(begun.elapsed().as_micros() as u32);
        let body = held.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let id = body.split('"').nth(3).ok_or("an id")?;
        connection.ask(&format!("DELETE /v1/reservations/{id} HTTP/1.1\r\n{common}\r\n")).await?;
    }
    Ok(latencies)
}

/// The middle and the slowest hundredth of holds while `pollers` poll at `polled`.
async fn holds_beside(
    name: &str,
    house: &House,
    polled: Option<(SocketAddr, String)>,
    duration: Duration,
) -> Result<()> {
    let until = Instant::now() + duration;
    let pollers: Vec<_> = polled
        .into_iter()
        .flat_map(|polled| std::iter::repeat_n(polled, POLLERS))
        .map(|(address, request)| tokio::spawn(poll(address, request, until)))
        .collect();
    let holders: Vec<_> = house
        .tokens
        .iter()
        .enumerate()
        .map(|(n, token)| tokio::spawn(hold(house.address, house.other, token.clone(), n, until)))
        .collect();
    let mut latencies = Vec::new();
    for holder in holders {
        latencies.extend(holder.await??);
    }
    let mut bytes = 0;
    for poller in pollers {
        bytes += poller.await??.1;
    }
    latencies.sort_unstable();
    let [middle, slow] = [0.5, 0.99].map(|of| f64::from(percentile(&latencies, of)) / 1e3);
    let megabytes = bytes as f64 / 1e6 / duration.as_secs_f64();
    let holds = latencies.len() as f64 / duration.as_secs_f64();
    println!(
        "{name:<34} {holds:>8.0} holds/s   p50 {middle:>6.2} ms   p99 {slow:>6.2} ms   {megabytes:>6.0} MB/s polled"
    );
    Ok(())
}

/// What one poll costs the server, alone or while somebody else changes seats.
async fn cost_of_a_poll(name: &str, house: &House, changing: bool, duration: Duration) -> Result<()> {
    let polls = Arc::new(AtomicU64::new(0));
    let until = Instant::now() + duration;
    let before = server_time()?;
    let changes = async {
        let mut n = 0;
        while changing && Instant::now() < until {
            let seat = vec![format!("{}-{}", n / ROW_SEATS % (SEATS / ROW_SEATS), n % ROW_SEATS)];
            house.engine.unblock_seats(house.polled, seat.clone(), None).await?;
            house.engine.block_seats(house.polled, seat, None).await?;
            tokio::time::sleep(Duration::from_millis(10)).await;
            // All over the house.
            n += 7_919;
        }
        Ok::<_, boxoffice::Error>(())
    };
    let polling = async {
        let done = poll(house.address, seats_request(house.polled), until).await?;
        polls.store(done.0, Ordering::Relaxed);
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(done.1)
    };
    let (changed, bytes) = tokio::join!(changes, polling);
    changed?;
    let (polls, bytes) = (polls.load(Ordering::Relaxed), bytes?);
    let each = (server_time()? - before).as_secs_f64() * 1e3 / polls as f64;
    let rate = polls as f64 / duration.as_secs_f64();
    println!("{name:<34} {rate:>8.0} polls/s   {each:>6.3} ms of the server each   {} bytes", bytes / polls.max(1));
    Ok(())
}

/// A server with an option that is taken to the last seat, and another one.
struct House {
    engine: Engine,
    address: SocketAddr,
    polled: OptionId,
    other: OptionId,
    tokens: Vec<String>,
}

impl House {
    async fn open(settings: Settings) -> Result<(Self, oneshot::Sender<()>, std::thread::JoinHandle<()>)> {
        let engine = Engine::open(settings.engine()).await?;
        let polled = on_sale(&engine, house(SEATS, ROW_SEATS)).await?;
        let other = on_sale(&engine, house(SEATS, ROW_SEATS)).await?;
        let seats: Vec<_> = (0..SEATS).map(|n| format!("{}-{}", n / ROW_SEATS, n % ROW_SEATS)).collect();
        for some in seats.chunks(1_000) {
            engine.block_seats(polled, some.to_vec(), None).await?;
        }
        auth::Verifier::new(&settings)?;
        let token = |n| Ok(auth::issue(&settings, &format!("user-{n}").parse()?, None, Duration::from_secs(3_600))?);
        let tokens = (0..HOLDERS).map(token).collect::<Result<_>>()?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let served = engine.clone();
        let thread = std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let shutdown = async {
                    let _ = stopped.await;
                };
                if let Err(error) = boxoffice::server::run(listener, None, served, settings, shutdown).await {
                    eprintln!("{error}");
                }
            });
        });
        Ok((Self { engine, address, polled, other, tokens }, stop, thread))
    }
}

/// Sends `answer` to whoever sends anything, as often as they do.
async fn bare(answer: Vec<u8>) -> Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut request = [0; 1_024];
                while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                    if stream.write_all(&answer).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    Ok(address)
}

fn main() -> Result<()> {
    let seconds = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(5);
    let duration = Duration::from_secs(seconds);
    let dir = scratch("seats");
    let mut settings = Settings::load(None, std::env::vars(), &[])?;
    settings.data_dir = dir.clone();
    settings.limits.user_requests_per_second = 0;
    settings.limits.user_open_holds = 0;
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(2).thread_name(CLIENT).enable_all().build()?;
    let measured = runtime.block_on(runtime.spawn(async move {
        let (house, stop, thread) = House::open(settings).await?;
        let request = seats_request(house.polled);
        let bytes = Connection::open(house.address).await?.ask(&request).await?.1;
        // As many bytes, with no server behind them.
        let head = "HTTP/1.1 200 OK\r\ncontent-length: ";
        let body = bytes - head.len() - 11;
        let answer = format!("{head}{body:07}\r\n\r\n{}", "x".repeat(body)).into_bytes();
        let bare = bare(answer).await?;
        for _ in 0..2 {
            cost_of_a_poll("a poll, nothing changes", &house, false, duration).await?;
            cost_of_a_poll("a poll, seats change", &house, true, duration).await?;
            holds_beside("holds alone", &house, None, duration).await?;
            holds_beside("holds beside 8 bare readers", &house, Some((bare, request.clone())), duration).await?;
            holds_beside("holds beside 8 pollers", &house, Some((house.address, request.clone())), duration).await?;
        }
        let _ = stop.send(());
        thread.join().map_err(|_| "the server panicked")?;
        Result::Ok(())
    }));
    std::fs::remove_dir_all(dir)?;
    measured?
}
