//! Random decisions that can be repeated: a stream of numbers for each thing that decides, all from one seed.
//!
//! The algorithm is ours and frozen (SplitMix64, by Steele, Lea and Flood), so that a seed means the same in every
//! version.

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub struct Rng(u64);

/// What decides: each kind has streams of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// When arrivals come.
    Arrivals = 1,
    /// What an arrival does.
    Arrival = 2,
    /// What the auditor looks at.
    Audit = 3,
    /// Which one a follower is.
    Follower = 4,
}

impl Rng {
    /// The stream of the `n`th one of a kind.
    #[must_use]
    pub fn new(seed: u64, stream: Stream, n: u64) -> Self {
        let mut rng = Self(seed);
        for part in [stream as u64, n] {
            // What comes out depends on every bit of what went in.
            rng.0 = rng.next().wrapping_add(part.wrapping_mul(0xD134_2543_DE82_EF95));
        }
        rng.next();
        rng
    }

    /// 64 random bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A number of `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether something happens that happens in this share of all cases.
    pub fn happens(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// How long something takes that takes `mean` on average, and often less: exponentially distributed.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -(1.0 - self.unit()).ln() * mean
    }

    /// An index, by weights; 0 if they are all 0.
    pub fn weighted(&mut self, weights: &[f64]) -> usize {
        let mut left = self.unit() * weights.iter().sum::<f64>();
        for (index, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return index;
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_in_every_version() {
        let mut rng = Rng::new(1, Stream::Arrival, 0);
        let drawn: Vec<_> = (0..4).map(|_| rng.below(1_000_000)).collect();
        assert_eq!(drawn, FROZEN);
    }

    const FROZEN: [u64; 4] = [655_513, 687_877, 918_625, 179_395];

    #[test]
    fn streams_differ_in_seed_kind_and_number() {
        let first = |seed, stream, n| Rng::new(seed, stream, n).next();
        let drawn: std::collections::BTreeSet<_> = [
            first(1, Stream::Arrival, 0),
            first(2, Stream::Arrival, 0),
            first(1, Stream::Arrivals, 0),
            first(1, Stream::Arrival, 1),
        ]
        .into();
        assert_eq!(drawn.len(), 4);
    }

    #[test]
    fn shares_and_means_are_what_they_should_be() {
        let mut rng = Rng::new(7, Stream::Audit, 0);
        let n = 100_000;
        let happened = (0..n).filter(|_| rng.happens(0.3)).count();
        assert!((29_000..31_000).contains(&happened), "{happened}");
        let mean = (0..n).map(|_| rng.exponential(2.0)).sum::<f64>() / f64::from(n);
        assert!((1.95..2.05).contains(&mean), "{mean}");
        let twos = (0..n).filter(|_| rng.weighted(&[1.0, 0.0, 1.0]) == 2).count();
        assert!((49_000..51_000).contains(&twos), "{twos}");
        assert_eq!(rng.weighted(&[0.0, 0.0]), 0);
    }
}
