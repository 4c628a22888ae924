//! Fetches the rows that a batch needs and memory lacks: three questions in one round trip, and two more for deliveries
//! that are not open.
//!
//! Each row is looked up by itself, `LATERAL … LIMIT 1`: for a plain join over many partitions the planner, which does not
//! count on their pruning, would rather read all of them (`tests/plans.rs`).

use crate::convert::{column, event_id, int4, int8, read_api_key, read_targets, slot, uuid};
use crate::fresh::{AFTER_ALL, without_row};
use crate::link::{Link, failed};
use crate::rows::{Fetched, Needs};
use futures_util::future::try_join3;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use stormhook_store::backend::{delivery_key, read_delivery};
use stormhook_store::{
    ApiKey, ApiKeyId, Delivery, DeliveryId, Event, EventId, StoreError, Timestamp, UnixMs,
};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// The columns that [`read_event`] reads, of a table that is called `e`.
macro_rules! event_columns {
    () => {
        "e.id, e.organization, e.type, e.occurred_ms, e.occurred_text, e.key, e.deliveries, e.data"
    };
}
pub(crate) use event_columns;

/// Reads an event from the columns of [`event_columns`], from `first` on.
pub(crate) fn read_event(row: &Row, first: usize) -> Result<Event, StoreError> {
    let text: Option<i64> = column(row, first + 4)?;
    let deliveries: i32 = column(row, first + 6)?;
    Ok(Event {
        id: event_id(column(row, first)?),
        organization: column(row, first + 1)?,
        event_type: column(row, first + 2)?,
        timestamp: Timestamp(column(row, first + 3)?),
        timestamp_text: text.and_then(|text| u32::try_from(text).ok()),
        idempotency_key: column(row, first + 5)?,
        deliveries: u32::try_from(deliveries).unwrap_or(0),
        data: column(row, first + 7)?,
    })
}

/// Reads a delivery from its event, its endpoint and its record, in columns from `first` on.
pub(crate) fn read_row(row: &Row, first: usize) -> Result<Delivery, StoreError> {
    let id = DeliveryId {
        event: event_id(column(row, first)?),
        slot: slot(column(row, first + 1)?),
    };
    let record: &[u8] = column(row, first + 2)?;
    read_delivery(&delivery_key(id), record)
}

/// Fetches everything that is needed. Keys are looked up in the partitions of these days.
pub(crate) async fn fetch(
    link: &Link,
    needs: Needs,
    days: RangeInclusive<u64>,
    fetched: &mut Fetched,
) -> Result<(), StoreError> {
    let events: Vec<Uuid> = needs.events.iter().map(|id| uuid(id.0)).collect();
    let keys: Vec<Uuid> = needs.keys.iter().map(|key| uuid(key.0)).collect();
    let (found_deliveries, found_events, found_keys) = try_join3(
        deliveries(link, &needs.deliveries),
        events_of(link, &events),
        keys_of(link, &keys, days),
    )
    .await?;
    for key in api_keys_of(link, &needs.api_keys).await? {
        fetched.api_keys.insert(key.id, Some(key));
    }
    for id in needs.api_keys {
        fetched.api_keys.entry(id).or_insert(None);
    }
    for id in needs.events {
        fetched.events.insert(id, None);
    }
    for event in found_events {
        fetched.events.insert(event.id, Some(Arc::new(event)));
    }
    for key in needs.keys {
        fetched.keys.insert(key, None);
    }
    for (key, id) in found_keys {
        let key = stormhook_store::backend::Fingerprint(key.as_u128());
        fetched.keys.insert(key, Some(id));
    }
    for id in needs.deliveries {
        fetched.deliveries.insert(id, None);
    }
    for delivery in found_deliveries {
        fetched.deliveries.insert(delivery.id, Some(delivery));
    }
    Ok(())
}

/// Returns those of these deliveries that have a row. Most that a batch asks for are open, and found by their event; the
/// events of the others name their sequence numbers.
async fn deliveries(link: &Link, ids: &BTreeSet<DeliveryId>) -> Result<Vec<Delivery>, StoreError> {
    let mut found = open_deliveries(link, ids).await?;
    let open: BTreeSet<DeliveryId> = found.iter().map(|d| d.id).collect();
    let others = targets_of(link, ids - &open).await?;
    found.extend(by_number(link, &others).await?);
    Ok(found)
}

/// Returns a delivery, which may have no row yet. Without one it may also be past its retention, which ends before
/// `kept_from`.
pub(crate) async fn delivery(
    link: &Link,
    id: DeliveryId,
    kept_from: UnixMs,
) -> Result<Option<Delivery>, StoreError> {
    let asked = BTreeSet::from([id]);
    if let Some(open) = open_deliveries(link, &asked).await?.pop() {
        return Ok(Some(open));
    }
    let named = targets_of(link, asked).await?;
    if let Some(found) = by_number(link, &named).await?.pop() {
        return Ok(Some(found));
    }
    let mut fresh = without_row(&named, |_| false, kept_from, AFTER_ALL);
    Ok(fresh.next())
}

/// Open deliveries by event and endpoint.
pub(crate) const OPEN_DELIVERIES: &str = "SELECT o.* FROM unnest($1::uuid[], $2::int4[]) n(event, slot) \
    CROSS JOIN LATERAL (SELECT event, slot, record FROM @.open o WHERE o.event = n.event AND o.slot = n.slot LIMIT 1) o";

async fn open_deliveries(
    link: &Link,
    ids: &BTreeSet<DeliveryId>,
) -> Result<Vec<Delivery>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let statement = link
        .prepare(OPEN_DELIVERIES, &[Type::UUID_ARRAY, Type::INT4_ARRAY])
        .await?;
    let events: Vec<Uuid> = ids.iter().map(|id| uuid(id.event.0)).collect();
    let slots: Vec<i32> = ids.iter().map(|id| int4(id.slot)).collect();
    let rows = link.client.query(&statement, &[&events, &slots]).await;
    let rows = rows.map_err(|e| failed(&e))?;
    rows.iter().map(|row| read_row(row, 0)).collect()
}

/// The deliveries of events.
pub(crate) const TARGETS: &str = "SELECT e.* FROM unnest($1::uuid[]) n(id) \
    CROSS JOIN LATERAL (SELECT id, targets FROM @.events e WHERE e.id = n.id LIMIT 1) e";

/// Returns those of these deliveries that there are, with their sequence numbers.
async fn targets_of(
    link: &Link,
    ids: BTreeSet<DeliveryId>,
) -> Result<Vec<(DeliveryId, u64)>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let statement = link.prepare(TARGETS, &[Type::UUID_ARRAY]).await?;
    let events: BTreeSet<EventId> = ids.iter().map(|id| id.event).collect();
    let events: Vec<Uuid> = events.iter().map(|id| uuid(id.0)).collect();
    let rows = link.client.query(&statement, &[&events]).await;
    let mut found = Vec::new();
    for row in rows.map_err(|e| failed(&e))? {
        let event = event_id(column(&row, 0)?);
        let targets = read_targets(column(&row, 1)?).into_iter();
        let targets = targets.map(|(slot, sequence)| (DeliveryId { event, slot }, sequence));
        found.extend(targets.filter(|(id, _)| ids.contains(id)));
    }
    Ok(found)
}

/// Deliveries by endpoint, sequence number and event.
pub(crate) const BY_NUMBER: &str = "WITH n AS (SELECT * FROM unnest($1::int4[], $2::int8[], $3::uuid[]) n(slot, sequence, event)) \
    SELECT o.* FROM n CROSS JOIN LATERAL ( \
      SELECT event, slot, record FROM @.open o WHERE o.slot = n.slot AND o.sequence = n.sequence LIMIT 1) o \
    UNION ALL SELECT d.* FROM n CROSS JOIN LATERAL ( \
      SELECT event, slot, record FROM @.done d \
      WHERE d.slot = n.slot AND d.sequence = n.sequence AND d.event = n.event LIMIT 1) d";

/// Returns deliveries by their sequence numbers, open or ended. Both tables are read at the same moment: a delivery that
/// moves from one to the other meanwhile is found once.
pub(crate) async fn by_number(
    link: &Link,
    numbered: &[(DeliveryId, u64)],
) -> Result<Vec<Delivery>, StoreError> {
    if numbered.is_empty() {
        return Ok(Vec::new());
    }
    let rows = numbered_rows(link, BY_NUMBER, numbered).await?;
    rows.iter().map(|row| read_row(row, 0)).collect()
}

/// Those of some deliveries that have a row, by endpoint, sequence number and event.
pub(crate) const WITH_ROW: &str = "WITH n AS (SELECT * FROM unnest($1::int4[], $2::int8[], $3::uuid[]) n(slot, sequence, event)) \
    SELECT n.event, n.slot FROM n CROSS JOIN LATERAL ( \
      SELECT FROM @.open o WHERE o.slot = n.slot AND o.sequence = n.sequence LIMIT 1) o \
    UNION ALL SELECT n.event, n.slot FROM n CROSS JOIN LATERAL ( \
      SELECT FROM @.done d WHERE d.slot = n.slot AND d.sequence = n.sequence AND d.event = n.event LIMIT 1) d";

/// Returns those of these deliveries that have a row.
pub(crate) async fn with_row(
    link: &Link,
    numbered: &[(DeliveryId, u64)],
) -> Result<BTreeSet<DeliveryId>, StoreError> {
    let rows = numbered_rows(link, WITH_ROW, numbered).await?;
    let id = |row: &Row| {
        Ok(DeliveryId {
            event: event_id(column(row, 0)?),
            slot: slot(column(row, 1)?),
        })
    };
    rows.iter().map(id).collect()
}

/// Asks for rows by the sequence numbers of deliveries and their events.
async fn numbered_rows(
    link: &Link,
    sql: &'static str,
    numbered: &[(DeliveryId, u64)],
) -> Result<Vec<Row>, StoreError> {
    let types = [Type::INT4_ARRAY, Type::INT8_ARRAY, Type::UUID_ARRAY];
    let statement = link.prepare(sql, &types).await?;
    let slots: Vec<i32> = numbered.iter().map(|(id, _)| int4(id.slot)).collect();
    let sequences: Vec<i64> = numbered.iter().map(|(_, n)| int8(*n)).collect();
    let events: Vec<Uuid> = numbered.iter().map(|(id, _)| uuid(id.event.0)).collect();
    let rows = link
        .client
        .query(&statement, &[&slots, &sequences, &events])
        .await;
    rows.map_err(|e| failed(&e))
}

/// Events by id.
pub(crate) const EVENTS: &str = concat!(
    "SELECT e.* FROM unnest($1::uuid[]) n(id) CROSS JOIN LATERAL (SELECT ",
    event_columns!(),
    " FROM @.events e WHERE e.id = n.id LIMIT 1) e"
);

/// Returns events.
pub(crate) async fn events_of(link: &Link, ids: &[Uuid]) -> Result<Vec<Event>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let statement = link.prepare(EVENTS, &[Type::UUID_ARRAY]).await?;
    let rows = link.client.query(&statement, &[&ids]).await;
    let rows = rows.map_err(|e| failed(&e))?;
    rows.iter().map(|row| read_event(row, 0)).collect()
}

/// Keys by day and fingerprint, the newest last, so that it is the one that is kept. The index of a day begins with the day:
/// without naming it, all of the day's keys would be looked at.
pub(crate) const KEYS: &str = "SELECT n.fingerprint, k.id FROM unnest($1::int4[], $2::uuid[]) n(day, fingerprint) \
    CROSS JOIN LATERAL (SELECT id FROM @.keys k WHERE k.day = n.day AND k.fingerprint = n.fingerprint LIMIT 1) k \
    ORDER BY n.day";

async fn keys_of(
    link: &Link,
    keys: &[Uuid],
    days: RangeInclusive<u64>,
) -> Result<Vec<(Uuid, EventId)>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let pairs = days.flat_map(|day| {
        let day = i32::try_from(day).unwrap_or(i32::MAX);
        keys.iter().map(move |key| (day, *key))
    });
    let (days, keys): (Vec<i32>, Vec<Uuid>) = pairs.unzip();
    let types = [Type::INT4_ARRAY, Type::UUID_ARRAY];
    let statement = link.prepare(KEYS, &types).await?;
    let rows = link.client.query(&statement, &[&days, &keys]).await;
    let rows = rows.map_err(|e| failed(&e))?;
    rows.iter()
        .map(|row| Ok((column(row, 0)?, event_id(column(row, 1)?))))
        .collect()
}

async fn api_keys_of(link: &Link, ids: &BTreeSet<ApiKeyId>) -> Result<Vec<ApiKey>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let sql = "SELECT id, record, revoked_ms, last_used_ms FROM @.api_keys WHERE id = ANY($1)";
    let statement = link.prepare(sql, &[Type::UUID_ARRAY]).await?;
    let ids: Vec<Uuid> = ids.iter().map(|id| uuid(id.0)).collect();
    let rows = link.client.query(&statement, &[&ids]).await;
    rows.map_err(|e| failed(&e))?
        .iter()
        .map(read_api_key)
        .collect()
}
