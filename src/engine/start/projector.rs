//! What has become durable, into the replica.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use crate::Map;
use crate::actors::system::{Lines, SharedReplica, Unseen};
use crate::domain::{ConcertId, Lsn, OptionId, catalogue, concert_option, waiting_room};
use crate::engine::Offers;
use crate::engine::tokens::RoomInfo;
use crate::live::Hubs;
use crate::replica;
use crate::store::codec::Facts;
use crate::store::node::{DurableBatch, Journal};

/// Records that are taken in before others who want the replica have it.
const APPLIED_AT_ONCE: usize = 256;

/// Lets the replica take in what has become durable. A plain part: whoever drives it calls [`take`](Self::take).
pub(crate) struct Projector {
    pub(super) replica: Arc<SharedReplica>,
    pub(super) journal: Journal,
    pub(super) rooms: Arc<Map<ConcertId, RoomInfo>>,
    pub(super) offers: Arc<Offers>,
    pub(super) liveness: Arc<Lines>,
    pub(super) hubs: Arc<Hubs>,
    /// How long it took to take in what has come since the last checkpoint, in nanoseconds: about as long as a start would
    /// take to replay it, since it does the same.
    pub(super) replay_nanos: Arc<AtomicU64>,
}

impl Projector {
    pub(super) fn run(self, durable: &mpsc::Receiver<DurableBatch>) {
        while let Ok(batch) = durable.recv()
            && self.take(&batch)
        {}
        self.replica.end();
    }

    /// Takes a batch in; false if that fails, which is the end of the engine.
    pub(crate) fn take(&self, batch: &DurableBatch) -> bool {
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.apply(batch))) {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => self.journal.poison(&format!("the state cannot be read: {error}")),
            Err(_) => self.journal.poison("the projector panicked"),
        }
        false
    }

    fn apply(&self, batch: &DurableBatch) -> Result<(), replica::Error> {
        self.greet(batch);
        let (mut applied, mut taken) = (Lsn(0), 0);
        while taken < batch.len() {
            let most = batch.len().min(taken + APPLIED_AT_ONCE);
            let some = self.replica.read(|replica| {
                let begun = Instant::now();
                for (first, record) in &batch[taken..most] {
                    replica.apply(*first, record)?;
                    taken += 1;
                }
                // Under the lock, under which the next checkpoint is cut.
                self.replay_nanos.fetch_add(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
                applied = replica.applied();
                Ok(())
            });
            match some {
                Ok(()) => {}
                // It is closed after this has ended.
                Err(Unseen::Ended) => return Ok(()),
                Err(Unseen::Unreadable(error)) => return Err(error),
            }
        }
        let hubs = &self.hubs;
        for (_, record) in &**batch {
            match &record.facts {
                Facts::Option(option, events) => {
                    self.note_terms(*option, events);
                    hubs.option_changed(*option);
                }
                Facts::Room(concert, events) => {
                    self.note(*concert, events);
                    hubs.room_changed(*concert, events);
                }
                Facts::Catalogue(_, events) => self.note_deletions(events),
                Facts::Wallet(..) | Facts::Sink(..) => {}
            }
        }
        self.replica.advance(applied);
        Ok(())
    }

    /// Who is sent back to a line counts as heard of, before anybody looks for them there: they were not asked for a sign of life
    /// while they were inside.
    fn greet(&self, batch: &DurableBatch) {
        for (_, record) in &**batch {
            let Facts::Room(concert, events) = &record.facts else { continue };
            for event in events {
                let waiting_room::Event::Configured { returned: Some(returned), .. } = event else { continue };
                let liveness = self.liveness.entry(*concert).or_default();
                returned.iter().for_each(|no| liveness.seen(*no));
            }
        }
    }

    /// What is not sold any more as it was is not kept.
    fn note_terms(&self, option: OptionId, events: &[concert_option::Event]) {
        for event in events {
            if let concert_option::Event::OptionChanged { definition, .. } = event {
                self.offers.remove(&option);
                self.hubs.terms_changed(option, definition);
            }
            if let concert_option::Event::OptionDeleted { .. } = event {
                self.offers.remove(&option);
                self.hubs.option_deleted(option);
            }
        }
    }

    /// Whoever comes to the line of a concert that is deleted finds none.
    fn note_deletions(&self, events: &[catalogue::Event]) {
        for event in events {
            if let catalogue::Event::ConcertDeleted { concert, .. } = event {
                self.rooms.remove(concert);
            }
        }
    }

    /// Keeps up to date what holds are checked against, and in which lines somebody waits.
    fn note(&self, concert: ConcertId, events: &[waiting_room::Event]) {
        for event in events {
            match event {
                waiting_room::Event::Opened { settings, .. } | waiting_room::Event::Configured { settings, .. } => {
                    if let Some(mut room) = self.rooms.get_mut(&concert) {
                        room.mode = settings.mode;
                    }
                }
                waiting_room::Event::TokenIssued { active_until: None, .. } => {
                    self.liveness.entry(concert).or_default();
                }
                _ => {}
            }
        }
    }
}
