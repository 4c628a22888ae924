//! Walks everything, oldest first: each event followed by its deliveries, in one snapshot. For a stopped store or a
//! copy, since the snapshot is held during the whole walk.

use super::Reader;
use super::scan::{Next, Rows, Way};
use crate::bulk::as_read;
use crate::delivery::Delivery;
use crate::error::StoreError;
use crate::event::Event;
use crate::file::memory::Snapshot;
use crate::file::pack::Pack;
use crate::file::rows;
use crate::file::tables;
use crate::ids::{DeliveryId, EndpointId, EventId, Slot};
use crate::query::id_range;
use crate::query::{Damage, EventFilter, Unreadable};
use std::ops::ControlFlow;

/// One item of a walk.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// An event. Its data may have been swept.
    Event(&'a Event),
    /// A delivery of the last event.
    Delivery {
        /// The delivery with its attempts.
        delivery: &'a Delivery,
        /// Its endpoint.
        endpoint: EndpointId,
        /// Its event.
        event: &'a Event,
    },
    /// A part that may belong here but can't be read.
    Damaged(&'a Damage),
}

impl Reader {
    /// Passes every event that matches the filter to `each`, oldest first, followed by its deliveries in the order of
    /// their endpoints' creation, until `each` stops. Damage is passed by its name, and the walk continues.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn walk(
        &self,
        filter: &EventFilter,
        each: impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.shared.long_view(|views| {
            let mut walk = Walk {
                views,
                filter,
                each,
            };
            walk.events().map(drop)
        })
    }
}

struct Walk<'w, E> {
    views: &'w Snapshot,
    filter: &'w EventFilter,
    each: E,
}

impl<E: FnMut(Record<'_>) -> ControlFlow<()>> Walk<'_, E> {
    fn events(&mut self) -> Result<ControlFlow<()>, StoreError> {
        let (from, until) = id_range(self.filter.since, self.filter.until);
        let views = self.views;
        let key = tables::event_key;
        // The pack that holds the first may begin before it.
        let mut before = Rows::new(
            &views.packs,
            Way::Down,
            key(EventId(0)),
            key(EventId(from.0.saturating_add(1))),
        );
        let first = match before.next(|_, _| Ok(()))? {
            Next::Row(first, _) => first,
            Next::Gap(..) | Next::End => key(from),
        };
        let mut rows = Rows::new(&views.packs, Way::Up, first, key(until));
        // A damaged pack reaches up to the next one, and so do those of a damaged page.
        let mut damaged: Option<(EventId, StoreError)> = None;
        loop {
            let next = rows.next(Pack::decode)?;
            let begins = match &next {
                Next::Row(key, _) => tables::event_of(key),
                Next::Gap(from, ..) => *from,
                Next::End => until,
            };
            if let Some((first, error)) = damaged.take()
                && begins > from
                && self
                    .damaged(Unreadable::Events(first.max(from), begins), &error)
                    .is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
            match next {
                Next::End => return Ok(ControlFlow::Continue(())),
                Next::Row(_, Err(error)) | Next::Gap(_, _, error) => {
                    damaged = Some((begins, error));
                }
                Next::Row(_, Ok(pack)) => {
                    for event in pack.events.iter().filter(|e| e.id >= from && e.id < until) {
                        if self.filter.matches(event) && self.event(event)?.is_break() {
                            return Ok(ControlFlow::Break(()));
                        }
                    }
                }
            }
        }
    }

    fn damaged(&mut self, what: Unreadable, error: &StoreError) -> ControlFlow<()> {
        let detail = error.to_string();
        (self.each)(Record::Damaged(&Damage { what, detail }))
    }

    fn event(&mut self, event: &Event) -> Result<ControlFlow<()>, StoreError> {
        if (self.each)(Record::Event(event)).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        let views = self.views;
        let next = EventId(event.id.0.saturating_add(1));
        let of = |event: EventId| {
            tables::delivery_key(DeliveryId {
                event,
                slot: Slot(0),
            })
        };
        let mut rows = Rows::new(&views.deliveries, Way::Up, of(event.id), of(next));
        loop {
            let flow = match rows.next(rows::read_delivery)? {
                Next::End => return Ok(ControlFlow::Continue(())),
                Next::Gap(first, before, error) => {
                    self.damaged(Unreadable::Events(first, before), &error)
                }
                Next::Row(key, Err(error)) => {
                    self.damaged(Unreadable::Delivery(tables::delivery_of(&key)), &error)
                }
                Next::Row(_, Ok(stored)) => self.delivery(event, stored),
            };
            if flow.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }

    fn delivery(&mut self, event: &Event, stored: Delivery) -> ControlFlow<()> {
        let Some(endpoint) = self.views.endpoint(stored.id.slot) else {
            let error = StoreError::damaged(stored.id.to_string(), "its endpoint is missing");
            return self.damaged(Unreadable::Delivery(stored.id), &error);
        };
        let delivery = &as_read(stored, self.views.all_bulks());
        (self.each)(Record::Delivery {
            delivery,
            endpoint: endpoint.id,
            event,
        })
    }
}
