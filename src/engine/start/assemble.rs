//! The plain parts of an engine, put together. Whoever drives them is elsewhere: threads, or the simulator.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, mpsc};

use super::open::Opened;
use super::projector::Projector;
use crate::Map;
use crate::actors::actor::Host;
use crate::actors::alarms::{AggregateId, Alarm, Alarms};
use crate::actors::shell::Environment;
use crate::actors::system::{SharedReplica, System};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::ConcertId;
use crate::engine::tokens::RoomInfo;
use crate::limits::UserCounts;
use crate::live::Hubs;
use crate::replica::Alarmed;
use crate::store::codec::TheCatalogue;
use crate::store::committer::{Committer, DurableBatch, Journal};
use crate::store::journal::{self, LocalLog, Log};
use crate::store::state::StateStore;

/// The plain parts of an engine, put together; none of them is driven yet.
pub(crate) struct Assembled<H: Host, L> {
    pub(crate) system: Arc<System<H>>,
    pub(crate) committer: Committer<L>,
    pub(crate) projector: Projector,
    /// What the projector is to take.
    pub(crate) durable: mpsc::Receiver<DurableBatch>,
    pub(crate) counts: UserCounts,
    pub(crate) log_status: journal::Status,
    pub(super) rooms: Arc<Map<ConcertId, RoomInfo>>,
    pub(super) hubs: Arc<Hubs>,
    pub(crate) alarmed: Alarmed,
    /// See [`Projector::replay_nanos`].
    pub(super) replay_nanos: Arc<AtomicU64>,
}

/// Puts the plain parts of an engine together; what is to be durable goes to `log`.
pub(crate) fn assemble<H: Host, L: Log>(
    opened: Opened,
    log: impl FnOnce(LocalLog) -> L,
    clock: Arc<dyn Clock>,
    host: H,
    config: &Config,
) -> (Assembled<H, L>, Arc<StateStore>) {
    let Opened { log: local, store, replica, last, alarmed, replayed_in, .. } = opened;
    let (log_status, counts) = (local.status(), replica.counts().clone());
    let hubs = Arc::<Hubs>::default();
    let looked_at = hubs.clone();
    let replica = Arc::new(SharedReplica::new(replica, move || looked_at.end()));
    let (journal, mut committer) = Journal::new(log(local), last);
    let ending = replica.clone();
    journal.on_failure(move |_| ending.end());
    let (batches, durable) = mpsc::channel();
    committer.add_reader(Box::new(move |batch| {
        // The projector ends before the committer only if it panicked, which fails the engine.
        let _ = batches.send(batch.clone());
    }));
    let rooms = Arc::new(Map::default());
    let env = Environment { journal: journal.clone(), clock, alarms: Arc::new(Alarms::default()) };
    let system = Arc::new(System::new(host, env, replica.clone(), config.actors.mailbox as usize));
    let replay_nanos = Arc::new(AtomicU64::new(replayed_in.as_nanos() as u64));
    let (taking, liveness) = (replay_nanos.clone(), system.liveness.clone());
    let projector =
        Projector { replica, journal, rooms: rooms.clone(), liveness, hubs: hubs.clone(), replay_nanos: taking };
    let assembled =
        Assembled { system, committer, projector, durable, counts, log_status, rooms, hubs, alarmed, replay_nanos };
    (assembled, store)
}

/// Lets the actors do what was under way or ran out while the engine was closed, first of all.
pub(crate) fn look_after<H: Host>(system: &Arc<System<H>>, alarmed: &Alarmed, entropy: &mut dyn FnMut() -> u64) {
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
