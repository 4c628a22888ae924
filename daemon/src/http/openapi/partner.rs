//! The other direction: what the daemon sends to a partner, described as a webhook. Made by `stormhook_engine::payload` and signed there; here it
//! is only described.
#![allow(dead_code, reason = "described, never made")]

use utoipa::{IntoParams, OpenApi, ToSchema};

/// The webhooks of the description.
#[derive(OpenApi)]
#[openapi(paths(delivery))]
pub(super) struct Webhooks;

/// An event as a partner receives it: keys in this order, without added whitespace, the same bytes on every attempt.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", examples(json!({"id": "evt_01JZ8M3Y6Q2V7K9D4T5B8C1N0A", "type": "order.created",
    "timestamp": "2026-01-02T03:04:05.678Z", "organizationId": "org_42", "sequence": 42, "data": {"orderId": 1001}})))]
struct DeliveredEvent {
    /// The event, the same on every attempt: drop what came before.
    id: String,
    #[schema(rename = "type")]
    event_type: String,
    /// When it happened.
    #[schema(format = DateTime)]
    timestamp: String,
    organization_id: String,
    /// Counts what goes to this endpoint, 1, 2, 3 … without a gap: a gap means that one is waiting or was given up. 0 in a test
    /// (`stormhook.ping`), which counts nowhere.
    #[schema(minimum = 0)]
    sequence: u64,
    /// As it was handed over, byte for byte.
    #[schema(value_type = Value)]
    data: (),
}

/// What each attempt brings beside its body.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
struct DeliveryHeaders {
    /// The event's id, the same on every attempt (Standard Webhooks).
    #[param(rename = "webhook-id")]
    id: String,
    /// When this attempt was made, in seconds since 1970 (Standard Webhooks).
    #[param(rename = "webhook-timestamp", pattern = "^[1-9][0-9]*$")]
    timestamp: String,
    /// `v1,` and an HMAC-SHA256 of id, timestamp and body in base64, for each secret that begins with `whsec_`; then `v1a,` and an ed25519
    /// signature of the same, for each key pair. Separated by spaces; during a rotation several of each. Not there where there is
    /// neither (Standard Webhooks).
    #[param(rename = "webhook-signature", required = false)]
    signature: String,
    /// `sha256=` and an HMAC-SHA256 of the body in hex; during a rotation several, separated by commas. The name is
    /// `delivery.signature_header`.
    #[param(rename = "x-stormcom-signature")]
    body_signature: String,
    /// `sha-256=:…:` of the body (RFC 9530): tells a changed body from a wrong secret, and proves no origin.
    #[param(rename = "content-digest")]
    digest: String,
    /// The event's type.
    #[param(rename = "x-stormcom-event")]
    event: String,
    /// The endpoint, `ep_…`.
    #[param(rename = "x-stormcom-endpoint")]
    endpoint: String,
    /// The delivery, `dlv_…`.
    #[param(rename = "x-stormcom-delivery")]
    delivery: String,
    /// This attempt's place among all of the delivery's, from 1.
    #[param(rename = "x-stormcom-attempt", minimum = 1)]
    attempt: u32,
    /// As in the body.
    #[param(rename = "x-stormcom-sequence", minimum = 0)]
    sequence: u64,
    /// `stormhook/` and the version.
    #[param(rename = "user-agent")]
    agent: String,
}

/// Delivers an event to a partner.
///
/// Sent to an endpoint's `url`, with its own `headers`. Answered with any 2xx within `delivery.timeout` (15 s), it is delivered; else it
/// is attempted again by the schedule: after 1 m, 5 m, 30 m, 2 h and 24 h. Redirects are not followed.
#[utoipa::path(post, path = "delivery", tag = "deliveries", operation_id = "receiveDelivery", security(()), params(DeliveryHeaders),
    request_body = DeliveredEvent, responses(
    (status = "2XX", description = "Delivered. The body doesn't matter."),
    (status = 410, description = "Not wanted any more: the endpoint is deactivated, the delivery ends as `FAILED` (`gone`)."),
    (status = 429, description = "Not now: attempted again at the later of the schedule and `Retry-After`, at most 24 h from now.",
        headers(("Retry-After" = String, description = "Seconds, or an HTTP date."))),
    (status = 503, description = "As 429.", headers(("Retry-After" = String, description = "Seconds, or an HTTP date."))),
    (status = "default", description = "Failed: attempted again by the schedule."),
))]
fn delivery() {}
