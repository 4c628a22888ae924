//! API keys: creating, listing and revoking them.

use super::access::Caller;
use super::caller_views::ApiKeyView;
use super::fields::{self, query};
use super::ids::{At, OfApiKey};
use super::ingest;
use super::key_text::key_text;
use super::lists::{Moment, Paging};
use super::openapi::enums::ScopeName;
use super::openapi::responses::ApiKeyPage;
use super::problem::{Problem, not_done};
use super::views::ListView;
use super::{Answer, Shared, ask, request};
use crate::app::random_32;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use http::{HeaderMap, StatusCode, Uri};
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};
use stormhook_store::{ApiKey, CreateApiKey, List, RevokeApiKey, Scope, Scopes};
use utoipa::ToSchema;

const MAX_NAME_CHARS: usize = 128;

/// An API key to create.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewApiKey, examples(json!({"name": "orders", "organizationId": null, "scopes": ["ingest"], "expiresAt": null})))]
pub(super) struct NewBody {
    /// A name for people, 1 to 128 characters without control characters.
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    name: Name,
    /// The organization that the key is bound to: it sees and changes nothing of others. Null for all organizations.
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]+$")]
    organization_id: Option<Option<String>>,
    /// What the key allows, at least one. `admin` only without an organization.
    #[schema(value_type = Vec<ScopeName>, min_items = 1, max_items = 4)]
    scopes: ScopeNames,
    /// From when on the key is refused, RFC 3339 with any offset. Null if never.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Option<Moment>>,
}

/// A name for people.
struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let fits = (1..=MAX_NAME_CHARS).contains(&text.chars().count());
        if !fits || text.chars().any(char::is_control) {
            return Err(D::Error::custom(format!(
                "name must be 1 to {MAX_NAME_CHARS} characters, none of them a control character."
            )));
        }
        Ok(Self(text))
    }
}

/// A list of scopes.
struct ScopeNames(Scopes);

impl<'de> Deserialize<'de> for ScopeNames {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let words: Vec<ScopeName> = Vec::deserialize(from)?;
        let scopes = Scopes::of(words.iter().map(|ScopeName(scope)| *scope));
        if scopes.is_empty() || words.len() > Scope::ALL.len() {
            return Err(D::Error::custom(
                "scopes must have 1 to 4 of ingest, read, write and admin.",
            ));
        }
        Ok(Self(scopes))
    }
}

/// Creates an API key.
///
/// Only this response shows the key. Show it as a bearer token.
#[utoipa::path(post, path = "/v1/keys", tag = "operations", operation_id = "createApiKey", request_body = NewBody,
    responses((status = 201, description = "The API key, with the key.", body = ApiKeyView)))]
pub(super) async fn create(
    State(app): State<Shared>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    query::<()>(&uri)?;
    let body = request::json(&headers, body).await?;
    let asked: NewBody = fields::read(&body)?;
    let organization = asked.organization_id.flatten();
    let ScopeNames(scopes) = asked.scopes;
    if let Some(organization) = &organization {
        ingest::check_organization(organization)?;
        if scopes.has(Scope::Admin) {
            return Err(Problem::field(
                "scopes",
                "A key of one organization can't have the scope admin, which is about all. Omit admin, or the organization.",
            ));
        }
    }
    let expires_at = asked.expires_at.flatten().map(|Moment(at)| at);
    if expires_at.is_some_and(|until| until <= app.now()) {
        return Err(Problem::field(
            "expiresAt",
            "expiresAt is in the past. Give a later time, or null for a key that does not expire.",
        ));
    }
    let text = key_text(&*random_32()?);
    let create = CreateApiKey(Box::new(ApiKey {
        id: app.engine.new_api_key_id(),
        name: asked.name.0,
        organization,
        scopes,
        digest: Sha256::digest(text.as_bytes()).into(),
        created_at: app.now(),
        expires_at,
        revoked_at: None,
        last_used_at: None,
    }));
    let create = caller.attributed(create);
    let key = app.engine.submit(create).await;
    let key = key.map_err(|e| not_done(e, "API key"))?;
    let view = ApiKeyView::from(&*key).with_key(&text);
    Ok((StatusCode::CREATED, Json(view)).into_response())
}

/// Lists API keys.
///
/// Newest first. Revoked and expired keys are listed until `retention.audit` after their end.
#[utoipa::path(get, path = "/v1/keys", tag = "operations", operation_id = "listApiKeys", params(Paging),
    responses((status = 200, description = "A page.", body = ApiKeyPage)))]
pub(super) async fn list(State(app): State<Shared>, caller: Caller, uri: Uri) -> Answer {
    let (paging,) = query::<(Paging,)>(&uri)?;
    let (limit, cursor) = (paging.limit(), paging.cursor(List::ApiKeys, &caller.tag())?);
    let page = ask(&app, app.reader().api_keys(cursor, limit)).await?;
    let view = ListView::of(page, &caller, |key| ApiKeyView::from(&*key));
    Ok(Json(view).into_response())
}

/// Revokes an API key.
///
/// It is refused from the next request on, and streams that it has open end within a second. Revoking it again changes
/// nothing.
#[utoipa::path(delete, path = "/v1/keys/{id}", tag = "operations", operation_id = "revokeApiKey", params(OfApiKey),
    responses((status = 200, description = "The API key as it is now.", body = ApiKeyView)))]
pub(super) async fn revoke(
    State(app): State<Shared>,
    caller: Caller,
    At(key): At<OfApiKey>,
    uri: Uri,
) -> Answer {
    query::<()>(&uri)?;
    let revoke = caller.attributed(RevokeApiKey(key.id()?));
    let key = app.engine.submit(revoke).await;
    let key = key.map_err(|e| not_done(e, "API key"))?;
    Ok(Json(ApiKeyView::from(&*key)).into_response())
}
