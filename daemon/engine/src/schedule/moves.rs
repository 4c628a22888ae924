//! Endpoints that another process delivers to now, or did before.

use super::Schedule;
use std::collections::BTreeSet;
use stormhook_store::{Slot, UnixMs};

impl Schedule {
    /// Whether a delivery of one of these endpoints is claimed.
    pub fn has_claims(&self, slots: &BTreeSet<Slot>) -> bool {
        self.flights.keys().any(|id| slots.contains(&id.slot))
    }

    /// Another process delivered to this endpoint just now, by the same rate limit.
    pub fn used_elsewhere(&mut self, slot: Slot, now: UnixMs) {
        let bucket = self.queue_mut(slot).and_then(|queue| queue.bucket.as_mut());
        if let Some(bucket) = bucket {
            bucket.empty(now);
        }
    }

    /// Another process delivers to this endpoint: nothing of it waits here any more. Claimed deliveries stay claimed
    /// until [`Schedule::ended`].
    pub fn forget(&mut self, slot: Slot) {
        if let Some(queue) = self.queue_mut(slot) {
            queue.receives = false;
            queue.deleted = true;
            queue.stamp = None;
            queue.wake = None;
        }
        self.end_all(slot);
    }
}
