//! What is sold changes: times, prices and limits of an option; performances that are called off; and what is deleted, of which nothing
//! was ever held.

use std::sync::Arc;

use super::calls::{CallOff, ChangeOption, DeleteConcert, DeleteOption, ReplacePlan};
use super::options::{flaws, flaws_of_names, name_conflicts};
use super::{Engine, Inner};
use crate::api::{self, Answered, Cancellation, IdempotencyKey, NewSeatingPlan};
use crate::domain::catalogue::{self, Catalogue};
use crate::domain::concert_option::{Command, ConcertOption, NewPlan, OptionPatch, Price, PricedPlan, Reply};
use crate::domain::seating_plan::PlanHash;
use crate::domain::{ConcertId, Flaw, OptionId, Rejection, UserId};
use crate::error::{Error, FieldError};
use crate::store::codec::TheCatalogue;

/// So often a command is decided anew since the plan has changed on its way.
const PLANS_TRIED_MAX: u32 = 8;

/// How often that has happened.
#[derive(Debug, Default)]
pub(super) struct Tried(u32);

impl Engine {
    /// Calls a performance off, and tells what there was to do then: nothing is sold any more, holds end, and every payment is given back to who
    /// paid, in the background. Once more changes nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] (the reason); of the rejections `NotFound` and those of the idempotency key.
    pub async fn call_off(
        &self,
        id: OptionId,
        reason: Option<String>,
        by: &UserId,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Cancellation>, Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.call_off(id, reason, by, key)),
            Some(_) => self.0.ask_owner(CallOff { id, reason, by: by.clone(), key }).await,
        }
    }

    /// Changes what an option sells, and on what terms, and gives it as it is then. What is held or paid stays as it was.
    ///
    /// # Errors
    /// [`Error::Invalid`]; of the rejections `NotFound`, `CapacityInUse`.
    pub async fn change_option(
        &self,
        id: OptionId,
        patch: OptionPatch,
        by: &UserId,
    ) -> Result<api::ConcertOption, Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.change_option(id, patch, by)),
            Some(_) => self.0.ask_owner(ChangeOption { id, patch, by: by.clone() }).await,
        }
    }

    /// Sells an option by another seating plan from now on, and gives the option as it is then. A seat that both plans have, by its
    /// guid, stays what it is, wherever it stands in the new one; what is held or paid keeps its price. Seats that are free or blocked
    /// may go. The same plan once more changes nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the place, also in the plan; [`Error::SeatsInUse`]; of the rejections `NotFound`, `SaleNotOpen` (it
    /// is called off) and those of the idempotency key.
    pub async fn replace_plan(
        &self,
        id: OptionId,
        new: NewSeatingPlan,
        by: &UserId,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<api::ConcertOption>, Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.replace_plan(id, new, by, key)),
            Some(_) => Box::pin(self.0.replace_plan_away(id, new, by, key)).await,
        }
    }

    /// Deletes an option of which nothing was ever held; `by` says who did it.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], also if it is deleted already; `WasHeld`.
    pub async fn delete_option(&self, id: OptionId, by: &UserId) -> Result<(), Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.delete_option(id, by)),
            Some(_) => self.0.ask_owner(DeleteOption { id, by: by.clone() }).await,
        }
    }

    /// Deletes a concert with its options, of none of which anything was ever held, and ends its line; `by` says who did it. Where
    /// something was held, nothing is deleted; only if that happens in this very moment, some options may be gone.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], also if it is deleted already; `WasHeld`.
    pub async fn delete_concert(&self, id: ConcertId, by: &UserId) -> Result<(), Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.delete_concert(id, by)),
            Some(_) => self.0.ask_owner(DeleteConcert { id, by: by.clone() }).await,
        }
    }

    /// How far the calling off of a performance is.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], also if it is not called off.
    pub async fn cancellation(&self, id: OptionId) -> Result<Cancellation, Error> {
        match self.0.cancellation(id).await {
            Err(error) if self.0.may_have_come(&error).await? => self.0.cancellation(id).await,
            found => found,
        }
    }
}

/// What this node decides or knows itself: see the methods of [`Engine`] of the same names.
impl Inner {
    pub(in crate::engine) async fn call_off(
        self: &Arc<Self>,
        id: OptionId,
        reason: Option<String>,
        by: &UserId,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Cancellation>, Error> {
        let _call = self.admit()?;
        // Or an actor would be woken for every number that somebody thinks of.
        self.offer(id).await?;
        let command = Command::CallOff { reason, by: by.clone(), request: self.request(key, None) };
        let replayed = matches!(self.ask::<ConcertOption>(&id, command).await?, Reply::Replayed(_));
        // There may have been nothing to change.
        self.certain().await.map_err(Self::after_the_first)?;
        // How far it has come since is another question: the same is told each time.
        let told = self.read(|replica| Ok(replica.option(id)?.cancellation_as_told())).await?;
        Ok(Answered { value: told.ok_or(Rejection::NotFound)?.into(), replayed })
    }

    pub(in crate::engine) async fn change_option(
        self: &Arc<Self>,
        id: OptionId,
        patch: OptionPatch,
        by: &UserId,
    ) -> Result<api::ConcertOption, Error> {
        let _call = self.admit()?;
        let terms = &self.offer(id).await?.definition;
        // How many names there may be is the configuration's; all else is decided where the option is.
        if let Ok(then) = patch.apply(terms, terms.window) {
            let wrong = flaws_of_names(&then, &self.config.limits);
            if !wrong.is_empty() {
                return Err(Error::Invalid(wrong.into_iter().map(FieldError::from).collect()));
            }
        }
        let command = Command::Change { patch: Box::new(patch), by: by.clone() };
        self.ask::<ConcertOption>(&id, command).await?;
        // There may have been nothing to change.
        self.certain().await.map_err(Self::after_the_first)?;
        self.option(id).await
    }

    pub(in crate::engine) async fn replace_plan(
        self: &Arc<Self>,
        id: OptionId,
        new: NewSeatingPlan,
        by: &UserId,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<api::ConcertOption>, Error> {
        let _call = self.admit()?;
        let _turn = self.replanning.acquire().await.map_err(|_| self.outcome_unknown())?;
        let (new, mut tried) = (Arc::new(new), Tried::default());
        let reply = loop {
            let plan = self.offer(id).await?;
            let (inner, new, of) = (self.clone(), new.clone(), plan.clone());
            let checked = self.on_blocking_thread(move || {
                let (checked, wrong) = inner.checked_after(&of, &new)?;
                if wrong.is_empty() {
                    inner.store_plan(checked.plan, &new.seating_plan)?;
                }
                Ok::<_, Error>((Box::new(checked), wrong))
            });
            let (new, wrong) = checked.await??;
            let refused = (!wrong.is_empty()).then_some(Rejection::Invalid(wrong));
            let (by, request) = (by.clone(), self.request(key.clone(), refused));
            let command = Command::Replan { new, by, plan: plan.clone(), request };
            let reply = self.ask::<ConcertOption>(&id, command).await;
            let reply = reply.map_err(|error| name_conflicts(&plan, error))?;
            if !self.is_outdated(&reply, &plan, &mut tried)? {
                break reply;
            }
        };
        // There may have been nothing to change.
        self.certain().await.map_err(Self::after_the_first)?;
        Ok(Answered { value: self.option(id).await?, replayed: matches!(reply, Reply::Replayed(_)) })
    }

    /// As [`replace_plan`](Self::replace_plan), decided by another node: the plan goes where all find it, and the call names it.
    async fn replace_plan_away(
        self: &Arc<Self>,
        id: OptionId,
        mut new: NewSeatingPlan,
        by: &UserId,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<api::ConcertOption>, Error> {
        // What nobody can use is not kept there.
        Engine(self.clone()).plan(id).await?;
        let inner = self.clone();
        let checked = self.on_blocking_thread(move || inner.parse_plan(&new.seating_plan).map(|_| new)).await?;
        new = checked?;
        let json = std::mem::take(&mut new.seating_plan);
        let plan = PlanHash::of(&json);
        self.put_plan(plan, json).await?;
        self.ask_owner(ReplacePlan { id, new, plan, by: by.clone(), key }).await
    }

    /// Reads a plan that is to follow an option's, and says what stands against it.
    fn checked_after(&self, offer: &PricedPlan, new: &NewSeatingPlan) -> Result<(NewPlan, Vec<Flaw>), Error> {
        let (terms, limits) = (&offer.definition, &self.config.limits);
        let hash = PlanHash::of(&new.seating_plan);
        let is_same = hash == terms.plan;
        let parsed = if is_same { None } else { Some(self.parse_plan(&new.seating_plan)?.after(&offer.plan)) };
        let plan = parsed.as_ref().unwrap_or(&offer.plan);
        let checked = NewPlan {
            plan: hash,
            seat_count: plan.numbers(),
            withdrawn: plan.numbers() - plan.len(),
            not_for_sale: plan.not_for_sale().collect(),
            prices: new.prices.iter().cloned().map(|(category, points)| Price { category, points }).collect(),
            accessible: new.accessible.clone(),
            focus: new.focus.clone(),
        };
        let mut wrong = flaws(&checked.apply(terms), plan, limits);
        if !is_same {
            let plans = terms.former_plans().len() as u64 + 2;
            let counts = [(plans, limits.option_plans, "plans"), (plan.numbers().into(), limits.option_seats, "seats")];
            wrong.extend(counts.into_iter().filter(|(count, most, _)| count > most).map(|(count, most, what)| {
                let message = format!("with those before it the option would have {count} {what}, and may have {most}");
                Flaw::new("seating_plan", message)
            }));
        }
        Ok((checked, wrong))
    }

    /// Whether a command brought along a plan that is not in force any more, and is to be decided anew by the present one: what
    /// stands against it is durable, and so known here once the replica has come that far.
    ///
    /// # Errors
    /// It has been tried too often.
    pub(super) fn is_outdated(&self, reply: &Reply, plan: &Arc<PricedPlan>, tried: &mut Tried) -> Result<bool, Error> {
        if *reply != Reply::Outdated {
            return Ok(false);
        }
        self.offers.remove_if(&plan.option, |_, known| Arc::ptr_eq(known, plan));
        tried.0 += 1;
        if tried.0 < PLANS_TRIED_MAX { Ok(true) } else { Err(self.overloaded()) }
    }

    pub(in crate::engine) async fn delete_option(self: &Arc<Self>, id: OptionId, by: &UserId) -> Result<(), Error> {
        let _call = self.admit()?;
        // Or an actor would be woken for every number that somebody thinks of.
        self.offer(id).await?;
        self.delete_one(id, by).await
    }

    /// Deletes an option, and waits until it is on no list any more.
    async fn delete_one(self: &Arc<Self>, id: OptionId, by: &UserId) -> Result<(), Error> {
        self.ask::<ConcertOption>(&id, Command::Delete { by: by.clone() }).await?;
        // The option tells it too, until it is heard.
        let told = catalogue::Command::OptionDeleted { option: id, by: by.clone() };
        self.ask::<Catalogue>(&TheCatalogue, told).await.map_err(Self::after_the_first)?;
        // It may have heard before.
        self.certain().await.map_err(Self::after_the_first)
    }

    pub(in crate::engine) async fn delete_concert(self: &Arc<Self>, id: ConcertId, by: &UserId) -> Result<(), Error> {
        let _call = self.admit()?;
        let mut known = self.options_never_held(id).await?;
        loop {
            for option in known {
                match self.delete_one(option, by).await {
                    // Somebody else was faster.
                    Err(Error::Rejected(Rejection::NotFound)) => {}
                    done => done?,
                }
            }
            let command = catalogue::Command::DeleteConcert { concert: id, by: by.clone() };
            match self.ask::<Catalogue>(&TheCatalogue, command).await {
                // Some have come meanwhile.
                Err(Error::Rejected(Rejection::WasHeld)) => {
                    self.up_to_date().await?;
                    known = self.options_never_held(id).await?;
                }
                done => return done.map(|_| ()),
            }
        }
    }

    /// The options of a concert, of none of which anything was ever held.
    async fn options_never_held(self: &Arc<Self>, id: ConcertId) -> Result<Vec<OptionId>, Error> {
        let known = self.read(|replica| Ok(replica.catalogue()?.concert(id).map(|concert| concert.options.clone())));
        let options = known.await?.ok_or(Rejection::NotFound)?;
        // One after the other, so that nobody else waits for all of them. Each decides for itself afterwards.
        for option in &options {
            if self.read(|replica| Ok(replica.option(*option)?.was_ever_held())).await? {
                return Err(Rejection::WasHeld.into());
            }
        }
        Ok(options)
    }

    pub(in crate::engine) async fn cancellation(self: &Arc<Self>, id: OptionId) -> Result<Cancellation, Error> {
        let found = self.read(|replica| Ok(replica.option(id)?.cancellation())).await?;
        Ok(found.ok_or(Rejection::NotFound)?.into())
    }
}
