//! Events: sending them one by one, showing, listing and replaying them.

use super::access::Caller;
use super::fields::{self, query};
use super::ids::{At, OfEvent, named};
use super::ingest::EventBody;
use super::lists::{Accepted, Filled, Paging};
use super::openapi::responses::{EventPage, Explanation};
use super::problem::{Problem, not_done};
use super::views::{DamagedView, DeliveryView, EventView, ExplainView, ListView, ReceiptView};
use super::{Answer, Shared, ask, ask_long, deliveries, ingest, request};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use serde::Deserialize;
use stormhook_store::{EventFilter, List, Replay};
use utoipa::{IntoParams, ToSchema};

/// The header that may hold an event's idempotency key.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The header that makes sending an event idempotent.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(super) struct HeaderKey<'a> {
    /// The event's idempotency key. May be sent here instead of as `idempotencyKey` in the body; if both are sent, they
    /// must be the same.
    #[param(
        rename = "Idempotency-Key",
        value_type = String,
        required = false,
        min_length = 1,
        max_length = 255,
        pattern = "^[!-~]+$",
        example = "order-1001-created"
    )]
    pub(super) key: Option<&'a str>,
}

impl<'a> HeaderKey<'a> {
    /// Returns the key in the header. It may be repeated if all values are the same.
    pub(super) fn of(headers: &'a HeaderMap) -> Result<Self, Problem> {
        let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(first) = keys.next() else {
            return Ok(Self { key: None });
        };
        let unfit = |detail: &'static str| Problem::field("idempotencyKey", detail);
        if keys.any(|other| other != first) {
            return Err(unfit(
                "The Idempotency-Key header was sent with different keys. Send one.",
            ));
        }
        let unreadable =
            |_| unfit("The Idempotency-Key header must be 1 to 255 visible ASCII characters.");
        let key = first.to_str().map_err(unreadable)?;
        Ok(Self { key: Some(key) })
    }
}

/// Sends one event.
///
/// The response comes once the event and its deliveries are durable. The same event again under the same idempotency
/// key (organization, type, timestamp as sent, and `data` byte for byte) gets the same response and has no other
/// effect.
#[utoipa::path(post, path = "/v1/events", tag = "events", operation_id = "sendEvent", params(HeaderKey<'_>),
    request_body = EventBody<'_>, responses(
    (status = 202, description = "Accepted.", body = ReceiptView<'_>),
    (status = 200, description = "Accepted earlier under the same key.", body = ReceiptView<'_>,
        headers(("Idempotency-Replayed" = bool, description = "Always `true`."))),
))]
pub(super) async fn accept(
    State(app): State<Shared>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    query::<()>(&uri)?;
    let body = request::json(&headers, body).await?;
    let HeaderKey { key } = HeaderKey::of(&headers)?;
    let event = ingest::parse(&body, key)?;
    caller.expect_organization(&event.organization)?;
    let accepted = app.engine.submit(event).await;
    let accepted = accepted.map_err(|e| not_done(e, "event"))?;
    let receipt = Json(ReceiptView::from(&*accepted.event));
    Ok(if accepted.replayed {
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
/// Includes its data, which is null once its retention is over.
#[utoipa::path(get, path = "/v1/events/{id}", tag = "events", operation_id = "getEvent", params(OfEvent),
    responses((status = 200, description = "The event.", body = EventView)))]
pub(super) async fn show(State(app): State<Shared>, At(event): At<OfEvent>, uri: Uri) -> Answer {
    query::<()>(&uri)?;
    let id = event.id()?;
    let event = ask(&app, app.reader().event(id)).await?;
    let event = event.ok_or_else(|| Problem::not_found("event"))?;
    Ok(Json(EventView::whole(&event)).into_response())
}

/// Which events to list.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct EventQuery {
    /// Events of this organization.
    #[param(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]+$")]
    organization_id: Option<String>,
    /// Events of exactly this type.
    #[serde(rename = "type")]
    #[param(value_type = Option<String>, min_length = 1)]
    event_type: Option<Filled>,
    /// Events that were sent with this key.
    #[param(value_type = Option<String>, min_length = 1)]
    idempotency_key: Option<Filled>,
}

/// Lists events.
///
/// Newest first, without their data.
#[utoipa::path(get, path = "/v1/events", tag = "events", operation_id = "listEvents",
    params(EventQuery, Accepted, Paging), responses((status = 200, description = "A page.", body = EventPage)))]
pub(super) async fn list(State(app): State<Shared>, caller: Caller, uri: Uri) -> Answer {
    let (asked, accepted, paging) = query::<(EventQuery, Accepted, Paging)>(&uri)?;
    if let Some(organization) = &asked.organization_id {
        ingest::check_organization(organization)?;
    }
    let (since, until) = accepted.span()?;
    let filter = EventFilter {
        organization: caller.within(asked.organization_id)?,
        event_type: asked.event_type.map(|Filled(text)| text),
        idempotency_key: asked.idempotency_key.map(|Filled(text)| text),
        since,
        until,
    };
    let (limit, cursor) = (paging.limit(), paging.cursor(List::Events, &caller.tag())?);
    let page = ask_long(&app, move |reader| async move {
        reader.events(&filter, cursor, limit).await
    })
    .await?;
    Ok(Json(ListView::of(page, &caller, |event| {
        EventView::listed(&event)
    }))
    .into_response())
}

/// Explains which endpoints got an event.
///
/// For each endpoint of the event's organization, the reason why it was or wasn't sent the event. Of deleted endpoints,
/// those that were sent the event and the 1,000 newest others are listed, until their retention is over.
#[utoipa::path(get, path = "/v1/events/{id}/explain", tag = "events", operation_id = "explainEvent", params(OfEvent),
    responses((status = 200, description = "The endpoints.", body = Explanation)))]
pub(super) async fn explain(State(app): State<Shared>, At(event): At<OfEvent>, uri: Uri) -> Answer {
    query::<()>(&uri)?;
    let id = event.id()?;
    let found = ask_long(&app, move |reader| async move { reader.explain(id).await }).await?;
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

/// The endpoint to send an event to again.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = Replay, examples(json!({"endpointId": "ep_01JZ8M3Y6Q2V7K9D4T5B8C1N0A"})))]
pub(super) struct ReplayBody {
    /// An endpoint of the event's organization, `ep_…`.
    endpoint_id: String,
}

/// Replays an event to one endpoint.
///
/// Opens a new round of the event's delivery to this endpoint, or creates the delivery if there was none.
#[utoipa::path(post, path = "/v1/events/{id}/replay", tag = "events", operation_id = "replayEvent", params(OfEvent),
    request_body = ReplayBody, responses((status = 200, description = "The delivery.", body = DeliveryView)))]
pub(super) async fn replay(
    State(app): State<Shared>,
    caller: Caller,
    At(event): At<OfEvent>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    query::<()>(&uri)?;
    let body = request::json(&headers, body).await?;
    let asked: ReplayBody = fields::read(&body)?;
    let (id, endpoint) = (event.id()?, named(&asked.endpoint_id)?);
    let replay = Replay {
        event: id,
        endpoint,
    };
    let replay = caller.attributed(replay);
    let replayed = app.engine.replay(replay).await;
    let delivery = replayed.map_err(|e| not_done(e, "event or endpoint"))?;
    deliveries::answer(&app, delivery.id).await
}
