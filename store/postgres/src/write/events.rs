//! Events, the deliveries that they name, and idempotency keys.

use super::{BYTES, INT4S, INT8S, Steps, TEXTS, UUIDS, parameters};
use crate::convert::uuid;
use crate::partitions::day_of;
use crate::staged::Staged;
use std::sync::Arc;
use stormhook_store::backend::Fingerprint;
use stormhook_store::{Event, EventId, StoreError};
use uuid::Uuid;

pub(super) async fn events(steps: &mut Steps<'_>, staged: &Staged) -> Result<(), StoreError> {
    new_events(steps, &staged.events).await?;
    if !staged.targets.is_empty() {
        let sql = "UPDATE @.events e SET targets = e.targets || n.targets \
                   FROM unnest($1::uuid[], $2::bytea[]) n(id, targets) WHERE e.id = n.id";
        let ids: Vec<Uuid> = staged.targets.iter().map(|(id, _)| uuid(id.0)).collect();
        let of: Vec<Vec<u8>> = staged.targets.iter().map(|(_, of)| of.clone()).collect();
        steps
            .add(sql, &[UUIDS, BYTES], parameters![ids, of])
            .await?;
    }
    keys(steps, &staged.keys).await
}

/// Events with the bytes of their deliveries.
pub(crate) async fn new_events(
    steps: &mut Steps<'_>,
    events: &[(Arc<Event>, Vec<u8>)],
) -> Result<(), StoreError> {
    if !events.is_empty() {
        let sql = "INSERT INTO @.events (occurred_ms, id, occurred_text, deliveries, organization, type, key, targets, data) \
                   SELECT * FROM unnest($1::int8[], $2::uuid[], $3::int8[], $4::int4[], $5::text[], $6::text[], $7::text[], $8::bytea[], $9::bytea[])";
        let types = [
            INT8S, UUIDS, INT8S, INT4S, TEXTS, TEXTS, TEXTS, BYTES, BYTES,
        ];
        let of = events.iter().map(|(event, _)| event);
        let count = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        let parameters = parameters![
            of.clone().map(|e| e.timestamp.0).collect::<Vec<i64>>(),
            of.clone().map(|e| uuid(e.id.0)).collect::<Vec<Uuid>>(),
            of.clone()
                .map(|e| e.timestamp_text.map(i64::from))
                .collect::<Vec<Option<i64>>>(),
            of.clone()
                .map(|e| count(e.deliveries))
                .collect::<Vec<i32>>(),
            of.clone()
                .map(|e| e.organization.clone())
                .collect::<Vec<_>>(),
            of.clone().map(|e| e.event_type.clone()).collect::<Vec<_>>(),
            of.clone()
                .map(|e| e.idempotency_key.clone())
                .collect::<Vec<_>>(),
            events.iter().map(|(_, of)| of.clone()).collect::<Vec<_>>(),
            of.map(|e| e.data.clone()).collect::<Vec<_>>(),
        ];
        steps.add(sql, &types, parameters).await?;
    }
    Ok(())
}

pub(crate) async fn keys(
    steps: &mut Steps<'_>,
    keys: &[(Fingerprint, EventId)],
) -> Result<(), StoreError> {
    if !keys.is_empty() {
        let sql = "INSERT INTO @.keys (day, fingerprint, id) SELECT * FROM unnest($1::int4[], $2::uuid[], $3::uuid[]) \
                   ON CONFLICT (day, fingerprint) DO UPDATE SET id = excluded.id";
        let day = |at| i32::try_from(day_of(at)).unwrap_or(i32::MAX);
        let parameters = parameters![
            keys.iter()
                .map(|(_, id)| day(id.accepted_at()))
                .collect::<Vec<i32>>(),
            keys.iter().map(|(key, _)| uuid(key.0)).collect::<Vec<_>>(),
            keys.iter().map(|(_, id)| uuid(id.0)).collect::<Vec<_>>(),
        ];
        steps.add(sql, &[INT4S, UUIDS, UUIDS], parameters).await?;
    }
    Ok(())
}
