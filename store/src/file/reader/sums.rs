//! Adds up stats windows: those in the file, and those that are only in memory yet.

use super::StatsOf;
use crate::error::StoreError;
use crate::file::guarded::guarded;
use crate::file::memory::Memory;
use crate::file::record;
use crate::file::tables::{self, ReadTables};
use crate::ids::{Slot, UnixMs};
use crate::stats::{ALL_ENDPOINTS, Counters, HOUR_MS, Level, MINUTE_MS, Window};
use std::collections::BTreeMap;
use std::sync::RwLockReadGuard;

/// A level and the starts of its first and last window.
type Windows = (Level, UnixMs, UnixMs);

pub(super) fn stats(
    views: &ReadTables,
    memory: RwLockReadGuard<'_, Memory>,
    windows: Windows,
    of: &StatsOf,
) -> Result<(Window, u64), StoreError> {
    let all = [ALL_ENDPOINTS];
    let (slots, of_all) = match of {
        StatsOf::All => (all.as_slice(), true),
        StatsOf::Endpoints(slots) => (slots.as_slice(), false),
    };
    let mut slots = slots.to_vec();
    slots.sort_unstable();
    slots.dedup();
    let mut sum = in_memory(&memory, windows, &slots);
    let tail = counters_in_memory(&memory, windows);
    // The following may read very many rows: commits need not wait for it.
    drop(memory);
    let mut damaged = 0;
    for slot in slots {
        in_file(views, windows, slot, (&mut sum, &mut damaged))?;
    }
    if of_all {
        sum.counters = counters(views, windows, &tail, &mut damaged)?;
    }
    Ok((sum, damaged))
}

/// Returns what was read, or `None` and counts it if it is damaged.
fn whole<T>(read: Result<T, StoreError>, damaged: &mut u64) -> Result<Option<T>, StoreError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.is_damage() => {
            *damaged += 1;
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

fn in_memory(memory: &Memory, (level, first, last): Windows, slots: &[Slot]) -> Window {
    let mut sum = Window::default();
    for ((minute, slot), window) in &memory.windows {
        let at = level.start_of(*minute);
        if at >= first && at <= last && slots.binary_search(slot).is_ok() {
            sum.merge(window);
        }
    }
    sum
}

fn in_file(
    views: &ReadTables,
    (level, first, last): Windows,
    slot: Slot,
    (sum, damaged): (&mut Window, &mut u64),
) -> Result<(), StoreError> {
    let step_ms = match level {
        Level::Minute => MINUTE_MS,
        Level::Hour => HOUR_MS,
        Level::All => u64::MAX,
    };
    let mut start = first;
    while start <= last {
        let key = tables::window_key(level, start, slot);
        let window = guarded(|| match views.windows.get(&key)? {
            Some(row) => record::read("windows", &key, row.value()),
            None => Ok(Window::default()),
        });
        if let Some(window) = whole(window, damaged)? {
            sum.merge(&window);
        }
        match start.0.checked_add(step_ms) {
            Some(next) => start = UnixMs(next),
            None => break,
        }
    }
    Ok(())
}

/// Returns the start of the last minute in which anything was counted.
pub(super) fn last_counted(
    views: &ReadTables,
    memory: &RwLockReadGuard<'_, Memory>,
) -> Result<UnixMs, StoreError> {
    let minutes = (Level::Minute, UnixMs(0), UnixMs(u64::MAX));
    let tail = counters_in_memory(memory, minutes);
    let tail = tail.last_key_value().map(|((_, start), _)| *start);
    let file = counters_in_file(views, minutes)?.next_back().transpose()?;
    let file = file.map(|(key, _)| tables::counters_start(key.value()));
    Ok(tail.max(file).unwrap_or_default())
}

type Tail = BTreeMap<(Level, UnixMs), Counters>;

fn counters_in_memory(memory: &Memory, (level, first, last): Windows) -> Tail {
    let within = memory.tail.counters.range((level, first)..=(level, last));
    within.map(|(key, counters)| (*key, *counters)).collect()
}

fn counters_in_file(
    views: &ReadTables,
    (level, first, last): Windows,
) -> Result<redb::Range<'static, &'static [u8; 9], &'static [u8]>, StoreError> {
    let (first, last) = (
        tables::counters_key(level, first),
        tables::counters_key(level, last),
    );
    Ok(views.counters.range::<&[u8; 9]>(&first..=&last)?)
}

/// Returns the counters of all endpoints. Those in memory replace those in the file, since they cover their whole
/// window.
fn counters(
    views: &ReadTables,
    windows: Windows,
    tail: &Tail,
    damaged: &mut u64,
) -> Result<Counters, StoreError> {
    let mut sum = Counters::default();
    for row in counters_in_file(views, windows)? {
        let (key, value) = row?;
        if !tail.contains_key(&(windows.0, tables::counters_start(key.value()))) {
            let read = record::read("counters", key.value(), value.value());
            if let Some(counters) = whole(read, damaged)? {
                sum.add(&counters);
            }
        }
    }
    for counters in tail.values() {
        sum.add(counters);
    }
    Ok(sum)
}
