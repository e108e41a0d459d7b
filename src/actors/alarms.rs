//! Who has something due or owed: only those are woken.

use std::collections::{BTreeSet, HashSet};

use parking_lot::Mutex;

use crate::domain::Timestamp;

macro_rules! keys {
    ($($name:ident, $all:ident, $aggregate:ty, $id:ty, $kind:literal;)*) => {
        /// The name of any aggregate.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "each is the name of one of a kind")]
        pub enum AggregateId {
            $($name($id),)*
        }

        $(impl From<$id> for AggregateId {
            fn from(id: $id) -> Self {
                Self::$name(id)
            }
        })*
    };
}

crate::aggregates::aggregates!(keys);

/// Why an aggregate is woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// Something may be due; with a random number, for those who need one.
    Due(u64),
    /// It owes something, and has for a while.
    Owed,
}

#[derive(Debug, Default)]
struct Set {
    due: BTreeSet<(Timestamp, AggregateId)>,
    owing: HashSet<AggregateId>,
}

/// The index of deadlines and debts of all aggregates, in memory or asleep.
#[derive(Debug, Default)]
pub struct Alarms(Mutex<Set>);

impl Alarms {
    /// `key` is to be woken at `at`.
    pub fn due(&self, key: AggregateId, at: Timestamp) {
        self.0.lock().due.insert((at, key));
    }

    /// `key` owes something: it is to be woken now and then until it does not.
    pub fn owing(&self, key: AggregateId) {
        self.0.lock().owing.insert(key);
    }

    /// Takes out all whose time has come.
    pub fn take_due(&self, now: Timestamp) -> Vec<AggregateId> {
        let mut set = self.0.lock();
        let mut taken = Vec::new();
        while set.due.first().is_some_and(|(at, _)| *at <= now) {
            taken.extend(set.due.pop_first().map(|(_, key)| key));
        }
        taken.dedup();
        taken
    }

    /// Takes out all who owe something.
    pub fn take_owing(&self) -> Vec<AggregateId> {
        let mut owing: Vec<_> = self.0.lock().owing.drain().collect();
        owing.sort_unstable();
        owing
    }
}
