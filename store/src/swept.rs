//! What a sweep found to be past its retention, as it is handed to the batch that drops it.

use crate::event::Event;
use crate::ids::{EventId, Slot, UnixMs};

/// Rows that one step drops, about.
pub(crate) const ROWS_PER_STEP: usize = 5_000;

/// Up to when things are dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Horizon {
    /// Event data accepted before this.
    pub events_before: UnixMs,
    /// Ended deliveries accepted before this.
    pub attempts_before: UnixMs,
}

/// Something to drop, as a [`crate::Sweeper`] found it.
#[derive(Clone, Debug)]
pub struct Sweep {
    pub(crate) horizon: Horizon,
    /// How far old events were looked at again.
    pub(crate) again_after: EventId,
    pub(crate) work: Work,
}

#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// Something is to be dropped of the packs with these keys.
    Packs(Vec<EventId>),
    /// Nothing that this generation lists is left.
    Generation(u64),
    /// Deleted endpoints of which nothing is left.
    Endpoints(Vec<Slot>),
    /// Revisions that hold for no event any more, by key.
    Revisions(Vec<[u8; 20]>),
    /// Windows and counters that no question reaches.
    Windows,
    /// Everything before the horizon was looked at.
    Walked,
}

/// What of an event is past its retention, were nothing of it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Past {
    pub(crate) deliveries: bool,
    pub(crate) data: bool,
}

impl Past {
    pub(crate) fn of(event: &Event, horizon: Horizon) -> Self {
        let accepted = event.id.accepted_at();
        Self {
            deliveries: accepted < horizon.attempts_before,
            data: accepted < horizon.events_before,
        }
    }

    /// Whether nothing of the event is kept.
    pub(crate) fn all(self) -> bool {
        self.deliveries && self.data
    }
}
