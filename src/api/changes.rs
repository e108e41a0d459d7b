//! What callers give and get when an order changes.

use serde::Serialize;

use crate::domain::{Timestamp, TransferId};

/// A part of an order: seats by their ids, and so many places in areas.
#[derive(Debug, Clone, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Portion {
    /// The seats.
    #[n(0)]
    pub seats: Vec<String>,
    /// Places in areas: the name of each, and how many.
    #[n(1)]
    pub areas: Vec<(String, u32)>,
}

impl Portion {
    /// The seats of these ids.
    pub fn seats<S: Into<String>>(ids: impl IntoIterator<Item = S>) -> Self {
        Self { seats: ids.into_iter().map(Into::into).collect(), areas: Vec::new() }
    }

    /// `count` places in this area.
    pub fn places(area: impl Into<String>, count: u32) -> Self {
        Self { seats: Vec::new(), areas: vec![(area.into(), count)] }
    }
}

/// What is to be off sale, or on it again: at least one seat, zone, row or area, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Blocks {
    /// Seats, by their ids.
    #[n(0)]
    pub seats: Vec<String>,
    /// All seats of the zones of these names.
    #[n(1)]
    pub zones: Vec<String>,
    /// All seats of rows: the name of the zone, and of the row in it.
    #[n(2)]
    pub rows: Vec<(String, String)>,
    /// Places in areas: the name of each, and how many.
    #[n(3)]
    pub areas: Vec<(String, u32)>,
    /// Why: 1 to 200 characters, no control characters.
    #[n(4)]
    pub reason: Option<String>,
}

/// An offer to hand a reservation on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Transfer {
    /// Its id: who has it and is meant may accept.
    #[n(0)]
    pub id: TransferId,
    /// Until when it stands.
    #[n(1)]
    pub expires_at: Timestamp,
}

/// What a box office may do beyond what buyers may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Office {
    /// It costs nothing, and is confirmed at once.
    #[n(0)]
    pub complimentary: bool,
    /// No limit of seats holds.
    #[n(1)]
    pub beyond_limits: bool,
    /// Blocked seats may be among those that are named; they are blocked again once they are free.
    #[n(2)]
    pub from_blocked: bool,
}
