//! One aggregate as the engine keeps it: its state, the events that it rests on, and the rows that a store holds of it.
//!
//! Everything that is asked of a [`Subject`] is asked of its shadow too, a copy that was put together from the rows, and
//! the two must say the same. What every aggregate owes its surroundings is asserted on the way: a rejection leaves no
//! trace, and an event is the same after it was stored.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use crate::domain::{
    Aggregate, Answer, Changes, Counted, Decided, Ignore, Lsn, Message, Meta, Rejection, Timestamp, UserId,
};

/// An event that can be stored and compared.
pub trait StoredEvent: Clone + PartialEq + Debug + minicbor::Encode<()> + for<'b> minicbor::Decode<'b, ()> {}

impl<T: Clone + PartialEq + Debug + minicbor::Encode<()> + for<'b> minicbor::Decode<'b, ()>> StoredEvent for T {}

/// The rows of one aggregate, as the store holds them.
#[derive(Debug, Clone)]
pub struct Rows<P> {
    /// What the aggregate is put together from.
    pub live: BTreeMap<P, Vec<u8>>,
    /// The last values of what has left memory.
    pub archived: BTreeMap<P, Vec<u8>>,
    /// What stands on the users' lists, oldest first.
    pub listed: Vec<(UserId, P)>,
    /// Open holds of each user that has any.
    pub open_holds: BTreeMap<UserId, u64>,
    touched: BTreeSet<P>,
    dirty: BTreeSet<P>,
}

impl<P> Default for Rows<P> {
    fn default() -> Self {
        Self {
            live: BTreeMap::new(),
            archived: BTreeMap::new(),
            listed: Vec::new(),
            open_holds: BTreeMap::new(),
            touched: BTreeSet::new(),
            dirty: BTreeSet::new(),
        }
    }
}

impl<P: crate::domain::Part> Changes<P> for Rows<P> {
    fn touch(&mut self, part: P) {
        self.dirty.insert(part);
    }

    fn archive(&mut self, part: P, row: impl FnOnce() -> Vec<u8>) {
        let twice = self.archived.insert(part.clone(), row());
        // What comes back into memory is archived again.
        assert!(twice.is_none() || self.live.contains_key(&part), "{part:?} is archived twice");
        self.dirty.insert(part);
    }

    fn list(&mut self, user: &UserId, part: P) {
        self.listed.push((user.clone(), part.clone()));
        self.dirty.insert(part);
    }

    fn count(&mut self, user: &UserId, what: Counted) {
        let open = self.open_holds.entry(user.clone()).or_default();
        match what {
            Counted::HoldOpened => *open += 1,
            Counted::HoldClosed => *open = open.checked_sub(1).expect("a hold is opened before it is closed"),
            Counted::KeyUsed(_) => {}
        }
        self.open_holds.retain(|_, open| *open > 0);
    }
}

impl<P: crate::domain::Part> Rows<P> {
    /// Takes over the rows that have changed, as a checkpoint does.
    fn write(&mut self, state: &impl Aggregate<Part = P>) {
        for part in std::mem::take(&mut self.dirty) {
            let mut key = Vec::new();
            part.encode(&mut key);
            assert_eq!(P::decode(&key).as_ref(), Some(&part), "the name of a row is read as it was written");
            match state.row(&part) {
                Some(row) => drop(self.live.insert(part.clone(), row)),
                None => drop(self.live.remove(&part)),
            }
            self.touched.insert(part);
        }
    }
}

/// An aggregate, its events and its rows.
#[derive(Debug, Clone)]
pub struct Subject<A: Aggregate> {
    /// As it is now.
    pub state: A,
    /// What it rests on.
    pub history: Vec<(Meta, A::Event)>,
    /// What a store holds of it.
    pub rows: Rows<A::Part>,
    shadow: Option<A>,
}

impl<A: Aggregate> Default for Subject<A> {
    fn default() -> Self {
        Self { state: A::default(), history: Vec::new(), rows: Rows::default(), shadow: None }
    }
}

impl<A> Subject<A>
where
    A: Aggregate,
    A::Event: StoredEvent,
    A::Reply: PartialEq + Debug,
{
    /// Takes facts in, the first of which has the lsn `first`.
    pub fn take_in(&mut self, first: Lsn, at: Timestamp, events: &[A::Event]) {
        for (lsn, event) in (first.0..).zip(events) {
            let meta = Meta { lsn: Lsn(lsn), at };
            let bytes = minicbor::to_vec(event).expect("encoding into memory");
            let stored: A::Event = minicbor::decode(&bytes).expect("an event can be read again");
            assert_eq!(stored, *event, "an event is stored as it is");
            self.state.evolve(meta, &stored, &mut self.rows);
            if let Some(shadow) = &mut self.shadow {
                shadow.evolve(meta, &stored, &mut Ignore);
            }
            self.history.push((meta, stored));
        }
        self.rows.write(&self.state);
    }

    /// Decides a command; see [`Aggregate::decide`].
    ///
    /// # Errors
    /// The rule that stands against it.
    pub fn decide(
        &self,
        now: Timestamp,
        command: &A::Command,
        out: &mut Decided<A::Event>,
    ) -> Result<Answer<A::Reply>, Rejection> {
        let before = (out.events.len(), out.tell.len());
        let answer = self.state.decide(now, command, out);
        if answer.is_err() {
            assert_eq!((out.events.len(), out.tell.len()), before, "a rejection leaves no trace");
        }
        let mut again = Decided::default();
        for state in std::iter::once(&self.state).chain(&self.shadow) {
            assert_eq!(state.decide(now, command, &mut again), answer, "the same is decided");
            assert_eq!(again.events, out.events[before.0..], "the same is brought about");
            assert_eq!(again.tell, out.tell[before.1..], "the same is told");
            again = Decided::default();
        }
        answer
    }

    /// Decides what has lapsed by `now`, if anything is due; see [`Aggregate::expire`].
    pub fn expire(&self, now: Timestamp, out: &mut Decided<A::Event>) {
        let mut again = Decided::default();
        self.state.expire(now, &mut again);
        let is_due = self.state.due().is_some_and(|due| due <= now);
        assert!(is_due || again.events.is_empty(), "what lapses was due");
        if let Some(shadow) = &self.shadow {
            assert_eq!(shadow.due(), self.state.due(), "the same is due");
            let mut other = Decided::default();
            shadow.expire(now, &mut other);
            assert_eq!(other.events, again.events, "the same lapses");
        }
        out.events.append(&mut again.events);
    }

    /// Everything that is promised and not acknowledged; see [`Aggregate::owed`].
    #[must_use]
    pub fn owed(&self, now: Timestamp) -> Vec<Message> {
        let mut owed = Vec::new();
        self.state.owed(now, &mut owed);
        assert_eq!(self.state.owes(), !owed.is_empty(), "what is owed is said to be");
        if let Some(shadow) = &self.shadow {
            let mut other = Vec::new();
            shadow.owed(now, &mut other);
            assert_eq!(other, owed, "the same is owed");
        }
        owed
    }

    /// Puts the state together from the rows, goes on with that, and lets the state as it was follow as the shadow.
    pub fn reload(&mut self) {
        let rows = self.rows.live.clone().into_iter();
        let loaded = A::load(rows).expect("the rows can be read");
        self.assert_same_rows(&loaded);
        self.shadow = Some(std::mem::replace(&mut self.state, loaded));
    }

    /// Puts the state together from the events, and goes on with that.
    pub fn replay(&mut self) {
        let mut replayed = Self::default();
        for (Meta { lsn, at }, event) in std::mem::take(&mut self.history) {
            replayed.take_in(lsn, at, std::slice::from_ref(&event));
        }
        self.assert_same_rows(&replayed.state);
        assert_eq!(replayed.rows.live, self.rows.live, "the same events give the same rows");
        assert_eq!(replayed.rows.archived, self.rows.archived, "the same events give the same rows");
        *self = replayed;
    }

    fn assert_same_rows(&self, other: &A) {
        for part in &self.rows.touched {
            assert_eq!(other.row(part), self.state.row(part), "{part:?} is the same");
            assert_eq!(self.state.row(part).as_ref(), self.rows.live.get(part), "{part:?} is stored as it is");
        }
    }
}
