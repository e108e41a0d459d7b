//! Checkpoints, and what is to be forgotten.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::threads::Stop;
use crate::actors::system::SharedReplica;
use crate::clock::Clock;
use crate::config::{Checkpoint, Config};
use crate::domain::Lsn;
use crate::engine::Gauges;
use crate::limits::UserCounts;
use crate::store::committer::Journal;
use crate::store::lock::DirLock;
use crate::store::replica::Cut;
use crate::store::state::{self, StateStore};

/// How often the housekeeper looks around.
const LOOK_AROUND: Duration = Duration::from_millis(20);
/// Events that a stop leaves to the next start, which replays them faster than sled takes them in.
const LEFT_EVENTS: u64 = 100_000;
/// How many times as long as a checkpoint took there is none, unless too much is waiting for one.
const REST: u32 = 4;
/// How often users of whom nothing counts any more are forgotten.
const FORGET: Duration = Duration::from_secs(60 * 60);

/// Writes checkpoints.
pub(super) struct Housekeeper {
    pub(super) replica: Arc<SharedReplica>,
    pub(super) journal: Journal,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) counts: UserCounts,
    pub(super) store: Arc<StateStore>,
    pub(super) config: Config,
    pub(super) gauges: Arc<Gauges>,
    pub(super) last: Lsn,
    pub(super) last_at: Instant,
    pub(super) thinned_out_at: Instant,
    /// How long the last checkpoint took.
    pub(super) took: Duration,
    pub(super) forgot_at: Option<Instant>,
    pub(super) _lock: Arc<DirLock>,
}

impl Housekeeper {
    pub(super) fn run(mut self, stop: &Stop) {
        loop {
            let stopping = stop.wait(LOOK_AROUND);
            if self.journal.failure().is_some() {
                return;
            }
            if self.thinned_out_at.elapsed() >= Duration::from_secs(1) {
                self.thinned_out_at = Instant::now();
                // Reads fill the memory too, also where nothing is ever written.
                if let Ok(mut replica) = self.replica.lock() {
                    replica.evict(self.config.actors.max_resident as usize);
                }
            }
            if self.forgot_at.is_none_or(|at| at.elapsed() >= FORGET) {
                self.forgot_at = Some(Instant::now());
                self.counts.forget_idle(self.clock.now());
            }
            if let Err(error) = self.checkpoint_if_due(stopping) {
                return self.journal.poison(&format!("the state cannot be written: {error}"));
            }
            if stopping {
                return;
            }
        }
    }

    fn checkpoint_if_due(&mut self, now: bool) -> Result<(), state::Error> {
        let Checkpoint { interval_ms, max_events, max_pending_events, enabled, .. } = self.config.checkpoint;
        let fresh = self.replica.applied().0 - self.last.0;
        let rested = self.last_at.elapsed();
        // What is written late is written once where it changed often, and the sale has the processor meanwhile.
        let in_time = rested >= Duration::from_millis(interval_ms) || fresh >= max_events;
        let due = fresh > max_pending_events / 2 || in_time && rested >= self.took * REST;
        let last = now && fresh < LEFT_EVENTS;
        let due = fresh > 0 && (last || due && !now);
        // What space is left is the journal's: a start that finds no checkpoint replays it.
        let full = self.gauges.storage_full.load(Ordering::Relaxed);
        if !due || full || !enabled {
            return Ok(());
        }
        let Ok(mut replica) = self.replica.lock() else { return Ok(()) };
        let begun = Instant::now();
        let cut = replica.begin_checkpoint();
        drop(replica);
        self.last = checkpoint(&self.store, cut)?;
        self.last_at = Instant::now();
        self.took = begun.elapsed();
        if let Ok(mut replica) = self.replica.lock() {
            replica.end_checkpoint(self.last, self.config.actors.max_resident as usize);
        }
        self.gauges.checkpointed.store(self.last.0, Ordering::Relaxed);
        Ok(())
    }
}

/// Writes what has changed to the store; gives the lsn at which it stands now.
pub(super) fn checkpoint(store: &StateStore, cut: Cut) -> Result<Lsn, state::Error> {
    let lsn = cut.lsn;
    store.checkpoint(lsn, cut.changes(store))?;
    Ok(lsn)
}
