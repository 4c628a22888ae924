//! What a client that follows attempts is told of each.

use super::openapi::{examples, words};
use super::views::AttemptView;
use serde::Serialize;
use stormhook_engine::dispatch::FinishedAttempt;
use stormhook_engine::times::at;
use stormhook_store::UnixMs;
use utoipa::ToSchema;

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
    pub(super) missed: u64,
}
