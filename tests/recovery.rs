//! After any end, clean or not, the engine knows everything that it ever told a customer; and whatever is kept beside the
//! journal can be lost.

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use boxoffice::testing::clock::ManualClock;
use boxoffice::testing::data_dir::copy_until;
use boxoffice::{
    Caller, Config, Engine, Error, EventFilter, EventId, NewOption, OpenError, PageRequest, PaymentStatus, Rejection,
    ReservationStatus, RoomMode, RoomSettings, SeatStatus, TokenStatus, VerifyReport, verify,
};
use common::*;

/// A whole sale in `dir`, shut down, and what the engine answered last.
async fn sale_in(dir: &Path) -> (Sale, serde_json::Value) {
    let engine = Engine::open(config(dir)).await.unwrap();
    let sale = Sale::hold(&engine).await;
    let answers = sale.answers(&engine).await;
    engine.shutdown().await.unwrap();
    (sale, answers)
}

async fn check(config: &Config, sale: &Sale, answers: &serde_json::Value, what: &str) {
    let engine = Engine::open(config.clone()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_same(&sale.answers(&engine).await, answers, what);
    engine.shutdown().await.unwrap();
}

/// The report on a directory in which nothing is wrong.
fn verified(config: &Config, what: &str) -> VerifyReport {
    let report = verify(config).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(report.ok, "{what}: {report}");
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_stop_changes_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("data"));
    let (sale, answers) = sale_in(&config.data_dir).await;
    let first = verified(&config, "after the sale");
    assert!(first.sealed && first.state.starts_with("agrees"), "{first}");
    for round in 0..5 {
        check(&config, &sale, &answers, &format!("start {round}")).await;
        let again = verified(&config, "after another start");
        assert_eq!((again.last_lsn, &again.state_sha256), (first.last_lsn, &first.state_sha256), "start {round}");
    }
    let engine = Engine::open(config.clone()).await.unwrap();
    sale.check_replays(&engine).await;
    assert_same(&sale.answers(&engine).await, &answers, "after asking the same again");
    assert_eq!(engine.stats().durable_lsn, first.last_lsn.0, "what was replayed is not written");
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_is_free_after_a_shutdown_while_handles_are_left() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let engine = Engine::open(config.clone()).await.unwrap();
    let option = on_sale(&engine, 2, 5).await;
    let mut events = engine.events(EventId::default(), EventFilter::ALL);
    let mut changes = engine.seat_changes(option, None).await.unwrap();
    let waiting = tokio::spawn(async move {
        changes.next().await.unwrap();
        let change = changes.next().await.map(|_| ());
        while events.next(100).await.is_ok() {}
        change
    });
    engine.shutdown().await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, waiting).await.expect("streams end with the engine").unwrap();
    assert!(matches!(ended, Err(Error::OutcomeUnknown(_))), "{ended:?}");
    let refused = engine.charge(&user(1), points(1), &user(1), None).await;
    assert!(matches!(refused, Err(Error::OutcomeUnknown(_))), "{refused:?}");
    assert!(!engine.health().ready);
    let reads = [
        engine.option(option).await.err(),
        engine.seats(option).await.err(),
        engine.wallet(&user(1)).await.err(),
        engine.wallet_entries(&user(1), &PageRequest::default()).await.err(),
    ];
    assert!(reads.iter().all(|error| matches!(error, Some(Error::OutcomeUnknown(_)))), "{reads:?}");
    let again = Engine::open(config).await.unwrap();
    charge(&again, &user(1), 1).await;
    again.shutdown().await.unwrap();
    // A second time there is nothing left to end.
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_dropped_forgets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let engine = Engine::open(config.clone()).await.unwrap();
    let sale = Sale::hold(&engine).await;
    let answers = sale.answers(&engine).await;
    drop(engine);
    let engine = open_when_free(&config).await;
    assert_same(&sale.answers(&engine).await, &answers, "after the drop");
    sale.check_replays(&engine).await;
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_taken_from_under_the_engine_has_everything() {
    let dir = tempfile::tempdir().unwrap();
    let running = config(&dir.path().join("running"));
    let engine = Engine::open(running.clone()).await.unwrap();
    let sale = Sale::hold(&engine).await;
    let answers = sale.answers(&engine).await;
    for round in 0..4 {
        // More is going on while the first copies are taken; the last one is taken of nothing that moves.
        let busy = (round < 3).then(|| {
            let engine = engine.clone();
            tokio::spawn(async move {
                for _ in 0..50 {
                    charge(&engine, &user(77), 1).await;
                }
            })
        });
        let copy = config(&dir.path().join(format!("copy-{round}")));
        copy_dir(&running.data_dir, &copy.data_dir);
        check(&copy, &sale, &answers, &format!("copy {round}")).await;
        if let Some(busy) = busy {
            busy.await.unwrap();
        }
    }
    engine.shutdown().await.unwrap();
}

type Damage = (&'static str, fn(&Path));

#[tokio::test(flavor = "multi_thread")]
async fn the_state_is_rebuilt_whatever_becomes_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let original = config(&dir.path().join("data"));
    let (sale, answers) = sale_in(&original.data_dir).await;
    let hash = verified(&original, "before").state_sha256;
    let damages: &[Damage] = &[
        ("state removed", |dir| fs::remove_dir_all(dir.join("state")).unwrap()),
        ("bytes of sled's log flipped", |dir| {
            let file = dir.join("state/db");
            let used = fs::read(&file).unwrap().iter().rposition(|byte| *byte != 0).unwrap();
            (1..20).for_each(|n| flip(&file, used * n / 20));
        }),
        ("sled's log cut", |dir| {
            let file = fs::OpenOptions::new().write(true).open(dir.join("state/db")).unwrap();
            file.set_len(file.metadata().unwrap().len() / 3).unwrap();
        }),
        ("sled's log emptied", |dir| fs::write(dir.join("state/db"), b"").unwrap()),
        ("sled's configuration is nonsense", |dir| fs::write(dir.join("state/conf"), b"nonsense").unwrap()),
        ("state is a file", |dir| {
            fs::remove_dir_all(dir.join("state")).unwrap();
            fs::write(dir.join("state"), b"nonsense").unwrap();
        }),
        ("manifest removed", |dir| fs::remove_file(dir.join("manifest")).unwrap()),
        ("manifest flipped", |dir| flip(&dir.join("manifest"), 30)),
        ("manifest emptied", |dir| fs::write(dir.join("manifest"), b"").unwrap()),
        ("manifest and state removed", |dir| {
            fs::remove_dir_all(dir.join("state")).unwrap();
            fs::remove_file(dir.join("manifest")).unwrap();
        }),
    ];
    for (index, (what, damage)) in damages.iter().enumerate() {
        let copy = config(&dir.path().join(format!("copy-{index}")));
        copy_dir(&original.data_dir, &copy.data_dir);
        damage(&copy.data_dir);
        let report = verify(&copy).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(report.state_sha256, hash, "{what}: the journal alone says");
        // sled makes up another configuration, and reads its log all the same.
        assert!(!report.state.starts_with("agrees") || what.contains("configuration"), "{what}: {report}");
        check(&copy, &sale, &answers, what).await;
        let report = verified(&copy, what);
        assert_eq!(report.state_sha256, hash, "{what}: after the start");
        assert!(report.state.starts_with("agrees"), "{what}: {report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_and_whether_checkpoints_are_taken_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.checkpoint.enabled = false;
    let engine = Engine::open(config.clone()).await.unwrap();
    let sale = Sale::hold(&engine).await;
    let answers = sale.answers(&engine).await;
    engine.shutdown().await.unwrap();
    let without = verified(&config, "without checkpoints");
    assert!(without.state.starts_with("missing"), "{without}");
    check(&config, &sale, &answers, "without checkpoints").await;
    for replay_target_ms in [0, 1, 3_600_000] {
        config.checkpoint.enabled = true;
        config.checkpoint.replay_target_ms = replay_target_ms;
        let what = format!("a checkpoint for each {replay_target_ms} ms of replay");
        check(&config, &sale, &answers, &what).await;
        let report = verified(&config, &what);
        assert!(report.state.starts_with("agrees"), "{what}: {report}");
        assert_eq!((report.last_lsn, &report.state_sha256), (without.last_lsn, &without.state_sha256), "{what}");
        fs::remove_dir_all(dir.path().join("state")).unwrap();
    }
}

/// An engine that was cut off: a journal without a seal, of which the manifest knows nothing. Gives the last frame's
/// place, which is one charge of 7 points.
async fn cut_off(config: &Config) -> (std::path::PathBuf, usize) {
    let mut unchecked = config.clone();
    unchecked.data_dir = config.data_dir.with_extension("running");
    unchecked.checkpoint.enabled = false;
    let engine = Engine::open(unchecked.clone()).await.unwrap();
    on_sale(&engine, 2, 5).await;
    for _ in 0..20 {
        charge(&engine, &user(1), 10).await;
    }
    charge(&engine, &user(1), 7).await;
    copy_dir(&unchecked.data_dir, &config.data_dir);
    engine.shutdown().await.unwrap();
    let segment = segments(&config.data_dir).pop().unwrap();
    let last = *frames(&segment).last().unwrap();
    (segment, last)
}

/// What is done to the journal, what is left of the balance then, and how it is done.
type Tear = (&'static str, u64, fn(&Path, usize));

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_end_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let tears: &[Tear] = &[
        ("whole", 207, |_, _| {}),
        ("its last frame never came", 200, zero_from),
        ("its last frame is half there", 200, |file, at| zero_from(file, at + 50)),
        ("its last frame is damaged", 200, |file, at| flip(file, at + 45)),
    ];
    for (index, (what, balance, tear)) in tears.iter().enumerate() {
        let config = config(&dir.path().join(format!("data-{index}")));
        let (segment, last) = cut_off(&config).await;
        tear(&segment, last);
        for start in 0..2 {
            let engine = Engine::open(config.clone()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(engine.wallet(&user(1)).await.unwrap().balance, points(*balance), "{what}, start {start}");
            audit_money(&engine, &[user(1)]).await;
            engine.shutdown().await.unwrap();
        }
        verified(&config, what);
    }
}

/// That a directory is refused, in words that name `names`; by `verify` likewise. Nothing in the journal is changed.
async fn refused(config: &Config, what: &str, names: &[&str]) {
    let before: Vec<_> = segments(&config.data_dir).iter().map(|path| fs::read(path).unwrap()).collect();
    let Err(error) = Engine::open(config.clone()).await else { panic!("{what}: it was opened") };
    assert!(matches!(error, OpenError::Journal(_)), "{what}: {error:?}");
    for name in names {
        assert!(error.to_string().contains(name), "{what}: {error}");
    }
    let after: Vec<_> = segments(&config.data_dir).iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(before == after, "{what}: the journal was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_journal_is_refused_by_file_and_offset() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("data"));
    let (segment, _) = cut_off(&config).await;
    let good = fs::read(&segment).unwrap();
    let name = segment.file_name().unwrap().to_str().unwrap();
    let frames = frames(&segment);
    for at in [frames[0], frames[frames.len() / 2], frames[frames.len() - 2]] {
        for within in [1, 20, 45] {
            flip(&segment, at + within);
            let what = format!("flipped {within} bytes into the frame at {at}");
            refused(&config, &what, &[name, &format!("byte {at}")]).await;
            let report = verify(&config);
            assert!(report.is_err_and(|error| error.to_string().contains(&format!("byte {at}"))), "{what}");
            fs::write(&segment, &good).unwrap();
        }
    }
    flip(&segment, 20);
    refused(&config, "the segment's header is damaged", &[name]).await;
    fs::write(&segment, &good).unwrap();
    let engine = Engine::open(config.clone()).await.unwrap();
    assert_eq!(engine.wallet(&user(1)).await.unwrap().balance, points(207));
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_ends_before_what_is_known_of_it_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let original = config(&dir.path().join("data"));
    sale_in(&original.data_dir).await;
    let damages: &[Damage] = &[
        ("the journal is missing", |dir| fs::remove_dir_all(dir.join("journal")).unwrap()),
        ("the segments are missing", |dir| segments(dir).iter().for_each(|file| fs::remove_file(file).unwrap())),
        ("the second half of the frames is missing", |dir| {
            let segment = segments(dir).pop().unwrap();
            let frames = frames(&segment);
            zero_from(&segment, frames[frames.len() / 2]);
        }),
        ("the file is cut in half", |dir| {
            let segment = segments(dir).pop().unwrap();
            let frames = frames(&segment);
            let file = fs::OpenOptions::new().write(true).open(segment).unwrap();
            file.set_len(frames[frames.len() / 2] as u64).unwrap();
        }),
    ];
    for (index, (what, damage)) in damages.iter().enumerate() {
        for enabled in [true, false] {
            let mut copy = config(&dir.path().join(format!("copy-{index}-{enabled}")));
            copy_dir(&original.data_dir, &copy.data_dir);
            damage(&copy.data_dir);
            copy.checkpoint.enabled = enabled;
            let what = format!("{what}, checkpoints {enabled}");
            let Err(error) = Engine::open(copy).await else { panic!("{what}: it was opened") };
            assert!(matches!(error, OpenError::Journal(_)), "{what}: {error}");
            assert!(error.to_string().contains("journal"), "{what}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_engine_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let engine = Engine::open(config.clone()).await.unwrap();
    for _ in 0..2 {
        let Err(error) = Engine::open(config.clone()).await else { panic!("it was opened twice") };
        assert!(matches!(error, OpenError::Locked(_)), "{error:?}");
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    }
    let error = verify(&config).unwrap_err();
    assert!(matches!(error, OpenError::Locked(_)), "{error:?}");
    charge(&engine, &user(1), 5).await;
    engine.shutdown().await.unwrap();
    Engine::open(config).await.unwrap().shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a file");
    fs::write(&file, b"nonsense").unwrap();
    let obstructed = |name: &str| {
        let dir = dir.path().join(name);
        fs::create_dir(&dir).unwrap();
        dir
    };
    let (lock, journal, plans) = (obstructed("lock"), obstructed("journal is a file"), obstructed("plans is a file"));
    fs::create_dir(lock.join("LOCK")).unwrap();
    fs::write(journal.join("journal"), b"nonsense").unwrap();
    fs::write(plans.join("plans"), b"nonsense").unwrap();
    for path in [&file, &file.join("below"), Path::new("/proc/boxoffice"), &lock, &journal] {
        let Err(error) = Engine::open(config(path)).await else { panic!("{}: it was opened", path.display()) };
        assert!(error.to_string().contains(path.to_str().unwrap()), "{}: {error}", path.display());
    }
    // What is needed only later fails only then, and nothing comes of it.
    let engine = Engine::open(config(&plans)).await.unwrap();
    let concert = engine.create_concert(new_concert("Concert", RoomSettings::default()), None).await.unwrap().value;
    let failed = engine.add_option(concert.id, new_option(&engine, 2, 2), None).await;
    assert!(matches!(failed, Err(Error::Internal(_))), "{failed:?}");
    assert_eq!(engine.concert(concert.id).await.unwrap().options, []);
    engine.shutdown().await.unwrap();
    let mut wrong = config(dir.path());
    wrong.actors.mailbox = 0;
    let Err(error) = Engine::open(wrong).await else { panic!("it was opened") };
    assert!(error.to_string().contains("actors.mailbox = 0"), "{error}");
    assert!(verify(&config(&dir.path().join("none"))).is_err());
}

const DAY_MS: u64 = 86_400_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_set_back_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    let machine = ManualClock::at(LONG_AGO);
    let engine = Engine::open_with(config.clone(), &machine).await.unwrap();
    let option = on_sale(&engine, 2, 5).await;
    let held = hold(&engine, option, &user(1), &["1-1"]).await;
    let caller = Caller::User(user(1));
    // While it runs, only the warning knows.
    machine.set_wall(LONG_AGO.minus_millis(DAY_MS));
    assert_eq!(engine.now(), LONG_AGO);
    assert_eq!(engine.health().warnings, ["the engine's clock is 86400000 ms ahead of the wall clock"]);
    assert!(engine.health().ready);
    machine.set_wall(LONG_AGO.plus_millis(1_001));
    assert_eq!(engine.health().warnings, ["the engine's clock is 1001 ms behind the wall clock"]);
    machine.set_wall(LONG_AGO.minus_millis(DAY_MS));
    engine.shutdown().await.unwrap();

    let Err(error) = Engine::open_with(config.clone(), &machine).await else { panic!("it was opened") };
    assert!(matches!(error, OpenError::JournalAhead(ahead) if ahead == Duration::from_millis(DAY_MS)), "{error:?}");
    assert!(error.to_string().contains("clock.accept_journal_ahead"), "{error}");
    machine.set_wall(LONG_AGO.minus_millis(300_001));
    let Err(error) = Engine::open_with(config.clone(), &machine).await else { panic!("it was opened") };
    assert!(matches!(error, OpenError::JournalAhead(_)), "{error:?}");
    for (back_ms, accept) in [(300_000, false), (DAY_MS, true)] {
        machine.set_wall(LONG_AGO.minus_millis(back_ms));
        config.clock.accept_journal_ahead = accept;
        let engine = Engine::open_with(config.clone(), &machine).await.unwrap();
        assert!(engine.now() >= LONG_AGO, "time does not go back");
        assert_eq!(engine.health().warnings.len(), 1, "{:?}", engine.health());
        assert_eq!(engine.reservation(&caller, held.id).await.unwrap().status, ReservationStatus::Held);
        charge(&engine, &user(1), 1).await;
        engine.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_has_passed_ends_what_it_should() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let machine = ManualClock::at(LONG_AGO);
    let engine = Engine::open_with(config.clone(), &machine).await.unwrap();
    let option = on_sale(&engine, 2, 5).await;
    let queue = RoomSettings { mode: RoomMode::Queue, max_active: 1, ..RoomSettings::default() };
    let queue = engine.create_concert(new_concert("Queue", queue), None).await.unwrap().value.id;
    let (inside, waiting) = (user(1), user(2));
    let first = engine.issue_token(queue, &inside).await.unwrap().token.id;
    eventually("the first is inside", || async {
        (engine.token(&Caller::Admin, first).await.unwrap().status == TokenStatus::Active).then_some(())
    })
    .await;
    let second = engine.issue_token(queue, &waiting).await.unwrap().token.id;
    let once = key(&user(1), "hold", "once");
    let held = engine.hold(option, &user(1), seats(&["1-1"]), None, once.clone()).await.unwrap().value;
    engine.shutdown().await.unwrap();

    machine.advance(DAY_MS);
    let engine = Engine::open_with(config.clone(), &machine).await.unwrap();
    let caller = Caller::User(user(1));
    eventually("the hold has expired", || async {
        (engine.reservation(&caller, held.id).await.unwrap().status == ReservationStatus::Expired).then_some(())
    })
    .await;
    assert_eq!(rejection(engine.pay(&user(1), held.id, None).await), Rejection::ReservationExpired);
    // Who was inside is not any more, and who waited has not been silent for a day: we have.
    eventually("the second is inside", || async {
        (engine.token(&Caller::Admin, second).await.unwrap().status == TokenStatus::Active).then_some(())
    })
    .await;
    assert_eq!(engine.token(&Caller::Admin, first).await.unwrap().status, TokenStatus::Expired);
    // 24 hours have passed, so the key is free again.
    let again = engine.hold(option, &user(1), seats(&["1-1"]), None, once).await.unwrap();
    assert!(!again.replayed);
    engine.shutdown().await.unwrap();
}

/// Waits for real time to pass while the engine's stands still.
async fn ticks() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_expires_not_early_and_at_most_a_second_late() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let machine = ManualClock::at(LONG_AGO);
    let engine = Engine::open_with(config.clone(), &machine).await.unwrap();
    let concert = engine.create_concert(new_concert("Concert", RoomSettings::default()), None).await.unwrap().value.id;
    let option = NewOption { hold_seconds: 10, ..new_option(&engine, 2, 5) };
    let option = engine.add_option(concert, option, None).await.unwrap().value.id;
    let caller = Caller::User(user(1));
    let awake = hold(&engine, option, &user(1), &["1-1"]).await;
    machine.advance(1);
    let asleep = hold(&engine, option, &user(1), &["1-2"]).await;
    assert_eq!((awake.expires_at, asleep.expires_at), (LONG_AGO.plus_millis(10_000), LONG_AGO.plus_millis(10_001)));
    machine.advance(9_998);
    ticks().await;
    assert_eq!(engine.reservation(&caller, awake.id).await.unwrap().status, ReservationStatus::Held);
    machine.advance(1);
    let begun = Instant::now();
    eventually("the first has expired", || async {
        (engine.reservation(&caller, awake.id).await.unwrap().status == ReservationStatus::Expired).then_some(())
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(1), "late by {:?}", begun.elapsed());
    assert_eq!(engine.reservation(&caller, asleep.id).await.unwrap().status, ReservationStatus::Held);
    engine.shutdown().await.unwrap();

    // Its time comes while there is no engine; and a millisecond before, there is one again.
    let engine = Engine::open_with(config.clone(), &machine).await.unwrap();
    ticks().await;
    assert_eq!(engine.reservation(&caller, asleep.id).await.unwrap().status, ReservationStatus::Held);
    engine.shutdown().await.unwrap();
    machine.advance(1);
    let begun = Instant::now();
    let engine = Engine::open_with(config.clone(), &machine).await.unwrap();
    eventually("the second has expired", || async {
        (engine.reservation(&caller, asleep.id).await.unwrap().status == ReservationStatus::Expired).then_some(())
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(2), "late by {:?}, with the start", begun.elapsed());
    assert_eq!(engine.seats(option).await.unwrap().status("1-2"), Some(SeatStatus::Free));
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_was_under_way_when_it_ended_is_brought_to_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let original = config(&dir.path().join("data"));
    let engine = Engine::open(original.clone()).await.unwrap();
    let settings = RoomSettings { mode: RoomMode::Queue, ..RoomSettings::default() };
    let concert = engine.create_concert(new_concert("Queue", settings), None).await.unwrap().value.id;
    let option = engine.add_option(concert, new_option(&engine, 5, 5), None).await.unwrap().value.id;
    let users: Vec<_> = (0..3).map(user).collect();
    let mut tokens = Vec::new();
    for user in &users {
        charge(&engine, user, 150).await;
        let id = engine.issue_token(concert, user).await.unwrap().token.id;
        let token = eventually("the token is active", || async {
            let token = engine.token(&Caller::Admin, id).await.unwrap();
            (token.status == TokenStatus::Active).then_some(token.token)
        });
        tokens.push((id, token.await));
    }
    let begun = engine.stats().durable_lsn;
    for (n, user) in users.iter().enumerate() {
        let seat = format!("1-{}", n + 1);
        let held = engine.hold(option, user, seats(&[&seat]), Some(&tokens[n].1), None).await.unwrap().value;
        let payment = engine.pay(user, held.id, None).await.unwrap().value;
        if n == 1 {
            engine.refund(&Caller::User(user.clone()), payment.id, None).await.unwrap();
        }
    }
    engine.shutdown().await.unwrap();

    // After each record the power may have gone. What stands before it must be brought to an end.
    let end = verified(&original, "to be cut").last_lsn;
    let (mut cuts, mut finished, mut paying) = (0, 0, 0);
    let mut last = end;
    while last.0 >= begun {
        let copy = config(&dir.path().join(format!("copy-{last}")));
        let at = copy_until(&original.data_dir, &copy.data_dir, last).unwrap();
        let engine = Engine::open(copy.clone()).await.unwrap();
        for user in &users {
            let payments = engine.payments(user, &PageRequest::default()).await.unwrap().items;
            paying += payments.iter().filter(|payment| payment.status == PaymentStatus::Pending).count();
        }
        settled(&engine, option, &users).await;
        let mut paid = 0;
        for (user, (token, _)) in users.iter().zip(&tokens) {
            for payment in engine.payments(user, &PageRequest::default()).await.unwrap().items {
                assert!(
                    [PaymentStatus::Completed, PaymentStatus::Refunded].contains(&payment.status),
                    "cut at {at}: {payment:?}"
                );
                paid += 100 * u64::from(payment.status == PaymentStatus::Completed);
                finished += 1;
                eventually("the token is used", || async {
                    (engine.token(&Caller::Admin, *token).await.unwrap().status == TokenStatus::Used).then_some(())
                })
                .await;
            }
        }
        assert_eq!(audit_money(&engine, &users).await, 450 - paid, "cut at {at}");
        audit_seats(&engine, option, &users).await;
        engine.shutdown().await.unwrap();
        let last_event = verified(&copy, "brought to an end").last_lsn;
        assert!(last_event >= at);
        cuts += 1;
        last = boxoffice::Lsn(at.0 - 1);
    }
    println!("{cuts} cuts, {finished} payments finished, of which {paying} were seen pending");
    // For each buyer: held, begun, debited, confirmed, used, acknowledged; and the refund, the credit and its end.
    assert!(cuts >= 21 && finished > 21, "{cuts} cuts, {finished} payments");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_is_whole_wherever_it_is_read_from() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let engine = Engine::open(config.clone()).await.unwrap();
    // More than one page of rows, and one that has just begun: pages hold 64.
    for amount in 1..=130 {
        charge(&engine, &user(1), amount).await;
    }
    let amounts = |entries: Vec<boxoffice::WalletEntry>| entries.iter().map(|it| it.amount.get()).collect::<Vec<_>>();
    let expected: Vec<_> = (1..=130).rev().collect();
    assert_eq!(amounts(all_entries(&engine, &user(1)).await), expected, "from memory");
    engine.shutdown().await.unwrap();
    let engine = Engine::open(config).await.unwrap();
    assert_eq!(amounts(all_entries(&engine, &user(1)).await), expected, "from the state");
    let few = every(7, |page| {
        let engine = &engine;
        async move { engine.wallet_entries(&user(1), &page).await }
    })
    .await;
    assert_eq!(amounts(few), expected, "a few at a time");
    engine.shutdown().await.unwrap();
}
