//! The counters of all endpoints. Exact, since they commit with the work that they count.

use super::Batch;
use crate::error::StoreError;
use crate::ids::UnixMs;
use crate::record;
use crate::stats::{Counters, Level};
use crate::tables;
use redb::ReadableTable;

impl Batch<'_, '_> {
    /// Counts in the current windows of all endpoints. Exact, since they commit with the work.
    pub(super) fn count(&mut self, add: impl Fn(&mut Counters)) -> Result<(), StoreError> {
        for level in Level::ALL {
            let key = (level, level.start_of(self.now));
            if !self.counters.contains_key(&key) {
                let before = self.counters_before(key)?;
                self.counters.insert(key, before);
            }
            if let Some(counters) = self.counters.get_mut(&key) {
                add(counters);
            }
        }
        Ok(())
    }

    fn counters_before(&self, key: (Level, UnixMs)) -> Result<Counters, StoreError> {
        if let Some(counters) = self.memory.tail.counters.get(&key) {
            return Ok(*counters);
        }
        let key = tables::counters_key(key.0, key.1);
        let before = self.tables.counters.get(&key)?;
        match before.map(|row| record::read("counters", &key, row.value())) {
            // Damaged counters start over, so that they don't block the work that they count.
            None | Some(Err(StoreError::Damaged { .. })) => Ok(Counters::default()),
            Some(read) => read,
        }
    }
}
