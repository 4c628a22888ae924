//! The counters of all endpoints. Exact, since they commit with the work that they count.

use super::{Batch, Storage};
use crate::error::StoreError;
use crate::stats::{Counters, Level};

impl<S: Storage> Batch<'_, S> {
    /// Counts in the current windows of all endpoints. Exact, since they commit with the work.
    pub(super) fn count(&mut self, add: impl Fn(&mut Counters)) -> Result<(), StoreError> {
        for level in Level::ALL {
            let key = (level, level.start_of(self.now));
            if !self.counters.contains_key(&key) {
                let before = self.storage.counters(key.0, key.1)?;
                self.counters.insert(key, before);
            }
            if let Some(counters) = self.counters.get_mut(&key) {
                add(counters);
            }
        }
        Ok(())
    }
}
