//! Data directories of every released format still open, and mean what they meant.
//!
//! `tests/fixtures/format-<n>/` holds a journal with every event that there is, the plans it names, and `facts.json`: what
//! it adds up to, and what was answered when it was written. To save space the segments lack the zeros at their ends. The
//! directory of a released format is never changed; before the first release, and for a new format, it is written by
//!
//! `cargo test --test format_compat -- --ignored write_the_fixture`

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use boxoffice::payment::{Fact, Kind, Method};
use boxoffice::testing::clock::ManualClock;
use boxoffice::testing::data_dir::copy_until;
use boxoffice::{
    Blocks, Caller, ConcertPatch, Currency, Engine, EventFilter, LineOrder, Lsn, NewArea, NewOption, Note, Office,
    OptionPatch, PageRequest, PaymentStatus, Portion, RoomMode, RoomSettings, RoomSettingsPatch, Start, Timestamp,
    TokenStatus, WindowPatch, Wish, export, relay, verify,
};
use common::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The format that is written now.
const PRESENT: &str = "format-1";

/// What is known of a fixture.
#[derive(Serialize, Deserialize)]
struct Facts {
    /// Of `verify`.
    last_lsn: u64,
    events: u64,
    state_sha256: String,
    /// When it was asked for `answers`.
    now: Timestamp,
    sale: Sale,
    answers: Value,
}

fn fixture(format: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(format)
}

/// Copies a fixture, and gives its segments the size that their headers name.
fn unpack(format: &str, to: &Path) -> Facts {
    copy_dir(&fixture(format), to);
    for segment in segments(to) {
        let header = fs::read(&segment).unwrap();
        let bytes = u64::from_le_bytes(header[32..40].try_into().unwrap());
        fs::OpenOptions::new().write(true).open(&segment).unwrap().set_len(bytes).unwrap();
    }
    let facts = to.join("facts.json");
    let read = serde_json::from_slice(&fs::read(&facts).unwrap()).unwrap();
    fs::remove_file(facts).unwrap();
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn every_released_format_still_opens_and_means_the_same() {
    let mut formats: Vec<_> = fs::read_dir(fixture("")).unwrap().map(|it| it.unwrap().file_name()).collect();
    formats.sort();
    assert!(formats.iter().any(|format| format == PRESENT), "{formats:?}");
    for format in formats {
        let format = format.to_str().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let facts = unpack(format, dir.path());
        let config = config(dir.path());
        let report = verify(&config).unwrap_or_else(|error| panic!("{format}: {error}"));
        assert!(report.ok && report.sealed, "{format}: {report}");
        assert_eq!((report.last_lsn.0, report.events), (facts.last_lsn, facts.events), "{format}");
        // Where the rows are changed on purpose, sled's must be rebuilt, and this is to be written down anew.
        assert_eq!(report.state_sha256, facts.state_sha256, "{format}: the journal adds up to other rows");
        // The first start builds the state, the second finds it.
        for start in ["first", "second"] {
            let clock = ManualClock::at(facts.now);
            let engine = Engine::open_with(config.clone(), &clock).await.unwrap_or_else(|e| panic!("{format}: {e}"));
            let answers = facts.sale.answers(&engine).await;
            assert_same(&answers, &facts.answers, &format!("{format}, {start} start"));
            facts.sale.check_replays(&engine).await;
            assert_eq!(audit_money(&engine, &facts.sale.users).await, balances(&facts.answers), "{format}");
            assert_eq!(engine.stats().durable_lsn, facts.last_lsn, "{format}: nothing is due or owed");
            engine.shutdown().await.unwrap();
        }
        // And it goes on from there.
        let engine = Engine::open_with(config.clone(), &ManualClock::at(facts.now)).await.unwrap();
        let option = on_sale(&engine, 2, 5).await;
        buy(&engine, option, &facts.sale.users[0], &["1-1"]).await;
        engine.shutdown().await.unwrap();
        let report = verify(&config).unwrap();
        assert!(report.ok && report.last_lsn.0 > facts.last_lsn, "{format}: {report}");
    }
}

fn balances(answers: &Value) -> u64 {
    let users = answers["users"].as_object().unwrap().values();
    users.map(|user| user["wallet"]["balance"].as_u64().unwrap()).sum()
}

/// The kinds of events in a journal, each as `aggregate.type`.
fn kinds(dir: &Path) -> BTreeSet<String> {
    let mut kinds = BTreeSet::new();
    let mut note = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let (aggregate, facts) = line["facts"].as_object().unwrap().iter().next().unwrap();
        // The events alone, or after whose they are.
        let events = facts.as_array().unwrap();
        let events = events.get(1).and_then(Value::as_array).unwrap_or(events);
        for event in events {
            kinds.insert(format!("{aggregate}.{}", event["type"].as_str().unwrap()));
            if let Some(reason) = event["reason"]["reason"].as_str() {
                kinds.insert(format!("{aggregate}.payment_failed.{reason}"));
            }
        }
        Ok(())
    };
    export(&config(dir), Lsn(1), &mut note).unwrap();
    kinds
}

/// The variants of an enum in a source file, in snake case.
fn variants(file: &str, name: &str) -> Vec<String> {
    let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/domain").join(file)).unwrap();
    let body = source.split_once(&format!("pub enum {name} {{\n")).unwrap().1.split_once("\n}\n").unwrap().0;
    let heads =
        body.lines().filter_map(|line| line.strip_prefix("    ")).filter(|line| line.starts_with(char::is_uppercase));
    heads
        .map(|head| {
            let end = head.find(|c: char| !c.is_alphanumeric()).unwrap();
            let mut snake = String::new();
            for c in head[..end].chars() {
                if c.is_uppercase() && !snake.is_empty() {
                    snake.push('_');
                }
                snake.extend(c.to_lowercase());
            }
            snake
        })
        .collect()
}

#[test]
fn the_present_format_has_every_event_that_there_is() {
    let dir = tempfile::tempdir().unwrap();
    unpack(PRESENT, dir.path());
    let mut expected = BTreeSet::new();
    for (aggregate, file) in [
        ("catalogue", "catalogue.rs"),
        ("option", "concert_option/mod.rs"),
        ("wallet", "wallet.rs"),
        ("room", "waiting_room/mod.rs"),
        ("sink", "sink.rs"),
    ] {
        expected.extend(variants(file, "Event").into_iter().map(|variant| format!("{aggregate}.{variant}")));
    }
    let reasons = variants("concert_option/reservation.rs", "FailureReason");
    expected.extend(reasons.into_iter().map(|reason| format!("option.payment_failed.{reason}")));
    assert!(expected.len() > 25, "{expected:?}");
    assert_eq!(kinds(dir.path()), expected);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes tests/fixtures/format-1 anew"]
async fn write_the_fixture() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&dir.path().join("data"));
    // No longer than it has to be.
    let card = Method { name: "card".into(), pay_within_ms: 1_000, ..Method::default() };
    config.payments.providers = vec![card];
    let late = a_payment_that_timed_out(&config).await;
    let engine = Engine::open(config.clone()).await.unwrap();
    let mut sale = Sale::hold(&engine).await;
    sale.users.push(late);
    the_rest(&engine, &mut sale).await;
    cards(&engine, &mut sale).await;
    orders_that_change(&engine, &mut sale).await;
    a_sink(&engine, &mut sale).await;
    engine.shutdown().await.unwrap();
    // Asked for at a moment that can be come back to. What was owed is paid, so nothing happens at the start.
    let now = boxoffice::testing::clock::ManualClock::at(Timestamp::from_millis(
        std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64,
    ));
    let engine = Engine::open_with(config.clone(), &now).await.unwrap();
    let (now, answers) = (engine.now(), sale.answers(&engine).await);
    engine.shutdown().await.unwrap();
    let report = verify(&config).unwrap();
    assert!(report.ok, "{report}");

    let target = fixture(PRESENT);
    let _ = fs::remove_dir_all(&target);
    for folder in ["journal", "plans"] {
        copy_dir(&config.data_dir.join(folder), &target.join(folder));
    }
    let _ = fs::remove_file(target.join("journal/next.tmp"));
    for segment in segments(&target) {
        let bytes = fs::read(&segment).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        fs::write(&segment, &bytes[..used]).unwrap();
    }
    let (last_lsn, events, state_sha256) = (report.last_lsn.0, report.events, report.state_sha256);
    let facts = Facts { last_lsn, events, state_sha256, now, sale, answers };
    fs::write(target.join("facts.json"), serde_json::to_vec(&facts).unwrap()).unwrap();
    println!("{} events in {}", events, target.display());
}

/// The power goes after a payment has begun and before the wallet is asked; it comes back when it is too late. Gives
/// whose payment that was.
async fn a_payment_that_timed_out(config: &boxoffice::Config) -> boxoffice::UserId {
    let user = user(90);
    let whole = common::config(&config.data_dir.with_extension("whole"));
    let engine = Engine::open(whole.clone()).await.unwrap();
    let concert = engine.create_concert(new_concert("Cut off", RoomSettings::default()), None).await.unwrap().value.id;
    let option = NewOption { payment_seconds: 1, ..new_option(&engine, 2, 5) };
    let option = engine.add_option(concert, option, None).await.unwrap().value.id;
    charge(&engine, &user, 500).await;
    let held = hold(&engine, option, &user, &["1-1"]).await;
    let begun = Lsn(engine.stats().durable_lsn + 1);
    engine.pay(&user, held.id, None).await.unwrap();
    engine.shutdown().await.unwrap();
    assert_eq!(copy_until(&whole.data_dir, &config.data_dir, begun).unwrap(), begun);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let engine = Engine::open(config.clone()).await.unwrap();
    settled(&engine, option, std::slice::from_ref(&user)).await;
    let payments = engine.payments(&user, &PageRequest::default()).await.unwrap().items;
    assert_eq!((payments.len(), payments[0].status), (1, PaymentStatus::Failed));
    engine.shutdown().await.unwrap();
    user
}

/// A payment by card that took no money, was forgotten, and took some after all, which goes back; and one that stays paid.
async fn cards(engine: &Engine, sale: &mut Sale) {
    let user = user(92);
    let concert = engine.create_concert(new_concert("Cards", RoomSettings::default()), None).await.unwrap().value.id;
    let (payment_methods, currency) = (vec!["card".into()], Some(Currency::KRW));
    let option = NewOption { payment_methods, currency, ..new_option(engine, 2, 5) };
    let option = engine.add_option(concert, NewOption { starts_at: engine.now().plus_millis(1_500), ..option }, None);
    let option = option.await.unwrap().value.id;
    let said = |kind, reference: &str| Fact {
        kind,
        reference: reference.into(),
        id: None,
        amount: points(100),
        currency: Currency::KRW,
        at: None,
        reason: None,
    };
    let (mut paid, mut reservations) = (Vec::new(), Vec::new());
    for seat in ["1-1", "1-2"] {
        let held = hold(engine, option, &user, &[seat]).await;
        reservations.push(held.id);
        paid.push(engine.begin_payment(&user, held.id, "card", None).await.unwrap().value.id);
    }
    engine.report(paid[0], said(Kind::Authorized, "ch-0")).await.unwrap();
    engine.report(paid[0], said(Kind::Captured, "ch-0")).await.unwrap();
    engine.report(paid[1], said(Kind::Failed, "ch-1")).await.unwrap();
    engine.release(&Caller::Admin, reservations[1]).await.unwrap();
    // Once it has left memory, its reservation is over as well.
    eventually("it has left memory", || async {
        let events = engine.stats().durable_lsn;
        let told = engine.report(paid[1], said(Kind::Failed, "ch-1")).await.unwrap();
        (engine.now() > told.provided.unwrap().expires_at.plus_millis(1_000)).then_some(events)
    })
    .await;
    engine.report(paid[1], said(Kind::Captured, "ch-1")).await.unwrap();
    engine.attempted(paid[1], 1, 0).await.unwrap();
    engine.report(paid[1], said(Kind::Refunded, "ch-1")).await.unwrap();
    eventually("it is over", || async {
        let payment = engine.payment(&Caller::Admin, paid[1]).await.unwrap();
        (payment.status == PaymentStatus::Refunded).then_some(())
    })
    .await;
    sale.users.push(user);
}

/// Whatever can be done with an order.
async fn orders_that_change(engine: &Engine, sale: &mut Sale) {
    let (anna, bob) = (user(93), user(94));
    let concert = engine.create_concert(new_concert("Changes", RoomSettings::default()), None).await.unwrap().value.id;
    let areas = vec![NewArea { name: "Lawn".into(), capacity: 10, category: "B".into() }];
    let option = NewOption { areas, ..new_option(engine, 2, 5) };
    let option = engine.add_option(concert, option, None).await.unwrap().value.id;
    for (user, amount) in [(&anna, 250), (&bob, 50)] {
        engine.charge(user, points(amount), &anna, None).await.unwrap();
    }
    let (hers, his) = (Caller::User(anna.clone()), Caller::User(bob.clone()));
    let lawn = || Portion::places("Lawn", 1);
    let held = hold(engine, option, &anna, &["1-1", "1-2", "1-5"]).await;
    engine.release_part(&hers, held.id, Portion::seats(["1-5"]), None).await.unwrap();
    engine.hold_until(held.id, engine.now().plus_millis(60_000), Some(&bob)).await.unwrap();
    let paid = engine.pay(&anna, held.id, None).await.unwrap().value.id;
    engine.refund_part(&hers, paid, Portion::seats(["1-2"]), None).await.unwrap();
    engine.exchange(&hers, held.id, (Portion::seats(["1-1"]), lawn()), None, None).await.unwrap();
    eventually("what the exchange gave back is there", || async {
        (engine.wallet(&anna).await.unwrap().balance == points(200)).then_some(())
    })
    .await;
    engine.exchange(&hers, held.id, (lawn(), Portion::seats(["1-3"])), None, None).await.unwrap();
    let places = engine.hold(option, &bob, Wish::places("Lawn", 1), None, None).await.unwrap().value.id;
    engine.pay(&bob, places, None).await.unwrap();
    engine.exchange(&his, places, (lawn(), Portion::seats(["1-4"])), None, None).await.unwrap_err();
    let offer = engine.offer_transfer(&hers, held.id, &bob, None).await.unwrap().value.id;
    engine.withdraw_transfer(&hers, offer).await.unwrap();
    let offer = engine.offer_transfer(&hers, held.id, &bob, None).await.unwrap().value.id;
    engine.accept_transfer(&bob, offer, None).await.unwrap();
    let office = Office { complimentary: true, ..Office::default() };
    engine.hold_for(option, &anna, (Wish::seats(["2-1"]), office, Note::default()), Some(&bob), None).await.unwrap();
    let off = engine.add_option(concert, new_option(engine, 1, 3), None).await.unwrap().value.id;
    let patch = OptionPatch { hold_seconds: Some(60), ..OptionPatch::default() };
    engine.change_option(off, patch, &bob).await.unwrap();
    buy(engine, off, &anna, &["1-1", "1-2"]).await;
    engine.call_off(off, Some("rain".into()), &bob, None).await.unwrap();
    eventually("all is given back", || async {
        let now = engine.cancellation(off).await.unwrap();
        ((now.done, now.owed) == (1, 0)).then_some(())
    })
    .await;
    let gone = engine.create_concert(new_concert("gone", RoomSettings::default()), None).await.unwrap().value.id;
    engine.add_option(gone, new_option(engine, 1, 3), None).await.unwrap();
    engine.issue_token(gone, &anna).await.unwrap();
    engine.delete_concert(gone, &bob).await.unwrap();
    sale.users.extend([anna, bob]);
}

/// A receiver that fails, comes back, goes, and is removed; and one that stays, with dead letters.
async fn a_sink(engine: &Engine, sale: &mut Sale) {
    for name in ["removed", "stays"] {
        let mood = Arc::new(AtomicU16::new(500));
        let receiver = Arc::new(Answers(mood.clone()));
        let breaker = relay::breaker::Limits { failures: 1_000_000, pause: Duration::from_secs(1) };
        let settings =
            relay::Settings { retry_schedule: vec![], concurrency: 1, breaker, ..relay::Settings::default() };
        let sink = engine.attach(name, EventFilter::ALL, Start::Beginning, receiver, settings).await.unwrap();
        let dead = || async {
            let dead = engine.dead_letters(sink, &PageRequest::default()).await.unwrap().items;
            (dead.len() >= 3).then_some(dead)
        };
        let dead = eventually("it fails", dead).await;
        engine.drop_dead_letter(sink, dead[0].event_id).await.unwrap();
        if name == "stays" {
            engine.detach(sink).await;
            assert_eq!(sale.keyed(engine, Replay::Redrive(sink, dead[1].event_id)).await, 1);
            continue;
        }
        mood.store(200, Ordering::Relaxed);
        eventually("all others are delivered", || async {
            engine.redrive(sink, None, None).await.unwrap();
            (engine.sink(sink).await.unwrap().parked == 0).then_some(())
        })
        .await;
        engine.rotate_secret(sink, engine.now()).await.unwrap();
        mood.store(410, Ordering::Relaxed);
        eventually("it is gone", || async {
            charge(engine, &user(91), 1).await;
            engine.sink(sink).await.unwrap().disabled
        })
        .await;
        engine.remove_sink(sink).await.unwrap();
    }
}

/// A receiver that answers with this status.
struct Answers(Arc<AtomicU16>);

impl relay::Receiver for Answers {
    fn deliver<'a>(
        &'a self,
        _delivery: &'a relay::Delivery,
    ) -> Pin<Box<dyn Future<Output = relay::Outcome> + Send + 'a>> {
        let status = self.0.load(Ordering::Relaxed);
        let failure = relay::Failure { status: Some(status), text: "no".into(), retry_after: None };
        let outcome = match status {
            200 => relay::Outcome::Delivered,
            410 => relay::Outcome::Gone(failure),
            _ => relay::Outcome::Failed(failure),
        };
        Box::pin(std::future::ready(outcome))
    }
}

/// What does not happen in every sale.
async fn the_rest(engine: &Engine, sale: &mut Sale) {
    let patch = WindowPatch { sale_opens_at: Some(Some(engine.now())), ..WindowPatch::default() };
    engine.reschedule_option(sale.option, patch).await.unwrap();
    let (operator, anna) = (name("operator"), sale.users[0].clone());
    for amount in [-1, 1] {
        engine.adjust(&anna, amount, "mistyped", &operator, None).await.unwrap();
    }
    let lawn =
        |count| Blocks { areas: vec![("Lawn".into(), count)], reason: Some("cameras".into()), ..Blocks::default() };
    engine.block(sale.option, lawn(3), &operator, None).await.unwrap();
    engine.unblock(sale.option, lawn(1), &operator, None).await.unwrap();
    let note = Note { reference: Some("order 7".into()), data: Some(r#"{"till":1}"#.into()) };
    let held = engine.hold_with_note(sale.option, &anna, best(1), note, None, None).await.unwrap().value.id;
    engine.release(&Caller::Staff(operator.clone()), held).await.unwrap();
    sale.reservations.push((anna, held));
    let patch = ConcertPatch { venue: Some(Some("A hall".into())), hidden: Some(true), ..ConcertPatch::default() };
    let concert = engine.option(sale.option).await.unwrap().concert_id;
    engine.change_concert(concert, patch, &operator).await.unwrap();
    let opens_at = Some(engine.now().plus_millis(300));
    let settings = RoomSettings {
        mode: RoomMode::Queue,
        order: LineOrder::ShuffleAtOpen,
        opens_at,
        active_ttl_seconds: 1,
        max_active: 1,
        ..RoomSettings::default()
    };
    let concert = engine.create_concert(new_concert("By lot", settings), None).await.unwrap().value.id;
    for user in sale.users.clone() {
        let token = engine.issue_token(concert, &user).await.unwrap().token;
        sale.tokens.push((user, token.id));
    }
    eventually("one has been inside for too long", || async {
        (engine.waiting_room(concert).await.unwrap().counts.expired > 0).then_some(())
    })
    .await;
    let longer = RoomSettingsPatch { active_ttl_seconds: Some(86_400), ..RoomSettingsPatch::default() };
    engine.configure_waiting_room_by(concert, longer, &operator).await.unwrap();
    // Whoever is inside for a second only has to go, or they would go when the fixture is opened.
    let brief = engine.now().plus_millis(2_000);
    eventually("only those are inside who stay", || async {
        for (user, id) in &sale.tokens {
            let token = engine.token(&Caller::User(user.clone()), *id).await.unwrap();
            if token.status == TokenStatus::Active && token.expires_at.unwrap() < brief.plus_millis(10_000) {
                return None;
            }
        }
        (engine.now() > brief).then_some(())
    })
    .await;
}
