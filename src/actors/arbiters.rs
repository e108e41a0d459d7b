//! Actors on the arbiters of actix: everything of the engine that knows actix, and nothing else is in here.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use actix::dev::channel;
use actix::prelude::*;

use super::actor::{Address, Delivery, Driver, Host, Then};
use super::registry::Full;
use super::supervisor::Supervisor;
use super::system::{Routed, System};
#[cfg(any(test, feature = "testing"))]
pub(crate) use crate::testing::failpoints::Failpoints;

/// Between two steps of the supervisor.
const TICK: Duration = Duration::from_millis(50);

/// Nothing fails on purpose but in tests: there are none.
#[cfg(not(any(test, feature = "testing")))]
pub(crate) enum Failpoints {}

#[cfg(not(any(test, feature = "testing")))]
impl Failpoints {
    fn tell(&self, _: &Arc<System>, _: crate::domain::Message) {
        match *self {}
    }
}

/// Threads that run actors, and those for what may block.
pub(crate) struct Arbiters {
    arbiters: Vec<ArbiterHandle>,
    hasher: RandomState,
    /// Where reads that may block are done.
    pub(crate) blocking: tokio::runtime::Handle,
    /// What befalls messages on their way.
    failpoints: Option<Failpoints>,
}

impl Arbiters {
    pub(crate) fn new(
        arbiters: Vec<ArbiterHandle>,
        blocking: tokio::runtime::Handle,
        failpoints: Option<Failpoints>,
    ) -> Self {
        Self { arbiters, hasher: RandomState::new(), blocking, failpoints }
    }
}

impl Host for Arbiters {
    type Address<A: Routed> = Addr<Hosted<A>>;

    fn start<A: Routed>(&self, driver: Driver<A, Self>, mailbox: usize) -> Addr<Hosted<A>> {
        let (sender, receiver) = channel::channel(mailbox);
        let arbiter = &self.arbiters[self.hasher.hash_one(driver.id()) as usize % self.arbiters.len()];
        arbiter.spawn_fn(move || {
            actix_rt::spawn(Context::with_receiver(receiver).into_future(Hosted(driver)));
        });
        Addr::new(sender)
    }

    fn tell(&self, system: &Arc<System>, message: crate::domain::Message) {
        match &self.failpoints {
            None => system.send(message),
            Some(failpoints) => failpoints.tell(system, message),
        }
    }
}

impl<A: Routed> Address<A> for Addr<Hosted<A>> {
    fn send(&self, delivery: Delivery<A>) {
        self.do_send(delivery);
    }

    fn try_send(&self, delivery: Delivery<A>) -> Result<(), Full> {
        // An actor only stops once its slot says so, or with its arbiter at the end of the engine: then whoever waits
        // for the answer is let go by the drop of the message.
        match Addr::try_send(self, delivery) {
            Ok(()) | Err(SendError::Closed(_)) => Ok(()),
            Err(SendError::Full(_)) => Err(Full),
        }
    }
}

impl<A: Routed> Message for Delivery<A> {
    type Result = ();
}

/// A driver as an actor.
pub(crate) struct Hosted<A: Routed>(Driver<A, Arbiters>);

// Nothing in it is ever pinned.
impl<A: Routed> Unpin for Hosted<A> {}

impl<A: Routed> Actor for Hosted<A> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (id, system) = (self.0.id().clone(), self.0.system().clone());
        let loading = async move {
            let loader = system.clone();
            let loaded = system.host.blocking.spawn_blocking(move || loader.load::<A>(&id)).await;
            loaded.unwrap_or_else(|_| {
                system.env.journal.poison("an aggregate could not be loaded");
                None
            })
        };
        // Commands wait in the mailbox meanwhile.
        ctx.wait(loading.into_actor(self).map(|shell, hosted, _| hosted.0.loaded(shell)));
    }

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        self.0.stopped();
    }
}

impl<A: Routed> Handler<Delivery<A>> for Hosted<A> {
    type Result = ();

    fn handle(&mut self, delivery: Delivery<A>, ctx: &mut Self::Context) {
        match self.0.handle(delivery) {
            Then::Stay => {}
            Then::Stop => ctx.stop(),
        }
    }
}

/// Drives the supervisor, on an arbiter of its own: busy actors starve the timers of theirs.
impl Actor for Supervisor<Arbiters> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(TICK, |supervisor, ctx| {
            if supervisor.is_over() {
                ctx.stop();
            } else {
                supervisor.step();
            }
        });
    }
}
