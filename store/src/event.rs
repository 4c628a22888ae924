//! Events: what a producer sends, and what is stored of it.
//!
//! `data` is kept as bytes: nothing here parses or rewrites it.

use crate::ids::{EventId, Timestamp};
use serde::{Deserialize, Serialize};

/// An event as its producer sent it, checked but not yet stored.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// The organization that it belongs to.
    pub organization: String,
    /// Its type, such as `order.created`.
    pub event_type: String,
    /// The time that its producer gave; `None` means the time of acceptance.
    pub timestamp: Option<GivenTime>,
    /// The producer's idempotency key.
    pub idempotency_key: Option<String>,
    /// The JSON value, byte for byte.
    pub data: Vec<u8>,
}

/// A time as a producer gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenTime {
    /// The time.
    pub at: Timestamp,
    /// A checksum of the text: the same time written differently is not the same event.
    pub text: u32,
}

impl GivenTime {
    /// Returns `at` with the checksum of `text`.
    pub fn new(at: Timestamp, text: &str) -> Self {
        Self {
            at,
            text: crc32fast::hash(text.as_bytes()),
        }
    }
}

/// An event that a producer wrote to an outbox, in its own transaction.
#[derive(Clone, Debug)]
pub struct EmittedEvent {
    /// The id that it was given there. It holds the time of writing.
    pub id: EventId,
    /// The event.
    pub event: NewEvent,
}

/// A stored event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its id, which holds the time of acceptance.
    pub id: EventId,
    /// The organization that it belongs to.
    pub organization: String,
    /// Its type.
    pub event_type: String,
    /// The time that its producer gave, or the time of acceptance.
    pub timestamp: Timestamp,
    /// A checksum of the time's text, if the producer gave one.
    pub timestamp_text: Option<u32>,
    /// The producer's idempotency key.
    pub idempotency_key: Option<String>,
    /// The number of endpoints it went to when it was accepted.
    pub deliveries: u32,
    /// The JSON value, byte for byte; `None` once its retention is over.
    #[serde(with = "crate::optional_bytes")]
    pub data: Option<Vec<u8>>,
}

impl Event {
    /// Returns what stays of an event that was removed: its id, until its retention is over.
    pub fn rest_of(id: EventId) -> Self {
        Self {
            id,
            organization: String::new(),
            event_type: String::new(),
            timestamp: id.accepted_at().into(),
            timestamp_text: None,
            idempotency_key: None,
            deliveries: 0,
            data: None,
        }
    }

    /// Whether it is the rest of an event that was removed.
    pub fn is_removed(&self) -> bool {
        self.organization.is_empty()
    }

    /// Whether `again` is the same event, sent again.
    pub fn is_same_as(&self, again: &NewEvent) -> bool {
        self.organization == again.organization
            && self.event_type == again.event_type
            && self.idempotency_key == again.idempotency_key
            && self.timestamp_text == again.timestamp.map(|given| given.text)
            && self.data.as_deref() == Some(again.data.as_slice())
    }
}
