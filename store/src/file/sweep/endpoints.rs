//! Finds deleted endpoints with nothing left.

use super::{Looked, STEP_ROWS, Sweeper};
use crate::error::StoreError;
use crate::file::tables;
use crate::ids::{DeliveryId, EventId, Slot, UnixMs};
use crate::swept::Work;
use std::collections::BTreeSet;
use std::ops::Bound;

/// How many endpoints one operation removes.
const ENDPOINTS_FOUND: usize = 500;

/// Deleted endpoints whose deliveries are being searched for.
#[derive(Debug)]
pub(super) struct Leaving {
    slots: BTreeSet<Slot>,
    after: DeliveryId,
    /// None of them was sent anything accepted after this.
    until: EventId,
}

impl Sweeper {
    /// Finds deleted endpoints to remove: deleted before the horizon, so that no event within retention was accepted
    /// earlier, and without any delivery left. No new delivery is ever created for them.
    pub(super) fn endpoints(&mut self) -> Result<Looked, StoreError> {
        let shared = std::sync::Arc::clone(&self.shared);
        let Some(mut leaving) = self.leaving.take() else {
            return self.some_deleted();
        };
        let mut looked = Looked::default();
        let ended = shared.view(|views| {
            let first = tables::delivery_key(leaving.after);
            let event = leaving.until;
            let end = tables::delivery_key(DeliveryId {
                event,
                slot: Slot(0),
            })
            .max(first);
            let range = (Bound::Included(&first), Bound::Included(&end));
            for row in views.deliveries.range::<&[u8; 20]>(range)? {
                let id = tables::delivery_of(row?.0.value());
                leaving.after = id;
                if leaving.slots.remove(&id.slot) {
                    self.left.insert(id.slot, id);
                }
                looked.rows += 1;
                if leaving.slots.is_empty() {
                    break;
                }
                if looked.rows >= STEP_ROWS {
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        if !ended {
            self.leaving = Some(leaving);
            return Ok(looked);
        }
        for slot in &leaving.slots {
            self.left.remove(slot);
        }
        let slots: Vec<_> = leaving.slots.into_iter().collect();
        looked.work = (!slots.is_empty()).then_some(Work::Endpoints(slots));
        Ok(looked)
    }

    /// Selects the next endpoints that were deleted before the horizon and have no delivery that is known to be left.
    fn some_deleted(&mut self) -> Result<Looked, StoreError> {
        let end = (self.all_before(), Slot(0));
        let after = self.deleted_after;
        let mut looked = Looked::default();
        let mut slots = BTreeSet::new();
        let mut first: Option<DeliveryId> = None;
        let mut until = UnixMs(0);
        let shared = std::sync::Arc::clone(&self.shared);
        shared.view_with(|views, memory| {
            let deleted = memory.directory.deleted.range(after..end.max(after));
            let deleted: Vec<_> = deleted.take(STEP_ROWS).copied().collect();
            drop(memory);
            looked.ended = deleted.len() < STEP_ROWS;
            for (at, slot) in deleted {
                self.deleted_after = (at, Slot(slot.0.saturating_add(1)));
                looked.rows += 1;
                let busy = views.endpoint(slot).is_none() || !views.bulks(slot).is_empty();
                let known = self.left.get(&slot).copied();
                let there = match known {
                    Some(id) => views.deliveries.get(&tables::delivery_key(id))?.is_some(),
                    None => false,
                };
                if busy || there {
                    continue;
                }
                let from = known.unwrap_or(DeliveryId {
                    event: EventId(0),
                    slot: Slot(0),
                });
                first = Some(first.map_or(from, |first| first.min(from)));
                until = until.max(at);
                slots.insert(slot);
                if slots.len() >= ENDPOINTS_FOUND {
                    looked.ended = false;
                    break;
                }
            }
            Ok(())
        })?;
        if let Some(after) = first {
            looked.ended = false;
            self.leaving = Some(Leaving {
                slots,
                after,
                until: EventId::first_of(until.plus_ms(1)),
            });
        }
        Ok(looked)
    }
}
