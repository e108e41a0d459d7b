//! Does what is owed of payments by a provider, as the engine's own desk does it, a step at a time; and brings the engine what the
//! provider tells. What they are in the middle of is lost with the life of the engine.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Poll;

use super::Flaw;
use super::bank::{Bank, Outcome};
use super::model::{Model, UNREADABLE, broken, see};
use super::stage::Stage;
use crate::actors::actor::Delivery;
use crate::actors::registry::Origin;
use crate::actors::reply::{self, Reply as Answer};
use crate::actors::system::{Routed, System};
use crate::domain::concert_option::{Cold, Command, ConcertOption, Owed, OwedKind, Part, Payment, Reply, Reservation};
use crate::domain::facts::{Fact, Kind};
use crate::domain::invariants::Broken;
use crate::domain::{Lsn, PaymentId, Rejection, Timestamp};
use crate::engine::desk::OLD_MS;
use crate::testing::random::Dice;

type Told = Answer<Result<Reply, Rejection>>;

/// With what they work.
pub(in crate::testing) struct Kit<'a> {
    pub system: &'a Arc<System<Stage>>,
    pub model: &'a Model,
    pub dice: &'a Dice,
    pub now: Timestamp,
    pub flaw: Option<Flaw>,
}

impl Kit<'_> {
    /// Asks an option for something; nothing if it is overloaded or over.
    fn ask(&self, payment: PaymentId, command: Command) -> Option<Told> {
        let (reply, answer) = reply::channel();
        let delivery = Delivery::Command(command, Some(reply));
        let sent =
            ConcertOption::registry(self.system).deliver(self.system, &payment.option, delivery, Origin::Outside);
        sent.ok().map(|()| answer)
    }

    fn report(&self, payment: PaymentId, fact: &Fact, cold: Option<Box<Cold>>) -> Option<Told> {
        let fact = Box::new(fact.clone());
        self.ask(payment, Command::Report { payment: payment.no, fact, cold })
    }

    /// The rows of a payment that has left memory; nothing if they are not to be had yet.
    fn cold(&self, id: PaymentId) -> Result<Option<Box<Cold>>, Broken> {
        let read_at = self.system.replica.applied();
        let row = |part: Part| {
            let found = see(&self.system.replica, |replica| Ok(replica.find::<ConcertOption>(&id.option, &part)))?;
            found.row().map_err(|error| broken(UNREADABLE, error.to_string()))
        };
        let wrong = |error: crate::domain::CorruptRow| broken("I4", error.to_string());
        let Some(payment) = row(Part::Payment(id.no))? else { return Ok(None) };
        let payment = Payment::from_row(id.no, &payment).map_err(wrong)?;
        let Some(reservation) = row(Part::Reservation(payment.reservation))? else { return Ok(None) };
        let reservation = Reservation::from_row(payment.reservation, &reservation).map_err(wrong)?;
        Ok(Some(Box::new(Cold { read_at, payment, reservation })))
    }
}

/// A fact that is on its way into the engine.
struct Report {
    payment: PaymentId,
    fact: Fact,
    /// It contradicts one that was told before.
    is_false: bool,
    answer: Option<Told>,
    cold: Option<Box<Cold>>,
    was_cold: bool,
}

/// What became of it.
enum Heard {
    NotYet,
    /// It was heard, durably.
    Yes,
    /// Nobody knows.
    Unknown,
}

impl Report {
    fn new(payment: PaymentId, fact: Fact, is_false: bool) -> Self {
        Self { payment, fact, is_false, answer: None, cold: None, was_cold: false }
    }

    fn step(&mut self, kit: &Kit<'_>) -> Result<Heard, Broken> {
        let Some(answer) = &self.answer else {
            self.answer = kit.report(self.payment, &self.fact, self.cold.take());
            return Ok(Heard::NotYet);
        };
        let answer = match answer.try_recv() {
            Poll::Pending => return Ok(Heard::NotYet),
            Poll::Ready(None) => return Ok(Heard::Unknown),
            Poll::Ready(Some(answer)) => answer,
        };
        let (payment, fact) = (self.payment, &self.fact);
        match answer {
            Ok(Reply::Archived) => {
                self.was_cold = true;
                self.cold = kit.cold(payment)?;
                self.answer = None;
                Ok(Heard::NotYet)
            }
            Err(Rejection::FactConflict) if self.is_false => Ok(Heard::Yes),
            Ok(Reply::Payment(..)) if !self.is_false => {
                let known = kit.model.provided.get(&payment).is_some_and(|known| known.has_heard(fact));
                if known {
                    Ok(Heard::Yes)
                } else {
                    Err(broken("I3", format!("{payment} was told {fact:?}, and is not")))
                }
            }
            other => Err(broken("I13", format!("{payment} is told {fact:?}, and says {other:?}"))),
        }
    }
}

/// Brings the engine what the provider tells.
#[derive(Default)]
pub(in crate::testing) struct Messenger {
    under_way: Vec<(u64, Report)>,
}

impl Messenger {
    /// Goes a step further; whether there was anything to do.
    pub fn step(&mut self, kit: &Kit<'_>, bank: &mut Bank) -> Result<bool, Broken> {
        let under_way: BTreeSet<_> = self.under_way.iter().map(|(no, _)| *no).collect();
        let letters = bank.letters(&under_way);
        if !letters.is_empty() && (self.under_way.is_empty() || kit.dice.coin()) {
            let no = *kit.dice.pick(&letters);
            if let Some(letter) = bank.letter(no).cloned() {
                self.under_way.push((no, Report::new(letter.payment, letter.fact, letter.is_false)));
                if kit.flaw == Some(Flaw::ThanksAtOnce) {
                    bank.forget(no);
                }
            }
        }
        if self.under_way.is_empty() {
            return Ok(false);
        }
        let any = kit.dice.below(self.under_way.len() as u64) as usize;
        let (no, report) = &mut self.under_way[any];
        let no = *no;
        match report.step(kit)? {
            Heard::NotYet => return Ok(true),
            Heard::Yes => {
                bank.tally.cold += u64::from(report.was_cold);
                bank.delivered(no, kit.dice);
            }
            // It is told again.
            Heard::Unknown => {}
        }
        self.under_way.swap_remove(any);
        Ok(true)
    }
}

/// What is done once all is said that there is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Begin,
    Ask,
    LookUp,
    End,
}

/// Something that is owed, and is being done.
struct Work {
    payment: PaymentId,
    owed: Owed,
    /// What is to be said, one after the other.
    reports: VecDeque<Report>,
    /// That it failed is being said.
    attempted: Option<Told>,
    then: Then,
}

/// Does what is owed.
pub(in crate::testing) struct Clerk {
    works: Vec<Work>,
    /// When this life began.
    since: Timestamp,
}

/// What a clerk is about to ask of the provider: which work, and up to where he had read.
pub(in crate::testing) struct Order {
    at: usize,
    read: Lsn,
}

impl Clerk {
    pub fn new(since: Timestamp) -> Self {
        Self { works: Vec::new(), since }
    }

    /// Begins with something that is owed, if it is not being done; somebody settles by hand what is for him.
    pub fn begin(&mut self, kit: &Kit<'_>, stage: &Stage, bank: &mut Bank) -> Result<bool, Broken> {
        let options = stage.desk().owing();
        // What was said just now is not durable yet.
        if options.is_empty() || kit.system.replica.applied() < kit.system.env.writer.appended() {
            return Ok(false);
        }
        let mut due = Vec::new();
        for option in options {
            let owing = see(&kit.system.replica, |replica| {
                let owing = replica.option(option)?.owing_payments();
                let all = owing.flat_map(|(no, payment)| {
                    let owed = payment.provider.iter().flat_map(|by| by.owed.iter().cloned());
                    owed.map(move |owed| (PaymentId { option, no }, owed))
                });
                Ok(all.collect::<Vec<_>>())
            })?;
            if owing.is_empty() {
                stage.desk().settled(option);
            }
            due.extend(owing);
        }
        let is_being_done = |(id, owed): &(PaymentId, Owed)| {
            self.works.iter().any(|work| (work.payment, work.owed.no) == (*id, owed.no))
        };
        let is_passed_over = |(_, owed): &(PaymentId, Owed)| match kit.flaw {
            Some(Flaw::PassesOverChecks) => owed.kind == OwedKind::Check,
            Some(Flaw::ForgetsInCrashes) => owed.since < self.since,
            Some(Flaw::GivesUp) => owed.attempts > 0,
            _ => false,
        };
        due.retain(|one| !is_being_done(one) && !is_passed_over(one));
        if due.is_empty() {
            return Ok(false);
        }
        let (payment, owed) = kit.dice.pick(&due).clone();
        if owed.by_hand {
            let known = kit.model.provided.get(&payment);
            return Ok(known.is_some_and(|known| bank.settle_by_hand(kit.dice, payment, &owed, known)));
        }
        let reports = VecDeque::new();
        self.works.push(Work { payment, owed, reports, attempted: None, then: Then::Begin });
        Ok(true)
    }

    /// Whether something is being done.
    pub fn is_busy(&self) -> bool {
        !self.works.is_empty()
    }

    /// Goes a step further with some work; what is to be asked of the provider, if it has come to that.
    pub fn step(&mut self, kit: &Kit<'_>, bank: &mut Bank) -> Result<Option<Order>, Broken> {
        if self.works.is_empty() {
            return Ok(None);
        }
        let at = kit.dice.below(self.works.len() as u64) as usize;
        let work = &mut self.works[at];
        if work.is_saying(kit)? {
            return Ok(None);
        }
        let work = &mut self.works[at];
        match work.then {
            Then::End => drop(self.works.swap_remove(at)),
            Then::LookUp => {
                work.then = Then::End;
                work.look_up(bank);
            }
            Then::Begin | Then::Ask => {
                let read = kit.system.replica.applied();
                if !work.is_owed(kit)? {
                    work.then = Then::End;
                    return Ok(None);
                }
                let is_old = work.owed.since.plus_millis(OLD_MS) <= kit.now && kit.flaw != Some(Flaw::NeverLooks);
                let is_check = work.owed.kind == OwedKind::Check;
                if work.then == Then::Begin && (is_check || is_old) {
                    let is_reached = work.look_up(bank);
                    work.then = if is_reached && !is_check { Then::Ask } else { Then::End };
                    return Ok(None);
                }
                return Ok(Some(Order { at, read }));
            }
        }
        Ok(None)
    }

    /// Asks the provider for what was about to be asked.
    pub fn ask(&mut self, order: &Order, kit: &Kit<'_>, bank: &mut Bank) -> Result<(), Broken> {
        let work = &mut self.works[order.at];
        let (id, owed) = (work.payment, &work.owed);
        work.then = Then::End;
        // Others may have made durable since that it is not owed any more: then nobody can help it.
        if kit.model.last == order.read {
            let known = kit.model.provided.get(&id).filter(|known| known.owed.contains_key(&owed.no));
            let Some(known) = known else {
                return Err(broken("I13", format!("{id} is asked for {owed:?}, and owes it not")));
            };
            bank.is_left(id, owed, known)?;
        }
        let key = match kit.flaw {
            Some(Flaw::OneKeyForAll) => format!("{id}-{:?}", owed.kind),
            Some(Flaw::OneKeyForAllAttempts) => format!("{id}-{}", owed.no),
            _ => format!("{id}-{}-{}", owed.no, owed.attempts),
        };
        match bank.call(kit.dice, kit.now, id, owed, key)? {
            Outcome::Done(facts) => work.reports.extend(facts.into_iter().map(|fact| Report::new(id, fact, false))),
            Outcome::Unknown if kit.flaw == Some(Flaw::TakesSilenceForYes) && owed.kind == OwedKind::Refund => {
                let (reference, id_of_it) =
                    (owed.reference.clone().unwrap_or_default(), Some(format!("silent {}", owed.no)));
                let (amount, currency) = (owed.amount, owed.currency);
                let fact =
                    Fact { kind: Kind::Refunded, reference, id: id_of_it, amount, currency, at: None, reason: None };
                work.reports.push_back(Report::new(id, fact, false));
            }
            Outcome::Unknown => {}
            Outcome::Refused => {
                work.attempted =
                    kit.ask(id, Command::Attempted { payment: id.no, owed: owed.no, attempt: owed.attempts });
                work.then = if kit.flaw == Some(Flaw::GivesUp) { Then::End } else { Then::LookUp };
            }
        }
        Ok(())
    }
}

impl Work {
    /// Says what there is to say; false if nothing is left.
    fn is_saying(&mut self, kit: &Kit<'_>) -> Result<bool, Broken> {
        if let Some(answer) = &self.attempted {
            if answer.try_recv().is_ready() {
                self.attempted = None;
            }
            return Ok(true);
        }
        let Some(report) = self.reports.front_mut() else { return Ok(false) };
        match report.step(kit)? {
            Heard::NotYet => {}
            Heard::Yes => drop(self.reports.pop_front()),
            Heard::Unknown => {
                self.reports.clear();
                self.then = Then::End;
            }
        }
        Ok(true)
    }

    /// Reads again whether it is owed, as it is durable.
    fn is_owed(&self, kit: &Kit<'_>) -> Result<bool, Broken> {
        if kit.flaw == Some(Flaw::ReadsOnce) {
            return Ok(true);
        }
        let (id, owed) = (self.payment, &self.owed);
        see(&kit.system.replica, |replica| {
            let payment = replica.option(id.option)?.payment(id.no);
            Ok(payment.and_then(|payment| payment.provider.as_ref()).is_some_and(|by| by.owed.contains(owed)))
        })
    }

    /// Asks the provider for all that it knows; false if it cannot be reached.
    fn look_up(&mut self, bank: &mut Bank) -> bool {
        let (id, owed) = (self.payment, &self.owed);
        let Some(mut facts) = bank.look_up(id) else { return false };
        if facts.is_empty() && owed.kind == OwedKind::Check {
            let (amount, currency) = (owed.amount, owed.currency);
            let reference = format!("none-{id}");
            facts.push(Fact { kind: Kind::Voided, reference, id: None, amount, currency, at: None, reason: None });
        }
        self.reports.extend(facts.into_iter().map(|fact| Report::new(id, fact, false)));
        true
    }
}
