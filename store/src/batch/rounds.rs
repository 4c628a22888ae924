//! Operators' changes to deliveries: retry, cancel, replay, recover, and the writing out of what was ended in bulk.

use super::{Batch, IndexedState, refused};
use crate::bulk::ROWS_PER_STEP;
use crate::delivery::{Delivery, Trigger};
use crate::endpoint::Endpoint;
use crate::error::StoreError;
use crate::ids::{DeliveryId, EndpointId, EventId, Slot};
use crate::op::{Done, Recover, Refusal};
use crate::record;
use crate::recoverable;
use crate::rows::Job;
use crate::tables;
use std::sync::Arc;

/// Recovers that may be under way at once.
const JOBS: usize = 64;

impl Batch<'_, '_> {
    /// The delivery and its endpoint; `None` where there is no such pair.
    fn found(&mut self, id: DeliveryId) -> Result<Option<(Delivery, Arc<Endpoint>)>, StoreError> {
        let Some(endpoint) = self.endpoint(id.slot) else {
            return Ok(None);
        };
        Ok(self.delivery(id)?.map(|d| (d, endpoint)))
    }

    /// Writes out what a delivery has become by what was done to many at once. A damaged one is left for `check` to name, so
    /// that it does not stand in the way of the others.
    fn write_out(&mut self, id: DeliveryId) -> Result<(), StoreError> {
        match self.delivery(id) {
            Ok(_) | Err(StoreError::Damaged { .. }) => Ok(()),
            Err(e) => Err(e),
        }
    }

    pub(super) fn retry(&mut self, id: DeliveryId) -> Result<Done, StoreError> {
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
        Ok(Done::Delivery(Box::new(d)))
    }

    pub(super) fn cancel(&mut self, id: DeliveryId) -> Result<Done, StoreError> {
        let Some((mut d, _)) = self.found(id)? else {
            return refused(Refusal::NotFound);
        };
        let before = IndexedState::of(&d);
        if d.cancelled(self.now).is_err() {
            return refused(Refusal::DeliveryEnded);
        }
        self.put_delivery(Some(before), &mut d)?;
        Ok(Done::Delivery(Box::new(d)))
    }

    pub(super) fn replay(
        &mut self,
        event: EventId,
        endpoint: EndpointId,
    ) -> Result<Done, StoreError> {
        let (Some(event), Some(endpoint)) = (self.event(event)?, self.live_endpoint(endpoint))
        else {
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
        Ok(Done::Delivery(Box::new(d)))
    }

    /// How many more deliveries may wait.
    fn room(&self) -> u64 {
        self.options.pending_limit.saturating_sub(self.open)
    }

    fn new_round(&mut self, mut d: Delivery, trigger: Trigger) -> Result<Done, StoreError> {
        let before = IndexedState::of(&d);
        if self.event(d.id.event)?.is_none_or(|e| e.data.is_none()) {
            return refused(Refusal::DataGone);
        }
        if before.due.is_none() && self.room() == 0 {
            return refused(Refusal::Full);
        }
        let stamp = self.next_stamp();
        d.reopened(trigger, stamp, self.now);
        self.put_delivery(Some(before), &mut d)?;
        Ok(Done::Delivery(Box::new(d)))
    }

    pub(super) fn recover(&mut self, recover: &Recover) -> Result<Done, StoreError> {
        let Some(endpoint) = self.live_endpoint(recover.endpoint) else {
            return refused(Refusal::NotFound);
        };
        if !endpoint.receives() {
            return refused(Refusal::EndpointInactive);
        }
        if self.jobs.len() >= JOBS {
            return refused(Refusal::Full);
        }
        let job = recoverable::job(recover, &endpoint, &self.meta, self.now);
        self.meta.last_stamp = job.stamp;
        let number = self.meta.next_job;
        self.meta.next_job += 1;
        self.put_job(number, Some(job))?;
        self.step(number)?;
        Ok(Done::Recovering(recover.clone()))
    }

    /// Opens some of the oldest job's rounds.
    pub(super) fn work_off(&mut self) -> Result<Done, StoreError> {
        let oldest = self.jobs.first_key_value().map(|(number, _)| *number);
        let worked = match oldest {
            Some(number) => self.step(number)?,
            None => false,
        };
        Ok(Done::WorkedOff {
            more: worked && !self.jobs.is_empty(),
        })
    }

    /// Opens some of a job's rounds, and writes what is left of it or drops it. False if there is no room for any.
    fn step(&mut self, number: u64) -> Result<bool, StoreError> {
        let Some(job) = self.jobs.get(&number).copied() else {
            return Ok(false);
        };
        let most =
            usize::try_from(self.room()).map_or(ROWS_PER_STEP, |room| room.min(ROWS_PER_STEP));
        let Some(endpoint) = self.endpoint(job.slot).filter(|_| most > 0) else {
            return Ok(false);
        };
        let mut others = self.jobs.clone();
        others.split_off(&number);
        let mut found =
            recoverable::step(self.shared, &self.tables, &endpoint, &others, job, most)?;
        for id in found.rounds {
            self.write_out(id)?;
        }
        if endpoint.deleted_at.is_some() {
            // What never had a round needs none any more.
            found.missed.clear();
        }
        for event in found.missed {
            self.create_delivery(event, job.slot, Trigger::Replay)?;
        }
        self.put_job(number, found.left)?;
        Ok(true)
    }

    fn put_job(&mut self, number: u64, job: Option<Job>) -> Result<(), StoreError> {
        let key = tables::count_key(number);
        match job {
            Some(job) => {
                let row = record::write("jobs", &key, &job)?;
                self.tables.jobs.insert(&key, row.as_slice())?;
                self.jobs.insert(number, job);
            }
            None => {
                self.tables.jobs.remove(&key)?;
                self.jobs.remove(&number);
            }
        }
        Ok(())
    }

    pub(super) fn end_covered(
        &mut self,
        slot: Slot,
        events: &[EventId],
    ) -> Result<Done, StoreError> {
        for &event in events.iter().take(ROWS_PER_STEP) {
            self.write_out(DeliveryId { event, slot })?;
        }
        Ok(Done::WorkedOff {
            more: events.len() > ROWS_PER_STEP,
        })
    }

    /// Drops marks that cover nothing any more. Where a recover still counts on them, they stay.
    pub(super) fn drop_marks(&mut self, slot: Slot, upto: u64) -> Result<Done, StoreError> {
        let more = self.jobs.values().any(|job| job.slot == slot);
        if !more && let Some(endpoint) = self.endpoint(slot) {
            let mut e = (*endpoint).clone();
            e.ended.retain(|mark| mark.stamp > upto);
            self.endpoints.insert(slot, Arc::new(e));
        }
        Ok(Done::WorkedOff { more })
    }
}
