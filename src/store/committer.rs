//! Group commit: one write and one sync for all that came while the last ones were under way.
//!
//! Actors append to the open batch, which is a push under a lock; the committer takes it, writes it, and then releases
//! what waited for it. Effects leave in the order of their lsns, and never before those are durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::codec::Record;
use super::journal::{FrameRef, Log};
use crate::domain::{Lsn, Timestamp};

/// How full a frame may get before the next record goes into another one. With the largest record it stays below what
/// the log takes.
const FRAME_BYTES: usize = 8 << 20;

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

/// Durable records, in order, each with the lsn of its first event.
pub type DurableBatch = Arc<Vec<(Lsn, Arc<Record>)>>;

/// Takes in what has become durable. Must not block.
pub type Reader = Box<dyn FnMut(&DurableBatch) + Send>;

/// Hears why the journal has failed.
type FailureHearer = Box<dyn FnOnce(&str) + Send>;

/// The journal has failed or is closed: nothing more will become durable.
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

#[derive(Default)]
struct Shared {
    open: Mutex<Batch>,
    filled: Condvar,
    /// The last lsn that no power cut can take back.
    durable: AtomicU64,
    /// Events in the open batch.
    waiting: AtomicU64,
    closed: AtomicBool,
    reason: Mutex<Option<String>>,
    on_failure: Mutex<Vec<FailureHearer>>,
    counters: Counters,
}

/// What the committer has done so far.
#[derive(Debug, Default)]
pub struct Counters {
    /// Batches written.
    pub batches: AtomicU64,
    /// Bytes that they take in the journal.
    pub bytes: AtomicU64,
    /// Nanoseconds spent in writing and syncing.
    pub commit_nanos: AtomicU64,
}

/// The way into the journal; cheap to clone.
#[derive(Clone, Default)]
pub struct Journal(Arc<Shared>);

impl Journal {
    /// A journal whose last event has `last`, and the committer that writes it to `log`.
    #[must_use]
    pub fn new<L: Log>(log: L, last: Lsn) -> (Self, Committer<L>) {
        let journal = Self::default();
        journal.0.open.lock().last = last;
        journal.0.durable.store(last.0, Ordering::Release);
        (journal.clone(), Committer { log, journal, readers: Vec::new(), bytes: Vec::new(), at: Timestamp::default() })
    }

    /// Appends a record to the open batch, and gives the lsn of its first event. Does `effect` as soon as all of it is
    /// durable.
    ///
    /// # Errors
    /// The journal is closed.
    pub fn append(&self, record: Arc<Record>, effect: Option<Effect>) -> Result<Lsn, Closed> {
        let events = record.len() as u32;
        let mut batch = self.0.open.lock();
        if self.is_closed() || batch.closing {
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

    /// Does `effect` as soon as `lsn` is durable: now, if it is.
    pub fn when_durable(&self, lsn: Lsn, effect: Effect) {
        if lsn <= self.durable() {
            return effect.run();
        }
        let mut batch = self.0.open.lock();
        // Under the lock, since the committer may have been about to take the batch.
        if self.is_closed() {
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

    /// The last lsn that no power cut can take back.
    #[must_use]
    pub fn durable(&self) -> Lsn {
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

    /// What the committer has done so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Whether it has failed or was closed.
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
        let dropped = {
            let mut batch = self.0.open.lock();
            self.0.closed.store(true, Ordering::Release);
            (std::mem::take(&mut batch.records), std::mem::take(&mut batch.effects), std::mem::take(&mut batch.held))
        };
        // Outside the lock: who is let go may call back.
        drop(dropped);
        self.0.filled.notify_all();
        let hearers = std::mem::take(&mut *self.0.on_failure.lock());
        for hear in hearers {
            hear(reason);
        }
    }

    /// Takes no more records; the committer writes what there is, seals the log and ends.
    pub fn close(&self) {
        self.0.open.lock().closing = true;
        self.0.filled.notify_all();
    }
}

/// Writes batches. A plain part: whoever drives it calls [`step`](Self::step).
pub struct Committer<L> {
    log: L,
    journal: Journal,
    readers: Vec<Reader>,
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
    /// The journal is closed, and sealed unless it failed.
    Ended,
}

impl<L: Log> Committer<L> {
    /// Lets `reader` take in every batch that becomes durable from now on.
    pub fn add_reader(&mut self, reader: Reader) {
        self.readers.push(reader);
    }

    /// Writes and releases batches until the journal is closed.
    pub fn run(mut self) {
        loop {
            match self.step() {
                Stepped::Ended => return,
                Stepped::Worked => {}
                Stepped::Idle => self.wait(),
            }
        }
    }

    fn wait(&self) {
        let shared = &self.journal.0;
        let mut batch = shared.open.lock();
        if batch.records.is_empty() && batch.effects.is_empty() && !batch.closing && !self.journal.is_closed() {
            shared.filled.wait(&mut batch);
        }
    }

    /// Takes the open batch, makes it durable, and releases what waited for it.
    pub fn step(&mut self) -> Stepped {
        let records = {
            let mut batch = self.journal.0.open.lock();
            // Under the lock, or a journal that is poisoned and then closed meanwhile would be sealed.
            if self.journal.is_closed() {
                return Stepped::Ended;
            }
            if batch.records.is_empty() && batch.effects.is_empty() {
                let closing = batch.closing;
                drop(batch);
                return if closing { self.seal() } else { Stepped::Idle };
            }
            batch.events = 0;
            self.journal.0.waiting.store(0, Ordering::Relaxed);
            let (records, effects) = (Vec::with_capacity(batch.records.len()), Vec::with_capacity(batch.effects.len()));
            batch.held = std::mem::replace(&mut batch.effects, effects);
            std::mem::replace(&mut batch.records, records)
        };
        let mut rest = records;
        while let Some((first, _)) = rest.first() {
            let first = *first;
            let (encoded, at) = self.encode(&rest);
            let later = rest.split_off(encoded);
            let batch = Arc::new(std::mem::replace(&mut rest, later));
            let events: usize = batch.iter().map(|(_, record)| record.len()).sum();
            let last = Lsn(first.0 + events as u64 - 1);
            if !self.write(first, last, at) {
                return Stepped::Ended;
            }
            self.journal.0.durable.store(last.0, Ordering::Release);
            for reader in &mut self.readers {
                reader(&batch);
            }
        }
        let held = std::mem::take(&mut self.journal.0.open.lock().held);
        held.into_iter().for_each(Effect::run);
        Stepped::Worked
    }

    /// Encodes as many of the records as go into one frame, at least one; how many that is, and the latest time so far:
    /// actors look at the clock before they append, so that an earlier time can come later.
    fn encode(&mut self, records: &[(Lsn, Arc<Record>)]) -> (usize, Timestamp) {
        self.bytes.clear();
        let mut encoded = 0;
        for (_, record) in records {
            record.encode_to(&mut self.bytes);
            self.at = self.at.max(record.at);
            encoded += 1;
            if self.bytes.len() >= FRAME_BYTES {
                break;
            }
        }
        (encoded, self.at)
    }

    fn write(&mut self, first: Lsn, last: Lsn, at: Timestamp) -> bool {
        // At most `max_waiting_events` and one record's worth: far below 2^32.
        let count = (last.0 - first.0 + 1) as u32;
        let begun = Instant::now();
        let frame = FrameRef { first_lsn: first, count, at, payload: &self.bytes };
        let written = self.log.append(&frame);
        if let Err(error) = written {
            self.journal.poison(&format!("the journal cannot be written: {error}"));
            return false;
        }
        let counters = &self.journal.0.counters;
        counters.batches.fetch_add(1, Ordering::Relaxed);
        counters.bytes.fetch_add(frame.padded_bytes(), Ordering::Relaxed);
        counters.commit_nanos.fetch_add(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
        true
    }

    fn seal(&mut self) -> Stepped {
        match self.log.seal() {
            Ok(()) => self.journal.0.closed.store(true, Ordering::Release),
            Err(error) => self.journal.poison(&format!("the journal cannot be sealed: {error}")),
        }
        Stepped::Ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::domain::concert_option::{Area, Definition, Price, SeatSet, Window};
    use crate::domain::idempotency::Key;
    use crate::domain::seating_plan::PlanHash;
    use crate::domain::{ConcertId, OptionId, Points, UserId, catalogue, wallet};
    use crate::store::codec::{Facts, TheCatalogue, decode_batch};
    use crate::store::journal;

    /// Takes no frame above 16 MiB, as the real one.
    #[derive(Default, Clone)]
    struct Frames(Arc<Mutex<Vec<Frame>>>);

    #[derive(Debug)]
    struct Frame {
        first: Lsn,
        events: u32,
        at: Timestamp,
    }

    impl Log for Frames {
        fn append(&mut self, frame: &FrameRef<'_>) -> Result<(), journal::Error> {
            let bytes_max = journal::Options::default().payload_bytes_max;
            if frame.payload.len() > bytes_max as usize {
                return Err(journal::Error::TooLarge { bytes: frame.payload.len(), bytes_max });
            }
            decode_batch(frame.first_lsn, frame.count, frame.payload).unwrap();
            self.0.lock().push(Frame { first: frame.first_lsn, events: frame.count, at: frame.at });
            Ok(())
        }

        fn seal(&mut self) -> Result<(), journal::Error> {
            Ok(())
        }
    }

    #[test]
    fn a_batch_that_is_too_large_for_one_frame_becomes_several() {
        let log = Frames::default();
        let (journal, mut committer) = Journal::new(log.clone(), Lsn(10));
        let user: UserId = "u".repeat(255).parse().unwrap();
        let event = || wallet::Event::Charged {
            entry: 1,
            amount: Points::ZERO,
            balance: Points::ZERO,
            by: user.clone(),
            key: None,
        };
        let record = Arc::new(Record {
            at: Timestamp::from_millis(5),
            facts: Facts::Wallet(user.clone(), (0..1_000).map(|_| event()).collect()),
        });
        let released = Arc::new(AtomicU64::new(0));
        for _ in 0..100 {
            journal.append(record.clone(), None).unwrap();
        }
        let (seen, at_release) = (released.clone(), journal.clone());
        let last = Lsn(10 + 100_000);
        let release = move || seen.store(at_release.durable().0, Ordering::Relaxed);
        journal.when_durable(last, Effect::call(release));
        let taken = Arc::new(Mutex::new(Vec::new()));
        let read = taken.clone();
        committer.add_reader(Box::new(move |batch| read.lock().extend(batch.iter().map(|(lsn, _)| lsn.0))));
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
    struct FailedMeanwhile(Arc<Mutex<Option<Journal>>>);

    impl Log for FailedMeanwhile {
        fn append(&mut self, _frame: &FrameRef<'_>) -> Result<(), journal::Error> {
            let journal = self.0.lock().take().unwrap();
            journal.poison("somebody else has failed");
            assert_eq!(Arc::strong_count(&journal.0), 2, "who waits is let go while the disk hangs");
            Ok(())
        }

        fn seal(&mut self) -> Result<(), journal::Error> {
            Ok(())
        }
    }

    #[test]
    fn a_failure_lets_go_who_waits_for_a_write_that_hangs() {
        let log = FailedMeanwhile::default();
        let (journal, mut committer) = Journal::new(log.clone(), Lsn(0));
        let user: UserId = "anna".parse().unwrap();
        let event = wallet::Event::DebitCancelled { payment: "p1-1".parse().unwrap(), settled_below: 1 };
        let facts = Facts::Wallet(user, vec![event]);
        let waits = journal.clone();
        let effect = Effect::call(move || unreachable!("{:?}", waits.failure()));
        journal.append(Arc::new(Record { at: Timestamp::default(), facts }), Some(effect)).unwrap();
        *log.0.lock() = Some(journal);
        assert_eq!(committer.step(), Stepped::Worked);
        assert_eq!(committer.step(), Stepped::Ended);
    }

    #[test]
    fn the_largest_definition_fits() {
        let name = |n: usize| format!("{n:04}{}", "\u{1f3b6}".repeat(196));
        let mut config = Config::default();
        while config.validate().is_ok() {
            config.limits.option_names += 1;
        }
        let most = config.limits.option_names as usize - 1;
        let definition = Definition {
            concert: ConcertId(u64::MAX),
            starts_at: Timestamp::MAX,
            window: Window { sale_closes_at: Timestamp::MAX, ..Window::default() },
            plan: PlanHash::of(b""),
            seat_count: u32::MAX,
            prices: (0..most).map(|n| Price { category: name(n), points: Points::MAX }).collect(),
            areas: (0..most).map(|n| Area { name: name(n), capacity: u32::MAX, category: name(n) }).collect(),
            hold_seconds: u32::MAX,
            payment_seconds: u32::MAX,
            max_seats_per_reservation: u32::MAX,
            max_seats_per_user: u32::MAX,
            focus: None,
            accessible: Vec::new(),
            not_for_sale: SeatSet::default(),
        };
        let event = catalogue::Event::OptionAdded {
            option: OptionId(u64::MAX),
            definition: Box::new(definition),
            key: Some(Key { scope: [255; 16], payload: [255; 16], caller: "u".repeat(255).parse().unwrap() }),
        };
        let mut bytes = Vec::new();
        Record { at: Timestamp::MAX, facts: Facts::Catalogue(TheCatalogue, vec![event]) }.encode_to(&mut bytes);
        assert!(bytes.len() <= FRAME_BYTES, "{} bytes", bytes.len());
    }

    #[test]
    fn the_last_frame_has_the_latest_time() {
        let log = Frames::default();
        let (journal, mut committer) = Journal::new(log.clone(), Lsn(0));
        let user: UserId = "anna".parse().unwrap();
        for (append_at, frame_at) in [(6, 6), (5, 6), (7, 7)] {
            let event = wallet::Event::DebitCancelled { payment: "p1-1".parse().unwrap(), settled_below: 1 };
            let facts = Facts::Wallet(user.clone(), vec![event]);
            journal.append(Arc::new(Record { at: Timestamp::from_millis(append_at), facts }), None).unwrap();
            assert_eq!(committer.step(), Stepped::Worked);
            assert_eq!(log.0.lock().last().unwrap().at, Timestamp::from_millis(frame_at));
        }
        let bytes = journal.counters().bytes.load(Ordering::Relaxed);
        assert_eq!(bytes, 3 * 512, "each takes a sector, however little is in it");
    }
}
