//! Lists: pages of events and deliveries, newest first. A page looks at a bounded number of rows.

mod events;
mod of_endpoint;

pub(crate) use of_endpoint::OF_ENDPOINT;

pub(crate) use events::NEWEST_BY_KEY;

use super::Reader;
use super::foreign::Foreign;
use crate::convert::{column, int4, read_targets, uuid};
use crate::fetch::{by_number, event_columns, read_event, read_row};
use crate::fresh::{AFTER_ALL, without_row};
use crate::link::{Link, failed};
use std::collections::BTreeMap;
use std::sync::Arc;
use stormhook_store::query::{Filling, id_range};
use stormhook_store::{
    Cursor, Delivery, DeliveryFilter, DeliveryId, DeliveryWithEvent, Endpoint, EndpointId, Event,
    EventId, List, Page, Slot, Status, StoreError,
};
use tokio_postgres::types::Type;

/// Rows that one question returns.
const ROWS: usize = 1_000;

/// Returns how many rows the first question of a page asks for: it may find all of the page's items.
fn first_rows(limit: usize) -> usize {
    limit.clamp(1, ROWS)
}

/// Returns a number of rows as a parameter.
fn most(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// Returns the events whose deliveries are asked for: from the first up to before the second.
fn filter_span(filter: &DeliveryFilter) -> (EventId, EventId) {
    let (from, until) = id_range(filter.since, filter.until);
    match filter.event {
        Some(event) => (
            from.max(event),
            until.min(EventId(event.0.saturating_add(1))),
        ),
        None => (from, until),
    }
}

/// Undelivered deliveries with their events, newest event first.
pub(crate) const UNDELIVERED: &str = concat!(
    "SELECT d.event, d.slot, d.record, e.* FROM ( \
       SELECT event, slot, record FROM @.done \
       WHERE undelivered AND event >= $1 AND event <= $2 AND (event < $2 OR slot < $3) \
       ORDER BY event DESC, slot DESC LIMIT $4) d CROSS JOIN LATERAL (SELECT ",
    event_columns!(),
    " FROM @.events e WHERE e.id = d.event LIMIT 1) e ORDER BY d.event DESC, d.slot DESC"
);

impl Reader {
    /// Returns endpoints that were not deleted, newest first.
    pub fn endpoints(
        &self,
        organization: Option<&str>,
        active: Option<bool>,
        after: Option<Cursor>,
        limit: usize,
    ) -> Page<Arc<Endpoint>> {
        let memory = self.shared.memory();
        memory.directory.page(organization, active, after, limit)
    }

    /// Returns deliveries with their attempts, newest first.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub async fn deliveries(
        &self,
        filter: &DeliveryFilter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<DeliveryWithEvent>, StoreError> {
        let mut filling = Filling::new(limit);
        let endpoint = match filter.endpoint {
            None => None,
            Some(id) => match self.endpoint_or_mark(id) {
                Some(endpoint) if filter.may_include(Some(&endpoint)) => Some(endpoint),
                _ => return Ok(filling.page),
            },
        };
        let link = self.link().await?;
        match endpoint {
            Some(endpoint) if filter.list() == List::OfEndpoint => {
                self.of_endpoint(&link, filter, &endpoint, after, &mut filling)
                    .await?;
            }
            endpoint => {
                let slot = endpoint.map(|endpoint| endpoint.slot);
                // Undelivered deliveries have their own index, which is complete while no bulk change is in progress.
                let of_undelivered = filter.status.is_some_and(Status::is_undelivered);
                if of_undelivered && !self.any_bulk_waits(&link).await? {
                    self.undelivered(&link, filter, slot, after, &mut filling)
                        .await?;
                } else {
                    self.by_event(&link, filter, slot, after, &mut filling)
                        .await?;
                }
            }
        }
        Ok(filling.page)
    }

    /// The deliveries of events, newest event first.
    async fn by_event(
        &self,
        link: &Link,
        filter: &DeliveryFilter,
        slot: Option<Slot>,
        after: Option<Cursor>,
        filling: &mut Filling<DeliveryWithEvent>,
    ) -> Result<(), StoreError> {
        let (from, until) = filter_span(filter);
        let mut last = None;
        // The cursor's own event may have more deliveries.
        let mut before = after.map_or(until, |c| until.min(EventId(c.at.saturating_add(1))));
        let is_asked = |id: DeliveryId| {
            slot.is_none_or(|slot| slot == id.slot)
                && after.is_none_or(|c| (id.event.0, id.slot) < (c.at, c.slot))
        };
        let mut rows = first_rows(filling.limit);
        let mut foreign = Foreign::default();
        let kept_from = self.shared.memory().deliveries_swept_before;
        loop {
            let events = events_before(link, from, before, rows).await?;
            let is_all = events.len() < rows;
            rows = ROWS;
            let asked: Vec<(DeliveryId, u64)> = events
                .iter()
                .flat_map(|(_, deliveries)| deliveries)
                .filter(|(id, _)| is_asked(*id))
                .copied()
                .collect();
            let found = by_number(link, &asked).await?.into_iter();
            let mut found: BTreeMap<DeliveryId, Delivery> = found.map(|d| (d.id, d)).collect();
            let has_row = |id: &DeliveryId| found.contains_key(id);
            let fresh: Vec<Delivery> = without_row(&asked, has_row, kept_from, AFTER_ALL).collect();
            found.extend(fresh.into_iter().map(|d| (d.id, d)));
            foreign
                .learn(self, link, found.keys().map(|id| id.slot))
                .await?;
            for (event, _) in events {
                before = event.id;
                let event = Arc::new(event);
                // The newest event is the last.
                let deliveries = found.split_off(&DeliveryId {
                    event: event.id,
                    slot: Slot(0),
                });
                if deliveries.is_empty() {
                    // A row too: there may be very many events without a delivery that is asked for.
                    if filling.go_on(last).is_break() {
                        return Ok(());
                    }
                    last = Some(cursor(List::Deliveries, event.id, Slot(0)));
                }
                for (id, delivery) in deliveries.into_iter().rev() {
                    if filling.go_on(last).is_break() {
                        return Ok(());
                    }
                    last = Some(cursor(List::Deliveries, id.event, id.slot));
                    if let Some((endpoint, delivery)) = foreign.as_read(self, delivery) {
                        take(filter, delivery, endpoint.id, Arc::clone(&event), filling);
                    }
                }
            }
            if is_all {
                return Ok(());
            }
        }
    }

    /// The undelivered deliveries, newest event first.
    async fn undelivered(
        &self,
        link: &Link,
        filter: &DeliveryFilter,
        slot: Option<Slot>,
        after: Option<Cursor>,
        filling: &mut Filling<DeliveryWithEvent>,
    ) -> Result<(), StoreError> {
        let types = [Type::UUID, Type::UUID, Type::INT4, Type::INT8];
        let statement = link.prepare(UNDELIVERED, &types).await?;
        let mut asked = first_rows(filling.limit);
        let (from, until) = filter_span(filter);
        let (mut event, mut below) = after.map_or((until, 0), |c| (EventId(c.at), int4(c.slot)));
        let mut last = None;
        let mut foreign = Foreign::default();
        loop {
            let (from, upto) = (uuid(from.0), uuid(event.0));
            let rows = link
                .client
                .query(&statement, &[&from, &upto, &below, &most(asked)])
                .await;
            let rows = rows.map_err(|e| failed(&e))?;
            let found = rows.iter().map(|row| read_row(row, 0));
            let found: Vec<Delivery> = found.collect::<Result<_, _>>()?;
            foreign
                .learn(self, link, found.iter().map(|d| d.id.slot))
                .await?;
            for (row, delivery) in rows.iter().zip(found) {
                if filling.go_on(last).is_break() {
                    return Ok(());
                }
                let id = delivery.id;
                (event, below) = (id.event, int4(id.slot));
                last = Some(cursor(List::Deliveries, id.event, id.slot));
                let is_asked = slot.is_none_or(|slot| slot == id.slot);
                if let Some((endpoint, delivery)) =
                    foreign.as_read(self, delivery).filter(|_| is_asked)
                {
                    let event = Arc::new(read_event(row, 3)?);
                    take(filter, delivery, endpoint.id, event, filling);
                }
            }
            if rows.len() < asked {
                return Ok(());
            }
            asked = ROWS;
        }
    }
}

/// Adds a delivery to the page if it belongs there.
fn take(
    filter: &DeliveryFilter,
    delivery: Delivery,
    endpoint: EndpointId,
    event: Arc<Event>,
    filling: &mut Filling<DeliveryWithEvent>,
) {
    let accepted = event.id.accepted_at();
    let organization = filter.organization.as_ref();
    let is_asked = organization.is_none_or(|o| *o == event.organization)
        && filter.since.is_none_or(|since| accepted >= since)
        && filter.until.is_none_or(|until| accepted < until)
        && filter.status.is_none_or(|status| status == delivery.status)
        && filter
            .event_type
            .as_ref()
            .is_none_or(|t| *t == event.event_type);
    if is_asked {
        filling.page.items.push(DeliveryWithEvent {
            delivery,
            endpoint,
            event,
        });
    }
}

fn cursor(list: List, event: EventId, slot: Slot) -> Cursor {
    Cursor {
        list,
        at: event.0,
        slot,
    }
}

/// Events of a span, newest first.
pub(crate) const EVENTS_BEFORE: &str = concat!(
    "SELECT ",
    event_columns!(),
    ", e.targets FROM @.events e WHERE e.id >= $1 AND e.id < $2 ORDER BY e.id DESC LIMIT $3"
);

/// Returns as many events from the newest before `before` on, with the deliveries of each.
async fn events_before(
    link: &Link,
    from: EventId,
    before: EventId,
    rows: usize,
) -> Result<Vec<(Event, Vec<(DeliveryId, u64)>)>, StoreError> {
    let statement = link
        .prepare(EVENTS_BEFORE, &[Type::UUID, Type::UUID, Type::INT8])
        .await?;
    let (from, before) = (uuid(from.0), uuid(before.0));
    let found = link
        .client
        .query(&statement, &[&from, &before, &most(rows)])
        .await;
    found
        .map_err(|e| failed(&e))?
        .iter()
        .map(|row| {
            let event = read_event(row, 0)?;
            let targets = read_targets(column(row, 8)?).into_iter();
            let deliveries = targets.map(|(slot, sequence)| {
                let event = event.id;
                (DeliveryId { event, slot }, sequence)
            });
            let deliveries = deliveries.collect();
            Ok((event, deliveries))
        })
        .collect()
}
