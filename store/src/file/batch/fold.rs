//! Folds the journal into a generation, and the windows in memory into their rows.

use super::FileStorage;
use crate::batch::Batch;
use crate::error::StoreError;
use crate::file::journal::{Bloom, Generation};
use crate::file::record;
use crate::file::tables;
use crate::fingerprint::Fingerprint;
use crate::ids::EventId;
use crate::stats::{ALL_ENDPOINTS, Counters, Level, Window};
use redb::ReadableTable;
use std::sync::Arc;

impl Batch<'_, FileStorage<'_, '_>> {
    /// Moves the journal of earlier commits into a generation, if it has grown enough.
    pub(super) fn fold_if_wanted(&mut self) -> Result<Option<Arc<Generation>>, StoreError> {
        let memory = self.storage.memory;
        let tail = &memory.tail;
        if !tail.wants_folding(self.storage.options) {
            return Ok(None);
        }
        let number = self.storage.meta.next_generation;
        self.storage.meta.next_generation += 1;
        let mut slots: Vec<_> = tail.runs.keys().copied().collect();
        slots.sort_unstable();
        for slot in slots {
            if let Some(run) = tail.runs.get(&slot) {
                let key = tables::history_key(number, slot);
                let row = record::write("history", &key, run)?;
                self.storage.tables.history.insert(&key, row.as_slice())?;
            }
        }
        let mut keys: Vec<_> = tail.keys.iter().map(|(k, v)| (*k, *v)).collect();
        keys.sort_unstable();
        for block in keys.chunks(self.storage.options.keys_per_block.max(1)) {
            if let Some((Fingerprint(first), _)) = block.first() {
                let key = tables::block_key(number, *first);
                let row = record::write("keys", &key, &block)?;
                self.storage.tables.keys.insert(&key, row.as_slice())?;
            }
        }
        // Also for endpoints without a delivery since the last fold: their state changes with every attempt.
        for (slot, state) in &tail.states {
            if self.endpoint(*slot).is_none() {
                continue;
            }
            let key = tables::slot_key(*slot);
            let row = record::write("states", &key, state)?;
            self.storage.tables.states.insert(&key, row.as_slice())?;
        }
        for ((level, start), counters) in &tail.counters {
            let key = tables::counters_key(*level, *start);
            let row = record::write("counters", &key, counters)?;
            self.storage.tables.counters.insert(&key, row.as_slice())?;
        }
        self.storage.tables.journal.retain(|_, _| false)?;
        let generation = Generation {
            number,
            last_event: self.last_of_journal(),
            deliveries: u64::try_from(tail.created).unwrap_or(u64::MAX),
            keys: u64::try_from(keys.len()).unwrap_or(u64::MAX),
            bloom: Bloom::of(tail.keys.keys()),
        };
        let key = tables::count_key(number);
        let row = record::write("generations", &key, &generation)?;
        self.storage
            .tables
            .generations
            .insert(&key, row.as_slice())?;
        Ok(Some(Arc::new(generation)))
    }

    /// Returns the last event, or the last endpoint with a key if that is later. It never decreases from generation to
    /// generation, because the search for a key stops at the first generation that is too old.
    fn last_of_journal(&self) -> EventId {
        let memory = self.storage.memory;
        let keys = memory.tail.keys.values().copied();
        let before = memory.generations.last().map(|g| g.last_event);
        keys.chain(before)
            .fold(memory.meta.last_event, EventId::max)
    }

    /// Adds the windows in memory to their rows: minute, hour, and all time.
    pub(crate) fn write_windows(&mut self) -> Result<(), StoreError> {
        if std::mem::replace(&mut self.storage.windows_flushed, true) {
            return Ok(());
        }
        let memory = self.storage.memory;
        let mut pending: Vec<_> = memory.windows.iter().collect();
        pending.retain(|((_, slot), _)| *slot == ALL_ENDPOINTS || self.endpoint(*slot).is_some());
        pending.sort_unstable_by_key(|(key, _)| **key);
        for level in Level::ALL {
            for ((minute, slot), add) in &pending {
                let key = tables::window_key(level, level.start_of(*minute), *slot);
                let before = self.storage.tables.windows.get(&key)?;
                let mut window: Window =
                    match before.map(|row| record::read("windows", &key, row.value())) {
                        // A damaged window starts over, so that it doesn't block all later ones.
                        None | Some(Err(StoreError::Damaged { .. })) => Window::default(),
                        Some(read) => read?,
                    };
                window.merge(add);
                if *slot == ALL_ENDPOINTS {
                    window.counters = Counters::default();
                }
                let row = record::write("windows", &key, &window)?;
                self.storage.tables.windows.insert(&key, row.as_slice())?;
            }
        }
        Ok(())
    }
}
