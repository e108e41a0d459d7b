//! What all actors of an engine share, and how messages find them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use tokio::sync::watch;

use super::actor::{Delivery, Host};
use super::alarms::{AggregateId, Alarm};
use super::arbiters::Arbiters;
use super::registry::{Origin, Registry};
use super::shell::{Environment, Shell};
use crate::Map;
use crate::domain::catalogue::Catalogue;
use crate::domain::concert_option::ConcertOption;
use crate::domain::waiting_room::{self, Liveness, WaitingRoom};
use crate::domain::wallet::Wallet;
use crate::domain::{ConcertId, Lsn, Message, TokenId};
use crate::replica::{self, Cold, Pin, Replica};
use crate::store::codec::{Entity, TheCatalogue};

/// That actors of this kind can be found.
pub(crate) trait Routed: Entity<Id: Into<AggregateId>> {
    fn registry<H: Host>(system: &System<H>) -> &Registry<Self, H>;
    /// The aggregate as it is durable, to be copied; and it stays in the replica.
    fn share(replica: &mut Replica, id: &Self::Id) -> Result<(Arc<Self>, Pin), Cold>;
}

/// The replica, shared by its writer and all readers.
pub(crate) struct SharedReplica {
    /// `None` once the engine has been shut down.
    replica: Mutex<Option<Replica>>,
    applied: AtomicU64,
    progress: watch::Sender<Progress>,
    /// Tells those who look on that it takes in no more.
    tell_end: Box<dyn Fn() + Send + Sync>,
}

/// How far the replica has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The last event that reads see.
    pub(crate) applied: Lsn,
    /// Whether it takes in no more.
    pub(crate) ended: bool,
}

/// The replica will not come that far, or is gone: the engine has failed or was shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended;

/// Why the state cannot be seen.
#[derive(Debug)]
pub(crate) enum Unseen {
    /// See [`Ended`].
    Ended,
    /// Rows that cannot be had, which is the end of the engine.
    Unreadable(replica::Error),
}

impl std::convert::From<Ended> for Unseen {
    fn from(_: Ended) -> Self {
        Self::Ended
    }
}

impl SharedReplica {
    /// Calls `tell_end`, perhaps more than once, when the replica takes in no more.
    pub(crate) fn new(replica: Replica, tell_end: impl Fn() + Send + Sync + 'static) -> Self {
        let applied = replica.applied();
        let progress = watch::Sender::new(Progress { applied, ended: false });
        let (applied, tell_end) = (AtomicU64::new(applied.0), Box::new(tell_end));
        Self { replica: Mutex::new(Some(replica)), applied, progress, tell_end }
    }

    pub(crate) fn lock(&self) -> Result<MappedMutexGuard<'_, Replica>, Ended> {
        MutexGuard::try_map(self.replica.lock(), Option::as_mut).map_err(|_| Ended)
    }

    /// Looks at the state; what is not in memory is brought there, which keeps nobody from the replica. May block.
    pub(crate) fn read<T>(&self, mut look: impl FnMut(&mut Replica) -> Result<T, Cold>) -> Result<T, Unseen> {
        let mut fetched = Vec::new();
        loop {
            let looked = look(&mut *self.lock()?);
            match looked {
                Ok(seen) => return Ok(seen),
                Err(cold) => {
                    self.fetch(&cold)?;
                    // Until all are there.
                    fetched.push(cold);
                }
            }
        }
    }

    /// Brings an aggregate into memory. May block: one after the other, of whom the first one loads it.
    pub(crate) fn fetch(&self, cold: &Cold) -> Result<(), Unseen> {
        let _turn = cold.turn();
        if cold.is_there(&mut *self.lock()?) {
            return Ok(());
        }
        let loaded = cold.load();
        let mut replica = self.lock()?;
        // If it is there by now, it may have changed since, and what was read may be of before and after.
        if !cold.is_there(&mut replica) {
            loaded.map_err(Unseen::Unreadable)?.put(&mut replica);
        }
        Ok(())
    }

    /// Takes the replica away from all readers, and with it the hold on sled's files.
    pub(crate) fn close(&self) -> Option<Replica> {
        self.replica.lock().take()
    }

    /// The last event that reads see.
    pub(crate) fn applied(&self) -> Lsn {
        Lsn(self.applied.load(Ordering::Acquire))
    }

    /// The replica has taken in everything up to `applied`.
    pub(crate) fn advance(&self, applied: Lsn) {
        self.applied.store(applied.0, Ordering::Release);
        self.progress.send_modify(|progress| progress.applied = applied);
    }

    /// The replica takes in no more: who waits for it need not.
    pub(crate) fn end(&self) {
        self.progress.send_modify(|progress| progress.ended = true);
        (self.tell_end)();
    }

    /// Hears of every advance.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Waits until reads see `lsn`.
    pub(crate) async fn reached(&self, lsn: Lsn) -> Result<(), Ended> {
        if self.applied() >= lsn {
            return Ok(());
        }
        let mut progress = self.progress();
        // It cannot fail: the sender is `self`.
        let reached = progress.wait_for(|progress| progress.applied >= lsn || progress.ended).await;
        reached.is_ok_and(|progress| progress.applied >= lsn).then_some(()).ok_or(Ended)
    }
}

/// What all actors of a term share.
pub(crate) struct System<H: Host = Arbiters> {
    pub(crate) env: Environment,
    pub(crate) replica: Arc<SharedReplica>,
    pub(crate) host: H,
    pub(crate) actors: Registries<H>,
    pub(crate) liveness: Arc<Lines>,
}

/// Signs of life of those who wait: of each line in which somebody does.
pub(crate) type Lines = Map<ConcertId, Arc<Liveness>>;

/// The holder of a token gave a sign of life.
pub(crate) fn seen(lines: &Lines, token: TokenId) {
    if let Some(liveness) = lines.get(&token.concert) {
        liveness.seen(token.no);
    }
}

macro_rules! registries {
    ($($name:ident, $all:ident, $aggregate:ty, $id:ty, $kind:literal;)*) => {
        /// The actors of all kinds.
        pub(crate) struct Registries<H: Host> {
            $($all: Registry<$aggregate, H>,)*
        }

        impl<H: Host> Registries<H> {
            fn new(mailbox: usize) -> Self {
                Self { $($all: Registry::new(mailbox),)* }
            }

            /// How many are awake.
            pub(crate) fn len(&self) -> usize {
                0 $(+ self.$all.len())*
            }

            /// They stop, and none is woken any more.
            fn end(&self) {
                $(self.$all.end();)*
            }

            /// Asks idle ones to go to sleep, if there are more than `most` of a kind.
            pub(crate) fn thin_out(&self, most: usize) {
                $(self.$all.thin_out(most);)*
            }
        }

        impl<H: Host> System<H> {
            /// Lets an aggregate do what is due or owed.
            pub(crate) fn wake(self: &Arc<Self>, key: &AggregateId, alarm: Alarm) {
                match key {
                    $(AggregateId::$name(id) => self.inside(id, Delivery::<$aggregate>::Wake(alarm)),)*
                }
            }
        }

        $(impl Routed for $aggregate {
            fn registry<H: Host>(system: &System<H>) -> &Registry<Self, H> {
                &system.actors.$all
            }

            fn share(replica: &mut Replica, id: &Self::Id) -> Result<(Arc<Self>, Pin), Cold> {
                replica.share(id)
            }
        })*
    };
}

crate::aggregates::aggregates!(registries);

impl<H: Host> System<H> {
    /// Without any actor yet, whose mailboxes are to hold `mailbox` deliveries of callers.
    pub(crate) fn new(
        host: H,
        env: Environment,
        replica: Arc<SharedReplica>,
        liveness: Arc<Lines>,
        mailbox: usize,
    ) -> Self {
        Self { env, replica, host, actors: Registries::new(mailbox), liveness }
    }

    /// Ends the term: nothing more becomes durable, who waits is let go, and the actors stop. What they still send finds
    /// nobody.
    pub(crate) fn end(&self) {
        self.env.writer.end();
        self.actors.end();
    }

    /// Sends a message between aggregates.
    pub(crate) fn tell(self: &Arc<Self>, message: Message) {
        self.host.tell(self, message);
    }

    /// Sends a message that nothing befalls any more.
    pub(crate) fn send(self: &Arc<Self>, message: Message) {
        match message {
            Message::Catalogue(command) => self.command::<Catalogue>(&TheCatalogue, command),
            Message::Option(id, command) => self.command::<ConcertOption>(&id, command),
            Message::Wallet(id, command) => self.command::<Wallet>(&id, command),
            Message::Room(id, command) => self.command::<WaitingRoom>(&id, command),
            Message::Providers(option) => self.host.owes_providers(option),
        }
    }

    /// Sends a command to an aggregate, from inside.
    pub(crate) fn command<A: Routed>(self: &Arc<Self>, id: &A::Id, command: A::Command) {
        self.inside(id, Delivery::<A>::Command(command, None));
    }

    fn inside<A: Routed>(self: &Arc<Self>, id: &A::Id, delivery: Delivery<A>) {
        // From inside there is no limit to meet.
        let _ = A::registry(self).deliver(self, id, delivery, Origin::Inside);
    }

    /// Tells a waiting room that some of those who wait are silent, or wait for nothing.
    pub(crate) fn expire_silent(self: &Arc<Self>, concert: ConcertId, tokens: &[u64]) {
        // What comes of one command is one record, and records are bounded.
        for tokens in tokens.chunks(waiting_room::ADMIT_BATCH_MAX) {
            self.tell(Message::Room(concert, waiting_room::Command::ExpireSilent { tokens: tokens.to_vec() }));
        }
    }

    /// Puts a shell around an aggregate as it is durable; nothing if its rows cannot be read, which is the end of the
    /// engine. May block.
    ///
    /// The aggregate stays in the replica as long as the shell is there, so that it need not be loaded again for its events.
    pub(crate) fn load<A: Routed>(&self, id: &A::Id) -> Option<(Shell<A>, Pin)> {
        let shared = self.replica.read(|replica| {
            let (state, pin) = A::share(replica, id)?;
            Ok((state, pin, replica.applied()))
        });
        match shared {
            // All of its events are in the replica, and there are none before its shell is there: it is as it was.
            Ok((state, pin, applied)) => {
                Some((Shell::new(id.clone(), A::clone(&state), applied, self.env.clone()), pin))
            }
            Err(Unseen::Ended) => None,
            Err(Unseen::Unreadable(error)) => {
                self.env.writer.poison(&format!("the state cannot be read: {error}"));
                None
            }
        }
    }
}
