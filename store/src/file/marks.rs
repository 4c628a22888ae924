//! Marks beside the file that keep a daemon from using it: that it was moved to another store, or that an import into
//! it has not ended.
//!
//! The mark of a move is a file of its own. An import writes to a file of another name until it has ended; that file is
//! its mark.

use crate::error::StoreError;
use crate::file::open::{beside, io, sync_folder};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The suffix of the file that says where the store was moved to.
const MOVED: &str = ".moved";
/// The suffix of the file that an import writes.
const IMPORTING: &str = ".importing";
/// Where the store went, if its mark doesn't say so.
const ELSEWHERE: &str = "another store";

/// Returns the file that an import writes.
pub(crate) fn importing(path: &Path) -> PathBuf {
    beside(path, IMPORTING)
}

/// Refuses a store that was moved, or whose import has not ended.
pub(crate) fn expect_usable(path: &Path) -> Result<(), StoreError> {
    let there = |path: &Path| path.try_exists().map_err(io("looking for", path));
    let what = || path.display().to_string();
    if there(&importing(path))? {
        return Err(StoreError::Importing { what: what() });
    }
    match moved_to(path)? {
        Some(to) => Err(StoreError::Moved { what: what(), to }),
        None => Ok(()),
    }
}

/// Returns where the store was moved to, if it was.
///
/// # Errors
/// The mark can't be read.
pub fn moved_to(path: &Path) -> Result<Option<String>, StoreError> {
    let mark = beside(path, MOVED);
    match std::fs::read_to_string(&mark) {
        Ok(to) if to.trim().is_empty() => Ok(Some(ELSEWHERE.to_owned())),
        Ok(to) => Ok(Some(to.trim().to_owned())),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io("reading", &mark)(e)),
    }
}

/// Marks a store as moved, durably: no daemon starts on it from now on.
///
/// # Errors
/// The mark can't be written.
pub fn mark_moved(path: &Path, to: &str) -> Result<(), StoreError> {
    let mark = beside(path, MOVED);
    let write = || -> std::io::Result<()> {
        // An empty mark holds too, so no part of this is unsafe.
        let mut file = File::create(&mark)?;
        writeln!(file, "{to}")?;
        file.sync_all()
    };
    write().map_err(io("writing", &mark))?;
    sync_folder(&mark)
}

/// Takes the mark of a move away. Returns where the store was moved to, if it was marked.
///
/// # Errors
/// The mark can't be removed.
pub fn reopen(path: &Path) -> Result<Option<String>, StoreError> {
    let to = moved_to(path)?;
    if to.is_some() {
        let mark = beside(path, MOVED);
        std::fs::remove_file(&mark).map_err(io("removing", &mark))?;
        sync_folder(&mark)?;
    }
    Ok(to)
}
