//! Lists: pages of events, deliveries and endpoints, newest first.

use super::Reader;
use crate::delivery::Status;
use crate::error::StoreError;
use crate::event::Event;
use crate::ids::{DeliveryId, EventId, Slot, UnixMs};
use crate::journal::{Fingerprint, Generation, Run};
use crate::memory::{Memory, Shared, Snapshot};
use crate::pack::Pack;
use crate::query::{Cursor, DeliveryFilter, DeliveryView, EventFilter, List, Page, ROWS_PER_PAGE};
use crate::reader::keys;
use crate::record;
use crate::tables::{self, Reading, Views};
use std::ops::ControlFlow;
use std::sync::{Arc, RwLockReadGuard};

/// Bytes of events that count as one more row looked at: large ones are work too.
const BYTES_PER_ROW: usize = 4 << 10;

/// A page being filled.
struct Filling<T> {
    page: Page<T>,
    limit: usize,
    seen: usize,
}

impl<T> Filling<T> {
    fn new(limit: usize) -> Self {
        Self {
            page: Page {
                items: Vec::new(),
                next: None,
            },
            limit,
            seen: 0,
        }
    }

    /// Whether another row may be looked at; if not, the page goes on after `last`.
    fn go_on(&mut self, last: Option<Cursor>) -> ControlFlow<()> {
        if self.page.items.len() >= self.limit || self.seen >= ROWS_PER_PAGE {
            self.page.next = last;
            return ControlFlow::Break(());
        }
        self.seen += 1;
        ControlFlow::Continue(())
    }
}

/// The ids that lie in a span of acceptance: from the first to before the second.
pub(super) fn id_range(since: Option<UnixMs>, until: Option<UnixMs>) -> (EventId, EventId) {
    (
        since.map_or(EventId(0), EventId::first_of),
        until.map_or(EventId(u128::MAX), EventId::first_of),
    )
}

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
    let mut filling = Filling::new(limit);
    let mut last = None;
    // The index knows the newest event under a key at once; what was accepted under it before it last expired is looked for.
    let newest = match after {
        None => by_key(shared, views, &memory, filter)?,
        Some(_) => None,
    };
    drop(memory);
    if let Some(event) = newest
        && event.id >= from
        && event.id < before
        && matches_event(filter, &event)
    {
        before = event.id;
        last = Some(Cursor {
            list: List::Events,
            at: event.id.0,
            slot: Slot(0),
        });
        filling.page.items.push(event);
    }
    for row in views
        .packs
        .range::<&[u8; 16]>(..&tables::event_key(before))?
        .rev()
    {
        let (key, value) = row?;
        if Pack::last_of(key.value(), value.value())? < from {
            break;
        }
        let pack = Pack::decode(key.value(), value.value())?;
        filling.seen += pack.bytes() / BYTES_PER_ROW;
        for event in pack.events.iter().rev() {
            if event.id >= before || event.id < from {
                continue;
            }
            if filling.go_on(last).is_break() {
                return Ok(filling.page);
            }
            last = Some(Cursor {
                list: List::Events,
                at: event.id.0,
                slot: Slot(0),
            });
            if matches_event(filter, event) {
                filling.page.items.push(Arc::clone(event));
            }
        }
    }
    Ok(filling.page)
}

/// The newest event under the key that the filter names, while the index knows it.
fn by_key(
    shared: &Shared,
    views: &Views,
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

pub(super) fn matches_event(filter: &EventFilter, event: &Event) -> bool {
    filter
        .organization
        .as_ref()
        .is_none_or(|o| *o == event.organization)
        && filter
            .event_type
            .as_ref()
            .is_none_or(|t| *t == event.event_type)
        && (filter.idempotency_key.is_none() || filter.idempotency_key == event.idempotency_key)
}

pub(super) fn deliveries(
    reader: &Reader,
    views: &Snapshot,
    memory: RwLockReadGuard<'_, Memory>,
    filter: &DeliveryFilter,
    after: Option<Cursor>,
    limit: usize,
) -> Result<Page<DeliveryView>, StoreError> {
    let mut filling = Filling::new(limit);
    let slot = match filter.endpoint {
        None => None,
        Some(id) => match memory.by_id.get(&id) {
            Some(slot) => Some(*slot),
            None => return Ok(filling.page),
        },
    };
    if let (Some(slot), List::OfEndpoint) = (slot, filter.list()) {
        let runs = (
            memory.tail.runs.get(&slot).cloned(),
            memory.generations.clone(),
        );
        drop(memory);
        of_endpoint(reader, views, (slot, runs), filter, after, &mut filling)?;
        return Ok(filling.page);
    }
    // What ended badly has an index of its own, which says all while nothing done to many at once is being worked off.
    let of_bad = filter.status.is_some_and(Status::is_bad) && memory.is_worked_off();
    drop(memory);
    let rows = if of_bad {
        &views.bad
    } else {
        &views.deliveries
    };
    by_event(reader, views, (slot, rows), filter, after, &mut filling)?;
    Ok(filling.page)
}

/// The deliveries that these rows name, newest event first.
fn by_event(
    reader: &Reader,
    views: &Snapshot,
    (slot, rows): (Option<Slot>, &Reading<20>),
    filter: &DeliveryFilter,
    after: Option<Cursor>,
    filling: &mut Filling<DeliveryView>,
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
    for row in rows.range::<&[u8; 20]>(&first..&end.max(first))?.rev() {
        let (key, _) = row?;
        if filling.go_on(last).is_break() {
            break;
        }
        let id = tables::delivery_of(key.value());
        last = Some(Cursor {
            list: List::Deliveries,
            at: id.event.0,
            slot: id.slot,
        });
        if slot.is_none_or(|slot| slot == id.slot) {
            take(reader, views, filter, id, filling)?;
        }
    }
    Ok(())
}

fn take(
    reader: &Reader,
    views: &Snapshot,
    filter: &DeliveryFilter,
    id: DeliveryId,
    filling: &mut Filling<DeliveryView>,
) -> Result<(), StoreError> {
    let accepted = id.event.accepted_at();
    let within = filter.since.is_none_or(|since| accepted >= since)
        && filter.until.is_none_or(|until| accepted < until);
    if !within {
        return Ok(());
    }
    // A status is told by the row alone: most rows of a filtered list need no pack.
    if let Some(status) = filter.status
        && views.delivery(id)?.is_none_or(|d| d.status != status)
    {
        return Ok(());
    }
    if let Some(view) = reader.view_of(views, id)?
        && filter
            .event_type
            .as_ref()
            .is_none_or(|t| *t == view.event.event_type)
    {
        filling.page.items.push(view);
    }
    Ok(())
}

/// The deliveries of one endpoint, greatest sequence number first: what the journal holds, then the generations.
fn of_endpoint(
    reader: &Reader,
    views: &Snapshot,
    (slot, (tail, generations)): (Slot, (Option<Run>, Vec<Arc<Generation>>)),
    filter: &DeliveryFilter,
    after: Option<Cursor>,
    filling: &mut Filling<DeliveryView>,
) -> Result<(), StoreError> {
    let below = after.map_or(u64::MAX, |c| u64::try_from(c.at).unwrap_or(u64::MAX));
    let mut last = after;
    if let Some(run) = tail
        && take_run(
            reader,
            views,
            filter,
            (slot, &run),
            below,
            &mut last,
            filling,
        )?
        .is_break()
    {
        return Ok(());
    }
    for generation in generations.iter().rev() {
        let key = tables::history_key(generation.number, slot);
        let Some(row) = views.history.get(&key)? else {
            continue;
        };
        let run: Run = record::read("history", &key, row.value())?;
        if take_run(
            reader,
            views,
            filter,
            (slot, &run),
            below,
            &mut last,
            filling,
        )?
        .is_break()
        {
            return Ok(());
        }
    }
    Ok(())
}

fn take_run(
    reader: &Reader,
    views: &Snapshot,
    filter: &DeliveryFilter,
    (slot, run): (Slot, &Run),
    below: u64,
    last: &mut Option<Cursor>,
    filling: &mut Filling<DeliveryView>,
) -> Result<ControlFlow<()>, StoreError> {
    if run.first_sequence >= below {
        return Ok(ControlFlow::Continue(()));
    }
    for (at, event) in run.events.iter().enumerate().rev() {
        let sequence = run
            .first_sequence
            .saturating_add(u64::try_from(at).unwrap_or(0));
        if sequence >= below {
            continue;
        }
        if filling.go_on(*last).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        *last = Some(Cursor {
            list: List::OfEndpoint,
            at: u128::from(sequence),
            slot,
        });
        take(
            reader,
            views,
            filter,
            DeliveryId {
                event: *event,
                slot,
            },
            filling,
        )?;
    }
    Ok(ControlFlow::Continue(()))
}

pub(super) fn endpoints(
    memory: &Memory,
    organization: Option<&str>,
    active: Option<bool>,
    after: Option<Cursor>,
    limit: usize,
) -> Page<Arc<crate::endpoint::Endpoint>> {
    let below = after.map_or(u128::MAX, |c| c.at);
    let mut filling = Filling::new(limit);
    let mut last = None;
    let upto = memory
        .endpoints
        .len()
        .min(usize::try_from(below).unwrap_or(usize::MAX));
    for endpoint in memory.endpoints.iter().take(upto).rev().flatten() {
        let asked = endpoint.deleted_at.is_none()
            && organization.is_none_or(|o| o == endpoint.organization)
            && active.is_none_or(|a| a == endpoint.active);
        if !asked {
            continue;
        }
        if filling.go_on(last).is_break() {
            break;
        }
        last = Some(Cursor {
            list: List::Endpoints,
            at: u128::from(endpoint.slot.0),
            slot: Slot(0),
        });
        filling.page.items.push(Arc::clone(endpoint));
    }
    filling.page
}
