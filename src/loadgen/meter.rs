//! How long calls took, and how they were refused. Counted in shards, which those who report take over once a second.

use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use super::target::{Answer, Code};

/// Those who record at the same time meet seldom.
const SHARDS: usize = 16;
/// The longest latency that is told from longer ones, in microseconds: an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;
/// Digits of a latency that are kept.
const DIGITS: u8 = 3;

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Op { $($(#[$doc])* $name,)* }

        impl Op {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name in reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

operations! {
    /// Getting in line.
    Enter = "enter",
    /// Asking where one stands.
    Poll = "poll",
    /// Leaving the line.
    Leave = "leave",
    /// Looking at the seats.
    Browse = "browse",
    /// Holding seats.
    Hold = "hold",
    /// Giving them up.
    Release = "release",
    /// Charging a wallet.
    Charge = "charge",
    /// Looking into a wallet.
    Balance = "balance",
    /// Paying.
    Pay = "pay",
    /// Beginning a payment that a provider takes.
    Begin = "begin",
    /// Reporting what the provider did.
    Fact = "fact",
    /// Having it refunded.
    Refund = "refund",
    /// From asking for a hold until somebody else sees it.
    Update = "update",
}

/// What one kind of call came to.
#[derive(Debug, Clone)]
pub struct Tally {
    /// Calls that were answered with success.
    pub succeeded: u64,
    /// Those that were not, by code.
    pub errors: [u64; Code::ALL.len()],
    /// How long answers took, in microseconds: successes, and refusals by the rules.
    pub latency_us: Histogram<u64>,
}

/// All kinds of calls, as [`Op::ALL`]; those that never came are not there.
pub type Tallies = Vec<Option<Box<Tally>>>;

impl Tally {
    fn new() -> Option<Box<Self>> {
        // The bounds are constants, and fine.
        let latency_us = Histogram::new_with_max(LATENCY_US_MAX, DIGITS).ok()?;
        Some(Box::new(Self { succeeded: 0, errors: [0; Code::ALL.len()], latency_us }))
    }

    /// All calls.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.succeeded + self.errors.iter().sum::<u64>()
    }

    /// Those that were refused, by code; none that did not happen.
    pub fn refused(&self) -> impl Iterator<Item = (Code, u64)> {
        Code::ALL.iter().zip(self.errors).filter(|(_, count)| *count > 0).map(|(code, count)| (*code, count))
    }

    /// How many failed, and not by the rules.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.refused().filter(|(code, _)| !code.is_by_the_rules()).map(|(_, count)| count).sum()
    }

    fn add(&mut self, other: &Self) {
        self.succeeded += other.succeeded;
        for (sum, more) in self.errors.iter_mut().zip(other.errors) {
            *sum += more;
        }
        // They have the same bounds.
        let _ = self.latency_us.add(&other.latency_us);
    }

    fn clear(&mut self) {
        self.succeeded = 0;
        self.errors = [0; Code::ALL.len()];
        self.latency_us.reset();
    }
}

/// No calls at all.
#[must_use]
pub fn none() -> Tallies {
    vec![None; Op::ALL.len()]
}

/// Adds what was counted in a while to what was counted before.
pub fn add(sum: &mut Tallies, more: &Tallies) {
    for (sum, more) in sum.iter_mut().zip(more) {
        match (sum.as_mut(), more) {
            (Some(sum), Some(more)) => sum.add(more),
            (None, Some(more)) => *sum = Some(more.clone()),
            (_, None) => {}
        }
    }
}

/// Counts calls.
pub struct Meter(Box<[Mutex<Tallies>]>);

impl Default for Meter {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| Mutex::new(none())).collect())
    }
}

impl Meter {
    /// Counts a call of the `n`th user.
    pub fn record<T>(&self, op: Op, n: u64, latency: Duration, answer: &Answer<T>) {
        let mut shard = self.0[n as usize % SHARDS].lock();
        let slot = &mut shard[op as usize];
        if slot.is_none() {
            *slot = Tally::new();
        }
        let Some(tally) = slot else { return };
        match answer {
            Ok(_) => tally.succeeded += 1,
            Err(code) => tally.errors[*code as usize] += 1,
        }
        if answer.as_ref().err().is_none_or(|code| code.is_by_the_rules()) {
            tally.latency_us.saturating_record(latency.as_micros() as u64);
        }
    }

    /// What was counted since the last time.
    pub fn take(&self) -> Tallies {
        let mut sum = none();
        for shard in &self.0 {
            let mut shard = shard.lock();
            add(&mut sum, &shard);
            shard.iter_mut().flatten().for_each(|tally| tally.clear());
        }
        for slot in &mut sum {
            if slot.as_ref().is_some_and(|tally| tally.calls() == 0) {
                *slot = None;
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_all_that_was_counted_since() {
        let meter = Meter::default();
        for n in 0..100 {
            meter.record(Op::Hold, n, Duration::from_micros(n + 1), &Ok(()));
        }
        meter.record::<()>(Op::Hold, 0, Duration::from_secs(1), &Err(Code::SeatsUnavailable));
        meter.record::<()>(Op::Hold, 0, Duration::from_secs(100), &Err(Code::Overloaded));
        let taken = meter.take();
        let holds = taken[Op::Hold as usize].as_ref().unwrap();
        assert_eq!((holds.succeeded, holds.calls(), holds.faults()), (100, 102, 1));
        let refused: Vec<_> = holds.refused().collect();
        assert_eq!(refused, [(Code::SeatsUnavailable, 1), (Code::Overloaded, 1)]);
        assert_eq!(holds.latency_us.value_at_quantile(0.5), 51);
        // A refusal by the rules is an answer; being turned away is none.
        assert!((1_000_000..1_001_000).contains(&holds.latency_us.max()));
        assert!(taken[Op::Pay as usize].is_none());
        assert!(meter.take().iter().all(Option::is_none));
    }
}
