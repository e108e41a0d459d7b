//! What a host app follows: an option's seats, and a place in a line, without a server.

mod common;

use std::collections::BTreeMap;

use boxoffice::{
    Caller, ConcertId, Engine, Error, Lsn, OptionId, Rejection, RoomMode, RoomSettings, RoomSettingsPatch, SeatChanges,
    SeatUpdate, TokenStatus, seat_status_name,
};
use common::{PATIENCE, config, name, new_concert, new_option, on_sale};

/// What somebody knows who has followed from the beginning.
#[derive(Debug, Default, PartialEq, Eq)]
struct Picture {
    seq: Option<Lsn>,
    seats: BTreeMap<String, &'static str>,
}

impl Picture {
    fn take(&mut self, update: &SeatUpdate) {
        match update.previous_seq() {
            None => self.seats.clear(),
            previous => assert_eq!(previous, self.seq, "no gaps"),
        }
        for (seat, status) in update.seats() {
            match seat_status_name(status) {
                "available" => drop(self.seats.remove(seat)),
                status => drop(self.seats.insert(seat.to_owned(), status)),
            }
        }
        self.seq = Some(update.seq());
    }

    async fn of(engine: &Engine, option: OptionId) -> Self {
        let seats = engine.seats(option).await.unwrap();
        let taken = seats.taken().map(|(seat, status)| (seat.to_owned(), seat_status_name(status)));
        Self { seq: Some(seats.seq), seats: taken.collect() }
    }

    async fn follow(&mut self, changes: &mut SeatChanges, seq: Lsn) {
        while self.seq.is_none_or(|at| at < seq) {
            let update = tokio::time::timeout(PATIENCE, changes.next()).await.expect("an update in time").unwrap();
            self.take(&update);
        }
    }
}

async fn block(engine: &Engine, option: OptionId, seats: &[&str]) -> Lsn {
    let seats = seats.iter().map(|seat| (*seat).to_owned()).collect();
    engine.block_seats(option, seats, None).await.unwrap();
    engine.seats_seq(option).await.unwrap()
}

async fn unblock(engine: &Engine, option: OptionId, seats: &[&str]) -> Lsn {
    let seats = seats.iter().map(|seat| (*seat).to_owned()).collect();
    engine.unblock_seats(option, seats, None).await.unwrap();
    engine.seats_seq(option).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seq_is_good_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    let option = on_sale(&engine, 2, 5).await;
    let mut changes = engine.seat_changes(option, None).await.unwrap();
    let mut picture = Picture::default();
    let seq = block(&engine, option, &["1-1", "1-2"]).await;
    picture.follow(&mut changes, seq).await;
    assert_eq!(picture, Picture::of(&engine, option).await);
    unblock(&engine, option, &["1-1"]).await;
    engine.shutdown().await.unwrap();
    // What was durable before the end may still be told, and then the end is.
    let ended = async {
        loop {
            if let Err(error) = changes.next().await {
                return error;
            }
        }
    };
    let ended = tokio::time::timeout(PATIENCE, ended).await.expect("it ends with the engine");
    assert!(matches!(ended, Error::OutcomeUnknown(_)), "{ended}");

    let engine = Engine::open(config(dir.path())).await.unwrap();
    let mut changes = engine.seat_changes(option, Some(seq)).await.unwrap();
    let update = changes.next().await.unwrap();
    assert_eq!(update.previous_seq(), Some(seq));
    assert_eq!(update.seats().map(|(seat, _)| seat).collect::<Vec<_>>(), ["1-1"]);
    picture.seq = Some(seq);
    picture.seats = [("1-1".to_owned(), "blocked"), ("1-2".to_owned(), "blocked")].into();
    picture.take(&update);
    assert_eq!(picture, Picture::of(&engine, option).await);
    engine.shutdown().await.unwrap();
}

/// Somebody who does not ask is owed nothing but the difference.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_ask_gets_the_difference() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.live.window_ms = 1;
    let engine = Engine::open(config).await.unwrap();
    let option = on_sale(&engine, 4, 5).await;
    block(&engine, option, &["3-1", "3-2", "3-3"]).await;
    let mut slow = engine.seat_changes(option, None).await.unwrap();
    let mut late = Picture::default();
    late.take(&slow.next().await.unwrap());
    let mut fast = engine.seat_changes(option, None).await.unwrap();
    let mut picture = Picture::default();
    for _ in 0..20 {
        let seq = block(&engine, option, &["1-1", "1-2"]).await;
        picture.follow(&mut fast, seq).await;
        let seq = unblock(&engine, option, &["1-1"]).await;
        picture.follow(&mut fast, seq).await;
    }
    let update = slow.next().await.unwrap();
    let changed: Vec<_> = update.seats().map(|(seat, status)| (seat, seat_status_name(status))).collect();
    assert_eq!(changed, [("1-1", "available"), ("1-2", "blocked")], "with its last state, once");
    late.take(&update);
    assert_eq!(late, picture);
    assert_eq!((engine.stats().live_conflations, engine.stats().live_resyncs), (1, 0));

    // Where most has changed back, all that is taken is shorter.
    unblock(&engine, option, &["1-2"]).await;
    let seq = block(&engine, option, &["2-1", "2-2", "2-3"]).await;
    picture.follow(&mut fast, seq).await;
    let seq = unblock(&engine, option, &["2-1", "2-2", "2-3"]).await;
    picture.follow(&mut fast, seq).await;
    let update = slow.next().await.unwrap();
    assert_eq!((update.previous_seq(), update.seats().count()), (None, 3));
    assert_eq!(engine.stats().live_resyncs, 1);
    engine.shutdown().await.unwrap();
}

/// What is told is one and the same thing for all who stand at the same seq.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_is_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    let option = on_sale(&engine, 2, 5).await;
    let before = engine.seats_seq(option).await.unwrap();
    let mut followers = Vec::new();
    for _ in 0..3 {
        followers.push(engine.seat_changes(option, None).await.unwrap());
    }
    let mut told = Vec::new();
    for follower in &mut followers {
        told.push(follower.next().await.unwrap());
    }
    assert!(told.iter().all(|update| std::sync::Arc::ptr_eq(update, &told[0])), "snapshots");
    block(&engine, option, &["1-1"]).await;
    told.clear();
    for follower in &mut followers {
        told.push(follower.next().await.unwrap());
    }
    assert!(told.iter().all(|update| std::sync::Arc::ptr_eq(update, &told[0])), "deltas");
    assert!(std::ptr::eq(told[0].json().unwrap(), told[1].json().unwrap()));
    told.clear();
    for _ in 0..2 {
        told.push(engine.seat_changes(option, Some(before)).await.unwrap().next().await.unwrap());
    }
    assert!(std::sync::Arc::ptr_eq(&told[0], &told[1]), "of those who come back");
    engine.shutdown().await.unwrap();
}

/// The hub of an option is woken by what happens to that option, and by nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_changes_nobody_is_woken() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    let (quiet, busy) = (on_sale(&engine, 2, 5).await, on_sale(&engine, 2, 5).await);
    let mut followers = Vec::new();
    for _ in 0..100 {
        followers.push(engine.seat_changes(quiet, None).await.unwrap());
    }
    for _ in 0..20 {
        block(&engine, busy, &["1-1"]).await;
        unblock(&engine, busy, &["1-1"]).await;
    }
    assert_eq!(engine.stats().live_flushes, 0);
    assert_eq!(engine.stats().live_subscribers, 100);
    // The same look finds the other's.
    let mut changes = engine.seat_changes(busy, None).await.unwrap();
    let mut picture = Picture::default();
    let seq = block(&engine, busy, &["1-1"]).await;
    picture.follow(&mut changes, seq).await;
    assert!(engine.stats().live_flushes >= 1);
    drop((followers, changes));
    assert_eq!(engine.stats().live_subscribers, 0);
    // Nobody looks any more: nobody is woken.
    let before = engine.stats().live_flushes;
    block(&engine, busy, &["1-2"]).await;
    let mut again = engine.seat_changes(busy, None).await.unwrap();
    again.next().await.unwrap();
    assert_eq!(engine.stats().live_flushes, before);
    engine.shutdown().await.unwrap();
}

/// Whoever has seen something in another way sees it in the first update as well, whatever the window is.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_update_is_not_older_than_what_was_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.live.window_ms = 200;
    let engine = Engine::open(config).await.unwrap();
    let option = on_sale(&engine, 2, 5).await;
    let _other = engine.seat_changes(option, None).await.unwrap();
    for n in 1..=5 {
        let seq = block(&engine, option, &[format!("1-{n}").as_str()]).await;
        let snapshot = engine.seat_changes(option, None).await.unwrap().next().await.unwrap();
        assert!(snapshot.seq() >= seq && snapshot.seats().count() >= n);
        let delta = engine.seat_changes(option, Some(seq)).await.unwrap().next().await.unwrap();
        assert_eq!((delta.previous_seq(), delta.seats().count()), (Some(seq), 0));
    }
    engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_follows_what_is_not_there_or_not_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(dir.path())).await.unwrap();
    let missing = |error: Option<Error>| assert!(matches!(error, Some(Error::Rejected(Rejection::NotFound))));
    missing(engine.seat_changes(OptionId(7), None).await.err());
    let concert = queue(&engine, 1).await;
    let token = engine.issue_token(concert, &name("anna")).await.unwrap().token.id;
    missing(engine.token_changes(Caller::User(name("ben")), token).await.err());
    assert_eq!(engine.stats().live_subscribers, 0, "whoever was refused does not count");
    assert!(engine.token_changes(Caller::Admin, token).await.is_ok());
    engine.shutdown().await.unwrap();
}

async fn queue(engine: &Engine, max_active: u32) -> ConcertId {
    let settings = RoomSettings { mode: RoomMode::Queue, max_active, ..RoomSettings::default() };
    let concert = engine.create_concert(new_concert("A queue", settings), None).await.unwrap().value.id;
    engine.add_option(concert, new_option(engine, 2, 5), None).await.unwrap();
    concert
}

/// With intervals that never come, what is told is told because the token has another status.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_status_is_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    (config.live.position_ms, config.live.token_ms) = (60_000, 60_000);
    let engine = Engine::open(config).await.unwrap();
    let concert = queue(&engine, 1).await;
    let mut followed = Vec::new();
    for n in 0..4 {
        let user = name(&format!("user-{n}"));
        let token = engine.issue_token(concert, &user).await.unwrap().token.id;
        let mut changes = engine.token_changes(Caller::User(user), token).await.unwrap();
        while n == 0 && changes.next().await.unwrap().status == TokenStatus::Waiting {}
        followed.push((token, changes));
    }
    for (_, changes) in &mut followed[1..] {
        assert_eq!(changes.next().await.unwrap().status, TokenStatus::Waiting);
    }
    let next = async |changes: &mut boxoffice::TokenChanges| {
        // Nobody waits in vain who was cancelled on the way.
        let asking = async {
            loop {
                let next = tokio::time::timeout(std::time::Duration::from_millis(1), changes.next());
                if let Ok(next) = next.await {
                    return next.unwrap();
                }
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.expect("it is told at once")
    };
    for n in 0..3 {
        engine.leave_queue(&Caller::Admin, followed[n].0).await.unwrap();
        assert_eq!(next(&mut followed[n].1).await.status, TokenStatus::Expired);
        assert_eq!(next(&mut followed[n + 1].1).await.status, TokenStatus::Active);
    }
    // All at once, when the doors open.
    let patch = RoomSettingsPatch { mode: Some(RoomMode::Paused), ..RoomSettingsPatch::default() };
    engine.configure_waiting_room(concert, patch).await.unwrap();
    let mut waiting = Vec::new();
    for n in 4..8 {
        let user = name(&format!("user-{n}"));
        let token = engine.issue_token(concert, &user).await.unwrap().token.id;
        let mut changes = engine.token_changes(Caller::User(user), token).await.unwrap();
        assert_eq!(changes.next().await.unwrap().status, TokenStatus::Waiting);
        waiting.push(changes);
    }
    let patch = RoomSettingsPatch { mode: Some(RoomMode::Open), ..RoomSettingsPatch::default() };
    engine.configure_waiting_room(concert, patch).await.unwrap();
    for changes in &mut waiting {
        assert_eq!(next(changes).await.status, TokenStatus::Active);
    }
    let ending = tokio::spawn(async move { waiting[0].next().await.map(|_| ()) });
    engine.shutdown().await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, ending).await.expect("it ends with the engine").unwrap();
    assert!(matches!(ended, Err(Error::OutcomeUnknown(_))), "{ended:?}");
}
