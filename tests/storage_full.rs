//! A disk that fills up stops the sale and nothing else: reads go on, holds run out, nothing acknowledged is lost, and
//! once there is space again the sale goes on.
//!
//! This needs a file system of its own that is small: a tmpfs, in a mount namespace of its own, so that nothing is left
//! behind. Where that may not be had the test says so and passes, unless the environment variable `CI` is set: then it
//! fails.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use boxoffice::{
    Caller, Config, Engine, Error, NewOption, OptionId, PageRequest, ReservationStatus, RoomMode, RoomSettings,
    RoomSettingsPatch, verify,
};
use common::*;

const DISK_BYTES: u64 = 64 << 20;
const MIN_FREE_BYTES: u64 = 16 << 20;
/// Set where the test has its own mount namespace.
const INSIDE: &str = "BOXOFFICE_TEST_MOUNTS";

#[test]
fn a_full_disk_stops_the_sale_and_nothing_else() {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        return runtime.block_on(on_a_small_disk());
    }
    // As root, or as root of a user namespace.
    let may = |arguments: &[&str]| {
        let mount = "mount -t tmpfs -o size=1m boxoffice /tmp";
        let tried = Command::new("unshare").args(arguments).args(["sh", "-c", mount]).stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    };
    let Some(arguments) = [&["--mount"][..], &["--map-root-user", "--mount"]].into_iter().find(|it| may(it)) else {
        let what = "a small tmpfs cannot be mounted here: run as root, or allow unprivileged user namespaces";
        assert!(std::env::var_os("CI").is_none(), "{what}");
        println!("\n*** LEFT OUT: {what} ***\n");
        return;
    };
    let test = ["--exact", "a_full_disk_stops_the_sale_and_nothing_else", "--nocapture"];
    let exe = std::env::current_exe().unwrap();
    let status = Command::new("unshare").args(arguments).arg(exe).args(test).env(INSIDE, "1").status().unwrap();
    assert!(status.success(), "{status}");
}

fn mount(dir: &Path) {
    let size = format!("size={DISK_BYTES}");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "boxoffice"]).arg(dir).status().unwrap();
    assert!(mounted.success());
}

/// Something else that takes up the disk.
struct Ballast(PathBuf);

impl Ballast {
    /// Leaves `free` bytes.
    fn leave(dir: &Path, free: u64) -> Self {
        let path = dir.join("ballast");
        let taken = used_bytes(dir);
        fs::write(&path, vec![1; (DISK_BYTES - taken - free) as usize]).unwrap();
        Self(path)
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn used_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| if path.is_dir() { used_bytes(&path) } else { fs::metadata(&path).map_or(0, |it| it.len()) })
        .sum()
}

fn assert_full<T: std::fmt::Debug>(what: &str, result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::StorageFull)), "{what}: {result:?}");
}

async fn until_ready(engine: &Engine, ready: bool) {
    eventually(&format!("ready is {ready}"), || async { (engine.health().ready == ready).then_some(()) }).await;
    let reasons = engine.health().reasons;
    assert!(ready || reasons.iter().any(|reason| reason.contains("disk is nearly full")), "{reasons:?}");
}

/// That all commands of callers are refused, and nothing comes of them.
async fn nothing_is_taken(engine: &Engine, option: OptionId) {
    let anna = user(1);
    let before = engine.stats().durable_lsn;
    let held = engine.reservations(&anna, Some(ReservationStatus::Held), &PageRequest::default()).await.unwrap().items;
    let paid = engine.payments(&anna, &PageRequest::default()).await.unwrap().items;
    let concert = engine.option(option).await.unwrap().concert_id;
    let caller = Caller::User(anna.clone());
    assert_full("charge", engine.charge(&anna, points(1), &anna, None).await);
    assert_full("hold", engine.hold(option, &anna, best(1), None, None).await);
    assert_full("release", engine.release(&caller, held[0].id).await);
    assert_full("pay", engine.pay(&anna, held[0].id, None).await);
    assert_full("refund", engine.refund(&caller, paid[0].id, None).await);
    assert_full("block", engine.block_seats(option, vec!["10-1".into()], None).await);
    assert_full("create", engine.create_concert(new_concert("Another", RoomSettings::default()), None).await);
    assert_full("add", engine.add_option(concert, new_option(engine, 2, 2), None).await);
    assert_full("join", engine.issue_token(concert, &anna).await);
    assert_full("configure", engine.configure_waiting_room(concert, RoomSettingsPatch::default()).await);
    // What time brings about is written all the same.
    let now = engine.seats(option).await.unwrap();
    assert!(engine.stats().durable_lsn == before || now.seq.0 > before, "something was written");
}

async fn on_a_small_disk() {
    let dir = tempfile::tempdir().unwrap();
    mount(dir.path());
    let dir = dir.path();
    let mut config: Config = config(&dir.join("data"));
    config.storage.min_free_bytes = MIN_FREE_BYTES;
    // So that a checkpoint fits into that.
    config.checkpoint.max_pending_events = 10_000;
    config.checkpoint.replay_target_ms = 0;
    let engine = Engine::open(config.clone()).await.unwrap();
    let option = on_sale(&engine, 10, 10).await;
    let concert = engine.option(option).await.unwrap().concert_id;
    let brief = NewOption { hold_seconds: 2, ..new_option(&engine, 2, 5) };
    let brief = engine.add_option(concert, brief, None).await.unwrap().value.id;
    let queue = RoomSettings { mode: RoomMode::Queue, max_active: 1, active_ttl_seconds: 3, ..RoomSettings::default() };
    let queue = engine.create_concert(new_concert("Queue", queue), None).await.unwrap().value.id;
    let (anna, users) = (user(1), (0..40).map(user).collect::<Vec<_>>());
    buy(&engine, option, &anna, &["1-1"]).await;
    hold(&engine, option, &anna, &["1-2"]).await;
    for user in &users[..2] {
        engine.issue_token(queue, user).await.unwrap();
    }
    let short = hold(&engine, brief, &anna, &["1-1"]).await;

    // Somebody else fills the disk.
    let ballast = Ballast::leave(dir, MIN_FREE_BYTES - (4 << 20));
    until_ready(&engine, false).await;
    nothing_is_taken(&engine, option).await;
    assert_eq!(engine.stats().overloaded, 0, "it is not for too much to do that they were refused");
    let caller = Caller::User(anna.clone());
    eventually("the hold has expired", || async {
        (engine.reservation(&caller, short.id).await.unwrap().status == ReservationStatus::Expired).then_some(())
    })
    .await;
    eventually("the second is inside", || async {
        let counts = engine.waiting_room(queue).await.unwrap().counts;
        (counts.waiting == 0 && counts.expired > 0).then_some(())
    })
    .await;
    drop(ballast);
    until_ready(&engine, true).await;
    engine.hold(option, &anna, best(1), None, None).await.unwrap();

    // We fill it ourselves, all at once, with not much left.
    let ballast = Ballast::leave(dir, MIN_FREE_BYTES + (3 << 20));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let charges = users.iter().cloned().map(|user| {
        let (engine, acknowledged) = (engine.clone(), acknowledged.clone());
        tokio::spawn(async move {
            loop {
                match engine.charge(&user, points(1), &user, None).await {
                    Ok(_) => acknowledged.fetch_add(1, Ordering::Relaxed),
                    Err(Error::StorageFull) => return,
                    Err(Error::Overloaded(_)) => {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        continue;
                    }
                    Err(error) => panic!("{error}"),
                };
            }
        })
    });
    for charge in charges.collect::<Vec<_>>() {
        tokio::time::timeout(Duration::from_secs(120), charge).await.expect("the disk is never full").unwrap();
    }
    let acknowledged = acknowledged.load(Ordering::Relaxed);
    println!("full after {acknowledged} charges, with {} bytes left", engine.stats().free_bytes);
    assert!(acknowledged > 1_000, "{acknowledged}");
    until_ready(&engine, false).await;
    nothing_is_taken(&engine, option).await;
    assert_eq!(engine.failed(), None);
    let sum = audit_money(&engine, &users).await;
    assert_eq!(sum, acknowledged);
    engine.shutdown().await.unwrap();

    // It is full when it starts.
    for start in 0..2 {
        let engine = Engine::open(config.clone()).await.unwrap_or_else(|error| panic!("start {start}: {error}"));
        until_ready(&engine, false).await;
        assert_full("charge", engine.charge(&anna, points(1), &anna, None).await);
        assert_eq!(audit_money(&engine, &users).await, sum);
        engine.shutdown().await.unwrap();
    }
    drop(ballast);
    let engine = Engine::open(config.clone()).await.unwrap();
    until_ready(&engine, true).await;
    charge(&engine, &anna, 1).await;
    assert_eq!(audit_money(&engine, &users).await, sum + 1);
    audit_seats(&engine, option, &users).await;
    engine.shutdown().await.unwrap();
    let report = verify(&config).unwrap();
    assert!(report.ok && report.sealed, "{report}");
}
