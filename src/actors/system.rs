//! What all actors of an engine share, and how messages find them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix::ArbiterHandle;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::actor::Delivery;
use super::alarms::Key;
use super::registry::{From, Registry};
use super::shell::{Environment, Shell};
use crate::Map;
use crate::domain::catalogue::Catalogue;
use crate::domain::concert_option::ConcertOption;
use crate::domain::waiting_room::{Liveness, WaitingRoom};
use crate::domain::wallet::Wallet;
use crate::domain::{ConcertId, Lsn, Message, TokenId};
use crate::store::codec::{Entity, TheCatalogue};
use crate::store::replica::{self, Replica};

/// That actors of this kind can be found.
pub(crate) trait Routed: Entity<Id: Into<Key>> {
    fn registry(system: &System) -> &Registry<Self>;
    /// A copy of the aggregate as it is durable.
    fn copy(replica: &mut Replica, id: &Self::Id) -> Result<Self, replica::Error>;
}

/// The replica, shared by its writer and all readers.
pub(crate) struct SharedReplica {
    replica: Mutex<Replica>,
    applied: AtomicU64,
    progress: watch::Sender<Lsn>,
}

impl SharedReplica {
    pub(crate) fn new(replica: Replica) -> Self {
        let applied = replica.applied();
        Self { replica: Mutex::new(replica), applied: AtomicU64::new(applied.0), progress: watch::Sender::new(applied) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Replica> {
        self.replica.lock()
    }

    /// The last event that reads see.
    pub(crate) fn applied(&self) -> Lsn {
        Lsn(self.applied.load(Ordering::Acquire))
    }

    /// The replica has taken in everything up to `applied`.
    pub(crate) fn advance(&self, applied: Lsn) {
        self.applied.store(applied.0, Ordering::Release);
        self.progress.send_replace(applied);
    }

    /// There will be no more: whoever waits is let go.
    pub(crate) fn end(&self) {
        self.progress.send_replace(Lsn(u64::MAX));
    }

    /// Hears of every advance, and of the end as of one to the last possible lsn.
    pub(crate) fn progress(&self) -> watch::Receiver<Lsn> {
        self.progress.subscribe()
    }

    /// Waits until reads see `lsn`; false if they never will.
    pub(crate) async fn reached(&self, lsn: Lsn) -> bool {
        if self.applied() < lsn {
            // It cannot fail: the sender is `self`.
            let _ = self.progress().wait_for(|applied| *applied >= lsn).await;
        }
        self.applied() >= lsn
    }
}

/// What all actors of an engine share.
pub(crate) struct System {
    pub(crate) env: Environment,
    pub(crate) replica: Arc<SharedReplica>,
    pub(crate) arbiters: Vec<ArbiterHandle>,
    pub(crate) blocking: tokio::runtime::Handle,
    pub(crate) catalogue: Registry<Catalogue>,
    pub(crate) options: Registry<ConcertOption>,
    pub(crate) wallets: Registry<Wallet>,
    pub(crate) rooms: Registry<WaitingRoom>,
    /// Signs of life of those who wait.
    pub(crate) liveness: Map<ConcertId, Arc<Liveness>>,
}

macro_rules! routed {
    ($aggregate:ty, $registry:ident) => {
        impl Routed for $aggregate {
            fn registry(system: &System) -> &Registry<Self> {
                &system.$registry
            }

            fn copy(replica: &mut Replica, id: &Self::Id) -> Result<Self, replica::Error> {
                replica.copy(id)
            }
        }
    };
}

routed!(Catalogue, catalogue);
routed!(ConcertOption, options);
routed!(Wallet, wallets);
routed!(WaitingRoom, rooms);

impl System {
    /// Sends a message between aggregates.
    pub(crate) fn tell(self: &Arc<Self>, message: Message) {
        match message {
            Message::Catalogue(command) => self.command::<Catalogue>(&TheCatalogue, command),
            Message::Option(id, command) => self.command::<ConcertOption>(&id, command),
            Message::Wallet(id, command) => self.command::<Wallet>(&id, command),
            Message::Room(id, command) => self.command::<WaitingRoom>(&id, command),
        }
    }

    fn command<A: Routed>(self: &Arc<Self>, id: &A::Id, command: A::Command) {
        self.inside(id, Delivery::<A>::Command(command, None));
    }

    fn inside<A: Routed>(self: &Arc<Self>, id: &A::Id, delivery: Delivery<A>) {
        // From inside there is no limit to meet.
        let _ = A::registry(self).deliver(self, id, delivery, From::Inside);
    }

    /// Lets an aggregate do what is due or owed.
    pub(crate) fn wake(self: &Arc<Self>, key: &Key, entropy: u64) {
        match key {
            Key::Catalogue => self.inside(&TheCatalogue, Delivery::<Catalogue>::Wake(entropy)),
            Key::Option(id) => self.inside(id, Delivery::<ConcertOption>::Wake(entropy)),
            Key::Wallet(id) => self.inside(id, Delivery::<Wallet>::Wake(entropy)),
            Key::Room(id) => self.inside(id, Delivery::<WaitingRoom>::Wake(entropy)),
        }
    }

    /// Tells a waiting room that some of those who wait are silent.
    pub(crate) fn expire_silent(self: &Arc<Self>, concert: ConcertId, tokens: Vec<u64>) {
        self.tell(Message::Room(concert, crate::domain::waiting_room::Command::ExpireSilent { tokens }));
    }

    /// The holder of a token gave a sign of life.
    pub(crate) fn seen(&self, token: TokenId) {
        self.liveness_of(token.concert).seen(token.no);
    }

    /// The signs of life of those who wait for a concert.
    pub(crate) fn liveness_of(&self, concert: ConcertId) -> Arc<Liveness> {
        if let Some(liveness) = self.liveness.get(&concert) {
            return liveness.clone();
        }
        self.liveness.entry(concert).or_default().clone()
    }

    /// Puts a shell around an aggregate as it is durable; nothing if its rows cannot be read, which is the end of the
    /// engine.
    pub(crate) async fn load<A: Routed>(self: Arc<Self>, id: A::Id) -> Option<Shell<A>> {
        let system = self.clone();
        let load = move || {
            let (state, applied) = {
                let mut replica = system.replica.lock();
                let applied = replica.applied();
                (A::copy(&mut replica, &id), applied)
            };
            match state {
                Ok(state) => Some(Shell::new(id, state, applied, system.env.clone())),
                Err(error) => {
                    system.env.journal.poison(&format!("the state cannot be read: {error}"));
                    None
                }
            }
        };
        match self.blocking.spawn_blocking(load).await {
            Ok(shell) => shell,
            Err(_) => {
                self.env.journal.poison("an aggregate could not be loaded");
                None
            }
        }
    }
}
