//! Explains why an endpoint was or wasn't sent an event, and which events it missed while it was inactive.

use crate::endpoint::{Endpoint, Revision, Why};
use crate::error::StoreError;
use crate::event::Event;
use crate::file::guarded::guarded;
use crate::file::record;
use crate::file::tables::{self, ReadTables};
use crate::ids::{DeliveryId, EventId, Slot};

/// Returns what was read, or `None` if it is damaged.
pub(crate) fn whole<V>(read: Result<V, StoreError>) -> Result<Option<V>, StoreError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.is_damage() => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether an endpoint was subscribed to an event but inactive, has no delivery of it, and can still be sent it.
pub(crate) fn was_missed(
    views: &ReadTables,
    endpoint: &Endpoint,
    event: &Event,
) -> Result<bool, StoreError> {
    if event.organization != endpoint.organization || event.data.is_none() {
        return Ok(false);
    }
    let why = whole(guarded(|| why(views, endpoint.slot, event)))?;
    Ok(why == Some(Why::InactiveAtAcceptance))
}

/// Returns why an endpoint was or wasn't sent an event.
pub(crate) fn why(views: &ReadTables, slot: Slot, event: &Event) -> Result<Why, StoreError> {
    let pair = DeliveryId {
        event: event.id,
        slot,
    };
    let delivered = views.deliveries.get(&tables::delivery_key(pair))?.is_some();
    let from = tables::revision_key(slot, EventId(0));
    let upto = tables::revision_key(slot, event.id);
    let revision: Option<Revision> = match views
        .revisions
        .range::<&[u8; 20]>(&from..=&upto)?
        .next_back()
    {
        Some(row) => {
            let (key, value) = row?;
            Some(record::read("revisions", key.value(), value.value())?)
        }
        None => None,
    };
    Ok(Why::decide(revision.as_ref(), &event.event_type, delivered))
}
