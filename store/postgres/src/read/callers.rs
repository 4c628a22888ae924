//! Questions about API keys and the audit log.

use super::Reader;
use crate::callers::read_audit;
use crate::convert::{read_api_key, uuid};
use crate::link::failed;
use std::sync::Arc;
use stormhook_store::query::Filling;
use stormhook_store::{
    ApiKey, ApiKeys, AuditEntry, AuditFilter, AuditId, Cursor, List, Page, Slot, StoreError,
};
use tokio_postgres::types::Type;

/// Entries that one question returns.
const ROWS: usize = 1_000;

/// Entries of a span, newest first: of an organization, or about an object, or all.
const AUDIT: &str =
    "SELECT id, record FROM @.audit WHERE id >= $1 AND id < $2 ORDER BY id DESC LIMIT $3";
const AUDIT_OF: &str = "SELECT id, record FROM @.audit WHERE id >= $1 AND id < $2 AND organization = $4 ORDER BY id DESC LIMIT $3";
const AUDIT_ABOUT: &str = "SELECT id, record FROM @.audit WHERE id >= $1 AND id < $2 AND target = $4 ORDER BY id DESC LIMIT $3";

impl Reader {
    /// Passes the API keys as this daemon knows them.
    pub fn with_api_keys<T>(&self, pass: impl FnOnce(&ApiKeys) -> T) -> T {
        pass(&self.shared.memory().api_keys)
    }

    /// Returns the key with this digest, which another daemon may have created just now.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub async fn find_api_key(&self, digest: &[u8; 32]) -> Result<Option<Arc<ApiKey>>, StoreError> {
        let known = self.with_api_keys(|keys| keys.find(digest).cloned());
        if known.is_some() {
            return Ok(known);
        }
        let link = self.shared.link().await?;
        let sql = "SELECT id, record, revoked_ms, last_used_ms FROM @.api_keys WHERE digest = $1";
        let statement = link.prepare(sql, &[Type::BYTEA]).await?;
        let row = link
            .client
            .query_opt(&statement, &[&digest.as_slice()])
            .await;
        let row = row.map_err(|e| failed(&e))?;
        let Some(row) = row else {
            return Ok(None);
        };
        let key = read_api_key(&row)?;
        // What was revoked since it was read stays revoked.
        let mut memory = self.shared.memory_mut();
        memory.merge_api_key(key);
        Ok(memory.api_keys.find(digest).cloned())
    }

    /// Returns API keys, newest first, as the database has them: other daemons write when they are used.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub async fn api_keys(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<Arc<ApiKey>>, StoreError> {
        let link = self.shared.link().await?;
        let sql = "SELECT id, record, revoked_ms, last_used_ms FROM @.api_keys WHERE id < $1 ORDER BY id DESC LIMIT $2";
        let statement = link.prepare(sql, &[Type::UUID, Type::INT8]).await?;
        let before = uuid(after.map_or(u128::MAX, |c| c.at));
        let most = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
        let rows = link.client.query(&statement, &[&before, &most]).await;
        let mut filling = Filling::new(limit);
        let mut last = None;
        for row in rows.map_err(|e| failed(&e))? {
            if filling.go_on(last).is_break() {
                break;
            }
            let key = read_api_key(&row)?;
            last = Some(Cursor {
                list: List::ApiKeys,
                at: key.id.0,
                slot: Slot(0),
            });
            filling.page.items.push(Arc::new(key));
        }
        Ok(filling.page)
    }

    /// Returns entries of the audit log, newest first.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<AuditEntry>, StoreError> {
        let link = self.shared.link().await?;
        let (from, until) = filter.ids();
        let mut before = after.map_or(until, |c| until.min(AuditId(c.at)));
        let (sql, named) = match (&filter.target, &filter.organization) {
            (Some(target), _) => (AUDIT_ABOUT, Some(target)),
            (None, Some(organization)) => (AUDIT_OF, Some(organization)),
            (None, None) => (AUDIT, None),
        };
        let mut types = vec![Type::UUID, Type::UUID, Type::INT8];
        types.extend(named.map(|_| Type::TEXT));
        let statement = link.prepare(sql, &types).await?;
        let mut filling = Filling::new(limit);
        let mut last = None;
        let mut asked = limit.clamp(1, ROWS);
        loop {
            let (first, end) = (uuid(from.0), uuid(before.0));
            let most = i64::try_from(asked).unwrap_or(i64::MAX);
            let mut parameters: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
                vec![&first, &end, &most];
            if let Some(named) = named {
                parameters.push(named);
            }
            let rows = link.client.query(&statement, &parameters).await;
            let rows = rows.map_err(|e| failed(&e))?;
            for row in &rows {
                if filling.go_on(last).is_break() {
                    return Ok(filling.page);
                }
                let entry = read_audit(row)?;
                before = entry.id;
                last = Some(AuditFilter::cursor_at(entry.id));
                if filter.matches(&entry.what) {
                    filling.page.items.push(entry);
                }
            }
            if rows.len() < asked {
                return Ok(filling.page);
            }
            asked = ROWS;
        }
    }
}
