//! What callers of the engine give and get. Everything that is got serialises to the JSON of the HTTP API.

macro_rules! statuses {
    ($(#[$doc:meta])* $status:ident { $($(#[$name_doc:meta])* $name:ident $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $status {
            $($(#[$name_doc])* $name,)*
        }

        impl $status {
            /// Every one there is.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name in the API.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }

        impl Serialize for $status {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<C> minicbor::Encode<C> for $status {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.str(self.as_str())?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $status {
            fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                let text = d.str()?;
                let found = Self::ALL.iter().copied().find(|status| status.as_str() == text);
                found.ok_or_else(|| minicbor::decode::Error::message("is no status"))
            }
        }
    };
}

mod changes;
mod payments;
mod reservations;
mod selling;

use std::sync::Arc;

use serde::ser::{SerializeMap, SerializeStruct, Serializer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::catalogue::Details;
use crate::domain::concert_option::{self, AreaState, Counts, OptionStatus, PricedPlan};
use crate::domain::seat_map::{SeatMap, Status as SeatStatus};
use crate::domain::sink::{Registration, Response};
use crate::domain::waiting_room::{self, Settings};
use crate::domain::wallet::{self, EntryKind};
use crate::domain::{
    ConcertId, Currency, EntryId, EventId, EventType, Lsn, OptionId, Points, ReservationId, SinkId, Timestamp, TokenId,
    UserId, idempotency,
};

pub use self::changes::{Blocks, Office, Portion, Transfer};
pub use self::payments::{
    OwedItem, Payment, PaymentFilter, PaymentStatus, Provided, Reconciled, Refund, RefundStatus, Verdict,
};
pub(crate) use self::reservations::BareReservation;
pub use self::reservations::{Reservation, ReservationFilter, ReservationStatus, ReservedArea, ReservedSeat};
pub use self::selling::Cancellation;
pub use crate::domain::concert_option::{Caller, Focus, WindowPatch};

/// An idempotency key: the same key with the same payload gives the same answer, for 24 hours and across restarts.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct IdempotencyKey {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub(crate) scope: [u8; 16],
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub(crate) payload: [u8; 16],
    #[n(2)]
    pub(crate) caller: UserId,
}

impl IdempotencyKey {
    /// `key` as `caller` gave it for `operation` (over HTTP: method and path), with the payload it came with.
    #[must_use]
    pub fn new(caller: &UserId, operation: &str, key: &str, payload: &[u8]) -> Self {
        let scope = digest(&[caller.as_str().as_bytes(), operation.as_bytes(), key.as_bytes()]);
        Self { scope, payload: digest(&[payload]), caller: caller.clone() }
    }

    pub(crate) fn into_domain(self) -> idempotency::Key {
        idempotency::Key { scope: self.scope, payload: self.payload, caller: self.caller }
    }
}

/// The first half of a SHA-256 over the parts and their lengths.
fn digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut half = [0; 16];
    half.copy_from_slice(&hasher.finalize()[..16]);
    half
}

/// An answer, and whether it is one that was given before.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Answered<T> {
    /// The answer.
    #[n(0)]
    pub value: T,
    /// Whether the same idempotency key has had this answer before.
    #[n(1)]
    pub replayed: bool,
}

/// Which page of a list.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct PageRequest {
    /// Items at the most, 1 to 500.
    #[n(0)]
    pub limit: usize,
    /// The `next_cursor` of the page before.
    #[n(1)]
    pub cursor: Option<String>,
}

impl Default for PageRequest {
    fn default() -> Self {
        Self { limit: 50, cursor: None }
    }
}

/// One page of a list, newest first.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Page<T> {
    /// The items.
    #[n(0)]
    pub items: Vec<T>,
    /// Where the next page begins; null on the last.
    #[n(1)]
    #[cfg_attr(feature = "server", schema(required))]
    pub next_cursor: Option<String>,
}

/// A concert to be announced.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct NewConcert {
    /// 1 to 200 characters, no control characters.
    #[n(0)]
    pub title: String,
    /// How its waiting room begins.
    #[n(1)]
    pub waiting_room: Settings,
}

impl NewConcert {
    /// One of this title, without a line: everybody is let in.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), waiting_room: Settings::default() }
    }
}

/// A concert.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Concert {
    /// Its id.
    #[n(0)]
    pub id: ConcertId,
    /// Its title.
    #[n(1)]
    pub title: String,
    /// The settings of its waiting room.
    #[n(2)]
    pub waiting_room: Settings,
    /// Its options, oldest first.
    #[n(3)]
    pub options: Vec<OptionId>,
    /// When it was announced.
    #[n(4)]
    pub created_at: Timestamp,
    /// What else is told of it.
    #[n(5)]
    #[serde(flatten)]
    pub details: Details,
}

/// The waiting room of a concert.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct WaitingRoom {
    /// Its settings.
    #[n(0)]
    #[serde(flatten)]
    pub settings: Settings,
    /// How many tokens are in each state.
    #[n(1)]
    pub counts: waiting_room::Counts,
}

/// A general-admission area of a new option.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct NewArea {
    /// 1 to 200 characters, unique on the option.
    #[n(0)]
    #[cfg_attr(feature = "server", schema(min_length = 1, max_length = 200))]
    pub name: String,
    /// 1 to 1,000,000 people.
    #[n(1)]
    #[cfg_attr(feature = "server", schema(minimum = 1, maximum = 1_000_000))]
    pub capacity: u32,
    /// A category that has a price.
    #[n(2)]
    pub category: String,
}

/// An option to be put on sale.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct NewOption {
    /// When the performance starts.
    #[n(0)]
    pub starts_at: Timestamp,
    /// From when seats may be held; `None`: at once.
    #[n(1)]
    pub sale_opens_at: Option<Timestamp>,
    /// From when they may not; `None`: when it starts.
    #[n(2)]
    pub sale_closes_at: Option<Timestamp>,
    /// The pretix seating plan, as JSON.
    #[cbor(skip)]
    pub seating_plan: Vec<u8>,
    /// What each category costs.
    #[n(3)]
    pub prices: Vec<(String, Points)>,
    /// General admission.
    #[n(4)]
    pub areas: Vec<NewArea>,
    /// How long a hold lasts, 1 to 86,400.
    #[n(5)]
    pub hold_seconds: u32,
    /// How long a payment may take, 1 to 3,600.
    #[n(6)]
    pub payment_seconds: u32,
    /// 1 to 100.
    #[n(7)]
    pub max_seats_per_reservation: u32,
    /// 1 to 10,000.
    #[n(8)]
    pub max_seats_per_user: u32,
    /// Until when owners may have payments refunded; `None`: never.
    #[n(9)]
    pub refundable_until: Option<Timestamp>,
    /// Where the better seats are, for those who leave the choice to the house; `None`: in the rows that the plan lists first.
    #[n(10)]
    pub focus: Option<Focus>,
    /// Categories that the best available seats are of only for those who name them.
    #[n(11)]
    pub accessible: Vec<String>,
    /// How it can be paid: `points`, or the names of providers in the configuration; none: by points.
    #[n(12)]
    #[cbor(default)]
    pub payment_methods: Vec<String>,
    /// What its prices are of; required with any other method than points.
    #[n(13)]
    pub currency: Option<Currency>,
}

impl NewOption {
    /// One that starts at `starts_at` in the house of `seating_plan`, with the defaults of the HTTP API.
    #[must_use]
    pub fn new(starts_at: Timestamp, seating_plan: Vec<u8>) -> Self {
        Self {
            starts_at,
            sale_opens_at: None,
            sale_closes_at: None,
            seating_plan,
            prices: Vec::new(),
            areas: Vec::new(),
            hold_seconds: 300,
            payment_seconds: 60,
            max_seats_per_reservation: 8,
            max_seats_per_user: 8,
            refundable_until: None,
            focus: None,
            accessible: Vec::new(),
            payment_methods: Vec::new(),
            currency: None,
        }
    }
}

/// A seating plan that takes the place of an option's, and what comes with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct NewSeatingPlan {
    /// The pretix seating plan, as JSON. Seats are known again by their guids.
    #[cbor(skip)]
    pub seating_plan: Vec<u8>,
    /// What these categories cost from then on; others as before.
    #[n(0)]
    pub prices: Vec<(String, Points)>,
    /// Categories that the best available seats are of only for those who name them; `None`: as before.
    #[n(1)]
    pub accessible: Option<Vec<String>>,
    /// Where the better seats are; `None`: as before.
    #[n(2)]
    pub focus: Option<Focus>,
}

/// A concert option: one performance on sale.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct ConcertOption {
    /// Its id.
    #[n(0)]
    pub id: OptionId,
    /// The concert it is a performance of.
    #[n(1)]
    pub concert_id: ConcertId,
    /// What its state means for buyers.
    #[n(2)]
    pub status: OptionStatus,
    /// When the performance starts.
    #[n(3)]
    pub starts_at: Timestamp,
    /// From when seats may be held; null: from the start.
    #[n(4)]
    #[cfg_attr(feature = "server", schema(required))]
    pub sale_opens_at: Option<Timestamp>,
    /// From when they may not.
    #[n(5)]
    pub sale_closes_at: Timestamp,
    /// Until when owners may have payments refunded; null: never.
    #[n(6)]
    #[cfg_attr(feature = "server", schema(required))]
    pub refundable_until: Option<Timestamp>,
    /// What each category costs.
    #[n(7)]
    #[serde(serialize_with = "as_map")]
    #[cfg_attr(feature = "server", schema(value_type = std::collections::BTreeMap<String, Points>))]
    pub prices: Vec<concert_option::Price>,
    /// General admission.
    #[n(8)]
    #[cfg_attr(feature = "server", schema(value_type = Vec<NewArea>))]
    pub areas: Vec<concert_option::Area>,
    /// How long a hold lasts.
    #[n(9)]
    pub hold_seconds: u32,
    /// How long a payment may take.
    #[n(10)]
    pub payment_seconds: u32,
    /// The most seats and places of one reservation.
    #[n(11)]
    pub max_seats_per_reservation: u32,
    /// The most seats and places of one user.
    #[n(12)]
    pub max_seats_per_user: u32,
    /// Where the better seats are; null: in the rows that the plan lists first.
    #[n(13)]
    #[cfg_attr(feature = "server", schema(required))]
    pub focus: Option<Focus>,
    /// Categories that the best available seats are of only for those who name them.
    #[n(14)]
    pub accessible: Vec<String>,
    /// Seats and places in each state.
    #[n(15)]
    pub counts: Counts,
    /// When it was put on sale.
    #[n(16)]
    pub created_at: Timestamp,
    /// How it can be paid; absent: by points.
    #[n(17)]
    #[cbor(default)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "server", schema(required = false))]
    pub payment_methods: Vec<String>,
    /// What its prices are of; absent: of points.
    #[n(18)]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "server", schema(required = false))]
    pub currency: Option<Currency>,
}

fn as_map<S: Serializer>(prices: &[concert_option::Price], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(prices.iter().map(|price| (&price.category, price.points)))
}

/// What to hold.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum Wish {
    /// The seats of these ids.
    #[n(0)]
    Seats(#[n(0)] Vec<String>),
    /// The best that are free.
    #[n(1)]
    BestAvailable(#[n(0)] BestAvailable),
    /// So many places in these areas.
    #[n(2)]
    Areas(#[n(0)] Vec<(String, u32)>),
}

impl Wish {
    /// The seats of these ids.
    pub fn seats<S: Into<String>>(ids: impl IntoIterator<Item = S>) -> Self {
        Self::Seats(ids.into_iter().map(Into::into).collect())
    }

    /// The best `count` seats side by side, wherever they are.
    #[must_use]
    pub fn best(count: u32) -> Self {
        Self::BestAvailable(BestAvailable { count, category: None, zone: None, adjacent: true, companions: 0 })
    }

    /// `count` places in this area.
    pub fn places(area: impl Into<String>, count: u32) -> Self {
        Self::Areas(vec![(area.into(), count)])
    }
}

/// What counts as best.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct BestAvailable {
    /// How many, 1 to the option's `max_seats_per_reservation`; with companions, how many accessible places.
    #[n(0)]
    #[cfg_attr(feature = "server", schema(minimum = 1, maximum = 100))]
    pub count: u32,
    /// Only of this category.
    #[n(1)]
    pub category: Option<String>,
    /// Only in this zone.
    #[n(2)]
    pub zone: Option<String>,
    /// Whether they must stand side by side in one row.
    #[n(3)]
    #[serde(default = "yes")]
    pub adjacent: bool,
    /// How many seats for companions beside accessible places; with them all must be adjacent.
    #[n(4)]
    #[serde(default)]
    #[cfg_attr(feature = "server", schema(minimum = 0, maximum = 99))]
    pub companions: u32,
}

fn yes() -> bool {
    true
}

/// A user's points.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Wallet {
    /// Whose.
    #[n(0)]
    pub user_id: UserId,
    /// How many.
    #[n(1)]
    pub balance: Points,
}

/// One change of a wallet. As JSON the amount of a correction that took points is below zero.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct WalletEntry {
    /// Its id.
    #[n(0)]
    pub id: EntryId,
    /// What for.
    #[n(1)]
    pub kind: EntryKind,
    /// How many points came or went.
    #[n(2)]
    #[cfg_attr(feature = "server", schema(value_type = i64))]
    pub amount: Points,
    /// The balance after it.
    #[n(3)]
    pub balance: Points,
    /// Who charged or corrected, or the id of the payment or refund.
    #[n(4)]
    pub reference: String,
    /// When.
    #[n(5)]
    pub at: Timestamp,
    /// Why it was corrected; absent where it was not.
    #[n(6)]
    pub reason: Option<String>,
}

impl Serialize for WalletEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { id, kind, amount, balance, reference, at, reason } = self;
        let mut fields = serializer.serialize_struct("WalletEntry", 6 + usize::from(reason.is_some()))?;
        fields.serialize_field("id", id)?;
        fields.serialize_field("kind", kind)?;
        match kind {
            // Points are fewer than 2^53.
            EntryKind::AdjustedDown => fields.serialize_field("amount", &-(amount.get() as i64))?,
            _ => fields.serialize_field("amount", amount)?,
        }
        fields.serialize_field("balance", balance)?;
        fields.serialize_field("reference", reference)?;
        fields.serialize_field("at", at)?;
        if let Some(reason) = reason {
            fields.serialize_field("reason", reason)?;
        }
        fields.end()
    }
}

impl WalletEntry {
    pub(crate) fn new(user: &UserId, entry: wallet::Entry) -> Self {
        Self {
            id: EntryId::new(user, entry.no),
            kind: entry.kind,
            amount: entry.amount,
            balance: entry.balance,
            reference: entry.reference,
            at: entry.at,
            reason: entry.reason,
        }
    }
}

/// Something that has happened to a seat, a wallet or a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HistoryItem {
    /// When.
    pub at: Timestamp,
    /// The event that says so.
    pub lsn: Lsn,
    /// What.
    pub what: &'static str,
    /// Who did it; `None`: nobody whom the journal names, such as time, or a provider of payments.
    pub who: Option<UserId>,
    /// Why, where that was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Of which reservation it is a part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation_id: Option<ReservationId>,
}

/// A place in a waiting room.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Token {
    /// Its id.
    #[n(0)]
    pub id: TokenId,
    /// The signed form, to be shown when seats are held.
    #[n(1)]
    pub token: String,
    /// Whose waiting room.
    #[n(2)]
    pub concert_id: ConcertId,
    /// Where it stands.
    #[n(3)]
    pub status: waiting_room::TokenStatus,
    /// 1 = next; null unless it waits in an opened line.
    #[n(4)]
    #[cfg_attr(feature = "server", schema(required))]
    pub position: Option<u64>,
    /// How many are before it; null likewise.
    #[n(5)]
    #[cfg_attr(feature = "server", schema(required))]
    pub ahead: Option<u64>,
    /// How many wait.
    #[n(6)]
    pub queue_size: u64,
    /// How long it may take; null if that cannot be told.
    #[n(7)]
    #[cfg_attr(feature = "server", schema(required))]
    pub expected_wait_seconds: Option<u64>,
    /// After how long to ask again.
    #[n(8)]
    pub refresh_interval_seconds: u64,
    /// When an active one lapses; null otherwise.
    #[n(9)]
    #[cfg_attr(feature = "server", schema(required))]
    pub expires_at: Option<Timestamp>,
}

/// The seats of an option, at one moment.
#[derive(Debug, Clone)]
pub struct Seats {
    /// The lsn of the last change; 0 if there was none.
    pub seq: Lsn,
    pub(crate) map: SeatMap,
    pub(crate) areas: Vec<AreaState>,
    pub(crate) plan: Arc<PricedPlan>,
}

impl Seats {
    /// The seats that are not available: ids and states.
    pub fn taken(&self) -> impl Iterator<Item = (&str, SeatStatus)> {
        (0..self.plan.plan.numbers())
            .map(|seat| (seat, self.map.status(seat)))
            .filter(|(seat, status)| *status != SeatStatus::Free && !self.plan.plan.is_withdrawn(*seat))
            .map(|(seat, status)| (self.plan.plan.seat(seat).guid, status))
    }

    /// The state of the seat of this id.
    #[must_use]
    pub fn status(&self, id: &str) -> Option<SeatStatus> {
        self.plan.plan.seat_index(id).map(|seat| self.map.status(seat))
    }

    /// The areas, in the order in which they were defined: names, capacities and what is available.
    pub fn areas(&self) -> impl Iterator<Item = (&str, AreaSeats)> {
        area_seats(&self.plan, &self.areas)
    }
}

/// Areas of a plan by their names.
pub(crate) fn area_seats<'a>(
    plan: &'a PricedPlan,
    areas: &'a [AreaState],
) -> impl Iterator<Item = (&'a str, AreaSeats)> {
    plan.definition.areas.iter().zip(areas).map(|(area, state)| {
        (area.name.as_str(), AreaSeats { capacity: area.capacity, available: state.free(area.capacity) })
    })
}

/// Places in an area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct AreaSeats {
    /// In all.
    pub capacity: u32,
    /// Free to be held.
    pub available: u32,
}

/// The name of a seat's state in the API.
#[must_use]
pub fn seat_status_name(status: SeatStatus) -> &'static str {
    match status {
        SeatStatus::Free => "available",
        SeatStatus::Held => "held",
        SeatStatus::Sold => "sold",
        SeatStatus::Blocked => "blocked",
    }
}

/// Serialises an iterator of pairs as an object.
pub(crate) struct Object<F>(pub(crate) F);

impl<K: Serialize, V: Serialize, I: Iterator<Item = (K, V)>, F: Fn() -> I> Serialize for Object<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(None)?;
        for (key, value) in (self.0)() {
            object.serialize_entry(&key, &value)?;
        }
        object.end()
    }
}

impl Serialize for Seats {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Seats", 4)?;
        fields.serialize_field("option_id", &self.plan.option)?;
        fields.serialize_field("seq", &self.seq)?;
        fields.serialize_field("seats", &Object(|| self.taken().map(|(id, status)| (id, seat_status_name(status)))))?;
        fields.serialize_field("areas", &Object(|| self.areas()))?;
        fields.end()
    }
}

/// A sale at one moment, for whoever runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct SaleFigures {
    /// When.
    pub at: Timestamp,
    /// Seats and places in each state.
    pub seats: Counts,
    /// Open holds, but for those that are being paid.
    pub holds: u64,
    /// Those of them that run out within a minute.
    pub holds_expiring: u64,
    /// Tokens of the concert's waiting room.
    pub line: waiting_room::Counts,
}

/// What has been sold at one moment, and who stands in line for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaleTotals {
    /// Of which concert.
    pub concert: ConcertId,
    /// Seats and places in each state.
    pub seats: Counts,
    /// What is paid for those that are sold, in the smallest units of `currency`.
    pub revenue: u64,
    /// In which it is sold.
    pub currency: Currency,
    /// Tokens of the concert's waiting room.
    pub line: waiting_room::Counts,
}

/// How the engine is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Health {
    /// Whether callers' commands are taken.
    pub ready: bool,
    /// Why not.
    pub reasons: Vec<String>,
    /// What an operator should look at, although it is ready.
    pub warnings: Vec<String>,
    /// What it is to its cluster, if it is in one.
    #[serde(flatten)]
    pub node: Option<NodeHealth>,
}

/// How a node of a cluster is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct NodeHealth {
    /// Its name.
    pub node: String,
    /// Whether it decides.
    pub role: NodeRole,
    /// The node that decides; null if there is none.
    #[cfg_attr(feature = "server", schema(required))]
    pub owner: Option<String>,
    /// The place of the log from which on that one does.
    pub epoch: u64,
    /// The last event in this node's journal.
    pub lsn: u64,
    /// Messages of the log that this node has not taken in yet, as far as it knows.
    pub lag: u64,
}

/// What a node is to its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum NodeRole {
    /// It decides.
    Owner,
    /// It has what the owner decides.
    Follower,
}

/// Counters and gauges, for monitoring.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Stats {
    /// The last durable event.
    pub durable_lsn: u64,
    /// The last event that reads see.
    pub applied_lsn: u64,
    /// The last event in sled.
    pub checkpointed_lsn: u64,
    /// Batches written.
    pub batches: u64,
    /// Bytes that the journal has grown by, since the engine was opened: whole frames.
    pub journal_bytes: u64,
    /// Time spent in writing and syncing batches, in seconds.
    pub commit_seconds: f64,
    /// Actors in memory.
    pub resident_actors: u64,
    /// Aggregates in memory for reads.
    pub readable_aggregates: u64,
    /// Commands that were refused because too much was under way.
    pub overloaded: u64,
    /// How far the engine's clock is from the wall clock, in seconds.
    pub clock_skew_seconds: f64,
    /// Bytes that may still be written.
    pub free_bytes: u64,
    /// About how long a start would take to replay what is not in the state yet, in seconds.
    pub replay_seconds: f64,
    /// How often a checkpoint or the journal's next segment was put off for want of descriptors, memory or space.
    pub put_off: u64,
    /// Those who follow an option's seats or a token.
    pub live_subscribers: u64,
    /// Times that an option's seats were looked at for those who follow them.
    pub live_flushes: u64,
    /// Updates for those who had fallen behind, each in place of several.
    pub live_conflations: u64,
    /// Snapshots for those who had fallen behind.
    pub live_resyncs: u64,
}

/// A receiver of events.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Sink {
    /// Its id.
    #[n(0)]
    pub id: SinkId,
    /// Who receives what.
    #[n(1)]
    pub registration: Registration,
    /// When it was registered.
    #[n(2)]
    pub created_at: Timestamp,
    /// Why nothing is delivered to it, if that is so: it said that it is gone.
    #[n(3)]
    pub disabled: Option<String>,
    /// Everything up to here is delivered, parked or not wanted, and will not be delivered again after a restart.
    #[n(4)]
    pub cursor: EventId,
    /// How far it is behind: so many lsns are to be looked through.
    #[n(5)]
    pub lag: u64,
    /// Events that the cursor has passed and that are not delivered: they wait for another attempt, for one before them, or,
    /// as dead letters, for an operator.
    #[n(6)]
    pub parked: u64,
    /// How many of those are dead letters.
    #[n(7)]
    pub dead_letters: u64,
    /// How deliveries go; none if nobody delivers.
    #[n(8)]
    pub deliveries: Option<DeliveryProgress>,
}

/// Why a receiver is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, minicbor::Encode, minicbor::Decode, Serialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub enum PauseReason {
    /// It failed so often in a row.
    #[n(0)]
    Failures,
    /// It asked for it.
    #[n(1)]
    RetryAfter,
}

/// For how long a receiver is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, minicbor::Encode, minicbor::Decode)]
pub struct Pause {
    /// Until then.
    #[n(0)]
    pub until: Timestamp,
    /// Why.
    #[n(1)]
    pub reason: PauseReason,
}

/// How deliveries to a sink go, since the engine was opened.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct DeliveryProgress {
    /// Everything up to here is delivered, parked or not wanted.
    #[n(0)]
    pub passed: EventId,
    /// What the breaker lets through.
    #[n(1)]
    pub breaker: BreakerState,
    /// How long the receiver is left alone.
    #[n(2)]
    pub pause: Option<Pause>,
    /// Attempts that were accepted.
    #[n(3)]
    pub delivered: u64,
    /// Attempts that were not.
    #[n(4)]
    pub failed: u64,
    /// The last of those.
    #[n(5)]
    pub last_failure: Option<Response>,
    /// When the last one was accepted.
    #[n(6)]
    pub last_delivered_at: Option<Timestamp>,
}

/// What a breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[cbor(index_only)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub enum BreakerState {
    /// Everything.
    #[n(0)]
    Closed,
    /// Nothing.
    #[n(1)]
    Open,
    /// One attempt at a time, until one succeeds.
    #[n(2)]
    HalfOpen,
}

/// An event that a receiver would not take.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct DeadLetter {
    /// Which.
    #[n(0)]
    pub event_id: EventId,
    /// What happened.
    #[n(1)]
    pub event_type: EventType,
    /// What it is about.
    #[n(2)]
    pub subject: String,
    /// How often it was tried.
    #[n(3)]
    pub attempts: u32,
    /// What the receiver said last; null if it was never asked.
    #[n(4)]
    #[cfg_attr(feature = "server", schema(required))]
    pub last_response: Option<Response>,
}
