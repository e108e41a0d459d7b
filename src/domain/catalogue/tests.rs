//! Tables of given/when/then.

use super::*;
use crate::domain::concert_option::{SeatSet, Window};
use crate::domain::seating_plan::PlanHash;
use crate::domain::{UserId, idempotency};
use crate::testing::scenario::{Scenario, given};

fn s(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000_000 + seconds * 1000)
}

fn key(scope: u8, payload: u8) -> Key {
    Key { scope: [scope; 16], payload: [payload; 16], caller: "boss".parse::<UserId>().unwrap() }
}

fn with_key(scope: u8, payload: u8) -> Request {
    Request { key: Some(key(scope, payload)), refused: None }
}

fn settings() -> Settings {
    Settings { max_active: 7, ..Settings::default() }
}

fn create(title: &str, request: Request) -> Command {
    Command::CreateConcert {
        title: title.into(),
        waiting_room: settings(),
        signing_key: [9; 32],
        entries_max: 100,
        request,
    }
}

fn created(no: u64, title: &str, key: Option<Key>) -> Event {
    Event::ConcertCreated {
        concert: ConcertId(no),
        title: title.into(),
        waiting_room: settings(),
        signing_key: [9; 32],
        key,
    }
}

fn change(no: u64, patch: ConcertPatch) -> Command {
    Command::ChangeConcert { concert: ConcertId(no), patch: Box::new(patch), by: "boss".parse().unwrap() }
}

fn changed(no: u64, title: &str, details: Details) -> Event {
    let (title, details) = (title.into(), Box::new(details));
    Event::ConcertChanged { concert: ConcertId(no), title, details, by: "boss".parse().unwrap() }
}

#[test]
fn what_is_told_of_a_concert_is_changed_by_what_is_given() {
    let venue = |venue: Option<&str>| Some(venue.map(str::to_owned));
    let then = given::<Catalogue>(s(0), [created(1, "One", None)]);
    let patch = ConcertPatch { venue: venue(Some("Hall")), hidden: Some(true), ..ConcertPatch::default() };
    let hidden = Details { venue: Some("Hall".into()), hidden: true, ..Details::default() };
    let then = then.when(change(1, patch.clone()), s(1)).then_events([changed(1, "One", hidden.clone())]);
    let then = then.then_tells([]).then_reply(Reply::Changed).reloaded();
    let concert = then.state().concert(ConcertId(1)).unwrap();
    assert_eq!((&*concert.title, concert.details(), concert.is_hidden()), ("One", hidden, true));
    then.clone().when(change(1, patch), s(2)).then_nothing().then_reply(Reply::Changed);
    then.clone().when(change(1, ConcertPatch::default()), s(2)).then_nothing();
    let shown =
        ConcertPatch { title: Some("Two".into()), venue: venue(None), hidden: Some(false), ..Default::default() };
    let then = then.when(change(1, shown), s(2)).then_events([changed(1, "Two", Details::default())]).reloaded();
    then.clone().when(change(2, ConcertPatch::default()), s(3)).then_rejected(Rejection::NotFound);
    let wrong = ConcertPatch { title: Some(String::new()), ..ConcertPatch::default() };
    let flaw = Flaw::of_name("title", "").unwrap();
    then.clone().when(change(2, wrong.clone()), s(3)).then_rejected(Rejection::NotFound);
    then.when(change(1, wrong), s(3)).then_rejected(Rejection::Invalid(vec![flaw]));
}

fn definition(concert: u64) -> Box<Definition> {
    Box::new(Definition {
        concert: ConcertId(concert),
        starts_at: s(1000),
        window: Window { sale_opens_at: None, sale_closes_at: s(900), refundable_until: None },
        plan: PlanHash([3; 32]),
        seat_count: 1,
        prices: vec![],
        areas: vec![],
        hold_seconds: 1,
        payment_seconds: 1,
        max_seats_per_reservation: 1,
        max_seats_per_user: 1,
        focus: None,
        accessible: Vec::new(),
        not_for_sale: SeatSet::default(),
        payment_methods: Vec::new(),
        currency: None,
        amended: None,
    })
}

fn add(concert: u64, request: Request) -> Command {
    Command::AddOption { definition: definition(concert), entries_max: 100, request }
}

fn added(no: u64, concert: u64, key: Option<Key>) -> Event {
    Event::OptionAdded { option: OptionId(no), definition: definition(concert), key }
}

fn concert(no: u64, replayed: bool) -> Reply {
    Reply::Concert { concert: ConcertId(no), replayed }
}

fn option(no: u64, replayed: bool) -> Reply {
    Reply::Option { option: OptionId(no), replayed }
}

fn open(no: u64) -> Message {
    let concert = ConcertId(no);
    Message::Room(concert, waiting_room::Command::Open { concert, settings: settings() })
}

fn define(no: u64, concert: u64) -> Message {
    let option = OptionId(no);
    let definition = definition(concert);
    Message::Option(option, concert_option::Command::Define { option, definition })
}

/// With one concert, whose waiting room knows of it.
fn one() -> Scenario<Catalogue> {
    given(s(0), [created(1, "one", None), Event::RoomOpened { concert: ConcertId(1) }])
}

#[test]
fn concerts_are_announced() {
    let then = given::<Catalogue>(s(0), [])
        .when(create("one", Request::default()), s(1))
        .then_events([created(1, "one", None)])
        .then_tells([open(1)])
        .then_reply(concert(1, false))
        .when(create("one", Request::default()), s(2))
        .then_events([created(2, "one", None)])
        .then_reply(concert(2, false))
        .reloaded()
        .then_owes([open(1), open(2)])
        .when(Command::RoomOpened { concert: ConcertId(1) }, s(3))
        .then_events([Event::RoomOpened { concert: ConcertId(1) }])
        .then_tells([])
        .then_answer(Answer::Silent)
        .then_owes([open(2)])
        .reloaded()
        .then_owes([open(2)]);
    for no in [0, 1, 3] {
        then.clone()
            .when(Command::RoomOpened { concert: ConcertId(no) }, s(4))
            .then_nothing()
            .then_answer(Answer::Silent);
    }
    let listed: Vec<_> = then.state().newest_first(ConcertId(u64::MAX)).map(|(id, _)| id.0).collect();
    assert_eq!(listed, [2, 1]);
    assert_eq!(then.state().newest_first(ConcertId(2)).map(|(id, _)| id.0).collect::<Vec<_>>(), [1]);
    let first = then.state().concert(ConcertId(1)).unwrap();
    assert_eq!((first.title.as_str(), first.created_at, first.signing_key), ("one", s(1), [9; 32]));
    assert!(then.state().concert(ConcertId(3)).is_none());
}

#[test]
fn options_are_added() {
    let then = one()
        .when(add(1, Request::default()), s(1))
        .then_events([added(1, 1, None)])
        .then_tells([define(1, 1)])
        .then_reply(option(1, false))
        .when(add(1, Request::default()), s(2))
        .then_events([added(2, 1, None)])
        .reloaded()
        .then_owes([define(1, 1), define(2, 1)])
        .when(Command::OptionDefined { option: OptionId(1) }, s(3))
        .then_events([Event::OptionDefined { option: OptionId(1) }])
        .then_tells([])
        .then_answer(Answer::Silent)
        .then_owes([define(2, 1)])
        .when(Command::OptionDefined { option: OptionId(1) }, s(4))
        .then_nothing()
        .when(Command::OptionDefined { option: OptionId(2) }, s(4))
        .then_owes([])
        .reloaded()
        .then_owes([]);
    assert_eq!(then.state().concert(ConcertId(1)).unwrap().options, [OptionId(1), OptionId(2)]);
    let live: Vec<_> = then.subject().rows.live.keys().collect();
    assert_eq!(live, [&Part::Header, &Part::Concert(ConcertId(1))]);
    for no in [0, 2] {
        one().when(add(no, Request::default()), s(1)).then_rejected(Rejection::NotFound);
    }
}

#[test]
fn both_are_idempotent() {
    let then = one()
        .when(create("two", with_key(1, 1)), s(1))
        .then_events([created(2, "two", Some(key(1, 1)))])
        .then_reply(concert(2, false))
        .when(add(2, with_key(2, 1)), s(1))
        .then_events([added(1, 2, Some(key(2, 1)))])
        .then_reply(option(1, false))
        .reloaded()
        .when(create("two", with_key(1, 1)), s(2))
        .then_nothing()
        .then_reply(concert(2, true))
        .when(add(2, with_key(2, 1)), s(2))
        .then_nothing()
        .then_reply(option(1, true))
        .when(create("two", with_key(1, 2)), s(2))
        .then_rejected(Rejection::IdempotencyKeyReused)
        .when(add(2, with_key(2, 2)), s(2))
        .then_rejected(Rejection::IdempotencyKeyReused);
    let day = idempotency::RETENTION_MILLIS;
    then.clone().when(create("two", with_key(1, 1)), s(1).plus_millis(day - 1)).then_reply(concert(2, true));
    let then = then.when(create("two", with_key(1, 1)), s(1).plus_millis(day)).then_reply(concert(3, false));
    let keys = then.subject().rows.live.keys().filter(|part| matches!(part, Part::Key(_)));
    assert_eq!(keys.collect::<Vec<_>>(), [&Part::Key([1; 16])]);
    // Only what went well is remembered.
    one()
        .when(add(9, with_key(1, 1)), s(1))
        .then_rejected(Rejection::NotFound)
        .when(add(1, with_key(1, 2)), s(1))
        .then_reply(option(1, false));
    let refused = Request { refused: Some(Rejection::TooManyIdempotencyKeys), ..with_key(3, 1) };
    one()
        .when(create("two", refused.clone()), s(1))
        .then_rejected(Rejection::TooManyIdempotencyKeys)
        .when(add(1, refused), s(1))
        .then_rejected(Rejection::TooManyIdempotencyKeys);
}

#[test]
fn events_about_unknown_things_change_nothing_else() {
    let then = one().given(
        s(1),
        [Event::RoomOpened { concert: ConcertId(9) }, Event::OptionDefined { option: OptionId(9) }, added(1, 9, None)],
    );
    let then = then.reloaded().then_owes([define(1, 9)]);
    assert!(then.state().concert(ConcertId(9)).is_none());
    let load = |part, row: &[u8]| Catalogue::load([(part, row.to_vec())].into_iter()).map(drop).unwrap_err().part;
    assert_eq!(load(Part::Concert(ConcertId(2)), b"?"), "Concert(c2)");
}

#[test]
fn whose_payments_these_are_is_drawn_once() {
    let draw = |drawn| Command::DrawInstallation { drawn: Installation(drawn) };
    let drawn = |installation| Event::InstallationDrawn { installation: Installation(installation) };
    let then = one().when(draw(7), s(1)).then_events([drawn(7)]).then_reply(Reply::Installation(Installation(7)));
    let then = then.reloaded().when(draw(8), s(2)).then_nothing().then_reply(Reply::Installation(Installation(7)));
    // A restore draws another one.
    let then = then.given(s(3), [drawn(9)]).reloaded();
    then.when(draw(8), s(4)).then_nothing().then_reply(Reply::Installation(Installation(9)));
}

fn boss() -> UserId {
    "boss".parse().unwrap()
}

fn option_deleted(option: u64) -> Command {
    Command::OptionDeleted { option: OptionId(option), by: boss() }
}

fn delete_concert(no: u64) -> Command {
    Command::DeleteConcert { concert: ConcertId(no), by: boss() }
}

#[test]
fn a_concert_goes_after_its_options() {
    let concert = ConcertId(1);
    let noted = Message::Option(OptionId(1), concert_option::Command::DeletionNoted);
    let closes = Message::Room(concert, waiting_room::Command::Close { concert });
    let then = given::<Catalogue>(s(0), [created(1, "one", None), added(1, 1, None)]);
    let then = then.when(delete_concert(1), s(1)).then_rejected(Rejection::WasHeld);
    let gone = Event::OptionDeleted { option: OptionId(1), concert, by: boss() };
    let then = then.when(option_deleted(1), s(2)).then_events([gone]).then_reply(Reply::Changed);
    // Whatever an option says is acknowledged each time, or it would say it for ever. That it has no definition is no matter any more.
    let then = then.then_tells([noted.clone()]).then_owes([open(1)]).reloaded();
    let then = then.when(option_deleted(1), s(3)).then_events([]).then_tells([noted]).reloaded();
    assert!(then.state().undefined(OptionId(1)).is_none());
    assert_eq!((then.state().entries(), then.state().options().count()), (1, 0));
    let then = then.when(delete_concert(1), s(4)).then_events([Event::ConcertDeleted { concert, by: boss() }]);
    let then = then.then_reply(Reply::Changed).then_tells([closes.clone()]).then_owes([closes.clone()]).reloaded();
    let then = then.then_owes([closes]);
    assert!(then.state().concert(concert).is_none() && then.state().entries() == 0);
    then.clone().when(delete_concert(1), s(5)).then_rejected(Rejection::NotFound);
    then.clone().when(change(1, ConcertPatch::default()), s(5)).then_rejected(Rejection::NotFound);
    then.clone().when(add(1, Request::default()), s(5)).then_rejected(Rejection::NotFound);
    let closed = Command::RoomClosed { concert };
    let then = then.when(closed.clone(), s(6)).then_events([Event::RoomClosed { concert }]).then_owes([]).reloaded();
    let then = then.then_owes([]).when(closed, s(7)).then_nothing();
    // Its number is not given again.
    then.when(create("two", Request::default()), s(8)).then_events([created(2, "two", None)]);
}
