//! Whether an endpoint's deliveries came without a gap. Decides by the sequence number alone, which the body carries; never whether
//! a delivery is a repeat: that is told by `webhook-id`, since numbers may be given again after a restored backup.

use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

/// Most ranges that a tracker keeps.
pub const RANGES_MAX: usize = 64;

/// What a sequence number says, given those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a gap is news: some deliveries are still waiting or were given up"]
pub enum Observed {
    /// The number after the highest so far.
    Next,
    /// Not above the highest so far: late, or a repeat. `webhook-id` tells which.
    Earlier,
    /// Above the next number: these did not come, yet or at all.
    Gap {
        /// First number that did not come.
        from: u64,
        /// Last number that did not come.
        to: u64,
    },
}

/// Keeps which of an endpoint's sequence numbers came, as a few ranges that the receiver stores where it likes.
///
/// At most [`RANGES_MAX`] ranges are kept. Where one more would be needed, the lowest gap is forgotten: its numbers count as seen and
/// no longer show in [`missing`](SequenceTracker::missing).
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
    /// First and last number of each range: ascending, and with a gap between any two.
    ranges: Vec<(u64, u64)>,
}

/// Why ranges are no tracker's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RangesError {
    /// A range that begins at 0 or ends before it begins.
    #[error(
        "a range must begin at 1 or above and not end before it begins, found {from}-{to}; restore the state that was stored"
    )]
    NotARange {
        /// As given.
        from: u64,
        /// As given.
        to: u64,
    },
    /// A range that begins at or below the end of the one before.
    #[error(
        "ranges must ascend without overlap, found {from} after {after}; restore the state that was stored"
    )]
    NotAscending {
        /// The end of the range before.
        after: u64,
        /// The beginning found.
        from: u64,
    },
    /// Over [`RANGES_MAX`].
    #[error("at most 64 ranges are kept, more were given; restore the state that was stored")]
    TooMany,
    /// A text that is not `1-40,42-50`.
    #[error(
        "expected ranges like `1-40,42-50`, found something else at range {at}; restore the state that was stored"
    )]
    NotNumbers {
        /// Which range, counted from 1.
        at: usize,
    },
}

impl SequenceTracker {
    /// Begins before the first delivery: the next number is 1.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins in the middle: the next number is `next`, and those before it are taken as seen.
    #[must_use]
    pub fn starting_at(next: u64) -> Self {
        let seen = next.saturating_sub(1);
        let ranges = (seen > 0).then_some((1, seen)).into_iter().collect();
        Self { ranges }
    }

    /// Takes note of a verified delivery's number and says how it stands to those before it.
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

    /// The highest number so far, 0 before the first.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.ranges.last().map_or(0, |(_, to)| *to)
    }

    /// The gaps below the highest number, lowest first.
    pub fn missing(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let ends = core::iter::once(0).chain(self.ranges.iter().map(|(_, to)| *to));
        ends.zip(&self.ranges)
            .filter(|(end, (from, _))| end + 1 < *from)
            .map(|(end, (from, _))| (end + 1, from - 1))
    }

    /// The state, to be stored: first and last number of each range, ascending.
    #[must_use]
    pub fn ranges(&self) -> &[(u64, u64)] {
        &self.ranges
    }

    /// Takes a stored state. Ranges that touch are joined.
    ///
    /// # Errors
    /// [`RangesError`] where no tracker could have made them.
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

    /// Puts a number at or below the highest where it belongs, joining what then touches.
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

    /// Keeps the bound. One observation makes at most one range more.
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
