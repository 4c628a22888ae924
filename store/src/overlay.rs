//! Looking at a file that nobody has open without writing to it: what the engine would write on opening stays in memory.
//!
//! A file whose process was killed needs a small repair when it is opened. Here that happens beside the file, not in it.

use crate::error::{StoreError, guarded};
use crate::file::{io, is_at};
use crate::memory::Options;
use crate::query::CheckReport;
use crate::reader::Reader;
use crate::store::Store;
use redb::StorageBackend;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is written is kept in blocks of this size.
const BLOCK_BYTES: u64 = 4_096;
/// Pages of the file that are kept in memory meanwhile.
const CACHE_BYTES: usize = 64 << 20;

/// The file below, and what was written over it.
#[derive(Debug)]
struct Overlay {
    file: Arc<File>,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    bytes: u64,
    /// How much of the file below still shows.
    below: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    fn new(file: Arc<File>, bytes: u64) -> Self {
        Self {
            file,
            written: Mutex::new(Written {
                bytes,
                below: bytes,
                blocks: BTreeMap::new(),
            }),
        }
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file's bytes at `offset`, zeros where it ends.
    fn below(&self, limit: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        out.fill(0);
        let rest = usize::try_from(limit.saturating_sub(offset)).unwrap_or(usize::MAX);
        let there = out.len().min(rest);
        match out.get_mut(..there) {
            Some(out) if !out.is_empty() => self.file.read_exact_at(out, offset),
            _ => Ok(()),
        }
    }

    /// Calls `each` with every block that a range touches: its number, where the range begins in it, and how much lies in it.
    fn blocks(
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
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written().bytes)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written();
        let end = offset.saturating_add(u64::try_from(out.len()).unwrap_or(u64::MAX));
        if end > written.bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.below(written.below, offset, out)?;
        Self::blocks(offset, out.len(), |block, within, part, done| {
            let over = written
                .blocks
                .get(&block)
                .and_then(|b| b.get(within..within + part));
            if let (Some(over), Some(place)) = (over, out.get_mut(done..done + part)) {
                place.copy_from_slice(over);
            }
            Ok(())
        })
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut written = self.written();
        written.bytes = bytes;
        written.below = written.below.min(bytes);
        let _cut = written.blocks.split_off(&bytes.div_ceil(BLOCK_BYTES));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written();
        let limit = written.below;
        Self::blocks(offset, data.len(), |block, within, part, done| {
            if let Entry::Vacant(vacant) = written.blocks.entry(block) {
                let mut bytes = vec![0; usize::try_from(BLOCK_BYTES).unwrap_or(0)];
                self.below(limit, block * BLOCK_BYTES, &mut bytes)?;
                vacant.insert(bytes);
            }
            let place = written
                .blocks
                .get_mut(&block)
                .and_then(|b| b.get_mut(within..within + part));
            if let (Some(place), Some(data)) = (place, data.get(done..done + part)) {
                place.copy_from_slice(data);
            }
            Ok(())
        })
    }
}

/// How others are kept away from a file that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    /// Others may look at it too.
    Shared,
    /// Nobody else may.
    Exclusive,
}

/// A file that no daemon has open, nor can open while this lives.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) file: Arc<File>,
    bytes: u64,
}

impl Source {
    /// The file for the engine, which changes nothing in it.
    pub(crate) fn backend(&self) -> impl StorageBackend + use<> {
        Overlay::new(Arc::clone(&self.file), self.bytes)
    }
}

/// Opens a file that no daemon has open, to be read.
pub(crate) fn open(path: &Path, lock: Lock) -> Result<Source, StoreError> {
    let file = File::open(path).map_err(io("opening", path))?;
    let locked = match lock {
        Lock::Shared => file.try_lock_shared(),
        Lock::Exclusive => file.try_lock(),
    };
    let in_use = || StoreError::AlreadyOpen {
        path: path.to_owned(),
    };
    match locked {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => return Err(in_use()),
        Err(std::fs::TryLockError::Error(source)) => return Err(io("locking", path)(source)),
    }
    // Replaced between opening and locking: whoever did that is at work on what is there now.
    if !is_at(path, &file)? {
        return Err(in_use());
    }
    let bytes = file
        .metadata()
        .map_err(io("reading the length of", path))?
        .len();
    if bytes == 0 {
        return Err(StoreError::damaged(
            path.display().to_string(),
            "it is empty",
        ));
    }
    Ok(Source {
        file: Arc::new(file),
        bytes,
    })
}

/// Whether another process has the file open.
///
/// # Errors
/// It is not there, or can't be looked at. Whether it is a store, and sound, is not asked.
pub fn is_open(path: &Path) -> Result<bool, StoreError> {
    match open(path, Lock::Shared) {
        Err(StoreError::AlreadyOpen { .. }) => Ok(true),
        Ok(_) | Err(StoreError::Damaged { .. }) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Verifies a file that no daemon has open, without writing to it.
///
/// # Errors
/// It can't be read or opened. Damage that stops it from being opened at all is [`StoreError::Damaged`]; other damage is in the
/// report.
pub fn check_file(path: &Path) -> Result<CheckReport, StoreError> {
    read_file(path)?.check()
}

/// A reader of a file that no daemon has open, nor can open while this lives. Nothing is written to it.
///
/// # Errors
/// As [`check_file`].
pub fn read_file(path: &Path) -> Result<Reader, StoreError> {
    let source = open(path, Lock::Shared)?;
    let options = at_rest(path);
    guarded(|| Ok(Store::open_on(options, move || source.backend())?.reader()))
}

/// How a store at rest is opened to be read.
pub(crate) fn at_rest(path: &Path) -> Options {
    Options {
        path: path.to_owned(),
        cache_bytes: CACHE_BYTES,
        pending_limit: u64::MAX,
        endpoints_per_organization: usize::MAX,
        idempotency_ttl_ms: u64::MAX,
    }
}
