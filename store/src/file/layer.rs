//! Writes over storage that stays unchanged: written bytes are kept in blocks in memory and read back from there.

use redb::StorageBackend;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;

/// The size of a block.
const BLOCK_BYTES: u64 = 4_096;

/// The writes over storage of a given length.
#[derive(Debug)]
pub(crate) struct Layer {
    bytes: u64,
    /// How much of the storage below is still visible.
    below: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Layer {
    /// Returns a layer over `bytes` bytes of storage, with nothing written.
    pub(crate) fn over(bytes: u64) -> Self {
        Self {
            bytes,
            below: bytes,
            blocks: BTreeMap::new(),
        }
    }

    /// Returns the length as seen through the layer.
    pub(crate) fn len(&self) -> u64 {
        self.bytes
    }

    /// Reads through the layer.
    pub(crate) fn read(
        &self,
        storage: &dyn StorageBackend,
        offset: u64,
        out: &mut [u8],
    ) -> io::Result<()> {
        let end = offset.saturating_add(u64::try_from(out.len()).unwrap_or(u64::MAX));
        if end > self.bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        below(storage, self.below, offset, out)?;
        each_block(offset, out.len(), |block, within, part, done| {
            let over = self
                .blocks
                .get(&block)
                .and_then(|b| b.get(within..within + part));
            if let (Some(over), Some(place)) = (over, out.get_mut(done..done + part)) {
                place.copy_from_slice(over);
            }
            Ok(())
        })
    }

    /// Writes into the layer.
    pub(crate) fn write(
        &mut self,
        storage: &dyn StorageBackend,
        offset: u64,
        data: &[u8],
    ) -> io::Result<()> {
        let limit = self.below;
        each_block(offset, data.len(), |block, within, part, done| {
            if let Entry::Vacant(vacant) = self.blocks.entry(block) {
                let mut bytes = vec![0; usize::try_from(BLOCK_BYTES).unwrap_or(0)];
                below(storage, limit, block * BLOCK_BYTES, &mut bytes)?;
                vacant.insert(bytes);
            }
            let place = self
                .blocks
                .get_mut(&block)
                .and_then(|b| b.get_mut(within..within + part));
            if let (Some(place), Some(data)) = (place, data.get(done..done + part)) {
                place.copy_from_slice(data);
            }
            Ok(())
        })
    }

    /// Changes the length. Bytes that were cut off read as zeros if the length grows again.
    pub(crate) fn set_len(&mut self, bytes: u64) {
        self.bytes = bytes;
        self.below = self.below.min(bytes);
        let _cut = self.blocks.split_off(&bytes.div_ceil(BLOCK_BYTES));
    }
}

/// Reads the storage's bytes at `offset`, with zeros beyond `limit`.
fn below(storage: &dyn StorageBackend, limit: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
    out.fill(0);
    let rest = usize::try_from(limit.saturating_sub(offset)).unwrap_or(usize::MAX);
    let there = out.len().min(rest);
    match out.get_mut(..there) {
        Some(out) if !out.is_empty() => storage.read(offset, out),
        _ => Ok(()),
    }
}

/// Calls `each` with every block that a range touches: its number, where the range begins in it, how much of the range
/// is in it, and how much of the range comes before it.
fn each_block(
    offset: u64,
    length: usize,
    mut each: impl FnMut(u64, usize, usize, usize) -> io::Result<()>,
) -> io::Result<()> {
    let mut done = 0;
    while done < length {
        let at = offset + u64::try_from(done).unwrap_or(u64::MAX);
        let within = usize::try_from(at % BLOCK_BYTES).unwrap_or(0);
        let block = usize::try_from(BLOCK_BYTES).unwrap_or(usize::MAX);
        let part = (block - within).min(length - done);
        each(at / BLOCK_BYTES, within, part, done)?;
        done += part;
    }
    Ok(())
}
