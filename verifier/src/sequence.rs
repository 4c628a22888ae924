//! Detects gaps in an endpoint's deliveries, by the sequence number in the body alone. It doesn't detect repeats: use
//! `webhook-id` for that, since numbers may be assigned again after a backup is restored.

use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

/// The maximum number of ranges that a tracker keeps.
pub const RANGES_MAX: usize = 64;

/// What a sequence number means, given the earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a gap means that some deliveries are still waiting or have ended undelivered"]
pub enum Observed {
    /// The number after the highest so far.
    Next,
    /// Not above the highest so far: late, or a repeat. `webhook-id` shows which.
    Earlier,
    /// Above the next number: these are missing, so far or for good.
    Gap {
        /// The first missing number.
        from: u64,
        /// The last missing number.
        to: u64,
    },
}

/// Keeps which of an endpoint's sequence numbers have arrived, as a few ranges that the receiver stores where it likes.
///
/// At most [`RANGES_MAX`] ranges are kept. If one more is needed, the lowest gap is forgotten: its numbers count as
/// seen and are no longer in [`missing`](SequenceTracker::missing).
///
/// ```
/// use stormhook_verifier::{Observed, SequenceTracker};
///
/// let mut tracker = SequenceTracker::new();
/// assert_eq!(tracker.observe(1), Observed::Next);
/// assert_eq!(tracker.observe(4), Observed::Gap { from: 2, to: 3 });
/// assert_eq!(tracker.observe(2), Observed::Earlier);
/// assert_eq!(tracker.missing().collect::<Vec<_>>(), [(3, 3)]);
///
/// let stored = tracker.to_string();
/// assert_eq!(stored, "1-2,4-4");
/// let mut again: SequenceTracker = stored.parse()?;
/// assert_eq!(again.observe(5), Observed::Next);
/// # Ok::<(), stormhook_verifier::RangesError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SequenceTracker {
    /// First and last number of each range: ascending, with a gap between any two.
    ranges: Vec<(u64, u64)>,
}

/// Why ranges are not a tracker's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RangesError {
    /// A range that begins at 0 or ends before it begins.
    #[error(
        "a range must begin at 1 or above and not end before it begins, found {from}-{to}; restore the stored state"
    )]
    NotARange {
        /// The first number.
        from: u64,
        /// The last number.
        to: u64,
    },
    /// A range that begins at or below the end of the previous one.
    #[error(
        "ranges must ascend without overlap, found {from} after {after}; restore the stored state"
    )]
    NotAscending {
        /// The end of the previous range.
        after: u64,
        /// The start found.
        from: u64,
    },
    /// More than [`RANGES_MAX`].
    #[error("at most 64 ranges are allowed; restore the stored state")]
    TooMany,
    /// A text that is not `1-40,42-50`.
    #[error(
        "expected ranges like `1-40,42-50`, found something else at range {at}; restore the stored state"
    )]
    NotNumbers {
        /// The number of the range, from 1.
        at: usize,
    },
}

impl SequenceTracker {
    /// Starts before the first delivery: the next number is 1.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts in the middle: the next number is `next`, and the earlier ones count as seen.
    #[must_use]
    pub fn starting_at(next: u64) -> Self {
        let seen = next.saturating_sub(1);
        let ranges = (seen > 0).then_some((1, seen)).into_iter().collect();
        Self { ranges }
    }

    /// Records a verified delivery's number and returns how it relates to the earlier ones.
    pub fn observe(&mut self, sequence: u64) -> Observed {
        let highest = self.highest();
        if sequence <= highest {
            self.fill(sequence);
            return Observed::Earlier;
        }
        let next = highest.saturating_add(1);
        match self.ranges.last_mut() {
            Some((_, to)) if sequence == next => *to = sequence,
            _ => self.ranges.push((sequence, sequence)),
        }
        self.forget_lowest_gap();
        if sequence == next {
            Observed::Next
        } else {
            Observed::Gap {
                from: next,
                to: sequence - 1,
            }
        }
    }

    /// Returns the highest number so far, 0 before the first.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.ranges.last().map_or(0, |(_, to)| *to)
    }

    /// Returns the gaps below the highest number, lowest first.
    pub fn missing(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let ends = core::iter::once(0).chain(self.ranges.iter().map(|(_, to)| *to));
        ends.zip(&self.ranges)
            .filter(|(end, (from, _))| end + 1 < *from)
            .map(|(end, (from, _))| (end + 1, from - 1))
    }

    /// Returns the state for storage: first and last number of each range, ascending.
    #[must_use]
    pub fn ranges(&self) -> &[(u64, u64)] {
        &self.ranges
    }

    /// Restores a stored state. Adjacent ranges are joined.
    ///
    /// # Errors
    /// [`RangesError`] if no tracker could have produced them.
    pub fn from_ranges(ranges: impl IntoIterator<Item = (u64, u64)>) -> Result<Self, RangesError> {
        let mut tracker = Self::new();
        for (count, (from, to)) in ranges.into_iter().enumerate() {
            if count >= RANGES_MAX {
                return Err(RangesError::TooMany);
            }
            if from == 0 || to < from {
                return Err(RangesError::NotARange { from, to });
            }
            match tracker.ranges.last_mut() {
                Some((_, after)) if from <= *after => {
                    let after = *after;
                    return Err(RangesError::NotAscending { after, from });
                }
                Some((_, after)) if from - 1 == *after => *after = to,
                _ => tracker.ranges.push((from, to)),
            }
        }
        Ok(tracker)
    }

    /// Inserts a number at or below the highest, and joins ranges that become adjacent.
    fn fill(&mut self, sequence: u64) {
        if sequence == 0 {
            return;
        }
        let at = self.ranges.partition_point(|(_, to)| *to < sequence);
        let below = at
            .checked_sub(1)
            .and_then(|at| self.ranges.get(at))
            .copied();
        let Some(above) = self.ranges.get(at).copied() else {
            return;
        };
        if above.0 <= sequence {
            return;
        }
        let below = below.filter(|(_, to)| to + 1 == sequence);
        let touches_above = above.0 - 1 == sequence;
        let joined = (
            below.map_or(sequence, |(from, _)| from),
            if touches_above { above.1 } else { sequence },
        );
        let start = at - usize::from(below.is_some());
        let end = at + usize::from(touches_above);
        self.ranges.splice(start..end, [joined]);
        self.forget_lowest_gap();
    }

    /// Enforces the bound. One observation adds at most one range.
    fn forget_lowest_gap(&mut self) {
        if self.ranges.len() <= RANGES_MAX {
            return;
        }
        let lowest = self.ranges.remove(0);
        if let Some((from, _)) = self.ranges.first_mut() {
            *from = lowest.0;
        }
    }
}

impl fmt::Display for SequenceTracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, (from, to)) in self.ranges.iter().enumerate() {
            let separator = if count == 0 { "" } else { "," };
            write!(f, "{separator}{from}-{to}")?;
        }
        Ok(())
    }
}

impl FromStr for SequenceTracker {
    type Err = RangesError;

    fn from_str(text: &str) -> Result<Self, RangesError> {
        if text.is_empty() {
            return Ok(Self::new());
        }
        let mut ranges = Vec::new();
        for (count, range) in text.split(',').enumerate() {
            if count >= RANGES_MAX {
                return Err(RangesError::TooMany);
            }
            let numbers = range
                .split_once('-')
                .and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
            ranges.push(numbers.ok_or(RangesError::NotNumbers { at: count + 1 })?);
        }
        Self::from_ranges(ranges)
    }
}
