//! What those who run a sale are told, however much there is: lists of whole houses, and histories, also after a restart.

mod common;

use std::collections::BTreeSet;

use boxoffice::{
    Caller, Engine, NewOption, Note, OptionId, PageRequest, PaymentStatus, Reservation, ReservationFilter,
    ReservationStatus,
};
use common::*;

/// All reservations that a walk gives, none of whose steps gives many.
async fn walked(engine: &Engine, option: OptionId, filter: &ReservationFilter) -> Vec<Reservation> {
    let mut walk = engine.walk_reservations(option, filter).await.unwrap();
    let mut all = Vec::new();
    while let Some(some) = walk.next().await.unwrap() {
        assert!(some.len() <= 16, "{} at once", some.len());
        all.extend(some);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_house_of_sixty_thousand_is_listed_a_little_at_a_time() {
    const ROWS: usize = 600;
    const SEATS: usize = 100;
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    let concert = engine.create_concert(new_concert("Concert", Default::default()), None).await.unwrap().value.id;
    let house = NewOption { max_seats_per_reservation: 100, ..new_option(&engine, ROWS, SEATS) };
    let option = engine.add_option(concert, house, None).await.unwrap().value.id;
    let row = |row: usize| {
        let ids: Vec<_> = (1..=SEATS).map(|seat| format!("{row}-{seat}")).collect();
        boxoffice::Wish::Seats(ids)
    };
    let mut made = Vec::new();
    for n in 1..=ROWS {
        // Some are given up, and have left memory when the others are held.
        if n % 3 == 0 {
            let given_up = engine.hold(option, &user(0), row(n), None, None).await.unwrap().value.id;
            engine.release(&Caller::Admin, given_up).await.unwrap();
            made.push(given_up);
        }
        made.push(engine.hold(option, &user(n), row(n), None, None).await.unwrap().value.id);
    }
    made.reverse();
    let ids = |all: &[Reservation]| all.iter().map(|one| one.id).collect::<Vec<_>>();
    let everything = ReservationFilter::default();
    let all = walked(&engine, option, &everything).await;
    assert_eq!(ids(&all), made);
    let held = ReservationFilter { status: Some(ReservationStatus::Held), ..ReservationFilter::default() };
    let of_seats = walked(&engine, option, &held).await;
    let seats: BTreeSet<_> = of_seats.iter().flat_map(|one| one.seats().map(|seat| seat.id.to_owned())).collect();
    assert_eq!(seats.len(), ROWS * SEATS);
    // Pages end where they should, whatever is left out between them.
    let mut paged = Vec::new();
    let released = ReservationFilter { status: Some(ReservationStatus::Released), ..ReservationFilter::default() };
    let mut request = PageRequest { limit: 7, cursor: None };
    loop {
        let page = engine.option_reservations(option, &released, &request).await.unwrap();
        assert!(page.items.len() <= 7);
        paged.extend(ids(&page.items));
        let Some(cursor) = page.next_cursor else { break };
        request.cursor = Some(cursor);
    }
    assert_eq!(
        paged,
        made.iter()
            .copied()
            .filter(|id| all.iter().any(|one| one.id == *id && one.status == ReservationStatus::Released))
            .collect::<Vec<_>>()
    );
    assert_eq!(paged.len(), ROWS / 3);
    engine.shutdown().await.unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    let json = |all: &[Reservation]| all.iter().map(|one| serde_json::to_value(one).unwrap()).collect::<Vec<_>>();
    assert_eq!(json(&walked(&engine, option, &everything).await), json(&all));
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_on_meanwhile_leaves_nothing_out_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.limits.user_open_holds = 0;
    let engine = Engine::open(config).await.unwrap();
    let option = on_sale(&engine, 40, 50).await;
    let mut held = Vec::new();
    for n in 0..400 {
        held.push(hold(&engine, option, &user(n % 9), &[&format!("{}-{}", 1 + n / 50, 1 + n % 50)]).await.id);
    }
    let mut walk = engine.walk_reservations(option, &ReservationFilter::default()).await.unwrap();
    let mut seen = Vec::new();
    let mut n = 400;
    while let Some(some) = walk.next().await.unwrap() {
        seen.extend(some.iter().map(|one| one.id));
        // Some that are yet to come leave memory, and others are made.
        for _ in 0..20 {
            if let Some(id) = held.pop().filter(|id| !seen.contains(id)) {
                engine.release(&Caller::Admin, id).await.unwrap();
            }
        }
        hold(&engine, option, &user(1), &[&format!("{}-{}", 1 + n / 50, 1 + n % 50)]).await;
        n += 1;
    }
    assert_eq!(seen.len(), 400);
    assert!(seen.windows(2).all(|two| two[0].no > two[1].no), "each once, newest first");
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_of_an_option_have_what_they_pay() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    let option = on_sale(&engine, 2, 50).await;
    let mut paid = Vec::new();
    for n in 0..50 {
        let note = Note { reference: Some(format!("order {n}")), ..Note::default() };
        let wish = seats(&[&format!("1-{}", n + 1)]);
        let held = engine.hold_with_note(option, &user(n % 2), wish, note, None, None).await.unwrap().value;
        charge(&engine, &user(n % 2), held.amount.get()).await;
        let payment = engine.pay(&user(n % 2), held.id, None).await.unwrap().value;
        if n % 4 == 0 {
            engine.refund(&Caller::Admin, payment.id, None).await.unwrap();
        }
        paid.push(payment.id);
    }
    paid.reverse();
    for (who, expected) in [(None, 50), (Some(user(1)), 25)] {
        let mut walk = engine.walk_payments(option, who.as_ref()).await.unwrap();
        let mut found = Vec::new();
        while let Some(some) = walk.next().await.unwrap() {
            for payment in some {
                let reservation = walk.reservation(&payment).await.unwrap();
                assert_eq!(reservation.payment_id, Some(payment.id));
                assert!(reservation.reference().unwrap().starts_with("order "));
                let refunded = payment.status == PaymentStatus::Refunded;
                assert_eq!(reservation.status == ReservationStatus::Refunded, refunded);
                found.push(payment);
            }
        }
        assert_eq!(found.len(), expected);
        let page =
            engine.option_payments(option, who.as_ref(), &PageRequest { limit: 500, cursor: None }).await.unwrap();
        assert_eq!((page.items, page.next_cursor), (found, None));
    }
    let all = engine.option_payments(option, None, &PageRequest { limit: 500, cursor: None }).await.unwrap();
    assert_eq!(all.items.iter().map(|payment| payment.id).collect::<Vec<_>>(), paid);
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seats_history_is_the_same_after_a_restart_and_names_who_did_what() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    let option = on_sale(&engine, 1, 3).await;
    let (anna, operator) = (user(0), name("operator"));
    let ids = || vec!["1-1".to_owned()];
    engine.block_seats_by(option, ids(), &operator, None).await.unwrap();
    engine.unblock_seats(option, ids(), None).await.unwrap();
    engine.block_seats(option, ids(), key(&operator, "POST /v1", "k1")).await.unwrap();
    engine.unblock_seats_by(option, ids(), &operator, None).await.unwrap();
    let (_, payment) = buy(&engine, option, &anna, &["1-1"]).await;
    engine.refund(&Caller::Staff(operator.clone()), payment.id, None).await.unwrap();
    let released = hold(&engine, option, &anna, &["1-2", "1-1"]).await.id;
    engine.release(&Caller::User(anna.clone()), released).await.unwrap();
    hold(&engine, option, &anna, &["1-3"]).await;
    let request = PageRequest { limit: 100, cursor: None };
    let told = engine.seat_history(option, "1-1", &request).await.unwrap();
    let items: Vec<_> = told.items.iter().map(|item| (item.what, item.who.clone())).collect();
    let (anna, by) = (Some(anna), Some(operator));
    let expected = [
        ("blocked", by.clone()),
        ("unblocked", None),
        ("blocked", by.clone()),
        ("unblocked", by.clone()),
        ("held", anna.clone()),
        ("payment_started", anna.clone()),
        ("payment_confirmed", None),
        ("refund_started", by),
        ("refund_credited", None),
        ("held", anna.clone()),
        ("released", anna),
    ];
    assert_eq!(items, expected);
    engine.shutdown().await.unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    assert_eq!(engine.seat_history(option, "1-1", &request).await.unwrap(), told);
    engine.shutdown().await.unwrap();
}
