//! The outbox: producers write events to it in their own transactions (`emit`), and daemons take them from it.
//!
//! An event is accepted before its row is deleted. It keeps the id of the row, or the store remembers that id, so it is
//! accepted once even if the daemon ends in between. Rows are deleted rather than read behind a position: numbers are
//! given before their transactions commit, and a position would pass over those that commit late.

use crate::cluster::{SHARDS, Shard};
use crate::convert::{column, event_id};
use crate::link::{Link, failed};
use crate::options::Options;
use crate::schema;
use std::sync::Arc;
use stormhook_store::{EmittedEvent, GivenTime, NewEvent, StoreError, Timestamp};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

/// The most events that are read at a time.
const EVENTS: i64 = 500;
/// Their bytes, except for a single event that is larger.
const BYTES: i64 = 8 << 20;

/// See the module.
#[derive(Debug)]
pub struct Outbox {
    options: Options,
    link: Option<Arc<Link>>,
    /// The limit that the outbox has from this daemon.
    event_bytes: Option<usize>,
}

/// The place of an event in an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    shard: i16,
    n: i64,
}

/// An event in an outbox.
#[derive(Clone, Debug)]
pub struct Written {
    /// Its place.
    pub place: Place,
    /// The event.
    pub emitted: EmittedEvent,
    /// How long ago it was written, in milliseconds, by the database's clock.
    pub age_ms: i64,
}

/// The shards of an outbox that one daemon takes from.
#[derive(Clone, Debug)]
pub struct Shards(Vec<i16>);

impl Shards {
    /// Returns all: no other daemon takes from the outbox.
    #[must_use]
    pub fn all() -> Self {
        let all = 0..i16::try_from(SHARDS).unwrap_or(i16::MAX);
        Self(all.collect())
    }

    pub(crate) fn these(shards: impl Iterator<Item = Shard>) -> Self {
        Self(shards.map(Shard::number).collect())
    }
}

impl Outbox {
    /// Returns the outbox of a database. It connects when it is first used, and again after each failure.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            link: None,
            event_bytes: None,
        }
    }

    async fn link(&mut self) -> Result<Arc<Link>, StoreError> {
        match &self.link {
            Some(link) if !link.client.is_closed() => Ok(Arc::clone(link)),
            _ => {
                let link = Link::open(&self.options).await?;
                schema::outbox::expect(&link).await?;
                self.event_bytes = None;
                Ok(Arc::clone(self.link.insert(link)))
            }
        }
    }

    /// Sets the most bytes that `emit` accepts.
    ///
    /// # Errors
    /// The database refuses or can't be reached. The same applies to the other methods.
    pub async fn limit(&mut self, event_bytes: usize) -> Result<(), StoreError> {
        let link = self.link().await?;
        if self.event_bytes == Some(event_bytes) {
            return Ok(());
        }
        let sql = "UPDATE @.outbox_settings SET event_bytes = $1 WHERE event_bytes <> $1";
        let statement = link.prepare(sql, &[Type::INT8]).await?;
        let bytes = i64::try_from(event_bytes).unwrap_or(i64::MAX);
        let set = link.client.execute(&statement, &[&bytes]).await;
        set.map_err(|e| failed(&e))?;
        self.event_bytes = Some(event_bytes);
        Ok(())
    }

    /// Returns the first events of these shards, in order.
    ///
    /// # Errors
    /// As [`Outbox::limit`].
    pub async fn read(&mut self, shards: &Shards) -> Result<Vec<Written>, StoreError> {
        let link = self.link().await?;
        // A shard has a bounded part of each read, so that none waits for another that has much.
        let sql = "SELECT shard, n, id, organization, type, key, occurred_ms, occurred_text, data, age_ms FROM ( \
                     SELECT r.*, sum(octet_length(r.data)) OVER (ORDER BY r.n) AS bytes \
                     FROM unnest($1::int2[]) s(shard) CROSS JOIN LATERAL ( \
                       SELECT o.shard, o.n, o.id, o.organization, o.type, o.key, \
                         floor(extract(epoch FROM o.occurred) * 1000)::int8 AS occurred_ms, \
                         to_char(o.occurred AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') AS occurred_text, \
                         o.data::text AS data, \
                         (extract(epoch FROM clock_timestamp()) * 1000)::int8 - ('x' || left(replace(o.id::text, '-', ''), 12))::bit(48)::int8 AS age_ms \
                       FROM @.outbox o WHERE o.shard = s.shard ORDER BY o.n LIMIT 32) r) w \
                   WHERE bytes - octet_length(data) < $2 ORDER BY n LIMIT $3";
        let types = [Type::INT2_ARRAY, Type::INT8, Type::INT8];
        let statement = link.prepare(sql, &types).await?;
        let rows = link
            .client
            .query(&statement, &[&shards.0, &BYTES, &EVENTS])
            .await;
        rows.map_err(|e| failed(&e))?.iter().map(read).collect()
    }

    /// Deletes events that were accepted, or can't be: those are kept apart with the reason.
    ///
    /// # Errors
    /// As [`Outbox::limit`].
    pub async fn take(&mut self, decided: &[(Place, Option<String>)]) -> Result<(), StoreError> {
        let link = self.link().await?;
        let sql = "WITH taken AS (DELETE FROM @.outbox o USING unnest($1::int2[], $2::int8[], $3::text[]) d(shard, n, reason) \
                     WHERE o.shard = d.shard AND o.n = d.n \
                     RETURNING o.id, o.organization, o.type, o.key, o.occurred, o.data, d.reason) \
                   INSERT INTO @.outbox_rejected (id, organization, type, key, occurred, data, reason) \
                   SELECT id, organization, type, key, occurred, data, reason FROM taken WHERE reason IS NOT NULL \
                   ON CONFLICT (id) DO NOTHING";
        let types = [Type::INT2_ARRAY, Type::INT8_ARRAY, Type::TEXT_ARRAY];
        let statement = link.prepare(sql, &types).await?;
        let shards: Vec<i16> = decided.iter().map(|(place, _)| place.shard).collect();
        let numbers: Vec<i64> = decided.iter().map(|(place, _)| place.n).collect();
        let reasons: Vec<Option<&str>> = decided.iter().map(|(_, why)| why.as_deref()).collect();
        let taken = link
            .client
            .execute(&statement, &[&shards, &numbers, &reasons])
            .await;
        taken.map_err(|e| failed(&e)).map(|_| ())
    }
}

fn read(row: &Row) -> Result<Written, StoreError> {
    let at: Option<i64> = column(row, 6)?;
    let text: Option<&str> = column(row, 7)?;
    let data: &str = column(row, 8)?;
    let given = at.zip(text);
    Ok(Written {
        place: Place {
            shard: column(row, 0)?,
            n: column(row, 1)?,
        },
        emitted: EmittedEvent {
            id: event_id(column(row, 2)?),
            event: NewEvent {
                organization: column(row, 3)?,
                event_type: column(row, 4)?,
                idempotency_key: column(row, 5)?,
                timestamp: given.map(|(at, text)| GivenTime::new(Timestamp(at), text)),
                data: data
                    .trim_matches([' ', '\t', '\n', '\r'])
                    .as_bytes()
                    .to_vec(),
            },
        },
        age_ms: column(row, 9)?,
    })
}
