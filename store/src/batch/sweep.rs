//! Retention: dropping what is past it, a bounded step at a time.
//!
//! A pack with something still open keeps it and loses the rest. Horizons are counted from the paced time, so that a jump of the
//! clock can't delete all history at once.

use super::{Batch, as_read};
use crate::delivery::Delivery;
use crate::error::StoreError;
use crate::event::Event;
use crate::ids::{DeliveryId, EventId, Slot, UnixMs};
use crate::op::{Done, Horizon};
use crate::pack::Pack;
use crate::rows;
use crate::stats::{HOUR_MS, Level, MINUTE_MS};
use crate::tables;
use redb::ReadableTable;
use std::sync::Arc;

/// Packs that one step rewrites or drops.
const PACKS_PER_STEP: usize = 16;
/// Rows of other tables that one step drops.
pub(crate) const ROWS_PER_STEP: usize = 5_000;

impl Batch<'_, '_> {
    pub(super) fn sweep(&mut self, horizon: Horizon) -> Result<Done, StoreError> {
        let more_packs = self.sweep_packs(horizon)?;
        let more_generations = self.sweep_generations(horizon)?;
        let more_windows = self.sweep_windows()?;
        self.meta.swept_before = self.meta.swept_before.max(horizon.events_before);
        self.meta.deliveries_swept_before = self
            .meta
            .deliveries_swept_before
            .max(horizon.attempts_before);
        Ok(Done::Swept {
            more: more_packs || more_generations || more_windows,
        })
    }

    fn sweep_packs(&mut self, horizon: Horizon) -> Result<bool, StoreError> {
        let before = EventId::first_of(horizon.events_before.max(horizon.attempts_before));
        let from = EventId(self.meta.sweep_after.0.saturating_add(1));
        let mut found = Vec::new();
        for row in self
            .tables
            .packs
            .range::<&[u8; 16]>(&tables::event_key(from)..&tables::event_key(before.max(from)))?
            .take(PACKS_PER_STEP)
        {
            let (key, value) = row?;
            let key = *key.value();
            // A damaged pack stays for `check` to name; the others go on being swept.
            let pack = Pack::decode(&key, value.value()).ok();
            found.push((tables::event_of(&key), pack));
        }
        let mut rows_left = ROWS_PER_STEP;
        for (first, pack) in &found {
            if let Some(pack) = pack {
                self.sweep_pack(*first, pack, horizon, &mut rows_left)?;
            }
            if rows_left == 0 {
                // The next step begins with this pack again.
                return Ok(true);
            }
            self.meta.sweep_after = *first;
        }
        let more = found.len() == PACKS_PER_STEP;
        if !more {
            // The next pass starts over: what was held in this one may have ended.
            self.meta.sweep_after = EventId(0);
        }
        Ok(more)
    }

    fn sweep_pack(
        &mut self,
        first: EventId,
        pack: &Pack,
        horizon: Horizon,
        rows_left: &mut usize,
    ) -> Result<(), StoreError> {
        let mut survivors = Vec::new();
        for event in &pack.events {
            if *rows_left == 0 {
                survivors.push(Arc::clone(event));
            } else {
                survivors.extend(self.sweep_event(event, horizon, rows_left)?);
            }
        }
        let unchanged = survivors.len() == pack.events.len()
            && survivors
                .iter()
                .zip(&pack.events)
                .all(|(a, b)| Arc::ptr_eq(a, b));
        if unchanged {
            return Ok(());
        }
        let key = tables::event_key(first);
        if survivors.is_empty() {
            self.tables.packs.remove(&key)?;
            return Ok(());
        }
        // The key stays though its event may be gone: a search for the last key at or below an id still ends here.
        let row = Pack::new(survivors).encode(first, self.zstd)?;
        self.tables.packs.insert(&key, row.as_slice())?;
        Ok(())
    }

    /// What is kept of an event; `None` of one that is past everything.
    fn sweep_event(
        &mut self,
        event: &Arc<Event>,
        horizon: Horizon,
        rows_left: &mut usize,
    ) -> Result<Option<Arc<Event>>, StoreError> {
        let accepted = event.id.accepted_at();
        let deliveries = match self.deliveries_of(event.id) {
            // A damaged delivery keeps its event, for `check` to name.
            Err(StoreError::Damaged { .. }) => return Ok(Some(Arc::clone(event))),
            deliveries => deliveries?,
        };
        if deliveries.iter().any(|d| self.is_open(d)) {
            return Ok(Some(Arc::clone(event)));
        }
        if accepted < horizon.attempts_before {
            *rows_left = rows_left.saturating_sub(deliveries.len());
            for d in &deliveries {
                let key = tables::delivery_key(d.id);
                self.tables.deliveries.remove(&key)?;
                if d.status.is_bad() {
                    self.tables.bad.remove(&key)?;
                }
            }
        }
        if accepted >= horizon.events_before {
            return Ok(Some(Arc::clone(event)));
        }
        if accepted < horizon.attempts_before {
            return Ok(None);
        }
        if event.data.is_none() {
            return Ok(Some(Arc::clone(event)));
        }
        let mut kept = (**event).clone();
        kept.data = None;
        Ok(Some(Arc::new(kept)))
    }

    /// Whether a stored delivery is open, or reads as open because a recover had no room for its round yet.
    fn is_open(&self, stored: &Delivery) -> bool {
        let reads_as_open = || {
            let endpoint = self.endpoint(stored.id.slot);
            let read = as_read(stored.clone(), endpoint.as_deref(), &self.jobs);
            read.status.is_open()
        };
        stored.due.is_some() || (!self.jobs.is_empty() && reads_as_open())
    }

    fn deliveries_of(&self, event: EventId) -> Result<Vec<Delivery>, StoreError> {
        let key = |slot| tables::delivery_key(DeliveryId { event, slot });
        let mut found = Vec::new();
        for row in self
            .tables
            .deliveries
            .range::<&[u8; 20]>(&key(Slot(0))..=&key(Slot(u32::MAX)))?
        {
            let (key, value) = row?;
            found.push(rows::read_delivery(key.value(), value.value())?);
        }
        Ok(found)
    }

    fn sweep_generations(&mut self, horizon: Horizon) -> Result<bool, StoreError> {
        let Some(number) = self.generation_past(horizon)? else {
            return Ok(false);
        };
        let history =
            tables::history_key(number, Slot(0))..=tables::history_key(number, Slot(u32::MAX));
        let keys = tables::block_key(number, 0)..=tables::block_key(number, u128::MAX);
        self.tables
            .history
            .retain_in::<&[u8; 12], _>(history.start()..=history.end(), |_, _| false)?;
        self.tables
            .keys
            .retain_in::<&[u8; 24], _>(keys.start()..=keys.end(), |_, _| false)?;
        self.tables.generations.remove(&tables::count_key(number))?;
        self.generations_dropped.push(number);
        Ok(true)
    }

    /// A generation that is past retention, whose deliveries are all gone and whose keys have all expired.
    fn generation_past(&self, horizon: Horizon) -> Result<Option<u64>, StoreError> {
        let before = horizon.attempts_before.min(horizon.events_before);
        let mut from = EventId(0);
        for generation in &self.memory.generations {
            let last = generation.last_event;
            let at = last.accepted_at();
            if at >= before || at.plus_ms(self.options.idempotency_ttl_ms) >= self.paced {
                return Ok(None);
            }
            // What is still held would no longer be found in the list of its endpoint.
            let key = |event, slot| tables::delivery_key(DeliveryId { event, slot });
            let held = self
                .tables
                .deliveries
                .range::<&[u8; 20]>(&key(from, Slot(0))..=&key(last, Slot(u32::MAX)))?
                .next()
                .transpose()?
                .is_some();
            if !held && !self.generations_dropped.contains(&generation.number) {
                return Ok(Some(generation.number));
            }
            from = EventId(last.0.saturating_add(1));
        }
        Ok(None)
    }

    /// Minutes are kept for two hours and hours for two days: no question reaches farther.
    fn sweep_windows(&mut self) -> Result<bool, StoreError> {
        let ends = [
            (
                Level::Minute,
                UnixMs(self.paced.0.saturating_sub(120 * MINUTE_MS)),
            ),
            (
                Level::Hour,
                UnixMs(self.paced.0.saturating_sub(48 * HOUR_MS)),
            ),
        ];
        let mut more = false;
        for (level, before) in ends {
            let range = tables::window_key(level, UnixMs(0), Slot(0))
                ..tables::window_key(level, before, Slot(0));
            let old: Vec<_> = self
                .tables
                .windows
                .range::<&[u8; 13]>(&range.start..&range.end)?
                .take(ROWS_PER_STEP)
                .map(|row| row.map(|(key, _)| *key.value()))
                .collect::<Result<_, _>>()?;
            more |= old.len() == ROWS_PER_STEP;
            for key in old {
                self.tables.windows.remove(&key)?;
            }
            let range = tables::counters_key(level, UnixMs(0))..tables::counters_key(level, before);
            self.tables
                .counters
                .retain_in::<&[u8; 9], _>(&range.start..&range.end, |_, _| false)?;
        }
        Ok(more)
    }
}
