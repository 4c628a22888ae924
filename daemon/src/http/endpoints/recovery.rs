//! Recovery: new rounds for the deliveries that an endpoint failed to receive, or missed.

use super::{failed, found};
use crate::http::access::Caller;
use crate::http::fields::{self, query};
use crate::http::ids::{At, OfEndpoint};
use crate::http::lists::Moment;
use crate::http::problem::{Problem, refused};
use crate::http::{Answer, Shared, ask_long, request};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use http::{HeaderMap, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use stormhook_store::{Recover, Refusal, UnixMs};
use utoipa::ToSchema;

/// Which deliveries of an endpoint to recover.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(examples(json!({"since": "2026-01-02T00:00:00Z", "until": "2026-01-03T00:00:00Z",
    "missed": true, "dryRun": true})))]
pub(in crate::http) struct Recovery {
    /// Events accepted at or after this time, RFC 3339 with any offset. No lower bound if omitted.
    #[schema(value_type = String, required = false, format = DateTime)]
    since: Option<Moment>,
    /// Events accepted before this time. No upper bound if omitted.
    #[schema(value_type = String, required = false, format = DateTime)]
    until: Option<Moment>,
    /// Also opens a first round for events that the endpoint was subscribed to but was inactive for.
    #[schema(nullable = false, default = false)]
    missed: Option<bool>,
    /// Only counts; changes nothing.
    #[schema(nullable = false, default = false)]
    dry_run: Option<bool>,
}

/// The number of recovered deliveries.
#[derive(Serialize, ToSchema)]
#[schema(as = Recovered, examples(json!({"recovered": 17})))]
pub(in crate::http) struct RecoveredView {
    /// The number of rounds that were opened or, with `dryRun`, would be.
    recovered: u64,
}

/// Recovers an endpoint's deliveries.
///
/// Opens a new round for each delivery that ended as `FAILED` or `ABANDONED` and whose event was accepted in the given
/// span. With `missed`, also opens a first round for each event that the endpoint was subscribed to but was inactive
/// for. It takes effect immediately and completes in the background. It first waits for deliveries that were discarded
/// with an attempt on the wire.
#[utoipa::path(post, path = "/v1/endpoints/{id}/recover", tag = "endpoints", operation_id = "recoverEndpoint", params(OfEndpoint),
    request_body = Option<Recovery>, responses((status = 202, description = "The number of recovered deliveries.", body = RecoveredView)))]
pub(in crate::http) async fn recover(
    State(app): State<Shared>,
    caller: Caller,
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
    let count = ask_long(&app, move |reader| async move {
        reader.count_recoverable(&question).await
    })
    .await?;
    if !asked.dry_run.unwrap_or(false) {
        let recover = caller.attributed(recover);
        app.engine.recover(recover).await.map_err(failed)?;
    }
    let view = RecoveredView { recovered: count };
    Ok((StatusCode::ACCEPTED, Json(view)).into_response())
}
