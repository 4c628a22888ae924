//! The secrets of an endpoint: showing and rotating them.

use super::{failed, found};
use crate::app::App;
use crate::http::access::Caller;
use crate::http::fields::{self, query};
use crate::http::ids::{At, OfEndpoint};
use crate::http::openapi::{conditions, examples, patterns};
use crate::http::problem::Problem;
use crate::http::{Answer, Shared, request};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use http::{HeaderMap, Uri};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;
use std::fmt;
use std::time::Duration;
use stormhook_engine::payload::private_key;
use stormhook_engine::times::{parse_duration, rfc3339};
use stormhook_store::endpoint::{LiveSecret, Seed};
use stormhook_store::{Action, Audited, Endpoint, RecordAudit, RotateSecret, UnixMs};
use stormhook_verifier::Secret;
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{
    AnyOfBuilder, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type,
};
use zeroize::Zeroizing;

const OVERLAP_DEFAULT_MS: u64 = 24 * 3_600_000;
const OVERLAP_MAX_MS: u64 = 7 * 24 * 3_600_000;

/// Shows an endpoint's secrets.
///
/// Returns the current secret and the earlier ones that still sign; with ed25519 also the public key of each. Private
/// keys are never shown.
#[utoipa::path(get, path = "/v1/endpoints/{id}/secret", tag = "endpoints", operation_id = "getEndpointSecret", params(OfEndpoint),
    responses((status = 200, description = "The secrets that sign.", body = SecretsView)))]
pub(in crate::http) async fn secret(
    State(app): State<Shared>,
    caller: Caller,
    At(endpoint): At<OfEndpoint>,
    uri: Uri,
) -> Answer {
    query::<()>(&uri)?;
    let endpoint = found(&app, &endpoint)?;
    // Durable before the secret is shown.
    let revealed = RecordAudit(Audited {
        organization: Some(endpoint.organization.clone()),
        target: Some(endpoint.id.to_string()),
        ..Audited::of(Action::EndpointRevealSecret)
    });
    let revealed = caller.attributed(revealed);
    app.engine.submit(revealed).await.map_err(failed)?;
    Ok(Json(SecretsView::of(&endpoint, app.paced())).into_response())
}

/// The new secret.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(examples(json!({"overlap": "24h"}), json!({"overlap": "0s"})))]
pub(in crate::http) struct Rotation {
    #[schema(schema_with = overlap, required = false)]
    overlap: Option<Overlap>,
    #[schema(schema_with = secret_schema, required = false)]
    secret: Option<NewSecret>,
}

/// Rotates an endpoint's secret.
///
/// The new secret signs from now on; earlier ones keep signing beside it for the overlap. At most four secrets sign at
/// a time. With ed25519 a new key pair comes with the secret, and earlier key pairs sign for as long as their secrets.
#[utoipa::path(post, path = "/v1/endpoints/{id}/rotate-secret", tag = "endpoints", operation_id = "rotateEndpointSecret",
    params(OfEndpoint), request_body = Option<Rotation>,
    responses((status = 200, description = "The secrets that sign now, the new one included.", body = SecretsView)))]
pub(in crate::http) async fn rotate(
    State(app): State<Shared>,
    caller: Caller,
    At(endpoint): At<OfEndpoint>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    query::<()>(&uri)?;
    let body = request::optional_json(&headers, body).await?;
    let rotation: Rotation = fields::read(&body)?;
    let rotate = RotateSecret {
        id: endpoint.id()?,
        secret: NewSecret::or_made(rotation.secret, &app)?,
        // Only the commit knows whether the endpoint signs with ed25519.
        seed: new_seed(&app)?,
        overlap_ms: rotation
            .overlap
            .map_or(OVERLAP_DEFAULT_MS, |Overlap(ms)| ms),
    };
    let rotate = caller.attributed(rotate);
    let endpoint = app.engine.submit(rotate).await.map_err(failed)?;
    Ok(Json(SecretsView::of(&endpoint, app.paced())).into_response())
}

/// The secrets that sign an endpoint's deliveries.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Secrets, examples(examples::secrets))]
pub(in crate::http) struct SecretsView {
    /// The current secret.
    #[schema(required, nullable = false)]
    secret: Option<String>,
    /// The public key that verifies `v1a` signatures made with the current secret, `whpk_…`. Omitted without ed25519.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    public_key: Option<String>,
    /// Earlier secrets that still sign, newest first.
    previous: Vec<PreviousSecretView>,
}

/// An earlier secret that still signs.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PreviousSecret)]
pub(in crate::http) struct PreviousSecretView {
    secret: String,
    /// Its public key, `whpk_…`. Omitted if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    public_key: Option<String>,
    /// When it stops signing.
    #[schema(required, nullable = false, format = DateTime)]
    until: Option<String>,
}

impl SecretsView {
    pub(super) fn of(e: &Endpoint, now: UnixMs) -> Self {
        let mut live = e.live_secrets(now);
        let current = live.next();
        Self {
            secret: current.map(|l| l.secret.expose().to_owned()),
            public_key: current.and_then(public_key),
            previous: live
                .map(|l| PreviousSecretView {
                    secret: l.secret.expose().to_owned(),
                    public_key: public_key(l),
                    until: l.until.map(rfc3339),
                })
                .collect(),
        }
    }
}

/// Returns the public key of a secret's key pair. The private key is never shown.
pub(super) fn public_key(live: &LiveSecret) -> Option<String> {
    Some(private_key(live.seed.as_ref()?).public_key())
}

/// A secret supplied in a request.
pub(super) struct NewSecret(Secret);

impl NewSecret {
    /// Returns the supplied secret, or generates one.
    pub(super) fn or_made(came: Option<Self>, app: &App) -> Result<Secret, Problem> {
        match came {
            Some(Self(secret)) => Ok(secret),
            None => app.new_secret().map_err(Problem::from),
        }
    }
}

impl<'de> Deserialize<'de> for NewSecret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from).map(Zeroizing::new)?;
        if is_quoted(&text) {
            let detail = "The secret is in quotes. Send it without quotes.";
            return Err(D::Error::custom(detail));
        }
        Secret::parse(&text).map(Self).map_err(D::Error::custom)
    }
}

/// Whether a secret is in quotes. They would become part of it, and the receiver's copy doesn't have them.
pub fn is_quoted(secret: &str) -> bool {
    ['"', '\'', '`']
        .iter()
        .any(|quote| secret.len() > 1 && secret.starts_with(*quote) && secret.ends_with(*quote))
}

pub(super) fn new_seed(app: &App) -> Result<Seed, Problem> {
    Ok(app.new_seed()?)
}

/// How long earlier secrets keep signing, in milliseconds.
struct Overlap(u64);

impl<'de> Deserialize<'de> for Overlap {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reading;
        impl Visitor<'_> for Reading {
            type Value = Option<Duration>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration from \"0s\" to \"7d\", like \"24h\"")
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(match text {
                    "0" => Some(Duration::ZERO),
                    text => parse_duration(text),
                })
            }

            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                // Zero needs no unit.
                Ok((number == 0).then_some(Duration::ZERO))
            }
        }
        from.deserialize_any(Reading)?
            .and_then(|overlap| u64::try_from(overlap.as_millis()).ok())
            .filter(|ms| *ms <= OVERLAP_MAX_MS)
            .map(Self)
            .ok_or_else(|| {
                D::Error::custom("overlap must be a duration from \"0s\" to \"7d\", like \"24h\".")
            })
    }
}

fn overlap() -> RefOr<Schema> {
    let duration = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .pattern(Some(patterns::duration_up_to(OVERLAP_MAX_MS)));
    let nothing = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::Integer))
        .enum_values(Some([0]));
    OneOfBuilder::new()
        .item(duration)
        .item(nothing)
        .description(Some(
            "How long earlier secrets keep signing, from `0s` (they end immediately) to `7d`: an integer and `ms`, `s`, `m`, `h` \
             or `d`; 0 needs no unit.",
        ))
        .default(Some(json!("24h")))
        .into()
}

pub(super) fn secret_schema() -> RefOr<Schema> {
    let standard = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .pattern(Some(patterns::STANDARD_SECRET));
    let mut other = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .min_length(Some(16))
        .max_length(Some(256))
        .pattern(Some("^[!-~]+$"))
        .build();
    let unlike = json!({"pattern": patterns::NO_OTHER_SECRET});
    conditions::with(&mut other, "not", unlike);
    AnyOfBuilder::new()
        .item(standard)
        .item(other)
        .description(Some(
            "Your own secret: `whsec_` and 24 to 64 bytes in base64, or 16 to 256 other visible ASCII characters. If omitted, \
             one of 32 random bytes is generated.",
        ))
        .into()
}
