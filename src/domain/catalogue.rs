//! catalogue

use super::ConcertId;

/// Commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Acknowledges that the concert's waiting room exists.
    RoomOpened {
        /// Whose waiting room.
        concert: ConcertId,
    },
}
