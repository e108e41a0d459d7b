//! The actix actor that drives a shell. It has no opinion of its own: it loads, hands commands over, and goes to sleep.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use actix::prelude::*;

use super::alarms::Alarm;
use super::inbox::Inbox;
use super::registry::Address;
use super::shell::{ReplyTo, Shell};
use super::system::{Routed, System};
use crate::domain::{Message as Told, Timestamp};

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

/// Something is in the inbox.
pub(crate) struct Called;

impl Message for Called {
    type Result = ();
}

/// Drives the shell of one aggregate.
pub(crate) struct Driver<A: Routed> {
    id: A::Id,
    system: Arc<System>,
    inbox: Arc<Inbox<A>>,
    /// What is being handled; kept for its memory.
    taken: Vec<Delivery<A>>,
    /// Absent until it is loaded, and after it failed to.
    shell: Option<Shell<A>>,
    tell: Vec<Told>,
}

impl<A: Routed> Driver<A> {
    pub(crate) fn new(id: A::Id, system: Arc<System>, inbox: Arc<Inbox<A>>) -> Self {
        Self { id, system, inbox, taken: Vec::new(), shell: None, tell: Vec::new() }
    }

    /// Runs `work` on the shell; a panic in it is the end of the engine, since the state may be half changed.
    fn with_shell(&mut self, work: impl FnOnce(&mut Shell<A>, &mut Vec<Told>)) {
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
        // Commands wait in the inbox meanwhile.
        ctx.wait(loading.into_actor(self).map(|shell, driver, _| driver.shell = shell));
    }

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        A::registry(&self.system).left(&self.system, &self.id);
    }
}

impl<A: Routed> Handler<Called> for Driver<A> {
    type Result = ();

    fn handle(&mut self, _: Called, ctx: &mut Self::Context) {
        let mut taken = std::mem::take(&mut self.taken);
        self.inbox.take(&mut taken);
        let now = self.system.env.clock.now();
        for delivery in taken.drain(..) {
            self.handle_one(now, delivery, ctx);
        }
        self.taken = taken;
        if !self.inbox.rest() {
            ctx.address().do_send(Called);
        }
    }
}

impl<A: Routed> Driver<A> {
    fn handle_one(&mut self, now: Timestamp, delivery: Delivery<A>, ctx: &mut Context<Self>) {
        match delivery {
            Delivery::Command(command, reply) => {
                self.with_shell(|shell, tell| shell.handle(now, &command, reply, tell));
            }
            Delivery::Wake(alarm) => self.with_shell(|shell, tell| shell.wake(now, alarm, tell)),
            Delivery::Sleep => {
                if self.may_sleep() && A::registry(&self.system).leaving(&self.id) {
                    // From now on nothing more is sent here, so this comes behind all that was.
                    let _ = self.inbox.put(Delivery::Leave, None);
                }
            }
            Delivery::Leave if self.may_sleep() => ctx.stop(),
            Delivery::Leave => {
                for delivery in
                    A::registry(&self.system).stays(&self.id, Address::new(self.inbox.clone(), ctx.address()))
                {
                    self.handle_one(now, delivery, ctx);
                }
            }
        }
    }
}

impl<A: Routed> Drop for Driver<A> {
    fn drop(&mut self) {
        self.inbox.close();
    }
}
