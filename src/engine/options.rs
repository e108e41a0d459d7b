//! Concert options: putting performances on sale, and looking at their seats.

use std::sync::{Arc, Weak};

use hashbrown::HashSet;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::calls::{AddOption, RescheduleOption};
use super::{Engine, Inner, RETRY_AFTER};
use crate::api::{Answered, ConcertOption, IdempotencyKey, NewOption, SaleFigures, SaleTotals, Seats, WindowPatch};
use crate::config;
use crate::domain::catalogue::{self, Catalogue};
#[cfg(feature = "server")]
use crate::domain::concert_option::AreaState;
use crate::domain::concert_option::{
    Area, Command, ConcertOption as Aggregate, Counts, Definition, Focus, LISTS_BYTES_MAX, OptionStatus, POINTS, Part,
    Price, PricedPlan, SeatRefs, Window,
};
#[cfg(feature = "server")]
use crate::domain::seat_map::Status;
use crate::domain::seating_plan::{Limits, PlanHash, SeatingPlan};
use crate::domain::{ConcertId, Currency, Flaw, Lsn, OptionId, Rejection, Timestamp};
use crate::error::{Error, FieldError};
use crate::store::codec::TheCatalogue;
use crate::store::plans;

/// Holds that run out within this time are counted as expiring, in milliseconds.
const EXPIRING_MS: u64 = 60_000;

/// A seating plan as it was given.
#[derive(Debug, Clone)]
pub struct PlanJson {
    /// Its SHA-256.
    pub hash: PlanHash,
    /// The pretix seating plan.
    pub json: Vec<u8>,
}

/// Some of an option's seats, at one moment.
#[cfg(feature = "server")]
pub(crate) struct SeatPieces {
    pub(crate) seq: Lsn,
    /// Numbers of pieces, and the states of all seats of each.
    pub(crate) pieces: Vec<(u32, Vec<Status>)>,
    /// All areas.
    pub(crate) areas: Vec<AreaState>,
    pub(crate) plan: Arc<PricedPlan>,
}

impl Engine {
    /// Puts a performance of a concert on sale. It is given as it was then: all seats available.
    ///
    /// # Errors
    /// [`Rejection::NotFound`] if there is no such concert; [`Error::Invalid`], naming the place, also in the plan; of the
    /// rejections also `LimitExceeded`, if there are as many concerts and options as may be, and those of the idempotency
    /// key.
    pub async fn add_option(
        &self,
        concert: ConcertId,
        option: NewOption,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<ConcertOption>, Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.add_option(concert, option, key)),
            Some(_) => Box::pin(self.0.add_option_away(concert, option, key)).await,
        }
    }

    /// An option.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub async fn option(&self, id: OptionId) -> Result<ConcertOption, Error> {
        match self.0.option(id).await {
            Err(error) if self.0.may_have_come(&error).await? => self.0.option(id).await,
            found => found,
        }
    }

    /// How an option sells just now, and the line before it.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub async fn sale_figures(&self, id: OptionId) -> Result<SaleFigures, Error> {
        match self.0.sale_figures(id).await {
            Err(error) if self.0.may_have_come(&error).await? => self.0.sale_figures(id).await,
            found => found,
        }
    }

    /// What has been sold of an option, and for how much. It looks at each of its orders.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub async fn sale_totals(&self, id: OptionId) -> Result<SaleTotals, Error> {
        match self.0.sale_totals(id).await {
            Err(error) if self.0.may_have_come(&error).await? => self.0.sale_totals(id).await,
            found => found,
        }
    }

    /// Moves an option's sale window, and gives the option as it is then. What is held already may still be paid.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], [`Error::Invalid`].
    pub async fn reschedule_option(&self, id: OptionId, patch: WindowPatch) -> Result<ConcertOption, Error> {
        match self.0.away() {
            None => decided!(self.0, self.0.reschedule_option(id, patch)),
            Some(_) => self.0.ask_owner(RescheduleOption { id, patch }).await,
        }
    }

    /// An option's seats and prices, as they are until somebody changes them.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub async fn plan(&self, id: OptionId) -> Result<Arc<PricedPlan>, Error> {
        match self.0.offer(id).await {
            Err(error) if self.0.may_have_come(&error).await? => self.0.offer(id).await,
            found => found,
        }
    }

    /// An option's seating plan, as it was given.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub async fn plan_json(&self, id: OptionId) -> Result<PlanJson, Error> {
        match self.0.plan_json(id).await {
            Err(error) if self.0.may_have_come(&error).await? => self.0.plan_json(id).await,
            found => found,
        }
    }

    /// A seating plan that some option has, or had, as it was given.
    #[cfg(feature = "server")]
    pub(crate) async fn stored_plan(&self, hash: PlanHash) -> Result<Vec<u8>, Error> {
        self.0.stored_json(hash).await
    }

    /// All seats of an option, as they are now.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub async fn seats(&self, id: OptionId) -> Result<Seats, Error> {
        match self.0.seats(id).await {
            Err(error) if self.0.may_have_come(&error).await? => self.0.seats(id).await,
            found => found,
        }
    }

    /// What has become of an option's seats after `after`, or of all of them, in pieces of `piece_seats`: those in which
    /// there was a change. `None` if there was none at all.
    #[cfg(feature = "server")]
    pub(crate) async fn seats_after(
        &self,
        id: OptionId,
        after: Option<Lsn>,
        piece_seats: u32,
    ) -> Result<Option<SeatPieces>, Error> {
        match self.0.seats_after(id, after, piece_seats).await {
            Err(error) if self.0.may_have_come(&error).await? => self.0.seats_after(id, after, piece_seats).await,
            found => found,
        }
    }

    /// The lsn of the last change of an option's seats.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub async fn seats_seq(&self, id: OptionId) -> Result<Lsn, Error> {
        match self.0.seats_seq(id).await {
            Err(error) if self.0.may_have_come(&error).await? => self.0.seats_seq(id).await,
            found => found,
        }
    }
}

/// What this node decides or knows itself: see the methods of [`Engine`] of the same names.
impl Inner {
    pub(in crate::engine) async fn add_option(
        self: &Arc<Self>,
        concert: ConcertId,
        option: NewOption,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<ConcertOption>, Error> {
        let _call = self.admit()?;
        if self.read(|replica| Ok(replica.catalogue()?.concert(concert).is_none())).await? {
            return Err(Rejection::NotFound.into());
        }
        let inner = self.clone();
        let definition = self.on_blocking_thread(move || inner.define(concert, &option)).await??;
        let (entries_max, request) = (self.config.limits.catalogue_entries, self.request(key, None));
        let command = catalogue::Command::AddOption { definition: Box::new(definition), entries_max, request };
        let catalogue::Reply::Option { option: id, replayed } = self.ask::<Catalogue>(&TheCatalogue, command).await?
        else {
            return Err(Error::Internal("the catalogue answered something else".into()));
        };
        if replayed {
            self.certain().await?;
        }
        let created = self.created(id).await.map_err(Self::after_the_first)?;
        Ok(Answered { value: created, replayed })
    }

    /// An option that the catalogue has, as it was then.
    async fn created(self: &Arc<Self>, id: OptionId) -> Result<ConcertOption, Error> {
        // The catalogue has told the option already; this waits until it has heard.
        let unheard = self.read(|replica| Ok(replica.catalogue()?.undefined(id).cloned())).await?;
        if let Some(definition) = unheard {
            self.ask::<Aggregate>(&id, Command::Define { option: id, definition: Box::new(definition) }).await?;
        }
        let plan = self.offer(id).await?;
        let created_at = self.read(|replica| Ok(replica.option(id)?.created_at())).await?;
        Ok(as_created(&plan, created_at))
    }

    /// As [`add_option`](Self::add_option), decided by another node: the plan goes where all find it, and the call names it. What is wrong
    /// with it is found here, so that what nobody can use is not kept there.
    async fn add_option_away(
        self: &Arc<Self>,
        concert: ConcertId,
        mut option: NewOption,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<ConcertOption>, Error> {
        let is_there = async || self.read(|replica| Ok(replica.catalogue()?.concert(concert).is_some())).await;
        if !is_there().await? {
            let missing = Error::from(Rejection::NotFound);
            if !(self.may_have_come(&missing).await? && is_there().await?) {
                return Err(missing);
            }
        }
        let inner = self.clone();
        let checked = self.on_blocking_thread(move || inner.checked(concert, &option).map(|_| option)).await?;
        option = checked?;
        let json = std::mem::take(&mut option.seating_plan);
        let plan = PlanHash::of(&json);
        self.put_plan(plan, json).await?;
        self.ask_owner(AddOption { concert, option, plan, key }).await
    }

    pub(in crate::engine) async fn option(self: &Arc<Self>, id: OptionId) -> Result<ConcertOption, Error> {
        let now = self.now();
        let found = self.read(|replica| {
            let option = replica.option(id)?;
            let definition = option.definition();
            Ok(definition.map(|definition| {
                view(id, definition, option.window(), option.status(now), option.counts(), option.created_at())
            }))
        });
        Ok(found.await?.ok_or(Rejection::NotFound)?)
    }

    pub(in crate::engine) async fn sale_figures(self: &Arc<Self>, id: OptionId) -> Result<SaleFigures, Error> {
        let now = self.now();
        let found = self.read(|replica| {
            let option = replica.option(id)?;
            let Some(concert) = option.definition().map(|definition| definition.concert) else { return Ok(None) };
            let (seats, (holds, expiring)) = (option.counts(), option.holds(now.plus_millis(EXPIRING_MS)));
            let line = replica.room(concert)?.counts();
            Ok(Some(SaleFigures { at: now, seats, holds: holds as u64, holds_expiring: expiring as u64, line }))
        });
        Ok(found.await?.ok_or(Rejection::NotFound)?)
    }

    pub(in crate::engine) async fn sale_totals(self: &Arc<Self>, id: OptionId) -> Result<SaleTotals, Error> {
        let points = self.config.payments.points_currency;
        let found = self.read(|replica| {
            let option = replica.option(id)?;
            let Some(definition) = option.definition() else { return Ok(None) };
            let (concert, currency) = (definition.concert, definition.currency.unwrap_or(points));
            let (seats, revenue) = (option.counts(), option.revenue());
            Ok(Some(SaleTotals { concert, seats, revenue, currency, line: replica.room(concert)?.counts() }))
        });
        Ok(found.await?.ok_or(Rejection::NotFound)?)
    }

    pub(in crate::engine) async fn reschedule_option(
        self: &Arc<Self>,
        id: OptionId,
        patch: WindowPatch,
    ) -> Result<ConcertOption, Error> {
        let _call = self.admit()?;
        // Or an actor would be woken for every number that somebody thinks of.
        self.option(id).await?;
        self.ask::<Aggregate>(&id, Command::Reschedule { patch }).await?;
        // There may have been nothing to change.
        self.certain().await.map_err(Self::after_the_first)?;
        self.option(id).await
    }

    pub(in crate::engine) async fn plan_json(self: &Arc<Self>, id: OptionId) -> Result<PlanJson, Error> {
        let hash = self.offer(id).await?.definition.plan;
        Ok(PlanJson { hash, json: self.stored_json(hash).await? })
    }

    async fn stored_json(self: &Arc<Self>, hash: PlanHash) -> Result<Vec<u8>, Error> {
        let inner = self.clone();
        let json = self.on_blocking_thread(move || inner.plans.get(hash.0)).await?;
        json.map_err(|error| unusable(&error))
    }

    pub(in crate::engine) async fn seats(self: &Arc<Self>, id: OptionId) -> Result<Seats, Error> {
        // Or an actor would be woken for every number that somebody thinks of.
        let mut plan = self.offer(id).await?;
        loop {
            let found = self.read(|replica| {
                let option = replica.option(id)?;
                Ok((version(option), option.seq(), option.seats().clone(), option.areas().to_vec()))
            });
            let (version, seq, map, areas) = found.await?;
            if plan.definition.version() == version {
                return Ok(Seats { seq, map, areas, plan });
            }
            plan = self.offer_since(id, version).await?;
        }
    }

    #[cfg(feature = "server")]
    pub(in crate::engine) async fn seats_after(
        self: &Arc<Self>,
        id: OptionId,
        after: Option<Lsn>,
        piece_seats: u32,
    ) -> Result<Option<SeatPieces>, Error> {
        let mut plan = self.offer(id).await?;
        loop {
            let found = self.read(|replica| Ok(pieces_after(replica.option(id)?, after, piece_seats)));
            let Some((version, seq, pieces, areas)) = found.await? else { return Ok(None) };
            if plan.definition.version() == version {
                return Ok(Some(SeatPieces { seq, pieces, areas, plan }));
            }
            plan = self.offer_since(id, version).await?;
        }
    }

    pub(in crate::engine) async fn seats_seq(self: &Arc<Self>, id: OptionId) -> Result<Lsn, Error> {
        let found = self.read(|replica| {
            let option = replica.option(id)?;
            Ok(option.definition().map(|_| option.seq()))
        });
        Ok(found.await?.ok_or(Rejection::NotFound)?)
    }

    /// What does not change of an option.
    pub(super) async fn offer(self: &Arc<Self>, id: OptionId) -> Result<Arc<PricedPlan>, Error> {
        if let Some(offer) = self.offers.get(&id) {
            return Ok(offer.clone());
        }
        let inner = self.clone();
        let load = async {
            self.up_to_date().await?;
            self.on_blocking_thread(move || inner.load_offer(id)).await?
        };
        Box::pin(load).await
    }

    /// As [`offer`](Self::offer), with terms of this version or a later one, which the replica has taken in.
    pub(super) async fn offer_since(self: &Arc<Self>, id: OptionId, version: u64) -> Result<Arc<PricedPlan>, Error> {
        self.offers.remove_if(&id, |_, known| known.definition.version() < version);
        self.offer(id).await
    }

    /// As [`offer`](Self::offer), of an option that the replica has heard of. Blocks.
    pub(super) fn load_offer(&self, id: OptionId) -> Result<Arc<PricedPlan>, Error> {
        if let Some(offer) = self.offers.get(&id) {
            return Ok(offer.clone());
        }
        // The option itself may be large, and nobody has asked for it.
        let found = self.glance(|replica| replica.find::<Aggregate>(&id, &Part::Terms))?;
        let row = found.row().map_err(|error| self.fail(&error))?.ok_or(Rejection::NotFound)?;
        let terms = Aggregate::definition_from_row(&row);
        let (definition, replanned_at) = terms.map_err(|source| self.corrupt(&id, source))?;
        let plan = self.seating_plan_of(&definition)?;
        if self.offers.len() as u64 >= self.config.actors.max_resident {
            // What nobody uses just now is read again when somebody does.
            self.offers.retain(|_, offer| Arc::strong_count(offer) > 1);
        }
        // Before the entry, which locks out others: it takes a look at every seat.
        let offer = Arc::new(PricedPlan::new(id, definition, plan).replanned_at(replanned_at));
        self.offers.entry(id).or_insert_with(|| offer.clone());
        // It may have changed since its row was read, and whoever forgets what was known have been here before.
        let now = self.glance(|replica| replica.find::<Aggregate>(&id, &Part::Terms))?;
        let now = now.row().map_err(|error| self.fail(&error))?.ok_or(Rejection::NotFound)?;
        if now != row {
            self.offers.remove_if(&id, |_, known| Arc::ptr_eq(known, &offer));
        }
        Ok(offer)
    }

    /// As [`offer`](Self::offer), of an option that this node has not heard of, and that is defined like this. It is not kept: all else
    /// takes what is there for what the replica knows. Blocks.
    pub(super) fn offer_as_defined(&self, id: OptionId, definition: Definition) -> Result<Arc<PricedPlan>, Error> {
        let plan = self.seating_plan_of(&definition)?;
        Ok(Arc::new(PricedPlan::new(id, definition, plan)))
    }

    /// As [`offer`](Self::offer), by the plan of this index among the former ones: for what was told when it was in force. Blocks.
    pub(super) fn former_offer(&self, id: OptionId, index: u32) -> Result<Arc<PricedPlan>, Error> {
        let offer = self.load_offer(id)?;
        let former = offer.definition.former_plans();
        let plans = former.get(..=index as usize).unwrap_or(former);
        let plan = self.seating_plan_after(plans)?;
        Ok(Arc::new(PricedPlan::new(id, offer.definition.clone(), plan)))
    }

    /// A plan, if it is stored here.
    pub(super) async fn kept_plan(self: &Arc<Self>, hash: PlanHash) -> Result<Option<Vec<u8>>, Error> {
        let inner = self.clone();
        self.on_blocking_thread(move || inner.plans.get(hash.0).ok()).await
    }

    /// Stores a plan that another node has checked.
    pub(super) async fn keep_plan(self: &Arc<Self>, hash: PlanHash, json: Vec<u8>) -> Result<(), Error> {
        let inner = self.clone();
        self.on_blocking_thread(move || inner.store_plan(hash, &json)).await?
    }

    /// The stored plan of an option, which follows those that it had before.
    fn seating_plan_of(&self, definition: &Definition) -> Result<Arc<SeatingPlan>, Error> {
        let plans: Vec<_> = definition.former_plans().iter().copied().chain([definition.plan]).collect();
        self.seating_plan_after(&plans)
    }

    /// The last of these plans, each of which follows the one before; made once for all options that have had the same.
    pub(super) fn seating_plan_after(&self, plans: &[PlanHash]) -> Result<Arc<SeatingPlan>, Error> {
        let (hash, before) = match plans {
            [] => return Err(Error::Internal("an option has no seating plan".into())),
            [hash] => return self.shared_plan(*hash, || self.stored_plan(*hash)),
            [before @ .., hash] => (*hash, before),
        };
        let all: Vec<u8> = plans.iter().flat_map(|plan| plan.0).collect();
        let make = || Ok(self.stored_plan(hash)?.after(&self.seating_plan_after(before)?));
        self.shared_plan(PlanHash::of(&all), make)
    }

    fn stored_plan(&self, hash: PlanHash) -> Result<SeatingPlan, Error> {
        let json = self.plans.get(hash.0).map_err(|error| unusable(&error))?;
        // It was checked before it was stored, under limits and rules that may have changed since.
        SeatingPlan::restore(&json)
            .map_err(|problems| Error::Internal(format!("the seating plan {hash} is wrong: {problems:?}")))
    }

    /// A plan that is made if nobody has it.
    fn shared_plan(
        &self,
        name: PlanHash,
        make: impl FnOnce() -> Result<SeatingPlan, Error>,
    ) -> Result<Arc<SeatingPlan>, Error> {
        let shared = self.seating_plans.lock().entry(name).or_default().clone();
        // While it is made, those wait who need it, and nobody else.
        let mut known = shared.lock();
        if let Some(plan) = known.upgrade() {
            return Ok(plan);
        }
        let plan = Arc::new(make()?);
        *known = Arc::downgrade(&plan);
        let is_needed = |known: &mut Mutex<Weak<_>>| known.get_mut().strong_count() > 0;
        self.seating_plans.lock().retain(|_, shared| Arc::get_mut(shared).is_none_or(is_needed));
        Ok(plan)
    }

    /// Checks a new option, and stores its plan.
    fn define(&self, concert: ConcertId, option: &NewOption) -> Result<Definition, Error> {
        let definition = self.checked(concert, option)?;
        self.store_plan(definition.plan, &option.seating_plan)?;
        Ok(definition)
    }

    pub(super) fn store_plan(&self, hash: PlanHash, json: &[u8]) -> Result<(), Error> {
        self.plans.put(hash.0, json).map_err(|error| {
            tracing::error!(%error, "a seating plan could not be stored");
            if error.is_final() {
                self.node.journal.poison(&error.to_string());
            }
            unusable(&error)
        })
    }

    /// Reads a plan that somebody gives.
    pub(super) fn parse_plan(&self, json: &[u8]) -> Result<SeatingPlan, Error> {
        let limits = &self.config.limits;
        let names = limits.option_names as usize;
        let plan_limits = Limits {
            bytes_max: limits.plan_bytes as usize,
            seats_max: limits.plan_seats as usize,
            rows_max: limits.plan_seats as usize,
            zones_max: names,
            categories_max: u16::try_from(names).unwrap_or(u16::MAX),
            ..Limits::default()
        };
        SeatingPlan::parse(json, &plan_limits).map_err(|problems| {
            let place =
                |path: &str| if path.is_empty() { "seating_plan".into() } else { format!("seating_plan.{path}") };
            Error::Invalid(problems.into_iter().map(|p| FieldError::new(place(&p.path), p.message)).collect())
        })
    }

    /// Checks a new option.
    fn checked(&self, concert: ConcertId, option: &NewOption) -> Result<Definition, Error> {
        let limits = &self.config.limits;
        let plan = self.parse_plan(&option.seating_plan)?;
        let window = Window {
            sale_opens_at: option.sale_opens_at,
            sale_closes_at: option.sale_closes_at.unwrap_or(option.starts_at),
            refundable_until: option.refundable_until,
        };
        let area =
            |area: crate::api::NewArea| Area { name: area.name, capacity: area.capacity, category: area.category };
        let (prices, areas) = (option.prices.iter().cloned(), option.areas.iter().cloned());
        let hash = PlanHash::of(&option.seating_plan);
        let definition = Definition {
            concert,
            starts_at: option.starts_at,
            window,
            plan: hash,
            seat_count: plan.len(),
            prices: prices.map(|(category, points)| Price { category, points }).collect(),
            areas: areas.map(area).collect(),
            hold_seconds: option.hold_seconds,
            payment_seconds: option.payment_seconds,
            max_seats_per_reservation: option.max_seats_per_reservation,
            max_seats_per_user: option.max_seats_per_user,
            focus: option.focus.clone(),
            accessible: option.accessible.clone(),
            not_for_sale: plan.not_for_sale().collect(),
            payment_methods: option.payment_methods.clone(),
            currency: option.currency,
            amended: None,
        };
        let mut wrong = flaws(&definition, &plan, limits);
        wrong.extend(self.flaws_of_payment(&definition));
        if !wrong.is_empty() {
            return Err(Error::Invalid(wrong.into_iter().map(FieldError::from).collect()));
        }
        Ok(definition)
    }
}

impl Inner {
    /// What is wrong with how an option is to be paid.
    fn flaws_of_payment(&self, definition: &Definition) -> Vec<Flaw> {
        let payments = &self.config.payments;
        let known = |name: &str| name == POINTS || payments.providers.iter().any(|one| one.name == name);
        let unknown = definition.payment_methods.iter().enumerate().filter(|(_, name)| !known(name));
        let unknown = unknown.map(|(index, _)| {
            let names: Vec<_> = payments.providers.iter().map(|one| &*one.name).collect();
            let message = format!("must be points or one of the providers of the configuration: {}", names.join(", "));
            Flaw::new(format!("payment_methods[{index}]"), message)
        });
        let other = definition.currency.filter(|of| definition.takes(POINTS) && *of != payments.points_currency);
        let other = other.map(|_| {
            let message = format!("must be {}, as that of points, which are a method too", payments.points_currency);
            Flaw::new("currency", message)
        });
        let strange = definition.currency.into_iter().flat_map(|currency| {
            let of = payments.providers.iter().filter(move |one| definition.takes(&one.name) && !one.takes(currency));
            of.map(|one| {
                let currencies: Vec<_> = one.currencies.iter().map(Currency::as_str).collect();
                Flaw::new("currency", format!("must be one that {} takes: {}", one.name, currencies.join(", ")))
            })
        });
        unknown.chain(other).chain(strange).collect()
    }
}

/// Which terms an option has: how often they were changed.
pub(super) fn version(option: &Aggregate) -> u64 {
    option.definition().map_or(0, Definition::version)
}

/// A version of terms, and the `seq`, pieces and areas of [`SeatPieces`].
#[cfg(feature = "server")]
type ReadPieces = (u64, Lsn, Vec<(u32, Vec<Status>)>, Vec<AreaState>);

/// What of the seats has changed after `after`, in pieces of so many seats, with the version of the terms; `None` if nothing has.
#[cfg(feature = "server")]
fn pieces_after(option: &Aggregate, after: Option<Lsn>, piece_seats: u32) -> Option<ReadPieces> {
    let (seq, seats) = (option.seq(), option.seats());
    if after == Some(seq) {
        return None;
    }
    let piece = |number: u32| {
        let first = number * piece_seats;
        let last = seats.len().min(first + piece_seats);
        (number, (first..last).map(|seat| seats.status(seat)).collect::<Vec<_>>())
    };
    let numbers: Vec<_> = match after {
        None => (0..seats.len().div_ceil(piece_seats)).collect(),
        Some(after) => {
            let mut numbers: Vec<_> = seats
                .chunks_changed_after(after)
                .flat_map(|chunk| chunk.start / piece_seats..=(chunk.end - 1) / piece_seats)
                .collect();
            numbers.dedup();
            numbers
        }
    };
    Some((version(option), seq, numbers.into_iter().map(piece).collect(), option.areas().to_vec()))
}

/// What a caller is told when a plan cannot be stored or read.
fn unusable(error: &plans::Error) -> Error {
    match error {
        error if !error.is_for_now() => Error::Internal(error.to_string()),
        error if error.is_for_want_of_space() => Error::StorageFull,
        _ => Error::Overloaded(RETRY_AFTER),
    }
}

/// What is wrong with a new option: with its terms, as it will be found when they are decided, but before its plan is stored;
/// with its terms beside that plan; and with how many names there are, and how long they are.
pub(super) fn flaws(definition: &Definition, plan: &SeatingPlan, limits: &config::Limits) -> Vec<Flaw> {
    let mut wrong = definition.flaws();
    wrong.extend(flaws_of_names(definition, limits));
    wrong.extend(definition.focus.as_ref().and_then(|focus| flaw_of_focus(focus, plan)));
    wrong.extend(flaw_of_names("accessible", &definition.accessible, "category", |category| {
        plan.category_index(category).is_some()
    }));
    let priced: HashSet<&str> = definition.prices.iter().map(|price| &*price.category).collect();
    for (index, category) in plan.categories().iter().enumerate() {
        let used = plan.category_places(index as u32).is_some_and(|places| !places.is_empty());
        if used && !priced.contains(&*category.name) {
            let field = format!("prices.{}", category.name);
            wrong.push(Flaw::new(field, "is missing: the plan has seats of this category"));
        }
    }
    wrong
}

/// With how many names there are, and how long they are.
pub(super) fn flaws_of_names(definition: &Definition, limits: &config::Limits) -> Vec<Flaw> {
    let count = |field: &str, count: usize, what: &str| {
        let wrong = Flaw::of_range(field, count as u64, 0, limits.option_names)?;
        Some(Flaw { message: format!("{} {what}", wrong.message), ..wrong })
    };
    let is_too_long = definition.flaw_of_lists(LISTS_BYTES_MAX).is_some();
    let long = if is_too_long { None } else { definition.flaw_of_lists(limits.option_name_bytes) };
    let categories = count("prices", definition.prices.len(), "categories");
    let areas = count("areas", definition.areas.len(), "areas");
    long.into_iter().chain(categories).chain(areas).collect()
}

fn flaw_of_focus(focus: &Focus, plan: &SeatingPlan) -> Option<Flaw> {
    match focus {
        Focus::Point { x, y } => {
            let is_far = |coordinate: f64| !(coordinate as f32).is_finite();
            let far = [("focus.x", *x), ("focus.y", *y)].into_iter().find(|(_, coordinate)| is_far(*coordinate));
            far.map(|(field, _)| Flaw::new(field, "is too far out"))
        }
        Focus::Zones { zones } if zones.is_empty() => Some(Flaw::new("focus.zones", "must name at least one zone")),
        Focus::Zones { zones } => flaw_of_names("focus.zones", zones, "zone", |zone| plan.zone_index(zone).is_some()),
    }
}

/// The first of `names` that is not in the plan, or that is given twice.
fn flaw_of_names(field: &str, names: &[String], what: &str, is_known: impl Fn(&str) -> bool) -> Option<Flaw> {
    let unknown = names.iter().position(|name| !is_known(name));
    let unknown = unknown.map(|index| Flaw::new(format!("{field}[{index}]"), format!("is not a {what} of this plan")));
    unknown.or_else(|| Flaw::of_twice(field, "", names))
}

/// The numbers of seats.
///
/// # Errors
/// Some are not in the plan.
pub(super) fn resolve_seats(plan: &SeatingPlan, seats: &[String]) -> Result<SeatRefs, Error> {
    let refs: SeatRefs = seats.iter().filter_map(|seat| plan.known_seat(seat)).collect();
    if refs.len() == seats.len() {
        return Ok(refs);
    }
    Err(Error::UnknownSeats(seats.iter().filter(|seat| plan.seat_index(seat).is_none()).cloned().collect()))
}

/// What stands against calls that name seats of which some are withdrawn.
pub(super) fn flaw_of_withdrawn(plan: &SeatingPlan, seats: &[u32]) -> Option<Rejection> {
    let conflicts: SmallVec<[u32; 4]> = seats.iter().copied().filter(|seat| plan.is_withdrawn(*seat)).collect();
    (!conflicts.is_empty()).then_some(Rejection::SeatsUnavailable { conflicts })
}

/// Gives seats their names in an error.
pub(super) fn name_conflicts(plan: &PricedPlan, error: Error) -> Error {
    let name =
        |conflicts: SmallVec<[u32; 4]>| conflicts.iter().map(|seat| plan.plan.seat(*seat).guid.to_owned()).collect();
    match error {
        Error::Rejected(Rejection::SeatsUnavailable { mut conflicts }) => {
            if conflicts.iter().any(|seat| plan.plan.is_withdrawn(*seat)) {
                conflicts.retain(|seat| plan.plan.is_withdrawn(*seat));
                return Error::UnknownSeats(name(conflicts));
            }
            Error::SeatsUnavailable(name(conflicts))
        }
        Error::Rejected(Rejection::SeatsInUse { conflicts, in_use }) => {
            Error::SeatsInUse { seats: name(conflicts), in_use }
        }
        error => error,
    }
}

/// An option as it was when it was put on sale.
fn as_created(plan: &PricedPlan, created_at: Timestamp) -> ConcertOption {
    let definition = &plan.definition;
    let places: u64 = definition.areas.iter().map(|area| u64::from(area.capacity)).sum();
    let blocked = u64::from(definition.not_for_sale.len());
    let available = u64::from(definition.seat_count) - blocked + places;
    let blocked = blocked - u64::from(definition.withdrawn());
    let counts = Counts { available, blocked, ..Counts::default() };
    let status = if created_at >= definition.window.sale_closes_at {
        OptionStatus::Closed
    } else if definition.window.is_open(created_at) {
        OptionStatus::OnSale
    } else {
        OptionStatus::Scheduled
    };
    view(plan.option, definition, definition.window, status, counts, created_at)
}

fn view(
    id: OptionId,
    definition: &Definition,
    window: Window,
    status: OptionStatus,
    counts: Counts,
    created_at: Timestamp,
) -> ConcertOption {
    ConcertOption {
        id,
        concert_id: definition.concert,
        status,
        starts_at: definition.starts_at,
        sale_opens_at: window.sale_opens_at,
        sale_closes_at: window.sale_closes_at,
        refundable_until: window.refundable_until,
        prices: definition.prices.clone(),
        areas: definition.areas.clone(),
        hold_seconds: definition.hold_seconds,
        payment_seconds: definition.payment_seconds,
        max_seats_per_reservation: definition.max_seats_per_reservation,
        max_seats_per_user: definition.max_seats_per_user,
        focus: definition.focus.clone(),
        accessible: definition.accessible.clone(),
        payment_methods: definition.payment_methods.clone(),
        currency: definition.currency,
        counts,
        created_at,
    }
}
