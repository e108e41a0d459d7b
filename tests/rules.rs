//! Rules hold however many ask at once, each of them with something that is right by itself.

mod common;

use std::pin::Pin;
use std::task::{Context, Waker};

use boxoffice::testing::clock::ManualClock;
use boxoffice::testing::failpoints::{Action, Failpoints, Step};
use boxoffice::{
    Caller, Engine, Error, NewArea, NewOption, OptionId, Rejection, RoomMode, RoomSettings, RoomSettingsPatch,
    Timestamp, UserId, WindowPatch,
};
use common::*;
use tokio::task::JoinSet;

/// Some of two changes at once are decided one after the other anyway: so many rounds show the others.
const ROUNDS: usize = 60;

async fn open(adjust: impl FnOnce(&mut boxoffice::Config)) -> (Engine, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    adjust(&mut config);
    (Engine::open(config).await.unwrap(), dir)
}

fn window(opens_at: Option<Timestamp>, closes_at: Option<Timestamp>) -> WindowPatch {
    WindowPatch { sale_opens_at: opens_at.map(Some), sale_closes_at: closes_at.map(Some), ..WindowPatch::default() }
}

async fn reschedule_at_once(engine: &Engine, option: OptionId, patches: [WindowPatch; 2]) -> Vec<Result<(), Error>> {
    let mut tasks = JoinSet::new();
    for patch in patches {
        let engine = engine.clone();
        tasks.spawn(async move { engine.reschedule_option(option, patch).await.map(|_| ()) });
    }
    tasks.join_all().await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_changes_at_once_leave_a_sale_that_opens_before_it_closes() {
    let (engine, _dir) = open(|_| ()).await;
    let option = on_sale(&engine, 2, 5).await;
    let at = |hours: u64| Some(engine.now().plus_millis(hours * 3_600_000));
    let mut refused = 0;
    for round in 0..ROUNDS {
        engine.reschedule_option(option, window(at(1), at(10))).await.unwrap();
        // Each is right by itself.
        let results = reschedule_at_once(&engine, option, [window(at(9), None), window(None, at(2))]).await;
        let now = engine.option(option).await.unwrap();
        assert!(now.sale_opens_at.unwrap() < now.sale_closes_at, "round {round}: {results:?} left {now:?}");
        for result in results {
            match result {
                Ok(()) => {}
                Err(Error::Invalid(wrong)) => {
                    assert_eq!(wrong[0].field, "sale_opens_at");
                    refused += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert_eq!(refused, ROUNDS, "one of two each time");
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_an_option_are_bounded_by_their_bytes() {
    let (engine, _dir) = open(|config| config.limits.option_name_bytes = 4_096).await;
    let concert = engine.create_concert(new_concert("First", RoomSettings::default()), None).await.unwrap().value.id;
    let add = async |areas: usize| {
        let area = |n: usize| NewArea { name: format!("{n:0200}"), capacity: 1, category: "A".into() };
        let option = NewOption { areas: (0..areas).map(area).collect(), ..new_option(&engine, 1, 2) };
        engine.add_option(concert, option, None).await.map(|added| added.value.areas.len())
    };
    assert_eq!(add(19).await.unwrap(), 19);
    let Err(Error::Invalid(wrong)) = add(20).await else { panic!("it is accepted") };
    let fields: Vec<_> = wrong.iter().map(|wrong| wrong.field.as_str()).collect();
    assert_eq!(fields, ["areas"], "{wrong:?}");
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_concerts_and_options_is_exact() {
    const LIMIT: usize = 12;
    let (engine, _dir) = open(|config| config.limits.catalogue_entries = LIMIT as u64).await;
    let concert = engine.create_concert(new_concert("First", RoomSettings::default()), None).await.unwrap().value.id;
    let mut tasks = JoinSet::new();
    for n in 0..4 * LIMIT {
        let engine = engine.clone();
        tasks.spawn(async move {
            match n % 2 {
                0 => engine.create_concert(new_concert("Another", RoomSettings::default()), None).await.map(|_| ()),
                _ => engine.add_option(concert, new_option(&engine, 1, 2), None).await.map(|_| ()),
            }
        });
    }
    let results = tasks.join_all().await;
    let made = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(made, LIMIT - 1, "one was there before");
    let full = Rejection::LimitExceeded { limit: LIMIT as u64, already: LIMIT as u64 };
    for refused in results.into_iter().filter(Result::is_err) {
        assert_eq!(rejection(refused), full);
    }
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_change_of_a_waiting_room_at_once_is_both_there() {
    let (engine, _dir) = open(|_| ()).await;
    let concert = engine.create_concert(new_concert("Concert", RoomSettings::default()), None).await.unwrap().value.id;
    for round in 1..=ROUNDS as u32 {
        let patches = [
            RoomSettingsPatch { max_active: Some(round), ..RoomSettingsPatch::default() },
            RoomSettingsPatch { admit_per_minute: Some(Some(round)), ..RoomSettingsPatch::default() },
            RoomSettingsPatch { mode: Some(RoomMode::Paused), ..RoomSettingsPatch::default() },
            RoomSettingsPatch { active_ttl_seconds: Some(0), ..RoomSettingsPatch::default() },
        ];
        let mut tasks = JoinSet::new();
        for patch in patches {
            let engine = engine.clone();
            tasks.spawn(async move { engine.configure_waiting_room(concert, patch).await });
        }
        let refused: Vec<_> = tasks.join_all().await.into_iter().filter_map(Result::err).collect();
        assert!(matches!(&refused[..], [Error::Invalid(wrong)] if wrong[0].field == "active_ttl_seconds"));
        let settings = engine.waiting_room(concert).await.unwrap().settings;
        let expected = RoomSettings {
            mode: RoomMode::Paused,
            max_active: round,
            admit_per_minute: Some(round),
            ..RoomSettings::default()
        };
        assert_eq!(settings, expected);
    }
    engine.shutdown().await.unwrap();
}

/// What is out of bounds is refused with the same words wherever it comes from, and by its field.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_out_of_bounds_is_named() {
    let (engine, _dir) = open(|_| ()).await;
    let fields = |result: Result<(), Error>| match result {
        Err(Error::Invalid(wrong)) => wrong.into_iter().map(|wrong| wrong.field).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let settings = RoomSettings { max_active: 0, waiting_ttl_seconds: 86_401, ..RoomSettings::default() };
    let wrong = engine.create_concert(new_concert("", settings), None).await.map(|_| ());
    assert_eq!(fields(wrong), ["waiting_room.max_active", "waiting_room.waiting_ttl_seconds", "title"]);
    let concert = engine.create_concert(new_concert("Concert", RoomSettings::default()), None).await.unwrap().value.id;
    let wrong = NewOption {
        hold_seconds: 0,
        payment_seconds: 3_601,
        max_seats_per_reservation: 101,
        max_seats_per_user: 0,
        sale_opens_at: Some(Timestamp::MAX),
        ..new_option(&engine, 1, 2)
    };
    let wrong = engine.add_option(concert, wrong, None).await.map(|_| ());
    let expected =
        ["hold_seconds", "payment_seconds", "max_seats_per_reservation", "max_seats_per_user", "sale_opens_at"];
    assert_eq!(fields(wrong), expected);
    let wrong = engine.charge(&user(1), points(0), &user(2), None).await.map(|_| ());
    assert_eq!(fields(wrong), ["amount"]);
    engine.shutdown().await.unwrap();
}

/// Asks, and does not wait for the answer yet.
fn begin<T>(call: impl Future<Output = T> + Send + 'static) -> Pin<Box<dyn Future<Output = T> + Send>> {
    let mut call: Pin<Box<dyn Future<Output = T> + Send>> = Box::pin(call);
    assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    call
}

/// A duplicate of what is under way gets its answer, also if its caller has used up all keys since.
#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_waits_for_what_is_under_way_with_the_last_key() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.limits.user_idempotency_keys = 2;
    let (clock, failpoints) = (ManualClock::at(LONG_AGO), Failpoints::default());
    let engine = Engine::open_failing(config, &clock, &failpoints).await.unwrap();
    let option = on_sale(&engine, 2, 5).await;
    let anna = user(1);
    let use_one_up = async |who: &UserId, word: &str| {
        engine.charge(&anna, points(500), who, key(who, "charge", word)).await.unwrap();
        // What is seen is counted.
        engine.wallet(&anna).await.unwrap();
    };
    let held = hold(&engine, option, &anna, &["1-1"]).await;
    use_one_up(&anna, "one").await;

    failpoints.arm(Step::Debit, Action::Hold, usize::MAX);
    let pay = || {
        let (engine, anna, key) = (engine.clone(), anna.clone(), key(&anna, "pay", "it"));
        begin(async move { engine.pay(&anna, held.id, key).await })
    };
    let first = pay();
    eventually("the wallet is about to be asked", || async { (failpoints.held(Step::Debit) > 0).then_some(()) }).await;
    use_one_up(&anna, "two").await;
    assert_eq!(
        rejection(engine.pay(&anna, held.id, key(&anna, "pay", "another")).await),
        Rejection::TooManyIdempotencyKeys
    );
    let second = pay();
    failpoints.disarm(Step::Debit);
    failpoints.let_go(Step::Debit).await;
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_eq!((first.replayed, second.replayed), (false, true));
    assert_eq!(first.value, second.value);

    failpoints.arm(Step::Credit, Action::Hold, usize::MAX);
    let refund = || {
        let (engine, key, payment) = (engine.clone(), key(&user(2), "refund", "it"), first.value.id);
        begin(async move { engine.refund(&Caller::Admin, payment, key).await })
    };
    let begun = refund();
    eventually("the wallet is about to be asked", || async { (failpoints.held(Step::Credit) > 0).then_some(()) }).await;
    for word in ["one", "two"] {
        use_one_up(&user(2), word).await;
    }
    let again = refund();
    failpoints.disarm(Step::Credit);
    failpoints.let_go(Step::Credit).await;
    let (begun, again) = (begun.await.unwrap(), again.await.unwrap());
    assert_eq!((begun.replayed, again.replayed), (false, true));
    assert_eq!(begun.value, again.value);
    engine.shutdown().await.unwrap();
}
