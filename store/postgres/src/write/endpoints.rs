//! Endpoints, what they receive from which event on, their bulk changes and their states.

use super::{INT4S, INT8S, Steps, parameters};
use crate::cluster::Shard;
use crate::convert::{int4, int8, ms, uuid};
use crate::rows::BulkChange;
use crate::staged::Staged;
use stormhook_store::backend::{bulk_key, slot_key, write};
use stormhook_store::endpoint::Revision;
use stormhook_store::{Bulk, Endpoint, EndpointState, EventId, Form, Slot, StoreError};
use tokio_postgres::types::Type;

pub(super) async fn endpoints(steps: &mut Steps<'_>, staged: &Staged) -> Result<(), StoreError> {
    for (slot, (record, form)) in &staged.endpoint_records {
        if let Some(changed) = staged.directory.endpoints.get(slot) {
            endpoint(steps, changed, record.clone(), *form).await?;
        }
    }
    if !staged.directory.forgotten.is_empty() {
        let slots: Vec<i32> = staged
            .directory
            .forgotten
            .iter()
            .map(|s| int4(*s))
            .collect();
        for sql in [
            "DELETE FROM @.endpoints WHERE slot = ANY($1)",
            "DELETE FROM @.endpoint_states WHERE slot = ANY($1)",
            "DELETE FROM @.revisions WHERE slot = ANY($1)",
        ] {
            steps.add(sql, &[INT4S], parameters![slots.clone()]).await?;
        }
    }
    for ((slot, from), revision) in &staged.revisions {
        self::revision(steps, (*slot, *from), revision).await?;
    }
    for ((slot, number), change) in &staged.bulk_changes {
        let (slot, key) = (*slot, (int4(*slot), int8(*number)));
        match change {
            BulkChange::Begins(bulk) => {
                new_bulk(steps, slot, bulk).await?;
            }
            BulkChange::Ends => {
                let sql = "DELETE FROM @.bulk WHERE slot = $1 AND number = $2";
                let parameters = parameters![key.0, key.1];
                steps
                    .add(sql, &[Type::INT4, Type::INT8], parameters)
                    .await?;
            }
        }
    }
    states(steps, &staged.states).await
}

pub(crate) async fn endpoint(
    steps: &mut Steps<'_>,
    endpoint: &Endpoint,
    record: Vec<u8>,
    form: Form,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO @.endpoints (slot, id, organization, url, active, deleted, record, shard, secrets_form) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
               ON CONFLICT (slot) DO UPDATE SET url = excluded.url, active = excluded.active, deleted = excluded.deleted, \
                 record = excluded.record, secrets_form = excluded.secrets_form";
    let types = [
        Type::INT4,
        Type::UUID,
        Type::TEXT,
        Type::TEXT,
        Type::BOOL,
        Type::BOOL,
        Type::BYTEA,
        Type::INT2,
        Type::TEXT,
    ];
    let parameters = parameters![
        int4(endpoint.slot),
        uuid(endpoint.id.0),
        endpoint.organization.clone(),
        endpoint.url.clone(),
        endpoint.active,
        endpoint.deleted_at.is_some(),
        record,
        Shard::of(&endpoint.organization).number(),
        form.to_string(),
    ];
    steps.add(sql, &types, parameters).await
}

pub(crate) async fn revision(
    steps: &mut Steps<'_>,
    (slot, from): (Slot, EventId),
    revision: &Revision,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO @.revisions (slot, from_event, record) VALUES ($1, $2, $3) \
               ON CONFLICT (slot, from_event) DO UPDATE SET record = excluded.record";
    let record = write("revisions", &slot_key(slot), revision)?;
    let parameters = parameters![int4(slot), uuid(from.0), record];
    let types = [Type::INT4, Type::UUID, Type::BYTEA];
    steps.add(sql, &types, parameters).await
}

pub(crate) async fn new_bulk(
    steps: &mut Steps<'_>,
    slot: Slot,
    bulk: &Bulk,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO @.bulk (slot, number, record) VALUES ($1, $2, $3)";
    let record = write("bulk", &bulk_key(slot, bulk.number), bulk)?;
    let parameters = parameters![int4(slot), int8(bulk.number), record];
    let types = [Type::INT4, Type::INT8, Type::BYTEA];
    steps.add(sql, &types, parameters).await
}

pub(crate) async fn states(
    steps: &mut Steps<'_>,
    states: &[(Slot, EndpointState)],
) -> Result<(), StoreError> {
    if !states.is_empty() {
        let sql = "INSERT INTO @.endpoint_states (slot, last_sequence, failure_count, failing_since_ms, last_success_at_ms) \
                   SELECT * FROM unnest($1::int4[], $2::int8[], $3::int4[], $4::int8[], $5::int8[]) \
                   ON CONFLICT (slot) DO UPDATE SET last_sequence = excluded.last_sequence, failure_count = excluded.failure_count, \
                     failing_since_ms = excluded.failing_since_ms, last_success_at_ms = excluded.last_success_at_ms";
        let states = states.iter();
        let failures = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        let parameters = parameters![
            states
                .clone()
                .map(|(slot, _)| int4(*slot))
                .collect::<Vec<_>>(),
            states
                .clone()
                .map(|(_, s)| int8(s.last_sequence))
                .collect::<Vec<_>>(),
            states
                .clone()
                .map(|(_, s)| failures(s.failure_count))
                .collect::<Vec<_>>(),
            states
                .clone()
                .map(|(_, s)| s.failing_since.map(ms))
                .collect::<Vec<_>>(),
            states
                .map(|(_, s)| s.last_success_at.map(ms))
                .collect::<Vec<_>>(),
        ];
        steps
            .add(sql, &[INT4S, INT8S, INT4S, INT8S, INT8S], parameters)
            .await?;
    }
    Ok(())
}
