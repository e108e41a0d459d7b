//! One plan in the place of another: seats are known again by their guids, and keep their numbers.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{HashMap, HashTable};

use super::{Category, Moved, NOT_FOR_SALE, Own, Place, Row, SeatingPlan, Zone, guid, number};

impl SeatingPlan {
    /// This plan, as one that takes the place of `before`. Its seats that are known there, in that plan or from one that it
    /// follows, have the numbers that they had; others get the next ones, in their order. What is withdrawn keeps its number, and
    /// is known as it was. This plan must not follow one itself.
    #[must_use]
    pub fn after(self, before: &Arc<Self>) -> Self {
        debug_assert!(self.first.is_none(), "it follows another plan");
        let mut next = before.numbers();
        let numbers: Vec<u32> = (0..self.len())
            .map(|index| {
                before.known_seat(guid(&self.text, &self.seats[index as usize])).unwrap_or_else(|| {
                    next += 1;
                    next - 1
                })
            })
            .collect();
        let mut seats: Vec<Option<Place>> = vec![None; next as usize];
        for (place, number) in self.seats.iter().zip(&numbers) {
            seats[*number as usize] = Some(*place);
        }
        let order: Vec<u32> = (0..self.len()).map(|place| numbers[self.seat_at(place) as usize]).collect();
        let order = if order.iter().copied().eq(0..self.len()) { Vec::new() } else { order };
        let mut withdrawn = Withdrawn::of(self, before);
        let of_before = before.seats.iter().copied().map(Some).chain(std::iter::repeat(None));
        // Of each number one of the two knows a seat.
        let seats = seats.into_iter().zip(of_before);
        let seats: Box<[Place]> =
            seats.filter_map(|(own, old)| own.or_else(|| old.map(|old| withdrawn.keep(old)))).collect();
        let Withdrawn { plan, text, rows, zones, categories, .. } = withdrawn;
        let text: Box<str> = text.into();
        let mut by_guid = HashTable::with_capacity(seats.len());
        let hash = |seat: &u32| plan.hasher.hash_one(guid(&text, &seats[*seat as usize]));
        for seat in 0..seats.len() as u32 {
            by_guid.insert_unique(hash(&seat), seat, hash);
        }
        Self {
            moved: moved(&order),
            order: order.into(),
            seats,
            rows: rows.into(),
            zones: zones.into(),
            categories: categories.into(),
            first: Some(before.first.clone().unwrap_or_else(|| before.clone())),
            by_guid,
            text,
            ..plan
        }
    }
}

/// A plan, to which what is known of withdrawn seats is added.
struct Withdrawn<'a> {
    before: &'a SeatingPlan,
    text: String,
    rows: Vec<Row>,
    zones: Vec<Zone>,
    categories: Vec<Category>,
    /// By the numbers that they have in the plan before.
    row_of: HashMap<u32, u32>,
    zone_of: HashMap<u32, u32>,
    category_of: HashMap<u32, u32>,
    plan: SeatingPlan,
}

impl<'a> Withdrawn<'a> {
    fn of(mut plan: SeatingPlan, before: &'a SeatingPlan) -> Self {
        let (text, rows) = (std::mem::take(&mut plan.text).into(), std::mem::take(&mut plan.rows).into());
        let (zones, categories) = (std::mem::take(&mut plan.zones).into(), std::mem::take(&mut plan.categories).into());
        let (row_of, zone_of, category_of) = Default::default();
        Self { before, text, rows, zones, categories, row_of, zone_of, category_of, plan }
    }

    /// A seat of the plan before, as one that is withdrawn.
    fn keep(&mut self, seat: Place) -> Place {
        let text = self.text.len() as u32;
        self.text.push_str(guid(&self.before.text, &seat));
        self.text.push_str(number(&self.before.text, &seat));
        let category = if seat.category == NOT_FOR_SALE { NOT_FOR_SALE } else { self.keep_category(seat.category) };
        Place { text, row: self.keep_row(seat.row), category, ..seat }
    }

    fn keep_row(&mut self, index: u32) -> u32 {
        if let Some(known) = self.row_of.get(&index) {
            return *known;
        }
        let row = self.before.row(index);
        let (zone, end) = (self.keep_zone(row.zone), self.plan.own.seats);
        let kept = self.rows.len() as u32;
        self.rows.push(Row { zone, places: end..end, ..row.clone() });
        self.row_of.insert(index, kept);
        kept
    }

    fn keep_zone(&mut self, index: u32) -> u32 {
        if let Some(known) = self.zone_of.get(&index) {
            return *known;
        }
        let Own { seats: end, rows, .. } = self.plan.own;
        let kept = self.zones.len() as u32;
        self.zones.push(Zone { rows: rows..rows, places: end..end, ..self.before.zone(index).clone() });
        self.zone_of.insert(index, kept);
        kept
    }

    fn keep_category(&mut self, index: u32) -> u32 {
        if let Some(known) = self.category_of.get(&index) {
            return *known;
        }
        let category = self.before.category(index);
        let known = self.categories.iter().position(|known| known.name == category.name);
        let kept = known.unwrap_or(self.categories.len()) as u32;
        if known.is_none() {
            self.categories.push(category.clone());
        }
        self.category_of.insert(index, kept);
        kept
    }
}

/// The places whose seat has another number, in stretches; `order` has the seat at each place, if it is not that everywhere.
pub(super) fn moved(order: &[u32]) -> Box<[Moved]> {
    let mut moved: Vec<Moved> = Vec::new();
    for (place, &seat) in (0..).zip(order).filter(|(place, seat)| place != *seat) {
        match moved.last_mut() {
            Some(last) if last.places.end == place && last.seat + last.places.len() as u32 == seat => {
                last.places.end += 1;
            }
            _ => moved.push(Moved { places: place..place + 1, seat }),
        }
    }
    moved.into()
}

#[cfg(test)]
mod tests;
