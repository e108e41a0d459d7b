//! One receiver of events: what it wants, how far it has got, and what it would not take.
//!
//! Everything up to the cursor is delivered, or stands here as *parked*: an event that could not be delivered yet waits
//! for its next attempt, those of the same subject that came later wait behind it, and one that was tried often enough is
//! a dead letter, until somebody sends it again or drops it. So the cursor never waits for a single bad event, and the
//! order within a subject is kept.
//!
//! After a crash, events are read again from the cursor on. What was dropped after that place is remembered until the cursor
//! has passed it, so that it is not delivered all the same.
//!
//! What it must not know: how events are delivered, when, and what they say. The relay does that, and tells it here.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::cbor;
use super::idempotency::{Key, Memory, Remembered, Request};
use super::{
    Aggregate, Answer, Changes, CorruptRow, Counted, Decided, EventFilter, EventId, EventType, Flaw, Message, Meta,
    Rejection, Timestamp,
};

/// Dead letters that are sent again at once: what comes of one command is one record, and records are bounded.
pub const REDRIVEN_AT_ONCE: usize = 15_000;

/// So many events are parked or settled by one command at most.
pub const PARKED_AT_ONCE: usize = 100;
/// What is kept of what a receiver said, in bytes.
pub const SAID_BYTES_MAX: usize = 2_048;
/// The longest address of a receiver, in bytes.
pub const URL_BYTES_MAX: usize = 2_048;
/// The longest template, in bytes.
pub const TEMPLATE_BYTES_MAX: usize = 8_192;

/// Bytes of a secret.
pub const SECRET_BYTES: usize = 32;

/// With what deliveries are signed.
#[derive(Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct Secret(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub [u8; SECRET_BYTES],
);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// What an HTTP receiver is sent.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One CloudEvent.
    #[n(0)]
    Cloudevent,
    /// Many CloudEvents at once.
    #[n(1)]
    Batch,
    /// What a template makes of one event.
    #[n(2)]
    Template(#[n(0)] String),
}

/// Who receives.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    /// An HTTP endpoint.
    #[n(0)]
    Webhook {
        /// Where.
        #[n(0)]
        url: String,
        /// What it is sent.
        #[n(1)]
        format: Format,
    },
    /// Something that the host app attaches under this name.
    #[n(1)]
    Attached {
        /// The name.
        #[n(0)]
        name: String,
    },
}

/// Who receives what.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Registration {
    /// Who.
    #[n(0)]
    pub receiver: Destination,
    /// What.
    #[n(1)]
    pub filter: EventFilter,
    /// After which event.
    #[n(2)]
    pub after: EventId,
}

impl Registration {
    /// What is too long for the journal.
    fn flaw(&self) -> Option<Flaw> {
        let long = |field: &str, text: &str, bytes_max: usize| {
            (text.len() > bytes_max).then(|| Flaw::new(field, format!("must have {bytes_max} bytes at the most")))
        };
        match &self.receiver {
            Destination::Webhook { url, format } => {
                let template = if let Format::Template(text) = format { Some(text) } else { None };
                let template = template.and_then(|text| long("template", text, TEMPLATE_BYTES_MAX));
                long("url", url, URL_BYTES_MAX).or(template)
            }
            Destination::Attached { name } => Flaw::of_name("name", name),
        }
    }
}

/// The last thing that a receiver said to an event.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Response {
    /// The HTTP status; none if there was no answer.
    #[n(0)]
    pub status: Option<u16>,
    /// The beginning of the answer's body, or what went wrong.
    #[n(1)]
    pub text: String,
    /// When.
    #[n(2)]
    pub at: Timestamp,
}

/// What is to become of a parked event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is tried again.
    #[n(0)]
    Retry {
        /// From then on.
        #[n(0)]
        at: Timestamp,
    },
    /// It comes after an earlier one of its subject.
    #[n(1)]
    Behind,
    /// It was tried often enough: a dead letter.
    #[n(2)]
    Dead,
}

/// An event that the cursor has passed and that is not delivered.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Parked {
    /// What it is about.
    #[n(0)]
    pub subject: String,
    /// What happened.
    #[n(1)]
    pub kind: EventType,
    /// How often it was tried.
    #[n(2)]
    pub attempts: u32,
    /// What is to become of it.
    #[n(3)]
    pub fate: Fate,
    /// What the receiver said last.
    #[n(4)]
    pub response: Option<Response>,
}

impl Parked {
    /// With no more of what was said than is kept.
    fn bounded(&self) -> Self {
        let mut bounded = self.clone();
        if let Some(response) = &mut bounded.response {
            response.text = beginning(&response.text, SAID_BYTES_MAX);
        }
        bounded
    }
}

/// The beginning of a text.
fn beginning(text: &str, bytes_max: usize) -> String {
    text[..text.floor_char_boundary(bytes_max)].to_owned()
}

/// What is wrong with a list of so many events.
fn flaw_of_many(events: usize) -> Option<Flaw> {
    Flaw::of_range("events", events as u64, 0, PARKED_AT_ONCE as u64)
}

/// What can be asked of a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Begins.
    Register {
        /// Who receives what.
        registration: Registration,
        /// With what deliveries are signed.
        secret: Secret,
    },
    /// Everything up to `cursor` is delivered, parked or not wanted.
    Advance {
        /// The last of it.
        cursor: EventId,
    },
    /// These were not delivered now.
    Park {
        /// Each with what is known of it.
        events: Vec<(EventId, Parked)>,
    },
    /// These were parked, and are delivered now.
    Settle {
        /// Which.
        events: Vec<EventId>,
    },
    /// Sends dead letters again, the oldest of them or one; a receiver that was given up gets another chance. What is no
    /// dead letter (any more) is left alone.
    Redrive {
        /// Which; `None` for all, up to [`REDRIVEN_AT_ONCE`].
        event: Option<EventId>,
        /// Idempotency.
        request: Request,
    },
    /// Gives a dead letter up.
    Drop {
        /// Which.
        event: EventId,
    },
    /// Signs with a new secret; for some time with the old one too.
    RotateSecret {
        /// The new one.
        secret: Secret,
        /// Until when the old one is good.
        previous_until: Timestamp,
    },
    /// Delivers no more, until somebody redrives: the receiver says that it is gone.
    Disable {
        /// What it said.
        reason: String,
    },
    /// Ends.
    Remove,
}

/// What can have happened to a sink.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// It began.
    #[n(0)]
    SinkRegistered {
        /// Who receives what.
        #[n(0)]
        registration: Registration,
        /// With what deliveries are signed.
        #[n(1)]
        #[serde(skip)]
        secret: Secret,
    },
    /// It got further.
    #[n(1)]
    CursorAdvanced {
        /// So far.
        #[n(0)]
        cursor: EventId,
    },
    /// Events were not delivered.
    #[n(2)]
    EventsParked {
        /// Each with what is known of it.
        #[n(0)]
        events: Vec<(EventId, Parked)>,
    },
    /// Parked events were delivered.
    #[n(3)]
    EventsSettled {
        /// Which.
        #[n(0)]
        events: Vec<EventId>,
    },
    /// Dead letters are to be sent again.
    #[n(4)]
    DeadLettersRedriven {
        /// Which.
        #[n(0)]
        events: Vec<EventId>,
        /// The idempotency key it came with.
        #[n(1)]
        key: Option<Key>,
    },
    /// A dead letter was given up.
    #[n(5)]
    DeadLetterDropped {
        /// Which.
        #[n(0)]
        event: EventId,
    },
    /// Deliveries are signed with a new secret.
    #[n(6)]
    SecretRotated {
        /// The new one.
        #[n(0)]
        #[serde(skip)]
        secret: Secret,
        /// Until when the old one is good.
        #[n(1)]
        previous_until: Timestamp,
    },
    /// The receiver is gone.
    #[n(7)]
    SinkDisabled {
        /// What it said.
        #[n(0)]
        reason: String,
    },
    /// It ended.
    #[n(8)]
    SinkRemoved,
}

/// What a sink answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It is done.
    Done,
    /// Dead letters are sent again, now or when the same was asked before.
    Redriven {
        /// How many.
        count: u64,
        /// Whether the answer is remembered.
        replayed: bool,
    },
}

/// The rows of a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Registration, secrets and cursor.
    Header,
    /// A parked event.
    Parked(EventId),
    /// An idempotency key.
    Key([u8; 16]),
    /// A dropped event that the cursor has not passed.
    Dropped(EventId),
}

impl super::Part for Part {
    fn encode(&self, key: &mut Vec<u8>) {
        let mut tagged = |tag: u8, event: &EventId| {
            key.push(tag);
            key.extend(event.lsn.0.to_be_bytes());
            key.extend(event.index.to_be_bytes());
        };
        match self {
            Self::Header => key.push(0),
            Self::Parked(event) => tagged(1, event),
            Self::Key(scope) => {
                key.push(2);
                key.extend(scope);
            }
            Self::Dropped(event) => tagged(3, event),
        }
    }

    fn decode(key: &[u8]) -> Option<Self> {
        let (&tag, rest) = key.split_first()?;
        let event = || {
            let (lsn, index) = rest.split_first_chunk()?;
            let lsn = super::Lsn(u64::from_be_bytes(*lsn));
            Some(EventId { lsn, index: u32::from_be_bytes(index.try_into().ok()?) })
        };
        match tag {
            0 if rest.is_empty() => Some(Self::Header),
            1 => event().map(Self::Parked),
            2 => Some(Self::Key(rest.try_into().ok()?)),
            3 => event().map(Self::Dropped),
            _ => None,
        }
    }
}

/// Where a sink is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Default, minicbor::Encode, minicbor::Decode)]
enum Life {
    /// There is no such sink yet.
    #[default]
    #[n(0)]
    Unborn,
    #[n(1)]
    Active,
    #[n(2)]
    Disabled {
        #[n(0)]
        reason: String,
    },
    /// There is no such sink any more, and its number is not given again.
    #[n(3)]
    Removed,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
struct Header {
    #[n(0)]
    life: Life,
    #[n(1)]
    registration: Option<Registration>,
    #[n(2)]
    secret: Option<Secret>,
    #[n(3)]
    previous: Option<PreviousSecret>,
    #[n(4)]
    cursor: EventId,
    #[n(5)]
    created_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
struct PreviousSecret {
    #[n(0)]
    secret: Secret,
    #[n(1)]
    until: Timestamp,
}

/// What deliveries are signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signing {
    secret: Option<Secret>,
    previous: Option<PreviousSecret>,
}

impl Signing {
    /// The secrets that are good at `now`, the newest first.
    pub fn secrets(self, now: Timestamp) -> impl Iterator<Item = Secret> {
        let previous = self.previous.filter(|previous| now < previous.until).map(|previous| previous.secret);
        self.secret.into_iter().chain(previous)
    }
}

/// One receiver of events.
#[derive(Debug, Clone, Default)]
pub struct Sink {
    header: Header,
    parked: BTreeMap<EventId, Parked>,
    /// After the cursor, so that there are no more than the relay delivers ahead of it.
    dropped: BTreeSet<EventId>,
    keys: Memory,
}

impl Sink {
    /// Whether the number has been given, for a sink that is there or was.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.header.life != Life::Unborn
    }

    /// Who receives what; none if there is no such sink (any more).
    #[must_use]
    pub fn registration(&self) -> Option<&Registration> {
        self.header.registration.as_ref()
    }

    /// Everything up to here is delivered, parked or not wanted.
    #[must_use]
    pub fn cursor(&self) -> EventId {
        self.header.cursor
    }

    /// When it was registered.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.header.created_at
    }

    /// Why it delivers no more, if it does not.
    #[must_use]
    pub fn disabled(&self) -> Option<&str> {
        if let Life::Disabled { reason } = &self.header.life { Some(reason) } else { None }
    }

    /// What deliveries are signed with.
    #[must_use]
    pub fn signing(&self) -> Signing {
        Signing { secret: self.header.secret, previous: self.header.previous }
    }

    /// Events that the cursor has passed and that are not delivered, oldest first.
    #[must_use]
    pub fn parked(&self) -> &BTreeMap<EventId, Parked> {
        &self.parked
    }

    /// Those of them that are not tried any more, oldest first.
    pub fn dead_letters(&self) -> impl DoubleEndedIterator<Item = (EventId, &Parked)> {
        self.parked.iter().filter(|(_, parked)| parked.fate == Fate::Dead).map(|(id, parked)| (*id, parked))
    }

    /// Events after the cursor that an operator has given up: they are not delivered when they are read again.
    #[must_use]
    pub fn dropped(&self) -> &BTreeSet<EventId> {
        &self.dropped
    }

    fn is_dead(&self, event: EventId) -> bool {
        self.parked.get(&event).is_some_and(|parked| parked.fate == Fate::Dead)
    }

    fn unpark(&mut self, event: EventId, changes: &mut impl Changes<Part>) {
        if self.parked.remove(&event).is_some() {
            changes.touch(Part::Parked(event));
        }
    }
}

impl Aggregate for Sink {
    type Command = Command;
    type Event = Event;
    type Reply = Reply;
    type Part = Part;

    fn decide(&self, now: Timestamp, command: &Command, out: &mut Decided<Event>) -> Result<Answer<Reply>, Rejection> {
        if let Command::Register { registration, secret } = command {
            if self.is_known() {
                return Err(Rejection::NotFound);
            }
            Flaw::refuse(registration.flaw())?;
            out.events.push(Event::SinkRegistered { registration: registration.clone(), secret: *secret });
            return Ok(Answer::Reply(Reply::Done));
        }
        // What the relay says may come after the end.
        if self.header.registration.is_none() {
            return Err(Rejection::NotFound);
        }
        let mut reply = Reply::Done;
        match command {
            Command::Register { .. } => {}
            &Command::Advance { cursor } => {
                if cursor > self.header.cursor {
                    out.events.push(Event::CursorAdvanced { cursor });
                }
            }
            Command::Park { events } => {
                Flaw::refuse(flaw_of_many(events.len()))?;
                let events = events.iter().map(|(id, parked)| (*id, parked.bounded()));
                let events: Vec<_> = events.filter(|(id, parked)| self.parked.get(id) != Some(parked)).collect();
                if !events.is_empty() {
                    out.events.push(Event::EventsParked { events });
                }
            }
            Command::Settle { events } => {
                Flaw::refuse(flaw_of_many(events.len()))?;
                let events: Vec<_> = events.iter().filter(|id| self.parked.contains_key(id)).copied().collect();
                if !events.is_empty() {
                    out.events.push(Event::EventsSettled { events });
                }
            }
            Command::Redrive { event, request } => {
                if let Some(count) = self.keys.recall(now, request)? {
                    return Ok(Answer::Reply(Reply::Redriven { count, replayed: true }));
                }
                let events: Vec<_> = match *event {
                    Some(event) => Some(event).filter(|event| self.is_dead(*event)).into_iter().collect(),
                    None => self.dead_letters().map(|(id, _)| id).take(REDRIVEN_AT_ONCE).collect(),
                };
                reply = Reply::Redriven { count: events.len() as u64, replayed: false };
                let key = request.key.clone();
                if !events.is_empty() || self.disabled().is_some() || key.is_some() {
                    out.events.push(Event::DeadLettersRedriven { events, key });
                }
            }
            &Command::Drop { event } => {
                if !self.is_dead(event) {
                    return Err(Rejection::NotFound);
                }
                out.events.push(Event::DeadLetterDropped { event });
            }
            &Command::RotateSecret { secret, previous_until } => {
                out.events.push(Event::SecretRotated { secret, previous_until });
            }
            Command::Disable { reason } => {
                if self.header.life == Life::Active {
                    out.events.push(Event::SinkDisabled { reason: beginning(reason, SAID_BYTES_MAX) });
                }
            }
            Command::Remove => out.events.push(Event::SinkRemoved),
        }
        Ok(Answer::Reply(reply))
    }

    fn evolve(&mut self, meta: Meta, event: &Event, changes: &mut impl Changes<Part>) {
        match event {
            Event::SinkRegistered { registration, secret } => {
                self.header = Header {
                    life: Life::Active,
                    registration: Some(registration.clone()),
                    secret: Some(*secret),
                    previous: None,
                    cursor: registration.after,
                    created_at: meta.at,
                };
                changes.touch(Part::Header);
            }
            &Event::CursorAdvanced { cursor } => {
                self.header.cursor = cursor;
                changes.touch(Part::Header);
                while let Some(event) = self.dropped.first().copied().filter(|event| *event <= cursor) {
                    self.dropped.remove(&event);
                    changes.touch(Part::Dropped(event));
                }
            }
            Event::EventsParked { events } => {
                for (id, parked) in events {
                    self.parked.insert(*id, parked.clone());
                    changes.touch(Part::Parked(*id));
                }
            }
            Event::EventsSettled { events } => {
                for id in events {
                    self.unpark(*id, changes);
                }
            }
            Event::DeadLettersRedriven { events, key } => {
                for id in events {
                    if let Some(parked) = self.parked.get_mut(id) {
                        parked.attempts = 0;
                        parked.fate = Fate::Retry { at: meta.at };
                        changes.touch(Part::Parked(*id));
                    }
                }
                self.header.life = Life::Active;
                changes.touch(Part::Header);
                if let Some(key) = key {
                    let count = events.len() as u64;
                    self.keys.remember(meta.at, key, count, |scope| changes.touch(Part::Key(scope)));
                    changes.count(&key.caller, Counted::KeyUsed(meta.at));
                }
            }
            &Event::DeadLetterDropped { event } => {
                self.unpark(event, changes);
                if event > self.header.cursor {
                    self.dropped.insert(event);
                    changes.touch(Part::Dropped(event));
                }
            }
            &Event::SecretRotated { secret, previous_until } => {
                let previous = self.header.secret.map(|secret| PreviousSecret { secret, until: previous_until });
                self.header.previous = previous;
                self.header.secret = Some(secret);
                changes.touch(Part::Header);
            }
            Event::SinkDisabled { reason } => {
                self.header.life = Life::Disabled { reason: reason.clone() };
                changes.touch(Part::Header);
            }
            Event::SinkRemoved => {
                for id in std::mem::take(&mut self.parked).into_keys() {
                    changes.touch(Part::Parked(id));
                }
                for id in std::mem::take(&mut self.dropped) {
                    changes.touch(Part::Dropped(id));
                }
                self.keys.clear(|scope| changes.touch(Part::Key(scope)));
                self.header = Header { life: Life::Removed, ..Header::default() };
                changes.touch(Part::Header);
            }
        }
    }

    fn due(&self) -> Option<Timestamp> {
        None
    }

    fn expire(&self, _now: Timestamp, _out: &mut Decided<Event>) {}

    fn owed(&self, _now: Timestamp, _out: &mut Vec<Message>) {}

    fn owes(&self) -> bool {
        false
    }

    fn row(&self, part: &Part) -> Option<Vec<u8>> {
        match part {
            Part::Header => Some(cbor::to_vec(&self.header)),
            Part::Parked(event) => self.parked.get(event).map(cbor::to_vec),
            Part::Key(scope) => self.keys.get(scope).map(cbor::to_vec),
            // Its name says it all.
            Part::Dropped(event) => self.dropped.contains(event).then(Vec::new),
        }
    }

    fn load(rows: impl Iterator<Item = (Part, Vec<u8>)>) -> Result<Self, CorruptRow> {
        let mut sink = Self::default();
        let mut keys = Vec::new();
        for (part, row) in rows {
            match part {
                Part::Header => sink.header = cbor::from_row(&part, &row)?,
                Part::Parked(event) => {
                    sink.parked.insert(event, cbor::from_row(&part, &row)?);
                }
                Part::Key(scope) => keys.push((scope, cbor::from_row::<Remembered>(&part, &row)?)),
                Part::Dropped(event) => drop(sink.dropped.insert(event)),
            }
        }
        sink.keys = Memory::from_rows(keys);
        Ok(sink)
    }
}

#[cfg(test)]
mod tests;
