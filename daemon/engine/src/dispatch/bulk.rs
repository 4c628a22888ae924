//! What maintenance asks about bulk changes: which endpoints have some, and which deliveries are in flight and can't be
//! written yet.

use super::Dispatch;
use std::ops::Bound;
use stormhook_store::{DeliveryId, EventId, Slot};

impl Dispatch {
    /// Resolves when maintenance has work.
    pub(crate) async fn calls_maintenance(&self) {
        self.maintenance.notified().await;
    }

    /// Tells maintenance that it has work.
    pub(crate) fn call_maintenance(&self) {
        self.maintenance.notify_one();
    }

    /// Returns the number of endpoints with unfinished bulk changes.
    pub(crate) fn bulk_count(&self) -> usize {
        self.inner().bulk.len()
    }

    /// Returns the next endpoint with unfinished bulk changes, in a circle, and the stamp of its last one.
    pub(crate) fn next_bulk(&self, after: Option<Slot>) -> Option<(Slot, u64)> {
        let inner = self.inner();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let next = inner.bulk.range((from, Bound::Unbounded)).next();
        let next = next.or_else(|| inner.bulk.first_key_value());
        next.map(|(slot, upto)| (*slot, *upto))
    }

    /// The bulk changes of an endpoint up to this stamp are finished.
    pub(crate) fn forget_bulk(&self, slot: Slot, upto: u64) {
        let mut inner = self.inner();
        if inner.bulk.get(&slot).is_some_and(|last| *last <= upto) {
            inner.bulk.remove(&slot);
        }
    }

    /// Splits the events of an endpoint's deliveries into those in flight and the others.
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
