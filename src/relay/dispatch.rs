//! What one sink is sent, and in what order: a plain part that somebody else drives.
//!
//! - Events are taken in as the journal has them, at most a *window* of them, and delivered side by side. Of one subject
//!   there is one delivery at a time, and the next one starts when the last one has succeeded.
//! - What fails is *parked*: it is tried again by the schedule, alone; what comes after it in its subject waits behind it;
//!   the others go on. Parked events stand in the sink's aggregate, so the cursor passes them.
//! - The cursor stands before the first event of the window that is neither delivered nor parked.
//!
//! It must not know: the journal, sockets, clocks and random numbers. Time and chance come in as arguments.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::breaker::{self, Breaker};
use super::event::Event;
use super::{Failure, Outcome, Settings};
use crate::domain::sink::{Command, Fate, PARKED_AT_ONCE, Parked, Sink};
use crate::domain::{EventId, Timestamp};

/// The least time between two cursors in the journal.
const CURSOR_EVERY: Duration = Duration::from_secs(1);
/// From how many lsns on that nobody wanted a cursor is worth an event of its own.
const UNWANTED_LSNS: u64 = 100_000;

/// Something to be delivered now.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Its number, to tell [`Dispatch::finished`].
    pub no: u64,
    /// What.
    pub what: Content,
}

/// What is to be delivered.
#[derive(Debug, Clone)]
pub enum Content {
    /// These events, in this order.
    Events(Vec<Arc<Event>>),
    /// The event of this id, which was parked and is not kept in memory.
    Parked(EventId),
}

/// What is to be done.
#[derive(Debug, Default)]
pub struct Step {
    /// Deliveries to be started.
    pub attempts: Vec<Attempt>,
    /// What the sink's aggregate is to be told, in this order.
    pub commands: Vec<Command>,
    /// When to step again, if nothing happens before.
    pub wake_at: Option<Timestamp>,
}

/// An event in the window.
enum Held {
    Waiting(Arc<Event>),
    InFlight(Arc<Event>),
    /// Delivered or parked.
    Done,
}

/// The events of one subject that are not delivered.
#[derive(Default)]
struct Lane {
    /// In the window.
    waiting: BTreeSet<EventId>,
    parked: BTreeSet<EventId>,
    /// Whether one of them is being delivered.
    busy: bool,
}

/// An attempt that is under way.
enum InFlight {
    Events(Vec<EventId>),
    Parked(EventId),
}

impl InFlight {
    fn is_one(&self) -> bool {
        match self {
            Self::Events(ids) => ids.len() == 1,
            Self::Parked(_) => true,
        }
    }
}

/// Serves one sink.
pub struct Dispatch {
    settings: Settings,
    /// Events of one delivery.
    batch: usize,
    window: BTreeMap<EventId, Held>,
    lanes: HashMap<String, Lane>,
    /// Events in the window that could be delivered now.
    ready: BTreeSet<EventId>,
    parked: BTreeMap<EventId, Parked>,
    /// Of the subjects with something parked when it began, the last one that was: up to there all was delivered, dropped or
    /// parked before. Taken in anew it would come after what it came before.
    settled: HashMap<String, EventId>,
    /// What an operator has dropped of what is not taken in yet.
    dropped: BTreeSet<EventId>,
    /// The first parked event of each lane that is to be tried again.
    retries: BTreeSet<(Timestamp, EventId)>,
    in_flight: HashMap<u64, InFlight>,
    last_attempt: u64,
    breaker: Breaker,
    disabled: bool,
    /// Everything up to here has been taken in.
    read: EventId,
    /// The last event that was delivered or parked, with all before it.
    passed: EventId,
    /// Whether there was an event among those that the aggregate does not know to be passed.
    wanted: bool,
    /// The cursor that the aggregate was told.
    told: EventId,
    told_at: Timestamp,
    commands: Vec<Command>,
}

impl Dispatch {
    /// Goes on where `sink` stands, with deliveries of up to `batch` events.
    #[must_use]
    pub fn new(sink: &Sink, settings: Settings, batch: usize) -> Self {
        let cursor = sink.cursor();
        let breaker = Breaker::new(settings.breaker);
        let mut dispatch = Self {
            settings,
            batch,
            window: BTreeMap::new(),
            lanes: HashMap::new(),
            ready: BTreeSet::new(),
            parked: sink.parked().clone(),
            settled: sink.parked().iter().map(|(id, parked)| (parked.subject.clone(), *id)).collect(),
            dropped: sink.dropped().clone(),
            retries: BTreeSet::new(),
            in_flight: HashMap::new(),
            last_attempt: 0,
            breaker,
            disabled: sink.disabled().is_some(),
            read: cursor,
            passed: cursor,
            wanted: false,
            told: cursor,
            told_at: Timestamp::default(),
            commands: Vec::new(),
        };
        for (id, parked) in &dispatch.parked {
            dispatch.lanes.entry(parked.subject.clone()).or_default().parked.insert(*id);
        }
        let subjects: Vec<_> = dispatch.lanes.keys().cloned().collect();
        for subject in subjects {
            dispatch.settle_lane(&subject, Timestamp::default());
        }
        dispatch
    }

    /// Whether it takes more events in now.
    #[must_use]
    pub fn has_room(&self, now: Timestamp) -> bool {
        self.window.len() < self.settings.window
            && self.parked.len() < self.settings.max_parked
            && !self.disabled
            && self.breaker.lets_through(now)
    }

    /// Everything up to here has been taken in.
    #[must_use]
    pub fn read(&self) -> EventId {
        self.read
    }

    /// Everything up to here is delivered, parked or not wanted.
    #[must_use]
    pub fn passed(&self) -> EventId {
        self.passed
    }

    /// What the breaker lets through.
    #[must_use]
    pub fn breaker(&self, now: Timestamp) -> breaker::State {
        self.breaker.state(now)
    }

    /// How long the receiver is left alone.
    #[must_use]
    pub fn pause(&self, now: Timestamp) -> Option<breaker::Pause> {
        self.breaker.pause(now)
    }

    /// Takes events in: all after [`read`](Self::read) that are wanted, up to `position`.
    pub fn take(&mut self, events: Vec<Arc<Event>>, position: EventId) {
        for event in events {
            self.wanted = true;
            let id = event.id;
            // What was settled or dropped before the cursor was known to have passed it comes again after a crash.
            if self.dropped.remove(&id) || self.settled.get(&event.subject).is_some_and(|last| id <= *last) {
                self.window.insert(id, Held::Done);
                continue;
            }
            let lane = self.lanes.entry(event.subject.clone()).or_default();
            if lane.parked.is_empty() {
                lane.waiting.insert(id);
                if !lane.busy {
                    self.ready.insert(id);
                }
                self.window.insert(id, Held::Waiting(event));
            } else {
                lane.parked.insert(id);
                let parked = Parked { fate: Fate::Behind, ..parked(&event) };
                self.parked.insert(id, parked.clone());
                self.commands.push(Command::Park { events: vec![(id, parked)] });
                self.window.insert(id, Held::Done);
            }
        }
        self.settled.retain(|_, last| *last > position);
        self.read = self.read.max(position);
        self.pass();
    }

    /// Moves over what is done.
    fn pass(&mut self) {
        while let Some(first) = self.window.first_entry()
            && matches!(first.get(), Held::Done)
        {
            self.passed = self.passed.max(first.remove_entry().0);
        }
        if self.window.is_empty() {
            self.passed = self.passed.max(self.read);
        }
    }

    /// What is to be done at `now`.
    pub fn step(&mut self, now: Timestamp) -> Step {
        let mut step = Step::default();
        while !self.disabled && self.in_flight.len() < self.settings.concurrency && self.breaker.lets_through(now) {
            let Some((in_flight, what)) = self.next(now) else { break };
            self.last_attempt += 1;
            self.in_flight.insert(self.last_attempt, in_flight);
            self.breaker.started();
            step.attempts.push(Attempt { no: self.last_attempt, what });
        }
        self.tell_cursor(now);
        step.commands = std::mem::take(&mut self.commands);
        step.wake_at = self.wake_at(now);
        step
    }

    /// The next delivery: what is tried again before what is new.
    fn next(&mut self, now: Timestamp) -> Option<(InFlight, Content)> {
        if let Some(&(at, id)) = self.retries.first()
            && at <= now
        {
            self.retries.pop_first();
            let subject = &self.parked.get(&id)?.subject;
            self.lanes.get_mut(subject)?.busy = true;
            return Some((InFlight::Parked(id), Content::Parked(id)));
        }
        let mut ids = Vec::new();
        let mut events = Vec::new();
        while events.len() < self.batch
            && let Some(id) = self.ready.pop_first()
        {
            let held = self.window.get_mut(&id)?;
            let Held::Waiting(event) = held else { continue };
            let event = event.clone();
            *held = Held::InFlight(event.clone());
            if let Some(lane) = self.lanes.get_mut(&event.subject) {
                lane.waiting.remove(&id);
                lane.busy = true;
            }
            ids.push(id);
            events.push(event);
        }
        // Those of the same subjects that did not fit come after these.
        for event in &events {
            if let Some(lane) = self.lanes.get(&event.subject) {
                for id in &lane.waiting {
                    self.ready.remove(id);
                }
            }
        }
        if ids.is_empty() { None } else { Some((InFlight::Events(ids), Content::Events(events))) }
    }

    /// The cursor, if it is time to write it down.
    fn tell_cursor(&mut self, now: Timestamp) {
        let far = self.passed.lsn.0.saturating_sub(self.told.lsn.0) >= UNWANTED_LSNS;
        if self.passed > self.told && (self.wanted || far) && now.since(self.told_at) >= CURSOR_EVERY {
            self.tell_cursor_now(now);
        }
    }

    fn tell_cursor_now(&mut self, now: Timestamp) {
        self.commands.push(Command::Advance { cursor: self.passed });
        (self.told, self.told_at) = (self.passed, now);
        self.wanted = !self.window.is_empty();
    }

    fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        let cursor = self.told_at.plus_millis(CURSOR_EVERY.as_millis() as u64);
        let cursor = Some(cursor).filter(|_| self.passed > self.told && self.wanted);
        let retry = self.retries.first().map(|(at, _)| *at).filter(|_| !self.disabled);
        let work = match self.breaker.opens_at(now) {
            Some(opens_at) => Some(opens_at).filter(|_| !self.disabled),
            None if self.in_flight.len() < self.settings.concurrency && self.breaker.lets_through(now) => retry,
            // The end of an attempt comes first.
            None => None,
        };
        cursor.into_iter().chain(work).min()
    }

    /// The end of an attempt; `entropy` gives random numbers.
    pub fn finished(&mut self, now: Timestamp, no: u64, outcome: Outcome, entropy: &mut dyn FnMut() -> u64) {
        let Some(in_flight) = self.in_flight.remove(&no) else { return };
        match outcome {
            Outcome::Delivered => {
                self.breaker.succeeded();
                match in_flight {
                    InFlight::Events(ids) => self.delivered(&ids, now),
                    InFlight::Parked(id) => {
                        self.commands.push(Command::Settle { events: vec![id] });
                        self.ended(id);
                        self.unpark(id, now);
                    }
                }
            }
            Outcome::Failed(mut failure) => {
                // What one answer says must not put the receiver out of order for as long as it likes.
                failure.retry_after = failure.retry_after.map(|wait| wait.min(self.settings.retry_after_max));
                self.breaker.failed(now, failure.retry_after);
                self.failed(in_flight, &failure, now, entropy);
            }
            Outcome::Undeliverable(failure) => {
                self.breaker.ended();
                let fate = if in_flight.is_one() { Fate::Dead } else { Fate::Retry { at: now } };
                self.failed_to(in_flight, &failure, now, |_, _| fate);
            }
            Outcome::Unreachable(_) => {
                self.breaker.unreachable(now);
                self.put_back(in_flight, now);
            }
            Outcome::Gone(failure) => {
                self.disabled = true;
                self.commands.push(Command::Disable { reason: failure.text.clone() });
                self.failed(in_flight, &failure, now, entropy);
            }
        }
        self.pass();
    }

    fn delivered(&mut self, ids: &[EventId], now: Timestamp) {
        for id in ids {
            if let Some(Held::InFlight(event)) = self.window.insert(*id, Held::Done)
                && let Some(lane) = self.lanes.get_mut(&event.subject)
            {
                lane.busy = false;
                self.settle_lane(&event.subject, now);
            }
        }
    }

    /// Lets what was in an attempt wait as before.
    fn put_back(&mut self, in_flight: InFlight, now: Timestamp) {
        let ids = match in_flight {
            InFlight::Events(ids) => ids,
            InFlight::Parked(id) => {
                self.ended(id);
                self.retries.extend(self.parked.contains_key(&id).then_some((now, id)));
                return;
            }
        };
        let mut subjects = BTreeSet::new();
        for id in ids {
            let Some(held) = self.window.get_mut(&id) else { continue };
            let Held::InFlight(event) = held else { continue };
            let event = event.clone();
            *held = Held::Waiting(event.clone());
            if let Some(lane) = self.lanes.get_mut(&event.subject) {
                lane.waiting.insert(id);
                lane.busy = false;
            }
            subjects.insert(event.subject.clone());
        }
        for subject in &subjects {
            self.settle_lane(subject, now);
        }
    }

    /// Lets the next of a lane that is not busy go on.
    fn settle_lane(&mut self, subject: &str, now: Timestamp) {
        let Some(lane) = self.lanes.get(subject).filter(|lane| !lane.busy) else { return };
        if let Some(first) = lane.parked.first() {
            let at = match self.parked.get(first).map(|parked| parked.fate) {
                Some(Fate::Retry { at }) => Some(at),
                // The one before it is gone.
                Some(Fate::Behind) => Some(now),
                Some(Fate::Dead) | None => None,
            };
            self.retries.extend(at.map(|at| (at, *first)));
        } else if lane.waiting.is_empty() {
            self.lanes.remove(subject);
        } else {
            self.ready.extend(&lane.waiting);
        }
    }

    /// The attempt at a parked event has ended.
    fn ended(&mut self, id: EventId) {
        if let Some(parked) = self.parked.get(&id)
            && let Some(lane) = self.lanes.get_mut(&parked.subject)
        {
            lane.busy = false;
        }
    }

    /// A parked event is delivered or given up.
    fn unpark(&mut self, id: EventId, now: Timestamp) {
        let Some(parked) = self.parked.remove(&id) else { return };
        if let Some(lane) = self.lanes.get_mut(&parked.subject) {
            lane.parked.remove(&id);
            self.settle_lane(&parked.subject, now);
        }
    }

    /// Parks what was not delivered, and in the window what comes after it in its subjects.
    fn failed(&mut self, in_flight: InFlight, failure: &Failure, now: Timestamp, entropy: &mut dyn FnMut() -> u64) {
        let fate = |dispatch: &Self, attempts| dispatch.fate(attempts, failure, now, entropy());
        self.failed_to(in_flight, failure, now, fate);
    }

    /// The same, for a fate that goes by how often an event was tried.
    fn failed_to(
        &mut self,
        in_flight: InFlight,
        failure: &Failure,
        now: Timestamp,
        mut fate: impl FnMut(&Self, u32) -> Fate,
    ) {
        let response = failure.response(now);
        let mut changed = BTreeMap::new();
        let failed = match in_flight {
            InFlight::Parked(id) => self.parked.get(&id).cloned().map(|parked| (id, parked)).into_iter().collect(),
            InFlight::Events(ids) => self.park(&ids),
        };
        let mut subjects = BTreeSet::new();
        for (id, mut parked) in failed {
            // The second of a subject in one batch comes after the first.
            if subjects.insert(parked.subject.clone()) {
                parked.attempts += 1;
                parked.fate = fate(self, parked.attempts);
                parked.response = Some(response.clone());
            }
            changed.insert(id, parked);
        }
        for subject in &subjects {
            let waiting = self.lanes.get_mut(subject).map(|lane| std::mem::take(&mut lane.waiting)).unwrap_or_default();
            for id in waiting {
                self.ready.remove(&id);
                if let Some(Held::Waiting(event)) = self.window.insert(id, Held::Done) {
                    changed.insert(id, Parked { fate: Fate::Behind, ..parked(&event) });
                }
            }
        }
        for (id, parked) in &changed {
            self.parked.insert(*id, parked.clone());
            if let Some(lane) = self.lanes.get_mut(&parked.subject) {
                lane.parked.insert(*id);
                lane.busy = false;
            }
        }
        for subject in &subjects {
            self.settle_lane(subject, now);
        }
        let changed: Vec<_> = changed.into_iter().collect();
        let parts = changed.chunks(PARKED_AT_ONCE).map(|part| Command::Park { events: part.to_vec() });
        self.commands.extend(parts);
    }

    /// Takes the events of a failed attempt out of the window.
    fn park(&mut self, ids: &[EventId]) -> Vec<(EventId, Parked)> {
        let events = ids.iter().filter_map(|id| match self.window.insert(*id, Held::Done) {
            Some(Held::InFlight(event)) => Some((*id, Parked { fate: Fate::Behind, ..parked(&event) })),
            _ => None,
        });
        events.collect()
    }

    /// After how many attempts what becomes of an event.
    fn fate(&self, attempts: u32, failure: &Failure, now: Timestamp, entropy: u64) -> Fate {
        let Some(delay) = self.settings.retry_schedule.get(attempts as usize - 1) else { return Fate::Dead };
        // Full jitter, so that receivers which were down are not met by everybody at once.
        let full = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        let jittered = Duration::from_millis(entropy % full.saturating_add(1));
        let wait = jittered.max(failure.retry_after.unwrap_or_default());
        Fate::Retry { at: now.plus_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)) }
    }

    /// Takes over what an operator has changed: dead letters sent again or dropped, a receiver given another chance. All
    /// commands that [`step`](Self::step) gave must have been handled before `sink` was looked at.
    pub fn refresh(&mut self, sink: &Sink, now: Timestamp) {
        if self.disabled && sink.disabled().is_none() {
            self.breaker.succeeded();
        }
        self.disabled = sink.disabled().is_some();
        let dead: Vec<_> =
            self.parked.iter().filter(|(_, parked)| parked.fate == Fate::Dead).map(|(id, _)| *id).collect();
        for id in dead {
            match sink.parked().get(&id) {
                None => self.unpark(id, now),
                Some(parked) if parked.fate != Fate::Dead => {
                    self.parked.insert(id, parked.clone());
                    self.settle_lane(&parked.subject, now);
                }
                Some(_) => {}
            }
        }
        self.dropped = sink.dropped().range((Bound::Excluded(self.read), Bound::Unbounded)).copied().collect();
    }

    /// An operator has redriven: all events that wait for another attempt, or this one, are tried now, and the receiver is
    /// not left alone any more.
    pub fn hurry(&mut self, event: Option<EventId>, now: Timestamp) {
        self.breaker.succeeded();
        let hurried = |id: EventId| event.is_none_or(|event| event == id);
        let later: Vec<_> = self.retries.iter().copied().filter(|(at, id)| *at > now && hurried(*id)).collect();
        for (at, id) in later {
            self.retries.remove(&(at, id));
            self.retries.insert((now, id));
            if let Some(parked) = self.parked.get_mut(&id) {
                parked.fate = Fate::Retry { at: now };
            }
        }
    }

    /// The last commands, when there will be no other step.
    pub fn stop(&mut self, now: Timestamp) -> Vec<Command> {
        if self.passed > self.told && self.wanted {
            self.tell_cursor_now(now);
        }
        std::mem::take(&mut self.commands)
    }
}

fn parked(event: &Event) -> Parked {
    Parked { subject: event.subject.clone(), kind: event.kind, attempts: 0, fate: Fate::Behind, response: None }
}

#[cfg(test)]
mod tests;
