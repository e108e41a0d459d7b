//! What those who run a sale are told, however much there is: lists of whole houses, and histories, also after a restart;
//! and that nobody loses a seat when all change their orders at once.

mod common;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use boxoffice::testing::random::{Random, seed};
use boxoffice::{
    Blocks, Caller, Engine, Error, NewOption, Note, OptionId, OptionStatus, PageRequest, PaymentStatus, Portion,
    Rejection, Reservation, ReservationFilter, ReservationStatus, SeatStatus, UserId,
};
use common::*;
use tokio::task::JoinSet;

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

/// How long holds take on an option, sorted, while `goes_on` says that something else does.
async fn holding(engine: &Engine, option: OptionId, goes_on: impl AsyncFn() -> bool) -> Vec<Duration> {
    let (mut taken, by) = (Vec::new(), user(1_000_000));
    while goes_on().await {
        for _ in 0..50 {
            let asked = Instant::now();
            let held = engine.hold(option, &by, best(1), None, None).await.unwrap().value.id;
            taken.push(asked.elapsed());
            engine.release(&Caller::User(by.clone()), held).await.unwrap();
        }
    }
    taken.sort_unstable();
    taken
}

/// Some thousand, and with `BOXOFFICE_ATTACKS=full` all of a stadium. What it took is printed.
#[tokio::test(flavor = "multi_thread")]
async fn a_house_is_called_off_and_all_have_their_money_back() {
    const SEATS: usize = 100;
    let full = std::env::var("BOXOFFICE_ATTACKS").is_ok_and(|size| size == "full");
    let rows = if full { 600 } else { 15 };
    let count = rows * SEATS;
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    let (option, other) = (on_sale(&engine, rows, SEATS).await, on_sale(&engine, 1, SEATS).await);
    let mut buying = tokio::task::JoinSet::new();
    let mut bought = 0;
    for n in 0..count {
        let engine = engine.clone();
        buying.spawn(async move {
            let seat = format!("{}-{}", 1 + n / SEATS, 1 + n % SEATS);
            buy(&engine, option, &user(n), &[&seat]).await.1.amount
        });
        if buying.len() >= 256 {
            bought += usize::from(buying.join_next().await.unwrap().unwrap() > points(0));
        }
    }
    while let Some(paid) = buying.join_next().await {
        bought += usize::from(paid.unwrap() > points(0));
    }
    assert_eq!(bought, count);
    let begun = Instant::now();
    let quiet = holding(&engine, other, async || begun.elapsed() < Duration::from_secs(2)).await;

    let begun = Instant::now();
    let off = engine.call_off(option, Some("ill".into()), &name("boss"), None).await.unwrap().value;
    assert_eq!(off.total, count as u64);
    let some = async || engine.cancellation(option).await.unwrap().done < (count / 3) as u64;
    let mut beside = holding(&engine, other, some).await;
    let stopped = begun.elapsed();
    // In the middle of it all it is stopped, and goes on from where it was.
    engine.shutdown().await.unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    let begun = Instant::now();
    let open = async || {
        let off = engine.cancellation(option).await.unwrap();
        off.done < off.total || off.owed > 0
    };
    beside.extend(holding(&engine, other, open).await);
    let took = stopped + begun.elapsed();
    beside.sort_unstable();
    let p99 = |taken: &[Duration]| taken[(taken.len() * 99 / 100).min(taken.len() - 1)];
    println!("{count} payments in {took:?}; holds beside it: p99 {:?}, alone {:?}", p99(&beside), p99(&quiet));
    let off = engine.cancellation(option).await.unwrap();
    assert_eq!((off.done, off.total, off.owed), (count as u64, count as u64, 0));
    let seen = engine.option(option).await.unwrap();
    assert_eq!((seen.status, seen.counts.available), (OptionStatus::Cancelled, count as u64));
    for n in (0..count).step_by(if full { 97 } else { 1 }) {
        let entries = all_entries(&engine, &user(n)).await;
        let [back, paid, charged] = &entries[..] else { panic!("{entries:?}") };
        assert_eq!((back.amount, back.balance, paid.balance), (charged.amount, charged.amount, points(0)));
    }
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
    let blocks = |reason: Option<&str>| Blocks { seats: ids(), reason: reason.map(Into::into), ..Blocks::default() };
    engine.block(option, blocks(Some("cameras")), &operator, None).await.unwrap();
    engine.unblock_seats(option, ids(), None).await.unwrap();
    engine.block_seats(option, ids(), key(&operator, "POST /v1", "k1")).await.unwrap();
    engine.unblock(option, blocks(None), &operator, None).await.unwrap();
    let (_, payment) = buy(&engine, option, &anna, &["1-1"]).await;
    engine.refund(&Caller::Staff(operator.clone()), payment.id, None).await.unwrap();
    let released = hold(&engine, option, &anna, &["1-2", "1-1"]).await.id;
    engine.release(&Caller::User(anna.clone()), released).await.unwrap();
    hold(&engine, option, &anna, &["1-3"]).await;
    let request = PageRequest { limit: 100, cursor: None };
    let told = engine.seat_history(option, "1-1", &request).await.unwrap();
    let items: Vec<_> = told.items.iter().map(|item| (item.what, item.who.clone())).collect();
    assert_eq!(told.items[0].why.as_deref(), Some("cameras"));
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

/// What came of the exchanges of one user.
#[derive(Default)]
struct Tried {
    exchanged: usize,
    taken: usize,
    not_paid: usize,
}

/// Looks at the map and exchanges for one of the seats that are free, some times.
async fn exchanges(engine: Engine, option: OptionId, user: UserId, mut dice: Random) -> Tried {
    let mut tried = Tried::default();
    let caller = Caller::User(user.clone());
    for _ in 0..TRIES {
        let own = all_reservations(&engine, &user, None).await.remove(0);
        let give = own.seats().next().unwrap().id.to_owned();
        let map = engine.seats(option).await.unwrap();
        let free: Vec<_> = all_seats().filter(|id| map.status(id) == Some(SeatStatus::Free)).collect();
        // What is sold is asked for too, when all is.
        let take = free.get(dice.below(free.len().max(1) as u64) as usize).cloned().unwrap_or("1-1".to_owned());
        let swap = (Portion::seats([give]), Portion::seats([take]));
        match engine.exchange(&caller, own.id, swap, None, None).await {
            Ok(_) => tried.exchanged += 1,
            Err(Error::SeatsUnavailable(_)) => tried.taken += 1,
            Err(Error::Rejected(Rejection::InsufficientPoints { .. })) => tried.not_paid += 1,
            Err(error) => panic!("{error}"),
        }
        eventually("what goes back is there", || async {
            let paid = all_payments(&engine, &user).await.remove(0);
            let wallet = engine.wallet(&user).await.unwrap().balance.get();
            let own = all_reservations(&engine, &user, None).await.remove(0);
            let charged = charged_of(&user);
            (wallet + own.amount.get() == charged && paid.status == PaymentStatus::Completed).then_some(())
        })
        .await;
    }
    tried
}

const ROW: usize = 505;
const USERS: usize = 1_000;
const TRIES: usize = 2;

fn all_seats() -> impl Iterator<Item = String> {
    (1..=2).flat_map(|row| (1..=ROW).map(move |seat| format!("{row}-{seat}")))
}

/// What the first seat of a user cost, and for every second one what another category costs more.
fn charged_of(user: &UserId) -> u64 {
    let n: usize = user.as_str().trim_start_matches("user-").parse().unwrap();
    let price = if n < ROW { 100 } else { 50 };
    price + if n.is_multiple_of(2) { 50 } else { 0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_exchange_at_once_and_nobody_loses_a_seat() {
    let seed = seed();
    println!("BOXOFFICE_TEST_SEED={seed}");
    let mut dice = Random(seed);
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    let option = on_sale(&engine, 2, ROW).await;
    let users: Vec<_> = (0..USERS).map(user).collect();
    for (user, seat) in users.iter().zip(all_seats()) {
        charge(&engine, user, charged_of(user)).await;
        let held = hold(&engine, option, user, &[&seat]).await.id;
        engine.pay(user, held, None).await.unwrap();
    }
    let all_at_once = async |dice: &mut Random| {
        let mut tasks = JoinSet::new();
        for user in &users {
            tasks.spawn(exchanges(engine.clone(), option, user.clone(), Random(dice.below(u64::MAX))));
        }
        let mut sum = Tried::default();
        for Tried { exchanged, taken, not_paid } in tasks.join_all().await {
            sum.exchanged += exchanged;
            sum.taken += taken;
            sum.not_paid += not_paid;
        }
        let Tried { exchanged, taken, not_paid } = sum;
        println!("{exchanged} exchanged, {taken} were too late, {not_paid} could not pay");
        sum
    };
    let audit = async |users: &[UserId]| {
        audit_seats(&engine, option, users).await;
        audit_money(&engine, users).await;
        for user in &users[..USERS] {
            let own = all_reservations(&engine, user, None).await;
            let [own] = own.as_slice() else { panic!("{own:?}") };
            assert_eq!((own.status, own.seats().len()), (ReservationStatus::Confirmed, 1), "{own:?}");
        }
    };
    let tried = all_at_once(&mut dice).await;
    assert!(tried.exchanged > 20 && tried.taken > 20 && tried.not_paid > 0, "too little was tried");
    audit(&users).await;

    // When all is sold there is nothing to take, and nobody loses what they give.
    let last = user(USERS);
    for _ in USERS..2 * ROW {
        let one = engine.hold(option, &last, best(1), None, None).await.unwrap().value;
        charge(&engine, &last, one.amount.get()).await;
        engine.pay(&last, one.id, None).await.unwrap();
    }
    let tried = all_at_once(&mut dice).await;
    assert_eq!((tried.exchanged, tried.taken), (0, TRIES * USERS));
    audit(&users.iter().cloned().chain([last]).collect::<Vec<_>>()).await;
    engine.shutdown().await.unwrap();
}
