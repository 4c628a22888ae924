//! Creates and opens the file, either completely or not at all, and words the errors.

use crate::error::StoreError;
use crate::file::guarded::guarded;
use crate::file::handle::Handle;
use crate::file::verified::Tried;
use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, StorageBackend};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The newest file format of the engine that is known.
const ENGINE_FORMAT: u32 = 3;

/// Memory for pages while all of them are verified once.
const VERIFY_CACHE_BYTES: usize = 8 << 20;

/// The suffix of the file that a compaction writes.
pub(crate) const COMPACTING: &str = ".compacting";

/// Opens the file, or creates it with mode 0600.
pub(crate) fn open(path: &Path, cache_bytes: usize, tried: &Tried) -> Result<Handle, StoreError> {
    loop {
        if !path.try_exists().map_err(io("looking for", path))? {
            make(path)?;
        }
        let (file, db) = open_what_is_there(path, cache_bytes, tried)?;
        // Until it was locked, a compaction may have replaced the file: then this one has no name any more, and
        // anything written to it would be lost.
        if is_at(path, &file)? {
            // Left by a killed compaction: none is running, since this process holds the lock.
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
    // A file gets its name only when it is complete: an empty one has lost its content.
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

/// Opens the file, or creates it. Nothing is written to it before the handle is accepted.
pub(crate) fn open_on(
    backend: impl StorageBackend,
    path: &Path,
    cache_bytes: usize,
    tried: &Tried,
) -> Result<Handle, StoreError> {
    Handle::open(backend, tried, |gated| engine_on(gated, path, cache_bytes))
}

/// Opens the engine on a new file or behind a gate. A damaged page can make it panic: that is reported as damage and
/// doesn't end the process.
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

/// Makes the engine verify every page that it can reach by the checksum above it, and compare its records of free pages
/// with them.
pub(crate) fn verify(backend: impl StorageBackend, path: &Path) -> Result<(), StoreError> {
    let mut db = engine_on(backend, path, VERIFY_CACHE_BYTES)?;
    match db.check_integrity().map_err(|e| explain(e, path))? {
        true => Ok(()),
        false => Err(StoreError::damaged(
            path.display().to_string(),
            "the record of free pages does not match the pages in use",
        )),
    }
}

/// Creates an empty database next to `path` and moves it there once it is complete and the directory is synced:
/// otherwise a crash could leave a file that can't be opened, or acknowledged events in a file without a name.
fn make(path: &Path) -> Result<(), StoreError> {
    let fresh = beside(path, &format!(".{}.new", std::process::id()));
    let file = fresh_file(&fresh)?;
    let backend = FileBackend::new(file).map_err(|e| explain(e, &fresh))?;
    drop(engine_on(backend, &fresh, 0)?);
    // A link doesn't replace a file that another process may have created meanwhile.
    let linked = match std::fs::hard_link(&fresh, path) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => std::fs::rename(&fresh, path),
        _ => std::fs::remove_file(&fresh),
    };
    linked.map_err(io("making", path))?;
    sync_folder(path)
}

/// Creates an empty file, readable only by its owner if it is new.
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

/// Returns `path` with a suffix added to its name.
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

/// Syncs the directory of `path`, so that its names survive a crash.
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
            format!("it has file format {found}, which no stormhook has written"),
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

/// Returns the unknown file format that the engine found, which it only reports in words.
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
