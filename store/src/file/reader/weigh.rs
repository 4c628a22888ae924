//! Weighs operations by the current state of memory.

use super::Reader;
use crate::weigh::Weights;

impl Reader {
    /// Passes what weighs the operations of the next batch. No commit can be announced meanwhile, so keep it short.
    pub fn weigh<T>(&self, weigh: impl FnOnce(Weights<'_>) -> T) -> T {
        let memory = self.shared.memory();
        weigh(Weights {
            directory: &memory.directory,
            windows: memory.windows.len(),
            paced: memory.meta.paced,
        })
    }
}
