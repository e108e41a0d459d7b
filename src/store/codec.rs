//! How facts stand in the journal: a record is what one command brought about, and a batch is records one after another.
//!
//! Format version 1 is CBOR by `minicbor`, with numbered fields and variants. Old files stay readable because a number is
//! never used again, and because what is added later is an `Option` or has a default.

use minicbor::{Decode, Encode};
use serde::{Serialize, Serializer};

use crate::domain::{
    Aggregate, ConcertId, Lsn, Meta, OptionId, SinkId, Timestamp, UserId, catalogue, concert_option, sink,
    waiting_room, wallet,
};

/// What one command brought about: indivisible, and all of one aggregate.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
pub struct Record {
    /// The time that the command was decided with.
    #[n(0)]
    pub at: Timestamp,
    /// Whose, and what.
    #[n(1)]
    pub facts: Facts,
}

/// Events of one aggregate, in order.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Facts {
    /// Of the catalogue, of which there is one: it is not named.
    #[n(0)]
    #[serde(serialize_with = "events_only")]
    Catalogue(#[cbor(skip)] TheCatalogue, #[n(0)] Vec<catalogue::Event>),
    /// Of a concert option.
    #[n(1)]
    Option(#[n(0)] OptionId, #[n(1)] Vec<concert_option::Event>),
    /// Of a wallet.
    #[n(2)]
    Wallet(#[n(0)] UserId, #[n(1)] Vec<wallet::Event>),
    /// Of a waiting room.
    #[n(3)]
    Room(#[n(0)] ConcertId, #[n(1)] Vec<waiting_room::Event>),
    /// Of a receiver of events.
    #[n(4)]
    Sink(#[n(0)] SinkId, #[n(1)] Vec<sink::Event>),
}

fn events_only<S: Serializer>(_: &TheCatalogue, events: &[catalogue::Event], serializer: S) -> Result<S::Ok, S::Error> {
    events.serialize(serializer)
}

#[allow(clippy::len_without_is_empty, reason = "none is empty: what brings nothing about is not written")]
impl Record {
    /// How many events there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// Where and when each of its events stands, if the first has `first`.
    pub fn metas(&self, first: Lsn) -> impl Iterator<Item = Meta> + use<> {
        let at = self.at;
        (first.0..).map(move |lsn| Meta { lsn: Lsn(lsn), at })
    }

    /// How many bytes it takes; it is encoded to find out.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let mut bytes = Vec::new();
        self.encode_to(&mut bytes);
        bytes.len()
    }

    /// Appends the record's bytes.
    pub fn encode_to(&self, bytes: &mut Vec<u8>) {
        // Writing to memory cannot fail, and no encoder here reports an error of its own.
        minicbor::encode(self, bytes).expect("encoding into memory");
    }
}

/// What ties an aggregate to its place in the journal and in the state.
pub trait Entity: Aggregate {
    /// The name of one of them.
    type Id: Clone + Eq + std::hash::Hash + Ord + std::fmt::Display + Send + Sync + 'static;
    /// First byte of its rows' keys.
    const KIND: u8;

    /// Its events, as they stand in a record.
    fn facts(id: &Self::Id, events: Vec<Self::Event>) -> Facts;
    /// Whose facts they are, and what; `None` if they are another kind's.
    fn of(facts: &Facts) -> Option<(&Self::Id, &[Self::Event])>;
    /// Its events in a record; none if they are another kind's.
    fn events(facts: &Facts) -> &[Self::Event] {
        Self::of(facts).map_or(&[], |(_, events)| events)
    }
    /// Appends the id's bytes, so that no id's bytes are the beginning of another's.
    fn encode_id(id: &Self::Id, key: &mut Vec<u8>);
}

macro_rules! entities {
    ($($name:ident, $all:ident, $aggregate:ty, $id:ty, $kind:literal;)*) => {
        impl Facts {
            fn len(&self) -> usize {
                match self {
                    $(Self::$name(_, events) => events.len(),)*
                }
            }
        }

        $(impl Entity for $aggregate {
            type Id = $id;
            const KIND: u8 = $kind;

            fn facts(id: &Self::Id, events: Vec<Self::Event>) -> Facts {
                Facts::$name(id.clone(), events)
            }

            fn of(facts: &Facts) -> Option<(&Self::Id, &[Self::Event])> {
                if let Facts::$name(id, events) = facts { Some((id, events)) } else { None }
            }

            fn encode_id(id: &Self::Id, key: &mut Vec<u8>) {
                id.encode_key(key);
            }
        })*
    };
}

crate::aggregates::aggregates!(entities);

/// An id as bytes of a key.
trait KeyId {
    fn encode_key(&self, key: &mut Vec<u8>);
}

impl KeyId for OptionId {
    fn encode_key(&self, key: &mut Vec<u8>) {
        key.extend(self.0.to_be_bytes());
    }
}

impl KeyId for ConcertId {
    fn encode_key(&self, key: &mut Vec<u8>) {
        key.extend(self.0.to_be_bytes());
    }
}

impl KeyId for SinkId {
    fn encode_key(&self, key: &mut Vec<u8>) {
        key.extend(self.0.to_be_bytes());
    }
}

impl KeyId for UserId {
    fn encode_key(&self, key: &mut Vec<u8>) {
        let bytes = self.as_str().as_bytes();
        // At most 255 bytes, by its definition.
        key.push(bytes.len() as u8);
        key.extend(bytes);
    }
}

impl KeyId for TheCatalogue {
    fn encode_key(&self, _key: &mut Vec<u8>) {}
}

/// The name of the only catalogue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TheCatalogue;

impl std::fmt::Display for TheCatalogue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("catalogue")
    }
}

/// A batch that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "the batch at lsn {first} cannot be read: {reason}; its checksum holds, so it was written by a newer version of \
     boxoffice: start that one"
)]
pub struct Error {
    /// The batch's first lsn.
    pub first: Lsn,
    /// What is wrong.
    pub reason: String,
}

/// Reads the records of a batch, each with the lsn of its first event.
///
/// # Errors
/// The batch holds something that this version does not know, or not `count` events.
pub fn decode_batch(first: Lsn, count: u32, payload: &[u8]) -> Result<Vec<(Lsn, Record)>, Error> {
    let error = |reason: String| Error { first, reason };
    let mut decoder = minicbor::Decoder::new(payload);
    let mut records = Vec::new();
    let mut next = first;
    while decoder.position() < payload.len() {
        let record: Record = decoder.decode().map_err(|source| error(source.to_string()))?;
        let lsn = next;
        next.0 += record.len() as u64;
        records.push((lsn, record));
    }
    if next.0 - first.0 == u64::from(count) {
        Ok(records)
    } else {
        Err(error(format!("it holds {} events instead of {count}", next.0 - first.0)))
    }
}
