//! What callers see of events, endpoints and deliveries: field names and their order are the contract's.

use crate::app::App;
use crate::times::{at, maybe_at, rfc3339};
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use stormhook_store::{
    Attempt, Cursor, Delivery, DeliveryView, Endpoint, EndpointId, Event, Page, Timestamp, UnixMs,
};
use utoipa::ToSchema;

/// A page of a list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListView<T> {
    /// The rows, newest first. May be few, even none, while `nextCursor` is set.
    pub(crate) data: Vec<T>,
    /// What to pass as `cursor` for the next page; null at the end.
    pub(crate) next_cursor: Option<String>,
}

impl<T> ListView<T> {
    pub(crate) fn of<S>(page: Page<S>, view: impl FnMut(S) -> T) -> Self {
        Self {
            data: page.items.into_iter().map(view).collect(),
            next_cursor: page.next.map(Cursor::to_text),
        }
    }
}

/// What became of an event that was handed over.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReceiptView<'a> {
    /// `evt_…`
    pub(crate) id: String,
    pub(crate) organization_id: &'a str,
    #[serde(rename = "type")]
    pub(crate) event_type: &'a str,
    /// RFC 3339.
    #[serde(serialize_with = "at")]
    #[schema(value_type = String)]
    pub(crate) timestamp: Timestamp,
    /// How many endpoints it goes to.
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
pub(crate) struct EventView {
    /// `evt_…`
    id: String,
    organization_id: String,
    #[serde(rename = "type")]
    event_type: String,
    #[serde(serialize_with = "at")]
    #[schema(value_type = String)]
    timestamp: Timestamp,
    #[serde(serialize_with = "at")]
    #[schema(value_type = String)]
    accepted_at: UnixMs,
    idempotency_key: Option<String>,
    deliveries: u32,
    /// As it was handed over; null once its retention is over. Left out of lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
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

    pub(crate) fn whole(event: &Event) -> Self {
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
pub(crate) struct ExplainView {
    pub(crate) endpoint_id: String,
    /// `subscribed`, `type_not_subscribed`, `inactive_at_acceptance`, `created_later` or `deleted`.
    pub(crate) reason: &'static str,
}

/// An endpoint.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndpointView {
    /// `ep_…`
    id: String,
    organization_id: String,
    url: String,
    event_types: Vec<String>,
    active: bool,
    disabled_reason: Option<String>,
    description: Option<String>,
    /// Names with `***` for values.
    headers: BTreeMap<String, &'static str>,
    rate_limit_per_second: Option<f64>,
    /// `parallel` or `fifo`.
    ordering: &'static str,
    failure_count: u32,
    #[serde(serialize_with = "maybe_at")]
    #[schema(value_type = Option<String>)]
    last_success_at: Option<UnixMs>,
    #[serde(serialize_with = "at")]
    #[schema(value_type = String)]
    created_at: UnixMs,
    #[serde(serialize_with = "at")]
    #[schema(value_type = String)]
    updated_at: UnixMs,
    /// Shown once, at creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl EndpointView {
    pub(crate) fn of(app: &App, e: &Endpoint) -> Self {
        let state = app.reader().state(e.slot);
        Self {
            id: e.id.to_string(),
            organization_id: e.organization.clone(),
            url: e.url.clone(),
            event_types: e.event_types.iter().map(ToString::to_string).collect(),
            active: e.active,
            disabled_reason: e.disabled_reason.clone(),
            description: e.description.clone(),
            headers: e
                .headers
                .0
                .keys()
                .map(|name| (name.clone(), "***"))
                .collect(),
            rate_limit_per_second: e.rate_limit_per_second,
            ordering: e.ordering.as_str(),
            failure_count: state.failure_count,
            last_success_at: state.last_success_at,
            created_at: e.created_at,
            updated_at: e.updated_at,
            secret: None,
        }
    }

    pub(crate) fn with_secret(mut self, e: &Endpoint) -> Self {
        self.secret = e
            .secrets
            .first()
            .map(|live| live.secret.expose().to_owned());
        self
    }
}

/// The secrets that sign.
#[derive(Serialize, ToSchema)]
pub(crate) struct SecretsView {
    /// The current one.
    secret: Option<String>,
    /// Earlier ones that still sign.
    previous: Vec<PreviousSecretView>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct PreviousSecretView {
    secret: String,
    /// RFC 3339: when it stops signing.
    until: Option<String>,
}

impl SecretsView {
    pub(crate) fn of(e: &Endpoint, now: UnixMs) -> Self {
        let mut live = e.live_secrets(now);
        Self {
            secret: live.next().map(|l| l.secret.expose().to_owned()),
            previous: live
                .map(|l| PreviousSecretView {
                    secret: l.secret.expose().to_owned(),
                    until: l.until.map(rfc3339),
                })
                .collect(),
        }
    }
}

/// One finished attempt.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AttemptView {
    pub(crate) attempt: u32,
    pub(crate) round: u32,
    /// `schedule`, `manual` or `replay`.
    pub(crate) trigger: &'static str,
    #[serde(serialize_with = "at")]
    #[schema(value_type = String)]
    pub(crate) started_at: UnixMs,
    pub(crate) duration_ms: u64,
    /// `success`, `http_status`, `timeout`, `connect`, `dns`, `tls`, `target_refused`, `protocol` or `interrupted`.
    pub(crate) outcome: &'static str,
    pub(crate) response_code: Option<u16>,
    /// The beginning of a failure's body; bytes that are not UTF-8 are shown as `\xNN`.
    pub(crate) response_excerpt: Option<String>,
    pub(crate) error: Option<String>,
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
        }
    }
}

/// Whether a character changes the direction of the text around it, or is not seen at all (Unicode, UAX #9 and UTR #36).
fn turns_text(c: char) -> bool {
    matches!(c, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}

/// Bytes as text that does nothing to a terminal or its reader: control characters as `\u{N}`, what is no UTF-8 as `\xNN`, and a
/// backslash as two.
fn shown(bytes: &[u8]) -> String {
    bytes
        .utf8_chunks()
        .flat_map(|chunk| {
            let mut text = String::new();
            for c in chunk.valid().chars() {
                match c {
                    '\n' | '\r' | '\t' => text.push(c),
                    '\\' => text.push_str("\\\\"),
                    control if control.is_control() || turns_text(control) => {
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
pub(crate) struct DeliveryJson {
    /// `dlv_…`
    id: String,
    endpoint_id: String,
    event_id: String,
    event_type: String,
    sequence: u64,
    /// `PENDING`, `RETRYING`, `SUCCESS`, `ABANDONED` or `FAILED`.
    status: &'static str,
    /// Why it ended early: `gone`, `endpoint_deleted`, `cancelled` or `discarded`.
    reason: Option<&'static str>,
    attempt: u32,
    /// Of this round's last attempt.
    response_code: Option<u16>,
    #[serde(serialize_with = "maybe_at")]
    #[schema(value_type = Option<String>)]
    next_attempt_at: Option<UnixMs>,
    /// `schedule`, `in_flight`, `endpoint_inactive`, `concurrency`, `rate_limit` or `fifo_predecessor`; null when ended.
    waiting_for: Option<&'static str>,
    #[serde(serialize_with = "at")]
    #[schema(value_type = String)]
    created_at: UnixMs,
    #[serde(serialize_with = "at")]
    #[schema(value_type = String)]
    updated_at: UnixMs,
    /// Oldest first. Left out of lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<Vec<AttemptView>>,
}

impl DeliveryJson {
    pub(crate) fn new(app: &App, d: &Delivery, endpoint: EndpointId, event_type: &str) -> Self {
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
            waiting_for: app.waiting_for(d),
            created_at: d.created_at,
            updated_at: d.updated_at,
            attempts: None,
        }
    }

    pub(crate) fn listed(app: &App, view: &DeliveryView) -> Self {
        Self::new(app, &view.delivery, view.endpoint, &view.event.event_type)
    }

    pub(crate) fn with_attempts(mut self, d: &Delivery) -> Self {
        self.attempts = Some(d.attempts.iter().map(AttemptView::from).collect());
        self
    }
}
