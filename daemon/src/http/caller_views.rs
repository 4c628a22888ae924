//! What callers see of API keys and of the audit log.

use super::openapi::enums::{ActionName, PrincipalName, ScopeName};
use super::openapi::examples;
use serde::Serialize;
use serde_json::value::RawValue;
use stormhook_engine::times::{at, maybe_at};
use stormhook_store::{ApiKey, AuditEntry, Scope, UnixMs};
use utoipa::ToSchema;

/// An API key. The key itself is shown only when it is created.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ApiKey, examples(examples::api_key))]
pub struct ApiKeyView {
    /// `key_…`
    id: String,
    name: String,
    /// The organization that it is bound to.
    #[schema(required)]
    organization_id: Option<String>,
    #[schema(value_type = Vec<ScopeName>)]
    scopes: Vec<&'static str>,
    #[serde(serialize_with = "at")]
    #[schema(value_type = String, format = DateTime)]
    created_at: UnixMs,
    /// When it was last used, within a minute.
    #[serde(serialize_with = "maybe_at")]
    #[schema(required, value_type = Option<String>, format = DateTime)]
    last_used_at: Option<UnixMs>,
    /// From when on it is refused.
    #[serde(serialize_with = "maybe_at")]
    #[schema(required, value_type = Option<String>, format = DateTime)]
    expires_at: Option<UnixMs>,
    /// When it was revoked.
    #[serde(serialize_with = "maybe_at")]
    #[schema(required, value_type = Option<String>, format = DateTime)]
    revoked_at: Option<UnixMs>,
    /// Only when it is created: the key, `shk_` and 49 letters and digits. It can't be shown again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    key: Option<String>,
}

impl From<&ApiKey> for ApiKeyView {
    fn from(key: &ApiKey) -> Self {
        Self {
            id: key.id.to_string(),
            name: key.name.clone(),
            organization_id: key.organization.clone(),
            scopes: key.scopes.iter().map(Scope::as_str).collect(),
            created_at: key.created_at,
            last_used_at: key.last_used_at,
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
            key: None,
        }
    }
}

impl ApiKeyView {
    /// The same with the key itself.
    pub(super) fn with_key(self, key: &str) -> Self {
        Self {
            key: Some(key.to_owned()),
            ..self
        }
    }
}

/// A change that was made through the API, or by the daemon itself.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditEntry, examples(examples::audit_entry))]
pub struct AuditEntryView {
    /// When.
    #[serde(serialize_with = "at")]
    #[schema(value_type = String, format = DateTime)]
    at: UnixMs,
    principal: AuditPrincipal,
    #[schema(value_type = ActionName)]
    action: &'static str,
    /// The organization concerned; null if the change concerns none in particular.
    #[schema(required)]
    organization_id: Option<String>,
    /// The id of the changed object; null if there is none.
    #[schema(required)]
    target: Option<String>,
    /// The changed fields before the change, secrets and header values as `***`; null if there was nothing before.
    #[schema(required, value_type = Option<Object>)]
    before: Option<Box<RawValue>>,
    /// The same after the change.
    #[schema(required, value_type = Option<Object>)]
    after: Option<Box<RawValue>>,
    /// The request's header `x-stormhook-reason`.
    #[schema(required, max_length = 256)]
    reason: Option<String>,
    /// The `x-request-id` of the request.
    #[schema(required)]
    request_id: Option<String>,
}

/// Who made a change.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct AuditPrincipal {
    #[schema(value_type = PrincipalName)]
    kind: &'static str,
    /// The id of the API key, `key_…`; null of others.
    #[schema(required)]
    id: Option<String>,
    /// The name of the API key.
    #[schema(required)]
    name: Option<String>,
}

impl From<AuditEntry> for AuditEntryView {
    fn from(AuditEntry { id, by, what }: AuditEntry) -> Self {
        let object = |text: Option<String>| RawValue::from_string(text?).ok();
        Self {
            at: id.at(),
            principal: AuditPrincipal {
                kind: by.kind.as_str(),
                id: by.id,
                name: by.name,
            },
            action: what.action.as_str(),
            organization_id: what.organization,
            target: what.target,
            before: object(what.before),
            after: object(what.after),
            reason: by.reason,
            request_id: by.request_id,
        }
    }
}
