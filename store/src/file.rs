//! Getting at the file: making it whole or not at all, opening it, and saying what stood in the way.

use crate::error::{StoreError, guarded};
use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, StorageBackend};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The newest file format of the engine that is known.
const ENGINE_FORMAT: u32 = 3;

/// Opens the file, or makes it, mode 0600.
pub(crate) fn open(path: &Path, cache_bytes: usize) -> Result<Database, StoreError> {
    if !path.try_exists().map_err(io("looking for", path))? {
        make(path)?;
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(io("opening", path))?;
    // A file is put in place when it is whole: one without a byte has lost them.
    if file.metadata().map_err(io("looking at", path))?.len() == 0 {
        return Err(StoreError::damaged(
            path.display().to_string(),
            "it is empty",
        ));
    }
    let backend = FileBackend::new(file).map_err(|e| explain(e, path))?;
    open_on(backend, path, cache_bytes)
}

/// Opens or makes the database. A damaged page can make the engine panic: that too is damage, not the end of the process.
pub(crate) fn open_on(
    backend: impl StorageBackend,
    path: &Path,
    cache_bytes: usize,
) -> Result<Database, StoreError> {
    guarded(|| {
        Builder::new()
            .set_cache_size(cache_bytes)
            .create_with_backend(backend)
            .map_err(|e| explain(e, path))
    })
}

/// Makes an empty database beside `path` and puts it there when it is whole, and the folder knows it: a crash meanwhile
/// would leave a file that can't be opened, or acknowledged events in a file without a name.
fn make(path: &Path) -> Result<(), StoreError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let fresh = path.with_file_name(name);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(io("making", &fresh))?;
    let backend = FileBackend::new(file).map_err(|e| explain(e, &fresh))?;
    drop(open_on(backend, &fresh, 0)?);
    // A link does not replace what another process may have made meanwhile.
    let linked = match std::fs::hard_link(&fresh, path) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => std::fs::rename(&fresh, path),
        _ => std::fs::remove_file(&fresh),
    };
    linked.map_err(io("making", path))?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(io("syncing", folder))
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path: PathBuf = path.to_owned();
    move |source| StoreError::Io {
        doing,
        path,
        source,
    }
}

fn explain(error: DatabaseError, path: &Path) -> StoreError {
    let what = || path.display().to_string();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            StoreError::AlreadyOpen {
                path: path.to_owned(),
            }
        }
        DatabaseError::UpgradeRequired(found) => StoreError::damaged(
            what(),
            format!("it has file format {found}, which no stormhook ever wrote"),
        ),
        DatabaseError::Storage(redb::StorageError::Corrupted(detail)) => {
            match newer_format(&detail) {
                Some(found) => StoreError::Newer {
                    what: what(),
                    found,
                    known: ENGINE_FORMAT,
                },
                None => StoreError::damaged(what(), detail),
            }
        }
        DatabaseError::Storage(redb::StorageError::Io(e))
            if matches!(e.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
        {
            StoreError::damaged(what(), e.to_string())
        }
        DatabaseError::RepairAborted => {
            StoreError::damaged(what(), "it needs a repair that was refused")
        }
        other => StoreError::Engine(other.into()),
    }
}

/// The file format that the engine found and does not know: it says so in words only.
fn newer_format(detail: &str) -> Option<u32> {
    let (_, found) = detail
        .strip_prefix("Expected file format version <= ")?
        .split_once(", found ")?;
    found.parse().ok()
}
