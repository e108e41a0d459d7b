//! Aggregates of one kind in memory, and how those that are not there come in.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Weak};

use hashbrown::HashMap;
use parking_lot::{ReentrantMutex, ReentrantMutexGuard};

use super::cut::Cut;
use super::{Error, Holds, Listener, Recent, Replica, after_prefix, put_alarm_key};
use crate::domain::{Lsn, Meta, Part as _};
use crate::store::codec::Entity;
use crate::store::state::StateStore;

/// What has grown beyond its limit shrinks to below it, by this part of it.
const SPARE: usize = 16;

/// An aggregate in memory.
struct Entry<A: Entity> {
    /// Shared for as long as somebody copies it.
    state: Arc<A>,
    /// Its rows that have changed since the last checkpoint.
    dirty: HashMap<A::Part, Since>,
    /// Whether the last checkpoint left word that it needs care; `None` if that is not known.
    cared_for: Option<bool>,
    /// The last event that it took in, or that was durable when it was last asked for.
    used: Lsn,
    /// The last event that it took in since it is in memory.
    changed: Lsn,
    /// Who wants it to stay.
    pins: Weak<Turns>,
}

/// Whether a row was there at the last checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    /// It may have been.
    Before,
    /// It was not.
    Now,
}

/// The aggregates of one kind.
pub(crate) struct Cache<A: Entity> {
    rows: Arc<StateStore>,
    entries: HashMap<A::Id, Entry<A>>,
    /// Those that have changed since the last checkpoint.
    changed: Vec<A::Id>,
    /// Those that are not in memory, and that somebody wants there.
    wanted: HashMap<A::Id, Weak<Turns>>,
}

impl<A: Entity> Cache<A> {
    /// With nothing in it; what is wanted is in `rows`.
    pub(super) fn new(rows: Arc<StateStore>) -> Self {
        Self { rows, entries: HashMap::new(), changed: Vec::new(), wanted: HashMap::new() }
    }
}

/// As long as it is there, its aggregate stays in memory once it is there. Clones are the same.
#[derive(Debug, Clone)]
#[must_use]
pub(crate) struct Pin(Arc<Turns>);

/// Whose turn it is to load it. The simulator lets others have theirs on the thread that reads.
type Turns = ReentrantMutex<()>;

impl Pin {
    fn of(pins: &mut Weak<Turns>) -> Self {
        Self(pins.upgrade().unwrap_or_else(|| {
            let pin = Arc::new(Turns::new(()));
            *pins = Arc::downgrade(&pin);
            pin
        }))
    }
}

/// What was asked for is not in memory, where alone the replica looks: whoever wants it has to [load](Self::load) it, without
/// keeping others from the replica, and to ask again.
///
/// Nothing happens to it meanwhile. An event about it, or a checkpoint, would have to bring it into memory first; and what is
/// in memory stays there as long as this is kept.
pub(crate) struct Cold {
    pin: Pin,
    rows: Arc<StateStore>,
    what: Box<dyn Loads>,
}

impl fmt::Debug for Cold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cold")
    }
}

/// What is done with what was read, under the replica's lock.
type Put = Box<dyn FnOnce(&mut Replica) + Send>;

/// An aggregate of some kind.
trait Loads: Send + Sync {
    fn is_there(&self, replica: &mut Replica) -> bool;
    fn load(&self, rows: &StateStore, pin: &Pin) -> Result<Put, Error>;
}

impl Cold {
    /// Waits for whoever is loading it, and is the next to do so: many may want it at once.
    pub fn turn(&self) -> ReentrantMutexGuard<'_, ()> {
        self.pin.0.lock()
    }

    /// Whether it has come into memory meanwhile.
    pub fn is_there(&self, replica: &mut Replica) -> bool {
        self.what.is_there(replica)
    }

    /// Reads it. May take long: the replica must not be locked.
    ///
    /// # Errors
    /// Its rows cannot be had.
    pub fn load(&self) -> Result<Loaded, Error> {
        Ok(Loaded(self.what.load(&self.rows, &self.pin)?))
    }
}

/// An aggregate as it was loaded.
pub(crate) struct Loaded(Put);

impl Loaded {
    /// Puts it into memory, if it is not there.
    pub fn put(self, replica: &mut Replica) {
        (self.0)(replica);
    }
}

/// One aggregate by its id.
struct One<A: Entity>(A::Id);

impl<A: Entity> Loads for One<A>
where
    Replica: Holds<A>,
{
    fn is_there(&self, replica: &mut Replica) -> bool {
        replica.cache().entries.contains_key(&self.0)
    }

    fn load(&self, rows: &StateStore, pin: &Pin) -> Result<Put, Error> {
        let (id, pins) = (self.0.clone(), Arc::downgrade(&pin.0));
        let state = Arc::new(read::<A>(&id, rows)?);
        Ok(Box::new(move |replica| {
            let used = replica.applied();
            let cache: &mut Cache<A> = replica.cache();
            cache.wanted.remove(&id);
            let entry = Entry { state, dirty: HashMap::new(), cared_for: None, used, changed: Lsn(0), pins };
            cache.entries.entry(id).or_insert(entry);
        }))
    }
}

/// Puts an aggregate together from its rows; an unknown one is empty.
fn read<A: Entity>(id: &A::Id, rows: &StateStore) -> Result<A, Error> {
    let mut prefix = vec![A::KIND];
    A::encode_id(id, &mut prefix);
    let mut parts = Vec::new();
    rows.each(&prefix, &after_prefix(&prefix), |key, row| {
        // A key of another shape can only come from a damaged row, which the row hash has ruled out.
        parts.extend(A::Part::decode(&key[prefix.len()..]).map(|part| (part, row)));
    })?;
    A::load(parts.into_iter()).map_err(|source| Error::Corrupt { aggregate: id.to_string(), source })
}

/// Aggregates that were forgotten. To free their memory takes as long as they are large: not under the replica's lock.
#[derive(Default)]
#[must_use = "it is to be dropped without the replica's lock"]
pub(crate) struct Forgotten(Vec<Arc<dyn Any + Send + Sync>>);

impl Forgotten {
    pub(super) fn extend(&mut self, more: impl Iterator<Item = Arc<dyn Any + Send + Sync>>) {
        self.0.extend(more);
    }
}

impl<A: Entity> Cache<A>
where
    Replica: Holds<A>,
{
    /// The aggregate, as it is in memory; an unknown one is empty.
    pub(super) fn get(&mut self, id: &A::Id, now: Lsn) -> Result<&A, Cold> {
        let entry = self.entry(id)?;
        entry.used = now;
        Ok(&entry.state)
    }

    /// The same, to be copied without the replica's lock; and it stays in memory.
    pub(super) fn share(&mut self, id: &A::Id, now: Lsn) -> Result<(Arc<A>, Pin), Cold> {
        let entry = self.entry(id)?;
        entry.used = now;
        Ok((entry.state.clone(), Pin::of(&mut entry.pins)))
    }

    fn entry(&mut self, id: &A::Id) -> Result<&mut Entry<A>, Cold> {
        self.entries.get_mut(id).ok_or_else(|| {
            let pin = Pin::of(self.wanted.entry(id.clone()).or_default());
            Cold { pin, rows: self.rows.clone(), what: Box::new(One::<A>(id.clone())) }
        })
    }

    /// Takes in a record, or nothing of it.
    pub(super) fn apply<'e>(
        &mut self,
        id: &A::Id,
        events: impl Iterator<Item = (Meta, &'e A::Event)>,
        recent: &mut Recent,
    ) -> Result<(), Cold> {
        let entry = self.entry(id)?;
        let was_clean = entry.dirty.is_empty();
        // Whoever copies it is an actor that begins, before which nothing happens to it: so it is not copied here.
        let state = Arc::make_mut(&mut entry.state);
        for (meta, event) in events {
            (entry.used, entry.changed) = (meta.lsn, meta.lsn);
            let mut listener = Listener::<A> { id, lsn: meta.lsn, dirty: &mut entry.dirty, recent };
            state.evolve(meta, event, &mut listener);
        }
        if was_clean && !entry.dirty.is_empty() {
            self.changed.push(id.clone());
        }
        Ok(())
    }

    /// Moves the changed rows to `cut`.
    pub(super) fn collect(&mut self, cut: &mut Cut) {
        for id in self.changed.drain(..) {
            // It stays in memory for as long as it differs from its rows. What it had changed may be as before by now.
            let Some(entry) = self.entries.get_mut(&id).filter(|entry| !entry.dirty.is_empty()) else { continue };
            for (part, _) in entry.dirty.drain() {
                cut.put_part::<A>(&id, &part, entry.state.row(&part).as_deref());
            }
            let needs_care = entry.state.needs_care();
            if entry.cared_for.replace(needs_care) != Some(needs_care) {
                cut.put(|key| put_alarm_key::<A>(key, &id), needs_care.then_some(&[][..]));
            }
        }
    }

    /// If there are more than `most`: forgets those that nobody wants to stay and that have not changed after `saved`, up to
    /// which all is in sled, the longest unused ones first.
    pub(super) fn evict(
        &mut self,
        most: usize,
        saved: Lsn,
    ) -> impl Iterator<Item = Arc<dyn Any + Send + Sync>> + use<A> {
        self.wanted.retain(|_, pins| pins.strong_count() > 0);
        let excess = excess(self.entries.len(), most);
        let may_go = |entry: &Entry<A>| entry.changed <= saved && entry.pins.strong_count() == 0;
        let mut unused: Vec<(Lsn, A::Id)> = Vec::new();
        if excess > 0 {
            let all = self.entries.iter().filter(|(_, entry)| may_go(entry));
            let mut all: Vec<_> = all.map(|(id, entry)| (entry.used, id)).collect();
            if excess < all.len() {
                all.select_nth_unstable(excess);
                all.truncate(excess);
            }
            unused = all.into_iter().map(|(used, id)| (used, id.clone())).collect();
        }
        let gone: Vec<_> = unused.into_iter().filter_map(|(_, id)| self.entries.remove(&id)).collect();
        gone.into_iter().map(|entry| entry.state as Arc<dyn Any + Send + Sync>)
    }

    /// A part of an aggregate that is in memory.
    pub(super) fn row(&self, id: &A::Id, part: &A::Part) -> Option<Vec<u8>> {
        self.entries.get(id)?.state.row(part)
    }

    /// Those in memory that need care.
    pub(super) fn needing_care(&self) -> impl Iterator<Item = &A::Id> {
        self.entries.iter().filter(|(_, entry)| entry.state.needs_care()).map(|(id, _)| id)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many have changed since the last checkpoint.
    pub(super) fn changed(&self) -> usize {
        self.changed.len()
    }

    #[cfg(test)]
    pub(super) fn has(&self, id: &A::Id) -> bool {
        self.entries.contains_key(id)
    }
}

/// How many of `len` have to go so that there are not more than `most`. If any, a few more go than must: finding the longest
/// unused ones takes a look at them all, which is not to be done again at once.
pub(crate) fn excess(len: usize, most: usize) -> usize {
    if len <= most { 0 } else { len - (most - most / SPARE) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::UserId;

    #[test]
    fn many_who_want_the_same_wait_for_the_one_who_loads_it() {
        let mut replica = Replica::new(Arc::new(StateStore::in_memory()), Lsn(0)).unwrap();
        let [anna, ben]: [UserId; 2] = ["anna", "ben"].map(|name| name.parse().unwrap());
        let [first, second, other] = [&anna, &anna, &ben].map(|user| replica.wallet(user).map(drop).unwrap_err());
        let turn = first.turn();
        std::thread::scope(|threads| {
            let others = threads.spawn(|| [&second, &other].map(|cold| cold.pin.0.try_lock().is_some()));
            assert_eq!(others.join().unwrap(), [false, true], "nobody waits for what others want");
        });
        first.load().unwrap().put(&mut replica);
        drop(turn);
        let _turn = second.turn();
        assert!(second.is_there(&mut replica) && !other.is_there(&mut replica));
    }
}
