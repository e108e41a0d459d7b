//! What happens after the commit: events reach the host app's receivers, at least once and in order, whatever those do,
//! and no sale waits for them.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use boxoffice::relay::breaker::{self, State};
use boxoffice::relay::{Delivery, Event, Failure, Outcome, Receiver, Settings};
use boxoffice::testing::data_dir::copy_until;
use boxoffice::testing::random::{Random, seed};
use boxoffice::testing::slow_disk::SlowDisk;
use boxoffice::{
    Caller, Config, Engine, Error, EventFilter, EventId, EventType, Lsn, OptionId, PageRequest, Rejection, SinkId,
    Start,
};
use common::*;
use parking_lot::Mutex;

/// How a receiver behaves to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    Failing,
    Panicking,
    /// Takes it, and says that it did not.
    Lying,
    Silent,
    Gone,
}

/// What a receiver does with each event.
type Moods = dyn FnMut(&Event) -> Mood + Send;

/// Writes down what it is given.
struct Recorder {
    batch: usize,
    received: Mutex<Vec<(EventId, String)>>,
    mood: Mutex<Box<Moods>>,
    calls: AtomicUsize,
}

impl Recorder {
    fn new(mood: impl FnMut(&Event) -> Mood + Send + 'static) -> Arc<Self> {
        Self::with_batch(1, mood)
    }

    fn with_batch(batch: usize, mood: impl FnMut(&Event) -> Mood + Send + 'static) -> Arc<Self> {
        let mood: Box<dyn FnMut(&Event) -> Mood + Send> = Box::new(mood);
        Arc::new(Self { batch, received: Mutex::default(), mood: Mutex::new(mood), calls: AtomicUsize::new(0) })
    }

    fn be(&self, mood: Mood) {
        *self.mood.lock() = Box::new(move |_| mood);
    }

    fn received(&self) -> Vec<(EventId, String)> {
        self.received.lock().clone()
    }

    fn ids(&self) -> BTreeSet<EventId> {
        self.received().into_iter().map(|(id, _)| id).collect()
    }

    fn take(&self, events: &[Arc<Event>]) {
        let text = |event: &Event| serde_json::to_string(event).unwrap();
        self.received.lock().extend(events.iter().map(|event| (event.id, text(event))));
    }

    /// In the order in which each came first: nothing overtook another of its subject, and copies are copies.
    fn assert_in_order(&self) {
        let mut first = BTreeMap::new();
        let mut last: BTreeMap<String, EventId> = BTreeMap::new();
        for (id, text) in self.received() {
            if let Some(known) = first.insert(id, text.clone()) {
                assert_eq!(known, text, "it comes again as it was");
                continue;
            }
            let event: serde_json::Value = serde_json::from_str(&text).unwrap();
            let subject = event["subject"].as_str().unwrap().to_owned();
            if let Some(before) = last.insert(subject, id) {
                assert!(before < id, "{before} came before {id}");
            }
        }
    }
}

impl Receiver for Recorder {
    fn batch(&self) -> usize {
        self.batch
    }

    fn deliver<'a>(&'a self, delivery: &'a Delivery) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let events = &delivery.events;
        let mut moods = events.iter().map(|event| (self.mood.lock())(event));
        let mood = moods.find(|mood| *mood != Mood::Well).unwrap_or(Mood::Well);
        let failure = move |status| Failure { status: Some(status), text: format!("{mood:?}"), retry_after: None };
        Box::pin(async move {
            match mood {
                Mood::Well => self.take(events),
                Mood::Failing => return Outcome::Failed(failure(500)),
                Mood::Panicking => panic!("on purpose"),
                Mood::Lying => {
                    self.take(events);
                    return Outcome::Failed(failure(502));
                }
                Mood::Silent => std::future::pending().await,
                Mood::Gone => return Outcome::Gone(failure(410)),
            }
            Outcome::Delivered
        })
    }
}

fn quick() -> Settings {
    Settings {
        retry_schedule: vec![Duration::from_millis(5); 3],
        breaker: breaker::Limits { failures: 1_000, pause: Duration::from_millis(5) },
        ..Settings::default()
    }
}

async fn attach(engine: &Engine, receiver: &Arc<Recorder>, settings: Settings) -> SinkId {
    let receiver: Arc<dyn Receiver> = receiver.clone();
    engine.attach("test", EventFilter::ALL, Start::Beginning, receiver, settings).await.unwrap()
}

/// So many users buy two seats each, one after the other.
async fn sell(engine: &Engine, option: OptionId, buyers: std::ops::Range<usize>) {
    for n in buyers {
        let (a, b) = (format!("{}-1", n + 1), format!("{}-2", n + 1));
        buy(engine, option, &user(n), &[&a, &b]).await;
    }
}

/// The ids of all events that there are by now.
async fn published(engine: &Engine) -> Vec<EventId> {
    let mut events = engine.events(EventId::default(), EventFilter::ALL);
    let mut ids = Vec::new();
    loop {
        let batch = events.available(500).await.unwrap();
        if batch.events.is_empty() {
            return ids;
        }
        ids.extend(batch.events.into_iter().map(|event| event.id));
    }
}

async fn all_came(engine: &Engine, receiver: &Recorder) {
    let published: BTreeSet<_> = published(engine).await.into_iter().collect();
    eventually("everything has come", || async { (receiver.ids() == published).then_some(()) }).await;
}

/// The cursor has passed everything that is published.
async fn settled_cursor(engine: &Engine, sink: SinkId) {
    let last = published(engine).await.last().copied().unwrap();
    eventually("the cursor is written down", || async {
        (engine.sink(sink).await.unwrap().cursor >= last).then_some(())
    })
    .await;
}

async fn open(config: &Config) -> Engine {
    Engine::open(config.clone()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_comes_once_and_in_order_to_one_who_is_well() {
    for batch in [1, 7] {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(&config(dir.path())).await;
        let option = on_sale(&engine, 20, 2).await;
        let receiver = Recorder::with_batch(batch, |_| Mood::Well);
        let sink = attach(&engine, &receiver, quick()).await;
        sell(&engine, option, 0..20).await;
        all_came(&engine, &receiver).await;
        receiver.assert_in_order();
        assert_eq!(receiver.received().len(), receiver.ids().len(), "nothing came twice");
        let view = engine.sink(sink).await.unwrap();
        let deliveries = view.deliveries.unwrap();
        assert_eq!((deliveries.failed, deliveries.breaker, view.parked), (0, State::Closed, 0));
        assert_eq!(deliveries.delivered as usize, receiver.calls.load(Ordering::Relaxed));
        engine.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_at_the_cursor_also_without_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let engine = open(&config).await;
    let option = on_sale(&engine, 20, 2).await;
    let receiver = Recorder::new(|_| Mood::Well);
    let sink = attach(&engine, &receiver, quick()).await;
    sell(&engine, option, 0..5).await;
    all_came(&engine, &receiver).await;
    engine.shutdown().await.unwrap();
    for (round, state) in [(1, true), (2, false)] {
        if !state {
            std::fs::remove_dir_all(dir.path().join("state")).unwrap();
        }
        let before = receiver.received().len();
        let engine = open(&config).await;
        sell(&engine, option, round * 5..round * 5 + 5).await;
        assert_eq!(attach(&engine, &receiver, quick()).await, sink, "it is known by its name");
        all_came(&engine, &receiver).await;
        assert_eq!(receiver.received().len(), receiver.ids().len(), "nothing came twice after a clean stop");
        assert!(receiver.received().len() > before);
        engine.shutdown().await.unwrap();
    }
    receiver.assert_in_order();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_receiver_does_everything_comes_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&config(dir.path())).await;
    let option = on_sale(&engine, 40, 2).await;
    let seed = seed();
    println!("BOXOFFICE_TEST_SEED={seed}");
    let mut dice = Random(seed);
    let moods = [Mood::Well, Mood::Well, Mood::Failing, Mood::Panicking, Mood::Lying];
    let receiver = Recorder::with_batch(3, move |_| moods[dice.below(5) as usize]);
    let sink = attach(&engine, &receiver, quick()).await;
    sell(&engine, option, 0..40).await;
    eventually("everything is delivered or parked", || async {
        let view = engine.sink(sink).await.unwrap();
        (view.lag == 0 && view.dead_letters > 0).then_some(())
    })
    .await;
    receiver.be(Mood::Well);
    while engine.sink(sink).await.unwrap().parked > 0 {
        engine.redrive(sink, None, None).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    all_came(&engine, &receiver).await;
    receiver.assert_in_order();
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_holds_up_its_own_subject_until_an_operator_decides() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let engine = open(&config).await;
    let option = on_sale(&engine, 20, 2).await;
    let receiver = Recorder::new(|event| if event.subject == "r1-1" { Mood::Failing } else { Mood::Well });
    let sink = attach(&engine, &receiver, quick()).await;
    sell(&engine, option, 0..5).await;
    let all: BTreeSet<_> = published(&engine).await.into_iter().collect();
    let dead = eventually("it is given up", || async {
        let dead = engine.dead_letters(sink, &PageRequest::default()).await.unwrap().items;
        dead.first().cloned()
    })
    .await;
    assert_eq!((dead.subject.as_str(), dead.event_type, dead.attempts), ("r1-1", EventType::ReservationCreated, 4));
    let response = dead.last_response.unwrap();
    assert_eq!((response.status, response.text.as_str()), (Some(500), "Failing"));
    eventually("the others go on", || async { (receiver.ids().len() == all.len() - 3).then_some(()) }).await;
    assert_eq!(engine.sink(sink).await.unwrap().parked, 3, "confirmed and paid wait behind it");
    settled_cursor(&engine, sink).await;
    engine.shutdown().await.unwrap();

    // What is parked is a matter of the journal.
    std::fs::remove_dir_all(dir.path().join("state")).unwrap();
    let engine = open(&config).await;
    let view = engine.sink(sink).await.unwrap();
    assert_eq!((view.parked, view.dead_letters, view.deliveries), (3, 1, None));
    receiver.be(Mood::Well);
    attach(&engine, &receiver, quick()).await;
    for unknown in [EventId::default(), *all.last().unwrap()] {
        assert_eq!(engine.redrive(sink, Some(unknown), None).await.unwrap().value, 0);
        assert_eq!(rejection(engine.drop_dead_letter(sink, unknown).await), Rejection::NotFound);
    }
    assert_eq!(engine.redrive(sink, Some(dead.event_id), None).await.unwrap().value, 1);
    all_came(&engine, &receiver).await;
    receiver.assert_in_order();
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_dead_letter_lets_those_behind_it_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&config(dir.path())).await;
    let option = on_sale(&engine, 20, 2).await;
    let receiver = Recorder::new(|event| match event.kind {
        EventType::ReservationCreated => Mood::Failing,
        _ => Mood::Well,
    });
    let sink = attach(&engine, &receiver, quick()).await;
    sell(&engine, option, 0..2).await;
    let dead = eventually("both are given up", || async {
        let dead = engine.dead_letters(sink, &PageRequest::default()).await.unwrap().items;
        (dead.len() == 2).then_some(dead)
    })
    .await;
    let first = PageRequest { limit: 1, cursor: None };
    let page = engine.dead_letters(sink, &first).await.unwrap();
    assert_eq!(page.items, dead[..1]);
    let second = PageRequest { limit: 1, cursor: page.next_cursor };
    assert_eq!(engine.dead_letters(sink, &second).await.unwrap().items, dead[1..]);
    for letter in &dead {
        engine.drop_dead_letter(sink, letter.event_id).await.unwrap();
    }
    let all = published(&engine).await.len();
    eventually("the others come", || async { (receiver.ids().len() == all - 2).then_some(()) }).await;
    receiver.assert_in_order();
    eventually("nothing is left", || async { (engine.sink(sink).await.unwrap().parked == 0).then_some(()) }).await;
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_has_dropped_does_not_come_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&config(dir.path())).await;
    let option = on_sale(&engine, 20, 2).await;
    charge(&engine, &user(9), 1).await;
    let first = published(&engine).await[0];
    sell(&engine, option, 0..2).await;
    let receiver = Recorder::new(move |event| match event.kind {
        // The cursor stands before it.
        _ if event.id == first => Mood::Silent,
        EventType::ReservationCreated => Mood::Failing,
        _ => Mood::Well,
    });
    let sink = attach(&engine, &receiver, quick()).await;
    let dead = eventually("both are given up", || async {
        let dead = engine.dead_letters(sink, &PageRequest::default()).await.unwrap().items;
        (dead.len() == 2).then_some(dead)
    })
    .await;
    let dropped = dead[1].event_id;
    engine.drop_dead_letter(sink, dropped).await.unwrap();
    let all = published(&engine).await;
    // The other one holds up its own subject.
    eventually("what waited behind it has come", || async {
        (engine.sink(sink).await.unwrap().parked == 3).then_some(())
    })
    .await;
    assert_eq!(receiver.ids().len(), all.len() - 5);
    assert!(engine.sink(sink).await.unwrap().cursor < dropped);

    let after = tempfile::tempdir().unwrap();
    copy_until(dir.path(), after.path(), Lsn(engine.stats().durable_lsn)).unwrap();
    engine.shutdown().await.unwrap();
    let engine = open(&config(after.path())).await;
    receiver.be(Mood::Well);
    attach(&engine, &receiver, quick()).await;
    engine.redrive(sink, None, None).await.unwrap();
    settled_cursor(&engine, sink).await;
    let but_one: BTreeSet<_> = all.into_iter().filter(|id| *id != dropped).collect();
    eventually("all others have come", || async { (receiver.ids().len() >= but_one.len()).then_some(()) }).await;
    assert_eq!(receiver.ids(), but_one);
    receiver.assert_in_order();
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_attached_again_knows_what_was_told_last() {
    let dir = tempfile::tempdir().unwrap();
    // What is told when deliveries end is not durable for a while.
    let engine = Engine::open_on(config(dir.path()), SlowDisk::new(Duration::from_millis(200))).await.unwrap();
    let receiver = Recorder::new(|_| Mood::Failing);
    let once = Settings { retry_schedule: Vec::new(), ..quick() };
    let sink = attach(&engine, &receiver, once.clone()).await;
    charge(&engine, &user(0), 1).await;
    settled_cursor(&engine, sink).await;
    engine.redrive(sink, None, None).await.unwrap();
    eventually("it has failed again", || async {
        (engine.sink(sink).await.unwrap().deliveries.unwrap().failed == 2).then_some(())
    })
    .await;
    engine.detach(sink).await;
    receiver.be(Mood::Well);
    attach(&engine, &receiver, once).await;
    let dead = eventually("it is a dead letter again", || async {
        engine.dead_letters(sink, &PageRequest::default()).await.unwrap().items.pop()
    })
    .await;
    engine.drop_dead_letter(sink, dead.event_id).await.unwrap();
    charge(&engine, &user(0), 1).await;
    let all = published(&engine).await;
    eventually("the next one comes", || async { receiver.ids().contains(&all[1]).then_some(()) }).await;
    assert_eq!(receiver.ids(), BTreeSet::from([all[1]]));
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_never_answers_holds_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let engine = open(&config).await;
    let option = on_sale(&engine, 20, 2).await;
    let receiver = Recorder::new(|_| Mood::Silent);
    attach(&engine, &receiver, Settings { concurrency: 2, window: 4, ..quick() }).await;
    sell(&engine, option, 0..20).await;
    assert_eq!(receiver.calls.load(Ordering::Relaxed), 2, "so many at a time");
    engine.shutdown().await.unwrap();
    let engine = open(&config).await;
    receiver.be(Mood::Well);
    attach(&engine, &receiver, quick()).await;
    all_came(&engine, &receiver).await;
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_down_is_left_alone_and_gets_everything_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&config(dir.path())).await;
    let option = on_sale(&engine, 20, 2).await;
    let receiver = Recorder::new(|_| Mood::Failing);
    let breaker = breaker::Limits { failures: 3, pause: Duration::from_secs(3_600) };
    let sink = attach(&engine, &receiver, Settings { breaker, concurrency: 3, ..quick() }).await;
    sell(&engine, option, 0..20).await;
    eventually("the breaker opens", || async {
        let deliveries = engine.sink(sink).await.unwrap().deliveries.unwrap();
        (deliveries.breaker == State::Open).then_some(())
    })
    .await;
    let tried = receiver.calls.load(Ordering::Relaxed);
    assert!((3..=5).contains(&tried), "{tried}");
    let view = engine.sink(sink).await.unwrap();
    assert!(view.lag > 0 && view.parked <= 20, "what is not tried is not parked: {view:?}");
    // A breaker is a matter of the moment, not of the journal.
    engine.detach(sink).await;
    receiver.be(Mood::Well);
    attach(&engine, &receiver, quick()).await;
    all_came(&engine, &receiver).await;
    receiver.assert_in_order();
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_gone_gets_nothing_until_somebody_redrives() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let engine = open(&config).await;
    let option = on_sale(&engine, 20, 2).await;
    let receiver = Recorder::new(|_| Mood::Gone);
    let one = Settings { concurrency: 1, ..quick() };
    let sink = attach(&engine, &receiver, one.clone()).await;
    sell(&engine, option, 0..2).await;
    eventually("it is disabled", || async { engine.sink(sink).await.unwrap().disabled }).await;
    assert_eq!(receiver.calls.load(Ordering::Relaxed), 1);
    engine.shutdown().await.unwrap();
    let engine = open(&config).await;
    receiver.be(Mood::Well);
    attach(&engine, &receiver, one).await;
    assert_eq!(engine.sink(sink).await.unwrap().disabled.as_deref(), Some("Gone"));
    sell(&engine, option, 2..4).await;
    assert_eq!(receiver.calls.load(Ordering::Relaxed), 1, "it is still gone");
    engine.redrive(sink, None, None).await.unwrap();
    all_came(&engine, &receiver).await;
    receiver.assert_in_order();
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_gets_what_it_asked_for_from_where_it_asked() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&config(dir.path())).await;
    let option = on_sale(&engine, 20, 2).await;
    sell(&engine, option, 0..2).await;
    let all = published(&engine).await;
    let confirmed: EventFilter = [EventType::ReservationConfirmed].into_iter().collect();
    let cases = [
        ("now", EventFilter::ALL, Start::Now, 5),
        ("beginning", EventFilter::ALL, Start::Beginning, 13),
        ("after", EventFilter::ALL, Start::After(all[2]), 10),
        ("some", confirmed, Start::Beginning, 3),
    ];
    let mut receivers = Vec::new();
    for (name, filter, start, count) in cases {
        let receiver = Recorder::new(|_| Mood::Well);
        engine.attach(name, filter, start, receiver.clone(), quick()).await.unwrap();
        receivers.push((name, receiver, count));
    }
    // A charge, and created, confirmed and paid for each.
    assert_eq!(all.len(), 8);
    sell(&engine, option, 2..3).await;
    hold(&engine, option, &user(2), &["9-1"]).await;
    for (name, receiver, count) in receivers {
        eventually(name, || async { (receiver.ids().len() == count).then_some(()) }).await;
    }
    let late = engine.attach(
        "late",
        EventFilter::ALL,
        Start::After(EventId::end_of(boxoffice::Lsn(9_999))),
        Recorder::new(|_| Mood::Well),
        quick(),
    );
    assert!(matches!(late.await, Err(Error::Invalid(wrong)) if wrong[0].field == "start"));
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_are_counted_named_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.limits.sinks = 2;
    let engine = open(&config).await;
    let option = on_sale(&engine, 20, 2).await;
    let receiver = Recorder::new(|_| Mood::Well);
    let first = attach(&engine, &receiver, quick()).await;
    let again = engine.attach("test", EventFilter::ALL, Start::Now, receiver.clone(), quick()).await;
    assert!(matches!(again, Err(Error::Invalid(wrong)) if wrong[0].field == "name"));
    let other = engine.attach("other", EventFilter::ALL, Start::Now, receiver.clone(), quick()).await.unwrap();
    let third = engine.attach("third", EventFilter::ALL, Start::Now, receiver.clone(), quick()).await;
    assert_eq!(rejection(third), Rejection::LimitExceeded { limit: 2, already: 2 });
    let ids = |sinks: Vec<boxoffice::Sink>| sinks.into_iter().map(|sink| sink.id).collect::<Vec<_>>();
    assert_eq!(ids(engine.sinks().await.unwrap()), [other, first]);

    engine.remove_sink(other).await.unwrap();
    assert_eq!(ids(engine.sinks().await.unwrap()), [first]);
    for gone in [other, SinkId(99)] {
        assert_eq!(rejection(engine.sink(gone).await), Rejection::NotFound);
        assert_eq!(rejection(engine.remove_sink(gone).await), Rejection::NotFound);
        assert_eq!(rejection(engine.redrive(gone, None, None).await), Rejection::NotFound);
        assert_eq!(rejection(engine.rotate_secret(gone, engine.now()).await), Rejection::NotFound);
        assert_eq!(rejection(engine.dead_letters(gone, &PageRequest::default()).await), Rejection::NotFound);
    }
    let calls = receiver.calls.load(Ordering::Relaxed);
    sell(&engine, option, 0..2).await;
    all_came(&engine, &receiver).await;
    assert_eq!(receiver.calls.load(Ordering::Relaxed), calls + 8, "the one that was removed gets nothing");
    let new = engine.attach("other", EventFilter::ALL, Start::Now, receiver, quick()).await.unwrap();
    assert!(new > other, "no number is given again");
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_relay_writes_does_not_make_it_write_more() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&config(dir.path())).await;
    let option = on_sale(&engine, 20, 2).await;
    let receivers: Vec<_> = (0..5).map(|_| Recorder::new(|_| Mood::Well)).collect();
    let mut sinks = Vec::new();
    for (n, receiver) in receivers.iter().enumerate() {
        let name = format!("sink {n}");
        sinks.push(engine.attach(&name, EventFilter::ALL, Start::Beginning, receiver.clone(), quick()).await.unwrap());
    }
    sell(&engine, option, 0..2).await;
    for sink in sinks {
        settled_cursor(&engine, sink).await;
    }
    let reservation = all_reservations(&engine, &user(0), None).await.remove(0);
    let before = engine.stats().durable_lsn;
    // Long enough for a cursor each, if there were something to write.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(engine.stats().durable_lsn, before);
    assert!(engine.reservation(&Caller::Admin, reservation.id).await.is_ok());
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_that_break_off_say_so_and_begin_anew() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&config(dir.path())).await;
    let option = on_sale(&engine, 20, 2).await;
    let (journal, away) = (dir.path().join("journal"), dir.path().join("away"));
    std::fs::rename(&journal, &away).unwrap();
    let receiver = Recorder::new(|_| Mood::Well);
    let sink = attach(&engine, &receiver, quick()).await;
    let said = eventually("it is said", || async {
        engine.sink(sink).await.unwrap().deliveries.unwrap().last_failure.map(|failure| failure.text)
    })
    .await;
    assert!(said.starts_with("deliveries broke off"), "{said}");
    std::fs::rename(&away, &journal).unwrap();
    sell(&engine, option, 0..2).await;
    all_came(&engine, &receiver).await;
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_operators_does_not_end_deliveries() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.actors.mailbox = 1;
    let engine = open(&config).await;
    let option = on_sale(&engine, 20, 2).await;
    let receiver = Recorder::new(|_| Mood::Well);
    let sink = attach(&engine, &receiver, quick()).await;
    let rotate = |_| {
        let engine = engine.clone();
        // Some are told to come back later.
        tokio::spawn(async move { engine.rotate_secret(sink, engine.now()).await.is_ok() })
    };
    let operators: Vec<_> = (0..500).map(rotate).collect();
    for operator in operators {
        operator.await.unwrap();
    }
    sell(&engine, option, 0..2).await;
    all_came(&engine, &receiver).await;
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_who_goes_away_leaves_nothing_half_done() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&config(dir.path())).await;
    let receiver = Recorder::new(|_| Mood::Well);
    let sink = attach(&engine, &receiver, quick()).await;
    for polls in 1..8 {
        receiver.be(Mood::Failing);
        engine.charge(&user(polls), points(1), &user(0), None).await.unwrap();
        eventually("it is given up", || async { (engine.sink(sink).await.unwrap().dead_letters == 1).then_some(()) })
            .await;
        receiver.be(Mood::Well);
        let mut redrive = Box::pin(engine.redrive(sink, None, None));
        for _ in 0..polls {
            if std::future::poll_fn(|cx| std::task::Poll::Ready(redrive.as_mut().poll(cx).is_ready())).await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        drop(redrive);
        eventually("it is as it was, or delivered", || async {
            let view = engine.sink(sink).await.unwrap();
            (view.parked == 0 || view.dead_letters == 1).then_some(())
        })
        .await;
        engine.redrive(sink, None, None).await.unwrap();
        eventually("it is delivered", || async { (engine.sink(sink).await.unwrap().parked == 0).then_some(()) }).await;
    }
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_redriven_is_what_was_published() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&config(dir.path())).await;
    let option = on_sale(&engine, 20, 2).await;
    let receiver = Recorder::new(|_| Mood::Failing);
    let sink = attach(&engine, &receiver, Settings { retry_schedule: Vec::new(), ..quick() }).await;
    sell(&engine, option, 0..10).await;
    for payment in 0..10 {
        let payment = all_payments(&engine, &user(payment)).await.remove(0);
        engine.refund(&Caller::Admin, payment.id, None).await.unwrap();
    }
    let mut events = engine.events(EventId::default(), EventFilter::ALL);
    let published = events.available(500).await.unwrap().events;
    eventually("all are parked", || async {
        (engine.sink(sink).await.unwrap().parked == published.len() as u64).then_some(())
    })
    .await;
    receiver.be(Mood::Well);
    engine.redrive(sink, None, None).await.unwrap();
    all_came(&engine, &receiver).await;
    receiver.assert_in_order();
    let received: BTreeMap<_, _> = receiver.received().into_iter().collect();
    for event in published {
        assert_eq!(received[&event.id], serde_json::to_string(&event).unwrap());
    }
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_that_are_put_to_sleep_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.actors.max_resident = 16;
    config.checkpoint.replay_target_ms = 0;
    let engine = open(&config).await;
    let option = on_sale(&engine, 20, 2).await;
    let mut sinks = Vec::new();
    for n in 0..40 {
        let receiver = Recorder::new(move |event| if event.subject == "r1-1" { Mood::Failing } else { Mood::Well });
        let name = format!("sink {n}");
        let sink = engine.attach(&name, EventFilter::ALL, Start::Beginning, receiver.clone(), quick()).await.unwrap();
        sinks.push((sink, receiver));
    }
    sell(&engine, option, 0..2).await;
    for (sink, receiver) in &sinks {
        settled_cursor(&engine, *sink).await;
        eventually("it is given up", || async {
            let view = engine.sink(*sink).await.unwrap();
            ((view.dead_letters, view.parked) == (1, 3)).then_some(())
        })
        .await;
        receiver.be(Mood::Well);
    }
    // Long enough for the idle ones to be put to sleep and written down.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(engine.sinks().await.unwrap().iter().filter(|sink| sink.dead_letters == 1).count(), 40);
    for (sink, receiver) in &sinks {
        engine.redrive(*sink, None, None).await.unwrap();
        all_came(&engine, receiver).await;
        receiver.assert_in_order();
    }
    engine.shutdown().await.unwrap();
}

/// Says too much.
struct Talker;

impl Receiver for Talker {
    fn deliver<'a>(&'a self, _: &'a Delivery) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
        let failure = Failure { status: None, text: "é".repeat(1 << 20), retry_after: None };
        Box::pin(async { Outcome::Failed(failure) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_kept_of_what_a_receiver_says_than_is_of_use() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(&config(dir.path())).await;
    let talker = Arc::new(Talker);
    let sink = engine.attach("test", EventFilter::ALL, Start::Now, talker, quick()).await.unwrap();
    engine.charge(&user(1), points(1), &user(0), None).await.unwrap();
    let dead = eventually("it is given up", || async {
        engine.dead_letters(sink, &PageRequest::default()).await.unwrap().items.pop()
    })
    .await;
    let said = dead.last_response.unwrap().text;
    assert_eq!(said, "é".repeat(1_024));
    engine.shutdown().await.unwrap();
}
