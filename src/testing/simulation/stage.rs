//! Where the actors of a simulated engine run: on one thread, each when the dice say so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::actors::actor::{Address, Delivery, Driver, Host, Then};
use crate::actors::registry::Full;
use crate::actors::system::{Routed, System};
use crate::domain::Message;
use crate::testing::random::Dice;

/// What becomes of messages between aggregates, in thousandths. Nothing, in an engine; much, between machines.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Post {
    pub lost: u64,
    pub doubled: u64,
}

/// All actors of an engine. Clones are the same.
#[derive(Clone)]
pub(super) struct Stage(Arc<Shared>);

struct Shared {
    seats: Mutex<Seats>,
    dice: Dice,
    post: Mutex<Post>,
}

#[derive(Default)]
struct Seats {
    /// Each actor; nothing in place of the one whose turn it is.
    actors: BTreeMap<u64, Option<Box<dyn Seat>>>,
    last: u64,
}

impl Stage {
    pub fn new(dice: Dice, post: Post) -> Self {
        Self(Arc::new(Shared { seats: Mutex::default(), dice, post: Mutex::new(post) }))
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
        match then {
            Then::Stay => drop(self.0.seats.lock().actors.insert(no, Some(actor))),
            Then::Stop => {
                self.0.seats.lock().actors.remove(&no);
                actor.stopped();
            }
        }
        true
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
        let way = Way(Arc::new(Mailbox { deliveries: Mutex::default(), capacity: mailbox }));
        let mut seats = self.0.seats.lock();
        seats.last += 1;
        let no = seats.last;
        seats.actors.insert(no, Some(Box::new(Seated { driver, way: way.clone(), is_loaded: false })));
        way
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
pub(super) struct Way<A: Routed>(Arc<Mailbox<A>>);

struct Mailbox<A: Routed> {
    deliveries: Mutex<VecDeque<Delivery<A>>>,
    capacity: usize,
}

impl<A: Routed> Clone for Way<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: Routed> Address<A> for Way<A> {
    fn send(&self, delivery: Delivery<A>) {
        self.0.deliveries.lock().push_back(delivery);
    }

    fn try_send(&self, delivery: Delivery<A>) -> Result<(), Full> {
        let mut deliveries = self.0.deliveries.lock();
        if deliveries.len() >= self.0.capacity {
            return Err(Full);
        }
        deliveries.push_back(delivery);
        Ok(())
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
}

impl<A: Routed> Seat for Seated<A> {
    fn is_ready(&self) -> bool {
        !self.is_loaded || !self.way.0.deliveries.lock().is_empty()
    }

    fn turn(&mut self) -> Then {
        if !self.is_loaded {
            self.is_loaded = true;
            let shell = self.driver.system().load(self.driver.id());
            self.driver.loaded(shell);
            return Then::Stay;
        }
        let delivery = self.way.0.deliveries.lock().pop_front();
        delivery.map_or(Then::Stay, |delivery| self.driver.handle(delivery))
    }

    fn stopped(&self) {
        self.driver.stopped();
    }
}
