//! The open deliveries from which queues in memory are built at startup: from the due index, and where it has lost
//! rows, from the deliveries themselves.

use crate::bulk::has_ended;
use crate::delivery::QueueEntry;
use crate::delivery::Trigger;
use crate::error::StoreError;
use crate::file::guarded::guarded;
use crate::file::memory::Snapshot;
use crate::file::reader::scan::{Next, Rows, Way};
use crate::file::rows;
use crate::file::sums::Sum;
use crate::file::tables::{self, ReadTables};
use crate::ids::{DeliveryId, UnixMs};
use redb::ReadableTable;
use std::collections::HashSet;

/// Passes every open delivery to `each`, those due first first, without those that a bulk change has ended. If rows of
/// the index are missing or can't be read, their deliveries come last: the index can be derived, and damage in it hides
/// no delivery.
pub(crate) fn each_open(
    views: &Snapshot,
    each: &mut impl FnMut(QueueEntry),
) -> Result<(), StoreError> {
    let mut each = |waiting: QueueEntry, stamp| {
        if !has_ended(waiting.id.slot, stamp, views.all_bulks()) {
            each(waiting);
        }
    };
    let each = &mut each;
    let mut sum = Sum::default();
    let read = guarded(|| {
        for row in views.due.iter()? {
            let (key, value) = row?;
            sum.add(key.value(), value.value());
            if let Some((waiting, stamp)) = by_row(views, key.value(), value.value())? {
                each(waiting, stamp);
            }
        }
        Ok(())
    });
    match read {
        Ok(()) if views.meta()?.sums.due == sum => Ok(()),
        Err(e) if !e.is_damage() => Err(e),
        _ => unindexed(views, each),
    }
}

/// Passes open deliveries without a readable row in the index.
fn unindexed(views: &ReadTables, each: &mut impl FnMut(QueueEntry, u64)) -> Result<(), StoreError> {
    let mut known = HashSet::new();
    let whole = guarded(|| {
        for row in views.due.iter()? {
            let (key, value) = row?;
            let found = by_row(views, key.value(), value.value())?;
            known.extend(found.map(|(waiting, _)| waiting.id));
        }
        Ok(())
    });
    if let Err(e) = whole
        && !e.is_damage()
    {
        return Err(e);
    }
    let mut all = Rows::new(&views.deliveries, Way::Up, [0; 20], [u8::MAX; 20]);
    loop {
        match all.next(rows::read_delivery)? {
            Next::Row(_, Ok(delivery)) if !known.contains(&delivery.id) => {
                if let Some(waiting) = delivery.queue_entry() {
                    each(waiting, delivery.stamp);
                }
            }
            // `check` names it.
            Next::Row(..) | Next::Gap(..) => {}
            Next::End => return Ok(()),
        }
    }
}

/// Returns what waits according to this row of the index, and the stamp of its delivery. A damaged row is looked up in
/// the deliveries; if the delivery's own row is damaged too, only the key is known, and the first attempt ends the
/// delivery.
fn by_row(
    views: &ReadTables,
    key: &[u8; 28],
    value: &[u8],
) -> Result<Option<(QueueEntry, u64)>, StoreError> {
    match rows::read_due(key, value) {
        Err(StoreError::Damaged { .. }) => {}
        read => return read.map(Some),
    }
    let (due, id) = tables::timed_of(key);
    let key = tables::delivery_key(id);
    let delivery = match views.deliveries.get(&key)? {
        Some(row) => rows::read_delivery(&key, row.value()),
        None => return of_an_endpoint(views, id).map(|is| is.then(|| (by_key(id, due), 0))),
    };
    match delivery {
        Err(StoreError::Damaged { .. }) => Ok(Some((by_key(id, due), 0))),
        // It has ended, or waits for another time, which has its own row.
        delivery => {
            let delivery = delivery?;
            let waiting = delivery.queue_entry().filter(|waiting| waiting.due == due);
            Ok(waiting.map(|waiting| (waiting, delivery.stamp)))
        }
    }
}

/// Whether the endpoint exists. A damaged key may hold anything, and queues make room for each endpoint that they see.
fn of_an_endpoint(views: &ReadTables, id: DeliveryId) -> Result<bool, StoreError> {
    Ok(views.endpoints.get(&tables::slot_key(id.slot))?.is_some())
}

fn by_key(id: DeliveryId, due: UnixMs) -> QueueEntry {
    QueueEntry {
        id,
        due,
        sequence: 0,
        retrying: false,
        fresh: false,
        later_round: false,
        trigger: Trigger::Schedule,
    }
}
