//! The server: holds and purchases over HTTP with a token each, beside an actix-web JSON echo in the same run.
//!
//! `cargo bench --bench http [-- SECONDS]`. The load generator runs on the same cores: keep-alive connections, each of
//! which sends the next request when it has the last answer.

mod common;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::{App, HttpServer, web};
use boxoffice::server::auth;
use boxoffice::server::config::Settings;
use boxoffice::{Engine, OptionId, Points};
use common::{Result, concert, house, new_option, percentile, processor_time, scratch};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONNECTIONS: usize = 64;

/// One keep-alive connection.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(8192) })
    }

    /// Sends a request and reads its answer; gives the body.
    async fn ask(&mut self, method: &str, path: &str, token: &str, body: &str) -> Result<&str> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: \
             application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await?;
            if read == 0 {
                return Err("the server closed the connection".into());
            }
            let Some(head) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
            let text = std::str::from_utf8(&self.buffer[..head])?;
            // The one way in which actix writes it.
            let length = text.split_once("content-length: ").and_then(|(_, rest)| rest.lines().next()?.parse().ok());
            let end = head + 4 + length.unwrap_or(0_usize);
            if self.buffer.len() >= end {
                let status = text.split(' ').nth(1).unwrap_or_default().to_owned();
                let body = std::str::from_utf8(&self.buffer[head + 4..end])?;
                return if status.starts_with('2') { Ok(body) } else { Err(format!("{status} {body}").into()) };
            }
        }
    }
}

/// What a drive has come to.
struct Driven {
    elapsed: Duration,
    /// Processor time of this process: of the server, the engine and the load generator.
    cpu: Duration,
    latencies: Vec<u32>,
}

fn report(name: &str, driven: Driven) -> f64 {
    let Driven { elapsed, cpu, mut latencies } = driven;
    latencies.sort_unstable();
    let rate = latencies.len() as f64 / elapsed.as_secs_f64();
    let cpu_us = cpu.as_secs_f64() * 1e6 / latencies.len() as f64;
    let (p50, p99) = (percentile(&latencies, 0.5), percentile(&latencies, 0.99));
    println!("{name:<40} {rate:>8.0}/s   p50 {p50:>6} us   p99 {p99:>6} us   processor {cpu_us:>5.1} us each");
    rate
}

/// Drives `CONNECTIONS` connections through `step`, which does some requests and counts how long each took.
async fn drive<F>(
    address: SocketAddr,
    duration: Duration,
    step: impl Fn(usize, Connection, Instant) -> F,
) -> Result<Driven>
where
    F: Future<Output = Result<Vec<u32>>> + Send + 'static,
{
    let (begun, cpu_before) = (Instant::now(), processor_time()?);
    let mut tasks = Vec::new();
    for n in 0..CONNECTIONS {
        tasks.push(tokio::spawn(step(n, Connection::open(address).await?, begun + duration)));
    }
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    Ok(Driven { elapsed: begun.elapsed(), cpu: processor_time()? - cpu_before, latencies })
}

/// Starts a server on its own thread with `serve`; gives its address and what stops it.
fn start<F: Future<Output = ()>>(
    serve: impl FnOnce(TcpListener, oneshot::Receiver<()>) -> F + Send + 'static,
) -> Result<(SocketAddr, oneshot::Sender<()>, std::thread::JoinHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::spawn(move || actix_web::rt::System::new().block_on(serve(listener, stopped)));
    Ok((address, stop, thread))
}

async fn echo(duration: Duration) -> Result<f64> {
    let (address, stop, thread) = start(|listener, stopped| async move {
        let app = || App::new().route("/echo", web::post().to(|body: web::Json<serde_json::Value>| async { body }));
        let server = HttpServer::new(app).workers(2).listen(listener).expect("it can listen").run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        let _ = stopped.await;
        handle.stop(false).await;
    })?;
    let driven = drive(address, duration, |_, mut connection, until| async move {
        let mut latencies = Vec::new();
        while Instant::now() < until {
            let begun = Instant::now();
            connection.ask("POST", "/echo", "none", r#"{"seats":["0-1","0-2"]}"#).await?;
            latencies.push(begun.elapsed().as_micros() as u32);
        }
        Ok(latencies)
    })
    .await?;
    let rate = report("actix-web JSON echo, 64 connections", driven);
    let _ = stop.send(());
    thread.join().map_err(|_| "the echo panicked")?;
    Ok(rate)
}

/// Seats in a row of the house, and its rows.
const ROW_SEATS: usize = 50;
const ROWS: usize = 1_200;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sale {
    /// Seats are held and released again, two requests that are counted each.
    Holds,
    /// Seats are held and paid, two requests that are counted as one purchase.
    Purchases,
}

/// One of the users, each of whom has rows of their own.
struct Buyer {
    connection: Connection,
    token: String,
    first_row: usize,
    options: Arc<Vec<OptionId>>,
}

impl Buyer {
    async fn hold(&mut self, option: OptionId, row: usize, seat: usize) -> Result<String> {
        let wish = format!(r#"{{"seats":["{row}-{seat}","{row}-{}"]}}"#, seat + 1);
        let path = format!("/v1/options/{option}/reservations");
        let held = self.connection.ask("POST", &path, &self.token, &wish).await?;
        Ok(held.split('"').nth(3).ok_or("an id")?.to_owned())
    }

    async fn hold_and_release(mut self, until: Instant) -> Result<Vec<u32>> {
        let mut latencies = Vec::new();
        while Instant::now() < until {
            let begun = Instant::now();
            let id = self.hold(self.options[0], self.first_row, 0).await?;
            latencies.push(begun.elapsed().as_micros() as u32);
            let released = Instant::now();
            self.connection.ask("DELETE", &format!("/v1/reservations/{id}"), &self.token, "").await?;
            latencies.push(released.elapsed().as_micros() as u32);
        }
        Ok(latencies)
    }

    async fn buy(mut self, until: Instant) -> Result<Vec<u32>> {
        let mut latencies = Vec::new();
        let rows = self.first_row..self.first_row + ROWS / CONNECTIONS;
        for option in self.options.clone().iter() {
            for (row, pair) in rows.clone().flat_map(|row| (0..ROW_SEATS / 2).map(move |pair| (row, pair))) {
                if Instant::now() >= until {
                    return Ok(latencies);
                }
                let begun = Instant::now();
                let id = self.hold(*option, row, 2 * pair).await?;
                self.connection.ask("POST", &format!("/v1/reservations/{id}/payments"), &self.token, "{}").await?;
                latencies.push(begun.elapsed().as_micros() as u32);
            }
        }
        Err("everything is sold".into())
    }
}

async fn sale(engine: Engine, settings: Settings, sale: Sale, duration: Duration) -> Result<f64> {
    let concert = concert(&engine).await?;
    // What is bought stays bought: enough for 57,600 purchases a second.
    let count = if sale == Sale::Holds { 1 } else { 2 * duration.as_secs() };
    let mut options = Vec::new();
    for _ in 0..count {
        let option = new_option(&engine, house(ROWS * ROW_SEATS, ROW_SEATS))?;
        options.push(engine.add_option(concert, option, None).await?.value.id);
    }
    let options = Arc::new(options);
    let mut tokens = Vec::new();
    for n in 0..CONNECTIONS {
        let user = format!("user-{n}").parse()?;
        engine.charge(&user, Points::new(1 << 40).ok_or("points")?, &user, None).await?;
        tokens.push(auth::issue(&settings, &user, None, Duration::from_secs(3_600))?);
    }
    let (address, stop, thread) = start(|listener, stopped| async move {
        let shutdown = async {
            let _ = stopped.await;
        };
        if let Err(error) = boxoffice::server::run(listener, None, engine, settings, shutdown).await {
            eprintln!("{error}");
        }
    })?;
    let driven = drive(address, duration, |n, connection, until| {
        let (token, first_row) = (tokens[n].clone(), n * (ROWS / CONNECTIONS));
        let buyer = Buyer { connection, token, first_row, options: options.clone() };
        async move {
            match sale {
                Sale::Holds => buyer.hold_and_release(until).await,
                Sale::Purchases => buyer.buy(until).await,
            }
        }
    })
    .await?;
    let name = match sale {
        Sale::Holds => "hold, release over HTTP, 64 connections",
        Sale::Purchases => "purchase (hold, pay) over HTTP, 64",
    };
    let rate = report(name, driven);
    let _ = stop.send(());
    thread.join().map_err(|_| "the server panicked")?;
    Ok(rate)
}

async fn served(kind: Sale, duration: Duration) -> Result<f64> {
    let dir = scratch("http");
    // As for the server: BOXOFFICE_ACTORS_ARBITERS=1 and so on.
    let mut settings = Settings::load(None, std::env::vars(), &[])?;
    settings.data_dir = dir.clone();
    settings.limits.user_requests_per_second = 0;
    settings.limits.user_open_holds = 0;
    let engine = Engine::open(settings.engine()).await?;
    let rate = sale(engine, settings, kind, duration).await;
    std::fs::remove_dir_all(dir)?;
    rate
}

fn main() -> Result<()> {
    let seconds = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(5);
    let duration = Duration::from_secs(seconds);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let (mut holds, mut purchases) = (Vec::new(), Vec::new());
        // Interleaved, since timings drift.
        for _ in 0..3 {
            let ceiling = echo(duration).await?;
            holds.push(served(Sale::Holds, duration).await? / ceiling);
            purchases.push(served(Sale::Purchases, duration).await? / ceiling);
        }
        for (name, ratios) in [("holds and releases", &mut holds), ("purchases", &mut purchases)] {
            ratios.sort_by(f64::total_cmp);
            println!("{name} / echo, median of 3: {:.2}", ratios[1]);
        }
        Ok(())
    })
}
