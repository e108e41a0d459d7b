//! A connection, and what it has heard.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use boxoffice::cluster::Found;
use boxoffice::cluster::nats::{Error, NatsLink};
use boxoffice::cluster::{
    Body, ClusterConfig, ClusterId, Epoch, Heard, Link as _, Message, Publish, Reply, Sequence, Wire,
};
use boxoffice::store::journal::Tip;
use tokio::runtime::Runtime;

/// How long anything may take: an election, and the next one.
pub const PATIENCE: Duration = Duration::from_secs(40);

pub struct Node {
    // Before the runtime it runs on.
    pub link: NatsLink,
    pub found: Found,
    pub heard: Receiver<Heard>,
    /// What was heard and not yet asked for.
    aside: RefCell<VecDeque<Heard>>,
    pub runtime: Runtime,
    published: u64,
}

pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

impl Node {
    pub fn connect(config: ClusterConfig, life: u64) -> Result<Self, Error> {
        let (runtime, (ears, heard)) = (runtime(), mpsc::channel());
        // Whoever heard may have gone.
        let hear = move |it| drop(ears.send(it));
        let connected = runtime.block_on(NatsLink::connect(runtime.handle(), config, life, hear));
        connected.map(|(link, found)| Self { link, found, heard, aside: RefCell::default(), runtime, published: 0 })
    }

    /// The first thing that is heard of which `of` knows what to make; the others are kept.
    pub fn hear<T>(&self, what: &str, mut of: impl FnMut(&Heard) -> Option<T>) -> T {
        let mut aside = self.aside.borrow_mut();
        let found = aside.iter().enumerate().find_map(|(index, heard)| Some((index, of(heard)?)));
        if let Some((index, it)) = found {
            aside.remove(index);
            return it;
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let heard = self.heard.recv_timeout(left).unwrap_or_else(|error| panic!("{what}: {error}"));
            if let Some(it) = of(&heard) {
                return it;
            }
            aside.push_back(heard);
        }
    }

    /// Forgets what was heard.
    pub fn forget(&self) {
        while self.heard.try_recv().is_ok() {}
        self.aside.borrow_mut().clear();
    }

    /// Begins to read; what was read before is forgotten.
    pub fn follow(&self, after: u64) {
        self.link.follow(Sequence(after));
        self.hear("reading to begin", |heard| (*heard == Heard::Following(Sequence(after))).then_some(()));
        self.aside.borrow_mut().retain(|heard| !matches!(heard, Heard::Read(..)));
    }

    /// Publishes, and says what became of it.
    pub fn publish(&mut self, message: Message, expected: Option<Sequence>) -> Reply {
        self.published += 1;
        let number = self.published;
        self.link.publish(number, &Publish { message, expected });
        self.hear("an answer to a publish", |heard| match heard {
            Heard::Replied(it, reply) if *it == number => Some(*reply),
            _ => None,
        })
    }

    /// Publishes without an expectation until it is acknowledged.
    pub fn append(&mut self, message: &Message) -> Sequence {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Reply::Acknowledged(sequence) = self.publish(message.clone(), None) {
                return sequence;
            }
            assert!(Instant::now() < deadline, "nothing is acknowledged");
        }
    }

    pub fn fetch(&self, sequence: u64) -> Option<Wire> {
        self.link.fetch(Sequence(sequence));
        self.hear("a message", |heard| match heard {
            Heard::Fetched(Sequence(it), wire) if *it == sequence => Some(wire.clone()),
            _ => None,
        })
    }

    pub fn end(&self) -> u64 {
        self.link.look();
        self.hear("the end", |heard| match heard {
            Heard::End(Sequence(end)) => Some(*end),
            _ => None,
        })
    }

    /// The next message that is read.
    pub fn read(&self) -> (u64, Wire) {
        self.hear("a message that is read", |heard| match heard {
            Heard::Read(Sequence(sequence), wire) => Some((*sequence, wire.clone())),
            _ => None,
        })
    }
}

pub fn cluster() -> ClusterId {
    ClusterId(7.try_into().unwrap())
}

pub fn mark(epoch: u64) -> Message {
    Message { cluster: cluster(), epoch: Epoch(epoch), body: Body::Mark }
}

pub fn base() -> Message {
    Message { cluster: cluster(), epoch: Epoch(0), body: Body::Base(Tip::default()) }
}
