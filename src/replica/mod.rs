//! The durable truth in memory: a second copy of the aggregates, which takes in what has become durable and nothing else.
//!
//! Reads are answered from it, the rows for sled are taken from it, and activation, start-up and `verify` use it: there is
//! one way from events to state. What is not in sled yet stays here.
//!
//! Architecture invariant: once it is shared, a [`Replica`] reads no rows, for it is under a lock that everybody takes. What is
//! not in memory it calls [`Cold`], and of what belongs to no aggregate it gives what memory has of it: to read the rest is up
//! to whoever asked, without the lock.

mod cache;
mod cut;
mod lists;
mod memtable;
pub(crate) mod pages;
mod stored;

use std::sync::Arc;

use hashbrown::HashMap;

use self::cache::{Cache, Since};
pub(crate) use self::cache::{Cold, Forgotten, Pin, excess};
use self::cut::Cut;
use self::memtable::Memtable;
use self::pages::NoPage;
pub use self::stored::Listed;
pub(crate) use self::stored::{Archive, Found, Listing};
use crate::domain::catalogue::Catalogue;
use crate::domain::concert_option::ConcertOption;
use crate::domain::sink::Sink;
use crate::domain::waiting_room::WaitingRoom;
use crate::domain::wallet::Wallet;
use crate::domain::{Changes, ConcertId, CorruptRow, Counted, Lsn, OptionId, Part as _, SinkId, UserId};
use crate::limits::UserCounts;
use crate::store::codec::{Entity, Record, TheCatalogue};
use crate::store::state::{self, Altered, StateStore, bad_row};

/// First byte of the keys that say which aggregates have something due or owed.
const ALARMS: u8 = b'D';

/// A row that cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The rows cannot be read.
    #[error(transparent)]
    State(#[from] state::Error),
    /// A row has been read and makes no sense.
    #[error("{aggregate}: {source}")]
    Corrupt {
        /// Whose.
        aggregate: String,
        /// What is wrong.
        #[source]
        source: CorruptRow,
    },
    /// A page has been read and makes no sense.
    #[error("page {key}: {source}")]
    Page {
        /// Its key, with escapes for what is not ASCII.
        key: String,
        /// What is wrong.
        #[source]
        source: NoPage,
    },
}

/// Key of a row: `kind | id | part`; archived ones have the kind in lower case.
fn row_key<A: Entity>(id: &A::Id, part: &A::Part, archived: bool) -> Vec<u8> {
    let mut key = Vec::with_capacity(32);
    put_row_key::<A>(&mut key, id, part, archived);
    key
}

fn put_row_key<A: Entity>(key: &mut Vec<u8>, id: &A::Id, part: &A::Part, archived: bool) {
    key.push(if archived { A::KIND.to_ascii_lowercase() } else { A::KIND });
    A::encode_id(id, key);
    part.encode(key);
}

/// The first key after all that begin with `prefix`.
fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}

fn put_alarm_key<A: Entity>(key: &mut Vec<u8>, id: &A::Id) {
    key.extend([ALARMS, A::KIND]);
    A::encode_id(id, key);
}

/// Rows that belong to no aggregate in memory, and counts over all of them.
#[derive(Default)]
struct Recent {
    /// Archived rows and entries of lists, since the last checkpoint.
    pages: Memtable,
    counts: UserCounts,
    /// The key being made; kept for its memory.
    key: Vec<u8>,
}

impl Recent {
    /// Adds a row at the key that `put_key` makes, which has a page.
    fn archive(&mut self, row: &[u8], put_key: impl FnOnce(&mut Vec<u8>)) {
        self.key.clear();
        put_key(&mut self.key);
        if let Some(slot) = pages::split(&mut self.key) {
            self.pages.add(&self.key, slot, row);
        }
    }

    /// Adds an entry to a user's list.
    fn list(&mut self, user: &UserId, tag: u8, lsn: Lsn, what: &[u8]) {
        self.key.clear();
        put_list(&mut self.key, user, tag);
        self.pages.add(&self.key, lsn.0, what);
    }
}

/// Hears which rows an event changes.
struct Listener<'a, A: Entity> {
    id: &'a A::Id,
    lsn: Lsn,
    dirty: &'a mut HashMap<A::Part, Since>,
    recent: &'a mut Recent,
}

impl<A: Entity> Changes<A::Part> for Listener<'_, A> {
    fn touch(&mut self, part: A::Part) {
        self.dirty.entry(part).or_insert(Since::Before);
    }

    fn create(&mut self, part: impl FnOnce() -> A::Part) {
        // If it is known, its row may still be there from before.
        self.dirty.entry(part()).or_insert(Since::Now);
    }

    fn archive(&mut self, part: A::Part, row: impl FnOnce() -> Vec<u8>) {
        self.recent.archive(&row(), |key| put_row_key::<A>(key, self.id, &part, true));
        self.remove(|| part);
    }

    fn remove(&mut self, part: impl FnOnce() -> A::Part) {
        let part = part();
        // What came and went since the last checkpoint leaves nothing to remove.
        if self.dirty.get(&part) == Some(&Since::Now) {
            self.dirty.remove(&part);
        } else {
            self.dirty.insert(part, Since::Before);
        }
    }

    fn list(&mut self, user: &UserId, part: A::Part) {
        let row = row_key::<A>(self.id, &part, false);
        self.recent.list(user, list_tag::<A>(&part), self.lsn, &row);
        self.dirty.insert(part, Since::Now);
    }

    fn list_too(&mut self, user: &UserId, part: A::Part) {
        let row = row_key::<A>(self.id, &part, false);
        self.recent.list(user, list_tag::<A>(&part), self.lsn, &row);
        self.touch(part);
    }

    fn count(&mut self, user: &UserId, what: Counted) {
        self.recent.counts.count(user, what);
    }
}

/// The kind of a listed part: the first byte of its name.
fn list_tag<A: Entity>(part: &A::Part) -> u8 {
    let mut name = Vec::with_capacity(16);
    part.encode(&mut name);
    name.first().copied().unwrap_or(0)
}

/// What the keys of a list begin with.
fn put_list(key: &mut Vec<u8>, user: &UserId, tag: u8) {
    key.push(lists::KIND);
    Wallet::encode_id(user, key);
    key.push(tag);
}

fn bad_page(key: &[u8], source: NoPage) -> Error {
    Error::Page { key: key.escape_ascii().to_string(), source }
}

/// The aggregates as they are durable, up to [`applied`](Self::applied).
pub(crate) struct Replica {
    rows: Arc<StateStore>,
    caches: Caches,
    recent: Recent,
    /// What a checkpoint is writing.
    writing: Arc<Memtable>,
    applied: Lsn,
    /// The last event that is in sled.
    saved: Lsn,
}

/// Everything that changes with a checkpoint.
pub(crate) struct ChangeSet {
    /// Where that is the whole truth.
    pub lsn: Lsn,
    rows: Cut,
    pages: Arc<Memtable>,
}

/// What is to be written at a key.
enum Write<'a> {
    /// A row of an aggregate, or none any more.
    Row(Option<&'a [u8]>),
    /// What is new on a page.
    Page,
    /// What is new on a list: several pages, maybe.
    List,
}

impl ChangeSet {
    /// The rows as they are in `rows` and as they are to be, in the order of their keys; the same each time, until they are
    /// made.
    pub fn altered<'a>(&'a self, rows: &'a StateStore) -> impl Iterator<Item = Result<Altered, state::Error>> + 'a {
        let Self { rows: cut, pages: memtable, .. } = self;
        let mut writes: Vec<_> = cut.rows().map(|(key, row)| (key, Write::Row(row))).collect();
        let kind = |key: &[u8]| if key.first() == Some(&lists::KIND) { Write::List } else { Write::Page };
        writes.extend(memtable.keys().map(|key| (key, kind(key))));
        writes.sort_unstable_by_key(|(key, _)| *key);
        writes.into_iter().flat_map(move |(key, write)| {
            let altered = write.altered(key.to_vec(), memtable, rows);
            let (altered, error) = altered.map_or_else(|error| (Vec::new(), Some(Err(error))), |all| (all, None));
            altered.into_iter().map(Ok).chain(error)
        })
    }
}

impl Write<'_> {
    fn altered(self, key: Vec<u8>, memtable: &Memtable, rows: &StateStore) -> Result<Vec<Altered>, state::Error> {
        let bad = |NoPage| bad_row(&key, "it is not a page");
        let (old, new) = match self {
            Self::Row(new) => (rows.get(&key)?, new.map(<[u8]>::to_vec)),
            Self::Page => {
                let (old, new) = (rows.get(&key)?, pages::new(memtable, &key).unwrap_or_default());
                let new = match &old {
                    Some(old) => pages::merge(old, &new).map_err(bad)?,
                    None => new,
                };
                (old, Some(new))
            }
            Self::List => {
                let newest = rows.scan(&key, &after_prefix(&key), 1)?.pop();
                let mut new: Vec<_> = memtable.rows(&key).map(|(lsn, what)| (Lsn(lsn), what)).collect();
                new.reverse();
                return lists::extend(&key, newest, new).map_err(bad);
            }
        };
        Ok(vec![Altered { key, old, new }])
    }
}

impl Replica {
    /// The state that `rows` add up to at `lsn`.
    ///
    /// # Errors
    /// A row that cannot be read.
    pub fn new(rows: Arc<StateStore>, lsn: Lsn) -> Result<Self, Error> {
        let mut replica = Self {
            caches: Caches::new(&rows),
            rows,
            recent: Recent::default(),
            writing: Arc::default(),
            applied: lsn,
            saved: lsn,
        };
        let users = [UserCounts::PREFIX];
        replica.rows.each(&users, &after_prefix(&users), |key, row| replica.recent.counts.load(key, &row))?;
        replica.count_open_holds()?;
        Ok(replica)
    }

    fn count_open_holds(&mut self) -> Result<(), Error> {
        for id in self.alarmed().read()?.options {
            let owners = self.loading(|replica| {
                let open =
                    replica.option(id)?.reservations().filter(|(_, reservation)| reservation.status.may_be_held());
                Ok(open.map(|(_, reservation)| reservation.user.clone()).collect::<Vec<_>>())
            })?;
            owners.iter().for_each(|owner| self.recent.counts.count(owner, Counted::HoldOpened));
        }
        Ok(())
    }

    /// Looks at a replica that nobody else uses; what is not in memory is loaded on the way.
    ///
    /// # Errors
    /// The rows cannot be had.
    pub fn loading<T>(&mut self, mut look: impl FnMut(&mut Self) -> Result<T, Cold>) -> Result<T, Error> {
        let mut loaded = Vec::new();
        loop {
            match look(self) {
                Ok(seen) => return Ok(seen),
                Err(cold) => {
                    cold.load()?.put(self);
                    // Until all are there.
                    loaded.push(cold);
                }
            }
        }
    }

    /// The last event taken in.
    #[must_use]
    pub fn applied(&self) -> Lsn {
        self.applied
    }

    /// Takes in a durable record.
    ///
    /// # Errors
    /// Its aggregate is not in memory; nothing has changed.
    pub fn apply(&mut self, first: Lsn, record: &Record) -> Result<(), Cold> {
        self.caches.apply(first, record, &mut self.recent)?;
        self.applied = Lsn(first.0 + record.len() as u64 - 1);
        Ok(())
    }

    /// All concerts.
    ///
    /// # Errors
    /// They are not in memory.
    pub fn catalogue(&mut self) -> Result<&Catalogue, Cold> {
        self.get(&TheCatalogue)
    }

    /// An option; an empty one if there is no such.
    ///
    /// # Errors
    /// It is not in memory.
    pub fn option(&mut self, id: OptionId) -> Result<&ConcertOption, Cold> {
        self.get(&id)
    }

    /// A wallet; an empty one if there is no such.
    ///
    /// # Errors
    /// It is not in memory.
    pub fn wallet(&mut self, user: &UserId) -> Result<&Wallet, Cold> {
        self.get(user)
    }

    /// A waiting room; an empty one if there is no such.
    ///
    /// # Errors
    /// It is not in memory.
    pub fn room(&mut self, concert: ConcertId) -> Result<&WaitingRoom, Cold> {
        self.get(&concert)
    }

    /// A receiver of events; an empty one if there is no such.
    ///
    /// # Errors
    /// It is not in memory.
    pub fn sink(&mut self, id: SinkId) -> Result<&Sink, Cold> {
        self.get(&id)
    }

    fn get<A: Entity>(&mut self, id: &A::Id) -> Result<&A, Cold>
    where
        Self: Holds<A>,
    {
        let applied = self.applied;
        self.cache().get(id, applied)
    }

    /// An aggregate as it is durable, to be copied for an actor, without the lock; and it stays in memory.
    ///
    /// # Errors
    /// It is not in memory.
    pub fn share<A: Entity>(&mut self, id: &A::Id) -> Result<(Arc<A>, Pin), Cold>
    where
        Self: Holds<A>,
    {
        let applied = self.applied;
        self.cache().share(id, applied)
    }

    /// What is counted for each user.
    pub fn counts(&self) -> &UserCounts {
        &self.recent.counts
    }

    /// The value of a part, live or archived. Loads nothing into memory.
    pub fn find<A: Entity>(&mut self, id: &A::Id, part: &A::Part) -> Found
    where
        Self: Holds<A>,
    {
        let archived = row_key::<A>(id, part, true);
        match self.cache().row(id, part).or_else(|| self.unsaved(archived.clone())) {
            Some(row) => Found::Row(row),
            None => Found::Stored { rows: self.rows.clone(), archived, live: row_key::<A>(id, part, false) },
        }
    }

    /// A row that is in no aggregate's hands, and may not be in sled yet.
    fn unsaved(&self, mut key: Vec<u8>) -> Option<Vec<u8>> {
        let slot = pages::split(&mut key)?;
        let layers = [&self.recent.pages, &*self.writing];
        layers.into_iter().find_map(|pages| pages.row(&key, slot)).map(<[u8]>::to_vec)
    }

    /// What is on a user's list of parts like `like`, newest first, older than `before`.
    pub fn listed(
        &self,
        user: &UserId,
        like: &crate::domain::concert_option::Part,
        before: Option<Lsn>,
        limit: usize,
    ) -> Listing {
        let mut list = Vec::new();
        put_list(&mut list, user, list_tag::<ConcertOption>(like));
        let newest = before.map_or(Lsn(u64::MAX), |before| Lsn(before.0.saturating_sub(1)));
        let new = self.recent.pages.rows_up_to(&list, newest.0).take(limit);
        let found = new.filter_map(|(lsn, what)| Listed::new(Lsn(lsn), what)).collect();
        let (writing, rows, saved) = (self.writing.clone(), self.rows.clone(), self.saved);
        Listing { found, writing, rows, saved, list, newest, limit }
    }

    /// Archived parts from `from` down to `first`, of the same kind, newest first; their numbers have no gaps.
    pub fn archived_down<A: Entity>(&self, id: &A::Id, first: &A::Part, from: &A::Part, limit: usize) -> Archive {
        let (first, last) = (row_key::<A>(id, first, true), row_key::<A>(id, from, true));
        let layers = [&*self.writing, &self.recent.pages];
        let unsaved = |key: &[u8]| layers.iter().filter_map(|memtable| pages::new(memtable, key)).collect();
        Archive::new(self.rows.clone(), first, last, limit, unsaved)
    }

    /// The aggregates that have something due or owed: those in memory; the others are to be read, without the lock. As long
    /// as no event comes in meanwhile, none is missing: what leaves memory then is in sled as it is.
    pub fn alarmed(&self) -> Alarming {
        let mut found = Alarmed::default();
        found.options.extend(self.caches.options.needing_care());
        found.rooms.extend(self.caches.rooms.needing_care());
        Alarming { found, rows: self.rows.clone() }
    }

    /// Everything that has changed since the last checkpoint. Until [`end_checkpoint`](Self::end_checkpoint), reads find it
    /// here.
    pub fn begin_checkpoint(&mut self) -> ChangeSet {
        let mut rows = Cut::default();
        self.caches.collect(&mut rows);
        self.recent.counts.collect(|key, row| rows.put(|cut| cut.extend_from_slice(key), row));
        self.writing = Arc::new(std::mem::take(&mut self.recent.pages));
        ChangeSet { lsn: self.applied, rows, pages: self.writing.clone() }
    }

    /// What [`begin_checkpoint`](Self::begin_checkpoint) gave at `lsn` is in sled; keeps at most `most` aggregates of each kind
    /// in memory, of those that have not changed since. Gives what is not in memory any more.
    pub fn end_checkpoint(&mut self, lsn: Lsn, most: usize) -> Forgotten {
        self.saved = lsn;
        let written = std::mem::take(&mut self.writing);
        let mut forgotten = self.evict(most);
        forgotten.extend(std::iter::once(written as _));
        forgotten
    }

    /// How many aggregates are in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.caches.len()
    }

    /// How many aggregates have changed since the last checkpoint was begun.
    pub fn changed(&self) -> usize {
        self.caches.changed()
    }

    /// Keeps at most `most` aggregates of each kind in memory, of those that are in sled as they are.
    pub fn evict(&mut self, most: usize) -> Forgotten {
        let mut forgotten = Forgotten::default();
        self.caches.evict(most, self.saved, &mut forgotten);
        forgotten
    }
}

/// The aggregates that have something due or owed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alarmed {
    /// Options.
    pub options: Vec<OptionId>,
    /// Waiting rooms.
    pub rooms: Vec<ConcertId>,
}

/// Those of them that were in memory; the others are in sled.
pub(crate) struct Alarming {
    found: Alarmed,
    rows: Arc<StateStore>,
}

impl Alarming {
    /// All of them; while a checkpoint is being written, also some that have nothing any more. Blocks.
    ///
    /// # Errors
    /// The rows cannot be read.
    pub fn read(self) -> Result<Alarmed, Error> {
        let Self { found: mut alarmed, rows } = self;
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).unwrap_or(0);
        rows.each(&[ALARMS], &after_prefix(&[ALARMS]), |key, _| match key.get(1) {
            Some(&ConcertOption::KIND) => alarmed.options.push(OptionId(number(&key[2..]))),
            Some(&WaitingRoom::KIND) => alarmed.rooms.push(ConcertId(number(&key[2..]))),
            _ => {}
        })?;
        alarmed.options.sort_unstable();
        alarmed.options.dedup();
        alarmed.rooms.sort_unstable();
        alarmed.rooms.dedup();
        Ok(alarmed)
    }
}

/// That a [`Replica`] keeps aggregates of this kind.
pub(crate) trait Holds<A: Entity> {
    fn cache(&mut self) -> &mut Cache<A>;
}

macro_rules! caches {
    ($($name:ident, $all:ident, $aggregate:ty, $id:ty, $kind:literal;)*) => {
        /// The aggregates of all kinds that are in memory.
        struct Caches {
            $($all: Cache<$aggregate>,)*
        }

        impl Caches {
            fn new(rows: &Arc<StateStore>) -> Self {
                Self { $($all: Cache::new(rows.clone()),)* }
            }

            fn apply(&mut self, first: Lsn, record: &Record, recent: &mut Recent) -> Result<(), Cold> {
                $(if let Some((id, events)) = <$aggregate>::of(&record.facts) {
                    return self.$all.apply(id, record.metas(first).zip(events), recent);
                })*
                Ok(())
            }

            fn collect(&mut self, cut: &mut Cut) {
                $(self.$all.collect(cut);)*
            }

            fn evict(&mut self, most: usize, saved: Lsn, forgotten: &mut Forgotten) {
                $(forgotten.extend(self.$all.evict(most, saved));)*
            }

            fn changed(&self) -> usize {
                0 $(+ self.$all.changed())*
            }

            fn len(&self) -> usize {
                0 $(+ self.$all.len())*
            }
        }

        $(impl Holds<$aggregate> for Replica {
            fn cache(&mut self) -> &mut Cache<$aggregate> {
                &mut self.caches.$all
            }
        })*
    };
}

crate::aggregates::aggregates!(caches);

#[cfg(test)]
mod tests;
