//! Finds what is still to be written of bulk changes. A [`BulkWalk`] goes through an endpoint's own deliveries in order
//! of sequence, a bounded number at a time, beside the writer. A batch then writes what it found (`batch/bulk.rs`).
//!
//! Nothing is missed although rows change meanwhile: a row that a bulk change applies to has an earlier stamp, and any
//! write of such a row applies the change too.

use crate::bulk::{self, Bulk, BulkEffect, Reopen};
use crate::command::Recover;
use crate::error::StoreError;
use crate::file::guarded::guarded;
use crate::file::journal::Run;
use crate::file::memory::{Memory, Shared, Snapshot};
use crate::file::missed::{was_missed, whole};
use crate::file::pack::{self, Pack};
use crate::file::reader::Reader;
use crate::file::record;
use crate::file::tables;
use crate::ids::{DeliveryId, EventId, Slot, UnixMs};
use crate::maintenance::AdvanceBulk;
use std::sync::{Arc, RwLockReadGuard};

/// Rows that one step reads.
pub const ROWS_PER_STEP: usize = 1_000;
/// Generations in which one step searches for the endpoint.
const STEP_GENERATIONS: usize = 256;

/// What a step of a [`BulkWalk`] found.
#[derive(Debug)]
pub enum BulkFound {
    /// Submit this, then what is left of it, and continue.
    Work(AdvanceBulk),
    /// Nothing so far. Continue.
    Nothing,
    /// Everything was read: submit [`BulkWalk::end`].
    End,
}

/// Finds what one endpoint's bulk changes still have to write.
#[derive(Debug)]
pub struct BulkWalk {
    shared: Arc<Shared>,
    slot: Slot,
    bulks: Vec<Bulk>,
    /// Whether this only counts what a recovery would open. Then the changes in progress are applied first.
    counting: bool,
    history: History,
    /// After the history: spans of events, from the first up to before the second, that are searched for missed ones.
    missed: Vec<(EventId, EventId)>,
}

impl Reader {
    /// Whether bulk changes are in progress.
    pub fn bulk_waits(&self) -> bool {
        !self.shared.memory().directory.bulks.is_empty()
    }

    /// Whether bulk changes of this endpoint are in progress.
    pub fn bulk_waits_for(&self, slot: Slot) -> bool {
        self.shared.memory().directory.bulks.contains_key(&slot)
    }

    /// Returns the endpoints with bulk changes in progress, and the last stamp of each.
    pub fn bulks(&self) -> Vec<(Slot, u64)> {
        self.shared.memory().directory.bulks_in_progress()
    }

    /// Returns a walk for the bulk changes of this endpoint up to this stamp; `None` if there are none.
    pub fn bulk_walk(&self, slot: Slot, upto: u64) -> Option<BulkWalk> {
        let memory = self.shared.memory();
        let bulks = memory.directory.bulks_upto(slot, upto);
        (!bulks.is_empty()).then(|| BulkWalk::new(&self.shared, &memory, slot, bulks))
    }

    /// Returns how many rounds a recovery would open.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub fn count_recoverable(&self, recover: &Recover) -> Result<u64, StoreError> {
        let Some(endpoint) = self.endpoint(recover.endpoint) else {
            return Ok(0);
        };
        let mut walk = {
            let memory = self.shared.memory();
            let asked = Bulk {
                stamp: u64::MAX,
                at: UnixMs(0),
                effect: BulkEffect::Reopen(Reopen::of(
                    recover,
                    memory.meta.last_event,
                    memory.meta.swept_before,
                )),
                number: 0,
            };
            let walk = BulkWalk::new(&self.shared, &memory, endpoint.slot, vec![asked]);
            BulkWalk {
                counting: true,
                ..walk
            }
        };
        let mut count = 0_u64;
        loop {
            match walk.step()? {
                BulkFound::Work(found) => {
                    let found = found.events.len() + found.missed.len();
                    count = count.saturating_add(u64::try_from(found).unwrap_or(u64::MAX));
                }
                BulkFound::Nothing => {}
                BulkFound::End => return Ok(count),
            }
        }
    }
}

impl BulkWalk {
    fn new(shared: &Arc<Shared>, memory: &Memory, slot: Slot, bulks: Vec<Bulk>) -> Self {
        let reopens = bulks.iter().filter_map(|bulk| match bulk.effect {
            BulkEffect::Reopen(reopen) => Some(reopen),
            BulkEffect::End { .. } => None,
        });
        let only_reopens = !bulks.iter().any(Bulk::ends);
        let since = reopens.clone().map(|reopen| reopen.since).min();
        let is_there = memory
            .directory
            .endpoint(slot)
            .is_some_and(|e| e.deleted_at.is_none());
        let mut missed: Vec<_> = reopens
            .filter(|reopen| reopen.missed && is_there)
            .map(Reopen::span)
            .collect();
        missed.reverse();
        Self {
            shared: Arc::clone(shared),
            slot,
            history: History {
                since: since.filter(|_| only_reopens).unwrap_or(UnixMs(0)),
                generation: 0,
                sequence: 0,
                until: memory.directory.state(slot).last_sequence.saturating_add(1),
                complete: true,
            },
            bulks,
            counting: false,
            missed,
        }
    }

    /// Reads some more deliveries.
    ///
    /// # Errors
    /// The file can't be read. Calling again reads the same ones.
    pub fn step(&mut self) -> Result<BulkFound, StoreError> {
        let shared = Arc::clone(&self.shared);
        let (mut history, mut missed) = (self.history.clone(), self.missed.clone());
        let (found, ended) = shared.view_with(|views, memory| {
            let mut found = AdvanceBulk::nothing(self.slot);
            let next = history.next(views, memory, self.slot)?;
            let ended = next.is_none();
            for event in next.into_iter().flatten() {
                match self.applies_to(views, event) {
                    Ok(true) => found.events.push(event),
                    Ok(false) => {}
                    Err(e) if e.is_damage() => history.complete = false,
                    Err(e) => return Err(e),
                }
            }
            if ended && let Some(span) = missed.last_mut() {
                found.missed = self.missed(views, span)?;
                if span.0 >= span.1 {
                    missed.pop();
                }
                return Ok((found, false));
            }
            Ok((found, ended))
        })?;
        (self.history, self.missed) = (history, missed);
        Ok(match found {
            found if !found.is_empty() => BulkFound::Work(found),
            _ if ended => BulkFound::End,
            _ => BulkFound::Nothing,
        })
    }

    /// Ends the changes of this walk. If some of the endpoint's deliveries could not be read, or with `keep_ends`,
    /// changes that end deliveries stay in the list: without them, deliveries that can't be written would be open
    /// again.
    pub fn end(&self, keep_ends: bool) -> AdvanceBulk {
        let keep_ends = keep_ends || !self.history.complete;
        let done = self.bulks.iter().filter(|bulk| !(keep_ends && bulk.ends()));
        AdvanceBulk {
            done: done.map(|bulk| bulk.number).collect(),
            ..AdvanceBulk::nothing(self.slot)
        }
    }

    /// Whether the changes apply to a delivery's row. A delivery that can't be sent again because its event is damaged
    /// is left out.
    fn applies_to(&self, views: &Snapshot, event: EventId) -> Result<bool, StoreError> {
        let slot = self.slot;
        let id = DeliveryId { event, slot };
        let Some(mut delivery) = guarded(|| views.stored(id))? else {
            return Ok(false);
        };
        let was_due = delivery.due.is_some() && !self.counting;
        if self.counting {
            bulk::apply(&mut delivery, views.bulks(slot));
        }
        if !bulk::apply(&mut delivery, &self.bulks) {
            return Ok(false);
        }
        if was_due || !delivery.status.is_open() {
            return Ok(true);
        }
        let event = whole(guarded(|| self.shared.event(&views.packs, event)))?.flatten();
        Ok(event.is_some_and(|event| event.data.is_some()))
    }

    /// Returns events of a span that the endpoint was subscribed to while it was disabled, and has no delivery of.
    fn missed(
        &self,
        views: &Snapshot,
        span: &mut (EventId, EventId),
    ) -> Result<Vec<EventId>, StoreError> {
        let mut missed = Vec::new();
        let Some(endpoint) = views.endpoint(self.slot) else {
            span.0 = span.1;
            return Ok(missed);
        };
        let (from, end) = *span;
        let start = pack::first_key(&views.packs, from)?;
        let end_key = tables::event_key(end).max(start);
        let mut seen = 0;
        for row in views.packs.range::<&[u8; 16]>(&start..&end_key)? {
            let (key, value) = row?;
            let Some(pack) = whole(Pack::decode(key.value(), value.value()))? else {
                continue;
            };
            for event in pack.events.iter().filter(|e| e.id >= from && e.id < end) {
                if was_missed(views, endpoint, event)? {
                    missed.push(event.id);
                }
                span.0 = EventId(event.id.0.saturating_add(1));
                seen += 1;
                if seen >= ROWS_PER_STEP {
                    return Ok(missed);
                }
            }
        }
        span.0 = span.1;
        Ok(missed)
    }
}

/// The position in an endpoint's deliveries, in order of sequence: generation after generation, then the journal.
/// Events that were in the journal are found in a generation after a fold.
#[derive(Clone, Debug)]
struct History {
    /// Generations that end before this time are skipped.
    since: UnixMs,
    generation: u64,
    sequence: u64,
    /// Deliveries from this number on were created after the changes.
    until: u64,
    /// Whether the whole list, and all deliveries in it, could be read so far.
    complete: bool,
}

impl History {
    /// Returns the events of the next deliveries; `None` when there are no more.
    fn next(
        &mut self,
        views: &Snapshot,
        memory: RwLockReadGuard<'_, Memory>,
        slot: Slot,
    ) -> Result<Option<Vec<EventId>>, StoreError> {
        if self.sequence >= self.until {
            return Ok(None);
        }
        let first = memory
            .generations
            .partition_point(|generation| generation.number < self.generation);
        let ahead = memory.generations.get(first..).unwrap_or_default();
        let are_all = ahead.len() <= STEP_GENERATIONS;
        let generations: Vec<_> = ahead.iter().take(STEP_GENERATIONS).cloned().collect();
        let tail = memory.tail.runs.get(&slot).filter(|_| are_all);
        let tail = tail.map(|run| self.some_of(run));
        drop(memory);
        for generation in generations {
            self.generation = generation.number.saturating_add(1);
            if generation.last_event.accepted_at() < self.since {
                continue;
            }
            let key = tables::history_key(generation.number, slot);
            let run = guarded(|| match views.history.get(&key)? {
                Some(row) => record::read::<Run>("history", &key, row.value()).map(Some),
                None => Ok(None),
            });
            let run = match run {
                Err(e) if e.is_damage() => {
                    self.complete = false;
                    continue;
                }
                run => run?,
            };
            let Some((events, to)) = run.map(|run| self.some_of(&run)) else {
                continue;
            };
            if events.len() == ROWS_PER_STEP {
                self.generation = generation.number;
            }
            self.sequence = to;
            return Ok(Some(events));
        }
        match tail {
            _ if !are_all => Ok(Some(Vec::new())),
            Some((events, to)) if !events.is_empty() => {
                self.sequence = to;
                Ok(Some(events))
            }
            _ => Ok(None),
        }
    }

    /// Returns some events of a run from the current position on, and the sequence number after them.
    fn some_of(&self, run: &Run) -> (Vec<EventId>, u64) {
        let from = self.sequence.max(run.first_sequence);
        let passed = usize::try_from(from - run.first_sequence).unwrap_or(usize::MAX);
        let events: Vec<_> = run
            .events
            .iter()
            .skip(passed)
            .take(ROWS_PER_STEP)
            .copied()
            .collect();
        let to = from.saturating_add(u64::try_from(events.len()).unwrap_or(u64::MAX));
        (events, to)
    }
}
