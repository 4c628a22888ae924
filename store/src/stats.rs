//! Stats windows: counters that are committed with the work they count, and latency histograms that can be merged.
//!
//! A histogram is stored as its nonempty HDR buckets, so ten thousand endpoints cost only what they use.

use crate::ids::{Slot, UnixMs};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Milliseconds in a minute, the finest window.
pub const MINUTE_MS: u64 = 60_000;
/// Milliseconds in an hour.
pub const HOUR_MS: u64 = 3_600_000;
/// The longest time that a histogram distinguishes, in microseconds: 30 days.
const LONGEST_US: u64 = 30 * 24 * HOUR_MS * 1_000;
/// The slot that stands for all endpoints in windows.
pub const ALL_ENDPOINTS: Slot = Slot(u32::MAX);
/// Significant digits: a value is known to 1 %.
const DIGITS: u8 = 2;

/// The counters. Test pings are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Attempts that succeeded.
    pub success: u64,
    /// Attempts that failed.
    pub failure: u64,
    /// Deliveries abandoned.
    pub abandoned: u64,
    /// First attempts that finished.
    pub first_attempts: u64,
    /// First attempts that succeeded.
    pub first_successes: u64,
    /// Events accepted.
    pub accepted: u64,
    /// Events that had been accepted earlier under the same key.
    pub replays: u64,
    /// Events refused because their key was used for another event.
    pub conflicts: u64,
}

impl Counters {
    /// Adds the counts of `other`. Only a forged row could reach the largest number.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in [
            (&mut self.success, other.success),
            (&mut self.failure, other.failure),
            (&mut self.abandoned, other.abandoned),
            (&mut self.first_attempts, other.first_attempts),
            (&mut self.first_successes, other.first_successes),
            (&mut self.accepted, other.accepted),
            (&mut self.replays, other.replays),
            (&mut self.conflicts, other.conflicts),
        ] {
            *count = count.saturating_add(more);
        }
    }
}

/// Times in microseconds: HDR buckets by their lowest value, with their counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    buckets: BTreeMap<u64, u64>,
    total_us: u64,
    max_us: u64,
}

/// Percentiles and moments of [`Times`], in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// The longest.
    pub max: f64,
    /// The mean.
    pub avg: f64,
}

/// Returns the lowest value that an HDR histogram of two significant digits can't distinguish from `value_us`.
fn bucket_of(value_us: u64) -> u64 {
    let value = value_us.min(LONGEST_US);
    // Two digits need 256 sub-buckets, so values below 256 are exact and each doubling halves the precision.
    let magnitude = (64 - (value | 0xFF).leading_zeros()).saturating_sub(8);
    (value >> magnitude) << magnitude
}

impl Times {
    /// Counts one value.
    pub fn record(&mut self, value_us: u64) {
        let value = value_us.min(LONGEST_US);
        *self.buckets.entry(bucket_of(value)).or_insert(0) += 1;
        self.total_us = self.total_us.saturating_add(value);
        self.max_us = self.max_us.max(value);
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.buckets {
            let counted = self.buckets.entry(*bucket).or_insert(0);
            *counted = counted.saturating_add(*count);
        }
        self.total_us = self.total_us.saturating_add(other.total_us);
        self.max_us = self.max_us.max(other.max_us);
    }

    /// Returns how many values were counted.
    pub fn count(&self) -> u64 {
        self.buckets
            .values()
            .fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// Returns their sum, in microseconds.
    pub fn total_us(&self) -> u64 {
        self.total_us
    }

    /// Returns the values as an HDR histogram; `None` if there are more than it can add up, which only a forged row
    /// has.
    pub fn histogram(&self) -> Option<Histogram<u64>> {
        if self.count() == u64::MAX {
            return None;
        }
        let mut histogram = Histogram::new_with_bounds(1, LONGEST_US * 2, DIGITS).ok()?;
        for (bucket, count) in &self.buckets {
            histogram.record_n(*bucket, *count).ok()?;
        }
        Some(histogram)
    }

    /// Returns percentiles and moments; `None` if nothing was counted.
    pub fn summary(&self) -> Option<Summary> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let histogram = self.histogram()?;
        let at = |quantile: f64| as_f64(histogram.value_at_quantile(quantile).min(self.max_us));
        Some(Summary {
            p50: at(0.50),
            p90: at(0.90),
            p95: at(0.95),
            p99: at(0.99),
            max: as_f64(self.max_us),
            avg: as_f64(self.total_us) / as_f64(count),
        })
    }
}

/// The microseconds of thirty days fit in the 53 bits that a double holds exactly.
#[allow(
    clippy::cast_precision_loss,
    reason = "bounded by LONGEST_US and its sums"
)]
fn as_f64(value: u64) -> f64 {
    value as f64
}

/// Everything counted in one window for one endpoint, or for all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Counts.
    pub counters: Counters,
    /// From acceptance to success, deliveries that succeeded in their first round.
    pub latency: Times,
    /// The same for those that succeeded at their first attempt.
    pub first_attempt_latency: Times,
    /// The duration of the requests.
    pub attempt_duration: Times,
}

impl Window {
    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.counters.add(&other.counters);
        self.latency.merge(&other.latency);
        self.first_attempt_latency
            .merge(&other.first_attempt_latency);
        self.attempt_duration.merge(&other.attempt_duration);
    }
}

/// The length of a stored window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Level {
    /// One minute.
    Minute,
    /// One hour.
    Hour,
    /// Since the file was created.
    All,
}

impl Level {
    /// Every level.
    pub const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::All];

    /// Returns the start of the window of this level that contains `at`.
    pub fn start_of(self, at: UnixMs) -> UnixMs {
        match self {
            Self::Minute => UnixMs(at.0 - at.0 % MINUTE_MS),
            Self::Hour => UnixMs(at.0 - at.0 % HOUR_MS),
            Self::All => UnixMs(0),
        }
    }

    /// Returns its byte in keys.
    pub fn byte(self) -> u8 {
        match self {
            Self::Minute => 0,
            Self::Hour => 1,
            Self::All => 2,
        }
    }
}

/// The span of time of a stats query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// The minutes that hold the last five.
    FiveMinutes,
    /// The minutes that hold the last hour.
    Hour,
    /// The hours that hold the last day.
    Day,
    /// Since the file was created.
    All,
}

impl Span {
    /// Parses `5m`, `1h`, `24h` or `all`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "5m" => Some(Self::FiveMinutes),
            "1h" => Some(Self::Hour),
            "24h" => Some(Self::Day),
            "all" => Some(Self::All),
            _ => None,
        }
    }

    /// Returns the name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FiveMinutes => "5m",
            Self::Hour => "1h",
            Self::Day => "24h",
            Self::All => "all",
        }
    }

    /// Returns the level of the windows for it, and their first and last start.
    pub fn windows(self, now: UnixMs) -> (Level, UnixMs, UnixMs) {
        let of = |level: Level, ms: u64| {
            let first = level.start_of(UnixMs(now.0.saturating_sub(ms)));
            (level, first, level.start_of(now))
        };
        match self {
            Self::FiveMinutes => of(Level::Minute, 5 * MINUTE_MS),
            Self::Hour => of(Level::Minute, HOUR_MS),
            Self::Day => of(Level::Hour, 24 * HOUR_MS),
            Self::All => (Level::All, UnixMs(0), UnixMs(0)),
        }
    }
}

/// Returns the levels that are not kept for ever, and before which start their windows can be dropped: minutes are kept
/// for two hours and hours for two days, and no query needs more.
#[must_use]
pub fn kept_windows(now: UnixMs) -> [(Level, UnixMs); 2] {
    let ago = |ms| UnixMs(now.0.saturating_sub(ms));
    [
        (Level::Minute, ago(120 * MINUTE_MS)),
        (Level::Hour, ago(48 * HOUR_MS)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn counts_beyond_all_counting_neither_wrap_nor_panic() {
        let mut times = Times {
            buckets: [(5, u64::MAX - 1), (6, 1)].into(),
            total_us: u64::MAX,
            max_us: 6,
        };
        times.merge(&times.clone());
        assert_eq!(times.count(), u64::MAX);
        assert_eq!(times.summary(), None);
        let mut counters = Counters {
            accepted: u64::MAX,
            ..Counters::default()
        };
        let more = counters;
        counters.add(&more);
        assert_eq!(counters.accepted, u64::MAX);
    }

    proptest! {
        #[test]
        fn buckets_are_those_of_the_hdr_histogram(value in 1u64..LONGEST_US) {
            let histogram: Histogram<u64> = Histogram::new_with_bounds(1, LONGEST_US * 2, DIGITS).unwrap();
            prop_assert_eq!(bucket_of(value), histogram.lowest_equivalent(value));
        }
    }

    #[test]
    fn merged_times_are_the_times_of_both() {
        let (mut a, mut b, mut both) = (Times::default(), Times::default(), Times::default());
        for value in 0..1_000 {
            if value % 3 == 0 {
                a.record(value * 17);
            } else {
                b.record(value * 17);
            }
            both.record(value * 17);
        }
        a.merge(&b);
        assert_eq!(a, both);
        let summary = a.summary().unwrap();
        assert!((summary.p50 - 8_500.0).abs() < 170.0, "{summary:?}");
        assert!((summary.max - 16_983.0).abs() < f64::EPSILON);
    }

    #[test]
    fn nothing_has_no_percentiles() {
        assert_eq!(Times::default().summary(), None);
    }
}
