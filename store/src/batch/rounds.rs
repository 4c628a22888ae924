//! Operators' changes to one delivery: retry, cancel, replay.

use super::{Batch, Decision, IndexedState, Storage, refused};
use crate::command::{Cancel, Refusal, Replay, Retry};
use crate::delivery::{Delivery, Trigger};
use crate::endpoint::Endpoint;
use crate::error::StoreError;
use crate::ids::DeliveryId;
use std::sync::Arc;

impl<S: Storage> Batch<'_, S> {
    /// Returns the delivery and its endpoint; `None` if either doesn't exist.
    fn found(&mut self, id: DeliveryId) -> Result<Option<(Delivery, Arc<Endpoint>)>, StoreError> {
        let Some(endpoint) = self.endpoint(id.slot) else {
            return Ok(None);
        };
        Ok(self.delivery(id)?.map(|d| (d, endpoint)))
    }

    pub(super) fn retry(&mut self, Retry(id): Retry) -> Decision<Box<Delivery>> {
        let Some((mut d, endpoint)) = self.found(id)? else {
            return refused(Refusal::NotFound);
        };
        if !endpoint.receives() {
            return refused(Refusal::EndpointInactive);
        }
        let before = IndexedState::of(&d);
        if d.retried(self.now).is_err() {
            return self.new_round(d, Trigger::Manual);
        }
        self.put_delivery(Some(before), &mut d)?;
        Ok(Ok(Box::new(d)))
    }

    pub(super) fn cancel(&mut self, Cancel(id): Cancel) -> Decision<Box<Delivery>> {
        let Some((mut d, _)) = self.found(id)? else {
            return refused(Refusal::NotFound);
        };
        let before = IndexedState::of(&d);
        if d.cancelled(self.now).is_err() {
            return refused(Refusal::DeliveryEnded);
        }
        self.put_delivery(Some(before), &mut d)?;
        Ok(Ok(Box::new(d)))
    }

    pub(super) fn replay(&mut self, replay: Replay) -> Decision<Box<Delivery>> {
        let (Some(event), Some(endpoint)) = (
            self.event(replay.event)?,
            self.live_endpoint(replay.endpoint),
        ) else {
            return refused(Refusal::NotFound);
        };
        if event.organization != endpoint.organization {
            return refused(Refusal::NotFound);
        }
        if event.data.is_none() {
            return refused(Refusal::DataGone);
        }
        if !endpoint.receives() {
            return refused(Refusal::EndpointInactive);
        }
        let id = DeliveryId {
            event: event.id,
            slot: endpoint.slot,
        };
        if let Some((d, _)) = self.found(id)? {
            return self.new_round(d, Trigger::Replay);
        }
        if self.room() == 0 {
            return refused(Refusal::Full);
        }
        let d = self.create_delivery(event.id, endpoint.slot, Trigger::Replay)?;
        Ok(Ok(Box::new(d)))
    }

    /// Returns how many more deliveries may be open.
    pub(super) fn room(&self) -> u64 {
        self.limits.pending.saturating_sub(self.open)
    }

    fn new_round(&mut self, mut d: Delivery, trigger: Trigger) -> Decision<Box<Delivery>> {
        let before = IndexedState::of(&d);
        if self.event(d.id.event)?.is_none_or(|e| e.data.is_none()) {
            return refused(Refusal::DataGone);
        }
        if before.due.is_none() && self.room() == 0 {
            return refused(Refusal::Full);
        }
        d.reopened(trigger, self.now);
        self.put_delivery(Some(before), &mut d)?;
        Ok(Ok(Box::new(d)))
    }
}
