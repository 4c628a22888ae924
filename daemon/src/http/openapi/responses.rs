//! Descriptions of responses that no view is serialized for: pages, lines of a batch, reports. The handlers make the
//! responses.
#![allow(dead_code, reason = "described, never made")]

use super::{conditions, examples};
use crate::http::caller_views::{ApiKeyView, AuditEntryView};
use crate::http::endpoints::settings::EndpointView;
use crate::http::finished::{FinishedView, MissedView};
use crate::http::problem::Details;
use crate::http::views::{DamagedView, DeliveryView, EventView, ExplainView};
use serde_json::{Value, json};
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

macro_rules! pages {
    ($($(#[$what:meta])+ $name:ident of $row:ty;)+) => {$(
        $(#[$what])+
        #[derive(ToSchema)]
        #[schema(rename_all = "camelCase")]
        pub(in crate::http) struct $name {
            /// The rows, newest first. May be few or none even if `nextCursor` is set.
            data: Vec<$row>,
            /// Rows that may belong to the page but can't be read, because the store is damaged there; omitted if there
            /// are none.
            #[schema(required = false, nullable = false)]
            damaged: Option<Vec<DamagedView>>,
            /// Pass this as `cursor` for the next page; null on the last page.
            #[schema(required)]
            next_cursor: Option<String>,
        }
    )+};
}

pages! {
    /// Events, newest first, without their data.
    EventPage of EventView;
    /// Endpoints, newest first, without their secrets.
    EndpointPage of EndpointView;
    /// Deliveries, newest first, without their attempts.
    DeliveryPage of DeliveryView;
    /// API keys, newest first.
    ApiKeyPage of ApiKeyView;
    /// Entries of the audit log, newest first.
    AuditPage of AuditEntryView;
}

/// For each endpoint of the event's organization, the reason why it was or wasn't sent the event.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct Explanation {
    /// All known endpoints, including deleted ones.
    data: Vec<ExplainView>,
    /// Endpoints that can't be explained, because the store is damaged there; omitted if there are none.
    #[schema(required = false, nullable = false)]
    damaged: Option<Vec<DamagedView>>,
    /// Always null: there is only one page.
    #[schema(schema_with = null, required)]
    next_cursor: (),
}

fn null() -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::Null))
        .description(Some("Always null: there is only one page."))
        .into()
}

/// The result of one line of a batch.
pub(in crate::http) struct BatchAnswer;

impl PartialSchema for BatchAnswer {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new()
            .item(Ref::from_schema_name(TakenLine::name()))
            .item(Ref::from_schema_name(RejectedLine::name()))
            .description(Some("The result of one line of a batch."))
            .examples::<[Value; _], _>([examples::taken_line(), examples::rejected_line()])
            .into()
    }
}

impl ToSchema for BatchAnswer {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        with_schema::<TakenLine>(schemas);
        with_schema::<RejectedLine>(schemas);
    }
}

/// One server-sent event.
pub(in crate::http) struct StreamedEvent;

impl PartialSchema for StreamedEvent {
    fn schema() -> RefOr<Schema> {
        let example = |event: &str, data: Value| json!({"event": event, "data": data.to_string()});
        OneOfBuilder::new()
            .item(sse::<FinishedView>("attempt"))
            .item(sse::<MissedView>("missed"))
            .description(Some(
                "One server-sent event: a finished attempt, or the number of missed ones.",
            ))
            .examples::<[Value; _], _>([
                example("attempt", examples::finished()),
                example("missed", examples::missed()),
            ])
            .into()
    }
}

impl ToSchema for StreamedEvent {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        with_schema::<FinishedView>(schemas);
        with_schema::<MissedView>(schemas);
    }
}

/// Describes a server-sent event of this name, whose data is JSON text of a type.
fn sse<T: ToSchema>(event: &str) -> ObjectBuilder {
    let text = || ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
    let mut data = text().content_media_type("application/json").build();
    let of_data = format!("#/components/schemas/{}", T::name());
    conditions::with(&mut data, "contentSchema", json!({"$ref": of_data}));
    ObjectBuilder::new()
        .property("event", text().enum_values(Some([event])))
        .property("data", data)
        .required("event")
        .required("data")
}

/// Adds the schema of a type that is referred to, with those that it refers to.
fn with_schema<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    schemas.push((T::name().into_owned(), T::schema()));
    T::schemas(schemas);
}

/// A line whose event is durable.
#[derive(ToSchema)]
pub(in crate::http) struct TakenLine {
    /// The number of the line in the request, from 1; blank lines count.
    #[schema(minimum = 1)]
    line: u64,
    status: TakenStatus,
    /// The event, `evt_…`.
    id: String,
    /// The number of endpoints it goes to.
    deliveries: u32,
}

/// Whether the event is new (`accepted`) or was accepted earlier under the same key (`replayed`).
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(in crate::http) enum TakenStatus {
    Accepted,
    Replayed,
}

/// A line that was not accepted; it doesn't affect the others.
#[derive(ToSchema)]
pub(in crate::http) struct RejectedLine {
    /// The number of the line in the request, from 1; blank lines count.
    #[schema(minimum = 1)]
    line: u64,
    status: RejectedStatus,
    problem: Details<'static>,
}

/// `rejected`, or `cut`: the last line of a response that ends before the request does. `line` is then the first line
/// that was not read, and `problem` says why. Send it and the lines after it in a new request.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(in crate::http) enum RejectedStatus {
    Rejected,
    Cut,
}

/// The result of verifying a snapshot of the store.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", examples(json!({"ok": true, "rows": 52_417, "events": 12_002, "deliveries": 24_004,
    "damage": [], "storedBytes": 9_437_184, "metadataBytes": 524_288, "fragmentedBytes": 262_144, "secretsKeyId": null})))]
pub(in crate::http) struct CheckReport {
    /// Whether the store is free of damage.
    ok: bool,
    /// The number of rows checked.
    rows: u64,
    /// The number of events found.
    events: u64,
    /// The number of deliveries found.
    deliveries: u64,
    /// All damage, each with its place.
    damage: Vec<String>,
    /// The bytes that keys and values use in the file; null if damage prevents counting.
    #[schema(required)]
    stored_bytes: Option<u64>,
    /// The bytes that the trees around them use; null likewise.
    #[schema(required)]
    metadata_bytes: Option<u64>,
    /// The bytes of unused space within pages; null likewise.
    #[schema(required)]
    fragmented_bytes: Option<u64>,
    /// The id of the key that secrets are encrypted with; null if they are not encrypted.
    #[schema(required)]
    secrets_key_id: Option<String>,
}

/// The bytes of a file. They are no JSON, so nothing describes them.
pub(in crate::http) struct StoreFile;

impl PartialSchema for StoreFile {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(SchemaType::AnyValue)
            .into()
    }
}

impl ToSchema for StoreFile {}

/// The health of the daemon.
#[derive(ToSchema)]
#[schema(examples(json!({"status": "ok"})))]
pub(in crate::http) struct Health {
    /// `ok`. For `/readyz`: `ready`, or else the reason: `starting`, `stopping` or `the last commit failed`.
    status: String,
}
