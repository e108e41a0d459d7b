//! The line: nobody gets in without a token, out of order or in too great a number; whoever is there keeps their place,
//! and whoever is gone loses it.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use boxoffice::testing::clock::ManualClock;
use boxoffice::testing::data_dir::copy_until;
use boxoffice::{
    Caller, ConcertId, Engine, EventData, EventId, EventType, LineOrder, Lsn, OptionId, PageRequest, Rejection,
    ReservationStatus, RoomMode, RoomSettings, RoomSettingsPatch, Token, TokenId, TokenStatus, UserId, verify,
};
use common::*;
use tokio::task::JoinSet;

fn queue(max_active: u32) -> RoomSettings {
    RoomSettings { mode: RoomMode::Queue, max_active, ..RoomSettings::default() }
}

async fn concert(engine: &Engine, settings: RoomSettings) -> (ConcertId, OptionId) {
    let concert = engine.create_concert(new_concert("In demand", settings), None).await.unwrap().value.id;
    let option = engine.add_option(concert, new_option(engine, 10, 10), None).await.unwrap().value.id;
    (concert, option)
}

async fn join(engine: &Engine, concert: ConcertId, user: &UserId) -> Token {
    engine.issue_token(concert, user).await.unwrap().token
}

/// A token as an administrator sees it: which is no sign of life.
async fn look(engine: &Engine, id: TokenId) -> Token {
    engine.token(&Caller::Admin, id).await.unwrap()
}

async fn until(engine: &Engine, id: TokenId, status: TokenStatus) -> Token {
    eventually(&format!("{id} is {status:?}"), || async {
        let token = look(engine, id).await;
        (token.status == status).then_some(token)
    })
    .await
}

async fn configure(engine: &Engine, concert: ConcertId, patch: RoomSettingsPatch) {
    engine.configure_waiting_room(concert, patch).await.unwrap();
}

async fn set_mode(engine: &Engine, concert: ConcertId, mode: RoomMode) {
    configure(engine, concert, RoomSettingsPatch { mode: Some(mode), ..RoomSettingsPatch::default() }).await;
}

/// Long enough in real time for some ticks, in which something could happen that must not.
async fn ticks() {
    tokio::time::sleep(Duration::from_millis(400)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seats_are_for_those_inside() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    let (first, option) = concert(&engine, queue(1)).await;
    let (other, other_option) = concert(&engine, queue(1)).await;
    let (anna, berta) = (user(1), user(2));
    let hold = async |option, user: &UserId, token: Option<&str>| engine.hold(option, user, best(1), token, None).await;
    assert_eq!(rejection(hold(option, &anna, None).await), Rejection::QueueTokenRequired);
    assert_eq!(rejection(hold(option, &anna, Some("nonsense")).await), Rejection::QueueTokenRequired);
    let inside = join(&engine, first, &anna).await;
    let inside = until(&engine, inside.id, TokenStatus::Active).await;
    assert_eq!((inside.position, inside.ahead), (None, None));
    assert!(inside.expires_at.unwrap() > engine.now());
    let waiting = join(&engine, first, &berta).await;
    assert_eq!((waiting.status, waiting.position, waiting.ahead), (TokenStatus::Waiting, Some(1), Some(0)));
    assert_eq!(rejection(hold(option, &berta, Some(&waiting.token)).await), Rejection::QueueTokenNotActive);
    // Another's token, another concert's token, and one that was tampered with.
    assert_eq!(rejection(hold(option, &berta, Some(&inside.token)).await), Rejection::QueueTokenRequired);
    assert_eq!(rejection(hold(other_option, &anna, Some(&inside.token)).await), Rejection::QueueTokenRequired);
    let forged = inside.token.replace(&inside.id.to_string(), &waiting.id.to_string());
    assert_eq!(rejection(hold(option, &anna, Some(&forged)).await), Rejection::QueueTokenRequired);
    let elsewhere = join(&engine, other, &anna).await;
    until(&engine, elsewhere.id, TokenStatus::Active).await;
    assert_eq!(rejection(hold(option, &anna, Some(&elsewhere.token)).await), Rejection::QueueTokenRequired);
    // Others' tokens are not there at all.
    assert_eq!(rejection(engine.token(&Caller::User(berta.clone()), inside.id).await), Rejection::NotFound);
    assert_eq!(rejection(engine.leave_queue(&Caller::User(berta.clone()), inside.id).await), Rejection::NotFound);
    let held = hold(option, &anna, Some(&inside.token)).await.unwrap().value;
    charge(&engine, &anna, 100).await;
    engine.pay(&anna, held.id, None).await.unwrap();
    // Who has paid is out, and makes room.
    until(&engine, inside.id, TokenStatus::Used).await;
    until(&engine, waiting.id, TokenStatus::Active).await;
    assert_eq!(rejection(hold(option, &anna, Some(&inside.token)).await), Rejection::QueueTokenNotActive);
    let held = hold(option, &berta, Some(&waiting.token)).await.unwrap().value;
    // Who holds may pay, also without being inside.
    engine.leave_queue(&Caller::User(berta.clone()), waiting.id).await.unwrap();
    assert_eq!(rejection(hold(option, &berta, Some(&waiting.token)).await), Rejection::QueueTokenNotActive);
    charge(&engine, &berta, 100).await;
    engine.pay(&berta, held.id, None).await.unwrap();
    assert_eq!(look(&engine, waiting.id).await.status, TokenStatus::Expired);
    let counts = engine.waiting_room(first).await.unwrap().counts;
    assert_eq!((counts.waiting, counts.active, counts.used, counts.expired), (0, 0, 1, 1));
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_twice_gives_the_same_token() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    let (concert, _) = concert(&engine, queue(1)).await;
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        let engine = engine.clone();
        tasks.spawn(async move { engine.issue_token(concert, &user(1)).await.unwrap() });
    }
    let issued = tasks.join_all().await;
    assert_eq!(issued.iter().filter(|issued| issued.fresh).count(), 1);
    assert_eq!(issued.iter().map(|issued| issued.token.id).collect::<BTreeSet<_>>().len(), 1);
    let first = until(&engine, issued[0].token.id, TokenStatus::Active).await;
    engine.leave_queue(&Caller::User(user(1)), first.id).await.unwrap();
    assert_eq!(rejection(engine.leave_queue(&Caller::User(user(1)), first.id).await), Rejection::NotFound);
    assert_ne!(join(&engine, concert, &user(1)).await.id, first.id);
    let none = engine.issue_token(ConcertId(99), &user(1)).await;
    assert_eq!(rejection(none), Rejection::NotFound);
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_come_at_once() {
    const JOINERS: usize = 2_000;
    const INSIDE: u32 = 50;
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    let (concert, _) = concert(&engine, queue(INSIDE)).await;
    let mut events =
        engine.events(EventId::default(), [EventType::TokenActivated, EventType::TokenExpired].into_iter().collect());
    let mut tasks = JoinSet::new();
    for n in 0..JOINERS {
        let engine = engine.clone();
        tasks.spawn(async move { join(&engine, concert, &user(n)).await.id });
    }
    // Meanwhile those who get in leave again, so that the line moves.
    let leaving = {
        let engine = engine.clone();
        tokio::spawn(async move {
            for no in 1..=500 {
                let id = TokenId { concert, no };
                eventually("the next is inside", || async {
                    let token = engine.token(&Caller::Admin, id).await.ok()?;
                    (token.status == TokenStatus::Active).then_some(())
                })
                .await;
                assert!(engine.waiting_room(concert).await.unwrap().counts.active <= u64::from(INSIDE));
                engine.leave_queue(&Caller::Admin, id).await.unwrap();
            }
        })
    };
    let ids = tasks.join_all().await;
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), JOINERS);
    leaving.await.unwrap();
    eventually("all places are taken", || async {
        let counts = engine.waiting_room(concert).await.unwrap().counts;
        let expected = (u64::from(INSIDE), 500, JOINERS as u64);
        let whole = (counts.active, counts.expired, counts.active + counts.waiting + counts.expired);
        (whole == expected).then_some(())
    })
    .await;
    // The events say in what order they went in, and how many were inside each time.
    let (mut admitted, mut inside) = (Vec::new(), 0);
    loop {
        let batch = events.available(1_000).await.unwrap().events;
        for event in &batch {
            if event.kind == EventType::TokenActivated {
                let EventData::Token { id, .. } = event.data else { panic!("{event:?}") };
                admitted.push(id.no);
                inside += 1;
                assert!(inside <= INSIDE, "{inside} inside at {}", event.id);
            } else {
                inside -= 1;
            }
        }
        if batch.is_empty() {
            break;
        }
    }
    assert_eq!(admitted, (1..=550).collect::<Vec<_>>(), "first come, first served");
    // Positions are exact.
    for no in (551..=JOINERS as u64).step_by(97).chain([JOINERS as u64]) {
        let token = look(&engine, TokenId { concert, no }).await;
        assert_eq!((token.position, token.ahead), (Some(no - 550), Some(no - 551)), "{no}");
        assert_eq!(token.queue_size, JOINERS as u64 - 550);
    }
    // Whoever leaves from the middle moves up those behind, and nobody else.
    engine.leave_queue(&Caller::Admin, TokenId { concert, no: 1_000 }).await.unwrap();
    assert_eq!(look(&engine, TokenId { concert, no: 999 }).await.position, Some(449));
    assert_eq!(look(&engine, TokenId { concert, no: 1_001 }).await.position, Some(450));
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_a_minute() {
    let dir = tempfile::tempdir().unwrap();
    let machine = ManualClock::at(LONG_AGO);
    let engine = Engine::open_with(config(dir.path()), &machine).await.unwrap();
    let (concert, _) = concert(&engine, RoomSettings { admit_per_minute: Some(120), ..queue(1_000) }).await;
    for n in 0..500 {
        join(&engine, concert, &user(n)).await;
    }
    let active = async || engine.waiting_room(concert).await.unwrap().counts.active;
    // At most two within any second, and 120 within any minute.
    for second in 1..=60 {
        eventually("two more are inside", async || (active().await == 2 * second).then_some(())).await;
        if second % 20 == 0 {
            ticks().await;
            assert_eq!(active().await, 2 * second);
        }
        machine.advance(1_000);
    }
    // What was not used is lost.
    set_mode(&engine, concert, RoomMode::Paused).await;
    for _ in 0..10 {
        machine.advance(900);
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    let before = active().await;
    set_mode(&engine, concert, RoomMode::Queue).await;
    eventually("two more are inside", async || (active().await == before + 2).then_some(())).await;
    ticks().await;
    assert_eq!(active().await, before + 2);
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn modes_can_be_switched() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    let (concert, option) = concert(&engine, queue(2)).await;
    let mut tokens = Vec::new();
    for n in 0..6 {
        tokens.push(join(&engine, concert, &user(n)).await);
    }
    for token in &tokens[..2] {
        until(&engine, token.id, TokenStatus::Active).await;
    }
    // Paused: nobody gets in, those inside go on.
    set_mode(&engine, concert, RoomMode::Paused).await;
    engine.leave_queue(&Caller::Admin, tokens[0].id).await.unwrap();
    ticks().await;
    assert_eq!(look(&engine, tokens[2].id).await.status, TokenStatus::Waiting);
    engine.hold(option, &user(1), best(1), Some(&tokens[1].token), None).await.unwrap();
    assert_eq!(rejection(engine.hold(option, &user(7), best(1), None, None).await), Rejection::QueueTokenRequired);
    // Lowering the limit throws nobody out, and lets nobody in until there is room below it.
    set_mode(&engine, concert, RoomMode::Queue).await;
    until(&engine, tokens[2].id, TokenStatus::Active).await;
    configure(&engine, concert, RoomSettingsPatch { max_active: Some(1), ..RoomSettingsPatch::default() }).await;
    engine.leave_queue(&Caller::Admin, tokens[1].id).await.unwrap();
    ticks().await;
    assert_eq!(look(&engine, tokens[2].id).await.status, TokenStatus::Active);
    assert_eq!(look(&engine, tokens[3].id).await.status, TokenStatus::Waiting);
    // Open: everybody is inside, and nobody needs a token.
    set_mode(&engine, concert, RoomMode::Open).await;
    for token in &tokens[2..] {
        assert_eq!(look(&engine, token.id).await.status, TokenStatus::Active);
    }
    assert_eq!(join(&engine, concert, &user(8)).await.status, TokenStatus::Active);
    engine.hold(option, &user(7), best(1), None, None).await.unwrap();
    // And back: at once, for whoever asks next.
    set_mode(&engine, concert, RoomMode::Queue).await;
    assert_eq!(rejection(engine.hold(option, &user(7), best(1), None, None).await), Rejection::QueueTokenRequired);
    let late = join(&engine, concert, &user(9)).await;
    assert_eq!((late.status, late.position), (TokenStatus::Waiting, Some(5)), "those are before it who were inside");
    assert_eq!(look(&engine, tokens[2].id).await.status, TokenStatus::Active);
    assert_eq!(look(&engine, tokens[3].id).await.position, Some(1));
    engine.shutdown().await.unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    assert_eq!(rejection(engine.hold(option, &user(7), best(1), None, None).await), Rejection::QueueTokenRequired);
    assert_eq!(engine.waiting_room(concert).await.unwrap().settings, queue(1));
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_silent_lose_their_place_and_those_who_ask_keep_it() {
    let dir = tempfile::tempdir().unwrap();
    let machine = ManualClock::at(LONG_AGO);
    let engine = Engine::open_with(config(dir.path()), &machine).await.unwrap();
    let settings = RoomSettings { waiting_ttl_seconds: 5, active_ttl_seconds: 3_600, ..queue(1) };
    let (concert, _) = concert(&engine, settings).await;
    let inside = join(&engine, concert, &user(0)).await;
    until(&engine, inside.id, TokenStatus::Active).await;
    let (silent, asks, joins) = (
        join(&engine, concert, &user(1)).await,
        join(&engine, concert, &user(2)).await,
        join(&engine, concert, &user(3)).await,
    );
    let asking = Caller::User(user(2));
    let mut passed_ms = 0;
    while look(&engine, silent.id).await.status == TokenStatus::Waiting {
        assert!(passed_ms < 600_000, "still there");
        machine.advance(10);
        passed_ms += 10;
        assert_eq!(engine.token(&asking, asks.id).await.unwrap().status, TokenStatus::Waiting);
        assert_eq!(join(&engine, concert, &user(3)).await.id, joins.id);
    }
    assert!(passed_ms > 5_000, "lost after {passed_ms} ms");
    assert_eq!(look(&engine, asks.id).await.position, Some(1));
    assert_eq!(look(&engine, joins.id).await.position, Some(2));
    assert_eq!(look(&engine, inside.id).await.status, TokenStatus::Active);
    let again = join(&engine, concert, &user(1)).await;
    assert_eq!((again.id == silent.id, again.position), (false, Some(3)), "who comes again stands at the end");
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stall_or_a_restart_empties_no_line() {
    let dir = tempfile::tempdir().unwrap();
    let machine = ManualClock::at(LONG_AGO);
    let settings = RoomSettings { waiting_ttl_seconds: 3, active_ttl_seconds: 86_400, ..queue(1) };
    let engine = Engine::open_with(config(dir.path()), &machine).await.unwrap();
    let (concert, _) = concert(&engine, settings).await;
    let mut line = Vec::new();
    for n in 0..20 {
        line.push(join(&engine, concert, &user(n)).await.id);
    }
    until(&engine, line[0], TokenStatus::Active).await;
    let in_line = async |engine: &Engine| {
        for (index, id) in line.iter().enumerate().skip(1) {
            let token = look(engine, *id).await;
            assert_eq!((token.status, token.position), (TokenStatus::Waiting, Some(index as u64)), "{id}");
        }
    };
    // Hours in which we stood still are nobody's silence.
    machine.advance(3 * 3_600_000);
    ticks().await;
    in_line(&engine).await;
    engine.shutdown().await.unwrap();
    for damaged in [false, true] {
        machine.advance(3_600_000);
        if damaged {
            std::fs::remove_dir_all(dir.path().join("state")).unwrap();
        }
        let engine = Engine::open_with(config(dir.path()), &machine).await.unwrap();
        machine.advance(3_600_000);
        ticks().await;
        in_line(&engine).await;
        assert_eq!(look(&engine, line[0]).await.status, TokenStatus::Active);
        engine.shutdown().await.unwrap();
    }
    // But time in which we were there, and they were not, is.
    let engine = Engine::open_with(config(dir.path()), &machine).await.unwrap();
    eventually("they are given up", || async {
        machine.advance(10);
        (engine.waiting_room(concert).await.unwrap().counts.waiting == 0).then_some(())
    })
    .await;
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_opens_later_is_shuffled_once() {
    let dir = tempfile::tempdir().unwrap();
    let machine = ManualClock::at(LONG_AGO);
    let opens_at = LONG_AGO.plus_millis(60_000);
    let settings = RoomSettings { order: LineOrder::ShuffleAtOpen, opens_at: Some(opens_at), ..queue(1) };
    let engine = Engine::open_with(config(dir.path()), &machine).await.unwrap();
    let (concert, _) = concert(&engine, settings).await;
    let mut line = Vec::new();
    for n in 0..40 {
        let token = join(&engine, concert, &user(n)).await;
        assert_eq!((token.status, token.position), (TokenStatus::Waiting, None));
        line.push(token.id);
    }
    machine.advance(59_999);
    ticks().await;
    assert_eq!(engine.waiting_room(concert).await.unwrap().counts.waiting, 40);
    machine.advance(1);
    eventually("the first is inside", || async {
        (engine.waiting_room(concert).await.unwrap().counts.active == 1).then_some(())
    })
    .await;
    let late = join(&engine, concert, &user(99)).await;
    assert_eq!(late.position, Some(40), "who comes later stands behind them");
    let order = async |engine: &Engine| {
        let mut order = Vec::new();
        for id in &line {
            order.push(look(engine, *id).await.position);
        }
        order
    };
    let drawn = order(&engine).await;
    let mut positions: Vec<_> = drawn.iter().flatten().copied().collect();
    assert!(!positions.is_sorted(), "by lot: {positions:?}");
    positions.sort_unstable();
    assert_eq!(positions, (1..=39).collect::<Vec<_>>());
    engine.shutdown().await.unwrap();
    let engine = Engine::open_with(config(dir.path()), &machine).await.unwrap();
    assert_eq!(order(&engine).await, drawn, "a restart draws no new lots");
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_inside_for_too_long_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let machine = ManualClock::at(LONG_AGO);
    let engine = Engine::open_with(config(dir.path()), &machine).await.unwrap();
    let (concert, option) = concert(&engine, RoomSettings { active_ttl_seconds: 10, ..queue(1) }).await;
    let first = join(&engine, concert, &user(1)).await;
    let first = until(&engine, first.id, TokenStatus::Active).await;
    let second = join(&engine, concert, &user(2)).await;
    let held = engine.hold(option, &user(1), best(1), Some(&first.token), None).await.unwrap().value;
    machine.advance(9_999);
    ticks().await;
    assert_eq!(look(&engine, second.id).await.status, TokenStatus::Waiting);
    machine.advance(1);
    let refused = engine.hold(option, &user(1), best(1), Some(&first.token), None).await;
    assert_eq!(rejection(refused), Rejection::QueueTokenNotActive);
    until(&engine, first.id, TokenStatus::Expired).await;
    until(&engine, second.id, TokenStatus::Active).await;
    // What was held meanwhile may be paid; the token stays expired, and nothing is owed any more.
    charge(&engine, &user(1), 100).await;
    engine.pay(&user(1), held.id, None).await.unwrap();
    let paid =
        engine.reservations(&user(1), Some(ReservationStatus::Confirmed), &PageRequest::default()).await.unwrap();
    assert_eq!(paid.items.len(), 1);
    assert_eq!(look(&engine, first.id).await.status, TokenStatus::Expired);
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_line_is_switched_on_those_without_seats_go_to_its_head() {
    const ASKED: usize = 300;
    const MOST: u32 = 100;
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    let (concert, option) = concert(&engine, RoomSettings::default()).await;
    let second = engine.add_option(concert, new_option(&engine, 10, 10), None).await.unwrap().value.id;
    let mut tokens = Vec::new();
    for n in 0..ASKED {
        tokens.push(join(&engine, concert, &user(n)).await);
        assert_eq!(tokens[n].status, TokenStatus::Active);
    }
    // The last to come have seats, of one performance or another; one gave them back, one has paid, and one never asked for a
    // token.
    let mut held = Vec::new();
    for n in 290..ASKED {
        let option = if n % 2 == 0 { option } else { second };
        held.push(engine.hold(option, &user(n), best(1), None, None).await.unwrap().value.id);
    }
    engine.hold(option, &user(900), best(1), None, None).await.unwrap();
    engine.release(&Caller::Admin, held[0]).await.unwrap();
    charge(&engine, &user(291), 100).await;
    engine.pay(&user(291), held[1], None).await.unwrap();
    let mut followed = engine.token_changes(Caller::User(user(200)), tokens[200].id).await.unwrap();
    assert_eq!(followed.next().await.unwrap().status, TokenStatus::Active);
    let patch =
        RoomSettingsPatch { mode: Some(RoomMode::Queue), max_active: Some(MOST), ..RoomSettingsPatch::default() };
    let operator = user(901);
    let room = engine.configure_waiting_room_by(concert, patch, &operator).await.unwrap();
    assert_eq!((room.counts.active, room.counts.waiting), (u64::from(MOST), ASKED as u64 - u64::from(MOST)));
    ticks().await;
    let mut position = 0;
    for (n, token) in tokens.iter().enumerate() {
        let now = look(&engine, token.id).await;
        let stays = !(92..292).contains(&n);
        let status = if stays { TokenStatus::Active } else { TokenStatus::Waiting };
        position += u64::from(!stays);
        assert_eq!((now.status, now.position), (status, (!stays).then_some(position)), "{n}");
        assert_eq!(now.expires_at, token.expires_at.filter(|_| stays), "{n}");
        assert_eq!(now.expected_wait_seconds, None, "{n}: nobody has left");
    }
    // And it is told who did that.
    let request = PageRequest { limit: 10, cursor: None };
    let history = engine.token_history(tokens[200].id, &request).await.unwrap().items;
    let history: Vec<_> = history.iter().map(|item| (item.what, item.who.clone())).collect();
    assert_eq!(history, [("activated", Some(user(200))), ("returned", Some(operator))]);
    // Who follows is told at once, and who asks is refused.
    let told = tokio::time::timeout(PATIENCE, followed.next()).await.expect("it is told").unwrap();
    assert_eq!((told.status, told.position), (TokenStatus::Waiting, Some(200 - 92 + 1)));
    let refused = engine.hold(option, &user(200), best(1), Some(&tokens[200].token), None).await;
    assert_eq!(rejection(refused), Rejection::QueueTokenNotActive);
    let late = join(&engine, concert, &user(500)).await;
    assert_eq!(late.position, Some(201));
    // Who holds may pay as before, and whoever waits gets in when somebody goes.
    charge(&engine, &user(299), 100).await;
    engine.pay(&user(299), held[9], None).await.unwrap();
    engine.leave_queue(&Caller::Admin, tokens[0].id).await.unwrap();
    until(&engine, tokens[92].id, TokenStatus::Active).await;
    // A restart changes nothing, and what is silent loses its place as always.
    engine.shutdown().await.unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    assert_eq!(look(&engine, tokens[93].id).await.position, Some(1));
    assert_eq!(look(&engine, tokens[291].id).await.position, Some(199));
    let mut events = engine.events(EventId::default(), [EventType::TokenIssued].into_iter().collect());
    let mut issued = Vec::new();
    loop {
        let batch = events.available(1_000).await.unwrap().events;
        if batch.is_empty() {
            break;
        }
        issued.extend(batch.into_iter().map(|event| match event.data {
            EventData::Token { id, status, expires_at, .. } => (id.no, status, expires_at.is_some()),
            other => panic!("{other:?}"),
        }));
    }
    // They are published as what they are: those who wait.
    let again: Vec<_> = issued[ASKED..].iter().map(|(no, status, expires)| (*no, *status, *expires)).collect();
    let waiting = (93..=292).chain([late.id.no]).map(|no| (no, TokenStatus::Waiting, false));
    assert!(again.into_iter().eq(waiting));
    engine.shutdown().await.unwrap();
}

/// Whoever is inside need not give signs of life, and has all the time for it once back in the line.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_sent_back_is_not_taken_for_silent() {
    let dir = tempfile::tempdir().unwrap();
    let machine = ManualClock::at(LONG_AGO);
    let engine = Engine::open_with(config(dir.path()), &machine).await.unwrap();
    let settings = RoomSettings { waiting_ttl_seconds: 5, active_ttl_seconds: 3_600, ..queue(1) };
    let (concert, _) = concert(&engine, settings).await;
    let first = join(&engine, concert, &user(0)).await;
    until(&engine, first.id, TokenStatus::Active).await;
    let (anna, asks, silent) = (
        join(&engine, concert, &user(1)).await,
        join(&engine, concert, &user(2)).await,
        join(&engine, concert, &user(3)).await,
    );
    // Time passes for as long as somebody waits; those who ask are heard of.
    let pass_while_waiting = async |id, asking: &[(usize, TokenId)]| {
        let mut passed_ms = 0;
        while look(&engine, id).await.status == TokenStatus::Waiting {
            assert!(passed_ms < 600_000, "still there");
            machine.advance(10);
            passed_ms += 10;
            for (who, token) in asking {
                engine.token(&Caller::User(user(*who)), *token).await.unwrap();
            }
        }
        passed_ms
    };
    // Anna is heard of in the line, and then gets in.
    let ben = (2, asks.id);
    pass_while_waiting(silent.id, &[ben, (1, anna.id)]).await;
    configure(&engine, concert, RoomSettingsPatch { max_active: Some(2), ..RoomSettingsPatch::default() }).await;
    until(&engine, anna.id, TokenStatus::Active).await;
    let another = join(&engine, concert, &user(4)).await;
    pass_while_waiting(another.id, &[ben]).await;
    set_mode(&engine, concert, RoomMode::Paused).await;
    let on = RoomSettingsPatch { mode: Some(RoomMode::Queue), max_active: Some(1), ..RoomSettingsPatch::default() };
    configure(&engine, concert, on).await;
    assert_eq!(look(&engine, anna.id).await.status, TokenStatus::Waiting);
    let passed_ms = pass_while_waiting(anna.id, &[ben]).await;
    assert!(passed_ms > 5_000, "lost after {passed_ms} ms");
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_switched_on_and_off_keeps_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let machine = ManualClock::at(LONG_AGO);
    let engine = Engine::open_with(config(dir.path()), &machine).await.unwrap();
    let (concert, _) = concert(&engine, RoomSettings { waiting_ttl_seconds: 5, ..queue(2) }).await;
    let mut tokens = Vec::new();
    for n in 0..6 {
        tokens.push(join(&engine, concert, &user(n)).await.id);
    }
    until(&engine, tokens[1], TokenStatus::Active).await;
    let statuses = async |engine: &Engine| {
        let mut statuses = Vec::new();
        for token in &tokens {
            statuses.push(look(engine, *token).await.position);
        }
        statuses
    };
    let line = [None, None, Some(1), Some(2), Some(3), Some(4)];
    assert_eq!(statuses(&engine).await, line);
    for _ in 0..2 {
        set_mode(&engine, concert, RoomMode::Open).await;
        assert_eq!(statuses(&engine).await, [None; 6]);
        // Also by way of a pause, in which those inside go on.
        set_mode(&engine, concert, RoomMode::Paused).await;
        assert_eq!(statuses(&engine).await, [None; 6]);
        set_mode(&engine, concert, RoomMode::Queue).await;
        assert_eq!(statuses(&engine).await, line);
        set_mode(&engine, concert, RoomMode::Paused).await;
        set_mode(&engine, concert, RoomMode::Queue).await;
        assert_eq!(statuses(&engine).await, line, "who stays, stays");
    }
    // Who is sent back and says nothing goes as all do who wait.
    eventually("they are given up", || async {
        machine.advance(10);
        (engine.waiting_room(concert).await.unwrap().counts.waiting == 0).then_some(())
    })
    .await;
    assert_eq!(engine.waiting_room(concert).await.unwrap().counts.active, 2);
    engine.shutdown().await.unwrap();
}

/// One event sends them back, and others tell receivers who they are: the power may go in between.
#[tokio::test(flavor = "multi_thread")]
async fn very_many_are_sent_back_at_once_and_receivers_hear_of_each_whenever_the_power_goes() {
    const INSIDE: usize = 10_200;
    const STAY: u64 = 10;
    const BACK: u64 = INSIDE as u64 - STAY;
    let dir = tempfile::tempdir().unwrap();
    let whole = config(&dir.path().join("whole"));
    let engine = Engine::open(whole.clone()).await.unwrap();
    let (concert, _) = concert(&engine, RoomSettings::default()).await;
    for first in (0..INSIDE).step_by(300) {
        let mut tasks = JoinSet::new();
        for n in first..first + 300 {
            let engine = engine.clone();
            tasks.spawn(async move { join(&engine, concert, &user(n)).await });
        }
        tasks.join_all().await;
    }
    let sends_back = Lsn(engine.stats().durable_lsn + 1);
    let patch = RoomSettingsPatch {
        mode: Some(RoomMode::Queue),
        max_active: Some(STAY as u32),
        waiting_ttl_seconds: Some(86_400),
        active_ttl_seconds: Some(86_400),
        ..RoomSettingsPatch::default()
    };
    let counts = engine.configure_waiting_room(concert, patch).await.unwrap().counts;
    assert_eq!((counts.active, counts.waiting), (STAY, BACK), "all at once");
    all_are_told(&engine, INSIDE as u64 + BACK).await;
    engine.shutdown().await.unwrap();
    let cut = config(&dir.path().join("cut"));
    assert_eq!(copy_until(&whole.data_dir, &cut.data_dir, sends_back).unwrap(), sends_back);
    let engine = Engine::open(cut.clone()).await.unwrap();
    let counts = engine.waiting_room(concert).await.unwrap().counts;
    assert_eq!((counts.active, counts.waiting), (STAY, BACK), "all at once");
    all_are_told(&engine, INSIDE as u64 + BACK).await;
    engine.shutdown().await.unwrap();
    let report = verify(&cut).unwrap();
    assert!(report.ok && report.last_lsn.0 == sends_back.0 + 2, "{report}");
}

/// Waits until there are so many events that somebody has a place; whoever has two was sent back.
async fn all_are_told(engine: &Engine, expected: u64) {
    let mut stream = engine.events(EventId::default(), [EventType::TokenIssued].into_iter().collect());
    let mut told = 0;
    while told < expected {
        told += stream.next(1_000).await.unwrap().events.len() as u64;
    }
    assert_eq!((told, stream.available(1).await.unwrap().events.len()), (expected, 0));
}

/// A line leads nowhere once nothing of its concert takes place; and somewhere again as soon as something does.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_to_what_is_called_off_ends() {
    let dir = tempfile::tempdir().unwrap();
    let machine = ManualClock::at(LONG_AGO);
    let engine = Engine::open_with(config(dir.path()), &machine).await.unwrap();
    // Lines are looked through once a second.
    let a_while = async || {
        machine.advance(1_100);
        ticks().await;
    };
    let (concert, first) = concert(&engine, queue(1)).await;
    let second = engine.add_option(concert, new_option(&engine, 1, 2), None).await.unwrap().value.id;
    let inside = join(&engine, concert, &user(1)).await;
    until(&engine, inside.id, TokenStatus::Active).await;
    let waits = join(&engine, concert, &user(2)).await;
    let boss = user(9);
    engine.call_off(first, None, &boss, None).await.unwrap();
    a_while().await;
    assert_eq!(look(&engine, waits.id).await.status, TokenStatus::Waiting, "there is another one");
    engine.call_off(second, None, &boss, None).await.unwrap();
    machine.advance(1_100);
    until(&engine, waits.id, TokenStatus::Expired).await;
    // Who comes later is told the same; until there is something again.
    let late = join(&engine, concert, &user(3)).await;
    machine.advance(1_100);
    until(&engine, late.id, TokenStatus::Expired).await;
    engine.add_option(concert, new_option(&engine, 1, 2), None).await.unwrap();
    let waits = join(&engine, concert, &user(4)).await;
    a_while().await;
    assert_eq!(look(&engine, waits.id).await.status, TokenStatus::Waiting);
    engine.shutdown().await.unwrap();
}
