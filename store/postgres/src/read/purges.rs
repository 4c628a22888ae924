//! Finds what purges in progress still have to write, a bounded number of rows at a time, as the file does.

use super::Reader;
use crate::cluster::SHARDS;
use crate::convert::{column, event_id, read_targets, uuid};
use crate::link::failed;
use crate::load;
use std::sync::Arc;
use stormhook_store::maintenance::PURGED_PER_STEP;
use stormhook_store::{EventId, Purge, PurgeFound, PurgeScope, Purges, StoreError};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// How many events a step looks at.
const STEP: i64 = 1_000;

/// Some events by id, if they are the organization's.
pub(crate) const NAMED: &str = "SELECT e.id, e.targets, true FROM unnest($1::uuid[]) n(id) \
    CROSS JOIN LATERAL (SELECT id, targets FROM @.events e WHERE e.id = n.id AND e.organization = $2 LIMIT 1) e ORDER BY e.id";

/// Events of a span in order, and whether each is the organization's.
pub(crate) const BETWEEN: &str = "SELECT e.id, e.targets, e.organization = $4 FROM @.events e \
    WHERE e.id > $1 AND e.id < $2 ORDER BY e.id LIMIT $3";

impl Reader {
    /// Returns the purges in progress of the organizations that this daemon decides about.
    pub fn purges(&self) -> Arc<Purges> {
        Arc::clone(&self.shared.memory().directory.purges)
    }

    /// Returns the purges in progress of all organizations.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub async fn purges_of_all(&self) -> Result<Arc<Purges>, StoreError> {
        if self.shared.memory().shards.len() == SHARDS {
            return Ok(self.purges());
        }
        let link = self.shared.link().await?;
        let all = 0..i16::try_from(SHARDS).unwrap_or(i16::MAX);
        let all: Vec<i16> = all.collect();
        load::purges(&link, &all).await.map(Arc::new)
    }

    /// Finds events of a purge after this one that it may not have removed yet.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub async fn purge_step(
        &self,
        purge: &Purge,
        after: EventId,
    ) -> Result<PurgeFound, StoreError> {
        let link = self.shared.link().await?;
        let organization = &purge.organization;
        match &purge.scope {
            PurgeScope::Events(events) => {
                let ids: Vec<Uuid> = events.iter().map(|id| uuid(id.0)).collect();
                let types = [Type::UUID_ARRAY, Type::TEXT];
                let statement = link.prepare(NAMED, &types).await?;
                let rows = link.client.query(&statement, &[&ids, organization]).await;
                found(&rows.map_err(|e| failed(&e))?, usize::MAX)
            }
            PurgeScope::Before(until) => {
                let types = [Type::UUID, Type::UUID, Type::INT8, Type::TEXT];
                let statement = link.prepare(BETWEEN, &types).await?;
                let (after, until) = (uuid(after.0), uuid(until.0));
                let rows = link
                    .client
                    .query(&statement, &[&after, &until, &STEP, organization])
                    .await;
                found(&rows.map_err(|e| failed(&e))?, PURGED_PER_STEP)
            }
        }
    }
}

/// Returns the events of the organization among these, up to about as many deliveries. There may be more after as many
/// rows as a step looks at.
fn found(rows: &[Row], most: usize) -> Result<PurgeFound, StoreError> {
    let mut found = PurgeFound::default();
    let mut deliveries = 0;
    for row in rows {
        let id = event_id(column(row, 0)?);
        if column(row, 2)? {
            let targets = read_targets(column(row, 1)?).into_iter();
            let slots: Vec<_> = targets.map(|(slot, _)| slot).collect();
            deliveries += 1 + slots.len();
            found.events.push((id, slots));
        }
        if deliveries >= most {
            found.next = Some(id);
            return Ok(found);
        }
    }
    let is_full = i64::try_from(rows.len()).unwrap_or(i64::MAX) >= STEP;
    if let Some(last) = rows.last().filter(|_| is_full) {
        found.next = Some(event_id(column(last, 0)?));
    }
    Ok(found)
}
