//! What readers ask of the store, and the shape of a page of answers.
//!
//! A query does a bounded amount of work: a page that has looked at its limit of rows returns what it has and where to go on.

use crate::delivery::{Delivery, Status};
use crate::event::Event;
use crate::ids::{DeliveryId, EndpointId, EventId, Slot, UnixMs};
use std::sync::Arc;

/// How many rows one page looks at, at most.
pub const ROWS_PER_PAGE: usize = 10_000;

/// What a page is of: a cursor of one list says nothing in another.
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
}

impl List {
    const ALL: [Self; 4] = [
        Self::Events,
        Self::Deliveries,
        Self::OfEndpoint,
        Self::Endpoints,
    ];

    fn prefix(self) -> &'static str {
        match self {
            Self::Events => "cur_e",
            Self::Deliveries => "cur_d",
            Self::OfEndpoint => "cur_s",
            Self::Endpoints => "cur_p",
        }
    }
}

/// Where a page ended: the next one holds what comes strictly after it, newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// What the page is of.
    pub list: List,
    /// The last event looked at; in a list of one endpoint's deliveries, the last sequence number.
    pub at: u128,
    /// The last endpoint looked at under that event.
    pub slot: Slot,
}

impl Cursor {
    /// Its text form, opaque to callers.
    pub fn to_text(self) -> String {
        let id = DeliveryId {
            event: EventId(self.at),
            slot: self.slot,
        };
        id.to_string().replacen("dlv_", self.list.prefix(), 1)
    }

    /// Reads what [`Cursor::to_text`] wrote.
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
    /// What was found, newest first.
    pub items: Vec<T>,
    /// What may belong to the page and can't be read: no more than the page may have items, and for a list of one endpoint's
    /// deliveries one for each generation.
    pub damaged: Vec<Damage>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

/// What can't be read of a list, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What it is.
    pub what: Unreadable,
    /// What is wrong with it.
    pub detail: String,
}

/// A row, or a span in which rows may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Whatever is of the events from the first up to the second.
    Events(EventId, EventId),
    /// One delivery.
    Delivery(DeliveryId),
    /// An endpoint's deliveries with sequence numbers from the first up to the second.
    Sequences(EndpointId, u64, u64),
    /// What is said of an endpoint.
    Endpoint(EndpointId),
}

/// Which events. What is `None` doesn't matter.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Whose.
    pub organization: Option<String>,
    /// Of which type, exactly.
    pub event_type: Option<String>,
    /// Under which key.
    pub idempotency_key: Option<String>,
    /// Accepted at or after this.
    pub since: Option<UnixMs>,
    /// Accepted before this.
    pub until: Option<UnixMs>,
}

/// Which deliveries. What is `None` doesn't matter.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// To whom.
    pub endpoint: Option<EndpointId>,
    /// Where it stands.
    pub status: Option<Status>,
    /// Of which event type, exactly.
    pub event_type: Option<String>,
    /// Of which event.
    pub event: Option<EventId>,
    /// Accepted at or after this.
    pub since: Option<UnixMs>,
    /// Accepted before this.
    pub until: Option<UnixMs>,
}

impl DeliveryFilter {
    /// What a page of these is of.
    pub fn list(&self) -> List {
        match (self.endpoint, self.event) {
            (Some(_), None) => List::OfEndpoint,
            _ => List::Deliveries,
        }
    }
}

/// A delivery with what its event and endpoint say of it.
#[derive(Clone, Debug)]
pub struct DeliveryView {
    /// The delivery.
    pub delivery: Delivery,
    /// Its endpoint's id.
    pub endpoint: EndpointId,
    /// Its event. Its `data` may be gone.
    pub event: Arc<Event>,
}

/// What `check` found.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// Rows looked at.
    pub rows: u64,
    /// Events found.
    pub events: u64,
    /// Deliveries found.
    pub deliveries: u64,
    /// Every damage, named.
    pub damage: Vec<String>,
}
