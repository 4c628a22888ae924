//! Endpoints: creation, change, secrets, tests and recovery. Fields are read into the store's terms here, once.

use super::events::{self, REPLAYED};
use super::openapi::answers::EndpointPage;
use super::openapi::{bodies, params};
use super::problem::{Code, MAX_SHOWN_BYTES, Problem, not_done, unexpected};
use super::request::Id;
use super::views::{AttemptView, EndpointView, ListView, SecretsView};
use super::{Answer, Shared, blocking, ingest, object, request};
use crate::app::{App, NoRandomness};
use crate::headers::CustomHeaders;
use crate::target::TargetError;
use crate::text;
use crate::times::parse_duration;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;
use stormhook_store::endpoint::{EndpointChange, Ordering, Seed, TypePattern};
use stormhook_store::{
    Done, Endpoint, EndpointId, EndpointKey, List, NewEndpoint, Op, Recover, UnixMs,
};
use stormhook_verifier::Secret;

const MAX_EVENT_TYPES: usize = 64;
const MAX_DESCRIPTION_BYTES: usize = 1_024;
const OVERLAP_DEFAULT_MS: u64 = 24 * 3_600_000;
const OVERLAP_MAX_MS: u64 = 7 * 24 * 3_600_000;

/// What a new endpoint may be given.
const MEMBERS: [&str; 10] = [
    "organizationId",
    "url",
    "eventTypes",
    "secret",
    "active",
    "description",
    "headers",
    "rateLimitPerSecond",
    "ordering",
    "ed25519",
];

/// Makes an endpoint.
///
/// It receives the events that are accepted from now on. The answer is the only one but the secret route's that shows its secret.
/// The same request again under the same idempotency key (every member as it was written, in any order) is answered with the endpoint
/// as it is now, and has no other effect.
#[utoipa::path(post, path = "/v1/endpoints", tag = "endpoints", operation_id = "createEndpoint", params(params::IdempotencyKey),
    request_body = bodies::NewEndpoint, responses(
    (status = 201, description = "The endpoint, with its secret.", body = EndpointView),
    (status = 200, description = "Created before under the same key: as it is now, with its current secret.", body = EndpointView,
        headers(("Idempotency-Replayed" = bool, description = "Always `true`."))),
))]
pub(super) async fn create(
    State(app): State<Shared>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    request::query(&uri, [])?;
    let body = request::json(&headers, body).await?;
    let key = events::header_key(&headers)?;
    key.map(ingest::check_key).transpose()?;
    let members = object::members(&body, &MEMBERS)?;
    let request = digest_of(&members);
    let new = Box::new(read_new(&app, members)?);
    let op = match key {
        None => Op::CreateEndpoint(new),
        Some(key) => Op::CreateEndpointOnce {
            new,
            key: EndpointKey {
                key: key.to_owned(),
                request,
            },
        },
    };
    let view = |endpoint: &Endpoint| Json(EndpointView::of(&app, endpoint).with_secret(endpoint));
    Ok(match app.submit(op).await? {
        Done::EndpointReplayed(endpoint) => {
            let replayed = [(REPLAYED, HeaderValue::from_static("true"))];
            (StatusCode::OK, replayed, view(&endpoint)).into_response()
        }
        other => {
            let endpoint = done(other)?;
            (StatusCode::CREATED, view(&endpoint)).into_response()
        }
    })
}

/// The endpoint that the values of [`MEMBERS`] ask for.
fn read_new(
    app: &App,
    members: [Option<&RawValue>; MEMBERS.len()],
) -> Result<NewEndpoint, Problem> {
    let [
        organization,
        url,
        types,
        secret,
        active,
        description,
        headers,
        rate,
        ordering,
        ed25519,
    ] = members;
    let organization = object::text(
        object::required(organization, "organizationId")?,
        "organizationId",
    )?;
    ingest::check_organization(&organization)?;
    Ok(NewEndpoint {
        id: app.new_endpoint_id(),
        url: read_url(app, object::required(url, "url")?)?,
        event_types: read_types(object::required(types, "eventTypes")?)?,
        secret: secret_or_new(app, secret)?,
        seed: seed_where_asked(app, ed25519)?.flatten(),
        active: active
            .map(|v| object::typed(v, "active", "true or false"))
            .transpose()?
            .unwrap_or(true),
        description: nullable(description, read_description)?.flatten(),
        headers: nullable(headers, |v| read_headers(app, v))?
            .flatten()
            .unwrap_or_default(),
        rate_limit_per_second: nullable(rate, read_rate)?.flatten(),
        ordering: ordering.map(read_ordering).transpose()?.unwrap_or_default(),
        organization: organization.into_owned(),
    })
}

/// A digest of what was asked for, in whatever order.
fn digest_of(members: &[Option<&RawValue>]) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    for member in members {
        match member {
            None => hash.update([0]),
            Some(value) => {
                let length = u64::try_from(value.get().len()).unwrap_or(u64::MAX);
                hash.update([1]);
                hash.update(length.to_be_bytes());
                hash.update(value.get());
            }
        }
    }
    hash.finalize().into()
}

/// Lists endpoints.
///
/// Without their secrets, newest first.
#[utoipa::path(get, path = "/v1/endpoints", tag = "endpoints", operation_id = "listEndpoints", params(params::EndpointFilter, params::Paging),
    responses((status = 200, description = "A page.", body = EndpointPage)))]
pub(super) async fn list(State(app): State<Shared>, uri: Uri) -> Answer {
    let [organization, active, limit, cursor] =
        request::query(&uri, ["organizationId", "active", "limit", "cursor"])?;
    if let Some(organization) = &organization {
        ingest::check_organization(organization)?;
    }
    let active = match active.as_deref() {
        None => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(_) => return Err(Problem::field("active", "active must be true or false.")),
    };
    let limit = request::limit(limit.as_deref())?;
    let cursor = request::cursor(cursor.as_deref(), List::Endpoints)?;
    let page = app
        .reader()
        .endpoints(organization.as_deref(), active, cursor, limit);
    Ok(Json(ListView::of(page, |e| EndpointView::of(&app, &e))).into_response())
}

/// Shows an endpoint.
///
/// Without its secret.
#[utoipa::path(get, path = "/v1/endpoints/{id}", tag = "endpoints", operation_id = "getEndpoint", params(params::EndpointId),
    responses((status = 200, description = "The endpoint.", body = EndpointView)))]
pub(super) async fn show(State(app): State<Shared>, Id(id): Id, uri: Uri) -> Answer {
    request::query(&uri, [])?;
    let endpoint = found(&app, &id)?;
    Ok(Json(EndpointView::of(&app, &endpoint)).into_response())
}

/// Changes an endpoint.
///
/// What is named, and nothing else; null clears. Deactivated, it gets no deliveries for events accepted meanwhile, and those that
/// wait are held until it is activated.
#[utoipa::path(patch, path = "/v1/endpoints/{id}", tag = "endpoints", operation_id = "updateEndpoint", params(params::EndpointId),
    request_body = bodies::EndpointChange, responses((status = 200, description = "The endpoint as it is now.", body = EndpointView)))]
pub(super) async fn update(
    State(app): State<Shared>,
    Id(id): Id,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    request::query(&uri, [])?;
    let body = request::json(&headers, body).await?;
    let names = [
        "url",
        "eventTypes",
        "active",
        "discardHeld",
        "description",
        "headers",
        "rateLimitPerSecond",
        "ordering",
        "ed25519",
    ];
    let [
        url,
        types,
        active,
        discard,
        description,
        headers,
        rate,
        ordering,
        ed25519,
    ] = object::members(&body, &names)?;
    let change = EndpointChange {
        url: url.map(|v| read_url(&app, v)).transpose()?,
        event_types: types.map(read_types).transpose()?,
        active: active
            .map(|v| object::typed(v, "active", "true or false"))
            .transpose()?,
        discard_held: discard
            .map(|v| object::typed(v, "discardHeld", "true or false"))
            .transpose()?
            .unwrap_or(false),
        description: nullable(description, read_description)?,
        headers: nullable(headers, |v| read_headers(&app, v))?.map(Option::unwrap_or_default),
        rate_limit_per_second: nullable(rate, read_rate)?,
        ordering: ordering.map(read_ordering).transpose()?,
        seed: seed_where_asked(&app, ed25519)?,
    };
    if change.discard_held && change.active != Some(true) {
        return Err(Problem::field(
            "discardHeld",
            "discardHeld requires \"active\":true: it ends held deliveries instead of resuming them.",
        ));
    }
    let id = endpoint_id(&id)?;
    let change = Box::new(change);
    let endpoint = done(app.submit(Op::UpdateEndpoint { id, change }).await?)?;
    Ok(Json(EndpointView::of(&app, &endpoint)).into_response())
}

/// Deletes an endpoint.
///
/// Its open deliveries end as `FAILED` (`endpoint_deleted`).
#[utoipa::path(delete, path = "/v1/endpoints/{id}", tag = "endpoints", operation_id = "deleteEndpoint", params(params::EndpointId),
    responses((status = 204, description = "It is gone.")))]
pub(super) async fn delete(State(app): State<Shared>, Id(id): Id, uri: Uri) -> Answer {
    request::query(&uri, [])?;
    let id = endpoint_id(&id)?;
    done(app.submit(Op::DeleteEndpoint { id }).await?)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Shows an endpoint's secrets.
///
/// The current one, and earlier ones that still sign; with ed25519 the public key of each. A private key is never shown.
#[utoipa::path(get, path = "/v1/endpoints/{id}/secret", tag = "endpoints", operation_id = "getEndpointSecret", params(params::EndpointId),
    responses((status = 200, description = "The secrets that sign.", body = SecretsView)))]
pub(super) async fn secret(State(app): State<Shared>, Id(id): Id, uri: Uri) -> Answer {
    request::query(&uri, [])?;
    let endpoint = found(&app, &id)?;
    Ok(Json(SecretsView::of(&endpoint, app.paced())).into_response())
}

/// Gives an endpoint a new secret.
///
/// It signs from now on; earlier ones go on signing beside it for the overlap. At most four are live. With ed25519 it brings a new key
/// pair, and the earlier ones' sign for as long as they do.
#[utoipa::path(post, path = "/v1/endpoints/{id}/rotate-secret", tag = "endpoints", operation_id = "rotateEndpointSecret",
    params(params::EndpointId), request_body = Option<bodies::Rotation>,
    responses((status = 200, description = "The secrets that sign now.", body = SecretsView)))]
pub(super) async fn rotate(
    State(app): State<Shared>,
    Id(id): Id,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    request::query(&uri, [])?;
    let body = request::optional_json(&headers, body).await?;
    let [overlap, secret] = object::members(&body, &["overlap", "secret"])?;
    let overlap_ms = match overlap {
        None => OVERLAP_DEFAULT_MS,
        // Nothing needs no unit.
        Some(value) if value.get() == "0" => 0,
        Some(value) => read_overlap(value)?,
    };
    let id = endpoint_id(&id)?;
    let secret = secret_or_new(&app, secret)?;
    let op = Op::RotateSecret {
        id,
        secret,
        // Whether the endpoint signs with ed25519 is known for sure in the commit alone.
        seed: new_seed(&app)?,
        overlap_ms,
    };
    let endpoint = done(app.submit(op).await?)?;
    Ok(Json(SecretsView::of(&endpoint, app.paced())).into_response())
}

/// Sends a test to an endpoint.
///
/// A `stormhook.ping`, at once, also to an inactive endpoint. It is answered with the attempt and counts nowhere.
#[utoipa::path(post, path = "/v1/endpoints/{id}/test", tag = "endpoints", operation_id = "testEndpoint", params(params::EndpointId),
    request_body = Option<bodies::NoFields>, responses((status = 200, description = "The attempt, even when it failed.", body = AttemptView)))]
pub(super) async fn test(
    State(app): State<Shared>,
    Id(id): Id,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    request::query(&uri, [])?;
    super::no_fields(&headers, body).await?;
    let attempt = app.ping(endpoint_id(&id)?).await?;
    let attempt = attempt.ok_or_else(|| Problem::not_found("endpoint"))?;
    Ok(Json(AttemptView::from(&attempt)).into_response())
}

/// How much is recovered.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Recovered, examples(json!({"recovered": 17})))]
pub(super) struct RecoveredView {
    /// How many rounds were opened or, with `dryRun`, would be.
    recovered: u64,
}

/// Recovers an endpoint's deliveries.
///
/// New rounds for those that ended as `FAILED` or `ABANDONED`, of events accepted in the given time, and with `missed` first rounds
/// for events that it was subscribed to but inactive for. It takes effect at once and is worked off behind. What was discarded with
/// an attempt on the wire is waited for.
#[utoipa::path(post, path = "/v1/endpoints/{id}/recover", tag = "endpoints", operation_id = "recoverEndpoint", params(params::EndpointId),
    request_body = Option<bodies::Recovery>, responses((status = 202, description = "How many.", body = RecoveredView)))]
pub(super) async fn recover(
    State(app): State<Shared>,
    Id(id): Id,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    request::query(&uri, [])?;
    let body = request::optional_json(&headers, body).await?;
    let [since, until, missed, dry] =
        object::members(&body, &["since", "until", "missed", "dryRun"])?;
    let time = |value: Option<&RawValue>, field| {
        let text = value.map(|v| object::text(v, field)).transpose()?;
        request::instant(text.as_deref(), field)
    };
    let flag = |value: Option<&RawValue>, field| {
        let read = value.map(|v| object::typed(v, field, "true or false"));
        Ok::<_, Problem>(read.transpose()?.unwrap_or(false))
    };
    let endpoint = found(&app, &id)?;
    let since = time(since, "since")?.unwrap_or_default();
    let until = time(until, "until")?.unwrap_or(UnixMs(u64::MAX >> 16));
    if since >= until {
        return Err(Problem::field(
            "since",
            "since must be before until, which is exclusive.",
        ));
    }
    let recover = Recover {
        endpoint: endpoint.id,
        since,
        until,
        missed: flag(missed, "missed")?,
    };
    let dry = flag(dry, "dryRun")?;
    if !endpoint.receives() {
        return Err(super::problem::refused(
            stormhook_store::Refusal::EndpointInactive,
            "endpoint",
        ));
    }
    let asked = recover.clone();
    let count = blocking(&app, move |app| app.read(|r| r.count_recoverable(&asked))).await?;
    if !dry {
        match app.submit(Op::Recover(recover)).await? {
            Done::Recovering(_) => {}
            other => return Err(not_done(other, "endpoint")),
        }
    }
    let view = RecoveredView { recovered: count };
    Ok((StatusCode::ACCEPTED, Json(view)).into_response())
}

fn done(done: Done) -> Result<Arc<Endpoint>, Problem> {
    match done {
        Done::Endpoint(endpoint) => Ok(endpoint),
        other => Err(not_done(other, "endpoint")),
    }
}

fn endpoint_id(text: &str) -> Result<EndpointId, Problem> {
    EndpointId::parse(text).ok_or_else(|| Problem::not_found("endpoint"))
}

fn found(app: &App, id: &str) -> Result<Arc<Endpoint>, Problem> {
    let found = app.reader().endpoint(endpoint_id(id)?);
    found.ok_or_else(|| Problem::not_found("endpoint"))
}

/// Absent, cleared by null, or read.
fn nullable<T>(
    value: Option<&RawValue>,
    read: impl FnOnce(&RawValue) -> Result<T, Problem>,
) -> Result<Option<Option<T>>, Problem> {
    match value {
        None => Ok(None),
        Some(value) if object::is_null(value) => Ok(Some(None)),
        Some(value) => read(value).map(|read| Some(Some(read))),
    }
}

fn read_url(app: &App, value: &RawValue) -> Result<String, Problem> {
    let text = object::text(value, "url")?;
    app.judge_url(&text).map_err(|error| match error {
        TargetError::NotAUrl(_) => Problem::field("url", error.to_string()),
        TargetError::Refused(refusal) => Problem {
            code: Code::TargetRefused,
            detail: refusal.to_string().into(),
            field: Some("url".into()),
        },
    })
}

fn read_types(value: &RawValue) -> Result<Vec<TypePattern>, Problem> {
    let expected = "a list of 1 to 64 event types: a.b, a.* or *";
    let texts: Vec<String> = object::typed(value, "eventTypes", expected)?;
    if !(1..=MAX_EVENT_TYPES).contains(&texts.len()) {
        let came = texts.len();
        return Err(Problem::field(
            "eventTypes",
            format!("eventTypes must be {expected}, not {came}."),
        ));
    }
    texts
        .iter()
        .map(|text| {
            TypePattern::parse(text).ok_or_else(|| {
                let shown = text::cut(text.clone(), MAX_SHOWN_BYTES);
                Problem::field(
                    "eventTypes",
                    format!("{shown:?} is not an event type. Use a.b, a.* or *, with parts of A-Z, a-z, 0-9, _ and -."),
                )
            })
        })
        .collect()
}

fn read_overlap(value: &RawValue) -> Result<u64, Problem> {
    let expected = "a duration from \"0s\" to \"7d\", like \"24h\"";
    let text: String = object::typed(value, "overlap", expected)?;
    let overlap = match text.as_str() {
        "0" => Some(Duration::ZERO),
        text => parse_duration(text),
    };
    overlap
        .and_then(|overlap| u64::try_from(overlap.as_millis()).ok())
        .filter(|ms| *ms <= OVERLAP_MAX_MS)
        .ok_or_else(|| Problem::field("overlap", format!("overlap must be {expected}.")))
}

fn secret_or_new(app: &App, value: Option<&RawValue>) -> Result<Secret, Problem> {
    match value {
        Some(value) => {
            let text = zeroize::Zeroizing::new(object::text(value, "secret")?.into_owned());
            if is_quoted(&text) {
                return Err(Problem::field(
                    "secret",
                    "The secret is in quotes. Send it without them.",
                ));
            }
            Secret::parse(&text).map_err(|e| Problem::field("secret", e.to_string()))
        }
        None => app.new_secret().map_err(no_randomness),
    }
}

/// Whether a secret stands in quotes: they would become a part of it that the partner doesn't have.
pub(crate) fn is_quoted(secret: &str) -> bool {
    ['"', '\'', '`']
        .iter()
        .any(|quote| secret.len() > 1 && secret.starts_with(*quote) && secret.ends_with(*quote))
}

/// A seed to switch ed25519 on with, `Some(None)` to switch it off, or nothing to leave it as it is; null is the default, off.
fn seed_where_asked(app: &App, value: Option<&RawValue>) -> Result<Option<Option<Seed>>, Problem> {
    let asked = nullable(value, |v| object::typed(v, "ed25519", "true or false"))?;
    asked
        .map(|on| on.unwrap_or(false).then(|| new_seed(app)).transpose())
        .transpose()
}

fn new_seed(app: &App) -> Result<Seed, Problem> {
    app.new_seed().map_err(no_randomness)
}

fn no_randomness(error: NoRandomness) -> Problem {
    tracing::error!(%error, "a secret could not be generated");
    unexpected()
}

fn read_description(value: &RawValue) -> Result<String, Problem> {
    let text = object::text(value, "description")?;
    if text.len() > MAX_DESCRIPTION_BYTES {
        return Err(Problem::field(
            "description",
            format!(
                "description must be at most {MAX_DESCRIPTION_BYTES} bytes, not {}.",
                text.len()
            ),
        ));
    }
    Ok(text.into_owned())
}

fn read_headers(
    app: &App,
    value: &RawValue,
) -> Result<stormhook_store::endpoint::CustomHeaders, Problem> {
    let Pairs(pairs) = object::typed(
        value,
        "headers",
        "an object of names and values, both strings",
    )?;
    let config = app.config();
    CustomHeaders::parse(pairs, &config.delivery.signature_header)
        .map(|headers| stormhook_store::endpoint::CustomHeaders(headers.into_inner()))
        .map_err(|e| Problem::field("headers", e.to_string()))
}

/// An object's members in their order, repeated ones too: those are for the rules to judge.
struct Pairs(Vec<(String, String)>);

impl<'de> serde::Deserialize<'de> for Pairs {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reading;
        impl<'de> Visitor<'de> for Reading {
            type Value = Pairs;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        from.deserialize_map(Reading)
    }
}

fn read_rate(value: &RawValue) -> Result<f64, Problem> {
    let rate: f64 = object::typed(value, "rateLimitPerSecond", "a number above 0, or null")?;
    if rate > 0.0 && rate.is_finite() {
        return Ok(rate);
    }
    Err(Problem::field(
        "rateLimitPerSecond",
        "rateLimitPerSecond must be a number above 0, or null for no limit.",
    ))
}

fn read_ordering(value: &RawValue) -> Result<Ordering, Problem> {
    let text = object::text(value, "ordering")?;
    Ordering::parse(&text)
        .ok_or_else(|| Problem::field("ordering", "ordering must be parallel or fifo."))
}
