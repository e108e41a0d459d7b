//! The state: the rows that the journal adds up to, kept in sled, and how they are known to be the right ones.
//!
//! [`StateStore`] is rows ([`Rows`]) and the [manifest]. It keeps the number of rows and the sum (mod
//! 2^128) of XXH3-128 over `key length (u32, little-endian) ‖ key ‖ value` of each: independent of order, and carried
//! from checkpoint to checkpoint by what changed. [`StateStore::open_on`] reads all rows once and compares.
//!
//! # What the source of sled 0.34.7 says
//!
//! - Files: `conf` (written once, never synced), `db` (the log), `snap.<lsn>` (written and synced by `open` only, then
//!   renamed without a sync of the directory; a shortcut for recovery), `blobs/<lsn>` (messages of about 128 KiB and
//!   more, never synced).
//! - `flush` writes the log with `pwrite` and `sync_file_range`, which is no barrier for a power cut. So
//!   [`SledRows::flush`] then calls fdatasync on `db`, through a descriptor opened when sled was: one opened later could
//!   miss an error that sled's own calls have consumed.
//! - A leaf holds up to 17 rows, so rows of 4 KiB keep its message below 128 KiB and out of `blobs`. Nodes of
//!   the index get there with 257 long separators that share no prefix; so `flush` syncs what it finds in `blobs`.
//! - A batch is one unit in recovery, and is applied in no particular order. Between two reads of the same reader a
//!   batch may come in, hence the gate in [`SledRows`].
//! - `Drop` flushes, calls fsync and panics if that fails. Batches that were applied and not flushed are then on disk: the
//!   pending checkpoint.
//! - The periodic flusher (`flush_every_ms`) only logs a failed fsync, so it is off. Each page that is replaced moves one
//!   more out of a segment that is at most half alive (`PageCache::replace`), with or without it. `Config::mode` is read
//!   nowhere.
//! - The log can still grow well beyond what is alive in it, if many rows are written once and a few again and again.
//! - Going backwards, an iterator looks for the leaf before `[.., b]` at `[.., b - 1, 255, 255, 255, 255]`, and loops a
//!   million times and panics if a key above that lies in between. So nobody goes backwards.
//! - It panics on much of what it finds damaged, and skips the rest in silence. All calls are guarded, and the
//!   comparison with the manifest finds what was skipped.
//!
//! Architecture invariant: sled is a cache of the journal. Nothing here is the only copy of anything.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::DirBuilderExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tracing::{info, warn};
use xxhash_rust::xxh3::xxh3_128;

use super::disk::{Disk, RealDisk};
use super::manifest::{self, Checkpoint, Manifest};
use crate::domain::Lsn;

/// The longest key, in bytes; the shortest is one byte.
pub const KEY_BYTES_MAX: usize = 600;

/// The longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 16 << 20;

/// The longest value that reaches sled, in bytes.
const STORED_BYTES_MAX: usize = 4096;

/// How long to wait for a lock on sled's files that a store dropped just now may still hold: its threads close the file.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// How much of a panic's message is kept, in characters.
const PANIC_CHARS_MAX: usize = 300;

const FOLDER: &str = "state";
const SET_ASIDE: &str = "state.damaged-";

/// What goes wrong with the state. All but the first four are final: the store answers [`Error::Failed`] from then on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller's key is empty or longer than [`KEY_BYTES_MAX`].
    #[error("a key of {0} bytes")]
    KeyLength(usize),
    /// The caller's value is longer than [`VALUE_BYTES_MAX`].
    #[error("a value of {0} bytes")]
    ValueLength(usize),
    /// The caller's changes are not in ascending order of keys, or name a key twice.
    #[error("changes out of order")]
    Order,
    /// The caller's checkpoint is older than the last one.
    #[error("a checkpoint at lsn {lsn} after one at lsn {settled}")]
    Backwards {
        /// The one asked for.
        lsn: Lsn,
        /// The last one.
        settled: Lsn,
    },
    /// sled failed.
    #[error("sled: {0}")]
    Sled(#[from] sled::Error),
    /// sled panicked.
    #[error("sled panicked: {0}")]
    Panicked(String),
    /// A row is there that cannot have been written like that.
    #[error("row {key}: {why}")]
    Row {
        /// Its key, with escapes for what is not ASCII.
        key: String,
        /// What does not hold.
        why: &'static str,
    },
    /// Somebody else has the folder open.
    #[error("{0}: in use by another process")]
    InUse(PathBuf),
    /// The manifest failed.
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
    /// The file system failed.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An earlier call failed for good.
    #[error("the state store has failed before")]
    Failed,
}

impl Error {
    /// Whether the caller is to blame, and the store is as sound as before.
    fn is_callers(&self) -> bool {
        matches!(self, Self::KeyLength(_) | Self::ValueLength(_) | Self::Order | Self::Backwards { .. })
    }

    /// Whether it says that sled's files are not what sled wrote, rather than that they cannot be read just now.
    fn is_damage(&self) -> bool {
        use io::ErrorKind as Kind;
        match self {
            Self::Panicked(_) | Self::Row { .. } => true,
            Self::Sled(sled::Error::Io(e)) => matches!(
                e.kind(),
                Kind::UnexpectedEof
                    | Kind::InvalidData
                    | Kind::InvalidInput
                    | Kind::NotFound
                    | Kind::AlreadyExists
                    | Kind::IsADirectory
                    | Kind::NotADirectory
                    | Kind::Other
            ),
            Self::Sled(_) => true,
            _ => false,
        }
    }
}

/// Attaches a path to an error of the file system.
fn at(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    move |source| Error::Io { path: path.to_owned(), source }
}

/// A row: key and value.
pub type Row = (Vec<u8>, Vec<u8>);

/// A key and its new value; `None` deletes the row if there is one.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// Rows by key. Keys are 1 to [`KEY_BYTES_MAX`] bytes, values up to [`VALUE_BYTES_MAX`].
pub trait Rows: Send + Sync + 'static {
    /// The value at `key`.
    ///
    /// # Errors
    ///
    /// [`Error::KeyLength`], and what the storage reports.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// The first `limit` rows, at most, with keys from `from` on and below `to`. No batch comes in between them.
    ///
    /// # Errors
    ///
    /// What the storage reports.
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Error>;

    /// Makes all of the changes, or none. They are in strictly ascending order of keys. Durable after
    /// [`flush`](Self::flush); after a crash before that all of them are there, or none.
    ///
    /// # Errors
    ///
    /// [`Error::KeyLength`], [`Error::ValueLength`], [`Error::Order`], and what the storage reports.
    fn apply(&self, changes: &[Change]) -> Result<(), Error>;

    /// Makes everything applied so far survive a power cut.
    ///
    /// # Errors
    ///
    /// What the storage reports; which changes survive is then open.
    fn flush(&self) -> Result<(), Error>;
}

fn check_key(key: &[u8]) -> Result<(), Error> {
    if (1..=KEY_BYTES_MAX).contains(&key.len()) { Ok(()) } else { Err(Error::KeyLength(key.len())) }
}

fn check_changes(changes: &[Change]) -> Result<(), Error> {
    for (key, value) in changes {
        check_key(key)?;
        let len = value.as_ref().map_or(0, Vec::len);
        if len > VALUE_BYTES_MAX {
            return Err(Error::ValueLength(len));
        }
    }
    if changes.is_sorted_by(|(a, _), (b, _)| a < b) { Ok(()) } else { Err(Error::Order) }
}

/// Where rows are that outlive the process. The manifest beside them says whether they are the right ones.
pub trait Backing {
    /// Where that is, for whoever has to look after it.
    fn place(&self) -> PathBuf;

    /// Whether there are any, of whatever kind.
    fn exists(&self) -> bool;

    /// Opens them, or begins new ones; what is there survives a power cut when this returns.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`]; otherwise what the storage reports.
    fn open(&self) -> Result<Box<dyn StoredRows>, Error>;

    /// Puts what is there out of the way, if there is anything; of what was set aside before nothing is kept.
    ///
    /// # Errors
    ///
    /// What the file system reports.
    fn set_aside(&self) -> Result<(), Error>;
}

/// Rows that can be compared with a manifest.
pub trait StoredRows: Rows {
    /// Counts and hashes all of them.
    ///
    /// # Errors
    ///
    /// What the storage reports.
    fn tally(&self) -> Result<Tally, Error>;
}

/// Rows in memory, lost with the process: for an engine without checkpoints, and for tests.
#[derive(Debug, Default)]
pub struct MemoryRows(RwLock<BTreeMap<Vec<u8>, Vec<u8>>>);

impl Rows for MemoryRows {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        check_key(key)?;
        Ok(self.0.read().get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Error> {
        // `BTreeMap::range` panics on a reversed range.
        if from >= to {
            return Ok(Vec::new());
        }
        let rows = self.0.read();
        let range = rows.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        let owned = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
        Ok(range.take(limit).map(owned).collect())
    }

    fn apply(&self, changes: &[Change]) -> Result<(), Error> {
        check_changes(changes)?;
        let mut rows = self.0.write();
        for (key, value) in changes {
            match value {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(())
    }
}

impl StoredRows for MemoryRows {
    fn tally(&self) -> Result<Tally, Error> {
        let (mut tally, mut scratch) = (Tally::default(), Vec::new());
        for (key, value) in &*self.0.read() {
            tally.add(key, value, &mut scratch);
        }
        Ok(tally)
    }
}

// Keys in sled: ROWS ‖ key, and SEGMENTS ‖ key ‖ number (u16, big-endian). The number is of fixed length,
// so two keys in the second space are equal only if both parts are.
const ROWS: u8 = 1;
const SEGMENTS: u8 = 2;
/// The end of the rows.
const ROWS_END: &[u8] = &[SEGMENTS];
/// The end of the segments.
const SEGMENTS_END: &[u8] = &[SEGMENTS + 1];

// Values are packed: PLAIN ‖ value, or COMPRESSED ‖ length of the value (u32, little-endian) ‖ LZ4 block, if that is shorter.
// What stands in sled is that, or SEGMENTED ‖ number of segments (u16, big-endian) ‖ length of what is in segments (u32,
// big-endian), the segments each of STORED_BYTES_MAX but the last.
const PLAIN: u8 = 0;
const SEGMENTED: u8 = 1;
const COMPRESSED: u8 = 2;

/// Shorter values do not repeat themselves enough to be worth a try.
const COMPRESS_BYTES_MIN: usize = 256;

fn pack(value: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    if value.len() >= COMPRESS_BYTES_MIN {
        packed.push(COMPRESSED);
        packed.extend(lz4_flex::block::compress_prepend_size(value));
    }
    if packed.is_empty() || packed.len() > value.len() {
        packed.clear();
        packed.push(PLAIN);
        packed.extend_from_slice(value);
    }
    packed
}

/// The reverse of [`pack`].
fn unpack(key: &[u8], packed: &[u8]) -> Result<Vec<u8>, Error> {
    match packed {
        [PLAIN, value @ ..] => Ok(value.to_vec()),
        [COMPRESSED, block @ ..] => {
            let (len, _) = block.split_first_chunk().ok_or_else(|| bad_row(key, "it is too short"))?;
            // So that a damaged length does not take all memory.
            if u32::from_le_bytes(*len) as usize > VALUE_BYTES_MAX {
                return Err(bad_row(key, "it is too long"));
            }
            lz4_flex::block::decompress_size_prepended(block).map_err(|_| bad_row(key, "it cannot be decompressed"))
        }
        _ => Err(bad_row(key, "it does not start like a row")),
    }
}

fn row_key(key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(key.len() + 3);
    stored.push(ROWS);
    stored.extend_from_slice(key);
    stored
}

fn segment_key(key: &[u8], number: u16) -> Vec<u8> {
    let mut stored = Vec::with_capacity(key.len() + 3);
    stored.push(SEGMENTS);
    stored.extend_from_slice(key);
    stored.extend_from_slice(&number.to_be_bytes());
    stored
}

/// How many segments a row has, and the length of what is in them; `None` if it stands in one piece.
fn segmented(stored: &[u8]) -> Option<(u16, usize)> {
    match *stored {
        [SEGMENTED, s0, s1, l0, l1, l2, l3] => {
            Some((u16::from_be_bytes([s0, s1]), u32::from_be_bytes([l0, l1, l2, l3]) as usize))
        }
        _ => None,
    }
}

fn bad_row(key: &[u8], why: &'static str) -> Error {
    Error::Row { key: key.escape_ascii().to_string(), why }
}

/// The value of the row at `key`, of which sled holds `stored`.
fn assemble(db: &sled::Db, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, Error> {
    let Some((segments, len)) = segmented(stored) else { return unpack(key, stored) };
    let mut packed = Vec::with_capacity(len.min(VALUE_BYTES_MAX));
    for number in 0..segments {
        let segment =
            db.get(segment_key(key, number))?.ok_or_else(|| bad_row(key, "one of its segments is missing"))?;
        packed.extend_from_slice(&segment);
    }
    if packed.len() != len {
        return Err(bad_row(key, "its segments do not add up to its length"));
    }
    unpack(key, &packed)
}

/// The number of rows and the sum of their hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    rows: u64,
    hash: u128,
}

impl Tally {
    fn of(checkpoint: &Checkpoint) -> Self {
        Self { rows: checkpoint.rows, hash: checkpoint.hash }
    }

    fn at(self, lsn: Lsn) -> Checkpoint {
        Checkpoint { lsn, rows: self.rows, hash: self.hash }
    }

    /// Takes in a row; `scratch` is for its memory.
    pub fn add(&mut self, key: &[u8], value: &[u8], scratch: &mut Vec<u8>) {
        self.rows = self.rows.wrapping_add(1);
        self.hash = self.hash.wrapping_add(row_hash(key, value, scratch));
    }

    fn subtract(&mut self, key: &[u8], value: &[u8], scratch: &mut Vec<u8>) {
        self.rows = self.rows.wrapping_sub(1);
        self.hash = self.hash.wrapping_sub(row_hash(key, value, scratch));
    }
}

/// How rows are encoded. To be raised whenever the encoding of any row changes: it goes into each row's hash, so rows of
/// another version are never those of the manifest, and are built again from the journal.
const ROWS_VERSION: u32 = 3;

fn row_hash(key: &[u8], value: &[u8], scratch: &mut Vec<u8>) -> u128 {
    scratch.clear();
    scratch.extend_from_slice(&ROWS_VERSION.to_le_bytes());
    // Keys are at most KEY_BYTES_MAX long.
    scratch.extend_from_slice(&(key.len() as u32).to_le_bytes());
    scratch.extend_from_slice(key);
    scratch.extend_from_slice(value);
    xxh3_128(scratch)
}

/// Rows in sled. Values above 4 KiB are split there, which nobody sees from outside.
pub struct SledRows {
    /// `None` only while it is dropped.
    db: Option<sled::Db>,
    folder: PathBuf,
    /// Our own descriptor of sled's log.
    log: fs::File,
    /// Taken by readers, and by a batch while it comes in: a value in segments takes several reads.
    gate: RwLock<()>,
    failed: AtomicBool,
}

impl SledRows {
    /// Opens sled in `folder`, or makes an empty one, with a cache of so many bytes. Its files and their names survive a
    /// power cut when this returns.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] if another process has it open; otherwise what sled and the file system report.
    pub fn open(folder: &Path, cache_bytes: u64) -> Result<Self, Error> {
        let db = open_sled(folder, cache_bytes)?;
        let log_path = folder.join("db");
        let log = fs::File::open(&log_path).map_err(at(&log_path))?;
        let rows = Self { db: Some(db), folder: folder.to_owned(), log, gate: RwLock::default(), failed: false.into() };
        rows.flush()?;
        rows.sync_names()?;
        Ok(rows)
    }

    /// As [`StoredRows::tally`]; also makes sure that there is no segment without a row. One thread reads sled, and another
    /// one decompresses and hashes.
    fn count(&self) -> Result<Tally, Error> {
        self.guarded(|db| {
            thread::scope(|scope| {
                let (sender, chunks) = mpsc::sync_channel::<Vec<_>>(TALLY_AHEAD);
                let adding = scope.spawn(move || add_up(db, &chunks));
                let mut chunk = Vec::with_capacity(PAGE_ROWS);
                for row in db.range::<&[u8], _>(..ROWS_END) {
                    chunk.push(row?);
                    // Nobody takes it if a row was bad, which is told below.
                    if chunk.len() == PAGE_ROWS && sender.send(std::mem::take(&mut chunk)).is_err() {
                        break;
                    }
                }
                let _ = sender.send(chunk);
                drop(sender);
                let (tally, segments_owned) = adding.join().unwrap_or_else(|panic| resume_unwind(panic))?;
                let mut segments_found = 0;
                for segment in db.range::<&[u8], _>(ROWS_END..) {
                    let (stored_key, _) = segment?;
                    if stored_key.as_ref() >= SEGMENTS_END {
                        return Err(bad_row(&stored_key, "it is neither a row nor a segment"));
                    }
                    segments_found += 1;
                }
                if segments_found == segments_owned {
                    Ok(tally)
                } else {
                    Err(bad_row(b"", "there are segments without a row"))
                }
            })
        })
    }

    /// Runs `call`, unless an earlier one failed; a panic becomes an error.
    fn guarded<T>(&self, call: impl FnOnce(&sled::Db) -> Result<T, Error>) -> Result<T, Error> {
        let db = self.db.as_ref().filter(|_| !self.failed.load(Ordering::Acquire)).ok_or(Error::Failed)?;
        let result = catch(|| call(db));
        if result.is_err() {
            self.failed.store(true, Ordering::Release);
        }
        result
    }

    /// Syncs what sled writes once and never syncs, and the names of its files.
    fn sync_names(&self) -> Result<(), Error> {
        let parent = self.folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        for path in [&self.folder.join("conf"), &self.folder.join("blobs"), &self.folder, parent] {
            fs::File::open(path).and_then(|file| file.sync_all()).map_err(at(path))?;
        }
        Ok(())
    }

    /// Syncs blob files, of which there are hardly ever any.
    fn sync_blobs(&self) -> Result<(), Error> {
        let blobs = self.folder.join("blobs");
        let mut any = false;
        for entry in fs::read_dir(&blobs).map_err(at(&blobs))? {
            let path = entry.map_err(at(&blobs))?.path();
            match fs::File::open(&path).and_then(|file| file.sync_data()) {
                // sled removes those it does not need any more on threads of its own.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                result => result.map_err(at(&path))?,
            }
            any = true;
        }
        if any { fs::File::open(&blobs).and_then(|dir| dir.sync_all()).map_err(at(&blobs)) } else { Ok(()) }
    }
}

impl Rows for SledRows {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        check_key(key)?;
        self.guarded(|db| {
            let _gate = self.gate.read();
            db.get(row_key(key))?.map(|stored| assemble(db, key, &stored)).transpose()
        })
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Error> {
        if from >= to {
            return Ok(Vec::new());
        }
        self.guarded(|db| {
            let _gate = self.gate.read();
            let mut rows = Vec::new();
            for row in db.range(row_key(from)..row_key(to)).take(limit) {
                let (stored_key, stored) = row?;
                let key = split_row_key(&stored_key)?;
                rows.push((key.to_vec(), assemble(db, key, &stored)?));
            }
            Ok(rows)
        })
    }

    /// Readers wait while the batch comes in.
    fn apply(&self, changes: &[Change]) -> Result<(), Error> {
        check_changes(changes)?;
        self.guarded(|db| {
            let mut batch = sled::Batch::default();
            for (key, value) in changes {
                stage(db, key, value.as_deref(), &mut batch)?;
            }
            let _gate = self.gate.write();
            Ok(db.apply_batch(batch)?)
        })
    }

    fn flush(&self) -> Result<(), Error> {
        self.guarded(|db| {
            db.flush()?;
            self.sync_blobs()?;
            self.log.sync_data().map_err(at(&self.folder.join("db")))
        })
    }
}

impl StoredRows for SledRows {
    fn tally(&self) -> Result<Tally, Error> {
        self.count()
    }
}

impl Drop for SledRows {
    fn drop(&mut self) {
        let db = self.db.take();
        if let Err(error) = catch(|| {
            drop(db);
            Ok(())
        }) {
            warn!(%error, "sled failed while it was closed");
        }
    }
}

impl fmt::Debug for SledRows {
    // sled's own prints every row.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledRows").field("folder", &self.folder).field("failed", &self.failed).finish_non_exhaustive()
    }
}

/// The tally of rows as they stand in sled, and how many segments they have.
fn add_up(db: &sled::Db, chunks: &mpsc::Receiver<Vec<(sled::IVec, sled::IVec)>>) -> Result<(Tally, usize), Error> {
    let (mut tally, mut segments_owned, mut scratch) = (Tally::default(), 0, Vec::new());
    for (stored_key, stored) in chunks.iter().flatten() {
        let key = split_row_key(&stored_key)?;
        segments_owned += segmented(&stored).map_or(0, |(segments, _)| usize::from(segments));
        tally.add(key, &assemble(db, key, &stored)?, &mut scratch);
    }
    Ok((tally, segments_owned))
}

/// The caller's key, from a key in sled.
fn split_row_key(stored_key: &[u8]) -> Result<&[u8], Error> {
    match stored_key {
        [ROWS, key @ ..] => Ok(key),
        _ => Err(bad_row(stored_key, "it does not have the key of a row")),
    }
}

/// Adds one change to `batch`, with the segments that it brings and those that it leaves over.
fn stage(db: &sled::Db, key: &[u8], value: Option<&[u8]>, batch: &mut sled::Batch) -> Result<(), Error> {
    let row_key = row_key(key);
    let segments_old = db.get(&row_key)?.and_then(|old| segmented(&old)).map_or(0, |(segments, _)| segments);
    let mut segments_new: u16 = 0;
    match value.map(pack) {
        None => batch.remove(row_key),
        Some(packed) if packed.len() <= STORED_BYTES_MAX => batch.insert(row_key, packed),
        Some(packed) => {
            for segment in packed.chunks(STORED_BYTES_MAX) {
                batch.insert(segment_key(key, segments_new), segment);
                // VALUE_BYTES_MAX makes 4,097 of them.
                segments_new += 1;
            }
            let mut stored = vec![SEGMENTED];
            stored.extend_from_slice(&segments_new.to_be_bytes());
            stored.extend_from_slice(&(packed.len() as u32).to_be_bytes());
            batch.insert(row_key, stored);
        }
    }
    for number in segments_new..segments_old {
        batch.remove(segment_key(key, number));
    }
    Ok(())
}

fn open_sled(folder: &Path, cache_bytes: u64) -> Result<sled::Db, Error> {
    let started = Instant::now();
    loop {
        let config = sled::Config::new().path(folder).cache_capacity(cache_bytes).flush_every_ms(None);
        match catch(|| Ok(config.open()?)) {
            Err(Error::Sled(sled::Error::Io(e))) if e.to_string().contains("could not acquire lock") => {
                if started.elapsed() > LOCK_WAIT {
                    return Err(Error::InUse(folder.to_owned()));
                }
                thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

fn catch<T>(call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    // What a panic leaves half done is never used again: the caller marks it as failed.
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| Err(Error::Panicked(panic_text(payload.as_ref()))))
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied());
    // sled puts the whole tree into some of its messages.
    text.unwrap_or("no message").chars().take(PANIC_CHARS_MAX).collect()
}

/// Rows that are read at once where all are wanted.
const PAGE_ROWS: usize = 1_024;

/// So many times as many may be read before they are hashed.
const TALLY_AHEAD: usize = 8;

/// sled's cache where rows are read once.
const CHECK_CACHE_BYTES: u64 = 128 << 20;

/// What a row comes to by a change: given its key, what it is, and what the change says; or why it cannot be had.
pub type Merge = fn(&[u8], &[u8], Vec<u8>) -> Result<Vec<u8>, &'static str>;

/// What [`StateStore::open_on`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Replay begins after it.
    pub lsn: Lsn,
    /// Why the rows that were there are not used; `None` if they are, or if there was nothing.
    pub rebuilt_because: Option<String>,
}

/// What [`StateStore::check`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// The rows are those of a checkpoint in the manifest.
    Agrees(Checkpoint),
    /// The next start will set the rows aside, and rebuild them from the journal.
    Disagrees(String),
    /// The next start will build the rows from the journal, for this is not there.
    Missing(&'static str),
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agrees(found) => write!(f, "{} rows agree with the checkpoint at lsn {}", found.rows, found.lsn),
            Self::Disagrees(why) => write!(f, "{why}; the next start rebuilds the state from the journal"),
            Self::Missing(what) => write!(f, "there is no {what}; the next start builds the state from the journal"),
        }
    }
}

/// The rows and the lsn they belong to.
pub struct StateStore {
    rows: Box<dyn StoredRows>,
    /// `None` if nothing outlives the process.
    home: Option<Home>,
    manifest: Mutex<Manifest>,
    merge: Merge,
    failed: AtomicBool,
}

/// Where the manifest is.
struct Home {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
}

impl StateStore {
    /// As [`open_on`](Self::open_on), with sled in the data directory.
    #[cfg(test)]
    pub fn open(dir: &Path, disk: Arc<dyn Disk>, merge: Merge) -> Result<(Self, Opened), Error> {
        let backing = SledFolder { dir: dir.to_owned(), disk: disk.clone(), cache_bytes: CHECK_CACHE_BYTES };
        Self::open_on(&backing, dir, disk, merge)
    }

    /// Opens the state in the data directory `dir`: `manifest`, and the rows behind `backing`. Reads all rows. What does not
    /// agree with the manifest, or cannot be opened, is set aside, and the store starts empty at lsn 0.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`]; a manifest of a later release; otherwise what the file system reports.
    pub fn open_on(
        backing: &dyn Backing,
        dir: &Path,
        disk: Arc<dyn Disk>,
        merge: Merge,
    ) -> Result<(Self, Opened), Error> {
        disk.create_dir_all(dir).map_err(at(dir))?;
        let home = Home { dir: dir.to_owned(), disk };
        let (manifest, found) = match read_manifest(home.disk.as_ref(), dir)? {
            Ok(Some(manifest)) => (Some(manifest), find(backing, &manifest)?),
            Ok(None) if backing.exists() => (None, Found::Nothing(Some("there is no manifest".to_owned()))),
            Ok(None) => (None, Found::Nothing(None)),
            Err(damage) => (None, Found::Nothing(Some(damage))),
        };
        match found {
            Found::Rows(rows, checkpoint) => {
                let mut manifest = manifest.unwrap_or(NEW);
                if manifest.pending.is_some() {
                    // Opening has synced the rows, so they are settled now.
                    manifest = Manifest { floor: manifest.highest_lsn(), settled: checkpoint, pending: None };
                    manifest.write(home.disk.as_ref(), dir)?;
                }
                info!(lsn = %checkpoint.lsn, rows = checkpoint.rows, "state opened");
                Ok((
                    Self::new(rows, Some(home), manifest, merge),
                    Opened { lsn: checkpoint.lsn, rebuilt_because: None },
                ))
            }
            Found::Nothing(rebuilt_because) => {
                if let Some(why) = &rebuilt_because {
                    warn!(why, "state set aside, to be rebuilt from the journal");
                }
                backing.set_aside()?;
                // Before there is a folder, so that a crash in between is taken for what it is.
                let manifest = Manifest { floor: manifest.map_or(Lsn(0), |old| old.highest_lsn()), ..NEW };
                manifest.write(home.disk.as_ref(), dir)?;
                let rows = backing.open()?;
                Ok((Self::new(rows, Some(home), manifest, merge), Opened { lsn: Lsn(0), rebuilt_because }))
            }
        }
    }

    /// What [`floor`](Self::floor) would be, for a start that leaves the state alone.
    ///
    /// # Errors
    ///
    /// A manifest of a later release; otherwise what the file system reports.
    pub fn floor_of(dir: &Path, disk: &dyn Disk) -> Result<Lsn, Error> {
        match read_manifest(disk, dir)? {
            Ok(manifest) => Ok(manifest.map_or(Lsn(0), |manifest| manifest.highest_lsn())),
            Err(damage) => {
                warn!(why = damage, "how far the journal had come is not known");
                Ok(Lsn(0))
            }
        }
    }

    /// An empty store that is lost with the process.
    #[must_use]
    pub fn in_memory(merge: Merge) -> Self {
        Self::new(Box::new(MemoryRows::default()), None, NEW, merge)
    }

    fn new(rows: Box<dyn StoredRows>, home: Option<Home>, manifest: Manifest, merge: Merge) -> Self {
        Self { rows, home, manifest: Mutex::new(manifest), merge, failed: false.into() }
    }

    /// The highest lsn that any manifest in this directory named, also of rows that are lost; 0 if that is not known. The
    /// journal was durable up to there.
    #[must_use]
    pub fn floor(&self) -> Lsn {
        self.manifest.lock().highest_lsn()
    }

    /// The last checkpoint: its lsn, and the number and hash of the rows.
    #[must_use]
    pub fn settled(&self) -> Checkpoint {
        self.manifest.lock().settled
    }

    /// The value at `key`.
    ///
    /// # Errors
    ///
    /// As [`Rows::get`]; after a failure [`Error::Failed`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.guarded(|| self.rows.get(key))
    }

    /// The first `limit` rows, at most, with keys from `from` on and below `to`.
    ///
    /// # Errors
    ///
    /// As [`Rows::scan`]; after a failure [`Error::Failed`].
    pub fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Error> {
        self.guarded(|| self.rows.scan(from, to, limit))
    }

    /// Hands `take` every row with a key from `from` on and below `to`, in the order of the keys.
    ///
    /// # Errors
    ///
    /// As [`Rows::scan`]; after a failure [`Error::Failed`].
    pub fn each(&self, from: &[u8], to: &[u8], mut take: impl FnMut(&[u8], Vec<u8>)) -> Result<(), Error> {
        let mut from = from.to_vec();
        loop {
            let page = self.scan(&from, to, PAGE_ROWS)?;
            let full = page.len() == PAGE_ROWS;
            if let Some((last, _)) = page.last() {
                from = [last.as_slice(), &[0]].concat();
            }
            for (key, row) in page {
                take(&key, row);
            }
            if !full {
                return Ok(());
            }
        }
    }

    /// Makes the changes, in strictly ascending order of keys, that lead from the last checkpoint to `lsn`, which must be
    /// durable in the journal. Durable when it returns; after a crash before that, a start finds the last checkpoint or this one.
    ///
    /// All changes are one batch, during which readers wait: the caller bounds its size.
    ///
    /// # Errors
    ///
    /// [`Error::Backwards`] and those of [`Rows::apply`] that are the caller's change nothing. All others are final.
    pub fn checkpoint(&self, lsn: Lsn, changes: Vec<Change>) -> Result<(), Error> {
        self.guarded(|| {
            let mut manifest = self.manifest.lock();
            let settled = manifest.settled;
            if lsn < settled.lsn {
                return Err(Error::Backwards { lsn, settled: settled.lsn });
            }
            check_changes(&changes)?;
            let (changes, tally) = self.merged(changes, Tally::of(&settled))?;
            let (next, floor) = (tally.at(lsn), manifest.floor);
            if !changes.is_empty() {
                self.write_manifest(&mut manifest, Manifest { floor, settled, pending: Some(next) })?;
                self.rows.apply(&changes)?;
                self.rows.flush()?;
            }
            self.write_manifest(&mut manifest, Manifest { floor, settled: next, pending: None })
        })
    }

    /// Compares the state in the data directory `dir` with its manifest, and changes neither: opening sled writes to its
    /// files, so they are copied to `scratch`, which is made, must not be there yet, and is removed.
    ///
    /// # Errors
    ///
    /// A manifest of a later release, and what the file system reports.
    pub fn check(dir: &Path, disk: &dyn Disk, scratch: &Path) -> Result<Check, Error> {
        let folder = dir.join(FOLDER);
        let manifest = match read_manifest(disk, dir)? {
            Ok(Some(manifest)) => manifest,
            Ok(None) => return Ok(Check::Missing("manifest")),
            Err(damage) => return Ok(Check::Disagrees(damage)),
        };
        if !folder.exists() {
            return Ok(Check::Missing("state folder"));
        }
        if !folder.is_dir() {
            return Ok(Check::Disagrees(format!("{} is not a folder", folder.display())));
        }
        // Sinks' secrets are in it, and others may look around in what is often the system's directory for such things.
        fs::DirBuilder::new().mode(0o700).create(scratch).map_err(at(scratch))?;
        let copied = SledFolder { dir: scratch.to_owned(), disk: Arc::new(RealDisk), cache_bytes: CHECK_CACHE_BYTES };
        let found = copy(&folder, &scratch.join(FOLDER)).and_then(|()| find(&copied, &manifest));
        let verdict = found.map(|found| match found {
            Found::Rows(_, checkpoint) => Check::Agrees(checkpoint),
            Found::Nothing(why) => Check::Disagrees(why.unwrap_or_default()),
        });
        fs::remove_dir_all(scratch).map_err(at(scratch))?;
        verdict
    }

    /// What the rows that change come to, without those that stay what they are, and the tally then.
    fn merged(&self, changes: Vec<Change>, mut tally: Tally) -> Result<(Vec<Change>, Tally), Error> {
        let mut scratch = Vec::new();
        let mut merged = Vec::with_capacity(changes.len());
        for (key, change) in changes {
            let old = self.rows.get(&key)?;
            let new = match (&old, change) {
                (Some(old), Some(new)) => Some((self.merge)(&key, old, new).map_err(|why| bad_row(&key, why))?),
                (_, change) => change,
            };
            if old == new {
                continue;
            }
            if let Some(old) = old {
                tally.subtract(&key, &old, &mut scratch);
            }
            if let Some(new) = &new {
                tally.add(&key, new, &mut scratch);
            }
            merged.push((key, new));
        }
        Ok((merged, tally))
    }

    fn write_manifest(&self, current: &mut Manifest, new: Manifest) -> Result<(), Error> {
        if let Some(home) = &self.home {
            new.write(home.disk.as_ref(), &home.dir)?;
        }
        *current = new;
        Ok(())
    }

    /// Runs `call`, unless an earlier one failed.
    fn guarded<T>(&self, call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        if self.failed.load(Ordering::Acquire) {
            return Err(Error::Failed);
        }
        let result = call();
        if result.as_ref().is_err_and(|error| !error.is_callers()) {
            self.failed.store(true, Ordering::Release);
        }
        result
    }
}

impl fmt::Debug for StateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateStore")
            .field("manifest", &self.manifest)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

/// The manifest of a store without rows.
const NEW: Manifest = Manifest { floor: Lsn(0), settled: Checkpoint::EMPTY, pending: None };

/// The manifest, if there is one, or what is wrong with it.
fn read_manifest(disk: &dyn Disk, dir: &Path) -> Result<Result<Option<Manifest>, String>, Error> {
    match Manifest::read(disk, dir) {
        Ok(manifest) => Ok(Ok(manifest)),
        Err(damage @ manifest::Error::Damaged { .. }) => Ok(Err(damage.to_string())),
        Err(error) => Err(error.into()),
    }
}

enum Found {
    /// Rows, and the candidate that they are.
    Rows(Box<dyn StoredRows>, Checkpoint),
    /// No rows to use, and why, if there should have been.
    Nothing(Option<String>),
}

/// Opens the rows of `backing`, reads them all, and compares them with both candidates.
fn find(backing: &dyn Backing, manifest: &Manifest) -> Result<Found, Error> {
    let candidates = [manifest.pending, Some(manifest.settled)];
    let candidate = |tally: Tally| candidates.into_iter().flatten().find(|candidate| Tally::of(candidate) == tally);
    if !backing.exists() {
        let why = candidate(Tally::default()).is_none().then(|| "the state folder is missing".to_owned());
        return Ok(Found::Nothing(why));
    }
    let read = backing.open().and_then(|rows| rows.tally().map(|tally| (rows, tally)));
    let (rows, tally) = match read {
        Ok(read) => read,
        Err(error) if error.is_damage() => {
            return Ok(Found::Nothing(Some(format!("{}: {error}", backing.place().display()))));
        }
        Err(error) => return Err(error),
    };
    Ok(candidate(tally).map_or_else(
        || {
            Found::Nothing(Some(format!(
                "{}: its {} rows (hash {:032x}) are not those of the manifest (lsn {}, {} rows, hash {:032x})",
                backing.place().display(),
                tally.rows,
                tally.hash,
                manifest.settled.lsn,
                manifest.settled.rows,
                manifest.settled.hash
            )))
        },
        |checkpoint| Found::Rows(rows, checkpoint),
    ))
}

/// sled's folder in a data directory.
pub struct SledFolder {
    /// The data directory.
    pub dir: PathBuf,
    /// What it is renamed with.
    pub disk: Arc<dyn Disk>,
    /// Size of sled's page cache, in bytes.
    pub cache_bytes: u64,
}

impl Backing for SledFolder {
    fn place(&self) -> PathBuf {
        self.dir.join(FOLDER)
    }

    fn exists(&self) -> bool {
        self.place().exists()
    }

    fn open(&self) -> Result<Box<dyn StoredRows>, Error> {
        Ok(Box::new(SledRows::open(&self.place(), self.cache_bytes)?))
    }

    /// Renames the state folder, if there is one, and removes those renamed before.
    fn set_aside(&self) -> Result<(), Error> {
        let folder = self.place();
        if !folder.exists() {
            return Ok(());
        }
        let names = self.disk.list(&self.dir).map_err(at(&self.dir))?;
        let number = |name: &String| name.strip_prefix(SET_ASIDE)?.parse::<u64>().ok();
        let next = names.iter().filter_map(number).max().map_or(1, |last| last.saturating_add(1));
        let aside = self.dir.join(format!("{SET_ASIDE}{next}"));
        self.disk.rename(&folder, &aside).map_err(at(&folder))?;
        self.disk.sync_dir(&self.dir).map_err(at(&self.dir))?;
        for old in names.iter().filter(|name| number(name).is_some()) {
            let old = self.dir.join(old);
            let removed = if old.is_dir() { fs::remove_dir_all(&old) } else { fs::remove_file(&old) };
            removed.map_err(at(&old))?;
        }
        Ok(())
    }
}

/// Copies a folder and all below it.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    fs::create_dir(to).map_err(at(to))?;
    for entry in fs::read_dir(from).map_err(at(from))? {
        let path = entry.map_err(at(from))?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, &target).map_err(at(&path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::disk::{File, Open};

    type Model = BTreeMap<Vec<u8>, Vec<u8>>;
    type CallersFault = (Lsn, Vec<Change>, fn(&Error) -> bool);

    const CACHE_BYTES: u64 = 8 << 20;

    /// Changes replace rows.
    const REPLACE: Merge = |_, _, new| Ok(new);

    fn open(dir: &Path) -> (StateStore, Opened) {
        StateStore::open(dir, Arc::new(RealDisk), REPLACE).unwrap()
    }

    fn change_model(model: &mut Model, changes: &[Change]) {
        for (key, value) in changes {
            match value {
                Some(value) => model.insert(key.clone(), value.clone()),
                None => model.remove(key),
            };
        }
    }

    fn all_rows(store: &StateStore) -> Model {
        store.scan(&[0], &[255; KEY_BYTES_MAX], usize::MAX).unwrap().into_iter().collect()
    }

    /// Bytes that cannot be compressed.
    fn noise(seed: u64, len: usize) -> Vec<u8> {
        (0..len as u64).map(|i| xxhash_rust::xxh3::xxh3_64_with_seed(&i.to_le_bytes(), seed) as u8).collect()
    }

    /// `count` rows of about 120 bytes, and one in 50 in segments; different for each `round`.
    fn rows(round: u64, count: u64) -> Vec<Change> {
        (0..count)
            .map(|n| {
                let len = if n % 50 == 49 { 5_000 + 3_000 * (round % 3) } else { 110 + n % 20 };
                (format!("reservation/{n:06}").into_bytes(), Some(noise(round << 32 | n, len as usize)))
            })
            .collect()
    }

    fn asides(dir: &Path) -> Vec<String> {
        RealDisk.list(dir).unwrap().into_iter().filter(|name| name.starts_with(SET_ASIDE)).collect()
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(vec![0, 1, b'a', 253, 254, 255]), 1..8)
    }

    fn value() -> impl Strategy<Value = Option<Vec<u8>>> {
        let len = prop::sample::select(vec![0, 1, 100, 4_094, 4_095, 4_096, 4_097, 8_191, 8_192, 8_193, 20_000]);
        let value = (len, any::<u8>(), any::<bool>());
        let value =
            value.prop_map(|(len, byte, repeats)| if repeats { vec![byte; len] } else { noise(byte.into(), len) });
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
    fn what_was_checkpointed_is_there_again() {
        let dir = tempfile::tempdir().unwrap();
        let (store, opened) = open(dir.path());
        assert_eq!(opened, Opened { lsn: Lsn(0), rebuilt_because: None });
        let mut model = Model::new();
        for round in 1..=5 {
            let mut changes = rows(round, 100 * round);
            changes.iter_mut().step_by(7).for_each(|(_, value)| *value = None);
            change_model(&mut model, &changes);
            store.checkpoint(Lsn(round * 10), changes).unwrap();
        }
        store.checkpoint(Lsn(60), Vec::new()).unwrap();
        assert_eq!(store.floor(), Lsn(60));
        drop(store);
        let (store, opened) = open(dir.path());
        assert_eq!(opened, Opened { lsn: Lsn(60), rebuilt_because: None });
        assert_eq!((all_rows(&store), store.floor()), (model, Lsn(60)));
    }

    #[test]
    fn a_change_to_what_is_there_already_writes_no_row() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        store.checkpoint(Lsn(1), rows(1, 100)).unwrap();
        let before = fs::read(dir.path().join("state/db")).unwrap();
        store.checkpoint(Lsn(2), rows(1, 100)).unwrap();
        store.checkpoint(Lsn(3), vec![(b"not there".to_vec(), None)]).unwrap();
        assert!(before == fs::read(dir.path().join("state/db")).unwrap());
        assert_eq!(store.floor(), Lsn(3));
    }

    #[test]
    fn what_is_the_callers_fault_changes_nothing_and_is_not_final() {
        let dir = tempfile::tempdir().unwrap();
        let (on_disk, _) = open(dir.path());
        for store in [on_disk, StateStore::in_memory(REPLACE)] {
            store.checkpoint(Lsn(5), vec![(vec![1], Some(vec![1]))]).unwrap();
            let table: [CallersFault; 6] = [
                (Lsn(4), vec![], |e| matches!(e, Error::Backwards { .. })),
                (Lsn(6), vec![(vec![], None)], |e| matches!(e, Error::KeyLength(0))),
                (Lsn(6), vec![(vec![0; KEY_BYTES_MAX + 1], None)], |e| matches!(e, Error::KeyLength(601))),
                (Lsn(6), vec![(vec![0], Some(vec![0; VALUE_BYTES_MAX + 1]))], |e| matches!(e, Error::ValueLength(_))),
                (Lsn(6), vec![(vec![2], None), (vec![1], None)], |e| matches!(e, Error::Order)),
                (Lsn(6), vec![(vec![1], None), (vec![1], Some(vec![]))], |e| matches!(e, Error::Order)),
            ];
            for (lsn, changes, expected) in table {
                let error = store.checkpoint(lsn, changes).unwrap_err();
                assert!(expected(&error), "{error}");
            }
            assert!(matches!(store.get(&[]), Err(Error::KeyLength(0))));
            store.checkpoint(Lsn(6), vec![(vec![0; KEY_BYTES_MAX], Some(noise(7, VALUE_BYTES_MAX)))]).unwrap();
            assert_eq!(all_rows(&store).len(), 2);
        }
    }

    /// What has to be in a copy of the data directory.
    struct Copy {
        dir: PathBuf,
        /// The newest lsn that a checkpoint was begun for, and the newest that one returned for.
        begun: u64,
        returned: u64,
        /// Whether sled had nothing unwritten, so that nothing may be lost.
        at_rest: bool,
    }

    /// Copies the data directory at each step of a checkpoint.
    struct Copier {
        dir: PathBuf,
        copies: PathBuf,
        state: Mutex<(u64, u64, Vec<Copy>)>,
    }

    impl Copier {
        fn take(&self, at_rest: bool) {
            let mut state = self.state.lock();
            let (begun, returned, dir) = (state.0, state.1, self.copies.join(state.2.len().to_string()));
            copy(&self.dir, &dir).unwrap();
            state.2.push(Copy { dir, begun, returned, at_rest });
        }
    }

    impl fmt::Debug for Copier {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Copier")
        }
    }

    #[derive(Debug)]
    struct CopyingDisk(Arc<Copier>);

    impl Disk for CopyingDisk {
        fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
            let file = RealDisk.open(path, how);
            self.0.take(true);
            file
        }
        fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
            RealDisk.list(dir)
        }
        fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
            RealDisk.create_dir_all(dir)
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.0.take(true);
            RealDisk.rename(from, to)?;
            self.0.take(true);
            Ok(())
        }
        fn remove(&self, path: &Path) -> io::Result<()> {
            RealDisk.remove(path)
        }
        fn sync_dir(&self, dir: &Path) -> io::Result<()> {
            RealDisk.sync_dir(dir)
        }
        fn available_bytes(&self, dir: &Path) -> io::Result<u64> {
            RealDisk.available_bytes(dir)
        }
    }

    struct CopyingRows(Box<dyn StoredRows>, Arc<Copier>);

    impl StoredRows for CopyingRows {
        fn tally(&self) -> Result<Tally, Error> {
            self.0.tally()
        }
    }

    impl Rows for CopyingRows {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
            self.0.get(key)
        }
        fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Error> {
            self.0.scan(from, to, limit)
        }
        fn apply(&self, changes: &[Change]) -> Result<(), Error> {
            // Copies while the batch comes in, too.
            thread::scope(|scope| {
                let applying = scope.spawn(|| self.0.apply(changes));
                while !applying.is_finished() {
                    self.1.take(false);
                }
                applying.join().unwrap()
            })?;
            self.1.take(false);
            Ok(())
        }
        fn flush(&self) -> Result<(), Error> {
            self.0.flush()?;
            self.1.take(true);
            Ok(())
        }
    }

    #[test]
    fn a_crash_at_any_step_leaves_one_of_two_checkpoints() {
        let dir = tempfile::tempdir().unwrap();
        let copies = tempfile::tempdir().unwrap();
        let copier = Arc::new(Copier {
            dir: dir.path().to_owned(),
            copies: copies.path().to_owned(),
            state: Mutex::new((0, 0, Vec::new())),
        });
        let (mut store, _) = StateStore::open(dir.path(), Arc::new(CopyingDisk(copier.clone())), REPLACE).unwrap();
        store.rows = Box::new(CopyingRows(store.rows, copier.clone()));
        let mut models = vec![Model::new()];
        for round in 1..=4 {
            let mut changes = rows(round, 1_500);
            changes.iter_mut().skip(round as usize).step_by(11).for_each(|(_, value)| *value = None);
            let mut model = models[models.len() - 1].clone();
            change_model(&mut model, &changes);
            models.push(model);
            copier.state.lock().0 = round;
            store.checkpoint(Lsn(round), changes).unwrap();
            copier.state.lock().1 = round;
            copier.take(true);
        }
        let (_, _, taken) = std::mem::take(&mut *copier.state.lock());
        let mut pending_found = 0;
        let mut rebuilt = 0;
        for (n, copy) in taken.iter().enumerate() {
            let (store, opened) = open(&copy.dir);
            let lsn = opened.lsn.0;
            assert!(all_rows(&store) == models[lsn as usize], "copy {n}: {opened:?}");
            assert!((copy.returned..=copy.begun).contains(&store.floor().0), "copy {n}: {:?}", store.floor());
            match opened.rebuilt_because {
                Some(why) => {
                    assert!(lsn == 0 && !copy.at_rest, "copy {n}: {why}");
                    rebuilt += 1;
                }
                None => assert!((copy.returned..=copy.begun).contains(&lsn), "copy {n} is at lsn {lsn}"),
            }
            pending_found += u64::from(lsn > copy.returned);
            // It goes on from there, and what it found is settled.
            store.checkpoint(Lsn(lsn + 100), rows(9, 50)).unwrap();
            drop(store);
            assert_eq!(open(&copy.dir).1, Opened { lsn: Lsn(lsn + 100), rebuilt_because: None }, "copy {n}");
            fs::remove_dir_all(&copy.dir).unwrap();
        }
        println!("{} copies, {pending_found} with the pending rows, {rebuilt} rebuilt", taken.len());
        assert!(pending_found >= 4, "{pending_found} of {}", taken.len());
    }

    /// A data directory with two checkpoints, the second at lsn 2 with these rows.
    fn two_checkpoints(dir: &Path) -> Model {
        let (store, _) = open(dir);
        store.checkpoint(Lsn(1), rows(1, 300)).unwrap();
        store.checkpoint(Lsn(2), rows(2, 200)).unwrap();
        all_rows(&store)
    }

    /// Opens a directory in which something was damaged; whether it was rebuilt.
    fn open_damaged(dir: &Path, model: &Model, what: &str) -> bool {
        let (store, opened) = open(dir);
        match opened.rebuilt_because {
            None => assert!(opened.lsn == Lsn(2) && all_rows(&store) == *model, "{what}: a wrong row went unnoticed"),
            Some(_) => {
                assert_eq!((opened.lsn, store.floor(), all_rows(&store).len()), (Lsn(0), Lsn(2), 0), "{what}");
                assert_eq!(asides(dir), ["state.damaged-1"], "{what}");
            }
        }
        opened.lsn == Lsn(0)
    }

    #[test]
    fn no_damage_to_sleds_files_goes_unnoticed() {
        let original = tempfile::tempdir().unwrap();
        let model = two_checkpoints(original.path());
        let copies = tempfile::tempdir().unwrap();
        let dir = copies.path().join("copy");
        let mut rebuilt = 0;
        let mut tried = 0;
        let folder = original.path().join(FOLDER);
        let files = RealDisk.list(&folder).unwrap().into_iter().filter(|name| name != "blobs");
        for name in files {
            let good = fs::read(folder.join(&name)).unwrap();
            let written = good.iter().rposition(|&byte| byte != 0).unwrap() + 1;
            let step = (written / 150).max(1);
            let flips = (0..written).step_by(step).map(|at| {
                let mut bytes = good.clone();
                bytes[at] ^= 0x41;
                (format!("{name} flipped at {at}"), bytes)
            });
            let cuts = (0..=10).map(|n| (format!("{name} cut to {n} tenths"), good[..written * n / 10].to_vec()));
            for (what, bytes) in flips.chain(cuts) {
                copy(original.path(), &dir).unwrap();
                fs::write(dir.join(FOLDER).join(&name), bytes).unwrap();
                rebuilt += u32::from(open_damaged(&dir, &model, &what));
                tried += 1;
                fs::remove_dir_all(&dir).unwrap();
            }
        }
        println!("{tried} damaged, {rebuilt} of them rebuilt");
        assert!(rebuilt > tried / 4, "{rebuilt} of {tried}");
    }

    #[test]
    fn rows_of_another_time_are_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(FOLDER);
        let (store, _) = open(dir.path());
        store.checkpoint(Lsn(1), rows(1, 300)).unwrap();
        drop(store);
        let old = dir.path().join("old");
        copy(&folder, &old).unwrap();
        let model = two_checkpoints(dir.path());
        fs::remove_dir_all(&folder).unwrap();
        fs::rename(&old, &folder).unwrap();
        assert!(open_damaged(dir.path(), &model, "an older folder"));
    }

    #[test]
    fn a_deleted_folder_is_rebuilt_and_the_floor_stays() {
        let dir = tempfile::tempdir().unwrap();
        two_checkpoints(dir.path());
        fs::remove_dir_all(dir.path().join(FOLDER)).unwrap();
        let (store, opened) = open(dir.path());
        assert_eq!(opened, Opened { lsn: Lsn(0), rebuilt_because: Some("the state folder is missing".to_owned()) });
        assert_eq!(store.floor(), Lsn(2));
        store.checkpoint(Lsn(1), rows(1, 300)).unwrap();
        drop(store);
        let (store, opened) = open(dir.path());
        assert_eq!((opened.lsn, opened.rebuilt_because, store.floor()), (Lsn(1), None, Lsn(2)));
    }

    #[test]
    fn without_its_manifest_the_state_is_rebuilt_and_one_old_folder_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = dir.path().join("manifest");
        let damages: [fn(&Path); 2] =
            [|path| fs::write(path, b"nonsense").unwrap(), |path| fs::remove_file(path).unwrap()];
        for (n, (damage, why)) in damages.into_iter().zip(["CRC", "no manifest"]).enumerate() {
            two_checkpoints(dir.path());
            damage(&manifest);
            let (store, opened) = open(dir.path());
            assert!(opened.rebuilt_because.as_ref().is_some_and(|text| text.contains(why)), "{opened:?}");
            assert_eq!((opened.lsn, store.floor()), (Lsn(0), Lsn(0)));
            assert_eq!(asides(dir.path()), [format!("{SET_ASIDE}{}", n + 1)]);
        }
    }

    #[test]
    fn an_open_store_is_not_taken_for_a_damaged_one() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let second = StateStore::open(dir.path(), Arc::new(RealDisk), REPLACE);
        assert!(matches!(second, Err(Error::InUse(_))), "{second:?}");
        store.checkpoint(Lsn(1), rows(1, 10)).unwrap();
        assert_eq!(asides(dir.path()), [""; 0]);
    }

    #[test]
    fn a_failure_is_final() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        store.checkpoint(Lsn(1), rows(1, 10)).unwrap();
        // In the way of the manifest's next version.
        fs::create_dir(dir.path().join("manifest.new")).unwrap();
        assert!(matches!(store.checkpoint(Lsn(2), rows(2, 10)), Err(Error::Manifest(_))));
        fs::remove_dir(dir.path().join("manifest.new")).unwrap();
        assert!(matches!(store.checkpoint(Lsn(2), rows(2, 10)), Err(Error::Failed)));
        assert!(matches!(store.get(b"any"), Err(Error::Failed)));
        assert!(matches!(store.scan(&[0], &[1], 1), Err(Error::Failed)));
        drop(store);
        assert_eq!(open(dir.path()).1, Opened { lsn: Lsn(1), rebuilt_because: None });
    }

    #[test]
    fn a_panic_becomes_a_final_error() {
        let dir = tempfile::tempdir().unwrap();
        let rows = SledRows::open(&dir.path().join(FOLDER), CACHE_BYTES).unwrap();
        let result: Result<(), Error> = rows.guarded(|_| panic!("page {} is gone", 7));
        assert!(matches!(result, Err(Error::Panicked(text)) if text == "page 7 is gone"));
        assert!(matches!(rows.get(b"any"), Err(Error::Failed)));
        assert!(matches!(rows.flush(), Err(Error::Failed)));
    }

    #[test]
    fn a_check_tells_and_changes_nothing() {
        fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
            let names = ["manifest", "state/conf", "state/db"].map(str::to_owned).into_iter();
            let snaps = RealDisk.list(&dir.join(FOLDER)).unwrap_or_default().into_iter();
            let snaps = snaps.filter(|name| name.starts_with("snap.")).map(|name| format!("{FOLDER}/{name}"));
            names.chain(snaps).filter_map(|name| Some((name.clone(), fs::read(dir.join(name)).ok()?))).collect()
        }
        let dir = tempfile::tempdir().unwrap();
        let scratch = tempfile::tempdir().unwrap().path().join("check");
        fs::create_dir_all(scratch.parent().unwrap()).unwrap();
        let check = || {
            let before = files(dir.path());
            let verdict = StateStore::check(dir.path(), &RealDisk, &scratch).unwrap();
            assert!(before == files(dir.path()) && !scratch.exists() && asides(dir.path()).is_empty());
            verdict
        };
        assert_eq!(check(), Check::Missing("manifest"));
        two_checkpoints(dir.path());
        assert_eq!(check().to_string(), "300 rows agree with the checkpoint at lsn 2");
        let db = dir.path().join("state/db");
        let mut bytes = fs::read(&db).unwrap();
        bytes.iter_mut().skip(1_000).step_by(500).for_each(|byte| *byte ^= 1);
        fs::write(&db, bytes).unwrap();
        assert!(matches!(check(), Check::Disagrees(why) if why.contains("state")));
        fs::remove_dir_all(dir.path().join(FOLDER)).unwrap();
        assert_eq!(check(), Check::Missing("state folder"));
        fs::write(dir.path().join("manifest"), "nonsense").unwrap();
        assert!(matches!(check(), Check::Disagrees(why) if why.contains("CRC")));
        fs::remove_dir_all(scratch.parent().unwrap()).unwrap();
    }
}
