//! The shuffle at the opening of a line. Frozen: the order of a line must come out the same from the same seed for as long
//! as any journal names that seed.

/// The numbers `0..count` in the order that `seed` gives them; every order is equally likely, as far as 64 bits of seed
/// can tell.
///
/// Fisher-Yates from the end, numbers by SplitMix64, bounded by Lemire's method with rejection, so without bias.
#[must_use]
pub fn permutation(seed: u64, count: u32) -> Vec<u32> {
    let mut random = SplitMix64(seed);
    let mut numbers: Vec<u32> = (0..count).collect();
    for last in (1..count).rev() {
        let chosen = random.below(last + 1);
        numbers.swap(last as usize, chosen as usize);
    }
    numbers
}

/// The lot of number `no` in the draw by `seed`: the `no`th number that SplitMix64 gives from it. No two numbers have the
/// same one, since they come of different states and what is made of a state can be undone; the lowest goes first.
#[must_use]
pub fn lot(seed: u64, no: u64) -> u64 {
    SplitMix64(seed.wrapping_add(no.wrapping_sub(1).wrapping_mul(GAMMA))).next()
}

/// The odd step from state to state.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`, each as likely as the others (Lemire, "Fast random integer generation in an interval",
    /// 2019, on the upper 32 bits). `bound` is not 0.
    fn below(&mut self, bound: u32) -> u32 {
        let rejected = bound.wrapping_neg() % bound;
        loop {
            let product = (self.next() >> 32) * u64::from(bound);
            if product as u32 >= rejected {
                return (product >> 32) as u32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_published_one() {
        let mut random = SplitMix64(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| random.next()).collect();
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    /// Worked out by another program from the description above. If this fails, lines that were shuffled by an earlier version come out in another order: undo the change.
    #[test]
    fn the_order_is_frozen() {
        assert_eq!(permutation(42, 12), [9, 7, 11, 5, 4, 10, 6, 0, 3, 2, 1, 8]);
        // Long enough for the generator to reject some numbers.
        let long = permutation(u64::MAX, 400_000);
        let digest = long.iter().fold(0_u64, |digest, &n| digest.wrapping_mul(31).wrapping_add(u64::from(n)));
        assert_eq!(digest, 17_243_048_605_847_825_124);
    }

    fn by_lot(seed: u64, mut numbers: Vec<u64>) -> Vec<u64> {
        numbers.sort_unstable_by_key(|&no| lot(seed, no));
        numbers
    }

    #[test]
    fn lots_are_what_the_generator_gives() {
        let mut random = SplitMix64(1_234_567);
        for no in 1..1000 {
            assert_eq!(lot(1_234_567, no), random.next());
        }
        assert_ne!(lot(7, 0), lot(7, 1));
        assert_ne!(lot(7, u64::MAX), lot(7, 1));
    }

    /// Worked out by another program, as above.
    #[test]
    fn the_order_of_lots_is_frozen() {
        assert_eq!(by_lot(42, (1..=12).collect()), [5, 2, 11, 7, 3, 9, 4, 12, 10, 1, 8, 6]);
        let long = by_lot(u64::MAX, (1_000..401_000).collect());
        let digest = long.iter().fold(0_u64, |digest, &n| digest.wrapping_mul(31).wrapping_add(n));
        assert_eq!(digest, 2_534_460_202_524_817_778);
    }

    #[test]
    fn every_order_of_lots_is_as_likely_as_the_others() {
        let mut seen = std::collections::BTreeMap::new();
        for seed in 0..24_000 {
            *seen.entry(by_lot(seed, vec![3, 5, 6, 1_000])).or_insert(0_u32) += 1;
        }
        assert_eq!(seen.len(), 24);
        assert!(seen.values().all(|times| (840..=1160).contains(times)), "{seen:?}");
    }

    #[test]
    fn every_number_stands_somewhere_once() {
        for count in [0, 1, 2, 3, 1000] {
            let mut numbers = permutation(7, count);
            numbers.sort_unstable();
            assert!(numbers.into_iter().eq(0..count));
        }
    }

    #[test]
    fn every_order_is_as_likely_as_the_others() {
        let mut seen = std::collections::BTreeMap::new();
        for seed in 0..24_000 {
            *seen.entry(permutation(seed, 4)).or_insert(0_u32) += 1;
        }
        assert_eq!(seen.len(), 24);
        // The standard deviation is 31.
        assert!(seen.values().all(|times| (840..=1160).contains(times)), "{seen:?}");
    }
}
