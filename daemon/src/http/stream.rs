//! Following attempts live: server-sent events, bounded for each client. Who reads too slowly is told how many it missed.

use super::openapi::answers::StreamedEvent;
use super::openapi::{examples, params, words};
use super::problem::Problem;
use super::views::AttemptView;
use super::{Answer, Shared, request};
use crate::dispatch::FinishedAttempt;
use crate::times::at;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use http::Uri;
use serde::Serialize;
use std::convert::Infallible;
use std::time::Duration;
use stormhook_store::{EndpointId, UnixMs};
use tokio::sync::broadcast::error::RecvError;
use utoipa::ToSchema;

/// So that whoever stands between keeps the connection open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A finished attempt, with what names its delivery.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = FinishedAttempt, examples(examples::finished))]
pub(super) struct FinishedView {
    /// `dlv_…`
    delivery_id: String,
    /// Where it goes, `ep_…`
    endpoint_id: String,
    /// What is delivered, `evt_…`
    event_id: String,
    /// Its event's type.
    event_type: String,
    /// The delivery's place among the endpoint's.
    #[schema(minimum = 1)]
    sequence: u64,
    /// The delivery's after the attempt.
    #[schema(value_type = words::DeliveryStatus)]
    status: &'static str,
    /// Its place among all of the delivery's, from 1.
    #[schema(minimum = 1)]
    attempt: u32,
    /// The round it belongs to, from 1.
    #[schema(minimum = 1)]
    round: u32,
    #[schema(value_type = words::AttemptTrigger)]
    trigger: &'static str,
    /// When it began.
    #[serde(serialize_with = "at")]
    #[schema(value_type = String, format = DateTime)]
    started_at: UnixMs,
    /// How long the request took, in milliseconds.
    duration_ms: u64,
    #[schema(value_type = words::AttemptOutcome)]
    outcome: &'static str,
    /// The HTTP status that came back; null where none did.
    #[schema(required)]
    response_code: Option<u16>,
    /// The beginning of a failure's body, as in `Attempt`.
    #[schema(required)]
    response_excerpt: Option<String>,
    /// What went wrong, where no answer says so.
    #[schema(required)]
    error: Option<String>,
    /// Whether the request was sent once more within the attempt, as in `Attempt`.
    reconnected: bool,
}

impl From<&FinishedAttempt> for FinishedView {
    fn from(f: &FinishedAttempt) -> Self {
        let attempt = AttemptView::from(&f.attempt);
        Self {
            delivery_id: f.delivery.id.to_string(),
            endpoint_id: f.endpoint.to_string(),
            event_id: f.delivery.id.event.to_string(),
            event_type: f.event_type.clone(),
            sequence: f.delivery.sequence,
            status: f.delivery.status.as_str(),
            attempt: attempt.attempt,
            round: attempt.round,
            trigger: attempt.trigger,
            started_at: attempt.started_at,
            duration_ms: attempt.duration_ms,
            outcome: attempt.outcome,
            response_code: attempt.response_code,
            response_excerpt: attempt.response_excerpt,
            error: attempt.error,
            reconnected: attempt.reconnected,
        }
    }
}

/// Said to a client that reads too slowly.
#[derive(Serialize, ToSchema)]
#[schema(as = MissedAttempts, examples(examples::missed))]
pub(super) struct MissedView {
    /// How many attempts finished that it was not told of.
    #[schema(minimum = 1)]
    missed: u64,
}

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
