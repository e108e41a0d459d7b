//! What drives a shell. It has no opinion of its own: it loads, hands commands over, and goes to sleep.
//!
//! A plain part: a [`Host`] gives it what was sent to it, one delivery after the other.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use super::alarms::Alarm;
use super::registry::Full;
use super::shell::{ReplyTo, Shell};
use super::system::{Routed, System};
use crate::domain::{Message, OptionId, Timestamp};
use crate::replica::Pin;

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

/// Where drivers run: on the arbiters of actix, or in the simulator's hands.
pub(crate) trait Host: Send + Sync + Sized + 'static {
    /// The way to a driver.
    type Address<A: Routed>: Address<A>;

    /// Starts a driver, which callers may send `mailbox` deliveries before they are handled. It is loaded before the
    /// first of them.
    fn start<A: Routed>(&self, driver: Driver<A, Self>, mailbox: usize) -> Self::Address<A>;

    /// Does what may block, without waiting for it.
    fn in_background(&self, work: impl FnOnce() + Send + 'static);

    /// Something is owed of providers' payments on this option.
    fn owes_providers(&self, _option: OptionId) {}

    /// Sends a message of one aggregate to another.
    fn tell(&self, system: &Arc<System<Self>>, message: Message) {
        system.send(message);
    }
}

/// The way to a driver. What is sent arrives in the order in which it was sent.
pub(crate) trait Address<A: Routed>: Clone + Send + Sync + 'static {
    /// Sends from inside, where there is no limit to meet.
    fn send(&self, delivery: Delivery<A>);
    /// Sends for a caller.
    fn try_send(&self, delivery: Delivery<A>) -> Result<(), Full>;
    /// The driver takes nothing more, and what waits for it is dropped; with the last way to it, it stops.
    fn close(&self);
}

/// What a host is to do with a driver after a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Give it the next one.
    Stay,
    /// Nothing more comes: call [`Driver::stopped`] and drop it.
    Stop,
}

/// Drives the shell of one aggregate.
pub(crate) struct Driver<A: Routed, H: Host> {
    id: A::Id,
    system: Arc<System<H>>,
    /// Absent until it is loaded, and after it failed to.
    shell: Option<(Shell<A>, Pin)>,
    tell: Vec<Message>,
}

impl<A: Routed, H: Host> Driver<A, H> {
    pub(crate) fn new(id: A::Id, system: Arc<System<H>>) -> Self {
        Self { id, system, shell: None, tell: Vec::new() }
    }

    pub(crate) fn id(&self) -> &A::Id {
        &self.id
    }

    pub(crate) fn system(&self) -> &Arc<System<H>> {
        &self.system
    }

    /// Takes over the aggregate as it was [loaded](System::load).
    pub(crate) fn loaded(&mut self, shell: Option<(Shell<A>, Pin)>) {
        self.shell = shell;
    }

    /// Handles what was sent.
    pub(crate) fn handle(&mut self, now: Timestamp, delivery: Delivery<A>) -> Then {
        match delivery {
            Delivery::Command(command, reply) => {
                self.with_shell(|shell, tell| shell.handle(now, &command, reply, tell));
            }
            Delivery::Wake(alarm) => self.with_shell(|shell, tell| shell.wake(now, alarm, tell)),
            Delivery::Sleep if self.may_sleep() => A::registry(&self.system).leaving(&self.id),
            Delivery::Sleep => {}
            Delivery::Leave if self.may_sleep() => return Then::Stop,
            Delivery::Leave => {
                for delivery in A::registry(&self.system).stays(&self.id) {
                    // None of them is a `Leave`: those are not sent to one that leaves.
                    self.handle(now, delivery);
                }
            }
        }
        Then::Stay
    }

    /// It has stopped, and handles nothing more.
    pub(crate) fn stopped(&self) {
        A::registry(&self.system).left(&self.system, &self.id);
    }

    /// Runs `work` on the shell; a panic in it is the end of the engine, since the state may be half changed.
    fn with_shell(&mut self, work: impl FnOnce(&mut Shell<A>, &mut Vec<Message>)) {
        let Some((shell, _)) = &mut self.shell else { return };
        let tell = &mut self.tell;
        if std::panic::catch_unwind(AssertUnwindSafe(|| work(shell, tell))).is_err() {
            self.shell = None;
            self.system.env.writer.poison(&format!("a rule panicked in {}", self.id));
        }
        for message in self.tell.drain(..) {
            self.system.tell(message);
        }
    }

    fn may_sleep(&self) -> bool {
        let applied = self.system.replica.applied();
        self.shell.as_ref().is_none_or(|(shell, _)| shell.is_idle() && shell.last() <= applied)
    }
}
