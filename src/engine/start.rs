//! Starting an engine's threads, and ending them.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use actix::prelude::*;
use actix_rt::Arbiter;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{Semaphore, watch};

use super::deliveries::Deliveries;
use super::tokens::RoomInfo;
use super::{Gauges, Inner};
use crate::Map;
use crate::actors::actor::Host;
use crate::actors::alarms::{Alarm, Alarms, Key};
use crate::actors::arbiters::{Arbiters, Failpoints};
use crate::actors::shell::Environment;
use crate::actors::supervisor::Supervisor;
use crate::actors::system::{SharedReplica, System, Unseen};
use crate::clock::{Clock, TimeSource, wall_clock};
use crate::config::{Checkpoint, Config};
use crate::domain::waiting_room::{self, Liveness};
use crate::domain::{ConcertId, Lsn, Timestamp};
use crate::error::OpenError;
use crate::limits::UserCounts;
use crate::replica::{self, Alarmed, ChangeSet, Replica};
use crate::store::codec::{self, Facts, TheCatalogue};
use crate::store::committer::{Committer, DurableBatch, Journal};
use crate::store::disk::Disk;
use crate::store::journal::{self, LocalLog, Log, Preallocate, Reader};
use crate::store::lock::DirLock;
use crate::store::plans::Plans;
use crate::store::sled_rows::SledFolder;
use crate::store::state::{self, Backing, StateStore};

/// How far the journal may be ahead of the wall clock.
const AHEAD: Duration = Duration::from_secs(300);
/// How often the space on the disk is measured.
const LOOK_AT_DISK: Duration = Duration::from_millis(200);
/// Records that are taken in before others who want the replica have it.
const APPLIED_AT_ONCE: usize = 256;
/// How often the housekeeper looks around.
const LOOK_AROUND: Duration = Duration::from_millis(20);
/// Bytes of batches that are read and decoded ahead of those that are replayed. A batch can be of 8 MiB, and takes up several
/// times as much when it is decoded.
const DECODE_AHEAD_BYTES: usize = 4 << 20;
/// Events to replay between two checkpoints at the start: what changes often is written once.
const REPLAY_EVENTS: u64 = 1_000_000;
/// Events that a stop leaves to the next start, which replays them faster than sled takes them in.
const LEFT_EVENTS: u64 = 100_000;
/// How many times as long as a checkpoint took there is none, unless too much is waiting for one.
const REST: u32 = 4;
/// How often users of whom nothing counts any more are forgotten.
const FORGET: Duration = Duration::from_secs(60 * 60);
/// Threads for reads that may block.
const BLOCKING_THREADS: usize = 8;
/// How long a thread may take to end: the last checkpoint has to reach a disk that may be slow, and the directory is in use
/// until then.
const JOIN: Duration = Duration::from_secs(60);
/// The same after a failure: sled may hang in a write that failed.
const JOIN_FAILED: Duration = Duration::from_secs(4);

/// The threads of an engine.
pub(super) struct Threads {
    committer: JoinHandle<()>,
    projector: JoinHandle<()>,
    housekeeper: JoinHandle<()>,
    disk_watch: JoinHandle<()>,
    actors: JoinHandle<()>,
    system: actix_rt::System,
    stop: Arc<Stop>,
    replica: Arc<SharedReplica>,
    /// Where reads that may block are done.
    _blocking: Blocking,
    /// Dropped last, it tells that all have ended.
    _ended: watch::Sender<()>,
}

/// A runtime that may be dropped anywhere.
struct Blocking(Option<tokio::runtime::Runtime>);

impl Drop for Blocking {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Tells the housekeeper to end.
#[derive(Default)]
struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    fn stop(&self) {
        *self.stopped.lock() = true;
        self.changed.notify_all();
    }

    /// Waits; true if it is time to end.
    fn wait(&self, at_most: Duration) -> bool {
        let mut stopped = self.stopped.lock();
        if !*stopped {
            self.changed.wait_for(&mut stopped, at_most);
        }
        *stopped
    }
}

impl Threads {
    /// Seals the journal, lets reads and the state catch up, and ends all threads.
    pub(super) fn end(self, journal: &Journal) {
        journal.close();
        let join = |thread, name| join(thread, name, journal);
        join(self.committer, "committer");
        // It ends when the committer has let go of its channel.
        join(self.projector, "projector");
        self.replica.end();
        self.stop.stop();
        join(self.housekeeper, "housekeeper");
        join(self.disk_watch, "disk watch");
        self.system.stop();
        join(self.actors, "actors");
        // Handles of the engine may live on; the files may not be held by them.
        let replica = self.replica;
        if let Ok(closer) = spawn("close-state", move || drop(replica.close())) {
            join(closer, "close-state");
        }
    }

    /// Lets them end by themselves.
    pub(super) fn let_go(self, journal: &Journal) {
        journal.close();
        self.replica.end();
        self.stop.stop();
        self.system.stop();
    }
}

fn join(thread: JoinHandle<()>, name: &str, journal: &Journal) {
    let begun = Instant::now();
    while !thread.is_finished() {
        let at_most = if journal.failure().is_some() { JOIN_FAILED } else { JOIN };
        if begun.elapsed() > at_most {
            tracing::warn!(thread = name, "thread does not end; left behind");
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    if thread.join().is_err() {
        tracing::error!(thread = name, "thread panicked");
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    let spawned = std::thread::Builder::new().name(format!("boxoffice-{name}")).spawn(work);
    spawned.map_err(|source| OpenError::DataDirectory { dir: format!("(no thread for the {name})"), source })
}

/// Options of the journal under this configuration.
pub(super) fn journal_options(config: &Config, check_from: Lsn) -> journal::Options {
    journal::Options {
        segment_bytes: config.journal.segment_bytes,
        reserve_bytes: config.storage.min_free_bytes / 2,
        check_from,
        ..journal::Options::default()
    }
}

/// On what an engine is opened.
pub(crate) struct Ground<'a> {
    pub(crate) config: &'a Config,
    pub(crate) disk: &'a Arc<dyn Disk>,
    /// Where the rows are.
    pub(crate) backing: &'a dyn Backing,
    pub(crate) preallocate: Preallocate,
    /// Events to replay between two checkpoints.
    pub(crate) replay_events: u64,
}

/// What stands in the data directory, opened and replayed.
pub(crate) struct Opened {
    log: LocalLog,
    pub(crate) store: Arc<StateStore>,
    replica: Replica,
    last: Lsn,
    pub(crate) last_at: Timestamp,
    pub(crate) checkpointed: Lsn,
    /// Why the rows that were there are not used, if they are not.
    #[cfg_attr(not(any(test, feature = "testing")), allow(dead_code, reason = "for the simulator"))]
    pub(crate) rebuilt_because: Option<String>,
    /// Who is to be looked after.
    alarmed: Alarmed,
}

impl Opened {
    /// On this machine's disk and sled.
    fn new(config: &Config, disk: &Arc<dyn Disk>, wall: Timestamp) -> Result<Self, OpenError> {
        let folder =
            SledFolder { dir: config.data_dir.clone(), disk: disk.clone(), cache_bytes: config.checkpoint.cache_bytes };
        let preallocate = Preallocate::Background;
        open(&Ground { config, disk, backing: &folder, preallocate, replay_events: REPLAY_EVENTS }, wall)
    }
}

/// Makes the data directory, and its name durable: what is synced in a directory that a power cut takes away is lost.
pub(crate) fn make_dir(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let mut missing = 0;
    for dir in dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty()) {
        match disk.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing += 1,
            // It is there, for others to look at.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
            listed => {
                listed?;
                break;
            }
        }
    }
    disk.create_dir_all(dir)?;
    // Also where it was there: an earlier start may have been cut short.
    for (no, made) in dir.ancestors().take(missing.max(1)).enumerate() {
        let Some(parent) = made.parent() else { break };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        match disk.sync_dir(parent) {
            // Whoever may not even look at it has not made anything there.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && no >= missing => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// Opens what stands in the data directory, and replays the journal's tail.
pub(crate) fn open(ground: &Ground<'_>, wall: Timestamp) -> Result<Opened, OpenError> {
    let Ground { config, disk, .. } = *ground;
    let dir = &config.data_dir;
    let mut rebuilt_because = None;
    let (store, lsn, floor) = if config.checkpoint.enabled {
        let (store, opened) = StateStore::open_on(ground.backing, dir, disk.clone())?;
        let floor = store.floor();
        rebuilt_because = opened.rebuilt_because;
        (store, opened.lsn, floor)
    } else {
        // Earlier starts may have taken checkpoints: the journal must not end before the last of them.
        (StateStore::in_memory(), Lsn(0), StateStore::floor_of(dir, &**disk)?)
    };
    let journal_dir = dir.join("journal");
    let options = journal::Options { preallocate: ground.preallocate, ..journal_options(config, lsn) };
    let (log, recovered) = LocalLog::open(disk.clone(), &journal_dir, options, floor)?;
    if recovered.torn_bytes > 0 {
        tracing::warn!(bytes = recovered.torn_bytes, "cut a torn batch off the journal; nobody was told of it");
    }
    let ahead = recovered.last_at.since(wall);
    if ahead > AHEAD && !config.clock.accept_journal_ahead {
        return Err(OpenError::JournalAhead(ahead));
    }
    let store = Arc::new(store);
    let mut replica = Replica::new(store.clone(), lsn).map_err(unreadable)?;
    let mut checkpointed = lsn;
    replay(disk.clone(), &journal_dir, lsn, recovered.last_lsn, |first, record| {
        replica.loading(|replica| replica.apply(first, record)).map_err(unreadable)?;
        if config.checkpoint.enabled && replica.applied().0 - checkpointed.0 >= ground.replay_events {
            checkpointed = checkpoint(&store, replica.begin_checkpoint())?;
            drop(replica.end_checkpoint(checkpointed, config.actors.max_resident as usize));
        }
        Ok(())
    })?;
    let last = recovered.last_lsn;
    tracing::info!(last_lsn = %last, replayed = last.0 - lsn.0, sealed = recovered.sealed, "journal opened");
    let alarmed = replica.alarmed().map_err(unreadable)?;
    Ok(Opened { log, store, replica, last, last_at: recovered.last_at, checkpointed, rebuilt_because, alarmed })
}

/// The plain parts of an engine, put together; none of them is driven yet.
pub(crate) struct Assembled<H: Host, L> {
    pub(crate) system: Arc<System<H>>,
    pub(crate) committer: Committer<L>,
    pub(crate) projector: Projector,
    /// What the projector is to take.
    pub(crate) durable: mpsc::Receiver<DurableBatch>,
    pub(crate) counts: UserCounts,
    pub(crate) log_status: journal::Status,
    rooms: Arc<Map<ConcertId, RoomInfo>>,
    pub(crate) alarmed: Alarmed,
}

/// Puts the plain parts of an engine together; what is to be durable goes to `log`.
pub(crate) fn assemble<H: Host, L: Log>(
    opened: Opened,
    log: impl FnOnce(LocalLog) -> L,
    clock: Arc<dyn Clock>,
    host: H,
    config: &Config,
) -> (Assembled<H, L>, Arc<StateStore>) {
    let Opened { log: local, store, replica, last, alarmed, .. } = opened;
    let (log_status, counts) = (local.status(), replica.counts().clone());
    let replica = Arc::new(SharedReplica::new(replica));
    let (journal, mut committer) = Journal::new(log(local), last);
    let ending = replica.clone();
    journal.on_failure(move |_| ending.end());
    let (batches, durable) = mpsc::channel();
    committer.add_reader(Box::new(move |batch| {
        // The projector ends before the committer only if it panicked, which fails the engine.
        let _ = batches.send(batch.clone());
    }));
    let rooms = Arc::new(Map::default());
    let env = Environment { journal: journal.clone(), clock, alarms: Arc::new(Alarms::default()) };
    let system = Arc::new(System::new(host, env, replica.clone(), config.actors.mailbox as usize));
    let projector = Projector { replica, journal, rooms: rooms.clone(), liveness: system.liveness.clone() };
    (Assembled { system, committer, projector, durable, counts, log_status, rooms, alarmed }, store)
}

/// Lets the actors do what was under way or ran out while the engine was closed, first of all.
pub(crate) fn look_after<H: Host>(system: &Arc<System<H>>, alarmed: &Alarmed, entropy: &mut dyn FnMut() -> u64) {
    for room in &alarmed.rooms {
        system.liveness.entry(*room).or_default();
        system.wake(&Key::Room(*room), Alarm::Due(entropy()));
    }
    for option in &alarmed.options {
        system.wake(&Key::Option(*option), Alarm::Owed);
        system.wake(&Key::Option(*option), Alarm::Due(entropy()));
    }
    system.wake(&Key::Catalogue(TheCatalogue), Alarm::Owed);
}

/// Builds the state anew from the journal, as a start would, and writes all of it.
pub(super) fn rebuild(config: &Config, disk: &Arc<dyn Disk>) -> Result<(), OpenError> {
    let mut config = config.clone();
    config.checkpoint.enabled = true;
    // Nobody is served, so the time does not matter.
    config.clock.accept_journal_ahead = true;
    let Opened { store, mut replica, .. } = Opened::new(&config, disk, wall_clock())?;
    checkpoint(&store, replica.begin_checkpoint())?;
    Ok(())
}

/// Hands `take` every record of the journal after `after`, up to `last`. Another thread decodes ahead of it; the journal is
/// read on this one, so that the calls of the disk are always the same.
///
/// # Errors
/// What `take` says, or that the journal cannot be read.
pub(super) fn replay(
    disk: Arc<dyn Disk>,
    dir: &Path,
    after: Lsn,
    last: Lsn,
    mut take: impl FnMut(Lsn, &codec::Record) -> Result<(), OpenError>,
) -> Result<(), OpenError> {
    if after >= last {
        return Ok(());
    }
    let mut reader = Reader::open(disk, dir, after.next())?;
    std::thread::scope(|scope| {
        let (frames, to_decode) = mpsc::channel::<(Lsn, u32, Vec<u8>)>();
        let (decoded, batches) = mpsc::channel();
        scope.spawn(move || {
            for (first, count, payload) in to_decode {
                if decoded.send(codec::decode_batch(first, count, &payload)).is_err() {
                    break;
                }
            }
        });
        // The lengths of the batches ahead.
        let (mut more, mut ahead, mut ahead_bytes) = (true, VecDeque::new(), 0);
        loop {
            while more && ahead_bytes < DECODE_AHEAD_BYTES {
                let Some(frame) = reader.next(last)? else {
                    more = false;
                    break;
                };
                ahead.push_back(frame.payload.len());
                ahead_bytes += frame.payload.len();
                // If the other thread has panicked, so does the scope.
                let _ = frames.send((frame.first_lsn, frame.count, frame.payload));
            }
            let Some(bytes) = ahead.pop_front() else { return Ok(()) };
            let Ok(batch) = batches.recv() else { return Ok(()) };
            ahead_bytes -= bytes;
            for (first, record) in batch? {
                if first > after {
                    take(first, &record)?;
                }
            }
        }
    })
}

pub(super) fn unreadable(error: replica::Error) -> OpenError {
    match error {
        replica::Error::State(error) => OpenError::State(error),
        replica::Error::Corrupt { .. } | replica::Error::Page { .. } => OpenError::Row(error.to_string()),
    }
}

/// Writes what has changed to the store; gives the lsn at which it stands now.
fn checkpoint(store: &StateStore, changes: ChangeSet) -> Result<Lsn, state::Error> {
    let lsn = changes.lsn;
    store.checkpoint(lsn, changes.altered(store))?;
    Ok(lsn)
}

/// Opens an engine and starts its threads.
pub(super) fn start(
    config: Config,
    time: &dyn TimeSource,
    disk: Arc<dyn Disk>,
    failpoints: Option<Failpoints>,
) -> Result<Arc<Inner>, OpenError> {
    config.validate()?;
    let dir = config.data_dir.clone();
    let unusable = |source| OpenError::DataDirectory { dir: dir.display().to_string(), source };
    make_dir(&*disk, &dir).map_err(unusable)?;
    let lock = Arc::new(DirLock::acquire(&dir)?);
    let opened = Opened::new(&config, &disk, time.wall())?;
    let (clock, checkpointed) = (time.start_after(opened.last_at), opened.checkpointed);
    let blocking = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("boxoffice-background")
        .enable_all()
        .build()
        .map_err(unusable)?;
    let (actors, handle, mut arbiters) = start_arbiters(config.actors.arbiters as usize + 1)?;
    // One for the supervisor, which busy actors must not hold up.
    let own = arbiters.swap_remove(0);
    let host = Arbiters::new(arbiters, blocking.handle().clone(), failpoints);
    let (assembled, store) = assemble(opened, |log| log, clock.clone(), host, &config);
    let Assembled { system, committer, projector, durable, counts, log_status, rooms, alarmed } = assembled;
    let (journal, replica) = (system.env.journal.clone(), system.replica.clone());
    let (failed, failure) = watch::channel(None);
    journal.on_failure(move |reason| {
        failed.send_replace(Some(reason.to_owned()));
    });
    let gauges = Arc::new(Gauges { checkpointed: AtomicU64::new(checkpointed.0), ..Gauges::default() });

    let (held, failing) = (lock.clone(), journal.clone());
    let committer = spawn("committer", move || {
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| committer.run()));
        if run.is_err() {
            failing.poison("the committer panicked");
        }
        drop(held);
    })?;
    let projector = spawn("projector", move || projector.run(&durable))?;
    let stop = Arc::new(Stop::default());
    let disk_watch = DiskWatch { disk: disk.clone(), config: config.clone(), gauges: gauges.clone() };
    // Before anybody is let in.
    disk_watch.look();
    let watching = stop.clone();
    let disk_watch = spawn("disk", move || disk_watch.run(&watching))?;
    let housekeeper = Housekeeper {
        replica: replica.clone(),
        journal: journal.clone(),
        clock,
        counts: counts.clone(),
        store,
        config: config.clone(),
        gauges: gauges.clone(),
        last: checkpointed,
        last_at: Instant::now(),
        thinned_out_at: Instant::now(),
        took: Duration::ZERO,
        forgot_at: None,
        _lock: lock,
    };
    let (stopping, failing) = (stop.clone(), journal.clone());
    let housekeeper = spawn("housekeeper", move || {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| housekeeper.run(&stopping))).is_err() {
            failing.poison("the housekeeper panicked");
        }
    })?;

    look_after(&system, &alarmed, &mut entropy);
    let supervisor = Supervisor::new(system.clone(), config.actors.max_resident as usize, entropy);
    Supervisor::start_in_arbiter(&own, move |_| supervisor);

    let (ending, ended) = watch::channel(());
    let threads = Threads {
        committer,
        projector,
        housekeeper,
        disk_watch,
        actors,
        system: handle,
        stop,
        replica: replica.clone(),
        _blocking: Blocking(Some(blocking)),
        _ended: ending,
    };
    Ok(Arc::new(Inner {
        plans: Plans::new(disk.clone(), dir.join("plans")),
        config,
        system,
        counts,
        disk,
        log_status,
        offers: Map::default(),
        seating_plans: Mutex::default(),
        rooms,
        event_readers: Arc::new(Semaphore::new(super::events::READERS_AT_ONCE)),
        gauges,
        deliveries: Deliveries::default(),
        calls: AtomicU64::new(0),
        closing: AtomicBool::new(false),
        failure,
        threads: Mutex::new(Some(threads)),
        ended,
    }))
}

/// A random number.
pub(super) fn entropy() -> u64 {
    // The system's source does not fail on any system that sled runs on.
    getrandom::u64().unwrap_or_else(|_| wall_clock().as_millis())
}

/// Threads for actors, in a system of their own: the host app may have one too.
fn start_arbiters(count: usize) -> Result<(JoinHandle<()>, actix_rt::System, Vec<ArbiterHandle>), OpenError> {
    let (sender, started) = mpsc::channel();
    let thread = spawn("actors", move || {
        let runner = actix_rt::System::new();
        let arbiters: Vec<_> = runner.block_on(async move { (0..count).map(|_| Arbiter::new()).collect() });
        let handles = arbiters.iter().map(Arbiter::handle).collect::<Vec<_>>();
        let _ = sender.send((actix_rt::System::current(), handles));
        if let Err(error) = runner.run() {
            tracing::error!(%error, "the actors' system ended with an error");
        }
        for arbiter in arbiters {
            arbiter.stop();
            if arbiter.join().is_err() {
                tracing::error!("an arbiter panicked");
            }
        }
    })?;
    let failed = |_| OpenError::DataDirectory {
        dir: "(no threads for actors)".into(),
        source: std::io::Error::other("the actors' system did not start"),
    };
    let (system, handles) = started.recv().map_err(failed)?;
    Ok((thread, system, handles))
}

/// Lets the replica take in what has become durable. A plain part: whoever drives it calls [`take`](Self::take).
pub(crate) struct Projector {
    replica: Arc<SharedReplica>,
    journal: Journal,
    rooms: Arc<Map<ConcertId, RoomInfo>>,
    liveness: Arc<Map<ConcertId, Arc<Liveness>>>,
}

impl Projector {
    fn run(self, durable: &mpsc::Receiver<DurableBatch>) {
        while let Ok(batch) = durable.recv()
            && self.take(&batch)
        {}
        self.replica.end();
    }

    /// Takes a batch in; false if that fails, which is the end of the engine.
    pub(crate) fn take(&self, batch: &DurableBatch) -> bool {
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.apply(batch))) {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => self.journal.poison(&format!("the state cannot be read: {error}")),
            Err(_) => self.journal.poison("the projector panicked"),
        }
        false
    }

    fn apply(&self, batch: &DurableBatch) -> Result<(), replica::Error> {
        let (mut applied, mut taken) = (Lsn(0), 0);
        while taken < batch.len() {
            let most = batch.len().min(taken + APPLIED_AT_ONCE);
            let some = self.replica.read(|replica| {
                for (first, record) in &batch[taken..most] {
                    replica.apply(*first, record)?;
                    taken += 1;
                }
                applied = replica.applied();
                Ok(())
            });
            match some {
                Ok(()) => {}
                // It is closed after this has ended.
                Err(Unseen::Ended) => return Ok(()),
                Err(Unseen::Unreadable(error)) => return Err(error),
            }
        }
        let hubs = self.replica.hubs();
        for (_, record) in &**batch {
            match &record.facts {
                Facts::Option(option, _) => hubs.option_changed(*option),
                Facts::Room(concert, events) => {
                    self.note(*concert, events);
                    hubs.room_changed(*concert, events);
                }
                Facts::Catalogue(..) | Facts::Wallet(..) | Facts::Sink(..) => {}
            }
        }
        self.replica.advance(applied);
        Ok(())
    }

    /// Keeps up to date what holds are checked against, and in which lines somebody waits.
    fn note(&self, concert: ConcertId, events: &[waiting_room::Event]) {
        for event in events {
            match event {
                waiting_room::Event::Opened { settings, .. } | waiting_room::Event::Configured { settings } => {
                    if let Some(mut room) = self.rooms.get_mut(&concert) {
                        room.mode = settings.mode;
                    }
                }
                waiting_room::Event::TokenIssued { active_until: None, .. } => {
                    self.liveness.entry(concert).or_default();
                }
                _ => {}
            }
        }
    }
}

/// Watches how much space is left. It is nobody else's business as well: a checkpoint can take long, and it is while one
/// is being written that space runs out.
struct DiskWatch {
    disk: Arc<dyn Disk>,
    config: Config,
    gauges: Arc<Gauges>,
}

impl DiskWatch {
    fn run(&self, stop: &Stop) {
        while !stop.wait(LOOK_AT_DISK) {
            self.look();
        }
    }

    fn look(&self) {
        // What cannot be measured is left to the writes to find out.
        if let Ok(free) = self.disk.available_bytes(&self.config.data_dir) {
            let full = free < self.config.storage.min_free_bytes;
            self.gauges.free_bytes.store(free, Ordering::Relaxed);
            let was_full = self.gauges.storage_full.swap(full, Ordering::Relaxed);
            if full != was_full {
                tracing::warn!(free_bytes = free, full, "the disk is nearly full, or is not any more");
            }
        }
    }
}

/// Writes checkpoints.
struct Housekeeper {
    replica: Arc<SharedReplica>,
    journal: Journal,
    clock: Arc<dyn Clock>,
    counts: UserCounts,
    store: Arc<StateStore>,
    config: Config,
    gauges: Arc<Gauges>,
    last: Lsn,
    last_at: Instant,
    thinned_out_at: Instant,
    /// How long the last checkpoint took.
    took: Duration,
    forgot_at: Option<Instant>,
    _lock: Arc<DirLock>,
}

impl Housekeeper {
    fn run(mut self, stop: &Stop) {
        loop {
            let stopping = stop.wait(LOOK_AROUND);
            if self.journal.failure().is_some() {
                return;
            }
            if self.thinned_out_at.elapsed() >= Duration::from_secs(1) {
                self.thinned_out_at = Instant::now();
                // Reads fill the memory too, also where nothing is ever written.
                let most = self.config.actors.max_resident as usize;
                drop(self.replica.lock().map(|mut replica| replica.evict(most)));
            }
            if self.forgot_at.is_none_or(|at| at.elapsed() >= FORGET) {
                self.forgot_at = Some(Instant::now());
                self.counts.forget_idle(self.clock.now());
            }
            if let Err(error) = self.checkpoint_if_due(stopping) {
                return self.journal.poison(&format!("the state cannot be written: {error}"));
            }
            if stopping {
                return;
            }
        }
    }

    fn checkpoint_if_due(&mut self, now: bool) -> Result<(), state::Error> {
        let Checkpoint { interval_ms, max_events, max_pending_events, enabled, .. } = self.config.checkpoint;
        let fresh = self.replica.applied().0 - self.last.0;
        let rested = self.last_at.elapsed();
        // What is written late is written once where it changed often, and the sale has the processor meanwhile.
        let in_time = rested >= Duration::from_millis(interval_ms) || fresh >= max_events;
        let due = fresh > max_pending_events / 2 || in_time && rested >= self.took * REST;
        let last = now && fresh < LEFT_EVENTS;
        let due = fresh > 0 && (last || due && !now);
        // What space is left is the journal's: a start that finds no checkpoint replays it.
        let full = self.gauges.storage_full.load(Ordering::Relaxed);
        if !due || full || !enabled {
            return Ok(());
        }
        let Ok(mut replica) = self.replica.lock() else { return Ok(()) };
        let begun = Instant::now();
        let changes = replica.begin_checkpoint();
        drop(replica);
        self.last = checkpoint(&self.store, changes)?;
        self.last_at = Instant::now();
        self.took = begun.elapsed();
        let most = self.config.actors.max_resident as usize;
        drop(self.replica.lock().map(|mut replica| replica.end_checkpoint(self.last, most)));
        self.gauges.checkpointed.store(self.last.0, Ordering::Relaxed);
        Ok(())
    }
}
