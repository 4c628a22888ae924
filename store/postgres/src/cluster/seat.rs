//! A daemon's seat: taken when it starts, kept by a lease, lost when others take over.

use super::form::follow_keys;
use super::marks::Marks;
use super::view::Seat;
use crate::convert::{at, column, milliseconds};
use crate::link::{Link, failed};
use crate::options::Options;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use stormhook_store::{AtRest, StoreError, UnixMs};
use tokio::time::Instant;
use tokio_postgres::types::Type;

/// The seat of this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) seat: Seat,
    pub(crate) incarnation: i64,
}

impl Taken {
    /// Takes a seat: that of the process that used this data directory before, which has ended; else one that is free.
    /// Returns the token that daemons show each other with it, and in which form secrets are kept.
    pub(crate) async fn take(
        link: &Link,
        options: &Options,
    ) -> Result<(Self, Vec<u8>, AtRest), StoreError> {
        let taken = async { Self::try_take(link, options).await.map(Some) };
        let taken = link.in_transaction(taken).await?;
        taken.ok_or_else(|| StoreError::Database("no seat was taken".to_owned()))
    }

    async fn try_take(
        link: &Link,
        options: &Options,
    ) -> Result<(Self, Vec<u8>, AtRest), StoreError> {
        // One daemon at a time looks for a seat.
        let marks = Marks::lock(link).await?;
        let at_rest = marks.at_rest()?;
        marks.expect_usable()?;
        let at_rest = follow_keys(link, options, at_rest, Some(options.daemon)).await?;
        let sql = link.sql("SELECT cluster_token FROM @.meta");
        let token = link.client.query_one(&sql, &[]).await;
        let token = column(&token.map_err(|e| failed(&e))?, 0)?;
        let sql = link.sql("SELECT seat FROM @.seats WHERE daemon = $1");
        let own = link.client.query_opt(&sql, &[&options.daemon]).await;
        let seat: Seat = match own.map_err(|e| failed(&e))? {
            Some(row) => column(&row, 0)?,
            None => Self::free_seat(link).await?,
        };
        let sql = link.sql(
            "INSERT INTO @.seats (seat, incarnation, daemon, version, schema, address, lease_until, certificate) \
             VALUES ($1, 1, $2, $3, $4, $5, now() + $6 * interval '1 millisecond', $7) \
             ON CONFLICT (seat) DO UPDATE SET incarnation = seats.incarnation + 1, daemon = excluded.daemon, \
               version = excluded.version, schema = excluded.schema, address = excluded.address, \
               lease_until = excluded.lease_until, certificate = excluded.certificate, fenced = false \
             RETURNING incarnation",
        );
        let lease = milliseconds(options.lease);
        let types = [
            Type::INT2,
            Type::UUID,
            Type::TEXT,
            Type::INT4,
            Type::TEXT,
            Type::FLOAT8,
            Type::BYTEA,
        ];
        let statement = link.client.prepare_typed(&sql, &types).await;
        let statement = statement.map_err(|e| failed(&e))?;
        let taken = link
            .client
            .query_one(
                &statement,
                &[
                    &seat,
                    &options.daemon,
                    &options.version,
                    &crate::VERSION,
                    &options.address,
                    &lease,
                    &options.certificate,
                ],
            )
            .await;
        let incarnation = column(&taken.map_err(|e| failed(&e))?, 0)?;
        let sql = link.sql(
            "INSERT INTO @.lanes (lane, incarnation, commit_no, last_event, last_stamp, next_bulk, paced_ms, \
                swept_before_ms, states_upto, counters) \
             SELECT $1, 0, 0, '00000000-0000-0000-0000-000000000000', 0, 0, 0, 0, '00000000-0000-0000-0000-000000000000', '' \
             ON CONFLICT (lane) DO NOTHING",
        );
        let lane = link.client.execute(&sql, &[&seat]).await;
        lane.map_err(|e| failed(&e))?;
        Ok((Self { seat, incarnation }, token, at_rest))
    }

    /// Returns the first seat that nobody has, or that was fenced and has no shard left.
    async fn free_seat(link: &Link) -> Result<Seat, StoreError> {
        let sql = link.sql(
            "SELECT coalesce( \
               (SELECT min(seat) FROM @.seats s WHERE fenced AND NOT EXISTS (SELECT FROM @.shards h WHERE h.owner = s.seat)), \
               (SELECT coalesce(max(seat) + 1, 0) FROM @.seats))::int2",
        );
        let row = link.client.query_one(&sql, &[]).await;
        column(&row.map_err(|e| failed(&e))?, 0)
    }

    /// Renews the lease. Returns the time by the database's clock; `None` if another daemon has taken over.
    pub(crate) async fn renew(
        self,
        link: &Link,
        lease: Duration,
    ) -> Result<Option<UnixMs>, StoreError> {
        let sql = "UPDATE @.seats SET lease_until = now() + $3 * interval '1 millisecond' \
                   WHERE seat = $1 AND incarnation = $2 AND NOT fenced \
                   RETURNING (extract(epoch FROM clock_timestamp()) * 1000)::int8";
        let types = [Type::INT2, Type::INT8, Type::FLOAT8];
        let statement = link.prepare(sql, &types).await?;
        let lease = milliseconds(lease);
        let renewed = link
            .client
            .query_opt(&statement, &[&self.seat, &self.incarnation, &lease])
            .await;
        let renewed = renewed.map_err(|e| failed(&e))?;
        renewed.map(|row| Ok(at(column(&row, 0)?))).transpose()
    }

    /// Claims up to this many shards that are free. Returns how many it got.
    pub(crate) async fn claim(self, link: &Link, most: usize) -> Result<u64, StoreError> {
        let sql = "WITH me AS (SELECT seat FROM @.seats WHERE seat = $1 AND incarnation = $2 AND NOT fenced FOR UPDATE), \
                     free AS (SELECT s.shard FROM @.shards s WHERE s.owner IS NULL AND EXISTS (SELECT FROM me) \
                              ORDER BY s.shard LIMIT $3 FOR UPDATE SKIP LOCKED) \
                   UPDATE @.shards s SET owner = $1, epoch = epoch + 1, adopted = false FROM free WHERE s.shard = free.shard";
        let types = [Type::INT2, Type::INT8, Type::INT8];
        let statement = link.prepare(sql, &types).await?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let claimed = link
            .client
            .execute(&statement, &[&self.seat, &self.incarnation, &most])
            .await;
        claimed.map_err(|e| failed(&e))
    }

    /// Leaves the seat: others need not wait for the end of the lease.
    pub(crate) async fn leave(self, link: &Link) -> Result<(), StoreError> {
        let sql = "UPDATE @.seats SET fenced = true, lease_until = now() WHERE seat = $1 AND incarnation = $2";
        let statement = link.prepare(sql, &[Type::INT2, Type::INT8]).await?;
        let left = link
            .client
            .execute(&statement, &[&self.seat, &self.incarnation])
            .await;
        left.map_err(|e| failed(&e)).map(|_| ())
    }
}

/// The monotonic clock, which is the runtime's: a simulation has its own.
#[allow(clippy::disallowed_methods, reason = "the only place that asks")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The lease as this process knows it, by its monotonic clock.
#[derive(Debug)]
pub struct Lease {
    length: Duration,
    /// When the last renewal that succeeded was sent, and since when all have.
    renewed: Mutex<(Instant, Instant)>,
}

impl Lease {
    pub(crate) fn new(length: Duration, sent: Instant) -> Self {
        Self {
            length,
            renewed: Mutex::new((sent, sent)),
        }
    }

    fn renewed(&self) -> (Instant, Instant) {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A renewal that was sent at this time succeeded.
    pub(crate) fn renew(&self, sent: Instant) {
        let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        // A gap of half a lease may be an outage of the database, in which others could not renew either.
        if sent.duration_since(renewed.0) > self.length / 2 {
            renewed.1 = sent;
        }
        renewed.0 = sent;
    }

    /// Whether attempts may start: well before others may take over.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.age() < self.length * 3 / 4
    }

    /// Whether the lease was renewed all through the last one.
    pub(crate) fn is_healthy(&self) -> bool {
        let (last, since) = self.renewed();
        self.is_valid() && last.duration_since(since) >= self.length
    }

    /// Returns how long ago the last renewal that succeeded was sent.
    pub(crate) fn age(&self) -> Duration {
        now().duration_since(self.renewed().0)
    }

    /// Whether it is time to renew.
    pub(crate) fn wants_renewal(&self) -> bool {
        self.age() >= self.length / 4
    }
}
