//! What is held of updates for those who have not read them: bounded for all sockets together.
//!
//! An update is there once for all who are told it, and counts for as long as anybody has it. Where that is too much, those
//! who are to be told something large wait for their turn, and those go who have taken nothing for some time; while somebody
//! waits, also those who take a little now and then, the slowest first. Nobody who is up to date waits: what changes is told
//! as before.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::socket::frame;
use crate::engine::SeatChanges;
use crate::error::Error;
use crate::live::seats::{Encoded, Room, SeatUpdate};
use crate::server::bodies::{Backlog, Counted, Reader};
use crate::server::config;
use crate::server::flow::Cut;

/// How often it is looked at whether there is room.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What is held for all sockets.
pub(super) struct Held {
    backlog: Arc<Backlog>,
    bytes_max: usize,
    /// Of whoever is the next to be told something when there is room.
    turn: Mutex<()>,
}

/// An update as it goes out.
#[derive(Debug)]
struct Framed {
    bytes: Vec<u8>,
    _counted: Counted,
}

impl AsRef<[u8]> for Framed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Encoded for Framed {}

impl Held {
    pub(super) fn new(limits: &config::Live) -> Self {
        let bytes_max = usize::try_from(limits.unread_bytes).unwrap_or(usize::MAX);
        Self { backlog: Backlog::new(bytes_max, limits.unread_patience.0), bytes_max, turn: Mutex::default() }
    }

    /// Makes a frame of an update, for everybody.
    pub(super) fn encode(&self, update: &SeatUpdate) -> serde_json::Result<()> {
        update.encode(|json| {
            let bytes = frame(json);
            let counted = Counted::new(bytes.capacity() + update.own_bytes(), &self.backlog);
            Box::new(Framed { bytes, _counted: counted })
        })
    }

    /// Somebody has not taken all that there is for them; they lose their connection by `cut` if it comes to that.
    pub(super) fn stuck(&self, cut: &Arc<Cut>) -> Reader {
        Reader::new(0, &self.backlog, Some(cut.clone()))
    }

    /// The next update of `changes`, which is counted, as soon as there is room for it. May be called again after it was
    /// cancelled.
    pub(super) async fn next(&self, changes: &mut SeatChanges) -> Result<Arc<SeatUpdate>, Error> {
        changes.due().await?;
        if let Some(update) = self.take(changes)? {
            return Ok(update);
        }
        let _turn = self.turn.lock().await;
        loop {
            changes.due().await?;
            if let Some(update) = self.take(changes)? {
                return Ok(update);
            }
            // Or a few who take a byte a second would hold up everybody who comes.
            self.backlog.cut_off_slowest();
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn take(&self, changes: &mut SeatChanges) -> Result<Option<Arc<SeatUpdate>>, Error> {
        let subscription = changes.subscription();
        let room = self.room(|keep| subscription.let_go(keep));
        let Some(update) = subscription.take(room) else { return Ok(None) };
        self.encode(&update).map_err(|error| Error::Internal(error.to_string()))?;
        Ok(Some(update))
    }

    /// What there is room for, once what is kept for others was `let_go`, but for so many bytes, and those were cut off who stand
    /// in the way and do not read.
    pub(super) fn room(&self, let_go: impl FnOnce(usize)) -> Room {
        if self.backlog.bytes() > self.bytes_max {
            // Where much is followed, what is kept would be too much by itself, and nobody could be cut off for it.
            let_go(self.bytes_max / 4);
        }
        if self.backlog.bytes() <= self.bytes_max / 2 {
            // The other half is for what many share.
            Room::Plenty
        } else if self.backlog.has_room(0) {
            Room::Little
        } else {
            Room::None
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::domain::{Lsn, OptionId};
    use crate::engine::Engine;
    use crate::testing::plans;
    use crate::{Config, NewConcert, NewOption, Points, RoomSettings};

    /// An engine in `dir`, and an option of 1,551 seats.
    async fn theatre(dir: &std::path::Path) -> (Engine, OptionId) {
        let engine = Engine::open(Config { data_dir: dir.to_owned(), ..Config::default() }).await.unwrap();
        let concert = NewConcert { title: "A".into(), waiting_room: RoomSettings::default() };
        let concert = engine.create_concert(concert, None).await.unwrap().value.id;
        let plan: serde_json::Value = serde_json::from_slice(&plans::theatre()).unwrap();
        let categories = plan["categories"].as_array().unwrap().iter();
        let prices = categories.map(|category| (category["name"].as_str().unwrap().to_owned(), Points::ZERO)).collect();
        let starts_at = engine.now().plus_millis(1 << 32);
        let option = NewOption { prices, ..NewOption::new(starts_at, plans::theatre()) };
        let option = engine.add_option(concert, option, None).await.unwrap().value.id;
        (engine, option)
    }

    async fn block(engine: &Engine, option: OptionId, seats: std::ops::Range<u32>) {
        let plan = engine.plan(option).await.unwrap();
        let seats = seats.map(|seat| plan.plan.seat(seat).guid.to_owned()).collect();
        engine.block_seats(option, seats, None).await.unwrap();
    }

    #[tokio::test]
    async fn without_room_there_is_what_is_there_and_with_little_what_many_share() {
        let dir = tempfile::tempdir().unwrap();
        let (engine, option) = theatre(dir.path()).await;
        let begun = engine.seats(option).await.unwrap().seq;
        block(&engine, option, 0..1_500).await;
        let present = engine.seats(option).await.unwrap().seq;
        let take = async |since: Option<Lsn>, room: Room| {
            let mut changes = engine.seat_changes(option, since).await.unwrap();
            changes.due().await.unwrap();
            changes.subscription().take(room)
        };
        // As long as somebody follows, there is one hub.
        let mut one = engine.seat_changes(option, None).await.unwrap();
        assert!(take(None, Room::None).await.is_none());
        assert!(take(Some(present), Room::None).await.is_none());
        let snapshot = take(Some(begun), Room::Little).await.unwrap();
        assert_eq!((snapshot.previous_seq(), snapshot.seats().count()), (None, 1_500));
        for (since, room) in [(None, Room::None), (None, Room::Plenty), (Some(begun), Room::None)] {
            assert!(Arc::ptr_eq(&take(since, room).await.unwrap(), &snapshot), "{since:?}, {room:?}");
        }
        let little = take(Some(present), Room::Little).await.unwrap();
        assert_eq!((little.previous_seq(), little.seats().count()), (Some(present), 0));
        let large = take(Some(begun), Room::Plenty).await.unwrap();
        assert_eq!((large.previous_seq(), large.seats().count()), (Some(begun), 1_500));
        assert!(Arc::ptr_eq(&take(Some(begun), Room::None).await.unwrap(), &large));
        // Kept for who comes next, as long as there is room for that.
        drop((snapshot, little, large));
        for since in [None, Some(present)] {
            assert!(take(since, Room::None).await.is_some(), "{since:?}");
        }
        one.subscription().let_go(usize::MAX);
        for since in [None, Some(present), Some(begun)] {
            assert!(take(since, Room::None).await.is_none(), "{since:?}");
        }
        engine.shutdown().await.unwrap();
    }

    #[tokio::test]
    async fn whoever_needs_something_new_waits_until_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let (engine, option) = theatre(dir.path()).await;
        block(&engine, option, 0..1_000).await;
        let held = Held::new(&config::Live { unread_bytes: 1, ..config::Live::default() });
        let mut first = engine.seat_changes(option, None).await.unwrap();
        // One there may always be, however large.
        let snapshot = held.next(&mut first).await.unwrap();
        assert!(held.backlog.bytes() > snapshot.encoded().len() && snapshot.encoded().len() > 10_000);
        block(&engine, option, 1_000..1_500).await;
        let mut others = Vec::new();
        for _ in 0..3 {
            let mut other = engine.seat_changes(option, None).await.unwrap();
            other.due().await.unwrap();
            assert!(held.next(&mut other).now_or_never().is_none());
            others.push(other);
        }
        drop(snapshot);
        let told = futures_util::future::join_all(others.iter_mut().map(|other| held.next(other))).await;
        let told: Vec<_> = told.into_iter().map(Result::unwrap).collect();
        assert!(told.iter().all(|update| Arc::ptr_eq(update, &told[0]) && update.seats().count() == 1_500));
        drop(told);
        // It is kept for who comes next, but not where there is no room.
        assert_eq!(held.room(|keep| others[0].subscription().let_go(keep)), Room::Plenty);
        assert_eq!(held.backlog.bytes(), 0);
        engine.shutdown().await.unwrap();
    }

    #[tokio::test]
    async fn those_who_read_slowly_hold_nobody_up_for_long_and_the_slowest_go_first() {
        let dir = tempfile::tempdir().unwrap();
        let (engine, option) = theatre(dir.path()).await;
        let unread_patience = config::Span(Duration::from_millis(20));
        let held = Held::new(&config::Live { unread_bytes: 1, unread_patience, ..config::Live::default() });
        let mut first = engine.seat_changes(option, None).await.unwrap();
        let snapshot = held.next(&mut first).await.unwrap();
        let cuts = [(); 2].map(|()| Arc::new(Cut::default()));
        let mut slow = Vec::new();
        for cut in &cuts {
            slow.push((held.stuck(cut), snapshot.clone()));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        drop(snapshot);
        block(&engine, option, 0..1_500).await;
        let mut newcomer = engine.seat_changes(option, None).await.unwrap();
        let served = async {
            let told = held.next(&mut newcomer).await.unwrap();
            assert_eq!(told.seats().count(), 1_500);
        };
        let reading = async {
            while let Some((reader, _)) = slow.first() {
                assert!(slow.len() == 2 || cuts[0].is_cut(), "the slowest goes first");
                if cuts[cuts.len() - slow.len()].is_cut() {
                    slow.remove(0);
                    continue;
                }
                reader.goes_on();
                slow[slow.len() - 1].0.goes_on();
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(served, reading);
        engine.shutdown().await.unwrap();
    }

    #[tokio::test]
    async fn what_hubs_keep_leaves_room_where_nobody_has_anything_to_read() {
        let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let [(engine, option), (other, another)] = [theatre(dirs[0].path()).await, theatre(dirs[1].path()).await];
        let held = Held::new(&config::Live { unread_bytes: 10_000, ..config::Live::default() });
        let mut one = engine.seat_changes(option, None).await.unwrap();
        drop(held.next(&mut one).await.unwrap());
        for (seats, is_kept) in [(0..20, true), (20..520, false)] {
            block(&engine, option, seats).await;
            drop(held.next(&mut one).await.unwrap());
            let others = Counted::new(10_000, &held.backlog);
            held.room(|keep| one.subscription().let_go(keep));
            drop(others);
            assert_eq!(held.backlog.bytes() > 0, is_kept);
        }
        let mut newcomer = other.seat_changes(another, None).await.unwrap();
        newcomer.due().await.unwrap();
        assert!(held.next(&mut newcomer).now_or_never().is_some_and(|told| told.is_ok()));
        engine.shutdown().await.unwrap();
        other.shutdown().await.unwrap();
    }
}
