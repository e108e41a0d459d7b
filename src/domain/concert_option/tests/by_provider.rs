//! Payments by providers: every fact in every state, and a provider that does what it likes.

use std::collections::BTreeMap;

use super::*;
use crate::domain::facts::{FACTS_MAX, Fact, Kind};
use crate::domain::invariants::Audit;
use crate::domain::{Currency, Meta};
use crate::testing::random::{Random, seed};

fn method(late: Late) -> Method {
    Method {
        name: "card".into(),
        installation: Installation(0xbeef),
        pay_within_ms: 600_000,
        capture_within_ms: 120_000,
        late_within_ms: 1_000_000,
        late,
        minimum: points(5),
        currencies: Vec::new(),
        open_max: 0,
    }
}

fn card_definition() -> Definition {
    let payment_methods = vec!["points".into(), "card".into()];
    Definition { payment_methods, currency: Some(Currency::KRW), ..definition() }
}

fn card_defined() -> Scenario<ConcertOption> {
    given(s(0), [Event::OptionDefined { option: OPTION, definition: Box::new(card_definition()) }])
}

fn begin_by(reservation: u64, name: &str, method: Method) -> Command {
    Command::BeginPaymentBy { reservation, user: user(name), method: method.into(), request: Request::default() }
}

fn begin(reservation: u64, name: &str) -> Command {
    begin_by(reservation, name, method(Late::Reacquire))
}

fn fact(kind: Kind, reference: &str, amount: u32) -> Fact {
    let reference = reference.to_owned();
    Fact { kind, reference, id: None, amount: amount.into(), currency: Currency::KRW, at: None, reason: None }
}

fn report(payment: u64, fact: Fact) -> Command {
    Command::Report { payment, fact: fact.into(), cold: None }
}

fn give_up(payment: u64, name: &str) -> Command {
    Command::GiveUp { payment, caller: as_user(name) }
}

/// Anna holds seats 0 and 1 for 20 from 20 s to 320 s, and pays them by card from 30 s to 630 s.
fn anna_pays_by_card() -> Scenario<ConcertOption> {
    card_defined().given(s(20), [held(1, "anna", &[0, 1], s(320))]).when(begin(1, "anna"), s(30))
}

fn by(then: &Scenario<ConcertOption>, no: u64) -> (Standing, Vec<(OwedKind, u64)>) {
    let payment = then.state().payment(no).unwrap();
    let by = payment.provider.as_ref().unwrap();
    (by.standing(payment.amount, payment.paid_at), by.owed.iter().map(|owed| (owed.kind, owed.amount.get())).collect())
}

/// The status of a payment, what is owed of it, and the status of seat 0.
#[track_caller]
fn stands(
    then: Scenario<ConcertOption>,
    status: ProviderStatus,
    owed: &[(OwedKind, u64)],
    seat: SeatStatus,
) -> Scenario<ConcertOption> {
    let (standing, owes) = by(&then, 2);
    assert!(standing.totals.balance(), "{standing:?}");
    assert_eq!((standing.status, &*owes, then.state().seats().status(0)), (status, owed, seat));
    then.reloaded()
}

use OwedKind::{Capture, Check, Refund as Refund_, Void};
use ProviderStatus as P;
use SeatStatus::{Free, Held, Sold};

#[test]
fn seats_are_pinned_until_the_providers_deadline() {
    let then = anna_pays_by_card();
    let Ok(Answer::Reply(Reply::Payment(2, payment))) = then.answer().clone() else { panic!("{:?}", then.answer()) };
    assert_eq!((payment.deadline, payment.amount), (s(630), points(20)));
    let then = stands(then, P::Pending, &[], Held);
    let then = then.at(s(629)).then_nothing();
    let then = stands(then.at(s(630)), P::Voiding, &[(Check, 20)], Free).then_owes([Message::Providers(OPTION)]);
    // What is found out ends it.
    let then = then.when(report(2, fact(Kind::Voided, "none", 20)), s(640));
    stands(then, P::Voided, &[], Free).then_owes([]);
}

#[test]
fn a_payment_goes_the_whole_way() {
    let then = anna_pays_by_card().when(report(2, fact(Kind::Opened, "a", 20)), s(40));
    let then = stands(then, P::Pending, &[], Held).when(report(2, fact(Kind::Authorized, "a", 20)), s(50));
    let then = stands(then, P::Authorized, &[(Capture, 20)], Held);
    let then = then.when(give_up(2, "anna"), s(60)).then_rejected(Rejection::PaymentUnderWay);
    let then = then.when(report(2, fact(Kind::Captured, "a", 20)), s(70));
    let then = stands(then, P::Completed, &[], Sold);
    // Once more changes nothing, and says what stands.
    let then = then.when(report(2, fact(Kind::Captured, "a", 20)), s(71)).then_nothing();
    let then = then.when(report(2, fact(Kind::Captured, "a", 21)), s(72)).then_rejected(Rejection::FactConflict);
    let paid = Rejection::AlreadyPaid { payment: payment_id(2) };
    let then = then.when(begin(1, "anna"), s(73)).then_rejected(paid);
    let then = then.when(give_up(2, "anna"), s(74)).then_rejected(Rejection::PaymentUnderWay);
    let then = then.when(refund(2, Caller::Admin), s(80));
    let then = stands(then, P::RefundOwed, &[(Refund_, 20)], Free);
    let then = then.when(refund(2, Caller::Admin), s(81)).then_rejected(Rejection::NotRefundable);
    let then = then.when(report(2, fact(Kind::Refunded, "a", 20)), s(90));
    stands(then, P::Refunded, &[], Free);
}

#[test]
fn what_stands_against_a_payment_by_a_provider() {
    let holds = || card_defined().given(s(20), [held(1, "anna", &[0, 1], s(320))]);
    let pending = Rejection::PaymentPending { payment: payment_id(2) };
    anna_pays_by_card().when(begin(1, "anna"), s(31)).then_rejected(pending.clone());
    anna_pays_by_card().when(pay(1, "anna"), s(31)).then_rejected(pending.clone());
    holds().when(pay(1, "anna"), s(30)).when(begin(1, "anna"), s(31)).then_rejected(pending);
    let dear = Method { minimum: points(21), ..method(Late::Refund) };
    let too_small = Rejection::AmountTooSmall { minimum: points(21) };
    holds().when(begin_by(1, "anna", dear), s(30)).then_rejected(too_small);
    holds().when(begin(1, "bob"), s(30)).then_rejected(Rejection::NotFound);
    let currencies = vec!["EUR".parse().unwrap(), "USD".parse().unwrap()];
    let foreign = Method { currencies, ..method(Late::Refund) };
    let foreign = holds().when(begin_by(1, "anna", foreign), s(30));
    let refused = foreign.answer();
    assert!(matches!(refused, Err(Rejection::Invalid(flaws)) if flaws[0].field == "method"), "{refused:?}");
    let at_home = Method { currencies: vec![Currency::KRW], ..method(Late::Refund) };
    assert!(holds().when(begin_by(1, "anna", at_home), s(30)).answer().is_ok());
    let unknown = Method { name: "cash".into(), ..method(Late::Refund) };
    assert!(matches!(holds().when(begin_by(1, "anna", unknown), s(30)).answer(), Err(Rejection::Invalid(_))));
    assert!(matches!(anna_holds().when(begin(1, "anna"), s(30)).answer(), Err(Rejection::Invalid(_))));
    let only_card = Definition { payment_methods: vec!["card".into()], ..card_definition() };
    let event = Event::OptionDefined { option: OPTION, definition: Box::new(only_card) };
    let then: Scenario<ConcertOption> = given(s(0), [event, held(1, "anna", &[0], s(320))]);
    assert!(matches!(then.when(pay(1, "anna"), s(30)).answer(), Err(Rejection::Invalid(_))));
    anna_pays_by_card().when(report(9, fact(Kind::Captured, "a", 20)), s(40)).then_rejected(Rejection::NotFound);
    anna_paid().when(report(2, fact(Kind::Captured, "a", 20)), s(41)).then_rejected(Rejection::NotFound);
    anna_pays_by_card().when(give_up(2, "bob"), s(40)).then_rejected(Rejection::NotFound);
}

#[test]
fn nothing_to_pay_is_paid_at_once() {
    let then = card_defined().given(s(20), [held(1, "anna", &[10], s(320))]).when(begin(1, "anna"), s(30));
    let (standing, owed) = by(&then, 2);
    assert_eq!((standing.status, &*owed, then.state().seats().status(10)), (P::Completed, &[][..], Sold));
    let then = then.when(refund(2, Caller::Admin), s(40));
    assert_eq!((by(&then, 2).0.status, then.state().seats().status(10)), (P::Refunded, Free));
}

#[test]
fn nothing_that_goes_back_takes_seats_away_that_cost_nothing() {
    let then = card_defined().given(s(20), [held(1, "anna", &[10], s(320))]).when(begin(1, "anna"), s(30));
    let then = then.when(report(2, fact(Kind::Captured, "stray", 5)), s(40));
    assert_eq!(by(&then, 2).1, [(Refund_, 5)]);
    let then = then.when(report(2, fact(Kind::Refunded, "stray", 5)), s(50));
    let (standing, owed) = by(&then, 2);
    assert_eq!((standing.status, &*owed, then.state().seats().status(10)), (P::Completed, &[][..], Sold));
}

/// A refund may be told before the capture of its charge: which one that was of says its reference.
#[test]
fn what_goes_back_of_another_charge_takes_no_seats_away() {
    let completed = || anna_pays_by_card().when(report(2, fact(Kind::Captured, "a", 20)), s(40));
    let then = completed().when(report(2, fact(Kind::Refunded, "b", 20)), s(50));
    let then = stands(then, P::Completed, &[], Sold);
    assert_eq!(by(&then, 2).0.totals.shortfall, 20, "until it is known what it took, it is missing");
    let then = then.when(report(2, fact(Kind::Captured, "b", 20)), s(60));
    let then = stands(then, P::Completed, &[], Sold);
    assert_eq!(by(&then, 2).0.totals.shortfall, 0);
    // That of the charge that paid does, in parts and by hand as well.
    let part = |id: &str, amount| Fact { id: Some(id.into()), ..fact(Kind::Refunded, "a", amount) };
    let then = then.when(report(2, part("first", 5)), s(70));
    let then = stands(then, P::Completed, &[], Sold).when(report(2, part("second", 10)), s(80));
    let by_hand = Fact { id: Some("a".into()), ..fact(Kind::Refunded, "transfer", 5) };
    stands(stands(then, P::Completed, &[], Sold).when(report(2, by_hand), s(90)), P::Refunded, &[], Free);
    // In whatever order.
    let then = completed().when(report(2, fact(Kind::Refunded, "b", 20)), s(50));
    stands(then.when(report(2, fact(Kind::Refunded, "a", 20)), s(60)), P::Refunded, &[], Free);
}

#[test]
fn who_pays_by_a_provider_holds_seats() {
    let holders = |then: &Scenario<ConcertOption>| then.state().holders().cloned().collect::<Vec<_>>();
    let then = anna_pays_by_card().reloaded();
    assert_eq!(holders(&then), [anna()]);
    let then = then.when(report(2, fact(Kind::Authorized, "a", 20)), s(40));
    assert_eq!(holders(&then), [anna()]);
    assert_eq!(holders(&then.clone().when(report(2, fact(Kind::Failed, "a", 20)), s(50))), [anna()]);
    assert!(holders(&then.when(report(2, fact(Kind::Captured, "a", 20)), s(50))).is_empty());
}

#[test]
fn a_key_is_answered_again() {
    let request = with_key(1, 1);
    let begin = Command::BeginPaymentBy { reservation: 1, user: anna(), method: method(Late::Refund).into(), request };
    let then = card_defined().given(s(20), [held(1, "anna", &[0, 1], s(320))]).when(begin.clone(), s(30));
    let then = then.when(begin, s(31)).then_reply(Reply::Replayed(2)).then_nothing();
    let then = then.when(report(2, fact(Kind::Captured, "a", 20)), s(40));
    let refund = |payload| Command::Refund { payment: 2, caller: Caller::Admin, request: with_key(2, payload) };
    let then =
        then.when(refund(1), s(50)).reloaded().when(refund(1), s(51)).then_reply(Reply::Replayed(3)).then_nothing();
    then.when(refund(2), s(52)).then_rejected(Rejection::IdempotencyKeyReused);
}

/// Points that are on their way are as much of an answer to a key as what is done.
#[test]
fn a_key_is_for_one_way_to_pay() {
    let by_points = |payload| Command::BeginPayment { reservation: 1, user: anna(), request: with_key(1, payload) };
    let by_card = |payload| {
        let (method, request) = (method(Late::Refund).into(), with_key(1, payload));
        Command::BeginPaymentBy { reservation: 1, user: anna(), method, request }
    };
    let holds = || card_defined().given(s(20), [held(1, "anna", &[0, 1], s(320))]);
    let then = holds().when(by_points(1), s(30)).when(by_card(2), s(31));
    then.then_rejected(Rejection::IdempotencyKeyReused);
    let then = holds().when(by_card(2), s(30)).when(by_points(1), s(31));
    then.then_rejected(Rejection::IdempotencyKeyReused);
}

/// Who ended a payment, or whether it is in memory, does not matter: what is shown of it says whether there is something to give
/// up.
#[test]
fn to_give_up_what_has_ended_without_money_changes_nothing() {
    use Kind::{Authorized, Captured, Failed, Voided};
    let given_up = || anna_pays_by_card().when(give_up(2, "anna"), s(40));
    let lapsed = || anna_pays_by_card().at(s(640));
    let told = |then: Scenario<ConcertOption>, kind| then.when(report(2, fact(kind, "a", 20)), s(650));
    let authorized = || anna_pays_by_card().when(report(2, fact(Authorized, "a", 20)), s(40));
    for (ended, now) in [
        (given_up(), s(50)),
        (lapsed(), s(645)),
        (told(given_up(), Voided), s(651)),
        (told(lapsed(), Failed), s(651)),
        (anna_pays_by_card().when(report(2, fact(Failed, "a", 20)), s(40)), s(41)),
        (anna_pays_by_card().when(report(2, fact(Voided, "a", 20)), s(40)), s(41)),
        // Nobody captured it in time.
        (authorized().at(s(200)), s(201)),
    ] {
        let payment = ended.state().payment(2).unwrap().clone();
        let then = ended.when(give_up(2, "anna"), now).then_nothing();
        then.then_reply(Reply::Payment(2, Box::new(payment)));
    }
    let released = given_up().when(release(1, as_user("anna")), s(45));
    for (paid, now) in [
        (authorized(), s(41)),
        (told(anna_pays_by_card(), Captured), s(651)),
        (told(lapsed(), Captured), s(651)),
        (told(released, Captured), s(651)),
    ] {
        paid.when(give_up(2, "anna"), now).then_rejected(Rejection::PaymentUnderWay);
    }
}

/// Who begins and gives up in a loop is in memory a few times only, whether a provider answers or not.
#[test]
fn what_took_no_money_is_bounded() {
    const MOST: u64 = 5;
    let limited = |late| Method { open_max: MOST, ..method(late) };
    let in_memory = |then: &Scenario<ConcertOption>| then.state().provider_payments().count() as u64;
    let loops = |mut then: Scenario<ConcertOption>, from: u64, answers: bool| {
        let (mut refused, mut no) = (0, 1);
        for n in 0..40 {
            let now = s(from + n);
            then = then.when(begin_by(1, "anna", limited(Late::Reacquire)), now);
            if then.answer().is_err() {
                let already = in_memory(&then);
                then = then.then_rejected(Rejection::LimitExceeded { limit: MOST, already });
                refused += 1;
                continue;
            }
            no += 1;
            then = then.when(give_up(no, "anna"), now);
            if answers {
                then = then.when(report(no, fact(Kind::Voided, &format!("none-{no}"), 20)), now).reloaded();
            }
            assert!(in_memory(&then) <= MOST);
        }
        (then, refused)
    };
    let holds = || card_defined().given(s(20), [held(1, "anna", &[0, 1], s(320))]);
    // Nobody says what came of them: there may be money.
    let (then, refused) = loops(holds(), 30, false);
    assert_eq!((in_memory(&then), refused), (MOST, 35));
    let then = then.at(s(300)).reloaded();
    assert_eq!(in_memory(&then), MOST);
    then.when(begin_by(1, "anna", limited(Late::Refund)), s(301))
        .then_rejected(Rejection::LimitExceeded { limit: MOST, already: MOST });
    // Somebody does: they leave memory together soon, and others may begin.
    let (then, refused) = loops(holds(), 31, true);
    assert_eq!((in_memory(&then), refused), (MOST, 35));
    let then = then.at(s(99)).then_nothing().reloaded().at(s(100));
    let cold = [2, 3, 4, 5, 6].to_vec();
    assert_eq!(
        then.events(),
        [Event::ProviderPaymentsWentCold { payments: cold }],
        "together: 31 to 35 s, and a minute, in tens"
    );
    assert_eq!(in_memory(&then), 0);
    let found = cold_rows(&then, 2);
    let again = then.clone().when(begin_by(1, "anna", limited(Late::Refund)), s(102));
    assert!(again.answer().is_ok(), "{:?}", again.answer());
    let captured = Box::new(fact(Kind::Captured, "late", 20));
    // Its reservation has left memory since it was read: what was read is of before, and is read anew.
    let over = then.clone().at(s(320)).reloaded();
    let told = |cold| Command::Report { payment: 2, fact: captured.clone(), cold };
    let over = over.when(told(cold_rows(&then, 2)), s(321)).then_nothing().then_reply(Reply::Archived);
    let anew = cold_rows(&over, 2);
    let over = over.when(told(anew), s(322)).reloaded();
    assert_eq!(over.events().len(), 2);
    crate::domain::invariants::option(over.state()).unwrap();
    // Whatever is heard of it then counts as ever.
    let then = then.when(Command::Report { payment: 2, fact: captured, cold: found }, s(110));
    stands(then, P::Completed, &[], Sold);
    // Who pays is not counted.
    let mut paid = card_defined();
    for n in 0..3 {
        let (no, now) = (n * 2 + 1, 20 + n);
        paid = paid.given(s(now), [held(no, "anna", &[n as u32], s(320))]);
        paid = paid.when(begin_by(no, "anna", Method { open_max: 1, ..method(Late::Refund) }), s(now));
        assert!(paid.answer().is_ok(), "{:?}", paid.answer());
        paid = paid.when(report(no + 1, fact(Kind::Captured, &format!("c{n}"), 10)), s(now));
    }
    assert_eq!(in_memory(&paid), 3);
    // Nor is anybody by whose charge money may be on its way back.
    let then = paid.when(refund(2, Caller::Admin), s(40)).reloaded();
    let then = then.given(s(41), [held(8, "anna", &[5], s(320))]);
    let then = then.when(begin_by(8, "anna", Method { open_max: 1, ..method(Late::Refund) }), s(42));
    assert!(then.answer().is_ok(), "{:?}", then.answer());
}

/// Every fact in every state: `status` after it, what is owed then, and seat 0.
#[test]
fn every_fact_in_every_state() {
    let pending = anna_pays_by_card;
    let authorized = || pending().when(report(2, fact(Kind::Authorized, "a", 20)), s(40));
    let completed = || pending().when(report(2, fact(Kind::Captured, "a", 20)), s(40));
    // Held again until 320 s.
    let given_up = || pending().when(give_up(2, "anna"), s(40));
    // Its seats are free; or somebody else's by 700 s.
    let lapsed = || pending().at(s(640));
    let taken = || lapsed().when(hold("bob", &[0]), s(641));
    let refund_policy = || {
        let holds = card_defined().given(s(20), [held(1, "anna", &[0, 1], s(320))]);
        holds.when(begin_by(1, "anna", method(Late::Refund)), s(30)).at(s(640))
    };
    let released = || given_up().when(release(1, as_user("anna")), s(45));
    // Neither lapse nor debt: it was never authorised, and the provider says so.
    let voided = || given_up().when(report(2, fact(Kind::Voided, "a", 20)), s(45));
    let refunded = || completed().when(refund(2, Caller::Admin), s(45));
    type Made<'a> = &'a dyn Fn() -> Scenario<ConcertOption>;
    type Row<'a> = (Kind, P, &'a [(OwedKind, u64)], SeatStatus);
    let check = |name: &str, made: Made<'_>, at: Timestamp, rows: &[Row<'_>]| {
        for (kind, status, owed, seat) in rows {
            println!("{name}: {kind:?}");
            let then = made().reloaded().when(report(2, fact(*kind, "a", 20)), at);
            assert!(then.answer().is_ok(), "{:?}", then.answer());
            stands(then, *status, owed, *seat);
        }
    };
    use Kind::{Authorized, Captured, DisputeLost, Disputed, Failed, Opened, Refunded, Voided};
    check(
        "pending",
        &pending,
        s(50),
        &[
            (Opened, P::Pending, &[], Held),
            (Authorized, P::Authorized, &[(Capture, 20)], Held),
            (Captured, P::Completed, &[], Sold),
            (Failed, P::Failed, &[], Held),
            (Voided, P::Voided, &[], Held),
            (Refunded, P::Refunded, &[], Held),
            (Disputed, P::Pending, &[], Held),
            (DisputeLost, P::Refunded, &[], Held),
        ],
    );
    check(
        "pending, the hold over",
        &pending,
        s(400),
        &[
            (Authorized, P::Authorized, &[(Capture, 20)], Held),
            (Captured, P::Completed, &[], Sold),
            (Failed, P::Failed, &[], Free),
            (Voided, P::Voided, &[], Free),
        ],
    );
    check(
        "authorized",
        &authorized,
        s(50),
        &[
            (Opened, P::Authorized, &[(Capture, 20)], Held),
            (Captured, P::Completed, &[], Sold),
            (Failed, P::Failed, &[], Held),
            (Voided, P::Voided, &[], Held),
            (Refunded, P::Refunded, &[], Held),
            (Disputed, P::Authorized, &[(Capture, 20)], Held),
        ],
    );
    check(
        "completed",
        &completed,
        s(50),
        &[
            (Authorized, P::Completed, &[], Sold),
            (Failed, P::Completed, &[], Sold),
            (Voided, P::Completed, &[], Sold),
            (Refunded, P::Refunded, &[], Free),
            (Disputed, P::Completed, &[], Sold),
            (DisputeLost, P::Completed, &[], Sold),
        ],
    );
    check(
        "given up, and held again",
        &given_up,
        s(50),
        &[
            (Opened, P::Voiding, &[(Void, 20)], Held),
            (Authorized, P::Authorized, &[(Capture, 20)], Held),
            (Captured, P::Completed, &[], Sold),
            (Failed, P::Voided, &[], Held),
        ],
    );
    check(
        "lapsed",
        &lapsed,
        s(700),
        &[
            (Opened, P::Voiding, &[(Void, 20)], Free),
            (Authorized, P::Authorized, &[(Capture, 20)], Held),
            (Captured, P::Completed, &[], Sold),
            (Failed, P::Voided, &[], Free),
            (Refunded, P::Refunded, &[], Free),
        ],
    );
    let gone: &[Row<'_>] = &[
        (Authorized, P::Voiding, &[(Void, 20)], Free),
        (Captured, P::RefundOwed, &[(Refund_, 20)], Free),
        // It may have taken money.
        (Disputed, P::Voiding, &[(Check, 20)], Free),
    ];
    check("lapsed, and late is refunded", &refund_policy, s(700), gone);
    check("released", &released, s(50), gone);
    check("lapsed, and the performance has begun", &lapsed, s(10_000), gone);
    check(
        "lapsed, and somebody else's",
        &taken,
        s(700),
        &[(Authorized, P::Voiding, &[(Void, 20)], Held), (Captured, P::RefundOwed, &[(Refund_, 20)], Held)],
    );
    // Captured beats voided, and its seats are still held.
    check("voided", &voided, s(50), &[(Authorized, P::Voided, &[], Held), (Captured, P::Completed, &[], Sold)]);
    check(
        "refunded, as was asked for",
        &refunded,
        s(50),
        &[
            (Refunded, P::Refunded, &[], Free),
            (Disputed, P::RefundOwed, &[], Free),
            (DisputeLost, P::Refunded, &[], Free),
            (Voided, P::RefundOwed, &[(Refund_, 20)], Free),
        ],
    );
}

#[test]
fn what_will_not_do_is_called_off_or_given_back() {
    let completed = || anna_pays_by_card().when(report(2, fact(Kind::Captured, "a", 20)), s(40));
    let authorized = || anna_pays_by_card().when(report(2, fact(Kind::Authorized, "a", 20)), s(40));
    let euros = |kind| Fact { currency: "EUR".parse().unwrap(), ..fact(kind, "b", 20) };
    // A second reference, another amount, another currency.
    stands(completed().when(report(2, fact(Kind::Captured, "b", 20)), s(50)), P::Completed, &[(Refund_, 20)], Sold);
    stands(completed().when(report(2, fact(Kind::Authorized, "b", 20)), s(50)), P::Completed, &[(Void, 20)], Sold);
    let then = authorized().when(report(2, fact(Kind::Captured, "b", 20)), s(50));
    stands(then, P::Authorized, &[(Capture, 20), (Refund_, 20)], Held);
    let pending = anna_pays_by_card;
    stands(pending().when(report(2, fact(Kind::Captured, "b", 19)), s(50)), P::Pending, &[(Refund_, 19)], Held);
    stands(pending().when(report(2, fact(Kind::Authorized, "b", 21)), s(50)), P::Pending, &[(Void, 21)], Held);
    stands(pending().when(report(2, euros(Kind::Captured)), s(50)), P::Pending, &[(Refund_, 20)], Held);
    stands(pending().when(report(2, euros(Kind::Authorized)), s(50)), P::Pending, &[(Void, 20)], Held);
    // The second one of a reservation.
    let second = |then: Scenario<ConcertOption>| then.when(begin(1, "anna"), s(50));
    let then = second(anna_pays_by_card().when(give_up(2, "anna"), s(45)));
    let then = then.when(report(2, fact(Kind::Captured, "a", 20)), s(60));
    let then = stands(then, P::RefundOwed, &[(Refund_, 20)], Held);
    let then = then.when(report(3, fact(Kind::Captured, "a", 20)), s(61)).then_rejected(Rejection::ReferenceInUse);
    let then = then.when(report(3, fact(Kind::Captured, "b", 20)), s(62));
    assert_eq!(by(&then, 3).0.status, P::Completed);
}

#[test]
fn a_verdict_has_an_end() {
    let then = anna_pays_by_card().when(report(2, fact(Kind::Authorized, "a", 20)), s(600));
    let then = then.reloaded().at(s(719)).then_nothing();
    let then = stands(then.at(s(720)), P::Voiding, &[(Void, 20)], Free);
    assert_eq!(then.events().len(), 1, "one event lets the seats go and calls the charge off");
    // What was taken all the same has its seats, if they are free.
    stands(then.when(report(2, fact(Kind::Captured, "a", 20)), s(721)), P::Completed, &[], Sold);
}

/// Of a charge that was disputed, or of which a refund came back, and nothing else is known, there may be money.
#[test]
fn a_charge_that_nobody_knows_enough_of_is_looked_for() {
    use Kind::{Captured, DisputeLost, DisputeWon, Disputed, Failed, RefundFailed, Refunded, Voided};
    let given_up = || anna_pays_by_card().when(give_up(2, "anna"), s(40));
    let lapsed = || anna_pays_by_card().at(s(640));
    let heard_before = |kind, amount| {
        let then = anna_pays_by_card().when(report(2, fact(kind, "a", amount)), s(35));
        then.when(give_up(2, "anna"), s(40))
    };
    let part_back = |then: Scenario<ConcertOption>| {
        let then = then.when(report(2, fact(Refunded, "a", 20)), s(650));
        then.when(report(2, fact(RefundFailed, "a", 20)), s(651))
    };
    let unclear = [
        given_up().when(report(2, fact(Disputed, "a", 20)), s(50)),
        lapsed().when(report(2, fact(DisputeWon, "a", 20)), s(650)),
        given_up().when(report(2, fact(RefundFailed, "a", 20)), s(50)),
        heard_before(Disputed, 20),
        heard_before(RefundFailed, 20),
        // A part of it went back: of the rest nobody has said where it is.
        given_up().when(report(2, fact(Refunded, "a", 5)), s(50)),
        given_up().when(report(2, fact(DisputeLost, "a", 5)), s(50)),
        part_back(lapsed()),
        // One is known not to take money, and the other may have.
        given_up().when(report(2, fact(Failed, "b", 20)), s(49)).when(report(2, fact(Disputed, "a", 20)), s(50)),
    ];
    for (nth, then) in unclear.into_iter().enumerate() {
        println!("{nth}");
        let seat = then.state().seats().status(0);
        let then = stands(then, P::Voiding, &[(Check, 20)], seat);
        // What lasts for ever is not forgotten either.
        let then = stands(then.at(s(5_000)), P::Voiding, &[(Check, 20)], Free).reloaded();
        let all_back = Fact { id: Some("all".into()), ..fact(Refunded, "a", 20) };
        for known in [fact(Captured, "a", 20), fact(Voided, "a", 20), all_back] {
            let then = then.clone().when(report(2, known.clone()), s(9_600));
            assert!(then.answer().is_ok(), "{known:?}: {:?}", then.answer());
            let owed = by(&then, 2).1;
            assert!(owed.iter().all(|(kind, _)| *kind != Check), "{known:?}: {owed:?}");
        }
    }
    // What was given back by hand is no charge, also if it was a part only, or came back.
    let then = given_up().when(release(1, as_user("anna")), s(41)).when(report(2, fact(Captured, "a", 20)), s(50));
    let then = then.when(report(2, fact(Refunded, "transfer 7", 5)), s(60));
    let then = stands(then, P::RefundOwed, &[(Refund_, 15)], Free);
    let then = then.when(report(2, fact(RefundFailed, "transfer 7", 5)), s(70));
    stands(then, P::RefundOwed, &[(Refund_, 20)], Free);
    // Also of one beside the charge that paid.
    let then = anna_pays_by_card().when(report(2, fact(Captured, "a", 20)), s(40));
    let then = stands(then.when(report(2, fact(Disputed, "b", 20)), s(50)), P::Completed, &[(Check, 20)], Sold);
    let then = then.when(report(2, fact(DisputeLost, "b", 20)), s(60));
    stands(then, P::Completed, &[], Sold);
}

/// Of a payment with as many facts as there may be, money is heard all the same.
#[test]
fn money_is_heard_of_however_much_was_said() {
    use Kind::{Captured, DisputeLost, DisputeWon, Disputed, Failed, Opened, RefundFailed, Refunded, Voided};
    let said = |kind, reference: &str, id: &str, amount| Fact { id: Some(id.into()), ..fact(kind, reference, amount) };
    let standing = by(&anna_pays_by_card(), 2).0;
    let opened = (0..FACTS_MAX).map(|n| {
        let fact = Some(fact(Opened, &format!("c{n}"), 20));
        let moved = Box::new(Moved { fact, turn: None, owing: Owing::default(), standing, key: None });
        Event::ProviderPaymentMoved { payment: 2, moved }
    });
    let then = anna_pays_by_card().given(s(40), opened);
    let full = Rejection::LimitExceeded { limit: FACTS_MAX as u64, already: FACTS_MAX as u64 };
    let then = then.when(report(2, fact(Opened, "one more", 20)), s(41)).then_rejected(full.clone());
    // Of what is not known nothing is said, and what is known can end.
    let then = then.when(report(2, fact(Failed, "one more", 20)), s(41)).then_rejected(full.clone());
    let then = then.when(report(2, fact(Failed, "c0", 20)), s(42));
    assert!(then.answer().is_ok());
    let again = Rejection::LimitExceeded { limit: FACTS_MAX as u64, already: FACTS_MAX as u64 + 1 };
    let then = then.when(report(2, said(Voided, "c0", "again", 20)), s(42)).then_rejected(again);
    let money = [
        fact(Captured, "one more", 20),
        said(Refunded, "one more", "r1", 20),
        said(RefundFailed, "one more", "r1", 20),
        said(Disputed, "one more", "d1", 20),
        said(DisputeWon, "one more", "d1", 20),
        fact(Captured, "c1", 20),
        said(DisputeLost, "c1", "d2", 20),
    ];
    let mut then = then;
    for fact in money {
        then = then.when(report(2, fact.clone()), s(43));
        assert!(then.answer().is_ok(), "{fact:?}: {:?}", then.answer());
    }
    let totals = by(&then, 2).0.totals;
    assert_eq!((totals.captured, totals.lost, totals.owed), (40, 20, 20), "{totals:?}");
}

#[test]
fn what_is_owed_is_tried_again_under_a_new_attempt() {
    let then = anna_pays_by_card().when(report(2, fact(Kind::Authorized, "a", 20)), s(40));
    let attempted = |attempt| Command::Attempted { payment: 2, owed: 1, attempt };
    let then = then.when(attempted(0), s(41)).reloaded();
    let attempts =
        |then: &Scenario<ConcertOption>| then.state().payment(2).unwrap().provider.as_ref().unwrap().owed[0].attempts;
    assert_eq!(attempts(&then), 1);
    // Told twice it counts once.
    let then = then.when(attempted(0), s(42)).then_nothing();
    assert_eq!(attempts(&then.when(attempted(1), s(43))), 2);
}

#[test]
fn refunds_that_come_back_are_settled_by_hand() {
    let of = |kind, id: &str| Fact { id: Some(id.into()), ..fact(kind, "a", 20) };
    let then = anna_pays_by_card().when(report(2, fact(Kind::Captured, "a", 20)), s(40));
    let then = then.when(refund(2, Caller::Admin), s(50)).when(report(2, of(Kind::Refunded, "r1")), s(60));
    let then = stands(then, P::Refunded, &[], Free).when(report(2, of(Kind::RefundFailed, "r1")), s(70));
    let then = stands(then, P::RefundOwed, &[(Refund_, 20)], Free);
    assert!(then.state().payment(2).unwrap().provider.as_ref().unwrap().owed[0].by_hand);
    let then = then.when(report(2, fact(Kind::Refunded, "bank transfer 7", 20)), s(80));
    stands(then, P::Refunded, &[], Free);
}

#[test]
fn who_settles_one_of_two_equal_debts_says_which() {
    let of = |kind, reference: &str, id: &str| Fact { id: Some(id.into()), ..fact(kind, reference, 20) };
    let then = anna_pays_by_card().when(give_up(2, "anna"), s(40)).when(release(1, as_user("anna")), s(41));
    let mut then = then;
    for reference in ["a", "b", "c"] {
        then = then.when(report(2, fact(Kind::Captured, reference, 20)), s(50));
        then = then.when(report(2, of(Kind::RefundFailed, reference, "r")), s(50));
    }
    let left = |then: &Scenario<ConcertOption>| {
        let by = then.state().payment(2).unwrap().provider.clone().unwrap();
        by.owed.into_iter().map(|owed| (owed.no, owed.reference.unwrap(), owed.by_hand)).collect::<Vec<_>>()
    };
    let all = left(&then);
    let without = |names: &[&str]| {
        all.iter().filter(|(_, reference, _)| !names.contains(&&**reference)).cloned().collect::<Vec<_>>()
    };
    assert_eq!(all.len(), 3);
    // The charge, and a name of one's own; or a name of one's own, and the charge. Each keeps the other debts as they were.
    let named = then.clone().when(report(2, of(Kind::Refunded, "b", "transfer 7")), s(60));
    assert_eq!(left(&named), without(&["b"]));
    for charge in ["a", "b", "c"] {
        let named = then.clone().when(report(2, of(Kind::Refunded, "transfer 7", charge)), s(60));
        assert_eq!(left(&named), without(&[charge]));
        let named = named.when(report(2, of(Kind::Refunded, "transfer 8", charge)), s(61));
        assert_eq!(left(&named).len(), 1, "what is paid twice is paid for another one");
    }
    // Who names none has settled one of them.
    let unnamed = then.when(report(2, fact(Kind::Refunded, "transfer 7", 20)), s(60));
    assert_eq!(left(&unnamed).len(), 2);
}

#[test]
fn a_dispute_holds_refunds_back() {
    let then = anna_pays_by_card().when(report(2, fact(Kind::Captured, "a", 20)), s(40));
    let then = then.when(report(2, fact(Kind::Disputed, "a", 20)), s(50)).when(refund(2, Caller::Admin), s(60));
    let won = |then: Scenario<ConcertOption>| then.when(report(2, fact(Kind::DisputeWon, "a", 20)), s(70));
    let lost = |then: Scenario<ConcertOption>| then.when(report(2, fact(Kind::DisputeLost, "a", 20)), s(70));
    let then = stands(then, P::RefundOwed, &[], Free);
    assert!(by(&then, 2).0.disputed);
    stands(won(then.clone()), P::RefundOwed, &[(Refund_, 20)], Free);
    stands(lost(then), P::Refunded, &[], Free);
    // Money that is lost while its seats stay is missing.
    let then = anna_pays_by_card().when(report(2, fact(Kind::Captured, "a", 20)), s(40));
    let then = stands(lost(then), P::Completed, &[], Sold);
    assert_eq!(by(&then, 2).0.totals.shortfall, 20);
    // So is a part that the provider gives back by itself.
    let then = anna_pays_by_card().when(report(2, fact(Kind::Captured, "a", 20)), s(40));
    let then = stands(then.when(report(2, fact(Kind::Refunded, "a", 5)), s(50)), P::Completed, &[], Sold);
    assert_eq!(by(&then, 2).0.totals.shortfall, 5);
}

/// The row of a payment that has left memory, and that of its reservation.
fn cold_rows(then: &Scenario<ConcertOption>, no: u64) -> Option<Box<Cold>> {
    let rows = &then.subject().rows;
    let row = |part: Part| rows.live.get(&part).or(rows.archived.get(&part)).cloned();
    let payment = Payment::from_row(no, &row(Part::Payment(no))?).unwrap();
    let reservation = payment.reservation;
    let reservation = Reservation::from_row(reservation, &row(Part::Reservation(reservation))?).unwrap();
    Some(Box::new(Cold { read_at: Lsn(then.subject().history.len() as u64), payment, reservation }))
}

#[test]
fn a_payment_that_went_cold_comes_back() {
    // What took money, and gave it back, stays for long: 30 s + 600 s + 1,000 s.
    let then = anna_pays_by_card()
        .when(report(2, fact(Kind::Captured, "a", 20)), s(640))
        .when(refund(2, Caller::Admin), s(650));
    let then = then.when(report(2, fact(Kind::Refunded, "a", 20)), s(660));
    let then = then.at(s(1_629)).then_nothing().at(s(1_630));
    assert!(then.state().payment(2).is_none());
    // What took none for a minute, in tens of seconds.
    let then = anna_pays_by_card().at(s(640)).when(report(2, fact(Kind::Failed, "a", 20)), s(651));
    let then = then.at(s(719)).then_nothing().at(s(720));
    assert!(then.state().payment(2).is_none());
    let captured = || Box::new(fact(Kind::Captured, "a", 20));
    let then = then.reloaded().when(report(2, *captured()), s(1_700)).then_reply(Reply::Archived);
    let found = cold_rows(&then, 2).unwrap();
    let command = |cold: &Cold| Command::Report { payment: 2, fact: captured(), cold: Some(Box::new(cold.clone())) };
    let then = then.when(command(&found), s(1_701));
    let then = stands(then, P::Completed, &[], Sold);
    // What was read before it came back does not count.
    let then = then.when(report(2, fact(Kind::Refunded, "a", 20)), s(1_800)).at(s(1_801)).reloaded();
    assert!(then.state().payment(2).is_none() && then.state().reservation(1).is_none());
    let then = then.when(command(&found), s(1_900)).then_reply(Reply::Archived).then_nothing();
    let found = cold_rows(&then, 2).unwrap();
    // The same as before changes nothing, and wakes nothing.
    then.when(command(&found), s(1_901)).then_nothing();
}

/// A charge at a provider, as it really is.
#[derive(Debug, Clone, Default)]
struct Charge {
    amount: u32,
    authorized: bool,
    captured: bool,
    dead: bool,
    refunded: u32,
    lost: u32,
}

/// A provider with its buyers, who do what they like, and tell of it late, twice and in any order.
struct Chaos {
    dice: Random,
    then: Scenario<ConcertOption>,
    audit: Audit,
    audited: usize,
    now: u64,
    /// By reference.
    charges: BTreeMap<(u64, String), Charge>,
    /// What was refunded under which key.
    done: BTreeMap<(u64, u32), Fact>,
    /// What was given back by hand, by payment and what was owed.
    by_hand: BTreeMap<(u64, u32), u32>,
    untold: Vec<(u64, Fact)>,
    payments: Vec<u64>,
    names: u64,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let dice = Random(seed);
        let definition = Definition { hold_seconds: 300, max_seats_per_user: 20, ..card_definition() };
        let event = Event::OptionDefined { option: OPTION, definition: Box::new(definition) };
        Self {
            dice,
            then: given(s(0), [event]),
            audit: Audit::default(),
            audited: 0,
            now: 20,
            charges: BTreeMap::new(),
            done: BTreeMap::new(),
            by_hand: BTreeMap::new(),
            untold: Vec::new(),
            payments: Vec::new(),
            names: 0,
        }
    }

    fn check(&mut self) {
        for (meta, event) in &self.then.subject().history[self.audited..] {
            let meta: Meta = *meta;
            self.audit.option_event(OPTION, meta, event).unwrap();
        }
        self.audited = self.then.subject().history.len();
        self.audit.agrees_with_option(OPTION, self.then.state()).unwrap();
        for (no, payment, by) in self.then.state().provider_payments() {
            assert!(by.owing(payment.amount, s(0)) == Owing::default(), "what {no} owes is told");
        }
    }

    fn ask(&mut self, command: Command) -> Result<Answer<Reply>, Rejection> {
        self.then = self.then.clone().when(command, s(self.now));
        if self.dice.chance(30) {
            self.then = self.then.clone().reloaded();
        }
        let answer = self.then.answer().clone();
        self.check();
        answer
    }

    fn say(&mut self, payment: u64, kind: Kind, reference: &str, id: Option<String>, amount: u32) {
        let fact = Fact { id, ..fact(kind, reference, amount) };
        self.untold.push((payment, fact));
    }

    /// Brings the engine something that was not told yet, or was.
    fn tell(&mut self, keeps: bool) {
        if self.untold.is_empty() {
            return;
        }
        let any = self.dice.below(self.untold.len() as u64) as usize;
        let (payment, fact) = self.untold[any].clone();
        if !(keeps && self.dice.chance(300)) {
            self.untold.swap_remove(any);
        }
        let fact = Box::new(fact);
        let mut answer = self.ask(Command::Report { payment, fact: fact.clone(), cold: None });
        // Others may go cold meanwhile.
        while answer == Ok(Answer::Reply(Reply::Archived)) {
            let cold = cold_rows(&self.then, payment);
            assert!(cold.is_some(), "{payment} is nowhere");
            answer = self.ask(Command::Report { payment, fact: fact.clone(), cold });
        }
        assert!(matches!(answer, Ok(Answer::Reply(Reply::Payment(..)))), "{answer:?}");
    }

    fn buyer(&mut self) {
        let name = *self.dice.pick(&["anna", "bob"]);
        match self.dice.below(10) {
            0..=3 => {
                let seat = self.dice.below(6) as u32;
                let _ = self.ask(hold(name, &[seat]));
            }
            4..=7 => {
                let held: Vec<_> = self.then.state().reservations().map(|(no, one)| (no, one.user.clone())).collect();
                let Some((no, owner)) = (!held.is_empty()).then(|| self.dice.pick(&held).clone()) else { return };
                let late = if self.dice.chance(800) { Late::Reacquire } else { Late::Refund };
                if let Ok(Answer::Reply(Reply::Payment(payment, _))) =
                    self.ask(begin_by(no, owner.as_str(), method(late)))
                {
                    self.payments.push(payment);
                }
            }
            8 => {
                let no = self.any_payment();
                let _ = self.ask(Command::GiveUp { payment: no, caller: Caller::Admin });
            }
            _ => {
                let no = self.dice.below(8) + 1;
                let command = match self.dice.below(4) {
                    0 => release(no, Caller::Admin),
                    1 => block(&[self.dice.below(6) as u32]),
                    2 => unblock(&[0, 1, 2, 3, 4, 5]),
                    _ => refund(self.any_payment(), Caller::Admin),
                };
                let _ = self.ask(command);
            }
        }
    }

    fn any_payment(&mut self) -> u64 {
        if self.payments.is_empty() { 0 } else { *self.dice.pick(&self.payments.clone()) }
    }

    fn provider(&mut self) {
        let no = self.any_payment();
        if no == 0 {
            return;
        }
        let known: Vec<_> = self.charges.keys().filter(|(of, _)| *of == no).cloned().collect();
        if known.is_empty() || self.dice.chance(150) {
            // The buyer pays, once more perhaps.
            self.names += 1;
            let reference = format!("c{}", self.names);
            let amount = if self.dice.chance(900) { 10 } else { 7 };
            self.charges.insert((no, reference.clone()), Charge { amount, ..Charge::default() });
            if self.dice.coin() {
                self.say(no, Kind::Opened, &reference, None, amount);
            }
            return;
        }
        let key = self.dice.pick(&known).clone();
        let reference = key.1.clone();
        let (roll, part) = (self.dice.below(12), 1 + self.dice.below(10) as u32);
        let Some(charge) = self.charges.get_mut(&key) else { return };
        let amount = charge.amount;
        let left = if charge.captured { amount.saturating_sub(charge.refunded + charge.lost) } else { 0 };
        match roll {
            0..=3 if !charge.dead && !charge.authorized && !charge.captured => {
                charge.authorized = true;
                self.say(no, Kind::Authorized, &reference, None, amount);
            }
            4..=6 if !charge.dead && !charge.captured => {
                charge.captured = true;
                self.say(no, Kind::Captured, &reference, None, amount);
            }
            7 if !charge.captured => {
                charge.dead = true;
                self.say(no, Kind::Failed, &reference, None, amount);
            }
            // It contradicts itself.
            8 if charge.captured => {
                let kind = if self.dice.coin() { Kind::Failed } else { Kind::Voided };
                self.say(no, kind, &reference, None, amount);
            }
            9 | 10 if left > 0 => {
                let part = if roll == 9 { left } else { part.min(left) };
                charge.refunded += part;
                self.names += 1;
                let id = format!("u{}", self.names);
                self.say(no, Kind::Refunded, &reference, Some(id), part);
            }
            11 if left > 0 => {
                self.names += 1;
                let id = format!("d{}", self.names);
                self.say(no, Kind::Disputed, &reference, Some(id.clone()), left);
                let ended = if part > 5 {
                    charge_lost(&mut self.charges, &key, left);
                    Kind::DisputeLost
                } else {
                    Kind::DisputeWon
                };
                self.say(no, ended, &reference, Some(id), left);
            }
            _ => {}
        }
    }

    /// Does something that is owed, or fails to.
    fn execute(&mut self) {
        let owing: Vec<_> = (self.then.state().owing_payments())
            .flat_map(|(no, payment)| {
                payment.provider.iter().flat_map(move |by| by.owed.clone().into_iter().map(move |owed| (no, owed)))
            })
            .collect();
        if owing.is_empty() {
            return;
        }
        let (no, owed) = self.dice.pick(&owing).clone();
        let amount = u32::try_from(owed.amount.get()).unwrap();
        let reference = owed.reference.clone().unwrap_or_default();
        let key = (no, reference.clone());
        if owed.by_hand {
            // Whoever looks again before it was told pays once more, with a reference of its own.
            self.names += 1;
            let reference = format!("hand-{no}-{}", self.names);
            *self.by_hand.entry((no, owed.no)).or_default() += amount;
            self.untold.push((no, fact(Kind::Refunded, &reference, amount)));
            return;
        }
        let fails = match (owed.kind, self.charges.get_mut(&key)) {
            (Capture, Some(charge)) if charge.captured || charge.dead => true,
            (Capture, Some(charge)) => {
                charge.captured = true;
                self.say(no, Kind::Captured, &reference, None, amount);
                false
            }
            (Void, Some(charge)) if charge.captured => true,
            (Void, Some(charge)) => {
                charge.dead = true;
                let amount = charge.amount;
                self.say(no, Kind::Voided, &reference, None, amount);
                false
            }
            (Refund_, Some(charge)) => match self.done.get(&(no, owed.no)) {
                // An attempt that is repeated is done once.
                Some(fact) => {
                    self.untold.push((no, fact.clone()));
                    false
                }
                None if charge.refunded + charge.lost + amount > charge.amount => true,
                None => {
                    let id = Some(format!("r{no}-{}", owed.no));
                    let fact = Fact { id: id.clone(), ..fact(Kind::Refunded, &reference, amount) };
                    self.done.insert((no, owed.no), fact.clone());
                    self.untold.push((no, fact));
                    if self.dice.chance(100) {
                        self.say(no, Kind::RefundFailed, &reference, id, amount);
                    } else {
                        charge.refunded += amount;
                    }
                    false
                }
            },
            (Check, _) => {
                let known: Vec<_> = self.charges.iter_mut().filter(|((of, _), _)| *of == no).collect();
                let mut found = Vec::new();
                for ((_, reference), charge) in known {
                    charge.dead |= !charge.captured;
                    let kind = if charge.captured { Kind::Captured } else { Kind::Voided };
                    found.push((no, fact(kind, reference, charge.amount)));
                }
                if found.is_empty() {
                    // No charge of this payment can begin any more.
                    self.payments.retain(|other| *other != no);
                    found.push((no, fact(Kind::Voided, &format!("none-{no}"), amount)));
                }
                self.untold.extend(found);
                false
            }
            (_, None) => panic!("{owed:?} of a charge that is not there"),
        };
        if fails {
            let (payment, attempt) = (no, owed.attempts);
            let _ = self.ask(Command::Attempted { payment, owed: owed.no, attempt });
        }
    }

    fn run(mut self) {
        for _ in 0..120 {
            match self.dice.below(20) {
                0..=4 => self.buyer(),
                5..=9 => self.provider(),
                10..=14 => self.tell(true),
                15..=17 => self.execute(),
                18 => self.now += self.dice.below(90),
                _ if self.dice.chance(150) => self.now += self.dice.below(3_000),
                _ => self.now += self.dice.below(10),
            }
        }
        // Nobody pays any more, and all is told.
        for round in 0.. {
            assert!(
                round < 3_000,
                "something is owed for ever: {:?}",
                self.then.state().owing_payments().collect::<Vec<_>>()
            );
            while !self.untold.is_empty() {
                self.tell(false);
            }
            let is_pending = |(_, _, by): &(u64, &Payment, &ByProvider)| {
                matches!(by.stand, Stand::Pending | Stand::Authorized { .. })
            };
            let pending = self.then.state().provider_payments().any(|one| is_pending(&one));
            if !pending && self.then.state().owing_payments().next().is_none() {
                break;
            }
            self.execute();
            self.now += 10;
            self.then = self.then.clone().at(s(self.now));
            self.check();
        }
        self.settled();
    }

    /// Whoever was charged has the seats, or the money back; and what the engine thinks is what is.
    fn settled(&self) {
        for no in self.audit_payments() {
            let found = self.then.state().payment(no).cloned();
            let payment = found.or_else(|| Some(cold_rows(&self.then, no)?.payment)).unwrap();
            let by = payment.provider.as_ref().unwrap();
            let standing = by.standing(payment.amount, payment.paid_at);
            let charges = self.charges.iter().filter(|((of, _), _)| *of == no).map(|(_, charge)| charge);
            let (mut taken, mut back, mut lost) = (0, 0, 0);
            for charge in charges {
                taken += if charge.captured { u64::from(charge.amount) } else { 0 };
                back += u64::from(charge.refunded + charge.lost);
                lost += charge.lost;
            }
            let by_hand = self.by_hand.iter().filter(|((of, _), _)| *of == no);
            let by_hand = by_hand.map(|(_, amount)| u64::from(*amount)).sum::<u64>();
            back += by_hand;
            let totals = standing.totals;
            // More goes back only where a bank or a provider takes it to itself at the same time, or somebody does so by hand.
            assert!(back <= taken || lost > 0 || by_hand > 0, "{no}: {payment:#?}");
            let taken = taken.max(back);
            assert_eq!((totals.captured, totals.refunded + totals.lost), (taken, back), "{no}: {payment:#?}");
            let price = if matches!(by.stand, Stand::Confirmed { .. }) { payment.amount.get() } else { 0 };
            assert_eq!(taken + totals.shortfall, price + back, "{no}: {payment:#?}");
            if price > 0 {
                let reservation = self.then.state().reservation(payment.reservation).unwrap();
                assert_eq!(reservation.status, ReservationStatus::Confirmed { payment: no });
            }
        }
    }

    fn audit_payments(&self) -> Vec<u64> {
        let started = |(_, event): &(Meta, Event)| match event {
            Event::ProviderPaymentStarted { payment, .. } => Some(*payment),
            _ => None,
        };
        self.then.subject().history.iter().filter_map(started).collect()
    }
}

fn charge_lost(charges: &mut BTreeMap<(u64, String), Charge>, key: &(u64, String), lost: u32) {
    if let Some(charge) = charges.get_mut(key) {
        charge.lost += lost;
    }
}

#[test]
fn whoever_was_charged_has_the_seats_or_the_money_back() {
    let first = seed();
    let seeds = std::env::var("BOXOFFICE_MONEY_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(100);
    for seed in first..first + seeds {
        println!("seed {seed}: BOXOFFICE_TEST_SEED={seed} BOXOFFICE_MONEY_SEEDS=1");
        Chaos::new(seed).run();
    }
}

/// Anna has paid 20 for seats 0 and 1 by card, as reservation 1 by payment 2.
fn anna_has_paid_by_card() -> Scenario<ConcertOption> {
    let then = anna_pays_by_card().when(report(2, fact(Kind::Authorized, "a", 20)), s(40));
    then.when(report(2, fact(Kind::Captured, "a", 20)), s(41))
}

fn part(seats: &[u32]) -> Portion {
    Portion { seats: seats.into(), areas: smallvec![] }
}

fn refund_part(seats: &[u32]) -> Command {
    let (caller, plan) = (as_user("anna"), plan());
    Command::RefundPart { payment: 2, caller, part: part(seats), plan, request: Request::default() }
}

fn exchange(give: &[u32], take: &[u32]) -> Command {
    let (caller, plan, request) = (as_user("anna"), plan(), Request::default());
    Command::Exchange { reservation: 1, caller, give: part(give), take: part(take), plan, request }
}

/// I1, I13 and I16, read from the events alone.
#[track_caller]
fn audited(then: Scenario<ConcertOption>) -> Scenario<ConcertOption> {
    let then = then.reloaded();
    let mut audit = Audit::default();
    for (meta, event) in &then.subject().history {
        if let Err(broken) = audit.option_event(OPTION, *meta, event) {
            panic!("{broken} by {event:?}");
        }
    }
    audit.agrees_with_option(OPTION, then.state()).unwrap_or_else(|broken| panic!("{broken}"));
    then
}

#[test]
fn a_part_of_what_a_provider_took_goes_back() {
    let then = anna_has_paid_by_card().when(refund_part(&[1]), s(50));
    let Ok(Answer::Reply(Reply::RefundOwed(3, owed))) = then.answer() else { panic!("{:?}", then.answer()) };
    assert_eq!(owed.amount, points(10));
    let then = stands(audited(then), P::Completed, &[(Refund_, 10)], Sold);
    assert_eq!(then.state().seats().status(1), Free);
    // One at a time: what is owed is one refund until it is told.
    for command in [refund_part(&[0]), refund(2, Caller::Admin), exchange(&[0], &[5])] {
        then.clone().when(command, s(51)).then_rejected(Rejection::ChangeUnderWay);
    }
    let then = then.when(report(2, fact(Kind::Refunded, "a", 10)), s(60));
    let then = stands(audited(then), P::Completed, &[], Sold);
    let (standing, _) = by(&then, 2);
    assert_eq!((standing.totals.confirmed, standing.totals.refunded), (10, 10));
    // The rest goes back as a whole.
    let then = then.when(refund(2, Caller::Admin), s(70));
    let Ok(Answer::Reply(Reply::RefundOwed(4, owed))) = then.answer() else { panic!("{:?}", then.answer()) };
    assert_eq!(owed.amount, points(10));
    let then = stands(audited(then), P::RefundOwed, &[(Refund_, 10)], Free);
    let id = Some("second".into());
    let then = then.when(report(2, Fact { id, ..fact(Kind::Refunded, "a", 10) }), s(80));
    stands(audited(then), P::Refunded, &[], Free);
}

#[test]
fn what_a_provider_took_can_become_less_and_not_more() {
    let then = anna_has_paid_by_card().when(exchange(&[1], &[5]), s(50));
    let then = stands(audited(then), P::Completed, &[], Sold).when(exchange(&[0], &[12]), s(51));
    assert_eq!((then.state().seats().status(12), then.state().seats().status(0)), (Sold, Free));
    let (standing, owed) = by(&then, 2);
    assert_eq!((standing.totals.confirmed, &*owed), (10, &[(Refund_, 10)][..]));
    let then = audited(then).when(report(2, fact(Kind::Refunded, "a", 10)), s(60));
    let then = audited(then).when(exchange(&[12], &[7]), s(61)).then_rejected(Rejection::PriceWouldRise);
    // The provider gives back all that is left, by itself.
    let id = Some("all".into());
    let then = then.when(report(2, Fact { id, ..fact(Kind::Refunded, "a", 10) }), s(70));
    assert_eq!((then.state().seats().status(5), by(&then, 2).0.status), (Free, P::Refunded));
    audited(then);
}

#[test]
fn late_money_is_for_the_order_that_it_was_for() {
    // Given up, and a part of the hold too: what comes then is not its price.
    let then = anna_pays_by_card().when(give_up(2, "anna"), s(40));
    let part = Command::ReleasePart {
        reservation: 1,
        caller: as_user("anna"),
        part: part(&[1]),
        plan: plan(),
        request: Request::default(),
    };
    let then = audited(then.when(part, s(41))).when(report(2, fact(Kind::Captured, "a", 20)), s(42));
    let then = stands(audited(then), P::RefundOwed, &[(Refund_, 20)], Held);
    assert_eq!(then.state().reservation(1).unwrap().status, ReservationStatus::Held);
}
