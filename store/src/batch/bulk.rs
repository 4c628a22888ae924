//! Begins bulk changes, and writes what they did, a bounded number of rows at a time.

use super::{Batch, Decision, IndexedState, Storage, refused};
use crate::bulk::{BULKS, Bulk, BulkEffect, Reopen, apply};
use crate::command::{Recover, Refusal};
use crate::delivery::Trigger;
use crate::error::StoreError;
use crate::ids::{DeliveryId, EventId, Slot};
use crate::maintenance::AdvanceBulk;
use crate::op::Change;
use std::sync::Arc;

impl<S: Storage> Batch<'_, S> {
    pub(super) fn recover(&mut self, recover: &Recover) -> Decision<Recover> {
        let Some(endpoint) = self.live_endpoint(recover.endpoint) else {
            return refused(Refusal::NotFound);
        };
        if !endpoint.receives() {
            return refused(Refusal::EndpointInactive);
        }
        if !self.may_begin_bulk(endpoint.slot) {
            return refused(Refusal::TooManyBulk);
        }
        let swept_before = self.storage.swept_before();
        let reopen = Reopen::of(recover, self.numbers.last_event, swept_before);
        self.begin_bulk(endpoint.slot, BulkEffect::Reopen(reopen))?;
        Ok(Ok(recover.clone()))
    }

    /// Whether another bulk change of this endpoint may begin before one is finished.
    pub(super) fn may_begin_bulk(&self, slot: Slot) -> bool {
        self.bulks.get(&slot).map_or(0, Vec::len) < BULKS
    }

    /// Changes all of an endpoint's deliveries with one bulk change.
    pub(super) fn begin_bulk(&mut self, slot: Slot, effect: BulkEffect) -> Result<(), StoreError> {
        let number = self.numbers.next_bulk;
        let bulk = Bulk {
            stamp: self.numbers.last_stamp + 1,
            at: self.now,
            effect,
            number,
        };
        self.storage.put_bulk(slot, &bulk)?;
        self.numbers.next_bulk += 1;
        self.numbers.last_stamp = bulk.stamp;
        let bulks = Arc::make_mut(&mut self.bulks);
        bulks.entry(slot).or_default().push(bulk);
        self.changes.push(Change::Bulk(slot, bulk));
        Ok(())
    }

    /// Writes what a walk found. Returns the rest when there is no room for a round.
    pub(super) fn advance_bulk(
        &mut self,
        advance: &AdvanceBulk,
    ) -> Result<AdvanceBulk, StoreError> {
        let slot = advance.slot;
        let missed = advance.missed.iter().map(|event| (*event, true));
        let events = advance.events.iter().map(|event| (*event, false));
        for (n, (event, is_missed)) in events.chain(missed).enumerate() {
            let written = if is_missed {
                self.create_missed(event, slot)?
            } else {
                self.write_out(DeliveryId { event, slot })?
            };
            if !written {
                let [_, left] = advance.clone().split_at(n);
                return Ok(left);
            }
        }
        for number in &advance.done {
            self.end_bulk(slot, *number)?;
        }
        Ok(AdvanceBulk::nothing(slot))
    }

    fn end_bulk(&mut self, slot: Slot, number: u64) -> Result<(), StoreError> {
        self.storage.remove_bulk(slot, number)?;
        let bulks = Arc::make_mut(&mut self.bulks);
        if let Some(of_slot) = bulks.get_mut(&slot) {
            of_slot.retain(|bulk| bulk.number != number);
            if of_slot.is_empty() {
                bulks.remove(&slot);
            }
        }
        Ok(())
    }

    /// Writes a delivery with its bulk changes applied. Returns false if there is no room for its round. A damaged one
    /// is left for `check`, so that it doesn't block the others.
    fn write_out(&mut self, id: DeliveryId) -> Result<bool, StoreError> {
        let stored = match self.storage.delivery(id) {
            Err(StoreError::Damaged { .. }) => None,
            stored => stored?,
        };
        let (Some(mut delivery), Some(bulks)) = (stored, self.bulks.get(&id.slot)) else {
            return Ok(true);
        };
        let before = IndexedState::of(&delivery);
        if !apply(&mut delivery, bulks) {
            return Ok(true);
        }
        if before.due.is_none() && delivery.due.is_some() && self.room() == 0 {
            return Ok(false);
        }
        self.put_delivery(Some(before), &mut delivery)?;
        Ok(true)
    }

    /// Creates the delivery of an event that the endpoint missed while it was disabled. Returns false if there is no
    /// room for it.
    fn create_missed(&mut self, event: EventId, slot: Slot) -> Result<bool, StoreError> {
        let id = DeliveryId { event, slot };
        // Without an endpoint a first round is pointless.
        let is_there = self.endpoint(slot).is_some_and(|e| e.deleted_at.is_none());
        if !is_there || self.storage.has_delivery(id)? {
            return Ok(true);
        }
        // Nothing kept the event since the walk found it, so it may have been swept.
        if self.event(event)?.is_none_or(|event| event.data.is_none()) {
            return Ok(true);
        }
        if self.room() == 0 {
            return Ok(false);
        }
        self.create_delivery(event, slot, Trigger::Replay)?;
        Ok(true)
    }
}
