//! Where the actor of an aggregate is; woken on demand, put to sleep when there are too many.
//!
//! At no moment are there two actors of one aggregate: one that goes to sleep keeps its place until it has stopped, and
//! what comes meanwhile waits there for the next.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix::dev::channel;
use actix::prelude::*;
use dashmap::mapref::entry::Entry;

use super::actor::{Called, Delivery, Driver};
use super::inbox::{Call, Inbox};
use super::system::{Routed, System};
use crate::Map;

/// The most calls of an actor that are on their way: one that is made, and one that it makes itself.
const CALLS: usize = 2;

/// Where an actor is.
pub(crate) struct Address<A: Routed> {
    inbox: Arc<Inbox<A>>,
    actor: Addr<Driver<A>>,
}

impl<A: Routed> Address<A> {
    pub(crate) fn new(inbox: Arc<Inbox<A>>, actor: Addr<Driver<A>>) -> Self {
        Self { inbox, actor }
    }

    /// An actor only stops once its slot says so, or with its arbiter at the end of the engine: then whoever waits for the
    /// answer is let go by the drop of the delivery.
    fn send(&self, delivery: Delivery<A>, limit: Option<usize>) -> Result<(), Full> {
        if self.inbox.put(delivery, limit)? == Call::Needed {
            self.actor.do_send(Called);
        }
        Ok(())
    }
}

enum Slot<A: Routed> {
    Awake { address: Address<A>, used: AtomicU64 },
    Leaving { waiting: Vec<Delivery<A>> },
}

/// Who sends: callers are told when there is too much, what comes from inside always gets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// A caller.
    Outside,
    /// Another actor, or the supervisor.
    Inside,
}

/// The inbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// The actors of one kind.
pub(crate) struct Registry<A: Routed> {
    slots: Map<A::Id, Slot<A>>,
    mailbox: usize,
    hasher: RandomState,
    /// Counts deliveries to wherever they go, to tell who was used last.
    clock: AtomicU64,
}

impl<A: Routed> Registry<A> {
    pub(crate) fn new(mailbox: usize) -> Self {
        Self { slots: Map::default(), mailbox, hasher: RandomState::new(), clock: AtomicU64::new(0) }
    }

    /// How many are awake.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Sends to the actor of `id`, waking it if need be.
    pub(crate) fn deliver(
        &self,
        system: &Arc<System>,
        id: &A::Id,
        delivery: Delivery<A>,
        from: From,
    ) -> Result<(), Full> {
        let limit = (from == From::Outside).then_some(self.mailbox);
        // Sending happens under the slot's lock, so that none can slip in after the actor has decided to leave.
        if let Some(slot) = self.slots.get(id)
            && let Slot::Awake { address, used } = &*slot
        {
            used.store(self.clock.load(Ordering::Relaxed), Ordering::Relaxed);
            return address.send(delivery, limit);
        }
        match self.slots.entry(id.clone()) {
            Entry::Occupied(mut slot) => match slot.get_mut() {
                Slot::Awake { address, .. } => address.send(delivery, limit),
                Slot::Leaving { waiting } if limit.is_some_and(|limit| waiting.len() >= limit) => Err(Full),
                Slot::Leaving { waiting } => {
                    waiting.push(delivery);
                    Ok(())
                }
            },
            Entry::Vacant(slot) => {
                let address = self.start(system, id);
                let sent = address.send(delivery, limit);
                slot.insert(self.awake(address));
                sent
            }
        }
    }

    fn awake(&self, address: Address<A>) -> Slot<A> {
        Slot::Awake { address, used: AtomicU64::new(self.clock.load(Ordering::Relaxed)) }
    }

    fn start(&self, system: &Arc<System>, id: &A::Id) -> Address<A> {
        let (sender, receiver) = channel::channel(CALLS);
        let arbiter = &system.arbiters[self.hasher.hash_one(id) as usize % system.arbiters.len()];
        let inbox = Arc::new(Inbox::new());
        let driver = Driver::new(id.clone(), system.clone(), inbox.clone());
        arbiter.spawn_fn(move || {
            actix_rt::spawn(Context::with_receiver(receiver).into_future(driver));
        });
        Address::new(inbox, Addr::new(sender))
    }

    /// The actor of `id` wants to go to sleep; false if it has no place to go from, or is on its way: it may have been
    /// asked to more than once.
    pub(crate) fn leaving(&self, id: &A::Id) -> bool {
        match self.slots.get_mut(id) {
            Some(mut slot) if matches!(*slot, Slot::Awake { .. }) => {
                *slot = Slot::Leaving { waiting: Vec::new() };
                true
            }
            _ => false,
        }
    }

    /// The actor of `id` stays after all; gives what came meanwhile.
    pub(crate) fn stays(&self, id: &A::Id, address: Address<A>) -> Vec<Delivery<A>> {
        let Some(mut slot) = self.slots.get_mut(id) else { return Vec::new() };
        match std::mem::replace(&mut *slot, self.awake(address)) {
            Slot::Leaving { waiting } => waiting,
            Slot::Awake { .. } => Vec::new(),
        }
    }

    /// The actor of `id` has stopped. If something came meanwhile, the next one is woken for it.
    pub(crate) fn left(&self, system: &Arc<System>, id: &A::Id) {
        let Entry::Occupied(mut slot) = self.slots.entry(id.clone()) else { return };
        let Slot::Leaving { waiting } = slot.get_mut() else { return };
        let waiting = std::mem::take(waiting);
        if waiting.is_empty() {
            slot.remove();
            return;
        }
        let address = self.start(system, id);
        for delivery in waiting {
            // What may wait here is limited when it comes.
            let _ = address.send(delivery, None);
        }
        slot.insert(self.awake(address));
    }

    /// Asks those who were not used lately to go to sleep, if there are more than `most`.
    pub(crate) fn thin_out(&self, most: usize) {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        let excess = self.len().saturating_sub(most);
        if excess == 0 {
            return;
        }
        let mut idle: Vec<_> = self
            .slots
            .iter()
            .filter_map(|slot| match slot.value() {
                Slot::Awake { address, used } => {
                    let Address { inbox, actor } = address;
                    Some((used.load(Ordering::Relaxed), Address::new(inbox.clone(), actor.clone())))
                }
                Slot::Leaving { .. } => None,
            })
            .filter(|(used, _)| *used < now)
            .collect();
        idle.sort_unstable_by_key(|(used, _)| *used);
        for (_, address) in idle.into_iter().take(excess) {
            let _ = address.send(Delivery::Sleep, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::alarms::Alarm;
    use crate::domain::UserId;
    use crate::domain::wallet::Wallet;

    #[test]
    fn who_leaves_twice_loses_nothing_that_came_meanwhile() {
        let registry = Registry::<Wallet>::new(4);
        let anna: UserId = "anna".parse().unwrap();
        assert!(!registry.leaving(&anna), "nobody is there");
        let address = || {
            let (sender, _) = channel::channel(CALLS);
            Address::new(Arc::new(Inbox::new()), Addr::new(sender))
        };
        registry.slots.insert(anna.clone(), registry.awake(address()));
        assert!(registry.leaving(&anna));
        match &mut *registry.slots.get_mut(&anna).unwrap() {
            Slot::Leaving { waiting } => waiting.push(Delivery::Wake(Alarm::Due(7))),
            Slot::Awake { .. } => panic!("it is on its way out"),
        }
        assert!(!registry.leaving(&anna), "it is on its way already");
        let waiting = registry.stays(&anna, address());
        assert!(matches!(waiting[..], [Delivery::Wake(Alarm::Due(7))]));
        assert!(registry.leaving(&anna), "it stayed, and may leave again");
    }
}
