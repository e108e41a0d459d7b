//! Tables of given/when/then.

use super::*;
use crate::domain::idempotency;
use crate::testing::scenario::{Scenario, given};

const OPTION: OptionId = OptionId(5);

fn s(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000_000 + seconds * 1000)
}

fn points(n: u64) -> Points {
    Points::new(n).unwrap()
}

fn desk() -> UserId {
    "desk".parse().unwrap()
}

fn key(scope: u8, payload: u8) -> Key {
    Key { scope: [scope; 16], payload: [payload; 16], caller: desk() }
}

fn with_key(scope: u8, payload: u8) -> Request {
    Request { key: Some(key(scope, payload)), refused: None }
}

fn charge(amount: u64, request: Request) -> Command {
    Command::Charge { amount: points(amount), by: desk(), request }
}

fn payment(no: u64) -> PaymentId {
    PaymentId { option: OPTION, no }
}

fn refund(no: u64) -> RefundId {
    RefundId { option: OPTION, no }
}

fn debit(no: u64, amount: u64, settled_below: u64) -> Command {
    Command::Debit { payment: payment(no), amount: points(amount), settled_below }
}

fn cancel(no: u64, settled_below: u64) -> Command {
    Command::CancelDebit { payment: payment(no), settled_below }
}

fn credit(no: u64, amount: u64, settled_below: u64) -> Command {
    Command::Credit { refund: refund(no), amount: points(amount), settled_below }
}

fn charged(entry: u64, amount: u64, balance: u64) -> Event {
    Event::Charged { entry, amount: points(amount), balance: points(balance), by: desk(), key: None }
}

fn debited(entry: u64, no: u64, amount: u64, balance: u64, settled_below: u64) -> Event {
    let payment = payment(no);
    Event::Debited { entry, payment, amount: points(amount), balance: points(balance), settled_below }
}

fn refused(no: u64, amount: u64, balance: u64, settled_below: u64) -> Event {
    Event::DebitRefused { payment: payment(no), amount: points(amount), balance: points(balance), settled_below }
}

fn cancelled(no: u64, settled_below: u64) -> Event {
    Event::DebitCancelled { payment: payment(no), settled_below }
}

fn credited(entry: u64, no: u64, amount: u64, balance: u64, settled_below: u64) -> Event {
    let refund = refund(no);
    Event::Credited { entry, refund, amount: points(amount), balance: points(balance), settled_below }
}

fn says(payment: u64, outcome: DebitOutcome) -> [Message; 1] {
    [Message::Option(OPTION, concert_option::Command::DebitAnswered { payment, outcome })]
}

fn says_credited(refund: u64, balance: u64, at: Timestamp) -> [Message; 1] {
    let balance = points(balance);
    [Message::Option(OPTION, concert_option::Command::CreditAnswered { refund, balance, at })]
}

fn taken(balance: u64, at: Timestamp) -> DebitOutcome {
    DebitOutcome::Debited { balance: points(balance), at }
}

fn too_little(balance: u64) -> DebitOutcome {
    DebitOutcome::Refused { balance: points(balance) }
}

/// A wallet of 100 points.
fn hundred() -> Scenario<Wallet> {
    given(s(0), [charged(1, 100, 100)])
}

fn entry(no: u64, kind: EntryKind, amount: u64, balance: u64, reference: &str, at: Timestamp) -> Entry {
    Entry { no, kind, amount: points(amount), balance: points(balance), reference: reference.into(), at, reason: None }
}

fn adjust(way: Way, amount: u64, reason: &str, request: Request) -> Command {
    Command::Adjust { way, amount: points(amount), by: desk(), reason: reason.into(), request }
}

fn adjusted(entry: u64, way: Way, amount: u64, balance: u64) -> Event {
    let (amount, balance) = (points(amount), points(balance));
    Event::Adjusted { entry, way, amount, balance, by: desk(), reason: "mistyped".into(), key: None }
}

#[test]
fn corrections() {
    let none = Request::default;
    let then = hundred().when(adjust(Way::Down, 30, "mistyped", none()), s(1));
    let entry = Entry { reason: Some("mistyped".into()), ..entry(2, EntryKind::AdjustedDown, 30, 70, "desk", s(1)) };
    let then = then.then_events([adjusted(2, Way::Down, 30, 70)]).then_tells([]).then_reply(Reply::Charged(entry));
    let then = then.when(adjust(Way::Up, 5, "mistyped", none()), s(2)).then_events([adjusted(3, Way::Up, 5, 75)]);
    let then = then.reloaded();
    assert_eq!((then.state().balance(), then.state().charged()), (points(75), points(75)));
    let short = Rejection::InsufficientPoints { balance: points(75), amount: points(76) };
    then.clone().when(adjust(Way::Down, 76, "mistyped", none()), s(3)).then_rejected(short);
    let most = Points::MAX.get();
    let full = Rejection::LimitExceeded { limit: most, already: 75 };
    then.clone().when(adjust(Way::Up, most - 74, "mistyped", none()), s(3)).then_rejected(full.clone());
    then.clone().when(charge(most - 74, none()), s(3)).then_rejected(full);
    let all = then.clone().when(adjust(Way::Down, 75, "mistyped", none()), s(3));
    assert_eq!(all.state().balance(), Points::ZERO);
    let long = "ö".repeat(REASON_CHARS_MAX);
    assert_eq!(then.clone().when(adjust(Way::Up, 1, &long, none()), s(3)).events().len(), 1);
    for (amount, reason, field) in [(0, "x", "amount"), (1, "", "reason"), (1, &*(long + "x"), "reason")] {
        let rejected = then.state().decide(s(3), &adjust(Way::Up, amount, reason, none()), &mut Decided::default());
        let Err(Rejection::Invalid(flaws)) = rejected else { panic!("{amount} {reason}: {rejected:?}") };
        assert_eq!(flaws.iter().map(|flaw| &*flaw.field).collect::<Vec<_>>(), [field]);
    }
}

#[test]
fn corrections_are_idempotent() {
    let asked = |payload| adjust(Way::Down, 100, "mistyped", with_key(1, payload));
    let then = hundred().when(asked(1), s(1));
    assert_eq!(then.events().len(), 1);
    let then = then.reloaded();
    // Although there is nothing left to take.
    then.clone().when(asked(1), s(2)).then_nothing().then_reply(Reply::Replayed(2));
    then.when(asked(2), s(2)).then_rejected(Rejection::IdempotencyKeyReused);
}

#[test]
fn charges() {
    hundred()
        .when(charge(5, Request::default()), s(1))
        .then_events([charged(2, 5, 105)])
        .then_tells([])
        .then_reply(Reply::Charged(entry(2, EntryKind::Charge, 5, 105, "desk", s(1))));
}

#[test]
fn lifetime_charges_are_bounded_and_credits_are_not() {
    let max = Points::MAX.get();
    let full = |already| Rejection::LimitExceeded { limit: max, already };
    let then = given::<Wallet>(s(0), [charged(1, max - 1, max - 1)])
        .when(charge(2, Request::default()), s(1))
        .then_rejected(full(max - 1))
        .when(charge(1, Request::default()), s(1))
        .then_events([charged(2, 1, max)])
        .when(charge(1, Request::default()), s(1))
        .then_rejected(full(max));
    // What was spent does not make room; what comes back fits.
    then.reloaded()
        .when(debit(2, max, 2), s(2))
        .then_events([debited(3, 2, max, 0, 2)])
        .when(charge(1, Request::default()), s(3))
        .then_rejected(full(max))
        .when(credit(3, max, 3), s(4))
        .then_events([credited(4, 3, max, max, 3)])
        .then_tells(says_credited(3, max, s(4)));
}

#[test]
fn charges_are_idempotent() {
    let first = Event::Charged { entry: 2, amount: points(5), balance: points(105), by: desk(), key: Some(key(1, 1)) };
    let then = hundred()
        .when(charge(5, with_key(1, 1)), s(1))
        .then_events([first])
        .reloaded()
        .when(charge(5, with_key(1, 1)), s(2))
        .then_nothing()
        .then_reply(Reply::Replayed(2))
        .when(charge(6, with_key(1, 2)), s(2))
        .then_rejected(Rejection::IdempotencyKeyReused)
        .when(charge(5, with_key(2, 1)), s(2));
    assert_eq!(then.state().balance(), points(110));
    let day = idempotency::RETENTION_MILLIS;
    then.clone().when(charge(5, with_key(1, 1)), s(1).plus_millis(day - 1)).then_reply(Reply::Replayed(2));
    let later = then.when(charge(5, with_key(1, 1)), s(1).plus_millis(day));
    assert_eq!(later.state().balance(), points(115));
    // Only what went well is remembered.
    let max = Points::MAX.get();
    hundred()
        .when(charge(max, with_key(1, 1)), s(1))
        .then_rejected(Rejection::LimitExceeded { limit: max, already: 100 })
        .when(charge(7, with_key(1, 2)), s(1))
        .then_reply(Reply::Charged(entry(2, EntryKind::Charge, 7, 107, "desk", s(1))));
    let barred = Request { refused: Some(Rejection::TooManyIdempotencyKeys), ..with_key(1, 1) };
    hundred().when(charge(5, barred), s(1)).then_rejected(Rejection::TooManyIdempotencyKeys);
}

#[test]
fn each_payment_is_debited_once() {
    let then = hundred().when(debit(2, 30, 2), s(1)).then_events([debited(2, 2, 30, 70, 2)]);
    let then = then.then_tells(says(2, taken(70, s(1)))).then_answer(Answer::Silent).reloaded();
    // Sent again, with whatever mark, or called off: it is told what became of it, and when.
    for command in [debit(2, 30, 2), debit(2, 30, 1), cancel(2, 2)] {
        then.clone().when(command, s(9)).then_events([]).then_tells(says(2, taken(70, s(1))));
    }
    // All there is, and nothing at all.
    let then = then.when(debit(4, 70, 4), s(2)).then_events([debited(3, 4, 70, 0, 4)]);
    then.when(debit(6, 0, 6), s(3)).then_events([debited(4, 6, 0, 0, 6)]).then_tells(says(6, taken(0, s(3))));
}

#[test]
fn a_refusal_is_for_good() {
    let then = hundred()
        .when(debit(2, 101, 2), s(1))
        .then_events([refused(2, 101, 100, 2)])
        .then_tells(says(2, too_little(100)))
        .when(charge(50, Request::default()), s(2))
        .reloaded();
    for command in [debit(2, 101, 2), cancel(2, 2)] {
        then.clone().when(command, s(3)).then_events([]).then_tells(says(2, too_little(100)));
    }
    then.when(debit(3, 101, 3), s(4)).then_events([debited(3, 3, 101, 49, 3)]);
    given::<Wallet>(s(0), []).when(debit(2, 1, 2), s(1)).then_events([refused(2, 1, 0, 2)]);
}

#[test]
fn what_was_called_off_is_never_debited() {
    let then = hundred()
        .when(cancel(2, 2), s(1))
        .then_events([cancelled(2, 2)])
        .then_tells(says(2, DebitOutcome::Cancelled))
        .reloaded();
    for command in [debit(2, 30, 2), cancel(2, 2)] {
        then.clone().when(command, s(2)).then_events([]).then_tells(says(2, DebitOutcome::Cancelled));
    }
    assert_eq!(then.state().balance(), points(100));
}

#[test]
fn each_refund_is_credited_once() {
    let then = hundred()
        .when(debit(2, 30, 2), s(1))
        .when(credit(3, 30, 3), s(2))
        .then_events([credited(3, 3, 30, 100, 3)])
        .then_tells(says_credited(3, 100, s(2)))
        .then_answer(Answer::Silent)
        .reloaded()
        .when(credit(3, 30, 3), s(9))
        .then_events([])
        .then_tells(says_credited(3, 100, s(2)));
    // Numbers are not shared with debits: whoever mixes them up gets no points and no answer.
    let then = then.when(debit(3, 1, 3), s(10)).then_nothing().when(cancel(3, 3), s(10)).then_nothing();
    then.when(debit(4, 1, 4), s(11)).when(credit(4, 1, 4), s(12)).then_nothing();
}

#[test]
fn a_credit_for_which_there_is_no_room_stays_owed() {
    let max = Points::MAX.get();
    let full = given::<Wallet>(s(0), [charged(1, max, max)]).reloaded();
    let full = full.when(credit(3, 1, 3), s(1)).then_nothing().then_answer(Answer::Silent);
    // It is asked for again until there is.
    let then = full.when(debit(4, 1, 3), s(2)).when(credit(3, 1, 3), s(3));
    then.then_events([credited(3, 3, 1, max, 3)]).then_tells(says_credited(3, max, s(3)));
}

#[test]
fn what_is_settled_is_forgotten_and_never_done_again() {
    // Debited, called off, refused and credited; then a step that says all of them are settled.
    let steps = [
        debited(2, 2, 30, 70, 2),
        cancelled(3, 2),
        refused(4, 99, 70, 2),
        credited(3, 5, 30, 100, 2),
        debited(4, 9, 10, 90, 9),
    ];
    let then = hundred().given(s(1), steps).reloaded();
    for no in 2..9 {
        for command in [debit(no, 1, 9), debit(no, 1, 2), cancel(no, 2), credit(no, 1, 2)] {
            then.clone().when(command, s(2)).then_nothing().then_answer(Answer::Silent);
        }
    }
    // The mark never goes back, and what stands at it or above is known.
    let then = then.when(debit(12, 1, 5), s(3)).then_events([debited(5, 12, 1, 89, 5)]).reloaded();
    then.clone().when(debit(8, 1, 1), s(4)).then_nothing();
    then.clone().when(debit(9, 10, 9), s(4)).then_events([]).then_tells(says(9, taken(90, s(1))));
    // A credit that the option still waits for holds the mark, and is answered however late.
    let then = then.when(credit(13, 10, 12), s(5)).when(debit(20, 1, 13), s(6)).reloaded();
    then.clone().when(credit(13, 10, 13), s(9)).then_events([]).then_tells(says_credited(13, 99, s(5)));
    // Each option has its own.
    let elsewhere = PaymentId { option: OptionId(6), no: 2 };
    let then = then.when(Command::Debit { payment: elsewhere, amount: points(1), settled_below: 2 }, s(9));
    assert_eq!(then.events().len(), 1);
}

#[test]
fn a_wallet_remembers_what_is_not_settled_and_no_more() {
    let mut then = hundred();
    for no in 2..300 {
        then = then.when(debit(no, 101, no.saturating_sub(5)), s(no));
    }
    let live = &then.subject().rows.live;
    assert_eq!(live.keys().collect::<Vec<_>>(), [&Part::Header, &Part::Ledger(OPTION)]);
    assert!(live[&Part::Ledger(OPTION)].len() < 100);
}

#[test]
fn entries_tell_where_the_points_went() {
    let then = hundred()
        .given(s(1), [debited(2, 2, 30, 70, 2), cancelled(3, 2), refused(4, 99, 70, 2), credited(3, 5, 30, 100, 2)]);
    let archived = &then.subject().rows.archived;
    let entries: Vec<_> = archived
        .iter()
        .map(|(part, row)| {
            let Part::Entry(no) = part else { panic!("{part:?}") };
            Entry::from_row(*no, row).unwrap()
        })
        .collect();
    assert_eq!(
        entries,
        [
            entry(1, EntryKind::Charge, 100, 100, "desk", s(0)),
            entry(2, EntryKind::Debit, 30, 70, "p5-2", s(1)),
            entry(3, EntryKind::Credit, 30, 100, "f5-5", s(1)),
        ]
    );
    assert_eq!(then.state().charged(), points(100));
    let load = |part, row: &[u8]| Wallet::load([(part, row.to_vec())].into_iter()).map(drop).unwrap_err().part;
    assert_eq!(load(Part::Header, b"?"), "Header");
    assert_eq!(load(Part::Ledger(OPTION), b"?"), "Ledger(o5)");
}
