//! Orders that change: what each change says, what stands against it, and that it is all or nothing (I16).

use super::*;
use crate::domain::invariants::Audit;

fn part(seats: &[u32]) -> Portion {
    Portion { seats: seats.into(), areas: smallvec![] }
}

fn part_of_areas(areas: &[AreaPlaces]) -> Portion {
    Portion { seats: smallvec![], areas: areas.into() }
}

fn lot(seats: &[u32]) -> Lot {
    Lot::at_todays_prices(&plan(), seats.into(), smallvec![])
}

fn release_part(reservation: u64, caller: Caller, part: Portion) -> Command {
    Command::ReleasePart { reservation, caller, part, plan: plan(), request: Request::default() }
}

fn refund_part(payment: u64, caller: Caller, part: Portion) -> Command {
    Command::RefundPart { payment, caller, part, plan: plan(), request: Request::default() }
}

fn exchange_for(caller: Caller, give: Portion, take: Portion, request: Request) -> Command {
    Command::Exchange { reservation: 1, caller, give, take, plan: plan(), request }
}

fn exchange(give: &[u32], take: &[u32]) -> Command {
    exchange_for(as_user("anna"), part(give), part(take), Request::default())
}

/// How long offers stand here.
const OFFER_MILLIS: u64 = 100_000;

fn offer(caller: Caller, to: &str) -> Command {
    Command::OfferTransfer {
        reservation: 1,
        caller,
        to: user(to),
        stands_for_ms: OFFER_MILLIS,
        request: Request::default(),
    }
}

fn accept(transfer: u64, name: &str) -> Command {
    Command::AcceptTransfer { reservation: 1, transfer, user: user(name), request: Request::default() }
}

fn withdraw(transfer: u64, caller: Caller) -> Command {
    Command::WithdrawTransfer { reservation: 1, transfer, caller }
}

fn hand_on(to: &str) -> Command {
    Command::HandOn { reservation: 1, to: user(to), by: None, request: Request::default() }
}

fn credited(refund: u64, balance: u64) -> Command {
    Command::CreditAnswered { refund, balance: points(balance), at: s(60) }
}

fn invalid(field: &str, message: &str) -> Rejection {
    Rejection::Invalid(vec![Flaw::new(field, message)])
}

fn change(what: What, given: Lot, taken: Lot, then: Lot) -> Change {
    let amount = then.amount().unwrap();
    Change { what, given, taken, then, amount, backs: Vec::new(), leg: None, key: None, by: None }
}

fn order_changed(change: Change) -> Event {
    Event::OrderChanged { reservation: 1, change: Box::new(change) }
}

fn back(refund: u64, name: &str, amount: u64, drawn: &[(u64, u64)]) -> Back {
    let drawn = drawn.iter().map(|&(leg, amount)| Drawn { leg, amount: points(amount) }).collect();
    Back { refund, user: user(name), amount: points(amount), drawn }
}

fn leg(no: u64, name: &str, taken: u64, back: u64) -> Leg {
    Leg { no, user: user(name), taken: points(taken), back: points(back) }
}

/// All that has happened, read a second time: I1 and I16 hold after each event, and the state is what the events say.
#[track_caller]
fn audited(then: &Scenario<ConcertOption>) {
    let mut audit = Audit::default();
    for (meta, event) in &then.subject().history {
        if let Err(broken) = audit.option_event(OPTION, *meta, event) {
            panic!("{broken} by {event:?}");
        }
    }
    audit.agrees_with_option(OPTION, then.state()).unwrap_or_else(|broken| panic!("{broken}"));
}

fn seats_of(then: &Scenario<ConcertOption>) -> Vec<u32> {
    then.state().reservation(1).unwrap().seats.to_vec()
}

use SeatStatus::{Blocked, Free, Held, Sold};

#[test]
fn lots_are_split_and_put_together() {
    let prices = |list: &[u64]| -> Prices { list.iter().map(|n| points(*n)).collect() };
    let mixed = Lot {
        seats: smallvec![3, 12, 5],
        areas: smallvec![places(0, 2), places(0, 3)],
        prices: prices(&[10, 0, 12, 7, 8]),
    };
    assert_eq!(mixed.amount(), Some(points(10 + 12 + 14 + 24)));
    let names = ("seats", "areas");
    let (part, rest) = mixed.split((&[5, 3], &[places(0, 4)]), names).unwrap();
    // In the order in which they stood; of areas those that came last go first.
    assert_eq!((part.seats.to_vec(), part.areas.to_vec()), (vec![3, 5], vec![places(0, 1), places(0, 3)]));
    assert_eq!(part.amount(), Some(points(10 + 12 + 7 + 24)));
    assert_eq!((rest.seats.to_vec(), rest.areas.to_vec()), (vec![12], vec![places(0, 1)]));
    assert_eq!(rest.amount(), Some(points(7)));
    assert_eq!(part.with(&rest).amount(), mixed.amount());
    let (all, none) = mixed.split((&[3, 5, 12], &[places(0, 5)]), names).unwrap();
    assert!(none.is_empty() && all == mixed);
    let flaw = |seats: &[u32], areas: &[AreaPlaces]| mixed.split((seats, areas), names).unwrap_err().field;
    assert_eq!(flaw(&[3, 4], &[]), "seats[1]");
    assert_eq!(flaw(&[], &[places(0, 6)]), "areas[0].count");
    assert_eq!(flaw(&[], &[places(0, 1), places(1, 1)]), "areas[1].count");
    // One price stands for all; sums that are too large are none.
    assert_eq!((prices(&[4, 4, 4]), prices(&[]).is_empty()), (prices(&[4]), true));
    for list in [&[4, 4, 5][..], &[4, 5], &[4, 4, 5, 4], &[5, 4, 4]] {
        let kept: Vec<_> = (0..list.len()).map(|index| prices(list).get(index).unwrap().get()).collect();
        assert_eq!(kept, list);
    }
    let dear = Lot { prices: [Points::MAX].into_iter().collect(), ..lot(&[1, 2]) };
    assert_eq!(dear.amount(), None);
    let dear = Lot { seats: smallvec![], areas: smallvec![places(0, 2)], prices: [Points::MAX].into_iter().collect() };
    assert_eq!(dear.amount(), None);
}

#[test]
fn prices_stand_in_the_hold() {
    let then = defined().when(hold("anna", &[0, 12]), s(20));
    let [Event::SeatsHeld { prices, .. }] = then.events() else { panic!("{:?}", then.events()) };
    assert_eq!((prices.get(0), prices.get(1)), (Some(points(10)), Some(Points::ZERO)));
    // What was held before they were kept has those of the definition.
    let Event::SeatsHeld { reservation, user, seats, areas, amount, expires_at, token, key, .. } =
        held(1, "anna", &[0, 12], s(320))
    else {
        panic!("a hold")
    };
    let (prices, from_blocked) = (Prices::default(), Vec::new());
    let (by, note) = (None, None);
    let old = Event::SeatsHeld {
        reservation,
        user,
        seats,
        areas,
        amount,
        expires_at,
        token,
        key,
        prices,
        from_blocked,
        by,
        note,
    };
    let then = defined().given(s(20), [old]).reloaded();
    let then = then.when(release_part(1, as_user("anna"), part(&[12])), s(30));
    then.clone().then_events([order_changed(change(What::Released, lot(&[12]), Lot::default(), lot(&[0])))]);
    assert_eq!(then.state().reservation(1).unwrap().prices, lot(&[0]).prices);
    audited(&then);
    // More than there can be is refused, not cut off.
    let dear = Definition {
        prices: vec![
            Price { category: "A".into(), points: Points::new(Points::MAX.get() / 4).unwrap() },
            Price { category: "B".into(), points: Points::ZERO },
        ],
        ..definition()
    };
    let priced = Arc::new(PricedPlan::new(OPTION, dear.clone(), seating_plan()));
    let then = given::<ConcertOption>(s(0), [Event::OptionDefined { option: OPTION, definition: Box::new(dear) }]);
    let office = Office { beyond_limits: true, ..Office::default() };
    let wish = Wish::Seats(smallvec![0, 1, 2, 3, 4]);
    let (note, by, request) = (None, None, Request::default());
    let command = Command::HoldFor { user: anna(), wish, office, note, by, plan: priced, request };
    assert!(matches!(then.when(command, s(20)).answer(), Err(Rejection::Invalid(_))));
}

#[test]
fn a_part_of_a_hold_is_given_up() {
    let then = anna_holds().when(release_part(1, as_user("anna"), part(&[1])), s(30));
    let then = then.then_events([order_changed(change(What::Released, lot(&[1]), Lot::default(), lot(&[0])))]);
    let left = Reservation { seats: smallvec![0], amount: points(10), ..reservation(ReservationStatus::Held) };
    let steps = [(StepKind::Held, s(20), 2)];
    let then = then.then_reply(Reply::Reservation(1, Box::new(after(&steps, left)))).then_tells([]).reloaded();
    assert_eq!(statuses(&then, &[0, 1]), [(Held, 1), (Free, 0)]);
    assert_eq!((then.state().places_of(&anna()), then.state().due()), (1, Some(s(320))));
    audited(&then);
    // The rest is paid at its own price.
    let then = then.when(pay(1, "anna"), s(31)).then_tells([debit(2, 10, 2)]);
    let then = then.when(answered(2, debited(5, s(32))), s(32)).reloaded();
    assert_eq!(statuses(&then, &[0]), [(Sold, 1)]);
    audited(&then);
    // All of it is released, as by itself.
    let then = anna_holds().when(release_part(1, Caller::Admin, part(&[1, 0])), s(30));
    let Ok(Answer::Reply(Reply::Reservation(1, released))) = then.answer() else { panic!("{:?}", then.answer()) };
    assert_eq!(released.status, ReservationStatus::Released);
    assert!(then.state().reservation(1).is_none() && then.state().places_of(&anna()) == 0);
    assert!(then.subject().rows.open_holds.is_empty());
    audited(&then.reloaded());
    // Places too.
    let wish = Wish::Areas(smallvec![places(0, 3), places(1, 1)]);
    let then = defined().when(hold_for("anna", wish, Request::default()), s(20));
    let then = then.when(release_part(1, as_user("anna"), part_of_areas(&[places(0, 2)])), s(30)).reloaded();
    assert_eq!(then.state().areas()[0].held, 1);
    assert_eq!(then.state().reservation(1).unwrap().amount, points(10));
    audited(&then);
}

#[test]
fn what_stands_against_giving_up_a_part() {
    let by_anna = |part| release_part(1, as_user("anna"), part);
    for (then, command, expected) in [
        (anna_holds(), release_part(1, as_user("bob"), part(&[0])), Rejection::NotFound),
        (anna_holds(), release_part(9, Caller::Admin, part(&[0])), Rejection::NotFound),
        (anna_holds(), by_anna(part(&[0, 2])), invalid("seats[1]", "is not one of this reservation's seats")),
        (anna_holds(), by_anna(part(&[0, 0])), invalid("seats[1]", "is given twice")),
        (anna_holds(), by_anna(part(&[])), invalid("seats", "must name at least one seat, unless areas names places")),
        (
            anna_holds(),
            by_anna(part_of_areas(&[places(0, 1)])),
            invalid("areas[0].count", "is more than this reservation has"),
        ),
        (anna_pays(), by_anna(part(&[0])), Rejection::ReservationNotHeld),
        (anna_paid(), by_anna(part(&[0])), Rejection::ReservationNotHeld),
    ] {
        then.when(command, s(45)).then_rejected(expected);
    }
    let expired = anna_holds().when(by_anna(part(&[0])), s(320));
    assert_eq!(expired.answer(), &Ok(Answer::Reply(Reply::Archived)));
}

#[test]
fn what_was_answered_is_kept() {
    let command = |payload| Command::ReleasePart {
        reservation: 1,
        caller: as_user("anna"),
        part: part(&[1]),
        plan: plan(),
        request: with_key(1, payload),
    };
    let held = anna_holds().state().reservation(1).unwrap().clone();
    let then = anna_holds().when(command(1), s(30)).reloaded();
    let then = then.when(command(1), s(31)).then_nothing().then_reply(Reply::Replayed(3));
    let then = then.when(command(2), s(32)).then_rejected(Rejection::IdempotencyKeyReused);
    // The row knows what it was at each event.
    let then = then.when(release_part(1, Caller::Admin, part(&[0])), s(33));
    let row = then.subject().rows.archived[&Part::Reservation(1)].clone();
    let row = Reservation::from_row(1, &row).unwrap();
    let was = |lsn| row.clone().as_of(Lsn(lsn));
    assert_eq!((was(2).seats.to_vec(), was(2).amount, was(2).prices), (vec![0, 1], points(20), held.prices));
    assert_eq!((was(3).seats.to_vec(), was(3).amount), (vec![0], points(10)));
    assert_eq!(row.clone().as_held().seats.to_vec(), [0, 1]);
}

#[test]
fn a_part_is_given_back() {
    let then = anna_paid().when(refund_part(2, as_user("anna"), part(&[1])), s(50));
    let refunded = What::Refunded { refund: 3, all: false, payment: 2 };
    let backs = vec![back(3, "anna", 10, &[(2, 10)])];
    let expected = Change { backs, ..change(refunded, lot(&[1]), Lot::default(), lot(&[0])) };
    let then = then.then_events([order_changed(expected)]).then_tells([credit(3, 10, 3)]);
    let then = then.then_answer(Answer::Park { ticket: 3, role: Role::Starter }).reloaded();
    assert_eq!(statuses(&then, &[0, 1]), [(Sold, 1), (Free, 0)]);
    assert_eq!(then.state().places_of(&anna()), 1);
    let then = then.then_owes([credit(3, 10, 3)]);
    audited(&then);
    // One at a time, until what goes back is there.
    let again = Rejection::ChangeUnderWay;
    let then = then.when(refund_part(2, as_user("anna"), part(&[0])), s(51)).then_rejected(again.clone());
    let then = then.when(refund(2, Caller::Admin), s(51)).then_rejected(again.clone());
    let then = then.when(exchange(&[0], &[5]), s(51)).then_rejected(again.clone());
    let then = then.when(offer(as_user("anna"), "bob"), s(51)).then_rejected(again.clone());
    let then = then.when(hand_on("bob"), s(51)).then_rejected(again);
    let then = then.when(credited(3, 15), s(60));
    let there = Event::RefundCredited { refund: 3, balance: points(15), refunded_at: s(60), left: Some(points(10)) };
    let then = then.then_events([there]).reloaded().then_owes([]);
    let payment = then.state().payment(2).unwrap();
    assert_eq!((payment.status, payment.price()), (PaymentStatus::Completed, points(10)));
    assert_eq!((&payment.legs, payment.crediting), (&vec![leg(2, "anna", 20, 10)], 0));
    audited(&then);
    // What is left goes back as a whole.
    let then = then.when(refund(2, as_user("anna")), s(70));
    let backs = vec![back(4, "anna", 10, &[(2, 10)])];
    let all = What::Refunded { refund: 4, all: true, payment: 2 };
    let expected = Change { backs, ..change(all, lot(&[0]), Lot::default(), Lot::default()) };
    let then = then.then_events([order_changed(expected)]).then_tells([credit(4, 10, 4)]).reloaded();
    let others = then.clone().when(refund(2, Caller::Admin), s(71));
    assert_eq!(others.answer(), &Ok(Answer::Park { ticket: 4, role: Role::Other }));
    let then = then.when(credited(4, 25), s(71)).reloaded().then_owes([]);
    assert!(then.state().payment(2).is_none() && then.state().reservation(1).is_none());
    assert_eq!(statuses(&then, &[0, 1]), [(Free, 0); 2]);
    audited(&then);
    // All of it at once is a refund as ever.
    let then = anna_paid().when(refund_part(2, Caller::Admin, part(&[1, 0])), s(50));
    then.then_events([Event::PaymentRefunded { refund: 3, payment: 2, key: None, by: None }]);
}

#[test]
fn what_stands_against_giving_back_a_part() {
    let of_anna = |part| refund_part(2, as_user("anna"), part);
    for (then, at, command, expected) in [
        (anna_paid(), 50, refund_part(2, as_user("bob"), part(&[0])), Rejection::NotFound),
        (anna_paid(), 50, refund_part(9, Caller::Admin, part(&[0])), Rejection::NotFound),
        (anna_paid(), 50, of_anna(part(&[7])), invalid("seats[0]", "is not one of this reservation's seats")),
        (anna_paid(), 50, of_anna(part(&[0, 0])), invalid("seats[1]", "is given twice")),
        (anna_paid(), 50, of_anna(part_of_areas(&[places(1, 0)])), invalid("areas[0].count", "must be 1 to 1000")),
        (anna_pays(), 50, of_anna(part(&[0])), Rejection::NotRefundable),
        (anna_paid(), 2000, of_anna(part(&[0])), Rejection::NotRefundable),
        (anna_wants_it_back(), 51, of_anna(part(&[0])), Rejection::NotRefundable),
        // A payment is meant, and a reservation given.
        (anna_paid(), 50, refund_part(1, Caller::Admin, part(&[0])), Rejection::NotFound),
    ] {
        let then = then.when(command.clone(), s(at));
        if then.answer() == &Ok(Answer::Reply(Reply::Archived)) && expected == Rejection::NotFound {
            continue;
        }
        then.then_rejected(expected);
    }
    let late = anna_paid().when(refund_part(2, Caller::Admin, part(&[0])), s(2000));
    assert_eq!(late.events().len(), 1, "an admin may always");
}

/// Anna has paid 10 for seats 0 and 10, as reservation 1 by payment 2.
fn anna_has_a_dear_and_a_free_one() -> Scenario<ConcertOption> {
    defined().given(s(20), [held(1, "anna", &[0, 10], s(320)), started(2, 1, s(90)), confirmed(2, 5, s(20))])
}

#[test]
fn seats_are_exchanged_for_as_much() {
    let then = anna_paid().when(exchange(&[1], &[5]), s(50));
    let after_it = lot(&[0, 5]);
    let expected = change(What::Exchanged, lot(&[1]), lot(&[5]), after_it);
    let then = then.then_events([order_changed(expected)]).then_tells([]).reloaded();
    assert_eq!(statuses(&then, &[0, 1, 5]), [(Sold, 1), (Free, 0), (Sold, 1)]);
    assert_eq!((seats_of(&then), then.state().places_of(&anna())), (vec![0, 5], 2));
    audited(&then);
    // Places for a seat, and back again.
    let give = exchange_for(as_user("anna"), part(&[0]), part_of_areas(&[places(0, 1)]), Request::default());
    let then = then.when(give, s(51)).reloaded();
    assert_eq!((seats_of(&then), then.state().areas()[0].sold), (vec![5], 1));
    let back = exchange_for(as_user("anna"), part_of_areas(&[places(0, 1)]), part(&[9]), Request::default());
    let then = then.when(back, s(52)).reloaded();
    assert_eq!((seats_of(&then), then.state().areas()[0].sold), (vec![5, 9], 0));
    audited(&then);
}

#[test]
fn a_difference_is_paid_before_anything_is_given() {
    let then = anna_has_a_dear_and_a_free_one().when(exchange(&[10], &[2]), s(50));
    let taken = leg(3, "anna", 10, 0);
    let expected = Change { leg: Some(taken.clone()), ..change(What::Exchanged, lot(&[10]), lot(&[2]), lot(&[0, 2])) };
    let pinned = Exchange { deadline: s(110), leg: taken, change: expected.clone() };
    let started = Event::ExchangeStarted { reservation: 1, exchange: Box::new(pinned) };
    let then = then.then_events([started]).then_tells([debit(3, 10, 3)]);
    let then = then.then_answer(Answer::Park { ticket: 3, role: Role::Starter }).reloaded();
    assert_eq!(statuses(&then, &[0, 10, 2]), [(Sold, 1), (Sold, 1), (Held, 1)]);
    audited(&then);
    let then = then.then_owes([debit(3, 10, 3)]);
    for command in [
        exchange(&[0], &[5]),
        refund(2, Caller::Admin),
        refund_part(2, Caller::Admin, part(&[0])),
        offer(as_user("anna"), "bob"),
        hand_on("bob"),
    ] {
        then.clone().when(command, s(51)).then_rejected(Rejection::ChangeUnderWay);
    }
    let bob = then.clone().when(hold("bob", &[2]), s(51));
    bob.then_rejected(conflicts(&[2]));
    // Paid: all of it in one event.
    let paid = then.clone().when(answered(3, debited(2, s(52))), s(52)).then_events([order_changed(expected)]);
    assert!(matches!(paid.answer(), Ok(Answer::Settle { ticket: 3, starter: Ok(Reply::Reservation(1, _)), .. })));
    let paid = paid.reloaded().then_owes([]);
    assert_eq!(statuses(&paid, &[0, 10, 2]), [(Sold, 1), (Free, 0), (Sold, 1)]);
    assert_eq!(paid.state().payment(2).unwrap().legs, [leg(2, "anna", 10, 0), leg(3, "anna", 10, 0)]);
    assert_eq!(paid.state().places_of(&anna()), 2);
    audited(&paid);
    // Told once more, it changes nothing.
    let paid = paid.when(answered(3, debited(2, s(52))), s(53)).then_nothing().then_answer(Answer::Silent);
    // What goes back draws on the newest leg first, and on none more than it took.
    let then_part = paid.clone().when(refund_part(2, as_user("anna"), part(&[0])), s(54));
    then_part
        .then_tells([credit(4, 10, 4)])
        .when(credited(4, 12), s(55))
        .when(refund(2, Caller::Admin), s(56))
        .then_tells([credit(5, 10, 5)]);
    let all = paid.when(refund(2, Caller::Admin), s(60)).then_tells([credit(4, 20, 4)]).reloaded();
    let [Event::OrderChanged { change, .. }] = all.events() else { panic!("{:?}", all.events()) };
    assert_eq!(change.backs, [back(4, "anna", 20, &[(3, 10), (2, 10)])]);
    audited(&all.when(credited(4, 30), s(61)).reloaded());
    // Too little, or too late: as if nothing had been asked.
    let refused = Rejection::InsufficientPoints { balance: points(9), amount: points(10) };
    let late = then.clone().at(s(110)).then_owes([cancel(3, 3)]);
    for (then, outcome, at, expected) in [
        (then, DebitOutcome::Refused { balance: points(9) }, 52, refused),
        (late, DebitOutcome::Cancelled, 111, Rejection::PaymentTimedOut),
    ] {
        let then = then.when(answered(3, outcome), s(at));
        let Ok(Answer::Settle { starter, duplicate, .. }) = then.answer() else { panic!("{:?}", then.answer()) };
        assert_eq!((starter, duplicate), (&Err(expected.clone()), &Err(expected)));
        let then = then.reloaded().then_owes([]);
        assert_eq!(statuses(&then, &[0, 10, 2]), [(Sold, 1), (Sold, 1), (Free, 0)]);
        assert_eq!((seats_of(&then), then.state().payment(2).unwrap().price()), (vec![0, 10], points(10)));
        audited(&then);
        let again = then.when(exchange(&[10], &[2]), s(at));
        assert_eq!(again.tells().len(), 1, "it may be tried again");
    }
}

#[test]
fn a_difference_goes_back() {
    let then = anna_has_a_dear_and_a_free_one().when(exchange(&[0], &[12]), s(50));
    let backs = vec![back(3, "anna", 10, &[(2, 10)])];
    let expected = Change { backs, ..change(What::Exchanged, lot(&[0]), lot(&[12]), lot(&[10, 12])) };
    let then = then.then_events([order_changed(expected)]).then_tells([credit(3, 10, 3)]).reloaded();
    assert!(matches!(then.answer(), Ok(Answer::Reply(Reply::Reservation(1, _)))) || then.answer().is_ok());
    audited(&then);
    let then = then.when(exchange(&[10], &[13]), s(51)).then_rejected(Rejection::ChangeUnderWay);
    let then = then.when(credited(3, 15), s(60)).reloaded();
    assert_eq!(then.state().payment(2).unwrap().price(), Points::ZERO);
    let then = then.when(refund(2, Caller::Admin), s(61)).then_tells([credit(4, 0, 4)]);
    let then = then.when(credited(4, 15), s(62)).reloaded();
    assert!(then.state().payment(2).is_none());
    audited(&then);
}

#[test]
fn what_stands_against_an_exchange() {
    let more = "must be as many places as are given: 1";
    let asked = |give: &[u32], take: &[u32]| exchange(give, take);
    let bob = exchange_for(as_user("bob"), part(&[0]), part(&[5]), Request::default());
    let refused = Request { key: None, refused: Some(Rejection::QueueTokenRequired) };
    let untold = exchange_for(as_user("anna"), part(&[0]), part(&[5]), refused);
    let nothing = "must name at least one seat, unless take_areas names places";
    for (then, at, command, expected) in [
        (anna_paid(), 50, bob, Rejection::NotFound),
        (anna_paid(), 50, untold, Rejection::QueueTokenRequired),
        (anna_paid(), 50, asked(&[0], &[5, 6]), invalid("take", more)),
        (anna_paid(), 50, asked(&[0], &[]), invalid("take", nothing)),
        (anna_paid(), 50, asked(&[0, 0], &[5, 6]), invalid("give[1]", "is given twice")),
        (anna_paid(), 50, asked(&[4], &[5]), invalid("give[0]", "is not one of this reservation's seats")),
        (anna_paid(), 50, asked(&[0], &[1]), conflicts(&[1])),
        (anna_paid(), 50, asked(&[0], &[0]), conflicts(&[0])),
        (anna_paid(), 50, asked(&[0], &[20]), Rejection::NotFound),
        (
            anna_paid(),
            50,
            exchange_for(as_user("anna"), part(&[0]), part_of_areas(&[places(2, 1)]), Request::default()),
            Rejection::NotFound,
        ),
        (anna_paid(), 1000, asked(&[0], &[5]), Rejection::SaleNotOpen),
        (anna_holds(), 50, asked(&[0], &[5]), Rejection::ReservationNotConfirmed),
        (anna_pays(), 50, asked(&[0], &[5]), Rejection::ReservationNotConfirmed),
        (anna_wants_it_back(), 55, asked(&[0], &[5]), Rejection::ReservationNotConfirmed),
    ] {
        then.when(command.clone(), s(at)).then_rejected(expected);
    }
    let crowd =
        |count| exchange_for(as_user("anna"), part(&[0]), part_of_areas(&[places(1, count)]), Request::default());
    let full = Event::SeatsHeld {
        reservation: 3,
        user: user("bob"),
        seats: smallvec![],
        areas: smallvec![places(1, 3)],
        amount: Points::ZERO,
        expires_at: s(400),
        token: None,
        key: None,
        prices: [Points::ZERO].into_iter().collect(),
        from_blocked: Vec::new(),
        by: None,
        note: None,
    };
    anna_paid().given(s(45), [full]).when(crowd(1), s(50)).then_rejected(Rejection::NotEnoughSeats);
    // It falls in price only while its owner may have money back.
    let no_refunds = WindowPatch { refundable_until: Some(None), ..WindowPatch::default() };
    let strict = anna_has_a_dear_and_a_free_one().when(Command::Reschedule { patch: no_refunds }, s(40));
    strict.clone().when(exchange(&[0], &[12]), s(50)).then_rejected(Rejection::NotRefundable);
    assert_eq!(strict.clone().when(exchange(&[0], &[5]), s(50)).events().len(), 1, "for as much it may be");
    let by_admin = exchange_for(Caller::Admin, part(&[0]), part(&[12]), Request::default());
    assert_eq!(strict.when(by_admin, s(50)).events().len(), 1, "an admin may");
}

#[test]
fn an_exchange_with_a_key_is_one() {
    let with = |payload| exchange_for(as_user("anna"), part(&[10]), part(&[2]), with_key(7, payload));
    let then = anna_has_a_dear_and_a_free_one().when(with(1), s(50)).reloaded();
    let then = then.when(with(1), s(51)).then_nothing();
    let then = then.then_answer(Answer::Park { ticket: 3, role: Role::Duplicate });
    let then = then.when(with(2), s(51)).then_rejected(Rejection::IdempotencyKeyReused);
    let then = then.when(answered(3, debited(2, s(52))), s(52));
    assert!(matches!(then.answer(), Ok(Answer::Settle { duplicate: Ok(Reply::Again(1, _)), .. })));
    // By the event that says so.
    then.reloaded().when(with(1), s(53)).then_nothing().then_reply(Reply::Replayed(6));
    // A failure is not remembered.
    let then = anna_has_a_dear_and_a_free_one().when(with(1), s(50)).reloaded();
    let then = then.when(answered(3, DebitOutcome::Refused { balance: points(1) }), s(52)).reloaded();
    let then = then.when(with(2), s(53));
    assert_eq!(then.answer(), &Ok(Answer::Park { ticket: 4, role: Role::Starter }));
}

#[test]
fn an_order_is_handed_on() {
    let then = anna_paid().when(offer(as_user("anna"), "bob"), s(50));
    let expires_at = s(50).plus_millis(OFFER_MILLIS);
    let stands = Offer { no: 3, to: user("bob"), expires_at };
    let offered = Event::TransferOffered { reservation: 1, offer: stands, key: None, by: None };
    let then = then.then_events([offered]).then_tells([]);
    let then = then.then_reply(Reply::Offered { transfer: 3, expires_at, replayed: false }).reloaded();
    audited(&then);
    for (transfer, name) in [(3, "carl"), (3, "anna"), (4, "bob"), (2, "bob")] {
        then.clone().when(accept(transfer, name), s(60)).then_rejected(Rejection::NotFound);
    }
    then.clone().when(withdraw(3, as_user("bob")), s(60)).then_rejected(Rejection::NotFound);
    let taken_back = then.clone().when(withdraw(3, as_user("anna")), s(60)).then_reply(Reply::Done).reloaded();
    audited(&taken_back);
    taken_back.when(accept(3, "bob"), s(61)).then_rejected(Rejection::NotFound);
    // Another offer takes its place, and a change ends it.
    let another = then.clone().when(offer(Caller::Admin, "carl"), s(60));
    another.when(accept(3, "bob"), s(61)).then_rejected(Rejection::NotFound);
    let swapped = then.clone().when(exchange(&[0], &[5]), s(60)).reloaded();
    swapped.when(accept(3, "bob"), s(61)).then_rejected(Rejection::NotFound);
    // A millisecond before its end it still stands.
    let last = Timestamp::from_millis(expires_at.as_millis() - 1);
    assert_eq!(then.clone().when(accept(3, "bob"), last).events().len(), 1);
    then.clone().when(accept(3, "bob"), expires_at).then_rejected(Rejection::NotFound);
    // Accepted, it is bob's, and nothing of it anna's.
    let then = then.when(accept(3, "bob"), s(60)).reloaded();
    let what = What::HandedOn { to: user("bob"), transfer: Some(3) };
    let all = lot(&[0, 1]);
    let event = order_changed(change(what, Lot::default(), Lot::default(), all));
    let then = then.then_events([event]);
    assert_eq!(then.state().reservation(1).unwrap().user, user("bob"));
    assert_eq!((then.state().places_of(&anna()), then.state().places_of(&user("bob"))), (0, 2));
    assert!(then.subject().rows.listed.contains(&(user("bob"), Part::Reservation(1))));
    audited(&then);
    then.clone().when(exchange(&[0], &[5]), s(61)).then_rejected(Rejection::NotFound);
    then.clone().when(offer(as_user("anna"), "carl"), s(61)).then_rejected(Rejection::NotFound);
    then.clone().when(refund(2, as_user("anna")), s(61)).then_rejected(Rejection::NotRefundable);
    then.clone().when(refund(2, as_user("bob")), s(61)).then_rejected(Rejection::NotFound);
    // Bob may swap, but not for less; and pays a difference himself.
    let by_bob = |give: &[u32], take: &[u32]| exchange_for(as_user("bob"), part(give), part(take), Request::default());
    then.clone().when(by_bob(&[0], &[12]), s(61)).then_rejected(Rejection::NotRefundable);
    assert_eq!(then.clone().when(by_bob(&[0], &[5]), s(61)).events().len(), 1);
    // Money goes back to who paid.
    let back_to_anna = then.when(refund(2, Caller::Admin), s(70)).then_tells([credit(3 + 1, 20, 4)]).reloaded();
    assert_eq!(back_to_anna.state().places_of(&user("bob")), 0);
    audited(&back_to_anna);
}

#[test]
fn each_leg_goes_back_to_who_paid_it() {
    let then = anna_has_a_dear_and_a_free_one().when(hand_on("bob"), s(50)).reloaded();
    let rise = exchange_for(as_user("bob"), part(&[10]), part(&[2]), Request::default());
    let then = then.when(rise, s(60)).when(answered(3, debited(1, s(61))), s(61)).reloaded();
    audited(&then);
    // The newest leg is bob's.
    let newest = then.clone().when(refund_part(2, Caller::Admin, part(&[0])), s(70));
    let [Event::OrderChanged { change, .. }] = newest.events() else { panic!("{:?}", newest.events()) };
    assert_eq!(change.backs, [back(4, "bob", 10, &[(3, 10)])]);
    let then = then.when(refund(2, Caller::Admin), s(70));
    let [Event::OrderChanged { change, .. }] = then.events() else { panic!("{:?}", then.events()) };
    assert_eq!(change.backs, [back(4, "bob", 10, &[(3, 10)]), back(5, "anna", 10, &[(2, 10)])]);
    let then = then.when(credited(5, 1), s(71)).reloaded();
    assert!(then.state().payment(2).is_some(), "one is still on its way");
    let then = then.when(credited(4, 1), s(72)).reloaded().then_owes([]);
    assert!(then.state().payment(2).is_none() && then.state().reservation(1).is_none());
    audited(&then);
}

#[test]
fn the_receivers_limit_holds() {
    let bobs = [held(3, "bob", &[2, 3, 4, 5], s(400)), held(4, "bob", &[6], s(400))];
    let then = anna_paid().given(s(45), bobs);
    then.clone().when(hand_on("bob"), s(50)).then_rejected(limit(6, 5));
    let then = then.when(offer(as_user("anna"), "bob"), s(50));
    then.clone().when(accept(5, "bob"), s(51)).then_rejected(limit(6, 5));
    let then = then.given(s(52), [Event::ReservationReleased { reservation: 4, by: None }]);
    audited(&then.when(accept(5, "bob"), s(53)).reloaded());
    anna_paid().when(offer(as_user("anna"), "anna"), s(50)).then_rejected(invalid("to", "has it already"));
    anna_paid().when(hand_on("anna"), s(50)).then_rejected(invalid("to", "has it already"));
    anna_holds().when(offer(as_user("anna"), "bob"), s(50)).then_rejected(Rejection::ReservationNotConfirmed);
    anna_holds().when(hand_on("bob"), s(50)).then_rejected(Rejection::ReservationNotConfirmed);
    // An offer that was made is answered as it was.
    let standing = |payload, stands_for_ms| Command::OfferTransfer {
        reservation: 1,
        caller: as_user("anna"),
        to: user("bob"),
        stands_for_ms,
        request: with_key(3, payload),
    };
    let with = |payload| standing(payload, OFFER_MILLIS);
    let then = anna_paid().when(with(1), s(50)).when(withdraw(3, as_user("anna")), s(51)).reloaded();
    let expires_at = s(50).plus_millis(OFFER_MILLIS);
    // Also if it would stand for another time by now.
    let then = then.when(standing(1, 1), s(52)).then_nothing();
    then.then_reply(Reply::Offered { transfer: 3, expires_at, replayed: true })
        .when(with(2), s(53))
        .then_rejected(Rejection::IdempotencyKeyReused);
}

fn hold_by(office: Office, wish: Wish) -> Command {
    let (by, note) = (Some(user("clerk")), None);
    Command::HoldFor { user: anna(), wish, office, note, by, plan: plan(), request: Request::default() }
}

#[test]
fn a_box_office_holds_beyond_limits() {
    let office = Office { beyond_limits: true, ..Office::default() };
    let nine = Wish::Seats((0..9).collect());
    defined().when(hold_by(Office::default(), nine.clone()), s(20)).then_rejected(limit(4, 0));
    let then = defined().when(hold_by(office, nine), s(20)).reloaded();
    assert_eq!((then.events().len(), then.state().places_of(&anna())), (1, 9));
    audited(&then);
    let many = Wish::Areas(smallvec![places(0, 1_001)]);
    defined().when(hold_by(office, many), s(20)).then_rejected(invalid("areas[0].count", "must be 1 to 1000"));
}

#[test]
fn a_box_office_gives_away() {
    let office = Office { complimentary: true, ..Office::default() };
    let then = defined().when(hold_by(office, Wish::Seats(smallvec![0, 1])), s(20)).reloaded();
    let [Event::SeatsHeld { amount, .. }, Event::ComplimentaryGiven { payment: 2, reservation: 1 }] = then.events()
    else {
        panic!("{:?}", then.events())
    };
    assert_eq!(*amount, Points::ZERO);
    assert_eq!(statuses(&then, &[0, 1]), [(Sold, 1); 2]);
    assert_eq!((then.state().due(), then.state().payment(2).unwrap().price()), (None, Points::ZERO));
    assert!(then.subject().rows.open_holds.is_empty());
    audited(&then);
    // It goes back like any other; and an exchange costs what is taken.
    let rise = then.clone().when(exchange(&[0], &[5]), s(30)).then_tells([debit(3, 10, 3)]);
    let rise = rise.when(answered(3, debited(1, s(31))), s(31)).reloaded();
    assert_eq!(rise.state().payment(2).unwrap().legs, [leg(2, "anna", 0, 0), leg(3, "anna", 10, 0)]);
    audited(&rise);
    let then = then.when(refund(2, Caller::Admin), s(40)).then_tells([credit(3, 0, 3)]);
    let then = then.when(credited(3, 0), s(41)).reloaded();
    assert_eq!(statuses(&then, &[0, 1]), [(Free, 0); 2]);
    audited(&then);
}

#[test]
fn seats_out_of_blocked_ones_are_blocked_again() {
    let office = Office { from_blocked: true, ..Office::default() };
    let start = || defined().given(s(15), [blocked(&[1, 2])]);
    let wish = Wish::Seats(smallvec![0, 1, 2]);
    start().when(hold_by(Office::default(), wish.clone()), s(20)).then_rejected(conflicts(&[1, 2]));
    let then = start().when(hold_by(office, wish), s(20)).reloaded();
    let [Event::SeatsHeld { from_blocked, .. }] = then.events() else { panic!("{:?}", then.events()) };
    assert_eq!(from_blocked, &[1, 2]);
    assert_eq!(statuses(&then, &[0, 1, 2]), [(Held, 1); 3]);
    audited(&then);
    let again = |then: Scenario<ConcertOption>, expected: [(SeatStatus, u64); 3]| {
        assert_eq!(statuses(&then, &[0, 1, 2]), expected);
        audited(&then.reloaded());
    };
    let all = [(Free, 0), (Blocked, 0), (Blocked, 0)];
    again(then.clone().when(release(1, Caller::Admin), s(30)), all);
    again(then.clone().at(s(320)), all);
    let in_part = then.clone().when(release_part(1, Caller::Admin, part(&[0, 2])), s(30));
    again(in_part.clone(), [(Free, 0), (Held, 1), (Blocked, 0)]);
    again(in_part.at(s(320)), all);
    let paid = then.given(s(30), [started(2, 1, s(90)), confirmed(2, 5, s(31))]);
    again(paid.clone().when(refund(2, Caller::Admin), s(40)), all);
    again(paid.clone().when(refund_part(2, Caller::Admin, part(&[1])), s(40)), [(Sold, 1), (Blocked, 0), (Sold, 1)]);
    again(paid.when(exchange(&[1, 0], &[5, 6]), s(40)), [(Free, 0), (Blocked, 0), (Sold, 1)]);
    // What is never for sale stays so.
    let terms = Definition { not_for_sale: [1].into_iter().collect(), ..definition() };
    let then = given::<ConcertOption>(s(0), [Event::OptionDefined { option: OPTION, definition: Box::new(terms) }]);
    then.when(hold_by(office, Wish::Seats(smallvec![0, 1])), s(20)).then_rejected(conflicts(&[1]));
}

#[test]
fn a_hold_gets_another_end() {
    let until = |at| Command::HoldUntil { reservation: 1, expires_at: s(at), by: None };
    let then = anna_holds().when(until(500), s(30)).reloaded();
    let then = then.at(s(499)).then_nothing();
    audited(&then);
    let then = then.at(s(500)).then_events([Event::ReservationsExpired { reservations: vec![1] }]);
    audited(&then.reloaded());
    let sooner = anna_holds().when(until(31), s(30)).at(s(31));
    sooner.then_events([Event::ReservationsExpired { reservations: vec![1] }]);
    anna_holds().when(until(320), s(30)).then_nothing();
    let past = invalid("expires_at", "must be in the future");
    anna_holds().when(until(30), s(30)).then_rejected(past);
    for then in [anna_pays(), anna_paid()] {
        then.when(until(500), s(50)).then_rejected(Rejection::ReservationNotHeld);
    }
    let unknown = Command::HoldUntil { reservation: 9, expires_at: s(500), by: None };
    anna_holds().when(unknown, s(30)).then_rejected(Rejection::NotFound);
    // A payment that fails leaves it with its own end.
    let then = anna_holds().when(until(500), s(30)).given(s(31), [started(2, 1, s(91))]);
    let then = then.when(answered(2, DebitOutcome::Cancelled), s(400)).reloaded();
    assert_eq!(then.state().due(), Some(s(500)));
    audited(&then);
}

#[test]
fn what_is_kept_of_an_order_is_bounded() {
    let mut then = anna_paid();
    let mut at = 50;
    for n in 0.. {
        let (give, take) = if n % 2 == 0 { (1, 5) } else { (5, 1) };
        then = then.when(exchange(&[give], &[take]), s(at));
        at += u64::from(n % 4 == 0);
        if let Err(rejection) = then.answer() {
            assert_eq!(*rejection, Rejection::LimitExceeded { limit: KEPT_MAX, already: KEPT_MAX + 4 });
            break;
        }
        assert!(n < 1_000, "it changes for ever");
    }
    let row = then.reloaded().subject().rows.live[&Part::Reservation(1)].len();
    assert!(row < 64 << 10, "{row} bytes");
}

/// However often the end of a hold is moved: what it was at first is known, and all else that may be kept is left for changes.
#[test]
fn another_end_uses_up_nothing_of_what_is_kept() {
    let until = |at| Command::HoldUntil { reservation: 1, expires_at: s(at), by: None };
    let mut then = anna_holds();
    for n in 0..2_000 {
        then = then.when(until(400 + n), s(30));
        assert!(then.answer().is_ok(), "{n}");
    }
    let then = then.when(release_part(1, Caller::Admin, part(&[1])), s(31)).when(until(350), s(32));
    let then = then.when(until(360), s(33)).reloaded();
    let now = then.state().reservation(1).unwrap().clone();
    assert_eq!((now.former().len(), now.expires_at), (3, s(360)));
    let first = now.clone().as_held();
    assert_eq!((&first.seats[..], first.amount, first.expires_at), (&[0, 1][..], points(20), s(320)));
    // Before the part was given up, and after that.
    let lsn = now.former()[1].until;
    let (before, after) = (now.clone().as_of(Lsn(lsn.0 - 1)), now.as_of(lsn));
    assert_eq!((&before.seats[..], before.expires_at), (&[0, 1][..], s(2_399)));
    assert_eq!((&after.seats[..], after.expires_at), (&[0][..], s(2_399)));
    audited(&then);
}

/// Of offers the last one is kept, and of what did not come about its last steps.
#[test]
fn offers_and_exchanges_that_fail_leave_nothing() {
    let row = |then: &Scenario<ConcertOption>| then.subject().rows.live[&Part::Reservation(1)].len();
    let mut then = defined().given(s(20), [held(1, "anna", &[10, 11], s(320)), started(2, 1, s(90))]);
    then = then.given(s(30), [confirmed(2, 5, s(30))]);
    let mut rows = Vec::new();
    for n in 0..200 {
        let at = s(40 + n);
        then = then.when(offer(as_user("anna"), if n % 2 == 0 { "bob" } else { "carl" }), at);
        assert!(then.answer().is_ok(), "{n}");
        then = then.when(exchange(&[10], &[1]), at);
        let leg = then.state().last_no();
        then = then.when(answered(leg, DebitOutcome::Refused { balance: points(5) }), at);
        rows.push(row(&then));
    }
    let then = then.reloaded();
    assert!(then.state().reservation(1).unwrap().former().is_empty());
    // The numbers grow a little.
    assert!(rows[199] <= rows[99] + 64, "{rows:?}");
    audited(&then);
}

#[test]
fn an_offer_ends_with_its_order() {
    let offered = anna_paid().when(offer(as_user("anna"), "bob"), s(50));
    // Until the wallet has answered it is in memory, as what it is then.
    let back = offered.when(refund(2, as_user("anna")), s(51)).reloaded();
    back.clone().when(accept(3, "bob"), s(52)).then_rejected(Rejection::NotFound);
    assert_eq!(back.state().reservation(1).unwrap().offer(), None);
    audited(&back);
}

#[test]
fn an_offer_outlives_an_exchange_that_comes_to_nothing() {
    let offered = anna_has_a_dear_and_a_free_one().when(offer(as_user("anna"), "bob"), s(50));
    let under_way = offered.when(exchange(&[10], &[2]), s(51)).reloaded();
    under_way.clone().when(accept(3, "bob"), s(52)).then_rejected(Rejection::ChangeUnderWay);
    let refused = DebitOutcome::Refused { balance: points(1) };
    let failed = under_way.clone().when(answered(4, refused), s(52)).reloaded();
    audited(&failed.when(accept(3, "bob"), s(53)).reloaded());
    let done = under_way.when(answered(4, debited(1, s(52))), s(52)).reloaded();
    done.when(accept(3, "bob"), s(53)).then_rejected(Rejection::NotFound);
}

#[test]
fn who_has_had_an_order_has_it_in_their_list_once() {
    let then = anna_paid().when(hand_on("bob"), s(50)).when(hand_on("anna"), s(51)).when(hand_on("bob"), s(52));
    for name in ["anna", "bob"] {
        let own = (user(name), Part::Reservation(1));
        assert_eq!(then.subject().rows.listed.iter().filter(|line| **line == own).count(), 1, "{name}");
    }
}

#[test]
fn what_was_given_away_costs_no_points_where_those_are_no_method() {
    let by_card = Definition { payment_methods: vec!["card".into()], currency: Some(Currency::KRW), ..definition() };
    let then = given::<ConcertOption>(s(0), [Event::OptionDefined { option: OPTION, definition: Box::new(by_card) }]);
    let free = Office { complimentary: true, ..Office::default() };
    let then = then.when(hold_by(free, Wish::Seats(smallvec![10])), s(20));
    then.clone().when(exchange(&[10], &[2]), s(30)).then_rejected(Rejection::PriceWouldRise);
    assert_eq!(then.when(exchange(&[10], &[11]), s(30)).events().len(), 1);
}
