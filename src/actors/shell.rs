//! The one shell around every aggregate: decide, append, evolve, and hold answers back until they are durable.

use std::sync::Arc;

use hashbrown::HashMap;

use super::alarms::{AggregateId, Alarm, Alarms};
use super::reply;
use crate::clock::Clock;
use crate::domain::{Answer, Decided, Ignore, Lsn, Message, RECORD_BYTES_MAX, Rejection, Role, Timestamp};
use crate::store::codec::{Entity, Record};
use crate::store::committer::{Effect, Writer};

/// What comes of a command.
pub type Outcome<A> = Result<<A as crate::domain::Aggregate>::Reply, Rejection>;
/// Where it goes.
pub type ReplyTo<A> = reply::ReplyTo<Outcome<A>>;

/// What every shell of a term shares.
#[derive(Clone)]
pub struct Environment {
    /// Where facts go.
    pub writer: Writer,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Who is to be woken when.
    pub alarms: Arc<Alarms>,
}

/// An aggregate and what surrounds it.
pub struct Shell<A: Entity> {
    id: A::Id,
    state: A,
    env: Environment,
    /// The last event appended; everything up to it is in `state`.
    last: Lsn,
    /// Callers who wait for something that is under way.
    parked: HashMap<u64, Vec<(Role, ReplyTo<A>)>>,
    decided: Decided<A::Event>,
    /// What the alarms know.
    alarm: Option<Timestamp>,
    owing: bool,
}

impl<A: Entity> Shell<A>
where
    A::Id: Into<AggregateId>,
{
    /// Around an aggregate as it is durable at `last`.
    pub fn new(id: A::Id, state: A, last: Lsn, env: Environment) -> Self {
        Self { id, state, env, last, parked: HashMap::new(), decided: Decided::default(), alarm: None, owing: false }
    }

    /// The last event that its state holds.
    pub fn last(&self) -> Lsn {
        self.last
    }

    /// Whether nobody waits in it, so that it may be put to sleep.
    pub fn is_idle(&self) -> bool {
        self.parked.is_empty()
    }

    /// Handles a command that came at `now`; what is to be told to others is added to `tell`.
    pub fn handle(
        &mut self,
        now: Timestamp,
        command: &A::Command,
        mut reply: Option<ReplyTo<A>>,
        tell: &mut Vec<Message>,
    ) {
        let watch = reply.as_mut().and_then(ReplyTo::<A>::begin);
        if self.state.due().is_some_and(|due| due <= now) {
            self.expire(now, tell);
        }
        let answer = self.state.decide(now, command, &mut self.decided);
        if let Some(reply) = &mut reply {
            reply.decided(!self.decided.events.is_empty());
        }
        let first = match answer {
            Ok(Answer::Silent) => self.commit(now, None, tell),
            Ok(Answer::Reply(value)) => self.commit(now, reply.and_then(|reply| reply.leave(Ok(value))), tell),
            Err(rejection) => self.commit(now, reply.and_then(|reply| reply.leave(Err(rejection))), tell),
            Ok(Answer::Park { ticket, role }) => {
                let first = self.commit(now, None, tell);
                if first.is_some()
                    && let Some(reply) = reply
                {
                    self.parked.entry(ticket).or_default().push((role, reply));
                }
                first
            }
            Ok(Answer::Settle { ticket, starter, duplicate, other }) => {
                let committed = self.commit(now, None, tell);
                if let Some(first) = committed {
                    for (role, mut reply) in self.parked.remove(&ticket).unwrap_or_default() {
                        let answer = match role {
                            Role::Starter => {
                                reply.appended(first, self.last);
                                &starter
                            }
                            Role::Duplicate => &duplicate,
                            Role::Other => &other,
                        };
                        if let Some(effect) = reply.leave(answer.clone()) {
                            self.env.writer.when_durable(self.last, effect);
                        }
                    }
                }
                committed
            }
        };
        if let (Some(watch), Some(first)) = (watch, first)
            && first <= self.last
        {
            watch.appended(first, self.last);
        }
        self.set_alarm();
    }

    /// Does what the passing of time brings about, or sends again what is owed.
    pub fn wake(&mut self, now: Timestamp, alarm: Alarm, tell: &mut Vec<Message>) {
        // What was registered has rung.
        match alarm {
            Alarm::Due(entropy) => {
                self.alarm = None;
                if self.state.due().is_some_and(|due| due <= now) {
                    self.expire(now, tell);
                    self.state.tick(now, entropy, &mut self.decided);
                    self.commit(now, None, tell);
                }
            }
            Alarm::Owed => {
                self.owing = false;
                self.state.owed(now, tell);
            }
        }
        self.set_alarm();
    }

    /// Lets lapse what has. Each event is a record of its own: very much may lapse at once, as after a long night, and
    /// records are bounded.
    fn expire(&mut self, now: Timestamp, tell: &mut Vec<Message>) {
        self.state.expire(now, &mut self.decided);
        for event in std::mem::take(&mut self.decided.events) {
            self.decided.events.push(event);
            if self.commit(now, None, tell).is_none() {
                return;
            }
        }
    }

    /// Appends what was decided and takes it into the state; `None` if the journal is closed or the term over. `answer` goes out once
    /// everything that it rests on is durable, whether something was decided or not. Gives the first event that was appended, or one
    /// after the last if there was nothing to append.
    fn commit(&mut self, now: Timestamp, answer: Option<Effect>, tell: &mut Vec<Message>) -> Option<Lsn> {
        let mut first = self.last.next();
        if !self.decided.events.is_empty() {
            // No more than is needed: records are many, and stay for a while.
            let events = self.decided.events.drain(..).collect();
            let record = Arc::new(Record { at: now, facts: A::facts(&self.id, events) });
            debug_assert!(record.bytes() <= RECORD_BYTES_MAX, "{} decides {} bytes", self.id, record.bytes());
            let Ok(appended) = self.env.writer.append(record.clone(), answer) else {
                self.decided.tell.clear();
                return None;
            };
            first = appended;
            for (meta, event) in record.metas(first).zip(A::events(&record.facts)) {
                self.state.evolve(meta, event, &mut Ignore);
                self.last = meta.lsn;
            }
        } else if let Some(answer) = answer {
            self.env.writer.when_durable(self.last, answer);
        }
        // After the append: the receiver's events get a higher lsn, and a crash cuts off a suffix.
        tell.append(&mut self.decided.tell);
        Some(first)
    }

    /// Lets the alarms know of an earlier time than they have; a later one is found out when the earlier rings.
    fn set_alarm(&mut self) {
        if let Some(due) = self.state.due()
            && self.alarm.is_none_or(|known| due < known)
        {
            self.alarm = Some(due);
            self.env.alarms.due(self.id.clone().into(), due);
        }
        if self.state.owes() && !self.owing {
            self.owing = true;
            self.env.alarms.owing(self.id.clone().into());
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use smallvec::smallvec;

    use super::*;
    use crate::clock::TimeSource;
    use crate::domain::concert_option::{
        Area, AreaPlaces, ConcertOption, Definition, Event, Price, Prices, SeatSet, Window,
    };
    use crate::domain::seating_plan::PlanHash;
    use crate::domain::{Aggregate, ConcertId, Meta, OptionId, Points, UserId};
    use crate::store::codec::decode_batch;
    use crate::store::committer::{Committer, Way};
    use crate::store::journal::{self, FrameRef, Log};
    use crate::store::node::Journal;
    use crate::testing::clock::ManualClock;

    #[derive(Default, Clone)]
    struct Records(Arc<Mutex<Vec<Record>>>);

    impl Log for Records {
        fn append(&mut self, frame: &FrameRef<'_>) -> Result<(), journal::Error> {
            let records = decode_batch(frame.first_lsn, frame.count, frame.payload).unwrap();
            self.0.lock().extend(records.into_iter().map(|(_, record)| record));
            Ok(())
        }

        fn seal(&mut self) -> Result<(), journal::Error> {
            Ok(())
        }
    }

    fn standing_room(option: OptionId, capacity: u32) -> Event {
        let definition = Definition {
            concert: ConcertId(1),
            starts_at: Timestamp::MAX,
            window: Window { sale_closes_at: Timestamp::MAX, ..Window::default() },
            plan: PlanHash::of(b""),
            seat_count: 0,
            prices: vec![Price { category: "A".into(), points: Points::ZERO }],
            areas: vec![Area { name: "Floor".into(), capacity, category: "A".into() }],
            hold_seconds: 1,
            payment_seconds: 1,
            max_seats_per_reservation: 1,
            max_seats_per_user: 10_000,
            focus: None,
            accessible: Vec::new(),
            not_for_sale: SeatSet::default(),
            payment_methods: Vec::new(),
            currency: None,
            amended: None,
        };
        Event::OptionDefined { option, definition: Box::new(definition) }
    }

    #[test]
    fn what_lapses_at_once_stands_in_records_of_a_bounded_size() {
        const HOLDS: u64 = 25_000;
        let (id, start) = (OptionId(1), Timestamp::from_millis(1_000));
        let mut state = ConcertOption::default();
        let mut lsn = Lsn(0);
        let mut evolve = |event: &Event| {
            lsn = lsn.next();
            state.evolve(Meta { lsn, at: start }, event, &mut Ignore);
        };
        evolve(&standing_room(id, HOLDS as u32));
        let user: UserId = "anna".parse().unwrap();
        for reservation in 1..=HOLDS {
            evolve(&Event::SeatsHeld {
                reservation,
                user: user.clone(),
                seats: smallvec![],
                areas: smallvec![AreaPlaces { area: 0, count: 1 }],
                amount: Points::ZERO,
                expires_at: start.plus_millis(1_000),
                token: None,
                key: None,
                note: None,
                prices: Prices::default(),
                from_blocked: Vec::new(),
                by: None,
            });
        }
        let log = Records::default();
        let (writer, batches) = Writer::begin(&Journal::of_nothing(lsn), Way::Alone);
        let mut committer = Committer::new(batches, log.clone());
        let clock = ManualClock::at(start.plus_millis(1_000)).start_after(start);
        let env = Environment { writer, clock, alarms: Arc::default() };
        let mut shell = Shell::new(id, state, lsn, env);
        shell.wake(start.plus_millis(1_000), Alarm::Due(0), &mut Vec::new());
        committer.step();
        assert_eq!(shell.state.reservations().count(), 0);
        let lapsed: Vec<_> = (log.0.lock().iter())
            .map(|record| match ConcertOption::events(&record.facts) {
                [Event::ReservationsExpired { reservations }] => reservations.len(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(lapsed, [10_000, 10_000, 5_000]);
    }
}
