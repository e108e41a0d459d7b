//! What is put under load: the calls that the workloads make, against an engine in this process or a server.
//!
//! The types are the harness's own and small. Seats are numbers in the [`House`]'s plan.

mod connection;
mod embedded;
mod http;

use std::sync::Arc;

use smallvec::SmallVec;

use super::house::House;
use crate::domain::facts::Fact;
use crate::domain::seat_map::Status;
use crate::domain::waiting_room::{Counts, Settings, TokenStatus};
use crate::domain::{ConcertId, OptionId, PaymentId, ReservationId, Timestamp, TokenId, UserId};

pub use self::embedded::Embedded;
pub use self::http::{Http, HttpSettings};

/// Numbers of seats in the plan.
pub type SeatNumbers = SmallVec<[u32; 8]>;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why a call was not answered with success: the `code` of the API, or what happened on the way.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name in the API and in reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

codes! {
    /// Some of the seats are not free.
    SeatsUnavailable = "seats_unavailable",
    /// There are not so many that are free.
    NotEnoughSeats = "not_enough_seats",
    /// A limit stands against it.
    LimitExceeded = "limit_exceeded",
    /// The sale is not open.
    SaleNotOpen = "sale_not_open",
    /// The hold has run out.
    ReservationExpired = "reservation_expired",
    /// The reservation is not held.
    ReservationNotHeld = "reservation_not_held",
    /// It has been paid.
    AlreadyPaid = "already_paid",
    /// It cannot be refunded.
    NotRefundable = "not_refundable",
    /// Somebody is paying already.
    PaymentPending = "payment_pending",
    /// The payment cannot be given up any more.
    PaymentUnderWay = "payment_under_way",
    /// A change of the order is under way.
    ChangeUnderWay = "change_under_way",
    /// The reservation is not confirmed.
    ReservationNotConfirmed = "reservation_not_confirmed",
    /// What a provider took would become more.
    PriceWouldRise = "price_would_rise",
    /// An area has more places held or sold than it is to take.
    CapacityInUse = "capacity_in_use",
    /// Seats that would go from the plan are held or sold.
    SeatsInUse = "seats_in_use",
    /// Something of it was held, so that it stays.
    WasHeld = "was_held",
    /// There are not enough points.
    InsufficientPoints = "insufficient_points",
    /// There is no such thing.
    NotFound = "not_found",
    /// A queue token is needed.
    QueueTokenRequired = "queue_token_required",
    /// The queue token is not active.
    QueueTokenNotActive = "queue_token_not_active",
    /// The request is wrong.
    InvalidRequest = "invalid_request",
    /// There are no such seats.
    UnknownSeats = "unknown_seats",
    /// The idempotency key was used for something else.
    IdempotencyKeyReused = "idempotency_key_reused",
    /// The bearer token is not good.
    Unauthenticated = "unauthenticated",
    /// It is not allowed.
    Forbidden = "forbidden",
    /// Too many requests of this user.
    RateLimited = "rate_limited",
    /// Too much is under way.
    Overloaded = "overloaded",
    /// The disk is nearly full.
    StorageFull = "storage_full",
    /// None of several nodes decides just now.
    NoOwner = "no_owner",
    /// The server has failed or is closing.
    OutcomeUnknown = "outcome_unknown",
    /// A fault.
    Internal = "internal",
    /// The connection failed.
    Transport = "transport",
    /// No answer came in time.
    Timeout = "timeout",
    /// The answer was not what the API says.
    Malformed = "malformed",
    /// Any other.
    Other = "other",
}

impl Code {
    /// The one of this name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self::ALL.iter().copied().find(|code| code.name() == name).unwrap_or(Self::Other)
    }

    /// Whether it is an answer by the rules of the sale, such as a seat that has gone. It is as good as a success.
    #[must_use]
    pub fn is_by_the_rules(self) -> bool {
        self <= Self::QueueTokenNotActive
    }

    /// Whether what was asked for may have been done all the same.
    #[must_use]
    pub fn leaves_the_outcome_open(self) -> bool {
        self >= Self::OutcomeUnknown
    }

    /// Whether it is worth another try after a while.
    #[must_use]
    pub fn passes(self) -> bool {
        matches!(self, Self::RateLimited | Self::Overloaded | Self::StorageFull | Self::NoOwner)
    }
}

/// What came back.
pub type Answer<T> = Result<T, Code>;

/// A performance on sale.
#[derive(Debug)]
pub struct Offer {
    /// Its number in this run, from 0.
    pub index: usize,
    /// Its id.
    pub id: OptionId,
    /// Its concert.
    pub concert: ConcertId,
    /// Its house.
    pub house: Arc<House>,
    /// How it is sold.
    pub terms: Terms,
}

/// How a performance is sold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// How long a hold lasts.
    pub hold_seconds: u32,
    /// The most seats of one reservation.
    pub max_seats_per_reservation: u32,
    /// The most seats of one user.
    pub max_seats_per_user: u32,
    /// Whether it is paid by a provider, of the name [`CARD`], and by nothing else.
    pub by_card: bool,
}

/// The provider of payments that the target must know; the harness reports what it does.
pub const CARD: &str = "card";

/// What to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// These seats.
    Seats(SeatNumbers),
    /// The best that are free, in a category if it is given.
    Best {
        /// How many.
        count: u32,
        /// The category's number in the plan.
        category: Option<u32>,
        /// Whether they must stand side by side.
        adjacent: bool,
    },
}

/// Seats that are held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The reservation.
    pub id: ReservationId,
    /// Which.
    pub seats: SeatNumbers,
    /// What they cost.
    pub amount: u64,
    /// From when.
    pub created_at: Timestamp,
    /// Until when.
    pub expires_at: Timestamp,
}

/// A reservation, as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserved {
    /// What a hold told of it.
    pub held: Held,
    /// Whose.
    pub user: UserId,
    /// `held`, `paying`, `confirmed`, `released`, `expired` or `refunded`.
    pub status: String,
}

/// A payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paid {
    /// The payment.
    pub id: PaymentId,
    /// How much.
    pub amount: u64,
    /// What is left in the wallet.
    pub balance: u64,
}

/// A payment that a provider is to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// The payment.
    pub id: PaymentId,
    /// How much.
    pub amount: u64,
    /// Until when it may be paid.
    pub expires_at: Timestamp,
}

/// How such a payment stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stands {
    /// `pending`, `authorized`, `completed` and so on.
    pub status: String,
    /// What is to be done with the charge that a fact was about: `capture`, `void` or `refund`.
    pub verdict: Option<String>,
}

/// A change of a wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `charge`, `debit` or `credit`.
    pub kind: String,
    /// By how much.
    pub amount: u64,
    /// What was there after it.
    pub balance: u64,
}

/// A place in line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The token.
    pub id: TokenId,
    /// What is shown when seats are held.
    pub signed: String,
    /// Whether it is its turn.
    pub status: TokenStatus,
    /// How many are before it.
    pub ahead: Option<u64>,
    /// After how many seconds to ask again.
    pub refresh_seconds: u64,
    /// Until when it is good, if it is active.
    pub expires_at: Option<Timestamp>,
}

/// All seats of an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeatStates {
    /// The number of the last change.
    pub seq: u64,
    /// The state of each seat, by its number.
    pub states: Vec<Status>,
}

/// Seats that have changed, or all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The number of the last change.
    pub seq: u64,
    /// What it follows; `None`: it is a snapshot, and seats that are not in it are free.
    pub previous_seq: Option<u64>,
    /// Seats and states.
    pub seats: Vec<(u32, Status)>,
}

/// Somebody who follows the seats of an option.
pub trait Follow: Send + 'static {
    /// The next update.
    fn next(&mut self) -> impl Future<Output = Answer<Update>> + Send;
}

/// What is put under load.
///
/// Everything but [`audit_journal`](Self::audit_journal) is a call of the API.
pub trait Target: Send + Sync + 'static {
    /// Who follows an option's seats.
    type Follower: Follow;

    /// What it is, for reports.
    fn describe(&self) -> String;

    /// How many open holds a user may have on all options; 0: that is not known.
    fn open_holds_max(&self) -> u32;

    /// Announces a concert (as an admin).
    fn create_concert(&self, room: &Settings) -> impl Future<Output = Answer<ConcertId>> + Send;

    /// Puts a performance on sale (as an admin).
    fn add_option(
        &self,
        concert: ConcertId,
        house: &House,
        terms: Terms,
    ) -> impl Future<Output = Answer<OptionId>> + Send;

    /// How many are in each state in a waiting room (as an admin).
    fn room_counts(&self, concert: ConcertId) -> impl Future<Output = Answer<Counts>> + Send;

    /// Puts points into a wallet (as an admin); the balance after it.
    fn charge(&self, user: &UserId, amount: u64) -> impl Future<Output = Answer<u64>> + Send;

    /// What is in a wallet.
    fn balance(&self, user: &UserId) -> impl Future<Output = Answer<u64>> + Send;

    /// The changes of a wallet, newest first, 500 at the most.
    fn entries(&self, user: &UserId) -> impl Future<Output = Answer<Vec<Entry>>> + Send;

    /// Holds seats.
    fn hold(
        &self,
        offer: &Offer,
        user: &UserId,
        wish: &Wish,
        queue_token: Option<&str>,
    ) -> impl Future<Output = Answer<Held>> + Send;

    /// Gives a hold up.
    fn release(&self, user: &UserId, id: ReservationId) -> impl Future<Output = Answer<()>> + Send;

    /// Pays for a hold.
    fn pay(&self, user: &UserId, id: ReservationId) -> impl Future<Output = Answer<Paid>> + Send;

    /// Begins a payment by the provider.
    fn begin_payment(&self, user: &UserId, id: ReservationId) -> impl Future<Output = Answer<Begun>> + Send;

    /// Gives such a payment up.
    fn give_up(&self, user: &UserId, id: PaymentId) -> impl Future<Output = Answer<()>> + Send;

    /// Says what the provider did with it (as an admin).
    fn report(&self, id: PaymentId, fact: &Fact) -> impl Future<Output = Answer<Stands>> + Send;

    /// Has a provider give such a payment back (as an admin).
    fn give_back_money(&self, id: PaymentId) -> impl Future<Output = Answer<()>> + Send;

    /// Gives a payment back (as an admin); the amount, and the balance after it.
    fn refund(&self, id: PaymentId) -> impl Future<Output = Answer<(u64, u64)>> + Send;

    /// Reads a reservation.
    fn reservation(
        &self,
        offer: &Offer,
        user: &UserId,
        id: ReservationId,
    ) -> impl Future<Output = Answer<Reserved>> + Send;

    /// Reads a payment: its status.
    fn payment_status(&self, user: &UserId, id: PaymentId) -> impl Future<Output = Answer<String>> + Send;

    /// Looks at the seats, as a buyer's page does, and makes nothing of them.
    fn browse(&self, offer: &Offer) -> impl Future<Output = Answer<()>> + Send;

    /// Reads the states of all seats.
    fn seats(&self, offer: &Offer) -> impl Future<Output = Answer<SeatStates>> + Send;

    /// Gets in line, or the place one has.
    fn enter(&self, concert: ConcertId, user: &UserId) -> impl Future<Output = Answer<Place>> + Send;

    /// Asks where one stands.
    fn poll(&self, user: &UserId, id: TokenId) -> impl Future<Output = Answer<Place>> + Send;

    /// Leaves the line, or gives a turn up.
    fn leave(&self, user: &UserId, id: TokenId) -> impl Future<Output = Answer<()>> + Send;

    /// Follows the seats, from now on.
    fn follow(&self, offer: &Arc<Offer>, user: &UserId) -> impl Future<Output = Answer<Self::Follower>> + Send;

    /// Reads the whole journal by a second reading of the rules, if that can be reached: how many events there were, or
    /// what is wrong with them. `None`: it cannot, or there are more than `events_max`.
    fn audit_journal(&self, events_max: u64) -> impl Future<Output = Option<Result<u64, String>>> + Send;

    /// Ends what this run has begun.
    fn close(&self) -> impl Future<Output = Result<(), String>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_names_of_the_api() {
        for code in Code::ALL {
            assert_eq!(Code::of(code.name()), *code);
        }
        assert_eq!(Code::of("teapot"), Code::Other);
        assert!(Code::SeatsUnavailable.is_by_the_rules() && Code::QueueTokenNotActive.is_by_the_rules());
        assert!(!Code::InvalidRequest.is_by_the_rules() && !Code::Overloaded.is_by_the_rules());
        assert!(Code::Timeout.leaves_the_outcome_open() && !Code::Overloaded.leaves_the_outcome_open());
    }
}
