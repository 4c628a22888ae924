//! The settings of an endpoint: as a request sends them, to create or change an endpoint, and as responses show them.

use super::secrets::{NewSecret, new_seed, public_key, secret_schema};
use super::tls::{self, TlsBody, TlsView, WarningView, Written};
use super::values::{Description, EventTypes, Headers, Rate, event_types, headers, url};
use crate::app::App;
use crate::headers::CustomHeaders;
use crate::http::ingest::check_organization;
use crate::http::openapi::enums;
use crate::http::openapi::examples::{ENDPOINT, HAPPENED};
use crate::http::problem::{Code, Problem};
use crate::target::TargetError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use stormhook_engine::times::{at, maybe_at};
use stormhook_store::endpoint::{self, EndpointChange, EndpointTls, Seed, Settings};
use stormhook_store::{Endpoint, EndpointState, NewEndpoint, UnixMs};
use utoipa::ToSchema;

/// An endpoint to create.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewEndpoint, examples(json!({"organizationId": "org_42", "url": "https://partner.example/hooks",
    "eventTypes": ["order.*"], "headers": {"x-api-key": "k-123"}})))]
pub(super) struct NewBody {
    /// The organization whose events it receives.
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]+$")]
    organization_id: String,
    #[schema(schema_with = url)]
    url: String,
    #[schema(schema_with = event_types)]
    event_types: EventTypes,
    #[schema(schema_with = secret_schema, required = false)]
    secret: Option<NewSecret>,
    /// Whether it receives deliveries from the start.
    #[schema(nullable = false, default = true)]
    active: Option<bool>,
    /// A note for people, at most 1,024 characters.
    #[schema(value_type = Option<String>, max_length = 1024)]
    description: Option<Option<Description>>,
    #[schema(schema_with = headers, required = false)]
    headers: Option<Option<Headers>>,
    /// Attempts per second, with a burst of one second; null for no limit.
    #[schema(value_type = Option<f64>, exclusive_minimum = 0.0)]
    rate_limit_per_second: Option<Option<Rate>>,
    #[schema(value_type = enums::Ordering, required = false, default = "parallel")]
    ordering: Option<enums::Ordering>,
    /// A client certificate, and certificates to trust; null for none.
    #[schema(value_type = Option<TlsBody>)]
    tls: Option<Option<Written>>,
    /// Whether `webhook-signature` also holds ed25519 signatures (`v1a`), which a receiver verifies with a public key;
    /// null is false.
    #[schema(value_type = Option<bool>, default = false)]
    ed25519: Option<Option<bool>>,
}

impl NewBody {
    /// Returns the endpoint to create.
    pub(super) fn into_new(self, app: &App) -> Result<NewEndpoint, Problem> {
        check_organization(&self.organization_id)?;
        Ok(NewEndpoint {
            id: app.engine.new_endpoint_id(),
            settings: Settings {
                url: judged(app, &self.url)?,
                event_types: self.event_types.0,
                active: self.active.unwrap_or(true),
                disabled_reason: None,
                description: self.description.flatten().map(|Description(text)| text),
                headers: headers_of(app, self.headers.flatten())?,
                rate_limit_per_second: self.rate_limit_per_second.flatten().map(|Rate(rate)| rate),
                ordering: self
                    .ordering
                    .map(|enums::Ordering(it)| it)
                    .unwrap_or_default(),
                tls: tls_of(self.tls)?.flatten(),
            },
            secret: NewSecret::or_made(self.secret, app)?,
            seed: seed_where_asked(app, self.ed25519)?.flatten(),
            organization: self.organization_id,
        })
    }
}

/// What to change of an endpoint. Omitted fields stay as they are; null clears a field.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = EndpointChange, examples(json!({"active": false}), json!({"active": true, "discardHeld": true}),
    json!({"eventTypes": ["order.*", "invoice.paid"], "description": null})))]
pub(super) struct ChangeBody {
    #[schema(schema_with = url, required = false)]
    url: Option<String>,
    #[schema(schema_with = event_types, required = false)]
    event_types: Option<EventTypes>,
    /// False disables the endpoint: an attempt on the wire finishes, and none starts after the response. True resumes
    /// held deliveries and clears `disabledReason` and `failureCount`.
    #[schema(nullable = false)]
    active: Option<bool>,
    /// With `"active": true`: ends held deliveries as `FAILED` (`discarded`) instead of resuming them.
    #[schema(nullable = false, default = false)]
    discard_held: Option<bool>,
    /// A note for people, at most 1,024 characters.
    #[schema(value_type = Option<String>, max_length = 1024)]
    description: Option<Option<Description>>,
    #[schema(schema_with = headers, required = false)]
    headers: Option<Option<Headers>>,
    /// Attempts per second, with a burst of one second; null for no limit.
    #[schema(value_type = Option<f64>, exclusive_minimum = 0.0)]
    rate_limit_per_second: Option<Option<Rate>>,
    #[schema(value_type = enums::Ordering, required = false)]
    ordering: Option<enums::Ordering>,
    /// A client certificate, and certificates to trust: replaces what was set, as a whole. Null removes it.
    #[schema(value_type = Option<TlsBody>)]
    tls: Option<Option<Written>>,
    /// True gives the current secret a key pair, unless it has one. False deletes the key pairs of all secrets
    /// permanently. Null is false.
    #[schema(value_type = Option<bool>)]
    ed25519: Option<Option<bool>>,
}

impl ChangeBody {
    /// Returns the change to make.
    pub(super) fn into_change(self, app: &App) -> Result<EndpointChange, Problem> {
        let discard_held = self.discard_held.unwrap_or(false);
        let change = EndpointChange {
            url: self.url.map(|url| judged(app, &url)).transpose()?,
            event_types: self.event_types.map(|EventTypes(types)| types),
            active: self.active,
            discard_held,
            description: self.description.map(|it| it.map(|Description(text)| text)),
            headers: self.headers.map(|it| headers_of(app, it)).transpose()?,
            rate_limit_per_second: self
                .rate_limit_per_second
                .map(|it| it.map(|Rate(rate)| rate)),
            ordering: self.ordering.map(|enums::Ordering(it)| it),
            tls: tls_of(self.tls)?,
            seed: seed_where_asked(app, self.ed25519)?,
        };
        if discard_held && change.active != Some(true) {
            return Err(Problem::field(
                "discardHeld",
                "discardHeld requires \"active\":true: it ends held deliveries instead of resuming them.",
            ));
        }
        Ok(change)
    }
}

/// An endpoint.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Endpoint, examples(example))]
pub struct EndpointView {
    /// `ep_…`
    id: String,
    organization_id: String,
    /// Its URL, in the normal form of the URL standard.
    url: String,
    /// The event types it subscribes to: `a.b`, `a.*` or `*`.
    event_types: Vec<String>,
    /// Whether it receives deliveries.
    active: bool,
    /// Why the daemon disabled it; null if it didn't.
    #[schema(required)]
    disabled_reason: Option<String>,
    /// A note for people.
    #[schema(required)]
    description: Option<String>,
    /// The headers sent with each attempt: names, with `***` for values.
    headers: BTreeMap<String, &'static str>,
    /// Attempts per second, with a burst of one second; null for no limit.
    #[schema(required)]
    rate_limit_per_second: Option<f64>,
    #[schema(value_type = enums::Ordering)]
    ordering: &'static str,
    /// A client certificate, and certificates to trust; omitted if neither is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    tls: Option<TlsView>,
    /// True if `webhook-signature` also holds ed25519 signatures (`v1a`); omitted otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    ed25519: bool,
    /// Consecutive failed attempts.
    failure_count: u32,
    /// When an attempt last succeeded; null if none has.
    #[serde(serialize_with = "maybe_at")]
    #[schema(value_type = Option<String>, format = DateTime, required)]
    last_success_at: Option<UnixMs>,
    /// When it was created.
    #[serde(serialize_with = "at")]
    #[schema(value_type = String, format = DateTime)]
    created_at: UnixMs,
    /// When its settings last changed.
    #[serde(serialize_with = "at")]
    #[schema(value_type = String, format = DateTime)]
    updated_at: UnixMs,
    /// Only in the response to its creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    secret: Option<String>,
    /// With `secret`, if `ed25519` is enabled: the public key that verifies `v1a` signatures, `whpk_…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    public_key: Option<String>,
    /// What needs attention soon; omitted if there is nothing, and in lists.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    warnings: Vec<WarningView>,
}

impl EndpointView {
    pub(crate) fn of(app: &App, e: &Endpoint) -> Self {
        let now = app.wall();
        let tls = e.tls.as_deref();
        let mut warnings = tls.map_or_else(Vec::new, |tls| tls::warnings(tls, now));
        let server = app.server_certificate(&e.url);
        warnings.extend(server.and_then(|validity| tls::server_warning(validity, now)));
        Self {
            warnings,
            ..Self::stored(e, app.reader().state(e.slot))
        }
    }

    /// An endpoint as the store has it, without what the daemon knows.
    pub fn stored(e: &Endpoint, state: EndpointState) -> Self {
        Self {
            id: e.id.to_string(),
            organization_id: e.organization.clone(),
            url: e.url.clone(),
            event_types: e.event_types.iter().map(ToString::to_string).collect(),
            active: e.active,
            disabled_reason: e.disabled_reason.clone(),
            description: e.description.clone(),
            headers: e
                .headers
                .0
                .keys()
                .map(|name| (name.clone(), "***"))
                .collect(),
            rate_limit_per_second: e.rate_limit_per_second,
            ordering: e.ordering.as_str(),
            tls: e.tls.as_deref().map(TlsView::of),
            ed25519: e.signs_with_ed25519(),
            failure_count: state.failure_count,
            last_success_at: state.last_success_at,
            created_at: e.created_at,
            updated_at: e.updated_at,
            secret: None,
            public_key: None,
            warnings: Vec::new(),
        }
    }

    pub(crate) fn with_secret(mut self, e: &Endpoint) -> Self {
        let current = e.secrets.first();
        self.secret = current.map(|live| live.secret.expose().to_owned());
        self.public_key = current.and_then(public_key);
        self
    }
}

/// An example endpoint.
fn example() -> Value {
    json!({
        "id": ENDPOINT, "organizationId": "org_42", "url": "https://partner.example/hooks", "eventTypes": ["order.*"],
        "active": true, "disabledReason": null, "description": null, "headers": {"x-api-key": "***"},
        "rateLimitPerSecond": null, "ordering": "parallel", "failureCount": 0, "lastSuccessAt": null,
        "createdAt": HAPPENED, "updatedAt": HAPPENED,
    })
}

/// Returns the URL in its normal form, if policy allows it.
fn judged(app: &App, url: &str) -> Result<String, Problem> {
    app.judge_url(url).map_err(|error| match error {
        TargetError::NotAUrl(_) => Problem::field("url", error.to_string()),
        TargetError::Refused(refusal) => Problem {
            code: Code::TargetRefused,
            detail: refusal.to_string().into(),
            field: Some("url".into()),
        },
    })
}

/// Returns the headers, if they may be sent; null means none.
fn headers_of(app: &App, headers: Option<Headers>) -> Result<endpoint::CustomHeaders, Problem> {
    let Some(Headers(pairs)) = headers else {
        return Ok(endpoint::CustomHeaders::default());
    };
    CustomHeaders::parse(pairs, &app.config().delivery.signature_header)
        .map(|headers| endpoint::CustomHeaders(headers.into_inner()))
        .map_err(|e| Problem::field("headers", e.to_string()))
}

/// Returns the TLS settings if they were sent; null means none.
fn tls_of(sent: Option<Option<Written>>) -> Result<Option<Option<Arc<EndpointTls>>>, Problem> {
    sent.map(|tls| tls.map_or(Ok(None), |tls| tls.parse()))
        .transpose()
}

/// Returns a seed to enable ed25519 with, `Some(None)` to disable it, or `None` to leave it as it is. Null is the
/// default: disabled.
fn seed_where_asked(
    app: &App,
    asked: Option<Option<bool>>,
) -> Result<Option<Option<Seed>>, Problem> {
    asked
        .map(|on| on.unwrap_or(false).then(|| new_seed(app)).transpose())
        .transpose()
}
