//! What the daemon sends to a receiver, described as a webhook. `crate::body` makes and signs it; this module only
//! describes it.
#![allow(dead_code, reason = "described, never made")]

use utoipa::{IntoParams, OpenApi, ToSchema};

/// The webhooks of the description.
#[derive(OpenApi)]
#[openapi(paths(delivery))]
pub(super) struct Webhooks;

/// An event as a receiver gets it: keys in this order, without added whitespace, the same bytes on every attempt.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", examples(json!({"id": "evt_01JZ8M3Y6Q2V7K9D4T5B8C1N0A", "type": "order.created",
    "timestamp": "2026-01-02T03:04:05.678Z", "organizationId": "org_42", "sequence": 42, "data": {"orderId": 1001}})))]
struct DeliveredEvent {
    /// The event, the same on every attempt. Skip ids that you have already processed.
    id: String,
    #[schema(rename = "type")]
    event_type: String,
    /// When it happened.
    #[schema(format = DateTime)]
    timestamp: String,
    organization_id: String,
    /// Counts the deliveries of this endpoint: 1, 2, 3 … without gaps. A gap in what you received means that a delivery
    /// is waiting or has ended undelivered. 0 in a test (`stormhook.ping`), which is not counted.
    #[schema(minimum = 0)]
    sequence: u64,
    /// As it was sent by the producer, byte for byte.
    #[schema(value_type = Value)]
    data: (),
}

/// The headers of each attempt.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
struct DeliveryHeaders {
    /// The event's id, the same on every attempt (Standard Webhooks).
    #[param(rename = "webhook-id")]
    id: String,
    /// When this attempt was made, in seconds since 1970 (Standard Webhooks).
    #[param(rename = "webhook-timestamp", pattern = "^[1-9][0-9]*$")]
    timestamp: String,
    /// For each secret that begins with `whsec_`: `v1,` and an HMAC-SHA256 of id, timestamp and body in base64. Then
    /// for each key pair: `v1a,` and an ed25519 signature of the same. Separated by spaces; several of each during a
    /// rotation. Absent if the endpoint has neither (Standard Webhooks).
    #[param(rename = "webhook-signature", required = false)]
    signature: String,
    /// `sha256=` and an HMAC-SHA256 of the body in hex; several during a rotation, separated by commas.
    /// `delivery.signature_header` sets the name.
    #[param(rename = "x-stormcom-signature")]
    body_signature: String,
    /// `sha-256=:…:` of the body (RFC 9530). Distinguishes a changed body from a wrong secret; doesn't prove who sent
    /// it.
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
    /// The number of this attempt among all attempts of the delivery, from 1.
    #[param(rename = "x-stormcom-attempt", minimum = 1)]
    attempt: u32,
    /// The same as in the body.
    #[param(rename = "x-stormcom-sequence", minimum = 0)]
    sequence: u64,
    /// `stormhook/` and the version.
    #[param(rename = "user-agent")]
    agent: String,
}

/// Delivers an event to a receiver.
///
/// Sent to an endpoint's `url`, with its own `headers`. Any 2xx response within `delivery.timeout` (15 s) means that it
/// is delivered. Otherwise it is attempted again on the schedule: after 1 m, 5 m, 30 m, 2 h and 24 h. Redirects are not
/// followed.
#[utoipa::path(post, path = "delivery", tag = "deliveries", operation_id = "receiveDelivery", security(()), params(DeliveryHeaders),
    request_body = DeliveredEvent, responses(
    (status = "2XX", description = "Delivered. The body is ignored."),
    (status = 410, description = "No longer a receiver: the endpoint is disabled and the delivery ends as `FAILED` (`gone`)."),
    (status = 429, description = "Overloaded: attempted again on schedule or after `Retry-After`, whichever is later, and at most 24 h from now.",
        headers(("Retry-After" = String, description = "Seconds, or an HTTP date."))),
    (status = 503, description = "The same as 429.", headers(("Retry-After" = String, description = "Seconds, or an HTTP date."))),
    (status = "default", description = "Failed: attempted again on the schedule."),
))]
fn delivery() {}
