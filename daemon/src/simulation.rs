//! What a simulation puts in place of the world for its thread: the wall clock, the random numbers and the partners.
//!
//! Exists with the feature `simulation` alone, and even then a thread that put nothing in place asks the real world. What is
//! simulated beyond these three is decided by whoever calls: time by a paused runtime, the disk by the store's backend.

use crate::deliver::{AttemptRequest, Attempted};
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use stormhook_store::UnixMs;
use tokio::time::Instant;

/// An attempt under way.
pub type Attempting<'a> = Pin<Box<dyn Future<Output = Attempted> + Send + 'a>>;

/// Partners, reached without a network.
pub trait Partners: Send + Sync {
    /// Makes one attempt that may take up to `timeout`. As with a real one, `still_wanted` is asked right before anything of
    /// the request is handed over.
    fn attempt<'a>(&'a self, request: AttemptRequest<'a>, timeout: Duration) -> Attempting<'a>;
}

struct World {
    /// What the wall clock said at a point of the runtime's.
    wall: (Instant, UnixMs),
    random: SplitMix64,
    partners: Arc<dyn Partners>,
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// Puts a world in place for this thread: from now on it is `wall`, and time passes as on the runtime that is entered.
pub fn enter(wall: UnixMs, seed: u64, partners: Arc<dyn Partners>) {
    let world = World {
        wall: (now(), wall),
        random: SplitMix64::seed_from_u64(seed),
        partners,
    };
    WORLD.set(Some(world));
}

/// Takes the world away again.
pub fn leave() {
    WORLD.set(None);
}

/// Sets the wall clock: it jumps, and goes on from there.
pub fn set_wall(wall: UnixMs) {
    WORLD.with_borrow_mut(|world| {
        if let Some(world) = world {
            world.wall = (now(), wall);
        }
    });
}

pub(crate) fn wall() -> Option<UnixMs> {
    WORLD.with_borrow(|world| {
        let (since, wall) = world.as_ref()?.wall;
        let passed = now().saturating_duration_since(since);
        Some(wall.plus_ms(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)))
    })
}

pub(crate) fn random_u128() -> Option<u128> {
    WORLD.with_borrow_mut(|world| {
        let random = &mut world.as_mut()?.random;
        let mut next = || u128::from(random.next_u64());
        Some(next() << 64 | next())
    })
}

pub(crate) fn partners() -> Option<Arc<dyn Partners>> {
    WORLD.with_borrow(|world| world.as_ref().map(|world| Arc::clone(&world.partners)))
}

#[allow(
    clippy::disallowed_methods,
    reason = "the clock module asks here, and here it is the simulated one"
)]
fn now() -> Instant {
    Instant::now()
}
