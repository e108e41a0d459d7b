//! Money: whole points, checked; and what they are worth something in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// An amount of points, 0 to 2^53-1 (so that every JSON reader holds it exactly).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, minicbor::Encode, minicbor::Decode, Serialize,
)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct Points(#[n(0)] u64);

impl Points {
    /// No points.
    pub const ZERO: Self = Self(0);
    /// The largest amount: 2^53-1.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// `None` above [`MAX`](Self::MAX).
    #[must_use]
    pub const fn new(points: u64) -> Option<Self> {
        if points <= Self::MAX.0 { Some(Self(points)) } else { None }
    }

    /// The plain number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The sum, or `None` above [`MAX`](Self::MAX).
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        Self::new(self.0 + other.0)
    }

    /// The difference, or `None` below zero.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(points) => Some(Self(points)),
            None => None,
        }
    }

    /// The product, or `None` above [`MAX`](Self::MAX).
    #[must_use]
    pub const fn checked_mul(self, times: u64) -> Option<Self> {
        match self.0.checked_mul(times) {
            Some(points) => Self::new(points),
            None => None,
        }
    }
}

/// Every `u32` is an amount of points.
impl From<u32> for Points {
    fn from(points: u32) -> Self {
        Self(points.into())
    }
}

impl fmt::Display for Points {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Points {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let points = u64::deserialize(deserializer)?;
        Self::new(points).ok_or_else(|| serde::de::Error::custom(format_args!("must be at most {}", Self::MAX)))
    }
}

/// Not three capital letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be three capital letters, as KRW")]
pub struct ParseCurrencyError;

/// A currency by its code of ISO 4217. Amounts are its minor units, and those of two currencies are never added.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct Currency(#[cbor(n(0), with = "minicbor::bytes")] [u8; 3]);

impl Currency {
    /// South Korean won: what points are, unless something else is configured.
    pub const KRW: Self = Self(*b"KRW");

    /// Its code.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // From the journal anything may come; what is no text is shown as no currency.
        std::str::from_utf8(&self.0).unwrap_or("???")
    }
}

impl Default for Currency {
    fn default() -> Self {
        Self::KRW
    }
}

impl FromStr for Currency {
    type Err = ParseCurrencyError;

    fn from_str(text: &str) -> Result<Self, ParseCurrencyError> {
        let code: [u8; 3] = text.as_bytes().try_into().map_err(|_| ParseCurrencyError)?;
        if code.iter().all(u8::is_ascii_uppercase) { Ok(Self(code)) } else { Err(ParseCurrencyError) }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Currency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_currency_is_three_capital_letters() {
        assert_eq!("KRW".parse(), Ok(Currency::KRW));
        assert_eq!(Currency::KRW.to_string(), "KRW");
        for text in ["", "krw", "KR", "KRWX", "K1W", "ÄÖ"] {
            assert_eq!(text.parse::<Currency>(), Err(ParseCurrencyError), "{text:?}");
        }
    }

    #[test]
    fn arithmetic_stays_in_bounds() {
        let one = Points::new(1).unwrap();
        assert_eq!(Points::new(1 << 53), None);
        assert_eq!(Points::MAX.checked_add(one), None);
        assert_eq!(Points::ZERO.checked_sub(one), None);
        assert_eq!(Points::MAX.checked_mul(2), None);
        assert_eq!(Points::MAX.checked_mul(u64::MAX), None);
        assert_eq!(one.checked_mul(7).and_then(|p| p.checked_sub(one)), Points::new(6));
    }
}
