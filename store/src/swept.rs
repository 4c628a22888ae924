//! What a sweep found to be past its retention, in the form for the batch that drops it.

use crate::event::Event;
use crate::ids::{ApiKeyId, AuditId, EventId, Slot, UnixMs};

/// About how many rows one step drops.
pub(crate) const ROWS_PER_STEP: usize = 5_000;

/// The times before which things are dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Horizon {
    /// Drop the data of events accepted before this.
    pub events_before: UnixMs,
    /// Drop ended deliveries of events accepted before this.
    pub attempts_before: UnixMs,
    /// Drop entries of the audit log, and API keys that ended, before this.
    pub audit_before: UnixMs,
}

/// Something to drop, as a [`crate::Sweeper`] found it.
#[derive(Clone, Debug)]
pub struct Sweep {
    pub(crate) horizon: Horizon,
    /// How far old events have been looked at again.
    pub(crate) again_after: EventId,
    pub(crate) work: Work,
}

impl Sweep {
    /// Returns the end of a pass of a store that drops history by itself: everything before the horizon is dropped
    /// next.
    #[must_use]
    pub fn walked(horizon: Horizon) -> Self {
        Self {
            horizon,
            again_after: EventId(0),
            work: Work::Walked,
        }
    }

    /// Returns the removal of deleted endpoints with nothing left.
    #[must_use]
    pub fn of_endpoints(horizon: Horizon, slots: Vec<Slot>) -> Self {
        Self {
            horizon,
            again_after: EventId(0),
            work: Work::Endpoints(slots),
        }
    }

    /// Returns the horizon of the pass.
    pub fn horizon(&self) -> Horizon {
        self.horizon
    }

    /// Returns the endpoints to remove.
    pub fn endpoints(&self) -> &[Slot] {
        match &self.work {
            Work::Endpoints(slots) => slots,
            _ => &[],
        }
    }

    /// Whether everything before the horizon has been looked at.
    pub fn is_end(&self) -> bool {
        matches!(self.work, Work::Walked)
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// The packs with these keys have something to drop.
    Packs(Vec<EventId>),
    /// Nothing that this generation lists is left.
    Generation(u64),
    /// Deleted endpoints with nothing left.
    Endpoints(Vec<Slot>),
    /// Revisions that apply to no event any more, by key.
    Revisions(Vec<[u8; 20]>),
    /// Entries of the audit log.
    Audit(Vec<AuditId>),
    /// API keys that ended long ago.
    ApiKeys(Vec<ApiKeyId>),
    /// Windows and counters that no query needs.
    Windows,
    /// Everything before the horizon has been looked at.
    Walked,
}

/// What of an event is past its retention, if nothing of it is open.
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
