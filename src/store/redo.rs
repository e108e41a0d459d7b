//! The redo file: all that a checkpoint is about to write, in the batches in which it will.
//!
//! sled lets nobody read while a batch comes in, so a checkpoint is many small batches. A crash between two of them would
//! leave rows that are neither those before the checkpoint nor those after it. Therefore all of them are synced here before
//! the manifest names the checkpoint as pending, and a start that finds it pending writes all of them again: what is there
//! already stays what it is.
//!
//! The file is `redo` in the data directory, integers little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `BOXREDO` and the format's version, 1 |
//! | 8 | lsn of the checkpoint |
//! | | batches, each: length of its block (4), CRC-32 of its block (4), block |
//! | 8 | the end: zero (4), the number of batches (4) |
//!
//! A block is compressed (LZ4, length prepended). It holds changes, each: length of the key (2), key, length of the value plus
//! one, or zero if the row is removed (4), value.
//!
//! Architecture invariant: it knows neither sled nor what a row is about.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::{Directory, Disk, File, Open};
use super::rows::{Change, VALUE_BYTES_MAX, check_change};
use crate::domain::Lsn;

const NAME: &str = "redo";
const MAGIC: [u8; 8] = *b"BOXREDO\x01";

/// Rows of a batch, at most.
const BATCH_ROWS: usize = 64;
/// A batch has no more rows once it has so many bytes, before compression.
const BATCH_BYTES: usize = 64 << 10;
/// No batch is longer than this, before compression.
const BATCH_BYTES_MAX: usize = BATCH_BYTES + VALUE_BYTES_MAX + 1_024;
/// Bytes that are written at once.
const WRITE_BYTES: usize = 1 << 20;

/// What can be wrong with a redo file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is not there, or is not what was written.
    #[error("{path}: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not hold.
        why: &'static str,
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

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    move |source| Error::Io { path: path.to_owned(), source }
}

/// Writes a redo file.
pub(crate) struct Writer {
    path: PathBuf,
    lsn: Lsn,
    file: Box<dyn File>,
    /// What has been written.
    written: u64,
    /// What is to be written next.
    buffer: Vec<u8>,
    /// The changes of the batch that is being put together, and how many they are.
    batch: Vec<u8>,
    rows: usize,
    batches: u32,
}

impl Writer {
    /// Begins the redo file of a checkpoint at `lsn` in the data directory `dir`, in place of the last one.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(disk: &dyn Disk, dir: &Path, lsn: Lsn) -> Result<Self, Error> {
        remove(disk, dir)?;
        let path = dir.join(NAME);
        let file = disk.open(&path, Open::Create).map_err(failed(&path))?;
        let buffer = [MAGIC, lsn.0.to_le_bytes()].concat();
        Ok(Self { path, lsn, file, written: 0, buffer, batch: Vec::new(), rows: 0, batches: 0 })
    }

    /// Adds a change; its key and value are no longer than those of rows may be.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn put(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), Error> {
        // Keys have at most 600 bytes, values 16 MiB.
        self.batch.extend((key.len() as u16).to_le_bytes());
        self.batch.extend(key);
        self.batch.extend(value.map_or(0, |value| value.len() as u32 + 1).to_le_bytes());
        self.batch.extend(value.unwrap_or_default());
        self.rows += 1;
        if self.rows == BATCH_ROWS || self.batch.len() >= BATCH_BYTES { self.end_batch() } else { Ok(()) }
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.batches == 0 && self.rows == 0
    }

    /// Ends the file, which is in the directory `names`; it survives a power cut when this returns. Gives it to be read, for
    /// which it need not be opened again.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(mut self, names: &dyn Directory) -> Result<Reader, Error> {
        if self.rows > 0 {
            self.end_batch()?;
        }
        self.buffer.extend([0_u32.to_le_bytes(), self.batches.to_le_bytes()].concat());
        self.write()?;
        self.file.sync().map_err(failed(&self.path))?;
        names.sync().map_err(failed(&self.path))?;
        Reader::new(self.path, self.file, self.lsn)
    }

    fn end_batch(&mut self) -> Result<(), Error> {
        let block = lz4_flex::block::compress_prepend_size(&self.batch);
        // It is a little longer than BATCH_BYTES_MAX at the most.
        self.buffer.extend((block.len() as u32).to_le_bytes());
        self.buffer.extend(crc32fast::hash(&block).to_le_bytes());
        self.buffer.extend(block);
        self.batches += 1;
        self.rows = 0;
        self.batch.clear();
        if self.buffer.len() >= WRITE_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), Error> {
        self.file.write_all_at(&self.buffer, self.written).map_err(failed(&self.path))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// Reads a redo file, batch by batch.
pub(crate) struct Reader {
    path: PathBuf,
    file: Box<dyn File>,
    at: u64,
    batches: u32,
}

impl Reader {
    /// Opens the redo file of a checkpoint at `lsn` in the data directory `dir`.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is not there or of another checkpoint; [`Error::Io`].
    pub fn open(disk: &dyn Disk, dir: &Path, lsn: Lsn) -> Result<Self, Error> {
        let path = dir.join(NAME);
        let file = match disk.open(&path, Open::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Damaged { path, why: "it is not there, and a checkpoint was not finished" });
            }
            Err(source) => return Err(Error::Io { path, source }),
        };
        Self::new(path, file, lsn)
    }

    fn new(path: PathBuf, file: Box<dyn File>, lsn: Lsn) -> Result<Self, Error> {
        let mut reader = Self { path, file, at: 0, batches: 0 };
        if reader.take()? != MAGIC {
            return Err(reader.damaged("it is not a redo file of this version"));
        }
        if reader.take()? != lsn.0.to_le_bytes() {
            return Err(reader.damaged("it is that of another checkpoint"));
        }
        Ok(reader)
    }

    /// The next batch; `None` after the last one.
    ///
    /// # Errors
    /// [`Error::Damaged`]; [`Error::Io`].
    pub fn next(&mut self) -> Result<Option<Vec<Change>>, Error> {
        let [len, crc] = [self.take()?, self.take()?].map(u32::from_le_bytes);
        if len == 0 {
            let whole = crc == self.batches;
            return if whole { Ok(None) } else { Err(self.damaged("batches are missing")) };
        }
        // So that a damaged length does not take all memory.
        let left = self.file.size().map_err(failed(&self.path))?.saturating_sub(self.at);
        if u64::from(len) > left {
            return Err(self.damaged("it is too short"));
        }
        let mut block = vec![0; len as usize];
        self.read(&mut block)?;
        if crc32fast::hash(&block) != crc {
            return Err(self.damaged("the CRC of a batch does not match"));
        }
        self.batches += 1;
        decode(&block).map(Some).ok_or_else(|| self.damaged("a batch cannot be read"))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    fn read(&mut self, mut bytes: &mut [u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            match self.file.read_at(bytes, self.at) {
                Ok(0) => return Err(self.damaged("it is too short")),
                Ok(read) => {
                    self.at += read as u64;
                    bytes = &mut bytes[read..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(&self.path)(error)),
            }
        }
        Ok(())
    }

    fn damaged(&self, why: &'static str) -> Error {
        Error::Damaged { path: self.path.clone(), why }
    }
}

fn decode(block: &[u8]) -> Option<Vec<Change>> {
    let (len, compressed) = block.split_first_chunk()?;
    let len = u32::from_le_bytes(*len) as usize;
    if len > BATCH_BYTES_MAX {
        return None;
    }
    let batch = lz4_flex::block::decompress(compressed, len).ok()?;
    let mut rest = batch.as_slice();
    let mut changes = Vec::new();
    while !rest.is_empty() {
        let (len, after) = rest.split_first_chunk()?;
        let (key, after) = after.split_at_checked(u16::from_le_bytes(*len).into())?;
        let (len, after) = after.split_first_chunk()?;
        let value = u32::from_le_bytes(*len).checked_sub(1);
        let (bytes, after) = after.split_at_checked(value.unwrap_or(0) as usize)?;
        check_change(key, value.map(|_| bytes)).ok()?;
        changes.push((key.to_vec(), value.map(|_| bytes.to_vec())));
        rest = after;
    }
    Some(changes)
}

/// Removes the redo file, if there is one. A power cut may bring it back, which does no harm as long as no checkpoint is pending.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn remove(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    let path = dir.join(NAME);
    match disk.remove(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store::disk::RealDisk;

    fn read(dir: &Path, lsn: u64) -> Result<Vec<Vec<Change>>, Error> {
        let mut reader = Reader::open(&RealDisk, dir, Lsn(lsn))?;
        std::iter::from_fn(|| reader.next().transpose()).collect()
    }

    fn write(dir: &Path, lsn: u64, changes: &[Change]) {
        let mut writer = Writer::create(&RealDisk, dir, Lsn(lsn)).unwrap();
        assert!(writer.is_empty());
        for (key, value) in changes {
            writer.put(key, value.as_deref()).unwrap();
            assert!(!writer.is_empty());
        }
        writer.finish(&*RealDisk.open_dir(dir).unwrap()).unwrap();
    }

    /// Small rows, large ones, one as large as can be, empty ones, and rows that are removed.
    fn changes() -> Vec<Change> {
        let noise =
            |n: usize, len: usize| (0..len).map(|at| ((at * n * 2_654_435_761) >> 16) as u8).collect::<Vec<_>>();
        let row = |n: usize| match n {
            200 => Some(noise(n, VALUE_BYTES_MAX)),
            _ if n % 7 == 3 => None,
            _ if n % 50 == 49 => Some(noise(n, 40_000)),
            _ => Some(noise(n, n % 5 * 30)),
        };
        (0..300).map(|n| (noise(n, n * 2 + 1), row(n))).collect()
    }

    #[test]
    fn what_is_written_is_read_in_small_batches() {
        let dir = tempfile::tempdir().unwrap();
        let changes = changes();
        write(dir.path(), 7, &changes[..5]);
        // In place of the first.
        write(dir.path(), 8, &changes);
        let batches = read(dir.path(), 8).unwrap();
        assert!(batches.iter().all(|batch| (1..=BATCH_ROWS).contains(&batch.len())));
        assert!(batches.len() > 300 / BATCH_ROWS, "{}", batches.len());
        assert!(batches.concat() == changes);
        remove(&RealDisk, dir.path()).unwrap();
        remove(&RealDisk, dir.path()).unwrap();
        assert!(matches!(read(dir.path(), 8), Err(Error::Damaged { why, .. }) if why.contains("not there")));
        write(dir.path(), 9, &[]);
        assert_eq!(read(dir.path(), 9).unwrap(), Vec::<Vec<Change>>::new());
    }

    #[test]
    fn version_1_keeps_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 0x0102, &[(b"key".to_vec(), Some(b"value".to_vec())), (b"k".to_vec(), None)]);
        let bytes = fs::read(dir.path().join(NAME)).unwrap();
        assert_eq!(&bytes[..16], b"BOXREDO\x01\x02\x01\0\0\0\0\0\0");
        let batch = b"\x03\0key\x06\0\0\0value\x01\0k\0\0\0\0";
        let block = lz4_flex::block::compress_prepend_size(batch);
        let crc = crc32fast::hash(&block).to_le_bytes();
        let expected = [&(block.len() as u32).to_le_bytes()[..], &crc, &block, &[0, 0, 0, 0, 1, 0, 0, 0]].concat();
        assert_eq!(bytes[16..], expected);
    }

    #[test]
    fn any_damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let small: Vec<Change> =
            changes().into_iter().filter(|(_, value)| value.as_ref().is_none_or(|v| v.len() < 100)).collect();
        write(dir.path(), 5, &small);
        assert!(matches!(read(dir.path(), 6), Err(Error::Damaged { why, .. }) if why.contains("another checkpoint")));
        let path = dir.path().join(NAME);
        let good = fs::read(&path).unwrap();
        let damaged = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            matches!(read(dir.path(), 5), Err(Error::Damaged { .. }))
        };
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << (at % 8);
            assert!(damaged(&bytes), "byte {at}");
        }
        for len in (0..good.len()).step_by(11).chain([good.len() - 1]) {
            assert!(damaged(&good[..len]), "cut to {len}");
        }
    }
}
