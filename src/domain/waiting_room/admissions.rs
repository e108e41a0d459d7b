//! Who was let in when: the rolling log behind `admit_per_minute`. It knows counts and times, no tokens.
//!
//! The promise is about any 60 s and any 1 s, not about minutes of the clock. To stay small, admissions that are close to
//! each other become one entry, with the time of the latest: an entry never leaves a window too early.

use std::collections::VecDeque;

use minicbor::decode::{Decoder, Error as DecodeError};
use minicbor::encode::{Encoder, Error as EncodeError, Write};

use crate::domain::Timestamp;

const MINUTE_MS: u64 = 60_000;
const SECOND_MS: u64 = 1_000;
/// Within the last second one entry each so many milliseconds is kept ...
const FINE_MS: u64 = 20;
/// ... and in the rest of the minute. Together 353 entries at most, which fit in a row.
const COARSE_MS: u64 = 200;

/// The admissions of the last minute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Admissions {
    /// Oldest first.
    entries: VecDeque<Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    at: Timestamp,
    tokens: u32,
}

impl Admissions {
    /// `tokens` were let in at `now`; forgets what no window reaches any more.
    pub fn record(&mut self, now: Timestamp, tokens: u32) {
        self.entries.push_back(Entry { at: now, tokens });
        let mut kept: VecDeque<Entry> = VecDeque::with_capacity(self.entries.len());
        for entry in self.entries.drain(..).filter(|entry| entry.within(now, MINUTE_MS)) {
            let grain_ms = if entry.within(now, SECOND_MS) { FINE_MS } else { COARSE_MS };
            match kept.back_mut() {
                Some(last) if last.at.as_millis() / grain_ms == entry.at.as_millis() / grain_ms => {
                    last.at = entry.at;
                    last.tokens = last.tokens.saturating_add(entry.tokens);
                }
                _ => kept.push_back(entry),
            }
        }
        self.entries = kept;
    }

    /// How many may be let in at `now`, if `per_minute` may be within any 60 s and a sixtieth of it, rounded up, within
    /// any 1 s.
    pub fn allowed(&self, now: Timestamp, per_minute: u32) -> u64 {
        let in_minute = u64::from(per_minute).saturating_sub(self.within(now, MINUTE_MS));
        let in_second = u64::from(per_minute.div_ceil(60)).saturating_sub(self.within(now, SECOND_MS));
        in_minute.min(in_second)
    }

    /// The earliest time at which [`allowed`](Self::allowed) is not 0; the epoch if nothing stands against it, and `None`
    /// if it never comes.
    pub fn allowed_from(&self, per_minute: u32) -> Option<Timestamp> {
        let minute = self.below_from(MINUTE_MS, per_minute);
        let second = self.below_from(SECOND_MS, per_minute.div_ceil(60));
        (per_minute > 0).then(|| minute.max(second))
    }

    fn within(&self, now: Timestamp, window_ms: u64) -> u64 {
        let recent = self.entries.iter().rev().take_while(|entry| entry.within(now, window_ms));
        recent.map(|entry| u64::from(entry.tokens)).sum()
    }

    /// From when on fewer than `limit` stand in the window.
    fn below_from(&self, window_ms: u64, limit: u32) -> Timestamp {
        let mut sum = 0;
        for entry in self.entries.iter().rev() {
            sum += u64::from(entry.tokens);
            if sum >= u64::from(limit) {
                return entry.at.plus_millis(window_ms);
            }
        }
        Timestamp::default()
    }
}

impl Entry {
    fn within(&self, now: Timestamp, window_ms: u64) -> bool {
        self.at.plus_millis(window_ms) > now
    }
}

/// A flat array: for each entry the milliseconds since the one before, and its count.
impl<C> minicbor::Encode<C> for Admissions {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), EncodeError<W::Error>> {
        e.array(2 * self.entries.len() as u64)?;
        let mut before = 0;
        for entry in &self.entries {
            let at = entry.at.as_millis();
            e.u64(at - before)?.u32(entry.tokens)?;
            before = at;
        }
        Ok(())
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Admissions {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, DecodeError> {
        let items = d.array()?.ok_or_else(|| DecodeError::message("admissions must have a length"))?;
        let mut entries = VecDeque::new();
        let mut before = 0_u64;
        for _ in 0..items / 2 {
            before = before.saturating_add(d.u64()?);
            entries.push_back(Entry { at: Timestamp::from_millis(before), tokens: d.u32()? });
        }
        Ok(Self { entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + millis)
    }

    #[test]
    fn unused_minutes_do_not_add_up() {
        let mut log = Admissions::default();
        assert_eq!(log.allowed(at(10_000_000), 600), 10);
        log.record(at(10_000_000), 10);
        assert_eq!(log.allowed(at(10_000_999), 600), 0);
        assert_eq!(log.allowed_from(600), Some(at(10_001_000)));
        assert_eq!(log.allowed(at(10_001_000), 600), 10);
    }

    #[test]
    fn the_minute_counts_beside_the_second() {
        let mut log = Admissions::default();
        log.record(at(0), 2);
        log.record(at(1000), 1);
        assert_eq!(log.allowed(at(2000), 61), 2);
        assert_eq!(log.allowed(at(2000), 4), 1);
        assert_eq!(log.allowed(at(2000), 3), 0);
        assert_eq!(log.allowed_from(3), Some(at(60_000)));
        assert_eq!(log.allowed(at(60_000), 3), 1);
        assert_eq!((log.allowed(at(60_000), 0), log.allowed_from(0)), (0, None));
    }

    #[test]
    fn close_ones_count_until_the_last_of_them_is_out() {
        let mut log = Admissions::default();
        log.record(at(0), 1);
        log.record(at(19), 1);
        assert_eq!(log.entries.len(), 1);
        assert_eq!(log.allowed_from(60), Some(at(1019)));
    }

    #[test]
    fn the_busiest_minute_fits_in_a_row() {
        let mut log = Admissions::default();
        for millis in 0..130_000 {
            log.record(at(millis), u32::MAX / 2);
        }
        assert!(log.entries.len() <= 353, "{}", log.entries.len());
        let row = minicbor::to_vec(&log).unwrap();
        assert!(row.len() < 3000, "{}", row.len());
        assert_eq!(minicbor::decode::<Admissions>(&row).unwrap(), log);
    }
}
