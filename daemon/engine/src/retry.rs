//! Whether and when a delivery is attempted again after a failed attempt. Time and the random draw are arguments.
//! Doesn't decide what counts as a failure (`outcome`) or what giving up means.

use std::time::{Duration, UNIX_EPOCH};

/// The schedule of retries.
#[derive(Debug, Clone)]
pub struct Retry {
    /// The delays after the first, second, … failed attempt; 1 to 20.
    pub schedule: Vec<Duration>,
    /// The largest jitter, as a share of a delay: 0 to 1.
    pub jitter: f64,
}

/// How far in the future a receiver's `Retry-After` can put the next attempt.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// The next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The time of the next attempt, in milliseconds since 1970.
    At(u64),
    /// The schedule is used up.
    GiveUp,
}

/// A scheduled attempt that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedAttempt<'a> {
    /// Its number within the round, from 1.
    pub attempt: u32,
    /// When it ended, in milliseconds since 1970. Delays count from then.
    pub ended_ms: u64,
    /// The raw value of `Retry-After`, if it counts ([`crate::outcome::Judgement::retry_after`]).
    pub retry_after: Option<&'a [u8]>,
}

/// Decides what follows a failed attempt. `draw`, in 0..1, is the share of the largest jitter to add.
#[must_use]
pub fn next(policy: &Retry, failed: FailedAttempt<'_>, draw: f64) -> Next {
    let index = usize::try_from(failed.attempt.saturating_sub(1)).unwrap_or(usize::MAX);
    let Some(delay) = policy.schedule.get(index) else {
        return Next::GiveUp;
    };
    let jitter_s = delay.as_secs_f64() * policy.jitter.clamp(0.0, 1.0) * draw.clamp(0.0, 1.0);
    let jitter = Duration::try_from_secs_f64(jitter_s).unwrap_or_default();
    let scheduled_ms = failed
        .ended_ms
        .saturating_add(millis(*delay))
        .saturating_add(millis(jitter));
    let latest_ms = failed.ended_ms.saturating_add(millis(MAX_RETRY_AFTER));
    let stated_ms = failed
        .retry_after
        .and_then(|value| retry_after_ms(value, failed.ended_ms));
    Next::At(stated_ms.map_or(scheduled_ms, |stated_ms| {
        scheduled_ms.max(stated_ms.min(latest_ms))
    }))
}

/// Returns the time that a `Retry-After` names, in milliseconds since 1970: seconds from `now_ms`, or one of the three
/// forms of an HTTP-date (RFC 9110, 10.2.3 and 5.6.7). `None` if it is neither. A number of seconds that is too large
/// is the end of time.
#[must_use]
pub fn retry_after_ms(value: &[u8], now_ms: u64) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds: u64 = text.parse().unwrap_or(u64::MAX);
        return Some(now_ms.saturating_add(seconds.saturating_mul(1_000)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    date.duration_since(UNIX_EPOCH).ok().map(millis)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE_MS: u64 = 60_000;
    const HOUR_MS: u64 = 60 * MINUTE_MS;
    const DAY_MS: u64 = 24 * HOUR_MS;
    /// 2026-01-02T03:04:05Z
    const NOW_MS: u64 = 1_767_323_045_000;

    fn policy() -> Retry {
        let schedule_ms = [
            MINUTE_MS,
            5 * MINUTE_MS,
            30 * MINUTE_MS,
            2 * HOUR_MS,
            24 * HOUR_MS,
        ];
        Retry {
            schedule: schedule_ms.map(Duration::from_millis).to_vec(),
            jitter: 0.1,
        }
    }

    fn failed(attempt: u32, ended_ms: u64) -> FailedAttempt<'static> {
        FailedAttempt {
            attempt,
            ended_ms,
            retry_after: None,
        }
    }

    /// Returns when each attempt of a delivery began, in virtual time, if every attempt takes `attempt_ms` and fails.
    fn starts(policy: &Retry, attempt_ms: u64, draw: f64) -> Vec<u64> {
        let mut now_ms = NOW_MS;
        let mut starts_ms = vec![now_ms];
        for attempt in 1.. {
            now_ms += attempt_ms;
            match next(policy, failed(attempt, now_ms), draw) {
                Next::At(at_ms) => now_ms = at_ms,
                Next::GiveUp => break,
            }
            starts_ms.push(now_ms);
        }
        starts_ms
    }

    #[test]
    fn six_attempts_are_made_over_26_hours_and_36_minutes_and_then_none() {
        let offsets: Vec<u64> = starts(&policy(), 0, 0.0)
            .iter()
            .map(|at| (at - NOW_MS) / MINUTE_MS)
            .collect();
        assert_eq!(offsets, [0, 1, 6, 36, 156, 26 * 60 + 36]);
    }

    #[test]
    fn delays_count_from_the_end_of_the_failed_attempt() {
        let attempt_ms = 15_000;
        let plain = starts(&policy(), 0, 0.0);
        let slow = starts(&policy(), attempt_ms, 0.0);
        for (attempt, (plain_ms, slow_ms)) in plain.iter().zip(&slow).enumerate() {
            assert_eq!(slow_ms - plain_ms, attempt_ms * attempt as u64);
        }
    }

    #[test]
    fn jitter_only_adds_and_at_most_its_share_of_the_delay() {
        for (index, delay) in policy().schedule.iter().enumerate() {
            let delay_ms = millis(*delay);
            let attempt = u32::try_from(index).unwrap() + 1;
            assert_eq!(
                next(&policy(), failed(attempt, NOW_MS), 0.0),
                Next::At(NOW_MS + delay_ms)
            );
            assert_eq!(
                next(&policy(), failed(attempt, NOW_MS), 0.5),
                Next::At(NOW_MS + delay_ms + delay_ms / 20)
            );
            let Next::At(latest_ms) = next(&policy(), failed(attempt, NOW_MS), 0.999_999) else {
                panic!("gave up")
            };
            assert!(latest_ms <= NOW_MS + delay_ms + delay_ms / 10);
        }
    }

    fn with_retry_after(attempt: u32, value: &str) -> Next {
        let failed = FailedAttempt {
            retry_after: Some(value.as_bytes()),
            ..failed(attempt, NOW_MS)
        };
        next(&policy(), failed, 0.0)
    }

    #[test]
    fn retry_after_puts_the_next_attempt_off_but_never_forward() {
        assert_eq!(with_retry_after(1, "3600"), Next::At(NOW_MS + HOUR_MS));
        assert_eq!(with_retry_after(1, "1"), Next::At(NOW_MS + MINUTE_MS));
        assert_eq!(
            with_retry_after(1, "Fri, 02 Jan 2026 04:04:05 GMT"),
            Next::At(NOW_MS + HOUR_MS)
        );
        assert_eq!(
            with_retry_after(1, "Fri, 02 Jan 1970 04:04:05 GMT"),
            Next::At(NOW_MS + MINUTE_MS)
        );
    }

    #[test]
    fn retry_after_is_bounded_at_a_day_and_gives_no_attempt_beyond_the_schedule() {
        for value in [
            "86401",
            "99999999999999999999999999",
            "18446744073709551615",
            "Fri, 31 Dec 9999 23:59:59 GMT",
        ] {
            assert_eq!(
                with_retry_after(1, value),
                Next::At(NOW_MS + DAY_MS),
                "{value}"
            );
        }
        assert_eq!(with_retry_after(6, "5"), Next::GiveUp);
        // The bound applies to what the receiver states, not to the schedule with its jitter.
        assert_eq!(
            next(&policy(), failed(5, NOW_MS), 0.5),
            Next::At(NOW_MS + DAY_MS + DAY_MS / 20)
        );
    }

    #[test]
    fn all_three_forms_of_an_http_date_are_read_and_nothing_else_is() {
        for value in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(
                retry_after_ms(value.as_bytes(), 0),
                Some(784_111_777_000),
                "{value}"
            );
        }
        assert_eq!(retry_after_ms(b" 120\t", 5), Some(120_005));
        for value in [
            "",
            " ",
            "-1",
            "+1",
            "1.5",
            "1e3",
            "soon",
            "0x10",
            "1 2",
            "2026-01-02T03:04:05Z",
            "\u{661}",
        ] {
            assert_eq!(retry_after_ms(value.as_bytes(), 0), None, "{value}");
        }
        assert_eq!(retry_after_ms(b"\xff", 0), None);
    }

    proptest! {
        #[test]
        fn no_input_panics_and_no_attempt_is_early(
            attempt: u32, ended_ms: u64, value: Vec<u8>, draw in 0.0..1.0,
        ) {
            let failed = FailedAttempt { attempt, ended_ms, retry_after: Some(&value) };
            if let Next::At(at_ms) = next(&policy(), failed, draw) {
                prop_assert!(at_ms >= ended_ms.saturating_add(MINUTE_MS));
            }
        }
    }
}
