//! Events: taking them one by one, looking at them, replaying them.

use super::openapi::answers::{EventPage, Explanation};
use super::openapi::bodies::{NewEvent, Replay};
use super::openapi::params;
use super::problem::{Problem, not_done};
use super::request::Id;
use super::views::{DamagedView, DeliveryJson, EventView, ExplainView, ListView, ReceiptView};
use super::{Answer, Shared, blocking, deliveries, ingest, object, request};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use stormhook_store::{Done, EndpointId, EventFilter, EventId, List, Op};

/// The header that may carry an event's key.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Sends one event.
///
/// Answered when it and its deliveries are durable. The same event again under the same idempotency key (organization, type,
/// timestamp as given, and `data` byte for byte) is answered as it was the first time and has no other effect.
#[utoipa::path(post, path = "/v1/events", tag = "events", operation_id = "sendEvent", params(params::IdempotencyKey),
    request_body = NewEvent, responses(
    (status = 202, description = "Taken.", body = ReceiptView<'_>),
    (status = 200, description = "Accepted before under the same key.", body = ReceiptView<'_>,
        headers(("Idempotency-Replayed" = bool, description = "Always `true`."))),
))]
pub(super) async fn accept(
    State(app): State<Shared>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    request::query(&uri, [])?;
    let body = request::json(&headers, body).await?;
    let key = header_key(&headers)?;
    let taken = ingest::taken(app.submit(Op::Accept(ingest::parse(&body, key)?)).await)?;
    let receipt = Json(ReceiptView::from(&*taken.event));
    Ok(if taken.replayed {
        (
            StatusCode::OK,
            [(REPLAYED, HeaderValue::from_static("true"))],
            receipt,
        )
            .into_response()
    } else {
        (StatusCode::ACCEPTED, receipt).into_response()
    })
}

/// Shows an event.
///
/// With its data, which is null once its retention is over.
#[utoipa::path(get, path = "/v1/events/{id}", tag = "events", operation_id = "getEvent", params(params::EventId),
    responses((status = 200, description = "The event.", body = EventView)))]
pub(super) async fn show(State(app): State<Shared>, Id(id): Id, uri: Uri) -> Answer {
    request::query(&uri, [])?;
    let id = event_id(&id)?;
    let event = app.read(|r| r.event(id)).map_err(Problem::unreadable)?;
    let event = event.ok_or_else(|| Problem::not_found("event"))?;
    Ok(Json(EventView::whole(&event)).into_response())
}

/// Lists events.
///
/// Without their data, newest first.
#[utoipa::path(get, path = "/v1/events", tag = "events", operation_id = "listEvents",
    params(params::EventFilter, params::Accepted, params::Paging), responses((status = 200, description = "A page.", body = EventPage)))]
pub(super) async fn list(State(app): State<Shared>, uri: Uri) -> Answer {
    let names = [
        "organizationId",
        "type",
        "idempotencyKey",
        "since",
        "until",
        "limit",
        "cursor",
    ];
    let [
        organization,
        event_type,
        idempotency_key,
        since,
        until,
        limit,
        cursor,
    ] = request::query(&uri, names)?;
    if let Some(organization) = &organization {
        ingest::check_organization(organization)?;
    }
    let (since, until) = request::span(since.as_deref(), until.as_deref())?;
    let filter = EventFilter {
        organization,
        event_type: request::filled(event_type, "type")?,
        idempotency_key: request::filled(idempotency_key, "idempotencyKey")?,
        since,
        until,
    };
    let limit = request::limit(limit.as_deref())?;
    let cursor = request::cursor(cursor.as_deref(), List::Events)?;
    let page = blocking(&app, move |app| {
        app.read(|r| r.events(&filter, cursor, limit))
    })
    .await?;
    Ok(Json(ListView::of(page, |event| EventView::listed(&event))).into_response())
}

/// Explains where an event went.
///
/// For each endpoint of its organization, why it was or wasn't sent the event. Of deleted endpoints, those that were sent it and the 1,000
/// newest are listed, until retention is over.
#[utoipa::path(get, path = "/v1/events/{id}/explain", tag = "events", operation_id = "explainEvent", params(params::EventId),
    responses((status = 200, description = "The endpoints.", body = Explanation)))]
pub(super) async fn explain(State(app): State<Shared>, Id(id): Id, uri: Uri) -> Answer {
    request::query(&uri, [])?;
    let id = event_id(&id)?;
    let found = blocking(&app, move |app| app.read(|r| r.explain(id))).await?;
    let found = found.ok_or_else(|| Problem::not_found("event"))?;
    let data = found
        .answers
        .into_iter()
        .map(|(endpoint, why)| ExplainView {
            endpoint_id: endpoint.to_string(),
            reason: why.as_str(),
        });
    let list = ListView {
        data: data.collect(),
        damaged: found.damaged.into_iter().map(DamagedView::from).collect(),
        next_cursor: None,
    };
    Ok(Json(list).into_response())
}

/// Sends an event to one endpoint again.
///
/// As a new round of attempts of its delivery, or for the first time where it had none.
#[utoipa::path(post, path = "/v1/events/{id}/replay", tag = "events", operation_id = "replayEvent", params(params::EventId),
    request_body = Replay, responses((status = 200, description = "The delivery.", body = DeliveryJson)))]
pub(super) async fn replay(
    State(app): State<Shared>,
    Id(id): Id,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    request::query(&uri, [])?;
    let body = request::json(&headers, body).await?;
    let [endpoint] = object::members(&body, &["endpointId"])?;
    let endpoint = object::text(object::required(endpoint, "endpointId")?, "endpointId")?;
    let id = event_id(&id)?;
    let endpoint = EndpointId::parse(&endpoint).ok_or_else(|| Problem::not_found("endpoint"))?;
    match app.replay(id, endpoint).await? {
        Done::Delivery(delivery) => deliveries::answer(&app, delivery.id),
        other => Err(not_done(other, "event or endpoint")),
    }
}

/// The key in the header, which may come again only if it is the same.
pub(super) fn header_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(first) = keys.next() else {
        return Ok(None);
    };
    let unfit = |detail: &'static str| Problem::field("idempotencyKey", detail);
    if keys.any(|other| other != first) {
        return Err(unfit(
            "The Idempotency-Key header is given with different keys. Send one.",
        ));
    }
    let unreadable =
        || unfit("The Idempotency-Key header must be 1 to 255 visible ASCII characters.");
    first.to_str().map(Some).map_err(|_| unreadable())
}

/// A malformed id names nothing.
fn event_id(text: &str) -> Result<EventId, Problem> {
    EventId::parse(text).ok_or_else(|| Problem::not_found("event"))
}
