//! Whichever call the disk refuses: after it nobody is told that anything was done, and the next start knows everything
//! that anybody was told before.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use boxoffice::testing::failing_disk::{Failed, FailingDisk};
use boxoffice::testing::sim_disk::Failure;
use boxoffice::{
    Caller, Config, Engine, Error, OptionId, PaymentId, PaymentStatus, ReservationId, ReservationStatus, UserId,
    WalletEntry, verify,
};
use common::*;
use parking_lot::Mutex;

/// Every so many calls one is made to fail, unless the environment says another number.
const STEP: u64 = 7;
const STEP_VARIABLE: &str = "BOXOFFICE_IO_ERRORS_STEP";
const BUYERS: usize = 3;
const OPTION: OptionId = OptionId(1);
/// Rows and seats of the option. The first rows are bought, the others blocked, which makes large events.
const ROWS: usize = 10;
const SEATS: usize = 200;

/// Answers that callers had.
#[derive(Debug, Default)]
struct Told {
    charged: Vec<(UserId, WalletEntry)>,
    held: Vec<ReservationId>,
    released: Vec<ReservationId>,
    paid: Vec<PaymentId>,
    refunded: Vec<PaymentId>,
    options: Vec<OptionId>,
    /// Those that were asked for when a call of the disk had failed already.
    late: Vec<(Failed, &'static str)>,
}

struct House {
    engine: Engine,
    disk: FailingDisk,
    told: Mutex<Told>,
}

impl House {
    /// Awaits a call and notes whether it was answered too late.
    async fn ask<T>(&self, what: &'static str, call: impl Future<Output = Result<T, Error>>) -> Option<T> {
        let failed = self.disk.failed();
        match call.await {
            Ok(answer) => {
                self.told.lock().late.extend(failed.map(|failed| (failed, what)));
                Some(answer)
            }
            Err(Error::OutcomeUnknown(_) | Error::Internal(_) | Error::StorageFull | Error::Overloaded(_)) => None,
            Err(error) => panic!("{what}: {error}"),
        }
    }

    /// What one buyer does: everything that can be done with a reservation.
    async fn buyer(&self, n: usize) -> Option<()> {
        let user = user(n);
        let caller = Caller::User(user.clone());
        for seat in 1..=4 {
            let charge = self.engine.charge(&user, points(100), &user, None);
            let entry = self.ask("charge", charge).await?.value;
            self.told.lock().charged.push((user.clone(), entry));
            let wish = seats(&[&format!("{}-{seat}", n + 1)]);
            let held = self.ask("hold", self.engine.hold(OPTION, &user, wish, None, None)).await?.value.id;
            self.told.lock().held.push(held);
            if seat == 1 {
                self.ask("release", self.engine.release(&caller, held)).await?;
                self.told.lock().released.push(held);
                continue;
            }
            let payment = self.ask("pay", self.engine.pay(&user, held, None)).await?.value.id;
            self.told.lock().paid.push(payment);
            if seat == 2 {
                self.ask("refund", self.engine.refund(&caller, payment, None)).await?;
                self.told.lock().refunded.push(payment);
            }
        }
        Some(())
    }

    /// What the organiser does: another option with a plan of its own, and large events, so that a segment is filled.
    async fn organiser(&self) -> Option<()> {
        let concert = self.engine.option(OPTION).await.ok()?.concert_id;
        let option = new_option(&self.engine, 1, 2 + self.told.lock().options.len());
        let option = self.ask("add option", self.engine.add_option(concert, option, None)).await?.value.id;
        self.told.lock().options.push(option);
        for _ in 0..4 {
            self.ask("block", self.engine.block_seats(OPTION, last_rows(), None)).await?;
            self.ask("unblock", self.engine.unblock_seats(OPTION, last_rows(), None)).await?;
        }
        Some(())
    }
}

fn last_rows() -> Vec<String> {
    (BUYERS + 1..=ROWS).flat_map(|row| (1..=SEATS).map(move |seat| format!("{row}-{seat}"))).collect()
}

fn quick(dir: &Path) -> Config {
    let mut config = config(dir);
    config.checkpoint.replay_target_ms = 0;
    config
}

/// A directory as a crash leaves it, in which the journal's first segment is nearly full.
async fn nearly_full(dir: &Path) {
    let running = quick(&dir.with_extension("running"));
    let engine = Engine::open(running.clone()).await.unwrap();
    assert_eq!(on_sale(&engine, ROWS, SEATS).await, OPTION);
    let blocked = last_rows();
    let written = || *frames(&segments(&running.data_dir)[0]).last().unwrap() as u64;
    while written() < running.journal.segment_bytes - (32 << 10) {
        engine.block_seats(OPTION, blocked.clone(), None).await.unwrap();
        engine.unblock_seats(OPTION, blocked.clone(), None).await.unwrap();
    }
    copy_dir(&running.data_dir, dir);
    assert_eq!(segments(dir).len(), 1, "the first segment is full");
    engine.shutdown().await.unwrap();
}

/// Whether the engine may go on when this has failed, as nothing depends on it but one call: a plan that could not be put
/// down or read is refused, unless it was a sync; and what is lacking for a segment that is not needed yet, or for a checkpoint
/// that has not changed anything, may come back.
fn goes_on(failed: &Failed, failure: Failure) -> bool {
    let is_sync = ["sync", "sync_dir"].contains(&failed.call) && failure != Failure::NoDescriptor;
    let of_plan = failed.path.components().any(|part| part.as_os_str() == "plans");
    let of_checkpoint =
        ["redo", "manifest.new", "manifest.settled", "data"].iter().any(|name| failed.path.ends_with(name));
    let is_lack = matches!(failure, Failure::NoSpace | Failure::NoDescriptor);
    of_plan && !is_sync || is_lack && (of_checkpoint || failed.path.ends_with("journal/next.tmp"))
}

/// Lets everybody do what they do on a disk of which one call fails; gives what they were told.
async fn run(config: &Config, disk: &FailingDisk) -> Told {
    let Ok(engine) = Engine::open_on(config.clone(), disk.clone()).await else { return Told::default() };
    if engine.option(OPTION).await.is_err() {
        // Fresh directories have none yet.
        let concert = new_concert("Concert", boxoffice::RoomSettings::default());
        let option = new_option(&engine, ROWS, SEATS);
        let begun = async {
            let concert = engine.create_concert(concert, None).await?.value.id;
            engine.add_option(concert, option, None).await
        };
        if begun.await.is_err() {
            let _ = engine.shutdown().await;
            return Told::default();
        }
    }
    let house = Arc::new(House { engine, disk: disk.clone(), told: Mutex::default() });
    let mut people = Vec::new();
    for n in 0..BUYERS {
        let house = house.clone();
        people.push(tokio::spawn(async move { house.buyer(n).await }));
    }
    let organiser = house.clone();
    people.push(tokio::spawn(async move { organiser.organiser().await }));
    for person in people {
        person.await.unwrap();
    }
    // What is under way when it has failed already is a failure as well.
    let _ = house.engine.shutdown().await;
    Arc::into_inner(house).unwrap().told.into_inner()
}

/// That a start finds everything that was told.
async fn audit(config: &Config, told: &Told, what: &str) {
    let engine = Engine::open(config.clone()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    for option in &told.options {
        engine.plan_json(*option).await.unwrap_or_else(|error| panic!("{what}: {option}: {error}"));
    }
    let users: Vec<_> = (0..BUYERS).map(user).collect();
    if engine.option(OPTION).await.is_ok() {
        settled(&engine, OPTION, &users).await;
        audit_seats(&engine, OPTION, &users).await;
    }
    audit_money(&engine, &users).await;
    for (user, entry) in &told.charged {
        assert!(all_entries(&engine, user).await.contains(entry), "{what}: {entry:?} is lost");
    }
    let mut statuses = BTreeMap::new();
    for id in &told.held {
        let found =
            engine.reservation(&Caller::Admin, *id).await.unwrap_or_else(|error| panic!("{what}: {id}: {error}"));
        statuses.insert(*id, found.status);
    }
    for id in &told.released {
        assert_eq!(statuses[id], ReservationStatus::Released, "{what}: {id}");
    }
    for id in &told.paid {
        let payment = engine.payment(&Caller::Admin, *id).await.unwrap();
        let refunded = told.refunded.contains(id);
        let as_told = payment.status == PaymentStatus::Completed && !refunded;
        assert!(as_told || payment.status == PaymentStatus::Refunded, "{what}: {payment:?}");
    }
    engine.shutdown().await.unwrap();
    let report = verify(config).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(report.ok, "{what}: {report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_refused_call_nobody_is_told_that_anything_was_done() {
    let step = std::env::var(STEP_VARIABLE).ok().map_or(STEP, |step| step.parse().unwrap());
    let begun = Instant::now();
    let dir = tempfile::tempdir().unwrap();
    let template = dir.path().join("nearly full");
    nearly_full(&template).await;
    let (mut runs, mut answers, mut refused) = (0, 0, BTreeMap::new());
    for fresh in [false, true] {
        for (index, failure) in [Failure::Io, Failure::NoSpace, Failure::NoDescriptor].into_iter().enumerate() {
            // Not each of its calls in each place, but each of them in one, unless every one is asked for.
            let mut after = index as u64 * step / 2;
            loop {
                let what = format!("{failure:?} after {after} calls, fresh {fresh}");
                let config = quick(&dir.path().join("data"));
                if !fresh {
                    copy_dir(&template, &config.data_dir);
                }
                let disk = FailingDisk::default();
                disk.fail(after, failure);
                let told = run(&config, &disk).await;
                let Some(failed) = disk.heal() else { break };
                assert!(told.late.is_empty() || goes_on(&failed, failure), "{what}: {:?}", told.late);
                let folder = failed.path.strip_prefix(&config.data_dir).unwrap_or(&failed.path);
                let folder = folder.iter().next().unwrap_or_default().to_string_lossy().into_owned();
                *refused.entry((folder, failed.call)).or_insert(0) += 1;
                audit(&config, &told, &what).await;
                answers += told.charged.len() + told.held.len() + told.paid.len() + told.refunded.len();
                runs += 1;
                std::fs::remove_dir_all(&config.data_dir).unwrap();
                after += step;
            }
            std::fs::remove_dir_all(dir.path().join("data")).unwrap();
        }
    }
    let seconds = begun.elapsed().as_secs();
    println!("{runs} calls refused, {answers} answers before, {seconds} s: {refused:?}");
    let count = |folder: &str, call| refused.get(&(folder.to_owned(), call)).copied().unwrap_or(0);
    assert!(count("journal", "write") > 5 && count("journal", "sync") > 5 && answers > 100, "too little was tried");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_for_which_no_file_can_be_opened_comes_later() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, config) = (FailingDisk::default(), quick(&dir.path().join("data")));
    let engine = Engine::open_on(config.clone(), disk.clone()).await.unwrap();
    let is_written = || async {
        let stats = engine.stats();
        (stats.checkpointed_lsn == stats.durable_lsn).then_some(stats.put_off)
    };
    let mut put_off = BTreeMap::new();
    for after in 0.. {
        eventually("a checkpoint", is_written).await;
        disk.fail(after, Failure::NoDescriptor);
        let before = engine.stats().put_off;
        charge(&engine, &user(1), 1).await;
        // Others may buy, and look at what they have, all the while.
        let times = eventually("a checkpoint in spite of it", is_written).await - before;
        // All calls of a checkpoint have had their turn.
        let Some(failed) = disk.heal() else { break };
        assert_eq!((times, engine.failed()), (1, None), "{failed:?}");
        *put_off.entry((failed.call, failed.path)).or_insert(0) += 1;
    }
    assert_eq!(put_off.len(), 3, "the redo file, and both manifests: {put_off:?}");
    assert_eq!(audit_money(&engine, &[user(1)]).await, engine.wallet(&user(1)).await.unwrap().balance.get());
    engine.shutdown().await.unwrap();
}
