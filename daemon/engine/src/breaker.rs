//! When a failed attempt disables its endpoint. Keeps no state and sees no run of failures: it returns the condition,
//! and the commit that records the attempt knows the run.

use crate::outcome::Effect;
use std::fmt;
use std::time::Duration;
use stormhook_store::DisableWhen;

/// How many failures a run must have, however long it lasted.
pub const MIN_FAILURES: u32 = 6;

/// Why the daemon disabled an endpoint: the text of `disabledReason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisableReason {
    /// The receiver answered 410.
    Gone,
    /// Too many failures for too long, without one success.
    Failing,
}

impl DisableReason {
    /// Returns the public name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Failing => "failing",
        }
    }
}

impl fmt::Display for DisableReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Returns why a failed attempt disables its endpoint, and when.
#[must_use]
pub fn judge(effect: Effect, disable_after: Duration) -> (DisableReason, DisableWhen) {
    if effect == Effect::Gone {
        return (DisableReason::Gone, DisableWhen::Now);
    }
    let when = DisableWhen::RunOf {
        failures: MIN_FAILURES,
        lasting_ms: u64::try_from(disable_after.as_millis()).unwrap_or(u64::MAX),
    };
    (DisableReason::Failing, when)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stormhook_store::UnixMs;
    use stormhook_store::endpoint::EndpointState;

    const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
    const NOW_MS: u64 = 1_767_323_045_000;

    /// Whether an endpoint is disabled with its `failure_count`th failure in a row, the first of which was at
    /// `since_ms`.
    fn judged(
        since_ms: u64,
        failure_count: u32,
        effect: Effect,
        disable_after: Duration,
    ) -> Option<DisableReason> {
        let state = EndpointState {
            failure_count,
            failing_since: Some(UnixMs(since_ms)),
            ..EndpointState::default()
        };
        let (reason, when) = judge(effect, disable_after);
        when.holds(&state, UnixMs(NOW_MS)).then_some(reason)
    }

    const FIVE_DAYS: Duration = Duration::from_millis(5 * DAY_MS);

    #[test]
    fn a_410_switches_off_at_once() {
        for since_ms in [NOW_MS, NOW_MS - 9 * DAY_MS] {
            let judged = judged(since_ms, 1, Effect::Gone, FIVE_DAYS);
            assert_eq!(judged, Some(DisableReason::Gone));
        }
    }

    #[test]
    fn a_run_must_be_both_long_enough_and_full_enough() {
        let five_days_ago = NOW_MS - 5 * DAY_MS;
        let failing = Some(DisableReason::Failing);
        let judged = |since_ms, failures| judged(since_ms, failures, Effect::Failed, FIVE_DAYS);
        assert_eq!(judged(five_days_ago, 6), failing);
        assert_eq!(judged(five_days_ago, 5), None);
        assert_eq!(judged(five_days_ago + 1, 1_000), None);
        assert_eq!(judged(NOW_MS, 1), None);
    }

    #[test]
    fn a_clock_that_went_back_switches_nothing_off() {
        let since_ms = NOW_MS + 30 * DAY_MS;
        assert_eq!(judged(since_ms, 1_000, Effect::Failed, FIVE_DAYS), None);
    }

    #[test]
    fn a_limit_of_nothing_leaves_the_number_of_failures_to_decide() {
        assert_eq!(judged(NOW_MS, 5, Effect::Failed, Duration::ZERO), None);
        let sixth = judged(NOW_MS, 6, Effect::Failed, Duration::ZERO);
        assert_eq!(sixth, Some(DisableReason::Failing));
    }

    #[test]
    fn reasons_have_their_public_names() {
        assert_eq!(
            [DisableReason::Gone, DisableReason::Failing].map(|reason| reason.to_string()),
            ["gone", "failing"]
        );
    }
}
