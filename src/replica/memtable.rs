//! The memtable: what is new since the last checkpoint and will be on pages.
//!
//! There may be millions of rows until the next checkpoint, and memory that is touched for the first time is what they
//! cost most. So they stand close together, in the order in which they came; of each page and list it is known where.

use hashbrown::HashMap;
use smallvec::{SmallVec, smallvec};

use super::pages::{put_row, take_row};

/// Bytes of rows that are set aside at once.
const CHUNK_BYTES: usize = 256 << 10;

/// What stands before a row in a chunk, at most: two numbers.
const ENTRY_BYTES_MAX: usize = 10 + 5;

/// Rows by the key of what they belong to, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Memtable {
    /// Where the rows are, by key, oldest first.
    places: HashMap<Vec<u8>, SmallVec<[Place; 2]>>,
    /// Rows, one after the other: number, length and bytes as on a page.
    chunks: Vec<Vec<u8>>,
}

/// Where a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    chunk: u32,
    at: u32,
}

impl Memtable {
    /// Adds a row.
    pub fn add(&mut self, key: &[u8], number: u64, row: &[u8]) {
        let room = ENTRY_BYTES_MAX + row.len();
        if self.chunks.last().is_none_or(|chunk| chunk.capacity() - chunk.len() < room) {
            self.chunks.push(Vec::with_capacity(CHUNK_BYTES.max(room)));
        }
        let last = self.chunks.len() - 1;
        let chunk = &mut self.chunks[last];
        // Both are far below 2^32: a row fits into one of sled's, and chunks into memory.
        let here = Place { chunk: last as u32, at: chunk.len() as u32 };
        put_row(chunk, number, row);
        match self.places.get_mut(key) {
            Some(places) => places.push(here),
            None => drop(self.places.insert(key.to_vec(), smallvec![here])),
        }
    }

    /// The newest row of this number.
    pub fn row(&self, key: &[u8], number: u64) -> Option<&[u8]> {
        self.rows(key).find(|(known, _)| *known == number).map(|(_, row)| row)
    }

    /// All keys, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.places.keys().map(Vec::as_slice)
    }

    /// The numbers and rows that belong to a key, newest first.
    pub fn rows(&self, key: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
        self.rows_at(self.places(key))
    }

    /// The same, of those up to `last`; their numbers must have come in ascending order.
    pub fn rows_up_to(&self, key: &[u8], last: u64) -> impl Iterator<Item = (u64, &[u8])> {
        let places = self.places(key);
        let end = places.partition_point(|place| self.at(*place).is_some_and(|(number, _)| number <= last));
        self.rows_at(&places[..end])
    }

    fn places(&self, key: &[u8]) -> &[Place] {
        self.places.get(key).map_or(&[], SmallVec::as_slice)
    }

    fn rows_at<'a>(&'a self, places: &'a [Place]) -> impl Iterator<Item = (u64, &'a [u8])> {
        places.iter().rev().filter_map(|place| self.at(*place))
    }

    fn at(&self, place: Place) -> Option<(u64, &[u8])> {
        take_row(&mut self.chunks.get(place.chunk as usize)?.get(place.at as usize..)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_in_whatever_chunk_they_are_newest_first() {
        let large = vec![7; CHUNK_BYTES];
        let mut memtable = Memtable::default();
        memtable.add(b"page", 1, b"first");
        memtable.add(b"page", 2, &large);
        memtable.add(b"elsewhere", u64::MAX, b"");
        memtable.add(b"page", 1, b"last");
        assert_eq!(memtable.chunks.len(), 3);
        assert_eq!(memtable.rows(b"page").collect::<Vec<_>>(), [(1, &b"last"[..]), (2, &large), (1, b"first")]);
        assert_eq!(memtable.rows(b"elsewhere").collect::<Vec<_>>(), [(u64::MAX, &b""[..])]);
        assert_eq!(memtable.rows(b"nowhere").count(), 0);
        assert_eq!([1, 2, 3].map(|number| memtable.row(b"page", number)), [Some(&b"last"[..]), Some(&large), None]);
        let mut keys: Vec<_> = memtable.keys().collect();
        keys.sort_unstable();
        assert_eq!(keys, [&b"elsewhere"[..], b"page"]);
        (0..10).for_each(|number| memtable.add(b"list", 3 * number, &[number as u8]));
        for last in 0..30 {
            let expected = (0..=last / 3).rev().map(|number| 3 * number);
            assert!(memtable.rows_up_to(b"list", last).map(|(number, _)| number).eq(expected), "up to {last}");
        }
    }
}
