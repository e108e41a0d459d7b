//! Group commit: one write and one sync for all that came while the last ones were under way.
//!
//! Actors append to the open batch, which is a push under a lock; the committer takes it, writes it, and then releases
//! what waited for it. Effects leave in the order of their lsns, and never before those are durable.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::codec::Record;
use super::journal::{FRAME_BYTES_MAX, FrameRef, Log};
use super::node::{DurableBatch, Journal};
use crate::domain::{Lsn, Timestamp};

/// What is held back until an lsn is durable.
pub trait Held: Send + Sync {
    /// It is.
    fn durable(&self);
    /// It never will be.
    fn lost(&self);
}

/// Something to be done once its lsn is durable. Dropped undone if that never comes.
pub struct Effect(Option<Arc<dyn Held>>);

impl Effect {
    /// Lets go what is held back.
    pub fn of(held: Arc<dyn Held>) -> Self {
        Self(Some(held))
    }

    /// Calls `act`.
    #[cfg(any(test, feature = "testing"))]
    pub fn call(act: impl FnOnce() + Send + 'static) -> Self {
        struct Call<F>(Mutex<Option<F>>);
        impl<F: FnOnce() + Send> Held for Call<F> {
            fn durable(&self) {
                let act = self.0.lock().take();
                if let Some(act) = act {
                    act();
                }
            }

            fn lost(&self) {}
        }
        Self::of(Arc::new(Call(Mutex::new(Some(act)))))
    }

    /// Does it.
    pub fn run(mut self) {
        if let Some(held) = self.0.take() {
            held.durable();
        }
    }
}

impl Drop for Effect {
    fn drop(&mut self) {
        if let Some(held) = self.0.take() {
            held.lost();
        }
    }
}

/// The journal has failed or is closed, or the term is over: nothing more will become durable through this writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the journal is closed")]
pub struct Closed;

#[derive(Default)]
struct Batch {
    records: Vec<(Lsn, Arc<Record>)>,
    effects: Vec<Effect>,
    /// Those of the batch that is being written: the disk may hang, and who waits for it is let go all the same.
    held: Vec<Effect>,
    /// The last lsn that was given out.
    last: Lsn,
    events: u32,
    closing: bool,
}

struct Shared {
    journal: Journal,
    open: Mutex<Batch>,
    filled: Condvar,
    /// The last lsn that is durable, of those before this term and of its own: what another term makes durable under an
    /// lsn that was given out here too is something else.
    durable: AtomicU64,
    /// Events in the open batch.
    waiting: AtomicU64,
    /// When something was published that the log has taken, the last time.
    owned_at: Mutex<Option<Duration>>,
    over: AtomicBool,
    way: Way,
}

/// Who else may append to the log.
pub enum Way {
    /// Nobody: what is durable is certain.
    Alone,
    /// Others, and whoever is deposed may not know it: what rests on something durable is told only after the log has taken
    /// something more of this term. `wake` is called when there is something to be done, and must be short.
    Shared {
        /// Wakes whoever drives the [`Batches`].
        wake: Box<dyn Fn() + Send + Sync>,
        /// The time since any moment, but always the same one.
        elapsed: Box<dyn Fn() -> Duration + Send + Sync>,
    },
}

/// What time it was in a term.
#[derive(Clone)]
pub struct Moment {
    term: Weak<Shared>,
    at: Duration,
}

/// The way into the journal for one term; cheap to clone.
#[derive(Clone)]
pub struct Writer(Arc<Shared>);

impl Writer {
    /// Begins a term: goes on where `journal` ends. The term before must be over, and nobody drive its batches any more.
    #[must_use]
    pub fn begin(journal: &Journal, way: Way) -> (Self, Batches) {
        let last = journal.durable();
        let writer = Self(Arc::new(Shared {
            journal: journal.clone(),
            open: Mutex::new(Batch { last, ..Batch::default() }),
            filled: Condvar::new(),
            durable: AtomicU64::new(last.0),
            waiting: AtomicU64::new(0),
            owned_at: Mutex::new(None),
            over: AtomicBool::new(false),
            way,
        }));
        let term = Arc::downgrade(&writer.0);
        journal.term_begins(Arc::new(move || {
            if let Some(shared) = term.upgrade() {
                Self(shared).end();
            }
        }));
        let batches = Batches {
            writer: writer.clone(),
            rest: Vec::new(),
            bytes: Vec::new(),
            out: None,
            taken_at: None,
            at: journal.at(),
        };
        (writer, batches)
    }

    /// The journal that it writes.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.0.journal
    }

    /// Appends a record to the open batch, and gives the lsn of its first event. Does `effect` as soon as all of it is
    /// durable.
    ///
    /// # Errors
    /// The journal is closed, or the term is over.
    pub fn append(&self, record: Arc<Record>, effect: Option<Effect>) -> Result<Lsn, Closed> {
        let events = record.len() as u32;
        let mut batch = self.0.open.lock();
        if self.is_over() || batch.closing {
            return Err(Closed);
        }
        let first = batch.last.next();
        batch.last.0 += u64::from(events);
        batch.events += events;
        batch.records.push((first, record));
        batch.effects.extend(effect);
        self.wake(batch);
        Ok(first)
    }

    /// Does `effect` as soon as `lsn`, which was given out here or before this term, is durable, and this term is certain to
    /// be the last that was begun: now, if so.
    pub fn when_durable(&self, lsn: Lsn, effect: Effect) {
        if self.is_over() {
            return;
        }
        let is_alone = matches!(self.0.way, Way::Alone);
        if is_alone && lsn <= self.durable() {
            return effect.run();
        }
        let mut batch = self.0.open.lock();
        // Under the lock, since the committer may have been about to take the batch.
        if self.is_over() {
            return;
        }
        // Or may have made it durable since, and be about to seal the log: then it takes nothing more.
        if is_alone && lsn <= self.durable() {
            drop(batch);
            return effect.run();
        }
        batch.effects.push(effect);
        self.wake(batch);
    }

    /// Whether it is certain that this term was the last that was begun at some moment of this last while. It counts
    /// from when what the log took was published: the answer may have lain somewhere since.
    #[must_use]
    pub fn has_owned_within(&self, most: Duration) -> bool {
        match &self.0.way {
            Way::Alone => true,
            Way::Shared { elapsed, .. } => {
                self.0.owned_at.lock().is_some_and(|at| elapsed().saturating_sub(at) <= most)
            }
        }
    }

    /// What time it is for [`has_owned_since`](Self::has_owned_since); `None` where nobody else appends.
    #[must_use]
    pub fn moment(&self) -> Option<Moment> {
        match &self.0.way {
            Way::Alone => None,
            Way::Shared { elapsed, .. } => Some(Moment { term: Arc::downgrade(&self.0), at: elapsed() }),
        }
    }

    /// Whether it is of this term.
    #[must_use]
    pub fn is_of(&self, moment: &Moment) -> bool {
        std::ptr::eq(Arc::as_ptr(&self.0), moment.term.as_ptr())
    }

    /// Whether the log has taken something of this term that was published after `moment`.
    #[must_use]
    pub fn has_owned_since(&self, moment: &Moment) -> bool {
        self.is_of(moment) && self.0.owned_at.lock().is_some_and(|at| at >= moment.at)
    }

    fn wake(&self, batch: parking_lot::MutexGuard<'_, Batch>) {
        self.0.waiting.store(u64::from(batch.events), Ordering::Relaxed);
        drop(batch);
        self.wake_driver();
    }

    /// The last lsn that is durable, of those that this term knows.
    fn durable(&self) -> Lsn {
        Lsn(self.0.durable.load(Ordering::Acquire))
    }

    /// The last lsn that was given out.
    #[must_use]
    pub fn appended(&self) -> Lsn {
        self.0.open.lock().last
    }

    /// Events in the open batch.
    #[must_use]
    pub fn waiting_events(&self) -> u64 {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// Whether the term is over: nothing more becomes durable through it, but perhaps the frame that was being written.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.over.load(Ordering::Acquire)
    }

    /// Fails the journal for good, unless the term is over: what goes wrong in it then harms nobody.
    pub fn poison(&self, reason: &str) {
        if !self.is_over() {
            self.0.journal.poison(reason);
        }
    }

    /// Ends the term. Nothing that is not durable becomes so through it any more, and all who wait for it are let go. Only the
    /// frame that is being written may still become durable, untold, as at a crash: whether it has is certain once the committer
    /// has ended.
    pub fn end(&self) {
        let dropped = {
            let mut batch = self.0.open.lock();
            self.0.over.store(true, Ordering::Release);
            batch.events = 0;
            self.0.waiting.store(0, Ordering::Relaxed);
            (std::mem::take(&mut batch.records), std::mem::take(&mut batch.effects), std::mem::take(&mut batch.held))
        };
        // Outside the lock: who is let go may call back.
        drop(dropped);
        self.wake_driver();
    }

    /// Takes no more records; the committer writes what there is, seals the log and ends.
    pub fn close(&self) {
        self.0.open.lock().closing = true;
        self.wake_driver();
    }

    fn wake_driver(&self) {
        match &self.0.way {
            Way::Alone => _ = self.0.filled.notify_one(),
            Way::Shared { wake, .. } => wake(),
        }
    }
}

/// The batches of one term, one frame after the other. A plain part: whoever drives it gets what [`take`](Self::take) gives
/// into the log, and says so by [`done`](Self::done).
pub struct Batches {
    writer: Writer,
    /// Of the batch that was taken: what is in no frame yet.
    rest: Vec<(Lsn, Arc<Record>)>,
    /// The frame that was given out.
    bytes: Vec<u8>,
    out: Option<Out>,
    /// When what is under way was taken, to be published.
    taken_at: Option<Duration>,
    /// The latest time of all records so far.
    at: Timestamp,
}

/// A frame that was given out.
struct Out {
    batch: DurableBatch,
    last: Lsn,
    at: Timestamp,
    bytes: u64,
    begun: Instant,
}

/// What is to be done for a term.
#[derive(Debug)]
pub enum Next<'a> {
    /// Get this into the log.
    Frame(FrameRef<'a>),
    /// Nothing is to be written, but somebody waits to hear that nobody else has begun to append.
    Confirm,
    /// Nothing.
    Idle,
    /// The journal is to be closed: seal the log.
    Seal,
    /// The term is over, or the journal is closed.
    Ended,
}

impl Batches {
    /// What is to be done next. What was given before must be [`done`](Self::done).
    pub fn take(&mut self) -> Next<'_> {
        if self.out.is_some() {
            // It did not get into the log: that was the end.
            debug_assert!(self.writer.is_over() || self.writer.0.journal.is_closed(), "one frame after the other");
            return Next::Ended;
        }
        if self.rest.is_empty() {
            let mut batch = self.writer.0.open.lock();
            // Under the lock, or a journal that is poisoned and then closed meanwhile would be sealed.
            if self.writer.is_over() || self.writer.0.journal.is_closed() {
                return Next::Ended;
            }
            if batch.records.is_empty() && batch.effects.is_empty() {
                return if batch.closing { Next::Seal } else { Next::Idle };
            }
            batch.events = 0;
            self.writer.0.waiting.store(0, Ordering::Relaxed);
            let (records, effects) = (Vec::with_capacity(batch.records.len()), Vec::with_capacity(batch.effects.len()));
            batch.held = std::mem::replace(&mut batch.effects, effects);
            self.rest = std::mem::replace(&mut batch.records, records);
        } else if self.writer.is_over() {
            // A batch can be of several frames, and the term may end between them.
            return Next::Ended;
        }
        if let Way::Shared { elapsed, .. } = &self.writer.0.way {
            self.taken_at = Some(elapsed());
        }
        let Some((first, _)) = self.rest.first() else { return Next::Confirm };
        let first_lsn = *first;
        let encoded = self.encode();
        let later = self.rest.split_off(encoded);
        let batch = Arc::new(std::mem::replace(&mut self.rest, later));
        // At most `max_waiting_events` and one record's worth: far below 2^32.
        let count = batch.iter().map(|(_, record)| record.len()).sum::<usize>() as u32;
        let frame = FrameRef { first_lsn, count, at: self.at, payload: &self.bytes };
        let (last, bytes) = (Lsn(first_lsn.0 + u64::from(count) - 1), frame.padded_bytes());
        self.out = Some(Out { batch, last, at: self.at, bytes, begun: Instant::now() });
        Next::Frame(frame)
    }

    /// Encodes as many of the records as go into one frame, at least one, and gives how many that is. The latest time goes
    /// with it: actors look at the clock before they append, so that an earlier time can come later.
    fn encode(&mut self) -> usize {
        self.bytes.clear();
        let mut encoded = 0;
        for (_, record) in &self.rest {
            let before = self.bytes.len();
            record.encode_to(&mut self.bytes);
            if encoded > 0 && self.bytes.len() > FRAME_BYTES_MAX {
                self.bytes.truncate(before);
                break;
            }
            self.at = self.at.max(record.at);
            encoded += 1;
        }
        encoded
    }

    /// What was given out is in the log, or what was to be confirmed is: releases who waited for it. False if the journal was
    /// closed meanwhile.
    pub fn done(&mut self) -> bool {
        if let Some(Out { batch, last, at, bytes, begun }) = self.out.take() {
            let Shared { journal, durable, .. } = &*self.writer.0;
            let counters = journal.counters();
            counters.batches.fetch_add(1, Ordering::Relaxed);
            counters.bytes.fetch_add(bytes, Ordering::Relaxed);
            counters.commit_nanos.fetch_add(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
            // The node first: whoever is answered looks at it.
            if !journal.advance(last, at, &batch) {
                return false;
            }
            durable.store(last.0, Ordering::Release);
        }
        if let Some(taken_at) = self.taken_at.take() {
            *self.writer.0.owned_at.lock() = Some(taken_at);
        }
        if self.rest.is_empty() {
            let held = std::mem::take(&mut self.writer.0.open.lock().held);
            held.into_iter().for_each(Effect::run);
        }
        true
    }
}

/// Writes the batches of one term to a log of its own. A plain part: whoever drives it calls [`step`](Self::step).
pub struct Committer<L> {
    log: L,
    batches: Batches,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stepped {
    /// It wrote a batch, or released what waited.
    Worked,
    /// There was nothing to do.
    Idle,
    /// The term is over; or the journal is closed, and sealed unless it failed.
    Ended,
}

impl<L: Log> Committer<L> {
    /// Writes `batches` to `log`, which ends where they begin.
    #[must_use]
    pub fn new(batches: Batches, log: L) -> Self {
        Self { log, batches }
    }

    /// Writes and releases batches until the term is over or the journal is closed. Gives the log, for the next term.
    pub fn run(mut self) -> L {
        loop {
            match self.step() {
                Stepped::Ended => return self.log,
                Stepped::Worked => {}
                Stepped::Idle => self.wait(),
            }
        }
    }

    /// The log, for the next term; this one must be over.
    #[cfg(any(test, feature = "testing"))]
    pub fn into_log(self) -> L {
        self.log
    }

    fn wait(&self) {
        let writer = &self.batches.writer;
        let mut batch = writer.0.open.lock();
        if batch.records.is_empty() && batch.effects.is_empty() && !batch.closing && !writer.is_over() {
            writer.0.filled.wait(&mut batch);
        }
    }

    /// Takes the open batch, makes it durable, and releases what waited for it.
    pub fn step(&mut self) -> Stepped {
        loop {
            let written = match self.batches.take() {
                Next::Frame(frame) => self.log.append(&frame),
                // Nobody else appends.
                Next::Confirm => Ok(()),
                Next::Idle => return Stepped::Idle,
                Next::Seal => return self.seal(),
                Next::Ended => return Stepped::Ended,
            };
            if let Err(error) = written {
                self.batches.writer.0.journal.poison(&format!("the journal cannot be written: {error}"));
                return Stepped::Ended;
            }
            if !self.batches.done() {
                return Stepped::Ended;
            }
            if self.batches.rest.is_empty() {
                return Stepped::Worked;
            }
        }
    }

    fn seal(&mut self) -> Stepped {
        let journal = &self.batches.writer.0.journal;
        match self.log.seal() {
            Ok(()) => journal.close(),
            Err(error) => journal.poison(&format!("the journal cannot be sealed: {error}")),
        }
        Stepped::Ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Points, RECORD_BYTES_MAX, UserId, wallet};
    use crate::store::codec::{Facts, decode_batch};
    use crate::store::journal;

    /// Takes no frame that a replicated log would not take.
    #[derive(Default, Clone)]
    struct Frames(Arc<Mutex<Vec<Frame>>>);

    #[derive(Debug)]
    struct Frame {
        first: Lsn,
        events: u32,
        bytes: usize,
        at: Timestamp,
    }

    impl Log for Frames {
        fn append(&mut self, frame: &FrameRef<'_>) -> Result<(), journal::Error> {
            let (bytes, bytes_max) = (frame.payload.len(), FRAME_BYTES_MAX as u32);
            if bytes > FRAME_BYTES_MAX {
                return Err(journal::Error::TooLarge { bytes, bytes_max });
            }
            decode_batch(frame.first_lsn, frame.count, frame.payload).unwrap();
            self.0.lock().push(Frame { first: frame.first_lsn, events: frame.count, bytes, at: frame.at });
            Ok(())
        }

        fn seal(&mut self) -> Result<(), journal::Error> {
            Ok(())
        }
    }

    #[test]
    fn a_batch_that_is_too_large_for_one_frame_becomes_several() {
        let log = Frames::default();
        let journal = Journal::of_nothing(Lsn(10));
        let (writer, mut committer) = begin(&journal, log.clone());
        let record = record(1_000);
        let released = Arc::new(AtomicU64::new(0));
        for _ in 0..100 {
            writer.append(record.clone(), None).unwrap();
        }
        let (seen, at_release) = (released.clone(), journal.clone());
        let last = Lsn(10 + 100_000);
        let release = move || seen.store(at_release.durable().0, Ordering::Relaxed);
        writer.when_durable(last, Effect::call(release));
        let taken = Arc::new(Mutex::new(Vec::new()));
        let read = taken.clone();
        journal.add_reader(Box::new(move |batch| read.lock().extend(batch.iter().map(|(lsn, _)| lsn.0))));
        assert_eq!(committer.step(), Stepped::Worked);
        assert_eq!(journal.failure(), None);
        assert_eq!(released.load(Ordering::Relaxed), last.0, "released when all of it is durable");
        assert_eq!(*taken.lock(), (0..100).map(|n| 11 + n * 1_000).collect::<Vec<_>>());
        let frames = log.0.lock();
        assert!(frames.len() > 1, "{frames:?}");
        assert_eq!(frames.iter().map(|frame| u64::from(frame.events)).sum::<u64>(), 100_000);
        let mut next = 11;
        for frame in &*frames {
            assert_eq!(frame.first.0, next);
            next += u64::from(frame.events);
        }
    }

    /// Fails the journal while it is being written, as somebody else may.
    #[derive(Default, Clone)]
    struct FailedMeanwhile {
        journal: Arc<Mutex<Option<Journal>>>,
        waits: Arc<Mutex<std::sync::Weak<()>>>,
    }

    impl Log for FailedMeanwhile {
        fn append(&mut self, _frame: &FrameRef<'_>) -> Result<(), journal::Error> {
            self.journal.lock().take().unwrap().poison("somebody else has failed");
            assert!(self.waits.lock().upgrade().is_none(), "who waits is let go while the disk hangs");
            Ok(())
        }

        fn seal(&mut self) -> Result<(), journal::Error> {
            Ok(())
        }
    }

    #[test]
    fn a_failure_lets_go_who_waits_for_a_write_that_hangs() {
        let log = FailedMeanwhile::default();
        let journal = Journal::of_nothing(Lsn(0));
        let (writer, mut committer) = begin(&journal, log.clone());
        let user: UserId = "anna".parse().unwrap();
        let event = wallet::Event::DebitCancelled { payment: "p1-1".parse().unwrap(), settled_below: 1 };
        let facts = Facts::Wallet(user, vec![event]);
        let waits = Arc::new(());
        (*log.journal.lock(), *log.waits.lock()) = (Some(journal), Arc::downgrade(&waits));
        let effect = Effect::call(move || unreachable!("{waits:?}"));
        writer.append(Arc::new(Record { at: Timestamp::default(), facts }), Some(effect)).unwrap();
        assert_eq!(committer.step(), Stepped::Ended);
    }

    #[test]
    fn what_readers_have_not_heard_of_is_not_durable_for_them_either() {
        let log = FailedMeanwhile::default();
        let journal = Journal::of_nothing(Lsn(0));
        let heard = Arc::new(AtomicU64::new(0));
        let hears = heard.clone();
        journal.add_reader(Box::new(move |batch| {
            let events = batch.iter().map(|(_, record)| record.len() as u64).sum();
            hears.fetch_add(events, Ordering::Relaxed);
        }));
        let (writer, mut committer) = begin(&journal, log.clone());
        *log.journal.lock() = Some(journal.clone());
        let (told, told_as) = fate();
        writer.append(record(3), Some(told)).unwrap();
        while committer.step() != Stepped::Ended {}
        assert_eq!(journal.durable().0, heard.load(Ordering::Relaxed), "or they would wait for it for ever");
        assert_eq!(*told_as.lock(), ["lost"]);
    }

    #[test]
    fn a_frame_ends_before_the_record_that_would_take_it_past_its_bound() {
        let log = Frames::default();
        let (writer, mut committer) = begin(&Journal::of_nothing(Lsn(0)), log.clone());
        // Small ones and the largest, in all kinds of rows.
        let mut records = Vec::new();
        for n in 0..60 {
            records.extend((0..n % 7).map(|_| record(1 + 13 * n)));
            records.push(record(1_200));
        }
        let sizes: Vec<_> = records.iter().map(|record| record.bytes()).collect();
        assert!(sizes.iter().all(|bytes| *bytes <= RECORD_BYTES_MAX), "{sizes:?}");
        for record in records {
            writer.append(record, None).unwrap();
        }
        assert_eq!(committer.step(), Stepped::Worked);
        let (mut left, frames) = (sizes.into_iter().peekable(), log.0.lock());
        for frame in &*frames {
            let mut bytes = 0;
            while bytes < frame.bytes {
                bytes += left.next().unwrap();
            }
            assert_eq!(bytes, frame.bytes, "a frame is of whole records");
            let next = left.peek().copied().unwrap_or(FRAME_BYTES_MAX);
            assert!(bytes <= FRAME_BYTES_MAX && bytes + next > FRAME_BYTES_MAX, "{bytes}, and then {next}");
        }
        assert!(left.next().is_none() && frames.len() > 10, "{frames:?}");
    }

    #[test]
    fn the_last_frame_has_the_latest_time() {
        let log = Frames::default();
        let journal = Journal::of_nothing(Lsn(0));
        let (writer, mut committer) = begin(&journal, log.clone());
        let user: UserId = "anna".parse().unwrap();
        for (append_at, frame_at) in [(6, 6), (5, 6), (7, 7)] {
            let event = wallet::Event::DebitCancelled { payment: "p1-1".parse().unwrap(), settled_below: 1 };
            let facts = Facts::Wallet(user.clone(), vec![event]);
            writer.append(Arc::new(Record { at: Timestamp::from_millis(append_at), facts }), None).unwrap();
            assert_eq!(committer.step(), Stepped::Worked);
            assert_eq!(log.0.lock().last().unwrap().at, Timestamp::from_millis(frame_at));
        }
        let bytes = journal.counters().bytes.load(Ordering::Relaxed);
        assert_eq!(bytes, 3 * 512, "each takes a sector, however little is in it");
    }

    /// Ends the term while a frame is written.
    #[derive(Default, Clone)]
    struct EndsMeanwhile {
        frames: Frames,
        ends: Arc<Mutex<Option<Writer>>>,
    }

    impl Log for EndsMeanwhile {
        fn append(&mut self, frame: &FrameRef<'_>) -> Result<(), journal::Error> {
            if let Some(term) = self.ends.lock().take() {
                term.end();
            }
            self.frames.append(frame)
        }

        fn seal(&mut self) -> Result<(), journal::Error> {
            unreachable!("no term is to be closed here");
        }
    }

    /// A record of `events` events of a wallet; a thousand take a good part of a frame.
    fn record(events: usize) -> Arc<Record> {
        let user: UserId = "u".repeat(200).parse().unwrap();
        let event = || wallet::Event::Charged {
            entry: 1,
            amount: Points::ZERO,
            balance: Points::ZERO,
            by: user.clone(),
            key: None,
        };
        let events = (0..events).map(|_| event()).collect();
        Arc::new(Record { at: Timestamp::from_millis(5), facts: Facts::Wallet(user.clone(), events) })
    }

    /// Notes what became of it.
    struct Fate(Arc<Mutex<Vec<&'static str>>>);

    impl Held for Fate {
        fn durable(&self) {
            self.0.lock().push("durable");
        }

        fn lost(&self) {
            self.0.lock().push("lost");
        }
    }

    /// A term that writes to `log`.
    fn begin<L: Log>(journal: &Journal, log: L) -> (Writer, Committer<L>) {
        let (writer, batches) = Writer::begin(journal, Way::Alone);
        (writer, Committer::new(batches, log))
    }

    fn fate() -> (Effect, Arc<Mutex<Vec<&'static str>>>) {
        let fates = Arc::<Mutex<Vec<_>>>::default();
        (Effect::of(Arc::new(Fate(fates.clone()))), fates)
    }

    #[test]
    fn nothing_becomes_durable_through_a_term_that_is_over() {
        let (log, journal) = (Frames::default(), Journal::of_nothing(Lsn(0)));
        let (old, mut committer) = begin(&journal, log.clone());
        let (told, told_as) = fate();
        old.append(record(1), Some(told)).unwrap();
        assert_eq!(committer.step(), Stepped::Worked);
        let [(waits, waits_as), (late, late_as), (same, same_as)] = [(); 3].map(|()| fate());
        assert_eq!(old.append(record(2), Some(waits)), Ok(Lsn(2)));
        old.end();
        assert_eq!(committer.step(), Stepped::Ended);
        assert_eq!(old.append(record(1), Some(late)), Err(Closed));
        let (new, mut committer) = begin(&journal, committer.into_log());
        // Another record, under a number that the old term has given out as well.
        let (now, now_as) = fate();
        assert_eq!(new.append(record(3), Some(now)), Ok(Lsn(2)));
        assert_eq!(committer.step(), Stepped::Worked);
        old.when_durable(Lsn(3), same);
        let fates = [told_as, waits_as, late_as, same_as, now_as].map(|fates| std::mem::take(&mut *fates.lock()));
        assert_eq!(fates, [["durable"], ["lost"], ["lost"], ["lost"], ["durable"]]);
        let frames: Vec<_> = log.0.lock().iter().map(|frame| (frame.first.0, frame.events)).collect();
        assert_eq!((frames, journal.durable(), journal.failure()), (vec![(1, 1), (2, 3)], Lsn(4), None));
    }

    #[test]
    fn of_what_is_being_written_when_a_term_ends_one_frame_may_become_durable_and_nobody_is_told() {
        let (log, journal) = (EndsMeanwhile::default(), Journal::of_nothing(Lsn(0)));
        let taken = Arc::new(AtomicU64::new(0));
        let counts = taken.clone();
        journal.add_reader(Box::new(move |batch| {
            counts.fetch_add(batch.len() as u64, Ordering::Relaxed);
        }));
        let (writer, mut committer) = begin(&journal, log.clone());
        let (waits, waits_as) = fate();
        for _ in 0..100 {
            writer.append(record(1_000), None).unwrap();
        }
        writer.when_durable(Lsn(1), waits);
        *log.ends.lock() = Some(writer.clone());
        assert_eq!(committer.step(), Stepped::Ended);
        let frames: u64 = log.frames.0.lock().iter().map(|frame| u64::from(frame.events)).sum();
        assert_eq!(log.frames.0.lock().len(), 1);
        assert!(frames < 100_000 && journal.durable() == Lsn(frames), "{frames} of 100,000");
        assert_eq!(taken.load(Ordering::Relaxed) * 1_000, frames, "the node takes in what is durable");
        assert_eq!(*waits_as.lock(), ["lost"]);
        let (next, _committer) = begin(&journal, committer.into_log());
        assert_eq!(next.append(record(1), None), Ok(Lsn(frames + 1)));
    }

    #[test]
    fn a_failure_ends_the_term_under_way_and_every_later_one() {
        let journal = Journal::of_nothing(Lsn(0));
        let (old, committer) = begin(&journal, Frames::default());
        old.end();
        let (writer, mut committer) = begin(&journal, committer.into_log());
        old.poison("a rule of the last term panics");
        assert_eq!(journal.failure(), None, "nobody is harmed");
        let (waits, waits_as) = fate();
        writer.append(record(1), Some(waits)).unwrap();
        writer.poison("a test");
        assert_eq!((journal.failure().as_deref(), &waits_as.lock()[..]), (Some("a test"), &["lost"][..]));
        assert_eq!(committer.step(), Stepped::Ended);
        let (late, mut committer) = begin(&journal, committer.into_log());
        assert_eq!(late.append(record(1), None), Err(Closed));
        assert_eq!(committer.step(), Stepped::Ended);
    }

    #[test]
    fn nothing_is_kept_of_the_terms_that_were() {
        let journal = Journal::of_nothing(Lsn(0));
        let (mut writer, mut committer) = begin(&journal, Frames::default());
        for _ in 0..3 {
            writer.end();
            let old = Arc::downgrade(&writer.0);
            (writer, committer) = begin(&journal, committer.into_log());
            assert_eq!(old.strong_count(), 0);
        }
        drop(committer);
    }
}
