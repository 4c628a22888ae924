//! Reads what is kept in memory, when the store opens.

use crate::convert::{at, column, event_id, number, read_targets, slot, uuid};
use crate::link::{Link, failed};
use crate::memory::Memory;
use futures_util::TryStreamExt;
use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::sync::Arc;
use stormhook_store::backend::{
    Bulks, Directory, Numbers, bulk_key, read, read_endpoint, slot_key,
};
use stormhook_store::stats::{Counters, Level};
use stormhook_store::{Bulk, EndpointState, StoreError, UnixMs};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// The key of the record of the current counters.
pub(crate) const COUNTERS_KEY: &[u8] = b"current";

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

/// Takes the lane over, so that no commit of an earlier process can succeed any more, and reads the memory. Returns the
/// incarnation of the lane with it.
pub(crate) async fn load(link: &Link) -> Result<(Memory, i64), StoreError> {
    let sql = link.sql(
        "UPDATE @.lanes SET incarnation = incarnation + 1 WHERE lane = 0 \
         RETURNING incarnation, commit_no, last_event, last_stamp, next_slot, next_bulk, paced_ms, \
                   swept_before_ms, states_upto, counters",
    );
    let lane = link.client.query_one(&sql, &[]).await;
    let lane = lane.map_err(|e| failed(&e))?;
    let next_slot: i32 = column(&lane, 4)?;
    let counters: &[u8] = column(&lane, 9)?;
    let counters: Vec<(Level, UnixMs, Counters)> = if counters.is_empty() {
        Vec::new()
    } else {
        read("counters", COUNTERS_KEY, counters)?
    };
    let mut memory = Memory {
        commit: number(column(&lane, 1)?),
        directory: Directory::default(),
        numbers: Numbers {
            last_event: event_id(column(&lane, 2)?),
            last_stamp: number(column(&lane, 3)?),
            next_slot: u32::try_from(next_slot).unwrap_or(0),
            next_bulk: number(column(&lane, 5)?),
        },
        paced: at(column(&lane, 6)?),
        swept_before: at(column(&lane, 7)?),
        counters: counters
            .into_iter()
            .map(|(level, start, counters)| ((level, start), counters))
            .collect(),
        windows: HashMap::new(),
        unwritten: BTreeSet::new(),
        states_upto: event_id(column(&lane, 8)?),
        states_at: UnixMs(0),
    };
    directory(link, &mut memory).await?;
    Ok((memory, column(&lane, 0)?))
}

async fn directory(link: &Link, memory: &mut Memory) -> Result<(), StoreError> {
    let directory = &mut memory.directory;
    each(
        link,
        "SELECT slot, record FROM @.endpoints ORDER BY slot",
        &[],
        |row| {
            let slot = slot(column(row, 0)?);
            let endpoint = read_endpoint(&slot_key(slot), column(row, 1)?)?;
            directory.set_endpoint(Arc::new(endpoint));
            Ok(())
        },
    )
    .await?;
    let sql = "SELECT slot, last_sequence, failure_count, failing_since_ms, last_success_at_ms \
               FROM @.endpoint_states";
    each(link, sql, &[], |row| {
        let failures: i32 = column(row, 2)?;
        let time = |index| -> Result<Option<UnixMs>, StoreError> {
            let ms: Option<i64> = column(row, index)?;
            Ok(ms.map(at))
        };
        let state = EndpointState {
            last_sequence: number(column(row, 1)?),
            failure_count: u32::try_from(failures).unwrap_or(0),
            failing_since: time(3)?,
            last_success_at: time(4)?,
        };
        directory.set_state(slot(column(row, 0)?), state);
        Ok(())
    })
    .await?;
    numbers_since(link, memory).await?;
    let directory = &mut memory.directory;
    let mut bulks = Bulks::new();
    each(
        link,
        "SELECT slot, number, record FROM @.bulk ORDER BY slot, number",
        &[],
        |row| {
            let (slot, number) = (slot(column(row, 0)?), number(column(row, 1)?));
            let bulk: Bulk = read("bulk", &bulk_key(slot, number), column(row, 2)?)?;
            bulks.entry(slot).or_default().push(Bulk { number, ..bulk });
            Ok(())
        },
    )
    .await?;
    directory.bulks = Arc::new(bulks);
    let endpoints = Arc::clone(&directory.endpoints);
    directory
        .states
        .retain(|slot, _| endpoints.contains_key(slot));
    each(link, "SELECT count(*) FROM @.open", &[], |row| {
        directory.open = number(column(row, 0)?);
        Ok(())
    })
    .await
}

/// Reads the sequence numbers given since the states were written.
async fn numbers_since(link: &Link, memory: &mut Memory) -> Result<(), StoreError> {
    let directory = &mut memory.directory;
    let upto = uuid(memory.states_upto.0);
    let unwritten = &mut memory.unwritten;
    each(
        link,
        "SELECT targets FROM @.events WHERE id > $1",
        &[&upto],
        |row| {
            for (slot, sequence) in read_targets(column(row, 0)?) {
                let mut state = directory.state(slot);
                if state.last_sequence < sequence {
                    state.last_sequence = sequence;
                    directory.set_state(slot, state);
                    unwritten.insert(slot);
                }
            }
            Ok(())
        },
    )
    .await
}
