//! The real file system, of which one call fails.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::store::disk::{Directory, Disk, File, Open, RealDisk};
use crate::testing::sim_disk::Failure;

/// A call that has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// What it was: `write`, `sync`, `rename` and so on.
    pub call: &'static str,
    /// The file or directory that it was about.
    pub path: PathBuf,
}

/// The real file system; any one call can be told to fail. Clones are the same disk.
///
/// For [`Engine::open_on`](crate::Engine::open_on). A write that fails has written half of its bytes. How much space is
/// left can always be asked, and is not counted as a call.
#[derive(Clone, Default)]
pub struct FailingDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    calls: u64,
    /// How many calls go well before one fails, and how that does.
    fault: Option<(u64, Failure)>,
    failed: Option<Failed>,
    halted: bool,
    /// So many bytes are left, whatever the file system says.
    available_bytes: Option<u64>,
}

impl FailingDisk {
    /// Lets the call after the next `after` fail, once; with [`Failure::Halt`] all that come later as well, and with
    /// [`Failure::NoDescriptor`] the first from there on that opens something.
    pub fn fail(&self, after: u64, failure: Failure) {
        let mut state = self.0.lock();
        let (calls, available_bytes) = (state.calls, state.available_bytes);
        *state = State { calls, available_bytes, fault: Some((after, failure)), ..State::default() };
    }

    /// No call fails any more. Gives the first that did, if any has since [`fail`](Self::fail).
    pub fn heal(&self) -> Option<Failed> {
        let mut state = self.0.lock();
        (state.fault, state.halted) = (None, false);
        state.failed.take()
    }

    /// Says from now on that so many bytes are left; `None`: what the file system says.
    pub fn set_available_bytes(&self, bytes: Option<u64>) {
        self.0.lock().available_bytes = bytes;
    }

    /// The first call that has failed, if any has since [`fail`](Self::fail).
    #[must_use]
    pub fn failed(&self) -> Option<Failed> {
        self.0.lock().failed.clone()
    }

    /// How many calls there were.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.0.lock().calls
    }

    fn call(&self, call: &'static str, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.calls += 1;
        if state.halted {
            return Err(rustix::io::Errno::IO.into());
        }
        let Some((after, failure)) = state.fault else { return Ok(()) };
        let opens = ["create", "open", "list", "sync_dir", "open_dir"].contains(&call);
        if after == 0 && failure == Failure::NoDescriptor && !opens {
            return Ok(());
        }
        if let Some(after) = after.checked_sub(1) {
            state.fault = Some((after, failure));
            return Ok(());
        }
        state.fault = None;
        state.halted = failure == Failure::Halt;
        state.failed = Some(Failed { call, path: path.to_path_buf() });
        Err(match failure {
            Failure::NoSpace => rustix::io::Errno::NOSPC.into(),
            Failure::NoDescriptor => rustix::io::Errno::MFILE.into(),
            Failure::Io | Failure::Halt => rustix::io::Errno::IO.into(),
        })
    }
}

impl fmt::Debug for FailingDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.lock().fmt(f)
    }
}

struct FailingFile {
    file: Box<dyn File>,
    path: PathBuf,
    disk: FailingDisk,
}

struct FailingDirectory {
    directory: Box<dyn Directory>,
    path: PathBuf,
    disk: FailingDisk,
}

impl Directory for FailingDirectory {
    fn sync(&self) -> io::Result<()> {
        self.disk.call("sync", &self.path)?;
        self.directory.sync()
    }
}

impl Disk for FailingDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
        self.call(if how == Open::Create { "create" } else { "open" }, path)?;
        Ok(Box::new(FailingFile { file: RealDisk.open(path, how)?, path: path.to_path_buf(), disk: self.clone() }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.call("list", dir)?;
        RealDisk.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.call("create_dir_all", dir)?;
        RealDisk.create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("rename", to)?;
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call("remove", path)?;
        RealDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.call("sync_dir", dir)?;
        RealDisk.sync_dir(dir)
    }

    fn open_dir(&self, dir: &Path) -> io::Result<Box<dyn Directory>> {
        self.call("open_dir", dir)?;
        let (directory, path, disk) = (RealDisk.open_dir(dir)?, dir.to_path_buf(), self.clone());
        Ok(Box::new(FailingDirectory { directory, path, disk }))
    }

    fn available_bytes(&self, dir: &Path) -> io::Result<u64> {
        let told = self.0.lock().available_bytes;
        told.map_or_else(|| RealDisk.available_bytes(dir), Ok)
    }
}

impl File for FailingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.call("read", &self.path)?;
        self.file.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let was_halted = self.disk.0.lock().halted;
        let refused = self.disk.call("write", &self.path);
        let written = match refused {
            Ok(()) => bytes.len(),
            Err(_) if was_halted => 0,
            Err(_) => bytes.len() / 2,
        };
        self.file.write_all_at(&bytes[..written], offset)?;
        refused
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.call("sync", &self.path)?;
        self.file.sync()
    }

    fn size(&self) -> io::Result<u64> {
        self.disk.call("size", &self.path)?;
        self.file.size()
    }
}
