//! What a checkpoint writes of aggregates and counts, as it was when it was cut.
//!
//! It is cut under the replica's lock. Memory that is touched for the first time would be most of what that costs, so rows
//! stand close together.

use super::put_row_key;
use crate::store::codec::Entity;

/// Rows that change, each with its key, and its new value or none.
#[derive(Debug, Default)]
pub(crate) struct Cut {
    /// Keys and values, one after the other.
    bytes: Vec<u8>,
    rows: Vec<Place>,
}

/// Where a row is: its key begins there, its value behind the key.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: usize,
    key_bytes: usize,
    value_bytes: Option<usize>,
}

impl Cut {
    /// Adds a row whose key `put_key` appends.
    pub fn put(&mut self, put_key: impl FnOnce(&mut Vec<u8>), value: Option<&[u8]>) {
        let at = self.bytes.len();
        put_key(&mut self.bytes);
        let key_bytes = self.bytes.len() - at;
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.rows.push(Place { at, key_bytes, value_bytes: value.map(<[u8]>::len) });
    }

    /// Adds a part of an aggregate.
    pub fn put_part<A: Entity>(&mut self, id: &A::Id, part: &A::Part, value: Option<&[u8]>) {
        self.put(|key| put_row_key::<A>(key, id, part, false), value);
    }

    /// All of them, in the order in which they came.
    pub fn rows(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.rows.iter().map(|place| {
            let (key, rest) = self.bytes[place.at..].split_at(place.key_bytes);
            (key, place.value_bytes.map(|bytes| &rest[..bytes]))
        })
    }
}
