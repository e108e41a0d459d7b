//! A disk whose syncs do nothing: what tests of power cuts must notice.

use std::io;
use std::path::Path;

use super::sim_disk::SimDisk;
use crate::store::disk::{Directory, Disk, File, Open};

/// Says that it has synced, and has not: files, or else directories.
#[derive(Debug, Clone)]
pub struct LyingDisk {
    /// What does everything else.
    pub disk: SimDisk,
    /// Whether it lies about directories, and not about files.
    pub about_dirs: bool,
}

struct LyingFile(Box<dyn File>);

impl Disk for LyingDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
        let file = self.disk.open(path, how)?;
        Ok(if self.about_dirs { file } else { Box::new(LyingFile(file)) })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.about_dirs { Ok(()) } else { self.disk.sync_dir(dir) }
    }

    fn open_dir(&self, dir: &Path) -> io::Result<Box<dyn Directory>> {
        let opened = self.disk.open_dir(dir)?;
        Ok(if self.about_dirs { Box::new(LyingDirectory) } else { opened })
    }

    fn available_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.disk.available_bytes(dir)
    }
}

struct LyingDirectory;

impl Directory for LyingDirectory {
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl File for LyingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
}
