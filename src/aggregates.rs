//! The table of aggregates: what everybody asks who has one of each kind, the registries of actors, the caches of the replica,
//! the names of alarms.
//!
//! A new aggregate is its rules in [`domain`](crate::domain), a row in here, and a variant of
//! [`Facts`](crate::store::codec::Facts), by which it stands in the journal; and of [`Message`](crate::domain::Message), if
//! others tell it something.

/// Gives the table to the macro `use`: of each aggregate the name of its variants, and of fields that hold all of them; its
/// type; what names one of them; the first byte of its rows' keys.
macro_rules! aggregates {
    ($use:ident) => {
        $use! {
            Catalogue, catalogue, $crate::domain::catalogue::Catalogue, $crate::store::codec::TheCatalogue, b'C';
            Option, options, $crate::domain::concert_option::ConcertOption, $crate::domain::OptionId, b'O';
            Wallet, wallets, $crate::domain::wallet::Wallet, $crate::domain::UserId, b'W';
            Room, rooms, $crate::domain::waiting_room::WaitingRoom, $crate::domain::ConcertId, b'Q';
            Sink, sinks, $crate::domain::sink::Sink, $crate::domain::SinkId, b'S';
        }
    };
}

pub(crate) use aggregates;
