//! What has happened to a seat, a wallet or a token, who did it, and why: read from the journal, where nothing is ever changed.
//!
//! It is read from where the thing began, each time anew, so that what later facts only name is known by then. A page holds what
//! comes after its cursor.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Engine, Inner, check_limit, page, parse_cursor};
use crate::api::{HistoryItem, Page, PageRequest};
use crate::domain::concert_option::{
    self, Change, Definition, Ending, FailureReason, Lot, Moved, PricedPlan, Turn, What,
};
use crate::domain::idempotency::Key;
use crate::domain::{
    Lsn, OptionId, PaymentId, RefundId, Rejection, ReservationId, Timestamp, TokenId, UserId, waiting_room, wallet,
};
use crate::error::Error;
use crate::store::codec::{Facts, Record, decode_batch};

impl Engine {
    /// What has happened to a seat, oldest first.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], also if the plan has no such seat; [`Error::Invalid`]: the limit or the cursor.
    pub async fn seat_history(
        &self,
        option: OptionId,
        seat: &str,
        request: &PageRequest,
    ) -> Result<Page<HistoryItem>, Error> {
        let inner = &self.0;
        inner.knows_all().await?;
        let plan = inner.offer(option).await?;
        let no = plan.plan.known_seat(seat).ok_or(Rejection::NotFound)?;
        let (reader, guid) = (inner.clone(), seat.to_owned());
        // Each of its plans is read for this.
        let turn = inner.reconciling.acquire().await.map_err(|_| inner.outcome_unknown())?;
        let in_plans = inner.on_blocking_thread(move || reader.in_plans(&plan, &guid)).await??;
        drop(turn);
        let begun = inner.look(|replica| Ok(replica.option(option)?.created_at())).await?;
        let story = OfSeat { in_plans, ..OfSeat::new(option, no) };
        inner.history(story, Some(begun), request).await
    }

    /// What has happened to a user's wallet, oldest first. Reads the whole journal.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the limit or the cursor.
    pub async fn wallet_history(&self, user: &UserId, request: &PageRequest) -> Result<Page<HistoryItem>, Error> {
        let (reservations, payments, refunds) = Default::default();
        let story = OfWallet { user: user.clone(), reservations, payments, refunds };
        self.0.history(story, None, request).await
    }

    /// What has happened to a place in a waiting room, oldest first.
    ///
    /// # Errors
    /// [`Rejection::NotFound`]; [`Error::Invalid`]: the limit or the cursor.
    pub async fn token_history(&self, id: TokenId, request: &PageRequest) -> Result<Page<HistoryItem>, Error> {
        let inner = &self.0;
        inner.knows_all().await?;
        inner.find_token(id).await?;
        let concert = inner.look(|replica| {
            let concert = replica.catalogue()?.concert(id.concert);
            Ok(concert.map(|concert| concert.created_at))
        });
        let begun = concert.await?.ok_or(Rejection::NotFound)?;
        let (options, held, payments) = Default::default();
        let story = OfToken { id, holder: None, options, held, payments, reservation: None };
        inner.history(story, Some(begun), request).await
    }
}

/// What one fact says of the thing.
struct Told {
    what: &'static str,
    who: Option<UserId>,
    why: Option<String>,
    reservation: Option<ReservationId>,
}

impl Told {
    fn new(what: &'static str, who: Option<UserId>) -> Self {
        Self { what, who, why: None, reservation: None }
    }
}

/// Hears all facts in order, and tells of those that are about one thing.
trait Story: Send + 'static {
    fn hear(&mut self, record: &Record, fact: usize) -> Option<Told>;
}

impl Inner {
    /// What a story tells that begins at a time, or with the journal.
    async fn history(
        self: &Arc<Self>,
        story: impl Story,
        begun: Option<Timestamp>,
        request: &PageRequest,
    ) -> Result<Page<HistoryItem>, Error> {
        check_limit(request.limit)?;
        let after = Lsn(parse_cursor(request.cursor.as_deref())?.unwrap_or(0));
        let until = self.knows_all().await?;
        let turn = self.reconciling.clone().acquire_owned().await.map_err(|_| self.outcome_unknown())?;
        let (inner, limit) = (self.clone(), request.limit);
        let read = move || {
            let _turn = turn;
            inner.read_history(story, begun, (after, until), limit + 1)
        };
        Ok(page(self.on_blocking_thread(read).await??, limit))
    }

    /// Reads the journal until there are so many items. Blocks.
    fn read_history(
        &self,
        mut story: impl Story,
        begun: Option<Timestamp>,
        (after, until): (Lsn, Lsn),
        most: usize,
    ) -> Result<Vec<(Lsn, HistoryItem)>, Error> {
        let unreadable = |error: crate::store::journal::Error| Error::Internal(error.to_string());
        let journal = &self.node.journal;
        let reader = begun.map_or_else(|| journal.read(Lsn(1)), |at| journal.read_since(at));
        let mut reader = reader.map_err(unreadable)?;
        let mut found = Vec::new();
        while let Some(frame) = reader.next(until).map_err(unreadable)? {
            if self.is_over() {
                return Err(self.outcome_unknown());
            }
            if begun.is_some_and(|begun| frame.at < begun) {
                continue;
            }
            let records = decode_batch(frame.first_lsn, frame.count, &frame.payload);
            for (first, record) in records.map_err(|error| Error::Internal(error.to_string()))? {
                for fact in 0..record.len() {
                    let lsn = Lsn(first.0 + fact as u64);
                    let Some(told) = story.hear(&record, fact).filter(|_| after < lsn && lsn <= until) else {
                        continue;
                    };
                    let Told { what, who, why, reservation: reservation_id } = told;
                    found.push((lsn, HistoryItem { at: record.at, lsn, what, who, why, reservation_id }));
                    if found.len() >= most {
                        return Ok(found);
                    }
                }
            }
        }
        Ok(found)
    }
}

impl Inner {
    /// Of each plan of an option, whether this seat is in it. Blocks.
    fn in_plans(&self, offer: &PricedPlan, guid: &str) -> Result<Vec<bool>, Error> {
        let former = offer.definition.former_plans();
        let is_in = |plan| Ok(self.seating_plan_after(std::slice::from_ref(plan))?.seat_index(guid).is_some());
        let former: Result<Vec<_>, Error> = former.iter().map(is_in).collect();
        Ok(former?.into_iter().chain([offer.plan.seat_index(guid).is_some()]).collect())
    }
}

/// Who did something that its owner may do, or somebody for them.
fn doer(by: Option<&UserId>, key: Option<&Key>, owner: Option<&UserId>) -> Option<UserId> {
    by.or(key.map(|key| &key.caller)).or(owner).cloned()
}

fn of_failure(reason: FailureReason) -> &'static str {
    match reason {
        FailureReason::InsufficientPoints { .. } => "insufficient_points",
        FailureReason::TimedOut => "timed_out",
    }
}

fn of_ending(why: Ending) -> &'static str {
    match why {
        Ending::GivenUp => "given_up",
        Ending::Lapsed => "lapsed",
        Ending::CaptureLapsed => "capture_lapsed",
        Ending::Failed => "failed",
        Ending::Voided => "voided",
        Ending::Refunded => "refunded",
        Ending::Undone => "undone",
        Ending::CalledOff => "cancelled",
    }
}

/// Of one seat: the reservations that have had it, with their owners, and what was paid for them.
struct OfSeat {
    option: OptionId,
    seat: u32,
    /// Of all reservations that are not released, since each may take the seat in exchange.
    owners: HashMap<u64, UserId>,
    /// Which reservations have the seat.
    have: HashSet<u64>,
    /// Whose exchanges under way are about the seat.
    exchanging: HashSet<u64>,
    /// Of which reservations: of all of them, too.
    payments: HashMap<u64, u64>,
    /// Of which reservations, for the seat.
    refunds: HashMap<u64, u64>,
    /// By whom its performance was.
    called_off: Option<UserId>,
    /// Of each plan of its option, whether the seat is in it.
    in_plans: Vec<bool>,
    /// How many of them have been heard of.
    plans: usize,
    /// Whether it is not for sale.
    is_off: bool,
}

impl OfSeat {
    fn new(option: OptionId, seat: u32) -> Self {
        let (owners, have, exchanging, payments, refunds, called_off) = Default::default();
        let (in_plans, plans, is_off) = Default::default();
        Self { option, seat, owners, have, exchanging, payments, refunds, called_off, in_plans, plans, is_off }
    }

    /// Another plan has come.
    fn replanned(&mut self, definition: &Definition, by: &UserId) -> Option<Told> {
        let is_in = |plan: usize| self.in_plans.get(plan).copied().unwrap_or(false);
        let (was_in, is_in) = (is_in(self.plans - 1), is_in(self.plans));
        self.plans += 1;
        let was_off = std::mem::replace(&mut self.is_off, definition.not_for_sale.contains(self.seat));
        let what = match (was_in, is_in) {
            (false, true) => "added",
            (true, false) => "withdrawn",
            (true, true) if was_off != self.is_off => {
                if self.is_off {
                    "blocked"
                } else {
                    "unblocked"
                }
            }
            _ => return None,
        };
        Some(Told::new(what, Some(by.clone())))
    }

    /// Something about a reservation, if that has the seat; `owner` says whether its owner did it.
    fn of(&self, no: u64, what: &'static str, who: impl FnOnce(&UserId) -> Option<UserId>) -> Option<Told> {
        self.have.contains(&no).then(|| self.told(no, what, who))?
    }

    fn told(&self, no: u64, what: &'static str, who: impl FnOnce(&UserId) -> Option<UserId>) -> Option<Told> {
        let owner = self.owners.get(&no)?;
        let reservation = Some(ReservationId { option: self.option, no });
        Some(Told { reservation, ..Told::new(what, who(owner)) })
    }

    fn of_payment(&self, no: u64, what: &'static str, who: impl FnOnce(&UserId) -> Option<UserId>) -> Option<Told> {
        self.of(*self.payments.get(&no)?, what, who)
    }

    /// The seats of a reservation are free.
    fn ended(&mut self, no: u64) {
        self.have.remove(&no);
        self.owners.remove(&no);
    }

    fn changed(&mut self, no: u64, change: &Change) -> Option<Told> {
        let gives = change.given.seats.contains(&self.seat)
            || (matches!(change.what, What::Refunded { all: true, .. }) && self.have.contains(&no));
        if change.taken.seats.contains(&self.seat) {
            self.have.insert(no);
        }
        self.exchanging.remove(&no);
        let what = match (&change.what, gives) {
            (What::Released, true) => "released",
            (What::Refunded { .. }, true) => "refund_started",
            (What::Exchanged, true) => "given_in_exchange",
            (What::Exchanged, false) if change.taken.seats.contains(&self.seat) => "taken_in_exchange",
            // It is about other seats.
            (What::Released | What::Refunded { .. } | What::Exchanged, false) => "",
            (What::HandedOn { .. }, _) => "handed_on",
            (What::HeldUntil { .. }, _) => "hold_changed",
        };
        // Who accepts an offer does so themselves.
        let accepted_by = match &change.what {
            What::HandedOn { to, transfer: Some(_) } => Some(to),
            _ => None,
        };
        let who = |owner: &UserId| doer(change.by.as_ref(), change.key.as_ref(), accepted_by.or(Some(owner)));
        let told = self.of(no, what, who).filter(|_| !what.is_empty());
        match &change.what {
            What::Refunded { refund, .. } if gives => {
                let all = change.backs.iter().map(|back| back.refund).chain([*refund]);
                self.refunds.extend(all.map(|refund| (refund, no)));
            }
            What::HandedOn { to, .. } => {
                self.owners.insert(no, to.clone());
            }
            _ => {}
        }
        if gives {
            self.have.remove(&no);
        }
        told
    }

    fn moved(&mut self, no: u64, moved: &Moved) -> Option<Told> {
        let own = |owner: &UserId| Some(owner.clone());
        let said = moved.fact.as_ref().and_then(|fact| fact.reason.clone());
        let told = match moved.turn.as_ref()? {
            Turn::Authorized { again: true, .. } => self.of_payment(no, "taken_again", |_| None)?,
            Turn::Authorized { .. } => self.of_payment(no, "payment_authorized", |_| None)?,
            Turn::Confirmed { again: true, .. } => self.of_payment(no, "taken_again", |_| None)?,
            Turn::Confirmed { .. } => self.of_payment(no, "payment_confirmed", |_| None)?,
            Turn::Ended { why, lapses } => {
                let what = match why {
                    _ if !lapses => "payment_failed",
                    Ending::CalledOff => "released",
                    _ => "expired",
                };
                let who = |owner: &UserId| match why {
                    Ending::GivenUp => own(owner),
                    Ending::CalledOff => self.called_off.clone(),
                    _ => None,
                };
                Told { why: Some(of_ending(*why).into()), ..self.of_payment(no, what, who)? }
            }
            Turn::Refunded { why, refund, by } => {
                // Whoever asked for it, if anybody did.
                let who = |owner: &UserId| doer(by.as_ref(), moved.key.as_ref(), refund.map(|_| owner));
                Told { why: Some(of_ending(*why).into()), ..self.of_payment(no, "refund_started", who)? }
            }
            Turn::Changed { change } => self.changed(*self.payments.get(&no)?, change)?,
        };
        Some(Told { why: said.or(told.why), ..told })
    }
}

impl Story for OfSeat {
    fn hear(&mut self, record: &Record, fact: usize) -> Option<Told> {
        use concert_option::Event;
        let Facts::Option(option, events) = &record.facts else { return None };
        match events.get(fact).filter(|_| *option == self.option)? {
            Event::OptionDefined { definition, .. } => {
                self.plans = 1;
                self.is_off = definition.not_for_sale.contains(self.seat);
                self.is_off.then(|| Told::new("blocked", None))
            }
            Event::OptionChanged { definition, by, .. } if definition.former_plans().len() >= self.plans => {
                self.replanned(definition, by)
            }
            Event::SeatsHeld { reservation, user, seats, by, .. } => {
                self.owners.insert(*reservation, user.clone());
                if seats.contains(&self.seat) {
                    self.have.insert(*reservation);
                }
                self.of(*reservation, "held", |owner| doer(by.as_ref(), None, Some(owner)))
            }
            Event::ReservationReleased { reservation, by } => {
                let told = self.of(*reservation, "released", |owner| doer(by.as_ref(), None, Some(owner)));
                self.ended(*reservation);
                told
            }
            Event::ReservationsExpired { reservations } => {
                // A payment that comes late may take it again.
                reservations.iter().find_map(|no| self.of(*no, "expired", |_| None))
            }
            // Once more adds nothing.
            Event::CalledOff { reason, by, .. } if self.called_off.is_none() => {
                self.called_off = Some(by.clone());
                Some(Told { why: reason.clone(), ..Told::new("cancelled", Some(by.clone())) })
            }
            Event::ComplimentaryGiven { payment, reservation } => {
                self.payments.insert(*payment, *reservation);
                self.of(*reservation, "given_away", |_| None)
            }
            Event::OrderChanged { reservation, change } => self.changed(*reservation, change),
            Event::ExchangeStarted { reservation, exchange } => {
                let change = &exchange.change;
                let is_about_it = |lot: &Lot| lot.seats.contains(&self.seat);
                if !is_about_it(&change.given) && !is_about_it(&change.taken) {
                    return None;
                }
                self.exchanging.insert(*reservation);
                let who = |owner: &UserId| doer(change.by.as_ref(), change.key.as_ref(), Some(owner));
                self.told(*reservation, "exchange_started", who)
            }
            Event::ExchangeFailed { reservation, reason } => {
                let is_about_it = self.exchanging.remove(reservation);
                let told = self.told(*reservation, "exchange_failed", |_| None).filter(|_| is_about_it)?;
                Some(Told { why: Some(of_failure(*reason).into()), ..told })
            }
            Event::TransferOffered { reservation, by, key, .. } => {
                self.of(*reservation, "offered", |owner| doer(by.as_ref(), key.as_ref(), Some(owner)))
            }
            Event::TransferWithdrawn { reservation, by } => {
                self.of(*reservation, "offer_withdrawn", |owner| doer(by.as_ref(), None, Some(owner)))
            }
            Event::PaymentStarted { payment, reservation, key, .. }
            | Event::ProviderPaymentStarted { payment, reservation, key, .. } => {
                self.payments.insert(*payment, *reservation);
                self.of(*reservation, "payment_started", |owner| doer(None, key.as_ref(), Some(owner)))
            }
            Event::PaymentConfirmed { payment, .. } => self.of_payment(*payment, "payment_confirmed", |_| None),
            Event::PaymentFailed { payment, reason } => {
                let told = self.of_payment(*payment, "payment_failed", |_| None)?;
                Some(Told { why: Some(of_failure(*reason).into()), ..told })
            }
            Event::PaymentRefunded { refund, payment, key, by, .. } => {
                let who = |owner: &UserId| doer(by.as_ref(), key.as_ref(), Some(owner));
                let told = self.of_payment(*payment, "refund_started", who)?;
                self.refunds.insert(*refund, *self.payments.get(payment)?);
                Some(told)
            }
            Event::RefundCredited { refund, .. } => self.told(*self.refunds.get(refund)?, "refund_credited", |_| None),
            Event::ProviderPaymentMoved { payment, moved } => self.moved(*payment, moved),
            Event::SeatsBlocked { seats, many, by, key, reason, .. }
                if seats.contains(&self.seat) || many.contains(self.seat) =>
            {
                Some(Told { why: reason.clone(), ..Told::new("blocked", doer(by.as_ref(), key.as_ref(), None)) })
            }
            Event::SeatsUnblocked { seats, many, by, key, reason, .. }
                if seats.contains(&self.seat) || many.contains(self.seat) =>
            {
                Some(Told { why: reason.clone(), ..Told::new("unblocked", doer(by.as_ref(), key.as_ref(), None)) })
            }
            _ => None,
        }
    }
}

/// Of one wallet: what its user has held, and what was paid for that.
struct OfWallet {
    user: UserId,
    reservations: HashSet<ReservationId>,
    /// Of which reservations, and who had them begun.
    payments: HashMap<PaymentId, (ReservationId, UserId)>,
    /// With who asked for them.
    refunds: HashMap<RefundId, (ReservationId, UserId)>,
}

impl OfWallet {
    fn learn(&mut self, option: OptionId, event: &concert_option::Event) {
        use concert_option::Event;
        match event {
            Event::SeatsHeld { reservation: no, user, .. } if *user == self.user => {
                self.reservations.insert(ReservationId { option, no: *no });
            }
            Event::PaymentStarted { payment: no, reservation, .. }
            | Event::ComplimentaryGiven { payment: no, reservation } => {
                let reservation = ReservationId { option, no: *reservation };
                if self.reservations.contains(&reservation) {
                    self.payments.insert(PaymentId { option, no: *no }, (reservation, self.user.clone()));
                }
            }
            Event::ExchangeStarted { reservation, exchange } if exchange.leg.user == self.user => {
                let reservation = ReservationId { option, no: *reservation };
                let change = &exchange.change;
                let who = doer(change.by.as_ref(), change.key.as_ref(), None).unwrap_or_else(|| self.user.clone());
                self.payments.insert(PaymentId { option, no: exchange.leg.no }, (reservation, who));
            }
            Event::OrderChanged { reservation, change } => {
                let reservation = ReservationId { option, no: *reservation };
                let who = doer(change.by.as_ref(), change.key.as_ref(), Some(&self.user));
                let own = change.backs.iter().filter(|back| back.user == self.user);
                self.refunds.extend(
                    own.filter_map(|back| Some((RefundId { option, no: back.refund }, (reservation, who.clone()?)))),
                );
                if matches!(&change.what, What::HandedOn { to, .. } if *to == self.user) {
                    self.reservations.insert(reservation);
                }
            }
            Event::PaymentRefunded { refund: no, payment, key, by, .. } => {
                if let Some((reservation, _)) = self.payments.get(&PaymentId { option, no: *payment }) {
                    let who = by.as_ref().or(key.as_ref().map(|key| &key.caller)).unwrap_or(&self.user);
                    self.refunds.insert(RefundId { option, no: *no }, (*reservation, who.clone()));
                }
            }
            _ => {}
        }
    }

    fn of_payment(&self, what: &'static str, payment: &PaymentId) -> Told {
        let (reservation, who) = self.payments.get(payment).cloned().unzip();
        Told { reservation, ..Told::new(what, who) }
    }
}

impl Story for OfWallet {
    fn hear(&mut self, record: &Record, fact: usize) -> Option<Told> {
        use wallet::Event;
        let (user, events) = match &record.facts {
            Facts::Wallet(user, events) => (user, events),
            Facts::Option(option, events) => {
                self.learn(*option, events.get(fact)?);
                return None;
            }
            Facts::Catalogue(..) | Facts::Room(..) | Facts::Sink(..) => return None,
        };
        Some(match events.get(fact).filter(|_| *user == self.user)? {
            Event::Charged { by, .. } => Told::new("charge", Some(by.clone())),
            Event::Adjusted { by, reason, .. } => {
                Told { why: Some(reason.clone()), ..Told::new("adjustment", Some(by.clone())) }
            }
            Event::Debited { payment, .. } => self.of_payment("debit", payment),
            Event::DebitRefused { payment, .. } => {
                Told { why: Some("insufficient_points".into()), ..self.of_payment("debit_refused", payment) }
            }
            Event::DebitCancelled { payment, .. } => {
                Told { who: None, why: Some("timed_out".into()), ..self.of_payment("debit_cancelled", payment) }
            }
            Event::Credited { refund, .. } => {
                let (reservation, who) = self.refunds.get(refund).cloned().unzip();
                Told { reservation, ..Told::new("credit", who) }
            }
        })
    }
}

/// Of one place in a waiting room.
struct OfToken {
    id: TokenId,
    holder: Option<UserId>,
    /// Of its concert.
    options: HashSet<OptionId>,
    /// What was held with it, and by which payments that was to be paid.
    held: HashSet<ReservationId>,
    payments: HashMap<PaymentId, ReservationId>,
    /// What was paid.
    reservation: Option<ReservationId>,
}

impl Story for OfToken {
    fn hear(&mut self, record: &Record, fact: usize) -> Option<Told> {
        use waiting_room::Event;
        let this = self.id.no;
        let (concert, events) = match &record.facts {
            Facts::Room(concert, events) => (concert, events),
            Facts::Option(option, events) => {
                self.learn(*option, events.get(fact)?);
                return None;
            }
            Facts::Catalogue(..) | Facts::Wallet(..) | Facts::Sink(..) => return None,
        };
        match events.get(fact).filter(|_| *concert == self.id.concert)? {
            Event::TokenIssued { no, user, active_until } if *no == this => {
                self.holder = Some(user.clone());
                let what = if active_until.is_some() { "activated" } else { "issued" };
                Some(Told::new(what, Some(user.clone())))
            }
            Event::Configured { returned: Some(tokens), by, .. } if tokens.contains(&this) => {
                Some(Told::new("returned", by.clone()))
            }
            Event::TokensAdmitted { tokens, .. } if tokens.contains(&this) => Some(Told::new("activated", None)),
            Event::TokensExpired { tokens } if tokens.contains(&this) => Some(Told::new("expired", None)),
            Event::TokenLeft { no, by } if *no == this => {
                Some(Told::new("left", doer(by.as_ref(), None, self.holder.as_ref())))
            }
            Event::TokenUsed { no } if *no == this => {
                Some(Told { reservation: self.reservation, ..Told::new("used", self.holder.clone()) })
            }
            _ => None,
        }
    }
}

impl OfToken {
    fn paid(&mut self, option: OptionId, no: u64) {
        if let Some(reservation) = self.payments.get(&PaymentId { option, no }) {
            self.reservation = Some(*reservation);
        }
    }

    fn learn(&mut self, option: OptionId, event: &concert_option::Event) {
        use concert_option::Event;
        match event {
            Event::OptionDefined { definition, .. } if definition.concert == self.id.concert => {
                self.options.insert(option);
            }
            Event::SeatsHeld { reservation: no, token: Some(token), .. }
                if *token == self.id.no && self.options.contains(&option) =>
            {
                self.held.insert(ReservationId { option, no: *no });
            }
            Event::PaymentStarted { payment, reservation, .. }
            | Event::ProviderPaymentStarted { payment, reservation, .. } => {
                let reservation = ReservationId { option, no: *reservation };
                if self.held.contains(&reservation) {
                    self.payments.insert(PaymentId { option, no: *payment }, reservation);
                }
            }
            Event::PaymentConfirmed { payment, .. } => self.paid(option, *payment),
            Event::ProviderPaymentMoved { payment, moved } if matches!(moved.turn, Some(Turn::Confirmed { .. })) => {
                self.paid(option, *payment);
            }
            _ => {}
        }
    }
}
