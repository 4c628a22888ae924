//! Looking at a file that nobody has open without writing to it: what the engine would write on opening stays in memory.
//!
//! A file whose process was killed needs a small repair when it is opened. Here that happens beside the file, not in it.

use crate::error::{StoreError, guarded};
use crate::file::{self, io, is_at};
use crate::ids::UnixMs;
use crate::layer::Layer;
use crate::maintenance::Probe;
use crate::op::Op;
use crate::options::Options;
use crate::query::CheckReport;
use crate::reader::Reader;
use crate::store::Store;
use redb::StorageBackend;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Pages of the file that are kept in memory meanwhile.
const CACHE_BYTES: usize = 64 << 20;

/// Commits that are tried on a file at rest.
const TRIAL_COMMITS: u32 = 4;

/// A file that is read and never written.
#[derive(Debug)]
struct ReadOnly(Arc<File>);

impl StorageBackend for ReadOnly {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, _bytes: u64) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, _offset: u64, _data: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

/// The file below, and what was written over it.
#[derive(Debug)]
struct Overlay {
    file: ReadOnly,
    written: Mutex<Layer>,
}

impl Overlay {
    fn new(file: Arc<File>, bytes: u64) -> Self {
        Self {
            file: ReadOnly(file),
            written: Mutex::new(Layer::over(bytes)),
        }
    }

    fn written(&self) -> MutexGuard<'_, Layer> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written().len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.written().read(&self.file, offset, out)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.written().set_len(bytes);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.written().write(&self.file, offset, data)
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
    let source = open(path, Lock::Shared)?;
    let mut report = read_file(path)?.check()?;
    if let Err(e) = engine_is_whole(path, &source) {
        if !e.is_damage() {
            return Err(e);
        }
        report.damage.push(format!(
            "pages of the engine: {e}; where no row is named, `stormhook compact` writes the store again from what is whole"
        ));
    }
    Ok(report)
}

/// Whether the engine can go on with the file: its pages fit their checksums, and commits can be made.
pub(crate) fn takes_commits(path: &Path, source: &Source) -> Result<bool, StoreError> {
    match engine_is_whole(path, source) {
        Err(e) if e.is_damage() => Ok(false),
        whole => whole.map(|()| true),
    }
}

fn engine_is_whole(path: &Path, source: &Source) -> Result<(), StoreError> {
    guarded(|| file::verify(source.backend(), path))?;
    let source = source.clone();
    let mut store = guarded(|| Store::open_on(at_rest(path), move || source.backend()))?;
    // In memory, like all that is written here. A commit reads pages that no question does: each one those that an earlier one freed.
    for _ in 0..TRIAL_COMMITS {
        store.apply([Op::Probe(Probe)], UnixMs(0), 0)?;
    }
    Ok(())
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
        cache_bytes: CACHE_BYTES,
        idempotency_ttl_ms: u64::MAX,
        ..Options::new(path)
    }
}
