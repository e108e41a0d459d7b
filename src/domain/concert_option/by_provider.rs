//! Paying by a provider: the seats are pinned, what the provider did comes in as facts, and what is owed is told until a fact
//! says that it is done.
//!
//! One event says what was heard, where the payment goes from there, and what is owed then ([`Event::ProviderPaymentMoved`]).

use hashbrown::hash_map::EntryRef;

use super::provider::Status;
use super::*;
use crate::domain::facts::{Charge, FACTS_MAX, Fact, Heard, Kind};

/// So many payments stand in one event that lets them leave memory.
const COLD_BATCH_MAX: usize = 10_000;

/// A payment that has left memory, as its row was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cold {
    /// Everything up to here was taken in before the rows were read.
    pub read_at: Lsn,
    /// The payment.
    pub payment: Payment,
    /// Its reservation.
    pub reservation: Reservation,
}

/// How many payments of each user are in memory that took no money.
#[derive(Debug, Clone, Default)]
pub(super) struct ForNothing(HashMap<UserId, u32>);

impl ForNothing {
    fn get(&self, user: &UserId) -> u64 {
        self.0.get(user).copied().unwrap_or(0).into()
    }

    /// One of a user's was such a payment, and is or is not from now on.
    fn count(&mut self, user: &UserId, was: bool, is: bool) {
        if is && !was {
            *self.0.entry_ref(user).or_default() += 1;
        } else if was
            && !is
            && let EntryRef::Occupied(mut number) = self.0.entry_ref(user)
        {
            *number.get_mut() -= 1;
            if *number.get() == 0 {
                number.remove();
            }
        }
    }
}

/// Whether a payment can have seats.
enum Claim {
    /// They are still its reservation's.
    Theirs,
    /// They are free, and may be taken again.
    Again,
    /// No.
    Gone,
}

impl ConcertOption {
    /// Payments by providers in memory, in no order.
    pub fn provider_payments(&self) -> impl Iterator<Item = (u64, &Payment, &ByProvider)> {
        self.payments.iter().filter_map(|(no, payment)| Some((*no, payment, payment.provider.as_deref()?)))
    }

    /// Those of which something is owed, in the order of their numbers.
    pub fn owing_payments(&self) -> impl Iterator<Item = (u64, &Payment)> {
        self.owing.iter().filter_map(|no| Some((*no, self.payments.get(no)?)))
    }

    /// A reservation that is in memory, also one that has ended and may be taken again.
    pub(super) fn any_reservation(&self, no: u64) -> Option<&Reservation> {
        self.reservations.get(&no).or_else(|| self.lapsed.get(&no))
    }

    /// A payment that is under way.
    pub(super) fn is_by_provider(&self, payment: u64) -> bool {
        self.payments.get(&payment).is_some_and(|payment| payment.provider.is_some())
    }

    pub(super) fn decide_begin(
        &self,
        now: Timestamp,
        (no, user): (u64, &UserId),
        method: &Method,
        request: &Request,
        out: &mut Decided<Event>,
    ) -> Result<Answer<Reply>, Rejection> {
        // What waits for a wallet is no payment by a provider.
        if self.begun_by(request)?.is_some() {
            return Err(Rejection::IdempotencyKeyReused);
        }
        if let Some(made) = self.keys.recall(now, request)? {
            return Ok(Answer::Reply(Reply::Replayed(made)));
        }
        let terms = self.definition().ok_or(Rejection::NotFound)?;
        let Some(reservation) = self.reachable(no, &Caller::User(user.clone()))? else {
            return Ok(Answer::Reply(Reply::Archived));
        };
        let known = terms.currency.filter(|_| terms.takes(&method.name));
        let Some(currency) = known else { return Err(no_method(terms)) };
        match reservation.status {
            ReservationStatus::Held if self.is_called_off() => return Err(Rejection::ReservationNotHeld),
            ReservationStatus::Held => {}
            ReservationStatus::Paying { payment } => {
                return Err(Rejection::PaymentPending { payment: PaymentId { option: self.id(), no: payment } });
            }
            ReservationStatus::Confirmed { payment } => {
                return Err(Rejection::AlreadyPaid { payment: PaymentId { option: self.id(), no: payment } });
            }
            _ => return Err(Rejection::ReservationNotHeld),
        }
        // The configuration may have been another one when the option was made.
        if !method.currencies.is_empty() && !method.currencies.contains(&currency) {
            return Err(Rejection::Invalid(vec![Flaw::new("method", format!("takes no payments in {currency}"))]));
        }
        let amount = reservation.amount;
        if amount > Points::ZERO && amount < method.minimum {
            return Err(Rejection::AmountTooSmall { minimum: method.minimum });
        }
        let already = self.for_nothing.get(user);
        if method.open_max > 0 && already >= method.open_max {
            return Err(Rejection::LimitExceeded { limit: method.open_max, already });
        }
        let deadline = now.plus_millis(method.pay_within_ms);
        let terms = ProviderTerms {
            method: method.name.clone(),
            currency,
            installation: method.installation,
            late: method.late,
            capture_within_ms: method.capture_within_ms,
            late_until: deadline.plus_millis(method.late_within_ms).min(terms.starts_at).max(deadline),
        };
        let payment = self.header.last_no + 1;
        let begun = begun(no, reservation, &terms, now, deadline);
        let key = request.key.clone();
        out.events.push(Event::ProviderPaymentStarted {
            payment,
            reservation: no,
            terms: Box::new(terms),
            amount,
            deadline,
            key,
        });
        if amount > Points::ZERO {
            return Ok(Answer::Reply(Reply::Payment(payment, Box::new(begun))));
        }
        // There is nothing for a provider to do.
        let turn = Turn::Confirmed { reference: None, again: false };
        let paid = self.move_on(now, payment, &begun, (None, Some(turn)), None, out);
        Ok(Answer::Reply(Reply::Payment(payment, Box::new(paid))))
    }

    pub(super) fn decide_give_up(
        &self,
        now: Timestamp,
        no: u64,
        caller: &Caller,
        out: &mut Decided<Event>,
    ) -> Result<Answer<Reply>, Rejection> {
        let Some(payment) = self.reachable_payment(no, caller)? else {
            return Ok(Answer::Reply(Reply::Archived));
        };
        match payment.provider.as_ref().map(|by| by.standing(payment.amount, payment.paid_at).status) {
            Some(Status::Pending) => {
                let turn = self.ended(now, payment, Ending::GivenUp);
                let given_up = self.move_on(now, no, payment, (None, Some(turn)), None, out);
                Ok(Answer::Reply(Reply::Payment(no, Box::new(given_up))))
            }
            // To give up what has come to nothing already changes nothing.
            Some(status) if status.is_given_up() => Ok(Answer::Reply(Reply::Payment(no, Box::new(payment.clone())))),
            _ => Err(Rejection::PaymentUnderWay),
        }
    }

    /// Gives back what a provider took.
    pub(super) fn decide_provider_refund(
        &self,
        now: Timestamp,
        (no, payment): (u64, &Payment),
        caller: &Caller,
        request: &Request,
        out: &mut Decided<Event>,
    ) -> Answer<Reply> {
        let refund = self.header.last_no + 1;
        let turn = Turn::Refunded { why: Ending::Refunded, refund: Some(refund), by: caller.doer() };
        self.move_on(now, no, payment, (None, Some(turn)), request.key.clone(), out);
        Answer::Reply(Reply::RefundOwed(refund, Box::new(refund_of(no, payment, payment.price(), now))))
    }

    pub(super) fn decide_report(
        &self,
        now: Timestamp,
        no: u64,
        fact: &Fact,
        cold: Option<&Cold>,
        out: &mut Decided<Event>,
    ) -> Result<Answer<Reply>, Rejection> {
        Flaw::refuse(fact.flaws())?;
        // Rows that were read before the last ones were written may be old.
        let fresh = |cold: &&Cold| {
            use ReservationStatus::{Expired, Refunded, Released};
            // Only what has ended leaves memory: else it has since.
            let has_ended = matches!(cold.reservation.status, Released | Expired | Refunded { .. });
            let is_here = self.any_reservation(cold.payment.reservation).is_some();
            self.header.cooled.is_none_or(|cooled| cooled <= cold.read_at) && (is_here || has_ended)
        };
        let (payment, revived) = match (self.payments.get(&no), cold.filter(fresh)) {
            (Some(payment), _) => (payment, None),
            (None, Some(cold)) => (&cold.payment, Some(cold)),
            (None, None) if (1..=self.header.last_no).contains(&no) => return Ok(Answer::Reply(Reply::Archived)),
            (None, None) => return Err(Rejection::NotFound),
        };
        let by = payment.provider.as_deref().ok_or(Rejection::NotFound)?;
        match by.facts.hear(fact) {
            Heard::Known => return Ok(Answer::Reply(Reply::Payment(no, Box::new(payment.clone())))),
            Heard::Conflict => return Err(Rejection::FactConflict),
            Heard::New => {}
        }
        if self.references.get(&fact.reference).is_some_and(|of| *of != no) {
            return Err(Rejection::ReferenceInUse);
        }
        if !by.facts.has_room_for(fact) {
            return Err(Rejection::LimitExceeded { limit: FACTS_MAX as u64, already: by.facts.len() as u64 });
        }
        let mut after = by.clone();
        after.facts.take(fact);
        let totals = after.facts.totals(fact.currency, Points::ZERO);
        if Points::new(totals.captured).is_none() {
            return Err(Rejection::Invalid(vec![Flaw::new("amount", format!("all must be at most {}", Points::MAX))]));
        }
        let reservation = self.any_reservation(payment.reservation).or(revived.map(|cold| &cold.reservation));
        let turn = reservation.and_then(|reservation| self.turn(now, no, payment, &after, reservation, fact));
        if let Some(cold) = revived {
            let reservation = self.any_reservation(payment.reservation).is_none();
            out.events.push(Event::ProviderPaymentRevived {
                payment: no,
                row: Box::new(cold.payment.clone()),
                reservation: reservation.then(|| Box::new(cold.reservation.clone())),
            });
        }
        if matches!(turn, Some(Turn::Confirmed { .. }))
            && let Some(token) = reservation.and_then(|reservation| reservation.token)
        {
            out.tell.extend(self.complete_token(payment.reservation, token));
        }
        let moved = self.move_on(now, no, payment, (Some(fact), turn), None, out);
        Ok(Answer::Reply(Reply::Payment(no, Box::new(moved))))
    }

    pub(super) fn decide_attempted(&self, no: u64, owed: u32, attempt: u32, out: &mut Decided<Event>) {
        let by = self.payments.get(&no).and_then(|payment| payment.provider.as_deref());
        let known = by.and_then(|by| by.owed.iter().find(|one| one.no == owed));
        if known.is_some_and(|one| one.attempts == attempt) {
            out.events.push(Event::ProviderAttemptFailed { payment: no, owed, attempt });
        }
    }

    /// Where a payment goes from where it stands, once it has heard of `fact`, which is in `after` already. One that was given up or
    /// has lapsed goes on where it can have its seats: whoever has paid wants them.
    fn turn(
        &self,
        now: Timestamp,
        no: u64,
        payment: &Payment,
        after: &ByProvider,
        reservation: &Reservation,
        fact: &Fact,
    ) -> Option<Turn> {
        let charge = after.facts.of(&fact.reference)?;
        let reference = fact.reference.clone();
        match (&after.stand, fact.kind) {
            // Its order has not ended yet, and is to.
            (Stand::Pending, Kind::Authorized | Kind::Captured) if self.is_called_off() => {
                Some(self.ended(now, payment, Ending::CalledOff))
            }
            (Stand::Pending | Stand::Over { .. }, Kind::Authorized)
                if charge.open && is_whole(&charge, (payment, reservation), after) =>
            {
                let again = self.again(now, no, after, reservation)?;
                let until = now.plus_millis(after.terms.capture_within_ms);
                Some(Turn::Authorized { reference, until, again })
            }
            (Stand::Pending | Stand::Over { .. }, Kind::Captured)
                if is_whole(&charge, (payment, reservation), after) =>
            {
                let again = self.again(now, no, after, reservation)?;
                Some(Turn::Confirmed { reference: Some(reference), again })
            }
            (Stand::Authorized { reference: awaited, .. }, Kind::Captured)
                if *awaited == reference && is_whole(&charge, (payment, reservation), after) =>
            {
                Some(Turn::Confirmed { reference: Some(reference), again: false })
            }
            (Stand::Pending, _) if after.facts.is_dead() => {
                let why = if fact.kind == Kind::Failed { Ending::Failed } else { Ending::Voided };
                Some(self.ended(now, payment, why))
            }
            (Stand::Authorized { reference: awaited, .. }, _) if *awaited == reference && !charge.open => {
                let why = if fact.kind == Kind::Failed { Ending::Failed } else { Ending::Voided };
                Some(self.ended(now, payment, why))
            }
            // What cost nothing has nothing to go back: a refund is of something else. So it is while the money of the charge
            // that paid is there: another one's capture may be told after its refund.
            (Stand::Confirmed { reference: Some(paid) }, Kind::Refunded) => {
                let totals = after.facts.totals(after.terms.currency, Points::ZERO);
                let all = charge.refunded > 0 && totals.refunded >= totals.captured && after.facts.is_back(paid);
                all.then_some(Turn::Refunded { why: Ending::Undone, refund: None, by: None })
            }
            _ => None,
        }
    }

    /// Whether seats have to be taken again for a payment; `None` if it can have none.
    fn again(&self, now: Timestamp, no: u64, by: &ByProvider, reservation: &Reservation) -> Option<bool> {
        match self.claim(now, no, by, reservation) {
            Claim::Theirs => Some(false),
            Claim::Again => Some(true),
            Claim::Gone => None,
        }
    }

    fn claim(&self, now: Timestamp, no: u64, by: &ByProvider, reservation: &Reservation) -> Claim {
        if self.is_called_off() {
            return Claim::Gone;
        }
        match reservation.status {
            ReservationStatus::Held => return Claim::Theirs,
            ReservationStatus::Paying { payment } if payment == no => return Claim::Theirs,
            ReservationStatus::Expired => {}
            _ => return Claim::Gone,
        }
        let Some(terms) = self.definition() else { return Claim::Gone };
        let places = self.places_of(&reservation.user) + reservation.places();
        let has_room = |place: &AreaPlaces| {
            let (area, state) = (&terms.areas[usize::from(place.area)], &self.header.areas[usize::from(place.area)]);
            state.free(area.capacity) >= place.count
        };
        let may = by.terms.late == Late::Reacquire
            && now < terms.starts_at
            && places <= terms.max_seats_per_user
            && reservation.seats.iter().all(|seat| self.seats.is_free(*seat))
            && reservation.areas.iter().all(has_room);
        if may { Claim::Again } else { Claim::Gone }
    }

    /// How a payment ends whose seats were pinned.
    pub(super) fn ended(&self, now: Timestamp, payment: &Payment, why: Ending) -> Turn {
        let reservation = self.reservations.get(&payment.reservation);
        Turn::Ended { why, lapses: reservation.is_some_and(|reservation| reservation.expires_at <= now) }
    }

    /// Decides that a payment has heard of a fact, or has come to a turn, or both; it as it is then.
    pub(super) fn move_on(
        &self,
        now: Timestamp,
        no: u64,
        payment: &Payment,
        (fact, turn): (Option<&Fact>, Option<Turn>),
        key: Option<Key>,
        out: &mut Decided<Event>,
    ) -> Payment {
        let mut moved = payment.clone();
        moved.key = None;
        let Some(by) = moved.provider.as_deref_mut() else { return moved };
        by.facts.extend(fact);
        by.turn(turn.as_ref());
        let owing = by.owing(payment.amount, now);
        by.owe(&owing);
        by.moved_at = Some(now);
        if matches!(turn, Some(Turn::Confirmed { .. })) {
            moved.paid_at = now;
        }
        let standing = by.standing(payment.amount, moved.paid_at);
        if !owing.begun.is_empty() {
            // At once, and each second from now on.
            out.tell.push(Message::Providers(self.id()));
        }
        let heard = Moved { fact: fact.cloned(), turn, owing, standing, key };
        out.events.push(Event::ProviderPaymentMoved { payment: no, moved: Box::new(heard) });
        moved
    }

    pub(super) fn expire_provider_payments(&self, now: Timestamp, out: &mut Decided<Event>) {
        let mut cold = Vec::new();
        for (_, no) in self.timers.iter().take_while(|(at, _)| *at <= now) {
            let Some(payment) = self.payments.get(no) else { continue };
            let why = match payment.provider.as_ref().map(|by| &by.stand) {
                Some(Stand::Pending) => Ending::Lapsed,
                Some(Stand::Authorized { .. }) => Ending::CaptureLapsed,
                _ => {
                    cold.push(*no);
                    continue;
                }
            };
            self.move_on(now, *no, payment, (None, Some(self.ended(now, payment, why))), None, out);
        }
        let batches = cold.chunks(COLD_BATCH_MAX).map(<[u64]>::to_vec);
        out.events.extend(batches.map(|payments| Event::ProviderPaymentsWentCold { payments }));
    }

    pub(super) fn evolve_started(
        &mut self,
        meta: Meta,
        (no, reservation_no): (u64, u64),
        (terms, amount, deadline): (&ProviderTerms, Points, Timestamp),
        key: Option<&Key>,
        changes: &mut impl Changes<Part>,
    ) -> Option<()> {
        self.header.last_no = no;
        changes.touch(Part::Header);
        let reservation = self.reservations.get_mut(&reservation_no)?;
        reservation.status = ReservationStatus::Paying { payment: no };
        reservation.note(StepKind::PaymentStarted, meta);
        self.deadlines.remove(&(reservation.expires_at, reservation_no));
        let begun = Payment { amount, ..begun(reservation_no, reservation, terms, meta.at, deadline) };
        changes.touch(Part::Reservation(reservation_no));
        changes.list(&begun.user, Part::Payment(no));
        self.warm(no, begun);
        self.remember(meta.at, key, no, changes);
        Some(())
    }

    /// Takes a payment into memory.
    pub(super) fn warm(&mut self, no: u64, payment: Payment) {
        if let Some(by) = payment.provider.as_deref() {
            self.timers.extend(by.due_at(payment.deadline).map(|at| (at, no)));
            self.references.extend(by.facts.references().map(|reference| (reference.to_owned(), no)));
            if !by.owed.is_empty() {
                self.owing.insert(no);
            }
            self.by_reservation.entry(payment.reservation).or_default().push(no);
            self.for_nothing.count(&payment.user, false, by.is_for_nothing());
            self.watch(no, &by.standing(payment.amount, payment.paid_at));
        }
        self.payments.insert(no, payment);
    }

    /// Keeps account of whether a payment is to be shown to somebody, though nothing is owed of it.
    fn watch(&mut self, no: u64, standing: &Standing) {
        if standing.is_amiss() {
            self.amiss.insert(no)
        } else {
            self.amiss.remove(&no)
        };
    }

    pub(super) fn evolve_moved(
        &mut self,
        meta: Meta,
        no: u64,
        moved: &Moved,
        changes: &mut impl Changes<Part>,
    ) -> Option<()> {
        let (fact, turn) = (moved.fact.as_ref(), moved.turn.as_ref());
        let payment = self.payments.get_mut(&no)?;
        let (deadline, reservation) = (payment.deadline, payment.reservation);
        let by = payment.provider.as_deref_mut()?;
        let (due, was_for_nothing) = (by.due_at(deadline), by.is_for_nothing());
        by.facts.extend(fact);
        by.owe(&moved.owing);
        by.moved_at = Some(meta.at);
        let price = by.price;
        by.turn(turn);
        self.for_nothing.count(&payment.user, was_for_nothing, by.is_for_nothing());
        if matches!(turn, Some(Turn::Confirmed { .. })) {
            payment.paid_at = meta.at;
        }
        let (owes, due_then) = (!by.owed.is_empty(), by.due_at(deadline));
        if let Some(at) = due.filter(|_| due != due_then) {
            self.timers.remove(&(at, no));
        }
        if owes {
            self.owing.insert(no)
        } else {
            self.owing.remove(&no)
        };
        self.timers.extend(due_then.map(|at| (at, no)));
        self.watch(no, &moved.standing);
        if let Some(fact) = fact {
            self.references.insert(fact.reference.clone(), no);
        }
        changes.touch(Part::Payment(no));
        if let Some(turn) = turn {
            self.evolve_turn(meta, (no, price), turn, moved.key.as_ref(), changes);
        }
        self.end_or_not(reservation);
        Some(())
    }

    fn evolve_turn(
        &mut self,
        meta: Meta,
        (no, price): (u64, Option<Points>),
        turn: &Turn,
        key: Option<&Key>,
        changes: &mut impl Changes<Part>,
    ) -> Option<()> {
        let payment = self.payments.get(&no)?.clone();
        let reservation_no = payment.reservation;
        match turn {
            Turn::Authorized { again, .. } => {
                if *again {
                    self.take_again(reservation_no, meta, changes);
                }
                let reservation = self.reservations.get_mut(&reservation_no)?;
                self.deadlines.remove(&(reservation.expires_at, reservation_no));
                reservation.status = ReservationStatus::Paying { payment: no };
                reservation.note(StepKind::PaymentAuthorized, meta);
                changes.touch(Part::Reservation(reservation_no));
            }
            Turn::Confirmed { again, .. } => {
                if *again {
                    self.take_again(reservation_no, meta, changes);
                }
                let expires_at = self.reservations.get(&reservation_no)?.expires_at;
                self.deadlines.remove(&(expires_at, reservation_no));
                self.sell(reservation_no, no, meta, changes);
            }
            Turn::Ended { lapses, .. } => {
                let reservation = self.reservations.get_mut(&reservation_no)?;
                reservation.status = ReservationStatus::Held;
                reservation.note(StepKind::PaymentFailed, meta);
                self.deadlines.insert((reservation.expires_at, reservation_no));
                changes.touch(Part::Reservation(reservation_no));
                if *lapses {
                    self.end_hold(reservation_no, StepKind::Expired, meta, changes);
                }
            }
            Turn::Refunded { refund, .. } => {
                let mut reservation = self.reservations.remove(&reservation_no)?;
                self.vacate(reservation_no, &reservation, meta.lsn, changes);
                reservation.status = ReservationStatus::Refunded { payment: no };
                reservation.end_offer();
                reservation.note(StepKind::RefundStarted, meta);
                self.reservations.insert(reservation_no, reservation);
                self.count_given_back(changes);
                changes.touch(Part::Reservation(reservation_no));
                if let Some(refund) = *refund {
                    self.header.last_no = refund;
                    changes.touch(Part::Header);
                    let made = refund_of(no, &payment, price.unwrap_or(payment.amount), meta.at);
                    changes.archive(Part::Refund(refund), || cbor::to_vec(&made));
                    self.remember(meta.at, key, refund, changes);
                }
            }
            Turn::Changed { change } => {
                let before = price.unwrap_or(payment.amount);
                if let What::Refunded { refund, .. } = change.what {
                    self.header.last_no = refund;
                    changes.touch(Part::Header);
                    let part = before.checked_sub(change.amount).unwrap_or(Points::ZERO);
                    let made = refund_of(no, &payment, part, meta.at);
                    changes.archive(Part::Refund(refund), || cbor::to_vec(&made));
                }
                self.evolve_changed(meta, reservation_no, change, changes);
            }
        }
        Some(())
    }

    /// Holds seats again that were free.
    fn take_again(&mut self, no: u64, meta: Meta, changes: &mut impl Changes<Part>) -> Option<()> {
        let mut reservation = self.lapsed.remove(&no)?;
        self.occupy(no, &reservation, (SeatStatus::Free, SeatStatus::Held), meta.lsn, changes);
        self.count_places(&reservation.user, reservation.places(), changes);
        changes.count(&reservation.user, Counted::HoldOpened);
        reservation.status = ReservationStatus::Held;
        reservation.note(StepKind::TakenAgain, meta);
        self.reservations.insert(no, reservation);
        Some(())
    }

    /// Counts places that a user has from now on.
    pub(super) fn count_places(&mut self, user: &UserId, places: u32, changes: &mut impl Changes<Part>) {
        match self.users.entry_ref(user) {
            EntryRef::Occupied(mut known) => {
                *known.get_mut() += places;
                changes.touch_named(|| Part::User(user.clone()));
            }
            EntryRef::Vacant(entry) => {
                entry.insert(places);
                changes.create(|| Part::User(user.clone()));
            }
        }
    }

    pub(super) fn evolve_attempted(&mut self, no: u64, owed: u32, changes: &mut impl Changes<Part>) -> Option<()> {
        let by = self.payments.get_mut(&no)?.provider.as_deref_mut()?;
        by.owed.iter_mut().find(|one| one.no == owed)?.attempts += 1;
        changes.touch(Part::Payment(no));
        Some(())
    }

    pub(super) fn evolve_cold(&mut self, meta: Meta, no: u64, changes: &mut impl Changes<Part>) -> Option<()> {
        let payment = self.payments.remove(&no)?;
        self.header.cooled = Some(meta.lsn);
        changes.touch(Part::Header);
        self.owing.remove(&no);
        self.amiss.remove(&no);
        if let Some(by) = &payment.provider {
            if let Some(at) = by.due_at(payment.deadline) {
                self.timers.remove(&(at, no));
            }
            for reference in by.facts.references() {
                self.references.remove(reference);
            }
            self.for_nothing.count(&payment.user, by.is_for_nothing(), false);
        }
        changes.archive(Part::Payment(no), || cbor::to_vec(&payment));
        let others = self.by_reservation.get_mut(&payment.reservation)?;
        others.retain(|other| *other != no);
        if !others.is_empty() {
            return Some(());
        }
        self.by_reservation.remove(&payment.reservation);
        let no = payment.reservation;
        if let Some(reservation) = self.lapsed.remove(&no) {
            changes.archive(Part::Reservation(no), || cbor::to_vec(&reservation));
        } else {
            self.forget_refunded(no, changes);
        }
        Some(())
    }

    pub(super) fn evolve_revived(
        &mut self,
        no: u64,
        payment: &Payment,
        reservation: Option<&Reservation>,
        changes: &mut impl Changes<Part>,
    ) {
        if let Some(reservation) = reservation {
            self.lapsed_or_not(payment.reservation, reservation.clone());
            changes.touch(Part::Reservation(payment.reservation));
        }
        self.warm(no, payment.clone());
        changes.touch(Part::Payment(no));
    }

    /// Takes a reservation into memory, wherever it belongs.
    pub(super) fn lapsed_or_not(&mut self, no: u64, reservation: Reservation) {
        let has_ended = matches!(reservation.status, ReservationStatus::Released | ReservationStatus::Expired);
        let all = if has_ended { &mut self.lapsed } else { &mut self.reservations };
        all.insert(no, reservation);
    }
}

/// The charge can pay for the seats: it is of the right amount and currency, and nothing of it has gone back or is over. What a
/// part was given up of since it began is another order.
fn is_whole(charge: &Charge<'_>, (payment, reservation): (&Payment, &Reservation), by: &ByProvider) -> bool {
    let amount = if charge.is_captured { charge.captured } else { charge.authorized.map_or(0, Points::get) };
    let lives = if charge.is_captured { !charge.went_back } else { charge.open };
    let is_the_same = payment.amount == reservation.amount;
    lives && is_the_same && charge.currency == by.terms.currency && amount == payment.amount.get()
}

fn begun(
    reservation_no: u64,
    reservation: &Reservation,
    terms: &ProviderTerms,
    now: Timestamp,
    deadline: Timestamp,
) -> Payment {
    Payment {
        reservation: reservation_no,
        user: reservation.user.clone(),
        amount: reservation.amount,
        started_at: now,
        deadline,
        status: PaymentStatus::ByProvider,
        balance: Points::ZERO,
        paid_at: now,
        key: None,
        provider: Some(Box::new(ByProvider::new(terms.clone()))),
        legs: Vec::new(),
        crediting: 0,
        complimentary: false,
    }
}

pub(super) fn refund_of(no: u64, payment: &Payment, amount: Points, now: Timestamp) -> Refund {
    Refund {
        payment: no,
        user: payment.user.clone(),
        amount,
        requested_at: now,
        balance: Points::ZERO,
        refunded_at: now,
        key: None,
    }
}

/// What to say to who wants to pay by what is no method.
pub(super) fn no_method(terms: &Definition) -> Rejection {
    let methods = terms.methods().collect::<Vec<_>>().join(", ");
    Rejection::Invalid(vec![Flaw::new("method", format!("must be one of: {methods}"))])
}
