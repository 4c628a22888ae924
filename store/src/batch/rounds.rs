//! Operators' changes to deliveries: retry, cancel, replay, recover, and the writing out of what was ended in bulk.

use super::{Batch, ROWS_PER_STEP, as_read, end, refused};
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
    /// The delivery as its row is and as it reads, with its endpoint; `None` where there is no such pair.
    fn found(
        &self,
        id: DeliveryId,
    ) -> Result<Option<(Delivery, Delivery, Arc<Endpoint>)>, StoreError> {
        let Some(endpoint) = self.endpoint(id.slot) else {
            return Ok(None);
        };
        Ok(self.delivery(id)?.map(|before| {
            let read = as_read(before.clone(), Some(&endpoint));
            (before, read, endpoint)
        }))
    }

    pub(super) fn retry(&mut self, id: DeliveryId) -> Result<Done, StoreError> {
        let Some((before, mut d, endpoint)) = self.found(id)? else {
            return refused(Refusal::NotFound);
        };
        if !endpoint.receives() {
            return refused(Refusal::EndpointInactive);
        }
        if !d.status.is_open() {
            return self.new_round(&before, d, Trigger::Manual);
        }
        d.extra = true;
        d.next_trigger = Trigger::Manual;
        d.due = Some(self.now);
        d.updated_at = self.now;
        self.put_delivery(Some(&before), &d)?;
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
        self.put_delivery(Some(&before), &d)?;
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
            return self.new_round(&before, d, Trigger::Replay);
        }
        let d = self.create_delivery(event.id, endpoint.slot, Trigger::Replay)?;
        Ok(Done::Delivery(Box::new(d)))
    }

    fn new_round(
        &mut self,
        before: &Delivery,
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
        self.put_delivery(Some(before), &d)?;
        Ok(Done::Delivery(Box::new(d)))
    }

    pub(super) fn recover(&mut self, recover: &Recover) -> Result<Done, StoreError> {
        let Some(endpoint) = self.live_endpoint(recover.endpoint) else {
            return refused(Refusal::NotFound);
        };
        if !endpoint.receives() {
            return refused(Refusal::EndpointInactive);
        }
        let number = self.meta.next_job;
        self.meta.next_job += 1;
        self.jobs += 1;
        let job = recoverable::job(recover, endpoint.slot, self.now);
        self.step(number, job)?;
        Ok(Done::Recovering {
            count: recover.count,
        })
    }

    pub(super) fn work_off(&mut self) -> Result<Done, StoreError> {
        let first = match self.tables.jobs.first()? {
            Some((key, value)) => {
                let job: Job = record::read_plain("jobs", value.value())?;
                Some((tables::count_of(key.value()), job))
            }
            None => None,
        };
        if let Some((number, job)) = first {
            self.step(number, job)?;
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
            if let Some((before, d, _)) = self.found(id)?
                && !d.status.is_open()
            {
                self.new_round(&before, d, Trigger::Replay)?;
            }
        }
        for event in found.missed {
            self.create_delivery(event, job.slot, Trigger::Replay)?;
        }
        match found.left {
            Some(left) => {
                let row = record::plain(&left)?;
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
            if let Some((before, read, _)) = self.found(DeliveryId { event, slot })?
                && before.status.is_open()
                && !read.status.is_open()
            {
                self.put_delivery(Some(&before), &read)?;
            }
        }
        Ok(Done::WorkedOff {
            more: events.len() > ROWS_PER_STEP,
        })
    }
}
