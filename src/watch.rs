//! What a caller can hear of the steps of a call: when it is decided, which events come of it, and when it is durable.
//!
//! Who is not watched costs a look at a thread-local, and nothing else: no clock is looked at and nothing allocated. What
//! watching is good for, traces for one, this does not know.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use crate::domain::Lsn;

tokio::task_local! {
    static WATCH: Arc<dyn Watch>;
}

/// Hears of the commands of calls that are [`watched`]: one for most calls, several for some.
///
/// It is called on the threads that decide and commit, and must not keep them.
pub trait Watch: Send + Sync + 'static {
    /// The events `first` to `last` have come of it. They are durable when the command has [ended](Self::ended) so, or lost, and
    /// then others may have these numbers.
    fn appended(&self, first: Lsn, last: Lsn);

    /// A command has been answered, or never will be.
    fn ended(&self, step: Step);
}

/// A command that has come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// When its aggregate began with it.
    pub begun: Instant,
    /// When it was decided, and what came of it about to be appended.
    pub decided: Instant,
    /// When all that its answer rests on was durable, or lost.
    pub ended: Instant,
    /// Whether anything came of it.
    pub appends: bool,
    /// Whether that is durable.
    pub durable: bool,
}

/// Has `watch` hear of all calls of an engine that are made within `future`. What is spawned there is not.
///
/// A call that another node decides is not heard of.
pub async fn watched<F: Future>(watch: Arc<dyn Watch>, future: F) -> F::Output {
    WATCH.scope(watch, future).await
}

/// A command that is watched, and under way.
pub(crate) struct Watched {
    watch: Arc<dyn Watch>,
    begun: Option<Instant>,
    decided: Option<Instant>,
    appends: bool,
}

impl Watched {
    /// By whoever watches the task that runs.
    pub(crate) fn current() -> Option<Box<Self>> {
        let watch = WATCH.try_with(Arc::clone).ok()?;
        Some(Box::new(Self { watch, begun: None, decided: None, appends: false }))
    }

    /// Its aggregate begins with it.
    pub(crate) fn begin(&mut self) -> Arc<dyn Watch> {
        self.begun = Some(Instant::now());
        self.watch.clone()
    }

    /// It is decided; its answer may come with another one.
    pub(crate) fn decided(&mut self, appends: bool) {
        self.decided.get_or_insert_with(Instant::now);
        self.appends |= appends;
    }

    /// The events of the command that it is answered with are appended.
    pub(crate) fn appended(&mut self, first: Lsn, last: Lsn) {
        if first <= last {
            self.appends = true;
            self.watch.appended(first, last);
        }
    }

    /// It has an answer, or none. Of one that nobody began with there is nothing to be told.
    pub(crate) fn end(self, durable: bool) {
        let (Some(begun), Some(decided)) = (self.begun, self.decided) else { return };
        self.watch.ended(Step { begun, decided, ended: Instant::now(), appends: self.appends, durable });
    }
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}
