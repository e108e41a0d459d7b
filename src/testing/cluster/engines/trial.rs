//! A run: three machines, a stream, callers, and what befalls them.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU128;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use xxhash_rust::xxh3::Xxh3Default;

use super::super::Broken as Plain;
use super::super::stream::{Request, SERVERS, SimStream, Ticket};
use super::super::truth::{Meaning, Truth};
use super::machine::{Leaving, Machine, Process};
use super::world::{Action, Weights};
use super::{Flaw, Plan, Report};
use crate::actors::system::Unseen;
use crate::cluster::{
    Body, ClusterId, Epoch, FORMAT, Fault, Fence, Heard, Member, Message, NodeName, Publish, Reader, Reply, Sequence,
    State, Wire,
};
use crate::domain::concert_option::{Definition, PricedPlan};
use crate::domain::invariants::Broken;
use crate::domain::{Lsn, OptionId, Timestamp};
use crate::engine::start::Order;
use crate::limits::HoldSlot;
use crate::store::codec;
use crate::store::committer::Effect;
use crate::store::journal::{FrameRef, Tip};
use crate::testing::clock::ManualClock;
use crate::testing::random::{Dice, Random};
use crate::testing::sim_disk::{Calls, Failure, Fault as DiskFault, SimDisk};
use crate::testing::simulation::clients::{Answered, Ask, Call, Mind, user};
use crate::testing::simulation::house::House;
use crate::testing::simulation::machine::Checkpoint;
use crate::testing::simulation::model::{Model, UNREADABLE, broken};
use crate::testing::simulation::relay::Offers;
use crate::testing::simulation::swarm::Swarm;
use crate::testing::simulation::watched::Frame;

pub(super) const NODES: usize = 3;
/// How far a wall clock may be off.
const OFF_MS: u64 = 2_000;
/// How long a candidate is patient, in steps: as in [`crate::testing::cluster`].
const STEP: Duration = Duration::from_secs(1);
/// How long before a delivery its node must still have owned the log.
const OWNED_WITHIN: Duration = Duration::from_secs(1);

/// A run.
pub(super) struct Trial {
    pub(super) plan: Plan,
    pub(super) flaw: Option<Flaw>,
    pub(super) swarm: Swarm,
    weights: Weights,
    pub(super) dice: Dice,
    cluster: ClusterId,
    pub(super) stream: SimStream,
    pub(super) truth: Truth,
    /// Where the journal and the epoch are after each message of the stream.
    ends: Vec<(Tip, Epoch)>,
    pub(super) model: Model,
    plans: Offers,
    seating: House,
    pub(super) machines: Vec<Machine>,
    /// Who published what.
    authors: HashMap<Vec<u8>, (usize, u64)>,
    pub(super) requests: Vec<Request>,
    pub(super) replies: Vec<(Ticket, Reply)>,
    asked: Vec<Ask>,
    /// What time it is, which no clock shows.
    wall: Timestamp,
    /// Milliseconds since the beginning, by a clock that nobody sets.
    passed: Arc<AtomicU64>,
    /// When each epoch was over, by the same.
    over: BTreeMap<Epoch, Duration>,
    pub(super) step: u64,
    /// Steps and rounds so far.
    pub(super) ticks: u32,
    pub(super) report: Report,
    trace: Xxh3Default,
    history: Vec<String>,
}

impl From<Plain> for Broken {
    fn from(Plain(invariant, what): Plain) -> Self {
        Self { invariant, what }
    }
}

impl Trial {
    pub fn new(plan: &Plan) -> Self {
        let mut random = Random(plan.seed);
        let swarm = Swarm::new(&mut random);
        let weights = Weights::new(&mut random);
        let off = *random.pick(&[0, 0, OFF_MS]);
        let machines = (0..NODES).map(|index| {
            let wall = swarm.start.plus_millis(random.below(off + 1));
            Machine::new(index, SimDisk::new(random.next()), ManualClock::at(wall))
        });
        let machines = machines.collect();
        let cluster = ClusterId(NonZeroU128::new(u128::from(plan.seed) + 1).expect("it is above 0"));
        let base = Tip::default();
        let first = Message { cluster, epoch: Epoch(0), body: Body::Base(base) }.encode();
        Self {
            plan: *plan,
            flaw: plan.flaw,
            weights,
            dice: Dice::new(random.next()),
            cluster,
            stream: SimStream::new(first),
            truth: Truth::new(cluster, base),
            ends: vec![(base, Epoch(0))],
            model: Model::default(),
            plans: Offers::new(),
            seating: House::of(swarm.seats),
            machines,
            authors: HashMap::new(),
            requests: Vec::new(),
            replies: Vec::new(),
            asked: Vec::new(),
            wall: swarm.start,
            passed: Arc::default(),
            over: BTreeMap::new(),
            step: 0,
            ticks: 0,
            report: Report::default(),
            trace: Xxh3Default::new(),
            history: Vec::new(),
            swarm,
        }
    }

    pub fn step(&self) -> u64 {
        self.step
    }

    pub fn report(&self) -> Report {
        Report {
            messages: self.stream.last().0,
            events: self.model.last.0,
            elections: self.stream.elections,
            trace: self.trace.digest(),
            ..self.report
        }
    }

    pub fn history(&mut self) -> Vec<String> {
        std::mem::take(&mut self.history)
    }

    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        if self.plan.with_history {
            let passed = self.wall.since(self.swarm.start).as_millis();
            self.history.push(format!("{:>5} {passed:>9} ms: {}", self.step, what()));
        }
    }

    pub fn run(&mut self) -> Result<(), Broken> {
        self.set_the_scene()?;
        for step in 0..self.plan.steps {
            self.step = step;
            self.ticks += 1;
            let mut random = Random(self.plan.seed ^ step.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            random.next();
            self.dice.reseed(random.next());
            let action = self.weights.action(random.next());
            self.act(action)?;
            self.look()?;
            self.trace.update(&self.dice.state().to_le_bytes());
            self.trace.update(&self.model.last.0.to_le_bytes());
        }
        self.step = self.plan.steps;
        self.come_to_rest()
    }

    /// The first owner, concerts, options.
    fn set_the_scene(&mut self) -> Result<(), Broken> {
        self.settle()?;
        for _ in 0..self.swarm.concerts + self.swarm.options {
            let Some(index) = (0..NODES).find(|index| self.takes_calls(*index)) else {
                return Err(broken("rest", "nobody owns the log"));
            };
            let ask = self.mind(index, |mind| mind.catalogue());
            self.ask(index, ask.map(|ask| (ask, None)));
            self.settle()?;
        }
        Ok(())
    }

    // Who does something.

    /// A process that is known to be there.
    pub(super) fn process(&mut self, index: usize) -> &mut Process {
        self.machines[index].process.as_mut().expect("it lives")
    }

    fn any(&self) -> usize {
        self.dice.below(NODES as u64) as usize
    }

    /// A node that can do something.
    fn any_up(&self) -> Option<usize> {
        let index = self.any();
        self.machines[index].is_up().then_some(index)
    }

    /// A node that can do something and of which this is true.
    fn any_acting(&self, may: impl Fn(&Process) -> bool) -> Option<usize> {
        self.any_that(|machine| machine.is_up() && machine.process.as_ref().is_some_and(&may))
    }

    fn any_that(&self, is_it: impl Fn(&Machine) -> bool) -> Option<usize> {
        let all: Vec<_> = (0..NODES).filter(|index| is_it(&self.machines[*index])).collect();
        (!all.is_empty()).then(|| *self.dice.pick(&all))
    }

    pub(super) fn takes_calls(&self, index: usize) -> bool {
        let process = self.machines[index].process.as_ref();
        process.and_then(|process| process.acting.as_ref()).is_some_and(|acting| acting.is_open)
    }

    fn mind<T>(&self, index: usize, think: impl FnOnce(&Mind<'_>) -> T) -> Option<T> {
        let process = self.machines[index].process.as_ref()?;
        let (swarm, dice, model, plans, house) = (&self.swarm, &self.dice, &self.model, &self.plans, &self.seating);
        let (node, system, last) = (&process.node, &process.acting.as_ref()?.system, self.asked.last());
        Some(think(&Mind { swarm, dice, model, plans, house, node, system, last }))
    }

    fn ask(&mut self, index: usize, ask: Option<(Ask, Option<HoldSlot>)>) {
        let Some((ask, slot)) = ask else { return };
        let end = self.model.last;
        let Some(process) = &mut self.machines[index].process else { return };
        let Some(acting) = &process.acting else { return };
        if let Some(call) = ask.clone().send(&process.node, &acting.system, slot, end) {
            process.calls.push(call);
            self.report.asked += 1;
            self.note(|| format!("at node {index}, {ask}"));
            self.asked.push(ask);
            if self.asked.len() > 8 {
                self.asked.remove(0);
            }
        }
    }

    fn act(&mut self, action: Action) -> Result<(), Broken> {
        let dice = self.dice.clone();
        match action {
            Action::Arrive | Action::Full => self.arrive(action == Action::Full),
            Action::Commit => self.replies.extend(self.stream.commit()),
            Action::Show => {
                let server = dice.below(SERVERS as u64) as usize;
                self.stream.show(server, &mut Random(dice.next()));
            }
            Action::Elect if !self.stream.has_leader() => self.stream.elect(&mut Random(dice.next())),
            Action::LoseLeader => self.stream.lose_leader(&mut Random(dice.next())),
            Action::Double if !self.requests.is_empty() => {
                let copy = dice.pick(&self.requests).clone();
                self.requests.push(copy);
            }
            Action::LosePublish if !self.requests.is_empty() => {
                let index = dice.below(self.requests.len() as u64) as usize;
                self.requests.swap_remove(index);
            }
            Action::LoseReply if !self.replies.is_empty() => {
                let index = dice.below(self.replies.len() as u64) as usize;
                self.replies.swap_remove(index);
            }
            Action::Hear if !self.replies.is_empty() => {
                let index = dice.below(self.replies.len() as u64) as usize;
                let machine = &self.machines[self.replies[index].0.node];
                if !machine.cut && !machine.paused {
                    let (ticket, reply) = self.replies.swap_remove(index);
                    return self.hear_of(ticket, reply);
                }
            }
            Action::Stray => self.stray(),
            Action::Rot => {
                let server = dice.below(SERVERS as u64) as usize;
                self.stream.lose(server, &mut Random(dice.next()));
            }
            Action::Start => {
                if let Some(index) = self.any_that(|machine| machine.process.is_none()) {
                    return self.start(index);
                }
            }
            Action::Resume => {
                if let Some(index) = self.any_that(|machine| machine.paused) {
                    self.machines[index].paused = false;
                }
            }
            Action::Join => {
                if let Some(index) = self.any_that(|machine| machine.cut) {
                    self.machines[index].cut = false;
                }
            }
            Action::Pass => self.pass(1 + dice.below(1_500)),
            Action::PassLong => {
                let long = *dice.pick(&[10_000, 60_000, 3_600_000, 25 * 3_600_000]);
                self.pass(dice.below(long));
                self.note(|| "much time passes".into());
            }
            Action::SetWall => {
                let (index, off) = (self.any(), dice.below(OFF_MS));
                self.machines[index].clock.set_wall(self.wall.plus_millis(off));
            }
            _ => return self.act_of_one(action),
        }
        Ok(())
    }

    /// What is done by a node.
    fn act_of_one(&mut self, action: Action) -> Result<(), Broken> {
        let dice = self.dice.clone();
        let has_term = |process: &Process| process.acting.is_some();
        let is_open = |process: &Process| process.acting.as_ref().is_some_and(|acting| acting.is_open);
        let chosen = match action {
            Action::Ask | Action::AskAgain => self.any_acting(is_open),
            Action::Tick | Action::Cancel | Action::Leave | Action::Deliver => self.any_acting(has_term),
            // An actor of a term that has ended may still have something in hand.
            Action::Turn if dice.chance(900) => self.any_acting(has_term),
            Action::GoOnLeaving => self.any_acting(|process| process.leaving != Leaving::No || process.closing),
            Action::Append => self.any_acting(|process| process.filled.load(Ordering::Relaxed)),
            Action::Later => self.any_acting(|process| process.later.is_some()),
            Action::Fetch => self.any_acting(|process| process.looks || process.fetches.is_some()),
            Action::TimeOut => self.any_acting(|process| !process.sent.is_empty()),
            _ => self.any_up(),
        };
        let Some(index) = chosen else { return Ok(()) };
        match action {
            Action::Follow => return self.follow(index).map(drop),
            Action::Fetch => return self.fetch(index, 100).map(drop),
            Action::Ask => {
                let ask = self.mind(index, |mind| mind.ask()).flatten();
                self.ask(index, ask);
            }
            Action::AskAgain if !self.asked.is_empty() => {
                let ask = dice.pick(&self.asked).clone();
                let ask = self.mind(index, |mind| mind.again(&ask)).flatten();
                self.ask(index, ask);
            }
            Action::Cancel => {
                let calls = &mut self.process(index).calls;
                let any = dice.below(calls.len() as u64) as usize;
                if calls.get(any).is_some_and(Call::may_go) {
                    calls.remove(any);
                }
            }
            Action::Look => return self.look_something_up(index),
            Action::Turn => drop(self.process(index).stage.turn()),
            Action::Append => return self.append(index).map(drop),
            Action::Later => drop(self.publish_later(index)),
            Action::Project => drop(self.process(index).project()),
            Action::Checkpoint => return self.checkpoint(index).map(drop),
            Action::Sync => return self.sync(index),
            Action::Evict => {
                let most = dice.below(3) as usize;
                self.process(index).evict(most);
            }
            Action::Tick => {
                if let Some(acting) = &mut self.process(index).acting {
                    acting.timer.step();
                }
            }
            Action::Fence => return self.fence(index),
            Action::Deliver => return self.deliver(index),
            Action::TimeOut => return self.time_out(index).map(drop),
            Action::Leave => {
                let closing = dice.coin();
                self.leave(index, closing);
            }
            Action::GoOnLeaving => return self.go_on_leaving(index).map(drop),
            Action::Pause => self.machines[index].paused = true,
            Action::Cut => self.machines[index].cut = true,
            Action::Kill => self.crash(index, false),
            Action::PowerCut => self.crash(index, true),
            Action::Halt => {
                let after = dice.below(20);
                self.machines[index].disk.fail(DiskFault { calls: Calls::All, after, failure: Failure::Halt });
            }
            Action::Fail => {
                let calls = *dice.pick(&[Calls::All, Calls::Writes, Calls::Syncs]);
                let failure = *dice.pick(&[Failure::Io, Failure::NoSpace]);
                self.machines[index].disk.fail(DiskFault { calls, after: dice.below(6), failure });
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn pass(&mut self, millis: u64) {
        self.wall = self.wall.plus_millis(millis);
        self.passed.fetch_add(millis, Ordering::Relaxed);
        self.machines.iter().for_each(|machine| machine.clock.advance(millis));
    }

    // The stream.

    fn arrive(&mut self, is_full: bool) {
        if self.requests.is_empty() {
            return;
        }
        let index = self.dice.below(self.requests.len() as u64) as usize;
        if self.machines[self.requests[index].ticket.node].cut && self.dice.chance(900) {
            return;
        }
        let request = self.requests.swap_remove(index);
        self.replies.extend(self.stream.receive(request, is_full));
    }

    /// Something that is none of the owner's: rubbish, another cluster's, or of an epoch that is over.
    fn stray(&mut self) {
        let (tip, payload) = (self.truth.tip(), b"stray".to_vec());
        let frame = FrameRef { first_lsn: tip.next_lsn, count: 1, at: tip.at.plus_millis(1), payload: &payload };
        let frame = tip.batch(&frame).expect("it follows");
        let old = Epoch(self.dice.below(self.truth.epoch.0.max(1)));
        let other = ClusterId(NonZeroU128::new(self.cluster.0.get() + 1).expect("it is above 0"));
        let own = self.cluster;
        let wire = match self.dice.below(4) {
            0 => Wire { payload, ..Wire::default() },
            1 => Message { cluster: other, epoch: self.truth.epoch, body: Body::Frame(frame) }.encode(),
            _ if old == self.truth.epoch => return,
            2 => Message { cluster: own, epoch: old, body: Body::Mark }.encode(),
            _ => Message { cluster: own, epoch: old, body: Body::Frame(frame) }.encode(),
        };
        let ticket = Ticket { node: 0, life: 0, number: 0, expected: None, beside: false };
        let _ = self.stream.receive(Request { ticket, wire }, false);
    }

    /// Looks at what has become part of the stream.
    pub(super) fn see(&mut self) -> Result<(), Broken> {
        while let Some(wire) = self.stream.at(self.truth.looked_at().next()).cloned() {
            let (frames, epoch) = (self.truth.frames.len(), self.truth.epoch);
            self.truth.see(&wire)?;
            let at = self.truth.looked_at();
            let meaning = self.truth.meaning(at).cloned();
            self.ends.push((self.truth.tip(), self.truth.epoch));
            self.note(|| format!("message {at}: {meaning:?}"));
            match meaning {
                Some(Meaning::Fence) => {
                    self.report.epochs += 1;
                    self.over.insert(epoch, self.passed());
                }
                Some(Meaning::Owned(name, life)) => {
                    let author = self.authors.get(&key(&wire)).map(|(index, life)| (self.machines[*index].name, *life));
                    if author != Some((name.as_str(), life)) {
                        let what = format!("message {at} is {name}'s in life {life}, and was written by {author:?}");
                        return Err(broken("I14", what));
                    }
                }
                _ => {}
            }
            if let Some(frame) = self.truth.frames.get(frames).filter(|frame| !frame.is_fence()) {
                let (first, count, at) = (frame.first_lsn(), frame.count(), frame.after().at);
                let frame = Frame { first, count, at, payload: frame.payload().to_vec() };
                self.take(frame)?;
            }
        }
        Ok(())
    }

    /// Takes in a frame that is in the log for good.
    fn take(&mut self, frame: Frame) -> Result<(), Broken> {
        self.trace.update(&frame.payload);
        for machine in &mut self.machines {
            machine.twin.take(&frame)?;
        }
        self.model.take(frame)?;
        let changed = std::mem::take(&mut self.model.changed);
        for process in self.machines.iter_mut().filter_map(|machine| machine.process.as_mut()) {
            process.changed.extend(changed.iter().cloned());
        }
        let is_known = |option: &OptionId, definition: &Definition| {
            self.plans.get(option).is_some_and(|plan| plan.definition.version() == definition.version())
        };
        let news = self.model.options.iter().filter(|(option, definition)| !is_known(option, definition));
        for (option, definition) in news.collect::<Vec<_>>() {
            let plan = PricedPlan::new(*option, definition.clone(), self.seating.of_option(definition, None));
            let replanned_at = self.model.replanned_at.get(option).cloned().unwrap_or_default();
            self.plans.insert(*option, Arc::new(plan.replanned_at(replanned_at)));
        }
        Ok(())
    }

    fn publish(&mut self, index: usize, number: u64, publish: &Publish) {
        let process = self.process(index);
        process.sent.insert(number);
        let ticket = Ticket { node: index, life: process.life, number, expected: publish.expected, beside: false };
        let (wire, life) = (publish.message.encode(), process.life);
        self.authors.insert(key(&wire), (index, life));
        self.note(|| {
            format!("node {index} publishes no. {number} for {:?}: {}", publish.expected, told(&publish.message))
        });
        self.requests.push(Request { ticket, wire });
    }

    pub(super) fn publish_later(&mut self, index: usize) -> bool {
        let Some((number, publish)) = self.process(index).later.take() else { return false };
        self.publish(index, number, &publish);
        true
    }

    // What a node hears.

    fn passed(&self) -> Duration {
        Duration::from_millis(self.passed.load(Ordering::Relaxed))
    }

    /// The time by which a candidate is patient.
    fn now(&self) -> Duration {
        STEP * self.ticks
    }

    pub(super) fn hear_of(&mut self, ticket: Ticket, reply: Reply) -> Result<(), Broken> {
        let index = ticket.node;
        let process = self.machines[index].process.as_mut().filter(|process| process.life == ticket.life);
        // Each is answered once, be it that no answer came in time.
        if process.is_some_and(|process| process.sent.remove(&ticket.number)) {
            self.note(|| format!("node {index} hears {reply:?} to no. {}", ticket.number));
            return self.hear(index, &Heard::Replied(ticket.number, reply));
        }
        Ok(())
    }

    pub(super) fn time_out(&mut self, index: usize) -> Result<bool, Broken> {
        let now = self.now();
        {
            let process = self.process(index);
            let mut follower = process.follower.lock();
            if follower.member().is_late(now) {
                follower.member().give_up();
                return Ok(true);
            }
        }
        let sent: Vec<_> = self.process(index).sent.iter().copied().collect();
        if sent.is_empty() {
            return Ok(false);
        }
        let number = *self.dice.pick(&sent);
        self.process(index).sent.remove(&number);
        self.note(|| format!("node {index} waits no longer for an answer to no. {number}"));
        self.hear(index, &Heard::Replied(number, Reply::Failed))?;
        Ok(true)
    }

    pub(super) fn follow(&mut self, index: usize) -> Result<bool, Broken> {
        let machine = &self.machines[index];
        let (Some(process), false) = (&machine.process, machine.cut) else { return Ok(false) };
        let next = process.follower.lock().state().last_sequence.next();
        let Some((sequence, wire)) = self.stream.consume(machine.server, next) else { return Ok(false) };
        self.hear(index, &Heard::Read(sequence, wire))?;
        Ok(true)
    }

    /// Lets the leader say what a node wants to know of it; in so many of 1,000 times that is somebody who does not know that he
    /// leads no more, who has nothing wrong, but may lack it.
    pub(super) fn fetch(&mut self, index: usize, stale: u64) -> Result<bool, Broken> {
        if self.machines[index].cut {
            return Ok(false);
        }
        if self.process(index).looks
            && let Some(last) = self.stream.ask_leader_for_last()
        {
            self.process(index).looks = false;
            self.hear(index, &Heard::End(last))?;
            return Ok(true);
        }
        let Some(process) = &mut self.machines[index].process else { return Ok(false) };
        let Some(sequence) = process.fetches else { return Ok(false) };
        let Some(answer) = self.stream.ask_leader(sequence) else { return Ok(false) };
        process.fetches = None;
        let answer = answer.filter(|_| !self.dice.chance(stale));
        self.hear(index, &Heard::Fetched(sequence, answer))?;
        Ok(true)
    }

    fn hear(&mut self, index: usize, heard: &Heard) -> Result<(), Broken> {
        self.see()?;
        let now = self.now();
        let outcome = self.process(index).follower.lock().hear(now, heard);
        match outcome {
            Ok(()) => {}
            Err(Fault::Gap { found, .. }) => self.gap(index, found),
            Err(fault) => return Err(broken("I15", format!("node {index} cannot read on: {fault}"))),
        }
        self.go_on(index)
    }

    /// A node finds messages missing: it reads from another server.
    fn gap(&mut self, index: usize, found: Sequence) {
        self.report.faults += 1;
        self.machines[index].server = (self.machines[index].server + 1) % SERVERS;
        if self.flaw == Some(Flaw::SkipsGaps) {
            let name = NodeName::new(self.machines[index].name).expect("it is a name");
            let process = self.process(index);
            let me = Fence { node: name, life: process.life, format: FORMAT };
            let mut follower = process.follower.lock();
            let state = State { last_sequence: Sequence(found.0 - 1), ..follower.state().clone() };
            *follower.member() = Member::new(me, Reader::resume(state), 150 * STEP);
        }
    }

    // What a node does.

    pub(super) fn append(&mut self, index: usize) -> Result<bool, Broken> {
        let filled = self.process(index).filled.swap(false, Ordering::Relaxed);
        if filled || self.flaw == Some(Flaw::AnswersAtOnce) {
            self.go_on(index)?;
        }
        Ok(filled)
    }

    /// Does what the follower orders.
    pub(super) fn go_on(&mut self, index: usize) -> Result<(), Broken> {
        loop {
            let order = self.process(index).follower.lock().go_on();
            match order {
                Ok(None) => break,
                Ok(Some(order)) => self.obey(index, order)?,
                Err(stuck) => return self.stuck(index, &stuck),
            }
            if self.machines[index].process.is_none() {
                return Ok(());
            }
        }
        self.poll(index)?;
        self.must_follow(index)
    }

    fn obey(&mut self, index: usize, order: Order) -> Result<(), Broken> {
        match order {
            Order::Publish { number, publish, again: true } => self.process(index).later = Some((number, publish)),
            Order::Publish { number, publish, again: false } => {
                self.process(index).later = None;
                self.publish(index, number, &publish);
                if self.flaw == Some(Flaw::AdvancesAtOnce)
                    && let Body::Frame(frame) = &publish.message.body
                {
                    let records = codec::decode_batch(frame.first_lsn(), frame.count(), frame.payload());
                    let records = records.map_err(|error| broken("I4", error.to_string()))?;
                    let batch = records.into_iter().map(|(lsn, record)| (lsn, Arc::new(record))).collect();
                    let (after, journal) = (frame.after(), self.process(index).node.journal.clone());
                    journal.advance(Lsn(after.next_lsn.0 - 1), after.at, &Arc::new(batch));
                }
            }
            Order::Fetch(sequence) => self.process(index).fetches = Some(sequence),
            Order::Look => self.process(index).looks = true,
            // There are none here.
            Order::Plan(_) => {}
            Order::Begin(epoch) => return self.begin(index, epoch),
            Order::End => {
                self.report.deposed += 1;
                self.note(|| format!("node {index} is deposed"));
                let goes_on = matches!(self.flaw, Some(Flaw::TermGoesOn | Flaw::AnswersAfterEnd));
                if goes_on {
                    let process = self.process(index);
                    process.orphans.append(&mut process.calls);
                } else {
                    self.end(index)?;
                }
                self.process(index).leaving = Leaving::No;
            }
            Order::Drained => {
                self.end(index)?;
                self.report.handed_over += 1;
                let next = (index + 1 + self.dice.below(NODES as u64 - 1) as usize) % NODES;
                self.process(index).leaving = Leaving::HandedOver(next);
                self.note(|| format!("node {index} has drained, and names node {next}"));
            }
        }
        Ok(())
    }

    fn begin(&mut self, index: usize, epoch: Epoch) -> Result<(), Broken> {
        let (dice, passed, flaw) = (self.dice.clone(), self.passed.clone(), self.flaw);
        let process = self.process(index);
        process.leaving = Leaving::No;
        if process.closing {
            return Ok(());
        }
        match process.begin(&dice, &passed, flaw) {
            Ok(()) => {
                self.report.terms += 1;
                self.note(|| format!("node {index} owns, epoch {epoch}"));
                Ok(())
            }
            Err(Unseen::Unreadable(error)) if self.has_failed(index) => {
                self.process(index).node.journal.poison(&error.to_string());
                Ok(())
            }
            Err(Unseen::Unreadable(error)) => Err(broken(UNREADABLE, error.to_string())),
            // The next look finds out why.
            Err(Unseen::Ended) => Ok(()),
        }
    }

    /// Ends the term. Whoever has an answer by then has it from the term; the others get none.
    fn end(&mut self, index: usize) -> Result<(), Broken> {
        self.poll(index)?;
        self.process(index).end();
        Ok(())
    }

    /// As a node that is asked to go, or to let another one own.
    pub(super) fn leave(&mut self, index: usize, closing: bool) {
        let process = self.process(index);
        process.closing |= closing;
        if let (Some(acting), Leaving::No) = (&mut process.acting, process.leaving) {
            acting.is_open = false;
            process.leaving = Leaving::Retiring;
            self.note(|| format!("node {index} is to let another one own, for good: {closing}"));
        }
    }

    pub(super) fn go_on_leaving(&mut self, index: usize) -> Result<bool, Broken> {
        let dice = self.dice.clone();
        let process = self.process(index);
        match process.leaving {
            Leaving::Retiring if process.calls.is_empty() || dice.chance(200) => {
                process.leaving = Leaving::Draining;
                if let Some(acting) = &process.acting {
                    acting.system.env.writer.close();
                }
                Ok(true)
            }
            Leaving::HandedOver(next) if dice.chance(700) => {
                if self.machines[next].is_up() {
                    self.fence(next)?;
                }
                Ok(true)
            }
            Leaving::HandedOver(_) if !process.closing => {
                // Nobody came.
                let epoch = process.follower.lock().state().epoch;
                self.begin(index, epoch)?;
                self.go_on(index)?;
                Ok(true)
            }
            Leaving::HandedOver(_) | Leaving::No if process.closing && process.acting.is_none() => {
                self.shut_down(index)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// The clean end of a process.
    fn shut_down(&mut self, index: usize) -> Result<(), Broken> {
        self.sync(index)?;
        if self.machines[index].process.is_some() {
            self.note(|| format!("node {index} is shut down"));
            self.gone(index)?;
        }
        Ok(())
    }

    pub(super) fn fence(&mut self, index: usize) -> Result<(), Broken> {
        if self.process(index).closing {
            return Ok(());
        }
        self.process(index).follower.lock().member().fence(FORMAT);
        self.go_on(index)
    }

    pub(super) fn sync(&mut self, index: usize) -> Result<(), Broken> {
        let flaw = self.flaw;
        match self.process(index).sync(flaw) {
            Ok(()) => Ok(()),
            Err(stuck) => self.stuck(index, &stuck),
        }
    }

    pub(super) fn checkpoint(&mut self, index: usize) -> Result<bool, Broken> {
        if !self.swarm.config.checkpoint.enabled {
            return Ok(false);
        }
        let most = self.swarm.config.actors.max_resident as usize;
        let worked = match self.process(index).go_on_checkpointing(most) {
            Ok(worked) => worked,
            Err(stuck) => {
                self.stuck(index, &stuck)?;
                return Ok(true);
            }
        };
        if self.has_failed(index) {
            return Ok(false);
        }
        let Machine { process, twin, .. } = &mut self.machines[index];
        let Some(process) = process else { return Ok(false) };
        if let (true, &Checkpoint::Written(lsn)) = (worked, &process.checkpoint) {
            twin.same_rows(&process.store)?;
            self.report.checkpoints += 1;
            self.note(|| format!("node {index} has a checkpoint at lsn {lsn}"));
        }
        Ok(worked)
    }

    /// An attempt of a delivery to a sink: its owner must have owned the log within the last second.
    fn deliver(&mut self, index: usize) -> Result<(), Broken> {
        self.see()?;
        let flaw = self.flaw;
        let process = self.process(index);
        let Some(acting) = &process.acting else { return Ok(()) };
        let writer = acting.system.env.writer.clone();
        let (epoch, durable) = (process.follower.lock().state().epoch, process.node.journal.durable());
        if !writer.has_owned_within(OWNED_WITHIN) && flaw != Some(Flaw::DeliversOn) {
            // It asks, and begins when there is an answer.
            writer.when_durable(durable, Effect::call(|| {}));
            return Ok(());
        }
        self.report.deliveries += 1;
        match self.over.get(&epoch).map(|over| self.passed().saturating_sub(*over)) {
            Some(late) if late > OWNED_WITHIN => {
                let what = format!("node {index} begins a delivery {} ms after the end of {epoch}", late.as_millis());
                Err(broken("I14: a delivery is late", what))
            }
            _ => Ok(()),
        }
    }

    // What has to hold.

    fn has_failed(&self, index: usize) -> bool {
        let machine = &self.machines[index];
        machine.disk.is_halted()
            || machine.disk.failed() > machine.failed_before
            || machine.process.as_ref().is_some_and(|process| process.node.journal.failure().is_some())
    }

    /// What was looked at could not be read, which is no wonder where the disk has failed.
    fn unless_failed(&self, index: usize, looked: Result<(), Broken>) -> Result<(), Broken> {
        let failed = self.has_failed(index);
        looked.or_else(|broken| if failed && broken.invariant == UNREADABLE { Ok(()) } else { Err(broken) })
    }

    /// I15: the journal of a node is the log's, up to the message that it has read last, and no more than that is durable to it.
    pub(super) fn must_follow(&mut self, index: usize) -> Result<(), Broken> {
        self.see()?;
        let process = self.process(index);
        let (state, durable) = (process.follower.lock().state().clone(), process.node.journal.durable());
        let known = self.ends.get(state.last_sequence.0 as usize);
        if known != Some(&(state.tip, state.epoch)) {
            return Err(broken("I15", format!("node {index} is at {state:?}, and the log at {known:?}")));
        }
        if durable.0 != state.tip.next_lsn.0 - 1 {
            return Err(broken("I3", format!("lsn {durable} is durable to node {index}, which has read {state:?}")));
        }
        Ok(())
    }

    /// Looks whether what callers of a node were told is true.
    pub(super) fn poll(&mut self, index: usize) -> Result<(), Broken> {
        self.see()?;
        let process = self.process(index);
        let known = process.node.journal.durable();
        for call in std::mem::take(&mut process.calls) {
            let (ask, end) = (call.ask().clone(), call.since());
            match call.poll(&self.model)? {
                Answered::NotYet(call) => self.process(index).calls.push(call),
                Answered::Told(_) if known < end => {
                    let what = format!("node {index} answers by lsn {known}, and {end} was in the log before: {ask}");
                    return Err(broken("I14: an answer is stale", what));
                }
                Answered::Told(_) => self.report.told += 1,
                Answered::Unknown => self.report.let_go += 1,
            }
        }
        for call in std::mem::take(&mut self.process(index).orphans) {
            let ask = call.ask().clone();
            match call.poll(&self.model)? {
                Answered::NotYet(call) => self.process(index).orphans.push(call),
                Answered::Told(_) => {
                    let what = format!("node {index} answers after the end of its term: {ask}");
                    return Err(broken("I14: an answer of a term that has ended", what));
                }
                Answered::Unknown => self.report.let_go += 1,
            }
        }
        Ok(())
    }

    /// Looks at everything after a step.
    pub(super) fn look(&mut self) -> Result<(), Broken> {
        self.see()?;
        for index in 0..NODES {
            if self.machines[index].process.is_none() {
                continue;
            }
            self.poll(index)?;
            let failure = self.process(index).node.journal.failure();
            if failure.is_some() || self.machines[index].disk.is_halted() {
                if !self.has_disk_failed(index) {
                    return Err(broken("fault", format!("node {index}: {}", failure.unwrap_or_default())));
                }
                let power = self.dice.coin();
                self.crash(index, power);
                continue;
            }
            let end = self.model.last;
            let process = self.process(index);
            if !process.changed.is_empty() && process.node.replica.applied() == end {
                let changed = std::mem::take(&mut process.changed);
                let replica = process.node.replica.clone();
                let mut agree = changed.iter().map(|name| self.model.agrees(name, &replica));
                let agrees = agree.try_for_each(|agrees| agrees);
                self.unless_failed(index, agrees)?;
            }
        }
        Ok(())
    }

    fn look_something_up(&mut self, index: usize) -> Result<(), Broken> {
        let replica = self.process(index).node.replica.clone();
        if replica.applied() < self.model.last {
            return Ok(());
        }
        let finds = self.model.finds(&replica, &self.dice, &user(self.dice.below(self.swarm.users)));
        self.unless_failed(index, finds)
    }
}

/// What a message is known by.
fn key(wire: &Wire) -> Vec<u8> {
    let mut key = format!("{:?}", wire.headers).into_bytes();
    key.extend_from_slice(&wire.payload);
    key
}

fn told(message: &Message) -> String {
    match &message.body {
        Body::Base(_) => "a base".into(),
        Body::Mark => format!("a mark of epoch {}", message.epoch),
        Body::Fence(fence) => format!("{fence:?} after epoch {}", message.epoch),
        Body::Frame(frame) => {
            format!("{} events from lsn {} in epoch {}", frame.count(), frame.first_lsn(), message.epoch)
        }
    }
}
