//! Recovery: new rounds for what an endpoint failed to receive, or missed.

use super::{failed, found};
use crate::http::fields::{self, query};
use crate::http::ids::{At, OfEndpoint};
use crate::http::lists::Moment;
use crate::http::problem::{Problem, refused};
use crate::http::{Answer, Shared, blocking, request};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use http::{HeaderMap, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use stormhook_store::{Recover, Refusal, UnixMs};
use utoipa::ToSchema;

/// Which deliveries of an endpoint get a new round of attempts.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(examples(json!({"since": "2026-01-02T00:00:00Z", "until": "2026-01-03T00:00:00Z",
    "missed": true, "dryRun": true})))]
pub(in crate::http) struct Recovery {
    /// Events accepted at this time or later, RFC 3339 with any offset. Left out, there is no bound.
    #[schema(value_type = String, required = false, format = DateTime)]
    since: Option<Moment>,
    /// Events accepted before this time. Left out, there is no bound.
    #[schema(value_type = String, required = false, format = DateTime)]
    until: Option<Moment>,
    /// Also events that it was subscribed to but inactive for: these get their first round.
    #[schema(nullable = false, default = false)]
    missed: Option<bool>,
    /// Only count.
    #[schema(nullable = false, default = false)]
    dry_run: Option<bool>,
}

/// How much is recovered.
#[derive(Serialize, ToSchema)]
#[schema(as = Recovered, examples(json!({"recovered": 17})))]
pub(in crate::http) struct RecoveredView {
    /// How many rounds were opened or, with `dryRun`, would be.
    recovered: u64,
}

/// Recovers an endpoint's deliveries.
///
/// New rounds for those that ended as `FAILED` or `ABANDONED`, of events accepted in the given time, and with `missed` first rounds
/// for events that it was subscribed to but inactive for. It takes effect at once and is worked off behind. What was discarded with
/// an attempt on the wire is waited for.
#[utoipa::path(post, path = "/v1/endpoints/{id}/recover", tag = "endpoints", operation_id = "recoverEndpoint", params(OfEndpoint),
    request_body = Option<Recovery>, responses((status = 202, description = "How many.", body = RecoveredView)))]
pub(in crate::http) async fn recover(
    State(app): State<Shared>,
    At(endpoint): At<OfEndpoint>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    query::<()>(&uri)?;
    let body = request::optional_json(&headers, body).await?;
    let asked: Recovery = fields::read(&body)?;
    let endpoint = found(&app, &endpoint)?;
    let since = asked.since.map(|Moment(at)| at).unwrap_or_default();
    let until = asked.until.map_or(UnixMs(u64::MAX >> 16), |Moment(at)| at);
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
        missed: asked.missed.unwrap_or(false),
    };
    if !endpoint.receives() {
        return Err(refused(Refusal::EndpointInactive, "endpoint"));
    }
    let question = recover.clone();
    let count = blocking(&app, move |app| {
        app.read(|r| r.count_recoverable(&question))
    })
    .await?;
    if !asked.dry_run.unwrap_or(false) {
        app.engine.recover(recover).await.map_err(failed)?;
    }
    let view = RecoveredView { recovered: count };
    Ok((StatusCode::ACCEPTED, Json(view)).into_response())
}
