//! A disk that takes its time.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::store::disk::{Directory, Disk, File, Open, RealDisk};

/// The real file system, where making written data durable takes at least so long.
///
/// For [`Engine::open_on`](crate::Engine::open_on): with it, what is decided and what is durable are far apart.
#[derive(Debug, Clone, Copy)]
pub struct SlowDisk {
    sync: Duration,
}

impl SlowDisk {
    /// One that takes at least `sync` for each sync of a file.
    #[must_use]
    pub fn new(sync: Duration) -> Self {
        Self { sync }
    }
}

struct SlowFile {
    file: Box<dyn File>,
    sync: Duration,
}

impl Disk for SlowDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
        Ok(Box::new(SlowFile { file: RealDisk.open(path, how)?, sync: self.sync }))
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
}

impl File for SlowFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        std::thread::sleep(self.sync);
        self.file.sync()
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
}
