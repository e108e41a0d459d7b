//! The journal as a node has it, whoever writes it: which frames there are, how far they are durable, who hears of new
//! ones, and the end of it.
//!
//! What is asked here is the same for a node that owns the log and for one that follows it: it must not know who appends,
//! nor when that is somebody else.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::codec::Record;
use super::journal::{self, Frames};
use crate::domain::{Lsn, Timestamp};

/// Durable records, in order, each with the lsn of its first event.
pub type DurableBatch = Arc<Vec<(Lsn, Arc<Record>)>>;

/// Takes in what has become durable. Must not block, nor end the journal: no other batch comes meanwhile.
pub type Reader = Box<dyn FnMut(&DurableBatch) + Send>;

/// Hears why the journal has failed.
type FailureHearer = Box<dyn FnOnce(&str) + Send>;

/// Lets go who waits for what a term has not made durable.
type EndOfTerm = Arc<dyn Fn() + Send + Sync>;

/// Makes this node's own copy of the log durable up to an lsn; false if that never will be.
type Keep = Box<dyn Fn(Lsn) -> bool + Send + Sync>;

/// A node's journal; cheap to clone.
#[derive(Clone)]
pub struct Journal(Arc<Shared>);

struct Shared {
    frames: Frames,
    /// The last lsn that no power cut can take back.
    durable: AtomicU64,
    /// The latest time of all records up to there, in milliseconds.
    at: AtomicU64,
    /// Where this machine's disk only copies the log.
    keep: OnceLock<Keep>,
    closed: AtomicBool,
    reason: Mutex<Option<String>>,
    on_failure: Mutex<Vec<FailureHearer>>,
    /// Of the term under way.
    end_of_term: Mutex<Option<EndOfTerm>>,
    readers: Mutex<Vec<Reader>>,
    counters: Counters,
}

/// What has been committed so far.
#[derive(Debug, Default)]
pub struct Counters {
    /// Batches written.
    pub batches: AtomicU64,
    /// Bytes that they take in the journal.
    pub bytes: AtomicU64,
    /// Nanoseconds spent in writing and syncing.
    pub commit_nanos: AtomicU64,
}

impl Journal {
    /// A journal whose last event has `last`, and whose latest time is `at`.
    #[must_use]
    pub fn new(frames: Frames, last: Lsn, at: Timestamp) -> Self {
        Self(Arc::new(Shared {
            frames,
            durable: AtomicU64::new(last.0),
            at: AtomicU64::new(at.as_millis()),
            keep: OnceLock::new(),
            closed: AtomicBool::new(false),
            reason: Mutex::default(),
            on_failure: Mutex::default(),
            end_of_term: Mutex::default(),
            readers: Mutex::default(),
            counters: Counters::default(),
        }))
    }

    /// One of a node that has nothing on any disk, up to `last`.
    #[cfg(test)]
    pub(crate) fn of_nothing(last: Lsn) -> Self {
        let disk = Arc::new(crate::testing::sim_disk::SimDisk::new(0));
        Self::new(Frames::in_dir(disk, "/nothing".as_ref()), last, Timestamp::default())
    }

    /// A reader whose first batch is the one that holds `from`, or that will. What it may read ends at
    /// [`durable`](Self::durable).
    ///
    /// # Errors
    /// As [`Frames::from`].
    pub fn read(&self, from: Lsn) -> Result<journal::Reader, journal::Error> {
        self.0.frames.from(from)
    }

    /// Reads from somewhere before all that was written at `at` or later.
    ///
    /// # Errors
    /// As [`Frames::from`].
    pub fn read_since(&self, at: Timestamp) -> Result<journal::Reader, journal::Error> {
        self.0.frames.since(at)
    }

    /// Lets `reader` take in every batch that becomes durable from now on, in order, until the journal is closed.
    pub fn add_reader(&self, reader: Reader) {
        let mut readers = self.0.readers.lock();
        if !self.is_closed() {
            readers.push(reader);
        }
    }

    /// `batch`, which ends with `last`, is durable; `at` is the latest time of all records so far. False if the journal was closed
    /// meanwhile: then nobody hears of it, and it counts for nothing here before the next start.
    pub(crate) fn advance(&self, last: Lsn, at: Timestamp, batch: &DurableBatch) -> bool {
        // Under the lock: whoever closes it takes the readers away afterwards.
        let mut readers = self.0.readers.lock();
        if self.is_closed() {
            return false;
        }
        self.0.at.fetch_max(at.as_millis(), Ordering::Relaxed);
        self.0.durable.store(last.0, Ordering::Release);
        for reader in &mut *readers {
            reader(batch);
        }
        true
    }

    /// The last lsn that no power cut can take back. Those who read have heard of all up to there, or are about to.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        Lsn(self.0.durable.load(Ordering::Acquire))
    }

    /// What is durable elsewhere is made so on this machine's disk by `keep`. To be said once, before anything is appended.
    pub(crate) fn kept_by(&self, keep: impl Fn(Lsn) -> bool + Send + Sync + 'static) {
        drop(self.0.keep.set(Box::new(keep)));
    }

    /// Makes certain that this machine's own disk has everything up to `lsn`, which is durable. May block. False if the journal
    /// has ended.
    #[must_use]
    pub fn keep(&self, lsn: Lsn) -> bool {
        self.0.keep.get().is_none_or(|keep| keep(lsn))
    }

    /// The latest time of all durable records.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        Timestamp::from_millis(self.0.at.load(Ordering::Relaxed))
    }

    /// What has been committed so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Whether it has failed or was closed: nothing more will become durable.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }

    /// Why it has failed, if it has.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.0.reason.lock().clone()
    }

    /// Calls `hear` once if the journal fails: at once, if it has.
    pub fn on_failure(&self, hear: impl FnOnce(&str) + Send + 'static) {
        // Under the lock: a failure that is not seen here has not come to those who are to hear of it yet.
        let mut hearers = self.0.on_failure.lock();
        match self.failure() {
            None => hearers.push(Box::new(hear)),
            Some(reason) => {
                drop(hearers);
                hear(&reason);
            }
        }
    }

    /// A term has begun, in the place of the last one; `end` is called if the journal fails.
    pub(super) fn term_begins(&self, end: EndOfTerm) {
        *self.0.end_of_term.lock() = Some(end.clone());
        // A failure that is seen here may have come before the term.
        if self.failure().is_some() {
            end();
        }
    }

    /// Fails for good: nothing that is not durable yet will be, and all who wait for it are let go.
    pub fn poison(&self, reason: &str) {
        {
            let mut first = self.0.reason.lock();
            if first.is_some() {
                return;
            }
            *first = Some(reason.to_owned());
        }
        tracing::error!(reason, "the engine has failed");
        self.close();
        let end = self.0.end_of_term.lock().take();
        // Outside the lock: who is let go may call back.
        if let Some(end) = end {
            end();
        }
        let hearers = std::mem::take(&mut *self.0.on_failure.lock());
        for hear in hearers {
            hear(reason);
        }
    }

    /// Nothing more will become durable.
    pub(crate) fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        let readers = std::mem::take(&mut *self.0.readers.lock());
        drop(readers);
    }
}
