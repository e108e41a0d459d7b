//! That the audit sees what it is there for.

use smallvec::smallvec;

use super::*;
use crate::domain::Lsn;
use crate::domain::concert_option::{Event, FailureReason, SeatSet};

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
    Event::RefundCredited { refund, balance: points(10), refunded_at: s(1) }
}

fn failed(payment: u64) -> Event {
    Event::PaymentFailed { payment, reason: FailureReason::TimedOut }
}

fn blocked(seat: u32) -> Event {
    Event::SeatsBlocked { seats: smallvec![seat], key: None, many: SeatSet::default(), by: None }
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
    let unblocked = Event::SeatsUnblocked { seats: smallvec![3], key: None, many: SeatSet::default(), by: None };
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
