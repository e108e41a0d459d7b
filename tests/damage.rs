//! A byte of the journal that is not what was written is noticed at the next start, whichever it is: the start is refused, or
//! the byte stands where nothing was written, or in a last frame without a seal, which is then cut off as one that was torn.
//! Never is there another state.

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use boxoffice::store::disk::RealDisk;
use boxoffice::store::journal::{FrameRef, LocalLog, Log, Options, check};
use boxoffice::testing::clock::ManualClock;
use boxoffice::testing::data_dir::records;
use boxoffice::{Caller, Config, Engine, Lsn, OpenError, OptionId, PageRequest, verify};
use common::*;
use serde_json::{Value, json};

/// Every so many bytes one is flipped, unless the environment says another number.
const STEP: usize = 7;
const STEP_VARIABLE: &str = "BOXOFFICE_DAMAGE_STEP";
/// Segments so small that a few records fill three.
const SEGMENT_BYTES: u64 = 4096;
const OPTION: OptionId = OptionId(1);

/// A sale with something of everything, of few records.
async fn sale_in(config: &Config, clock: &ManualClock) {
    let engine = Engine::open_with(config.clone(), clock).await.unwrap();
    let option = on_sale(&engine, 1, 4).await;
    assert_eq!(option, OPTION);
    buy(&engine, option, &user(1), &["1-1"]).await;
    let held = hold(&engine, option, &user(1), &["1-2"]).await;
    engine.release(&Caller::User(user(1)), held.id).await.unwrap();
    hold(&engine, option, &user(2), &["1-3"]).await;
    for amount in 1..=20 {
        charge(&engine, &user(2), amount).await;
    }
    engine.shutdown().await.unwrap();
}

/// Writes the first `count` records of a journal to another one, in small segments.
fn copy_records(from: &Path, to: &Path, count: usize, seal: bool) {
    copy_dir(&from.join("plans"), &to.join("plans"));
    let options = Options { segment_bytes: SEGMENT_BYTES, reserve_bytes: 0, ..Options::default() };
    let (mut log, _) = LocalLog::open(Arc::new(RealDisk), &to.join("journal"), options, Lsn(0)).unwrap();
    let last = check(&RealDisk, &from.join("journal"), Lsn(0)).unwrap().last_lsn;
    for (first_lsn, record) in records(from, last).unwrap().into_iter().take(count) {
        let mut payload = Vec::new();
        record.encode_to(&mut payload);
        log.append(&FrameRef { first_lsn, count: record.len() as u32, at: record.at, payload: &payload }).unwrap();
    }
    if seal {
        log.seal().unwrap();
    }
}

/// Everything that there is to be asked.
async fn answers(engine: &Engine) -> Value {
    let mut users = Vec::new();
    for n in 1..=2 {
        let user = user(n);
        users.push(json!({
            "wallet": engine.wallet(&user).await.unwrap(),
            "entries": all_entries(engine, &user).await,
            "payments": all_payments(engine, &user).await,
            "reservations": all_reservations(engine, &user, None).await,
        }));
    }
    json!({
        "concerts": engine.concerts(&PageRequest::default()).await.unwrap().items,
        "option": engine.option(OPTION).await.unwrap(),
        "seats": engine.seats(OPTION).await.unwrap(),
        "users": users,
    })
}

/// What a start finds in a directory, if it does start. The directory is as it was before.
async fn start(config: &Config, clock: &ManualClock) -> Result<Value, OpenError> {
    let files: Vec<_> = segments(&config.data_dir).into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect();
    let engine = Engine::open_with(config.clone(), clock).await?;
    let answers = answers(&engine).await;
    engine.shutdown().await.unwrap();
    fs::remove_dir_all(config.data_dir.join("journal")).unwrap();
    fs::create_dir(config.data_dir.join("journal")).unwrap();
    for (bytes, path) in files {
        fs::write(path, bytes).unwrap();
    }
    Ok(answers)
}

/// A journal of three segments, as full as can be, and what a start finds there; and how many records that takes.
async fn three_segments(sale: &Path, dir: &Path, clock: &ManualClock, seal: bool) -> (Config, Value, usize) {
    let mut count = 1;
    loop {
        let mut config = config(&dir.join(format!("{count}-{seal}")));
        config.checkpoint.enabled = false;
        copy_records(sale, &config.data_dir, count, seal);
        if segments(&config.data_dir).len() > 3 {
            config.data_dir = dir.join(format!("{}-{seal}", count - 1));
            let found = start(&config, clock).await.unwrap();
            return (config, found, count - 1);
        }
        count += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_flipped_byte_is_refused_or_cut_off() {
    let step = std::env::var(STEP_VARIABLE).ok().map_or(STEP, |step| step.parse().unwrap());
    let begun = Instant::now();
    let dir = tempfile::tempdir().unwrap();
    // Its time stands still, so that nothing runs out while it is looked at.
    let clock = ManualClock::at(LONG_AGO);
    let sale = config(&dir.path().join("sale"));
    sale_in(&sale, &clock).await;
    for seal in [false, true] {
        let (config, whole, count) = three_segments(&sale.data_dir, dir.path(), &clock, seal).await;
        let mut shorter = config.clone();
        shorter.data_dir = dir.path().join(format!("shorter-{seal}"));
        copy_records(&sale.data_dir, &shorter.data_dir, count - 1, false);
        let shorter = start(&shorter, &clock).await.unwrap();
        assert_ne!(whole, shorter, "the last record changes something that can be asked for");

        let files = segments(&config.data_dir);
        assert_eq!(files.len(), 3);
        let newest = files.last().unwrap().clone();
        let last = *frames(&newest).last().unwrap();
        let (mut bytes, mut refused, mut cut, mut unused) = (0, 0, 0, 0);
        for path in &files {
            let good = fs::read(path).unwrap();
            let end = frames(path).last().unwrap() + 512;
            for offset in (0..good.len()).step_by(step) {
                let mut bad = good.clone();
                bad[offset] ^= 1 << (offset % 8);
                fs::write(path, &bad).unwrap();
                let what = format!("{} byte {offset}, sealed {seal}", path.display());
                match start(&config, &clock).await {
                    Err(OpenError::Journal(_)) => {
                        refused += 1;
                        assert!(fs::read(path).unwrap() == bad, "{what}: the journal was changed");
                    }
                    Err(error) => panic!("{what}: {error}"),
                    Ok(found) if found == whole && offset >= end => unused += 1,
                    // A seal holds no event.
                    Ok(found) if *path == newest && offset >= last => {
                        assert_eq!(found, if seal { whole.clone() } else { shorter.clone() }, "{what}");
                        cut += 1;
                    }
                    Ok(_) => panic!("{what}: it was opened"),
                }
                bytes += 1;
            }
            fs::write(path, &good).unwrap();
        }
        assert_eq!(start(&config, &clock).await.unwrap(), whole);
        assert!(verify(&config).unwrap().ok);
        let seconds = begun.elapsed().as_secs();
        println!(
            "{bytes} bytes flipped, sealed {seal}: {refused} refused, {cut} cut off, {unused} in unused space, {seconds} s"
        );
        assert!(refused > 10 * cut && cut > 0, "too little was tried");
    }
}
