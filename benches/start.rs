//! How long an engine takes to start: replay of a journal alone, building the state in sled from it, and starts after a
//! checkpoint, clean and after the process was killed.
//!
//! `cargo bench --bench start [-- EVENTS [USERS [REPLAYS]]]` writes a journal of so many events (10 million of 10,000 users), once,
//! replays it so many times (3), and prints a table. A quarter of the reservations is paid, and of the payments that the stadium
//! has no more seats for each is refunded; the others are released.

mod common;

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use boxoffice::domain::{Lsn, PaymentId, RefundId, ReservationId, Timestamp, concert_option, wallet};
use boxoffice::store::codec::{Facts, Record};
use boxoffice::store::disk::RealDisk;
use boxoffice::store::journal::{FrameRef, LocalLog, Log, Options};
use boxoffice::store::manifest::Manifest;
use boxoffice::testing::plans;
use boxoffice::{BestAvailable, Caller, Config, Engine, NewOption, OptionId, PageRequest, Points, UserId, Wish};
use common::{Result, concert, scratch};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Says that this process is the one to be killed, and where.
const VICTIM: &str = "BOXOFFICE_BENCH_VICTIM";
/// So many seats of the stadium are sold for good.
const SOLD: u64 = 40_000;
/// Records that share a frame, as those of a thousand callers do.
const FRAME_RECORDS: u32 = 500;

fn points(points: u64) -> Points {
    Points::new(points).unwrap_or(Points::MAX)
}

/// What happened to one option, as the engine would have written it down.
struct Script {
    option: OptionId,
    users: Vec<UserId>,
    entries: HashMap<usize, u64>,
    at: Timestamp,
    /// The last number given out on the option.
    no: u64,
    sold: u64,
    log: LocalLog,
    next: Lsn,
    payload: Vec<u8>,
    count: u32,
    records: u32,
}

impl Script {
    fn put(&mut self, facts: Facts) -> Result<()> {
        let record = Record { at: self.at, facts };
        record.encode_to(&mut self.payload);
        self.count += record.len() as u32;
        self.records += 1;
        if self.records == FRAME_RECORDS {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        let frame = FrameRef { first_lsn: self.next, count: self.count, at: self.at, payload: &self.payload };
        self.log.append(&frame)?;
        self.next.0 += u64::from(self.count);
        self.payload.clear();
        (self.count, self.records) = (0, 0);
        self.at = self.at.plus_millis(1);
        Ok(())
    }

    fn option(&mut self, event: concert_option::Event) -> Result<()> {
        self.put(Facts::Option(self.option, vec![event]))
    }

    fn entry(&mut self, user: usize) -> u64 {
        let entries = self.entries.entry(user).or_default();
        *entries += 1;
        *entries
    }

    /// A hold, and what becomes of it.
    fn reservation(&mut self, n: u64) -> Result<()> {
        let user = (n * 7919 % self.users.len() as u64) as usize;
        let name = self.users[user].clone();
        self.no += 1;
        let reservation = self.no;
        let paid = n.is_multiple_of(4);
        // What is sold for good are the first seats, and all others come and go behind them.
        let sold = paid && self.sold < SOLD;
        let seat = if sold { self.sold as u32 } else { (SOLD + n * 2 % (60_000 - SOLD)) as u32 };
        self.option(concert_option::Event::SeatsHeld {
            reservation,
            user: name.clone(),
            seats: [seat, seat + 1].as_slice().into(),
            areas: [].as_slice().into(),
            amount: points(2),
            expires_at: self.at.plus_millis(300_000),
            token: None,
            key: None,
            note: None,
            prices: [points(1)].into_iter().collect(),
            from_blocked: Vec::new(),
            by: None,
        })?;
        if !paid {
            return self.option(concert_option::Event::ReservationReleased { reservation, by: None });
        }
        self.no += 1;
        let payment = self.no;
        let deadline = self.at.plus_millis(60_000);
        self.option(concert_option::Event::PaymentStarted { payment, reservation, deadline, key: None })?;
        let (option, entry, balance) = (self.option, self.entry(user), points(1 << 40));
        let paid = PaymentId { option, no: payment };
        let debited =
            wallet::Event::Debited { entry, payment: paid, amount: points(2), balance, settled_below: payment };
        self.put(Facts::Wallet(name.clone(), vec![debited]))?;
        self.option(concert_option::Event::PaymentConfirmed { payment, balance, paid_at: self.at })?;
        if sold {
            self.sold += 2;
            return Ok(());
        }
        self.no += 1;
        let refund = self.no;
        self.option(concert_option::Event::PaymentRefunded { refund, payment, key: None, by: None })?;
        let entry = self.entry(user);
        let given = RefundId { option, no: refund };
        let credited =
            wallet::Event::Credited { entry, refund: given, amount: points(2), balance, settled_below: refund };
        self.put(Facts::Wallet(name, vec![credited]))?;
        self.option(concert_option::Event::RefundCredited { refund, balance, refunded_at: self.at, left: None })
    }
}

fn config(dir: &Path) -> Config {
    let mut config = Config { data_dir: dir.to_path_buf(), ..Config::default() };
    config.limits.user_open_holds = 0;
    config
}

/// Writes a data directory with a journal of `events` and no state. Gives the option and its last reservation.
async fn write_journal(dir: &Path, events: u64, users: u64) -> Result<ReservationId> {
    let mut without = config(dir);
    without.checkpoint.enabled = false;
    let engine = Engine::open(without).await?;
    let concert = concert(&engine).await?;
    let option = NewOption {
        prices: ["Gold", "Silver", "Bronze"].map(|name| (name.to_owned(), points(1))).to_vec(),
        ..NewOption::new(engine.now().plus_millis(1 << 32), plans::stadium())
    };
    let option = engine.add_option(concert, option, None).await?.value.id;
    let (at, next) = (engine.now(), Lsn(engine.stats().durable_lsn + 1));
    engine.shutdown().await?;
    let (log, _) = LocalLog::open(Arc::new(RealDisk), &dir.join("journal"), Options::default(), Lsn(0))?;
    let users = (0..users).map(|n| format!("user-{n}").parse()).collect::<std::result::Result<_, _>>()?;
    let mut script = Script {
        option,
        users,
        entries: HashMap::new(),
        at,
        no: 0,
        sold: 0,
        log,
        next,
        payload: Vec::new(),
        count: 0,
        records: 0,
    };
    let mut n = 0;
    while script.next.0 < events {
        script.reservation(n)?;
        n += 1;
    }
    script.write()?;
    Ok(ReservationId { option, no: script.no })
}

fn report(what: &str, took: Duration, events: u64) {
    let rate = events as f64 / took.as_secs_f64();
    println!("{what:<52} {:>9.0} ms {rate:>12.0} events/s", took.as_secs_f64() * 1e3);
}

/// Starts, makes sure that something can be had of it, and stops; gives how long the start took.
async fn start(config: &Config, last: ReservationId) -> Result<Duration> {
    let begun = Instant::now();
    let engine = Engine::open(config.clone()).await?;
    let took = begun.elapsed();
    let user: UserId = "user-7".parse()?;
    let listed = engine.reservations(&user, None, &PageRequest::default()).await?;
    let seats = engine.option(last.option).await?;
    assert!(!listed.items.is_empty() && seats.counts.sold > 0, "{seats:?}");
    engine.shutdown().await?;
    Ok(took)
}

/// Holds and releases until it is killed.
async fn be_killed(dir: &Path) -> Result<()> {
    let engine = Engine::open(config(dir)).await?;
    let concert = engine.concerts(&PageRequest::default()).await?.items.remove(0);
    let user: UserId = "user-7".parse()?;
    println!("up");
    loop {
        let wish = BestAvailable { count: 2, category: None, zone: None, adjacent: true, companions: 0 };
        let held = engine.hold(concert.options[0], &user, Wish::BestAvailable(wish), None, None).await?;
        engine.release(&Caller::User(user.clone()), held.value.id).await?;
    }
}

/// Starts the engine in another process, lets it sell for a while, and kills it.
fn kill(dir: &Path) -> Result<()> {
    let mut child = Command::new(std::env::current_exe()?).env(VICTIM, dir).stdout(Stdio::piped()).spawn()?;
    let mut up = String::new();
    let stdout = child.stdout.take().ok_or("no output")?;
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut up)?;
    std::thread::sleep(Duration::from_millis(2_500));
    child.kill()?;
    child.wait()?;
    Ok(())
}

fn bytes_below(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(
            |entry| {
                if entry.path().is_dir() { bytes_below(&entry.path()) } else { entry.metadata().map_or(0, |m| m.len()) }
            },
        )
        .sum()
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if let Some(dir) = std::env::var_os(VICTIM) {
        return runtime.block_on(be_killed(Path::new(&dir)));
    }
    let mut numbers = std::env::args().filter_map(|arg| arg.parse().ok());
    let (events, users) = (numbers.next().unwrap_or(10_000_000), numbers.next().unwrap_or(10_000));
    let replays = numbers.next().unwrap_or(3);
    let dir = scratch("start");
    let last = runtime.block_on(write_journal(&dir, events, users))?;
    println!("{events} events of {users} users, {} MiB of journal", bytes_below(&dir.join("journal")) >> 20);

    let mut without = config(&dir);
    without.checkpoint.enabled = false;
    for _ in 0..replays {
        report("replay, without sled", runtime.block_on(start(&without, last))?, events);
    }
    let with = config(&dir);
    report("replay, and build the state in sled", runtime.block_on(start(&with, last))?, events);
    println!("{:<52} {:>9} MiB", "sled's files", bytes_below(&dir.join("state")) >> 20);
    let rows = Manifest::read(&RealDisk, &dir)?.map_or(0, |manifest| manifest.settled.rows);
    println!("{:<52} {rows:>9}", "rows");
    for _ in 0..3 {
        report("start after a checkpoint, stopped cleanly", runtime.block_on(start(&with, last))?, events);
    }
    for _ in 0..3 {
        kill(&dir)?;
        report("start after a checkpoint, killed", runtime.block_on(start(&with, last))?, events);
    }
    std::fs::remove_dir_all(dir)?;
    Ok(())
}
