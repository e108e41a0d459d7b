//! What an option sells, and on what terms.

use std::sync::Arc;

use hashbrown::HashSet;
use serde::Serialize;

use crate::domain::seating_plan::{PlanHash, SeatingPlan};
use crate::domain::{ConcertId, Flaw, OptionId, Points, Timestamp};

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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WindowPatch {
    /// `Some(None)`: from the start.
    pub sale_opens_at: Option<Option<Timestamp>>,
    /// `Some(None)`: when the performance starts.
    pub sale_closes_at: Option<Option<Timestamp>>,
    /// `Some(None)`: owners get no refunds.
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

/// Everything about an option that was decided when it was put on sale. Only the window can change later.
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
    /// How many seats that has.
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
}

impl Definition {
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
        if self.seat_count == 0 && self.areas.is_empty() {
            flaws.push(Flaw::new("seating_plan", "must have seats, unless there are areas"));
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
}

/// An option's definition and its seating plan, put together: all that stays the same while it is sold.
#[derive(Debug)]
pub struct PricedPlan {
    /// The option.
    pub option: OptionId,
    /// Its terms.
    pub definition: Definition,
    /// Its seats.
    pub plan: Arc<SeatingPlan>,
    /// The price of each category of the plan, by the category's place in it.
    category_prices: Vec<Points>,
    /// The price of each area, by its place in the definition.
    area_prices: Vec<Points>,
}

impl PricedPlan {
    /// Puts them together; a category without a price costs nothing (definitions are checked before they are made).
    #[must_use]
    pub fn new(option: OptionId, definition: Definition, plan: Arc<SeatingPlan>) -> Self {
        let price = |category: &str| {
            let price = definition.prices.iter().find(|price| price.category == category);
            price.map_or(Points::ZERO, |price| price.points)
        };
        let category_prices = plan.categories().iter().map(|category| price(&category.name)).collect();
        let area_prices = definition.areas.iter().map(|area| price(&area.category)).collect();
        Self { option, definition, plan, category_prices, area_prices }
    }

    /// What a seat costs.
    #[must_use]
    pub fn seat_price(&self, seat: u32) -> Points {
        self.category_prices[self.plan.seat(seat).category as usize]
    }

    /// What a place in an area costs.
    #[must_use]
    pub fn area_price(&self, area: u16) -> Points {
        self.area_prices[usize::from(area)]
    }
}

impl PartialEq for PricedPlan {
    fn eq(&self, other: &Self) -> bool {
        self.option == other.option
    }
}

impl Eq for PricedPlan {}
