//! What requests bring: the fields of each body with their limits. Bodies are read by hand (`object::members`), so nothing here
//! is ever made; that the names are those that are read is tested against the running daemon.
#![allow(dead_code, reason = "described, never made")]

use super::words::Ordering;
use crate::headers::{MAX_HEADERS, MAX_VALUE_BYTES};
use crate::target::MAX_URL_BYTES;
use serde_json::json;
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{
    ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type,
};

/// An event to deliver.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", examples(json!({"organizationId": "org_42", "type": "order.created",
    "data": {"orderId": 1001}, "timestamp": "2026-01-02T03:04:05.678Z", "idempotencyKey": "order-1001-created"})))]
pub(in crate::http) struct NewEvent {
    /// Whose it is: it goes to this organization's endpoints.
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]+$")]
    organization_id: String,
    /// Parts separated by single dots. Types that begin with `stormhook.` are the daemon's own and refused.
    #[schema(
        rename = "type",
        min_length = 1,
        max_length = 128,
        pattern = "^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)*$"
    )]
    event_type: String,
    /// Any JSON value, null too, with lists and objects nested at most 128 deep. Forwarded byte for byte.
    #[schema(value_type = Value)]
    data: (),
    /// When it happened, RFC 3339 with any offset; cut to milliseconds, UTC. Left out, it is the time of acceptance.
    #[schema(required = false, format = DateTime)]
    timestamp: String,
    /// For as long as `idempotency.ttl` (24 h) the same event under the same key is taken once. Visible ASCII. It may stand in the
    /// header `Idempotency-Key` instead, or in both if it is the same.
    #[schema(
        required = false,
        min_length = 1,
        max_length = 255,
        pattern = "^[!-~]+$"
    )]
    idempotency_key: String,
}

/// Which endpoint to send an event to again.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", examples(json!({"endpointId": "ep_01JZ8M3Y6Q2V7K9D4T5B8C1N0A"})))]
pub(in crate::http) struct Replay {
    /// An endpoint of the event's organization, `ep_…`.
    endpoint_id: String,
}

/// An endpoint to make.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", examples(json!({"organizationId": "org_42", "url": "https://partner.example/hooks",
    "eventTypes": ["order.*"], "headers": {"x-api-key": "k-123"}})))]
pub(in crate::http) struct NewEndpoint {
    /// Whose it is: it receives this organization's events.
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]+$")]
    organization_id: String,
    #[schema(schema_with = url)]
    url: String,
    #[schema(schema_with = event_types)]
    event_types: Vec<String>,
    #[schema(schema_with = secret, required = false)]
    secret: String,
    /// Whether it receives from the start.
    #[schema(required = false, default = true)]
    active: bool,
    /// A note for people, at most 1,024 bytes.
    #[schema(max_length = 1024)]
    description: Option<String>,
    #[schema(schema_with = headers, required = false)]
    headers: (),
    /// Attempts a second, with a burst of one second; null for no limit.
    #[schema(exclusive_minimum = 0.0)]
    rate_limit_per_second: Option<f64>,
    #[schema(required = false, default = "parallel")]
    ordering: Ordering,
    /// Whether `webhook-signature` holds ed25519 signatures (`v1a`) too, which a partner verifies with a public key; null is false.
    #[schema(default = false)]
    ed25519: Option<bool>,
}

/// What to change of an endpoint: what is left out stays as it is, null clears.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", examples(json!({"active": false}), json!({"active": true, "discardHeld": true}),
    json!({"eventTypes": ["order.*", "invoice.paid"], "description": null})))]
pub(in crate::http) struct EndpointChange {
    #[schema(schema_with = url, required = false)]
    url: String,
    #[schema(schema_with = event_types, required = false)]
    event_types: Vec<String>,
    /// False stops dispatch: an attempt on the wire finishes, none starts after the response. True resumes what is held and clears
    /// `disabledReason` and `failureCount`.
    #[schema(required = false)]
    active: bool,
    /// With `"active": true`: the deliveries that were held end as `FAILED` (`discarded`) instead of resuming.
    #[schema(required = false, default = false)]
    discard_held: bool,
    /// A note for people, at most 1,024 bytes.
    #[schema(max_length = 1024)]
    description: Option<String>,
    #[schema(schema_with = headers, required = false)]
    headers: (),
    /// Attempts a second, with a burst of one second; null for no limit.
    #[schema(exclusive_minimum = 0.0)]
    rate_limit_per_second: Option<f64>,
    #[schema(required = false)]
    ordering: Ordering,
    /// True gives the current secret a key pair, unless it has one; false drops those of all secrets, for good. Null is false.
    ed25519: Option<bool>,
}

/// A secret to sign with from now on.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", examples(json!({"overlap": "24h"}), json!({"overlap": "0s"})))]
pub(in crate::http) struct Rotation {
    #[schema(schema_with = overlap, required = false)]
    overlap: String,
    #[schema(schema_with = secret, required = false)]
    secret: String,
}

/// Which deliveries of an endpoint get a new round of attempts.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", examples(json!({"since": "2026-01-02T00:00:00Z", "until": "2026-01-03T00:00:00Z",
    "missed": true, "dryRun": true})))]
pub(in crate::http) struct Recovery {
    /// Events accepted at this time or later, RFC 3339 with any offset. Left out, there is no bound.
    #[schema(required = false, format = DateTime)]
    since: String,
    /// Events accepted before this time. Left out, there is no bound.
    #[schema(required = false, format = DateTime)]
    until: String,
    /// Also events that it was subscribed to but inactive for: these get their first round.
    #[schema(required = false, default = false)]
    missed: bool,
    /// Only count.
    #[schema(required = false, default = false)]
    dry_run: bool,
}

/// No fields: the body may be left out.
#[derive(ToSchema)]
#[schema(max_properties = 0, examples(json!({})))]
pub(in crate::http) struct NoFields {}

fn url() -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .format(Some(utoipa::openapi::SchemaFormat::Custom("uri".to_owned())))
        .description(Some(
            "Where it receives: `https`, or `http` where `target.allow_http` is set. A URL that policy forbids is a 422.",
        ))
        .max_length(Some(MAX_URL_BYTES))
        .into()
}

fn event_types() -> RefOr<Schema> {
    let one = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .max_length(Some(130))
        .pattern(Some(r"^(\*|[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*(\.\*)?)$"));
    ArrayBuilder::new()
        .items(one)
        .min_items(Some(1))
        .max_items(Some(64))
        .description(Some(
            "What it subscribes to: exact types (`a.b`), prefixes (`a.*` matches `a.b` and `a.b.c`, not `a`), or `*` for all but \
             `stormhook.…`, which must be named.",
        ))
        .into()
}

fn overlap() -> RefOr<Schema> {
    let duration = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .pattern(Some("^([0-9]+(ms|s|m|h|d)|0)$"));
    let nothing = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::Integer))
        .enum_values(Some([0]));
    OneOfBuilder::new()
        .item(duration)
        .item(nothing)
        .description(Some(
            "How long earlier secrets go on signing, from `0s`, which ends them at once, to `7d`: an integer and `ms`, `s`, `m`, `h` \
             or `d`; 0 needs no unit.",
        ))
        .default(Some(json!("24h")))
        .into()
}

fn secret() -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .description(Some(
            "A secret of your own: `whsec_` and 24 to 64 bytes in base64, or 16 to 256 other visible ASCII characters. Left out, \
             one of 32 random bytes is made.",
        ))
        .min_length(Some(16))
        .max_length(Some(256))
        .pattern(Some("^[!-~]+$"))
        .into()
}

fn headers() -> RefOr<Schema> {
    let value = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .max_length(Some(MAX_VALUE_BYTES))
        .pattern(Some("^([!-~]([\\t -~]*[!-~])?)?$"));
    let name = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .max_length(Some(crate::headers::MAX_NAME_BYTES))
        .pattern(Some("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"))
        .build();
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .description(Some(
            "Headers to send along, at most 50; null for none. Values are shown as `***` from then on. Names that the daemon or \
             the connection needs are refused.",
        ))
        .additional_properties(Some(value))
        .property_names(Some(name))
        .max_properties(Some(MAX_HEADERS))
        .into()
}
