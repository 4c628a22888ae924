//! How old a delivery may be: decides by two seconds that it is given, and reads no clock.

use crate::error::VerifyError;

/// How far a delivery's timestamp may lie from now, in either direction. Five minutes unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tolerance {
    /// So many seconds; exactly so many still pass, and 0 means 0.
    Seconds(u64),
    /// Any age. An old delivery can then be sent again by whoever saw it: drop repeats of the id yourself.
    Unchecked,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self::Seconds(300)
    }
}

impl Tolerance {
    /// Whether a timestamp lies near enough to now.
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
