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
    /// Of how many; those that are under way among them, which leave it again if they take nothing.
    #[n(3)]
    pub total: u64,
    /// How many are not settled: wallets have not taken a refund, providers have not said that one is done or that they will
    /// never take any money, or somebody disputes it.
    #[n(4)]
    pub owed: u64,
}

impl From<concert_option::Cancellation> for Cancellation {
    fn from(known: concert_option::Cancellation) -> Self {
        let concert_option::Cancellation { reason, cancelled_at, done, total, owed } = known;
        Self { reason, cancelled_at, done, total, owed }
    }
}
