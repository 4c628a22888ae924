//! Reads a file that no daemon has open, without writing to it: what the engine would write on opening stays in memory.
//!
//! A file whose process was killed needs a small repair when it is opened. Here the repair is made in memory, not in
//! the file.

use crate::error::StoreError;
use crate::file::guarded::guarded;
use crate::file::layer::Layer;
use crate::file::open::{self, io, is_at};
use crate::file::reader::Reader;
use crate::file::store::Store;
use crate::ids::UnixMs;
use crate::maintenance::Probe;
use crate::op::Op;
use crate::options::Options;
use crate::query::CheckReport;
use crate::sealing::Keys;
use redb::StorageBackend;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Memory for pages of the file meanwhile.
const CACHE_BYTES: usize = 64 << 20;

/// How many commits are tried on a stopped store.
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

/// The file, and the writes over it.
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

/// The lock on a file that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    /// Others may read it too.
    Shared,
    /// Nobody else may open it.
    Exclusive,
}

/// A file that no daemon has open, nor can open while this exists.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) file: Arc<File>,
    bytes: u64,
}

impl Source {
    /// Returns the file as storage for the engine, which changes nothing in it.
    pub(crate) fn backend(&self) -> impl StorageBackend + use<> {
        Overlay::new(Arc::clone(&self.file), self.bytes)
    }
}

/// Opens a file that no daemon has open, for reading.
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
    // Replaced between opening and locking: the process that did so is using the new file now.
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
/// It doesn't exist, or can't be accessed. Whether it is an intact store is not checked.
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
/// It can't be read or opened. Damage that prevents opening is [`StoreError::Damaged`]; other damage is in the report.
pub fn check_file(path: &Path) -> Result<CheckReport, StoreError> {
    let source = open(path, Lock::Shared)?;
    let mut report = read_file(path)?.check()?;
    if let Err(e) = engine_is_whole(path, &source) {
        if !e.is_damage() {
            return Err(e);
        }
        report.damage.push(format!(
            "pages of the engine: {e}; if no row is named, `stormhook compact` rebuilds the store from its intact rows"
        ));
    }
    Ok(report)
}

/// Whether the engine can use the file: its pages match their checksums, and commits can be made.
pub(crate) fn takes_commits(path: &Path, source: &Source) -> Result<bool, StoreError> {
    match engine_is_whole(path, source) {
        Err(e) if e.is_damage() => Ok(false),
        whole => whole.map(|()| true),
    }
}

fn engine_is_whole(path: &Path, source: &Source) -> Result<(), StoreError> {
    guarded(|| open::verify(source.backend(), path))?;
    let source = source.clone();
    let mut store = guarded(|| Store::open_on(at_rest(path), move || source.backend()))?;
    // In memory, like everything written here. A commit reads pages that no query does: each one those that an earlier
    // one freed.
    for _ in 0..TRIAL_COMMITS {
        store.apply([Op::Probe(Probe)], UnixMs(0), 0)?;
    }
    Ok(())
}

/// Returns a reader of a file that no daemon has open, nor can open while the reader exists. Nothing is written to the
/// file. Encrypted secrets stay unknown.
///
/// # Errors
/// As [`check_file`].
pub fn read_file(path: &Path) -> Result<Reader, StoreError> {
    read_with(path, at_rest(path))
}

/// The same for a reader that knows secrets too.
///
/// # Errors
/// As [`check_file`]; also if the key of its secrets is missing.
pub fn read_file_with_secrets(path: &Path, keys: Arc<Keys>) -> Result<Reader, StoreError> {
    let options = Options {
        keys,
        opens_sealed: false,
        ..at_rest(path)
    };
    read_with(path, options)
}

fn read_with(path: &Path, options: Options) -> Result<Reader, StoreError> {
    let source = open(path, Lock::Shared)?;
    guarded(|| Ok(Store::open_on(options, move || source.backend())?.reader()))
}

/// Returns the options for opening a stopped store for reading.
pub(crate) fn at_rest(path: &Path) -> Options {
    Options {
        cache_bytes: CACHE_BYTES,
        idempotency_ttl_ms: u64::MAX,
        opens_sealed: true,
        ..Options::new(path)
    }
}
