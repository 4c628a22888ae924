//! What maintenance needs to know of bulk changes: which endpoints have some, and what attempts keep from being written.

use super::Dispatch;
use std::ops::Bound;
use stormhook_store::{DeliveryId, EventId, Slot};

impl Dispatch {
    /// Resolves when maintenance has something to do.
    pub(crate) async fn calls_maintenance(&self) {
        self.maintenance.notified().await;
    }

    /// Endpoints with bulk changes that are still to be written.
    pub(crate) fn bulk_count(&self) -> usize {
        self.inner().bulk.len()
    }

    /// The endpoint with bulk changes that comes after this one, in a circle, and the stamp of the last of them.
    pub(crate) fn next_bulk(&self, after: Option<Slot>) -> Option<(Slot, u64)> {
        let inner = self.inner();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let next = inner.bulk.range((from, Bound::Unbounded)).next();
        let next = next.or_else(|| inner.bulk.first_key_value());
        next.map(|(slot, upto)| (*slot, *upto))
    }

    /// Nothing is left to be written of an endpoint's bulk changes up to this stamp.
    pub(crate) fn forget_bulk(&self, slot: Slot, upto: u64) {
        let mut inner = self.inner();
        if inner.bulk.get(&slot).is_some_and(|last| *last <= upto) {
            inner.bulk.remove(&slot);
        }
    }

    /// Splits events by whether an attempt of this endpoint's delivery is in flight: those that are, and those that are not.
    pub(crate) fn claimed_of(
        &self,
        slot: Slot,
        events: Vec<EventId>,
    ) -> (Vec<EventId>, Vec<EventId>) {
        let inner = self.inner();
        let is_claimed = |event: &EventId| {
            let event = *event;
            inner.schedule.is_claimed(DeliveryId { event, slot })
        };
        events.into_iter().partition(is_claimed)
    }
}
