//! The rows of deliveries, the due index and others as they are in the file, separate from the types that callers see.
//! Those of endpoints are in `endpoint`.
//!
//! Times in a delivery's row count from its event's acceptance, so that most take two or three bytes.

mod endpoint;
mod tls;

pub use endpoint::{EndpointRead, read_endpoint, write_endpoint};
pub(crate) use endpoint::{MarkV1, read_endpoint_and_marks};

use crate::delivery::{Attempt, AttemptOutcome, Delivery, QueueEntry, Reason, Status, Trigger};
use crate::error::StoreError;
use crate::file::record;
use crate::file::tables;
use crate::ids::{DeliveryId, UnixMs};
use redb::ReadableTable;
use serde::{Deserialize, Serialize};

const DELIVERIES: &str = "deliveries";

/// In version 2 the numbers of the attempts whose request was sent again follow.
#[derive(Serialize, Deserialize)]
struct DeliveryRow {
    sequence: u64,
    status: Status,
    reason: Option<Reason>,
    round: u32,
    attempts_finished: u32,
    next_trigger: Trigger,
    extra: bool,
    stamp: u64,
    created: u64,
    updated: u64,
    next_attempt: Option<u64>,
    due: Option<u64>,
    attempts_total: u32,
    attempts: Vec<AttemptRow>,
}

#[derive(Serialize, Deserialize)]
struct AttemptRow {
    number: u32,
    round: u32,
    trigger: Trigger,
    started: u64,
    duration_ms: u64,
    outcome: AttemptOutcome,
    response_code: Option<u16>,
    #[serde(with = "crate::optional_bytes")]
    response_excerpt: Option<Vec<u8>>,
    error: Option<String>,
}

/// Returns the row of a delivery.
pub fn write_delivery(d: &Delivery) -> Result<Vec<u8>, StoreError> {
    let base = d.id.event.accepted_at();
    let from_base = |at: UnixMs| at.since_ms(base);
    let row = DeliveryRow {
        sequence: d.sequence,
        status: d.status,
        reason: d.reason,
        round: d.round,
        attempts_finished: d.attempts_finished,
        next_trigger: d.next_trigger,
        extra: d.extra,
        stamp: d.stamp,
        created: from_base(d.created_at),
        updated: from_base(d.updated_at),
        next_attempt: d.next_attempt_at.map(from_base),
        due: d.due.map(from_base),
        attempts_total: d.attempts_total,
        attempts: d
            .attempts
            .iter()
            .map(|a| AttemptRow {
                number: a.number,
                round: a.round,
                trigger: a.trigger,
                started: from_base(a.started_at),
                duration_ms: a.duration_ms,
                outcome: a.outcome,
                response_code: a.response_code,
                response_excerpt: a.response_excerpt.clone(),
                error: a.error.clone(),
            })
            .collect(),
    };
    let again = d.attempts.iter().filter(|a| a.reconnected);
    let reconnected: Vec<u32> = again.map(|a| a.number).collect();
    record::write(DELIVERIES, &tables::delivery_key(d.id), &(row, reconnected))
}

/// Reads the row of a delivery.
///
/// # Errors
/// It is damaged, or newer than this version.
pub fn read_delivery(key: &[u8; 20], bytes: &[u8]) -> Result<Delivery, StoreError> {
    let (version, content) = record::versioned(DELIVERIES, key, bytes)?;
    // Version 1 is the row alone.
    let (row, reconnected): (DeliveryRow, Vec<u32>) = if version == 1 {
        (record::read_content(DELIVERIES, content)?, Vec::new())
    } else {
        record::read_content(DELIVERIES, content)?
    };
    let id = tables::delivery_of(key);
    let base = id.event.accepted_at();
    Ok(Delivery {
        id,
        sequence: row.sequence,
        status: row.status,
        reason: row.reason,
        round: row.round,
        attempts_finished: row.attempts_finished,
        next_trigger: row.next_trigger,
        next_attempt_at: row.next_attempt.map(|ms| base.plus_ms(ms)),
        due: row.due.map(|ms| base.plus_ms(ms)),
        extra: row.extra,
        stamp: row.stamp,
        created_at: base.plus_ms(row.created),
        updated_at: base.plus_ms(row.updated),
        attempts_total: row.attempts_total,
        attempts: row
            .attempts
            .into_iter()
            .map(|a| Attempt {
                number: a.number,
                round: a.round,
                trigger: a.trigger,
                started_at: base.plus_ms(a.started),
                duration_ms: a.duration_ms,
                outcome: a.outcome,
                response_code: a.response_code,
                response_excerpt: a.response_excerpt,
                error: a.error,
                reconnected: reconnected.contains(&a.number),
            })
            .collect(),
    })
}

/// Returns a delivery as its row is.
pub(crate) fn delivery_in(
    deliveries: &impl ReadableTable<&'static [u8; 20], &'static [u8]>,
    id: DeliveryId,
) -> Result<Option<Delivery>, StoreError> {
    let key = tables::delivery_key(id);
    let row = deliveries.get(&key)?;
    row.map(|row| read_delivery(&key, row.value())).transpose()
}

/// What a queue in memory is rebuilt from at startup.
#[derive(Serialize, Deserialize)]
struct DueRow {
    sequence: u64,
    stamp: u64,
    flags: u8,
    trigger: Trigger,
}

/// Returns the row of an open delivery with this stamp.
pub(crate) fn write_due(w: &QueueEntry, stamp: u64) -> Result<Vec<u8>, StoreError> {
    let row = DueRow {
        sequence: w.sequence,
        stamp,
        flags: w.flags(),
        trigger: w.trigger,
    };
    record::write("due", &tables::timed_key(w.due, w.id), &row)
}

/// Returns the open delivery and its stamp.
pub(crate) fn read_due(key: &[u8; 28], bytes: &[u8]) -> Result<(QueueEntry, u64), StoreError> {
    let row: DueRow = record::read("due", key, bytes)?;
    let (due, id) = tables::timed_of(key);
    let waiting = QueueEntry {
        id,
        due,
        sequence: row.sequence,
        retrying: row.flags & QueueEntry::RETRYING != 0,
        fresh: row.flags & QueueEntry::FRESH != 0,
        later_round: row.flags & QueueEntry::LATER_ROUND != 0,
        trigger: row.trigger,
    };
    Ok((waiting, row.stamp))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{EventId, Slot};

    #[test]
    fn a_settled_delivery_takes_few_bytes_and_reads_back() {
        let base = UnixMs(1_790_000_000_000);
        let id = DeliveryId {
            event: EventId::first_of(base),
            slot: Slot(7),
        };
        let delivery = Delivery {
            id,
            sequence: 123_456,
            status: Status::Success,
            reason: None,
            round: 1,
            attempts_finished: 1,
            next_trigger: Trigger::Schedule,
            next_attempt_at: None,
            due: None,
            extra: false,
            stamp: 1_000_000,
            created_at: base,
            updated_at: base.plus_ms(9),
            attempts_total: 1,
            attempts: vec![Attempt {
                number: 1,
                round: 1,
                trigger: Trigger::Schedule,
                started_at: base.plus_ms(4),
                duration_ms: 3,
                outcome: AttemptOutcome::Success,
                response_code: Some(200),
                response_excerpt: None,
                error: None,
                reconnected: false,
            }],
        };
        let bytes = write_delivery(&delivery).unwrap();
        assert!(bytes.len() <= 48, "{} bytes", bytes.len());
        assert_eq!(
            read_delivery(&tables::delivery_key(id), &bytes).unwrap(),
            delivery
        );
        let mut again = delivery;
        again.attempts[0].reconnected = true;
        let bytes = write_delivery(&again).unwrap();
        assert_eq!(
            read_delivery(&tables::delivery_key(id), &bytes).unwrap(),
            again
        );
    }
}
