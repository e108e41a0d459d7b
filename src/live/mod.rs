//! Live: seats as they go, and the line as it moves, for everybody who looks on.
//!
//! There is one [hub](seats::Hub) for each option that somebody looks at, and one [room](tokens::Room) for each line. The
//! projector marks those that a durable batch is about; where nobody looks, that is one comparison. What is told is
//! computed once for all who stand at the same seq, and fetched by those who are ready for it: nothing is queued for the
//! others.
//!
//! Architecture invariant: it knows nothing of sockets, and nobody waits for it.

pub(crate) mod seats;
pub(crate) mod tokens;
mod view;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use self::seats::Hub;
use self::tokens::Room;
use crate::Map;
use crate::domain::concert_option::Definition;
use crate::domain::{ConcertId, OptionId, waiting_room};

/// What somebody looks at.
#[derive(Default)]
pub(crate) struct Hubs {
    options: Map<OptionId, Weak<Hub>>,
    rooms: Map<ConcertId, Weak<Room>>,
    /// How many entries the two have: the projector must not look for what nobody looks at.
    len: AtomicUsize,
    ended: AtomicBool,
    counters: Arc<Counters>,
}

/// What was done for those who look on.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Those who follow an option's seats.
    pub(crate) seat_subscribers: AtomicU64,
    /// Those who follow a token.
    pub(crate) token_subscribers: AtomicU64,
    /// Times that an option's hub was woken.
    pub(crate) flushes: AtomicU64,
    /// Updates that stood for several.
    pub(crate) conflations: AtomicU64,
    /// Snapshots for those who had fallen behind.
    pub(crate) resyncs: AtomicU64,
}

impl Hubs {
    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// An option has changed, durably.
    pub(crate) fn option_changed(&self, option: OptionId) {
        if self.len.load(Ordering::Relaxed) == 0 {
            return;
        }
        let hub = self.options.get(&option).and_then(|hub| hub.upgrade());
        if let Some(hub) = hub {
            hub.mark();
        }
    }

    /// The terms of an option have changed, durably. Whoever follows one that has other seats or areas than before has to begin anew.
    pub(crate) fn terms_changed(&self, option: OptionId, definition: &Definition) {
        let Some(hub) = self.options.get(&option).and_then(|hub| hub.upgrade()) else { return };
        if !hub.has_places_of(definition) {
            self.begin_anew(&hub);
        }
    }

    /// An option was deleted, durably. Whoever follows it finds it gone.
    pub(crate) fn option_deleted(&self, option: OptionId) {
        if let Some(hub) = self.options.get(&option).and_then(|hub| hub.upgrade()) {
            self.begin_anew(&hub);
        }
    }

    /// Ends one hub, so that whoever follows it looks for another.
    fn begin_anew(&self, hub: &Hub) {
        // Another one may have taken its place.
        if self.options.remove_if(&hub.option(), |_, known| std::ptr::eq(known.as_ptr(), hub)).is_some() {
            self.len.fetch_sub(1, Ordering::SeqCst);
        }
        hub.end();
    }

    /// A line has changed, durably.
    pub(crate) fn room_changed(&self, concert: ConcertId, events: &[waiting_room::Event]) {
        if self.len.load(Ordering::Relaxed) == 0 {
            return;
        }
        let room = self.rooms.get(&concert).and_then(|room| room.upgrade());
        if let Some(room) = room {
            room.mark(events);
        }
    }

    /// Forgets what is kept only for those who may come, but short last deltas of `keep` bytes in all.
    #[cfg(feature = "server")]
    fn let_go(&self, mut keep: usize) {
        // Not under the map's locks, as below.
        let hubs: Vec<_> = self.options.iter().filter_map(|hub| hub.upgrade()).collect();
        for hub in &hubs {
            keep = hub.let_go(keep);
        }
    }

    /// There will be no more changes.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        // Not under the map's locks: the last one to let go of a hub takes its entry away.
        let hubs: Vec<_> = self.options.iter().filter_map(|hub| hub.upgrade()).collect();
        let rooms: Vec<_> = self.rooms.iter().filter_map(|room| room.upgrade()).collect();
        hubs.iter().for_each(|hub| hub.end());
        rooms.iter().for_each(|room| room.end());
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}
