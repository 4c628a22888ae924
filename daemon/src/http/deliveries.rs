//! Deliveries: looking at them, retrying and cancelling them.

use super::openapi::answers::DeliveryPage;
use super::openapi::bodies::NoFields;
use super::openapi::params;
use super::problem::{Problem, not_done};
use super::request::Id;
use super::views::{DeliveryJson, ListView};
use super::{Answer, Shared, blocking, request};
use crate::app::App;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use http::{HeaderMap, Uri};
use stormhook_store::{DeliveryFilter, DeliveryId, Done, EndpointId, EventId, Status};

/// Lists deliveries.
///
/// Without their attempts, newest first by their events' acceptance.
#[utoipa::path(get, path = "/v1/deliveries", tag = "deliveries", operation_id = "listDeliveries",
    params(params::DeliveryFilter, params::Accepted, params::Paging),
    responses((status = 200, description = "A page.", body = DeliveryPage)))]
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
    let (since, until) = request::span(since.as_deref(), until.as_deref())?;
    let id = |field: &'static str| {
        move || Problem::field(field, format!("{field} is not a valid id of this kind."))
    };
    let filter = DeliveryFilter {
        endpoint: endpoint
            .map(|text| EndpointId::parse(&text).ok_or_else(id("endpointId")))
            .transpose()?,
        status: status
            .map(|text| {
                let expected = "status must be PENDING, RETRYING, SUCCESS, ABANDONED or FAILED.";
                Status::parse(&text).ok_or_else(|| Problem::field("status", expected))
            })
            .transpose()?,
        event_type: request::filled(event_type, "eventType")?,
        event: event
            .map(|text| EventId::parse(&text).ok_or_else(id("eventId")))
            .transpose()?,
        since,
        until,
    };
    let limit = request::limit(limit.as_deref())?;
    let cursor = request::cursor(cursor.as_deref(), filter.list())?;
    let page = blocking(&app, move |app| {
        app.read(|r| r.deliveries(&filter, cursor, limit))
    })
    .await?;
    Ok(Json(ListView::of(page, |view| DeliveryJson::listed(&app, &view))).into_response())
}

/// Shows a delivery.
///
/// With its attempts, those of all rounds.
#[utoipa::path(get, path = "/v1/deliveries/{id}", tag = "deliveries", operation_id = "getDelivery", params(params::DeliveryId),
    responses((status = 200, description = "The delivery.", body = DeliveryJson)))]
pub(super) async fn show(State(app): State<Shared>, Id(id): Id, uri: Uri) -> Answer {
    request::query(&uri, [])?;
    answer(&app, delivery_id(&id)?)
}

/// Retries a delivery.
///
/// An open one gets an extra attempt: if that fails, the schedule stays as it was. For an ended one a new round of the whole schedule
/// begins.
#[utoipa::path(post, path = "/v1/deliveries/{id}/retry", tag = "deliveries", operation_id = "retryDelivery", params(params::DeliveryId),
    request_body = Option<NoFields>, responses((status = 200, description = "The delivery.", body = DeliveryJson)))]
pub(super) async fn retry(
    State(app): State<Shared>,
    Id(id): Id,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    request::query(&uri, [])?;
    super::no_fields(&headers, body).await?;
    match app.retry(delivery_id(&id)?).await? {
        Done::Delivery(delivery) => answer(&app, delivery.id),
        other => Err(not_done(other, "delivery")),
    }
}

/// Cancels an open delivery.
///
/// It ends as `FAILED` (`cancelled`).
#[utoipa::path(post, path = "/v1/deliveries/{id}/cancel", tag = "deliveries", operation_id = "cancelDelivery", params(params::DeliveryId),
    request_body = Option<NoFields>, responses((status = 200, description = "The delivery.", body = DeliveryJson)))]
pub(super) async fn cancel(
    State(app): State<Shared>,
    Id(id): Id,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    request::query(&uri, [])?;
    super::no_fields(&headers, body).await?;
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
