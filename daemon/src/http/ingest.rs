//! Reads one event from its JSON, in the same way for a single request and for a line of a batch. An event that passes
//! is fit to be stored; `data` is kept byte for byte and never rewritten.

use stormhook_store::endpoint::{OWN_TYPE_PREFIX, is_event_type};
use stormhook_store::{GivenTime, NewEvent};

use super::fields::{self, Verbatim};
use super::nesting::nested_deeper_than;
use super::problem::Problem;
use serde::Deserialize;
use std::borrow::Cow;
use stormhook_engine::times::parse_timestamp;
use utoipa::ToSchema;

/// How deep lists and objects in `data` may be nested.
pub(crate) const MAX_NESTING: usize = 128;

const MAX_ORGANIZATION_BYTES: usize = 128;
const MAX_KEY_BYTES: usize = 255;

/// An event to deliver.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewEvent, examples(json!({"organizationId": "org_42", "type": "order.created",
    "data": {"orderId": 1001}, "timestamp": "2026-01-02T03:04:05.678Z", "idempotencyKey": "order-1001-created"})))]
pub(super) struct EventBody<'a> {
    /// The organization whose endpoints it goes to.
    #[serde(borrow)]
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]+$")]
    organization_id: Cow<'a, str>,
    /// Parts separated by single dots. Types that begin with `stormhook.` are reserved for the daemon and refused.
    #[serde(rename = "type", borrow)]
    #[schema(
        value_type = String,
        min_length = 1,
        max_length = 128,
        pattern = "^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)*$"
    )]
    event_type: Cow<'a, str>,
    /// Any JSON value, including null, with lists and objects nested at most 128 deep. Forwarded byte for byte.
    #[serde(borrow)]
    #[schema(value_type = Value)]
    data: Verbatim<'a>,
    /// When the event happened, RFC 3339 with any offset; truncated to milliseconds, in UTC. Defaults to the time of
    /// acceptance.
    #[schema(nullable = false, format = DateTime)]
    timestamp: Option<String>,
    /// The same event under the same key is accepted once within `idempotency.ttl` (24 h). Visible ASCII. May be sent
    /// in the header `Idempotency-Key` instead; if both are sent, they must be the same.
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 255,
        pattern = "^[!-~]+$"
    )]
    idempotency_key: Option<String>,
}

/// Reads an event. `header_key` is the request's `Idempotency-Key`.
///
/// # Errors
/// `invalid_json`, `unknown_field` or `invalid_field`.
pub(crate) fn parse(body: &[u8], header_key: Option<&str>) -> Result<NewEvent, Problem> {
    let event: EventBody<'_> = fields::read(body)?;
    check_organization(&event.organization_id)?;
    check_event_type(&event.event_type)?;
    let data = event.data.0;
    check_nesting(data)?;
    let timestamp = event.timestamp.as_deref().map(check_timestamp);
    Ok(NewEvent {
        timestamp: timestamp.transpose()?,
        idempotency_key: one_key(event.idempotency_key, header_key)?,
        organization: event.organization_id.into_owned(),
        event_type: event.event_type.into_owned(),
        data: data.to_vec(),
    })
}

/// Checks an event that came by another way than this API. `event_bytes` is the limit of its data.
///
/// # Errors
/// What is wrong with it.
#[cfg(feature = "postgres")]
pub(crate) fn check_event(event: &NewEvent, event_bytes: usize) -> Result<(), String> {
    let checked = || {
        check_organization(&event.organization)?;
        check_event_type(&event.event_type)?;
        if event.data.len() > event_bytes {
            let what = format!(
                "data must be at most {event_bytes} bytes (limits.event_bytes); this one has {}.",
                event.data.len()
            );
            return Err(Problem::field("data", what));
        }
        check_nesting(&event.data)?;
        event.idempotency_key.as_deref().map_or(Ok(()), check_key)
    };
    checked().map_err(|problem: Problem| problem.detail.into_owned())
}

fn check_nesting(data: &[u8]) -> Result<(), Problem> {
    if nested_deeper_than(data, MAX_NESTING) {
        return Err(Problem::field(
            "data",
            format!("data is nested more than {MAX_NESTING} levels deep."),
        ));
    }
    Ok(())
}

/// Checks an organization's id, in a body or a query.
pub(crate) fn check_organization(text: &str) -> Result<(), Problem> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if (1..=MAX_ORGANIZATION_BYTES).contains(&text.len()) && text.bytes().all(allowed) {
        return Ok(());
    }
    Err(Problem::field(
        "organizationId",
        format!(
            "organizationId must be 1 to {MAX_ORGANIZATION_BYTES} characters of A-Z, a-z, 0-9, _ and -; this one has {} bytes.",
            text.len()
        ),
    ))
}

fn check_event_type(text: &str) -> Result<(), Problem> {
    if !is_event_type(text) {
        return Err(Problem::field(
            "type",
            "type must be parts of A-Z, a-z, 0-9, _ and -, separated by single dots, at most 128 bytes, like order.created.",
        ));
    }
    if text.starts_with(OWN_TYPE_PREFIX) {
        return Err(Problem::field(
            "type",
            "Types that start with stormhook. are reserved. Choose another name.",
        ));
    }
    Ok(())
}

fn check_timestamp(text: &str) -> Result<GivenTime, Problem> {
    let at = parse_timestamp(text).ok_or_else(|| {
        Problem::field(
            "timestamp",
            "timestamp must be an RFC 3339 time with an offset, up to the year 9999, like 2026-01-02T03:04:05.678Z. Omit it to use the time of acceptance.",
        )
    })?;
    Ok(GivenTime::new(at, text))
}

/// Checks an idempotency key.
pub(crate) fn check_key(key: &str) -> Result<(), Problem> {
    let visible = key.bytes().all(|b| b.is_ascii_graphic());
    if visible && (1..=MAX_KEY_BYTES).contains(&key.len()) {
        return Ok(());
    }
    Err(Problem::field(
        "idempotencyKey",
        format!(
            "An idempotency key must be 1 to {MAX_KEY_BYTES} visible ASCII characters without spaces; this one has {} bytes.",
            key.len()
        ),
    ))
}

/// Returns the key of an event. It may be in its body, in the header, or the same in both.
fn one_key(body: Option<String>, header: Option<&str>) -> Result<Option<String>, Problem> {
    for key in [body.as_deref(), header].into_iter().flatten() {
        check_key(key)?;
    }
    match (body, header) {
        (Some(body), Some(header)) if body != header => Err(Problem::field(
            "idempotencyKey",
            "idempotencyKey and the Idempotency-Key header differ. Send one of them, or the same key in both.",
        )),
        (body, header) => Ok(body.or_else(|| header.map(str::to_owned))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::problem::Code;
    use super::*;
    use proptest::prelude::*;
    use stormhook_store::Timestamp;

    fn event(data: &str) -> String {
        format!(r#"{{"organizationId":"org_1","type":"order.created","data":{data}}}"#)
    }

    fn with(member: &str) -> String {
        format!(r#"{{"organizationId":"o","type":"a.b","data":1,{member}}}"#)
    }

    #[test]
    fn data_is_kept_byte_for_byte_without_the_space_around_it() {
        for data in [
            "null",
            "-0",
            "1e400",
            "123456789012345678901234567890.10",
            r#""\u00e9\ud800\/""#,
            "{ \"b\" : 1,\n\"a\":[ ] }",
            r#"{"a":1,"a":2}"#,
        ] {
            let taken = parse(event(&format!(" \t{data}\r\n")).as_bytes(), None).unwrap();
            assert_eq!(String::from_utf8(taken.data).unwrap(), data);
        }
    }

    #[test]
    fn each_flaw_has_its_code_and_field() {
        let table: Vec<(String, Code, Option<&str>)> = vec![
            (String::new(), Code::InvalidJson, None),
            ("[]".into(), Code::InvalidJson, None),
            ("null".into(), Code::InvalidJson, None),
            (event("01"), Code::InvalidJson, None),
            (event("1") + "x", Code::InvalidJson, None),
            (event(r#""\x""#), Code::InvalidJson, None),
            (with(r#""data":2"#), Code::InvalidJson, None),
            (with(r#""\u0064ata":2"#), Code::InvalidJson, None),
            (with(r#""Data":2"#), Code::UnknownField, Some("Data")),
            (with(r#""x":[[]]"#), Code::UnknownField, Some("x")),
            (
                with(r#""timestamp":null"#),
                Code::InvalidField,
                Some("timestamp"),
            ),
            (
                with(r#""timestamp":"now""#),
                Code::InvalidField,
                Some("timestamp"),
            ),
            (
                with(r#""idempotencyKey":null"#),
                Code::InvalidField,
                Some("idempotencyKey"),
            ),
            (
                with(r#""idempotencyKey":"a b""#),
                Code::InvalidField,
                Some("idempotencyKey"),
            ),
            (
                event("1").replace("org_1", "o 1"),
                Code::InvalidField,
                Some("organizationId"),
            ),
            (
                event("1").replace("order.", "stormhook."),
                Code::InvalidField,
                Some("type"),
            ),
            (
                r#"{"type":"a","data":1}"#.into(),
                Code::InvalidField,
                Some("organizationId"),
            ),
            (
                r#"{"organizationId":"o","data":1}"#.into(),
                Code::InvalidField,
                Some("type"),
            ),
            (
                r#"{"organizationId":"o","type":"a"}"#.into(),
                Code::InvalidField,
                Some("data"),
            ),
            (event(&"[".repeat(100_000)), Code::InvalidJson, None),
            (
                event(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))),
                Code::InvalidField,
                Some("data"),
            ),
        ];
        for (body, code, field) in table {
            let problem = parse(body.as_bytes(), None).unwrap_err();
            let shown: String = body.chars().take(120).collect();
            assert_eq!(problem.code, code, "{shown}");
            assert_eq!(problem.field.as_deref(), field, "{shown}");
            assert!(problem.detail.len() < 500, "{}", problem.detail);
        }
        let broken = [event("1").as_bytes(), b"\xff"].concat();
        assert_eq!(parse(&broken, None).unwrap_err().code, Code::InvalidJson);
    }

    #[test]
    fn the_key_may_stand_in_either_place_but_not_differ() {
        let body = with(r#""idempotencyKey":"k""#);
        let key = |body: &str, header| parse(body.as_bytes(), header).map(|e| e.idempotency_key);
        assert_eq!(key(&body, None).unwrap().as_deref(), Some("k"));
        assert_eq!(key(&body, Some("k")).unwrap().as_deref(), Some("k"));
        assert_eq!(key(&event("1"), Some("h")).unwrap().as_deref(), Some("h"));
        assert_eq!(key(&event("1"), None).unwrap(), None);
        let differing = key(&body, Some("h")).unwrap_err();
        assert_eq!(differing.field.as_deref(), Some("idempotencyKey"));
        assert!(key(&event("1"), Some("")).is_err());
    }

    #[test]
    fn a_timestamp_is_cut_to_milliseconds_in_utc() {
        let body = with(r#""timestamp":"2026-01-02T04:04:05.678999+01:00""#);
        let event = parse(body.as_bytes(), None).unwrap();
        let at = event.timestamp.map(|given| given.at);
        assert_eq!(at, Some(Timestamp(1_767_323_045_678)));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(body: Vec<u8>) {
            if let Err(problem) = parse(&body, None) {
                prop_assert!(matches!(
                    problem.code,
                    Code::InvalidJson | Code::UnknownField | Code::InvalidField
                ));
            }
        }
    }
}
