//! What time it is: the one module that asks (docs/adr/0004-time.md). Everything else takes `now` as an argument.
//!
//! Wall-clock time is for what must survive a restart or be told to others; waiting is done on the monotonic clock.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the module that the rule names"
)]

use std::sync::{Mutex, PoisonError};
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

/// The store's time: the wall clock, but never back. Where the wall clock goes back, the store's goes on by the monotonic clock
/// until the two have met again, so that what waits goes on waiting as long as it should.
#[derive(Debug)]
pub struct StoreClock {
    last: Mutex<Last>,
}

/// What the store's clock said when it was set last.
#[derive(Debug)]
struct Last {
    at_ms: u64,
    moment: Moment,
}

/// By how much the store's clock is slower while it is ahead of the wall clock: by one in so many. They meet again, and nothing is
/// early.
const SLOWER: u64 = 16;

impl StoreClock {
    /// A clock that starts no earlier than `floor`.
    pub fn starting_at(floor: UnixMs) -> Self {
        let last = Last {
            at_ms: floor.0,
            moment: Moment::now(),
        };
        Self {
            last: Mutex::new(last),
        }
    }

    /// What time it is.
    pub fn now(&self) -> UnixMs {
        let wall_ms = wall().0;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let moment = Moment::now();
        let passed = moment.0.saturating_duration_since(last.moment.0);
        let passed_ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        let own_ms = last
            .at_ms
            .saturating_add(passed_ms - passed_ms.div_ceil(SLOWER));
        if wall_ms >= own_ms {
            *last = Last {
                at_ms: wall_ms,
                moment,
            };
        }
        UnixMs(own_ms.max(wall_ms))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ahead_of_the_wall_clock_it_goes_on_a_sixteenth_slower() {
        let floor = wall().plus_ms(86_400_000);
        let clock = StoreClock::starting_at(floor);
        assert_eq!(clock.now(), floor);
        for minutes in 1..=32 {
            tokio::time::advance(Duration::from_secs(60)).await;
            assert_eq!(clock.now(), floor.plus_ms(minutes * 56_250));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn behind_the_wall_clock_it_is_the_wall_clock() {
        let clock = StoreClock::starting_at(UnixMs(1));
        let (before, now, after) = (wall(), clock.now(), wall());
        assert!((before..=after).contains(&now));
    }
}
