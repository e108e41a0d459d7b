//! Signs of life of those who wait. In memory only, no part of the aggregate's state: who still asks is no fact worth a
//! journal entry, who was silent for too long becomes one.
//!
//! Silence is measured on a clock of its own, which advances by one second at most from tick to tick: when we stall, or
//! are restarted, nobody's silence grows by it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::domain::Timestamp;

/// The silence between two ticks counts so much at most.
const STEP_MS_MAX: u64 = 1_000;
/// Signs are kept in tenths of a second: four bytes last for 13 years.
const GRAIN_MS: u64 = 100;
const SEGMENT: u64 = 4_096;

/// When each waiter was last heard of, shared between threads.
#[derive(Debug, Default)]
pub struct Liveness {
    /// Milliseconds of silence that have passed.
    clock_ms: AtomicU64,
    last_tick: Mutex<Option<Timestamp>>,
    segments: RwLock<BTreeMap<u64, Segment>>,
}

/// For each token of a range the time of its last sign, in grains from 1, rounded up; 0 is "not heard of yet".
type Segment = Box<[AtomicU32]>;

impl Liveness {
    /// With no sign of anybody: everybody counts as heard of when first asked about.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Token `no` gave a sign of life. For a token that [`silent`](Self::silent) has not been asked about yet nothing is
    /// kept, since it cannot be late: it counts as heard of then.
    pub fn seen(&self, no: u64) {
        let stamp = self.stamp();
        if let Some(segment) = self.segments.read().get(&(no / SEGMENT)) {
            segment[(no % SEGMENT) as usize].store(stamp, Ordering::Relaxed);
        }
    }

    /// Time has passed, up to `now`.
    pub fn tick(&self, now: Timestamp) {
        let mut last = self.last_tick.lock();
        let passed_ms = last.map_or(0, |last| now.as_millis().saturating_sub(last.as_millis()));
        self.clock_ms.fetch_add(passed_ms.min(STEP_MS_MAX), Ordering::Relaxed);
        *last = Some(last.map_or(now, |last| last.max(now)));
    }

    /// Those of `waiting` who have been silent for more than `ttl_ms` milliseconds. Forgets ranges of tokens of which none is
    /// among `waiting`, which are token numbers in any order; a pass over a million takes milliseconds.
    pub fn silent(&self, ttl_ms: u64, waiting: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let now_ms = self.clock_ms.load(Ordering::Relaxed);
        let mut silent = Vec::new();
        let mut unknown = Vec::new();
        let mut used = std::collections::BTreeSet::new();
        {
            let segments = self.segments.read();
            let mut last: Option<(u64, Option<&Segment>)> = None;
            for no in waiting {
                let key = no / SEGMENT;
                let segment = match last {
                    Some((at, segment)) if at == key => segment,
                    _ => {
                        used.insert(key);
                        segments.get(&key)
                    }
                };
                last = Some((key, segment));
                match segment.map_or(0, |segment| segment[(no % SEGMENT) as usize].load(Ordering::Relaxed)) {
                    0 => unknown.push(no),
                    stamp if now_ms.saturating_sub(u64::from(stamp - 1) * GRAIN_MS) > ttl_ms => silent.push(no),
                    _ => {}
                }
            }
        }
        self.renew(&used, &unknown);
        silent
    }

    /// Drops the segments without a waiter, and counts the `unknown` as heard of now.
    fn renew(&self, used: &std::collections::BTreeSet<u64>, unknown: &[u64]) {
        let stamp = self.stamp();
        let mut segments = self.segments.write();
        segments.retain(|key, _| used.contains(key));
        for no in unknown {
            let segment = segments.entry(no / SEGMENT).or_insert_with(new_segment);
            segment[(no % SEGMENT) as usize].store(stamp, Ordering::Relaxed);
        }
    }

    fn stamp(&self) -> u32 {
        let grains = self.clock_ms.load(Ordering::Relaxed).div_ceil(GRAIN_MS) + 1;
        u32::try_from(grains).unwrap_or(u32::MAX)
    }
}

fn new_segment() -> Segment {
    (0..SEGMENT).map(|_| AtomicU32::new(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(5_000_000 + millis)
    }

    /// Ticks each 100 ms from after `from` to `to`.
    fn pass(liveness: &Liveness, from: u64, to: u64) {
        (from + 100..=to).step_by(100).for_each(|millis| liveness.tick(at(millis)));
    }

    #[test]
    fn who_is_silent_for_too_long_is_told() {
        let liveness = Liveness::new();
        liveness.tick(at(0));
        assert!(liveness.silent(2_000, [1, 2, 9_000]).is_empty());
        pass(&liveness, 0, 1_500);
        liveness.seen(2);
        pass(&liveness, 1_500, 2_000);
        assert!(liveness.silent(2_000, [1, 2, 9_000]).is_empty());
        pass(&liveness, 2_000, 2_100);
        assert_eq!(liveness.silent(2_000, [9_000, 2, 1]), [9_000, 1]);
        pass(&liveness, 2_100, 3_600);
        assert_eq!(liveness.silent(2_000, [2]), [2]);
    }

    #[test]
    fn a_stall_counts_one_second() {
        let liveness = Liveness::new();
        liveness.tick(at(0));
        liveness.silent(2_000, [1]);
        liveness.tick(at(3_600_000));
        assert!(liveness.silent(2_000, [1]).is_empty());
        // A clock that goes back counts for nothing, nor does the way forward again.
        liveness.tick(at(3_500_000));
        liveness.tick(at(3_600_000));
        liveness.tick(at(3_600_900));
        assert!(liveness.silent(2_000, [1]).is_empty());
        liveness.tick(at(3_601_200));
        assert_eq!(liveness.silent(2_000, [1]), [1]);
    }

    #[test]
    fn a_sign_is_never_counted_too_old() {
        let liveness = Liveness::new();
        liveness.tick(at(0));
        liveness.silent(1_000, [1]);
        liveness.tick(at(150));
        liveness.seen(1);
        liveness.tick(at(1_150));
        assert!(liveness.silent(1_000, [1]).is_empty());
        liveness.tick(at(1_251));
        assert_eq!(liveness.silent(1_000, [1]), [1]);
    }

    #[test]
    fn those_who_went_take_no_room() {
        let liveness = Liveness::new();
        liveness.tick(at(0));
        liveness.silent(1_000, 0..50_000);
        assert_eq!(liveness.segments.read().len(), 13);
        liveness.silent(1_000, [49_999, 5_000]);
        assert_eq!(liveness.segments.read().len(), 2);
        liveness.seen(1);
        assert_eq!(liveness.segments.read().len(), 2);
    }
}
