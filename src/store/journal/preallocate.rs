//! Prepares the next segment while the current one fills: a file of zeros, synced, under a name that recovery ignores.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::{At, Error, Options, Preallocate};
use crate::store::disk::{Disk, File, Open, is_lack, is_lack_of_space};

/// What a prepared segment is called.
const NEXT: &str = "next.tmp";

/// What a segment is called that is made for one large frame.
const LARGE: &str = "large.tmp";

/// How long the next segment is waited for, once it is needed, while something other than space is lacking.
const PATIENCE: Duration = Duration::from_secs(30);

/// A new segment, full of zeros and durable but for its name.
pub(super) struct Prepared {
    pub file: Box<dyn File>,
    pub path: PathBuf,
    pub bytes: u64,
}

/// How a journal is doing, as seen from any thread.
#[derive(Debug, Clone, Default)]
pub struct Status {
    space_exhausted: Arc<AtomicBool>,
    put_off: Arc<AtomicU64>,
}

impl Status {
    /// Whether there is no room to prepare another segment. The current one can still be used to its end. Goes back to
    /// false by itself, within [`Options::space_retry`] of when space was freed.
    #[must_use]
    pub fn space_exhausted(&self) -> bool {
        self.space_exhausted.load(Ordering::Relaxed)
    }

    /// How often the next segment was put off, for want of space, descriptors or memory.
    #[must_use]
    pub fn put_off(&self) -> u64 {
        self.put_off.load(Ordering::Relaxed)
    }
}

/// Owner of the segment to come.
pub(super) struct Preallocator {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Preallocator {
    /// Begins to prepare a segment, unless that is to be done inline.
    pub fn start(disk: Arc<dyn Disk>, dir: PathBuf, options: Options) -> Result<Self, Error> {
        let background = options.preallocate == Preallocate::Background;
        let leave_free = options.reserve_bytes;
        let shared = Arc::new(Shared {
            disk,
            dir,
            options,
            status: Status::default(),
            slot: Mutex::new(Slot::Wanted { leave_free }),
            changed: Condvar::new(),
            lacking: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let mut thread = None;
        if background {
            let shared = Arc::clone(&shared);
            let spawned = thread::Builder::new().name("journal-preallocate".into()).spawn(move || shared.run());
            thread = Some(spawned.at("start a thread for", Path::new(NEXT))?);
        }
        Ok(Self { shared, thread })
    }

    pub fn status(&self) -> Status {
        self.shared.status.clone()
    }

    /// To be called now and then. Prepares a segment if one is wanted and that is done inline.
    ///
    /// # Errors
    /// What the disk said when a segment was being prepared, other than that there is no room.
    pub fn poll(&self) -> Result<(), Error> {
        if self.thread.is_none() {
            self.shared.step();
        }
        let shared = &*self.shared;
        let mut slot = shared.slot.lock();
        match std::mem::replace(&mut *slot, Slot::Stopped) {
            Slot::Failed(error) => Err(error),
            // To look again is cheap; there is nobody else to do it.
            Slot::Lacking(_) if self.thread.is_none() => {
                *slot = shared.wanted();
                Ok(())
            }
            other => {
                *slot = other;
                Ok(())
            }
        }
    }

    /// The next segment, waiting for it if need be. To be renamed before [`want_next`](Self::want_next) is called,
    /// since the one after it is prepared under the same name.
    ///
    /// # Errors
    /// [`Error::OutOfSpace`], or what the disk said.
    pub fn take(&self) -> Result<Prepared, Error> {
        let shared = &*self.shared;
        let mut last_try = false;
        let until = Instant::now() + PATIENCE;
        let mut slot = shared.slot.lock();
        loop {
            match std::mem::replace(&mut *slot, Slot::Stopped) {
                Slot::Ready(prepared) => {
                    *slot = Slot::Taken;
                    return Ok(prepared);
                }
                Slot::Failed(error) => return Err(error),
                Slot::Taken | Slot::Stopped => return Err(Error::Closed),
                // Space is for somebody to make; what else is lacking comes back by itself.
                lacking @ Slot::Lacking(Lack::Other(_)) if self.thread.is_some() && Instant::now() < until => {
                    *slot = lacking;
                    shared.changed.wait_until(&mut slot, until);
                }
                Slot::Lacking(lack) if last_try => return Err(shared.out_of(lack, shared.options.segment_bytes)),
                Slot::Lacking(_) => {
                    last_try = true;
                    *slot = Slot::Wanted { leave_free: 0 };
                    shared.changed.notify_all();
                }
                wanted @ Slot::Wanted { .. } => {
                    *slot = wanted;
                    if self.thread.is_some() {
                        shared.changed.wait(&mut slot);
                    } else {
                        drop(slot);
                        shared.step();
                        slot = shared.slot.lock();
                    }
                }
            }
        }
    }

    /// Begins to prepare the segment after the one that was taken.
    pub fn want_next(&self) {
        let mut slot = self.shared.slot.lock();
        if matches!(*slot, Slot::Taken) {
            *slot = self.shared.wanted();
            self.shared.changed.notify_all();
        }
    }

    /// A segment of `bytes` for one large frame.
    ///
    /// # Errors
    /// [`Error::OutOfSpace`], or what the disk said.
    pub fn make(&self, bytes: u64) -> Result<Prepared, Error> {
        let until = Instant::now() + PATIENCE;
        loop {
            return match self.shared.prepare(LARGE, bytes, 0) {
                Slot::Ready(prepared) => Ok(prepared),
                Slot::Failed(error) => Err(error),
                Slot::Lacking(Lack::Other(_)) if self.thread.is_some() && Instant::now() < until => {
                    thread::sleep(self.shared.options.space_retry);
                    continue;
                }
                Slot::Lacking(lack) => Err(self.shared.out_of(lack, bytes)),
                Slot::Wanted { .. } | Slot::Taken | Slot::Stopped => Err(Error::Closed),
            };
        }
    }
}

impl Drop for Preallocator {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        *self.shared.slot.lock() = Slot::Stopped;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic in there has been reported already, and there is nothing left to save.
            let _ = thread.join();
        }
    }
}

/// Removes what an earlier run prepared and did not use.
pub(super) fn remove_leftovers(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    for name in [NEXT, LARGE] {
        let path = dir.join(name);
        remove_if_there(disk, &path).at("remove", &path)?;
    }
    Ok(())
}

/// How far the next segment has come.
enum Slot {
    /// To be prepared, if that leaves so many bytes of the file system free.
    Wanted {
        leave_free: u64,
    },
    Ready(Prepared),
    /// Taken, and not renamed yet.
    Taken,
    /// To be tried again.
    Lacking(Lack),
    Failed(Error),
    /// Nobody wants it any more.
    Stopped,
}

/// Why a segment cannot be prepared yet.
enum Lack {
    /// There was no room.
    Space,
    /// Descriptors or memory.
    Other(Error),
}

/// What the log and the thread share.
struct Shared {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: Options,
    status: Status,
    slot: Mutex<Slot>,
    /// The slot has changed.
    changed: Condvar,
    /// The last try has failed for want of something, which has been told.
    lacking: AtomicBool,
    stop: AtomicBool,
}

impl Shared {
    fn wanted(&self) -> Slot {
        Slot::Wanted { leave_free: self.options.reserve_bytes }
    }

    /// The thread.
    fn run(&self) {
        loop {
            self.step();
            let mut slot = self.slot.lock();
            loop {
                match &*slot {
                    Slot::Wanted { .. } => break,
                    Slot::Stopped => return,
                    Slot::Ready(_) | Slot::Taken | Slot::Failed(_) => self.changed.wait(&mut slot),
                    Slot::Lacking(_) => {
                        let timed_out = self.changed.wait_for(&mut slot, self.options.space_retry).timed_out();
                        if timed_out && matches!(*slot, Slot::Lacking(_)) {
                            *slot = self.wanted();
                        }
                    }
                }
            }
        }
    }

    /// Prepares a segment if one is wanted.
    fn step(&self) {
        let Slot::Wanted { leave_free } = *self.slot.lock() else { return };
        let outcome = self.prepare(NEXT, self.options.segment_bytes, leave_free);
        // To have dipped into the reserve is no sign of plenty.
        let exhausted = matches!(outcome, Slot::Lacking(Lack::Space)) || leave_free < self.options.reserve_bytes;
        self.status.space_exhausted.store(exhausted, Ordering::Relaxed);
        let mut slot = self.slot.lock();
        if !matches!(*slot, Slot::Stopped) {
            *slot = outcome;
        }
        self.changed.notify_all();
    }

    /// What to say once `lack` is the end.
    fn out_of(&self, lack: Lack, needed_bytes: u64) -> Error {
        match lack {
            Lack::Space => Error::OutOfSpace { dir: self.dir.clone(), needed_bytes },
            Lack::Other(error) => error,
        }
    }

    /// Never [`Slot::Wanted`].
    fn prepare(&self, name: &str, bytes: u64, leave_free: u64) -> Slot {
        let path = self.dir.join(name);
        match self.fill(&path, bytes, leave_free) {
            Ok(Some(file)) => {
                if self.lacking.swap(false, Ordering::Relaxed) {
                    tracing::info!("a segment is prepared after all");
                }
                Slot::Ready(Prepared { file, path, bytes })
            }
            Ok(None) => Slot::Stopped,
            Err(Error::Io { file, doing, source }) if is_lack(&source) => {
                // Space that cannot be used for a segment is better left to others. If this fails, the next try will
                // say why.
                let _ = remove_if_there(&*self.disk, &path);
                let for_space = is_lack_of_space(&source);
                let error = Error::Io { file, doing, source };
                self.status.put_off.fetch_add(1, Ordering::Relaxed);
                if !self.lacking.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "a segment cannot be prepared yet; it is tried again");
                }
                Slot::Lacking(if for_space { Lack::Space } else { Lack::Other(error) })
            }
            Err(error) => Slot::Failed(error),
        }
    }

    /// Makes a file of `bytes` zeros and syncs it; `None` if it was stopped half-way.
    fn fill(&self, path: &Path, bytes: u64, leave_free: u64) -> Result<Option<Box<dyn File>>, Error> {
        remove_if_there(&*self.disk, path).at("remove", path)?;
        let available = self.disk.available_bytes(&self.dir).at("look for free space in", &self.dir)?;
        if available < bytes.saturating_add(leave_free) {
            return Err(io::Error::from(io::ErrorKind::StorageFull)).at("fill", path);
        }
        let file = self.disk.open(path, Open::Create).at("create", path)?;
        let zeros = vec![0; self.options.fill_bytes.min(bytes as usize)];
        let mut offset = 0;
        while offset < bytes {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let length = (zeros.len() as u64).min(bytes - offset);
            file.write_all_at(&zeros[..length as usize], offset).at("fill", path)?;
            file.sync().at("sync", path)?;
            offset += length;
        }
        Ok(Some(file))
    }
}

fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
