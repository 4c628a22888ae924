//! Following attempts live: server-sent events, bounded for each client. Who reads too slowly is told how many it missed.

use super::finished::{FinishedView, MissedView};
use super::openapi::answers::StreamedEvent;
use super::openapi::params;
use super::problem::Problem;
use super::{Answer, Shared, request};
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use http::Uri;
use std::convert::Infallible;
use std::time::Duration;
use stormhook_store::EndpointId;
use tokio::sync::broadcast::error::RecvError;

/// So that whoever stands between keeps the connection open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Follows attempts live.
///
/// Server-sent events, without end: one `attempt` for each attempt that finishes from now on, and `missed` where the client read too
/// slowly to be told of some. Comments keep the connection open while nothing happens. The schema is that of an event's `data`.
#[utoipa::path(get, path = "/v1/attempts/stream", tag = "deliveries", operation_id = "streamAttempts", params(params::OfEndpoint),
    responses((status = 200, description = "The events, as they happen.", body = StreamedEvent, content_type = "text/event-stream")))]
pub(super) async fn attempts(State(app): State<Shared>, uri: Uri) -> Answer {
    let [endpoint] = request::query(&uri, ["endpointId"])?;
    let only = endpoint
        .map(|text| {
            EndpointId::parse(&text).ok_or_else(|| {
                Problem::field("endpointId", "endpointId is not the id of an endpoint.")
            })
        })
        .transpose()?;
    let begin = (app.attempts(), Box::pin(app.closing()));
    let stream =
        futures_util::stream::unfold(begin, move |(mut following, mut closing)| async move {
            loop {
                // What finished before the end is still told.
                let next = tokio::select! {
                    biased;
                    next = following.recv() => next,
                    () = &mut closing => return None,
                };
                let (name, json) = match next {
                    Ok(finished) if only.is_none_or(|id| id == finished.endpoint) => (
                        "attempt",
                        serde_json::to_string(&FinishedView::from(&*finished)),
                    ),
                    Ok(_) => continue,
                    Err(RecvError::Lagged(missed)) => {
                        ("missed", serde_json::to_string(&MissedView { missed }))
                    }
                    Err(RecvError::Closed) => return None,
                };
                // Strings and numbers only: serialising can't fail.
                let event = Event::default().event(name).data(json.unwrap_or_default());
                return Some((Ok::<_, Infallible>(event), (following, closing)));
            }
        });
    Ok(Sse::new(stream)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response())
}
