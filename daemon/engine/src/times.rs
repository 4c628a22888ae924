//! Times and durations as text: writes RFC 3339 in UTC with milliseconds, reads RFC 3339 with any offset.

use serde::Serializer;
use std::time::Duration;
use stormhook_store::times::NAMED_MS;
use stormhook_store::{Timestamp, UnixMs};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub use stormhook_store::times::rfc3339;

/// Returns the date of a time, in UTC.
pub fn day(at: UnixMs) -> String {
    let mut text = rfc3339(at);
    text.truncate("2026-01-02".len());
    text
}

/// Parses RFC 3339 with any offset, from the year 0 to 9999 in UTC, and truncates it to milliseconds.
pub fn parse_timestamp(text: &str) -> Option<Timestamp> {
    // Longer than any sensible fraction of a second; the parser would read all of it.
    if text.len() > 64 {
        return None;
    }
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let ms = i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000)).ok()?;
    NAMED_MS.contains(&ms).then_some(Timestamp(ms))
}

/// The same for a time to compare with the store's: a time before 1970 becomes its start.
pub fn parse_rfc3339(text: &str) -> Option<UnixMs> {
    parse_timestamp(text).map(|at| UnixMs(u64::try_from(at.0).unwrap_or(0)))
}

/// The units of a duration, in milliseconds.
pub const UNITS_MS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Parses an integer and `ms`, `s`, `m`, `h` or `d`: the only syntax of durations in the configuration, the API and the
/// command line.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, unit_ms) = UNITS_MS.into_iter().find(|(name, _)| *name == unit)?;
    let ms = number.parse::<u64>().ok()?.checked_mul(unit_ms)?;
    Some(Duration::from_millis(ms))
}

/// Returns the shortest exact spelling. Days are used only from two on, as people write "24h" and "5d".
pub fn duration_text(duration: Duration) -> String {
    let total_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let fits = |(name, unit_ms): &(&str, u64)| {
        let least = if *name == "d" { 2 } else { 1 };
        total_ms % unit_ms == 0 && total_ms / unit_ms >= least
    };
    match UNITS_MS.iter().rev().find(|unit| fits(unit)) {
        Some((name, unit_ms)) => format!("{}{name}", total_ms / unit_ms),
        None => "0s".to_owned(),
    }
}

/// For `serialize_with`.
#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
pub fn at<T: Copy + Into<Timestamp>, S: Serializer>(
    time: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*time))
}

/// For `serialize_with`.
#[allow(
    clippy::ref_option,
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
pub fn maybe_at<S: Serializer>(time: &Option<UnixMs>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => at(time, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_in_utc_with_milliseconds() {
        assert_eq!(rfc3339(UnixMs(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(
            rfc3339(UnixMs(1_767_323_045_678)),
            "2026-01-02T03:04:05.678Z"
        );
        assert_eq!(rfc3339(UnixMs(u64::MAX)), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn any_offset_is_read_and_cut_to_milliseconds() {
        for (text, ms) in [
            ("2026-01-02T03:04:05.678Z", 1_767_323_045_678),
            ("2026-01-02T03:04:05.678999999Z", 1_767_323_045_678),
            ("2026-01-02T04:34:05.6+01:30", 1_767_323_045_600),
            ("2026-01-01T22:04:05-05:00", 1_767_323_045_000),
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59.9999Z", -1),
            ("0000-01-01T00:00:00Z", -62_167_219_200_000),
        ] {
            assert_eq!(parse_timestamp(text), Some(Timestamp(ms)), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2026-01-02",
            "2026-01-02T03:04:05",
            "2026-13-02T03:04:05Z",
            "2026-02-30T03:04:05Z",
            "0000-01-01T00:00:00+23:59",
            "9999-12-31T23:59:59-23:59",
        ] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
    }

    #[test]
    fn a_duration_is_an_integer_and_a_unit() {
        for (text, ms) in [
            ("0s", 0),
            ("5ms", 5),
            ("24h", 86_400_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Some(Duration::from_millis(ms)),
                "{text}"
            );
        }
        for text in [
            "",
            "s",
            "0",
            "1",
            "-1s",
            "1.5h",
            "1 h",
            "1w",
            "99999999999999999999d",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
