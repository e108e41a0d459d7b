//! sled against a map, and what it must never do to us.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;
use crate::store::disk::RealDisk;
use crate::store::rows::{KEY_BYTES_MAX, MemoryRows};

pub type Model = BTreeMap<Vec<u8>, Vec<u8>>;

const CACHE_BYTES: u64 = 8 << 20;

pub fn change_model(model: &mut Model, changes: &[Change]) {
    for (key, value) in changes {
        match value {
            Some(value) => model.insert(key.clone(), value.clone()),
            None => model.remove(key),
        };
    }
}

/// Bytes that cannot be compressed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| xxhash_rust::xxh3::xxh3_64_with_seed(&i.to_le_bytes(), seed) as u8).collect()
}

/// Somebody who looks at the state while it is written.
pub type Look = Arc<Mutex<Option<Box<dyn FnMut() + Send>>>>;

/// sled, with a look after each batch.
pub struct Watched<R>(pub R, pub Look);

impl Backing for Watched<SledFolder> {
    fn place(&self) -> PathBuf {
        self.0.place()
    }
    fn exists(&self) -> bool {
        self.0.exists()
    }
    fn open(&self) -> Result<Box<dyn StoredRows>, Error> {
        Ok(Box::new(Watched(self.0.open()?, self.1.clone())))
    }
    fn set_aside(&self) -> Result<(), Error> {
        self.0.set_aside()
    }
}

impl Rows for Watched<Box<dyn StoredRows>> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.0.get(key)
    }
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Error> {
        self.0.scan(from, to, limit)
    }
    fn apply(&self, changes: &[Change]) -> Result<(), Error> {
        self.0.apply(changes)?;
        if let Some(look) = self.1.lock().as_mut() {
            look();
        }
        Ok(())
    }
    fn flush(&self) -> Result<(), Error> {
        self.0.flush()
    }
}

impl StoredRows for Watched<Box<dyn StoredRows>> {
    fn tally(&self) -> Result<Tally, Error> {
        self.0.tally()
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec![0, 1, b'a', 253, 254, 255]), 1..8)
}

fn value() -> impl Strategy<Value = Option<Vec<u8>>> {
    let len = prop::sample::select(vec![0, 1, 100, 4_094, 4_095, 4_096, 4_097, 8_191, 8_192, 8_193, 20_000]);
    let value = (len, any::<u8>(), any::<bool>());
    let value = value.prop_map(|(len, byte, repeats)| if repeats { vec![byte; len] } else { noise(byte.into(), len) });
    prop::option::weighted(0.7, value)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn rows_in_sled_are_like_a_map(
        batches in prop::collection::vec(prop::collection::btree_map(bytes(), value(), 0..60), 1..12),
        ranges in prop::collection::vec((bytes(), bytes(), 0..50_usize), 20),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut sled = SledRows::open(&dir.path().join(FOLDER), CACHE_BYTES).unwrap();
        let memory = MemoryRows::default();
        let mut model = Model::new();
        for batch in batches {
            let changes: Vec<Change> = batch.into_iter().collect();
            change_model(&mut model, &changes);
            sled.apply(&changes).unwrap();
            memory.apply(&changes).unwrap();
            if changes.len().is_multiple_of(4) {
                sled.flush().unwrap();
                drop(sled);
                sled = SledRows::open(&dir.path().join(FOLDER), CACHE_BYTES).unwrap();
            }
            let mut expected = Tally::default();
            model.iter().for_each(|(key, value)| expected.add(key, value, &mut Vec::new()));
            prop_assert_eq!(sled.tally().unwrap(), expected);
            for (from, to, limit) in &ranges {
                prop_assert_eq!(sled.get(from).unwrap(), model.get(from).cloned());
                let inside = model.clone().into_iter().filter(|(key, _)| key >= from && key < to);
                let first: Vec<Row> = inside.take(*limit).collect();
                prop_assert_eq!(&sled.scan(from, to, *limit).unwrap(), &first);
                prop_assert_eq!(&memory.scan(from, to, *limit).unwrap(), &first);
            }
        }
    }
}

proptest! {
    #[test]
    fn what_is_damaged_in_a_packed_row_is_refused_or_bounded(
        value in prop::collection::vec(0..4_u8, 0..2_000),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 1..=u8::MAX), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut packed = pack(&value);
        prop_assert_eq!(unpack(b"k", &packed).unwrap(), &value[..]);
        for (at, flip) in damage {
            let len = packed.len();
            packed[at.index(len)] ^= flip;
        }
        packed.truncate(cut.index(packed.len() * 2).max(1));
        let bytes = unpack(b"k", &packed).map_or(0, |read| read.len());
        prop_assert!(bytes <= VALUE_BYTES_MAX);
    }
}

#[test]
fn a_forged_length_takes_no_memory() {
    let mut packed = pack(&[7; 1_000]);
    packed[1..5].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(unpack(b"k", &packed), Err(Error::Row { why: "it is too long", .. })));
    assert!(matches!(unpack(b"k", &[COMPRESSED, 1]), Err(Error::Row { why: "it is too short", .. })));
    assert!(matches!(unpack(b"k", &[]), Err(Error::Row { .. })));
}

#[test]
fn no_blob_file_is_written_for_the_longest_plain_rows() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join(FOLDER);
    let rows = SledRows::open(&folder, CACHE_BYTES).unwrap();
    let changes: Vec<Change> = (0..500_u64)
        .map(|n| {
            let mut key = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes().to_vec();
            key.resize(KEY_BYTES_MAX, b'k');
            (key, Some(noise(n, STORED_BYTES_MAX - 1)))
        })
        .collect::<BTreeMap<_, _>>()
        .into_iter()
        .collect();
    for part in changes.chunks(7) {
        rows.apply(part).unwrap();
    }
    rows.flush().unwrap();
    assert_eq!(RealDisk.list(&folder.join("blobs")).unwrap(), [""; 0]);
}

#[test]
fn a_panic_becomes_a_final_error() {
    let dir = tempfile::tempdir().unwrap();
    let rows = SledRows::open(&dir.path().join(FOLDER), CACHE_BYTES).unwrap();
    let result: Result<(), Error> = rows.guarded(|_| panic!("page {} is gone", 7));
    assert!(matches!(result, Err(Error::Panicked(text)) if text == "page 7 is gone"));
    assert!(matches!(rows.get(b"any"), Err(Error::Failed(_))));
    assert!(matches!(rows.flush(), Err(Error::Failed(_))));
}
