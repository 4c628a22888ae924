//! The simulated environment: a wall clock that can jump, and random numbers from a seed.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use std::sync::{Mutex, MutexGuard, PoisonError};
use stormhook_engine::environment::Environment;
use stormhook_store::UnixMs;
use tokio::time::Instant;

/// See the module. Time passes as on the runtime on which it was created.
#[derive(Debug)]
pub struct Simulated {
    /// The wall clock at a point of the runtime's clock.
    wall: Mutex<(Instant, UnixMs)>,
    random: Mutex<SplitMix64>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Simulated {
    /// Returns an environment whose wall clock is at `wall`.
    pub fn new(wall: UnixMs, seed: u64) -> Self {
        Self {
            wall: Mutex::new((now(), wall)),
            random: Mutex::new(SplitMix64::seed_from_u64(seed)),
        }
    }

    /// Sets the wall clock: it jumps, and continues from there.
    pub fn set_wall(&self, wall: UnixMs) {
        *locked(&self.wall) = (now(), wall);
    }
}

impl Environment for Simulated {
    fn wall(&self) -> UnixMs {
        let (since, wall) = *locked(&self.wall);
        let passed = now().saturating_duration_since(since);
        wall.plus_ms(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX))
    }

    fn random_u128(&self) -> u128 {
        let mut random = locked(&self.random);
        let mut next = || u128::from(random.next_u64());
        next() << 64 | next()
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the runtime's clock is the simulated one"
)]
fn now() -> Instant {
    Instant::now()
}
