//! A run: the engine, its callers and receivers, and what befalls them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3Default;

use super::bank::{self, Bank};
use super::clerk::{self, Clerk};
use super::clients::{Answered, Ask, Mind, user};
use super::house::House;
use super::machine::Machine;
use super::model::{Model, UNREADABLE, broken, see};
use super::relay::{Courier, Kit, Offers, Received};
use super::rows::SimRows;
use super::swarm::{Action, Swarm};
use super::watched::Frame;
use super::{Plan, Report};
use crate::clock::TimeSource;
use crate::domain::concert_option::{Definition, PricedPlan};
use crate::domain::invariants::Broken;
use crate::domain::{Lsn, OptionId, SinkId, Timestamp, sink};
use crate::error::OpenError;
use crate::store::committer::Stepped;
use crate::store::disk::Disk;
use crate::store::journal::{self, Frames};
use crate::testing::clock::ManualClock;
use crate::testing::random::{Dice, Random};
use crate::testing::sim_disk::{Calls, Failure, Fault, SimDisk};

/// How far the journal may be ahead of the wall clock.
const AHEAD_MS: u64 = 300_000;
/// Turns until everything has come to rest, at the most.
const TURNS_MAX: u64 = 100_000;
/// Half seconds until nothing is owed any more of payments by the provider, at the most.
const MONEY_ROUNDS_MAX: u64 = 600;
/// In so many of them the provider is still as it was.
const MONEY_ROUNDS_LATE: u64 = 10;
/// So much is done before that, and not heard of.
const MUTE_TURNS: u64 = 20;
/// Between two steps of the timer.
const TICK_MS: u64 = 50;

/// A run.
pub(super) struct Trial {
    plan: Plan,
    swarm: Swarm,
    dice: Dice,
    clock: ManualClock,
    sim_disk: SimDisk,
    disk: Arc<dyn Disk>,
    rows: SimRows,
    model: Model,
    plans: Offers,
    seating: House,
    inboxes: BTreeMap<SinkId, Received>,
    machine: Option<Machine>,
    /// The frame that may have become durable or not.
    unknown: Option<Frame>,
    /// How many disk calls had failed when the engine was started.
    failed_before: u64,
    is_full: bool,
    /// Whether the rows may be damaged.
    is_damaged: bool,
    /// Whether nothing befalls the engine any more.
    is_calm: bool,
    asked: Vec<Ask>,
    bank: Bank,
    step: u64,
    report: Report,
    trace: Xxh3Default,
    history: Vec<String>,
}

impl Trial {
    pub fn new(plan: &Plan) -> Self {
        let mut random = Random(plan.seed);
        let swarm = Swarm::new(&mut random).with_money(plan.seed, plan.flaw.is_some());
        let sim_disk = SimDisk::new(random.next());
        Self {
            plan: plan.clone(),
            dice: Dice::new(random.next()),
            clock: ManualClock::at(swarm.start),
            disk: (plan.disk)(sim_disk.clone()),
            rows: SimRows::new(sim_disk.clone()),
            sim_disk,
            model: Model::default(),
            plans: Offers::new(),
            seating: House::of(swarm.seats),
            inboxes: BTreeMap::new(),
            machine: None,
            unknown: None,
            failed_before: 0,
            is_full: false,
            is_damaged: false,
            is_calm: true,
            asked: Vec::new(),
            bank: Bank::default(),
            step: 0,
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
        let events = self.model.last.0;
        Report { steps: self.step, events, money: self.bank.tally, trace: self.trace.digest(), ..self.report }
    }

    pub fn history(&mut self) -> Vec<String> {
        std::mem::take(&mut self.history)
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if self.plan.with_history {
            let now = self.machine.as_ref().map_or(Timestamp::default(), |machine| machine.system.env.clock.now());
            let line = format!("{:>5} {:>9} ms: {}", self.step, now.since(self.swarm.start).as_millis(), what());
            self.history.push(line);
        }
    }

    pub fn run(&mut self) -> Result<(), Broken> {
        if let Some(after) = self.plan.cut_at {
            self.sim_disk.fail(Fault { calls: Calls::All, after, failure: Failure::Halt });
        }
        self.start()?;
        self.set_the_scene()?;
        self.is_calm = self.plan.cut_at.is_some();
        for step in 0..self.plan.steps {
            self.step = step;
            if self.plan.skipped.contains(&step) {
                continue;
            }
            if self.plan.cut_at.is_some() && self.report.crashes > 0 {
                return Ok(());
            }
            // What a step draws does not depend on what was drawn before it, so that others can be left out.
            let mut random = Random(self.plan.seed ^ step.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            random.next();
            self.dice.reseed(random.next());
            let action = self.swarm.action(random.next());
            if self.plan.cut_at.is_none() || !action.is_accident() {
                let acted = self.act(action);
                self.unless_failed(acted)?;
            }
            self.look()?;
            self.trace.update(&self.dice.state().to_le_bytes());
        }
        self.step = self.plan.steps;
        if self.plan.cut_at.is_some() { Ok(()) } else { self.come_to_rest() }
    }

    fn machine(&mut self) -> &mut Machine {
        self.machine.as_mut().expect("it is started again after every crash")
    }

    fn mind<T>(&self, think: impl FnOnce(&Mind<'_>) -> T) -> Option<T> {
        let machine = self.machine.as_ref()?;
        let (swarm, dice, model, plans, house) = (&self.swarm, &self.dice, &self.model, &self.plans, &self.seating);
        let (node, system, last) = (&machine.node, &machine.system, self.asked.last());
        Some(think(&Mind { swarm, dice, model, plans, house, node, system, last }))
    }

    /// Concerts, options and money.
    fn set_the_scene(&mut self) -> Result<(), Broken> {
        for _ in 0..self.swarm.concerts + self.swarm.options {
            let ask = self.mind(|mind| mind.catalogue());
            self.ask(ask.map(|ask| (ask, None)));
            self.settle()?;
        }
        Ok(())
    }

    fn ask(&mut self, ask: Option<(Ask, Option<crate::limits::HoldSlot>)>) {
        let Some((ask, slot)) = ask else { return };
        // Somebody must write for the log to find out that there is room again: it has no thread of its own here.
        if self.is_full && self.machine().log_status.space_exhausted() {
            return;
        }
        self.note(|| ask.to_string());
        let since = self.model.last;
        let machine = self.machine();
        let call = ask.clone().send(&machine.node, &machine.system, slot, since);
        if let Some(call) = call {
            self.report.asked += 1;
            self.report.asks.count(&ask);
            self.machine().calls.push(call);
            self.asked.push(ask);
            if self.asked.len() > 8 {
                self.asked.remove(0);
            }
        }
    }

    fn act(&mut self, action: Action) -> Result<(), Broken> {
        let dice = self.dice.clone();
        match action {
            Action::Ask => {
                let ask = self.mind(|mind| mind.ask()).flatten();
                self.ask(ask);
            }
            Action::AskAgain if !self.asked.is_empty() => {
                let ask = dice.pick(&self.asked).clone();
                let ask = self.mind(|mind| mind.again(&ask)).flatten();
                self.ask(ask);
            }
            Action::AskAgain => {}
            Action::Cancel => {
                let calls = &mut self.machine().calls;
                let any = dice.below(calls.len() as u64) as usize;
                if calls.get(any).is_some_and(super::clients::Call::may_go) {
                    calls.remove(any);
                }
            }
            Action::Look => self.look_something_up()?,
            Action::Turn => drop(self.machine().stage.turn()),
            Action::Commit => drop(self.commit()),
            Action::Project => drop(self.machine().project()),
            Action::Checkpoint => drop(self.checkpoint()?),
            Action::Evict => {
                let most = dice.below(3) as usize;
                self.machine().evict(most);
            }
            Action::Tick => self.machine().timer.step(),
            Action::Pass => self.clock.advance(1 + dice.below(1_500)),
            Action::PassLong => {
                let long = *dice.pick(&[10_000, 60_000, 3_600_000, 25 * 3_600_000]);
                self.clock.advance(dice.below(long));
                self.note(|| "much time passes".into());
            }
            Action::SetWall => self.set_wall(),
            Action::Deliver => drop(self.deliver()?),
            Action::Kill => self.crash(Crash::Kill)?,
            Action::PowerCut => self.crash(Crash::PowerCut)?,
            Action::Halt => {
                self.sim_disk.fail(Fault { calls: Calls::All, after: dice.below(12), failure: Failure::Halt });
                self.note(|| "the process or the power is about to go".into());
            }
            Action::Fail => {
                let calls = *dice.pick(&[Calls::All, Calls::Writes, Calls::Syncs]);
                let failure = *dice.pick(&[Failure::Io, Failure::NoSpace]);
                self.sim_disk.fail(Fault { calls, after: dice.below(6), failure });
                self.note(|| format!("one of {calls:?} is about to fail with {failure:?}"));
            }
            Action::Fill => {
                // What has failed since the last look, while something was read, had a reason that is still there.
                self.look()?;
                self.is_full = !self.is_full;
                let room =
                    if self.is_full { dice.below(3 * self.swarm.config.journal.segment_bytes) } else { u64::MAX };
                self.sim_disk.set_available_bytes(room);
                self.note(|| format!("the disk has room for {room} bytes"));
            }
            Action::Restart => self.restart()?,
            Action::Term if dice.coin() => {
                // In the middle of a write, which is noticed after it.
                let writer = self.machine().system.env.writer.clone();
                self.machine().told.lock().ends = Some(writer);
            }
            Action::Term => self.machine().end_term(),
            Action::Act => {
                let now = self.machine().system.env.clock.now();
                self.bank.act(&dice, now, &self.model)?;
            }
            Action::Work => drop(self.work()?),
            Action::Tell => drop(self.tell()?),
        }
        Ok(())
    }

    fn commit(&mut self) -> bool {
        let stepped = self.machine().commit();
        if stepped == Stepped::Worked {
            let durable = self.machine().node.journal.durable();
            self.note(|| format!("commit up to lsn {durable}"));
        }
        stepped == Stepped::Worked
    }

    fn checkpoint(&mut self) -> Result<bool, Broken> {
        let most = self.swarm.config.actors.max_resident as usize;
        if !self.swarm.config.checkpoint.enabled || self.is_full || !self.machine().checkpoint(most) {
            return Ok(false);
        }
        let sound = self.machine.as_ref().filter(|machine| machine.failure().is_none());
        if let Some(lsn) = sound.and_then(Machine::written) {
            // What others made durable meanwhile.
            self.hear()?;
            if let Some(machine) = &self.machine {
                self.model.same_rows(&machine.store)?;
            }
            self.note(|| format!("checkpoint at lsn {lsn}"));
        }
        Ok(true)
    }

    fn set_wall(&mut self) {
        let (wall, by) = (self.clock.wall(), *self.dice.pick(&[100, 10_000, 400_000]));
        let wall = if self.dice.coin() { wall.plus_millis(by) } else { wall.minus_millis(by) };
        self.clock.set_wall(wall);
        self.note(|| format!("the wall clock is set by {by} ms"));
    }

    /// Lets a delivery to some receiver go a step further; whether there was anything to do.
    fn deliver(&mut self) -> Result<bool, Broken> {
        let Some(machine) = &mut self.machine else { return Ok(false) };
        for id in (1..).map(SinkId) {
            let sink = see(&machine.system.replica, |replica| replica.sink(id).cloned())?;
            if !sink.is_known() {
                break;
            }
            if sink.registration().is_none() {
                machine.couriers.remove(&id);
            } else {
                let new = || Courier::new(id, &sink, self.swarm.relay.clone(), self.swarm.batch);
                machine.couriers.entry(id).or_insert_with(new);
            }
        }
        let ids: Vec<SinkId> = machine.couriers.keys().copied().collect();
        if ids.is_empty() {
            return Ok(false);
        }
        let id = *self.dice.pick(&ids);
        let Some(courier) = machine.couriers.get_mut(&id) else { return Ok(false) };
        let kit = Kit {
            system: &machine.system,
            plans: &self.plans,
            house: &self.seating,
            dice: &self.dice,
            durable: self.model.last,
            dropped: &self.model.dropped,
            is_well: self.is_calm,
        };
        courier.step(&kit, self.inboxes.entry(id).or_default())
    }

    /// With what those work who drive the provider; nothing while nobody can be asked.
    fn counter(&self) -> Option<(&Machine, clerk::Kit<'_>)> {
        let machine = self.machine.as_ref()?;
        // As in `ask`.
        if machine.node.journal.is_closed() || (self.is_full && machine.log_status.space_exhausted()) {
            return None;
        }
        let (system, model, dice) = (&machine.system, &self.model, &self.dice);
        let now = system.env.clock.now();
        Some((machine, clerk::Kit { system, model, dice, now, flaw: self.plan.flaw }))
    }

    /// Lets what is owed of payments by the provider get a step further; whether there was anything to do.
    fn work(&mut self) -> Result<bool, Broken> {
        let Some(machine) = &mut self.machine else { return Ok(false) };
        let mut clerk = std::mem::replace(&mut machine.clerk, Clerk::new(Timestamp::default()));
        let mut bank = std::mem::take(&mut self.bank);
        let worked = self.let_work(&mut clerk, &mut bank);
        self.bank = bank;
        if let Some(machine) = &mut self.machine {
            machine.clerk = clerk;
        }
        worked
    }

    fn let_work(&mut self, clerk: &mut Clerk, bank: &mut Bank) -> Result<bool, Broken> {
        let Some((machine, kit)) = self.counter() else { return Ok(false) };
        let begun = (!clerk.is_busy() || self.dice.coin()) && clerk.begin(&kit, &machine.stage, bank)?;
        let is_busy = clerk.is_busy();
        self.hear()?;
        let Some((_, kit)) = self.counter() else { return Ok(true) };
        let Some(order) = clerk.step(&kit, bank)? else { return Ok(begun || is_busy) };
        // What others made durable meanwhile.
        self.hear()?;
        let Some((_, kit)) = self.counter() else { return Ok(true) };
        clerk.ask(&order, &kit, bank)?;
        Ok(true)
    }

    /// Lets what the provider tells get a step further; whether there was anything to do.
    fn tell(&mut self) -> Result<bool, Broken> {
        self.hear()?;
        let Some(machine) = &mut self.machine else { return Ok(false) };
        let mut messenger = std::mem::take(&mut machine.messenger);
        let mut bank = std::mem::take(&mut self.bank);
        let told = match self.counter() {
            Some((_, kit)) => messenger.step(&kit, &mut bank),
            None => Ok(false),
        };
        self.bank = bank;
        if let Some(machine) = &mut self.machine {
            machine.messenger = messenger;
        }
        told
    }

    /// Reads something that is known to be there.
    fn look_something_up(&mut self) -> Result<(), Broken> {
        let Some(machine) = &self.machine else { return Ok(()) };
        if machine.system.replica.applied() < self.model.last {
            return Ok(());
        }
        let replica = &machine.system.replica;
        let name = self.dice.pick(&self.model.names()).clone();
        self.model.agrees(&name, replica)?;
        self.model.finds(replica, &self.dice, &user(self.dice.below(self.swarm.users)))
    }

    /// Takes in what has become durable.
    fn hear(&mut self) -> Result<(), Broken> {
        let told = self.machine().told.clone();
        let mut told = told.lock();
        for frame in std::mem::take(&mut told.durable) {
            self.trace.update(&frame.payload);
            self.model.take(frame)?;
        }
        drop(told);
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

    /// What others do while something is read can be the end of the engine, and then it cannot be read; the next look finds
    /// out whether there was a reason.
    fn unless_failed(&self, looked: Result<(), Broken>) -> Result<(), Broken> {
        let has_failed = self.machine.as_ref().is_some_and(|machine| machine.failure().is_some());
        looked.or_else(|broken| if has_failed && broken.invariant == UNREADABLE { Ok(()) } else { Err(broken) })
    }

    /// Looks at everything after a step.
    fn look(&mut self) -> Result<(), Broken> {
        self.hear()?;
        let is_over = self.machine().system.env.writer.is_over() && self.machine().failure().is_none();
        if is_over {
            self.machine().end_term();
        }
        let calls = std::mem::take(&mut self.machine().calls);
        for call in calls {
            match call.poll(&self.model)? {
                Answered::NotYet(call) => self.machine().calls.push(call),
                Answered::Told(ask) => {
                    self.report.told += 1;
                    if let Ask::Sink(id, sink::Command::Redrive { .. } | sink::Command::Drop { .. }) = ask
                        && let Some(courier) = self.machine().couriers.get_mut(&id)
                    {
                        courier.changed = true;
                    }
                }
                Answered::Unknown => self.report.let_go += 1,
            }
        }
        let failure = self.machine().failure();
        if let Some(reason) = &failure {
            let excused = self.is_full || self.sim_disk.failed() > self.failed_before;
            if !excused {
                return Err(broken("fault", reason.clone()));
            }
        }
        if failure.is_some() || self.sim_disk.is_halted() {
            let is_kill = self.plan.cut_at.is_none() && self.dice.coin();
            return self.crash(if is_kill { Crash::Kill } else { Crash::PowerCut });
        }
        if is_over {
            self.next_term()?;
        }
        let Some(machine) = &self.machine else { return Ok(()) };
        if !self.model.changed.is_empty() && machine.system.replica.applied() == self.model.last {
            let changed = std::mem::take(&mut self.model.changed);
            let mut agree = changed.iter().map(|name| self.model.agrees(name, &machine.system.replica));
            self.unless_failed(agree.try_for_each(|agrees| agrees))?;
        }
        Ok(())
    }

    /// Begins a term after one that is over, on the same node.
    fn next_term(&mut self) -> Result<(), Broken> {
        // What checkpoints and others do meanwhile is up to the dice; nobody appends.
        while self.machine().project() {
            if self.dice.coin() {
                self.checkpoint()?;
            }
        }
        // What has become durable in the last moment, and was told nobody.
        self.hear()?;
        let begun = match self.machine().begin_term() {
            Ok(begun) => begun,
            Err(unseen) => return self.unless_failed(Err(broken(UNREADABLE, format!("{unseen:?}")))),
        };
        if begun {
            self.report.terms += 1;
            // No hold is under way, whatever became of those that were.
            if let Some(machine) = &self.machine {
                self.model.counts(&machine.node.counts)?;
            }
            self.note(|| "the term ended, and another has begun".into());
        }
        Ok(())
    }

    /// The end of the process, and maybe of the power; and the next start.
    fn crash(&mut self, crash: Crash) -> Result<(), Broken> {
        self.sim_disk.between(None);
        if self.machine.is_some() {
            // What others made durable while something was read.
            self.hear()?;
        }
        if let Some(machine) = &self.machine {
            let unknown = machine.told.lock().unknown.take();
            self.unknown = self.unknown.take().or(unknown);
        }
        self.machine = None;
        self.report.crashes += 1;
        let mut random = Random(self.dice.next());
        match crash {
            Crash::Kill => self.sim_disk.heal(),
            Crash::PowerCut => {
                self.report.power_cuts += 1;
                self.sim_disk = self.sim_disk.crash(random.next(), self.swarm.tear);
                self.disk = (self.plan.disk)(self.sim_disk.clone());
            }
        }
        self.rows = self.rows.crash(&mut random, self.sim_disk.clone());
        self.note(|| format!("{crash:?}"));
        if random.chance(self.swarm.rows_damaged) {
            self.rows.damage(&mut random);
            self.is_damaged = true;
            self.note(|| "the rows are damaged".into());
        }
        if random.chance(self.swarm.journal_damaged) {
            self.damage_a_copy(&mut random)?;
        }
        if random.chance(100) {
            self.set_wall();
        }
        self.start()
    }

    /// Starts the engine, however often it takes.
    fn start(&mut self) -> Result<(), Broken> {
        loop {
            self.failed_before = self.sim_disk.failed();
            if !self.is_calm && self.dice.chance(self.swarm.second_crash) {
                let failure = *self.dice.pick(&[Failure::Halt, Failure::Halt, Failure::Io, Failure::NoSpace]);
                self.sim_disk.fail(Fault { calls: Calls::All, after: self.dice.below(60), failure });
            }
            self.report.starts += 1;
            let booted = Machine::boot(&self.swarm, &self.disk, &self.rows, &self.clock, &self.dice);
            let has_failed = self.sim_disk.failed() > self.failed_before;
            match booted {
                Ok(machine) if !self.sim_disk.is_halted() => {
                    let is_to_be_cut = self.plan.cut_at.is_some() && self.report.crashes == 0;
                    if !is_to_be_cut {
                        self.sim_disk.heal();
                    }
                    self.failed_before = self.sim_disk.failed();
                    return self.started(machine);
                }
                Err(OpenError::JournalAhead(_)) => {
                    let unknown = self.unknown.as_ref().map_or(self.model.now, |frame| frame.at);
                    let last = self.model.now.max(unknown);
                    let ahead = last.since(self.clock.wall()).as_millis() as u64;
                    if ahead <= AHEAD_MS {
                        return Err(broken("start", format!("refused for {ahead} ms of skew")));
                    }
                    self.clock.set_wall(last);
                    self.sim_disk.heal();
                }
                Err(_) if self.is_full => {
                    self.is_full = false;
                    self.sim_disk.set_available_bytes(u64::MAX);
                    self.sim_disk.heal();
                }
                Err(error) if !has_failed => return Err(broken("start", format!("refused: {error}"))),
                Ok(_) | Err(_) => {
                    self.report.crashes += 1;
                    self.report.second_crashes += 1;
                    let mut random = Random(self.dice.next());
                    if self.plan.cut_at.is_some() || random.coin() {
                        self.report.power_cuts += 1;
                        self.sim_disk = self.sim_disk.crash(random.next(), self.swarm.tear);
                        self.disk = (self.plan.disk)(self.sim_disk.clone());
                    } else {
                        self.sim_disk.heal();
                    }
                    self.rows = self.rows.crash(&mut random, self.sim_disk.clone());
                    self.note(|| "a crash during the start".into());
                }
            }
        }
    }

    /// Looks at what came back: all that was promised, and at most the one frame more that was being written.
    fn started(&mut self, machine: Machine) -> Result<(), Broken> {
        let last = machine.node.journal.durable();
        if last < self.model.last {
            return Err(broken(
                "lost",
                format!("the journal ends at lsn {last}, and {} was promised", self.model.last),
            ));
        }
        if let Some(why) = &machine.rebuilt_because
            && !self.is_damaged
        {
            return Err(broken("I4", format!("sound rows are built again: {why}")));
        }
        self.is_damaged = false;
        // All of it now and then, and what came last always.
        let known = &self.model.frames;
        let from = if self.dice.chance(250) { 0 } else { known.len().saturating_sub(3) };
        let first = known.get(from).map_or(Lsn(1), |frame| frame.first);
        let unreadable = |error: journal::Error| broken("lost", error.to_string());
        let (mut next, mut more) = (from, Vec::new());
        if last > Lsn(0) {
            let mut reader = machine.node.journal.read(first).map_err(unreadable)?;
            while let Some(frame) = reader.next(last).map_err(unreadable)? {
                let frame = Frame { first: frame.first_lsn, count: frame.count, at: frame.at, payload: frame.payload };
                match known.get(next) {
                    Some(same) if *same == frame => next += 1,
                    Some(other) => return Err(broken("lost", format!("{other:?} became {frame:?}"))),
                    None => more.push(frame),
                }
            }
        }
        let unknown = self.unknown.take();
        let is_excused = match &more[..] {
            [] => next == known.len(),
            [one] => next == known.len() && unknown.as_ref() == Some(one),
            _ => false,
        };
        if !is_excused {
            return Err(broken("lost", format!("{} of {} frames are there, and {more:?}", next, known.len())));
        }
        if self.swarm.interleaved > 0 && (!self.is_calm || self.plan.cut_at.is_some()) {
            self.sim_disk.between(Some(machine.others(&self.dice, self.swarm.interleaved)));
        }
        self.note(|| format!("started at lsn {last}"));
        self.trace.update(&last.0.to_le_bytes());
        self.machine = Some(machine);
        for frame in more {
            self.trace.update(&frame.payload);
            self.model.take(frame)?;
        }
        self.hear()?;
        self.check_all()
    }

    /// Compares every aggregate with its events.
    fn check_all(&mut self) -> Result<(), Broken> {
        self.model.changed.clear();
        let Some(machine) = &self.machine else { return Ok(()) };
        let names = self.model.names();
        let mut agree = names.iter().map(|name| self.model.agrees(name, &machine.system.replica));
        self.unless_failed(agree.try_for_each(|agrees| agrees))?;
        self.model.audit.sagas()?;
        self.model.counts(&machine.node.counts)
    }

    /// Changes a byte of what was written in a segment that is not the last, in a copy of the disk: that must be noticed.
    fn damage_a_copy(&mut self, random: &mut Random) -> Result<(), Broken> {
        let disk = self.sim_disk.crash(random.next(), self.swarm.tear);
        let files = disk.files();
        let mut segments: Vec<_> =
            files.iter().filter(|(path, _)| path.extension().is_some_and(|suffix| suffix == "journal")).collect();
        segments.pop();
        if segments.is_empty() {
            return Ok(());
        }
        let (path, bytes) = *random.pick(&segments);
        let written: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        let at = *random.pick(&written);
        let flipped = disk.corrupt(path, at as u64, 1 << random.below(8));
        flipped.map_err(|error| broken("damage", error.to_string()))?;
        self.report.damaged += 1;
        let frames = Frames::in_dir(Arc::new(disk), Path::new("/data"));
        if let Ok(report) = frames.check(Lsn(0)) {
            return Err(broken("damage", format!("byte {at} of {} is not missed: {report:?}", path.display())));
        }
        Ok(())
    }

    /// Shuts the engine down as its host does, and starts it again: nothing is unknown then.
    fn restart(&mut self) -> Result<(), Broken> {
        self.machine().system.env.writer.close();
        while self.commit() {}
        let (Some(machine), false) = (&self.machine, self.sim_disk.is_halted()) else { return Ok(()) };
        if machine.failure().is_some() {
            return Ok(());
        }
        while machine.project() {}
        self.look()?;
        // It may have been left by a crash in between.
        if self.machine().node.journal.is_closed() {
            while self.dice.coin() && self.checkpoint()? {}
            if self.machine().failure().is_none() {
                self.sim_disk.between(None);
                self.machine = None;
                self.rows = self.rows.crash(&mut Random(self.dice.next()), self.sim_disk.clone());
                self.note(|| "shut down".into());
                self.start()?;
            }
        }
        Ok(())
    }

    /// Lets everybody have their turns until nobody has anything to do.
    fn settle(&mut self) -> Result<(), Broken> {
        for _ in 0..TURNS_MAX {
            let worked = self.machine().stage.turn() || self.commit() || self.machine().project();
            self.look()?;
            if !worked {
                return Ok(());
            }
        }
        Err(broken("rest", "there is no end to it"))
    }

    /// Nothing befalls the engine any more: everything that is owed gets done, holds run out, events arrive.
    fn come_to_rest(&mut self) -> Result<(), Broken> {
        self.is_calm = true;
        // What has failed since the last look, while something was read, had a reason that is still there.
        self.sim_disk.between(None);
        self.look()?;
        self.is_full = false;
        self.sim_disk.between(None);
        self.sim_disk.set_available_bytes(u64::MAX);
        self.note(|| "nothing befalls it any more".into());
        // What is about to fail does not, and what has failed is over.
        if !self.sim_disk.is_halted() {
            self.sim_disk.heal();
        }
        self.look()?;
        self.machine().stage.heal();
        self.settle()?;
        for _ in 0..60 {
            self.machine().timer.step();
            self.settle()?;
            self.clock.advance(500);
        }
        self.money_comes_to_rest()?;
        self.model.audit.settled()?;
        if let Some(call) = self.machine().calls.first() {
            return Err(broken("rest", format!("{} is never answered", call.ask())));
        }
        self.holds_run_out()?;
        self.events_arrive()?;
        self.model.audit.settled()?;
        let Some(machine) = &self.machine else { return Ok(()) };
        let wallets = self.model.wallets(&machine.system.replica)?;
        self.model.audit.money(&wallets)?;
        self.model.has_ended(&machine.system.replica)?;
        while self.checkpoint()? {}
        self.restart()?;
        if self.machine().node.journal.durable() != self.model.last {
            return Err(broken("lost", "a clean end is not the end"));
        }
        self.check_all()
    }

    /// I13: in the end all is told, nothing is owed, and whoever paid has the seats or the money.
    fn money_comes_to_rest(&mut self) -> Result<(), Broken> {
        if self.swarm.money.is_none() {
            return Ok(());
        }
        // What is done at last is not heard of, and then the provider has forgotten what it was asked for.
        (self.bank.is_down, self.bank.is_mute) = (false, true);
        for _ in 0..MUTE_TURNS {
            self.work()?;
            self.settle()?;
        }
        self.bank.is_mute = false;
        self.clock.advance(bank::KEYS_MS);
        for round in 0..MONEY_ROUNDS_MAX {
            if round >= MONEY_ROUNDS_LATE {
                let dice = self.dice.clone();
                self.bank.calm(&dice);
            }
            for _ in 0..20 {
                if !(self.work()? | self.tell()?) {
                    break;
                }
                self.settle()?;
            }
            // What is called off may have waited for what was told last.
            let system = self.machine().system.clone();
            let has_ended = self.model.has_ended(&system.replica).is_ok();
            if self.bank.is_idle() && self.model.owes_nothing() && has_ended {
                return self.bank.agrees(&self.model);
            }
            self.machine().timer.step();
            self.settle()?;
            self.clock.advance(500);
        }
        let owing = self.model.provided.iter().filter(|(_, payment)| !payment.owed.is_empty());
        Err(broken("I13", format!("this is owed for ever: {:?}", owing.collect::<Vec<_>>())))
    }

    /// I5: no hold lasts longer than a second after its end.
    fn holds_run_out(&mut self) -> Result<(), Broken> {
        while let Some(until) = self.model.open.values().min().copied() {
            let now = self.machine().system.env.clock.now();
            self.clock.advance(until.since(now).as_millis() as u64);
            for _ in 0..1_000 / TICK_MS {
                self.machine().timer.step();
                self.settle()?;
                self.clock.advance(TICK_MS);
            }
            if let Some((id, late)) = self.model.open.iter().find(|(_, open)| **open <= until) {
                return Err(broken("I5", format!("{id} was to be held until {late:?}, and is a second later")));
            }
        }
        Ok(())
    }

    /// Every event reaches every receiver that is there, in order, unless an operator has dropped it.
    fn events_arrive(&mut self) -> Result<(), Broken> {
        let there: Vec<SinkId> =
            self.model.sinks.keys().copied().filter(|id| !self.model.removed.contains(id)).collect();
        if there.is_empty() {
            return Ok(());
        }
        for round in 0..400 {
            for id in &there {
                let request = crate::domain::idempotency::Request::default();
                if round % 20 == 0 {
                    self.ask(Some((Ask::Sink(*id, sink::Command::Redrive { event: None, request }), None)));
                }
            }
            for _ in 0..60 * there.len() {
                self.deliver()?;
            }
            self.machine().timer.step();
            self.settle()?;
            self.clock.advance(1_000);
            if self.have_arrived(&there)?.is_empty() {
                return self.have_ended(&there);
            }
        }
        let missing = self.have_arrived(&there)?;
        let machine = self.machine();
        let parked = there.iter().map(|id| {
            see(&machine.system.replica, |replica| {
                let sink = replica.sink(*id)?;
                Ok((sink.parked().clone(), sink.cursor()))
            })
        });
        let parked = parked.collect::<Result<Vec<_>, _>>()?;
        Err(broken("relay", format!("these have not arrived: {missing:?}, and these are parked: {parked:?}")))
    }

    /// What has not arrived of what is to.
    fn have_arrived(&mut self, there: &[SinkId]) -> Result<Vec<(SinkId, crate::domain::EventId)>, Broken> {
        let last = self.model.last;
        let passed = |id: &SinkId, machine: &Machine| {
            machine.couriers.get(id).is_some_and(|courier| courier.has_passed(Lsn(last.0.saturating_sub(2))))
        };
        let Some(machine) = &self.machine else { return Ok(Vec::new()) };
        if let Some(id) = there.iter().find(|id| !passed(id, machine)) {
            return Ok(vec![(*id, crate::domain::EventId::end_of(last))]);
        }
        let mut missing = Vec::new();
        for id in there {
            let expected = self.expected(*id)?;
            let inbox = &self.inboxes[id];
            missing.extend(expected.into_iter().map(|event| (*id, event.id)).filter(|(_, event)| !inbox.has(*event)));
        }
        Ok(missing)
    }

    fn expected(&self, id: SinkId) -> Result<Vec<crate::relay::Event>, Broken> {
        let Some(machine) = &self.machine else { return Ok(Vec::new()) };
        let (after, filter) = self.model.sinks.get(&id).map_or_else(Default::default, |sink| (sink.after, sink.filter));
        let kit = Kit {
            system: &machine.system,
            plans: &self.plans,
            house: &self.seating,
            dice: &self.dice,
            durable: self.model.last,
            dropped: &self.model.dropped,
            is_well: true,
        };
        let mut all = kit.all_after(after, filter).map_err(|error| broken("relay", error.to_string()))?;
        all.retain(|event| !self.model.dropped.contains(&(id, event.id)));
        Ok(all)
    }

    /// In each subject, whatever went back has come to the end again.
    fn have_ended(&mut self, there: &[SinkId]) -> Result<(), Broken> {
        for id in there {
            let ends: BTreeMap<_, _> = self.expected(*id)?.into_iter().map(|event| (event.subject, event.id)).collect();
            let inbox = &self.inboxes[id];
            for (subject, end) in ends {
                let last = inbox.last_of(&subject);
                if last < Some(end) {
                    return Err(broken("relay", format!("{id} got {last:?} of {subject} last, and then not {end}")));
                }
            }
            self.report.delivered += inbox.len() as u64;
        }
        Ok(())
    }
}

/// How a life of the engine ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crash {
    /// The process goes: what was written stays.
    Kill,
    /// The power goes: what was synced stays.
    PowerCut,
}
