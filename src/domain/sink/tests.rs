//! Tables of given/when/then.

use super::*;
use crate::domain::Lsn;
use crate::testing::scenario::{Scenario, given};

fn s(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000_000 + seconds * 1000)
}

fn id(lsn: u64) -> EventId {
    EventId { lsn: Lsn(lsn), index: 0 }
}

fn registration() -> Registration {
    let receiver = Destination::Webhook { url: "https://example.org/".into(), format: Format::Cloudevent };
    Registration { receiver, filter: EventFilter::ALL, after: id(7) }
}

fn secret(byte: u8) -> Secret {
    Secret([byte; SECRET_BYTES])
}

fn registered() -> Scenario<Sink> {
    given(s(0), [Event::SinkRegistered { registration: registration(), secret: secret(1) }])
}

fn parked(fate: Fate) -> Parked {
    let response = Response { status: Some(500), text: "no".into(), at: s(1) };
    Parked { subject: "r1-1".into(), kind: EventType::ReservationCreated, attempts: 3, fate, response: Some(response) }
}

fn with_parked(fates: impl IntoIterator<Item = (u64, Fate)>) -> Scenario<Sink> {
    let events = fates.into_iter().map(|(lsn, fate)| (id(lsn), parked(fate))).collect();
    registered().given(s(1), [Event::EventsParked { events }])
}

fn redrive(lsn: Option<u64>) -> Command {
    Command::Redrive { event: lsn.map(id), request: Request::default() }
}

fn redriven(count: u64) -> Reply {
    Reply::Redriven { count, replayed: false }
}

#[test]
fn a_number_is_given_once() {
    let register = || Command::Register { registration: registration(), secret: secret(1) };
    let new = given::<Sink>(s(0), []).when(register(), s(0));
    let event = Event::SinkRegistered { registration: registration(), secret: secret(1) };
    new.then_events([event]).then_reply(Reply::Done);
    registered().when(register(), s(1)).then_rejected(Rejection::NotFound);
    registered().given(s(1), [Event::SinkRemoved]).when(register(), s(2)).then_rejected(Rejection::NotFound);
}

#[test]
fn nothing_can_be_asked_of_one_that_is_not_there() {
    let commands = || {
        [
            Command::Advance { cursor: id(9) },
            Command::Park { events: vec![(id(8), parked(Fate::Dead))] },
            Command::Settle { events: vec![id(8)] },
            redrive(None),
            Command::Drop { event: id(8) },
            Command::RotateSecret { secret: secret(2), previous_until: s(9) },
            Command::Disable { reason: "410".into() },
            Command::Remove,
        ]
    };
    for command in commands() {
        given::<Sink>(s(0), []).when(command, s(1)).then_rejected(Rejection::NotFound);
    }
    for command in commands() {
        with_parked([(8, Fate::Dead)])
            .given(s(2), [Event::SinkRemoved])
            .when(command, s(3))
            .then_rejected(Rejection::NotFound);
    }
}

#[test]
fn the_cursor_only_moves_on() {
    registered().when(Command::Advance { cursor: id(9) }, s(1)).then_events([Event::CursorAdvanced { cursor: id(9) }]);
    for cursor in [id(7), id(3), EventId::default()] {
        registered().when(Command::Advance { cursor }, s(1)).then_events([]);
    }
}

#[test]
fn what_is_parked_is_written_down_when_it_changes() {
    let retry = parked(Fate::Retry { at: s(5) });
    let park = |parked: &Parked| Command::Park { events: vec![(id(8), parked.clone())] };
    let both = registered().when(park(&retry), s(1));
    both.then_events([Event::EventsParked { events: vec![(id(8), retry.clone())] }]);
    let again = with_parked([(8, Fate::Retry { at: s(5) })]);
    again.when(park(&retry), s(1)).then_events([]);
    let dead = parked(Fate::Dead);
    with_parked([(8, Fate::Retry { at: s(5) })])
        .when(park(&dead), s(1))
        .then_events([Event::EventsParked { events: vec![(id(8), dead)] }]);
}

#[test]
fn what_is_delivered_at_last_is_settled_once() {
    let settle = || Command::Settle { events: vec![id(8), id(9)] };
    with_parked([(8, Fate::Behind)]).when(settle(), s(2)).then_events([Event::EventsSettled { events: vec![id(8)] }]);
    registered().when(settle(), s(2)).then_events([]);
}

#[test]
fn dead_letters_are_sent_again() {
    let some = || with_parked([(8, Fate::Dead), (9, Fate::Behind), (10, Fate::Dead)]);
    some()
        .when(redrive(None), s(2))
        .then_events([Event::DeadLettersRedriven { events: vec![id(8), id(10)], key: None }])
        .then_reply(redriven(2));
    some()
        .when(redrive(Some(10)), s(2))
        .then_events([Event::DeadLettersRedriven { events: vec![id(10)], key: None }])
        .then_reply(redriven(1));
    for other in [9, 11] {
        some().when(redrive(Some(other)), s(2)).then_events([]).then_reply(redriven(0));
    }
    let again = some().when(redrive(None), s(2));
    let sink = again.state();
    assert_eq!(sink.dead_letters().count(), 0);
    let first = &sink.parked()[&id(8)];
    assert_eq!((first.attempts, first.fate), (0, Fate::Retry { at: s(2) }));
    registered().when(redrive(None), s(2)).then_events([]).then_reply(redriven(0));
}

#[test]
fn what_was_asked_with_a_key_gets_the_same_answer_again() {
    let key = |payload: u8| Key { scope: [1; 16], payload: [payload; 16], caller: "root".parse().unwrap() };
    let with_key = |payload| {
        let request = Request { key: Some(key(payload)), refused: None };
        Command::Redrive { event: None, request }
    };
    let first = with_parked([(8, Fate::Dead)]).when(with_key(1), s(2));
    let event = Event::DeadLettersRedriven { events: vec![id(8)], key: Some(key(1)) };
    first.then_events([event.clone()]).then_reply(redriven(1));
    // It is a dead letter again, and is not sent a third time.
    let dead = Event::EventsParked { events: vec![(id(8), parked(Fate::Dead))] };
    let asked = || with_parked([(8, Fate::Dead)]).given(s(2), [event.clone(), dead.clone()]);
    asked().when(with_key(1), s(3)).then_events([]).then_reply(Reply::Redriven { count: 1, replayed: true });
    asked().when(with_key(2), s(3)).then_rejected(Rejection::IdempotencyKeyReused);
    // So is an answer that there was nothing to do.
    let nothing = Event::DeadLettersRedriven { events: vec![], key: Some(key(1)) };
    registered().when(with_key(1), s(2)).then_events([nothing.clone()]).then_reply(redriven(0));
    let again = with_parked([(8, Fate::Dead)]).given(s(2), [nothing]).when(with_key(1), s(3));
    again.then_events([]).then_reply(Reply::Redriven { count: 0, replayed: true });
}

#[test]
fn a_receiver_that_is_gone_gets_another_chance() {
    let gone = || registered().when(Command::Disable { reason: "410 Gone".into() }, s(1));
    gone().then_events([Event::SinkDisabled { reason: "410 Gone".into() }]);
    assert_eq!(gone().state().disabled(), Some("410 Gone"));
    gone().when(Command::Disable { reason: "again".into() }, s(2)).then_events([]);
    let back = gone().when(redrive(None), s(3));
    let back = back.then_events([Event::DeadLettersRedriven { events: vec![], key: None }]);
    assert_eq!(back.state().disabled(), None);
}

#[test]
fn a_dead_letter_is_dropped_and_nothing_else_is() {
    let some = || with_parked([(8, Fate::Dead), (9, Fate::Behind)]);
    some().when(Command::Drop { event: id(8) }, s(2)).then_events([Event::DeadLetterDropped { event: id(8) }]);
    for other in [id(9), id(11)] {
        some().when(Command::Drop { event: other }, s(2)).then_rejected(Rejection::NotFound);
    }
}

#[test]
fn what_is_dropped_is_remembered_until_the_cursor_has_passed_it() {
    let drop = |lsn| Command::Drop { event: id(lsn) };
    let some = || with_parked([8, 9, 12].map(|lsn| (lsn, Fate::Dead)));
    let dropped = some().when(drop(12), s(2)).when(drop(8), s(2)).when(drop(9), s(2)).reloaded();
    assert!(dropped.state().dropped().iter().copied().eq([8, 9, 12].map(id)));
    dropped.clone().when(drop(8), s(3)).then_rejected(Rejection::NotFound);
    let passed = dropped.when(Command::Advance { cursor: id(9) }, s(3)).reloaded();
    assert!(passed.state().dropped().iter().copied().eq([id(12)]));
    let removed = passed.clone().when(Command::Remove, s(4));
    let all = passed.when(Command::Advance { cursor: id(100) }, s(4));
    for none in [&all, &removed] {
        assert!(none.state().dropped().is_empty());
        assert!(!none.subject().rows.live.keys().any(|part| matches!(part, Part::Dropped(_))));
    }
    let late = some().when(Command::Advance { cursor: id(20) }, s(2)).when(drop(12), s(2));
    assert!(late.state().dropped().is_empty(), "nobody reads it again");
}

#[test]
fn the_old_secret_is_good_for_a_while() {
    let rotated = registered().when(Command::RotateSecret { secret: secret(2), previous_until: s(60) }, s(1));
    let signing = rotated.state().signing();
    assert!(signing.secrets(s(59)).eq([secret(2), secret(1)]), "the newest first");
    assert!(signing.secrets(s(60)).eq([secret(2)]));
}

#[test]
fn one_that_is_removed_leaves_nothing_but_its_number() {
    let removed = with_parked([(8, Fate::Dead)]).when(Command::Remove, s(2));
    let removed = removed.then_events([Event::SinkRemoved]);
    let sink = removed.state();
    assert!(sink.is_known() && sink.registration().is_none() && sink.parked().is_empty());
    assert_eq!(sink.signing().secrets(s(2)).count(), 0);
}

#[test]
fn secrets_are_not_shown() {
    let event = Event::SinkRegistered { registration: registration(), secret: secret(0xab) };
    let shown = format!("{event:?} {}", serde_json::to_string(&event).unwrap());
    assert!(!shown.contains("171") && !shown.to_lowercase().contains("ab, "), "{shown}");
}
