//! The waiting room of one concert.

use super::{
    Aggregate, Answer, Changes, CorruptRow, Decided, Message, Meta, Rejection, ReservationId, Timestamp, UserId,
};

/// What can be asked of a waiting room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {}
