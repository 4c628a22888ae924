//! The rows of one batch: those that it needs, fetched before it is decided, and those that it writes.
//!
//! A batch that asks for a row that is not here is told so ([`StoreError::NotFetched`]). The row is fetched with the
//! others that are missing, and the batch is decided again from its start.

use crate::memory::Memory;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use stormhook_store::backend::{Batch, Fingerprint, IndexedState, Storage};
use stormhook_store::endpoint::Revision;
use stormhook_store::maintenance::{Reseal, Resealed, Sweep, Swept};
use stormhook_store::stats::{Counters, Level};
use stormhook_store::{
    ApiKey, ApiKeyId, AuditId, Bulk, Delivery, DeliveryId, Endpoint, Event, EventId, Horizon,
    Purge, PurgeEffect, Slot, StoreError, UnixMs,
};

/// The rows that a batch asked for and that were not fetched yet.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    pub(crate) deliveries: BTreeSet<DeliveryId>,
    pub(crate) events: BTreeSet<EventId>,
    pub(crate) keys: BTreeSet<Fingerprint>,
    pub(crate) api_keys: BTreeSet<ApiKeyId>,
}

impl Needs {
    pub(crate) fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
            && self.events.is_empty()
            && self.keys.is_empty()
            && self.api_keys.is_empty()
    }
}

/// Rows as they are in the database; `None` for those that are not there.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    pub(crate) deliveries: HashMap<DeliveryId, Option<Delivery>>,
    pub(crate) events: HashMap<EventId, Option<Arc<Event>>>,
    pub(crate) keys: HashMap<Fingerprint, Option<EventId>>,
    pub(crate) api_keys: HashMap<ApiKeyId, Option<ApiKey>>,
    /// The first of the numbers that the batch's new endpoints get.
    pub(crate) next_slot: u32,
}

/// A change of a bulk change's row.
#[derive(Debug)]
pub(crate) enum BulkChange {
    Begins(Bulk),
    Ends,
}

/// What a batch wrote row by row.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Each delivery as the batch leaves it.
    pub(crate) deliveries: BTreeMap<DeliveryId, Delivery>,
    pub(crate) revisions: BTreeMap<(Slot, EventId), Revision>,
    pub(crate) bulks: BTreeMap<(Slot, u64), BulkChange>,
    /// Whether the windows in memory are to be written.
    pub(crate) flush: bool,
    /// Before which history is dropped from now on.
    pub(crate) horizon: Option<Horizon>,
    pub(crate) purged: Purged,
}

/// What purges change.
#[derive(Debug, Default)]
pub(crate) struct Purged {
    pub(crate) begun: Vec<Purge>,
    /// By organization and number.
    pub(crate) ended: Vec<(String, u64)>,
    pub(crate) events: BTreeMap<EventId, PurgeEffect>,
    /// Deliveries that are removed, with their sequence numbers.
    pub(crate) deliveries: BTreeMap<DeliveryId, u64>,
    /// API keys that are removed.
    pub(crate) api_keys: Vec<ApiKeyId>,
}

/// See the module.
pub(crate) struct Rows<'a> {
    pub(crate) fetched: &'a Fetched,
    pub(crate) idempotency_ttl_ms: u64,
    pub(crate) memory: &'a Memory,
    pub(crate) needs: RefCell<Needs>,
    pub(crate) written: Written,
}

impl Rows<'_> {
    /// Whether a delivery is not past its retention. Its partition may be dropped at any moment, so nothing may open it
    /// again.
    fn kept(&self, delivery: &Delivery) -> bool {
        let accepted = delivery.id.event.accepted_at();
        delivery.due.is_some() || accepted >= self.memory.deliveries_swept_before
    }

    /// Returns the event without its data if that is past its retention: nothing may be sent again.
    fn with_kept_data(&self, event: Arc<Event>) -> Arc<Event> {
        if event.id.accepted_at() >= self.memory.swept_before || event.data.is_none() {
            return event;
        }
        Arc::new(Event {
            data: None,
            ..Event::clone(&event)
        })
    }
}

impl Storage for Rows<'_> {
    fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        if self.written.purged.deliveries.contains_key(&id) {
            return Ok(None);
        }
        if let Some(written) = self.written.deliveries.get(&id) {
            return Ok(Some(written.clone()));
        }
        // Another daemon decides about it.
        if self.memory.directory.endpoint(id.slot).is_none() {
            return Ok(None);
        }
        if let Some(fresh) = self.memory.fresh.get(&id) {
            return Ok(Some(fresh.clone()));
        }
        match self.fetched.deliveries.get(&id) {
            Some(Some(found)) => Ok(self.kept(found).then(|| found.clone())),
            Some(None) => Ok(None),
            None => {
                self.needs.borrow_mut().deliveries.insert(id);
                Err(StoreError::NotFetched)
            }
        }
    }

    fn has_delivery(&self, id: DeliveryId) -> Result<bool, StoreError> {
        self.delivery(id).map(|found| found.is_some())
    }

    fn event(&self, id: EventId) -> Result<Option<Arc<Event>>, StoreError> {
        match self.fetched.events.get(&id) {
            Some(found) => {
                let effect = self.written.purged.events.get(&id);
                let found = found.clone().map(|event| match effect {
                    None => event,
                    Some(effect) => Arc::new(effect.leaves(&event)),
                });
                Ok(found.map(|event| self.with_kept_data(event)))
            }
            None => {
                self.needs.borrow_mut().events.insert(id);
                Err(StoreError::NotFetched)
            }
        }
    }

    fn key(&self, key: Fingerprint, now: UnixMs) -> Result<Option<EventId>, StoreError> {
        let live = |id: &EventId| id.accepted_at().plus_ms(self.idempotency_ttl_ms) > now;
        match self.fetched.keys.get(&key) {
            Some(found) => Ok(found.filter(live)),
            None => {
                self.needs.borrow_mut().keys.insert(key);
                Err(StoreError::NotFetched)
            }
        }
    }

    fn counters(&self, level: Level, start: UnixMs) -> Result<Counters, StoreError> {
        let counters = &self.memory.counters;
        Ok(counters.get(&(level, start)).copied().unwrap_or_default())
    }

    fn holds(&self, organization: &str) -> bool {
        self.memory.holds(organization)
    }

    fn takes_any_id(&self) -> bool {
        true
    }

    fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
        if let Some(known) = self.memory.api_keys.get(id) {
            return Ok(Some((**known).clone()));
        }
        match self.fetched.api_keys.get(&id) {
            Some(found) => Ok(found.clone()),
            None => {
                self.needs.borrow_mut().api_keys.insert(id);
                Err(StoreError::NotFetched)
            }
        }
    }

    fn api_keys_of(&self, organization: &str) -> Vec<ApiKey> {
        self.memory.api_keys.of(organization)
    }

    fn remove_api_key(&mut self, id: ApiKeyId) -> Result<(), StoreError> {
        self.written.purged.api_keys.push(id);
        Ok(())
    }

    fn last_audit(&self) -> AuditId {
        self.memory.last_audit
    }

    fn api_key_count(&self) -> usize {
        self.memory.api_keys.len()
    }

    fn swept_before(&self) -> UnixMs {
        self.memory.swept_before
    }

    fn put_delivery(
        &mut self,
        _before: Option<IndexedState>,
        after: &Delivery,
    ) -> Result<(), StoreError> {
        self.written.deliveries.insert(after.id, after.clone());
        Ok(())
    }

    fn remove_from_queue(&mut self, _id: DeliveryId, _due: UnixMs) -> Result<bool, StoreError> {
        // A delivery and its place in the queue are one row.
        Ok(false)
    }

    fn put_revision(
        &mut self,
        slot: Slot,
        from: EventId,
        revision: &Revision,
    ) -> Result<(), StoreError> {
        self.written
            .revisions
            .insert((slot, from), revision.clone());
        Ok(())
    }

    fn put_bulk(&mut self, slot: Slot, bulk: &Bulk) -> Result<(), StoreError> {
        let begins = BulkChange::Begins(*bulk);
        self.written.bulks.insert((slot, bulk.number), begins);
        Ok(())
    }

    fn remove_bulk(&mut self, slot: Slot, number: u64) -> Result<(), StoreError> {
        self.written.bulks.insert((slot, number), BulkChange::Ends);
        Ok(())
    }

    fn may_purge(&self) -> bool {
        self.memory.all_know_purges
    }

    fn put_purge(&mut self, purge: &Purge) -> Result<(), StoreError> {
        self.written.purged.begun.push(purge.clone());
        Ok(())
    }

    fn remove_purge(&mut self, purge: &Purge) -> Result<(), StoreError> {
        let key = (purge.organization.clone(), purge.number);
        self.written.purged.ended.push(key);
        Ok(())
    }

    fn purge_events(&mut self, events: &[EventId], effect: PurgeEffect) -> Result<(), StoreError> {
        let events = events.iter().map(|id| (*id, effect));
        self.written.purged.events.extend(events);
        Ok(())
    }

    fn remove_delivery(&mut self, _: IndexedState, delivery: &Delivery) -> Result<(), StoreError> {
        self.written.deliveries.remove(&delivery.id);
        let removed = &mut self.written.purged.deliveries;
        removed.insert(delivery.id, delivery.sequence);
        Ok(())
    }

    fn forget_endpoints(batch: &mut Batch<'_, Self>, slots: &[Slot]) -> Result<bool, StoreError> {
        for slot in slots {
            let is_over = |e: &Arc<Endpoint>| e.deleted_at.is_some();
            let known = batch.directory.endpoint(*slot).is_some_and(is_over);
            if known && !batch.bulks.contains_key(slot) {
                batch.forgotten.insert(*slot);
            }
        }
        Ok(false)
    }

    fn flush_stats(batch: &mut Batch<'_, Self>) -> Result<(), StoreError> {
        batch.storage.written.flush = true;
        Ok(())
    }

    /// Moves the horizon, and forgets endpoints. History is dropped by whole partitions, afterwards.
    fn sweep(batch: &mut Batch<'_, Self>, sweep: &Sweep) -> Result<Swept, StoreError> {
        if sweep.is_end() {
            batch.storage.written.horizon = Some(sweep.horizon());
        }
        let more = Self::forget_endpoints(batch, sweep.endpoints())?;
        Ok(Swept { more })
    }

    /// Nothing: `resealing` does it, beside the lanes.
    fn reseal(batch: &mut Batch<'_, Self>, _: &Reseal) -> Result<Resealed, StoreError> {
        Ok(Resealed {
            at_rest: batch.storage.memory.at_rest,
            left: 0,
        })
    }
}
