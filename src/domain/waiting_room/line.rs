//! The order of those who wait, with the exact rank of each in O(log n).
//!
//! Everybody who joins gets the next place for good; a bit a place tells who still stands there, and a Fenwick tree over
//! blocks of 512 bits counts them. Nothing in here knows what a token is.

use std::collections::VecDeque;

const WORDS: usize = 8;
const BLOCK: u64 = 64 * WORDS as u64;
/// Fewer empty blocks than this at the head are not worth moving the others for.
const COMPACT_BLOCKS_MIN: usize = 8;

/// Those who wait, in order.
#[derive(Debug, Clone, Default)]
pub struct Line {
    /// The first place that is kept; a multiple of [`BLOCK`].
    first: u64,
    /// Who joined at each place from `first` on, whether still there or not.
    numbers: VecDeque<u64>,
    blocks: VecDeque<[u64; WORDS]>,
    counts: Fenwick,
    len: u64,
}

impl Line {
    /// How many wait.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// `number` joins at the end; the answer is its place, which names it here from now on.
    pub fn push(&mut self, number: u64) -> u64 {
        let slot = self.numbers.len();
        self.numbers.push_back(number);
        let (block, word, bit) = locate(slot as u64);
        if block == self.blocks.len() {
            self.blocks.push_back([0; WORDS]);
            self.counts.push(0);
        }
        self.blocks[block][word] |= bit;
        self.counts.add(block);
        self.len += 1;
        self.first + slot as u64
    }

    /// Whoever stands at `place` goes; nothing happens if nobody does.
    pub fn remove(&mut self, place: u64) {
        let Some((block, word, bit)) = self.occupied(place) else { return };
        self.blocks[block][word] &= !bit;
        self.counts.subtract(block);
        self.len -= 1;
        self.compact();
    }

    /// How many stand before `place`; `None` if nobody stands there.
    #[must_use]
    pub fn rank(&self, place: u64) -> Option<u64> {
        let (block, word, bit) = self.occupied(place)?;
        let words = &self.blocks[block];
        let whole: u32 = words[..word].iter().map(|w| w.count_ones()).sum();
        let part = (words[word] & (bit - 1)).count_ones();
        Some(self.counts.before(block) + u64::from(whole + part))
    }

    /// The numbers of those who wait, from the head.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.iter_from(0).map(|(_, number)| number)
    }

    /// Those who wait at `place` or behind it, each with their place, from the head.
    pub fn iter_from(&self, place: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let slot = place.saturating_sub(self.first);
        let head = self.counts.first_used().max((slot / BLOCK) as usize);
        let all = self.blocks.iter().enumerate().skip(head).flat_map(move |(block, words)| {
            words.iter().enumerate().flat_map(move |(word, &bits)| {
                let start = block * BLOCK as usize + word * 64;
                ones(bits).map(move |bit| (self.first + (start + bit) as u64, self.numbers[start + bit]))
            })
        });
        all.skip_while(move |(at, _)| *at < place)
    }

    fn occupied(&self, place: u64) -> Option<(usize, usize, u64)> {
        let slot = place.checked_sub(self.first).filter(|&slot| slot < self.numbers.len() as u64)?;
        let (block, word, bit) = locate(slot);
        (self.blocks[block][word] & bit != 0).then_some((block, word, bit))
    }

    /// Forgets the empty head once it is half of everything: a constant cost for each who left.
    fn compact(&mut self) {
        // Cheap to ask only while the first block is in use, which it is most of the time in a long line.
        if self.blocks.len() < 2 * COMPACT_BLOCKS_MIN || self.blocks[0] != [0; WORDS] {
            return;
        }
        let empty = self.counts.first_used();
        if empty < COMPACT_BLOCKS_MIN || empty * 2 < self.blocks.len() {
            return;
        }
        let places = (empty * BLOCK as usize).min(self.numbers.len());
        self.numbers.drain(..places);
        self.blocks.drain(..empty);
        if self.numbers.capacity() > 4 * self.numbers.len() {
            self.numbers.shrink_to(2 * self.numbers.len());
            self.blocks.shrink_to(2 * self.blocks.len());
        }
        self.first += places as u64;
        self.counts = Fenwick::default();
        for words in &self.blocks {
            self.counts.push(words.iter().map(|w| w.count_ones()).sum());
        }
    }
}

/// The block, the word in it, and the bit in that, of a slot.
fn locate(slot: u64) -> (usize, usize, u64) {
    ((slot / BLOCK) as usize, (slot % BLOCK / 64) as usize, 1 << (slot % 64))
}

/// The positions of the bits that are set, from the lowest.
fn ones(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        if bits == 0 {
            return None;
        }
        let lowest = bits.trailing_zeros() as usize;
        bits &= bits - 1;
        Some(lowest)
    })
}

/// A binary indexed tree of counts: prefix sums, changes and growth at the end in O(log n).
#[derive(Debug, Clone, Default)]
struct Fenwick {
    /// `tree[i]` is the sum of the counts in `i + 1 - lowbit(i + 1) ..= i`.
    tree: Vec<u32>,
}

impl Fenwick {
    fn push(&mut self, count: u32) {
        let index = self.tree.len() + 1;
        let mut sum = count;
        let mut step = 1;
        while step < lowbit(index) {
            sum += self.tree[index - step - 1];
            step *= 2;
        }
        self.tree.push(sum);
    }

    fn add(&mut self, at: usize) {
        let mut index = at + 1;
        while index <= self.tree.len() {
            self.tree[index - 1] += 1;
            index += lowbit(index);
        }
    }

    fn subtract(&mut self, at: usize) {
        let mut index = at + 1;
        while index <= self.tree.len() {
            self.tree[index - 1] -= 1;
            index += lowbit(index);
        }
    }

    /// The sum of all counts before `at`.
    fn before(&self, at: usize) -> u64 {
        let mut index = at;
        let mut sum = 0;
        while index > 0 {
            sum += u64::from(self.tree[index - 1]);
            index -= lowbit(index);
        }
        sum
    }

    /// Where the first count above zero is; past the end if there is none.
    fn first_used(&self) -> usize {
        let mut index = 0;
        let mut step = self.tree.len().checked_ilog2().map_or(0, |log| 1 << log);
        while step > 0 {
            if index + step <= self.tree.len() && self.tree[index + step - 1] == 0 {
                index += step;
            }
            step /= 2;
        }
        index
    }
}

fn lowbit(index: usize) -> usize {
    index & index.wrapping_neg()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranks_follow_those_who_go() {
        let mut line = Line::default();
        let places: Vec<u64> = (100..105).map(|number| line.push(number)).collect();
        line.remove(places[1]);
        line.remove(places[1]);
        line.remove(77);
        let ranks: Vec<_> = places.iter().map(|&place| line.rank(place)).collect();
        assert_eq!(ranks, [Some(0), None, Some(1), Some(2), Some(3)]);
        assert_eq!(line.iter().collect::<Vec<_>>(), [100, 102, 103, 104]);
        assert_eq!(line.len(), 4);
    }

    #[test]
    fn an_endless_stream_takes_no_endless_room() {
        let mut line = Line::default();
        let mut places = VecDeque::new();
        for number in 0..1_000_000 {
            places.push_back(line.push(number));
            if places.len() > 100 {
                line.remove(places.pop_front().unwrap());
            }
        }
        assert!(line.numbers.len() <= 2 * COMPACT_BLOCKS_MIN * BLOCK as usize, "{}", line.numbers.len());
        assert_eq!(line.iter().next(), Some(999_900));
        assert_eq!(places.iter().map(|&place| line.rank(place).unwrap()).max(), Some(99));
    }

    /// What is done to a line: so many join, then of those who wait so many go from the head and some from anywhere.
    fn step() -> impl Strategy<Value = (usize, usize, Vec<prop::sample::Index>)> {
        (0_usize..3000, 0_usize..3000, prop::collection::vec(any::<prop::sample::Index>(), 0..40))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn does_what_a_list_does(steps in prop::collection::vec(step(), 1..12)) {
            let mut line = Line::default();
            let mut list: Vec<(u64, u64)> = Vec::new();
            let mut gone = Vec::new();
            let mut next = 0;
            for (join, from_head, anywhere) in steps {
                for _ in 0..join {
                    list.push((next, line.push(next)));
                    next += 1;
                }
                for index in anywhere {
                    if !list.is_empty() {
                        gone.push(list.remove(index.index(list.len())));
                    }
                }
                gone.extend(list.drain(..from_head.min(list.len())));
                for (_, place) in gone.drain(..) {
                    line.remove(place);
                    prop_assert_eq!(line.rank(place), None);
                }
                prop_assert_eq!(line.len(), list.len() as u64);
                prop_assert!(line.iter().eq(list.iter().map(|&(number, _)| number)));
                let from = list.get(list.len() / 2).map_or(0, |&(_, place)| place);
                let behind = list.iter().filter(|&&(_, place)| place >= from).map(|&(number, place)| (place, number));
                prop_assert!(line.iter_from(from).eq(behind));
                for (rank, &(_, place)) in list.iter().enumerate() {
                    prop_assert_eq!(line.rank(place), Some(rank as u64));
                }
            }
        }
    }
}
