//! Group commit: one write and one sync for all that came while the last ones were under way.
//!
//! Actors append to the open batch, which is a push under a lock; the committer takes it, writes it, and then releases
//! what waited for it. Effects leave in the order of their lsns, and never before those are durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::codec::Record;
use super::journal::{FRAME_BYTES_MAX, FrameRef, Log};
use super::node::Journal;
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
    over: AtomicBool,
}

/// The way into the journal for one term; cheap to clone.
#[derive(Clone)]
pub struct Writer(Arc<Shared>);

impl Writer {
    /// Begins a term: goes on where `journal` ends, by way of `log`, which ends there as well. The term before must be over,
    /// and its committer have ended.
    #[must_use]
    pub fn begin<L: Log>(journal: &Journal, log: L) -> (Self, Committer<L>) {
        let last = journal.durable();
        let writer = Self(Arc::new(Shared {
            journal: journal.clone(),
            open: Mutex::new(Batch { last, ..Batch::default() }),
            filled: Condvar::new(),
            durable: AtomicU64::new(last.0),
            waiting: AtomicU64::new(0),
            over: AtomicBool::new(false),
        }));
        let term = Arc::downgrade(&writer.0);
        journal.term_begins(Arc::new(move || {
            if let Some(shared) = term.upgrade() {
                Self(shared).end();
            }
        }));
        let committer = Committer { log, writer: writer.clone(), bytes: Vec::new(), at: journal.at() };
        (writer, committer)
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

    /// Does `effect` as soon as `lsn`, which was given out here or before this term, is durable: now, if it is.
    pub fn when_durable(&self, lsn: Lsn, effect: Effect) {
        if self.is_over() {
            return;
        }
        if lsn <= self.durable() {
            return effect.run();
        }
        let mut batch = self.0.open.lock();
        // Under the lock, since the committer may have been about to take the batch.
        if self.is_over() {
            return;
        }
        // Or may have made it durable since, and be about to seal the log: then it takes nothing more.
        if lsn <= self.durable() {
            drop(batch);
            return effect.run();
        }
        batch.effects.push(effect);
        self.wake(batch);
    }

    fn wake(&self, batch: parking_lot::MutexGuard<'_, Batch>) {
        self.0.waiting.store(u64::from(batch.events), Ordering::Relaxed);
        drop(batch);
        self.0.filled.notify_one();
    }

    /// The last lsn that is durable, of those that this term knows.
    fn durable(&self) -> Lsn {
        Lsn(self.0.durable.load(Ordering::Acquire))
    }

    /// The last lsn that was given out.
    #[cfg(any(test, feature = "testing"))]
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
        self.0.filled.notify_all();
    }

    /// Takes no more records; the committer writes what there is, seals the log and ends.
    pub fn close(&self) {
        self.0.open.lock().closing = true;
        self.0.filled.notify_all();
    }
}

/// Writes the batches of one term. A plain part: whoever drives it calls [`step`](Self::step).
pub struct Committer<L> {
    log: L,
    writer: Writer,
    bytes: Vec<u8>,
    /// The latest time of all records so far.
    at: Timestamp,
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
        let shared = &self.writer.0;
        let mut batch = shared.open.lock();
        if batch.records.is_empty() && batch.effects.is_empty() && !batch.closing && !self.writer.is_over() {
            shared.filled.wait(&mut batch);
        }
    }

    /// Takes the open batch, makes it durable, and releases what waited for it.
    pub fn step(&mut self) -> Stepped {
        let records = {
            let mut batch = self.writer.0.open.lock();
            // Under the lock, or a journal that is poisoned and then closed meanwhile would be sealed.
            if self.writer.is_over() || self.writer.0.journal.is_closed() {
                return Stepped::Ended;
            }
            if batch.records.is_empty() && batch.effects.is_empty() {
                let closing = batch.closing;
                drop(batch);
                return if closing { self.seal() } else { Stepped::Idle };
            }
            batch.events = 0;
            self.writer.0.waiting.store(0, Ordering::Relaxed);
            let (records, effects) = (Vec::with_capacity(batch.records.len()), Vec::with_capacity(batch.effects.len()));
            batch.held = std::mem::replace(&mut batch.effects, effects);
            std::mem::replace(&mut batch.records, records)
        };
        let mut rest = records;
        while let Some((first, _)) = rest.first() {
            // A batch can be of several frames, and the term may end between them.
            if self.writer.is_over() {
                return Stepped::Ended;
            }
            let first = *first;
            let (encoded, at) = self.encode(&rest);
            let later = rest.split_off(encoded);
            let batch = Arc::new(std::mem::replace(&mut rest, later));
            let events: usize = batch.iter().map(|(_, record)| record.len()).sum();
            let last = Lsn(first.0 + events as u64 - 1);
            if !self.write(first, last, at) {
                return Stepped::Ended;
            }
            // The node first: whoever is answered looks at it.
            if !self.writer.0.journal.advance(last, at, &batch) {
                return Stepped::Ended;
            }
            self.writer.0.durable.store(last.0, Ordering::Release);
        }
        let held = std::mem::take(&mut self.writer.0.open.lock().held);
        held.into_iter().for_each(Effect::run);
        Stepped::Worked
    }

    /// Encodes as many of the records as go into one frame, at least one; how many that is, and the latest time so far:
    /// actors look at the clock before they append, so that an earlier time can come later.
    fn encode(&mut self, records: &[(Lsn, Arc<Record>)]) -> (usize, Timestamp) {
        self.bytes.clear();
        let mut encoded = 0;
        for (_, record) in records {
            let before = self.bytes.len();
            record.encode_to(&mut self.bytes);
            if encoded > 0 && self.bytes.len() > FRAME_BYTES_MAX {
                self.bytes.truncate(before);
                break;
            }
            self.at = self.at.max(record.at);
            encoded += 1;
        }
        (encoded, self.at)
    }

    fn write(&mut self, first: Lsn, last: Lsn, at: Timestamp) -> bool {
        // At most `max_waiting_events` and one record's worth: far below 2^32.
        let count = (last.0 - first.0 + 1) as u32;
        let begun = Instant::now();
        let frame = FrameRef { first_lsn: first, count, at, payload: &self.bytes };
        let written = self.log.append(&frame);
        let journal = &self.writer.0.journal;
        if let Err(error) = written {
            journal.poison(&format!("the journal cannot be written: {error}"));
            return false;
        }
        let counters = journal.counters();
        counters.batches.fetch_add(1, Ordering::Relaxed);
        counters.bytes.fetch_add(frame.padded_bytes(), Ordering::Relaxed);
        counters.commit_nanos.fetch_add(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
        true
    }

    fn seal(&mut self) -> Stepped {
        match self.log.seal() {
            Ok(()) => self.writer.0.journal.close(),
            Err(error) => self.writer.0.journal.poison(&format!("the journal cannot be sealed: {error}")),
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
        let (writer, mut committer) = Writer::begin(&journal, log.clone());
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
        let (writer, mut committer) = Writer::begin(&journal, log.clone());
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
        let (writer, mut committer) = Writer::begin(&journal, log.clone());
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
        let (writer, mut committer) = Writer::begin(&Journal::of_nothing(Lsn(0)), log.clone());
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
        let (writer, mut committer) = Writer::begin(&journal, log.clone());
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

    fn fate() -> (Effect, Arc<Mutex<Vec<&'static str>>>) {
        let fates = Arc::<Mutex<Vec<_>>>::default();
        (Effect::of(Arc::new(Fate(fates.clone()))), fates)
    }

    #[test]
    fn nothing_becomes_durable_through_a_term_that_is_over() {
        let (log, journal) = (Frames::default(), Journal::of_nothing(Lsn(0)));
        let (old, mut committer) = Writer::begin(&journal, log.clone());
        let (told, told_as) = fate();
        old.append(record(1), Some(told)).unwrap();
        assert_eq!(committer.step(), Stepped::Worked);
        let [(waits, waits_as), (late, late_as), (same, same_as)] = [(); 3].map(|()| fate());
        assert_eq!(old.append(record(2), Some(waits)), Ok(Lsn(2)));
        old.end();
        assert_eq!(committer.step(), Stepped::Ended);
        assert_eq!(old.append(record(1), Some(late)), Err(Closed));
        let (new, mut committer) = Writer::begin(&journal, committer.into_log());
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
        let (writer, mut committer) = Writer::begin(&journal, log.clone());
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
        let (next, _committer) = Writer::begin(&journal, committer.into_log());
        assert_eq!(next.append(record(1), None), Ok(Lsn(frames + 1)));
    }

    #[test]
    fn a_failure_ends_the_term_under_way_and_every_later_one() {
        let journal = Journal::of_nothing(Lsn(0));
        let (old, committer) = Writer::begin(&journal, Frames::default());
        old.end();
        let (writer, mut committer) = Writer::begin(&journal, committer.into_log());
        old.poison("a rule of the last term panics");
        assert_eq!(journal.failure(), None, "nobody is harmed");
        let (waits, waits_as) = fate();
        writer.append(record(1), Some(waits)).unwrap();
        writer.poison("a test");
        assert_eq!((journal.failure().as_deref(), &waits_as.lock()[..]), (Some("a test"), &["lost"][..]));
        assert_eq!(committer.step(), Stepped::Ended);
        let (late, mut committer) = Writer::begin(&journal, committer.into_log());
        assert_eq!(late.append(record(1), None), Err(Closed));
        assert_eq!(committer.step(), Stepped::Ended);
    }

    #[test]
    fn nothing_is_kept_of_the_terms_that_were() {
        let journal = Journal::of_nothing(Lsn(0));
        let (mut writer, mut committer) = Writer::begin(&journal, Frames::default());
        for _ in 0..3 {
            writer.end();
            let old = Arc::downgrade(&writer.0);
            (writer, committer) = Writer::begin(&journal, committer.into_log());
            assert_eq!(old.strong_count(), 0);
        }
        drop(committer);
    }
}
