//! Following attempts live: server-sent events, bounded for each client. Who reads too slowly is told how many it missed.

use super::problem::Problem;
use super::views::{AttemptView, DeliveryJson};
use super::{Answer, Shared, request};
use crate::app::App;
use crate::dispatch::FinishedAttempt;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::StreamExt;
use http::Uri;
use serde::Serialize;
use std::convert::Infallible;
use std::time::Duration;
use stormhook_store::EndpointId;
use tokio::sync::broadcast::error::RecvError;

/// So that whoever stands between keeps the connection open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A finished attempt with the delivery it belongs to.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct FinishedView {
    delivery: DeliveryJson,
    attempt: AttemptView,
}

impl FinishedView {
    fn of(app: &App, f: &FinishedAttempt) -> Self {
        Self {
            delivery: DeliveryJson::new(app, &f.delivery, f.endpoint, &f.event_type),
            attempt: AttemptView::from(&f.attempt),
        }
    }
}

/// One server-sent event for each finished attempt; `event: missed` where the client was too slow.
#[utoipa::path(get, path = "/v1/attempts/stream", tag = "deliveries", params(("endpointId" = Option<String>, Query)),
    responses((status = 200, body = FinishedView, content_type = "text/event-stream")))]
pub(super) async fn attempts(State(app): State<Shared>, uri: Uri) -> Answer {
    let [endpoint] = request::query(&uri, ["endpointId"])?;
    let only = endpoint
        .map(|text| {
            EndpointId::parse(&text)
                .ok_or_else(|| Problem::field("endpointId", "endpointId is no endpoint's id"))
        })
        .transpose()?;
    let closing = app.closing();
    let following = app.attempts();
    let stream =
        futures_util::stream::unfold((app, following), move |(app, mut following)| async move {
            loop {
                let event = match following.recv().await {
                    Ok(finished) if only.is_none_or(|id| id == finished.endpoint) => {
                        let json = serde_json::to_string(&FinishedView::of(&app, &finished))
                            .unwrap_or_default();
                        Event::default().event("attempt").data(json)
                    }
                    Ok(_) => continue,
                    Err(RecvError::Lagged(missed)) => {
                        let json = serde_json::json!({"missed": missed});
                        Event::default().event("missed").data(json.to_string())
                    }
                    Err(RecvError::Closed) => return None,
                };
                return Some((Ok::<_, Infallible>(event), (app, following)));
            }
        });
    let stream = stream.take_until(Box::pin(closing));
    Ok(Sse::new(stream)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response())
}
