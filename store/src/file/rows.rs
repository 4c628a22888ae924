//! The rows of deliveries, the due index and others as they are in the file, separate from the types that callers see.
//! Those of endpoints are in `endpoint`.
//!
//! Times in a delivery's row count from its event's acceptance, so that most take two or three bytes.

mod endpoint;

pub use endpoint::{EndpointRead, read_endpoint, write_endpoint};
pub(crate) use endpoint::{MarkV1, read_endpoint_and_marks};

use crate::batch::Numbers;
use crate::delivery::QueueEntry;
use crate::delivery::{Attempt, AttemptOutcome, Delivery, Reason, Status, Trigger};
use crate::error::StoreError;
use crate::file::record;
use crate::file::tables::ReadTables;
use crate::file::tables::{self, Sums};
use crate::ids::{DeliveryId, EventId, UnixMs};
use crate::sealing::AtRest;
use redb::ReadableTable;
use serde::{Deserialize, Serialize};

/// The state after the last commit: the one row of `meta`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) commit: u64,
    pub(crate) last_event: EventId,
    pub(crate) last_stamp: u64,
    pub(crate) next_slot: u32,
    pub(crate) next_generation: u64,
    pub(crate) next_bulk: u64,
    /// The last pack that the current pass of the sweep has seen.
    pub(crate) sweep_after: EventId,
    /// Up to when events were swept: the horizon continues from here.
    pub(crate) swept_before: UnixMs,
    /// Up to when deliveries were swept.
    pub(crate) deliveries_swept_before: UnixMs,
    /// The paced time of the last commit: expiry continues from here. 0 if unknown.
    pub(crate) paced: UnixMs,
    /// The sums of the rows of the other tables.
    pub(crate) sums: Sums,
    /// In which form secrets are kept. Follows the other fields in the row, since version 4.
    #[serde(skip)]
    pub(crate) at_rest: AtRest,
    /// The version of the record that this was read from.
    #[serde(skip)]
    pub(crate) version: u8,
}

impl Meta {
    /// Returns the row.
    pub(crate) fn write(&self) -> Result<Vec<u8>, StoreError> {
        record::write("meta", &[0], &(self, self.at_rest))
    }

    pub(crate) fn numbers(&self) -> Numbers {
        Numbers {
            last_event: self.last_event,
            last_stamp: self.last_stamp,
            next_slot: self.next_slot,
            next_bulk: self.next_bulk,
        }
    }

    pub(crate) fn set_numbers(&mut self, numbers: Numbers) {
        let Numbers {
            last_event,
            last_stamp,
            next_slot,
            next_bulk,
        } = numbers;
        self.last_event = last_event;
        self.last_stamp = last_stamp;
        self.next_slot = next_slot;
        self.next_bulk = next_bulk;
    }
}

/// Version 1, without sums and without the paced time.
#[derive(Deserialize)]
struct MetaV1 {
    commit: u64,
    last_event: EventId,
    last_stamp: u64,
    next_slot: u32,
    next_generation: u64,
    next_job: u64,
    sweep_after: EventId,
    swept_before: UnixMs,
    deliveries_swept_before: UnixMs,
}

impl From<MetaV1> for Meta {
    fn from(old: MetaV1) -> Self {
        Self {
            commit: old.commit,
            last_event: old.last_event,
            last_stamp: old.last_stamp,
            next_slot: old.next_slot,
            next_generation: old.next_generation,
            next_bulk: old.next_job,
            sweep_after: old.sweep_after,
            swept_before: old.swept_before,
            deliveries_swept_before: old.deliveries_swept_before,
            paced: UnixMs(0),
            sums: Sums::default(),
            at_rest: AtRest::default(),
            version: 1,
        }
    }
}

pub(crate) fn read_meta(key: &[u8; 1], bytes: &[u8]) -> Result<Meta, StoreError> {
    let (version, content) = record::versioned("meta", key, bytes)?;
    match version {
        1 => record::read_content::<MetaV1>("meta", content).map(Meta::from),
        2 | 3 => {
            let meta: Meta = record::read_content("meta", content)?;
            Ok(Meta { version, ..meta })
        }
        _ => {
            let (meta, at_rest): (Meta, AtRest) = record::read_content("meta", content)?;
            Ok(Meta {
                at_rest,
                version,
                ..meta
            })
        }
    }
}

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

impl ReadTables {
    /// Returns the state after the last commit.
    pub(crate) fn meta(&self) -> Result<Meta, StoreError> {
        match self.meta.get(&[0])? {
            Some(row) => read_meta(&[0], row.value()),
            None => Err(StoreError::damaged("the row of meta", "it is missing")),
        }
    }

    /// Returns the number of the commit of this snapshot.
    pub(crate) fn commit(&self) -> Result<u64, StoreError> {
        self.meta().map(|meta| meta.commit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Slot;

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
