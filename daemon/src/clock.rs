//! What time it is: the one module that asks (docs/adr/0004-time.md). Everything else takes `now` as an argument.
//!
//! Wall-clock time is for what must survive a restart or be told to others; waiting is done on the monotonic clock.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the module that the rule names"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use stormhook_store::UnixMs;
use tokio::time::Instant;

/// The wall clock as it is at this moment: for `webhook-timestamp` and log lines.
pub fn wall() -> UnixMs {
    #[cfg(feature = "simulation")]
    if let Some(wall) = crate::simulation::wall() {
        return wall;
    }
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The store's time: the wall clock, but never back behind what it said before or what the file holds.
#[derive(Debug, Default)]
pub struct StoreClock {
    last_ms: AtomicU64,
}

impl StoreClock {
    /// A clock that starts no earlier than `floor`.
    pub fn starting_at(floor: UnixMs) -> Self {
        Self {
            last_ms: AtomicU64::new(floor.0),
        }
    }

    /// What time it is.
    pub fn now(&self) -> UnixMs {
        let wall = wall().0;
        UnixMs(self.last_ms.fetch_max(wall, Ordering::Relaxed).max(wall))
    }
}

/// A point on the monotonic clock. Follows a paused tokio clock, as [`deadline`] does.
#[derive(Clone, Copy, Debug)]
pub struct Moment(Instant);

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self(Instant::now())
    }

    /// How long ago it was.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// The point on the monotonic clock that lies `after` from now, to wait for. Follows a paused tokio clock in tests.
pub fn deadline(after: Duration) -> Instant {
    let now = Instant::now();
    // What lies too far ahead to be told is a day away: nothing here waits longer.
    now.checked_add(after)
        .unwrap_or_else(|| now + Duration::from_secs(86_400))
}
