//! A process that is killed under load at any moment has forgotten nothing of what it had answered, has done nothing
//! twice, and brings to an end what was under way.

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use boxoffice::testing::random::{Random, seed};
use boxoffice::{
    Caller, Config, Engine, Error, IdempotencyKey, NewOption, OptionId, PaymentId, PaymentStatus, Rejection,
    ReservationId, ReservationStatus, RoomMode, RoomSettings, Timestamp, TokenId, TokenStatus, UserId, verify,
};
use common::*;

/// How often the process is killed.
const ROUNDS: u64 = 20;
const WORKERS: u64 = 16;
const USERS: usize = 24;
/// Where the child finds its directory, and what it is to roll its dice with.
const DIR: &str = "BOXOFFICE_TEST_KILL_DIR";
const SEED: &str = "BOXOFFICE_TEST_KILL_SEED";

fn options(dir: &Path, round: u64) -> Config {
    let mut config = config(dir);
    // In every other round hardly anything stays in memory.
    if round % 2 == 1 {
        config.actors.max_resident = 16;
        config.checkpoint.replay_target_ms = 0;
    }
    config
}

/// What the child has told the world.
#[derive(Debug, Default)]
struct Told {
    charges: Vec<(UserId, u64, String, String)>,
    holds: BTreeMap<ReservationId, Held>,
    released: Vec<ReservationId>,
    paid: BTreeMap<PaymentId, (ReservationId, u64)>,
    refunded: Vec<PaymentId>,
}

#[derive(Debug)]
struct Held {
    user: UserId,
    seats: Vec<String>,
    expires_at: Timestamp,
    token: Option<TokenId>,
}

impl Told {
    fn hear(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["charge", user, amount, key, entry] => {
                let entry = entry.to_owned();
                self.charges.push((name(user), amount.parse().unwrap(), key.to_owned(), entry));
            }
            ["hold", id, user, seats, expires_at, token] => {
                let seats = seats.split(',').map(str::to_owned).collect();
                let expires_at = Timestamp::from_millis(expires_at.parse().unwrap());
                let held = Held { user: name(user), seats, expires_at, token: token.parse().ok() };
                self.holds.insert(id.parse().unwrap(), held);
            }
            ["release", id] => self.released.push(id.parse().unwrap()),
            ["pay", payment, reservation, amount] => {
                let paid = (reservation.parse().unwrap(), amount.parse().unwrap());
                self.paid.insert(payment.parse().unwrap(), paid);
            }
            ["refund", payment] => self.refunded.push(payment.parse().unwrap()),
            _ => panic!("what does {line:?} mean?"),
        }
    }
}

fn say(line: std::fmt::Arguments<'_>) {
    // In one piece: the next line may never come.
    let text = format!("told {line}\n");
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

#[test]
#[ignore = "is started, and killed, by the other one"]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let seed: u64 = std::env::var(SEED).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let engine = Engine::open(options(Path::new(&dir), seed % 2)).await.unwrap();
        say(format_args!("ready"));
        let count = Arc::new(AtomicU64::new(0));
        let workers = (0..WORKERS).map(|worker| {
            let (engine, count) = (engine.clone(), count.clone());
            tokio::spawn(async move {
                let mut dice = Random(seed.wrapping_mul(1_000).wrapping_add(worker));
                loop {
                    let key = format!("{seed}-{}", count.fetch_add(1, Ordering::Relaxed));
                    if let Err(error) = visit(&engine, &mut dice, &key).await {
                        assert!(matches!(error, Error::Rejected(_) | Error::SeatsUnavailable(_)), "{error}");
                    }
                }
            })
        });
        // None of them ever ends, but by a failed assertion.
        let first = workers.collect::<Vec<_>>().into_iter().next();
        first.unwrap().await.unwrap();
    });
}

/// What one buyer does: one to all of the steps of a purchase and its refund, each told once it is answered.
async fn visit(engine: &Engine, dice: &mut Random, key: &str) -> Result<(), Error> {
    let user = user(dice.below(USERS as u64) as usize);
    let admin = name("admin");
    if dice.below(3) == 0 {
        let amount = dice.below(300) + 1;
        let idempotency = IdempotencyKey::new(&admin, "charge", key, b"");
        let entry = engine.charge(&user, points(amount), &admin, Some(idempotency)).await?.value;
        say(format_args!("charge {user} {amount} {key} {}", entry.id));
    }
    let option = OptionId(1 + dice.below(2));
    let token = match option {
        OptionId(1) => None,
        _ => Some(token(engine, &user).await?),
    };
    let signed = token.as_ref().map(|(_, signed)| signed.as_str());
    let held = engine.hold(option, &user, best(1 + dice.below(3) as u32), signed, None).await?.value;
    let seats: Vec<_> = held.seats().map(|seat| seat.id.to_owned()).collect();
    let token = token.map_or("-".into(), |(id, _)| id.to_string());
    say(format_args!("hold {} {user} {} {} {token}", held.id, seats.join(","), held.expires_at.as_millis()));
    let caller = Caller::User(user.clone());
    match dice.below(8) {
        0 => {}
        1 => {
            engine.release(&caller, held.id).await?;
            say(format_args!("release {}", held.id));
        }
        then => {
            let payment = match engine.pay(&user, held.id, None).await {
                Err(Error::Rejected(Rejection::InsufficientPoints { .. })) => {
                    engine.release(&caller, held.id).await?;
                    say(format_args!("release {}", held.id));
                    return Ok(());
                }
                other => other?.value,
            };
            say(format_args!("pay {} {} {}", payment.id, held.id, payment.amount));
            if then < 7 {
                let refund = engine.refund(&caller, payment.id, None).await?.value;
                say(format_args!("refund {}", refund.payment_id));
            }
        }
    }
    Ok(())
}

/// An active token of the second option's concert.
async fn token(engine: &Engine, user: &UserId) -> Result<(TokenId, String), Error> {
    let concert = engine.option(OptionId(2)).await?.concert_id;
    loop {
        let token = engine.issue_token(concert, user).await?.token;
        if token.status == TokenStatus::Active {
            return Ok((token.id, token.token));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn set_up(dir: &Path) {
    let engine = Engine::open(options(dir, 0)).await.unwrap();
    for mode in [RoomMode::Open, RoomMode::Queue] {
        let settings = RoomSettings { mode, ..RoomSettings::default() };
        let concert = engine.create_concert(new_concert("Concert", settings), None).await.unwrap().value.id;
        let option = NewOption { hold_seconds: 1, ..new_option(&engine, 12, 20) };
        engine.add_option(concert, option, None).await.unwrap();
    }
    for n in 0..USERS {
        charge(&engine, &user(n), 500).await;
    }
    engine.shutdown().await.unwrap();
}

/// A process that is killed when it is not needed any more, also by a test that fails.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets the child work, kills it after `patience`, and adds what it told to `told`.
fn run_and_kill(dir: &Path, seed: u64, patience: Duration, told: &mut Told) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    let mut out = BufReader::new(child.0.stdout.take().unwrap());
    let (sender, ready) = std::sync::mpsc::channel();
    let listener = std::thread::spawn(move || {
        let mut lines = Vec::new();
        let mut line = String::new();
        // The last line may be cut off: nobody was told of that.
        while out.read_line(&mut line).is_ok_and(|bytes| bytes > 0) && line.ends_with('\n') {
            // Before the first, and instead of some, the test harness has its say.
            match line.trim_end().split_once("told ") {
                Some((_, "ready")) => sender.send(()).unwrap(),
                Some((_, told)) => lines.push(told.to_owned()),
                None => {}
            }
            line.clear();
        }
        lines
    });
    // Now and then it is killed while it still starts.
    if !seed.is_multiple_of(5) {
        ready.recv_timeout(PATIENCE).expect("the child starts");
    }
    std::thread::sleep(patience);
    assert!(child.0.try_wait().unwrap().is_none(), "the child ended by itself");
    drop(child);
    for line in listener.join().unwrap() {
        told.hear(&line);
    }
}

async fn audit(dir: &Path, round: u64, told: &Told) {
    let opened = Instant::now();
    let engine = Engine::open(options(dir, round)).await.unwrap();
    let users: Vec<_> = (0..USERS).map(user).collect();
    for option in [OptionId(1), OptionId(2)] {
        settled(&engine, option, &users).await;
    }
    for (user, amount, key, id) in told.charges.iter().rev().take(50) {
        let admin = name("admin");
        let key = IdempotencyKey::new(&admin, "charge", key, b"");
        let again = engine.charge(user, points(*amount), &admin, Some(key)).await.unwrap();
        assert!(again.replayed, "{id} was forgotten");
        assert_eq!((again.value.id.to_string(), again.value.amount), (id.clone(), points(*amount)));
    }
    let mut statuses = BTreeMap::new();
    for (id, held) in &told.holds {
        let found = engine.reservation(&Caller::Admin, *id).await.unwrap_or_else(|error| panic!("{id}: {error}"));
        let seats: Vec<_> = found.seats().map(|seat| seat.id.to_owned()).collect();
        assert_eq!((&found.user_id, &seats, found.expires_at), (&held.user, &held.seats, held.expires_at), "{id}");
        if found.status == ReservationStatus::Expired {
            assert!(engine.now() >= held.expires_at, "{id} has expired early");
        }
        if [ReservationStatus::Confirmed, ReservationStatus::Refunded].contains(&found.status)
            && let Some(token) = held.token
        {
            eventually("the token is used", || async {
                let token = engine.token(&Caller::Admin, token).await.unwrap();
                (token.status == TokenStatus::Used).then_some(())
            })
            .await;
        }
        statuses.insert(*id, found.status);
    }
    for id in &told.released {
        assert_eq!(statuses[id], ReservationStatus::Released, "{id}");
    }
    for (id, (reservation, amount)) in &told.paid {
        let payment = engine.payment(&Caller::Admin, *id).await.unwrap();
        assert_eq!((payment.reservation_id, payment.amount.get()), (*reservation, *amount), "{id}");
        assert!([PaymentStatus::Completed, PaymentStatus::Refunded].contains(&payment.status), "{payment:?}");
        assert!(
            [ReservationStatus::Confirmed, ReservationStatus::Refunded].contains(&statuses[reservation]),
            "{payment:?}"
        );
    }
    for id in &told.refunded {
        assert_eq!(engine.payment(&Caller::Admin, *id).await.unwrap().status, PaymentStatus::Refunded);
    }
    audit_money(&engine, &users).await;
    for option in [OptionId(1), OptionId(2)] {
        audit_seats(&engine, option, &users).await;
    }
    // What was still held when the process was killed is past its time by now, or soon.
    for user in &users {
        for held in all_reservations(&engine, user, Some(ReservationStatus::Held)).await {
            let late = engine.now().since(held.expires_at);
            assert!(late < Duration::from_secs(1) + opened.elapsed(), "{} is late by {late:?}", held.id);
        }
    }
    engine.shutdown().await.unwrap();
}

#[test]
fn killed_at_any_moment_it_has_forgotten_nothing() {
    let seed = seed();
    println!("BOXOFFICE_TEST_SEED={seed}");
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(set_up(dir.path()));
    let (mut told, mut dice) = (Told::default(), Random(seed));
    for round in 0..ROUNDS {
        let patience = Duration::from_micros(dice.below(300_000));
        run_and_kill(dir.path(), seed.wrapping_add(round), patience, &mut told);
        // Now and then the next child is the first to see what the last one left.
        if round % 3 != 1 || round + 1 == ROUNDS {
            runtime.block_on(audit(dir.path(), round, &told));
        }
    }
    let Told { charges, holds, released, paid, refunded } = &told;
    let (charges, holds, released) = (charges.len(), holds.len(), released.len());
    println!("{charges} charges, {holds} holds, {released} released, {} paid, {} refunded", paid.len(), refunded.len());
    assert!(
        charges > 10 && holds > 10 && released > 0 && paid.len() > 10 && refunded.len() > 10,
        "too little was done"
    );
    let report = verify(&options(dir.path(), 0)).unwrap();
    assert!(report.ok, "{report}");
    std::fs::remove_dir_all(dir.path().join("state")).unwrap();
    runtime.block_on(audit(dir.path(), 0, &told));
    let again = verify(&options(dir.path(), 0)).unwrap();
    assert!(again.ok && again.sealed, "{again}");
}
