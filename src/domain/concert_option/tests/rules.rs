//! Rules that no caller gets around, whoever has looked before: what is decided rests on what is, not on what was read.

use super::*;

fn reschedule(sale_opens_at: Option<u64>, sale_closes_at: Option<u64>) -> Command {
    let patch = WindowPatch {
        sale_opens_at: sale_opens_at.map(|at| Some(s(at))),
        sale_closes_at: sale_closes_at.map(|at| Some(s(at))),
        refundable_until: None,
    };
    Command::Reschedule { patch }
}

fn refused(then: &Scenario<ConcertOption>) -> bool {
    then.answer().is_err() && then.events().is_empty()
}

#[test]
fn a_sale_opens_before_it_closes() {
    // On sale from 10 to 1000.
    for (opens_at, closes_at, fine) in [
        (Some(999), None, true),
        (Some(1_000), None, false),
        (Some(1_001), None, false),
        (None, Some(11), true),
        (None, Some(10), false),
        (None, Some(9), false),
        (Some(2_000), Some(2_001), true),
        (Some(2_000), Some(2_000), false),
    ] {
        let then = defined().when(reschedule(opens_at, closes_at), s(5));
        assert_eq!(!refused(&then), fine, "{opens_at:?} {closes_at:?}");
    }
    // Each right by itself, and the second not after the first.
    for (first, second) in [((Some(900), None), (None, Some(500))), ((None, Some(500)), (Some(900), None))] {
        let then = defined().when(reschedule(first.0, first.1), s(5));
        assert!(!refused(&then));
        assert!(refused(&then.when(reschedule(second.0, second.1), s(5))), "{first:?}, then {second:?}");
    }
}

#[test]
fn a_hold_is_of_something_and_of_nothing_twice() {
    let twice = Wish::Seats(smallvec![3, 4, 3]);
    let nothing_twice = Wish::Areas(smallvec![places(0, 1), places(1, 1), places(0, 1)]);
    for wish in [
        Wish::Seats(smallvec![]),
        twice,
        best(0),
        Wish::Areas(smallvec![]),
        Wish::Areas(smallvec![places(0, 0)]),
        Wish::Areas(smallvec![places(0, 1), places(1, 0)]),
        nothing_twice,
    ] {
        let then = defined().when(hold_for("anna", wish.clone(), Request::default()), s(20));
        assert!(refused(&then), "{wish:?}");
    }
    for command in [block(&[]), block(&[1, 1]), unblock(&[]), unblock(&[2, 2])] {
        assert!(refused(&defined().when(command.clone(), s(20))), "{command:?}");
    }
}

/// A key that has begun something is known, also when its caller may use no more keys, or something else stands against
/// another one.
#[test]
fn a_duplicate_waits_whatever_stands_against_a_new_one() {
    let full = |request| Request { refused: Some(Rejection::TooManyIdempotencyKeys), ..request };
    let pay = |request| Command::BeginPayment { reservation: 1, user: anna(), request };
    let begun = anna_holds().when(pay(with_key(1, 1)), s(30)).reloaded();
    begun
        .clone()
        .when(pay(full(with_key(1, 1))), s(31))
        .then_nothing()
        .then_answer(Answer::Park { ticket: 2, role: Role::Duplicate })
        .when(pay(full(with_key(1, 2))), s(31))
        .then_rejected(Rejection::IdempotencyKeyReused)
        .when(pay(full(with_key(2, 1))), s(31))
        .then_rejected(Rejection::TooManyIdempotencyKeys)
        .when(answered(2, debited(5, s(39))), s(40))
        .when(pay(full(with_key(1, 1))), s(41))
        .then_reply(Reply::Replayed(2));
    let refund = |request| Command::Refund { payment: 2, caller: Caller::Admin, request };
    let begun = anna_paid().when(refund(with_key(1, 1)), s(50)).reloaded();
    begun
        .when(refund(full(with_key(1, 1))), s(51))
        .then_nothing()
        .then_answer(Answer::Park { ticket: 3, role: Role::Duplicate })
        .when(refund(full(with_key(1, 2))), s(51))
        .then_rejected(Rejection::IdempotencyKeyReused)
        .when(refund(full(with_key(2, 1))), s(51))
        .then_rejected(Rejection::TooManyIdempotencyKeys)
        .when(Command::CreditAnswered { refund: 3, balance: points(9), at: s(52) }, s(53))
        .when(refund(full(with_key(1, 1))), s(54))
        .then_reply(Reply::Replayed(3));
}
