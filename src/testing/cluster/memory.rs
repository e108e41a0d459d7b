//! A stream in memory, for engines on threads: a cluster in one process, whose nodes can be cut off.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;

use crate::cluster::{
    Answer, Asked, Connect, FORMAT, Found, Hear, Heard, Joining, Link, NodeName, Patience, Publish, Reply, Sequence,
    Unanswered, Wire,
};

/// When every such stream was created.
const CREATED: u64 = 4_711;
/// How often a link looks whether it is still there.
const LOOK: Duration = Duration::from_millis(20);

/// A stream; clones share it.
#[derive(Clone, Default)]
pub struct MemoryStream(Arc<Shared>);

#[derive(Default)]
struct Shared {
    log: Mutex<Log>,
    grown: Condvar,
    plans: Mutex<BTreeMap<[u8; 32], Vec<u8>>>,
    answers: Mutex<BTreeMap<String, (Arc<State>, Answer)>>,
    step_downs: AtomicUsize,
}

#[derive(Default)]
struct Log {
    messages: Vec<Wire>,
    /// So many of them are gone.
    purged: usize,
    links: Vec<(Weak<State>, Hear)>,
    /// Nothing is acknowledged, nor lost.
    stalled: bool,
    waiting: Vec<(Weak<State>, Hear, u64, Publish)>,
}

/// One node's way to it.
#[derive(Default)]
struct State {
    cut: AtomicBool,
    after: Mutex<Option<Sequence>>,
}

/// Cuts a node off, and connects it again.
#[derive(Clone, Default)]
pub struct Cable(Arc<State>);

impl Cable {
    /// Nothing comes through from now on, nor back.
    pub fn cut(&self) {
        self.0.cut.store(true, Ordering::Release);
    }

    /// Everything comes through again.
    pub fn mend(&self) {
        self.0.cut.store(false, Ordering::Release);
    }
}

impl MemoryStream {
    /// How a node of this name joins, by `cable`. It suspects an owner soon.
    ///
    /// # Panics
    /// `node` is no name of a node.
    #[must_use]
    pub fn joining(&self, node: &str, cable: &Cable) -> Joining {
        let (millis, node) = (Duration::from_millis, NodeName::new(node).expect("it is a name"));
        Joining {
            node: node.clone(),
            founds: false,
            patience: Patience { beat: millis(50), suspect_after: millis(400), read_up_to: millis(5_000) },
            format: FORMAT,
            log_bytes_max: u64::MAX,
            secret: vec![7; 32],
            connect: Box::new(Connector { node, stream: self.clone(), cable: cable.clone() }),
        }
    }

    /// Messages that were purged.
    #[must_use]
    pub fn purged(&self) -> usize {
        self.0.log.lock().purged
    }

    /// Messages that it has.
    #[must_use]
    pub fn messages(&self) -> Vec<Wire> {
        self.0.log.lock().messages.clone()
    }

    /// Removes the messages below this one, but never the newest.
    pub fn purge(&self, below: Sequence) {
        let mut log = self.0.log.lock();
        let most = log.messages.len().saturating_sub(1);
        log.purged = log.purged.max((below.0 as usize).saturating_sub(1).min(most));
    }

    /// Changes a bit of every message behind this one that has a body, in all replicas.
    pub fn damage(&self, behind: Sequence) {
        for wire in self.0.log.lock().messages.iter_mut().skip(behind.0 as usize) {
            if let Some(byte) = wire.payload.last_mut() {
                *byte ^= 1;
            }
        }
    }

    /// How often another replica was to lead.
    #[must_use]
    pub fn step_downs(&self) -> usize {
        self.0.step_downs.load(Ordering::Relaxed)
    }

    /// Publishes that are neither acknowledged nor lost.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.log.lock().waiting.len()
    }

    /// Nothing is acknowledged from now on: it has no leader.
    pub fn stall(&self) {
        self.0.log.lock().stalled = true;
    }

    /// It has a leader again, and takes in what had come.
    pub fn go_on(&self) {
        let waiting = {
            let mut log = self.0.log.lock();
            log.stalled = false;
            std::mem::take(&mut log.waiting)
        };
        for (state, hear, number, publish) in waiting {
            self.take(&state, &hear, number, &publish);
        }
    }

    fn take(&self, state: &Weak<State>, hear: &Hear, number: u64, publish: &Publish) {
        let reply = {
            let mut log = self.0.log.lock();
            if log.stalled {
                return log.waiting.push((state.clone(), hear.clone(), number, publish.clone()));
            }
            let last = Sequence(log.messages.len() as u64);
            if publish.expected.is_some_and(|expected| expected != last) {
                Reply::Refused
            } else {
                log.messages.push(publish.message.encode());
                self.0.grown.notify_all();
                Reply::Acknowledged(last.next())
            }
        };
        if state.upgrade().is_some_and(|state| !state.cut.load(Ordering::Acquire)) {
            hear(Heard::Replied(number, reply));
        }
    }
}

struct Connector {
    node: NodeName,
    stream: MemoryStream,
    cable: Cable,
}

impl Connect for Connector {
    fn connect(self: Box<Self>, _: &Handle, _: u64, hear: Hear) -> Result<(Arc<dyn Link>, Found), String> {
        let Self { node, stream, cable: Cable(state) } = *self;
        let (first, last) = {
            let mut log = stream.0.log.lock();
            log.links.push((Arc::downgrade(&state), hear.clone()));
            (Sequence(log.purged as u64 + 1), Sequence(log.messages.len() as u64))
        };
        let link = Arc::new(MemoryLink { knows: AtomicBool::new(false), node, stream, state, hear });
        let reading = Arc::downgrade(&link);
        std::thread::spawn(move || while reading.upgrade().is_some_and(|link| link.read()) {});
        Ok((link, Found { created: CREATED, first, last }))
    }
}

struct MemoryLink {
    /// Whether the node was told that it is cut off.
    knows: AtomicBool,
    node: NodeName,
    stream: MemoryStream,
    state: Arc<State>,
    hear: Hear,
}

impl MemoryLink {
    fn is_cut(&self) -> bool {
        self.state.cut.load(Ordering::Acquire)
    }

    /// Reads the next message, or waits a little for one.
    fn read(&self) -> bool {
        let is_cut = self.is_cut();
        if self.knows.swap(is_cut, Ordering::AcqRel) != is_cut {
            (self.hear)(Heard::Connected(!is_cut));
        }
        let message = {
            let mut log = self.stream.0.log.lock();
            let mut after = self.state.after.lock();
            let next = after.filter(|_| !self.is_cut()).map(Sequence::next);
            let next = next.map(|next| next.max(Sequence(log.purged as u64 + 1)));
            let message = next.and_then(|next| Some((next, log.messages.get(next.0 as usize - 1)?.clone())));
            match &message {
                Some((next, _)) => *after = Some(*next),
                None => {
                    drop(after);
                    self.stream.0.grown.wait_for(&mut log, LOOK);
                }
            }
            message
        };
        if let Some((sequence, wire)) = message {
            (self.hear)(Heard::Read(sequence, wire));
        }
        true
    }
}

impl Link for MemoryLink {
    fn publish(&self, number: u64, publish: &Publish) {
        if self.is_cut() {
            return (self.hear)(Heard::Replied(number, Reply::Failed));
        }
        self.stream.take(&Arc::downgrade(&self.state), &self.hear, number, publish);
    }

    fn fetch(&self, sequence: Sequence) {
        if !self.is_cut() {
            let log = self.stream.0.log.lock();
            let index = sequence.0 as usize - 1;
            let wire = log.messages.get(index).filter(|_| index >= log.purged).cloned();
            drop(log);
            (self.hear)(Heard::Fetched(sequence, wire));
        }
    }

    fn look(&self) {
        if !self.is_cut() {
            let last = self.stream.0.log.lock().messages.len() as u64;
            (self.hear)(Heard::End(Sequence(last)));
        }
    }

    fn follow(&self, after: Sequence) {
        *self.state.after.lock() = Some(after);
        (self.hear)(Heard::Following(after));
    }

    fn beat(&self, beat: &[u8]) {
        if self.is_cut() {
            return;
        }
        let links = self.stream.0.log.lock().links.clone();
        for (state, hear) in links {
            let is_there = state.upgrade().filter(|state| !state.cut.load(Ordering::Acquire));
            if is_there.is_some_and(|state| !Arc::ptr_eq(&state, &self.state)) {
                hear(Heard::Beat(beat.to_vec()));
            }
        }
    }

    fn purge(&self, below: Sequence) {
        self.stream.purge(below);
    }

    fn measure(&self) {
        if !self.is_cut() {
            let log = self.stream.0.log.lock();
            let bytes = log.messages.iter().skip(log.purged).map(|wire| wire.payload.len() as u64).sum();
            drop(log);
            (self.hear)(Heard::Bytes(bytes));
        }
    }

    fn put_plan(&self, hash: [u8; 32], bytes: &[u8]) -> Result<(), String> {
        if self.is_cut() {
            return Err("it is cut off".into());
        }
        self.stream.0.plans.lock().insert(hash, bytes.to_vec());
        Ok(())
    }

    fn plan(&self, hash: [u8; 32]) -> Result<Option<Vec<u8>>, String> {
        if self.is_cut() {
            return Err("it is cut off".into());
        }
        Ok(self.stream.0.plans.lock().get(&hash).cloned())
    }

    fn ask(&self, node: &NodeName, question: Vec<u8>, _: Duration) -> Asked {
        let answer = self.stream.0.answers.lock().get(&node.to_string()).cloned();
        let (there, state) = match answer.filter(|(there, _)| !self.is_cut() && !there.cut.load(Ordering::Acquire)) {
            Some((there, answer)) => ((there, answer), self.state.clone()),
            None => return Box::pin(async { Err(Unanswered::NotTaken("nobody is there".into())) }),
        };
        Box::pin(async move {
            let (there, answer) = there;
            let answer = answer(question).await;
            let lost = state.cut.load(Ordering::Acquire) || there.cut.load(Ordering::Acquire);
            if lost { Err(Unanswered::Unknown("it was cut off".into())) } else { Ok(answer) }
        })
    }

    fn answer_by(&self, answer: Answer) {
        self.stream.0.answers.lock().insert(self.node.to_string(), (self.state.clone(), answer));
    }

    fn step_down(&self) {
        self.stream.0.step_downs.fetch_add(1, Ordering::Relaxed);
    }
}
