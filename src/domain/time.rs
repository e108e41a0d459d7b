//! Points in time, in whole milliseconds. Nothing here reads a clock.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z. Reads and prints as RFC 3339, UTC, with milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct Timestamp(#[n(0)] u64);

impl Timestamp {
    /// The last point in time that RFC 3339 can print: 9999-12-30T22:00:00.999Z.
    pub const MAX: Self = Self(253_402_207_200_999);

    /// From milliseconds since the epoch; later than [`MAX`](Self::MAX) becomes `MAX`.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        if millis > Self::MAX.0 { Self::MAX } else { Self(millis) }
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// `millis` later, [`MAX`](Self::MAX) at the most.
    #[must_use]
    pub const fn plus_millis(self, millis: u64) -> Self {
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// `millis` earlier, the epoch at the least.
    #[must_use]
    pub const fn minus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_sub(millis))
    }

    /// How long after `earlier` this is; zero if it is not after.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = i64::try_from(self.0).unwrap_or(i64::MAX);
        let time = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
        write!(f, "{time:.3}")
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Not a time that [`Timestamp`] can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be an RFC 3339 time between 1970 and 9999, such as \"2026-11-20T19:30:00.000Z\"")]
pub struct ParseTimestampError;

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // RFC 3339 wants "T" and the full time; the parser below would take more.
        let bytes = text.as_bytes();
        if bytes.len() < 20 || !matches!(bytes[10], b'T' | b't') || bytes[13] != b':' || bytes[16] != b':' {
            return Err(ParseTimestampError);
        }
        let offset_at = text.len() - if text.ends_with(['Z', 'z']) { 1 } else { 6 };
        if !text.is_char_boundary(offset_at)
            || !text[11..offset_at].bytes().all(|b| b.is_ascii_digit() || matches!(b, b':' | b'.'))
        {
            return Err(ParseTimestampError);
        }
        let time: jiff::Timestamp = text.parse().map_err(|_| ParseTimestampError)?;
        let millis = u64::try_from(time.as_millisecond()).map_err(|_| ParseTimestampError)?;
        if millis > Self::MAX.0 { Err(ParseTimestampError) } else { Ok(Self(millis)) }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_rfc_3339() {
        for (text, millis, printed) in [
            ("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00.000Z"),
            ("2026-11-20T19:30:00.123Z", 1_795_203_000_123, "2026-11-20T19:30:00.123Z"),
            ("2026-11-20T19:30:00.1239+09:00", 1_795_170_600_123, "2026-11-20T10:30:00.123Z"),
            ("2026-11-20t19:30:00z", 1_795_203_000_000, "2026-11-20T19:30:00.000Z"),
        ] {
            let time: Timestamp = text.parse().unwrap();
            assert_eq!((time.as_millis(), time.to_string().as_str()), (millis, printed), "{text}");
        }
        for text in [
            "",
            "2026-11-20",
            "2026-11-20 19:30:00Z",
            "2026-11-20T19:30Z",
            "1969-12-31T23:59:59Z",
            "tomorrow",
            "2026-11-20T19:30:00",
            "2026-13-20T19:30:00Z",
            "2026-11-20T19:30:00+09:00[Asia/Seoul]",
            "2026-11-20T19é30:00Z",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text:?}");
        }
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-30T22:00:00.999Z");
    }
}
