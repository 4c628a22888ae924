//! Lists: pages of events, deliveries and endpoints, newest first.

mod of_endpoint;

use super::Reader;
use crate::delivery::Status;
use crate::error::StoreError;
use crate::event::Event;
use crate::file::guarded::guarded;
use crate::file::keys;
use crate::file::memory::{Memory, Shared, Snapshot};
use crate::file::pack::Pack;
use crate::file::reader::scan::{Next, Rows, Way};
use crate::file::tables::{self, ReadTables, Reading};
use crate::fingerprint::Fingerprint;
use crate::ids::{DeliveryId, EventId, Slot, UnixMs};
use crate::query::{
    BYTES_PER_ROW, Cursor, DeliveryFilter, DeliveryWithEvent, EventFilter, Filling, List, Page,
    Unreadable, id_range,
};
use std::sync::{Arc, RwLockReadGuard};

pub(super) fn events(
    shared: &Shared,
    views: &Snapshot,
    memory: RwLockReadGuard<'_, Memory>,
    filter: &EventFilter,
    after: Option<Cursor>,
    limit: usize,
) -> Result<Page<Arc<Event>>, StoreError> {
    let (from, until) = id_range(filter.since, filter.until);
    let mut before = after.map_or(until, |c| until.min(EventId(c.at)));
    // A damaged pack may reach up to here.
    let mut end = before;
    let mut filling = Filling::new(limit);
    let mut last = None;
    let newest = newest_by_key(shared, views, &memory, filter)?.filter(|_| after.is_none());
    drop(memory);
    let asked = |e: &Arc<Event>| e.id >= from && e.id < before && filter.matches(e);
    if let Some(event) = newest.filter(asked) {
        before = event.id;
        last = Some(cursor_at(event.id));
        filling.page.items.push(event);
    }
    let mut rows = Rows::new(
        &views.packs,
        Way::Down,
        // The pack that holds the first may begin before it.
        tables::event_key(EventId(0)),
        tables::event_key(before),
    );
    loop {
        let next = rows.next(|key, value| {
            if Pack::last_of(key, value)? < from {
                return Ok(None);
            }
            Pack::decode(key, value).map(Some)
        })?;
        let (first, error) = match next {
            Next::End | Next::Row(_, Ok(None)) => break,
            Next::Row(key, Ok(Some(pack))) => {
                filling.seen += pack.bytes() / BYTES_PER_ROW;
                let inside = |event: &Event| event.id < before && event.id >= from;
                for event in pack.events.iter().rev().filter(|e| inside(e)) {
                    if filling.go_on(last).is_break() {
                        return Ok(filling.page);
                    }
                    last = Some(cursor_at(event.id));
                    if filter.matches(event) {
                        filling.page.items.push(Arc::clone(event));
                    }
                }
                end = tables::event_of(&key);
                continue;
            }
            Next::Row(key, Err(error)) => (tables::event_of(&key), error),
            Next::Gap(first, _, error) => (first, error),
        };
        if end <= from {
            break;
        }
        if filling.go_on(last).is_break() {
            return Ok(filling.page);
        }
        last = Some(cursor_at(first));
        filling.damaged(Unreadable::Events(first.max(from), end), &error);
        end = first;
    }
    Ok(filling.page)
}

/// Returns where the list of events continues after this one.
fn cursor_at(event: EventId) -> Cursor {
    Cursor {
        list: List::Events,
        at: event.0,
        slot: Slot(0),
    }
}

/// Returns the newest event with a key, which the index finds immediately. Events accepted with the key before it last
/// expired are searched for in the packs, and so is one whose row of the index is damaged.
fn newest_by_key(
    shared: &Shared,
    views: &ReadTables,
    memory: &Memory,
    filter: &EventFilter,
) -> Result<Option<Arc<Event>>, StoreError> {
    match by_key(shared, views, memory, filter) {
        Err(e) if e.is_damage() => Ok(None),
        found => found,
    }
}

/// Returns the newest event with the filter's key, while the index has it.
fn by_key(
    shared: &Shared,
    views: &ReadTables,
    memory: &Memory,
    filter: &EventFilter,
) -> Result<Option<Arc<Event>>, StoreError> {
    let (Some(organization), Some(key)) = (&filter.organization, &filter.idempotency_key) else {
        return Ok(None);
    };
    let fingerprint = Fingerprint::of(organization, key);
    let found = keys::find(&views.keys, memory, fingerprint, UnixMs(0), u64::MAX)?;
    match found {
        Some(id) => shared.event(&views.packs, id),
        None => Ok(None),
    }
}

pub(super) fn deliveries(
    reader: &Reader,
    views: &Snapshot,
    memory: RwLockReadGuard<'_, Memory>,
    filter: &DeliveryFilter,
    after: Option<Cursor>,
    limit: usize,
) -> Result<Page<DeliveryWithEvent>, StoreError> {
    let mut filling = Filling::new(limit);
    let endpoint = match filter.endpoint {
        None => None,
        Some(id) => match memory.directory.by_id.get(&id) {
            Some(slot) if filter.may_include(memory.directory.endpoint(*slot)) => Some((id, *slot)),
            _ => return Ok(filling.page),
        },
    };
    if let (Some((endpoint, slot)), List::OfEndpoint) = (endpoint, filter.list()) {
        let runs = (
            memory.tail.runs.get(&slot).cloned(),
            memory.generations.clone(),
        );
        let numbered = memory.directory.state(slot).last_sequence.saturating_add(1);
        drop(memory);
        let asked = after.map(|c| u64::try_from(c.at).unwrap_or(u64::MAX));
        let mut listing = of_endpoint::Listing {
            reader,
            filter,
            slot,
            endpoint,
            below: asked.map_or(numbered, |asked| asked.min(numbered)),
            last: after,
            filling: &mut filling,
        };
        of_endpoint::of_endpoint(views, &mut listing, runs)?;
        return Ok(filling.page);
    }
    let slot = endpoint.map(|(_, slot)| slot);
    // Undelivered deliveries have their own index, which is complete while no bulk change is in progress.
    let of_bad =
        filter.status.is_some_and(Status::is_undelivered) && memory.directory.bulks.is_empty();
    drop(memory);
    let rows = if of_bad {
        &views.bad
    } else {
        &views.deliveries
    };
    by_event(reader, views, (slot, rows), filter, after, &mut filling)?;
    Ok(filling.page)
}

/// Returns the deliveries that these rows name, newest event first.
fn by_event(
    reader: &Reader,
    views: &Snapshot,
    (slot, rows): (Option<Slot>, &Reading<20>),
    filter: &DeliveryFilter,
    after: Option<Cursor>,
    filling: &mut Filling<DeliveryWithEvent>,
) -> Result<(), StoreError> {
    let (mut from, mut until) = id_range(filter.since, filter.until);
    if let Some(event) = filter.event {
        from = from.max(event);
        until = until.min(EventId(event.0.saturating_add(1)));
    }
    let key = |event, slot| tables::delivery_key(DeliveryId { event, slot });
    let (first, end) = (key(from, Slot(0)), key(until, Slot(0)));
    let end = after.map_or(end, |c| end.min(key(EventId(c.at), c.slot)));
    let mut last = None;
    let cursor = |at: EventId, slot| Cursor {
        list: List::Deliveries,
        at: at.0,
        slot,
    };
    let mut rows = Rows::new(rows, Way::Down, first, end.max(first));
    loop {
        match rows.next(|_, _| Ok(()))? {
            Next::End => break,
            Next::Row(key, _) => {
                if filling.go_on(last).is_break() {
                    break;
                }
                let id = tables::delivery_of(&key);
                last = Some(cursor(id.event, id.slot));
                let is_of = |organization: &String| {
                    let endpoint = views.endpoint(id.slot);
                    endpoint.is_some_and(|e| e.organization == *organization)
                };
                if slot.is_none_or(|slot| slot == id.slot)
                    && filter.organization.as_ref().is_none_or(is_of)
                {
                    take(reader, views, filter, (id, None), filling)?;
                }
            }
            Next::Gap(from, before, error) => {
                if filling.go_on(last).is_break() {
                    break;
                }
                last = Some(cursor(from, Slot(0)));
                filling.damaged(Unreadable::Events(from, before), &error);
            }
        }
    }
    Ok(())
}

/// Adds a delivery to the page if it belongs there. A sequence number names one of several deliveries that the pair
/// had; the others have been swept.
fn take(
    reader: &Reader,
    views: &Snapshot,
    filter: &DeliveryFilter,
    (id, sequence): (DeliveryId, Option<u64>),
    filling: &mut Filling<DeliveryWithEvent>,
) -> Result<(), StoreError> {
    let accepted = id.event.accepted_at();
    let within = filter.since.is_none_or(|since| accepted >= since)
        && filter.until.is_none_or(|until| accepted < until);
    if !within {
        return Ok(());
    }
    let found = guarded(|| {
        // The row alone has the status: most rows of a filtered list need no pack.
        if let Some(status) = filter.status
            && views.delivery(id)?.is_none_or(|d| d.status != status)
        {
            return Ok(None);
        }
        reader.view_of(views, id)
    });
    let asked = |view: &DeliveryWithEvent| {
        let event_type = filter.event_type.as_ref();
        sequence.is_none_or(|sequence| sequence == view.delivery.sequence)
            && event_type.is_none_or(|t| *t == view.event.event_type)
    };
    match found {
        Ok(view) => filling.page.items.extend(view.filter(asked)),
        Err(e) if e.is_damage() => filling.damaged(Unreadable::Delivery(id), &e),
        Err(e) => return Err(e),
    }
    Ok(())
}
