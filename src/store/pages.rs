//! Pages: what is written once and belongs together, in one row of the state.
//!
//! A finished reservation, an entry of a wallet, a used token, a place on a user's list: each is written once and never
//! changed, and there are as many of them as there ever were. A row for each would be most of the work of every checkpoint
//! and of every start. Their keys end in a number, of 8 bytes, big-endian; those whose numbers differ in the lowest bits only
//! share a page:
//!
//! | rows | key | bits |
//! |---|---|---|
//! | archived parts | kind in lower case, id, tag, number | 6 |
//! | lists | `L`, user, tag, complement of an lsn | 19 |
//!
//! The page has the key of its first row, with zeros for these bits, which are the row's *slot*. Its value is its rows, in the
//! order of their slots, each as slot and length (LEB128) and its bytes. What is added later is merged in; the same rows
//! make the same page, however they came in.
//!
//! Architecture invariant: it knows no rows but by their keys, and no sled.

use hashbrown::HashMap;

use super::state::Row;
use crate::domain::Lsn;

/// First byte of the keys that list what is a user's.
pub(crate) const LISTS: u8 = b'L';

/// So many archived parts share a page at most.
const PARTS_BITS: u32 = 6;

/// The lsns of so many events share a page of a list. It bounds what a checkpoint writes again: the page of the newest
/// events, of those users who came since the last one.
const LISTS_BITS: u32 = 19;

/// Length of the number at the end of a key.
const NUMBER_BYTES: usize = 8;

// A page of a list fits into a row, even if each of its events listed something: 3 bytes of slot, 1 of length, 18 of a key.
const _: () = assert!((22 << LISTS_BITS) <= super::state::VALUE_BYTES_MAX);

/// A page that cannot be read; its row's hash was right, so it was never written like that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a page")]
pub(crate) struct NoPage;

fn bits(key: &[u8]) -> Option<u32> {
    match *key.first()? {
        LISTS => Some(LISTS_BITS),
        kind if kind.is_ascii_lowercase() => Some(PARTS_BITS),
        _ => None,
    }
}

/// Makes the key of a row that of its page, and gives its slot there; `None`, and leaves the key, if the row has no page.
pub(crate) fn split(key: &mut [u8]) -> Option<u32> {
    let bits = bits(key)?;
    let number = key.last_chunk_mut::<NUMBER_BYTES>()?;
    let whole = u64::from_be_bytes(*number);
    let mask = (1 << bits) - 1;
    *number = (whole & !mask).to_be_bytes();
    // At most LISTS_BITS.
    Some((whole & mask) as u32)
}

/// Bytes of rows that are set aside at once.
const CHUNK_BYTES: usize = 256 << 10;

/// What stands before a row in a chunk, at most: a place, and two numbers.
const ENTRY_BYTES_MAX: usize = 8 + 5 + 5;

/// The rows that are new, whatever page they are on.
///
/// There may be millions of them until the next checkpoint, and memory that is touched for the first time is what they
/// cost most. So they stand close together, in the order in which they came, and each knows the one before on its page.
#[derive(Debug, Default)]
pub(crate) struct Drafts {
    /// Where the newest row of each page is, by the page's key.
    newest: HashMap<Vec<u8>, Place>,
    /// Rows, one after the other: the place of the one before, then slot, length and bytes as on a page.
    chunks: Vec<Vec<u8>>,
}

/// Where a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    chunk: u32,
    at: u32,
}

/// Before the first row of a page.
const NOWHERE: Place = Place { chunk: u32::MAX, at: u32::MAX };

impl Drafts {
    /// Adds the row at `key`, which becomes the key of its page; a row that has no page is not added.
    pub fn add(&mut self, key: &mut [u8], row: &[u8]) {
        let Some(slot) = split(key) else { return };
        let room = ENTRY_BYTES_MAX + row.len();
        if self.chunks.last().is_none_or(|chunk| chunk.capacity() - chunk.len() < room) {
            self.chunks.push(Vec::with_capacity(CHUNK_BYTES.max(room)));
        }
        let last = self.chunks.len() - 1;
        let chunk = &mut self.chunks[last];
        // Both are far below 2^32: a row fits into one of sled's, and chunks into memory.
        let here = Place { chunk: last as u32, at: chunk.len() as u32 };
        let before = match self.newest.get_mut(&*key) {
            Some(newest) => std::mem::replace(newest, here),
            None => self.newest.insert(key.to_vec(), here).unwrap_or(NOWHERE),
        };
        chunk.extend_from_slice(&before.chunk.to_le_bytes());
        chunk.extend_from_slice(&before.at.to_le_bytes());
        put_row(chunk, slot, row);
    }

    /// A row of a page.
    pub fn row(&self, page: &[u8], slot: u32) -> Option<&[u8]> {
        let found = self.rows(*self.newest.get(page)?).find(|(known, _)| *known == slot);
        found.map(|(_, row)| row)
    }

    /// A page, if its new rows were all that it has; `None` if it has no new ones.
    pub fn page(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.newest.get(key).map(|newest| self.encode(*newest))
    }

    /// All pages that have new rows, each as if these were all, in no order.
    pub fn pages(&self) -> impl Iterator<Item = (&[u8], Vec<u8>)> {
        self.newest.iter().map(|(key, newest)| (key.as_slice(), self.encode(*newest)))
    }

    fn encode(&self, newest: Place) -> Vec<u8> {
        let mut rows: Vec<_> = self.rows(newest).collect();
        // Stable, and of two with the same slot the newer one comes first.
        rows.sort_by_key(|(slot, _)| *slot);
        rows.dedup_by_key(|(slot, _)| *slot);
        encode(&rows)
    }

    /// The rows of the page whose newest one is there, newest first.
    fn rows(&self, newest: Place) -> impl Iterator<Item = (u32, &[u8])> {
        let mut next = newest;
        std::iter::from_fn(move || {
            let entry = self.chunks.get(next.chunk as usize)?.get(next.at as usize..)?;
            let (chunk, entry) = entry.split_first_chunk()?;
            let (at, mut entry) = entry.split_first_chunk()?;
            next = Place { chunk: u32::from_le_bytes(*chunk), at: u32::from_le_bytes(*at) };
            take_row(&mut entry)
        })
    }
}

fn encode(rows: &[(u32, &[u8])]) -> Vec<u8> {
    let mut page = Vec::with_capacity(rows.iter().map(|(_, row)| row.len() + 5).sum());
    for (slot, row) in rows {
        put_row(&mut page, *slot, row);
    }
    page
}

fn put_row(page: &mut Vec<u8>, slot: u32, row: &[u8]) {
    put_number(page, slot);
    // Rows fit into a page, and pages into a row of 16 MiB.
    put_number(page, row.len() as u32);
    page.extend_from_slice(row);
}

fn take_row<'a>(page: &mut &'a [u8]) -> Option<(u32, &'a [u8])> {
    let slot = take_number(page)?;
    let len = take_number(page)?;
    let (row, rest) = page.split_at_checked(len as usize)?;
    *page = rest;
    Some((slot, row))
}

fn put_number(page: &mut Vec<u8>, mut number: u32) {
    while number >= 128 {
        page.push(number as u8 | 128);
        number >>= 7;
    }
    page.push(number as u8);
}

fn take_number(page: &mut &[u8]) -> Option<u32> {
    let mut number = 0;
    for shift in (0..32).step_by(7) {
        let (&byte, rest) = page.split_first()?;
        *page = rest;
        number |= u32::from(byte & 127) << shift;
        if byte < 128 {
            return Some(number);
        }
    }
    None
}

/// A page's rows, in the order of their slots.
pub(crate) fn rows(mut page: &[u8]) -> Result<Vec<(u32, &[u8])>, NoPage> {
    let mut rows = Vec::new();
    while !page.is_empty() {
        rows.push(take_row(&mut page).ok_or(NoPage)?);
    }
    Ok(rows)
}

/// One of a page's rows.
pub(crate) fn row(page: &[u8], slot: u32) -> Result<Option<Vec<u8>>, NoPage> {
    let rows = rows(page)?;
    Ok(rows.binary_search_by_key(&slot, |(slot, _)| *slot).ok().map(|at| rows[at].1.to_vec()))
}

/// What the row at `key` comes to when `new` is written over `old`: a page has the rows of both then.
pub(crate) fn merge(key: &[u8], old: &[u8], new: Vec<u8>) -> Result<Vec<u8>, &'static str> {
    if bits(key).is_none() {
        return Ok(new);
    }
    let both = rows(old).and_then(|old| Ok((old, rows(&new)?)));
    let (old, added) = both.map_err(|NoPage| "it is not a page")?;
    // Stable, and what is new comes first.
    let mut both = [added, old].concat();
    both.sort_by_key(|(slot, _)| *slot);
    both.dedup_by_key(|(slot, _)| *slot);
    Ok(encode(&both))
}

/// The key of the last row of the page before this one, whether there is such a row or not; `None` before the first.
pub(crate) fn before(page: &[u8]) -> Option<Vec<u8>> {
    let mut key = page.to_vec();
    let number = key.last_chunk_mut::<NUMBER_BYTES>()?;
    *number = u64::from_be_bytes(*number).checked_sub(1)?.to_be_bytes();
    Some(key)
}

/// The newest event on the page of a list that is older than the one `lsn` is on; `None` before the first.
pub(crate) fn lists_before(lsn: Lsn) -> Option<Lsn> {
    (lsn.0 >> LISTS_BITS << LISTS_BITS).checked_sub(1).map(Lsn)
}

/// The rows that a row of the state stands for, in the order of their keys: itself, if it is no page.
pub(crate) fn unpack(key: &[u8], value: Vec<u8>) -> Result<Vec<Row>, NoPage> {
    if bits(key).is_none() {
        return Ok(vec![(key.to_vec(), value)]);
    }
    let place = key.len().checked_sub(NUMBER_BYTES).ok_or(NoPage)?;
    let number = |slot| key.last_chunk().map(|first| u64::from_be_bytes(*first) | u64::from(slot)).ok_or(NoPage);
    let unpacked = rows(&value)?.into_iter().map(|(slot, row)| {
        let key = [&key[..place], &number(slot)?.to_be_bytes()].concat();
        Ok((key, row.to_vec()))
    });
    unpacked.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn key(kind: u8, number: u64) -> Vec<u8> {
        [&[kind, 1, 2, 3][..], &number.to_be_bytes()].concat()
    }

    #[test]
    fn only_archived_parts_and_lists_have_pages() {
        for (kind, number, page, slot) in [
            (b'o', 0, 0, Some(0)),
            (b'o', 63, 0, Some(63)),
            (b'w', 64 + 5, 64, Some(5)),
            (b'L', (7 << 19) + 3, 7 << 19, Some(3)),
            (b'L', !0, !0 << 19, Some((1 << 19) - 1)),
            (b'O', 63, 63, None),
            (b'K', 63, 63, None),
        ] {
            let mut split_key = key(kind, number);
            assert_eq!(split(&mut split_key), slot, "{kind} {number}");
            assert_eq!(split_key, key(kind, page), "{kind} {number}");
        }
        assert_eq!(split(&mut [b'o', 1, 2]), None, "too short for a number");
    }

    /// As [`key`], of archived parts; adds rows one after the other.
    fn drafts(rows: &[(u64, &[u8])]) -> Drafts {
        let mut drafts = Drafts::default();
        rows.iter().for_each(|(number, row)| drafts.add(&mut key(b'o', *number), row));
        drafts
    }

    #[test]
    fn before_a_page_is_the_last_row_of_another() {
        assert_eq!(before(&key(b'o', 128)), Some(key(b'o', 127)));
        assert_eq!(before(&key(b'o', 0)), None);
    }

    #[test]
    fn a_page_keeps_its_bytes() {
        let mut drafts = Drafts::default();
        drafts.add(&mut key(b'L', 300), b"second");
        drafts.add(&mut key(b'L', 1), b"");
        let page = key(b'L', 0);
        assert_eq!(drafts.page(&page).unwrap(), b"\x01\x00\xac\x02\x06second");
        let found = [300, 1, 2].map(|slot| drafts.row(&page, slot));
        assert_eq!(found, [Some(&b"second"[..]), Some(&b""[..]), None]);
        assert_eq!((drafts.page(&key(b'o', 0)), drafts.row(&key(b'o', 0), 1)), (None, None), "another page");
    }

    #[test]
    fn of_two_new_rows_with_one_key_the_newer_one_counts() {
        let drafts = drafts(&[(3, b"old"), (2, b"two"), (3, b"new")]);
        assert_eq!(drafts.row(&key(b'o', 0), 3), Some(&b"new"[..]));
        assert_eq!(drafts.page(&key(b'o', 0)).unwrap(), b"\x02\x03two\x03\x03new");
    }

    #[test]
    fn rows_are_found_in_whatever_chunk_they_are() {
        let large = vec![7; CHUNK_BYTES];
        let drafts = drafts(&[(1, b"first"), (2, &large), (64, b"elsewhere"), (3, b"last")]);
        assert_eq!(drafts.chunks.len(), 3);
        let found = [1, 2, 3].map(|slot| drafts.row(&key(b'o', 0), slot));
        assert_eq!(found, [Some(&b"first"[..]), Some(&large[..]), Some(&b"last"[..])]);
        let mut pages: Vec<_> = drafts.pages().map(|(key, page)| (key.to_vec(), rows(&page).unwrap().len())).collect();
        pages.sort_unstable();
        assert_eq!(pages, [(key(b'o', 0), 3), (key(b'o', 64), 1)]);
    }

    #[test]
    fn what_is_no_page_is_told() {
        for bytes in [&b"\x01"[..], b"\x01\x05abcd", b"\x80\x80\x80\x80\x80\x80", b"\xff"] {
            assert_eq!(rows(bytes), Err(NoPage), "{bytes:?}");
            assert!(merge(&key(b'o', 0), bytes, Vec::new()).is_err());
            assert!(merge(&key(b'o', 0), &[], bytes.to_vec()).is_err());
        }
        assert_eq!(merge(&key(b'O', 0), b"\xff", b"new".to_vec()).unwrap(), b"new", "no page, and replaced");
    }

    proptest! {
        #[test]
        fn pages_hold_what_was_put_into_them_whatever_the_order(
            rows_in in prop::collection::vec((0..40_u32, prop::collection::vec(any::<u8>(), 0..200)), 0..60),
            cuts in prop::collection::vec(0..60_usize, 0..5),
        ) {
            let rows_in: BTreeMap<_, _> = rows_in.into_iter().collect();
            let first = key(b'o', 1 << 20);
            let mut shuffled: Vec<_> = rows_in.iter().collect();
            shuffled.sort_by_key(|(slot, row)| (slot.reverse_bits() ^ row.len() as u32, **slot));
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(shuffled.len())).chain([shuffled.len()]).collect();
            cuts.sort_unstable();
            let mut page = Vec::new();
            let mut from = 0;
            for to in cuts {
                let part: Vec<_> = shuffled[from..to].iter().map(|(slot, row)| ((1 << 20) + u64::from(**slot), row.as_slice())).collect();
                page = merge(&first, &page, drafts(&part).page(&first).unwrap_or_default()).unwrap();
                from = to;
            }
            let whole: Vec<_> = rows_in.iter().map(|(slot, row)| (*slot, row.as_slice())).collect();
            prop_assert_eq!(&page, &encode(&whole), "the same rows make the same page");
            for slot in 0..40 {
                prop_assert_eq!(row(&page, slot).unwrap(), rows_in.get(&slot).cloned());
            }
            let unpacked = unpack(&first, page).unwrap();
            let keyed: Vec<_> = rows_in.iter().map(|(slot, row)| (key(b'o', (1 << 20) + u64::from(*slot)), row.clone())).collect();
            prop_assert_eq!(unpacked, keyed);
        }
    }
}
