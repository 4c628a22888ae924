//! The partitions of history: one for each day. They are made when the first row of a day needs them, and dropped whole.

use crate::link::{Link, failed};
use std::collections::BTreeSet;
use stormhook_store::{EventId, StoreError, UnixMs};
use tokio_postgres::error::SqlState;
use uuid::Uuid;

pub(crate) const DAY_MS: u64 = 86_400_000;

/// The days whose partitions are known to exist.
#[derive(Debug, Default)]
pub(crate) struct Days(BTreeSet<u64>);

pub(crate) fn day_of(at: UnixMs) -> u64 {
    at.0 / DAY_MS
}

impl Days {
    /// Reads which partitions exist.
    pub(crate) async fn load(link: &Link, schema: &str) -> Result<Self, StoreError> {
        let sql = "SELECT c.relname::text FROM pg_inherits i \
                   JOIN pg_class c ON c.oid = i.inhrelid \
                   JOIN pg_class p ON p.oid = i.inhparent \
                   JOIN pg_namespace n ON n.oid = p.relnamespace \
                   WHERE n.nspname = $1 AND p.relname = 'keys'";
        let rows = link.client.query(sql, &[&schema]).await;
        let rows = rows.map_err(|e| failed(&e))?;
        let day = |name: String| name.strip_prefix("keys_")?.parse().ok();
        let names = rows.iter().filter_map(|row| row.try_get(0).ok());
        Ok(Self(names.filter_map(day).collect()))
    }

    /// Makes the partitions of a day, unless they exist.
    pub(crate) async fn ensure(&mut self, link: &Link, day: u64) -> Result<(), StoreError> {
        if self.0.contains(&day) {
            return Ok(());
        }
        let id = |day: u64| {
            let start = EventId::first_of(UnixMs(day.saturating_mul(DAY_MS)));
            Uuid::from_u128(start.0)
        };
        let (from, to) = (id(day), id(day + 1));
        // Attached, not made as partitions: that would lock the tables of history. The partition of `keys` is last, so
        // that it stands for all.
        let sql = link.sql(&format!(
            "BEGIN;
             CREATE TABLE IF NOT EXISTS @.events_{day} (LIKE @.events, PRIMARY KEY (id));
             CREATE TABLE IF NOT EXISTS @.done_{day} (LIKE @.done, PRIMARY KEY (slot, sequence));
             CREATE TABLE IF NOT EXISTS @.keys_{day} (LIKE @.keys, PRIMARY KEY (day, fingerprint));
             CREATE INDEX IF NOT EXISTS done_{day}_undelivered ON @.done_{day} (event) WHERE undelivered;
             ALTER TABLE @.events ATTACH PARTITION @.events_{day} FOR VALUES FROM ('{from}') TO ('{to}');
             ALTER TABLE @.done ATTACH PARTITION @.done_{day} FOR VALUES FROM ('{from}') TO ('{to}');
             ALTER TABLE @.keys ATTACH PARTITION @.keys_{day} FOR VALUES FROM ({day}) TO ({});
             COMMIT",
            day + 1
        ));
        if let Err(error) = link.client.batch_execute(&sql).await {
            let _ended = link.client.batch_execute("ROLLBACK").await;
            // Another daemon has made them meanwhile.
            if error.code() != Some(&SqlState::WRONG_OBJECT_TYPE) {
                return Err(failed(&error));
            }
        }
        self.0.insert(day);
        Ok(())
    }
}
