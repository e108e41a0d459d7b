//! Actors on the arbiters of actix: all of `actors` that knows actix, and nothing else.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use actix::dev::channel;
use actix::prelude::*;

use super::actor::{Address, Delivery, Driver, Host, Then};
use super::desk::Desk;
use super::inbox::{Call, Inbox};
use super::registry::Full;
use super::system::{Routed, System};
use super::timer::Timer;
use crate::domain::OptionId;
#[cfg(any(test, feature = "testing"))]
pub(crate) use crate::testing::failpoints::Failpoints;

/// The most calls of an actor that are on their way: nobody makes another one before it rests.
const CALLS: usize = 1;

/// Between two steps of the timer.
const TICK: Duration = Duration::from_millis(50);

/// Nothing fails on purpose but in tests: there are none.
#[cfg(not(any(test, feature = "testing")))]
#[derive(Clone)]
pub(crate) enum Failpoints {}

#[cfg(not(any(test, feature = "testing")))]
impl Failpoints {
    fn tell(&self, _: &Arc<System>, _: crate::domain::Message) {
        match *self {}
    }
}

/// Threads that run actors, and those for what may block. Clones are the same threads.
#[derive(Clone)]
pub(crate) struct Arbiters {
    arbiters: Vec<ArbiterHandle>,
    hasher: RandomState,
    /// Where reads that may block are done.
    pub(crate) blocking: tokio::runtime::Handle,
    /// What befalls messages on their way.
    failpoints: Option<Failpoints>,
    /// Who is told what providers owe.
    desk: Arc<Desk>,
}

impl Arbiters {
    pub(crate) fn new(
        arbiters: Vec<ArbiterHandle>,
        blocking: tokio::runtime::Handle,
        failpoints: Option<Failpoints>,
    ) -> Self {
        Self { arbiters, hasher: RandomState::new(), blocking, failpoints, desk: Arc::default() }
    }

    /// Who is told what providers owe.
    pub(crate) fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    /// The threads of the actors.
    #[cfg(feature = "server")]
    pub(crate) fn threads(&self) -> &[ArbiterHandle] {
        &self.arbiters
    }
}

impl Host for Arbiters {
    type Address<A: Routed> = Place<A>;

    fn start<A: Routed>(&self, driver: Driver<A, Self>, mailbox: usize) -> Place<A> {
        let (sender, receiver) = channel::channel(CALLS);
        let inbox = Arc::new(Inbox::new());
        let hosted = Hosted { driver, inbox: inbox.clone(), taken: Vec::new() };
        let arbiter = &self.arbiters[self.hasher.hash_one(hosted.driver.id()) as usize % self.arbiters.len()];
        arbiter.spawn_fn(move || {
            actix_rt::spawn(Context::with_receiver(receiver).into_future(hosted));
        });
        Place { inbox, mailbox, actor: Addr::new(sender) }
    }

    fn in_background(&self, work: impl FnOnce() + Send + 'static) {
        self.blocking.spawn_blocking(work);
    }

    fn owes_providers(&self, option: OptionId) {
        self.desk.owes(option);
    }

    fn tell(&self, system: &Arc<System>, message: crate::domain::Message) {
        match &self.failpoints {
            None => system.send(message),
            Some(failpoints) => failpoints.tell(system, message),
        }
    }
}

/// Where an actor is.
pub(crate) struct Place<A: Routed> {
    inbox: Arc<Inbox<A>>,
    /// How much of what callers send may wait in it.
    mailbox: usize,
    actor: Addr<Hosted<A>>,
}

impl<A: Routed> Clone for Place<A> {
    fn clone(&self) -> Self {
        Self { inbox: self.inbox.clone(), mailbox: self.mailbox, actor: self.actor.clone() }
    }
}

impl<A: Routed> Place<A> {
    /// An actor only stops once its slot says so, at the end of its term, or with its arbiter at the end of the engine: then
    /// whoever waits for the answer is let go by the drop of the delivery.
    fn put(&self, delivery: Delivery<A>, limit: Option<usize>) -> Result<(), Full> {
        if self.inbox.put(delivery, limit)? == Call::Needed {
            self.actor.do_send(Called);
        }
        Ok(())
    }
}

impl<A: Routed> Address<A> for Place<A> {
    fn send(&self, delivery: Delivery<A>) {
        // There is no limit to meet.
        let _ = self.put(delivery, None);
    }

    fn try_send(&self, delivery: Delivery<A>) -> Result<(), Full> {
        self.put(delivery, Some(self.mailbox))
    }

    fn close(&self) {
        self.inbox.close();
    }
}

/// Something is in the inbox.
struct Called;

impl Message for Called {
    type Result = ();
}

/// A driver as an actor.
pub(crate) struct Hosted<A: Routed> {
    driver: Driver<A, Arbiters>,
    inbox: Arc<Inbox<A>>,
    /// What is being handled; kept for its memory.
    taken: Vec<Delivery<A>>,
}

// Nothing in it is ever pinned.
impl<A: Routed> Unpin for Hosted<A> {}

impl<A: Routed> Actor for Hosted<A> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (id, system) = (self.driver.id().clone(), self.driver.system().clone());
        let loading = async move {
            let loader = system.clone();
            let loaded = system.host.blocking.spawn_blocking(move || loader.load::<A>(&id)).await;
            loaded.unwrap_or_else(|_| {
                system.env.writer.poison("an aggregate could not be loaded");
                None
            })
        };
        // Commands wait in the inbox meanwhile.
        ctx.wait(loading.into_actor(self).map(|shell, hosted, _| hosted.driver.loaded(shell)));
    }

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        self.driver.stopped();
    }
}

impl<A: Routed> Handler<Called> for Hosted<A> {
    type Result = ();

    fn handle(&mut self, _: Called, ctx: &mut Self::Context) {
        self.work(ctx);
    }
}

impl<A: Routed> Hosted<A> {
    /// Handles what has come, and rests unless there is more by then. More can come without end, from other threads: others
    /// on this one, connections among them, have their turn first.
    fn work(&mut self, ctx: &mut Context<Self>) {
        let mut taken = std::mem::take(&mut self.taken);
        self.inbox.take(&mut taken);
        let now = self.driver.system().env.clock.now();
        for delivery in taken.drain(..) {
            match self.driver.handle(now, delivery) {
                Then::Stay => {}
                Then::Stop => ctx.stop(),
            }
        }
        self.taken = taken;
        if !self.inbox.rest() {
            ctx.wait(tokio::task::yield_now().into_actor(self).map(|(), hosted, ctx| hosted.work(ctx)));
        }
    }
}

impl<A: Routed> Drop for Hosted<A> {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

/// Drives the timer, on an arbiter of its own: busy actors starve the timers of theirs.
impl Actor for Timer<Arbiters> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(TICK, |timer, ctx| {
            if timer.is_over() {
                ctx.stop();
            } else {
                timer.step();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use tokio::sync::oneshot;

    use super::*;
    use crate::actors::alarms::{AggregateId, Alarm};
    use crate::actors::shell::Environment;
    use crate::actors::system::SharedReplica;
    use crate::clock::Clock;
    use crate::domain::{Lsn, Timestamp};
    use crate::replica::Replica;
    use crate::store::committer::{Way, Writer};
    use crate::store::node::Journal;
    use crate::store::state::StateStore;

    /// Whenever an actor looks at it, there is more for the actor; so many times, once somebody else waits for the thread.
    #[derive(Default)]
    struct Nagging {
        system: OnceLock<Arc<System>>,
        begun: parking_lot::Mutex<Option<oneshot::Sender<()>>>,
        somebody_waits: AtomicBool,
        nagged: AtomicU64,
        done: AtomicBool,
    }

    impl Nagging {
        const MOST: u64 = 10_000;

        fn nag(&self) {
            if let Some(system) = self.system.get() {
                system.wake(&AggregateId::Wallet("anna".parse().unwrap()), Alarm::Owed);
            }
        }
    }

    impl Clock for Nagging {
        fn now(&self) -> Timestamp {
            if let Some(begun) = self.begun.lock().take() {
                let _ = begun.send(());
            }
            if self.somebody_waits.load(Ordering::SeqCst) {
                self.nagged.fetch_add(1, Ordering::SeqCst);
            }
            if !self.done.load(Ordering::SeqCst) && self.nagged.load(Ordering::SeqCst) < Self::MOST {
                self.nag();
            }
            Timestamp::default()
        }

        fn skew_millis(&self) -> i64 {
            0
        }
    }

    #[test]
    fn others_on_the_thread_of_an_actor_that_never_rests_have_their_turn() {
        actix_rt::System::new().block_on(async {
            let blocking = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
            let arbiter = Arbiter::new();
            let (sender, begun) = oneshot::channel();
            let clock = Arc::new(Nagging { begun: parking_lot::Mutex::new(Some(sender)), ..Nagging::default() });
            let (writer, _batches) = Writer::begin(&Journal::of_nothing(Lsn(0)), Way::Alone);
            let env = Environment { writer, clock: clock.clone(), alarms: Arc::default() };
            let store = Arc::new(StateStore::in_memory());
            let replica = Arc::new(SharedReplica::new(Replica::new(store, Lsn(0)).unwrap(), || ()));
            let host = Arbiters::new(vec![arbiter.handle()], blocking.handle().clone(), None);
            assert!(clock.system.set(Arc::new(System::new(host, env, replica, Arc::default(), 16))).is_ok());
            clock.nag();
            begun.await.unwrap();
            let (sender, had) = oneshot::channel();
            let seen = clock.clone();
            arbiter.spawn_fn(move || {
                seen.done.store(true, Ordering::SeqCst);
                let _ = sender.send(seen.nagged.load(Ordering::SeqCst));
            });
            clock.somebody_waits.store(true, Ordering::SeqCst);
            assert!(had.await.unwrap() < Nagging::MOST);
            blocking.shutdown_background();
        });
    }
}
