//! What requests bring in their path, query and headers. Read by hand (`request::query`), so nothing here is ever made.
#![allow(dead_code, reason = "described, never made")]

use super::words::{DeliveryStatus, StatsWindow};
use utoipa::IntoParams;

/// The event of a route.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(in crate::http) struct EventId {
    /// The event, `evt_…`.
    #[param(example = "evt_01JZ8M3Y6Q2V7K9D4T5B8C1N0A")]
    id: String,
}

/// The endpoint of a route.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(in crate::http) struct EndpointId {
    /// The endpoint, `ep_…`.
    #[param(example = "ep_01JZ8M3Y6Q2V7K9D4T5B8C1N0A")]
    id: String,
}

/// The delivery of a route.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(in crate::http) struct DeliveryId {
    /// The delivery, `dlv_…`.
    #[param(example = "dlv_06H1H290P3SHB4X9J2M7K5T8V1C0D000")]
    id: String,
}

/// The header that makes sending an event idempotent.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(in crate::http) struct IdempotencyKey {
    /// The event's idempotency key, instead of `idempotencyKey` in the body, or the same as there.
    #[param(
        rename = "Idempotency-Key",
        min_length = 1,
        max_length = 255,
        pattern = "^[!-~]+$",
        required = false,
        example = "order-1001-created"
    )]
    key: String,
}

/// Which part of a list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Paging {
    /// How many rows a page holds at most. It may be short, even empty, while `nextCursor` is set.
    #[param(minimum = 1, maximum = 250, default = 50, required = false)]
    limit: u16,
    /// `nextCursor` of the page before, as it came. Left out, the list begins with what is newest.
    cursor: Option<String>,
}

/// Which span of time.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Accepted {
    /// Events accepted at this time or later, RFC 3339 with any offset (write `+` as `%2B`).
    #[param(format = DateTime, example = "2026-01-02T03:04:05.678Z")]
    since: Option<String>,
    /// Events accepted before this time.
    #[param(format = DateTime)]
    until: Option<String>,
}

/// Which events.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(in crate::http) struct EventFilter {
    /// Events of this organization.
    #[param(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]+$")]
    organization_id: Option<String>,
    /// Events of exactly this type.
    #[param(rename = "type", min_length = 1)]
    event_type: Option<String>,
    /// The events that were sent with this key.
    #[param(min_length = 1)]
    idempotency_key: Option<String>,
}

/// Which endpoints.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(in crate::http) struct EndpointFilter {
    /// Endpoints of this organization.
    #[param(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]+$")]
    organization_id: Option<String>,
    /// Only active ones, or only inactive ones.
    active: Option<bool>,
}

/// Which deliveries.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(in crate::http) struct DeliveryFilter {
    /// Deliveries to this endpoint.
    endpoint_id: Option<String>,
    /// Deliveries that stand so.
    status: Option<DeliveryStatus>,
    /// Deliveries of events of exactly this type.
    #[param(min_length = 1)]
    event_type: Option<String>,
    /// The deliveries of this event.
    event_id: Option<String>,
}

/// Which attempts.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(in crate::http) struct OfEndpoint {
    /// Only attempts to this endpoint.
    endpoint_id: Option<String>,
}

/// Which stats.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(in crate::http) struct StatsFilter {
    /// The time they are about.
    #[param(required = false, default = "1h")]
    window: StatsWindow,
    /// Only what goes to this endpoint.
    endpoint_id: Option<String>,
    /// Only what goes to this organization's endpoints.
    #[param(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]+$")]
    organization_id: Option<String>,
}
