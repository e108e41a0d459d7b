//! The manifest: which lsn the rows in sled belong to, and how to recognise them.
//!
//! When sled's pages reach the disk is not under our control, so a checkpoint announces the rows it is about to make
//! (`pending`) before it touches sled, and settles them after sled's files are synced. A start that finds rows pending
//! writes all of them again, from the redo file; what does not agree then is damaged and is rebuilt from the journal.
//!
//! The file is `manifest` in the data directory, [`SIZE`] bytes, integers little-endian:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `BOXSTATE` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 8 | floor (lsn) |
//! | 20 | 32 | settled: lsn (8), rows (8), hash (16) |
//! | 52 | 1 | 1 if there is a pending checkpoint, else 0 |
//! | 53 | 32 | pending, as settled; zeros if there is none |
//! | 85 | 4 | CRC-32 of all before |
//!
//! Architecture invariant: it knows no sled and no rows, only their number and hash.

use std::io;
use std::path::{Path, PathBuf};

use crate::domain::Lsn;
use crate::store::disk::{Directory, Disk, Open};

const NAME: &str = "manifest";

/// Where a manifest is put together before it takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Of the next one.
    Next,
    /// Of the one after that, for when nothing can be opened any more.
    AfterNext,
}

impl Stage {
    fn path(self, dir: &Path) -> PathBuf {
        dir.join(match self {
            Self::Next => "manifest.new",
            Self::AfterNext => "manifest.settled",
        })
    }
}
const MAGIC: &[u8; 8] = b"BOXSTATE";
const VERSION: u32 = 1;
const CRC_OFFSET: usize = 85;

/// Length of the file in bytes.
pub const SIZE: usize = CRC_OFFSET + 4;

/// What can be wrong with a manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is there, but is not what was written: the rows have to be rebuilt, and the floor is unknown.
    #[error("{path}: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not hold.
        why: &'static str,
    },
    /// A sound file of a format that this release does not know.
    #[error("{path}: format version {found} is not known to this release")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The file system failed.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The rows that the journal adds up to at one lsn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last event that is in the rows; replay begins after it.
    pub lsn: Lsn,
    /// How many rows there are.
    pub rows: u64,
    /// The sum of all rows' hashes, see [`state`](crate::store::state).
    pub hash: u128,
}

impl Checkpoint {
    /// No rows, before the first event.
    pub const EMPTY: Self = Self { lsn: Lsn(0), rows: 0, hash: 0 };
}

/// What the manifest file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manifest {
    /// The highest lsn that any earlier manifest named. While lost rows are being rebuilt it is above both checkpoints.
    pub floor: Lsn,
    /// Rows that were synced.
    pub settled: Checkpoint,
    /// Rows that sled may or may not hold yet.
    pub pending: Option<Checkpoint>,
}

impl Manifest {
    /// Reads the manifest in the data directory `dir`; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if its length, magic, CRC or flags are wrong; [`Error::Version`]; [`Error::Io`].
    pub fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(NAME);
        let file = match disk.open(&path, Open::Read) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Io { path, source }),
        };
        // One byte more than it should have, to notice a longer file.
        let mut bytes = [0; SIZE + 1];
        let mut len = 0;
        while len < bytes.len() {
            match file.read_at(&mut bytes[len..], len as u64) {
                Ok(0) => break,
                Ok(n) => len += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Io { path, source }),
            }
        }
        Self::decode(&bytes[..len], &path).map(Some)
    }

    /// Replaces the manifest in the data directory `dir`: written beside it, synced, renamed, directory synced. Durable
    /// when it returns; a crash before that leaves the old one or the new one.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; which of the two a later start finds is then open.
    pub fn write(&self, disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
        let names = disk.open_dir(dir).map_err(|e| failed(dir, e))?;
        self.stage(disk, dir, Stage::Next)?;
        Self::put_in_place(disk, dir, &*names, Stage::Next)
    }

    /// The first half of [`write`](Self::write): whatever becomes of it, the manifest is the old one.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn stage(&self, disk: &dyn Disk, dir: &Path, stage: Stage) -> Result<(), Error> {
        let new = stage.path(dir);
        match disk.remove(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(&new, e)),
            _ => {}
        }
        let file = disk.open(&new, Open::Create).map_err(|e| failed(&new, e))?;
        file.write_all_at(&self.encode(), 0).map_err(|e| failed(&new, e))?;
        file.sync().map_err(|e| failed(&new, e))
    }

    /// The second half of [`write`](Self::write), which opens nothing: `names` is `dir`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; which of the two a later start finds is then open.
    pub fn put_in_place(disk: &dyn Disk, dir: &Path, names: &dyn Directory, stage: Stage) -> Result<(), Error> {
        let new = stage.path(dir);
        disk.rename(&new, &dir.join(NAME)).map_err(|e| failed(&new, e))?;
        names.sync().map_err(|e| failed(dir, e))
    }

    /// The highest lsn that this or any earlier manifest named. Every event up to it was durable once, so a journal that
    /// ends below it is damaged.
    #[must_use]
    pub fn highest_lsn(&self) -> Lsn {
        self.floor.max(self.settled.lsn).max(self.pending.map_or(Lsn(0), |pending| pending.lsn))
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SIZE);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.floor.0.to_le_bytes());
        encode_checkpoint(&mut bytes, &self.settled);
        bytes.push(u8::from(self.pending.is_some()));
        encode_checkpoint(&mut bytes, &self.pending.unwrap_or(Checkpoint::EMPTY));
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        let damaged = |why| Error::Damaged { path: path.to_owned(), why };
        let (body, crc) = bytes.split_last_chunk().ok_or_else(|| damaged("it is too short"))?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return Err(damaged("its CRC does not match"));
        }
        let mut reader = Reader(body);
        let short = || damaged("it is too short");
        if reader.take().ok_or_else(short)? != *MAGIC {
            return Err(damaged("it is not a manifest"));
        }
        // Before the length: another version may have another one.
        let found = u32::from_le_bytes(reader.take().ok_or_else(short)?);
        if found != VERSION {
            return Err(Error::Version { path: path.to_owned(), found });
        }
        let floor = Lsn(u64::from_le_bytes(reader.take().ok_or_else(short)?));
        let settled = reader.checkpoint().ok_or_else(short)?;
        let [flag] = reader.take().ok_or_else(short)?;
        let candidate = reader.checkpoint().ok_or_else(short)?;
        let pending = match flag {
            0 => None,
            1 => Some(candidate),
            _ => return Err(damaged("its flag is neither 0 nor 1")),
        };
        if reader.0.is_empty() { Ok(Self { floor, settled, pending }) } else { Err(damaged("it is too long")) }
    }
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::Io { path: path.to_owned(), source }
}

fn encode_checkpoint(bytes: &mut Vec<u8>, checkpoint: &Checkpoint) {
    bytes.extend_from_slice(&checkpoint.lsn.0.to_le_bytes());
    bytes.extend_from_slice(&checkpoint.rows.to_le_bytes());
    bytes.extend_from_slice(&checkpoint.hash.to_le_bytes());
}

/// What is left to decode.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn checkpoint(&mut self) -> Option<Checkpoint> {
        Some(Checkpoint {
            lsn: Lsn(u64::from_le_bytes(self.take()?)),
            rows: u64::from_le_bytes(self.take()?),
            hash: u128::from_le_bytes(self.take()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store::disk::RealDisk;

    fn example() -> Manifest {
        Manifest {
            floor: Lsn(99),
            settled: Checkpoint { lsn: Lsn(7), rows: 3, hash: u128::MAX - 5 },
            pending: Some(Checkpoint { lsn: Lsn(12), rows: 4, hash: 1 << 100 }),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Manifest::read(&RealDisk, dir.path()).unwrap(), None);
        fs::write(Stage::Next.path(dir.path()), b"left over by a crash").unwrap();
        for manifest in [example(), Manifest { pending: None, ..example() }] {
            manifest.write(&RealDisk, dir.path()).unwrap();
            assert_eq!(Manifest::read(&RealDisk, dir.path()).unwrap(), Some(manifest));
        }
        assert_eq!(RealDisk.list(dir.path()).unwrap(), [NAME]);
    }

    #[test]
    fn version_1_keeps_its_bytes() {
        let bytes = example().encode();
        assert_eq!(bytes.len(), SIZE);
        assert_eq!(&bytes[..12], b"BOXSTATE\x01\0\0\0");
        assert_eq!(bytes[12..20], 99u64.to_le_bytes());
        assert_eq!(bytes[20..28], 7u64.to_le_bytes());
        assert_eq!(bytes[52], 1);
        assert_eq!(bytes[53..61], 12u64.to_le_bytes());
    }

    #[test]
    fn any_damage_is_told_from_a_missing_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        let good = example().encode();
        let damaged = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            matches!(Manifest::read(&RealDisk, dir.path()), Err(Error::Damaged { .. }))
        };
        for bit in 0..SIZE * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(damaged(&bytes), "bit {bit}");
        }
        for len in 0..SIZE {
            assert!(damaged(&good[..len]), "cut to {len}");
        }
        assert!(damaged(&[&good[..], &[0]].concat()));
        let mut wrong_flag = good[..CRC_OFFSET].to_vec();
        wrong_flag[52] = 2;
        wrong_flag.extend_from_slice(&crc32fast::hash(&wrong_flag).to_le_bytes());
        assert!(damaged(&wrong_flag));
    }

    #[test]
    fn a_later_version_is_refused_and_not_called_damage() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = [&MAGIC[..], &2u32.to_le_bytes(), b"whatever comes then"].concat();
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        fs::write(dir.path().join(NAME), bytes).unwrap();
        assert!(matches!(Manifest::read(&RealDisk, dir.path()), Err(Error::Version { found: 2, .. })));
    }

    #[test]
    fn the_highest_lsn_counts_all_three() {
        assert_eq!(example().highest_lsn(), Lsn(99));
        assert_eq!(Manifest { floor: Lsn(0), ..example() }.highest_lsn(), Lsn(12));
        assert_eq!(Manifest { floor: Lsn(0), pending: None, ..example() }.highest_lsn(), Lsn(7));
    }
}
