//! Deliveries to receivers that fail, and what reached them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::task::Poll;

use super::house::House;
use super::model::{broken, see};
use super::stage::Stage;
use crate::actors::actor::Delivery;
use crate::actors::registry::Origin;
use crate::actors::reply::{self, Reply as Answer};
use crate::actors::system::{Routed, System};
use crate::domain::concert_option::PricedPlan;
use crate::domain::invariants::Broken;
use crate::domain::sink::{Command, Reply, Sink};
use crate::domain::{EventFilter, EventId, Lsn, OptionId, Rejection, SinkId};
use crate::engine::events::{find, read};
use crate::error::Error;
use crate::relay::dispatch::{Attempt, Content, Dispatch};
use crate::relay::projection::{Known, Missing};
use crate::relay::walk::Walk;
use crate::relay::{Event, Failure, Outcome, Settings};
use crate::store::node::Journal;
use crate::testing::random::Dice;

/// Events that are read at once.
const READ_EVENTS: usize = 8;

/// All plans that options have.
pub(in crate::testing) type Offers = BTreeMap<OptionId, Arc<PricedPlan>>;

/// What a receiver has got.
#[derive(Debug, Default)]
pub(super) struct Received {
    all: BTreeSet<EventId>,
    subjects: BTreeMap<String, Subject>,
}

/// Of one subject.
#[derive(Debug, Default)]
struct Subject {
    /// What was read for the receiver, in any life of the engine.
    due: BTreeSet<EventId>,
    /// What came last.
    last: Option<EventId>,
}

impl Received {
    /// Takes in what arrived. It may go back to what came before; but from where it stands it goes on without leaving
    /// anything out, except what an operator has dropped, and that never comes.
    fn receive(&mut self, sink: SinkId, events: &[Arc<Event>], kit: &Kit<'_>) -> Result<(), Broken> {
        for event in events {
            let (id, about) = (event.id, &event.subject);
            if id.lsn > kit.durable {
                return Err(broken("I3", format!("{id} is delivered, and not durable")));
            }
            let is_dropped = |id: &EventId| kit.dropped.contains(&(sink, *id));
            if is_dropped(&id) {
                return Err(broken("relay", format!("{id} of {about} was dropped, and comes")));
            }
            let subject = self.subjects.entry(about.clone()).or_default();
            let after = subject.last.map_or(Bound::Unbounded, Bound::Excluded);
            if subject.last < Some(id)
                && let Some(missing) = subject.due.range((after, Bound::Excluded(id))).find(|id| !is_dropped(id))
            {
                return Err(broken("relay", format!("{id} of {about} comes, and {missing} is left out")));
            }
            subject.last = Some(id);
            self.all.insert(id);
        }
        Ok(())
    }

    /// These were read for it, and are to come.
    fn expect(&mut self, events: &[Event]) {
        for event in events {
            self.subjects.entry(event.subject.clone()).or_default().due.insert(event.id);
        }
    }

    /// Whether this event has come.
    pub fn has(&self, event: EventId) -> bool {
        self.all.contains(&event)
    }

    /// How many have come.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// What came last of a subject.
    pub fn last_of(&self, subject: &str) -> Option<EventId> {
        self.subjects.get(subject)?.last
    }
}

/// With what a courier works.
pub(super) struct Kit<'a> {
    pub system: &'a Arc<System<Stage>>,
    pub plans: &'a Offers,
    pub house: &'a House,
    pub dice: &'a Dice,
    pub durable: Lsn,
    /// What operators have given up.
    pub dropped: &'a BTreeSet<(SinkId, EventId)>,
    /// Whether the receiver takes everything.
    pub is_well: bool,
}

impl Kit<'_> {
    fn journal(&self) -> &Journal {
        self.system.env.writer.journal()
    }

    fn look_up(&self, missing: &[Missing], known: &mut Known) -> Result<(), Error> {
        for one in missing {
            if let Missing::Plan(option) = one {
                known.plan(self.plans[option].clone());
                continue;
            }
            if let Missing::FormerPlan(option, index) = one {
                let offer = &self.plans[option];
                let plan = self.house.of_option(&offer.definition, Some(*index));
                known.former_plan(*index, Arc::new(PricedPlan::new(*option, offer.definition.clone(), plan)));
                continue;
            }
            let gone = || Error::Internal(format!("{one:?} is missing"));
            let found = find(&mut *self.system.replica.lock().map_err(|_| gone())?, *one).ok_or_else(gone)?;
            let row = found.row().map_err(|_| gone())?.ok_or_else(gone)?;
            read(*one, &row, known).map_err(|error| Error::Internal(error.to_string()))?;
        }
        Ok(())
    }

    /// The next events of a walk.
    fn go_on(
        &self,
        walk: &mut Walk,
        after: EventId,
        filter: EventFilter,
        max: usize,
    ) -> Result<(Vec<Event>, EventId), Error> {
        let limit = self.system.replica.applied();
        let mut look_up = |missing: &[Missing], known: &mut Known| self.look_up(missing, known);
        let (batch, _) = walk.go_on(&mut look_up, after, filter, limit, max)?;
        walk.forget_above(4);
        Ok((batch.events, batch.position))
    }

    /// All events after one of them.
    pub fn all_after(&self, after: EventId, filter: EventFilter) -> Result<Vec<Event>, Error> {
        let mut walk = Walk::begin(self.journal(), after)?;
        let (mut all, mut position) = (Vec::new(), after);
        loop {
            let (events, at) = self.go_on(&mut walk, position, filter, 100)?;
            if at == position {
                return Ok(all);
            }
            position = at;
            all.extend(events);
        }
    }

    fn ask(&self, id: SinkId, command: Command) -> Answer<Result<Reply, Rejection>> {
        let (reply, answer) = reply::channel();
        let delivery = Delivery::Command(command, Some(reply));
        // From inside there is no limit to meet.
        let _ = Sink::registry(self.system).deliver(self.system, &id, delivery, Origin::Inside);
        answer
    }
}

/// Delivers to one sink, as the engine's own does, a step at a time.
pub(super) struct Courier {
    id: SinkId,
    filter: EventFilter,
    dispatch: Dispatch,
    walk: Option<Walk>,
    under_way: Vec<Attempt>,
    /// An operator has changed something.
    pub changed: bool,
    refreshing: Option<Answer<Result<Reply, Rejection>>>,
}

impl Courier {
    pub fn new(id: SinkId, sink: &Sink, settings: Settings, batch: usize) -> Self {
        Self {
            id,
            filter: sink.registration().map_or(EventFilter::NONE, |registration| registration.filter),
            dispatch: Dispatch::new(sink, settings, batch),
            walk: None,
            under_way: Vec::new(),
            changed: false,
            refreshing: None,
        }
    }

    /// Goes a step further; whether there was anything to do.
    pub fn step(&mut self, kit: &Kit<'_>, inbox: &mut Received) -> Result<bool, Broken> {
        let now = kit.system.env.clock.now();
        let mut worked = self.refresh(kit)?;
        if self.refreshing.is_some() {
            // As the engine's own, it does nothing else until it knows what has changed.
            return Ok(worked);
        }
        match kit.dice.below(3) {
            0 if self.dispatch.has_room(now) => worked |= self.read(kit, inbox)?,
            1 if !self.under_way.is_empty() => {
                let any = kit.dice.below(self.under_way.len() as u64) as usize;
                let attempt = self.under_way.swap_remove(any);
                let outcome = self.attempt(kit, &attempt, inbox)?;
                self.dispatch.finished(now, attempt.no, outcome, &mut || kit.dice.next());
                worked = true;
            }
            _ => {}
        }
        let step = self.dispatch.step(now);
        worked |= !step.commands.is_empty() || !step.attempts.is_empty();
        for command in step.commands {
            kit.system.command::<Sink>(&self.id, command);
        }
        self.under_way.extend(step.attempts);
        Ok(worked)
    }

    /// Whether everything up to `lsn` is delivered, parked or not wanted, and nothing is on its way.
    pub fn has_passed(&self, lsn: Lsn) -> bool {
        self.dispatch.passed().lsn >= lsn && self.under_way.is_empty() && self.refreshing.is_none() && !self.changed
    }

    fn read(&mut self, kit: &Kit<'_>, inbox: &mut Received) -> Result<bool, Broken> {
        let after = self.dispatch.read();
        let mut read = || -> Result<_, Error> {
            if self.walk.is_none() {
                self.walk = Some(Walk::begin(kit.journal(), after)?);
            }
            let Some(walk) = &mut self.walk else { return Ok((Vec::new(), after)) };
            kit.go_on(walk, after, self.filter, READ_EVENTS)
        };
        match read() {
            Ok((events, position)) => {
                let worked = position > after;
                inbox.expect(&events);
                self.dispatch.take(events.into_iter().map(Arc::new).collect(), position);
                Ok(worked)
            }
            Err(error) => self.failed(kit, &error).map(|()| false),
        }
    }

    /// Nothing of the journal may be missing, unless the disk has failed.
    fn failed(&mut self, kit: &Kit<'_>, error: &Error) -> Result<(), Broken> {
        self.walk = None;
        let excused = kit.journal().is_closed() || matches!(error, Error::Internal(text) if text.contains("cannot "));
        if excused { Ok(()) } else { Err(broken("relay", error.to_string())) }
    }

    fn attempt(&mut self, kit: &Kit<'_>, attempt: &Attempt, inbox: &mut Received) -> Result<Outcome, Broken> {
        let failed = || Outcome::Failed(Failure::default());
        let events = match &attempt.what {
            Content::Events(events) => events.clone(),
            Content::Parked(id) => {
                let find = || -> Result<_, Error> {
                    let mut walk = Walk::begin(kit.journal(), id.before())?;
                    Ok(kit.go_on(&mut walk, id.before(), EventFilter::ALL, 1)?.0)
                };
                match find() {
                    Ok(events) if events.first().is_some_and(|event| event.id == *id) => {
                        events.into_iter().map(Arc::new).collect()
                    }
                    Ok(_) => return Err(broken("relay", format!("{id} is parked, and there is no such event"))),
                    Err(error) => return self.failed(kit, &error).map(|()| failed()),
                }
            }
        };
        let fate = if kit.is_well { 0 } else { kit.dice.below(100) };
        if fate < 70 {
            inbox.receive(self.id, &events, kit)?;
        }
        Ok(match fate {
            0..55 => Outcome::Delivered,
            65..85 => Outcome::Unreachable(Failure::default()),
            97..99 => Outcome::Undeliverable(Failure::default()),
            99 => Outcome::Gone(Failure::default()),
            _ => failed(),
        })
    }

    /// Takes over what an operator has changed, once everything that the sink was told before is durable.
    fn refresh(&mut self, kit: &Kit<'_>) -> Result<bool, Broken> {
        if std::mem::take(&mut self.changed) {
            self.refreshing = Some(kit.ask(self.id, Command::Advance { cursor: EventId::default() }));
            return Ok(true);
        }
        let Some(answer) = &self.refreshing else { return Ok(false) };
        if kit.system.replica.applied() < kit.journal().durable() {
            return Ok(false);
        }
        let Poll::Ready(answer) = answer.try_recv() else { return Ok(false) };
        self.refreshing = None;
        if let Some(Ok(_)) = answer {
            let sink = see(&kit.system.replica, |replica| replica.sink(self.id).cloned())?;
            self.dispatch.refresh(&sink, kit.system.env.clock.now());
        }
        Ok(true)
    }
}
