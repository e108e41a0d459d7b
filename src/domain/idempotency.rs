//! Idempotency keys, kept with the state that they protect.
//!
//! Only successes are remembered, for [`RETENTION_MILLIS`], by the time of the events alone: the memory of an aggregate
//! is as reproducible as the rest of its state. Too many keys of one caller are refused, never dropped early.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::{Rejection, Timestamp, UserId};

/// How long a key is remembered: 24 hours.
pub const RETENTION_MILLIS: u64 = 24 * 60 * 60 * 1000;

/// An idempotency key as the domain sees it: digests.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode, serde::Serialize)]
pub struct Key {
    /// Digest of caller, operation and the caller's key.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub scope: [u8; 16],
    /// Digest of the payload.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub payload: [u8; 16],
    /// Whose key it is.
    #[n(2)]
    pub caller: UserId,
}

/// What comes with a command that may be sent again, beside what it asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// The caller's idempotency key.
    pub key: Option<Key>,
    /// What checks across aggregates found against it. A remembered answer goes before.
    pub refused: Option<Rejection>,
}

/// What is remembered of a key that led to success.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Remembered {
    /// Digest of the payload.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub payload: [u8; 16],
    /// When.
    #[n(1)]
    pub at: Timestamp,
    /// Number of what it made, in the aggregate's own counting.
    #[n(2)]
    pub made: u64,
    /// Whose key it is.
    #[n(3)]
    pub caller: UserId,
    /// Until when what it made stands, if it ends by itself: the answer says so.
    #[n(4)]
    pub until: Option<Timestamp>,
}

/// The keys that one aggregate remembers.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    keys: HashMap<[u8; 16], Remembered>,
    /// In the order of their times.
    order: VecDeque<(Timestamp, [u8; 16])>,
}

impl Memory {
    /// What the request's key led to, if it did within the last 24 hours before `now`.
    ///
    /// # Errors
    /// [`Rejection::IdempotencyKeyReused`] if it came with another payload then; else what was found against the
    /// request.
    pub fn recall(&self, now: Timestamp, request: &Request) -> Result<Option<u64>, Rejection> {
        let known = request.key.as_ref().and_then(|key| Some((key, self.keys.get(&key.scope)?)));
        match known {
            Some((key, known)) if known.at.plus_millis(RETENTION_MILLIS) > now => {
                if known.payload == key.payload {
                    Ok(Some(known.made))
                } else {
                    Err(Rejection::IdempotencyKeyReused)
                }
            }
            _ => request.refused.clone().map_or(Ok(None), Err),
        }
    }

    /// Remembers that `key` led to `made` at `at`, and forgets what is 24 hours older; `changed` hears of every scope
    /// that comes or goes.
    pub fn remember(&mut self, at: Timestamp, key: &Key, made: u64, changed: impl FnMut([u8; 16])) {
        self.remember_until(at, key, (made, None), changed);
    }

    /// As [`remember`](Self::remember), of what ends by itself.
    pub fn remember_until(
        &mut self,
        at: Timestamp,
        key: &Key,
        (made, until): (u64, Option<Timestamp>),
        mut changed: impl FnMut([u8; 16]),
    ) {
        while let Some(&(then, scope)) = self.order.front() {
            if then.plus_millis(RETENTION_MILLIS) > at {
                break;
            }
            self.order.pop_front();
            // The same scope may have been used again since.
            if self.keys.get(&scope).is_some_and(|known| known.at == then) {
                self.keys.remove(&scope);
                changed(scope);
            }
        }
        let known = Remembered { payload: key.payload, at, made, caller: key.caller.clone(), until };
        self.keys.insert(key.scope, known);
        self.order.push_back((at, key.scope));
        changed(key.scope);
    }

    /// Forgets all keys; `changed` hears of every scope.
    pub fn clear(&mut self, changed: impl FnMut([u8; 16])) {
        self.order.clear();
        self.keys.drain().map(|(scope, _)| scope).for_each(changed);
    }

    /// The row of one key.
    #[must_use]
    pub fn get(&self, scope: &[u8; 16]) -> Option<&Remembered> {
        self.keys.get(scope)
    }

    /// Puts a memory together from its rows, in any order.
    #[must_use]
    pub fn from_rows(rows: Vec<([u8; 16], Remembered)>) -> Self {
        let mut order: Vec<_> = rows.iter().map(|(scope, known)| (known.at, *scope)).collect();
        order.sort_unstable();
        Self { keys: rows.into_iter().collect(), order: order.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(scope: u8, payload: u8) -> Key {
        Key { scope: [scope; 16], payload: [payload; 16], caller: "anna".parse().unwrap() }
    }

    fn request(scope: u8, payload: u8) -> Request {
        Request { key: Some(key(scope, payload)), refused: None }
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_key_is_remembered_for_24_hours() {
        let mut memory = Memory::default();
        memory.remember(at(1000), &key(1, 1), 7, |_| ());
        let last = at(1000 + RETENTION_MILLIS - 1);
        assert_eq!(memory.recall(last, &request(1, 1)), Ok(Some(7)));
        assert_eq!(memory.recall(last, &request(1, 2)), Err(Rejection::IdempotencyKeyReused));
        assert_eq!(memory.recall(last, &request(2, 1)), Ok(None));
        assert_eq!(memory.recall(last, &Request::default()), Ok(None));
        assert_eq!(memory.recall(last.plus_millis(1), &request(1, 2)), Ok(None));
    }

    #[test]
    fn a_remembered_answer_goes_before_a_refusal() {
        let mut memory = Memory::default();
        memory.remember(at(0), &key(1, 1), 7, |_| ());
        let refused = Some(Rejection::QueueTokenRequired);
        assert_eq!(memory.recall(at(1), &Request { refused: refused.clone(), ..request(1, 1) }), Ok(Some(7)));
        let new = Request { refused, ..request(2, 1) };
        assert_eq!(memory.recall(at(1), &new), Err(Rejection::QueueTokenRequired));
    }

    #[test]
    fn old_keys_go_by_event_time_and_used_again_stay() {
        let mut memory = Memory::default();
        memory.remember(at(0), &key(1, 1), 1, |_| ());
        memory.remember(at(0), &key(2, 1), 2, |_| ());
        let mut changed = Vec::new();
        memory.remember(at(RETENTION_MILLIS), &key(1, 2), 3, |scope| changed.push(scope[0]));
        assert_eq!(changed, [1, 2, 1]);
        memory.remember(at(RETENTION_MILLIS + 1), &key(3, 1), 4, |_| ());
        assert_eq!(memory.recall(at(RETENTION_MILLIS + 1), &request(1, 2)), Ok(Some(3)));
        assert!(memory.get(&[2; 16]).is_none());
    }
}
