//! What a store holds, item by item, to move it to another store: in a form that belongs to neither.
//!
//! Each item has a key and a record, as a row of the file has: a version, a checksum over table, key and content, and
//! the content. So every field moves, and records of an earlier version are read as the file reads them.

use crate::api_key::ApiKey;
use crate::audit::AuditEntry;
use crate::bulk::Bulk;
use crate::delivery::Delivery;
use crate::endpoint::{Endpoint, EndpointState, Revision};
use crate::error::StoreError;
use crate::event::Event;
use crate::file::memory::expect_form;
use crate::file::record;
use crate::file::rows;
use crate::file::tables;
use crate::fingerprint::Fingerprint;
use crate::ids::{EventId, Slot, UnixMs};
use crate::purge::Purge;
use crate::sealing::{AtRest, Keys, Seal};
use crate::stats::{Counters, Level, Window};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The numbers and times that a store goes on from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The last event.
    pub last_event: EventId,
    /// The last stamp of a bulk change.
    pub last_stamp: u64,
    /// The number of the next endpoint.
    pub next_slot: u32,
    /// The number of the next bulk change.
    pub next_bulk: u64,
    /// Up to when events were swept.
    pub swept_before: UnixMs,
    /// Up to when deliveries were swept.
    pub deliveries_swept_before: UnixMs,
    /// The paced time of the last commit.
    pub paced: UnixMs,
}

/// One item. A store passes them in the order of this list, but each event is followed by its deliveries; events and
/// keys come oldest first.
#[derive(Clone, Debug)]
pub enum Item {
    /// Where the store goes on from. The first item.
    Position(Position),
    /// An endpoint, with its secrets.
    Endpoint(Arc<Endpoint>),
    /// The running state of an endpoint.
    State(Slot, EndpointState),
    /// What an endpoint receives from an event on.
    Revision(Slot, EventId, Revision),
    /// A bulk change in progress.
    Bulk(Slot, Bulk),
    /// A purge in progress.
    Purge(Box<Purge>),
    /// An API key.
    ApiKey(Box<ApiKey>),
    /// An entry of the audit log.
    Audit(Box<AuditEntry>),
    /// Counters of all endpoints.
    Counters(Level, UnixMs, Counters),
    /// Histograms, and the counters of one endpoint.
    Window(Level, UnixMs, Slot, Box<Window>),
    /// An event.
    Event(Arc<Event>),
    /// A delivery of the last event, as stored: bulk changes in progress may still apply to it.
    Delivery(Box<Delivery>),
    /// An idempotency key, and the event or the endpoint that it refers to.
    Key(Fingerprint, EventId),
}

/// An item's key and record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// What it is: one of [`Item::KINDS`].
    pub kind: &'static str,
    /// The key.
    pub key: Vec<u8>,
    /// The record.
    pub record: Vec<u8>,
}

const POSITION: &str = "position";
const ENDPOINT: &str = "endpoint";
const STATE: &str = "state";
const REVISION: &str = "revision";
const BULK: &str = "bulk";
const PURGE: &str = "purge";
const API_KEY: &str = "api_key";
const AUDIT: &str = "audit";
const COUNTERS: &str = "counters";
const WINDOW: &str = "window";
const EVENT: &str = "event";
const DELIVERY: &str = "delivery";
const KEY: &str = "key";

impl Item {
    /// Returns the error of an item that comes where another is expected.
    pub fn misplaced(what: &str) -> StoreError {
        let detail = format!("{what} is not in its place");
        StoreError::damaged("the order of the items", detail)
    }

    /// Returns the error of a store with a delivery whose event is missing.
    pub fn without_event(delivery: &Delivery) -> StoreError {
        StoreError::damaged(delivery.id.to_string(), "its event is missing")
    }

    /// Every kind of item, in the order in which a store passes them.
    pub const KINDS: [&'static str; 13] = [
        POSITION, ENDPOINT, STATE, REVISION, BULK, PURGE, API_KEY, AUDIT, COUNTERS, WINDOW, EVENT,
        DELIVERY, KEY,
    ];

    /// Returns its kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Position(_) => POSITION,
            Self::Endpoint(_) => ENDPOINT,
            Self::State(..) => STATE,
            Self::Revision(..) => REVISION,
            Self::Bulk(..) => BULK,
            Self::Purge(_) => PURGE,
            Self::ApiKey(_) => API_KEY,
            Self::Audit(_) => AUDIT,
            Self::Counters(..) => COUNTERS,
            Self::Window(..) => WINDOW,
            Self::Event(_) => EVENT,
            Self::Delivery(_) => DELIVERY,
            Self::Key(..) => KEY,
        }
    }

    /// Returns its key and record.
    ///
    /// # Errors
    /// It is larger than a record may be.
    pub fn encode(&self) -> Result<Encoded, StoreError> {
        let kind = self.kind();
        let (key, record) = match self {
            Self::Position(position) => plain(kind, &[], position),
            Self::Endpoint(e) => {
                let record = rows::write_endpoint(e, Seal::Plain)?;
                Ok((tables::slot_key(e.slot).to_vec(), record))
            }
            Self::State(slot, state) => plain(kind, &tables::slot_key(*slot), state),
            Self::Revision(slot, from, revision) => {
                plain(kind, &tables::revision_key(*slot, *from), revision)
            }
            Self::Bulk(slot, bulk) => plain(kind, &tables::bulk_key(*slot, bulk.number), bulk),
            Self::Purge(purge) => plain(kind, &tables::count_key(purge.number), purge),
            Self::ApiKey(api_key) => plain(kind, &tables::api_key_key(api_key.id), api_key),
            Self::Audit(entry) => plain(kind, &tables::audit_key(entry.id), entry),
            Self::Counters(level, start, counters) => {
                plain(kind, &tables::counters_key(*level, *start), counters)
            }
            Self::Window(level, start, slot, window) => {
                plain(kind, &tables::window_key(*level, *start, *slot), window)
            }
            Self::Event(event) => plain(kind, &tables::event_key(event.id), event.as_ref()),
            Self::Delivery(d) => {
                let record = rows::write_delivery(d)?;
                Ok((tables::delivery_key(d.id).to_vec(), record))
            }
            Self::Key(fingerprint, id) => plain(kind, &fingerprint.0.to_be_bytes(), id),
        }?;
        Ok(Encoded { kind, key, record })
    }

    /// Reads the output of [`Item::encode`].
    ///
    /// # Errors
    /// It is damaged, of a kind that is not known, or of a newer version.
    pub fn decode(kind: &str, key: &[u8], record: &[u8]) -> Result<Self, StoreError> {
        Ok(match kind {
            POSITION => Self::Position(record::read(kind, sized::<0>(kind, key)?, record)?),
            ENDPOINT => {
                let key = sized(kind, key)?;
                let read = rows::read_endpoint(key, record, &Keys::default())?;
                expect_form(AtRest::default(), &read)?;
                Self::Endpoint(Arc::new(read.endpoint))
            }
            STATE => {
                let key = sized(kind, key)?;
                Self::State(tables::slot_of(key), record::read(kind, key, record)?)
            }
            REVISION => {
                let key = sized(kind, key)?;
                let (slot, from) = tables::revision_of(key);
                Self::Revision(slot, from, record::read(kind, key, record)?)
            }
            BULK => {
                let (slot, number) = tables::bulk_of(sized(kind, key)?);
                let bulk = record::read(kind, key, record)?;
                Self::Bulk(slot, Bulk { number, ..bulk })
            }
            PURGE => {
                let number = tables::count_of(sized(kind, key)?);
                let purge = record::read(kind, key, record)?;
                Self::Purge(Box::new(Purge { number, ..purge }))
            }
            API_KEY => {
                let id = tables::api_key_of(sized(kind, key)?);
                let api_key = record::read(kind, key, record)?;
                Self::ApiKey(Box::new(ApiKey { id, ..api_key }))
            }
            AUDIT => {
                let id = tables::audit_of(sized(kind, key)?);
                let entry = record::read(kind, key, record)?;
                Self::Audit(Box::new(AuditEntry { id, ..entry }))
            }
            COUNTERS => {
                let key: &[u8; 9] = sized(kind, key)?;
                let counters = record::read(kind, key, record)?;
                Self::Counters(level_of(kind, key)?, tables::counters_start(key), counters)
            }
            WINDOW => {
                let key: &[u8; 13] = sized(kind, key)?;
                let window = record::read(kind, key, record)?;
                let (start, slot) = tables::window_of(key);
                Self::Window(level_of(kind, key)?, start, slot, Box::new(window))
            }
            EVENT => {
                let key: &[u8; 16] = sized(kind, key)?;
                let event: Event = record::read(kind, key, record)?;
                if event.id != tables::event_of(key) {
                    let what = format!("the record of {}", tables::event_of(key));
                    return Err(StoreError::damaged(what, "it has another id"));
                }
                Self::Event(Arc::new(event))
            }
            DELIVERY => {
                let key = sized(kind, key)?;
                Self::Delivery(Box::new(rows::read_delivery(key, record)?))
            }
            KEY => {
                let key: &[u8; 16] = sized(kind, key)?;
                let id = record::read(kind, key, record)?;
                Self::Key(Fingerprint(u128::from_be_bytes(*key)), id)
            }
            other => return Err(unknown(other)),
        })
    }
}

fn unknown(kind: &str) -> StoreError {
    let what = format!("the item {kind:?}");
    StoreError::damaged(what, "its kind is not known")
}

fn plain<T: Serialize>(
    kind: &str,
    key: &[u8],
    value: &T,
) -> Result<(Vec<u8>, Vec<u8>), StoreError> {
    Ok((key.to_vec(), record::write(kind, key, value)?))
}

/// Returns the key as one of this width.
fn sized<'k, const N: usize>(kind: &str, key: &'k [u8]) -> Result<&'k [u8; N], StoreError> {
    key.try_into().map_err(|_| {
        let detail = format!("its key has {} bytes, not {N}", key.len());
        StoreError::damaged(format!("an item {kind:?}"), detail)
    })
}

fn level_of(kind: &str, key: &[u8]) -> Result<Level, StoreError> {
    tables::level_of(key).ok_or_else(|| {
        StoreError::damaged(format!("an item {kind:?}"), "its key names no known level")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::purge::{PurgeEffect, PurgeScope};

    #[test]
    fn an_item_reads_back_and_a_changed_byte_is_found() {
        let items = [
            Item::Position(Position {
                last_event: EventId(7 << 80),
                next_slot: 3,
                ..Position::default()
            }),
            Item::Key(Fingerprint(5), EventId(6)),
            Item::Purge(Box::new(Purge {
                organization: "org".to_owned(),
                scope: PurgeScope::Events(vec![EventId(7)]),
                effect: PurgeEffect::All,
                at: UnixMs(8),
                number: 9,
            })),
            Item::Window(Level::Hour, UnixMs(9), Slot(2), Box::default()),
        ];
        for item in items {
            let Encoded { kind, key, record } = item.encode().unwrap();
            let again = Item::decode(kind, &key, &record).unwrap();
            assert_eq!(format!("{again:?}"), format!("{item:?}"));
            for at in 0..record.len() {
                let mut changed = record.clone();
                changed[at] ^= 1;
                assert!(Item::decode(kind, &key, &changed).is_err(), "{kind} {at}");
            }
            for at in 0..key.len() {
                let mut changed = key.clone();
                changed[at] ^= 1;
                assert!(
                    Item::decode(kind, &changed, &record).is_err(),
                    "{kind} {at}"
                );
            }
            assert!(Item::decode("other", &key, &record).is_err());
            assert!(Item::decode(kind, &[1, 2, 3], &record).is_err());
        }
    }
}
