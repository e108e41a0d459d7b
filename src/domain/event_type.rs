//! The types of the events that are published, and sets of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Not a type of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a type of event")]
pub struct ParseEventTypeError;

macro_rules! event_types {
    ($($(#[$doc:meta])* $number:literal $name:ident $text:literal,)*) => {
        /// What a published event says has happened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode)]
        #[cbor(index_only)]
        pub enum EventType {
            $($(#[$doc])* #[n($number)] $name = $number,)*
        }

        impl EventType {
            /// Every type there is.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name, such as `boxoffice.reservation.created`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => concat!("boxoffice.", $text),)*
                }
            }
        }
    };
}

// Sets of types are stored as bits by these numbers: none is ever used again.
event_types! {
    /// Seats or places are held.
    0 ReservationCreated "reservation.created",
    /// A reservation was given up.
    1 ReservationReleased "reservation.released",
    /// The time of a hold ran out.
    2 ReservationExpired "reservation.expired",
    /// A reservation is paid: its seats are sold.
    3 ReservationConfirmed "reservation.confirmed",
    /// A reservation was given back after it was paid: its seats are free.
    4 ReservationRefunded "reservation.refunded",
    /// Points were taken.
    5 PaymentCompleted "payment.completed",
    /// No points were taken, and none will be.
    6 PaymentFailed "payment.failed",
    /// The points are back in the wallet.
    7 PaymentRefunded "payment.refunded",
    /// A user has a place in a waiting room; or has it again, sent back when the line was switched on.
    8 TokenIssued "token.issued",
    /// A token's holder may hold seats.
    9 TokenActivated "token.activated",
    /// A token's time ran out, or its holder left or was silent for too long.
    10 TokenExpired "token.expired",
    /// A token's holder has paid.
    11 TokenUsed "token.used",
    /// Points were added to a wallet.
    12 WalletCharged "wallet.charged",
    /// A payment by a provider has begun: the buyer may pay.
    13 PaymentPending "payment.pending",
    /// Money is reserved.
    14 PaymentAuthorized "payment.authorized",
    /// It took no money, and never will.
    15 PaymentVoided "payment.voided",
    /// Money is to go back to the buyer.
    16 PaymentRefundOwed "payment.refund_owed",
    /// A hint: a capture is owed.
    17 CaptureRequested "payment.capture_requested",
    /// A hint: a charge is to be called off.
    18 VoidRequested "payment.void_requested",
    /// A hint: a refund is owed.
    19 RefundRequested "payment.refund_requested",
    /// A hint: it is to be looked whether there is a charge.
    20 CheckRequested "payment.check_requested",
    /// The buyer's bank wants money back.
    21 PaymentDisputed "payment.disputed",
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EventType {
    type Err = ParseEventTypeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text).ok_or(ParseEventTypeError)
    }
}

impl Serialize for EventType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for EventType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Which types of events are wanted. The default is all, those that are yet to come among them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct EventFilter(#[n(0)] u64);

impl EventFilter {
    /// Every type.
    pub const ALL: Self = Self(u64::MAX);
    /// No type.
    pub const NONE: Self = Self(0);

    /// Whether events of this type are wanted.
    #[must_use]
    pub const fn takes(self, kind: EventType) -> bool {
        self.0 & (1 << kind as u64) != 0
    }

    /// The types that are wanted, in the order of [`EventType::ALL`].
    pub fn types(self) -> impl Iterator<Item = EventType> {
        EventType::ALL.iter().copied().filter(move |kind| self.takes(*kind))
    }
}

impl Serialize for EventFilter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.types())
    }
}

impl Default for EventFilter {
    fn default() -> Self {
        Self::ALL
    }
}

impl fmt::Debug for EventFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.types().map(EventType::as_str)).finish()
    }
}

impl FromIterator<EventType> for EventFilter {
    fn from_iter<I: IntoIterator<Item = EventType>>(types: I) -> Self {
        Self(types.into_iter().fold(0, |bits, kind| bits | 1 << kind as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_names() {
        for &kind in EventType::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        for text in ["", "boxoffice.", "reservation.created", "boxoffice.reservation.Created"] {
            assert_eq!(text.parse::<EventType>(), Err(ParseEventTypeError), "{text:?}");
        }
    }

    #[test]
    fn a_filter_takes_what_is_in_it() {
        for &kind in EventType::ALL {
            let only: EventFilter = [kind, kind].into_iter().collect();
            assert!(EventFilter::default().takes(kind) && !EventFilter::NONE.takes(kind));
            assert!(only.types().eq([kind]), "{only:?}");
        }
        let all: EventFilter = EventType::ALL.iter().copied().collect();
        assert!(all.types().eq(EventFilter::default().types()));
    }
}
