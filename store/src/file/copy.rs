//! Copies the store: writes every row of one snapshot, in the order of the keys, into a new file
//! (docs/adr/0014-backup.md).
//!
//! Rows are copied unchanged: a damaged row is damaged in the copy, where `check` names it. Pages that can't be read,
//! or missing rows, end the copy. The source is never written to.

use crate::error::StoreError;
use crate::file::guarded::guarded;
use crate::file::open::{self, io};
use crate::file::overlay::{self, Lock, at_rest};
use crate::file::reader::Reader;
use crate::file::store::Store;
use crate::file::tables::{Copies, Raw, ReadTables, Reading};
use redb::backends::FileBackend;
use redb::{CursorError, ReadableTable, ReadableTableMetadata, StorageBackend};
use std::fs::File;
use std::io::Result as IoResult;
use std::ops::Bound;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;

/// How many rows, and how many bytes of them, are copied before the caller is asked again whether to continue.
const LOOK_ROWS: u64 = 4_096;
const LOOK_BYTES: usize = 1 << 20;
/// The table of large values. When they were appended through a cursor, the copy was a third longer than its store;
/// inserted, it isn't (docs/adr/0014-backup.md).
const LARGE_VALUES: &str = "packs";
/// Memory for pages of the copy until they are written.
const CACHE_BYTES: usize = 8 << 20;

/// The result of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The number of the last commit in the copy.
    pub commit: u64,
    /// The number of rows.
    pub rows: u64,
    /// The length of the file.
    pub file_bytes: u64,
}

/// The result of a compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// The length of the file before.
    pub before_bytes: u64,
    /// The length of the file now; the same if nothing could be gained.
    pub after_bytes: u64,
}

/// Whether the copy must survive a stop of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Synced,
    /// The copy is read immediately and deleted: syncing it would only delay the syncs of the store.
    Unsynced,
}

/// The file of the copy.
#[derive(Debug)]
struct Fresh {
    file: FileBackend,
    kept: Kept,
}

impl StorageBackend for Fresh {
    fn len(&self) -> IoResult<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> IoResult<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, bytes: u64) -> IoResult<()> {
        self.file.set_len(bytes)
    }

    fn sync_data(&self) -> IoResult<()> {
        match self.kept {
            Kept::Synced => self.file.sync_data(),
            Kept::Unsynced => Ok(()),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> IoResult<()> {
        self.file.write(offset, data)
    }

    fn close(&self) -> IoResult<()> {
        self.file.close()
    }
}

/// A copy in progress.
pub(crate) struct Copying<'g> {
    rows: u64,
    /// Rows and bytes since the caller was last asked.
    unasked: (u64, usize),
    go_on: &'g mut dyn FnMut() -> bool,
}

/// Why a copy ended early.
pub(crate) enum CopyStopped {
    Stopped,
    Failed(StoreError),
}

impl<E: Into<StoreError>> From<E> for CopyStopped {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Copies for Copying<'_> {
    type Error = CopyStopped;

    fn table<const N: usize>(
        &mut self,
        name: &str,
        from: &Reading<N>,
        to: &mut Raw<'_, N>,
    ) -> Result<(), CopyStopped> {
        self.ask()?;
        let seen = if name == LARGE_VALUES {
            self.insert(from, to)?
        } else {
            self.append(name, from, to)?
        };
        self.rows += seen;
        let expected = from.len()?;
        if seen != expected {
            let detail = format!("it holds {seen} rows, but counts {expected}");
            return Err(StoreError::damaged(name, detail).into());
        }
        Ok(())
    }
}

impl Copying<'_> {
    fn append<const N: usize>(
        &mut self,
        name: &str,
        from: &Reading<N>,
        to: &mut Raw<'_, N>,
    ) -> Result<u64, CopyStopped> {
        let mut end = to.upper_bound_mut(Bound::<&[u8; N]>::Unbounded)?;
        let mut seen = 0;
        for row in from.iter()? {
            let (key, value) = row?;
            self.may_go_on(value.value().len())?;
            match end.insert_before(key.value(), value.value()) {
                Ok(()) => seen += 1,
                Err(CursorError::UnorderedKey) => {
                    return Err(StoreError::damaged(name, "its keys are out of order").into());
                }
                Err(CursorError::Storage(e)) => return Err(e.into()),
                Err(e) => return Err(StoreError::Engine(e.into()).into()),
            }
        }
        end.close()?;
        Ok(seen)
    }

    fn insert<const N: usize>(
        &mut self,
        from: &Reading<N>,
        to: &mut Raw<'_, N>,
    ) -> Result<u64, CopyStopped> {
        let mut seen = 0;
        for row in from.iter()? {
            let (key, value) = row?;
            self.may_go_on(value.value().len())?;
            to.insert(key.value(), value.value())?;
            seen += 1;
        }
        Ok(seen)
    }

    fn may_go_on(&mut self, bytes: usize) -> Result<(), CopyStopped> {
        let (rows, so_far) = &mut self.unasked;
        *rows += 1;
        *so_far += bytes;
        if *rows >= LOOK_ROWS || *so_far >= LOOK_BYTES {
            self.unasked = (0, 0);
            return self.ask();
        }
        Ok(())
    }

    fn ask(&mut self) -> Result<(), CopyStopped> {
        match (self.go_on)() {
            true => Ok(()),
            false => Err(CopyStopped::Stopped),
        }
    }
}

/// Copies a snapshot into an empty file. Returns `None` if `go_on` returned false; the file is useless then.
fn copy(
    views: &ReadTables,
    file: File,
    path: &Path,
    kept: Kept,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Option<Copied>, StoreError> {
    let length = file.try_clone().map_err(io("writing", path))?;
    let file = FileBackend::new(file).map_err(StoreError::from)?;
    let db = open::engine_on(Fresh { file, kept }, path, CACHE_BYTES)?;
    // One transaction: no part of it is visible before, and rows that don't fit in memory are written as it goes.
    let mut txn = db.begin_write()?;
    txn.set_quick_repair(true);
    let mut copying = Copying {
        rows: 0,
        unasked: (0, 0),
        go_on,
    };
    match views.copy_to(&txn, &mut copying) {
        Ok(()) => {}
        Err(CopyStopped::Stopped) => return Ok(None),
        Err(CopyStopped::Failed(e)) => return Err(e),
    }
    let rows = copying.rows;
    txn.commit()?;
    db.close()?;
    let metadata = length.metadata().map_err(io("looking at", path))?;
    Ok(Some(Copied {
        commit: views.commit()?,
        rows,
        file_bytes: metadata.len(),
    }))
}

impl Reader {
    /// Copies the store as it is now into `file`, which must be empty. The copy is complete only for this process:
    /// nothing is synced. Holds one snapshot while it writes, so the store's file grows by what is committed meanwhile.
    /// Calls `go_on` about once per megabyte; returns `None` if it returned false.
    ///
    /// # Errors
    /// The store can't be read, a row is damaged, or the file can't be written.
    pub fn copy_into(
        &self,
        file: File,
        mut go_on: impl FnMut() -> bool,
    ) -> Result<Option<Copied>, StoreError> {
        let path = self.shared.options().path.with_extension("copy");
        self.shared
            .long_view(|views| copy(views, file, &path, Kept::Unsynced, &mut go_on))
    }
}

/// Copies a store that no daemon has open into `file`, which must be empty, without writing to the store. Nothing is
/// synced.
///
/// # Errors
/// As [`Reader::copy_into`]; also if a daemon has it open.
pub fn copy_file(
    path: &Path,
    file: File,
    go_on: impl FnMut() -> bool,
) -> Result<Option<Copied>, StoreError> {
    overlay::read_file(path)?.copy_into(file, go_on)
}

/// Rewrites a store that no daemon has open, without its free space. The new file replaces the old one once it is
/// complete, checked and on disk; until then nothing changes, and if anything stops this the store stays as it was. It
/// also stays if the new file is no shorter, unless internal pages of the engine are damaged in the old one.
///
/// # Errors
/// A daemon has it open, it is damaged, or the system refused.
pub fn compact_file(path: &Path) -> Result<Compacted, StoreError> {
    // If the name is a link, replace the file that it points to.
    let path = &std::fs::canonicalize(path).map_err(io("looking for", path))?;
    let source = overlay::open(path, Lock::Exclusive)?;
    let fresh = open::beside(path, open::COMPACTING);
    let removed = RemovedUnless(Some(&fresh));
    let compacted = guarded(|| compact(path, &fresh, &source))?;
    if compacted.after_bytes < compacted.before_bytes {
        removed.keep();
    }
    Ok(compacted)
}

/// Removes a file on the way out.
struct RemovedUnless<'p>(Option<&'p Path>);

impl RemovedUnless<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for RemovedUnless<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            let _gone = std::fs::remove_file(path);
        }
    }
}

fn compact(path: &Path, fresh: &Path, source: &overlay::Source) -> Result<Compacted, StoreError> {
    let before = source.file.metadata().map_err(io("looking at", path))?;
    // A leftover from an earlier compaction belongs to nobody: this process holds the lock.
    let file = open::fresh_file(fresh)?;
    let theirs = |doing| io(doing, fresh);
    // The daemon may run as another user.
    let made = file.metadata().map_err(theirs("looking at"))?;
    if (made.uid(), made.gid()) != (before.uid(), before.gid()) {
        fchown(&file, Some(before.uid()), Some(before.gid()))
            .map_err(theirs("giving the store's owner"))?;
    }
    file.set_permissions(before.permissions())
        .map_err(theirs("giving the store's mode"))?;
    let writing = file.try_clone().map_err(theirs("writing"))?;
    let backend = source.clone();
    let store = Store::open_on(at_rest(path), move || backend.backend())?;
    let copied = store
        .reader()
        .shared
        .long_view(|views| copy(views, writing, fresh, Kept::Synced, &mut || true))?;
    drop(store);
    let (before_bytes, after_bytes) = (before.len(), copied.map_or(0, |copied| copied.file_bytes));
    refuse_damage(fresh)?;
    // If internal pages of the engine are damaged, the new file is the repair, whatever its length.
    if after_bytes >= before_bytes && overlay::takes_commits(path, source)? {
        return Ok(Compacted {
            before_bytes,
            after_bytes: before_bytes,
        });
    }
    file.sync_all().map_err(theirs("writing"))?;
    std::fs::rename(fresh, path).map_err(theirs("moving into place"))?;
    open::sync_folder(path)?;
    Ok(Compacted {
        before_bytes,
        after_bytes,
    })
}

/// A damaged store is left unchanged: it may be needed to save the rest of it.
fn refuse_damage(fresh: &Path) -> Result<(), StoreError> {
    let report = overlay::check_file(fresh)?;
    match report.damage.first() {
        None => Ok(()),
        Some(first) => Err(StoreError::damaged(
            "the store",
            format!("{first}; nothing was changed"),
        )),
    }
}
