//! What waits, as queues in memory are built from it at start: the due index, and where that has lost rows, the deliveries themselves.

use crate::bulk::has_ended;
use crate::delivery::Trigger;
use crate::delivery::Waiting;
use crate::error::{StoreError, guarded};
use crate::ids::{DeliveryId, UnixMs};
use crate::memory::Snapshot;
use crate::reader::scan::{Next, Rows, Way};
use crate::rows;
use crate::sums::Sum;
use crate::tables::{self, Views};
use redb::ReadableTable;
use std::collections::HashSet;

/// Hands every open delivery to `each`, those due first first, but for those that a bulk change has ended. Where rows of the index are missing or can't be read, the deliveries that
/// they were of come last: the index can be derived again, and damage in it hides no delivery.
pub(crate) fn each_open(
    views: &Snapshot,
    each: &mut impl FnMut(Waiting),
) -> Result<(), StoreError> {
    let mut each = |waiting: Waiting, stamp| {
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

/// Open deliveries that no readable row of the index is of.
fn unindexed(views: &Views, each: &mut impl FnMut(Waiting, u64)) -> Result<(), StoreError> {
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
                if let Some(waiting) = rows::waiting(&delivery) {
                    each(waiting, delivery.stamp);
                }
            }
            // `check` names it.
            Next::Row(..) | Next::Gap(..) => {}
            Next::End => return Ok(()),
        }
    }
}

/// What waits by this row of the index, and the stamp of its delivery. A damaged one is looked up in the deliveries; where the delivery's own row is damaged too, all that
/// is known is what the key says, and the first attempt ends it.
fn by_row(
    views: &Views,
    key: &[u8; 28],
    value: &[u8],
) -> Result<Option<(Waiting, u64)>, StoreError> {
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
        // It has ended, or waits for another time, which has a row of its own.
        delivery => {
            let delivery = delivery?;
            let waiting = rows::waiting(&delivery).filter(|waiting| waiting.due == due);
            Ok(waiting.map(|waiting| (waiting, delivery.stamp)))
        }
    }
}

/// Whether there is such an endpoint. A damaged key may say anything, and queues make room for each endpoint that they hear of.
fn of_an_endpoint(views: &Views, id: DeliveryId) -> Result<bool, StoreError> {
    Ok(views.endpoints.get(&tables::slot_key(id.slot))?.is_some())
}

fn by_key(id: DeliveryId, due: UnixMs) -> Waiting {
    Waiting {
        id,
        due,
        sequence: 0,
        retrying: false,
        fresh: false,
        later_round: false,
        trigger: Trigger::Schedule,
    }
}
