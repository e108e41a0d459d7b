//! One run: who does what next, and what has to hold after it.

use std::collections::HashSet;
use std::num::NonZeroU128;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::super::random::Random;
use super::super::sim_disk::{Calls, Failure, Fault as DiskFault, SimDisk, Tear};
use super::node::{JOURNAL, Node, NotStarted, Process, options};
use super::stream::{Request, SERVERS, SimStream, Ticket};
use super::truth::{Meaning, Truth};
use super::{Broken, Flaw, Plan, Report};
use crate::cluster::{
    Act, Body, ClusterId, Epoch, FORMAT, Fault, Member, Message, Publish, Reader, Reply, Sequence, State, Wire,
};
use crate::domain::{Lsn, Timestamp};
use crate::store::journal::{self, FrameRef, LocalLog, Log as _, Tip, WholeFrame};

const NODES: usize = 3;
const CREATED: u64 = 4_711;
/// How many rounds there may be before all is at rest.
const ROUNDS_MAX: u64 = 400;
/// How long a candidate has to read up to his fence, in steps.
pub(super) const PATIENCE: Duration = Duration::from_secs(150);

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// A node reads the next message from its server.
    Follow,
    /// A publish comes to the stream.
    Arrive,
    /// The stream's oldest proposal is there for good.
    Commit,
    /// A node hears what became of a publish.
    Hear,
    /// A replica catches up.
    Show,
    /// A node asks the leader for what it wants.
    Fetch,
    /// An owner appends.
    Write,
    /// Somebody asks an owner.
    Ask,
    /// An owner publishes a mark.
    Mark,
    /// A node makes its journal durable, and writes down how far it has read.
    Checkpoint,
    /// A node starts, if it is down.
    Start,
    /// A node goes on, if it stands still.
    Resume,
    /// A node is connected again.
    Join,
    /// Another server leads.
    Elect,
    /// A node wants to own.
    Fence,
    /// A node does not wait for its answer any longer.
    TimeOut,
    /// A publish comes once more, some time.
    Double,
    /// A publish is lost on its way.
    LosePublish,
    /// An answer is lost on its way.
    LoseReply,
    /// The stream has no space for this one.
    Full,
    /// The stream has no leader any more.
    LoseLeader,
    /// A node stands still.
    Pause,
    /// A node is cut off from the stream.
    Cut,
    /// A process is killed.
    Kill,
    /// A node loses power.
    PowerCut,
    /// A node will lose power in the middle of something.
    Halt,
    /// A stranger writes to the stream.
    Stray,
    /// A replica loses a message.
    Rot,
}

/// How often each happens, and whether a run may have none of it, or much more.
const WEIGHTS: &[(Action, u64, bool)] = &[
    (Action::Follow, 300, false),
    (Action::Arrive, 150, false),
    (Action::Commit, 150, false),
    (Action::Hear, 150, false),
    (Action::Show, 80, false),
    (Action::Fetch, 80, false),
    (Action::Write, 120, false),
    (Action::Ask, 60, true),
    (Action::Mark, 60, true),
    (Action::Checkpoint, 15, true),
    (Action::Start, 40, false),
    (Action::Resume, 30, false),
    (Action::Join, 30, false),
    (Action::Elect, 40, false),
    (Action::Fence, 12, true),
    (Action::TimeOut, 20, true),
    (Action::Double, 12, true),
    (Action::LosePublish, 6, true),
    (Action::LoseReply, 10, true),
    (Action::Full, 2, true),
    (Action::LoseLeader, 3, true),
    (Action::Pause, 4, true),
    (Action::Cut, 4, true),
    (Action::Kill, 2, true),
    (Action::PowerCut, 2, true),
    (Action::Halt, 2, true),
    (Action::Stray, 3, true),
    (Action::Rot, 1, true),
];

pub(super) struct Trial {
    random: Random,
    flaw: Option<Flaw>,
    steps: u64,
    step: u64,
    weights: Vec<(Action, u64)>,
    tear: Tear,
    cluster: ClusterId,
    stream: SimStream,
    truth: Truth,
    /// Payloads of all batches.
    seen: HashSet<Vec<u8>>,
    nodes: Vec<Node>,
    requests: Vec<Request>,
    replies: Vec<(Ticket, Reply)>,
    report: Report,
    history: Option<Vec<String>>,
    /// Payloads of the batches that were there before the log began.
    before: Vec<Vec<u8>>,
}

impl Trial {
    pub fn new(plan: &Plan) -> Self {
        let mut random = Random(plan.seed);
        let weights = WEIGHTS.iter().map(|&(action, weight, any)| {
            (action, weight * *random.pick(if any { &[0, 1, 1, 2, 2, 4] } else { &[1, 2, 2, 4] }))
        });
        let weights = weights.collect();
        let before = (0..random.below(3)).map(|n| vec![n as u8; 100]).collect::<Vec<_>>();
        let sealed = random.coin();
        let disks: Vec<_> = (0..NODES as u64).map(|n| alone(plan.seed + n, &before, sealed)).collect();
        let base = journal::LocalCopy::begin(Arc::new(disks[0].clone()), Path::new(JOURNAL), options(), Lsn(0));
        let base = base.expect("it was written just now").tip();
        let cluster = ClusterId(NonZeroU128::new(u128::from(plan.seed) + 1).expect("it is above 0"));
        let first = Message { cluster, epoch: Epoch(0), body: Body::Base(base) }.encode();
        Self {
            flaw: plan.flaw,
            steps: plan.steps,
            step: 0,
            weights,
            tear: *random.pick(&[Tear::Whole, Tear::Within]),
            cluster,
            stream: SimStream::new(first),
            truth: Truth::new(cluster, base),
            seen: HashSet::new(),
            nodes: disks.into_iter().enumerate().map(|(index, disk)| Node::new(index, disk)).collect(),
            requests: Vec::new(),
            replies: Vec::new(),
            report: Report::default(),
            history: plan.with_history.then(Vec::new),
            before,
            random,
        }
    }

    pub fn step(&self) -> u64 {
        self.step
    }

    pub fn history(&mut self) -> Vec<String> {
        self.history.take().unwrap_or_default()
    }

    pub fn report(&self) -> Report {
        Report {
            messages: self.stream.last().0,
            void: self.truth.is_void(),
            elections: self.stream.elections,
            ..self.report
        }
    }

    pub fn run(&mut self) -> Result<(), Broken> {
        self.see()?;
        while self.step < self.steps {
            self.step += 1;
            let action = self.action();
            self.act(action)?;
            self.see()?;
            self.report.trace = self.report.trace.rotate_left(7) ^ self.random.0 ^ self.stream.last().0;
        }
        self.settle()
    }

    fn action(&mut self) -> Action {
        let all: u64 = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut at = self.random.below(all);
        for (action, weight) in &self.weights {
            match at.checked_sub(*weight) {
                Some(rest) => at = rest,
                None => return *action,
            }
        }
        Action::Follow
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(history) = &mut self.history {
            history.push(format!("{}: {}", self.step, what()));
        }
    }

    fn now(&self) -> Duration {
        Duration::from_secs(self.step)
    }

    /// Looks at what has become part of the stream.
    fn see(&mut self) -> Result<(), Broken> {
        while let Some(wire) = self.stream.at(self.truth.looked_at().next()) {
            let frames = self.truth.frames.len();
            self.truth.see(wire)?;
            let at = self.truth.looked_at();
            if let (Some(Meaning::Owned(node, life)), Some(frame)) =
                (self.truth.meaning(at), self.truth.frames.get(frames))
            {
                let text = String::from_utf8_lossy(frame.payload()).into_owned();
                if !text.starts_with(&format!("{node} {life} ")) {
                    return Err(Broken("I14: another than the owner appended", format!("message {at}: {text}")));
                }
                if !self.seen.insert(frame.payload().to_vec()) {
                    return Err(Broken("twice", format!("message {at}: {text}")));
                }
            }
            if self.truth.meaning(at) == Some(&Meaning::Fence) {
                self.report.epochs += 1;
            }
            if self.history.is_some() {
                let what = format!("message {at}: {:?}", self.truth.meaning(at));
                self.note(|| what);
            }
        }
        Ok(())
    }

    /// A node that can do something; `None` if the chosen one cannot.
    fn pick(&mut self) -> Option<usize> {
        let index = self.random.below(NODES as u64) as usize;
        let node = &self.nodes[index];
        (node.process.is_some() && !node.paused).then_some(index)
    }

    fn act(&mut self, action: Action) -> Result<(), Broken> {
        match action {
            Action::Arrive | Action::Full => return self.arrive(action == Action::Full),
            Action::Commit => self.replies.extend(self.stream.commit()),
            Action::Show => {
                let server = self.random.below(SERVERS as u64) as usize;
                self.stream.show(server, &mut self.random);
            }
            Action::Elect if !self.stream.has_leader() => self.stream.elect(&mut self.random),
            Action::LoseLeader => self.stream.lose_leader(&mut self.random),
            Action::Double if !self.requests.is_empty() => {
                let copy = self.random.pick(&self.requests).clone();
                self.requests.push(copy);
            }
            Action::LosePublish if !self.requests.is_empty() => {
                let index = self.random.below(self.requests.len() as u64) as usize;
                self.requests.swap_remove(index);
            }
            Action::LoseReply if !self.replies.is_empty() => {
                let index = self.random.below(self.replies.len() as u64) as usize;
                self.replies.swap_remove(index);
            }
            Action::Stray => self.stray(),
            Action::Rot => {
                let server = self.random.below(SERVERS as u64) as usize;
                self.stream.lose(server, &mut self.random);
            }
            Action::Hear if !self.replies.is_empty() => {
                let index = self.random.below(self.replies.len() as u64) as usize;
                let node = self.replies[index].0.node;
                if !self.nodes[node].cut && !self.nodes[node].paused {
                    let (ticket, reply) = self.replies.swap_remove(index);
                    return self.hear(ticket, reply);
                }
            }
            Action::Start => {
                let index = self.random.below(NODES as u64) as usize;
                return self.start(index);
            }
            Action::Resume => {
                let index = self.random.below(NODES as u64) as usize;
                self.nodes[index].paused = false;
            }
            Action::Join => {
                let index = self.random.below(NODES as u64) as usize;
                self.nodes[index].cut = false;
            }
            _ => {
                if let Some(index) = self.pick() {
                    return self.act_of(index, action);
                }
            }
        }
        Ok(())
    }

    fn act_of(&mut self, index: usize, action: Action) -> Result<(), Broken> {
        match action {
            Action::Follow => return self.follow(index),
            Action::Fetch => return self.fetch(index),
            Action::Write => return self.write(index),
            Action::Ask => return self.ask(index),
            Action::Mark => return self.mark(index),
            Action::Checkpoint => return self.checkpoint(index),
            Action::Fence => {
                self.process(index).member.fence(FORMAT);
                return self.go_on(index);
            }
            Action::TimeOut => return self.time_out(index),
            Action::Pause => self.nodes[index].paused = true,
            Action::Cut => self.nodes[index].cut = true,
            Action::Kill => self.crash(index, false),
            Action::PowerCut => self.crash(index, true),
            Action::Halt => {
                let after = self.random.below(20);
                self.nodes[index].disk.fail(DiskFault { calls: Calls::All, after, failure: Failure::Halt });
            }
            _ => {}
        }
        Ok(())
    }

    /// A process that is known to be there.
    fn process(&mut self, index: usize) -> &mut Process {
        self.nodes[index].process.as_mut().expect("it lives")
    }

    // What comes and goes.

    fn arrive(&mut self, is_full: bool) -> Result<(), Broken> {
        if self.requests.is_empty() {
            return Ok(());
        }
        let index = self.random.below(self.requests.len() as u64) as usize;
        if self.nodes[self.requests[index].ticket.node].cut && self.random.chance(900) {
            return Ok(());
        }
        let request = self.requests.swap_remove(index);
        self.replies.extend(self.stream.receive(request, is_full));
        Ok(())
    }

    /// Something that is none of the owner's: rubbish, another cluster's, or of an epoch that is over.
    fn stray(&mut self) {
        let tip = self.truth.tip();
        let mut payload = b"stray".to_vec();
        payload.resize(self.random.below(400) as usize + 5, b'.');
        let frame = FrameRef { first_lsn: tip.next_lsn, count: 1, at: tip.at.plus_millis(1), payload: &payload };
        let frame = tip.batch(&frame).expect("it follows");
        let old = Epoch(self.random.below(self.truth.epoch.0.max(1)));
        let other = ClusterId(NonZeroU128::new(self.cluster.0.get() + 1).expect("it is above 0"));
        let own = self.cluster;
        let wire = match self.random.below(4) {
            0 => Wire { payload, ..Wire::default() },
            1 => Message { cluster: other, epoch: self.truth.epoch, body: Body::Frame(frame) }.encode(),
            _ if old == self.truth.epoch => return,
            2 => Message { cluster: own, epoch: old, body: Body::Mark }.encode(),
            _ => Message { cluster: own, epoch: old, body: Body::Frame(frame) }.encode(),
        };
        let ticket = Ticket { node: 0, life: 0, number: 0, expected: None, beside: false };
        let _ = self.stream.receive(Request { ticket, wire }, false);
    }

    fn send(&mut self, index: usize, number: u64, publish: Publish) {
        let process = self.process(index);
        let (life, expected) = (process.life, publish.expected);
        process.sent = Some(number);
        let ticket = Ticket { node: index, life, number, expected, beside: false };
        self.note(|| format!("node {index} publishes {:?}", publish.message.body));
        self.requests.push(Request { ticket, wire: publish.message.encode() });
    }

    fn hear(&mut self, ticket: Ticket, reply: Reply) -> Result<(), Broken> {
        let index = ticket.node;
        self.note(|| format!("node {index} hears {reply:?} to {ticket:?}"));
        if reply == Reply::Refused {
            self.report.refused += 1;
        }
        let now = self.now();
        let flaw = self.flaw;
        let Some(process) = self.nodes[index].process.as_mut().filter(|process| process.life == ticket.life) else {
            return Ok(());
        };
        if ticket.beside {
            if let Reply::Acknowledged(sequence) = reply {
                return self.must_be_owned(index, sequence);
            }
            return Ok(());
        }
        process.sent.take_if(|sent| *sent == ticket.number);
        if let (Reply::Acknowledged(sequence), Some(Flaw::NotReadUpTo), true) =
            (reply, flaw, process.member.is_candidate())
        {
            // It passes over what stands between.
            let state = State { last_sequence: Sequence(sequence.0 - 1), ..process.member.state().clone() };
            let me = self.nodes[index].fence();
            self.process(index).member = Member::new(me, Reader::resume(state), PATIENCE);
            let wire = self.stream.at(sequence).cloned().unwrap_or_default();
            return self.take_in(index, sequence, &wire);
        }
        let heard = process.member.replied(now, ticket.number, reply);
        self.go_on_from(index, heard)
    }

    fn time_out(&mut self, index: usize) -> Result<(), Broken> {
        let now = self.now();
        let process = self.process(index);
        if process.member.is_late(now) {
            // Somebody else is to own.
            process.member.give_up();
            return Ok(());
        }
        let Some(number) = process.sent.take() else { return Ok(()) };
        self.report.again += 1;
        let heard = self.process(index).member.replied(now, number, Reply::Failed);
        self.go_on_from(index, heard)
    }

    // What a node does.

    fn follow(&mut self, index: usize) -> Result<(), Broken> {
        let node = &self.nodes[index];
        if node.cut {
            return Ok(());
        }
        let server = node.server;
        let Some(process) = &node.process else { return Ok(()) };
        let Some((sequence, wire)) = self.stream.consume(server, process.member.state().last_sequence.next()) else {
            return Ok(());
        };
        self.take_in(index, sequence, &wire)
    }

    fn fetch(&mut self, index: usize) -> Result<(), Broken> {
        if self.nodes[index].cut {
            return Ok(());
        }
        let flaw = self.flaw;
        if self.process(index).looks
            && let Some(last) = self.stream.ask_leader_for_last()
        {
            let process = self.process(index);
            process.looks = false;
            process.member.end_is(last);
            self.go_on(index)?;
        }
        let Some(sequence) = self.process(index).fetches else { return Ok(()) };
        let answer = if flaw == Some(Flaw::DecidesByStaleReads) {
            let server = self.random.below(SERVERS as u64) as usize;
            // Nothing there is taken for something void.
            Some(self.stream.ask_stale(server, sequence).unwrap_or_default())
        } else {
            let Some(answer) = self.stream.ask_leader(sequence) else { return Ok(()) };
            // Now and then by one who does not know that he leads no more. He has nothing wrong, but may lack it.
            answer.filter(|_| !self.random.chance(100))
        };
        self.process(index).fetches = None;
        self.report.again += u64::from(answer.is_none());
        self.see()?;
        let bent = answer.as_ref().and_then(|wire| bent(flaw, self.process(index).member.state(), wire));
        let heard = self.process(index).member.fetched(sequence, bent.as_ref().or(answer.as_ref()));
        self.go_on_from(index, heard)
    }

    /// Does what a node says is to be done.
    fn go_on(&mut self, index: usize) -> Result<(), Broken> {
        while let Some(process) = &mut self.nodes[index].process
            && let Some(act) = process.member.next_act()
        {
            match act {
                Act::Publish { number, publish, again } => {
                    self.report.again += u64::from(again);
                    self.send(index, number, publish);
                }
                Act::Fetch(sequence) => process.fetches = Some(sequence),
                Act::Look => process.looks = true,
                Act::Follow(frame) | Act::Write(frame) => self.copy(index, &frame)?,
                Act::Durable(lsn) => {
                    (process.sent, process.fetches) = (None, None);
                    let sequence = process.member.state().last_sequence;
                    self.must_be_owned(index, sequence)?;
                    self.truth.acknowledged = self.truth.acknowledged.max(lsn);
                    self.report.durable += 1;
                    self.note(|| format!("node {index} has lsn {lsn} at message {sequence}"));
                    let process = self.process(index);
                    let mut answered = std::mem::take(&mut process.covered);
                    if self.flaw == Some(Flaw::AnswersByWhatIsUnderWay) {
                        answered.append(&mut self.process(index).questions);
                    }
                    self.answer(index, &answered)?;
                }
                Act::Own(epoch) => {
                    let me = self.nodes[index].fence();
                    let state = self.process(index).member.state();
                    if state.epoch != epoch || state.owner.as_ref() != Some(&me) {
                        return Err(Broken("own", format!("epoch {epoch}, and {state:?} is read")));
                    }
                    self.process(index).forget();
                    self.note(|| format!("node {index} owns"));
                }
                Act::Deposed => {
                    self.report.deposed += 1;
                    process.forget();
                    self.note(|| format!("node {index} is deposed"));
                }
            }
        }
        Ok(())
    }

    /// As [`go_on`](Self::go_on), unless it cannot read on.
    fn go_on_from(&mut self, index: usize, heard: Result<(), Fault>) -> Result<(), Broken> {
        match heard {
            Ok(()) => self.go_on(index),
            Err(fault) => self.repair(index, &fault),
        }
    }

    /// Writes a frame to the node's journal.
    fn copy(&mut self, index: usize, frame: &WholeFrame) -> Result<(), Broken> {
        let flaw = self.flaw;
        let process = self.process(index);
        let known = process.copy.tip() == frame.after() && flaw == Some(Flaw::WritesBeforeTheLog);
        if !known && let Err(error) = process.copy.take(frame) {
            return self.disk_said(index, error);
        }
        let sequence = self.process(index).member.state().last_sequence;
        self.must_be_next(index, sequence, frame)
    }

    fn write(&mut self, index: usize) -> Result<(), Broken> {
        let name = self.nodes[index].name.clone();
        let (filling, count) = (self.random.below(700) as usize, 1 + self.random.below(3) as u32);
        let flaw = self.flaw;
        let process = self.process(index);
        let Some(tip) = process.member.ready() else { return Ok(()) };
        let mut make = |tip: Tip| {
            process.written += 1;
            let payload = payload(&name, process.life, process.written, filling);
            (tip.next_lsn, tip.at.plus_millis(1), payload)
        };
        let (first_lsn, at, payload) = make(tip);
        let frame = FrameRef { first_lsn, count, at, payload: &payload };
        let after = tip.batch(&frame).expect("it follows");
        let second = (flaw == Some(Flaw::TwoInFlight)).then(|| {
            let (first_lsn, at, payload) = make(after.after());
            let frame = FrameRef { first_lsn, count, at, payload: &payload };
            after.after().batch(&frame).expect("it follows")
        });
        process.member.append(&frame).map_err(|error| Broken("append", error.to_string()))?;
        if flaw == Some(Flaw::WritesBeforeTheLog) {
            drop(process.copy.take(&after));
        }
        process.cover();
        let (life, state) = (process.life, process.member.state());
        let (epoch, place) = (state.epoch, Some(state.last_sequence.next()));
        self.go_on(index)?;
        if let Some(frame) = second {
            let ticket = Ticket { node: index, life, number: 0, expected: place, beside: true };
            let message = Message { cluster: self.cluster, epoch, body: Body::Frame(frame) };
            self.requests.push(Request { ticket, wire: message.encode() });
        }
        Ok(())
    }

    fn ask(&mut self, index: usize) -> Result<(), Broken> {
        let acknowledged = self.truth.acknowledged;
        let process = self.process(index);
        if !process.member.owns() {
            return Ok(());
        }
        if self.flaw == Some(Flaw::AnswersAtOnce) {
            return self.answer(index, &[acknowledged]);
        }
        self.process(index).questions.push(acknowledged);
        Ok(())
    }

    /// Publishes a mark, if somebody waits for one.
    fn mark(&mut self, index: usize) -> Result<(), Broken> {
        let process = self.process(index);
        if process.questions.is_empty() || process.member.mark().is_err() {
            return Ok(());
        }
        process.cover();
        self.go_on(index)
    }

    /// Answers questions with all that this node knows. Each has the highest lsn that had been acknowledged to anybody when it
    /// came.
    fn answer(&mut self, index: usize, questions: &[Lsn]) -> Result<(), Broken> {
        let known = Lsn(self.process(index).member.state().tip.next_lsn.0 - 1);
        self.report.answered += questions.len() as u64;
        match questions.iter().find(|acknowledged| known < **acknowledged) {
            None => Ok(()),
            Some(acknowledged) => {
                let what = format!("node {index} answers by lsn {known}, and {acknowledged} had been acknowledged");
                Err(Broken("I14: an answer is stale", what))
            }
        }
    }

    /// What was acknowledged to a node is there, and was its own to append.
    fn must_be_owned(&mut self, index: usize, sequence: Sequence) -> Result<(), Broken> {
        self.see()?;
        let life = self.process(index).life;
        let own = Meaning::Owned(self.nodes[index].name.clone(), life);
        match self.truth.meaning(sequence) {
            Some(meaning) if *meaning == own => Ok(()),
            other => {
                let what =
                    format!("message {sequence} was acknowledged to node {index}, life {life}, and is {other:?}");
                Err(Broken("I14: acknowledged, and not in the log", what))
            }
        }
    }

    fn take_in(&mut self, index: usize, sequence: Sequence, wire: &Wire) -> Result<(), Broken> {
        self.see()?;
        let flaw = self.flaw;
        let member = &mut self.process(index).member;
        let bent = bent(flaw, member.state(), wire);
        let heard = member.read(sequence, bent.as_ref().unwrap_or(wire));
        self.go_on_from(index, heard)
    }

    /// A frame that was taken in is the one that all others take in there.
    fn must_be_next(&mut self, index: usize, sequence: Sequence, frame: &WholeFrame) -> Result<(), Broken> {
        let number = self.truth.frames_to(frame.after());
        match number.and_then(|number| self.truth.frames.get(number - 1)) {
            Some(known)
                if known == frame && matches!(self.truth.meaning(sequence), Some(it) if *it != Meaning::Void) =>
            {
                Ok(())
            }
            _ => Err(Broken("I15: another frame is taken in", format!("node {index}, message {sequence}: {frame:?}"))),
        }
    }

    /// A node cannot read on: it reads from another server.
    fn repair(&mut self, index: usize, fault: &Fault) -> Result<(), Broken> {
        self.report.faults += 1;
        let Fault::Gap { found, .. } = *fault else {
            return Err(Broken("I15: a node cannot read on", format!("node {index}: {fault}")));
        };
        let skips = self.flaw == Some(Flaw::SkipsGaps);
        let node = &mut self.nodes[index];
        let Some(process) = node.process.as_mut().filter(|_| skips) else {
            node.server = (node.server + 1) % SERVERS;
            return Ok(());
        };
        let state = State { last_sequence: Sequence(found.0 - 1), ..process.member.state().clone() };
        let me = self.nodes[index].fence();
        self.process(index).member = Member::new(me, Reader::resume(state), PATIENCE);
        Ok(())
    }

    // Disks, and what becomes of processes.

    /// The disk was told to fail, or something is wrong.
    fn disk_said(&mut self, index: usize, error: journal::Error) -> Result<(), Broken> {
        if !self.nodes[index].disk.is_halted() {
            return Err(Broken("I15: the journal is another", format!("node {index}: {error}")));
        }
        self.crash(index, true);
        Ok(())
    }

    fn checkpoint(&mut self, index: usize) -> Result<(), Broken> {
        let state = self.process(index).member.state().clone();
        if self.flaw == Some(Flaw::StateBeforeSync) {
            drop(self.nodes[index].write_state(&state));
            return Ok(());
        }
        let synced = match self.process(index).copy.sync() {
            Ok(synced) => synced,
            Err(error) => return self.disk_said(index, error),
        };
        if synced != state.tip {
            return Err(Broken(
                "I15: the journal is another",
                format!("node {index} has synced {synced:?}, and read {:?}", state.tip),
            ));
        }
        match self.nodes[index].write_state(&state) {
            Ok(()) => self.nodes[index].synced = self.truth.frames_to(synced).unwrap_or_default(),
            Err(_) => self.crash(index, true),
        }
        Ok(())
    }

    fn crash(&mut self, index: usize, power: bool) {
        self.report.crashes += 1;
        self.report.power_cuts += u64::from(power);
        let (seed, tear) = (self.random.next(), self.tear);
        let node = &mut self.nodes[index];
        (node.process, node.paused) = (None, false);
        node.disk.heal();
        if power {
            node.disk = node.disk.crash(seed, tear);
        }
        self.note(|| format!("node {index} is gone, power {power}"));
    }

    /// Starts a node that is down, and looks at what it finds.
    fn start(&mut self, index: usize) -> Result<(), Broken> {
        let node = &mut self.nodes[index];
        if node.process.is_some() {
            return Ok(());
        }
        if let Err(error) = node.start(CREATED) {
            return match error {
                _ if node.disk.is_halted() => {
                    self.crash(index, true);
                    Ok(())
                }
                NotStarted::Journal(error) => Err(Broken("lost", format!("node {index}: {error}"))),
                NotStarted::State(error) => Err(Broken("lost", format!("node {index}: state: {error}"))),
            };
        }
        let (synced, last) = (node.synced, self.stream.last());
        let process = self.process(index);
        let (tip, end) = (process.copy.tip(), process.copy.end());
        let reader = Reader::resume(process.member.state().clone());
        if let Err(fault) = reader.recognise(CREATED, last) {
            return Err(Broken("lost", format!("node {index}: {fault}")));
        }
        let kept = self.truth.frames_to(end).ok_or_else(|| {
            Broken("I15: the journal is another", format!("node {index} ends at {end:?}, which the log never did"))
        })?;
        if kept < synced {
            return Err(Broken("lost", format!("node {index} has {kept} frames, and had synced {synced}")));
        }
        self.report.kept += u64::from(tip != end);
        self.note(|| format!("node {index} starts with {kept} frames, {synced} synced"));
        self.must_have(index, kept)
    }

    /// The journal of a node is the log's, up to so many frames, for all who read it.
    fn must_have(&mut self, index: usize, frames: usize) -> Result<(), Broken> {
        let node = &self.nodes[index];
        if node.disk.is_halted() {
            return Ok(());
        }
        // As it would be found after a power cut: what a start leaves is durable. Looking is no call that fails.
        let disk = node.disk.crash(self.step, self.tear);
        let broken = |what: String| Broken("I15: the journal is another", format!("node {index}: {what}"));
        let report = journal::check(&disk, Path::new(JOURNAL), Lsn(0)).map_err(|error| broken(error.to_string()))?;
        let reader = journal::Reader::open(Arc::new(disk), Path::new(JOURNAL), Lsn(1));
        let mut reader = reader.map_err(|error| broken(error.to_string()))?;
        let batches = self.truth.frames[..frames].iter().filter(|frame| !frame.is_fence());
        let mut expected: Vec<_> = self.before.iter().map(Vec::as_slice).collect();
        expected.extend(batches.map(WholeFrame::payload));
        if (report.frames, report.fences)
            != (expected.len() as u64, (frames + self.before.len() - expected.len()) as u64)
        {
            return Err(broken(format!("{report:?}, and {frames} frames")));
        }
        for payload in expected {
            match reader.next(report.last_lsn) {
                Ok(Some(frame)) if frame.payload == payload => {}
                other => return Err(broken(format!("{other:?} is read"))),
            }
        }
        Ok(())
    }

    // The end.

    /// Nothing goes wrong any more: all of them come to rest, and one more frame can be written.
    fn settle(&mut self) -> Result<(), Broken> {
        // Whatever was built wrong had its time.
        self.flaw = None;
        self.note(|| "nothing goes wrong any more".into());
        for node in &mut self.nodes {
            (node.paused, node.cut) = (false, false);
            node.disk.heal();
        }
        let mut done = None;
        for _ in 0..ROUNDS_MAX {
            self.step += 1;
            self.round(&mut done)?;
            if let Some(lsn) = done
                && self.are_at_rest(lsn)
            {
                return self.end();
            }
        }
        Err(Broken("progress", format!("nothing comes to rest in {ROUNDS_MAX} rounds")))
    }

    /// Everybody has a turn. The first node is to own, and to write and to answer.
    fn round(&mut self, done: &mut Option<Lsn>) -> Result<(), Broken> {
        if !self.stream.has_leader() {
            self.stream.elect(&mut self.random);
        }
        for request in std::mem::take(&mut self.requests) {
            self.replies.extend(self.stream.receive(request, false));
            while self.stream.has_proposals() {
                self.replies.extend(self.stream.commit());
            }
        }
        self.stream.heal();
        self.see()?;
        let in_time = self.replies.len();
        for (ticket, reply) in std::mem::take(&mut self.replies) {
            self.hear(ticket, reply)?;
        }
        for index in 0..NODES {
            self.start(index)?;
            for _ in 0..self.stream.last().0 {
                self.follow(index)?;
            }
            self.fetch(index)?;
            if in_time == 0 && self.requests.is_empty() {
                self.time_out(index)?;
            }
        }
        let member = &self.process(0).member;
        match (member.ready(), member.owns()) {
            (Some(tip), _) if done.is_none() => {
                *done = Some(tip.next_lsn);
                self.write(0)?;
                self.ask(0)?;
            }
            (_, true) => self.mark(0)?,
            // Whoever is deposed begins again.
            (_, false) => {
                *done = None;
                self.process(0).member.fence(FORMAT);
                self.go_on(0)?;
            }
        }
        Ok(())
    }

    /// Whether `lsn` is durable, everything is answered, and all are at the end.
    fn are_at_rest(&self, lsn: Lsn) -> bool {
        let end = self.truth.tip();
        let is_at_end =
            |node: &Node| node.process.as_ref().is_some_and(|it| it.copy.tip() == end && it.copy.end() == end);
        let answered =
            self.nodes[0].process.as_ref().is_some_and(|it| it.questions.is_empty() && it.covered.is_empty());
        self.truth.acknowledged >= lsn && answered && self.nodes.iter().all(is_at_end)
    }

    /// What all of them have in the end, also after a last power cut.
    fn end(&mut self) -> Result<(), Broken> {
        let frames = self.truth.frames.len();
        if self.truth.acknowledged > Lsn(self.truth.tip().next_lsn.0 - 1) {
            return Err(Broken("lost", format!("lsn {} was acknowledged", self.truth.acknowledged)));
        }
        for index in 0..NODES {
            let owner = self.process(index).member.state().owner.clone();
            if owner.as_ref() != self.truth.owner() {
                return Err(Broken("I14: another owner is known", format!("node {index}: {owner:?}")));
            }
            self.checkpoint(index)?;
            self.crash(index, true);
            self.start(index)?;
            self.must_have(index, frames)?;
        }
        Ok(())
    }
}

/// A disk with the journal of a machine that was alone.
fn alone(seed: u64, batches: &[Vec<u8>], sealed: bool) -> SimDisk {
    let disk = SimDisk::new(seed);
    let (mut log, _) =
        LocalLog::open(Arc::new(disk.clone()), Path::new(JOURNAL), options(), Lsn(0)).expect("a new one");
    for (number, payload) in batches.iter().enumerate() {
        let (first_lsn, at) = (Lsn(number as u64 + 1), Timestamp::from_millis(number as u64));
        log.append(&FrameRef { first_lsn, count: 1, at, payload }).expect("there is room");
    }
    if sealed {
        log.seal().expect("there is room");
    }
    drop(log);
    // The directory's name is for whoever makes it.
    use crate::store::disk::Disk as _;
    disk.sync_dir(Path::new("/")).expect("it is there");
    disk
}

/// A message as a node sees it that is built wrong.
fn bent(flaw: Option<Flaw>, state: &State, wire: &Wire) -> Option<Wire> {
    let mut message = Message::decode(wire).ok().filter(|message| Some(message.cluster) == state.cluster)?;
    let bends = match flaw? {
        Flaw::FencesNameNoEpoch => matches!(message.body, Body::Fence(_)),
        Flaw::OldEpochsCount => matches!(message.body, Body::Frame(_)),
        _ => false,
    };
    message.epoch = state.epoch;
    bends.then(|| message.encode())
}

/// What an owner writes: who he is, and a number that he uses once.
fn payload(node: &str, life: u64, number: u64, filling: usize) -> Vec<u8> {
    let mut payload = format!("{node} {life} {number} ").into_bytes();
    payload.resize(payload.len() + filling, b'.');
    payload
}
