//! One owns the log for a term, and again for another, in one process: whatever is under way when a term ends, nothing that was
//! acknowledged is lost, nothing is done twice, everybody is told something, and what is owed is done by the next.

mod common;

use std::fs;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use boxoffice::relay::{Delivery, Outcome, Receiver, Settings};
use boxoffice::testing::clock::ManualClock;
use boxoffice::testing::failpoints::{Action, Failpoints, Step};
use boxoffice::testing::slow_disk::SlowDisk;
use boxoffice::{
    Answered, Caller, Engine, Error, EventFilter, EventId, NewOption, PaymentStatus, ReservationStatus, Start, UserId,
};
use common::*;
use parking_lot::Mutex;
use tokio::task::JoinSet;

/// Threads are counted in the whole process: one test after the other.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// How many threads there are whose name begins so.
fn threads(name: &str) -> usize {
    let names = fs::read_dir("/proc/self/task").unwrap().filter_map(|task| {
        // It may have ended since.
        fs::read_to_string(task.unwrap().path().join("comm")).ok()
    });
    names.filter(|it| it.starts_with(name)).count()
}

/// Waits until there are so many: a thread has its name a moment after it began, and is seen a moment after it was joined.
async fn there_are(count: usize, name: &str) {
    eventually(&format!("{count} threads {name}"), || async { (threads(name) == count).then_some(()) }).await;
}

/// Calls with a key until the outcome is known.
async fn insist<T, F: Future<Output = Result<Answered<T>, Error>>>(unknown: &AtomicU64, call: impl Fn() -> F) -> T {
    loop {
        match call().await {
            Ok(answered) => return answered.value,
            Err(Error::OutcomeUnknown(_) | Error::NoOwner) => {
                unknown.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_acknowledged_is_lost_however_often_a_term_ends() {
    const USERS: usize = 12;
    const VISITS: u64 = 12;
    const TERMS: u64 = 8;
    let _alone = ALONE.lock().await;
    let dir = tempfile::tempdir().unwrap();
    // So that there is always somebody who waits for it.
    let disk = SlowDisk::new(Duration::from_millis(2));
    let engine = Engine::open_on(config(dir.path()), disk).await.unwrap();
    let option = on_sale(&engine, 20, 20).await;
    let (unknown, acknowledged) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut buyers = JoinSet::new();
    for user in (0..USERS).map(user) {
        let (engine, unknown, acknowledged) = (engine.clone(), unknown.clone(), acknowledged.clone());
        buyers.spawn(async move {
            let (bank, mut told) = (name("the-bank"), Vec::new());
            for visit in 0..VISITS {
                let key = |what: &str| key(&user, what, &format!("{what}-{visit}"));
                insist(&unknown, || engine.charge(&user, points(150), &bank, key("charge"))).await;
                let held = insist(&unknown, || engine.hold(option, &user, best(1), None, key("hold"))).await;
                let paid = insist(&unknown, || engine.pay(&user, held.id, key("pay"))).await;
                let refunds = visit % 4 == 3;
                if refunds {
                    insist(&unknown, || engine.refund(&Caller::Admin, paid.id, key("refund"))).await;
                }
                acknowledged.fetch_add(1, Ordering::Relaxed);
                told.push((held.id, paid.id, paid.amount.get(), refunds));
            }
            (user, told)
        });
    }
    for term in 1..=TERMS {
        let some = USERS as u64 * VISITS * term / (TERMS + 2);
        eventually("some have bought", || async { (acknowledged.load(Ordering::Relaxed) >= some).then_some(()) }).await;
        there_are(1, "boxoffice-commi").await;
        let asked = engine.clone();
        let meanwhile = tokio::spawn(async move { asked.end_term().await });
        meanwhile.await.unwrap().unwrap();
        there_are(0, "boxoffice-commi").await;
        let refused = engine.charge(&user(0), points(1), &name("the-bank"), None).await.unwrap_err();
        assert!(matches!(&refused, Error::NoOwner), "{refused}");
        assert!(!engine.health().ready && engine.failed().is_none(), "{:?}", engine.health());
        assert!(engine.wallet(&user(0)).await.unwrap().balance.get() < 150 * VISITS, "reads go on");
        engine.begin_term().await.unwrap();
        assert!(engine.health().ready, "{:?}", engine.health());
    }
    // Those that read come and go with the load; there is no other that was not there before.
    for (name, count) in
        [("boxoffice-commi", 1), ("boxoffice-proje", 1), ("boxoffice-house", 1), ("journal-preallo", 1)]
    {
        there_are(count, name).await;
    }
    let users: Vec<_> = (0..USERS).map(user).collect();
    let told = buyers.join_all().await;
    settled(&engine, option, &users).await;
    let mut spent = 0;
    for (user, told) in &told {
        for &(reservation, payment, amount, refunded) in told {
            let caller = Caller::User(user.clone());
            let expected = if refunded { PaymentStatus::Refunded } else { PaymentStatus::Completed };
            assert_eq!(engine.payment(&caller, payment).await.unwrap().status, expected);
            let expected = if refunded { ReservationStatus::Refunded } else { ReservationStatus::Confirmed };
            assert_eq!(engine.reservation(&caller, reservation).await.unwrap().status, expected);
            spent += if refunded { 0 } else { amount };
        }
        assert_eq!(all_payments(&engine, user).await.len() as u64, VISITS, "each key made one thing");
    }
    assert_eq!(audit_money(&engine, &users).await, USERS as u64 * VISITS * 150 - spent);
    audit_seats(&engine, option, &users).await;
    let unknown = unknown.load(Ordering::Relaxed);
    assert!(unknown >= TERMS, "{unknown} calls only were in the middle of something");
    engine.shutdown().await.unwrap();
    let report = boxoffice::verify(&config(dir.path())).unwrap();
    assert!(report.ok && report.sealed, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_run_out_in_the_next_term_wherever_they_are_kept() {
    const OPTIONS: usize = 60;
    let _alone = ALONE.lock().await;
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(LONG_AGO));
    let mut config = config(dir.path());
    config.actors.max_resident = 16;
    let engine = Engine::open_with(config, &clock).await.unwrap();
    let concert = engine.create_concert(new_concert("Concert", boxoffice::RoomSettings::default()), None).await;
    let concert = concert.unwrap().value.id;
    let (anna, mut held) = (name("anna"), Vec::new());
    for _ in 0..OPTIONS {
        let option = NewOption { hold_seconds: 60, ..new_option(&engine, 1, 2) };
        let option = engine.add_option(concert, option, None).await.unwrap().value.id;
        if held.len() < 20 {
            held.push(hold(&engine, option, &anna, &["1-1"]).await.id);
        }
    }
    engine.end_term().await.unwrap();
    // Most are in sled only by now.
    eventually("those that nobody uses are forgotten", || async {
        (engine.stats().readable_aggregates <= 3 * 16).then_some(())
    })
    .await;
    clock.advance(59_000);
    engine.begin_term().await.unwrap();
    let status = async |id| engine.reservation(&Caller::User(anna.clone()), id).await.unwrap().status;
    for id in &held {
        assert_eq!(status(*id).await, ReservationStatus::Held);
    }
    clock.advance(1_500);
    for id in held {
        eventually("the hold runs out", || async { (status(id).await == ReservationStatus::Expired).then_some(()) })
            .await;
    }
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_goes_on_in_the_next_term_and_what_was_on_its_way_never_arrives() {
    let _alone = ALONE.lock().await;
    for step in [Step::Debit, Step::Debited, Step::Credit, Step::Credited] {
        let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(LONG_AGO));
        let failpoints = Failpoints::default();
        let engine = Engine::open_failing(config(dir.path()), &clock, &failpoints).await.unwrap();
        let option = on_sale(&engine, 1, 2).await;
        let anna = name("anna");
        charge(&engine, &anna, 100).await;
        let held = hold(&engine, option, &anna, &["1-1"]).await;
        failpoints.arm(step, Action::Hold, usize::MAX);
        let payer = engine.clone();
        let user = anna.clone();
        let paying = tokio::spawn(async move {
            let paid = payer.pay(&user, held.id, key(&user, "pay", "1")).await?.value;
            payer.refund(&Caller::Admin, paid.id, key(&user, "refund", "1")).await
        });
        eventually("the message is on its way", || async { (failpoints.held(step) > 0).then_some(()) }).await;
        engine.end_term().await.unwrap();
        let told = paying.await.unwrap();
        assert!(matches!(told, Err(Error::OutcomeUnknown(_))), "{step:?}: {told:?}");
        failpoints.disarm(step);
        failpoints.let_go(step).await;
        engine.begin_term().await.unwrap();
        clock.advance(1_000);
        let paid = engine.pay(&anna, held.id, key(&anna, "pay", "1")).await.unwrap().value;
        engine.refund(&Caller::Admin, paid.id, key(&anna, "refund", "1")).await.unwrap();
        assert_eq!(audit_money(&engine, std::slice::from_ref(&anna)).await, 100, "{step:?}");
        let entries = all_entries(&engine, &anna).await;
        assert_eq!(entries.len(), 3, "{step:?}: charged, debited, credited: {entries:?}");
        engine.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_term_begins_no_earlier_than_the_last_one_ended_and_comes_back_to_the_wall_clock() {
    let _alone = ALONE.lock().await;
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(LONG_AGO));
    let engine = Engine::open_with(config(dir.path()), &clock).await.unwrap();
    clock.advance(60_000);
    charge(&engine, &name("anna"), 1).await;
    let last = engine.now();
    engine.end_term().await.unwrap();
    clock.set_wall(last.minus_millis(10));
    engine.begin_term().await.unwrap();
    assert_eq!((engine.now(), engine.stats().clock_skew_seconds), (last, 0.010));
    clock.advance(4_000);
    assert_eq!((engine.now(), engine.stats().clock_skew_seconds), (last.plus_millis(3_996), 0.006));
    clock.advance(60_000);
    assert_eq!((engine.now(), engine.stats().clock_skew_seconds), (last.plus_millis(63_990), 0.0));
    engine.end_term().await.unwrap();
    clock.set_wall(last.plus_millis(100_000));
    engine.begin_term().await.unwrap();
    assert_eq!(engine.now(), last.plus_millis(100_000), "it looks at the wall clock again");
    engine.shutdown().await.unwrap();
}

/// Takes everything.
#[derive(Default)]
struct Inbox(Mutex<Vec<EventId>>);

impl Receiver for Inbox {
    fn deliver<'a>(&'a self, delivery: &'a Delivery) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
        self.0.lock().extend(delivery.events.iter().map(|event| event.id));
        Box::pin(async { Outcome::Delivered })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_owner_delivers_and_the_next_one_goes_on() {
    let _alone = ALONE.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    let inbox = Arc::new(Inbox::default());
    let sink = engine.attach("host", EventFilter::ALL, Start::Now, inbox.clone(), Settings::default()).await.unwrap();
    let mut stream = engine.events(EventId::default(), EventFilter::ALL);
    let anna: UserId = name("anna");
    let mut known = Vec::new();
    for _ in 0..3 {
        for _ in 0..10 {
            charge(&engine, &anna, 1).await;
        }
        engine.end_term().await.unwrap();
        while known.len() % 10 != 0 || known.last().is_none_or(|id: &EventId| id.lsn < engine.durable_lsn()) {
            let batch = stream.next(100).await.unwrap();
            known.extend(batch.events.into_iter().map(|event| event.id));
            if known.len() % 10 == 0 {
                break;
            }
        }
        engine.begin_term().await.unwrap();
        eventually("all are delivered", || async {
            let inbox = inbox.0.lock();
            known.iter().all(|id| inbox.contains(id)).then_some(())
        })
        .await;
    }
    assert_eq!(known.len(), 30, "who reads events has noticed nothing");
    let mut first = inbox.0.lock().clone();
    let mut seen = std::collections::BTreeSet::new();
    first.retain(|id| seen.insert(*id));
    assert_eq!(first, known, "in order");
    engine.detach(sink).await;
    engine.shutdown().await.unwrap();
}

#[tokio::test]
async fn between_two_terms_it_can_be_shut_down_or_dropped() {
    let _alone = ALONE.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    charge(&engine, &name("anna"), 1).await;
    engine.end_term().await.unwrap();
    engine.end_term().await.unwrap();
    engine.shutdown().await.unwrap();
    assert!(matches!(engine.begin_term().await, Err(Error::OutcomeUnknown(_))), "it is over");
    let engine = Engine::open(config(dir.path())).await.unwrap();
    engine.begin_term().await.unwrap();
    charge(&engine, &name("anna"), 1).await;
    engine.end_term().await.unwrap();
    drop(engine);
    let engine = open_when_free(&config(dir.path())).await;
    assert_eq!(engine.wallet(&name("anna")).await.unwrap().balance, points(2));
    engine.shutdown().await.unwrap();
}
