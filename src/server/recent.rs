//! What was asked for last, up to a number of things and of bytes.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// Keeps what was asked for last.
#[derive(Debug)]
pub struct Recent<K, V> {
    most: usize,
    bytes_max: usize,
    kept: Mutex<Kept<K, V>>,
}

#[derive(Debug)]
struct Kept<K, V> {
    /// The last one is the one that was asked for last.
    things: VecDeque<Thing<K, V>>,
    /// Of all of them.
    bytes: usize,
}

#[derive(Debug)]
struct Thing<K, V> {
    key: K,
    value: V,
    bytes: usize,
}

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self { things: VecDeque::new(), bytes: 0 }
    }
}

impl<K: PartialEq, V> Kept<K, V> {
    fn take(&mut self, key: &K) -> Option<Thing<K, V>> {
        let place = self.things.iter().position(|thing| thing.key == *key)?;
        let thing = self.things.remove(place)?;
        self.bytes -= thing.bytes;
        Some(thing)
    }

    fn take_oldest(&mut self) -> Option<Thing<K, V>> {
        let thing = self.things.pop_front()?;
        self.bytes -= thing.bytes;
        Some(thing)
    }

    fn put(&mut self, thing: Thing<K, V>) {
        self.bytes += thing.bytes;
        self.things.push_back(thing);
    }
}

impl<K: PartialEq, V: Clone + Default> Recent<K, V> {
    /// Keeps `most` of them, which take `bytes_max` together.
    #[must_use]
    pub fn new(most: usize, bytes_max: usize) -> Self {
        Self { most, bytes_max, kept: Mutex::default() }
    }

    /// What there is of `key`, which is kept from now on. What it takes is to be [told](Self::weigh) once it is there.
    pub fn get(&self, key: K) -> V {
        let mut kept = self.kept.lock();
        let thing = kept.take(&key).unwrap_or_else(|| Thing { key, value: V::default(), bytes: 0 });
        let value = thing.value.clone();
        kept.put(thing);
        // Not dropped under the lock: it may be large.
        let forgotten = if kept.things.len() > self.most { kept.take_oldest() } else { None };
        drop(kept);
        drop(forgotten);
        value
    }

    /// What is kept of `key` takes so many bytes from now on. Whatever was not asked for longest makes room for it; if it takes
    /// more than there may be of all, it is not kept, and nothing makes room.
    pub fn weigh(&self, key: &K, bytes: usize) {
        let mut kept = self.kept.lock();
        let mut forgotten = Vec::new();
        if bytes > self.bytes_max {
            forgotten.extend(kept.take(key));
        } else if let Some(place) = kept.things.iter().position(|thing| thing.key == *key) {
            let before = std::mem::replace(&mut kept.things[place].bytes, bytes);
            kept.bytes = kept.bytes - before + bytes;
            while kept.bytes > self.bytes_max {
                forgotten.extend(kept.take_oldest());
            }
        }
        drop(kept);
        drop(forgotten);
    }

    /// How many bytes are kept.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.kept.lock().bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_was_not_asked_for_longest_is_forgotten() {
        let recent: Recent<u8, Arc<()>> = Recent::new(2, usize::MAX);
        let [one, two] = [1, 2].map(|key| recent.get(key));
        assert!(Arc::ptr_eq(&recent.get(1), &one));
        recent.get(3);
        assert!(Arc::ptr_eq(&recent.get(1), &one) && !Arc::ptr_eq(&recent.get(2), &two));
        let none: Recent<u8, Arc<()>> = Recent::new(0, usize::MAX);
        assert!(!Arc::ptr_eq(&none.get(1), &none.get(1)));
    }

    #[test]
    fn what_takes_more_than_there_may_be_makes_room_in_the_same_order() {
        let recent: Recent<u8, Arc<()>> = Recent::new(10, 100);
        let things = [0, 1, 2, 3].map(|key| recent.get(key));
        // In the order of their keys; nothing that is not there is looked at, which would be to ask for it.
        let kept = || {
            let kept = recent.kept.lock();
            (0..4).filter(|key| kept.things.iter().any(|thing| thing.key == *key)).collect::<Vec<_>>()
        };
        for (key, bytes, expected, all) in [
            (0, 40, &[0, 1, 2, 3][..], 40),
            (1, 40, &[0, 1, 2, 3], 80),
            (2, 20, &[0, 1, 2, 3], 100),
            (2, 10, &[0, 1, 2, 3], 90),
            (3, 11, &[1, 2, 3], 61),
            // It has grown beyond what all may take: the others need not go for it.
            (1, 101, &[2, 3], 21),
            (1, 50, &[2, 3], 21),
            // What was asked for first goes first, even if that is the one that has grown.
            (2, 95, &[3], 11),
        ] {
            recent.weigh(&key, bytes);
            assert_eq!((kept().as_slice(), recent.bytes()), (expected, all), "{key} takes {bytes}");
        }
        assert!(Arc::ptr_eq(&recent.get(3), &things[3]));
    }
}
