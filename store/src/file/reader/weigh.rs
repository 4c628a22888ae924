//! Weighs operations by the current state of memory.

use super::Reader;
use crate::file::memory::Memory;
use crate::op::Op;
use crate::weigh::Weights;
use std::sync::RwLockReadGuard;

/// Weighs operations by the current state of memory. While it exists no commit can be announced, so keep it short, and
/// drop it before the next batch.
#[derive(Debug)]
pub struct Scales<'a>(RwLockReadGuard<'a, Memory>);

impl Reader {
    /// Returns scales to weigh the operations of the next batch.
    pub fn scales(&self) -> Scales<'_> {
        Scales(self.shared.memory())
    }
}

impl Scales<'_> {
    /// Returns the most rows that the operation writes.
    pub fn rows(&self, op: &Op) -> usize {
        let memory = &self.0;
        let weights = Weights {
            directory: &memory.directory,
            windows: memory.windows.len(),
            paced: memory.meta.paced,
        };
        weights.rows(op)
    }
}
