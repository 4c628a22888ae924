//! Endpoints: creating, listing, changing, deleting and testing them. Their settings, secrets and recovery have their
//! own modules.

pub(super) mod recovery;
pub(super) mod secrets;
pub(super) mod settings;
mod tls;
mod values;

pub use secrets::is_quoted;
pub use settings::EndpointView;

use super::access::Caller;
use super::events::{HeaderKey, REPLAYED};
use super::fields::{self, Members, query};
use super::ids::{At, OfEndpoint};
use super::lists::Paging;
use super::openapi::responses::EndpointPage;
use super::problem::{Problem, not_done};
use super::views::{AttemptView, ListView};
use super::{Answer, NoFields, Shared, ask, ingest, request};
use crate::app::App;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use serde::Deserialize;
use settings::{ChangeBody, NewBody};
use std::sync::Arc;
use stormhook_engine::dispatch::CommandError;
use stormhook_store::{
    CreateEndpoint, Created, DeleteEndpoint, Endpoint, EndpointKey, List, UpdateEndpoint,
};
use utoipa::IntoParams;

/// Creates an endpoint.
///
/// It receives the events that are accepted from now on. Only this response and that of the secret route show its
/// secret. The same request again under the same idempotency key (every member as it was written, in any order) returns
/// the endpoint as it is now and has no other effect.
#[utoipa::path(post, path = "/v1/endpoints", tag = "endpoints", operation_id = "createEndpoint", params(HeaderKey<'_>),
    request_body = NewBody, responses(
    (status = 201, description = "The endpoint, with its secret.", body = EndpointView),
    (status = 200, description = "Created earlier under the same key. The endpoint as it is now, with its current secret.", body = EndpointView,
        headers(("Idempotency-Replayed" = bool, description = "Always `true`."))),
))]
pub(super) async fn create(
    State(app): State<Shared>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    query::<()>(&uri)?;
    let body = request::json(&headers, body).await?;
    let HeaderKey { key } = HeaderKey::of(&headers)?;
    key.map(ingest::check_key).transpose()?;
    let members = Members::of::<NewBody>(&body)?;
    let request = digest_of(&members);
    let new = Box::new(members.read::<NewBody>()?.into_new(&app)?);
    let key = key.map(|key| EndpointKey {
        key: key.to_owned(),
        request,
    });
    caller.expect_organization(&new.organization)?;
    let create = caller.attributed(CreateEndpoint { new, key });
    let created = app.engine.submit(create).await;
    let Created { endpoint, replayed } = created.map_err(failed)?;
    let view = Json(EndpointView::of(&app, &endpoint).with_secret(&endpoint));
    Ok(if replayed {
        let replayed = [(REPLAYED, HeaderValue::from_static("true"))];
        (StatusCode::OK, replayed, view).into_response()
    } else {
        (StatusCode::CREATED, view).into_response()
    })
}

/// A digest of the request: each member as it was written, in a fixed order.
fn digest_of(members: &Members<'_>) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    for value in members.values() {
        match value {
            None => hash.update([0]),
            Some(value) => {
                let length = u64::try_from(value.len()).unwrap_or(u64::MAX);
                hash.update([1]);
                hash.update(length.to_be_bytes());
                hash.update(value);
            }
        }
    }
    hash.finalize().into()
}

/// Which endpoints to list.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct EndpointQuery {
    /// Endpoints of this organization.
    #[param(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]+$")]
    organization_id: Option<String>,
    /// Only active ones, or only inactive ones.
    active: Option<bool>,
}

/// Lists endpoints.
///
/// Newest first, without their secrets.
#[utoipa::path(get, path = "/v1/endpoints", tag = "endpoints", operation_id = "listEndpoints", params(EndpointQuery, Paging),
    responses((status = 200, description = "A page.", body = EndpointPage)))]
pub(super) async fn list(State(app): State<Shared>, caller: Caller, uri: Uri) -> Answer {
    let (asked, paging) = query::<(EndpointQuery, Paging)>(&uri)?;
    let organization = asked.organization_id.as_deref();
    organization.map(ingest::check_organization).transpose()?;
    let organization = caller.within(asked.organization_id)?;
    let organization = organization.as_deref();
    let (limit, cursor) = (
        paging.limit(),
        paging.cursor(List::Endpoints, &caller.tag())?,
    );
    let endpoints = app
        .reader()
        .endpoints(organization, asked.active, cursor, limit);
    let page = ask(&app, endpoints).await?;
    Ok(Json(ListView::of(page, &caller, |(e, state)| {
        EndpointView::stored(&e, state)
    }))
    .into_response())
}

/// Shows an endpoint.
///
/// Without its secret.
#[utoipa::path(get, path = "/v1/endpoints/{id}", tag = "endpoints", operation_id = "getEndpoint", params(OfEndpoint),
    responses((status = 200, description = "The endpoint.", body = EndpointView)))]
pub(super) async fn show(
    State(app): State<Shared>,
    At(endpoint): At<OfEndpoint>,
    uri: Uri,
) -> Answer {
    query::<()>(&uri)?;
    let endpoint = found(&app, &endpoint)?;
    Ok(Json(EndpointView::of(&app, &endpoint)).into_response())
}

/// Changes an endpoint.
///
/// Changes only the fields that are sent; null clears a field. While an endpoint is inactive, no deliveries are created
/// for new events, and its open deliveries are held until it is activated.
#[utoipa::path(patch, path = "/v1/endpoints/{id}", tag = "endpoints", operation_id = "updateEndpoint", params(OfEndpoint),
    request_body = ChangeBody, responses((status = 200, description = "The endpoint as it is now.", body = EndpointView)))]
pub(super) async fn update(
    State(app): State<Shared>,
    caller: Caller,
    At(endpoint): At<OfEndpoint>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    query::<()>(&uri)?;
    let body = request::json(&headers, body).await?;
    let change = fields::read::<ChangeBody>(&body)?.into_change(&app)?;
    let update = UpdateEndpoint {
        id: endpoint.id()?,
        change: Box::new(change),
    };
    let update = caller.attributed(update);
    let endpoint = app.engine.update_endpoint(update).await.map_err(failed)?;
    Ok(Json(EndpointView::of(&app, &endpoint)).into_response())
}

/// Deletes an endpoint.
///
/// Its open deliveries end as `FAILED` (`endpoint_deleted`).
#[utoipa::path(delete, path = "/v1/endpoints/{id}", tag = "endpoints", operation_id = "deleteEndpoint", params(OfEndpoint),
    responses((status = 204, description = "Deleted.")))]
pub(super) async fn delete(
    State(app): State<Shared>,
    caller: Caller,
    At(endpoint): At<OfEndpoint>,
    uri: Uri,
) -> Answer {
    query::<()>(&uri)?;
    let id = endpoint.id()?;
    let delete = caller.attributed(DeleteEndpoint { id });
    let deleted = app.engine.submit(delete).await;
    deleted.map_err(failed)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Sends a test event to an endpoint.
///
/// Sends a `stormhook.ping` immediately, even to an inactive endpoint, and returns the attempt. The attempt counts in
/// no stats.
#[utoipa::path(post, path = "/v1/endpoints/{id}/test", tag = "endpoints", operation_id = "testEndpoint", params(OfEndpoint),
    request_body = Option<NoFields>, responses((status = 200, description = "The attempt, whether it succeeded or failed.", body = AttemptView)))]
pub(super) async fn test(
    State(app): State<Shared>,
    At(endpoint): At<OfEndpoint>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    query::<()>(&uri)?;
    NoFields::read(&headers, body).await?;
    let attempt = app.engine.ping(endpoint.id()?).await?;
    Ok(Json(AttemptView::from(&attempt)).into_response())
}

fn failed(error: CommandError) -> Problem {
    not_done(error, "endpoint")
}

fn found(app: &App, endpoint: &OfEndpoint) -> Result<Arc<Endpoint>, Problem> {
    let found = app.reader().endpoint(endpoint.id()?);
    found.ok_or_else(|| Problem::not_found("endpoint"))
}
