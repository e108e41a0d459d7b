//! The rows of a simulated engine: in place of sled, with what sled promises and no more.
//!
//! A batch is one unit. What was applied and not flushed survives a crash or not, each batch as a whole; and whatever
//! stands there, it may be gone or changed the next time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::store::disk::Disk;
use crate::store::rows::Change;
use crate::store::state::{Backing, Error, MemoryRows, Row, Rows, StoredRows, Tally};
use crate::testing::random::Random;
use crate::testing::sim_disk::SimDisk;

/// Rows that outlive a process. Clones are the same.
#[derive(Clone)]
pub(in crate::testing) struct SimRows(Arc<Mutex<Stored>>);

struct Stored {
    exists: bool,
    /// What survives a crash for certain.
    flushed: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What came since, oldest first.
    applied: Vec<Vec<Change>>,
    /// What its calls fail with.
    disk: SimDisk,
}

impl SimRows {
    pub fn new(disk: SimDisk) -> Self {
        Self(Arc::new(Mutex::new(Stored { exists: false, flushed: BTreeMap::new(), applied: Vec::new(), disk })))
    }

    /// Lets others have a turn before something is read.
    fn others(&self) {
        let disk = self.0.lock().disk.clone();
        disk.others();
    }

    /// As they are after a crash, beside what `disk` is then. These stay as they are.
    pub fn crash(&self, random: &mut Random, disk: SimDisk) -> Self {
        let stored = self.0.lock();
        let mut flushed = stored.flushed.clone();
        for batch in &stored.applied {
            if random.coin() {
                apply(&mut flushed, batch);
            }
        }
        Self(Arc::new(Mutex::new(Stored { exists: stored.exists, flushed, applied: Vec::new(), disk })))
    }

    /// Does them some harm.
    pub fn damage(&self, random: &mut Random) {
        let mut stored = self.0.lock();
        let victim = random.below(stored.flushed.len() as u64) as usize;
        let victim = stored.flushed.keys().nth(victim).cloned();
        match (random.below(3), victim) {
            (0, Some(key)) => drop(stored.flushed.remove(&key)),
            (1, Some(key)) => stored.flushed.entry(key).or_default().push(0),
            _ => {
                stored.exists = random.coin();
                stored.flushed.clear();
            }
        }
    }
}

fn apply(rows: &mut BTreeMap<Vec<u8>, Vec<u8>>, batch: &[Change]) {
    for (key, value) in batch {
        match value {
            Some(value) => rows.insert(key.clone(), value.clone()),
            None => rows.remove(key),
        };
    }
}

impl Backing for SimRows {
    fn place(&self) -> PathBuf {
        "/data/state".into()
    }

    fn exists(&self) -> bool {
        self.0.lock().exists
    }

    fn open(&self) -> Result<Box<dyn StoredRows>, Error> {
        let rows = MemoryRows::default();
        let mut stored = self.0.lock();
        stored.call()?;
        stored.flush();
        stored.exists = true;
        let all: Vec<Change> = stored.flushed.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
        drop(stored);
        rows.apply(&all)?;
        Ok(Box::new(Opened { rows, all: self.clone() }))
    }

    fn set_aside(&self) -> Result<(), Error> {
        let mut stored = self.0.lock();
        stored.call()?;
        stored.exists = false;
        stored.flushed.clear();
        stored.applied.clear();
        Ok(())
    }
}

impl Stored {
    /// Fails if the disk does.
    fn call(&self) -> Result<(), Error> {
        let failed = |source| Error::Io { path: "/data/state".into(), source };
        self.disk.available_bytes(Path::new("/")).map(drop).map_err(failed)
    }

    fn flush(&mut self) {
        for batch in std::mem::take(&mut self.applied) {
            apply(&mut self.flushed, &batch);
        }
    }
}

/// The rows as one process sees them.
struct Opened {
    rows: MemoryRows,
    all: SimRows,
}

impl Rows for Opened {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.all.others();
        self.rows.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Error> {
        self.all.others();
        self.rows.scan(from, to, limit)
    }

    fn apply(&self, changes: &[Change]) -> Result<(), Error> {
        let mut stored = self.all.0.lock();
        // Even if it fails, all of it may survive.
        stored.applied.push(changes.to_vec());
        stored.call()?;
        drop(stored);
        self.rows.apply(changes)
    }

    fn flush(&self) -> Result<(), Error> {
        let mut stored = self.all.0.lock();
        stored.call()?;
        stored.flush();
        Ok(())
    }
}

impl StoredRows for Opened {
    fn tally(&self) -> Result<Tally, Error> {
        self.rows.tally()
    }
}
