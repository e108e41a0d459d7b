//! Lets checkpoints be written, and forgets what nobody uses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::checkpointer::Checkpointer;
use super::terms::Terms;
use super::threads::Stop;
use crate::actors::system::SharedReplica;
use crate::limits::UserCounts;
use crate::store::lock::DirLock;
use crate::store::node::Journal;

/// How often the housekeeper looks around.
const LOOK_AROUND: Duration = Duration::from_millis(20);
/// How often aggregates that nobody uses are forgotten.
const THIN_OUT: Duration = Duration::from_secs(1);
/// How often users of whom nothing counts any more are forgotten.
const FORGET: Duration = Duration::from_secs(60 * 60);

/// Keeps the house.
pub(super) struct Housekeeper {
    pub(super) replica: Arc<SharedReplica>,
    pub(super) journal: Journal,
    pub(super) terms: Arc<Terms>,
    pub(super) counts: UserCounts,
    pub(super) max_resident: usize,
    pub(super) checkpointer: Checkpointer,
    pub(super) thinned_out_at: Instant,
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
            if self.thinned_out_at.elapsed() >= THIN_OUT {
                self.thinned_out_at = Instant::now();
                // Reads fill the memory too, also where nothing is ever written.
                drop(self.replica.lock().map(|mut replica| replica.evict(self.max_resident)));
            }
            if self.forgot_at.is_none_or(|at| at.elapsed() >= FORGET) {
                self.forgot_at = Some(Instant::now());
                self.counts.forget_idle(self.terms.now());
            }
            if let Err(error) = self.checkpointer.look(stopping) {
                return self.journal.poison(&format!("the state cannot be written: {error}"));
            }
            if stopping {
                return;
            }
        }
    }
}
