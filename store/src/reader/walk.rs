//! Everything, oldest first: each event and, after it, its deliveries, out of one snapshot. For a store at rest or a copy, since the
//! snapshot is held for as long as the walk takes.

use super::Reader;
use super::lists::{id_range, matches_event};
use crate::batch::as_read;
use crate::delivery::Delivery;
use crate::error::StoreError;
use crate::event::Event;
use crate::ids::{DeliveryId, EndpointId, EventId, Slot};
use crate::memory::Snapshot;
use crate::pack::Pack;
use crate::query::EventFilter;
use crate::rows;
use crate::tables;
use std::ops::ControlFlow;

/// What a walk comes by.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// An event. Its data may be gone.
    Event(&'a Event),
    /// A delivery of the event last come by.
    Delivery {
        /// The delivery with its attempts.
        delivery: &'a Delivery,
        /// Its endpoint.
        endpoint: EndpointId,
        /// Its event.
        event: &'a Event,
    },
}

impl Reader {
    /// Hands every event that the filter lets through to `each`, oldest first, and after it its deliveries in the order of their
    /// endpoints' creation, until `each` has enough.
    ///
    /// # Errors
    /// The file can't be read, or what was read is damaged.
    pub fn walk(
        &self,
        filter: &EventFilter,
        mut each: impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.shared.long_view(|views| {
            let (from, until) = id_range(filter.since, filter.until);
            // The pack that holds the first may begin before it.
            let first = match views
                .packs
                .range::<&[u8; 16]>(..=&tables::event_key(from))?
                .next_back()
            {
                Some(row) => tables::event_of(row?.0.value()),
                None => from,
            };
            for row in views
                .packs
                .range::<&[u8; 16]>(&tables::event_key(first)..&tables::event_key(until))?
            {
                let (key, value) = row?;
                let pack = Pack::decode(key.value(), value.value())?;
                let inside = |e: &Event| e.id >= from && e.id < until && matches_event(filter, e);
                for event in pack.events.iter().filter(|e| inside(e)) {
                    if one(views, event, &mut each)?.is_break() {
                        return Ok(());
                    }
                }
            }
            Ok(())
        })
    }
}

fn one(
    views: &Snapshot,
    event: &Event,
    each: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, StoreError> {
    if each(Record::Event(event)).is_break() {
        return Ok(ControlFlow::Break(()));
    }
    let of = |event: EventId, slot| tables::delivery_key(DeliveryId { event, slot });
    let (first, last) = (of(event.id, Slot(0)), of(event.id, Slot(u32::MAX)));
    for row in views.deliveries.range::<&[u8; 20]>(&first..=&last)? {
        let (key, value) = row?;
        let stored = rows::read_delivery(key.value(), value.value())?;
        let Some(endpoint) = views.endpoint(stored.id.slot) else {
            let what = stored.id.to_string();
            return Err(StoreError::damaged(what, "its endpoint is missing"));
        };
        let delivery = &as_read(stored, Some(endpoint), views.jobs());
        let record = Record::Delivery {
            delivery,
            endpoint: endpoint.id,
            event,
        };
        if each(record).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}
