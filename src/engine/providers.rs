//! Payments by providers: beginning one, giving it up, what providers report, and what is owed.

use std::sync::Arc;

use super::calls::{Attempted, BeginPayment, GetOwed, GiveUp, ListProvided, Report};
use super::{Engine, Inner, check_limit};
use crate::api::{Answered, Caller, IdempotencyKey, Page, PageRequest, Payment, PaymentFilter};
use crate::domain::concert_option::{
    self, Cold, Command, ConcertOption, Installation, Method, ProviderStatus as Status, Reply,
};
use crate::domain::facts::Fact;
use crate::domain::{OptionId, PaymentId, Rejection, ReservationId, UserId, catalogue};
use crate::error::Error;
use crate::payment::{self, OwedSum};
use crate::store::codec::TheCatalogue;

/// How often the row of a payment is read that has left memory, while others leave it.
const COLD_READS_MAX: usize = 10;

impl Engine {
    /// Begins a payment by a provider of the configuration. Its seats are pinned until the provider's deadline, and the buyer
    /// may pay; what comes of it is [reported](Self::report).
    ///
    /// # Errors
    /// [`Error::Invalid`]: it is no method of this option, or switched off. Of the rejections `NotFound`, `PaymentPending`,
    /// `AlreadyPaid`, `AmountTooSmall`, `ReservationExpired`, `ReservationNotHeld`, `LimitExceeded` (this user has as many payments on
    /// this option that took no money as may be) and those of the idempotency key.
    pub async fn begin_payment(
        &self,
        user: &UserId,
        id: ReservationId,
        method: &str,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Payment>, Error> {
        let method = method.to_owned();
        match self.0.away() {
            None => decided!(self.0, self.0.begin_payment(user, id, &method, key)),
            Some(_) => self.0.ask_owner(BeginPayment { user: user.clone(), id, method, key }).await,
        }
    }

    /// Gives a pending payment up: its reservation is held again until its old deadline. One that has come to nothing already
    /// (given up, lapsed, failed or called off) stays as it is.
    ///
    /// # Errors
    /// [`Rejection::NotFound`]; [`Rejection::PaymentUnderWay`]: it is authorised, or took money.
    pub async fn give_up_payment(&self, caller: &Caller, id: PaymentId) -> Result<Payment, Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.give_up_payment(caller, id)),
            Some(_) => self.0.ask_owner(GiveUp { caller: caller.clone(), id }).await,
        }
    }

    /// Says what a provider did with a payment; the payment as it stands then. Facts may be reported in any order, as often as
    /// one likes, and from everywhere at once.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Rejection::NotFound`], [`Rejection::FactConflict`], [`Rejection::ReferenceInUse`],
    /// [`Rejection::LimitExceeded`] (too many facts of one payment).
    pub async fn report(&self, id: PaymentId, fact: Fact) -> Result<Payment, Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.report(id, fact)),
            Some(_) => self.0.ask_owner(Report { id, fact }).await,
        }
    }

    /// Says that what is owed of a payment was tried as attempt `attempt`, and is certain not to have been done: the next one
    /// is another attempt.
    ///
    /// # Errors
    /// None of its own: what is not owed any more need not be tried.
    pub async fn attempted(&self, id: PaymentId, owed: u32, attempt: u32) -> Result<(), Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.attempted(id, owed, attempt)),
            Some(_) => self.0.ask_owner(Attempted { id, owed, attempt }).await,
        }
    }

    /// Payments by providers of which something is owed, disputed or missing; of those that owe, the one that has for longest
    /// comes first. They are looked for where something is open, and not on every option.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the limit or the cursor.
    pub async fn provided_payments(
        &self,
        filter: PaymentFilter,
        request: &PageRequest,
    ) -> Result<Page<Payment>, Error> {
        match self.0.away() {
            None => known!(self.0, self.0.provided_payments(filter, request)),
            Some(_) => self.0.ask_owner(ListProvided { filter, request: request.clone() }).await,
        }
    }

    /// How much is owed of each kind of which anything is. On a node that does not decide: nothing.
    ///
    /// # Errors
    /// A fault of the engine's.
    pub async fn owed_sums(&self) -> Result<Vec<OwedSum>, Error> {
        match self.0.away() {
            None => self.0.owed_sums().await,
            Some(_) => Ok(Vec::new()),
        }
    }

    /// What is owed of a payment at this moment, for whoever is about to do it.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub async fn owed(&self, id: PaymentId) -> Result<Vec<payment::Owed>, Error> {
        match self.0.away() {
            None => known!(self.0, self.0.owed(id)),
            Some(_) => self.0.ask_owner(GetOwed { id }).await,
        }
    }
}

/// What this node decides or knows itself: see the methods of [`Engine`] of the same names.
impl Inner {
    pub(in crate::engine) async fn begin_payment(
        self: &Arc<Self>,
        user: &UserId,
        id: ReservationId,
        method: &str,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Payment>, Error> {
        let _call = self.admit()?;
        let option = id.option;
        let known = self.config.payments.providers.iter().find(|one| one.name == method);
        let Some(known) = known else { return Err(Error::invalid("method", "is not a method of payment here")) };
        if !known.enabled {
            return Err(Error::invalid("method", "is switched off"));
        }
        let method = Box::new(Method {
            name: known.name.clone(),
            installation: self.installation().await?,
            pay_within_ms: known.pay_within_ms,
            capture_within_ms: known.capture_within_ms,
            late_within_ms: known.late_within_ms,
            late: known.late,
            minimum: known.minimum,
            currencies: known.currencies.clone(),
            open_max: self.config.limits.user_open_payments,
        });
        let request = self.request(key, None);
        let command = Command::BeginPaymentBy { reservation: id.no, user: user.clone(), method, request };
        match self.ask::<ConcertOption>(&option, command).await? {
            Reply::Payment(no, payment) => {
                Ok(Answered { value: Payment::new(PaymentId { option, no }, *payment), replayed: false })
            }
            Reply::Replayed(no) => {
                self.certain().await?;
                let payment = Box::pin(self.find_payment(PaymentId { option, no })).await?;
                Ok(Answered { value: Payment::as_begun(PaymentId { option, no }, payment), replayed: true })
            }
            Reply::Archived => {
                let reservation = Box::pin(self.find_reservation(id)).await?;
                Err(reservation.why_not_payable(user).into())
            }
            _ => Err(Error::Internal("the option answered something else".into())),
        }
    }

    /// Whose payments these are for providers; drawn when the first one begins.
    async fn installation(self: &Arc<Self>) -> Result<Installation, Error> {
        if let Some(known) = self.installation.get() {
            return Ok(*known);
        }
        let drawn = getrandom::u64().map_err(|error| Error::Internal(error.to_string()))?;
        let command = catalogue::Command::DrawInstallation { drawn: Installation(drawn) };
        match self.ask::<catalogue::Catalogue>(&TheCatalogue, command).await? {
            catalogue::Reply::Installation(installation) => Ok(*self.installation.get_or_init(|| installation)),
            _ => Err(Error::Internal("the catalogue answered something else".into())),
        }
    }

    pub(in crate::engine) async fn give_up_payment(
        self: &Arc<Self>,
        caller: &Caller,
        id: PaymentId,
    ) -> Result<Payment, Error> {
        let _call = self.admit()?;
        let command = Command::GiveUp { payment: id.no, caller: caller.clone() };
        match self.ask::<ConcertOption>(&id.option, command).await? {
            Reply::Payment(_, payment) => Ok(Payment::new(id, *payment)),
            Reply::Archived => {
                let found = self.find_payment(id).await?;
                if !caller.may_reach(&found.user) {
                    return Err(Rejection::NotFound.into());
                }
                let status = found.provider.as_ref().map(|by| by.standing(found.amount, found.paid_at).status);
                if status.is_some_and(Status::is_given_up) {
                    Ok(Payment::new(id, found))
                } else {
                    Err(Rejection::PaymentUnderWay.into())
                }
            }
            _ => Err(Error::Internal("the option answered something else".into())),
        }
    }

    pub(in crate::engine) async fn report(self: &Arc<Self>, id: PaymentId, fact: Fact) -> Result<Payment, Error> {
        let _call = self.admit()?;
        let (fact, mut cold) = (Box::new(fact), None);
        for _ in 0..COLD_READS_MAX {
            let command = Command::Report { payment: id.no, fact: fact.clone(), cold };
            match self.ask::<ConcertOption>(&id.option, command).await? {
                Reply::Payment(_, payment) => {
                    let reference = Some(&*fact.reference);
                    return Ok(Payment::told_of(id, *payment, reference));
                }
                Reply::Archived => cold = Some(Box::new(self.read_cold(id).await?)),
                _ => return Err(Error::Internal("the option answered something else".into())),
            }
        }
        Err(self.overloaded())
    }

    /// The rows of a payment that has left memory, and up to where they are certain to be what there was.
    async fn read_cold(self: &Arc<Self>, id: PaymentId) -> Result<Cold, Error> {
        self.up_to_date().await?;
        let read_at = self.node.replica.applied();
        let payment = self.find_payment(id).await?;
        if payment.provider.is_none() {
            return Err(Rejection::NotFound.into());
        }
        let reservation = self.find_reservation(ReservationId { option: id.option, no: payment.reservation }).await?;
        Ok(Cold { read_at, payment, reservation })
    }

    pub(in crate::engine) async fn attempted(
        self: &Arc<Self>,
        id: PaymentId,
        owed: u32,
        attempt: u32,
    ) -> Result<(), Error> {
        let _call = self.admit()?;
        let command = Command::Attempted { payment: id.no, owed, attempt };
        self.ask::<ConcertOption>(&id.option, command).await.map(drop)
    }

    pub(in crate::engine) async fn owed(self: &Arc<Self>, id: PaymentId) -> Result<Vec<payment::Owed>, Error> {
        let found = self.find_payment(id).await?;
        Ok(found.provider.ok_or(Rejection::NotFound)?.owed)
    }

    /// All options on which something may be owed, disputed or missing: those that are looked after.
    pub(super) async fn options_to_look_at(self: &Arc<Self>) -> Result<Vec<OptionId>, Error> {
        self.up_to_date().await?;
        let alarming = self.glance(|replica| replica.alarmed())?;
        let read = self.on_blocking_thread(move || alarming.read()).await?;
        Ok(read.map_err(|error| self.fail(&error))?.options)
    }

    async fn owed_sums(self: &Arc<Self>) -> Result<Vec<OwedSum>, Error> {
        let mut sums: Vec<OwedSum> = Vec::new();
        for option in self.options_to_look_at().await? {
            let owed = self.read(|replica| {
                let payments = replica.option(option)?.owing_payments();
                let owed = payments.filter_map(|(_, payment)| payment.provider.as_deref()).flat_map(|by| &by.owed);
                Ok(owed.map(|owed| (owed.kind, owed.since)).collect::<Vec<_>>())
            });
            for (kind, since) in owed.await? {
                match sums.iter_mut().find(|sum| sum.kind == kind) {
                    Some(sum) => (sum.count, sum.since) = (sum.count + 1, sum.since.min(since)),
                    None => sums.push(OwedSum { kind, count: 1, since }),
                }
            }
        }
        Ok(sums)
    }

    pub(in crate::engine) async fn provided_payments(
        self: &Arc<Self>,
        filter: PaymentFilter,
        request: &PageRequest,
    ) -> Result<Page<Payment>, Error> {
        check_limit(request.limit)?;
        let after = request.cursor.as_deref().map(parse_place).transpose()?;
        let mut places = Vec::new();
        for option in self.options_to_look_at().await? {
            let some = self.read(|replica| {
                let wanted =
                    replica.option(option)?.provider_payments().filter(|(_, payment, by)| filter.takes(payment, by));
                let places = wanted.map(|(no, payment, by)| (filter.place(payment, by).as_millis(), option.0, no));
                Ok(places.filter(|place| after.is_none_or(|after| *place > after)).collect::<Vec<_>>())
            });
            places.extend(some.await?);
            // Of however many there are, a page is kept, and whether there is another one.
            if places.len() > request.limit {
                places.select_nth_unstable(request.limit);
                places.truncate(request.limit + 1);
            }
        }
        places.sort_unstable();
        let more = places.len() > request.limit;
        places.truncate(request.limit);
        let next_cursor = places.last().filter(|_| more).map(|(since, option, no)| format!("{since}.{option}.{no}"));
        let payments = self.read(|replica| {
            let payment =
                |(_, option, no): &(u64, u64, u64)| Ok(replica.option(OptionId(*option))?.payment(*no).cloned());
            places.iter().map(payment).collect::<Result<Vec<_>, _>>()
        });
        // What has changed since the places were found is not wanted any more, or stands elsewhere.
        let item = |((since, option, no), payment): (&(u64, u64, u64), Option<concert_option::Payment>)| {
            let payment = payment?;
            let by = payment.provider.as_deref()?;
            let is_there = filter.takes(&payment, by) && filter.place(&payment, by).as_millis() == *since;
            is_there.then(|| Payment::listed(PaymentId { option: OptionId(*option), no: *no }, payment.clone()))
        };
        Ok(Page { items: places.iter().zip(payments.await?).filter_map(item).collect(), next_cursor })
    }
}

/// Where a page begins: since when, on which option, which payment.
fn parse_place(cursor: &str) -> Result<(u64, u64, u64), Error> {
    let wrong = || Error::invalid("cursor", "is not a cursor of this list");
    let mut parts = cursor.split('.').map(|part| part.parse::<u64>().map_err(|_| wrong()));
    let mut next = || parts.next().ok_or_else(wrong)?;
    let place = (next()?, next()?, next()?);
    if parts.next().is_some() { Err(wrong()) } else { Ok(place) }
}
