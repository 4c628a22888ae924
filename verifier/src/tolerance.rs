//! How old a delivery may be. Compares two times in seconds and reads no clock.

use crate::error::VerifyError;

/// How far a delivery's timestamp may differ from now, in either direction. Five minutes by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tolerance {
    /// This many seconds, inclusive; 0 allows no difference.
    Seconds(u64),
    /// Any age. Whoever saw an old delivery can send it again: detect repeats of the id yourself.
    Unchecked,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self::Seconds(300)
    }
}

impl Tolerance {
    /// Checks that a timestamp is close enough to now.
    pub(crate) fn check(self, timestamp_s: u64, now_s: u64) -> Result<(), VerifyError> {
        let Self::Seconds(tolerance_s) = self else {
            return Ok(());
        };
        let age_s = now_s.saturating_sub(timestamp_s);
        let ahead_s = timestamp_s.saturating_sub(now_s);
        if age_s > tolerance_s {
            return Err(VerifyError::TimestampTooOld { age_s, tolerance_s });
        }
        if ahead_s > tolerance_s {
            return Err(VerifyError::TimestampTooNew {
                ahead_s,
                tolerance_s,
            });
        }
        Ok(())
    }
}
