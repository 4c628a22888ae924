//! What a simulation puts in place of the world for its thread: the wall clock, the random numbers and the partners.
//!
//! Exists with the feature `simulation` alone, and even then a thread that put nothing in place asks the real world. What is
//! simulated beyond these three is decided by whoever calls: time by a paused runtime, the disk by the store's backend.

use crate::deliver::{AttemptRequest, Attempted};
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
    random: u64,
    partners: Arc<dyn Partners>,
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// Puts a world in place for this thread: from now on it is `wall`, and time passes as on the runtime that is entered.
pub fn enter(wall: UnixMs, seed: u64, partners: Arc<dyn Partners>) {
    let world = World {
        wall: (now(), wall),
        random: seed,
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
        let state = &mut world.as_mut()?.random;
        let mut next = || {
            // SplitMix64.
            *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = *state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            u128::from(z ^ (z >> 31))
        };
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
