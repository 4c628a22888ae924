//! Whether an endpoint is switched off after a failed attempt. It keeps no state: the run of failures is told to it.

use std::fmt;
use std::time::Duration;

/// How many failures a run must hold, however long it lasted.
pub const MIN_FAILURES: u64 = 6;

/// Why an endpoint was switched off by the daemon: the text of `disabledReason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisableReason {
    /// The partner answered 410.
    Gone,
    /// Too many failures for too long without one success.
    Failing,
}

impl DisableReason {
    /// The public name.
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

/// An endpoint's run of failures, the attempt that just failed included. Interrupted attempts and test pings are in no run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// When the first failure of the run was recorded, in milliseconds since 1970; none if this one is the first.
    pub failing_since_ms: Option<u64>,
    /// How many attempts in a row have failed.
    pub failure_count: u64,
    /// The status of the attempt that just failed, if one came.
    pub status: Option<u16>,
}

/// Whether the endpoint is switched off now, and why.
#[must_use]
pub fn judge(run: Run, disable_after: Duration, now_ms: u64) -> Option<DisableReason> {
    if run.status == Some(410) {
        return Some(DisableReason::Gone);
    }
    // A clock that was set back makes the run look younger, never older.
    let lasted_ms = now_ms.saturating_sub(run.failing_since_ms.unwrap_or(now_ms));
    let long = u128::from(lasted_ms) >= disable_after.as_millis();
    (long && run.failure_count >= MIN_FAILURES).then_some(DisableReason::Failing)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
    const NOW_MS: u64 = 1_767_323_045_000;

    fn judged(
        since_ms: Option<u64>,
        failure_count: u64,
        status: Option<u16>,
    ) -> Option<DisableReason> {
        let run = Run {
            failing_since_ms: since_ms,
            failure_count,
            status,
        };
        judge(run, Duration::from_millis(5 * DAY_MS), NOW_MS)
    }

    #[test]
    fn a_410_switches_off_at_once() {
        assert_eq!(judged(None, 1, Some(410)), Some(DisableReason::Gone));
        assert_eq!(
            judged(Some(NOW_MS - 9 * DAY_MS), 99, Some(410)),
            Some(DisableReason::Gone)
        );
    }

    #[test]
    fn a_run_must_be_both_long_enough_and_full_enough() {
        let five_days_ago = Some(NOW_MS - 5 * DAY_MS);
        let a_moment_less = Some(NOW_MS - 5 * DAY_MS + 1);
        for status in [None, Some(500), Some(404)] {
            assert_eq!(
                judged(five_days_ago, 6, status),
                Some(DisableReason::Failing)
            );
            assert_eq!(judged(five_days_ago, 5, status), None);
            assert_eq!(judged(a_moment_less, 1_000, status), None);
            assert_eq!(judged(None, 1, status), None);
        }
    }

    #[test]
    fn a_clock_that_went_back_switches_nothing_off() {
        assert_eq!(judged(Some(NOW_MS + 30 * DAY_MS), 1_000, None), None);
    }

    #[test]
    fn a_limit_of_nothing_leaves_the_number_of_failures_to_decide() {
        let run = |failure_count| Run {
            failing_since_ms: None,
            failure_count,
            status: None,
        };
        assert_eq!(judge(run(5), Duration::ZERO, NOW_MS), None);
        assert_eq!(
            judge(run(6), Duration::ZERO, NOW_MS),
            Some(DisableReason::Failing)
        );
    }

    #[test]
    fn reasons_have_their_public_names() {
        assert_eq!(
            [DisableReason::Gone, DisableReason::Failing].map(|reason| reason.to_string()),
            ["gone", "failing"]
        );
    }
}
