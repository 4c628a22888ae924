//! What a client that follows attempts is told about each.

use super::openapi::{enums, examples};
use super::views::AttemptView;
use serde::Serialize;
use stormhook_engine::dispatch::FinishedAttempt;
use stormhook_engine::times::at;
use stormhook_store::UnixMs;
use utoipa::ToSchema;

/// A finished attempt and the ids of its delivery.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = FinishedAttempt, examples(examples::finished))]
pub(super) struct FinishedView {
    /// `dlv_…`
    delivery_id: String,
    /// The endpoint, `ep_…`
    endpoint_id: String,
    /// The event, `evt_…`
    event_id: String,
    /// Its event's type.
    event_type: String,
    /// The delivery's number among the endpoint's deliveries.
    #[schema(minimum = 1)]
    sequence: u64,
    /// The delivery's state after the attempt.
    #[schema(value_type = enums::DeliveryStatus)]
    status: &'static str,
    /// Its number among all attempts of the delivery, from 1.
    #[schema(minimum = 1)]
    attempt: u32,
    /// The round it belongs to, from 1.
    #[schema(minimum = 1)]
    round: u32,
    #[schema(value_type = enums::AttemptTrigger)]
    trigger: &'static str,
    /// When it started.
    #[serde(serialize_with = "at")]
    #[schema(value_type = String, format = DateTime)]
    started_at: UnixMs,
    /// How long the request took, in milliseconds.
    duration_ms: u64,
    #[schema(value_type = enums::AttemptOutcome)]
    outcome: &'static str,
    /// The HTTP status of the response; null if there was none.
    #[schema(required)]
    response_code: Option<u16>,
    /// The start of the response body of a failed attempt, as in `Attempt`.
    #[schema(required)]
    response_excerpt: Option<String>,
    /// What went wrong, if no response says so.
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

/// Sent to a client that reads too slowly.
#[derive(Serialize, ToSchema)]
#[schema(as = MissedAttempts, examples(examples::missed))]
pub(super) struct MissedView {
    /// The number of finished attempts that the client missed.
    #[schema(minimum = 1)]
    pub(super) missed: u64,
}
