//! Starting an engine: what is in its directory is opened, its parts are put together, and threads drive them.

mod assemble;
mod checkpointer;
mod copying;
mod disk_watch;
mod follower;
mod housekeeper;
mod member;
mod membership;
mod open;
mod pace;
mod projector;
mod replay;
mod terms;
mod threads;

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use self::checkpointer::Checkpointer;
use self::copying::{Copying, Newcomer};
use self::disk_watch::DiskWatch;
use self::housekeeper::Housekeeper;
use self::member::Seat;
use self::member::{Character, Driver, Inbox};
use self::threads::{Blocking, Stop, spawn, start_arbiters};
use super::calls::Secret;
use super::deliveries::Deliveries;
use super::{Gauges, Inner};
use crate::actors::arbiters::{Arbiters, Failpoints};
use crate::clock::{TimeSource, wall_clock};
use crate::cluster::{self, ClusterId, Fence, Found, Joining, Known, Link, Sequence, State};
use crate::config::Config;
use crate::domain::Lsn;
use crate::error::OpenError;
use crate::store::disk::Disk;
use crate::store::journal::{Frames, LocalCopy, Tip};
use crate::store::lock::DirLock;
use crate::store::plans::{Elsewhere, Plans};
use crate::store::standing::Standing;

#[cfg(any(test, feature = "testing"))]
pub(crate) use self::assemble::Term;
pub(crate) use self::assemble::{Assembled, Node, assemble};
pub(crate) use self::follower::Follower;
#[cfg(any(test, feature = "testing"))]
pub(crate) use self::follower::{Order, Stuck};
pub use self::membership::{Membership, Seen};
pub(crate) use self::open::unreadable;
#[cfg(any(test, feature = "testing"))]
pub(crate) use self::open::{Ground, open};
pub(crate) use self::open::{Journaled, Opened, make_dir};
pub(in crate::engine) use self::open::{journal_options, rebuild};
#[cfg(any(test, feature = "testing"))]
pub(crate) use self::projector::Projector;
pub(in crate::engine) use self::replay::replay;
use self::terms::{Owner, Stage};
pub(in crate::engine) use self::terms::{Place, Terms};
pub(in crate::engine) use self::threads::Threads;

/// Threads for reads that may block.
const BLOCKING_THREADS: usize = 8;

/// Opens an engine and starts its threads.
pub(super) fn start(
    config: Config,
    time: Arc<dyn TimeSource>,
    disk: Arc<dyn Disk>,
    failpoints: Option<Failpoints>,
    joining: Option<Joining>,
) -> Result<Arc<Inner>, OpenError> {
    config.validate()?;
    let dir = config.data_dir.clone();
    let unusable = |source| OpenError::DataDirectory { dir: dir.display().to_string(), source };
    make_dir(&*disk, &dir).map_err(unusable)?;
    let lock = Arc::new(DirLock::acquire(&dir)?);
    let blocking = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("boxoffice-background")
        .enable_all()
        .build()
        .map_err(unusable)?;
    let connected = joining.map(|joining| Connected::new(joining, &config, &disk, blocking.handle())).transpose()?;
    let opened = Opened::new(&config, &disk, time.wall(), connected.is_some())?;
    let (clock, checkpointed) = (time.start_after(opened.last_at), opened.checkpointed);
    let (actors, handle, mut arbiters) = start_arbiters(config.actors.arbiters as usize + 1)?;
    let own = arbiters.swap_remove(0);
    let host = Arbiters::new(arbiters, blocking.handle().clone(), failpoints);
    let Assembled { node, log, store, projector, durable, log_status, rooms, offers, hubs, replay_nanos } =
        assemble(opened, time, &config);
    let (journal, replica) = (node.journal.clone(), node.replica.clone());
    let (failed, failure) = watch::channel(None);
    journal.on_failure(move |reason| {
        failed.send_replace(Some(reason.to_owned()));
    });
    let gauges = Arc::new(Gauges { checkpointed: AtomicU64::new(checkpointed.0), replay_nanos, ..Gauges::default() });

    let projector = spawn("projector", move || projector.run(&durable))?;
    let stop = Arc::new(Stop::default());
    let disk_watch = DiskWatch { disk: disk.clone(), config: config.clone(), gauges: gauges.clone() };
    // Before anybody is let in.
    disk_watch.look();
    let watching = stop.clone();
    let disk_watch = spawn("disk", move || disk_watch.run(&watching))?;
    let terms = Arc::new(Terms::new(clock));
    let (setup, figures) = (config.clone(), gauges.clone());
    let checkpointer = Checkpointer::new(replica.clone(), journal.clone(), store, setup, figures, checkpointed);
    let housekeeper = Housekeeper {
        replica: replica.clone(),
        journal: journal.clone(),
        terms: terms.clone(),
        counts: node.counts.clone(),
        max_resident: config.actors.max_resident as usize,
        checkpointer,
        thinned_out_at: Instant::now(),
        forgot_at: None,
        _lock: lock.clone(),
    };
    let (stopping, failing) = (stop.clone(), journal);
    let housekeeper = spawn("housekeeper", move || {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| housekeeper.run(&stopping))).is_err() {
            failing.poison("the housekeeper panicked");
        }
    })?;
    let (ending, ended) = watch::channel(());
    let threads = Threads {
        projector,
        housekeeper,
        disk_watch,
        actors,
        system: handle,
        stop,
        replica,
        _blocking: Blocking(Some(blocking)),
        _ended: ending,
    };
    let calls = Arc::<AtomicU64>::default();
    let plans_here = || Arc::new(Plans::new(disk.clone(), dir.join("plans")));
    let plans = connected.as_ref().map_or_else(plans_here, |connected| connected.plans.clone());
    let stage = Stage::new(terms.clone(), host.clone(), own);
    let secret = connected.as_ref().map(|connected| connected.secret.clone());
    let place = match (log, connected) {
        (Journaled::Alone(log), _) => {
            let owner = Owner::new(*log, lock, stage);
            // A machine of its own owns its log for as long as it is open.
            owner.begin(&node).map(|()| Place::Alone(owner))
        }
        (Journaled::Copy(copy, state), Some(connected)) => {
            let (gauges, calls) = (gauges.clone(), calls.clone());
            let seat = connected.join(*copy, state, &node, stage, gauges, calls, lock);
            seat.map(|seat| Place::Member(Arc::new(seat)))
        }
        (Journaled::Copy(..), None) => Err(OpenError::InCluster(dir.display().to_string())),
    };
    let place = match place {
        Ok(place) => place,
        Err(error) => {
            // The threads would go on, and hold the directory.
            node.journal.close();
            threads.end(&node.journal);
            return Err(error);
        }
    };
    let inner = Inner {
        plans,
        config,
        node,
        terms,
        place,
        host,
        log_status,
        offers,
        seating_plans: Mutex::default(),
        rooms,
        hubs,
        event_readers: Arc::new(Semaphore::new(super::events::READERS_AT_ONCE)),
        reconciling: Arc::new(Semaphore::new(1)),
        replanning: Semaphore::new(1),
        gauges,
        deliveries: Deliveries::default(),
        installation: OnceLock::new(),
        providers: Mutex::default(),
        away: OnceLock::new(),
        calls,
        closing: AtomicBool::new(false),
        failure,
        threads: Mutex::new(Some(threads)),
        ended,
    };
    let inner = Arc::new(inner);
    if let (Place::Member(seat), Some(secret)) = (&inner.place, secret) {
        seat.take_calls(&inner, secret);
    }
    Ok(inner)
}

/// Plans go by the same way as the log.
struct PlansByLink(Arc<dyn Link>);

impl Elsewhere for PlansByLink {
    fn put(&self, hash: [u8; 32], bytes: &[u8]) -> Result<(), String> {
        self.0.put_plan(hash, bytes)
    }

    fn get(&self, hash: [u8; 32]) -> Result<Option<Vec<u8>>, String> {
        self.0.plan(hash)
    }
}

/// A node that has found the log of its cluster, and whose directory is fit to follow it.
struct Connected {
    character: Character,
    secret: Secret,
    link: Arc<dyn Link>,
    found: Found,
    inbox: Inbox,
    frames: Frames,
    standing: Standing,
    /// Those of all nodes.
    plans: Arc<Plans>,
}

impl Connected {
    /// Connects, and copies from another node what the log has no more. Blocks.
    fn new(joining: Joining, config: &Config, disk: &Arc<dyn Disk>, runtime: &Handle) -> Result<Self, OpenError> {
        let Joining { node, founds, format, patience, log_bytes_max, secret, mut connect } = joining;
        let short = || OpenError::Cluster(format!("the secret is shorter than {} bytes", cluster::SECRET_BYTES_MIN));
        let secret = Secret::new(&secret).ok_or_else(short)?;
        let me = Fence { node, life: entropy(), format };
        let inbox = Inbox::new();
        connect.at_home(&config.data_dir);
        let (link, found) = connect.connect(runtime, me.life, inbox.hear()).map_err(OpenError::Cluster)?;
        let frames = Frames::in_dir(disk.clone(), &config.data_dir);
        let standing = Standing::in_dir(disk.clone(), &config.data_dir);
        let options = journal_options(config, Lsn(0));
        let (ways, seen) = (&link, &inbox);
        let plans = Plans::new(disk.clone(), config.data_dir.join("plans"));
        let plans = Arc::new(plans.shared_by(Arc::new(PlansByLink(link.clone()))));
        let newcomer = Newcomer {
            plans: &plans,
            frames: &frames,
            options,
            standing: &standing,
            link: ways,
            found,
            inbox: seen,
            patience,
            runtime,
            founds,
        };
        newcomer.catch_up()?;
        let character = Character { me, patience, founds, log_bytes_max, config: config.clone() };
        Ok(Self { character, secret, link, found, inbox, frames, standing, plans })
    }

    /// Follows the log from now on.
    #[allow(clippy::too_many_arguments, reason = "the parts of a node, put together once")]
    fn join(
        self,
        copy: LocalCopy,
        state: Option<Box<State>>,
        node: &Node,
        stage: Stage,
        gauges: Arc<Gauges>,
        calls: Arc<AtomicU64>,
        lock: Arc<DirLock>,
    ) -> Result<Seat, OpenError> {
        let Self { mut character, link, found, inbox, frames, standing, plans, .. } = self;
        node.journal.kept_by(inbox.keep());
        let is_empty = copy.tip() == Tip::default();
        character.founds |= is_empty;
        if found.last == Sequence(0) && character.founds {
            // Before the log begins whose events name them.
            for hash in plans.list()? {
                link.put_plan(hash, &plans.get(hash)?).map_err(OpenError::Cluster)?;
            }
        }
        let (me, patient) = (character.me.clone(), character.patience.read_up_to);
        let unreadable = |error: &dyn std::fmt::Display| OpenError::Cluster(error.to_string());
        let bytes = standing.read().map_err(|error| unreadable(&error))?;
        let known = bytes.map(|bytes| State::decode_with(&bytes)).transpose().map_err(|error| unreadable(&error))?;
        let known = known.map_or_else(Known::default, |(_, known)| known);
        let (of_stream, journal) = ((found.created, found.last), node.journal.clone());
        let state = state.map(|state| (*state, known.clone()));
        let follower = Follower::new(me, copy, state, of_stream, journal, standing, patient);
        let follower = follower.map_err(|stuck| OpenError::Cluster(stuck.to_string()))?;
        let (node, copying) = (node.clone(), Copying::new(frames));
        Driver::start(follower, link, found, node, stage, gauges, character, calls, inbox, copying, plans, known, lock)
    }
}

/// A random number.
pub(in crate::engine) fn entropy() -> u64 {
    // The system's source does not fail on any system that sled runs on.
    getrandom::u64().unwrap_or_else(|_| wall_clock().as_millis())
}

/// The id of a new cluster.
pub(super) fn drawn() -> ClusterId {
    let id = u128::from(entropy()) << 64 | u128::from(entropy());
    ClusterId(std::num::NonZeroU128::new(id).unwrap_or(std::num::NonZeroU128::MIN))
}
