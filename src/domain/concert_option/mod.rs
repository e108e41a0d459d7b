//! One performance on sale: its seats and areas, every reservation and payment made on it, and its limits.
//!
//! The option drives the payment saga. What it owes to wallets and the waiting room stands in its state until they
//! acknowledge it, so that after a crash it is asked for again:
//!
//! | step | event | owed until |
//! |---|---|---|
//! | begin | `PaymentStarted` | the wallet answers `Debit`, or past the payment's deadline `CancelDebit` |
//! | confirm | `PaymentConfirmed` | the waiting room acknowledges the used token, if there was one |
//! | fail | `PaymentFailed` | |
//! | refund | `PaymentRefunded` | the wallet answers `Credit`, then `RefundCredited` |
//!
//! Reservations, payments and refunds are numbered with one counter, so the lowest number of a step that still owes
//! something tells a wallet what it may forget.

mod blocking;
mod by_provider;
mod calling_off;
mod change;
mod changing;
mod definition;
mod deleting;
mod lot;
mod note;
mod paying;
mod provider;
mod replanning;
mod reservation;
mod selling;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashMap;
use serde::Serialize;
use smallvec::SmallVec;

pub use self::blocking::Blocks;
pub use self::by_provider::Cold;
pub use self::calling_off::Cancellation;
pub use self::change::{Back, Change, Course, Drawn, Exchange, Former, KEPT_MAX, Offer, What};
pub use self::definition::{
    Area, Definition, Focus, LISTS_BYTES_MAX, Price, PricedPlan, SEATS_MAX, SeatSet, Window, WindowPatch,
};
pub use self::lot::{Lot, Prices};
pub use self::note::{DATA_BYTES_MAX, Note, REFERENCE_CHARS_MAX};
pub use self::provider::{
    ByProvider, Ending, Installation, Late, Method, Moved, Owed, OwedKind, Owing, POINTS, ProviderTerms, Stand,
    Standing, Status as ProviderStatus, Turn,
};
pub use self::replanning::{NewPlan, Replanned};
pub use self::reservation::{
    AreaPlaces, FailureReason, Leg, Part, Payment, PaymentStatus, Refund, Reservation, ReservationStatus, SagaStep,
    SeatRefs, StepKind,
};
pub use self::selling::{Amended, AreaPatch, OptionPatch};
use super::cbor;
use super::facts::Fact;
use super::idempotency::{Key, Memory, Remembered, Request};
use super::seat_map::{self, BestAvailable, SeatMap, Status as SeatStatus};
use super::{
    Aggregate, Answer, Changes, CorruptRow, Counted, Decided, Flaw, Lsn, Message, Meta, OptionId, PaymentId, Points,
    RefundId, Rejection, ReservationId, Role, Timestamp, UserId, catalogue, waiting_room, wallet,
};

/// So many reservations stand in one event of expiry at most.
const EXPIRE_BATCH_MAX: usize = 10_000;
/// So many seats and places are held at most beyond the limits of an option.
const BEYOND_LIMITS_MAX: u32 = 1_000;

/// On whose behalf a command comes.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum Caller {
    /// A buyer, who reaches their own things only.
    #[n(0)]
    User(#[n(0)] UserId),
    /// Somebody who runs the sale.
    #[n(1)]
    Admin,
    /// The same, and it is known who: it stands in the journal.
    #[n(2)]
    Staff(#[n(0)] UserId),
}

impl Caller {
    pub(crate) fn may_reach(&self, owner: &UserId) -> bool {
        match self {
            Self::User(user) => user == owner,
            Self::Admin | Self::Staff(_) => true,
        }
    }

    /// Whether it is somebody who runs the sale.
    pub(crate) fn runs_the_sale(&self) -> bool {
        !matches!(self, Self::User(_))
    }

    /// Who it is, if not the owner.
    pub(super) fn doer(&self) -> Option<UserId> {
        match self {
            Self::Staff(user) => Some(user.clone()),
            Self::User(_) | Self::Admin => None,
        }
    }
}

/// What to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// These seats, by their places in the plan; none twice.
    Seats(SeatRefs),
    /// The best that are free.
    Best(BestAvailable),
    /// Places in areas; no area twice.
    Areas(SmallVec<[AreaPlaces; 1]>),
}

/// What a box office may do beyond what buyers may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Office {
    /// It costs nothing, and is confirmed at once.
    pub complimentary: bool,
    /// No limit of seats holds.
    pub beyond_limits: bool,
    /// Blocked seats may be among those that are named.
    pub from_blocked: bool,
}

/// Who holds seats, and what they say with it.
struct Holder<'a> {
    user: &'a UserId,
    token: Option<u64>,
    note: Option<&'a Note>,
    by: Option<&'a UserId>,
}

/// A part of an order, by its seats and places.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Portion {
    /// Which seats, by their places in the plan; none twice.
    pub seats: SeatRefs,
    /// Which places; no area twice.
    pub areas: SmallVec<[AreaPlaces; 1]>,
}

impl Wish {
    /// What is wrong with it by itself, on the terms of `plan` and with at most so many places, whoever wishes for it and whatever
    /// is free.
    fn flaw(&self, plan: &PricedPlan, most: u32) -> Option<Flaw> {
        match self {
            Self::Seats(seats) => flaw_of_seats(seats),
            Self::Best(best) => flaw_of_best(best, plan, most),
            Self::Areas(areas) => flaw_of_areas("areas", areas, most),
        }
    }
}

/// What is wrong with a wish for the best seats.
fn flaw_of_best(best: &BestAvailable, plan: &PricedPlan, most: u32) -> Option<Flaw> {
    let flaw = |member: &str, message: &str| Some(Flaw::new(format!("best_available.{member}"), message));
    let count = Flaw::of_range("best_available.count", best.count.into(), 1, most.into());
    if count.is_some() || best.companions == 0 {
        return count;
    }
    let room = most - best.count;
    if best.companions > room {
        return flaw("companions", &format!("must be 0 to {room}: all together are at most {most}"));
    }
    if !best.adjacent {
        return flaw("adjacent", "must be true: companions sit beside the places");
    }
    let accessible = &plan.definition.accessible;
    let category = best.category.map(|category| plan.plan.categories().get(category as usize));
    match category {
        None if accessible.is_empty() => flaw("companions", "this option has no accessible categories"),
        Some(Some(category)) if !accessible.iter().any(|name| *name == *category.name) => {
            flaw("category", "is not accessible on this option: there are no companions")
        }
        _ => None,
    }
}

/// What is wrong with a list of places in areas, at most so many in each.
fn flaw_of_areas(list: &str, areas: &[AreaPlaces], most: u32) -> Option<Flaw> {
    if areas.is_empty() {
        return Some(Flaw::new(list, "must name at least one area"));
    }
    let count = |(index, place): (usize, &AreaPlaces)| {
        Flaw::of_range(format!("{list}[{index}].count"), place.count.into(), 1, most.into())
    };
    let names: SmallVec<[u16; 8]> = areas.iter().map(|place| place.area).collect();
    areas.iter().enumerate().find_map(count).or_else(|| Flaw::of_twice(list, ".name", &names))
}

/// What is wrong with a list of seats.
fn flaw_of_seats(seats: &[u32]) -> Option<Flaw> {
    if seats.is_empty() {
        return Some(Flaw::new("seats", "must name at least one seat"));
    }
    Flaw::of_twice("seats", "", seats)
}

/// What can be asked of an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Puts it on sale; from the catalogue.
    Define {
        /// Its own id.
        option: OptionId,
        /// On what terms.
        definition: Box<Definition>,
    },
    /// Moves its sale window.
    Reschedule {
        /// How.
        patch: WindowPatch,
    },
    /// Changes what it sells, and on what terms.
    Change {
        /// How.
        patch: Box<OptionPatch>,
        /// Who does it.
        by: UserId,
    },
    /// Sells by another seating plan.
    Replan {
        /// Which, and what comes with it.
        new: Box<NewPlan>,
        /// Who does it.
        by: UserId,
        /// This option's plan and prices until then.
        plan: Arc<PricedPlan>,
        /// Idempotency.
        request: Request,
    },
    /// Holds seats for a user, all or nothing.
    Hold {
        /// For whom.
        user: UserId,
        /// Which.
        wish: Wish,
        /// The queue token that let the user in.
        token: Option<u64>,
        /// What stands beside it.
        note: Option<Box<Note>>,
        /// This option's plan and prices.
        plan: Arc<PricedPlan>,
        /// Idempotency, and what stands against it across aggregates (the waiting room, the user's other holds).
        request: Request,
    },
    /// Holds seats for somebody, as a box office may.
    HoldFor {
        /// For whom.
        user: UserId,
        /// Which.
        wish: Wish,
        /// How.
        office: Office,
        /// What stands beside it.
        note: Option<Box<Note>>,
        /// Who holds them, if it is known.
        by: Option<UserId>,
        /// This option's plan and prices.
        plan: Arc<PricedPlan>,
        /// Idempotency.
        request: Request,
    },
    /// Gives a held reservation up.
    Release {
        /// Which.
        reservation: u64,
        /// On whose behalf.
        caller: Caller,
    },
    /// Gives a part of a held reservation up, or all of it.
    ReleasePart {
        /// Which.
        reservation: u64,
        /// On whose behalf.
        caller: Caller,
        /// What of it.
        part: Portion,
        /// This option's plan and prices.
        plan: Arc<PricedPlan>,
        /// Idempotency.
        request: Request,
    },
    /// Holds a reservation until another time.
    HoldUntil {
        /// Which.
        reservation: u64,
        /// Until when.
        expires_at: Timestamp,
        /// Who does it, if it is known.
        by: Option<UserId>,
    },
    /// Gives seats and places of a confirmed reservation for as many others.
    Exchange {
        /// Which.
        reservation: u64,
        /// On whose behalf.
        caller: Caller,
        /// What is given.
        give: Portion,
        /// What is taken.
        take: Portion,
        /// This option's plan and prices.
        plan: Arc<PricedPlan>,
        /// Idempotency, and what stands against it across aggregates (the waiting room).
        request: Request,
    },
    /// Offers a confirmed reservation to somebody else. An earlier offer ends.
    OfferTransfer {
        /// Which.
        reservation: u64,
        /// On whose behalf.
        caller: Caller,
        /// To whom.
        to: UserId,
        /// For how long it stands, in milliseconds.
        stands_for_ms: u64,
        /// Idempotency.
        request: Request,
    },
    /// Takes an offer back.
    WithdrawTransfer {
        /// Of which reservation.
        reservation: u64,
        /// Which.
        transfer: u64,
        /// On whose behalf.
        caller: Caller,
    },
    /// Accepts an offer: the reservation is this user's from then on.
    AcceptTransfer {
        /// Of which reservation.
        reservation: u64,
        /// Which.
        transfer: u64,
        /// To whom it was made.
        user: UserId,
        /// Idempotency.
        request: Request,
    },
    /// Gives a confirmed reservation to somebody else at once; for whoever runs the sale.
    HandOn {
        /// Which.
        reservation: u64,
        /// To whom.
        to: UserId,
        /// Who does it, if it is known.
        by: Option<UserId>,
        /// Idempotency.
        request: Request,
    },
    /// Pays a held reservation from its owner's wallet.
    BeginPayment {
        /// Which.
        reservation: u64,
        /// On whose behalf.
        user: UserId,
        /// Idempotency.
        request: Request,
    },
    /// Lets a provider take the payment of a held reservation: its seats are pinned until the provider's deadline.
    BeginPaymentBy {
        /// Which.
        reservation: u64,
        /// On whose behalf.
        user: UserId,
        /// The provider's terms.
        method: Box<Method>,
        /// Idempotency.
        request: Request,
    },
    /// Gives a payment by a provider up that is pending.
    GiveUp {
        /// Which.
        payment: u64,
        /// On whose behalf.
        caller: Caller,
    },
    /// Says what a provider did.
    Report {
        /// With which payment.
        payment: u64,
        /// What.
        fact: Box<Fact>,
        /// The payment, if it has left memory.
        cold: Option<Box<Cold>>,
    },
    /// Says that what is owed was tried, and is certain not to have been done.
    Attempted {
        /// Of which payment.
        payment: u64,
        /// What is owed.
        owed: u32,
        /// Which attempt it was, from 0.
        attempt: u32,
    },
    /// Gives a payment back, and frees its seats.
    Refund {
        /// Which.
        payment: u64,
        /// On whose behalf.
        caller: Caller,
        /// Idempotency.
        request: Request,
    },
    /// Gives a part of a payment back, and frees the seats that it was for.
    RefundPart {
        /// Of which.
        payment: u64,
        /// On whose behalf.
        caller: Caller,
        /// What of its reservation.
        part: Portion,
        /// This option's plan and prices.
        plan: Arc<PricedPlan>,
        /// Idempotency.
        request: Request,
    },
    /// Calls the performance off: nothing is sold any more, holds end, and every payment is given back.
    CallOff {
        /// Why, if that is told.
        reason: Option<String>,
        /// Who does it.
        by: UserId,
        /// Idempotency.
        request: Request,
    },
    /// Deletes it, of which nothing was ever held.
    Delete {
        /// Who does it.
        by: UserId,
    },
    /// The catalogue has taken note that it is deleted.
    DeletionNoted,
    /// Takes free seats and places off sale.
    Block {
        /// Which, and why.
        blocks: Box<Blocks>,
        /// Idempotency.
        request: Request,
    },
    /// Puts blocked seats and places back on sale; other seats stay as they are.
    Unblock {
        /// Which, and why.
        blocks: Box<Blocks>,
        /// Idempotency.
        request: Request,
    },
    /// A wallet says what became of a debit.
    DebitAnswered {
        /// Of which payment.
        payment: u64,
        /// What.
        outcome: DebitOutcome,
    },
    /// A wallet has paid a refund out.
    CreditAnswered {
        /// Which.
        refund: u64,
        /// The balance after it.
        balance: Points,
        /// When.
        at: Timestamp,
    },
    /// The waiting room has taken note that a token is used.
    TokenCompleted {
        /// By which reservation.
        reservation: u64,
    },
}

impl Command {
    /// The plan and prices that it brings along.
    fn plan(&self) -> Option<&PricedPlan> {
        match self {
            Self::Hold { plan, .. }
            | Self::HoldFor { plan, .. }
            | Self::ReleasePart { plan, .. }
            | Self::Exchange { plan, .. }
            | Self::Replan { plan, .. }
            | Self::RefundPart { plan, .. } => Some(plan),
            _ => None,
        }
    }

    fn plan_mut(&mut self) -> Option<&mut Arc<PricedPlan>> {
        match self {
            Self::Hold { plan, .. }
            | Self::HoldFor { plan, .. }
            | Self::ReleasePart { plan, .. }
            | Self::Exchange { plan, .. }
            | Self::Replan { plan, .. }
            | Self::RefundPart { plan, .. } => Some(plan),
            _ => None,
        }
    }
}

/// What became of a debit, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DebitOutcome {
    /// It was taken.
    Debited {
        /// The balance after it.
        balance: Points,
        /// When.
        at: Timestamp,
    },
    /// There was not enough.
    Refused {
        /// What there was.
        balance: Points,
    },
    /// It was called off before it was taken.
    Cancelled,
}

/// What can have happened to an option.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// It was put on sale.
    #[n(0)]
    OptionDefined {
        /// Its id.
        #[n(0)]
        option: OptionId,
        /// On what terms.
        #[n(1)]
        definition: Box<Definition>,
    },
    /// Its sale window was moved.
    #[n(1)]
    OptionRescheduled {
        /// To this.
        #[n(0)]
        window: Window,
        /// By whom, if that is known.
        #[n(1)]
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<UserId>,
    },
    /// Seats or places were held.
    #[n(2)]
    SeatsHeld {
        /// The reservation's number.
        #[n(0)]
        reservation: u64,
        /// For whom.
        #[n(1)]
        user: UserId,
        /// Which seats, by their places in the plan.
        #[n(2)]
        #[cbor(with = "cbor::small")]
        seats: SeatRefs,
        /// Which places.
        #[n(3)]
        #[cbor(with = "cbor::small")]
        areas: SmallVec<[AreaPlaces; 1]>,
        /// The price of it all.
        #[n(4)]
        amount: Points,
        /// Until when.
        #[n(5)]
        expires_at: Timestamp,
        /// The queue token that let the user in.
        #[n(6)]
        token: Option<u64>,
        /// The idempotency key it came with.
        #[n(7)]
        key: Option<Key>,
        /// What each seat and place costs; absent before it was kept.
        #[n(8)]
        #[serde(skip_serializing_if = "Prices::is_empty")]
        prices: Prices,
        /// Which of the seats were blocked, and will be again.
        #[n(9)]
        #[cbor(with = "cbor::list", has_nil)]
        #[serde(skip_serializing_if = "Vec::is_empty")]
        from_blocked: Vec<u32>,
        /// Who holds them for the owner, if it is known.
        #[n(10)]
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<UserId>,
        /// What stands beside it.
        #[n(12)]
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<Box<Note>>,
    },
    /// A reservation was given up.
    #[n(3)]
    ReservationReleased {
        /// Which.
        #[n(0)]
        reservation: u64,
        /// By whom, if not by its owner.
        #[n(8)]
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<UserId>,
    },
    /// The time of some holds ran out.
    #[n(4)]
    ReservationsExpired {
        /// Of which reservations.
        #[n(0)]
        reservations: Vec<u64>,
    },
    /// A payment has begun; its seats cannot expire while it is under way.
    #[n(5)]
    PaymentStarted {
        /// The payment's number.
        #[n(0)]
        payment: u64,
        /// Of which reservation.
        #[n(1)]
        reservation: u64,
        /// When it is called off, if the wallet has not answered.
        #[n(2)]
        deadline: Timestamp,
        /// The idempotency key it came with.
        #[n(3)]
        key: Option<Key>,
    },
    /// The points were taken: the seats are sold.
    #[n(6)]
    PaymentConfirmed {
        /// Which.
        #[n(0)]
        payment: u64,
        /// The wallet's balance after it.
        #[n(1)]
        balance: Points,
        /// When the points were taken.
        #[n(2)]
        paid_at: Timestamp,
    },
    /// No points were taken, and none will be: the reservation is held again, until its old deadline.
    #[n(7)]
    PaymentFailed {
        /// Which.
        #[n(0)]
        payment: u64,
        /// Why.
        #[n(1)]
        reason: FailureReason,
    },
    /// A payment is given back: its seats are free.
    #[n(8)]
    PaymentRefunded {
        /// The refund's number.
        #[n(0)]
        refund: u64,
        /// Of which payment.
        #[n(1)]
        payment: u64,
        /// The idempotency key it came with.
        #[n(2)]
        key: Option<Key>,
        /// By whom, if not by its owner.
        #[n(8)]
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<UserId>,
    },
    /// The points of a refund are in the wallet.
    #[n(9)]
    RefundCredited {
        /// Which.
        #[n(0)]
        refund: u64,
        /// The wallet's balance after it.
        #[n(1)]
        balance: Points,
        /// When.
        #[n(2)]
        refunded_at: Timestamp,
        /// What is still paid of the payment, if only a part of it is given back.
        #[n(3)]
        #[serde(skip_serializing_if = "Option::is_none")]
        left: Option<Points>,
    },
    /// The waiting room has taken note of a used token.
    #[n(10)]
    TokenCompleted {
        /// Of which reservation.
        #[n(0)]
        reservation: u64,
    },
    /// Seats or places were taken off sale.
    #[n(11)]
    SeatsBlocked {
        /// Which of them were not before.
        #[n(0)]
        #[cbor(with = "cbor::small")]
        seats: SeatRefs,
        /// The idempotency key it came with.
        #[n(1)]
        key: Option<Key>,
        /// Which, if they are very many: then they do not stand in `seats`.
        #[n(2)]
        #[serde(skip_serializing_if = "SeatSet::is_empty")]
        many: SeatSet,
        /// By whom, if that is known.
        #[n(3)]
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<UserId>,
        /// How many places, too.
        #[n(4)]
        #[cbor(with = "cbor::list", has_nil)]
        #[serde(skip_serializing_if = "Vec::is_empty")]
        areas: Vec<AreaPlaces>,
        /// Why, if that was told.
        #[n(5)]
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Seats or places were put back on sale.
    #[n(12)]
    SeatsUnblocked {
        /// Which of them were not before.
        #[n(0)]
        #[cbor(with = "cbor::small")]
        seats: SeatRefs,
        /// The idempotency key it came with.
        #[n(1)]
        key: Option<Key>,
        /// Which, if they are very many: then they do not stand in `seats`.
        #[n(2)]
        #[serde(skip_serializing_if = "SeatSet::is_empty")]
        many: SeatSet,
        /// By whom, if that is known.
        #[n(3)]
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<UserId>,
        /// How many places, too.
        #[n(4)]
        #[cbor(with = "cbor::list", has_nil)]
        #[serde(skip_serializing_if = "Vec::is_empty")]
        areas: Vec<AreaPlaces>,
        /// Why, if that was told.
        #[n(5)]
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A payment by a provider has begun; its seats are pinned until its deadline.
    #[n(13)]
    ProviderPaymentStarted {
        /// The payment's number.
        #[n(0)]
        payment: u64,
        /// Of which reservation.
        #[n(1)]
        reservation: u64,
        /// All that later decisions need.
        #[n(2)]
        terms: Box<ProviderTerms>,
        /// How much.
        #[n(3)]
        amount: Points,
        /// Until when its seats are pinned, if nothing is heard.
        #[n(4)]
        deadline: Timestamp,
        /// The idempotency key it came with.
        #[n(5)]
        key: Option<Key>,
    },
    /// A provider has said something of a payment, or time or a user has brought it to a turn.
    #[n(14)]
    ProviderPaymentMoved {
        /// Which.
        #[n(0)]
        payment: u64,
        /// How.
        #[n(1)]
        moved: Box<Moved>,
    },
    /// What is owed of a payment was tried, and is certain not to have been done.
    #[n(15)]
    ProviderAttemptFailed {
        /// Of which payment.
        #[n(0)]
        payment: u64,
        /// What is owed.
        #[n(1)]
        owed: u32,
        /// Which attempt it was, from 0.
        #[n(2)]
        attempt: u32,
    },
    /// Nothing of these payments is open any more: they have left memory.
    #[n(16)]
    ProviderPaymentsWentCold {
        /// Which.
        #[n(0)]
        payments: Vec<u64>,
    },
    /// Something was heard of a payment that had left memory: it is back, as it was.
    #[n(17)]
    ProviderPaymentRevived {
        /// Which.
        #[n(0)]
        payment: u64,
        /// All of it.
        #[n(1)]
        row: Box<Payment>,
        /// Its reservation, if that had left memory too.
        #[n(2)]
        reservation: Option<Box<Reservation>>,
    },
    /// An order has changed, as a whole. Those that a provider took money for say so by [`Turn::Changed`].
    #[n(18)]
    OrderChanged {
        /// Which reservation.
        #[n(0)]
        reservation: u64,
        /// How.
        #[n(1)]
        change: Box<Change>,
    },
    /// What is to be taken in exchange is pinned; the wallet is asked for the difference.
    #[n(19)]
    ExchangeStarted {
        /// By which reservation.
        #[n(0)]
        reservation: u64,
        /// What it comes to.
        #[n(1)]
        exchange: Box<Exchange>,
    },
    /// The difference was not paid, and will not be: what was to be taken is free, and nothing was given.
    #[n(20)]
    ExchangeFailed {
        /// By which reservation.
        #[n(0)]
        reservation: u64,
        /// Why.
        #[n(1)]
        reason: FailureReason,
    },
    /// A reservation was offered to somebody else; an earlier offer has ended.
    #[n(21)]
    TransferOffered {
        /// Which.
        #[n(0)]
        reservation: u64,
        /// What stands from then on.
        #[n(1)]
        offer: Offer,
        /// The idempotency key it came with.
        #[n(2)]
        key: Option<Key>,
        /// Who did it, if not the owner.
        #[n(3)]
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<UserId>,
    },
    /// An offer was taken back.
    #[n(22)]
    TransferWithdrawn {
        /// Of which reservation.
        #[n(0)]
        reservation: u64,
        /// Who did it, if not the owner.
        #[n(1)]
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<UserId>,
    },
    /// What is held was given away: it is paid by nothing.
    #[n(23)]
    ComplimentaryGiven {
        /// The payment's number.
        #[n(0)]
        payment: u64,
        /// Of which reservation.
        #[n(1)]
        reservation: u64,
    },
    /// The performance is called off: nothing is sold any more. If it was before, only the key is new.
    #[n(24)]
    CalledOff {
        /// Why, if that was told.
        #[n(0)]
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// By whom.
        #[n(1)]
        by: UserId,
        /// The idempotency key it came with.
        #[n(2)]
        key: Option<Key>,
    },
    /// What it sells was changed, or on what terms; and with that perhaps its sale window.
    #[n(25)]
    OptionChanged {
        /// All of its terms from then on.
        #[n(0)]
        definition: Box<Definition>,
        /// By whom.
        #[n(1)]
        by: UserId,
        /// The idempotency key it came with.
        #[n(2)]
        #[serde(skip_serializing_if = "Option::is_none")]
        key: Option<Key>,
    },
    /// It was deleted: nothing of it was ever held, and there is no such option any more.
    #[n(26)]
    OptionDeleted {
        /// By whom.
        #[n(0)]
        by: UserId,
    },
    /// The catalogue has taken note of that.
    #[n(27)]
    DeletionNoted,
}

/// What an option answers. Small, since it is handed on many times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It is defined, or rescheduled, or its blocks are as wanted.
    Done,
    /// The same was asked before, and made what has this number.
    Replayed(u64),
    /// A reservation, as it is now.
    Reservation(u64, Box<Reservation>),
    /// A completed payment.
    Paid(u64, Box<Payment>),
    /// A refund that has reached the wallet, and the payment it gives back.
    Refunded(u64, Box<Refund>),
    /// A payment by a provider, as it is now.
    Payment(u64, Box<Payment>),
    /// A refund that a provider is to do.
    RefundOwed(u64, Box<Refund>),
    /// An exchange that came to its end: to those who sent the same key again.
    Again(u64, Box<Reservation>),
    /// An offer stands.
    Offered {
        /// Its number.
        transfer: u64,
        /// Until when.
        expires_at: Timestamp,
        /// The same was asked before.
        replayed: bool,
    },
    /// There was such a thing; it has come to its end and has left memory.
    Archived,
    /// The seating plan has changed since the one was read that came along: nothing was done.
    Outdated,
}

/// The state of one area.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct AreaState {
    /// Places held or being paid.
    #[n(0)]
    pub held: u32,
    /// Places sold.
    #[n(1)]
    pub sold: u32,
    /// The event that changed it last.
    #[n(2)]
    pub seq: Lsn,
    /// Places taken off sale.
    #[n(3)]
    #[cbor(with = "cbor::count", has_nil)]
    pub blocked: u32,
}

impl AreaState {
    /// How many places are free to be held, if there are so many in all.
    #[must_use]
    pub fn free(&self, capacity: u32) -> u32 {
        capacity - self.held - self.sold - self.blocked
    }
}

/// How many seats and places are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
pub struct Counts {
    /// Free to be held.
    #[n(0)]
    pub available: u64,
    /// Held or being paid.
    #[n(1)]
    pub held: u64,
    /// Sold.
    #[n(2)]
    pub sold: u64,
    /// Taken off sale.
    #[n(3)]
    pub blocked: u64,
}

/// What an option's state means for buyers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
pub enum OptionStatus {
    /// The sale has not opened yet.
    #[n(0)]
    Scheduled,
    /// Seats can be held.
    #[n(1)]
    OnSale,
    /// The sale is open, and nothing is available or may come back from a hold.
    #[n(2)]
    SoldOut,
    /// The sale is over.
    #[n(3)]
    Closed,
    /// The performance is called off.
    #[n(4)]
    Cancelled,
}

/// A payment or refund that waits for a wallet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unsettled {
    Payment {
        deadline: Timestamp,
    },
    Refund,
    /// The difference of an exchange.
    Difference {
        reservation: u64,
    },
}

#[derive(Debug, Clone, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
struct Header {
    #[n(0)]
    window: Window,
    /// The last number given to a reservation, payment or refund.
    #[n(1)]
    last_no: u64,
    #[n(2)]
    areas: Vec<AreaState>,
    /// The event that changed a seat or area last.
    #[n(3)]
    seq: Lsn,
    /// The event by which a payment by a provider has left memory last.
    #[n(4)]
    cooled: Option<Lsn>,
    /// That the performance is called off.
    #[n(5)]
    off: Option<calling_off::Off>,
    /// That it is deleted: nothing else is left of it then.
    #[n(6)]
    gone: Option<deleting::Gone>,
}

/// What seldom changes once it is defined: apart from the header, which every hold writes.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
struct Terms {
    #[n(0)]
    option: OptionId,
    #[n(1)]
    definition: Box<Definition>,
    #[n(2)]
    created_at: Timestamp,
    /// The events by which its plans but the first have come.
    #[n(3)]
    #[cbor(with = "cbor::list", has_nil)]
    replanned_at: Vec<Lsn>,
    /// Seats that are not for sale by the plan and were blocked before: they are again, should a plan have them for sale.
    #[n(4)]
    kept_blocked: SeatSet,
}

/// One performance on sale.
#[derive(Debug, Clone, Default)]
pub struct ConcertOption {
    terms: Option<Terms>,
    header: Header,
    seats: SeatMap,
    /// Those that are held, paying or confirmed, or whose refund is on its way or its token not acknowledged.
    reservations: HashMap<u64, Reservation>,
    /// Those that are pending or completed, or whose refund is on its way.
    payments: HashMap<u64, Payment>,
    /// Those that are on their way.
    refunds: HashMap<u64, Refund>,
    /// Seats and places of each user that has any.
    users: HashMap<UserId, u32>,
    /// When each hold runs out, of those that are held and not being paid.
    deadlines: BTreeSet<(Timestamp, u64)>,
    /// What waits for a wallet's answer.
    unsettled: BTreeMap<u64, Unsettled>,
    /// What of it came with an idempotency key: by the key's scope.
    begun: HashMap<[u8; 16], u64>,
    /// Used tokens that the waiting room has not acknowledged: by reservation.
    tokens_owed: BTreeMap<u64, u64>,
    keys: Memory,
    /// Reservations that have ended, and of whose payments by providers something may still be heard.
    lapsed: HashMap<u64, Reservation>,
    /// Payments by providers in memory: by reservation.
    by_reservation: HashMap<u64, SmallVec<[u64; 2]>>,
    /// When time does something to them.
    timers: BTreeSet<(Timestamp, u64)>,
    /// Those of which something is owed.
    owing: BTreeSet<u64>,
    /// Those that are disputed, or of which something is missing.
    amiss: BTreeSet<u64>,
    /// Whose the references are that providers have for them.
    references: HashMap<String, u64>,
    /// How many of each user took no money.
    for_nothing: by_provider::ForNothing,
    /// Reservations that are to end, and can at once, since the performance is called off.
    ending: BTreeSet<u64>,
}

impl ConcertOption {
    /// Its terms, once it is defined.
    #[must_use]
    pub fn definition(&self) -> Option<&Definition> {
        self.terms.as_ref().map(|terms| &*terms.definition)
    }

    /// Reads the terms in the row of [`Part::Terms`], and the events by which its plans but the first have come.
    ///
    /// # Errors
    /// It is not one.
    pub fn definition_from_row(row: &[u8]) -> Result<(Definition, Vec<Lsn>), CorruptRow> {
        let terms: Terms = cbor::from_row(&Part::Terms, row)?;
        Ok((*terms.definition, terms.replanned_at))
    }

    /// When it is on sale.
    #[must_use]
    pub fn window(&self) -> Window {
        self.header.window
    }

    /// When it was defined.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.terms.as_ref().map_or_else(Timestamp::default, |terms| terms.created_at)
    }

    /// The event that changed a seat or area last.
    #[must_use]
    pub fn seq(&self) -> Lsn {
        self.header.seq
    }

    /// Its seats.
    #[must_use]
    pub fn seats(&self) -> &SeatMap {
        &self.seats
    }

    /// Its areas, in the order of the definition.
    #[must_use]
    pub fn areas(&self) -> &[AreaState] {
        &self.header.areas
    }

    /// A reservation that is in memory.
    #[must_use]
    pub fn reservation(&self, no: u64) -> Option<&Reservation> {
        self.reservations.get(&no)
    }

    /// The last number that was given to a reservation, payment or refund.
    #[must_use]
    pub fn last_no(&self) -> u64 {
        self.header.last_no
    }

    /// All reservations in memory, in no order.
    pub fn reservations(&self) -> impl Iterator<Item = (u64, &Reservation)> {
        self.reservations.iter().map(|(no, reservation)| (*no, reservation))
    }

    /// A payment that is in memory.
    #[must_use]
    pub fn payment(&self, no: u64) -> Option<&Payment> {
        self.payments.get(&no)
    }

    /// A refund that is on its way.
    #[must_use]
    pub fn refund(&self, no: u64) -> Option<&Refund> {
        self.refunds.get(&no)
    }

    /// Seats and places that are held, paying or confirmed by a user.
    #[must_use]
    pub fn places_of(&self, user: &UserId) -> u32 {
        self.users.get(user).copied().unwrap_or(0)
    }

    /// All users that have any such seats or places, with how many, in no order.
    pub fn users(&self) -> impl Iterator<Item = (&UserId, u32)> {
        self.users.iter().map(|(user, places)| (user, *places))
    }

    /// Who has an open hold, or pays for one; who has two is named twice.
    pub fn holders(&self) -> impl Iterator<Item = &UserId> {
        let paid_for = |no| Some(self.payments.get(no)?.reservation);
        let paying = self.unsettled.keys().filter_map(paid_for);
        // Time does something to each of them that is pending or authorised.
        let by_providers = self.timers.iter().filter_map(|(_, payment)| {
            let no = self.payments.get(payment)?.reservation;
            let pays = self.reservations.get(&no)?.status == ReservationStatus::Paying { payment: *payment };
            pays.then_some(no)
        });
        let held = self.deadlines.iter().map(|(_, no)| *no).chain(paying).chain(by_providers);
        let held = held.filter_map(|no| self.reservations.get(&no));
        held.filter(|reservation| reservation.status.may_be_held()).map(|reservation| &reservation.user)
    }

    /// How many holds are open, and how many of them run out before `until`.
    #[must_use]
    pub fn holds(&self, until: Timestamp) -> (usize, usize) {
        (self.deadlines.len(), self.deadlines.range(..(until, 0)).count())
    }

    /// How many seats and places are in each state.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let seats = self.seats.counts();
        let mut counts = Counts {
            available: u64::from(seats.free),
            held: u64::from(seats.held),
            sold: u64::from(seats.sold),
            // Those that are withdrawn are not there.
            blocked: u64::from(seats.blocked - self.definition().map_or(0, Definition::withdrawn)),
        };
        let capacities = self.definition().map_or(&[][..], |definition| &definition.areas);
        for (area, state) in capacities.iter().zip(&self.header.areas) {
            counts.available += u64::from(state.free(area.capacity));
            counts.held += u64::from(state.held);
            counts.sold += u64::from(state.sold);
            counts.blocked += u64::from(state.blocked);
        }
        counts
    }

    /// What is paid for what is sold now: what was given back, in whole or in part, is not in it. It is summed up anew each time.
    #[must_use]
    pub fn revenue(&self) -> u64 {
        let sold = self.reservations.values().filter(|one| matches!(one.status, ReservationStatus::Confirmed { .. }));
        sold.fold(0, |sum, one| sum.saturating_add(one.amount.get()))
    }

    /// What its state means for buyers at `now`.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> OptionStatus {
        let counts = self.counts();
        if self.is_called_off() {
            OptionStatus::Cancelled
        } else if now >= self.header.window.sale_closes_at {
            OptionStatus::Closed
        } else if !self.header.window.is_open(now) {
            OptionStatus::Scheduled
        } else if counts.available == 0 && counts.held == 0 {
            OptionStatus::SoldOut
        } else {
            OptionStatus::OnSale
        }
    }

    fn id(&self) -> OptionId {
        self.terms.as_ref().map_or(OptionId(0), |terms| terms.option)
    }

    /// What this request's key has begun that still waits for a wallet.
    ///
    /// # Errors
    /// It came with another payload then.
    fn begun_by(&self, request: &Request) -> Result<Option<u64>, Rejection> {
        let Some(key) = &request.key else { return Ok(None) };
        let Some(no) = self.begun.get(&key.scope) else { return Ok(None) };
        let payment = self.payments.get(no).and_then(|payment| payment.key.as_ref());
        let first = payment.or_else(|| self.refunds.get(no).and_then(|refund| refund.key.as_ref()));
        let first = first.or_else(|| self.exchange_of(*no).and_then(|(.., exchange)| exchange.change.key.as_ref()));
        if first == Some(key) { Ok(Some(*no)) } else { Err(Rejection::IdempotencyKeyReused) }
    }

    /// The answer to a request whose key has been used: at once, or when what it has begun comes to its end. What is under
    /// way goes first, since [`Memory::recall`] also says what stands against a new key.
    ///
    /// # Errors
    /// It came with another payload then; or it is new, and something stands against it.
    fn known(&self, now: Timestamp, request: &Request) -> Result<Option<Answer<Reply>>, Rejection> {
        if let Some(ticket) = self.begun_by(request)? {
            return Ok(Some(Answer::Park { ticket, role: Role::Duplicate }));
        }
        Ok(self.keys.recall(now, request)?.map(|made| Answer::Reply(Reply::Replayed(made))))
    }

    /// Below this number every step is settled, given that `next` is about to begin.
    fn settled_below(&self, next: u64) -> u64 {
        self.unsettled.keys().next().map_or(next, |first| *first.min(&next))
    }

    /// The reservation of this number for `caller`, or what to say instead.
    fn reachable(&self, no: u64, caller: &Caller) -> Result<Option<&Reservation>, Rejection> {
        match self.reservations.get(&no) {
            Some(reservation) if caller.may_reach(&reservation.user) => Ok(Some(reservation)),
            None if (1..=self.header.last_no).contains(&no) => Ok(None),
            _ => Err(Rejection::NotFound),
        }
    }

    /// As [`reachable`](Self::reachable), a payment.
    fn reachable_payment(&self, no: u64, caller: &Caller) -> Result<Option<&Payment>, Rejection> {
        match self.payments.get(&no) {
            Some(payment) if caller.may_reach(&payment.user) => Ok(Some(payment)),
            None if (1..=self.header.last_no).contains(&no) => Ok(None),
            _ => Err(Rejection::NotFound),
        }
    }

    fn decide_hold(
        &self,
        now: Timestamp,
        Holder { user, token, note, by }: Holder<'_>,
        (wish, office): (&Wish, Office),
        plan: &PricedPlan,
        request: &Request,
        out: &mut Decided<Event>,
    ) -> Result<Answer<Reply>, Rejection> {
        let most = if office.beyond_limits { BEYOND_LIMITS_MAX } else { plan.definition.max_seats_per_reservation };
        // Before all that may change: what is wrong by itself stays so.
        Flaw::refuse(wish.flaw(plan, most).into_iter().chain(note.and_then(Note::flaw)))?;
        if let Some(made) = self.keys.recall(now, request)? {
            return Ok(Answer::Reply(Reply::Replayed(made)));
        }
        let terms = self.definition().ok_or(Rejection::NotFound)?;
        if !self.is_open(now) {
            return Err(Rejection::SaleNotOpen);
        }
        let count = match wish {
            Wish::Seats(seats) => seats.len() as u64,
            Wish::Best(best) => u64::from(best.count) + u64::from(best.companions),
            Wish::Areas(areas) => areas.iter().map(|area| u64::from(area.count)).sum(),
        };
        let already = u64::from(self.places_of(user));
        let per_user = if office.beyond_limits { u64::MAX } else { terms.max_seats_per_user.into() };
        let limits = [(count, u64::from(most)), (already + count, per_user)];
        if let Some((_, limit)) = limits.into_iter().find(|(wanted, limit)| wanted > limit) {
            return Err(Rejection::LimitExceeded { limit, already });
        }
        let (mut seats, mut areas, mut from_blocked) = (SeatRefs::new(), SmallVec::new(), Vec::new());
        match wish {
            Wish::Seats(wanted) => {
                if office.from_blocked {
                    from_blocked.extend(wanted.iter().copied().filter(|seat| self.is_blocked_for_now(*seat)));
                }
                let others: SeatRefs = wanted.iter().copied().filter(|seat| !from_blocked.contains(seat)).collect();
                self.all_free(&others)?;
                seats.clone_from(wanted);
            }
            Wish::Best(best) => {
                let found = seat_map::best_available(&plan.plan, &plan.preference, &self.seats, best);
                seats.extend(found.ok_or(Rejection::NotEnoughSeats)?);
            }
            Wish::Areas(wanted) => {
                self.have_room(terms, wanted)?;
                areas.clone_from(wanted);
            }
        }
        let lot = Lot::at_todays_prices(plan, seats, areas);
        let lot = if office.complimentary { lot.for_nothing() } else { lot };
        let amount = sum_of(&lot)?;
        let Lot { seats, areas, prices } = lot;
        let reservation = self.header.last_no + 1;
        let expires_at = now.plus_millis(u64::from(terms.hold_seconds) * 1000);
        let held = Box::new(Reservation {
            user: user.clone(),
            seats: seats.clone(),
            areas: areas.clone(),
            amount,
            created_at: now,
            expires_at,
            token,
            status: ReservationStatus::Held,
            steps: SmallVec::new(),
            prices: prices.clone(),
            course: None,
            note: note.cloned().map(Box::new),
        });
        let (user, key, note) = (user.clone(), request.key.clone(), held.note.clone());
        out.events.push(Event::SeatsHeld {
            reservation,
            user,
            seats,
            areas,
            amount,
            expires_at,
            token,
            key,
            prices,
            from_blocked,
            by: by.cloned(),
            note,
        });
        if !office.complimentary {
            return Ok(Answer::Reply(Reply::Reservation(reservation, held)));
        }
        let payment = reservation + 1;
        out.events.push(Event::ComplimentaryGiven { payment, reservation });
        let status = ReservationStatus::Confirmed { payment };
        Ok(Answer::Reply(Reply::Reservation(reservation, Box::new(Reservation { status, ..*held }))))
    }

    /// Refuses what is more than an area has left.
    fn have_room(&self, terms: &Definition, wanted: &[AreaPlaces]) -> Result<(), Rejection> {
        for place in wanted {
            let state = self.header.areas.get(usize::from(place.area)).ok_or(Rejection::NotFound)?;
            if state.free(terms.areas[usize::from(place.area)].capacity) < place.count {
                return Err(Rejection::NotEnoughSeats);
            }
        }
        Ok(())
    }

    /// Whether a seat was taken off sale, and could be put back.
    fn is_blocked_for_now(&self, seat: u32) -> bool {
        let never = self.definition().is_some_and(|terms| terms.not_for_sale.contains(seat));
        seat < self.seats.len() && self.seats.status(seat) == SeatStatus::Blocked && !never
    }

    /// Refuses seats that the plan does not have.
    fn all_known(&self, seats: &[u32]) -> Result<(), Rejection> {
        let known = self.terms.is_some() && seats.iter().all(|seat| *seat < self.seats.len());
        if known { Ok(()) } else { Err(Rejection::NotFound) }
    }

    fn all_free(&self, seats: &[u32]) -> Result<(), Rejection> {
        self.all_known(seats)?;
        let conflicts: SmallVec<_> = seats.iter().copied().filter(|seat| !self.seats.is_free(*seat)).collect();
        if conflicts.is_empty() { Ok(()) } else { Err(Rejection::SeatsUnavailable { conflicts }) }
    }

    fn complete_token(&self, reservation: u64, no: u64) -> Option<Message> {
        let concert = self.definition()?.concert;
        let reservation = ReservationId { option: self.id(), no: reservation };
        Some(Message::Room(concert, waiting_room::Command::CompleteToken { no, reservation }))
    }

    /// Moves the seats and places of a reservation from what they were to what they are now.
    fn occupy(
        &mut self,
        no: u64,
        reservation: &Reservation,
        (from, to): (SeatStatus, SeatStatus),
        lsn: Lsn,
        changes: &mut impl Changes<Part>,
    ) {
        self.occupy_all(no, (&reservation.seats, &reservation.areas), (from, to), lsn, changes);
    }

    /// Moves seats and places of a reservation from what they were to what they are now.
    fn occupy_all(
        &mut self,
        no: u64,
        (seats, areas): (&[u32], &[AreaPlaces]),
        (from, to): (SeatStatus, SeatStatus),
        lsn: Lsn,
        changes: &mut impl Changes<Part>,
    ) {
        let owner = if to == SeatStatus::Free { 0 } else { no };
        self.set_seats(seats.iter().copied(), to, owner, lsn, changes);
        for place in areas {
            let state = &mut self.header.areas[usize::from(place.area)];
            state.seq = lsn;
            match from {
                SeatStatus::Held => state.held -= place.count,
                SeatStatus::Sold => state.sold -= place.count,
                SeatStatus::Free | SeatStatus::Blocked => {}
            }
            match to {
                SeatStatus::Held => state.held += place.count,
                SeatStatus::Sold => state.sold += place.count,
                SeatStatus::Free | SeatStatus::Blocked => {}
            }
        }
        self.header.seq = lsn;
        changes.touch(Part::Header);
    }

    fn set_seats(
        &mut self,
        seats: impl IntoIterator<Item = u32>,
        to: SeatStatus,
        owner: u64,
        lsn: Lsn,
        changes: &mut impl Changes<Part>,
    ) {
        // A block of seats that are blocked already is an event if it has a key to remember.
        let mut is_any = false;
        for seat in seats {
            self.seats.set(seat, to, owner, lsn);
            changes.touch(Part::Seats(seat / seat_map::CHUNK_SEATS));
            is_any = true;
        }
        if is_any {
            self.header.seq = lsn;
            changes.touch(Part::Header);
        }
    }

    /// Takes a reservation that is held no more out of the user's count, and its seats back.
    fn vacate(&mut self, no: u64, reservation: &Reservation, lsn: Lsn, changes: &mut impl Changes<Part>) {
        let from = if reservation.status.may_be_held() { SeatStatus::Held } else { SeatStatus::Sold };
        self.occupy(no, reservation, (from, SeatStatus::Free), lsn, changes);
        // They come after what was set free, since that is how it was before.
        self.set_seats(reservation.from_blocked().iter().copied(), SeatStatus::Blocked, 0, lsn, changes);
        self.count_out(&reservation.user, reservation.places(), changes);
    }

    /// Takes places out of a user's count.
    fn count_out(&mut self, user: &UserId, places: u32, changes: &mut impl Changes<Part>) {
        let Some(known) = self.users.get_mut(user) else { return };
        *known -= places;
        let part = || Part::User(user.clone());
        if *known > 0 {
            return changes.touch_named(part);
        }
        self.users.remove(user);
        changes.remove(part);
    }

    /// Ends a held reservation.
    fn end_hold(&mut self, no: u64, step: StepKind, meta: Meta, changes: &mut impl Changes<Part>) {
        if let Some(mut reservation) = self.reservations.remove(&no) {
            self.vacate(no, &reservation, meta.lsn, changes);
            changes.count(&reservation.user, Counted::HoldClosed);
            let expired = step == StepKind::Expired;
            reservation.status = if expired { ReservationStatus::Expired } else { ReservationStatus::Released };
            reservation.note(step, meta);
            self.deadlines.remove(&(reservation.expires_at, no));
            self.ending.remove(&no);
            if self.by_reservation.contains_key(&no) {
                changes.touch(Part::Reservation(no));
                self.lapsed.insert(no, reservation);
            } else {
                changes.archive(Part::Reservation(no), || cbor::to_vec(&reservation));
            }
        }
    }

    fn remember(&mut self, at: Timestamp, key: Option<&Key>, made: u64, changes: &mut impl Changes<Part>) {
        self.remember_until(at, key, (made, None), changes);
    }

    fn remember_until(
        &mut self,
        at: Timestamp,
        key: Option<&Key>,
        made: (u64, Option<Timestamp>),
        changes: &mut impl Changes<Part>,
    ) {
        if let Some(key) = key {
            self.keys.remember_until(at, key, made, |scope| changes.touch(Part::Key(scope)));
            changes.count(&key.caller, Counted::KeyUsed(at));
        }
    }

    /// Writes a step of a paid reservation down. One whose refund is paid out leaves memory, unless its token is not
    /// acknowledged yet, which is a step too.
    fn note(&mut self, no: u64, step: StepKind, meta: Meta, changes: &mut impl Changes<Part>) {
        let Some(reservation) = self.reservations.get_mut(&no) else { return };
        reservation.note(step, meta);
        if !self.forget_refunded(no, changes) {
            changes.touch(Part::Reservation(no));
        }
    }

    /// Lets a reservation leave memory if it is refunded, and nothing of it is open any more.
    fn forget_refunded(&mut self, no: u64, changes: &mut impl Changes<Part>) -> bool {
        let Some(reservation) = self.reservations.get(&no) else { return false };
        let refunded = matches!(reservation.status, ReservationStatus::Refunded { payment } if !self.payments.contains_key(&payment));
        let is_open = self.tokens_owed.contains_key(&no) || self.by_reservation.contains_key(&no);
        if refunded && !is_open {
            changes.archive(Part::Reservation(no), || cbor::to_vec(reservation));
            self.reservations.remove(&no);
            return true;
        }
        false
    }
}

/// The sum of all prices. Within the limits of an option it fits, since definitions are checked.
fn sum_of(lot: &Lot) -> Result<Points, Rejection> {
    let more = || Flaw::new("amount", format!("all together must be at most {}", Points::MAX));
    lot.amount().ok_or_else(|| Rejection::Invalid(vec![more()]))
}

impl Aggregate for ConcertOption {
    type Command = Command;
    type Event = Event;
    type Reply = Reply;
    type Part = Part;

    fn decide(&self, now: Timestamp, command: &Command, out: &mut Decided<Event>) -> Result<Answer<Reply>, Rejection> {
        let Some(command) = self.on_present_terms(command) else { return Ok(Answer::Reply(Reply::Outdated)) };
        match &*command {
            Command::Define { option, definition } => {
                // Who hears late of one that is deleted does not bring it back.
                if self.terms.is_none() && self.header.gone.is_none() {
                    out.events.push(Event::OptionDefined { option: *option, definition: definition.clone() });
                }
                out.tell.push(Message::Catalogue(catalogue::Command::OptionDefined { option: *option }));
                Ok(Answer::Reply(Reply::Done))
            }
            Command::Delete { by } => self.decide_deletion(by, out),
            Command::DeletionNoted => {
                if self.owed_deletion().is_some() {
                    out.events.push(Event::DeletionNoted);
                }
                Ok(Answer::Silent)
            }
            Command::Reschedule { patch } => {
                let terms = self.definition().ok_or(Rejection::NotFound)?;
                let window = patch.apply(self.header.window, terms.starts_at);
                Flaw::refuse(window.flaw())?;
                if window != self.header.window {
                    out.events.push(Event::OptionRescheduled { window, by: None });
                }
                Ok(Answer::Reply(Reply::Done))
            }
            Command::Hold { user, wish, token, note, plan, request } => {
                let holder = Holder { user, token: *token, note: note.as_deref(), by: None };
                self.decide_hold(now, holder, (wish, Office::default()), plan, request, out)
            }
            Command::HoldFor { user, wish, office, note, by, plan, request } => {
                let holder = Holder { user, token: None, note: note.as_deref(), by: by.as_ref() };
                self.decide_hold(now, holder, (wish, *office), plan, request, out)
            }
            Command::ReleasePart { reservation, caller, part, plan, request } => {
                self.decide_release_part(now, (*reservation, caller), part, plan, request, out)
            }
            Command::HoldUntil { reservation, expires_at, by } => {
                self.decide_hold_until(now, (*reservation, by.as_ref()), *expires_at, out)
            }
            Command::Exchange { reservation, caller, give, take, plan, request } => {
                self.decide_exchange(now, (*reservation, caller), (give, take), plan, request, out)
            }
            Command::OfferTransfer { reservation, caller, to, stands_for_ms, request } => {
                self.decide_offer(now, (*reservation, caller), (to, *stands_for_ms), request, out)
            }
            Command::WithdrawTransfer { reservation, transfer, caller } => {
                self.decide_withdraw(now, (*reservation, *transfer), caller, out)
            }
            Command::AcceptTransfer { reservation, transfer, user, request } => {
                self.decide_accept(now, (*reservation, *transfer), user, request, out)
            }
            Command::HandOn { reservation, to, by, request } => {
                self.decide_hand_on(now, (*reservation, by.as_ref()), to, request, out)
            }
            Command::RefundPart { payment, caller, part, plan, request } => {
                self.decide_refund_part(now, (*payment, caller), part, plan, request, out)
            }
            Command::Release { reservation: no, caller } => {
                let Some(reservation) = self.reachable(*no, caller)? else {
                    return Ok(Answer::Reply(Reply::Archived));
                };
                if reservation.status != ReservationStatus::Held {
                    return Err(Rejection::ReservationNotHeld);
                }
                out.events.push(Event::ReservationReleased { reservation: *no, by: caller.doer() });
                let released = Box::new(Reservation { status: ReservationStatus::Released, ..reservation.clone() });
                Ok(Answer::Reply(Reply::Reservation(*no, released)))
            }
            Command::BeginPayment { reservation, user, request } => {
                self.decide_payment(now, *reservation, user, request, out)
            }
            Command::BeginPaymentBy { reservation, user, method, request } => {
                self.decide_begin(now, (*reservation, user), method, request, out)
            }
            Command::GiveUp { payment, caller } => self.decide_give_up(now, *payment, caller, out),
            Command::Report { payment, fact, cold } => self.decide_report(now, *payment, fact, cold.as_deref(), out),
            &Command::Attempted { payment, owed, attempt } => {
                self.decide_attempted(payment, owed, attempt, out);
                Ok(Answer::Reply(Reply::Done))
            }
            Command::Change { patch, by } => self.decide_change(patch, by, out),
            Command::Replan { new, by, request, .. } => self.decide_replan(now, (new, by), request, out),
            Command::CallOff { reason, by, request } => {
                self.decide_call_off(now, (reason.as_deref(), by), request, out)
            }
            Command::Refund { payment, caller, request } => self.decide_refund(now, *payment, caller, request, out),
            Command::Block { blocks, request } => self.decide_block(now, blocks, request, out),
            Command::Unblock { blocks, request } => self.decide_unblock(now, blocks, request, out),
            Command::DebitAnswered { payment, outcome } => Ok(self.decide_debit_answered(now, *payment, *outcome, out)),
            &Command::CreditAnswered { refund: no, balance, at } => {
                let Some(refund) = self.refunds.get(&no) else { return Ok(Answer::Silent) };
                let payment = self.payments.get(&refund.payment);
                // Of one that goes back to several, the last to come ends it.
                let stays =
                    payment.filter(|payment| payment.status == PaymentStatus::Completed || payment.crediting > 1);
                let left = stays.map(Payment::price);
                out.events.push(Event::RefundCredited { refund: no, balance, refunded_at: at, left });
                let refunded = Box::new(Refund { balance, refunded_at: at, key: None, ..refund.clone() });
                Ok(Answer::Settle {
                    ticket: no,
                    starter: Ok(Reply::Refunded(no, refunded)),
                    duplicate: Ok(Reply::Replayed(no)),
                    other: Err(Rejection::NotRefundable),
                })
            }
            &Command::TokenCompleted { reservation } => {
                if self.tokens_owed.contains_key(&reservation) {
                    out.events.push(Event::TokenCompleted { reservation });
                }
                Ok(Answer::Silent)
            }
        }
    }

    fn evolve(&mut self, meta: Meta, event: &Event, changes: &mut impl Changes<Part>) {
        let Meta { lsn, at } = meta;
        match event {
            Event::OptionDefined { option, definition } => {
                self.terms = Some(Terms {
                    option: *option,
                    definition: definition.clone(),
                    created_at: at,
                    replanned_at: Vec::new(),
                    kept_blocked: SeatSet::default(),
                });
                self.header = Header {
                    window: definition.window,
                    last_no: 0,
                    areas: vec![AreaState::default(); definition.areas.len()],
                    seq: lsn,
                    cooled: None,
                    off: None,
                    gone: None,
                };
                self.seats = SeatMap::new(definition.seat_count);
                self.set_seats(definition.not_for_sale.iter(), SeatStatus::Blocked, 0, lsn, changes);
                changes.touch(Part::Terms);
                changes.touch(Part::Header);
            }
            Event::OptionRescheduled { window, .. } => {
                self.header.window = *window;
                changes.touch(Part::Header);
            }
            Event::SeatsHeld {
                reservation: no,
                user,
                seats,
                areas,
                amount,
                expires_at,
                token,
                key,
                prices,
                from_blocked,
                note,
                ..
            } => {
                let mut reservation = Reservation {
                    user: user.clone(),
                    seats: seats.clone(),
                    areas: areas.clone(),
                    amount: *amount,
                    created_at: at,
                    expires_at: *expires_at,
                    token: *token,
                    status: ReservationStatus::Held,
                    steps: SmallVec::new(),
                    note: note.clone(),
                    prices: prices.clone(),
                    course: None,
                };
                if !from_blocked.is_empty() {
                    reservation.course_mut().from_blocked = from_blocked.as_slice().into();
                }
                reservation.note(StepKind::Held, meta);
                self.header.last_no = *no;
                self.occupy(*no, &reservation, (SeatStatus::Free, SeatStatus::Held), lsn, changes);
                self.count_places(user, reservation.places(), changes);
                self.deadlines.insert((*expires_at, *no));
                self.reservations.insert(*no, reservation);
                changes.count(user, Counted::HoldOpened);
                changes.list(user, Part::Reservation(*no));
                self.remember(at, key.as_ref(), *no, changes);
            }
            Event::ReservationReleased { reservation, .. } => {
                self.end_hold(*reservation, StepKind::Released, meta, changes);
            }
            Event::ReservationsExpired { reservations } => {
                for no in reservations {
                    self.end_hold(*no, StepKind::Expired, meta, changes);
                }
            }
            Event::PaymentStarted { payment, reservation: no, deadline, key } => {
                self.header.last_no = *payment;
                changes.touch(Part::Header);
                let Some(reservation) = self.reservations.get_mut(no) else { return };
                reservation.status = ReservationStatus::Paying { payment: *payment };
                reservation.note(StepKind::PaymentStarted, meta);
                self.deadlines.remove(&(reservation.expires_at, *no));
                let begun = Payment {
                    reservation: *no,
                    user: reservation.user.clone(),
                    amount: reservation.amount,
                    started_at: at,
                    deadline: *deadline,
                    status: PaymentStatus::Pending,
                    balance: Points::ZERO,
                    paid_at: at,
                    key: key.clone(),
                    provider: None,
                    legs: Vec::new(),
                    crediting: 0,
                    complimentary: false,
                };
                self.unsettled.insert(*payment, Unsettled::Payment { deadline: *deadline });
                self.begun.extend(key.as_ref().map(|key| (key.scope, *payment)));
                changes.touch(Part::Reservation(*no));
                changes.list(&begun.user, Part::Payment(*payment));
                self.payments.insert(*payment, begun);
            }
            Event::PaymentConfirmed { payment, balance, paid_at } => {
                self.evolve_confirmed(meta, *payment, *balance, *paid_at, changes);
            }
            Event::PaymentFailed { payment, reason } => {
                self.evolve_failed(meta, *payment, *reason, changes);
            }
            Event::PaymentRefunded { refund, payment, key, .. } => {
                self.evolve_refunded(meta, *refund, *payment, key.as_ref(), changes);
            }
            Event::RefundCredited { refund, balance, refunded_at, .. } => {
                self.evolve_credited(meta, *refund, *balance, *refunded_at, changes);
            }
            Event::TokenCompleted { reservation } => {
                self.tokens_owed.remove(reservation);
                changes.remove(|| Part::TokenOwed(*reservation));
                self.note(*reservation, StepKind::TokenCompleted, meta, changes);
            }
            Event::SeatsBlocked { seats, key, many, areas, .. } => {
                self.evolve_blocks(lsn, SeatStatus::Blocked, (seats, many, areas), changes);
                self.remember(at, key.as_ref(), 0, changes);
            }
            Event::SeatsUnblocked { seats, key, many, areas, .. } => {
                self.evolve_blocks(lsn, SeatStatus::Free, (seats, many, areas), changes);
                self.remember(at, key.as_ref(), 0, changes);
            }
            Event::ProviderPaymentStarted { payment, reservation, terms, amount, deadline, key } => {
                let agreed = (&**terms, *amount, *deadline);
                self.evolve_started(meta, (*payment, *reservation), agreed, key.as_ref(), changes);
            }
            Event::ProviderPaymentMoved { payment, moved } => {
                self.evolve_moved(meta, *payment, moved, changes);
            }
            Event::ProviderAttemptFailed { payment, owed, .. } => {
                self.evolve_attempted(*payment, *owed, changes);
            }
            Event::ProviderPaymentsWentCold { payments } => {
                for no in payments {
                    self.evolve_cold(meta, *no, changes);
                }
            }
            Event::ProviderPaymentRevived { payment, row, reservation } => {
                self.evolve_revived(*payment, row, reservation.as_deref(), changes);
            }
            Event::OrderChanged { reservation, change } => {
                self.evolve_changed(meta, *reservation, change, changes);
            }
            Event::ExchangeStarted { reservation, exchange } => {
                self.evolve_exchange_started(meta, *reservation, exchange, changes);
            }
            Event::ExchangeFailed { reservation, .. } => {
                self.evolve_exchange_failed(meta, *reservation, changes);
            }
            Event::TransferOffered { reservation, offer, key, .. } => {
                self.evolve_offered(*reservation, Some(offer), changes);
                self.remember_until(at, key.as_ref(), (offer.no, Some(offer.expires_at)), changes);
            }
            Event::TransferWithdrawn { reservation, .. } => {
                self.evolve_offered(*reservation, None, changes);
            }
            Event::ComplimentaryGiven { payment, reservation } => {
                self.evolve_complimentary(meta, *payment, *reservation, changes);
            }
            Event::OptionChanged { definition, key, .. } => {
                self.evolve_option_changed(lsn, definition, changes);
                self.remember(at, key.as_ref(), 0, changes);
            }
            Event::OptionDeleted { by } => self.evolve_deleted(by, changes),
            Event::DeletionNoted => self.evolve_deletion_noted(changes),
            Event::CalledOff { reason, by, key } => {
                self.evolve_called_off(at, reason.as_deref(), by);
                changes.touch(Part::Header);
                self.remember(at, key.as_ref(), 0, changes);
            }
        }
    }

    fn due(&self) -> Option<Timestamp> {
        let holds = self.deadlines.first().map(|(at, _)| *at);
        let timers = self.timers.first().map(|(at, _)| *at);
        holds.into_iter().chain(timers).chain(self.calls_off_at()).min()
    }

    fn expire(&self, now: Timestamp, out: &mut Decided<Event>) {
        self.expire_provider_payments(now, out);
        let due = self.deadlines.iter().take_while(|(at, _)| *at <= now);
        let due: Vec<_> = due.map(|(_, no)| *no).collect();
        let batches = due.chunks(EXPIRE_BATCH_MAX).map(<[u64]>::to_vec);
        out.events.extend(batches.map(|reservations| Event::ReservationsExpired { reservations }));
    }

    fn tick(&self, now: Timestamp, _entropy: u64, out: &mut Decided<Event>) {
        self.call_some_off(now, out);
    }

    fn owed(&self, now: Timestamp, out: &mut Vec<Message>) {
        for (no, step) in &self.unsettled {
            match step {
                Unsettled::Payment { deadline } => {
                    let payment = self.payments.get(no);
                    out.extend(payment.map(|of| self.debit(*no, (&of.user, of.amount), now, *deadline)));
                }
                Unsettled::Difference { .. } => {
                    let exchange = self.exchange_of(*no);
                    out.extend(exchange.map(|(.., exchange)| self.ask_for_difference(now, exchange)));
                }
                Unsettled::Refund => {
                    let refund = self.refunds.get(no);
                    out.extend(refund.map(|refund| self.credit(*no, &refund.user, refund.amount)));
                }
            }
        }
        let tokens =
            self.tokens_owed.iter().filter_map(|(reservation, token)| self.complete_token(*reservation, *token));
        out.extend(tokens);
        out.extend(self.owed_deletion());
        if !self.owing.is_empty() {
            out.push(Message::Providers(self.id()));
        }
    }

    fn owes(&self) -> bool {
        let steps = !self.unsettled.is_empty() || !self.tokens_owed.is_empty();
        steps || !self.owing.is_empty() || self.owed_deletion().is_some()
    }

    /// Also where somebody has to see a payment: it is found among those that are looked after.
    fn needs_care(&self) -> bool {
        self.owes() || self.due().is_some() || !self.amiss.is_empty()
    }

    fn row(&self, part: &Part) -> Option<Vec<u8>> {
        match part {
            Part::Terms => self.terms.as_ref().map(cbor::to_vec),
            Part::Header => Some(cbor::to_vec(&self.header)),
            // There are none of an option that is deleted.
            Part::Seats(chunk) if *chunk >= self.seats.chunk_count() => None,
            Part::Seats(chunk) => self.seats.encode_chunk(*chunk),
            Part::User(user) => self.users.get(user).map(cbor::to_vec),
            Part::Reservation(no) => self.any_reservation(*no).map(cbor::to_vec),
            Part::Payment(no) => self.payments.get(no).map(cbor::to_vec),
            Part::Refund(no) => self.refunds.get(no).map(cbor::to_vec),
            Part::TokenOwed(reservation) => self.tokens_owed.get(reservation).map(cbor::to_vec),
            Part::Key(scope) => self.keys.get(scope).map(cbor::to_vec),
        }
    }

    fn load(rows: impl Iterator<Item = (Part, Vec<u8>)>) -> Result<Self, CorruptRow> {
        let mut option = Self::default();
        let (mut keys, mut chunks) = (Vec::new(), Vec::new());
        for (part, row) in rows {
            match part {
                Part::Terms => option.terms = Some(cbor::from_row(&part, &row)?),
                Part::Header => option.header = cbor::from_row(&part, &row)?,
                Part::Seats(chunk) => chunks.push((chunk, row)),
                Part::User(ref user) => {
                    option.users.insert(user.clone(), cbor::from_row(&part, &row)?);
                }
                Part::Reservation(no) => {
                    option.lapsed_or_not(no, Reservation::from_row(no, &row)?);
                }
                Part::Payment(no) => {
                    option.warm(no, Payment::from_row(no, &row)?);
                }
                Part::Refund(no) => {
                    option.refunds.insert(no, Refund::from_row(no, &row)?);
                }
                Part::TokenOwed(reservation) => {
                    option.tokens_owed.insert(reservation, cbor::from_row(&part, &row)?);
                }
                Part::Key(scope) => keys.push((scope, cbor::from_row::<Remembered>(&part, &row)?)),
            }
        }
        option.keys = Memory::from_rows(keys);
        option.seats = SeatMap::new(option.definition().map_or(0, |definition| definition.seat_count));
        for (chunk, row) in chunks {
            let loaded = option.seats.load_chunk(chunk, &row);
            loaded.map_err(|source| CorruptRow { part: format!("{:?}", Part::Seats(chunk)), source })?;
        }
        let holds = option.reservations.iter().filter(|(_, reservation)| reservation.status == ReservationStatus::Held);
        option.deadlines = holds.map(|(no, reservation)| (reservation.expires_at, *no)).collect();
        let differences = option.reservations.iter().filter_map(|(no, reservation)| {
            Some((reservation.exchange()?.leg.no, Unsettled::Difference { reservation: *no }))
        });
        let payments = option.payments.iter().filter(|(_, payment)| payment.status == PaymentStatus::Pending);
        option.unsettled = payments
            .map(|(no, payment)| (*no, Unsettled::Payment { deadline: payment.deadline }))
            .chain(option.refunds.keys().map(|no| (*no, Unsettled::Refund)))
            .chain(differences)
            .collect();
        let payments = option.payments.iter().map(|(no, payment)| (no, &payment.key));
        let keys = payments.chain(option.refunds.iter().map(|(no, refund)| (no, &refund.key)));
        let exchanges = option.reservations.values().filter_map(|reservation| {
            let exchange = reservation.exchange()?;
            Some((exchange.change.key.as_ref()?.scope, exchange.leg.no))
        });
        option.begun = keys.filter_map(|(no, key)| Some((key.as_ref()?.scope, *no))).chain(exchanges).collect();
        option.find_ending();
        Ok(option)
    }
}
