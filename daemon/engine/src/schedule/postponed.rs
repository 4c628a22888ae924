//! Deliveries that could not be read when their attempt was to start. Each is tried again after longer and longer
//! waits, while the others go on. If nothing can be read at all, this is not tried on every open delivery.

use super::Schedule;
use super::backoff::Backoff;
use std::collections::HashMap;
use stormhook_store::{DeliveryId, QueueEntry, Slot, UnixMs};

/// This many unreadable deliveries in a row mean that nothing can be read.
const IN_A_ROW: u32 = 32;
/// How long nothing starts then, in milliseconds.
pub(super) const PAUSE_MS: u64 = 1_000;

/// A delivery that waits longer than the store says.
struct Pair {
    /// When it is due according to the store.
    due: UnixMs,
    backoff: Backoff,
}

/// See the module.
#[derive(Default)]
pub(super) struct Postponed {
    pairs: HashMap<DeliveryId, Pair>,
    in_a_row: u32,
    pause: Option<UnixMs>,
}

impl Postponed {
    /// Returns the delivery as it waits from now on.
    fn add(&mut self, waiting: &QueueEntry, now: UnixMs) -> QueueEntry {
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.in_a_row >= IN_A_ROW {
            self.pause = Some(now.plus_ms(PAUSE_MS));
        }
        let pair = self.pairs.entry(waiting.id).or_insert(Pair {
            due: waiting.due,
            backoff: Backoff::default(),
        });
        QueueEntry {
            due: pair.backoff.wait(now),
            ..*waiting
        }
    }

    /// Returns the delivery as the store knows it.
    pub(super) fn as_stored(&self, waiting: QueueEntry) -> QueueEntry {
        let due = self.pairs.get(&waiting.id).map_or(waiting.due, |p| p.due);
        QueueEntry { due, ..waiting }
    }

    /// The store has announced the delivery's new due time or its end.
    pub(super) fn forget(&mut self, id: DeliveryId) {
        // Usually there is none, and this is called for every delivery.
        if !self.pairs.is_empty() && self.pairs.remove(&id).is_some() && self.pairs.is_empty() {
            self.pairs.shrink_to_fit();
        }
    }

    /// All open deliveries of an endpoint have ended.
    pub(super) fn forget_all(&mut self, slot: Slot) {
        self.pairs.retain(|id, _| id.slot != slot);
    }

    /// A delivery could be read.
    pub(super) fn readable(&mut self) {
        self.in_a_row = 0;
    }

    /// Returns when the pause ends, if there is one.
    pub(super) fn pause(&self) -> Option<UnixMs> {
        self.pause
    }

    /// Whether starts are paused now.
    pub(super) fn pauses(&mut self, now: UnixMs) -> bool {
        // A clock that went back doesn't extend the pause.
        let goes_on = |until: &UnixMs| *until > now && until.since_ms(now) <= PAUSE_MS;
        self.pause = self.pause.filter(goes_on);
        self.pause.is_some()
    }

    #[cfg(test)]
    pub(super) fn again_at(&self, id: DeliveryId) -> Option<UnixMs> {
        self.pairs.get(&id)?.backoff.until()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.pairs.len()
    }
}

impl Schedule {
    /// No attempt was made because the delivery could not be read: it is tried again after a while. Ends the claim.
    pub fn postpone(&mut self, waiting: &QueueEntry, now: UnixMs) {
        let later = self.postponed.add(waiting, now);
        self.wait_again(&later);
    }
}
