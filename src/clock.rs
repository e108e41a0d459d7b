//! Time, injected: nothing else in the engine asks what time it is.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::domain::Timestamp;

/// Tells the time. Never goes back.
pub trait Clock: Send + Sync + 'static {
    /// What time it is.
    fn now(&self) -> Timestamp;
    /// How far that is from the wall clock: positive if it is ahead of it, in milliseconds.
    fn skew_millis(&self) -> i64;
    /// For how long to sleep until it shows `at`, or until it is worth another look: one may be moved by hand.
    fn until(&self, at: Timestamp) -> Duration {
        at.since(self.now())
    }
}

/// Where an engine's clock comes from.
pub trait TimeSource: Send + Sync + 'static {
    /// What the wall clock shows.
    fn wall(&self) -> Timestamp;
    /// A clock that begins now and never shows a time before `last`.
    fn start_after(&self, last: Timestamp) -> Arc<dyn Clock>;
}

/// The machine that the engine runs on.
#[derive(Debug, Clone, Copy)]
pub struct ThisMachine;

impl TimeSource for ThisMachine {
    fn wall(&self) -> Timestamp {
        wall_clock()
    }

    fn start_after(&self, last: Timestamp) -> Arc<dyn Clock> {
        SystemClock::starting_after(last)
    }
}

/// The wall clock, in whole milliseconds.
#[must_use]
pub fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A clock that starts ahead of the wall clock loses one millisecond in so many until it is level with it. What is to last ten
/// minutes lasts 0.6 s longer meanwhile, and the half second by which machines of a cluster may differ is made up for in eight.
const SLEW_MS: u64 = 1_000;

/// The time of a term: a wall clock as it was looked at once, and what has passed since.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slewing {
    wall: Timestamp,
    /// How far it was ahead of the wall clock at the beginning.
    ahead_ms: u64,
}

impl Slewing {
    /// Starts at the later of `wall` and `last`.
    pub(crate) fn new(wall: Timestamp, last: Timestamp) -> Self {
        Self { wall, ahead_ms: last.since(wall).as_millis() as u64 }
    }

    /// What it shows after so many milliseconds.
    pub(crate) fn after(self, passed_ms: u64) -> Timestamp {
        self.wall.plus_millis(passed_ms.saturating_add(self.ahead_ms.saturating_sub(passed_ms / SLEW_MS)))
    }
}

/// Starts at the later of the wall clock and the journal's last event, and runs on monotonically, a little slower until it is
/// back at the wall clock: setting that while the engine runs changes nothing but the skew.
#[derive(Debug, Clone)]
pub struct SystemClock {
    shows: Slewing,
    begun: Instant,
}

impl SystemClock {
    /// One that never shows a time before `last`.
    #[must_use]
    pub fn starting_after(last: Timestamp) -> Arc<Self> {
        Arc::new(Self { shows: Slewing::new(wall_clock(), last), begun: Instant::now() })
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.shows.after(self.begun.elapsed().as_millis() as u64)
    }

    fn skew_millis(&self) -> i64 {
        self.now().as_millis() as i64 - wall_clock().as_millis() as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_starts_ahead_is_back_at_the_wall_clock_before_long_and_never_goes_back() {
        let at = Timestamp::from_millis;
        let clock = Slewing::new(at(10_000), at(10_003));
        let shown: Vec<_> = [0, 999, 1_000, 1_999, 2_000, 2_999, 3_000, 9_000].map(|ms| clock.after(ms)).into();
        assert_eq!(shown, [10_003, 11_002, 11_002, 12_001, 12_001, 13_000, 13_000, 19_000].map(at));
        let level = Slewing::new(at(10_000), at(9_000));
        assert_eq!([level.after(0), level.after(5_000)], [at(10_000), at(15_000)]);
    }

    #[test]
    fn it_is_looked_at_once_the_time_has_come() {
        const HOUR: Duration = Duration::from_secs(3_600);
        let clock = SystemClock::starting_after(Timestamp::from_millis(1 << 45));
        let wait = clock.until(Timestamp::from_millis((1 << 45) + 3_600_000));
        assert!(wait <= HOUR && wait > HOUR / 2, "{wait:?}");
        assert_eq!(clock.until(Timestamp::from_millis(1 << 45)), Duration::ZERO);
    }
}
