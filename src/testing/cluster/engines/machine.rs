//! One machine: its disk, its rows, its clock, and the plain parts of the node that lives on it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use parking_lot::Mutex;

use super::Flaw;
use crate::actors::alarms::AggregateId;
use crate::actors::system::{System, Unseen};
use crate::actors::timer::Timer;
use crate::clock::TimeSource as _;
use crate::cluster::{FORMAT, Fence, Known, NodeName, Publish, Sequence};
use crate::domain::Lsn;
use crate::engine::start::{self, Assembled, Follower, Ground, Journaled, Node, Projector, Stuck, Term};
use crate::store::committer::Way;
use crate::store::disk::Disk;
use crate::store::journal::{Preallocate, Tip};
use crate::store::node::DurableBatch;
use crate::store::standing::Standing;
use crate::store::state::StateStore;
use crate::testing::clock::ManualClock;
use crate::testing::random::Dice;
use crate::testing::sim_disk::SimDisk;
use crate::testing::simulation::clients::Call;
use crate::testing::simulation::machine::{Checkpoint, evict, go_on};
use crate::testing::simulation::model::Twin;
use crate::testing::simulation::rows::SimRows;
use crate::testing::simulation::stage::Stage;
use crate::testing::simulation::swarm::Swarm;

pub(super) const DIR: &str = "/data";
pub(super) const CREATED: u64 = 4_711;
/// How long a candidate has to read up to its fence; see [`Trial::now`](super::trial::Trial).
const PATIENCE: Duration = Duration::from_secs(150);

/// A machine.
pub(super) struct Machine {
    pub name: &'static str,
    pub disk: SimDisk,
    pub rows: SimRows,
    pub clock: ManualClock,
    pub process: Option<Process>,
    /// How many lives there were.
    pub lives: u64,
    /// The server that it reads from.
    pub server: usize,
    /// It stands still.
    pub paused: bool,
    /// Nothing comes through to the stream, nor back.
    pub cut: bool,
    /// How far its own disk is known to have the journal.
    pub synced: Tip,
    /// How many disk calls had failed when it was started.
    pub failed_before: u64,
    /// Its rows, as they should be.
    pub twin: Twin,
    /// Whether the rows may be damaged.
    pub is_damaged: bool,
}

/// How far an owner has come that lets another one own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    Retiring,
    Draining,
    /// This one is to own next.
    HandedOver(usize),
}

/// What drives a term.
pub(super) struct Acting {
    pub system: Arc<System<Stage>>,
    pub timer: Timer<Stage>,
    /// Whether it takes calls.
    pub is_open: bool,
}

/// One life of a node.
pub(super) struct Process {
    pub life: u64,
    pub node: Node,
    pub follower: Arc<Mutex<Follower>>,
    pub stage: Stage,
    /// The term under way.
    pub acting: Option<Acting>,
    projector: Projector,
    durable: mpsc::Receiver<DurableBatch>,
    pub store: Arc<StateStore>,
    pub checkpoint: Checkpoint,
    standing: Standing,
    /// What went wrong while a checkpoint made the journal durable.
    not_kept: Arc<Mutex<Option<Stuck>>>,
    /// Whether the term has something to be done.
    pub filled: Arc<AtomicBool>,
    /// What is to be published once more.
    pub later: Option<(u64, Publish)>,
    /// Publishes that wait for their answers.
    pub sent: BTreeSet<u64>,
    /// The message that it wants of the leader.
    pub fetches: Option<Sequence>,
    /// Whether it wants to know where the stream ends.
    pub looks: bool,
    pub leaving: Leaving,
    /// Whether it is to end.
    pub closing: bool,
    /// Calls of the term under way.
    pub calls: Vec<Call>,
    /// Calls of terms that have ended.
    pub orphans: Vec<Call>,
    /// Whose state has changed since it was last compared.
    pub changed: BTreeSet<AggregateId>,
    /// How the copy ended when it was opened, and how much of that was followed.
    pub opened: (Tip, Tip),
    pub rebuilt_because: Option<String>,
}

impl Machine {
    pub fn new(index: usize, disk: SimDisk, clock: ManualClock) -> Self {
        Self {
            name: ["ada", "ben", "eva"][index],
            rows: SimRows::new(disk.clone()),
            disk,
            clock,
            process: None,
            lives: 0,
            server: index,
            paused: false,
            cut: false,
            synced: Tip::default(),
            failed_before: 0,
            twin: Twin::default(),
            is_damaged: false,
        }
    }

    /// Whether it does something when it is its turn.
    pub fn is_up(&self) -> bool {
        self.process.is_some() && !self.paused
    }

    /// Starts the node on what there is, with a stream that ends at `last`.
    pub fn boot(&mut self, swarm: &Swarm, dice: &Dice, last: Sequence, flaw: Option<Flaw>) -> Result<(), String> {
        let (disk, dir): (Arc<dyn Disk>, _) = (Arc::new(self.disk.clone()), Path::new(DIR));
        start::make_dir(&*disk, dir).map_err(|error| error.to_string())?;
        let (config, preallocate, replay_events) = (&swarm.config, Preallocate::Inline, swarm.replay_events);
        let backing = &self.rows;
        let ground = Ground { config, disk: &disk, backing, preallocate, replay_events, in_cluster: true };
        let opened = start::open(&ground, self.clock.wall()).map_err(|error| error.to_string())?;
        let checkpoint = Checkpoint::None(opened.checkpointed);
        let rebuilt_because = opened.rebuilt_because.clone();
        let assembled = start::assemble(opened, Arc::new(self.clock.clone()), config);
        let Assembled { node, log, store, projector, durable, .. } = assembled;
        let Journaled::Copy(copy, state) = log else { return Err("it is alone".into()) };
        let opened = (copy.end(), copy.tip());
        self.lives += 1;
        let name = NodeName::new(self.name).expect("it is a name");
        let me = Fence { node: name, life: self.lives, format: FORMAT };
        let (journal, standing) = (node.journal.clone(), Standing::in_dir(disk, dir));
        let state = state.map(|state| *state);
        let state = state.map(|state| (state, Known::default()));
        let follower = Follower::new(me, *copy, state, (CREATED, last), journal, standing.clone(), PATIENCE);
        let follower = Arc::new(Mutex::new(follower.map_err(|stuck| stuck.to_string())?));
        let not_kept = Arc::<Mutex<Option<Stuck>>>::default();
        if flaw != Some(Flaw::CheckpointsWithoutKeeping) {
            let (weak, failed, file) = (Arc::downgrade(&follower), not_kept.clone(), standing.clone());
            node.journal.kept_by(move |lsn| {
                let Some(follower) = weak.upgrade() else { return false };
                let mut follower = follower.lock();
                if Lsn(follower.synced().tip.next_lsn.0 - 1) >= lsn {
                    return true;
                }
                let outcome = sync(&mut follower, &file, flaw);
                outcome.map_err(|stuck| *failed.lock() = Some(stuck)).is_ok()
            });
        }
        self.process = Some(Process {
            life: self.lives,
            node,
            follower,
            stage: Stage::new(dice.clone(), swarm.post),
            acting: None,
            projector,
            durable,
            store,
            checkpoint,
            standing,
            not_kept,
            filled: Arc::default(),
            later: None,
            sent: BTreeSet::new(),
            fetches: None,
            looks: false,
            leaving: Leaving::No,
            closing: false,
            calls: Vec::new(),
            orphans: Vec::new(),
            changed: BTreeSet::new(),
            opened,
            rebuilt_because,
        });
        // Actors have turns while something else waits for the disk or for rows, as on threads of their own.
        let (stage, dice, often) =
            (self.process.as_ref().map(|process| process.stage.clone()), dice.clone(), swarm.interleaved);
        if let (Some(stage), true) = (stage, often > 0) {
            self.disk.between(Some(Box::new(move || {
                if dice.chance(often) {
                    (0..dice.below(3)).for_each(|_| _ = stage.turn());
                }
            })));
        }
        Ok(())
    }
}

/// Makes a node's own journal durable, and writes down how far it has read.
fn sync(follower: &mut Follower, standing: &Standing, flaw: Option<Flaw>) -> Result<(), Stuck> {
    if flaw != Some(Flaw::StateBeforeSync) {
        return follower.sync();
    }
    let failed = |source| Stuck::Standing { file: standing.path().display().to_string(), source };
    standing.write(&follower.state().encode()).map_err(failed)
}

impl Process {
    /// Begins a term, as the thread of a node does.
    pub fn begin(&mut self, dice: &Dice, passed: &Arc<AtomicU64>, flaw: Option<Flaw>) -> Result<(), Unseen> {
        if flaw != Some(Flaw::BeginsBehind) {
            while self.project() {}
        }
        self.filled.store(false, Ordering::Relaxed);
        let filled = self.filled.clone();
        let way = match flaw {
            Some(Flaw::AnswersAtOnce | Flaw::AnswersAfterEnd) => Way::Alone,
            _ => {
                let passed = passed.clone();
                Way::Shared {
                    wake: Box::new(move || filled.store(true, Ordering::Relaxed)),
                    elapsed: Box::new(move || Duration::from_millis(passed.load(Ordering::Relaxed))),
                }
            }
        };
        let entropy = dice.clone();
        let term = self.node.begin_term(way, self.stage.clone(), move || entropy.next())?;
        let Term { system, batches, timer } = term;
        self.acting = Some(Acting { system, timer, is_open: true });
        self.follower.lock().begun(batches);
        Ok(())
    }

    /// Ends the term, whatever everybody is in the middle of.
    pub fn end(&mut self) {
        if let Some(acting) = self.acting.take() {
            acting.system.end();
            self.stage.leave_behind();
            self.orphans.append(&mut self.calls);
        }
    }

    /// Lets the projector take in one batch; false if there is none.
    pub fn project(&self) -> bool {
        self.durable.try_recv().is_ok_and(|batch| self.projector.take(&batch))
    }

    /// Lets a checkpoint go a step further, as the housekeeper does; false if there is nothing to write.
    ///
    /// # Errors
    /// The node's own journal cannot be made durable.
    pub fn go_on_checkpointing(&mut self, most: usize) -> Result<bool, Stuck> {
        let worked = go_on(&mut self.checkpoint, &self.node.journal, &self.node.replica, &self.store, most);
        self.not_kept.lock().take().map_or(Ok(worked), Err)
    }

    /// See [`Follower::sync`].
    pub fn sync(&mut self, flaw: Option<Flaw>) -> Result<(), Stuck> {
        sync(&mut self.follower.lock(), &self.standing, flaw)
    }

    /// Forgets aggregates that nobody uses.
    pub fn evict(&self, most: usize) {
        evict(&self.node.replica, most);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // They hold the system, which holds them.
        self.stage.clear();
    }
}
