//! A circuit breaker: a receiver that fails again and again is left alone for a while, then asked carefully.
//!
//! The kept crates for this read a clock of their own; here time is an argument, as everywhere in the relay, so that a
//! simulator can drive it.

use std::time::Duration;

pub use crate::api::{BreakerState as State, Pause, PauseReason as Reason};
use crate::domain::Timestamp;

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it stays open.
    pub pause: Duration,
}

/// Lets attempts through, or not.
#[derive(Debug, Clone)]
pub struct Breaker {
    limits: Limits,
    failures: u32,
    /// Set while it is not closed: when the next probe may start, and why not sooner.
    pause: Option<Pause>,
    probing: bool,
}

impl Breaker {
    /// A closed one.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, failures: 0, pause: None, probing: false }
    }

    /// What it lets through at `now`.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> State {
        match self.pause {
            None => State::Closed,
            Some(pause) if now < pause.until => State::Open,
            Some(_) => State::HalfOpen,
        }
    }

    /// Whether an attempt may start at `now`.
    #[must_use]
    pub fn lets_through(&self, now: Timestamp) -> bool {
        match self.state(now) {
            State::Closed => true,
            State::Open => false,
            State::HalfOpen => !self.probing,
        }
    }

    /// When it will let the next attempt through, if it does not now and nothing has to end before.
    #[must_use]
    pub fn opens_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.pause(now).map(|pause| pause.until)
    }

    /// How long it lets nothing through, if it does not now.
    #[must_use]
    pub fn pause(&self, now: Timestamp) -> Option<Pause> {
        self.pause.filter(|pause| now < pause.until)
    }

    /// An attempt starts.
    pub fn started(&mut self) {
        self.probing = self.pause.is_some();
    }

    /// An attempt succeeded, or somebody says so: the receiver is well.
    pub fn succeeded(&mut self) {
        *self = Self::new(self.limits);
    }

    /// An attempt ended that tells nothing about the receiver.
    pub fn ended(&mut self) {
        self.probing = false;
    }

    /// An attempt found no way to the receiver: there is none for others either.
    pub fn unreachable(&mut self, now: Timestamp) {
        self.failures = self.failures.max(self.limits.failures.saturating_sub(1));
        self.failed(now, None);
    }

    /// An attempt failed. With `retry_after` the receiver asks not to be asked before that time.
    pub fn failed(&mut self, now: Timestamp, retry_after: Option<Duration>) {
        self.probing = false;
        self.failures = self.failures.saturating_add(1);
        let pause = if self.failures >= self.limits.failures { Some(self.limits.pause) } else { None };
        let pauses = [(pause, Reason::Failures), (retry_after, Reason::RetryAfter)];
        for (pause, reason) in pauses.into_iter().filter_map(|(pause, reason)| Some((pause?, reason))) {
            let until = now.plus_millis(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
            self.pause = self.pause.max(Some(Pause { until, reason }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { failures: 3, pause: Duration::from_secs(30) };

    fn at(second: u64) -> Timestamp {
        Timestamp::from_millis(second * 1_000)
    }

    #[test]
    fn opens_after_failures_in_a_row_and_probes_one_at_a_time() {
        let mut breaker = Breaker::new(LIMITS);
        breaker.failed(at(0), None);
        breaker.failed(at(0), None);
        breaker.succeeded();
        breaker.failed(at(1), None);
        breaker.failed(at(1), None);
        assert!(breaker.lets_through(at(1)), "a success in between counts");
        breaker.failed(at(1), None);
        assert_eq!((breaker.state(at(30)), breaker.opens_at(at(30))), (State::Open, Some(at(31))));
        assert!(!breaker.lets_through(at(30)));
        assert_eq!(breaker.state(at(31)), State::HalfOpen);
        breaker.started();
        assert!(!breaker.lets_through(at(31)), "one probe at a time");
        breaker.failed(at(32), None);
        assert_eq!(breaker.opens_at(at(32)), Some(at(62)));
        breaker.started();
        breaker.succeeded();
        assert_eq!(breaker.state(at(62)), State::Closed);
    }

    #[test]
    fn one_that_cannot_be_reached_is_left_alone_at_once() {
        let mut breaker = Breaker::new(LIMITS);
        breaker.unreachable(at(0));
        assert_eq!(breaker.opens_at(at(0)), Some(at(30)));
        breaker.started();
        breaker.unreachable(at(30));
        assert_eq!(breaker.opens_at(at(30)), Some(at(60)));
    }

    #[test]
    fn a_receiver_that_asks_for_time_gets_it() {
        let mut breaker = Breaker::new(LIMITS);
        breaker.failed(at(0), Some(Duration::from_secs(7)));
        assert_eq!(breaker.pause(at(0)), Some(Pause { until: at(7), reason: Reason::RetryAfter }));
        breaker.failed(at(1), Some(Duration::from_secs(2)));
        assert_eq!(breaker.opens_at(at(1)), Some(at(7)), "never less than it asked for before");
        breaker.failed(at(1), Some(Duration::from_secs(2)));
        assert_eq!(breaker.pause(at(1)), Some(Pause { until: at(31), reason: Reason::Failures }));
        assert_eq!(breaker.pause(at(31)), None);
    }
}
