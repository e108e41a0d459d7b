//! The plain parts of a node, put together, and those of a term on it. Whoever drives them is elsewhere: threads, or the
//! simulator.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, mpsc};

use super::open::{Journaled, Opened};
use super::projector::Projector;
use crate::Map;
use crate::actors::actor::Host;
use crate::actors::alarms::{AggregateId, Alarm, Alarms};
use crate::actors::shell::Environment;
use crate::actors::system::{Lines, SharedReplica, System, Unseen};
use crate::actors::timer::Timer;
use crate::clock::TimeSource;
use crate::config::Config;
use crate::domain::ConcertId;
use crate::engine::Offers;
use crate::engine::tokens::RoomInfo;
use crate::limits::UserCounts;
use crate::live::Hubs;
use crate::replica::Alarmed;
use crate::store::codec::TheCatalogue;
use crate::store::committer::{Batches, Way, Writer};
use crate::store::journal;
use crate::store::node::{DurableBatch, Journal};
use crate::store::state::StateStore;

/// What is there before a term, after it, and from one to another; cheap to clone.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) journal: Journal,
    pub(crate) replica: Arc<SharedReplica>,
    pub(crate) counts: UserCounts,
    pub(crate) liveness: Arc<Lines>,
    time: Arc<dyn TimeSource>,
    mailbox: usize,
    max_resident: usize,
}

/// The plain parts of a node; none of them is driven yet, and there is no term.
pub(crate) struct Assembled {
    pub(crate) node: Node,
    pub(crate) log: Journaled,
    pub(crate) store: Arc<StateStore>,
    pub(crate) projector: Projector,
    /// What the projector is to take.
    pub(crate) durable: mpsc::Receiver<DurableBatch>,
    pub(crate) log_status: journal::Status,
    pub(super) rooms: Arc<Map<ConcertId, RoomInfo>>,
    pub(super) offers: Arc<Offers>,
    pub(super) hubs: Arc<Hubs>,
    /// See [`Projector::replay_nanos`].
    pub(super) replay_nanos: Arc<AtomicU64>,
}

/// The plain parts of a term; none of them is driven yet, but what was under way or ran out is about to be done.
pub(crate) struct Term<H: Host> {
    pub(crate) system: Arc<System<H>>,
    pub(crate) batches: Batches,
    pub(crate) timer: Timer<H>,
}

/// Puts the plain parts of a node together.
pub(crate) fn assemble(opened: Opened, time: Arc<dyn TimeSource>, config: &Config) -> Assembled {
    let Opened { log, store, frames, replica, last, last_at, replayed_in, .. } = opened;
    let (log_status, counts) = (log.status(), replica.counts().clone());
    let hubs = Arc::<Hubs>::default();
    let looked_at = hubs.clone();
    let replica = Arc::new(SharedReplica::new(replica, move || looked_at.end()));
    let journal = Journal::new(frames, last, last_at);
    let ending = replica.clone();
    journal.on_failure(move |_| ending.end());
    let (batches, durable) = mpsc::channel();
    journal.add_reader(Box::new(move |batch| {
        // The projector ends before the journal only if it panicked, which fails the engine.
        let _ = batches.send(batch.clone());
    }));
    let (rooms, liveness) = (Arc::new(Map::default()), Arc::<Lines>::default());
    let offers = Arc::<Offers>::default();
    let replay_nanos = Arc::new(AtomicU64::new(replayed_in.as_nanos() as u64));
    let projector = Projector {
        replica: replica.clone(),
        journal: journal.clone(),
        rooms: rooms.clone(),
        offers: offers.clone(),
        liveness: liveness.clone(),
        hubs: hubs.clone(),
        replay_nanos: replay_nanos.clone(),
    };
    let (mailbox, max_resident) = (config.actors.mailbox as usize, config.actors.max_resident as usize);
    let node = Node { journal, replica, counts, liveness, time, mailbox, max_resident };
    Assembled { node, log, store, projector, durable, log_status, rooms, offers, hubs, replay_nanos }
}

impl Node {
    /// Begins a term on the replica as it stands. The term before must be over, nobody drive its batches any more, and the
    /// replica have taken in all that is durable. May block.
    ///
    /// # Errors
    /// The node has ended, or its state cannot be read.
    pub(crate) fn begin_term<H: Host>(
        &self,
        way: Way,
        host: H,
        mut entropy: impl FnMut() -> u64 + Send + 'static,
    ) -> Result<Term<H>, Unseen> {
        let alarmed = self.replica.lock()?.alarmed();
        let alarmed = alarmed.read().map_err(Unseen::Unreadable)?;
        // Whoever waits counts as heard of just now: nobody was asked for a sign of life by this term.
        self.liveness.clear();
        self.counts.begin_term();
        let clock = self.time.start_after(self.journal.at());
        let (writer, batches) = Writer::begin(&self.journal, way);
        let env = Environment { writer, clock, alarms: Arc::new(Alarms::default()) };
        let system = System::new(host, env, self.replica.clone(), self.liveness.clone(), self.mailbox);
        let system = Arc::new(system);
        look_after(&system, &alarmed, &mut entropy);
        let timer = Timer::new(system.clone(), self.max_resident, entropy);
        Ok(Term { system, batches, timer })
    }
}

/// Lets the actors do what was under way or ran out while there was no term, first of all.
fn look_after<H: Host>(system: &Arc<System<H>>, alarmed: &Alarmed, entropy: &mut dyn FnMut() -> u64) {
    for room in &alarmed.rooms {
        system.liveness.entry(*room).or_default();
        system.wake(&AggregateId::Room(*room), Alarm::Due(entropy()));
    }
    for option in &alarmed.options {
        system.wake(&AggregateId::Option(*option), Alarm::Owed);
        system.wake(&AggregateId::Option(*option), Alarm::Due(entropy()));
    }
    system.wake(&AggregateId::Catalogue(TheCatalogue), Alarm::Owed);
}
