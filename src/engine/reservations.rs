//! Reservations: holding seats, looking at them, and giving them up.
//!
//! What seldom comes is a future of its own on the heap, here and in all that a hold calls: every call would be moved with
//! room for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use smallvec::SmallVec;

use super::AnswerFrom;
use super::calls::{GetReservation, Hold, ListReservations, Release};
use super::options::{name_conflicts, resolve_seats};
use super::selling::Tried;
use super::{Engine, Inner, check_limit, page, parse_cursor};
use crate::api::{Answered, Caller, IdempotencyKey, Page, PageRequest, Reservation, ReservationStatus, Wish};
use crate::domain::concert_option::{
    self, AreaPlaces, Command, ConcertOption, Note, Part, PricedPlan, Reply, Wish as Places,
};
use crate::domain::seat_map::BestAvailable;
use crate::domain::{Lsn, OptionId, Rejection, ReservationId, UserId};
use crate::error::Error;
use crate::limits::HoldSlot;

/// How many reservations are looked at for one page, at the most: with a filter most of them may not count.
const LOOKED_AT_MAX: usize = 10_000;
/// With a filter, so many of them are looked up together.
const LOOKED_UP_AT_ONCE: usize = 64;

impl Engine {
    /// Holds seats or places for a user, all or nothing, until they are paid, given up, or the hold runs out.
    ///
    /// While the concert's waiting room is on, `queue_token` must be the signed form of an active token of this user.
    ///
    /// # Errors
    /// [`Error::UnknownSeats`], [`Error::SeatsUnavailable`], [`Error::Invalid`]; of the rejections `NotFound`,
    /// `NotEnoughSeats`, `LimitExceeded`, `SaleNotOpen`, `QueueTokenRequired`, `QueueTokenNotActive` and those of the
    /// idempotency key.
    pub async fn hold(
        &self,
        option: OptionId,
        user: &UserId,
        wish: Wish,
        queue_token: Option<&str>,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Reservation>, Error> {
        self.hold_with_note(option, user, wish, Note::default(), queue_token, key).await
    }

    /// As [`hold`](Self::hold), with something beside it that comes back with the reservation, everywhere.
    ///
    /// # Errors
    /// As [`hold`](Self::hold); [`Error::Invalid`]: the note is too long, or its data no JSON object.
    pub async fn hold_with_note(
        &self,
        option: OptionId,
        user: &UserId,
        wish: Wish,
        note: Note,
        queue_token: Option<&str>,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Reservation>, Error> {
        let note = (!note.is_empty()).then(|| Box::new(note));
        if self.0.away().is_none() {
            return decided!(self.0, self.0.hold(option, user, wish, note, queue_token, key));
        }
        let queue_token = queue_token.map(ToOwned::to_owned);
        let held = self.0.ask_owner(Hold { option, user: user.clone(), wish, queue_token, key, note }).await?;
        Ok(Answered { value: Box::pin(self.0.done(held.value)).await?, replayed: held.replayed })
    }

    /// A reservation.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], also if it is somebody else's.
    pub async fn reservation(&self, caller: &Caller, id: ReservationId) -> Result<Reservation, Error> {
        if self.0.away().is_none() {
            return known!(self.0, self.0.reservation(caller, id));
        }
        let found = self.0.ask_owner(GetReservation { caller: caller.clone(), id }).await?;
        self.0.whole(found).await
    }

    /// A user's reservations, newest first; only those of one status if it is given. With a status a page may have fewer
    /// items than asked for, or none, and others after it: 10,000 are looked at for one.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the limit or the cursor.
    pub async fn reservations(
        &self,
        user: &UserId,
        status: Option<ReservationStatus>,
        request: &PageRequest,
    ) -> Result<Page<Reservation>, Error> {
        if self.0.away().is_none() {
            return known!(self.0, self.0.reservations(user, status, request));
        }
        let call = ListReservations { user: user.clone(), status, request: request.clone() };
        let found = self.0.ask_owner(call).await?;
        let mut items = Vec::with_capacity(found.items.len());
        for one in found.items {
            items.push(self.0.whole(one).await?);
        }
        Ok(Page { items, next_cursor: found.next_cursor })
    }

    /// Gives a held reservation up.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], [`Rejection::ReservationNotHeld`].
    pub async fn release(&self, caller: &Caller, id: ReservationId) -> Result<Reservation, Error> {
        if self.0.away().is_none() {
            return decided!(self.0, self.0.release(caller, id));
        }
        let released = self.0.ask_owner(Release { caller: caller.clone(), id }).await?;
        self.0.done(released).await
    }
}

/// A hold that has been asked for, and the caller's slot for it. Whether the caller waits for the answer or goes away:
/// the slot is free again only once it is certain that there is no hold.
struct Asked<'a> {
    runtime: &'a tokio::runtime::Handle,
    answer: Option<(AnswerFrom<ConcertOption>, Option<HoldSlot>)>,
}

impl Asked<'_> {
    async fn answer(mut self) -> Option<Result<Reply, Rejection>> {
        let (answer, _) = self.answer.as_mut()?;
        let answer = answer.await;
        let (_, slot) = self.answer.take()?;
        settle(slot, answer.as_ref());
        answer
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let Some((answer, Some(slot))) = self.answer.take() {
            self.runtime.spawn(async move { settle(Some(slot), answer.await.as_ref()) });
        }
    }
}

fn settle(slot: Option<HoldSlot>, answer: Option<&Result<Reply, Rejection>>) {
    if let (Some(slot), Some(Ok(Reply::Reservation(..)))) = (slot, answer) {
        slot.made();
    }
}

/// What this node decides or knows itself: see the methods of [`Engine`] of the same names.
impl Inner {
    pub(in crate::engine) async fn hold(
        self: &Arc<Self>,
        option: OptionId,
        user: &UserId,
        wish: Wish,
        note: Option<Box<Note>>,
        queue_token: Option<&str>,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Reservation>, Error> {
        let inner = self;
        let _call = inner.admit_newcomer()?;
        if inner.gauges.log_full.load(Ordering::Relaxed) {
            return Err(Error::LogFull);
        }
        let mut tried = Tried::default();
        let (reply, plan) = loop {
            let plan = inner.offer(option).await?;
            let wish = resolve(&plan, &wish)?;
            let (token, mut refused) = match inner.let_in(plan.definition.concert, user, queue_token).await? {
                Ok(token) => (token, None),
                Err(rejection) => (None, Some(rejection)),
            };
            let slot = match inner.take_hold(user).await? {
                Ok(slot) => slot,
                Err(rejection) => {
                    refused = refused.or(Some(rejection));
                    None
                }
            };
            let (user, note, request) = (user.clone(), note.clone(), inner.request(key.clone(), refused));
            let command = Command::Hold { user, wish, token, note, plan: plan.clone(), request };
            let reply = inner.ask_holding(&option, command, slot).await;
            let reply = reply.map_err(|error| name_conflicts(&plan, error))?;
            if !inner.is_outdated(&reply, &plan, &mut tried)? {
                break (reply, plan);
            }
        };
        match reply {
            Reply::Reservation(no, held) => Ok(Answered { value: Reservation::new(no, *held, plan), replayed: false }),
            Reply::Replayed(no) => {
                inner.certain().await?;
                let held = Box::pin(inner.find_reservation(ReservationId { option, no })).await?;
                let status = concert_option::ReservationStatus::Held;
                // Whatever has become of it since.
                let held = concert_option::Reservation { status, ..held.as_held() };
                // It may be of another plan than this call.
                let plan = inner.offer(option).await?;
                Ok(Answered { value: Reservation::new(no, held, plan), replayed: true })
            }
            _ => Err(Error::Internal("the option answered something else".into())),
        }
    }

    pub(in crate::engine) async fn reservation(
        self: &Arc<Self>,
        caller: &Caller,
        id: ReservationId,
    ) -> Result<Reservation, Error> {
        let found = self.find_reservation(id).await?;
        if !caller.may_reach(&found.user) {
            return Err(Rejection::NotFound.into());
        }
        Ok(Reservation::new(id.no, found, self.offer(id.option).await?))
    }

    pub(in crate::engine) async fn reservations(
        self: &Arc<Self>,
        user: &UserId,
        status: Option<ReservationStatus>,
        request: &PageRequest,
    ) -> Result<Page<Reservation>, Error> {
        check_limit(request.limit)?;
        let mut before = parse_cursor(request.cursor.as_deref())?.map(Lsn);
        let (mut found, mut looked_at, mut more) = (Vec::new(), 0, true);
        // One more than asked for tells whether there is another page.
        while more && found.len() <= request.limit && looked_at < LOOKED_AT_MAX {
            let most = status.map_or(request.limit + 1 - found.len(), |_| LOOKED_UP_AT_ONCE);
            let owner = user.clone();
            let list = move |inner: &Inner| {
                inner.list(&owner, Part::Reservation, before, most, concert_option::Reservation::from_row)
            };
            let some = self.read_rows(list).await?;
            (more, looked_at) = (some.len() == most, looked_at + some.len());
            before = some.last().map(|(one, _)| one.lsn).or(before);
            let some = some.into_iter();
            // What was handed on stands on the list of who had it, and is not theirs any more.
            let some = some.filter(|(_, one)| one.user == *user);
            found.extend(some.filter(|(_, one)| status.is_none_or(|status| status == one.status.into())));
        }
        let mut items = Vec::with_capacity(found.len());
        for (listed, reservation) in found {
            let plan = self.offer(listed.option).await?;
            items.push((listed.lsn.0, Reservation::new(listed.no, reservation, plan)));
        }
        let mut page = page(items, request.limit);
        if page.next_cursor.is_none() && more {
            page.next_cursor = before.map(|last| last.to_string());
        }
        Ok(page)
    }

    pub(in crate::engine) async fn release(
        self: &Arc<Self>,
        caller: &Caller,
        id: ReservationId,
    ) -> Result<Reservation, Error> {
        let _call = self.admit()?;
        // Or an actor would be woken for every number that somebody thinks of.
        self.offer(id.option).await?;
        let command = Command::Release { reservation: id.no, caller: caller.clone() };
        match self.ask::<ConcertOption>(&id.option, command).await? {
            Reply::Reservation(no, released) => {
                let plan = self.offer(id.option).await.map_err(Self::after_the_first)?;
                Ok(Reservation::new(no, *released, plan))
            }
            Reply::Archived => {
                // Whatever it came to in the end, it is not held.
                Box::pin(self.reservation(caller, id)).await?;
                Err(Rejection::ReservationNotHeld.into())
            }
            _ => Err(Error::Internal("the option answered something else".into())),
        }
    }

    /// As [`ask`](Self::ask), for a command that holds seats if it succeeds.
    pub(super) async fn ask_holding(
        self: &Arc<Self>,
        option: &OptionId,
        command: Command,
        slot: Option<HoldSlot>,
    ) -> Result<Reply, Error> {
        // One that was taken before this term does not count in it.
        let counts = || slot.as_ref().is_none_or(HoldSlot::counts);
        let answer = self.send_if::<ConcertOption>(option, command, counts)?;
        let asked = Asked { runtime: &self.host.blocking, answer: Some((answer, slot)) };
        match asked.answer().await {
            Some(answer) => answer.map_err(Error::from),
            None => Err(self.outcome_unknown()),
        }
    }

    /// Takes one of a user's open holds, if they are limited.
    pub(super) async fn take_hold(&self, user: &UserId) -> Result<Result<Option<HoldSlot>, Rejection>, Error> {
        let limit = self.config.limits.user_open_holds;
        if limit == 0 {
            return Ok(Ok(None));
        }
        if let Ok(slot) = self.node.counts.take_hold(user, limit) {
            return Ok(Ok(Some(slot)));
        }
        // One that the user was told is over may not be counted out yet.
        Box::pin(self.up_to_date()).await?;
        let taken = self.node.counts.take_hold(user, limit);
        Ok(taken.map(Some).map_err(|already| Rejection::LimitExceeded { limit, already }))
    }

    /// A reservation, wherever it is.
    pub(super) async fn find_reservation(
        self: &Arc<Self>,
        id: ReservationId,
    ) -> Result<concert_option::Reservation, Error> {
        let row =
            self.find::<ConcertOption>(&id.option, &Part::Reservation(id.no)).await?.ok_or(Rejection::NotFound)?;
        concert_option::Reservation::from_row(id.no, &row).map_err(|source| self.corrupt(&id.option, source))
    }
}

/// Finds what is wished for in the plan, by its names. What else may be wrong with it is for the option to say.
pub(super) fn resolve(plan: &PricedPlan, wish: &Wish) -> Result<Places, Error> {
    match wish {
        Wish::Seats(seats) => resolve_seats(&plan.plan, seats).map(Places::Seats),
        Wish::BestAvailable(wish) => {
            let category = wish.category.as_ref().map(|name| {
                let index = plan.plan.category_index(name);
                index.ok_or_else(|| Error::invalid("best_available.category", "is not a category of this plan"))
            });
            let zone = wish.zone.as_ref().map(|name| {
                let index = plan.plan.zone_index(name);
                index.ok_or_else(|| Error::invalid("best_available.zone", "is not a zone of this plan"))
            });
            Ok(Places::Best(BestAvailable {
                count: wish.count,
                category: category.transpose()?,
                zone: zone.transpose()?,
                adjacent: wish.adjacent,
                companions: wish.companions,
            }))
        }
        Wish::Areas(areas) => resolve_areas(plan, "areas", areas).map(Places::Areas),
    }
}

pub(super) fn resolve_areas(
    plan: &PricedPlan,
    list: &str,
    areas: &[(String, u32)],
) -> Result<SmallVec<[AreaPlaces; 1]>, Error> {
    let find = |(index, (name, count)): (usize, &(String, u32))| {
        let area = plan.definition.areas.iter().position(|area| area.name == *name);
        let unknown = || Error::invalid(format!("{list}[{index}].name"), "is not an area of this option");
        // Options have at most 3,000 areas.
        area.map(|area| AreaPlaces { area: area as u16, count: *count }).ok_or_else(unknown)
    };
    areas.iter().enumerate().map(find).collect()
}
