//! Paying a held reservation from its owner's wallet, and giving that back: the saga with a wallet as its other side.

use super::*;

impl ConcertOption {
    pub(super) fn decide_payment(
        &self,
        now: Timestamp,
        no: u64,
        user: &UserId,
        request: &Request,
        out: &mut Decided<Event>,
    ) -> Result<Answer<Reply>, Rejection> {
        if let Some(answer) = self.known(now, request)? {
            return Ok(answer);
        }
        let Some(reservation) = self.reachable(no, &Caller::User(user.clone()))? else {
            return Ok(Answer::Reply(Reply::Archived));
        };
        match reservation.status {
            ReservationStatus::Held if self.is_called_off() => Err(Rejection::ReservationNotHeld),
            ReservationStatus::Held => {
                let terms = self.definition().ok_or(Rejection::NotFound)?;
                if !terms.takes(POINTS) {
                    return Err(by_provider::no_method(terms));
                }
                let payment = self.header.last_no + 1;
                let deadline = now.plus_millis(u64::from(terms.payment_seconds) * 1000);
                let key = request.key.clone();
                out.events.push(Event::PaymentStarted { payment, reservation: no, deadline, key });
                out.tell.push(self.debit(payment, (user, reservation.amount), now, deadline));
                Ok(Answer::Park { ticket: payment, role: Role::Starter })
            }
            ReservationStatus::Paying { payment } if self.is_by_provider(payment) => {
                Err(Rejection::PaymentPending { payment: PaymentId { option: self.id(), no: payment } })
            }
            ReservationStatus::Paying { payment } => Ok(Answer::Park { ticket: payment, role: Role::Other }),
            ReservationStatus::Confirmed { payment } => {
                Err(Rejection::AlreadyPaid { payment: PaymentId { option: self.id(), no: payment } })
            }
            _ => Err(Rejection::ReservationNotHeld),
        }
    }

    pub(super) fn decide_refund(
        &self,
        now: Timestamp,
        no: u64,
        caller: &Caller,
        request: &Request,
        out: &mut Decided<Event>,
    ) -> Result<Answer<Reply>, Rejection> {
        if let Some(answer) = self.known(now, request)? {
            return Ok(answer);
        }
        let Some(payment) = self.reachable_payment(no, caller)? else {
            return Ok(Answer::Reply(Reply::Archived));
        };
        self.decide_refund_of_all(now, (no, payment), caller, request, out)
    }

    /// Gives all back that is left of a payment.
    pub(super) fn decide_refund_of_all(
        &self,
        now: Timestamp,
        (no, payment): (u64, &Payment),
        caller: &Caller,
        request: &Request,
        out: &mut Decided<Event>,
    ) -> Result<Answer<Reply>, Rejection> {
        if let PaymentStatus::Refunded { refund } = payment.status {
            return Ok(Answer::Park { ticket: refund, role: Role::Other });
        }
        let reservation = self.refundable(now, (no, payment), caller)?;
        if payment.provider.is_some() {
            return Ok(self.decide_provider_refund(now, (no, payment), caller, request, out));
        }
        if !payment.legs.is_empty() {
            let (given, then) = (reservation.lot(), Lot::default());
            return self.decide_to_give_back((no, payment), (given, then), (request, caller), out);
        }
        let refund = self.header.last_no + 1;
        out.events.push(Event::PaymentRefunded { refund, payment: no, key: request.key.clone(), by: caller.doer() });
        out.tell.push(self.credit(refund, &payment.user, payment.amount));
        Ok(Answer::Park { ticket: refund, role: Role::Starter })
    }

    /// The reservation that a payment has paid for, if that may be given back.
    pub(super) fn refundable(
        &self,
        now: Timestamp,
        (no, payment): (u64, &Payment),
        caller: &Caller,
    ) -> Result<&Reservation, Rejection> {
        let reservation = self.reservations.get(&payment.reservation).ok_or(Rejection::NotRefundable)?;
        let is_paid_by_it = reservation.status == ReservationStatus::Confirmed { payment: no };
        if !is_paid_by_it || !self.may_refund(now, caller, reservation) {
            return Err(Rejection::NotRefundable);
        }
        self.not_changing(reservation)?;
        Ok(reservation)
    }

    /// Once an order was handed on, its owner may not: it was somebody else who paid.
    pub(super) fn may_refund(&self, now: Timestamp, caller: &Caller, reservation: &Reservation) -> bool {
        let in_time = || self.header.window.refundable_until.is_some_and(|until| now < until);
        caller.runs_the_sale() || (in_time() && !reservation.was_handed_on())
    }

    pub(super) fn decide_debit_answered(
        &self,
        now: Timestamp,
        no: u64,
        outcome: DebitOutcome,
        out: &mut Decided<Event>,
    ) -> Answer<Reply> {
        let Some(payment) = self.payments.get(&no).filter(|payment| payment.status == PaymentStatus::Pending) else {
            return self.decide_difference_answered(no, outcome, out);
        };
        let refused = match outcome {
            DebitOutcome::Debited { balance, at: paid_at } => {
                out.events.push(Event::PaymentConfirmed { payment: no, balance, paid_at });
                let reservation = self.reservations.get(&payment.reservation);
                if let Some(token) = reservation.and_then(|reservation| reservation.token) {
                    out.tell.extend(self.complete_token(payment.reservation, token));
                }
                let paid = Box::new(Payment { status: PaymentStatus::Completed, balance, paid_at, ..payment.clone() });
                return Answer::Settle {
                    ticket: no,
                    starter: Ok(Reply::Paid(no, paid)),
                    duplicate: Ok(Reply::Replayed(no)),
                    other: Err(Rejection::AlreadyPaid { payment: PaymentId { option: self.id(), no } }),
                };
            }
            DebitOutcome::Refused { balance } => {
                let reason = FailureReason::InsufficientPoints { balance };
                out.events.push(Event::PaymentFailed { payment: no, reason });
                Rejection::InsufficientPoints { balance, amount: payment.amount }
            }
            DebitOutcome::Cancelled => {
                out.events.push(Event::PaymentFailed { payment: no, reason: FailureReason::TimedOut });
                Rejection::PaymentTimedOut
            }
        };
        let reservation = self.reservations.get(&payment.reservation);
        if reservation.is_some_and(|reservation| reservation.expires_at <= now) {
            out.events.push(Event::ReservationsExpired { reservations: vec![payment.reservation] });
        }
        let refused = Err(refused);
        Answer::Settle { ticket: no, starter: refused.clone(), duplicate: refused.clone(), other: refused }
    }

    pub(super) fn debit(
        &self,
        no: u64,
        (user, amount): (&UserId, Points),
        now: Timestamp,
        deadline: Timestamp,
    ) -> Message {
        let payment = PaymentId { option: self.id(), no };
        let settled_below = self.settled_below(no);
        let command = if now < deadline {
            wallet::Command::Debit { payment, amount, settled_below }
        } else {
            wallet::Command::CancelDebit { payment, settled_below }
        };
        Message::Wallet(user.clone(), command)
    }

    pub(super) fn credit(&self, no: u64, user: &UserId, amount: Points) -> Message {
        self.credit_since(no, no, user, amount)
    }

    /// As [`credit`](Self::credit), where `first` is the lowest number of all that is about to begin.
    pub(super) fn credit_since(&self, first: u64, no: u64, user: &UserId, amount: Points) -> Message {
        let refund = RefundId { option: self.id(), no };
        let settled_below = self.settled_below(first);
        Message::Wallet(user.clone(), wallet::Command::Credit { refund, amount, settled_below })
    }

    /// A payment or refund waits for a wallet no more.
    pub(super) fn settle(&mut self, no: u64, key: Option<&Key>) {
        self.unsettled.remove(&no);
        if let Some(key) = key {
            self.begun.remove(&key.scope);
        }
    }

    pub(super) fn evolve_confirmed(
        &mut self,
        meta: Meta,
        no: u64,
        balance: Points,
        paid_at: Timestamp,
        changes: &mut impl Changes<Part>,
    ) -> Option<()> {
        let payment = self.payments.get_mut(&no)?;
        payment.status = PaymentStatus::Completed;
        payment.balance = balance;
        payment.paid_at = paid_at;
        let (key, reservation_no) = (payment.key.take(), payment.reservation);
        self.settle(no, key.as_ref());
        changes.touch(Part::Payment(no));
        self.remember(meta.at, key.as_ref(), no, changes);
        self.sell(reservation_no, no, meta, changes)
    }

    pub(super) fn evolve_failed(
        &mut self,
        meta: Meta,
        no: u64,
        reason: FailureReason,
        changes: &mut impl Changes<Part>,
    ) -> Option<()> {
        let mut payment = self.payments.remove(&no)?;
        payment.status = PaymentStatus::Failed { reason };
        let key = payment.key.take();
        self.settle(no, key.as_ref());
        changes.archive(Part::Payment(no), || cbor::to_vec(&payment));
        let reservation = self.reservations.get_mut(&payment.reservation)?;
        reservation.status = ReservationStatus::Held;
        reservation.note(StepKind::PaymentFailed, meta);
        self.deadlines.insert((reservation.expires_at, payment.reservation));
        changes.touch(Part::Reservation(payment.reservation));
        self.end_or_not(payment.reservation);
        Some(())
    }

    pub(super) fn evolve_refunded(
        &mut self,
        meta: Meta,
        refund: u64,
        no: u64,
        key: Option<&Key>,
        changes: &mut impl Changes<Part>,
    ) -> Option<()> {
        let payment = self.payments.get_mut(&no)?;
        payment.status = PaymentStatus::Refunded { refund };
        let (amount, reservation_no) = (payment.amount, payment.reservation);
        let made = Refund {
            payment: no,
            user: payment.user.clone(),
            amount,
            requested_at: meta.at,
            balance: Points::ZERO,
            refunded_at: meta.at,
            key: key.cloned(),
        };
        self.refunds.insert(refund, made);
        self.unsettled.insert(refund, Unsettled::Refund);
        self.begun.extend(key.map(|key| (key.scope, refund)));
        self.header.last_no = refund;
        let mut reservation = self.reservations.remove(&reservation_no)?;
        self.vacate(reservation_no, &reservation, meta.lsn, changes);
        reservation.status = ReservationStatus::Refunded { payment: no };
        reservation.end_offer();
        reservation.note(StepKind::RefundStarted, meta);
        self.reservations.insert(reservation_no, reservation);
        self.end_or_not(reservation_no);
        self.count_given_back(changes);
        changes.create(|| Part::Refund(refund));
        changes.touch(Part::Payment(no));
        changes.touch(Part::Reservation(reservation_no));
        Some(())
    }

    pub(super) fn evolve_credited(
        &mut self,
        meta: Meta,
        no: u64,
        balance: Points,
        refunded_at: Timestamp,
        changes: &mut impl Changes<Part>,
    ) -> Option<()> {
        let mut refund = self.refunds.remove(&no)?;
        let key = refund.key.take();
        refund.balance = balance;
        refund.refunded_at = refunded_at;
        self.settle(no, key.as_ref());
        changes.archive(Part::Refund(no), || cbor::to_vec(&refund));
        self.remember(meta.at, key.as_ref(), no, changes);
        let payment = self.payments.get_mut(&refund.payment)?;
        payment.crediting = payment.crediting.saturating_sub(1);
        let (reservation, is_open) = (payment.reservation, payment.crediting > 0);
        if is_open || payment.status == PaymentStatus::Completed {
            changes.touch(Part::Payment(refund.payment));
        } else {
            changes.archive(Part::Payment(refund.payment), || cbor::to_vec(payment));
            self.payments.remove(&refund.payment);
        }
        self.note(reservation, StepKind::RefundCredited, meta, changes);
        self.end_or_not(reservation);
        Some(())
    }

    /// The seats of a reservation that were held are sold.
    pub(super) fn sell(
        &mut self,
        reservation_no: u64,
        payment: u64,
        meta: Meta,
        changes: &mut impl Changes<Part>,
    ) -> Option<()> {
        let mut reservation = self.reservations.remove(&reservation_no)?;
        self.occupy(reservation_no, &reservation, (SeatStatus::Held, SeatStatus::Sold), meta.lsn, changes);
        changes.count(&reservation.user, Counted::HoldClosed);
        reservation.status = ReservationStatus::Confirmed { payment };
        reservation.note(StepKind::PaymentConfirmed, meta);
        if let Some(token) = reservation.token {
            self.tokens_owed.insert(reservation_no, token);
            changes.create(|| Part::TokenOwed(reservation_no));
        }
        self.reservations.insert(reservation_no, reservation);
        self.end_or_not(reservation_no);
        changes.touch(Part::Reservation(reservation_no));
        Some(())
    }
}
