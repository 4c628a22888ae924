//! Bulk changes: one change of many deliveries of an endpoint. It holds from its commit on; the rows are written later.
//!
//! An endpoint's bulk changes are a list in the order in which they were made. Each has a stamp, and a delivery's row has the stamp of
//! the last bulk change before it was written: those with a later stamp are still to be applied to it. [`apply`] is the only
//! place where that is done, for readers and for the writer alike. It reads and writes nothing.

use crate::delivery::{Delivery, Reason, Trigger};
use crate::ids::{EventId, Slot, UnixMs};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many bulk changes of one endpoint may be in progress. A further one is refused until one is done.
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
    pub(crate) number: u64,
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

/// Which deliveries are sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reopen {
    /// Accepted at or after this.
    pub since: UnixMs,
    /// Accepted before this.
    pub until: UnixMs,
    /// Also events that the endpoint was subscribed to but inactive for.
    pub missed: bool,
    /// Such an event is included up to this one.
    pub last_event: EventId,
}

/// The bulk changes that are in progress, by endpoint, each list in the order in which they were made.
pub(crate) type Bulks = BTreeMap<Slot, Vec<Bulk>>;

impl Bulk {
    /// Whether it ends what is open.
    pub fn ends(&self) -> bool {
        matches!(self.effect, BulkEffect::End { .. })
    }

    fn reopens(&self, d: &Delivery) -> bool {
        // A damaged one could not be sent again.
        matches!(self.effect, BulkEffect::Reopen(r)
            if d.status.is_undelivered()
                && d.reason != Some(Reason::Damaged)
                && (r.since..r.until).contains(&d.id.event.accepted_at()))
    }
}

/// Applies to a stored delivery, in order, the bulk changes of its endpoint that its row does not have yet. Returns whether it changed.
pub(crate) fn apply(d: &mut Delivery, bulks: &[Bulk]) -> bool {
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

/// The delivery as readers see it.
pub(crate) fn as_read(mut stored: Delivery, bulks: &Bulks) -> Delivery {
    if let Some(bulks) = bulks.get(&stored.id.slot) {
        apply(&mut stored, bulks);
    }
    stored
}

/// Whether a stored delivery is open, or reads as open because a recovery had no room for its round yet.
pub(crate) fn reads_as_open(stored: &Delivery, bulks: &Bulks) -> bool {
    let reopened =
        || bulks.contains_key(&stored.id.slot) && as_read(stored.clone(), bulks).status.is_open();
    stored.due.is_some() || reopened()
}

/// Whether an open delivery whose row has this stamp was ended since by a bulk change.
pub(crate) fn has_ended(slot: Slot, stamp: u64, bulks: &Bulks) -> bool {
    let mut of_slot = bulks.get(&slot).into_iter().flatten();
    of_slot.any(|bulk| bulk.ends() && bulk.stamp > stamp)
}

#[cfg(test)]
mod tests;
