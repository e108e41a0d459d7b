//! Which request an event has come of: of the last ones that were chosen, and in memory only.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::context::Context;
use crate::domain::Lsn;

/// Of each command the numbers of its events, by the first of them.
pub(super) struct Remembered {
    most: usize,
    commands: Mutex<BTreeMap<Lsn, (Lsn, Context)>>,
}

impl Remembered {
    /// Of `most` commands.
    pub(super) fn new(most: usize) -> Self {
        Self { most, commands: Mutex::default() }
    }

    /// The events `first` to `last` have come of it. The oldest is forgotten for it.
    pub(super) fn remember(&self, first: Lsn, last: Lsn, context: Context) {
        let mut commands = self.commands.lock();
        commands.insert(first, (last, context));
        while commands.len() > self.most {
            commands.pop_first();
        }
    }

    /// Nothing has come of it, from `first` on, after all.
    pub(super) fn forget(&self, first: Lsn, context: Context) {
        let mut commands = self.commands.lock();
        if commands.get(&first).is_some_and(|(_, known)| *known == context) {
            commands.remove(&first);
        }
    }

    /// Of which requests these events have come, as far as that is known; each of them once.
    pub(super) fn of(&self, events: impl Iterator<Item = Lsn>) -> Vec<Context> {
        let (mut origins, commands) = (Vec::new(), self.commands.lock());
        for lsn in events {
            let found = commands.range(..=lsn).next_back();
            if let Some((_, (last, context))) = found
                && *last >= lsn
                && !origins.contains(context)
            {
                origins.push(*context);
            }
        }
        origins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_remembered_by_the_numbers_of_their_events() {
        let [a, b, c, d] = [1, 2, 3, 4].map(|byte| Context { trace: [byte; 16], span: [byte; 8], sampled: true });
        let remembered = Remembered::new(3);
        let of = |lsns: &[u64]| remembered.of(lsns.iter().map(|lsn| Lsn(*lsn)));
        assert_eq!(of(&[1]), []);
        remembered.remember(Lsn(5), Lsn(7), a);
        remembered.remember(Lsn(9), Lsn(9), b);
        remembered.remember(Lsn(20), Lsn(21), a);
        for (lsns, origins) in [
            (&[4][..], &[][..]),
            (&[5], &[a]),
            (&[7], &[a]),
            (&[8], &[]),
            (&[9], &[b]),
            (&[22], &[]),
            (&[21, 8, 9, 5], &[a, b]),
        ] {
            assert_eq!(of(lsns), origins, "{lsns:?}");
        }
        remembered.remember(Lsn(30), Lsn(30), c);
        assert_eq!(of(&[5, 9, 21, 30]), [b, a, c], "the oldest made room");
        remembered.forget(Lsn(30), d);
        assert_eq!(of(&[30]), [c], "somebody else has the number since");
        remembered.forget(Lsn(30), c);
        assert_eq!(of(&[30]), []);
        let nothing = Remembered::new(0);
        nothing.remember(Lsn(1), Lsn(1), a);
        assert_eq!(nothing.of([Lsn(1)].into_iter()), []);
    }
}
