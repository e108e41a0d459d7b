//! The state: the rows that the journal adds up to, kept in sled, and how they are known to be the right ones.
//!
//! [`StateStore`] is rows ([`Rows`]) and the [manifest]. It keeps the number of rows and the sum (mod
//! 2^128) of XXH3-128 over `key length (u32, little-endian) ‖ key ‖ value` of each: independent of order, and carried
//! from checkpoint to checkpoint by what changed. [`StateStore::open_on`] reads all rows once and compares.
//!
//! A checkpoint is written in many small batches, between which others may read. What it writes stands in a
//! [redo file](redo) before, so that a start can finish it.
//!
//! Architecture invariant: sled is a cache of the journal. Nothing here is the only copy of anything.

use std::fmt;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tracing::{info, warn};

use super::disk::{Directory, Disk, RealDisk};
use super::manifest::{self, Checkpoint, Manifest, Stage};
use super::redo;
pub(crate) use super::rows::bad_row;
pub use super::rows::{Altered, Backing, Error, MemoryRows, Row, Rows, StoredRows, Tally};
use super::rows::{at, check_change};
use super::sled_rows::{self, SledFolder};
use crate::domain::Lsn;

/// Rows that are read at once where all are wanted.
const PAGE_ROWS: usize = 1_024;

/// sled's cache where rows are read once.
const CHECK_CACHE_BYTES: u64 = 128 << 20;

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
    /// The error that was final.
    failed: OnceLock<String>,
}

/// Where manifest and redo file are.
struct Home {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    /// The directory, open: its names must become durable also when nothing else can be opened.
    names: Box<dyn Directory>,
}

impl Home {
    fn put_in_place(&self, stage: Stage) -> Result<(), Error> {
        Ok(Manifest::put_in_place(self.disk.as_ref(), &self.dir, self.names.as_ref(), stage)?)
    }
}

impl StateStore {
    /// As [`open_on`](Self::open_on), with sled in the data directory.
    #[cfg(test)]
    pub fn open(dir: &Path, disk: Arc<dyn Disk>) -> Result<(Self, Opened), Error> {
        let backing = SledFolder { dir: dir.to_owned(), disk: disk.clone(), cache_bytes: CHECK_CACHE_BYTES };
        Self::open_on(&backing, dir, disk)
    }

    /// Opens the state in the data directory `dir`: `manifest`, and the rows behind `backing`. Reads all rows. What does not
    /// agree with the manifest, or cannot be opened, is set aside, and the store starts empty at lsn 0.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`]; a manifest of a later release; otherwise what the file system reports.
    pub fn open_on(backing: &dyn Backing, dir: &Path, disk: Arc<dyn Disk>) -> Result<(Self, Opened), Error> {
        disk.create_dir_all(dir).map_err(at(dir))?;
        let names = disk.open_dir(dir).map_err(at(dir))?;
        let home = Home { dir: dir.to_owned(), disk, names };
        let (manifest, found) = match read_manifest(home.disk.as_ref(), dir)? {
            Ok(Some(manifest)) => {
                // Its name may not be durable, if that is where a checkpoint ended. Neither may rows be written that another one
                // does not announce, nor the redo file be removed that another one wants.
                manifest.write(home.disk.as_ref(), dir)?;
                (Some(manifest), find(backing, dir, home.disk.as_ref(), &manifest)?)
            }
            Ok(None) if backing.exists() => (None, Found::Nothing(Some("there is no manifest".to_owned()))),
            Ok(None) => (None, Found::Nothing(None)),
            Err(damage) => (None, Found::Nothing(Some(damage))),
        };
        match found {
            Found::Rows(rows, checkpoint) => {
                let mut manifest = manifest.unwrap_or(NEW);
                if manifest.pending.is_some() {
                    manifest = Manifest { floor: manifest.highest_lsn(), settled: checkpoint, pending: None };
                    manifest.write(home.disk.as_ref(), dir)?;
                }
                redo::remove(home.disk.as_ref(), dir)?;
                info!(lsn = %checkpoint.lsn, rows = checkpoint.rows, "state opened");
                Ok((Self::new(rows, Some(home), manifest), Opened { lsn: checkpoint.lsn, rebuilt_because: None }))
            }
            Found::Nothing(rebuilt_because) => {
                if let Some(why) = &rebuilt_because {
                    warn!(why, "state set aside, to be rebuilt from the journal");
                }
                backing.set_aside()?;
                // Before there is a folder, so that a crash in between is taken for what it is.
                let manifest = Manifest { floor: manifest.map_or(Lsn(0), |old| old.highest_lsn()), ..NEW };
                manifest.write(home.disk.as_ref(), dir)?;
                redo::remove(home.disk.as_ref(), dir)?;
                let rows = backing.open()?;
                Ok((Self::new(rows, Some(home), manifest), Opened { lsn: Lsn(0), rebuilt_because }))
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
    pub fn in_memory() -> Self {
        Self::new(Box::new(MemoryRows::default()), None, NEW)
    }

    fn new(rows: Box<dyn StoredRows>, home: Option<Home>, manifest: Manifest) -> Self {
        Self { rows, home, manifest: Mutex::new(manifest), failed: OnceLock::new() }
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
    /// Others may read meanwhile, and see some of the changes before the others; those that remove rows come last.
    ///
    /// # Errors
    ///
    /// [`Error::Backwards`], [`Error::Order`], [`Error::KeyLength`], [`Error::ValueLength`] and [`Error::Later`] change nothing.
    /// All others are final, those of `changes` too.
    pub fn checkpoint(&self, lsn: Lsn, changes: impl Iterator<Item = Result<Altered, Error>>) -> Result<(), Error> {
        self.checkpoint_gently(lsn, changes, || ())
    }

    /// As [`checkpoint`](Self::checkpoint); calls `between` after each batch, which may leave the disk to others for a while.
    ///
    /// # Errors
    ///
    /// As [`checkpoint`](Self::checkpoint).
    pub fn checkpoint_gently(
        &self,
        lsn: Lsn,
        changes: impl Iterator<Item = Result<Altered, Error>>,
        between: impl FnMut(),
    ) -> Result<(), Error> {
        self.guarded(|| {
            let mut manifest = self.manifest.lock();
            let settled = manifest.settled;
            if lsn < settled.lsn {
                return Err(Error::Backwards { lsn, settled: settled.lsn });
            }
            let Some(home) = &self.home else {
                let mut all = Vec::new();
                let next = alter(Tally::of(&settled), changes, |key, value| -> Result<(), Error> {
                    all.push((key.to_vec(), value.map(<[u8]>::to_vec)));
                    Ok(())
                })?;
                self.rows.apply(&all)?;
                manifest.settled = next.at(lsn);
                return Ok(());
            };
            let (disk, dir) = (home.disk.as_ref(), home.dir.as_path());
            let announced = announce(home, &manifest, lsn, changes).map_err(|error| {
                // It may take the space that is lacking. If this fails, so does the next try.
                let _ = redo::remove(disk, dir);
                error.before_any_change()
            })?;
            // From here on nothing is opened, but by sled: what fails now is final.
            home.put_in_place(Stage::Next)?;
            if let Some((pending, redo)) = announced.pending {
                *manifest = pending;
                redo_all(self.rows.as_ref(), redo, between)?;
                home.put_in_place(Stage::AfterNext)?;
            }
            *manifest = announced.settled;
            Ok(redo::remove(disk, dir)?)
        })
    }

    /// Compares the state in the data directory `dir` with its manifest, and changes neither: opening sled writes to its
    /// files, so they are copied to `scratch`, which is made, must not be there yet, and is removed.
    ///
    /// # Errors
    ///
    /// A manifest of a later release, and what the file system reports.
    pub fn check(dir: &Path, disk: &dyn Disk, scratch: &Path) -> Result<Check, Error> {
        let folder = dir.join(sled_rows::FOLDER);
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
        let found = sled_rows::copy(&folder, &scratch.join(sled_rows::FOLDER))
            .and_then(|()| find(&copied, dir, disk, &manifest));
        let verdict = found.map(|found| match found {
            Found::Rows(_, checkpoint) => Check::Agrees(checkpoint),
            Found::Nothing(why) => Check::Disagrees(why.unwrap_or_default()),
        });
        fs::remove_dir_all(scratch).map_err(at(scratch))?;
        verdict
    }

    /// Runs `call`, unless an earlier one failed.
    fn guarded<T>(&self, call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        if let Some(why) = self.failed.get() {
            return Err(Error::Failed(why.clone()));
        }
        let result = call();
        if let Some(error) = result.as_ref().err().filter(|error| !error.is_harmless()) {
            self.failed.get_or_init(|| error.to_string());
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

/// A checkpoint that is about to be written.
struct Announced {
    /// The manifest that names it as pending, and all that is to be written, if anything is.
    pending: Option<(Manifest, redo::Reader)>,
    /// The one by which it has been.
    settled: Manifest,
}

/// The first pass of a checkpoint at `lsn`: what changes, into the redo file, and the manifests to come, beside the one that is
/// in force. Whatever becomes of it, nothing has changed.
fn announce(
    home: &Home,
    manifest: &Manifest,
    lsn: Lsn,
    changes: impl Iterator<Item = Result<Altered, Error>>,
) -> Result<Announced, Error> {
    let (disk, dir, Manifest { floor, settled, .. }) = (home.disk.as_ref(), home.dir.as_path(), *manifest);
    let mut redo = redo::Writer::create(disk, dir, lsn)?;
    let next = alter(Tally::of(&settled), changes, |key, value| redo.put(key, value))?.at(lsn);
    let after = Manifest { floor, settled: next, pending: None };
    if redo.is_empty() {
        after.stage(disk, dir, Stage::Next)?;
        return Ok(Announced { pending: None, settled: after });
    }
    let redo = redo.finish(home.names.as_ref())?;
    let pending = Manifest { floor, settled, pending: Some(next) };
    pending.stage(disk, dir, Stage::Next)?;
    after.stage(disk, dir, Stage::AfterNext)?;
    Ok(Announced { pending: Some((pending, redo)), settled: after })
}

/// Hands `put` what changes, removals last; gives the tally after that.
fn alter<E>(
    mut tally: Tally,
    changes: impl Iterator<Item = Result<Altered, Error>>,
    mut put: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), E>,
) -> Result<Tally, Error>
where
    Error: From<E>,
{
    let (mut last, mut removed, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
    for altered in changes {
        let Altered { key, old, new } = altered?;
        check_change(&key, new.as_deref())?;
        // No key is empty.
        if key <= last {
            return Err(Error::Order);
        }
        if old != new {
            if let Some(old) = old {
                tally.subtract(&key, &old, &mut scratch);
            }
            if let Some(new) = new {
                tally.add(&key, &new, &mut scratch);
                put(&key, Some(&new))?;
            } else {
                removed.push(key.clone());
            }
        }
        last = key;
    }
    removed.iter().try_for_each(|key| put(key, None))?;
    Ok(tally)
}

/// Writes all that a redo file says, and makes it survive a power cut.
fn redo_all(rows: &dyn StoredRows, mut redo: redo::Reader, mut between: impl FnMut()) -> Result<(), Error> {
    while let Some(batch) = redo.next()? {
        rows.apply(&batch)?;
        between();
    }
    rows.flush()
}

enum Found {
    /// Rows, and the checkpoint that they are.
    Rows(Box<dyn StoredRows>, Checkpoint),
    /// No rows to use, and why, if there should have been.
    Nothing(Option<String>),
}

/// Opens the rows of `backing`, finishes the pending checkpoint if there is one, reads all of them, and compares them with the
/// manifest.
fn find(backing: &dyn Backing, dir: &Path, disk: &dyn Disk, manifest: &Manifest) -> Result<Found, Error> {
    let expected = manifest.pending.unwrap_or(manifest.settled);
    if !backing.exists() {
        let why = (Tally::of(&expected) != Tally::default()).then(|| "the state folder is missing".to_owned());
        return Ok(Found::Nothing(why));
    }
    let read = backing.open().and_then(|rows| {
        if let Some(pending) = manifest.pending {
            info!(lsn = %pending.lsn, rows = pending.rows, "finishing the checkpoint that was under way");
            redo_all(rows.as_ref(), redo::Reader::open(disk, dir, pending.lsn)?, || ())?;
        }
        rows.tally().map(|tally| (rows, tally))
    });
    let (rows, tally) = match read {
        Ok(read) => read,
        Err(error) if error.is_damage() => {
            return Ok(Found::Nothing(Some(format!("{}: {error}", backing.place().display()))));
        }
        Err(error) => return Err(error),
    };
    if tally == Tally::of(&expected) {
        return Ok(Found::Rows(rows, expected));
    }
    Ok(Found::Nothing(Some(format!(
        "{}: its {} rows (hash {:032x}) are not those of the manifest (lsn {}, {} rows, hash {:032x})",
        backing.place().display(),
        tally.rows,
        tally.hash,
        expected.lsn,
        expected.rows,
        expected.hash
    ))))
}

#[cfg(test)]
mod tests;
