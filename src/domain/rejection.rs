//! Why the rules refuse a command. A refusal changes nothing, and is an answer, not a fault.

use smallvec::SmallVec;

use super::{PaymentId, Points};

/// The rule that stands against a command. The variants are the `code`s of the HTTP API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// There is no such thing, or it is somebody else's.
    #[error("no such resource")]
    NotFound,
    /// Some of the named seats are held, sold or blocked; all of those are listed.
    #[error("{} of the seats are not available", conflicts.len())]
    SeatsUnavailable {
        /// Their places in the seating plan.
        conflicts: SmallVec<[u32; 4]>,
    },
    /// Not that many seats or places are free in the wanted arrangement.
    #[error("not enough seats of that kind are available")]
    NotEnoughSeats,
    /// A limit per reservation, user or wallet would be passed.
    #[error("the limit is {limit}, and {already} are already in use")]
    LimitExceeded {
        /// How much is allowed.
        limit: u64,
        /// How much of it is in use.
        already: u64,
    },
    /// Outside the option's sale window.
    #[error("the sale is not open")]
    SaleNotOpen,
    /// The reservation's hold ran out before it was paid.
    #[error("the reservation has expired")]
    ReservationExpired,
    /// The reservation is not in the state `held`.
    #[error("the reservation is not held")]
    ReservationNotHeld,
    /// The reservation has been paid.
    #[error("the reservation has been paid already")]
    AlreadyPaid {
        /// By this payment.
        payment: PaymentId,
    },
    /// The wallet holds less than the price.
    #[error("the wallet holds {balance} points, {amount} are needed")]
    InsufficientPoints {
        /// What the wallet held when it refused.
        balance: Points,
        /// What was asked of it.
        amount: Points,
    },
    /// The payment took longer than allowed, and was undone.
    #[error("the payment timed out and was undone")]
    PaymentTimedOut,
    /// The payment cannot be refunded (any more).
    #[error("the payment cannot be refunded")]
    NotRefundable,
    /// While the waiting room is on, a hold needs a token of this user for this concert.
    #[error("a queue token is required")]
    QueueTokenRequired,
    /// The token is still waiting, or its time is over.
    #[error("the queue token is not active")]
    QueueTokenNotActive,
    /// The idempotency key was used with another payload.
    #[error("the idempotency key was used with another payload")]
    IdempotencyKeyReused,
    /// The caller has used as many idempotency keys as are allowed in 24 hours.
    #[error("too many idempotency keys in 24 hours")]
    TooManyIdempotencyKeys,
}
