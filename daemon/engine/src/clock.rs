//! What time it is: this module asks the monotonic clock, and `environment` the wall clock (docs/adr/0004-time.md). Everything else
//! takes `now` as an argument.
//!
//! Wall-clock time is for what must survive a restart or be told to others; waiting is done on the monotonic clock.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the module that the rule names"
)]

use crate::environment::Environment;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use stormhook_store::{Now, UnixMs};
use tokio::time::Instant;

/// The store's two clocks.
///
/// The store's time is the wall clock, but never back. Where the wall clock goes back, the store's goes on by the monotonic clock
/// until the two have met again, so that what waits goes on waiting as long as it should.
///
/// The paced time is the wall clock, but neither back nor ahead by leaps. What expires goes by it.
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

/// What the store's clock said when it was set last.
#[derive(Debug)]
struct Last {
    at_ms: u64,
    moment: Moment,
}

/// By how much the store's clock is slower while it is ahead of the wall clock: by one in so many. They meet again, and nothing is
/// early.
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

/// The paced time, and when it was looked at last.
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
    /// It goes as the monotonic clock does, and makes up for what it was behind when it was looked at last: how long nobody looked
    /// says nothing of a leap that is found now. Ahead of the wall clock it stands still.
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
    /// A clock that starts no earlier than `floor`. Its paced time starts at the wall clock.
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

    /// The same with a paced time that goes on from what the store knows of it, if anything: how long nothing ran is a leap like any
    /// other.
    #[must_use]
    pub fn paced_from(self, known: UnixMs) -> Self {
        if known != UnixMs(0) {
            self.clocks().paced.at_ms = known.0;
        }
        self
    }

    /// What it asks.
    pub fn environment(&self) -> &dyn Environment {
        &*self.environment
    }

    fn clocks(&self) -> MutexGuard<'_, Clocks> {
        self.clocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What time it is in the store.
    pub fn now(&self) -> UnixMs {
        self.both().at
    }

    /// The paced time.
    pub fn paced(&self) -> UnixMs {
        self.both().paced
    }

    /// Both.
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
    /// Now.
    pub fn now() -> Self {
        Self(Instant::now())
    }

    /// How many milliseconds it lies after `earlier`; 0 where it lies before.
    fn since_ms(self, earlier: Self) -> u64 {
        let passed = self.0.saturating_duration_since(earlier.0);
        u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)
    }

    fn plus_ms(self, ms: u64) -> Self {
        let later = self.0.checked_add(Duration::from_millis(ms));
        Self(later.unwrap_or(self.0))
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

    /// A paced time that is at `at_ms` and, now and then, looked at.
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

        /// What it says after `ms`, with the wall clock at `wall_ms`.
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
        // Also where the wall clock is set right by a few parts in ten thousand, and nobody looks for long.
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
        // Nobody has looked for a day: that makes the leap no smaller.
        assert_eq!(looks.after(DAY_MS, 2 * DAY_MS + 6 * DAY_MS), 2 * DAY_MS);
        assert_eq!(looks.after(2_000, 8 * DAY_MS + 2_000), 2 * DAY_MS + 120_000);
        // The wall clock is right again: the paced time waits for it.
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
        // While it made up for six days, some hours more have passed.
        wall_ms += 600_000;
        assert_eq!(looks.after(600_000, wall_ms), wall_ms);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_store_knows_of_the_paced_time_is_where_it_goes_on() {
        let days_ago = UnixMs(wall().0 - 6 * DAY_MS);
        let clock = starting_at(UnixMs(1)).paced_from(days_ago);
        assert!(clock.paced().since_ms(days_ago) < 1_000);
        tokio::time::advance(Duration::from_secs(2)).await;
        let passed_ms = clock.paced().since_ms(days_ago);
        assert!((2_000..=121_000).contains(&passed_ms), "{passed_ms}");
        // A store that knows of none is a new one, or of an earlier program.
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
