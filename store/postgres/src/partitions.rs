//! The partitions of history: one for each day. They are made when the first row of a day needs them, and dropped whole.

use crate::link::{Link, failed};
use std::collections::BTreeSet;
use stormhook_store::{EventId, StoreError, UnixMs};
use tokio_postgres::error::SqlState;
use uuid::Uuid;

pub(crate) const DAY_MS: u64 = 86_400_000;

/// How long a partition's tables may be waited for before they are left for the next pass: commits wait behind it.
const LOCK_MS: u32 = 500;

/// The days whose partitions are known to exist.
#[derive(Debug, Default)]
pub(crate) struct Days(BTreeSet<u64>);

pub(crate) fn day_of(at: UnixMs) -> u64 {
    at.0 / DAY_MS
}

/// Returns the days in which a key that has not expired at the paced time may have been written.
pub(crate) fn days_of_keys(
    paced: UnixMs,
    ttl_ms: u64,
    newest: UnixMs,
) -> std::ops::RangeInclusive<u64> {
    let oldest = UnixMs(paced.0.saturating_sub(ttl_ms));
    day_of(oldest)..=day_of(newest)
}

/// Returns the first id of a day.
fn first_of(day: u64) -> Uuid {
    let start = EventId::first_of(UnixMs(day.saturating_mul(DAY_MS)));
    Uuid::from_u128(start.0)
}

/// The tables that have partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Partitioned {
    Events,
    Done,
    Keys,
}

impl Partitioned {
    fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Done => "done",
            Self::Keys => "keys",
        }
    }

    /// Returns a query of what is kept of a day.
    fn rest(self, day: u64, keeps_deliveries: bool) -> String {
        let (from, to) = (first_of(day), first_of(day + 1));
        let table = format!("@.{}_{day}", self.name());
        let is_open = format!(
            "EXISTS (SELECT FROM @.open o WHERE o.event = t.{} AND o.event >= '{from}' AND o.event < '{to}')",
            if self == Self::Events { "id" } else { "event" }
        );
        match self {
            Self::Events if keeps_deliveries => format!(
                "SELECT occurred_ms, id, occurred_text, deliveries, organization, type, key, targets, \
                   CASE WHEN {is_open} THEN data END AS data FROM {table} t"
            ),
            Self::Events | Self::Done => format!("SELECT * FROM {table} t WHERE {is_open}"),
            Self::Keys => format!("SELECT * FROM {table} LIMIT 0"),
        }
    }

    /// Drops a day's partition. What an open delivery needs takes its place; with `keeps_deliveries`, the events
    /// without their data do. Returns false if someone uses the table.
    pub(crate) async fn drop(
        self,
        link: &Link,
        day: u64,
        keeps_deliveries: bool,
    ) -> Result<bool, StoreError> {
        let (from, to) = (first_of(day), first_of(day + 1));
        let table = format!("@.{}_{day}", self.name());
        let rest = self.rest(day, keeps_deliveries);
        let (key, bounds) = match self {
            Self::Events => ("id", format!("('{from}') TO ('{to}')")),
            Self::Done => ("slot, sequence", format!("('{from}') TO ('{to}')")),
            Self::Keys => ("day, fingerprint", format!("({day}) TO ({})", day + 1)),
        };
        let parent = format!("@.{}", self.name());
        let index = match self {
            Self::Done => format!("CREATE INDEX ON {table}_rest (event) WHERE undelivered;"),
            _ => String::new(),
        };
        // Nothing is written to it meanwhile: the lanes reopen nothing so old.
        let sql = link.sql(&format!(
            "BEGIN;
             SET LOCAL lock_timeout = {LOCK_MS};
             LOCK TABLE {table} IN SHARE MODE;
             DROP TABLE IF EXISTS {table}_rest;
             CREATE TABLE {table}_rest (LIKE {parent}, PRIMARY KEY ({key}));
             INSERT INTO {table}_rest {rest};
             {index}
             ALTER TABLE {parent} DETACH PARTITION {table};
             DROP TABLE {table};
             ALTER TABLE {table}_rest RENAME TO {name}_{day}_kept;",
            name = self.name()
        ));
        let name = self.name();
        let attach = link.sql(&format!(
            "DO $$ BEGIN
               IF EXISTS (SELECT FROM @.{name}_{day}_kept) THEN
                 ALTER TABLE {parent} ATTACH PARTITION @.{name}_{day}_kept FOR VALUES FROM {bounds};
               ELSE
                 DROP TABLE @.{name}_{day}_kept;
               END IF;
             END $$;
             COMMIT"
        ));
        let dropped = async {
            link.client.batch_execute(&sql).await?;
            link.client.batch_execute(&attach).await
        };
        match dropped.await {
            Ok(()) => Ok(true),
            Err(error) => {
                let _ended = link.client.batch_execute("ROLLBACK").await;
                match error.code() {
                    Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(false),
                    _ => Err(failed(&error)),
                }
            }
        }
    }
}

impl Days {
    /// Reads which partitions exist.
    pub(crate) async fn load(link: &Link, schema: &str) -> Result<Self, StoreError> {
        Ok(Self(Self::of(link, schema, Partitioned::Keys).await?))
    }

    /// Returns the days that a table has partitions for, except those of which only the rest is left.
    pub(crate) async fn of(
        link: &Link,
        schema: &str,
        of: Partitioned,
    ) -> Result<BTreeSet<u64>, StoreError> {
        let sql = "SELECT c.relname::text FROM pg_inherits i \
                   JOIN pg_class c ON c.oid = i.inhrelid \
                   JOIN pg_class p ON p.oid = i.inhparent \
                   JOIN pg_namespace n ON n.oid = p.relnamespace \
                   WHERE n.nspname = $1 AND p.relname = $2";
        let rows = link.client.query(sql, &[&schema, &of.name()]).await;
        let rows = rows.map_err(|e| failed(&e))?;
        let prefix = format!("{}_", of.name());
        let day = |name: String| name.strip_prefix(&prefix)?.parse().ok();
        let names = rows.iter().filter_map(|row| row.try_get(0).ok());
        Ok(names.filter_map(day).collect())
    }

    /// Makes the partitions that rows with these ids go to, unless they exist.
    pub(crate) async fn ensure_of(
        &mut self,
        link: &Link,
        ids: impl Iterator<Item = EventId>,
    ) -> Result<(), StoreError> {
        let days: BTreeSet<u64> = ids.map(|id| day_of(id.accepted_at())).collect();
        for day in days {
            self.ensure(link, day).await?;
        }
        Ok(())
    }

    /// Makes the partitions of a day, unless they exist.
    async fn ensure(&mut self, link: &Link, day: u64) -> Result<(), StoreError> {
        if self.0.contains(&day) {
            return Ok(());
        }
        let (from, to) = (first_of(day), first_of(day + 1));
        // Attached, not made as partitions: that would lock the tables of history. The partition of `keys` is last, so
        // that it stands for all. One daemon at a time makes them.
        let sql = link.sql(&format!(
            "BEGIN;
             SELECT one FROM @.meta FOR UPDATE;
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
            // Another daemon has made them before.
            if error.code() != Some(&SqlState::WRONG_OBJECT_TYPE) {
                return Err(failed(&error));
            }
        }
        self.0.insert(day);
        Ok(())
    }
}
