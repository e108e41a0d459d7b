//! That the audit sees what it is there for.

use smallvec::smallvec;

use super::*;
use crate::domain::Lsn;
use crate::domain::concert_option::{
    Area, AreaPlaces, Back, Change, Drawn, Event, FailureReason, Leg, Lot, SeatSet, What,
};

const OPTION: OptionId = OptionId(5);

fn s(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn points(n: u64) -> Points {
    Points::new(n).unwrap()
}

fn anna() -> UserId {
    "anna".parse().unwrap()
}

fn held(reservation: u64, seat: u32) -> Event {
    let (seats, areas) = (smallvec![seat], smallvec![]);
    Event::SeatsHeld {
        reservation,
        user: anna(),
        seats,
        areas,
        amount: points(10),
        expires_at: s(100),
        token: None,
        key: None,
        note: None,
        prices: [points(10)].into_iter().collect(),
        from_blocked: Vec::new(),
        by: None,
    }
}

fn started(payment: u64, reservation: u64) -> Event {
    Event::PaymentStarted { payment, reservation, deadline: s(50), key: None }
}

fn confirmed(payment: u64) -> Event {
    Event::PaymentConfirmed { payment, balance: points(0), paid_at: s(1) }
}

fn refunded(refund: u64, payment: u64) -> Event {
    Event::PaymentRefunded { refund, payment, key: None, by: None }
}

fn credited(refund: u64) -> Event {
    Event::RefundCredited { refund, balance: points(10), refunded_at: s(1), left: None }
}

fn failed(payment: u64) -> Event {
    Event::PaymentFailed { payment, reason: FailureReason::TimedOut }
}

fn blocked(seat: u32) -> Event {
    Event::SeatsBlocked {
        seats: smallvec![seat],
        key: None,
        many: SeatSet::default(),
        by: None,
        areas: Vec::new(),
        reason: None,
    }
}

fn charge(entry: u64, amount: u64, balance: u64) -> wallet::Event {
    wallet::Event::Charged { entry, amount: points(amount), balance: points(balance), by: anna(), key: None }
}

fn adjust(entry: u64, way: wallet::Way, amount: u64, balance: u64) -> wallet::Event {
    let (amount, balance) = (points(amount), points(balance));
    wallet::Event::Adjusted { entry, way, amount, balance, by: anna(), reason: "x".into(), key: None }
}

fn debit(entry: u64, no: u64, amount: u64, balance: u64) -> wallet::Event {
    let payment = PaymentId { option: OPTION, no };
    wallet::Event::Debited { entry, payment, amount: points(amount), balance: points(balance), settled_below: 0 }
}

fn credit(entry: u64, no: u64, amount: u64, balance: u64) -> wallet::Event {
    let refund = RefundId { option: OPTION, no };
    wallet::Event::Credited { entry, refund, amount: points(amount), balance: points(balance), settled_below: 0 }
}

fn at(seconds: u64) -> Meta {
    Meta { lsn: Lsn(1), at: s(seconds) }
}

/// An option with nothing but an area of so many places.
fn with_an_area(capacity: u32) -> Event {
    let mut definition = concert_option::tests::definition();
    (definition.seat_count, definition.areas) =
        (0, vec![Area { name: "Floor".into(), capacity, category: "A".into() }]);
    Event::OptionDefined { option: OPTION, definition: Box::new(definition) }
}

/// What the last of these events of an option, at 99 s, breaks.
fn option_breaks(events: &[Event]) -> Option<&'static str> {
    let mut audit = Audit::default();
    let (last, before) = events.split_last().unwrap();
    for event in before {
        audit.option_event(OPTION, at(99), event).unwrap();
    }
    audit.option_event(OPTION, at(99), last).err().map(|broken| broken.invariant)
}

#[test]
fn events_of_options_that_break_something() {
    let paid = [held(1, 3), started(2, 1), confirmed(2)];
    let back = [paid.as_slice(), &[refunded(3, 2)]].concat();
    let after = |before: &[Event], event: Event| option_breaks(&[before, &[event]].concat());
    assert_eq!(after(&paid, held(3, 4)), None);
    assert_eq!(after(&back, held(4, 3)), None);
    assert_eq!(after(&paid, held(3, 3)), Some("I1"));
    assert_eq!(after(&[blocked(3)], held(1, 3)), Some("I1"));
    assert_eq!(after(&paid, blocked(3)), Some("I1"));
    // Of places in areas.
    let places = |count| vec![AreaPlaces { area: 0, count }];
    let (seats, many) = (smallvec![], SeatSet::default());
    let off = |count| Event::SeatsBlocked {
        seats: smallvec![],
        key: None,
        many: SeatSet::default(),
        by: None,
        areas: places(count),
        reason: None,
    };
    let defined = with_an_area(5);
    assert_eq!(option_breaks(&[defined.clone(), off(5)]), None);
    assert_eq!(option_breaks(&[defined.clone(), off(3), off(3)]), Some("I1"));
    let on = Event::SeatsUnblocked { seats, key: None, many, by: None, areas: places(2), reason: None };
    assert_eq!(option_breaks(&[defined.clone(), off(2), on.clone()]), None);
    assert_eq!(option_breaks(&[defined, off(1), on]), Some("I1"));
    let unblocked = Event::SeatsUnblocked {
        seats: smallvec![3],
        key: None,
        many: SeatSet::default(),
        by: None,
        areas: Vec::new(),
        reason: None,
    };
    assert_eq!(after(&paid, unblocked), Some("I1"));
    assert_eq!(after(&paid, held(7, 4)), Some("saga"), "a number is left out");
    assert_eq!(after(&paid, Event::ReservationReleased { reservation: 1, by: None }), Some("saga"));
    assert_eq!(after(&paid, confirmed(2)), Some("saga"));
    assert_eq!(after(&paid, failed(2)), Some("saga"));
    assert_eq!(after(&paid[..2], started(3, 1)), Some("saga"));
    assert_eq!(after(&paid[..2], refunded(3, 2)), Some("saga"));
    assert_eq!(after(&back, refunded(4, 2)), Some("saga"));
    assert_eq!(after(&back, credited(3)), None);
    assert_eq!(after(&[back.as_slice(), &[credited(3)]].concat(), credited(3)), Some("saga"));
    // A millisecond early is early.
    assert_eq!(after(&paid[..1], Event::ReservationsExpired { reservations: vec![1] }), Some("I5"));
}

/// What the last of these events of a wallet breaks.
fn wallet_breaks(events: &[wallet::Event]) -> Option<&'static str> {
    let mut audit = Audit::default();
    let (last, before) = events.split_last().unwrap();
    for event in before {
        audit.wallet_event(&anna(), event).unwrap();
    }
    audit.wallet_event(&anna(), last).err().map(|broken| broken.invariant)
}

#[test]
fn events_of_wallets_that_break_something() {
    let paid = [charge(1, 10, 10), debit(2, 2, 8, 2)];
    let after = |event| wallet_breaks(&[&paid[..], &[event]].concat());
    let payment = |no| PaymentId { option: OPTION, no };
    let refusal = |amount, balance| wallet::Event::DebitRefused {
        payment: payment(3),
        amount: points(amount),
        balance: points(balance),
        settled_below: 0,
    };
    assert_eq!(after(charge(3, 1, 3)), None);
    assert_eq!(after(adjust(3, wallet::Way::Up, 1, 3)), None);
    assert_eq!(after(adjust(3, wallet::Way::Down, 2, 0)), None);
    assert_eq!(after(refusal(3, 2)), None);
    for event in [
        charge(3, 1, 4),
        charge(4, 1, 3),
        charge(3, Points::MAX.get(), 0),
        debit(3, 3, 3, 0),
        debit(3, 2, 1, 1),
        adjust(3, wallet::Way::Up, 1, 4),
        adjust(3, wallet::Way::Up, Points::MAX.get(), 0),
        adjust(3, wallet::Way::Down, 1, 2),
        adjust(3, wallet::Way::Down, 3, 0),
        refusal(2, 2),
        refusal(9, 8),
        credit(3, 3, 8, 9),
        wallet::Event::DebitCancelled { payment: payment(2), settled_below: 0 },
    ] {
        assert_eq!(after(event.clone()), Some("I2"), "{event:?}");
    }
    assert_eq!(wallet_breaks(&[charge(1, 1, 1), credit(2, 3, 8, 9), credit(3, 3, 8, 17)]), Some("I2"));
}

#[test]
fn sagas_that_end_badly() {
    // Events of the option and of the wallet; whether all is well, and whether it is at its end.
    let paid = [held(1, 3), started(2, 1), confirmed(2)];
    let back = [paid.as_slice(), &[refunded(3, 2)]].concat();
    let done = [back.as_slice(), &[credited(3)]].concat();
    let fell_through = [held(1, 3), started(2, 1), failed(2)];
    let (charged, debited) = ([charge(1, 10, 10)], [charge(1, 10, 10), debit(2, 2, 10, 0)]);
    let returned = [debited.as_slice(), &[credit(3, 3, 10, 10)]].concat();
    for (events, entries, well, ended) in [
        (&paid[..], &debited[..], true, true),
        (&paid[..], &charged[..], false, false),
        (&paid[..], &[charge(1, 10, 10), debit(2, 2, 9, 1)], false, false),
        (&paid[..2], &charged[..], true, false),
        (&paid[..2], &debited[..], true, false),
        (&fell_through[..], &charged[..], true, true),
        (&fell_through[..], &debited[..], false, false),
        (&back[..], &debited[..], true, false),
        (&back[..], &returned[..], true, false),
        (&done[..], &returned[..], true, true),
        (&done[..], &debited[..], false, false),
        (&paid[..], &returned[..], false, false),
        (&[], &debited[..], false, false),
    ] {
        let mut audit = Audit::default();
        events.iter().for_each(|event| audit.option_event(OPTION, at(1), event).unwrap());
        entries.iter().for_each(|event| audit.wallet_event(&anna(), event).unwrap());
        assert_eq!((audit.sagas().is_ok(), audit.settled().is_ok()), (well, ended), "{events:?} {entries:?}");
    }
    let mut audit = Audit::default();
    audit.wallet_event(&anna(), &charge(1, 10, 10)).unwrap();
    assert!(audit.money([]).is_err() && audit.agrees_with_wallet(&anna(), &Wallet::default()).is_err());
    audit.option_event(OPTION, at(1), &held(1, 3)).unwrap();
    assert!(audit.agrees_with_option(OPTION, &ConcertOption::default()).is_err());
}

#[test]
fn admissions_that_break_the_line() {
    let settings = Settings { mode: Mode::Queue, max_active: 2, ..Settings::default() };
    let admitted = |tokens: &[u64]| waiting_room::Event::TokensAdmitted { tokens: tokens.into(), expires_at: s(9) };
    for (tokens, then, at_seconds, holds) in [
        (&[1, 2][..], None, 1, true),
        (&[2], None, 1, false),
        (&[2, 1], None, 1, false),
        (&[1, 2, 3], None, 1, false),
        (&[1], Some(&[1][..]), 1, false),
        (&[1, 2], Some(&[3]), 1, false),
        // Those inside have run out.
        (&[1, 2], Some(&[3]), 9, true),
    ] {
        let mut audit = Audit::default();
        let opened = waiting_room::Event::Opened { concert: ConcertId(1), settings: settings.clone() };
        let issued = (1..=3).map(|no| waiting_room::Event::TokenIssued { no, user: anna(), active_until: None });
        for event in std::iter::once(opened).chain(issued) {
            audit.room_event(ConcertId(1), at(0), &event).unwrap();
        }
        let mut last = audit.room_event(ConcertId(1), at(1), &admitted(tokens));
        if let Some(then) = then {
            last = audit.room_event(ConcertId(1), at(at_seconds), &admitted(then));
        }
        let expected = if holds { None } else { Some("I6") };
        assert_eq!(last.err().map(|broken| broken.invariant), expected, "{tokens:?}, then {then:?}");
    }
}

/// A change of reservation 1, which had seats 3 and 4 for 10 each and has those of `then`.
fn change(what: What, given: &[u32], taken: &[u32], then: &[u32]) -> Change {
    let lot = |seats: &[u32]| Lot {
        seats: seats.into(),
        areas: smallvec![],
        prices: seats.iter().map(|_| points(10)).collect(),
    };
    Change {
        what,
        given: lot(given),
        taken: lot(taken),
        then: lot(then),
        amount: points(10 * then.len() as u64),
        backs: Vec::new(),
        leg: None,
        key: None,
        by: None,
    }
}

fn changes(change: Change) -> Event {
    Event::OrderChanged { reservation: 1, change: Box::new(change) }
}

fn back(refund: u64, user: &str, amount: u64, drawn: &[(u64, u64)]) -> Back {
    let drawn = drawn.iter().map(|&(leg, amount)| Drawn { leg, amount: points(amount) }).collect();
    Back { refund, user: user.parse().unwrap(), amount: points(amount), drawn }
}

#[test]
fn changes_of_orders_that_break_something() {
    let two = |mut event: Event| {
        if let Event::SeatsHeld { seats, amount, .. } = &mut event {
            (*seats, *amount) = (smallvec![3, 4], points(20));
        }
        event
    };
    let paid = [two(held(1, 3)), started(2, 1), confirmed(2)];
    let after = |before: &[Event], event: Event| option_breaks(&[before, &[event]].concat());
    let refunded = |all| What::Refunded { refund: 3, all, payment: 2 };
    let in_part = |backs: Vec<Back>| Change { backs, ..change(refunded(false), &[4], &[], &[3]) };
    assert_eq!(after(&paid, changes(in_part(vec![back(3, "anna", 10, &[(2, 10)])]))), None);
    for (what, backs) in [
        ("nobody gets it", vec![]),
        ("somebody else does", vec![back(3, "bob", 10, &[(2, 10)])]),
        ("too little", vec![back(3, "anna", 9, &[(2, 9)])]),
        ("too much", vec![back(3, "anna", 11, &[(2, 11)])]),
        ("of a leg that never was", vec![back(3, "anna", 10, &[(1, 10)])]),
        ("not what is drawn", vec![back(3, "anna", 10, &[(2, 9)])]),
        ("twice", vec![back(3, "anna", 10, &[(2, 10)]), back(4, "anna", 10, &[(2, 10)])]),
    ] {
        assert_eq!(after(&paid, changes(in_part(backs))), Some("I16"), "{what}");
    }
    let good = || vec![back(3, "anna", 10, &[(2, 10)])];
    let cheap = Change { amount: points(9), ..in_part(good()) };
    assert_eq!(after(&paid, changes(cheap)), Some("I16"), "the price");
    let keeps = Change { then: change(What::Released, &[], &[], &[3, 4]).then, ..in_part(good()) };
    assert_eq!(after(&paid, changes(keeps)), Some("I16"), "what is given is kept");
    let not_its_own = Change { given: change(What::Released, &[5], &[], &[]).given, ..in_part(good()) };
    assert_eq!(after(&paid, changes(not_its_own)), Some("I16"), "what is given is not its own");
    let number = vec![back(4, "anna", 10, &[(2, 10)])];
    assert_eq!(after(&paid, changes(in_part(number))), Some("saga"), "a number is left out");
    // More than came in, in two steps.
    let most = [&paid[..], &[changes(in_part(good()))]].concat();
    let rest = |backs| {
        changes(Change { backs, ..change(What::Refunded { refund: 4, all: true, payment: 2 }, &[3], &[], &[]) })
    };
    assert_eq!(after(&most, rest(vec![back(4, "anna", 10, &[(2, 10)])])), None);
    assert_eq!(after(&most, rest(vec![back(4, "anna", 20, &[(2, 20)])])), Some("I16"));
    assert_eq!(after(&most, refunded_whole()), Some("I16"), "what has changed does not go back as if it had not");
    // Exchanges.
    let swap = |given: &[u32], taken: &[u32], then: &[u32]| changes(change(What::Exchanged, given, taken, then));
    assert_eq!(after(&paid, swap(&[4], &[6], &[3, 6])), None);
    assert_eq!(after(&paid, swap(&[4], &[6, 7], &[3, 6, 7])), Some("I16"), "more places than are given");
    assert_eq!(after(&[&paid[..], &[held(3, 6)]].concat(), swap(&[4], &[6], &[3, 6])), Some("I1"));
    assert_eq!(after(&paid[..1], swap(&[4], &[6], &[3, 6])), Some("I16"), "it is held");
    let gift = Change { leg: Some(leg(3)), ..change(What::Exchanged, &[4], &[6], &[3, 6]) };
    assert_eq!(after(&paid, changes(gift)), Some("I16"), "a difference that nobody was asked for");
    let transfer = |transfer| What::HandedOn { to: "bob".parse().unwrap(), transfer };
    let whole = |what| changes(change(what, &[], &[], &[3, 4]));
    assert_eq!(after(&paid, whole(transfer(None))), None);
    assert_eq!(after(&paid, whole(transfer(Some(3)))), Some("I16"), "nobody has offered it");
    assert_eq!(after(&paid, whole(What::HeldUntil { expires_at: s(200) })), Some("I16"), "it is not held");
    assert_eq!(after(&paid[..1], whole(What::HeldUntil { expires_at: s(98) })), Some("I16"), "that is over");
    assert_eq!(after(&paid, Event::ExchangeFailed { reservation: 1, reason: FailureReason::TimedOut }), Some("I16"));
}

fn leg(no: u64) -> Leg {
    Leg { no, user: anna(), taken: points(10), back: Points::ZERO }
}

fn refunded_whole() -> Event {
    refunded(4, 2)
}
