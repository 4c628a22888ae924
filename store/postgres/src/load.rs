//! Reads what is kept in memory: the lane when the store opens, and the shards that this daemon decides about.

mod deliveries;
mod purges;

pub(crate) use purges::purges;

pub(crate) use deliveries::{NUMBERS_SINCE, OPEN_COUNT, WAITING, open_of, waiting};

use crate::cluster::Shard;
use crate::cluster::view::Seat;
use crate::convert::{at, column, event_id, number, slot};
use crate::fresh::without_row;
use crate::link::{Link, failed};
use crate::memory::Memory;
use deliveries::{fresh_of, numbers_since};
use futures_util::TryStreamExt;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use stormhook_store::backend::{
    Bulks, Directory, Numbers, bulk_key, read, read_endpoint, slot_key,
};
use stormhook_store::stats::{Counters, Level};
use stormhook_store::{
    ApiKeys, AtRest, AuditId, Bulk, Delivery, DeliveryId, Endpoint, EndpointState, EventId,
    Position, Purges, Slot, StoreError, UnixMs,
};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// The key of the record of the current counters.
pub(crate) const COUNTERS_KEY: &[u8] = b"current";

/// Up to which event a shard `s`, whose owner has the lane `l`, has the sequence numbers of its endpoints in their states,
/// and a row for each delivery.
macro_rules! states_upto {
    () => {
        "CASE WHEN s.adopted THEN greatest(s.states_upto, l.states_upto) ELSE s.states_upto END"
    };
}
pub(crate) use states_upto;

/// Passes each row to `each` as it arrives.
pub(crate) async fn each(
    link: &Link,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
    mut each: impl FnMut(&Row) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let sql = link.sql(sql);
    let parameters = parameters.iter().copied();
    let rows = link.client.query_raw(&sql, parameters).await;
    let mut rows = pin!(rows.map_err(|e| failed(&e))?);
    while let Some(row) = rows.try_next().await.map_err(|e| failed(&e))? {
        each(&row)?;
    }
    Ok(())
}

/// Reads the records of the current counters of a lane.
pub(crate) fn read_counters(
    record: &[u8],
) -> Result<BTreeMap<(Level, UnixMs), Counters>, StoreError> {
    if record.is_empty() {
        return Ok(BTreeMap::new());
    }
    let counters: Vec<(Level, UnixMs, Counters)> = read("counters", COUNTERS_KEY, record)?;
    let by_window = |(level, start, counters)| ((level, start), counters);
    Ok(counters.into_iter().map(by_window).collect())
}

/// Takes the lane over, so that no commit of an earlier process can succeed any more, and reads it. Returns the
/// incarnation of the lane with it.
pub(crate) async fn lane(
    link: &Link,
    seat: Seat,
    at_rest: AtRest,
) -> Result<(Memory, i64), StoreError> {
    let sql = link.sql(
        "UPDATE @.lanes SET incarnation = incarnation + 1 WHERE lane = $1 \
         RETURNING incarnation, commit_no, last_event, last_stamp, next_bulk, paced_ms, \
                   swept_before_ms, deliveries_swept_before_ms, states_upto, counters",
    );
    let lane = link.client.query_one(&sql, &[&seat]).await;
    let lane = lane.map_err(|e| failed(&e))?;
    // Shards that this seat has from before: the lane's position moves on before all of them are read.
    let sql = link.sql(
        "UPDATE @.shards SET states_upto = greatest(states_upto, $2), adopted = false WHERE owner = $1 AND adopted",
    );
    let upto: uuid::Uuid = column(&lane, 8)?;
    let kept = link.client.execute(&sql, &[&seat, &upto]).await;
    kept.map_err(|e| failed(&e))?;
    let memory = Memory {
        commit: number(column(&lane, 1)?),
        directory: Directory::default(),
        numbers: Numbers {
            last_event: event_id(column(&lane, 2)?),
            last_stamp: number(column(&lane, 3)?),
            // Given by the database, for each batch that needs some.
            next_slot: 0,
            next_bulk: number(column(&lane, 4)?),
        },
        paced: at(column(&lane, 5)?),
        swept_before: at(column(&lane, 6)?),
        counters: read_counters(column(&lane, 9)?)?,
        windows: HashMap::new(),
        unwritten: BTreeSet::new(),
        fresh: BTreeMap::new(),
        all_know_fresh: false,
        states_upto: event_id(column(&lane, 8)?),
        states_at: UnixMs(0),
        deliveries_swept_before: at(column(&lane, 7)?),
        shards: BTreeSet::new(),
        unadopted: BTreeSet::new(),
        giving: BTreeSet::new(),
        api_keys: ApiKeys::default(),
        // None: all are read when the database is first looked at.
        api_keys_revision: -1,
        last_audit: AuditId::default(),
        at_rest,
        keys: Arc::clone(&link.keys),
        all_know_parts: false,
        all_know_purges: false,
    };
    Ok((memory, column(&lane, 0)?))
}

/// What was read of some shards.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) shards: BTreeSet<Shard>,
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    pub(crate) states: HashMap<Slot, EndpointState>,
    /// Endpoints whose states are newer than their rows.
    unwritten: BTreeSet<Slot>,
    pub(crate) bulks: Bulks,
    pub(crate) purges: Purges,
    /// Deliveries without a row.
    pub(crate) fresh: BTreeMap<DeliveryId, Delivery>,
    /// Open deliveries, those without a row too.
    pub(crate) open: u64,
    /// How long attempts of the owner before may still be on the wire.
    pub(crate) on_wire_for: Duration,
    /// The greatest of each kind that any lane has given, and the latest time.
    last_event: EventId,
    last_stamp: u64,
    next_bulk: u64,
    paced: UnixMs,
    swept_before: UnixMs,
    deliveries_swept_before: UnixMs,
}

/// Reads shards that this seat owns, all but what waits.
pub(crate) async fn shards(
    link: &Link,
    seat: Seat,
    shards: &BTreeSet<Shard>,
) -> Result<Loaded, StoreError> {
    let mut loaded = Loaded::default();
    let asked: Vec<i16> = shards.iter().map(|shard| shard.number()).collect();
    // Those that are still this seat's, and from which event on sequence numbers are in the events alone.
    let mut upto = EventId(u128::MAX);
    let sql = concat!(
        "SELECT s.shard, ",
        states_upto!(),
        ", greatest(extract(epoch FROM s.rests_until - now()), 0)::float8 \
         FROM @.shards s JOIN @.lanes l ON l.lane = s.owner WHERE s.owner = $1 AND s.shard = ANY($2)"
    );
    each(link, sql, &[&seat, &asked], |row| {
        if let Some(shard) = Shard::numbered(column(row, 0)?) {
            loaded.shards.insert(shard);
        }
        upto = upto.min(event_id(column(row, 1)?));
        let rests: f64 = column(row, 2)?;
        let rests = Duration::try_from_secs_f64(rests).unwrap_or_default();
        loaded.on_wire_for = loaded.on_wire_for.max(rests);
        Ok(())
    })
    .await?;
    if loaded.shards.is_empty() {
        return Ok(loaded);
    }
    let owned: Vec<i16> = loaded.shards.iter().map(|shard| shard.number()).collect();
    lanes(link, &mut loaded).await?;
    endpoints(link, &owned, &mut loaded).await?;
    let named = numbers_since(link, upto, &mut loaded).await?;
    fresh_of(link, &named, &mut loaded).await?;
    let rows = open_of(link, &loaded.shards).await?;
    loaded.open = rows.saturating_add(u64::try_from(loaded.fresh.len()).unwrap_or(u64::MAX));
    Ok(loaded)
}

/// Reads all shards, whoever owns them, for a transaction that sees one moment.
pub(crate) async fn everything(link: &Link) -> Result<Loaded, StoreError> {
    let all = (0..=u8::MAX).map(Shard);
    let mut loaded = Loaded {
        shards: all.collect(),
        ..Loaded::default()
    };
    let mut upto = EventId(u128::MAX);
    let sql = concat!(
        "SELECT ",
        states_upto!(),
        " FROM @.shards s LEFT JOIN @.lanes l ON l.lane = s.owner"
    );
    each(link, sql, &[], |row| {
        upto = upto.min(event_id(column(row, 0)?));
        Ok(())
    })
    .await?;
    let numbers: Vec<i16> = loaded.shards.iter().map(|shard| shard.number()).collect();
    lanes(link, &mut loaded).await?;
    endpoints(link, &numbers, &mut loaded).await?;
    numbers_since(link, upto, &mut loaded).await.map(drop)?;
    Ok(loaded)
}

/// Reads what all lanes have given: the daemon before may have given more than this one.
async fn lanes(link: &Link, loaded: &mut Loaded) -> Result<(), StoreError> {
    let sql = "SELECT last_event, last_stamp, next_bulk, paced_ms, swept_before_ms, deliveries_swept_before_ms FROM @.lanes";
    each(link, sql, &[], |row| {
        loaded.last_event = loaded.last_event.max(event_id(column(row, 0)?));
        loaded.last_stamp = loaded.last_stamp.max(number(column(row, 1)?));
        loaded.next_bulk = loaded.next_bulk.max(number(column(row, 2)?));
        loaded.paced = loaded.paced.max(at(column(row, 3)?));
        loaded.swept_before = loaded.swept_before.max(at(column(row, 4)?));
        loaded.deliveries_swept_before = loaded.deliveries_swept_before.max(at(column(row, 5)?));
        Ok(())
    })
    .await
}

/// The endpoints of shards.
pub(crate) const ENDPOINTS: &str =
    "SELECT slot, record FROM @.endpoints WHERE shard = ANY($1) ORDER BY slot";

/// Their states.
pub(crate) const STATES: &str = "SELECT s.slot, s.last_sequence, s.failure_count, s.failing_since_ms, s.last_success_at_ms \
    FROM @.endpoint_states s JOIN @.endpoints e ON e.slot = s.slot WHERE e.shard = ANY($1)";

async fn endpoints(link: &Link, shards: &[i16], loaded: &mut Loaded) -> Result<(), StoreError> {
    each(link, ENDPOINTS, &[&shards], |row| {
        let slot = slot(column(row, 0)?);
        let read = read_endpoint(&slot_key(slot), column(row, 1)?, &link.keys)?;
        loaded.endpoints.push(Arc::new(read.endpoint));
        Ok(())
    })
    .await?;
    each(link, STATES, &[&shards], |row| {
        let state = read_state(row, 1)?;
        loaded.states.insert(slot(column(row, 0)?), state);
        Ok(())
    })
    .await?;
    let sql = "SELECT b.slot, b.number, b.record FROM @.bulk b JOIN @.endpoints e ON e.slot = b.slot \
               WHERE e.shard = ANY($1) ORDER BY b.slot, b.number";
    each(link, sql, &[&shards], |row| {
        let (slot, bulk) = read_bulk(row)?;
        loaded.bulks.entry(slot).or_default().push(bulk);
        Ok(())
    })
    .await?;
    loaded.purges = purges::purges(link, shards).await?;
    Ok(())
}

/// Reads an endpoint's state from columns from `first` on.
pub(crate) fn read_state(row: &Row, first: usize) -> Result<EndpointState, StoreError> {
    let failures: i32 = column(row, first + 1)?;
    let time = |index| -> Result<Option<UnixMs>, StoreError> {
        let ms: Option<i64> = column(row, index)?;
        Ok(ms.map(at))
    };
    Ok(EndpointState {
        last_sequence: number(column(row, first)?),
        failure_count: u32::try_from(failures).unwrap_or(0),
        failing_since: time(first + 2)?,
        last_success_at: time(first + 3)?,
    })
}

/// Reads a bulk change from slot, number and record.
pub(crate) fn read_bulk(row: &Row) -> Result<(Slot, Bulk), StoreError> {
    let (slot, number) = (slot(column(row, 0)?), number(column(row, 1)?));
    let bulk: Bulk = read("bulk", &bulk_key(slot, number), column(row, 2)?)?;
    Ok((slot, Bulk { number, ..bulk }))
}

impl Loaded {
    /// Returns where another store goes on from. The number of the next endpoint is not known here.
    pub(crate) fn position(&self) -> Position {
        Position {
            last_event: self.last_event,
            last_stamp: self.last_stamp,
            next_slot: 0,
            next_bulk: self.next_bulk,
            swept_before: self.swept_before,
            deliveries_swept_before: self.deliveries_swept_before,
            paced: self.paced,
        }
    }

    /// Returns those of these deliveries, named by their events, that no row was found of and that are within retention.
    pub(crate) fn without_row<'n>(
        &self,
        named: &'n [(DeliveryId, u64)],
        has_row: impl Fn(&DeliveryId) -> bool + 'n,
    ) -> impl Iterator<Item = Delivery> + 'n {
        // No bulk change so far applies to them: it would have given them rows.
        without_row(
            named,
            has_row,
            self.deliveries_swept_before,
            self.last_stamp,
        )
    }

    /// Adds the shards to memory.
    pub(crate) fn join(&mut self, memory: &mut Memory) {
        let numbers = &mut memory.numbers;
        numbers.last_event = numbers.last_event.max(self.last_event);
        numbers.last_stamp = numbers.last_stamp.max(self.last_stamp);
        numbers.next_bulk = numbers.next_bulk.max(self.next_bulk);
        memory.paced = memory.paced.max(self.paced);
        memory.swept_before = memory.swept_before.max(self.swept_before);
        memory.deliveries_swept_before = memory
            .deliveries_swept_before
            .max(self.deliveries_swept_before);
        memory.shards.extend(&self.shards);
        memory.unadopted.extend(&self.shards);
        memory.unwritten.extend(std::mem::take(&mut self.unwritten));
        memory.fresh.append(&mut self.fresh);
        let directory = &mut memory.directory;
        directory.open = directory.open.saturating_add(self.open);
        for endpoint in &self.endpoints {
            directory.set_endpoint(Arc::clone(endpoint));
            if let Some(state) = self.states.get(&endpoint.slot) {
                directory.set_state(endpoint.slot, *state);
            }
        }
        let bulks = std::mem::take(&mut self.bulks);
        if !bulks.is_empty() {
            Arc::make_mut(&mut directory.bulks).extend(bulks);
        }
        for purge in self.purges.iter() {
            Arc::make_mut(&mut directory.purges).insert(purge.clone());
        }
    }
}
