//! What an option sells, and on what terms.

use std::fmt;
use std::sync::Arc;

use hashbrown::HashSet;
use serde::Serialize;

use super::provider::POINTS;
use super::replanning::Replanned;
use super::selling::Amended;
pub use crate::domain::bit_set::BitSet as SeatSet;
use crate::domain::seat_map::{self, Preference};
use crate::domain::seating_plan::{PlanHash, SeatingPlan};
use crate::domain::{ConcertId, Currency, Flaw, Lsn, OptionId, Points, Timestamp, cbor};

/// The most bytes that the lists with names in them may take together in the journal: beside them a record has room for a
/// bit for each seat, and for a key.
pub const LISTS_BYTES_MAX: u64 = 128 << 10;
/// The largest plan.
pub const SEATS_MAX: u64 = 1_000_000;
/// The largest area.
const CAPACITY_MAX: u64 = 1_000_000;
/// The longest time of a hold, in seconds: a day.
const HOLD_SECONDS_MAX: u64 = 86_400;
/// The longest time a payment may take, in seconds.
const PAYMENT_SECONDS_MAX: u64 = 3_600;
/// The most seats and places of one reservation.
const SEATS_PER_RESERVATION_MAX: u64 = 100;
/// The most seats and places of one user.
const SEATS_PER_USER_MAX: u64 = 10_000;

/// By so many methods an option can be paid.
const METHODS_MAX: usize = 8;

/// When an option is on sale.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Window {
    /// From when seats may be held; absent: from the start.
    #[n(0)]
    pub sale_opens_at: Option<Timestamp>,
    /// From when they may not.
    #[n(1)]
    pub sale_closes_at: Timestamp,
    /// Until when owners may have their payments refunded; absent: never.
    #[n(2)]
    pub refundable_until: Option<Timestamp>,
}

impl Window {
    /// What is wrong with it.
    #[must_use]
    pub fn flaw(&self) -> Option<Flaw> {
        let opens_in_time = self.sale_opens_at.is_none_or(|opens_at| opens_at < self.sale_closes_at);
        (!opens_in_time).then(|| Flaw::new("sale_opens_at", "must be before sale_closes_at"))
    }

    /// Whether seats may be held at `now`.
    #[must_use]
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.sale_opens_at.is_none_or(|opens_at| opens_at <= now) && now < self.sale_closes_at
    }
}

/// A change of a [`Window`]: what is `None` stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct WindowPatch {
    /// `Some(None)`: from the start.
    #[n(0)]
    #[cbor(with = "cbor::patch", has_nil)]
    pub sale_opens_at: Option<Option<Timestamp>>,
    /// `Some(None)`: when the performance starts.
    #[n(1)]
    #[cbor(with = "cbor::patch", has_nil)]
    pub sale_closes_at: Option<Option<Timestamp>>,
    /// `Some(None)`: owners get no refunds.
    #[n(2)]
    #[cbor(with = "cbor::patch", has_nil)]
    pub refundable_until: Option<Option<Timestamp>>,
}

impl WindowPatch {
    /// The window after this change.
    #[must_use]
    pub fn apply(&self, window: Window, starts_at: Timestamp) -> Window {
        Window {
            sale_opens_at: self.sale_opens_at.unwrap_or(window.sale_opens_at),
            sale_closes_at: self.sale_closes_at.map_or(window.sale_closes_at, |at| at.unwrap_or(starts_at)),
            refundable_until: self.refundable_until.unwrap_or(window.refundable_until),
        }
    }
}

/// A part of the house without numbered places.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Area {
    /// Its name, unique on its option.
    #[n(0)]
    pub name: String,
    /// How many people it takes.
    #[n(1)]
    pub capacity: u32,
    /// The category whose price its places have.
    #[n(2)]
    pub category: String,
}

/// The price of a category.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Price {
    /// The category's name.
    #[n(0)]
    pub category: String,
    /// What one seat or place of it costs.
    #[n(1)]
    pub points: Points,
}

/// Where the better seats are.
#[derive(Debug, Clone, PartialEq, minicbor::Encode, minicbor::Decode, Serialize)]
#[serde(untagged)]
pub enum Focus {
    /// Around a point.
    #[n(0)]
    Point {
        /// From the left, in the plan's own unit; finite.
        #[n(0)]
        x: f64,
        /// From the top.
        #[n(1)]
        y: f64,
    },
    /// In some zones before others.
    #[n(1)]
    Zones {
        /// Their names, best first; those that are not named come after them.
        #[n(0)]
        zones: Vec<String>,
    },
}

/// Its numbers are finite.
impl Eq for Focus {}

/// Everything about an option that was decided when it was put on sale, or changed since.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Definition {
    /// The concert it is a performance of.
    #[n(0)]
    pub concert: ConcertId,
    /// When the performance starts.
    #[n(1)]
    pub starts_at: Timestamp,
    /// When it is on sale, to begin with.
    #[n(2)]
    pub window: Window,
    /// Which seating plan it uses.
    #[n(3)]
    pub plan: PlanHash,
    /// How many seats that has, with those of plans before it that are withdrawn.
    #[n(4)]
    pub seat_count: u32,
    /// What each category costs.
    #[n(5)]
    pub prices: Vec<Price>,
    /// General admission.
    #[n(6)]
    pub areas: Vec<Area>,
    /// How long a hold lasts.
    #[n(7)]
    pub hold_seconds: u32,
    /// How long a payment may take.
    #[n(8)]
    pub payment_seconds: u32,
    /// The most seats and places of one reservation.
    #[n(9)]
    pub max_seats_per_reservation: u32,
    /// The most seats and places of one user, over all reservations that are held, paying or confirmed.
    #[n(10)]
    pub max_seats_per_user: u32,
    /// Where the better seats are; absent: in the order of the plan.
    #[n(11)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub focus: Option<Focus>,
    /// The names of categories that the best available seats are of only for those who name them.
    #[n(12)]
    #[cbor(with = "cbor::list", has_nil)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accessible: Vec<String>,
    /// Seats that are not for sale: they have no category in the plan, or are withdrawn.
    #[n(13)]
    #[serde(skip_serializing_if = "SeatSet::is_empty")]
    pub not_for_sale: SeatSet,
    /// How it can be paid; none: by points.
    #[n(14)]
    #[cbor(with = "cbor::list", has_nil)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub payment_methods: Vec<String>,
    /// What its prices are of; absent: of points.
    #[n(15)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
    /// That it is not what it was at first.
    #[n(16)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amended: Option<Box<Amended>>,
}

impl Definition {
    fn replanned(&self) -> Option<&Replanned> {
        self.amended.as_ref()?.replanned.as_deref()
    }

    /// The plans that it had before, oldest first.
    #[must_use]
    pub fn former_plans(&self) -> &[PlanHash] {
        self.replanned().map_or(&[], |replanned| &replanned.former)
    }

    /// How many seats of those plans are not in the present one.
    #[must_use]
    pub fn withdrawn(&self) -> u32 {
        self.replanned().map_or(0, |replanned| replanned.withdrawn)
    }

    /// Whether another definition of the same option is of the same seats and areas.
    #[must_use]
    pub fn has_places_of(&self, other: &Self) -> bool {
        let plans = |definition: &Self| (definition.plan, definition.former_plans().len(), definition.areas.len());
        plans(self) == plans(other)
    }

    /// Whether it can be paid by this.
    #[must_use]
    pub fn takes(&self, method: &str) -> bool {
        self.methods().any(|one| one == method)
    }

    /// How it can be paid.
    pub fn methods(&self) -> impl Iterator<Item = &str> {
        let points = self.payment_methods.is_empty().then_some(POINTS);
        points.into_iter().chain(self.payment_methods.iter().map(String::as_str))
    }

    fn flaws_of_methods(&self) -> impl Iterator<Item = Flaw> {
        let names: Vec<&str> = self.payment_methods.iter().map(String::as_str).collect();
        let others = names.iter().any(|name| *name != POINTS);
        let many = names.len() > METHODS_MAX;
        let many = many.then(|| Flaw::new("payment_methods", format!("must be at most {METHODS_MAX}")));
        let lacks = others && self.currency.is_none();
        let lacks = lacks.then(|| Flaw::new("currency", "is required with any other method than points"));
        let name = |(index, name): (usize, &&str)| Flaw::of_name(format!("payment_methods[{index}]"), name);
        let flaws: Vec<_> = names.iter().enumerate().filter_map(name).collect();
        flaws.into_iter().chain(Flaw::of_twice("payment_methods", "", &names)).chain(many).chain(lacks)
    }

    /// What is wrong with it by itself. Whether it fits its plan is to be seen where the plan is.
    #[must_use]
    pub fn flaws(&self) -> Vec<Flaw> {
        let numbers = [
            ("hold_seconds", self.hold_seconds, HOLD_SECONDS_MAX),
            ("payment_seconds", self.payment_seconds, PAYMENT_SECONDS_MAX),
            ("max_seats_per_reservation", self.max_seats_per_reservation, SEATS_PER_RESERVATION_MAX),
            ("max_seats_per_user", self.max_seats_per_user, SEATS_PER_USER_MAX),
        ];
        let numbers = numbers.into_iter().filter_map(|(name, n, max)| Flaw::of_range(name, n.into(), 1, max));
        let mut flaws: Vec<_> = numbers.chain(self.window.flaw()).collect();
        flaws.extend(self.flaw_of_lists(LISTS_BYTES_MAX));
        flaws.extend(self.flaws_of_methods());
        let seats = Flaw::of_range("seating_plan", self.seat_count.into(), 0, SEATS_MAX);
        flaws.extend(seats.map(|flaw| Flaw { message: format!("{} seats", flaw.message), ..flaw }));
        if self.seat_count == self.not_for_sale.len() && self.areas.is_empty() {
            flaws.push(Flaw::new("seating_plan", "must have seats that are for sale, unless there are areas"));
        }
        let priced: HashSet<&str> = self.prices.iter().map(|price| &*price.category).collect();
        if priced.len() < self.prices.len() {
            flaws.push(Flaw::new("prices", "must name each category once"));
        }
        for (index, area) in self.areas.iter().enumerate() {
            let field = |name: &str| format!("areas[{index}].{name}");
            flaws.extend(Flaw::of_name(field("name"), &area.name));
            flaws.extend(Flaw::of_range(field("capacity"), area.capacity.into(), 1, CAPACITY_MAX));
            if !priced.contains(&*area.category) {
                flaws.push(Flaw::new(field("category"), "has no price"));
            }
        }
        let names: Vec<&str> = self.areas.iter().map(|area| &*area.name).collect();
        flaws.extend(Flaw::of_twice("areas", ".name", &names));
        let dearest = self.prices.iter().map(|price| price.points).max().unwrap_or(Points::ZERO);
        if dearest.checked_mul(self.max_seats_per_reservation.into()).is_none() {
            let message = format!("the dearest price x max_seats_per_reservation must be at most {}", Points::MAX);
            flaws.push(Flaw::new("prices", message));
        }
        flaws.extend(self.prices.iter().filter_map(|price| {
            let category = &price.category;
            Flaw::of_name(format!("prices.{category}"), category)
        }));
        flaws
    }

    /// What is wrong if the lists with names in them may take so many bytes in the journal; names the one that takes most.
    #[must_use]
    pub fn flaw_of_lists(&self, bytes_max: u64) -> Option<Flaw> {
        let lists = [
            // Also what they were at first.
            ("prices", cbor::to_vec(&self.prices).len() + cbor::to_vec(&self.amended).len()),
            ("areas", cbor::to_vec(&self.areas).len()),
            ("accessible", cbor::to_vec(&self.accessible).len()),
            ("focus.zones", cbor::to_vec(&self.focus).len()),
        ];
        let bytes = lists.iter().map(|(_, bytes)| *bytes as u64).sum::<u64>();
        let (field, _) = lists.into_iter().max_by_key(|(_, bytes)| *bytes)?;
        (bytes > bytes_max).then(|| {
            let together = "prices, areas, accessible categories and zones in focus";
            Flaw::new(field, format!("is too long: {together} take {bytes} bytes, and may take {bytes_max}"))
        })
    }
}

/// An option's definition and its seating plan, put together: what stays the same until somebody changes what is sold.
pub struct PricedPlan {
    /// The option.
    pub option: OptionId,
    /// Its terms.
    pub definition: Definition,
    /// Its seats.
    pub plan: Arc<SeatingPlan>,
    /// Which of them are better, and kept for whom.
    pub preference: Arc<Preference>,
    /// The price of each category of the plan, by the category's place in it.
    category_prices: Vec<Points>,
    /// The price of each area, by its place in the definition.
    area_prices: Vec<Points>,
    /// What categories and areas cost at first, if that is not what they cost now.
    first: Option<(Vec<Points>, Vec<Points>)>,
    /// When each of its plans but the first came.
    replanned_at: Vec<Lsn>,
}

/// Not the plan, which is long, and in an order of its own each time.
impl fmt::Debug for PricedPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = f.debug_struct("PricedPlan");
        told.field("option", &self.option).field("version", &self.definition.version()).finish_non_exhaustive()
    }
}

impl PricedPlan {
    /// Puts them together; a category without a price costs nothing (definitions are checked before they are made).
    #[must_use]
    pub fn new(option: OptionId, definition: Definition, plan: Arc<SeatingPlan>) -> Self {
        let preference = Arc::new(preference(&definition, &plan));
        Self::with(option, definition, plan, preference)
    }

    fn with(option: OptionId, definition: Definition, plan: Arc<SeatingPlan>, preference: Arc<Preference>) -> Self {
        let by_prices = |plan: &SeatingPlan, prices: &[Price]| prices_of(plan, &definition.areas, prices);
        let (category_prices, area_prices) = by_prices(&plan, &definition.prices);
        let first_plan = plan.first().unwrap_or(&plan);
        let first = definition.amended.is_some().then(|| by_prices(first_plan, definition.first_prices()));
        let replanned_at = Vec::new();
        Self { option, definition, plan, preference, category_prices, area_prices, first, replanned_at }
    }

    /// The same seats on other terms, as long as those are of the same plans.
    pub(super) fn on_terms(&self, terms: &Definition) -> Self {
        let (of, plan) = (&self.definition, &self.plan);
        let is_same = of.focus == terms.focus && of.accessible == terms.accessible;
        let preference = if is_same { self.preference.clone() } else { Arc::new(preference(terms, plan)) };
        Self::with(self.option, terms.clone(), plan.clone(), preference).replanned_at(self.replanned_at.clone())
    }

    /// The same, of an option whose plans after the first came with these events.
    #[must_use]
    pub fn replanned_at(self, replanned_at: Vec<Lsn>) -> Self {
        Self { replanned_at, ..self }
    }

    /// The event by which the present plan has come; 0 if it is the first.
    #[must_use]
    pub fn plan_since(&self) -> Lsn {
        self.replanned_at.last().copied().unwrap_or(Lsn(0))
    }

    /// Which of the option's former plans was in force when this event was told; `None`: the present one.
    #[must_use]
    pub fn former_plan_at(&self, lsn: Lsn) -> Option<u32> {
        let came = self.replanned_at.partition_point(|at| *at <= lsn);
        (came < self.replanned_at.len()).then_some(came as u32)
    }

    /// What a seat costs; nothing if it is not for sale.
    #[must_use]
    pub fn seat_price(&self, seat: u32) -> Points {
        let category = self.plan.seat(seat).category;
        category.map_or(Points::ZERO, |category| self.category_prices[category as usize])
    }

    /// What a place in an area costs.
    #[must_use]
    pub fn area_price(&self, area: u16) -> Points {
        self.area_prices[usize::from(area)]
    }

    /// What a seat cost at first.
    #[must_use]
    pub fn first_seat_price(&self, seat: u32) -> Points {
        let Some((prices, _)) = &self.first else { return self.seat_price(seat) };
        let plan = self.plan.first().unwrap_or(&self.plan);
        // What came later was never held without its price.
        if seat >= plan.numbers() {
            return self.seat_price(seat);
        }
        plan.seat(seat).category.map_or(Points::ZERO, |category| prices[category as usize])
    }

    /// What a place in an area cost at first.
    #[must_use]
    pub fn first_area_price(&self, area: u16) -> Points {
        let Some((_, prices)) = &self.first else { return self.area_price(area) };
        prices[usize::from(area)]
    }
}

/// What the categories of a plan and areas cost.
fn prices_of(plan: &SeatingPlan, areas: &[Area], prices: &[Price]) -> (Vec<Points>, Vec<Points>) {
    let price = |category: &str| {
        let price = prices.iter().find(|price| price.category == category);
        price.map_or(Points::ZERO, |price| price.points)
    };
    let categories = plan.known_categories().iter().map(|category| price(&category.name)).collect();
    (categories, areas.iter().map(|area| price(&area.category)).collect())
}

/// Names that the plan does not have say nothing; definitions are checked before they are made.
fn preference(definition: &Definition, plan: &SeatingPlan) -> Preference {
    let focus = definition.focus.as_ref().map(|focus| match focus {
        Focus::Point { x, y } => seat_map::Focus::Point([*x, *y]),
        Focus::Zones { zones } => {
            seat_map::Focus::Zones(zones.iter().filter_map(|zone| plan.zone_index(zone)).collect())
        }
    });
    let accessible = definition.accessible.iter().filter_map(|category| plan.category_index(category));
    Preference::new(plan, focus, &accessible.collect::<Vec<_>>())
}

impl PartialEq for PricedPlan {
    fn eq(&self, other: &Self) -> bool {
        self.option == other.option
    }
}

impl Eq for PricedPlan {}
