//! Tokens as rows and holders have them, and how many there are.

use crate::domain::{Timestamp, UserId};

/// Where a token is in its life.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, minicbor::Encode, minicbor::Decode,
)]
#[serde(rename_all = "snake_case")]
#[cbor(index_only)]
pub enum TokenStatus {
    /// In the line.
    #[n(0)]
    Waiting,
    /// Inside.
    #[n(1)]
    Active,
    /// Its holder paid.
    #[n(2)]
    Used,
    /// Timed out, silent for too long, or given back.
    #[n(3)]
    Expired,
}

/// A token as its row holds it.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct TokenRow {
    /// Whose it is.
    #[n(0)]
    pub user: UserId,
    /// When it was issued.
    #[n(1)]
    pub issued_at: Timestamp,
    /// Where it is in its life.
    #[n(2)]
    pub status: TokenStatus,
    /// Until when it is, or was to be, active; `None` if it never was.
    #[n(3)]
    pub expires_at: Option<Timestamp>,
    /// When it was used or expired.
    #[n(4)]
    pub ended_at: Option<Timestamp>,
    /// That it waits again, and no event has told its number since; absent if not.
    #[n(5)]
    pub untold: Option<bool>,
}

/// A token as its holder sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenView {
    /// Its number in this room.
    pub no: u64,
    /// Whose it is.
    pub user: UserId,
    /// Where it is in its life.
    pub status: TokenStatus,
    /// Its place, 1 for the next; `None` unless it waits in a line that has opened.
    pub position: Option<u64>,
    /// How many stand before it; `None` where `position` is.
    pub ahead: Option<u64>,
    /// How many wait in all.
    pub queue_size: u64,
    /// An estimate, in seconds: see [`WaitingRoom::token`](super::WaitingRoom::token).
    pub expected_wait_seconds: Option<u64>,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// Until when it is, or was to be, active; `None` if it waits or never was.
    pub expires_at: Option<Timestamp>,
}

impl TokenRow {
    /// The view of a token that is not in memory any more, number `no`, while `queue_size` others wait.
    #[must_use]
    pub fn view(&self, no: u64, queue_size: u64) -> TokenView {
        TokenView {
            no,
            user: self.user.clone(),
            status: self.status,
            position: None,
            ahead: None,
            queue_size,
            expected_wait_seconds: None,
            issued_at: self.issued_at,
            expires_at: self.expires_at,
        }
    }
}

/// How many tokens are where in their life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, minicbor::Encode, minicbor::Decode, serde::Serialize)]
pub struct Counts {
    /// In the line.
    #[n(0)]
    pub waiting: u64,
    /// Inside.
    #[n(1)]
    pub active: u64,
    /// Whose holders paid.
    #[n(2)]
    pub used: u64,
    /// Timed out, silent for too long, or given back.
    #[n(3)]
    pub expired: u64,
}
