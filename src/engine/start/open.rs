//! Opening what stands in the data directory: the state, and the journal, whose tail is replayed.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::replay::replay;
use crate::clock::wall_clock;
use crate::cluster::State;
use crate::config::Config;
use crate::domain::{Lsn, Timestamp};
use crate::error::OpenError;
use crate::replica::{self, ChangeSet, Replica};
use crate::store::disk::Disk;
use crate::store::journal::{self, Frames, LocalCopy, LocalLog, Preallocate};
use crate::store::sled_rows::SledFolder;
use crate::store::standing::Standing;
use crate::store::state::{self, Backing, StateStore};

/// How far the journal may be ahead of the wall clock.
const AHEAD: Duration = Duration::from_secs(300);
/// Events to replay between two checkpoints at the start: what changes often is written once.
const REPLAY_EVENTS: u64 = 1_000_000;

/// Options of the journal under this configuration.
pub(in crate::engine) fn journal_options(config: &Config, check_from: Lsn) -> journal::Options {
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
    /// Whether the journal is a copy of a cluster's log, or is to become one.
    pub(crate) in_cluster: bool,
}

/// The journal of a data directory, open for appending.
pub(crate) enum Journaled {
    /// It is the log.
    Alone(Box<LocalLog>),
    /// It is a copy of a log, which was read so far; of none yet, if there is no state.
    Copy(Box<LocalCopy>, Option<Box<State>>),
}

impl Journaled {
    /// How its next segment is doing.
    pub(crate) fn status(&self) -> journal::Status {
        match self {
            Self::Alone(log) => log.status(),
            Self::Copy(copy, _) => copy.status(),
        }
    }
}

/// What stands in the data directory, opened and replayed.
pub(crate) struct Opened {
    pub(super) log: Journaled,
    pub(super) frames: Frames,
    pub(crate) store: Arc<StateStore>,
    pub(super) replica: Replica,
    pub(super) last: Lsn,
    pub(super) last_at: Timestamp,
    pub(crate) checkpointed: Lsn,
    /// How long it took to replay what has come since.
    pub(super) replayed_in: Duration,
    /// Why the rows that were there are not used, if they are not.
    #[cfg_attr(not(any(test, feature = "testing")), allow(dead_code, reason = "for the simulator"))]
    pub(crate) rebuilt_because: Option<String>,
}

impl Opened {
    /// On this machine's disk and sled.
    pub(super) fn new(
        config: &Config,
        disk: &Arc<dyn Disk>,
        wall: Timestamp,
        in_cluster: bool,
    ) -> Result<Self, OpenError> {
        let folder =
            SledFolder { dir: config.data_dir.clone(), disk: disk.clone(), cache_bytes: config.checkpoint.cache_bytes };
        let preallocate = Preallocate::Background;
        open(&Ground { config, disk, backing: &folder, preallocate, replay_events: REPLAY_EVENTS, in_cluster }, wall)
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
    let frames = Frames::in_dir(disk.clone(), dir);
    let options = journal::Options { preallocate: ground.preallocate, ..journal_options(config, lsn) };
    let (log, last, last_at) = open_journal(ground, &frames, options, floor)?;
    let ahead = last_at.since(wall);
    if ahead > AHEAD && !config.clock.accept_journal_ahead {
        return Err(OpenError::JournalAhead(ahead));
    }
    let store = Arc::new(store);
    let mut replica = Replica::new(store.clone(), lsn).map_err(unreadable)?;
    let (mut checkpointed, mut since) = (lsn, Instant::now());
    replay(&frames, lsn, last, |first, record| {
        replica.loading(|replica| replica.apply(first, record)).map_err(unreadable)?;
        if config.checkpoint.enabled && replica.applied().0 - checkpointed.0 >= ground.replay_events {
            checkpointed = checkpoint(&store, replica.begin_checkpoint())?;
            drop(replica.end_checkpoint(checkpointed, config.actors.max_resident as usize));
            since = Instant::now();
        }
        Ok(())
    })?;
    let replayed_in = since.elapsed();
    tracing::info!(last_lsn = %last, replayed = last.0 - lsn.0, "journal opened");
    Ok(Opened { log, frames, store, replica, last, last_at, checkpointed, replayed_in, rebuilt_because })
}

/// Opens the journal; it ends with an event of this lsn and time. What a copy has beyond that is not known to be in the log.
fn open_journal(
    ground: &Ground<'_>,
    frames: &Frames,
    options: journal::Options,
    floor: Lsn,
) -> Result<(Journaled, Lsn, Timestamp), OpenError> {
    let standing = Standing::in_dir(ground.disk.clone(), &ground.config.data_dir);
    let path = standing.path().display().to_string();
    let unreadable = |source| OpenError::DataDirectory { dir: path.clone(), source };
    let state = standing.read().map_err(unreadable)?;
    if !ground.in_cluster {
        if state.is_some() {
            return Err(OpenError::InCluster(ground.config.data_dir.display().to_string()));
        }
        let (log, recovered) = frames.open(options, floor)?;
        if recovered.torn_bytes > 0 {
            tracing::warn!(bytes = recovered.torn_bytes, "cut a torn batch off the journal; nobody was told of it");
        }
        return Ok((Journaled::Alone(Box::new(log)), recovered.last_lsn, recovered.last_at));
    }
    let bad_state = |error| unreadable(io::Error::new(io::ErrorKind::InvalidData, error));
    let state = state.map(|bytes| State::decode(&bytes)).transpose().map_err(bad_state)?;
    let copy = match &state {
        Some(state) => frames.open_copy(options, state.tip)?,
        None => frames.begin_copy(options, floor)?,
    };
    let tip = copy.tip();
    let last = Lsn(tip.next_lsn.0 - 1);
    if last < floor {
        let what = format!("it ends at lsn {last}, and the state in sled at {floor}");
        return Err(unreadable(io::Error::new(io::ErrorKind::InvalidData, what)));
    }
    Ok((Journaled::Copy(Box::new(copy), state.map(Box::new)), last, tip.at))
}

/// Builds the state anew from the journal, as a start would, and writes all of it.
pub(in crate::engine) fn rebuild(config: &Config, disk: &Arc<dyn Disk>) -> Result<(), OpenError> {
    let mut config = config.clone();
    config.checkpoint.enabled = true;
    // Nobody is served, so the time does not matter.
    config.clock.accept_journal_ahead = true;
    let standing = Standing::in_dir(disk.clone(), &config.data_dir);
    let unreadable = |source| OpenError::DataDirectory { dir: standing.path().display().to_string(), source };
    let in_cluster = standing.read().map_err(unreadable)?.is_some();
    let Opened { store, mut replica, .. } = Opened::new(&config, disk, wall_clock(), in_cluster)?;
    checkpoint(&store, replica.begin_checkpoint())?;
    Ok(())
}

pub(crate) fn unreadable(error: replica::Error) -> OpenError {
    match error {
        replica::Error::State(error) => OpenError::State(error),
        replica::Error::Corrupt { .. } | replica::Error::Page { .. } => OpenError::Row(error.to_string()),
    }
}

/// Writes what has changed to the store; gives the lsn at which it stands now.
fn checkpoint(store: &StateStore, changes: ChangeSet) -> Result<Lsn, state::Error> {
    store.checkpoint(changes.lsn, changes.altered(store))?;
    Ok(changes.lsn)
}
