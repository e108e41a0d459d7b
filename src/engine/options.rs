//! Concert options: putting performances on sale, and looking at their seats.

use std::sync::{Arc, Weak};

use hashbrown::HashSet;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::concerts::{SECONDS_MAX, check_name, check_range};
use super::{Engine, Inner};
use crate::api::{Answered, ConcertOption, IdempotencyKey, NewOption, SaleFigures, Seats, WindowPatch};
use crate::domain::catalogue::{self, Catalogue};
use crate::domain::concert_option::{
    Area, Command, ConcertOption as Aggregate, Counts, Definition, Focus, OptionStatus, Part, Price, PricedPlan, Reply,
    SeatRefs, Window,
};
use crate::domain::seating_plan::{Limits, PlanHash, SeatingPlan};
use crate::domain::{ConcertId, Lsn, OptionId, Points, Rejection, Timestamp};
use crate::error::{Error, FieldError};
use crate::store::codec::TheCatalogue;
use crate::store::replica;

/// The largest area.
const CAPACITY_MAX: u64 = 1_000_000;
/// Holds that run out within this time are counted as expiring, in milliseconds.
const EXPIRING_MS: u64 = 60_000;
/// The longest time a payment may take, in seconds.
const PAYMENT_SECONDS_MAX: u64 = 3_600;

/// So many names are compared with each other faster than hashed.
const FEW: usize = 16;

/// A seating plan as it was given.
#[derive(Debug, Clone)]
pub struct PlanJson {
    /// Its SHA-256.
    pub hash: PlanHash,
    /// The pretix seating plan.
    pub json: Vec<u8>,
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
        let _call = self.0.admit()?;
        if self.0.read(|replica| Ok(replica.catalogue()?.concert(concert).is_none())).await? {
            return Err(Rejection::NotFound.into());
        }
        let inner = self.0.clone();
        let definition = self.0.on_blocking_thread(move || inner.define(concert, option)).await??;
        let request = self.0.entry_request(key).await?;
        let command = catalogue::Command::AddOption { definition: Box::new(definition), request };
        let catalogue::Reply::Option { option: id, replayed } = self.0.ask::<Catalogue>(&TheCatalogue, command).await?
        else {
            return Err(Error::Internal("the catalogue answered something else".into()));
        };
        // The catalogue has told the option already; this waits until it has heard.
        let unheard = self.0.read(|replica| Ok(replica.catalogue()?.undefined(id).cloned())).await?;
        if let Some(definition) = unheard {
            self.0.ask::<Aggregate>(&id, Command::Define { option: id, definition: Box::new(definition) }).await?;
        }
        let plan = self.0.offer(id).await?;
        let created_at = self.0.read(|replica| Ok(replica.option(id)?.created_at())).await?;
        Ok(Answered { value: as_created(&plan, created_at), replayed })
    }

    /// An option.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub async fn option(&self, id: OptionId) -> Result<ConcertOption, Error> {
        let now = self.now();
        let found = self.0.read(|replica| {
            let option = replica.option(id)?;
            let definition = option.definition();
            Ok(definition.map(|definition| {
                view(id, definition, option.window(), option.status(now), option.counts(), option.created_at())
            }))
        });
        Ok(found.await?.ok_or(Rejection::NotFound)?)
    }

    /// How an option sells just now, and the line before it.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub async fn sale_figures(&self, id: OptionId) -> Result<SaleFigures, Error> {
        let now = self.now();
        let found = self.0.read(|replica| {
            let option = replica.option(id)?;
            let Some(concert) = option.definition().map(|definition| definition.concert) else { return Ok(None) };
            let (seats, (holds, expiring)) = (option.counts(), option.holds(now.plus_millis(EXPIRING_MS)));
            let line = replica.room(concert)?.counts();
            Ok(Some(SaleFigures { at: now, seats, holds: holds as u64, holds_expiring: expiring as u64, line }))
        });
        Ok(found.await?.ok_or(Rejection::NotFound)?)
    }

    /// Moves an option's sale window, and gives the option as it is then. What is held already may still be paid.
    ///
    /// # Errors
    /// [`Rejection::NotFound`], [`Error::Invalid`].
    pub async fn reschedule_option(&self, id: OptionId, patch: WindowPatch) -> Result<ConcertOption, Error> {
        let _call = self.0.admit()?;
        let option = self.option(id).await?;
        let window = Window {
            sale_opens_at: option.sale_opens_at,
            sale_closes_at: option.sale_closes_at,
            refundable_until: option.refundable_until,
        };
        if let Some(wrong) = check_window(&patch.apply(window, option.starts_at)) {
            return Err(Error::Invalid(vec![wrong]));
        }
        self.0.ask::<Aggregate>(&id, Command::Reschedule { patch }).await?;
        self.option(id).await
    }

    /// An option's seats and prices, which never change.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub async fn plan(&self, id: OptionId) -> Result<Arc<PricedPlan>, Error> {
        self.0.offer(id).await
    }

    /// An option's seating plan, as it was given.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub async fn plan_json(&self, id: OptionId) -> Result<PlanJson, Error> {
        let hash = self.0.offer(id).await?.definition.plan;
        let inner = self.0.clone();
        let json = self.0.on_blocking_thread(move || inner.plans.get(hash.0)).await?;
        Ok(PlanJson { hash, json: json.map_err(|error| Error::Internal(error.to_string()))? })
    }

    /// All seats of an option, as they are now.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub async fn seats(&self, id: OptionId) -> Result<Seats, Error> {
        let plan = self.0.offer(id).await?;
        let found = self.0.read(|replica| {
            let option = replica.option(id)?;
            Ok((option.seq(), option.seats().clone(), option.areas().to_vec()))
        });
        let (seq, map, areas) = found.await?;
        Ok(Seats { seq, map, areas, plan })
    }

    /// The lsn of the last change of an option's seats.
    ///
    /// # Errors
    /// [`Rejection::NotFound`].
    pub async fn seats_seq(&self, id: OptionId) -> Result<Lsn, Error> {
        let found = self.0.read(|replica| {
            let option = replica.option(id)?;
            Ok(option.definition().map(|_| option.seq()))
        });
        Ok(found.await?.ok_or(Rejection::NotFound)?)
    }

    /// Takes free seats off sale, all of them or none; those that are blocked already stay so. Gives their ids.
    ///
    /// # Errors
    /// [`Rejection::NotFound`]; [`Error::Invalid`] if no seat is named, or one twice; [`Error::UnknownSeats`];
    /// [`Error::SeatsUnavailable`] if some are held or sold; and those of the idempotency key.
    pub async fn block_seats(
        &self,
        id: OptionId,
        seats: Vec<String>,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Vec<String>>, Error> {
        self.change_blocks(id, seats, key, |seats, request| Command::Block { seats, request }).await
    }

    /// Puts blocked seats back on sale; others stay as they are. Gives their ids.
    ///
    /// # Errors
    /// [`Rejection::NotFound`]; [`Error::Invalid`] if no seat is named, or one twice; [`Error::UnknownSeats`]; and those of the
    /// idempotency key.
    pub async fn unblock_seats(
        &self,
        id: OptionId,
        seats: Vec<String>,
        key: Option<IdempotencyKey>,
    ) -> Result<Answered<Vec<String>>, Error> {
        self.change_blocks(id, seats, key, |seats, request| Command::Unblock { seats, request }).await
    }

    async fn change_blocks(
        &self,
        id: OptionId,
        seats: Vec<String>,
        key: Option<IdempotencyKey>,
        command: impl FnOnce(SeatRefs, crate::domain::idempotency::Request) -> Command,
    ) -> Result<Answered<Vec<String>>, Error> {
        let _call = self.0.admit()?;
        let plan = self.0.offer(id).await?;
        let refs = resolve_seats(&plan.plan, &seats)?;
        let command = command(refs, self.0.request(key, None));
        let reply = self.0.ask::<Aggregate>(&id, command).await.map_err(|error| name_conflicts(&plan, error))?;
        Ok(Answered { value: seats, replayed: matches!(reply, Reply::Replayed(_)) })
    }
}

impl Inner {
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

    /// As [`offer`](Self::offer), of an option that the replica has heard of. Blocks.
    pub(super) fn load_offer(&self, id: OptionId) -> Result<Arc<PricedPlan>, Error> {
        if let Some(offer) = self.offers.get(&id) {
            return Ok(offer.clone());
        }
        // The option itself may be large, and nobody has asked for it.
        let found = self.look(|replica| Ok(replica.find::<Aggregate>(&id, &Part::Header)))?;
        let row = found.row().map_err(|error| self.fail(&error))?.ok_or(Rejection::NotFound)?;
        let definition = Aggregate::definition_from_row(&row);
        let corrupt = |source| self.fail(&replica::Error::Corrupt { aggregate: id.to_string(), source });
        let definition = definition.map_err(corrupt)?.ok_or(Rejection::NotFound)?;
        let plan = self.seating_plan(definition.plan)?;
        if self.offers.len() as u64 >= self.config.actors.max_resident {
            // What nobody uses just now is read again when somebody does.
            self.offers.retain(|_, offer| Arc::strong_count(offer) > 1);
        }
        Ok(self.offers.entry(id).or_insert_with(|| Arc::new(PricedPlan::new(id, definition, plan))).clone())
    }

    /// A stored plan, parsed once for all options that share it.
    fn seating_plan(&self, hash: PlanHash) -> Result<Arc<SeatingPlan>, Error> {
        let shared = self.seating_plans.lock().entry(hash).or_default().clone();
        // While it is read, those wait who need it, and nobody else.
        let mut known = shared.lock();
        if let Some(plan) = known.upgrade() {
            return Ok(plan);
        }
        let json = self.plans.get(hash.0).map_err(|error| Error::Internal(error.to_string()))?;
        // It was checked before it was stored, under limits and rules that may have changed since.
        let plan = SeatingPlan::restore(&json)
            .map_err(|problems| Error::Internal(format!("the seating plan {hash} is wrong: {problems:?}")))?;
        let plan = Arc::new(plan);
        *known = Arc::downgrade(&plan);
        let is_needed = |known: &mut Mutex<Weak<_>>| known.get_mut().strong_count() > 0;
        self.seating_plans.lock().retain(|_, shared| Arc::get_mut(shared).is_none_or(is_needed));
        Ok(plan)
    }

    /// Checks a new option, and stores its plan.
    fn define(&self, concert: ConcertId, option: NewOption) -> Result<Definition, Error> {
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
        let plan = SeatingPlan::parse(&option.seating_plan, &plan_limits).map_err(|problems| {
            let place =
                |path: &str| if path.is_empty() { "seating_plan".into() } else { format!("seating_plan.{path}") };
            Error::Invalid(problems.into_iter().map(|p| FieldError::new(place(&p.path), p.message)).collect())
        })?;
        let window = Window {
            sale_opens_at: option.sale_opens_at,
            sale_closes_at: option.sale_closes_at.unwrap_or(option.starts_at),
            refundable_until: option.refundable_until,
        };
        let wrong = check_option(&option, &plan, &window, names);
        if !wrong.is_empty() {
            return Err(Error::Invalid(wrong));
        }
        let hash = PlanHash::of(&option.seating_plan);
        self.plans.put(hash.0, &option.seating_plan).map_err(|error| {
            tracing::error!(%error, "a seating plan could not be stored");
            if error.is_final() {
                self.system.env.journal.poison(&error.to_string());
            }
            Error::Internal(error.to_string())
        })?;
        let area =
            |area: crate::api::NewArea| Area { name: area.name, capacity: area.capacity, category: area.category };
        Ok(Definition {
            concert,
            starts_at: option.starts_at,
            window,
            plan: hash,
            seat_count: plan.len(),
            prices: option.prices.into_iter().map(|(category, points)| Price { category, points }).collect(),
            areas: option.areas.into_iter().map(area).collect(),
            hold_seconds: option.hold_seconds,
            payment_seconds: option.payment_seconds,
            max_seats_per_reservation: option.max_seats_per_reservation,
            max_seats_per_user: option.max_seats_per_user,
            focus: option.focus,
            accessible: option.accessible,
            not_for_sale: plan.not_for_sale().collect(),
        })
    }
}

fn check_window(window: &Window) -> Option<FieldError> {
    let opens_in_time = window.sale_opens_at.is_none_or(|opens_at| opens_at < window.sale_closes_at);
    (!opens_in_time).then(|| FieldError::new("sale_opens_at", "must be before sale_closes_at"))
}

/// What is wrong with a new option, beside its plan.
fn check_option(option: &NewOption, plan: &SeatingPlan, window: &Window, names: usize) -> Vec<FieldError> {
    let mut wrong: Vec<_> = [
        check_range("hold_seconds", option.hold_seconds.into(), 1, SECONDS_MAX.into()),
        check_range("payment_seconds", option.payment_seconds.into(), 1, PAYMENT_SECONDS_MAX),
        check_range("max_seats_per_reservation", option.max_seats_per_reservation.into(), 1, 100),
        check_range("max_seats_per_user", option.max_seats_per_user.into(), 1, 10_000),
        check_range("prices", option.prices.len() as u64, 0, names as u64).map(|e| count_of(e, "categories")),
        check_range("areas", option.areas.len() as u64, 0, names as u64).map(|e| count_of(e, "areas")),
        check_window(window),
    ]
    .into_iter()
    .flatten()
    .collect();
    if plan.not_for_sale().count() == plan.len() as usize && option.areas.is_empty() {
        wrong.push(FieldError::new("seating_plan", "must have seats that are for sale, unless there are areas"));
    }
    wrong.extend(option.focus.as_ref().and_then(|focus| check_focus(focus, plan)));
    wrong.extend(check_accessible(&option.accessible, plan));
    let priced: HashSet<&str> = option.prices.iter().map(|(category, _)| category.as_str()).collect();
    if priced.len() < option.prices.len() {
        wrong.push(FieldError::new("prices", "must name each category once"));
    }
    for (index, category) in plan.categories().iter().enumerate() {
        let used = plan.category_places(index as u32).is_some_and(|places| !places.is_empty());
        if used && !priced.contains(&*category.name) {
            wrong.push(FieldError::new(
                format!("prices.{}", category.name),
                "is missing: the plan has seats of this category",
            ));
        }
    }
    let mut areas = HashSet::new();
    for (index, area) in option.areas.iter().enumerate() {
        wrong.extend(check_name(&format!("areas[{index}].name"), &area.name));
        wrong.extend(check_range(format!("areas[{index}].capacity"), area.capacity.into(), 1, CAPACITY_MAX));
        if !priced.contains(area.category.as_str()) {
            wrong.push(FieldError::new(format!("areas[{index}].category"), "has no price"));
        }
        if !areas.insert(area.name.as_str()) {
            wrong.push(FieldError::new(format!("areas[{index}].name"), "is given twice"));
        }
    }
    let dearest = option.prices.iter().map(|(_, points)| *points).max().unwrap_or(Points::ZERO);
    if dearest.checked_mul(option.max_seats_per_reservation.into()).is_none() {
        let message = format!("the dearest price x max_seats_per_reservation must be at most {}", Points::MAX);
        wrong.push(FieldError::new("prices", message));
    }
    for (category, _) in &option.prices {
        wrong.extend(check_name(&format!("prices.{category}"), category));
    }
    wrong
}

fn check_focus(focus: &Focus, plan: &SeatingPlan) -> Option<FieldError> {
    match focus {
        Focus::Point { x, y } => {
            let is_far = |coordinate: f64| !(coordinate as f32).is_finite();
            let far = [("focus.x", *x), ("focus.y", *y)].into_iter().find(|(_, coordinate)| is_far(*coordinate));
            far.map(|(field, _)| FieldError::new(field, "is too far out"))
        }
        Focus::Zones { zones } if zones.is_empty() => {
            Some(FieldError::new("focus.zones", "must name at least one zone"))
        }
        Focus::Zones { zones } => check_names("focus.zones", zones, "zone", |zone| plan.zone_index(zone).is_some()),
    }
}

fn check_accessible(accessible: &[String], plan: &SeatingPlan) -> Option<FieldError> {
    check_names("accessible", accessible, "category", |category| plan.category_index(category).is_some())
}

/// The first of `names` that is not in the plan, or that is given twice.
fn check_names(field: &str, names: &[String], what: &str, is_known: impl Fn(&str) -> bool) -> Option<FieldError> {
    let mut seen = HashSet::new();
    names.iter().enumerate().find_map(|(index, name)| {
        let problem = if !is_known(name) {
            format!("is not a {what} of this plan")
        } else if !seen.insert(name) {
            "is given twice".into()
        } else {
            return None;
        };
        Some(FieldError::new(format!("{field}[{index}]"), problem))
    })
}

fn count_of(error: FieldError, what: &str) -> FieldError {
    FieldError { message: format!("{} {what}", error.message), ..error }
}

/// The places of seats in the plan.
///
/// # Errors
/// None at all, one twice, or some that are not in the plan.
pub(super) fn resolve_seats(plan: &SeatingPlan, seats: &[String]) -> Result<SeatRefs, Error> {
    if seats.is_empty() {
        return Err(Error::invalid("seats", "must name at least one seat"));
    }
    let is_new = |index: &usize| !seats[..*index].contains(&seats[*index]);
    let twice = if seats.len() <= FEW {
        (1..seats.len()).find(|index| !is_new(index))
    } else {
        let mut seen = HashSet::with_capacity(seats.len());
        seats.iter().position(|seat| !seen.insert(seat.as_str()))
    };
    if let Some(index) = twice {
        return Err(Error::invalid(format!("seats[{index}]"), "is given twice"));
    }
    let refs: SeatRefs = seats.iter().filter_map(|seat| plan.seat_index(seat)).collect();
    if refs.len() == seats.len() {
        return Ok(refs);
    }
    Err(Error::UnknownSeats(seats.iter().filter(|seat| plan.seat_index(seat).is_none()).cloned().collect()))
}

/// Gives seats their names in an error.
pub(super) fn name_conflicts(plan: &PricedPlan, error: Error) -> Error {
    let name =
        |conflicts: SmallVec<[u32; 4]>| conflicts.iter().map(|seat| plan.plan.seat(*seat).guid.to_owned()).collect();
    match error {
        Error::Rejected(Rejection::SeatsUnavailable { conflicts }) => Error::SeatsUnavailable(name(conflicts)),
        error => error,
    }
}

/// An option as it was when it was put on sale.
fn as_created(plan: &PricedPlan, created_at: Timestamp) -> ConcertOption {
    let definition = &plan.definition;
    let places: u64 = definition.areas.iter().map(|area| u64::from(area.capacity)).sum();
    let blocked = u64::from(definition.not_for_sale.len());
    let available = u64::from(definition.seat_count) - blocked + places;
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
        counts,
        created_at,
    }
}
