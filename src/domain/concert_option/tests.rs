//! Tables of given/when/then. Whole sagas and random histories are in `crate::testing::world`'s tests.

use smallvec::smallvec;

use super::*;
use crate::domain::seating_plan::{Limits, PlanHash, SeatingPlan};
use crate::domain::{ConcertId, Currency, idempotency};
use crate::testing::scenario::{Scenario, given};

mod blocking;
mod by_provider;
mod calling_off;
mod changing;
mod deleting;
mod replanning;
mod rules;
mod selling;

const OPTION: OptionId = OptionId(5);

/// Seconds after the definition.
fn s(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000_000 + seconds * 1000)
}

fn points(n: u64) -> Points {
    Points::new(n).unwrap()
}

fn user(name: &str) -> UserId {
    name.parse().unwrap()
}

fn anna() -> UserId {
    user("anna")
}

fn as_user(name: &str) -> Caller {
    Caller::User(user(name))
}

fn payment_id(no: u64) -> PaymentId {
    PaymentId { option: OPTION, no }
}

/// The idempotency key `scope` of anna with the payload `payload`.
fn key(scope: u8, payload: u8) -> Key {
    Key { scope: [scope; 16], payload: [payload; 16], caller: anna() }
}

fn with_key(scope: u8, payload: u8) -> Request {
    Request { key: Some(key(scope, payload)), refused: None }
}

/// Two rows of ten seats: 0 to 9 in category "A" for 10 points, 10 to 19 in "B" for nothing. And two areas.
pub(crate) fn definition() -> Definition {
    Definition {
        concert: ConcertId(3),
        starts_at: s(10_000),
        window: Window { sale_opens_at: Some(s(10)), sale_closes_at: s(1000), refundable_until: Some(s(2000)) },
        plan: PlanHash([0; 32]),
        seat_count: 20,
        prices: vec![
            Price { category: "A".into(), points: points(10) },
            Price { category: "B".into(), points: Points::ZERO },
        ],
        areas: vec![
            Area { name: "Floor".into(), capacity: 5, category: "A".into() },
            Area { name: "Lawn".into(), capacity: 3, category: "B".into() },
        ],
        hold_seconds: 300,
        payment_seconds: 60,
        max_seats_per_reservation: 4,
        max_seats_per_user: 6,
        focus: None,
        accessible: Vec::new(),
        not_for_sale: SeatSet::default(),
        payment_methods: Vec::new(),
        currency: None,
        amended: None,
    }
}

pub(crate) fn seating_plan() -> Arc<SeatingPlan> {
    let row = |category: &str| {
        let seat = |k| format!(r#"{{"seat_guid":"{category}{k}","seat_number":"{k}","category":"{category}"}}"#);
        let seats: Vec<_> = (1..=10).map(seat).collect();
        format!(r#"{{"row_number":"{category}","seats":[{}]}}"#, seats.join(","))
    };
    let json = format!(
        r#"{{"name":"House","categories":[{{"name":"A"}},{{"name":"B"}}],"zones":[{{"name":"Hall","rows":[{},{}]}}]}}"#,
        row("A"),
        row("B")
    );
    Arc::new(SeatingPlan::parse(json.as_bytes(), &Limits::default()).unwrap())
}

fn plan() -> Arc<PricedPlan> {
    Arc::new(PricedPlan::new(OPTION, definition(), seating_plan()))
}

fn defined() -> Scenario<ConcertOption> {
    given(s(0), [Event::OptionDefined { option: OPTION, definition: Box::new(definition()) }])
}

fn best(count: u32) -> Wish {
    Wish::Best(BestAvailable { count, category: None, zone: None, adjacent: true, companions: 0 })
}

fn places(area: u16, count: u32) -> AreaPlaces {
    AreaPlaces { area, count }
}

fn hold_for(name: &str, wish: Wish, request: Request) -> Command {
    Command::Hold { user: user(name), wish, token: None, note: None, plan: plan(), request }
}

fn hold(name: &str, seats: &[u32]) -> Command {
    hold_for(name, Wish::Seats(seats.into()), Request::default())
}

fn held(reservation: u64, name: &str, seats: &[u32], expires_at: Timestamp) -> Event {
    let amount = points(10 * seats.iter().filter(|seat| **seat < 10).count() as u64);
    let prices = seats.iter().map(|seat| points(if *seat < 10 { 10 } else { 0 })).collect();
    let (seats, areas, from_blocked) = (seats.into(), smallvec![], Vec::new());
    let (user, token, key) = (user(name), None, None);
    Event::SeatsHeld {
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
        by: None,
        note: None,
    }
}

fn release(reservation: u64, caller: Caller) -> Command {
    Command::Release { reservation, caller }
}

fn pay(reservation: u64, name: &str) -> Command {
    Command::BeginPayment { reservation, user: user(name), request: Request::default() }
}

fn refund(payment: u64, caller: Caller) -> Command {
    Command::Refund { payment, caller, request: Request::default() }
}

fn block(seats: &[u32]) -> Command {
    Command::Block { blocks: Box::new(Blocks::seats(seats.iter().copied())), request: Request::default() }
}

fn unblock(seats: &[u32]) -> Command {
    Command::Unblock { blocks: Box::new(Blocks::seats(seats.iter().copied())), request: Request::default() }
}

fn blocked(seats: &[u32]) -> Event {
    Event::SeatsBlocked {
        seats: seats.into(),
        key: None,
        many: SeatSet::default(),
        by: None,
        areas: Vec::new(),
        reason: None,
    }
}

fn unblocked(seats: &[u32]) -> Event {
    Event::SeatsUnblocked {
        seats: seats.into(),
        key: None,
        many: SeatSet::default(),
        by: None,
        areas: Vec::new(),
        reason: None,
    }
}

fn started(payment: u64, reservation: u64, deadline: Timestamp) -> Event {
    Event::PaymentStarted { payment, reservation, deadline, key: None }
}

fn confirmed(payment: u64, balance: u64, paid_at: Timestamp) -> Event {
    Event::PaymentConfirmed { payment, balance: points(balance), paid_at }
}

fn answered(payment: u64, outcome: DebitOutcome) -> Command {
    Command::DebitAnswered { payment, outcome }
}

fn debited(balance: u64, at: Timestamp) -> DebitOutcome {
    DebitOutcome::Debited { balance: points(balance), at }
}

fn debit(no: u64, amount: u64, settled_below: u64) -> Message {
    let payment = payment_id(no);
    Message::Wallet(anna(), wallet::Command::Debit { payment, amount: points(amount), settled_below })
}

fn cancel(no: u64, settled_below: u64) -> Message {
    Message::Wallet(anna(), wallet::Command::CancelDebit { payment: payment_id(no), settled_below })
}

fn credit(no: u64, amount: u64, settled_below: u64) -> Message {
    let refund = RefundId { option: OPTION, no };
    Message::Wallet(anna(), wallet::Command::Credit { refund, amount: points(amount), settled_below })
}

/// Anna holds seats 0 and 1 as reservation 1, from 20 s to 320 s.
fn anna_holds() -> Scenario<ConcertOption> {
    defined().given(s(20), [held(1, "anna", &[0, 1], s(320))])
}

/// And pays them from 30 s on, as payment 2.
fn anna_pays() -> Scenario<ConcertOption> {
    anna_holds().given(s(30), [started(2, 1, s(90))])
}

/// And has paid at 40 s.
fn anna_paid() -> Scenario<ConcertOption> {
    anna_pays().given(s(40), [confirmed(2, 5, s(39))])
}

/// And wants it back from 50 s on, as refund 3.
fn anna_wants_it_back() -> Scenario<ConcertOption> {
    anna_paid().given(s(50), [Event::PaymentRefunded { refund: 3, payment: 2, key: None, by: None }])
}

/// And has it back at 60 s.
fn anna_has_it_back() -> Scenario<ConcertOption> {
    anna_wants_it_back()
        .given(s(60), [Event::RefundCredited { refund: 3, balance: points(25), refunded_at: s(59), left: None }])
}

fn reservation(status: ReservationStatus) -> Reservation {
    Reservation {
        user: anna(),
        seats: smallvec![0, 1],
        areas: smallvec![],
        amount: points(20),
        created_at: s(20),
        expires_at: s(320),
        token: None,
        status,
        steps: smallvec![],
        prices: [points(10)].into_iter().collect(),
        course: None,
        note: None,
    }
}

/// The same, after these steps: what, when, and the lsn.
fn after(steps: &[(StepKind, Timestamp, u64)], reservation: Reservation) -> Reservation {
    let steps = steps.iter().map(|&(step, at, lsn)| SagaStep { step, at, lsn: Lsn(lsn) }).collect();
    Reservation { steps, ..reservation }
}

fn statuses(scenario: &Scenario<ConcertOption>, seats: &[u32]) -> Vec<(SeatStatus, u64)> {
    let map = scenario.state().seats();
    seats.iter().map(|seat| (map.status(*seat), map.owner(*seat))).collect()
}

fn limit(limit: u64, already: u64) -> Rejection {
    Rejection::LimitExceeded { limit, already }
}

fn conflicts(seats: &[u32]) -> Rejection {
    Rejection::SeatsUnavailable { conflicts: seats.into() }
}

#[test]
fn is_defined_once_and_acknowledges_each_time() {
    let definition = Box::new(definition());
    let define = Command::Define { option: OPTION, definition: definition.clone() };
    let acknowledged = [Message::Catalogue(catalogue::Command::OptionDefined { option: OPTION })];
    given::<ConcertOption>(s(0), [])
        .when(define.clone(), s(0))
        .then_events([Event::OptionDefined { option: OPTION, definition }])
        .then_tells(acknowledged.clone())
        .then_reply(Reply::Done)
        .when(define, s(9))
        .then_events([])
        .then_tells(acknowledged)
        .then_reply(Reply::Done);
}

#[test]
fn an_option_that_is_not_defined_knows_nothing() {
    let nothing = || given::<ConcertOption>(s(0), []);
    for command in [
        hold("anna", &[0]),
        hold_for("anna", best(1), Request::default()),
        release(1, as_user("anna")),
        release(1, Caller::Admin),
        pay(1, "anna"),
        refund(1, Caller::Admin),
        block(&[0]),
        unblock(&[0]),
        Command::Reschedule { patch: WindowPatch::default() },
    ] {
        nothing().when(command, s(20)).then_rejected(Rejection::NotFound);
    }
    for command in [
        answered(1, DebitOutcome::Cancelled),
        Command::CreditAnswered { refund: 1, balance: points(1), at: s(1) },
        Command::TokenCompleted { reservation: 1 },
    ] {
        nothing().when(command, s(20)).then_nothing().then_answer(Answer::Silent);
    }
}

#[test]
fn the_sale_window() {
    // It opens at 10 s, inclusive, and closes at 1,000 s, exclusive.
    for (millis, open) in [(9_999, false), (10_000, true), (999_999, true), (1_000_000, false)] {
        let at = s(0).plus_millis(millis);
        let then = defined().when(hold("anna", &[0]), at);
        if open {
            then.then_events([held(1, "anna", &[0], at.plus_millis(300_000))]);
        } else {
            then.then_rejected(Rejection::SaleNotOpen);
        }
        let status = if open {
            OptionStatus::OnSale
        } else if millis < 10_000 {
            OptionStatus::Scheduled
        } else {
            OptionStatus::Closed
        };
        assert_eq!(defined().state().status(at), status);
    }
    let patch = WindowPatch { sale_opens_at: Some(None), sale_closes_at: Some(None), refundable_until: Some(None) };
    let window = Window { sale_opens_at: None, sale_closes_at: s(10_000), refundable_until: None };
    let moved = defined()
        .when(Command::Reschedule { patch }, s(5))
        .then_events([Event::OptionRescheduled { window, by: None }])
        .then_reply(Reply::Done)
        .when(Command::Reschedule { patch }, s(5))
        .then_nothing()
        .then_reply(Reply::Done)
        .when(hold("anna", &[0]), s(6))
        .then_events([held(1, "anna", &[0], s(306))])
        .reloaded();
    assert_eq!(moved.state().window(), window);
    // Who holds may pay, be the sale over or not.
    defined().given(s(900), [held(1, "anna", &[0, 1], s(1200))]).when(pay(1, "anna"), s(1100)).then_events([started(
        2,
        1,
        s(1160),
    )]);
}

#[test]
fn holds_of_named_seats() {
    defined()
        .when(hold("anna", &[0, 12]), s(20))
        .then_events([held(1, "anna", &[0, 12], s(320))])
        .then_tells([])
        .then_reply(Reply::Reservation(
            1,
            Box::new(Reservation {
                seats: smallvec![0, 12],
                amount: points(10),
                prices: [points(10), Points::ZERO].into_iter().collect(),
                ..reservation(ReservationStatus::Held)
            }),
        ));
    let then = anna_holds().given(s(20), [blocked(&[5])]).when(hold("bob", &[0, 4, 5]), s(21));
    let then = then.then_rejected(conflicts(&[0, 5]));
    assert_eq!(statuses(&then, &[0, 4, 5]), [(SeatStatus::Held, 1), (SeatStatus::Free, 0), (SeatStatus::Blocked, 0)]);
    anna_paid().when(hold("bob", &[1]), s(50)).then_rejected(conflicts(&[1]));
    // Seats that the plan does not have are nobody's to hold.
    defined().when(hold("anna", &[19, 20]), s(20)).then_rejected(Rejection::NotFound);
    assert_eq!(anna_holds().state().counts(), Counts { available: 26, held: 2, sold: 0, blocked: 0 });
}

#[test]
fn holds_of_the_best_seats() {
    let then = defined().when(hold_for("anna", best(4), Request::default()), s(20));
    then.then_events([held(1, "anna", &[3, 4, 5, 6], s(320))]);
    // Nowhere are two free seats side by side.
    let odd: Vec<u32> = (0..20).filter(|seat| seat % 2 == 1).collect();
    let comb = || defined().given(s(20), [blocked(&odd)]);
    comb().when(hold_for("anna", best(2), Request::default()), s(21)).then_rejected(Rejection::NotEnoughSeats);
    let anywhere = BestAvailable { count: 2, category: Some(1), zone: None, adjacent: false, companions: 0 };
    let then = comb().when(hold_for("anna", Wish::Best(anywhere), Request::default()), s(21));
    let [Event::SeatsHeld { seats, amount, .. }] = then.events() else { panic!("{:?}", then.events()) };
    assert!(seats.len() == 2 && seats.iter().all(|seat| (10..20).contains(seat) && seat % 2 == 0), "{seats:?}");
    assert_eq!(*amount, Points::ZERO);
    let unknown = BestAvailable { count: 1, category: Some(2), zone: None, adjacent: true, companions: 0 };
    defined()
        .when(hold_for("anna", Wish::Best(unknown), Request::default()), s(21))
        .then_rejected(Rejection::NotEnoughSeats);
}

#[test]
fn holds_of_places_are_all_or_nothing() {
    let wish = |areas: &[AreaPlaces]| hold_for("anna", Wish::Areas(areas.into()), Request::default());
    let then = defined().when(wish(&[places(0, 3), places(1, 1)]), s(20)).then_events([Event::SeatsHeld {
        reservation: 1,
        user: anna(),
        seats: smallvec![],
        areas: smallvec![places(0, 3), places(1, 1)],
        amount: points(30),
        expires_at: s(320),
        token: None,
        key: None,
        prices: [points(10), Points::ZERO].into_iter().collect(),
        from_blocked: Vec::new(),
        by: None,
        note: None,
    }]);
    let state = |held| AreaState { held, seq: Lsn(2), ..AreaState::default() };
    assert_eq!(then.state().areas(), [state(3), state(1)]);
    assert_eq!(then.state().places_of(&anna()), 4);
    assert_eq!(then.state().counts(), Counts { available: 24, held: 4, sold: 0, blocked: 0 });
    let then = then
        .when(hold_for("bob", Wish::Areas(smallvec![places(1, 1), places(0, 3)]), Request::default()), s(21))
        .then_rejected(Rejection::NotEnoughSeats)
        .when(hold_for("bob", Wish::Areas(smallvec![places(1, 2), places(0, 2)]), Request::default()), s(21));
    assert_eq!(then.events().len(), 1);
    then.when(hold_for("carl", Wish::Areas(smallvec![places(1, 1)]), Request::default()), s(22))
        .then_rejected(Rejection::NotEnoughSeats)
        .when(hold_for("carl", Wish::Areas(smallvec![places(2, 1)]), Request::default()), s(22))
        .then_rejected(Rejection::NotFound);
    // Paid, given back, and free again.
    let then = defined()
        .when(wish(&[places(0, 2)]), s(20))
        .given(s(30), [started(2, 1, s(90)), confirmed(2, 0, s(30))])
        .reloaded();
    assert_eq!(then.state().areas()[0], AreaState { sold: 2, seq: Lsn(4), ..AreaState::default() });
    let then = then.given(s(40), [Event::PaymentRefunded { refund: 3, payment: 2, key: None, by: None }]);
    assert_eq!(then.state().areas()[0], AreaState { seq: Lsn(5), ..AreaState::default() });
}

#[test]
fn limits() {
    let areas = |count| hold_for("anna", Wish::Areas(smallvec![places(0, count)]), Request::default());
    defined().when(hold("anna", &[0, 1, 2, 3, 4]), s(20)).then_rejected(limit(4, 0));
    anna_holds().when(hold("anna", &[2, 3, 4, 5, 6]), s(21)).then_rejected(limit(4, 2));
    let four = |scenario: Scenario<ConcertOption>, at| scenario.when(hold("anna", &[2, 3, 4, 5]), at);
    let six = four(anna_holds(), s(21)).then_events([held(2, "anna", &[2, 3, 4, 5], s(321))]);
    six.when(hold("anna", &[6]), s(22))
        .then_rejected(limit(6, 6))
        .when(areas(1), s(22))
        .then_rejected(limit(6, 6))
        .when(hold("bob", &[6]), s(22))
        .then_events([held(3, "bob", &[6], s(322))]);
    // Paying and confirmed count too; what was released, expired or refunded does not.
    for (scenario, at, already) in [(anna_pays(), s(31), 2), (anna_paid(), s(41), 2), (anna_paid(), s(500), 2)] {
        let no = if already == 2 { 3 } else { 2 };
        four(scenario, at)
            .then_events([held(no, "anna", &[2, 3, 4, 5], at.plus_millis(300_000))])
            .when(hold("anna", &[6]), at)
            .then_rejected(limit(6, 6));
    }
    for (scenario, at) in [
        (anna_holds().given(s(30), [Event::ReservationReleased { reservation: 1, by: None }]), s(30)),
        (anna_holds(), s(320)),
        (anna_wants_it_back(), s(50)),
        (anna_has_it_back(), s(60)),
    ] {
        let then = four(scenario, at).reloaded().when(hold("anna", &[6, 7]), at);
        assert!(then.answer().is_ok(), "{:?}", then.answer());
        then.when(hold("anna", &[8]), at).then_rejected(limit(6, 6));
    }
}

#[test]
fn blocks() {
    let then = defined()
        .when(block(&[3, 4]), s(1))
        .then_events([blocked(&[3, 4])])
        .then_reply(Reply::Done)
        .when(block(&[4, 5]), s(2))
        .then_events([blocked(&[5])])
        .then_reply(Reply::Done)
        .when(block(&[3, 4, 5]), s(3))
        .then_nothing()
        .then_reply(Reply::Done)
        .reloaded()
        .when(unblock(&[4, 6]), s(4))
        .then_events([unblocked(&[4])])
        .then_reply(Reply::Done)
        .when(unblock(&[4]), s(5))
        .then_nothing()
        .then_reply(Reply::Done);
    assert_eq!(then.state().counts(), Counts { available: 26, held: 0, sold: 0, blocked: 2 });
    anna_holds().when(block(&[1, 2]), s(21)).then_rejected(conflicts(&[1]));
    anna_pays().when(block(&[0, 1]), s(31)).then_rejected(conflicts(&[0, 1]));
    anna_paid().when(block(&[0, 9]), s(41)).then_rejected(conflicts(&[0]));
    // What was held until now can be blocked now.
    let expired = Event::ReservationsExpired { reservations: vec![1] };
    anna_holds().when(block(&[0]), s(320)).then_events([expired, blocked(&[0])]);
    // Held and sold seats stay as they are.
    anna_paid().when(unblock(&[0]), s(41)).then_nothing();
    for command in [block(&[20]), unblock(&[20])] {
        defined().when(command, s(1)).then_rejected(Rejection::NotFound);
    }
}

#[test]
fn blocks_with_a_key() {
    let asked = |seats: &[u32], scope, payload| Command::Block {
        blocks: Box::new(Blocks::seats(seats.iter().copied())),
        request: with_key(scope, payload),
    };
    let undone = |seats: &[u32], scope, payload| Command::Unblock {
        blocks: Box::new(Blocks::seats(seats.iter().copied())),
        request: with_key(scope, payload),
    };
    let then = defined()
        .when(asked(&[1], 1, 1), s(1))
        .then_events([Event::SeatsBlocked {
            seats: smallvec![1],
            key: Some(key(1, 1)),
            many: SeatSet::default(),
            by: None,
            areas: Vec::new(),
            reason: None,
        }])
        .when(asked(&[1], 1, 1), s(2))
        .then_nothing()
        .then_reply(Reply::Replayed(0))
        .when(asked(&[2], 1, 2), s(3))
        .then_rejected(Rejection::IdempotencyKeyReused)
        .when(undone(&[1], 2, 1), s(4))
        .then_events([Event::SeatsUnblocked {
            seats: smallvec![1],
            key: Some(key(2, 1)),
            many: SeatSet::default(),
            by: None,
            areas: Vec::new(),
            reason: None,
        }])
        .when(undone(&[1], 2, 1), s(5))
        .then_nothing()
        .then_reply(Reply::Replayed(0))
        .when(undone(&[2], 2, 2), s(6))
        .then_rejected(Rejection::IdempotencyKeyReused);
    // A key is remembered even where there was nothing to do; the map has not changed then.
    let seq = then.state().seq();
    assert_eq!(seq, then.state().seats().seq(1));
    let then = then
        .when(undone(&[1], 3, 1), s(7))
        .then_events([Event::SeatsUnblocked {
            seats: smallvec![],
            key: Some(key(3, 1)),
            many: SeatSet::default(),
            by: None,
            areas: Vec::new(),
            reason: None,
        }])
        .reloaded()
        .when(undone(&[1], 3, 1), s(8))
        .then_reply(Reply::Replayed(0));
    assert_eq!(then.state().seq(), seq, "no seat has changed");
    let refused = Request { refused: Some(Rejection::TooManyIdempotencyKeys), ..with_key(4, 1) };
    defined()
        .when(Command::Block { blocks: Box::new(Blocks::seats([1])), request: refused.clone() }, s(1))
        .then_rejected(Rejection::TooManyIdempotencyKeys)
        .when(Command::Unblock { blocks: Box::new(Blocks::seats([1])), request: refused }, s(1))
        .then_rejected(Rejection::TooManyIdempotencyKeys);
}

#[test]
fn a_hold_lasts_until_its_deadline_and_no_longer() {
    let just_before = s(320).minus_millis(1);
    anna_holds().at(just_before).then_nothing().when(hold("bob", &[0]), just_before).then_rejected(conflicts(&[0]));
    anna_holds().when(pay(1, "anna"), just_before).then_events([started(2, 1, just_before.plus_millis(60_000))]);
    let expired = Event::ReservationsExpired { reservations: vec![1] };
    for command in [pay(1, "anna"), release(1, as_user("anna"))] {
        anna_holds().when(command, s(320)).then_events([expired.clone()]).then_tells([]).then_reply(Reply::Archived);
    }
    let then = anna_holds().when(hold("bob", &[0]), s(320)).then_events([expired, held(2, "bob", &[0], s(620))]);
    assert_eq!(then.state().places_of(&anna()), 0);
    let archived = &then.subject().rows.archived[&Part::Reservation(1)];
    let steps = [(StepKind::Held, s(20), 2), (StepKind::Expired, s(320), 3)];
    assert_eq!(Reservation::from_row(1, archived).unwrap(), after(&steps, reservation(ReservationStatus::Expired)));
    // All that is due, in one event, in order.
    let many = [
        held(1, "anna", &[0], s(320)),
        held(2, "bob", &[1], s(320)),
        held(3, "carl", &[2], s(320)),
        Event::ReservationReleased { reservation: 2, by: None },
    ];
    let then = defined().given(s(20), many).given(s(21), [held(4, "dora", &[3], s(321))]);
    assert_eq!(then.state().due(), Some(s(320)));
    let then = then.at(s(320)).then_events([Event::ReservationsExpired { reservations: vec![1, 3] }]);
    assert_eq!(then.state().due(), Some(s(321)));
    assert_eq!(then.at(s(400)).then_events([Event::ReservationsExpired { reservations: vec![4] }]).state().due(), None);
}

#[test]
fn releases() {
    for caller in [as_user("anna"), Caller::Admin] {
        let then = anna_holds()
            .when(release(1, caller.clone()), s(21))
            .then_events([Event::ReservationReleased { reservation: 1, by: None }])
            .then_tells([])
            .then_reply(Reply::Reservation(
                1,
                Box::new(after(&[(StepKind::Held, s(20), 2)], reservation(ReservationStatus::Released))),
            ));
        assert_eq!(statuses(&then, &[0, 1]), [(SeatStatus::Free, 0); 2]);
        assert!(then.subject().rows.open_holds.is_empty());
        then.reloaded().when(release(1, caller), s(22)).then_nothing().then_reply(Reply::Archived);
    }
    anna_holds().when(release(1, as_user("bob")), s(21)).then_rejected(Rejection::NotFound);
    for no in [0, 2, u64::MAX] {
        anna_holds().when(release(no, Caller::Admin), s(21)).then_rejected(Rejection::NotFound);
    }
    for scenario in [anna_pays(), anna_paid(), anna_wants_it_back()] {
        scenario.when(release(1, Caller::Admin), s(51)).then_rejected(Rejection::ReservationNotHeld);
    }
    anna_has_it_back().when(release(1, Caller::Admin), s(61)).then_reply(Reply::Archived);
}

#[test]
fn payments_begin() {
    anna_holds()
        .when(pay(1, "anna"), s(30))
        .then_events([started(2, 1, s(90))])
        .then_tells([debit(2, 20, 2)])
        .then_answer(Answer::Park { ticket: 2, role: Role::Starter })
        .then_owes([debit(2, 20, 2)]);
    anna_holds().when(pay(1, "bob"), s(30)).then_rejected(Rejection::NotFound);
    anna_holds().when(pay(2, "anna"), s(30)).then_rejected(Rejection::NotFound);
    anna_pays()
        .when(pay(1, "anna"), s(31))
        .then_nothing()
        .then_answer(Answer::Park { ticket: 2, role: Role::Other })
        .when(pay(1, "bob"), s(31))
        .then_rejected(Rejection::NotFound);
    anna_paid().when(pay(1, "anna"), s(41)).then_rejected(Rejection::AlreadyPaid { payment: payment_id(2) });
    anna_wants_it_back().when(pay(1, "anna"), s(51)).then_rejected(Rejection::ReservationNotHeld);
    anna_has_it_back().when(pay(1, "anna"), s(61)).then_reply(Reply::Archived);
    // What is free is paid like anything else.
    defined().given(s(20), [held(1, "anna", &[10], s(320))]).when(pay(1, "anna"), s(30)).then_tells([debit(2, 0, 2)]);
}

#[test]
fn a_payment_pins_its_seats() {
    // The hold would run out at 320 s.
    let pays = || anna_holds().given(s(310), [started(2, 1, s(370))]);
    assert_eq!(pays().state().due(), None);
    pays().at(s(350)).then_nothing().when(hold("bob", &[0]), s(350)).then_rejected(conflicts(&[0]));
    // Past its own deadline it is called off, and not before.
    let just_before = s(370).minus_millis(1);
    pays().at(just_before).then_owes([debit(2, 20, 2)]);
    pays().reloaded().at(s(370)).then_nothing().then_owes([cancel(2, 2)]);
    // The debit may have happened after all.
    pays().when(answered(2, debited(5, s(369))), s(371)).then_events([confirmed(2, 5, s(369))]).then_owes([]);
}

#[test]
fn payments_are_confirmed() {
    let paid = Payment {
        reservation: 1,
        user: anna(),
        amount: points(20),
        started_at: s(30),
        deadline: s(90),
        status: PaymentStatus::Completed,
        balance: points(5),
        paid_at: s(39),
        key: None,
        provider: None,
        legs: Vec::new(),
        crediting: 0,
        complimentary: false,
    };
    let then = anna_pays()
        .when(answered(2, debited(5, s(39))), s(40))
        .then_events([confirmed(2, 5, s(39))])
        .then_tells([])
        .then_answer(Answer::Settle {
            ticket: 2,
            starter: Ok(Reply::Paid(2, Box::new(paid.clone()))),
            duplicate: Ok(Reply::Replayed(2)),
            other: Err(Rejection::AlreadyPaid { payment: payment_id(2) }),
        })
        .then_owes([]);
    assert_eq!(statuses(&then, &[0, 1]), [(SeatStatus::Sold, 1); 2]);
    assert_eq!(then.state().payment(2), Some(&paid));
    assert!(then.subject().rows.open_holds.is_empty());
    // Whatever comes after that changes nothing.
    let again = [answered(2, debited(5, s(39))), answered(2, DebitOutcome::Cancelled), answered(1, debited(5, s(39)))];
    let late = answered(2, DebitOutcome::Refused { balance: points(1) });
    let then = again
        .into_iter()
        .chain([late])
        .fold(then.reloaded(), |then, command| then.when(command, s(41)).then_nothing().then_answer(Answer::Silent));
    then.at(s(9_999)).then_nothing();
}

#[test]
fn payments_fail() {
    let refused = DebitOutcome::Refused { balance: points(19) };
    let insufficient = Rejection::InsufficientPoints { balance: points(19), amount: points(20) };
    let not_enough = FailureReason::InsufficientPoints { balance: points(19) };
    for (outcome, reason, rejection) in [
        (refused, not_enough, insufficient),
        (DebitOutcome::Cancelled, FailureReason::TimedOut, Rejection::PaymentTimedOut),
    ] {
        let failed = Event::PaymentFailed { payment: 2, reason };
        let settle = Answer::Settle {
            ticket: 2,
            starter: Err(rejection.clone()),
            duplicate: Err(rejection.clone()),
            other: Err(rejection),
        };
        // In time, it is held again, until its old deadline.
        let then = anna_pays()
            .when(answered(2, outcome), s(320).minus_millis(1))
            .then_events([failed.clone()])
            .then_tells([])
            .then_answer(settle.clone())
            .then_owes([])
            .reloaded();
        let failed_at = s(320).minus_millis(1);
        let steps =
            [(StepKind::Held, s(20), 2), (StepKind::PaymentStarted, s(30), 3), (StepKind::PaymentFailed, failed_at, 4)];
        let held = after(&steps, reservation(ReservationStatus::Held));
        assert_eq!(then.state().reservation(1), Some(&held));
        assert_eq!(then.state().due(), Some(s(320)));
        let archived = Payment::from_row(2, &then.subject().rows.archived[&Part::Payment(2)]).unwrap();
        assert_eq!(archived.status, PaymentStatus::Failed { reason });
        let expired = Event::ReservationsExpired { reservations: vec![1] };
        then.clone()
            .when(pay(1, "anna"), s(320).minus_millis(1))
            .then_tells([debit(3, 20, 3)])
            .then_answer(Answer::Park { ticket: 3, role: Role::Starter });
        then.at(s(320)).then_events([expired.clone()]);
        // Late, it expires at once.
        let then = anna_pays().reloaded().when(answered(2, outcome), s(320)).then_events([failed, expired]);
        let then = then.then_answer(settle).then_owes([]);
        assert_eq!(statuses(&then, &[0, 1]), [(SeatStatus::Free, 0); 2]);
        assert_eq!(then.state().due(), None);
        assert!(then.subject().rows.open_holds.is_empty());
        then.when(pay(1, "anna"), s(320)).then_reply(Reply::Archived);
    }
}

#[test]
fn a_used_token_is_owed_until_it_is_acknowledged() {
    let hold = Command::Hold {
        user: anna(),
        wish: Wish::Seats(smallvec![0, 1]),
        token: Some(77),
        note: None,
        plan: plan(),
        request: Request::default(),
    };
    let complete =
        waiting_room::Command::CompleteToken { no: 77, reservation: ReservationId { option: OPTION, no: 1 } };
    let complete = Message::Room(ConcertId(3), complete);
    let then = defined()
        .when(hold, s(20))
        .when(pay(1, "anna"), s(30))
        .then_owes([debit(2, 20, 2)])
        .when(answered(2, debited(5, s(39))), s(40))
        .then_tells([complete.clone()])
        .then_owes([complete.clone()])
        .reloaded()
        .then_owes([complete.clone()]);
    // It is owed even when the payment has been given back meanwhile, and is still a step of the reservation.
    let refunded = then
        .clone()
        .given(s(50), [Event::PaymentRefunded { refund: 3, payment: 2, key: None, by: None }])
        .given(s(60), [Event::RefundCredited { refund: 3, balance: points(25), refunded_at: s(59), left: None }])
        .reloaded()
        .then_owes([complete])
        .when(Command::TokenCompleted { reservation: 1 }, s(61))
        .then_events([Event::TokenCompleted { reservation: 1 }])
        .then_owes([]);
    assert_eq!(refunded.state().reservation(1), None);
    let archived = Reservation::from_row(1, &refunded.subject().rows.archived[&Part::Reservation(1)]).unwrap();
    let steps: Vec<_> = archived.steps.iter().map(|step| step.step).collect();
    let way = [
        StepKind::Held,
        StepKind::PaymentStarted,
        StepKind::PaymentConfirmed,
        StepKind::RefundStarted,
        StepKind::RefundCredited,
        StepKind::TokenCompleted,
    ];
    assert_eq!(steps, way);
    then.when(Command::TokenCompleted { reservation: 1 }, s(41))
        .then_events([Event::TokenCompleted { reservation: 1 }])
        .then_tells([])
        .then_answer(Answer::Silent)
        .then_owes([])
        .when(Command::TokenCompleted { reservation: 1 }, s(42))
        .then_nothing()
        .then_answer(Answer::Silent);
}

#[test]
fn refunds() {
    let refunded = Event::PaymentRefunded { refund: 3, payment: 2, key: None, by: None };
    let just_before = s(2000).minus_millis(1);
    for (caller, at) in [(as_user("anna"), just_before), (Caller::Admin, just_before), (Caller::Admin, s(9_999))] {
        let then = anna_paid()
            .when(refund(2, caller), at)
            .then_events([refunded.clone()])
            .then_tells([credit(3, 20, 3)])
            .then_answer(Answer::Park { ticket: 3, role: Role::Starter })
            .reloaded()
            .then_owes([credit(3, 20, 3)]);
        assert_eq!(statuses(&then, &[0, 1]), [(SeatStatus::Free, 0); 2]);
        assert_eq!(then.state().places_of(&anna()), 0);
    }
    anna_paid().when(refund(2, as_user("anna")), s(2000)).then_rejected(Rejection::NotRefundable);
    anna_paid().when(refund(2, as_user("bob")), s(41)).then_rejected(Rejection::NotFound);
    anna_paid().when(refund(3, Caller::Admin), s(41)).then_rejected(Rejection::NotFound);
    anna_pays().when(refund(2, Caller::Admin), s(41)).then_rejected(Rejection::NotRefundable);
    let never = Window { refundable_until: None, ..definition().window };
    anna_paid()
        .given(s(41), [Event::OptionRescheduled { window: never, by: None }])
        .when(refund(2, as_user("anna")), s(42))
        .then_rejected(Rejection::NotRefundable);
    // Twice: while the credit is owed, the second waits for it.
    for caller in [as_user("anna"), Caller::Admin] {
        anna_wants_it_back()
            .when(refund(2, caller.clone()), s(51))
            .then_nothing()
            .then_answer(Answer::Park { ticket: 3, role: Role::Other });
        anna_has_it_back().when(refund(2, caller), s(61)).then_nothing().then_reply(Reply::Archived);
    }
    anna_wants_it_back().when(refund(2, as_user("bob")), s(51)).then_rejected(Rejection::NotFound);
    // The seats can be sold again before the points are there.
    anna_wants_it_back().when(hold("bob", &[0]), s(51)).then_events([held(4, "bob", &[0], s(351))]);
}

#[test]
fn refunds_are_credited() {
    let done = Refund {
        payment: 2,
        user: anna(),
        amount: points(20),
        requested_at: s(50),
        balance: points(25),
        refunded_at: s(59),
        key: None,
    };
    let credited = Command::CreditAnswered { refund: 3, balance: points(25), at: s(59) };
    let then = anna_wants_it_back()
        .reloaded()
        .when(credited.clone(), s(60))
        .then_events([Event::RefundCredited { refund: 3, balance: points(25), refunded_at: s(59), left: None }])
        .then_tells([])
        .then_answer(Answer::Settle {
            ticket: 3,
            starter: Ok(Reply::Refunded(3, Box::new(done.clone()))),
            duplicate: Ok(Reply::Replayed(3)),
            other: Err(Rejection::NotRefundable),
        })
        .then_owes([])
        .when(credited, s(61))
        .then_nothing()
        .then_answer(Answer::Silent);
    let archived = &then.subject().rows.archived;
    assert_eq!(Refund::from_row(3, &archived[&Part::Refund(3)]).unwrap(), done);
    let payment = Payment::from_row(2, &archived[&Part::Payment(2)]).unwrap();
    assert_eq!(payment.status, PaymentStatus::Refunded { refund: 3 });
    let status = Reservation::from_row(1, &archived[&Part::Reservation(1)]).unwrap().status;
    assert_eq!(status, ReservationStatus::Refunded { payment: 2 });
    assert!(then.state().reservations().next().is_none() && then.state().payment(2).is_none());
}

#[test]
fn holds_are_idempotent() {
    let asked = |seats: &[u32], payload| hold_for("anna", Wish::Seats(seats.into()), with_key(1, payload));
    let held = |no, seats: &[u32], at: Timestamp| Event::SeatsHeld {
        reservation: no,
        user: anna(),
        seats: seats.into(),
        areas: smallvec![],
        amount: points(20),
        expires_at: at.plus_millis(300_000),
        token: None,
        key: Some(key(1, 1)),
        prices: [points(10)].into_iter().collect(),
        from_blocked: Vec::new(),
        by: None,
        note: None,
    };
    let then = defined().when(asked(&[0, 1], 1), s(20)).then_events([held(1, &[0, 1], s(20))]).reloaded();
    let then = then
        .when(asked(&[0, 1], 1), s(21))
        .then_nothing()
        .then_reply(Reply::Replayed(1))
        .when(asked(&[2], 2), s(22))
        .then_rejected(Rejection::IdempotencyKeyReused);
    // The answer outlives the reservation, the sale, and what stands against a new one.
    let refused = Request { refused: Some(Rejection::QueueTokenRequired), ..with_key(1, 1) };
    let again = hold_for("anna", Wish::Seats(smallvec![0, 1]), refused);
    then.when(again, s(2000)).then_reply(Reply::Replayed(1));
    for refused in [Rejection::QueueTokenRequired, Rejection::QueueTokenNotActive, limit(20, 20)] {
        let request = Request { refused: Some(refused.clone()), ..with_key(2, 1) };
        defined().when(hold_for("anna", best(1), request), s(20)).then_rejected(refused);
    }
    // Only what went well is remembered.
    anna_holds()
        .when(asked(&[1, 2], 1), s(21))
        .then_rejected(conflicts(&[1]))
        .when(asked(&[2, 3], 1), s(22))
        .then_events([held(2, &[2, 3], s(22))]);
    // For 24 hours.
    let day = idempotency::RETENTION_MILLIS;
    let long = Window { sale_closes_at: s(1_000_000), ..definition().window };
    let then =
        defined().given(s(0), [Event::OptionRescheduled { window: long, by: None }]).when(asked(&[0, 1], 1), s(20));
    then.clone().when(asked(&[0, 1], 1), s(20).plus_millis(day - 1)).then_reply(Reply::Replayed(1));
    let at = s(20).plus_millis(day);
    let then = then.at(at).when(asked(&[0, 1], 1), at).then_events([held(2, &[0, 1], at)]);
    // And then its row goes, once another comes.
    let other = hold_for("anna", Wish::Seats(smallvec![5]), with_key(9, 1));
    let then = then.when(other, at.plus_millis(day));
    let keys = then.subject().rows.live.keys().filter(|part| matches!(part, Part::Key(_)));
    assert_eq!(keys.collect::<Vec<_>>(), [&Part::Key([9; 16])]);
}

#[test]
fn payments_are_idempotent() {
    let asked =
        |scope, payload| Command::BeginPayment { reservation: 1, user: anna(), request: with_key(scope, payload) };
    let started = |no| Event::PaymentStarted { payment: no, reservation: 1, deadline: s(90), key: Some(key(1, 1)) };
    let park = |role| Answer::Park { ticket: 2, role };
    let then = anna_holds().when(asked(1, 1), s(30)).then_events([started(2)]).then_answer(park(Role::Starter));
    let then = then
        .reloaded()
        .when(asked(1, 1), s(31))
        .then_nothing()
        .then_answer(park(Role::Duplicate))
        .when(asked(1, 2), s(31))
        .then_rejected(Rejection::IdempotencyKeyReused)
        .when(asked(2, 1), s(31))
        .then_answer(park(Role::Other))
        .when(pay(1, "anna"), s(31))
        .then_answer(park(Role::Other));
    let paid = then.clone().when(answered(2, debited(5, s(39))), s(40)).reloaded();
    paid.when(asked(1, 1), s(41))
        .then_nothing()
        .then_reply(Reply::Replayed(2))
        .when(asked(1, 2), s(41))
        .then_rejected(Rejection::IdempotencyKeyReused)
        .when(asked(2, 1), s(41))
        .then_rejected(Rejection::AlreadyPaid { payment: payment_id(2) });
    // A failure is not remembered: the same key begins anew.
    then.when(answered(2, DebitOutcome::Refused { balance: points(0) }), s(30 + 1))
        .when(asked(1, 1), s(30 + 1))
        .then_answer(Answer::Park { ticket: 3, role: Role::Starter });
    let refused = Request { refused: Some(Rejection::TooManyIdempotencyKeys), ..with_key(3, 1) };
    anna_holds()
        .when(Command::BeginPayment { reservation: 1, user: anna(), request: refused }, s(30))
        .then_rejected(Rejection::TooManyIdempotencyKeys);
}

#[test]
fn a_key_begins_one_payment_at_a_time() {
    let asked =
        |reservation, payload| Command::BeginPayment { reservation, user: anna(), request: with_key(1, payload) };
    let begun = anna_holds().when(hold("anna", &[5]), s(20)).when(asked(1, 1), s(30));
    begun
        .then_answer(Answer::Park { ticket: 3, role: Role::Starter })
        .reloaded()
        .when(asked(2, 2), s(31))
        .then_rejected(Rejection::IdempotencyKeyReused)
        .when(answered(3, DebitOutcome::Refused { balance: points(0) }), s(32))
        .when(asked(2, 2), s(33))
        .then_answer(Answer::Park { ticket: 4, role: Role::Starter });
}

#[test]
fn refunds_are_idempotent() {
    let asked =
        |scope, payload| Command::Refund { payment: 2, caller: as_user("anna"), request: with_key(scope, payload) };
    let park = |role| Answer::Park { ticket: 3, role };
    let then = anna_paid()
        .when(asked(1, 1), s(50))
        .then_events([Event::PaymentRefunded { refund: 3, payment: 2, key: Some(key(1, 1)), by: None }])
        .then_answer(park(Role::Starter))
        .reloaded()
        .when(asked(1, 1), s(51))
        .then_answer(park(Role::Duplicate))
        .when(asked(1, 2), s(51))
        .then_rejected(Rejection::IdempotencyKeyReused)
        .when(asked(2, 1), s(51))
        .then_answer(park(Role::Other));
    then.when(Command::CreditAnswered { refund: 3, balance: points(25), at: s(59) }, s(60))
        .reloaded()
        .when(asked(1, 1), s(61))
        .then_nothing()
        .then_reply(Reply::Replayed(3))
        .when(asked(1, 2), s(61))
        .then_rejected(Rejection::IdempotencyKeyReused)
        .when(asked(2, 1), s(61))
        .then_reply(Reply::Archived);
    let refused = Request { refused: Some(Rejection::TooManyIdempotencyKeys), ..with_key(3, 1) };
    anna_paid()
        .when(Command::Refund { payment: 2, caller: Caller::Admin, request: refused }, s(50))
        .then_rejected(Rejection::TooManyIdempotencyKeys);
}

#[test]
fn says_what_is_settled_and_owes_in_order() {
    // Four holds; payments 5, 6 and 7 are under way, and 6 has been settled.
    let holds = (1..=4).map(|no| held(no, "anna", &[no as u32 - 1], s(320)));
    let pays = [(5, 1), (6, 2), (7, 3)].map(|(payment, no)| started(payment, no, s(90)));
    let failed = Event::PaymentFailed { payment: 6, reason: FailureReason::TimedOut };
    let then = defined().given(s(20), holds).given(s(30), pays).given(s(31), [failed]);
    let then = then.when(pay(4, "anna"), s(32)).then_tells([debit(8, 10, 5)]);
    let then = then.then_owes([debit(5, 10, 5), debit(7, 10, 5), debit(8, 10, 5)]).reloaded();
    let then = then.when(answered(5, debited(0, s(33))), s(33)).then_owes([debit(7, 10, 7), debit(8, 10, 7)]);
    // A refund is owed like a debit, and holds the mark as well.
    let then = then.when(refund(5, Caller::Admin), s(34)).then_tells([credit(9, 10, 7)]);
    let then = then.when(answered(7, debited(0, s(35))), s(35)).when(answered(8, debited(0, s(35))), s(35));
    let then = then.then_owes([credit(9, 10, 9)]);
    then.when(pay(2, "anna"), s(36)).then_tells([debit(10, 10, 9)]).then_owes([credit(9, 10, 9), debit(10, 10, 9)]);
}

#[test]
fn sold_out() {
    let all: Vec<u32> = (0..20).collect();
    let places = Event::SeatsHeld {
        reservation: 1,
        user: anna(),
        seats: smallvec![],
        areas: smallvec![places(0, 5), places(1, 3)],
        amount: points(50),
        expires_at: s(320),
        token: None,
        key: None,
        prices: [points(10), Points::ZERO].into_iter().collect(),
        from_blocked: Vec::new(),
        by: None,
        note: None,
    };
    let then = defined().given(s(20), [blocked(&all), places]);
    assert_eq!(then.state().status(s(20)), OptionStatus::OnSale, "a hold may come back");
    let then = then.given(s(30), [started(2, 1, s(90)), confirmed(2, 0, s(30))]);
    assert_eq!(then.state().status(s(30)), OptionStatus::SoldOut);
    assert_eq!(then.state().status(s(1000)), OptionStatus::Closed);
    assert_eq!(then.state().counts(), Counts { available: 0, held: 0, sold: 8, blocked: 20 });
}

#[test]
fn lists_and_counts() {
    let then = anna_has_it_back();
    let listed = &then.subject().rows.listed;
    assert_eq!(listed, &[(anna(), Part::Reservation(1)), (anna(), Part::Payment(2))]);
    let live: Vec<_> = then.subject().rows.live.keys().collect();
    assert_eq!(live, [&Part::Header, &Part::Seats(0), &Part::Terms], "what has ended leaves nothing behind");
}

/// A state driven without the bookkeeping of a scenario, for many commands.
#[derive(Default)]
struct Bare {
    option: ConcertOption,
    lsn: u64,
}

impl Bare {
    fn new(seats: u32) -> Self {
        let mut bare = Self::default();
        let definition = Definition { seat_count: seats, ..definition() };
        bare.take(s(0), Event::OptionDefined { option: OPTION, definition: Box::new(definition) });
        bare
    }

    fn take(&mut self, at: Timestamp, event: Event) {
        self.lsn += 1;
        self.option.evolve(Meta { lsn: Lsn(self.lsn), at }, &event, &mut crate::domain::Ignore);
    }
}

#[test]
fn deadlines_are_those_of_what_is_held() {
    // `due` comes before every command, so what has ended, and what is being paid, must not be looked through.
    for paying in [false, true] {
        let mut bare = Bare::new(20);
        bare.take(s(20), held(1, "anna", &[0], s(320)));
        if paying {
            bare.take(s(20), started(2, 1, s(90)));
        }
        for no in 3..100_003 {
            bare.take(s(21), held(no, "bob", &[1], s(321)));
            assert_eq!(bare.option.due(), Some(if paying { s(321) } else { s(320) }));
            bare.take(s(21), Event::ReservationReleased { reservation: no, by: None });
            assert_eq!(bare.option.due(), (!paying).then(|| s(320)));
        }
        assert_eq!(bare.option.deadlines.len(), usize::from(!paying));
    }
    assert_eq!(anna_paid().state().deadlines.len(), 0);
}

#[test]
fn seats_that_are_not_for_sale_stay_blocked() {
    let never: SeatSet = [3, 19].into_iter().collect();
    assert_eq!((never.len(), never.iter().collect::<Vec<_>>()), (2, vec![3, 19]));
    let definition = Definition { not_for_sale: never, ..definition() };
    let then = given(s(0), [Event::OptionDefined { option: OPTION, definition: Box::new(definition) }]);
    let then: Scenario<ConcertOption> = then.reloaded();
    assert_eq!(then.state().counts(), Counts { available: 26, held: 0, sold: 0, blocked: 2 });
    assert_eq!(statuses(&then, &[3, 19]), [(SeatStatus::Blocked, 0); 2]);
    then.clone().when(hold("anna", &[2, 3]), s(20)).then_rejected(conflicts(&[3]));
    // Nobody can put them on sale.
    let then = then.when(unblock(&[3, 19]), s(21));
    then.then_nothing().then_reply(Reply::Done);
    let then = defined().given(s(20), [blocked(&[3])]);
    then.when(unblock(&[3]), s(21)).then_events([unblocked(&[3])]);
}

/// What is wrong with a wish is found here, and said with the field of the API that it is about.
#[test]
fn wishes_with_a_flaw_are_refused_by_field() {
    let accessible = Definition { accessible: vec!["A".into()], ..definition() };
    let options = [
        ("no accessible categories", Arc::new(PricedPlan::new(OPTION, definition(), seating_plan()))),
        ("A is accessible", Arc::new(PricedPlan::new(OPTION, accessible, seating_plan()))),
    ];
    let seats = |seats: &[u32]| Wish::Seats(seats.into());
    let areas = |areas: &[AreaPlaces]| Wish::Areas(areas.into());
    let best = |count, companions, category, adjacent| {
        Wish::Best(BestAvailable { count, category, zone: None, adjacent, companions })
    };
    let at = |field, message| [Some((field, message)); 2];
    for (wish, expected) in [
        (seats(&[]), at("seats", "must name at least one seat")),
        (seats(&[0, 1, 0]), at("seats[2]", "is given twice")),
        // Not the limit that it passes as well.
        (seats(&[0, 1, 2, 3, 0]), at("seats[4]", "is given twice")),
        (areas(&[]), at("areas", "must name at least one area")),
        (areas(&[places(0, 1), places(0, 1)]), at("areas[1].name", "is given twice")),
        (areas(&[places(1, 1), places(0, 0)]), at("areas[1].count", "must be 1 to 4")),
        (areas(&[places(1, 1), places(0, 5)]), at("areas[1].count", "must be 1 to 4")),
        (best(0, 0, None, true), at("best_available.count", "must be 1 to 4")),
        (best(5, 0, None, true), at("best_available.count", "must be 1 to 4")),
        (best(u32::MAX, u32::MAX, None, true), at("best_available.count", "must be 1 to 4")),
        (best(3, 2, Some(0), true), at("best_available.companions", "must be 0 to 1: all together are at most 4")),
        (best(1, 1, Some(0), false), at("best_available.adjacent", "must be true: companions sit beside the places")),
        (
            best(1, 1, None, true),
            [Some(("best_available.companions", "this option has no accessible categories")), None],
        ),
        (
            best(1, 1, Some(1), true),
            [Some(("best_available.category", "is not accessible on this option: there are no companions")); 2],
        ),
        (best(4, 0, None, true), [None; 2]),
        (seats(&[0]), [None; 2]),
        (areas(&[places(0, 4)]), [None; 2]),
    ] {
        for ((option, plan), expected) in options.iter().zip(expected) {
            let command = Command::Hold {
                user: anna(),
                wish: wish.clone(),
                token: None,
                note: None,
                plan: plan.clone(),
                request: Request { refused: Some(Rejection::QueueTokenRequired), ..Request::default() },
            };
            // Before all that stands against it otherwise: a closed sale, and a token.
            let expected = expected.map_or(Rejection::QueueTokenRequired, |(field, message)| {
                Rejection::Invalid(vec![Flaw::new(field, message)])
            });
            println!("{option}: {wish:?}");
            defined().when(command, s(0)).then_rejected(expected);
        }
    }
}
