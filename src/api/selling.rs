//! What is sold changes: what the calling off of a performance looks like from outside.

use serde::Serialize;

use crate::domain::{Timestamp, concert_option};

/// How far the calling off of a performance is. It is over once all are done and nothing is owed.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Cancellation {
    /// Why, if that was told.
    #[n(0)]
    #[cfg_attr(feature = "server", schema(required))]
    pub reason: Option<String>,
    /// Since when.
    #[n(1)]
    pub cancelled_at: Timestamp,
    /// How many payments are given back.
    #[n(2)]
    pub done: u64,
    /// Of how many.
    #[n(3)]
    pub total: u64,
    /// How many refunds have not arrived: wallets have not taken them, or providers have not said that they are done.
    #[n(4)]
    pub owed: u64,
}

impl From<concert_option::Cancellation> for Cancellation {
    fn from(known: concert_option::Cancellation) -> Self {
        let concert_option::Cancellation { reason, cancelled_at, done, total, owed } = known;
        Self { reason, cancelled_at, done, total, owed }
    }
}
