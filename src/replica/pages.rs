//! Pages: what is written once and belongs together, in one row of the state.
//!
//! A finished reservation, an entry of a wallet, a used token: each is written once and never changed, and there are as many
//! of them as there ever were. A row for each would be most of the work of every checkpoint and of every start. Their keys
//! are kind in lower case, id, a tag of one byte that is below 8, and a number of 8 bytes, big-endian. Those of one id whose
//! numbers differ in the lowest 6 bits only share a page, whatever their tags: reservations, payments and refunds are numbered
//! together. The key of a page has no tag, and zeros for these bits. They and the tag are the row's *slot*. What is added later
//! is merged in; the same rows make the same page, however they came in. A user's [lists](super::lists) have pages too.
//!
//! The value of a page is its rows, in the order of their slots, each as slot and length (LEB128) and its bytes.
//!
//! Architecture invariant: it knows no rows but by their keys, and no sled.

use super::lists;
use super::memtable::Memtable;
use crate::store::state::Row;

/// The numbers of rows that share a page differ in so many bits.
const BITS: u32 = 6;

/// So many rows of one tag share a page at most.
pub(crate) const ROWS: usize = 1 << BITS;

/// Length of the number at the end of a key.
pub(super) const NUMBER_BYTES: usize = 8;

/// So many bits of a slot are the tag.
const TAG_BITS: u32 = 3;

/// A page that cannot be read; its row's hash was right, so it was never written like that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a page")]
pub(crate) struct NoPage;

/// Whether a row of the state is a page of archived rows.
fn is_page(key: &[u8]) -> bool {
    key.first().is_some_and(u8::is_ascii_lowercase) && key.len() > NUMBER_BYTES
}

/// Makes the key of a row that of its page, and gives its slot there; `None`, and leaves the key, if the row has no page.
pub(crate) fn split(key: &mut Vec<u8>) -> Option<u64> {
    let &[tag, number @ ..] = key.last_chunk::<{ 1 + NUMBER_BYTES }>()?;
    if !is_page(key) || tag >> TAG_BITS != 0 {
        return None;
    }
    let (number, mask) = (u64::from_be_bytes(number), (1 << BITS) - 1);
    key.truncate(key.len() - NUMBER_BYTES - 1);
    key.extend((number & !mask).to_be_bytes());
    Some((number & mask) << TAG_BITS | u64::from(tag))
}

/// The key of the row in a slot of a page.
fn join(page: &[u8], slot: u64) -> Result<Vec<u8>, NoPage> {
    let (place, first) = page.split_last_chunk::<NUMBER_BYTES>().ok_or(NoPage)?;
    let number = u64::from_be_bytes(*first) | slot >> TAG_BITS;
    Ok([place, &[(slot & ((1 << TAG_BITS) - 1)) as u8], &number.to_be_bytes()].concat())
}

/// What of a page is new, as a page; `None` if there is nothing.
pub(crate) fn new(memtable: &Memtable, key: &[u8]) -> Option<Vec<u8>> {
    let mut rows: Vec<_> = memtable.rows(key).collect();
    // Stable, and of two with the same slot the newer one comes first.
    rows.sort_by_key(|(slot, _)| *slot);
    rows.dedup_by_key(|(slot, _)| *slot);
    (!rows.is_empty()).then(|| encode(&rows))
}

pub(super) fn encode(rows: &[(u64, &[u8])]) -> Vec<u8> {
    let mut page = Vec::with_capacity(rows.iter().map(|(_, row)| row.len() + 5).sum());
    for (number, row) in rows {
        put_row(&mut page, *number, row);
    }
    page
}

/// Appends a row as it stands on a page.
pub(super) fn put_row(page: &mut Vec<u8>, number: u64, row: &[u8]) {
    put_number(page, number);
    put_number(page, row.len() as u64);
    page.extend_from_slice(row);
}

/// Takes a row off the beginning of a page.
pub(super) fn take_row<'a>(page: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
    let number = take_number(page)?;
    let len = take_number(page)?;
    let (row, rest) = page.split_at_checked(usize::try_from(len).ok()?)?;
    *page = rest;
    Some((number, row))
}

fn put_number(page: &mut Vec<u8>, mut number: u64) {
    while number >= 128 {
        page.push(number as u8 | 128);
        number >>= 7;
    }
    page.push(number as u8);
}

fn take_number(page: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = page.split_first()?;
        *page = rest;
        number |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Some(number);
        }
    }
    None
}

/// A page's rows, in the order of their numbers.
pub(crate) fn rows(mut page: &[u8]) -> Result<Vec<(u64, &[u8])>, NoPage> {
    let mut rows = Vec::new();
    while !page.is_empty() {
        rows.push(take_row(&mut page).ok_or(NoPage)?);
    }
    Ok(rows)
}

/// One of a page's rows.
pub(crate) fn row(page: &[u8], slot: u64) -> Result<Option<Vec<u8>>, NoPage> {
    let rows = rows(page)?;
    Ok(rows.binary_search_by_key(&slot, |(slot, _)| *slot).ok().map(|at| rows[at].1.to_vec()))
}

/// A page with the rows of both; those of `new` count.
pub(crate) fn merge(old: &[u8], new: &[u8]) -> Result<Vec<u8>, NoPage> {
    // Stable, and what is new comes first.
    let mut both = [rows(new)?, rows(old)?].concat();
    both.sort_by_key(|(slot, _)| *slot);
    both.dedup_by_key(|(slot, _)| *slot);
    Ok(encode(&both))
}

/// The keys of the pages that rows from `first` to `last` are on, which differ in their numbers only, the last one first.
pub(crate) fn down(first: &[u8], last: &[u8]) -> impl Iterator<Item = Vec<u8>> + use<> {
    let page = |row: &[u8]| {
        let mut key = row.to_vec();
        split(&mut key)?;
        let number = u64::from_be_bytes(*key.last_chunk::<NUMBER_BYTES>()?);
        Some((key, number))
    };
    let (end, mut next) = (page(first).map_or(0, |(_, number)| number), page(last));
    std::iter::from_fn(move || {
        let (key, number) = next.take().filter(|(_, number)| *number >= end)?;
        next = number.checked_sub(1 << BITS).map(|before| {
            let mut key = key.clone();
            key.truncate(key.len() - NUMBER_BYTES);
            key.extend(before.to_be_bytes());
            (key, before)
        });
        Some(key)
    })
}

/// The rows that a row of the state stands for: itself, if it is no page.
pub(crate) fn unpack(key: &[u8], value: Vec<u8>) -> Result<Vec<Row>, NoPage> {
    if key.first() == Some(&lists::KIND) {
        return lists::unpack(key, &value);
    }
    if !is_page(key) {
        return Ok(vec![(key.to_vec(), value)]);
    }
    rows(&value)?.into_iter().map(|(slot, row)| Ok((join(key, slot)?, row.to_vec()))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn key(kind: u8, tag: u8, number: u64) -> Vec<u8> {
        [&[kind, 1, 2, tag][..], &number.to_be_bytes()].concat()
    }

    fn page(kind: u8, number: u64) -> Vec<u8> {
        [&[kind, 1, 2][..], &number.to_be_bytes()].concat()
    }

    #[test]
    fn only_archived_parts_have_slots() {
        for (kind, tag, number, first, slot) in [
            (b'o', 0, 0, 0, 0),
            (b'o', 3, 63, 0, 63 * 8 + 3),
            (b'o', 7, 63, 0, 63 * 8 + 7),
            (b'w', 3, 64 + 5, 64, 5 * 8 + 3),
        ] {
            let row = key(kind, tag, number);
            let mut split_key = row.clone();
            assert_eq!(split(&mut split_key), Some(slot), "{kind} {tag} {number}");
            assert_eq!(split_key, page(kind, first), "{kind} {tag} {number}");
            assert_eq!(join(&split_key, slot), Ok(row), "{kind} {tag} {number}");
        }
        for row in [key(b'L', 3, 63), key(b'O', 3, 63), key(b'K', 3, 63), key(b'o', 8, 63), vec![b'o', 1, 2]] {
            let mut split_key = row.clone();
            assert_eq!(split(&mut split_key), None, "{row:?}");
            assert_eq!(split_key, row);
        }
    }

    /// As [`key`], of archived parts; adds rows one after the other.
    fn memtable(rows: &[(u64, &[u8])]) -> Memtable {
        let mut memtable = Memtable::default();
        for (number, row) in rows {
            let mut page = key(b'o', 3, *number);
            let slot = split(&mut page).unwrap();
            memtable.add(&page, slot, row);
        }
        memtable
    }

    #[test]
    fn pages_are_gone_through_backwards() {
        let pages = |first, last| down(&key(b'o', 3, first), &key(b'o', 3, last)).collect::<Vec<_>>();
        assert_eq!(pages(0, 130), [page(b'o', 128), page(b'o', 64), page(b'o', 0)]);
        assert_eq!(pages(64, 128), [page(b'o', 128), page(b'o', 64)]);
        assert_eq!(pages(63, 64), [page(b'o', 64), page(b'o', 0)]);
        assert_eq!(pages(5, 5), [page(b'o', 0)]);
        assert!(pages(64, 5).is_empty());
    }

    #[test]
    fn a_page_keeps_its_bytes() {
        let page = encode(&[(1, b""), (300, b"second")]);
        assert_eq!(page, b"\x01\x00\xac\x02\x06second");
        assert_eq!(
            [300, 1, 2].map(|slot| row(&page, slot).unwrap()),
            [Some(b"second".to_vec()), Some(Vec::new()), None]
        );
        let largest = [(u64::MAX, &b"x"[..])];
        assert_eq!(rows(&encode(&largest)).unwrap(), largest);
    }

    #[test]
    fn of_two_new_rows_with_one_key_the_newer_one_counts() {
        let memtable = memtable(&[(3, b"old"), (2, b"two"), (3, b"new")]);
        assert_eq!(new(&memtable, &page(b'o', 0)).unwrap(), b"\x13\x03two\x1b\x03new");
        assert_eq!(new(&memtable, &page(b'o', 64)), None);
    }

    #[test]
    fn what_is_no_page_is_told() {
        for bytes in [&b"\x01"[..], b"\x01\x05abcd", &[0x80; 11], b"\xff"] {
            assert_eq!(rows(bytes), Err(NoPage), "{bytes:?}");
            assert_eq!(merge(bytes, &[]), Err(NoPage));
            assert_eq!(merge(&[], bytes), Err(NoPage));
        }
    }

    proptest! {
        #[test]
        fn pages_hold_what_was_put_into_them_whatever_the_order(
            rows_in in prop::collection::vec((0..40_u64, prop::collection::vec(any::<u8>(), 0..200)), 0..60),
            cuts in prop::collection::vec(0..60_usize, 0..5),
        ) {
            let rows_in: BTreeMap<_, _> = rows_in.into_iter().collect();
            let first = page(b'o', 1 << 20);
            let place = |number: u64| number << TAG_BITS | 3;
            let mut shuffled: Vec<_> = rows_in.iter().collect();
            shuffled.sort_by_key(|(slot, row)| (slot.reverse_bits() ^ row.len() as u64, **slot));
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(shuffled.len())).chain([shuffled.len()]).collect();
            cuts.sort_unstable();
            let mut page = Vec::new();
            let mut from = 0;
            for to in cuts {
                let part: Vec<_> = shuffled[from..to].iter().map(|(slot, row)| ((1 << 20) + **slot, row.as_slice())).collect();
                page = merge(&page, &new(&memtable(&part), &first).unwrap_or_default()).unwrap();
                from = to;
            }
            let whole: Vec<_> = rows_in.iter().map(|(slot, row)| (place(*slot), row.as_slice())).collect();
            prop_assert_eq!(&page, &encode(&whole), "the same rows make the same page");
            for slot in 0..40 {
                prop_assert_eq!(row(&page, place(slot)).unwrap(), rows_in.get(&slot).cloned());
            }
            let unpacked = unpack(&first, page).unwrap();
            let keyed: Vec<_> = rows_in.iter().map(|(slot, row)| (key(b'o', 3, (1 << 20) + *slot), row.clone())).collect();
            prop_assert_eq!(unpacked, keyed);
        }
    }
}
