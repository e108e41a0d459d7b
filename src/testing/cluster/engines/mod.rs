//! The whole engine on three nodes, in a world of accidents, on one thread: what [`simulation`](crate::testing::simulation)
//! has of one machine (domain, actors, timer, replica, checkpoints, recovery) on what [the nodes alone](super) have (the
//! protocol, journals that are copies, a stream that does what JetStream was seen to do). A seed decides about all of it,
//! and gives the same run again.
//!
//! Each node is driven as the thread of a real one does it, but by dice, and so is each step of the stream, of its
//! actors, of its checkpoints and of its callers. Three clocks are apart by up to some seconds.
//!
//! What is looked at: all that stands in the stream, as a naive reader takes it, goes into the model of the simulation, so that
//! the invariants are checked of the log itself, whoever wrote it. After every step: that each node's journal is the log's up to
//! some place (I15), that nothing is durable to it which is not in the log, that what callers were told is there (I3),
//! that whoever answers had read all that was in the log when he was asked, rejections included, and that nobody who
//! was deposed more than a second ago begins a delivery (I14), that nobody is
//! told anything by a term that has ended, and that states and rows agree with events (I1, I2, I4, I6), keys with what they have made,
//! wherever they come (I7). At the end, that all nodes come to rest with the same journal, each call is answered, everything
//! that is owed gets done, and holds run out in time (I5).
//!
//! What is not in it: threads, NATS, sled (see `simulation`), the relay, and when a node wants to own, which dice decide.

mod lives;
mod machine;
mod rest;
mod trial;
mod world;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use self::trial::Trial;
use crate::testing::simulation::Failure;

/// How a node can be built wrong, each of which has to be noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// What rests on something durable is told at once, as on a machine that is alone.
    AnswersAtOnce,
    /// A term is not ended when its owner is deposed.
    TermGoesOn,
    /// Both: who is deposed and knows it answers on.
    AnswersAfterEnd,
    /// What is published counts as durable.
    AdvancesAtOnce,
    /// A checkpoint is written without the node's own journal being durable up to there.
    CheckpointsWithoutKeeping,
    /// A term begins before the replica has taken in everything.
    BeginsBehind,
    /// A follower passes over what is missing.
    SkipsGaps,
    /// How far the stream was read is written down before the journal is synced.
    StateBeforeSync,
    /// An owner delivers to sinks without knowing that it still is one.
    DeliversOn,
}

/// What a run is to be.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// What decides about everything.
    pub seed: u64,
    /// How many steps there are before everything is left to come to rest.
    pub steps: u64,
    /// How the nodes are built wrong, if they are.
    pub flaw: Option<Flaw>,
    /// Whether to write down what happens.
    pub with_history: bool,
}

impl Plan {
    /// Of nodes that are built right.
    #[must_use]
    pub fn new(seed: u64, steps: u64) -> Self {
        Self { seed, steps, flaw: None, with_history: false }
    }
}

/// What there was in a run, or in many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Messages that the stream has.
    pub messages: u64,
    /// Epochs.
    pub epochs: u64,
    /// Events in the log.
    pub events: u64,
    /// Terms that began.
    pub terms: u64,
    /// Owners who learned that they were deposed.
    pub deposed: u64,
    /// Owners who handed over.
    pub handed_over: u64,
    /// Calls of callers.
    pub asked: u64,
    /// Calls that a caller knows the outcome of.
    pub told: u64,
    /// Calls of callers that were told that the outcome is not known.
    pub let_go: u64,
    /// Deliveries to sinks that owners began.
    pub deliveries: u64,
    /// Elections of the stream's leader.
    pub elections: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// Times that a process or the power of a node went.
    pub crashes: u64,
    /// Of them, times that the power went.
    pub power_cuts: u64,
    /// Starts.
    pub starts: u64,
    /// Starts that found frames beyond what was known to be synced.
    pub kept: u64,
    /// Gaps that a reader has noticed.
    pub faults: u64,
    /// Of everything that happened, in order.
    pub trace: u64,
}

impl Report {
    /// Adds another run.
    pub fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.epochs += other.epochs;
        self.events += other.events;
        self.terms += other.terms;
        self.deposed += other.deposed;
        self.handed_over += other.handed_over;
        self.asked += other.asked;
        self.told += other.told;
        self.let_go += other.let_go;
        self.deliveries += other.deliveries;
        self.elections += other.elections;
        self.checkpoints += other.checkpoints;
        self.crashes += other.crashes;
        self.power_cuts += other.power_cuts;
        self.starts += other.starts;
        self.kept += other.kept;
        self.faults += other.faults;
        self.trace = self.trace.rotate_left(1) ^ other.trace;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} messages, {} epochs, {} events, {} terms ({} owners deposed, {} handed over), {} calls ({} outcomes told, {} \
             calls let go), {} deliveries, {} elections, {} checkpoints, {} crashes ({} power cuts), {} starts ({} with frames above the \
             floor), {} gaps noticed",
            self.messages,
            self.epochs,
            self.events,
            self.terms,
            self.deposed,
            self.handed_over,
            self.asked,
            self.told,
            self.let_go,
            self.deliveries,
            self.elections,
            self.checkpoints,
            self.crashes,
            self.power_cuts,
            self.starts,
            self.kept,
            self.faults
        )
    }
}

/// Runs a plan.
///
/// # Errors
/// What does not hold.
pub fn run(plan: &Plan) -> Result<Report, Box<Failure>> {
    let mut trial = Trial::new(plan);
    let (kind, what) = match catch_unwind(AssertUnwindSafe(|| trial.run())) {
        Ok(Ok(())) => return Ok(trial.report()),
        Ok(Err(broken)) => (broken.invariant, broken.what),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            ("panic", text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default())
        }
    };
    Err(Box::new(Failure { kind, what, step: trial.step(), history: trial.history() }))
}
