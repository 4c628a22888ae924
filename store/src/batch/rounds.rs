//! Operators' changes to deliveries: retry, cancel, replay, recover, and the writing out of what was ended in bulk.

use super::{Batch, ROWS_PER_STEP, Was, as_read, end, refused};
use crate::delivery::{Delivery, Reason, Status, Trigger};
use crate::endpoint::Endpoint;
use crate::error::StoreError;
use crate::ids::{DeliveryId, EndpointId, EventId, Slot};
use crate::op::{Done, Recover, Refusal};
use crate::reader::recoverable;
use crate::record;
use crate::rows::Job;
use crate::tables;
use redb::ReadableTable;
use std::sync::Arc;

impl Batch<'_, '_> {
    /// What the delivery's row is, how it reads, and its endpoint; `None` where there is no such pair.
    fn found(&self, id: DeliveryId) -> Result<Option<(Was, Delivery, Arc<Endpoint>)>, StoreError> {
        let Some(endpoint) = self.endpoint(id.slot) else {
            return Ok(None);
        };
        Ok(self.delivery(id)?.map(|stored| {
            let before = Was::of(&stored);
            (before, as_read(stored, Some(&endpoint)), endpoint)
        }))
    }

    /// The same among many: what is damaged is left for `check` to name, so that it does not stand in the way of the others.
    fn found_whole(
        &self,
        id: DeliveryId,
    ) -> Result<Option<(Was, Delivery, Arc<Endpoint>)>, StoreError> {
        match self.found(id) {
            Err(StoreError::Damaged { .. }) => Ok(None),
            found => found,
        }
    }

    pub(super) fn retry(&mut self, id: DeliveryId) -> Result<Done, StoreError> {
        let Some((before, mut d, endpoint)) = self.found(id)? else {
            return refused(Refusal::NotFound);
        };
        if !endpoint.receives() {
            return refused(Refusal::EndpointInactive);
        }
        if !d.status.is_open() {
            return self.new_round(before, d, Trigger::Manual);
        }
        d.extra = true;
        d.next_trigger = Trigger::Manual;
        d.due = Some(self.now);
        d.updated_at = self.now;
        self.put_delivery(Some(before), &mut d)?;
        Ok(Done::Delivery(Box::new(d)))
    }

    pub(super) fn cancel(&mut self, id: DeliveryId) -> Result<Done, StoreError> {
        let Some((before, mut d, _)) = self.found(id)? else {
            return refused(Refusal::NotFound);
        };
        if !d.status.is_open() {
            return refused(Refusal::DeliveryEnded);
        }
        end(&mut d, Status::Failed, Some(Reason::Cancelled), self.now);
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
        if let Some((before, d, _)) = self.found(id)? {
            return self.new_round(before, d, Trigger::Replay);
        }
        let d = self.create_delivery(event.id, endpoint.slot, Trigger::Replay)?;
        Ok(Done::Delivery(Box::new(d)))
    }

    fn new_round(
        &mut self,
        before: Was,
        mut d: Delivery,
        trigger: Trigger,
    ) -> Result<Done, StoreError> {
        if self.event(d.id.event)?.is_none_or(|e| e.data.is_none()) {
            return refused(Refusal::DataGone);
        }
        d.status = Status::Pending;
        d.reason = None;
        d.round = d.round.saturating_add(1);
        d.attempts_finished = 0;
        d.extra = false;
        d.next_trigger = trigger;
        d.next_attempt_at = Some(self.now);
        d.due = Some(self.now);
        d.updated_at = self.now;
        d.opened = self.next_stamp();
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
        let job = recoverable::job(recover, &endpoint, &self.meta);
        let number = self.meta.next_job;
        self.meta.next_job += 1;
        self.jobs += 1;
        self.step(number, job)?;
        Ok(Done::Recovering {
            count: recover.count,
        })
    }

    pub(super) fn work_off(&mut self) -> Result<Done, StoreError> {
        let first = self.tables.jobs.first()?.map(|(key, value)| {
            let job = record::read::<Job>("jobs", key.value(), value.value());
            (*key.value(), job)
        });
        match first {
            Some((key, Ok(job))) => self.step(tables::count_of(&key), job)?,
            Some((key, Err(damage @ StoreError::Damaged { .. }))) => {
                // Nobody knows what was left of it; it must not stand in the way of the next.
                self.tables.jobs.remove(&key)?;
                self.jobs = self.jobs.saturating_sub(1);
                return Err(damage);
            }
            Some((_, Err(e))) => return Err(e),
            None => {}
        }
        Ok(Done::WorkedOff {
            more: self.jobs > 0,
        })
    }

    /// Opens some of a job's rounds, and writes what is left of it or drops it.
    fn step(&mut self, number: u64, job: Job) -> Result<(), StoreError> {
        let key = tables::count_key(number);
        let endpoint = self.endpoint(job.slot).filter(|e| e.receives());
        let found = match &endpoint {
            Some(endpoint) => {
                recoverable::step(self.shared, &self.tables, endpoint, job, ROWS_PER_STEP)?
            }
            // Switched off or deleted meanwhile: what is left of the job is moot.
            None => recoverable::Step::default(),
        };
        for id in found.rounds {
            if let Some((before, d, _)) = self.found_whole(id)?
                && !d.status.is_open()
            {
                self.new_round(before, d, Trigger::Replay)?;
            }
        }
        for event in found.missed {
            self.create_delivery(event, job.slot, Trigger::Replay)?;
        }
        match found.left {
            Some(left) => {
                let row = record::write("jobs", &key, &left)?;
                self.tables.jobs.insert(&key, row.as_slice())?;
            }
            None => {
                self.tables.jobs.remove(&key)?;
                self.jobs = self.jobs.saturating_sub(1);
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
            if let Some((before, mut read, _)) = self.found_whole(DeliveryId { event, slot })?
                && before.status.is_open()
                && !read.status.is_open()
            {
                self.put_delivery(Some(before), &mut read)?;
            }
        }
        Ok(Done::WorkedOff {
            more: events.len() > ROWS_PER_STEP,
        })
    }
}
