//! Random numbers that a seed decides: SplitMix64.

use std::sync::Arc;

use parking_lot::Mutex;

/// The seed of a test: the one in the environment, or another each time. To be printed.
#[must_use]
pub fn seed() -> u64 {
    let given = std::env::var("BOXOFFICE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos() as u64)
}

/// A row of random numbers.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// The next one.
    #[expect(clippy::should_implement_trait, reason = "it has no end")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// At least 0 and below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// Heads or tails.
    pub fn coin(&mut self) -> bool {
        self.below(2) == 1
    }

    /// Whether something happens that does in so many cases out of 1,000.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1_000) < per_mille
    }

    /// One of them.
    ///
    /// # Panics
    /// If there is none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// One row of random numbers that many draw from.
#[derive(Debug, Clone)]
pub struct Dice(Arc<Mutex<Random>>);

impl Dice {
    /// Dice that fall as `seed` decides.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Random(seed))))
    }

    /// From now on they fall as `seed` decides.
    pub fn reseed(&self, seed: u64) {
        self.0.lock().0 = seed;
    }

    /// Where they stand.
    #[must_use]
    pub fn state(&self) -> u64 {
        self.0.lock().0
    }

    /// As [`Random::next`].
    #[must_use]
    pub fn next(&self) -> u64 {
        self.0.lock().next()
    }

    /// As [`Random::below`].
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        self.0.lock().below(bound)
    }

    /// As [`Random::coin`].
    #[must_use]
    pub fn coin(&self) -> bool {
        self.0.lock().coin()
    }

    /// As [`Random::chance`].
    #[must_use]
    pub fn chance(&self, per_mille: u64) -> bool {
        self.0.lock().chance(per_mille)
    }

    /// As [`Random::pick`].
    #[must_use]
    pub fn pick<'a, T>(&self, of: &'a [T]) -> &'a T {
        self.0.lock().pick(of)
    }
}
