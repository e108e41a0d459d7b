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

/// The rows that are new on a page.
#[derive(Debug, Default, Clone)]
pub(crate) struct Draft {
    /// Slot, and where its bytes are.
    rows: Vec<(u32, std::ops::Range<usize>)>,
    bytes: Vec<u8>,
}

impl Draft {
    pub fn push(&mut self, slot: u32, row: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(row);
        self.rows.push((slot, start..self.bytes.len()));
    }

    pub fn get(&self, slot: u32) -> Option<&[u8]> {
        let (_, range) = self.rows.iter().rev().find(|(known, _)| *known == slot)?;
        Some(&self.bytes[range.clone()])
    }

    /// The rows, in the order of their slots.
    pub fn rows(&self) -> Vec<(u32, &[u8])> {
        let mut rows: Vec<_> = self.rows.iter().map(|(slot, range)| (*slot, &self.bytes[range.clone()])).collect();
        rows.sort_unstable_by_key(|(slot, _)| *slot);
        rows
    }

    /// The page, if these are all its rows.
    pub fn encode(&self) -> Vec<u8> {
        encode(&self.rows())
    }
}

fn encode(rows: &[(u32, &[u8])]) -> Vec<u8> {
    let mut page = Vec::with_capacity(rows.iter().map(|(_, row)| row.len() + 5).sum());
    for (slot, row) in rows {
        put_number(&mut page, *slot);
        // Rows fit into a page, and pages into a row of 16 MiB.
        put_number(&mut page, row.len() as u32);
        page.extend_from_slice(row);
    }
    page
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
        let slot = take_number(&mut page).ok_or(NoPage)?;
        let len = take_number(&mut page).ok_or(NoPage)?;
        let (row, rest) = page.split_at_checked(len as usize).ok_or(NoPage)?;
        rows.push((slot, row));
        page = rest;
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

/// The key of the page before this one, whether there is such a page or not; `None` before the first.
pub(crate) fn before(page: &[u8]) -> Option<Vec<u8>> {
    let mut key = page.to_vec();
    let step = 1 << bits(page)?;
    let number = key.last_chunk_mut::<NUMBER_BYTES>()?;
    *number = u64::from_be_bytes(*number).checked_sub(step)?.to_be_bytes();
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

    #[test]
    fn a_page_keeps_its_bytes() {
        let mut draft = Draft::default();
        draft.push(300, b"second");
        draft.push(1, b"");
        assert_eq!(draft.encode(), b"\x01\x00\xac\x02\x06second");
        assert_eq!((draft.get(300), draft.get(1), draft.get(2)), (Some(&b"second"[..]), Some(&b""[..]), None));
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
                let mut draft = Draft::default();
                shuffled[from..to].iter().for_each(|(slot, row)| draft.push(**slot, row));
                page = merge(&first, &page, draft.encode()).unwrap();
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
