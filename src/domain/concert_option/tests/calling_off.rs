//! Calling a performance off: nothing is sold any more, and every order ends, whatever is under way.

use super::*;
use crate::domain::facts::{Fact, Kind};
use crate::domain::invariants::Audit;
use crate::domain::{Currency, Meta};
use crate::testing::random::{Random, seed};

fn call_off() -> Command {
    call_off_with(Some("ill"), Request::default())
}

fn call_off_with(reason: Option<&str>, request: Request) -> Command {
    Command::CallOff { reason: reason.map(str::to_owned), by: user("boss"), request }
}

fn called_off() -> Event {
    Event::CalledOff { reason: Some("ill".into()), by: user("boss"), key: None }
}

fn credit_of(name: &str, no: u64, amount: u64, settled_below: u64) -> Message {
    let refund = RefundId { option: OPTION, no };
    Message::Wallet(user(name), wallet::Command::Credit { refund, amount: points(amount), settled_below })
}

fn credited(refund: u64) -> Command {
    Command::CreditAnswered { refund, balance: points(25), at: s(70) }
}

fn refunded(refund: u64, payment: u64) -> Event {
    Event::PaymentRefunded { refund, payment, key: None, by: Some(user("boss")) }
}

fn released(reservation: u64) -> Event {
    Event::ReservationReleased { reservation, by: Some(user("boss")) }
}

/// Done, total, owed.
fn progress(then: &Scenario<ConcertOption>) -> (u64, u64, u64) {
    let Cancellation { done, total, owed, .. } = then.state().cancellation().unwrap();
    (done, total, owed)
}

#[track_caller]
fn audited(then: &Scenario<ConcertOption>) {
    let mut audit = Audit::default();
    for (meta, event) in &then.subject().history {
        audit.option_event(OPTION, *meta, event).unwrap_or_else(|broken| panic!("{broken} by {event:?}"));
    }
    audit.agrees_with_option(OPTION, then.state()).unwrap_or_else(|broken| panic!("{broken}"));
}

fn card_defined() -> Scenario<ConcertOption> {
    let payment_methods = vec!["points".into(), "card".into()];
    let definition = Definition { payment_methods, currency: Some(Currency::KRW), ..definition() };
    given(s(0), [Event::OptionDefined { option: OPTION, definition: Box::new(definition) }])
}

fn begin(reservation: u64, name: &str) -> Command {
    let method = Method {
        name: "card".into(),
        installation: Installation(0xbeef),
        pay_within_ms: 600_000,
        capture_within_ms: 120_000,
        late_within_ms: 1_000_000,
        late: Late::Reacquire,
        minimum: Points::ZERO,
        open_max: 0,
        currencies: Vec::new(),
    };
    Command::BeginPaymentBy { reservation, user: user(name), method: method.into(), request: Request::default() }
}

fn report(payment: u64, kind: Kind, amount: u32) -> Command {
    let reference = format!("charge-{payment}");
    let fact =
        Fact { kind, reference, id: None, amount: amount.into(), currency: Currency::KRW, at: None, reason: None };
    Command::Report { payment, fact: fact.into(), cold: None }
}

fn exchange_of(reservation: u64, name: &str, give: &[u32], take: &[u32]) -> Command {
    let portion = |seats: &[u32]| Portion { seats: seats.into(), areas: smallvec![] };
    let (caller, request) = (as_user(name), Request::default());
    Command::Exchange { reservation, caller, give: portion(give), take: portion(take), plan: plan(), request }
}

fn owed_of(then: &Scenario<ConcertOption>, payment: u64) -> (ProviderStatus, Vec<OwedKind>) {
    let payment = then.state().payment(payment).unwrap();
    let by = payment.provider.as_ref().unwrap();
    (by.standing(payment.amount, payment.paid_at).status, by.owed.iter().map(|owed| owed.kind).collect())
}

use SeatStatus::{Free, Sold};

#[test]
fn is_called_off_once_and_says_so_each_time() {
    let then = defined().when(call_off(), s(20)).then_events([called_off()]).then_reply(Reply::Done).reloaded();
    assert_eq!(then.state().status(s(20)), OptionStatus::Cancelled);
    assert_eq!(then.state().status(s(1_000_000)), OptionStatus::Cancelled);
    let cancellation = then.state().cancellation().unwrap();
    assert_eq!((cancellation.reason.as_deref(), cancellation.cancelled_at), (Some("ill"), s(20)));
    assert_eq!(progress(&then), (0, 0, 0));
    // Once more changes nothing, whatever the reason; a key is remembered.
    let then = then.when(call_off_with(None, Request::default()), s(21)).then_nothing().then_reply(Reply::Done);
    let then = then.when(call_off_with(None, with_key(1, 1)), s(22)).then_reply(Reply::Done).reloaded();
    assert_eq!(then.state().cancellation().unwrap(), cancellation);
    let then = then.when(call_off_with(None, with_key(1, 1)), s(23)).then_nothing().then_reply(Reply::Replayed(0));
    then.when(call_off_with(None, with_key(1, 2)), s(24)).then_rejected(Rejection::IdempotencyKeyReused);
    given::<ConcertOption>(s(0), []).when(call_off(), s(1)).then_rejected(Rejection::NotFound);
    for reason in ["", "a\nb", &"ö".repeat(501)] {
        let refused = defined().when(call_off_with(Some(reason), Request::default()), s(20));
        assert!(matches!(refused.answer(), Err(Rejection::Invalid(_))), "{reason:?}");
    }
    let _ = defined().when(call_off_with(Some(&"ö".repeat(500)), Request::default()), s(20)).then_reply(Reply::Done);
}

#[test]
fn nothing_more_is_sold() {
    let off = || anna_paid().given(s(41), [held(3, "bob", &[5], s(341)), called_off()]);
    let office = Office { complimentary: true, beyond_limits: true, from_blocked: true };
    let (wish, plan) = (Wish::Seats(smallvec![7]), plan());
    let for_bob =
        Command::HoldFor { user: user("bob"), wish, office, by: None, note: None, plan, request: Request::default() };
    let offer = Command::OfferTransfer {
        reservation: 1,
        caller: as_user("anna"),
        to: user("bob"),
        stands_for_ms: 60_000,
        request: Request::default(),
    };
    let hand_on = Command::HandOn { reservation: 1, to: user("bob"), by: None, request: Request::default() };
    for (command, refused) in [
        (hold("bob", &[6]), Rejection::SaleNotOpen),
        (for_bob, Rejection::SaleNotOpen),
        (exchange_of(1, "anna", &[0], &[6]), Rejection::SaleNotOpen),
        (pay(3, "bob"), Rejection::ReservationNotHeld),
        (offer.clone(), Rejection::ReservationNotConfirmed),
        (hand_on, Rejection::ReservationNotConfirmed),
    ] {
        off().when(command, s(42)).then_rejected(refused);
    }
    let card = card_defined().given(s(20), [held(1, "anna", &[0], s(320)), called_off()]);
    card.when(begin(1, "anna"), s(30)).then_rejected(Rejection::ReservationNotHeld);
    // An offer that was made before stands no more.
    let offered = anna_paid().when(offer, s(41)).given(s(42), [called_off()]);
    let accept =
        Command::AcceptTransfer { reservation: 1, transfer: 3, user: user("bob"), request: Request::default() };
    offered.when(accept, s(43)).then_rejected(Rejection::ReservationNotConfirmed);
}

/// Whoever gives it back, and however long that is on its way.
#[test]
fn an_offer_ends_when_all_of_its_order_is_given_back() {
    let offer = Command::OfferTransfer {
        reservation: 1,
        caller: as_user("anna"),
        to: user("bob"),
        stands_for_ms: 60_000,
        request: Request::default(),
    };
    let request = Request::default;
    let accept = Command::AcceptTransfer { reservation: 1, transfer: 3, user: user("bob"), request: request() };
    let withdraw = Command::WithdrawTransfer { reservation: 1, transfer: 3, caller: as_user("anna") };
    let then = anna_paid().when(offer, s(41)).when(refund(2, Caller::Admin), s(42));
    let then = then.when(accept, s(43)).then_rejected(Rejection::NotFound);
    audited(&then.when(withdraw, s(44)).then_rejected(Rejection::NotFound));
}

#[test]
fn holds_end_and_payments_go_back_to_who_paid() {
    let then = anna_paid().given(s(41), [held(3, "bob", &[5], s(341))]);
    let hand_on = Command::HandOn { reservation: 1, to: user("carl"), by: None, request: Request::default() };
    let then = then.when(hand_on, s(42)).when(call_off(), s(50));
    assert_eq!(progress(&then), (0, 1, 0));
    let then = then.rung(s(50)).then_tells([credit(4, 20, 4)]).reloaded();
    assert_eq!(then.events(), [refunded(4, 2), released(3)]);
    assert_eq!(statuses(&then, &[0, 1, 5]), [(Free, 0); 3]);
    assert_eq!((progress(&then), then.state().due()), ((1, 1, 1), None));
    let then = then.then_owes([credit(4, 20, 4)]).when(credited(4), s(60)).then_owes([]).reloaded();
    assert_eq!(progress(&then), (1, 1, 0));
    audited(&then);
}

#[test]
fn what_was_exchanged_goes_back_to_each_who_paid() {
    // Anna pays 10 for seat 0 beside seat 10, hands both on, and Bob pays 10 for a better one.
    let then =
        defined().given(s(20), [held(1, "anna", &[0, 10], s(320)), started(2, 1, s(90)), confirmed(2, 5, s(39))]);
    let hand_on = Command::HandOn { reservation: 1, to: user("bob"), by: None, request: Request::default() };
    let then = then.when(hand_on, s(40)).when(exchange_of(1, "bob", &[10], &[1]), s(41));
    let then = then.when(answered(3, debited(0, s(42))), s(42)).when(call_off(), s(50)).rung(s(50)).reloaded();
    let tells = [credit_of("bob", 4, 10, 4), credit_of("anna", 5, 10, 4)];
    assert_eq!((then.tells(), progress(&then)), (&tells[..], (1, 1, 2)));
    assert_eq!(statuses(&then, &[0, 1, 10]), [(Free, 0); 3]);
    let then = then.when(credited(5), s(60)).when(credited(4), s(61)).then_owes([]);
    assert_eq!(progress(&then), (1, 1, 0));
    audited(&then);
}

#[test]
fn what_cost_nothing_and_what_is_partly_back_ends_too() {
    let office = Office { complimentary: true, beyond_limits: false, from_blocked: true };
    let wish = Wish::Seats(smallvec![7]);
    let for_bob = Command::HoldFor {
        user: user("bob"),
        wish,
        office,
        by: None,
        note: None,
        plan: plan(),
        request: Request::default(),
    };
    let then = anna_paid().given(s(41), [blocked(&[7])]).when(for_bob, s(42));
    let part = Portion { seats: smallvec![0], areas: smallvec![] };
    let part =
        Command::RefundPart { payment: 2, caller: Caller::Admin, part, plan: plan(), request: Request::default() };
    let then = then.when(part, s(43)).when(call_off(), s(50)).rung(s(50)).reloaded();
    // Anna's waits until the part is there.
    assert_eq!(then.events(), [refunded(6, 4)]);
    assert_eq!(statuses(&then, &[1, 7]), [(Sold, 1), (SeatStatus::Blocked, 0)]);
    assert_eq!((progress(&then), then.state().due()), ((1, 2, 2), None));
    let then = then.when(credited(5), s(51)).reloaded().rung(s(51));
    assert_eq!(then.tells(), [credit(7, 10, 6)]);
    let then = then.when(credited(6), s(52)).when(credited(7), s(53)).then_owes([]);
    assert_eq!(progress(&then), (2, 2, 0));
    audited(&then);
}

#[test]
fn a_debit_that_is_under_way_comes_to_its_end() {
    let off = || anna_pays().given(s(31), [called_off()]).rung(s(31)).then_nothing();
    assert_eq!((off().state().due(), progress(&off())), (None, (0, 1, 0)));
    // It was taken: it is paid, and then given back.
    let then = off().when(answered(2, debited(5, s(32))), s(32)).then_events([confirmed(2, 5, s(32))]);
    assert!(matches!(then.answer(), Ok(Answer::Settle { starter: Ok(Reply::Paid(2, _)), .. })));
    assert_eq!(progress(&then), (0, 1, 0));
    let then = then.rung(s(33)).then_events([refunded(3, 2)]).when(credited(3), s(34));
    assert_eq!((progress(&then), statuses(&then, &[0])), ((1, 1, 0), vec![(Free, 0)]));
    audited(&then);
    // It was not: the hold ends.
    let then = off().when(answered(2, DebitOutcome::Refused { balance: points(1) }), s(32)).rung(s(33));
    let then = then.then_events([released(1)]);
    assert_eq!((progress(&then), statuses(&then, &[0])), ((0, 0, 0), vec![(Free, 0)]));
    audited(&then);
    // A difference that is asked for is answered first, too.
    let then = defined().given(s(20), [held(1, "anna", &[10], s(320)), started(2, 1, s(90)), confirmed(2, 5, s(39))]);
    let off = then.when(exchange_of(1, "anna", &[10], &[1]), s(41)).given(s(42), [called_off()]).rung(s(43));
    let off = off.then_nothing().reloaded();
    for (outcome, backs) in [(debited(0, s(44)), 10), (DebitOutcome::Cancelled, 0)] {
        let then = off.clone().when(answered(3, outcome), s(44)).reloaded().rung(s(45));
        assert_eq!((then.tells(), statuses(&then, &[1, 10])), (&[credit(4, backs, 4)][..], vec![(Free, 0); 2]));
        audited(&then);
    }
}

#[test]
fn what_providers_take_is_called_off_or_owed_back() {
    let holds = |no, name, seats| held(no, name, seats, s(320));
    let then = card_defined()
        .given(s(20), [holds(1, "anna", &[0]), holds(2, "bob", &[1]), holds(3, "carl", &[2]), holds(4, "dora", &[3])]);
    let then = [(1, "anna"), (2, "bob"), (3, "carl"), (4, "dora")]
        .into_iter()
        .fold(then, |then, (no, name)| then.when(begin(no, name), s(30)));
    // Anna's is pending, Bob's opened, Carl's authorised, Dora's paid.
    let then = then.when(report(6, Kind::Opened, 10), s(40)).when(report(7, Kind::Authorized, 10), s(40));
    let then = then.when(report(8, Kind::Captured, 10), s(40)).when(call_off(), s(50));
    assert_eq!(progress(&then), (0, 4, 1), "three may still be paid, and one is to be captured");
    let then = then.rung(s(50)).reloaded();
    assert_eq!(statuses(&then, &[0, 1, 2, 3]), [(Free, 0); 4]);
    use OwedKind::{Check, Refund, Void};
    use ProviderStatus::{RefundOwed, Refunded, Voiding};
    let owed: Vec<_> = (5..9).map(|no| owed_of(&then, no)).collect();
    let expected = [(Voiding, vec![Check]), (Voiding, vec![Void]), (Voiding, vec![Void]), (RefundOwed, vec![Refund])];
    assert_eq!(
        (owed, progress(&then)),
        (expected.to_vec(), (1, 1, 4)),
        "of each it is not known that nothing is taken"
    );
    // A capture that comes after that is owed back, and takes no seats.
    let then = then.when(report(5, Kind::Captured, 10), s(60)).when(report(7, Kind::Captured, 10), s(61));
    let then = then.when(report(6, Kind::Voided, 10), s(62)).rung(s(63)).reloaded();
    assert_eq!((owed_of(&then, 5).0, owed_of(&then, 7).0, progress(&then)), (RefundOwed, RefundOwed, (1, 1, 3)));
    assert_eq!(statuses(&then, &[0, 1, 2, 3]), [(Free, 0); 4]);
    let then = [5, 7, 8].into_iter().fold(then, |then, no| then.when(report(no, Kind::Refunded, 10), s(70)));
    assert_eq!((owed_of(&then, 8).0, progress(&then), then.state().due().is_some()), (Refunded, (1, 1, 0), true));
    audited(&then.then_owes([]));
}

/// Its seats were pinned for the payment longer than they were held: it is not time that ends it.
#[test]
fn what_is_called_off_while_it_is_paid_is_released_even_after_its_own_end() {
    let then = card_defined().given(s(20), [held(1, "anna", &[0], s(320))]).when(begin(1, "anna"), s(310));
    let then = then.when(report(2, Kind::Opened, 10), s(311)).when(call_off(), s(330)).rung(s(330));
    let [Event::ProviderPaymentMoved { payment: 2, moved }, Event::ReservationReleased { reservation: 1, by }] =
        then.events()
    else {
        panic!("{:?}", then.events())
    };
    assert_eq!(moved.turn, Some(Turn::Ended { why: Ending::CalledOff, lapses: false }));
    assert_eq!(*by, Some(user("boss")));
    let then = then.reloaded();
    assert_eq!((then.state().seats().status(0), owed_of(&then, 2).1), (Free, vec![OwedKind::Void]));
    assert_eq!(then.state().any_reservation(1).unwrap().status, ReservationStatus::Released);
    audited(&then.when(report(2, Kind::Voided, 10), s(331)));
}

/// However far it has come since, whoever sends the same again hears the same.
#[test]
fn who_calls_off_is_told_what_there_was_to_do() {
    let told = |then: &Scenario<ConcertOption>| {
        let told = then.state().cancellation_as_told().unwrap();
        (told.done, told.total, told.owed)
    };
    let then = anna_paid().when(call_off(), s(50));
    assert_eq!((told(&then), progress(&then)), ((0, 1, 0), (0, 1, 0)));
    let then = then.rung(s(50)).reloaded();
    assert_eq!((told(&then), progress(&then)), ((0, 1, 0), (1, 1, 1)));
    let then = then.when(credited(3), s(60)).when(call_off(), s(61)).reloaded();
    assert_eq!((told(&then), progress(&then)), ((0, 1, 0), (1, 1, 0)));
    assert_eq!(anna_paid().state().cancellation_as_told(), None);
}

/// What comes between the decision and the step that ends an order.
#[test]
fn facts_that_come_before_the_step_change_nothing_of_the_end() {
    let then = card_defined().given(s(20), [held(1, "anna", &[0], s(320))]).when(begin(1, "anna"), s(30));
    for kinds in [&[Kind::Authorized][..], &[Kind::Captured], &[Kind::Authorized, Kind::Captured]] {
        let then = then.clone().when(call_off(), s(40));
        let then = kinds.iter().fold(then, |then, kind| then.when(report(2, *kind, 10), s(41)));
        let then = then.rung(s(42)).when(report(2, Kind::Captured, 10), s(43));
        assert_eq!(owed_of(&then, 2), (ProviderStatus::RefundOwed, vec![OwedKind::Refund]), "{kinds:?}");
        assert_eq!((then.state().seats().status(0), progress(&then).2), (Free, 1));
        // It is held up by a dispute, and not over.
        let then = then.when(report(2, Kind::Disputed, 10), s(44));
        assert_eq!((owed_of(&then, 2).1, progress(&then).2), (vec![], 1));
        audited(&then);
    }
    // Authorised before, and captured just then: it is paid, and given back.
    let then = then.when(report(2, Kind::Authorized, 10), s(39)).when(call_off(), s(40));
    let then = then.when(report(2, Kind::Captured, 10), s(41)).rung(s(42));
    assert_eq!((owed_of(&then, 2).1, then.state().seats().status(0)), (vec![OwedKind::Refund], Free));
    assert_eq!(progress(&then), (1, 1, 1));
    audited(&then);
}

/// Of a house with many orders each step ends some, and no more are begun than wallets can answer.
#[test]
fn many_orders_end_in_steps() {
    const ORDERS: u64 = 3_000;
    let mut definition = definition();
    (definition.areas[0].capacity, definition.max_seats_per_user) = (10_000, 10_000);
    let defined = Event::OptionDefined { option: OPTION, definition: Box::new(definition) };
    let mut then: Scenario<ConcertOption> = given(s(0), [defined]);
    for no in (1..=2 * ORDERS).step_by(2) {
        let (areas, prices) = (smallvec![places(0, 1)], [points(10)].into_iter().collect());
        let hold = Event::SeatsHeld {
            reservation: no,
            user: user(&format!("user-{}", no % 7)),
            seats: smallvec![],
            areas,
            amount: points(10),
            expires_at: s(320),
            token: None,
            key: None,
            prices,
            from_blocked: Vec::new(),
            by: None,
            note: None,
        };
        then = then.given(s(20), [hold, started(no + 1, no, s(90)), confirmed(no + 1, 0, s(20))]);
    }
    let mut then = then.reloaded().when(call_off(), s(30));
    let mut steps = Vec::new();
    while then.state().due().is_some_and(|due| due <= s(30)) {
        then = then.rung(s(30));
        // No number that is begun is below the mark of a message that tells of another.
        let marks = then.tells().iter().map(|tell| match *tell {
            Message::Wallet(_, wallet::Command::Credit { refund, settled_below, .. }) => (settled_below, refund.no),
            ref other => panic!("{other:?}"),
        });
        assert!(marks.into_iter().all(|(mark, no)| mark <= 2 * ORDERS + 1 && no > 2 * ORDERS));
        steps.push(then.events().len());
    }
    assert_eq!(steps, [128; 8], "as many as wallets may leave unanswered");
    assert_eq!((progress(&then), then.subject().owed(s(31)).len()), ((1_024, ORDERS, 1_024), 1_024));
    // What they answer makes room, in whatever order, and also after a restart.
    let mut answered = 2 * ORDERS;
    while progress(&then).2 > 0 {
        answered += 1;
        then = then.when(credited(answered), s(40));
        if answered.is_multiple_of(500) {
            then = then.reloaded();
        }
        then = then.rung(s(40));
        assert!(progress(&then).2 <= 1_024 + 128);
    }
    assert_eq!((progress(&then), then.state().counts().available), ((ORDERS, ORDERS, 0), 20 + 10_000 + 3));
    audited(&then);
}

/// Whatever happens before and after, everything ends: nobody has seats, and all that wallets gave is theirs again.
#[test]
fn everything_ends_whatever_is_under_way() {
    for no in 0..300 {
        let random = &mut Random(seed().wrapping_add(no));
        let then = drawn(random);
        let mut audit = Audit::default();
        let mut paid: BTreeMap<UserId, i64> = BTreeMap::new();
        for (meta, event) in &then.subject().history {
            let meta: Meta = *meta;
            audit.option_event(OPTION, meta, event).unwrap_or_else(|broken| panic!("seed {no}: {broken} by {event:?}"));
            match event {
                Event::PaymentConfirmed { payment, .. } => {
                    let row = then.subject().rows.archived.get(&Part::Payment(*payment)).unwrap();
                    let payment = Payment::from_row(*payment, row).unwrap();
                    *paid.entry(payment.user).or_default() += payment.amount.get() as i64;
                }
                Event::PaymentRefunded { payment, .. } => {
                    let row = then.subject().rows.archived.get(&Part::Payment(*payment)).unwrap();
                    let payment = Payment::from_row(*payment, row).unwrap();
                    *paid.entry(payment.user).or_default() -= payment.amount.get() as i64;
                }
                Event::OrderChanged { change, .. } => {
                    for back in &change.backs {
                        *paid.entry(back.user.clone()).or_default() -= back.amount.get() as i64;
                    }
                    if let Some(leg) = &change.leg {
                        *paid.entry(leg.user.clone()).or_default() += leg.taken.get() as i64;
                    }
                }
                _ => {}
            }
        }
        assert!(paid.values().all(|left| *left == 0), "seed {no}: {paid:?}");
        let counts = then.state().counts();
        assert_eq!((counts.held, counts.sold, then.state().reservations().count()), (0, 0, 0), "seed {no}");
        let (done, total, owed) = progress(&then);
        assert_eq!((done, owed), (total, 0), "seed {no}");
    }
}

/// Some orders of three users, at some time called off, and wallets that answer when they like.
fn drawn(random: &mut Random) -> Scenario<ConcertOption> {
    let names = ["anna", "bob", "carl"];
    let mut then = defined();
    let off_at = 10 + random.below(60);
    for step in 0..120 {
        let at = s(20 + step);
        let name = names[random.below(3) as usize];
        let caller = if random.below(2) == 0 { as_user(name) } else { Caller::Admin };
        let no = 1 + random.below(12);
        let seat = |random: &mut Random| random.below(20) as u32;
        let portion = |seats: &[u32]| Portion { seats: seats.into(), areas: smallvec![] };
        let request = Request::default;
        let command = match random.below(12) {
            _ if step == off_at => call_off(),
            0..3 => hold(name, &[seat(random)]),
            3 | 4 => pay(no, name),
            5 => exchange_of(no, name, &[seat(random)], &[seat(random)]),
            6 => Command::HandOn { reservation: no, to: user(name), by: None, request: request() },
            7 => {
                let part = portion(&[seat(random)]);
                Command::RefundPart { payment: no, caller, part, plan: plan(), request: request() }
            }
            8 => refund(no, caller),
            9 => release(no, caller),
            _ => match then.subject().owed(at).first().cloned() {
                Some(message) => answer_to(message, random),
                None => continue,
            },
        };
        then = then.when(command, at).rung(at);
    }
    // Now all is answered.
    for second in 0..200 {
        let at = s(140 + second);
        let Some(message) = then.subject().owed(at).into_iter().next() else { break };
        then = then.when(answer_to(message, random), at).rung(at);
    }
    then.rung(s(1_000))
}

fn answer_to(message: Message, random: &mut Random) -> Command {
    match message {
        Message::Wallet(_, wallet::Command::Debit { payment, .. }) if random.below(3) == 0 => {
            answered(payment.no, DebitOutcome::Refused { balance: Points::ZERO })
        }
        Message::Wallet(_, wallet::Command::Debit { payment, .. }) => answered(payment.no, debited(0, s(20))),
        Message::Wallet(_, wallet::Command::CancelDebit { payment, .. }) => {
            answered(payment.no, DebitOutcome::Cancelled)
        }
        Message::Wallet(_, wallet::Command::Credit { refund, .. }) => {
            Command::CreditAnswered { refund: refund.no, balance: points(25), at: s(20) }
        }
        other => panic!("{other:?}"),
    }
}
