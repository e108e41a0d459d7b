//! Reservations and payments of all on an option, for those who run its sale: a page of them, or all, a little at a time.
//!
//! What has come to its end has left memory, and what has not is in no archive; reservations, payments and refunds share their
//! numbers. So both are looked through by number, the newest first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::options::version;
use super::{Engine, Inner, check_limit, page, parse_cursor};
use crate::api::{Page, PageRequest, Payment, Reservation, ReservationFilter, ReservationStatus};
use crate::domain::concert_option::{self, ConcertOption, Part, PricedPlan};
use crate::domain::{Aggregate as _, OptionId, PaymentId, ReservationId, UserId};
use crate::error::Error;

/// So many numbers are looked at together.
const LOOKED_AT_ONCE: u64 = 256;
/// So many of what is found are given out together: as lines, a place each, they are some 200 KiB at the most.
const GIVEN_AT_ONCE: usize = 16;
/// So many are looked at for one page at the most: with a filter most of them may not count.
const LOOKED_AT_MAX: u64 = 100_000;

impl Engine {
    /// The reservations on an option that `filter` takes, newest first. A page may have fewer items than asked for, or none, and
    /// others after it: 100,000 reservations, payments and refunds are looked at for one.
    ///
    /// # Errors
    /// [`NotFound`](crate::Rejection::NotFound); [`Error::UnknownSeats`]; [`Error::Invalid`]: the limit or the cursor.
    pub async fn option_reservations(
        &self,
        option: OptionId,
        filter: &ReservationFilter,
        request: &PageRequest,
    ) -> Result<Page<Reservation>, Error> {
        check_limit(request.limit)?;
        let before = parse_cursor(request.cursor.as_deref())?;
        let mut walk = self.walk_reservations(option, filter).await?;
        walk.numbers.go_below(before);
        let (mut found, end) = (Vec::new(), walk.numbers.below.saturating_sub(LOOKED_AT_MAX));
        while found.len() <= request.limit && walk.numbers.below > end {
            let Some(some) = walk.next().await? else { break };
            found.extend(some.into_iter().map(|one| (one.id.no, one)));
        }
        Ok(walk.numbers.page(found, request.limit))
    }

    /// All reservations on an option that `filter` takes, newest first, a little at a time. What changes meanwhile may be told of
    /// as it was or as it is; what is new since then is not among them.
    ///
    /// # Errors
    /// [`NotFound`](crate::Rejection::NotFound); [`Error::UnknownSeats`].
    pub async fn walk_reservations(
        &self,
        option: OptionId,
        filter: &ReservationFilter,
    ) -> Result<ReservationWalk, Error> {
        let numbers = Numbers::of(&self.0, option).await?;
        // Also one that is withdrawn: it had its reservations.
        let known =
            |seat: &String| numbers.plan.plan.known_seat(seat).ok_or_else(|| Error::UnknownSeats(vec![seat.clone()]));
        let seat = filter.seat.as_ref().map(known).transpose()?;
        Ok(ReservationWalk { numbers, filter: filter.clone(), seat })
    }

    /// The payments on an option, of everybody or of one user, newest first, as [`option_reservations`](Self::option_reservations).
    ///
    /// # Errors
    /// [`NotFound`](crate::Rejection::NotFound); [`Error::Invalid`]: the limit or the cursor.
    pub async fn option_payments(
        &self,
        option: OptionId,
        user: Option<&UserId>,
        request: &PageRequest,
    ) -> Result<Page<Payment>, Error> {
        check_limit(request.limit)?;
        let before = parse_cursor(request.cursor.as_deref())?;
        let mut walk = self.walk_payments(option, user).await?;
        walk.numbers.go_below(before);
        let (mut found, end) = (Vec::new(), walk.numbers.below.saturating_sub(LOOKED_AT_MAX));
        while found.len() <= request.limit && walk.numbers.below > end {
            let Some(some) = walk.next().await? else { break };
            found.extend(some.into_iter().map(|one| (one.id.no, one)));
        }
        Ok(walk.numbers.page(found, request.limit))
    }

    /// All payments on an option, of everybody or of one user, as [`walk_reservations`](Self::walk_reservations).
    ///
    /// # Errors
    /// [`NotFound`](crate::Rejection::NotFound).
    pub async fn walk_payments(&self, option: OptionId, user: Option<&UserId>) -> Result<PaymentWalk, Error> {
        Ok(PaymentWalk { numbers: Numbers::of(&self.0, option).await?, user: user.cloned() })
    }
}

/// Reservations on an option, newest first.
pub struct ReservationWalk {
    numbers: Numbers,
    filter: ReservationFilter,
    /// Of the filter, by its number.
    seat: Option<u32>,
}

impl ReservationWalk {
    /// Some more of them, or none and others after it; `None` at the end.
    ///
    /// # Errors
    /// The engine is closed.
    pub async fn next(&mut self) -> Result<Option<Vec<Reservation>>, Error> {
        let Some(rows) = self.numbers.next(Part::Reservation).await? else { return Ok(None) };
        let mut some = Vec::new();
        for (no, row) in rows {
            let reservation = concert_option::Reservation::from_row(no, &row);
            let reservation = reservation.map_err(|source| self.numbers.inner.corrupt(&self.numbers.option, source))?;
            if self.takes(&reservation) {
                some.push(Reservation::new(no, reservation, self.numbers.plan.clone()));
            }
        }
        Ok(Some(some))
    }

    fn takes(&self, one: &concert_option::Reservation) -> bool {
        let ReservationFilter { status, seat: _, user, reference } = &self.filter;
        let called = one.note.as_ref().and_then(|note| note.reference.as_ref());
        status.is_none_or(|status| ReservationStatus::from(one.status) == status)
            && self.seat.is_none_or(|seat| one.seats.contains(&seat))
            && user.as_ref().is_none_or(|user| one.user == *user)
            && (reference.is_none() || reference.as_ref() == called)
    }
}

/// Payments on an option, newest first.
pub struct PaymentWalk {
    numbers: Numbers,
    user: Option<UserId>,
}

impl PaymentWalk {
    /// Some more of them, or none and others after it; `None` at the end.
    ///
    /// # Errors
    /// The engine is closed.
    pub async fn next(&mut self) -> Result<Option<Vec<Payment>>, Error> {
        let Some(rows) = self.numbers.next(Part::Payment).await? else { return Ok(None) };
        let mut some = Vec::new();
        for (no, row) in rows {
            let payment = concert_option::Payment::from_row(no, &row);
            let payment = payment.map_err(|source| self.numbers.inner.corrupt(&self.numbers.option, source))?;
            if self.user.as_ref().is_none_or(|user| payment.user == *user) {
                some.push(Payment::new(PaymentId { option: self.numbers.option, no }, payment));
            }
        }
        Ok(Some(some))
    }

    /// What a payment of them pays.
    ///
    /// # Errors
    /// The engine is closed.
    pub async fn reservation(&self, payment: &Payment) -> Result<Reservation, Error> {
        let id: ReservationId = payment.reservation_id;
        let inner = &self.numbers.inner;
        let found = Box::pin(inner.find_reservation(id)).await?;
        // It may have seats of a plan that has come since.
        Ok(Reservation::new(id.no, found, inner.offer(id.option).await?))
    }
}

/// The numbers of an option, from the last one down.
struct Numbers {
    inner: Arc<Inner>,
    option: OptionId,
    plan: Arc<PricedPlan>,
    /// Those below this one are yet to be given out.
    below: u64,
    /// What was found, of the numbers down to `looked_at`, and is yet to be given out.
    found: VecDeque<(u64, Vec<u8>)>,
    looked_at: u64,
}

impl Numbers {
    async fn of(inner: &Arc<Inner>, option: OptionId) -> Result<Self, Error> {
        inner.knows_all().await?;
        let plan = inner.offer(option).await?;
        let last = inner.look(|replica| Ok(replica.option(option)?.last_no())).await?;
        let below = last.saturating_add(1);
        Ok(Self { inner: inner.clone(), option, plan, below, found: VecDeque::new(), looked_at: below })
    }

    fn go_below(&mut self, cursor: Option<u64>) {
        self.below = self.below.min(cursor.unwrap_or(u64::MAX));
    }

    /// The rows of the next ones, of one kind, newest first; `None` at the end.
    async fn next(&mut self, part: fn(u64) -> Part) -> Result<Option<Vec<(u64, Vec<u8>)>>, Error> {
        if self.found.is_empty() {
            let high = self.below.saturating_sub(1);
            if high == 0 {
                return Ok(None);
            }
            let low = high.saturating_sub(LOOKED_AT_ONCE - 1).max(1);
            self.found = self.inner.rows_down(self.option, part, (low, high)).await?.into();
            self.looked_at = low;
            // What was found may be of terms that have come since.
            let option = self.option;
            let version = self.inner.look(|replica| Ok(version(replica.option(option)?))).await?;
            self.plan = self.inner.offer_since(option, version).await?;
        }
        let some: Vec<_> = self.found.drain(..self.found.len().min(GIVEN_AT_ONCE)).collect();
        let last = some.last().map(|(no, _)| *no).filter(|_| !self.found.is_empty());
        self.below = last.unwrap_or(self.looked_at);
        Ok(Some(some))
    }

    /// What was found, and where the next page begins.
    fn page<T>(&self, found: Vec<(u64, T)>, limit: usize) -> Page<T> {
        let mut page = page(found, limit);
        if page.next_cursor.is_none() && self.below > 1 {
            page.next_cursor = Some(self.below.to_string());
        }
        page
    }
}

impl Inner {
    /// The rows of parts of one kind with these numbers, newest first.
    async fn rows_down(
        self: &Arc<Self>,
        option: OptionId,
        part: fn(u64) -> Part,
        (low, high): (u64, u64),
    ) -> Result<Vec<(u64, Vec<u8>)>, Error> {
        // One look: what has left memory by then is in the archive as it is seen by then.
        let looked = self.look(|replica| {
            let known = replica.option(option)?;
            let live: Vec<_> = (low..=high).filter_map(|no| Some((no, known.row(&part(no))?))).collect();
            // At most `LOOKED_AT_ONCE`.
            let most = (high - low + 1) as usize;
            Ok((live, replica.archived_down::<ConcertOption>(&option, &part(low), &part(high), most)))
        });
        let (live, archive) = looked.await?;
        let archived = self.on_blocking_thread(move || archive.read::<ConcertOption>(&option)).await?;
        let archived = archived.map_err(|error| self.fail(&error))?;
        let number = |part: &Part| match part {
            Part::Reservation(no) | Part::Payment(no) => Some(*no),
            _ => None,
        };
        let mut rows: BTreeMap<u64, Vec<u8>> =
            archived.into_iter().filter_map(|(part, row)| Some((number(&part)?, row))).collect();
        // What is back in memory is as it stands there.
        rows.extend(live);
        Ok(rows.into_iter().rev().collect())
    }
}
