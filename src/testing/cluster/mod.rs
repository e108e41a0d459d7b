//! Three nodes on one stream, in a world of accidents, on one thread: the real [`crate::cluster`] and the real journal, on
//! disks that forget what was not synced, and a stream that does what JetStream was seen to do. A seed decides about all of
//! it, and gives the same run again.
//!
//! What befalls them: publishes that come late, twice or never, that get in though nobody was told, that are refused because
//! of an earlier copy which appears later or is lost with its leader; elections, during which nothing is acknowledged; a
//! leader that does not know that it is none any more; replicas that are behind, or lack a message; nodes that are cut off,
//! stand still, are killed or lose power, with any part of what was not synced; strangers who write to the stream; and any
//! number of nodes that want to own at the same time.
//!
//! What is looked at: by a second, naive reading of the stream, at each step, that one owner appends at any place (I14),
//! that all nodes take in the same frames, byte for byte (I15), that what was acknowledged is there, that nothing is there
//! twice and lsns have no gaps, and that whoever answers knows all that had been acknowledged to anybody when he was asked.
//! At the end, that all of them come to rest with the same journal, in which one more frame can be written.

pub mod engines;
mod memory;
mod node;
mod stream;
mod trial;
mod truth;

use std::fmt;

pub use super::simulation::Failure;
pub use memory::{Cable, MemoryStream};
use trial::Trial;

/// How a node can be built wrong, each of which has to be noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// An owner has two frames under way.
    TwoInFlight,
    /// A fence counts whatever epoch it names, so also one that is late or comes again.
    FencesNameNoEpoch,
    /// Who has published a fence appends without having read what stands before it.
    NotReadUpTo,
    /// An owner answers questions without anything that was acknowledged since they came.
    AnswersAtOnce,
    /// An owner lets an acknowledgement answer also what was asked after it was published.
    AnswersByWhatIsUnderWay,
    /// Frames are taken in whatever their epoch is.
    OldEpochsCount,
    /// An owner writes a frame to its own journal when it publishes it.
    WritesBeforeTheLog,
    /// A follower passes over what is missing.
    SkipsGaps,
    /// After a refusal it is asked of any replica what stands there, and no answer means nothing will.
    DecidesByStaleReads,
    /// How far the stream was read is written down before the journal is synced.
    StateBeforeSync,
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
    /// Of them, void ones.
    pub void: u64,
    /// Epochs.
    pub epochs: u64,
    /// Owners who learned that they were deposed.
    pub deposed: u64,
    /// Frames that were acknowledged to their owners.
    pub durable: u64,
    /// Publishes that were refused.
    pub refused: u64,
    /// Publishes that were made again.
    pub again: u64,
    /// Questions that were answered.
    pub answered: u64,
    /// Elections of the stream's leader.
    pub elections: u64,
    /// Times that a process was killed or lost power.
    pub crashes: u64,
    /// Of these, times that power went.
    pub power_cuts: u64,
    /// Starts that found frames beyond what was known to be synced.
    pub kept: u64,
    /// Gaps and other damage that a reader has noticed.
    pub faults: u64,
    /// Of everything that happened, in order.
    pub trace: u64,
}

impl Report {
    /// Adds another run.
    pub fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.void += other.void;
        self.epochs += other.epochs;
        self.deposed += other.deposed;
        self.durable += other.durable;
        self.refused += other.refused;
        self.again += other.again;
        self.answered += other.answered;
        self.elections += other.elections;
        self.crashes += other.crashes;
        self.power_cuts += other.power_cuts;
        self.kept += other.kept;
        self.faults += other.faults;
        self.trace = self.trace.rotate_left(1) ^ other.trace;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} messages ({} void), {} epochs ({} owners deposed), {} frames durable, {} publishes refused and {} made again, \
             {} questions answered, {} elections, {} crashes ({} power cuts), {} starts with frames above the floor, \
             {} gaps noticed",
            self.messages,
            self.void,
            self.epochs,
            self.deposed,
            self.durable,
            self.refused,
            self.again,
            self.answered,
            self.elections,
            self.crashes,
            self.power_cuts,
            self.kept,
            self.faults
        )
    }
}

/// Something that does not hold, while it is on its way up.
#[derive(Debug)]
struct Broken(&'static str, String);

/// Runs a plan.
///
/// # Errors
/// What does not hold.
pub fn run(plan: &Plan) -> Result<Report, Box<Failure>> {
    let mut trial = Trial::new(plan);
    match trial.run() {
        Ok(()) => Ok(trial.report()),
        Err(Broken(kind, what)) => Err(Box::new(Failure { kind, what, step: trial.step(), history: trial.history() })),
    }
}
