//! Payments and refunds.

use std::sync::Arc;

use super::calls::{GetPayment, GiveBack, ListPayments, Pay};
use super::{Engine, Inner, check_limit, page, parse_cursor};
use crate::api::{Answered, Caller, IdempotencyKey, Page, PageRequest, Payment, Refund, RefundStatus};
use crate::domain::concert_option::{self, Command, ConcertOption, Part, PaymentStatus, Reply};
use crate::domain::{Lsn, OptionId, PaymentId, RefundId, Rejection, ReservationId, UserId};
use crate::error::Error;

impl Engine {
    /// Pays a held reservation from its owner's wallet. However often and from wherever it is called, the wallet is
    /// debited once.
    ///
    /// # Errors
    /// Of the rejections `NotFound` (also if it is somebody else's), `InsufficientPoints`, `AlreadyPaid`,
    /// `ReservationExpired`, `ReservationNotHeld`, `PaymentTimedOut` (nothing was taken; it may be tried again while the hold
    /// lasts) and those of the idempotency key.
    pub async fn pay(
        &self,
        user: &UserId,
        id: ReservationId,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Payment>, Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.pay(user, id, key)),
            Some(_) => self.0.ask_owner(Pay { user: user.clone(), id, key }).await,
        }
    }

    /// A payment.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], also if it is somebody else's.
    pub async fn payment(&self, caller: &Caller, id: PaymentId) -> Result<Payment, Error> {
        match self.0.away() {
            None => known!(self.0, self.0.payment(caller, id)),
            Some(_) => self.0.ask_owner(GetPayment { caller: caller.clone(), id }).await,
        }
    }

    /// A user's payments, newest first; those that failed are among them.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the limit or the cursor.
    pub async fn payments(&self, user: &UserId, request: &PageRequest) -> Result<Page<Payment>, Error> {
        match self.0.away() {
            None => known!(self.0, self.0.payments(user, request)),
            Some(_) => self.0.ask_owner(ListPayments { user: user.clone(), request: request.clone() }).await,
        }
    }

    /// Gives a payment back: its seats are free again, and its points are back in the wallet. Owners may do so until the
    /// option's `refundable_until`, an admin always.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], [`Rejection::NotRefundable`], and those of the idempotency key.
    pub async fn refund(
        &self,
        caller: &Caller,
        id: PaymentId,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Refund>, Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.refund(caller, id, key)),
            Some(_) => self.0.ask_owner(GiveBack { caller: caller.clone(), id, key }).await,
        }
    }
}

/// What this node decides or knows itself: see the methods of [`Engine`] of the same names.
impl Inner {
    pub(in crate::engine) async fn pay(
        self: &Arc<Self>,
        user: &UserId,
        id: ReservationId,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Payment>, Error> {
        let inner = self;
        let _call = inner.admit()?;
        let option = id.option;
        let command =
            Command::BeginPayment { reservation: id.no, user: user.clone(), request: inner.request(key, None) };
        match inner.ask_and_park::<ConcertOption>(&option, command).await? {
            Reply::Paid(no, payment) => {
                Ok(Answered { value: Payment::new(PaymentId { option, no }, *payment), replayed: false })
            }
            Reply::Replayed(no) => {
                inner.certain().await?;
                let payment = Box::pin(inner.find_payment(PaymentId { option, no })).await?;
                // Whatever was given back or exchanged since.
                let (status, legs) = (PaymentStatus::Completed, Vec::new());
                let payment = concert_option::Payment { status, legs, ..payment };
                Ok(Answered { value: Payment::new(PaymentId { option, no }, payment), replayed: true })
            }
            Reply::Archived => {
                let reservation = Box::pin(inner.find_reservation(id)).await?;
                Err(reservation.why_not_payable(user).into())
            }
            _ => Err(Error::Internal("the option answered something else".into())),
        }
    }

    pub(in crate::engine) async fn payment(self: &Arc<Self>, caller: &Caller, id: PaymentId) -> Result<Payment, Error> {
        let found = self.find_payment(id).await?;
        if !caller.may_reach(&found.user) {
            return Err(Rejection::NotFound.into());
        }
        Ok(Payment::new(id, found))
    }

    pub(in crate::engine) async fn payments(
        self: &Arc<Self>,
        user: &UserId,
        request: &PageRequest,
    ) -> Result<Page<Payment>, Error> {
        check_limit(request.limit)?;
        let before = parse_cursor(request.cursor.as_deref())?.map(Lsn);
        let (user, limit) = (user.clone(), request.limit);
        let list =
            move |inner: &Inner| inner.list(&user, Part::Payment, before, limit + 1, concert_option::Payment::from_row);
        let found = self
            .read_rows(list)
            .await?
            .into_iter()
            .map(|(one, payment)| (one.lsn.0, Payment::new(PaymentId { option: one.option, no: one.no }, payment)));
        Ok(page(found.collect(), limit))
    }

    pub(in crate::engine) async fn refund(
        self: &Arc<Self>,
        caller: &Caller,
        id: PaymentId,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Refund>, Error> {
        let inner = self;
        let _call = inner.admit()?;
        let option = id.option;
        let request = inner.request(key, None);
        let command = Command::Refund { payment: id.no, caller: caller.clone(), request };
        let reply = inner.ask_and_park::<ConcertOption>(&option, command).await?;
        inner.refunded(caller, id, reply).await
    }

    /// The answer to who gives a payment back, or a part of it.
    pub(super) async fn refunded(
        self: &Arc<Self>,
        caller: &Caller,
        id: PaymentId,
        reply: Reply,
    ) -> Result<Answered<Refund>, Error> {
        let (inner, option) = (self, id.option);
        match reply {
            Reply::RefundOwed(no, refund) => Ok(Answered { value: view_owed(option, no, &refund), replayed: false }),
            Reply::Refunded(no, refund) => Ok(Answered { value: view_refund(option, no, &refund), replayed: false }),
            Reply::Replayed(no) => {
                inner.certain().await?;
                let refund = Box::pin(inner.find_refund(RefundId { option, no })).await?;
                let payment = Box::pin(inner.find_payment(PaymentId { option, no: refund.payment })).await?;
                if payment.provider.is_some() {
                    return Ok(Answered { value: view_owed(option, no, &refund), replayed: true });
                }
                Ok(Answered { value: view_refund(option, no, &refund), replayed: true })
            }
            Reply::Archived => {
                // Refunded before, or never paid.
                Box::pin(self.payment(caller, id)).await?;
                Err(Rejection::NotRefundable.into())
            }
            _ => Err(Error::Internal("the option answered something else".into())),
        }
    }

    pub(super) async fn find_payment(self: &Arc<Self>, id: PaymentId) -> Result<concert_option::Payment, Error> {
        let row = self.find::<ConcertOption>(&id.option, &Part::Payment(id.no)).await?.ok_or(Rejection::NotFound)?;
        concert_option::Payment::from_row(id.no, &row).map_err(|source| self.corrupt(&id.option, source))
    }

    async fn find_refund(self: &Arc<Self>, id: RefundId) -> Result<concert_option::Refund, Error> {
        let row = self.find::<ConcertOption>(&id.option, &Part::Refund(id.no)).await?.ok_or(Rejection::NotFound)?;
        concert_option::Refund::from_row(id.no, &row).map_err(|source| self.corrupt(&id.option, source))
    }
}

fn view_refund(option: OptionId, no: u64, refund: &concert_option::Refund) -> Refund {
    Refund {
        id: RefundId { option, no },
        payment_id: PaymentId { option, no: refund.payment },
        amount: refund.amount,
        balance: Some(refund.balance),
        refunded_at: Some(refund.refunded_at),
        status: None,
    }
}

/// One that a provider is to do.
fn view_owed(option: OptionId, no: u64, refund: &concert_option::Refund) -> Refund {
    Refund {
        id: RefundId { option, no },
        payment_id: PaymentId { option, no: refund.payment },
        amount: refund.amount,
        balance: None,
        refunded_at: None,
        status: Some(RefundStatus::Owed),
    }
}
