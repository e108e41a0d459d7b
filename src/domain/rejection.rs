//! Why the rules refuse a command. A refusal changes nothing, and is an answer, not a fault.

use std::hash::Hash;

use hashbrown::HashSet;
use smallvec::SmallVec;

use super::{PaymentId, Points};

/// So many things are compared with each other faster than hashed.
const FEW: usize = 16;

/// One thing that is not within its bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// Where: a path such as `areas[0].capacity`.
    pub field: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl Flaw {
    /// Something is wrong at `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }

    /// What is wrong with a number.
    pub fn of_range(field: impl Into<String>, value: u64, min: u64, max: u64) -> Option<Self> {
        (!(min..=max).contains(&value)).then(|| Self::new(field, format!("must be {min} to {max}")))
    }

    /// What is wrong with a title or a name.
    pub fn of_name(field: impl Into<String>, name: &str) -> Option<Self> {
        let fits = (1..=200).contains(&name.chars().count()) && !name.chars().any(char::is_control);
        (!fits).then(|| Self::new(field, "must be 1 to 200 characters, none of them a control character"))
    }

    /// The first thing that is given twice.
    pub fn of_twice<T: Eq + Hash>(list: &str, member: &str, things: &[T]) -> Option<Self> {
        let twice = if things.len() <= FEW {
            (1..things.len()).find(|index| things[..*index].contains(&things[*index]))
        } else {
            let mut seen = HashSet::with_capacity(things.len());
            things.iter().position(|thing| !seen.insert(thing))
        };
        twice.map(|index| Self::new(format!("{list}[{index}]{member}"), "is given twice"))
    }

    /// The refusal of all that is wrong.
    ///
    /// # Errors
    /// [`Rejection::Invalid`] if anything is.
    pub fn refuse(flaws: impl IntoIterator<Item = Self>) -> Result<(), Rejection> {
        let flaws: Vec<_> = flaws.into_iter().collect();
        if flaws.is_empty() { Ok(()) } else { Err(Rejection::Invalid(flaws)) }
    }
}

/// The rule that stands against a command. The variants are the `code`s of the HTTP API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// What is asked for is not within its bounds, or would not be together with what there is; everything that was found
    /// wrong.
    #[error("invalid input: {}", .0.iter().map(|flaw| format!("{}: {}", flaw.field, flaw.message)).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Flaw>),
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
