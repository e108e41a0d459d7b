//! Given, when, then: what an aggregate does with a command, after what has happened to it.
//!
//! ```
//! use boxoffice::domain::wallet::{self, Command, Event, Reply, Wallet};
//! use boxoffice::domain::{PaymentId, Points, Rejection, Timestamp, UserId, OptionId};
//! use boxoffice::testing::scenario::given;
//!
//! let at = Timestamp::from_millis;
//! let points = |n| Points::new(n).expect("a small number");
//! let anna: UserId = "anna".parse()?;
//! let payment = PaymentId { option: OptionId(1), no: 2 };
//! given::<Wallet>(at(0), [Event::Charged { entry: 1, amount: points(9), balance: points(9), by: anna, key: None }])
//!     .when(Command::Debit { payment, amount: points(5), settled_below: 2 }, at(1))
//!     .then_events([Event::Debited {
//!         entry: 2,
//!         payment,
//!         amount: points(5),
//!         balance: points(4),
//!         settled_below: 2,
//!     }]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt::Debug;

use super::subject::{StoredEvent, Subject};
use crate::domain::{Aggregate, Answer, Decided, Lsn, Message, Rejection, Timestamp};

/// An aggregate, and what came of the last command. Each `then_` panics if that is not what came of it.
#[derive(Debug, Clone)]
pub struct Scenario<A: Aggregate> {
    subject: Subject<A>,
    now: Timestamp,
    answer: Result<Answer<A::Reply>, Rejection>,
    events: Vec<A::Event>,
    tells: Vec<Message>,
}

/// An aggregate to which this has happened at `at`.
pub fn given<A>(at: Timestamp, events: impl IntoIterator<Item = A::Event>) -> Scenario<A>
where
    A: Aggregate,
    A::Event: StoredEvent,
    A::Reply: PartialEq + Debug,
{
    let scenario = Scenario {
        subject: Subject::default(),
        now: at,
        answer: Ok(Answer::Silent),
        events: Vec::new(),
        tells: Vec::new(),
    };
    scenario.given(at, events)
}

impl<A> Scenario<A>
where
    A: Aggregate,
    A::Event: StoredEvent,
    A::Reply: PartialEq + Debug,
{
    /// And then this has happened at `at`.
    #[must_use]
    pub fn given(mut self, at: Timestamp, events: impl IntoIterator<Item = A::Event>) -> Self {
        self.pass(at);
        let events: Vec<_> = events.into_iter().collect();
        let first = Lsn(self.subject.history.len() as u64 + 1);
        self.subject.take_in(first, at, &events);
        self
    }

    /// Time passes until `at`: what is due by then lapses.
    #[must_use]
    pub fn at(mut self, at: Timestamp) -> Self {
        self.pass(at);
        (self.answer, self.events, self.tells) = (Ok(Answer::Silent), Vec::new(), Vec::new());
        self.lapse();
        self
    }

    /// As [`at`](Self::at), and if something is due then, the alarm rings too: what else time brings about is done.
    #[must_use]
    pub fn rung(mut self, at: Timestamp) -> Self {
        let is_due = self.state().due().is_some_and(|due| due <= at);
        self = self.at(at);
        let mut decided = Decided::default();
        if is_due {
            self.state().tick(at, 0, &mut decided);
        }
        self.take_in(decided);
        self
    }

    /// The command comes at `at`, after what is due by then has lapsed; that too is among the events.
    #[must_use]
    pub fn when(self, command: A::Command, at: Timestamp) -> Self {
        let mut this = self.at(at);
        let mut decided = Decided::default();
        this.answer = this.subject.decide(at, &command, &mut decided);
        this.take_in(decided);
        this
    }

    /// These events came of it, and no others.
    #[track_caller]
    pub fn then_events(self, expected: impl IntoIterator<Item = A::Event>) -> Self {
        assert_eq!(self.events, expected.into_iter().collect::<Vec<_>>());
        self
    }

    /// These messages were told, and no others.
    #[track_caller]
    pub fn then_tells(self, expected: impl IntoIterator<Item = Message>) -> Self {
        assert_eq!(self.tells, expected.into_iter().collect::<Vec<_>>());
        self
    }

    /// This is how the caller gets an answer.
    #[track_caller]
    pub fn then_answer(self, expected: Answer<A::Reply>) -> Self {
        assert_eq!(self.answer, Ok(expected));
        self
    }

    /// This is the answer.
    #[track_caller]
    pub fn then_reply(self, expected: A::Reply) -> Self {
        self.then_answer(Answer::Reply(expected))
    }

    /// The command was refused, and changed nothing.
    #[track_caller]
    pub fn then_rejected(self, expected: Rejection) -> Self {
        assert_eq!(self.answer, Err(expected));
        self.then_nothing()
    }

    /// Nothing happened, and nothing was told.
    #[track_caller]
    pub fn then_nothing(self) -> Self {
        self.then_events([]).then_tells([])
    }

    /// These messages are owed, and no others.
    #[track_caller]
    pub fn then_owes(self, expected: impl IntoIterator<Item = Message>) -> Self {
        assert_eq!(self.subject.owed(self.now), expected.into_iter().collect::<Vec<_>>());
        self
    }

    /// The same, after the state has been put together from its rows.
    #[must_use]
    pub fn reloaded(mut self) -> Self {
        self.subject.reload();
        self
    }

    /// As it is now.
    #[must_use]
    pub fn state(&self) -> &A {
        &self.subject.state
    }

    /// With its events and its rows.
    #[must_use]
    pub fn subject(&self) -> &Subject<A> {
        &self.subject
    }

    /// The answer to the last command.
    pub fn answer(&self) -> &Result<Answer<A::Reply>, Rejection> {
        &self.answer
    }

    /// What came of the last command.
    #[must_use]
    pub fn events(&self) -> &[A::Event] {
        &self.events
    }

    /// What was told of the last command.
    #[must_use]
    pub fn tells(&self) -> &[Message] {
        &self.tells
    }

    fn pass(&mut self, at: Timestamp) {
        assert!(self.now <= at, "time does not go back");
        self.now = at;
    }

    fn lapse(&mut self) {
        let mut decided = Decided::default();
        self.subject.expire(self.now, &mut decided);
        self.take_in(decided);
    }

    fn take_in(&mut self, decided: Decided<A::Event>) {
        let first = Lsn(self.subject.history.len() as u64 + 1);
        self.subject.take_in(first, self.now, &decided.events);
        self.events.extend(decided.events);
        self.tells.extend(decided.tell);
    }
}
