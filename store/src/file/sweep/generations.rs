//! Finds generations with nothing left, and revisions that apply to no event any more.

use super::{Looked, STEP_ROWS, Sweeper};
use crate::error::StoreError;
use crate::file::journal::{Generation, Run};
use crate::file::memory::Snapshot;
use crate::file::record;
use crate::file::tables;
use crate::ids::{DeliveryId, EventId, Slot};
use crate::swept::Work;
use std::sync::Arc;

/// How many revisions one operation drops.
const REVISIONS_FOUND: usize = 1_000;

impl Sweeper {
    /// Finds generations to drop: past retention, with expired keys, and without any listed delivery left, which could
    /// otherwise no longer be found in the list of its endpoint. A delivery created late is listed by a later
    /// generation than that of its event.
    pub(super) fn generations(
        &mut self,
        views: &Snapshot,
        generations: &[Arc<Generation>],
    ) -> Result<Looked, StoreError> {
        let before = self.all_before();
        let ttl_ms = self.shared.options().idempotency_ttl_ms;
        let mut looked = Looked::default();
        for generation in generations {
            let number = generation.number;
            if self.generation_after.is_some_and(|after| number <= after) {
                continue;
            }
            let at = generation.last_event.accepted_at();
            if at >= before || at.plus_ms(ttl_ms) >= self.now {
                break;
            }
            if looked.is_full() {
                return Ok(looked);
            }
            match self.first_held(views, number, &mut looked)? {
                Some(pair) => {
                    self.held.insert(number, pair);
                    if looked.is_full() {
                        // Some of this one may be left to look at.
                        let there = views.deliveries.get(&tables::delivery_key(pair))?;
                        if there.is_none() {
                            return Ok(looked);
                        }
                    }
                    self.generation_after = Some(number);
                }
                None => {
                    self.held.remove(&number);
                    self.generation_after = Some(number);
                    looked.work = Some(Work::Generation(number));
                    return Ok(looked);
                }
            }
        }
        looked.ended = true;
        Ok(looked)
    }

    /// Returns the first pair of a generation whose delivery exists, or where a step's rows ended. Everything before
    /// the last one found is gone: a generation never lists anything new.
    fn first_held(
        &self,
        views: &Snapshot,
        number: u64,
        looked: &mut Looked,
    ) -> Result<Option<DeliveryId>, StoreError> {
        let is_there = |pair: DeliveryId| -> Result<bool, StoreError> {
            Ok(views.deliveries.get(&tables::delivery_key(pair))?.is_some())
        };
        let known = self.held.get(&number).copied();
        looked.rows += 1;
        if let Some(pair) = known
            && is_there(pair)?
        {
            return Ok(Some(pair));
        }
        let first = tables::history_key(number, known.map_or(Slot(0), |pair| pair.slot));
        let last = tables::history_key(number, Slot(u32::MAX));
        for row in views.history.range::<&[u8; 12]>(&first..=&last)? {
            let (key, value) = row?;
            looked.rows += 1;
            let slot = tables::history_of(key.value()).1;
            let run = match record::read::<Run>("history", key.value(), value.value()) {
                // What a damaged row lists is not known: `check` names it, and its generation stays.
                Err(StoreError::Damaged { .. }) => {
                    let event = EventId(0);
                    return Ok(Some(DeliveryId { event, slot }));
                }
                read => read?,
            };
            let resumed = known.filter(|pair| pair.slot == slot);
            let from = resumed.and_then(|pair| run.events.iter().position(|e| *e == pair.event));
            for event in run.events.iter().skip(from.unwrap_or(0)) {
                let pair = DeliveryId {
                    event: *event,
                    slot,
                };
                looked.rows += 1;
                if looked.rows >= STEP_ROWS || is_there(pair)? {
                    return Ok(Some(pair));
                }
            }
        }
        Ok(None)
    }

    /// Of the revisions of an endpoint that begin at or before the first event within retention, only the last one
    /// applies to an event that can still be queried.
    pub(super) fn revisions(&mut self, views: &Snapshot) -> Result<Looked, StoreError> {
        let first_kept = EventId::first_of(self.all_before());
        let mut looked = Looked::default();
        let mut found = Vec::new();
        let mut before: Option<[u8; 20]> = None;
        let from = self.revision_from;
        for row in views.revisions.range::<&[u8; 20]>(&from..)? {
            let key = *row?.0.value();
            let (slot, event) = tables::revision_of(&key);
            if let Some(before) = before.replace(key)
                && tables::revision_of(&before).0 == slot
                && event <= first_kept
            {
                found.push(before);
            }
            looked.rows += 1;
            self.revision_from = key;
            if looked.is_full() && looked.rows > 1 || found.len() >= REVISIONS_FOUND {
                looked.work = (!found.is_empty()).then_some(Work::Revisions(found));
                return Ok(looked);
            }
        }
        self.revision_from = [0; 20];
        looked.ended = true;
        looked.work = (!found.is_empty()).then_some(Work::Revisions(found));
        Ok(looked)
    }
}
