//! What time it is for the system, as far as its answers tell: a hold was made between asking for it and being told.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::domain::Timestamp;

/// By how much two clocks may drift apart in a run, in millionths.
const DRIFT_PPM: u64 = 200;
/// By how much a clock may be off for being read in whole milliseconds, and then some.
const ROUNDING_MS: i64 = 2;

/// Bounds of the difference between the system's clock and that of this run, in milliseconds.
#[derive(Debug)]
pub struct ServerClock {
    least: AtomicI64,
    most: AtomicI64,
}

impl Default for ServerClock {
    fn default() -> Self {
        Self { least: AtomicI64::new(i64::MIN), most: AtomicI64::new(i64::MAX) }
    }
}

impl ServerClock {
    /// Something happened at `at` by the system's clock, between `asked_us` and `told_us` of this run.
    pub fn learn(&self, at: Timestamp, asked_us: u64, told_us: u64) {
        let at = at.as_millis() as i64;
        let least = at - (told_us / 1_000) as i64 - ROUNDING_MS;
        let most = at - (asked_us / 1_000) as i64 + ROUNDING_MS;
        // Read first: most answers tell nothing new, and a write would take the cache line from the others.
        if least > self.least.load(Ordering::Relaxed) {
            self.least.fetch_max(least, Ordering::Relaxed);
        }
        if most < self.most.load(Ordering::Relaxed) {
            self.most.fetch_min(most, Ordering::Relaxed);
        }
    }

    /// The latest that it can be there; `None` as long as nothing is known.
    #[must_use]
    pub fn latest_ms(&self, now_us: u64) -> Option<u64> {
        let most = self.most.load(Ordering::Relaxed);
        (most != i64::MAX).then(|| most.saturating_add((now_us / 1_000 + drift_ms(now_us)) as i64) as u64)
    }

    /// The earliest that it can be there.
    #[must_use]
    pub fn earliest_ms(&self, now_us: u64) -> Option<u64> {
        let least = self.least.load(Ordering::Relaxed);
        let now = (now_us / 1_000).saturating_sub(drift_ms(now_us));
        (least != i64::MIN).then(|| least.saturating_add(now as i64) as u64)
    }
}

fn drift_ms(now_us: u64) -> u64 {
    (now_us / 1_000) * DRIFT_PPM / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_are_those_of_the_closest_answers() {
        let clock = ServerClock::default();
        assert_eq!((clock.latest_ms(0), clock.earliest_ms(0)), (None, None));
        clock.learn(Timestamp::from_millis(1_000_500), 100_000, 900_000);
        clock.learn(Timestamp::from_millis(1_001_000), 990_000, 1_010_000);
        // The second answer was quick: at 1 s here it was 1,001 s there, give or take 10 ms and rounding.
        assert_eq!(clock.earliest_ms(1_000_000), Some(1_000_988));
        assert_eq!(clock.latest_ms(1_000_000), Some(1_001_012));
        // A thousand seconds later, the clocks may have drifted by 200 ms.
        let (earliest, latest) = (clock.earliest_ms(1_001_000_000).unwrap(), clock.latest_ms(1_001_000_000).unwrap());
        assert_eq!((earliest, latest), (2_000_988 - 200, 2_001_012 + 200));
    }
}
