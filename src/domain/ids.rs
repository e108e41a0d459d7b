//! Ids. Each is at most 64 URL-safe characters and leads to its owner: a reservation's id carries its option, a token's
//! its concert. Callers should treat them as opaque.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Lsn;

/// Not an id of the wanted kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not an id of this kind")]
pub struct ParseIdError;

/// Reads a canonical decimal number: no sign, no leading zero, 1 to `u64::MAX`.
fn parse_number(text: &str) -> Result<u64, ParseIdError> {
    let canonical = !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
    if canonical { text.parse().map_err(|_| ParseIdError) } else { Err(ParseIdError) }
}

macro_rules! text_form {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! root_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode)]
        #[cbor(transparent)]
        pub struct $name(#[n(0)] pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse_number(text.strip_prefix($prefix).ok_or(ParseIdError)?).map(Self)
            }
        }

        text_form!($name);
    };
}

macro_rules! owned_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $owner:ident: $owner_type:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode)]
        pub struct $name {
            /// Its owner.
            #[n(0)]
            pub $owner: $owner_type,
            /// Its number there, from 1.
            #[n(1)]
            pub no: u64,
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}-{}"), self.$owner.0, self.no)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let (owner, no) = text.strip_prefix($prefix).and_then(|rest| rest.split_once('-')).ok_or(ParseIdError)?;
                Ok(Self { $owner: $owner_type(parse_number(owner)?), no: parse_number(no)? })
            }
        }

        text_form!($name);
    };
}

root_id!(
    /// A concert; also names its waiting room.
    ConcertId,
    "c"
);
root_id!(
    /// A concert option: one performance on sale.
    OptionId,
    "o"
);
root_id!(
    /// A receiver of events.
    SinkId,
    "w"
);
owned_id!(
    /// A reservation on an option.
    ReservationId, "r", option: OptionId
);
owned_id!(
    /// A payment of a reservation on an option.
    PaymentId, "p", option: OptionId
);
owned_id!(
    /// The refund of a payment on an option.
    RefundId, "f", option: OptionId
);
owned_id!(
    /// A place in a concert's waiting room.
    TokenId, "t", concert: ConcertId
);

/// An offer to hand a reservation on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode)]
pub struct TransferId {
    /// The option.
    #[n(0)]
    pub option: OptionId,
    /// The number of the reservation.
    #[n(1)]
    pub reservation: u64,
    /// Its own number, from 1.
    #[n(2)]
    pub no: u64,
}

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h{}-{}-{}", self.option.0, self.reservation, self.no)
    }
}

impl FromStr for TransferId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (option, rest) = text.strip_prefix('h').and_then(|rest| rest.split_once('-')).ok_or(ParseIdError)?;
        let (reservation, no) = rest.split_once('-').ok_or(ParseIdError)?;
        let option = OptionId(parse_number(option)?);
        Ok(Self { option, reservation: parse_number(reservation)?, no: parse_number(no)? })
    }
}

text_form!(TransferId);

/// A user: the subject of a JWT, or whatever the host app calls its customers. 1 to 255 ASCII characters, none of them
/// a control character.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(Arc<str>);

impl UserId {
    /// The plain text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for UserId {
    type Err = ParseUserIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (1..=255).contains(&text.len()) && text.bytes().all(|b| (0x20..0x7f).contains(&b));
        if fits { Ok(Self(text.into())) } else { Err(ParseUserIdError) }
    }
}

/// Not a user id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 255 ASCII characters, none of them a control character")]
pub struct ParseUserIdError;

text_form!(UserId);

impl<C> minicbor::Encode<C> for UserId {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(&self.0)?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for UserId {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        d.str()?.parse().map_err(minicbor::decode::Error::custom)
    }
}

/// An entry of a wallet. A user's name may be longer than an id, so this carries a 64-bit hash of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode)]
pub struct EntryId {
    /// XXH3 of the user's id.
    #[n(0)]
    pub wallet: u64,
    /// Its number in that wallet, from 1.
    #[n(1)]
    pub no: u64,
}

impl EntryId {
    /// The id of the entry `no` in `user`'s wallet.
    #[must_use]
    pub fn new(user: &UserId, no: u64) -> Self {
        Self { wallet: xxhash_rust::xxh3::xxh3_64(user.as_str().as_bytes()), no }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{:016x}-{}", self.wallet, self.no)
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for EntryId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A published event: the event of the journal that it was made of, and its place among all that were made of that one.
/// It leads back to the journal by its shard, 0 for now. The default stands before all events.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, minicbor::Encode, minicbor::Decode)]
pub struct EventId {
    /// The journal's event.
    #[n(0)]
    pub lsn: Lsn,
    /// Its place among those of the same lsn, from 0.
    #[n(1)]
    pub index: u32,
}

/// The only shard there is.
const SHARD: &str = "0";

impl EventId {
    /// The last that there could be before this one.
    #[must_use]
    pub fn before(self) -> Self {
        match self.index.checked_sub(1) {
            Some(index) => Self { lsn: self.lsn, index },
            None => Self::end_of(Lsn(self.lsn.0.saturating_sub(1))),
        }
    }

    /// The last that there could be at `lsn`.
    #[must_use]
    pub fn end_of(lsn: Lsn) -> Self {
        Self { lsn, index: u32::MAX }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SHARD}-{}-{}", self.lsn, self.index)
    }
}

impl FromStr for EventId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers = text.strip_prefix(SHARD).and_then(|rest| rest.strip_prefix('-')).ok_or(ParseIdError)?;
        let (lsn, index) = numbers.split_once('-').ok_or(ParseIdError)?;
        // The first is 0, unlike elsewhere.
        let number = |text| if text == "0" { Ok(0) } else { parse_number(text) };
        Ok(Self { lsn: Lsn(number(lsn)?), index: number(index)?.try_into().map_err(|_| ParseIdError)? })
    }
}

text_form!(EventId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_text_form() {
        let id: ReservationId = "r12-345".parse().unwrap();
        assert_eq!(id, ReservationId { option: OptionId(12), no: 345 });
        assert_eq!(id.to_string(), "r12-345");
        assert_eq!("c7".parse(), Ok(ConcertId(7)));
        for text in [
            "",
            "r",
            "r12",
            "r12-",
            "r-1",
            "r012-1",
            "r12-+1",
            "r0-1",
            "r12-0",
            "p12-345",
            "r12-345 ",
            "r1-18446744073709551616",
            "r١-1",
        ] {
            assert_eq!(text.parse::<ReservationId>(), Err(ParseIdError), "{text:?}");
        }
        let transfer = TransferId { option: OptionId(12), reservation: 3, no: 45 };
        assert_eq!((transfer.to_string().as_str(), "h12-3-45".parse()), ("h12-3-45", Ok(transfer)));
        for text in ["h12-3", "h12-3-", "h12-03-4", "h12-3-4-5", "h0-3-4", "12-3-4"] {
            assert_eq!(text.parse::<TransferId>(), Err(ParseIdError), "{text:?}");
        }
        let longest = TransferId { option: OptionId(u64::MAX), reservation: u64::MAX, no: u64::MAX }.to_string();
        assert!(longest.len() <= 64);
        let longest = TokenId { concert: ConcertId(u64::MAX), no: u64::MAX }.to_string();
        assert!(longest.len() <= 64);
    }

    #[test]
    fn event_ids_have_one_text_form_and_the_order_of_the_journal() {
        let id = EventId { lsn: Lsn(12), index: 3 };
        assert_eq!((id.to_string().as_str(), "0-12-3".parse()), ("0-12-3", Ok(id)));
        assert_eq!(EventId::default().to_string().parse(), Ok(EventId::default()));
        let last = EventId { lsn: Lsn(u64::MAX), index: u32::MAX };
        assert_eq!(last.to_string().parse(), Ok(last));
        assert!(last.to_string().len() <= 64);
        for text in
            ["", "0", "0-1", "0-1-", "1-1-0", "00-1-0", "0-01-0", "0-1-00", "0-1-4294967296", "0-1-0-0", "0--1-0"]
        {
            assert_eq!(text.parse::<EventId>(), Err(ParseIdError), "{text:?}");
        }
        let ordered = ["0-0-0", "0-1-0", "0-1-1", "0-2-0", "0-10-0"].map(|text| text.parse::<EventId>().unwrap());
        assert!(ordered.is_sorted());
    }

    #[test]
    fn user_ids_are_bounded_ascii() {
        assert!("auth0|a b/c".parse::<UserId>().is_ok());
        assert!("x".repeat(255).parse::<UserId>().is_ok());
        for text in [String::new(), "x".repeat(256), "ü".into(), "a\nb".into(), "a\u{7f}".into()] {
            assert!(text.parse::<UserId>().is_err(), "{text:?}");
        }
    }
}
