//! API keys and the audit log.

use super::Reader;
use super::scan::{Next, Rows, Way};
use crate::api_key::{ApiKey, ApiKeys};
use crate::audit::{AuditEntry, AuditFilter};
use crate::error::StoreError;
use crate::file::memory::Snapshot;
use crate::file::record;
use crate::file::tables;
use crate::ids::AuditId;
use crate::query::{Cursor, Filling, Page, Unreadable};
use std::sync::Arc;

impl Reader {
    /// Passes the API keys.
    pub fn with_api_keys<T>(&self, pass: impl FnOnce(&ApiKeys) -> T) -> T {
        pass(&self.shared.memory().api_keys)
    }

    /// Returns API keys, newest first.
    pub fn api_keys(&self, after: Option<Cursor>, limit: usize) -> Page<Arc<ApiKey>> {
        self.with_api_keys(|keys| keys.page(after, limit))
    }

    /// Returns entries of the audit log, newest first.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub fn audit(
        &self,
        filter: &AuditFilter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<AuditEntry>, StoreError> {
        self.shared.view(|views| audit(views, filter, after, limit))
    }
}

/// Returns entries of the audit log, newest first.
fn audit(
    views: &Snapshot,
    filter: &AuditFilter,
    after: Option<Cursor>,
    limit: usize,
) -> Result<Page<AuditEntry>, StoreError> {
    let (from, until) = filter.ids();
    let end = after.map_or(until, |c| until.min(AuditId(c.at)));
    let (first, end) = (tables::audit_key(from), tables::audit_key(end));
    let mut filling = Filling::new(limit);
    let mut last = None;
    let mut rows = Rows::new(&views.audit, Way::Down, first, end.max(first));
    loop {
        let next = rows.next(|key, value| record::read::<AuditEntry>("audit", key, value))?;
        if matches!(next, Next::End) || filling.go_on(last).is_break() {
            return Ok(filling.page);
        }
        match next {
            Next::End => return Ok(filling.page),
            Next::Row(key, read) => {
                let id = tables::audit_of(&key);
                last = Some(AuditFilter::cursor_at(id));
                match read {
                    Ok(entry) if filter.matches(&entry.what) => {
                        filling.page.items.push(AuditEntry { id, ..entry });
                    }
                    Ok(_) => {}
                    Err(error) => {
                        let after = AuditId(id.0.saturating_add(1));
                        filling.damaged(Unreadable::Audit(id, after), &error);
                    }
                }
            }
            Next::Gap(from, before, error) => {
                // A gap is named by the first 16 bytes of its keys.
                let from = AuditId(from.0);
                last = Some(AuditFilter::cursor_at(from));
                let what = Unreadable::Audit(from, AuditId(before.0));
                filling.damaged(what, &error);
            }
        }
    }
}
