//! Another seating plan while it is sold.

use super::*;
use crate::domain::invariants::Audit;

/// The house without A10 and B1, with A11 beside A9 and B2 in category A.
fn smaller() -> SeatingPlan {
    let seat = |guid: &str, category: &str| format!(r#"{{"seat_guid":"{guid}","category":"{category}"}}"#);
    let a: Vec<_> = (1..=11).filter(|k| *k != 10).map(|k| seat(&format!("A{k}"), "A")).collect();
    let b: Vec<_> = (2..=10).map(|k| seat(&format!("B{k}"), if k == 2 { "A" } else { "B" })).collect();
    let json = format!(
        r#"{{"categories":[{{"name":"B"}},{{"name":"A"}}],"zones":[{{"name":"New","rows":[{{"seats":[{}]}},{{"seats":[{}]}}]}}]}}"#,
        b.join(","),
        a.join(",")
    );
    SeatingPlan::parse(json.as_bytes(), &Limits::default()).unwrap()
}

fn new(hash: u8, plan: &SeatingPlan) -> NewPlan {
    NewPlan {
        plan: PlanHash([hash; 32]),
        seat_count: plan.numbers(),
        withdrawn: plan.numbers() - plan.len(),
        not_for_sale: plan.not_for_sale().collect(),
        prices: Vec::new(),
        accessible: None,
        focus: None,
    }
}

fn replan(new: NewPlan, plan: Arc<PricedPlan>, request: Request) -> Command {
    Command::Replan { new: Box::new(new), by: user("boss"), plan, request }
}

/// With the smaller plan, from 100 s on.
fn replanned(scenario: Scenario<ConcertOption>) -> (Scenario<ConcertOption>, Arc<PricedPlan>) {
    let smaller = Arc::new(smaller().after(&seating_plan()));
    let then = scenario.when(replan(new(1, &smaller), plan(), Request::default()), s(100));
    let then = then.then_reply(Reply::Done).reloaded();
    let terms = then.state().definition().unwrap().clone();
    (then, Arc::new(PricedPlan::new(OPTION, terms, smaller)))
}

fn no(plan: &PricedPlan, guid: &str) -> u32 {
    plan.plan.known_seat(guid).unwrap()
}

#[test]
fn seats_stay_go_and_come() {
    let (then, now) = replanned(defined().given(s(20), [held(1, "anna", &[0, 1], s(320)), blocked(&[3, 10])]));
    let expected = Counts { available: 16 + 8, held: 2, sold: 0, blocked: 1 };
    assert_eq!((then.state().counts(), then.state().seats().len()), (expected, 21));
    assert_eq!(["A1", "A10", "B1", "B2", "A11"].map(|guid| no(&now, guid)), [0, 9, 10, 11, 20]);
    let free = (SeatStatus::Free, 0);
    let map =
        [(SeatStatus::Held, 1), (SeatStatus::Blocked, 0), (SeatStatus::Blocked, 0), (SeatStatus::Blocked, 0), free];
    assert_eq!(statuses(&then, &[0, 3, 9, 10, 20]), map);
    assert_eq!([0, 9, 10, 20].map(|seat| then.state().seats().seq(seat)), [Lsn(2), Lsn(4), Lsn(4), Lsn(4)]);
    assert_eq!(then.state().seq(), Lsn(4));
    // What was held costs what it cost; what is held then is of the new category.
    assert_eq!((now.seat_price(no(&now, "B2")), now.first_seat_price(no(&now, "B2"))), (points(10), points(0)));
    let wish = Wish::Seats(smallvec![no(&now, "A11"), no(&now, "B2")]);
    let hold = |wish| Command::Hold {
        user: user("bob"),
        wish,
        token: None,
        note: None,
        plan: now.clone(),
        request: Request::default(),
    };
    let then = then.when(hold(wish), s(101));
    assert_eq!(then.state().reservation(2).unwrap().amount, points(20));
    // What is withdrawn is nobody's, and does not come back by hand.
    let gone = Rejection::SeatsUnavailable { conflicts: smallvec![9, 10] };
    let then = then.when(hold(Wish::Seats(smallvec![9, 10])), s(102)).then_rejected(gone);
    let then = then.when(unblock(&[9, 10]), s(103)).then_nothing().then_reply(Reply::Done);
    // With the first plan again, seats have their old numbers, and are free; what was blocked is blocked.
    let back = Arc::new((*seating_plan()).clone().after(&now.plan));
    let in_use = Rejection::SeatsInUse { conflicts: smallvec![20], in_use: 1 };
    let then = then.when(replan(new(0, &back), now.clone(), Request::default()), s(104)).then_rejected(in_use);
    let then = then.when(release(2, as_user("bob")), s(105));
    let then = then.when(replan(new(0, &back), now, Request::default()), s(106)).then_reply(Reply::Done).reloaded();
    assert_eq!(statuses(&then, &[9, 10, 20]), [free, (SeatStatus::Blocked, 0), (SeatStatus::Blocked, 0)]);
    let terms = then.state().definition().unwrap();
    assert_eq!((terms.former_plans(), terms.withdrawn()), (&[PlanHash([0; 32]), PlanHash([1; 32])][..], 1));
    assert_eq!(then.state().counts(), Counts { available: 16 + 8, held: 2, sold: 0, blocked: 2 });
    let mut audit = Audit::default();
    for (meta, event) in &then.subject().history {
        audit.option_event(OPTION, *meta, event).unwrap();
    }
    audit.agrees_with_option(OPTION, then.state()).unwrap();
}

#[test]
fn what_is_in_use_does_not_go() {
    let smaller = smaller().after(&seating_plan());
    let ask = || replan(new(1, &smaller), plan(), Request::default());
    let in_use =
        |conflicts: &[u32]| Rejection::SeatsInUse { conflicts: conflicts.into(), in_use: conflicts.len() as u64 };
    let holds = defined().given(s(20), [held(1, "anna", &[8, 9, 10], s(320))]);
    let holds = holds.when(ask(), s(21)).then_nothing().then_rejected(in_use(&[9, 10]));
    let pays = holds.given(s(30), [started(2, 1, s(90))]).when(ask(), s(31)).then_rejected(in_use(&[9, 10]));
    let paid = pays.given(s(40), [confirmed(2, 5, s(39))]).when(ask(), s(41)).then_rejected(in_use(&[9, 10]));
    // Not for sale is as good as gone.
    let none = NewPlan { not_for_sale: (8..12).collect(), seat_count: 20, withdrawn: 0, ..new(2, &smaller) };
    let paid = paid.when(replan(none, plan(), Request::default()), s(42)).then_rejected(in_use(&[8, 9, 10]));
    let back = paid.given(s(50), [Event::PaymentRefunded { refund: 3, payment: 2, key: None, by: None }]);
    back.when(ask(), s(51)).then_reply(Reply::Done);
    // Of very many, some are named.
    let (all, prices) = ((0..1_500).collect(), definition().prices);
    let large = Definition { seat_count: 1_500, ..definition() };
    let none = NewPlan { not_for_sale: all, seat_count: 1_500, prices, ..new(2, &smaller) };
    let seats: Vec<u32> = (0..1_500).collect();
    let events =
        [Event::OptionDefined { option: OPTION, definition: Box::new(large) }, held(1, "anna", &seats, s(320))];
    let refused = given::<ConcertOption>(s(0), events).when(replan(none, plan(), Request::default()), s(1));
    let Err(Rejection::SeatsInUse { conflicts, in_use }) = refused.answer() else { panic!("it was done") };
    assert_eq!((conflicts.len(), *in_use), (1_000, 1_500));
}

#[test]
fn the_same_plan_again_changes_nothing_and_a_key_stands_for_one_change() {
    let (then, now) = replanned(defined());
    let same = new(1, &now.plan);
    let ask = |new: &NewPlan, plan: &Arc<PricedPlan>, request| replan(new.clone(), plan.clone(), request);
    let then = then.when(ask(&same, &now, Request::default()), s(101)).then_nothing().then_reply(Reply::Done);
    // With a key that is kept, so that it does not come back later.
    let then = then.when(ask(&same, &now, with_key(1, 1)), s(102)).then_reply(Reply::Done).reloaded();
    assert_eq!((then.state().definition(), then.state().seq()), (Some(&now.definition), Lsn(2)));
    let back = Arc::new((*seating_plan()).clone().after(&now.plan));
    let then = then.when(ask(&new(0, &back), &now, Request::default()), s(103)).then_reply(Reply::Done);
    let terms = then.state().definition().unwrap().clone();
    let last = Arc::new(PricedPlan::new(OPTION, terms, back));
    let then = then.when(ask(&same, &last, with_key(1, 1)), s(104)).then_nothing().then_reply(Reply::Replayed(0));
    let then = then.when(ask(&same, &last, with_key(1, 2)), s(105)).then_rejected(Rejection::IdempotencyKeyReused);
    // Prices alone may come with the same plan.
    let dearer = NewPlan { prices: vec![Price { category: "A".into(), points: points(11) }], ..new(0, &last.plan) };
    let then = then.when(ask(&dearer, &last, Request::default()), s(106)).then_reply(Reply::Done);
    let terms = then.state().definition().unwrap();
    assert_eq!((terms.version(), terms.former_plans().len(), terms.prices[0].points), (3, 2, points(11)));
    assert_eq!(then.state().seq(), Lsn(4));
}

#[test]
fn what_else_stands_against_a_plan() {
    let smaller = smaller().after(&seating_plan());
    let ask = || replan(new(1, &smaller), plan(), Request::default());
    given::<ConcertOption>(s(0), []).when(ask(), s(1)).then_rejected(Rejection::NotFound);
    let off = Command::CallOff { reason: None, by: user("boss"), request: Request::default() };
    defined().when(off, s(20)).when(ask(), s(21)).then_rejected(Rejection::SaleNotOpen);
    // It was made for the plan before.
    let (then, now) = replanned(defined());
    let then = then.when(ask(), s(101)).then_nothing().then_reply(Reply::Outdated);
    then.when(hold("bob", &[1]), s(102)).then_nothing().then_reply(Reply::Outdated);
    let large = NewPlan { seat_count: 1_000_001, ..new(2, &now.plan) };
    let (then, now) = replanned(defined());
    match then.when(replan(large, now, Request::default()), s(103)).answer() {
        Err(Rejection::Invalid(flaws)) => assert_eq!(flaws[0].field, "seating_plan"),
        other => panic!("{other:?}"),
    }
}

/// Of a hold of before prices were kept, a seat costs what its category in the first plan did.
#[test]
fn first_prices_are_those_of_the_first_plan() {
    let (_, now) = replanned(defined());
    assert_eq!(
        ["B2", "A1", "A11"].map(|guid| now.first_seat_price(no(&now, guid))),
        [points(0), points(10), points(10)]
    );
    assert_eq!(now.seat_price(no(&now, "B2")), points(10));
}
