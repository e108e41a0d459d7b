//! A disk in memory that forgets what was not synced, and fails when told to.
//!
//! What it takes for granted: a synced sector stays as it is, and a directory entry that changes, changes as a whole.
//! What it does not: in which order unsynced sectors and names reach the platter, or whether they do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::random::Random;
use crate::store::disk::{Directory, Disk, File, Open};

/// The unit that is written wholly or not at all, in bytes.
const SECTOR: usize = 512;

/// `EIO`, `EMFILE` and `ENOSPC`, so that callers see the error kinds that they would see of a real disk.
const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;

/// What becomes of a sector that is being written when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tear {
    /// It is old or new.
    Whole,
    /// It may also begin as the new one and end as the old one.
    Within,
}

/// Which calls count towards a [`Fault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// Every call, of a file or of the disk.
    All,
    /// Writes to a file.
    Writes,
    /// Syncs of a file.
    Syncs,
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// With `EIO`. A write may have been done in part. A sync leaves any part of what was unsynced on the platter, and
    /// takes all of it for synced: reads still show it, and no later sync writes it.
    Io,
    /// As [`Io`](Self::Io), with `ENOSPC`.
    NoSpace,
    /// With `EMFILE`, as a call that opens something.
    NoDescriptor,
    /// With `EIO`, as does every call after it: the process has died.
    Halt,
}

/// One call that is to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Which calls are counted.
    pub calls: Calls,
    /// How many of them go well before, counted from now.
    pub after: u64,
    /// How it fails.
    pub failure: Failure,
}

/// Does something between two calls.
type Between = Box<dyn FnMut() + Send>;

/// A [`Disk`] in memory. Clones are the same disk. It begins with an empty `/`.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>, Arc<Mutex<Option<Between>>>);

impl SimDisk {
    /// An empty disk. `seed` decides what failing calls leave behind.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let root = Dir { durable: true, ..Dir::default() };
        Self::with(State {
            dirs: BTreeMap::from([(PathBuf::from("/"), root)]),
            inodes: BTreeMap::new(),
            next_inode: 0,
            calls: 0,
            fault: None,
            failed: 0,
            halted: false,
            available_bytes: u64::MAX,
            random: Random(seed),
        })
    }

    /// The disk as it is after a power cut: of what was not synced, any part is kept, as `seed` decides. This disk
    /// stays as it is, so that other seeds can be tried.
    #[must_use]
    pub fn crash(&self, seed: u64, tear: Tear) -> Self {
        let state = self.0.lock();
        let mut random = Random(seed);
        let mut dirs = BTreeMap::new();
        for (path, dir) in &state.dirs {
            let parent_is_there = path.parent().is_none_or(|parent| dirs.contains_key(parent));
            if parent_is_there && (dir.durable || random.coin()) {
                let mut entries = dir.synced.clone();
                for change in &dir.unsynced {
                    if random.coin() {
                        change.apply(&mut entries);
                    }
                }
                let (synced, unsynced) = (entries.clone(), Vec::new());
                dirs.insert(path.clone(), Dir { durable: true, entries, synced, unsynced });
            }
        }
        let reachable: BTreeSet<u64> = dirs.values().flat_map(|dir| dir.entries.values().copied()).collect();
        let mut inodes = state.inodes.clone();
        inodes.retain(|inode, _| reachable.contains(inode));
        for file in inodes.values_mut() {
            file.lose_unsynced(&mut random, tear);
            file.cache.clone_from(&file.platter);
        }
        Self::with(State {
            dirs,
            inodes,
            next_inode: state.next_inode,
            calls: 0,
            fault: None,
            failed: 0,
            halted: false,
            available_bytes: state.available_bytes,
            random,
        })
    }

    fn with(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)), Arc::default())
    }

    /// Makes one call fail, in place of any other fault that is still to come. Ends a halt.
    pub fn fail(&self, fault: Fault) {
        let mut state = self.0.lock();
        state.fault = Some(fault);
        state.halted = false;
    }

    /// No call fails any more.
    pub fn heal(&self) {
        let mut state = self.0.lock();
        state.fault = None;
        state.halted = false;
    }

    /// Limits how many bytes files can still grow by.
    pub fn set_available_bytes(&self, bytes: u64) {
        self.0.lock().available_bytes = bytes;
    }

    /// Lets others have a turn before each write and each sync of a file, as threads would that run meanwhile. What
    /// they do to the disk lets nobody else have a turn.
    pub fn between(&self, between: Option<Box<dyn FnMut() + Send>>) {
        *self.1.lock() = between;
    }

    /// Lets others have a turn.
    pub(crate) fn others(&self) {
        let between = self.1.lock().take();
        if let Some(mut between) = between {
            between();
            *self.1.lock() = Some(between);
        }
    }

    /// Whether a fault has halted everything.
    #[must_use]
    pub fn is_halted(&self) -> bool {
        self.0.lock().halted
    }

    /// How many calls have failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.0.lock().failed
    }

    /// The files in all directories, with what reads of them show.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let state = self.0.lock();
        let entries =
            state.dirs.iter().flat_map(|(path, dir)| dir.entries.iter().map(|(name, no)| (path.join(name), no)));
        entries.map(|(path, inode)| (path, state.inodes[inode].cache.clone())).collect()
    }

    /// How many calls there were.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.0.lock().calls
    }

    /// Changes one byte of a file, durably, as wear or a stray hand would.
    ///
    /// # Errors
    /// There is no such file or byte.
    pub fn corrupt(&self, path: &Path, offset: u64, xor: u8) -> io::Result<()> {
        let mut state = self.0.lock();
        let inode = state.find(path)?;
        let file = state.file(inode)?;
        for bytes in [&mut file.cache, &mut file.platter] {
            *bytes.get_mut(offset as usize).ok_or(io::ErrorKind::UnexpectedEof)? ^= xor;
        }
        Ok(())
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        f.debug_struct("SimDisk").field("dirs", &state.dirs).field("calls", &state.calls).finish_non_exhaustive()
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn File>> {
        let mut state = self.0.lock();
        state.call(None)?;
        let inode = match (how, state.find(path)) {
            (Open::Create, Ok(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Open::Create, Err(_)) => {
                let inode = state.next_inode;
                state.change(path, Some(inode))?;
                state.next_inode += 1;
                state.inodes.insert(inode, FileState::default());
                inode
            }
            (_, found) => found?,
        };
        Ok(Box::new(SimFile { disk: self.clone(), inode, writable: how != Open::Read }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.0.lock();
        state.call(None)?;
        Ok(state.dir(dir)?.entries.keys().cloned().collect())
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.call(None)?;
        for path in dir.ancestors() {
            state.dirs.entry(path.to_path_buf()).or_default();
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.call(None)?;
        let inode = state.find(from)?;
        if from.parent() != to.parent() {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        let change = Change { set: Some((name(to)?, inode)), remove: Some(name(from)?) };
        state.dir(parent(from)?)?.change(change);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.call(None)?;
        state.find(path)?;
        state.change(path, None)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.call(None)?;
        let synced = state.dir(dir)?;
        synced.synced.clone_from(&synced.entries);
        synced.unsynced.clear();
        for (path, child) in &mut state.dirs {
            child.durable |= path.parent() == Some(dir);
        }
        Ok(())
    }

    fn open_dir(&self, dir: &Path) -> io::Result<Box<dyn Directory>> {
        let mut state = self.0.lock();
        state.call(None)?;
        state.dir(dir)?;
        Ok(Box::new(SimDirectory { disk: self.clone(), path: dir.to_path_buf() }))
    }

    fn available_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let mut state = self.0.lock();
        state.call(None)?;
        Ok(state.available_bytes)
    }
}

/// An open directory of a [`SimDisk`].
struct SimDirectory {
    disk: SimDisk,
    path: PathBuf,
}

impl Directory for SimDirectory {
    fn sync(&self) -> io::Result<()> {
        self.disk.sync_dir(&self.path)
    }
}

/// An open file of a [`SimDisk`]. It stays readable when its name is gone.
struct SimFile {
    disk: SimDisk,
    inode: u64,
    writable: bool,
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.0.lock();
        state.call(None)?;
        let cache = &state.file(self.inode)?.cache;
        let rest = &cache[cache.len().min(offset as usize)..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.others();
        let mut state = self.disk.0.lock();
        let outcome = state.call(Some(Calls::Writes));
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let state = &mut *state;
        let file = state.inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        let growth = (offset + bytes.len() as u64).saturating_sub(file.cache.len() as u64);
        if let Err(refused) = outcome {
            let written = state.random.below(bytes.len() as u64 + 1) as usize;
            if refused.failure.is_some() && growth <= state.available_bytes {
                file.write(&bytes[..written], offset as usize);
            }
            return Err(refused.into());
        }
        if growth > state.available_bytes {
            state.failed += 1;
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        state.available_bytes = state.available_bytes.saturating_sub(growth);
        file.write(bytes, offset as usize);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.others();
        let mut state = self.disk.0.lock();
        let outcome = state.call(Some(Calls::Syncs));
        let state = &mut *state;
        let file = state.inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        let Err(refused) = outcome else {
            file.sync();
            return Ok(());
        };
        if matches!(refused.failure, Some(Failure::Io | Failure::NoSpace)) {
            file.lose_unsynced(&mut state.random, Tear::Whole);
        }
        Err(refused.into())
    }

    fn size(&self) -> io::Result<u64> {
        let mut state = self.disk.0.lock();
        state.call(None)?;
        Ok(state.file(self.inode)?.cache.len() as u64)
    }
}

#[derive(Debug)]
struct State {
    dirs: BTreeMap<PathBuf, Dir>,
    inodes: BTreeMap<u64, FileState>,
    next_inode: u64,
    calls: u64,
    fault: Option<Fault>,
    failed: u64,
    halted: bool,
    available_bytes: u64,
    random: Random,
}

impl State {
    /// Counts a call, and decides whether it goes well. `kind` is `None` for those that only [`Calls::All`] counts.
    fn call(&mut self, kind: Option<Calls>) -> Result<(), Refused> {
        self.calls += 1;
        if self.halted {
            self.failed += 1;
            return Err(Refused { failure: None });
        }
        let Some(fault) = &mut self.fault else { return Ok(()) };
        if fault.calls != Calls::All && Some(fault.calls) != kind {
            return Ok(());
        }
        if let Some(after) = fault.after.checked_sub(1) {
            fault.after = after;
            return Ok(());
        }
        let failure = fault.failure;
        self.fault = None;
        self.failed += 1;
        self.halted = failure == Failure::Halt;
        Err(Refused { failure: Some(failure) })
    }

    fn dir(&mut self, path: &Path) -> io::Result<&mut Dir> {
        self.dirs.get_mut(path).ok_or(io::ErrorKind::NotFound.into())
    }

    fn find(&mut self, path: &Path) -> io::Result<u64> {
        let name = name(path)?;
        self.dir(parent(path)?)?.entries.get(&name).copied().ok_or(io::ErrorKind::NotFound.into())
    }

    fn file(&mut self, inode: u64) -> io::Result<&mut FileState> {
        self.inodes.get_mut(&inode).ok_or(io::ErrorKind::NotFound.into())
    }

    /// Makes `path` the name of `inode`, or of nothing.
    fn change(&mut self, path: &Path, inode: Option<u64>) -> io::Result<()> {
        let name = name(path)?;
        let change = match inode {
            Some(inode) => Change { set: Some((name, inode)), remove: None },
            None => Change { set: None, remove: Some(name) },
        };
        self.dir(parent(path)?)?.change(change);
        Ok(())
    }
}

/// A call that does not go well.
struct Refused {
    /// How it fails; `None` if an earlier one has halted everything.
    failure: Option<Failure>,
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        Self::from_raw_os_error(match refused.failure {
            Some(Failure::NoSpace) => ENOSPC,
            Some(Failure::NoDescriptor) => EMFILE,
            Some(Failure::Io | Failure::Halt) | None => EIO,
        })
    }
}

#[derive(Debug, Default)]
struct Dir {
    /// Whether its own name survives a crash.
    durable: bool,
    /// As they are seen: names and inodes.
    entries: BTreeMap<String, u64>,
    /// As they were when last synced.
    synced: BTreeMap<String, u64>,
    /// What lies between.
    unsynced: Vec<Change>,
}

impl Dir {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.entries);
        self.unsynced.push(change);
    }
}

/// An indivisible change of a directory.
#[derive(Debug)]
struct Change {
    set: Option<(String, u64)>,
    remove: Option<String>,
}

impl Change {
    fn apply(&self, entries: &mut BTreeMap<String, u64>) {
        if let Some(name) = &self.remove {
            entries.remove(name);
        }
        if let Some((name, inode)) = &self.set {
            entries.insert(name.clone(), *inode);
        }
    }
}

#[derive(Debug, Clone, Default)]
struct FileState {
    /// What reads show.
    cache: Vec<u8>,
    /// What survives a power cut for certain.
    platter: Vec<u8>,
    /// Every state that a sector was in since it was last synced, oldest first.
    unsynced: BTreeMap<usize, Vec<[u8; SECTOR]>>,
}

impl FileState {
    fn write(&mut self, bytes: &[u8], offset: usize) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        self.cache.resize(self.cache.len().max(end), 0);
        self.cache[offset..end].copy_from_slice(bytes);
        for sector in offset / SECTOR..end.div_ceil(SECTOR) {
            let state = sector_of(&self.cache, sector);
            self.unsynced.entry(sector).or_default().push(state);
        }
    }

    fn sync(&mut self) {
        self.platter.resize(self.cache.len(), 0);
        for sector in std::mem::take(&mut self.unsynced).into_keys() {
            let end = self.cache.len().min((sector + 1) * SECTOR);
            self.platter[sector * SECTOR..end].copy_from_slice(&self.cache[sector * SECTOR..end]);
        }
    }

    /// Puts any part of what is unsynced on the platter, and forgets that the rest ever was to be synced.
    fn lose_unsynced(&mut self, random: &mut Random, tear: Tear) {
        for (sector, states) in std::mem::take(&mut self.unsynced) {
            let old = sector_of(&self.platter, sector);
            let Some(kept) = (random.below(states.len() as u64 + 1) as usize).checked_sub(1) else { continue };
            let mut new = states[kept];
            if tear == Tear::Within {
                let torn_at = random.below(SECTOR as u64 + 1) as usize;
                new[torn_at..].copy_from_slice(&old[torn_at..]);
            }
            let (start, end) = (sector * SECTOR, self.cache.len().min((sector + 1) * SECTOR));
            self.platter.resize(self.platter.len().max(end), 0);
            self.platter[start..end].copy_from_slice(&new[..end - start]);
        }
    }
}

/// A sector's bytes, with zeros past the end.
fn sector_of(bytes: &[u8], sector: usize) -> [u8; SECTOR] {
    let mut copy = [0; SECTOR];
    let rest = &bytes[bytes.len().min(sector * SECTOR)..];
    let length = rest.len().min(SECTOR);
    copy[..length].copy_from_slice(&rest[..length]);
    copy
}

fn parent(path: &Path) -> io::Result<&Path> {
    path.parent().ok_or(io::ErrorKind::InvalidInput.into())
}

fn name(path: &Path) -> io::Result<String> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    Ok(name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
        let file = disk.open(Path::new(path), Open::Read).ok()?;
        let mut bytes = vec![0; file.size().unwrap() as usize];
        let length = file.read_at(&mut bytes, 0).unwrap();
        assert_eq!(length, bytes.len());
        Some(bytes)
    }

    /// A disk with a durable file `/f` of two sectors of 1s.
    fn with_file() -> (SimDisk, Box<dyn File>) {
        let disk = SimDisk::new(1);
        let file = disk.open(Path::new("/f"), Open::Create).unwrap();
        file.write_all_at(&[1; 1024], 0).unwrap();
        file.sync().unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        (disk, file)
    }

    #[test]
    fn what_was_synced_survives_and_unsynced_sectors_are_old_or_new() {
        let (disk, file) = with_file();
        assert_eq!(read(&disk.crash(1, Tear::Whole), "/f"), Some(vec![1; 1024]));

        file.write_all_at(&[2; 1024], 0).unwrap();
        file.write_all_at(&[3; 512], 1024).unwrap();
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let bytes = read(&disk.crash(seed, Tear::Whole), "/f").unwrap();
            assert!(bytes.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])), "seed {seed}");
            seen.insert(bytes.chunks(512).map(|sector| sector[0]).collect::<Vec<_>>());
        }
        let all = [1, 2].into_iter().flat_map(|a| [1, 2].map(|b| vec![a, b]));
        let all: BTreeSet<_> = all.flat_map(|kept| [kept.clone(), [kept, vec![3]].concat()]).collect();
        assert_eq!(seen, all);
    }

    #[test]
    fn tears_within_unsynced_sectors_only() {
        let (disk, file) = with_file();
        file.write_all_at(&[2; 512], 512).unwrap();
        let mut torn = 0;
        for seed in 0..100 {
            let bytes = read(&disk.crash(seed, Tear::Within), "/f").unwrap();
            assert_eq!(bytes[..512], [1; 512]);
            torn += usize::from(bytes[512..].contains(&1) && bytes[512..].contains(&2));
        }
        assert!(torn > 10, "{torn}");
    }

    #[test]
    fn names_are_lost_unless_their_directory_is_synced() {
        let disk = SimDisk::new(1);
        disk.create_dir_all(Path::new("/d")).unwrap();
        disk.open(Path::new("/d/f"), Open::Create).unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        let survives =
            |disk: &SimDisk, path| (0..50).filter(|s| read(&disk.crash(*s, Tear::Whole), path).is_some()).count();
        let lucky = survives(&disk, "/d/f");
        assert!((1..50).contains(&lucky), "the directory itself is not durable: {lucky}");
        disk.sync_dir(Path::new("/")).unwrap();
        assert_eq!(survives(&disk, "/d/f"), 50);

        disk.rename(Path::new("/d/f"), Path::new("/d/g")).unwrap();
        let renamed = survives(&disk, "/d/g");
        assert!((1..50).contains(&renamed));
        assert_eq!(survives(&disk, "/d/f"), 50 - renamed);
        disk.sync_dir(Path::new("/d")).unwrap();
        assert_eq!((survives(&disk, "/d/f"), survives(&disk, "/d/g")), (0, 50));
    }

    #[test]
    fn a_failed_sync_leaves_the_cache_and_loses_the_platter() {
        let (disk, file) = with_file();
        let survives = || read(&disk.crash(1, Tear::Whole), "/f") == Some(vec![2; 64 * SECTOR]);
        file.write_all_at(&[2; 64 * SECTOR], 0).unwrap();
        disk.fail(Fault { calls: Calls::Syncs, after: 0, failure: Failure::Io });
        assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(EIO));
        file.sync().unwrap();
        assert!(read(&disk, "/f") == Some(vec![2; 64 * SECTOR]));
        assert!(!survives());
        file.write_all_at(&[2; 64 * SECTOR], 0).unwrap();
        file.sync().unwrap();
        assert!(survives());
    }

    #[test]
    fn faults_hit_the_call_they_are_meant_for() {
        let (disk, file) = with_file();
        disk.fail(Fault { calls: Calls::Writes, after: 1, failure: Failure::NoSpace });
        file.write_all_at(&[2], 0).unwrap();
        file.sync().unwrap();
        assert_eq!(file.write_all_at(&[2], 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
        file.write_all_at(&[2], 0).unwrap();
        disk.fail(Fault { calls: Calls::All, after: 0, failure: Failure::Halt });
        assert!(disk.list(Path::new("/")).is_err());
        assert!(file.size().is_err());
        disk.heal();
        assert_eq!(disk.list(Path::new("/")).unwrap(), ["f"]);
        disk.set_available_bytes(10);
        assert_eq!(file.write_all_at(&[0; 11], 1024).unwrap_err().kind(), io::ErrorKind::StorageFull);
        file.write_all_at(&[0; 10], 1024).unwrap();
        assert_eq!(disk.available_bytes(Path::new("/")).unwrap(), 0);
    }
}
