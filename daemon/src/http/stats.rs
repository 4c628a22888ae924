//! Stats and health. The names are exactly those of the contract.

pub(super) mod prometheus;

use super::access::Caller;
use super::fields::query;
use super::ids::Given;
use super::openapi::enums::StatsWindow;
use super::openapi::responses::Health;
use super::openapi::stats;
use super::problem::Problem;
use super::{Answer, Shared, ask_long};
use crate::app::App;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use stormhook_engine::schedule::Gauges;
use stormhook_engine::times::rfc3339;
use stormhook_store::stats::{Span, Times, Window};
use stormhook_store::{EndpointId, Slot, StatsOf};
use utoipa::IntoParams;

/// The mean latency of first attempts must stay below this, in milliseconds.
const FIRST_ATTEMPT_AVG_MS: f64 = 2_000.0;
/// The share of first attempts that must succeed.
const FIRST_ATTEMPT_RATE: f64 = 0.95;

/// Which stats to show.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct StatsQuery {
    /// The span of time to cover.
    #[param(value_type = StatsWindow, required = false, default = "1h")]
    window: Option<StatsWindow>,
    /// Only deliveries to this endpoint.
    #[param(value_type = Option<String>, pattern = "^ep_[0-7][0-9A-HJKMNP-TV-Z]{25}$")]
    endpoint_id: Option<Given<EndpointId>>,
    /// Only deliveries to this organization's endpoints.
    #[param(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]+$")]
    organization_id: Option<String>,
}

/// Shows counts, percentiles, gauges and targets of a span of time.
///
/// Covers everything, or one endpoint or organization; with such a filter, event and key counters are null. Times are
/// decimal milliseconds.
#[utoipa::path(get, path = "/v1/stats", tag = "operations", operation_id = "getStats", params(StatsQuery),
    responses((status = 200, description = "The stats.", body = stats::Stats)))]
pub(super) async fn stats(
    State(app): State<Shared>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
) -> Answer {
    let (asked,) = query::<(StatsQuery,)>(&uri)?;
    let span = asked.window.map_or(Span::Hour, |StatsWindow(span)| span);
    let endpoint = asked.endpoint_id.map(|Given(id)| id);
    if let Some(organization) = &asked.organization_id {
        super::ingest::check_organization(organization)?;
    }
    let organization = caller.within(asked.organization_id)?;
    let of = of_whom(&app, &caller, endpoint, organization.as_deref())?;
    let now = app.now();
    let asked = of.clone();
    let (sum, damaged) = ask_long(&app, move |reader| async move {
        reader.stats_and_damage(span, now, &asked).await
    })
    .await?;
    let gauges = match &of {
        StatsOf::All => gauges_of_all(&app, &headers).await,
        StatsOf::Endpoints(slots) => Some(app.engine.dispatch().gauges_of(slots)),
    };
    let filtered = matches!(of, StatsOf::Endpoints(_));
    let mut fields = Map::new();
    let (_, from, _) = span.windows(now);
    fields.insert("window".into(), json!(span.as_str()));
    fields.insert("from".into(), json!(rfc3339(from)));
    fields.insert("to".into(), json!(rfc3339(now)));
    counts(&mut fields, &sum, filtered);
    times(&mut fields, "delivery.latency", &sum.latency);
    times(
        &mut fields,
        "delivery.first_attempt.latency",
        &sum.first_attempt_latency,
    );
    fields.insert(
        "delivery.first_attempt.success.rate".into(),
        json!(first_rate(&sum)),
    );
    times(&mut fields, "attempt.duration", &sum.attempt_duration);
    let in_flight = (!filtered).then(|| app.engine.writer().keyed_in_flight());
    fields.insert("idempotency.inflight.gauge".into(), json!(in_flight));
    queue(&mut fields, gauges);
    fields.insert("slo".into(), slo(&sum));
    if damaged > 0 {
        fields.insert("damaged.rows".into(), json!(damaged));
    }
    Ok(Json(Value::Object(fields)).into_response())
}

/// Returns the gauges of all daemons; `None` if one of them doesn't tell its own.
#[cfg(feature = "postgres")]
async fn gauges_of_all(app: &App, headers: &HeaderMap) -> Option<Gauges> {
    let own = app.engine.dispatch().gauges();
    match app.peers() {
        // Another daemon asks each for its own.
        Some(peers) if !headers.contains_key(crate::peers::PASSED) => peers.gauges(own).await,
        _ => Some(own),
    }
}
#[cfg(not(feature = "postgres"))]
#[allow(
    clippy::unused_async,
    reason = "with the feature it asks other daemons"
)]
async fn gauges_of_all(app: &App, _: &HeaderMap) -> Option<Gauges> {
    Some(app.engine.dispatch().gauges())
}

fn of_whom(
    app: &App,
    caller: &Caller,
    endpoint: Option<EndpointId>,
    organization: Option<&str>,
) -> Result<StatsOf, Problem> {
    let Some(id) = endpoint else {
        let slots = |o: &str| -> Vec<Slot> {
            let all = app.reader().all_endpoints();
            all.iter()
                .filter(|e| e.organization == o)
                .map(|e| e.slot)
                .collect()
        };
        return Ok(organization.map_or(StatsOf::All, |o| StatsOf::Endpoints(slots(o))));
    };
    let found = app
        .reader()
        .endpoint_or_mark(id)
        .ok_or_else(|| Problem::not_found("endpoint"))?;
    let theirs = organization.is_none_or(|o| o == found.organization);
    match theirs {
        true => Ok(StatsOf::Endpoints(vec![found.slot])),
        // A caller that is bound to an organization must not learn of others' endpoints.
        false if caller.is_bound() => Err(Problem::not_found("endpoint")),
        false => Ok(StatsOf::Endpoints(Vec::new())),
    }
}

fn counts(fields: &mut Map<String, Value>, sum: &Window, filtered: bool) {
    let c = &sum.counters;
    // Events belong to an organization, not to an endpoint: these counters have no meaning under a filter.
    let of_all = |n: u64| if filtered { Value::Null } else { json!(n) };
    for (name, value) in [
        ("delivery.success.count", json!(c.success)),
        ("delivery.failure.count", json!(c.failure)),
        ("delivery.abandoned.count", json!(c.abandoned)),
        ("ingest.accepted.count", of_all(c.accepted)),
        ("idempotency.replay.count", of_all(c.replays)),
        ("idempotency.conflict.count", of_all(c.conflicts)),
    ] {
        fields.insert(name.into(), value);
    }
}

fn times(fields: &mut Map<String, Value>, name: &str, times: &Times) {
    let summary = times.summary();
    let ms = |ms: f64| (ms * 1_000.0).round() / 1_000.0;
    for (part, value) in [
        ("p50", summary.map(|s| s.p50)),
        ("p90", summary.map(|s| s.p90)),
        ("p95", summary.map(|s| s.p95)),
        ("p99", summary.map(|s| s.p99)),
        ("max", summary.map(|s| s.max)),
        ("avg", summary.map(|s| s.avg)),
    ] {
        fields.insert(
            format!("{name}.{part}"),
            json!(value.map(|us| ms(us / 1_000.0))),
        );
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a ratio of counts is as good as a double"
)]
fn first_rate(sum: &Window) -> Option<f64> {
    let c = &sum.counters;
    (c.first_attempts > 0).then(|| c.first_successes as f64 / c.first_attempts as f64)
}

fn queue(fields: &mut Map<String, Value>, gauges: Option<Gauges>) {
    for (name, value) in [
        ("queue.pending", gauges.map(|g| json!(g.pending))),
        ("queue.retrying", gauges.map(|g| json!(g.retrying))),
        ("queue.held", gauges.map(|g| json!(g.held))),
        ("queue.overdue.ms", gauges.map(|g| json!(g.overdue_ms))),
        ("queue.in_flight", gauges.map(|g| json!(g.in_flight))),
    ] {
        fields.insert(name.into(), value.unwrap_or(Value::Null));
    }
}

fn slo(sum: &Window) -> Value {
    let avg = sum.first_attempt_latency.summary().map(|s| s.avg / 1_000.0);
    let rate = first_rate(sum);
    json!([
        {"name": "delivery.first_attempt.latency.avg", "target": FIRST_ATTEMPT_AVG_MS, "value": avg,
         "met": avg.map(|v| v < FIRST_ATTEMPT_AVG_MS)},
        {"name": "delivery.first_attempt.success.rate", "target": FIRST_ATTEMPT_RATE, "value": rate,
         "met": rate.map(|v| v > FIRST_ATTEMPT_RATE)},
    ])
}

/// Reports that the process is running.
///
/// Needs no token.
#[utoipa::path(get, path = "/healthz", tag = "operations", operation_id = "getHealth", security(()),
    responses((status = 200, description = "The process is running.", body = Health)))]
pub(super) async fn healthz(uri: Uri) -> Answer {
    query::<()>(&uri)?;
    Ok(health())
}

pub(super) fn health() -> Response {
    Json(json!({"status": "ok"})).into_response()
}

/// Reports whether the daemon accepts and delivers events.
///
/// Not ready while starting or stopping, and after a failed commit until one succeeds: a probe commit is tried each
/// second. Needs no token.
#[utoipa::path(get, path = "/readyz", tag = "operations", operation_id = "getReadiness", security(()),
    responses((status = 200, description = "Ready.", body = Health), (status = 503, description = "Not ready.", body = Health)))]
pub(super) async fn readyz(State(app): State<Shared>, uri: Uri) -> Answer {
    query::<()>(&uri)?;
    Ok(readiness(app.engine.readiness()))
}

pub(super) fn readiness(ready: Result<(), &'static str>) -> Response {
    match ready {
        Ok(()) => Json(json!({"status": "ready"})).into_response(),
        Err(why) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({"status": why})),
        )
            .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_measured_is_null_and_no_target_is_met_or_missed() {
        let mut fields = Map::new();
        times(&mut fields, "attempt.duration", &Times::default());
        assert_eq!(fields.get("attempt.duration.p95"), Some(&Value::Null));
        assert_eq!(slo(&Window::default())[0]["met"], Value::Null);
    }

    #[test]
    fn times_are_decimal_milliseconds() {
        let mut measured = Times::default();
        measured.record(1_500);
        let mut fields = Map::new();
        times(&mut fields, "x", &measured);
        assert_eq!(fields.get("x.avg"), Some(&json!(1.5)));
    }
}
