//! Deliveries: looking at them, retrying and cancelling them.

use super::problem::{Problem, not_done};
use super::views::{DeliveryJson, ListView};
use super::{Answer, Shared, blocking, request};
use crate::app::App;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use http::{HeaderMap, Uri};
use stormhook_store::{DeliveryFilter, DeliveryId, Done, EndpointId, EventId, Status};

/// Deliveries without their attempts, newest first.
#[utoipa::path(get, path = "/v1/deliveries", tag = "deliveries", params(("endpointId" = Option<String>, Query), ("status" = Option<String>, Query),
    ("eventType" = Option<String>, Query), ("eventId" = Option<String>, Query), ("since" = Option<String>, Query), ("until" = Option<String>, Query),
    ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)), responses((status = 200, body = ListView<DeliveryJson>)))]
pub(super) async fn list(State(app): State<Shared>, uri: Uri) -> Answer {
    let names = [
        "endpointId",
        "status",
        "eventType",
        "eventId",
        "since",
        "until",
        "limit",
        "cursor",
    ];
    let [
        endpoint,
        status,
        event_type,
        event,
        since,
        until,
        limit,
        cursor,
    ] = request::query(&uri, names)?;
    let id = |field: &'static str| {
        move || Problem::field(field, format!("{field} is no id of that kind"))
    };
    let filter = DeliveryFilter {
        endpoint: endpoint
            .map(|text| EndpointId::parse(&text).ok_or_else(id("endpointId")))
            .transpose()?,
        status: status
            .map(|text| {
                let expected = "status must be PENDING, RETRYING, SUCCESS, ABANDONED or FAILED";
                Status::parse(&text).ok_or_else(|| Problem::field("status", expected))
            })
            .transpose()?,
        event_type,
        event: event
            .map(|text| EventId::parse(&text).ok_or_else(id("eventId")))
            .transpose()?,
        since: request::instant(since.as_deref(), "since")?,
        until: request::instant(until.as_deref(), "until")?,
    };
    let limit = request::limit(limit.as_deref())?;
    let cursor = request::cursor(cursor.as_deref(), filter.list())?;
    let page = blocking(&app, move |app| {
        app.read(|r| r.deliveries(&filter, cursor, limit))
    })
    .await?;
    Ok(Json(ListView::of(page, |view| DeliveryJson::listed(&app, &view))).into_response())
}

/// One delivery with its attempts.
#[utoipa::path(get, path = "/v1/deliveries/{id}", tag = "deliveries", params(("id" = String, Path)), responses((status = 200, body = DeliveryJson)))]
pub(super) async fn show(State(app): State<Shared>, Path(id): Path<String>, uri: Uri) -> Answer {
    request::query(&uri, [])?;
    answer(&app, delivery_id(&id)?)
}

/// An extra attempt of an open delivery, or a new round of an ended one.
#[utoipa::path(post, path = "/v1/deliveries/{id}/retry", tag = "deliveries", params(("id" = String, Path)),
    responses((status = 200, body = DeliveryJson), (status = 409, description = "endpoint_inactive or delivery_in_flight")))]
pub(super) async fn retry(
    State(app): State<Shared>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    request::query(&uri, [])?;
    super::no_fields(&app, &headers, body).await?;
    match app.retry(delivery_id(&id)?).await? {
        Done::Delivery(delivery) => answer(&app, delivery.id),
        other => Err(not_done(other, "delivery")),
    }
}

/// Ends an open delivery.
#[utoipa::path(post, path = "/v1/deliveries/{id}/cancel", tag = "deliveries", params(("id" = String, Path)),
    responses((status = 200, body = DeliveryJson), (status = 409, description = "delivery_ended or delivery_in_flight")))]
pub(super) async fn cancel(
    State(app): State<Shared>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    request::query(&uri, [])?;
    super::no_fields(&app, &headers, body).await?;
    match app.cancel(delivery_id(&id)?).await? {
        Done::Delivery(delivery) => answer(&app, delivery.id),
        other => Err(not_done(other, "delivery")),
    }
}

/// The delivery with its attempts, as an answer.
pub(super) fn answer(app: &App, id: DeliveryId) -> Answer {
    let view = app.read(|r| r.delivery(id)).map_err(Problem::unreadable)?;
    let view = view.ok_or_else(|| Problem::not_found("delivery"))?;
    let json = DeliveryJson::listed(app, &view).with_attempts(&view.delivery);
    Ok(Json(json).into_response())
}

fn delivery_id(text: &str) -> Result<DeliveryId, Problem> {
    DeliveryId::parse(text).ok_or_else(|| Problem::not_found("delivery"))
}
