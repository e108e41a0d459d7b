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

use super::actor::{Delivery, Driver};
use super::system::{Routed, System};
use crate::Map;

enum Slot<A: Routed> {
    Awake { addr: Addr<Driver<A>>, used: AtomicU64 },
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

/// The mailbox is full.
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
        // Sending happens under the slot's lock, so that none can slip in after the actor has decided to leave.
        if let Some(slot) = self.slots.get(id)
            && let Slot::Awake { addr, used } = &*slot
        {
            used.store(self.clock.load(Ordering::Relaxed), Ordering::Relaxed);
            return send(addr, delivery, from);
        }
        match self.slots.entry(id.clone()) {
            Entry::Occupied(mut slot) => match slot.get_mut() {
                Slot::Awake { addr, .. } => send(addr, delivery, from),
                Slot::Leaving { waiting } if from == From::Outside && waiting.len() >= self.mailbox => Err(Full),
                Slot::Leaving { waiting } => {
                    waiting.push(delivery);
                    Ok(())
                }
            },
            Entry::Vacant(slot) => {
                let addr = self.start(system, id);
                let sent = send(&addr, delivery, from);
                slot.insert(self.awake(addr));
                sent
            }
        }
    }

    fn awake(&self, addr: Addr<Driver<A>>) -> Slot<A> {
        Slot::Awake { addr, used: AtomicU64::new(self.clock.load(Ordering::Relaxed)) }
    }

    fn start(&self, system: &Arc<System>, id: &A::Id) -> Addr<Driver<A>> {
        let (sender, receiver) = channel::channel(self.mailbox);
        let arbiter = &system.arbiters[self.hasher.hash_one(id) as usize % system.arbiters.len()];
        let driver = Driver::new(id.clone(), system.clone());
        arbiter.spawn_fn(move || {
            actix_rt::spawn(Context::with_receiver(receiver).into_future(driver));
        });
        Addr::new(sender)
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
    pub(crate) fn stays(&self, id: &A::Id, addr: Addr<Driver<A>>) -> Vec<Delivery<A>> {
        let Some(mut slot) = self.slots.get_mut(id) else { return Vec::new() };
        match std::mem::replace(&mut *slot, self.awake(addr)) {
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
        let addr = self.start(system, id);
        for delivery in waiting {
            // The mailbox is as large as what may wait here.
            let _ = send(&addr, delivery, From::Inside);
        }
        slot.insert(self.awake(addr));
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
                Slot::Awake { addr, used } => Some((used.load(Ordering::Relaxed), addr.clone())),
                Slot::Leaving { .. } => None,
            })
            .filter(|(used, _)| *used < now)
            .collect();
        idle.sort_unstable_by_key(|(used, _)| *used);
        for (_, addr) in idle.into_iter().take(excess) {
            addr.do_send(Delivery::Sleep);
        }
    }
}

fn send<A: Routed>(addr: &Addr<Driver<A>>, delivery: Delivery<A>, from: From) -> Result<(), Full> {
    match from {
        From::Inside => {
            addr.do_send(delivery);
            Ok(())
        }
        // An actor only stops once its slot says so, or with its arbiter at the end of the engine: then whoever waits
        // for the answer is let go by the drop of the message.
        From::Outside => match addr.try_send(delivery) {
            Ok(()) | Err(SendError::Closed(_)) => Ok(()),
            Err(SendError::Full(_)) => Err(Full),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::UserId;
    use crate::domain::wallet::Wallet;

    #[test]
    fn who_leaves_twice_loses_nothing_that_came_meanwhile() {
        let registry = Registry::<Wallet>::new(4);
        let anna: UserId = "anna".parse().unwrap();
        assert!(!registry.leaving(&anna), "nobody is there");
        let (sender, _receiver) = channel::channel(4);
        registry.slots.insert(anna.clone(), registry.awake(Addr::new(sender)));
        assert!(registry.leaving(&anna));
        match &mut *registry.slots.get_mut(&anna).unwrap() {
            Slot::Leaving { waiting } => waiting.push(Delivery::Wake(7)),
            Slot::Awake { .. } => panic!("it is on its way out"),
        }
        assert!(!registry.leaving(&anna), "it is on its way already");
        let (sender, _receiver) = channel::channel(4);
        let waiting = registry.stays(&anna, Addr::new(sender));
        assert!(matches!(waiting[..], [Delivery::Wake(7)]));
        assert!(registry.leaving(&anna), "it stayed, and may leave again");
    }
}
