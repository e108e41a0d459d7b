//! Lists: what is a user's, in the order in which it came.
//!
//! An entry of a list is the lsn of the event that brought it, and the key of what it is about. A list fills one page after the
//! other: each has as many entries as fit, [`PAGE_ENTRIES`], but the newest. A page's key is kind, user, tag, and the complement
//! of the lsn of its first entry, so that in the order of the keys the newest page comes first; on it, entries are numbered by
//! how many lsns they are after the first. The same entries make the same pages, however they came in.
//!
//! Architecture invariant: it does not know what is listed, and no sled.

use super::pages::{self, NUMBER_BYTES, NoPage};
use crate::domain::Lsn;
use crate::store::state::{Altered, Row};

/// First byte of the keys.
pub(crate) const KIND: u8 = b'L';

/// Entries on a page.
const PAGE_ENTRIES: usize = 64;

/// The first key of a list, in their order, on which there can be an entry of `lsn` or an older one.
pub(crate) fn key(list: &[u8], lsn: Lsn) -> Vec<u8> {
    [list, &(!lsn.0).to_be_bytes()].concat()
}

/// The lsn of a page's first entry.
fn first(key: &[u8]) -> Result<u64, NoPage> {
    Ok(!u64::from_be_bytes(*key.last_chunk::<NUMBER_BYTES>().ok_or(NoPage)?))
}

/// The entries of a page, oldest first.
pub(crate) fn entries<'a>(key: &[u8], page: &'a [u8]) -> Result<Vec<(Lsn, &'a [u8])>, NoPage> {
    let first = first(key)?;
    let entry = |(number, what)| (Lsn(first.saturating_add(number)), what);
    Ok(pages::rows(page)?.into_iter().map(entry).collect())
}

/// What becomes of the pages of a list when it gets new entries, oldest first; `newest` is its newest page, if it has any. In the
/// order of the keys.
pub(crate) fn extend(list: &[u8], newest: Option<Row>, new: Vec<(Lsn, &[u8])>) -> Result<Vec<Altered>, NoPage> {
    let (known, mut old) = newest.unzip();
    let page = old.clone().unwrap_or_default();
    let mut all = known.map_or_else(|| Ok(Vec::new()), |key| entries(&key, &page))?;
    all.extend(new);
    let pages = all.chunks(PAGE_ENTRIES).filter_map(|entries| {
        let (first, _) = entries.first()?;
        let rows: Vec<_> = entries.iter().map(|(lsn, what)| (lsn.0 - first.0, *what)).collect();
        // The first of them is the one that was there.
        Some(Altered { key: key(list, *first), old: old.take(), new: Some(pages::encode(&rows)) })
    });
    let mut pages: Vec<_> = pages.collect();
    pages.reverse();
    Ok(pages)
}

/// The entries of a page as rows of their own, in the order of their keys.
pub(super) fn unpack(page_key: &[u8], page: &[u8]) -> Result<Vec<Row>, NoPage> {
    let list = &page_key[..page_key.len().saturating_sub(NUMBER_BYTES)];
    let rows = entries(page_key, page)?.into_iter().rev();
    Ok(rows.map(|(lsn, what)| (key(list, lsn), what.to_vec())).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const LIST: &[u8] = b"L\x04anna\x03";

    /// Entries are about their own lsn.
    fn extended(pages: &mut BTreeMap<Vec<u8>, Vec<u8>>, lsns: &[u64]) -> usize {
        let whats: Vec<_> = lsns.iter().map(|lsn| lsn.to_be_bytes()).collect();
        let new = lsns.iter().zip(&whats).map(|(lsn, what)| (Lsn(*lsn), &what[..])).collect();
        let newest = pages.iter().next().map(|(key, page)| (key.clone(), page.clone()));
        let altered = extend(LIST, newest, new).unwrap();
        assert!(altered.is_sorted_by(|a, b| a.key < b.key));
        let count = altered.len();
        for Altered { key, old, new } in altered {
            assert_eq!(pages.insert(key, new.unwrap()), old);
        }
        count
    }

    #[test]
    fn a_page_keeps_its_bytes() {
        let altered = extend(LIST, None, vec![(Lsn(300), b"first"), (Lsn(600), b"")]).unwrap();
        let key = [LIST, &(!300_u64).to_be_bytes()].concat();
        let page = b"\x00\x05first\xac\x02\x00".to_vec();
        assert_eq!(altered, [Altered { key: key.clone(), old: None, new: Some(page.clone()) }]);
        let rows = unpack(&key, &page).unwrap();
        let second = [LIST, &(!600_u64).to_be_bytes()].concat();
        assert_eq!(rows, [(second, Vec::new()), (key, b"first".to_vec())], "the newest one first");
    }

    #[test]
    fn a_full_page_stays_as_it_is_and_others_follow() {
        let mut pages = BTreeMap::new();
        let lsns: Vec<u64> = (1..=200).map(|n| n * n * 1_000_000_000).collect();
        assert_eq!(extended(&mut pages, &lsns[..63]), 1);
        assert_eq!(extended(&mut pages, &lsns[63..64]), 1);
        let full = pages.clone();
        assert_eq!(extended(&mut pages, &lsns[64..]), 4);
        assert_eq!(pages.len(), 4);
        assert_eq!(pages.pop_last(), full.into_iter().next());
    }

    #[test]
    fn what_is_no_page_is_told() {
        let stored = (key(LIST, Lsn(5)), b"\xff".to_vec());
        assert_eq!(extend(LIST, Some(stored), vec![(Lsn(7), b"")]), Err(NoPage));
        assert_eq!(unpack(b"L", b""), Err(NoPage));
    }

    proptest! {
        #[test]
        fn the_same_entries_make_the_same_pages(
            gaps in prop::collection::vec(prop::sample::select(vec![1, 2, 200, u64::MAX >> 9]), 0..400),
            cuts in prop::collection::vec(0..400_usize, 0..8),
        ) {
            let lsns: Vec<u64> = gaps.iter().scan(0, |lsn, gap| { *lsn += gap; Some(*lsn) }).collect();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(lsns.len())).chain([lsns.len()]).collect();
            cuts.sort_unstable();
            let (mut pages, mut from) = (BTreeMap::new(), 0);
            for to in cuts {
                extended(&mut pages, &lsns[from..to]);
                from = to;
            }
            let mut once = BTreeMap::new();
            extended(&mut once, &lsns);
            prop_assert_eq!(&pages, &once);
            prop_assert_eq!(pages.len(), lsns.len().div_ceil(PAGE_ENTRIES));
            let rows = pages.iter().flat_map(|(key, page)| unpack(key, page).unwrap());
            let expected = lsns.iter().rev().map(|lsn| (key(LIST, Lsn(*lsn)), lsn.to_be_bytes().to_vec()));
            prop_assert!(rows.eq(expected), "newest first");
        }
    }
}
