//! Retention: removes what a [`crate::file::sweep::Sweeper`] found to be past it, a bounded number of rows at a time.
//!
//! A pack with an open delivery keeps that event and loses the others. Horizons are counted in paced time, so that a
//! jump of the clock can't delete all history.

use super::FileStorage;
use crate::batch::{Batch, IndexedState, Storage};
use crate::bulk::reads_as_open;
use crate::delivery::Delivery;
use crate::error::StoreError;
use crate::event::Event;
use crate::file::pack::Pack;
use crate::file::rows;
use crate::file::tables;
use crate::ids::{DeliveryId, EventId, Slot, UnixMs};
use crate::maintenance::Swept;
use crate::stats::{Level, kept_windows};
use crate::swept::{Horizon, Past, ROWS_PER_STEP, Sweep, Work};
use redb::ReadableTable;
use std::sync::Arc;

impl Batch<'_, FileStorage<'_, '_>> {
    pub(crate) fn remove_swept(&mut self, sweep: &Sweep) -> Result<Swept, StoreError> {
        let horizon = sweep.horizon;
        let more = match &sweep.work {
            Work::Packs(packs) => self.sweep_packs(packs, horizon)?,
            Work::Generation(number) => self.sweep_generation(*number)?,
            Work::Endpoints(slots) => self.forget_deleted(slots)?,
            Work::Revisions(keys) => {
                for key in keys {
                    self.storage.tables.revisions.remove(key)?;
                }
                false
            }
            Work::Audit(ids) => {
                for id in ids {
                    self.storage.tables.audit.remove(&tables::audit_key(*id))?;
                }
                false
            }
            Work::ApiKeys(ids) => {
                for id in ids {
                    self.remove_api_key(*id)?;
                }
                false
            }
            Work::Windows => self.sweep_windows()?,
            Work::Walked => {
                self.swept_to(horizon.events_before, horizon.attempts_before);
                false
            }
        };
        self.storage.meta.sweep_after = sweep.again_after;
        Ok(Swept { more })
    }

    fn swept_to(&mut self, events: UnixMs, deliveries: UnixMs) {
        let meta = &mut self.storage.meta;
        meta.swept_before = meta.swept_before.max(events);
        meta.deliveries_swept_before = meta.deliveries_swept_before.max(deliveries);
    }

    fn sweep_packs(&mut self, packs: &[EventId], horizon: Horizon) -> Result<bool, StoreError> {
        let mut rows_left = ROWS_PER_STEP;
        for first in packs {
            let key = tables::event_key(*first);
            let pack = match self.storage.tables.packs.get(&key)? {
                Some(row) => Pack::decode(&key, row.value()).ok(),
                None => None,
            };
            // A damaged pack stays for `check` to name.
            let Some(pack) = pack else { continue };
            self.sweep_pack(*first, &pack, horizon, &mut rows_left)?;
            // Nothing that was accepted after its last event was touched.
            let after = pack.last().accepted_at().plus_ms(1);
            self.swept_to(
                after.min(horizon.events_before),
                after.min(horizon.attempts_before),
            );
            if rows_left == 0 {
                return Ok(true);
            }
        }
        Ok(false)
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
            self.storage.tables.packs.remove(&key)?;
            return Ok(());
        }
        // The key stays even if its event is gone: a search for the last key at or below an id still ends here.
        let row = Pack::new(survivors).encode(first, self.storage.zstd)?;
        self.storage.tables.packs.insert(&key, row.as_slice())?;
        Ok(())
    }

    /// Returns what is kept of an event; `None` if it is past all retention.
    fn sweep_event(
        &mut self,
        event: &Arc<Event>,
        horizon: Horizon,
        rows_left: &mut usize,
    ) -> Result<Option<Arc<Event>>, StoreError> {
        let past = Past::of(event, horizon);
        let deliveries = match self.deliveries_of(event.id) {
            // A damaged delivery keeps its event, for `check` to name.
            Err(StoreError::Damaged { .. }) => return Ok(Some(Arc::clone(event))),
            deliveries => deliveries?,
        };
        let is_open = |d: &Delivery| reads_as_open(d, &self.bulks);
        if deliveries.iter().any(is_open) {
            return Ok(Some(Arc::clone(event)));
        }
        if past.deliveries {
            *rows_left = rows_left.saturating_sub(deliveries.len());
            for d in &deliveries {
                self.storage.remove_delivery(IndexedState::of(d), d)?;
            }
        }
        if past.all() {
            return Ok(None);
        }
        if !past.data || event.data.is_none() {
            return Ok(Some(Arc::clone(event)));
        }
        let mut kept = (**event).clone();
        kept.data = None;
        Ok(Some(Arc::new(kept)))
    }

    fn deliveries_of(&self, event: EventId) -> Result<Vec<Delivery>, StoreError> {
        let key = |slot| tables::delivery_key(DeliveryId { event, slot });
        let mut found = Vec::new();
        for row in self
            .storage
            .tables
            .deliveries
            .range::<&[u8; 20]>(&key(Slot(0))..=&key(Slot(u32::MAX)))?
        {
            let (key, value) = row?;
            found.push(rows::read_delivery(key.value(), value.value())?);
        }
        Ok(found)
    }

    fn sweep_generation(&mut self, number: u64) -> Result<bool, StoreError> {
        let history =
            tables::history_key(number, Slot(0))..=tables::history_key(number, Slot(u32::MAX));
        let keys = tables::block_key(number, 0)..=tables::block_key(number, u128::MAX);
        self.storage
            .tables
            .history
            .retain_in::<&[u8; 12], _>(history.start()..=history.end(), |_, _| false)?;
        self.storage
            .tables
            .keys
            .retain_in::<&[u8; 24], _>(keys.start()..=keys.end(), |_, _| false)?;
        self.storage
            .tables
            .generations
            .remove(&tables::count_key(number))?;
        self.storage.generations_dropped.push(number);
        Ok(false)
    }

    /// Removes deleted endpoints that have no deliveries left. Their slots are never reused.
    pub(crate) fn forget_deleted(&mut self, slots: &[Slot]) -> Result<bool, StoreError> {
        let mut rows_left = ROWS_PER_STEP;
        for &slot in slots {
            let worked_off = |e: &Arc<crate::Endpoint>| {
                e.deleted_at.is_some() && !self.bulks.contains_key(&slot)
            };
            if !self.endpoint(slot).as_ref().is_some_and(worked_off) {
                continue;
            }
            let revisions = tables::revision_key(slot, EventId(0))
                ..=tables::revision_key(slot, EventId(u128::MAX));
            let old: Vec<[u8; 20]> = self
                .storage
                .tables
                .revisions
                .range::<&[u8; 20]>(revisions.start()..=revisions.end())?
                .take(rows_left)
                .map(|row| row.map(|(key, _)| *key.value()))
                .collect::<Result<_, _>>()?;
            // It has at most four rows of its own.
            rows_left = rows_left.saturating_sub(old.len() + 4);
            for key in old {
                self.storage.tables.revisions.remove(&key)?;
            }
            if rows_left == 0 {
                return Ok(true);
            }
            let key = tables::slot_key(slot);
            self.storage.tables.endpoints.remove(&key)?;
            self.storage.tables.states.remove(&key)?;
            let all_time = tables::window_key(Level::All, UnixMs(0), slot);
            self.storage.tables.windows.remove(&all_time)?;
            self.endpoints.remove(&slot);
            self.states.remove(&slot);
            self.forgotten.insert(slot);
        }
        Ok(false)
    }

    fn sweep_windows(&mut self) -> Result<bool, StoreError> {
        let mut more = false;
        for (level, before) in kept_windows(self.paced) {
            let range = tables::window_key(level, UnixMs(0), Slot(0))
                ..tables::window_key(level, before, Slot(0));
            let old: Vec<_> = self
                .storage
                .tables
                .windows
                .range::<&[u8; 13]>(&range.start..&range.end)?
                .take(ROWS_PER_STEP)
                .map(|row| row.map(|(key, _)| *key.value()))
                .collect::<Result<_, _>>()?;
            more |= old.len() == ROWS_PER_STEP;
            for key in old {
                self.storage.tables.windows.remove(&key)?;
            }
            let range = tables::counters_key(level, UnixMs(0))..tables::counters_key(level, before);
            self.storage
                .tables
                .counters
                .retain_in::<&[u8; 9], _>(&range.start..&range.end, |_, _| false)?;
        }
        Ok(more)
    }
}
