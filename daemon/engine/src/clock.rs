//! The current time. This module asks the monotonic clock, and `environment` asks the wall clock
//! (docs/adr/0004-time.md). Everything else takes `now` as an argument.
//!
//! Wall-clock time is for everything that survives a restart or leaves the process. Waiting uses the monotonic clock.
#![allow(
    clippy::disallowed_methods,
    reason = "this module is the rule's exception"
)]

use crate::environment::Environment;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use stormhook_store::{Now, UnixMs};
use tokio::time::Instant;

/// The store's two clocks.
///
/// The store's time follows the wall clock but never goes back. When the wall clock goes back, the store's time
/// continues by the monotonic clock until the two meet again, so that deliveries still wait as long as they should.
///
/// The paced time follows the wall clock too, but never goes back and never leaps ahead. It is the time used for
/// expiry.
#[derive(Debug)]
pub struct StoreClock {
    environment: Arc<dyn Environment>,
    clocks: Mutex<Clocks>,
}

#[derive(Debug)]
struct Clocks {
    last: Last,
    paced: Paced,
}

/// The store's clock when it was last set.
#[derive(Debug)]
struct Last {
    at_ms: u64,
    moment: Moment,
}

/// While the store's clock is ahead of the wall clock it is slower by one part in this many. So the two meet again, and
/// nothing happens early.
const SLOWER: u64 = 16;

impl Last {
    fn look(&mut self, wall_ms: u64, moment: Moment) -> UnixMs {
        let passed_ms = moment.since_ms(self.moment);
        let own_ms = self
            .at_ms
            .saturating_add(passed_ms - passed_ms.div_ceil(SLOWER));
        if wall_ms >= own_ms {
            *self = Self {
                at_ms: wall_ms,
                moment,
            };
        }
        UnixMs(own_ms.max(wall_ms))
    }
}

/// The paced time, and when it was last read.
#[derive(Debug)]
struct Paced {
    at_ms: u64,
    /// How far it was behind the wall clock then.
    behind_ms: u64,
    moment: Moment,
}

/// How many times as fast as the monotonic clock the paced time goes while it is behind the wall clock.
const PACE: u64 = 60;

impl Paced {
    /// Goes as the monotonic clock does, and catches up what it lacked when it was last read: the time since the last
    /// read says nothing about a leap that is found now. While it is ahead of the wall clock it stands still.
    fn look(&mut self, wall_ms: u64, moment: Moment) -> UnixMs {
        let passed_ms = moment.since_ms(self.moment);
        let makes_up_ms = self.behind_ms.min(passed_ms.saturating_mul(PACE - 1));
        let most_ms = self
            .at_ms
            .saturating_add(passed_ms)
            .saturating_add(makes_up_ms);
        self.at_ms = self.at_ms.max(wall_ms.min(most_ms));
        self.behind_ms = wall_ms.saturating_sub(self.at_ms);
        self.moment = self.moment.plus_ms(passed_ms);
        UnixMs(self.at_ms)
    }
}

impl StoreClock {
    /// Returns a clock that starts no earlier than `floor`. Its paced time starts at the wall clock.
    pub fn starting_at(environment: Arc<dyn Environment>, floor: UnixMs) -> Self {
        let moment = Moment::now();
        let wall = environment.wall();
        Self {
            environment,
            clocks: Mutex::new(Clocks {
                last: Last {
                    at_ms: floor.0,
                    moment,
                },
                paced: Paced {
                    at_ms: wall.0,
                    behind_ms: 0,
                    moment,
                },
            }),
        }
    }

    /// Continues the paced time from what the store knows of it, if anything: time without a running daemon is a leap
    /// like any other.
    #[must_use]
    pub fn paced_from(self, known: UnixMs) -> Self {
        if known != UnixMs(0) {
            self.clocks().paced.at_ms = known.0;
        }
        self
    }

    /// Returns the environment that is asked for the wall clock.
    pub fn environment(&self) -> &dyn Environment {
        &*self.environment
    }

    fn clocks(&self) -> MutexGuard<'_, Clocks> {
        self.clocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the store's time.
    pub fn now(&self) -> UnixMs {
        self.both().at
    }

    /// Returns the paced time.
    pub fn paced(&self) -> UnixMs {
        self.both().paced
    }

    /// Returns both times.
    pub fn both(&self) -> Now {
        let wall_ms = self.environment.wall().0;
        let clocks = &mut *self.clocks();
        let moment = Moment::now();
        Now {
            at: clocks.last.look(wall_ms, moment),
            paced: clocks.paced.look(wall_ms, moment),
        }
    }
}

/// A point on the monotonic clock. Follows a paused tokio clock, as [`deadline`] does.
#[derive(Clone, Copy, Debug)]
pub struct Moment(Instant);

impl Moment {
    /// Returns the current moment.
    pub fn now() -> Self {
        Self(Instant::now())
    }

    /// Returns the milliseconds since `earlier`; 0 if it is later.
    fn since_ms(self, earlier: Self) -> u64 {
        let passed = self.0.saturating_duration_since(earlier.0);
        u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)
    }

    fn plus_ms(self, ms: u64) -> Self {
        let later = self.0.checked_add(Duration::from_millis(ms));
        Self(later.unwrap_or(self.0))
    }

    /// Returns the time since this moment.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Returns the deadline `after` from now. Follows a paused tokio clock in tests.
pub fn deadline(after: Duration) -> Instant {
    let now = Instant::now();
    // A deadline that can't be represented becomes one day: nothing here waits longer.
    now.checked_add(after)
        .unwrap_or_else(|| now + Duration::from_secs(86_400))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::System;

    fn wall() -> UnixMs {
        System.wall()
    }

    fn starting_at(floor: UnixMs) -> StoreClock {
        StoreClock::starting_at(Arc::new(System), floor)
    }

    #[tokio::test(start_paused = true)]
    async fn ahead_of_the_wall_clock_it_goes_on_a_sixteenth_slower() {
        let floor = wall().plus_ms(86_400_000);
        let clock = starting_at(floor);
        assert_eq!(clock.now(), floor);
        for minutes in 1..=32 {
            tokio::time::advance(Duration::from_secs(60)).await;
            assert_eq!(clock.now(), floor.plus_ms(minutes * 56_250));
        }
    }

    /// A paced time at `at_ms`, read from time to time.
    struct Looks {
        paced: Paced,
        moment: Moment,
    }

    impl Looks {
        fn at(at_ms: u64) -> Self {
            let moment = Moment::now();
            let paced = Paced {
                at_ms,
                behind_ms: 0,
                moment,
            };
            Self { paced, moment }
        }

        /// Returns the paced time after `ms`, with the wall clock at `wall_ms`.
        fn after(&mut self, ms: u64, wall_ms: u64) -> u64 {
            self.moment = self.moment.plus_ms(ms);
            self.paced.look(wall_ms, self.moment).0
        }
    }

    const HOUR_MS: u64 = 3_600_000;
    const DAY_MS: u64 = 24 * HOUR_MS;

    #[test]
    fn the_paced_time_is_the_wall_clock_while_that_does_not_jump() {
        let mut looks = Looks::at(DAY_MS);
        let mut wall_ms = DAY_MS;
        // Also when the wall clock is corrected by a few parts in ten thousand and the paced time is not read for long.
        for (passed_ms, gained_ms) in [(0, 0), (1, 0), (5, 0), (HOUR_MS, 0), (DAY_MS, 0), (1, 0)] {
            wall_ms += passed_ms + gained_ms;
            assert_eq!(looks.after(passed_ms, wall_ms), wall_ms);
        }
        wall_ms += HOUR_MS + 1_000;
        assert_eq!(looks.after(HOUR_MS, wall_ms), wall_ms - 1_000);
        wall_ms += 20;
        assert_eq!(looks.after(20, wall_ms), wall_ms);
    }

    #[test]
    fn a_leap_ahead_is_followed_at_sixty_times_the_pace_and_forgotten_when_it_ends() {
        let mut looks = Looks::at(DAY_MS);
        // The paced time has not been read for a day: that makes the leap no smaller.
        assert_eq!(looks.after(DAY_MS, 2 * DAY_MS + 6 * DAY_MS), 2 * DAY_MS);
        assert_eq!(looks.after(2_000, 8 * DAY_MS + 2_000), 2 * DAY_MS + 120_000);
        // The wall clock is correct again: the paced time waits for it.
        let ahead_ms = 2 * DAY_MS + 120_000;
        assert_eq!(looks.after(1_000, 2 * DAY_MS + 3_000), ahead_ms);
        assert_eq!(looks.after(100_000, 2 * DAY_MS + 103_000), ahead_ms);
        let (at_ms, later_ms) = (2 * DAY_MS + 130_000, 27_000);
        assert_eq!(looks.after(later_ms, at_ms), at_ms);
    }

    #[test]
    fn many_looks_within_a_millisecond_lose_no_time() {
        let mut looks = Looks::at(0);
        looks.after(0, DAY_MS);
        let start = looks.moment;
        for micros in (0..1_000_000).step_by(300) {
            looks.moment = Moment(start.0 + Duration::from_micros(micros));
            looks.paced.look(DAY_MS, looks.moment);
        }
        assert_eq!(looks.paced.at_ms, 60 * 999);
    }

    #[test]
    fn a_leap_that_stays_is_made_up_for() {
        let mut looks = Looks::at(0);
        let mut wall_ms = 6 * DAY_MS;
        looks.after(0, wall_ms);
        for minute in 1..=144 {
            wall_ms += 60_000;
            assert_eq!(looks.after(60_000, wall_ms), minute * HOUR_MS);
        }
        // While it caught up six days, some more hours have passed.
        wall_ms += 600_000;
        assert_eq!(looks.after(600_000, wall_ms), wall_ms);
    }

    #[tokio::test(start_paused = true)]
    async fn the_paced_time_continues_from_the_stored_one() {
        let days_ago = UnixMs(wall().0 - 6 * DAY_MS);
        let clock = starting_at(UnixMs(1)).paced_from(days_ago);
        assert!(clock.paced().since_ms(days_ago) < 1_000);
        tokio::time::advance(Duration::from_secs(2)).await;
        let passed_ms = clock.paced().since_ms(days_ago);
        assert!((2_000..=121_000).contains(&passed_ms), "{passed_ms}");
        // A store without a known paced time is new, or from an earlier version.
        let clock = starting_at(UnixMs(1)).paced_from(UnixMs(0));
        assert!(clock.paced() >= UnixMs(days_ago.0 + 6 * DAY_MS));
    }

    #[tokio::test(start_paused = true)]
    async fn behind_the_wall_clock_it_is_the_wall_clock() {
        let clock = starting_at(UnixMs(1));
        let (before, now, after) = (wall(), clock.now(), wall());
        assert!((before..=after).contains(&now));
    }
}
