//! The thread that drives a node of a cluster: what was heard goes to the [`Follower`], and what it orders is done here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::assemble::Node;
use super::copying::{Copying, wait_for};
use super::follower::{Follower, Order, Stuck};
use super::membership::{Heir, Membership, Seen};
use super::terms::Stage;
use super::threads::{join, spawn};
use crate::clock::wall_clock;
use crate::cluster::{
    Asking, Beat, Epoch, Fault, Fence, Found, Hear, Heard, Known, Link, NodeName, Patience, Peers, Publish, Sequence,
    State, Unanswered, Wire,
};
use crate::config::Config;
use crate::domain::Lsn;
use crate::domain::seating_plan::PlanHash;
use crate::engine::calls::{Forward, OwnerId, Secret, Sending};
use crate::engine::{Engine, Gauges, Inner};
use crate::error::OpenError;
use crate::store::committer::Way;
use crate::store::lock::DirLock;
use crate::store::plans::Plans;

/// How often the thread looks around.
const LOOK_AROUND: Duration = Duration::from_millis(50);
/// After how long something that did not get in at once is published again.
const PAUSE: Duration = Duration::from_millis(50);
/// How often this node's journal is made durable on its own disk.
pub(super) const SYNC: Duration = Duration::from_secs(1);
/// How long an owner appends nothing before it makes certain that it could.
const MARK: Duration = Duration::from_secs(1);
/// How long a fault of reading is let be before it is read again, of another replica that has to be elected first if it is damage,
/// and how often at one place: what none of three replicas has is not to be had.
const READ_AGAIN: Duration = Duration::from_millis(200);
const READ_ANOTHER: Duration = Duration::from_secs(1);
const READ_AGAIN_MAX: u32 = 3;
/// How often who hands over looks whether calls are still under way, and for how long; and who begins a term, whether
/// its replica has taken in everything.
const DRAINING: Duration = Duration::from_millis(2);
const DRAINING_MAX: Duration = Duration::from_secs(2);
/// How long who ends waits for what its term has decided to come into the log.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// For how long an owner may be unfit before another one is to own.
const UNFIT: Duration = Duration::from_secs(3);
/// How long who hands over waits until somebody else owns.
const HAND_OVER: Duration = Duration::from_secs(3);
/// Bytes of messages that were read and not taken in yet; past it reading waits.
const READ_AHEAD: u64 = 16 << 20;
/// What a message takes beside its body.
const MESSAGE_BYTES: u64 = 16 << 10;
/// What is taken in at once before the thread looks around.
const AT_ONCE: u32 = 64;
/// Messages that the log is told to forget at once, at the least.
const PURGE_AT_ONCE: u64 = 1_000;

/// What comes to the thread.
pub(super) enum Input {
    Heard(Heard),
    /// The term has something to be done.
    Filled,
    /// The node's own disk is to have everything up to there.
    Keep(Lsn, mpsc::Sender<()>),
    /// Somebody else is to own.
    StepDown,
    /// A node of this name is gone for good; why it cannot be forgotten, if it cannot.
    Forget(String, mpsc::Sender<Result<(), String>>),
    /// What is written is to be of the highest format that a node reads; why it cannot be, if it cannot.
    Upgrade(mpsc::Sender<Result<(), String>>),
    /// The node is to end.
    Stop,
}

/// How others reach the thread, and the other nodes.
pub(in crate::engine) struct Seat {
    runtime: Handle,
    owners: watch::Sender<Option<OwnerId>>,
    /// How far this node's journal is durable on its own disk, for those who copy it.
    synced: Arc<ArcSwap<State>>,
    copying: Copying,
    inbox: mpsc::Sender<Input>,
    thread: Mutex<Option<JoinHandle<()>>>,
    shown: Arc<ArcSwap<Membership>>,
    link: Arc<dyn Link>,
}

impl Forward for Seat {
    fn owners(&self) -> watch::Receiver<Option<OwnerId>> {
        self.owners.subscribe()
    }

    fn send<'a>(&'a self, to: &'a OwnerId, question: Vec<u8>, time_left: Duration) -> Sending<'a, Vec<u8>> {
        let Some(node) = NodeName::new(&to.node) else {
            return Box::pin(async { Err(Unanswered::NotTaken("that is no name of a node".into())) });
        };
        self.link.ask(&node, Asking::Call.of(question), time_left)
    }

    fn put_plan(&self, hash: PlanHash, json: Vec<u8>) -> Sending<'_, ()> {
        let link = self.link.clone();
        self.on_blocking_thread(move || link.put_plan(hash.0, &json))
    }

    fn plan(&self, hash: PlanHash) -> Sending<'_, Option<Vec<u8>>> {
        let link = self.link.clone();
        self.on_blocking_thread(move || link.plan(hash.0))
    }
}

impl Seat {
    fn on_blocking_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, String> + Send + 'static,
    ) -> Sending<'_, T> {
        let done = self.runtime.spawn_blocking(work);
        Box::pin(async move {
            let done = done.await.map_err(|error| Unanswered::Unknown(error.to_string()))?;
            done.map_err(Unanswered::Unknown)
        })
    }

    /// From now on calls are sent to the node that owns, and those of other nodes are taken while this one does.
    pub(super) fn take_calls(self: &Arc<Self>, inner: &Arc<Inner>, secret: Secret) {
        inner.forward_by(self.clone(), secret, false);
        let (inner, seat) = (Arc::downgrade(inner), Arc::downgrade(self));
        self.link.answer_by(Arc::new(move |mut question| {
            let there = inner.upgrade().zip(seat.upgrade());
            Box::pin(async move {
                // Nothing is no answer that anybody could read.
                let Some((inner, seat)) = there else { return Vec::new() };
                match question.pop() {
                    Some(kind) if kind == Asking::Call as u8 => {
                        let me = seat.membership().as_owner();
                        Engine(inner).serve_call(&question, me.as_ref()).await.unwrap_or_default()
                    }
                    Some(kind) if kind == Asking::Copy as u8 => {
                        let synced = seat.synced.load_full();
                        let copy = move || seat.copying.answer(&question, &synced);
                        tokio::task::spawn_blocking(copy).await.unwrap_or_default()
                    }
                    Some(kind) if kind == Asking::Forget as u8 => {
                        let Ok(name) = String::from_utf8(question) else { return Vec::new() };
                        seat.order(|done| Input::Forget(name, done)).await
                    }
                    Some(kind) if kind == Asking::Upgrade as u8 => seat.order(Input::Upgrade).await,
                    Some(kind) if kind == Asking::StepDown as u8 => {
                        seat.step_down();
                        vec![kind]
                    }
                    _ => Vec::new(),
                }
            })
        }));
    }

    /// How things are.
    pub(in crate::engine) fn membership(&self) -> Arc<Membership> {
        self.shown.load_full()
    }

    /// Somebody else is to own.
    pub(in crate::engine) fn step_down(&self) {
        let _ = self.inbox.send(Input::StepDown);
    }

    /// Has the thread do something; why it cannot, in words.
    async fn order(&self, order: impl FnOnce(mpsc::Sender<Result<(), String>>) -> Input) -> Vec<u8> {
        let (done, is_done) = mpsc::channel();
        // Without the thread the other end is gone.
        let _ = self.inbox.send(order(done));
        let told = tokio::task::spawn_blocking(move || is_done.recv()).await;
        let told =
            told.map_or_else(|error| Err(error.to_string()), |told| told.unwrap_or(Err("this node ends".into())));
        told.err().unwrap_or_default().into_bytes()
    }

    /// Hands over, makes the node's journal durable, and ends.
    pub(in crate::engine) fn close(&self, node: &Node) {
        let _ = self.inbox.send(Input::Stop);
        if let Some(thread) = self.thread.lock().take() {
            join(thread, "cluster", &node.journal);
        }
    }

    /// As [`close`](Self::close), without waiting for it.
    pub(in crate::engine) fn let_go(&self) {
        let _ = self.inbox.send(Input::Stop);
    }
}

/// What is heard before anybody listens, and after.
pub(super) struct Inbox {
    sender: mpsc::Sender<Input>,
    receiver: mpsc::Receiver<Input>,
    /// Bytes of messages of the stream in it. Once this is gone, nobody listens any more.
    unread: Arc<AtomicU64>,
    /// The last lsn that the node's own disk is known to have.
    kept: Arc<AtomicU64>,
}

impl Inbox {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel();
        Self { sender, receiver, unread: Arc::default(), kept: Arc::default() }
    }

    /// What is heard goes in here.
    pub(super) fn hear(&self) -> Hear {
        let (sender, unread) = (self.sender.clone(), Arc::downgrade(&self.unread));
        Arc::new(move |heard| {
            if let Some(bytes) = bytes_of(&heard) {
                while unread.upgrade().is_some_and(|unread| unread.load(Ordering::Relaxed) > READ_AHEAD) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                let Some(unread) = unread.upgrade() else { return };
                unread.fetch_add(bytes, Ordering::Relaxed);
            }
            // Nobody listens any more once the node has ended.
            let _ = sender.send(Input::Heard(heard));
        })
    }

    /// What was heard is not in it any more.
    fn taken(&self, heard: &Heard) {
        if let Some(bytes) = bytes_of(heard) {
            self.unread.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Another node that could be asked, of those that are heard of within this time: one that has read the log from its
    /// beginning, and has all on its disk that is before `first`.
    pub(super) fn wait_for_peer(&self, first: Sequence, at_most: Duration) -> Option<Beat> {
        let has_it = |beat: &Beat| beat.sequence > 0 && Sequence(beat.synced).next() >= first;
        wait_for(at_most, |left| match self.receiver.recv_timeout(left).ok()? {
            Input::Heard(Heard::Beat(bytes)) => Some(Beat::decode(&bytes).filter(has_it)),
            _ => Some(None),
        })
    }

    /// A message of the stream that was asked for.
    pub(super) fn wait_for_message(&self, wanted: Sequence, at_most: Duration) -> Option<Wire> {
        wait_for(at_most, |left| match self.receiver.recv_timeout(left).ok()? {
            Input::Heard(Heard::Fetched(sequence, wire)) if sequence == wanted => Some(wire),
            _ => Some(None),
        })
    }

    /// What makes the node's own disk have something, by way of the thread.
    pub(super) fn keep(&self) -> impl Fn(Lsn) -> bool + Send + Sync + 'static {
        let (sender, kept) = (self.sender.clone(), self.kept.clone());
        move |lsn| {
            let has_it = || kept.load(Ordering::Acquire) >= lsn.0;
            let ask = || {
                let (done, is_done) = mpsc::channel();
                sender.send(Input::Keep(lsn, done)).is_ok() && is_done.recv().is_ok()
            };
            // The thread has ended by then if this is the last time: what it knew at its end holds.
            has_it() || ask() || has_it()
        }
    }
}

/// What a message of the stream that was read takes in memory, about; `None` of all else.
fn bytes_of(heard: &Heard) -> Option<u64> {
    match heard {
        Heard::Read(_, wire) => Some(MESSAGE_BYTES + wire.payload.len() as u64),
        _ => None,
    }
}

/// What a node is, and how it behaves.
pub(super) struct Character {
    pub(super) me: Fence,
    pub(super) patience: Patience,
    /// Whether it may begin a new cluster.
    pub(super) founds: bool,
    /// Bytes that the log may have before no more holds are taken.
    pub(super) log_bytes_max: u64,
    pub(super) config: Config,
}

/// How far an owner has come that lets another one own.
#[derive(Debug, Clone, Copy)]
enum Leaving {
    No,
    /// No more calls are let in; those under way come to an end.
    Retiring(Instant),
    /// The term decides nothing more, and what it has decided goes into the log.
    Draining(Instant),
    /// The next one was named.
    HandedOver(Instant),
}

pub(super) struct Driver {
    follower: Follower,
    link: Arc<dyn Link>,
    node: Node,
    stage: Stage,
    gauges: Arc<Gauges>,
    plans: Arc<Plans>,
    character: Character,
    peers: Peers,
    inbox: Inbox,
    /// Messages of the stream that are taken in once there is room for them.
    held_back: VecDeque<Heard>,
    /// A term that is to begin once the replica has taken in everything, and since when.
    beginning: Option<(Epoch, Instant)>,
    log_bytes: u64,
    /// Whether this node is to own after itself, in its own format.
    upgrading: bool,
    /// Whether another node's journal was found to differ.
    contradicted_by: Option<String>,
    /// Whether the thread was told that the term has something.
    filled: Arc<AtomicBool>,
    shown: Arc<ArcSwap<Membership>>,
    owners: watch::Sender<Option<OwnerId>>,
    synced: Arc<ArcSwap<State>>,
    begun: Instant,
    /// What is to be published once more, and when.
    later: Option<(Instant, u64, Publish)>,
    /// When to read again, after a fault.
    read_again: Option<Instant>,
    /// Behind which message the reading begins that was asked for: what comes before that is of an older one.
    awaited: Option<Sequence>,
    /// Behind which message there was a fault last, and how often.
    faults: (Sequence, u32),
    /// When the last message was read.
    moved_at: Instant,
    /// The end of the stream, as far as it is known.
    end: Sequence,
    connected: bool,
    /// Whether the node is to end.
    closing: bool,
    leaving: Leaving,
    /// Since when this owner is not fit to be one.
    unfit: Option<Instant>,
    /// Calls that are under way.
    calls: Arc<AtomicU64>,
    /// Who is to own next.
    heir: Heir,
    terms: u64,
    /// The log was told to forget what is below it.
    purged: Sequence,
    beat_at: Instant,
    synced_at: Instant,
    founded_at: Option<Instant>,
    _lock: Arc<DirLock>,
}

impl Driver {
    #[allow(clippy::too_many_arguments, reason = "the parts of a node, put together once")]
    pub(super) fn start(
        follower: Follower,
        link: Arc<dyn Link>,
        found: Found,
        node: Node,
        stage: Stage,
        gauges: Arc<Gauges>,
        character: Character,
        calls: Arc<AtomicU64>,
        inbox: Inbox,
        copying: Copying,
        plans: Arc<Plans>,
        known: Known,
        lock: Arc<DirLock>,
    ) -> Result<Seat, OpenError> {
        let (sender, now, way) = (inbox.sender.clone(), Instant::now(), link.clone());
        let peers = Peers::new(character.me.clone(), character.patience, Duration::ZERO, known);
        let shown = Membership {
            node: character.me.node.clone(),
            owner: None,
            owns: false,
            epoch: Epoch::default(),
            sequence: Sequence::default(),
            lag: 0,
            news: now,
            connected: true,
            moved: now,
            terms: 0,
            peers: BTreeMap::new(),
            known: BTreeMap::new(),
            log_bytes: 0,
            contradicted_by: None,
        };
        let shown = Arc::new(ArcSwap::from_pointee(shown));
        let (owners, runtime) = (watch::Sender::new(None), stage.host.blocking.clone());
        let synced = Arc::new(ArcSwap::from_pointee(follower.synced().clone()));
        inbox.kept.store(follower.synced().tip.next_lsn.0 - 1, Ordering::Release);
        let mut driver = Self {
            synced: synced.clone(),
            follower,
            link,
            node,
            stage,
            gauges,
            plans,
            character,
            peers,
            inbox,
            held_back: VecDeque::new(),
            beginning: None,
            log_bytes: 0,
            upgrading: false,
            contradicted_by: None,
            filled: Arc::default(),
            shown: shown.clone(),
            owners: owners.clone(),
            begun: now,
            later: None,
            read_again: Some(now),
            awaited: None,
            faults: (Sequence::default(), 0),
            moved_at: now,
            end: found.last,
            connected: true,
            closing: false,
            leaving: Leaving::No,
            unfit: None,
            calls,
            heir: Heir::default(),
            terms: 0,
            purged: Sequence::default(),
            beat_at: now,
            synced_at: now,
            founded_at: None,
            _lock: lock,
        };
        // Who owns is known from before.
        driver.show();
        let failing = driver.node.journal.clone();
        let thread = spawn("cluster", move || {
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| driver.run())).is_err() {
                failing.poison("the thread of the cluster panicked");
            }
        })?;
        Ok(Seat { inbox: sender, thread: Mutex::new(Some(thread)), shown, link: way, runtime, owners, synced, copying })
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    fn run(mut self) {
        let ended = loop {
            match self.turn() {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(stuck) => break Err(stuck),
            }
        };
        self.stage.end();
        match ended.and_then(|()| self.follower.sync()) {
            Ok(()) | Err(Stuck::Closed) => self.node.journal.close(),
            Err(stuck) => self.node.journal.poison(&stuck.to_string()),
        }
        self.show();
    }

    /// Waits for something, and does what comes of it; false if the node is to end.
    fn turn(&mut self) -> Result<bool, Stuck> {
        let in_a_hurry = matches!(self.leaving, Leaving::Retiring(_)) || self.beginning.is_some();
        let most = match in_a_hurry {
            _ if !self.held_back.is_empty() && !self.has_too_much() => Duration::ZERO,
            true => DRAINING,
            false => LOOK_AROUND,
        };
        let until = self.later.as_ref().map_or(most, |(at, ..)| at.saturating_duration_since(Instant::now()));
        let mut next = self.inbox.receiver.recv_timeout(until.min(most)).ok();
        let mut taken = 0;
        while taken < AT_ONCE
            && !self.has_too_much()
            && let Some(heard) = self.held_back.pop_front()
        {
            self.hear(&heard)?;
            self.go_on()?;
            taken += 1;
        }
        while let Some(input) = next {
            match input {
                // All of them, so that none overtakes another.
                Input::Heard(heard @ (Heard::Read(..) | Heard::Following(_)))
                    if !self.held_back.is_empty() || self.has_too_much() =>
                {
                    self.held_back.push_back(heard);
                }
                input => self.take(input)?,
            }
            self.go_on()?;
            taken += 1;
            // Somebody else's turn now and then.
            next = if taken < AT_ONCE { self.inbox.receiver.try_recv().ok() } else { None };
        }
        if self.node.journal.is_closed() {
            return Err(Stuck::Closed);
        }
        self.look_around()?;
        self.go_on()?;
        self.show();
        Ok(!self.is_done())
    }

    fn take(&mut self, input: Input) -> Result<(), Stuck> {
        match input {
            Input::Heard(heard) => return self.hear(&heard),
            Input::Filled => self.filled.store(false, Ordering::Release),
            Input::Keep(lsn, done) => {
                if Lsn(self.follower.synced().tip.next_lsn.0 - 1) < lsn {
                    self.follower.sync()?;
                }
                let _ = done.send(());
            }
            Input::StepDown if self.peers.successor(self.now()).is_none() => {
                tracing::warn!("no other node could own the log: this one goes on");
            }
            Input::StepDown => self.leave(),
            Input::Forget(node, done) => {
                let _ = done.send(self.forget(&node));
            }
            Input::Upgrade(done) => {
                let _ = done.send(self.upgrade());
            }
            Input::Stop => {
                self.closing = true;
                // Nobody is to hand over to a node that goes.
                self.beat();
                self.leave();
            }
        }
        Ok(())
    }

    fn hear(&mut self, heard: &Heard) -> Result<(), Stuck> {
        let now = self.now();
        match heard {
            Heard::Read(sequence, _) => {
                self.inbox.taken(heard);
                self.end = self.end.max(*sequence);
                // What was read too far ahead comes again.
                if self.read_again.is_some() || self.awaited.is_some() {
                    return Ok(());
                }
            }
            Heard::Following(after) => {
                self.awaited.take_if(|awaited| awaited == after);
                return Ok(());
            }
            Heard::Fetched(sequence, Some(_)) => self.end = self.end.max(*sequence),
            Heard::End(last) => self.end = self.end.max(*last),
            Heard::Beat(bytes) => {
                if let Some(beat) = Beat::decode(bytes) {
                    self.peers.hear(now, wall_clock(), beat, self.follower.state());
                }
                return Ok(());
            }
            Heard::Bytes(bytes) => {
                self.log_bytes = *bytes;
                return Ok(());
            }
            Heard::Connected(connected) => {
                self.connected = *connected;
                return Ok(());
            }
            Heard::NotSynced(server) => return Err(Stuck::NotSynced(server.clone())),
            Heard::OtherStream => return Err(Fault::OtherStream.into()),
            Heard::Namesake(life) => {
                if *life > self.character.me.life {
                    return Err(Stuck::Namesake(self.character.me.node.to_string()));
                }
                return Ok(());
            }
            _ => {}
        }
        let before = self.follower.state().last_sequence;
        match self.follower.hear(now, heard) {
            Ok(()) => {
                if self.follower.state().last_sequence > before {
                    self.moved_at = Instant::now();
                    self.peers.has_news(now);
                }
                Ok(())
            }
            Err(fault @ (Fault::Gap { .. } | Fault::Broken { .. })) => self.read_once_more(fault),
            Err(fault) => Err(fault.into()),
        }
    }

    /// Reads again after a fault, but not for ever: what is purged does not come back, and each change of the stream's leader
    /// holds up all nodes.
    fn read_once_more(&mut self, fault: Fault) -> Result<(), Stuck> {
        let last = self.follower.state().last_sequence;
        let times = if self.faults.0 == last { self.faults.1 + 1 } else { 1 };
        self.faults = (last, times);
        if times > READ_AGAIN_MAX {
            return Err(match fault {
                Fault::Gap { .. } => Stuck::Forgotten(fault),
                fault => fault.into(),
            });
        }
        let mut pause = READ_AGAIN;
        if matches!(fault, Fault::Broken { .. }) {
            tracing::error!(%fault, "another replica of the stream is asked");
            self.link.step_down();
            pause = READ_ANOTHER;
        }
        self.read_again.get_or_insert(Instant::now() + pause);
        Ok(())
    }

    /// Does what the follower orders.
    fn go_on(&mut self) -> Result<(), Stuck> {
        while let Some(order) = self.follower.go_on()? {
            match order {
                Order::Publish { number, publish, again: true } => {
                    self.later = Some((Instant::now() + PAUSE, number, publish));
                }
                Order::Publish { number, publish, again: false } => {
                    self.later = None;
                    self.link.publish(number, &publish);
                }
                Order::Fetch(sequence) => self.link.fetch(sequence),
                Order::Look => self.link.look(),
                Order::Plan(hash) => self.fetch_plan(hash),
                Order::Begin(epoch) => self.begin(epoch)?,
                Order::End => {
                    tracing::warn!("another node owns the log now");
                    self.stage.end();
                    self.beginning = None;
                    self.upgrading = false;
                    (self.leaving, self.heir) = (Leaving::No, Heir::default());
                }
                Order::Drained => {
                    self.stage.end();
                    if std::mem::take(&mut self.upgrading) && !self.closing {
                        self.leaving = Leaving::No;
                        self.follower.member().fence_after_itself(self.character.me.format);
                    } else {
                        self.hand_over();
                    }
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, epoch: Epoch) -> Result<(), Stuck> {
        (self.leaving, self.heir) = (Leaving::No, Heir::default());
        self.beginning = (!self.closing).then(|| (epoch, Instant::now()));
        self.go_on_beginning()
    }

    /// Begins the term, once the replica has taken in all that came before it. Meanwhile the thread goes on: others
    /// have to hear that this node lives.
    fn go_on_beginning(&mut self) -> Result<(), Stuck> {
        let Some((epoch, since)) = self.beginning else { return Ok(()) };
        if self.node.replica.applied() < self.node.journal.durable() {
            if since.elapsed() > UNFIT && self.heir.is_nobody() {
                self.name_heir();
                tracing::warn!(%epoch, next = ?self.heir.0, "this node has not taken in yet what is in the log");
                self.beat();
            }
            return Ok(());
        }
        self.beginning = None;
        self.heir = Heir::default();
        let (sender, filled) = (self.inbox.sender.clone(), self.filled.clone());
        filled.store(false, Ordering::Release);
        let wake = Box::new(move || {
            if !filled.swap(true, Ordering::AcqRel) {
                let _ = sender.send(Input::Filled);
            }
        });
        let begun = self.begun;
        let way = Way::Shared { wake, elapsed: Box::new(move || begun.elapsed()) };
        let batches = self.stage.begin(&self.node, way).map_err(|_| Stuck::Closed)?;
        self.follower.begun(batches);
        self.terms += 1;
        tracing::info!(%epoch, "this node owns the log");
        self.beat();
        Ok(())
    }

    /// Lets the term come to its end, and another node own after it.
    fn leave(&mut self) {
        if self.beginning.take().is_some() {
            return self.hand_over();
        }
        if self.follower.has_term() && matches!(self.leaving, Leaving::No) {
            self.stage.leave();
            self.leaving = Leaving::Retiring(Instant::now());
        }
    }

    /// Has a seating plan on this node's own disk, before somebody needs it.
    fn fetch_plan(&self, hash: PlanHash) {
        let plans = self.plans.clone();
        self.stage.host.blocking.spawn_blocking(move || {
            if let Err(error) = plans.get(hash.0) {
                tracing::warn!(%hash, %error, "a seating plan is not here yet; it is fetched when it is needed");
            }
        });
    }

    /// Names who is to own from now on.
    fn hand_over(&mut self) {
        self.leaving = Leaving::HandedOver(Instant::now());
        self.name_heir();
        self.beat();
    }

    /// Names who is to own after what this node has read.
    fn name_heir(&mut self) {
        let epoch = self.follower.state().epoch;
        self.heir = Heir(self.peers.successor(self.now()).map(|node| (epoch, node)));
    }

    /// Goes on to let another node own.
    fn go_on_leaving(&mut self) -> Result<(), Stuck> {
        match self.leaving {
            Leaving::Retiring(since) if self.calls.load(Ordering::Acquire) == 0 || since.elapsed() > DRAINING_MAX => {
                self.leaving = Leaving::Draining(Instant::now());
                self.stage.retire();
                self.stage.close();
            }
            // Nobody came.
            Leaving::HandedOver(since) if !self.closing && since.elapsed() > HAND_OVER => {
                let epoch = self.follower.state().epoch;
                return self.begin(epoch);
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the node can end: it has nothing to hand over, or waits no longer for somebody to take it.
    fn is_done(&mut self) -> bool {
        self.closing
            && match self.leaving {
                Leaving::No => !self.follower.has_term(),
                Leaving::Retiring(_) => false,
                // Nobody was told of the rest.
                Leaving::Draining(since) => since.elapsed() > DRAIN_MAX,
                Leaving::HandedOver(since) => self.heir.is_nobody() || since.elapsed() > HAND_OVER,
            }
    }

    fn look_around(&mut self) -> Result<(), Stuck> {
        let (now, instant) = (self.now(), Instant::now());
        if let Some((_, number, publish)) = self.later.take_if(|(at, ..)| *at <= instant) {
            self.link.publish(number, &publish);
        }
        if self.read_again.take_if(|at| *at <= instant).is_some() {
            let last = self.follower.state().last_sequence;
            self.awaited = Some(last);
            self.link.follow(last);
        }
        if self.follower.member().is_late(now) {
            self.follower.member().give_up();
            self.name_heir();
            tracing::warn!(next = ?self.heir.0, "this node does not come to read up to its fence");
            self.beat();
        }
        self.go_on_beginning()?;
        let state = self.follower.state().clone();
        if state.cluster.is_none() && self.character.founds && self.end == Sequence(0) {
            let is_due = self.founded_at.is_none_or(|at| at.elapsed() > self.character.patience.suspect_after);
            if is_due {
                self.founded_at = Some(instant);
                self.follower.found(super::drawn());
            }
        }
        self.go_on_leaving()?;
        let (fit, closing, connected) = (self.is_ready(), self.closing, self.connected);
        let member = self.follower.member();
        if member.owns() {
            // Also with nothing to write an owner has to know whether it still is one.
            if self.moved_at.elapsed() >= MARK && member.ready().is_some() {
                // It is idle, and owns.
                let _ = member.mark();
            }
            let is_unfit = !fit || self.peers.is_off(now);
            let since = is_unfit.then(|| *self.unfit.get_or_insert(instant));
            self.unfit = since.filter(|since| since.elapsed() <= UNFIT);
            if since.is_some() && self.unfit.is_none() {
                self.take(Input::StepDown)?;
            }
            return self.do_now_and_then();
        }
        let could = !member.is_candidate() && !closing && connected && self.held_back.is_empty();
        self.compare(now, &state);
        if could
            && self.contradicted_by.is_none()
            && self.is_ready()
            && self.end <= state.last_sequence
            && self.peers.should_own(now, &state)
        {
            tracing::warn!(epoch = %state.epoch, "no news of the owner of the log: this node wants to own");
            self.peers.tries(now);
            let format = self.writes();
            self.follower.member().fence(format);
        }
        self.do_now_and_then()
    }

    fn do_now_and_then(&mut self) -> Result<(), Stuck> {
        if self.beat_at.elapsed() >= self.character.patience.beat {
            self.beat();
        }
        if self.synced_at.elapsed() >= SYNC {
            self.synced_at = Instant::now();
            self.go_on()?;
            self.follower.remember(self.peers.known());
            self.follower.sync()?;
            self.purge();
            self.watch_the_log();
        }
        Ok(())
    }

    /// Looks whether the others that have read as far have the same journal.
    fn compare(&mut self, now: Duration, state: &State) {
        let other = self.peers.contradicted_by(now, state);
        if other != self.contradicted_by {
            if let Some(node) = &other {
                tracing::error!(%node, read = %state.last_sequence, "this node's journal is another than that node's");
            }
            self.contradicted_by = other;
        }
    }

    /// Takes no more holds while the log is at its limit.
    fn watch_the_log(&mut self) {
        let has_term = self.follower.has_term();
        if has_term {
            self.link.measure();
        } else {
            self.log_bytes = 0;
        }
        let full = self.log_bytes > self.character.log_bytes_max;
        if self.gauges.log_full.swap(full, Ordering::Relaxed) != full {
            let (bytes, most) = (self.log_bytes, self.character.log_bytes_max);
            tracing::warn!(bytes, most, full, "the log is at its limit, or is not any more");
        }
    }

    /// Forgets a node that is gone for good, as the owner of the log.
    fn forget(&mut self, node: &str) -> Result<(), String> {
        if !self.follower.has_term() {
            return Err("this node does not own the log".into());
        }
        self.peers.forget(self.now(), self.follower.state().epoch, node)?;
        tracing::warn!(node, "a node is forgotten: the log keeps nothing for it any more");
        self.follower.remember(self.peers.known());
        self.beat();
        Ok(())
    }

    /// The format in which this node would write as the owner: that of the owner before it, and at first the lowest
    /// that those read who live.
    fn writes(&self) -> u32 {
        let owner = self.follower.state().owner.as_ref();
        owner.map_or_else(|| self.peers.read_by_all(self.now(), self.character.me.format), |owner| owner.format)
    }

    /// Lets what is written be of the highest format that a node reads, by a term of this node's own after this one.
    fn upgrade(&mut self) -> Result<(), String> {
        if !self.follower.has_term() || !matches!(self.leaving, Leaving::No) {
            return Err("this node does not own the log".into());
        }
        let (now, own) = (self.now(), self.character.me.format);
        let format = self.peers.read_by_any(now, own);
        if self.writes() >= format {
            return Ok(());
        }
        let mut others = self.peers.who_cannot_read(now, format);
        if own < format {
            others.push(self.character.me.node.to_string());
        }
        if !others.is_empty() {
            let others = others.join(", ");
            return Err(format!(
                "format {format} cannot be read by these nodes, or they are not there to say so: {others}"
            ));
        }
        self.upgrading = true;
        self.leave();
        Ok(())
    }

    /// Whether this node has so much that is in no checkpoint, or so little room, that it reads no further for now. An
    /// owner has to see a fence, and who wants to own has to come to its own.
    fn has_too_much(&mut self) -> bool {
        let member = self.follower.member();
        if member.owns() || member.is_candidate() {
            return false;
        }
        let Self { gauges, node, character, .. } = self;
        let unseen = node.journal.durable().0.saturating_sub(node.replica.applied().0);
        gauges.storage_full.load(Ordering::Relaxed)
            || gauges.has_too_much(&node.journal, &character.config.checkpoint)
            || unseen > character.config.journal.max_waiting_events
    }

    /// Lets the log forget what all nodes that are known have on their own disks.
    fn purge(&mut self) {
        let synced = self.follower.synced().last_sequence;
        let below = self.peers.synced_by_all(synced).filter(|_| self.follower.has_term());
        let at_once = if self.gauges.log_full.load(Ordering::Relaxed) { 1 } else { PURGE_AT_ONCE };
        if let Some(below) = below.filter(|below| below.0 >= self.purged.0 + at_once) {
            self.purged = below;
            self.link.purge(below);
        }
    }

    /// Whether this node could own.
    fn is_ready(&self) -> bool {
        !self.gauges.storage_full.load(Ordering::Relaxed)
    }

    fn beat(&mut self) {
        self.beat_at = Instant::now();
        let owns = self.follower.member().owns();
        let (ready, synced) = (self.is_ready() && !self.closing, self.follower.synced().last_sequence);
        let ready = ready && self.contradicted_by.is_none();
        let known = self.peers.known_to_all(synced);
        let State { epoch, last_sequence, tip, .. } = self.follower.state();
        let known_of = if owns { *epoch } else { self.peers.known().of };
        let beat = Beat {
            node: self.character.me.node.to_string(),
            life: self.character.me.life,
            epoch: epoch.0,
            owns,
            sequence: last_sequence.0,
            next_lsn: tip.next_lsn.0,
            synced: synced.0,
            wall_millis: wall_clock().as_millis(),
            ready,
            successor: self.heir.after(*epoch),
            crc: tip.crc,
            known,
            known_of: known_of.0,
            reads: self.character.me.format,
            writes: self.writes(),
        };
        self.link.beat(&beat.encode());
    }

    /// Lets others see how things are.
    fn show(&mut self) {
        if **self.synced.load() != *self.follower.synced() {
            let synced = self.follower.synced().clone();
            self.inbox.kept.store(synced.tip.next_lsn.0 - 1, Ordering::Release);
            self.synced.store(Arc::new(synced));
        }
        let begun = self.begun;
        let owns = self.follower.has_term();
        let state = self.follower.state();
        let seen = |peer: &crate::cluster::Peer| Seen {
            lsn: Lsn(peer.beat.next_lsn.saturating_sub(1)),
            sequence: Sequence(peer.beat.sequence),
            owns: peer.beat.owns,
            ready: peer.beat.ready,
            at: begun + peer.heard,
        };
        let shown = Membership {
            node: self.character.me.node.clone(),
            owner: state.owner.as_ref().map(|owner| owner.node.clone()),
            owns,
            epoch: state.epoch,
            sequence: state.last_sequence,
            lag: self.end.max(self.peers.furthest(self.now())).0.saturating_sub(state.last_sequence.0),
            news: begun + self.peers.news(),
            connected: self.connected,
            moved: self.moved_at,
            terms: self.terms,
            peers: self.peers.all().map(|peer| (peer.beat.node.clone(), seen(peer))).collect(),
            known: self.peers.known().synced.iter().map(|(node, synced)| (node.clone(), Sequence(*synced))).collect(),
            log_bytes: self.log_bytes,
            contradicted_by: self.contradicted_by.clone(),
        };
        let owner = shown.owner.as_ref().map(|node| OwnerId { node: node.to_string(), epoch: shown.epoch.0 });
        self.shown.store(Arc::new(shown));
        self.owners.send_if_modified(|known| {
            let changes = *known != owner;
            *known = owner;
            changes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sequence: u64, bytes: usize) -> Heard {
        Heard::Read(Sequence(sequence), Wire { headers: Vec::new(), payload: vec![0; bytes] })
    }

    /// Reads `messages` of so many bytes on a thread of its own; gives that, and how many were taken in so far.
    fn reading(inbox: &Inbox, messages: u64, bytes: usize) -> (JoinHandle<()>, Arc<AtomicU64>) {
        let (hear, taken) = (inbox.hear(), Arc::new(AtomicU64::new(0)));
        let counted = taken.clone();
        let thread = std::thread::spawn(move || {
            for n in 1..=messages {
                hear(read(n, bytes));
                counted.store(n, Ordering::Release);
            }
        });
        (thread, taken)
    }

    /// Until nothing more is taken in.
    fn still(taken: &AtomicU64) -> u64 {
        let (mut last, mut same) = (0, 0);
        while same < 50 {
            std::thread::sleep(Duration::from_millis(2));
            let now = taken.load(Ordering::Acquire);
            (last, same) = (now, if now == last && now > 0 { same + 1 } else { 0 });
        }
        last
    }

    #[test]
    fn who_reads_ahead_waits_and_is_let_go_when_the_node_ends() {
        let inbox = Inbox::new();
        let (thread, taken) = reading(&inbox, 5_000, 0);
        assert!(still(&taken) < 2_000);
        drop(inbox);
        let begun = Instant::now();
        while !thread.is_finished() {
            assert!(begun.elapsed() < Duration::from_secs(30), "it waits for ever");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn what_is_read_ahead_is_bounded_in_bytes() {
        const BYTES: usize = 512 << 10;
        let inbox = Inbox::new();
        let (thread, taken) = reading(&inbox, 200, BYTES);
        let ahead = still(&taken);
        assert!((1..=100).contains(&ahead), "{ahead} messages of 512 KiB");
        let mut read = 0;
        while read < 200 {
            if let Input::Heard(heard) = inbox.receiver.recv().unwrap() {
                inbox.taken(&heard);
                read += 1;
            }
        }
        thread.join().unwrap();
    }
}
