//! Where the actor of an aggregate is; woken on demand, put to sleep when there are too many.
//!
//! At no moment are there two actors of one aggregate: one that goes to sleep keeps its place until it has stopped, and
//! what comes meanwhile waits there for the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dashmap::mapref::entry::Entry;

use super::actor::{Address, Delivery, Driver, Host};
use super::system::{Routed, System};
use crate::Map;
use crate::replica::excess;

struct Slot<A: Routed, H: Host> {
    addr: H::Address<A>,
    /// When something was last sent to it.
    used: AtomicU64,
    /// What came since it wanted to go to sleep, if it does.
    leaving: Option<Vec<Delivery<A>>>,
}

/// Who sends: callers are told when there is too much, what comes from inside always gets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A caller.
    Outside,
    /// Another actor, or the timer.
    Inside,
}

/// The inbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// The actors of one kind.
pub(crate) struct Registry<A: Routed, H: Host> {
    slots: Map<A::Id, Slot<A, H>>,
    mailbox: usize,
    /// Counts deliveries to wherever they go, to tell who was used last.
    clock: AtomicU64,
    /// Nobody is woken any more.
    ended: AtomicBool,
}

impl<A: Routed, H: Host> Registry<A, H> {
    pub(crate) fn new(mailbox: usize) -> Self {
        Self { slots: Map::default(), mailbox, clock: AtomicU64::new(0), ended: AtomicBool::new(false) }
    }

    /// How many are awake.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Sends to the actor of `id`, waking it if need be. Once the term is over, what is sent is dropped, which lets whoever waits
    /// for an answer go.
    pub(crate) fn deliver(
        &self,
        system: &Arc<System<H>>,
        id: &A::Id,
        delivery: Delivery<A>,
        from: Origin,
    ) -> Result<(), Full> {
        // Sending happens under the slot's lock, so that none can slip in after the actor has decided to leave.
        if let Some(slot) = self.slots.get(id)
            && slot.leaving.is_none()
        {
            slot.used.store(self.clock.load(Ordering::Relaxed), Ordering::Relaxed);
            return send(&slot.addr, delivery, from);
        }
        match self.slots.entry(id.clone()) {
            Entry::Occupied(mut slot) => {
                let Slot { addr, leaving, .. } = slot.get_mut();
                match leaving {
                    None => send(addr, delivery, from),
                    Some(waiting) if from == Origin::Outside && waiting.len() >= self.mailbox => Err(Full),
                    Some(waiting) => {
                        waiting.push(delivery);
                        Ok(())
                    }
                }
            }
            // Under the lock of the entry: whoever ends this looks for it afterwards.
            Entry::Vacant(_) if self.ended.load(Ordering::SeqCst) => Ok(()),
            Entry::Vacant(slot) => {
                let addr = self.start(system, id);
                let sent = send(&addr, delivery, from);
                slot.insert(self.awake(addr));
                sent
            }
        }
    }

    fn awake(&self, addr: H::Address<A>) -> Slot<A, H> {
        Slot { addr, used: AtomicU64::new(self.clock.load(Ordering::Relaxed)), leaving: None }
    }

    fn start(&self, system: &Arc<System<H>>, id: &A::Id) -> H::Address<A> {
        system.host.start(Driver::new(id.clone(), system.clone()), self.mailbox)
    }

    /// The actor of `id` wants to go to sleep. From now on nothing more is sent to it but a last [`Delivery::Leave`],
    /// unless it is on its way already: it may have been asked to more than once.
    pub(crate) fn leaving(&self, id: &A::Id) {
        if let Some(mut slot) = self.slots.get_mut(id)
            && slot.leaving.is_none()
        {
            slot.leaving = Some(Vec::new());
            slot.addr.send(Delivery::Leave);
        }
    }

    /// The actor of `id` stays after all; gives what came meanwhile.
    pub(crate) fn stays(&self, id: &A::Id) -> Vec<Delivery<A>> {
        self.slots.get_mut(id).and_then(|mut slot| slot.leaving.take()).unwrap_or_default()
    }

    /// The actor of `id` has stopped. If something came meanwhile, the next one is woken for it.
    pub(crate) fn left(&self, system: &Arc<System<H>>, id: &A::Id) {
        let Entry::Occupied(mut slot) = self.slots.entry(id.clone()) else { return };
        let Some(waiting) = slot.get_mut().leaving.take() else { return };
        if waiting.is_empty() {
            slot.remove();
            return;
        }
        let addr = self.start(system, id);
        for delivery in waiting {
            // The mailbox is as large as what may wait here.
            addr.send(delivery);
        }
        slot.insert(self.awake(addr));
    }

    /// The term is over: no actor takes anything more, those that there are stop, and none is woken.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        loop {
            let awake: Vec<_> = self.slots.iter().map(|slot| slot.key().clone()).collect();
            if awake.is_empty() {
                return;
            }
            for id in awake {
                // What waits is dropped without the lock: who is let go may call back.
                if let Some((_, slot)) = self.slots.remove(&id) {
                    slot.addr.close();
                }
            }
        }
    }

    /// Asks those who were not used lately to go to sleep, the longest idle ones first, if there are more than `most`: so
    /// many that it need not be done again at once.
    pub(crate) fn thin_out(&self, most: usize) {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        if self.len() <= most {
            return;
        }
        let awake = || {
            let awake = self.slots.iter().filter(|slot| slot.leaving.is_none());
            awake.map(|slot| (slot.used.load(Ordering::Relaxed), slot))
        };
        let mut idle: Vec<_> = awake().map(|(used, _)| used).collect();
        let excess = excess(idle.len(), most);
        idle.retain(|used| *used < now);
        let excess = excess.min(idle.len());
        if excess == 0 {
            return;
        }
        let (_, &mut latest, _) = idle.select_nth_unstable(excess - 1);
        let longest_idle = awake().filter(|(used, _)| *used <= latest);
        let mut leave: Vec<_> =
            longest_idle.map(|(used, slot)| (used, slot.key().clone(), slot.addr.clone())).collect();
        leave.sort_unstable_by(|(used, id, _), (other_used, other, _)| (used, id).cmp(&(other_used, other)));
        for (.., addr) in leave.into_iter().take(excess) {
            addr.send(Delivery::Sleep);
        }
    }
}

fn send<A: Routed>(addr: &impl Address<A>, delivery: Delivery<A>, from: Origin) -> Result<(), Full> {
    match from {
        Origin::Inside => {
            addr.send(delivery);
            Ok(())
        }
        Origin::Outside => addr.try_send(delivery),
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::actors::alarms::Alarm;
    use crate::domain::UserId;
    use crate::domain::wallet::Wallet;

    /// Keeps what is sent.
    struct Sent<A: Routed>(Arc<Mutex<Vec<Delivery<A>>>>);

    impl<A: Routed> Clone for Sent<A> {
        fn clone(&self) -> Self {
            Self(self.0.clone())
        }
    }

    impl<A: Routed> Address<A> for Sent<A> {
        fn send(&self, delivery: Delivery<A>) {
            self.0.lock().push(delivery);
        }

        fn try_send(&self, delivery: Delivery<A>) -> Result<(), Full> {
            self.send(delivery);
            Ok(())
        }

        fn close(&self) {
            self.0.lock().clear();
        }
    }

    struct Nowhere;

    impl Host for Nowhere {
        type Address<A: Routed> = Sent<A>;

        fn start<A: Routed>(&self, _driver: Driver<A, Self>, _mailbox: usize) -> Sent<A> {
            Sent(Arc::default())
        }

        fn in_background(&self, work: impl FnOnce() + Send + 'static) {
            work();
        }
    }

    #[test]
    fn who_leaves_twice_loses_nothing_that_came_meanwhile() {
        let registry = Registry::<Wallet, Nowhere>::new(4);
        let anna: UserId = "anna".parse().unwrap();
        registry.leaving(&anna);
        assert!(registry.slots.is_empty(), "nobody is there");
        let sent = Sent(Arc::default());
        registry.slots.insert(anna.clone(), registry.awake(sent.clone()));
        registry.leaving(&anna);
        assert!(matches!(sent.0.lock()[..], [Delivery::Leave]));
        registry.slots.get_mut(&anna).unwrap().leaving.as_mut().unwrap().push(Delivery::Wake(Alarm::Due(7)));
        registry.leaving(&anna);
        assert!(matches!(sent.0.lock()[..], [Delivery::Leave]), "it is on its way already");
        let waiting = registry.stays(&anna);
        assert!(matches!(waiting[..], [Delivery::Wake(Alarm::Due(7))]));
        registry.leaving(&anna);
        assert!(matches!(sent.0.lock()[..], [Delivery::Leave, Delivery::Leave]), "it stayed, and may leave again");
    }

    #[test]
    fn the_longest_idle_go_to_sleep_and_some_more_than_must() {
        let registry = Registry::<Wallet, Nowhere>::new(4);
        let users: Vec<UserId> = (0..50).map(|n| format!("user-{n:02}").parse().unwrap()).collect();
        let sent: Vec<_> = users.iter().map(|_| Sent(Arc::default())).collect();
        for (n, (user, sent)) in users.iter().zip(&sent).enumerate() {
            // In pairs that cannot be told apart but by their names; the last ones are used just now.
            let slot = Slot { used: AtomicU64::new(n.min(48) as u64 / 2), ..registry.awake(sent.clone()) };
            registry.slots.insert(user.clone(), slot);
        }
        registry.clock.store(24, Ordering::Relaxed);
        let asked = |sent: &Sent<Wallet>| std::mem::take(&mut *sent.0.lock()).len();
        let all_asked = || sent.iter().map(asked).collect::<Vec<_>>();
        registry.thin_out(50);
        assert_eq!(all_asked(), [0; 50], "they are not too many");
        registry.clock.store(24, Ordering::Relaxed);
        registry.thin_out(35);
        // Two below the limit, which is a sixteenth of it.
        assert_eq!(all_asked(), (0..50).map(|n| usize::from(n < 17)).collect::<Vec<_>>());
        // Those who leave make room themselves.
        for (user, sent) in users.iter().zip(&sent).take(10) {
            registry.leaving(user);
            assert_eq!(asked(sent), 1);
        }
        registry.clock.store(24, Ordering::Relaxed);
        registry.thin_out(35);
        assert_eq!(all_asked(), (0..50).map(|n| usize::from((10..17).contains(&n))).collect::<Vec<_>>());
        registry.clock.store(24, Ordering::Relaxed);
        registry.thin_out(0);
        assert_eq!(all_asked(), (0..50).map(|n| usize::from((10..48).contains(&n))).collect::<Vec<_>>(), "in use");
    }
}
