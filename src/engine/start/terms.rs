//! Terms that threads drive: how one begins and ends, and what those see of it who outlive it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use actix::prelude::*;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::assemble::{Node, Term};
use super::member::Seat;
use super::threads::{join, spawn};
use super::{entropy, unreadable};
use crate::actors::arbiters::Arbiters;
use crate::actors::system::{Ended, System, Unseen};
use crate::actors::timer::Timer;
use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::error::OpenError;
use crate::store::committer::{Batches, Committer, Way};
use crate::store::journal::{LocalLog, Log as _};
use crate::store::lock::DirLock;

/// The term under way, if there is one, as those see it who outlive it.
pub(in crate::engine) struct Terms {
    now: ArcSwap<Now>,
    /// Whether the term under way is about to end: what comes from now on is for the next one, wherever that is.
    leaving: AtomicBool,
    changes: watch::Sender<()>,
}

struct Now {
    /// That of the term; after one, its clock goes on.
    clock: Arc<dyn Clock>,
    system: Option<Arc<System>>,
}

impl Terms {
    /// None yet; it is what `clock` shows.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            now: ArcSwap::from_pointee(Now { clock, system: None }),
            leaving: AtomicBool::new(false),
            changes: watch::Sender::new(()),
        }
    }

    /// What time it is.
    pub(in crate::engine) fn now(&self) -> Timestamp {
        self.now.load().clock.now()
    }

    /// What tells the time at the moment.
    pub(in crate::engine) fn clock(&self) -> Arc<dyn Clock> {
        self.now.load().clock.clone()
    }

    /// Looks at what the actors share; `None` if there is no term.
    pub(in crate::engine) fn look<T>(&self, look: impl FnOnce(&Arc<System>) -> T) -> Option<T> {
        self.now.load().system.as_ref().map(look)
    }

    /// Whether there is a term that takes what comes now.
    pub(in crate::engine) fn takes_calls(&self) -> bool {
        !self.leaving.load(Ordering::Acquire) && self.look(|_| ()).is_some()
    }

    /// Whether this is what the actors share in the term under way.
    pub(in crate::engine) fn is_current(&self, system: &Arc<System>) -> bool {
        self.look(|current| Arc::ptr_eq(current, system)).unwrap_or(false)
    }

    /// Hears of every beginning and end.
    pub(in crate::engine) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    fn set(&self, clock: Arc<dyn Clock>, system: Option<Arc<System>>) {
        self.now.store(Arc::new(Now { clock, system }));
        self.changes.send_replace(());
    }

    fn begin(&self, system: Arc<System>) {
        self.leaving.store(false, Ordering::Release);
        self.set(system.env.clock.clone(), Some(system));
    }

    fn end(&self) -> Option<Arc<System>> {
        let system = self.look(Arc::clone)?;
        self.set(self.clock(), None);
        Some(system)
    }
}

/// Begins and ends terms on the threads of a node.
#[derive(Clone)]
pub(in crate::engine) struct Stage {
    pub(super) terms: Arc<Terms>,
    pub(super) host: Arbiters,
    /// One for the timer, which busy actors must not hold up.
    pub(super) own: ArbiterHandle,
    /// A term that takes no calls any more, and has some under way.
    pub(super) retired: Arc<Mutex<Option<Arc<System>>>>,
}

impl Stage {
    pub(super) fn new(terms: Arc<Terms>, host: Arbiters, own: ArbiterHandle) -> Self {
        Self { terms, host, own, retired: Arc::default() }
    }

    /// Begins a term, in which calls are taken at once; gives what drives it. There must be none. Blocks until the replica has
    /// taken in what is durable.
    ///
    /// # Errors
    /// The node has failed or ended.
    pub(super) fn begin(&self, node: &Node, way: Way) -> Result<Batches, OpenError> {
        let reached = node.replica.reached(node.journal.durable());
        self.host.blocking.block_on(reached).map_err(|Ended| ended(node))?;
        let term = node.begin_term(way, self.host.clone(), entropy).map_err(|unseen| match unseen {
            Unseen::Ended => ended(node),
            Unseen::Unreadable(error) => {
                node.journal.poison(&format!("the state cannot be read: {error}"));
                unreadable(error)
            }
        })?;
        let Term { system, batches, timer } = term;
        Timer::start_in_arbiter(&self.own, move |_| timer);
        self.terms.begin(system);
        Ok(batches)
    }

    /// Ends the term, if there is one: nothing that is not durable becomes so, and who waits is let go.
    pub(super) fn end(&self) {
        let retired = self.retired.lock().take();
        if let Some(system) = self.terms.end().or(retired) {
            system.end();
        }
    }

    /// Lets calls that come from now on go to another node. Those that have been let in go on, and may still be many.
    pub(super) fn leave(&self) {
        self.terms.leaving.store(true, Ordering::Release);
    }

    /// Lets no more calls into the term. Those that are under way go on.
    pub(super) fn retire(&self) {
        if let Some(system) = self.terms.end() {
            *self.retired.lock() = Some(system);
        }
    }

    /// Lets the term decide nothing more, if there is one; what it has decided can still become durable.
    pub(super) fn close(&self) -> bool {
        let retired = self.retired.lock().clone();
        let system = retired.or_else(|| self.terms.look(Arc::clone));
        system.map(|system| system.env.writer.close()).is_some()
    }
}

fn ended(node: &Node) -> OpenError {
    OpenError::DataDirectory {
        dir: "(no term)".into(),
        source: std::io::Error::other(node.journal.failure().unwrap_or_else(|| "the engine is closed".into())),
    }
}

/// A log, and the directory in which it is.
struct Owned {
    log: LocalLog,
    lock: Arc<DirLock>,
}

/// Who has the log.
enum Writing {
    /// No term.
    Nobody(Box<Owned>),
    /// The committer of a term, which gives it back.
    Term(JoinHandle<Option<Box<Owned>>>),
    /// Nobody any more.
    Closed,
}

/// Whose the log is.
pub(in crate::engine) enum Place {
    /// This machine's alone.
    Alone(Owner),
    /// A cluster's.
    Member(Arc<Seat>),
}

impl Place {
    /// Makes durable what there is, and ends the term, for good.
    pub(in crate::engine) fn close(&self, node: &Node) {
        match self {
            Self::Alone(owner) => owner.close(node),
            Self::Member(seat) => seat.close(node),
        }
    }

    /// As [`close`](Self::close), without waiting for it.
    pub(in crate::engine) fn let_go(&self, node: &Node) {
        match self {
            Self::Alone(owner) => owner.let_go(node),
            Self::Member(seat) => seat.let_go(),
        }
    }
}

/// A machine of its own, which owns its log for as long as it is open.
pub(in crate::engine) struct Owner {
    writing: Mutex<Writing>,
    stage: Stage,
}

impl Owner {
    pub(super) fn new(log: LocalLog, lock: Arc<DirLock>, stage: Stage) -> Self {
        Self { writing: Mutex::new(Writing::Nobody(Box::new(Owned { log, lock }))), stage }
    }

    /// Begins a term, if there is none. Blocks until the replica has taken in what the last one has left.
    ///
    /// # Errors
    /// The node has failed or ended.
    pub(in crate::engine) fn begin(&self, node: &Node) -> Result<(), OpenError> {
        let mut writing = self.writing.lock();
        if node.journal.is_closed() {
            return Err(ended(node));
        }
        if matches!(*writing, Writing::Term(_)) {
            return Ok(());
        }
        let Writing::Nobody(owned) = std::mem::replace(&mut *writing, Writing::Closed) else {
            return Err(ended(node));
        };
        let Owned { log, lock } = *owned;
        let committer = Committer::new(self.stage.begin(node, Way::Alone)?, log);
        let failing = node.journal.clone();
        let committer = spawn("committer", move || {
            let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| committer.run()));
            run.map_err(|_| failing.poison("the committer panicked")).ok().map(|log| Box::new(Owned { log, lock }))
        });
        *writing = Writing::Term(committer.inspect_err(|error| {
            // The log is gone with it.
            node.journal.poison(&error.to_string());
            self.stage.end();
        })?);
        Ok(())
    }

    /// Ends the term, if there is one: nothing that is not durable becomes so, and who waits is let go. Blocks until the log is
    /// free for the next one.
    #[cfg(any(test, feature = "testing"))]
    pub(in crate::engine) fn end(&self, node: &Node) {
        let mut writing = self.writing.lock();
        self.stage.end();
        *writing = match std::mem::replace(&mut *writing, Writing::Closed) {
            Writing::Term(committer) => {
                let owned = join(committer, "committer", &node.journal).flatten();
                owned.map_or(Writing::Closed, Writing::Nobody)
            }
            other => other,
        };
    }

    /// Makes durable what there is, seals the log, and ends the term, for good.
    pub(in crate::engine) fn close(&self, node: &Node) {
        let mut writing = self.writing.lock();
        self.stage.close();
        match std::mem::replace(&mut *writing, Writing::Closed) {
            Writing::Term(committer) => drop(join(committer, "committer", &node.journal)),
            // A seal says that all went well.
            Writing::Nobody(_) if node.journal.is_closed() => {}
            Writing::Nobody(mut owned) => match owned.log.seal() {
                Ok(()) => node.journal.close(),
                Err(error) => node.journal.poison(&format!("the journal cannot be sealed: {error}")),
            },
            Writing::Closed => {}
        }
        self.stage.end();
    }

    /// As [`close`](Self::close), without waiting for it.
    pub(in crate::engine) fn let_go(&self, node: &Node) {
        if !self.stage.close() {
            node.journal.close();
        }
    }
}
