//! The database's clock, as this daemon knows it. Daemons whose own clocks differ count by it, so they agree about what
//! is due.

use super::seat::now;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;
use stormhook_store::UnixMs;
use tokio::time::Instant;

/// An answer that took longer says too little about the moment at which the database looked at its clock.
const CLOSE: Duration = Duration::from_millis(250);

/// See the module.
#[derive(Debug)]
pub(crate) struct Clock(RwLock<(UnixMs, Instant)>);

impl Clock {
    /// Returns a clock by the database's answer to a question that was sent at this moment.
    pub(crate) fn new(at: UnixMs, sent: Instant) -> Self {
        Self(RwLock::new((at, between(sent).0)))
    }

    /// The database has answered a question that was sent at this moment.
    pub(crate) fn saw(&self, at: UnixMs, sent: Instant) {
        let (moment, took) = between(sent);
        if took <= CLOSE {
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = (at, moment);
        }
    }

    /// Returns the time. Between answers, and while there are none, it goes as the monotonic clock does.
    pub(crate) fn now(&self) -> UnixMs {
        let (at, moment) = *self.0.read().unwrap_or_else(PoisonError::into_inner);
        let passed = now().saturating_duration_since(moment).as_millis();
        at.plus_ms(u64::try_from(passed).unwrap_or(u64::MAX))
    }
}

/// Returns the middle of the time since a moment, and its length.
fn between(sent: Instant) -> (Instant, Duration) {
    let took = now().saturating_duration_since(sent);
    (sent + took / 2, took)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_from_the_middle_of_an_answer_and_ignores_slow_ones() {
        let pass = |ms| tokio::time::advance(Duration::from_millis(ms));
        let sent = now();
        pass(100).await;
        let clock = Clock::new(UnixMs(1_000_000), sent);
        assert_eq!(clock.now(), UnixMs(1_000_050));
        pass(1_000).await;
        assert_eq!(clock.now(), UnixMs(1_001_050));
        let sent = now();
        pass(300).await;
        clock.saw(UnixMs(9_000_000), sent);
        assert_eq!(clock.now(), UnixMs(1_001_350));
        let sent = now();
        pass(200).await;
        clock.saw(UnixMs(2_000_000), sent);
        assert_eq!(clock.now(), UnixMs(2_000_100));
    }
}
