//! The actix actor that drives a shell. It has no opinion of its own: it loads, hands commands over, and goes to sleep.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use actix::prelude::*;

use super::alarms::Alarm;
use super::shell::{ReplyTo, Shell};
use super::system::{Routed, System};

/// What an actor is sent.
pub(crate) enum Delivery<A: Routed> {
    /// A command, and where its answer goes.
    Command(A::Command, Option<ReplyTo<A>>),
    /// Something is due or owed.
    Wake(Alarm),
    /// Go to sleep if there is nothing to do.
    Sleep,
    /// Everything that was sent before [`Sleep`](Self::Sleep) was handled has been handled.
    Leave,
}

impl<A: Routed> Message for Delivery<A> {
    type Result = ();
}

/// Drives the shell of one aggregate.
pub(crate) struct Driver<A: Routed> {
    id: A::Id,
    system: Arc<System>,
    /// Absent until it is loaded, and after it failed to.
    shell: Option<Shell<A>>,
    tell: Vec<crate::domain::Message>,
}

impl<A: Routed> Driver<A> {
    pub(crate) fn new(id: A::Id, system: Arc<System>) -> Self {
        Self { id, system, shell: None, tell: Vec::new() }
    }

    /// Runs `work` on the shell; a panic in it is the end of the engine, since the state may be half changed.
    fn with_shell(&mut self, work: impl FnOnce(&mut Shell<A>, &mut Vec<crate::domain::Message>)) {
        let Some(shell) = &mut self.shell else { return };
        let tell = &mut self.tell;
        if std::panic::catch_unwind(AssertUnwindSafe(|| work(shell, tell))).is_err() {
            self.shell = None;
            self.system.env.journal.poison(&format!("a rule panicked in {}", self.id));
        }
        for message in self.tell.drain(..) {
            self.system.tell(message);
        }
    }

    fn may_sleep(&self) -> bool {
        let applied = self.system.replica.applied();
        self.shell.as_ref().is_none_or(|shell| shell.is_idle() && shell.last() <= applied)
    }
}

// Nothing in it is ever pinned.
impl<A: Routed> Unpin for Driver<A> {}

impl<A: Routed> Actor for Driver<A> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (id, system) = (self.id.clone(), self.system.clone());
        let loading = async move { system.load::<A>(id).await };
        // Commands wait in the mailbox meanwhile.
        ctx.wait(loading.into_actor(self).map(|shell, driver, _| driver.shell = shell));
    }

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        A::registry(&self.system).left(&self.system, &self.id);
    }
}

impl<A: Routed> Handler<Delivery<A>> for Driver<A> {
    type Result = ();

    fn handle(&mut self, delivery: Delivery<A>, ctx: &mut Self::Context) {
        match delivery {
            Delivery::Command(command, reply) => self.with_shell(|shell, tell| shell.handle(&command, reply, tell)),
            Delivery::Wake(alarm) => self.with_shell(|shell, tell| shell.wake(alarm, tell)),
            Delivery::Sleep => {
                if self.may_sleep() && A::registry(&self.system).leaving(&self.id) {
                    // From now on nothing more is sent here, so this comes behind all that was.
                    ctx.address().do_send(Delivery::Leave);
                }
            }
            Delivery::Leave if self.may_sleep() => ctx.stop(),
            Delivery::Leave => {
                for delivery in A::registry(&self.system).stays(&self.id, ctx.address()) {
                    self.handle(delivery, ctx);
                }
            }
        }
    }
}
