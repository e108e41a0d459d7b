//! What aggregates tell each other. Every message is idempotent, so that it may be sent again until it is acknowledged,
//! and plain data, so that it may cross machines.

use super::{ConcertId, OptionId, UserId, catalogue, concert_option, waiting_room, wallet};

/// A command for another aggregate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// To the catalogue.
    Catalogue(catalogue::Command),
    /// To a concert option.
    Option(OptionId, concert_option::Command),
    /// To a wallet.
    Wallet(UserId, wallet::Command),
    /// To a waiting room.
    Room(ConcertId, waiting_room::Command),
    /// To whoever drives what providers owe: something is owed on this option.
    Providers(OptionId),
}
