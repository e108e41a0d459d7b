//! The rules, pure: what may happen to concerts, seats, reservations, money and the line, and what follows.
//!
//! Architecture invariant: nothing in here knows of async, actors, files, clocks or randomness. Time and every random
//! number come in as arguments and stand in the events; the same events give the same state, bit for bit.

pub mod bit_set;
pub mod catalogue;
pub(crate) mod cbor;
pub mod concert_option;
pub mod event_type;
pub mod facts;
pub mod idempotency;
pub mod ids;
pub mod invariants;
pub mod message;
pub mod money;
pub mod reconciliation;
pub mod rejection;
pub mod seat_map;
pub mod seating_plan;
pub mod sink;
pub mod time;
pub mod waiting_room;
pub mod wallet;

use std::fmt;

pub use event_type::{EventFilter, EventType};
pub use ids::{
    ConcertId, EntryId, EventId, OptionId, PaymentId, RefundId, ReservationId, SinkId, TokenId, TransferId, UserId,
};
pub use message::Message;
pub use money::{Currency, Points};
pub use rejection::{Flaw, Rejection};
pub use time::Timestamp;

/// Log sequence number: the place of one event in the journal. The first event has 1; 0 means "before everything".
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    minicbor::Encode,
    minicbor::Decode,
    serde::Serialize,
)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct Lsn(#[n(0)] pub u64);

impl Lsn {
    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where and when an event stands in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// The event's own number.
    pub lsn: Lsn,
    /// The `now` its command was decided with.
    pub at: Timestamp,
}

/// The most bytes that what one decision brings about may take in the journal. Who decides keeps to it: what is larger is
/// brought about in steps, written more tightly, or refused.
pub const RECORD_BYTES_MAX: usize = 256 << 10;

/// What a decision brings about, beside the answer to whoever asked.
#[derive(Debug)]
pub struct Decided<E> {
    /// Facts, in order; appended to the journal as one indivisible record of at most [`RECORD_BYTES_MAX`].
    pub events: Vec<E>,
    /// Messages to other aggregates, sent once the events are in the journal.
    pub tell: Vec<Message>,
}

impl<E> Default for Decided<E> {
    fn default() -> Self {
        Self { events: Vec::new(), tell: Vec::new() }
    }
}

/// How the sender of a command gets its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<R> {
    /// Nobody waits for one: the command came from inside, and is answered, if at all, by a [`Message`].
    Silent,
    /// The answer, to be given once everything it rests on is durable.
    Reply(R),
    /// Under way: the answer comes with a later command that settles `ticket`.
    Park {
        /// What is waited for, unique in the aggregate.
        ticket: u64,
        /// In what capacity this caller waits.
        role: Role,
    },
    /// Everybody who is parked at `ticket` gets the answer of their role.
    Settle {
        /// What has come to its end.
        ticket: u64,
        /// To the one who began it.
        starter: Result<R, Rejection>,
        /// To those who sent the starter's idempotency key again.
        duplicate: Result<R, Rejection>,
        /// To all others.
        other: Result<R, Rejection>,
    },
}

/// In what capacity a parked caller waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Began what is under way.
    Starter,
    /// Sent the same idempotency key as the starter.
    Duplicate,
    /// Wants the same thing on its own account.
    Other,
}

/// Told by [`Aggregate::evolve`] which of the aggregate's rows an event changes.
///
/// The state that is kept on disk is rows: an aggregate is cut into parts, each of which is one row. The actors pass
/// [`Ignore`]; whoever writes the rows listens.
pub trait Changes<P> {
    /// `part` has changed, and can be asked for with [`Aggregate::row`].
    fn touch(&mut self, part: P);
    /// As [`touch`](Self::touch), for a part whose name costs something: that of a user is counted by all who have it.
    fn touch_named(&mut self, part: impl FnOnce() -> P) {
        self.touch(part());
    }
    /// As [`touch_named`](Self::touch_named), for a part that was not there before.
    fn create(&mut self, part: impl FnOnce() -> P) {
        self.touch(part());
    }
    /// As [`touch_named`](Self::touch_named), for a part that is not there any more.
    fn remove(&mut self, part: impl FnOnce() -> P) {
        self.touch(part());
    }
    /// `part` has reached its last value, and leaves memory with it.
    fn archive(&mut self, part: P, row: impl FnOnce() -> Vec<u8>);
    /// As [`create`](Self::create), for a part that is `user`'s and stands on a list.
    fn list(&mut self, user: &UserId, part: P);
    /// As [`list`](Self::list), for a part that was there before, on somebody else's list.
    fn list_too(&mut self, user: &UserId, part: P) {
        self.list(user, part);
    }
    /// Something that is limited for each user over all aggregates has come or gone.
    fn count(&mut self, user: &UserId, what: Counted);
}

/// What is counted for each user over all aggregates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// A hold was made.
    HoldOpened,
    /// A hold was paid, given up or ran out.
    HoldClosed,
    /// An idempotency key was used.
    KeyUsed(Timestamp),
}

/// Listens to no change.
pub struct Ignore;

impl<P> Changes<P> for Ignore {
    fn touch(&mut self, _part: P) {}
    fn touch_named(&mut self, _part: impl FnOnce() -> P) {}
    fn create(&mut self, _part: impl FnOnce() -> P) {}
    fn remove(&mut self, _part: impl FnOnce() -> P) {}
    fn archive(&mut self, _part: P, _row: impl FnOnce() -> Vec<u8>) {}
    fn list(&mut self, _user: &UserId, _part: P) {}
    fn count(&mut self, _user: &UserId, _what: Counted) {}
}

/// A stored row that its aggregate cannot read.
#[derive(Debug, thiserror::Error)]
#[error("row {part} cannot be read: {source}")]
pub struct CorruptRow {
    /// Which row.
    pub part: String,
    /// Why not.
    #[source]
    pub source: minicbor::decode::Error,
}

/// One consistency boundary: a state that only its own events change.
///
/// `decide` looks and answers, `evolve` changes; between the two stands the journal.
pub trait Aggregate: Default + Clone + Send + Sync + 'static {
    /// What can be asked of it.
    type Command: Send + 'static;
    /// What can have happened to it.
    type Event: Send + Sync + 'static;
    /// What it answers.
    type Reply: Clone + Send + 'static;
    /// The name of one of its rows.
    type Part: Part;

    /// Decides `command` at `now`, which is never less than the time of the last event. What is due at `now` has been
    /// expired before.
    ///
    /// # Errors
    /// The rule that stands against it; `out` is then as it was.
    fn decide(
        &self,
        now: Timestamp,
        command: &Self::Command,
        out: &mut Decided<Self::Event>,
    ) -> Result<Answer<Self::Reply>, Rejection>;

    /// Takes a fact in. Total and deterministic.
    fn evolve(&mut self, meta: Meta, event: &Self::Event, changes: &mut impl Changes<Self::Part>);

    /// When [`expire`](Self::expire) or [`tick`](Self::tick) will next have something to do.
    fn due(&self) -> Option<Timestamp>;

    /// Decides what has lapsed by `now`. Comes before every command. Each event stands on its own, and is small.
    fn expire(&self, now: Timestamp, out: &mut Decided<Self::Event>);

    /// Decides what else the passing of time brings about, once something is due; `entropy` is a random number, for
    /// those who need one.
    fn tick(&self, _now: Timestamp, _entropy: u64, _out: &mut Decided<Self::Event>) {}

    /// Every step that this aggregate has promised to others and that is not acknowledged yet.
    fn owed(&self, now: Timestamp, out: &mut Vec<Message>);

    /// Whether [`owed`](Self::owed) has anything to say; cheap.
    fn owes(&self) -> bool;

    /// Whether time, a debt or somebody's silence may change it: then it is looked after from the start on.
    fn needs_care(&self) -> bool {
        self.owes() || self.due().is_some()
    }

    /// The present value of one row; `None` if there is no such part (any more).
    fn row(&self, part: &Self::Part) -> Option<Vec<u8>>;

    /// Puts an aggregate together from its rows, in any order; archived ones are not among them.
    ///
    /// # Errors
    /// A row that cannot be read.
    fn load(rows: impl Iterator<Item = (Self::Part, Vec<u8>)>) -> Result<Self, CorruptRow>;
}

/// The name of a row within its aggregate, as bytes whose order is that of the names.
pub trait Part: Ord + Eq + std::hash::Hash + Clone + Send + Sync + fmt::Debug + 'static {
    /// Appends the bytes.
    fn encode(&self, key: &mut Vec<u8>);
    /// Reads what [`encode`](Self::encode) wrote; `None` if it did not write that.
    fn decode(key: &[u8]) -> Option<Self>;
}
