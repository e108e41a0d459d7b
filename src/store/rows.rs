//! Rows by key: what the state consists of, whoever keeps it.
//!
//! Architecture invariant: it knows neither sled nor what a row is about.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use parking_lot::RwLock;
use xxhash_rust::xxh3::xxh3_128;

use super::disk::is_lack;
use super::manifest::{self, Checkpoint};
use super::redo;
use crate::domain::Lsn;

/// The longest key, in bytes; the shortest is one byte.
pub const KEY_BYTES_MAX: usize = 600;

/// The longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 16 << 20;

/// What goes wrong with the state. All but the first five are final: the store answers [`Error::Failed`] from then on.
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
    /// Something was lacking, before anything had changed: the same can be tried again.
    #[error("{0}; nothing has changed")]
    Later(#[source] Box<Error>),
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
    /// The redo file failed.
    #[error(transparent)]
    Redo(#[from] redo::Error),
    /// The file system failed.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An earlier call failed for good.
    #[error("the state store has failed before: {0}")]
    Failed(String),
}

impl Error {
    /// Whether the store is as sound as before: the caller is to blame, or something was lacking.
    pub(super) fn is_harmless(&self) -> bool {
        let is_callers =
            matches!(self, Self::KeyLength(_) | Self::ValueLength(_) | Self::Order | Self::Backwards { .. });
        is_callers || matches!(self, Self::Later(_))
    }

    /// The same, of something that had not changed anything: [`Later`](Self::Later), if it is for want of something.
    pub(super) fn before_any_change(self) -> Self {
        match &self {
            Self::Manifest(manifest::Error::Io { source, .. }) | Self::Redo(redo::Error::Io { source, .. })
                if is_lack(source) =>
            {
                Self::Later(Box::new(self))
            }
            _ => self,
        }
    }

    /// Whether it says that the files are not what was written, rather than that they cannot be read just now.
    pub(super) fn is_damage(&self) -> bool {
        use io::ErrorKind as Kind;
        match self {
            Self::Panicked(_) | Self::Row { .. } | Self::Redo(redo::Error::Damaged { .. }) => true,
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
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    move |source| Error::Io { path: path.to_owned(), source }
}

/// A row: key and value.
pub type Row = (Vec<u8>, Vec<u8>);

/// A key and its new value; `None` deletes the row if there is one.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// A row that a checkpoint changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Altered {
    /// Its key.
    pub key: Vec<u8>,
    /// What it is; `None` if there is no such row.
    pub old: Option<Vec<u8>>,
    /// What it is to be; `None` if there is to be none.
    pub new: Option<Vec<u8>>,
}

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

    /// Makes all of the changes, or none; each key is named once. Durable after [`flush`](Self::flush); after a crash before
    /// that all of them are there, or none, whatever became of earlier batches.
    ///
    /// # Errors
    ///
    /// [`Error::KeyLength`], [`Error::ValueLength`], and what the storage reports.
    fn apply(&self, changes: &[Change]) -> Result<(), Error>;

    /// Makes everything applied so far survive a power cut.
    ///
    /// # Errors
    ///
    /// What the storage reports; which changes survive is then open.
    fn flush(&self) -> Result<(), Error>;
}

pub(super) fn check_key(key: &[u8]) -> Result<(), Error> {
    if (1..=KEY_BYTES_MAX).contains(&key.len()) { Ok(()) } else { Err(Error::KeyLength(key.len())) }
}

pub(super) fn check_change(key: &[u8], value: Option<&[u8]>) -> Result<(), Error> {
    check_key(key)?;
    let len = value.map_or(0, <[u8]>::len);
    if len <= VALUE_BYTES_MAX { Ok(()) } else { Err(Error::ValueLength(len)) }
}

pub(super) fn check_changes(changes: &[Change]) -> Result<(), Error> {
    changes.iter().try_for_each(|(key, value)| check_change(key, value.as_deref()))
}

/// A row that cannot have been written as it is.
pub(crate) fn bad_row(key: &[u8], why: &'static str) -> Error {
    Error::Row { key: key.escape_ascii().to_string(), why }
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

/// The number of rows and the sum of their hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// How many they are.
    pub rows: u64,
    /// The sum of their hashes.
    pub hash: u128,
}

impl Tally {
    pub(super) fn of(checkpoint: &Checkpoint) -> Self {
        Self { rows: checkpoint.rows, hash: checkpoint.hash }
    }

    pub(super) fn at(self, lsn: Lsn) -> Checkpoint {
        Checkpoint { lsn, rows: self.rows, hash: self.hash }
    }

    /// Takes in a row; `scratch` is for its memory.
    pub fn add(&mut self, key: &[u8], value: &[u8], scratch: &mut Vec<u8>) {
        self.rows = self.rows.wrapping_add(1);
        self.hash = self.hash.wrapping_add(row_hash(key, value, scratch));
    }

    pub(super) fn subtract(&mut self, key: &[u8], value: &[u8], scratch: &mut Vec<u8>) {
        self.rows = self.rows.wrapping_sub(1);
        self.hash = self.hash.wrapping_sub(row_hash(key, value, scratch));
    }
}

/// How rows are encoded. To be raised whenever the encoding of any row changes: it goes into each row's hash, so rows of
/// another version are never those of the manifest, and are built again from the journal.
const ROWS_VERSION: u32 = 10;

fn row_hash(key: &[u8], value: &[u8], scratch: &mut Vec<u8>) -> u128 {
    scratch.clear();
    scratch.extend_from_slice(&ROWS_VERSION.to_le_bytes());
    // Keys are at most KEY_BYTES_MAX long.
    scratch.extend_from_slice(&(key.len() as u32).to_le_bytes());
    scratch.extend_from_slice(key);
    scratch.extend_from_slice(value);
    xxh3_128(scratch)
}
