//! Where the actors of a simulated engine run: on one thread, each when the dice say so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::actors::actor::{Address, Delivery, Driver, Host, Then};
use crate::actors::desk::Desk;
use crate::actors::inbox::{Call, Inbox};
use crate::actors::registry::Full;
use crate::actors::system::{Routed, System};
use crate::domain::{Message, OptionId, Timestamp};
use crate::testing::random::Dice;

/// What becomes of messages between aggregates, in thousandths. Nothing, in an engine; much, between machines.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::testing) struct Post {
    pub lost: u64,
    pub doubled: u64,
}

/// All actors of an engine. Clones are the same.
#[derive(Clone)]
pub(in crate::testing) struct Stage(Arc<Shared>);

struct Shared {
    seats: Mutex<Seats>,
    dice: Dice,
    post: Mutex<Post>,
    desk: Desk,
}

#[derive(Default)]
struct Seats {
    /// Each actor; nothing in place of the one whose turn it is.
    actors: BTreeMap<u64, Option<Box<dyn Seat>>>,
    last: u64,
    /// Those up to this one are of a term that is over: nobody can reach them any more.
    left_behind: u64,
}

impl Stage {
    pub fn new(dice: Dice, post: Post) -> Self {
        Self(Arc::new(Shared { seats: Mutex::default(), dice, post: Mutex::new(post), desk: Desk::default() }))
    }

    /// Who is told what providers owe.
    pub fn desk(&self) -> &Desk {
        &self.0.desk
    }

    /// From now on nothing befalls messages.
    pub fn heal(&self) {
        *self.0.post.lock() = Post::default();
    }

    /// Lets one actor that has something to do handle one delivery; false if there is none.
    pub fn turn(&self) -> bool {
        let (no, mut actor) = {
            let mut seats = self.0.seats.lock();
            let ready = seats.actors.iter().filter(|(_, actor)| actor.as_ref().is_some_and(|actor| actor.is_ready()));
            let ready: Vec<u64> = ready.map(|(no, _)| *no).collect();
            if ready.is_empty() {
                return false;
            }
            let no = *self.0.dice.pick(&ready);
            let Some(actor) = seats.actors.get_mut(&no).and_then(Option::take) else { return false };
            (no, actor)
        };
        // Without the lock: it sends to others, and wakes some.
        let then = actor.turn();
        let mut seats = self.0.seats.lock();
        if then == Then::Stop || (no <= seats.left_behind && !actor.is_ready()) {
            seats.actors.remove(&no);
            drop(seats);
            actor.stopped();
        } else {
            seats.actors.insert(no, Some(actor));
        }
        true
    }

    /// Their term is over: who is at work finishes what he has in hand, as on a thread of his own, and then stops, as the others
    /// do at once.
    pub fn leave_behind(&self) {
        let idle: Vec<_> = {
            let mut seats = self.0.seats.lock();
            seats.left_behind = seats.last;
            let is_idle = |actor: &mut Option<Box<dyn Seat>>| actor.as_ref().is_some_and(|actor| !actor.is_ready());
            seats.actors.extract_if(.., |_, actor| is_idle(actor)).collect()
        };
        idle.into_iter().filter_map(|(_, actor)| actor).for_each(|actor| actor.stopped());
    }

    /// The end of all actors.
    pub fn clear(&self) {
        let actors = std::mem::take(&mut self.0.seats.lock().actors);
        drop(actors);
    }
}

impl Host for Stage {
    type Address<A: Routed> = Way<A>;

    fn start<A: Routed>(&self, driver: Driver<A, Self>, mailbox: usize) -> Way<A> {
        let way = Way { inbox: Arc::new(Inbox::new()), is_called: Arc::default(), mailbox };
        let mut seats = self.0.seats.lock();
        seats.last += 1;
        let no = seats.last;
        let (taken, now) = (VecDeque::new(), Timestamp::default());
        let seated = Seated { driver, way: way.clone(), is_loaded: false, taken, now };
        seats.actors.insert(no, Some(Box::new(seated)));
        way
    }

    fn in_background(&self, work: impl FnOnce() + Send + 'static) {
        work();
    }

    fn owes_providers(&self, option: OptionId) {
        self.0.desk.owes(option);
    }

    fn tell(&self, system: &Arc<System<Self>>, message: Message) {
        let post = *self.0.post.lock();
        if self.0.dice.chance(post.lost) {
            return;
        }
        if self.0.dice.chance(post.doubled) {
            system.send(message.clone());
        }
        system.send(message);
    }
}

/// The way to an actor.
pub(in crate::testing) struct Way<A: Routed> {
    inbox: Arc<Inbox<A>>,
    /// Whether the actor knows that something is in it.
    is_called: Arc<AtomicBool>,
    /// How much of what callers send may wait in it.
    mailbox: usize,
}

impl<A: Routed> Clone for Way<A> {
    fn clone(&self) -> Self {
        Self { inbox: self.inbox.clone(), is_called: self.is_called.clone(), mailbox: self.mailbox }
    }
}

impl<A: Routed> Way<A> {
    fn put(&self, delivery: Delivery<A>, limit: Option<usize>) -> Result<(), Full> {
        if self.inbox.put(delivery, limit)? == Call::Needed {
            self.is_called.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl<A: Routed> Address<A> for Way<A> {
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

/// An actor of any kind.
trait Seat: Send {
    fn is_ready(&self) -> bool;
    fn turn(&mut self) -> Then;
    fn stopped(&self);
}

struct Seated<A: Routed> {
    driver: Driver<A, Stage>,
    way: Way<A>,
    is_loaded: bool,
    /// What it has taken out of its inbox, and when.
    taken: VecDeque<Delivery<A>>,
    now: Timestamp,
}

impl<A: Routed> Seat for Seated<A> {
    fn is_ready(&self) -> bool {
        !self.is_loaded || !self.taken.is_empty() || self.way.is_called.load(Ordering::Relaxed)
    }

    fn turn(&mut self) -> Then {
        if !self.is_loaded {
            self.is_loaded = true;
            let shell = self.driver.system().load(self.driver.id());
            self.driver.loaded(shell);
            return Then::Stay;
        }
        if self.taken.is_empty() {
            let mut taken = Vec::new();
            self.way.inbox.take(&mut taken);
            self.taken = taken.into();
            self.now = self.driver.system().env.clock.now();
        }
        let then = self.taken.pop_front().map_or(Then::Stay, |delivery| self.driver.handle(self.now, delivery));
        if self.taken.is_empty() && self.way.inbox.rest() {
            self.way.is_called.store(false, Ordering::Relaxed);
        }
        then
    }

    fn stopped(&self) {
        self.way.inbox.close();
        self.driver.stopped();
    }
}
