//! Signs of life that a node other than the owner has seen, until the owner knows of them.
//!
//! Pure: what time it is, and what became of a batch, is told to it. Times are milliseconds of one clock that never goes
//! back.

use std::collections::{BTreeMap, HashSet};

use crate::domain::{ConcertId, TokenId};

/// A sign waits at most so long to be told, in milliseconds, and at most a quarter of the time that one may be silent.
const TELL_WITHIN_MS: u64 = 1_000;
/// So many go in one batch.
const BATCH_MAX: usize = 32_768;

/// The owner has not heard for too long of those who wait in this line: whether they are still in it is not certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unheard;

/// Signs of life that the owner has not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Signs {
    lines: BTreeMap<ConcertId, Line>,
}

#[derive(Debug, Default)]
struct Line {
    /// How long one may be silent.
    ttl_ms: u64,
    /// To be told.
    waiting: HashSet<u64>,
    /// When the first of those came.
    waiting_since: Option<u64>,
    /// When the first one came of those that are being told.
    under_way_since: Option<u64>,
}

impl Line {
    /// Since when there is something that the owner does not know.
    fn unheard_since(&self) -> Option<u64> {
        self.under_way_since.into_iter().chain(self.waiting_since).min()
    }

    fn due_at(&self) -> Option<u64> {
        Some(self.waiting_since? + (self.ttl_ms / 4).min(TELL_WITHIN_MS))
    }
}

/// Signs of one line that are told together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) concert: ConcertId,
    /// The numbers of the tokens, in order.
    pub(super) tokens: Vec<u64>,
    /// When the first of them came.
    since: u64,
}

impl Signs {
    /// The holder of a token of a line in which one may be silent for `ttl_ms` has given a sign of life. It is told in any case;
    /// also says whether the owner has heard of that line in time.
    pub(super) fn note(&mut self, now: u64, token: TokenId, ttl_ms: u64) -> Result<(), Unheard> {
        let line = self.lines.entry(token.concert).or_default();
        line.ttl_ms = ttl_ms;
        let unheard = line.unheard_since().is_some_and(|since| now.saturating_sub(since) > ttl_ms / 2);
        line.waiting.insert(token.no);
        line.waiting_since.get_or_insert(now);
        if unheard { Err(Unheard) } else { Ok(()) }
    }

    /// When there will be something to be told.
    pub(super) fn due_at(&self) -> Option<u64> {
        self.lines.values().filter_map(Line::due_at).min()
    }

    /// Something that is to be told now, if there is anything. What became of it must be said: [`heard`](Self::heard) or
    /// [`not_heard`](Self::not_heard).
    pub(super) fn due(&mut self, now: u64) -> Option<Batch> {
        let is_due = |line: &Line| line.due_at().is_some_and(|at| at <= now);
        let (concert, line) = self.lines.iter_mut().find(|(_, line)| is_due(line))?;
        let since = line.waiting_since?;
        let mut tokens: Vec<_> = line.waiting.iter().copied().take(BATCH_MAX).collect();
        tokens.sort_unstable();
        for no in &tokens {
            line.waiting.remove(no);
        }
        // Those that are left are told next.
        line.waiting_since = (!line.waiting.is_empty()).then_some(since);
        line.under_way_since = Some(line.under_way_since.map_or(since, |before| before.min(since)));
        Some(Batch { concert: *concert, tokens, since })
    }

    /// The owner knows of these. One batch of a line is under way at a time.
    pub(super) fn heard(&mut self, batch: &Batch) {
        if let Some(line) = self.lines.get_mut(&batch.concert) {
            line.under_way_since = None;
            if line.waiting.is_empty() {
                self.lines.remove(&batch.concert);
            }
        }
    }

    /// Whether the owner knows of these is not known: they are told again.
    pub(super) fn not_heard(&mut self, batch: Batch) {
        if let Some(line) = self.lines.get_mut(&batch.concert) {
            line.under_way_since = None;
            line.waiting.extend(batch.tokens);
            line.waiting_since = Some(line.waiting_since.map_or(batch.since, |since| since.min(batch.since)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: ConcertId = ConcertId(3);

    fn token(no: u64) -> TokenId {
        TokenId { concert: LINE, no }
    }

    #[test]
    fn signs_are_told_together_within_a_second_and_within_a_quarter_of_the_silence() {
        for (ttl_ms, within) in [(120_000, 1_000), (10_000, 1_000), (2_000, 500), (1_000, 250)] {
            let mut signs = Signs::default();
            assert_eq!(signs.due_at(), None);
            signs.note(5_000, token(2), ttl_ms).unwrap();
            signs.note(5_100, token(1), ttl_ms).unwrap();
            signs.note(5_200, token(2), ttl_ms).unwrap();
            assert_eq!(signs.due_at(), Some(5_000 + within), "{ttl_ms}");
            assert_eq!(signs.due(5_000 + within - 1), None);
            let batch = signs.due(5_000 + within).unwrap();
            assert_eq!((batch.concert, &batch.tokens[..]), (LINE, &[1, 2][..]));
            assert_eq!(signs.due(50_000), None);
            signs.heard(&batch);
            assert!(signs.lines.is_empty(), "nothing is kept of what is known");
        }
    }

    #[test]
    fn who_asks_is_told_when_the_owner_has_not_heard_for_half_of_the_silence() {
        let mut signs = Signs::default();
        signs.note(0, token(1), 2_000).unwrap();
        let batch = signs.due(500).unwrap();
        assert_eq!(signs.note(1_000, token(1), 2_000), Ok(()));
        assert_eq!(signs.note(1_001, token(2), 2_000), Err(Unheard));
        // It has gone wrong, and is told again, with the later ones, at once.
        signs.not_heard(batch);
        assert_eq!(signs.note(1_002, token(3), 2_000), Err(Unheard));
        let batch = signs.due(1_003).unwrap();
        assert_eq!(batch.tokens, [1, 2, 3]);
        signs.heard(&batch);
        assert_eq!(signs.note(1_010, token(2), 2_000), Ok(()));
    }

    #[test]
    fn what_came_while_others_were_told_counts_from_when_it_came() {
        let mut signs = Signs::default();
        signs.note(0, token(1), 4_000).unwrap();
        let batch = signs.due(1_000).unwrap();
        signs.note(1_500, token(2), 4_000).unwrap();
        signs.heard(&batch);
        assert_eq!(signs.note(3_500, token(3), 4_000), Ok(()));
        assert_eq!(signs.note(3_501, token(3), 4_000), Err(Unheard));
        assert_eq!(signs.due(3_501).unwrap().tokens, [2, 3]);
    }

    #[test]
    fn one_line_does_not_wait_for_another() {
        let mut signs = Signs::default();
        let other = TokenId { concert: ConcertId(4), no: 7 };
        signs.note(0, token(1), 1_000).unwrap();
        signs.note(0, other, 100_000).unwrap();
        assert_eq!(signs.note(600, token(1), 1_000), Err(Unheard));
        assert_eq!(signs.note(600, other, 100_000), Ok(()));
        assert_eq!(signs.due(600).unwrap().concert, LINE);
        assert_eq!((signs.due(600), signs.due_at()), (None, Some(1_000)));
        assert_eq!(signs.due(1_000).unwrap().concert, other.concert);
    }

    #[test]
    fn a_long_line_is_told_in_parts() {
        let mut signs = Signs::default();
        (0..BATCH_MAX as u64 + 1).for_each(|no| signs.note(0, token(no), 120_000).unwrap());
        let first = signs.due(1_000).unwrap();
        signs.heard(&first);
        assert_eq!(signs.note(60_001, token(5), 120_000), Err(Unheard), "one of them is not told yet");
        let second = signs.due(60_001).unwrap();
        assert!(first.tokens.len() == BATCH_MAX && second.tokens.len() <= 2, "{}", second.tokens.len());
        signs.heard(&second);
        assert!(signs.lines.is_empty());
    }
}
