//! The house that is sold: a seating plan from a file, or one that is made.

use serde_json::json;

use crate::domain::seating_plan::{Limits, SeatingPlan};

/// Seats of a row in a house that is made.
const SEATS_PER_ROW: usize = 50;
/// Rows of a zone in a house that is made.
const ROWS_PER_ZONE: usize = 20;
/// Its categories, from the front.
const CATEGORIES: [&str; 3] = ["Gold", "Silver", "Bronze"];

/// A seating plan, as JSON and read.
#[derive(Debug)]
pub struct House {
    /// As it is given to the system.
    pub json: Vec<u8>,
    /// As the harness knows it: callers are told of seats by their numbers in it.
    pub plan: SeatingPlan,
    /// What each category costs, by its index.
    pub prices: Vec<(String, u64)>,
}

/// A seating plan that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the seating plan cannot be used: {0}")]
pub struct Error(String);

impl House {
    /// The house of a seating plan in the pretix format. Its categories cost 100 points, 90, and so on, down to 10.
    ///
    /// # Errors
    /// It is not such a plan.
    pub fn read(json: Vec<u8>) -> Result<Self, Error> {
        let limits = Limits { bytes_max: usize::MAX, seats_max: usize::MAX, ..Limits::default() };
        let plan = SeatingPlan::parse(&json, &limits)
            .map_err(|problems| Error(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))?;
        if plan.is_empty() {
            return Err(Error("it has no seats".into()));
        }
        if plan.not_for_sale().next().is_some() {
            return Err(Error("it has seats that are not for sale, and the harness would ask for them".into()));
        }
        let prices = plan.categories().iter().zip((10..=100).rev().step_by(10).chain(std::iter::repeat(10)));
        let prices = prices.map(|(category, price)| (category.name.to_string(), price)).collect();
        Ok(Self { json, plan, prices })
    }

    /// A house of so many seats: rows of 50, zones of 20 rows, three categories.
    ///
    /// # Errors
    /// None, but for a house without seats.
    pub fn of(seats: usize) -> Result<Self, Error> {
        let rows = seats.div_ceil(SEATS_PER_ROW);
        let zones = rows.div_ceil(ROWS_PER_ZONE);
        let seat = |zone: usize, row: usize, n: usize| {
            json!({"seat_guid": format!("{}-{}-{}", zone + 1, row % ROWS_PER_ZONE + 1, n + 1),
                "seat_number": (n + 1).to_string(), "category": CATEGORIES[zone * CATEGORIES.len() / zones],
                "position": {"x": n * 30, "y": row * 40}})
        };
        let row = |zone: usize, row: usize| {
            let width = SEATS_PER_ROW.min(seats - row * SEATS_PER_ROW);
            let seats: Vec<_> = (0..width).map(|n| seat(zone, row, n)).collect();
            json!({"row_number": (row % ROWS_PER_ZONE + 1).to_string(), "seats": seats})
        };
        let zone = |zone: usize| {
            let first = zone * ROWS_PER_ZONE;
            let rows: Vec<_> = (first..rows.min(first + ROWS_PER_ZONE)).map(|n| row(zone, n)).collect();
            json!({"name": format!("Block {}", zone + 1), "rows": rows})
        };
        let zones: Vec<_> = (0..zones).map(zone).collect();
        let plan =
            json!({"name": "Load test", "categories": CATEGORIES.map(|name| json!({"name": name})), "zones": zones});
        Self::read(plan.to_string().into_bytes())
    }

    /// How many seats it has.
    #[must_use]
    pub fn seats(&self) -> usize {
        self.plan.len() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_house_has_as_many_seats_as_are_asked_for() {
        for seats in [1, 50, 51, 1_000, 1_001, 2_049, 10_000] {
            assert_eq!(House::of(seats).unwrap().seats(), seats);
        }
        let house = House::of(3_000).unwrap();
        assert_eq!(house.prices, [("Gold".to_owned(), 100), ("Silver".to_owned(), 90), ("Bronze".to_owned(), 80)]);
        assert!(House::of(0).is_err());
    }
}
