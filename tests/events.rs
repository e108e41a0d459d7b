//! What leaves the engine: each event says what the API said when it happened, has an id that never changes, and is the
//! same, byte for byte, whenever it is made.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::Path;

use boxoffice::payment::{Fact, Kind};
use boxoffice::testing::clock::ManualClock;
use boxoffice::{
    AreaPatch, Caller, ConcertId, Config, Currency, Engine, Error, Event, EventData, EventFilter, EventId, EventStream,
    EventType, NewOption, NewSeatingPlan, Note, OptionPatch, PaymentId, Points, Rejection, ReservationId,
    ReservationStatus, RoomMode, RoomSettings, RoomSettingsPatch, TokenId, TokenStatus,
};
use common::*;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

fn json_of(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap()
}

/// Events as they leave, each with its id.
fn rendered(events: &[Event]) -> Vec<(EventId, String)> {
    events.iter().map(|event| (event.id, serde_json::to_string(event).unwrap())).collect()
}

/// Everything that is durable after `after`, in pages of `page`.
async fn rest(engine: &Engine, after: EventId, filter: EventFilter, page: usize) -> Vec<(EventId, String)> {
    let mut stream = engine.events(after, filter);
    let mut all = Vec::new();
    loop {
        let batch = stream.available(page).await.unwrap();
        assert!(batch.events.len() <= page);
        if batch.events.is_empty() {
            return all;
        }
        assert!(batch.events.last().unwrap().id <= batch.position);
        all.extend(rendered(&batch.events));
    }
}

async fn everything(engine: &Engine) -> Vec<(EventId, String)> {
    rest(engine, EventId::default(), EventFilter::ALL, 1_000).await
}

/// A sale, step by step, beside what its events must say.
struct Told<'a> {
    engine: &'a Engine,
    /// Reads along.
    live: EventStream,
    expected: Vec<Value>,
    at_once: Vec<(EventId, String)>,
}

impl<'a> Told<'a> {
    fn new(engine: &'a Engine) -> Self {
        let live = engine.events(EventId::default(), EventFilter::ALL);
        Self { engine, live, expected: Vec::new(), at_once: Vec::new() }
    }

    fn expect(&mut self, kind: &str, source: impl Display, subject: impl Display, data: Value) {
        self.expected.push(json!({
            "specversion": "1.0",
            "source": source.to_string(),
            "type": format!("boxoffice.{kind}"),
            "subject": subject.to_string(),
            "time": self.engine.now(),
            "datacontenttype": "application/json",
            "data": data,
        }));
    }

    async fn reservation(&mut self, kind: &str, id: ReservationId) {
        let data = json_of(&self.engine.reservation(&Caller::Admin, id).await.unwrap());
        assert_eq!(data["id"], json!(id));
        self.expect(kind, format!("/options/{}", id.option), id, data);
    }

    async fn payment(&mut self, kind: &str, id: PaymentId) {
        let data = json_of(&self.engine.payment(&Caller::Admin, id).await.unwrap());
        let subject = data["reservation_id"].as_str().unwrap().to_owned();
        self.expect(kind, format!("/options/{}", id.option), subject, data);
    }

    async fn token(&mut self, kind: &str, id: TokenId) {
        let token = json_of(&self.engine.token(&Caller::Admin, id).await.unwrap());
        let user = self.engine.events(EventId::default(), [EventType::TokenIssued].into_iter().collect());
        let user = whose(user, id).await;
        let data = json!({"id": id, "concert_id": token["concert_id"], "user_id": user,
            "status": token["status"], "expires_at": token["expires_at"]});
        self.expect(kind, format!("/concerts/{}", id.concert), id, data);
    }

    /// Compares what has happened with what was expected, as told to somebody who reads along and to somebody who has
    /// not seen anything before.
    async fn check(&mut self) {
        let after = self.at_once.last().map(|(id, _)| *id).unwrap_or_default();
        let new = rest(self.engine, after, EventFilter::ALL, 1_000).await;
        let expected = self.expected.split_off(0);
        assert_eq!(new.len(), expected.len(), "{new:#?}");
        for ((id, text), expected) in new.iter().zip(expected) {
            let mut event: Value = serde_json::from_str(text).unwrap();
            assert_eq!(event.as_object_mut().unwrap().remove("id"), Some(json!(id)));
            assert_same(&event, &expected, text);
        }
        let mut live = Vec::new();
        while live.len() < new.len() {
            live.extend(rendered(&self.live.next(3).await.unwrap().events));
        }
        assert_eq!(live, new);
        self.at_once.extend(new);
    }
}

/// The user that a token was issued to.
async fn whose(mut issued: EventStream, token: TokenId) -> Value {
    loop {
        for event in issued.next(100).await.unwrap().events {
            match event.data {
                EventData::Token { id, user_id, .. } if id == token => return json_of(&user_id),
                _ => {}
            }
        }
    }
}

async fn until_status(engine: &Engine, token: TokenId, status: TokenStatus) {
    eventually("the token is so far", || async {
        (engine.token(&Caller::Admin, token).await.unwrap().status == status).then_some(())
    })
    .await;
}

/// A sale in which each type of event occurs, checked step by step. Gives all events as they were at once.
async fn sale(engine: &Engine, clock: &ManualClock) -> Vec<(EventId, String)> {
    let mut told = Told::new(engine);
    reservations(&mut told, clock).await;
    by_provider(&mut told, clock).await;
    tokens(&mut told, clock).await;
    told.at_once
}

async fn reservations(told: &mut Told<'_>, clock: &ManualClock) {
    let engine = told.engine;
    let option = on_sale(engine, 3, 10).await;
    told.check().await;
    // A name that needs escapes in a path.
    let anna = name("auth0|anna b/c");
    let entry = engine.charge(&anna, points(500), &name("the-bank"), None).await.unwrap().value;
    told.expect("wallet.charged", "/users/auth0%7Canna%20b%2Fc/wallet", &anna, json_of(&entry));
    told.check().await;

    let released = hold(engine, option, &anna, &["1-1", "1-2"]).await.id;
    told.reservation("reservation.created", released).await;
    told.check().await;
    clock.advance(1_000);
    engine.release(&Caller::User(anna.clone()), released).await.unwrap();
    told.reservation("reservation.released", released).await;
    told.check().await;

    // Two that run out at the same moment, which is one fact of the journal.
    let note = Note { reference: Some("order 7".into()), data: Some(r#"{"till":1}"#.into()) };
    let expired = [
        hold(engine, option, &anna, &["2-1"]).await.id,
        engine.hold_with_note(option, &user(1), best(2), note, None, None).await.unwrap().value.id,
    ];
    for id in expired {
        told.reservation("reservation.created", id).await;
    }
    told.check().await;
    clock.advance(300_000);
    for id in expired {
        eventually("it has expired", || async {
            let reservation = engine.reservation(&Caller::Admin, id).await.unwrap();
            (reservation.status == ReservationStatus::Expired).then_some(())
        })
        .await;
        told.reservation("reservation.expired", id).await;
    }
    told.check().await;

    // Refused, then paid, then given back: what is known of it changes under the same ids.
    let poor = name("poor");
    let held = hold(engine, option, &poor, &["3-1"]).await.id;
    told.reservation("reservation.created", held).await;
    let refused = rejection(engine.pay(&poor, held, None).await);
    assert_eq!(refused, Rejection::InsufficientPoints { balance: points(0), amount: points(50) });
    let failed = all_payments(engine, &poor).await[0].id;
    told.payment("payment.failed", failed).await;
    told.check().await;
    let entry = engine.charge(&poor, points(60), &poor, None).await.unwrap().value;
    told.expect("wallet.charged", "/users/poor/wallet", &poor, json_of(&entry));
    clock.advance(1);
    told.expected.last_mut().unwrap()["time"] = json!(entry.at);
    let paid = engine.pay(&poor, held, None).await.unwrap().value;
    told.reservation("reservation.confirmed", held).await;
    assert_eq!(json_of(&paid), json_of(&engine.payment(&Caller::Admin, paid.id).await.unwrap()));
    told.payment("payment.completed", paid.id).await;
    told.check().await;
    clock.advance(1_000);
    engine.refund(&Caller::Admin, paid.id, None).await.unwrap();
    told.reservation("reservation.refunded", held).await;
    told.payment("payment.refunded", paid.id).await;
    told.check().await;
}

/// A fact of a charge.
fn fact(kind: Kind, reference: &str, amount: Points) -> Fact {
    Fact { kind, reference: reference.into(), id: None, amount, currency: Currency::KRW, at: None, reason: None }
}

async fn by_provider(told: &mut Told<'_>, clock: &ManualClock) {
    let engine = told.engine;
    let concert = engine.create_concert(new_concert("By card", RoomSettings::default()), None).await.unwrap().value.id;
    let payment_methods = vec!["card".into()];
    let option = NewOption { payment_methods, currency: Some(Currency::KRW), ..new_option(engine, 1, 3) };
    let option = engine.add_option(concert, option, None).await.unwrap().value.id;
    let buyer = name("cardholder");
    let mut begun = Vec::new();
    for seat in ["1-1", "1-2", "1-3"] {
        let held = hold(engine, option, &buyer, &[seat]).await.id;
        told.reservation("reservation.created", held).await;
        let payment = engine.begin_payment(&buyer, held, "card", None).await.unwrap().value.id;
        told.payment("payment.pending", payment).await;
        told.check().await;
        begun.push((held, payment));
    }
    let [(held, paid), (_, given_up), (_, refused)] = begun[..] else { unreachable!() };
    let price = engine.payment(&Caller::Admin, paid).await.unwrap().amount;

    clock.advance(1_000);
    engine.report(paid, fact(Kind::Authorized, "ch-1", price)).await.unwrap();
    told.payment("payment.authorized", paid).await;
    told.payment("payment.capture_requested", paid).await;
    told.check().await;
    clock.advance(1_000);
    engine.report(paid, fact(Kind::Captured, "ch-1", price)).await.unwrap();
    told.reservation("reservation.confirmed", held).await;
    told.payment("payment.completed", paid).await;
    told.check().await;
    clock.advance(1_000);
    for kind in [Kind::Disputed, Kind::DisputeWon] {
        engine.report(paid, Fact { id: Some("dp".into()), ..fact(kind, "ch-1", price) }).await.unwrap();
        if kind == Kind::Disputed {
            told.payment("payment.disputed", paid).await;
        }
        told.check().await;
    }
    engine.refund(&Caller::Admin, paid, None).await.unwrap();
    told.reservation("reservation.refunded", held).await;
    told.payment("payment.refund_owed", paid).await;
    told.payment("payment.refund_requested", paid).await;
    told.check().await;
    engine.report(paid, Fact { id: Some("re".into()), ..fact(Kind::Refunded, "ch-1", price) }).await.unwrap();
    told.payment("payment.refunded", paid).await;
    told.check().await;

    // Nobody knows what becomes of it, until more is authorised than was asked for, which is let go.
    engine.give_up_payment(&Caller::User(buyer.clone()), given_up).await.unwrap();
    told.payment("payment.check_requested", given_up).await;
    told.check().await;
    engine.report(given_up, fact(Kind::Authorized, "ch-2", points(price.get() + 1))).await.unwrap();
    told.payment("payment.void_requested", given_up).await;
    told.check().await;
    engine.report(given_up, fact(Kind::Voided, "ch-2", points(price.get() + 1))).await.unwrap();
    told.payment("payment.voided", given_up).await;
    told.check().await;

    engine.report(refused, fact(Kind::Failed, "ch-3", price)).await.unwrap();
    told.payment("payment.failed", refused).await;
    told.check().await;
}

async fn tokens(told: &mut Told<'_>, clock: &ManualClock) {
    let engine = told.engine;
    let settings =
        RoomSettings { mode: RoomMode::Queue, max_active: 1, active_ttl_seconds: 60, ..RoomSettings::default() };
    let concert = engine.create_concert(new_concert("In demand", settings), None).await.unwrap().value.id;
    let option = engine.add_option(concert, new_option(engine, 1, 5), None).await.unwrap().value.id;
    let buyer = name("buyer");
    charge(engine, &buyer, 100).await;
    let entries = all_entries(engine, &buyer).await;
    told.expect("wallet.charged", "/users/buyer/wallet", &buyer, json_of(&entries[0]));
    told.check().await;
    let token = |no| TokenId { concert, no };

    // The first gets in and pays, the second gets in after it and takes too long, the third leaves.
    let signed = engine.issue_token(concert, &buyer).await.unwrap().token;
    let issued = json!({"id": token(1), "concert_id": concert, "user_id": "buyer", "status": "waiting",
        "expires_at": null});
    told.expect("token.issued", format!("/concerts/{concert}"), token(1), issued);
    until_status(engine, token(1), TokenStatus::Active).await;
    told.token("token.activated", token(1)).await;
    told.check().await;
    for n in [2, 3] {
        engine.issue_token(concert, &user(n)).await.unwrap();
        told.token("token.issued", token(n as u64)).await;
    }
    told.check().await;
    let held = engine.hold(option, &buyer, seats(&["1-1"]), Some(&signed.token), None).await.unwrap().value.id;
    told.reservation("reservation.created", held).await;
    told.check().await;
    let paid = engine.pay(&buyer, held, None).await.unwrap().value.id;
    told.reservation("reservation.confirmed", held).await;
    told.payment("payment.completed", paid).await;
    until_status(engine, token(2), TokenStatus::Active).await;
    told.token("token.used", token(1)).await;
    told.token("token.activated", token(2)).await;
    told.check().await;
    engine.leave_queue(&Caller::User(user(3)), token(3)).await.unwrap();
    told.token("token.expired", token(3)).await;
    clock.advance(60_000);
    told.expected.last_mut().unwrap()["time"] = json!(engine.now().minus_millis(60_000));
    // A look at it does not write its end down; the next tick does.
    eventually("the second has timed out", || async {
        (engine.waiting_room(concert).await.unwrap().counts.expired == 2).then_some(())
    })
    .await;
    told.token("token.expired", token(2)).await;
    told.check().await;

    // Where nobody waits, one is let in with the token itself.
    let patch = RoomSettingsPatch { mode: Some(RoomMode::Open), ..RoomSettingsPatch::default() };
    engine.configure_waiting_room(concert, patch).await.unwrap();
    engine.issue_token(concert, &user(4)).await.unwrap();
    told.token("token.issued", token(4)).await;
    told.token("token.activated", token(4)).await;
    told.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_says_what_the_api_said_and_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(LONG_AGO);
    let config = takes_cards(config(&dir.path().join("data")));
    let engine = Engine::open_with(config.clone(), &clock).await.unwrap();
    let at_once = sale(&engine, &clock).await;
    assert!(at_once.is_sorted_by(|(a, _), (b, _)| a < b), "in order");
    let types: BTreeSet<_> = at_once.iter().map(|(_, text)| kind_of(text)).collect();
    assert!(types.iter().copied().eq(EventType::ALL.iter().copied()), "{types:?}");

    // From every id, those that come after it, whatever the size of a page.
    assert_eq!(everything(&engine).await, at_once);
    for (place, (id, _)) in at_once.iter().enumerate() {
        let page = 1 + place % 4;
        assert_eq!(rest(&engine, *id, EventFilter::ALL, page).await, at_once[place + 1..], "after {id}");
    }
    check_filters(&engine, &at_once).await;
    engine.shutdown().await.unwrap();

    let engine = Engine::open_with(config.clone(), &clock).await.unwrap();
    assert_eq!(everything(&engine).await, at_once, "after a restart");
    engine.shutdown().await.unwrap();
    std::fs::remove_dir_all(config.data_dir.join("state")).unwrap();
    let engine = Engine::open_with(config.clone(), &clock).await.unwrap();
    for (place, (id, _)) in at_once.iter().enumerate() {
        let rest = rest(&engine, *id, EventFilter::ALL, 5).await;
        assert_eq!(rest, at_once[place + 1..], "after {id}, and after the rows were made anew");
    }
    engine.shutdown().await.unwrap();
}

fn kind_of(text: &str) -> EventType {
    serde_json::from_str::<Value>(text).unwrap()["type"].as_str().unwrap().parse().unwrap()
}

async fn check_filters(engine: &Engine, all: &[(EventId, String)]) {
    let mut filters: Vec<EventFilter> = EventType::ALL.iter().map(|kind| [*kind].into_iter().collect()).collect();
    filters.push([EventType::ReservationConfirmed, EventType::PaymentRefunded].into_iter().collect());
    for filter in filters {
        let wanted: Vec<_> = all.iter().filter(|(_, text)| filter.takes(kind_of(text))).cloned().collect();
        assert!(!wanted.is_empty());
        assert_eq!(rest(engine, EventId::default(), filter, 2).await, wanted, "{filter:?}");
    }
    // Whoever wants nothing comes to the end all the same.
    let batch = engine.events(EventId::default(), EventFilter::NONE).available(1).await.unwrap();
    assert!(batch.events.is_empty());
    assert!(batch.position >= all.last().unwrap().0 && batch.position.lsn == engine.durable_lsn());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_found_wherever_they_are() {
    let dir = tempfile::tempdir().unwrap();
    // Everything that can leave memory does, and a reader remembers next to nothing.
    let mut config = Config { events: boxoffice::settings::Events { remembered: 64 }, ..config(dir.path()) };
    config.actors.max_resident = 16;
    config.checkpoint.replay_target_ms = 0;
    let engine = Engine::open(config.clone()).await.unwrap();
    let mut live = engine.events(EventId::default(), EventFilter::ALL);
    let mut at_once = Vec::new();
    for n in 0..30 {
        let option = on_sale(&engine, 1, 10).await;
        let released = hold(&engine, option, &user(n), &["1-1"]).await;
        engine.release(&Caller::Admin, released.id).await.unwrap();
        let (_, payment) = buy(&engine, option, &user(n), &["1-2"]).await;
        buy(&engine, option, &user(n), &["1-3"]).await;
        engine.refund(&Caller::Admin, payment.id, None).await.unwrap();
        let batch = live.available(1_000).await.unwrap();
        assert_eq!(batch.events.len(), 12, "{:?}", batch.events);
        at_once.extend(rendered(&batch.events));
    }
    eventually("all is in sled", || async {
        let stats = engine.stats();
        // The catalogue, and so many of each other kind.
        (stats.checkpointed_lsn == stats.durable_lsn && stats.readable_aggregates <= 1 + 3 * 16).then_some(())
    })
    .await;
    check_each_by_itself(&engine, &at_once).await;
    engine.shutdown().await.unwrap();
    let engine = Engine::open(config).await.unwrap();
    check_each_by_itself(&engine, &at_once).await;
    // The catalogue comes by itself.
    assert!(engine.stats().readable_aggregates <= 1, "nothing was loaded to be told of");
    engine.shutdown().await.unwrap();
}

async fn check_each_by_itself(engine: &Engine, all: &[(EventId, String)]) {
    // Each kind by itself, so that nothing is known from the one before.
    for kind in EventType::ALL {
        let filter: EventFilter = [*kind].into_iter().collect();
        for (id, text) in all.iter().filter(|(_, text)| kind_of(text) == *kind) {
            let before = EventId { lsn: boxoffice::Lsn(id.lsn.0 - 1), index: u32::MAX };
            let event = engine.events(before, filter).next(1).await.unwrap().events.remove(0);
            assert_eq!(rendered(&[event]), [(*id, text.clone())]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_fact_can_be_many_events() {
    const WAITING: u64 = 500;
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    let settings = RoomSettings { mode: RoomMode::Paused, ..RoomSettings::default() };
    let concert = engine.create_concert(new_concert("In demand", settings), None).await.unwrap().value.id;
    for n in 0..WAITING {
        engine.issue_token(concert, &user(n as usize)).await.unwrap();
    }
    let opened = RoomSettingsPatch { mode: Some(RoomMode::Open), ..RoomSettingsPatch::default() };
    engine.configure_waiting_room(concert, opened).await.unwrap();
    let filter: EventFilter = [EventType::TokenActivated].into_iter().collect();
    let all = rest(&engine, EventId::default(), filter, 1_000).await;
    check_activated(concert, &all, WAITING);
    for page in [1, 63, 64, 65, 300] {
        assert_eq!(rest(&engine, EventId::default(), filter, page).await, all, "pages of {page}");
    }
    for place in (0..all.len()).step_by(37) {
        assert_eq!(rest(&engine, all[place].0, filter, 100).await, all[place + 1..], "after {}", all[place].0);
    }
    engine.shutdown().await.unwrap();
}

fn check_activated(concert: ConcertId, all: &[(EventId, String)], waiting: u64) {
    let lsn = all[0].0.lsn;
    for (no, (id, text)) in (1..=waiting).zip(all) {
        let event: Value = serde_json::from_str(text).unwrap();
        let user = user(no as usize - 1);
        assert_eq!(*id, EventId { lsn, index: no as u32 - 1 });
        assert_eq!((&event["data"]["id"], &event["data"]["user_id"]), (&json!(TokenId { concert, no }), &json!(user)));
    }
    assert_eq!(all.len() as u64, waiting);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_told_at_once_and_may_change_their_mind() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    // This one is asked again and again and dropped as often, in the middle of whatever it does.
    let mut impatient = engine.events(EventId::default(), EventFilter::ALL);
    let asking = tokio::spawn(async move {
        let mut found = Vec::new();
        let mut patience = 0_u64;
        while found.len() < 300 {
            patience = (patience + 37) % 1_000;
            let wait = std::time::Duration::from_micros(patience);
            if let Ok(batch) = tokio::time::timeout(wait, impatient.next(7)).await {
                found.extend(rendered(&batch.unwrap().events));
            }
        }
        found
    });
    let mut patient = engine.events(EventId::default(), EventFilter::ALL);
    let waiting = tokio::spawn(async move {
        let mut found = Vec::new();
        while found.len() < 300 {
            let batch = patient.next(1_000).await.unwrap();
            assert!(!batch.events.is_empty());
            found.extend(rendered(&batch.events));
        }
        found
    });
    for n in 0..300 {
        charge(&engine, &user(n % 7), 1).await;
    }
    let all = everything(&engine).await;
    let asked = tokio::time::timeout(PATIENCE, asking).await.expect("who asks gets all").unwrap();
    let waited = tokio::time::timeout(PATIENCE, waiting).await.expect("who waits gets all").unwrap();
    assert_eq!((all.len(), &asked, &waited), (300, &all, &all));
    engine.shutdown().await.unwrap();
    let closed = engine.events(all[299].0, EventFilter::ALL).next(1).await;
    assert!(matches!(closed, Err(Error::OutcomeUnknown(_))), "{closed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_little_hears_how_far_it_has_come() {
    const LSNS: u64 = 100_000;
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    let filter: EventFilter = [EventType::TokenUsed].into_iter().collect();
    let mut stream = engine.events(EventId::default(), filter);
    let mut charging = JoinSet::new();
    for n in 0..1_000 {
        let engine = engine.clone();
        charging.spawn(async move {
            for _ in 0..=LSNS / 1_000 {
                charge(&engine, &user(n), 1).await;
            }
        });
    }
    charging.join_all().await;
    let batch = tokio::time::timeout(PATIENCE, stream.next(10)).await.expect("it is told").unwrap();
    assert!(batch.events.is_empty() && batch.position.lsn >= boxoffice::Lsn(LSNS), "{batch:?}");
    let waiting = tokio::time::timeout(std::time::Duration::from_millis(100), stream.next(10)).await;
    assert!(waiting.is_err(), "{waiting:?}");
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_found_by_its_id_and_what_is_none_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    charge(&engine, &user(1), 1).await;
    // Of which nobody hears.
    on_sale(&engine, 1, 2).await;
    let [charged] = &everything(&engine).await[..] else { panic!("one event") };
    assert_eq!(rendered(&[engine.event(charged.0).await.unwrap()]), std::slice::from_ref(charged));
    let last = engine.durable_lsn();
    for lsn in [boxoffice::Lsn(0), charged.0.lsn, charged.0.lsn.next(), last, last.next()] {
        for index in [0, 1, u32::MAX] {
            let id = EventId { lsn, index };
            let found = tokio::time::timeout(PATIENCE, engine.event(id)).await.expect("an answer");
            if id != charged.0 {
                assert_eq!(rejection(found), Rejection::NotFound, "{id}");
            }
        }
    }
    engine.shutdown().await.unwrap();
}

/// The schema of each type, by the name of its file.
fn schemas() -> BTreeMap<String, jsonschema::Validator> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/events");
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let schema = |path: std::path::PathBuf| {
        let schema: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{}", path.display());
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert_eq!(schema["title"], format!("boxoffice.{name}"));
        let options = jsonschema::options().should_validate_formats(true);
        (format!("boxoffice.{name}"), options.build(&schema).unwrap())
    };
    files.map(schema).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schemas_hold() {
    let schemas = schemas();
    let names: BTreeSet<_> = EventType::ALL.iter().map(|kind| kind.as_str().to_owned()).collect();
    assert_eq!(schemas.keys().cloned().collect::<BTreeSet<_>>(), names, "one for each type");
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(LONG_AGO);
    let engine = Engine::open_with(takes_cards(config(dir.path())), &clock).await.unwrap();
    sale(&engine, &clock).await;
    let mut seen = BTreeSet::new();
    for (_, text) in everything(&engine).await {
        let event: Value = serde_json::from_str(&text).unwrap();
        let kind = event["type"].as_str().unwrap();
        if let Err(error) = schemas[kind].validate(&event) {
            panic!("{error} at {}: {text}", error.instance_path());
        }
        seen.insert(kind.to_owned());
        // It says no to what is another type's, or has more or less in it.
        for (other, schema) in schemas.iter().filter(|(name, _)| *name != kind) {
            assert!(!schema.is_valid(&event), "{other} takes {text}");
        }
        let mut members: Vec<_> = event["data"].as_object().unwrap().keys().cloned().collect();
        // Of a reservation in points the first is absent, and the others where whoever held it has not given them.
        let may_be_absent = ["currency", "reference", "data"];
        let is_reservation = kind.starts_with("boxoffice.reservation.");
        members.retain(|member| !(is_reservation && may_be_absent.contains(&member.as_str())));
        for member in members {
            let mut less = event.clone();
            less["data"].as_object_mut().unwrap().remove(&member);
            assert!(!schemas[kind].is_valid(&less), "without {member}: {text}");
        }
        let mut more = event.clone();
        more["data"]["more"] = json!(1);
        assert!(!schemas[kind].is_valid(&more), "{text}");
    }
    assert_eq!(seen, names, "the sale has all types");
    engine.shutdown().await.unwrap();
}

/// Whoever reads along knows the plan from before, and hears of places that were not in it then.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_in_a_new_area_is_told_to_who_reads_along() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    let option = on_sale(&engine, 2, 5).await;
    let created = [EventType::ReservationCreated].into_iter().collect();
    let mut stream = engine.events(EventId::default(), created);
    hold(&engine, option, &user(0), &["1-1"]).await;
    assert_eq!(stream.available(10).await.unwrap().events.len(), 1);
    let bar = AreaPatch { name: "Bar".into(), capacity: Some(7), category: Some("A".into()) };
    let patch = OptionPatch { areas: vec![bar], ..OptionPatch::default() };
    engine.change_option(option, patch, &name("boss")).await.unwrap();
    engine.hold(option, &user(0), boxoffice::Wish::places("Bar", 2), None, None).await.unwrap();
    let told = rendered(&stream.available(10).await.unwrap().events);
    let [(_, told)] = told.as_slice() else { panic!("{told:?}") };
    let told: Value = serde_json::from_str(told).unwrap();
    assert_eq!(told["data"]["areas"][0]["name"], "Bar", "{told}");
    assert_eq!(
        engine
            .seats(option)
            .await
            .unwrap()
            .areas()
            .map(|(name, of)| (name.to_owned(), of.available))
            .collect::<Vec<_>>(),
        [("Bar".to_owned(), 5)]
    );
    engine.shutdown().await.unwrap();
}

/// A fact says of a seat what its plan said when it was told, whatever plans have come since.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_told_of_a_seat_stays_so_when_another_plan_comes() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    let option = on_sale(&engine, 2, 5).await;
    let mut along = engine.events(EventId::default(), EventFilter::ALL);
    let mut at_once = Vec::new();
    // One row, in which the seats of the second have other numbers; and again as it was.
    let other = plan(2, 5);
    let other = String::from_utf8(other).unwrap().replace(r#""row_number":"2""#, r#""row_number":"Loge""#);
    let other = other.replace(r#""name":"Hall""#, r#""name":"Great Hall""#).into_bytes();
    let larger = plan(1, 9);
    for (n, seating_plan) in [other, larger, plan(2, 5)].into_iter().enumerate() {
        buy(&engine, option, &user(n), &[["1-1", "1-2", "1-3"][n]]).await;
        let gone = hold(&engine, option, &user(n), &[["2-1", "2-2", "1-9"][n]]).await;
        engine.release(&Caller::User(user(n)), gone.id).await.unwrap();
        let new = NewSeatingPlan { seating_plan, ..NewSeatingPlan::default() };
        engine.replace_plan(option, new, &name("boss"), None).await.unwrap();
        at_once.extend(rendered(&along.available(100).await.unwrap().events));
        assert_eq!(everything(&engine).await, at_once, "after plan {n}");
        let seen = engine.reservation(&Caller::Admin, gone.id).await.unwrap();
        assert_eq!(seen.seats().next().unwrap().id, ["2-1", "2-2", "1-9"][n]);
    }
    let told = |guid: &str| {
        let told = at_once.iter().find(|(_, told)| told.contains(&format!(r#""id":"{guid}""#))).unwrap();
        let told: Value = serde_json::from_str(&told.1).unwrap();
        let seat = &told["data"]["seats"][0];
        [&seat["zone"], &seat["row"], &seat["number"], &seat["category"]].map(|text| text.as_str().unwrap().to_owned())
    };
    assert_eq!(told("2-1"), ["Hall", "2", "1", "B"]);
    assert_eq!(told("2-2"), ["Great Hall", "Loge", "2", "B"]);
    assert_eq!(told("1-9"), ["Hall", "1", "9", "A"]);
    engine.shutdown().await.unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    assert_eq!(everything(&engine).await, at_once);
    engine.shutdown().await.unwrap();
    // And when its state is made anew of the journal.
    std::fs::remove_dir_all(config(dir.path()).data_dir.join("state")).unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    assert_eq!(everything(&engine).await, at_once);
    engine.shutdown().await.unwrap();
}
