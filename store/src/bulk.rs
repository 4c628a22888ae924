//! Bulk changes: one change of many deliveries of an endpoint. It takes effect with its commit; the rows are written
//! later.
//!
//! An endpoint's bulk changes are a list, in the order in which they were made. Each has a stamp, and a delivery's row
//! has the stamp of the last bulk change before the row was written: changes with a later stamp are still to be applied
//! to it. Only [`apply`] does this, for readers and for the writer alike. It reads and writes nothing.

use crate::command::Recover;
use crate::delivery::{Delivery, Reason, Trigger};
use crate::ids::{EventId, Slot, UnixMs};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many bulk changes of one endpoint may be in progress. A further one is refused until one is finished.
pub(crate) const BULKS: usize = 64;

/// One bulk change of an endpoint's deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bulk {
    /// It applies to deliveries whose row has an earlier stamp.
    pub stamp: u64,
    /// When it was made.
    pub at: UnixMs,
    /// What it does.
    pub effect: BulkEffect,
    /// Its number in the file.
    #[serde(skip)]
    pub number: u64,
}

/// What a bulk change does to each delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BulkEffect {
    /// Ends the open ones as `FAILED`.
    End {
        /// Why.
        reason: Reason,
    },
    /// Opens a new round of the undelivered ones.
    Reopen(Reopen),
}

/// Which deliveries are reopened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reopen {
    /// Those of events accepted at or after this time.
    pub since: UnixMs,
    /// Those of events accepted before this time.
    pub until: UnixMs,
    /// Whether to include events that the endpoint was subscribed to while it was disabled.
    pub missed: bool,
    /// The last event that is included in this way.
    pub last_event: EventId,
}

impl Reopen {
    /// Returns what a recovery reopens after the last event, with events before `swept_before` removed.
    pub fn of(recover: &Recover, last_event: EventId, swept_before: UnixMs) -> Self {
        Self {
            // Events past retention have no data left to send.
            since: recover.since.max(swept_before),
            until: recover.until,
            missed: recover.missed,
            last_event,
        }
    }

    /// Returns the events that it may reopen: from the first up to before the second.
    pub fn span(self) -> (EventId, EventId) {
        let after_last = EventId(self.last_event.0.saturating_add(1));
        let end = EventId::first_of(self.until).min(after_last);
        (EventId::first_of(self.since).min(end), end)
    }
}

/// The bulk changes in progress, by endpoint. Each list is in the order in which they were made.
pub type Bulks = BTreeMap<Slot, Vec<Bulk>>;

impl Bulk {
    /// Whether it ends open deliveries.
    pub fn ends(&self) -> bool {
        matches!(self.effect, BulkEffect::End { .. })
    }

    fn reopens(&self, d: &Delivery) -> bool {
        // A damaged delivery can't be sent again, nor one without data.
        matches!(self.effect, BulkEffect::Reopen(r)
            if d.status.is_undelivered()
                && !matches!(d.reason, Some(Reason::Damaged | Reason::Purged))
                && (r.since..r.until).contains(&d.id.event.accepted_at()))
    }
}

/// Applies to a stored delivery, in order, the bulk changes of its endpoint that its row lacks. Returns whether it
/// changed.
pub fn apply(d: &mut Delivery, bulks: &[Bulk]) -> bool {
    let written = d.stamp;
    let mut changed = false;
    for bulk in bulks.iter().filter(|bulk| bulk.stamp > written) {
        let applies = match bulk.effect {
            BulkEffect::End { reason } => d.ended_in_bulk(reason, bulk.at).is_ok(),
            BulkEffect::Reopen(_) => {
                let reopens = bulk.reopens(d);
                if reopens {
                    d.reopened(Trigger::Replay, bulk.at);
                }
                reopens
            }
        };
        if applies {
            changed = true;
            d.stamp = bulk.stamp;
        }
    }
    changed
}

/// Returns the delivery as readers see it.
pub fn as_read(mut stored: Delivery, bulks: &Bulks) -> Delivery {
    if let Some(bulks) = bulks.get(&stored.id.slot) {
        apply(&mut stored, bulks);
    }
    stored
}

/// Whether a stored delivery is open, or reads as open because a recovery has had no room for its round yet.
pub(crate) fn reads_as_open(stored: &Delivery, bulks: &Bulks) -> bool {
    let reopened =
        || bulks.contains_key(&stored.id.slot) && as_read(stored.clone(), bulks).status.is_open();
    stored.due.is_some() || reopened()
}

/// Whether a bulk change has ended an open delivery since its row was written with this stamp.
pub(crate) fn has_ended(slot: Slot, stamp: u64, bulks: &Bulks) -> bool {
    let mut of_slot = bulks.get(&slot).into_iter().flatten();
    of_slot.any(|bulk| bulk.ends() && bulk.stamp > stamp)
}

#[cfg(test)]
mod tests;
