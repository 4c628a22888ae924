//! Counters of past windows, and histograms.

use super::{BYTES, INT8S, Steps, parameters};
use crate::cluster::view::Seat;
use crate::convert::{at, column, ms};
use crate::link::{Link, failed};
use crate::staged::Staged;
use std::collections::BTreeMap;
use stormhook_store::backend::{read, write};
use stormhook_store::stats::{ALL_ENDPOINTS, Counters, Level, Window};
use stormhook_store::{Slot, StoreError, UnixMs};
use tokio_postgres::types::Type;

pub(crate) type WindowKey = (Level, UnixMs, Slot);

/// Returns the key of a window's record.
pub(crate) fn window_key((level, start, slot): WindowKey) -> Vec<u8> {
    let mut key = vec![level.byte()];
    key.extend(start.0.to_be_bytes());
    key.extend(slot.0.to_be_bytes());
    key
}

/// Returns the windows that a flush changes, added to their rows.
pub(super) async fn windows_to_write(
    link: &Link,
    lane: Seat,
    staged: &Staged,
) -> Result<BTreeMap<WindowKey, Window>, StoreError> {
    let mut windows: BTreeMap<WindowKey, Window> = BTreeMap::new();
    for ((minute, slot), window) in &staged.flushed {
        for level in Level::ALL {
            let key = (level, level.start_of(*minute), *slot);
            windows.entry(key).or_default().merge(window);
        }
    }
    if windows.is_empty() {
        return Ok(windows);
    }
    let sql = "SELECT w.level, w.start_ms, w.slot, w.record \
               FROM unnest($1::int2[], $2::int8[], $3::int8[]) n(level, start_ms, slot) \
               JOIN @.windows w ON w.level = n.level AND w.start_ms = n.start_ms AND w.slot = n.slot";
    let types = [Type::INT2_ARRAY, INT8S, INT8S];
    let statement = link.prepare(sql, &types).await?;
    let (levels, starts, slots) = window_columns(lane, windows.keys());
    let rows = link
        .client
        .query(&statement, &[&levels, &starts, &slots])
        .await;
    for row in rows.map_err(|e| failed(&e))? {
        let key = read_window_key(&row)?;
        let before: Window = read("windows", &window_key(key), column(&row, 3)?)?;
        windows.entry(key).or_default().merge(&before);
    }
    for ((_, _, slot), window) in &mut windows {
        if *slot == ALL_ENDPOINTS {
            window.counters = Counters::default();
        }
    }
    Ok(windows)
}

/// Reads level, start and slot, the first columns of a row.
pub(crate) fn read_window_key(row: &tokio_postgres::Row) -> Result<WindowKey, StoreError> {
    let byte: i16 = column(row, 0)?;
    let level = Level::ALL
        .into_iter()
        .find(|level| i16::from(level.byte()) == byte);
    let slot: i64 = column(row, 2)?;
    Ok((
        level.unwrap_or(Level::All),
        at(column(row, 1)?),
        u32::try_from(slot).map_or(ALL_ENDPOINTS, Slot),
    ))
}

/// Returns the column of a slot: the sums over all endpoints have a row for each lane.
fn slot_column(lane: Seat, slot: Slot) -> i64 {
    if slot == ALL_ENDPOINTS {
        -1 - i64::from(lane)
    } else {
        i64::from(slot.0)
    }
}

fn window_columns<'a>(
    lane: Seat,
    keys: impl Iterator<Item = &'a WindowKey>,
) -> (Vec<i16>, Vec<i64>, Vec<i64>) {
    let mut columns = (Vec::new(), Vec::new(), Vec::new());
    for (level, start, slot) in keys {
        columns.0.push(i16::from(level.byte()));
        columns.1.push(ms(*start));
        columns.2.push(slot_column(lane, *slot));
    }
    columns
}

pub(super) async fn statistics(
    steps: &mut Steps<'_>,
    lane: Seat,
    staged: &Staged,
    windows: BTreeMap<WindowKey, Window>,
) -> Result<(), StoreError> {
    for ((level, start), counters) in &staged.past {
        self::counters(steps, lane, (*level, *start), counters).await?;
    }
    self::windows(steps, lane, windows).await
}

/// Counters of a past window.
pub(crate) async fn counters(
    steps: &mut Steps<'_>,
    lane: Seat,
    (level, start): (Level, UnixMs),
    counters: &Counters,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO @.counters (level, start_ms, lane, record) VALUES ($1, $2, $4, $3) \
               ON CONFLICT (level, start_ms, lane) DO UPDATE SET record = excluded.record";
    let key = window_key((level, start, ALL_ENDPOINTS));
    let record = write("counters", &key, counters)?;
    let parameters = parameters![i16::from(level.byte()), ms(start), record, lane];
    let types = [Type::INT2, Type::INT8, Type::BYTEA, Type::INT2];
    steps.add(sql, &types, parameters).await
}

pub(crate) async fn windows(
    steps: &mut Steps<'_>,
    lane: Seat,
    windows: BTreeMap<WindowKey, Window>,
) -> Result<(), StoreError> {
    if !windows.is_empty() {
        let sql = "INSERT INTO @.windows (level, start_ms, slot, record) \
                   SELECT * FROM unnest($1::int2[], $2::int8[], $3::int8[], $4::bytea[]) \
                   ON CONFLICT (level, start_ms, slot) DO UPDATE SET record = excluded.record";
        let (levels, starts, slots) = window_columns(lane, windows.keys());
        let records = windows
            .iter()
            .map(|(key, window)| write("windows", &window_key(*key), window))
            .collect::<Result<Vec<_>, _>>()?;
        let parameters = parameters![levels, starts, slots, records];
        steps
            .add(sql, &[Type::INT2_ARRAY, INT8S, INT8S, BYTES], parameters)
            .await?;
    }
    Ok(())
}
