//! API keys, and entries of the audit log.

use super::{BYTES, INT8S, Steps, TEXTS, UUIDS, parameters};
use crate::convert::{ms, uuid};
use std::collections::BTreeMap;
use stormhook_store::backend::write;
use stormhook_store::{ApiKey, ApiKeyId, AuditEntry, StoreError};
use uuid::Uuid;

/// Writes keys. What a row knows of its key's use and end is kept.
pub(crate) async fn api_keys<'k>(
    steps: &mut Steps<'_>,
    keys: impl Iterator<Item = &'k ApiKey> + Clone,
) -> Result<(), StoreError> {
    if keys.clone().next().is_none() {
        return Ok(());
    }
    let sql = "INSERT INTO @.api_keys AS k (id, digest, expires_ms, revoked_ms, last_used_ms, record) \
               SELECT * FROM unnest($1::uuid[], $2::bytea[], $3::int8[], $4::int8[], $5::int8[], $6::bytea[]) \
               ON CONFLICT (id) DO UPDATE SET revoked_ms = coalesce(k.revoked_ms, excluded.revoked_ms), \
                 last_used_ms = greatest(k.last_used_ms, excluded.last_used_ms)";
    let record = |key: &ApiKey| write("api_keys", &key.id.0.to_be_bytes(), key);
    let records: Vec<Vec<u8>> = keys.clone().map(record).collect::<Result<_, _>>()?;
    let parameters = parameters![
        keys.clone().map(|k| uuid(k.id.0)).collect::<Vec<Uuid>>(),
        keys.clone().map(|k| k.digest.to_vec()).collect::<Vec<_>>(),
        keys.clone()
            .map(|k| k.expires_at.map(ms))
            .collect::<Vec<_>>(),
        keys.clone()
            .map(|k| k.revoked_at.map(ms))
            .collect::<Vec<_>>(),
        keys.map(|k| k.last_used_at.map(ms)).collect::<Vec<_>>(),
        records,
    ];
    steps
        .add(sql, &[UUIDS, BYTES, INT8S, INT8S, INT8S, BYTES], parameters)
        .await
}

/// Writes the keys of a batch. If others are to see the change, they are told.
pub(super) async fn changed_api_keys(
    steps: &mut Steps<'_>,
    keys: &BTreeMap<ApiKeyId, ApiKey>,
    tells: bool,
) -> Result<(), StoreError> {
    api_keys(steps, keys.values()).await?;
    if tells {
        let sql = "UPDATE @.meta SET api_keys_revision = api_keys_revision + 1";
        steps.add(sql, &[], parameters![]).await?;
    }
    Ok(())
}

/// Writes entries. One that is written again, after the database lost the last commits, stays one.
pub(crate) async fn audit(steps: &mut Steps<'_>, entries: &[AuditEntry]) -> Result<(), StoreError> {
    if entries.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO @.audit (id, organization, target, record) \
               SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[]) ON CONFLICT (id) DO NOTHING";
    let record = |entry: &AuditEntry| write("audit", &entry.id.0.to_be_bytes(), entry);
    let records: Vec<Vec<u8>> = entries.iter().map(record).collect::<Result<_, _>>()?;
    let entries = entries.iter();
    let parameters = parameters![
        entries.clone().map(|e| uuid(e.id.0)).collect::<Vec<Uuid>>(),
        entries
            .clone()
            .map(|e| e.what.organization.clone())
            .collect::<Vec<_>>(),
        entries.map(|e| e.what.target.clone()).collect::<Vec<_>>(),
        records,
    ];
    steps
        .add(sql, &[UUIDS, TEXTS, TEXTS, BYTES], parameters)
        .await
}
