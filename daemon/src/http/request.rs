//! What a request must be before a route sees it: its body within bounds and of the right media type, its query known word for word.

use super::problem::{Code, MAX_SHOWN_BYTES, Problem};
use crate::text;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, EXPECT};
use http::request::Parts;
use http::{HeaderMap, Uri};
use http_body_util::{BodyExt, Collected};
use hyper::body::{Body as HttpBody, Incoming};
use std::time::Duration;
use stormhook_store::{Cursor, List, UnixMs};

/// Rows of a page unless asked otherwise, and at most.
const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 250;
/// How much of a body that is too large is taken so that its sender hears the answer, and for how long.
const DRAIN_BYTES: usize = 32 << 20;
const DRAIN: Duration = Duration::from_secs(5);

/// Whether the content type is `media`, whatever its parameters.
pub(crate) fn check_media(headers: &HeaderMap, media: &str) -> Result<(), Problem> {
    let came = headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    let essence = came.split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case(media) {
        return Ok(());
    }
    let shown = text::cut(essence.to_owned(), MAX_SHOWN_BYTES);
    Err(Problem::new(
        Code::UnsupportedMediaType,
        format!("This request needs content-type {media}, not {shown:?}."),
    ))
}

/// The whole body of a request, at most `most` bytes, within `idle`. One that states a greater length is refused before any of it is
/// read.
pub(crate) async fn gather(
    headers: &HeaderMap,
    mut body: Incoming,
    most: usize,
    idle: Duration,
) -> Result<Bytes, Problem> {
    let stated = body.size_hint().lower();
    if stated > u64::try_from(most).unwrap_or(u64::MAX) {
        pass_over(headers, body, idle);
        return Err(too_large(most));
    }
    match tokio::time::timeout(idle, collect(&mut body, most)).await {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => {
            pass_over(headers, body, idle);
            Err(too_large(most))
        }
        Ok(Err(e)) => Err(Problem::new(
            Code::InvalidRequest,
            format!("The request body was truncated or its chunks are malformed: {e}"),
        )),
        Err(_) => Err(Problem::new(
            Code::RequestTimeout,
            "The request body did not arrive within limits.idle. Send it without pauses.",
        )),
    }
}

/// Takes a body that nobody wants, beside the answer. Who waits to be told to go on is told no instead.
pub(crate) fn pass_over<B>(headers: &HeaderMap, body: B, idle: Duration)
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
{
    if !headers.contains_key(EXPECT) && !body.is_end_stream() {
        tokio::spawn(drain(body, idle));
    }
}

/// Takes some of what is still coming of a body and keeps nothing: whoever is still sending would lose the answer with the
/// connection.
pub(crate) async fn drain<B: HttpBody<Data = Bytes> + Unpin>(mut body: B, idle: Duration) {
    let taking = async {
        let mut left = DRAIN_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(bytes) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    let _enough = tokio::time::timeout(idle.min(DRAIN), taking).await;
}

/// The whole body; `None` once it is larger than `most`.
async fn collect(body: &mut Incoming, most: usize) -> Result<Option<Bytes>, hyper::Error> {
    let mut whole = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        if joined.len() + whole.len() + data.len() > most {
            return Ok(None);
        }
        if whole.is_empty() && joined.is_empty() {
            // Most bodies come in one piece, which is then not copied.
            whole = data;
        } else {
            joined.extend_from_slice(&std::mem::take(&mut whole));
            joined.extend_from_slice(&data);
        }
    }
    Ok(Some(if joined.is_empty() {
        whole
    } else {
        joined.freeze()
    }))
}

pub(crate) fn too_large(most: usize) -> Problem {
    Problem::new(
        Code::EventTooLarge,
        format!(
            "The body exceeds {most} bytes (for an event: limits.event_bytes). Send less, or a link to the data."
        ),
    )
}

/// A body that was gathered before.
async fn gathered(body: Body) -> Bytes {
    // It is in memory: nothing can go wrong.
    body.collect()
        .await
        .map(Collected::to_bytes)
        .unwrap_or_default()
}

/// The JSON body of a request that must have one.
pub(crate) async fn json(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    check_media(headers, "application/json")?;
    Ok(gathered(body).await)
}

/// The JSON body of a request that may come without one: then it is `{}`.
pub(crate) async fn optional_json(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let bytes = gathered(body).await;
    if bytes.is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    check_media(headers, "application/json")?;
    Ok(bytes)
}

/// The parameters `names` of a query, in the order of `names`. Each may come once, and no other.
pub(crate) fn query<const N: usize>(
    uri: &Uri,
    names: [&'static str; N],
) -> Result<[Option<String>; N], Problem> {
    let mut found = [const { None }; N];
    for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or("").as_bytes()) {
        let place = names.iter().position(|known| *known == name);
        let Some((place, name)) = place.and_then(|at| found.get_mut(at).zip(names.get(at))) else {
            let shown = name.chars().take(100).collect();
            return Err(Problem::unknown(shown, &names));
        };
        if place.replace(value.into_owned()).is_some() {
            return Err(Problem::field(
                *name,
                format!("{name} is given twice. Send it once."),
            ));
        }
    }
    Ok(found)
}

/// How many rows a page holds.
pub(crate) fn limit(text: Option<&str>) -> Result<usize, Problem> {
    let Some(text) = text else {
        return Ok(LIMIT_DEFAULT);
    };
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits
        .then(|| text.parse().ok())
        .flatten()
        .filter(|limit| (1..=LIMIT_MAX).contains(limit))
        .ok_or_else(|| {
            Problem::field(
                "limit",
                format!("limit must be a number from 1 to {LIMIT_MAX}."),
            )
        })
}

/// Where a page of `list` begins.
pub(crate) fn cursor(text: Option<&str>, list: List) -> Result<Option<Cursor>, Problem> {
    if text == Some("") {
        return Err(Problem {
            code: Code::InvalidCursor,
            detail: "cursor is empty. Pass `nextCursor` of the previous page, or omit it to start with the newest.".into(),
            field: Some("cursor".into()),
        });
    }
    text.map(|text| {
        let cursor = Cursor::parse(text).filter(|cursor| cursor.list == list);
        cursor.ok_or_else(|| Problem {
            code: Code::InvalidCursor,
            detail:
                "Invalid cursor for this list. Pass `nextCursor` unchanged, with the same filters."
                    .into(),
            field: Some("cursor".into()),
        })
    })
    .transpose()
}

/// A filter that finds what is exactly so: nothing is exactly nothing.
pub(crate) fn filled(text: Option<String>, field: &'static str) -> Result<Option<String>, Problem> {
    match text {
        Some(text) if text.is_empty() => Err(Problem::field(
            field,
            format!("{field} is empty. Give a value, or omit it."),
        )),
        text => Ok(text),
    }
}

/// A span of time in a query: `until` may not be before `since`.
pub(crate) fn span(
    since: Option<&str>,
    until: Option<&str>,
) -> Result<(Option<UnixMs>, Option<UnixMs>), Problem> {
    let (since, until) = (instant(since, "since")?, instant(until, "until")?);
    if since.zip(until).is_some_and(|(since, until)| until < since) {
        return Err(Problem::field(
            "until",
            "until is before since. Swap them, or omit one.",
        ));
    }
    Ok((since, until))
}

/// A point in time in a query or body.
pub(crate) fn instant(text: Option<&str>, field: &'static str) -> Result<Option<UnixMs>, Problem> {
    text.map(|text| {
        crate::times::parse_rfc3339(text).ok_or_else(|| {
            Problem::field(
                field,
                format!("{field} must be an RFC 3339 time with an offset, like 2026-01-02T03:04:05.678Z (in a query, write + as %2B)."),
            )
        })
    })
    .transpose()
}

/// The id in a path. One that is no text is malformed like any other: it names nothing.
pub(super) struct Id(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(Self(id)),
            Err(_) => Err(Problem::not_found("thing")),
        }
    }
}
