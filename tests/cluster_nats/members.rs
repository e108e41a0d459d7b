//! Three nodes that run the protocol on real servers, while those are killed and stopped and the nodes depose each
//! other. `BOXOFFICE_CLUSTER_SECONDS` says for how long.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use boxoffice::cluster::{
    Appending, ClusterConfig, FORMAT, Fence, Fencing, Heard, Link as _, Next, NodeName, Publish, Reader, Reply,
    Sequence, Step, Taken, Wire,
};
use boxoffice::store::journal::{FrameRef, Tip, WholeFrame};
use boxoffice::testing::random::{Random, seed};

use crate::node::{Node, PATIENCE, base};
use crate::servers::{Servers, eventually};

/// How long a node waits until it looks whether there is anything to do.
const TICK: Duration = Duration::from_millis(5);

enum Role {
    Following,
    Fencing(Fencing),
    Owning(Appending),
}

/// A node whose journal is in memory.
struct Member {
    node: Node,
    me: Fence,
    reader: Reader,
    role: Role,
    journal: Vec<WholeFrame>,
    /// The last publish, as long as it is not answered, with what it expected. What older ones are answered is of no
    /// use.
    asked: Option<(u64, Option<Sequence>)>,
    numbers: u64,
    /// The end that a fence waits to have read.
    looking: Option<Sequence>,
    /// What it appends, and has not been told of.
    under_way: Option<Vec<u8>>,
    written: u64,
    began: Instant,
    truth: Arc<Truth>,
}

#[derive(Default)]
struct Truth {
    /// What was acknowledged to somebody, in the order in which that was.
    acknowledged: Mutex<Vec<Vec<u8>>>,
    epochs: AtomicU64,
    deposed: AtomicU64,
    /// Nobody appends or fences any more.
    is_ending: AtomicBool,
    has_ended: AtomicBool,
}

impl Member {
    fn begin(config: ClusterConfig, life: u64, truth: Arc<Truth>) -> Self {
        let me = Fence { node: NodeName::new(&config.node).unwrap(), life, format: FORMAT };
        let node = Node::connect(config, life).unwrap();
        let reader = Reader::join(node.found.created, Tip::default());
        node.follow(0);
        Self {
            node,
            me,
            reader,
            role: Role::Following,
            journal: Vec::new(),
            asked: None,
            numbers: 0,
            looking: None,
            under_way: None,
            written: 0,
            began: Instant::now(),
            truth,
        }
    }

    /// Until all is over. Its journal.
    fn run(mut self, mut random: Random) -> Vec<WholeFrame> {
        while !self.truth.has_ended.load(Ordering::SeqCst) {
            match self.node.heard.recv_timeout(TICK) {
                Ok(heard) => self.hear(heard),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => panic!("the link is gone"),
            }
            self.act(&mut random);
        }
        self.journal
    }

    fn last(&self) -> Sequence {
        self.reader.state().last_sequence
    }

    fn act(&mut self, random: &mut Random) {
        let is_ending = self.truth.is_ending.load(Ordering::SeqCst);
        let has_begun = self.reader.state().cluster.is_some();
        match &mut self.role {
            Role::Owning(appending) if appending.is_idle() && !is_ending => {
                let tip = appending.tip();
                self.written += 1;
                // Now and then a large one.
                let length = if random.chance(20) { 1 + random.below(200_000) as usize } else { 200 };
                let mut payload = format!("{} {} {}", self.me.node, self.me.life, self.written).into_bytes();
                payload.resize(payload.len() + length, b' ');
                let at = tip.at.plus_millis(1);
                let frame = FrameRef { first_lsn: tip.next_lsn, count: 1, at, payload: &payload };
                let publish = appending.append(&frame).unwrap();
                self.under_way = Some(payload);
                self.publish(publish);
            }
            // Now and then; at first at once.
            Role::Following if has_begun && !is_ending => {
                let is_nobodys = self.reader.state().owner.is_none();
                if is_nobodys || random.below(1_500) == 0 {
                    let state = self.reader.state();
                    let (cluster, patience) = (state.cluster.unwrap(), Duration::from_secs(5));
                    let (fencing, publish) = Fencing::begin(cluster, self.me.clone(), state, patience);
                    self.role = Role::Fencing(fencing);
                    self.publish(publish);
                }
            }
            _ => {}
        }
    }

    fn publish(&mut self, publish: Publish) {
        self.numbers += 1;
        self.asked = Some((self.numbers, publish.expected));
        self.node.link.publish(self.numbers, &publish);
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Read(sequence, wire) => self.read(sequence, &wire),
            Heard::Replied(number, reply) => self.replied(number, reply),
            Heard::Fetched(sequence, Some(wire)) => self.fetched(sequence, &wire),
            Heard::Fetched(sequence, None) => {
                let step = match &mut self.role {
                    Role::Owning(appending) => appending.absent(sequence),
                    _ => Step::Wait,
                };
                self.step(step);
            }
            Heard::End(end) => {
                self.looking = Some(end);
                self.looked();
            }
            Heard::OtherStream | Heard::Namesake(_) => panic!("{heard:?}"),
            _ => {}
        }
    }

    /// A message that was asked for is taken in if it is the next one.
    fn fetched(&mut self, sequence: Sequence, wire: &Wire) {
        if sequence == self.reader.next() {
            self.read(sequence, wire);
        }
    }

    fn replied(&mut self, number: u64, reply: Reply) {
        let Some((_, expected)) = self.asked.filter(|(asked, _)| *asked == number) else { return };
        self.asked = None;
        let now = self.began.elapsed();
        match &mut self.role {
            Role::Following => {}
            Role::Fencing(fencing) => {
                let next = fencing.replied(now, reply);
                self.fence(next);
            }
            Role::Owning(appending) => {
                let Some(expected) = expected else { return };
                let step = appending.replied(expected, reply);
                self.step(step);
            }
        }
    }

    fn looked(&mut self) {
        if self.looking.is_none_or(|end| self.last() < end) {
            return;
        }
        self.looking = None;
        if let Role::Fencing(fencing) = &mut self.role {
            let next = fencing.looked();
            self.fence(next);
        }
    }

    fn read(&mut self, sequence: Sequence, wire: &Wire) {
        let taken = self.reader.take(sequence, wire).unwrap_or_else(|fault| panic!("{}: {fault}", self.me.node));
        match &taken {
            Taken::Frame(frame) | Taken::Fence { frame, .. } => self.journal.push(frame.clone()),
            _ => {}
        }
        match &mut self.role {
            Role::Following => {}
            Role::Fencing(fencing) => {
                let next = fencing.read(sequence, &taken);
                self.fence(next);
            }
            Role::Owning(appending) => {
                let step = appending.read(sequence, &taken);
                self.step(step);
            }
        }
        self.looked();
    }

    fn fence(&mut self, next: Next) {
        match next {
            Next::Read => {}
            Next::Look => self.node.link.look(),
            Next::Publish(publish) => self.publish(publish),
            Next::Won(_) => {
                let appending = Appending::begin(&self.me, self.reader.state()).expect("it has just won");
                self.role = Role::Owning(appending);
                self.truth.epochs.fetch_add(1, Ordering::SeqCst);
                (self.asked, self.looking) = (None, None);
            }
            Next::Lost => {
                self.role = Role::Following;
                (self.asked, self.looking) = (None, None);
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Wait => {}
            Step::Publish(publish) => self.publish(publish),
            Step::Fetch(sequence) => self.node.link.fetch(sequence),
            Step::TakeIn(sequence, message) => self.fetched(sequence, &message.encode()),
            Step::Durable(_) => {
                if let Some(payload) = self.under_way.take() {
                    self.truth.acknowledged.lock().unwrap().push(payload);
                }
            }
            Step::Deposed => {
                self.role = Role::Following;
                (self.asked, self.under_way) = (None, None);
                self.truth.deposed.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

/// Kills one server at a time, stops one or two, and changes leaders.
fn harm(servers: &mut Servers, random: &mut Random, until: Instant, node: &Node, truth: &Truth) -> u64 {
    let mut faults = 0;
    let pause = |random: &mut Random, millis: u64| {
        let pause = Duration::from_millis(500 + random.below(millis));
        std::thread::sleep(pause.min(until.saturating_duration_since(Instant::now())));
    };
    while Instant::now() < until && !truth.has_ended.load(Ordering::SeqCst) {
        let index = random.below(3) as usize;
        match random.below(6) {
            0 | 1 => {
                println!("killed n{}", index + 1);
                servers.kill(index);
                pause(random, 2_500);
                servers.restart(index);
            }
            2 | 3 => {
                println!("stopped n{}", index + 1);
                servers.stop(index);
                pause(random, 4_000);
                servers.go_on(index);
            }
            4 => {
                // No majority is left: what is published now may all get in later, at once.
                let other = (index + 1) % 3;
                println!("stopped n{} and n{}", index + 1, other + 1);
                servers.stop(index);
                servers.stop(other);
                pause(random, 5_000);
                servers.go_on(index);
                servers.go_on(other);
            }
            _ => {
                println!("stepped the leader down");
                node.link.step_down();
            }
        }
        faults += 1;
        pause(random, 4_000);
        servers.wait_for_all();
    }
    faults
}

#[test]
fn all_take_in_the_same_and_nothing_acknowledged_is_lost() {
    let seed = seed();
    let seconds = std::env::var("BOXOFFICE_CLUSTER_SECONDS").ok().and_then(|it| it.parse().ok()).unwrap_or(45);
    println!("BOXOFFICE_TEST_SEED={seed} (it decides what is done, not when)");
    let mut random = Random(seed);
    let mut servers = Servers::start(3);
    let mut founder = Node::connect(servers.config("founder"), 9).unwrap();
    while founder.publish(base(), Some(Sequence(0))) == Reply::Failed {}
    assert_eq!(founder.end(), 1);

    let truth = Arc::new(Truth::default());
    let members = ["ada", "ben", "eva"].map(|name| {
        let (config, truth, random) = (servers.config(name), truth.clone(), Random(random.next()));
        std::thread::spawn(move || {
            // One who cannot go on must not leave the others waiting.
            let ending = EndWithPanic(truth.clone());
            let journal = Member::begin(config, 1, truth).run(random);
            drop(ending);
            journal
        })
    });
    eventually(PATIENCE, "somebody owns", || {
        truth.epochs.load(Ordering::SeqCst) > 0 || truth.has_ended.load(Ordering::SeqCst)
    });
    let until = Instant::now() + Duration::from_secs(seconds);
    let faults = harm(&mut servers, &mut random, until, &founder, &truth);
    truth.is_ending.store(true, Ordering::SeqCst);

    // The end stands still once nobody has anything under way.
    founder.forget();
    let (mut end, mut since) = (0, Instant::now());
    let deadline = Instant::now() + PATIENCE;
    while since.elapsed() < Duration::from_secs(5) && !truth.has_ended.load(Ordering::SeqCst) {
        assert!(Instant::now() < deadline, "it does not end");
        let now = founder.end();
        if now != end {
            (end, since) = (now, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    truth.has_ended.store(true, Ordering::SeqCst);
    let [ada, ben, eva] = members.map(|member| member.join().unwrap());

    let acknowledged = truth.acknowledged.lock().unwrap();
    let (epochs, deposed) = (truth.epochs.load(Ordering::SeqCst), truth.deposed.load(Ordering::SeqCst));
    let many = acknowledged.len();
    println!("{faults} faults, {epochs} epochs, {deposed} deposed, {end} messages, {many} acknowledged");
    assert!(ada == ben && ben == eva, "{} {} {} frames", ada.len(), ben.len(), eva.len());
    let payloads: Vec<&[u8]> = ada.iter().filter(|frame| !frame.is_fence()).map(WholeFrame::payload).collect();
    let distinct: HashSet<&[u8]> = payloads.iter().copied().collect();
    assert_eq!(distinct.len(), payloads.len(), "something got in twice");
    for payload in acknowledged.iter() {
        assert!(distinct.contains(&payload[..]), "{:?} is lost", String::from_utf8_lossy(payload).trim_end());
    }
    assert!(epochs > 2 && deposed > 1 && acknowledged.len() > 100, "hardly anything has happened");
}

/// Ends the others as well.
struct EndWithPanic(Arc<Truth>);

impl Drop for EndWithPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.has_ended.store(true, Ordering::SeqCst);
        }
    }
}
