//! A line, for those of it who look on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::Hubs;
use crate::domain::ConcertId;
use crate::domain::waiting_room::Event;

/// One line in which somebody is told where they stand.
pub(crate) struct Room {
    concert: ConcertId,
    hubs: Arc<Hubs>,
    /// How often it has changed.
    changes: AtomicU64,
    /// The tokens that somebody follows: told when they are let in or have come to their end.
    followed: Mutex<HashMap<u64, watch::Sender<()>>>,
    ended: AtomicBool,
}

impl Room {
    /// The room of a concert.
    pub(crate) fn of(hubs: &Arc<Hubs>, concert: ConcertId) -> Arc<Self> {
        let mut entry = hubs.rooms.entry(concert).or_insert_with(|| {
            hubs.len.fetch_add(1, Ordering::SeqCst);
            Weak::new()
        });
        if let Some(room) = entry.upgrade() {
            return room;
        }
        let room = Arc::new(Self {
            concert,
            hubs: hubs.clone(),
            changes: AtomicU64::new(0),
            followed: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        *entry = Arc::downgrade(&room);
        drop(entry);
        if hubs.has_ended() {
            room.end();
        }
        room
    }

    /// The line has changed.
    pub(super) fn mark(&self, events: &[Event]) {
        self.changes.fetch_add(1, Ordering::Release);
        let followed = self.followed.lock();
        let tell = |no: &u64| {
            if let Some(token) = followed.get(no) {
                token.send_replace(());
            }
        };
        for event in events {
            match event {
                Event::TokensAdmitted { tokens, .. } | Event::TokensExpired { tokens } => tokens.iter().for_each(tell),
                Event::TokenLeft { no, .. } | Event::TokenUsed { no } => tell(no),
                Event::Configured { returned, .. } => returned.iter().flatten().for_each(tell),
                // Where they stand is looked at from time to time.
                Event::Opened { .. } | Event::TokenIssued { .. } | Event::LineOpened { .. } | Event::Closed { .. } => {}
            }
        }
    }

    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.followed.lock().values().for_each(|token| token.send_replace(()));
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let hubs = &self.hubs;
        // Another one may have taken its place.
        if hubs.rooms.remove_if(&self.concert, |_, room| room.strong_count() == 0).is_some() {
            hubs.len.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Somebody who follows a token.
pub(crate) struct Following {
    room: Arc<Room>,
    no: u64,
    told: watch::Receiver<()>,
}

impl Following {
    pub(crate) fn new(room: Arc<Room>, no: u64) -> Self {
        room.hubs.counters().token_subscribers.fetch_add(1, Ordering::Relaxed);
        let told = room.followed.lock().entry(no).or_default().subscribe();
        Self { room, no, told }
    }

    /// Whether there will be no more changes.
    pub(crate) fn has_ended(&self) -> bool {
        self.room.ended.load(Ordering::SeqCst)
    }

    /// How often the line has changed.
    pub(crate) fn changes(&self) -> u64 {
        self.room.changes.load(Ordering::Acquire)
    }

    /// Returns when the token may have another status.
    pub(crate) async fn told(&mut self) {
        // It cannot fail: the room keeps the sender while somebody follows.
        let _ = self.told.changed().await;
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.room.hubs.counters().token_subscribers.fetch_sub(1, Ordering::Relaxed);
        let mut followed = self.room.followed.lock();
        // This one's own receiver is still there.
        if followed.get(&self.no).is_some_and(|token| token.receiver_count() <= 1) {
            followed.remove(&self.no);
        }
    }
}
