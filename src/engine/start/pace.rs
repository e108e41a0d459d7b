//! When a checkpoint is due. Plain: whoever asks says how things stand.
//!
//! What is written late is written once where it changed often, and the sale has the processor meanwhile. What a checkpoint
//! is for is a start that need not replay much. So it comes as late as that allows, and as memory and disk do.

use std::time::Duration;

use crate::config::Config;
use crate::domain::Lsn;

/// For how long nothing has to happen until what there is is written, however little.
const STILL: Duration = Duration::from_secs(1);
/// How many times as long as a checkpoint took there is none, unless too much is waiting for one.
const REST: u32 = 4;
/// What a checkpoint may write for each event, at most, in bytes.
const EVENT_BYTES: u64 = 500;

/// What is not in sled yet, and how things stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Behind {
    /// Events.
    pub events: u64,
    /// Aggregates that they changed, and that stay in memory until they are written.
    pub aggregates: usize,
    /// What they take in the journal.
    pub bytes: u64,
    /// About how long it takes to replay them.
    pub replay: Duration,
    /// For how long no event has come.
    pub still: Duration,
    /// How long ago the last checkpoint ended.
    pub rested: Duration,
    /// How long that took.
    pub took: Duration,
    /// Bytes that may still be written to the disk; `None` if that is not known.
    pub free_bytes: Option<u64>,
}

/// How many events that reads see are not in a checkpoint. What was cut for one may be ahead of what they see: a batch is taken
/// in piece by piece.
pub(super) fn events_after(cut: Lsn, seen: Lsn) -> u64 {
    seen.0.saturating_sub(cut.0)
}

/// Whether a checkpoint is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// No.
    NotYet,
    /// Yes, and it may take its time.
    Now,
    /// Yes, and callers will be turned away, or the disk be full, before long.
    Urgently,
}

/// Whether a checkpoint is due.
pub(super) fn due(config: &Config, behind: &Behind) -> Due {
    let limits = &config.checkpoint;
    if behind.events == 0 {
        return Due::NotYet;
    }
    // Where space is getting scarce, a checkpoint has to be small. Half of what must stay free is the journal's.
    let room = behind.free_bytes.map_or(u64::MAX, |free| free.saturating_sub(config.storage.min_free_bytes / 2) / 2);
    let too_much = behind.events > limits.max_pending_events / 2
        || behind.bytes > limits.max_pending_bytes / 2
        || behind.events.saturating_mul(EVENT_BYTES) > room;
    if too_much {
        return Due::Urgently;
    }
    let wanted = behind.replay >= Duration::from_millis(limits.replay_target_ms)
        || behind.still >= STILL
        || behind.aggregates as u64 > config.actors.max_resident / 2;
    if wanted && behind.rested >= behind.took * REST { Due::Now } else { Due::NotYet }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn nothing_is_due_while_a_cut_is_ahead_of_what_reads_see() {
        for (cut, seen, expected) in [(0, 0, 0), (5, 7, 2), (7, 7, 0), (9, 7, 0), (u64::MAX, 0, 0)] {
            let events = events_after(Lsn(cut), Lsn(seen));
            assert_eq!(events, expected, "cut at {cut}, seen up to {seen}");
            let still = Duration::from_secs(60);
            let behind = Behind {
                events,
                aggregates: 0,
                bytes: 0,
                replay: Duration::ZERO,
                still,
                rested: still,
                took: Duration::ZERO,
                free_bytes: None,
            };
            assert_eq!(
                due(&Config::default(), &behind) == Due::NotYet,
                expected == 0,
                "cut at {cut}, seen up to {seen}"
            );
        }
    }

    #[test]
    fn a_checkpoint_comes_as_late_as_it_may() {
        let config = Config::default();
        let millis = Duration::from_millis;
        let busy = Behind {
            events: 100_000,
            aggregates: 10_000,
            bytes: 5_000_000,
            replay: millis(100),
            still: Duration::ZERO,
            rested: millis(3_000),
            took: millis(500),
            free_bytes: Some(100 * GIB),
        };
        for (what, behind, expected) in [
            ("little to replay", busy, Due::NotYet),
            ("enough to replay", Behind { replay: millis(1_000), ..busy }, Due::Now),
            ("the last one was long", Behind { replay: millis(1_000), took: millis(800), ..busy }, Due::NotYet),
            ("many changed", Behind { aggregates: 50_001, ..busy }, Due::Now),
            ("still", Behind { events: 1, still: millis(1_000), ..busy }, Due::Now),
            ("nothing", Behind { events: 0, still: millis(60_000), ..busy }, Due::NotYet),
            ("many events", Behind { events: 2_000_001, took: millis(60_000), ..busy }, Due::Urgently),
            ("many bytes", Behind { bytes: (256 << 20) + 1, took: millis(60_000), ..busy }, Due::Urgently),
            ("the disk is filling up", Behind { free_bytes: Some(200 << 20), ..busy }, Due::Urgently),
            ("the disk cannot be measured", Behind { free_bytes: None, ..busy }, Due::NotYet),
        ] {
            assert_eq!(due(&config, &behind), expected, "{what}");
        }
        let mut at_once = config;
        at_once.checkpoint.replay_target_ms = 0;
        assert_eq!(due(&at_once, &Behind { events: 1, replay: Duration::ZERO, ..busy }), Due::Now);
    }
}
