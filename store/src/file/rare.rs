//! Tables that few commits change: opened when they are used.

use crate::error::StoreError;
use crate::file::guarded::guarded;
use crate::file::sums::{Sum, Writing};
use redb::{TableDefinition, WriteTransaction};

type Definition<const N: usize> = TableDefinition<'static, &'static [u8; N], &'static [u8]>;

/// A table that few commits change.
pub(crate) struct Rare<'t, const N: usize> {
    txn: &'t WriteTransaction,
    definition: Definition<N>,
    /// As of the last commit.
    sum: Sum,
    table: Option<Writing<'t, N>>,
}

impl<'t, const N: usize> Rare<'t, N> {
    pub(crate) fn new(txn: &'t WriteTransaction, definition: Definition<N>, sum: Sum) -> Self {
        Self {
            txn,
            definition,
            sum,
            table: None,
        }
    }

    /// Opens it, unless it is open.
    pub(crate) fn opened(&mut self) -> Result<&mut Writing<'t, N>, StoreError> {
        let table = match self.table.take() {
            Some(table) => table,
            None => {
                let table = guarded(|| Ok(self.txn.open_table(self.definition)?))?;
                Writing::new(table, self.sum)
            }
        };
        Ok(self.table.insert(table))
    }

    /// Returns the sum of the current rows.
    pub(crate) fn sum(&self) -> Sum {
        self.table.as_ref().map_or(self.sum, Writing::sum)
    }

    pub(crate) fn insert(&mut self, key: &[u8; N], value: &[u8]) -> Result<(), StoreError> {
        self.opened()?.insert(key, value)
    }

    /// Removes a row and returns whether it existed.
    pub(crate) fn remove(&mut self, key: &[u8; N]) -> Result<bool, StoreError> {
        self.opened()?.remove(key)
    }
}
