//! How much space is left.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::threads::Stop;
use crate::config::Config;
use crate::engine::Gauges;
use crate::store::disk::Disk;

/// How often the space on the disk is measured.
const LOOK_AT_DISK: Duration = Duration::from_millis(200);

/// Watches how much space is left. It is nobody else's business as well: a checkpoint can take long, and it is while one
/// is being written that space runs out.
pub(super) struct DiskWatch {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) config: Config,
    pub(super) gauges: Arc<Gauges>,
}

impl DiskWatch {
    pub(super) fn run(&self, stop: &Stop) {
        while !stop.wait(LOOK_AT_DISK) {
            self.look();
        }
    }

    pub(super) fn look(&self) {
        // What cannot be measured is left to the writes to find out.
        if let Ok(free) = self.disk.available_bytes(&self.config.data_dir) {
            let full = free < self.config.storage.min_free_bytes;
            self.gauges.free_bytes.store(free, Ordering::Relaxed);
            let was_full = self.gauges.storage_full.swap(full, Ordering::Relaxed);
            if full != was_full {
                tracing::warn!(free_bytes = free, full, "the disk is nearly full, or is not any more");
            }
        }
    }
}
