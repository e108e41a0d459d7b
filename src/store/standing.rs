//! How far a node of a cluster has read the log: the file `cluster` in its data directory. A directory that has it belongs to
//! a cluster.
//!
//! Architecture invariant: what stands in it is the cluster's business; here it is bytes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, Open};

const NAME: &str = "cluster";
const NEW: &str = "cluster.new";

/// The file, of one data directory.
#[derive(Debug, Clone)]
pub struct Standing {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl Standing {
    /// That of `data_dir`.
    #[must_use]
    pub fn in_dir(disk: Arc<dyn Disk>, data_dir: &Path) -> Self {
        Self { disk, dir: data_dir.to_path_buf() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.join(NAME)
    }

    /// What was written last; `None` if the directory belongs to no cluster.
    ///
    /// # Errors
    /// What the disk said.
    pub fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let file = match self.disk.open(&self.path(), Open::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = vec![0; file.size()? as usize];
        let mut read = 0;
        while read < bytes.len() {
            match file.read_at(&mut bytes[read..], read as u64) {
                Ok(0) => bytes.truncate(read),
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(bytes))
    }

    /// Replaces it: durable when this returns; a crash before that leaves the old one or the new one.
    ///
    /// # Errors
    /// What the disk said. Nothing has changed if something was [lacking](super::disk::is_lack); else either is there.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let (new, names) = (self.dir.join(NEW), self.disk.open_dir(&self.dir)?);
        match self.disk.remove(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.disk.open(&new, Open::Create)?;
        file.write_all_at(bytes, 0)?;
        file.sync()?;
        self.disk.rename(&new, &self.path())?;
        names.sync()
    }

    /// Takes it away: the directory belongs to no cluster any more. Durable when this returns.
    ///
    /// # Errors
    /// What the disk said.
    #[cfg(any(test, feature = "testing", all(feature = "server", feature = "cluster")))]
    pub fn remove(&self) -> io::Result<()> {
        self.disk.remove(&self.path())?;
        self.disk.sync_dir(&self.dir)
    }
}
