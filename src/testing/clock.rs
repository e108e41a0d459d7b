//! A clock that tests set by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{Clock, Slewing, TimeSource};
use crate::domain::Timestamp;

/// How often it is looked at while somebody waits for it.
const LOOK: Duration = Duration::from_millis(100);

/// A machine's wall clock, and the time that passes on it. Clones show the same.
///
/// For [`Engine::open_with`](crate::Engine::open_with). An engine behaves towards it as towards a real machine: it looks
/// at the wall clock once, when a term begins, and from then on only at the time that passes.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Hands>);

#[derive(Debug)]
struct Hands {
    wall_ms: AtomicU64,
    passed_ms: AtomicU64,
}

impl ManualClock {
    /// A clock that stands still at `wall`.
    #[must_use]
    pub fn at(wall: Timestamp) -> Self {
        Self(Arc::new(Hands { wall_ms: AtomicU64::new(wall.as_millis()), passed_ms: AtomicU64::new(0) }))
    }

    /// Lets time pass.
    pub fn advance(&self, millis: u64) {
        self.0.wall_ms.fetch_add(millis, Ordering::SeqCst);
        self.0.passed_ms.fetch_add(millis, Ordering::SeqCst);
    }

    /// Sets the wall clock, forward or back, without any time passing.
    pub fn set_wall(&self, wall: Timestamp) {
        self.0.wall_ms.store(wall.as_millis(), Ordering::SeqCst);
    }
}

impl TimeSource for ManualClock {
    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(self.0.wall_ms.load(Ordering::SeqCst))
    }

    fn start_after(&self, last: Timestamp) -> Arc<dyn Clock> {
        let passed_ms = self.0.passed_ms.load(Ordering::SeqCst);
        Arc::new(Running { machine: self.clone(), shows: Slewing::new(self.wall(), last), begun_ms: passed_ms })
    }
}

/// The clock of one term.
struct Running {
    machine: ManualClock,
    shows: Slewing,
    begun_ms: u64,
}

impl Clock for Running {
    fn now(&self) -> Timestamp {
        self.shows.after(self.machine.0.passed_ms.load(Ordering::SeqCst) - self.begun_ms)
    }

    fn skew_millis(&self) -> i64 {
        self.now().as_millis() as i64 - self.machine.wall().as_millis() as i64
    }

    fn until(&self, at: Timestamp) -> Duration {
        at.since(self.now()).min(LOOK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_sees_time_pass_and_not_the_wall_clock_being_set() {
        let machine = ManualClock::at(Timestamp::from_millis(1_000));
        let clock = machine.start_after(Timestamp::from_millis(400));
        machine.advance(50);
        assert_eq!((clock.now().as_millis(), clock.skew_millis()), (1_050, 0));
        machine.set_wall(Timestamp::from_millis(50));
        assert_eq!((clock.now().as_millis(), clock.skew_millis()), (1_050, 1_000));
        let next = machine.start_after(clock.now());
        machine.advance(1);
        assert_eq!((next.now().as_millis(), next.skew_millis()), (1_051, 1_000));
        let waits = [1_051, 1_081, 99_999].map(|at| next.until(Timestamp::from_millis(at)).as_millis());
        assert_eq!(waits, [0, 30, 100], "it is looked at again before long");
    }
}
