//! The durable truth in memory: a second copy of the aggregates, which takes in what has become durable and nothing else.
//!
//! Reads are answered from it, the rows for sled are cut from it, and activation, start-up and `verify` use it: there is
//! one way from events to state. What is not in memory comes from the rows; what is not in sled yet stays here.

use std::sync::Arc;

use hashbrown::HashMap;

use super::codec::{Entity, Facts, Record, TheCatalogue};
use super::drafts::Drafts;
use super::lists;
use super::pages::{self, NoPage};
use super::rows::bad_row;
use super::state::{self, Altered, StateStore};
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

/// First byte of the keys that say which aggregates have something due or owed.
const ALARMS: u8 = b'D';
/// Pages of a list that are asked for at once.
const SCAN_PAGES: usize = 4;
/// What has grown beyond its limit shrinks to below it, by this part of it.
const SPARE: usize = 16;

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

/// An aggregate in memory.
struct Kept<A: Entity> {
    state: A,
    /// Its rows that have changed since the last checkpoint.
    dirty: HashMap<A::Part, Since>,
    /// Whether the last checkpoint left word that it needs care; `None` if that is not known.
    cared_for: Option<bool>,
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
    /// Those that have changed since the last checkpoint.
    changed: Vec<A::Id>,
}

impl<A: Entity> Default for Shelf<A> {
    fn default() -> Self {
        Self { kept: HashMap::new(), changed: Vec::new() }
    }
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

impl<A: Entity> Shelf<A> {
    /// The aggregate, from memory or from its rows; an unknown one is empty.
    fn get(&mut self, id: &A::Id, now: Lsn, rows: &StateStore) -> Result<&mut Kept<A>, Error> {
        if !self.kept.contains_key(id) {
            let kept = Kept { state: load::<A>(id, rows)?, dirty: HashMap::new(), cared_for: None, used: now };
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
        let was_clean = kept.dirty.is_empty();
        for (meta, event) in record.metas(first).zip(A::events(&record.facts)) {
            let mut listener = Listener::<A> { id, lsn: meta.lsn, dirty: &mut kept.dirty, fresh };
            kept.state.evolve(meta, event, &mut listener);
        }
        if was_clean && !kept.dirty.is_empty() {
            self.changed.push(id.clone());
        }
        Ok(())
    }

    /// Moves the changed rows to `changes`.
    fn collect(&mut self, changes: &mut RowChanges) {
        for id in self.changed.drain(..) {
            // It stays in memory for as long as it differs from its rows. What it had changed may be as before by now.
            let Some(kept) = self.kept.get_mut(&id).filter(|kept| !kept.dirty.is_empty()) else { continue };
            for (part, _) in kept.dirty.drain() {
                changes.push((row_key::<A>(&id, &part, false), kept.state.row(&part)));
            }
            let needs_care = kept.state.needs_care();
            if kept.cared_for.replace(needs_care) != Some(needs_care) {
                changes.push((alarm_key::<A>(&id), needs_care.then(Vec::new)));
            }
        }
    }

    /// If there are more than `most`: forgets those that are in sled as they are, the longest unused ones first.
    fn evict(&mut self, most: usize) {
        let excess = excess(self.kept.len(), most);
        if excess == 0 {
            return;
        }
        let clean = self.kept.iter().filter(|(_, kept)| kept.dirty.is_empty());
        let mut clean: Vec<_> = clean.map(|(id, kept)| (kept.used, id)).collect();
        if excess < clean.len() {
            clean.select_nth_unstable(excess);
            clean.truncate(excess);
        }
        let unused: Vec<_> = clean.into_iter().map(|(_, id)| id.clone()).collect();
        for id in unused {
            self.kept.remove(&id);
        }
    }
}

/// How many of `len` have to go so that there are not more than `most`. If any, a few more go than must: finding the longest
/// unused ones takes a look at them all, which is not to be done again at once.
pub(crate) fn excess(len: usize, most: usize) -> usize {
    if len <= most { 0 } else { len - (most - most / SPARE) }
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

/// Rows that belong to no aggregate in memory, and counts over all of them.
#[derive(Default)]
struct Fresh {
    /// Archived rows and entries of lists, since the last checkpoint.
    pages: Drafts,
    counts: UserCounts,
    /// The key being made; kept for its memory.
    key: Vec<u8>,
}

impl Fresh {
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
    fresh: &'a mut Fresh,
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
        self.fresh.archive(&row(), |key| put_row_key::<A>(key, self.id, &part, true));
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
        self.fresh.list(user, list_tag::<A>(&part), self.lsn, &row);
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

/// What the keys of a list begin with.
fn put_list(key: &mut Vec<u8>, user: &UserId, tag: u8) {
    key.push(lists::KIND);
    Wallet::encode_id(user, key);
    key.push(tag);
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
        for look in 0..3 {
            let row = if look == 1 { rows.get(&live)? } else { stored(&rows, archived.clone())? };
            if row.is_some() {
                return Ok(row);
            }
        }
        Ok(None)
    }
}

/// The row at `key`, which has a page, in sled.
fn stored(rows: &StateStore, mut key: Vec<u8>) -> Result<Option<Vec<u8>>, Error> {
    let Some(slot) = pages::split(&mut key) else { return Ok(None) };
    let page = rows.get(&key)?;
    Ok(page.map(|page| pages::row(&page, slot)).transpose().map_err(|source| bad_page(&key, source))?.flatten())
}

fn bad_page(key: &[u8], source: NoPage) -> Error {
    Error::Page { key: key.escape_ascii().to_string(), source }
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

impl Listed {
    /// From an entry; `None` if it is none of an option's, which the hash of its row has ruled out.
    fn new(lsn: Lsn, what: &[u8]) -> Option<Self> {
        let (option, no) = what.get(1..)?.split_first_chunk()?;
        let no = no.get(1..)?.try_into().ok()?;
        Some(Self { lsn, option: OptionId(u64::from_be_bytes(*option)), no: u64::from_be_bytes(no) })
    }
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
    writing: Arc<Drafts>,
    applied: Lsn,
    /// The last event that is in sled.
    saved: Lsn,
}

/// Everything that changes with a checkpoint.
pub(crate) struct Cut {
    /// Where that is the whole truth.
    pub lsn: Lsn,
    rows: RowChanges,
    pages: Arc<Drafts>,
}

/// One row of a cut, or several.
enum Piece<'a> {
    Row(Option<&'a [u8]>),
    Page,
    List,
}

impl Cut {
    /// The changes to what stands in `rows`, in the order of their keys; the same each time, until they are made.
    pub fn changes<'a>(&'a self, rows: &'a StateStore) -> impl Iterator<Item = Result<Altered, state::Error>> + 'a {
        let Self { rows: changes, pages: drafts, .. } = self;
        let mut pieces: Vec<_> = changes.iter().map(|(key, row)| (&key[..], Piece::Row(row.as_deref()))).collect();
        let kind = |key: &[u8]| if key.first() == Some(&lists::KIND) { Piece::List } else { Piece::Page };
        pieces.extend(drafts.keys().map(|key| (key, kind(key))));
        pieces.sort_unstable_by_key(|(key, _)| *key);
        pieces.into_iter().flat_map(move |(key, piece)| {
            let altered = piece.altered(key.to_vec(), drafts, rows);
            let (altered, error) = altered.map_or_else(|error| (Vec::new(), Some(Err(error))), |all| (all, None));
            altered.into_iter().map(Ok).chain(error)
        })
    }
}

impl Piece<'_> {
    fn altered(self, key: Vec<u8>, drafts: &Drafts, rows: &StateStore) -> Result<Vec<Altered>, state::Error> {
        let bad = |NoPage| bad_row(&key, "it is not a page");
        let (old, new) = match self {
            Self::Row(new) => (rows.get(&key)?, new.map(<[u8]>::to_vec)),
            Self::Page => {
                let (old, new) = (rows.get(&key)?, pages::new(drafts, &key).unwrap_or_default());
                let new = match &old {
                    Some(old) => pages::merge(old, &new).map_err(bad)?,
                    None => new,
                };
                (old, Some(new))
            }
            Self::List => {
                let newest = rows.scan(&key, &after_prefix(&key), 1)?.pop();
                let mut new: Vec<_> = drafts.rows(&key).map(|(lsn, what)| (Lsn(lsn), what)).collect();
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
            rows,
            catalogue: Shelf::default(),
            options: Shelf::default(),
            wallets: Shelf::default(),
            rooms: Shelf::default(),
            sinks: Shelf::default(),
            fresh: Fresh::default(),
            writing: Arc::default(),
            applied: lsn,
            saved: lsn,
        };
        let users = [UserCounts::PREFIX];
        replica.rows.each(&users, &after_prefix(&users), |key, row| replica.fresh.counts.load(key, &row))?;
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
        match self.unsaved(key.clone()) {
            Some(row) => Ok(Some(row)),
            None => stored(&self.rows, key),
        }
    }

    /// A row that is in no aggregate's hands, and may not be in sled yet.
    fn unsaved(&self, mut key: Vec<u8>) -> Option<Vec<u8>> {
        let slot = pages::split(&mut key)?;
        let layers = [&self.fresh.pages, &*self.writing];
        layers.into_iter().find_map(|pages| pages.row(&key, slot)).map(<[u8]>::to_vec)
    }

    /// A page, of all three layers: what is in sled, what is being written, what is new.
    fn page(&self, key: &[u8]) -> Result<Vec<u8>, Error> {
        let mut page = self.rows.get(key)?.unwrap_or_default();
        for drafts in [&*self.writing, &self.fresh.pages] {
            if let Some(new) = pages::new(drafts, key) {
                page = pages::merge(&page, &new).map_err(|source| bad_page(key, source))?;
            }
        }
        Ok(page)
    }

    /// The value of a part, live or archived, for whoever is content with an old one: loads nothing into memory, and leaves
    /// it to the caller to read what is in sled, without keeping others from the replica.
    pub fn find<A: Entity>(&mut self, id: &A::Id, part: &A::Part) -> Found
    where
        Self: Holds<A>,
    {
        let live = self.shelf_of().kept.get(id).and_then(|kept| kept.state.row(part));
        let archived = row_key::<A>(id, part, true);
        match live.or_else(|| self.unsaved(archived.clone())) {
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
        let mut list = Vec::new();
        put_list(&mut list, user, list_tag::<ConcertOption>(like));
        let newest = before.map_or(Lsn(u64::MAX), |before| Lsn(before.0.saturating_sub(1)));
        let mut found = Vec::new();
        for drafts in [&self.fresh.pages, &*self.writing] {
            let new = drafts.rows(&list).map(|(lsn, what)| (Lsn(lsn), what));
            let new = new.filter(|(lsn, _)| *lsn <= newest).take(limit - found.len());
            found.extend(new.filter_map(|(lsn, what)| Listed::new(lsn, what)));
        }
        // Of what is being written, some may be in sled already.
        let newest = newest.min(self.saved);
        let (mut from, end) = (lists::key(&list, newest), after_prefix(&list));
        while found.len() < limit {
            let stored = self.rows.scan(&from, &end, SCAN_PAGES)?;
            for (key, page) in &stored {
                let entries = lists::entries(key, page).map_err(|source| bad_page(key, source))?.into_iter().rev();
                let entries = entries.filter(|(lsn, _)| *lsn <= newest);
                found.extend(entries.filter_map(|(lsn, what)| Listed::new(lsn, what)));
            }
            let Some((last, _)) = stored.last() else { break };
            from = [last.as_slice(), &[0]].concat();
        }
        found.truncate(limit);
        Ok(found)
    }

    /// Archived parts from `from` down to `first`, of the same kind, newest first; their numbers have no gaps.
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
        let mut prefix = vec![A::KIND];
        A::encode_id(id, &mut prefix);
        let last = row_key::<A>(id, from, true);
        let mut key = last.clone();
        let mut found = Vec::new();
        while key >= start && found.len() < limit {
            pages::split(&mut key);
            let page = pages::unpack(&key, self.page(&key)?).map_err(|source| bad_page(&key, source))?;
            let rows = page.into_iter().rev().filter(|(key, _)| (&start..=&last).contains(&key));
            found.extend(rows.filter_map(|(key, row)| Some((A::Part::decode(&key[prefix.len()..])?, row))));
            let Some(before) = pages::before(&key) else { break };
            key = before;
        }
        found.truncate(limit);
        Ok(found)
    }

    /// The aggregates that have something due or owed; while a checkpoint is being written, also some that have nothing any
    /// more.
    ///
    /// # Errors
    /// The rows cannot be read.
    pub fn alarmed(&mut self) -> Result<Alarmed, Error> {
        let mut alarmed = Alarmed::default();
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).unwrap_or(0);
        self.rows.each(&[ALARMS], &after_prefix(&[ALARMS]), |key, _| match key.get(1) {
            Some(&ConcertOption::KIND) => alarmed.options.push(OptionId(number(&key[2..]))),
            Some(&WaitingRoom::KIND) => alarmed.rooms.push(ConcertId(number(&key[2..]))),
            _ => {}
        })?;
        let options = self.options.kept.iter().filter(|(_, kept)| kept.state.needs_care());
        alarmed.options.extend(options.map(|(id, _)| *id));
        let rooms = self.rooms.kept.iter().filter(|(_, kept)| kept.state.needs_care());
        alarmed.rooms.extend(rooms.map(|(id, _)| *id));
        alarmed.options.sort_unstable();
        alarmed.options.dedup();
        alarmed.rooms.sort_unstable();
        alarmed.rooms.dedup();
        Ok(alarmed)
    }

    /// Everything that has changed since the last checkpoint. Until [`end_checkpoint`](Self::end_checkpoint), reads find it
    /// here.
    pub fn begin_checkpoint(&mut self) -> Cut {
        let mut rows = RowChanges::new();
        self.catalogue.collect(&mut rows);
        self.options.collect(&mut rows);
        self.wallets.collect(&mut rows);
        self.rooms.collect(&mut rows);
        self.sinks.collect(&mut rows);
        self.fresh.counts.collect(&mut rows);
        self.writing = Arc::new(std::mem::take(&mut self.fresh.pages));
        Cut { lsn: self.applied, rows, pages: self.writing.clone() }
    }

    /// What [`begin_checkpoint`](Self::begin_checkpoint) cut at `lsn` is in sled; keeps at most `most` aggregates of each kind
    /// in memory, of those that have not changed since.
    pub fn end_checkpoint(&mut self, lsn: Lsn, most: usize) {
        self.writing = Arc::default();
        self.saved = lsn;
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

#[cfg(test)]
mod tests;
