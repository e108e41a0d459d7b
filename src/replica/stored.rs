//! What belongs to no aggregate in memory: each of these knows what memory has of it, and reads the rest of sled, without
//! keeping others from the replica. What it is about never changes, so that it does not matter what comes meanwhile.

use std::sync::Arc;

use super::memtable::Memtable;
use super::{Error, after_prefix, bad_page, lists, pages};
use crate::domain::{Aggregate, Lsn, OptionId, Part as _};
use crate::store::codec::Entity;
use crate::store::state::StateStore;

/// Pages of a list that are asked for at once.
const SCAN_PAGES: usize = 4;

/// A part of an aggregate, and its row.
type PartRow<A> = (<A as Aggregate>::Part, Vec<u8>);

/// A row that was looked for.
#[must_use]
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
        // It may be archived after the first look: what is new is in sled before what it replaces is gone.
        match rows.get(&live)? {
            Some(row) => Ok(Some(row)),
            None => stored(&rows, archived),
        }
    }
}

/// The row at `key`, which has a page, in sled.
fn stored(rows: &StateStore, mut key: Vec<u8>) -> Result<Option<Vec<u8>>, Error> {
    let Some(slot) = pages::split(&mut key) else { return Ok(None) };
    let page = rows.get(&key)?;
    Ok(page.map(|page| pages::row(&page, slot)).transpose().map_err(|source| bad_page(&key, source))?.flatten())
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
    pub(super) fn new(lsn: Lsn, what: &[u8]) -> Option<Self> {
        let (option, no) = what.get(1..)?.split_first_chunk()?;
        let no = no.get(1..)?.try_into().ok()?;
        Some(Self { lsn, option: OptionId(u64::from_be_bytes(*option)), no: u64::from_be_bytes(no) })
    }
}

/// What is on a user's list, newest first.
#[must_use]
pub(crate) struct Listing {
    /// What is new.
    pub(super) found: Vec<Listed>,
    /// What was being written.
    pub(super) writing: Arc<Memtable>,
    pub(super) rows: Arc<StateStore>,
    /// The last event that was in sled then: of what was being written, some may be there by now.
    pub(super) saved: Lsn,
    /// What the keys of the list begin with.
    pub(super) list: Vec<u8>,
    /// Nothing that is newer is wanted.
    pub(super) newest: Lsn,
    pub(super) limit: usize,
}

impl Listing {
    /// All of it.
    ///
    /// # Errors
    /// The rows cannot be read.
    pub fn read(self) -> Result<Vec<Listed>, Error> {
        let Self { mut found, writing, rows, saved, list, newest, limit } = self;
        let written = writing.rows_up_to(&list, newest.0).take(limit - found.len());
        found.extend(written.filter_map(|(lsn, what)| Listed::new(Lsn(lsn), what)));
        let newest = newest.min(saved);
        let (mut from, end) = (lists::key(&list, newest), after_prefix(&list));
        while found.len() < limit {
            let stored = rows.scan(&from, &end, SCAN_PAGES)?;
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
}

/// Archived parts of one aggregate and kind, whose numbers have no gaps.
#[must_use]
pub(crate) struct Archive {
    rows: Arc<StateStore>,
    /// The keys of the first part that is wanted, and of the last.
    first: Vec<u8>,
    last: Vec<u8>,
    limit: usize,
    /// The keys of the pages that they are on, the last one first, and what of each is not in sled yet.
    pages: Vec<(Vec<u8>, Vec<Vec<u8>>)>,
}

impl Archive {
    /// The last `limit` of the parts from `first` to `last`; `unsaved` gives what of a page is not in sled yet, older first.
    pub(super) fn new(
        rows: Arc<StateStore>,
        first: Vec<u8>,
        last: Vec<u8>,
        limit: usize,
        unsaved: impl Fn(&[u8]) -> Vec<Vec<u8>>,
    ) -> Self {
        // The last one may have a single one of them.
        let pages = pages::down(&first, &last).take(limit / pages::ROWS + 2);
        let pages = pages.map(|key| (key.clone(), unsaved(&key))).collect();
        Self { rows, first, last, limit, pages }
    }

    /// Newest first.
    ///
    /// # Errors
    /// The rows cannot be read.
    pub fn read<A: Entity>(self, id: &A::Id) -> Result<Vec<PartRow<A>>, Error> {
        let Self { rows, first, last, limit, pages } = self;
        let mut prefix = vec![A::KIND];
        A::encode_id(id, &mut prefix);
        let mut found = Vec::new();
        for (key, new) in pages {
            if found.len() >= limit {
                break;
            }
            let mut page = rows.get(&key)?.unwrap_or_default();
            let bad = |source| bad_page(&key, source);
            for new in new {
                page = pages::merge(&page, &new).map_err(bad)?;
            }
            let page = pages::unpack(&key, page).map_err(bad)?;
            let page = page.into_iter().rev().filter(|(key, _)| (&first..=&last).contains(&key));
            found.extend(page.filter_map(|(key, row)| Some((A::Part::decode(&key[prefix.len()..])?, row))));
        }
        found.truncate(limit);
        Ok(found)
    }
}
