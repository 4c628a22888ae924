//! A rate limit as a token bucket with a burst of one second. Time is the caller's. When it goes back, the bucket gains
//! and loses nothing.

use stormhook_store::UnixMs;

/// How much of a token rounding may take: times are whole milliseconds.
const ROUNDING: f64 = 1e-6;

/// Tokens, counted at a point in time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    per_second: f64,
    tokens: f64,
    at: UnixMs,
}

impl Bucket {
    /// Returns a full bucket.
    pub(super) fn new(per_second: f64, now: UnixMs) -> Self {
        let tokens = burst(per_second);
        Self {
            per_second,
            tokens,
            at: now,
        }
    }

    /// Returns the same bucket with another limit: a change of settings grants no new burst.
    pub(super) fn at_rate(self, per_second: f64, now: UnixMs) -> Self {
        Self {
            per_second,
            tokens: self.tokens(now).min(burst(per_second)),
            at: now,
        }
    }

    /// Takes all tokens: another process may have used them.
    pub(super) fn empty(&mut self, now: UnixMs) {
        self.tokens = 0.0;
        self.at = now;
    }

    fn tokens(&self, now: UnixMs) -> f64 {
        let elapsed_s = seconds(now.since_ms(self.at));
        (self.tokens + elapsed_s * self.per_second).min(burst(self.per_second))
    }

    /// `None` if a token is available, else when the next one will be.
    pub(super) fn ready_at(&mut self, now: UnixMs) -> Option<UnixMs> {
        if now < self.at {
            // Otherwise no token would be added until the clock is back where it was.
            self.at = now;
        }
        let missing = 1.0 - ROUNDING - self.tokens(now);
        if missing <= 0.0 {
            return None;
        }
        Some(now.plus_ms(whole_ms(missing / self.per_second).max(1)))
    }

    /// Takes a token that [`Bucket::ready_at`] reported as available.
    pub(super) fn take(&mut self, now: UnixMs) {
        self.tokens = (self.tokens(now) - 1.0).max(0.0);
        self.at = now;
    }
}

/// One second's worth, but at least the one token that an attempt takes.
fn burst(per_second: f64) -> f64 {
    per_second.max(1.0)
}

#[allow(
    clippy::cast_precision_loss,
    reason = "beyond 2^53 ms the bucket is full long before"
)]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, as intended"
)]
fn whole_ms(seconds: f64) -> u64 {
    (seconds * 1_000.0).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_stretch_of_time_sees_more_than_its_rate_and_one_burst(
            per_second in 0.01f64..500.0, waits in prop::collection::vec(0u64..3_000, 1..200),
        ) {
            let mut bucket = Bucket::new(per_second, UnixMs(0));
            let (mut now, mut taken) = (UnixMs(0), 0.0);
            for wait in waits {
                now = now.plus_ms(wait);
                while bucket.ready_at(now).is_none() {
                    bucket.take(now);
                    taken += 1.0;
                }
                prop_assert!(taken <= burst(per_second) + seconds(now.0) * per_second + 0.01);
                prop_assert!(taken + 1.01 >= burst(per_second).min(1.0));
            }
        }

        #[test]
        fn at_the_time_it_names_there_is_a_token(per_second in 0.001f64..2_000.0) {
            let mut bucket = Bucket::new(per_second, UnixMs(7));
            let mut now = UnixMs(7);
            for _ in 0..3_000 {
                if let Some(at) = bucket.ready_at(now) {
                    prop_assert!(at > now);
                    now = at;
                }
                prop_assert_eq!(bucket.ready_at(now), None);
                bucket.take(now);
            }
        }
    }

    #[test]
    fn a_clock_that_goes_back_gives_no_tokens_and_recovers() {
        let mut bucket = Bucket::new(1.0, UnixMs(10_000));
        bucket.take(UnixMs(10_000));
        assert_eq!(bucket.ready_at(UnixMs(5_000)), Some(UnixMs(6_000)));
        assert_eq!(bucket.ready_at(UnixMs(6_000)), None);
    }
}
