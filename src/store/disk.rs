//! The file system, as far as the store needs it: one trait, a real implementation here, a simulated one in tests.
//!
//! Architecture invariant: every file of the store but sled's own and the lock goes through [`Disk`].

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::Path;

use super::rows::StoredRows;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// An existing file, to read.
    Read,
    /// An existing file, to read and write.
    Write,
    /// A new file, to read and write; fails if there is one.
    Create,
}

/// A file system.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>>;
    /// The names in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes a directory and those above it; where there are users, for its owner only.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Renames, replacing what was there; durable after [`sync_dir`](Self::sync_dir).
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; durable after [`sync_dir`](Self::sync_dir).
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes names in `dir` durable. It opens the directory for that.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Opens a directory, for its names to be made durable when nothing can be opened any more.
    fn open_dir(&self, dir: &Path) -> io::Result<Box<dyn Directory>>;
    /// How many bytes may still be written below `dir`.
    fn available_bytes(&self, dir: &Path) -> io::Result<u64>;
    /// What stands before sled's rows, whose files it does not see: nothing, but where a test wants to.
    fn before_rows(&self, rows: Box<dyn StoredRows>) -> Box<dyn StoredRows> {
        rows
    }
}

/// An open directory.
pub trait Directory: Send + Sync {
    /// Makes the names in it durable.
    fn sync(&self) -> io::Result<()>;
}

/// An open file.
pub trait File: Send + Sync {
    /// Reads at most `buffer.len()` bytes at `offset`; 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`, growing the file if need be.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes everything written to this file durable (fdatasync). An error is final: what was written may be lost even
    /// if a later call succeeds.
    fn sync(&self) -> io::Result<()>;
    /// Its length in bytes.
    fn size(&self) -> io::Result<u64>;
}

/// Whether a call has failed for want of what others may give back: descriptors, memory, or space. Where nothing has changed
/// yet, it can be tried again.
pub(crate) fn is_lack(error: &io::Error) -> bool {
    is_lack_of_space(error)
        || is_lack_of_descriptors(error)
        || matches!(error.kind(), io::ErrorKind::OutOfMemory | io::ErrorKind::Interrupted)
}

/// Whether it was for want of space.
pub(crate) fn is_lack_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether it was for want of descriptors: nothing was opened, of a directory that was to be synced neither.
pub(crate) fn is_lack_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// Makes a directory, and those above it, for its owner only: there are secrets in the journal and in the state.
pub(crate) fn make_private_dirs(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// The operating system's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(how != Open::Read).create_new(how == Open::Create);
        Ok(Box::new(options.open(path)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = fs::read_dir(dir)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        make_private_dirs(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.open_dir(dir)?.sync()
    }

    fn open_dir(&self, dir: &Path) -> io::Result<Box<dyn Directory>> {
        Ok(Box::new(RealDirectory(fs::File::open(dir)?)))
    }

    fn available_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

struct RealDirectory(fs::File);

impl Directory for RealDirectory {
    fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}

impl File for fs::File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_it_makes_is_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let (above, below) = (dir.path().join("data"), dir.path().join("data/journal"));
        RealDisk.create_dir_all(&below).unwrap();
        for made in [above, below] {
            assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o700, "{}", made.display());
        }
    }
}
