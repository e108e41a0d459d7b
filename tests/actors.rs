//! However many ask for however much at once, and however few actors fit into memory: nothing is lost, nothing is done
//! twice, limits are exact, and everybody sees what they were told.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use boxoffice::testing::random::{Random, seed};
use boxoffice::testing::slow_disk::SlowDisk;
use boxoffice::{
    Caller, Config, Engine, Error, IdempotencyKey, NewOption, OptionId, PageRequest, PaymentId, PaymentStatus,
    Rejection, ReservationStatus, RoomSettings, SeatStatus, UserId,
};
use common::*;
use tokio::task::JoinSet;

async fn open(adjust: impl FnOnce(&mut Config)) -> (Engine, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    adjust(&mut config);
    (Engine::open(config).await.unwrap(), dir)
}

/// Runs all at once and gives what came of it, in the order of the calls.
async fn at_once<T: Send + 'static, F: Future<Output = T> + Send + 'static>(calls: impl Iterator<Item = F>) -> Vec<T> {
    let mut tasks = JoinSet::new();
    for (index, call) in calls.enumerate() {
        tasks.spawn(async move { (index, call.await) });
    }
    let mut results = tasks.join_all().await;
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn few_fit_into_memory_and_nothing_is_lost() {
    const USERS: usize = 1_500;
    const OPTIONS: usize = 100;
    let (engine, dir) = open(|config| {
        config.actors.max_resident = 16;
        config.checkpoint.replay_target_ms = 0;
    })
    .await;
    let concert = engine.create_concert(new_concert("Concert", RoomSettings::default()), None).await.unwrap().value.id;
    let mut options = Vec::new();
    for _ in 0..OPTIONS {
        options.push(engine.add_option(concert, new_option(&engine, 2, 10), None).await.unwrap().value.id);
    }
    let spent = Arc::new(AtomicU64::new(0));
    let visits = (0..USERS).map(|n| {
        let (engine, spent, user) = (engine.clone(), spent.clone(), user(n));
        let option = options[n % OPTIONS];
        async move {
            charge(&engine, &user, 100).await;
            // Some wallets are asked for by several at once, so that they are woken while they go to sleep.
            let also = name(&format!("user-{}", n / 2));
            charge(&engine, &also, 7).await;
            let held = match engine.hold(option, &user, best(1), None, None).await {
                Ok(held) => held.value,
                Err(Error::Rejected(Rejection::NotEnoughSeats)) => return,
                Err(error) => panic!("{error}"),
            };
            let payment = engine.pay(&user, held.id, None).await.unwrap().value;
            spent.fetch_add(payment.amount.get(), Ordering::Relaxed);
            if n % 5 == 0 {
                engine.refund(&Caller::Admin, payment.id, None).await.unwrap();
                spent.fetch_sub(payment.amount.get(), Ordering::Relaxed);
            }
        }
    });
    at_once(visits).await;
    let users: Vec<_> = (0..USERS).map(user).collect();
    let left = audit_money(&engine, &users).await;
    assert_eq!(left, USERS as u64 * 107 - spent.load(Ordering::Relaxed));
    for option in &options {
        audit_seats(&engine, *option, &users).await;
    }
    // Each kind has its ceiling; and there is the catalogue.
    eventually("most have been put to sleep", || async {
        let stats = engine.stats();
        (stats.resident_actors <= 3 * 16 + 1 && stats.readable_aggregates <= 3 * 16 + 1).then_some(())
    })
    .await;
    // Any of them wakes when it is asked.
    for user in users.iter().step_by(100) {
        charge(&engine, user, 1).await;
    }
    let held = hold(&engine, options[0], &users[0], &["2-10"]).await;
    assert_eq!(engine.release(&Caller::Admin, held.id).await.unwrap().status, ReservationStatus::Released);
    engine.shutdown().await.unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    assert_eq!(audit_money(&engine, &users).await, left + 15);
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_what_does_not_exist_does_not_fill_the_memory() {
    let (engine, _dir) = open(|config| config.actors.max_resident = 16).await;
    charge(&engine, &user(1), 1).await;
    for n in 0..500 {
        assert_eq!(engine.wallet(&user(n + 10)).await.unwrap().balance, points(0));
        assert_eq!(rejection(engine.option(OptionId(n as u64 + 10)).await.map(|_| ())), Rejection::NotFound);
        let payment = PaymentId { option: OptionId(n as u64 + 1_000), no: 1 };
        assert_eq!(rejection(engine.refund(&Caller::Admin, payment, None).await), Rejection::NotFound);
    }
    eventually("it is forgotten again", || async {
        let stats = engine.stats();
        (stats.resident_actors <= 3 * 16 + 1 && stats.readable_aggregates <= 3 * 16 + 1).then_some(())
    })
    .await;
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_seats_gets_through_when_no_more_are_let_in() {
    let (engine, _dir) = open(|config| config.limits.calls = 32).await;
    let option = on_sale(&engine, 2, 50).await;
    let held = hold(&engine, option, &user(0), &["1-1"]).await;
    let users: Vec<_> = (0..50).map(user).collect();
    // Each is under way from the first time that it is polled until it is done.
    let mut calls = Vec::new();
    for user in &users {
        calls.push(Box::pin(engine.hold(option, user, best(1), None, None)));
    }
    let (mut under_way, mut refused) = (Vec::new(), 0);
    for mut call in calls {
        match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => under_way.push(call),
            Poll::Ready(Err(Error::Overloaded(after))) => {
                assert!(after > Duration::ZERO);
                refused += 1;
            }
            Poll::Ready(answer) => panic!("{answer:?}"),
        }
    }
    assert_eq!((under_way.len(), refused), (16, 34));
    assert_eq!(engine.stats().overloaded, 34);
    let owner = Caller::User(user(0));
    assert_eq!(engine.release(&owner, held.id).await.unwrap().status, ReservationStatus::Released);
    for call in under_way {
        call.await.unwrap();
    }
    assert_eq!(engine.option(option).await.unwrap().counts.held, 16);
    hold(&engine, option, &user(0), &["1-1"]).await;
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_mailbox_says_so() {
    let (engine, _dir) = open(|config| config.actors.mailbox = 4).await;
    let wallet = user(1);
    let calls = (0..2_000).map(|_| {
        let (engine, wallet) = (engine.clone(), wallet.clone());
        async move { engine.charge(&wallet, points(1), &name("the-bank"), None).await.map(|_| ()) }
    });
    let (mut charged, mut overloaded) = (0, 0);
    for result in at_once(calls).await {
        match result {
            Ok(()) => charged += 1,
            Err(Error::Overloaded(after)) => {
                assert!(after > Duration::ZERO);
                overloaded += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(charged > 0 && overloaded > 0, "{charged} charged, {overloaded} told to come back");
    assert_eq!(engine.wallet(&wallet).await.unwrap().balance, points(charged), "who was told so was not charged");
    assert_eq!(engine.stats().overloaded, overloaded);
    // Commands from inside need no room in the mailbox, and it is over when it is over.
    let option = on_sale(&engine, 2, 5).await;
    buy(&engine, option, &user(2), &["1-1"]).await;
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_payments_of_one_reservation_are_one() {
    let (engine, _dir) = open(|_| ()).await;
    let option = on_sale(&engine, 2, 5).await;
    for round in 1..=3 {
        let seat = format!("1-{round}");
        let held = hold(&engine, option, &user(1), &[&seat]).await;
        charge(&engine, &user(1), 250).await;
        let before = engine.wallet(&user(1)).await.unwrap().balance.get();
        let calls = (0..100).map(|_| {
            let (engine, id) = (engine.clone(), held.id);
            async move { engine.pay(&user(1), id, None).await }
        });
        let (paid, refused): (Vec<_>, Vec<_>) = at_once(calls).await.into_iter().partition(Result::is_ok);
        let [Ok(paid)] = &paid[..] else { panic!("{} were paid", paid.len()) };
        assert_eq!(refused.len(), 99);
        for refused in refused {
            assert_eq!(rejection(refused), Rejection::AlreadyPaid { payment: paid.value.id });
        }
        assert_eq!(engine.wallet(&user(1)).await.unwrap().balance, points(before - 100));
        assert_eq!(paid.value.balance, Some(points(before - 100)));
    }
    // Whoever cannot pay is told so a hundred times, and is debited never.
    let held = hold(&engine, option, &user(2), &["1-4"]).await;
    let calls = (0..100).map(|_| {
        let (engine, id) = (engine.clone(), held.id);
        async move { engine.pay(&user(2), id, None).await }
    });
    for refused in at_once(calls).await {
        let expected = Rejection::InsufficientPoints { balance: points(0), amount: points(100) };
        assert_eq!(rejection(refused), expected);
    }
    assert_eq!(engine.reservation(&Caller::Admin, held.id).await.unwrap().status, ReservationStatus::Held);
    audit_money(&engine, &[user(1), user(2)]).await;
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_users_and_ten_seats() {
    let (engine, _dir) = open(|_| ()).await;
    let concert = engine.create_concert(new_concert("Concert", RoomSettings::default()), None).await.unwrap().value.id;
    let option = NewOption { max_seats_per_user: 1, ..new_option(&engine, 1, 10) };
    let option = engine.add_option(concert, option, None).await.unwrap().value.id;
    let calls = (0..1_000).map(|n| {
        let (engine, user) = (engine.clone(), user(n));
        async move {
            charge(&engine, &user, 100).await;
            // Half of them know which seat they want.
            let seat = format!("1-{}", n % 10 + 1);
            let wish = if n % 2 == 0 { seats(&[&seat]) } else { best(1) };
            match engine.hold(option, &user, wish, None, None).await {
                Ok(held) => engine.pay(&user, held.value.id, None).await.map(|_| ()),
                Err(error) => Err(error),
            }
        }
    });
    let mut bought = 0;
    for result in at_once(calls).await {
        match result {
            Ok(()) => bought += 1,
            Err(Error::SeatsUnavailable(_) | Error::Rejected(Rejection::NotEnoughSeats)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(bought, 10);
    let users: Vec<_> = (0..1_000).map(user).collect();
    assert_eq!(audit_money(&engine, &users).await, 99_000);
    audit_seats(&engine, option, &users).await;
    let counts = engine.option(option).await.unwrap().counts;
    assert_eq!((counts.sold, counts.held, counts.available), (10, 0, 0));
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_open_holds_is_exact() {
    let (engine, dir) = open(|config| config.limits.user_open_holds = 20).await;
    let concert = engine.create_concert(new_concert("Concert", RoomSettings::default()), None).await.unwrap().value.id;
    let mut options = Vec::new();
    for _ in 0..25 {
        options.push(engine.add_option(concert, new_option(&engine, 5, 10), None).await.unwrap().value.id);
    }
    let anna = user(1);
    let full = Rejection::LimitExceeded { limit: 20, already: 20 };
    // What is refused counts for nothing.
    engine.block_seats(options[0], vec!["5-10".into()], None).await.unwrap();
    for _ in 0..100 {
        let refused = engine.hold(options[0], &anna, seats(&["5-10"]), None, None).await;
        assert!(matches!(refused, Err(Error::SeatsUnavailable(_))), "{refused:?}");
    }
    // One after the other, up to the last.
    let mut held = Vec::new();
    for option in &options[..20] {
        held.push(engine.hold(*option, &anna, best(1), None, None).await.unwrap().value.id);
    }
    assert_eq!(rejection(engine.hold(options[20], &anna, best(1), None, None).await), full);
    charge(&engine, &anna, 10_000).await;
    for (index, id) in held.drain(..).enumerate() {
        match index % 2 {
            0 => drop(engine.release(&Caller::Admin, id).await.unwrap()),
            _ => drop(engine.pay(&anna, id, None).await.unwrap()),
        }
    }
    // A hundred at once, on many options, several times.
    for round in 0..5 {
        let calls = (0..100).map(|n| {
            let (engine, anna, option) = (engine.clone(), anna.clone(), options[n % 25]);
            async move { engine.hold(option, &anna, best(1), None, None).await }
        });
        let (made, refused): (Vec<_>, Vec<_>) = at_once(calls).await.into_iter().partition(Result::is_ok);
        assert_eq!((made.len(), refused.len()), (20, 80), "round {round}");
        for refused in refused {
            assert!(matches!(rejection(refused), Rejection::LimitExceeded { limit: 20, already: 20 }));
        }
        for made in made {
            engine.release(&Caller::Admin, made.unwrap().value.id).await.unwrap();
        }
    }
    // A restart counts the same.
    let kept = engine.hold(options[0], &anna, best(1), None, None).await.unwrap().value.id;
    engine.shutdown().await.unwrap();
    let mut config = config(dir.path());
    config.limits.user_open_holds = 2;
    let engine = Engine::open(config).await.unwrap();
    let second = engine.hold(options[1], &anna, best(1), None, None).await.unwrap().value.id;
    let refused = rejection(engine.hold(options[2], &anna, best(1), None, None).await);
    assert_eq!(refused, Rejection::LimitExceeded { limit: 2, already: 2 });
    for id in [kept, second] {
        engine.release(&Caller::Admin, id).await.unwrap();
    }
    engine.hold(options[2], &anna, best(1), None, None).await.unwrap();
    engine.shutdown().await.unwrap();
}

/// Releases what `user` holds on `option`, once all is done that they asked for before they went.
async fn release_all(engine: &Engine, option: OptionId, user: &UserId) {
    // Refused, after what was sent before.
    engine.hold(option, user, seats(&["1-1"]), None, None).await.unwrap_err();
    settled(engine, option, std::slice::from_ref(user)).await;
    let held = engine.reservations(user, Some(ReservationStatus::Held), &PageRequest::default()).await.unwrap();
    for held in held.items {
        engine.release(&Caller::Admin, held.id).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_away_leaves_nothing_behind() {
    let (engine, _dir) = open(|config| config.limits.user_open_holds = 3).await;
    let option = on_sale(&engine, 20, 20).await;
    let anna = user(1);
    charge(&engine, &anna, 1_000_000).await;
    engine.block_seats(option, vec!["1-1".into()], None).await.unwrap();
    let seed = seed();
    println!("BOXOFFICE_TEST_SEED={seed}");
    let mut dice = Random(seed);
    for round in 0..400 {
        let patience = Duration::from_micros(dice.below(600));
        let engine = engine.clone();
        let visit = async {
            let held = engine.hold(option, &anna, best(1), None, None).await?.value.id;
            let payment = engine.pay(&anna, held, None).await?.value.id;
            engine.refund(&Caller::User(anna.clone()), payment, None).await.map(|_| ())
        };
        // It is dropped wherever it stands by then.
        if let Ok(Err(error)) = tokio::time::timeout(patience, visit).await {
            assert!(matches!(error, Error::Rejected(Rejection::LimitExceeded { limit: 3, already: 3 })), "{error}");
        }
        // Nor does it matter that what they asked for is refused once they have gone.
        let _ = tokio::time::timeout(patience / 4, engine.hold(option, &anna, seats(&["1-1"]), None, None)).await;
        if round % 20 == 0 {
            release_all(&engine, option, &anna).await;
        }
    }
    release_all(&engine, option, &anna).await;
    // All three are free again: no slot went with a caller.
    for _ in 0..3 {
        engine.hold(option, &anna, best(1), None, None).await.unwrap();
    }
    audit_money(&engine, std::slice::from_ref(&anna)).await;
    audit_seats(&engine, option, std::slice::from_ref(&anna)).await;
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_makes_one_thing_however_often_it_comes() {
    let (engine, dir) = open(|_| ()).await;
    let option = on_sale(&engine, 5, 10).await;
    let mut calls = vec![Replay::Concert, Replay::Charge(user(1)), Replay::Hold(option, user(1))];
    let held = hold(&engine, option, &user(2), &["1-1"]).await;
    charge(&engine, &user(2), 1_000).await;
    calls.push(Replay::Pay(user(2), held.id));
    let (_, payment) = buy(&engine, option, &user(3), &["1-2"]).await;
    calls.push(Replay::Refund(user(3), payment.id));
    let mut answers = Vec::new();
    for call in &calls {
        let again = (0..50).map(|_| {
            let (engine, call) = (engine.clone(), call.clone());
            async move { call.call(&engine, b"payload").await.unwrap_or_else(|error| panic!("{call:?}: {error}")) }
        });
        let results = at_once(again).await;
        assert_eq!(results.iter().filter(|(_, replayed)| !replayed).count(), 1, "{call:?}");
        assert!(results.iter().all(|(answer, _)| *answer == results[0].0), "{call:?}: {results:?}");
        assert_eq!(rejection(call.call(&engine, b"other").await), Rejection::IdempotencyKeyReused, "{call:?}");
        answers.push(results[0].0.clone());
    }
    // Whatever has become of it since: the answer stays.
    let held =
        engine.reservations(&user(1), Some(ReservationStatus::Held), &PageRequest::default()).await.unwrap().items;
    assert_eq!(held.len(), 1);
    engine.release(&Caller::Admin, held[0].id).await.unwrap();
    engine.shutdown().await.unwrap();
    for _ in 0..2 {
        let engine = Engine::open(config(dir.path())).await.unwrap();
        for (call, answer) in calls.iter().zip(&answers) {
            assert_eq!(call.call(&engine, b"payload").await.unwrap(), (answer.clone(), true), "{call:?}");
            assert_eq!(rejection(call.call(&engine, b"other").await), Rejection::IdempotencyKeyReused, "{call:?}");
        }
        assert_eq!(engine.wallet(&user(1)).await.unwrap().balance, points(1_000));
        audit_money(&engine, &[user(1), user(2), user(3)]).await;
        engine.shutdown().await.unwrap();
        std::fs::remove_dir_all(dir.path().join("state")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_not_remembered() {
    let (engine, _dir) = open(|_| ()).await;
    let option = on_sale(&engine, 2, 5).await;
    let held = hold(&engine, option, &user(1), &["1-1"]).await;
    let key = || key(&user(1), "pay", "one");
    let refused = rejection(engine.pay(&user(1), held.id, key()).await);
    assert!(matches!(refused, Rejection::InsufficientPoints { .. }));
    charge(&engine, &user(1), 100).await;
    assert!(!engine.pay(&user(1), held.id, key()).await.unwrap().replayed);
    assert!(engine.pay(&user(1), held.id, key()).await.unwrap().replayed);
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_idempotency_keys_are_refused_and_none_is_dropped() {
    let limits = |config: &mut Config| config.limits.user_idempotency_keys = 10;
    let (engine, dir) = open(limits).await;
    let bank = name("the-bank");
    let charge = |engine: Engine, user: UserId, n: usize| {
        let key = IdempotencyKey::new(&bank, "charge", &n.to_string(), b"");
        let bank = bank.clone();
        async move { engine.charge(&user, points(1), &bank, Some(key)).await }
    };
    for n in 0..10 {
        assert!(!charge(engine.clone(), user(n), n).await.unwrap().replayed);
    }
    engine.shutdown().await.unwrap();
    let mut config = config(dir.path());
    limits(&mut config);
    for _ in 0..2 {
        let engine = Engine::open(config.clone()).await.unwrap();
        let refused = rejection(charge(engine.clone(), user(11), 10).await);
        assert_eq!(refused, Rejection::TooManyIdempotencyKeys);
        for n in 0..10 {
            assert!(charge(engine.clone(), user(n), n).await.unwrap().replayed);
        }
        // Nobody else is concerned, nor is anything without a key.
        let other = key(&user(5), "charge", "mine");
        engine.charge(&user(5), points(1), &user(5), other).await.unwrap();
        engine.charge(&user(11), points(1), &bank, None).await.unwrap();
        engine.shutdown().await.unwrap();
        std::fs::remove_dir_all(dir.path().join("state")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_sees_what_they_were_told() {
    let (engine, _dir) = open(|_| ()).await;
    let option = on_sale(&engine, 30, 10).await;
    let first = PageRequest { limit: 1, cursor: None };
    let visits = (0..8_usize).map(|n| {
        let (engine, first, user) = (engine.clone(), first.clone(), user(n));
        async move {
            let caller = Caller::User(user.clone());
            for _ in 0..15 {
                let entry = engine.charge(&user, points(200), &user, None).await.unwrap().value;
                assert_eq!(engine.wallet(&user).await.unwrap().balance, entry.balance);
                assert_eq!(engine.wallet_entries(&user, &first).await.unwrap().items, [entry]);
                let wish = seats(&[&format!("{}-1", n + 1), &format!("{}-2", n + 1)]);
                let held = engine.hold(option, &user, wish, None, None).await.unwrap().value;
                assert_eq!(engine.reservation(&caller, held.id).await.unwrap().status, ReservationStatus::Held);
                assert_eq!(engine.reservations(&user, None, &first).await.unwrap().items[0].id, held.id);
                let map = engine.seats(option).await.unwrap();
                assert!(held.seats().all(|seat| map.status(seat.id) == Some(SeatStatus::Held)));
                let payment = engine.pay(&user, held.id, None).await.unwrap().value;
                assert_eq!(engine.payment(&caller, payment.id).await.unwrap(), payment);
                assert_eq!(engine.payments(&user, &first).await.unwrap().items, std::slice::from_ref(&payment));
                assert_eq!(engine.wallet(&user).await.unwrap().balance, payment.balance.unwrap());
                let confirmed = engine.reservations(&user, Some(ReservationStatus::Confirmed), &first).await.unwrap();
                assert_eq!(confirmed.items[0].id, held.id);
                let refund = engine.refund(&caller, payment.id, None).await.unwrap().value;
                assert_eq!(engine.wallet(&user).await.unwrap().balance, refund.balance.unwrap());
                assert_eq!(engine.payment(&caller, payment.id).await.unwrap().status, PaymentStatus::Refunded);
                assert_eq!(engine.reservation(&caller, held.id).await.unwrap().status, ReservationStatus::Refunded);
                let map = engine.seats(option).await.unwrap();
                assert!(held.seats().all(|seat| map.status(seat.id) == Some(SeatStatus::Free)));
                let entries = engine.wallet_entries(&user, &first).await.unwrap().items;
                assert_eq!(entries[0].reference, refund.id.to_string());
            }
        }
    });
    at_once(visits).await;
    let blocked = engine.block_seats(option, vec!["30-1".into()], None).await.unwrap().value;
    assert_eq!(engine.seats(option).await.unwrap().status(&blocked[0]), Some(SeatStatus::Blocked));
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_disk_delays_answers_and_loses_nothing() {
    const SYNC: Duration = Duration::from_millis(150);
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.actors.max_resident = 16;
    config.checkpoint.replay_target_ms = 0;
    let engine = Engine::open_on(config.clone(), SlowDisk::new(SYNC)).await.unwrap();
    let option = on_sale(&engine, 10, 10).await;
    let begun = Instant::now();
    charge(&engine, &user(0), 1).await;
    assert!(begun.elapsed() >= SYNC, "answered after {:?}", begun.elapsed());
    // What is decided and not durable yet is seen by nobody.
    let (before, charging) = (engine.wallet(&user(0)).await.unwrap().balance, Instant::now());
    let charged = {
        let engine = engine.clone();
        tokio::spawn(async move { charge(&engine, &user(0), 1).await })
    };
    eventually("it can be seen", || async {
        let seen = engine.wallet(&user(0)).await.unwrap().balance > before;
        assert!(!seen || charging.elapsed() >= SYNC, "seen after {:?}", charging.elapsed());
        seen.then_some(())
    })
    .await;
    charged.await.unwrap();
    buy(&engine, option, &user(0), &["1-1"]).await;
    // Many more wallets than fit into memory, each charged over and over: they may only sleep once it is durable.
    let users: Vec<_> = (100..200).map(user).collect();
    let calls = users.iter().cloned().map(|user| {
        let engine = engine.clone();
        async move {
            for _ in 0..5 {
                charge(&engine, &user, 10).await;
                tokio::time::sleep(Duration::from_millis(60)).await;
                let twice = [charge(&engine, &user, 1), charge(&engine, &user, 1)];
                let [one, two] = twice;
                // The second is decided on what the first has not made durable yet.
                tokio::join!(one, async {
                    tokio::time::sleep(Duration::from_millis(110)).await;
                    two.await;
                });
            }
        }
    });
    at_once(calls).await;
    assert_eq!(audit_money(&engine, &users).await, 100 * 5 * 12);
    engine.shutdown().await.unwrap();
    let engine = Engine::open(config).await.unwrap();
    assert_eq!(audit_money(&engine, &users).await, 100 * 5 * 12);
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn long_lists_are_read_to_their_end() {
    let (engine, _dir) = open(|_| ()).await;
    let option = on_sale(&engine, 1, 1).await;
    let anna = user(1);
    let (mut reservations, mut entries) = (Vec::new(), Vec::new());
    for n in 0..150 {
        entries.push(engine.charge(&anna, points(1), &anna, None).await.unwrap().value);
        let held = engine.hold(option, &anna, seats(&["1-1"]), None, None).await.unwrap().value;
        if n < 149 {
            engine.release(&Caller::User(anna.clone()), held.id).await.unwrap();
        }
        reservations.push(held.id);
    }
    entries.reverse();
    reservations.reverse();
    for limit in [1, 7, 149, 200] {
        let mut request = PageRequest { limit, cursor: None };
        let mut found = Vec::new();
        loop {
            let page = engine.wallet_entries(&anna, &request).await.unwrap();
            found.extend(page.items);
            request.cursor = page.next_cursor;
            if request.cursor.is_none() {
                break;
            }
        }
        assert_eq!(found, entries, "{limit} at a time");
        for (status, expected) in [
            (None, &reservations[..]),
            (Some(ReservationStatus::Held), &reservations[..1]),
            (Some(ReservationStatus::Released), &reservations[1..]),
        ] {
            let mut request = PageRequest { limit, cursor: None };
            let mut found = Vec::new();
            loop {
                let page = engine.reservations(&anna, status, &request).await.unwrap();
                assert!(page.items.len() <= limit);
                found.extend(page.items.into_iter().map(|one| one.id));
                request.cursor = page.next_cursor;
                if request.cursor.is_none() {
                    break;
                }
            }
            assert_eq!(found, expected, "{status:?}, {limit} at a time");
        }
    }
    engine.shutdown().await.unwrap();
}
