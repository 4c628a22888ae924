//! Migrates a file of an earlier format to the current one in one durable commit; until then the file stays unchanged.

use crate::bulk::{Bulk, BulkEffect, Reopen};
use crate::error::StoreError;
use crate::file::guarded::guarded;
use crate::file::handle::Handle;
use crate::file::meta::Meta;
use crate::file::record;
use crate::file::rows::{self, MarkV1};
use crate::file::sums::Sum;
use crate::file::tables::{self, Def, Tables};
use crate::ids::{DeliveryId, EventId, Slot, UnixMs};
use crate::sealing::Seal;
use redb::{Durability, ReadableTable, TableDefinition, TableError, WriteTransaction};
use serde::Deserialize;

/// Formats 1 and 2: number → the rest of a recovery.
const JOBS: Def<8> = TableDefinition::new("jobs");

/// A row of it. Its progress isn't needed: a delivery that it reopened has its stamp.
#[derive(Clone, Copy, Deserialize)]
struct JobV1 {
    slot: Slot,
    since: UnixMs,
    until: UnixMs,
    missed: bool,
    at: UnixMs,
    stamp: u64,
    last_event: EventId,
    _after_due: Option<(UnixMs, DeliveryId)>,
    _after_bad: Option<DeliveryId>,
    _after_event: EventId,
}

/// Migrates a file with this row of `meta` to the current format. Nothing else has written to it since it was opened.
pub(crate) fn migrate(handle: &Handle, meta: Meta) -> Result<(), StoreError> {
    if meta.version >= record::version_of("meta") {
        return Ok(());
    }
    guarded(|| {
        let mut txn = handle.begin_write()?;
        txn.set_quick_repair(true);
        txn.set_durability(Durability::Immediate)
            .map_err(|e| StoreError::Engine(e.into()))?;
        to_current(&txn, meta)?;
        Ok(txn.commit()?)
    })
}

/// Format 1 has no sums. Formats 1 and 2 have marks in the rows of endpoints and a table of jobs instead of bulk
/// changes. Format 3 has no API keys and no audit log, format 4 no purges; their tables are made when they are opened.
fn to_current(txn: &WriteTransaction, mut meta: Meta) -> Result<(), StoreError> {
    let has_jobs = meta.version < 3;
    let jobs = if has_jobs { jobs(txn)? } else { Vec::new() };
    if has_jobs {
        // The sum of the former table of jobs.
        meta.sums.bulk = Sum::default();
    }
    let mut tables = Tables::open(txn, &meta.sums)?;
    tables.make_rare()?;
    if meta.version == 1 {
        tables.sum_up()?;
    }
    if has_jobs {
        bulk_changes(&mut tables, &mut meta, &jobs)?;
    }
    meta.sums = tables.sums();
    let row = meta.write()?;
    tables.meta.insert(&[0], row.as_slice())?;
    Ok(())
}

/// Makes bulk changes of marks and jobs.
fn bulk_changes(
    tables: &mut Tables<'_>,
    meta: &mut Meta,
    jobs: &[JobV1],
) -> Result<(), StoreError> {
    let mut bulks: Vec<(Slot, Bulk)> = marks(tables)?;
    bulks.extend(jobs.iter().map(|job| (job.slot, recovery(job))));
    // If both have the same stamp, the mark came first, and the sort keeps the order.
    bulks.sort_by_key(|(slot, bulk)| (*slot, bulk.stamp));
    for (slot, bulk) in bulks {
        let key = tables::bulk_key(slot, meta.next_bulk);
        let row = record::write("bulk", &key, &bulk)?;
        tables.bulk.insert(&key, row.as_slice())?;
        meta.next_bulk += 1;
        // It doesn't affect rows that are written from now on.
        meta.last_stamp = meta.last_stamp.max(bulk.stamp);
    }
    Ok(())
}

/// Returns the jobs, oldest first, and removes their table.
fn jobs(txn: &WriteTransaction) -> Result<Vec<JobV1>, StoreError> {
    let jobs = {
        let table = match txn.open_table(JOBS) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            table => table?,
        };
        let mut jobs = Vec::new();
        for row in table.iter()? {
            let (key, value) = row?;
            jobs.push(record::read("jobs", key.value(), value.value())?);
        }
        jobs
    };
    txn.delete_table(JOBS)?;
    Ok(jobs)
}

/// Returns the marks of all endpoints, and removes them from their rows.
fn marks(tables: &mut Tables<'_>) -> Result<Vec<(Slot, Bulk)>, StoreError> {
    let mut bulks = Vec::new();
    let mut marked = Vec::new();
    for row in tables.endpoints.iter()? {
        let (key, value) = row?;
        let (endpoint, marks) = rows::read_endpoint_and_marks(key.value(), value.value())?;
        if marks.is_empty() {
            continue;
        }
        bulks.extend(marks.iter().map(|mark| (endpoint.slot, end(mark))));
        marked.push(endpoint);
    }
    for endpoint in marked {
        let row = rows::write_endpoint(&endpoint, Seal::Plain)?;
        let key = tables::slot_key(endpoint.slot);
        tables.endpoints.insert(&key, row.as_slice())?;
    }
    Ok(bulks)
}

/// A mark covers its own stamp; a bulk change covers those before it.
fn end(mark: &MarkV1) -> Bulk {
    Bulk {
        stamp: mark.stamp.saturating_add(1),
        at: mark.at,
        effect: BulkEffect::End {
            reason: mark.reason,
        },
        number: 0,
    }
}

fn recovery(job: &JobV1) -> Bulk {
    Bulk {
        stamp: job.stamp,
        at: job.at,
        effect: BulkEffect::Reopen(Reopen {
            since: job.since,
            until: job.until,
            missed: job.missed,
            last_event: job.last_event,
        }),
        number: 0,
    }
}
