//! Looks an idempotency key up: in the journal, then in the generations that may hold it, newest first.

use crate::error::StoreError;
use crate::file::memory::Memory;
use crate::file::record;
use crate::file::tables;
use crate::fingerprint::Fingerprint;
use crate::ids::{EventId, UnixMs};
use redb::ReadableTable;

/// Returns the event of a key, unless the key has expired at the paced time `now`.
pub(crate) fn find(
    keys: &impl ReadableTable<&'static [u8; 24], &'static [u8]>,
    memory: &Memory,
    fingerprint: Fingerprint,
    now: UnixMs,
    ttl_ms: u64,
) -> Result<Option<EventId>, StoreError> {
    let live = |event: EventId| event.accepted_at().plus_ms(ttl_ms) > now;
    if let Some(event) = memory.tail.keys.get(&fingerprint) {
        return Ok(Some(*event).filter(|e| live(*e)));
    }
    for generation in memory.generations.iter().rev() {
        if !live(generation.last_event) {
            break;
        }
        if !generation.bloom.may_hold(fingerprint) {
            continue;
        }
        let from = tables::block_key(generation.number, 0);
        let upto = tables::block_key(generation.number, fingerprint.0);
        let Some(row) = keys.range::<&[u8; 24]>(&from..=&upto)?.next_back() else {
            continue;
        };
        let (key, value) = row?;
        let block: Vec<(Fingerprint, EventId)> = record::read("keys", key.value(), value.value())?;
        let found = block
            .binary_search_by_key(&fingerprint, |(known, _)| *known)
            .ok()
            .and_then(|at| block.get(at));
        if let Some((_, event)) = found {
            return Ok(Some(*event).filter(|e| live(*e)));
        }
    }
    Ok(None)
}
