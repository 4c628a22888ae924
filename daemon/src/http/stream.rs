//! Follows attempts live: server-sent events, bounded for each client. A client that reads too slowly is told how many
//! it missed.

use super::access::Caller;
use super::fields::query;
use super::finished::{FinishedView, MissedView};
use super::ids::Given;
use super::openapi::responses::StreamedEvent;
use super::problem::Problem;
use super::{Answer, Shared};
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use http::Uri;
use serde::Deserialize;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use stormhook_engine::dispatch::FinishedAttempt;
use stormhook_engine::lifecycle::Phase;
use stormhook_store::{Endpoint, EndpointId};
use tokio::sync::broadcast::error::RecvError;
use utoipa::IntoParams;

/// Keeps proxies from closing the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Which attempts to follow.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct AttemptQuery {
    /// Only attempts to this endpoint.
    #[param(value_type = Option<String>, pattern = "^ep_[0-7][0-9A-HJKMNP-TV-Z]{25}$")]
    endpoint_id: Option<Given<EndpointId>>,
}

/// Follows attempts live.
///
/// Server-sent events, without end: one `attempt` for each attempt that finishes from now on, and `missed` with a
/// number if the client reads too slowly and misses some. Comments keep the connection open meanwhile. The schema is
/// that of one event; its `data` is JSON text.
#[utoipa::path(get, path = "/v1/attempts/stream", tag = "deliveries", operation_id = "streamAttempts", params(AttemptQuery),
    responses((status = 200, description = "The events, as they happen.", body = StreamedEvent, content_type = "text/event-stream")))]
pub(super) async fn attempts(State(app): State<Shared>, caller: Caller, uri: Uri) -> Answer {
    let (asked,) = query::<(AttemptQuery,)>(&uri)?;
    let only = asked.endpoint_id.map(|Given(id)| id);
    let within = caller.within(None)?;
    if let Some(id) = only {
        let found = app.reader().endpoint_or_mark(id);
        let is_theirs = |e: &Arc<Endpoint>| {
            within
                .as_ref()
                .is_none_or(|within| e.organization == *within)
        };
        if !found.as_ref().is_some_and(is_theirs) {
            return Err(Problem::not_found("endpoint"));
        }
    }
    let reader = app.reader().clone();
    let is_asked = Arc::new(move |finished: &FinishedAttempt| {
        let is_theirs = |within: &String| {
            let endpoint = reader.endpoint_by_slot(finished.delivery.id.slot);
            endpoint.is_some_and(|e| e.organization == *within)
        };
        only.is_none_or(|id| id == finished.endpoint) && within.as_ref().is_none_or(is_theirs)
    });
    let begin = (
        app.engine.attempts(),
        Box::pin(app.engine.life().reached(Phase::Closing)),
        Box::pin(caller.ended()),
    );
    let stream =
        futures_util::stream::unfold(begin, move |(mut following, mut closing, mut ended)| {
            let is_asked = Arc::clone(&is_asked);
            async move {
                loop {
                    // Attempts that finished before the end are still sent.
                    let next = tokio::select! {
                        biased;
                        () = &mut ended => return None,
                        next = following.recv() => next,
                        () = &mut closing => return None,
                    };
                    let (name, json) = match next {
                        Ok(finished) if is_asked(&finished) => (
                            "attempt",
                            serde_json::to_string(&FinishedView::from(&*finished)),
                        ),
                        Ok(_) => continue,
                        Err(RecvError::Lagged(missed)) => {
                            ("missed", serde_json::to_string(&MissedView { missed }))
                        }
                        Err(RecvError::Closed) => return None,
                    };
                    // Strings and numbers only: serializing can't fail.
                    let event = Event::default().event(name).data(json.unwrap_or_default());
                    return Some((Ok::<_, Infallible>(event), (following, closing, ended)));
                }
            }
        });
    Ok(Sse::new(stream)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response())
}
