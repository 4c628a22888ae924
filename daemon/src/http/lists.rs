//! The parameters that lists share: a page, and a span of time.

use super::problem::{Code, Problem};
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use stormhook_engine::times::parse_rfc3339;
use stormhook_store::{Cursor, List, UnixMs};
use utoipa::IntoParams;

/// The default and the maximum number of rows in a page.
const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 250;

/// Which page of a list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Paging {
    /// The maximum number of rows in the page. A page may be short or even empty while `nextCursor` is set.
    #[param(value_type = u16, minimum = 1, maximum = 250, default = 50, required = false)]
    limit: Option<Limit>,
    /// `nextCursor` of the previous page, unchanged. Omit it to start with the newest.
    #[param(
        min_length = 45,
        max_length = 45,
        pattern = "^cur_[a-z][0-9A-HJKMNP-TV-Z]{32}[0-9a-f]{8}$"
    )]
    cursor: Option<String>,
}

impl Paging {
    /// Returns the maximum number of rows in the page.
    pub(super) fn limit(&self) -> usize {
        self.limit.as_ref().map_or(LIMIT_DEFAULT, |limit| limit.0)
    }

    /// Returns where the page of `list` begins.
    pub(super) fn cursor(&self, list: List, tag: &str) -> Result<Option<Cursor>, Problem> {
        let wrong = |detail: &'static str| Problem {
            code: Code::InvalidCursor,
            detail: detail.into(),
            field: Some("cursor".into()),
        };
        match self.cursor.as_deref() {
            None => Ok(None),
            Some("") => Err(wrong(
                "cursor is empty. Pass `nextCursor` of the previous page, or omit it to start with the newest.",
            )),
            Some(text) => {
                let cursor = parse_cursor(text, tag).filter(|cursor| cursor.list == list);
                cursor.map(Some).ok_or_else(|| {
                    wrong("Invalid cursor for this list and caller. Pass `nextCursor` unchanged, with the same filters and token.")
                })
            }
        }
    }
}

/// Returns a cursor as the caller with this tag gets it.
pub(super) fn cursor_text(cursor: Cursor, tag: &str) -> String {
    format!("{}{tag}", cursor.to_text())
}

/// Parses a cursor that the caller with this tag got.
fn parse_cursor(text: &str, tag: &str) -> Option<Cursor> {
    Cursor::parse(text.strip_suffix(tag)?)
}

/// The number of rows in a page.
struct Limit(usize);

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits
            .then(|| text.parse().ok())
            .flatten()
            .filter(|limit| (1..=LIMIT_MAX).contains(limit))
            .map(Self)
            .ok_or_else(|| {
                D::Error::custom(format!("limit must be a number from 1 to {LIMIT_MAX}."))
            })
    }
}

/// Which span of time.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Accepted {
    /// Events accepted at or after this time, RFC 3339 with any offset (write `+` as `%2B`).
    #[param(value_type = Option<String>, format = DateTime, example = "2026-01-02T03:04:05.678Z")]
    since: Option<Moment>,
    /// Events accepted before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Moment>,
}

impl Accepted {
    /// Returns the span. `until` must not be before `since`.
    pub(super) fn span(&self) -> Result<(Option<UnixMs>, Option<UnixMs>), Problem> {
        span(self.since, self.until)
    }
}

/// Returns both ends of a span of time, which must be in order.
pub(super) fn span(
    since: Option<Moment>,
    until: Option<Moment>,
) -> Result<(Option<UnixMs>, Option<UnixMs>), Problem> {
    let at = |moment: Option<Moment>| moment.map(|Moment(at)| at);
    let (since, until) = (at(since), at(until));
    if since.zip(until).is_some_and(|(since, until)| until < since) {
        return Err(Problem::field(
            "until",
            "until is before since. Swap them, or omit one.",
        ));
    }
    Ok((since, until))
}

/// A point in time.
#[derive(Clone, Copy)]
pub(super) struct Moment(pub(super) UnixMs);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text: Cow<'_, str> = Deserialize::deserialize(from)?;
        parse_rfc3339(&text).map(Self).ok_or_else(|| {
            let expected = "an RFC 3339 time with an offset, like 2026-01-02T03:04:05.678Z (in a query, write + as %2B)";
            D::Error::invalid_value(Unexpected::Str(&text), &expected)
        })
    }
}

/// A filter for an exact match. It must not be empty: nothing matches an empty value.
pub(super) struct Filled(pub(super) String);

impl<'de> Deserialize<'de> for Filled {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        if text.is_empty() {
            let expected = "a value (or omit it)";
            return Err(D::Error::invalid_value(Unexpected::Str(&text), &expected));
        }
        Ok(Self(text))
    }
}
