//! The one shell around every aggregate: decide, append, evolve, and hold answers back until they are durable.

use std::sync::Arc;

use hashbrown::HashMap;
use tokio::sync::oneshot;

use super::alarms::{Alarms, Key};
use crate::clock::Clock;
use crate::domain::{Answer, Decided, Ignore, Lsn, Message, Rejection, Role, Timestamp};
use crate::store::codec::{Entity, Record};
use crate::store::committer::{Effect, Journal};

/// Where an answer goes. Dropped, it tells the caller that the command was not handled, or the engine has failed.
pub type ReplyTo<A> = oneshot::Sender<Result<<A as crate::domain::Aggregate>::Reply, Rejection>>;

/// What every shell of an engine shares.
#[derive(Clone)]
pub struct Environment {
    /// Where facts go.
    pub journal: Journal,
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
    A::Id: Into<Key>,
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

    /// Handles a command; what is to be told to others is added to `tell`.
    pub fn handle(&mut self, command: &A::Command, reply: Option<ReplyTo<A>>, tell: &mut Vec<Message>) {
        let now = self.env.clock.now();
        if self.state.due().is_some_and(|due| due <= now) {
            self.state.expire(now, &mut self.decided);
            self.commit(now, None, tell);
        }
        match self.state.decide(now, command, &mut self.decided) {
            Ok(Answer::Silent) => {
                self.commit(now, None, tell);
            }
            Ok(Answer::Reply(value)) => {
                self.commit(now, reply.map(|reply| send(reply, Ok(value))), tell);
            }
            Err(rejection) => {
                self.commit(now, reply.map(|reply| send(reply, Err(rejection))), tell);
            }
            Ok(Answer::Park { ticket, role }) => {
                if self.commit(now, None, tell)
                    && let Some(reply) = reply
                {
                    self.parked.entry(ticket).or_default().push((role, reply));
                }
            }
            Ok(Answer::Settle { ticket, starter, duplicate, other }) => {
                if self.commit(now, None, tell) {
                    for (role, reply) in self.parked.remove(&ticket).unwrap_or_default() {
                        let answer = match role {
                            Role::Starter => &starter,
                            Role::Duplicate => &duplicate,
                            Role::Other => &other,
                        };
                        self.env.journal.when_durable(self.last, send(reply, answer.clone()));
                    }
                }
            }
        }
        self.set_alarm();
    }

    /// Does what the passing of time brings about, and sends again what is owed.
    pub fn wake(&mut self, entropy: u64, tell: &mut Vec<Message>) {
        let now = self.env.clock.now();
        // What was registered has rung.
        self.alarm = None;
        self.owing = false;
        if self.state.due().is_some_and(|due| due <= now) {
            self.state.expire(now, &mut self.decided);
            self.commit(now, None, tell);
            self.state.tick(now, entropy, &mut self.decided);
            self.commit(now, None, tell);
        }
        self.state.owed(now, tell);
        self.set_alarm();
    }

    /// Appends what was decided and takes it into the state; false if the journal is closed. `answer` goes out once
    /// everything that it rests on is durable, whether something was decided or not.
    fn commit(&mut self, now: Timestamp, answer: Option<Effect>, tell: &mut Vec<Message>) -> bool {
        if !self.decided.events.is_empty() {
            let events = std::mem::take(&mut self.decided.events);
            let record = Arc::new(Record { at: now, facts: A::facts(&self.id, events) });
            let Ok(first) = self.env.journal.append(record.clone(), answer) else {
                self.decided.tell.clear();
                return false;
            };
            for (meta, event) in record.metas(first).zip(A::events(&record.facts)) {
                self.state.evolve(meta, event, &mut Ignore);
                self.last = meta.lsn;
            }
        } else if let Some(answer) = answer {
            self.env.journal.when_durable(self.last, answer);
        }
        // After the append: the receiver's events get a higher lsn, and a crash cuts off a suffix.
        tell.append(&mut self.decided.tell);
        true
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

/// Gives a caller their answer.
fn send<T: Send + 'static>(reply: oneshot::Sender<T>, answer: T) -> Effect {
    Box::new(move || {
        // A caller who has gone away needs none.
        let _ = reply.send(answer);
    })
}
