//! Rows behind a gate: while it is shut, whoever reads them hangs.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::store::disk::{Directory, Disk, File, Open, RealDisk};
use crate::store::rows::{Change, Error, Row, Rows, StoredRows, Tally};

/// The real file system and sled, with a gate before what is read of sled. Clones share the gate, which is open at first.
///
/// For [`Engine::open_on`](crate::Engine::open_on): with it, a test has somebody hang in a read for as long as it likes.
#[derive(Debug, Clone, Default)]
pub struct GatedRows(Arc<Gate>);

#[derive(Debug, Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_shut: bool,
    waiting: usize,
}

impl GatedRows {
    /// From now on reads hang.
    pub fn shut(&self) {
        self.0.state.lock().is_shut = true;
    }

    /// Lets all of them go on.
    pub fn open(&self) {
        self.0.state.lock().is_shut = false;
        self.0.changed.notify_all();
    }

    /// How many hang.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.state.lock().waiting
    }

    fn pass(&self) {
        let mut state = self.0.state.lock();
        state.waiting += 1;
        while state.is_shut {
            self.0.changed.wait(&mut state);
        }
        state.waiting -= 1;
    }
}

impl Disk for GatedRows {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
        RealDisk.open(path, how)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }

    fn open_dir(&self, dir: &Path) -> io::Result<Box<dyn Directory>> {
        RealDisk.open_dir(dir)
    }

    fn available_bytes(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.available_bytes(dir)
    }

    fn before_rows(&self, rows: Box<dyn StoredRows>) -> Box<dyn StoredRows> {
        Box::new(Gated { rows, gate: self.clone() })
    }
}

struct Gated {
    rows: Box<dyn StoredRows>,
    gate: GatedRows,
}

impl Rows for Gated {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.gate.pass();
        self.rows.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Error> {
        self.gate.pass();
        self.rows.scan(from, to, limit)
    }

    fn apply(&self, changes: &[Change]) -> Result<(), Error> {
        self.rows.apply(changes)
    }

    fn flush(&self) -> Result<(), Error> {
        self.rows.flush()
    }
}

impl StoredRows for Gated {
    fn tally(&self) -> Result<Tally, Error> {
        self.rows.tally()
    }
}
