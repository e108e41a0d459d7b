//! The seats of a house: who sits beside whom, and what each seat is called.
//!
//! A plan is parsed once from the open seating-plan JSON of pretix and never changes. Seats are numbered from 0 in the
//! order in which the plan lists them. Events know seats by these numbers. A plan that [follows](SeatingPlan::after) another
//! numbers on: a seat of both keeps its number, and one that is withdrawn is known as it was.
//!
//! Who sits beside whom is told by where seats stand. Their *places* are counted along each row, so each run, row and zone
//! is a range of places; in most plans the place of a seat is its number.
//!
//! Architecture invariant: nothing in here knows which seats are free, or what they cost.

mod following;
mod neighbors;
mod parse;

use std::fmt;
use std::hash::BuildHasher;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};
use sha2::{Digest, Sha256};

/// The longest guid of a seat, in characters.
pub const GUID_CHARS_MAX: usize = 190;
/// The longest number of a seat, in characters.
pub const NUMBER_CHARS_MAX: usize = 190;
/// The longest name or label of a row, zone, category or color, in characters.
pub const NAME_CHARS_MAX: usize = 200;

/// A seating plan.
#[derive(Debug, Clone)]
pub struct SeatingPlan {
    /// By number.
    seats: Box<[Place]>,
    /// Behind its own, those that only withdrawn seats were in; so with zones and categories.
    rows: Box<[Row]>,
    zones: Box<[Zone]>,
    categories: Box<[Category]>,
    own: Own,
    /// The first of the plans that it follows.
    first: Option<Arc<Self>>,
    runs: Box<[Run]>,
    /// Which runs are rings.
    rings: Box<[u32]>,
    /// The seat at each place; empty if that is its number everywhere.
    order: Box<[u32]>,
    /// Where it is not.
    moved: Box<[Moved]>,
    /// Of each category, the maximal ranges of places whose seats belong to it, ascending.
    by_category: Box<[Vec<Range<u32>>]>,
    by_guid: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// Guid and number of each seat, end to end: two allocations a seat would cost more than all the rest.
    text: Box<str>,
}

/// How many there are that are not only known of withdrawn seats.
#[derive(Debug, Clone, Copy)]
struct Own {
    seats: u32,
    rows: u32,
    zones: u32,
    categories: u32,
}

/// Places whose seats have other numbers, each one more than the seat before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The places.
    pub places: Range<u32>,
    /// The number of the seat at the first.
    pub seat: u32,
}

/// A seat as it is kept; [`Seat`] is what callers see of it.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Where its guid starts in the text of the plan; its number follows.
    text: u32,
    guid_bytes: u16,
    number_bytes: u16,
    row: u32,
    x: f32,
    y: f32,
    /// [`NOT_FOR_SALE`] if it has none.
    category: u32,
}

/// Stands for no category.
const NOT_FOR_SALE: u32 = u32::MAX;

/// One seat.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seat<'a> {
    /// Unique in the plan, 1 to [`GUID_CHARS_MAX`] characters.
    pub guid: &'a str,
    /// What is written on it; may be empty, and says nothing of what is beside it.
    pub number: &'a str,
    /// Index of its [row](SeatingPlan::row).
    pub row: u32,
    /// Index of its [category](SeatingPlan::category); `None`: it is not for sale.
    pub category: Option<u32>,
    /// Where it stands, in the plan's own unit (pixels of its editor), from the left.
    pub x: f32,
    /// From the top.
    pub y: f32,
}

/// Seats that the plan lists together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Index of its zone.
    pub zone: u32,
    /// What it is called; may be empty.
    pub name: Box<str>,
    /// What to call it in texts, in place of "row" and its name; may be empty.
    pub label: Box<str>,
    /// What to call a seat of it in texts, where `%s` stands for its number; may be empty.
    pub seat_label: Box<str>,
    /// The places of its seats.
    pub places: Range<u32>,
}

impl Row {
    /// What to call one of its seats in texts, if the plan says so.
    #[must_use]
    pub fn seat_label(&self, number: &str) -> Option<String> {
        (!self.seat_label.is_empty()).then(|| self.seat_label.replace("%s", number))
    }
}

/// A part of the house.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// What it is called; may be empty, and other zones may be called the same.
    pub name: Box<str>,
    /// Its rows.
    pub rows: Range<u32>,
    /// The places of its seats.
    pub places: Range<u32>,
}

/// What seats of one price have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Category {
    /// Unique in the plan, 1 to [`NAME_CHARS_MAX`] characters.
    pub name: Box<str>,
    /// How it is drawn; may be empty.
    pub color: Box<str>,
}

/// A maximal stretch of seats of one row of which each is beside the next.
///
/// Two seats of a row are neighbors when their distance is at most 1.5 times that from either to whatever seat of the row is
/// nearest to it. A seat has at most two, on opposite sides; of more that are near enough the nearest. So the two seats of a
/// row of two are always neighbors, and so are all seats of a row that gives no positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Index of its row.
    pub row: u32,
    /// Its places, at least one.
    pub places: Range<u32>,
    /// Whether the last place is beside the first, as at a round table.
    pub is_ring: bool,
}

/// How large a plan may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of its JSON; default 32 MiB.
    pub bytes_max: usize,
    /// Seats; default 200,000.
    pub seats_max: usize,
    /// Rows, empty ones included; default 200,000.
    pub rows_max: usize,
    /// Zones; default 10,000.
    pub zones_max: usize,
    /// Categories, up to 65,535; default 1,000.
    pub categories_max: u16,
    /// After how many problems to stop looking; default 20.
    pub problems_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes_max: 32 << 20,
            seats_max: 200_000,
            rows_max: 200_000,
            zones_max: 10_000,
            categories_max: 1_000,
            problems_max: 20,
        }
    }
}

/// Something in a plan that stands against it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path} {message}")]
pub struct Problem {
    /// Where, such as `zones[0].rows[3].seats[2].seat_guid`; empty for the plan as a whole.
    pub path: String,
    /// What, to be read after the path: `is missing`.
    pub message: String,
}

impl SeatingPlan {
    /// Reads a plan in the open seating-plan JSON of pretix. Members that it does not know are ignored. Zones, categories,
    /// the rows of a zone and the seats of a row must be lists; a seat needs a guid and a category, a category a name. Other
    /// texts, numbers and positions that are absent or `null` are taken for empty or zero.
    ///
    /// A seat whose category is the empty text is not for sale. A plan without seats is fine, as for a house with general
    /// admission only.
    ///
    /// # Errors
    /// Every problem found, up to [`Limits::problems_max`], never none: text that is not JSON, a member given twice (at
    /// any depth, known or not), a required member that is missing, a wrong type, two seats with one guid, two categories
    /// with one name, a seat of no known category, a position outside the finite range of `f32`, a text or a plan beyond
    /// its limits.
    pub fn parse(json: &[u8], limits: &Limits) -> Result<Self, Vec<Problem>> {
        parse::parse(json, limits, parse::Rules::New)
    }

    /// Reads a plan that was taken once, under limits and rules that may have been wider.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), but for lists that are `null` or missing, and wrong types in what is only drawn.
    pub fn restore(json: &[u8]) -> Result<Self, Vec<Problem>> {
        let limits = Limits {
            bytes_max: usize::MAX,
            seats_max: usize::MAX,
            rows_max: usize::MAX,
            zones_max: usize::MAX,
            categories_max: u16::MAX,
            ..Limits::default()
        };
        parse::parse(json, &limits, parse::Rules::Old)
    }

    /// How many seats it has, each at a place.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.own.seats
    }

    /// Whether it has no seats.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.own.seats == 0
    }

    /// How many numbers are given: to its seats, and to those that were withdrawn.
    #[must_use]
    pub fn numbers(&self) -> u32 {
        self.seats.len() as u32
    }

    /// Whether a seat was in a plan that this one follows, and is not in this one.
    ///
    /// # Panics
    /// If there is no such seat.
    #[must_use]
    pub fn is_withdrawn(&self, seat: u32) -> bool {
        self.seats[seat as usize].row >= self.own.rows
    }

    /// The first of the plans that it follows, if there are some.
    #[must_use]
    pub fn first(&self) -> Option<&Arc<Self>> {
        self.first.as_ref()
    }

    /// One seat; one that is withdrawn as it was last.
    ///
    /// # Panics
    /// If there is no such seat.
    #[must_use]
    pub fn seat(&self, index: u32) -> Seat<'_> {
        let place = &self.seats[index as usize];
        Seat {
            guid: guid(&self.text, place),
            number: number(&self.text, place),
            row: place.row,
            category: (place.category != NOT_FOR_SALE).then_some(place.category),
            x: place.x,
            y: place.y,
        }
    }

    /// All seats, in the order of their numbers.
    pub fn seats(&self) -> impl Iterator<Item = Seat<'_>> {
        (0..self.numbers()).filter(|seat| !self.is_withdrawn(*seat)).map(|seat| self.seat(seat))
    }

    /// Where a seat stands, as `[x, y]`.
    ///
    /// # Panics
    /// If there is no such seat.
    #[must_use]
    pub fn position(&self, index: u32) -> [f32; 2] {
        let place = &self.seats[index as usize];
        [place.x, place.y]
    }

    /// The seats that are not for sale, ascending: they have no category, or are withdrawn.
    pub fn not_for_sale(&self) -> impl Iterator<Item = u32> {
        let is_not = |seat: &Place| seat.category == NOT_FOR_SALE || seat.row >= self.own.rows;
        (0..).zip(&self.seats).filter(move |(_, seat)| is_not(seat)).map(|(index, _)| index)
    }

    /// The seat at a place.
    ///
    /// # Panics
    /// If there is no such place.
    #[must_use]
    pub fn seat_at(&self, place: u32) -> u32 {
        if self.order.is_empty() { place } else { self.order[place as usize] }
    }

    /// Whether the place of some seat is not its number.
    #[must_use]
    pub fn is_reordered(&self) -> bool {
        !self.moved.is_empty()
    }

    /// The places whose seat has another number, ascending: few stretches, where few rows are not listed in their order.
    #[must_use]
    pub fn moved(&self) -> &[Moved] {
        &self.moved
    }

    /// The number of the seat with this guid.
    #[must_use]
    pub fn seat_index(&self, guid: &str) -> Option<u32> {
        self.known_seat(guid).filter(|seat| !self.is_withdrawn(*seat))
    }

    /// As [`seat_index`](Self::seat_index), also of a seat that is withdrawn.
    #[must_use]
    pub fn known_seat(&self, guid_wanted: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(guid_wanted);
        self.by_guid.find(hash, |&index| guid(&self.text, &self.seats[index as usize]) == guid_wanted).copied()
    }

    /// The rows, in order. A row may have no seats.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows[..self.own.rows as usize]
    }

    /// The row of a seat, also of one that is withdrawn.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn row(&self, index: u32) -> &Row {
        &self.rows[index as usize]
    }

    /// The zones, in order.
    #[must_use]
    pub fn zones(&self) -> &[Zone] {
        &self.zones[..self.own.zones as usize]
    }

    /// The zone of a row, also of one that only withdrawn seats were in.
    ///
    /// # Panics
    /// If there is no such zone.
    #[must_use]
    pub fn zone(&self, index: u32) -> &Zone {
        &self.zones[index as usize]
    }

    /// The index of the first zone of this name.
    #[must_use]
    pub fn zone_index(&self, name: &str) -> Option<u32> {
        self.zones().iter().position(|zone| &*zone.name == name).map(|index| index as u32)
    }

    /// The categories, in order.
    #[must_use]
    pub fn categories(&self) -> &[Category] {
        &self.categories[..self.own.categories as usize]
    }

    /// As [`categories`](Self::categories), and those that only withdrawn seats were of.
    #[must_use]
    pub fn known_categories(&self) -> &[Category] {
        &self.categories
    }

    /// The category of a seat, also of one that is withdrawn.
    ///
    /// # Panics
    /// If there is no such category.
    #[must_use]
    pub fn category(&self, index: u32) -> &Category {
        &self.categories[index as usize]
    }

    /// The index of the category of this name.
    #[must_use]
    pub fn category_index(&self, name: &str) -> Option<u32> {
        self.categories().iter().position(|category| &*category.name == name).map(|index| index as u32)
    }

    /// The places of a category, as ascending ranges that do not touch; `None` if there is no such category.
    #[must_use]
    pub fn category_places(&self, category: u32) -> Option<&[Range<u32>]> {
        self.by_category.get(category as usize).map(Vec::as_slice)
    }

    /// The runs, in the order of their places. Every seat is in one.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The indices of the runs that are rings, ascending.
    #[must_use]
    pub fn rings(&self) -> &[u32] {
        &self.rings
    }
}

fn guid<'a>(text: &'a str, place: &Place) -> &'a str {
    let start = place.text as usize;
    &text[start..start + usize::from(place.guid_bytes)]
}

fn number<'a>(text: &'a str, place: &Place) -> &'a str {
    let start = place.text as usize + usize::from(place.guid_bytes);
    &text[start..start + usize::from(place.number_bytes)]
}

/// The name of a plan: the SHA-256 of its JSON, byte for byte as it was given. Its text form is 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct PlanHash(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub [u8; 32],
);

impl PlanHash {
    /// The hash of a plan's JSON.
    #[must_use]
    pub fn of(json: &[u8]) -> Self {
        Self(Sha256::digest(json).into())
    }
}

impl fmt::Display for PlanHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", base16ct::HexDisplay(&self.0))
    }
}

impl fmt::Debug for PlanHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for PlanHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for PlanHash {
    type Err = ParsePlanHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut hash = [0; 32];
        // In lower case only, so that a hash has one text form.
        let whole = base16ct::lower::decode(text, &mut hash).is_ok_and(|bytes| bytes.len() == 32);
        whole.then_some(Self(hash)).ok_or(ParsePlanHashError)
    }
}

/// Not the hash of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 64 lower-case hexadecimal digits")]
pub struct ParsePlanHashError;

#[cfg(test)]
mod tests;
