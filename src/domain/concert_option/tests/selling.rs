//! What is sold changes, for holds from then on.

use super::*;
use crate::domain::invariants::Audit;

fn change(patch: OptionPatch) -> Command {
    Command::Change { patch: Box::new(patch), by: user("boss") }
}

fn floor(capacity: u32) -> AreaPatch {
    AreaPatch { name: "Floor".into(), capacity: Some(capacity), category: None }
}

fn price(category: &str, amount: u64) -> Price {
    Price { category: category.into(), points: points(amount) }
}

/// As it is after some changes; the versions and the first prices follow.
fn terms(version: u64, change: impl FnOnce(&mut Definition)) -> Definition {
    let mut then = definition();
    change(&mut then);
    then.amended = Some(Box::new(Amended { version, first_prices: definition().prices, replanned: None }));
    then
}

#[test]
fn what_changes_stands_in_one_event_with_who_did_it() {
    let patch = OptionPatch {
        starts_at: Some(s(20_000)),
        prices: vec![price("A", 7), price("C", 3)],
        areas: vec![floor(9), AreaPatch { name: "Bar".into(), capacity: Some(2), category: Some("C".into()) }],
        hold_seconds: Some(10),
        payment_seconds: Some(20),
        max_seats_per_reservation: Some(3),
        max_seats_per_user: Some(5),
        ..OptionPatch::default()
    };
    let first = terms(1, |then| {
        then.starts_at = s(20_000);
        then.prices = vec![price("A", 7), price("B", 0), price("C", 3)];
        then.areas[0].capacity = 9;
        then.areas.push(Area { name: "Bar".into(), capacity: 2, category: "C".into() });
        (then.hold_seconds, then.payment_seconds) = (10, 20);
        (then.max_seats_per_reservation, then.max_seats_per_user) = (3, 5);
    });
    let by = user("boss");
    let then = defined().when(change(patch.clone()), s(20)).then_reply(Reply::Done);
    let then =
        then.then_events([Event::OptionChanged { definition: Box::new(first), by: by.clone(), key: None }]).reloaded();
    assert_eq!((then.state().areas().len(), then.state().seq()), (3, Lsn(2)));
    assert_eq!((then.state().areas()[0].seq, then.state().areas()[1].seq), (Lsn(2), Lsn(0)));
    let then = then.when(change(patch), s(21)).then_nothing().then_reply(Reply::Done);
    // Times of the sale alone are what they were before.
    let window = WindowPatch { refundable_until: Some(None), ..WindowPatch::default() };
    let then = then.when(change(OptionPatch { window, ..OptionPatch::default() }), s(22));
    let window = Window { refundable_until: None, ..definition().window };
    let then = then.then_events([Event::OptionRescheduled { window, by: Some(by) }]);
    // And the second version has the first prices too.
    let then = then.when(change(OptionPatch { prices: vec![price("A", 8)], ..OptionPatch::default() }), s(23));
    let terms = then.reloaded().state().definition().unwrap().clone();
    assert_eq!((terms.version(), terms.first_prices(), terms.window), (2, &*definition().prices, window));
}

#[test]
fn a_sale_that_closed_when_it_started_still_does() {
    let closes = |patch: WindowPatch, to: u64| {
        let to_the_start = WindowPatch { sale_closes_at: Some(None), ..WindowPatch::default() };
        let patch = OptionPatch { window: patch, starts_at: Some(s(to)), ..OptionPatch::default() };
        let then = defined().when(Command::Reschedule { patch: to_the_start }, s(5)).when(change(patch), s(6));
        then.state().window().sale_closes_at
    };
    assert_eq!(closes(WindowPatch::default(), 20_000), s(20_000));
    assert_eq!(
        closes(WindowPatch { sale_closes_at: Some(Some(s(9_000))), ..WindowPatch::default() }, 20_000),
        s(9_000)
    );
    let then = defined().when(change(OptionPatch { starts_at: Some(s(20_000)), ..OptionPatch::default() }), s(6));
    assert_eq!(then.state().window().sale_closes_at, definition().window.sale_closes_at);
}

#[test]
fn what_stands_against_a_change() {
    let invalid = |patch: OptionPatch, field: &str| match defined().when(change(patch), s(20)).answer() {
        Err(Rejection::Invalid(flaws)) => assert!(flaws.iter().any(|flaw| flaw.field == field), "{flaws:?}"),
        other => panic!("{field}: {other:?}"),
    };
    let none = OptionPatch::default;
    let new = |capacity, category: Option<&str>| AreaPatch {
        name: "Bar".into(),
        capacity,
        category: category.map(str::to_owned),
    };
    invalid(OptionPatch { areas: vec![floor(0)], ..none() }, "areas[0].capacity");
    invalid(OptionPatch { areas: vec![floor(3), floor(4)], ..none() }, "areas[1].name");
    invalid(OptionPatch { areas: vec![new(None, Some("A"))], ..none() }, "areas[0].capacity");
    invalid(OptionPatch { areas: vec![new(Some(1), None)], ..none() }, "areas[0].category");
    invalid(OptionPatch { areas: vec![new(Some(1), Some("Z"))], ..none() }, "areas[2].category");
    let other = AreaPatch { category: Some("B".into()), ..floor(5) };
    invalid(OptionPatch { areas: vec![other], ..none() }, "areas[0].category");
    invalid(OptionPatch { prices: vec![Price { points: Points::MAX, ..price("A", 1) }], ..none() }, "prices");
    invalid(OptionPatch { hold_seconds: Some(0), ..none() }, "hold_seconds");
    invalid(OptionPatch { max_seats_per_user: Some(10_001), ..none() }, "max_seats_per_user");
    let opens_late = WindowPatch { sale_opens_at: Some(Some(s(5_000))), ..WindowPatch::default() };
    invalid(OptionPatch { window: opens_late, ..none() }, "sale_opens_at");
    given::<ConcertOption>(s(0), []).when(change(none()), s(1)).then_rejected(Rejection::NotFound);

    let holds = defined().when(hold_for("anna", Wish::Areas(smallvec![places(0, 3)]), Request::default()), s(20));
    let refused = Rejection::CapacityInUse { area: "Floor".into(), in_use: 3 };
    let to = |capacity| change(OptionPatch { areas: vec![floor(capacity)], ..none() });
    let holds = holds.when(to(2), s(21)).then_rejected(refused).when(to(3), s(22)).then_reply(Reply::Done);
    assert_eq!(holds.state().counts().available, 20 + 3);
    // What is full stays full.
    let before = hold_for("bob", Wish::Areas(smallvec![places(0, 1)]), Request::default());
    let holds = holds.when(before, s(23)).then_rejected(Rejection::NotEnoughSeats);
    let mut audit = Audit::default();
    for (meta, event) in &holds.subject().history {
        audit.option_event(OPTION, *meta, event).unwrap();
    }
}

/// What comes with terms of before is decided by those of now; what was held keeps its prices.
#[test]
fn prices_are_those_of_the_hold() {
    let then = defined().given(s(20), [held(1, "anna", &[0], s(320))]);
    let then = then.when(change(OptionPatch { prices: vec![price("A", 4)], ..OptionPatch::default() }), s(21));
    let now = Arc::new(PricedPlan::new(OPTION, then.state().definition().unwrap().clone(), seating_plan()));
    assert_eq!((now.seat_price(0), now.first_seat_price(0)), (points(4), points(10)));
    assert_eq!((now.area_price(0), now.first_area_price(0)), (points(4), points(10)));
    let then = then.when(hold("bob", &[1]), s(22));
    let amount = |no: u64| then.state().reservation(no).unwrap().amount;
    assert_eq!((amount(1), amount(2)), (points(10), points(4)));
    // Holds of before prices were kept have the first ones.
    let Event::SeatsHeld { user, seats, areas, expires_at, .. } = held(1, "anna", &[0, 1], s(320)) else { panic!() };
    let old = Event::SeatsHeld {
        reservation: 1,
        user,
        seats,
        areas,
        amount: points(20),
        expires_at,
        token: None,
        key: None,
        prices: Prices::default(),
        from_blocked: Vec::new(),
        by: None,
        note: None,
    };
    let then = defined().given(s(20), [old]);
    let then = then.when(change(OptionPatch { prices: vec![price("A", 4)], ..OptionPatch::default() }), s(21));
    let part = Portion { seats: smallvec![0], areas: smallvec![] };
    let caller = as_user("anna");
    let release = Command::ReleasePart { reservation: 1, caller, part, plan: now, request: Request::default() };
    assert_eq!(then.when(release, s(22)).state().reservation(1).unwrap().amount, points(10));
}

#[test]
fn what_is_too_long_together_with_what_was_at_first_is_refused() {
    let name = |n: usize| format!("{n:0>200}");
    let many = (0..400).map(|n| price(&name(n), 1));
    let prices = definition().prices.into_iter().chain(many).collect();
    let long = Definition { prices, ..definition() };
    assert_eq!(long.flaw_of_lists(LISTS_BYTES_MAX), None);
    let then = given::<ConcertOption>(s(0), [Event::OptionDefined { option: OPTION, definition: Box::new(long) }]);
    let dearer = OptionPatch { prices: vec![price(&name(0), 2)], ..OptionPatch::default() };
    let mut out = Decided::default();
    let Err(Rejection::Invalid(flaws)) = then.state().decide(s(1), &change(dearer), &mut out) else {
        panic!("{out:?}")
    };
    assert_eq!(flaws.iter().map(|flaw| &*flaw.field).collect::<Vec<_>>(), ["prices"]);
}
