//! How long history is kept, and the horizon of retention at a given time.

use std::time::Duration;
use stormhook_store::{Horizon, UnixMs};

/// How long history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The data of settled events.
    pub events: Duration,
    /// The attempts of ended deliveries.
    pub attempts: Duration,
    /// Entries of the audit log, and API keys after their end.
    pub audit: Duration,
}

impl Retention {
    /// Returns the horizon of retention at `now`, a paced time.
    #[must_use]
    pub fn horizon(self, now: UnixMs) -> Horizon {
        let before = |keep: Duration| {
            let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
            UnixMs(now.0.saturating_sub(keep_ms))
        };
        Horizon {
            events_before: before(self.events),
            attempts_before: before(self.attempts),
            audit_before: before(self.audit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_horizon_is_as_far_back_as_history_is_kept_and_never_before_all_time() {
        let retention = Retention {
            events: Duration::from_millis(10),
            attempts: Duration::from_secs(1),
            audit: Duration::from_millis(200),
        };
        let horizon = retention.horizon(UnixMs(500));
        assert_eq!(horizon.events_before, UnixMs(490));
        assert_eq!(horizon.attempts_before, UnixMs(0));
        assert_eq!(horizon.audit_before, UnixMs(300));
    }
}
