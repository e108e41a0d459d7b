//! The engine in a world of accidents, on one thread: its real parts, with callers, receivers, a clock and a disk that a
//! seed decides about.
//!
//! What is real: the domain, shells, drivers and the registry, the timer, journal, committer and recovery, replica,
//! checkpoints and the manifest, relay and saga. What is not: threads, the network, sled (see `rows`) and actix. Each
//! step lets one of them do one thing; a crash may come in the middle of it. The same [`Plan`] gives the same run, bit for
//! bit.
//!
//! What is looked at: after every step, that what became durable keeps the invariants, that what callers were told is
//! durable, and that states agree with events; after every crash, that all of it is still there, that nothing else came
//! but the one frame that was being written, and that rows are those of the whole journal; at the end, that everything
//! that is owed gets done, money is conserved, holds run out in time and every event reaches its receivers in order.
//!
//! In half of all runs buyers also pay by a provider, which has a state of its own (see `bank`): that the money adds up is
//! looked at after every event (I13), and at the end that the engine knows all that is true, and owes nothing.

mod asks;
pub(in crate::testing) mod bank;
pub(in crate::testing) mod clerk;
pub(in crate::testing) mod clients;
pub(in crate::testing) mod house;
pub(in crate::testing) mod machine;
pub(in crate::testing) mod model;
pub(in crate::testing) mod relay;
pub(in crate::testing) mod rows;
mod shrink;
pub(in crate::testing) mod stage;
pub(in crate::testing) mod swarm;
pub(in crate::testing) mod trial;
pub(in crate::testing) mod watched;

use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

pub use self::asks::Asks;
pub use self::bank::Tally;
pub use self::shrink::shrink;
use self::trial::Trial;
use super::sim_disk::SimDisk;
use crate::store::disk::Disk;

/// How the part of a host that drives a provider can be built wrong, each of which has to be noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// What is owed is not read again before it is asked for.
    ReadsOnce,
    /// What is owed for long is not looked up before it is asked for again.
    NeverLooks,
    /// The provider's key does not tell what is owed from what else is owed of the payment.
    OneKeyForAll,
    /// It does not tell one attempt from the next.
    OneKeyForAllAttempts,
    /// A refund of which nothing was heard counts as done.
    TakesSilenceForYes,
    /// What was refused once is not tried again.
    GivesUp,
    /// Charges that nobody knows of are not looked for.
    PassesOverChecks,
    /// What was owed before a crash is forgotten in it.
    ForgetsInCrashes,
    /// The provider is told that a fact has come before it is durable.
    ThanksAtOnce,
}

/// What a run is to be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What decides about everything.
    pub seed: u64,
    /// How many steps there are before everything is left to come to rest.
    pub steps: u64,
    /// Steps that are left out.
    pub skipped: BTreeSet<u64>,
    /// The power is to go at this call of the disk, and nothing else is to go wrong; the run ends once the engine has
    /// come back. `None` for all kinds of accidents.
    pub cut_at: Option<u64>,
    /// Whether to write down what happens.
    pub with_history: bool,
    /// What the engine is given in place of the disk.
    pub disk: fn(SimDisk) -> Arc<dyn Disk>,
    /// How the provider's clerk is built wrong, if he is; then there is a provider, whatever the seed.
    pub flaw: Option<Flaw>,
}

impl Plan {
    /// All steps, on the disk itself.
    #[must_use]
    pub fn new(seed: u64, steps: u64) -> Self {
        Self {
            seed,
            steps,
            skipped: BTreeSet::new(),
            cut_at: None,
            with_history: false,
            disk: |disk| Arc::new(disk),
            flaw: None,
        }
    }
}

/// What there was in a run, or in many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Steps.
    pub steps: u64,
    /// Times that the process or the power went.
    pub crashes: u64,
    /// Of them, times that the power went.
    pub power_cuts: u64,
    /// Of the crashes, those in the middle of a start.
    pub second_crashes: u64,
    /// Starts.
    pub starts: u64,
    /// Terms that ended, with another one after them on the same node.
    pub terms: u64,
    /// Calls of callers that were told that the outcome is not known.
    pub let_go: u64,
    /// Calls of callers.
    pub asked: u64,
    /// Of these, so many for each kind of thing.
    pub asks: Asks,
    /// Calls that a caller knows the outcome of.
    pub told: u64,
    /// Durable events.
    pub events: u64,
    /// Events that reached receivers.
    pub delivered: u64,
    /// Damaged journals, every one of which was noticed.
    pub damaged: u64,
    /// What there was of money from outside.
    pub money: Tally,
    /// Of everything that happened, in order.
    pub trace: u64,
}

impl Report {
    /// Adds another run.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.crashes += other.crashes;
        self.power_cuts += other.power_cuts;
        self.second_crashes += other.second_crashes;
        self.starts += other.starts;
        self.terms += other.terms;
        self.let_go += other.let_go;
        self.asked += other.asked;
        self.asks.add(&other.asks);
        self.told += other.told;
        self.events += other.events;
        self.delivered += other.delivered;
        self.damaged += other.damaged;
        self.money.add(&other.money);
        self.trace = self.trace.rotate_left(1) ^ other.trace;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} steps, {} crashes ({} power cuts, {} during a start), {} starts, {} terms ended ({} calls \
             let go), {} calls ({} outcomes told), {} events, \
             {} deliveries, {} damaged journals noticed; {}; asked for: {}",
            self.steps,
            self.crashes,
            self.power_cuts,
            self.second_crashes,
            self.starts,
            self.terms,
            self.let_go,
            self.asked,
            self.told,
            self.events,
            self.delivered,
            self.damaged,
            self.money,
            self.asks
        )
    }
}

/// What does not hold.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Which invariant, or what kind of fault.
    pub kind: &'static str,
    /// What was found.
    pub what: String,
    /// In which step; as many as there are if it was at the end.
    pub step: u64,
    /// What happened before, if it was to be written down.
    pub history: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.history {
            writeln!(f, "  {line}")?;
        }
        write!(f, "step {}: {}: {}", self.step, self.kind, self.what)
    }
}

/// Runs a plan; what there was, and what happened if that was to be written down.
///
/// # Errors
/// What does not hold.
pub fn run(plan: &Plan) -> Result<(Report, Vec<String>), Box<Failure>> {
    let mut trial = Trial::new(plan);
    let outcome = catch_unwind(AssertUnwindSafe(|| trial.run()));
    let broken = match outcome {
        Ok(Ok(())) => return Ok((trial.report(), trial.history())),
        Ok(Err(broken)) => (broken.invariant, broken.what),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            ("panic", text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default())
        }
    };
    Err(Box::new(Failure { kind: broken.0, what: broken.1, step: trial.step(), history: trial.history() }))
}
