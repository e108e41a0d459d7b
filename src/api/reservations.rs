//! Reservations, and what is in them.

use std::sync::Arc;

use serde::Serialize;
use serde::ser::{Error as _, SerializeSeq, SerializeStruct, Serializer};
use smallvec::SmallVec;

use crate::domain::concert_option::{self, AreaPlaces, Note, PricedPlan, Prices, SagaStep, SeatRefs};
use crate::domain::{Currency, PaymentId, Points, ReservationId, Timestamp, UserId, cbor};

/// A reserved seat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct ReservedSeat<'a> {
    /// Its `seat_guid` in the plan.
    pub id: &'a str,
    /// The zone it is in.
    pub zone: &'a str,
    /// Its row's name.
    pub row: &'a str,
    /// Its number in the row.
    pub number: &'a str,
    /// What to call its row in a text, in place of "row" and its name, if the plan says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row_label: Option<&'a str>,
    /// What to call it in a text, in place of "seat" and its number, if the plan says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seat_label: Option<String>,
    /// Its category.
    pub category: &'a str,
    /// What it costs.
    pub price: Points,
}

/// Reserved places in an area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct ReservedArea<'a> {
    /// The area.
    pub name: &'a str,
    /// How many.
    pub count: u32,
    /// Its category.
    pub category: &'a str,
    /// What one place costs.
    pub price: Points,
}

statuses! {
    /// Where a reservation is in its life.
    ReservationStatus {
        /// Its seats are held until its deadline.
        Held "held",
        /// A payment is under way; its seats cannot expire.
        Paying "paying",
        /// Paid: its seats are sold.
        Confirmed "confirmed",
        /// Given up.
        Released "released",
        /// Its time ran out.
        Expired "expired",
        /// Paid, and given back.
        Refunded "refunded",
    }
}

impl From<concert_option::ReservationStatus> for ReservationStatus {
    fn from(status: concert_option::ReservationStatus) -> Self {
        use concert_option::ReservationStatus as Status;
        match status {
            Status::Held => Self::Held,
            Status::Paying { .. } => Self::Paying,
            Status::Confirmed { .. } => Self::Confirmed,
            Status::Released => Self::Released,
            Status::Expired => Self::Expired,
            Status::Refunded { .. } => Self::Refunded,
        }
    }
}

/// A reservation, but for what every node knows of its option: as it travels from one to another.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(crate) struct BareReservation {
    #[n(0)]
    pub(crate) id: ReservationId,
    #[n(1)]
    user_id: UserId,
    #[n(2)]
    status: ReservationStatus,
    #[n(3)]
    amount: Points,
    #[n(4)]
    created_at: Timestamp,
    #[n(5)]
    expires_at: Timestamp,
    #[n(6)]
    #[cbor(with = "cbor::small")]
    seats: SeatRefs,
    #[n(7)]
    #[cbor(with = "cbor::small")]
    areas: SmallVec<[AreaPlaces; 1]>,
    #[n(8)]
    #[cbor(with = "cbor::small")]
    steps: SmallVec<[SagaStep; 2]>,
    #[n(9)]
    prices: Prices,
    #[n(12)]
    payment: Option<u64>,
    #[n(13)]
    note: Option<Box<Note>>,
}

impl BareReservation {
    pub(crate) fn new(id: ReservationId, reservation: concert_option::Reservation) -> Self {
        Self {
            id,
            user_id: reservation.user,
            status: reservation.status.into(),
            amount: reservation.amount,
            created_at: reservation.created_at,
            expires_at: reservation.expires_at,
            seats: reservation.seats,
            areas: reservation.areas,
            steps: reservation.steps,
            prices: reservation.prices,
            payment: reservation.status.payment(),
            note: reservation.note,
        }
    }

    /// Whether this plan knows all of its seats and areas.
    pub(crate) fn fits(&self, plan: &PricedPlan) -> bool {
        let areas = plan.definition.areas.len();
        self.seats.iter().all(|seat| *seat < plan.plan.numbers())
            && self.areas.iter().all(|place| usize::from(place.area) < areas)
    }

    /// The whole of it, with the plan of its option.
    pub(crate) fn with(self, plan: Arc<PricedPlan>) -> Reservation {
        let Self { id, user_id, status, amount, created_at, expires_at, seats, areas, steps, prices, payment, note } =
            self;
        let payment_id = payment.map(|no| PaymentId { option: id.option, no });
        Reservation {
            id,
            user_id,
            status,
            payment_id,
            amount,
            created_at,
            expires_at,
            seats,
            areas,
            steps,
            note,
            prices,
            plan,
        }
    }
}

impl From<Reservation> for BareReservation {
    fn from(reservation: Reservation) -> Self {
        let Reservation {
            id, user_id, status, amount, created_at, expires_at, seats, areas, steps, note, prices, ..
        } = reservation;
        let payment = reservation.payment_id.map(|payment| payment.no);
        Self { id, user_id, status, amount, created_at, expires_at, seats, areas, steps, prices, payment, note }
    }
}

/// A reservation.
#[derive(Debug, Clone)]
pub struct Reservation {
    /// Its id.
    pub id: ReservationId,
    /// Whose it is.
    pub user_id: UserId,
    /// Where it is in its life.
    pub status: ReservationStatus,
    /// The payment that pays it, has paid it, or was given back.
    pub payment_id: Option<PaymentId>,
    /// The price of it all.
    pub amount: Points,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its hold runs out.
    pub expires_at: Timestamp,
    seats: SeatRefs,
    areas: SmallVec<[AreaPlaces; 1]>,
    steps: SmallVec<[SagaStep; 2]>,
    prices: Prices,
    note: Option<Box<Note>>,
    plan: Arc<PricedPlan>,
}

impl Reservation {
    pub(crate) fn new(no: u64, reservation: concert_option::Reservation, plan: Arc<PricedPlan>) -> Self {
        BareReservation::new(ReservationId { option: plan.option, no }, reservation).with(plan)
    }

    /// How it came to be what it is, oldest step first: for whoever runs the sale, and not in the JSON. What this very call
    /// has done is not in it yet.
    #[must_use]
    pub fn steps(&self) -> &[SagaStep] {
        &self.steps
    }

    /// What whoever held it calls it.
    #[must_use]
    pub fn reference(&self) -> Option<&str> {
        self.note.as_ref()?.reference.as_deref()
    }

    /// What whoever held it keeps with it: a JSON object, as text.
    #[must_use]
    pub fn data(&self) -> Option<&str> {
        self.note.as_ref()?.data.as_deref()
    }

    /// Its option's currency; `None`: its prices are points.
    #[must_use]
    pub fn currency(&self) -> Option<Currency> {
        self.plan.definition.currency
    }

    /// Its seats.
    pub fn seats(&self) -> impl ExactSizeIterator<Item = ReservedSeat<'_>> {
        self.seats.iter().enumerate().map(|(place, &index)| {
            let plan = &self.plan.plan;
            let seat = plan.seat(index);
            let row = plan.row(seat.row);
            ReservedSeat {
                id: seat.guid,
                zone: &plan.zone(row.zone).name,
                row: &row.name,
                number: seat.number,
                row_label: (!row.label.is_empty()).then_some(&*row.label),
                seat_label: row.seat_label(seat.number),
                category: seat.category.map_or("", |category| &plan.category(category).name),
                price: self.prices.get(place).unwrap_or_else(|| self.plan.first_seat_price(index)),
            }
        })
    }

    /// Its places in areas.
    pub fn areas(&self) -> impl ExactSizeIterator<Item = ReservedArea<'_>> {
        self.areas.iter().enumerate().map(|(index, place)| {
            let area = &self.plan.definition.areas[usize::from(place.area)];
            let price = self.prices.get(self.seats.len() + index);
            let price = price.unwrap_or_else(|| self.plan.first_area_price(place.area));
            ReservedArea { name: &area.name, count: place.count, category: &area.category, price }
        })
    }
}

/// Which reservations on an option are wanted; those to whom all that is given applies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReservationFilter {
    /// In this state.
    pub status: Option<ReservationStatus>,
    /// With this seat, by its `seat_guid`.
    pub seat: Option<String>,
    /// Of this user.
    pub user: Option<UserId>,
    /// Called this by whoever held them.
    pub reference: Option<String>,
}

/// Serialises an iterator as a list.
struct List<F>(F);

impl<T: Serialize, I: ExactSizeIterator<Item = T>, F: Fn() -> I> Serialize for List<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let items = (self.0)();
        let mut list = serializer.serialize_seq(Some(items.len()))?;
        for item in items {
            list.serialize_element(&item)?;
        }
        list.end()
    }
}

impl Serialize for Reservation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let currency = &self.plan.definition.currency;
        let data = self.data().map(serde_json::from_str::<serde_json::Value>).transpose();
        let data = data.map_err(S::Error::custom)?;
        let others = [currency.is_some(), self.payment_id.is_some(), self.reference().is_some(), data.is_some()];
        let others = others.into_iter().filter(|is_there| *is_there).count();
        let mut fields = serializer.serialize_struct("Reservation", 9 + others)?;
        fields.serialize_field("id", &self.id)?;
        fields.serialize_field("option_id", &self.id.option)?;
        fields.serialize_field("user_id", &self.user_id)?;
        fields.serialize_field("status", &self.status)?;
        if let Some(payment_id) = &self.payment_id {
            fields.serialize_field("payment_id", payment_id)?;
        }
        if let Some(reference) = self.reference() {
            fields.serialize_field("reference", reference)?;
        }
        if let Some(data) = &data {
            fields.serialize_field("data", data)?;
        }
        fields.serialize_field("seats", &List(|| self.seats()))?;
        fields.serialize_field("areas", &List(|| self.areas()))?;
        fields.serialize_field("amount", &self.amount)?;
        if let Some(currency) = currency {
            fields.serialize_field("currency", currency)?;
        }
        fields.serialize_field("created_at", &self.created_at)?;
        fields.serialize_field("expires_at", &self.expires_at)?;
        fields.end()
    }
}
