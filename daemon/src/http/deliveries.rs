//! Deliveries: showing, listing, retrying and cancelling them.

use super::access::Caller;
use super::fields::query;
use super::ids::{At, Given, OfDelivery};
use super::lists::{Accepted, Filled, Paging};
use super::openapi::enums::DeliveryStatus;
use super::openapi::responses::DeliveryPage;
use super::problem::{Problem, not_done};
use super::views::{DeliveryView, ListView};
use super::{Answer, NoFields, Shared, ask, ask_long};
use crate::app::App;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use http::{HeaderMap, Uri};
use serde::Deserialize;
use stormhook_store::{DeliveryFilter, DeliveryId, EndpointId, EventId};
use utoipa::IntoParams;

/// Which deliveries to list.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct DeliveryQuery {
    /// Deliveries to this endpoint.
    #[param(value_type = Option<String>, pattern = "^ep_[0-7][0-9A-HJKMNP-TV-Z]{25}$")]
    endpoint_id: Option<Given<EndpointId>>,
    /// Deliveries in this state.
    status: Option<DeliveryStatus>,
    /// Deliveries of events of exactly this type.
    #[param(value_type = Option<String>, min_length = 1)]
    event_type: Option<Filled>,
    /// Deliveries of this event.
    #[param(value_type = Option<String>, pattern = "^evt_[0-7][0-9A-HJKMNP-TV-Z]{25}$")]
    event_id: Option<Given<EventId>>,
}

/// Lists deliveries.
///
/// Newest first, by the acceptance of their events, without their attempts.
#[utoipa::path(get, path = "/v1/deliveries", tag = "deliveries", operation_id = "listDeliveries",
    params(DeliveryQuery, Accepted, Paging),
    responses((status = 200, description = "A page.", body = DeliveryPage)))]
pub(super) async fn list(State(app): State<Shared>, caller: Caller, uri: Uri) -> Answer {
    let (asked, accepted, paging) = query::<(DeliveryQuery, Accepted, Paging)>(&uri)?;
    let (since, until) = accepted.span()?;
    let filter = DeliveryFilter {
        organization: caller.within(None)?,
        endpoint: asked.endpoint_id.map(|Given(id)| id),
        status: asked.status.map(|DeliveryStatus(status)| status),
        event_type: asked.event_type.map(|Filled(text)| text),
        event: asked.event_id.map(|Given(id)| id),
        since,
        until,
    };
    let (limit, cursor) = (paging.limit(), paging.cursor(filter.list(), &caller.tag())?);
    let page = ask_long(&app, move |reader| async move {
        reader.deliveries(&filter, cursor, limit).await
    })
    .await?;
    Ok(Json(ListView::of(page, &caller, |view| {
        DeliveryView::listed(&app, &view)
    }))
    .into_response())
}

/// Shows a delivery.
///
/// Includes the attempts of all rounds.
#[utoipa::path(get, path = "/v1/deliveries/{id}", tag = "deliveries", operation_id = "getDelivery", params(OfDelivery),
    responses((status = 200, description = "The delivery.", body = DeliveryView)))]
pub(super) async fn show(
    State(app): State<Shared>,
    At(delivery): At<OfDelivery>,
    uri: Uri,
) -> Answer {
    query::<()>(&uri)?;
    answer(&app, delivery.id()?).await
}

/// Retries a delivery.
///
/// An open delivery gets an extra attempt; if that fails, its schedule continues unchanged. An ended delivery starts a
/// new round.
#[utoipa::path(post, path = "/v1/deliveries/{id}/retry", tag = "deliveries", operation_id = "retryDelivery", params(OfDelivery),
    request_body = Option<NoFields>, responses((status = 200, description = "The delivery.", body = DeliveryView)))]
pub(super) async fn retry(
    State(app): State<Shared>,
    caller: Caller,
    At(delivery): At<OfDelivery>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    query::<()>(&uri)?;
    NoFields::read(&headers, body).await?;
    let failed = |error| not_done(error, "delivery");
    let hold = app.engine.hold(delivery.id()?).map_err(failed)?;
    let delivery = hold
        .by(caller.attribution())
        .retry()
        .await
        .map_err(failed)?;
    answer(&app, delivery.id).await
}

/// Cancels an open delivery.
///
/// The delivery ends as `FAILED` (`cancelled`).
#[utoipa::path(post, path = "/v1/deliveries/{id}/cancel", tag = "deliveries", operation_id = "cancelDelivery", params(OfDelivery),
    request_body = Option<NoFields>, responses((status = 200, description = "The delivery.", body = DeliveryView)))]
pub(super) async fn cancel(
    State(app): State<Shared>,
    caller: Caller,
    At(delivery): At<OfDelivery>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    query::<()>(&uri)?;
    NoFields::read(&headers, body).await?;
    let failed = |error| not_done(error, "delivery");
    let hold = app.engine.hold(delivery.id()?).map_err(failed)?;
    let delivery = hold
        .by(caller.attribution())
        .cancel()
        .await
        .map_err(failed)?;
    answer(&app, delivery.id).await
}

/// Returns the delivery with its attempts as a response.
pub(super) async fn answer(app: &App, id: DeliveryId) -> Answer {
    let view = ask(app, app.reader().delivery(id)).await?;
    let view = view.ok_or_else(|| Problem::not_found("delivery"))?;
    let json = DeliveryView::listed(app, &view).with_attempts(&view.delivery);
    Ok(Json(json).into_response())
}
