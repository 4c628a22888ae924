//! Lists the deliveries of one endpoint from its own lists: the journal and the generations.

use super::take;
use crate::error::StoreError;
use crate::file::guarded::guarded;
use crate::file::journal::{Generation, Run};
use crate::file::memory::Snapshot;
use crate::file::reader::Reader;
use crate::file::record;
use crate::file::tables;
use crate::ids::{DeliveryId, EndpointId, Slot};
use crate::query::Filling;
use crate::query::{Cursor, DeliveryFilter, DeliveryWithEvent, List, Unreadable};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Returns the deliveries of one endpoint, greatest sequence number first: those in the journal, then those in the
/// generations.
pub(super) fn of_endpoint(
    views: &Snapshot,
    listing: &mut Listing<'_>,
    (tail, generations): (Option<Run>, Vec<Arc<Generation>>),
) -> Result<(), StoreError> {
    if let Some(run) = tail
        && listing.run(views, &run)?.is_break()
    {
        return Ok(());
    }
    // Deliveries between the runs on both sides of it can't be read.
    let mut hidden = None;
    for generation in generations.iter().rev() {
        let key = tables::history_key(generation.number, listing.slot);
        let run = guarded(|| match views.history.get(&key)? {
            Some(row) => record::read::<Run>("history", &key, row.value()).map(Some),
            None => Ok(None),
        });
        match run {
            Ok(None) => {}
            Ok(Some(run)) => {
                let end = run.end();
                if let Some(error) = hidden.take()
                    && listing.hidden(end, &error).is_break()
                {
                    return Ok(());
                }
                if listing.run(views, &run)?.is_break() {
                    return Ok(());
                }
            }
            Err(e) if e.is_damage() => hidden = hidden.or(Some(e)),
            Err(e) => return Err(e),
        }
    }
    if let Some(error) = hidden {
        let _last = listing.hidden(1, &error);
    }
    Ok(())
}

/// A list of one endpoint's deliveries in progress.
pub(super) struct Listing<'l> {
    pub(super) reader: &'l Reader,
    pub(super) filter: &'l DeliveryFilter,
    pub(super) slot: Slot,
    pub(super) endpoint: EndpointId,
    /// Sequence numbers from this on have been looked at.
    pub(super) below: u64,
    pub(super) last: Option<Cursor>,
    pub(super) filling: &'l mut Filling<DeliveryWithEvent>,
}

impl Listing<'_> {
    /// Whether the page has room for this sequence number or, where nothing can be read, a greater one.
    fn go_on(&mut self, sequence: u64) -> ControlFlow<()> {
        if self.filling.go_on(self.last).is_break() {
            return ControlFlow::Break(());
        }
        self.below = sequence;
        self.last = Some(Cursor {
            list: List::OfEndpoint,
            at: u128::from(sequence),
            slot: self.slot,
        });
        ControlFlow::Continue(())
    }

    /// Names the numbers from this one on that were not looked at.
    fn hidden(&mut self, from: u64, error: &StoreError) -> ControlFlow<()> {
        let before = self.below;
        if from >= before {
            return ControlFlow::Continue(());
        }
        let flow = self.go_on(from);
        if flow.is_continue() {
            let what = Unreadable::Sequences(self.endpoint, from, before);
            self.filling.damaged(what, error);
        }
        flow
    }

    fn run(&mut self, views: &Snapshot, run: &Run) -> Result<ControlFlow<()>, StoreError> {
        if run.first_sequence >= self.below {
            return Ok(ControlFlow::Continue(()));
        }
        for (at, event) in run.events.iter().enumerate().rev() {
            let sequence = run
                .first_sequence
                .saturating_add(u64::try_from(at).unwrap_or(0));
            if sequence >= self.below {
                continue;
            }
            if self.go_on(sequence).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            let id = DeliveryId {
                event: *event,
                slot: self.slot,
            };
            let one = (id, Some(sequence));
            take(self.reader, views, self.filter, one, self.filling)?;
        }
        Ok(ControlFlow::Continue(()))
    }
}
