//! The queries of readers, and the form of a page of results.
//!
//! A query does a bounded amount of work: a page that has reached its limit of rows returns what it has and where to
//! continue.

use crate::delivery::{Delivery, Status};
use crate::endpoint::Endpoint;
use crate::error::StoreError;
use crate::event::Event;
use crate::ids::{AuditId, DeliveryId, EndpointId, EventId, Slot, UnixMs};
use crate::sealing::AtRest;
use std::ops::ControlFlow;
use std::sync::Arc;

/// How many rows one page looks at, at most.
pub const ROWS_PER_PAGE: usize = 10_000;

/// The list that a page belongs to: a cursor of one list is invalid for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// Events, by id.
    Events,
    /// Deliveries, by event.
    Deliveries,
    /// Deliveries of one endpoint, by sequence number.
    OfEndpoint,
    /// Endpoints, by number.
    Endpoints,
    /// API keys, by id.
    ApiKeys,
    /// Entries of the audit log, by id.
    Audit,
}

impl List {
    const ALL: [Self; 6] = [
        Self::Events,
        Self::Deliveries,
        Self::OfEndpoint,
        Self::Endpoints,
        Self::ApiKeys,
        Self::Audit,
    ];

    fn prefix(self) -> &'static str {
        match self {
            Self::Events => "cur_e",
            Self::Deliveries => "cur_d",
            Self::OfEndpoint => "cur_s",
            Self::Endpoints => "cur_p",
            Self::ApiKeys => "cur_k",
            Self::Audit => "cur_a",
        }
    }
}

/// Where a page ended: the next one starts strictly after it, newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The list.
    pub list: List,
    /// The last event looked at; in a list of one endpoint's deliveries, the last sequence number.
    pub at: u128,
    /// The last endpoint looked at for that event.
    pub slot: Slot,
}

impl Cursor {
    /// Returns its text form, opaque to callers.
    pub fn to_text(self) -> String {
        let id = DeliveryId {
            event: EventId(self.at),
            slot: self.slot,
        };
        id.to_string().replacen("dlv_", self.list.prefix(), 1)
    }

    /// Parses the output of [`Cursor::to_text`].
    pub fn parse(text: &str) -> Option<Self> {
        let list = List::ALL
            .into_iter()
            .find(|list| text.starts_with(list.prefix()))?;
        let digits = text.strip_prefix(list.prefix())?;
        let id = DeliveryId::parse(&format!("dlv_{digits}"))?;
        Some(Self {
            list,
            at: id.event.0,
            slot: id.slot,
        })
    }
}

/// One page.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The items found, newest first.
    pub items: Vec<T>,
    /// Rows that may belong to the page but can't be read: at most as many as the page may have items, and for a list
    /// of one endpoint's deliveries one per generation.
    pub damaged: Vec<Damage>,
    /// Where to continue; `None` at the end.
    pub next: Option<Cursor>,
}

/// Bytes of events that count as one more row: large events are work too.
pub const BYTES_PER_ROW: usize = 4 << 10;

/// A page being filled.
#[derive(Debug)]
pub struct Filling<T> {
    /// The page so far.
    pub page: Page<T>,
    /// How many items it may have.
    pub limit: usize,
    /// The rows looked at.
    pub seen: usize,
}

impl<T> Filling<T> {
    /// Returns an empty page of at most `limit` items.
    pub fn new(limit: usize) -> Self {
        Self {
            page: Page {
                items: Vec::new(),
                damaged: Vec::new(),
                next: None,
            },
            limit,
            seen: 0,
        }
    }

    /// Whether another row may be looked at; if not, the page continues after `last`.
    pub fn go_on(&mut self, last: Option<Cursor>) -> ControlFlow<()> {
        let filled = self.page.items.len() + self.page.damaged.len();
        if filled >= self.limit || self.seen >= ROWS_PER_PAGE {
            self.page.next = last;
            return ControlFlow::Break(());
        }
        self.seen += 1;
        ControlFlow::Continue(())
    }

    /// Names a part that can't be read. It uses up a place in the page, where it might have been.
    pub fn damaged(&mut self, what: Unreadable, error: &StoreError) {
        let detail = error.to_string();
        self.page.damaged.push(Damage { what, detail });
    }
}

/// Returns the ids within a span of acceptance, as a range with an exclusive end.
pub fn id_range(since: Option<UnixMs>, until: Option<UnixMs>) -> (EventId, EventId) {
    (
        since.map_or(EventId(0), EventId::first_of),
        until.map_or(EventId(u128::MAX), EventId::first_of),
    )
}

/// A part of a list that can't be read, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The part.
    pub what: Unreadable,
    /// What is wrong with it.
    pub detail: String,
}

/// A row, or a range in which there may be rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// All rows of the events from the first up to the second, exclusive.
    Events(EventId, EventId),
    /// One delivery.
    Delivery(DeliveryId),
    /// An endpoint's deliveries with sequence numbers from the first up to the second, exclusive.
    Sequences(EndpointId, u64, u64),
    /// The record of an endpoint.
    Endpoint(EndpointId),
    /// The entries of the audit log from the first up to the second, exclusive.
    Audit(AuditId, AuditId),
}

/// An object, as a request names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// An endpoint.
    Endpoint(EndpointId),
    /// An event.
    Event(EventId),
    /// An endpoint by its number, as deliveries name it.
    Slot(Slot),
}

/// Which events. `None` matches all.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Events of this organization.
    pub organization: Option<String>,
    /// Events of exactly this type.
    pub event_type: Option<String>,
    /// Events with this idempotency key.
    pub idempotency_key: Option<String>,
    /// Events accepted at or after this time.
    pub since: Option<UnixMs>,
    /// Events accepted before this time.
    pub until: Option<UnixMs>,
}

impl EventFilter {
    /// Whether an event of the asked span is among those that are asked for.
    pub fn matches(&self, event: &Event) -> bool {
        let organization = self.organization.as_ref();
        let event_type = self.event_type.as_ref();
        !event.is_removed()
            && organization.is_none_or(|o| *o == event.organization)
            && event_type.is_none_or(|t| *t == event.event_type)
            && (self.idempotency_key.is_none() || self.idempotency_key == event.idempotency_key)
    }
}

/// Which deliveries. `None` matches all.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// Deliveries of this organization.
    pub organization: Option<String>,
    /// Deliveries to this endpoint.
    pub endpoint: Option<EndpointId>,
    /// Deliveries in this state.
    pub status: Option<Status>,
    /// Deliveries of events of exactly this type.
    pub event_type: Option<String>,
    /// Deliveries of this event.
    pub event: Option<EventId>,
    /// Deliveries of events accepted at or after this time.
    pub since: Option<UnixMs>,
    /// Deliveries of events accepted before this time.
    pub until: Option<UnixMs>,
}

impl DeliveryFilter {
    /// Whether deliveries of this endpoint may be among those that are asked for.
    pub fn may_include(&self, endpoint: Option<&Arc<Endpoint>>) -> bool {
        let organization = self.organization.as_ref();
        organization.is_none_or(|o| endpoint.is_some_and(|e| e.organization == *o))
    }

    /// Returns the list that a page of these belongs to.
    pub fn list(&self) -> List {
        match (self.endpoint, self.event) {
            (Some(_), None) => List::OfEndpoint,
            _ => List::Deliveries,
        }
    }
}

/// A delivery with the parts of its event and endpoint that callers see.
#[derive(Clone, Debug)]
pub struct DeliveryWithEvent {
    /// The delivery.
    pub delivery: Delivery,
    /// Its endpoint's id.
    pub endpoint: EndpointId,
    /// Its event. Its `data` may have been swept.
    pub event: Arc<Event>,
}

/// The findings of `check`.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// The number of rows checked.
    pub rows: u64,
    /// The number of events found.
    pub events: u64,
    /// The number of deliveries found.
    pub deliveries: u64,
    /// All damage, each with its place.
    pub damage: Vec<String>,
    /// In which form secrets are kept.
    pub secrets: AtRest,
}
