//! What callers see of events and deliveries. Field names and their order are the contract's.

use super::access::Caller;
use super::lists::cursor_text;
use super::openapi::{enums, examples};
use crate::app::App;
use serde::Serialize;
use serde_json::value::RawValue;
use stormhook_engine::text::is_invisible;
use stormhook_engine::times::{at, maybe_at};
use stormhook_store::{
    Attempt, Damage, Delivery, DeliveryWithEvent, EndpointId, Event, Page, Timestamp, UnixMs,
    Unreadable,
};
use utoipa::ToSchema;

/// A page of a list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListView<T> {
    pub(crate) data: Vec<T>,
    /// The parts that can't be read; omitted if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) damaged: Vec<DamagedView>,
    /// Pass this as `cursor` for the next page; null on the last page.
    pub(crate) next_cursor: Option<String>,
}

impl<T> ListView<T> {
    pub(super) fn of<S>(page: Page<S>, caller: &Caller, view: impl FnMut(S) -> T) -> Self {
        Self {
            data: page.items.into_iter().map(view).collect(),
            damaged: page.damaged.into_iter().map(DamagedView::from).collect(),
            next_cursor: page.next.map(|next| cursor_text(next, &caller.tag())),
        }
    }
}

/// Rows that may belong to the list but can't be read, because the store is damaged there.
#[derive(Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Damaged, examples(examples::damaged_events, examples::damaged_delivery))]
pub struct DamagedView {
    /// One delivery, `dlv_…`, or the record of an endpoint, `ep_…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    id: Option<String>,
    /// Instead of `id`: the rows of all events from this one on, `evt_…`
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    from_event: Option<String>,
    /// Up to but not including this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    before_event: Option<String>,
    /// With an endpoint's `id`: its deliveries with sequence numbers from this one on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    from_sequence: Option<u64>,
    /// Up to but not including this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    before_sequence: Option<u64>,
    /// What is wrong, and what to do.
    detail: String,
}

impl From<Damage> for DamagedView {
    fn from(damage: Damage) -> Self {
        let mut view = Self {
            detail: damage.detail,
            ..Self::default()
        };
        match damage.what {
            Unreadable::Delivery(id) => view.id = Some(id.to_string()),
            Unreadable::Endpoint(id) => view.id = Some(id.to_string()),
            // The detail names the row.
            Unreadable::Audit(..) => {}
            Unreadable::Events(from, before) => {
                view.from_event = Some(from.to_string());
                view.before_event = Some(before.to_string());
            }
            Unreadable::Sequences(id, from, before) => {
                view.id = Some(id.to_string());
                view.from_sequence = Some(from);
                view.before_sequence = Some(before);
            }
        }
        view
    }
}

/// The receipt of an accepted event.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Receipt, examples(examples::receipt))]
pub(crate) struct ReceiptView<'a> {
    /// `evt_…`
    pub(crate) id: String,
    pub(crate) organization_id: &'a str,
    #[serde(rename = "type")]
    pub(crate) event_type: &'a str,
    /// As it was sent, in UTC; else the time of acceptance.
    #[serde(serialize_with = "at")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) timestamp: Timestamp,
    /// The number of endpoints it goes to.
    pub(crate) deliveries: u32,
}

impl<'a> From<&'a Event> for ReceiptView<'a> {
    fn from(event: &'a Event) -> Self {
        Self {
            id: event.id.to_string(),
            organization_id: &event.organization,
            event_type: &event.event_type,
            timestamp: event.timestamp,
            deliveries: event.deliveries,
        }
    }
}

/// An event.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Event, examples(examples::event))]
pub struct EventView {
    /// `evt_…`
    id: String,
    organization_id: String,
    #[serde(rename = "type")]
    event_type: String,
    /// As it was sent, in UTC; else the time of acceptance.
    #[serde(serialize_with = "at")]
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    /// When it was accepted.
    #[serde(serialize_with = "at")]
    #[schema(value_type = String, format = DateTime)]
    accepted_at: UnixMs,
    #[schema(required)]
    idempotency_key: Option<String>,
    /// The number of endpoints it went to when it was accepted.
    deliveries: u32,
    /// As it was sent, any JSON value; also null once its retention is over. Omitted in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Value, required = false)]
    data: Option<Option<Box<RawValue>>>,
}

impl EventView {
    fn new(event: &Event, data: Option<Option<Box<RawValue>>>) -> Self {
        Self {
            id: event.id.to_string(),
            organization_id: event.organization.clone(),
            event_type: event.event_type.clone(),
            timestamp: event.timestamp,
            accepted_at: event.id.accepted_at(),
            idempotency_key: event.idempotency_key.clone(),
            deliveries: event.deliveries,
            data,
        }
    }

    pub(crate) fn listed(event: &Event) -> Self {
        Self::new(event, None)
    }

    /// With its data.
    pub fn whole(event: &Event) -> Self {
        let raw = |bytes: &Vec<u8>| {
            let text = String::from_utf8(bytes.clone()).ok()?;
            RawValue::from_string(text).ok()
        };
        Self::new(event, Some(event.data.as_ref().and_then(raw)))
    }
}

/// Why an endpoint was or wasn't sent an event.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ExplainedEndpoint, examples(examples::explained))]
pub(crate) struct ExplainView {
    /// `ep_…`
    pub(crate) endpoint_id: String,
    #[schema(value_type = enums::ExplainReason)]
    pub(crate) reason: &'static str,
}

/// One finished attempt.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Attempt, examples(examples::attempt))]
pub(crate) struct AttemptView {
    /// Its number among all attempts of the delivery, from 1.
    #[schema(minimum = 1)]
    pub(crate) attempt: u32,
    /// The round it belongs to, from 1.
    #[schema(minimum = 1)]
    pub(crate) round: u32,
    #[schema(value_type = enums::AttemptTrigger)]
    pub(crate) trigger: &'static str,
    /// When it started.
    #[serde(serialize_with = "at")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) started_at: UnixMs,
    /// How long the request took, in milliseconds.
    pub(crate) duration_ms: u64,
    #[schema(value_type = enums::AttemptOutcome)]
    pub(crate) outcome: &'static str,
    /// The HTTP status of the response; null if there was none.
    #[schema(required)]
    pub(crate) response_code: Option<u16>,
    /// The start of the response body of a failed attempt. Characters that could mislead a reader are escaped: `\u{N}`,
    /// `\xNN`, and a backslash as two.
    #[schema(required)]
    pub(crate) response_excerpt: Option<String>,
    /// What went wrong, if no response says so.
    #[schema(required)]
    pub(crate) error: Option<String>,
    /// Whether the request was sent once more within the attempt, because a reused connection closed before the first
    /// byte of a response or the receiver said that it had not processed the request.
    pub(crate) reconnected: bool,
}

impl From<&Attempt> for AttemptView {
    fn from(a: &Attempt) -> Self {
        Self {
            attempt: a.number,
            round: a.round,
            trigger: a.trigger.as_str(),
            started_at: a.started_at,
            duration_ms: a.duration_ms,
            outcome: a.outcome.as_str(),
            response_code: a.response_code,
            response_excerpt: a.response_excerpt.as_deref().map(shown),
            error: a.error.clone(),
            reconnected: a.reconnected,
        }
    }
}

/// Returns bytes as text that can't affect a terminal or mislead its reader: control characters as `\u{N}`, invalid
/// UTF-8 as `\xNN`, and a backslash as two.
fn shown(bytes: &[u8]) -> String {
    bytes
        .utf8_chunks()
        .flat_map(|chunk| {
            let mut text = String::new();
            for c in chunk.valid().chars() {
                match c {
                    '\n' | '\r' | '\t' => text.push(c),
                    '\\' => text.push_str("\\\\"),
                    control if control.is_control() || is_invisible(control) => {
                        text.extend(control.escape_unicode());
                    }
                    plain => text.push(plain),
                }
            }
            [text, chunk.invalid().escape_ascii().to_string()]
        })
        .collect()
}

/// A delivery.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Delivery, examples(examples::delivery))]
pub struct DeliveryView {
    /// `dlv_…`
    id: String,
    /// The endpoint, `ep_…`
    endpoint_id: String,
    /// The event, `evt_…`
    event_id: String,
    event_type: String,
    /// Its number among the endpoint's deliveries: 1, 2, 3 … without gaps, in the order in which they were created.
    #[schema(minimum = 1)]
    sequence: u64,
    #[schema(value_type = enums::DeliveryStatus)]
    status: &'static str,
    /// Set if `status` is `FAILED`; null otherwise.
    #[schema(value_type = Option<enums::FailureReason>, required)]
    reason: Option<&'static str>,
    /// The scheduled attempts of the current round: while `PENDING` (1) the one in progress or to come, else those
    /// finished.
    attempt: u32,
    /// The HTTP status of this round's last attempt, if it got a response.
    #[schema(required)]
    response_code: Option<u16>,
    /// When the next attempt is due; null if the delivery has ended.
    #[serde(serialize_with = "maybe_at")]
    #[schema(value_type = Option<String>, format = DateTime, required)]
    next_attempt_at: Option<UnixMs>,
    /// Null if the delivery has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<enums::WaitingFor>, required)]
    waiting_for: Option<Option<&'static str>>,
    /// When it was created.
    #[serde(serialize_with = "at")]
    #[schema(value_type = String, format = DateTime)]
    created_at: UnixMs,
    /// When it last changed.
    #[serde(serialize_with = "at")]
    #[schema(value_type = String, format = DateTime)]
    updated_at: UnixMs,
    /// The attempts of all rounds, oldest first. Omitted in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    attempts: Option<Vec<AttemptView>>,
}

impl DeliveryView {
    pub(crate) fn new(app: &App, d: &Delivery, endpoint: EndpointId, event_type: &str) -> Self {
        Self {
            waiting_for: Some(app.engine.dispatch().waiting_for(d)),
            ..Self::stored(d, endpoint, event_type)
        }
    }

    /// Returns the delivery as stored. Only the queues know what it waits for.
    pub fn stored(d: &Delivery, endpoint: EndpointId, event_type: &str) -> Self {
        Self {
            id: d.id.to_string(),
            endpoint_id: endpoint.to_string(),
            event_id: d.id.event.to_string(),
            event_type: event_type.to_owned(),
            sequence: d.sequence,
            status: d.status.as_str(),
            reason: d.reason.map(stormhook_store::Reason::as_str),
            attempt: d.attempt_shown(),
            response_code: d
                .attempts
                .last()
                .filter(|a| a.round == d.round)
                .and_then(|a| a.response_code),
            next_attempt_at: d.next_attempt_at,
            waiting_for: None,
            created_at: d.created_at,
            updated_at: d.updated_at,
            attempts: None,
        }
    }

    pub(crate) fn listed(app: &App, view: &DeliveryWithEvent) -> Self {
        Self::new(app, &view.delivery, view.endpoint, &view.event.event_type)
    }

    /// Adds the attempts.
    #[must_use]
    pub fn with_attempts(mut self, d: &Delivery) -> Self {
        self.attempts = Some(d.attempts.iter().map(AttemptView::from).collect());
        self
    }
}
