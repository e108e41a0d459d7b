//! The durable truth in memory: a second copy of the aggregates, which takes in what has become durable and nothing else.
//!
//! Reads are answered from it, the rows for sled are cut from it, and activation, start-up and `verify` use it: there is
//! one way from events to state. What is not in memory comes from the rows; what is not in sled yet stays here.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;

use super::codec::{Entity, Facts, Record, TheCatalogue};
use super::state::{self, Direction, Row, StateStore};
use crate::domain::catalogue::Catalogue;
use crate::domain::concert_option::ConcertOption;
use crate::domain::sink::Sink;
use crate::domain::waiting_room::WaitingRoom;
use crate::domain::wallet::Wallet;
use crate::domain::{Aggregate, Changes, ConcertId, CorruptRow, Counted, Lsn, OptionId, Part, SinkId, UserId};
use crate::limits::UserCounts;

/// Rows to be written together, in the order of their keys: each with its new value, or none.
pub type RowChanges = Vec<state::Change>;

/// A part of an aggregate, and its row.
pub type PartRow<A> = (<A as Aggregate>::Part, Vec<u8>);

/// Whether the row of a key, once there, stays as it is: archived parts and lists.
#[must_use]
pub fn written_once(key: &[u8]) -> bool {
    key.first().is_some_and(|kind| *kind == LISTS || kind.is_ascii_lowercase())
}

/// First byte of the keys that list what is a user's.
const LISTS: u8 = b'L';
/// First byte of the keys that say which aggregates have something due or owed.
const ALARMS: u8 = b'D';
/// Rows that a scan asks for at once.
const SCAN_ROWS: usize = 1024;

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
}

/// An aggregate in memory.
struct Kept<A: Entity> {
    state: A,
    /// Its rows that have changed since the last checkpoint.
    dirty: HashMap<A::Part, Since>,
    /// The last event that it took in, or that was durable when it was last asked for.
    used: Lsn,
}

/// Whether a row was there at the last checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    /// It may have been.
    Before,
    /// It was not.
    Now,
}

/// The aggregates of one kind.
struct Shelf<A: Entity> {
    kept: HashMap<A::Id, Kept<A>>,
}

impl<A: Entity> Default for Shelf<A> {
    fn default() -> Self {
        Self { kept: HashMap::new() }
    }
}

/// Key of a row: `kind | id | part`; archived ones have the kind in lower case.
fn row_key<A: Entity>(id: &A::Id, part: &A::Part, archived: bool) -> Vec<u8> {
    let mut key = Vec::with_capacity(32);
    key.push(if archived { A::KIND.to_ascii_lowercase() } else { A::KIND });
    A::encode_id(id, &mut key);
    part.encode(&mut key);
    key
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

impl<A: Entity> Shelf<A> {
    /// The aggregate, from memory or from its rows; an unknown one is empty.
    fn get(&mut self, id: &A::Id, now: Lsn, rows: &StateStore) -> Result<&mut Kept<A>, Error> {
        if !self.kept.contains_key(id) {
            let kept = Kept { state: load::<A>(id, rows)?, dirty: HashMap::new(), used: now };
            self.kept.insert(id.clone(), kept);
        }
        // It is there now.
        let kept = self.kept.get_mut(id).expect("just inserted");
        kept.used = now;
        Ok(kept)
    }

    fn apply(
        &mut self,
        id: &A::Id,
        first: Lsn,
        record: &Record,
        fresh: &mut Fresh,
        rows: &StateStore,
    ) -> Result<(), Error> {
        let kept = self.get(id, first, rows)?;
        for (meta, event) in record.metas(first).zip(A::events(&record.facts)) {
            let mut listener = Listener::<A> { id, lsn: meta.lsn, dirty: &mut kept.dirty, fresh };
            kept.state.evolve(meta, event, &mut listener);
        }
        Ok(())
    }

    /// Moves the changed rows to `changes`.
    fn collect(&mut self, changes: &mut RowChanges) {
        for (id, kept) in &mut self.kept {
            if kept.dirty.is_empty() {
                continue;
            }
            for (part, _) in kept.dirty.drain() {
                changes.push((row_key::<A>(id, &part, false), kept.state.row(&part)));
            }
            changes.push((alarm_key::<A>(id), alarm(&kept.state)));
        }
    }

    /// Forgets those that are in sled as they are, the longest unused ones first, until `most` are left.
    fn evict(&mut self, most: usize) {
        let excess = self.kept.len().saturating_sub(most);
        if excess == 0 {
            return;
        }
        let clean = self.kept.iter().filter(|(_, kept)| kept.dirty.is_empty());
        let mut clean: Vec<_> = clean.map(|(id, kept)| (kept.used, id.clone())).collect();
        clean.sort_unstable();
        for (_, id) in clean.into_iter().take(excess) {
            self.kept.remove(&id);
        }
    }
}

fn load<A: Entity>(id: &A::Id, rows: &StateStore) -> Result<A, Error> {
    let mut prefix = vec![A::KIND];
    A::encode_id(id, &mut prefix);
    let mut parts = Vec::new();
    rows.each(&prefix, &after_prefix(&prefix), |key, row| {
        // A key of another shape can only come from a damaged row, which the row hash has ruled out.
        parts.extend(A::Part::decode(&key[prefix.len()..]).map(|part| (part, row)));
    })?;
    A::load(parts.into_iter()).map_err(|source| Error::Corrupt { aggregate: id.to_string(), source })
}

fn alarm_key<A: Entity>(id: &A::Id) -> Vec<u8> {
    let mut key = vec![ALARMS, A::KIND];
    A::encode_id(id, &mut key);
    key
}

fn alarm<A: Entity>(state: &A) -> Option<Vec<u8>> {
    state.needs_care().then(Vec::new)
}

/// Rows that belong to no aggregate in memory, and counts over all of them.
#[derive(Default)]
struct Fresh {
    /// Archived rows and lists, since the last checkpoint.
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Those that nobody has asked for since they came: in a rush most are only written.
    latest: Vec<Row>,
    counts: UserCounts,
}

impl Fresh {
    /// All rows, to be looked at.
    fn sorted(&mut self) -> &BTreeMap<Vec<u8>, Vec<u8>> {
        self.rows.extend(self.latest.drain(..));
        &self.rows
    }

    /// All rows, in no order.
    fn take_rows(&mut self) -> impl Iterator<Item = Row> {
        std::mem::take(&mut self.rows).into_iter().chain(std::mem::take(&mut self.latest))
    }
}

/// Hears which rows an event changes.
struct Listener<'a, A: Entity> {
    id: &'a A::Id,
    lsn: Lsn,
    dirty: &'a mut HashMap<A::Part, Since>,
    fresh: &'a mut Fresh,
}

impl<A: Entity> Changes<A::Part> for Listener<'_, A> {
    fn touch(&mut self, part: A::Part) {
        self.dirty.entry(part).or_insert(Since::Before);
    }

    fn archive(&mut self, part: A::Part, row: impl FnOnce() -> Vec<u8>) {
        self.fresh.latest.push((row_key::<A>(self.id, &part, true), row()));
        // What came and went since the last checkpoint leaves nothing to remove.
        if self.dirty.get(&part) == Some(&Since::Now) {
            self.dirty.remove(&part);
        } else {
            self.dirty.insert(part, Since::Before);
        }
    }

    fn list(&mut self, user: &UserId, part: A::Part) {
        let key = list_key(user, list_tag::<A>(&part), self.lsn);
        let row = row_key::<A>(self.id, &part, false);
        self.fresh.latest.push((key, row));
        self.dirty.insert(part, Since::Now);
    }

    fn count(&mut self, user: &UserId, what: Counted) {
        self.fresh.counts.count(user, what);
    }
}

/// The kind of a listed part: the first byte of its name.
fn list_tag<A: Entity>(part: &A::Part) -> u8 {
    let mut name = Vec::with_capacity(16);
    part.encode(&mut name);
    name.first().copied().unwrap_or(0)
}

/// Newest first, in the order of the keys.
fn list_key(user: &UserId, tag: u8, lsn: Lsn) -> Vec<u8> {
    let mut key = list_prefix(user, tag);
    key.extend((!lsn.0).to_be_bytes());
    key
}

fn list_prefix(user: &UserId, tag: u8) -> Vec<u8> {
    let mut key = vec![LISTS];
    Wallet::encode_id(user, &mut key);
    key.push(tag);
    key
}

/// A row that was looked for.
pub(crate) enum Found {
    /// It was in memory.
    Row(Vec<u8>),
    /// It is in sled, if anywhere.
    Stored {
        rows: Arc<StateStore>,
        /// Its key if it is archived.
        archived: Vec<u8>,
        /// Its key if it is not.
        live: Vec<u8>,
    },
}

impl Found {
    /// Its value; `None` if there is no such row.
    ///
    /// # Errors
    /// The rows cannot be read.
    pub fn row(self) -> Result<Option<Vec<u8>>, Error> {
        let (rows, archived, live) = match self {
            Self::Row(row) => return Ok(Some(row)),
            Self::Stored { rows, archived, live } => (rows, archived, live),
        };
        // It may be archived after the first look.
        for key in [&archived, &live, &archived] {
            if let Some(row) = rows.get(key)? {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }
}

/// One thing on a user's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// When it came: its place in the list.
    pub lsn: Lsn,
    /// The option it is on.
    pub option: OptionId,
    /// Its number there.
    pub no: u64,
}

/// The aggregates as they are durable, up to [`applied`](Self::applied).
pub(crate) struct Replica {
    rows: Arc<StateStore>,
    catalogue: Shelf<Catalogue>,
    options: Shelf<ConcertOption>,
    wallets: Shelf<Wallet>,
    rooms: Shelf<WaitingRoom>,
    sinks: Shelf<Sink>,
    fresh: Fresh,
    /// What a checkpoint is writing.
    writing: Arc<RowChanges>,
    applied: Lsn,
}

impl Replica {
    /// The state that `rows` add up to at `lsn`.
    ///
    /// # Errors
    /// A row that cannot be read.
    pub fn new(rows: Arc<StateStore>, lsn: Lsn) -> Result<Self, Error> {
        let mut replica = Self {
            rows,
            catalogue: Shelf::default(),
            options: Shelf::default(),
            wallets: Shelf::default(),
            rooms: Shelf::default(),
            sinks: Shelf::default(),
            fresh: Fresh::default(),
            writing: Arc::default(),
            applied: lsn,
        };
        for user in replica.scan_all(&[UserCounts::PREFIX])? {
            replica.fresh.counts.load(&user.0, &user.1);
        }
        replica.count_open_holds()?;
        Ok(replica)
    }

    fn count_open_holds(&mut self) -> Result<(), Error> {
        for id in self.alarmed()?.options {
            let option = &self.options.get(&id, self.applied, &self.rows)?.state;
            let open = option.reservations().filter(|(_, reservation)| reservation.status.may_be_held());
            for (_, reservation) in open {
                self.fresh.counts.count(&reservation.user, Counted::HoldOpened);
            }
        }
        Ok(())
    }

    /// The last event taken in.
    #[must_use]
    pub fn applied(&self) -> Lsn {
        self.applied
    }

    /// Takes in a durable record.
    ///
    /// # Errors
    /// A row that its aggregate needs cannot be had.
    pub fn apply(&mut self, first: Lsn, record: &Record) -> Result<(), Error> {
        let (fresh, rows) = (&mut self.fresh, &self.rows);
        match &record.facts {
            Facts::Catalogue(_) => self.catalogue.apply(&TheCatalogue, first, record, fresh, rows)?,
            Facts::Option(id, _) => self.options.apply(id, first, record, fresh, rows)?,
            Facts::Wallet(id, _) => self.wallets.apply(id, first, record, fresh, rows)?,
            Facts::Room(id, _) => self.rooms.apply(id, first, record, fresh, rows)?,
            Facts::Sink(id, _) => self.sinks.apply(id, first, record, fresh, rows)?,
        }
        self.applied = Lsn(first.0 + record.len() as u64 - 1);
        Ok(())
    }

    /// All concerts.
    ///
    /// # Errors
    /// Its rows cannot be had.
    pub fn catalogue(&mut self) -> Result<&Catalogue, Error> {
        Ok(&self.catalogue.get(&TheCatalogue, self.applied, &self.rows)?.state)
    }

    /// An option; an empty one if there is no such.
    ///
    /// # Errors
    /// Its rows cannot be had.
    pub fn option(&mut self, id: OptionId) -> Result<&ConcertOption, Error> {
        Ok(&self.options.get(&id, self.applied, &self.rows)?.state)
    }

    /// A wallet; an empty one if there is no such.
    ///
    /// # Errors
    /// Its rows cannot be had.
    pub fn wallet(&mut self, user: &UserId) -> Result<&Wallet, Error> {
        Ok(&self.wallets.get(user, self.applied, &self.rows)?.state)
    }

    /// A waiting room; an empty one if there is no such.
    ///
    /// # Errors
    /// Its rows cannot be had.
    pub fn room(&mut self, concert: ConcertId) -> Result<&WaitingRoom, Error> {
        Ok(&self.rooms.get(&concert, self.applied, &self.rows)?.state)
    }

    /// A receiver of events; an empty one if there is no such.
    ///
    /// # Errors
    /// Its rows cannot be had.
    pub fn sink(&mut self, id: SinkId) -> Result<&Sink, Error> {
        Ok(&self.sinks.get(&id, self.applied, &self.rows)?.state)
    }

    /// What is counted for each user.
    pub fn counts(&self) -> &UserCounts {
        &self.fresh.counts
    }

    /// The last value of an archived part.
    ///
    /// # Errors
    /// The rows cannot be read.
    pub fn archived<A: Entity>(&mut self, id: &A::Id, part: &A::Part) -> Result<Option<Vec<u8>>, Error> {
        let key = row_key::<A>(id, part, true);
        match self.unsaved(&key) {
            Some(row) => Ok(Some(row)),
            None => Ok(self.rows.get(&key)?),
        }
    }

    /// A row that is in no aggregate's hands, and may not be in sled yet.
    fn unsaved(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        if let Some(row) = self.fresh.sorted().get(key) {
            return Some(row.clone());
        }
        let place = self.writing.binary_search_by(|(written, _)| written.as_slice().cmp(key)).ok()?;
        self.writing[place].1.clone()
    }

    /// The value of a part, live or archived, for whoever is content with an old one: loads nothing into memory, and leaves
    /// it to the caller to read what is in sled, without keeping others from the replica.
    pub fn find<A: Entity>(&mut self, id: &A::Id, part: &A::Part) -> Found
    where
        Self: Holds<A>,
    {
        let live = self.shelf_of().kept.get(id).and_then(|kept| kept.state.row(part));
        let archived = row_key::<A>(id, part, true);
        match live.or_else(|| self.unsaved(&archived)) {
            Some(row) => Found::Row(row),
            None => Found::Stored { rows: self.rows.clone(), archived, live: row_key::<A>(id, part, false) },
        }
    }

    /// What is on a user's list of parts like `like`, newest first, older than `before`.
    ///
    /// # Errors
    /// The rows cannot be read.
    pub fn listed(
        &mut self,
        user: &UserId,
        like: &crate::domain::concert_option::Part,
        before: Option<Lsn>,
        limit: usize,
    ) -> Result<Vec<Listed>, Error> {
        let tag = list_tag::<ConcertOption>(like);
        let prefix = list_prefix(user, tag);
        // Keys hold the complement, so what is older comes after.
        let from = before.map_or_else(|| prefix.clone(), |lsn| list_key(user, tag, Lsn(lsn.0.saturating_sub(1))));
        let rows = self.scan(&from, &after_prefix(&prefix), limit, Direction::Forward)?;
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).unwrap_or(0);
        Ok(rows
            .into_iter()
            .filter(|(key, row)| key.len() == prefix.len() + 8 && row.len() == 18)
            .map(|(key, row)| Listed {
                lsn: Lsn(!number(&key[prefix.len()..])),
                option: OptionId(number(&row[1..9])),
                no: number(&row[10..]),
            })
            .collect())
    }

    /// Archived parts from `from` (inclusive) down to the first of the same kind, newest first.
    ///
    /// # Errors
    /// The rows cannot be read.
    pub fn archived_down<A: Entity>(
        &mut self,
        id: &A::Id,
        first: &A::Part,
        from: &A::Part,
        limit: usize,
    ) -> Result<Vec<PartRow<A>>, Error> {
        let start = row_key::<A>(id, first, true);
        let mut end = row_key::<A>(id, from, true);
        end.push(0);
        let mut prefix = vec![A::KIND];
        A::encode_id(id, &mut prefix);
        let rows = self.scan(&start, &end, limit, Direction::Backward)?;
        Ok(rows.into_iter().filter_map(|(key, row)| Some((A::Part::decode(&key[prefix.len()..])?, row))).collect())
    }

    /// Rows that are in no aggregate's hands, of all three layers: what is new, what is being written, what is in sled.
    fn scan(&mut self, from: &[u8], to: &[u8], limit: usize, direction: Direction) -> Result<Vec<Row>, Error> {
        if from >= to {
            return Ok(Vec::new());
        }
        let stored = self.rows.scan(from, to, limit, direction)?;
        let mut found: BTreeMap<&[u8], Option<&[u8]>> =
            stored.iter().map(|(key, row)| (key.as_slice(), Some(row.as_slice()))).collect();
        let range = || (std::ops::Bound::Included(from), std::ops::Bound::Excluded(to));
        let start = self.writing.partition_point(|(key, _)| key.as_slice() < from);
        let end = self.writing.partition_point(|(key, _)| key.as_slice() < to);
        let writing = self.writing[start..end].iter().map(|(key, row)| (key.as_slice(), row.as_deref()));
        let fresh =
            self.fresh.sorted().range::<[u8], _>(range()).map(|(key, row)| (key.as_slice(), Some(row.as_slice())));
        match direction {
            Direction::Forward => {
                found.extend(writing.take(limit));
                found.extend(fresh.take(limit));
            }
            Direction::Backward => {
                found.extend(writing.rev().take(limit));
                found.extend(fresh.rev().take(limit));
            }
        }
        let rows = found.into_iter().filter_map(|(key, row)| Some((key.to_vec(), row?.to_vec())));
        Ok(match direction {
            Direction::Forward => rows.take(limit).collect(),
            Direction::Backward => rows.rev().take(limit).collect(),
        })
    }

    /// All rows below `prefix`.
    fn scan_all(&mut self, prefix: &[u8]) -> Result<Vec<Row>, Error> {
        let (mut from, end) = (prefix.to_vec(), after_prefix(prefix));
        let mut all = Vec::new();
        loop {
            let page = self.scan(&from, &end, SCAN_ROWS, Direction::Forward)?;
            let full = page.len() == SCAN_ROWS;
            if let Some((last, _)) = page.last() {
                from = [last.as_slice(), &[0]].concat();
            }
            all.extend(page);
            if !full {
                return Ok(all);
            }
        }
    }

    /// The aggregates that have something due or owed.
    ///
    /// # Errors
    /// The rows cannot be read.
    pub fn alarmed(&mut self) -> Result<Alarmed, Error> {
        let mut alarmed = Alarmed::default();
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).unwrap_or(0);
        for (key, _) in self.scan_all(&[ALARMS])? {
            match key.get(1) {
                Some(&ConcertOption::KIND) => alarmed.options.push(OptionId(number(&key[2..]))),
                Some(&WaitingRoom::KIND) => alarmed.rooms.push(ConcertId(number(&key[2..]))),
                _ => {}
            }
        }
        let rings = |state: &ConcertOption| alarm(state).is_some();
        alarmed.options.extend(self.options.kept.iter().filter(|(_, kept)| rings(&kept.state)).map(|(id, _)| *id));
        let rings = |state: &WaitingRoom| alarm(state).is_some();
        alarmed.rooms.extend(self.rooms.kept.iter().filter(|(_, kept)| rings(&kept.state)).map(|(id, _)| *id));
        alarmed.options.sort_unstable();
        alarmed.options.dedup();
        alarmed.rooms.sort_unstable();
        alarmed.rooms.dedup();
        Ok(alarmed)
    }

    /// Everything that has changed since the last checkpoint, and the lsn at which that is the whole truth. Until
    /// [`end_checkpoint`](Self::end_checkpoint), reads find it here.
    pub fn begin_checkpoint(&mut self) -> (Lsn, Arc<RowChanges>) {
        let mut changes: RowChanges = self.fresh.take_rows().map(|(key, row)| (key, Some(row))).collect();
        self.catalogue.collect(&mut changes);
        self.options.collect(&mut changes);
        self.wallets.collect(&mut changes);
        self.rooms.collect(&mut changes);
        self.sinks.collect(&mut changes);
        self.fresh.counts.collect(&mut changes);
        changes.sort_unstable();
        self.writing = Arc::new(changes);
        (self.applied, self.writing.clone())
    }

    /// The rows of the last [`begin_checkpoint`](Self::begin_checkpoint) are in sled; keeps at most `most` aggregates of
    /// each kind in memory, of those that have not changed since.
    pub fn end_checkpoint(&mut self, most: usize) {
        self.writing = Arc::default();
        self.evict(most);
    }

    /// How many aggregates are in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.catalogue.kept.len()
            + self.options.kept.len()
            + self.wallets.kept.len()
            + self.rooms.kept.len()
            + self.sinks.kept.len()
    }

    /// Keeps at most `most` aggregates of each kind in memory, of those that are in sled as they are. Not while a
    /// checkpoint is being written.
    pub fn evict(&mut self, most: usize) {
        self.options.evict(most);
        self.wallets.evict(most);
        self.rooms.evict(most);
        self.sinks.evict(most);
    }

    /// A copy of an aggregate as it is durable, for an actor.
    ///
    /// # Errors
    /// Its rows cannot be had.
    pub fn copy<A: Entity>(&mut self, id: &A::Id) -> Result<A, Error>
    where
        Self: Holds<A>,
    {
        let (applied, rows) = (self.applied, self.rows.clone());
        Ok(self.shelf_of().get(id, applied, &rows)?.state.clone())
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

/// That a [`Replica`] keeps aggregates of this kind.
pub(crate) trait Holds<A: Entity> {
    #[expect(private_interfaces, reason = "for this module only")]
    fn shelf_of(&mut self) -> &mut Shelf<A>;
}

macro_rules! holds {
    ($aggregate:ty, $shelf:ident) => {
        impl Holds<$aggregate> for Replica {
            #[expect(private_interfaces, reason = "for this module only")]
            fn shelf_of(&mut self) -> &mut Shelf<$aggregate> {
                &mut self.$shelf
            }
        }
    };
}

holds!(Catalogue, catalogue);
holds!(ConcertOption, options);
holds!(Wallet, wallets);
holds!(WaitingRoom, rooms);
holds!(Sink, sinks);
