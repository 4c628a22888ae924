//! Retention: history is dropped by whole partitions, once every daemon knows that nothing in them may be opened again.
//!
//! A pass first commits the horizon in this daemon's lane. From then on the lane reopens nothing older. The daemon that
//! has the first shard drops what is older than the horizons of all lanes. Events that an open delivery needs are kept:
//! their partition is replaced by one that has only them.

use crate::cluster::Shard;
use crate::convert::{at, column, int4, ms, slot};
use crate::link::{Link, failed};
use crate::memory::Shared;
use crate::partitions::{DAY_MS, Days, Partitioned};
use crate::read::Reader;
use std::collections::BTreeSet;
use std::sync::Arc;
use stormhook_store::backend::kept_windows;
use stormhook_store::maintenance::Sweep;
use stormhook_store::{AuditId, Found, Horizon, Slot, StoreError, UnixMs};
use tokio_postgres::types::Type;

/// How many endpoints one operation removes.
const ENDPOINTS: i64 = 500;

/// The parts of a pass, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Horizon,
    Partitions,
    Endpoints,
    Small,
    End,
}

/// See the module.
#[derive(Debug)]
pub struct Sweeper {
    shared: Arc<Shared>,
    horizon: Horizon,
    now: UnixMs,
    part: Part,
    /// Partitions that could not be dropped in this pass, since someone reads them.
    busy: BTreeSet<(Partitioned, u64)>,
}

impl Reader {
    /// Returns a sweeper.
    pub fn sweeper(&self) -> Sweeper {
        Sweeper {
            shared: Arc::clone(&self.shared),
            horizon: Horizon::default(),
            now: UnixMs(0),
            part: Part::End,
            busy: BTreeSet::new(),
        }
    }
}

impl Sweeper {
    /// Begins a pass. `now` is a paced time.
    pub fn begin(&mut self, horizon: Horizon, now: UnixMs) {
        self.horizon = horizon;
        self.now = now;
        self.part = Part::Horizon;
        self.busy.clear();
    }

    /// Drops a partition, or finds what the lane is to do.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn step(&mut self) -> Result<Found, StoreError> {
        let next = match self.part {
            Part::Horizon => {
                self.part = Part::Partitions;
                return Ok(Found::Work(Sweep::walked(self.horizon)));
            }
            Part::Partitions if !self.keeps_house() => Part::Endpoints,
            Part::Partitions => {
                let link = Link::open_for_reading(&self.shared.options).await?;
                if self.drop_one(&link).await? {
                    return Ok(Found::Nothing);
                }
                Part::Endpoints
            }
            Part::Endpoints => {
                self.part = Part::Small;
                let link = self.shared.link().await?;
                let slots = self.deleted(&link).await?;
                return Ok(if slots.is_empty() {
                    Found::Nothing
                } else {
                    Found::Work(Sweep::of_endpoints(self.horizon, slots))
                });
            }
            Part::Small => {
                if self.keeps_house() {
                    self.small_tables().await?;
                }
                Part::End
            }
            Part::End => return Ok(Found::End),
        };
        self.part = next;
        Ok(Found::Nothing)
    }

    /// Whether this daemon drops what belongs to all.
    fn keeps_house(&self) -> bool {
        self.shared.memory().shards.contains(&Shard(0))
    }

    /// Drops the oldest partition that is past the horizon of every lane. Returns false if there is none.
    async fn drop_one(&mut self, link: &Link) -> Result<bool, StoreError> {
        let sql = link.sql(
            "SELECT min(l.swept_before_ms), min(l.deliveries_swept_before_ms) \
             FROM @.lanes l JOIN @.seats s ON s.seat = l.lane WHERE NOT s.fenced",
        );
        let row = link.client.query_one(&sql, &[]).await;
        let row = row.map_err(|e| failed(&e))?;
        let horizon = |index| -> Result<UnixMs, StoreError> {
            Ok(column::<Option<i64>>(&row, index)?.map_or(UnixMs(0), at))
        };
        let (events, deliveries) = (horizon(0)?, horizon(1)?);
        let options = &self.shared.options;
        let keys = UnixMs(self.now.0.saturating_sub(options.idempotency_ttl_ms));
        for (of, before) in [
            (Partitioned::Keys, keys),
            (Partitioned::Done, deliveries),
            (Partitioned::Events, events),
        ] {
            let days = Days::of(link, &options.schema, of).await?;
            let past = |day: &u64| (day + 1).saturating_mul(DAY_MS) <= before.0;
            let mut past = days.into_iter().filter(past);
            let Some(day) = past.find(|day| !self.busy.contains(&(of, *day))) else {
                continue;
            };
            let keeps_deliveries = of == Partitioned::Events && deliveries < events;
            if !of.drop(link, day, keeps_deliveries).await? {
                self.busy.insert((of, day));
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Returns deleted endpoints with nothing left.
    async fn deleted(&self, link: &Link) -> Result<Vec<Slot>, StoreError> {
        let before = self.horizon.events_before.min(self.horizon.attempts_before);
        let candidates: Vec<i32> = {
            let directory = &self.shared.memory().directory;
            let deleted = directory.deleted.range(..(before, Slot(0)));
            deleted.map(|(_, slot)| int4(*slot)).collect()
        };
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let sql = "SELECT n.slot FROM unnest($1::int4[]) n(slot) \
                   WHERE NOT EXISTS (SELECT FROM @.open o WHERE o.slot = n.slot) \
                     AND NOT EXISTS (SELECT FROM @.done d WHERE d.slot = n.slot) LIMIT $2";
        let statement = link.prepare(sql, &[Type::INT4_ARRAY, Type::INT8]).await?;
        let rows = link
            .client
            .query(&statement, &[&candidates, &ENDPOINTS])
            .await;
        let rows = rows.map_err(|e| failed(&e))?;
        rows.iter().map(|row| Ok(slot(column(row, 0)?))).collect()
    }

    /// Deletes what is past its retention in tables that are small.
    async fn small_tables(&self) -> Result<(), StoreError> {
        let link = self.shared.link().await?;
        for (level, before) in kept_windows(self.now) {
            for sql in [
                "DELETE FROM @.windows WHERE level = $1 AND start_ms < $2",
                "DELETE FROM @.counters WHERE level = $1 AND start_ms < $2",
            ] {
                let statement = link.prepare(sql, &[Type::INT2, Type::INT8]).await?;
                let (level, before) = (i16::from(level.byte()), ms(before));
                let deleted = link.client.execute(&statement, &[&level, &before]).await;
                deleted.map_err(|e| failed(&e))?;
            }
        }
        let (first, before) = (
            crate::convert::uuid(AuditId::first_of(self.horizon.audit_before).0),
            ms(self.horizon.audit_before),
        );
        let sql = "DELETE FROM @.audit WHERE id IN (SELECT id FROM @.audit WHERE id < $1 ORDER BY id LIMIT 10000)";
        let statement = link.prepare(sql, &[Type::UUID]).await?;
        let deleted = link.client.execute(&statement, &[&first]).await;
        deleted.map_err(|e| failed(&e))?;
        let sql = "DELETE FROM @.api_keys WHERE least(revoked_ms, expires_ms) < $1";
        let statement = link.prepare(sql, &[Type::INT8]).await?;
        let deleted = link.client.execute(&statement, &[&before]).await;
        deleted.map_err(|e| failed(&e))?;
        // Those before the last one that holds at the horizon apply to no event any more.
        let sql = "DELETE FROM @.revisions r WHERE EXISTS (SELECT FROM @.revisions later \
                     WHERE later.slot = r.slot AND later.from_event > r.from_event AND later.from_event <= $1)";
        let statement = link.prepare(sql, &[Type::UUID]).await?;
        let before = self.horizon.events_before.min(self.horizon.attempts_before);
        let first = stormhook_store::EventId::first_of(before);
        let first = crate::convert::uuid(first.0);
        let deleted = link.client.execute(&statement, &[&first]).await;
        deleted.map_err(|e| failed(&e)).map(|_| ())
    }
}
