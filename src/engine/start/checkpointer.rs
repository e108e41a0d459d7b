//! Writes checkpoints: when they are due, gently, and again if something was lacking.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::pace::{Behind, Due, due, events_after};
use crate::actors::system::SharedReplica;
use crate::config::Config;
use crate::domain::Lsn;
use crate::engine::Gauges;
use crate::replica::ChangeSet;
use crate::store::node::Journal;
use crate::store::state::{self, StateStore};

/// Events that a stop leaves to the next start, which replays them faster than sled takes them in.
const LEFT_EVENTS: u64 = 100_000;
/// After how long a checkpoint for which something was lacking is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long a checkpoint works before it rests as long.
const STINT: Duration = Duration::from_millis(2);
/// How long it rests at the most.
const BREATH_MAX: Duration = Duration::from_millis(10);

/// Writes checkpoints.
pub(super) struct Checkpointer {
    replica: Arc<SharedReplica>,
    journal: Journal,
    store: Arc<StateStore>,
    config: Config,
    gauges: Arc<Gauges>,
    /// What is to be written once more, since something was lacking.
    put_off: Option<ChangeSet>,
    /// Where the last checkpoint stands, when it ended, and how long it took.
    last: Lsn,
    last_at: Instant,
    took: Duration,
    /// What the journal had grown by when the last one was cut.
    cut_bytes: u64,
    /// The last event at the last look, and when it was new.
    seen: Lsn,
    seen_at: Instant,
}

impl Checkpointer {
    /// After a checkpoint at `last`.
    pub(super) fn new(
        replica: Arc<SharedReplica>,
        journal: Journal,
        store: Arc<StateStore>,
        config: Config,
        gauges: Arc<Gauges>,
        last: Lsn,
    ) -> Self {
        let now = Instant::now();
        Self {
            replica,
            journal,
            store,
            config,
            gauges,
            put_off: None,
            last,
            last_at: now,
            took: Duration::ZERO,
            cut_bytes: 0,
            seen: last,
            seen_at: now,
        }
    }

    /// Writes a checkpoint if it is due; with `stopping`, a last one if that is soon done.
    ///
    /// # Errors
    /// The state has failed for good.
    pub(super) fn look(&mut self, stopping: bool) -> Result<(), state::Error> {
        let due = self.due(stopping);
        // What space is left is the journal's: a start that finds no checkpoint replays it.
        let full = self.gauges.storage_full.load(Ordering::Relaxed);
        if due == Due::NotYet || full || !self.config.checkpoint.enabled {
            return Ok(());
        }
        let begun = Instant::now();
        let is_first_try = self.put_off.is_none();
        let changes = match self.put_off.take() {
            Some(changes) => changes,
            None => {
                let Ok(mut replica) = self.replica.lock() else { return Ok(()) };
                self.cut_bytes = self.journal_bytes();
                self.gauges.replay_nanos.store(0, Ordering::Relaxed);
                replica.begin_checkpoint()
            }
        };
        if !self.journal.keep(changes.lsn) {
            return Ok(());
        }
        // More than this must not wait for the next one.
        let enough = Lsn(changes.lsn.0.saturating_add(self.config.checkpoint.max_pending_events / 2));
        let breather = Breather::new(&self.journal, (due == Due::Now && !stopping).then_some(enough));
        let altered = changes.altered(&self.store).inspect(|_| breather.breathe());
        let written = self.store.checkpoint_gently(changes.lsn, altered, || breather.breathe());
        self.last_at = Instant::now();
        match written {
            Ok(()) => self.took = begun.elapsed(),
            Err(state::Error::Later(why)) => {
                self.gauges.put_off.fetch_add(1, Ordering::Relaxed);
                self.gauges.is_putting_off.store(true, Ordering::Relaxed);
                if is_first_try {
                    tracing::warn!(%why, "a checkpoint cannot be written yet; it is tried again");
                }
                self.put_off = Some(changes);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        if self.gauges.is_putting_off.swap(false, Ordering::Relaxed) {
            tracing::info!("the checkpoint is written after all");
        }
        self.last = changes.lsn;
        let most = self.config.actors.max_resident as usize;
        drop(self.replica.lock().map(|mut replica| replica.end_checkpoint(self.last, most)));
        self.gauges.checkpointed.store(self.last.0, Ordering::Relaxed);
        self.gauges.checkpointed_bytes.store(self.cut_bytes, Ordering::Relaxed);
        Ok(())
    }

    fn due(&mut self, stopping: bool) -> Due {
        let (applied, rested) = (self.replica.applied(), self.last_at.elapsed());
        if applied != self.seen {
            (self.seen, self.seen_at) = (applied, Instant::now());
        }
        let events = events_after(self.last, applied);
        if stopping {
            return if (1..LEFT_EVENTS).contains(&events) { Due::Now } else { Due::NotYet };
        }
        if self.put_off.is_some() {
            return if rested >= RETRY { Due::Now } else { Due::NotYet };
        }
        let free = self.gauges.free_bytes.load(Ordering::Relaxed);
        let behind = Behind {
            events,
            aggregates: self.replica.lock().map_or(0, |replica| replica.changed()),
            bytes: self.journal_bytes().saturating_sub(self.cut_bytes),
            replay: Duration::from_nanos(self.gauges.replay_nanos.load(Ordering::Relaxed)),
            still: self.seen_at.elapsed(),
            rested,
            took: self.took,
            free_bytes: (free > 0).then_some(free),
        };
        due(&self.config, &behind)
    }

    fn journal_bytes(&self) -> u64 {
        self.journal.counters().bytes.load(Ordering::Relaxed)
    }
}

/// Leaves the processor and the disk to the sale now and then, for as long as there is one: what a checkpoint writes is in
/// no hurry, and who buys is.
struct Breather<'a> {
    journal: &'a Journal,
    /// Until there is so much; `None` is never.
    gentle_until: Option<Lsn>,
    since: Cell<Instant>,
    durable: Cell<Lsn>,
}

impl<'a> Breather<'a> {
    fn new(journal: &'a Journal, gentle_until: Option<Lsn>) -> Self {
        Self { journal, gentle_until, since: Cell::new(Instant::now()), durable: Cell::new(journal.durable()) }
    }

    /// To be called between two pieces of work.
    fn breathe(&self) {
        let worked = self.since.get().elapsed();
        let Some(enough) = self.gentle_until.filter(|_| worked >= STINT) else { return };
        let durable = self.journal.durable();
        if self.durable.replace(durable) != durable && durable < enough {
            thread::sleep(worked.min(BREATH_MAX));
        }
        self.since.set(Instant::now());
    }
}
