//! Pairs that an operator's change owns: they are not dispatched until it is over.

use super::{InFlight, Schedule, queue_of};
use stormhook_store::{DeliveryId, Slot};

impl Schedule {
    /// An operator's change takes the pair over: it is not dispatched until [`Schedule::release`]. It need not be waiting.
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

    /// The operator's change is over, done or not.
    pub fn release(&mut self, id: DeliveryId) {
        if let Some(Some(entry)) = self.held.remove(&id)
            && let Some(queue) = self.queue_mut(id.slot)
        {
            queue.backlog.push(entry);
        }
        self.touch(id.slot);
    }

    /// Puts the entries of an endpoint's held pairs back into its queue, where they wait as before.
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

    /// Drops the entry that was set aside for a held pair; false if there is none.
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
