//! Random numbers from a seed.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// A small generator, so that a seed reproduces a run.
#[derive(Clone, Debug)]
pub struct Random(SplitMix64);

impl Default for Random {
    fn default() -> Self {
        Self::seeded(0)
    }
}

impl Random {
    pub fn seeded(seed: u64) -> Self {
        Self(SplitMix64::seed_from_u64(seed))
    }

    pub fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
