//! The audit log: listing its entries.

use super::access::Caller;
use super::caller_views::AuditEntryView;
use super::fields::query;
use super::ingest;
use super::lists::{Filled, Moment, Paging, span};
use super::openapi::responses::AuditPage;
use super::views::ListView;
use super::{Answer, Shared, ask_long};
use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use http::Uri;
use serde::Deserialize;
use stormhook_store::{AuditFilter, List};
use utoipa::IntoParams;

/// Which entries to list.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// Changes that concern this organization.
    #[param(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]+$")]
    organization_id: Option<String>,
    /// Changes of the object with this id.
    #[param(value_type = Option<String>, min_length = 1)]
    target: Option<Filled>,
    /// Changes at or after this time, RFC 3339 with any offset (write `+` as `%2B`).
    #[param(value_type = Option<String>, format = DateTime, example = "2026-01-02T03:04:05.678Z")]
    since: Option<Moment>,
    /// Changes before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Moment>,
}

/// Lists the audit log.
///
/// Newest first. Every change that is made through the API, and endpoints that the daemon disables; not sending events,
/// and not `test`. An entry is durable with the change that it records, and kept for `retention.audit`. A reason that a
/// request gives in the header `x-stormhook-reason` (visible ASCII, at most 256 bytes) is kept with it.
#[utoipa::path(get, path = "/v1/audit", tag = "operations", operation_id = "listAudit", params(AuditQuery, Paging),
    responses((status = 200, description = "A page.", body = AuditPage)))]
pub(super) async fn list(State(app): State<Shared>, caller: Caller, uri: Uri) -> Answer {
    let (asked, paging) = query::<(AuditQuery, Paging)>(&uri)?;
    if let Some(organization) = &asked.organization_id {
        ingest::check_organization(organization)?;
    }
    let (since, until) = span(asked.since, asked.until)?;
    let filter = AuditFilter {
        organization: caller.within(asked.organization_id)?,
        target: asked.target.map(|Filled(text)| text),
        since,
        until,
    };
    let (limit, cursor) = (paging.limit(), paging.cursor(List::Audit, &caller.tag())?);
    let page = ask_long(&app, move |reader| async move {
        reader.audit(&filter, cursor, limit).await
    })
    .await?;
    let view = ListView::of(page, &caller, AuditEntryView::from);
    Ok(Json(view).into_response())
}
