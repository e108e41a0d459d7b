//! Reservations, their payments and refunds: what is kept of each.

use serde::Serialize;
use smallvec::SmallVec;

use super::{ByProvider, Course, Note, Prices};
use crate::domain::idempotency::Key;
use crate::domain::{CorruptRow, Lsn, Meta, Points, Rejection, Timestamp, UserId, cbor};

/// Seats, by their places in the plan.
pub type SeatRefs = SmallVec<[u32; 4]>;

/// Some places in one area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct AreaPlaces {
    /// The area's place in the option's definition.
    #[n(0)]
    pub area: u16,
    /// How many.
    #[n(1)]
    pub count: u32,
}

/// Where a reservation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum ReservationStatus {
    /// Its seats are held until its deadline.
    #[n(0)]
    Held,
    /// A payment is under way; its seats cannot expire.
    #[n(1)]
    Paying {
        /// Which.
        #[n(0)]
        payment: u64,
    },
    /// Paid: its seats are sold.
    #[n(2)]
    Confirmed {
        /// By which payment.
        #[n(0)]
        payment: u64,
    },
    /// Given up.
    #[n(3)]
    Released,
    /// Its time ran out.
    #[n(4)]
    Expired,
    /// Paid, and given back.
    #[n(5)]
    Refunded {
        /// Which payment was.
        #[n(0)]
        payment: u64,
    },
}

impl ReservationStatus {
    /// The payment that pays it, has paid it, or was given back.
    #[must_use]
    pub fn payment(self) -> Option<u64> {
        match self {
            Self::Paying { payment } | Self::Confirmed { payment } | Self::Refunded { payment } => Some(payment),
            Self::Held | Self::Released | Self::Expired => None,
        }
    }

    /// Whether it is held, or will be again if its payment fails.
    #[must_use]
    pub fn may_be_held(self) -> bool {
        matches!(self, Self::Held | Self::Paying { .. })
    }
}

/// What can happen to a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// Its seats were held.
    #[n(0)]
    Held,
    /// A payment began: the wallet was asked for the points.
    #[n(1)]
    PaymentStarted,
    /// The wallet gave them, and the seats were sold.
    #[n(2)]
    PaymentConfirmed,
    /// The wallet did not give them.
    #[n(3)]
    PaymentFailed,
    /// The waiting room took note of the used token.
    #[n(4)]
    TokenCompleted,
    /// A refund began: the wallet was asked to take the points back.
    #[n(5)]
    RefundStarted,
    /// The wallet has them.
    #[n(6)]
    RefundCredited,
    /// It was given up.
    #[n(7)]
    Released,
    /// Its time ran out.
    #[n(8)]
    Expired,
    /// The provider has reserved the money: the verdict is to capture it.
    #[n(9)]
    PaymentAuthorized,
    /// Its seats were free, and were taken again for money that came late.
    #[n(10)]
    TakenAgain,
    /// A part of it was given up.
    #[n(11)]
    PartReleased,
    /// A part of it was given back.
    #[n(12)]
    PartRefunded,
    /// Other seats were pinned for it: the wallet was asked for the difference.
    #[n(13)]
    ExchangeStarted,
    /// Seats were exchanged.
    #[n(14)]
    Exchanged,
    /// The wallet did not give the difference: it has what it had.
    #[n(15)]
    ExchangeFailed,
    /// It became somebody else's.
    #[n(16)]
    HandedOn,
    /// Its hold got another end.
    #[n(17)]
    HeldUntil,
}

/// One step of a reservation's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct SagaStep {
    /// What happened.
    #[n(0)]
    pub step: StepKind,
    /// When.
    #[n(1)]
    pub at: Timestamp,
    /// The event that says so.
    #[n(2)]
    pub lsn: Lsn,
}

/// The most steps that are kept of one reservation: the first, and the last ones.
const STEPS_MAX: usize = 32;

/// Seats and places that one user has, had or gave up.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Reservation {
    /// Whose.
    #[n(0)]
    pub user: UserId,
    /// Which seats.
    #[n(1)]
    #[cbor(with = "cbor::small")]
    pub seats: SeatRefs,
    /// Which places.
    #[n(2)]
    #[cbor(with = "cbor::small")]
    pub areas: SmallVec<[AreaPlaces; 1]>,
    /// The price of it all.
    #[n(3)]
    pub amount: Points,
    /// When it was made.
    #[n(4)]
    pub created_at: Timestamp,
    /// When its hold runs out.
    #[n(5)]
    pub expires_at: Timestamp,
    /// The queue token that let the user in.
    #[n(6)]
    pub token: Option<u64>,
    /// Where it stands.
    #[n(7)]
    pub status: ReservationStatus,
    /// How it came there. Of very many failed payments only the last are kept; the payments themselves stand on their own.
    #[n(8)]
    #[cbor(with = "cbor::small")]
    pub steps: SmallVec<[SagaStep; 2]>,
    /// What each of its seats and places costs.
    #[n(9)]
    pub prices: Prices,
    /// What else has become of it; absent for most.
    #[n(10)]
    pub course: Option<Box<Course>>,
    /// What stands beside it.
    #[n(12)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<Box<Note>>,
}

impl Reservation {
    /// Writes a step down.
    pub(super) fn note(&mut self, step: StepKind, meta: Meta) {
        if self.steps.len() == STEPS_MAX {
            self.steps.remove(1);
        }
        self.steps.push(SagaStep { step, at: meta.at, lsn: meta.lsn });
    }

    /// How many seats and places.
    #[must_use]
    pub fn places(&self) -> u32 {
        // At most some thousand.
        self.seats.len() as u32 + self.areas.iter().map(|area| area.count).sum::<u32>()
    }

    /// Why this reservation, which has come to its end, cannot be paid by `user`.
    #[must_use]
    pub fn why_not_payable(&self, user: &UserId) -> Rejection {
        match self.status {
            _ if self.user != *user => Rejection::NotFound,
            ReservationStatus::Expired => Rejection::ReservationExpired,
            _ => Rejection::ReservationNotHeld,
        }
    }

    /// Reads the row of [`Part::Reservation`].
    ///
    /// # Errors
    /// It is not one.
    pub fn from_row(no: u64, row: &[u8]) -> Result<Self, CorruptRow> {
        cbor::from_row(&Part::Reservation(no), row)
    }
}

/// Why no points were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum FailureReason {
    /// There were not enough.
    #[n(0)]
    InsufficientPoints {
        /// How many there were.
        #[n(0)]
        balance: Points,
    },
    /// The wallet did not answer in time.
    #[n(1)]
    TimedOut,
}

/// Where a payment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum PaymentStatus {
    /// The wallet has not answered yet.
    #[n(0)]
    Pending,
    /// The points were taken.
    #[n(1)]
    Completed,
    /// No points were taken, and none will be.
    #[n(2)]
    Failed {
        /// Why.
        #[n(0)]
        reason: FailureReason,
    },
    /// The points were taken, and are given back.
    #[n(3)]
    Refunded {
        /// By which refund.
        #[n(0)]
        refund: u64,
    },
    /// A provider takes it: see [`Payment::provider`].
    #[n(4)]
    ByProvider,
}

/// An attempt to pay a reservation.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Payment {
    /// Which.
    #[n(0)]
    pub reservation: u64,
    /// Whose.
    #[n(1)]
    pub user: UserId,
    /// The price.
    #[n(2)]
    pub amount: Points,
    /// When it began.
    #[n(3)]
    pub started_at: Timestamp,
    /// When it is called off, if the wallet has not answered.
    #[n(4)]
    pub deadline: Timestamp,
    /// Where it stands.
    #[n(5)]
    pub status: PaymentStatus,
    /// The wallet's balance after it; meaningful once it is completed.
    #[n(6)]
    pub balance: Points,
    /// When the points were taken; meaningful once it is completed.
    #[n(7)]
    pub paid_at: Timestamp,
    /// The idempotency key it came with, while it is under way.
    #[n(8)]
    pub key: Option<Key>,
    /// What a payment by a provider has beside.
    #[n(9)]
    pub provider: Option<Box<ByProvider>>,
    /// What wallets have paid for it, oldest first; none: what it began with, and nothing of that is back.
    #[n(10)]
    #[cbor(with = "cbor::list", has_nil)]
    pub legs: Vec<Leg>,
    /// How many refunds of a part of it are on their way.
    #[n(11)]
    #[cbor(default)]
    pub crediting: u32,
    /// Nothing was to pay: it was given away.
    #[n(12)]
    #[cbor(default)]
    pub complimentary: bool,
}

/// What a wallet has paid at one time: the first debit of a payment, or the difference of an exchange.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Leg {
    /// Its number: that of the payment, or one of its own.
    #[n(0)]
    pub no: u64,
    /// Whose wallet: what goes back of it goes there.
    #[n(1)]
    pub user: UserId,
    /// How much.
    #[n(2)]
    pub taken: Points,
    /// How much of it went back, or is on its way.
    #[n(3)]
    pub back: Points,
}

impl Leg {
    /// How much of it may go back yet.
    #[must_use]
    pub fn left(&self) -> Points {
        self.taken.checked_sub(self.back).unwrap_or(Points::ZERO)
    }
}

impl Payment {
    /// What wallets have paid, oldest first; `no` is its own number.
    #[must_use]
    pub fn all_legs(&self, no: u64) -> Vec<Leg> {
        if !self.legs.is_empty() || self.provider.is_some() {
            return self.legs.clone();
        }
        vec![Leg { no, user: self.user.clone(), taken: self.amount, back: Points::ZERO }]
    }

    /// What its seats cost now.
    #[must_use]
    pub fn price(&self) -> Points {
        match &self.provider {
            Some(by) => by.price.unwrap_or(self.amount),
            None if self.legs.is_empty() => self.amount,
            // What is left of all legs is the price of seats, which is an amount.
            None => Points::new(self.legs.iter().map(|leg| leg.left().get()).sum()).unwrap_or(Points::MAX),
        }
    }

    /// Reads the row of [`Part::Payment`].
    ///
    /// # Errors
    /// It is not one.
    pub fn from_row(no: u64, row: &[u8]) -> Result<Self, CorruptRow> {
        cbor::from_row(&Part::Payment(no), row)
    }
}

/// A payment given back.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Refund {
    /// Which.
    #[n(0)]
    pub payment: u64,
    /// Whose.
    #[n(1)]
    pub user: UserId,
    /// How much.
    #[n(2)]
    pub amount: Points,
    /// When it was asked for.
    #[n(3)]
    pub requested_at: Timestamp,
    /// The wallet's balance after it; meaningful once it is there.
    #[n(4)]
    pub balance: Points,
    /// When the points were given back; meaningful once they are.
    #[n(5)]
    pub refunded_at: Timestamp,
    /// The idempotency key it came with, while it is under way.
    #[n(6)]
    pub key: Option<Key>,
}

impl Refund {
    /// Reads the row of [`Part::Refund`].
    ///
    /// # Errors
    /// It is not one.
    pub fn from_row(no: u64, row: &[u8]) -> Result<Self, CorruptRow> {
        cbor::from_row(&Part::Refund(no), row)
    }
}

/// The rows of a concert option.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Window, areas and counters.
    Header,
    /// A chunk of the seat map.
    Seats(u32),
    /// How many places a user has.
    User(UserId),
    /// A reservation.
    Reservation(u64),
    /// A payment.
    Payment(u64),
    /// A refund.
    Refund(u64),
    /// A used token that the waiting room has not acknowledged, by reservation.
    TokenOwed(u64),
    /// An idempotency key.
    Key([u8; 16]),
    /// What never changes.
    Terms,
}

impl crate::domain::Part for Part {
    fn encode(&self, key: &mut Vec<u8>) {
        let (tag, no) = match self {
            Self::Header => return key.push(0),
            Self::Terms => return key.push(8),
            Self::Seats(chunk) => {
                key.push(1);
                return key.extend(chunk.to_be_bytes());
            }
            Self::User(user) => {
                key.push(2);
                return key.extend(user.as_str().as_bytes());
            }
            Self::Key(scope) => {
                key.push(7);
                return key.extend(scope);
            }
            Self::Reservation(no) => (3, no),
            Self::Payment(no) => (4, no),
            Self::Refund(no) => (5, no),
            Self::TokenOwed(no) => (6, no),
        };
        key.push(tag);
        key.extend(no.to_be_bytes());
    }

    fn decode(key: &[u8]) -> Option<Self> {
        let (&tag, rest) = key.split_first()?;
        let no = || Some(u64::from_be_bytes(rest.try_into().ok()?));
        match tag {
            0 if rest.is_empty() => Some(Self::Header),
            1 => Some(Self::Seats(u32::from_be_bytes(rest.try_into().ok()?))),
            2 => Some(Self::User(std::str::from_utf8(rest).ok()?.parse().ok()?)),
            3 => no().map(Self::Reservation),
            4 => no().map(Self::Payment),
            5 => no().map(Self::Refund),
            6 => no().map(Self::TokenOwed),
            7 => Some(Self::Key(rest.try_into().ok()?)),
            8 if rest.is_empty() => Some(Self::Terms),
            _ => None,
        }
    }
}
