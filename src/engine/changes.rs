//! Orders that change: parts given up or given back, exchanges, transfers, and what a box office may do.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::calls::{
    AcceptTransfer, Exchange, GetTransfer, GiveBackPart, HandOn, HoldFor, HoldUntil, OfferTransfer, ReleasePart,
    WithdrawTransfer,
};
use super::options::{name_conflicts, resolve_seats};
use super::reservations::{resolve, resolve_areas};
use super::selling::Tried;
use super::{Engine, Inner};
use crate::api::{Answered, Caller, IdempotencyKey, Office, Portion, Refund, Reservation, Transfer, Wish};
use crate::domain::concert_option::{
    self, Command, ConcertOption, Note, PricedPlan, Reply, ReservationStatus, StepKind,
};
use crate::domain::{Lsn, OptionId, PaymentId, Rejection, ReservationId, Timestamp, TransferId, UserId};
use crate::error::Error;

impl Engine {
    /// Gives a part of a held reservation up, or all of it.
    ///
    /// # Errors
    /// [`Error::UnknownSeats`], [`Error::Invalid`]; of the rejections `NotFound`, `ReservationNotHeld`, `LimitExceeded` (it has
    /// changed too often) and those of the idempotency key.
    pub async fn release_part(
        &self,
        caller: &Caller,
        id: ReservationId,
        part: Portion,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Reservation>, Error> {
        if self.0.away().is_none() {
            return decided!(self.0, self.0.release_part(caller, id, part, key));
        }
        let released = self.0.ask_owner(ReleasePart { caller: caller.clone(), id, part, key }).await?;
        Ok(Answered { value: Box::pin(self.0.done(released.value)).await?, replayed: released.replayed })
    }

    /// Gives a part of a payment back: its seats are free again, and what they cost goes back to who paid it.
    ///
    /// # Errors
    /// [`Error::UnknownSeats`], [`Error::Invalid`]; of the rejections `NotFound`, `NotRefundable`, `ChangeUnderWay`,
    /// `LimitExceeded` and those of the idempotency key.
    pub async fn refund_part(
        &self,
        caller: &Caller,
        id: PaymentId,
        part: Portion,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Refund>, Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.refund_part(caller, id, part, key)),
            Some(_) => self.0.ask_owner(GiveBackPart { caller: caller.clone(), id, part, key }).await,
        }
    }

    /// Gives seats and places of a confirmed reservation for as many others, all or nothing. A difference is paid from its owner's
    /// wallet, or goes back to who paid.
    ///
    /// # Errors
    /// [`Error::UnknownSeats`], [`Error::SeatsUnavailable`], [`Error::Invalid`]; of the rejections `NotFound`,
    /// `ReservationNotConfirmed`, `ChangeUnderWay`, `SaleNotOpen`, `NotEnoughSeats`, `LimitExceeded`, `InsufficientPoints`,
    /// `PaymentTimedOut`, `NotRefundable` (it would fall in price), `PriceWouldRise`, those of the waiting room and of the idempotency key.
    pub async fn exchange(
        &self,
        caller: &Caller,
        id: ReservationId,
        (give, take): (Portion, Portion),
        queue_token: Option<&str>,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Reservation>, Error> {
        if self.0.away().is_none() {
            return decided!(self.0, self.0.exchange(caller, id, (give, take), queue_token, key));
        }
        let queue_token = queue_token.map(ToOwned::to_owned);
        let call = Exchange { caller: caller.clone(), id, give, take, queue_token, key };
        let exchanged = self.0.ask_owner(call).await?;
        Ok(Answered { value: Box::pin(self.0.done(exchanged.value)).await?, replayed: exchanged.replayed })
    }

    /// Offers a confirmed reservation to somebody else, who may accept for a while (`limits.offer_seconds`). An earlier offer ends.
    ///
    /// # Errors
    /// [`Error::Invalid`]; of the rejections `NotFound`, `ReservationNotConfirmed`, `ChangeUnderWay`, `LimitExceeded` and those of
    /// the idempotency key.
    pub async fn offer_transfer(
        &self,
        caller: &Caller,
        id: ReservationId,
        to: &UserId,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Transfer>, Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.offer_transfer(caller, id, to, key)),
            Some(_) => self.0.ask_owner(OfferTransfer { caller: caller.clone(), id, to: to.clone(), key }).await,
        }
    }

    /// Takes an offer back.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], also if it has ended, or is somebody else's.
    pub async fn withdraw_transfer(&self, caller: &Caller, id: TransferId) -> Result<(), Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.withdraw_transfer(caller, id)),
            Some(_) => self.0.ask_owner(WithdrawTransfer { caller: caller.clone(), id }).await,
        }
    }

    /// Accepts an offer: the reservation is this user's from then on. Money that is given back goes to who paid it.
    ///
    /// # Errors
    /// Of the rejections `NotFound` (also if it was made to somebody else, or has ended), `LimitExceeded` and those of the
    /// idempotency key.
    pub async fn accept_transfer(
        &self,
        user: &UserId,
        id: TransferId,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Reservation>, Error> {
        if self.0.away().is_none() {
            return decided!(self.0, self.0.accept_transfer(user, id, key));
        }
        let accepted = self.0.ask_owner(AcceptTransfer { user: user.clone(), id, key }).await?;
        Ok(Answered { value: Box::pin(self.0.done(accepted.value)).await?, replayed: accepted.replayed })
    }

    /// An offer that was made to this user, and stands.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub async fn transfer(&self, user: &UserId, id: TransferId) -> Result<Transfer, Error> {
        match self.0.away() {
            None => known!(self.0, self.0.transfer(user, id)),
            Some(_) => self.0.ask_owner(GetTransfer { user: user.clone(), id }).await,
        }
    }

    /// Gives a confirmed reservation to somebody else at once; for whoever runs the sale.
    ///
    /// # Errors
    /// [`Error::Invalid`]; of the rejections `NotFound`, `ReservationNotConfirmed`, `ChangeUnderWay`, `LimitExceeded` and those of
    /// the idempotency key.
    pub async fn hand_on(
        &self,
        id: ReservationId,
        to: &UserId,
        by: Option<&UserId>,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Reservation>, Error> {
        if self.0.away().is_none() {
            return decided!(self.0, self.0.hand_on(id, to, by, key));
        }
        let handed_on = self.0.ask_owner(HandOn { id, to: to.clone(), by: by.cloned(), key }).await?;
        Ok(Answered { value: Box::pin(self.0.done(handed_on.value)).await?, replayed: handed_on.replayed })
    }

    /// Holds seats for somebody, as a box office may: without a queue token, and whatever else they hold.
    ///
    /// # Errors
    /// Those of [`hold`](Self::hold), but for those of the waiting room.
    pub async fn hold_for(
        &self,
        option: OptionId,
        user: &UserId,
        (wish, office, note): (Wish, Office, Note),
        by: Option<&UserId>,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Reservation>, Error> {
        let note = (!note.is_empty()).then(|| Box::new(note));
        if self.0.away().is_none() {
            return decided!(self.0, self.0.hold_for(option, user, (wish, office, note), by, key));
        }
        let (user, by) = (user.clone(), by.cloned());
        let held = self.0.ask_owner(HoldFor { option, user, wish, office, note, by, key }).await?;
        Ok(Answered { value: Box::pin(self.0.done(held.value)).await?, replayed: held.replayed })
    }

    /// Holds a reservation until another time; for whoever runs the sale.
    ///
    /// # Errors
    /// [`Error::Invalid`]; of the rejections `NotFound`, `ReservationNotHeld`, `LimitExceeded`.
    pub async fn hold_until(
        &self,
        id: ReservationId,
        expires_at: Timestamp,
        by: Option<&UserId>,
    ) -> Result<Reservation, Error> {
        if self.0.away().is_none() {
            return decided!(self.0, self.0.hold_until(id, expires_at, by));
        }
        let held = self.0.ask_owner(HoldUntil { id, expires_at, by: by.cloned() }).await?;
        self.0.done(held).await
    }
}

/// What this node decides or knows itself: see the methods of [`Engine`] of the same names.
impl Inner {
    pub(in crate::engine) async fn release_part(
        self: &Arc<Self>,
        caller: &Caller,
        id: ReservationId,
        part: Portion,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Reservation>, Error> {
        let _call = self.admit()?;
        let mut tried = Tried::default();
        let reply = loop {
            let plan = self.offer(id.option).await?;
            let part = portion(&plan, &part, "areas")?;
            let (caller, request) = (caller.clone(), self.request(key.clone(), None));
            let command = Command::ReleasePart { reservation: id.no, caller, part, plan: plan.clone(), request };
            let reply = self.ask::<ConcertOption>(&id.option, command).await?;
            if !self.is_outdated(&reply, &plan, &mut tried)? {
                break reply;
            }
        };
        self.changed(caller, id, (reply, Rejection::ReservationNotHeld)).await
    }

    pub(in crate::engine) async fn refund_part(
        self: &Arc<Self>,
        caller: &Caller,
        id: PaymentId,
        part: Portion,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Refund>, Error> {
        let _call = self.admit()?;
        let mut tried = Tried::default();
        let reply = loop {
            let plan = self.offer(id.option).await?;
            let part = portion(&plan, &part, "areas")?;
            let (caller, request) = (caller.clone(), self.request(key.clone(), None));
            let command = Command::RefundPart { payment: id.no, caller, part, plan: plan.clone(), request };
            let reply = self.ask_and_park::<ConcertOption>(&id.option, command).await?;
            if !self.is_outdated(&reply, &plan, &mut tried)? {
                break reply;
            }
        };
        self.refunded(caller, id, reply).await
    }

    pub(in crate::engine) async fn exchange(
        self: &Arc<Self>,
        caller: &Caller,
        id: ReservationId,
        (give, take): (Portion, Portion),
        queue_token: Option<&str>,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Reservation>, Error> {
        let _call = self.admit()?;
        let mut tried = Tried::default();
        let reply = loop {
            let plan = self.offer(id.option).await?;
            let (give, take) = (portion(&plan, &give, "give_areas")?, portion(&plan, &take, "take_areas")?);
            let refused = match caller {
                Caller::User(user) => self.let_in(plan.definition.concert, user, queue_token).await?.err(),
                Caller::Admin | Caller::Staff(_) => None,
            };
            let (caller, request) = (caller.clone(), self.request(key.clone(), refused));
            let command = Command::Exchange { reservation: id.no, caller, give, take, plan: plan.clone(), request };
            let reply = self.ask_and_park::<ConcertOption>(&id.option, command).await;
            let reply = reply.map_err(|error| name_conflicts(&plan, error))?;
            if !self.is_outdated(&reply, &plan, &mut tried)? {
                break reply;
            }
        };
        self.changed(caller, id, (reply, Rejection::ReservationNotConfirmed)).await
    }

    pub(in crate::engine) async fn offer_transfer(
        self: &Arc<Self>,
        caller: &Caller,
        id: ReservationId,
        to: &UserId,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Transfer>, Error> {
        let _call = self.admit()?;
        let (to, request) = (to.clone(), self.request(key, None));
        let stands_for_ms = self.config.limits.offer_seconds * 1_000;
        let command = Command::OfferTransfer { reservation: id.no, caller: caller.clone(), to, stands_for_ms, request };
        match self.ask::<ConcertOption>(&id.option, command).await? {
            Reply::Offered { transfer, expires_at, replayed } => {
                let id = TransferId { option: id.option, reservation: id.no, no: transfer };
                Ok(Answered { value: Transfer { id, expires_at }, replayed })
            }
            Reply::Archived => {
                Box::pin(self.reservation(caller, id)).await?;
                Err(Rejection::ReservationNotConfirmed.into())
            }
            _ => Err(Error::Internal("the option answered something else".into())),
        }
    }

    pub(in crate::engine) async fn withdraw_transfer(
        self: &Arc<Self>,
        caller: &Caller,
        id: TransferId,
    ) -> Result<(), Error> {
        let _call = self.admit()?;
        let command =
            Command::WithdrawTransfer { reservation: id.reservation, transfer: id.no, caller: caller.clone() };
        self.ask::<ConcertOption>(&id.option, command).await.map(drop)
    }

    pub(in crate::engine) async fn accept_transfer(
        self: &Arc<Self>,
        user: &UserId,
        id: TransferId,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Reservation>, Error> {
        let _call = self.admit()?;
        // Or an actor would be woken for every number that somebody thinks of.
        self.offer(id.option).await?;
        let (reservation, request) = (ReservationId { option: id.option, no: id.reservation }, self.request(key, None));
        let command =
            Command::AcceptTransfer { reservation: reservation.no, transfer: id.no, user: user.clone(), request };
        let reply = self.ask::<ConcertOption>(&id.option, command).await?;
        self.changed(&Caller::User(user.clone()), reservation, (reply, Rejection::NotFound)).await
    }

    pub(in crate::engine) async fn transfer(
        self: &Arc<Self>,
        user: &UserId,
        id: TransferId,
    ) -> Result<Transfer, Error> {
        let found = self.find_reservation(ReservationId { option: id.option, no: id.reservation }).await?;
        let now = self.now();
        let offer = found.offer().filter(|offer| offer.no == id.no && offer.to == *user && now < offer.expires_at);
        let offer = offer.ok_or(Rejection::NotFound)?;
        Ok(Transfer { id, expires_at: offer.expires_at })
    }

    pub(in crate::engine) async fn hand_on(
        self: &Arc<Self>,
        id: ReservationId,
        to: &UserId,
        by: Option<&UserId>,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Reservation>, Error> {
        let _call = self.admit()?;
        self.offer(id.option).await?;
        let request = self.request(key, None);
        let command = Command::HandOn { reservation: id.no, to: to.clone(), by: by.cloned(), request };
        let reply = self.ask::<ConcertOption>(&id.option, command).await?;
        self.changed(&Caller::Admin, id, (reply, Rejection::ReservationNotConfirmed)).await
    }

    pub(in crate::engine) async fn hold_for(
        self: &Arc<Self>,
        option: OptionId,
        user: &UserId,
        (wish, office, note): (Wish, Office, Option<Box<Note>>),
        by: Option<&UserId>,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Reservation>, Error> {
        let _call = self.admit()?;
        if self.gauges.log_full.load(Ordering::Relaxed) {
            return Err(Error::LogFull);
        }
        let Office { complimentary, beyond_limits, from_blocked } = office;
        let office = concert_option::Office { complimentary, beyond_limits, from_blocked };
        let mut tried = Tried::default();
        let (reply, plan) = loop {
            let plan = self.offer(option).await?;
            let (wish, request) = (resolve(&plan, &wish)?, self.request(key.clone(), None));
            let (user, note, by) = (user.clone(), note.clone(), by.cloned());
            let command = Command::HoldFor { user, wish, office, note, by, plan: plan.clone(), request };
            let reply = self.ask_holding(&option, command, None).await;
            let reply = reply.map_err(|error| name_conflicts(&plan, error))?;
            if !self.is_outdated(&reply, &plan, &mut tried)? {
                break (reply, plan);
            }
        };
        match reply {
            Reply::Reservation(no, held) => Ok(Answered { value: Reservation::new(no, *held, plan), replayed: false }),
            Reply::Replayed(no) => {
                self.certain().await?;
                let held = Box::pin(self.find_reservation(ReservationId { option, no })).await?;
                // What is given away has the number behind its own as its payment.
                let given = ReservationStatus::Confirmed { payment: no + 1 };
                let status = if complimentary { given } else { ReservationStatus::Held };
                let held = concert_option::Reservation { status, ..held.as_held() };
                // It may be of another plan than this call.
                let plan = self.offer(option).await?;
                Ok(Answered { value: Reservation::new(no, held, plan), replayed: true })
            }
            _ => Err(Error::Internal("the option answered something else".into())),
        }
    }

    pub(in crate::engine) async fn hold_until(
        self: &Arc<Self>,
        id: ReservationId,
        expires_at: Timestamp,
        by: Option<&UserId>,
    ) -> Result<Reservation, Error> {
        let _call = self.admit()?;
        self.offer(id.option).await?;
        let command = Command::HoldUntil { reservation: id.no, expires_at, by: by.cloned() };
        let reply = self.ask::<ConcertOption>(&id.option, command).await?;
        let held = self.changed(&Caller::Admin, id, (reply, Rejection::ReservationNotHeld)).await?;
        // It may have been until then before.
        self.certain().await.map_err(Self::after_the_first)?;
        Ok(held.value)
    }

    /// The answer to who changes a reservation, or what to say if it has come to its end.
    async fn changed(
        self: &Arc<Self>,
        caller: &Caller,
        id: ReservationId,
        (reply, ended): (Reply, Rejection),
    ) -> Result<Answered<Reservation>, Error> {
        let (no, changed, replayed) = match reply {
            Reply::Reservation(no, changed) => (no, *changed, false),
            Reply::Again(no, changed) => (no, *changed, true),
            Reply::Replayed(lsn) => {
                self.certain().await?;
                let found = Box::pin(self.find_reservation(id)).await?;
                (id.no, as_answered(found, Lsn(lsn)), true)
            }
            Reply::Archived => {
                // Whatever it came to in the end.
                Box::pin(self.reservation(caller, id)).await?;
                return Err(ended.into());
            }
            _ => return Err(Error::Internal("the option answered something else".into())),
        };
        // After all that it tells of is durable: its seats may be of a plan that has come since it was asked.
        let plan = self.offer(id.option).await.map_err(Self::after_the_first)?;
        Ok(Answered { value: Reservation::new(no, changed, plan), replayed })
    }
}

/// A reservation as it was told by the change `lsn`.
fn as_answered(found: concert_option::Reservation, lsn: Lsn) -> concert_option::Reservation {
    let is_released = found.steps.iter().any(|step| step.lsn == lsn && step.step == StepKind::Released);
    let is_of_hold = found.former().iter().any(|former| former.until == lsn && former.held);
    let status = match found.status {
        _ if is_released => ReservationStatus::Released,
        _ if is_of_hold => ReservationStatus::Held,
        ReservationStatus::Refunded { payment } => ReservationStatus::Confirmed { payment },
        status => status,
    };
    concert_option::Reservation { status, ..found.as_of(lsn) }
}

/// Finds a part of an order in the plan, by its names.
fn portion(plan: &PricedPlan, part: &Portion, areas: &str) -> Result<concert_option::Portion, Error> {
    let seats = resolve_seats(&plan.plan, &part.seats)?;
    Ok(concert_option::Portion { seats, areas: resolve_areas(plan, areas, &part.areas)? })
}
