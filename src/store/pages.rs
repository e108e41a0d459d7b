//! Pages: what is written once and belongs together, in one row of the state.
//!
//! A finished reservation, an entry of a wallet, a used token: each is written once and never changed, and there are as many
//! of them as there ever were. A row for each would be most of the work of every checkpoint and of every start. Their keys
//! (kind in lower case, id, tag) end in a number, of 8 bytes, big-endian; those whose numbers differ in the lowest 6 bits
//! only share a page. It has the key of its first row, with zeros for these bits, which are the row's *slot*. What is added
//! later is merged in; the same rows make the same page, however they came in. A user's [lists](super::lists) have pages too.
//!
//! The value of a page is its rows, in the order of their numbers there, each as number and length (LEB128) and its bytes.
//!
//! Architecture invariant: it knows no rows but by their keys, and no sled.

use super::drafts::Drafts;
use super::lists;
use super::state::Row;

/// So many rows share a page at most: two to this.
const BITS: u32 = 6;

/// Length of the number at the end of a key.
pub(super) const NUMBER_BYTES: usize = 8;

/// A page that cannot be read; its row's hash was right, so it was never written like that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a page")]
pub(crate) struct NoPage;

/// Makes the key of a row that of its page, and gives its slot there; `None`, and leaves the key, if the row has no page.
pub(crate) fn split(key: &mut [u8]) -> Option<u64> {
    if !key.first()?.is_ascii_lowercase() {
        return None;
    }
    let number = key.last_chunk_mut::<NUMBER_BYTES>()?;
    let whole = u64::from_be_bytes(*number);
    let mask = (1 << BITS) - 1;
    *number = (whole & !mask).to_be_bytes();
    Some(whole & mask)
}

/// What of a page is new, as a page; `None` if there is nothing.
pub(crate) fn new(drafts: &Drafts, key: &[u8]) -> Option<Vec<u8>> {
    let mut rows: Vec<_> = drafts.rows(key).collect();
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

/// The key of the last row of the page before this one, whether there is such a row or not; `None` before the first.
pub(crate) fn before(page: &[u8]) -> Option<Vec<u8>> {
    let mut key = page.to_vec();
    let number = key.last_chunk_mut::<NUMBER_BYTES>()?;
    *number = u64::from_be_bytes(*number).checked_sub(1)?.to_be_bytes();
    Some(key)
}

/// The rows that a row of the state stands for, in the order of their keys: itself, if it is no page.
pub(crate) fn unpack(key: &[u8], value: Vec<u8>) -> Result<Vec<Row>, NoPage> {
    if key.first() == Some(&lists::KIND) {
        return lists::unpack(key, &value);
    }
    if split(&mut key.to_vec()).is_none() {
        return Ok(vec![(key.to_vec(), value)]);
    }
    let (place, first) = key.split_last_chunk::<NUMBER_BYTES>().ok_or(NoPage)?;
    let first = u64::from_be_bytes(*first);
    let row = |(slot, row): (u64, &[u8])| ([place, &(first | slot).to_be_bytes()].concat(), row.to_vec());
    Ok(rows(&value)?.into_iter().map(row).collect())
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
    fn only_archived_parts_have_slots() {
        for (kind, number, page, slot) in [
            (b'o', 0, 0, Some(0)),
            (b'o', 63, 0, Some(63)),
            (b'w', 64 + 5, 64, Some(5)),
            (b'L', 63, 63, None),
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
        for (number, row) in rows {
            let mut page = key(b'o', *number);
            let slot = split(&mut page).unwrap();
            drafts.add(&page, slot, row);
        }
        drafts
    }

    #[test]
    fn before_a_page_is_the_last_row_of_another() {
        assert_eq!(before(&key(b'o', 128)), Some(key(b'o', 127)));
        assert_eq!(before(&key(b'o', 0)), None);
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
        let drafts = drafts(&[(3, b"old"), (2, b"two"), (3, b"new")]);
        assert_eq!(new(&drafts, &key(b'o', 0)).unwrap(), b"\x02\x03two\x03\x03new");
        assert_eq!(new(&drafts, &key(b'o', 64)), None);
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
            let first = key(b'o', 1 << 20);
            let mut shuffled: Vec<_> = rows_in.iter().collect();
            shuffled.sort_by_key(|(slot, row)| (slot.reverse_bits() ^ row.len() as u64, **slot));
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(shuffled.len())).chain([shuffled.len()]).collect();
            cuts.sort_unstable();
            let mut page = Vec::new();
            let mut from = 0;
            for to in cuts {
                let part: Vec<_> = shuffled[from..to].iter().map(|(slot, row)| ((1 << 20) + **slot, row.as_slice())).collect();
                page = merge(&page, &new(&drafts(&part), &first).unwrap_or_default()).unwrap();
                from = to;
            }
            let whole: Vec<_> = rows_in.iter().map(|(slot, row)| (*slot, row.as_slice())).collect();
            prop_assert_eq!(&page, &encode(&whole), "the same rows make the same page");
            for slot in 0..40 {
                prop_assert_eq!(row(&page, slot).unwrap(), rows_in.get(&slot).cloned());
            }
            let unpacked = unpack(&first, page).unwrap();
            let keyed: Vec<_> = rows_in.iter().map(|(slot, row)| (key(b'o', (1 << 20) + *slot), row.clone())).collect();
            prop_assert_eq!(unpacked, keyed);
        }
    }
}
