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
use serde::de::{Error, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};
use stormhook_engine::times::maybe_at;
use stormhook_store::purge::PURGED_EVENTS;
use stormhook_store::{BeginPurge, DeleteOrganization, EventId, PurgeScope, UnixMs};
use utoipa::ToSchema;

/// Which events of an organization to purge: these, or all up to a time.
#[derive(ToSchema)]
#[schema(as = NewPurge)]
#[serde(untagged)]
#[allow(
    dead_code,
    reason = "it describes the body, which is read by its fields"
)]
pub(super) enum NewPurge {
    Events(PurgeOfEvents),
    Before(PurgeBefore),
}

/// Purges some events.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(examples(json!({"organizationId": "org_42", "eventIds": ["evt_01JZ8M3Y6Q2V7K9D4T5B8C1N0A"]})))]
pub(super) struct PurgeOfEvents {
    /// The organization.
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]+$")]
    organization_id: String,
    /// The events, 1 to 100. Those that the organization doesn't have are ignored.
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 100)]
    event_ids: EventIds,
}

/// Purges all events up to a time.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(examples(json!({"organizationId": "org_42", "before": "2026-01-02T00:00:00Z"})))]
pub(super) struct PurgeBefore {
    /// The organization.
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]+$")]
    organization_id: String,
    /// Events accepted before this time, RFC 3339 with any offset. Events that are accepted later stay, whatever the
    /// time.
    #[schema(value_type = String, format = DateTime)]
    before: Moment,
}

/// The fields that tell which of the two a body is.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    event_ids: Option<IgnoredAny>,
    before: Option<IgnoredAny>,
}

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
    // What is no object at all is refused below.
    let told: Told = serde_json::from_slice(&body).unwrap_or_default();
    let (organization, scope, view) = match told {
        Told {
            event_ids: None,
            before: None,
        } if serde_json::from_slice::<Told>(&body).is_ok() => {
            return Err(Problem::field(
                "eventIds",
                "Name the events in eventIds, or give before.",
            ));
        }
        Told {
            event_ids: Some(_), ..
        } => {
            let asked: PurgeOfEvents = fields::read(&body)?;
            let EventIds(events) = asked.event_ids;
            let ids = events.iter().map(ToString::to_string).collect();
            let scope = PurgeScope::Events(events);
            (asked.organization_id, scope, (Some(ids), None))
        }
        Told { .. } => {
            let asked: PurgeBefore = fields::read(&body)?;
            let Moment(before) = asked.before;
            let scope = PurgeScope::Before(EventId::first_of(before));
            (asked.organization_id, scope, (None, Some(before)))
        }
    };
    ingest::check_organization(&organization)?;
    let begin = caller.attributed(BeginPurge {
        organization,
        scope,
    });
    let purge = app.engine.submit(begin).await;
    let purge = purge.map_err(|e| not_done(e, "organization"))?;
    let (event_ids, before) = view;
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
