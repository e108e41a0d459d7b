//! One life of the engine: its plain parts, from a start to a crash.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;

use parking_lot::Mutex;

use super::clients::Call;
use super::relay::Courier;
use super::rows::SimRows;
use super::stage::Stage;
use super::swarm::Swarm;
use super::watched::{Told, Watched};
use crate::actors::system::System;
use crate::actors::timer::Timer;
use crate::clock::TimeSource;
use crate::domain::{Lsn, SinkId};
use crate::engine::start::{self, Assembled, Ground, Projector};
use crate::error::OpenError;
use crate::limits::UserCounts;
use crate::replica::ChangeSet;
use crate::store::committer::{Committer, DurableBatch};
use crate::store::disk::Disk;
use crate::store::journal::{Preallocate, Status};
use crate::store::state::{self, StateStore};
use crate::testing::clock::ManualClock;
use crate::testing::random::Dice;

/// Where the journal is.
pub(super) const JOURNAL: &str = "/data/journal";

/// How far a checkpoint has come.
pub(super) enum Checkpoint {
    /// There is none; the last one stands at this lsn.
    None(Lsn),
    /// To be written.
    Begun(ChangeSet),
    /// Written, which the replica does not know yet.
    Written(Lsn),
}

/// One life of the engine.
pub(super) struct Machine {
    pub system: Arc<System<Stage>>,
    pub stage: Stage,
    pub committer: Arc<Mutex<Committer<Watched>>>,
    pub told: Arc<Mutex<Told>>,
    pub projector: Projector,
    pub durable: mpsc::Receiver<DurableBatch>,
    pub timer: Timer<Stage>,
    pub store: Arc<StateStore>,
    pub checkpoint: Arc<Mutex<Checkpoint>>,
    max_resident: usize,
    pub counts: UserCounts,
    pub log_status: Status,
    /// Why the rows that were there are not used, if they are not.
    pub rebuilt_because: Option<String>,
    pub couriers: BTreeMap<SinkId, Courier>,
    pub calls: Vec<Call>,
}

impl Machine {
    /// Starts the engine on what there is.
    pub fn boot(
        swarm: &Swarm,
        disk: &Arc<dyn Disk>,
        rows: &SimRows,
        clock: &ManualClock,
        dice: &Dice,
    ) -> Result<Self, OpenError> {
        let config = &swarm.config;
        let unusable = |source| OpenError::DataDirectory { dir: "/data".into(), source };
        start::make_dir(&**disk, Path::new("/data")).map_err(unusable)?;
        let (preallocate, replay_events) = (Preallocate::Inline, swarm.replay_events);
        let opened = start::open(&Ground { config, disk, backing: rows, preallocate, replay_events }, clock.wall())?;
        let checkpoint = Arc::new(Mutex::new(Checkpoint::None(opened.checkpointed)));
        let rebuilt_because = opened.rebuilt_because.clone();
        let stage = Stage::new(dice.clone(), swarm.post);
        let told = Arc::<Mutex<Told>>::default();
        let watch = |log| Watched { log, told: told.clone() };
        let running = clock.start_after(opened.last_at);
        let (assembled, store) = start::assemble(opened, watch, running, stage.clone(), config);
        let Assembled { system, committer, projector, durable, counts, log_status, alarmed, .. } = assembled;
        let entropy = dice.clone();
        start::look_after(&system, &alarmed, &mut || entropy.next());
        let timer = Timer::new(system.clone(), config.actors.max_resident as usize, move || entropy.next());
        Ok(Self {
            system,
            stage,
            committer: Arc::new(Mutex::new(committer)),
            told,
            projector,
            durable,
            timer,
            store,
            checkpoint,
            max_resident: config.actors.max_resident as usize,
            counts,
            log_status,
            rebuilt_because,
            couriers: BTreeMap::new(),
            calls: Vec::new(),
        })
    }

    /// Lets actors, and the committer and the housekeeper where they are not at work themselves, have a turn now and then
    /// while something else waits for the disk or for rows: so many of 1,000 times.
    pub fn others(&self, dice: &Dice, per_mille: u64) -> Box<dyn FnMut() + Send> {
        let (stage, committer, dice) = (self.stage.clone(), self.committer.clone(), dice.clone());
        let (system, store, checkpoint) = (self.system.clone(), self.store.clone(), self.checkpoint.clone());
        let most = self.max_resident;
        Box::new(move || {
            if !dice.chance(per_mille) {
                return;
            }
            for _ in 0..dice.below(3) {
                stage.turn();
            }
            if let Some(mut committer) = committer.try_lock() {
                committer.step();
            }
            if let Some(mut checkpoint) = checkpoint.try_lock() {
                // One begins when it is its turn.
                if !matches!(*checkpoint, Checkpoint::None(_)) {
                    go_on(&mut checkpoint, &system, &store, most);
                }
            }
            if dice.coin() {
                evict(&system, dice.below(3) as usize);
            }
        })
    }

    /// Lets the projector take in one batch; false if there is none.
    pub fn project(&self) -> bool {
        self.durable.try_recv().is_ok_and(|batch| self.projector.take(&batch))
    }

    /// Lets a checkpoint go a step further, as the housekeeper does; false if there is nothing to write.
    pub fn checkpoint(&self, most: usize) -> bool {
        go_on(&mut self.checkpoint.lock(), &self.system, &self.store, most)
    }

    /// Where the checkpoint is that is written, and not known to the replica yet.
    pub fn written(&self) -> Option<Lsn> {
        if let Checkpoint::Written(lsn) = *self.checkpoint.lock() { Some(lsn) } else { None }
    }

    /// Forgets aggregates that nobody uses, as the housekeeper does.
    pub fn evict(&self, most: usize) {
        evict(&self.system, most);
    }

    /// Whether it is over, and why.
    pub fn failure(&self) -> Option<String> {
        self.system.env.journal.failure()
    }
}

fn evict(system: &System<Stage>, most: usize) {
    drop(system.replica.lock().map(|mut replica| replica.evict(most)));
}

fn go_on(checkpoint: &mut Checkpoint, system: &System<Stage>, store: &StateStore, most: usize) -> bool {
    let Ok(mut replica) = system.replica.lock() else { return false };
    match std::mem::replace(checkpoint, Checkpoint::None(Lsn(0))) {
        Checkpoint::None(last) if replica.applied() == last => {
            *checkpoint = Checkpoint::None(last);
            return false;
        }
        Checkpoint::None(_) => *checkpoint = Checkpoint::Begun(replica.begin_checkpoint()),
        Checkpoint::Begun(changes) => {
            let lsn = changes.lsn;
            // Others may have a turn, and look at it.
            drop(replica);
            let written = store.checkpoint(lsn, changes.altered(store));
            *checkpoint = match written {
                Ok(()) => Checkpoint::Written(lsn),
                Err(state::Error::Later(_)) => Checkpoint::Begun(changes),
                Err(error) => {
                    system.env.journal.poison(&format!("the state cannot be written: {error}"));
                    Checkpoint::Written(lsn)
                }
            };
        }
        Checkpoint::Written(lsn) => {
            let forgotten = replica.end_checkpoint(lsn, most);
            drop(replica);
            drop(forgotten);
            *checkpoint = Checkpoint::None(lsn);
        }
    }
    true
}

impl Drop for Machine {
    fn drop(&mut self) {
        // They hold the system, which holds them.
        self.stage.clear();
    }
}
