//! What callers are told while the engine is held up or fails, in the order that only the inside can bring about.

mod cold;
mod money;
mod nodes;
mod terms;
mod watching;

use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::api::{Caller, NewConcert, NewOption, Reservation, Wish};
use crate::domain::waiting_room::{Mode, Settings};
use crate::domain::{Aggregate, Points, UserId};
use crate::store::lock::DirLock;
use crate::testing::slow_disk::SlowDisk;

/// Long enough for anything that does happen.
const PATIENCE: Duration = Duration::from_secs(30);

fn anna() -> UserId {
    "anna".parse().unwrap()
}

async fn open(adjust: impl FnOnce(&mut Config)) -> (Engine, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config { data_dir: dir.path().to_path_buf(), ..Config::default() };
    config.journal.segment_bytes = 1 << 20;
    config.storage.min_free_bytes = 1 << 20;
    adjust(&mut config);
    (Engine::open(config).await.unwrap(), dir)
}

/// An option on two seats.
async fn on_sale(engine: &Engine) -> OptionId {
    let waiting_room = Settings::default();
    let concert = engine.create_concert(NewConcert { title: "Concert".into(), waiting_room }, None).await.unwrap();
    let option = engine.add_option(concert.value.id, two_seats(engine), None).await.unwrap().value.id;
    // Then nothing is written any more but what the test does.
    while engine.0.read(|replica| Ok(replica.catalogue()?.owes())).await.unwrap() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    option
}

fn two_seats(engine: &Engine) -> NewOption {
    let plan = br#"{"categories":[{"name":"A"}],"zones":[{"name":"Hall","rows":[{"row_number":"1","seats":[
        {"seat_guid":"1","seat_number":"1","category":"A","position":{"x":0,"y":0}},
        {"seat_guid":"2","seat_number":"2","category":"A","position":{"x":30,"y":0}}]}]}]}"#;
    let tomorrow = engine.now().plus_millis(86_400_000);
    NewOption { prices: vec![("A".into(), Points::new(100).unwrap())], ..NewOption::new(tomorrow, plan.to_vec()) }
}

async fn hold(engine: &Engine, option: OptionId, seat: &str) -> Result<Reservation, Error> {
    Ok(engine.hold(option, &anna(), Wish::Seats(vec![seat.to_owned()]), None, None).await?.value)
}

/// Nothing is read, and nothing that becomes durable is taken in, until this is dropped.
struct HeldUp {
    _release: mpsc::Sender<()>,
}

impl HeldUp {
    fn new(engine: &Engine) -> Self {
        let (release, released) = mpsc::channel();
        let (locked, is_locked) = mpsc::channel();
        let replica = engine.0.node.replica.clone();
        std::thread::spawn(move || {
            let _replica = replica.lock();
            locked.send(()).unwrap();
            // It ends with an error, when the sender is dropped.
            let _ = released.recv();
        });
        is_locked.recv().unwrap();
        Self { _release: release }
    }
}

#[tokio::test]
async fn however_often_it_is_shut_down_nobody_is_told_before_it_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config { data_dir: dir.path().to_path_buf(), ..Config::default() };
    config.journal.segment_bytes = 1 << 20;
    let slow = SlowDisk::new(Duration::from_millis(50));
    for begun_before in [false, true] {
        let engine = Engine::open_on(config.clone(), slow).await.unwrap();
        engine.charge(&anna(), Points::new(1).unwrap(), &anna(), None).await.unwrap();
        if begun_before {
            // Whoever began it goes away at once.
            assert!(tokio::time::timeout(Duration::ZERO, engine.shutdown()).await.is_err(), "it takes its time");
        }
        let shut_down = async || {
            engine.shutdown().await.unwrap();
            drop(DirLock::acquire(dir.path()).expect("it is over"));
        };
        tokio::join!(shut_down(), shut_down(), shut_down());
        shut_down().await;
    }
}

#[tokio::test]
async fn who_waits_for_a_payment_is_let_go_when_the_engine_fails() {
    let (engine, _dir) = open(|_| ()).await;
    let option = on_sale(&engine).await;
    let held = hold(&engine, option, "1").await.unwrap();
    let journal = engine.0.node.journal.clone();
    let before = journal.durable();
    // The wallet, which nobody has asked for yet, cannot be loaded, and so does not answer.
    let held_up = HeldUp::new(&engine);
    let payer = engine.clone();
    let paying = tokio::spawn(async move { payer.pay(&anna(), held.id, None).await });
    while journal.durable() == before {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    journal.poison("a test");
    drop(held_up);
    let paid = tokio::time::timeout(PATIENCE, paying).await.expect("an answer").unwrap();
    assert!(matches!(&paid, Err(Error::OutcomeUnknown(reason)) if reason == "a test"), "{paid:?}");
    assert!(engine.shutdown().await.is_err());
}

#[tokio::test]
async fn what_was_given_up_makes_room_at_once() {
    let (engine, _dir) = open(|config| config.limits.user_open_holds = 1).await;
    let option = on_sale(&engine).await;
    let first = hold(&engine, option, "1").await.unwrap();
    let held_up = HeldUp::new(&engine);
    // Durable, and acknowledged, before anybody has counted it.
    engine.release(&Caller::Admin, first.id).await.unwrap();
    let holder = engine.clone();
    let second = tokio::spawn(async move { hold(&holder, option, "2").await });
    // Runs it until it has to wait.
    tokio::task::yield_now().await;
    drop(held_up);
    second.await.unwrap().unwrap();
    let third = hold(&engine, option, "1").await;
    let full = Rejection::LimitExceeded { limit: 1, already: 1 };
    assert!(matches!(&third, Err(Error::Rejected(rejection)) if *rejection == full), "{third:?}");
    engine.shutdown().await.unwrap();
}

#[tokio::test]
async fn concerts_and_options_have_a_limit() {
    let (engine, _dir) = open(|config| config.limits.catalogue_entries = 2).await;
    let create = |key: &str| {
        let (engine, key) = (engine.clone(), IdempotencyKey::new(&anna(), "create", key, b""));
        let concert = NewConcert { title: "Concert".into(), waiting_room: Settings::default() };
        async move { engine.create_concert(concert, Some(key)).await.map(|made| (made.value.id, made.replayed)) }
    };
    let (first, second) = (create("1").await.unwrap().0, create("2").await.unwrap().0);
    let full = Rejection::LimitExceeded { limit: 2, already: 2 };
    let third = create("3").await;
    assert!(matches!(&third, Err(Error::Rejected(rejection)) if *rejection == full), "{third:?}");
    let option = engine.add_option(first, two_seats(&engine), None).await;
    assert!(matches!(&option, Err(Error::Rejected(rejection)) if *rejection == full), "{option:?}");
    assert_eq!(create("2").await.unwrap(), (second, true), "what was answered is answered again");
    engine.shutdown().await.unwrap();
}

/// While many are told of an update, no other one is made: the next one holds all that has changed in between.
#[cfg(feature = "server")]
#[tokio::test(flavor = "multi_thread")]
async fn a_flush_starts_no_sooner_than_the_last_one_was_told() {
    let (engine, _dir) = open(|config| config.live.window_ms = 1).await;
    let option = on_sale(&engine).await;
    let mut changes = engine.seat_changes(option, None).await.unwrap();
    let mut crier = changes.subscription().crier();
    let block = async |seat: &str| {
        engine.block_seats(option, vec![seat.to_owned()], None).await.unwrap();
        engine.unblock_seats(option, vec![seat.to_owned()], None).await.unwrap();
        engine.seats_seq(option).await.unwrap()
    };
    block("1").await;
    let (first, telling) = tokio::time::timeout(PATIENCE, crier.next()).await.expect("an update").unwrap();
    let before = engine.stats().live_flushes;
    let mut last = first.seq();
    for _ in 0..20 {
        last = block("2").await;
    }
    assert_eq!(engine.stats().live_flushes, before);
    drop(telling);
    let (mut at, mut updates) = (first.seq(), 0);
    while at < last {
        let (update, _) = tokio::time::timeout(PATIENCE, crier.next()).await.expect("an update").unwrap();
        assert_eq!(update.previous_seq(), Some(at));
        (at, updates) = (update.seq(), updates + 1);
    }
    assert!(updates <= 2, "{updates}");
    engine.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_line_is_looked_after_for_as_long_as_somebody_waits_in_it() {
    let (engine, _dir) = open(|_| ()).await;
    let waiting_room = Settings { mode: Mode::Paused, ..Settings::default() };
    let concert = NewConcert { title: "Concert".into(), waiting_room };
    let concert = engine.create_concert(concert, None).await.unwrap().value.id;
    let liveness = &engine.0.node.liveness;
    assert!(liveness.is_empty(), "nobody has come");
    for _ in 0..2 {
        let issued = engine.issue_token(concert, &anna()).await.unwrap();
        assert!(issued.fresh && liveness.contains_key(&concert));
        engine.leave_queue(&Caller::User(anna()), issued.token.id).await.unwrap();
        let gone = async {
            while !liveness.is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.expect("nobody waits any more");
    }
    engine.shutdown().await.unwrap();
}

#[tokio::test]
async fn no_more_plans_are_kept_than_options_may_be_in_memory() {
    let (engine, _dir) = open(|config| config.actors.max_resident = 16).await;
    let first = on_sale(&engine).await;
    let concert = engine.option(first).await.unwrap().concert_id;
    let in_use = engine.plan(first).await.unwrap();
    for _ in 0..40 {
        engine.add_option(concert, two_seats(&engine), None).await.unwrap();
        assert!(engine.0.offers.len() <= 16, "{}", engine.0.offers.len());
    }
    assert!(Arc::ptr_eq(&in_use, &engine.plan(first).await.unwrap()), "what is in use stays");
    hold(&engine, first, "1").await.unwrap();
    engine.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_plan_that_is_being_read_delays_only_who_needs_it() {
    let (engine, _dir) = open(|_| ()).await;
    let first = on_sale(&engine).await;
    let concert = engine.option(first).await.unwrap().concert_id;
    let same = engine.add_option(concert, two_seats(&engine), None).await.unwrap().value.id;
    let mut another = two_seats(&engine);
    another.seating_plan.push(b' ');
    let another = engine.add_option(concert, another, None).await.unwrap().value.id;
    let hash = engine.plan_json(first).await.unwrap().hash;
    // Nobody has asked for them yet, and somebody reads the plan of the first two.
    engine.0.offers.clear();
    let shared = engine.0.seating_plans.lock().entry(hash).or_default().clone();
    let being_read = shared.lock();
    let load = |option| {
        let (inner, (sender, loaded)) = (engine.0.clone(), mpsc::channel());
        std::thread::spawn(move || sender.send(inner.load_offer(option).unwrap()));
        loaded
    };
    let waiting = [load(first), load(same)];
    load(another).recv_timeout(PATIENCE).expect("its plan is another one");
    assert!(waiting.iter().all(|loaded| loaded.try_recv().is_err()));
    drop(being_read);
    let [first, same] = waiting.map(|loaded| loaded.recv_timeout(PATIENCE).unwrap());
    assert!(Arc::ptr_eq(&first.plan, &same.plan), "there is one copy of it");
    drop((first, same, shared));
    engine.0.offers.clear();
    engine.plan(another).await.unwrap();
    assert_eq!(engine.0.seating_plans.lock().len(), 1, "what nobody needs is forgotten");
    engine.shutdown().await.unwrap();
}
