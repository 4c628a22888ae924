//! What a batch needs of the store that it changes: rows that it reads, and rows that it writes one by one.
//!
//! Everything else that a batch decides it returns as [`super::Batch`]'s fields, for the store to write as a whole.

use super::{Batch, IndexedState};
use crate::api_key::ApiKey;
use crate::bulk::Bulk;
use crate::delivery::Delivery;
use crate::endpoint::Revision;
use crate::error::StoreError;
use crate::event::Event;
use crate::fingerprint::Fingerprint;
use crate::ids::{ApiKeyId, AuditId, DeliveryId, EventId, Slot, UnixMs};
use crate::maintenance::{Reseal, Resealed, Sweep, Swept};
use crate::purge::{Purge, PurgeEffect};
use crate::stats::{Counters, Level};
use std::sync::Arc;

/// See the module. Reads see what the same batch has written, except events, keys and counters: the batch looks those
/// up in itself first.
pub trait Storage: Sized {
    /// Returns a delivery as its row has it.
    fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError>;

    /// Whether there is a row for the delivery. It may be damaged.
    fn has_delivery(&self, id: DeliveryId) -> Result<bool, StoreError>;

    /// Returns an event.
    fn event(&self, id: EventId) -> Result<Option<Arc<Event>>, StoreError>;

    /// Returns what a key refers to, unless it has expired at the paced time `now`.
    fn key(&self, key: Fingerprint, now: UnixMs) -> Result<Option<EventId>, StoreError>;

    /// Returns the counters of all endpoints in a window.
    fn counters(&self, level: Level, start: UnixMs) -> Result<Counters, StoreError>;

    /// Whether this process decides about the organization. Always, unless several processes share a store.
    fn holds(&self, _organization: &str) -> bool {
        true
    }

    /// Whether an event may have an id that does not follow the last one, so that one of an outbox keeps its own.
    fn takes_any_id(&self) -> bool {
        false
    }

    /// Returns an API key as of the last commit.
    fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKey>, StoreError>;

    /// Returns the last entry of the audit log that this process knows of.
    fn last_audit(&self) -> AuditId;

    /// Returns the API keys of an organization as of the last commit.
    fn api_keys_of(&self, organization: &str) -> Vec<ApiKey>;

    /// Removes an API key that has ended.
    fn remove_api_key(&mut self, id: ApiKeyId) -> Result<(), StoreError>;

    /// Returns how many API keys there are.
    fn api_key_count(&self) -> usize;

    /// Returns up to when events may be missing, because they were swept.
    fn swept_before(&self) -> UnixMs;

    /// Writes a delivery and its entries in the indexes. `before` is the row that it replaces.
    fn put_delivery(
        &mut self,
        before: Option<IndexedState>,
        after: &Delivery,
    ) -> Result<(), StoreError>;

    /// Removes a delivery from the queue though its row can't be changed. Returns whether it was there.
    fn remove_from_queue(&mut self, id: DeliveryId, due: UnixMs) -> Result<bool, StoreError>;

    /// Writes which events an endpoint receives from this one on.
    fn put_revision(
        &mut self,
        slot: Slot,
        from: EventId,
        revision: &Revision,
    ) -> Result<(), StoreError>;

    /// Writes a bulk change that begins.
    fn put_bulk(&mut self, slot: Slot, bulk: &Bulk) -> Result<(), StoreError>;

    /// Removes a bulk change that has ended.
    fn remove_bulk(&mut self, slot: Slot, number: u64) -> Result<(), StoreError>;

    /// Whether every process that shares the store knows purges.
    fn may_purge(&self) -> bool {
        true
    }

    /// Writes a purge that begins.
    fn put_purge(&mut self, purge: &Purge) -> Result<(), StoreError>;

    /// Removes a purge that has ended.
    fn remove_purge(&mut self, purge: &Purge) -> Result<(), StoreError>;

    /// Rewrites events, in order of their ids, without what a purge removes. Damaged ones stay, for `check` to name.
    fn purge_events(&mut self, events: &[EventId], effect: PurgeEffect) -> Result<(), StoreError>;

    /// Removes a delivery and its entries in the indexes. `before` is its row.
    fn remove_delivery(
        &mut self,
        before: IndexedState,
        delivery: &Delivery,
    ) -> Result<(), StoreError>;

    /// Removes deleted endpoints whose deliveries are gone. Returns whether some are left.
    fn forget_endpoints(batch: &mut Batch<'_, Self>, slots: &[Slot]) -> Result<bool, StoreError>;

    /// Writes the windows that are in memory.
    fn flush_stats(batch: &mut Batch<'_, Self>) -> Result<(), StoreError>;

    /// Removes what a sweep found.
    fn sweep(batch: &mut Batch<'_, Self>, sweep: &Sweep) -> Result<Swept, StoreError>;

    /// Brings private parts of endpoints to another form.
    fn reseal(batch: &mut Batch<'_, Self>, reseal: &Reseal) -> Result<Resealed, StoreError>;
}
