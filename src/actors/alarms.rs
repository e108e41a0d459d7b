//! Who has something due or owed: only those are woken.

use std::collections::{BTreeSet, HashSet};

use parking_lot::Mutex;

use crate::domain::{ConcertId, OptionId, SinkId, Timestamp, UserId};
use crate::store::codec::TheCatalogue;

/// The name of any aggregate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The catalogue.
    Catalogue,
    /// A concert option.
    Option(OptionId),
    /// A wallet.
    Wallet(UserId),
    /// A waiting room.
    Room(ConcertId),
    /// A receiver of events.
    Sink(SinkId),
}

impl From<TheCatalogue> for Key {
    fn from(_: TheCatalogue) -> Self {
        Self::Catalogue
    }
}

impl From<OptionId> for Key {
    fn from(id: OptionId) -> Self {
        Self::Option(id)
    }
}

impl From<SinkId> for Key {
    fn from(id: SinkId) -> Self {
        Self::Sink(id)
    }
}

impl From<UserId> for Key {
    fn from(id: UserId) -> Self {
        Self::Wallet(id)
    }
}

impl From<ConcertId> for Key {
    fn from(id: ConcertId) -> Self {
        Self::Room(id)
    }
}

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
    due: BTreeSet<(Timestamp, Key)>,
    owing: HashSet<Key>,
}

/// The index of deadlines and debts of all aggregates, in memory or asleep.
#[derive(Debug, Default)]
pub struct Alarms(Mutex<Set>);

impl Alarms {
    /// `key` is to be woken at `at`.
    pub fn due(&self, key: Key, at: Timestamp) {
        self.0.lock().due.insert((at, key));
    }

    /// `key` owes something: it is to be woken now and then until it does not.
    pub fn owing(&self, key: Key) {
        self.0.lock().owing.insert(key);
    }

    /// Takes out all whose time has come.
    pub fn take_due(&self, now: Timestamp) -> Vec<Key> {
        let mut set = self.0.lock();
        let mut taken = Vec::new();
        while set.due.first().is_some_and(|(at, _)| *at <= now) {
            taken.extend(set.due.pop_first().map(|(_, key)| key));
        }
        taken.dedup();
        taken
    }

    /// Takes out all who owe something.
    pub fn take_owing(&self) -> Vec<Key> {
        let mut owing: Vec<_> = self.0.lock().owing.drain().collect();
        owing.sort_unstable();
        owing
    }
}
