//! Limits of one user over all aggregates: open holds, and idempotency keys in 24 hours.
//!
//! The durable counts come from the events. A hold that is on its way is counted from the moment it is asked for, so
//! that no number of calls at once gets past the limit. When its event comes in, it is counted by that instead, in one
//! step: it never counts twice, so that nobody is refused below the limit either. Keys are counted once they are durable:
//! calls of one user at the same moment can pass that limit by their number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashSet;
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::Map;
use crate::domain::idempotency::RETENTION_MILLIS;
use crate::domain::{Counted, Timestamp, UserId};

const HOUR_MILLIS: u64 = 60 * 60 * 1000;

#[derive(Debug, Default, Clone)]
struct OneUser {
    open_holds: u64,
    /// Holds that are asked for in `term` and not yet in `open_holds`.
    under_way: u64,
    term: u64,
    /// Idempotency keys: the hour since the epoch, and how many.
    keys: SmallVec<[(u64, u64); 2]>,
}

impl OneUser {
    fn is_nothing(&self) -> bool {
        self.open_holds == 0 && self.under_way == 0 && self.keys.is_empty()
    }

    /// What was under way in another term is so no more.
    fn in_term(&mut self, term: u64) {
        if self.term != term {
            (self.term, self.under_way) = (term, 0);
        }
    }

    fn forget_keys(&mut self, now: Timestamp) {
        let oldest = now.minus_millis(RETENTION_MILLIS).as_millis() / HOUR_MILLIS;
        self.keys.retain(|(hour, _)| *hour >= oldest);
    }
}

/// What is counted for each user; clones share the counts.
#[derive(Debug, Default, Clone)]
pub struct UserCounts(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    users: Map<UserId, OneUser>,
    /// Whose keys have changed since the last checkpoint.
    dirty: Mutex<HashSet<UserId>>,
    /// In which term holds are asked for.
    term: AtomicU64,
}

impl UserCounts {
    /// First byte of the keys of its rows.
    pub const PREFIX: u8 = b'K';

    /// Takes an event's word.
    pub fn count(&self, user: &UserId, what: Counted) {
        let mut one = self.0.users.entry(user.clone()).or_default();
        one.in_term(self.term());
        match what {
            Counted::HoldOpened => {
                one.open_holds += 1;
                // There is none if the limit is off, or the event is replayed.
                one.under_way = one.under_way.saturating_sub(1);
            }
            Counted::HoldClosed => {
                one.open_holds = one.open_holds.saturating_sub(1);
                let nothing = one.is_nothing();
                drop(one);
                if nothing {
                    self.0.users.remove_if(user, |_, one| one.is_nothing());
                }
            }
            Counted::KeyUsed(at) => {
                one.forget_keys(at);
                let hour = at.as_millis() / HOUR_MILLIS;
                match one.keys.iter_mut().find(|(known, _)| *known == hour) {
                    Some((_, keys)) => *keys += 1,
                    None => one.keys.push((hour, 1)),
                }
                drop(one);
                self.0.dirty.lock().insert(user.clone());
            }
        }
    }

    /// How many idempotency keys a user has used in the 24 hours before `now`, rounded up to whole hours.
    #[must_use]
    pub fn keys(&self, user: &UserId, now: Timestamp) -> u64 {
        let oldest = now.minus_millis(RETENTION_MILLIS).as_millis() / HOUR_MILLIS;
        let one = self.0.users.get(user);
        one.map_or(0, |one| one.keys.iter().filter(|(hour, _)| *hour >= oldest).map(|(_, keys)| keys).sum())
    }

    /// Takes one of a user's `limit` open holds.
    ///
    /// # Errors
    /// They are all taken; how many that is.
    pub fn take_hold(&self, user: &UserId, limit: u64) -> Result<HoldSlot, u64> {
        let mut one = self.0.users.entry(user.clone()).or_default();
        // Under the lock of the entry: nobody has seen a later one there.
        let term = self.term();
        one.in_term(term);
        let taken = one.open_holds + one.under_way;
        if taken >= limit {
            return Err(taken);
        }
        one.under_way += 1;
        Ok(HoldSlot { counts: self.clone(), user: user.clone(), term, made: false })
    }

    /// A term begins, with the events of all others counted: no hold is under way, whatever became of those that were.
    pub fn begin_term(&self) {
        self.0.term.fetch_add(1, Ordering::SeqCst);
    }

    fn term(&self) -> u64 {
        self.0.term.load(Ordering::SeqCst)
    }

    /// Gives a hold back that was asked for in a term and is not there.
    fn give_back(&self, user: &UserId, term: u64) {
        if let Some(mut one) = self.0.users.get_mut(user) {
            one.in_term(self.term());
            // Those of an earlier one count no more.
            if term == one.term {
                one.under_way = one.under_way.saturating_sub(1);
            }
        }
        self.0.users.remove_if(user, |_, one| one.is_nothing());
    }

    /// Forgets users of whom nothing counts at `now` any more. Their rows stay, and are what they were: an hour is left
    /// over, so that no event on its way could still have counted what is forgotten.
    pub fn forget_idle(&self, now: Timestamp) {
        let oldest = (now.minus_millis(RETENTION_MILLIS).as_millis() / HOUR_MILLIS).saturating_sub(1);
        let dirty = self.0.dirty.lock();
        self.0.users.retain(|user, one| {
            one.in_term(self.term());
            let counts = one.open_holds > 0 || one.under_way > 0 || one.keys.iter().any(|(hour, _)| *hour >= oldest);
            counts || dirty.contains(user)
        });
    }

    /// Hands on the rows that have changed since the last time. What is in them follows from the events alone.
    pub fn collect(&self, mut put: impl FnMut(&[u8], Option<&[u8]>)) {
        let dirty = std::mem::take(&mut *self.0.dirty.lock());
        for user in dirty {
            let mut key = vec![Self::PREFIX];
            key.extend(user.as_str().as_bytes());
            let row = self.0.users.get(&user).and_then(|one| {
                let keys: Vec<_> =
                    one.keys.iter().flat_map(|(hour, keys)| [hour.to_le_bytes(), keys.to_le_bytes()]).collect();
                (!keys.is_empty()).then(|| keys.concat())
            });
            put(&key, row.as_deref());
        }
    }

    /// Takes a row in that [`collect`](Self::collect) made.
    pub fn load(&self, key: &[u8], row: &[u8]) {
        let user = key.get(1..).and_then(|user| std::str::from_utf8(user).ok()?.parse::<UserId>().ok());
        let Some(user) = user else { return };
        let (numbers, _) = row.as_chunks::<8>();
        let numbers: Vec<_> = numbers.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        let (pairs, _) = numbers.as_chunks::<2>();
        let keys = pairs.iter().map(|[hour, keys]| (*hour, *keys)).collect();
        self.0.users.entry(user).or_default().keys = keys;
    }
}

/// One of a user's open holds, taken before it is known whether there will be one. Dropped, it is free again.
#[derive(Debug)]
pub struct HoldSlot {
    counts: UserCounts,
    user: UserId,
    /// The term in which it was taken.
    term: u64,
    made: bool,
}

impl HoldSlot {
    /// Whether it counts: no other term has begun since it was taken.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.term == self.counts.term()
    }

    /// The hold was made: its event takes the slot over, or has done so.
    pub fn made(mut self) {
        self.made = true;
    }
}

impl Drop for HoldSlot {
    fn drop(&mut self) {
        if !self.made {
            self.counts.give_back(&self.user, self.term);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anna() -> UserId {
        "anna".parse().unwrap()
    }

    #[test]
    fn a_hold_counts_from_when_it_is_asked_for_and_never_twice() {
        let counts = UserCounts::default();
        let slot = counts.take_hold(&anna(), 2).unwrap();
        counts.count(&anna(), Counted::HoldOpened);
        // The event is in, and the caller has not been told yet.
        let second = counts.take_hold(&anna(), 2).unwrap();
        assert_eq!(counts.take_hold(&anna(), 2).unwrap_err(), 2);
        slot.made();
        // The caller is told first, and the event comes in later.
        second.made();
        assert_eq!(counts.take_hold(&anna(), 2).unwrap_err(), 2);
        counts.count(&anna(), Counted::HoldOpened);
        assert_eq!(counts.take_hold(&anna(), 2).unwrap_err(), 2);
        counts.count(&anna(), Counted::HoldClosed);
        counts.count(&anna(), Counted::HoldClosed);
        assert!(counts.0.users.is_empty(), "nothing is kept of who has nothing");
    }

    #[test]
    fn what_was_asked_for_in_another_term_takes_no_room_and_makes_none() {
        let counts = UserCounts::default();
        let [unknown, lost] = [(); 2].map(|()| counts.take_hold(&anna(), 2).unwrap());
        // One of them has become durable all the same, and nobody was told.
        counts.count(&anna(), Counted::HoldOpened);
        counts.begin_term();
        assert!(!unknown.counts());
        let now = counts.take_hold(&anna(), 2).unwrap();
        assert!(now.counts());
        drop((unknown, lost));
        assert_eq!(counts.take_hold(&anna(), 2).unwrap_err(), 2, "one that there is, and one under way");
        drop(now);
        counts.count(&anna(), Counted::HoldClosed);
        assert!(counts.0.users.is_empty(), "nothing is kept of who has nothing");
    }

    #[test]
    fn what_counts_in_a_term_is_counted_while_that_term_begins() {
        const TERMS: u64 = 50;
        let counts = UserCounts::default();
        // So many that it takes a while to look at all.
        for user in 0..20_000 {
            counts.count(&format!("user-{user}").parse().unwrap(), Counted::HoldOpened);
        }
        std::thread::scope(|scope| {
            let begins = scope.spawn(|| (0..TERMS).for_each(|_| counts.begin_term()));
            for user in 0.. {
                if begins.is_finished() {
                    break;
                }
                // Of somebody else each time: none has anything from before.
                let user: UserId = format!("buyer-{user}").parse().unwrap();
                let slot = counts.take_hold(&user, 1).unwrap();
                for _ in 0..200 {
                    let second = counts.take_hold(&user, 1);
                    assert!(second.is_err() || !slot.counts(), "two holds, where there may be one");
                }
            }
        });
    }

    #[test]
    fn a_hold_that_was_not_made_does_not_count() {
        let counts = UserCounts::default();
        drop(counts.take_hold(&anna(), 1).unwrap());
        assert!(counts.0.users.is_empty(), "nothing is kept of who has nothing");
        counts.take_hold(&anna(), 1).unwrap().made();
    }

    #[test]
    fn who_has_used_no_key_for_a_day_is_forgotten_and_the_row_is_as_if_not() {
        let start = Timestamp::from_millis(100 * HOUR_MILLIS);
        let later = start.plus_millis(RETENTION_MILLIS + 2 * HOUR_MILLIS);
        let rows = |forget: bool| {
            let counts = UserCounts::default();
            let mut rows = Vec::new();
            counts.count(&anna(), Counted::KeyUsed(start));
            counts.forget_idle(later);
            assert!(!counts.0.users.is_empty(), "the row is not written yet");
            counts.collect(|key, row| rows.push((key.to_vec(), row.map(<[u8]>::to_vec))));
            if forget {
                counts.forget_idle(later.minus_millis(1));
                assert!(!counts.0.users.is_empty(), "not yet");
                let slot = counts.take_hold(&anna(), 1).unwrap();
                counts.forget_idle(later);
                assert!(!counts.0.users.is_empty(), "a hold is under way");
                drop(slot);
                counts.forget_idle(later);
                assert!(counts.0.users.is_empty());
            }
            counts.count(&anna(), Counted::KeyUsed(later));
            counts.collect(|key, row| rows.push((key.to_vec(), row.map(<[u8]>::to_vec))));
            rows
        };
        assert_eq!(rows(true), rows(false));
    }

    #[test]
    fn keys_are_counted_by_the_hour_and_survive() {
        let counts = UserCounts::default();
        let start = Timestamp::from_millis(100 * HOUR_MILLIS);
        counts.count(&anna(), Counted::KeyUsed(start));
        counts.count(&anna(), Counted::KeyUsed(start));
        counts.count(&anna(), Counted::KeyUsed(start.plus_millis(HOUR_MILLIS)));
        let mut rows = Vec::new();
        counts.collect(|key, row| rows.push((key.to_vec(), row.map(<[u8]>::to_vec))));
        let loaded = UserCounts::default();
        for (key, row) in &rows {
            loaded.load(key, row.as_deref().unwrap());
        }
        for counts in [&counts, &loaded] {
            assert_eq!(counts.keys(&anna(), start), 3);
            assert_eq!(counts.keys(&anna(), start.plus_millis(RETENTION_MILLIS)), 3);
            assert_eq!(counts.keys(&anna(), start.plus_millis(RETENTION_MILLIS + HOUR_MILLIS)), 1);
            assert_eq!(counts.keys(&anna(), start.plus_millis(RETENTION_MILLIS + 2 * HOUR_MILLIS)), 0);
        }
    }
}
