//! What a request must be before its fields are read: its body complete, within bounds and of the right media type.

use super::problem::{Code, MAX_SHOWN_BYTES, Problem};
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_TYPE, EXPECT};
use http_body_util::{BodyExt, Collected};
use hyper::body::{Body as HttpBody, Incoming};
use std::time::Duration;
use stormhook_engine::text;

/// How much of an oversized body is read so that its sender gets the response, and for how long.
const DRAIN_BYTES: usize = 32 << 20;
const DRAIN: Duration = Duration::from_secs(5);

/// Checks that the content type is `media`, with any parameters.
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

/// Returns the whole body of a request, at most `most` bytes, received within `idle`. A body that declares a greater
/// length is refused before any of it is read.
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

/// Reads an unwanted body while the response is sent. A client that waits for `100 Continue` gets the final response
/// instead.
pub(crate) fn pass_over<B>(headers: &HeaderMap, body: B, idle: Duration)
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
{
    if !headers.contains_key(EXPECT) && !body.is_end_stream() {
        tokio::spawn(drain(body, idle));
    }
}

/// Reads and discards a bounded part of the rest of a body: a client that is still sending would lose the response with
/// the connection.
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

/// Returns the whole body, or `None` once it exceeds `most`.
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
            // Most bodies come in one piece, which is not copied then.
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
            "The body exceeds {most} bytes (for an event: limits.event_bytes). Send less data, or a link to it."
        ),
    )
}

/// Returns a body that has been gathered already.
async fn gathered(body: Body) -> Bytes {
    // It is in memory: this can't fail.
    body.collect()
        .await
        .map(Collected::to_bytes)
        .unwrap_or_default()
}

/// Returns the JSON body of a request that must have one.
pub(crate) async fn json(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    check_media(headers, "application/json")?;
    Ok(gathered(body).await)
}

/// Returns the JSON body of a request that may omit it; an omitted body is `{}`.
pub(crate) async fn optional_json(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let bytes = gathered(body).await;
    if bytes.is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    check_media(headers, "application/json")?;
    Ok(bytes)
}
