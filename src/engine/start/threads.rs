//! The threads of an engine, and how they end.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use actix::prelude::*;
use actix_rt::Arbiter;
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::actors::system::SharedReplica;
use crate::error::OpenError;
use crate::store::node::Journal;

/// How long a thread may take to end: the last checkpoint has to reach a disk that may be slow, and the directory is in use
/// until then.
const JOIN: Duration = Duration::from_secs(60);
/// The same after a failure: sled may hang in a write that failed.
const JOIN_FAILED: Duration = Duration::from_secs(4);

/// The threads of a node; that of a term is the [owner](super::terms::Owner)'s.
pub(in crate::engine) struct Threads {
    pub(super) projector: JoinHandle<()>,
    pub(super) housekeeper: JoinHandle<()>,
    pub(super) disk_watch: JoinHandle<()>,
    pub(super) actors: JoinHandle<()>,
    pub(super) system: actix_rt::System,
    pub(super) stop: Arc<Stop>,
    pub(super) replica: Arc<SharedReplica>,
    /// Where reads that may block are done.
    pub(super) _blocking: Blocking,
    /// Dropped last, it tells that all have ended.
    pub(super) _ended: watch::Sender<()>,
}

/// A runtime that may be dropped anywhere.
pub(super) struct Blocking(pub(super) Option<tokio::runtime::Runtime>);

impl Drop for Blocking {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Tells the housekeeper to end.
#[derive(Default)]
pub(super) struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    pub(super) fn stop(&self) {
        *self.stopped.lock() = true;
        self.changed.notify_all();
    }

    /// Waits; true if it is time to end.
    pub(super) fn wait(&self, at_most: Duration) -> bool {
        let mut stopped = self.stopped.lock();
        if !*stopped {
            self.changed.wait_for(&mut stopped, at_most);
        }
        *stopped
    }
}

impl Threads {
    /// Lets reads and the state catch up with the journal, which is closed, and ends all threads.
    pub(in crate::engine) fn end(self, journal: &Journal) {
        let join = |thread, name| join(thread, name, journal).unwrap_or_default();
        // It ends when the journal has let go of its channel.
        join(self.projector, "projector");
        self.replica.end();
        self.stop.stop();
        join(self.housekeeper, "housekeeper");
        join(self.disk_watch, "disk watch");
        self.system.stop();
        join(self.actors, "actors");
        // Handles of the engine may live on; the files may not be held by them.
        let replica = self.replica;
        if let Ok(closer) = spawn("close-state", move || drop(replica.close())) {
            join(closer, "close-state");
        }
    }

    /// Lets them end by themselves.
    pub(in crate::engine) fn let_go(self) {
        self.replica.end();
        self.stop.stop();
        self.system.stop();
    }
}

/// Waits until a thread has ended; what it gives.
pub(super) fn join<T>(thread: JoinHandle<T>, name: &str, journal: &Journal) -> Option<T> {
    let begun = Instant::now();
    while !thread.is_finished() {
        let at_most = if journal.failure().is_some() { JOIN_FAILED } else { JOIN };
        if begun.elapsed() > at_most {
            tracing::warn!(thread = name, "thread does not end; left behind");
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    thread.join().inspect_err(|_| tracing::error!(thread = name, "thread panicked")).ok()
}

pub(super) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, OpenError> {
    let spawned = std::thread::Builder::new().name(format!("boxoffice-{name}")).spawn(work);
    spawned.map_err(|source| OpenError::DataDirectory { dir: format!("(no thread for the {name})"), source })
}

/// Threads for actors, in a system of their own: the host app may have one too.
pub(super) fn start_arbiters(
    count: usize,
) -> Result<(JoinHandle<()>, actix_rt::System, Vec<ArbiterHandle>), OpenError> {
    let (sender, started) = mpsc::channel();
    let thread = spawn("actors", move || {
        let runner = actix_rt::System::new();
        let arbiters: Vec<_> = runner.block_on(async move { (0..count).map(|_| Arbiter::new()).collect() });
        let handles = arbiters.iter().map(Arbiter::handle).collect::<Vec<_>>();
        let _ = sender.send((actix_rt::System::current(), handles));
        if let Err(error) = runner.run() {
            tracing::error!(%error, "the actors' system ended with an error");
        }
        for arbiter in arbiters {
            arbiter.stop();
            if arbiter.join().is_err() {
                tracing::error!("an arbiter panicked");
            }
        }
    })?;
    let failed = |_| OpenError::DataDirectory {
        dir: "(no threads for actors)".into(),
        source: std::io::Error::other("the actors' system did not start"),
    };
    let (system, handles) = started.recv().map_err(failed)?;
    Ok((thread, system, handles))
}
