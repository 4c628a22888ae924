//! Lists: pages of events and deliveries, newest first. A page looks at a bounded number of rows.

mod events;

use super::Reader;
use crate::convert::{column, int4, int8, number, read_targets, uuid};
use crate::fetch::{done_deliveries, open_deliveries, read_event, read_row};
use crate::link::{Link, failed};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stormhook_store::query::{Filling, id_range};
use stormhook_store::{
    Cursor, Delivery, DeliveryFilter, DeliveryId, DeliveryWithEvent, Endpoint, EndpointId, Event,
    EventId, List, Page, Slot, Status, StoreError,
};
use tokio_postgres::types::Type;

/// Rows that one question returns.
const ROWS: usize = 1_000;

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
                Some(endpoint) => Some(endpoint),
                None => return Ok(filling.page),
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
                if of_undelivered && !self.bulk_waits() {
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

    /// The deliveries of one endpoint, greatest sequence number first.
    async fn of_endpoint(
        &self,
        link: &Link,
        filter: &DeliveryFilter,
        endpoint: &Endpoint,
        after: Option<Cursor>,
        filling: &mut Filling<DeliveryWithEvent>,
    ) -> Result<(), StoreError> {
        let sql = "SELECT d.sequence, d.event, d.slot, d.record, \
                     e.id, organization, type, occurred_ms, occurred_text, key, deliveries, data FROM ( \
                     SELECT sequence, event, slot, record FROM @.open WHERE slot = $1 AND sequence < $2 \
                     UNION ALL \
                     SELECT sequence, event, slot, record FROM @.done WHERE slot = $1 AND sequence < $2 \
                     ORDER BY sequence DESC LIMIT $3) d JOIN @.events e ON e.id = d.event ORDER BY d.sequence DESC";
        let statement = link
            .prepare(sql, &[Type::INT4, Type::INT8, Type::INT8])
            .await?;
        let most = i64::try_from(ROWS).unwrap_or(i64::MAX);
        let mut below = after.map_or(u64::MAX, |c| u64::try_from(c.at).unwrap_or(u64::MAX));
        let mut last = after;
        loop {
            let slot = int4(endpoint.slot);
            let rows = link
                .client
                .query(&statement, &[&slot, &int8(below), &most])
                .await;
            let rows = rows.map_err(|e| failed(&e))?;
            for row in &rows {
                if filling.go_on(last).is_break() {
                    return Ok(());
                }
                below = number(column(row, 0)?);
                last = Some(Cursor {
                    list: List::OfEndpoint,
                    at: u128::from(below),
                    slot: Slot(0),
                });
                let delivery = self.as_read(read_row(row, 1)?);
                let event = Arc::new(read_event(row, 4)?);
                take(filter, delivery, endpoint.id, event, filling);
            }
            if rows.len() < ROWS {
                return Ok(());
            }
        }
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
        let is_after =
            |id: DeliveryId| after.is_none_or(|c| (id.event.0, id.slot) < (c.at, c.slot));
        loop {
            let events = events_before(link, from, before).await?;
            let is_all = events.len() < ROWS;
            let ids: BTreeSet<DeliveryId> = events
                .iter()
                .flat_map(|(event, slots)| {
                    let id = event.id;
                    slots.iter().map(move |slot| DeliveryId {
                        event: id,
                        slot: *slot,
                    })
                })
                .filter(|id| slot.is_none_or(|slot| slot == id.slot) && is_after(*id))
                .collect();
            let mut found = self.deliveries_of(link, &ids).await?;
            let events: BTreeMap<EventId, Arc<Event>> = events
                .into_iter()
                .map(|(event, _)| (event.id, Arc::new(event)))
                .collect();
            before = events.first_key_value().map_or(before, |(id, _)| *id);
            for id in ids.into_iter().rev() {
                if filling.go_on(last).is_break() {
                    return Ok(());
                }
                last = Some(cursor(List::Deliveries, id.event, id.slot));
                let (Some(delivery), Some(event), Some(endpoint)) = (
                    found.remove(&id),
                    events.get(&id.event),
                    self.endpoint_by_slot(id.slot),
                ) else {
                    continue;
                };
                take(filter, delivery, endpoint.id, Arc::clone(event), filling);
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
        let sql = "SELECT d.event, d.slot, d.record, \
                     e.id, organization, type, occurred_ms, occurred_text, key, deliveries, data FROM ( \
                     SELECT event, slot, record FROM @.done \
                     WHERE undelivered AND event >= $1 AND event <= $2 AND (event < $2 OR slot < $3) \
                     ORDER BY event DESC, slot DESC LIMIT $4) d \
                   JOIN @.events e ON e.id = d.event ORDER BY d.event DESC, d.slot DESC";
        let types = [Type::UUID, Type::UUID, Type::INT4, Type::INT8];
        let statement = link.prepare(sql, &types).await?;
        let most = i64::try_from(ROWS).unwrap_or(i64::MAX);
        let (from, until) = filter_span(filter);
        let (mut event, mut below) = after.map_or((until, 0), |c| (EventId(c.at), int4(c.slot)));
        let mut last = None;
        loop {
            let (from, upto) = (uuid(from.0), uuid(event.0));
            let rows = link
                .client
                .query(&statement, &[&from, &upto, &below, &most])
                .await;
            let rows = rows.map_err(|e| failed(&e))?;
            for row in &rows {
                if filling.go_on(last).is_break() {
                    return Ok(());
                }
                let delivery = read_row(row, 0)?;
                let id = delivery.id;
                (event, below) = (id.event, int4(id.slot));
                last = Some(cursor(List::Deliveries, id.event, id.slot));
                let asked = slot.is_none_or(|slot| slot == id.slot);
                if let Some(endpoint) = self.endpoint_by_slot(id.slot).filter(|_| asked) {
                    let event = Arc::new(read_event(row, 3)?);
                    take(filter, delivery, endpoint.id, event, filling);
                }
            }
            if rows.len() < ROWS {
                return Ok(());
            }
        }
    }

    async fn deliveries_of(
        &self,
        link: &Link,
        ids: &BTreeSet<DeliveryId>,
    ) -> Result<BTreeMap<DeliveryId, Delivery>, StoreError> {
        let open = open_deliveries(link, ids).await?;
        let done = done_deliveries(link, ids).await?;
        let all = done.into_iter().chain(open);
        Ok(all.map(|d| (d.id, self.as_read(d))).collect())
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
    let is_asked = filter.since.is_none_or(|since| accepted >= since)
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

/// Returns events from the newest before `before` on, with the endpoints that have a delivery of each.
async fn events_before(
    link: &Link,
    from: EventId,
    before: EventId,
) -> Result<Vec<(Event, Vec<Slot>)>, StoreError> {
    let sql = "SELECT id, organization, type, occurred_ms, occurred_text, key, deliveries, data, targets \
               FROM @.events WHERE id >= $1 AND id < $2 ORDER BY id DESC LIMIT $3";
    let statement = link
        .prepare(sql, &[Type::UUID, Type::UUID, Type::INT8])
        .await?;
    let most = i64::try_from(ROWS).unwrap_or(i64::MAX);
    let (from, before) = (uuid(from.0), uuid(before.0));
    let rows = link
        .client
        .query(&statement, &[&from, &before, &most])
        .await;
    rows.map_err(|e| failed(&e))?
        .iter()
        .map(|row| {
            let targets = read_targets(column(row, 8)?);
            let slots = targets.into_iter().map(|(slot, _)| slot).collect();
            Ok((read_event(row, 0)?, slots))
        })
        .collect()
}
