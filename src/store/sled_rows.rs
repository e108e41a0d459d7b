//! Rows in sled.
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
//! - `Drop` flushes, calls fsync and panics if that fails. Batches that were applied and not flushed are then on disk, a
//!   part of the pending checkpoint.
//! - The periodic flusher (`flush_every_ms`) only logs a failed fsync, so it is off. Each page that is replaced moves one
//!   more out of a segment that is at most half alive (`PageCache::replace`), with or without it. `Config::mode` is read
//!   nowhere.
//! - The log can still grow well beyond what is alive in it, if many rows are written once and a few again and again.
//! - Going backwards, an iterator looks for the leaf before `[.., b]` at `[.., b - 1, 255, 255, 255, 255]`, and loops a
//!   million times and panics if a key above that lies in between. So nobody goes backwards.
//! - It panics on much of what it finds damaged, and skips the rest in silence. All calls are guarded, and the
//!   comparison with the manifest finds what was skipped.

use std::any::Any;
use std::fmt;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use tracing::warn;

use super::disk::Disk;
use super::rows::{
    Backing, Change, Error, Row, Rows, StoredRows, Tally, VALUE_BYTES_MAX, at, bad_row, check_changes, check_key,
};

/// The longest value that reaches sled, in bytes.
const STORED_BYTES_MAX: usize = 4096;

/// How long to wait for a lock on sled's files that a store dropped just now may still hold: its threads close the file.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// How much of a panic's message is kept, in characters.
const PANIC_CHARS_MAX: usize = 300;

pub(super) const FOLDER: &str = "state";
pub(super) const SET_ASIDE: &str = "state.damaged-";
/// Rows that are read at once.
const CHUNK_ROWS: usize = 1_024;

/// So many times as many may be read before they are hashed.
const TALLY_AHEAD: usize = 8;

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

/// Rows in sled. Values above 4 KiB are split there, which nobody sees from outside.
pub struct SledRows {
    /// `None` only while it is dropped.
    db: Option<sled::Db>,
    folder: PathBuf,
    /// Our own descriptor of sled's log.
    log: fs::File,
    /// Taken by readers, and by a batch while it comes in: a value in segments takes several reads.
    gate: RwLock<()>,
    /// The error that was final.
    failed: OnceLock<String>,
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
        let rows =
            Self { db: Some(db), folder: folder.to_owned(), log, gate: RwLock::default(), failed: OnceLock::new() };
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
                let mut chunk = Vec::with_capacity(CHUNK_ROWS);
                for row in db.range::<&[u8], _>(..ROWS_END) {
                    chunk.push(row?);
                    // Nobody takes it if a row was bad, which is told below.
                    if chunk.len() == CHUNK_ROWS && sender.send(std::mem::take(&mut chunk)).is_err() {
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
        if let Some(why) = self.failed.get() {
            return Err(Error::Failed(why.clone()));
        }
        // It is there until this is dropped.
        let db = self.db.as_ref().ok_or_else(|| Error::Failed("it is closed".into()))?;
        let result = catch(|| call(db));
        if let Err(error) = &result {
            self.failed.get_or_init(|| error.to_string());
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
    let old = db.get(&row_key)?;
    let segments_old = old.as_ref().and_then(|old| segmented(old)).map_or(0, |(segments, _)| segments);
    let mut segments_new: u16 = 0;
    match value.map(pack) {
        // A start that writes again what was written already.
        Some(packed) if old.as_deref() == Some(&*packed) => {}
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
        Ok(self.disk.before_rows(Box::new(SledRows::open(&self.place(), self.cache_bytes)?)))
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
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), Error> {
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
pub(crate) mod tests;
