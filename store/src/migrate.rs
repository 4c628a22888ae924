//! Making a file of an earlier format one of the current format.

use crate::error::StoreError;
use crate::handle::Handle;
use crate::memory::Memory;
use crate::record;
use crate::tables::{META, Views};
use redb::Durability;

/// Sums up the rows of a file of format 1, which has no sums, and makes it one of format 2. Until that is durable it stays what it
/// was. Nothing else has written to the file since `memory` was read from it.
pub(crate) fn to_format_2(handle: &Handle, mut memory: Memory) -> Result<Memory, StoreError> {
    if memory.meta.version >= record::version_of("meta") {
        return Ok(memory);
    }
    memory.meta.sums = Views::open(&handle.begin_read()?)?.sums()?;
    memory.meta.version = record::version_of("meta");
    let mut txn = handle.begin_write()?;
    txn.set_quick_repair(true);
    txn.set_durability(Durability::Immediate)
        .map_err(|e| StoreError::Engine(e.into()))?;
    let row = record::write("meta", &[0], &memory.meta)?;
    txn.open_table(META)?.insert(&[0], row.as_slice())?;
    txn.commit()?;
    Ok(memory)
}
