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

/// Starts at the later of the wall clock and the journal's last event, and runs on monotonically: setting the wall clock
/// while the engine runs changes nothing but the skew.
#[derive(Debug, Clone)]
pub struct SystemClock {
    start: Timestamp,
    begun: Instant,
}

impl SystemClock {
    /// One that never shows a time before `last`.
    #[must_use]
    pub fn starting_after(last: Timestamp) -> Arc<Self> {
        Arc::new(Self { start: wall_clock().max(last), begun: Instant::now() })
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.start.plus_millis(self.begun.elapsed().as_millis() as u64)
    }

    fn skew_millis(&self) -> i64 {
        self.now().as_millis() as i64 - wall_clock().as_millis() as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_looked_at_once_the_time_has_come() {
        const HOUR: Duration = Duration::from_secs(3_600);
        let clock = SystemClock::starting_after(Timestamp::from_millis(1 << 45));
        let wait = clock.until(Timestamp::from_millis((1 << 45) + 3_600_000));
        assert!(wait <= HOUR && wait > HOUR / 2, "{wait:?}");
        assert_eq!(clock.until(Timestamp::from_millis(1 << 45)), Duration::ZERO);
    }
}
