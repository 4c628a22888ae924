//! Times as text: RFC 3339 in UTC with milliseconds.

use crate::ids::Timestamp;
use time::OffsetDateTime;
use time::format_description::StaticFormatDescription;
use time::macros::format_description;

const SHOWN: StaticFormatDescription = format_description!(
    version = 2,
    "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
);

/// The milliseconds that a four-digit year can express, from 0000-01-01T00:00:00.000Z to 9999-12-31T23:59:59.999Z.
pub const NAMED_MS: std::ops::RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;

/// Returns `at` in RFC 3339, UTC, with milliseconds. A time beyond four-digit years is shown as the nearest one within.
pub fn rfc3339(at: impl Into<Timestamp>) -> String {
    let ms = at.into().0.clamp(*NAMED_MS.start(), *NAMED_MS.end());
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .ok()
        .and_then(|time| time.format(SHOWN).ok())
        .unwrap_or_default()
}
