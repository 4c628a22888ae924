//! Between the types of the domain and those of the database.

use std::time::Duration;
use stormhook_store::backend::read;
use stormhook_store::{ApiKey, ApiKeyId, EventId, Slot, StoreError, UnixMs};
use tokio_postgres::Row;
use uuid::Uuid;

pub(crate) fn uuid(id: u128) -> Uuid {
    Uuid::from_u128(id)
}

pub(crate) fn event_id(id: Uuid) -> EventId {
    EventId(id.as_u128())
}

/// Numbers of rows, times and sequences never reach the sign bit.
pub(crate) fn int8(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(crate) fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

pub(crate) fn ms(at: UnixMs) -> i64 {
    int8(at.0)
}

pub(crate) fn at(ms: i64) -> UnixMs {
    UnixMs(number(ms))
}

/// A duration as a number that is multiplied with an interval of one millisecond.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// Slots are given from 0 on, one for each endpoint that was ever created.
pub(crate) fn int4(slot: Slot) -> i32 {
    i32::try_from(slot.0).unwrap_or(i32::MAX)
}

pub(crate) fn slot(value: i32) -> Slot {
    Slot(u32::try_from(value).unwrap_or(0))
}

/// Returns a column by its place in the statement.
pub(crate) fn column<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    index: usize,
) -> Result<T, StoreError> {
    row.try_get(index).map_err(|e| crate::link::failed(&e))
}

/// The deliveries of an event, as `events.targets` has them.
pub(crate) fn targets(of: impl Iterator<Item = (Slot, u64)>) -> Vec<u8> {
    of.flat_map(|(slot, sequence)| {
        let mut target = [0; 12];
        target[..4].copy_from_slice(&slot.0.to_be_bytes());
        target[4..].copy_from_slice(&sequence.to_be_bytes());
        target
    })
    .collect()
}

/// Reads [`targets`].
pub(crate) fn read_targets(bytes: &[u8]) -> Vec<(Slot, u64)> {
    let (targets, _) = bytes.as_chunks::<12>();
    let read = |[a, b, c, d, sequence @ ..]: &[u8; 12]| {
        let slot = u32::from_be_bytes([*a, *b, *c, *d]);
        (Slot(slot), u64::from_be_bytes(*sequence))
    };
    targets.iter().map(read).collect()
}

/// Reads an API key from its id, its record, and when it was revoked and last used.
pub(crate) fn read_api_key(row: &Row) -> Result<ApiKey, StoreError> {
    let id: Uuid = column(row, 0)?;
    let id = ApiKeyId(id.as_u128());
    let time = |index| -> Result<Option<UnixMs>, StoreError> {
        let ms: Option<i64> = column(row, index)?;
        Ok(ms.map(at))
    };
    let key: ApiKey = read("api_keys", &id.0.to_be_bytes(), column(row, 1)?)?;
    Ok(ApiKey {
        id,
        revoked_at: time(2)?,
        last_used_at: time(3)?,
        ..key
    })
}
