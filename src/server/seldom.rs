//! Lines of the log that somebody outside could cause at will: some of them, and how many were left out.

use std::num::NonZeroU32;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// How often one line may be written, a second; bursts as well.
const LINES_PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(4);

/// One line of the log.
pub struct Seldom {
    rate: LazyLock<DefaultDirectRateLimiter>,
    left_out: AtomicU64,
}

impl Seldom {
    /// To be a `static` beside the line.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            rate: LazyLock::new(|| RateLimiter::direct(Quota::per_second(LINES_PER_SECOND))),
            left_out: AtomicU64::new(0),
        }
    }

    /// Whether the line may be written now, and how many were not since the last one.
    pub fn next(&self) -> Option<u64> {
        if self.rate.check().is_ok() {
            return Some(self.left_out.swap(0, Ordering::Relaxed));
        }
        self.left_out.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_of_many_lines_are_left_out_and_counted() {
        let line = Seldom::new();
        let written = (0..1_000_000).filter_map(|_| line.next()).collect::<Vec<_>>();
        assert!((5..1_000).contains(&written.len()), "{} lines", written.len());
        let counted: u64 = written.iter().map(|left_out| left_out + 1).sum();
        assert_eq!(counted + line.left_out.load(Ordering::Relaxed), 1_000_000);
    }
}
