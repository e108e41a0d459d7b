//! concert_option

/// Commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Acknowledges that the waiting room has heard of the payment.
    TokenCompleted {
        /// Number of the reservation that was paid.
        reservation: u64,
    },
}
