//! Rules one by one, then anything at all against what was promised.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::api::WalletEntry;
use crate::domain::idempotency::Request;
use crate::domain::sink::{self, Destination, Format, Registration, Secret};
use crate::domain::wallet::EntryKind;
use crate::domain::{Aggregate, Decided, EntryId, EventFilter, EventType, Ignore, Lsn, Meta, Points};
use crate::relay::EventData;

fn s(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000_000 + seconds * 1_000)
}

fn id(lsn: u64) -> EventId {
    EventId { lsn: Lsn(lsn), index: 0 }
}

fn event(lsn: u64, subject: &str) -> Arc<Event> {
    let entry = WalletEntry {
        id: EntryId { wallet: 1, no: 1 },
        kind: EntryKind::Charge,
        amount: Points::ZERO,
        balance: Points::ZERO,
        reference: String::new(),
        at: s(0),
        reason: None,
    };
    Arc::new(Event {
        id: id(lsn),
        kind: EventType::WalletCharged,
        source: String::new(),
        subject: subject.into(),
        time: s(0),
        data: EventData::WalletEntry(entry),
    })
}

fn settings() -> Settings {
    Settings {
        window: 100,
        concurrency: 4,
        max_parked: 100,
        retry_schedule: vec![Duration::from_secs(5), Duration::from_secs(60)],
        breaker: breaker::Limits { failures: 100, pause: Duration::from_secs(30) },
        retry_after_max: Duration::from_secs(900),
    }
}

/// A sink as its journal makes it.
#[derive(Clone, Default)]
struct Aggregated {
    sink: Sink,
    lsn: u64,
}

impl Aggregated {
    fn registered() -> Self {
        let mut aggregated = Self::default();
        let receiver = Destination::Webhook { url: String::new(), format: Format::Cloudevent };
        let registration = Registration { receiver, filter: EventFilter::ALL, after: EventId::default() };
        let secret = Secret([0; sink::SECRET_BYTES]);
        aggregated.tell(s(0), &Command::Register { registration, secret });
        aggregated
    }

    fn tell(&mut self, now: Timestamp, command: &Command) {
        let mut decided = Decided::default();
        self.sink.decide(now, command, &mut decided).unwrap();
        for event in decided.events {
            self.lsn += 1;
            self.sink.evolve(Meta { lsn: Lsn(self.lsn), at: now }, &event, &mut Ignore);
        }
    }
}

/// A dispatch, its aggregate, and what is under way.
struct Bench {
    aggregated: Aggregated,
    /// What of it a crash leaves.
    durable: Aggregated,
    dispatch: Dispatch,
    under_way: BTreeMap<u64, Vec<EventId>>,
}

impl Bench {
    fn new(settings: Settings, batch: usize) -> Self {
        let aggregated = Aggregated::registered();
        let dispatch = Dispatch::new(&aggregated.sink, settings, batch);
        Self { durable: aggregated.clone(), aggregated, dispatch, under_way: BTreeMap::new() }
    }

    fn take(&mut self, events: &[(u64, &str)]) {
        let last = events.last().unwrap().0;
        self.dispatch.take(events.iter().map(|(lsn, subject)| event(*lsn, subject)).collect(), id(last));
    }

    /// Steps, and gives the lsns of what is started.
    fn step(&mut self, now: Timestamp) -> Vec<Vec<u64>> {
        let step = self.dispatch.step(now);
        for command in &step.commands {
            self.aggregated.tell(now, command);
        }
        let ids = |what: &Content| match what {
            Content::Events(events) => events.iter().map(|event| event.id).collect::<Vec<_>>(),
            Content::Parked(id) => vec![*id],
        };
        let started: Vec<_> = step.attempts.iter().map(|attempt| (attempt.no, ids(&attempt.what))).collect();
        self.under_way.extend(started.iter().cloned());
        started.into_iter().map(|(_, ids)| ids.into_iter().map(|id| id.lsn.0).collect()).collect()
    }

    fn end(&mut self, now: Timestamp, first: u64, outcome: Outcome) {
        let no = *self.under_way.iter().find(|(_, ids)| ids[0] == id(first)).expect("it is under way").0;
        self.under_way.remove(&no);
        self.dispatch.finished(now, no, outcome, &mut || JITTER_MS);
    }

    fn deliver(&mut self, now: Timestamp, first: u64) {
        self.end(now, first, Outcome::Delivered);
    }

    fn fail(&mut self, now: Timestamp, first: u64) {
        self.end(now, first, failed());
    }

    /// An operator changes something.
    fn change(&mut self, now: Timestamp, command: &Command) {
        self.aggregated.tell(now, command);
        self.dispatch.refresh(&self.aggregated.sink, now);
    }

    /// Begins anew from what the aggregate knows.
    fn commit(&mut self) {
        self.durable = self.aggregated.clone();
    }

    /// Nothing is lost but what was under way.
    fn crash(&mut self) {
        self.commit();
        self.power_cut();
    }

    /// What was told since the last commit is lost too.
    fn power_cut(&mut self) {
        self.under_way.clear();
        self.aggregated = self.durable.clone();
        self.dispatch = Dispatch::new(&self.aggregated.sink, self.dispatch.settings.clone(), self.dispatch.batch);
    }

    fn parked(&self) -> Vec<(u64, u32, Fate)> {
        let parked = &self.aggregated.sink.parked();
        parked.iter().map(|(id, parked)| (id.lsn.0, parked.attempts, parked.fate)).collect()
    }
}

fn failed() -> Outcome {
    Outcome::Failed(Failure { status: Some(500), text: "oops".into(), retry_after: None })
}

fn busy(seconds: u64) -> Outcome {
    let retry_after = Some(Duration::from_secs(seconds));
    Outcome::Failed(Failure { status: Some(429), text: String::new(), retry_after })
}

fn undeliverable() -> Outcome {
    Outcome::Undeliverable(Failure { text: "no words for it".into(), ..Failure::default() })
}

fn unreachable() -> Outcome {
    Outcome::Unreachable(Failure { text: "nobody listens".into(), ..Failure::default() })
}

fn redrive(event: Option<EventId>) -> Command {
    Command::Redrive { event, request: Request::default() }
}

/// What the random number makes of either wait of the schedule.
const JITTER_MS: u64 = 5_000;

#[test]
fn one_of_a_subject_at_a_time_others_side_by_side() {
    let mut bench = Bench::new(settings(), 1);
    bench.take(&[(1, "a"), (2, "a"), (3, "b"), (4, "c"), (5, "d"), (6, "e")]);
    assert_eq!(bench.step(s(0)), [[1], [3], [4], [5]], "four at a time");
    bench.deliver(s(0), 4);
    assert_eq!(bench.step(s(0)), [[6]]);
    bench.deliver(s(0), 1);
    assert_eq!(bench.step(s(0)), [[2]]);
}

#[test]
fn a_batch_may_hold_many_of_a_subject_in_order() {
    let mut bench = Bench::new(settings(), 3);
    bench.take(&[(1, "a"), (2, "a"), (3, "b"), (4, "a"), (5, "c")]);
    assert_eq!(bench.step(s(0)), [vec![1, 2, 3], vec![5]], "4 comes after the others of its subject");
    bench.deliver(s(0), 1);
    assert_eq!(bench.step(s(0)), [[4]]);
}

#[test]
fn the_cursor_stands_before_what_is_not_done_and_is_told_once_a_second() {
    let mut bench = Bench::new(settings(), 1);
    bench.take(&[(1, "a"), (2, "b"), (3, "c")]);
    bench.step(s(0));
    bench.deliver(s(0), 1);
    bench.deliver(s(0), 3);
    bench.step(s(0));
    assert_eq!(bench.aggregated.sink.cursor(), id(1));
    bench.deliver(s(0), 2);
    let step = bench.dispatch.step(s(0));
    assert!(step.commands.is_empty(), "not twice in a second");
    assert_eq!(step.wake_at, Some(s(1)));
    bench.step(s(1));
    assert_eq!(bench.aggregated.sink.cursor(), id(3));
    assert_eq!(bench.dispatch.step(s(2)).wake_at, None, "nothing to be done");
}

#[test]
fn what_nobody_wanted_moves_the_cursor_when_it_is_much() {
    let mut bench = Bench::new(settings(), 1);
    bench.dispatch.take(vec![], id(99_999));
    bench.step(s(1));
    assert_eq!(bench.aggregated.sink.cursor(), EventId::default());
    bench.dispatch.take(vec![], id(100_000));
    bench.step(s(2));
    assert_eq!(bench.aggregated.sink.cursor(), id(100_000));
}

#[test]
fn what_fails_is_parked_with_what_comes_after_it_and_others_go_on() {
    let mut bench = Bench::new(settings(), 1);
    bench.take(&[(1, "a"), (2, "a"), (3, "b")]);
    bench.step(s(0));
    bench.fail(s(0), 1);
    bench.deliver(s(0), 3);
    assert_eq!(bench.step(s(0)), Vec::<Vec<u64>>::new());
    let retry_at = s(0).plus_millis(JITTER_MS);
    assert_eq!(bench.parked(), [(1, 1, Fate::Retry { at: retry_at }), (2, 0, Fate::Behind)]);
    bench.take(&[(4, "a"), (5, "b")]);
    assert_eq!(bench.step(s(0)), [[5]], "4 waits behind 1");
    bench.deliver(s(0), 5);
    bench.step(s(1));
    assert_eq!(bench.aggregated.sink.cursor(), id(5), "the cursor does not wait for it");
    bench.step(retry_at);
    bench.deliver(retry_at, 1);
    assert_eq!(bench.step(retry_at), [[2]]);
    bench.deliver(retry_at, 2);
    assert_eq!(bench.step(retry_at), [[4]]);
    bench.deliver(retry_at, 4);
    bench.take(&[(6, "a")]);
    assert_eq!(bench.step(retry_at), [[6]], "the subject is free again");
    assert_eq!(bench.parked(), []);
}

#[test]
fn a_failed_batch_is_tried_again_one_by_one() {
    let mut bench = Bench::new(settings(), 10);
    bench.take(&[(1, "a"), (2, "a"), (3, "b")]);
    assert_eq!(bench.step(s(0)), [[1, 2, 3]]);
    bench.fail(s(0), 1);
    assert_eq!(bench.step(s(4)), Vec::<Vec<u64>>::new());
    let retry = Fate::Retry { at: s(0).plus_millis(JITTER_MS) };
    assert_eq!(bench.parked(), [(1, 1, retry), (2, 0, Fate::Behind), (3, 1, retry)]);
    assert_eq!(bench.step(s(5)), [[1], [3]]);
}

#[test]
fn after_the_last_attempt_it_is_a_dead_letter_that_an_operator_decides_about() {
    let mut bench = Bench::new(settings(), 1);
    bench.take(&[(1, "a"), (2, "a")]);
    for now in [s(0), s(100), s(200)] {
        assert_eq!(bench.step(now), [[1]]);
        bench.fail(now, 1);
    }
    assert_eq!(bench.step(s(9_999)), Vec::<Vec<u64>>::new());
    assert_eq!(bench.parked(), [(1, 3, Fate::Dead), (2, 0, Fate::Behind)]);

    bench.change(s(10_000), &redrive(None));
    assert_eq!(bench.step(s(10_000)), [[1]]);
    for now in [s(10_000), s(11_000), s(12_000)] {
        bench.fail(now, 1);
        bench.step(now.plus_millis(500_000));
    }
    assert_eq!(bench.parked()[0], (1, 3, Fate::Dead), "it had all its attempts again");

    bench.change(s(13_000), &Command::Drop { event: id(1) });
    assert_eq!(bench.step(s(13_000)), [[2]]);
}

#[test]
fn an_open_breaker_withholds_attempts_and_they_do_not_count() {
    let breaker = breaker::Limits { failures: 2, pause: Duration::from_secs(30) };
    let mut bench = Bench::new(Settings { breaker, ..settings() }, 1);
    bench.take(&[(1, "a"), (2, "b"), (3, "c")]);
    bench.step(s(0));
    bench.fail(s(0), 1);
    bench.fail(s(0), 2);
    bench.fail(s(0), 3);
    assert_eq!(bench.step(s(10)), Vec::<Vec<u64>>::new(), "they are due, and withheld");
    assert!(!bench.dispatch.has_room(s(10)), "nor is anything read");
    assert_eq!(bench.dispatch.step(s(10)).wake_at, Some(s(30)));
    assert_eq!(bench.step(s(30)).len(), 1, "one probe");
    assert_eq!(bench.dispatch.breaker(s(30)), breaker::State::HalfOpen);
    assert!(bench.parked().iter().all(|(_, attempts, _)| *attempts == 1));
    let probe = *bench.under_way.values().next().unwrap().first().unwrap();
    bench.deliver(s(31), probe.lsn.0);
    assert_eq!(bench.step(s(31)).len(), 2, "it is well again");
}

#[test]
fn a_receiver_is_left_alone_for_as_long_as_it_asks() {
    let mut bench = Bench::new(settings(), 1);
    bench.take(&[(1, "a"), (2, "b")]);
    bench.step(s(0));
    bench.end(s(0), 1, busy(40));
    bench.deliver(s(0), 2);
    bench.step(s(0));
    assert_eq!(bench.parked(), [(1, 1, Fate::Retry { at: s(40) })], "whatever the schedule says");
    assert_eq!(bench.step(s(39)), Vec::<Vec<u64>>::new());
    assert_eq!(bench.step(s(40)), [[1]]);
}

#[test]
fn one_answer_does_not_silence_a_receiver_for_as_long_as_it_likes() {
    for asked in [901, 86_400, u64::MAX] {
        let mut bench = Bench::new(settings(), 1);
        bench.take(&[(1, "a"), (2, "b")]);
        bench.step(s(7));
        bench.end(s(7), 1, busy(asked));
        bench.step(s(7));
        let pause = breaker::Pause { until: s(907), reason: breaker::Reason::RetryAfter };
        assert_eq!(bench.dispatch.pause(s(7)), Some(pause), "{asked}");
        assert_eq!(bench.parked(), [(1, 1, Fate::Retry { at: s(907) })], "{asked}");
        bench.fail(s(8), 2);
        assert_eq!(bench.dispatch.pause(s(8)), Some(pause), "a later failure does not prolong it");
        assert_eq!(bench.step(s(906)), Vec::<Vec<u64>>::new());
        assert_eq!(bench.step(s(907)).len(), 1, "{asked}");
    }
}

#[test]
fn a_redrive_waits_for_nothing() {
    let breaker = breaker::Limits { failures: 2, pause: Duration::from_secs(3_600) };
    let mut bench = Bench::new(Settings { breaker, ..settings() }, 1);
    bench.take(&[(1, "a"), (2, "b"), (3, "c"), (4, "a")]);
    bench.step(s(0));
    for lsn in 1..=3 {
        bench.end(s(0), lsn, busy(600));
    }
    bench.step(s(0));
    assert_eq!(bench.step(s(1)), Vec::<Vec<u64>>::new());
    bench.dispatch.hurry(Some(id(2)), s(1));
    assert_eq!(
        (bench.dispatch.pause(s(1)), bench.step(s(1))),
        (None, vec![vec![2]]),
        "this one, and the others in time"
    );
    bench.deliver(s(1), 2);
    bench.dispatch.hurry(None, s(2));
    assert_eq!(bench.step(s(2)), [[1], [3]], "all, those behind them after them");
    bench.deliver(s(2), 1);
    bench.deliver(s(2), 3);
    assert_eq!(bench.step(s(2)), [[4]]);
    bench.deliver(s(2), 4);
    bench.step(s(3));
    assert!(bench.aggregated.sink.parked().is_empty());
    // What was hurried and fails again has its place in the schedule.
    bench.take(&[(5, "a")]);
    bench.step(s(3));
    bench.fail(s(3), 5);
    bench.dispatch.hurry(None, s(4));
    assert_eq!(bench.step(s(4)), [[5]]);
    bench.fail(s(4), 5);
    bench.step(s(4));
    assert_eq!(bench.parked(), [(5, 2, Fate::Retry { at: s(4).plus_millis(JITTER_MS) })]);
}

#[test]
fn what_cannot_be_sent_is_a_dead_letter_at_once_and_says_nothing_of_the_receiver() {
    let breaker = breaker::Limits { failures: 1, pause: Duration::from_secs(30) };
    let mut bench = Bench::new(Settings { breaker, ..settings() }, 1);
    bench.take(&[(1, "a"), (2, "a"), (3, "b")]);
    bench.step(s(0));
    bench.end(s(0), 1, undeliverable());
    assert_eq!(bench.dispatch.breaker(s(0)), breaker::State::Closed);
    bench.deliver(s(0), 3);
    bench.step(s(0));
    assert_eq!(bench.parked(), [(1, 1, Fate::Dead), (2, 0, Fate::Behind)]);
    bench.change(s(1), &redrive(None));
    assert_eq!(bench.step(s(1)), [[1]]);
    bench.end(s(1), 1, undeliverable());
    bench.step(s(1));
    assert_eq!(bench.parked()[0], (1, 1, Fate::Dead));
    // A probe that could not be sent does not leave the breaker half open for ever.
    bench.take(&[(4, "c"), (5, "d")]);
    bench.step(s(2));
    bench.fail(s(2), 4);
    bench.step(s(2));
    bench.deliver(s(2), 5);
    bench.take(&[(6, "e"), (7, "f")]);
    bench.step(s(2));
    bench.fail(s(3), 6);
    bench.step(s(3));
    bench.end(s(3), 7, undeliverable());
    let probe = bench.step(s(33)).remove(0)[0];
    bench.end(s(33), probe, undeliverable());
    assert!(bench.dispatch.breaker.lets_through(s(33)), "the next probe");
}

#[test]
fn what_finds_no_way_waits_where_it_is_for_as_long_as_it_takes() {
    let mut bench = Bench::new(Settings { concurrency: 1, ..settings() }, 2);
    bench.take(&[(1, "a"), (2, "b"), (3, "a"), (4, "c")]);
    assert_eq!(bench.step(s(0)), [[1, 2]]);
    bench.end(s(0), 1, unreachable());
    for pause in 1..=10_000 {
        assert_eq!(bench.step(s(30 * pause - 1)), Vec::<Vec<u64>>::new(), "left alone at once");
        assert!(!bench.dispatch.has_room(s(30 * pause - 1)), "no more is read");
        assert_eq!(bench.step(s(30 * pause)), [[1, 2]], "as it was, one at a time");
        bench.end(s(30 * pause), 1, unreachable());
    }
    assert_eq!(bench.parked(), [], "nothing of it is written down");
    let healed = s(30 * 10_001);
    assert_eq!(bench.step(healed), [[1, 2]]);
    bench.deliver(healed, 1);
    assert_eq!(bench.step(healed), [[3, 4]]);
}

#[test]
fn a_parked_one_that_finds_no_way_has_not_been_tried() {
    let mut bench = Bench::new(settings(), 1);
    bench.take(&[(1, "a"), (2, "a")]);
    bench.step(s(0));
    bench.fail(s(0), 1);
    bench.step(s(0));
    let (attempts, wait) = (bench.parked()[0].1, s(5));
    assert_eq!(bench.step(wait), [[1]]);
    bench.end(wait, 1, unreachable());
    assert_eq!(bench.step(s(34)), Vec::<Vec<u64>>::new());
    assert_eq!(bench.step(s(35)), [[1]]);
    assert_eq!(bench.parked()[0].1, attempts);
    bench.deliver(s(35), 1);
    assert_eq!(bench.step(s(35)), [[2]]);
}

#[test]
fn of_a_batch_that_cannot_be_sent_the_others_are_not_lost() {
    let mut bench = Bench::new(settings(), 3);
    bench.take(&[(1, "a"), (2, "b"), (3, "c")]);
    assert_eq!(bench.step(s(0)), [[1, 2, 3]]);
    bench.end(s(0), 1, undeliverable());
    assert_eq!(bench.step(s(0)), [[1], [2], [3]], "one by one, at once");
    bench.end(s(0), 2, undeliverable());
    bench.deliver(s(0), 1);
    bench.deliver(s(0), 3);
    bench.step(s(0));
    assert_eq!(bench.parked(), [(2, 2, Fate::Dead)]);
}

#[test]
fn a_receiver_that_is_gone_gets_nothing_until_it_is_given_another_chance() {
    let mut bench = Bench::new(settings(), 1);
    bench.take(&[(1, "a"), (2, "b")]);
    bench.step(s(0));
    bench.end(s(0), 1, Outcome::Gone(Failure { status: Some(410), text: "gone".into(), retry_after: None }));
    bench.deliver(s(0), 2);
    assert_eq!(bench.step(s(1_000)), Vec::<Vec<u64>>::new());
    assert_eq!(bench.dispatch.step(s(1_000)).wake_at, None);
    assert!(!bench.dispatch.has_room(s(1_000)));
    assert_eq!(bench.aggregated.sink.disabled(), Some("gone"));
    bench.change(s(1_000), &redrive(None));
    assert_eq!(bench.step(s(1_000)), [[1]]);
}

#[test]
fn no_more_is_read_than_may_wait() {
    let mut bench = Bench::new(Settings { window: 2, max_parked: 1, ..settings() }, 1);
    bench.take(&[(1, "a"), (2, "b")]);
    assert!(!bench.dispatch.has_room(s(0)));
    bench.step(s(0));
    bench.deliver(s(0), 1);
    assert!(bench.dispatch.has_room(s(0)));
    bench.fail(s(0), 2);
    assert!(!bench.dispatch.has_room(s(0)), "one may be parked");
}

#[test]
fn what_is_parked_at_once_is_told_in_parts_that_fit_into_a_frame() {
    let mut bench = Bench::new(Settings { window: 10_000, ..settings() }, 2_500);
    let events: Vec<_> = (1..=2_500).map(|lsn| (lsn, if lsn % 2 == 0 { "a" } else { "b" })).collect();
    bench.take(&events);
    bench.step(s(0));
    bench.fail(s(0), 1);
    let parts = bench.dispatch.step(s(0)).commands.into_iter().filter_map(|command| match command {
        Command::Park { events } => Some(events),
        _ => None,
    });
    let parts: Vec<_> = parts.collect();
    assert!(parts.iter().all(|part| part.len() <= PARKED_AT_ONCE), "{:?}", parts.iter().map(Vec::len));
    assert!(
        parts.into_iter().flatten().map(|(id, _)| id.lsn.0).eq(1..=2_500),
        "in order, so that a crash cuts off the end"
    );
}

fn dead(subject: &str) -> Parked {
    Parked { attempts: 3, fate: Fate::Dead, ..parked(&event(1, subject)) }
}

/// A dispatch that begins with dead letters of the subject `a`.
fn with_dead(lsns: impl IntoIterator<Item = u64>) -> Bench {
    let mut bench = Bench::new(settings(), 1);
    let events = lsns.into_iter().map(|lsn| (id(lsn), dead("a"))).collect();
    bench.aggregated.tell(s(0), &Command::Park { events });
    bench.dispatch = Dispatch::new(&bench.aggregated.sink, settings(), 1);
    bench
}

#[test]
fn an_operator_does_not_start_a_subject_twice() {
    for second in [redrive(Some(id(2))), Command::Drop { event: id(2) }] {
        let mut bench = with_dead([1, 2]);
        bench.change(s(1), &redrive(Some(id(1))));
        assert_eq!(bench.step(s(1)), [[1]]);
        bench.change(s(1), &second);
        assert_eq!(bench.step(s(1)), Vec::<Vec<u64>>::new(), "{second:?}");
        bench.deliver(s(1), 1);
        let then = if matches!(second, Command::Drop { .. }) { vec![] } else { vec![vec![2]] };
        assert_eq!(bench.step(s(1)), then);
    }
}

#[test]
fn what_came_before_a_parked_one_of_its_subject_was_delivered_before_a_crash() {
    let mut bench = with_dead([2]);
    bench.take(&[(1, "a"), (2, "a"), (3, "a"), (4, "b")]);
    assert_eq!(bench.step(s(1)), [[4]]);
    assert_eq!(bench.parked(), [(2, 3, Fate::Dead), (3, 0, Fate::Behind)]);
}

/// A dead letter of `a` with another behind it, while the cursor stands before both, since `b` gets no answer.
fn dead_above_the_cursor() -> Bench {
    let mut bench = Bench::new(Settings { retry_schedule: Vec::new(), ..settings() }, 1);
    bench.take(&[(1, "b"), (2, "a"), (3, "a")]);
    assert_eq!(bench.step(s(0)), [[1], [2]]);
    bench.fail(s(0), 2);
    bench.step(s(1));
    assert_eq!(bench.parked(), [(2, 1, Fate::Dead), (3, 0, Fate::Behind)]);
    bench
}

#[test]
fn what_is_dropped_does_not_come_again_after_a_crash() {
    let mut bench = dead_above_the_cursor();
    bench.change(s(2), &Command::Drop { event: id(2) });
    assert_eq!(bench.step(s(2)), [[3]]);
    bench.deliver(s(2), 3);
    bench.step(s(2));
    assert_eq!(bench.aggregated.sink.cursor(), EventId::default());
    bench.crash();
    bench.take(&[(1, "b"), (2, "a"), (3, "a")]);
    assert_eq!(bench.step(s(3)), [[1], [3]], "what was delivered may come again");
    bench.deliver(s(3), 1);
    bench.deliver(s(3), 3);
    bench.step(s(4));
    assert_eq!(bench.aggregated.sink.cursor(), id(3), "the cursor passes it");
}

#[test]
fn what_is_dropped_before_it_is_read_again_does_not_come() {
    let mut bench = dead_above_the_cursor();
    bench.crash();
    bench.change(s(2), &Command::Drop { event: id(2) });
    assert_eq!(bench.step(s(2)), [[3]]);
    bench.deliver(s(2), 3);
    bench.take(&[(1, "b"), (2, "a"), (3, "a")]);
    assert_eq!(bench.step(s(2)), [[1]]);
}

#[test]
fn what_is_redriven_above_the_cursor_comes_again_after_a_crash_with_all_that_follows() {
    let mut bench = dead_above_the_cursor();
    bench.change(s(2), &redrive(None));
    for lsn in [2, 3] {
        assert_eq!(bench.step(s(2)), [[lsn]]);
        bench.deliver(s(2), lsn);
    }
    bench.step(s(2));
    assert_eq!(bench.parked(), []);
    bench.crash();
    bench.take(&[(1, "b"), (2, "a")]);
    assert_eq!(bench.step(s(3)), [[1], [2]]);
    bench.deliver(s(3), 2);
    bench.take(&[(3, "a")]);
    assert_eq!(bench.step(s(3)), [[3]], "a receiver that goes by the last one ends where it was");
}

#[test]
fn what_was_delivered_before_a_parked_one_does_not_come_after_it() {
    let mut bench = dead_above_the_cursor();
    bench.change(s(2), &redrive(None));
    assert_eq!(bench.step(s(2)), [[2]]);
    bench.deliver(s(2), 2);
    bench.step(s(2));
    bench.crash();
    assert_eq!(bench.step(s(3)), [[3]], "it waited behind what is delivered");
    bench.deliver(s(3), 3);
    bench.take(&[(1, "b"), (2, "a"), (3, "a"), (4, "a")]);
    assert_eq!(bench.step(s(3)), [[1], [4]], "only what comes after both");
    bench.power_cut();
    assert_eq!(bench.step(s(4)), [[3]], "from where the receiver stands, or before");
}

/// What happens next.
#[derive(Debug, Clone)]
enum Move {
    Take(u8),
    /// The attempt of this number ends: it arrives or does not, and if it does that may be said or not. One that does not may
    /// be one that cannot be sent.
    End(u8, bool, bool),
    Wait(u16),
    Redrive,
    Drop,
    Commit,
    /// Starts anew from what the aggregate knew at the last commit.
    PowerCut,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => (1..8_u8).prop_map(Move::Take),
        8 => (any::<u8>(), any::<bool>(), any::<bool>()).prop_map(|(which, arrives, said)| Move::End(which, arrives, said)),
        4 => (0..20_000_u16).prop_map(Move::Wait),
        1 => Just(Move::Redrive),
        1 => Just(Move::Drop),
        3 => Just(Move::Commit),
        1 => Just(Move::PowerCut),
    ];
    proptest::collection::vec(one, 1..120)
}

const SUBJECTS: [&str; 3] = ["a", "b", "c"];

fn subject_of(lsn: u64) -> &'static str {
    SUBJECTS[(lsn * 7 % 11 % 3) as usize]
}

/// What a receiver has got.
#[derive(Default)]
struct Received {
    all: BTreeSet<u64>,
    last: BTreeMap<&'static str, u64>,
    /// What it is not to get (any more).
    dropped: BTreeSet<u64>,
}

impl Received {
    /// What comes may have come before; from there all that follows in its subject comes again.
    fn receive(&mut self, ids: &[EventId]) -> Result<(), TestCaseError> {
        for EventId { lsn: Lsn(lsn), .. } in ids {
            prop_assert!(!self.dropped.contains(lsn), "{lsn} was dropped");
            let missing = self.missing(subject_of(*lsn), *lsn);
            prop_assert_eq!(missing, None, "left out before {}", lsn);
            self.last.insert(subject_of(*lsn), *lsn);
            self.all.insert(*lsn);
        }
        Ok(())
    }

    /// What is to come of a subject before `lsn`.
    fn missing(&self, subject: &str, lsn: u64) -> Option<u64> {
        let next = self.last.get(subject).map_or(1, |last| last + 1);
        (next..lsn).find(|lsn| subject_of(*lsn) == subject && !self.dropped.contains(lsn))
    }
}

proptest! {
    /// Nothing is lost, nothing overtakes in its subject, and the cursor never passes what would be forgotten.
    #[test]
    fn whatever_happens(moves in moves(), batch in 1..4_usize, failures in 1..6_u32) {
        let breaker = breaker::Limits { failures, pause: Duration::from_secs(3) };
        let settings = Settings { window: 12, max_parked: 8, breaker, ..settings() };
        let mut bench = Bench::new(settings.clone(), batch);
        let (mut now, mut written) = (s(0), 0);
        let mut inbox = Received::default();
        let healing = std::iter::repeat_n([Move::Take(7), Move::Redrive, Move::Wait(60_000)], 400).flatten();
        let mut moves: VecDeque<_> = moves.into_iter().chain(healing).collect();
        let healing_from = 1_200;
        while let Some(next) = moves.pop_front() {
            let heals = moves.len() < healing_from;
            match next {
                Move::Take(count) => {
                    if bench.dispatch.has_room(now) {
                        let from = bench.dispatch.read().lsn.0;
                        let until = if heals { (from + u64::from(count)).min(written) } else { from + u64::from(count) };
                        written = written.max(until);
                        let events = (from + 1..=until).map(|lsn| event(lsn, subject_of(lsn))).collect();
                        bench.dispatch.take(events, id(until));
                    }
                }
                Move::End(which, arrives, said) => {
                    let firsts: Vec<_> = bench.under_way.values().map(|ids| ids[0].lsn.0).collect();
                    if let Some(first) = firsts.get(usize::from(which) % firsts.len().max(1)) {
                        let ids = bench.under_way.values().find(|ids| ids[0].lsn.0 == *first).unwrap();
                        if arrives {
                            inbox.receive(ids)?;
                        }
                        let outcome = match (arrives, said) {
                            (true, true) => Outcome::Delivered,
                            (false, true) => undeliverable(),
                            (_, false) if which % 2 == 0 => failed(),
                            (_, false) => unreachable(),
                        };
                        bench.end(now, *first, outcome);
                    }
                }
                Move::Wait(millis) => now = now.plus_millis(u64::from(millis)),
                Move::Redrive | Move::Drop => {
                    bench.step(now);
                    let dead = bench.aggregated.sink.dead_letters().next().map(|(id, _)| id);
                    if let (Move::Drop, Some(event), false) = (&next, dead, heals) {
                        bench.change(now, &Command::Drop { event });
                        // Whoever dropped it was told so.
                        bench.commit();
                        inbox.dropped.insert(event.lsn.0);
                    } else if matches!(next, Move::Redrive) {
                        bench.change(now, &redrive(None));
                        bench.dispatch.hurry(None, now);
                    }
                }
                Move::Commit => bench.commit(),
                Move::PowerCut => bench.power_cut(),
            }
            bench.step(now);
            if heals {
                while let Some(first) = bench.under_way.values().next().map(|ids| ids[0].lsn.0) {
                    inbox.receive(bench.under_way.values().next().unwrap())?;
                    bench.deliver(now, first);
                    bench.step(now);
                }
            }
            // What the aggregate would begin with after a crash, and what it has parked, is all that is not received.
            let sink = &bench.aggregated.sink;
            for lsn in 1..=sink.cursor().lsn.0 {
                let kept = sink.parked().contains_key(&id(lsn)) || inbox.dropped.contains(&lsn) || inbox.all.contains(&lsn);
                prop_assert!(kept, "{lsn} would be forgotten");
            }
            prop_assert!(bench.under_way.len() <= settings.concurrency);
        }
        for lsn in 1..=written {
            prop_assert!(inbox.all.contains(&lsn) || inbox.dropped.contains(&lsn), "{lsn} never came");
        }
        prop_assert!(bench.aggregated.sink.parked().is_empty());
        for subject in SUBJECTS {
            prop_assert_eq!(inbox.missing(subject, written + 1), None, "{} went back, and not on", subject);
        }
    }
}
