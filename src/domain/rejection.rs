//! Why the rules refuse a command. A refusal changes nothing, and is an answer, not a fault.

use std::hash::Hash;

use hashbrown::HashSet;
use smallvec::SmallVec;

use super::{PaymentId, Points, cbor};

/// So many things are compared with each other faster than hashed.
const FEW: usize = 16;

/// One thing that is not within its bounds.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Flaw {
    /// Where: a path such as `areas[0].capacity`.
    #[n(0)]
    pub field: String,
    /// What is wrong, and what is allowed.
    #[n(1)]
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
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// What is asked for is not within its bounds, or would not be together with what there is; everything that was found
    /// wrong.
    #[n(0)]
    #[error("invalid input: {}", .0.iter().map(|flaw| format!("{}: {}", flaw.field, flaw.message)).collect::<Vec<_>>().join("; "))]
    Invalid(#[n(0)] Vec<Flaw>),
    /// There is no such thing, or it is somebody else's.
    #[n(1)]
    #[error("no such resource")]
    NotFound,
    /// Some of the named seats are held, sold or blocked; all of those are listed.
    #[n(2)]
    #[error("{} of the seats are not available", conflicts.len())]
    SeatsUnavailable {
        /// Their places in the seating plan.
        #[n(0)]
        #[cbor(with = "cbor::small")]
        conflicts: SmallVec<[u32; 4]>,
    },
    /// Not that many seats or places are free in the wanted arrangement.
    #[n(3)]
    #[error("not enough seats of that kind are available")]
    NotEnoughSeats,
    /// A limit per reservation, user or wallet would be passed.
    #[n(4)]
    #[error("the limit is {limit}, and {already} are already in use")]
    LimitExceeded {
        /// How much is allowed.
        #[n(0)]
        limit: u64,
        /// How much of it is in use.
        #[n(1)]
        already: u64,
    },
    /// Outside the option's sale window.
    #[n(5)]
    #[error("the sale is not open")]
    SaleNotOpen,
    /// The reservation's hold ran out before it was paid.
    #[n(6)]
    #[error("the reservation has expired")]
    ReservationExpired,
    /// The reservation is not in the state `held`.
    #[n(7)]
    #[error("the reservation is not held")]
    ReservationNotHeld,
    /// The reservation has been paid.
    #[n(8)]
    #[error("the reservation has been paid already")]
    AlreadyPaid {
        /// By this payment.
        #[n(0)]
        payment: PaymentId,
    },
    /// The wallet holds less than the price.
    #[n(9)]
    #[error("the wallet holds {balance} points, {amount} are needed")]
    InsufficientPoints {
        /// What the wallet held when it refused.
        #[n(0)]
        balance: Points,
        /// What was asked of it.
        #[n(1)]
        amount: Points,
    },
    /// The payment took longer than allowed, and was undone.
    #[n(10)]
    #[error("the payment timed out and was undone")]
    PaymentTimedOut,
    /// The payment cannot be refunded (any more).
    #[n(11)]
    #[error("the payment cannot be refunded")]
    NotRefundable,
    /// While the waiting room is on, a hold needs a token of this user for this concert.
    #[n(12)]
    #[error("a queue token is required")]
    QueueTokenRequired,
    /// The token is still waiting, or its time is over.
    #[n(13)]
    #[error("the queue token is not active")]
    QueueTokenNotActive,
    /// The idempotency key was used with another payload.
    #[n(14)]
    #[error("the idempotency key was used with another payload")]
    IdempotencyKeyReused,
    /// The caller has used as many idempotency keys as are allowed in 24 hours.
    #[n(15)]
    #[error("too many idempotency keys in 24 hours")]
    TooManyIdempotencyKeys,
    /// A payment of the reservation is under way.
    #[n(16)]
    #[error("a payment of the reservation is pending")]
    PaymentPending {
        /// Which.
        #[n(0)]
        payment: PaymentId,
    },
    /// The payment has come too far to be given up.
    #[n(17)]
    #[error("the payment is under way, and cannot be given up any more")]
    PaymentUnderWay,
    /// The provider takes no payments of so little.
    #[n(18)]
    #[error("the least that can be paid so is {minimum}")]
    AmountTooSmall {
        /// The least that it takes.
        #[n(0)]
        minimum: Points,
    },
    /// The same was said of the payment with another amount.
    #[n(19)]
    #[error("the same was reported with another amount or currency")]
    FactConflict,
    /// The reference is known of another payment.
    #[n(20)]
    #[error("the reference is known of another payment")]
    ReferenceInUse,
    /// A change of the order is under way, or a part of it is on its way back.
    #[n(21)]
    #[error("a change of the order is under way")]
    ChangeUnderWay,
    /// Only what is confirmed can be changed so.
    #[n(22)]
    #[error("the reservation is not confirmed")]
    ReservationNotConfirmed,
    /// What its provider took can become less, and not more.
    #[n(23)]
    #[error("the price would rise, and it was not paid from a wallet")]
    PriceWouldRise,
    /// An area cannot take fewer than it has.
    #[n(24)]
    #[error("{in_use} places of the area {area} are held or sold")]
    CapacityInUse {
        /// Which.
        #[n(0)]
        area: String,
        /// How many places of it are held or sold.
        #[n(1)]
        in_use: u64,
    },
    /// Something of it was held at some time, so that it cannot be deleted.
    #[n(25)]
    #[error("something of it was held")]
    WasHeld,
    /// Seats that are held or sold would go.
    #[n(26)]
    #[error("{in_use} of the seats that would go are held or sold")]
    SeatsInUse {
        /// Their numbers; the first thousand, if they are more.
        #[n(0)]
        #[cbor(with = "cbor::small")]
        conflicts: SmallVec<[u32; 4]>,
        /// How many there are.
        #[n(1)]
        in_use: u64,
    },
}
