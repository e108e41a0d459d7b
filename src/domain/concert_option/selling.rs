//! What can change of an option while it is sold: times, prices for holds from then on, limits, and how many an area takes.
//!
//! What is held or paid already stays as it was: prices stand in the hold.

use std::borrow::Cow;

use serde::Serialize;

use super::replanning::Replanned;
use super::*;

/// A change of one area; of areas that are new to the option all of it is needed.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct AreaPatch {
    /// Its name.
    #[n(0)]
    pub name: String,
    /// How many people it takes from then on.
    #[n(1)]
    pub capacity: Option<u32>,
    /// The category whose price its places have. That of a known area stays.
    #[n(2)]
    pub category: Option<String>,
}

/// A change of what an option sells, and on what terms: what is `None`, or not named, stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct OptionPatch {
    /// When it is on sale.
    #[n(0)]
    pub window: WindowPatch,
    /// When the performance starts. Where the sale closed when it started, it still does.
    #[n(1)]
    pub starts_at: Option<Timestamp>,
    /// What categories cost from then on.
    #[n(2)]
    pub prices: Vec<Price>,
    /// By their names.
    #[n(3)]
    pub areas: Vec<AreaPatch>,
    /// How long a hold lasts.
    #[n(4)]
    pub hold_seconds: Option<u32>,
    /// How long a payment may take.
    #[n(5)]
    pub payment_seconds: Option<u32>,
    /// The most seats and places of one reservation.
    #[n(6)]
    pub max_seats_per_reservation: Option<u32>,
    /// The most seats and places of one user.
    #[n(7)]
    pub max_seats_per_user: Option<u32>,
}

/// That an option is not what it was defined as.
#[derive(Debug, Clone, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Amended {
    /// How often it was changed.
    #[n(0)]
    pub version: u64,
    /// What categories cost at first: holds of before prices were kept have these.
    #[n(1)]
    pub first_prices: Vec<Price>,
    /// That its seating plan was changed.
    #[n(2)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replanned: Option<Box<Replanned>>,
}

impl OptionPatch {
    /// The terms after this change, if the present ones are these and the option is on sale in this window.
    ///
    /// # Errors
    /// What cannot be changed so.
    pub fn apply(&self, terms: &Definition, window: Window) -> Result<Definition, Flaw> {
        let mut then = terms.clone();
        then.starts_at = self.starts_at.unwrap_or(terms.starts_at);
        let closes_as_it_starts = window.sale_closes_at == terms.starts_at;
        let sale_closes_at = if closes_as_it_starts { then.starts_at } else { window.sale_closes_at };
        then.window = self.window.apply(Window { sale_closes_at, ..window }, then.starts_at);
        then.set_prices(&self.prices);
        for (index, area) in self.areas.iter().enumerate() {
            let flaw = |member: &str, message: &str| Flaw::new(format!("areas[{index}].{member}"), message);
            let known = then.areas.iter_mut().find(|known| known.name == area.name);
            match (known, area.capacity, &area.category) {
                (Some(known), ..) if area.category.as_ref().is_some_and(|category| *category != known.category) => {
                    return Err(flaw("category", "of an area that is sold cannot change"));
                }
                (Some(known), capacity, _) => known.capacity = capacity.unwrap_or(known.capacity),
                (None, Some(capacity), Some(category)) => {
                    let (name, category) = (area.name.clone(), category.clone());
                    then.areas.push(Area { name, capacity, category });
                }
                (None, None, _) => return Err(flaw("capacity", "is missing: there is no area of this name yet")),
                (None, _, None) => return Err(flaw("category", "is missing: there is no area of this name yet")),
            }
        }
        let set = |value: &mut u32, to: Option<u32>| *value = to.unwrap_or(*value);
        set(&mut then.hold_seconds, self.hold_seconds);
        set(&mut then.payment_seconds, self.payment_seconds);
        set(&mut then.max_seats_per_reservation, self.max_seats_per_reservation);
        set(&mut then.max_seats_per_user, self.max_seats_per_user);
        Ok(then)
    }
}

impl Definition {
    /// How often it was changed since it was put on sale.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.amended.as_ref().map_or(0, |amended| amended.version)
    }

    /// Gives these categories these prices, whether they had others or none.
    pub(super) fn set_prices(&mut self, prices: &[Price]) {
        for price in prices {
            match self.prices.iter_mut().find(|known| known.category == price.category) {
                Some(known) => known.points = price.points,
                None => self.prices.push(price.clone()),
            }
        }
    }

    /// Makes it the version after `before`.
    pub(super) fn amend(&mut self, before: &Self, replanned: Option<Box<Replanned>>) {
        let first_prices = before.first_prices().to_vec();
        self.amended = Some(Box::new(Amended { version: before.version() + 1, first_prices, replanned }));
    }

    /// What categories cost at first, if that has changed since.
    pub(super) fn first_prices(&self) -> &[Price] {
        self.amended.as_ref().map_or(&self.prices, |amended| &amended.first_prices)
    }
}

impl ConcertOption {
    pub(super) fn decide_change(
        &self,
        patch: &OptionPatch,
        by: &UserId,
        out: &mut Decided<Event>,
    ) -> Result<Answer<Reply>, Rejection> {
        let terms = self.definition().ok_or(Rejection::NotFound)?;
        let names: Vec<&str> = patch.areas.iter().map(|area| &*area.name).collect();
        Flaw::refuse(Flaw::of_twice("areas", ".name", &names))?;
        let mut then = patch.apply(terms, self.header.window).map_err(|flaw| Rejection::Invalid(vec![flaw]))?;
        Flaw::refuse(then.flaws())?;
        for (area, state) in then.areas.iter().zip(&self.header.areas) {
            let in_use = state.held + state.sold;
            if area.capacity < in_use {
                return Err(Rejection::CapacityInUse { area: area.name.clone(), in_use: in_use.into() });
            }
        }
        let (window, before) = (then.window, Definition { window: then.window, ..terms.clone() });
        if then != before {
            let replanned = terms.amended.as_ref().and_then(|amended| amended.replanned.clone());
            then.amend(terms, replanned);
            Flaw::refuse(then.flaw_of_lists(LISTS_BYTES_MAX))?;
            out.events.push(Event::OptionChanged { definition: Box::new(then), by: by.clone(), key: None });
        } else if window != self.header.window {
            out.events.push(Event::OptionRescheduled { window, by: Some(by.clone()) });
        }
        Ok(Answer::Reply(Reply::Done))
    }

    /// The command with the plan that it brings along on the terms of now, if those have changed since; `None` if the plan has:
    /// that is known where plans are.
    pub(super) fn on_present_terms<'a>(&self, command: &'a Command) -> Option<Cow<'a, Command>> {
        let (Some(terms), Some(plan)) = (self.definition(), command.plan()) else {
            return Some(Cow::Borrowed(command));
        };
        let known = &plan.definition;
        if (terms.plan, terms.former_plans().len()) != (known.plan, known.former_plans().len()) {
            return None;
        }
        if terms.version() == known.version() {
            return Some(Cow::Borrowed(command));
        }
        let plan = Arc::new(plan.on_terms(terms));
        let mut command = command.clone();
        if let Some(known) = command.plan_mut() {
            *known = plan;
        }
        Some(Cow::Owned(command))
    }

    pub(super) fn evolve_option_changed(
        &mut self,
        lsn: Lsn,
        definition: &Definition,
        changes: &mut impl Changes<Part>,
    ) -> Option<()> {
        self.evolve_replanned(lsn, definition, changes);
        let terms = self.terms.as_mut()?;
        let areas = &mut self.header.areas;
        areas.resize(definition.areas.len(), AreaState::default());
        let before = terms.definition.areas.iter().map(|area| area.capacity).chain(std::iter::repeat(0));
        for ((area, state), before) in definition.areas.iter().zip(areas).zip(before) {
            if area.capacity != before {
                (state.seq, self.header.seq) = (lsn, lsn);
                // A place that is not there any more is not blocked either.
                state.blocked = state.blocked.min(area.capacity - state.held - state.sold);
            }
        }
        self.header.window = definition.window;
        *terms.definition = definition.clone();
        changes.touch(Part::Terms);
        changes.touch(Part::Header);
        Some(())
    }
}
