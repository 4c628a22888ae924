//! Getting at the file: making it whole or not at all, opening it, and saying what stood in the way.

use crate::error::{StoreError, guarded};
use crate::handle::Handle;
use crate::verified::Tried;
use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, StorageBackend};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The newest file format of the engine that is known.
const ENGINE_FORMAT: u32 = 3;

/// Pages kept in memory while all of them are verified once.
const VERIFY_CACHE_BYTES: usize = 8 << 20;

/// What a file being compacted into is called, after the name of the store.
pub(crate) const COMPACTING: &str = ".compacting";

/// Opens the file, or makes it, mode 0600.
pub(crate) fn open(path: &Path, cache_bytes: usize, tried: &Tried) -> Result<Handle, StoreError> {
    loop {
        if !path.try_exists().map_err(io("looking for", path))? {
            make(path)?;
        }
        let (file, db) = open_what_is_there(path, cache_bytes, tried)?;
        // Until it was locked, a compaction may have put another one in its place: this one has no name any more then, and what
        // is written to it is lost.
        if is_at(path, &file)? {
            // Of a compaction that was killed: none is under way, the lock is ours.
            let _none = std::fs::remove_file(beside(path, COMPACTING));
            return Ok(db);
        }
    }
}

fn open_what_is_there(
    path: &Path,
    cache_bytes: usize,
    tried: &Tried,
) -> Result<(File, Handle), StoreError> {
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
    let ours = file.try_clone().map_err(io("opening", path))?;
    let backend = FileBackend::new(file).map_err(|e| explain(e, path))?;
    Ok((ours, open_on(backend, path, cache_bytes, tried)?))
}

/// Opens the file, or makes it. Nothing is written to it before the handle is accepted.
pub(crate) fn open_on(
    backend: impl StorageBackend,
    path: &Path,
    cache_bytes: usize,
    tried: &Tried,
) -> Result<Handle, StoreError> {
    Handle::open(backend, tried, |gated| engine_on(gated, path, cache_bytes))
}

/// The engine alone, on a file that is nobody's yet, or behind a gate. A damaged page can make it panic: that too is damage, not the
/// end of the process.
pub(crate) fn engine_on(
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

/// Has the engine verify every page that it can reach by the checksum above it, and compare its records of free pages with those.
pub(crate) fn verify(backend: impl StorageBackend, path: &Path) -> Result<(), StoreError> {
    let mut db = engine_on(backend, path, VERIFY_CACHE_BYTES)?;
    match db.check_integrity().map_err(|e| explain(e, path))? {
        true => Ok(()),
        false => Err(StoreError::damaged(
            path.display().to_string(),
            "the record of free pages does not fit the pages in use",
        )),
    }
}

/// Makes an empty database beside `path` and puts it there when it is whole, and the folder knows it: a crash meanwhile
/// would leave a file that can't be opened, or acknowledged events in a file without a name.
fn make(path: &Path) -> Result<(), StoreError> {
    let fresh = beside(path, &format!(".{}.new", std::process::id()));
    let file = fresh_file(&fresh)?;
    let backend = FileBackend::new(file).map_err(|e| explain(e, &fresh))?;
    drop(engine_on(backend, &fresh, 0)?);
    // A link does not replace what another process may have made meanwhile.
    let linked = match std::fs::hard_link(&fresh, path) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => std::fs::rename(&fresh, path),
        _ => std::fs::remove_file(&fresh),
    };
    linked.map_err(io("making", path))?;
    sync_folder(path)
}

/// A file that is empty, and its owner's alone if it is new.
pub(crate) fn fresh_file(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(io("making", path))
}

/// The path of a file whose name goes on after that of `path`.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

/// Whether this open file is the one that `path` leads to.
pub(crate) fn is_at(path: &Path, file: &File) -> Result<bool, StoreError> {
    let id = |m: std::fs::Metadata| (m.dev(), m.ino());
    let open = file.metadata().map_err(io("looking at", path))?;
    match std::fs::metadata(path) {
        Ok(there) => Ok(id(there) == id(open)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(io("looking at", path)(e)),
    }
}

/// Has the folder of `path` know its names after a crash too.
pub(crate) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(io("syncing", folder))
}

pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_another_one_took_the_place_of_is_not_at_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a"), folder.path().join("b"));
        let file = File::create(&path).unwrap();
        assert!(is_at(&path, &file).unwrap());
        File::create(&other).unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert!(!is_at(&path, &file).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(!is_at(&path, &file).unwrap());
    }
}
