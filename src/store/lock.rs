//! One process at a time in a data directory.
//!
//! The lock is the operating system's, and goes when its process does, however that ends. It is not a file of the
//! store, and so does not go through [`Disk`](super::disk::Disk).

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The file that is locked. It stays when the lock is gone.
pub const NAME: &str = "LOCK";

/// Longer than any process id in it.
const PID_BYTES_MAX: u64 = 32;

/// Why a directory cannot be locked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process has it.
    #[error("{} is in use by process {holder}; stop that one first, or use another data directory", dir.display())]
    Held {
        /// Which directory.
        dir: PathBuf,
        /// The process id that it left, or "unknown".
        holder: String,
    },
    /// The file system refused.
    #[error("cannot lock {}: {source}", file.display())]
    Io {
        /// Which file.
        file: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

/// Holds a directory for this process until dropped.
#[derive(Debug)]
pub struct DirLock {
    _file: fs::File,
}

impl DirLock {
    /// Locks `dir`, which must exist, without waiting.
    ///
    /// # Errors
    /// [`Error::Held`] if another process, or another part of this one, has it.
    pub fn acquire(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(NAME);
        let failed = |source| Error::Io { file: path.clone(), source };
        let mut options = fs::OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(Error::Held { dir: dir.to_path_buf(), holder: holder(&file) });
            }
            Err(fs::TryLockError::Error(source)) => return Err(failed(source)),
        }
        file.set_len(0).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// Who wrote into the file. It may just be doing so: this is a hint for people.
fn holder(file: &fs::File) -> String {
    let mut text = String::new();
    match file.take(PID_BYTES_MAX).read_to_string(&mut text) {
        Ok(_) if text.trim().parse::<u32>().is_ok() => text.trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_until_dropped_and_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirLock::acquire(dir.path()).unwrap();
        let error = DirLock::acquire(dir.path()).unwrap_err();
        assert!(matches!(&error, Error::Held { holder, .. } if *holder == std::process::id().to_string()), "{error}");
        drop(lock);
        let again = DirLock::acquire(dir.path()).unwrap();
        fs::write(dir.path().join(NAME), "12 monkeys").unwrap();
        let error = DirLock::acquire(dir.path()).unwrap_err();
        assert!(error.to_string().contains("by process unknown"), "{error}");
        drop(again);
    }

    #[test]
    fn says_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let error = DirLock::acquire(&dir.path().join("none")).unwrap_err();
        assert!(matches!(&error, Error::Io { file, .. } if file.ends_with("none/LOCK")), "{error}");
    }
}
