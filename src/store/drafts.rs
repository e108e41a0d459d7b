//! Drafts: what is new since the last checkpoint and will be on pages.
//!
//! There may be millions of rows until the next checkpoint, and memory that is touched for the first time is what they
//! cost most. So they stand close together, in the order in which they came, and each knows the one before that belongs to
//! the same page or list.

use hashbrown::HashMap;

use super::pages::{put_row, take_row};

/// Bytes of rows that are set aside at once.
const CHUNK_BYTES: usize = 256 << 10;

/// What stands before a row in a chunk, at most: a place, and two numbers.
const ENTRY_BYTES_MAX: usize = 8 + 10 + 5;

/// Rows by the key of what they belong to, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Drafts {
    /// Where the newest row is, by key.
    newest: HashMap<Vec<u8>, Place>,
    /// Rows, one after the other: the place of the one before, then number, length and bytes as on a page.
    chunks: Vec<Vec<u8>>,
}

/// Where a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    chunk: u32,
    at: u32,
}

/// Before the first row.
const NOWHERE: Place = Place { chunk: u32::MAX, at: u32::MAX };

impl Drafts {
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
        let before = match self.newest.get_mut(key) {
            Some(newest) => std::mem::replace(newest, here),
            None => self.newest.insert(key.to_vec(), here).unwrap_or(NOWHERE),
        };
        chunk.extend_from_slice(&before.chunk.to_le_bytes());
        chunk.extend_from_slice(&before.at.to_le_bytes());
        put_row(chunk, number, row);
    }

    /// The newest row of this number.
    pub fn row(&self, key: &[u8], number: u64) -> Option<&[u8]> {
        self.rows(key).find(|(known, _)| *known == number).map(|(_, row)| row)
    }

    /// All keys, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.newest.keys().map(Vec::as_slice)
    }

    /// The numbers and rows that belong to a key, newest first.
    pub fn rows(&self, key: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
        let mut next = self.newest.get(key).copied().unwrap_or(NOWHERE);
        std::iter::from_fn(move || {
            let entry = self.chunks.get(next.chunk as usize)?.get(next.at as usize..)?;
            let (chunk, entry) = entry.split_first_chunk()?;
            let (at, mut entry) = entry.split_first_chunk()?;
            next = Place { chunk: u32::from_le_bytes(*chunk), at: u32::from_le_bytes(*at) };
            take_row(&mut entry)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_in_whatever_chunk_they_are_newest_first() {
        let large = vec![7; CHUNK_BYTES];
        let mut drafts = Drafts::default();
        drafts.add(b"page", 1, b"first");
        drafts.add(b"page", 2, &large);
        drafts.add(b"elsewhere", u64::MAX, b"");
        drafts.add(b"page", 1, b"last");
        assert_eq!(drafts.chunks.len(), 3);
        assert_eq!(drafts.rows(b"page").collect::<Vec<_>>(), [(1, &b"last"[..]), (2, &large), (1, b"first")]);
        assert_eq!(drafts.rows(b"elsewhere").collect::<Vec<_>>(), [(u64::MAX, &b""[..])]);
        assert_eq!(drafts.rows(b"nowhere").count(), 0);
        assert_eq!([1, 2, 3].map(|number| drafts.row(b"page", number)), [Some(&b"last"[..]), Some(&large), None]);
        let mut keys: Vec<_> = drafts.keys().collect();
        keys.sort_unstable();
        assert_eq!(keys, [&b"elsewhere"[..], b"page"]);
    }
}
