//! One life of the engine: its plain parts, from a start to a crash, in one term or in several.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;

use parking_lot::Mutex;

use super::clerk::{Clerk, Messenger};
use super::clients::Call;
use super::relay::Courier;
use super::rows::SimRows;
use super::stage::Stage;
use super::swarm::Swarm;
use super::watched::{Told, Watched};
use crate::actors::system::{SharedReplica, System, Unseen};
use crate::actors::timer::Timer;
use crate::clock::TimeSource;
use crate::domain::{Lsn, SinkId};
use crate::engine::start::{self, Assembled, Ground, Journaled, Node, Projector, Term};
use crate::error::OpenError;
use crate::replica::ChangeSet;
use crate::store::committer::{Committer, Stepped, Way};
use crate::store::disk::Disk;
use crate::store::journal::{Preallocate, Status};
use crate::store::node::{DurableBatch, Journal};
use crate::store::state::{self, StateStore};
use crate::testing::clock::ManualClock;
use crate::testing::random::Dice;

/// How far a checkpoint has come.
pub(in crate::testing) enum Checkpoint {
    /// There is none; the last one stands at this lsn.
    None(Lsn),
    /// To be written.
    Begun(ChangeSet),
    /// Written, which the replica does not know yet.
    Written(Lsn),
}

/// One life of the engine.
pub(super) struct Machine {
    pub node: Node,
    /// Of the term under way.
    pub system: Arc<System<Stage>>,
    pub stage: Stage,
    /// Of the term under way; none between two.
    committer: Arc<Mutex<Option<Committer<Watched>>>>,
    pub told: Arc<Mutex<Told>>,
    pub projector: Projector,
    pub durable: mpsc::Receiver<DurableBatch>,
    /// Of the term under way.
    pub timer: Timer<Stage>,
    dice: Dice,
    pub store: Arc<StateStore>,
    pub checkpoint: Arc<Mutex<Checkpoint>>,
    max_resident: usize,
    pub log_status: Status,
    /// Why the rows that were there are not used, if they are not.
    pub rebuilt_because: Option<String>,
    pub couriers: BTreeMap<SinkId, Courier>,
    pub calls: Vec<Call>,
    pub clerk: Clerk,
    pub messenger: Messenger,
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
        let opened = start::open(
            &Ground { config, disk, backing: rows, preallocate, replay_events, in_cluster: false },
            clock.wall(),
        )?;
        let checkpoint = Arc::new(Mutex::new(Checkpoint::None(opened.checkpointed)));
        let rebuilt_because = opened.rebuilt_because.clone();
        let stage = Stage::new(dice.clone(), swarm.post);
        let told = Arc::<Mutex<Told>>::default();
        let assembled = start::assemble(opened, Arc::new(clock.clone()), config);
        let Assembled { node, log, store, projector, durable, log_status, .. } = assembled;
        let Journaled::Alone(log) = log else { return Err(OpenError::Row("it is in a cluster".into())) };
        let (entropy, log) = (dice.clone(), Watched { log: *log, told: told.clone() });
        let begun = node.begin_term(Way::Alone, stage.clone(), move || entropy.next()).map_err(|unseen| match unseen {
            Unseen::Unreadable(error) => start::unreadable(error),
            Unseen::Ended => OpenError::Row("there is no replica".into()),
        });
        let Term { system, batches, timer } = begun?;
        let clerk = Clerk::new(system.env.clock.now());
        Ok(Self {
            node,
            system,
            stage,
            committer: Arc::new(Mutex::new(Some(Committer::new(batches, log)))),
            told,
            projector,
            durable,
            timer,
            dice: dice.clone(),
            store,
            checkpoint,
            max_resident: config.actors.max_resident as usize,
            log_status,
            rebuilt_because,
            couriers: BTreeMap::new(),
            calls: Vec::new(),
            clerk,
            messenger: Messenger::default(),
        })
    }

    /// Lets actors, and the committer and the housekeeper where they are not at work themselves, have a turn now and then
    /// while something else waits for the disk or for rows: so many of 1,000 times.
    pub fn others(&self, dice: &Dice, per_mille: u64) -> Box<dyn FnMut() + Send> {
        let (stage, committer, dice) = (self.stage.clone(), self.committer.clone(), dice.clone());
        let (store, checkpoint) = (self.store.clone(), self.checkpoint.clone());
        let (journal, replica) = (self.node.journal.clone(), self.node.replica.clone());
        let most = self.max_resident;
        Box::new(move || {
            if !dice.chance(per_mille) {
                return;
            }
            for _ in 0..dice.below(3) {
                stage.turn();
            }
            if let Some(committer) = committer.try_lock().as_deref_mut().and_then(Option::as_mut) {
                committer.step();
            }
            if let Some(mut checkpoint) = checkpoint.try_lock() {
                // One begins when it is its turn.
                if !matches!(*checkpoint, Checkpoint::None(_)) {
                    go_on(&mut checkpoint, &journal, &replica, &store, most);
                }
            }
            if dice.coin() {
                evict(&replica, dice.below(3) as usize);
            }
        })
    }

    /// Lets the committer write a batch.
    pub fn commit(&self) -> Stepped {
        self.committer.lock().as_mut().map_or(Stepped::Idle, Committer::step)
    }

    /// Ends the term, whatever everybody is in the middle of.
    pub fn end_term(&mut self) {
        self.system.end();
        self.stage.leave_behind();
        self.couriers.clear();
    }

    /// Begins the next term on the same node, once the replica has what the last one left; false if the node has ended.
    pub fn begin_term(&mut self) -> Result<bool, Unseen> {
        let Some(committer) = self.committer.lock().take() else { return Ok(false) };
        let entropy = self.dice.clone();
        let begun = self.node.begin_term(Way::Alone, self.stage.clone(), move || entropy.next());
        let Term { system, batches, timer } = match begun {
            Ok(term) => term,
            Err(Unseen::Ended) => return Ok(false),
            Err(unseen) => return Err(unseen),
        };
        (self.system, self.timer) = (system, timer);
        *self.committer.lock() = Some(Committer::new(batches, committer.into_log()));
        Ok(true)
    }

    /// Lets the projector take in one batch; false if there is none.
    pub fn project(&self) -> bool {
        self.durable.try_recv().is_ok_and(|batch| self.projector.take(&batch))
    }

    /// Lets a checkpoint go a step further, as the housekeeper does; false if there is nothing to write.
    pub fn checkpoint(&self, most: usize) -> bool {
        go_on(&mut self.checkpoint.lock(), &self.node.journal, &self.node.replica, &self.store, most)
    }

    /// Where the checkpoint is that is written, and not known to the replica yet.
    pub fn written(&self) -> Option<Lsn> {
        if let Checkpoint::Written(lsn) = *self.checkpoint.lock() { Some(lsn) } else { None }
    }

    /// Forgets aggregates that nobody uses, as the housekeeper does.
    pub fn evict(&self, most: usize) {
        evict(&self.node.replica, most);
    }

    /// Whether it is over, and why.
    pub fn failure(&self) -> Option<String> {
        self.node.journal.failure()
    }
}

pub(in crate::testing) fn evict(replica: &SharedReplica, most: usize) {
    drop(replica.lock().map(|mut replica| replica.evict(most)));
}

pub(in crate::testing) fn go_on(
    checkpoint: &mut Checkpoint,
    journal: &Journal,
    replica: &SharedReplica,
    store: &StateStore,
    most: usize,
) -> bool {
    let Ok(mut replica) = replica.lock() else { return false };
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
            if !journal.keep(lsn) {
                *checkpoint = Checkpoint::Begun(changes);
                return false;
            }
            let written = store.checkpoint(lsn, changes.altered(store));
            *checkpoint = match written {
                Ok(()) => Checkpoint::Written(lsn),
                Err(state::Error::Later(_)) => Checkpoint::Begun(changes),
                Err(error) => {
                    journal.poison(&format!("the state cannot be written: {error}"));
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
