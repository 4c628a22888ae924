//! An example for each view: one order on its way. A test checks that each fits its schema.

use serde_json::{Value, json};

const EVENT: &str = "evt_01JZ8M3Y6Q2V7K9D4T5B8C1N0A";
pub(in crate::http) const ENDPOINT: &str = "ep_01JZ8M3Y6Q2V7K9D4T5B8C1N0A";
const KEY: &str = "key_01JZ8M3Y6Q2V7K9D4T5B8C1N0A";
const DELIVERY: &str = "dlv_06H1H290P3SHB4X9J2M7K5T8V1C0D000";
pub(in crate::http) const HAPPENED: &str = "2026-01-02T03:04:05.678Z";
const ACCEPTED: &str = "2026-01-02T03:04:05.712Z";
const ATTEMPTED: &str = "2026-01-02T03:04:05.714Z";
const ATTEMPTED_AGAIN: &str = "2026-01-02T03:05:05.755Z";
const NEXT: &str = "2026-01-02T03:10:05.796Z";
pub(in crate::http) const EXPIRES: &str = "2027-01-20T00:00:00.000Z";

pub(in crate::http) fn receipt() -> Value {
    json!({
        "id": EVENT, "organizationId": "org_42", "type": "order.created", "timestamp": HAPPENED, "deliveries": 2,
    })
}

pub(in crate::http) fn event() -> Value {
    json!({
        "id": EVENT, "organizationId": "org_42", "type": "order.created", "timestamp": HAPPENED, "acceptedAt": ACCEPTED,
        "idempotencyKey": "order-1001-created", "deliveries": 2, "data": {"orderId": 1001},
    })
}

pub(in crate::http) fn explained() -> Value {
    json!({"endpointId": ENDPOINT, "reason": "subscribed"})
}

pub(in crate::http) fn api_key() -> Value {
    json!({
        "id": KEY, "name": "orders", "organizationId": null, "scopes": ["ingest"], "createdAt": HAPPENED,
        "lastUsedAt": ACCEPTED, "expiresAt": null, "revokedAt": null,
    })
}

pub(in crate::http) fn purge() -> Value {
    json!({"organizationId": "org_42", "eventIds": [EVENT], "before": null})
}

pub(in crate::http) fn audit_entry() -> Value {
    json!({
        "at": HAPPENED, "principal": {"kind": "key", "id": KEY, "name": "console"}, "action": "endpoint.update",
        "organizationId": "org_42", "target": ENDPOINT, "before": {"active": true}, "after": {"active": false},
        "reason": "maintenance of the partner", "requestId": "req_5bd1e995a7c3f201",
    })
}

const DAMAGED: &str = "row 019a of packs is damaged (its checksum is wrong): run `stormhook check`, and restore a backup if it names \
    what you need";

pub(in crate::http) fn damaged_events() -> Value {
    json!({"fromEvent": EVENT, "beforeEvent": "evt_01JZ8M3Y6Q2V7K9D4T5B8C1N0Z", "detail": DAMAGED})
}

pub(in crate::http) fn damaged_delivery() -> Value {
    json!({"id": DELIVERY, "detail": DAMAGED})
}

pub(in crate::http) fn secrets() -> Value {
    json!({
        "secret": "whsec_c3Rvcm1ob29rLWV4YW1wbGUtc2VjcmV0LTMyYnl0ZXM=",
        "publicKey": "whpk_6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=",
        "previous": [{"secret": "an-earlier-secret-of-theirs", "until": NEXT}],
    })
}

pub(in crate::http) fn attempt() -> Value {
    json!({
        "attempt": 1, "round": 1, "trigger": "schedule", "startedAt": ATTEMPTED, "durationMs": 41, "outcome": "http_status",
        "responseCode": 503, "responseExcerpt": "try later", "error": null, "reconnected": false,
    })
}

pub(in crate::http) fn delivery() -> Value {
    json!({
        "id": DELIVERY, "endpointId": ENDPOINT, "eventId": EVENT, "eventType": "order.created", "sequence": 42,
        "status": "RETRYING", "reason": null, "attempt": 2, "responseCode": 503, "nextAttemptAt": NEXT,
        "waitingFor": "schedule", "createdAt": ACCEPTED, "updatedAt": ATTEMPTED_AGAIN,
    })
}

pub(in crate::http) fn finished() -> Value {
    json!({
        "deliveryId": DELIVERY, "endpointId": ENDPOINT, "eventId": EVENT, "eventType": "order.created", "sequence": 42,
        "status": "RETRYING", "attempt": 1, "round": 1, "trigger": "schedule", "startedAt": ATTEMPTED, "durationMs": 41,
        "outcome": "http_status", "responseCode": 503, "responseExcerpt": "try later", "error": null, "reconnected": false,
    })
}

pub(in crate::http) fn missed() -> Value {
    json!({"missed": 12})
}

pub(in crate::http) fn problem() -> Value {
    json!({
        "type": "about:blank", "title": "Bad Request", "status": 400, "detail": "organizationId is required.",
        "code": "invalid_field", "field": "organizationId",
    })
}

pub(in crate::http) fn taken_line() -> Value {
    json!({"line": 1, "status": "accepted", "id": EVENT, "deliveries": 2})
}

pub(in crate::http) fn rejected_line() -> Value {
    json!({"line": 7, "status": "rejected", "problem": problem()})
}
