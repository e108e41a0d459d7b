//! Live seats: subscribers in another process, all of one option, of which 2,000 seats a second change; beside a bare
//! writer of frames of the same size in the same run.
//!
//! `cargo bench --bench live [-- SUBSCRIBERS [SECONDS [PERCENT]]]`: so many per cent do not read in the second run, 10 unless
//! it is said. Each subscriber is a connection of its own. Latency is counted from when a change was decided, a little before
//! its commit, to when the other process has the whole frame; of a frame that holds many changes, from the first of them.
//!
//! `cargo bench --bench live -- follower [SUBSCRIBERS [SECONDS]]`: of two nodes on three NATS servers, this process owns the log
//! and sells, and one that follows, in a process of its own, has the subscribers; beside the same sale with nobody looking on.

mod common;
#[path = "../tests/cluster_nats/servers.rs"]
mod servers;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use boxoffice::cluster::{ClusterConfig, Secret};
use boxoffice::server::config::Settings;
use boxoffice::{Engine, EventFilter, EventId, Lsn, NewOption, OptionId, Points, Wish};
use common::{Result, concert, processor_time};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What changes a second.
const SEATS_PER_SECOND: usize = 2_000;
/// What one hold takes.
const SEATS_PER_HOLD: usize = 4;
/// How often each of what is compared is run, by turns; what counts of their latencies is the median.
const ROUNDS: u8 = 3;
/// How long subscribers have to hear the last change once there are no more.
const CATCH_UP: Duration = Duration::from_secs(30);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit { current: limit.maximum, ..limit },
    )?;
    match arguments.first().map(String::as_str) {
        Some("subscribe") => subscribers::run(&serde_json::from_str(&arguments[1])?),
        Some("follow") => follower::run(serde_json::from_str(&arguments[1])?),
        first => {
            let of_follower = first == Some("follower");
            let number = |place: usize, default| {
                arguments.get(place + usize::from(of_follower)).map_or(Ok(default), |text| text.parse())
            };
            if of_follower {
                return follower::bench(number(0, 10_000)?, Duration::from_secs(number(1, 10)? as u64));
            }
            bench(number(0, 10_000)?, Duration::from_secs(number(1, 10)? as u64), number(2, 10)?)
        }
    }
}

/// What the other process is to do.
#[derive(Serialize, Deserialize)]
struct Orders {
    address: SocketAddr,
    /// Where its connections come from: so many ports has one address only.
    from: Ipv4Addr,
    /// What to ask for; empty: it is not a WebSocket, only bytes.
    path: String,
    subscribers: usize,
    /// How many of them do not read.
    deaf: usize,
}

/// What it has seen.
#[derive(Serialize, Deserialize, Default)]
struct Seen {
    /// Frames by previous seq and seq: at which milliseconds of the wall clock how many came.
    frames: Vec<(u64, u64, BTreeMap<u64, u64>)>,
    /// Of all frames that are deltas.
    bytes: u64,
    /// Subscribers that have not come to the end, or had a gap.
    incomplete: usize,
    /// Subscribers that were looked at in full, and did not end with the right seats.
    wrong: usize,
    /// Time on the processors since all had connected.
    cpu: Duration,
}

/// The subscribers, in a process of their own.
mod subscribers {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    /// Of how many one keeps the whole picture.
    const LOOKED_AT: usize = 1_000;

    /// What a subscriber has heard.
    #[derive(Default)]
    struct Heard {
        seq: u64,
        gap: bool,
        bytes: u64,
        /// Previous seq, seq, and when it came.
        frames: Vec<(u64, u64, u64)>,
        seats: Option<BTreeMap<String, String>>,
    }

    /// Where all of them read to, one after the other.
    type Scratch = Rc<RefCell<Vec<u8>>>;

    pub(super) fn run(orders: &Orders) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        tokio::task::LocalSet::new().block_on(&runtime, follow(orders))
    }

    async fn follow(orders: &Orders) -> Result<()> {
        let scratch: Scratch = Rc::new(RefCell::new(vec![0; 1 << 16]));
        let (mut all, mut deaf) = (Vec::new(), Vec::new());
        for n in 0..orders.subscribers {
            let socket = TcpSocket::new_v4()?;
            socket.bind((orders.from, 0).into())?;
            let is_deaf = n < orders.deaf;
            if is_deaf {
                socket.set_recv_buffer_size(4_096)?;
            }
            let mut stream = socket.connect(orders.address).await?;
            let seats = (n % LOOKED_AT == 0 && !orders.path.is_empty()).then(BTreeMap::new);
            let heard = Rc::new(RefCell::new(Heard { seats, ..Heard::default() }));
            if orders.path.is_empty() {
                tokio::task::spawn_local(listen(stream, None, scratch.clone()));
                continue;
            }
            let request = format!(
                "GET {} HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: \
                 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                orders.path
            );
            stream.write_all(request.as_bytes()).await?;
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await?);
            }
            if !head.starts_with(b"HTTP/1.1 101") {
                let mut body = vec![0; 1 << 12];
                let read = stream.read(&mut body).await?;
                head.extend_from_slice(&body[..read]);
                return Err(String::from_utf8_lossy(&head).into_owned().into());
            }
            if is_deaf {
                deaf.push(stream);
            } else {
                all.push(heard.clone());
                tokio::task::spawn_local(listen(stream, Some(heard), scratch.clone()));
            }
        }
        let connected = processor_time()?;
        println!("ready");
        let word = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).map(|_| line)
        });
        let word = word.await??;
        let (seq, held) = word.trim().split_once(' ').unwrap_or(("0", "0"));
        let (seq, held): (u64, usize) = (seq.parse()?, held.parse()?);
        let told_at = Instant::now();
        while all.iter().any(|heard| heard.borrow().seq < seq) && told_at.elapsed() < CATCH_UP {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut seen = Seen { cpu: processor_time()? - connected, ..Seen::default() };
        let mut frames: BTreeMap<(u64, u64), BTreeMap<u64, u64>> = BTreeMap::new();
        for heard in &all {
            let heard = heard.borrow();
            seen.bytes += heard.bytes;
            seen.incomplete += usize::from(heard.gap || heard.seq != seq);
            seen.wrong += usize::from(heard.seats.as_ref().is_some_and(|seats| seats.len() != held));
            for (previous, seq, at) in &heard.frames {
                *frames.entry((*previous, *seq)).or_default().entry(*at).or_default() += 1;
            }
        }
        seen.frames = frames.into_iter().map(|((previous, seq), times)| (previous, seq, times)).collect();
        println!("{}", serde_json::to_string(&seen)?);
        Ok(())
    }

    /// Reads frames for as long as there are any; bytes, if nobody wants to hear them.
    async fn listen(stream: TcpStream, heard: Option<Rc<RefCell<Heard>>>, scratch: Scratch) {
        // The beginning of a frame.
        let mut begun = Vec::new();
        while stream.readable().await.is_ok() {
            let mut scratch = scratch.borrow_mut();
            let read = match stream.try_read(&mut scratch) {
                Ok(0) => return,
                Ok(read) => &scratch[..read],
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(_) => return,
            };
            let Some(heard) = &heard else { continue };
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
            let mut bytes = read;
            if !begun.is_empty() {
                begun.extend_from_slice(read);
                bytes = &begun;
            }
            while let Some((head, text)) = frame(bytes) {
                let (frame, rest) = bytes.split_at(head + text);
                // Pings have no text.
                if text > 0 {
                    heard.borrow_mut().take(&frame[head..], now);
                }
                bytes = rest;
            }
            begun = bytes.to_vec();
        }
    }

    /// How long head and text of the first frame are, if it is whole.
    fn frame(bytes: &[u8]) -> Option<(usize, usize)> {
        let (head, text) = match bytes {
            [_, 127, length @ ..] => (10, u64::from_be_bytes(*length.first_chunk()?) as usize),
            [_, 126, length @ ..] => (4, u16::from_be_bytes(*length.first_chunk()?).into()),
            [_, length, ..] => (2, (*length).into()),
            _ => return None,
        };
        (bytes.len() >= head + text).then_some((head, text))
    }

    impl Heard {
        fn take(&mut self, text: &[u8], now: u64) {
            if let Some(rest) = text.strip_prefix(br#"{"type":"delta","seq":"#)
                && let (seq, rest) = number(rest)
                && let Some(rest) = rest.strip_prefix(br#","previous_seq":"#)
            {
                let (previous, _) = number(rest);
                self.gap |= previous != self.seq;
                self.bytes += text.len() as u64;
                self.frames.push((previous, seq, now));
                self.seq = seq;
            } else {
                let message: serde_json::Value = serde_json::from_slice(text).unwrap_or_default();
                self.seq = message["seq"].as_u64().unwrap_or(0);
            }
            if let Some(seats) = &mut self.seats {
                let message: serde_json::Value = serde_json::from_slice(text).unwrap_or_default();
                for (seat, status) in message["seats"].as_object().into_iter().flatten() {
                    seats.insert(seat.clone(), status.as_str().unwrap_or_default().to_owned());
                }
            }
        }
    }

    /// The number at the beginning, and what comes after it.
    fn number(text: &[u8]) -> (u64, &[u8]) {
        let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
        (text[..end].iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')), &text[end..])
    }
}

/// The other process.
struct Others {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Others {
    fn start(orders: &Orders) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("subscribe").arg(serde_json::to_string(orders)?);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let answers = BufReader::new(child.stdout.take().ok_or("no output")?);
        Ok(Self { child, answers })
    }

    /// Waits until all have connected.
    fn wait_ready(&mut self) -> Result<()> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if line.trim() == "ready" { Ok(()) } else { Err("the subscribers could not connect".into()) }
    }

    /// Tells them what the last seq is and how many seats are held, and takes what they have seen.
    fn finish(mut self, seq: u64, held: usize) -> Result<Seen> {
        let mut input = self.child.stdin.take().ok_or("no input")?;
        writeln!(input, "{seq} {held}")?;
        let mut text = String::new();
        self.answers.read_to_string(&mut text)?;
        self.child.wait()?;
        Ok(serde_json::from_str(&text)?)
    }
}

/// Bytes of memory of this process.
fn memory() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1_024)
}

/// The server, the engine in it, and who drives it.
struct Sale {
    engine: Engine,
    address: SocketAddr,
    concert: boxoffice::ConcertId,
    buyers: AtomicUsize,
}

/// What one run came to, or several.
#[derive(Default)]
struct Run {
    frames: u64,
    bytes: u64,
    /// Of this process, and of the other one.
    cpu: [Duration; 2],
    /// In milliseconds; the median of several.
    p50: u64,
    p99: u64,
    memory: u64,
    incomplete: usize,
    wrong: usize,
}

impl Run {
    fn sum(runs: &[Self]) -> Self {
        let median = |of: fn(&Self) -> u64| {
            let mut sorted: Vec<_> = runs.iter().map(of).collect();
            sorted.sort_unstable();
            sorted[sorted.len() / 2]
        };
        let mut sum = Self { p50: median(|run| run.p50), p99: median(|run| run.p99), ..Self::default() };
        for run in runs {
            sum.frames += run.frames;
            sum.bytes += run.bytes;
            sum.cpu = [sum.cpu[0] + run.cpu[0], sum.cpu[1] + run.cpu[1]];
            sum.memory = sum.memory.max(run.memory);
            sum.incomplete += run.incomplete;
            sum.wrong += run.wrong;
        }
        sum
    }
}

/// Of how often each of them was.
fn percentile(latencies: &BTreeMap<u64, u64>, of: f64) -> u64 {
    let all: u64 = latencies.values().sum();
    let mut rank = (all as f64 * of) as u64;
    for (latency, count) in latencies {
        if rank < *count {
            return *latency;
        }
        rank -= count;
    }
    latencies.keys().last().copied().unwrap_or(0)
}

impl Sale {
    async fn option(&self, seats: usize) -> Result<OptionId> {
        let seat = |n: usize| {
            format!(
                r#"{{"seat_guid":"B-{n:05}","seat_number":"{n}","category":"A","position":{{"x":{},"y":{}}}}}"#,
                n % 200,
                n / 200
            )
        };
        let seats: Vec<_> = (0..seats).map(seat).collect();
        let rows: Vec<_> = seats
            .chunks(200)
            .enumerate()
            .map(|(row, seats)| format!(r#"{{"row_number":"{row}","seats":[{}]}}"#, seats.join(",")))
            .collect();
        let plan =
            format!(r#"{{"categories":[{{"name":"A"}}],"zones":[{{"name":"Hall","rows":[{}]}}]}}"#, rows.join(","));
        let tomorrow = self.engine.now().plus_millis(86_400_000);
        let prices = vec![("A".into(), Points::new(1).ok_or("no such price")?)];
        let option = NewOption { prices, hold_seconds: 3_600, ..NewOption::new(tomorrow, plan.into_bytes()) };
        Ok(self.engine.add_option(self.concert, option, None).await?.value.id)
    }

    /// Holds seats at a steady pace for so long; gives how many.
    async fn sell(self: &Arc<Self>, option: OptionId, duration: Duration) -> Result<usize> {
        let begun = Instant::now();
        let pace = Duration::from_secs(1) * SEATS_PER_HOLD as u32 / SEATS_PER_SECOND as u32;
        let mut holds = Vec::new();
        let mut count = 0;
        while begun.elapsed() < duration {
            let due = (begun.elapsed().as_nanos() / pace.as_nanos()) as usize;
            while count < due {
                let seats = (0..SEATS_PER_HOLD).map(|n| format!("B-{:05}", count * SEATS_PER_HOLD + n)).collect();
                let buyer = format!("buyer-{}", self.buyers.fetch_add(1, Ordering::Relaxed)).parse()?;
                let sale = self.clone();
                holds.push(tokio::spawn(async move {
                    sale.engine.hold(option, &buyer, Wish::Seats(seats), None, None).await.map(|_| ())
                }));
                count += 1;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for hold in holds {
            hold.await??;
        }
        Ok(count * SEATS_PER_HOLD)
    }

    async fn run(self: &Arc<Self>, from: u8, subscribers: usize, deaf: usize, duration: Duration) -> Result<Run> {
        let seats = SEATS_PER_SECOND * (duration.as_secs() as usize + 1);
        let option = self.option(seats).await?;
        let memory_before = memory()?;
        let path = format!("/v1/options/{option}/live");
        let orders = Orders { address: self.address, from: Ipv4Addr::new(127, 0, 0, from), path, subscribers, deaf };
        let mut others = tokio::task::block_in_place(|| Others::start(&orders))?;
        tokio::task::block_in_place(|| others.wait_ready())?;
        let after = Lsn(self.engine.stats().durable_lsn);
        let cpu_before = processor_time()?;
        let held = self.sell(option, duration).await?;
        let cpu = processor_time()? - cpu_before;
        let memory = memory()?.saturating_sub(memory_before);
        let seq = self.engine.seats_seq(option).await?;
        let seen = tokio::task::block_in_place(|| others.finish(seq.0, held))?;
        let decided = self.decided(option, after, seq).await?;
        let mut latencies: BTreeMap<u64, u64> = BTreeMap::new();
        for (previous, _, times) in &seen.frames {
            let first = decided.range(previous + 1..).next().map_or(0, |(_, at)| *at);
            for (at, count) in times {
                *latencies.entry(at.saturating_sub(first)).or_default() += count;
            }
        }
        Ok(Run {
            frames: latencies.values().sum(),
            bytes: seen.bytes,
            cpu: [cpu, seen.cpu],
            p50: percentile(&latencies, 0.5),
            p99: percentile(&latencies, 0.99),
            memory,
            incomplete: seen.incomplete,
            wrong: seen.wrong,
        })
    }

    /// What so many subscribers cost that hear nothing for five seconds.
    async fn idle(self: &Arc<Self>, subscribers: usize) -> Result<Duration> {
        let path = format!("/v1/options/{}/live", self.option(1).await?);
        let from = Ipv4Addr::new(127, 0, 1, 1);
        let orders = Orders { address: self.address, from, path, subscribers, deaf: 0 };
        let mut others = tokio::task::block_in_place(|| Others::start(&orders))?;
        tokio::task::block_in_place(|| others.wait_ready())?;
        let before = processor_time()?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let idle = processor_time()? - before;
        tokio::task::block_in_place(|| others.finish(0, 0))?;
        Ok(idle)
    }

    /// When the changes of an option were decided, in milliseconds of the wall clock, by lsn.
    async fn decided(&self, option: OptionId, after: Lsn, last: Lsn) -> Result<BTreeMap<u64, u64>> {
        let mut events = self.engine.events(EventId::end_of(after), EventFilter::ALL);
        let mut decided = BTreeMap::new();
        loop {
            let batch = events.available(500).await?;
            let of_option = batch.events.iter().filter(|event| event.source == format!("/options/{option}"));
            decided.extend(of_option.map(|event| (event.id.lsn.0, event.time.as_millis())));
            if batch.position.lsn >= last {
                return Ok(decided);
            }
        }
    }
}

/// A node that follows, in a process of its own.
mod follower {
    use super::*;
    use servers::Servers;

    /// Where it finds the log, and keeps what it has.
    #[derive(Serialize, Deserialize)]
    pub(super) struct Place {
        data_dir: PathBuf,
        node: String,
        servers: Vec<String>,
        monitor: Vec<String>,
    }

    impl Place {
        fn settings(self) -> Settings {
            let Self { data_dir, node, servers, monitor } = self;
            let cluster = ClusterConfig {
                servers,
                monitor,
                node,
                name: "bench".to_owned(),
                secret: Secret::new("a secret of thirty-two bytes, or more"),
                ..ClusterConfig::default()
            };
            let mut settings = Settings { data_dir, cluster, ..Settings::default() };
            settings.limits.user_open_holds = 0;
            // Of the files that it may have open, so that others are left for those who look on.
            settings.http.max_connections = 1_000;
            settings
        }
    }

    /// Serves until its input ends.
    pub(super) fn run(place: Place) -> Result<()> {
        let settings = place.settings();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let joining = settings.cluster.clone().joining(false)?;
        let engine = runtime.block_on(Engine::open_in_cluster(settings.engine(), joining))?;
        let serving = serve(&engine, settings)?;
        println!("{}", serving.address);
        std::io::stdin().read_to_string(&mut String::new())?;
        serving.stop()?;
        Ok(runtime.block_on(engine.shutdown())?)
    }

    pub(super) fn bench(subscribers: usize, duration: Duration) -> Result<()> {
        let nats = Servers::start(3);
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let place = |node: &str| {
            let ClusterConfig { servers, monitor, .. } = nats.config(node);
            Place { data_dir: dir.path().join(node), node: node.to_owned(), servers, monitor }
        };
        let settings = place("owner").settings();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let joining = settings.cluster.clone().joining(true)?;
        let engine = runtime.block_on(Engine::open_in_cluster(settings.engine(), joining))?;
        while !engine.membership().is_some_and(|seen| seen.owns) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("follow").arg(serde_json::to_string(&place("follower"))?);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        let address = line.trim().parse()?;
        let (alone, watched) = runtime.block_on(async {
            let concert = concert(&engine).await?;
            let sale = Arc::new(Sale { engine: engine.clone(), address, concert, buyers: AtomicUsize::new(0) });
            let (mut alone, mut watched) = (Vec::new(), Vec::new());
            for round in 0..ROUNDS {
                alone.push(sale.run(3 + 2 * round, 0, 0, duration).await?);
                watched.push(sale.run(4 + 2 * round, subscribers, 0, duration).await?);
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((Run::sum(&alone), Run::sum(&watched)))
        })?;
        let frames_per_second = watched.frames / (duration.as_secs() * u64::from(ROUNDS)).max(1);
        tell("frames a second of the follower", format!("{frames_per_second}"));
        tell("the owner's processor time, nobody looking on", format!("{} ms", alone.cpu[0].as_millis()));
        let ratio = watched.cpu[0].as_secs_f64() / alone.cpu[0].as_secs_f64();
        judge("  beside it with subscribers, within 1.05", format!("{ratio:.3} times"), ratio <= 1.05);
        tell("latency p50", format!("{} ms", watched.p50));
        judge("latency p99, below 350 ms", format!("{} ms", watched.p99), watched.p99 < 350);
        let faults = format!("{} + {}", watched.incomplete, watched.wrong);
        judge("readers with a gap or a wrong end", faults, watched.incomplete + watched.wrong == 0);
        drop(child.stdin.take());
        child.wait()?;
        Ok(runtime.block_on(engine.shutdown())?)
    }
}

/// Writes frames of so many bytes to so many connections, one after the other, and does nothing else.
fn bare_writer(connections: usize, bytes: u64, frames: u64) -> Result<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let orders = Orders {
        address: listener.local_addr()?,
        from: Ipv4Addr::new(127, 0, 0, 9),
        path: String::new(),
        subscribers: connections,
        deaf: 0,
    };
    let mut others = Others::start(&orders)?;
    let mut streams = Vec::new();
    for _ in 0..connections {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    others.wait_ready()?;
    let frame = vec![b'x'; bytes as usize];
    let before = processor_time()?;
    for _ in 0..frames.div_ceil(connections as u64) {
        for stream in &mut streams {
            stream.write_all(&frame)?;
        }
    }
    let cpu = processor_time()? - before;
    drop(streams);
    others.finish(0, 0)?;
    Ok(cpu)
}

/// A server on a thread of its own.
struct Serving {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<std::result::Result<(), boxoffice::server::Error>>,
}

fn serve(engine: &Engine, settings: Settings) -> Result<Serving> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = engine.clone();
    let thread = std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let shutdown = async { drop(stopped.await) };
            boxoffice::server::run(listener, None, serving, settings, shutdown).await
        })
    });
    Ok(Serving { address, stop, thread })
}

impl Serving {
    fn stop(self) -> Result<()> {
        let _ = self.stop.send(());
        Ok(self.thread.join().map_err(|_| "the server panicked")??)
    }
}

fn tell(what: &str, value: String) {
    println!("{what:<46} {value:>12}");
}

fn judge(what: &str, value: String, holds: bool) {
    println!("{what:<46} {value:>12}   {}", if holds { "ok" } else { "MISSED" });
}

fn bench(subscribers: usize, duration: Duration, deaf_percent: usize) -> Result<()> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut settings = Settings { data_dir: dir.path().join("data"), ..Settings::default() };
    settings.limits.user_open_holds = 0;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let engine = runtime.block_on(Engine::open(settings.engine()))?;
    let serving = serve(&engine, settings)?;
    let address = serving.address;
    runtime.block_on(async {
        let concert = concert(&engine).await?;
        let sale = Arc::new(Sale { engine: engine.clone(), address, concert, buyers: AtomicUsize::new(0) });
        let idle = sale.idle(subscribers).await?;
        // What the sale itself costs, with nobody looking on.
        let alone = sale.run(2, 0, 0, duration).await?;
        let (mut all, mut some) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            all.push(sale.run(3 + 2 * round, subscribers, 0, duration).await?);
            some.push(sale.run(4 + 2 * round, subscribers, subscribers * deaf_percent / 100, duration).await?);
        }
        let (all, some) = (Run::sum(&all), Run::sum(&some));
        let frame_bytes = all.bytes / all.frames.max(1);
        let bare_frames = all.frames / u64::from(ROUNDS);
        let bare = tokio::task::block_in_place(|| bare_writer(subscribers, frame_bytes, bare_frames))?;
        let each = |cpu: Duration, frames: u64| cpu.as_secs_f64() * 1e6 / frames.max(1) as f64;
        let live = |run: &Run| each(run.cpu[0].saturating_sub(alone.cpu[0] * u32::from(ROUNDS)), run.frames);
        tell("processor time of idle ones, in 5 s", format!("{} ms", idle.as_millis()));
        tell("processor time of the sale alone", format!("{} ms", alone.cpu[0].as_millis()));
        let bare = each(bare, bare_frames);
        tell("a frame of a bare writer", format!("{bare:.2} us"));
        for (name, run) in [("all read", &all), ("some do not read", &some)] {
            println!("{name}:");
            let frames_per_second = run.frames / (duration.as_secs() * u64::from(ROUNDS)).max(1);
            tell("  frames a second", format!("{frames_per_second} of {} B", run.bytes / run.frames.max(1)));
            let us = live(run);
            judge("  a frame, within 1.5 times of a bare one", format!("{us:.2} us"), us <= bare * 1.5);
            tell("  a frame at the other end", format!("{:.2} us", each(run.cpu[1], run.frames)));
            tell("  latency p50", format!("{} ms", run.p50));
            judge("  latency p99, below 250 ms", format!("{} ms", run.p99), run.p99 < 250);
            let faults = format!("{} + {}", run.incomplete, run.wrong);
            judge("  readers with a gap or a wrong end", faults, run.incomplete + run.wrong == 0);
            let memory = run.memory / subscribers.max(1) as u64;
            judge("  memory a subscriber, at most 32 KiB", format!("{memory} B"), memory <= 32 << 10);
        }
        let ratio = some.p99 as f64 / all.p99.max(1) as f64;
        judge("p99 beside those who do not read, below 1.1", format!("{ratio:.2} times"), ratio < 1.1);
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    })?;
    serving.stop()
}
