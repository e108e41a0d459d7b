//! Three seating plans, from small to large, as JSON.

use std::f64::consts::TAU;

use serde::Serialize;

/// A theatre of 1,551 seats: stalls and two circles, curved rows, and two aisles through each row.
#[must_use]
pub fn theatre() -> Vec<u8> {
    include_bytes!("../../assets/theatre.json").to_vec()
}

/// An arena of 13,824 seats: two tiers of 24 blocks around a floor, each a zone of 16 rows of 18 seats.
#[must_use]
pub fn arena() -> Vec<u8> {
    Bowl { name: "Arena", tiers: 2, blocks: 24, rows: 16, seats_per_row: 18, radius: 600 }.json()
}

/// A stadium of 60,000 seats: three tiers of 40 blocks around a field, each a zone of 25 rows of 20 seats.
#[must_use]
pub fn stadium() -> Vec<u8> {
    Bowl { name: "Stadium", tiers: 3, blocks: 40, rows: 25, seats_per_row: 20, radius: 1500 }.json()
}

/// A ring of blocks around a floor.
struct Bowl {
    name: &'static str,
    tiers: u32,
    blocks: u32,
    rows: u32,
    seats_per_row: u32,
    radius: u32,
}

#[derive(Serialize)]
struct Plan {
    name: &'static str,
    size: Size,
    categories: [Category; 3],
    zones: Vec<Zone>,
}

#[derive(Serialize)]
struct Size {
    width: u32,
    height: u32,
}

#[derive(Serialize)]
struct Category {
    name: &'static str,
    color: &'static str,
}

#[derive(Serialize)]
struct Zone {
    name: String,
    position: Position,
    rows: Vec<Row>,
    areas: [(); 0],
}

#[derive(Serialize)]
struct Row {
    row_number: String,
    position: Position,
    seats: Vec<Seat>,
}

#[derive(Serialize)]
struct Seat {
    seat_guid: String,
    seat_number: String,
    position: Position,
    category: &'static str,
}

#[derive(Serialize)]
struct Position {
    x: i64,
    y: i64,
}

const ORIGIN: Position = Position { x: 0, y: 0 };

impl Bowl {
    fn json(&self) -> Vec<u8> {
        let blocks = (0..self.tiers).flat_map(|tier| (0..self.blocks).map(move |block| (tier, block)));
        let plan = Plan {
            name: self.name,
            size: Size { width: self.radius * 8, height: self.radius * 8 },
            categories: [
                Category { name: "Gold", color: "#ffb300" },
                Category { name: "Silver", color: "#90a4ae" },
                Category { name: "Bronze", color: "#a1662f" },
            ],
            zones: blocks.map(|(tier, block)| self.zone(tier, block)).collect(),
        };
        serde_json::to_vec(&plan).expect("strings and numbers always serialize")
    }

    fn zone(&self, tier: u32, block: u32) -> Zone {
        Zone {
            name: format!("Block {}{:02}", tier + 1, block + 1),
            position: ORIGIN,
            rows: (0..self.rows).map(|row| self.row(tier, block, row)).collect(),
            areas: [],
        }
    }

    fn row(&self, tier: u32, block: u32, row: u32) -> Row {
        let category = match (tier, row) {
            (0, 0..10) => "Gold",
            (0 | 1, _) => "Silver",
            _ => "Bronze",
        };
        let seat = |k: u32| Seat {
            seat_guid: format!("{}{:02}-{}-{}", tier + 1, block + 1, row + 1, k + 1),
            seat_number: (k + 1).to_string(),
            position: self.position(tier, block, row, k),
            category,
        };
        Row { row_number: (row + 1).to_string(), position: ORIGIN, seats: (0..self.seats_per_row).map(seat).collect() }
    }

    /// The rows of a block are arcs that leave a tenth of its angle to the aisles; the house is wider than deep.
    fn position(&self, tier: u32, block: u32, row: u32, k: u32) -> Position {
        let block_angle = TAU / f64::from(self.blocks);
        let offset = f64::from(k) - f64::from(self.seats_per_row - 1) / 2.0;
        let angle = TAU * f64::from(block) / f64::from(self.blocks)
            + offset * block_angle * 0.9 / f64::from(self.seats_per_row);
        let radius = f64::from(self.radius + tier * self.rows * 26 + row * 22);
        let center = f64::from(self.radius * 4);
        Position {
            x: (center + radius * 1.3 * angle.cos()).round_ties_even() as i64,
            y: (center + radius * angle.sin()).round_ties_even() as i64,
        }
    }
}
