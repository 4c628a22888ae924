//! The tables of the file, as a batch reads and writes them.

use crate::api_key::ApiKey;
use crate::batch::{Batch, IndexedState, Storage};
use crate::bulk::Bulk;
use crate::delivery::Delivery;
use crate::endpoint::Revision;
use crate::error::StoreError;
use crate::event::Event;
use crate::file::keys;
use crate::file::memory::{Memory, Shared};
use crate::file::meta::Meta;
use crate::file::pack::{self, Pack};
use crate::file::record;
use crate::file::rows;
use crate::file::tables::{self, Tables};
use crate::fingerprint::Fingerprint;
use crate::ids::{ApiKeyId, AuditId, DeliveryId, EventId, Slot, UnixMs};
use crate::maintenance::{Reseal, Resealed, Sweep, Swept};
use crate::options::Options;
use crate::purge::{Purge, PurgeEffect};
use crate::sealing::AtRest;
use crate::stats::{Counters, Level};
use redb::ReadableTable;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// See the module.
pub(crate) struct FileStorage<'a, 't> {
    pub(super) shared: &'a Shared,
    pub(super) options: &'a Options,
    pub(super) memory: &'a Memory,
    pub(super) tables: Tables<'t>,
    pub(super) zstd: &'a mut zstd::bulk::Compressor<'static>,
    pub(super) meta: Meta,
    pub(super) windows_flushed: bool,
    pub(super) generations_dropped: Vec<u64>,
    pub(super) api_keys_dropped: Vec<ApiKeyId>,
    /// The packs that this batch rewrote.
    pub(super) rewritten: BTreeMap<EventId, Arc<Pack>>,
    /// The endpoints to reseal, if this batch began that.
    pub(super) resealing: Option<BTreeSet<Slot>>,
}

impl Storage for FileStorage<'_, '_> {
    fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        rows::delivery_in(&*self.tables.deliveries, id)
    }

    fn has_delivery(&self, id: DeliveryId) -> Result<bool, StoreError> {
        let key = tables::delivery_key(id);
        Ok(self.tables.deliveries.get(&key)?.is_some())
    }

    fn event(&self, id: EventId) -> Result<Option<Arc<Event>>, StoreError> {
        // This batch may have swept it or rewritten its pack while that is still in the cache.
        if id.accepted_at() < self.meta.swept_before || !self.rewritten.is_empty() {
            let around = pack::around(&*self.tables.packs, id)?;
            return Ok(around.and_then(|(_, pack)| pack.find(id)));
        }
        self.shared.event(&*self.tables.packs, id)
    }

    fn key(&self, key: Fingerprint, now: UnixMs) -> Result<Option<EventId>, StoreError> {
        let keys = &*self.tables.keys;
        keys::find(keys, self.memory, key, now, self.options.idempotency_ttl_ms)
    }

    fn counters(&self, level: Level, start: UnixMs) -> Result<Counters, StoreError> {
        if let Some(counters) = self.memory.tail.counters.get(&(level, start)) {
            return Ok(*counters);
        }
        let key = tables::counters_key(level, start);
        let before = self.tables.counters.get(&key)?;
        match before.map(|row| record::read("counters", &key, row.value())) {
            // Damaged counters start over, so that they don't block the work that they count.
            None | Some(Err(StoreError::Damaged { .. })) => Ok(Counters::default()),
            Some(read) => read,
        }
    }

    fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
        Ok(self.memory.api_keys.get(id).map(|key| (**key).clone()))
    }

    fn api_keys_of(&self, organization: &str) -> Vec<ApiKey> {
        self.memory.api_keys.of(organization)
    }

    fn remove_api_key(&mut self, id: ApiKeyId) -> Result<(), StoreError> {
        self.tables.api_keys.remove(&tables::api_key_key(id))?;
        self.api_keys_dropped.push(id);
        Ok(())
    }

    fn last_audit(&self) -> AuditId {
        self.memory.last_audit
    }

    fn api_key_count(&self) -> usize {
        self.memory.api_keys.len()
    }

    fn swept_before(&self) -> UnixMs {
        self.meta.swept_before
    }

    fn put_delivery(
        &mut self,
        before: Option<IndexedState>,
        after: &Delivery,
    ) -> Result<(), StoreError> {
        if let Some(due) = before.and_then(|b| b.due) {
            self.tables.due.remove(&tables::timed_key(due, after.id))?;
        }
        let key = tables::delivery_key(after.id);
        match (
            before.is_some_and(|b| b.status.is_undelivered()),
            after.status.is_undelivered(),
        ) {
            (true, false) => {
                self.tables.bad.remove(&key)?;
            }
            (false, true) => {
                let row = record::write("bad", &key, &())?;
                self.tables.bad.insert(&key, row.as_slice())?;
            }
            _ => {}
        }
        if let Some(waiting) = after.queue_entry() {
            let key = tables::timed_key(waiting.due, after.id);
            let row = rows::write_due(&waiting, after.stamp)?;
            self.tables.due.insert(&key, row.as_slice())?;
        }
        let row = rows::write_delivery(after)?;
        self.tables.deliveries.insert(&key, row.as_slice())?;
        Ok(())
    }

    fn remove_from_queue(&mut self, id: DeliveryId, due: UnixMs) -> Result<bool, StoreError> {
        self.tables.due.remove(&tables::timed_key(due, id))
    }

    fn put_revision(
        &mut self,
        slot: Slot,
        from: EventId,
        revision: &Revision,
    ) -> Result<(), StoreError> {
        let key = tables::revision_key(slot, from);
        let row = record::write("revisions", &key, revision)?;
        self.tables.revisions.insert(&key, row.as_slice())?;
        Ok(())
    }

    fn put_bulk(&mut self, slot: Slot, bulk: &Bulk) -> Result<(), StoreError> {
        let key = tables::bulk_key(slot, bulk.number);
        let row = record::write("bulk", &key, bulk)?;
        self.tables.bulk.insert(&key, row.as_slice())?;
        Ok(())
    }

    fn remove_bulk(&mut self, slot: Slot, number: u64) -> Result<(), StoreError> {
        self.tables.bulk.remove(&tables::bulk_key(slot, number))?;
        Ok(())
    }

    fn put_purge(&mut self, purge: &Purge) -> Result<(), StoreError> {
        let key = tables::count_key(purge.number);
        let row = record::write("purges", &key, purge)?;
        self.tables.purges.insert(&key, row.as_slice())?;
        Ok(())
    }

    fn remove_purge(&mut self, purge: &Purge) -> Result<(), StoreError> {
        let key = tables::count_key(purge.number);
        self.tables.purges.remove(&key)?;
        Ok(())
    }

    fn purge_events(&mut self, events: &[EventId], effect: PurgeEffect) -> Result<(), StoreError> {
        let mut left = events;
        while let Some(next) = left.first() {
            let around = match pack::around(&*self.tables.packs, *next) {
                Err(StoreError::Damaged { .. }) => None,
                around => around?,
            };
            let Some((first, pack)) = around else {
                left = left.get(1..).unwrap_or_default();
                continue;
            };
            let within = left.partition_point(|id| *id <= pack.last());
            let (of_pack, after) = left.split_at(within);
            let purged = |event: &Arc<Event>| match of_pack.binary_search(&event.id) {
                Ok(_) => Arc::new(effect.leaves(event)),
                Err(_) => Arc::clone(event),
            };
            let pack = Arc::new(Pack::new(pack.events.iter().map(purged).collect()));
            let row = pack.encode(first, self.zstd)?;
            let key = tables::event_key(first);
            self.tables.packs.insert(&key, row.as_slice())?;
            self.rewritten.insert(first, pack);
            left = after;
        }
        Ok(())
    }

    fn remove_delivery(
        &mut self,
        before: IndexedState,
        delivery: &Delivery,
    ) -> Result<(), StoreError> {
        if let Some(due) = before.due {
            let key = tables::timed_key(due, delivery.id);
            self.tables.due.remove(&key)?;
        }
        let key = tables::delivery_key(delivery.id);
        self.tables.deliveries.remove(&key)?;
        if before.status.is_undelivered() {
            self.tables.bad.remove(&key)?;
        }
        Ok(())
    }

    fn forget_endpoints(batch: &mut Batch<'_, Self>, slots: &[Slot]) -> Result<bool, StoreError> {
        batch.forget_deleted(slots)
    }

    fn flush_stats(batch: &mut Batch<'_, Self>) -> Result<(), StoreError> {
        batch.write_windows()
    }

    fn sweep(batch: &mut Batch<'_, Self>, sweep: &Sweep) -> Result<Swept, StoreError> {
        batch.remove_swept(sweep)
    }

    fn reseal(batch: &mut Batch<'_, Self>, reseal: &Reseal) -> Result<Resealed, StoreError> {
        let storage = &mut batch.storage;
        let found = storage.meta.at_rest;
        if found.before.is_none() && found.form != reseal.to {
            AtRest::of(reseal.to).expect_keys(&storage.options.keys, "the store")?;
            storage.meta.at_rest = AtRest {
                form: reseal.to,
                before: Some(found.form),
            };
            storage.resealing = Some(batch.directory.endpoints.keys().copied().collect());
        }
        let memory = storage.memory;
        let all = storage.resealing.as_ref().unwrap_or(&memory.to_reseal);
        // What the batch writes anyway gets the new form, and what it removes needs none.
        let is_left =
            |slot: &&Slot| !batch.endpoints.contains_key(slot) && !batch.forgotten.contains(slot);
        let mut left = all.iter().filter(is_left).copied();
        let next: Vec<Slot> = left.by_ref().take(storage.options.reseal_step).collect();
        let left = left.count();
        for slot in next {
            if let Some(endpoint) = batch.directory.endpoint(slot) {
                batch.endpoints.insert(slot, Arc::clone(endpoint));
            }
        }
        let at_rest = &mut batch.storage.meta.at_rest;
        if left == 0 {
            at_rest.before = None;
        }
        Ok(Resealed {
            at_rest: *at_rest,
            left,
        })
    }
}
