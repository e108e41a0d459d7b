//! The largest that can be asked of each aggregate, and whether what comes of it fits into a record.

use std::sync::Arc;

use smallvec::smallvec;

use super::codec::{Entity, Record, TheCatalogue};
use crate::config::Config;
use crate::domain::catalogue::{self, Catalogue};
use crate::domain::concert_option::{
    Amended, Area, AreaPlaces, ConcertOption, Definition, Event as OptionEvent, Focus, NewPlan, Price, PricedPlan,
    Replanned, SeatSet, Window,
};
use crate::domain::idempotency::{Key, Request};
use crate::domain::seating_plan::{Limits, PlanHash, SeatingPlan};
use crate::domain::sink::{self, Destination, Fate, Format, Parked, Registration, Response, Secret, Sink};
use crate::domain::waiting_room::{self, Mode, Settings, SettingsPatch, TokenStatus, WaitingRoom};
use crate::domain::{
    Answer, ConcertId, Decided, EventFilter, EventId, EventType, Ignore, Lsn, Meta, OptionId, Points, RECORD_BYTES_MAX,
    Rejection, SinkId, Timestamp, UserId, concert_option,
};

/// Late, so that times and numbers take all the bytes that they can.
const NOW: Timestamp = Timestamp::from_millis(1 << 40);

fn longest_user() -> UserId {
    "u".repeat(255).parse().unwrap()
}

fn keyed(scope: u8) -> Request {
    Request { key: Some(Key { scope: [scope; 16], payload: [255; 16], caller: longest_user() }), refused: None }
}

/// An aggregate, and its place in the journal.
struct Measured<A: Entity> {
    id: A::Id,
    state: A,
    last: Lsn,
}

impl<A: Entity> Measured<A> {
    fn new(id: A::Id) -> Self {
        Self { id, state: A::default(), last: Lsn(0) }
    }

    /// Takes events in as they are, whoever decided them.
    fn given(&mut self, events: impl IntoIterator<Item = A::Event>) {
        for event in events {
            self.last = self.last.next();
            self.state.evolve(Meta { lsn: self.last, at: NOW }, &event, &mut Ignore);
        }
    }

    /// Writes events down as one record, and takes them in.
    fn record(&mut self, events: Vec<A::Event>) {
        if events.is_empty() {
            return;
        }
        let record = Record { at: Timestamp::MAX, facts: A::facts(&self.id, events) };
        assert!(record.bytes() <= RECORD_BYTES_MAX, "a record of {} bytes", record.bytes());
        for (meta, event) in record.metas(self.last.next()).zip(A::events(&record.facts)) {
            self.last = meta.lsn;
            self.state.evolve(Meta { at: NOW, ..meta }, event, &mut Ignore);
        }
    }

    fn run(&mut self, now: Timestamp, command: &A::Command) -> Result<Answer<A::Reply>, Rejection> {
        self.lapse(now);
        let mut decided = Decided::default();
        let answer = self.state.decide(now, command, &mut decided)?;
        self.record(decided.events);
        Ok(answer)
    }

    /// As the shell does: each event of those that lapse is a record.
    fn lapse(&mut self, now: Timestamp) {
        let mut decided = Decided::default();
        self.state.expire(now, &mut decided);
        decided.events.into_iter().for_each(|event| self.record(vec![event]));
    }

    /// Lets happen what is due; in how many steps.
    fn settle(&mut self, now: Timestamp) -> usize {
        let mut steps = 0;
        while self.state.due().is_some_and(|due| due <= now) {
            self.lapse(now);
            let mut decided = Decided::default();
            self.state.tick(now, 7, &mut decided);
            self.record(decided.events);
            steps += 1;
        }
        steps
    }
}

/// A definition as small as can be.
fn definition(seat_count: u32) -> Definition {
    Definition {
        concert: ConcertId(1 << 62),
        starts_at: Timestamp::MAX,
        window: Window { sale_closes_at: Timestamp::MAX, ..Window::default() },
        plan: PlanHash::of(b""),
        seat_count,
        prices: vec![Price { category: "A".into(), points: Points::ZERO }],
        areas: vec![Area { name: "Floor".into(), capacity: 1_000_000, category: "A".into() }],
        hold_seconds: 1,
        payment_seconds: 1,
        max_seats_per_reservation: 1,
        max_seats_per_user: 10_000,
        focus: None,
        accessible: Vec::new(),
        not_for_sale: SeatSet::default(),
        payment_methods: Vec::new(),
        currency: None,
        amended: None,
    }
}

fn option(seat_count: u32) -> Measured<ConcertOption> {
    let id = OptionId(u64::MAX);
    let mut option = Measured::new(id);
    option.given([OptionEvent::OptionDefined { option: id, definition: Box::new(definition(seat_count)) }]);
    option
}

/// A room whose mode is `open`, with `users` inside whose numbers are long.
fn room(users: u64) -> Measured<WaitingRoom> {
    const FIRST: u64 = 1 << 40;
    let mut room = Measured::new(ConcertId(u64::MAX));
    room.given([waiting_room::Event::Opened { concert: ConcertId(u64::MAX), settings: Settings::default() }]);
    room.given((0..users).map(|n| waiting_room::Event::TokenIssued {
        no: FIRST + n,
        user: n.to_string().parse().unwrap(),
        active_until: Some(NOW.plus_millis(600_000)),
    }));
    room
}

fn switch_on(max_active: u32, holders: Vec<UserId>) -> waiting_room::Command {
    let (mode, max_active) = (Some(Mode::Queue), Some(max_active));
    let patch = SettingsPatch { mode, max_active, ..SettingsPatch::default() };
    waiting_room::Command::Configure { patch, holders, by: None }
}

#[test]
fn a_million_tokens_are_sent_back() {
    const INSIDE: u64 = 1_000_100;
    let mut room = room(INSIDE);
    let holders = (0..100).map(|n| (INSIDE - 1 - n).to_string().parse().unwrap()).collect();
    room.run(NOW, &switch_on(100, holders)).unwrap();
    let counts = room.state.counts();
    assert_eq!((counts.waiting, counts.active), (INSIDE - 100, 100), "all at once");
    room.settle(NOW);
    let counts = room.state.counts();
    assert_eq!((counts.waiting, counts.active), (INSIDE - 100, 100));
    let last: UserId = (INSIDE - 1).to_string().parse().unwrap();
    let status = |user: &UserId| room.state.token(NOW, room.state.live_token(user).unwrap()).unwrap().status;
    assert_eq!((status(&last), status(&"0".parse().unwrap())), (TokenStatus::Active, TokenStatus::Waiting));
}

#[test]
fn a_long_line_is_let_in_and_times_out() {
    const WAIT: u64 = 100_000;
    let mut room = room(0);
    room.run(NOW, &switch_on(100, Vec::new())).unwrap();
    room.given((0..WAIT).map(|n| waiting_room::Event::TokenIssued {
        no: (1 << 40) + n,
        user: n.to_string().parse().unwrap(),
        active_until: None,
    }));
    let patch = SettingsPatch { mode: Some(Mode::Open), ..SettingsPatch::default() };
    room.run(NOW, &waiting_room::Command::Configure { patch, holders: Vec::new(), by: None }).unwrap();
    room.settle(NOW);
    assert_eq!(room.state.counts().active, WAIT);
    room.settle(NOW.plus_millis(86_400_000));
    assert_eq!(room.state.counts().expired, WAIT);
}

#[test]
fn a_long_line_falls_silent() {
    const WAIT: u64 = 100_000;
    let mut room = room(0);
    room.run(NOW, &switch_on(1, Vec::new())).unwrap();
    let numbers = || (0..WAIT).map(|n| (1 << 40) + n);
    room.given(numbers().map(|no| waiting_room::Event::TokenIssued {
        no,
        user: no.to_string().parse().unwrap(),
        active_until: None,
    }));
    let silent = waiting_room::Command::ExpireSilent { tokens: numbers().collect() };
    // Who is left over is still silent when somebody looks again.
    while room.state.counts().waiting > 0 {
        let before = room.state.counts().waiting;
        room.run(NOW, &silent).unwrap();
        assert!(room.state.counts().waiting < before);
    }
}

#[test]
fn every_seat_of_a_large_house_is_blocked_and_unblocked() {
    let most = most(|config, n| config.limits.plan_seats = n) as u32;
    for seats in [1, 200_000, most] {
        let mut option = option(most);
        let all = concert_option::Blocks::seats((most - seats..most).rev());
        option.run(NOW, &concert_option::Command::Block { blocks: Box::new(all.clone()), request: keyed(1) }).unwrap();
        assert_eq!(option.state.counts().blocked, u64::from(seats));
        option.run(NOW, &concert_option::Command::Unblock { blocks: Box::new(all), request: keyed(2) }).unwrap();
        assert_eq!(option.state.counts().blocked, 0);
    }
}

#[test]
fn holds_that_lapse_at_once() {
    const HOLDS: u64 = 60_000;
    let mut option = option(0);
    let user: UserId = "anna".parse().unwrap();
    option.given((0..HOLDS).map(|n| OptionEvent::SeatsHeld {
        reservation: (1 << 40) + n,
        user: user.clone(),
        seats: smallvec![],
        areas: smallvec![AreaPlaces { area: 0, count: 1 }],
        amount: Points::ZERO,
        expires_at: NOW,
        token: None,
        key: None,
        note: None,
        prices: concert_option::Prices::default(),
        from_blocked: Vec::new(),
        by: None,
    }));
    option.settle(NOW);
    assert_eq!(option.state.reservations().count(), 0);
}

/// The largest that a limit may be set to.
fn most(set: impl Fn(&mut Config, u64)) -> u64 {
    let may = |n: u64| {
        let mut config = Config::default();
        set(&mut config, n);
        config.validate().is_ok()
    };
    let (mut allowed, mut too_much) = (1_024, u64::MAX);
    assert!(may(allowed) && !may(too_much));
    while too_much - allowed > 1 {
        let between = allowed + (too_much - allowed) / 2;
        *if may(between) { &mut allowed } else { &mut too_much } = between;
    }
    allowed
}

/// Names as long as they may be are four bytes a character.
fn name(n: usize, chars: usize) -> String {
    format!("{n:04}{}", "\u{1f3b6}".repeat(chars - 4))
}

#[test]
fn the_largest_definition() {
    let names = most(|config, n| config.limits.option_names = n) as usize;
    let seats = most(|config, n| config.limits.plan_seats = n) as u32;
    let of = |names: usize, chars: usize| Definition {
        seat_count: seats,
        prices: (0..names).map(|n| Price { category: name(n, chars), points: Points::ZERO }).collect(),
        areas: (0..names)
            .map(|n| Area { name: name(n, chars), capacity: 1_000_000, category: name(n, chars) })
            .collect(),
        accessible: (0..names).map(|n| name(n, chars)).collect(),
        focus: Some(Focus::Zones { zones: (0..names).map(|n| name(n, chars)).collect() }),
        not_for_sale: (0..seats).collect(),
        ..definition(seats)
    };
    let mut accepted = 0;
    for (names, chars) in [(names, 200), (names, 4), (1_000, 4), (33, 200), (34, 200)] {
        let mut catalogue = Measured::<Catalogue>::new(TheCatalogue);
        let definition = Box::new(of(names, chars));
        let concert = catalogue::Event::ConcertCreated {
            concert: definition.concert,
            title: String::new(),
            waiting_room: Settings::default(),
            signing_key: [0; 32],
            key: None,
        };
        catalogue.given([concert]);
        let add = catalogue::Command::AddOption { definition, entries_max: u64::MAX, request: keyed(1) };
        match catalogue.run(NOW, &add) {
            Ok(_) => accepted += 1,
            Err(Rejection::Invalid(flaws)) => {
                let fields: Vec<_> = flaws.iter().map(|flaw| flaw.field.as_str()).collect();
                assert_eq!(fields, ["areas"], "they take most");
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(accepted, 3, "and those are close to the bound");
}

#[test]
fn the_largest_change_of_a_plan() {
    let plans = most(|config, n| config.limits.option_plans = n) as usize;
    let seats = most(|config, n| config.limits.option_seats = n) as u32;
    let mut option = option(2);
    let former = vec![PlanHash::of(b"?"); plans - 2];
    let replanned = Some(Box::new(Replanned { former, withdrawn: 0 }));
    let amended = Some(Box::new(Amended { version: u64::MAX - 1, first_prices: Vec::new(), replanned }));
    let definition = Box::new(Definition { amended, ..definition(2) });
    option.given([OptionEvent::OptionChanged {
        definition: definition.clone(),
        by: "anna".parse().unwrap(),
        key: None,
    }]);
    let json = br#"{"zones":[],"categories":[]}"#;
    let plan = Arc::new(SeatingPlan::parse(json, &Limits::default()).unwrap());
    let new = NewPlan {
        plan: PlanHash::of(b"!"),
        seat_count: seats,
        withdrawn: seats,
        not_for_sale: (0..seats).collect(),
        prices: (0..70).map(|n| Price { category: name(n, 200), points: Points::ZERO }).collect(),
        accessible: None,
        focus: None,
    };
    let plan = Arc::new(PricedPlan::new(OptionId(u64::MAX), *definition, plan));
    let (new, by, request) = (Box::new(new), longest_user(), keyed(1));
    option.run(NOW, &concert_option::Command::Replan { new, by, plan, request }).unwrap();
    assert_eq!(option.state.definition().unwrap().former_plans().len(), plans - 1);
}

fn id(lsn: u64) -> EventId {
    EventId { lsn: Lsn((1 << 40) + lsn), index: u32::MAX }
}

fn sink() -> Measured<Sink> {
    let mut sink = Measured::new(SinkId(u64::MAX));
    let receiver = Destination::Webhook { url: "https://example.org/".into(), format: Format::Cloudevent };
    let registration = Registration { receiver, filter: EventFilter::ALL, after: EventId::default() };
    sink.given([sink::Event::SinkRegistered { registration, secret: Secret([1; 32]) }]);
    sink
}

fn parked(text_bytes: usize) -> Parked {
    Parked {
        subject: "u".repeat(255),
        kind: EventType::WalletCharged,
        attempts: u32::MAX,
        fate: Fate::Dead,
        response: Some(Response { status: Some(599), text: "x".repeat(text_bytes), at: Timestamp::MAX }),
    }
}

#[test]
fn all_dead_letters_are_sent_again() {
    const DEAD: u64 = 120_000;
    let mut sink = sink();
    sink.given([sink::Event::EventsParked { events: (0..DEAD).map(|n| (id(n), parked(1))).collect() }]);
    for scope in 0.. {
        let redrive = sink::Command::Redrive { event: None, request: keyed(scope) };
        sink.run(NOW, &redrive).unwrap();
        if sink.state.dead_letters().next().is_none() {
            break;
        }
    }
}

#[test]
fn what_a_receiver_says_is_cut_and_not_too_much_is_parked_at_once() {
    let park = |events: usize, bytes| sink::Command::Park {
        events: (0..events as u64).map(|n| (id(n), parked(bytes))).collect(),
    };
    let mut sink = sink();
    sink.run(NOW, &park(sink::PARKED_AT_ONCE, 1 << 20)).unwrap();
    assert_eq!(sink.state.parked().len(), sink::PARKED_AT_ONCE);
    for parked in sink.state.parked().values() {
        assert_eq!(parked.response.as_ref().unwrap().text.len(), sink::SAID_BYTES_MAX);
    }
    assert!(sink.run(NOW, &park(sink::PARKED_AT_ONCE + 1, 1)).is_err());
    let settle = |n: u64| sink::Command::Settle { events: (0..n).map(id).collect() };
    assert!(sink.run(NOW, &settle(1_000_000)).is_err());
    sink.run(NOW, &settle(sink::PARKED_AT_ONCE as u64)).unwrap();
    assert!(sink.state.parked().is_empty());
    let reason = "ü".repeat(1 << 20);
    sink.run(NOW, &sink::Command::Disable { reason }).unwrap();
    assert_eq!(sink.state.disabled().unwrap().len(), sink::SAID_BYTES_MAX);
}

#[test]
fn a_registration_is_bounded() {
    let webhook = |url: usize, template: usize| Destination::Webhook {
        url: "x".repeat(url),
        format: Format::Template("x".repeat(template)),
    };
    for (receiver, field) in [
        (webhook(sink::URL_BYTES_MAX, sink::TEMPLATE_BYTES_MAX), None),
        (webhook(sink::URL_BYTES_MAX + 1, 1), Some("url")),
        (webhook(1, sink::TEMPLATE_BYTES_MAX + 1), Some("template")),
        (Destination::Attached { name: name(1, 200) }, None),
        (Destination::Attached { name: name(1, 201) }, Some("name")),
    ] {
        let mut sink = Measured::<Sink>::new(SinkId(u64::MAX));
        let registration = Registration { receiver, filter: EventFilter::ALL, after: id(1) };
        let refused = sink.run(NOW, &sink::Command::Register { registration, secret: Secret([1; 32]) }).err();
        let named = refused.map(|refused| match refused {
            Rejection::Invalid(flaws) => flaws[0].field.clone(),
            other => panic!("{other}"),
        });
        assert_eq!(named.as_deref(), field);
    }
}
