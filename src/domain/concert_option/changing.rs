//! Orders that change: a part is given up or given back, seats are exchanged, a reservation is handed on.
//!
//! A change is one event, [`Event::OrderChanged`] (or [`Turn::Changed`], where a provider took the money), for the seats and for what
//! is owed: wallets follow, as in [`paying`](super::paying). Only an exchange whose difference is to be paid has an event before it, which
//! pins what is to be taken; what is to be given stays its own until the difference is there.

use super::by_provider::refund_of;
use super::*;

impl Change {
    /// One by which nothing moves, and after which an order is this.
    pub(super) fn new(what: What, (then, amount): (Lot, Points), (request, by): (&Request, Option<UserId>)) -> Self {
        let (given, taken) = (Lot::default(), Lot::default());
        Self { what, given, taken, then, amount, backs: Vec::new(), leg: None, key: request.key.clone(), by }
    }
}

/// What is wrong with a part of an order by itself.
fn flaw_of_part(part: &Portion, (seats, areas): (&str, &str)) -> Option<Flaw> {
    if part.seats.is_empty() && part.areas.is_empty() {
        return Some(Flaw::new(seats, format!("must name at least one seat, unless {areas} names places")));
    }
    let places = (!part.areas.is_empty()).then(|| flaw_of_areas(areas, &part.areas, BEYOND_LIMITS_MAX)).flatten();
    places.or_else(|| Flaw::of_twice(seats, "", &part.seats))
}

/// What a reservation has, with prices: of before they were kept, those of its option's first definition.
fn priced(reservation: &Reservation, plan: &PricedPlan) -> Lot {
    let lot = reservation.lot();
    if lot.prices.is_empty() { Lot::at_first_prices(plan, lot.seats, lot.areas) } else { lot }
}

/// A part of what a reservation has, and what is left.
fn split(
    reservation: &Reservation,
    part: &Portion,
    plan: &PricedPlan,
    names: (&str, &str),
) -> Result<(Lot, Lot), Rejection> {
    let lot = priced(reservation, plan);
    lot.split((&part.seats, &part.areas), names).map_err(|flaw| Rejection::Invalid(vec![flaw]))
}

/// A reservation as it is after a change.
fn changed(reservation: &Reservation, change: &Change) -> Box<Reservation> {
    let mut after = Box::new(reservation.clone());
    let is_released = change.what == What::Released && change.then.is_empty();
    if is_released {
        after.status = ReservationStatus::Released;
    } else {
        after.become_changed(Lsn(0), change);
    }
    // What it was before is nobody's to see.
    after.course = None;
    after
}

/// Refuses a change of what has changed so often that no more can be kept.
fn may_change_again(reservation: &Reservation) -> Result<(), Rejection> {
    let already = reservation.kept_after_one_more();
    if already > KEPT_MAX { Err(Rejection::LimitExceeded { limit: KEPT_MAX, already }) } else { Ok(()) }
}

impl ConcertOption {
    /// The exchange of whose difference this is the number, and the reservation that is to change.
    pub(super) fn exchange_of(&self, leg: u64) -> Option<(u64, &Reservation, &Exchange)> {
        let Some(&Unsettled::Difference { reservation: no }) = self.unsettled.get(&leg) else { return None };
        let reservation = self.reservations.get(&no)?;
        Some((no, reservation, reservation.exchange()?))
    }

    /// Refuses while a change of this order is under way, or what goes back by one has not arrived.
    pub(super) fn not_changing(&self, reservation: &Reservation) -> Result<(), Rejection> {
        let payment = match reservation.status {
            ReservationStatus::Confirmed { payment } => self.payments.get(&payment),
            _ => None,
        };
        let goes_back = payment.is_some_and(|payment| {
            payment.crediting > 0 || payment.provider.as_ref().is_some_and(|by| by.is_giving_back())
        });
        if goes_back || reservation.exchange().is_some() { Err(Rejection::ChangeUnderWay) } else { Ok(()) }
    }

    /// The confirmed reservation of this number for `caller`, and its payment, if it can change.
    fn changeable(&self, no: u64, caller: &Caller) -> Result<Option<(&Reservation, u64)>, Rejection> {
        let Some(reservation) = self.reachable(no, caller)? else { return Ok(None) };
        let ReservationStatus::Confirmed { payment } = reservation.status else {
            return Err(Rejection::ReservationNotConfirmed);
        };
        self.not_changing(reservation)?;
        may_change_again(reservation)?;
        Ok(Some((reservation, payment)))
    }

    pub(super) fn decide_release_part(
        &self,
        now: Timestamp,
        (no, caller): (u64, &Caller),
        part: &Portion,
        plan: &PricedPlan,
        request: &Request,
        out: &mut Decided<Event>,
    ) -> Result<Answer<Reply>, Rejection> {
        let names = ("seats", "areas");
        Flaw::refuse(flaw_of_part(part, names))?;
        if let Some(answer) = self.known(now, request)? {
            return Ok(answer);
        }
        let Some(reservation) = self.reachable(no, caller)? else {
            return Ok(Answer::Reply(Reply::Archived));
        };
        if reservation.status != ReservationStatus::Held {
            return Err(Rejection::ReservationNotHeld);
        }
        may_change_again(reservation)?;
        let (given, then) = split(reservation, part, plan, names)?;
        let amount = sum_of(&then)?;
        let change = Change { given, ..Change::new(What::Released, (then, amount), (request, caller.doer())) };
        Ok(self.change(no, reservation, change, out))
    }

    pub(super) fn decide_hold_until(
        &self,
        now: Timestamp,
        (no, by): (u64, Option<&UserId>),
        expires_at: Timestamp,
        out: &mut Decided<Event>,
    ) -> Result<Answer<Reply>, Rejection> {
        let Some(reservation) = self.reachable(no, &Caller::Admin)? else {
            return Ok(Answer::Reply(Reply::Archived));
        };
        if reservation.status != ReservationStatus::Held {
            return Err(Rejection::ReservationNotHeld);
        }
        Flaw::refuse((expires_at <= now).then(|| Flaw::new("expires_at", "must be in the future")))?;
        if expires_at == reservation.expires_at {
            return Ok(Answer::Reply(Reply::Reservation(no, Box::new(reservation.clone()))));
        }
        let what = What::HeldUntil { expires_at };
        let change = Change::new(what, (reservation.lot(), reservation.amount), (&Request::default(), by.cloned()));
        Ok(self.change(no, reservation, change, out))
    }

    /// Decides a change of an order from no provider's money.
    fn change(&self, no: u64, reservation: &Reservation, change: Change, out: &mut Decided<Event>) -> Answer<Reply> {
        let after = changed(reservation, &change);
        out.events.push(Event::OrderChanged { reservation: no, change: Box::new(change) });
        Answer::Reply(Reply::Reservation(no, after))
    }

    pub(super) fn decide_refund_part(
        &self,
        now: Timestamp,
        (no, caller): (u64, &Caller),
        part: &Portion,
        plan: &PricedPlan,
        request: &Request,
        out: &mut Decided<Event>,
    ) -> Result<Answer<Reply>, Rejection> {
        let names = ("seats", "areas");
        Flaw::refuse(flaw_of_part(part, names))?;
        if let Some(answer) = self.known(now, request)? {
            return Ok(answer);
        }
        let Some(payment) = self.reachable_payment(no, caller)? else {
            return Ok(Answer::Reply(Reply::Archived));
        };
        let reservation = self.refundable(now, (no, payment), caller)?;
        let (given, then) = split(reservation, part, plan, names)?;
        if then.is_empty() {
            return self.decide_refund_of_all(now, (no, payment), caller, request, out);
        }
        may_change_again(reservation)?;
        if payment.provider.is_none() {
            return self.decide_to_give_back((no, payment), (given, then), (request, caller), out);
        }
        let (back, amount, refund) = (sum_of(&given)?, sum_of(&then)?, self.header.last_no + 1);
        let what = What::Refunded { refund, all: false, payment: no };
        let change = Change { given, ..Change::new(what, (then, amount), (request, caller.doer())) };
        self.move_on(now, no, payment, (None, Some(Turn::Changed { change: Box::new(change) })), None, out);
        Ok(Answer::Reply(Reply::RefundOwed(refund, Box::new(refund_of(no, payment, back, now)))))
    }

    /// Gives what wallets have paid back to them; nothing is left if `then` is empty.
    pub(super) fn decide_to_give_back(
        &self,
        (no, payment): (u64, &Payment),
        (given, then): (Lot, Lot),
        (request, caller): (&Request, &Caller),
        out: &mut Decided<Event>,
    ) -> Result<Answer<Reply>, Rejection> {
        let (all, amount) = (then.is_empty(), sum_of(&then)?);
        let back = if all { payment.price() } else { sum_of(&given)? };
        let refund = self.header.last_no + 1;
        let backs = self.draw((no, payment), back, refund);
        let what = What::Refunded { refund, all, payment: no };
        let change = Change { given, backs, ..Change::new(what, (then, amount), (request, caller.doer())) };
        out.tell.extend(change.backs.iter().map(|back| self.credit(back.refund, &back.user, back.amount)));
        out.events.push(Event::OrderChanged { reservation: payment.reservation, change: Box::new(change) });
        Ok(Answer::Park { ticket: refund, role: Role::Starter })
    }

    /// From which legs an amount goes back, and so to whom: from the newest first, and from none more than it took. It is one
    /// refund for each wallet, numbered from `first`; of nothing too, since it is one.
    pub(super) fn draw(&self, (no, payment): (u64, &Payment), amount: Points, first: u64) -> Vec<Back> {
        let (mut backs, mut left): (Vec<Back>, _) = (Vec::new(), amount);
        for leg in payment.all_legs(no).iter().rev() {
            let part = leg.left().min(left);
            let is_needed = part > Points::ZERO || (amount == Points::ZERO && backs.is_empty());
            let Some(rest) = left.checked_sub(part).filter(|_| is_needed) else { continue };
            left = rest;
            let drawn = Drawn { leg: leg.no, amount: part };
            let known = backs.iter_mut().find(|back| back.user == leg.user);
            let sum = |back: &Back| back.amount.checked_add(part);
            match known.map(|back| (sum(back), back)) {
                Some((Some(sum), back)) => {
                    back.amount = sum;
                    back.drawn.push(drawn);
                }
                _ => backs.push(Back {
                    refund: first + backs.len() as u64,
                    user: leg.user.clone(),
                    amount: part,
                    drawn: [drawn].into_iter().collect(),
                }),
            }
        }
        backs
    }

    pub(super) fn decide_exchange(
        &self,
        now: Timestamp,
        (no, caller): (u64, &Caller),
        (give, take): (&Portion, &Portion),
        plan: &PricedPlan,
        request: &Request,
        out: &mut Decided<Event>,
    ) -> Result<Answer<Reply>, Rejection> {
        let (given_names, taken_names) = (("give", "give_areas"), ("take", "take_areas"));
        Flaw::refuse(flaw_of_part(give, given_names).into_iter().chain(flaw_of_part(take, taken_names)))?;
        if let Some(answer) = self.known(now, request)? {
            return Ok(answer);
        }
        let Some((reservation, payment_no)) = self.changeable(no, caller)? else {
            return Ok(Answer::Reply(Reply::Archived));
        };
        let terms = self.definition().ok_or(Rejection::NotFound)?;
        if !self.is_open(now) {
            return Err(Rejection::SaleNotOpen);
        }
        // What the plan does not have has no price either.
        self.all_known(&take.seats)?;
        if take.areas.iter().any(|place| usize::from(place.area) >= terms.areas.len()) {
            return Err(Rejection::NotFound);
        }
        let (given, rest) = split(reservation, give, plan, given_names)?;
        let taken = Lot::at_todays_prices(plan, take.seats.clone(), take.areas.clone());
        if given.places() != taken.places() {
            let message = format!("must be as many places as are given: {}", given.places());
            return Err(Rejection::Invalid(vec![Flaw::new("take", message)]));
        }
        self.within_limits(terms, reservation, &taken, caller)?;
        self.all_free(&taken.seats)?;
        self.have_room(terms, &taken.areas)?;
        let then = rest.with(&taken);
        let (amount, worth, cost) = (sum_of(&then)?, sum_of(&given)?, sum_of(&taken)?);
        let change = Change { given, taken, ..Change::new(What::Exchanged, (then, amount), (request, caller.doer())) };
        let payment = self.payments.get(&payment_no).ok_or(Rejection::ReservationNotConfirmed)?;
        if let Some(difference) = cost.checked_sub(worth).filter(|difference| *difference > Points::ZERO) {
            if payment.provider.is_some() || !terms.takes(POINTS) {
                return Err(Rejection::PriceWouldRise);
            }
            return Ok(self.ask_before(now, no, reservation, (change, difference), out));
        }
        let falls = worth.checked_sub(cost).unwrap_or(Points::ZERO);
        if falls > Points::ZERO && !self.may_refund(now, caller, reservation) {
            return Err(Rejection::NotRefundable);
        }
        if payment.provider.is_some() {
            let after = changed(reservation, &change);
            let turn = Turn::Changed { change: Box::new(change) };
            self.move_on(now, payment_no, payment, (None, Some(turn)), None, out);
            return Ok(Answer::Reply(Reply::Reservation(no, after)));
        }
        let first = self.header.last_no + 1;
        let backs = if falls > Points::ZERO { self.draw((payment_no, payment), falls, first) } else { Vec::new() };
        out.tell.extend(backs.iter().map(|back| self.credit(back.refund, &back.user, back.amount)));
        Ok(self.change(no, reservation, Change { backs, ..change }, out))
    }

    /// For who buys, an exchange has the limits of a hold. There are as many places after it as before.
    fn within_limits(
        &self,
        terms: &Definition,
        reservation: &Reservation,
        taken: &Lot,
        caller: &Caller,
    ) -> Result<(), Rejection> {
        let already = u64::from(self.places_of(&reservation.user));
        let limits = [
            (u64::from(taken.places()), u64::from(terms.max_seats_per_reservation)),
            (already, u64::from(terms.max_seats_per_user)),
        ];
        match limits.into_iter().find(|(wanted, limit)| !caller.runs_the_sale() && wanted > limit) {
            Some((_, limit)) => Err(Rejection::LimitExceeded { limit, already }),
            None => Ok(()),
        }
    }

    /// Pins what is to be taken, and asks the owner's wallet for the difference.
    fn ask_before(
        &self,
        now: Timestamp,
        no: u64,
        reservation: &Reservation,
        (change, difference): (Change, Points),
        out: &mut Decided<Event>,
    ) -> Answer<Reply> {
        let seconds = self.definition().map_or(0, |terms| terms.payment_seconds);
        let ticket = self.header.last_no + 1;
        let leg = Leg { no: ticket, user: reservation.user.clone(), taken: difference, back: Points::ZERO };
        let change = Change { leg: Some(leg.clone()), ..change };
        let exchange = Exchange { deadline: now.plus_millis(u64::from(seconds) * 1000), leg, change };
        out.tell.push(self.ask_for_difference(now, &exchange));
        out.events.push(Event::ExchangeStarted { reservation: no, exchange: Box::new(exchange) });
        Answer::Park { ticket, role: Role::Starter }
    }

    /// The debit of a difference, or that it is called off.
    pub(super) fn ask_for_difference(&self, now: Timestamp, exchange: &Exchange) -> Message {
        let leg = &exchange.leg;
        self.debit(leg.no, (&leg.user, leg.taken), now, exchange.deadline)
    }

    pub(super) fn decide_difference_answered(
        &self,
        leg: u64,
        outcome: DebitOutcome,
        out: &mut Decided<Event>,
    ) -> Answer<Reply> {
        let Some((no, reservation, exchange)) = self.exchange_of(leg) else { return Answer::Silent };
        let (reason, refused) = match outcome {
            DebitOutcome::Debited { .. } => {
                let after = changed(reservation, &exchange.change);
                out.events.push(Event::OrderChanged { reservation: no, change: Box::new(exchange.change.clone()) });
                return Answer::Settle {
                    ticket: leg,
                    starter: Ok(Reply::Reservation(no, after.clone())),
                    duplicate: Ok(Reply::Again(no, after)),
                    other: Err(Rejection::ChangeUnderWay),
                };
            }
            DebitOutcome::Refused { balance } => (
                FailureReason::InsufficientPoints { balance },
                Rejection::InsufficientPoints { balance, amount: exchange.leg.taken },
            ),
            DebitOutcome::Cancelled => (FailureReason::TimedOut, Rejection::PaymentTimedOut),
        };
        out.events.push(Event::ExchangeFailed { reservation: no, reason });
        let refused = Err(refused);
        Answer::Settle { ticket: leg, starter: refused.clone(), duplicate: refused.clone(), other: refused }
    }

    pub(super) fn decide_offer(
        &self,
        now: Timestamp,
        (no, caller): (u64, &Caller),
        (to, stands_for_ms): (&UserId, u64),
        request: &Request,
        out: &mut Decided<Event>,
    ) -> Result<Answer<Reply>, Rejection> {
        if let Some(answer) = self.known(now, request)? {
            let Answer::Reply(Reply::Replayed(transfer)) = answer else { return Ok(answer) };
            let until = request.key.as_ref().and_then(|key| self.keys.get(&key.scope)?.until);
            // It is remembered of each offer.
            let expires_at = until.unwrap_or(now);
            return Ok(Answer::Reply(Reply::Offered { transfer, expires_at, replayed: true }));
        }
        let Some((reservation, _)) = self.changeable(no, caller)? else {
            return Ok(Answer::Reply(Reply::Archived));
        };
        self.takes_place()?;
        not_to_oneself(reservation, to)?;
        let (transfer, expires_at) = (self.header.last_no + 1, now.plus_millis(stands_for_ms));
        let offer = Offer { no: transfer, to: to.clone(), expires_at };
        out.events.push(Event::TransferOffered { reservation: no, offer, key: request.key.clone(), by: caller.doer() });
        Ok(Answer::Reply(Reply::Offered { transfer, expires_at, replayed: false }))
    }

    /// A reservation that is offered, by an offer that still stands.
    fn offered(&self, now: Timestamp, (no, transfer): (u64, u64)) -> Result<(&Reservation, &Offer), Rejection> {
        let reservation = self.reservations.get(&no).ok_or(Rejection::NotFound)?;
        let is_paid = matches!(reservation.status, ReservationStatus::Confirmed { .. });
        let offer = reservation.offer().filter(|offer| is_paid && offer.no == transfer && now < offer.expires_at);
        Ok((reservation, offer.ok_or(Rejection::NotFound)?))
    }

    pub(super) fn decide_withdraw(
        &self,
        now: Timestamp,
        (no, transfer): (u64, u64),
        caller: &Caller,
        out: &mut Decided<Event>,
    ) -> Result<Answer<Reply>, Rejection> {
        let (reservation, _) = self.offered(now, (no, transfer))?;
        if !caller.may_reach(&reservation.user) {
            return Err(Rejection::NotFound);
        }
        out.events.push(Event::TransferWithdrawn { reservation: no, by: caller.doer() });
        Ok(Answer::Reply(Reply::Done))
    }

    pub(super) fn decide_accept(
        &self,
        now: Timestamp,
        (no, transfer): (u64, u64),
        user: &UserId,
        request: &Request,
        out: &mut Decided<Event>,
    ) -> Result<Answer<Reply>, Rejection> {
        if let Some(answer) = self.known(now, request)? {
            return Ok(answer);
        }
        let (reservation, offer) = self.offered(now, (no, transfer))?;
        if offer.to != *user {
            return Err(Rejection::NotFound);
        }
        self.hand_on((no, reservation), (user, Some(transfer)), (request, None), out)
    }

    pub(super) fn decide_hand_on(
        &self,
        now: Timestamp,
        (no, by): (u64, Option<&UserId>),
        to: &UserId,
        request: &Request,
        out: &mut Decided<Event>,
    ) -> Result<Answer<Reply>, Rejection> {
        if let Some(answer) = self.known(now, request)? {
            return Ok(answer);
        }
        let Some((reservation, _)) = self.changeable(no, &Caller::Admin)? else {
            return Ok(Answer::Reply(Reply::Archived));
        };
        not_to_oneself(reservation, to)?;
        self.hand_on((no, reservation), (to, None), (request, by.cloned()), out)
    }

    /// The receiver's limit holds. An offer does not stand while a change is under way: each change ends it.
    fn hand_on(
        &self,
        (no, reservation): (u64, &Reservation),
        (to, transfer): (&UserId, Option<u64>),
        by: (&Request, Option<UserId>),
        out: &mut Decided<Event>,
    ) -> Result<Answer<Reply>, Rejection> {
        self.takes_place()?;
        self.not_changing(reservation)?;
        may_change_again(reservation)?;
        let terms = self.definition().ok_or(Rejection::NotFound)?;
        let (already, limit) = (self.places_of(to), terms.max_seats_per_user);
        if already + reservation.places() > limit {
            return Err(Rejection::LimitExceeded { limit: limit.into(), already: already.into() });
        }
        let what = What::HandedOn { to: to.clone(), transfer };
        let change = Change::new(what, (reservation.lot(), reservation.amount), by);
        Ok(self.change(no, reservation, change, out))
    }

    pub(super) fn evolve_changed(
        &mut self,
        meta: Meta,
        no: u64,
        change: &Change,
        changes: &mut impl Changes<Part>,
    ) -> Option<()> {
        if change.what == What::Released && change.then.is_empty() {
            self.end_hold(no, StepKind::Released, meta, changes);
            self.remember(meta.at, change.key.as_ref(), meta.lsn.0, changes);
            return Some(());
        }
        let mut reservation = self.reservations.remove(&no)?;
        self.move_places(meta.lsn, no, &reservation, change, changes);
        if let Some(exchange) = reservation.exchange() {
            self.settle(exchange.leg.no, exchange.change.key.as_ref());
        }
        match &change.what {
            What::HeldUntil { expires_at } => {
                self.deadlines.remove(&(reservation.expires_at, no));
                self.deadlines.insert((*expires_at, no));
            }
            What::HandedOn { to, .. } => {
                // What they had before is in their list, whatever has become of it.
                if reservation.former().iter().all(|former| former.user != *to) {
                    changes.list_too(to, Part::Reservation(no));
                }
            }
            What::Released | What::Refunded { .. } | What::Exchanged => {}
        }
        if let ReservationStatus::Confirmed { payment } = reservation.status {
            self.pay_back(meta, payment, change, changes);
            if matches!(change.what, What::Refunded { all: true, .. }) {
                reservation.status = ReservationStatus::Refunded { payment };
                self.count_given_back(changes);
            }
        }
        reservation.become_changed(meta.lsn, change);
        reservation.note(step_of(change), meta);
        self.reservations.insert(no, reservation);
        self.end_or_not(no);
        changes.touch(Part::Reservation(no));
        // A refund that a wallet waits for is remembered once it is there, by its own number.
        match change.what {
            What::Refunded { .. } if !change.backs.is_empty() => {}
            What::Refunded { refund, .. } => self.remember(meta.at, change.key.as_ref(), refund, changes),
            _ => self.remember(meta.at, change.key.as_ref(), meta.lsn.0, changes),
        }
        Some(())
    }

    /// Moves seats and places as a change says, and the counts of whoever has them: what is taken first, then what is given.
    fn move_places(
        &mut self,
        lsn: Lsn,
        no: u64,
        reservation: &Reservation,
        change: &Change,
        changes: &mut impl Changes<Part>,
    ) {
        let (given, taken) = (&change.given, &change.taken);
        let has = if reservation.status.may_be_held() { SeatStatus::Held } else { SeatStatus::Sold };
        if !taken.is_empty() {
            let was = if reservation.exchange().is_some() { SeatStatus::Held } else { SeatStatus::Free };
            self.occupy_all(no, (&taken.seats, &taken.areas), (was, has), lsn, changes);
        }
        if !given.is_empty() {
            self.occupy_all(no, (&given.seats, &given.areas), (has, SeatStatus::Free), lsn, changes);
            let again = reservation.from_blocked().iter().copied().filter(|seat| given.seats.contains(seat));
            self.set_seats(again, SeatStatus::Blocked, 0, lsn, changes);
        }
        let user = &reservation.user;
        match &change.what {
            What::HandedOn { to, .. } => {
                self.count_out(user, reservation.places(), changes);
                self.count_places(to, reservation.places(), changes);
            }
            _ => match (taken.places(), given.places()) {
                (more, less) if more > less => self.count_places(user, more - less, changes),
                (more, less) if more < less => self.count_out(user, less - more, changes),
                _ => {}
            },
        }
    }

    /// Books what wallets have paid for a change, and what they are to get back.
    fn pay_back(&mut self, meta: Meta, no: u64, change: &Change, changes: &mut impl Changes<Part>) -> Option<()> {
        let payment = self.payments.get_mut(&no).filter(|payment| payment.provider.is_none())?;
        if change.backs.is_empty() && change.leg.is_none() {
            return None;
        }
        payment.legs = payment.all_legs(no);
        payment.legs.extend(change.leg.clone());
        for drawn in change.backs.iter().flat_map(|back| &back.drawn) {
            let leg = payment.legs.iter_mut().find(|leg| leg.no == drawn.leg)?;
            leg.back = leg.back.checked_add(drawn.amount)?;
        }
        payment.crediting += change.backs.len() as u32;
        if let What::Refunded { refund, all: true, .. } = change.what {
            payment.status = PaymentStatus::Refunded { refund };
        }
        changes.touch(Part::Payment(no));
        let is_asked_for = matches!(change.what, What::Refunded { .. });
        let mut key = change.key.clone().filter(|_| is_asked_for);
        for back in &change.backs {
            let made = Refund {
                payment: no,
                user: back.user.clone(),
                amount: back.amount,
                requested_at: meta.at,
                balance: Points::ZERO,
                refunded_at: meta.at,
                key: key.take(),
            };
            self.begun.extend(made.key.as_ref().map(|key| (key.scope, back.refund)));
            self.refunds.insert(back.refund, made);
            self.unsettled.insert(back.refund, Unsettled::Refund);
            self.header.last_no = back.refund;
            changes.create(|| Part::Refund(back.refund));
        }
        changes.touch(Part::Header);
        Some(())
    }

    pub(super) fn evolve_exchange_started(
        &mut self,
        meta: Meta,
        no: u64,
        exchange: &Exchange,
        changes: &mut impl Changes<Part>,
    ) -> Option<()> {
        let leg = exchange.leg.no;
        self.header.last_no = leg;
        changes.touch(Part::Header);
        let reservation = self.reservations.get_mut(&no)?;
        reservation.course_mut().exchange = Some(Box::new(exchange.clone()));
        reservation.note(StepKind::ExchangeStarted, meta);
        let taken = &exchange.change.taken;
        let pinned = (SeatStatus::Free, SeatStatus::Held);
        self.occupy_all(no, (&taken.seats, &taken.areas), pinned, meta.lsn, changes);
        self.unsettled.insert(leg, Unsettled::Difference { reservation: no });
        self.begun.extend(exchange.change.key.as_ref().map(|key| (key.scope, leg)));
        changes.touch(Part::Reservation(no));
        Some(())
    }

    pub(super) fn evolve_exchange_failed(
        &mut self,
        meta: Meta,
        no: u64,
        changes: &mut impl Changes<Part>,
    ) -> Option<()> {
        let reservation = self.reservations.get_mut(&no)?;
        let exchange = reservation.course_mut().exchange.take()?;
        reservation.note(StepKind::ExchangeFailed, meta);
        let taken = &exchange.change.taken;
        let free = (SeatStatus::Held, SeatStatus::Free);
        self.occupy_all(no, (&taken.seats, &taken.areas), free, meta.lsn, changes);
        self.settle(exchange.leg.no, exchange.change.key.as_ref());
        self.end_or_not(no);
        changes.touch(Part::Reservation(no));
        Some(())
    }

    /// An offer stands from then on, or none does.
    pub(super) fn evolve_offered(
        &mut self,
        no: u64,
        offer: Option<&Offer>,
        changes: &mut impl Changes<Part>,
    ) -> Option<()> {
        if let Some(offer) = offer {
            self.header.last_no = offer.no;
            changes.touch(Part::Header);
        }
        self.reservations.get_mut(&no)?.course_mut().offer = offer.cloned();
        changes.touch(Part::Reservation(no));
        Some(())
    }

    pub(super) fn evolve_complimentary(
        &mut self,
        meta: Meta,
        payment: u64,
        no: u64,
        changes: &mut impl Changes<Part>,
    ) -> Option<()> {
        self.header.last_no = payment;
        changes.touch(Part::Header);
        let reservation = self.reservations.get(&no)?;
        self.deadlines.remove(&(reservation.expires_at, no));
        let given = Payment {
            reservation: no,
            user: reservation.user.clone(),
            amount: reservation.amount,
            started_at: meta.at,
            deadline: meta.at,
            status: PaymentStatus::Completed,
            balance: Points::ZERO,
            paid_at: meta.at,
            key: None,
            provider: None,
            legs: Vec::new(),
            crediting: 0,
            complimentary: true,
        };
        changes.list(&given.user, Part::Payment(payment));
        self.payments.insert(payment, given);
        self.sell(no, payment, meta, changes)
    }
}

fn not_to_oneself(reservation: &Reservation, to: &UserId) -> Result<(), Rejection> {
    Flaw::refuse((reservation.user == *to).then(|| Flaw::new("to", "has it already")))
}

fn step_of(change: &Change) -> StepKind {
    match &change.what {
        What::Released => StepKind::PartReleased,
        What::Refunded { all: false, .. } => StepKind::PartRefunded,
        What::Refunded { all: true, .. } => StepKind::RefundStarted,
        What::Exchanged => StepKind::Exchanged,
        What::HandedOn { .. } => StepKind::HandedOn,
        What::HeldUntil { .. } => StepKind::HeldUntil,
    }
}
