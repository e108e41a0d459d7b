//! Calling a performance off: nothing is sold any more, what is held is let go, and every payment is given back to who paid.
//!
//! One event says so, [`Event::CalledOff`]. All else follows from the state in steps of a bounded size, each a record of what gives back,
//! as ever: so it goes on after a crash, and readers of events need nothing new. A change that is under way is waited for, and then its
//! order goes the same way. What wallets have not answered is bounded too, since all of it is asked for again each second.

use serde::Serialize;

use super::*;

/// So many orders end in one step.
const STEP_ORDERS_MAX: usize = 128;
/// A step ends once its events take so many bytes: together with one more, a record has room for them.
const STEP_BYTES_MAX: usize = 64 << 10;
/// No step begins while wallets have not answered so many.
const UNSETTLED_MAX: usize = 1_024;
/// The most characters of a reason.
const REASON_CHARS_MAX: usize = 500;

/// That a performance is called off.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(super) struct Off {
    /// Why.
    #[n(0)]
    pub(super) reason: Option<String>,
    /// Who has called it off.
    #[n(1)]
    pub(super) by: UserId,
    /// When.
    #[n(2)]
    pub(super) at: Timestamp,
    /// How many payments were given back since.
    #[n(3)]
    pub(super) done: u64,
    /// How many were to be, and how many were not settled, when it was called off. Absent before it was kept.
    #[n(4)]
    pub(super) at_first: Option<(u64, u64)>,
}

/// How far the calling off of a performance is.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Cancellation {
    /// Why.
    #[n(0)]
    pub reason: Option<String>,
    /// Since when.
    #[n(1)]
    pub cancelled_at: Timestamp,
    /// How many payments are given back.
    #[n(2)]
    pub done: u64,
    /// Of how many; those that are under way among them, which leave it again if they take nothing.
    #[n(3)]
    pub total: u64,
    /// How many are not settled: wallets have not taken a refund, providers have not said that one is done or that they will
    /// never take any money, or somebody disputes it.
    #[n(4)]
    pub owed: u64,
}

impl ConcertOption {
    /// How far it is with being called off, if it is.
    #[must_use]
    pub fn cancellation(&self) -> Option<Cancellation> {
        let off = self.header.off.as_ref()?;
        let pays = |of: &&Reservation| {
            matches!(of.status, ReservationStatus::Confirmed { .. } | ReservationStatus::Paying { .. })
        };
        let to_do = self.reservations.values().filter(pays).count() as u64;
        let is_disputed = |no: &&u64| {
            let by = self.payments.get(*no).and_then(|payment| payment.provider.as_ref());
            by.is_some_and(|by| by.facts.is_disputed())
        };
        let disputed = self.amiss.difference(&self.owing).filter(is_disputed).count();
        Some(Cancellation {
            reason: off.reason.clone(),
            cancelled_at: off.at,
            done: off.done,
            total: off.done + to_do,
            owed: (self.refunds.len() + self.owing.len() + disputed) as u64,
        })
    }

    /// As it was told to who called it off: what they were told stays true, however often they ask with the same key.
    #[must_use]
    pub fn cancellation_as_told(&self) -> Option<Cancellation> {
        let now = self.cancellation()?;
        let at_first = self.header.off.as_ref()?.at_first;
        Some(at_first.map_or(now.clone(), |(total, owed)| Cancellation { done: 0, total, owed, ..now }))
    }

    /// Whether its performance is called off.
    #[must_use]
    pub fn is_called_off(&self) -> bool {
        self.header.off.is_some()
    }

    /// Whether seats may be held at `now`.
    pub(super) fn is_open(&self, now: Timestamp) -> bool {
        !self.is_called_off() && self.header.window.is_open(now)
    }

    /// Refuses to hand on what is about to be given back.
    pub(super) fn takes_place(&self) -> Result<(), Rejection> {
        if self.is_called_off() { Err(Rejection::ReservationNotConfirmed) } else { Ok(()) }
    }

    pub(super) fn decide_call_off(
        &self,
        now: Timestamp,
        (reason, by): (Option<&str>, &UserId),
        request: &Request,
        out: &mut Decided<Event>,
    ) -> Result<Answer<Reply>, Rejection> {
        Flaw::refuse(reason.and_then(|reason| flaw_of_reason(reason, REASON_CHARS_MAX)))?;
        if self.keys.recall(now, request)?.is_some() {
            return Ok(Answer::Reply(Reply::Replayed(0)));
        }
        self.definition().ok_or(Rejection::NotFound)?;
        if !self.is_called_off() || request.key.is_some() {
            let (reason, by, key) = (reason.map(ToOwned::to_owned), by.clone(), request.key.clone());
            out.events.push(Event::CalledOff { reason, by, key });
        }
        Ok(Answer::Reply(Reply::Done))
    }

    /// When there is something to do: at once, unless wallets have enough to answer.
    pub(super) fn calls_off_at(&self) -> Option<Timestamp> {
        let off = self.header.off.as_ref()?;
        (!self.ending.is_empty() && self.unsettled.len() < UNSETTLED_MAX).then_some(off.at)
    }

    /// Ends some of the orders that are to end.
    pub(super) fn call_some_off(&self, now: Timestamp, out: &mut Decided<Event>) {
        let Some(off) = self.header.off.as_ref().filter(|_| self.calls_off_at().is_some()) else { return };
        let (mut last_no, mut bytes) = (self.header.last_no, 0);
        for no in self.ending.iter().take(STEP_ORDERS_MAX) {
            let known = out.events.len();
            last_no = self.call_one_off(now, (*no, off), last_no, out);
            bytes += out.events[known..].iter().map(|event| cbor::to_vec(event).len()).sum::<usize>();
            if bytes > STEP_BYTES_MAX {
                break;
            }
        }
    }

    /// Ends an order; `last_no` is the last number that was given by then, and the last one is returned.
    fn call_one_off(&self, now: Timestamp, (no, off): (u64, &Off), last_no: u64, out: &mut Decided<Event>) -> u64 {
        let Some(reservation) = self.reservations.get(&no) else { return last_no };
        let released = Event::ReservationReleased { reservation: no, by: Some(off.by.clone()) };
        let payment = |no| self.payments.get(&no);
        match reservation.status {
            ReservationStatus::Held => out.events.push(released),
            ReservationStatus::Paying { payment: pays } => {
                let Some(payment) = payment(pays) else { return last_no };
                // Whether or not its hold had run out, it is not time that ends it.
                let turn = Turn::Ended { why: Ending::CalledOff, lapses: false };
                self.move_on(now, pays, payment, (None, Some(turn)), None, out);
                out.events.push(released);
            }
            ReservationStatus::Confirmed { payment: paid } => {
                let Some(payment) = payment(paid) else { return last_no };
                return self.give_all_back(now, (paid, payment), (reservation, off), last_no, out);
            }
            _ => {}
        }
        last_no
    }

    /// Gives all back that is left of a payment, to who paid; as [`call_one_off`](Self::call_one_off).
    fn give_all_back(
        &self,
        now: Timestamp,
        (no, payment): (u64, &Payment),
        (reservation, off): (&Reservation, &Off),
        last_no: u64,
        out: &mut Decided<Event>,
    ) -> u64 {
        let refund = last_no + 1;
        if payment.provider.is_some() {
            let turn = Turn::Refunded { why: Ending::Refunded, refund: Some(refund), by: Some(off.by.clone()) };
            self.move_on(now, no, payment, (None, Some(turn)), None, out);
            return refund;
        }
        // What is begun in this step is not settled either, so it is the first number of the step that counts.
        let first = self.header.last_no + 1;
        if payment.legs.is_empty() {
            out.events.push(Event::PaymentRefunded { refund, payment: no, key: None, by: Some(off.by.clone()) });
            out.tell.push(self.credit_since(first, refund, &payment.user, payment.amount));
            return refund;
        }
        let backs = self.draw((no, payment), payment.price(), refund);
        out.tell.extend(backs.iter().map(|back| self.credit_since(first, back.refund, &back.user, back.amount)));
        let (what, then) = (What::Refunded { refund, all: true, payment: no }, (Lot::default(), Points::ZERO));
        let by = (&Request::default(), Some(off.by.clone()));
        let last = backs.last().map_or(refund, |back| back.refund);
        let change = Change { given: reservation.lot(), backs, ..Change::new(what, then, by) };
        out.events.push(Event::OrderChanged { reservation: payment.reservation, change: Box::new(change) });
        last
    }

    pub(super) fn evolve_called_off(&mut self, at: Timestamp, reason: Option<&str>, by: &UserId) {
        if self.is_called_off() {
            return;
        }
        let reason = reason.map(ToOwned::to_owned);
        self.header.off = Some(Off { reason, by: by.clone(), at, done: 0, at_first: None });
        let at_first = self.cancellation().map(|first| (first.total, first.owed));
        if let Some(off) = &mut self.header.off {
            off.at_first = at_first;
        }
        self.find_ending();
    }

    /// Finds all that is to end, if it is called off.
    pub(super) fn find_ending(&mut self) {
        if self.is_called_off() {
            self.ending = self.reservations.keys().copied().filter(|no| self.may_end(*no)).collect();
        }
    }

    /// Something has happened to an order, which may have to end now.
    pub(super) fn end_or_not(&mut self, no: u64) {
        if !self.is_called_off() {
            return;
        }
        if self.may_end(no) {
            self.ending.insert(no);
        } else {
            self.ending.remove(&no);
        }
    }

    /// Whether an order can end: it has not, and nothing of it is under way that has to come to its end before.
    fn may_end(&self, no: u64) -> bool {
        self.reservations.get(&no).is_some_and(|reservation| match reservation.status {
            ReservationStatus::Held => true,
            ReservationStatus::Paying { payment } => self.is_by_provider(payment),
            ReservationStatus::Confirmed { .. } => self.not_changing(reservation).is_ok(),
            ReservationStatus::Released | ReservationStatus::Expired | ReservationStatus::Refunded { .. } => false,
        })
    }

    /// A payment is given back.
    pub(super) fn count_given_back(&mut self, changes: &mut impl Changes<Part>) {
        if let Some(off) = &mut self.header.off {
            off.done += 1;
            changes.touch(Part::Header);
        }
    }
}

/// What is wrong with a reason of at most so many characters.
pub(super) fn flaw_of_reason(reason: &str, chars_max: usize) -> Option<Flaw> {
    let fits = (1..=chars_max).contains(&reason.chars().count()) && !reason.chars().any(char::is_control);
    let message = format!("must be 1 to {chars_max} characters, none of them a control character");
    (!fits).then(|| Flaw::new("reason", message))
}
