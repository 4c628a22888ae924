//! Operations that the engine submits for maintenance, not for a caller.

use crate::ids::{ApiKeyId, DeliveryId, EventId, Slot, UnixMs};
use crate::sealing::{AtRest, Form};

pub use crate::swept::Sweep;

/// Part of what an endpoint's bulk changes did, to be written.
#[derive(Debug, Clone)]
pub struct AdvanceBulk {
    /// The endpoint.
    pub slot: Slot,
    /// First: events whose deliveries are to be written, in order of sequence.
    pub events: Vec<EventId>,
    /// Then: events that have no delivery yet and get one.
    pub missed: Vec<EventId>,
    /// Last: the bulk changes that are finished, by number.
    pub done: Vec<u64>,
}

impl AdvanceBulk {
    /// Returns an empty step for this endpoint.
    pub fn nothing(slot: Slot) -> Self {
        Self {
            slot,
            events: Vec::new(),
            missed: Vec::new(),
            done: Vec::new(),
        }
    }

    /// Returns the number of items.
    pub fn len(&self) -> usize {
        self.events.len() + self.missed.len() + self.done.len()
    }

    /// Whether it has no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Splits it in two: the first `first` items, and the rest.
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

    /// Appends the items that come after it.
    pub fn append(&mut self, mut rest: Self) {
        self.events.append(&mut rest.events);
        self.missed.append(&mut rest.missed);
        self.done.append(&mut rest.done);
    }
}

/// How many deliveries a step of [`AdvancePurge`] may change, one event's more.
pub const PURGED_PER_STEP: usize = 1_000;

/// Writes part of what a purge removes, as a walk found it.
#[derive(Debug, Clone)]
pub struct AdvancePurge {
    /// The organization.
    pub organization: String,
    /// The number of the purge.
    pub number: u64,
    /// Events in order, with the endpoints that have a delivery of each. No attempt of these is on the wire.
    pub events: Vec<(EventId, Vec<Slot>)>,
    /// Whether these are the last ones.
    pub ends: bool,
}

/// A committed step of a purge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PurgeAdvanced {
    /// Whether the purge is finished.
    pub finished: bool,
}

/// Ends an open delivery that can't be attempted, or whose outcome can't be recorded, because its stored record is
/// damaged: as [`crate::Reason::Damaged`] if its row can be read. No attempt is recorded. A damaged row is left as it
/// is, but the delivery is no longer queued. Nothing else may change the delivery meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct EndDamaged {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Its due time, as in [`crate::QueueEntry::due`].
    pub due: UnixMs,
}

/// Moves histograms and per-endpoint windows from memory into the file.
#[derive(Debug, Clone, Copy)]
pub struct FlushStats;

/// Writes when API keys were last used.
#[derive(Debug, Clone)]
pub struct TouchApiKeys(pub Vec<(ApiKeyId, UnixMs)>);

/// How many endpoints a step of [`Reseal`] writes.
pub const RESEALED_PER_STEP: usize = 500;

/// Brings private parts to a form: begins that if the store has another one, and writes some endpoints. What was begun
/// before, to whatever form, is finished first.
#[derive(Debug, Clone, Copy)]
pub struct Reseal {
    /// The form.
    pub to: Form,
}

/// A committed step of [`Reseal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resealed {
    /// The forms that the store has now.
    pub at_rest: AtRest,
    /// How many endpoints still have the form before.
    pub left: usize,
}

/// Commits nothing, to test whether commits succeed.
#[derive(Debug, Clone, Copy)]
pub struct Probe;

/// A committed step of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Whether more of the same [`Sweep`] is left to remove.
    pub more: bool,
}
