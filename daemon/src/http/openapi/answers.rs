//! What answers hold where no view of their own is serialized: pages, lines of a batch, reports. Described here, made by the handlers.
#![allow(dead_code, reason = "described, never made")]

use super::examples;
use crate::http::endpoints::EndpointView;
use crate::http::finished::{FinishedView, MissedView};
use crate::http::problem::Details;
use crate::http::views::{DamagedView, DeliveryJson, EventView, ExplainView};
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

macro_rules! pages {
    ($($(#[$what:meta])+ $name:ident of $row:ty;)+) => {$(
        $(#[$what])+
        #[derive(ToSchema)]
        #[schema(rename_all = "camelCase")]
        pub(in crate::http) struct $name {
            /// The rows, newest first. May be few, even none, while `nextCursor` is set.
            data: Vec<$row>,
            /// What may belong to the page and can't be read, since the store is damaged there; left out where that is nothing.
            #[schema(required = false, nullable = false)]
            damaged: Option<Vec<DamagedView>>,
            /// What to pass as `cursor` for the next page; null at the end.
            #[schema(required)]
            next_cursor: Option<String>,
        }
    )+};
}

pages! {
    /// Events without their data, newest first.
    EventPage of EventView;
    /// Endpoints without their secrets, newest first.
    EndpointPage of EndpointView;
    /// Deliveries without their attempts, newest first.
    DeliveryPage of DeliveryJson;
}

/// For each endpoint of an event's organization, why it was or wasn't sent the event.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct Explanation {
    /// Every endpoint that is known, deleted ones too.
    data: Vec<ExplainView>,
    /// Endpoints of which that can't be read, since the store is damaged there; left out where there are none.
    #[schema(required = false, nullable = false)]
    damaged: Option<Vec<DamagedView>>,
    /// Always null: there is one page.
    #[schema(schema_with = null, required)]
    next_cursor: (),
}

fn null() -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::Null))
        .description(Some("Always null: there is one page."))
        .into()
}

macro_rules! either {
    ($($(#[doc = $what:literal])+ $name:ident: $one:ty | $other:ty, $examples:expr;)+) => {$(
        $(#[doc = $what])+
        pub(in crate::http) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let either = OneOfBuilder::new()
                    .item(Ref::from_schema_name(<$one>::name()))
                    .item(Ref::from_schema_name(<$other>::name()))
                    .description(Some(concat!($($what),+).trim()));
                either.examples::<[serde_json::Value; _], _>($examples).into()
            }
        }

        impl ToSchema for $name {
            fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
                schemas.push((<$one>::name().into_owned(), <$one>::schema()));
                schemas.push((<$other>::name().into_owned(), <$other>::schema()));
                <$one>::schemas(schemas);
                <$other>::schemas(schemas);
            }
        }
    )+};
}

either! {
    /// What became of one line of a batch.
    BatchAnswer: TakenLine | RejectedLine, [examples::taken_line(), examples::rejected_line()];

    /// The `data` of one server-sent event: of `event: attempt` a finished attempt, of `event: missed` how many were missed.
    StreamedEvent: FinishedView | MissedView, [examples::finished(), examples::missed()];
}

/// A line whose event is durable.
#[derive(ToSchema)]
pub(in crate::http) struct TakenLine {
    /// Which line of the request, from 1; blank lines count.
    #[schema(minimum = 1)]
    line: u64,
    status: TakenStatus,
    /// The event, `evt_…`.
    id: String,
    /// How many endpoints it goes to.
    deliveries: u32,
}

/// Whether the event is new (`accepted`) or was taken before under the same key (`replayed`).
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(in crate::http) enum TakenStatus {
    Accepted,
    Replayed,
}

/// A line that was not taken; the others are none the worse for it.
#[derive(ToSchema)]
pub(in crate::http) struct RejectedLine {
    /// Which line of the request, from 1; blank lines count.
    #[schema(minimum = 1)]
    line: u64,
    status: RejectedStatus,
    problem: Details<'static>,
}

/// `rejected`, or `cut`: the last line of an answer that ends before the request does. `line` is then the first that was not read, and
/// `problem` says why. Send it and what follows in a new request.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(in crate::http) enum RejectedStatus {
    Rejected,
    Cut,
}

/// What the verification of a snapshot of the store came to.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", examples(json!({"ok": true, "rows": 52_417, "events": 12_002, "deliveries": 24_004,
    "damage": [], "storedBytes": 9_437_184, "metadataBytes": 524_288, "fragmentedBytes": 262_144})))]
pub(in crate::http) struct CheckReport {
    /// Whether nothing is damaged.
    ok: bool,
    /// Rows looked at.
    rows: u64,
    /// Events found.
    events: u64,
    /// Deliveries found.
    deliveries: u64,
    /// Every damage, named.
    damage: Vec<String>,
    /// What keys and values take of the file; null where damage keeps that from being known.
    #[schema(required)]
    stored_bytes: Option<u64>,
    /// What the trees around them take; null likewise.
    #[schema(required)]
    metadata_bytes: Option<u64>,
    /// Holes within pages; null likewise.
    #[schema(required)]
    fragmented_bytes: Option<u64>,
}

/// Whether the daemon serves.
#[derive(ToSchema)]
#[schema(examples(json!({"status": "ok"})))]
pub(in crate::http) struct Health {
    /// `ok`; of `/readyz` `ready`, else what keeps it from being so: `starting`, `stopping` or `the last commit failed`.
    status: String,
}
