//! How secrets are kept in the store: with which key, and changing it.

use super::access::Caller;
use super::fields::{self, query};
use super::problem::{Code, Problem, not_done};
use super::{Answer, Shared, request};
use crate::app::App;
use crate::secrets;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use http::{HeaderMap, StatusCode, Uri};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;
use std::path::PathBuf;
use stormhook_store::{Action, AtRest, Audited, Form, Reader, RecordAudit};
use utoipa::ToSchema;

/// In which form endpoints' secrets and header values are kept in the store.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SecretsAtRest, examples(json!({"keyId": "1f6a02c4", "previousKeyId": null, "finished": true})))]
pub(super) struct AtRestView {
    /// The key that they are encrypted with: the first 8 hex digits of its SHA-256. Null if they are not encrypted.
    #[schema(required)]
    key_id: Option<String>,
    /// While they are being rewritten: the key that some are still encrypted with. Null if there is none.
    #[schema(required)]
    previous_key_id: Option<String>,
    /// Whether all of them are in this form.
    finished: bool,
}

impl From<AtRest> for AtRestView {
    fn from(at_rest: AtRest) -> Self {
        let id = |form: Form| form.key().map(|id| id.to_string());
        Self {
            key_id: id(at_rest.form),
            previous_key_id: at_rest.before.and_then(id),
            finished: at_rest.before.is_none(),
        }
    }
}

/// Shows in which form secrets are kept in the store.
///
/// The daemon starts only with the keys that are named here, in `secrets.key_file` and `secrets.previous_key_file`.
#[utoipa::path(get, path = "/v1/secrets", tag = "operations", operation_id = "getSecretsAtRest",
    responses((status = 200, description = "The form.", body = AtRestView)))]
pub(super) async fn show(State(app): State<Shared>, uri: Uri) -> Answer {
    query::<()>(&uri)?;
    Ok(Json(AtRestView::from(app.reader().at_rest())).into_response())
}

/// The form to bring secrets to.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(examples(json!({"newKeyFile": "/etc/stormhook/key-2"}), json!({"newKeyFile": null})))]
pub(super) struct Rekey {
    /// The absolute path of a file with the new key, which the daemon can read: 32 bytes, raw or in base64. Null: secrets
    /// are decrypted.
    #[schema(value_type = Option<String>, required, pattern = "^/")]
    #[serde(deserialize_with = "value_or_null")]
    new_key_file: Option<PathBuf>,
}

/// Reads a field that is required and may be null.
fn value_or_null<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    let read: Option<Option<PathBuf>> = Deserialize::deserialize(from)?;
    Ok(read.flatten())
}

/// Changes the key of the secrets.
///
/// Rewrites all secrets of a store in a file with the new key, in the background, and returns when that has begun.
/// From then on the daemon starts only with the new key in `secrets.key_file` and, until it is finished, the one before
/// in `secrets.previous_key_file`. With the store in a database, stop its daemons and use `stormhook rekey`.
#[utoipa::path(post, path = "/v1/secrets/rekey", tag = "operations", operation_id = "rekeySecrets", request_body = Rekey,
    responses((status = 202, description = "The form from now on.", body = AtRestView)))]
pub(super) async fn rekey(
    State(app): State<Shared>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    query::<()>(&uri)?;
    let body = request::json(&headers, body).await?;
    let asked: Rekey = fields::read(&body)?;
    let reader = app.reader().file().ok_or_else(in_a_database)?;
    let to = form_of(reader, asked.new_key_file, app.config().sandbox).await?;
    // Durable before anything is rewritten.
    let rekeyed = RecordAudit(Audited {
        after: Some(json!({"keyId": to.key().map(|id| id.to_string())}).to_string()),
        ..Audited::of(Action::SecretsRekey)
    });
    let rekeyed = caller.attributed(rekeyed);
    let recorded = app.engine.submit(rekeyed).await;
    recorded.map_err(|error| not_done(error, "key"))?;
    let begun = begin(&app, reader, to).await?;
    tracing::info!(form = %to, "the form of the secrets is being changed");
    Ok((StatusCode::ACCEPTED, Json(AtRestView::from(begun))).into_response())
}

fn in_a_database() -> Problem {
    Problem::new(
        Code::NotSupported,
        "The store is in a database, which several daemons may use. Stop them all and run `stormhook rekey`.",
    )
}

/// Returns the form of this key, which the store knows from now on.
async fn form_of(
    reader: &Reader,
    file: Option<PathBuf>,
    in_sandbox: bool,
) -> Result<Form, Problem> {
    let Some(path) = file else {
        return Ok(Form::Plain);
    };
    if !path.is_absolute() {
        let detail = "newKeyFile must be an absolute path: the daemon reads it.";
        return Err(Problem::field("newKeyFile", detail));
    }
    let read = tokio::task::spawn_blocking(move || secrets::key(&path)).await;
    let key = read
        .map_err(|_| super::problem::unexpected())?
        .map_err(|error| {
            let hint = if in_sandbox && error.is_refused() {
                " The daemon runs in a sandbox: put the file in the directory of secrets.key_file, or name its directory in sandbox_read and restart."
            } else {
                ""
            };
            Problem::field("newKeyFile", format!("{error}.{hint}"))
        })?;
    let form = Form::Encrypted(key.id());
    reader.add_key(key);
    Ok(form)
}

/// Begins unless the store has that form already, or is getting it.
async fn begin(app: &App, reader: &Reader, to: Form) -> Result<AtRest, Problem> {
    let found = reader.at_rest();
    if found.form == to {
        return Ok(found);
    }
    if found.before.is_some() {
        return Err(Problem::new(
            Code::Busy,
            "An earlier change of the key is not finished. Retry when `GET /v1/secrets` says so.",
        ));
    }
    Ok(app.engine.reseal(to).await?.at_rest)
}
