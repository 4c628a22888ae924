//! The rows of one batch: those that it needs, fetched before it is decided, and those that it writes.
//!
//! A batch that asks for a row that is not here is told so ([`StoreError::NotFetched`]). The row is fetched with the
//! others that are missing, and the batch is decided again from its start.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use stormhook_store::backend::{Batch, Fingerprint, IndexedState, Storage};
use stormhook_store::endpoint::Revision;
use stormhook_store::maintenance::{Sweep, Swept};
use stormhook_store::stats::{Counters, Level};
use stormhook_store::{Bulk, Delivery, DeliveryId, Event, EventId, Slot, StoreError, UnixMs};

/// The rows that a batch asked for and that were not fetched yet.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    pub(crate) deliveries: BTreeSet<DeliveryId>,
    pub(crate) events: BTreeSet<EventId>,
    pub(crate) keys: BTreeSet<Fingerprint>,
}

impl Needs {
    pub(crate) fn is_empty(&self) -> bool {
        self.deliveries.is_empty() && self.events.is_empty() && self.keys.is_empty()
    }
}

/// Rows as they are in the database; `None` for those that are not there.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    pub(crate) deliveries: HashMap<DeliveryId, Option<Delivery>>,
    pub(crate) events: HashMap<EventId, Option<Arc<Event>>>,
    pub(crate) keys: HashMap<Fingerprint, Option<EventId>>,
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
}

/// See the module.
pub(crate) struct Rows<'a> {
    pub(crate) fetched: &'a Fetched,
    /// The counters of the current windows.
    pub(crate) counters: &'a BTreeMap<(Level, UnixMs), Counters>,
    pub(crate) idempotency_ttl_ms: u64,
    pub(crate) swept_before: UnixMs,
    pub(crate) needs: RefCell<Needs>,
    pub(crate) written: Written,
}

impl Storage for Rows<'_> {
    fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        if let Some(written) = self.written.deliveries.get(&id) {
            return Ok(Some(written.clone()));
        }
        match self.fetched.deliveries.get(&id) {
            Some(found) => Ok(found.clone()),
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
            Some(found) => Ok(found.clone()),
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
        Ok(self
            .counters
            .get(&(level, start))
            .copied()
            .unwrap_or_default())
    }

    fn swept_before(&self) -> UnixMs {
        self.swept_before
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

    fn flush_stats(batch: &mut Batch<'_, Self>) -> Result<(), StoreError> {
        batch.storage.written.flush = true;
        Ok(())
    }

    fn sweep(_batch: &mut Batch<'_, Self>, _sweep: &Sweep) -> Result<Swept, StoreError> {
        // A sweep is found in a file. The database drops whole partitions.
        Ok(Swept { more: false })
    }
}
