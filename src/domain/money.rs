//! Money: whole points, checked.

use std::fmt;

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

#[cfg(test)]
mod tests {
    use super::*;

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
