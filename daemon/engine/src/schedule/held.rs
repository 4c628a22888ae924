//! Deliveries that an operator's change holds: they are not dispatched until it is over.

use super::{InFlight, Schedule, queue_of};
use stormhook_store::{DeliveryId, Slot};

impl Schedule {
    /// Holds a delivery for an operator's change: it is not dispatched until [`Schedule::release`]. It need not be in a
    /// queue.
    ///
    /// # Errors
    /// [`InFlight`] if it is claimed, or held already.
    pub fn hold(&mut self, id: DeliveryId) -> Result<(), InFlight> {
        if self.flights.contains_key(&id) || self.held.contains_key(&id) {
            return Err(InFlight);
        }
        self.held.insert(id, None);
        Ok(())
    }

    /// The operator's change is over, whether it was carried out or not.
    pub fn release(&mut self, id: DeliveryId) {
        if let Some(Some(entry)) = self.held.remove(&id)
            && let Some(queue) = self.queue_mut(id.slot)
        {
            queue.backlog.push(entry);
        }
        self.touch(id.slot);
    }

    /// Returns the entries of an endpoint's held deliveries to its queue, where they wait as before.
    pub(super) fn put_back(&mut self, slot: Slot) {
        let Some(queue) = queue_of(&mut self.queues, slot) else {
            return;
        };
        for (_, stash) in self.held.iter_mut().filter(|(id, _)| id.slot == slot) {
            if let Some(entry) = stash.take() {
                queue.backlog.push(entry);
            }
        }
    }

    /// Drops the entry that was set aside for a held delivery. Returns false if there is none.
    pub(super) fn drop_stash(&mut self, id: DeliveryId) -> bool {
        let Some(entry) = self.held.get_mut(&id).and_then(Option::take) else {
            return false;
        };
        if let Some(queue) = self.queue_mut(id.slot) {
            queue.waits.remove(entry);
        }
        true
    }
}
