//! What was asked for last, up to a number of things.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// Keeps what was asked for last.
#[derive(Debug)]
pub struct Recent<K, V> {
    most: usize,
    /// The last one is the one that was asked for last.
    kept: Mutex<VecDeque<(K, V)>>,
}

impl<K: PartialEq, V: Clone + Default> Recent<K, V> {
    /// Keeps `most` of them.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, kept: Mutex::default() }
    }

    /// What there is of `key`, which is kept from now on.
    pub fn get(&self, key: K) -> V {
        let mut kept = self.kept.lock();
        let place = kept.iter().position(|(known, _)| *known == key);
        let (key, value) = place.and_then(|place| kept.remove(place)).unwrap_or_else(|| (key, V::default()));
        kept.push_back((key, value.clone()));
        // Not dropped under the lock: it may be large.
        let forgotten = if kept.len() > self.most { kept.pop_front() } else { None };
        drop(kept);
        drop(forgotten);
        value
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_was_not_asked_for_longest_is_forgotten() {
        let recent: Recent<u8, Arc<()>> = Recent::new(2);
        let [one, two] = [1, 2].map(|key| recent.get(key));
        assert!(Arc::ptr_eq(&recent.get(1), &one));
        recent.get(3);
        assert!(Arc::ptr_eq(&recent.get(1), &one) && !Arc::ptr_eq(&recent.get(2), &two));
        let none: Recent<u8, Arc<()>> = Recent::new(0);
        assert!(!Arc::ptr_eq(&none.get(1), &none.get(1)));
    }
}
