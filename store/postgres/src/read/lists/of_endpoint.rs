//! The list of one endpoint's deliveries.

use super::{ROWS, first_rows, most, take};
use crate::convert::{column, int4, int8, number, uuid};
use crate::fetch::{event_columns, events_of, read_event, read_row};
use crate::link::{Link, failed};
use crate::read::Reader;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use stormhook_store::query::Filling;
use stormhook_store::{
    Cursor, Delivery, DeliveryFilter, DeliveryWithEvent, Endpoint, Event, EventId, List, Slot,
    StoreError,
};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// Deliveries of an endpoint with their events, greatest sequence number first. Each table has a limit of its own: with one
/// for both, the planner rather sorts all deliveries of the endpoint.
pub(crate) const OF_ENDPOINT: &str = concat!(
    "SELECT d.sequence, d.event, d.slot, d.record, e.* FROM ( \
       (SELECT sequence, event, slot, record FROM @.open WHERE slot = $1 AND sequence < $2 \
        ORDER BY sequence DESC LIMIT $3) \
       UNION ALL \
       (SELECT sequence, event, slot, record FROM @.done WHERE slot = $1 AND sequence < $2 \
        ORDER BY sequence DESC LIMIT $3) \
       ORDER BY sequence DESC LIMIT $3) d CROSS JOIN LATERAL (SELECT ",
    event_columns!(),
    " FROM @.events e WHERE e.id = d.event LIMIT 1) e ORDER BY d.sequence DESC"
);

impl Reader {
    /// The deliveries of one endpoint, greatest sequence number first.
    pub(super) async fn of_endpoint(
        &self,
        link: &Link,
        filter: &DeliveryFilter,
        endpoint: &Endpoint,
        after: Option<Cursor>,
        filling: &mut Filling<DeliveryWithEvent>,
    ) -> Result<(), StoreError> {
        let statement = link
            .prepare(OF_ENDPOINT, &[Type::INT4, Type::INT8, Type::INT8])
            .await?;
        let mut asked = first_rows(filling.limit);
        let mut below = after.map_or(u64::MAX, |c| u64::try_from(c.at).unwrap_or(u64::MAX));
        let mut last = after;
        loop {
            let slot = endpoint.slot;
            // Before the rows: one that gets a row meanwhile is found there.
            let fresh = self.fresh_of(slot, below, asked);
            let rows = link
                .client
                .query(&statement, &[&int4(slot), &int8(below), &most(asked)])
                .await;
            let rows = rows.map_err(|e| failed(&e))?;
            let is_all = rows.len() < asked && fresh.len() < asked;
            let mut found = with_fresh(link, &rows, fresh, asked).await?;
            while let Some((sequence, (delivery, event))) = found.pop_last() {
                if filling.go_on(last).is_break() {
                    return Ok(());
                }
                below = sequence;
                last = Some(Cursor {
                    list: List::OfEndpoint,
                    at: u128::from(below),
                    slot: Slot(0),
                });
                take(filter, self.as_read(delivery), endpoint.id, event, filling);
            }
            if is_all {
                return Ok(());
            }
            asked = ROWS;
        }
    }

    /// Returns the deliveries of an endpoint that have no row yet, those with the greatest sequence numbers below this
    /// one.
    fn fresh_of(&self, slot: Slot, below: u64, most: usize) -> Vec<Delivery> {
        let memory = self.shared.memory();
        let of = memory.fresh.values();
        let of = of.filter(|d| d.id.slot == slot && d.sequence < below);
        let mut of: Vec<Delivery> = of.cloned().collect();
        of.sort_by_key(|d| std::cmp::Reverse(d.sequence));
        of.truncate(most);
        of
    }
}

/// Deliveries with their events, by sequence number.
type BySequence = BTreeMap<u64, (Delivery, Arc<Event>)>;

/// Returns rows of deliveries together with those that have none. If one of the two has as many as were asked for, there
/// may be more of it below its last one, so nothing below that is returned.
async fn with_fresh(
    link: &Link,
    rows: &[Row],
    fresh: Vec<Delivery>,
    asked: usize,
) -> Result<BySequence, StoreError> {
    let mut found = BySequence::new();
    for row in rows {
        let of = (read_row(row, 1)?, Arc::new(read_event(row, 4)?));
        found.insert(number(column(row, 0)?), of);
    }
    let last_row = found.keys().next().filter(|_| rows.len() >= asked);
    let last_fresh = fresh.last().filter(|_| fresh.len() >= asked);
    let from = last_row.copied().max(last_fresh.map(|d| d.sequence));
    let ids: Vec<Uuid> = fresh.iter().map(|d| uuid(d.id.event.0)).collect();
    let events = events_of(link, &ids).await?;
    let events: HashMap<EventId, Event> = events.into_iter().map(|e| (e.id, e)).collect();
    for delivery in fresh {
        if let Some(event) = events.get(&delivery.id.event) {
            let of = || (delivery.clone(), Arc::new(event.clone()));
            found.entry(delivery.sequence).or_insert_with(of);
        }
    }
    Ok(found.split_off(&from.unwrap_or(0)))
}
