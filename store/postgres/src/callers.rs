//! API keys and the audit log: reading them.

use crate::convert::{column, read_api_key};
use crate::link::Link;
use crate::load::each;
use crate::memory::Shared;
use stormhook_store::backend::read;
use stormhook_store::{ApiKey, AuditEntry, AuditId, StoreError};
use tokio_postgres::Row;
use uuid::Uuid;

/// Every key.
pub(crate) const API_KEYS: &str =
    "SELECT id, record, revoked_ms, last_used_ms FROM @.api_keys ORDER BY id";

/// Reads an entry from its id and its record.
pub(crate) fn read_audit(row: &Row) -> Result<AuditEntry, StoreError> {
    let id: Uuid = column(row, 0)?;
    let id = AuditId(id.as_u128());
    let entry: AuditEntry = read("audit", &id.0.to_be_bytes(), column(row, 1)?)?;
    Ok(AuditEntry { id, ..entry })
}

/// Reads all keys.
pub(crate) async fn api_keys(link: &Link) -> Result<Vec<ApiKey>, StoreError> {
    let mut keys = Vec::new();
    each(link, API_KEYS, &[], |row| {
        keys.push(read_api_key(row)?);
        Ok(())
    })
    .await?;
    Ok(keys)
}

/// Reads the keys again if they have changed since memory has them.
pub(crate) async fn look(shared: &Shared, link: &Link, revision: i64) -> Result<(), StoreError> {
    if shared.memory().api_keys_revision != revision {
        let keys = api_keys(link).await?;
        shared.memory_mut().take_api_keys(keys, revision);
    }
    Ok(())
}

/// Passes all entries, oldest first.
pub(crate) async fn each_audit(
    link: &Link,
    mut pass: impl FnMut(AuditEntry) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let sql = "SELECT id, record FROM @.audit ORDER BY id";
    each(link, sql, &[], |row| pass(read_audit(row)?)).await
}
