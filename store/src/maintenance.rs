//! What the engine has the store do for itself: no caller asks for any of it.

use crate::ids::{DeliveryId, EventId, Slot, UnixMs};

pub use crate::swept::Sweep;

/// Some of what an endpoint's bulk changes have done and what is still to be written.
#[derive(Debug, Clone)]
pub struct AdvanceBulk {
    /// Whose.
    pub slot: Slot,
    /// Events whose deliveries are to be written, in order of sequence.
    pub events: Vec<EventId>,
    /// Then events that have no delivery yet and get one.
    pub missed: Vec<EventId>,
    /// Then the bulk changes that are done, by number.
    pub(crate) done: Vec<u64>,
}

impl AdvanceBulk {
    /// Nothing of this endpoint's.
    pub fn nothing(slot: Slot) -> Self {
        Self {
            slot,
            events: Vec::new(),
            missed: Vec::new(),
            done: Vec::new(),
        }
    }

    /// How many things it does.
    pub fn len(&self) -> usize {
        self.events.len() + self.missed.len() + self.done.len()
    }

    /// Whether it does nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same in two parts: the first so many things, and the rest.
    #[must_use]
    pub fn split_at(mut self, first: usize) -> [Self; 2] {
        let events = first.min(self.events.len());
        let missed = (first - events).min(self.missed.len());
        let done = (first - events - missed).min(self.done.len());
        let rest = Self {
            slot: self.slot,
            events: self.events.split_off(events),
            missed: self.missed.split_off(missed),
            done: self.done.split_off(done),
        };
        [self, rest]
    }

    /// Adds what comes after it.
    pub fn append(&mut self, mut rest: Self) {
        self.events.append(&mut rest.events);
        self.missed.append(&mut rest.missed);
        self.done.append(&mut rest.done);
    }
}

/// Ends an open delivery that can't be attempted, or whose outcome can't be recorded, because its stored record is damaged: as
/// [`crate::Reason::Damaged`] if its row can be read. No attempt is recorded. A damaged row is left as it is, and the delivery waits no
/// longer. Nothing else may change the delivery meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct EndDamaged {
    /// The delivery.
    pub delivery: DeliveryId,
    /// When it is due, as in [`crate::QueueEntry::due`].
    pub due: UnixMs,
}

/// Moves histograms and per-endpoint windows from memory into the file.
#[derive(Debug, Clone, Copy)]
pub struct FlushStats;

/// Commits nothing, to see whether commits succeed.
#[derive(Debug, Clone, Copy)]
pub struct Probe;

/// A step of a sweep that was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Whether more is left to drop of the same [`Sweep`].
    pub more: bool,
}
