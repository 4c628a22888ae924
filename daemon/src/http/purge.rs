//! Removing what events hold, and deleting organizations.

use super::access::Caller;
use super::fields::{self, query};
use super::ids::{At, Given, OfOrganization};
use super::ingest;
use super::lists::Moment;
use super::openapi::examples;
use super::problem::{Problem, not_done};
use super::{Answer, Shared, request};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use http::{HeaderMap, StatusCode, Uri};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use stormhook_engine::times::maybe_at;
use stormhook_store::purge::PURGED_EVENTS;
use stormhook_store::{BeginPurge, DeleteOrganization, EventId, PurgeScope, UnixMs};
use utoipa::ToSchema;

/// Which events of an organization to purge: some by id, or all up to a time.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewPurge, examples(json!({"organizationId": "org_42", "eventIds": ["evt_01JZ8M3Y6Q2V7K9D4T5B8C1N0A"]}),
    json!({"organizationId": "org_42", "before": "2026-01-02T00:00:00Z"})))]
pub(super) struct NewPurge {
    /// The organization.
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]+$")]
    organization_id: String,
    /// These events, 1 to 100. Those that the organization doesn't have are ignored. Either this or `before`.
    #[schema(value_type = Vec<EventIdText>, required = false, min_items = 1, max_items = 100)]
    event_ids: Option<EventIds>,
    /// Events accepted before this time, RFC 3339 with any offset. Events that are accepted later stay, whatever the
    /// time. Either this or `eventIds`.
    #[schema(value_type = String, required = false, format = DateTime)]
    before: Option<Moment>,
}

/// The id of an event.
#[derive(ToSchema)]
#[schema(as = EventId, pattern = "^evt_[0-7][0-9A-HJKMNP-TV-Z]{25}$", examples("evt_01JZ8M3Y6Q2V7K9D4T5B8C1N0A"))]
#[allow(dead_code, reason = "it describes what is read as an id")]
pub(in crate::http) struct EventIdText(String);

/// Ids of events.
struct EventIds(Vec<EventId>);

impl<'de> Deserialize<'de> for EventIds {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let ids: Vec<Given<EventId>> = Vec::deserialize(from)?;
        if ids.is_empty() || ids.len() > PURGED_EVENTS {
            let most = PURGED_EVENTS;
            return Err(D::Error::custom(format!(
                "eventIds must have 1 to {most} ids. Send several requests for more, or give before."
            )));
        }
        Ok(Self(ids.into_iter().map(|Given(id)| id).collect()))
    }
}

/// A purge that has begun.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Purge, examples(examples::purge))]
pub(in crate::http) struct PurgeView {
    organization_id: String,
    /// The events; null if they are given by time.
    #[schema(required)]
    event_ids: Option<Vec<String>>,
    /// Before when they were accepted; null if they are given by id.
    #[serde(serialize_with = "maybe_at")]
    #[schema(required, value_type = Option<String>, format = DateTime)]
    before: Option<UnixMs>,
}

/// A deleted organization.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeletedOrganization, examples(json!({"organizationId": "org_42", "endpoints": 2, "apiKeys": 1})))]
pub(in crate::http) struct DeletedOrganizationView {
    organization_id: String,
    /// The number of endpoints that were deleted now.
    endpoints: usize,
    /// The number of API keys that were revoked now.
    api_keys: usize,
}

/// Purges events.
///
/// From the answer on, no response shows the data of these events or what receivers answered, and no attempt begins. In
/// the background the data is removed from the store, and open deliveries end as `FAILED` (`purged`). An attempt on the
/// wire is finished first. The events stay listed, without data, and none of them can be sent again.
#[utoipa::path(post, path = "/v1/events/purge", tag = "operations", operation_id = "purgeEvents", request_body = NewPurge,
    responses((status = 202, description = "The purge.", body = PurgeView)))]
pub(super) async fn purge(
    State(app): State<Shared>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    query::<()>(&uri)?;
    let body = request::json(&headers, body).await?;
    let asked: NewPurge = fields::read(&body)?;
    let organization = asked.organization_id;
    let (scope, event_ids, before) = match (asked.event_ids, asked.before) {
        (Some(EventIds(events)), None) => {
            let ids = events.iter().map(ToString::to_string).collect();
            (PurgeScope::Events(events), Some(ids), None)
        }
        (None, Some(Moment(before))) => {
            let scope = PurgeScope::Before(EventId::first_of(before));
            (scope, None, Some(before))
        }
        _ => {
            return Err(Problem::field(
                "eventIds",
                "Give either eventIds or before.",
            ));
        }
    };
    ingest::check_organization(&organization)?;
    let begin = caller.attributed(BeginPurge {
        organization,
        scope,
    });
    let purge = app.engine.submit(begin).await;
    let purge = purge.map_err(|e| not_done(e, "organization"))?;
    let view = PurgeView {
        organization_id: purge.organization,
        event_ids,
        before,
    };
    Ok((StatusCode::ACCEPTED, Json(view)).into_response())
}

/// Deletes an organization.
///
/// Its endpoints are deleted and its API keys revoked at once, and no response shows its events, deliveries, endpoints
/// or API keys any more. In the background all of it is removed from the store. The audit log keeps its entries. What
/// the organization creates or sends afterwards is not affected. Deleting it again changes nothing.
#[utoipa::path(delete, path = "/v1/organizations/{id}", tag = "operations", operation_id = "deleteOrganization",
    params(OfOrganization),
    responses((status = 202, description = "What was deleted.", body = DeletedOrganizationView)))]
pub(super) async fn delete_organization(
    State(app): State<Shared>,
    caller: Caller,
    At(organization): At<OfOrganization>,
    uri: Uri,
) -> Answer {
    query::<()>(&uri)?;
    let organization = organization.id()?;
    let delete = caller.attributed(DeleteOrganization {
        organization: organization.clone(),
    });
    let deleted = app.engine.submit(delete).await;
    let deleted = deleted.map_err(|e| not_done(e, "organization"))?;
    let view = DeletedOrganizationView {
        organization_id: organization,
        endpoints: deleted.endpoints,
        api_keys: deleted.api_keys,
    };
    Ok((StatusCode::ACCEPTED, Json(view)).into_response())
}
