//! A set of seats, one bit each, that is searched a word at a time.

use std::ops::Range;

const WORD: u32 = u64::BITS;

/// The longest stretch that [`Bits::next_stretch`] can ask for.
pub(super) const STRETCH_MAX: u32 = WORD;

/// A fixed number of bits. Those past the end of the last word are never set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// So many bits, all set.
    pub(super) fn ones(len: u32) -> Self {
        let mut words = vec![u64::MAX; len.div_ceil(WORD) as usize];
        if let Some(last) = words.last_mut()
            && !len.is_multiple_of(WORD)
        {
            *last = (1 << (len % WORD)) - 1;
        }
        Self { words }
    }

    pub(super) fn put(&mut self, index: u32, value: bool) {
        let mask = 1 << (index % WORD);
        let word = &mut self.words[(index / WORD) as usize];
        if value { *word |= mask } else { *word &= !mask }
    }

    /// Makes the bits of `range` what those of `other` from `first` on are.
    pub(super) fn copy(&mut self, range: Range<u32>, other: &Self, first: u32) {
        let mut index = range.start;
        while index < range.end {
            // Up to the end of a word.
            let (shift, from) = (index % WORD, first + (index - range.start));
            let count = (WORD - shift).min(range.end - index);
            let low = other.word(from / WORD) >> (from % WORD);
            let high = other.word(from / WORD + 1).checked_shl(WORD - from % WORD).unwrap_or_default();
            let mask = (u64::MAX >> (WORD - count)) << shift;
            let word = &mut self.words[(index / WORD) as usize];
            *word = *word & !mask | (low | high) << shift & mask;
            index += count;
        }
    }

    /// Leaves so many bits.
    pub(super) fn truncate(&mut self, len: u32) {
        self.words.truncate(len.div_ceil(WORD) as usize);
        if !len.is_multiple_of(WORD)
            && let Some(last) = self.words.get_mut((len / WORD) as usize)
        {
            *last &= (1 << (len % WORD)) - 1;
        }
    }

    /// So many bits in all; those that are new are not set.
    pub(super) fn grow(&mut self, len: u32) {
        self.words.resize(len.div_ceil(WORD) as usize, 0);
    }

    pub(super) fn has(&self, index: u32) -> bool {
        self.word(index / WORD) >> (index % WORD) & 1 == 1
    }

    /// The first index in `range` at which `count` set bits in a row start, of which those after the first may be past
    /// the range.
    pub(super) fn next_stretch(&self, range: Range<u32>, count: u32) -> Option<u32> {
        debug_assert!((1..=STRETCH_MAX).contains(&count));
        if range.is_empty() {
            return None;
        }
        let first = range.start / WORD;
        (first..range.end.div_ceil(WORD)).find_map(|index| {
            let above = if index == first { u64::MAX << (range.start % WORD) } else { u64::MAX };
            // Most words of a house that is nearly sold out are empty.
            let starts = if self.word(index) == 0 { 0 } else { self.stretch_starts(index, count) & above };
            let found = index * WORD + starts.trailing_zeros();
            (starts != 0 && found < range.end).then_some(found)
        })
    }

    /// Of one word, the bits at which `count` set bits in a row start.
    fn stretch_starts(&self, index: u32, count: u32) -> u64 {
        let mut starts = u128::from(self.word(index)) | u128::from(self.word(index + 1)) << WORD;
        let mut reached = 1;
        while reached < count {
            let step = reached.min(count - reached);
            starts &= starts >> step;
            reached += step;
        }
        starts as u64
    }

    /// Where the set bits around `index`, which is one of them, start; no lower than `bound`.
    pub(super) fn stretch_start(&self, index: u32, bound: u32) -> u32 {
        let mut end = index + 1;
        while end > bound {
            let last = end - 1;
            let below = self.word(last / WORD) << (WORD - 1 - last % WORD);
            let set = below.leading_ones();
            if set <= last % WORD {
                return (end - set).max(bound);
            }
            end = last / WORD * WORD;
        }
        bound
    }

    /// Where the set bits from `index` on end; no higher than `bound`.
    pub(super) fn stretch_end(&self, index: u32, bound: u32) -> u32 {
        let mut start = index;
        while start < bound {
            let set = (self.word(start / WORD) >> (start % WORD)).trailing_ones();
            if set < WORD - start % WORD {
                return (start + set).min(bound);
            }
            start += set;
        }
        bound
    }

    /// The set bits in `range`, in order.
    pub(super) fn iter(&self, range: Range<u32>) -> impl Iterator<Item = u32> {
        let mut next = range.start;
        std::iter::from_fn(move || {
            let found = self.next_stretch(next..range.end, 1)?;
            next = found + 1;
            Some(found)
        })
    }

    fn word(&self, index: u32) -> u64 {
        self.words.get(index as usize).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn searches_agree_with_a_walk(
            stretches in prop::collection::vec((any::<bool>(), 1_usize..90), 1..12),
            range in (0_u32..500, 0_u32..500),
            count in 1..=STRETCH_MAX,
        ) {
            let model: Vec<bool> = stretches.iter().flat_map(|&(bit, n)| std::iter::repeat_n(bit, n)).collect();
            let len = model.len() as u32;
            let mut bits = Bits::ones(len);
            (0..len).for_each(|index| bits.put(index, model[index as usize]));
            let set = |index: u32| model.get(index as usize).copied().unwrap_or(false);
            let range = range.0.min(len)..range.1.min(len);

            let expected = range.clone().find(|&start| (start..start + count).all(set));
            prop_assert_eq!(bits.next_stretch(range.clone(), count), expected);
            prop_assert_eq!(
                bits.iter(range.clone()).collect::<Vec<_>>(),
                range.clone().filter(|&index| set(index)).collect::<Vec<_>>()
            );
            for index in range.clone().filter(|&index| set(index)) {
                let start = (range.start..=index).rev().take_while(|&index| set(index)).last();
                prop_assert_eq!(Some(bits.stretch_start(index, range.start)), start);
                let end = (index..range.end).take_while(|&index| set(index)).last().map(|last| last + 1);
                prop_assert_eq!(Some(bits.stretch_end(index, range.end)), end);
            }
        }

        #[test]
        fn copies_agree_with_a_loop(
            (to, from) in (prop::collection::vec(any::<bool>(), 1..300), prop::collection::vec(any::<bool>(), 1..300)),
            (start, first, count) in (0_usize..300, 0_usize..300, 0_usize..300),
            (left, more) in (0_usize..300, 0_usize..200),
        ) {
            let of = |model: &[bool]| {
                let mut bits = Bits::ones(model.len() as u32);
                (0..).zip(model).for_each(|(index, bit)| bits.put(index, *bit));
                bits
            };
            let (start, first) = (start.min(to.len()), first.min(from.len()));
            let count = count.min(to.len() - start).min(from.len() - first);
            let (mut bits, mut model) = (of(&to), to);
            bits.copy(start as u32..(start + count) as u32, &of(&from), first as u32);
            model[start..start + count].copy_from_slice(&from[first..first + count]);
            prop_assert_eq!(&bits, &of(&model));
            model.truncate(left);
            bits.truncate(model.len() as u32);
            prop_assert_eq!(&bits, &of(&model));
            model.resize(model.len() + more, false);
            bits.grow(model.len() as u32);
            prop_assert_eq!(bits, of(&model));
        }
    }
}
