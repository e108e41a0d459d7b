//! Many seeds of a simulation, on two threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How many seeds to run, and from which on.
#[derive(Debug, Clone, Copy)]
pub struct Seeds {
    /// So many and no others, if somebody has asked for that.
    pub asked: Option<u64>,
    pub first: u64,
    /// So many whatever the time.
    pub least: u64,
    /// How long new ones are begun.
    pub budget: Duration,
}

impl Seeds {
    /// As `BOXOFFICE_CLUSTER_SEEDS` and `BOXOFFICE_TEST_SEED` say.
    pub fn of_a_cluster(least: u64, budget: Duration) -> Self {
        let first = number("BOXOFFICE_TEST_SEED").unwrap_or(1);
        Self { asked: number("BOXOFFICE_CLUSTER_SEEDS"), first, least, budget }
    }

    /// Whether only a few were asked for, of which little can be said together.
    pub fn are_few(&self) -> bool {
        self.asked.is_some_and(|seeds| seeds < self.least)
    }

    /// Runs them; how many there were, and what `add` makes of all.
    pub fn run<R: Default + Send>(&self, run: impl Fn(u64) -> R + Sync, add: impl Fn(&mut R, &R) + Sync) -> (u64, R) {
        let (begun, next, total) = (Instant::now(), AtomicU64::new(self.first), Mutex::new((0, R::default())));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        let is_over = match self.asked {
                            Some(seeds) => seed >= self.first + seeds,
                            None => seed >= self.first + self.least && begun.elapsed() > self.budget,
                        };
                        if is_over {
                            return;
                        }
                        let report = run(seed);
                        let mut total = total.lock().unwrap();
                        total.0 += 1;
                        add(&mut total.1, &report);
                    }
                });
            }
        });
        total.into_inner().unwrap()
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|number| number.parse().ok())
}
