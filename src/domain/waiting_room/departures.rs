//! How fast those inside have left of late: what waits are estimated from. It knows counts and times, no tokens.
//!
//! Silence counts: while nobody leaves, the pace falls, and after five minutes without anybody it is not known any more.

use crate::domain::Timestamp;

/// So far back is looked.
const WINDOW_MS: u64 = 300_000;
/// Those who leave within one of these are counted together: 31 entries at most.
const SLOT_MS: u64 = 10_000;

/// Those who have left within the last minutes.
#[derive(Debug, Clone, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(super) struct Departures {
    /// Since when there has been a pace to know.
    #[n(0)]
    since: Timestamp,
    /// Slots since the epoch, and how many have left in each; oldest first.
    #[n(1)]
    slots: Vec<(u64, u32)>,
}

impl Departures {
    /// Somebody comes in, and nobody is inside: if nobody has left of late either, the pace is that from now on.
    pub fn begin(&mut self, at: Timestamp) {
        if !self.slots.iter().any(|(slot, _)| counts(*slot, at)) {
            *self = Self { since: at, slots: Vec::new() };
        }
    }

    /// Somebody has left.
    pub fn record(&mut self, at: Timestamp) {
        let slot = at.as_millis() / SLOT_MS;
        match self.slots.last_mut() {
            Some((last, count)) if *last == slot => *count = count.saturating_add(1),
            _ => {
                self.slots.retain(|(slot, _)| counts(*slot, at));
                self.slots.push((slot, 1));
            }
        }
    }

    /// In how many seconds `count` more will have left; `None` if that is not known.
    pub fn seconds_until(&self, now: Timestamp, count: u64) -> Option<u64> {
        let left: u64 =
            self.slots.iter().filter(|(slot, _)| counts(*slot, now)).map(|(_, left)| u64::from(*left)).sum();
        let passed_ms = (now.since(self.since).as_millis() as u64).clamp(SLOT_MS, WINDOW_MS);
        count.saturating_mul(passed_ms).div_ceil(1_000).checked_div(left)
    }
}

/// Whether any of a slot is within the window before `now`.
fn counts(slot: u64, now: Timestamp) -> bool {
    (slot + 1) * SLOT_MS + WINDOW_MS > now.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + seconds * 1000)
    }

    #[test]
    fn the_pace_is_that_of_the_time_that_was_looked_at() {
        let mut departures = Departures::default();
        departures.begin(at(0));
        assert_eq!(departures.seconds_until(at(100), 1), None);
        departures.record(at(1));
        departures.record(at(2));
        // What has just begun says little: ten seconds at least.
        assert_eq!(departures.seconds_until(at(2), 4), Some(20));
        assert_eq!(departures.seconds_until(at(60), 4), Some(120), "two a minute");
        assert_eq!(departures.seconds_until(at(120), 4), Some(240), "silence counts");
        assert_eq!(departures.seconds_until(at(309), 1), Some(150));
        assert_eq!(departures.seconds_until(at(310), 1), None, "and then it is not known");
        departures.record(at(600));
        departures.begin(at(601));
        assert_eq!(departures.seconds_until(at(610), 1), Some(300), "who left a moment ago is not forgotten");
        departures.begin(at(2_000));
        departures.record(at(2_020));
        assert_eq!(departures.seconds_until(at(2_020), 1), Some(20), "but an idle hour is");
        assert_eq!(departures.seconds_until(Timestamp::MAX, u64::MAX), None);
    }

    #[test]
    fn it_stays_small() {
        let mut departures = Departures::default();
        for second in 0..10_000 {
            (0..20).for_each(|_| departures.record(at(second)));
        }
        assert!(departures.slots.len() <= 31, "{}", departures.slots.len());
        assert_eq!(departures.seconds_until(at(10_000), 20 * 60), Some(60));
        let row = minicbor::to_vec(&departures).unwrap();
        assert!(row.len() < 500, "{}", row.len());
        assert_eq!(minicbor::decode::<Departures>(&row).unwrap(), departures);
    }
}
