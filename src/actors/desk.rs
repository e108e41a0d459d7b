//! On which options something is owed of payments by providers: the options say so, and whoever drives providers looks.

use std::collections::BTreeSet;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::domain::OptionId;

/// On which options something is owed.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    options: Mutex<BTreeSet<OptionId>>,
    changed: Notify,
}

impl Desk {
    /// Something is owed on this option.
    pub(crate) fn owes(&self, option: OptionId) {
        if self.options.lock().insert(option) {
            self.changed.notify_waiters();
        }
    }

    /// All on which something is owed.
    pub(crate) fn owing(&self) -> Vec<OptionId> {
        self.options.lock().iter().copied().collect()
    }

    /// Nothing is owed on this option; if there is, it says so again.
    pub(crate) fn settled(&self, option: OptionId) {
        self.options.lock().remove(&option);
    }

    /// Returns when another option owes something, or after `patience`.
    pub(crate) async fn changed(&self, patience: Duration) {
        let _ = tokio::time::timeout(patience, self.changed.notified()).await;
    }
}
