//! The whole domain in memory, without threads, files or a clock: every aggregate, and the messages between them.
//!
//! A seed decides which messages are lost, come twice or overtake others. A crash forgets everything but the events. After
//! each event the [`Audit`] reads it, so that a broken invariant is found where it breaks.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use super::random::Random;
use super::subject::{StoredEvent, Subject};
use crate::domain::catalogue::{self, Catalogue};
use crate::domain::concert_option::{self, ConcertOption, Definition, PricedPlan};
use crate::domain::idempotency::Request;
use crate::domain::invariants::{Audit, Broken};
use crate::domain::seating_plan::SeatingPlan;
use crate::domain::waiting_room::{self, Settings, WaitingRoom};
use crate::domain::wallet::{self, Wallet};
use crate::domain::{
    Aggregate, Answer, ConcertId, Decided, Lsn, Message, OptionId, RECORD_BYTES_MAX, Rejection, Role, Timestamp, UserId,
};
use crate::store::codec::{Entity, Facts, Record, TheCatalogue};

/// What becomes of messages on their way, in thousandths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// How many are lost.
    pub lost: u64,
    /// How many of the others come twice, the second time at any time later.
    pub doubled: u64,
    /// How many deliveries take any message instead of the oldest.
    pub overtaken: u64,
}

/// What an aggregate is put together from after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebuild {
    /// Its events.
    Events,
    /// Its rows; the state as it was before follows along, and must say the same.
    Rows,
}

/// A command that somebody waits for the outcome of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call(usize);

/// The answer of an option.
pub type Answered = Result<concert_option::Reply, Rejection>;

/// Everything there is.
pub struct World {
    /// What time it is.
    pub now: Timestamp,
    /// What becomes of messages.
    pub faults: Faults,
    /// All concerts.
    pub catalogue: Subject<Catalogue>,
    /// All options.
    pub options: BTreeMap<OptionId, Subject<ConcertOption>>,
    /// All wallets.
    pub wallets: BTreeMap<UserId, Subject<Wallet>>,
    /// All waiting rooms.
    pub rooms: BTreeMap<ConcertId, Subject<WaitingRoom>>,
    plans: BTreeMap<OptionId, Arc<PricedPlan>>,
    log: Log,
    queue: Vec<Message>,
    parked: BTreeMap<(OptionId, u64), Vec<(Role, Call)>>,
    calls: Vec<Option<Answered>>,
    random: Random,
}

/// All that has happened, in one order.
#[derive(Default)]
struct Log {
    records: Vec<(Lsn, Record)>,
    last: Lsn,
    audit: Audit,
}

impl Log {
    fn append(&mut self, record: Record) -> Result<Lsn, Broken> {
        let first = self.last.next();
        for (index, meta) in (0..record.len()).zip(record.metas(first)) {
            match &record.facts {
                Facts::Catalogue(..) => {}
                Facts::Option(id, events) => self.audit.option_event(*id, meta, &events[index])?,
                Facts::Wallet(user, events) => self.audit.wallet_event(user, &events[index])?,
                Facts::Room(id, events) => self.audit.room_event(*id, meta, &events[index])?,
                Facts::Sink(..) => {}
            }
        }
        self.last = Lsn(self.last.0 + record.len() as u64);
        self.records.push((first, record));
        Ok(first)
    }

    /// Appends what was decided and takes it into its aggregate, as the shell does.
    fn commit<A>(
        &mut self,
        id: &A::Id,
        subject: &mut Subject<A>,
        at: Timestamp,
        decided: Decided<A::Event>,
        queue: &mut Vec<Message>,
    ) where
        A: Entity,
        A::Event: StoredEvent,
        A::Reply: PartialEq + Debug,
    {
        if !decided.events.is_empty() {
            let record = Record { at, facts: A::facts(id, decided.events) };
            assert!(record.bytes() <= RECORD_BYTES_MAX, "records are bounded: {record:?}");
            let first = self.append(record.clone()).unwrap_or_else(|broken| panic!("{broken}"));
            subject.take_in(first, at, A::events(&record.facts));
        }
        queue.extend(decided.tell);
    }

    fn handle<A>(
        &mut self,
        id: &A::Id,
        subject: &mut Subject<A>,
        now: Timestamp,
        command: &A::Command,
        queue: &mut Vec<Message>,
    ) -> Result<Answer<A::Reply>, Rejection>
    where
        A: Entity,
        A::Event: StoredEvent,
        A::Reply: PartialEq + Debug,
    {
        let mut decided = Decided::default();
        subject.expire(now, &mut decided);
        self.commit(id, subject, now, decided, queue);
        let mut decided = Decided::default();
        let answer = subject.decide(now, command, &mut decided);
        self.commit(id, subject, now, decided, queue);
        answer
    }

    fn wake<A>(&mut self, id: &A::Id, subject: &mut Subject<A>, now: Timestamp, entropy: u64, queue: &mut Vec<Message>)
    where
        A: Entity,
        A::Event: StoredEvent,
        A::Reply: PartialEq + Debug,
    {
        if subject.state.due().is_some_and(|due| due <= now) {
            let mut decided = Decided::default();
            subject.expire(now, &mut decided);
            self.commit(id, subject, now, decided, queue);
            let mut decided = Decided::default();
            subject.state.tick(now, entropy, &mut decided);
            self.commit(id, subject, now, decided, queue);
        }
        queue.extend(subject.owed(now));
    }
}

impl World {
    /// An empty world at `now`, whose accidents follow from `seed`.
    #[must_use]
    pub fn new(now: Timestamp, seed: u64, faults: Faults) -> Self {
        Self {
            now,
            faults,
            catalogue: Subject::default(),
            options: BTreeMap::new(),
            wallets: BTreeMap::new(),
            rooms: BTreeMap::new(),
            plans: BTreeMap::new(),
            log: Log::default(),
            queue: Vec::new(),
            parked: BTreeMap::new(),
            calls: Vec::new(),
            random: Random(seed),
        }
    }

    /// Announces a concert; its waiting room opens once it hears of it.
    pub fn announce(&mut self, waiting_room: Settings) -> ConcertId {
        let title = String::from("A concert");
        let request = Request::default();
        let command = catalogue::Command::CreateConcert {
            title,
            waiting_room,
            signing_key: [7; 32],
            entries_max: u64::MAX,
            request,
        };
        match self.catalogue(&command) {
            Ok(Answer::Reply(catalogue::Reply::Concert { concert, .. })) => concert,
            other => panic!("{other:?}"),
        }
    }

    /// Puts an option on sale; it is defined once it hears of it.
    pub fn put_on_sale(&mut self, definition: Definition, plan: Arc<SeatingPlan>) -> OptionId {
        let request = Request::default();
        let command =
            catalogue::Command::AddOption { definition: Box::new(definition.clone()), entries_max: u64::MAX, request };
        match self.catalogue(&command) {
            Ok(Answer::Reply(catalogue::Reply::Option { option, .. })) => {
                self.plans.insert(option, Arc::new(PricedPlan::new(option, definition, plan)));
                option
            }
            other => panic!("{other:?}"),
        }
    }

    /// The plan and prices of an option, for [`concert_option::Command::Hold`].
    ///
    /// # Panics
    /// If there is no such option.
    #[must_use]
    pub fn plan(&self, option: OptionId) -> Arc<PricedPlan> {
        self.plans[&option].clone()
    }

    /// Asks something of the catalogue.
    ///
    /// # Errors
    /// The rule that stands against it.
    pub fn catalogue(&mut self, command: &catalogue::Command) -> Result<Answer<catalogue::Reply>, Rejection> {
        self.log.handle(&TheCatalogue, &mut self.catalogue, self.now, command, &mut self.queue)
    }

    /// Asks something of an option.
    pub fn option(&mut self, id: OptionId, command: &concert_option::Command) -> Call {
        let call = Call(self.calls.len());
        self.calls.push(None);
        self.option_from(id, command, Some(call));
        call
    }

    fn option_from(&mut self, id: OptionId, command: &concert_option::Command, call: Option<Call>) {
        let subject = self.options.entry(id).or_default();
        let answer = self.log.handle(&id, subject, self.now, command, &mut self.queue);
        match answer {
            Ok(Answer::Silent) => {}
            Ok(Answer::Reply(reply)) => self.answer_to(call, Ok(reply)),
            Ok(Answer::Park { ticket, role }) => {
                self.parked.entry((id, ticket)).or_default().extend(call.map(|call| (role, call)));
            }
            Ok(Answer::Settle { ticket, starter, duplicate, other }) => {
                for (role, call) in self.parked.remove(&(id, ticket)).unwrap_or_default() {
                    let answer = match role {
                        Role::Starter => &starter,
                        Role::Duplicate => &duplicate,
                        Role::Other => &other,
                    };
                    self.answer_to(Some(call), answer.clone());
                }
            }
            Err(rejection) => self.answer_to(call, Err(rejection)),
        }
    }

    fn answer_to(&mut self, call: Option<Call>, answer: Answered) {
        if let Some(Call(index)) = call {
            assert!(self.calls[index].is_none(), "a caller is answered once");
            self.calls[index] = Some(answer);
        }
    }

    /// What a call was answered; `None` while it waits, and for good if the world has crashed meanwhile.
    #[must_use]
    pub fn answer(&self, call: Call) -> Option<&Answered> {
        self.calls[call.0].as_ref()
    }

    /// How many callers wait.
    #[must_use]
    pub fn waiting_calls(&self) -> usize {
        self.parked.values().map(Vec::len).sum()
    }

    /// Asks something of a wallet.
    ///
    /// # Errors
    /// The rule that stands against it.
    pub fn wallet(&mut self, user: &UserId, command: &wallet::Command) -> Result<Answer<wallet::Reply>, Rejection> {
        let subject = self.wallets.entry(user.clone()).or_default();
        self.log.handle(user, subject, self.now, command, &mut self.queue)
    }

    /// Asks something of a waiting room.
    ///
    /// # Errors
    /// The rule that stands against it.
    pub fn room(
        &mut self,
        concert: ConcertId,
        command: &waiting_room::Command,
    ) -> Result<Answer<waiting_room::Reply>, Rejection> {
        let subject = self.rooms.entry(concert).or_default();
        self.log.handle(&concert, subject, self.now, command, &mut self.queue)
    }

    /// Messages that are on their way.
    #[must_use]
    pub fn queue(&self) -> &[Message] {
        &self.queue
    }

    /// Loses every message that is on its way.
    pub fn lose_messages(&mut self) {
        self.queue.clear();
    }

    /// Sends a message out of turn.
    pub fn send(&mut self, message: Message) {
        self.queue.push(message);
    }

    /// Delivers one message, or loses it; false if none is on its way.
    pub fn deliver(&mut self) -> bool {
        if self.queue.is_empty() {
            return false;
        }
        let any = if self.random.chance(self.faults.overtaken) {
            self.random.below(self.queue.len() as u64) as usize
        } else {
            0
        };
        let message = self.queue.remove(any);
        if self.random.chance(self.faults.lost) {
            return true;
        }
        if self.random.chance(self.faults.doubled) {
            let later = self.random.below(self.queue.len() as u64 + 1) as usize;
            self.queue.insert(later, message.clone());
        }
        match message {
            // What comes from inside is never refused in a way that anybody hears of.
            Message::Catalogue(command) => drop(self.catalogue(&command)),
            Message::Option(id, command) => self.option_from(id, &command, None),
            Message::Wallet(user, command) => drop(self.wallet(&user, &command)),
            Message::Room(concert, command) => drop(self.room(concert, &command)),
            // It is listed where it is owed.
            Message::Providers(_) => {}
        }
        true
    }

    /// Does what the timer does: wakes everybody who has something due or owed.
    pub fn wake(&mut self) {
        let (now, queue) = (self.now, &mut self.queue);
        self.log.wake(&TheCatalogue, &mut self.catalogue, now, self.random.next(), queue);
        for (id, subject) in &mut self.options {
            self.log.wake(id, subject, now, self.random.next(), queue);
        }
        for (user, subject) in &mut self.wallets {
            self.log.wake(user, subject, now, self.random.next(), queue);
        }
        for (concert, subject) in &mut self.rooms {
            self.log.wake(concert, subject, now, self.random.next(), queue);
        }
    }

    /// Time passes.
    pub fn pass(&mut self, millis: u64) {
        self.now = self.now.plus_millis(millis);
    }

    /// The power goes and comes back. Messages and callers are forgotten, and so are the last `unsynced` records, which no
    /// disk has seen.
    pub fn crash(&mut self, rebuild: Rebuild, unsynced: usize) {
        self.queue.clear();
        self.parked.clear();
        let kept = self.log.records.len().saturating_sub(unsynced);
        if kept < self.log.records.len() {
            self.forget_after(kept);
        }
        each_subject(self, rebuild);
    }

    /// Starts anew with the first `kept` records, as stored in a journal.
    fn forget_after(&mut self, kept: usize) {
        let mut records = std::mem::take(&mut self.log).records;
        records.truncate(kept);
        self.catalogue = Subject::default();
        self.options.clear();
        self.wallets.clear();
        self.rooms.clear();
        for (_, record) in records {
            let mut bytes = Vec::new();
            record.encode_to(&mut bytes);
            let record: Record = minicbor::decode(&bytes).expect("a record can be read again");
            let at = record.at;
            let first = self.log.append(record.clone()).unwrap_or_else(|broken| panic!("{broken}"));
            match &record.facts {
                Facts::Catalogue(_, events) => self.catalogue.take_in(first, at, events),
                Facts::Option(id, events) => self.options.entry(*id).or_default().take_in(first, at, events),
                Facts::Wallet(user, events) => {
                    self.wallets.entry(user.clone()).or_default().take_in(first, at, events);
                }
                Facts::Room(id, events) => self.rooms.entry(*id).or_default().take_in(first, at, events),
                // No other aggregate tells them anything.
                Facts::Sink(..) => {}
            }
        }
    }

    /// Checks every invariant that can be checked at any time.
    ///
    /// # Errors
    /// One of them does not hold.
    pub fn check(&self) -> Result<(), Broken> {
        let audit = &self.log.audit;
        for (id, subject) in &self.options {
            audit.agrees_with_option(*id, &subject.state)?;
        }
        for (user, subject) in &self.wallets {
            audit.agrees_with_wallet(user, &subject.state)?;
        }
        audit.money(self.wallets.values().map(|subject| &subject.state))?;
        audit.sagas()
    }

    /// Lets everything that is under way come to its end, on a network without faults; then nothing is owed, no payment is
    /// pending and no caller waits.
    ///
    /// # Errors
    /// Something is left, or an invariant is broken.
    ///
    /// # Panics
    /// If messages do not stop.
    pub fn settle(&mut self) -> Result<(), Broken> {
        self.faults = Faults::default();
        for _ in 0..8 {
            self.wake();
            for _ in 0..1_000_000 {
                if !self.deliver() {
                    break;
                }
            }
            assert!(self.queue.is_empty(), "messages come to an end");
            self.check()?;
        }
        let owing = self.options.values().any(|subject| subject.state.owes()) || self.catalogue.state.owes();
        let waiting = self.waiting_calls();
        if owing || waiting > 0 {
            return Err(Broken { invariant: "saga", what: format!("owing: {owing}, callers who wait: {waiting}") });
        }
        self.log.audit.settled()
    }
}

fn each_subject(world: &mut World, rebuild: Rebuild) {
    fn each<A>(subject: &mut Subject<A>, rebuild: Rebuild)
    where
        A: Entity,
        A::Event: StoredEvent,
        A::Reply: PartialEq + Debug,
    {
        match rebuild {
            Rebuild::Events => subject.replay(),
            Rebuild::Rows => subject.reload(),
        }
    }
    each(&mut world.catalogue, rebuild);
    world.options.values_mut().for_each(|subject| each(subject, rebuild));
    world.wallets.values_mut().for_each(|subject| each(subject, rebuild));
    world.rooms.values_mut().for_each(|subject| each(subject, rebuild));
}

#[cfg(test)]
mod tests;
