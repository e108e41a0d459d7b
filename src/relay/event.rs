//! Events as they leave: CloudEvents 1.0 in JSON. `docs/events/` has a JSON Schema for each type.

use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

use crate::api::{Payment, Reservation, WalletEntry};
use crate::domain::waiting_room::TokenStatus;
use crate::domain::{ConcertId, Timestamp, TokenId, UserId};

pub use crate::domain::{EventFilter, EventId, EventType};

/// Something that has happened, and is durable. However often it is made, it is the same, byte for byte.
#[derive(Debug, Clone)]
pub struct Event {
    /// Names it, for good.
    pub id: EventId,
    /// What has happened.
    pub kind: EventType,
    /// Where: `/options/{id}`, `/concerts/{id}` or `/users/{id}/wallet`, percent-encoded.
    pub source: String,
    /// To what: the id of the reservation, token or user. Events of payments have their reservation.
    pub subject: String,
    /// When.
    pub time: Timestamp,
    /// What it has come to.
    pub data: EventData,
}

/// What an event is about, as the API gave it when the event had just happened.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum EventData {
    /// A reservation.
    Reservation(Reservation),
    /// A payment.
    Payment(Payment),
    /// A place in a waiting room. What is of one moment only (its position) or secret (its signed form) is left out.
    Token {
        /// Its id.
        id: TokenId,
        /// Whose waiting room.
        concert_id: ConcertId,
        /// Whose it is.
        user_id: UserId,
        /// Where it stands.
        status: TokenStatus,
        /// When an active one lapses; null otherwise.
        expires_at: Option<Timestamp>,
    },
    /// An entry of a wallet.
    WalletEntry(WalletEntry),
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Event", 8)?;
        fields.serialize_field("specversion", "1.0")?;
        fields.serialize_field("id", &self.id)?;
        fields.serialize_field("source", &self.source)?;
        fields.serialize_field("type", &self.kind)?;
        fields.serialize_field("subject", &self.subject)?;
        fields.serialize_field("time", &self.time)?;
        fields.serialize_field("datacontenttype", "application/json")?;
        fields.serialize_field("data", &self.data)?;
        fields.end()
    }
}
