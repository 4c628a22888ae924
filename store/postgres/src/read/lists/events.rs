//! The list of events.

use super::{ROWS, cursor, events_before, first_rows};
use crate::convert::uuid;
use crate::link::{Link, failed};
use crate::partitions::days_of_keys;
use crate::read::{Reader, event_row, id_in};
use std::sync::Arc;
use stormhook_store::backend::Fingerprint;
use stormhook_store::query::{BYTES_PER_ROW, Filling, id_range};
use stormhook_store::{Cursor, Event, EventFilter, EventId, List, Page, Slot, StoreError};
use tokio_postgres::types::Type;

/// The newest event with a key, by the days that it may be of.
pub(crate) const NEWEST_BY_KEY: &str = "SELECT k.id FROM unnest($1::int4[]) n(day) \
    CROSS JOIN LATERAL (SELECT id FROM @.keys k WHERE k.day = n.day AND k.fingerprint = $2 LIMIT 1) k \
    ORDER BY n.day DESC LIMIT 1";

impl Reader {
    /// Returns events, newest first.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub async fn events(
        &self,
        filter: &EventFilter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<Arc<Event>>, StoreError> {
        let (from, until) = id_range(filter.since, filter.until);
        let mut before = after.map_or(until, |c| until.min(EventId(c.at)));
        let link = self.link().await?;
        let mut filling = Filling::new(limit);
        let mut last = None;
        if let Some(event) = self
            .newest_by_key(&link, filter)
            .await?
            .filter(|_| after.is_none())
            && event.id >= from
            && event.id < before
            && filter.matches(&event)
        {
            before = event.id;
            last = Some(cursor(List::Events, event.id, Slot(0)));
            filling.page.items.push(Arc::new(event));
        }
        let mut rows = first_rows(limit);
        loop {
            let events = events_before(&link, from, before, rows).await?;
            let is_all = events.len() < rows;
            rows = ROWS;
            for (event, _) in events {
                if filling.go_on(last).is_break() {
                    return Ok(filling.page);
                }
                before = event.id;
                last = Some(cursor(List::Events, event.id, Slot(0)));
                filling.seen += event.data.as_ref().map_or(0, Vec::len) / BYTES_PER_ROW;
                if filter.matches(&event) {
                    filling.page.items.push(Arc::new(event));
                }
            }
            if is_all {
                return Ok(filling.page);
            }
        }
    }

    /// Returns the newest event with the filter's key if the key has not expired: the index finds it immediately.
    async fn newest_by_key(
        &self,
        link: &Link,
        filter: &EventFilter,
    ) -> Result<Option<Event>, StoreError> {
        let (Some(organization), Some(key)) = (&filter.organization, &filter.idempotency_key)
        else {
            return Ok(None);
        };
        let days: Vec<i32> = {
            let memory = self.shared.memory();
            let ttl_ms = self.shared.options.idempotency_ttl_ms;
            let newest = memory.numbers.last_event.accepted_at();
            let days = days_of_keys(memory.paced, ttl_ms, newest);
            days.filter_map(|day| i32::try_from(day).ok()).collect()
        };
        let types = [Type::INT4_ARRAY, Type::UUID];
        let statement = link.prepare(NEWEST_BY_KEY, &types).await?;
        let fingerprint = uuid(Fingerprint::of(organization, key).0);
        let row = link
            .client
            .query_opt(&statement, &[&days, &fingerprint])
            .await;
        match row.map_err(|e| failed(&e))? {
            Some(row) => {
                let found = event_row(link, id_in(&row, 0)?).await?;
                Ok(found.map(|(event, _)| event))
            }
            None => Ok(None),
        }
    }
}
