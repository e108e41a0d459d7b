//! Calls that another node decides: the same answers, errors and replays as if it were this one, whatever befalls them on
//! their way, and nothing done twice.

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use boxoffice::testing::loopback::{Fate, Loopback, OwnerId};
use boxoffice::{
    Caller, Config, Engine, Error, NewOption, PageRequest, Rejection, RoomMode, RoomSettings, RoomSettingsPatch,
    TokenStatus, WindowPatch,
};
use common::*;
use serde_json::Value;

async fn open_with(dir: &Path, adjust: impl FnOnce(&mut Config)) -> (Engine, Loopback) {
    let mut config = config(dir);
    adjust(&mut config);
    let loopback = Loopback::default();
    (Engine::open_forwarding(config, None, &loopback).await.unwrap(), loopback)
}

async fn open(dir: &Path) -> (Engine, Loopback) {
    open_with(dir, |_| ()).await
}

/// Counts the calls that are sent, to each of which nothing happens.
fn counted(loopback: &Loopback) -> Arc<AtomicUsize> {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    loopback.befall(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        Fate::Arrives
    });
    sent
}

/// Without what differs from sale to sale: times and signatures.
fn plain(value: &mut Value) {
    match value {
        Value::String(text) if text.parse::<boxoffice::Timestamp>().is_ok() => *text = "a time".into(),
        Value::String(text) => {
            if let Some((id, signature)) = text.split_once('.')
                && signature.len() == 32
            {
                *text = format!("{id}, signed");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(plain),
        Value::Object(members) => members.values_mut().for_each(plain),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_sale_is_the_same_whoever_decides_it() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let engine = Engine::open(config(here.path())).await.unwrap();
    let decided_here = Sale::hold(&engine).await;
    let mut told_here = decided_here.answers(&engine).await;
    engine.shutdown().await.unwrap();

    let (engine, loopback) = open(there.path()).await;
    let sent = counted(&loopback);
    let sale = Sale::hold(&engine).await;
    assert!(sent.load(Ordering::Relaxed) > 50, "{sent:?} calls were sent");
    let told = sale.answers(&engine).await;
    sale.check_replays(&engine).await;
    settled(&engine, sale.option, &sale.users).await;
    engine.shutdown().await.unwrap();
    // The same directory, whose owner this is.
    let engine = Engine::open(config(there.path())).await.unwrap();
    assert_same(&sale.answers(&engine).await, &told, "asked of another node, and of itself");
    sale.check_replays(&engine).await;
    engine.shutdown().await.unwrap();
    let mut told = told;
    [&mut told_here, &mut told].into_iter().for_each(plain);
    assert_same(&told, &told_here, "decided by another node, and by itself");
}

#[tokio::test]
async fn refusals_are_the_same_whoever_decides() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (forwarding, _) = open(there.path()).await;
    let mut told = Vec::new();
    for engine in [Engine::open(config(here.path())).await.unwrap(), forwarding] {
        let mut errors = Vec::new();
        let mut note = |what: &str, error: Error| errors.push(format!("{what}: {error:?}"));
        let option = on_sale(&engine, 3, 4).await;
        let anna = user(0);
        let (caller, admin) = (Caller::User(anna.clone()), Caller::Admin);
        let nobody: boxoffice::OptionId = "o99".parse().unwrap();
        let no_concert: boxoffice::ConcertId = "c99".parse().unwrap();
        let held = hold(&engine, option, &anna, &["1-1"]).await;
        let plan = new_option(&engine, 2, 2);
        note("option", engine.option(nobody).await.unwrap_err());
        note("concert", engine.concert(no_concert).await.unwrap_err());
        note("plan", engine.plan(nobody).await.map(drop).unwrap_err());
        note("seats", engine.seats(nobody).await.map(drop).unwrap_err());
        note("line", engine.waiting_room(no_concert).await.unwrap_err());
        note("no concert", engine.add_option(no_concert, plan.clone(), None).await.unwrap_err());
        let broken = NewOption { seating_plan: b"[]".to_vec(), ..plan.clone() };
        let concert = engine.option(option).await.unwrap().concert_id;
        note("broken", engine.add_option(concert, broken, None).await.unwrap_err());
        let both = NewOption { seating_plan: b"[]".to_vec(), ..plan.clone() };
        note("both", engine.add_option(no_concert, both, None).await.unwrap_err());
        let free = NewOption { hold_seconds: 0, prices: vec![], ..plan.clone() };
        note("terms", engine.add_option(concert, free, None).await.unwrap_err());
        note("title", engine.create_concert(new_concert("", RoomSettings::default()), None).await.unwrap_err());
        note("none", engine.hold(nobody, &anna, best(1), None, None).await.unwrap_err());
        note("taken", engine.hold(option, &anna, seats(&["1-1", "1-2"]), None, None).await.unwrap_err());
        note("unknown", engine.hold(option, &anna, seats(&["9-9"]), None, None).await.unwrap_err());
        note("many", engine.hold(option, &anna, best(50), None, None).await.unwrap_err());
        note("poor", engine.pay(&anna, held.id, None).await.unwrap_err());
        note("hers", engine.pay(&user(1), held.id, None).await.unwrap_err());
        note("hers", engine.reservation(&Caller::User(user(1)), held.id).await.unwrap_err());
        note("unpaid", engine.refund(&caller, "p1-1".parse().unwrap(), None).await.unwrap_err());
        note("no payment", engine.payment(&admin, "p1-99".parse().unwrap()).await.unwrap_err());
        note("blocks", engine.block_seats(option, vec!["1-1".into()], None).await.unwrap_err());
        note("blocks", engine.block_seats(option, vec!["9-9".into()], None).await.unwrap_err());
        note("zero", engine.charge(&anna, points(0), &anna, None).await.unwrap_err());
        note("page", engine.payments(&anna, &PageRequest { limit: 501, cursor: None }).await.unwrap_err());
        note(
            "page",
            engine.wallet_entries(&anna, &PageRequest { limit: 1, cursor: Some("x".into()) }).await.unwrap_err(),
        );
        note("sink", engine.sink("w9".parse().unwrap()).await.unwrap_err());
        note("token", engine.token(&caller, "t1-9".parse().unwrap()).await.unwrap_err());
        note("leaves", engine.leave_queue(&caller, "t1-9".parse().unwrap()).await.unwrap_err());
        note("line", engine.issue_token(no_concert, &anna).await.unwrap_err());
        charge(&engine, &anna, 500).await;
        let paid = engine.pay(&anna, held.id, None).await.unwrap().value;
        note("again", engine.pay(&anna, held.id, None).await.unwrap_err());
        note("too late", engine.release(&caller, held.id).await.unwrap_err());
        let never = WindowPatch { refundable_until: Some(None), ..WindowPatch::default() };
        assert_eq!(engine.reschedule_option(option, never).await.unwrap().refundable_until, None);
        note("never", engine.refund(&caller, paid.id, None).await.unwrap_err());
        let made = key(&anna, "charge", "k");
        engine.charge(&anna, points(1), &anna, made.clone()).await.unwrap();
        let reused = boxoffice::IdempotencyKey::new(&anna, "charge", "k", b"another");
        note("reused", engine.charge(&anna, points(2), &anna, Some(reused)).await.unwrap_err());
        let queue = RoomSettingsPatch { mode: Some(RoomMode::Queue), ..RoomSettingsPatch::default() };
        engine.configure_waiting_room(concert, queue).await.unwrap();
        note("no token", engine.hold(option, &anna, best(1), None, None).await.unwrap_err());
        told.push(errors);
        engine.shutdown().await.unwrap();
    }
    let [here, there] = &told[..] else { unreachable!() };
    assert!(here.len() > 30, "{}", here.len());
    for (here, there) in here.iter().zip(there) {
        assert_eq!(here, there);
    }
}

/// The balance of a user, and how many entries it has.
async fn account(engine: &Engine) -> (u64, usize) {
    (engine.wallet(&user(0)).await.unwrap().balance.get(), all_entries(engine, &user(0)).await.len())
}

async fn charged(engine: &Engine, with: Option<&str>) -> Result<bool, Error> {
    let key = with.and_then(|text| key(&user(0), "charge", text));
    engine.charge(&user(0), points(10), &name("the-bank"), key).await.map(|answered| answered.replayed)
}

#[tokio::test]
async fn whatever_befalls_a_call_it_is_done_once_or_not_at_all_and_the_caller_knows_or_is_told_that_nobody_does() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, loopback) = open_with(dir.path(), |config| config.forwarding.time_ms = 1_000).await;
    // What befalls it; whether it was done; whether its caller is told so.
    for (fate, is_done, is_told) in [
        (Fate::Arrives, true, true),
        (Fate::Twice, true, true),
        (Fate::NobodyListens, true, true),
        (Fate::LostBefore, false, false),
        (Fate::LostAfter, true, false),
        (Fate::Silence, true, false),
        (Fate::Tampered, false, false),
        (Fate::AnswerTampered, true, false),
        (Fate::AnswerMistaken, true, false),
    ] {
        for with in [None, Some(format!("{fate:?}"))] {
            let (balance, entries) = account(&engine).await;
            loopback.befall_once(fate);
            let told = charged(&engine, with.as_deref()).await;
            match &told {
                Ok(replayed) => assert!(is_told && !replayed, "{fate:?}: {told:?}"),
                Err(Error::OutcomeUnknown(_)) => assert!(!is_told, "{fate:?}: {told:?}"),
                Err(error) => panic!("{fate:?}: {error}"),
            }
            let times = usize::from(is_done);
            assert_eq!(account(&engine).await, (balance + 10 * times as u64, entries + times), "{fate:?}");
            if with.is_none() {
                continue;
            }
            // With the key it is known in the end, and done once.
            assert_eq!(charged(&engine, with.as_deref()).await.unwrap(), is_done, "{fate:?}");
            assert_eq!(account(&engine).await, (balance + 10, entries + 1), "{fate:?}");
        }
    }
    engine.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_comes_late_is_not_decided() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, loopback) = open(dir.path()).await;
    charged(&engine, None).await.unwrap();
    // Clocks may be a second apart, and the time of a call is ten.
    loopback.befall_once(Fate::Late(Duration::from_secs(5)));
    charged(&engine, None).await.unwrap();
    let before = account(&engine).await;
    loopback.befall_once(Fate::Late(Duration::from_secs(12)));
    let told = charged(&engine, None).await;
    assert!(matches!(told, Err(Error::Overloaded(_))), "{told:?}");
    assert_eq!(account(&engine).await, before);
    engine.shutdown().await.unwrap();
}

fn owner(epoch: u64) -> Option<OwnerId> {
    Some(OwnerId { node: format!("node-{epoch}"), epoch })
}

#[tokio::test]
async fn what_an_owner_of_another_epoch_does_not_take_is_asked_of_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, loopback) = open(dir.path()).await;
    charged(&engine, None).await.unwrap();
    // Others have not heard yet who owns now.
    loopback.serve_as(owner(2));
    let asks = Arc::new(AtomicUsize::new(0));
    let (counter, hears) = (asks.clone(), loopback.clone());
    loopback.befall(move || {
        if counter.fetch_add(1, Ordering::Relaxed) == 2 {
            hears.know(owner(2));
        }
        Fate::Arrives
    });
    assert!(!charged(&engine, None).await.unwrap());
    assert!(asks.load(Ordering::Relaxed) >= 4, "{asks:?}");
    assert_eq!(account(&engine).await, (20, 2));
    // The same node in another epoch is another owner; so is another node in the same one.
    for other in [OwnerId { node: "node-2".into(), epoch: 3 }, OwnerId { node: "node-3".into(), epoch: 2 }] {
        let asks = counted(&loopback);
        loopback.serve_as(Some(other));
        let asking = engine.clone();
        let asked = tokio::spawn(async move { charged(&asking, None).await });
        eventually("it is asked again", || async { (asks.load(Ordering::Relaxed) > 1).then_some(()) }).await;
        loopback.serve_as(owner(2));
        asked.await.unwrap().unwrap();
    }
    assert_eq!(account(&engine).await, (40, 4));
    engine.shutdown().await.unwrap();
}

#[tokio::test]
async fn without_an_owner_nothing_is_taken_and_callers_are_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, loopback) = open_with(dir.path(), |config| config.forwarding.time_ms = 300).await;
    let option = on_sale(&engine, 2, 2).await;
    let before = engine.durable_lsn();
    let refused = async || {
        let told = charged(&engine, None).await;
        assert!(matches!(told, Err(Error::NoOwner)), "{told:?}");
        let told = engine.create_concert(new_concert("Concert", RoomSettings::default()), None).await;
        assert!(matches!(told, Err(Error::NoOwner)), "{told:?}");
        let told = engine.hold(option, &user(0), best(1), None, None).await.map(drop);
        assert!(matches!(told, Err(Error::NoOwner)), "{told:?}");
        let told = engine.wallet(&user(0)).await;
        assert!(matches!(told, Err(Error::NoOwner)), "{told:?}");
        let told = engine.concert("c77".parse().unwrap()).await;
        assert!(matches!(told, Err(Error::NoOwner)), "that it is not there, nobody can say: {told:?}");
    };
    // Nobody is known; whoever is known owns no more, and nobody else is known in time.
    loopback.know(None);
    refused().await;
    assert!(!engine.health().ready, "{:?}", engine.health());
    loopback.know(owner(1));
    loopback.serve_as(None);
    refused().await;
    // What all may see is seen.
    assert_eq!(engine.option(option).await.unwrap().counts.available, 4);
    assert_eq!(engine.seats(option).await.unwrap().taken().count(), 0);
    assert_eq!(engine.durable_lsn(), before);
    loopback.serve_as(owner(1));
    charged(&engine, None).await.unwrap();
    assert!(engine.health().ready, "{:?}", engine.health());
    engine.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_call_that_was_under_way_when_its_owner_was_deposed_is_left_open_and_waited_for_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, loopback) = open_with(dir.path(), |config| config.forwarding.time_ms = 600_000).await;
    charged(&engine, None).await.unwrap();
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = taken.clone();
    loopback.befall(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        Fate::Silence
    });
    let asking = engine.clone();
    let asked = tokio::spawn(async move { charged(&asking, None).await });
    eventually("it is taken", || async { (taken.load(Ordering::Relaxed) == 1).then_some(()) }).await;
    loopback.know(owner(2));
    let told = tokio::time::timeout(PATIENCE, asked).await.expect("an answer").unwrap();
    assert!(matches!(told, Err(Error::OutcomeUnknown(_))), "{told:?}");
    assert_eq!(taken.load(Ordering::Relaxed), 1, "without a key it is never asked again");
    engine.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_is_too_large_is_not_sent_and_long_lists_come_in_parts() {
    const ENTRIES: usize = 300;
    let dir = tempfile::tempdir().unwrap();
    let small = |config: &mut Config| {
        (config.forwarding.question_bytes, config.forwarding.answer_bytes) = (4_096, 4_096);
    };
    let (engine, loopback) = open_with(dir.path(), small).await;
    // The plan is larger, and goes another way.
    assert!(plan(20, 20).len() > 3 * 4_096);
    let option = on_sale(&engine, 20, 20).await;
    assert_eq!(loopback.plans(), 1);
    for _ in 0..ENTRIES {
        charged(&engine, None).await.unwrap();
    }
    let entries = all_entries(&engine, &user(0)).await;
    let numbers: Vec<_> = entries.iter().map(|entry| entry.id.no).collect();
    assert!(numbers.into_iter().eq((1..=ENTRIES as u64).rev()), "each once, newest first");
    let sent = counted(&loopback);
    let seats: Vec<_> = (0..500).map(|n| format!("a seat with a name, {n}")).collect();
    let told = engine.block_seats(option, seats, None).await;
    assert!(matches!(told, Err(Error::Overloaded(_))), "{told:?}");
    assert_eq!(sent.load(Ordering::Relaxed), 0);
    engine.shutdown().await.unwrap();
}

#[tokio::test]
async fn there_is_an_end_to_how_many_calls_are_under_way() {
    const CALLS: u64 = 32;
    let dir = tempfile::tempdir().unwrap();
    let (engine, loopback) = open_with(dir.path(), |config| {
        (config.forwarding.calls, config.forwarding.time_ms) = (CALLS, 600_000);
    })
    .await;
    let option = on_sale(&engine, 2, 2).await;
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = taken.clone();
    loopback.befall(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        Fate::Silence
    });
    let mut asked = tokio::task::JoinSet::new();
    let mut ask = async |calls: u64| {
        for _ in 0..calls {
            let engine = engine.clone();
            asked.spawn(async move { charged(&engine, None).await });
        }
        let most = taken.load(Ordering::Relaxed) + calls as usize;
        eventually("they are taken", || async { (taken.load(Ordering::Relaxed) == most).then_some(()) }).await;
    };
    ask(CALLS / 2).await;
    let told = engine.hold(option, &user(1), best(1), None, None).await.map(drop);
    assert!(matches!(told, Err(Error::Overloaded(_))), "half of them is kept from those who begin: {told:?}");
    ask(CALLS / 2).await;
    let told = charged(&engine, None).await;
    assert!(matches!(told, Err(Error::Overloaded(_))), "{told:?}");
    assert!(engine.stats().overloaded >= 2);
    asked.shutdown().await;
    loopback.befall(|| Fate::Arrives);
    charged(&engine, None).await.unwrap();
    engine.hold(option, &user(1), best(1), None, None).await.unwrap();
    engine.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_buyer_who_waits_in_line_gets_in_and_pays_through_another_node() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _loopback) = open(dir.path()).await;
    let settings = RoomSettings { mode: RoomMode::Queue, max_active: 1, ..RoomSettings::default() };
    let concert = engine.create_concert(new_concert("Concert", settings), None).await.unwrap().value;
    let option = engine.add_option(concert.id, new_option(&engine, 2, 2), None).await.unwrap().value.id;
    let (anna, berta) = (user(0), user(1));
    let first = engine.issue_token(concert.id, &anna).await.unwrap();
    let again = engine.issue_token(concert.id, &anna).await.unwrap();
    assert!(first.fresh && !again.fresh && first.token.id == again.token.id);
    let second = engine.issue_token(concert.id, &berta).await.unwrap().token;
    let of = |user: &boxoffice::UserId| Caller::User(user.clone());
    let token = |user, id| {
        let engine = engine.clone();
        async move { engine.token(&of(user), id).await.unwrap() }
    };
    let active = eventually("she is let in", || async {
        let token = token(&anna, first.token.id).await;
        (token.status == TokenStatus::Active).then_some(token)
    })
    .await;
    let waiting = token(&berta, second.id).await;
    assert_eq!((waiting.status, waiting.position), (TokenStatus::Waiting, Some(1)));
    assert_eq!(rejection(engine.token(&of(&anna), second.id).await), Rejection::NotFound);
    let told = engine.hold(option, &berta, best(1), Some(&waiting.token), None).await;
    assert_eq!(rejection(told), Rejection::QueueTokenNotActive);
    charge(&engine, &anna, 1_000).await;
    let held = engine.hold(option, &anna, best(1), Some(&active.token), None).await.unwrap().value;
    let mut changes = engine.token_changes(of(&berta), second.id).await.unwrap();
    assert_eq!(changes.next().await.unwrap().status, TokenStatus::Waiting);
    engine.pay(&anna, held.id, None).await.unwrap();
    while changes.next().await.unwrap().status != TokenStatus::Active {}
    eventually("hers is used", || async {
        (token(&anna, first.token.id).await.status == TokenStatus::Used).then_some(())
    })
    .await;
    engine.leave_queue(&of(&berta), second.id).await.unwrap();
    assert_eq!(token(&berta, second.id).await.status, TokenStatus::Expired);
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rush_through_another_node_sells_each_seat_once_whatever_is_lost() {
    const BUYERS: usize = 24;
    let dir = tempfile::tempdir().unwrap();
    let (engine, loopback) = open(dir.path()).await;
    let option = on_sale(&engine, 4, 4).await;
    // Every third call is lost before, every fifth after it was taken, and every seventh comes twice.
    let number = Mutex::new(0_u64);
    loopback.befall(move || {
        let mut number = number.lock().unwrap();
        *number += 1;
        match *number {
            number if number % 3 == 0 => Fate::LostBefore,
            number if number % 5 == 0 => Fate::LostAfter,
            number if number % 7 == 0 => Fate::Twice,
            _ => Fate::Arrives,
        }
    });
    let mut buyers = tokio::task::JoinSet::new();
    for n in 0..BUYERS {
        let engine = engine.clone();
        buyers.spawn(async move {
            let user = user(n);
            // Until the outcome is known.
            macro_rules! insist {
                ($call:expr) => {
                    loop {
                        match $call.await {
                            Err(Error::OutcomeUnknown(_)) => {}
                            told => break told,
                        }
                    }
                };
            }
            let once = |what: &str| key(&user, what, "once");
            insist!(engine.charge(&user, points(1_000), &user, once("charge"))).unwrap();
            let held = match insist!(engine.hold(option, &user, best(1), None, once("hold"))) {
                Ok(held) => held.value,
                Err(Error::Rejected(Rejection::NotEnoughSeats)) => return 0,
                Err(error) => panic!("{error}"),
            };
            let paid = insist!(engine.pay(&user, held.id, once("pay"))).unwrap().value;
            if n % 4 == 0 {
                insist!(engine.refund(&Caller::Admin, paid.id, once("refund"))).unwrap();
                return 0;
            }
            1
        });
    }
    let sold: u64 = buyers.join_all().await.into_iter().sum();
    loopback.befall(|| Fate::Arrives);
    let users: Vec<_> = (0..BUYERS).map(user).collect();
    settled(&engine, option, &users).await;
    assert_eq!(engine.option(option).await.unwrap().counts.sold, sold);
    engine.shutdown().await.unwrap();
}
